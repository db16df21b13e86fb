"""Words are counted as Counter and gensim count them, from any source, whatever the blocks, threads and bounds."""

import bz2
import gzip
import lzma
from collections import Counter
from itertools import chain
from pydoc_data.topics import topics

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from masklab.corpus.store import Store
from masklab.errors import BadInput
from masklab.word_vectors import scan
from masklab.word_vectors.scan import Encoded, encode
from masklab.word_vectors.vocabulary import Vocabulary
from masklab.word_vectors.word_table import GAP, LINE

WORD = st.one_of(
    st.sampled_from(["a", "b", "of", "seven77", "eight888", "eight889", "nine99999", "sixteen_bytes_16", "x" * 40]),
    st.text(st.characters(codec="utf-8", min_codepoint=33, exclude_characters="\ufeff"), min_size=1, max_size=12),
)
SENTENCES = st.lists(st.lists(WORD, max_size=12), min_size=1, max_size=12).filter(any)


def counted(sentences, min_count=1):
    """What `encode` must find, in plain Python: words, counts, and the sentences without rare words."""
    counts = Counter(chain.from_iterable(sentences))
    words = [word for word, count in counts.most_common() if count >= min_count]  # ties as they first appeared
    kept = [[word for word in sentence if counts[word] >= min_count] for sentence in sentences]
    return words, [counts[word] for word in words], [sentence for sentence in kept if sentence]


def spelled(encoded: Encoded):
    """The sentences that the numbers stand for."""
    sentences, words = [[]], encoded.vocabulary.words
    for id in encoded.ids.tolist():
        sentences.append([]) if id == LINE else sentences[-1].append("?" if id == GAP else words[id])
    assert sentences.pop() == []  # the last line is ended as well
    return sentences


def same(encoded: Encoded, sentences, min_count=1):
    words, counts, kept = counted(sentences, min_count)
    assert encoded.vocabulary.words == words
    assert encoded.vocabulary.counts.tolist() == counts
    assert spelled(encoded) == kept


@settings(deadline=None, max_examples=60)
@given(SENTENCES, st.integers(1, 2), st.integers(1, 3), st.integers(16, 64))
def test_words_are_counted_and_numbered(sentences, min_count, threads, block):
    """However the text is cut into blocks, and whatever thread reads which."""
    if not counted(sentences, min_count)[0]:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_BLOCK", block)
        found = encode((s for s in sentences), min_count=min_count, threads=threads)
    same(found, sentences, min_count)
    assert found.vocabulary.total == sum(map(len, sentences))


