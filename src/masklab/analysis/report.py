"""One self-contained HTML page about a run: figures, pictures, the recipe; readable offline, on a phone, in the dark.

    write(run_report(Run.open("runs/first")), "report.html")

The parts (`page`, `table`, `picture`, ...) turn values into HTML text; the demo composes its page from them.
"""

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from masklab.analysis import curves
from masklab.files import atomic_write
from masklab.training.run import Run

# One accent, one column, system fonts: nothing is loaded from anywhere.
_LIGHT = "--paper:#fbfbfa;--card:#ffffff;--ink:#22222a;--faint:#676772;--grid:#e4e4ea;--mark:#eaf1fd;" + "".join(
    f"--series-{i}:{colour};" for i, colour in enumerate(curves.SERIES)
)
_DARK = (
    "--paper:#16171b;--card:#1e2026;--ink:#e8e8ec;--faint:#a0a1ac;--grid:#34363f;--mark:#22304a;--series-0:#7aa7f5;"
    "--series-1:#f0935c;--series-2:#5fc79f;--series-3:#c08ae8;--series-4:#d8b95c;--series-5:#ee7fa3;"
)
_CSS = f"""
:root{{color-scheme:light dark;{_LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}
*{{box-sizing:border-box}}
body{{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,sans-serif;
-webkit-text-size-adjust:100%}}
main{{max-width:48rem;margin:0 auto;padding:2.5rem 1.1rem 4rem}}
h1{{font-size:1.75rem;line-height:1.2;margin:0 0 .4rem}}
h2{{font-size:1.2rem;margin:2.6rem 0 .5rem}}
p{{margin:.5rem 0 .9rem}}
.lead{{font-size:1.1rem;color:var(--faint);margin-bottom:1.6rem}}
.numbers{{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.7rem;margin:1.2rem 0}}
.numbers b{{display:block;font-size:1.5rem;line-height:1.25;font-variant-numeric:tabular-nums}}
.numbers span{{color:var(--faint);font-size:.86rem;line-height:1.35;display:block}}
figure,pre,.numbers div{{background:var(--card);border:1px solid var(--grid);border-radius:.6rem;padding:.8rem .9rem}}
figure{{margin:1.2rem 0}}
figure svg{{display:block;width:100%;height:auto}}
figcaption,.note{{color:var(--faint);font-size:.9rem}}
figcaption{{margin-top:.5rem}}
.wide{{overflow-x:auto;margin:1rem 0}}
table{{border-collapse:collapse;width:100%;font-size:.93rem;font-variant-numeric:tabular-nums}}
th,td{{text-align:right;padding:.4rem .6rem;border-bottom:1px solid var(--grid);vertical-align:top;white-space:nowrap}}
th:first-child,td:first-child{{text-align:left;padding-left:0;white-space:normal}}
th{{color:var(--faint);font-weight:600;font-size:.85rem;white-space:normal;vertical-align:bottom}}
td.best{{font-weight:700}}
.dev{{font-size:.85em;font-weight:400;color:var(--faint)}} .numbers .dev{{display:inline;font-size:.6em}}
@media (max-width:40rem){{
td .dev{{display:block}} th,td{{padding:.35rem .25rem}} th{{font-size:.74rem}}
td:first-child,th:first-child{{padding-right:.5rem}} h1{{font-size:1.45rem}} main{{padding-top:1.5rem}}
}}
dl.pairs{{display:grid;grid-template-columns:minmax(7rem,auto) 1fr;gap:.3rem 1rem;font-size:.93rem;margin:.8rem 0}}
dl.pairs dt{{color:var(--faint)}} dl.pairs dd{{margin:0;overflow-wrap:anywhere}}
ol.gaps{{list-style:none;padding:0;margin:1rem 0}}
ol.gaps li{{padding:.7rem 0;border-bottom:1px solid var(--grid)}}
mark{{background:var(--mark);color:inherit;border-radius:.25rem;padding:.05rem .12rem;font-weight:600}}
.guesses{{color:var(--faint);font-size:.9rem;margin-top:.25rem}}
.guesses b{{color:var(--series-2)}}
pre,code{{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:.87em}}
pre{{overflow-x:auto;line-height:1.45}}
details{{margin:1rem 0}} summary{{cursor:pointer;color:var(--faint)}}
"""


