"""Brings the unit bytes of a corpus' vocabularies up to its layers, on all cores.

The text is tokenised once more, as tokens.py did it; the ids must come out as they are, and the units are kept.
"""

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from masklab import files
from masklab.corpus.arrays import Growing
from masklab.corpus.layers import Layer, Progress, layers, names_and_hashes
from masklab.corpus.store import PARTS, Store, checked, describe
from masklab.corpus.tokens import in_order, jobs, pool
from masklab.corpus.units import WORD_START
from masklab.errors import BadInput


def lay(store: Store, progress: Progress | None = None, workers: int = 1) -> Store:
    """Bring the unit bytes of every vocabulary of a corpus up to its layers; those that are stay as they are.

    Each vocabulary gets new files beside the old ones, then a new tokens.json, and only then are the old ones removed:
    whatever happens on the way, it is whole. The corpus, opened anew, comes back.
    """
    present = layers(store.path)
    for folder in store.vocabularies:
        one = Store(folder)
        if one.tokens_description.get("layer_hashes", {"words": ""}) != names_and_hashes(present):
            _lay_one(one, present, progress or (lambda stage, done, total: None), workers)
    return Store(store.folder)


def _lay_one(store: Store, present: Sequence[Layer], tell: Progress, workers: int) -> None:
    hashes = names_and_hashes(present)
    name = f"units-{hashlib.sha256(''.join(hashes.values()).encode()).hexdigest()[:12]}.npy" if present else "units.npy"
    about = dict(store.tokens_description)
    checked(store.folder, about["files"], small=1 << 62)  # they are described anew: damage must not pass for a change
    parts = {part: store.part(part) for part in PARTS}
    made = {part: Growing(parts[part].folder / name, "u1") for part in PARTS}
    words: dict[str, int] = dict.fromkeys(PARTS, 0)
    blocks = np.load(store.path / "blocks.npy")
    with (
        tempfile.TemporaryDirectory(prefix="masklab-") as scratch,
        pool(workers, store.text_description, store.path, store.folder, "none") as run,
    ):
        for (_, last), out in in_order(run, jobs(0, len(blocks) - 1, workers), Path(scratch), workers + 2):
            with np.load(out) as found:
                for part, file in made.items():
                    ids, units = found[f"{part}_ids"], found[f"{part}_units"]
                    if not np.array_equal(ids, parts[part].ids[len(file) : len(file) + len(ids)]):
                        raise BadInput(
                            f"{parts[part].folder} was not made of this text by its tokenizer.json; prepare the corpus "
                            f"again"
                        )
                    file.add(units)
                    words[part] += int(np.count_nonzero(units & WORD_START))
            out.unlink()
            tell(f"units of {store.folder.name}", int(blocks[last, 0]), len(store))
    about["parts"] = dict(about["parts"])
    for part, file in made.items():
        file.close()
        listed = [parts[part].folder / each for each in ("ids.npy", name, "documents.npy")]
        whole = hashlib.sha256("".join(map(files.sha256, listed)).encode()).hexdigest()
        about["parts"][part] = {**about["parts"][part], "words": words[part], "hash": whole}
    whole = about["corpus"] + about["tokenizer"] + about["parts"]["train"]["hash"]
    about |= {"layers": list(hashes), "layer_hashes": hashes, "units": name,
              "hash": hashlib.sha256(whole.encode()).hexdigest()}  # fmt: skip
    named = {file for file in about.pop("files") if Path(file).name[:5] != "units"} | {f"{p}/{name}" for p in PARTS}
    describe(store.folder / "tokens.json", about, [store.folder / file for file in named])
    for file in [*store.folder.glob("*/units*.npy"), *store.folder.glob("rows-*.npz")]:
        if file.name != name:  # rows were cut by the old units
            file.unlink()
