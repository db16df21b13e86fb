"""Two optimizers side by side: Muon turns the trunk's matrices, AdamW moves everything else.

AdamW: Loshchilov and Hutter 2019. Muon: Jordan 2024, "Muon: an optimizer for hidden layers in neural networks"; the
update of a matrix is its momentum made orthogonal by five Newton-Schulz steps. A fused weight (query, key and value in
one matrix) is several matrices to Muon, each orthogonal for itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim._muon import _adjust_lr

from masklab.errors import BadInput


@dataclass(frozen=True)
class Optimizer:
    name: Literal["adamw", "muon"] = "adamw"
    lr: float = 1e-4  # AdamW: everything that has no rate of its own
    embedding_lr: float | None = None  # token, position and segment tables; None: lr
    muon_lr: float = 0.02  # the trunk's matrices under Muon
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-6
    momentum: float = 0.95  # Muon's, reached after `momentum_warmup` steps from 0.85
    momentum_warmup: int = 200
    clip: float = 1.0  # the gradient's largest norm; 0: no clipping

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.muon_lr <= 0 or self.clip < 0:
            raise BadInput("optimizer.lr and optimizer.muon_lr must be above 0, optimizer.clip at least 0")


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` with all matrices of one shape turned in one product: the same update, half the time."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            parameters: list[Tensor] = []
            gradients: list[Tensor] = []
            buffers: list[Tensor] = []
            self._init_group(group, parameters, gradients, buffers)
            lr, momentum = float(group["lr"]), group["momentum"]
            for buffer, gradient in zip(buffers, gradients, strict=True):
                buffer.lerp_(gradient, 1 - momentum)
            nesterov = momentum if group["nesterov"] else 1.0
            shapes: dict[torch.Size, list[int]] = {}
            for i, parameter in enumerate(parameters):
                shapes.setdefault(parameter.shape, []).append(i)
            for shape, members in shapes.items():
                stacked = torch.stack([gradients[i].lerp(buffers[i], nesterov) for i in members])
                turned = orthogonal(stacked, group["ns_coefficients"], group["ns_steps"], group["eps"])
                rate = _adjust_lr(lr, group["adjust_lr_fn"], shape)
                for i, update in zip(members, turned, strict=True):
                    parameters[i].mul_(1 - lr * group["weight_decay"]).add_(update, alpha=-rate)


def orthogonal(x: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Newton-Schulz: each (n, m) matrix of x (k, n, m) moves towards the nearest semi-orthogonal one, in bfloat16."""
    a, b, c = coefficients
    x = x.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Optimizers:
    """AdamW and Muon as one: `step(factor)` scales every rate, and the state is a flat dict of named tensors."""

    def __init__(self, model: nn.Module, heads: nn.Module, settings: Optimizer):
        self.settings = settings
        self.parameters = {f"{prefix}.{n}": p for prefix, m in (("model", model), ("heads", heads))
                           for n, p in m.named_parameters() if p.requires_grad}  # fmt: skip
        self.parameters = _unique(self.parameters)
        embeddings = {id(p) for p in model.embeddings.parameters()}  # type: ignore[attr-defined]
        parts = _matrix_parts(model) | _matrix_parts(heads) if settings.name == "muon" else {}
        self.views: list[tuple[nn.Parameter, list[nn.Parameter]]] = []  # a fused weight and its matrices, same memory
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        self.names: dict[nn.Parameter, str] = {}
        matrices: list[nn.Parameter] = []
        for name, p in self.parameters.items():
            if id(p) in parts:
                pieces = [nn.Parameter(x) for x in p.detach().chunk(parts[id(p)])]
                self.views.append((p, pieces))
                matrices += pieces
                self.names |= {piece: f"{name}.{i}" for i, piece in enumerate(pieces)}
                continue
            self.names[p] = name
            lr = settings.embedding_lr if settings.embedding_lr is not None and id(p) in embeddings else settings.lr
            # Gains and biases are not decayed, as in every published BERT.
            groups.setdefault((lr, settings.weight_decay if p.ndim > 1 else 0.0), []).append(p)
        adamw = torch.optim.AdamW(
            [{"params": ps, "lr": lr, "weight_decay": decay} for (lr, decay), ps in groups.items()],
            betas=settings.betas,
            eps=settings.eps,
            fused=True,
        )
        self.all: list[torch.optim.Optimizer] = [adamw]
        if matrices:
            self.all.append(Muon(matrices, lr=settings.muon_lr, weight_decay=settings.weight_decay))
        self.base = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.all]

    def clip(self) -> float:
        """Scale the gradients down to the largest norm allowed; the norm they had."""
        largest = self.settings.clip or float("inf")
        return float(nn.utils.clip_grad_norm_(self.parameters.values(), largest))

    def step(self, step: int, factor: float) -> None:
        for whole, pieces in self.views:
            gradients = whole.grad.chunk(len(pieces)) if whole.grad is not None else [None] * len(pieces)
            for piece, gradient in zip(pieces, gradients, strict=True):
                piece.grad = gradient
        for optimizer, rates in zip(self.all, self.base, strict=True):
            for group, lr in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = lr * factor
                if "momentum" in group:
                    warm = min(1.0, step / max(1, self.settings.momentum_warmup))
                    group["momentum"] = 0.85 + (self.settings.momentum - 0.85) * warm
            optimizer.step()
        for p in self.parameters.values():
            p.grad = None

    def state(self) -> dict[str, Tensor]:
        """{"model.layers.0.attention.qkv.weight.0/momentum_buffer": tensor, ...}"""
        return {
            f"{self.names[p]}/{key}": value  # type: ignore[index]
            for optimizer in self.all
            for p, values in optimizer.state.items()
            for key, value in values.items()
        }

    def load(self, state: dict[str, Tensor]) -> None:
        known = {name: (p, optimizer) for optimizer in self.all for group in optimizer.param_groups
                 for p in group["params"] for name in [self.names[p]]}  # fmt: skip
        for key, value in state.items():
            name, field = key.rsplit("/", 1)
            p, optimizer = known[name]
            optimizer.state[p][field] = value.clone()


def _unique(parameters: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Tied weights are one parameter: the first name counts."""
    seen: dict[int, str] = {}
    return {name: p for name, p in parameters.items() if seen.setdefault(id(p), name) == name}


def _matrix_parts(model: nn.Module) -> dict[int, int]:
    """The matrices of the trunk, or of a second one among the heads, and how many equal parts the rows of each make.

    qkv 3, gated feed-forward 2, else 1.
    """
    trunks = [m.layers for m in model.modules() if isinstance(getattr(m, "layers", None), nn.ModuleList)]
    inside: Iterable[nn.Module] = (m for trunk in trunks for m in trunk.modules())  # type: ignore[union-attr]
    return {id(m.weight): getattr(m, "parts", 1) for m in inside if isinstance(m, nn.Linear)}
