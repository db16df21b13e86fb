"""A batch as a person reads it: every token in its place, what is asked of it, and who sees whom, as HTML.

It shows exactly what the model is given. What an id or a target means in words is the caller's knowledge: without it,
numbers are shown.
"""

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from masklab.models.pattern import PADDING, Inputs, visible_numpy
from masklab.models.picture import svg

if TYPE_CHECKING:
    from masklab.training.batches import Batch

IGNORE = -100


class Asked(NamedTuple):
    """What one loss term wants at one slot, in words, and how the slot looks to the model.

    how: "hidden" (shown as a mask), "changed" (shown as another token), "kept" (shown as it is) or "asked".
    """

    wanted: str
    how: str = "asked"


class Piece(NamedTuple):
    """One slot of a row in words. `joined`: it continues the word before it."""

    slot: int
    text: str
    joined: bool
    asked: tuple[Asked, ...]
    position: int
    segment: int
    document: int
    time: int
    visible_from: int


Spell = Callable[[int], tuple[str, bool]]  # token id -> its text, whether it continues a word
Explain = Callable[[str, int, int], Asked]  # loss term, token id shown, target -> what is asked


def number(token: int) -> tuple[str, bool]:
    return str(token), False


def name_and_number(term: str, shown: int, target: int) -> Asked:
    return Asked(f"{term} {target}")


def pieces(batch: "Batch", row: int, spell: Spell = number, explain: Explain = name_and_number) -> list[Piece]:
    """The filled slots of one row, in order."""
    inputs = row_of(batch, row)
    asked: dict[int, tuple[Asked, ...]] = {}
    for term, at in batch.at.items():
        for slot, target in zip(at[row].tolist(), batch.targets[term][row].tolist(), strict=True):
            if isinstance(target, int) and target != IGNORE:
                asked[slot] = (*asked.get(slot, ()), explain(term, int(inputs.tokens[slot]), target))
    columns = (inputs.position, inputs.segment, inputs.document, inputs.time, inputs.visible_from)
    return [
        Piece(slot, *spell(int(token)), asked.get(slot, ()), *(int(column[slot]) for column in columns))
        for slot, token in enumerate(inputs.tokens)
        if inputs.document[slot] != PADDING
    ]


def row_of(batch: "Batch", row: int) -> Inputs:
    """One row's inputs, (T,) numpy each."""
    return Inputs(*(x[row].cpu().numpy() for x in batch.inputs))


STYLE = """<style>
.masklab { font: 14px/1.3 system-ui, sans-serif; }
.masklab .key span, .masklab ruby, .masklab .t { border-radius: 3px; padding: 0 2px; }
.masklab .row { display: flex; gap: 24px; align-items: flex-start; flex-wrap: wrap; margin: 6px 0 26px; }
.masklab .words { flex: 1 1 420px; line-height: 2.15; min-width: 0; }
.masklab .doc { border-left: 3px solid #3f7cac; padding-left: 10px; margin: 0 0 8px; overflow-wrap: anywhere; }
.masklab .doc .b { background: #8882; border-radius: 3px; }
.masklab rt { font-size: 11px; font-weight: 600; color: inherit; user-select: none; }
.masklab .hidden { background: #d9534f; color: #fff; }
.masklab .hidden rt { color: #d9534f; }
.masklab .changed { background: #f0ad4e; color: #222; }
.masklab .changed rt { color: #b8761a; }
.masklab .kept { background: #5cb85c; color: #fff; }
.masklab .kept rt { color: #449544; }
.masklab .asked { background: #7a6fbe; color: #fff; }
.masklab .asked rt { color: #7a6fbe; }
.masklab .special { color: #8889; }
.masklab .note { opacity: .7; }
.masklab svg { flex: none; }
</style>"""

LEGEND = {
    "hidden": "shown as [MASK]",
    "changed": "shown as another token",
    "kept": "shown as it is",
    "asked": "a question about the whole",
}


def batch_html(
    batch: "Batch", spell: Spell = number, explain: Explain = name_and_number, *, rows: int = 4, title: str = ""
) -> str:
    """The first rows of a batch; hover over a token for its integers."""
    total, length = batch.inputs.tokens.shape
    shown = [(row, pieces(batch, row, spell, explain)) for row in range(min(rows, total))]
    counts = ", ".join(f"{name} {count:,}" for name, count in batch.counts.items())
    hows = {asked.how for _, row in shown for piece in row for asked in piece.asked}
    key = " ".join(f'<span class="{how}">{text}</span>' for how, text in LEGEND.items() if how in hows)
    parts = [
        STYLE,
        f'<div class="masklab"><h3>{escape(title or "Batch")}</h3>'
        f"<p>{total} rows of {length} slots, {batch.tokens / (total * length):.1%} filled; targets: {escape(counts)}; "
        f"pattern: {batch.layout.kind}.<br><span class='key'>What is asked for, above what the model sees: {key}</span></p>",
    ]
    for row, read in shown:
        documents = "".join(_document(group) for group in by_document(read))
        parts.append(
            f'<div class="note">row {row + 1}</div>'
            f'<div class="row"><div class="words">{documents}</div>{pattern_svg(batch, row)}</div>'
        )
    if rows < total:
        parts.append(f'<div class="note">and {total - rows} more rows</div>')
    return "".join([*parts, "</div>"])


def by_document(read: list[Piece]) -> list[list[Piece]]:
    groups: list[list[Piece]] = []
    for piece in read:
        if not groups or groups[-1][-1].document != piece.document:
            groups.append([])
        groups[-1].append(piece)
    return groups


def pattern_svg(batch: "Batch", row: int, pixels: int = 240) -> str:
    inputs = row_of(batch, row)
    return svg(visible_numpy(inputs, inputs), pixels)


def _document(group: list[Piece]) -> str:
    parts = []
    for piece in group:
        about = (
            f"slot {piece.slot}, position {piece.position}, segment {piece.segment}, document {piece.document}, "
            f"time {piece.time}, visible from {piece.visible_from}"
        )
        text = escape(piece.text)
        special = " special" if text.startswith("[") and text.endswith("]") else ""
        if piece.asked:
            wanted = escape(", ".join(asked.wanted for asked in piece.asked))
            html = f'<ruby class="{piece.asked[0].how}" title="{about}">{text}<rt>{wanted}</rt></ruby>'
        else:
            html = f'<span class="t{special}" title="{about}">{text}</span>'
        html = f'<span class="b">{html}</span>' if piece.segment else html
        parts.append(("" if piece.joined else " ") + html)
    return f'<div class="doc">{"".join(parts)}</div>'
