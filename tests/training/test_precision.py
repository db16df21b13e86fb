"""How a run computes: chosen once, written down, kept on resume; fp16 skips what overflows and resumes to the bit."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from masklab.errors import BadInput
from masklab.models import attention
from masklab.models.config import Config
from masklab.models.elmo import ElmoConfig
from masklab.models.transformer import Model
from masklab.recipe import Recipe
from masklab.training import precision
from masklab.training.batches import IGNORE, Batch, collate
from masklab.training.checkpoint import latest
from masklab.training.loop import train
from masklab.training.precision import Scaler, choose, choose_attention, choose_compiled, install
from masklab.training.session import build

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("gain", "auto"), [(1.1, "fp32"), (1.3, "bf16")])
def test_bf16_where_it_is_faster_by_a_fifth(gain: float, auto: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(precision, "peak", lambda where, name, seconds: {"fp32": 1.0}.get(name, gain))
    assert choose("auto", CPU) == auto
    assert choose("fp32", CPU) == "fp32"
    assert choose("fp16", CPU) == "fp16"


@pytest.mark.parametrize(("capability", "half"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_gpus_without_bf16_get_fp16(capability: tuple[int, int], half: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(precision, "peak", lambda where, name, seconds: {"fp32": 1.0}.get(name, 8.0))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert choose("auto", GPU) == half


def test_the_kernel_is_measured_at_the_shape_of_the_run_and_recorded(tiny: Recipe, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def measured(where, dtype, layout, **shape):
        asked.append((dtype, layout.kind, layout.full, shape))
        return "plain"

    monkeypatch.setattr(precision, "fastest", measured)
    session = build(replace(tiny, attention="auto", batches=replace(tiny.batches, accumulate=2)))
    shape = {"rows": 4, "length": 64, "heads": 2, "head_size": 16, "biased": False}
    assert asked == [(torch.float32, "bidirectional", False, shape)]
    assert session.environment["attention"] == "plain"
    assert session.pretrainer.model.kernel == "plain"
    again = build(replace(tiny, attention="auto"), session.environment | {"attention": "reference"})
    assert len(asked) == 1
    assert again.environment["attention"] == again.pretrainer.model.kernel == "reference"
    assert build(replace(tiny, attention="sdpa")).environment["attention"] == "sdpa"
    assert len(asked) == 1


def test_kernels_that_are_not_to_be_had():
    with pytest.raises(BadInput, match="attention=auto"):
        choose_attention("varlen", Config(), "bidirectional", "bf16", CPU, rows=1, length=8)
    assert choose_attention("auto", ElmoConfig(), "none", "fp32", CPU, rows=1, length=8) == "auto"


def test_compiled_on_gpus_where_it_pays():
    assert [choose_compiled(None, seconds, GPU) for seconds in (None, 60.0, 600.0)] == [True, False, True]
    assert not choose_compiled(None, None, CPU)
    assert choose_compiled(True, 1.0, CPU)


def test_compiled_layers_compute_the_same(monkeypatch: pytest.MonkeyPatch):
    """All layers of a stack are compiled, and the same code computes them (here: by the backend that only traces)."""
    config = Config(vocabulary=90, layers=3, width=32, heads=4, feed_forward=48, max_length=16, dropout=0.0,
                    attention_dropout=0.0)  # fmt: skip
    model = Model(config)
    zeros = torch.zeros(2, 16, dtype=torch.int32)
    document = (torch.arange(16) > 9).int().expand(2, 16)
    inputs = attention.Inputs(zeros + 5, zeros, zeros, document, zeros, zeros)
    at = torch.tensor([[3, 11], [0, 2]])

    def run():
        last = model(inputs, layout=attention.Layout("bidirectional"), at=at).last
        return last, *torch.autograd.grad(last.square().sum(), list(model.parameters()))

    expected, calls, real = run(), [], nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **more: real(self, backend=counting, **more))

    def counting(graph, _example):
        calls.append(graph)
        return graph.forward

    install(model, "sdpa", compiled=True)
    for ours, theirs in zip(run(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    assert len(calls) == 2  # every slot asks, or few of them
    run()
    assert len(calls) == 2
    assert all("_orig" not in name for name in model.state_dict())


def test_the_scaler_does_what_torch_s_does():
    ours, theirs = Scaler(2.0**16), torch.amp.GradScaler("cpu", init_scale=2.0**16)
    p = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([p], lr=0.0)
    for step in range(4100):
        gradient = math.inf if step in (0, 5, 6, 2050) else 1.0
        p.grad = torch.tensor([gradient * ours.scale])
        theirs.scale(torch.ones(()))
        theirs.step(optimizer)
        theirs.update()
        p.grad = torch.tensor([gradient * ours.scale])
        ours.unscale([p])
        assert ours.takes(float(p.grad)) == (gradient == 1.0)
        assert gradient != 1.0 or float(p.grad) == 1.0
        assert ours.scale == theirs.get_scale()
    assert ours.skipped == 4
    assert ours.scale == 2.0**14  # four halvings, two doublings


def test_other_precisions_are_not_scaled():
    scaler = Scaler.begin("bf16")
    assert all(scaler.takes(norm) for norm in [1.0] * 2001)
    assert scaler == Scaler.begin("fp32")


def test_what_was_measured_is_in_the_recipe_that_repeats_a_run(tiny: Recipe, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(precision, "fastest", lambda *_, **__: "plain")
    monkeypatch.setattr(precision, "peak", lambda where, name, seconds: {"fp32": 1.0}.get(name, 2.0))
    again = train(replace(tiny, attention="auto", precision="auto")).again()
    assert (again.precision, again.attention) == ("bf16", "plain")


class Interrupt(Exception):
    pass


def test_fp16_skips_overflows_and_resumes_to_the_same_bits(tiny: Recipe, tmp_path: Path, monkeypatch):
    """The first factor is one at which this run's gradients overflow."""
    monkeypatch.setattr(Scaler, "begin", lambda _: Scaler(2.0**40))
    recipe = replace(tiny, precision="fp16", log_every=1, batches=replace(tiny.batches, lengths=((0.0, 32),)))
    straight = train(recipe, tmp_path / "straight")
    steps = [r for r in straight.history if r["kind"] == "step"]
    assert steps[0]["skipped"] == 1
    assert steps[-1]["skipped"] >= 5
    assert steps[-1]["scale"] == 2.0 ** (40 - steps[-1]["skipped"])

    def crash(record):
        if record["kind"] == "checkpoint" and record["step"] == 8:
            raise Interrupt

    with pytest.raises(Interrupt):
        train(recipe, tmp_path / "run", crash)
    saved = latest(tmp_path / "run" / "checkpoints", print)
    assert saved is not None
    assert saved[1].values["scaler"]["skipped"] == steps[7]["skipped"]
    run = train(recipe, tmp_path / "run")
    assert [r["terms"] for r in run.history if r["kind"] == "step"] == [r["terms"] for r in steps]
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("run", "straight"))
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_fp16_learns_as_fp32_does(no_dropout: Recipe):
    settings = replace(no_dropout, log_every=12)
    wide, narrow = (train(replace(settings, precision=name)).result["held_out"]["masked"]["loss"]
                    for name in ("fp32", "fp16"))  # fmt: skip
    assert narrow == pytest.approx(wide, abs=0.02)


