"""Heads: what an objective puts on the trunk's states, each shaped as the family's class in transformers shapes it.

Names in an objective's ModuleDict: masked_lm, boundary, generator, replaced, lm, pooler, next_sentence, classify, tag.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masklab.errors import BadInput
from masklab.models.attention import compute_dtype
from masklab.models.config import Config
from masklab.models.embeddings import Embeddings, SharedEmbeddings
from masklab.models.linear import draw
from masklab.models.vocabulary import vocabulary_loss


class Prediction(nn.Module):
    """dense, GELU, norm: states made ready to be compared with the token table (ModernBert: or to be classified)."""

    def __init__(self, config: Config):
        super().__init__()
        self.dense = nn.Linear(config.width, config.table_width, bias=config.bias("classifier"))
        self.norm = nn.LayerNorm(config.table_width, eps=config.norm_eps, bias=config.bias("norm"))
        draw(self, config.std)

    def forward(self, states: Tensor) -> Tensor:  # (.., D) -> (.., E)
        return self.norm(F.gelu(self.dense(states)))


class MaskedLMHead(Prediction):
    """Which token stands here? Logits over the vocabulary, with the token table itself as the last matrix (tied)."""

    def __init__(self, config: Config, embeddings: Embeddings | SharedEmbeddings):
        super().__init__(config)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary)) if config.bias("decoder") else None
        self.tied = (embeddings,)  # in a tuple, so that the table stays the trunk's alone

    def forward(self, states: Tensor) -> Tensor:  # (.., D) -> (.., V)
        return F.linear(super().forward(states), self.tied[0].tokens.weight, self.bias)

    def loss(self, states: Tensor, target: Tensor) -> Tensor:
        """states (N, D), target (N,) -> nats (N,), 0 where the target is IGNORE; see vocabulary.py."""
        states = super().forward(states)
        table = self.tied[0].tokens.weight
        bias = table.new_zeros(len(table)) if self.bias is None else self.bias
        return vocabulary_loss(states.to(compute_dtype(states)), table, bias, target)


class LMHead(nn.Module):
    """Which token comes next? T5 v1.0: the token table, for states times D^-1/2 (tied); v1.1: a matrix of its own."""

    def __init__(self, config: Config, embeddings: Embeddings):
        super().__init__()
        self.out = None if config.tied else nn.Linear(config.width, config.vocabulary, bias=False)
        self.tied = (embeddings,)
        self.scale = config.width**-0.5
        if self.out is not None:
            draw(self, 1.0)  # as the class has it

    def ready(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """-> states and the matrix (V, D) they are compared with."""
        return (states * self.scale, self.tied[0].tokens.weight) if self.out is None else (states, self.out.weight)

    def forward(self, states: Tensor) -> Tensor:  # (.., D) -> (.., V)
        return F.linear(*self.ready(states))

    def loss(self, states: Tensor, target: Tensor) -> Tensor:
        """states (N, D), target (N,) -> nats (N,), 0 where the target is IGNORE; see vocabulary.py."""
        states, table = self.ready(states)
        return vocabulary_loss(states.to(compute_dtype(states)), table, table.new_zeros(len(table)), target)


class BoundaryHead(nn.Module):
    """SpanBERT: token i of a hidden span from the states of its two neighbours and i alone (Joshi et al. 2020, eq. 2).

    h = norm(GELU(W1 [left; right; place])), y = norm(GELU(W2 h)), then the token table as the last matrix (tied).
    """

    def __init__(self, config: Config, embeddings: Embeddings, places: int):
        super().__init__()
        self.place = nn.Embedding(places, config.width)
        self.first = nn.Linear(3 * config.width, config.width)
        self.first_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.second = nn.Linear(config.width, config.width)
        self.second_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))
        self.tied = (embeddings,)
        draw(self, config.std)

    def ready(self, left: Tensor, right: Tensor, place: Tensor) -> Tensor:
        """left, right (N, D) states beside the span, place (N,) in it, from 0 -> (N, D)."""
        x = torch.cat([left, right, self.place(place).to(left.dtype)], -1)
        return self.second_norm(F.gelu(self.second(self.first_norm(F.gelu(self.first(x))))))

    def forward(self, left: Tensor, right: Tensor, place: Tensor) -> Tensor:  # -> (N, V)
        return F.linear(self.ready(left, right, place), self.tied[0].tokens.weight, self.bias)

    def loss(self, left: Tensor, right: Tensor, place: Tensor, target: Tensor) -> Tensor:
        """-> nats (N,), 0 where the target is IGNORE."""
        states = self.ready(left, right, place)
        return vocabulary_loss(states.to(compute_dtype(states)), self.tied[0].tokens.weight, self.bias, target)


class Pooler(nn.Module):
    """The first token's state, once more through a dense layer and tanh: BERT's summary of the document."""

    def __init__(self, config: Config, gelu: bool = False):
        super().__init__()
        self.gelu = gelu
        self.dense = nn.Linear(config.width, config.width)
        draw(self, config.std)

    def forward(self, states: Tensor) -> Tensor:  # (.., D) -> (.., D)
        return F.gelu(self.dense(states)) if self.gelu else torch.tanh(self.dense(states))


class NextSentenceHead(nn.Module):
    """Does B follow A? Takes the pooler's output. BERT's order: 0, B follows A; 1, B comes from elsewhere."""

    def __init__(self, config: Config):
        super().__init__()
        self.out = nn.Linear(config.width, 2)
        draw(self, config.std)

    def forward(self, pooled: Tensor) -> Tensor:  # (.., D) -> (.., 2)
        return self.out(pooled)


class ReplacedHead(nn.Module):
    """Is this token the author's? One logit a token, above 0 where it seems replaced (Clark et al. 2020, section 2)."""

    def __init__(self, config: Config):
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.out = nn.Linear(config.width, 1)
        draw(self, config.std)

    def forward(self, states: Tensor) -> Tensor:  # (.., D) -> (..,)
        return self.out(F.gelu(self.dense(states))).squeeze(-1)


