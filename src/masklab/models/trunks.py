"""The network of a shape, whatever kind of shape it is, and its first weights.

Most shapes are a `Config`: layers of attention, one class for all families (transformer.py). The others have a network
of their own (own.py), which draws its weights itself and takes no part in what is peculiar to attention.
"""

from torch import nn

from masklab.errors import BadInput
from masklab.models import own
from masklab.models.config import Config
from masklab.models.local_start import Start, start
from masklab.models.own import Shape
from masklab.models.transformer import Model


def build(shape: Shape) -> nn.Module:
    """The network, its weights drawn from torch's global generator as its modules draw them."""
    return Model(shape) if isinstance(shape, Config) else own.KINDS[str(own.kind_of(shape))].network(shape)


def begin(model: nn.Module, initial: Start) -> None:
    """Give a new network its first weights."""
    if isinstance(model, Model):
        start(model, initial)
    elif initial != Start():
        raise BadInput(f"initial.{initial}: only attention has such a start; leave `initial` as it is")