def test_asked_slots_come_in_few_numbers_on_gpus(monkeypatch: pytest.MonkeyPatch):
    """Padded to an eighth of the row, with targets that ask for nothing; the loss does not change."""
    from masklab.models.heads import MaskedLMHead
    from masklab.objectives.masked_lm import MaskedLM
    from masklab.training.batches import Example

    def example(asked: int) -> Example:
        random = attention.torch.Generator().manual_seed(asked)
        inputs = attention.Inputs(*torch.randint(5, 90, (6, 64), generator=random, dtype=torch.int32).numpy())
        inputs = inputs._replace(position=inputs.position * 0, segment=inputs.segment * 0, document=inputs.document * 0)
        slots = torch.arange(asked).numpy()
        return Example(inputs, {"masked": slots}, {"masked": slots + 7, "hidden": slots + 7, "all": inputs.tokens})

    batch = collate([example(9), example(11)])
    steady: Batch = batch.steady()
    assert steady.at["masked"].shape == steady.targets["masked"].shape == steady.targets["hidden"].shape == (2, 16)
    assert steady.targets["all"].shape == (2, 64)
    assert (steady.targets["masked"][:, 11:] == IGNORE).all()
    assert steady.counts == batch.counts
    model = Model(Config(vocabulary=90, layers=2, width=32, heads=4, feed_forward=48, max_length=64))
    heads = nn.ModuleDict({"masked_lm": MaskedLMHead(model.config, model.embeddings)})
    model.eval()
    losses = [MaskedLM().loss(model, heads, one)["masked"] for one in (batch, steady)]
    torch.testing.assert_close(losses[0].total, losses[1].total)
    assert losses[0].count == losses[1].count == 20
    assert steady.steady().at["masked"].shape == (2, 16)
