"""Shows one step's batch as a person reads it: the pieces, what is hidden and what was there, segments, who sees whom.

A batch is a function of (seed, step), so this is exactly what training reads, or will read, or has read, at that step.

    look = show("runs/first", step=100)
    look.print()                      # in a terminal
    Path("batch.html").write_text(look.page())
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from masklab.analysis.opened import open_run
from masklab.corpus.store_words import reader_of
from masklab.errors import BadInput
from masklab.models import hub
from masklab.models.pattern import visible_numpy
from masklab.models.picture import blocks
from masklab.objectives.next_sentence import IS_NEXT
from masklab.recipe import Recipe
from masklab.training import checkpoint
from masklab.training.batches import Batch
from masklab.training.feed import batch_at
from masklab.training.look import LEGEND, REAL, Asked, Piece, Spell, batch_html, by_document, pieces, row_of, written
from masklab.training.mixture import open_sources
from masklab.training.run import Run
from masklab.training.schedule import Progress
from masklab.training.session import words_per_token

COLOURS = {
    "hidden": "white on red",
    "changed": "black on yellow",
    "kept": "black on green",
    "asked": "white on magenta",
}
ANSWERS = {"hidden": "bold red", "changed": "bold yellow", "kept": "bold green", "asked": "bold magenta"}
ORDER = list(COLOURS)
BRACKETS = {"phrases": "‹›", "entities": "«»"}  # around real units, in a terminal


@dataclass
class Look:
    """One step of a run, ready to be printed or written as HTML."""

    recipe: Recipe
    source: Any
    step: int
    progress: float
    batches: list[Batch]  # the step's micro-batches

    @property
    def title(self) -> str:
        r = self.recipe
        return f"{r.name}, {r.preset} preset, seed {r.seed}: step {self.step:,}, {self.progress:.0%} of the run"

    @cached_property
    def spell(self) -> Spell:
        return getattr(self.source, "spell", None) or spelling(self.source.tokenizer)

    def read(self, part: int, row: int) -> list[Piece]:
        return pieces(self.batches[part], row, self.spell, self.explain)

    def explain(self, term: str, shown: int, target: int, joined: bool | None = None) -> Asked:
        """What a target means in words."""
        tokenizer = self.source.tokenizer
        if term == "masked":
            how = "hidden" if shown == tokenizer.mask else "kept" if shown == target else "changed"
            text, spelled = self.spell(target)
            return Asked("·" * (spelled if joined is None else joined) + text, how)
        if term == "next":
            return Asked("B follows A" if target == IS_NEXT else "B is from elsewhere")
        if term in ("forward", "backward"):
            word = tokenizer.word(target)
            return Asked(f"{word}→" if term == "forward" else f"←{word}")
        if term in ("left", "right"):
            return Asked(f"{target} to the right" if term == "left" else f"{target} to the left")
        labels = getattr(self.source, "labels", None)
        return Asked(labels[target] if labels else f"{term} {target}")

    def print(self, console: Console | None = None, rows: int = 2) -> None:
        """The first rows, then the first row's pattern, then what the whole step asks for."""
        console = console or Console(highlight=False)
        total, length = self.batches[0].inputs.tokens.shape
        console.print(Text(self.title, "bold"))
        console.print(self._key())
        for row in range(min(rows, total)):
            read = self.read(0, row)
            about = (
                f"row {row + 1} of {total}: {len(read)} of {length} slots, {_many(len(by_document(read)), 'document')}"
            )
            console.print(Text(f"\n{about}", "bold"))
            answers = written(self.batches[0], row, self.spell)
            for number, group in enumerate(by_document(read), 1):
                console.print(Text(f"document {number}", "dim"))
                for line in _interlinear(group, console.width):
                    console.print(line, no_wrap=True, crop=True)
                if answers:
                    console.print(Text.assemble(("writes ", "dim"), (answers[number - 1], "magenta")))
        if self.batches[0].layout.kind != "none":
            console.print(
                Text("\nWho sees whom in row 1: a line is a token that asks, a column one that is seen.", "bold")
            )
            inputs = row_of(self.batches[0], 0)
            for line in blocks(visible_numpy(inputs, inputs), min(48, console.width - 2)):
                console.print(Text("  " + line, "cyan"), no_wrap=True, crop=True)
        console.print(Text("\n" + self.summary()))

    def summary(self) -> str:
        """What the whole step asks for, counted: "masked: 307 of 2,010 text tokens (15.3%), 80% hidden, ..."."""
        hows = dict.fromkeys(ORDER, 0)
        text = 0
        special = set(self.source.tokenizer.special)
        for part, batch in enumerate(self.batches):
            for row in range(len(batch.inputs.tokens)):
                for piece in self.read(part, row):
                    for asked in piece.asked:
                        hows[asked.how] += 1
                    answer = any(asked.how != "asked" for asked in piece.asked)
                    text += answer or int(batch.inputs.tokens[row, piece.slot]) not in special
        masked = sum(hows[how] for how in ORDER[:3])
        slots = sum(b.inputs.tokens.numel() for b in self.batches)
        filled = sum(b.tokens for b in self.batches)
        lines = [
            f"{_many(len(self.batches), 'micro-batch', 'micro-batches')}, {slots:,} slots, {filled / slots:.1%} filled"
        ]
        if masked:
            shares = ", ".join(f"{hows[how] / masked:.0%} {LEGEND[how]}" for how in ORDER[:3])
            lines.append(f"{masked:,} of {text:,} text tokens asked ({masked / text:.1%}): {shares}")
        if hows["asked"]:
            lines.append(f"{hows['asked']:,} other answers asked")
        return "\n".join(lines)

    def page(self, rows: int = 8) -> str:
        """A self-contained HTML page."""
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>{self.title}</title><body style='margin:24px;max-width:1200px'>{self.html(rows)}</body></html>"
        )

    def html(self, rows: int = 4) -> str:
        summary = "".join(f"<p class='masklab note'>{line}</p>" for line in self.summary().split("\n"))
        return batch_html(self.batches[0], self.spell, self.explain, rows=rows, title=self.title) + summary

    def _repr_html_(self) -> str:
        return self.html()

    def _key(self) -> Text:
        used = {a.how for row in range(len(self.batches[0].inputs.tokens)) for p in self.read(0, row) for a in p.asked}
        key = Text("below a token what was there: ")
        for how in ORDER:
            if how in used:
                key.append(f" {LEGEND[how]} ", COLOURS[how]).append("  ")
        marks = {
            mark for row in range(len(self.batches[0].inputs.tokens)) for p in self.read(0, row) for mark in p.marks
        }
        for name in REAL:
            if name in marks:
                key.append(f" {BRACKETS[name][0]}{name}{BRACKETS[name][1]} ", "cyan")
        return key


