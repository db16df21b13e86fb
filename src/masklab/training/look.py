"""A batch as a person reads it: every token in its place, what is asked of it, and who sees whom, as HTML.

It shows exactly what the model is given. What an id or a target means in words is the caller's knowledge: without it,
numbers are shown.
"""

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from masklab.corpus.units import ENTITY_REAL, PHRASE_REAL, WORD_START
from masklab.models.pattern import PADDING, Inputs, visible_numpy
from masklab.models.picture import BLUE, svg

if TYPE_CHECKING:
    from masklab.training.batches import Batch
    from masklab.training.run import Run

IGNORE = -100
REAL = {"phrases": PHRASE_REAL, "entities": ENTITY_REAL}  # the slot belongs to a real one; half of it: begins one


class Asked(NamedTuple):
    """What one loss term wants at one slot, in words, and how the slot looks to the model.

    how: "hidden" (shown as a mask), "changed" (shown as another token), "kept" (shown as it is) or "asked".
    """

    wanted: str
    how: str = "asked"


class Piece(NamedTuple):
    """One slot of a row in words. `joined`: it continues the word before it.

    marks: the layers of which a real unit covers it; goes_on: those whose unit began before it.
    """

    slot: int
    text: str
    joined: bool
    asked: tuple[Asked, ...]
    position: int
    segment: int
    document: int
    time: int
    visible_from: int
    marks: tuple[str, ...] = ()
    goes_on: tuple[str, ...] = ()


Spell = Callable[[int], tuple[str, bool]]  # token id -> its text, whether it continues a word
# loss term, token id shown, target, whether the slot continues a word (None: not known) -> what is asked
Explain = Callable[[str, int, int, bool | None], Asked]


def number(token: int) -> tuple[str, bool]:
    return str(token), False


def name_and_number(term: str, shown: int, target: int, joined: bool | None) -> Asked:
    return Asked(f"{term} {target}")


def pieces(batch: "Batch", row: int, spell: Spell = number, explain: Explain = name_and_number) -> list[Piece]:
    """The filled slots of one row, in order."""
    inputs = row_of(batch, row)
    asked: dict[int, tuple[Asked, ...]] = {}
    for term, at in batch.at.items():
        for slot, target in zip(at[row].tolist(), batch.targets[term][row].tolist(), strict=True):
            if isinstance(target, int) and target != IGNORE:
                bits = _bits(batch, row, slot)
                goes_on = not bits & WORD_START if bits else None
                asked[slot] = (*asked.get(slot, ()), explain(term, int(inputs.tokens[slot]), target, goes_on))
    columns = (inputs.position, inputs.segment, inputs.document, inputs.time, inputs.visible_from)
    found = []
    for slot, token in enumerate(inputs.tokens):
        if inputs.document[slot] != PADDING:
            text, joined = spell(int(token))
            bits = _bits(batch, row, slot)
            joined = not bits & WORD_START if bits else joined  # the corpus knows better than the spelling
            marks = tuple(name for name, real in REAL.items() if bits & real)
            goes_on = tuple(name for name in marks if not bits & REAL[name] >> 1)
            position, segment, document, time, visible_from = (int(column[slot]) for column in columns)
            found.append(
                Piece(slot, text, joined, asked.get(slot, ()), position, segment, document, time, visible_from,
                      marks, goes_on)
            )  # fmt: skip
    return found


def _bits(batch: "Batch", row: int, slot: int) -> int:
    return 0 if batch.units is None else int(batch.units[row, slot])


def written(batch: "Batch", row: int, spell: Spell = number) -> list[str]:
    """What a decoder is to write, document by document; nothing where there is none."""
    if batch.written is None:
        return []
    document = batch.written.document[row].cpu().numpy()
    wanted = batch.targets["written"][row].cpu().numpy()
    texts = []
    for one in range(document.max(initial=-1) + 1):
        spelled = [spell(int(token)) for token in wanted[document == one]]
        texts.append(
            "".join(("" if k == 0 else "·" if joined else " ") + text for k, (text, joined) in enumerate(spelled))
        )
    return texts


