"""The trunk of all families: embeddings, then layers of attention and feed-forward, norm before or after.

Post-norm is BERT (Devlin et al. 2018) and MPNet (Song et al. 2020); pre-norm with rotary positions and GeGLU is
ModernBERT (Warner et al. 2024). T5 (Raffel et al. 2020) has a second stack, the `decoder`, whose layers also look back
at the states of the first. What the trunk computes is what the class of the same name in transformers computes.
"""

from collections.abc import Collection
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masklab.models.attention import Kernel, Seen, across, additive, choose, compute_dtype, prepared, weigh
from masklab.models.config import Config
from masklab.models.embeddings import Embeddings, SharedEmbeddings
from masklab.models.linear import Projection, draw
from masklab.models.pattern import Inputs, Layout, at_places
from masklab.models.positions import RelativeBias, rotary_table, rotate


class States(NamedTuple):
    """What a trunk gives back; hidden (embeddings, then each layer's) and attentions only if they were to be kept."""

    last: Tensor  # (B, T, D), or (B, K, D) at the places asked for
    hidden: tuple[Tensor, ...] = ()
    attentions: tuple[Tensor, ...] = ()


class Memory(NamedTuple):
    """What a decoder looks back at: the last states of the encoder, and its inputs."""

    states: Tensor  # (B, S, D)
    inputs: Inputs


class Cache:
    """The keys and values of what a decoder has written so far, so that the next token costs one column of work."""

    def __init__(self, layers: int):
        self.layers: list[dict[str, tuple[Tensor, Tensor]]] = [{} for _ in range(layers)]
        self.length = 0  # slots written


class Context(NamedTuple):
    """What all layers share in one forward: the kernel, what it must know of the pattern, and cos/sin of the slots."""

    kernel: Kernel
    seen: Seen  # a tensor to add to the scores broadcasts to (B, H, Tq, T)
    turn: Tensor | None  # (2, T, 1, Dh) for keys
    query_turn: Tensor | None  # the same for the slots that ask
    keep: bool = False
    memory: Tensor | None = None  # (B, S, D): what a decoder looks back at ...
    across: Tensor | None = None  # ... and what to add to the scores there, broadcastable to (B, H, Tq, S)


