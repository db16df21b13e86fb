"""The network that looks at characters, and how it is trained together with the rows of skip-gram (see glyph.py).

For a character c, whose share of neighbours that are o is P(o | c), the loss is what skip-gram's would be on average:

    loss(c) = sum over o of  P(o | c) * softplus(-s)  +  negatives * noise(o) * softplus(s),      s = v_c . u_o + b_o

v_c is the network's answer to the picture plus c's own row, u_o and b_o are the row and the bias of o as a context. The
bias takes what is common to all characters, which else would fill the vectors (Levy and Goldberg: s tends to pointwise
mutual information less log(negatives), of which no part need be in v_c).
"""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masklab.errors import BadInput
from masklab.rng import integer, rng
from masklab.word_vectors.runner import PICTURE, Watch
from masklab.word_vectors.trained import Trained

if TYPE_CHECKING:
    from masklab.word_vectors.glyph import Settings

_LEAST = 30.0  # a character with so many neighbours counts whole; a rarer one less, for its shares are guesses
_ROWS = 10.0  # how many times the network's rate the rows learn at: a row has one step an epoch, the network hundreds
_LOOKED = 512  # pictures at a time
_NETWORK = "network."  # how the names of its arrays begin

Arrays = dict[str, np.ndarray]


class Network(nn.Sequential):
    """Pictures (n, 1, size, size) to vectors (n, dim): three convolutions that halve the picture, one linear map.

    The linear map knows where in the square a stroke is, as it must: a component means most on its usual side.
    """

    def __init__(self, size: int, dim: int):
        side = -(-size // 8)
        super().__init__(
            nn.Conv2d(1, 32, 5, 2, 2), nn.ReLU(),
            nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(64, 128, 3, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(128 * side * side, dim),
        )  # fmt: skip


class Model(nn.Module):
    """The network, and for every character a row of its own and one, with a bias, as a context."""

    def __init__(self, words: int, size: int, dim: int, start: Tensor):
        """start (words, dim): of the contexts."""
        super().__init__()
        self.network = Network(size, dim)
        self.own = nn.Parameter(torch.zeros(words, dim))
        self.contexts = nn.Parameter(start)
        self.bias = nn.Parameter(torch.zeros(words))

    def forward(self, numbers: Tensor, pictures: Tensor, drawn: Tensor, own: Tensor) -> Tensor:
        """(n, words) scores of the characters beside every context. drawn, own (n, 1): 0 leaves out that part."""
        vectors = self.network(pictures) * drawn + self.own[numbers] * own
        return torch.addmm(self.bias, vectors, self.contexts.T)


class Data(NamedTuple):
    """What is learnt from: characters are numbered, `counts` (V,) is how often each stands in the text."""

    counts: np.ndarray
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray]  # word, context and count of symmetric co-occurrences
    pictures: np.ndarray  # (V, size, size) uint8
    drawn: np.ndarray  # (V,) bool: has a picture


def fit(data: Data, settings: "Settings", start: Trained | None = None, watch: Watch | None = None,
        stop: Callable[[], Any] | None = None) -> tuple[Arrays, np.ndarray]:  # fmt: skip
    """Train; returns the arrays of the model and the vectors (V, dim)."""
    before = torch.get_num_threads()
    torch.set_num_threads(settings.schedule.workers)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(integer(settings.seed, "glyph"))
            words = len(data.counts)
            rows = rng(settings.seed, "glyph").standard_normal((words, settings.dim), np.float32)
            model = Model(words, settings.size, settings.dim, torch.from_numpy(rows / np.float32(settings.dim**0.5)))
            if start is not None:
                _take(model, start.arrays)
            _train(model, data, settings, _Course(words, settings, watch or (lambda record: None), stop))
            return _result(model.eval(), data)
    finally:
        torch.set_num_threads(before)


def _train(model: Model, data: Data, settings: "Settings", course: "_Course") -> None:
    shares = _Shares(data.pairs, len(data.counts))
    noise = data.counts**settings.noise
    noise = torch.from_numpy(settings.negatives * noise / noise.sum()).float()
    images, has_picture = as_input(data.pictures), torch.from_numpy(data.drawn).float()[:, None]
    tables = [model.own, model.contexts, model.bias]
    optimizer = torch.optim.Adam(
        [{"params": model.network.parameters(), "times": 1.0}, {"params": tables, "times": _ROWS}], foreach=True
    )
    for numbers, rate in course:
        for group in optimizer.param_groups:
            group["lr"] = group["times"] * rate
        has = has_picture[numbers]
        own = ((torch.rand(len(numbers), 1) >= settings.own_dropout) | (has == 0)).float()
        near, weight = shares.of(numbers.numpy())
        scores = model(numbers, _moved(images[numbers]), has, own)
        loss = (losses(scores, near, noise) * weight).sum() / weight.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        course.done(len(numbers), loss.item())


def losses(scores: Tensor, near: Tensor, noise: Tensor) -> Tensor:
    """(n,) losses from (n, V) scores, shares P(o | c) and (V,) negatives * noise(o)."""
    # sum of near * softplus(-s) + noise * softplus(s); as softplus(s) = softplus(-s) + s, one of the two is enough
    return ((near + noise) * F.softplus(-scores)).sum(1) + scores @ noise


class _Course:
    """The batches of a run and their learning rates; tells how things stand, and ends in time or when asked to."""

    def __init__(self, words: int, settings: "Settings", say: Watch, stop: Callable[[], Any] | None):
        self.words, self.settings, self.schedule, self.say = words, settings, settings.schedule, say
        self.stop = stop or (lambda: False)
        self.seen, self.loss, self.began = 0, float("nan"), time.monotonic()

    def __iter__(self) -> Iterator[tuple[Tensor, float]]:
        self.say({"kind": "begin", "vocabulary": self.words, "words": self.words, "threads": self.schedule.workers,
                  "kernels": "torch"})  # fmt: skip
        shown, stopped = self.began, False
        try:
            while self.progress < 1 and not stopped:
                for numbers in self._order().split(self.settings.batch):
                    stopped = bool(self.stop())
                    if stopped or self.progress >= 1:
                        break
                    yield numbers, self.schedule.rate * (1 - self.progress)
                    if time.monotonic() - shown > PICTURE:
                        shown = time.monotonic()
                        self._tell(self.progress, shown - self.began)
        except KeyboardInterrupt:
            stopped = True
        self.say({"kind": "stopped" if stopped else "end", "words": self.seen, "loss": self.loss,
                  "seconds": time.monotonic() - self.began})  # fmt: skip

    @property
    def progress(self) -> float:
        if self.schedule.seconds:
            return (time.monotonic() - self.began) / self.schedule.seconds
        return self.seen / (self.words * self.schedule.epochs)

    def done(self, count: int, loss: float) -> None:
        self.seen += count
        self.loss = loss if np.isnan(self.loss) else 0.98 * self.loss + 0.02 * loss
        if not np.isfinite(loss):
            raise BadInput(f"the vectors grew beyond all numbers; give a smaller rate than rate={self.schedule.rate}")

    def _order(self) -> Tensor:
        return torch.from_numpy(rng(self.settings.seed, "glyph order", self.seen).permutation(self.words))

    def _tell(self, progress: float, elapsed: float) -> None:
        self.say({
            "kind": "progress", "progress": progress, "epoch": self.seen / self.words, "words": self.seen,
            "words_per_second": self.seen / elapsed, "loss": self.loss, "rate": self.schedule.rate * (1 - progress),
            "remaining": elapsed * (1 / progress - 1) if progress else float("nan"),
        })  # fmt: skip


class _Shares:
    """P(o | c) of a batch of characters, out of symmetric counts that hold each pair once."""

    def __init__(self, pairs: tuple[np.ndarray, np.ndarray, np.ndarray], words: int):
        word, context, number = pairs
        both = word != context
        first, second = np.append(word, context[both]), np.append(context, word[both])
        order = np.argsort(first, kind="stable")
        self.context, self.number = second[order], np.append(number, number[both])[order]
        self.begin = np.searchsorted(first[order], np.arange(words + 1))
        self.words = words

    def of(self, numbers: np.ndarray) -> tuple[Tensor, Tensor]:
        """(n, words) shares and (n,) weights."""
        near = np.zeros((len(numbers), self.words), np.float32)
        for row, number in zip(near, numbers, strict=True):
            cells = slice(self.begin[number], self.begin[number + 1])
            row[self.context[cells]] = self.number[cells]
        total = near.sum(1, keepdims=True)
        weight = np.minimum(total[:, 0] / _LEAST, 1).astype(np.float32)
        return torch.from_numpy(near / np.maximum(total, 1e-9)), torch.from_numpy(np.maximum(weight, 1e-9))


def as_input(pictures: np.ndarray) -> Tensor:
    """(n, size, size) uint8 to (n, 1, size, size) float32 of about zero mean and unit variance."""
    return (torch.from_numpy(pictures).float()[:, None] - 48) / 80


def _moved(images: Tensor) -> Tensor:
    """All of a batch moved by up to a pixel, so that no single pixel can be what a character is known by."""
    size = images.shape[-1]
    down, right = torch.randint(3, (2,)).tolist()
    return F.pad(images, (1, 1, 1, 1), mode="replicate")[:, :, down : down + size, right : right + size]


@torch.no_grad()
def _result(model: Model, data: Data) -> tuple[Arrays, np.ndarray]:
    """The model with its vectors' mean taken off, which the contexts' biases take over: no score changes.

    The network's share of the mean and that of the rows are taken off each by itself, so that a character without a row
    stands where it would with an average one.
    """
    drawn = torch.from_numpy(data.drawn)
    looked = torch.cat([model.network(some) for some in as_input(data.pictures).split(_LOOKED)])
    of_network, of_rows = looked[drawn].mean(0), model.own[drawn].mean(0)
    last: Any = model.network[-1]
    last.bias -= of_network
    model.own.sub_(torch.where(drawn[:, None], of_rows, of_network + of_rows))
    model.bias.add_(model.contexts @ (of_network + of_rows))
    vectors = torch.where(drawn[:, None], looked - of_network + model.own, model.own)
    arrays = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    return arrays, vectors.detach().numpy()


@torch.no_grad()
def look(arrays: Arrays, pictures: np.ndarray, dim: int) -> np.ndarray:
    """(n, size, size) pictures to (n, dim) vectors, by a network out of `fit`."""
    network = Network(pictures.shape[1], dim).eval()
    network.load_state_dict({name.removeprefix(_NETWORK): torch.from_numpy(np.array(value))
                             for name, value in arrays.items() if name.startswith(_NETWORK)})  # fmt: skip
    images = as_input(pictures)
    return torch.cat([network(some) for some in images.split(_LOOKED)]).numpy()


@torch.no_grad()
def _take(model: Model, arrays: Arrays) -> None:
    """What was learnt before; rows of new characters stay as they are."""
    for name, value in model.state_dict().items():
        known = torch.from_numpy(np.array(arrays[name]))
        value[: len(known)] = known
