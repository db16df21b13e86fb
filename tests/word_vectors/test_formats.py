"""Files of word vectors: every format there and back, gensim beside it, and damaged files refused in one line."""

import gzip
from contextlib import suppress

import numpy as np
import pytest

from masklab.errors import BadInput
from masklab.word_vectors import formats
from masklab.word_vectors.formats import detect, format_of, read, write
from masklab.word_vectors.keyed import WordVectors

WORDS = ["the", "naïve", "北京", "<unk>", "3.5", "12", "e", "\N{GRINNING FACE}", "a", "."]
VECTORS = (np.random.default_rng(0).standard_normal((10, 7)) * 10.0 ** np.arange(-5, 5)[:, None]).astype(np.float32)
NAMES = {"v.vec": "word2vec", "v.txt": "word2vec", "v.bin": "word2vec-binary", "v.glove.txt": "glove"}


def same(table, words=WORDS, vectors: np.ndarray = VECTORS):
    assert table.words == words
    assert table.vectors.dtype == np.float32
    assert (table.vectors == vectors).all()


@pytest.mark.parametrize("packed", ["", ".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("name", NAMES)
def test_there_and_back(name, packed, tmp_path, monkeypatch):
    path = tmp_path / (name + packed)
    assert format_of(path) == NAMES[name]
    write(path, WORDS, VECTORS)
    found = detect(path)
    assert found == (NAMES[name], None if "glove" in name else 10, 7)
    first = path.read_bytes()
    write(path, WORDS, VECTORS)
    assert path.read_bytes() == first  # no dates in it
    for block in (1 << 23, 64, 7):
        monkeypatch.setattr(formats, "_BLOCK", block)
        same(read(path))
        same(read(path, limit=4), WORDS[:4], VECTORS[:4])
    write(path, WORDS, VECTORS)  # a few numbers at a time
    same(read(path))


@pytest.mark.parametrize("name", NAMES)
def test_gensim_reads_what_is_written_and_the_other_way_round(name, tmp_path):
    gensim = pytest.importorskip("gensim.models")
    binary, header = name == "v.bin", "glove" not in name
    write(tmp_path / name, WORDS, VECTORS)
    theirs = gensim.KeyedVectors.load_word2vec_format(tmp_path / name, binary=binary, no_header=not header)
    assert theirs.index_to_key == WORDS
    assert (theirs.vectors == VECTORS).all()
    theirs.save_word2vec_format(tmp_path / ("again" + name), binary=binary, write_header=header)
    same(read(tmp_path / ("again" + name)))


def test_word2vec_ends_each_vector_with_a_new_line_and_gensim_does_not(tmp_path):
    rows = np.frombuffer(b"\n\n\n\n 0.1", np.float32).reshape(2, 1)  # bytes that look like ends of lines and spaces
    for end in (b"\n", b""):
        data = b"".join(word + b" " + row.tobytes() + end for word, row in zip((b"one", b"two"), rows, strict=True))
        (tmp_path / "v.bin").write_bytes(b"2 1\n" + data)
        same(read(tmp_path / "v.bin"), ["one", "two"], rows)


def test_any_float_comes_back_the_same(tmp_path):
    bits = np.random.default_rng(1).integers(0, 1 << 32, 4000, dtype=np.uint32)
    bits[:8] = [0, 1 << 31, 1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x7F800000, 0xFF800000]
    values = bits.view(np.float32).reshape(1000, 4)
    values[np.isnan(values)] = 0.5
    told = []
    for name in NAMES:
        write(tmp_path / name, [f"w{i}" for i in range(1000)], values)
        found = read(tmp_path / name, say=told.append)
        assert (found.vectors.view(np.uint32) == values.view(np.uint32)).all()
    assert len(told) == len(NAMES)
    assert "not every number is finite, first in the vector of 'w1'" in told[0]


def test_words_with_spaces_as_in_gloves_largest_file(tmp_path):
    (tmp_path / "g.txt").write_text(
        "the 1 2 3\nof 1 2 3\nand 1 2 3\n. . . 4 5 6\nat name@domain.com 7 8 9\nb e5 3 2 1\n-1 - 0 0 0\n", "utf-8"
    )
    same(read(tmp_path / "g.txt"), ["the", "of", "and", ". . .", "at name@domain.com", "b e5", "-1 -"],
         np.array([[1, 2, 3], [1, 2, 3], [1, 2, 3], [4, 5, 6], [7, 8, 9], [3, 2, 1], [0, 0, 0]]))  # fmt: skip


def test_white_space_within_words_becomes_an_underscore(tmp_path):
    told = []
    for name in NAMES:
        write(tmp_path / name, ["New York", "a\u3000b", "\n"], np.eye(3, dtype=np.float32), say=told.append)
        assert read(tmp_path / name).words == ["New_York", "a\u3000b", "_"]
    assert "2 words have white space in them, written as _, such as 'New York'" in told[0]


ODD_TEXT = {
    "windows": b"2 2\r\na 1 2\r\nb 3 4\r\n",
    "tabs": b"2 2\na\t1\t2\nb\t3\t4\n",
    "blank lines": b"2 2\na 1 2\n\n\nb 3 4\n\n",
    "spaces at the end": b"2 2 \na 1 2 \nb 3 4 \n",
    "no end of line": b"2 2\na 1 2\nb 3 4",
    "many ways to write numbers": b"2 2\na 1.000 +2e0\nb 3.0000000000000000000000 .4E1\n",
    "no header": b"a 1 2\nb 3 4\n",
}


@pytest.mark.parametrize("kind", ODD_TEXT)
def test_odd_text_that_is_read(kind, tmp_path):
    (tmp_path / "v.vec").write_bytes(ODD_TEXT[kind])
    same(read(tmp_path / "v.vec"), ["a", "b"], np.array([[1, 2], [3, 4]]))


def test_of_a_word_that_is_there_twice_the_first_is_taken(tmp_path):
    (tmp_path / "v.vec").write_bytes(b"3 1\na 1\nb 2\na 3\n")
    told = []
    same(read(tmp_path / "v.vec", say=told.append), ["a", "b"], np.array([[1], [2]]))
    assert told == [f"{tmp_path}/v.vec: 1 words are there twice, such as 'a'; the first of each is taken"]


def test_words_that_are_not_utf8(tmp_path):
    cut = "北京".encode()[:4]
    for name, data in {
        "t": b"2 1\nab 1\n" + cut + b" 2\n",
        "b": b"2 1\nab " + bytes(4) + cut + b" " + bytes(4),
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadInput, match=rf"{name}, (line 3|word 2): '北.*xe4' is not UTF-8 .* --undecodable"):
            read(tmp_path / name)
        assert read(tmp_path / name, undecodable="ignore").words == ["ab", "北"]
        assert read(tmp_path / name, undecodable="replace").words == ["ab", "北\ufffd"]


def binary(words, numbers=3):
    return b"".join(word + b" " + np.ones(numbers, "<f4").tobytes() + b"\n" for word in words)


DAMAGED = {
    "nothing": (b"", "is empty"),
    "prose": (b"Once upon a time there was\na king.\n", "neither 'WORDS DIMENSIONS' nor 'word number"),
    "a number spoiled": (b"2 2\na 1 2\nb 3 x4\n", "line 3: 'x4' is not a number"),
    "a number with a comma": (b"2 2\na 1 2\nb 3 1,5\n", "line 3: '1,5' is not a number"),
    "a number of python's": (b"2 2\na 1 2\nb 3 1_000\n", "line 3: '1_000' is not a number"),
    "too few numbers": (b"2 3\na 1 2 3\nb 3 4\n", "line 3: 2 numbers, not 3"),
    "too many numbers": (b"2 2\na 1 2\nb 3 4 5\n", "line 3: more than the 2 numbers"),
    "no word": (b"a 1 2\nb 1 2\n 1 2\n", "line 3: 2 numbers without a word"),
    "text cut off": (b"3 2\na 1 2\nb 3 4\n", "it ends after 2 of the 3 words"),
    "more than promised": (b"1 2\na 1 2\nb 3 4\n", "line 3: more words than the 1"),
    "binary cut off": (b"3 3\n" + binary([b"a", b"b", b"c"])[:-9] + bytes(0), "it ends after 2 of the 3 words"),
    "binary of another length": (b"2 3\n" + binary([b"a", b"b"], 5), "damaged|more in it than"),
    "a promise out of reach": (b"99999999 300\n" + binary([b"a"], 300), "which is more than"),
    "no dimensions": (b"5 0\n", "cannot be"),
    "a pickle": (b"\x80\x04\x95", "is a pickle"),
    "a zip archive": (b"PK\x03\x04rest", "is a zip archive; unpack it"),
    "a gzip file cut off": (gzip.compress(b"2 2\na 1 2\nb 3 4\n" * 999)[:-30], "v.gz"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files_are_refused_in_one_line(kind, tmp_path):
    data, said = DAMAGED[kind]
    path = tmp_path / ("v.gz" if "gzip" in kind else "v.bin")
    path.write_bytes(data)
    with pytest.raises(BadInput, match=said) as error:
        WordVectors.open(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["v.vec", "v.bin"])
def test_a_flipped_byte_never_brings_anything_but_vectors_or_bad_input(name, tmp_path):
    write(tmp_path / name, WORDS, VECTORS)
    whole = (tmp_path / name).read_bytes()
    rng = np.random.default_rng(2)
    for _ in range(300):
        spoiled = bytearray(whole)
        spoiled[rng.integers(len(whole))] = rng.integers(256)
        (tmp_path / name).write_bytes(spoiled[: rng.integers(len(whole))] if rng.random() < 0.3 else spoiled)
        with suppress(BadInput):
            words, vectors = read(tmp_path / name)
            assert len(words) == len(vectors) > 0


def test_names_that_say_no_format(tmp_path):
    for name, said in [("v.npy", "which format is that"), ("v.gz", "which format is compressed, such as v.vec.gz")]:
        with pytest.raises(BadInput, match=said):
            format_of(tmp_path / name)
    assert format_of("a/vectors") == "native"
    with pytest.raises(BadInput, match="does not exist"):
        WordVectors.open(tmp_path / "nowhere")
    with pytest.raises(BadInput, match=r"words.json"):
        WordVectors.open(tmp_path)
    with pytest.raises(BadInput, match="only a fastText model"):
        WordVectors(WORDS, VECTORS).save(tmp_path / "v.bin", "fasttext")
    with pytest.raises(ValueError, match="10 words, but"):
        write(tmp_path / "v.vec", WORDS, VECTORS[:3])
