"""Ten sentences that no training saw, each with one word hidden, and what the model would put there."""

import re
from pathlib import Path
from typing import Any

from masklab.analysis.fill import fill
from masklab.analysis.opened import open_model
from masklab.corpus.sentences import split
from masklab.corpus.store import Store
from masklab.demo.passages import prose
from masklab.rng import rng

WORD = re.compile(r"(?<![\w.'`-])[a-z]{3,}(?![\w'`(-])")  # a whole plain word


def gaps(model: str | Path, store: Store, seed: int = 0, count: int = 10) -> list[dict[str, Any]]:
    """[{"before", "after", "word", "guesses": [[text, probability], ...]}]; sentences and words are taken by lot.

    The hidden word must be one entry of the vocabulary, or the model could not name it.
    """
    held = [number for number in range(len(store)) if store.held_out[number]]
    sentences = sorted({s for n in held for p in prose(store.text(n)) for s in split(p) if 8 <= len(s.split()) <= 25})
    opened = open_model(model)
    found = []
    for i in rng(seed, "gaps").permutation(len(sentences)):
        words = [m for m in WORD.finditer(sentences[i]) if len(store.tokenizer.encode([m.group()])[0]) == 1]
        if not words or re.search(r"\b_\b|\[MASK\]", sentences[i]):
            continue
        hidden = words[int(rng(seed, "gap", int(i)).integers(len(words)))]
        before, after = sentences[i][: hidden.start()], sentences[i][hidden.end() :]
        (guesses,) = fill(opened, f"{before}_{after}", top=5)
        found.append({"before": before, "word": hidden.group(), "after": after,
                      "guesses": [[g.text, g.probability] for g in guesses]})  # fmt: skip
        if len(found) == count:
            break
    return found