def show(what: Recipe | Run | str | Path, step: int = 0) -> Look:
    """The batch of a step: of a run (its folder, or the object) or of a recipe that names its data."""
    if isinstance(what, str | Path):
        what = open_run(what)
    recipe = what.recipe if isinstance(what, Run) else what
    if not recipe.data:
        raise BadInput("the recipe names no data; give --data and the folder of a prepared corpus")
    if step < 0:
        raise BadInput(f"step {step}: steps are counted from 0")
    source = open_sources(recipe, "train", start_tokenizer(recipe))
    progress = progress_of(what, source)
    if progress.steps is not None and step >= progress.steps:
        raise BadInput(f"step {step}: the run has {progress.steps:,} steps, counted from 0")
    return Look(recipe, source, step, progress.at(step), batch_at(recipe, source, step, progress))


def progress_of(what: Recipe | Run, source: Any) -> Progress:
    """The run's clock as far as it is known; a recipe by the clock that never ran stands at its beginning."""
    recipe = what.recipe if isinstance(what, Run) else what
    milestones: list[int] = []
    if isinstance(what, Run):
        milestones = what.result.get("milestones", [])
        if not what.result and what.folder:
            found = checkpoint.latest(what.folder / "checkpoints", lambda text: None)
            milestones = found[1].values["milestones"] if found else []
    steps = recipe.budget.count(recipe.batches.tokens, words_per_token(source))
    progress = Progress(steps, recipe.budget, milestones)
    if isinstance(what, Run) and what.result:
        progress.steps = what.result["steps"]
    return progress


