"""ELMo: words are spelled, read from the left and from the right by two stacks of LSTMs, and every layer is of use.

Peters et al. 2018, "Deep contextualized word representations"; the character convolutions with highway layers are those
of Kim et al. 2015, "Character-aware neural language models", the softmax over many words is that of Grave et al. 2017,
"Efficient softmax approximation for GPUs". No attention: packed documents are kept apart by emptying the memory.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masklab.errors import BadInput
from masklab.models.lstm import BothWays, from_both_ends, remembers, side_by_side
from masklab.models.pattern import Inputs, Layout
from masklab.models.transformer import States, take
from masklab.models.vocabulary import vocabulary_loss


@dataclass(frozen=True)
class ElmoConfig:
    """The numbers of one pair of language models. The defaults are the paper's (section 3.4).

    width           of the words' vectors and of each reader's states; a state of both is twice as wide
    cells           memory cells of each reader in each layer, projected down to `width`
    filters         character convolutions: (letters one spans, how many there are of it)
    characters      width of a character's vector
    symbols         characters there are; see corpus/spelling.py
    highways        highway layers over the convolutions
    max_length      longest row, marks included; a bound of the files, not of the network
    dropout         before each layer, and on the last states where words are predicted
    """

    layers: int = 2
    width: int = 512
    cells: int = 4096
    filters: tuple[tuple[int, int], ...] = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))
    characters: int = 16
    symbols: int = 262
    highways: int = 2
    max_length: int = 512
    dropout: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "filters", tuple((int(span), int(count)) for span, count in self.filters))
        for name in ("layers", "width", "cells", "characters", "symbols", "max_length"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name}={getattr(self, name)} must be at least 1")
        if not self.filters or any(span < 1 or count < 1 for span, count in self.filters):
            raise BadInput("filters are pairs (letters, how many), e.g. ((1, 32), (2, 32), (3, 64))")
        if self.highways < 0 or not 0 <= self.dropout < 1:
            raise BadInput("highways must be at least 0 and dropout lie in [0, 1)")

    def terms(self, heads: Mapping[str, nn.Module] | None = None) -> dict[str, tuple[str, int]]:
        """Each part's parameters: name -> (how to count them, how many)."""
        C, D, H, L = self.characters, self.width, self.cells, self.layers
        N = sum(count for _, count in self.filters)
        terms = {
            "characters": ("S C", self.symbols * C),
            "convolutions": ("sum n (C w + 1)", sum(count * (C * span + 1) for span, count in self.filters)),
            "highways": ("G (2 N² + 2 N)", self.highways * (2 * N * N + 2 * N)),
            "projection": ("N D + D", N * D + D),
            "readers": ("2 L (9 D H + 4 H)", 2 * L * (9 * D * H + 4 * H)),
        }
        for name, head in (heads or {}).items():
            terms[name] = ("", sum(p.numel() for p in head.parameters()))
        return terms

    def parameters(self, heads: Mapping[str, nn.Module] | None = None) -> int:
        """How many numbers the network (and the heads given) learn."""
        return sum(count for _, count in self.terms(heads).values())

    def formula(self, heads: Mapping[str, nn.Module] | None = None) -> str:
        """The same count as a person reads it, one part a line."""
        lines = [f"{name:22} {text:24} {count:>14,}" for name, (text, count) in self.terms(heads).items()]
        letters = (
            f"S={self.symbols} C={self.characters} N={sum(n for _, n in self.filters)} G={self.highways} "
            f"D={self.width} H={self.cells} L={self.layers}"
        )
        return "\n".join([*lines, f"{'together':22} {'':24} {self.parameters(heads):>14,}", letters])


class Speller(nn.Module):
    """The characters of a word -> its vector: convolutions, the largest of each, highway layers, a projection.

    Equal words are computed once, and no longer than the longest one needs: behind a word stand fillers alone, whose
    convolutions are all the same.
    """

    def __init__(self, config: ElmoConfig):
        super().__init__()
        size = sum(count for _, count in config.filters)
        self.characters = nn.Embedding(config.symbols, config.characters, padding_idx=0)
        self.convolutions = nn.ModuleList(nn.Conv1d(config.characters, n, span) for span, n in config.filters)
        self.highways = nn.ModuleList(nn.Linear(size, 2 * size) for _ in range(config.highways))
        self.project = nn.Linear(size, config.width)
        self.longest = max(span for span, _ in config.filters)
        with torch.no_grad():  # as the released training code draws them
            self.characters.weight.uniform_(-1, 1)
            self.characters.weight[0] = 0
            for convolution in self.convolutions:
                convolution.weight.uniform_(-0.05, 0.05)  # type: ignore[operator, union-attr]
                convolution.bias.zero_()  # type: ignore[operator, union-attr]
            for linear in (*self.highways, self.project):
                linear.weight.normal_(0, size**-0.5)  # type: ignore[operator, union-attr]
                linear.bias.zero_()  # type: ignore[operator, union-attr]
            for linear in self.highways:
                linear.bias[size:] = -2.0  # type: ignore[index]  # carry the convolutions through at first

    def forward(self, words: Tensor, spellings: Tensor) -> Tensor:
        """words (B, T): equal numbers, equal words; spellings (B, T, letters) -> (B, T, D)."""
        different, number = torch.unique(words, return_inverse=True)  # (U,), (B, T)
        first = torch.zeros_like(different, dtype=torch.long)
        place = torch.arange(number.numel(), device=number.device)
        first.scatter_reduce_(0, number.flatten(), place, "amin", include_self=False)  # (U,): where each stands
        vectors = self.spell(spellings.flatten(0, 1)[first].long())
        return F.embedding(number, vectors)

    def spell(self, spellings: Tensor) -> Tensor:
        """(U, letters) int64 -> (U, D)."""
        filler = spellings[:, -1:]
        longest = int((spellings != filler).sum(1).max()) if len(spellings) else 0
        x = self.characters(spellings[:, : max(longest, 1) + self.longest]).transpose(1, 2)  # (U, C, letters)
        if x.shape[2] < self.longest:
            raise BadInput(f"words of {x.shape[2]} letters are shorter than a filter of {self.longest}")
        x = torch.cat([convolution(x).amax(2) for convolution in self.convolutions], 1).relu()  # (U, N)
        for linear in self.highways:
            new, gate = linear(x).chunk(2, 1)
            x = torch.lerp(x, new.relu(), gate.sigmoid())
        return self.project(x)


