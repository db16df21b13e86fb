"""A run and its folder: the recipe, the log, the checkpoints and the finished model."""

import fcntl
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from masklab import recipe as recipes
from masklab.errors import BadInput
from masklab.files import atomic_folder, atomic_write, explained, named, settle, sweep, sync
from masklab.models import hub
from masklab.recipe import Recipe
from masklab.training import checkpoint
from masklab.training.checkpoint import State
from masklab.training.distributed import ALONE, World
from masklab.training.evaluation import Pretrainer
from masklab.training.session import Session

HOW = ("sharding", "checkpoints")  # how a run is computed and saved, not what it is: these may change on the way


@dataclass
class Run:
    """What training leaves: `history` is every record that was watched, `result` the final figures."""

    recipe: Recipe
    folder: Path | None = None
    pretrainer: Pretrainer | None = None  # the trained modules, unless the run was opened from its folder
    history: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)  # empty while the run is not finished
    stopped: int = 0  # the signal that stopped it early

    @classmethod
    def open(cls, folder: str | Path) -> "Run":
        """Read a run's folder, finished or not."""
        folder = Path(folder)
        history = read_log(folder)
        result = folder / "result.json"
        found = json.loads(result.read_text("utf-8")) if result.exists() else {}
        return cls(recipes.from_json(_saved_recipe(folder)), folder, None, history, found)

    @property
    def model_folder(self) -> Path:
        """The finished model, or that of the newest whole checkpoint."""
        if self.folder is None:
            raise BadInput("this run was trained without a folder, so there is no model on disk: train(recipe, folder)")
        if (self.folder / "model").is_dir():
            return self.folder / "model"
        if found := checkpoint.newest(self.folder / "checkpoints"):
            return found
        raise BadInput(f"{self.folder}: has no model yet; `masklab resume {self.folder}` goes on with the run")

    def again(self) -> Recipe:
        """The recipe that repeats this finished run step for step: what the clock and measurements decided is in it."""
        if not self.result:
            raise BadInput(f"{self.folder}: is not finished; `masklab resume {self.folder}` first")
        budget = self.recipe.budget
        if budget.seconds is not None:
            budget = replace(budget, milestones=tuple(self.result["milestones"]))
        begun = next(record["environment"] for record in self.history if record["kind"] == "begin")
        measured = {name: begun[name] for name in ("precision", "attention") if name in begun}
        return replace(self.recipe, budget=budget, **measured)

    def _repr_html_(self) -> str:
        from masklab.training.look import run_html

        return run_html(self)


