"""Initial weights: the usual random ones, or *local* ones, by which some heads look at their neighbours from step 0.

A small model spends its first minutes on finding out that near words matter; a local start gives it that, in weights
that training is free to change and with nothing added to the architecture. Heads are started to peak at the slots -1,
+1, -2, +2, ... from their own. How, depends on where the family keeps positions:

- mpnet, t5: the shared relative bias gets a peak at the offset and falls with distance; the other heads get mild
  slopes. In t5's decoder all offsets look back, and what it gathers from the encoder starts at the slot that holds the
  same token: a sentinel finds the gap that it stands for.
- modernbert: query and key biases, turned by the rotary positions, add sum_k a_k cos(w_k (j - i - offset)) to the
  score.
- bert: the position table holds sinusoids, and query and key of the local heads read them, the query turned by the
  offset.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from masklab.errors import BadInput
from masklab.models.config import Config
from masklab.models.linear import draw
from masklab.models.positions import MAX_DISTANCE, bucket, frequencies
from masklab.models.transformer import Block, Model

OFFSETS = (-1, 1, -2, 2, -3, 3, -4, 4)  # of heads 0, 1, 2, ...; then again from the beginning
SLOPES = (0.0, 0.1, 0.03, 0.3)  # mpnet's other heads: how much a slot of distance takes from the score


@dataclass(frozen=True)
class Start:
    """How new weights begin.

    kind           random: as the family's class in transformers draws them; local: see above
    embedding_std  deviation of token embeddings; None: the model's `std` if random, 0.05 if local (t5: always 1)
    local_heads    how many heads of the first layer are local; None: all of them, in mpnet half of all
    later_heads    how many heads of each further layer are local (bert, modernbert; mpnet's bias serves all layers)
    peak           what the offset gains in score over far slots; None: 4 in mpnet and t5, 8 in modernbert
    same           t5's look back: what a slot with the same token gains in score over others; 0: random
    amplitude      bert: the sinusoids' height in deviations of the token embeddings
    gain           bert: the weight with which query and key read the sinusoids
    protect        bert: the position table stays as it is and token embeddings stay out of its dimensions, else a high
                   learning rate washes the start out; mpnet: the position table, beside the bias, stays 0
    zero_output    local modernbert: what each sublayer adds starts at 0
    """

    kind: Literal["random", "local"] = "random"
    embedding_std: float | None = None
    local_heads: int | None = None
    later_heads: int = 2
    peak: float | None = None
    same: float = 12.0
    amplitude: float = 3.0
    gain: float = 1.0
    protect: bool = True
    zero_output: bool = True

    def __post_init__(self) -> None:
        if self.kind not in ("random", "local"):
            raise BadInput(f"initial.kind={self.kind!r} is unknown: choose random or local")
        if self.embedding_std is not None and self.embedding_std <= 0:
            raise BadInput(f"initial.embedding_std={self.embedding_std} must be above 0")


@torch.no_grad()
def start(model: Model, settings: Start | None = None) -> None:
    """Give a model's weights their first values, drawn from torch's global generator. Heads draw their own."""
    settings = settings or Start()
    config, local = model.config, settings.kind == "local"
    draw(model, config.std)
    if config.family == "modernbert" and not local:
        _modernbert_random(model)
    if config.family == "t5":
        _t5_random(model)
    std = settings.embedding_std or (1.0 if config.family == "t5" else 0.05 if local else config.std)
    tables = model.embeddings
    for table in (tables.tokens, tables.positions, tables.segments):
        if table is not None:
            draw(table, std)
    if not local:
        return
    if model.relative_bias is not None:
        _bias_start(model, settings)
        if model.decoder is not None:
            _bias_start(model.decoder, settings)
            if settings.same:
                _look_back_start(model.decoder, settings)
    elif config.family == "modernbert":
        _rotary_start(model, settings)
    else:
        _sinusoid_start(model, settings, std)


def _modernbert_random(model: Model) -> None:
    """The class's own: normal cut at two deviations, and output matrices smaller the more layers add up."""
    std = model.config.std
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            out = name.endswith(("attention.out.weight", "feed_forward.wo.weight"))
            own = std / math.sqrt(2 * model.config.layers) if out else std
            nn.init.trunc_normal_(weight, 0.0, own, -2 * own, 2 * own)


def _t5_random(model: Model) -> None:
    """Mesh TensorFlow's, which the class keeps: deviations by the number of inputs, and queries smaller, as the scores
    are not scaled."""
    config = model.config
    inner = config.heads * config.head_size
    for name, weight in model.named_parameters():
        if weight.ndim != 2 or name.startswith("embeddings."):
            continue
        inside = {"attention.out": inner, "cross.out": inner, "feed_forward.wo": config.feed_forward}
        fan = next((n for key, n in inside.items() if key in name), config.width)
        nn.init.normal_(weight, 0.0, fan**-0.5)
        if name.endswith(("attention.qkv.weight", "cross.q.weight")):
            weight[:inner] *= config.head_size**-0.5


def _local_heads(config: Config, settings: Start, layer: int) -> int:
    """How many heads of this layer are local."""
    if layer:
        return min(settings.later_heads, config.heads)
    usual = max(1, config.heads // 2) if config.family in ("mpnet", "t5") else config.heads
    return usual if settings.local_heads is None else min(settings.local_heads, config.heads)


def _bias_start(model: Model, settings: Start) -> None:
    """mpnet, t5: each bucket gets the mean of the wished bias over the distances it holds."""
    assert model.relative_bias is not None
    config, peak = model.config, 4.0 if settings.peak is None else settings.peak
    back_only = model.relative_bias.back_only
    offsets = [offset for offset in OFFSETS if offset < 0] if back_only else OFFSETS
    distance = torch.arange(1 - MAX_DISTANCE, 1 if back_only else MAX_DISTANCE)
    held = bucket(distance, config.buckets, back_only=back_only)
    shares = torch.nn.functional.one_hot(held, config.buckets).float()
    shares /= shares.sum(0).clamp(min=1)  # (2 * 128 - 1, buckets): a bucket without distances gets 0
    local = _local_heads(config, settings, 0)
    for head in range(config.heads):
        if head < local:
            wished = peak * (distance == offsets[head % len(offsets)]) - 0.1 * distance.abs().clamp(max=40)
        else:
            wished = -SLOPES[(head - local) % len(SLOPES)] * distance.abs().float()
        model.relative_bias.table.weight[:, head] = wished @ shares
    positions = getattr(model.embeddings, "positions", None)
    if positions is not None:
        positions.weight.zero_()  # the bias says where; this table may learn the rest
        positions.weight.requires_grad_(not settings.protect)


def _look_back_start(decoder: Model, settings: Start) -> None:
    """t5: query and key of head h are both the dimensions h Dh to (h + 1) Dh, whose product is near Dh or near 0."""
    gain = math.sqrt(settings.same / decoder.config.head_size)
    for layer in _blocks(decoder):
        assert layer.cross is not None
        query = layer.cross.q.weight  # (H Dh, D)
        for weight in (query, layer.cross.kv.weight[: len(query)]):
            weight.mul_(0.1).add_(torch.eye(*weight.shape), alpha=gain)


def _rotary_start(model: Model, settings: Start) -> None:
    """modernbert: biases b_q = (r, 0) and b_k = (r cos(o w), -r sin(o w)), r^2 = a; fast turns weigh most."""
    config = model.config
    if not config.bias("attention"):
        raise BadInput("initial.kind=local needs biases in modernbert's attention: set model.biases=True")
    size, half = config.head_size, config.head_size // 2
    w = frequencies(size, config.theta)  # (Dh / 2,)
    peak = 8.0 if settings.peak is None else settings.peak
    r = (peak * math.sqrt(size) * w / w.sum()).sqrt()
    for index, layer in enumerate(_blocks(model)):
        query, key, _ = layer.attention.qkv.bias.view(3, config.heads, 2, half)  # views: [head, first or second half]
        for head in range(_local_heads(config, settings, index)):
            offset = OFFSETS[head % len(OFFSETS)]
            query[head] = torch.stack((r, torch.zeros_like(r)))
            key[head] = torch.stack((r * (offset * w).cos(), -r * (offset * w).sin()))
        if settings.zero_output:
            layer.attention.out.weight.zero_()
            layer.feed_forward.wo.weight.zero_()


def waves(count: int) -> Tensor:
    """(count,) angles a slot, spaced by the root: evenly spaced ones come together again every 2 x count slots, and
    multiples of the golden ratio at distances that approximate it (docs/learning.md)."""
    return math.pi * ((torch.arange(count) + 0.5) / count).sqrt()


def _sinusoid_start(model: Model, settings: Start, std: float) -> None:
    """bert: sinusoids in the position table's first Dh dimensions; local heads compare them, turned by the offset."""
    config, tables = model.config, model.embeddings
    assert tables.positions is not None
    assert tables.segments is not None
    if config.inner:
        raise BadInput("initial.kind=local: heads compare positions as the table holds them; set model.inner=0")
    size, half = config.head_size, config.head_size // 2
    w = waves(half)
    angle = torch.arange(config.max_length).unsqueeze(1) * w
    tables.positions.weight.zero_()
    tables.positions.weight[:, :half] = settings.amplitude * std * angle.cos()
    tables.positions.weight[:, half : 2 * half] = settings.amplitude * std * angle.sin()
    for index, layer in enumerate(_blocks(model)):
        query, key, _ = layer.attention.qkv.weight.view(3, config.heads, size, config.width)  # views
        for head in range(_local_heads(config, settings, index)):
            turn = OFFSETS[head % len(OFFSETS)] * w
            cos, sin = torch.diag(turn.cos()), torch.diag(turn.sin())
            key[head] *= 0.1
            query[head] *= 0.1
            key[head, : 2 * half, : 2 * half] = settings.gain * torch.eye(2 * half)
            query[head, : 2 * half, : 2 * half] = settings.gain * torch.cat(
                (torch.cat((cos, -sin), 1), torch.cat((sin, cos), 1))
            )
    tables.positions.weight.requires_grad_(not settings.protect)
    for table in (tables.tokens, tables.segments):
        if settings.protect:
            table.weight[:, : 2 * half] = 0
            table.weight.register_post_accumulate_grad_hook(_Keep(2 * half))
        else:
            table.weight[:, : 2 * half] *= 0.1


def protected(config: Config, settings: Start) -> int:
    """How many dimensions of the embeddings belong to the position table alone: (bert, electra), else 0."""
    if settings.kind != "local" or not settings.protect or config.family not in ("bert", "electra"):
        return 0
    return config.head_size // 2 * 2


class _Keep:
    """After each backward: no gradient for the first n dimensions, so that they stay 0 under any optimizer."""

    def __init__(self, n: int):
        self.n = n

    def __call__(self, table: Tensor) -> None:
        if table.grad is not None:
            table.grad[:, : self.n] = 0


def _blocks(model: Model) -> list[Block]:
    return [layer for layer in model.layers if isinstance(layer, Block)]
