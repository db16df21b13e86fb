"""Files of word vectors that other programs read and write: word2vec's text and binary, GloVe's text."""

from pathlib import Path
from typing import Literal

from masklab.errors import BadInput

Format = Literal["native", "word2vec", "word2vec-binary", "glove"]
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


def format_of(path: str | Path) -> Format:
    """The format that a name asks for when something is written to it.

    "vectors" -> native, "v.vec" or "v.txt.gz" -> word2vec, "v.bin" -> word2vec-binary, "v.glove.txt" -> glove
    """
    name = Path(path).name
    suffix = Path(name).suffix
    if suffix in COMPRESSED:
        name = name.removesuffix(suffix)
        suffix = Path(name).suffix
        if not suffix:
            raise BadInput(f"{path}: say which format is compressed, such as {name}.vec{Path(path).suffix}")
    if name.endswith((".glove.txt", ".glove")):
        return "glove"
    forms: dict[str, Format] = {"": "native", ".vec": "word2vec", ".txt": "word2vec", ".bin": "word2vec-binary"}
    if suffix not in forms:
        raise BadInput(
            f"{path}: which format is that? Name a folder, or end in .vec or .txt (word2vec text), .bin (binary), "
            f".glove.txt (no header)"
        )
    return forms[suffix]