class RunFolder:
    """The folder of one run, held by one process at a time: of several that train together, by the first.

    recipe.json  log.jsonl  checkpoints/step-N/  model/  result.json (written last: its presence means finished)
    """

    def __init__(self, folder: Path, recipe: Recipe, world: World = ALONE):
        self.folder = folder
        self.recipe = recipe
        self.world = world
        self.step = 0  # that something was last written of

    def __enter__(self) -> "RunFolder":
        if self.world.first:
            self._hold()
        self.world.wait()
        return self

    def _hold(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise BadInput(f"{self.folder}: is a file; give --out the name of a folder")
        sweep(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        others = [found for found in self.folder.iterdir() if found.name != ".lock"]
        if others and not (self.folder / "recipe.json").exists():
            raise BadInput(f"{self.folder}: holds other files and no run; give --out a new folder")
        self._lock = open(self.folder / ".lock", "w")  # noqa: SIM115
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise BadInput(f"{self.folder}: another process is training there; wait for it or stop it") from None
        except OSError:
            pass  # a file system without locks
        try:
            self._same_recipe()
            sweep(self.folder / "checkpoints")
            settle(self.folder / "model")
        except BaseException:
            self._lock.close()
            raise

    def __exit__(self, kind: object, error: BaseException | None, *_: object) -> None:
        if not self.world.first:
            return
        self._lock.close()
        if error and not (self.folder / "log.jsonl").exists():  # it never began: the name stays free
            with suppress(OSError):
                for name in ("recipe.json", ".lock"):
                    (self.folder / name).unlink(missing_ok=True)
                self.folder.rmdir()  # unless there is more in it
        elif isinstance(error, OSError) and error.errno is not None and not isinstance(error, BrokenPipeError):
            raise BadInput(self._stopped(named(error, self.folder))) from error

    def _stopped(self, error: OSError) -> str:
        """What to say of a run that a disk has ended."""
        saved = checkpoint.newest(self.folder / "checkpoints")
        kept = f"the checkpoint of step {int(saved.name[5:]):,} is whole" if saved else "no checkpoint was written yet"
        return (
            f"{explained(error)}. Training stopped at step {self.step:,}, {kept}: run the same again, or "
            f"`masklab resume {self.folder}`, to go on"
        )

    def _same_recipe(self) -> None:
        ours = self.recipe.to_json()
        if (self.folder / "recipe.json").exists():
            saved = _saved_recipe(self.folder)
            with suppress(BadInput):  # parts of a recipe that are no part of masklab are compared as they are written
                saved = recipes.from_json(saved).to_json()  # what an older version did not know yet is at its default
            found = recipes.difference(ours, saved | {name: ours[name] for name in HOW})
            if found:
                raise BadInput(f"{self.folder}: holds a run of another recipe ({'; '.join(found)}); give a new folder")
        else:
            with atomic_write(self.folder / "recipe.json", "w") as file:
                json.dump(ours, file, indent=1)

    def finished(self) -> Run | None:
        return Run.open(self.folder) if (self.folder / "result.json").exists() else None

    def latest(self, warn: Callable[[str], None]) -> State | None:
        place = self.folder / "checkpoints"
        found = checkpoint.latest(place, warn) if self.world.first else None
        name = self.world.told(found[0].name if found else "")
        return found[1] if found else checkpoint.read(place / name) if name else None

    def rewind(self, step: int) -> list[dict[str, Any]]:
        """Drop what the log says of steps after the checkpoint: they will be made again. The lines that stay."""
        self.step = step
        if not self.world.first:
            return []
        kept = [r for r in read_log(self.folder) if r["step"] <= step] if step else []
        if kept and kept[-1]["kind"] == "end":  # of a run that ended before its model was written
            del kept[-2:]  # it and the last score are made again
        with atomic_write(self.folder / "log.jsonl", "w") as file:
            file.writelines(json.dumps(r) + "\n" for r in kept)
        return kept

    def log(self, record: dict[str, Any]) -> None:
        self.step = record["step"]
        if not self.world.first:
            return
        with open(self.folder / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def save(self, step: int, values: dict[str, Any], session: Session) -> None:
        """All processes together: the first writes everything, or with checkpoints.sharded each its part."""
        self.step = step
        wish = self.recipe.checkpoints
        if self.world.first:
            sync(self.folder / "log.jsonl")  # a checkpoint stands on what the log says of the steps before it
        whole, state = session.whole(), State(session.state(parts=wish.sharded), values)
        if wish.sharded or self.world.first:
            checkpoint.save(
                self.folder / "checkpoints",
                step,
                state,
                lambda folder: session.write_model(folder, whole),
                wish.keep,
                self.world if wish.sharded else ALONE,
            )

    def finish(self, run: Run, session: Session) -> None:
        if not self.world.first:
            return
        with atomic_folder(self.folder / "model") as new:
            session.write_model(new, run.pretrainer)
            with atomic_write(new / "README.md", "w") as file:
                file.write(model_card(run, hub.opened_by(new)))
        with atomic_write(self.folder / "result.json", "w") as file:
            json.dump(run.result, file, indent=1)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The records of log.jsonl; a last line that a crash cut short is left out."""
    path = folder / "log.jsonl"
    records = []
    for line in path.read_text("utf-8", "replace").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def _saved_recipe(folder: Path) -> dict[str, Any]:
    path = folder / "recipe.json"
    if not path.is_file():
        raise BadInput(f"{folder}: is no run (it has no recipe.json); give the folder that --out named")
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise BadInput(f"{path}: is damaged ({error}); restore it or start a new run") from None


def model_card(run: Run, opened_by: str) -> str:
    """README.md of a model folder: what it is, what it was trained on, how well it does, how to open it."""
    rows = "\n".join(
        f"| {name} | {score['loss']:.3f} | {run.result['baseline'][name]['loss']:.3f} | "
        f"{'' if score['accuracy'] is None else format(score['accuracy'], '.3f')} |"
        for name, score in run.result["held_out"].items()
    )
    r = run.recipe
    return f"""---
library_name: {"transformers" if "transformers." in opened_by else "masklab"}
tags: [masklab, {r.name}]
---
# {r.name}, {r.preset} preset

Trained with [masklab] on `{Path(r.data).name}` for {run.result["steps"]:,} steps ({run.result["seconds"]:.0f} s,
{run.result["tokens"]:,} tokens, {run.result["words"]:,} words), seed {r.seed}.

| held-out term | nats | trivial baseline | accuracy |
|---|---|---|---|
{rows}

{opened_by}
The whole recipe is `recipe.json` in the run's folder.

[masklab]: a toolkit that pre-trains language representations on your own text
"""