class Attention(nn.Module):
    """qkv: query, key and value as one matmul; out: the mix of the heads."""

    def __init__(self, config: Config):
        super().__init__()
        bias = config.bias("attention")
        self.heads, self.head_size = config.heads, config.head_size
        self.dropout = config.attention_dropout
        self.scale = _scale(config)
        inner = config.heads * config.head_size
        self.qkv = Projection(config.width, inner, parts=3, bias=bias)
        self.out = Projection(inner, config.width, bias=bias)

    def forward(
        self, x: Tensor, asking: Tensor | None, context: Context, past: dict[str, tuple[Tensor, Tensor]] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """x (B, T, D); asking (B, K, D): only these ask, x is seen -> (B, T or K, D), weights if kept.

        past: this layer's earlier keys and values, to which x's are added.
        """
        batch, length, _ = x.shape
        width = self.heads * self.head_size
        if asking is None:
            qkv = self.qkv(x)
            if context.turn is not None:  # queries and keys in one turn
                turned = rotate(qkv[..., : 2 * width].view(batch, length, 2 * self.heads, self.head_size), context.turn)
                q, k = turned.view(batch, length, 2, self.heads, self.head_size).unbind(2)
                v = qkv[..., 2 * width :].view(batch, length, self.heads, self.head_size)
            else:
                q, k, v = qkv.view(batch, length, 3, self.heads, self.head_size).unbind(2)  # (B, T, H, Dh)
        else:
            sizes = (width, 2 * width)
            (wq, wkv), bias = self.qkv.weight.split(sizes), self.qkv.bias
            bq, bkv = (None, None) if bias is None else bias.split(sizes)
            q = F.linear(asking, wq, bq).view(batch, -1, self.heads, self.head_size)
            k, v = F.linear(x, wkv, bkv).view(batch, length, 2, self.heads, self.head_size).unbind(2)
            if context.turn is not None and context.query_turn is not None:
                q, k = rotate(q, context.query_turn), rotate(k, context.turn)
        if past is not None:
            if "own" in past:
                k, v = torch.cat((past["own"][0], k), 1), torch.cat((past["own"][1], v), 1)
            past["own"] = (k, v)
        mixed, weights = weigh(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            context.seen,
            kernel=context.kernel,
            dropout=self.dropout if self.training else 0.0,
            keep=context.keep,
            scale=self.scale,
        )
        return self.out(mixed.transpose(1, 2).reshape(batch, -1, width)), weights


class CrossAttention(nn.Module):
    """A decoder's look back: q asks, kv (key and value as one matmul) answers from the encoder's states."""

    def __init__(self, config: Config):
        super().__init__()
        inner = config.heads * config.head_size
        self.heads, self.head_size = config.heads, config.head_size
        self.dropout = config.attention_dropout
        self.scale = _scale(config)
        self.q = Projection(config.width, inner, bias=config.bias("attention"))
        self.kv = Projection(config.width, inner, parts=2, bias=config.bias("attention"))
        self.out = Projection(inner, config.width, bias=config.bias("attention"))

    def forward(
        self, x: Tensor, context: Context, past: dict[str, tuple[Tensor, Tensor]] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """x (B, T, D) -> (B, T, D), weights if kept. past: where keys and values are kept for the next token."""
        batch, length, _ = x.shape
        assert context.memory is not None
        if past is not None and "memory" in past:
            k, v = past["memory"]
        else:
            k, v = self.kv(context.memory).view(batch, -1, 2, self.heads, self.head_size).unbind(2)
            if past is not None:
                past["memory"] = (k, v)
        mixed, weights = weigh(
            self.q(x).view(batch, length, self.heads, self.head_size).transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            context.across,
            kernel=context.kernel,
            dropout=self.dropout if self.training else 0.0,
            keep=context.keep,
            scale=self.scale,
        )
        return self.out(mixed.transpose(1, 2).reshape(batch, length, -1)), weights


def _scale(config: Config) -> float | None:
    return 1.0 if config.family == "t5" else None  # T5 starts its queries smaller instead


class FeedForward(nn.Module):
    """Two linear layers with a GELU (T5 v1.0: ReLU) between; gated (GeGLU, Shazeer 2020), one half opens and closes
    the other."""

    def __init__(self, config: Config):
        super().__init__()
        bias = config.bias("mlp")
        self.gated = config.gates
        self.relu = config.family == "t5" and not config.gated
        self.approximate = "tanh" if config.family == "t5" else "none"
        self.wi = Projection(config.width, config.feed_forward, parts=2 if self.gated else 1, bias=bias)
        self.wo = Projection(config.feed_forward, config.width, bias=bias)
        self.dropout = nn.Dropout(config.dropout if config.pre_norm else 0.0)  # between the two

    def forward(self, x: Tensor) -> Tensor:
        x = self.wi(x)
        if not self.gated:
            return self.wo(self.dropout(F.relu(x) if self.relu else F.gelu(x)))
        inner, gate = x.chunk(2, -1)
        return self.wo(self.dropout(F.gelu(inner, approximate=self.approximate) * gate))


class Block(nn.Module):
    """One layer. Post-norm: norm(x + sublayer(x)); pre-norm: x + sublayer(norm(x)).

    A decoder's has a look back (`cross`) between attention and feed-forward.
    """

    def __init__(self, config: Config, index: int, decoder: bool = False):
        super().__init__()
        self.pre_norm = config.pre_norm
        modern = config.family == "modernbert"
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)
        self.attention_norm: nn.Module = _norm(config)
        if modern and index == 0:
            self.attention_norm = nn.Identity()  # the embeddings were just normed
        self.cross = CrossAttention(config) if decoder else None
        self.cross_norm = _norm(config) if decoder else None
        self.feed_forward_norm = _norm(config)
        # ModernBert drops the attention's output at the attention's rate and the feed-forward's not at all
        self.attention_dropout = nn.Dropout(config.attention_dropout if modern else config.dropout)
        self.feed_forward_dropout = nn.Dropout(0.0 if modern else config.dropout)

    def forward(
        self, x: Tensor, at: Tensor | None, context: Context, past: dict[str, tuple[Tensor, Tensor]] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """x (B, T, D) -> (B, T, D); with at (B, K), the states of those slots alone, (B, K, D)."""
        if self.pre_norm:
            normed = self.attention_norm(x)
            asking = None if at is None else take(normed, at)
            mixed, weights = self.attention(normed, asking, context, past)
            x = (x if at is None else take(x, at)) + self.attention_dropout(mixed)
            if self.cross is not None and self.cross_norm is not None:
                x = x + self.attention_dropout(self.cross(self.cross_norm(x), context, past)[0])
            return x + self.feed_forward_dropout(self.feed_forward(self.feed_forward_norm(x))), weights
        asking = None if at is None else take(x, at)
        mixed, weights = self.attention(x, asking, context)
        x = self.attention_norm((x if asking is None else asking) + self.attention_dropout(mixed))
        return self.feed_forward_norm(x + self.feed_forward_dropout(self.feed_forward(x))), weights


class Model(nn.Module):
    """Embeddings and layers; of two stacks, the first, with the second as its `decoder`. Heads are the objective's; see
    heads.py."""

    def __init__(
        self, config: Config, kernel: Kernel = "auto", tables: Embeddings | None = None, decoder: bool = False
    ):
        """tables: those of another model, to share. decoder: this is the second stack."""
        super().__init__()
        self.config = config
        self.kernel: Kernel = kernel
        shared = None if tables is None else cast(Embeddings, SharedEmbeddings(config, tables))
        self.embeddings = shared or Embeddings(config)
        layers = config.decoder_layers if decoder else config.layers
        self.layers = nn.ModuleList(Block(config, index, decoder) for index in range(layers))
        self.relative_bias = RelativeBias(config, decoder) if config.family in ("mpnet", "t5") else None
        self.final_norm = _norm(config) if config.pre_norm else None
        self.final_dropout = nn.Dropout(config.dropout if config.family == "t5" else 0.0)
        self.decoder: Model | None = None
        draw(self, config.std)
        if config.decoder_layers and not decoder:
            self.decoder = Model(config, kernel, self.embeddings, decoder=True)  # type: ignore[arg-type]

    def forward(
        self,
        inputs: Inputs,
        *,
        layout: Layout,
        at: Tensor | None = None,
        keep: Collection[str] = (),
        memory: Memory | None = None,
        cache: Cache | None = None,
    ) -> States:
        """inputs (B, T), at (B, K) int64 slots or None, keep any of "hidden", "attentions" -> States.

        With `at` the last layer asks only at those slots: the same numbers for less work. Keeping anything needs all
        slots, so it switches the shortcut off. memory: a decoder's. cache: what a decoder wrote before; `inputs` are
        then the next slot alone, (B, 1), which sees all of it.
        """
        keep_hidden, keep_attentions = "hidden" in keep, "attentions" in keep
        short = None if keep_hidden or keep_attentions else at
        x = self.embeddings(inputs)
        context, last_context = self._contexts(x, inputs, short, layout, keep_attentions, memory, cache)
        hidden, attentions = [x], []
        for index, layer in enumerate(self.layers):
            is_last = index == len(self.layers) - 1
            past = None if cache is None else cache.layers[index]
            x, weights = layer(x, short if is_last else None, last_context if is_last else context, past)
            if keep_hidden:
                hidden.append(x)
            if keep_attentions:
                attentions.append(weights)
        if self.final_norm is not None:
            x = self.final_dropout(self.final_norm(x))
        if cache is not None:
            cache.length += 1
        if at is not None and short is None:
            x = take(x, at)
        return States(x, tuple(hidden) if keep_hidden else (), tuple(attentions))

    def _contexts(
        self,
        x: Tensor,
        inputs: Inputs,
        at: Tensor | None,
        layout: Layout,
        keep: bool,
        memory: Memory | None,
        cache: Cache | None,
    ) -> tuple[Context, Context]:
        """What all layers share, and what the last one needs instead if it asks only at some slots."""
        config, dtype, length = self.config, compute_dtype(x), x.shape[1]
        kernel = choose(self.kernel, x.device, dtype, layout, self.relative_bias is not None)
        if kernel in ("varlen", "flex") and (keep or (self.training and config.attention_dropout)):
            kernel = "sdpa"  # those two neither keep weights nor drop any
        back = None if memory is None else memory.states
        look = None if memory is None else across(inputs, memory.inputs, dtype)[0]
        bias = turn = None
        if cache is not None:  # the next slot sees all that were written
            if self.relative_bias is None or length != 1:
                raise ValueError("a cache goes on one slot at a time, in a stack whose positions are a relative bias")
            bias = self.relative_bias(cache.length + 1)[:, -1:].to(dtype)  # (H, 1, T)
            context = Context(kernel, bias, None, None, keep, back, look)
            return context, context
        if self.relative_bias is not None:
            bias = self.relative_bias(length).to(dtype)  # (H, T, T)
        elif config.pre_norm:
            turn = rotary_table(length, config.head_size, config.theta, x.device).unsqueeze(2)
        needs_all = at is None or len(self.layers) > 1
        seen = prepared(kernel, inputs, bias, layout, dtype) if needs_all else None
        context = Context(kernel, seen, turn, turn, keep, back, look)
        if at is None:
            return context, context
        look = None if memory is None else across(at_places(inputs, at), memory.inputs, dtype)[0]
        if bias is not None:
            bias = F.embedding(at, bias.transpose(0, 1).flatten(1))  # (B, K, H * T): each asking slot's rows
            bias = bias.view(*at.shape, config.heads, length).transpose(1, 2)  # (B, H, K, T)
        add = additive(at_places(inputs, at), inputs, bias, layout, dtype)
        query_turn = None if turn is None else turn[:, at, 0].unsqueeze(3)
        return context, Context(kernel, add, turn, query_turn, False, back, look)


def take(x: Tensor, at: Tensor) -> Tensor:
    """The states of some slots: x (B, T, D), at (B, K) -> (B, K, D)."""
    return x.gather(1, at.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def _norm(config: Config) -> nn.Module:
    if config.family == "t5":
        return nn.RMSNorm(config.width, eps=config.norm_eps)  # Zhang and Sennrich 2019: no mean, no bias
    return nn.LayerNorm(config.width, eps=config.norm_eps, bias=config.bias("norm"))
