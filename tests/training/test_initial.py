"""An untrained model as a folder: transformers opens it whole, it looks at its neighbours, its card's code is true."""

import re
from dataclasses import replace

import pytest
import torch
import transformers

from masklab.errors import BadInput
from masklab.models.local_start import OFFSETS
from masklab.recipe import load, override
from masklab.training import initial
from masklab.training.session import build

SMALL = ["model.width=64", "model.heads=2", "model.feed_forward=96", "threads=1"]


def opened(folder):
    """The model that transformers makes of a folder, and what it says was missing, unexpected or of another shape."""
    (name,) = transformers.AutoConfig.from_pretrained(folder).architectures or [""]
    model, said = getattr(transformers, name).from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager"
    )
    return model, [found for kind, found in said.items() if kind != "error_msgs" and found]


@pytest.mark.parametrize("name", ["bert", "mpnet", "modernbert", "spanbert", "electra", "t5"])
def test_transformers_opens_it_and_its_heads_peak_at_their_offsets(name, store, tmp_path):
    made = override(load(name, data=str(store.path)), SMALL)
    initial.write(made, tmp_path / "start")
    model, wrong = opened(tmp_path / "start")
    assert not wrong
    trunk = model.get_encoder() if name == "t5" else model
    text = torch.from_numpy(store.part("train").ids[:120].astype("int64")).view(2, 60)
    with torch.no_grad():
        weights = trunk.eval()(input_ids=text, output_attentions=True).attentions[0]  # (B, H, T, T)
    local = 1 if name in ("mpnet", "t5") else 2
    for head in range(local):
        inside = weights[:, head].mean(0)
        average = {offset: inside.diagonal(offset)[4:-4].mean().item() for offset in range(-30, 31)}
        assert max(average, key=average.__getitem__) == OFFSETS[head]
        assert average[OFFSETS[head]] > 0.3


def test_it_is_where_a_run_begins_and_a_run_goes_on_from_it(store, tmp_path):
    made = override(load("bert", data=str(store.path)), [*SMALL, "seed=3"])
    initial.write(made, tmp_path / "start")
    model, _ = opened(tmp_path / "start")
    ours = build(made).pretrainer.model
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, ours.embeddings.tokens.weight)
    again = override(made, [f"start={tmp_path / 'start'}", "embeddings=random", "precision=fp32"])
    first = build(again).pretrainer.model.state_dict()
    assert all(torch.equal(x, first[key]) for key, x in ours.state_dict().items())


def code_of(folder) -> str:
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.DOTALL)[0]


def step(model) -> None:
    """One step of AdamW that would move everything, decay included."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 0.1, weight_decay=0.1)
    ids = torch.arange(10, 40).view(1, 30)
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()


def test_the_code_of_the_card_protects_what_it_says(store, tmp_path, monkeypatch):
    initial.write(override(load("bert", data=str(store.path)), SMALL), tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code_of(tmp_path), names)
    model = names["model"]
    assert not any(isinstance(m, torch.nn.Dropout) and m.p for m in model.modules())
    tables = model.bert.embeddings
    before = tables.position_embeddings.weight.detach().clone()
    words = tables.word_embeddings.weight.detach().clone()
    step(model)
    assert torch.equal(tables.position_embeddings.weight, before)
    assert tables.word_embeddings.weight[:, :32].abs().max() == 0
    assert not torch.equal(tables.word_embeddings.weight[:, 32:], words[:, 32:])


@pytest.mark.parametrize(("name", "change"), [("bert", "initial.protect=False"), ("modernbert", "seed=1"),
                                              ("bert", "initial.kind=random")])  # fmt: skip
def test_what_needs_no_protection_has_none(name, change, store, tmp_path, monkeypatch):
    initial.write(override(load(name, data=str(store.path)), [*SMALL, change]), tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code_of(tmp_path), names)
    assert "requires_grad_" not in code_of(tmp_path)
    step(names["model"])


def test_a_tokenizer_is_enough(store, tmp_path):
    made = override(load("bert"), [*SMALL, "embeddings=random"])
    initial.write(made, tmp_path / "start", str(store.folder))
    model, wrong = opened(tmp_path / "start")
    assert not wrong
    assert model.config.vocab_size == store.tokenizer.size
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "start").mask_token_id == store.tokenizer.mask


def test_what_cannot_be_is_said(store, tmp_path):
    made = override(load("bert", data=str(store.path)), SMALL)
    (tmp_path / "file").write_text("mine", "utf-8")
    with pytest.raises(BadInput, match="new folder"):
        initial.write(made, tmp_path)
    with pytest.raises(BadInput, match="--data"):
        initial.write(replace(made, data=""), tmp_path / "a", str(store.folder))
    with pytest.raises(BadInput, match="masklab pretrain"):
        initial.write(load("elmo", data=str(store.path)), tmp_path / "a")
    with pytest.raises(BadInput, match=r"model\.inner=0"):
        initial.write(override(load("electra", data=str(store.path)), [*SMALL, "model.inner=32"]), tmp_path / "a")
    assert not (tmp_path / "a").exists()