def page(title: str, *parts: str) -> str:
    """The whole document."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_CSS}</style></head>\n<body><main>\n"
        f"<h1>{html.escape(title)}</h1>\n" + "\n".join(parts) + "\n</main></body></html>\n"
    )


def text(words: str, kind: str = "") -> str:
    """A paragraph; `kind` "lead" or "note"."""
    return f"<p{f' class={kind!r}' if kind else ''}>{html.escape(words)}</p>"


def heading(words: str) -> str:
    return f"<h2>{html.escape(words)}</h2>"


def numbers(pairs: Sequence[tuple[str, str]]) -> str:
    """The few figures that matter, large: [("3.61", "nats a token, held out")]."""
    cells = "".join(f"<div><b>{_number(value)}</b><span>{html.escape(what)}</span></div>" for value, what in pairs)
    return f'<div class="numbers">{cells}</div>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], best: Sequence[int | None] = ()) -> str:
    """Rows of cells; `best` names the cell of each row that stands out."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    lines = []
    for i, row in enumerate(rows):
        strong = best[i] if i < len(best) else None
        cells = [f"<td{' class=best' if j == strong else ''}>{_number(cell)}</td>" for j, cell in enumerate(row)]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def picture(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def pairs(items: Sequence[tuple[str, str]]) -> str:
    """Names and values, one a line."""
    return f'<dl class="pairs">{"".join(f"<dt>{html.escape(a)}</dt><dd>{html.escape(b)}</dd>" for a, b in items)}</dl>'


def code(lines: str) -> str:
    return f"<pre><code>{html.escape(lines)}</code></pre>"


def folded(summary: str, inside: str) -> str:
    """Something that opens on a click."""
    return f"<details><summary>{html.escape(summary)}</summary>{inside}</details>"


def gaps(examples: Sequence[dict[str, Any]]) -> str:
    """Filled-in sentences: {"before", "after", "word", "guesses": [[text, probability], ...]} each."""
    items = []
    for e in examples:
        guesses = " · ".join(
            f"{'<b>' if w == e['word'] else ''}{html.escape(w)} {p:.2f}{'</b>' if w == e['word'] else ''}"
            for w, p in e["guesses"]
        )
        items.append(
            f"<li>{html.escape(e['before'])}<mark>{html.escape(e['word'])}</mark>{html.escape(e['after'])}"
            f'<div class="guesses">{guesses}</div></li>'
        )
    return f'<ol class="gaps">{"".join(items)}</ol>'


def run_report(run: Run) -> str:
    """The page about one run, finished or still going on."""
    recipe, begin = run.recipe, next(r for r in run.history if r["kind"] == "begin")
    judged = [r for r in run.history if r["kind"] == "held_out"]
    scores, trivial = judged[-1]["terms"], begin["baseline"]
    rows = [
        [name, f"{score['loss']:.3f}", f"{trivial[name]['loss']:.3f}", _percent(score["accuracy"]),
         _percent(trivial[name]["accuracy"]), f"{score['count']:,}"]
        for name, score in scores.items()
    ]  # fmt: skip
    main = next(iter(scores))
    where = begin["environment"]
    state = "finished" if run.result else f"at {run.history[-1]['progress']:.0%}, not finished"
    title = f"{recipe.name} on {Path(recipe.data).name}"
    return page(
        title,
        text(f"{recipe.preset} preset, {begin['parameters']:,} parameters, seed {recipe.seed}; {state}.", "lead"),
        numbers([
            (f"{scores[main]['loss']:.2f}", f"nats on held-out text ({main}); trivial {trivial[main]['loss']:.2f}"),
            (f"{run.history[-1]['step']:,}", "steps"),
            (duration(run.history[-1]["seconds"]), "of training"),
        ]),
        picture(curves.svg(curves.loss_curves([run]), f"loss of {title}"), "Loss while training."),
        heading("Held-out scores"),
        table(["", "nats", "trivial nats", "accuracy", "trivial accuracy", "asked"], rows),
        text("Trivial: the unigram frequencies of the training part, or the most frequent class.", "note"),
        heading("How it was made"),
        pairs([(key, str(value)) for key, value in where.items()]),
        folded("The whole recipe", code(json.dumps(recipe.to_json(), indent=1))),
    )  # fmt: skip


def write(document: str, path: str | Path) -> None:
    with atomic_write(path, "w") as file:
        file.write(document)


def _number(cell: str) -> str:
    """A deviation is set smaller: "0.53 ± 0.04"."""
    mean, sign, deviation = cell.partition(" ± ")
    return html.escape(mean) + (f'<span class="dev"> ±&nbsp;{html.escape(deviation)}</span>' if sign else "")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def duration(seconds: float) -> str:
    """95.2 -> "1 min 35 s"."""
    return f"{seconds:.0f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
