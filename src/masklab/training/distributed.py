"""Several processes train one model: who is who, what they add up, and which rows of each weight a process holds.

`join()` gives the world that this process was started in, by `masklab pretrain --processes N` or by torchrun; without
either it is a world of one, in which every method gives back what it was given and nothing waits for anybody.

Each process reads its share of a step's rows; gradients are added up while the backward pass still runs (Li et al.
2020, "PyTorch distributed", DDP), or the weights themselves are divided as well (Zhao et al. 2023, "PyTorch FSDP", in
its second form, `fully_shard`). Of a weight that is divided, each process holds an equal number of rows, the last ones
fewer or none.
"""

import atexit
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from masklab.errors import BadInput
from masklab.models.transformer import Block
from masklab.training.launch import MEETING, ProcessLost

T = TypeVar("T")
_GONE = re.compile("Connection (closed|reset|refused)|Broken pipe|[Tt]imed out")  # how gloo says it


@dataclass(frozen=True)
class World:
    """The processes of a run, numbered from 0; the first one writes and speaks for all."""

    rank: int = 0
    ranks: int = 1
    neighbours: int = 1  # how many of them are on this machine
    store: Any = None  # where they meet: a torch.distributed.Store

    @property
    def first(self) -> bool:
        return self.rank == 0

    def threads(self, wish: int) -> int:
        """How many threads each process takes: as wished, else its share of the cores; 0: all of them."""
        if wish or self.neighbours == 1:
            return wish
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, cores // self.neighbours)

    def share(self, n: int) -> slice:
        """Which of n things, or rows, are this process's: share(5) in a world of two -> 0:3 and 3:5."""
        each = -(-n // self.ranks)
        return slice(min(n, self.rank * each), min(n, (self.rank + 1) * each))

    def gather(self, values: Sequence[float]) -> np.ndarray:
        """What every process gives, (ranks, n) float64, the same everywhere."""
        here = torch.tensor([values], dtype=torch.float64)
        if self.ranks == 1:
            return here.numpy()
        return _everyones(here[0]).numpy()

    def add(self, values: dict[str, float]) -> dict[str, float]:
        """Each value added up over all processes, which must give the same names."""
        if self.ranks == 1:
            return values
        names = sorted(values)
        return dict(zip(names, self.gather([values[name] for name in names]).sum(0).tolist(), strict=True))

    def told(self, value: T) -> T:
        """What the first process says, everywhere: anything that JSON can hold."""
        if self.ranks == 1:
            return value
        text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        size = torch.tensor([len(text)])
        dist.broadcast(size, 0)
        if not self.first:
            text = torch.empty(int(size), dtype=torch.uint8)
        dist.broadcast(text, 0)
        return json.loads(text.numpy().tobytes())

    def wait(self) -> None:
        """Until all processes are here."""
        self.gather([0.0])

    @contextmanager
    def one_ahead(self) -> Iterator[None]:
        """The first process goes ahead; the others follow and find what it has left on the disk."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def speaks(self) -> bool:
        """May this process say what went wrong? The first that asks may, so that it is said once."""
        try:
            return self.store is None or self.store.add("said", 1) == 1
        except RuntimeError:  # the store went with the process that kept it
            return True

    def divided(self, x: Tensor, work: Callable[[Tensor], Tensor]) -> Tensor:
        """work(x), (k, ...) -> (k, ...), done for each of the k by one process alone and then known to all."""
        if self.ranks == 1:
            return work(x)
        mine = self.share(len(x))
        done = work(x[mine])
        room = done.new_zeros(-(-len(x) // self.ranks), *done.shape[1:])
        room[: len(done)] = done
        return _everyones(room).flatten(0, 1)[: len(x)]

    def whole(self, parts: Sequence[Tensor], rows: Sequence[int]) -> list[Tensor]:
        """All rows of tensors of which each process holds its share: [(its rows, ...)], [n] -> [(n, ...)]."""
        heights = [-(-n // self.ranks) for n in rows]
        padded = [p.new_zeros(height, *p.shape[1:]) for p, height in zip(parts, heights, strict=True)]
        for room, part in zip(padded, parts, strict=True):
            room[: len(part)] = part
        all_ = _everyones(torch.cat([room.flatten() for room in padded]))  # one exchange for all tensors
        pieces = all_.split([room.numel() for room in padded], 1)
        return [piece.reshape(-1, *part.shape[1:])[:n] for piece, part, n in zip(pieces, parts, rows, strict=True)]


ALONE = World()


def _everyones(x: Tensor) -> Tensor:
    """(ranks, *x.shape): each process's x, which is of one shape everywhere."""
    found = x.new_empty(dist.get_world_size(), *x.shape)
    dist.all_gather(list(found.unbind()), x.contiguous())
    return found


@cache
def join() -> World:
    """The world that this process was started in; processes find each other the first time that it is asked."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks == 1:
        return ALONE
    rank, neighbours = int(os.environ["RANK"]), int(os.environ.get("LOCAL_WORLD_SIZE", ranks))
    gpu = torch.cuda.is_available()
    if gpu:
        if neighbours > torch.cuda.device_count():
            raise BadInput(f"{neighbours} processes, but this machine has {torch.cuda.device_count()} GPUs: one each")
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)))
    meeting = os.environ.get(MEETING)
    found: Any = dist  # whose types do not name all that it has
    store = found.FileStore(meeting, ranks) if meeting else next(iter(found.rendezvous("env://")))[0]
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", store=store, rank=rank, world_size=ranks)
    atexit.register(dist.destroy_process_group)
    return World(rank, ranks, neighbours, found.PrefixStore("masklab", store))


@contextmanager
def noticing() -> Iterator[None]:
    """An exchange that fails because somebody has gone is a ProcessLost."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or _GONE.search(str(error)):
            raise ProcessLost(
                "another process of this run has ended; what was saved is whole, and the same command goes on with it"
            ) from error
        raise


def spread(pretrainer: nn.Module, sharded: bool, world: World, device: torch.device) -> nn.Module:
    """What to call in the place of `pretrainer`, so that its gradients are means over all processes.

    Every process begins with the first one's weights. sharded: they are divided in place, layer by layer; what is in no
    layer (tables, heads) is one more unit, put together for the whole of each forward pass, so that heads may look into
    tables that are not theirs.
    """
    if world.ranks == 1:
        return pretrainer
    with torch.no_grad():
        for tensor in (*pretrainer.parameters(), *pretrainer.buffers()):
            dist.broadcast(tensor, 0)
    if sharded:
        _shard(pretrainer, world, device)
        return pretrainer
    # Unused ones are looked for because a step need not use every head, and because buckets then stay as they are from
    # the first step on: a resumed run adds up in the same order.
    return nn.parallel.DistributedDataParallel(
        pretrainer, init_sync=False, find_unused_parameters=True, gradient_as_bucket_view=True
    )


def _shard(pretrainer: nn.Module, world: World, device: torch.device) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    hooks = {name: getattr(p, "_post_accumulate_grad_hooks", None) for name, p in pretrainer.named_parameters()}
    mesh = init_device_mesh(device.type, (world.ranks,))
    for module in list(pretrainer.modules()):
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh)
    fully_shard(pretrainer, mesh=mesh)
    for name, p in pretrainer.named_parameters():  # new ones, which know nothing of what hung on the old
        for hook in (hooks[name] or {}).values():
            p.register_post_accumulate_grad_hook(partial(_on_held_rows, hook))


def _on_held_rows(hook: Callable[[Any], None], p: Tensor) -> None:
    """A hook that changes `.grad` changes the rows of it that this process holds."""
    if p.grad is not None:
        hook(SimpleNamespace(grad=held(p.grad)))


def held(p: Tensor) -> Tensor:
    """What this process holds of a tensor: all of it, or of one that is divided its own rows, in the same memory."""
    return getattr(p, "_local_tensor", p)


def exchanging(module: nn.Module, now: bool) -> AbstractContextManager[None]:
    """Inside, a backward pass adds gradients up over all processes, or (not now) keeps them here for a later one."""
    if isinstance(module, nn.parallel.DistributedDataParallel):
        return nullcontext() if now else module.no_sync()
    if hasattr(module, "set_requires_gradient_sync"):
        module.set_requires_gradient_sync(now)  # type: ignore[operator]
    return nullcontext()
