"""Draws who may look at whom: as half-block characters for a terminal, as an SVG for a notebook or a report."""

import numpy as np

BLUE = "#3f7cac"


def blocks(seen: np.ndarray, width: int = 64) -> list[str]:
    """A pattern, one character for two slots below each other; larger patterns are sampled down to `width` slots.

    seen: (Tq, Tk) bool, who asks down, who is seen across.  [[1, 0], [1, 1]] -> ["█▄"]
    """
    rows, columns = (min(n, width) for n in seen.shape)
    seen = seen[np.ix_(_sample(seen.shape[0], rows), _sample(seen.shape[1], columns))]
    seen = np.vstack([seen, np.zeros((rows % 2, columns), bool)])
    return ["".join(" ▄▀█"[2 * a + b] for a, b in zip(*pair, strict=True)) for pair in seen.reshape(-1, 2, columns)]


def svg(seen: np.ndarray, pixels: int = 240) -> str:
    """The same as one rectangle for each stretch of slots in equal lines, so a packed row is a few squares."""
    queries, keys = seen.shape
    first = np.flatnonzero(np.append(True, (seen[1:] != seen[:-1]).any(1)))  # lines that differ from the one before
    shapes = []
    for top, bottom in zip(first, [*first[1:], queries], strict=True):
        edges = np.flatnonzero(np.diff(seen[top].astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
        shapes += [f'<rect x="{a}" y="{top}" width="{b - a}" height="{bottom - top}"/>' for a, b in edges]
    return (
        f'<svg viewBox="0 0 {keys} {queries}" width="{pixels}" height="{max(1, pixels * queries // keys)}" '
        f'style="background:#8881;border:1px solid #8886" shape-rendering="crispEdges" fill="{BLUE}" role="img" '
        f'aria-label="who sees whom">{"".join(shapes)}</svg>'
    )


def _sample(n: int, k: int) -> np.ndarray:
    """k places spread evenly over n: _sample(6, 3) -> [1, 3, 5]."""
    return ((np.arange(k) + 0.5) * n / k).astype(np.int64)
