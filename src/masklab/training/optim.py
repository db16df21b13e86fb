"""Two optimizers side by side: Muon turns the trunk's matrices, AdamW moves everything else.

AdamW: Loshchilov and Hutter 2019. Muon: Jordan 2024, "Muon: an optimizer for hidden layers in neural networks"; the
update of a matrix is its momentum made orthogonal by five Newton-Schulz steps. A fused weight (query, key and value in
one matrix) is several matrices to Muon, each orthogonal for itself; so are blocks of rows of a large one, on request.
Of several processes each turns its share of the matrices; where weights are divided, each moves the rows it holds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim._muon import _adjust_lr

from masklab.errors import BadInput
from masklab.training.distributed import ALONE, World, held

LEAST_ROWS = 128  # of a block: smaller ones save little and turn worse (docs/kernels.md)


@dataclass(frozen=True)
class Optimizer:
    name: Literal["adamw", "muon"] = "adamw"
    lr: float = 1e-4  # AdamW: everything that has no rate of its own
    embedding_lr: float | None = None  # token, position and segment tables; None: lr
    muon_lr: float = 0.02  # the trunk's matrices under Muon
    muon_blocks: int = 1  # Muon cuts matrices into blocks of rows, so many to the shorter side; 1: turned as a whole
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-6
    momentum: float = 0.95  # Muon's, reached after `momentum_warmup` steps from 0.85
    momentum_warmup: int = 200
    clip: float = 1.0  # the gradient's largest norm; 0: no clipping

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.muon_lr <= 0 or self.clip < 0:
            raise BadInput("optimizer.lr and optimizer.muon_lr must be above 0, optimizer.clip at least 0")
        if self.muon_blocks < 1:
            raise BadInput(f"optimizer.muon_blocks={self.muon_blocks} must be at least 1: matrices turned as a whole")


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` with all matrices of one shape turned in one product: the same update, half the time.

    quick: three steps of Newton-Schulz from a nearer start instead of five, which turn as well (see `orthogonal`).
    parts: of a weight in which several matrices are stacked, how many. rows: of a weight of which this process holds
    but its share, how many it has in all.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        quick: bool = False,
        parts: Mapping[Any, int] | None = None,
        rows: Mapping[Any, int] | None = None,
        world: World = ALONE,
        **settings: Any,
    ):
        super().__init__(params, ns_steps=3 if quick else 5, **settings)
        self.quick = quick
        self.parts, self.rows, self.world = parts or {}, rows or {}, world

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
            moves = [gradient.lerp(buffer, nesterov) for gradient, buffer in zip(gradients, buffers, strict=True)]
            if self.rows and moves:
                moves = self.world.whole(moves, [self.rows[p] for p in parameters])
            matrices = [move.chunk(self.parts.get(p, 1)) for p, move in zip(parameters, moves, strict=True)]
            turned = iter(self._turned([matrix for some in matrices for matrix in some], group))
            for parameter, some in zip(parameters, matrices, strict=True):
                update = torch.cat([next(turned) for _ in some])
                if self.rows:
                    update = update[self.world.share(len(update))]
                rate = _adjust_lr(lr, group["adjust_lr_fn"], some[0].shape)
                parameter.mul_(1 - lr * group["weight_decay"]).add_(update, alpha=-rate)

    def _turned(self, matrices: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """Each of them made orthogonal; in the same order."""
        shapes: dict[torch.Size, list[int]] = {}
        for i, matrix in enumerate(matrices):
            shapes.setdefault(matrix.shape, []).append(i)
        found = list(matrices)
        for members in shapes.values():
            stacked = torch.stack([matrices[i].bfloat16() for i in members])
            for i, one in zip(members, self.world.divided(stacked, lambda x: self._turn(x, group)), strict=True):
                found[i] = one
        return found

    def _turn(self, x: Tensor, group: dict[str, Any]) -> Tensor:
        return orthogonal(x, group["ns_coefficients"], group["ns_steps"], group["eps"], self.quick)


def orthogonal(
    x: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float, scaled: bool = False
) -> Tensor:
    """Newton-Schulz: each (n, m) matrix of x (k, n, m) moves towards the nearest semi-orthogonal one, in bfloat16.

    scaled: its shorter side is first divided by the roots of the sums of its Gram matrix, which brings all singular
    values to at most 1 and most of them near it, for nothing: the first step needs the Gram matrix anyway. Three steps
    then do for five (Boissin et al. 2025, "Turbo-Muon"; the bound: Prach and Lampert 2022).
    """
    a, b, c = coefficients
    x = x.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    gram = x @ x.mT
    if scaled:
        by = gram.abs().sum(-1, dtype=torch.float32).clamp(min=eps).rsqrt().to(x.dtype)  # (k, n)
        x, gram = x * by[..., None], gram * by[..., None] * by[..., None, :]
    for step in range(steps):
        if step:
            gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Optimizers:
    """AdamW and Muon as one: `step(factor)` scales every rate, and the state is a flat dict of named tensors."""

    def __init__(self, model: nn.Module, heads: nn.Module, settings: Optimizer, world: World = ALONE):
        self.settings, self.world = settings, world
        self.trained = {f"{prefix}.{n}": p for prefix, m in (("model", model), ("heads", heads))
                        for n, p in m.named_parameters() if p.requires_grad}  # fmt: skip
        self.trained = _unique(self.trained)
        self.divided = any(held(p) is not p for p in self.trained.values())
        # What is moved here: the parameters themselves, or the rows of them that this process holds, in the same memory
        self.parameters = {n: nn.Parameter(held(p)) if self.divided else p for n, p in self.trained.items()}
        embeddings = {id(p) for p in model.embeddings.parameters()}  # type: ignore[attr-defined]
        blocks = settings.muon_blocks
        matrices = _matrix_parts(model, blocks) | _matrix_parts(heads, blocks) if settings.name == "muon" else {}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        parts: dict[nn.Parameter, int] = {}
        for name, p in self.parameters.items():
            trained = id(self.trained[name])
            if trained in matrices:
                parts[p] = matrices[trained]
                continue
            lr = settings.embedding_lr if settings.embedding_lr is not None and trained in embeddings else settings.lr
            # Gains and biases are not decayed, as in every published BERT.
            groups.setdefault((lr, settings.weight_decay if p.ndim > 1 else 0.0), []).append(p)
        adamw = torch.optim.AdamW(
            [{"params": ps, "lr": lr, "weight_decay": decay} for (lr, decay), ps in groups.items()],
            betas=settings.betas,
            eps=settings.eps,
            fused=True,
        )
        self.all: list[torch.optim.Optimizer] = [adamw]
        if parts:
            whole = {p: len(self.trained[n]) for n, p in self.parameters.items()} if self.divided else None
            moved = {"lr": settings.muon_lr, "weight_decay": settings.weight_decay}
            self.all.append(Muon(parts, quick=True, parts=parts, rows=whole, world=world, **moved))
        self.base = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.all]

    def clip(self) -> float:
        """Scale the gradients down to the largest norm allowed; the norm they had, over all processes."""
        if self.divided:
            for name, p in self.parameters.items():
                gradient = self.trained[name].grad
                p.grad = None if gradient is None else held(gradient)
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters.values() if p.grad is not None])
        if self.divided:
            norm = torch.tensor(self.world.add({"square": float(norm) ** 2})["square"] ** 0.5, device=norm.device)
        largest = self.settings.clip or float("inf")
        nn.utils.clip_grads_with_norm_(self.parameters.values(), largest, norm)
        return float(norm)

    def step(self, step: int, factor: float) -> None:
        """After `clip`, which every step begins with."""
        for optimizer, rates in zip(self.all, self.base, strict=True):
            for group, lr in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = lr * factor
                if "momentum" in group:
                    warm = min(1.0, step / max(1, self.settings.momentum_warmup))
                    group["momentum"] = 0.85 + (self.settings.momentum - 0.85) * warm
            optimizer.step()
        for p in (*self.parameters.values(), *self.trained.values()):
            p.grad = None

    def state(self) -> dict[str, Tensor]:
        """{"model.layers.0.attention.qkv.weight/momentum_buffer": tensor, ...}; of a divided weight, our rows of it."""
        names = {p: name for name, p in self.parameters.items()}
        return {
            f"{names[p]}/{key}": value  # type: ignore[index]
            for optimizer in self.all
            for p, values in optimizer.state.items()
            for key, value in values.items()
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """What `state` gave, here or in a world of another size, whose tensors are whole."""
        owners = {p: optimizer for optimizer in self.all for group in optimizer.param_groups for p in group["params"]}
        for key, value in state.items():
            name, field = key.rsplit("/", 1)
            if name not in self.parameters:
                raise BadInput(
                    f"the checkpoint keeps {key}, which this version of masklab has no place for: an older one wrote "
                    f"it; go on with that version, or begin anew in another folder (--out)"
                )
            p = self.parameters[name]
            owners[p].state[p][field] = value.clone()


def _unique(parameters: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Tied weights are one parameter: the first name counts."""
    seen: dict[int, str] = {}
    return {name: p for name, p in parameters.items() if seen.setdefault(id(p), name) == name}


def _matrix_parts(model: nn.Module, blocks: int) -> dict[int, int]:
    """The matrices of the trunk, or of a second one among the heads, and how many equal parts the rows of each make.

    qkv 3, gated feed-forward 2, else 1; times the blocks in each of these, of `LEAST_ROWS` rows or more. They divide it
    evenly, so that none reaches from one matrix into the next.
    """
    trunks = [m.layers for m in model.modules() if isinstance(getattr(m, "layers", None), nn.ModuleList)]
    inside: Iterable[nn.Module] = (m for trunk in trunks for m in trunk.modules())  # type: ignore[union-attr]
    found: dict[int, int] = {}
    for m in inside:
        if isinstance(m, nn.Linear):
            parts: int = getattr(m, "parts", 1)
            height = m.out_features // parts
            shorter = min(height, m.in_features)
            rows = max(LEAST_ROWS, shorter // blocks)
            most = height // rows if rows < shorter else 1
            found[id(m.weight)] = parts * next(n for n in range(most, 0, -1) if height % n == 0)
    return found
