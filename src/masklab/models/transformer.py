"""The trunk of all families: embeddings, then layers of attention and feed-forward, norm before or after.

Post-norm is BERT (Devlin et al. 2018) and MPNet (Song et al. 2020); pre-norm with rotary positions and GeGLU is
ModernBERT (Warner et al. 2024). What the trunk computes is what the class of the same name in transformers computes.
"""

from collections.abc import Collection
from typing import NamedTuple, cast

from torch import Tensor, nn
from torch.nn import functional as F

from masklab.models.attention import Kernel, additive, choose, compute_dtype, weigh
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


class Context(NamedTuple):
    """What all layers share in one forward: the kernel, what to add to scores, and cos/sin of the slots."""

    kernel: Kernel
    add: Tensor | None  # broadcastable to (B, H, Tq, T)
    turn: Tensor | None  # (2, T, 1, Dh) for keys
    query_turn: Tensor | None  # the same for the slots that ask
    keep: bool = False


class Attention(nn.Module):
    """qkv: query, key and value as one matmul; out: the mix of the heads."""

    def __init__(self, config: Config):
        super().__init__()
        bias = config.bias("attention")
        self.heads, self.head_size = config.heads, config.head_size
        self.dropout = config.attention_dropout
        self.qkv = Projection(config.width, config.width, parts=3, bias=bias)
        self.out = Projection(config.width, config.width, bias=bias)

    def forward(self, x: Tensor, asking: Tensor | None, context: Context) -> tuple[Tensor, Tensor | None]:
        """x (B, T, D); asking (B, K, D): only these ask, x is seen -> (B, T or K, D), weights if kept."""
        batch, length, width = x.shape
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
        mixed, weights = weigh(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            context.add,
            kernel=context.kernel,
            dropout=self.dropout if self.training else 0.0,
            keep=context.keep,
        )
        return self.out(mixed.transpose(1, 2).reshape(batch, -1, width)), weights


class FeedForward(nn.Module):
    """Two linear layers with a GELU between; gated (GeGLU, Shazeer 2020), one half opens and closes the other."""

    def __init__(self, config: Config):
        super().__init__()
        bias = config.bias("mlp")
        self.gated = config.pre_norm
        self.wi = Projection(config.width, config.feed_forward, parts=2 if self.gated else 1, bias=bias)
        self.wo = Projection(config.feed_forward, config.width, bias=bias)
        self.dropout = nn.Dropout(config.dropout if self.gated else 0.0)  # between the two in ModernBert alone

    def forward(self, x: Tensor) -> Tensor:
        x = self.wi(x)
        if not self.gated:
            return self.wo(F.gelu(x))
        inner, gate = x.chunk(2, -1)
        return self.wo(self.dropout(F.gelu(inner) * gate))


class Block(nn.Module):
    """One layer. Post-norm: norm(x + sublayer(x)); pre-norm: x + sublayer(norm(x)), layer 0 without its first norm."""

    def __init__(self, config: Config, index: int):
        super().__init__()
        self.pre_norm = config.pre_norm
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)
        self.attention_norm: nn.Module = _norm(config)
        if self.pre_norm and index == 0:
            self.attention_norm = nn.Identity()  # the embeddings were just normed
        self.feed_forward_norm = _norm(config)
        # ModernBert drops the attention's output at the attention's rate and the feed-forward's not at all
        self.attention_dropout = nn.Dropout(config.attention_dropout if self.pre_norm else config.dropout)
        self.feed_forward_dropout = nn.Dropout(0.0 if self.pre_norm else config.dropout)

    def forward(self, x: Tensor, at: Tensor | None, context: Context) -> tuple[Tensor, Tensor | None]:
        """x (B, T, D) -> (B, T, D); with at (B, K), the states of those slots alone, (B, K, D)."""
        if self.pre_norm:
            normed = self.attention_norm(x)
            asking = None if at is None else take(normed, at)
            mixed, weights = self.attention(normed, asking, context)
            x = (x if at is None else take(x, at)) + self.attention_dropout(mixed)
            return x + self.feed_forward_dropout(self.feed_forward(self.feed_forward_norm(x))), weights
        asking = None if at is None else take(x, at)
        mixed, weights = self.attention(x, asking, context)
        x = self.attention_norm((x if asking is None else asking) + self.attention_dropout(mixed))
        return self.feed_forward_norm(x + self.feed_forward_dropout(self.feed_forward(x))), weights


