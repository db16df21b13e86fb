"""T5: transformers' logits both ways, in both forms; who sees whom across; writing with and without a cache."""

from typing import Any

import pytest
import torch
import transformers
from torch import nn

from masklab.errors import BadInput
from masklab.models import hub
from masklab.models.config import Config
from masklab.models.generate import greedy, padded
from masklab.models.heads import ClassifyHead, LMHead
from masklab.models.local_start import Start, start
from masklab.models.pattern import Layout, causal
from masklab.models.positions import bucket
from masklab.models.transformer import Memory, Model

FORMS = {
    "1.0": {},
    "1.1": {"gated": True, "tied": False},
    "odd": {"gated": True, "key_width": 6, "decoder_layers": 3},
}


def tiny(form: str) -> Config:
    values = {
        "vocabulary": 90, "layers": 2, "decoder_layers": 2, "width": 32, "heads": 4, "feed_forward": 48,
        "max_length": 40, "norm_eps": 1e-6, "dropout": 0.0, "attention_dropout": 0.0,
    }  # fmt: skip
    return Config("t5", **(values | FORMS[form]))  # type: ignore[arg-type]


def build(config: Config) -> tuple[Model, LMHead]:
    torch.manual_seed(1)
    model = Model(config)
    start(model, Start())
    head = LMHead(config, model.embeddings)
    with torch.no_grad():
        for p in [*model.parameters(), *head.parameters()]:
            p.add_(0.1 * torch.randn_like(p))
    return model.eval(), head.eval()


def logits(model: Model, head: nn.Module, read, written) -> torch.Tensor:
    memory = Memory(model(read, layout=Layout("bidirectional")).last, read)
    assert model.decoder is not None
    return head(model.decoder(written, layout=Layout("causal"), memory=memory).last)


@pytest.mark.parametrize("form", FORMS)
def test_both_ways(form, tmp_path, make_rows):
    config = tiny(form)
    model, head = build(config)
    name = hub.save(tmp_path, config, model, {"lm": head})
    assert name == "T5ForConditionalGeneration"
    theirs, info = getattr(transformers, name).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    assert theirs.num_parameters() == config.parameters(["lm"])
    read, written = make_rows([[9], [6]], 9), make_rows([[7], [5]], 7, pattern=causal, seed=3)
    real = written.document >= 0
    with torch.no_grad():
        there = theirs.eval()(
            input_ids=read.tokens.long(),
            attention_mask=(read.document >= 0).long(),
            decoder_input_ids=written.tokens.long(),
        ).logits
    torch.testing.assert_close(logits(model, head, read, written)[real], there[real], atol=3e-5, rtol=0)

    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(0.05 * torch.randn_like(p))
        there = theirs(input_ids=read.tokens[:1].long(), decoder_input_ids=written.tokens[:1].long()).logits
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = hub.load(tmp_path / "theirs", dropout=0.0)
    assert (loaded.new, loaded.unused) == ([], [])
    assert loaded.config == config
    read, written = make_rows([[9]], 9), make_rows([[7]], 7, pattern=causal, seed=3)
    here = logits(loaded.model, loaded.heads["lm"], read._replace(tokens=read.tokens), written)
    torch.testing.assert_close(here, there, atol=3e-5, rtol=0)


@pytest.mark.parametrize("kernel", ["reference", "plain", "sdpa"])
def test_side_by_side_is_as_alone_and_nobody_peeks(kernel, make_rows):
    model, head = build(tiny("1.0"))
    for one in (model, model.decoder):
        assert one is not None
        one.kernel = kernel
    read, written = make_rows([[5, 3]], 9), make_rows([[4, 6]], 12, pattern=causal, seed=3)
    both = logits(model, head, read, written)
    for a, b in ((slice(0, 5), slice(0, 4)), (slice(5, 8), slice(4, 10))):
        alone = logits(model, head, type(read)(*(x[:, a] for x in read)), type(read)(*(x[:, b] for x in written)))
        torch.testing.assert_close(both[:, b], alone, atol=2e-5, rtol=0)
    assert torch.isfinite(both).all()  # padding too

    table = model.embeddings.tokens
    seen: list[torch.Tensor] = []
    hook = table.register_forward_hook(lambda _m, _i, out: seen.append(out.requires_grad_()) or out)
    for slot in (2, 6):  # of the first document, of the second
        seen.clear()
        out = logits(model, head, read, written)[0, slot].sum()
        encoder, decoder = torch.autograd.grad(out, seen[:2])
        reads, writes = (x[0].abs().sum(-1) > 0 for x in (encoder, decoder))
        first = slot < 4
        assert reads.tolist() == [first] * 5 + [not first] * 3 + [False]
        assert writes.tolist() == [(first and i <= slot) or (not first and 4 <= i <= slot) for i in range(12)]
    hook.remove()


def test_buckets_that_look_back_only():
    layer = transformers.models.t5.modeling_t5.T5Attention
    distance = torch.arange(-300, 20)
    theirs = layer._relative_position_bucket(distance, bidirectional=False, num_buckets=32, max_distance=128)
    assert torch.equal(bucket(distance, back_only=True), theirs)


@pytest.mark.parametrize("form", FORMS)
def test_writing_is_transformers_own(form, tmp_path):
    """Greedy tokens equal, with padding in the batch, with and without the cache."""
    config = tiny(form)
    model, head = build(config)
    hub.save(tmp_path, config, model, {"lm": head})
    theirs: Any = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path).eval()
    documents = [[7, 8, 9, 3], [44, 3], [60, 61, 3], [5, 6, 7, 8, 9, 3]]
    read = padded(documents, config.pad)
    end = 3
    ours = greedy(model, head, read, end=end, longest=12)
    assert ours == greedy(model, head, read, end=end, longest=12, cached=False)
    written = theirs.generate(
        input_ids=read.tokens.long(), attention_mask=(read.document >= 0).long(), max_new_tokens=12, do_sample=False,
        num_beams=1, use_cache=config.layers == config.decoder_layers,  # theirs has places for the encoder's
        eos_token_id=end, pad_token_id=config.pad, decoder_start_token_id=config.pad,
    )  # fmt: skip
    for mine, row in zip(ours, written[:, 1:].tolist(), strict=True):  # type: ignore[union-attr]
        assert mine == (row[: row.index(end)] if end in row else row)
    assert len({tuple(x) for x in ours}) > 1
    every = [token for row in ours for token in row]
    often = max(set(every), key=every.count)  # a token that is surely written ends a row early
    early = greedy(model, head, read, end=often, longest=12)
    assert [x[: x.index(often)] if often in x else x for x in ours] == early


def test_a_local_start_looks_at_neighbours(make_rows):
    model = Model(tiny("1.0"))
    start(model, Start("local"))
    for stack in (model, model.decoder):
        assert stack is not None
        assert stack.relative_bias is not None
        bias = stack.relative_bias(20)
        assert int(bias[0, 10].argmax()) == 9


def test_refused(tmp_path):
    model, head = build(tiny("1.0"))
    with pytest.raises(BadInput, match="text to text"):
        ClassifyHead(model.config, 3, nn.ModuleDict())
    with pytest.raises(BadInput, match="only t5"):
        Config("bert", decoder_layers=2)
    with pytest.raises(BadInput, match="only reads"):
        greedy(Model(Config("bert", 90, 1, 32, 4, 48)), head, padded([[5]], 0), end=3)
    hub.save(tmp_path, model.config, model, {"lm": head})
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"relu"', '"gated-silu"'))
    with pytest.raises(BadInput, match="gated-silu"):
        hub.load(tmp_path)