def row_of(batch: "Batch", row: int) -> Inputs:
    """One row's inputs, (T,) numpy each."""
    return Inputs(*(x[row].cpu().numpy() for x in batch.inputs))


STYLE = """<style>
.masklab { font: 14px/1.3 system-ui, sans-serif; }
.masklab .key span, .masklab ruby { border-radius: 3px; padding: 0 2px; }
.masklab .row { display: flex; gap: 24px; align-items: flex-start; flex-wrap: wrap; margin: 6px 0 26px; }
.masklab .words { flex: 1 1 420px; line-height: 2.4; min-width: 0; }
.masklab .doc { border-left: 3px solid #3f7cac; padding-left: 10px; margin: 0 0 8px; overflow-wrap: anywhere; }
.masklab .doc .b { background: #8882; border-radius: 3px; padding: 2px 0; }
.masklab .doc ruby { white-space: nowrap; }
.masklab .doc .j { color: #888; }
.masklab rt { font-size: 11px; font-weight: 600; line-height: 1.5; color: inherit; user-select: none; }
.masklab .hidden { background: #d9534f; color: #fff; }
.masklab .hidden rt { color: #d9534f; }
.masklab .changed { background: #f0ad4e; color: #222; }
.masklab .changed rt { color: #b8761a; }
.masklab .kept { background: #5cb85c; color: #fff; }
.masklab .kept rt { color: #449544; }
.masklab .asked { background: #7a6fbe; color: #fff; }
.masklab .asked rt { color: #7a6fbe; }
.masklab .writes { color: #7a6fbe; padding-left: 13px; margin: 0 0 14px; overflow-wrap: anywhere; }
.masklab .special { color: #8889; }
.masklab .phrases { box-shadow: 0 2px #3f7cac; }
.masklab .entities { box-shadow: 0 2px #c05621; }
.masklab .phrases.entities { box-shadow: 0 2px #3f7cac, 0 4px #c05621; }
.masklab td, .masklab th { padding: 2px 16px 2px 0; text-align: left; }
.masklab .note { opacity: .7; }
.masklab svg { flex: none; }
</style>"""

LEGEND = {
    "hidden": "shown as [MASK]",
    "changed": "shown as another token",
    "kept": "shown as it is",
    "asked": "asked for",
}


def batch_html(
    batch: "Batch", spell: Spell = number, explain: Explain = name_and_number, *, rows: int = 4, title: str = ""
) -> str:
    """The first rows of a batch; hover over a token for its integers."""
    total, length = batch.inputs.tokens.shape
    shown = [(row, pieces(batch, row, spell, explain)) for row in range(min(rows, total))]
    counts = ", ".join(f"{name} {count:,}" for name, count in batch.counts.items() if name in batch.at)
    hows = {asked.how for _, row in shown for piece in row for asked in piece.asked}
    key = " ".join(f'<span class="{how}">{text}</span>' for how, text in LEGEND.items() if how in hows)
    marks = {mark for _, row in shown for piece in row for mark in piece.marks}
    under = ", ".join(f'<span class="{name}">{name}</span>' for name in REAL if name in marks)
    parts = [
        STYLE,
        f'<div class="masklab"><h3>{escape(title or "Batch")}</h3>'
        f"<p>{total} rows of {length} slots, {batch.tokens / (total * length):.1%} filled; targets: {escape(counts)}; "
        f"pattern: {batch.layout.kind}.<br>"
        f"<span class='key'>What is asked for, above what the model sees: {key}</span>"
        f"{f' Underlined: {under}.' if under else ''}</p>",
    ]
    for row, read in shown:
        answers = written(batch, row, spell)
        documents = "".join(
            _document(group) + (f'<div class="writes">writes: {escape(answers[k])}</div>' if answers else "")
            for k, group in enumerate(by_document(read))
        )
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


