"""Data parallelism: several processes, each with a copy of the model and a share of every batch
(`torch.distributed`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from vultus.errors import VultusError


@contextmanager
def process_group(device: torch.device | str = "cpu") -> Iterator[None]:
    """The group that `torchrun` started this process in, for the block; nothing where it was started alone.

    Raises:
        VultusError: the other processes cannot be reached.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        yield
        return
    try:
        dist.init_process_group("nccl" if torch.device(device).type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        raise VultusError(f"the processes of this training cannot reach each other: {error}") from error
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, 0 for one that is alone. Process 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace every gradient by its mean over all processes. Every process must have gradients of the same tensors."""
    count = world_size()
    if count == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    # One transfer for all: small ones would each wait for the slowest process.
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= count
    offset = 0
    for gradient in gradients:
        gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
        offset += gradient.numel()


def any_process(flag: bool, device: torch.device | str = "cpu") -> bool:
    """Whether any process says so; every process gets the same answer."""
    if world_size() == 1:
        return flag
    value = torch.tensor([float(flag)], device=device if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())
