"""3x3 convolutions with fewer multiplications, where nothing is learned.

PyTorch's builds for Linux hold NNPACK, whose Winograd convolution F(6x6, 3x3) needs a fifth of a direct convolution's
multiplications but is not chosen for single images. It runs in float32 on the CPU and only forwards. Its results are
those of a direct convolution up to rounding, which is three to eight times as large: 5e-6 of the outputs' spread, the
largest of a million 6e-5. Everywhere else, and where it would be slower, the convolution is PyTorch's own.
`torch.backends.nnpack.flags(enabled=False)` turns it off.
"""

from __future__ import annotations

import functools
import os

import torch
from jaxtyping import Float
from torch import Tensor, nn

_LEAST_CHANNELS = 64
_LEAST_PIXELS = 1000
"""Below, on either side, transforming tiles and weights costs more than it saves (measured with AVX2)."""


def convolved(
    x: Float[Tensor, "B I H W"],
    weight: Float[Tensor, "O I k l"],
    bias: Float[Tensor, "O"] | None = None,
    padding: tuple[int, int] = (1, 1),
) -> Float[Tensor, "B O h w"]:
    """A convolution of stride 1 with zeros around the image, rows and columns of them as `padding` says."""
    if _winograd_pays(x, weight):
        return torch._nnpack_spatial_convolution(x, weight, bias, padding)
    return nn.functional.conv2d(x, weight, bias, padding=padding)


class Conv3x3(nn.Conv2d):
    """A layer of such a convolution that keeps the image's size."""

    def __init__(self, channels_in: int, channels_out: int, *, bias: bool = True) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1, bias=bias)

    def forward(self, input: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H W"]:
        return convolved(input, self.weight, self.bias)


def _winograd_pays(x: Tensor, weight: Tensor) -> bool:
    return (
        weight.shape[2:] == (3, 3)
        and min(weight.shape[:2]) >= _LEAST_CHANNELS
        and x.shape[-2] * x.shape[-1] >= _LEAST_PIXELS
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and torch._C._get_nnpack_enabled()
        and torch.get_num_threads() == _threads_of(os.getpid())
    )


@functools.cache
def _threads_of(process: int) -> int:
    """How many threads NNPACK has in this process; 0: it cannot be used.

    It starts its threads once, as many as PyTorch has at the time. They do not live on in a forked process, in which it
    would wait for them forever; a process that knows the answer of its parent must not ask again.
    """
    if process != _PROCESS or not torch._nnpack_available():
        return 0
    smallest = torch.zeros(1, 1, 8, 8)
    torch._nnpack_spatial_convolution(smallest, torch.zeros(1, 1, 3, 3), None, 1)
    return torch.get_num_threads()


_PROCESS = os.getpid()
