"""The compiled CPU backend: one call into the kernel library per image, with gradients for every tensor argument."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from ctypes import byref, c_double, c_float, c_int32, c_int64, c_void_p
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from vultus import kernels
from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.splats.gaussians import Gaussians
from vultus.splats.rasterize import Raster, RasterInfo, Work
from vultus.splats.settings import UNUSABLE_CAMERA, RasterSettings

_MAX_SIZE = 16384
_SMALL = 1 << 16  # bytes; below, torch's own memory is as fast
_NO_MEMORY, _BAD_CAMERA = 1, 2


def _structure(name: str, fields: list[tuple[str, Any]]) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": fields})


def _many(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


# The structures of kernels/source/splats.h, field by field.
_Scene = _structure(
    "_Scene",
    _many(c_int64, "count")
    + _many(c_int32, "channels width height threads sh_degree sh_stored antialiased inria_extent normalise absgrad")
    + _many(c_int32, "keep_state")
    + _many(c_float, "alpha_max near compensation_floor")
    + _many(c_void_p, "means rotations scales opacities colors view intrinsics background"),
)
_Image = _structure(
    "_Image",
    _many(c_void_p, "color alpha depth means2d depths radii")
    + _many(c_int64, "entries processed evaluated")
    + [("seconds", c_double * 4)],
)
_INPUTS = "means rotations scales opacities colors view intrinsics background"
_Gradients = _structure(
    "_Gradients",
    _many(c_void_p, "color alpha depth color_image depth_image")
    + _many(c_int32, "accumulate")
    + _many(c_void_p, f"{_INPUTS} means2d absgrad"),
)


def _pointer(tensor: Tensor | None, index: int, count: int) -> int | None:
    """Address of the index-th of `count` equal parts of a contiguous tensor."""
    if tensor is None:
        return None
    return tensor.data_ptr() + index * (tensor.numel() // count) * tensor.element_size()


def _check(error: int) -> None:
    if error == _NO_MEMORY:
        raise MemoryError("the rasteriser ran out of memory")
    if error == _BAD_CAMERA:
        raise VultusError(UNUSABLE_CAMERA)


class _Lent:
    """Memory of the kernel library, given back when the last tensor on it is gone."""

    def __init__(self, library: ctypes.CDLL, size: int) -> None:
        self._give = library.vultus_memory_give
        self.address = library.vultus_memory_take(size)
        if not self.address:
            raise MemoryError(f"no memory for an image of {size} bytes")

    def __del__(self) -> None:
        self._give(self.address)


def _empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """`torch.empty`, from memory that was used before: large fresh blocks cost more time than drawing into them."""
    size = 4 * math.prod(shape)
    if size < _SMALL:
        return torch.empty(shape, dtype=dtype)
    lent = _Lent(kernels.load(), size)
    buffer = (ctypes.c_char * size).from_address(lent.address)
    buffer.owner = lent  # type: ignore[attr-defined]
    return torch.frombuffer(buffer, dtype=dtype).view(shape)


class _KernelState:
    """What the kernel keeps of one image for the backward pass."""

    def __init__(self) -> None:
        self.pointer = c_void_p()

    def __del__(self) -> None:
        if self.pointer:
            kernels.load().vultus_release(self.pointer)


class _Work:
    """The parts of a call that are the same in both directions, and its outputs without gradient."""

    def __init__(self, gaussians: Gaussians, camera: Camera, settings: RasterSettings, batch: torch.Size) -> None:
        n = gaussians.count
        self.camera, self.settings, self.batch, self.count = camera, settings, batch, n
        self.channels, self.degree = gaussians.channels, gaussians.active_degree
        self.stored = 0 if gaussians.sh is None else gaussians.sh.shape[-2]
        self.radii = _empty(*batch, n, 2, dtype=torch.int32)
        self.depths = _empty(*batch, n)
        self.means2d = _empty(*batch, n, 2)
        self.absgrad = torch.zeros(*batch, n, 2) if settings.absgrad else None
        self.states: list[_KernelState] = []
        self.statistics = [0, 0, 0]
        self.seconds = [0.0, 0.0, 0.0, 0.0]

    def places(self, inputs: Sequence[Tensor | None]) -> list[tuple[list[int], int]]:
        """For every input: which of its batch elements each image uses, and how many it has."""
        tails = [2, 2, 2, 1, 2 if self.degree is None else 3, 2, 2, 1]
        images = self.batch.numel()
        places = []
        for tensor, tail in zip(inputs, tails, strict=True):
            own = torch.Size() if tensor is None else tensor.shape[: tensor.dim() - tail]
            if own.numel() == 1:
                places.append(([0] * images, 1))
            elif own == self.batch:
                places.append((list(range(images)), images))
            else:
                index = torch.arange(own.numel()).view(own).expand(self.batch).flatten().tolist()
                places.append((index, own.numel()))
        return places

    def scene(self, inputs: Sequence[Tensor | None], places: list[tuple[list[int], int]], i: int, keep: bool) -> Any:
        settings = self.settings
        return _Scene(
            self.count,
            self.channels,
            self.camera.width,
            self.camera.height,
            torch.get_num_threads(),
            -1 if self.degree is None else self.degree,
            self.stored,
            settings.antialiased,
            settings.extent == "inria",
            settings.normalise_rotations,
            settings.absgrad,
            keep,
            settings.alpha_max,
            settings.near,
            settings.compensation_floor,
            *(_pointer(tensor, index[i], count) for tensor, (index, count) in zip(inputs, places, strict=True)),
        )


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, work: _Work, keep: bool, with_depth: bool, *tensors: Tensor | None) -> Any:
        # The last tensor is work.means2d, an input only so that its gradient can be read.
        inputs = [None if t is None else t.contiguous() for t in tensors[:-1]]
        images, height, width = work.batch.numel(), work.camera.height, work.camera.width
        color = _empty(*work.batch, height, width, work.channels)
        alpha = _empty(*work.batch, height, width, 1)
        depth = _empty(*work.batch, height, width, 1) if with_depth else None
        library, places = kernels.load(), work.places(inputs)
        for i in range(images):
            outputs = [color, alpha, depth, work.means2d, work.depths, work.radii]
            image = _Image(*(_pointer(tensor, i, images) for tensor in outputs))
            state = _KernelState()
            scene = work.scene(inputs, places, i, keep)
            _check(library.vultus_splats_forward(byref(scene), byref(image), byref(state.pointer)))
            work.states.append(state)
            for k, value in enumerate((image.entries, image.processed, image.evaluated)):
                work.statistics[k] += value
            for k, value in enumerate(image.seconds):
                work.seconds[k] += value
        if keep:
            ctx.work = work
            ctx.save_for_backward(color, depth, *inputs)
        ctx.set_materialize_grads(False)
        return (color, alpha, depth) if with_depth else (color, alpha)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *cotangents: Tensor | None
    ) -> Any:
        work: _Work = ctx.work
        color, depth, *inputs = ctx.saved_tensors
        if all(c is None for c in cotangents):
            return (None,) * (len(inputs) + 4)
        given = [None if c is None else c.contiguous() for c in (*cotangents, None)[:3]]
        needed = ctx.needs_input_grad[3:]
        gradients = [
            _empty(*t.shape) if wanted and t is not None else None for t, wanted in zip(inputs, needed, strict=False)
        ]
        means2d = _empty(*work.means2d.shape) if needed[-1] else None
        library, places, images = kernels.load(), work.places(inputs), work.batch.numel()
        for i in range(images):
            seen = sum(1 << k for k, (index, _) in enumerate(places) if index[i] in index[:i])
            parts = [_pointer(g, index[i], count) for g, (index, count) in zip(gradients, places, strict=True)]
            request = _Gradients(
                *(_pointer(tensor, i, images) for tensor in (*given, color, depth)),
                seen,
                *parts,
                _pointer(means2d, i, images),
                _pointer(work.absgrad, i, images),
            )
            scene = work.scene(inputs, places, i, True)
            _check(library.vultus_splats_backward(byref(scene), work.states[i].pointer, byref(request)))
        return (None, None, None, *gradients, means2d)


def rasterize_cpu(
    gaussians: Gaussians,
    camera: Camera,
    background: Float[Tensor, "*#B D"] | None,
    settings: RasterSettings,
    batch: torch.Size,
    depth: bool,
) -> Raster:
    """`rasterize` on the compiled library. Computes in float32."""
    colors = gaussians.features if gaussians.sh is None else gaussians.sh
    tensors = [gaussians.means, gaussians.rotations, gaussians.scales, gaussians.opacities, colors]
    tensors += [camera.world_to_camera, camera.K, background]
    for tensor in tensors:
        if tensor is not None and tensor.device.type != "cpu":
            raise VultusError(
                f"the cpu backend cannot draw tensors on {tensor.device}; use backend='cuda' or .to('cpu')"
            )
    if max(camera.width, camera.height) > _MAX_SIZE:
        raise VultusError(f"images of {camera.width} x {camera.height} are too large; the limit is {_MAX_SIZE} pixels")
    if batch.numel() == 0:
        raise VultusError("the batch of cameras or Gaussians is empty; there is no image to draw")
    tensors = [None if tensor is None else tensor.float() for tensor in tensors]
    work = _Work(gaussians, camera, settings, batch)
    keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    if keep:
        work.means2d.requires_grad_()
    images = _Rasterize.apply(work, keep, depth, *tensors, work.means2d)
    entries, visited, evaluated = work.statistics
    done = Work(entries, visited, evaluated, tuple(work.seconds))
    info = RasterInfo(work.means2d, work.radii, work.depths, work.absgrad, done)
    return Raster(images[0], images[1], images[2] if depth else None, info)
