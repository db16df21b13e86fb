"""The commands that use word vectors: nearest, analogy, similarity, odd, mean, evaluate, map, convert."""

import json
import math
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from masklab.cli.common import lines_of, lines_of_stdin, show_table
from masklab.cli.words import AsJson, Limit, Lowercase, Vectors, warn, words
from masklab.errors import BadInput

if TYPE_CHECKING:
    from masklab.word_vectors.evaluation import Analogies, Pairs
    from masklab.word_vectors.keyed import Near, WordVectors

Top = Annotated[int, typer.Option(help="So many answers.", min=1)]
Among = Annotated[int | None, typer.Option(help="Look among the first so many words only.", min=1)]
Method = Annotated[
    Literal["add", "mul"],
    typer.Option(help="Nearest to b - a + c (3CosAdd), or similarities multiplied and divided (3CosMul)."),
]
Counts = Annotated[
    Path | None,
    typer.Option(help="Lines 'word count', for a file of vectors that does not have the counts.", metavar="FILE"),
]


@words.command()
def nearest(
    vectors: Vectors,
    asked: Annotated[
        list[str] | None,
        typer.Argument(help="Words, added up; without any, each line of standard input asks.", metavar="WORD..."),
    ] = None,
    less: Annotated[list[str] | None, typer.Option(help="Take this word off; repeat it.", metavar="WORD")] = None,
    top: Top = 10,
    among: Among = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Find the words nearest to a word, or to a sum of words.

    ```
    masklab words nearest vectors king
    masklab words nearest vectors king woman --less man
    ```
    """
    opened = _opened(vectors, limit)
    questions = [asked] if asked else (line.split() for line in lines_of_stdin())
    for question in questions:
        found = opened.nearest(question, top, negative=less or (), among=among)
        about = {"words": question, "less": less or []}
        _show_near(" + ".join(question) + "".join(f" - {word}" for word in less or []), about, found, as_json)


@words.command()
def analogy(
    vectors: Vectors,
    asked: Annotated[
        list[str] | None,
        typer.Argument(help="Three words; without any, each line of standard input asks.", metavar="A B C"),
    ] = None,
    top: Top = 5,
    method: Method = "add",
    among: Among = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Answer: a is to b as c is to which word?

    ```
    masklab words analogy vectors man woman king
    masklab words analogy vectors paris france tokyo --method mul
    ```
    """
    opened = _opened(vectors, limit)
    questions = [asked] if asked else (line.split() for line in lines_of_stdin())
    for question in questions:
        if len(question) != 3:
            raise BadInput(f"{shlex.join(question)}: an analogy takes three words, such as: man woman king")
        a, b, c = question
        found = opened.analogy(a, b, c, top, method=method, among=among)
        _show_near(f"{a} : {b} = {c} : ?", {"words": question, "method": method}, found, as_json)


@words.command()
def similarity(
    vectors: Vectors,
    asked: Annotated[
        list[str] | None,
        typer.Argument(
            help="Two words, or more for a table of all; without any, each line of standard input asks.",
            metavar="WORD...",
        ),
    ] = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Say how similar words are: the cosine of the angle between their vectors, from -1 to 1.

    ```
    masklab words similarity vectors coffee tea
    masklab words similarity vectors king queen man woman
    ```
    """
    opened = _opened(vectors, limit)
    questions = [asked] if asked else (line.split() for line in lines_of_stdin())
    for question in questions:
        if len(question) < 2:
            raise BadInput(f"{shlex.join(question)}: name at least two words to compare")
        table = [[opened.similarity(a, b) for b in question] for a in question]
        if as_json:
            print(json.dumps({"words": question, "similarity": table}, ensure_ascii=False))
        elif len(question) == 2:
            print(f"{table[0][1]:.4f}" if asked else f"{table[0][1]:.4f}  {question[0]} {question[1]}")
        else:
            shown = Table("", *question)
            for word, row in zip(question, table, strict=True):
                shown.add_row(word, *(f"{value:.3f}" for value in row))
            show_table(shown)


@words.command()
def odd(
    vectors: Vectors,
    asked: Annotated[
        list[str] | None,
        typer.Argument(help="Three words or more; without any, each line of standard input asks.", metavar="WORD..."),
    ] = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Find the word that fits least: the one farthest from the mean of all.

    ```
    masklab words odd vectors breakfast lunch dinner music
    ```
    """
    opened = _opened(vectors, limit)
    questions = [asked] if asked else (line.split() for line in lines_of_stdin())
    for question in questions:
        found = opened.by_centrality(question)
        _show_near(f"odd one out: {found[-1].word}", {"odd": found[-1].word}, found, as_json)


@words.command()
def mean(
    vectors: Vectors,
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; else one a line from --file or stdin.", metavar="TEXT...")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="A file with one text a line.")] = None,
    out: Annotated[Path | None, typer.Option(help="A .npy file for the vectors; else JSON lines are printed.")] = None,
    unit: Annotated[bool, typer.Option("--unit", help="Take every word's vector with length 1.")] = False,
    sif: Annotated[
        float | None,
        typer.Option(help="Weigh frequent words less and take out what all texts share; 1e-3 is usual.", min=0),
    ] = None,
    counts: Counts = None,
    lowercase: Lowercase = False,
    limit: Limit = None,
) -> None:
    """Turn texts into vectors: the mean of the vectors of their words, which are parted by white space.

    ```
    masklab words mean vectors "the cat sat" "a dog ran" > texts.jsonl
    masklab words mean vectors --file texts.txt --sif 1e-3 --out texts.npy
    ```
    """
    from masklab.corpus.arrays import write_array
    from masklab.files import atomic_write

    opened = _opened(vectors, limit, counts)
    listed = texts or list(lines_of(file) if file else lines_of_stdin())
    made = opened.means((text.lower() if lowercase else text for text in listed), unit=unit, sif=sif)
    empty = int((~made.any(1)).sum())
    if empty:
        warn(f"{empty:,} of {len(made):,} texts have no word with a vector; theirs are all zeros")
    if out is None:
        for text, vector in zip(listed, made, strict=True):
            print(json.dumps({"text": text, "vector": [round(float(x), 6) for x in vector]}, ensure_ascii=False))
    else:
        with atomic_write(out) as open_file:
            write_array(open_file, made)
        print(f"{made.shape[0]:,} vectors of {made.shape[1]} written to {out}")


@words.command()
def evaluate(
    vectors: Vectors,
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Analogies (questions-words.txt, CA8: lines of four words) or scored pairs (WordSim-353, SimLex-999: "
            "two words and a number).",
            metavar="FILE...",
        ),
    ],
    among: Annotated[
        int, typer.Option(help="The first so many words are known, as in gensim; 0 takes all.", min=0)
    ] = 300_000,
    case: Annotated[bool, typer.Option("--case", help="King and king are different words.")] = False,
    unknown_is_wrong: Annotated[
        bool, typer.Option("--unknown-is-wrong", help="Count questions with unknown words too, as wrong.")
    ] = False,
    method: Method = "add",
    compose: Annotated[
        bool, typer.Option("--compose", help="Unknown words of pairs get fastText's vector from their letters.")
    ] = False,
    mistakes: Annotated[int, typer.Option(help="Show so many wrong answers too.", min=0)] = 0,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Measure vectors by analogies, and by what people say of how similar words are; gensim's figures.

    ```
    masklab words evaluate vectors questions-words.txt --mistakes 5
    masklab words evaluate vectors wordsim353.tsv simlex999.txt
    ```
    """
    from masklab.word_vectors import evaluation

    opened = _opened(vectors, limit)
    table = Table("pairs", "Spearman", "Pearson", "asked", "of")
    for file in files:
        found = evaluation.evaluate(
            opened, file, among=among or None, ignore_case=not case, unknown_is_wrong=unknown_is_wrong, method=method,
            compose=compose,
        )  # fmt: skip
        if found.skipped:
            warn(f"{file}: {found.skipped:,} lines are no question and were passed over")
        if as_json:
            print(json.dumps({"file": str(file), **_as_data(found)}, ensure_ascii=False))
        elif isinstance(found, evaluation.Analogies):
            _show_analogies(file, found, mistakes)
        else:
            table.add_row(file.name, f"{found.spearman.value:.4f}", f"{found.pearson.value:.4f}", f"{found.asked:,}",
                          _coverage(found.asked, found.pairs))  # fmt: skip
    if table.row_count:
        show_table(table)


@words.command("map")
def draw(
    vectors: Vectors,
    asked: Annotated[
        list[str] | None,
        typer.Argument(
            help="Words to draw; words joined by commas are a group with a colour of its own.", metavar="WORD..."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The picture: .png, .svg or .pdf.", metavar="FILE")] = Path("map.png"),
    pair: Annotated[
        list[str] | None,
        typer.Option(help="An arrow from one word to another; repeat it. Two make a parallelogram.", metavar="A:B"),
    ] = None,
    file: Annotated[Path | None, typer.Option(help="Words to draw, a line a group.")] = None,
    first: Annotated[int, typer.Option(help="Draw the first so many words.", min=0)] = 0,
    method: Annotated[
        Literal["pca", "tsne", "pairs"] | None,
        typer.Option(
            help="Directions of greatest variance; t-SNE, which keeps neighbours together; or with the step from one "
            "word of the pairs to the other from left to right.",
            show_default="pca, or pairs if there are any",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another number, another t-SNE.")] = 0,
    limit: Limit = None,
) -> None:
    """Draw words on a map: alike ones near each other, analogies as arrows in one direction.

    ```
    masklab words map vectors france,germany,italy paris,berlin,rome --out map.png
    masklab words map vectors --pair man:woman --pair king:queen --out royal.svg
    ```
    """
    from masklab.word_vectors.pictures import save, word_map

    opened = _opened(vectors, limit)
    groups = [group for group in ([w for w in one.split(",") if w] for one in asked or []) if group]
    groups += [line.split() for line in lines_of(file)] if file else []
    if first:
        groups.append(opened.words[:first])
    steps = [tuple(one.split(":")) for one in pair or []]
    for one, ends in zip(pair or [], steps, strict=True):
        if len(ends) != 2 or not all(ends):
            raise BadInput(f"--pair {one}: name two words with a colon between, such as man:woman")
    save(word_map(opened, groups, pairs=steps, method=method, seed=seed, say=warn), out)  # type: ignore[arg-type]
    print(f"written to {out}")


@words.command()
def convert(
    vectors: Vectors,
    out: Annotated[
        Path,
        typer.Argument(
            help="A folder (opened fastest), or by ending .vec or .txt (word2vec text), .bin (word2vec binary; "
            "fastText's own for its models), .glove.txt (no header); .gz may follow.",
            metavar="OUT",
        ),
    ],
    limit: Limit = None,
    only: Annotated[
        Path | None, typer.Option(help="Keep the words of this file only, one a line, in its order.", metavar="FILE")
    ] = None,
    counts: Counts = None,
    undecodable: Annotated[
        Literal["strict", "replace", "ignore"], typer.Option(help="What to do with words that are not UTF-8.")
    ] = "strict",
    form: Annotated[
        Literal["native", "word2vec", "word2vec-binary", "glove", "fasttext"] | None,
        typer.Option("--format", help="Write this, whatever the name.", show_default="by the ending"),
    ] = None,
) -> None:
    """Write vectors in another format, or fewer of them.

    ```
    masklab words convert vectors vectors.vec
    masklab words convert cc.zh.300.bin chinese --limit 200000
    ```
    """
    from masklab.word_vectors.keyed import WordVectors

    opened = WordVectors.open(vectors, limit=limit, counts=counts, undecodable=undecodable, say=warn)
    if only:
        wanted = list(dict.fromkeys(line.strip() for line in lines_of(only)))
        known = [word for word in wanted if word in opened or opened.unseen]
        if not known:
            raise BadInput(f"{only}: none of its {len(wanted):,} words has a vector in {vectors}")
        if len(known) < len(wanted):
            warn(f"{len(wanted) - len(known):,} of the {len(wanted):,} words in {only} have no vector")
        opened = opened.some(known)
    opened.save(out, form, warn)
    print(f"{len(opened):,} words, vectors of {opened.dim}; written to {out}")


def _opened(path: Path, limit: int | None, counts: Path | None = None) -> "WordVectors":
    from masklab.word_vectors.keyed import WordVectors

    return WordVectors.open(path, limit=limit, counts=counts, say=warn)


def _show_near(question: str, about: dict[str, Any], found: "Iterable[Near]", as_json: bool) -> None:
    if as_json:
        listed = [{"word": near.word, "similarity": round(near.similarity, 6)} for near in found]
        print(json.dumps({**about, "found": listed}, ensure_ascii=False))
        return
    table = Table(question, "similarity")
    for near in found:
        table.add_row(near.word, f"{near.similarity:.4f}")
    show_table(table)


def _show_analogies(file: Path, found: "Analogies", mistakes: int) -> None:
    table = Table(file.name, "right", "asked", "accuracy", "of")
    for section in [*found.sections, *found.halves, found.total]:
        if section.name in ("semantic", "total"):
            table.add_section()
        table.add_row(section.name, f"{section.right:,}", f"{section.asked:,}", f"{section.accuracy:.2%}",
                      _coverage(section.asked, section.questions))  # fmt: skip
    show_table(table)
    wrong = [answer for section in found.sections for answer in section.answers if not answer.right]
    for answer in wrong[:: max(1, len(wrong) // max(1, mistakes))][:mistakes]:
        a, b, c, d = answer.question
        print(f"{a} : {b} = {c} : {answer.given or 'no word'} (not {d})")


def _coverage(asked: int, questions: int) -> str:
    return f"{questions:,} ({asked / questions:.1%})"


def _as_data(found: "Analogies | Pairs") -> dict[str, Any]:
    """What `evaluate --json` prints of one file."""
    from masklab.word_vectors.evaluation import Analogies

    if isinstance(found, Analogies):
        names = ("name", "right", "asked", "questions", "accuracy")
        sections = [{name: getattr(one, name) for name in names} for one in [*found.sections, *found.halves]]
        return {"sections": sections, "total": {name: getattr(found.total, name) for name in names}}
    values = {name: getattr(found, name).value for name in ("spearman", "pearson")}
    return {name: None if math.isnan(value) else value for name, value in values.items()} | {
        "asked": found.asked, "unknown": found.unknown, "pairs": found.pairs,
    }  # fmt: skip
