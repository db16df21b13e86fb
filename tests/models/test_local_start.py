"""A local start really looks at the neighbours, in all three families, and stays what the file format allows."""

import pytest
import torch

from masklab.errors import BadInput
from masklab.models import hub
from masklab.models.heads import MaskedLMHead
from masklab.models.local_start import OFFSETS, Start, start, waves
from masklab.models.pattern import Layout
from masklab.models.transformer import CrossAttention, Memory, Model

SHAPE = {"width": 128, "vocabulary": 90, "max_length": 160, "feed_forward": 64}


def peaks(model: Model, make_rows) -> list[list[tuple[int, float, float]]]:
    """[layer][head] -> the offset that gets most attention on average, how much, and how much the runner-up gets."""
    inputs = make_rows([[160]] * 2, 160, pad=model.config.pad)
    states = model.eval()(inputs, layout=Layout("bidirectional", True), keep=("attentions",))
    found = []
    for weights in states.attentions:
        found.append([])
        for head in weights.mean(0):  # (T, T)
            average = {offset: head.diagonal(offset)[8:-8].mean().item() for offset in range(-80, 81)}
            (best, most), (_, second) = sorted(average.items(), key=lambda item: -item[1])[:2]
            found[-1].append((best, most, second))
    return found


def test_heads_peak_at_their_offsets(config, make_config, make_rows):
    model = Model(make_config(config.family, **SHAPE))
    start(model, Start("local"))
    local = {"bert": (4, 2), "mpnet": (2, 2), "modernbert": (4, 2)}[config.family]
    for layer, heads in zip(peaks(model, make_rows), local, strict=True):
        for head in range(heads):
            best, most, second = layer[head]
            assert best == OFFSETS[head]
            assert most > 0.5
            assert most > 4 * second
        for _, most, _ in layer[heads:]:
            assert most < 0.1


def test_a_random_start_is_flat(config, make_config, make_rows):
    model = Model(make_config(config.family, **SHAPE))
    start(model)
    assert all(most < 0.05 for layer in peaks(model, make_rows) for _, most, _ in layer)


def test_settings_do_what_they_say(make_config, make_rows):
    model = Model(make_config("modernbert", **SHAPE))
    start(model, Start("local", peak=2.0, local_heads=1, later_heads=0, zero_output=False))
    layers = peaks(model, make_rows)
    assert layers[0][0][0] == -1
    assert layers[0][0][1] < 0.5
    assert all(most < 0.05 for _, most, _ in [*layers[0][1:], *layers[1]])
    assert model.get_parameter("layers.0.attention.out.weight").abs().max() > 0
    start(model, Start("local"))
    assert all(model.get_parameter(f"layers.{i}.attention.out.weight").abs().max() == 0 for i in range(2))
    assert abs(model.embeddings.tokens.weight.std().item() - 0.05) < 0.002
    start(model, Start(embedding_std=0.1))
    assert abs(model.embeddings.tokens.weight.std().item() - 0.1) < 0.004
    with pytest.raises(BadInput, match=r"model\.biases=True"):
        start(Model(make_config("modernbert", biases=False)), Start("local"))
    with pytest.raises(BadInput, match="random or local"):
        Start(kind="loacl")  # type: ignore[arg-type]


@pytest.mark.parametrize("protect", [True, False])
def test_protected_dimensions_stay_clear(protect, make_config, make_rows):
    config = make_config("bert", **SHAPE, dropout=0.0, attention_dropout=0.0)
    model = Model(config)
    start(model, Start("local", protect=protect))
    head = MaskedLMHead(config, model.embeddings)
    tables = model.embeddings
    assert tables.positions is not None
    assert tables.segments is not None
    before = tables.positions.weight.detach().clone()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 0.01)
    inputs = make_rows([[40], [30, 9]], 40, pad=config.pad)
    for _ in range(3):
        head(model(inputs, layout=Layout("bidirectional")).last).logsumexp(-1).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert torch.equal(tables.positions.weight, before) == protect
    for table in (tables.tokens, tables.segments):
        assert (table.weight[:, :32].abs().max().item() == 0) == protect
        assert table.weight[:, 32:].abs().max() > 0


@pytest.mark.parametrize(("count", "most"), [(8, 0.7), (16, 0.55), (32, 0.4)])
def test_no_two_far_slots_look_alike(count, most):
    distance = torch.arange(1, 512).unsqueeze(1)
    assert (distance * waves(count)).cos().mean(1).max() < most  # multiples of the golden ratio reach 0.97


def test_mpnet_positions_wait_at_zero(make_config):
    model = Model(make_config("mpnet"))
    for protect in (True, False):
        start(model, Start("local", protect=protect))
        assert model.embeddings.positions is not None
        assert model.embeddings.positions.weight.abs().max() == 0
        assert model.embeddings.positions.weight.requires_grad != protect


def test_a_decoder_looks_back_at_the_slot_with_the_same_token(make_config, make_rows):
    """In t5: a sentinel finds the gap that it stands for, from the first step on."""
    config = make_config("t5", **(SHAPE | {"decoder_layers": 2}))
    model = Model(config)
    start(model, Start("local"))
    inputs = make_rows([[80]], 80)
    inputs = inputs._replace(tokens=torch.arange(80, dtype=torch.int32).unsqueeze(0))
    memory = Memory(model.eval()(inputs, layout=Layout("bidirectional", True)).last, inputs)
    asking = inputs._replace(tokens=inputs.tokens.flip(1))
    decoder = model.decoder
    assert decoder is not None
    cross = decoder.layers[0].cross
    assert isinstance(cross, CrossAttention)
    states = decoder.layers[0].cross_norm(decoder.embeddings(asking))  # type: ignore[operator]
    size = config.head_size
    query = cross.q(states).view(80, -1, size).transpose(0, 1)
    key = cross.kv(memory.states)[..., : cross.q.weight.shape[0]].view(80, -1, size).transpose(0, 1)
    best = (query @ key.mT).argmax(-1)  # (H, T)
    assert (best == torch.arange(79, -1, -1)).float().mean() > 0.9


def test_a_local_start_saves_as_any_model(config, tmp_path):
    model = Model(config)
    start(model, Start("local"))
    hub.save(tmp_path, config, model)
    for name, tensor in hub.load(tmp_path).model.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


def test_random_is_what_the_class_draws(config):
    """Deviations of every matrix, against a fresh model of transformers."""
    import transformers

    names = {"bert": "Bert", "mpnet": "MPNet", "modernbert": "ModernBert"}
    wide = {"width": 96, "feed_forward": 192, "vocabulary": 300, "max_length": 200}
    config = type(config)(**(vars(config) | wide))
    model = Model(config)
    start(model)
    settings = hub._settings(config, f"{names[config.family]}Model", {}, None, {})
    theirs = getattr(transformers, f"{names[config.family]}Model")(
        getattr(transformers, f"{names[config.family]}Config")(**settings)
    ).state_dict()
    for key, ours in model.state_dict().items():
        there = torch.cat([theirs[name] for name in hub._theirs(key, config, bare=True)])
        assert abs(ours.std().item() - there.std().item()) < 0.15 * there.std().item() + 1e-6, key