class ClassifyHead(nn.Module):
    """What is this document? Takes the state of its first token.

    bert: pooler, dropout, linear; mpnet: dropout, dense, tanh, dropout, linear; electra: the same with GELU;
    modernbert: the masked-LM head's dense and norm, dropout, linear. `trained`, the heads a model was loaded with,
    lends its pooler or its masked-LM head as a start.
    """

    def __init__(self, config: Config, classes: int, trained: nn.ModuleDict | None = None):
        super().__init__()
        self.classes, self.drop_first = classes, config.family in ("mpnet", "electra")
        self.ready: nn.Module = (
            Prediction(config) if config.pre_norm else Pooler(config, gelu=config.family == "electra")
        )
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.width, classes)
        draw(self.out, config.std)
        _lend(self.ready, config, trained)

    def forward(self, states: Tensor) -> Tensor:  # (.., D) -> (.., classes)
        if self.drop_first:
            states = self.dropout(states)
        return self.out(self.dropout(self.ready(states)))


class TagHead(nn.Module):
    """What is each token? dropout, linear; modernbert puts the masked-LM head's dense and norm before them."""

    def __init__(self, config: Config, classes: int, trained: nn.ModuleDict | None = None):
        super().__init__()
        self.classes = classes
        self.ready: nn.Module = Prediction(config) if config.pre_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.width, classes)
        draw(self.out, config.std)
        _lend(self.ready, config, trained)

    def forward(self, states: Tensor) -> Tensor:  # (.., D) -> (.., classes)
        return self.out(self.dropout(self.ready(states)))


def _lend(ready: nn.Module, config: Config, trained: nn.ModuleDict | None) -> None:
    """Start from weights that pre-training made, where this family's class does so."""
    if config.family == "t5":
        raise BadInput("t5 answers in words, not with a class: teach it the task as text to text (--task text)")
    name = {"bert": "pooler", "modernbert": "masked_lm", "mpnet": "", "electra": ""}[config.family]
    if trained is None or name not in trained or isinstance(ready, nn.Identity):
        return
    source = trained[name].state_dict()
    ready.load_state_dict({key: source[key] for key in ready.state_dict()})
