"""Token vectors from counting who stands near whom: a start for an embedding table that already knows words.

The positive pointwise mutual information of tokens within a few places of each other, factored by a truncated singular
value decomposition, is what skip-gram with negative sampling learns implicitly (Levy and Goldberg 2014, "Neural word
embedding as implicit matrix factorization"; context smoothing 0.75 and weights that fall with distance as in Levy,
Goldberg and Dagan 2015). It takes seconds, where gradient descent takes minutes to find as much.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from masklab.training.mixture import Mixture

_CELLS = 1 << 26  # tokens x contexts: half a gigabyte while counting
_TOKENS = 12_000_000  # read at most so many, from stretches spread over the corpus
_STRETCHES = 64


@torch.no_grad()
def start_tokens(table: Tensor, part: Any, seed: int) -> None:
    """Give a fresh token table (V, D) the corpus' co-occurrence vectors, at the scale that it was drawn with.

    Special tokens keep what they have, and so do dimensions that are 0 throughout: a local start has use for those.
    """
    ordinary = torch.from_numpy(part.tokenizer.ordinary)
    free = (table[ordinary] != 0).any(0)
    scale = table[ordinary][:, free].std()
    vectors = token_vectors(part, int(free.sum()), seed=seed)
    rows = table[ordinary]
    rows[:, free] = vectors[ordinary] * scale
    table[ordinary] = rows


def token_vectors(part: Any, width: int, window: int = 4, seed: int = 0) -> Tensor:
    """(V, width): a vector of length sqrt(width) for each token; tokens of like company have like vectors.

    part: a corpus.store.Part, or a Mixture of them, which is counted by its shares.
    """
    vectors = factor(torch.from_numpy(mutual_information(part, window)), width, seed)
    vectors -= vectors.mean(0)
    return vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-6) * width**0.5


def mutual_information(part: Any, window: int) -> np.ndarray:
    """(V, C) float32: max(0, log p(context | token) / p(context)), for the C most frequent contexts."""
    size = part.tokenizer.size
    square = size * size <= _CELLS
    contexts = np.arange(size) if square else np.argsort(-part.unigram, kind="stable")[: max(1, _CELLS // size)]
    column = np.full(size, -1, np.int64)
    column[contexts] = np.arange(len(contexts))
    ids, ends = _text(part)
    table = np.zeros(size * len(contexts), np.float32)
    for distance in range(1, window + 1):
        near = np.ones(len(ids) - distance, bool)  # whether a token and the one so far on share a document
        for k in range(1, distance + 1):
            over = ends - k  # the k-th token before an end looks over it
            near[over[(over >= 0) & (over < len(near))]] = False
        sides = [(ids[:-distance], ids[distance:]), (ids[distance:], ids[:-distance])]
        for token, context in sides[:1] if square else sides:
            place = column[context]
            pairs = (token * len(contexts) + place)[near & (place >= 0)]
            table += np.bincount(pairs, minlength=len(table)) / np.float32(distance)
    table = table.reshape(size, len(contexts))
    if square:
        table = table + table.T  # the other side: the same pairs, read from their right ends
    usual = table.sum(0) ** 0.75
    usual /= max(float(usual.sum()), 1e-12)
    table /= np.maximum(table.sum(1, keepdims=True), 1e-12)
    table /= np.maximum(usual, 1e-12)
    return np.log(np.maximum(table, 1, out=table), out=table)  # below 1, a pair is rarer than chance: 0


def _text(part: Any) -> tuple[np.ndarray, np.ndarray]:
    """Ids (n,) int64 of the corpus, or of stretches spread over it, and where in them documents or stretches end."""
    if isinstance(part, Mixture):
        found = [_stretches(one, int(_TOKENS * share)) for one, share in zip(part.sources, part.shares, strict=True)]
        sizes = np.cumsum([0, *(len(ids) for ids, _ in found)])
        return np.concatenate([ids for ids, _ in found]), np.concatenate(
            [ends + size for (_, ends), size in zip(found, sizes, strict=False)]
        )
    return _stretches(part, _TOKENS)


def _stretches(part: Any, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """As `_text`, of one corpus: at most `tokens` of them."""
    total, each = len(part.ids), max(1, tokens // _STRETCHES)
    if total <= tokens:
        return np.asarray(part.ids, np.int64), part.documents[1:]
    begins = np.linspace(0, total - each, _STRETCHES).astype(np.int64)
    ids = np.concatenate([part.ids[b : b + each] for b in begins]).astype(np.int64)
    inside = [part.documents[(part.documents > b) & (part.documents <= b + each)] - b for b in begins]
    return ids, np.concatenate(
        [ends + i * each for i, ends in enumerate(inside)] + [np.arange(1, _STRETCHES + 1) * each]
    )


def factor(matrix: Tensor, width: int, seed: int) -> Tensor:
    """(V, width): left singular vectors times the roots of the singular values, turned at random.

    Randomised subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4), large products in bfloat16. The
    turn leaves all similarities as they are and makes no dimension special.
    """
    random = torch.Generator().manual_seed(seed)
    rank = min(width, *matrix.shape)
    large = matrix.bfloat16()

    def product(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.bfloat16()).float()

    guess = torch.randn(matrix.shape[1], min(rank + 32, *matrix.shape), generator=random)
    basis = product(large, guess)
    for _ in range(3):
        basis = torch.linalg.qr(product(large.T, torch.linalg.qr(basis)[0]))[0]
        basis = product(large, basis)
    left, values, _ = torch.linalg.svd(basis, full_matrices=False)
    turn = torch.linalg.qr(torch.randn(width, width, generator=random))[0]
    return (left[:, :rank] * values[:rank].sqrt()) @ turn[:rank]
