"""How the networks of one-shot avatars compute: the one place for what trades accuracy, memory or start-up for speed.

Geometry and splatting use 32 bits whatever is chosen. What runs on a GPU has not been run on one yet.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from vultus.errors import VultusError


@dataclass(frozen=True)
class Compute:
    """precision: `float32`; `tf32`: products of 32-bit numbers rounded to 19 bits (NVIDIA, from Ampere on); `bfloat16`:
    layers in 16 bits, on processors and GPUs that have such instructions. channels_last: the memory layout that tensor
    cores want (CUDA; on the CPU the fast ways choose their own). compiled: compile the neural renderer when it is first
    used, and replay it as a CUDA graph (CUDA only: on the CPU it has a fast way of its own)."""

    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    channels_last: bool = False
    compiled: bool = False

    def require(self, device: torch.device | str) -> None:
        """Raise VultusError where a device cannot do this, or would only pretend to."""
        kind = torch.device(device).type
        if self.precision not in ("float32", "tf32", "bfloat16"):
            raise VultusError(f"there is no precision {self.precision!r}; choose float32, tf32 or bfloat16")
        if kind == "cpu":
            if self.precision == "tf32":
                raise VultusError("tf32 is a mode of NVIDIA GPUs; on the CPU choose float32")
            if self.precision == "bfloat16" and not cpu_has_bfloat16():
                raise VultusError(
                    "this processor has no bfloat16 instructions (AVX512-BF16, AMX or Arm's BF16) and would be slower "
                    "with it; choose float32"
                )
            if self.compiled:
                raise VultusError("compiled is for GPUs; on the CPU the neural renderer has a fast way without it")
        elif kind == "cuda":
            old = torch.cuda.get_device_capability(device) < (8, 0)
            if self.precision != "float32" and old:
                raise VultusError(f"this GPU is too old for {self.precision} (Ampere or newer); choose float32")
            if self.compiled and importlib.util.find_spec("triton") is None:
                raise VultusError(
                    "compiled needs Triton, which comes with PyTorch for CUDA on Linux: pip install triton"
                )

    @contextmanager
    def running(self, device: torch.device) -> Iterator[None]:
        """A block whose networks compute so."""
        with (
            _products_of_19_bits(self.precision == "tf32") if device.type == "cuda" else nullcontext(),
            torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16"),
        ):
            yield

    def prepare(self, network: nn.Module, renderer: nn.Module) -> None:
        """Change a network's memory layout and how its neural renderer is called as this wants it."""
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                layout = torch.channels_last if self.channels_last else torch.contiguous_format
                module.weight.data = module.weight.data.contiguous(memory_format=layout)
        if self.compiled:
            renderer.compile(mode="reduce-overhead")


@contextmanager
def _products_of_19_bits(wanted: bool) -> Iterator[None]:
    """PyTorch's switches are the process's, so they are put back."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    kept = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = wanted  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = kept  # pyright: ignore[reportAttributeAccessIssue]


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies 16-bit numbers faster than 32-bit ones; oneDNN then does so."""
    if torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()
