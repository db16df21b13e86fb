"""Words of a corpus as numbers and as letters: nothing is lost, rare words are counted together, layers are kept to."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masklab.corpus import spelling
from masklab.corpus.layers import write_layer
from masklab.corpus.prepare import prepare
from masklab.corpus.spelling import BEGIN, END, FILL, marks, read, spelled
from masklab.corpus.store import Store
from masklab.corpus.store_words import StoreWords, WordList, WordPart, reader_of
from masklab.errors import BadInput


def test_letters_by_hand():
    """The table of the released models: byte + 1, then marks; "é" is two bytes."""
    assert spelled(["cat", "é"], 7).tolist() == [
        [BEGIN, 100, 98, 117, END, FILL, FILL],
        [BEGIN, 0xC3 + 1, 0xA9 + 1, END, FILL, FILL, FILL],
    ]
    assert marks(5).tolist() == [[259, 257, 260, 261, 261], [259, 258, 260, 261, 261]]
    assert [read(row) for row in marks()] == ["<S>", "</S>"]
    assert spelled([], 7).shape == (0, 7)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), max_size=8))
@settings(deadline=None)
def test_letters_spell_the_word_back_up_to_fifty(words: list[str]):
    rows = spelled(words)
    assert rows.shape == (len(words), spelling.LENGTH)
    assert not len(rows) or (int(rows.max()) < spelling.SYMBOLS and int(rows.min()) > 0)
    for word, row in zip(words, rows, strict=True):
        data = word.encode()[:48]
        assert read(row) == data.decode("utf-8", "replace")
        assert (row == END).sum() == 1


@pytest.fixture(scope="module")
def words(store: Store) -> StoreWords:
    return StoreWords(store.path)


def text_of(part: WordPart, document: int) -> list[str]:
    a, b = part.documents[document : document + 2]
    return [part.spell(int(number))[0] for number in part.ids[a:b]]


def test_every_document_word_by_word(store: Store, words: StoreWords):
    """The words and signs of the text in order, as written: joined, they are the text without its white space."""
    for name in ("train", "held_out"):
        part = words.part(name, words.vocabulary(100))
        texts = list(store.texts(name))
        assert len(part) == len(texts)
        for number, text in enumerate(texts):
            found = text_of(part, number)
            plain = "".join(text.split())
            if all(len(word.encode()) <= 48 for word in text.split()):
                assert "".join(found) == plain
            assert len(found) > 10


def test_numbers_are_by_frequency_and_rare_words_are_one_class(words: StoreWords):
    vocabulary = words.vocabulary(50)
    part = words.part("train", vocabulary)
    assert (vocabulary.size, len(vocabulary.words)) == (50, 49)
    counts = np.bincount(part.ids, minlength=len(part.classes))
    assert (np.diff(counts) <= 0).all()
    assert part.classes[:60].tolist() == [*range(1, 50), *[0] * 11]
    assert part.counts[1:].tolist() == counts[:49].tolist()
    assert part.counts[0] == counts[49:].sum()
    assert vocabulary.word(0) == "<UNK>"
    assert vocabulary.word(1) == part.spell(0)[0]
    other = words.part("train", WordList(["unheard of", vocabulary.words[3]]))
    assert np.flatnonzero(other.classes).tolist() == [3]
    assert words.vocabulary(10**9).size == 1 + np.count_nonzero(counts)


def test_rows_hold_every_word_once(words: StoreWords):
    part = words.part("train", words.vocabulary(50))
    rows = part.rows(32)
    spans = np.concatenate([rows[i] for i in range(len(rows))])
    covered = np.zeros(len(part.ids), int)
    for a, b in spans:
        covered[a:b] += 1
    assert (covered == 1).all()
    assert rows.fill > 0.98


def test_found_once_and_damage_is_refused(tmp_path: Path):
    store = prepare(["one two two. Three three three!", "four five"], tmp_path / "s", 60, held_out=0.0)
    first = StoreWords(store.path)
    file = first.folder / "counts.npy"
    before = file.stat().st_mtime_ns
    assert StoreWords(store.path).folder == first.folder
    assert file.stat().st_mtime_ns == before
    vocabulary = first.vocabulary(100)
    vocabulary.save(tmp_path)
    assert vocabulary.words == ["two", "three", "one", ".", "Three", "!", "four", "five"]  # of equals the first met
    assert reader_of(tmp_path).words == vocabulary.words
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BadInput, match="cut short"):
        StoreWords(store.path)
    with pytest.raises(BadInput, match="no part"):
        first.part("test", vocabulary)
    with pytest.raises(BadInput, match="missing"):
        WordList.from_file(tmp_path / "nowhere")


def test_segmented_words_are_taken_from_their_layer(tmp_path: Path):
    store = prepare(["我爱北京。", "北京很大"], tmp_path / "s", 60, held_out=0.0)
    plain = StoreWords(store.path)
    assert text_of(plain.part("train", plain.vocabulary(9)), 0) == ["我", "爱", "北", "京", "。"]
    write_layer(store, "words", [np.array([[2, 4]]), np.array([[0, 2]])], {"by": "hand"})
    found = StoreWords(store.path)
    assert found.folder != plain.folder
    part = found.part("train", found.vocabulary(9))
    assert [text_of(part, i) for i in (0, 1)] == [["我", "爱", "北京", "。"], ["北京", "很", "大"]]


def test_a_corpus_that_may_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = prepare(["one two two", "four"], tmp_path / "s", 60, held_out=0.0)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("masklab.files.atomic_folder", refuse)
    found = StoreWords(store.path)
    assert found.folder.parent != store.path
    assert found.vocabulary(3).words == ["two", "one"]
