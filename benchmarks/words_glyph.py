"""What glyph vectors know of characters that they never met, and whether radicals cluster, over three seeds.

    python benchmarks/words_glyph.py zhwiki.txt --font wqy-zenhei.ttc --map glyphs.png

zhwiki.txt: Chinese text, a paragraph a line. A tenth of the characters that are seen 50 times or more is taken out of
the text; glyph vectors are trained on the rest, and the characters taken out get theirs from their pictures. What their
neighbours ought to be is known from skip-gram (words_word2vec.py) over the whole text, which never sees a picture. 30
MB take about 5 minutes on two cores; less with --epochs 10 or --seeds 1.

Measured, among the ten nearest characters of the text: how many stand under the same radical, beside chance (radicals
dealt out anew); how many are among the ten nearest by skip-gram. Rank: where the ten nearest by skip-gram stand on
average, 0 % first, 50 % chance. Beside them the same for the picture of another held-out character, and at random.
"Pictures" are the vectors that the network makes, without what a character of the text has learnt for itself.
"""

import argparse
import time
from statistics import mean, stdev
from typing import Any

import numpy as np

NEAREST = 10
OFTEN = 50
MAPPED = [85, 75, 167, 195, 196, 104, 38, 140]  # on the map: water, tree, metal, fish, bird, illness, woman, grass
MATES, HELD = 14, 5  # of each, characters of the text and held out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--font", help="font file; without it one is looked for")
    parser.add_argument("--epochs", type=int, help="of glyph vectors; else their default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--map", help="draw characters that were held out among others: .png, .svg or .pdf")
    args = parser.parse_args()
    from masklab.word_vectors.glyph import Settings, radical, read_characters

    settings: dict[str, Any] = {"font": args.font, "threads": args.threads}
    settings |= {} if args.epochs is None else {"epochs": args.epochs}
    encoded = read_characters(args.corpus, Settings().min_count)
    characters = encoded.vocabulary.words
    radicals = np.array([radical(character) for character in characters])
    chinese = np.count_nonzero(radicals)
    print(f"{encoded.vocabulary.total:,} characters, {len(characters):,} different, {chinese:,} of them Chinese")
    found: dict[str, list[float]] = {}
    for seed in range(args.seeds):
        began = time.perf_counter()
        for name, value in measured(encoded, radicals, Settings(**settings, seed=seed), args.map if not seed else None):
            found.setdefault(name, []).append(value)
        print(f"seed {seed}: {time.perf_counter() - began:.0f} s", flush=True)
    for name, values in found.items():
        deviation = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
        print(f"  {name:<72} {mean(values):6.2f} %{deviation}")


def said(record: dict[str, Any]) -> None:
    """How training went: a line at its end."""
    if record["kind"] == "end":
        print(f"  trained: {record['seconds']:.0f} s, loss {record['loss']:.3f}", flush=True)


