"""Opens a finished model for use: a run stands for its model, a folder for itself, anything else is a hub name."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from masklab.corpus.store_words import reader_of
from masklab.corpus.tokenizer import Tokenizer
from masklab.errors import BadInput
from masklab.models import hub
from masklab.models.hub import Loaded
from masklab.training.run import Run


class Opened(NamedTuple):
    folder: Path
    loaded: Loaded  # .model and .heads, in evaluation mode
    tokenizer: Tokenizer


def open_model(what: "Opened | str | Path") -> Opened:
    """The model, its heads and its vocabulary; what is open already stays as it is."""
    if isinstance(what, Opened):
        return what
    folder = model_folder(what)
    loaded = hub.load(folder)
    loaded.model.eval()
    loaded.heads.eval()
    return Opened(folder, loaded, reader_of(folder))


def model_folder(what: str | Path) -> Path:
    """ "runs/first" -> "runs/first/model"."""
    return Run.open(what).model_folder if is_run(what) else hub.find(what)


def open_run(what: str | Path, data: str = "") -> Run:
    """A run with its data in reach, or with other `data` in the place of all of them."""
    run = Run.open(what)
    if data:
        run.recipe = replace(run.recipe, data=data, mix=())
    for name in (run.recipe.data, *(name for name, _ in run.recipe.mix)):
        if not Path(name).exists():
            raise BadInput(
                f"{what}: its data, {name}, are not in reach; go to the folder where the run was begun, or say where "
                f"they are (--data)"
            )
    return run


def is_run(what: str | Path) -> bool:
    return (Path(what) / "recipe.json").exists()
