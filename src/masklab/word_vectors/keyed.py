"""Words and their vectors, ready for use: nearest words, analogies, similarity, the odd one out, means of documents.

Every search is a matrix product over blocks of the table, so a table that is memory-mapped need not fit into memory and
a hundred questions cost little more than one. Similarity is cosine throughout. Analogies: Mikolov et al. 2013,
"Linguistic regularities in continuous space word representations" (3CosAdd); Levy and Goldberg 2014, "Linguistic
regularities in sparse and explicit word representations", eq. 4 (3CosMul). Weighted means: Arora et al. 2017, "A simple
but tough-to-beat baseline for sentence embeddings".
"""

import difflib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from masklab.errors import BadInput
from masklab.word_vectors import formats
from masklab.word_vectors.trained import Trained
from masklab.word_vectors.vocabulary import Vocabulary

Say = Callable[[str], None]
Method = Literal["add", "mul"]
Query = str | np.ndarray
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (block (m, dim), its norms (m,)) -> (queries, m)
_TOGETHER = 256  # questions in one matrix product
_SCORES = 1 << 20  # similarities held at a time: 4 MB, which stay near the processor
_NUMBERS = 1 << 24  # numbers of the table looked at at a time: 64 MB
_FIRST = 2048  # words in the first block


class Near(NamedTuple):
    word: str
    similarity: float


class UnknownWord(BadInput, KeyError):
    """A word without a vector; the message names words that look like it."""

    def __str__(self) -> str:
        return self.args[0]


