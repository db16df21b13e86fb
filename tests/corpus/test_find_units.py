"""Layers of a whole corpus: found, kept, laid over every vocabulary, and never half there; as the command does it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from masklab.cli import app
from masklab.corpus import encode, find_units, lay_units, layers, tokens
from masklab.corpus.lay_units import lay
from masklab.corpus.layers import Layer, write_layer
from masklab.corpus.phrases import Thresholds
from masklab.corpus.prepare import add_vocabulary, prepare
from masklab.corpus.read import Document
from masklab.corpus.store import Store
from masklab.corpus.units import ENTITY_REAL, ENTITY_START, PHRASE_REAL, PHRASE_START, WORD_START, longest_first
from masklab.errors import BadInput

ENGLISH = "He moved to New York in {0}. In New York City it rained {0} times, said Ada Lovelace. York is old."
CHINESE = "北京大学生前来应聘，机器学习很有用{0}。今天天气很好，我们去公园散步{0}。"
TRADITIONAL = "乾隆皇帝著書，瞭解後來發生的經濟學問題{0}。"


def documents(count: int = 30) -> list[Document]:
    found = [Document(f"{ENGLISH.format(i)}\n{CHINESE.format(i)}") for i in range(count)]
    text = "Ada Lovelace of London."
    return [*found, Document(text, entities=((0, 12, "person"), (4, 12, "name"), (16, 22, "city")))]


@pytest.fixture
def store(tmp_path) -> Store:
    return prepare(documents(), tmp_path / "corpus", 260, held_out=0.1, workers=1)


def call(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    return done.output if done.exit_code == 0 else f"{done.exit_code}: {done.output}{done.exception}"


def real(store: Store, layer: str) -> dict[str, int]:
    """The real units of the training part, as its tokens spell them."""
    part, bit = store.part("train"), {"phrases": PHRASE_START, "entities": ENTITY_START, "words": WORD_START}[layer]
    starts = np.flatnonzero(part.units & bit)
    found: dict[str, int] = {}
    for a, b in zip(starts, [*starts[1:], len(part.units)], strict=True):
        if part.units[a] & 2 * bit:
            text = part.tokenizer.decode(part.ids[a:b]).strip()
            found[text] = found.get(text, 0) + 1
    return found


def test_words_phrases_and_names(store):
    said: list[tuple] = []
    words = find_units.words(store, progress=lambda *about: said.append(about))
    assert said[-1] == ("words", len(store), len(store))
    assert words.spellings["今天天气"] == 30
    assert words.covered == sum(len(word) * n for word, n in words.spellings.items())
    assert {"机", "今"} <= set(real(store, "words"))  # the unit bytes are another step
    store = lay(store)
    assert store.tokens_description["layers"] == ["words"]
    assert real(store, "words")["今 天 天 气"] == 27
    phrases = find_units.find_phrases(store, thresholds=Thresholds(20, 0.5, 3))
    assert {"New York", "Ada Lovelace"} <= {phrase.text for phrase in phrases.phrases}
    names = find_units.entities(store, None)
    assert names.types == {"person": 1, "city": 1}  # the longest of those that overlap
    store = lay(store)
    assert store.tokens_description["layers"] == ["words", "phrases", "entities"]
    assert set(real(store, "phrases")) & {"in new york", "moved to new"}  # of those that overlap the longest, the first
    assert set(real(store, "entities")) <= {"ada lovelace", "london"}
    part = store.part("train")
    assert part.uncut == WORD_START | PHRASE_START | ENTITY_START
    for row in part.rows(24, 2).pieces:  # no row is cut inside a unit of any layer
        assert part.units[row[0]] & part.uncut == part.uncut
    assert store.check()[0] > 10


def test_a_vocabulary_added_later_gets_the_same_layers(store, tmp_path):
    find_units.entities(store, _file(tmp_path / "names", "New York City\tplace\nYork\tplace\nAda Lovelace\tperson\n"))
    first = lay(store)
    for kind in ("bpe", "unigram", "character"):
        other = add_vocabulary(first, 420, kind=kind, workers=1)
        assert other.tokens_description["layers"] == ["words", "entities"]
        assert {"".join(name.split()).lower(): n for name, n in real(other, "entities").items()} == {
            "".join(name.split()): n for name, n in real(first, "entities").items()
        }
    find_units.words(store)
    again = lay(Store(store.path))  # all four at once
    assert all(Store(folder).tokens_description["layers"] == ["words", "entities"] for folder in again.vocabularies)
    assert len(again.vocabularies) == 4
    assert real(Store(other.folder), "words")["今天天气"] == real(again, "words")["今 天 天 气"] == 27


def _file(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def test_processes_find_what_one_finds(store, monkeypatch):
    found = find_units.words(store)
    spans = [found.layer.of(i) for i in range(len(store))]
    monkeypatch.setattr(find_units, "BATCH", 400)
    two = find_units.words(store, workers=2)
    assert [two.layer.of(i).tolist() for i in range(len(store))] == [some.tolist() for some in spans]
    assert (two.layer.hash, two.spellings) == (found.layer.hash, found.spellings)


def test_batches_change_nothing(store, monkeypatch):
    find_units.words(store)
    find_units.find_phrases(store, thresholds=Thresholds(20))
    once = lay(store)
    units, hashes = np.array(once.part("train").units), once.tokens_description["layer_hashes"]
    monkeypatch.setattr(find_units, "BATCH", 300)
    monkeypatch.setattr(tokens, "_AT_ONCE", 200)
    write_layer(once, "entities", [np.array([[0, 2]])] * len(once), {"by": "a test"})
    find_units.words(once)
    find_units.find_phrases(once, thresholds=Thresholds(20))
    again = lay(once)
    assert {name: again.tokens_description["layer_hashes"][name] for name in hashes} == hashes
    assert np.array_equal(again.part("train").units & 15, units)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_a_very_long_document_is_laid_in_stretches(tmp_path, monkeypatch, kind):
    """Units that reach over a cut are one unit, and on several cores nothing changes."""
    text = "\n".join(document.text for document in documents(12))
    whole = prepare([text, "other"], tmp_path / "corpus", 420, kind=kind, held_out=0, workers=1)
    find_units.words(whole)
    space = [at for at, sign in enumerate(text) if sign == " "]
    over = longest_first(np.array([[at - 1, at + 2] for at in space]))  # over spaces, where cuts are
    write_layer(whole, "entities", [over, np.zeros((0, 2))], {"by": "a test"})
    write_layer(whole, "phrases", [np.array([[0, len(text) // 2]]), np.zeros((0, 2))], {"by": "a test"})
    units = np.array(lay(whole).part("train").units)
    parts = Store(whole.path).tokens_description["parts"]
    for most, at_once, workers in ((97, 200, 1), (60, 60, 2), (1 << 20, 50, 1)):
        monkeypatch.setattr(encode, "STRETCH", most)
        monkeypatch.setattr(tokens, "_AT_ONCE", at_once)
        monkeypatch.setattr(tokens, "_ALONE", 0)
        again = prepare([text, "other"], tmp_path / f"{most}", whole.tokenizer, held_out=0, workers=1)
        write_layer(again, "entities", [over, np.zeros((0, 2))], {"by": "a test"})
        write_layer(again, "phrases", [np.array([[0, len(text) // 2]]), np.zeros((0, 2))], {"by": "a test"})
        find_units.words(again)
        laid = lay(again, workers=workers)
        assert np.array_equal(laid.part("train").units, units)
        assert laid.tokens_description["parts"] == parts


def test_a_crash_leaves_the_old_layer_whole(store, monkeypatch):
    find_units.words(store)
    before = lay(store)
    units = np.array(before.part("train").units)
    find_units.entities(before)
    written = layers.describe

    def crash(file, *rest):
        raise KeyboardInterrupt

    monkeypatch.setattr(layers, "describe", crash)
    monkeypatch.setattr(lay_units, "describe", crash)
    with pytest.raises(KeyboardInterrupt):
        lay(before)
    with pytest.raises(KeyboardInterrupt):
        find_units.find_phrases(before, thresholds=Thresholds(20))
    half = Store(store.path)
    half.check()
    assert half.tokens_description["layers"] == ["words"]
    assert np.array_equal(half.part("train").units, units)
    assert not list(store.path.glob("layers/.*")) + list(store.path.glob("layers/phrases"))
    monkeypatch.setattr(lay_units, "describe", written)
    after = lay(half)
    assert after.tokens_description["layers"] == ["words", "entities"]
    assert np.array_equal(after.part("train").units & 3, units)
    assert len(list(after.folder.glob("train/units*"))) == 1  # what is not needed any more is gone
    after.check()


def test_two_vocabularies_one_of_them_laid(store, monkeypatch):
    """Stopped between two vocabularies: one has the layer, one has not, both are whole; the next call does the rest."""
    other = add_vocabulary(store, 420, kind="bpe", workers=1)
    find_units.entities(store)
    one, done = lay_units._lay_one, []

    def stopping(*about):
        if done:
            raise KeyboardInterrupt
        one(*about)
        done.append(about)

    monkeypatch.setattr(lay_units, "_lay_one", stopping)
    with pytest.raises(KeyboardInterrupt):
        lay(store)
    present = [Store(folder).tokens_description["layers"] for folder in (store.folder, other.folder)]
    assert present == [["words", "entities"], ["words"]]
    Store(store.path).check()
    monkeypatch.setattr(lay_units, "_lay_one", one)
    lay(store)
    assert Store(other.folder).tokens_description["layers"] == ["words", "entities"]


def test_damage_does_not_pass_for_a_layer(store):
    find_units.entities(store)
    ids = store.folder / "train" / "ids.npy"
    good = ids.read_bytes()
    ids.write_bytes(good[:-2] + b"\x01\x00")
    with pytest.raises(BadInput, match="was changed since"):
        lay(store)
    ids.write_bytes(good)
    spans = store.path / "layers" / "entities" / "spans.npy"
    spans.write_bytes(spans.read_bytes()[:-1] + b"\x09")
    with pytest.raises(BadInput, match="was changed"):
        lay(store)
    with pytest.raises(BadInput, match="no layer 'letters'"):
        write_layer(store, "letters", [], {})
    with pytest.raises(ValueError, match="spans of 1 documents for a corpus of"):
        write_layer(store, "phrases", [np.zeros((0, 2))], {})
    assert not list(store.path.glob("layers/*letters*")) + list(store.path.glob("layers/*phrases*"))


def test_nothing_found_leaves_what_was_there(store, tmp_path):
    find_units.entities(store)
    kept = Layer(store.path, "entities").hash
    with pytest.raises(BadInput, match=r"none of the names of the list occurs in it.*--ignore-case"):
        find_units.entities(store, _file(tmp_path / "names", "ada lovelace\n"))
    assert Layer(store.path, "entities").hash == kept
    found = find_units.entities(store, _file(tmp_path / "names", "ada lovelace\n"), ignore_case=True)
    assert found.spellings == {"Ada Lovelace": 31}
    english = prepare([ENGLISH.format(i) for i in range(30)], tmp_path / "english", 150, workers=1)
    for ask, message in [
        (lambda: find_units.words(english), "no Chinese word in it"),
        (lambda: find_units.find_phrases(english, thresholds=Thresholds(500)), "smaller --least or --npmi"),
        (lambda: find_units.find_phrases(english, _file(tmp_path / "l", "a b\n")), "none of the phrases of the list"),
        (lambda: find_units.entities(english), 'no document carries entities; JSON lines do: {"text"'),
    ]:
        with pytest.raises(BadInput, match=message):
            ask()
    assert not (english.path / "layers").exists() or not os.listdir(english.path / "layers")


def test_entities_lose_the_space_around_them(tmp_path):
    marked = Document("In New York it rained.", entities=((2, 12, "place"), (11, 12, "nothing")))
    store = prepare([marked, "Another document."], tmp_path / "corpus", 60, held_out=0.0, workers=1)
    assert find_units.entities(store).layer.of(0).tolist() == [[3, 11]]


def test_the_command(tmp_path):
    lines = [{"text": d.text, "entities": [list(e) for e in d.entities]} for d in documents()]
    lines += [{"text": TRADITIONAL.format(i)} for i in range(3)]
    file = _file(tmp_path / "text.jsonl", "\n".join(map(json.dumps, lines)))
    corpus = tmp_path / "corpus"
    call("prepare", file, "--out", corpus, "--vocabulary", "260", "--held-out", "0.1", "--workers", "1")
    dictionary = _file(tmp_path / "words", "应聘很\n大学生前来\n")
    shown = call("units", corpus, f"--words={dictionary}", "--phrases", "--entities", "--threads", "1", "--least", "10",
                 "--list", tmp_path / "phrases.tsv")  # fmt: skip
    for part in ("大学生前来", "npmi at least", "0.50", "New York", "person 1", "layers: words, phrases, entities",
                 "most frequent", "phrases written to", "are traditional: --simplify"):  # fmt: skip
        assert part in shown, part
    assert Layer(corpus, "words").settings["dictionary"]["file"] == "words"
    listed = (tmp_path / "phrases.tsv").read_text("utf-8").splitlines()
    assert all(len(line.split("\t")) == 3 for line in listed)
    kept = [line for line in listed if line.startswith("New York\t")]
    _file(tmp_path / "mended.tsv", "\n".join(kept))
    shown = call("units", corpus, "--phrases", tmp_path / "mended.tsv")
    assert "1 different ones" in shown
    assert Layer(corpus, "phrases").settings["by"] == "list"
    assert "--simplify" not in call("units", corpus, "--words", "--simplify", "--threads", "1")
    assert "place 60" in call("units", corpus, "--entities", _file(tmp_path / "names.tsv", "New York\tplace\n"))
    for wrong, message in [
        ((), "say what to find"),
        (("--entities", tmp_path / "none.tsv"), "does not exist"),
        (("--tagger", "m", "--entities", "names.tsv"), "--tagger finds the entities itself"),
        (("--words", tmp_path / "none"), "does not exist"),
        (("--phrases", "--least", "1"), "what occurs once is no phrase"),
    ]:
        assert message in call("units", corpus, *wrong), message
    assert "not a prepared corpus" in call("units", tmp_path, "--words")


def test_bits_of_absent_layers_are_never_set(store):
    assert not (store.part("train").units & (PHRASE_REAL | PHRASE_START | ENTITY_REAL | ENTITY_START)).any()
    find_units.entities(store)
    assert not (lay(store).part("train").units & (PHRASE_REAL | PHRASE_START)).any()
