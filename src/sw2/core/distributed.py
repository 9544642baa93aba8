"""Several processes that learn one program: started by torchrun, joined here.

Each process computes a share of every batch; gradients are averaged, so that N processes take the same steps as one to
rounding. Two layouts:

- *replicate* (small models): every process holds the whole network; gradients are averaged by one all-reduce over a
  flat vector after the backward pass. DistributedDataParallel would hide the communication behind the backward pass,
  but it binds to one forward per backward, which players in turn do not have.
- *shard* (large models): FSDP2 (`fully_shard`) on each block of the model; parameters, gradients and optimiser state
  are spread over the processes.

Snapshots are gathered into whole tensors, so a checkpoint written by any number of processes resumes on any other.
On the CPU the backend is gloo, on CUDA nccl.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sw2.core.model import Model, blocks

__all__ = ["World", "average_gradients", "gather", "scatter_into", "shard", "world"]


@dataclass(frozen=True)
class World:
    """This process among `size`; rank 0 writes files and speaks."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()

    def agree(self, value: Any) -> Any:
        """Rank 0's value, in every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def any(self, flag: bool) -> bool:
        """Whether `flag` holds in at least one process."""
        if self.size == 1:
            return flag
        flags = torch.tensor([float(flag)])
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return bool(flags.item())

    def mean(self, values: Sequence[float]) -> list[float]:
        """The mean of each value over the processes."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor)
        return (tensor / self.size).tolist()


def world() -> World:
    """The world that torchrun made for this process, joined on first use; a world of one otherwise."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return World(rank=dist.get_rank(), size=size)


def shard(model: Model) -> None:
    """Spread `model` over the processes with FSDP2, block by block, in place.

    What is in no block stays with the model as a whole, which is gathered for all of a forward pass. After it
    everything is spread again, so that weights are never found whole between two passes.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    device = "cuda" if torch.cuda.is_available() else "cpu"
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    for _, block in blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes; FSDP2 has done so already for sharded ones."""
    gradients = [p.grad for p in parameters if p.grad is not None and not _is_sharded(p.grad)]
    if not gradients:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    offset = 0
    for gradient in gradients:
        gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
        offset += gradient.numel()


def _is_sharded(tensor: Tensor) -> bool:
    if not dist.is_available() or not dist.is_initialized():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def gather(tensor: Tensor) -> Tensor:
    """The whole tensor, in every process."""
    return tensor.full_tensor() if _is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def scatter_into(target: Tensor, whole: Tensor) -> None:
    """Copy the whole tensor `whole` into `target`, each process its own part."""
    with torch.no_grad():
        if _is_sharded(target):
            from torch.distributed.tensor import distribute_tensor

            whole = whole.to(target.device)
            target.copy_(distribute_tensor(whole, target.device_mesh, target.placements))  # type: ignore[attr-defined]
        else:
            target.copy_(whole)
