"""How much arithmetic a training step asks for, part by part, and how much of it this machine can do in a second.

The count is the usual one (Kaplan et al. 2020, section 2.1; Chowdhery et al. 2022, appendix B): two operations for each
weight that a slot passes, 4 x keys x width for the scores and their sums, and a backward pass that costs two forward
ones: 6 x parameters a token, plus attention. Only what is computed counts: work that the shortcut at asked slots saves
is no work. Tables looked up, norms, activations and the optimizer count nothing, as they are no products of matrices.
"""

import time

import torch

from masklab.models.config import Config

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PARTS = ("embedding", "attention", "feed-forward", "head")


def flops(
    config: Config,
    rows: int,
    length: int,
    asked: int | None = None,
    *,
    seen: float | None = None,
    written: int = 0,
    backward: bool = True,
) -> dict[str, float]:
    """Operations of one step over `rows` rows of `length` slots, by part: {"embedding": ..., "attention": ..., ...}.

    asked: slots whose words the loss asks for, over all rows (None: every slot). seen: keys that a query sees on
    average (None: the whole row; packed documents see less). written: slots a row of the second stack, if there is
    one. backward: forward and backward, else forward alone. The head is the one over the vocabulary.
    """
    tokens = rows * (written or length)
    wanted = tokens if asked is None else asked
    found: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    if config.inner:
        found["embedding"] += 2.0 * rows * length * config.inner * config.width
    _stack(found, config, config.layers, rows * length, rows * length if written else wanted, seen or length)
    if written:
        _stack(found, config, config.decoder_layers, rows * written, wanted, seen or written)
        _attention(found, config, config.decoder_layers, rows * length, rows * written, wanted, length)
    width = config.table_width
    dense = 0 if config.family == "t5" else config.width * width
    found["head"] += 2.0 * wanted * (dense + width * config.vocabulary)
    return {part: count * (3 if backward else 1) for part, count in found.items()}


def _stack(found: dict[str, float], config: Config, layers: int, tokens: int, asked: int, seen: float) -> None:
    """The layers of one stack: all slots ask in each, but in the last one `asked` of them."""
    _attention(found, config, layers, tokens, tokens, asked, seen)
    queries = (layers - 1) * tokens + asked
    found["feed-forward"] += 2 * queries * (3 if config.gates else 2) * config.width * config.feed_forward


def _attention(
    found: dict[str, float], config: Config, layers: int, looked_at: int, tokens: int, asked: int, seen: float
) -> None:
    inner = config.heads * config.head_size
    queries = (layers - 1) * tokens + asked
    found["attention"] += 4 * layers * looked_at * config.width * inner  # keys and values
    found["attention"] += 4 * queries * (config.width + seen) * inner  # queries and output; scores and their sums


def peak(device: torch.device, precision: str, seconds: float = 0.2) -> float:
    """Operations a second that large products of matrices reach here in a precision: the best of what fits the time."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.ones(size, size, dtype=DTYPES[precision], device=device) for _ in range(2))
    out = a @ b  # starts the library
    best, until = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < until:
        _wait(device)
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
