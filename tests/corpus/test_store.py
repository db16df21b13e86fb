"""The store: the text comes back, the tokens are the tokenizer's, each vocabulary has its own, damage is refused."""

import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zstandard

from masklab.corpus.lay_units import lay
from masklab.corpus.layers import write_layer
from masklab.corpus.prepare import add_vocabulary, prepare
from masklab.corpus.read import Document
from masklab.corpus.store import Store
from masklab.corpus.train_tokenizer import train_wordpiece
from masklab.corpus.units import PHRASE_REAL, PHRASE_START, WORD_REAL, WORD_START
from masklab.errors import BadInput


def prose(seed: int, sentences: int = 12) -> str:
    draw = random.Random(seed)
    words = ["moon", "river", "Cat", "runs", "over", "quickly", "stones", "never", "U.S.", "Zoë", "3.5", "unlikeable"]
    lines = [
        " ".join(draw.choices(words, k=draw.randint(3, 12))) + draw.choice([".", "!", "?\n"]) for _ in range(sentences)
    ]
    return " ".join(lines)


TEXTS = [prose(seed) for seed in range(60)]
TOKENIZER = train_wordpiece(TEXTS, 120)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Store:
    documents = [Document(text, "file", at) for at, text in enumerate(TEXTS)]
    documents[3:3] = [Document(" \n"), documents[0], Document("")]
    return prepare(documents, tmp_path_factory.mktemp("corpus") / "new", 120, held_out=0.05)


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the note of time and memory."""
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return {name: data for name, data in found.items() if not name.endswith("preparation.json")}


def test_text_and_counts(made):
    assert len(made) == 60
    assert [made.text(at) for at in range(60)] == [text.strip() for text in TEXTS] == list(made.texts())
    assert made.document(7).source == "file"
    assert (made.description["empty"], made.description["duplicates"]) == (2, 1)
    assert made.held_out.sum() == 3
    with pytest.raises(IndexError):
        made.text(60)


def test_tokens_are_the_tokenizers(made):
    unigram = np.zeros(made.tokenizer.size, np.int64)
    for name in ("train", "held_out"):
        part = made.part(name)
        assert part.numbers.tolist() == np.flatnonzero(made.held_out == (name == "held_out")).tolist()
        assert [part.text(at) for at in range(len(part))] == list(made.texts(name))
        expected = made.tokenizer.encode(list(made.texts(name)))
        assert np.diff(part.documents).tolist() == [len(ids) for ids in expected]
        assert part.ids.tolist() == [id for ids in expected for id in ids]
        assert part.ids.dtype == np.uint16
        assert len(part.units) == len(part.ids)
        if name == "train":
            unigram += np.bincount(part.ids, minlength=len(unigram))
        assert part.unigram.shape == (made.tokenizer.size,)
    assert (made.part("held_out").unigram == unigram).all()


def test_sentences_and_words(made):
    part = made.part("train")
    assert set(part.documents[:-1].tolist()) <= set(part.sentences.tolist())
    assert (part.units[part.sentences] & WORD_START).all()
    begin, end = part.documents[:2]
    found = [s for s in part.sentences.tolist() if begin <= s < end]
    spoken = [part.tokenizer.decode(part.ids[a:b]) for a, b in zip(found, [*found[1:], end], strict=True)]
    assert len(spoken) > 5
    assert all(s.rstrip(" \"'").endswith((".", "!", "?")) for s in spoken)
    tokens = part.tokenizer.tokens(part.ids[:300])
    for token, unit in zip(tokens, part.units[:300].tolist(), strict=True):
        assert bool(unit & WORD_START) == (not token.startswith("##"))
        assert bool(unit & WORD_REAL) == any(c.isalnum() for c in token)


def test_rows_are_kept_and_a_damaged_copy_is_made_again(made):
    part = made.part("train")
    first = part.rows(32, 2)
    (file,) = made.folder.glob("rows-32-2-packed-train.npz")
    assert (Store(made.path).part("train").rows(32, 2).pieces == first.pieces).all()
    file.write_bytes(b"PK nonsense")
    assert (Store(made.path).part("train").rows(32, 2).pieces == first.pieces).all()
    assert file.stat().st_size > 100
    assert len(part.rows(32, 2, packed=False)) == len(part.rows(32, 2, packed=False).pieces)
    assert Store(made.path).part("train").rows(32, 2).fill == first.fill > 0.97


def test_the_same_input_gives_the_same_bytes(made, tmp_path):
    code = (
        "import sys; from masklab.corpus.prepare import prepare; import json;"
        "prepare(json.load(sys.stdin), sys.argv[1], 120, held_out=0.05)"
    )
    for name in ("a", "b"):
        subprocess.run([sys.executable, "-c", code, tmp_path / name], input=json.dumps(TEXTS), text=True, check=True)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert Store(tmp_path / "a").part("train").hash == made.part("train").hash


def test_it_travels_to_workers(made):
    part = pickle.loads(pickle.dumps(made.part("train")))
    assert len(pickle.dumps(made.part("train"))) < 1000
    assert (part.ids == made.part("train").ids).all()


def test_the_text_is_read_with_zstd_and_json_alone(made):
    decoder = zstandard.ZstdDecompressor()
    with open(made.path / "text.jsonl.zst", "rb") as file, decoder.stream_reader(file, read_across_frames=True) as text:
        lines = text.read().decode().splitlines()
    assert [json.loads(line)["text"] for line in lines] == list(made.texts())
    assert json.loads(lines[7])["source"] == "file"


def test_several_vocabularies_share_one_text(tmp_path):
    marked = [Document("  In New York it rained. ", "news", 3, ((5, 13, "place"), (0, 2, ""))), *TEXTS]
    store = prepare(marked, tmp_path / "new", TOKENIZER, held_out=0.05)
    assert store.document(0) == Document("In New York it rained.", "news", 3, ((3, 11, "place"),))
    before = contents(store.path)
    other = add_vocabulary(store, 300, kind="bpe", workers=1)
    assert other.folder == store.path / f"tokens-{other.tokenizer.hash[:12]}" != store.folder
    assert {name: data for name, data in contents(store.path).items() if name in before} == before
    assert Store(store.path).tokenizer.hash == store.tokenizer.hash
    assert (
        Store(other.folder).tokenizer.hash == other.tokenizer.hash == Store(other.folder).part("train").tokenizer.hash
    )
    assert other.vocabularies == store.vocabularies == [store.folder, other.folder]
    assert other.hash != store.hash
    one, two = store.part("held_out"), other.part("held_out")
    assert one.numbers.tolist() == two.numbers.tolist()
    assert two.ids.tolist() == [id for ids in two.tokenizer.encode(list(other.texts("held_out"))) for id in ids]
    assert add_vocabulary(store, other.tokenizer, workers=1).folder == other.folder
    other.check()
    (two.folder / "ids.npy").write_bytes(b"\x00" * (two.folder / "ids.npy").stat().st_size)
    with pytest.raises(BadInput, match="was changed"):
        store.check()
    stranger = prepare(TEXTS[:30], tmp_path / "stranger", TOKENIZER)
    os.replace(stranger.folder, store.path / "tokens-stranger")
    with pytest.raises(BadInput, match="was made of another text"):
        Store(store.path / "tokens-stranger")


def test_a_vocabulary_added_later_has_the_layers(tmp_path):
    first = prepare(TEXTS, tmp_path / "new", TOKENIZER, held_out=0.05)
    write_layer(first, "phrases", [np.array([[0, min(12, len(text))]]) for text in first.texts()], {"by": "a test"})
    laid, later = lay(first), add_vocabulary(first, 300, kind="bpe", workers=1)
    for store in (laid, later):
        part = store.part("train")
        assert part.layers == ["words", "phrases"]
        assert part.uncut == WORD_START | PHRASE_START
        begins = part.documents[:-1]
        assert (part.units[begins] & (PHRASE_START | PHRASE_REAL) == PHRASE_START | PHRASE_REAL).all()
        assert (part.units & PHRASE_REAL).astype(bool).mean() < 0.5


def test_damage_is_refused_with_one_clear_line(tmp_path):
    path = prepare(TEXTS, tmp_path / "new", TOKENIZER).path
    good = contents(path)
    description = json.loads(good["store.json"])

    def refused(name: str, content: bytes, message: str):
        (path / name).write_bytes(content)
        with pytest.raises(BadInput, match=message) as error:
            Store(path)
        assert "\n" not in str(error.value)
        (path / name).write_bytes(good[name])

    refused("store.json", good["store.json"][:-40], "is damaged")
    refused("store.json", b"[]", "is damaged")
    refused("store.json", b"\xff\xfe", "is damaged")
    refused("store.json", json.dumps({**description, "documents": 1}).encode(), "was edited")
    refused("store.json", json.dumps({**description, "version": 99}).encode(), "format 99")
    refused("held_out.npy", good["held_out.npy"][:-1] + b"\x01", "was changed")
    tokens = description["tokens"]
    refused(f"{tokens}/train/ids.npy", good[f"{tokens}/train/ids.npy"][:-2], "missing or cut short")
    refused(f"{tokens}/tokens.json", good[f"{tokens}/tokens.json"].replace(b"words", b"wards"), "was edited")
    refused(f"{tokens}/train/numbers.npy", good[f"{tokens}/train/numbers.npy"][:-1] + b"\x01", "was changed")
    Store(path).check()
    with pytest.raises(BadInput, match="not a prepared corpus"):
        Store(tmp_path)
    with pytest.raises(BadInput, match="has no part 'test'"):
        Store(path).part("test")