class WordVectors:
    """`words[i]` has the vector `vectors[i]`; a small i is a frequent word, in all files that are in use.

    vectors: (words, dim) float32, may be memory-mapped. counts: (words,) int64, how often each word stood in the text,
    where that is known. unseen: gives a vector to a word that is not among `words` (fastText's from its letters,
    glyph's from its picture).
    """

    def __init__(
        self,
        words: list[str],
        vectors: np.ndarray,
        counts: np.ndarray | None = None,
        unseen: Callable[[str], np.ndarray] | None = None,
        trained: Trained | None = None,
    ):
        if vectors.ndim != 2 or len(words) != len(vectors):
            raise ValueError(f"{len(words)} words, but vectors of shape {vectors.shape}")
        self.words = words
        self.vectors: np.ndarray = np.asarray(vectors, np.float32)
        self.counts = counts
        self.unseen = unseen
        self.trained = trained  # where they come from, if masklab trained them: saved whole, to be trained further

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        limit: int | None = None,
        counts: str | Path | None = None,
        undecodable: formats.Undecodable = "strict",
        say: Say | None = None,
    ) -> "WordVectors":
        """A folder of masklab's (memory-mapped), or a word2vec, GloVe or fastText file, told by its bytes.

        limit: only so many words from the beginning. counts: a file of lines "word count" for a file of vectors that
        has none. undecodable: "replace" or "ignore" for words that are not UTF-8. say: is told what was left out.
        """
        path = Path(path)
        if not path.exists():
            raise BadInput(f"{path} does not exist; name a folder of `masklab words`, or a file of word vectors")
        form = formats.detect(path).format
        if form in ("native", "fasttext"):
            found = cls.from_trained(_native(path) if form == "native" else _fasttext(path))
            if limit is not None and limit < len(found):
                found = found.first(limit)
        else:
            found = cls(*formats.read(path, limit=limit, undecodable=undecodable, say=say))
        if counts is not None:
            known = formats.read_counts(counts)
            found.counts = np.array([known.get(word, 0) for word in found.words], np.int64)
        return found

    @classmethod
    def from_trained(cls, trained: Trained) -> "WordVectors":
        counts = trained.vocabulary.counts if trained.vocabulary.counts.any() else None
        return cls(trained.vocabulary.words, trained.vectors, counts, _unseen(trained), trained)

    @classmethod
    def from_gensim(cls, vectors: Any) -> "WordVectors":
        """From gensim's KeyedVectors (of word2vec or fastText), or a model that has them as `wv`."""
        vectors = getattr(vectors, "wv", vectors)
        counts = vectors.expandos.get("count")
        unseen = vectors.get_vector if hasattr(vectors, "vectors_ngrams") else None
        return cls(list(vectors.index_to_key), vectors.vectors, None if counts is None else counts.copy(), unseen)

    def to_gensim(self) -> Any:
        """gensim's KeyedVectors with a copy of the vectors, and the counts where they are known."""
        try:
            from gensim.models import KeyedVectors
        except ImportError:
            raise BadInput("gensim is not installed: pip install gensim") from None
        made = KeyedVectors(self.dim)
        made.add_vectors(self.words, self.vectors)
        if self.counts is not None:
            for word, count in zip(self.words, self.counts.tolist(), strict=True):
                made.set_vecattr(word, "count", count)
        return made

    def save(self, path: str | Path, form: formats.Format | None = None, say: Say | None = None) -> None:
        """Write them where and how the name says: a folder, .vec or .txt, .bin, .glove.txt, each with .gz and the like.

        What masklab trained goes to a folder with all that training needs to go on, and a fastText model to .bin in
        fastText's own format; `form` says otherwise.
        """
        own = self.trained if self.trained and len(self.trained.vocabulary) == len(self) else None
        subwords = own is not None and own.method in ("fasttext", "supervised")
        if form is None:
            form = formats.format_of(path)
            form = "fasttext" if subwords and form == "word2vec-binary" else form
        if form == "native":
            (own or Trained("vectors", self._vocabulary(), {"dim": self.dim}, self.vectors)).save(path)
        elif form == "fasttext":
            if own is None or not subwords:
                raise BadInput(f"{path}: only a fastText model has what that file holds; end the name in .vec or .txt")
            from masklab.word_vectors.fasttext_files import write_bin

            write_bin(own, path)
        else:
            formats.write(path, self.words, self.vectors, form, say)

    def _vocabulary(self) -> Vocabulary:
        words = [formats.without_spaces(word) for word in self.words]
        counts = np.zeros(len(self), np.int64) if self.counts is None else self.counts
        return Vocabulary(words, counts, int(counts.sum()))

    @property
    def dim(self) -> int:
        return self.vectors.shape[1]

    @cached_property
    def index(self) -> dict[str, int]:
        """The number of each word."""
        return {word: number for number, word in enumerate(self.words)}

    @cached_property
    def norms(self) -> np.ndarray:
        """(words,) float32: the length of each vector, 1 where it is nothing but zeros."""
        norms = np.empty(len(self), np.float32)
        step = max(1, _NUMBERS // self.dim)
        for start in range(0, len(self), step):
            norms[start : start + step] = np.linalg.norm(self.vectors[start : start + step], axis=1)
        norms[norms == 0] = 1
        return norms

    @cached_property
    def unit(self) -> np.ndarray:
        """(words, dim) float32: every vector with length 1. A copy of the whole table; no method here needs it."""
        return self.vectors / self.norms[:, None]

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self.index

    def __getitem__(self, word: str | Sequence[str]) -> np.ndarray:
        """The vector (dim,) of a word, or (words, dim) of several; an UnknownWord for one that has none."""
        if not isinstance(word, str):
            return np.stack([self[one] for one in word]) if len(word) else np.empty((0, self.dim), np.float32)
        number = self.index.get(word)
        if number is not None:
            return self.vectors[number]
        if self.unseen is None:
            raise UnknownWord(f"{word!r} is not among the {len(self):,} words{self._looks_like(word)}")
        return self.unseen(word)

    def first(self, count: int) -> "WordVectors":
        """The first words alone, which are the most frequent ones in all files in use."""
        counts = None if self.counts is None else self.counts[:count]
        return WordVectors(self.words[:count], self.vectors[:count], counts, self.unseen, self.trained)

    def some(self, words: Sequence[str]) -> "WordVectors":
        """These words alone, in this order; unseen ones are given their vector if that can be done."""
        counts = None
        if self.counts is not None:
            counts = np.array([self.counts[self.index[w]] if w in self.index else 0 for w in words], np.int64)
        return WordVectors(list(words), self[list(words)], counts, self.unseen)

    def similarity(self, a: str, b: str) -> float:
        """The cosine of the angle between two words' vectors, from -1 to 1."""
        return float(np.dot(_normal(self[a]), _normal(self[b])))

    def nearest(
        self, positive: Query | Sequence[Query], k: int = 10, *, negative: Query | Sequence[Query] = (),
        among: int | None = None,
    ) -> list[Near]:  # fmt: skip
        """The `k` words nearest to a word or vector, or to the sum of several less the negative ones.

        Words are added up with length 1, vectors as they are. The words asked about are left out. among: look at the
        first so many words only.
        """
        plus, minus = _listed(positive), _listed(negative)
        total = np.zeros(self.dim, np.float32)
        for sign, some in ((1, plus), (-1, minus)):
            for one in some:
                total += sign * (_normal(self[one]) if isinstance(one, str) else np.asarray(one, np.float32))
        asked = {self.index.get(one, -1) for one in (*plus, *minus) if isinstance(one, str)}
        return self._near(*self._top(_normal(total)[None], k + len(asked), among), [asked], k)[0]

    def nearest_to_each(
        self, queries: Sequence[str] | np.ndarray, k: int = 10, *, among: int | None = None
    ) -> list[list[Near]]:
        """`nearest` for many words, or for the rows of an array (queries, dim), in a fraction of the time."""
        rows = queries if isinstance(queries, np.ndarray) else self[queries]
        asked = [set() if isinstance(one, np.ndarray) else {self.index.get(one, -1)} for one in queries]
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-30))
        found = []
        for start in range(0, len(rows), _TOGETHER):
            some = slice(start, start + _TOGETHER)
            found += self._near(*self._top(rows[some].astype(np.float32), k + 1, among), asked[some], k)
        return found

    def analogy(
        self, a: str, b: str, c: str, k: int = 10, *, method: Method = "add", among: int | None = None
    ) -> list[Near]:
        """a is to b as c is to ...? The `k` best answers, a, b and c themselves left out.

        "add": nearest to b - a + c (3CosAdd). "mul": the product of the similarities to b and c over that to a, each
        moved to 0..1 (3CosMul), which keeps one large similarity from deciding alone; its figures are no cosines.
        """
        words = (a, b, c)
        rows = np.stack([_normal(self[word]) for word in words])
        asked = {self.index.get(word, -1) for word in words}
        numbers, scores = self._answers(rows[None], k + 3, method, among)
        return self._near(numbers, scores, [asked], k)[0]

    def answers(
        self, questions: np.ndarray, k: int, method: Method = "add", among: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Many analogies by the numbers of their words a, b, c: (questions, 3) int -> numbers and scores.

        Both are (questions, k), the best first; a, b and c are not left out.
        """
        found = []
        for start in range(0, len(questions), _TOGETHER):
            places = questions[start : start + _TOGETHER]
            rows = self.vectors[places] / self.norms[places][..., None]
            found.append(self._answers(rows, k, method, among))
        if not found:
            return np.empty((0, k), np.int64), np.empty((0, k), np.float32)
        return np.concatenate([numbers for numbers, _ in found]), np.concatenate([scores for _, scores in found])

    def odd_one_out(self, words: Sequence[str]) -> str:
        """The word that is least like the mean of all of them."""
        return min(self.by_centrality(words), key=lambda near: near.similarity).word

    def by_centrality(self, words: Sequence[str]) -> list[Near]:
        """Each word's similarity to the mean of all of them, the most central word first."""
        if len(words) < 2:
            raise BadInput("name at least two words (three, for one of them to be odd)")
        words = list(words)
        rows = np.stack([_normal(self[word]) for word in words])
        scores = rows @ _normal(rows.mean(0))
        order = np.argsort(-scores, kind="stable")
        return [Near(words[i], float(scores[i])) for i in order.tolist()]

    def mean(self, document: str | Sequence[str], *, unit: bool = False) -> np.ndarray:
        """The mean vector (dim,) of a document's words, given as a list or as text parted by white space.

        Words without a vector are left out; a document of such words alone is all zeros. unit: take every word's vector
        with length 1, so that frequent words, which have the longer ones, weigh no more than others.
        """
        return self.means([document], unit=unit)[0]

    def means(
        self, documents: Iterable[str | Sequence[str]], *, unit: bool = False, sif: float | None = None
    ) -> np.ndarray:
        """The mean vector of each document: (documents, dim) float32.

        sif: smooth inverse frequency (Arora et al. 2017, algorithm 1). A word of probability p weighs sif / (sif + p)
        (1e-3 is their value), and of two documents or more what all have in common is taken out: the first singular
        vector of the matrix of means. Needs the words' counts.
        """
        weights = None if sif is None else self._rarity(sif)
        found = []
        for document in documents:
            words = document.split() if isinstance(document, str) else list(document)
            numbers = np.array([self.index.get(word, -1) for word in words], np.int64)
            seen = numbers[numbers >= 0]
            rows = self.vectors[seen]
            if unit:
                rows = rows / self.norms[seen][:, None]
            total = rows.sum(0) if weights is None else weights[seen] @ rows
            count = len(seen)
            if self.unseen is not None:
                for place in np.flatnonzero(numbers < 0).tolist():
                    row = self.unseen(words[place])
                    total = total + (_normal(row) if unit else row)  # as rare as a word can be: its weight is 1
                    count += 1
            found.append(total / max(count, 1))
        means = np.array(found, np.float32).reshape(-1, self.dim)
        if sif is not None and len(means) > 1:
            common = np.linalg.svd(means, full_matrices=False)[2][0]
            means -= np.outer(means @ common, common)
        return means

    def _rarity(self, sif: float) -> np.ndarray:
        if self.counts is None:
            raise BadInput(
                "weights by frequency need the words' counts, which these vectors lack; give the file of lines "
                "'word count' that the trainer wrote (--counts), or a folder of `masklab words`"
            )
        return (sif / (sif + self.counts / max(1, self.counts.sum()))).astype(np.float32)

    def _looks_like(self, word: str) -> str:
        """Says which known words differ from an unknown one in little: in case, or in a letter or two."""
        cased = [w for w in (word.lower(), word.capitalize(), word.upper(), word.replace(" ", "_")) if w in self]
        like = list(dict.fromkeys(cased)) or difflib.get_close_matches(word.lower(), self.words[:20_000], 3, 0.75)
        return f"; did you mean {' or '.join(like)}?" if like else ""

    def _answers(self, rows: np.ndarray, k: int, method: Method, among: int | None) -> tuple[np.ndarray, np.ndarray]:
        """`rows`: (questions, 3, dim), the vectors of a, b and c with length 1."""
        if method == "add":
            wanted = rows[:, 1] - rows[:, 0] + rows[:, 2]
            wanted /= np.maximum(np.linalg.norm(wanted, axis=1, keepdims=True), np.float32(1e-30))
            return self._top(wanted, k, among)
        if method != "mul":
            raise BadInput(f"there is no way {method!r} to solve an analogy; choose add (3CosAdd) or mul (3CosMul)")

        def score(block: np.ndarray, norms: np.ndarray) -> np.ndarray:
            a, b, c = ((1 + _divided(rows[:, i] @ block.T, norms)) / 2 for i in range(3))
            return b * c / (a + np.float32(1e-6))

        return self._top(rows[:, 0], k, among, score)

    def _top(
        self, queries: np.ndarray, k: int, among: int | None = None, score: Score | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best words for each query: numbers and scores, (queries, k), the best first, equals by their number.

        queries: (queries, dim) with length 1. score: of a block of the table and its norms, cosines otherwise.
        The first block is small and its best are found by sorting; of every further one only what beats the k-th best
        so far is looked at, which soon is hardly anything.
        """
        score = score or (lambda block, norms: _divided(queries @ block.T, norms))
        end = len(self) if among is None else min(among, len(self))
        n, k = len(queries), min(k, end)
        size = max(1, min(_SCORES // n, _NUMBERS // self.dim))
        start, stop = 0, min(end, max(_FIRST, 4 * k))
        query, numbers, scores = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
        while start < end:
            block = score(self.vectors[start:stop], self.norms[start:stop])
            if start == 0:
                rows, columns = np.repeat(np.arange(n), k), np.argpartition(-block, k - 1, axis=1)[:, :k].ravel()
            else:
                rows, columns = np.divmod(np.flatnonzero(block > scores.reshape(n, k)[:, -1:]), stop - start)
            query = np.concatenate([query, rows])
            numbers = np.concatenate([numbers, columns + start])
            scores = np.concatenate([scores, block[rows, columns]])
            order = np.lexsort((numbers, -scores, query))
            rank = np.arange(len(order)) - np.searchsorted(query[order], query[order])
            order = order[rank < k]
            query, numbers, scores = query[order], numbers[order], scores[order]
            start, stop = stop, min(end, stop + size)
        return numbers.reshape(n, k), scores.reshape(n, k)

    def _near(self, numbers: np.ndarray, scores: np.ndarray, asked: list[set[int]], k: int) -> list[list[Near]]:
        """Words in place of numbers, without those that were asked about."""
        return [
            [Near(self.words[i], s) for i, s in zip(row, similar, strict=True) if i not in without][:k]
            for row, similar, without in zip(numbers.tolist(), scores.tolist(), asked, strict=True)
        ]


def _normal(vector: np.ndarray) -> np.ndarray:
    """With length 1, unless it is nothing but zeros; in double precision on the way, as gensim has it."""
    wide = vector.astype(np.float64)
    length = np.sqrt(np.dot(wide, wide))
    return (wide * (1 / length)).astype(np.float32) if length > 0 else vector


def _divided(products: np.ndarray, norms: np.ndarray) -> np.ndarray:
    products /= norms
    return products


def _listed(queries: Query | Sequence[Query]) -> list[Query]:
    """A word or vector alone -> a list of it."""
    if isinstance(queries, str) or (isinstance(queries, np.ndarray) and queries.ndim == 1):
        return [queries]
    return list(queries)


def _native(path: Path) -> Trained:
    if not (path / "words.json").exists():
        raise BadInput(f"{path} is a folder without words.json in it; name a folder of `masklab words`, or a file")
    return Trained.load(path)


def _fasttext(path: Path) -> Trained:
    from masklab.word_vectors.fasttext_files import read_bin

    return read_bin(path)


def _unseen(trained: Trained) -> Callable[[str], np.ndarray] | None:
    """How unseen words get a vector, if the method gives them one."""
    if trained.method == "fasttext":
        from masklab.word_vectors.fasttext_rows import Unseen

        return Unseen(trained)
    if trained.method == "glyph":
        from masklab.word_vectors.glyph import unseen

        return lambda character: unseen(trained, [character])[0]
    return None