class Model(nn.Module):
    """Embeddings and layers. Heads are the objective's; see heads.py."""

    def __init__(self, config: Config, kernel: Kernel = "auto", tables: Embeddings | None = None):
        """tables: those of another model, to share."""
        super().__init__()
        self.config = config
        self.kernel: Kernel = kernel
        shared = None if tables is None else cast(Embeddings, SharedEmbeddings(config, tables))
        self.embeddings = shared or Embeddings(config)
        self.layers = nn.ModuleList(Block(config, index) for index in range(config.layers))
        self.relative_bias = RelativeBias(config) if config.family == "mpnet" else None
        self.final_norm = _norm(config) if config.pre_norm else None
        draw(self, config.std)

    def forward(
        self, inputs: Inputs, *, layout: Layout, at: Tensor | None = None, keep: Collection[str] = ()
    ) -> States:
        """inputs (B, T), at (B, K) int64 slots or None, keep any of "hidden", "attentions" -> States.

        With `at` the last layer asks only at those slots: the same numbers for less work. Keeping anything needs all
        slots, so it switches the shortcut off.
        """
        keep_hidden, keep_attentions = "hidden" in keep, "attentions" in keep
        short = None if keep_hidden or keep_attentions else at
        x = self.embeddings(inputs)
        context, last_context = self._contexts(x, inputs, short, layout, keep_attentions)
        hidden, attentions = [x], []
        for index, layer in enumerate(self.layers):
            is_last = index == len(self.layers) - 1
            x, weights = layer(x, short if is_last else None, last_context if is_last else context)
            if keep_hidden:
                hidden.append(x)
            if keep_attentions:
                attentions.append(weights)
        if self.final_norm is not None:
            x = self.final_norm(x)
        if at is not None and short is None:
            x = take(x, at)
        return States(x, tuple(hidden) if keep_hidden else (), tuple(attentions))

    def _contexts(
        self, x: Tensor, inputs: Inputs, at: Tensor | None, layout: Layout, keep: bool
    ) -> tuple[Context, Context]:
        """What all layers share, and what the last one needs instead if it asks only at some slots."""
        config, dtype, length = self.config, compute_dtype(x), x.shape[1]
        kernel = choose(self.kernel, x.device, dtype)
        bias = turn = None
        if self.relative_bias is not None:
            bias = self.relative_bias(length).to(dtype)  # (H, T, T)
        elif config.pre_norm:
            turn = rotary_table(length, config.head_size, config.theta, x.device).unsqueeze(2)
        needs_all = at is None or config.layers > 1
        add = additive(inputs, inputs, bias, layout, dtype) if needs_all else None
        context = Context(kernel, add, turn, turn, keep)
        if at is None:
            return context, context
        if bias is not None:
            bias = F.embedding(at, bias.transpose(0, 1).flatten(1))  # (B, K, H * T): each asking slot's rows
            bias = bias.view(*at.shape, config.heads, length).transpose(1, 2)  # (B, H, K, T)
        add = additive(at_places(inputs, at), inputs, bias, layout, dtype)
        return context, Context(kernel, add, turn, None if turn is None else turn[:, at, 0].unsqueeze(3))


def take(x: Tensor, at: Tensor) -> Tensor:
    """The states of some slots: x (B, T, D), at (B, K) -> (B, K, D)."""
    return x.gather(1, at.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def _norm(config: Config) -> nn.LayerNorm:
    return nn.LayerNorm(config.width, eps=config.norm_eps, bias=config.bias("norm"))
