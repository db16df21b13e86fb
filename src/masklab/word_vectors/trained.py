"""What training word vectors leaves: the vectors, the vocabulary, and what is needed to train them further.

The native folder holds words.json (settings, sizes and SHA-256 of the other files), vocabulary.tsv (word TAB count, in
the order of the rows) and one .npy file an array, which numpy memory-maps: opening gigabytes takes milliseconds.
"""

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from masklab.corpus.arrays import write_array
from masklab.errors import BadInput
from masklab.files import atomic_folder, settle, sha256
from masklab.word_vectors.vocabulary import Vocabulary

VERSION = 1


@dataclass
class Trained:
    """Vectors and all that training needs to go on.

    `vectors` (V, D) float32 is what people use; `arrays` is the rest ("output": the second table, "tree_steps", ...),
    whatever the method needs. `settings` are the method's, as plain data.
    """

    method: str  # "skipgram", "cbow", "fasttext", "glove", "glyph" or "supervised"
    vocabulary: Vocabulary
    settings: dict[str, Any]
    vectors: np.ndarray
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    words_read: int = 0

    def save(self, folder: str | Path) -> None:
        """Write the native folder; one that was there is replaced when the new one is whole."""
        if self.vectors.shape[0] != len(self.vocabulary):
            raise ValueError(f"{self.vectors.shape[0]} vectors for {len(self.vocabulary)} words")
        with atomic_folder(folder) as new:
            with open(new / "vocabulary.tsv", "w", encoding="utf-8", newline="\n") as file:
                file.writelines(
                    f"{word}\t{count}\n"
                    for word, count in zip(self.vocabulary.words, self.vocabulary.counts.tolist(), strict=True)
                )
            for name, array in {"vectors": self.vectors, **self.arrays}.items():
                with open(new / f"{name}.npy", "wb") as file:
                    write_array(file, array)
            about = {
                "version": VERSION,
                "method": self.method,
                "settings": self.settings,
                "words_read": self.words_read,
                "words_total": self.vocabulary.total,
                "files": {
                    path.name: {"size": path.stat().st_size, "sha256": sha256(path)} for path in sorted(new.iterdir())
                },
            }
            (new / "words.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", "utf-8")

    @classmethod
    def load(cls, folder: str | Path, check: bool = False) -> "Trained":
        """Open a native folder; arrays are memory-mapped, read-only. `check` compares every file's SHA-256."""
        folder = Path(folder)
        settle(folder)
        about = read_about(folder)
        for name, file in about["files"].items():
            path = folder / name
            if not path.exists():
                raise BadInput(f"{path} is missing: the folder was copied or written incompletely; copy it again")
            if path.stat().st_size != file["size"] or (check and sha256(path) != file["sha256"]):
                raise BadInput(f"{path} is not the file that words.json describes; copy the folder again")
        opened = partial(np.load, mmap_mode="r", allow_pickle=False)
        arrays = {name[:-4]: opened(folder / name) for name in about["files"] if name.endswith(".npy")}
        words, counts = [], []
        for line in (folder / "vocabulary.tsv").read_text("utf-8").split("\n")[:-1]:
            word, _, count = line.rpartition("\t")
            words.append(word)
            counts.append(int(count))
        vocabulary = Vocabulary(words, np.array(counts, np.int64), about["words_total"])
        vectors = arrays.pop("vectors")
        return cls(about["method"], vocabulary, about["settings"], vectors, arrays, about["words_read"])


def read_about(folder: Path) -> dict[str, Any]:
    """The contents of words.json, or BadInput that says why this is not a folder of word vectors."""
    try:
        about = json.loads((folder / "words.json").read_text("utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{folder} holds no words.json: give a folder that `masklab words` wrote") from None
    except NotADirectoryError:
        raise BadInput(f"{folder} is a file: give a folder that `masklab words` wrote") from None
    except ValueError:
        raise BadInput(f"{folder / 'words.json'} is not JSON: the file is damaged; copy the folder again") from None
    if about.get("version") != VERSION:
        raise BadInput(f"{folder / 'words.json'}: version {about.get('version')}, but this masklab reads {VERSION}")
    return about
