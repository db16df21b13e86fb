"""The command that finds units in a corpus: segmented words, phrases, entities."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from typer.core import TyperCommand

from masklab.cli.common import app, show_table
from masklab.errors import BadInput

if TYPE_CHECKING:
    from masklab.corpus.find_units import Found
    from masklab.corpus.phrases import Thresholds

_LAYERS = ("--words", "--phrases", "--entities")
_SHOWN = 10  # examples of what was found


class _FileOrNot(TyperCommand):
    """`--words` alone is `--words=`: the option's file may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        alone = [arg in _LAYERS and (i + 1 == len(args) or args[i + 1].startswith("-")) for i, arg in enumerate(args)]
        return super().parse_args(ctx, [f"{arg}=" if a else arg for arg, a in zip(args, alone, strict=True)])


@app.command(cls=_FileOrNot)
def units(
    data: Annotated[str, typer.Argument(help="Folder of a prepared corpus (`masklab prepare`).", metavar="STORE")],
    words: Annotated[
        str | None,
        typer.Option(help="Cut Chinese into words; FILE: your dictionary, `word [frequency] [tag]` a line.",
                     metavar="[=FILE]"),
    ] = None,
    phrases: Annotated[
        str | None,
        typer.Option(help="Words that stand together more than by chance; FILE: your list, one a line.",
                     metavar="[=FILE]"),
    ] = None,
    entities: Annotated[
        str | None,
        typer.Option(help="Entities that the documents carry (the field `entities`); FILE: a list of names, "
                     "with a TAB and the type if you like.", metavar="[=FILE]"),
    ] = None,
    tagger: Annotated[
        str, typer.Option(help="Entities by this model of `masklab finetune --task tag`.", metavar="MODEL")
    ] = "",
    simplify: Annotated[
        bool, typer.Option("--simplify", help="Cut traditional Chinese as its simplified form; the text stays.")
    ] = False,
    least: Annotated[int, typer.Option(help="A phrase occurs at least so often.")] = 20,
    npmi: Annotated[float, typer.Option(help="And its normalised mutual information is at least this.")] = 0.5,
    longest: Annotated[int, typer.Option(help="Words of a phrase, at most.")] = 4,
    list_: Annotated[
        Path | None, typer.Option("--list", help="Write the phrases found by statistics, to be mended by hand.")
    ] = None,
    ignore_case: Annotated[bool, typer.Option("--ignore-case", help="A name is found in any case.")] = False,
    threads: Annotated[int, typer.Option(help="Processes; 0 takes all cores.", min=0)] = 0,
) -> None:  # fmt: skip
    """Find units that are masked whole, and mark them for every vocabulary of a corpus.

    For example:

    ```
    masklab units corpus --words --phrases
    masklab units corpus --entities=names.tsv
    masklab pretrain bert --data corpus --out runs/phrases --time 5m objective.unit=phrase
    ```

    A layer that is there already is made anew; the others stay.
    """
    from masklab.corpus import find_units
    from masklab.corpus.lay_units import lay
    from masklab.corpus.phrases import Thresholds
    from masklab.corpus.store import Store
    from masklab.corpus.tokens import cores

    if words is phrases is entities is None and not tagger:
        raise BadInput("say what to find: --words, --phrases or --entities")
    if tagger and entities:
        raise BadInput("--tagger finds the entities itself; leave the list of --entities out")
    store, workers = Store(data), threads or cores()
    thresholds = Thresholds(least, npmi, longest)
    with Console(stderr=True).status("reading") as status:

        def tell(stage: str, done: int, total: int | None) -> None:
            status.update(f"{stage}: {done:,}" + (f" of {total:,}" if total else ""))

        found: list[Found] = []
        if words is not None:
            found.append(find_units.words(store, words or None, simplify, workers, tell))
        if phrases is not None:
            found.append(find_units.find_phrases(store, phrases or None, thresholds, tell))
        if tagger:
            from masklab.analysis.tagged import Tagger

            model = Tagger(tagger)
            found.append(find_units.by_function(store, "entities", model, {"by": "tagger", "model": tagger}, tell))
            found[-1].types = model.seen
        elif entities is not None:
            found.append(find_units.entities(store, entities or None, ignore_case, tell))
        store = lay(store, tell, workers)
    for each in found:
        _show(each, thresholds)
        if each.phrases and list_ is not None:
            _write(list_, each)
    names = ", ".join(path.name for path in store.vocabularies)
    print(f"marked in {names}; layers: {', '.join(store.tokens_description['layers'])}")


def _show(found: "Found", thresholds: "Thresholds") -> None:
    layer = found.layer
    print(f"{layer.name}: {len(layer):,} of them, "
          f"{found.covered / max(1, found.characters):.1%} of the characters; "
          f"{len(found.spellings):,} different ones")  # fmt: skip
    for note in found.notes:
        print(f"  {note}")
    if found.types:
        print("  " + ", ".join(f"{kind or 'no type'} {count:,}" for kind, count in found.types.most_common(12)))
    if found.phrases:
        chosen = found.phrases
        table = Table("npmi at least", Column("phrases", justify="right"), "the last ones taken")
        steps = [step / 20 for step in range(20) if step / 20 > thresholds.npmi]
        for level in [thresholds.npmi, *steps[::2]]:
            taken = [phrase for phrase in chosen if phrase.npmi >= level]
            if taken:
                last = sorted(taken, key=lambda phrase: phrase.npmi)[:5]
                table.add_row(f"{level:.2f}", f"{len(taken):,}", ", ".join(phrase.text for phrase in last))
        show_table(table)
    table = Table("most frequent", Column("times", justify="right"))
    for spelling, count in found.spellings.most_common(_SHOWN):
        table.add_row(spelling, f"{count:,}")
    if found.spellings:
        show_table(table)


def _write(path: Path, found: "Found") -> None:
    from masklab.files import atomic_write

    with atomic_write(path, "w") as file:
        for phrase in found.phrases:
            file.write(f"{phrase.text}\t{phrase.count}\t{phrase.npmi:.4f}\n")
    print(f"{len(found.phrases):,} phrases written to {path}; give it back, mended, as --phrases={path}")