def measured(encoded: Any, radicals: np.ndarray, settings: Any, drawn: str | None) -> list[tuple[str, float]]:
    from masklab.word_vectors import word2vec
    from masklab.word_vectors.fonts import code_points, find_font
    from masklab.word_vectors.glyph import train_on, unseen
    from masklab.word_vectors.scan import encode
    from masklab.word_vectors.vocabulary import Vocabulary

    characters, counts = encoded.vocabulary.words, encoded.vocabulary.counts
    random = np.random.default_rng(settings.seed)
    has_picture = np.isin([ord(one) for one in characters], code_points(settings.font or find_font(characters, counts)))
    chinese = (radicals > 0) & has_picture
    often = np.flatnonzero(chinese & (counts >= OFTEN))
    held = np.zeros(len(characters), bool)
    held[random.choice(often, len(often) // 10, replace=False)] = True
    rest = Vocabulary([characters[i] for i in np.flatnonzero(~held)], counts[~held], int(counts[~held].sum()))
    trained = train_on(encode(encoded, vocabulary=rest), settings, watch=said)

    asked = word2vec.Settings(dim=settings.dim, min_count=1, seed=settings.seed, sample=1e-4, threads=settings.threads)
    by_text = word2vec.train(encoded, asked, watch=said)
    numbers = np.array([by_text.vocabulary.index[one] for one in characters])
    truth = unit(by_text.vectors[numbers] - by_text.vectors.mean(0))
    known = chinese[~held]
    table = unit(trained.vectors[known])
    under = radicals[~held][known]
    new = unit(unseen(trained, [characters[i] for i in np.flatnonzero(held)]))
    right = nearest(truth[held] @ truth[~held][known].T)
    if drawn:
        draw_map(trained, characters, radicals, held, drawn)

    chance = np.mean([np.mean(under == one) for one in radicals[held]])
    chance_of_known = np.mean([(np.sum(under == one) - 1) / (len(under) - 1) for one in under])
    not_itself = 2 * np.eye(len(table), dtype=np.float32)
    looks = unit(unseen(trained, [one for one, is_known in zip(rest.words, known, strict=True) if is_known]))

    def mates(near: np.ndarray, asked: np.ndarray) -> Any:
        return np.mean(under[near] == asked[:, None])

    rows = [
        ("same radical, characters of the text", mates(nearest(table @ table.T - not_itself), under)),
        ("same radical, characters of the text, their pictures", mates(nearest(looks @ looks.T - not_itself), under)),
        ("same radical, characters of the text, by chance", chance_of_known),
        ("same radical, held out", mates(nearest(new @ table.T), radicals[held])),
        ("same radical, held out, among pictures", mates(nearest(new @ looks.T), radicals[held])),
        ("same radical, held out, by chance", chance),
    ]
    others = {
        "its picture": new,
        "another's picture": np.roll(new, 1, axis=0),
        "at random": unit(random.standard_normal(new.shape).astype(np.float32)),
    }
    for name, vectors in others.items():
        near = nearest(vectors @ table.T)
        overlap = np.mean([len(set(a) & set(b)) for a, b in zip(near, right, strict=True)]) / NEAREST
        rows.append((f"held out, vector from {name}: nearest that skip-gram has too", overlap))
    for name, vectors in others.items():
        ranks = np.argsort(np.argsort(-(vectors @ table.T), axis=1), axis=1)
        rank = np.mean(np.take_along_axis(ranks, right, axis=1)) / (len(table) - 1)
        rows.append((f"held out, vector from {name}: rank of skip-gram's nearest", rank))
    return [(name.replace("from at random", "at random"), 100 * float(value)) for name, value in rows]


def draw_map(trained: Any, characters: list[str], radicals: np.ndarray, held: np.ndarray, path: str) -> None:
    """Characters of a few radicals, one colour each; those that were held out have a star."""
    from masklab.word_vectors.glyph import unseen
    from masklab.word_vectors.keyed import WordVectors
    from masklab.word_vectors.pictures import save, word_map

    groups: list[list[str]] = []
    rows = []
    for number in MAPPED:
        among = np.flatnonzero(radicals == number)
        new, old = (among[held[among] == which][:count].tolist() for which, count in ((True, HELD), (False, MATES)))
        rows += [unseen(trained, [characters[i] for i in new]) if new else np.empty((0, trained.vectors.shape[1]))]
        rows += [trained.vectors[trained.vocabulary.numbers([characters[i] for i in old])]]
        groups.append([f"{characters[i]}*" for i in new] + [characters[i] for i in old])
    vectors = WordVectors([name for group in groups for name in group], np.concatenate(rows).astype(np.float32))
    save(word_map(vectors, groups, method="tsne"), path)
    print(f"  drawn in {path}: held-out characters have a star")


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))


def nearest(likeness: np.ndarray) -> np.ndarray:
    return np.argsort(-likeness, axis=1, kind="stable")[:, :NEAREST]


if __name__ == "__main__":
    main()
