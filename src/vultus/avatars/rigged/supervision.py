"""What a training step compares with: pictures reduced to the head, cut out, weighted and kept small in memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.avatars.rigged.grazing import grazing_skin
from vultus.avatars.rigged.parts import vertex_parts
from vultus.avatars.rigged.settings import RiggedSettings
from vultus.cameras import Camera
from vultus.captures import Capture, View
from vultus.captures.below_line import above_plane, above_shoulders, neck_border
from vultus.errors import VultusError
from vultus.heads.measures import head_height
from vultus.heads.model import HeadModel
from vultus.images.masks import dilate, soften

_CACHE_BYTES = 1_500_000_000
_MARGIN = 12
_WEIGHT_UNIT = 32.0
_SLACK = 0.012


@dataclass(frozen=True)
class Example:
    """A picture to learn from: colour times mask, mask, loss weight of every pixel, and the camera of this crop."""

    camera: Camera
    premultiplied: Float[Tensor, "H W 3"]
    mask: Float[Tensor, "H W 1"]
    weight: Float[Tensor, "H W 1"]

    def over(self, background: Float[Tensor, "3"]) -> Float[Tensor, "H W 3"]:
        """The picture over a background."""
        return self.premultiplied + (1 - self.mask) * background


class Supervision:
    """Examples of a capture's views, read on demand and kept as bytes.

    Args:
        silhouette: coverage of the head model in a camera at an instant, `[H W 1]`; what cuts off shoulders needs it.
    """

    def __init__(self, capture: Capture, head: HeadModel, settings: RiggedSettings) -> None:
        self._capture, self._head, self._settings = capture, head, settings
        self._cache: OrderedDict[tuple[View, int], tuple[Camera, Tensor, Tensor, Tensor]] = OrderedDict()
        self._bytes = 0
        self._neck = neck_border(head)
        # Hair of the nape lies behind the neck, beside which a picture shows collars.
        height = head.template[:, 1]
        hair = (vertex_parts(head).weights["hair"] > 0.5) & (
            height > height.max() - 0.75 * head_height(head, head.neutral())
        )
        hair = hair.nonzero()[:, 0]
        self._hair = hair if hair.numel() else None

    def example(
        self,
        view: View,
        vertices: Float[Tensor, "V 3"] | None,
        silhouette: Float[Tensor, "H W 1"] | None,
        divisor: int = 1,
    ) -> Example:
        """The example of a view at `1 / divisor` of its size. Vertices and silhouette are used on the first call only.

        Raises:
            VultusError: the picture cannot be read.
        """
        key = (view, divisor)
        if key not in self._cache:
            self._keep(key, self._make(view, vertices, silhouette, divisor))
        self._cache.move_to_end(key)
        camera, color, mask, weight = self._cache[key]
        return Example(camera, color.float() / 255, mask.float() / 255, weight.float() / _WEIGHT_UNIT)

    def has(self, view: View, divisor: int = 1) -> bool:
        """Whether the example is in memory."""
        return (view, divisor) in self._cache

    def _keep(self, key: tuple[View, int], example: Example) -> None:
        stored = (
            example.camera,
            (example.premultiplied * 255).round().clamp(0, 255).to(torch.uint8),
            (example.mask * 255).round().clamp(0, 255).to(torch.uint8),
            (example.weight * _WEIGHT_UNIT).round().clamp(0, 255).to(torch.uint8),
        )
        self._bytes += sum(tensor.numel() for tensor in stored[1:])
        self._cache[key] = stored
        while self._bytes > _CACHE_BYTES and len(self._cache) > 1:
            _, old = self._cache.popitem(last=False)
            self._bytes -= sum(tensor.numel() for tensor in old[1:])

    def _make(self, view: View, vertices: Tensor | None, silhouette: Tensor | None, divisor: int) -> Example:
        capture, settings = self._capture, self._settings
        camera = capture.camera(view)
        # Over black a picture is its colour times its mask.
        color, mask = capture.image(view, torch.zeros(3)), capture.mask(view)
        if settings.background not in ("varied", "black"):
            # A capture without masks is all foreground, and a constant background needs no cutting out.
            mask = mask if bool((mask < 1).any()) else torch.ones_like(mask)
        weight = torch.ones_like(mask)
        if vertices is not None:
            pixels = camera.project(vertices)
            is_believed = settings.hull and len(capture.camera_indices) > 2 and bool((mask < 0.5).any())
            if settings.cut_neck and silhouette is not None and not is_believed:
                keep = self._head_only(camera, vertices, silhouette)
                color, mask = color * keep, mask * keep
            weight = self._weight(pixels, weight)
            if settings.weights.grazing < 1:
                aside = grazing_skin(self._head, vertices, camera)
                weight = weight * (1 - (1 - settings.weights.grazing) * aside)
            if settings.crop:
                left, top, right, bottom = _box(mask, pixels, camera, divisor)
                camera = camera.cropped(left, top, right - left, bottom - top)
                color, mask, weight = (image[top:bottom, left:right] for image in (color, mask, weight))
        if float(mask.sum()) < 16:
            raise VultusError(
                f"{capture.root}: the picture of timestep {view.timestep}, camera {view.camera} shows no part of "
                "the head (its mask is empty); leave it out or mask it again"
            )
        if divisor > 1:
            width, height = camera.width // divisor, camera.height // divisor
            camera = camera.cropped(0, 0, width * divisor, height * divisor).resized(width, height)
            color, mask, weight = (_shrunk(image, divisor) for image in (color, mask, weight))
        return Example(camera, color, mask, weight)

    def _head_only(self, camera: Camera, vertices: Tensor, silhouette: Tensor) -> Float[Tensor, "H W 1"]:
        """1 where a picture may show the head: near the model, and below the neck only on it."""
        height = _head_height_pixels(camera, vertices)
        inside = (silhouette > 0.5).float()
        near = dilate(inside, max(1, round(_SLACK * height)))
        if self._hair is None:
            near = dilate(inside, max(1, round(self._settings.reach * height)))
        else:
            # Only hair leaves the model's surface: a disc around every hair vertex.
            hair = torch.zeros_like(inside)
            place = camera.project(vertices[self._hair]).floor().long()
            held = ((place >= 0) & (place < torch.tensor([camera.width, camera.height]))).all(-1)
            hair[place[held, 1], place[held, 0]] = 1.0
            near = torch.maximum(near, dilate(hair, max(1, round(self._settings.reach * height))))
        if self._neck is not None:
            if self._settings.shoulders:
                near = torch.where(
                    above_shoulders(self._head, camera, vertices, self._neck), near, torch.ones_like(near)
                )
            else:
                above = above_plane(camera, vertices[self._neck], vertices)
                near = torch.where(above, near, dilate(inside, max(1, round(_SLACK * height))))
        return soften(near, 1.0).clamp(0, 1)

    def _weight(self, pixels: Float[Tensor, "V 2"], weight: Tensor) -> Tensor:
        y, x = torch.meshgrid(torch.arange(weight.shape[0]) + 0.5, torch.arange(weight.shape[1]) + 0.5, indexing="ij")
        emphasis = {
            "left_eye_region": self._settings.weights.eyes,
            "right_eye_region": self._settings.weights.eyes,
            "lips": self._settings.weights.mouth,
        }
        for name, extra in emphasis.items():
            if extra == 0 or name not in self._head.regions:
                continue
            points = pixels[self._head.regions[name].long()]
            center, spread = points.mean(0), points.std(0).clamp_min(1.0)
            distance = ((x - center[0]) / spread[0]) ** 2 + ((y - center[1]) / spread[1]) ** 2
            weight = weight + extra * torch.exp(-0.5 * distance / 1.5**2)[..., None]
        return weight


def _head_height_pixels(camera: Camera, vertices: Tensor) -> float:
    depth = camera.to_camera(vertices)[:, 2].median().clamp_min(1e-3)
    return float(0.23 * camera.K[1, 1] / depth)


def _box(mask: Tensor, pixels: Tensor, camera: Camera, divisor: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what mask and head model cover, with a margin, of a size that can be divided."""
    rows, columns = (mask[..., 0] > 0.02).any(1).nonzero(), (mask[..., 0] > 0.02).any(0).nonzero()
    low = pixels.amin(0)
    high = pixels.amax(0)
    if rows.numel():
        low = torch.minimum(low, torch.stack([columns.min(), rows.min()]).to(low))
        high = torch.maximum(high, torch.stack([columns.max(), rows.max()]).to(high))
    unit = 2 * divisor
    left = max(0, int(low[0]) - _MARGIN) // unit * unit
    top = max(0, int(low[1]) - _MARGIN) // unit * unit
    right = min(camera.width, int(high[0]) + _MARGIN)
    bottom = min(camera.height, int(high[1]) + _MARGIN)
    right, bottom = left + max(unit, (right - left) // unit * unit), top + max(unit, (bottom - top) // unit * unit)
    return left, top, min(right, camera.width), min(bottom, camera.height)


def _shrunk(image: Float[Tensor, "H W C"], divisor: int) -> Float[Tensor, "h w C"]:
    """Area mean; rows and columns that do not fill a whole block are left out."""
    planes = image.permute(2, 0, 1)[None]
    return torch.nn.functional.avg_pool2d(planes, divisor)[0].permute(1, 2, 0)
