"""`Capture`: frames of one person seen by cameras at times, with the head parameters of every instant."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.cameras import Camera
from vultus.captures.pictures import Picture, Pixels
from vultus.errors import VultusError
from vultus.images import to_float
from vultus.images.masks import composite
from vultus.motion import Motion

SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True, order=True)
class View:
    """One picture: instant `timestep` (an index into the motion) seen by camera number `camera`."""

    timestep: int
    camera: int
    picture: Picture = field(repr=False, compare=False)
    mask_picture: Picture | None = field(repr=False, compare=False)


@dataclass(frozen=True)
class Source:
    """Where a capture comes from: the file's name and the SHA-256 of its bytes."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Landmarks:
    """Detected points of every view: pixels `[N, L, 2]` and weights `[N, L]` (0: not seen), rows as in `rows`."""

    set_name: str
    rows: Mapping[tuple[int, int], int]
    points: Float[Tensor, "N L 2"]
    weights: Float[Tensor, "N L"]


@dataclass(frozen=True, eq=False)
class Capture:
    """A capture on disk. Pictures and masks are read when asked for; everything else is in memory.

    `motion` has one row per timestep. `head_name` and `head_fingerprint` name the head model its parameters belong to.
    `source` says what it was made from, None where that is not known. `val` and `test` are the held-out views.
    `camera_names` are the names of cameras that have others than their numbers. `over_white` says whether the pictures
    are stored composited over white. Of footage without head parameters (see `has_motion`) the motion is nowhere valid.
    """

    root: Path
    motion: Motion
    views: tuple[View, ...]
    fps: float
    head_name: str
    head_fingerprint: str
    source: Source | None
    cameras: Mapping[tuple[int, int], Camera] = field(repr=False)
    detections: Landmarks | None = field(default=None, repr=False)
    val: frozenset[View] = field(default=frozenset(), repr=False)
    test: frozenset[View] = field(default=frozenset(), repr=False)
    camera_names: Mapping[int, str] = field(default_factory=dict, repr=False)
    over_white: bool = True

    @property
    def has_motion(self) -> bool:
        """Whether there are head parameters."""
        return bool(self.head_name)

    def camera_name(self, camera: int) -> str:
        """The name of a camera: its number, where it has no other."""
        return self.camera_names.get(camera, str(camera))

    @property
    def shots(self) -> Int[Tensor, "T"]:
        """Number of the uninterrupted take that each timestep belongs to."""
        return self.motion.shots

    @property
    def landmark_set(self) -> str | None:
        """Name of the landmark set of `landmarks`, None where there are no landmarks."""
        return None if self.detections is None else self.detections.set_name

    def camera(self, view: View) -> Camera:
        """The camera (unbatched) that took a view."""
        return self.cameras[view.timestep, view.camera]

    def image(self, view: View, background: Float[Tensor, "3"] | None = None) -> Float[Tensor, "H W 3"]:
        """The picture of a view, sRGB in [0, 1], over `background` (default white).

        Where pictures are stored composited over white, the change of background is exact up to 8 bits:
        `image + (1 − mask) (background − white)`. Others are composited by their mask, if there is one.

        Raises:
            VultusError: the file is missing, damaged or not of the camera's size.
        """
        stored, alpha = self._read(view.picture, view)
        color = to_float(stored)
        if alpha is not None:
            color = composite(color, to_float(alpha), 1.0)
        if not self.over_white and view.mask_picture is not None:
            color = composite(color, self._mask(view, alpha), 1.0)
        if background is None:
            return color
        mask = self._mask(view, alpha)
        return (color + (1 - mask) * (background.to(color) - 1)).clamp(0, 1)

    def mask(self, view: View) -> Float[Tensor, "H W 1"]:
        """How much of each pixel is the person, in [0, 1]; ones where the capture has no masks. Raises like `image`."""
        if view.mask_picture is None:
            return self._mask(view, self._read(view.picture, view)[1])
        return self._mask(view, None)

    def _mask(self, view: View, alpha: np.ndarray | None) -> Float[Tensor, "H W 1"]:
        """The stored mask, else the picture's own alpha channel, else ones."""
        if view.mask_picture is not None:
            return to_float(self._read(view.mask_picture, view)[0][..., :1])
        if alpha is not None:
            return to_float(alpha)
        camera = self.camera(view)
        return torch.ones(camera.height, camera.width, 1)

    def landmarks(self, view: View) -> Float[Tensor, "L 2"] | None:
        """Detected landmarks of a view in pixels, None where there are none. Points of weight 0 mean nothing."""
        row = self._row(view)
        return None if row is None or self.detections is None else self.detections.points[row]

    def landmark_weights(self, view: View) -> Float[Tensor, "L"] | None:
        """Weight of each landmark of a view, 0 where it was not seen; None where there are no landmarks."""
        row = self._row(view)
        return None if row is None or self.detections is None else self.detections.weights[row]

    def split(self, name: SplitName) -> tuple[View, ...]:
        """Views to train on, to validate on (held-out cameras) or to test on (held-out instants).

        Raises VultusError for another name.
        """
        if name == "val":
            return tuple(view for view in self.views if view in self.val)
        if name == "test":
            return tuple(view for view in self.views if view in self.test)
        if name != "train":
            raise VultusError(f"there is no split {name!r}; choose train, val or test")
        return tuple(view for view in self.views if view not in self.val and view not in self.test)

    def hold_out(self, cameras: Collection[int] = (), timesteps: Collection[int] = ()) -> Capture:
        """The same capture split differently: `timesteps` are the test split in all cameras, `cameras` the validation
        split in all other timesteps, the rest is for training.

        Raises:
            VultusError: a camera or timestep does not exist, or nothing would be left to train on.
        """
        known_cameras, known_timesteps = self.camera_indices, {view.timestep for view in self.views}
        if unknown := set(cameras) - set(known_cameras):
            raise VultusError(f"{self.root}: has no camera {min(unknown)}; its cameras are {list(known_cameras)}")
        if unknown := set(timesteps) - known_timesteps:
            raise VultusError(f"{self.root}: has no picture at timestep {min(unknown)}")
        test = frozenset(view for view in self.views if view.timestep in timesteps)
        val = frozenset(view for view in self.views if view.camera in cameras) - test
        if len(test) + len(val) == len(self.views):
            raise VultusError(f"{self.root}: holding out these cameras and timesteps leaves nothing to train on")
        return replace(self, val=val, test=test)

    @property
    def camera_indices(self) -> tuple[int, ...]:
        """The numbers of the cameras, ascending."""
        return tuple(sorted({view.camera for view in self.views}))

    def _row(self, view: View) -> int | None:
        return None if self.detections is None else self.detections.rows.get((view.timestep, view.camera))

    def _read(self, picture: Picture, view: View) -> Pixels:
        image, alpha = picture.read()
        camera = self.camera(view)
        height, width = image.shape[:2]
        if (height, width) != (camera.height, camera.width):
            raise VultusError(
                f"{picture.path}: is {width}x{height} pixels, but its camera {camera.width}x{camera.height}; the "
                "picture was resized or belongs to another capture"
            )
        return image, alpha
