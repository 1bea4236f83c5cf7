"""`CaptureWriter`: makes a capture folder picture by picture, and picks up where it was interrupted."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vultus.cameras import Camera
from vultus.captures.capture import Capture, Source
from vultus.captures.fields import MAX_INDEX
from vultus.captures.flame_params import canonical_params, is_flame, write_flame_params
from vultus.captures.motions import write_motion
from vultus.captures.native import FORMAT, MAX_FPS, VERSION
from vultus.captures.saving import WriteOptions
from vultus.captures.transforms import view_entry, write_transforms
from vultus.errors import VultusError
from vultus.files import read_json, write_json, write_npz
from vultus.heads import HeadModel
from vultus.heads.load import head_made_with
from vultus.images import read_image, to_float, write_png
from vultus.motion import Motion
from vultus.progress import Progress, counted

_PICTURE = re.compile(r"\d{5,}_\d{2,}\.png")
_PARAMS = re.compile(r"\d{5,}\.npz")
# Camera 8 is the frontal one of the published 16-camera rig and its validation view.
_PUBLISHED_VAL_CAMERA = 8
_PUBLISHED_TRAIN_SHARE = 0.7


class CaptureWriter:
    """Context manager that writes a capture folder.

    Pictures can be added in any order and are on the disk at once. Cameras, landmarks and the motion are kept until
    the end of the `with` block, which writes everything else and, last of all, `capture.json`: a folder without it is
    not a capture. If the block raises, the pictures stay and `has_image` finds them in the next run, provided that
    `source` and `settings` are the same; otherwise they are deleted and made again.

    Args:
        folder: new, empty, or an earlier capture, which is replaced.
        head: the model the motion belongs to.
        fps: frames per second.
        source: what the capture is made from.
        settings: everything (JSON values) that the pictures depend on.
        val_cameras, test_timesteps: what is held out; by default as GaussianAvatars does: camera 8, else the last, if
            there are several, and the last 30 % of the timesteps.

    Raises:
        VultusError: the folder holds something else, cannot be written to, or what was added is incomplete.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        head: HeadModel,
        fps: float,
        source: Source | None = None,
        settings: Mapping[str, Any] | None = None,
        val_cameras: Collection[int] | None = None,
        test_timesteps: Collection[int] | None = None,
    ) -> None:
        if not 0 < fps < MAX_FPS:
            raise VultusError(f"{folder}: {fps} frames per second is not a frame rate")
        self.folder = Path(folder)
        self._head, self._fps, self._source = head, fps, source
        self._val_cameras, self._test_timesteps = val_cameras, test_timesteps
        content = {"source": None if source is None else source.sha256, "settings": dict(settings or {})}
        text = json.dumps(content, sort_keys=True, allow_nan=False)
        self._settings_hash = hashlib.sha256(text.encode()).hexdigest()
        self._pictures: set[tuple[int, int]] = set()
        self._cameras: dict[tuple[int, int], Camera] = {}
        self._rig: dict[int, Camera] = {}
        self._camera_names: dict[int, str] = {}
        self._points: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._landmark_set: str | None = None
        self._motion: Motion | None = None

    def __enter__(self) -> CaptureWriter:
        try:
            self._begin()
        except OSError as error:
            raise VultusError(f"{self.folder}: cannot be used for a capture: {error.strerror or error}") from error
        return self

    def _begin(self) -> None:
        finished, partial = self.folder / "capture.json", self.folder / "capture.partial.json"
        marker = finished if finished.is_file() else partial
        if marker.is_file():
            about = read_json(marker)
            if not isinstance(about, dict) or about.get("settings_sha256") != self._settings_hash:
                self._delete_except(set())
        elif self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise VultusError(f"{self.folder}: holds other files; choose a new or empty folder for the capture")
        write_json(partial, {"settings_sha256": self._settings_hash})
        finished.unlink(missing_ok=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            return
        try:
            self._finish()
        except OSError as error:
            raise VultusError(f"{self.folder}: the capture cannot be completed: {error.strerror or error}") from error

    def has_image(self, timestep: int, camera: int) -> bool:
        """Whether this picture and its mask are there, from this run or from an interrupted one."""
        return all((self.folder / path).is_file() for path in _paths(timestep, camera).values())

    def add_image(
        self,
        timestep: int,
        camera: int,
        image: Float[Tensor, "H W 3"],
        mask: Float[Tensor, "H W 1"],
        *,
        is_composited: bool = False,
    ) -> None:
        """Write a picture (sRGB in [0, 1]) and its mask. It is composited over white unless it already is."""
        if image.shape[:2] != mask.shape[:2] or image.shape[-1] != 3 or mask.shape[-1] != 1:
            raise ValueError(f"picture {tuple(image.shape)} and mask {tuple(mask.shape)} do not fit together")
        if not 0 <= timestep < MAX_INDEX or not 0 <= camera < MAX_INDEX:
            raise ValueError(f"timestep {timestep}, camera {camera}: out of range")
        image, mask = image.detach(), mask.detach().clamp(0, 1)
        # The mask decides what a later change of background does, so the 8-bit one is composited with.
        mask = (mask * 255).round() / 255
        on_white = image if is_composited else image * mask + (1 - mask)
        paths = _paths(timestep, camera)
        # The mask first: `has_image` asks for both, and a picture without its mask must not look finished.
        write_png(self.folder / paths["fg_mask_path"], mask)
        write_png(self.folder / paths["file_path"], on_white)
        self.use_image(timestep, camera)

    def use_image(self, timestep: int, camera: int) -> None:
        """Make a picture of an interrupted run (see `has_image`) part of the capture."""
        self._pictures.add((timestep, camera))

    def image(self, timestep: int, camera: int) -> tuple[Float[Tensor, "H W 3"], Float[Tensor, "H W 1"]]:
        """A picture over white that is part of the capture, and its mask, both in [0, 1].

        Raises:
            VultusError: it cannot be read.
        """
        paths = _paths(timestep, camera)
        image, mask = (to_float(read_image(self.folder / paths[name])) for name in ("file_path", "fg_mask_path"))
        return image, mask[..., :1]

    def set_camera(self, camera: int, parameters: Camera, timestep: int | None = None) -> None:
        """The camera (unbatched) of one view or, without `timestep`, of all views that have none of their own."""
        if len(parameters.batch_shape) != 0:
            raise ValueError("a batch of cameras cannot be the camera of one view")
        if timestep is None:
            self._rig[camera] = parameters
        else:
            self._cameras[timestep, camera] = parameters

    def name_camera(self, camera: int, name: str) -> None:
        """Give a camera another name than its number, e.g. its serial number."""
        self._camera_names[camera] = name

    def set_landmarks(
        self,
        landmark_set: str,
        timestep: int,
        camera: int,
        points: Float[Tensor, "L 2"],
        weights: Float[Tensor, "L"] | None = None,
    ) -> None:
        """Detected landmarks of one view in pixels, with weights (default 1; 0: not seen)."""
        if self._landmark_set not in (None, landmark_set):
            raise ValueError(f"landmarks of two sets, {self._landmark_set} and {landmark_set}, in one capture")
        self._landmark_set = landmark_set
        weights = torch.ones(points.shape[0]) if weights is None else weights
        self._points[timestep, camera] = points.detach().float().cpu(), weights.detach().float().cpu()

    def set_motion(self, motion: Motion) -> None:
        """Head parameters of every timestep."""
        self._motion = motion

    def _finish(self) -> None:
        motion = self._motion
        if motion is None or not self._pictures:
            raise VultusError(f"{self.folder}: no head was found in any picture, so there is nothing to keep")
        views = sorted(self._pictures)
        if views[-1][0] >= len(motion):
            raise ValueError(f"a picture at timestep {views[-1][0]}, but {len(motion)} instants of motion")
        cameras = {}
        for timestep, camera in views:
            parameters = self._cameras.get((timestep, camera), self._rig.get(camera))
            if parameters is None:
                raise ValueError(f"timestep {timestep}, camera {camera}: a picture without camera")
            cameras[timestep, camera] = parameters
        has_flame = is_flame(self._head)
        self._delete_except({path for view in views for path in _paths(*view).values()})
        self._write_transforms(cameras, has_flame)
        write_motion(self.folder / "motion.npz", motion, self._head)
        if self._landmark_set is not None:
            self._write_landmarks(self._landmark_set)
        if has_flame:
            for timestep in range(len(motion)):
                write_flame_params(self.folder / "flame_param" / f"{timestep:05d}.npz", motion.params[timestep])
            write_flame_params(self.folder / "canonical_flame_param.npz", canonical_params(motion.params[0]))
        about = {
            "format": FORMAT,
            "version": VERSION,
            "head": {"name": self._head.name, "fingerprint": self._head.fingerprint, "license": self._head.license},
            "fps": self._fps,
            "timestamps": motion.times.tolist(),
            "valid": motion.valid.tolist(),
            "shots": motion.shots.tolist(),
            "landmark_set": self._landmark_set,
            "source": None if self._source is None else {"name": self._source.name, "sha256": self._source.sha256},
            "settings_sha256": self._settings_hash,
        }
        write_json(self.folder / "capture.json", about)
        (self.folder / "capture.partial.json").unlink(missing_ok=True)

    def _write_transforms(self, cameras: Mapping[tuple[int, int], Camera], has_flame: bool) -> None:
        splits: dict[str, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
        test, val = self._held_out(sorted(cameras))
        for (timestep, camera), parameters in sorted(cameras.items()):
            flame = f"flame_param/{timestep:05d}.npz" if has_flame else None
            name = self._camera_names.get(camera, "")
            entry = view_entry(
                timestep, camera, parameters, _paths(timestep, camera), camera_id=name, flame_param_path=flame
            )
            split = "test" if timestep in test else "val" if camera in val else "train"
            splits[split].append(entry)
        write_transforms(self.folder, splits)

    def _held_out(self, views: list[tuple[int, int]]) -> tuple[set[int], set[int]]:
        timesteps, cameras = sorted({view[0] for view in views}), sorted({view[1] for view in views})
        test, val = self._test_timesteps, self._val_cameras
        if test is None:
            test = timesteps[math.ceil(_PUBLISHED_TRAIN_SHARE * len(timesteps)) :]
        if val is None:
            val = [] if len(cameras) == 1 else [8 if _PUBLISHED_VAL_CAMERA in cameras else cameras[-1]]
        return set(test), set(val)

    def _write_landmarks(self, landmark_set: str) -> None:
        keys = sorted(self._points)
        if len({self._points[key][0].shape for key in keys}) != 1:
            raise ValueError("landmarks of different numbers of points in one capture")
        write_npz(
            self.folder / "landmarks.npz",
            set=np.array(landmark_set),
            timestep=np.array([key[0] for key in keys], np.int64),
            camera=np.array([key[1] for key in keys], np.int64),
            points=torch.stack([self._points[key][0] for key in keys]).numpy(),
            weights=torch.stack([self._points[key][1] for key in keys]).numpy(),
        )

    def _delete_except(self, kept: set[str]) -> None:
        """Remove what an earlier run wrote and this one does not keep; nothing that we would not have written."""
        for name, pattern in (("images", _PICTURE), ("fg_masks", _PICTURE), ("flame_param", _PARAMS)):
            for file in (self.folder / name).glob("*"):
                if pattern.fullmatch(file.name) and f"{name}/{file.name}" not in kept:
                    file.unlink()
        for name in ("canonical_flame_param.npz", "landmarks.npz", "motion.npz"):
            if name not in kept:
                (self.folder / name).unlink(missing_ok=True)


def _paths(timestep: int, camera: int) -> dict[str, str]:
    name = f"{timestep:05d}_{camera:02d}.png"
    return {"file_path": f"images/{name}", "fg_mask_path": f"fg_masks/{name}"}


def write_native(capture: Capture, folder: Path, options: WriteOptions, progress: Progress) -> None:
    """A capture of ours from one of any layout that has head parameters, into an empty folder.

    Raises:
        VultusError: there are no head parameters, `options.head` is not their model, or a picture cannot be read.
    """
    if not capture.has_motion:
        raise VultusError(
            f"{capture.root}: has no head parameters, which this layout holds; fit a head model first, or choose the "
            "layout plain"
        )
    head = head_made_with(capture.root, capture.head_name, capture.head_fingerprint, options.head)
    with CaptureWriter(
        folder,
        head=head,
        fps=capture.fps,
        source=capture.source,
        val_cameras={view.camera for view in capture.val},
        test_timesteps={view.timestep for view in capture.test},
    ) as writer:
        for view in counted(capture.views, "pictures", len(capture.views), progress):
            timestep, camera = view.timestep, view.camera
            writer.add_image(timestep, camera, capture.image(view), capture.mask(view), is_composited=True)
            writer.set_camera(camera, capture.camera(view), timestep)
            if camera in capture.camera_names:
                writer.name_camera(camera, capture.camera_names[camera])
            points = capture.landmarks(view)
            if points is not None and capture.landmark_set is not None:
                writer.set_landmarks(capture.landmark_set, timestep, camera, points, capture.landmark_weights(view))
        writer.set_motion(capture.motion)