class Elmo(nn.Module):
    """`embeddings`: words by their letters; `layers`: readers from both ends."""

    def __init__(self, config: ElmoConfig):
        super().__init__()
        self.config = config
        self.embeddings = Speller(config)
        self.layers = nn.ModuleList(BothWays(config.width, config.cells) for _ in range(config.layers))
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, inputs: Inputs, features: Tensor, *, layout: Layout | None = None, at: Tensor | None = None,
        keep: Collection[str] = (),
    ) -> States:  # fmt: skip
        """features (B, T, letters): how the word in each slot is spelled. States are (B, T, 2 D): left to right, then
        right to left; `hidden` begins with the words' own vectors, twice. `layout` says nothing here."""
        x = self.embeddings(inputs.tokens, features)  # (B, T, D)
        hidden = [torch.cat((x, x), 2)] if "hidden" in keep else []
        remember = remembers(inputs.document).to(x.device)
        both = from_both_ends(x)
        for number, layer in enumerate(self.layers):
            read = layer(self.dropout(both), remember)
            both = read + both if number else read  # from the second layer on, what a layer reads goes past it too
            if "hidden" in keep:
                hidden.append(side_by_side(both))
        last = side_by_side(both)
        return States(last if at is None else take(last, at), tuple(hidden))


class WordSoftmax(nn.Module):
    """A probability for each of very many words: frequent ones at once, rare ones in groups that are opened when asked.

    Grave et al. 2017, section 4. Words are numbered by falling frequency; the first cutoff is where rare ones begin, of
    which each group is read through a matrix `shrink` times narrower than the last. What it gives is a true
    distribution, unlike the paper's sampled softmax, so losses of training and of held-out text mean the same.
    """

    def __init__(self, width: int, classes: int, cutoffs: Collection[int] = (), shrink: float = 4.0):
        super().__init__()
        self.bounds = [*sorted(c for c in cutoffs if c < classes), classes]
        self.settings: dict[str, Any] = {
            "width": width, "classes": classes, "cutoffs": self.bounds[:-1], "shrink": shrink,
        }  # fmt: skip
        self.frequent = nn.Linear(width, self.bounds[0] + len(self.bounds) - 1)
        self.rare = nn.ModuleList()
        for number, (low, high) in enumerate(zip(self.bounds, self.bounds[1:], strict=False), 1):
            narrow = max(1, int(width / shrink**number))
            self.rare.append(
                nn.Sequential(nn.Linear(width, narrow, bias=False), nn.Linear(narrow, high - low, bias=False))
            )

    @property
    def classes(self) -> int:
        return self.bounds[-1]

    @torch.no_grad()
    def start(self, counts: Tensor) -> None:
        """Begin at how often each word occurs, which is counted and need not be learnt. counts (classes,)."""
        p = (counts.double() + 1) / (counts.double() + 1).sum()
        groups = [p[low:high].sum() for low, high in zip(self.bounds, self.bounds[1:], strict=False)]
        self.frequent.bias.copy_(torch.cat((p[: self.bounds[0]], torch.tensor(groups, dtype=p.dtype))).log())

    def loss(self, states: Tensor, target: Tensor) -> Tensor:
        """states (N, D), target (N,) -> nats (N,) float32, 0 where target is IGNORE."""
        first = target.clone()
        for number, (low, high) in enumerate(zip(self.bounds, self.bounds[1:], strict=False)):
            first[(target >= low) & (target < high)] = self.bounds[0] + number
        if torch.is_autocast_enabled(states.device.type):
            states = states.to(torch.get_autocast_dtype(states.device.type))
        nats = vocabulary_loss(states, self.frequent.weight, self.frequent.bias, first)
        for low, high, (narrow, out) in zip(self.bounds, self.bounds[1:], self.rare, strict=False):  # type: ignore[misc]
            rows = ((target >= low) & (target < high)).nonzero()[:, 0]
            bias = out.weight.new_zeros(high - low)
            more = vocabulary_loss(narrow(states[rows]), out.weight, bias, target[rows] - low)
            nats = nats.index_add(0, rows, more)
        return nats

    def forward(self, states: Tensor) -> Tensor:
        """(N, D) -> (N, classes) float32: the logarithm of each word's probability."""
        first = self.frequent(states).float().log_softmax(1)
        parts = [first[:, : self.bounds[0]]]
        for number, group in enumerate(self.rare):
            parts.append(group(states).float().log_softmax(1) + first[:, self.bounds[0] + number, None])
        return torch.cat(parts, 1)

    def best(self, states: Tensor) -> Tensor:
        """(N, D) -> (N,) int64: the likeliest word."""
        found = self.frequent(states).argmax(1)
        open_ = (found >= self.bounds[0]).nonzero()[:, 0]  # else no word of a group is likelier than the whole group
        for rows in open_.split(1024):
            found[rows] = self(states[rows]).argmax(1)
        return found
