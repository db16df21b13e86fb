"""A long short-term memory with a projection, read from both ends at once: one layer of ELMo's language models.

Hochreiter and Schmidhuber 1997; the projection: Sak et al. 2014, "Long short-term memory based recurrent neural network
architectures for large scale acoustic modeling". Rows are packed: wherever a document begins, the memory is emptied.

The loop over the slots is written out with its derivative, because torch's own is not made for projections on a CPU: it
multiplies out the weights' gradient slot by slot. `plain` is the slow twin; tests hold both equal to torch's nn.LSTM.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masklab.models.attention import compute_dtype
from masklab.models.linear import Projection
from masklab.models.pattern import PADDING


class Reader(nn.Module):
    """The weights of one direction. Gates stand in the order input, forget, output, candidate."""

    def __init__(self, width: int, cells: int):
        super().__init__()
        self.input = Projection(width, cells, parts=4)
        self.state = Projection(width, cells, parts=4, bias=False)
        self.out = Projection(cells, width, bias=False)
        with torch.no_grad():
            for weight in (self.input.weight, self.state.weight, self.out.weight):
                nn.init.xavier_uniform_(weight)
            self.input.bias.zero_()
            self.input.bias[cells : 2 * cells] = 1.0  # remember, until something speaks against it


class BothWays(nn.Module):
    """Two readers that know nothing of each other: `ahead` from left to right, `back` from right to left."""

    def __init__(self, width: int, cells: int):
        super().__init__()
        self.ahead, self.back = Reader(width, cells), Reader(width, cells)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        """x (2, T, B, D): for each reader its input, in the order in which it reads; keep (2, T, B, 1): 0 where it
        must forget all before it reads on. -> (2, T, B, D)"""
        _, length, rows, _ = x.shape
        readers = (self.ahead, self.back)
        dtype = compute_dtype(x)
        weight, state, out = (
            torch.stack([getattr(reader, name).weight for reader in readers]).to(dtype).transpose(1, 2)
            for name in ("input", "state", "out")
        )
        bias = torch.stack([reader.input.bias for reader in readers]).to(dtype).unsqueeze(1)
        with torch.autocast(x.device.type, enabled=False):
            gates = torch.baddbmm(bias, x.flatten(1, 2).to(dtype), weight)  # (2, T B, 4 H): of all slots at once
            return _Recurrence.apply(gates.view(2, length, rows, -1), state, out, keep)  # type: ignore[return-value]


def plain(gates: Tensor, state: Tensor, out: Tensor, keep: Tensor) -> Tensor:
    """gates (2, T, B, 4 H): what the inputs say; state (2, D, 4 H); out (2, H, D); keep (2, T, B, 1); the states
    (2, T, B, D)."""
    ways, length, rows, width = gates.shape
    h, c = gates.new_zeros(ways, rows, out.shape[2]), gates.new_zeros(ways, rows, width // 4)
    found = []
    for t in range(length):
        i, f, o, g = (gates[:, t] + (keep[:, t] * h) @ state).chunk(4, -1)
        c = f.sigmoid() * keep[:, t] * c + i.sigmoid() * g.tanh()
        h = (o.sigmoid() * c.tanh()) @ out
        found.append(h)
    return torch.stack(found, 1)


def from_both_ends(x: Tensor) -> Tensor:
    """(B, T, D) -> (2, T, B, D), for each reader in its own order."""
    return torch.stack((x, x.flip(1))).transpose(1, 2)


def remembers(document: Tensor) -> Tensor:
    """(B, T) -> (2, T, B, 1) float32: 0 where a reader comes to another document, or to padding."""
    same = (document[:, 1:] == document[:, :-1]) & (document[:, 1:] != PADDING)  # (B, T - 1): slot t goes on with t - 1
    ahead, back = (F.pad(x.float(), (1, 0)) for x in (same, same.flip(1)))
    return torch.stack((ahead, back)).transpose(1, 2).unsqueeze(3)


def side_by_side(both: Tensor) -> Tensor:
    """The inverse, of what the readers found: (2, T, B, D) -> (B, T, 2 D)."""
    ahead, back = both.transpose(1, 2)
    return torch.cat((ahead, back.flip(1)), 2)


class _Recurrence(torch.autograd.Function):
    """`plain`, with products in the dtype of the weights and memory in float32; it can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, state: Tensor, out: Tensor, keep: Tensor) -> Tensor:
        ways, length, rows, width = gates.shape
        size, dtype = width // 4, gates.dtype
        opened = gates.new_empty(gates.shape, dtype=torch.float32)
        cells = opened.new_empty(ways, length, rows, size)
        seen = gates.new_empty(ways, length, rows, size)  # what the output gate lets through
        states = gates.new_empty(ways, length, rows, out.shape[2])
        h, c = states.new_zeros(ways, rows, out.shape[2]), cells.new_zeros(ways, rows, size)
        kept = keep.to(dtype)
        for t in range(length):
            now = opened[:, t]
            now.copy_(torch.baddbmm(gates[:, t], h * kept[:, t], state))
            now[..., : 3 * size].sigmoid_()
            now[..., 3 * size :].tanh_()
            i, f, o, g = now.chunk(4, -1)
            c = torch.addcmul(i * g, f, c * keep[:, t])
            cells[:, t] = c
            seen[:, t] = o * c.tanh()
            h = torch.bmm(seen[:, t], out)
            states[:, t] = h
        ctx.save_for_backward(opened, cells, seen, states, state, out, keep)
        return states

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        opened, cells, seen, states, state, out, keep = ctx.saved_tensors
        ways, length, rows, width = opened.shape
        dtype = states.dtype
        d_gates = states.new_empty(ways, length, rows, width)
        d_states = torch.empty_like(states)
        kept = keep.to(dtype)
        to_state, to_out = state.transpose(1, 2), out.transpose(1, 2)
        d_h, d_c = torch.zeros_like(states[:, 0]), torch.zeros_like(cells[:, 0])
        for t in reversed(range(length)):
            i, f, o, g = opened[:, t].chunk(4, -1)
            bent = cells[:, t].tanh()
            d_h = grad[:, t] + d_h
            d_states[:, t] = d_h
            d_seen = torch.bmm(d_h, to_out).float()
            d_c = d_c + d_seen * o * (1 - bent * bent)
            to_i, to_f, to_o, to_g = d_gates[:, t].chunk(4, -1)  # views
            to_i.copy_(d_c * g * i * (1 - i))
            to_f.copy_(d_c * cells[:, t - 1] * keep[:, t] * f * (1 - f)) if t else to_f.zero_()
            to_o.copy_(d_seen * bent * o * (1 - o))
            to_g.copy_(d_c * i * (1 - g * g))
            d_c = d_c * f * keep[:, t]
            d_h = torch.bmm(d_gates[:, t], to_state) * kept[:, t]
        before = F.pad(states[:, :-1], (0, 0, 0, 0, 1, 0)) * kept  # what each slot remembered
        d_state = torch.bmm(before.flatten(1, 2).transpose(1, 2), d_gates.flatten(1, 2))  # one product for all slots
        d_out = torch.bmm(seen.flatten(1, 2).transpose(1, 2), d_states.flatten(1, 2))
        return d_gates, d_state, d_out, None
