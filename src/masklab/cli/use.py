"""The commands that use and look at a model: evaluate, fill, generate, embed, show."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from masklab.cli.common import Changes, Data, app, lines_of, lines_of_stdin, recipe_as_asked, score_table, show_table


@app.command()
def evaluate(
    what: Annotated[str, typer.Argument(help="A run, a model folder, or a hub name.", metavar="RUN_OR_MODEL")],
    data: Annotated[
        str, typer.Option(help="Judge by the held-out part of this corpus, or by this labelled file.")
    ] = "",
    rows: Annotated[int | None, typer.Option(help="So many rows of it.", show_default="as the run did")] = None,
) -> None:
    """Measure a model on text that it never saw, under masks that never change, beside the trivial score.

    For example:

    ```
    masklab evaluate runs/first
    masklab evaluate runs/first --data another-corpus
    ```
    """
    from masklab.analysis.judge import judge

    scores, trivial = judge(what, data, rows)
    show_table(score_table({n: s._asdict() for n, s in scores.items()}, {n: s._asdict() for n, s in trivial.items()}))


@app.command()
def fill(
    model: Annotated[str, typer.Argument(help="A run, a model folder, or a hub name.", metavar="MODEL")],
    texts: Annotated[
        list[str] | None, typer.Argument(help='Texts with "_" or "[MASK]" in them; else one a line from stdin.')
    ] = None,
    top: Annotated[int, typer.Option(help="So many words for each gap.", min=1)] = 5,
) -> None:
    """Say what a model finds likely in the gaps of a text.

    For example:

    ```
    masklab fill runs/first "Raises ValueError _ the input is invalid."
    echo "The [MASK] sat on the mat." | masklab fill runs/first --top 10
    ```
    """
    from masklab.analysis.fill import fill as run
    from masklab.analysis.fill import filled
    from masklab.analysis.opened import open_model

    opened = open_model(model)
    for text in texts or lines_of_stdin():
        gaps = run(opened, text, top)
        print(filled(text, gaps))
        for gap in gaps:
            print("   " + "   ".join(f"{choice.text} {choice.probability:.2f}" for choice in gap))


@app.command()
def generate(
    model: Annotated[str, typer.Argument(help="A run of a model that writes (t5), or its folder.", metavar="MODEL")],
    texts: Annotated[
        list[str] | None, typer.Argument(help='Texts, with "_" for gaps to be filled; else one a line from stdin.')
    ] = None,
    longest: Annotated[int, typer.Option(help="At most so many tokens are written for a text.", min=1)] = 128,
) -> None:
    """Write the answer to a text, or fill its gaps, the likeliest token at a time.

    For example:

    ```
    masklab generate runs/writer "The cat sat _ the mat and _ a mouse."
    masklab generate runs/to-german "A cat sits on a mat."
    ```
    """
    from masklab.analysis.opened import open_model
    from masklab.analysis.write import generate as run

    for answer in run(open_model(model), texts or list(lines_of_stdin()), longest):
        print(answer)


@app.command()
def embed(
    model: Annotated[str, typer.Argument(help="A run, a model folder, or a hub name.", metavar="MODEL")],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT...", help="Texts; else one a line from --file or stdin.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="A file with one text a line.")] = None,
    out: Annotated[Path | None, typer.Option(help="A .npy file for the vectors; else JSON lines are printed.")] = None,
) -> None:
    """Turn texts into vectors (mean of the last states, as sentence-transformers computes it).

    For example:

    ```
    masklab embed runs/first "one text" "another" > vectors.jsonl
    masklab embed runs/first --file texts.txt --out vectors.npy
    ```
    """
    import json

    from masklab.analysis.embed import embed as run
    from masklab.corpus.arrays import write_array
    from masklab.files import atomic_write

    listed = texts or (list(lines_of(file)) if file else list(lines_of_stdin()))
    vectors = run(model, listed)
    if out is None:
        for text, vector in zip(listed, vectors, strict=True):
            print(json.dumps({"text": text, "vector": [round(float(x), 6) for x in vector]}, ensure_ascii=False))
    else:
        with atomic_write(out) as open_file:
            write_array(open_file, vectors)
        print(f"{vectors.shape[0]:,} vectors of {vectors.shape[1]} written to {out}")


@app.command()
def show(
    what: Annotated[str, typer.Argument(help="A run's folder, or a recipe with --data.", metavar="RUN_OR_RECIPE")],
    changes: Changes = None,
    data: Data = "",
    step: Annotated[int, typer.Option(help="Which step, from 0.", min=0)] = 0,
    rows: Annotated[int, typer.Option(help="So many rows of it.", min=1)] = 2,
    profile: Annotated[
        bool, typer.Option("--profile", help="Instead: where the time of such steps goes; takes some ten seconds.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page for the browser instead.")] = None,
) -> None:
    """Show the very batch that training reads at a step: pieces, masks, answers, segments, who sees whom.

    For example:

    ```
    masklab show bert --data corpus
    masklab show runs/first --step 100 --html batch.html
    masklab show runs/first --profile
    ```

    With --profile: how long a step waits for data and spends on embedding, attention, feed-forward, head and optimizer,
    how much arithmetic each asks for and what share of this machine's peak that is, tokens a second, memory.
    """
    from masklab.analysis.opened import is_run, open_run
    from masklab.analysis.show import show as run
    from masklab.files import atomic_write
    from masklab.recipe import override

    if is_run(what):
        opened = open_run(what, data)
        opened.recipe = override(opened.recipe, changes or [])
    else:
        opened = recipe_as_asked(what, data, None, None, changes or [])
    if profile:
        from masklab.analysis.profile import profile as measure

        look = measure(opened, step)
    else:
        look = run(opened, step)
    if html is None:
        look.print(Console(highlight=False), *(() if profile else (rows,)))
    else:
        with atomic_write(html, "w") as file:
            file.write(look.page(*(() if profile else (max(rows, 8),))))
        print(f"written to {html}")