@settings(deadline=None, max_examples=60)
@given(SENTENCES, st.integers(1, 3), st.integers(16, 64), st.sampled_from([" ", "\t", "  ", "\0", " \f"]))
def test_a_file_is_read_like_its_lines(tmp_path_factory, sentences, threads, block, space):
    path = tmp_path_factory.mktemp("text") / "text"
    path.write_bytes("\n".join(space.join(sentence) for sentence in sentences).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_BLOCK", block)
        patch.setattr("masklab.corpus.formats.must_be_text", lambda *_: None)  # so few bytes, so many of them NUL
        same(encode(path, min_count=1, threads=threads, say=lambda _: None), sentences)


@pytest.fixture(scope="module")
def text():
    """Real text of 400 kB: several blocks, blank lines, punctuation, a few letters that are not ASCII."""
    return "\n\n".join(topics[name] for name in sorted(topics))


@pytest.fixture(scope="module")
def file(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "text.txt"
    path.write_text(text, "utf-8", newline="\n")
    return path


def lines(text):
    return [line.split() for line in text.split("\n")]


def test_equal_to_gensim(file):
    from gensim.models.word2vec import LineSentence, Word2Vec

    theirs = Word2Vec(min_count=3)
    theirs.build_vocab(LineSentence(str(file)))
    ours = encode(file, min_count=3).vocabulary
    assert set(ours.words) == set(theirs.wv.index_to_key)  # which orders words of equal count by chance
    assert ours.counts.tolist() == [theirs.wv.get_vecattr(word, "count") for word in ours.words]
    assert ours.total == theirs.corpus_total_words


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(text, file, threads, monkeypatch):
    monkeypatch.setattr(scan, "_BLOCK", 1 << 12)
    same(encode(file, min_count=2, threads=threads), lines(text), 2)


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [(".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress), (".zst", zstandard.compress)],
)
def test_compressed_files(text, file, tmp_path, suffix, compress):
    path = tmp_path / f"text{suffix}"
    raw = file.read_bytes()
    path.write_bytes(compress(raw[: len(raw) // 3]) + compress(raw[len(raw) // 3 :]))  # two members, a word in both
    same(encode(path, min_count=2, threads=1), lines(text), 2)


def test_several_files_and_folders(tmp_path):
    for name, content in {"b.txt": "three", "a.txt": "one two", "in/c.txt": "four\n", ".hidden": "five"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "picture.txt").write_bytes(b"\x89PNG" + bytes(100))
    said = []
    assert spelled(encode(tmp_path, min_count=1, say=said.append)) == [["one", "two"], ["three"], ["four"]]
    assert len(said) == 1
    assert "picture.txt" in said[0]
    (tmp_path / "mac").write_bytes(b"five six\rseven")
    assert spelled(encode(tmp_path / "mac", min_count=1)) == [["five", "six"], ["seven"]]
    named = [tmp_path / "b.txt", str(tmp_path / "a.txt")]  # a word is not continued in the next file
    assert spelled(encode(named, min_count=1)) == [["three"], ["one", "two"]]
    with pytest.raises(BadInput, match=r"picture.txt is a picture"):
        encode([tmp_path / "picture.txt"])


def test_of_records_the_text_is_read(tmp_path):
    said = []
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "one two\\nthree"}\n{"id": 2, "text": "four"}\n')
    (tmp_path / "b.csv").write_bytes(b'id,text\n1,"five, ""six"""\n2,caf\xe9\n')
    every = [["one", "two"], ["three"], ["four"], ["five,", '"six"'], ["caf�"]]
    assert spelled(encode(str(tmp_path / "*"), min_count=1, say=said.append)) == every
    assert [note.split(" ", 1)[1] for note in said] == [
        "is JSON lines: the text of each record is read",
        "is a table with commas (CSV): the text of each record is read",
        "1 bytes that are not UTF-8 are now U+FFFD",
    ]
    (tmp_path / "c.jsonl").write_text('{"review": "one"}\n')
    with pytest.raises(BadInput, match=r"'text'.*review.*masklab prepare .*c.jsonl --field NAME"):
        encode(tmp_path / "c.jsonl", min_count=1, say=said.append)


def test_a_prepared_corpus_gives_its_words(store: Store):
    found = encode(store, min_count=1)
    assert found.vocabulary.words == encode(store.path, min_count=1).vocabulary.words
    assert all(word == word.lower() and any(map(str.isalnum, word)) for word in found.vocabulary.words)
    real = store.part("train")
    assert found.vocabulary.total == np.count_nonzero((real.units & 3) == 3)  # WORD_START and WORD_REAL


@pytest.mark.parametrize("end_of_line", [None, "</s>"])
def test_the_end_of_the_line(end_of_line, tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"b b c\r\n\n\r\n b\nc")
    found = encode(path, min_count=2, end_of_line=end_of_line)
    if end_of_line is None:
        assert spelled(found) == [["b", "b", "c"], ["b"], ["c"]]
    else:  # as word2vec.c counts: at each line feed, none where the file ends; word 0 however rare
        end = end_of_line
        assert spelled(found) == [["b", "b", "c", end], [end], [end], ["b", end], ["c"]]
        assert found.vocabulary.words == [end, "b", "c"]
        assert found.vocabulary.counts.tolist() == [4, 3, 2]
        once = encode([["b", "b", "b"]], min_count=2, end_of_line=end)
        assert once.vocabulary.words == [end, "b"]


def test_the_most_frequent_words():
    sentences = [["a", "b", "b", "c", "c", "c"]]
    found = encode(sentences, min_count=1, max_words=2)
    assert found.vocabulary.words == ["c", "b"]
    assert found.vocabulary.total == 6
    assert spelled(encode(sentences, min_count=2, gaps=True)) == [["?", "b", "b", "c", "c", "c"]]


def test_lower_case(text, file):
    same(encode(file, min_count=2, lowercase=True, threads=1), lines(text.lower()), 2)
    assert encode([["Ä", "ä", "İ", "ΑΣ"]], min_count=1, lowercase=True).vocabulary.words == ["ä", "i̇", "ας"]


def test_what_is_odd_is_said(tmp_path):
    path = tmp_path / "text"
    word = b"y" * 1000
    path.write_bytes(
        b"caf\xe9 caf\xe9 caf\xef\xbf\xbd ok \xff\n" + b"x" * 1001 + b" " + word + b" a\0b " + b"z" * 400_000
    )
    said = []
    found = encode(path, min_count=1, say=said.append)
    assert found.vocabulary.words == ["caf�", "ok", "�", word.decode(), "a", "b"]
    assert found.vocabulary.counts.tolist() == [3, 1, 1, 1, 1, 1]
    assert [note.split()[0] for note in said] == ["3", "2", "1"]  # not UTF-8, too long, NUL


def test_words_that_are_no_words():
    said = []
    found = encode([["New York", "", " is\n", "\0", "\ud800"], []], min_count=1, say=said.append)
    assert found.vocabulary.words == ["New_York", "is", "���"]
    assert "1 words had white space" in said[0]


def test_a_vocabulary_that_is_given(text, file):
    vocabulary = Vocabulary(["zebra", "the", "of", "two words"], np.array([1, 1, 1, 1]), 4)
    found = encode(file, vocabulary=vocabulary, max_table=1000, threads=2, say=lambda _: None)
    assert found.vocabulary is vocabulary
    kept = [[word for word in line if word in ("the", "of")] for line in lines(text)]
    assert spelled(found) == [line for line in kept if line]


def test_a_vocabulary_that_grows():
    old = encode([["a", "a", "b", "b", "c", "c"]], min_count=2).vocabulary
    found = encode([["d", "d", "b", "e"]], min_count=2, vocabulary=old, grow=True)
    assert found.vocabulary.words == ["a", "b", "c", "d"]
    assert found.vocabulary.counts.tolist() == [2, 3, 2, 2]  # b once more, though it is rare here
    assert found.vocabulary.total == 10
    assert found.ids.tolist() == [3, 3, 1, LINE]


def test_what_is_encoded_can_be_encoded_further(text, file):
    every = encode(file, min_count=1)
    same(encode(every, min_count=4), lines(text), 4)
    few = encode(file, min_count=50).vocabulary
    assert encode(every, vocabulary=few).ids.tolist() == encode(file, vocabulary=few).ids.tolist()
    with pytest.raises(BadInput, match="encoded already"):
        encode(every, lowercase=True)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_table_that_is_full_forgets_its_rarest_words(text, file, threads):
    said = []
    found = encode(file, min_count=1, max_table=1500, threads=threads, say=said.append)
    words, counts, _ = counted(lines(text))
    exact = dict(zip(words, counts, strict=True))
    assert len(found.vocabulary) <= 1500 < len(words)
    assert "were forgotten" in said[0]
    assert found.vocabulary.words[:20] == words[:20]  # the frequent ones are whole
    assert found.vocabulary.counts[:20].tolist() == counts[:20]
    for word, count in zip(found.vocabulary.words, found.vocabulary.counts.tolist(), strict=True):
        assert count <= exact[word]
    ids = found.ids[found.ids >= 0]  # text and counts tell the same story
    assert np.bincount(ids).tolist() == found.vocabulary.counts.tolist()
    lost = int(said[0].split(" of the words read")[0].split()[-1].replace(",", ""))
    assert found.vocabulary.total == len(ids) + lost


def test_large_numbers_stay_on_disk(file, monkeypatch, tmp_path):
    in_memory = encode(file, min_count=2)
    monkeypatch.setattr(scan, "_MAPPED", 1000)
    mapped = encode(file, min_count=2, folder=tmp_path)
    assert isinstance(mapped.ids.base, np.memmap)
    assert mapped.ids.tolist() == in_memory.ids.tolist()
    assert not list(tmp_path.iterdir())  # nothing is left behind


@pytest.mark.parametrize(
    ("corpus", "options", "message"),
    [
        (["no/such/file"], {}, "no/such/file does not exist"),
        (iter(["a text"]), {}, "sentence 1 is a text"),
        (iter([["a"], 5]), {}, "sentence 2 is no list of words"),
        ([["a", b"b"]], {}, "no word"),
        ([["a"], "b"], {}, "mixes"),
        ([[]], {}, "no word"),
        ([["a"]], {"min_count": 2}, "min_count=2 times"),
        ([["a"]], {"min_count": 0}, "min_count=0"),
        ([["a"]], {"max_words": 0}, "max_words=0"),
    ],
)
def test_bad_input(corpus, options, message):
    with pytest.raises(BadInput, match=message):
        encode(corpus, **options)


def test_merged_vocabularies():
    one = Vocabulary(["a", "b"], np.array([5, 3]), 9)
    both = one.merged(Vocabulary(["c", "b"], np.array([4, 2]), 6))
    assert both.words == ["a", "b", "c"]
    assert both.counts.tolist() == [5, 5, 4]
    assert both.total == 15
    assert "c" in both
    assert both.numbers(["c", "x"]).tolist() == [2, -1]
