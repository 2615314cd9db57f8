"""ProcessGroup: the processes that share every meta-batch of a run (torch.distributed: gloo, or NCCL on GPUs)."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from fewshot_env.errors import FewShotError

Value = TypeVar("Value")


class ProcessLost(Exception):
    """Another process of the group is gone, or does not answer."""


@dataclass(frozen=True)
class ProcessGroup:
    """Where one process stands among `size`. With one process every method is the identity."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes checkpoints, logs and results."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """The part of 0 .. count - 1 that is this process's."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sum(self, tensors: list[Tensor]) -> None:
        """Sum tensors over the group, in place, in one exchange. Raises ProcessLost."""
        if self.size == 1:
            return
        flat = torch.cat([t.flatten().to(tensors[0].dtype) for t in tensors])
        _exchange(lambda: dist.all_reduce(flat))
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def largest(self, value: int) -> int:
        """The largest of all processes' values. Raises ProcessLost."""
        if self.size == 1:
            return value
        whole = torch.tensor(value)
        _exchange(lambda: dist.all_reduce(whole, dist.ReduceOp.MAX))
        return int(whole)

    def gather(self, value: Value) -> list[Value]:
        """Every process's value, in order of rank. Raises ProcessLost."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        _exchange(lambda: dist.all_gather_object(values, value))
        return values

    def leave(self) -> None:
        """End the connection."""
        if self.size > 1:
            dist.destroy_process_group()


SINGLE_PROCESS = ProcessGroup()


def free_port() -> int:
    """A port of this machine at which a group can meet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def place(rank: int, size: int, port: int) -> dict[str, str]:
    """The environment variables from which process `rank` of a group on this machine joins, as torchrun sets them."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    return where | {"RANK": str(rank), "LOCAL_RANK": str(rank)}


def join(device: str) -> ProcessGroup:
    """The group that torchrun's (or `--processes`') environment variables describe; a single process without them.

    Raises FewShotError where the group cannot be joined.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return ProcessGroup()
    cuda, local = _on_gpus(device), os.environ.get("LOCAL_RANK", "")
    check_gpus(device, int(local) + 1 if local.isdigit() else 1)
    try:
        if cuda:
            torch.cuda.set_device(int(local))
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    except (KeyError, ValueError, RuntimeError) as error:
        raise FewShotError(
            f"WORLD_SIZE is set, but the other processes cannot be reached ({str(error).splitlines()[0]}); start with "
            "torchrun or --processes, or unset WORLD_SIZE"
        ) from error
    return ProcessGroup(dist.get_rank(), dist.get_world_size())


def check_gpus(device: str, processes: int) -> None:
    """Raise FewShotError where so many processes of this machine have no GPU each, though they would compute there."""
    gpus = torch.cuda.device_count()
    if _on_gpus(device) and processes > gpus:
        raise FewShotError(
            f"{processes} processes need a GPU each ({gpus} found); use fewer processes, or --device cpu"
        )


def _on_gpus(device: str) -> bool:
    return device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())


def _exchange(act: Callable[[], object]) -> None:
    try:
        act()
    except (RuntimeError, ValueError) as error:  # torch.distributed raises these for a lost connection
        raise ProcessLost(str(error).splitlines()[0]) from error
