"""ELMo's network against torch's own LSTM and adaptive softmax, and that no reader sees what is not on its side."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from masklab.corpus.spelling import spelled
from masklab.errors import BadInput
from masklab.models import hub
from masklab.models.elmo import Elmo, ElmoConfig, Speller, WordSoftmax
from masklab.models.lstm import BothWays, _Recurrence, from_both_ends, plain, remembers, side_by_side
from masklab.models.pattern import Inputs
from masklab.models.tagger import FeatureTagger, ScalarMix
from masklab.models.vocabulary import IGNORE

TINY = ElmoConfig(layers=2, width=6, cells=10, filters=((1, 4), (2, 5), (3, 6)), characters=4, dropout=0.0)


def inputs_of(words: list[list[str]], length: int) -> tuple[Inputs, torch.Tensor]:
    """One row: documents side by side, then padding."""
    flat = [word for document in words for word in document]
    names = sorted(set(flat))
    tokens = torch.full((1, length), -1)
    tokens[0, : len(flat)] = torch.tensor([names.index(word) for word in flat])
    document = torch.full((1, length), -1)
    document[0, : len(flat)] = torch.tensor([d for d, some in enumerate(words) for _ in some])
    features = torch.zeros(1, length, 50, dtype=torch.int64)
    features[0, : len(flat)] = torch.from_numpy(spelled(flat).astype(np.int64))
    nothing = torch.zeros(1, length, dtype=torch.int64)
    return Inputs(tokens, nothing, nothing, document, nothing, nothing), features


def test_the_recurrence_is_its_slow_twin_in_value_and_gradient():
    torch.manual_seed(0)
    gates = torch.randn(2, 7, 3, 20, dtype=torch.float64, requires_grad=True)
    state = torch.randn(2, 4, 20, dtype=torch.float64, requires_grad=True)
    out = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    keep = (torch.rand(2, 7, 3, 1) < 0.6).double()
    weight = torch.randn(2, 7, 3, 4, dtype=torch.float64)
    slow = plain(gates, state, out, keep)
    wanted = torch.autograd.grad((slow * weight).sum(), (gates, state, out))
    ours = [x.detach().float().requires_grad_() for x in (gates, state, out)]
    fast = _Recurrence.apply(*ours, keep.float())
    assert isinstance(fast, torch.Tensor)
    torch.testing.assert_close(fast, slow.float(), atol=1e-5, rtol=1e-5)
    found = torch.autograd.grad((fast * weight.float()).sum(), ours)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b.float(), atol=2e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_both_readers_are_torchs_lstm_with_projections():
    torch.manual_seed(1)
    layer = BothWays(6, 10)
    x = torch.randn(3, 8, 6)
    document = torch.zeros(3, 8, dtype=torch.int64)
    found = side_by_side(layer(from_both_ends(x), remembers(document)))
    order = [0, 1, 3, 2]  # torch's gates: input, forget, candidate, output
    for number, (reader, flip) in enumerate(((layer.ahead, False), (layer.back, True))):
        theirs = nn.LSTM(6, 10, proj_size=6, batch_first=True)
        with torch.no_grad():
            for name, weight in (("weight_ih_l0", reader.input.weight), ("weight_hh_l0", reader.state.weight),
                                 ("bias_ih_l0", reader.input.bias)):  # fmt: skip
                getattr(theirs, name).copy_(weight.view(4, 10, *weight.shape[1:])[order].flatten(0, 1))
            nn.init.zeros_(theirs.get_parameter("bias_hh_l0"))
            theirs.get_parameter("weight_hr_l0").copy_(reader.out.weight)
            wanted = theirs(x.flip(1) if flip else x)[0]
        torch.testing.assert_close(found[..., 6 * number : 6 * number + 6], wanted.flip(1) if flip else wanted)


def test_where_a_reader_forgets():
    document = torch.tensor([[0, 0, 1, 1, 1, -1, -1]])
    ahead, back = remembers(document)[:, :, 0, 0]
    assert ahead.tolist() == [0, 1, 0, 1, 1, 0, 0]
    assert back.tolist() == [0, 0, 0, 1, 1, 0, 1]  # from the right: padding, padding, 1, 1, 1, 0, 0


def test_no_reader_sees_what_is_not_on_its_side():
    """d state / d word is 0 but for words of the same document up to it (ahead) or from it on (back); all layers."""
    torch.manual_seed(2)
    model = Elmo(TINY)
    inputs, features = inputs_of([["a", "quick", "fox"], ["it", "was", "so", "late"]], 9)
    seen: list[torch.Tensor] = []

    def catch(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[0]

    model.embeddings.register_forward_hook(catch)
    hidden = model(inputs, features, keep=("hidden",)).hidden
    document = inputs.document[0]
    slots = torch.arange(9)
    for layer in hidden[1:]:
        for side, allowed in ((0, slots[None] <= slots[:, None]), (1, slots[None] >= slots[:, None])):
            for slot in range(7):
                (grad,) = torch.autograd.grad(layer[0, slot, 6 * side : 6 * side + 6].sum(), seen[0], retain_graph=True)
                moved = grad[0].abs().sum(1) > 0
                assert torch.equal(moved, allowed[slot] & (document == document[slot]))


def test_a_packed_document_is_read_as_if_it_were_alone():
    torch.manual_seed(3)
    model = Elmo(TINY).eval()
    together, alone = ["it", "was", "so", "late"], ["a", "quick", "fox"]
    packed = model(*inputs_of([alone, together], 10)).last[0]
    single = model(*inputs_of([together], 4)).last[0]
    torch.testing.assert_close(packed[3:7], single)


def test_words_are_spelled_once_and_no_longer_than_needed():
    """The shortcut gives the vectors that all 50 characters of every slot would."""
    torch.manual_seed(4)
    speller = Speller(TINY)
    words = ["the", "cat", "the", "x" * 60, "naïve", "the", "猫"]
    spellings = torch.from_numpy(spelled(words).astype(np.int64))

    def slowly(rows: torch.Tensor) -> torch.Tensor:
        x = speller.characters(rows).transpose(1, 2)
        x = torch.cat([c(x).max(2).values for c in speller.convolutions], 1).relu()
        for linear in speller.highways:
            size = x.shape[1]
            gate = (x @ linear.weight[size:].T + linear.bias[size:]).sigmoid()  # type: ignore[index, operator, union-attr]
            new = (x @ linear.weight[:size].T + linear.bias[:size]).relu()  # type: ignore[index, operator, union-attr]
            x = gate * new + (1 - gate) * x
        return speller.project(x)

    for some in (slice(0, 3), slice(None)):
        rows = spellings[some]
        numbers = torch.tensor([[sorted(set(words)).index(word) for word in words[some]]])
        torch.testing.assert_close(speller(numbers, rows[None])[0], slowly(rows))


@given(st.integers(3, 40), st.lists(st.integers(1, 39), max_size=3, unique=True), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_the_softmax_is_torchs_adaptive_one_and_adds_up_to_one(classes: int, cutoffs: list[int], seed: int):
    torch.manual_seed(seed)
    cutoffs = sorted(c for c in cutoffs if c < classes)
    ours = WordSoftmax(12, classes, cutoffs, 2.0)
    states, target = torch.randn(20, 12), torch.randint(0, classes, (20,))
    whole = ours(states)
    torch.testing.assert_close(whole.exp().sum(1), torch.ones(20))
    assert torch.equal(ours.best(states), whole.argmax(1))
    asked = target.clone()
    asked[::5] = IGNORE
    nats = ours.loss(states, asked)
    wanted = torch.where(asked == IGNORE, 0, -whole.gather(1, target[:, None])[:, 0])
    torch.testing.assert_close(nats, wanted)
    if cutoffs:
        theirs = nn.AdaptiveLogSoftmaxWithLoss(12, classes, cutoffs, 2.0, head_bias=True)
        with torch.no_grad():
            theirs.head.weight.copy_(ours.frequent.weight)
            theirs.head.bias.copy_(ours.frequent.bias)
            for a, b in zip(theirs.tail, ours.rare, strict=True):
                a.load_state_dict(b.state_dict())  # type: ignore[union-attr]
        torch.testing.assert_close(whole, theirs.log_prob(states))
        leaf = states.clone().requires_grad_()
        (grad,) = torch.autograd.grad(ours.loss(leaf, target).mean(), leaf)
        (other,) = torch.autograd.grad(theirs(leaf, target).loss, leaf)
        torch.testing.assert_close(grad, other)


def test_the_softmax_can_start_at_the_words_frequencies():
    head = WordSoftmax(4, 6, (3,))
    head.start(torch.tensor([9, 5, 3, 1, 1, 1]))
    with torch.no_grad():
        head.frequent.weight.zero_()
        head.rare[0][1].weight.zero_()  # type: ignore[index]
    p = head(torch.randn(1, 4)).exp()[0]
    torch.testing.assert_close(p, torch.tensor([10.0, 6, 4, 2, 2, 2]) / 26)


def test_layers_are_mixed_as_equation_1_says():
    mix = ScalarMix(3)
    with torch.no_grad():
        mix.w.copy_(torch.tensor([0.0, 2.0, 1.0]).log().clamp(min=-50))
        mix.gamma.fill_(6.0)
    layers = [torch.full((1, 2, 3), x) for x in (5.0, 1.0, 4.0)]
    torch.testing.assert_close(mix(layers), torch.full((1, 2, 3), 6 * (2 / 3 * 1 + 1 / 3 * 4)))


def test_the_folder_opens_again_and_says_that_nobody_else_opens_it(tmp_path: Path):
    torch.manual_seed(5)
    model, heads = Elmo(TINY), nn.ModuleDict({"words": WordSoftmax(6, 30, (10,)), "tag": FeatureTagger(3, 12, 4)})
    hub.save(tmp_path, TINY, model, heads, labels=["A", "B", "C", "D"])
    loaded = hub.load(tmp_path)
    assert loaded.config == TINY
    assert loaded.labels == ["A", "B", "C", "D"]
    row = inputs_of([["ab", "c"]], 3)
    torch.testing.assert_close(loaded.model(*row).last, model(*row).last, rtol=0, atol=0)
    for name, head in heads.items():
        assert all(torch.equal(a, b) for a, b in zip(loaded.heads[name].parameters(), head.parameters(), strict=True))
    assert "no class" in hub.read_settings(tmp_path)["opened_by"]
    assert hub.class_for(TINY, heads) == "masklab alone"
    assert "No class of transformers" in hub.opened_by(tmp_path)
    hub.save(tmp_path, replace(TINY, width=7), model, {})
    with pytest.raises(BadInput, match="of two models"):
        hub.load(tmp_path)


def test_a_shape_counts_its_parameters():
    model, head = Elmo(TINY), WordSoftmax(6, 30, (10,))
    heads = nn.ModuleDict({"words": head})
    assert TINY.parameters() == sum(p.numel() for p in model.parameters())
    assert TINY.parameters({"words": head}) == sum(p.numel() for m in (model, heads) for p in m.parameters())
    assert f"{ElmoConfig().parameters():,}" in ElmoConfig().formula()
    assert round(ElmoConfig().parameters() / 1e5) == 936  # the released model has 93.6 million
    for wrong in ({"layers": 0}, {"filters": ()}, {"filters": ((0, 4),)}, {"dropout": 1.0}, {"highways": -1}):
        with pytest.raises(BadInput):
            replace(TINY, **wrong)