def pattern_svg(batch: "Batch", row: int, pixels: int = 180) -> str:
    if batch.layout.kind == "none":
        return ""
    inputs = row_of(batch, row)
    return svg(visible_numpy(inputs, inputs), pixels)


def _document(group: list[Piece]) -> str:
    parts, segment = [], 0
    for piece in group:
        if piece.segment != segment:
            parts.append(' <span class="b">' if piece.segment else "</span> ")
            segment = piece.segment
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
        between = '<span class="j">·</span>' if piece.joined else " "
        if piece.goes_on:
            between = f'<span class="{" ".join(piece.goes_on)}">{between}</span>'
        parts.append(between + (f'<span class="{" ".join(piece.marks)}">{html}</span>' if piece.marks else html))
    parts.append("</span>" if segment else "")
    return f'<div class="doc">{"".join(parts)}</div>'


def run_html(run: "Run") -> str:
    """A run in a few lines: what it was, its loss beside the trivial score, its held-out scores."""
    r = run.recipe
    steps = [(record["step"], record["terms"]) for record in run.history if record["kind"] == "step"]
    tested = [(record["step"], record["terms"]) for record in run.history if record["kind"] == "held_out"]
    begin = next((record for record in run.history if record["kind"] == "begin"), {"baseline": {}})
    state = f"{run.result['steps']:,} steps in {run.result['seconds']:.0f} s" if run.result else "not finished"
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{score['loss']:.3f}</td><td>{run.result['baseline'][name]['loss']:.3f}</td>"
        f"<td>{'' if score['accuracy'] is None else format(score['accuracy'], '.1%')}</td></tr>"
        for name, score in run.result.get("held_out", {}).items()
    )
    head = "<tr><th>held out</th><th>nats</th><th>trivial answer</th><th>right</th></tr>" if rows else ""
    lines = [_curve(name, steps, tested, score["loss"]) for name, score in list(begin["baseline"].items())[:1]]
    return (
        f'{STYLE}<div class="masklab"><h3>{escape(r.name)}, {r.preset} preset, seed {r.seed}</h3>'
        f"<p>{state}; {escape(str(run.folder or 'no folder'))}</p>{''.join(lines)}<table>{head}{rows}</table></div>"
    )


def _curve(name: str, steps: list, tested: list, trivial: float, width: int = 420, height: int = 160) -> str:
    """Training loss (line), held-out loss (dots) and the trivial score (dashes) over the steps, as an SVG."""
    line = [(step, terms[name]["loss"]) for step, terms in steps if name in terms]
    dots = [(step, terms[name]["loss"]) for step, terms in tested if name in terms]
    if not line:
        return ""
    low = min(trivial, min(y for _, y in line + dots))
    high = max(trivial, max(y for _, y in line + dots))
    last = max(x for x, _ in line + dots)

    def place(x: float, y: float) -> tuple[float, float]:
        return round(x / last * (width - 60), 1), round(10 + (high - y) / (high - low or 1) * (height - 20), 1)

    level = place(0, trivial)[1]
    points = " ".join("{},{}".format(*place(*p)) for p in line)
    circles = "".join('<circle cx="{}" cy="{}" r="3"/>'.format(*place(*p)) for p in dots)
    end_x, end_y = place(*(dots or line)[-1])
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-size="12" fill="{BLUE}">'
        f'<polyline points="{points}" fill="none" stroke="{BLUE}" stroke-opacity=".5" stroke-width="2"/>{circles}'
        f'<line x1="0" x2="{width - 60}" y1="{level}" y2="{level}" stroke="#888" stroke-dasharray="4 4"/>'
        f'<text x="{width - 56}" y="{level + 4}" fill="#888">{trivial:.2f}</text>'
        f'<text x="{end_x + 6}" y="{end_y + 4}">{(dots or line)[-1][1]:.2f}</text></svg>'
    )