def start_tokenizer(recipe: Recipe) -> Any:
    """The vocabulary of the model that a run starts from; None if the data has its own."""
    return reader_of(hub.find(recipe.start)) if recipe.start else None


def spelling(tokenizer: Any) -> Spell:
    """What marks a piece as the rest of a word, undone: "##ing" -> ("ing", True), "Ġthe" -> ("the", False)."""
    wordpiece = any(token.startswith("##") for token in tokenizer.inner.get_vocab())
    special = set(tokenizer.special)

    def spell(token: int) -> tuple[str, bool]:
        text = tokenizer.tokens([token])[0]
        if token in special or len(text) < 2:
            return text, False
        if wordpiece:
            return (text[2:], True) if text.startswith("##") else (text, False)
        if text[0] in "Ġ▁":
            return text[1:], False
        return text, True

    return spell


def _interlinear(group: list[Piece], width: int) -> Iterator[Text]:
    """One document: lines of what the model sees, below each the answers; pieces of one word are joined by a dot."""
    segments = {piece.segment for piece in group}
    margin = f" {'AB'[piece.segment]} │ " if (piece := group[0]) and len(segments) > 1 else " │ "
    top, bottom = _lines(margin)
    segment = group[0].segment
    for piece, after in zip(group, [*group[1:], None], strict=True):
        wanted = ", ".join(asked.wanted for asked in piece.asked)
        opening = "".join(BRACKETS[name][0] for name in piece.marks if name not in piece.goes_on)
        goes_on = after.goes_on if after else ()
        closing = "".join(BRACKETS[name][1] for name in reversed(piece.marks) if name not in goes_on)
        cell = max(_cells(opening + piece.text + closing), _cells(opening + wanted) + bool(wanted))
        if len(top.plain) > len(margin) and (_cells(top.plain) + cell + 1 > width or piece.segment != segment):
            yield from _pair(top, bottom)
            segment = piece.segment
            margin = f" {'AB'[segment]} │ " if len(segments) > 1 else margin
            top, bottom = _lines(margin)
        elif len(top.plain) > len(margin):
            top.append("·" if piece.joined else " ", "dim")
            bottom.append(" ")
        how = piece.asked[0].how if piece.asked else ""
        special = "dim" if piece.text.startswith("[") and piece.text.endswith("]") else ""
        top.append(opening, "cyan").append(piece.text, COLOURS.get(how, special)).append(closing, "cyan")
        top.append(" " * (cell - _cells(opening + piece.text + closing)))
        bottom.append(" " * _cells(opening)).append(wanted, ANSWERS.get(how, ""))
        bottom.append(" " * (cell - _cells(opening + wanted)))
    yield from _pair(top, bottom)


def _lines(margin: str) -> tuple[Text, Text]:
    """The beginnings of two lines, above and below."""
    return Text().append(margin, "dim"), Text().append(" " * (len(margin) - 2) + "│ ", "dim")


def _pair(top: Text, bottom: Text) -> Iterator[Text]:
    yield top
    if bottom.plain.strip("│ "):
        yield bottom


def _cells(text: str) -> int:
    return Text(text).cell_len


def _many(n: int, one: str, more: str = "") -> str:
    return f"{n} {one if n == 1 else more or one + 's'}"
