"""What a model with a decoder writes: the answer to a text, or a text's gaps filled in.

generate("runs/writer", ["The cat _ on the mat."]) -> ["The cat sat on the mat."]
generate("runs/translator", ["A cat sits on a mat."]) -> ["Eine Katze sitzt auf einer Matte."]
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from masklab.analysis.opened import Opened, open_model
from masklab.errors import BadInput
from masklab.models.generate import greedy, padded
from masklab.models.heads import LMHead

GAP = re.compile(r"(?<!\w)_+(?!\w)|<extra_id_\d+>")


def generate(model: Opened | str | Path, texts: Sequence[str], longest: int = 128, rows: int = 32) -> list[str]:
    """Greedy answers of at most `longest` tokens each; "_" in a text is a gap, which is then filled."""
    opened = open_model(model)
    loaded, tokenizer = opened.loaded, opened.tokenizer
    if loaded.model.decoder is None or "lm" not in loaded.heads:
        raise BadInput(f"{opened.folder}: {loaded.config.family} only reads; `masklab fill` asks it for missing words")
    parts = [GAP.split(text) for text in texts]
    most = max(len(pieces) - 1 for pieces in parts)
    if most and tokenizer.inner.token_to_id(f"<extra_id_{most - 1}>") is None:
        raise BadInput(f"{opened.folder}: its vocabulary has no sentinels for {most} gaps in a text; leave fewer")
    asked = [
        "".join(piece + (f"<extra_id_{k}>" if k < len(pieces) - 1 else "") for k, piece in enumerate(pieces))
        for pieces in parts
    ]
    ids = [[*x, tokenizer.sep] for x in tokenizer.encode(asked, specials=True)]
    found: list[str] = []
    for first in range(0, len(ids), rows):
        inputs = padded(ids[first : first + rows], tokenizer.pad)
        head = cast(LMHead, loaded.heads["lm"])
        for written, pieces in zip(
            greedy(loaded.model, head, inputs, end=tokenizer.sep, longest=longest),
            parts[first : first + rows],
            strict=True,
        ):
            if len(pieces) == 1:
                found.append(tokenizer.decode(written))
                continue
            cuts = re.split(r"<extra_id_(\d+)>", tokenizer.decode(written, keep_special=True))
            fills = dict(zip(map(int, cuts[1::2]), cuts[2::2], strict=True))
            filled = [
                p + (f"[{fills.get(k, '').strip()}]" if k < len(pieces) - 1 else "") for k, p in enumerate(pieces)
            ]
            found.append("".join(filled))
    return found
