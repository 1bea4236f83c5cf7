"""One sequence of NeRSemble as it is downloaded (videos) or with its frames extracted, versions 1 and 2.

Version 1: `camera_params/SUBJECT/camera_params.json`, `color_correction/SUBJECT/SERIAL.npy`, `SUBJECT/SEQUENCE/`.
Version 2: `SUBJECT/calibration/{camera_params,color_calibration}.json`, `SUBJECT/sequences/SEQUENCE/`.
Colours are corrected with the calibration that comes with the data, masks are those of `alpha_maps/`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.cameras import Camera
from vultus.captures.contents import Contents, Shot, numbered
from vultus.captures.fields import MAX_INDEX, MAX_SIDE, intrinsics, matrix, rigid_pose, whole
from vultus.captures.pictures import Film, FilmFrame, ImageFile, Picture, Pixels, size_of
from vultus.errors import VultusError
from vultus.files import read_json, read_npy
from vultus.heads import HeadModel
from vultus.images import to_float, to_uint8

LAYOUT = "nersemble"
_FPS = 73.0
_WIDTH, _HEIGHT = 2200, 3208
_STILL = re.compile(r"cam_(\w{1,40}?)_(\d{1,7})\.(?:jpg|png)")
_FILM = re.compile(r"cam_(\w{1,40})\.mp4")


@dataclass(frozen=True)
class _Calibration:
    cameras: Path
    colors: Callable[[str], Callable[[Tensor], Tensor] | None]


def is_nersemble(root: Path) -> bool:
    """Whether a folder is one sequence of NeRSemble: its subject's calibration lies where the data set has it."""
    return _calibration(root) is not None


def _calibration(root: Path) -> _Calibration | None:
    root = root.resolve()
    second = root.parent.parent / "calibration" / "camera_params.json"
    if root.parent.name == "sequences" and second.is_file():
        return _Calibration(second, lambda serial: _polynomial(second.with_name("color_calibration.json"), serial))
    subject, base = root.parent.name, root.parent.parent
    first = base / "camera_params" / subject / "camera_params.json"
    if first.is_file():
        return _Calibration(first, lambda serial: _affine(base / "color_correction" / subject / f"{serial}.npy"))
    return None


def read_nersemble(root: Path, head: HeadModel | None = None) -> Contents:
    """What a sequence holds; it has no head parameters, so that `head` is not used. Timesteps count its frames.

    Raises:
        VultusError: malformed calibration, a camera without one, no pictures, or pictures of another shape.
    """
    calibration = _calibration(root)
    assert calibration is not None
    path = calibration.cameras
    poses, K, width, height = _cameras(path)
    found = _stills(root) or _films(root)
    if not found:
        raise VultusError(f"{root}: holds neither images/cam_SERIAL_FRAME.jpg nor cam_SERIAL.mp4")
    numbers = numbered(serial for serial, _ in found)
    timesteps = {frame: number for number, frame in enumerate(sorted({frame for _, frame in found}))}
    cameras: dict[str, Camera] = {}
    corrections = {serial: calibration.colors(serial) for serial in numbers}
    shots = []
    for (serial, frame), picture in sorted(found.items()):
        if serial not in poses:
            raise VultusError(f"{path}: has no camera {serial}, which {picture.path.name} was taken by")
        if serial not in cameras:
            taken = Camera(poses[serial], K, width, height)
            theirs = [other for (name, _), other in sorted(found.items()) if name == serial]
            cameras[serial] = _scaled(taken, *size_of(theirs), picture.path)
        correction = corrections[serial]
        shots.append(
            Shot(
                timestep=timesteps[frame],
                camera=numbers[serial],
                parameters=cameras[serial],
                picture=picture if correction is None else Corrected(picture, correction),
                mask=_mask(root, picture),
                named_by=path,
            )
        )
    return Contents(
        root=root,
        layout=LAYOUT,
        shots=shots,
        fps=_FPS,
        camera_names={number: serial for serial, number in numbers.items()},
        over_white=False,
        without_motion="NeRSemble's recordings have no head parameters",
    )


def _cameras(path: Path) -> tuple[dict[str, Tensor], Tensor, int, int]:
    content = read_json(path)
    poses = calibrated_poses(path, content)
    K = intrinsics(content.get("intrinsics"), str(path), "intrinsics").float()
    size = {"width": _WIDTH, "height": _HEIGHT} | content
    return poses, K, whole(size, "width", str(path), 1, MAX_SIDE), whole(size, "height", str(path), 1, MAX_SIDE)


def calibrated_poses(path: Path, content: Any) -> dict[str, Float[Tensor, "4 4"]]:
    """World-to-camera poses by serial number, of the content of a `camera_params.json`. Raises VultusError."""
    if not isinstance(content, dict) or not isinstance(content.get("world_2_cam"), dict):
        raise VultusError(f"{path}: has no world_2_cam; it is not a calibration of NeRSemble")
    return {
        serial: rigid_pose(pose, f"{path}: camera {serial[:40]}", "world_2_cam", "world-to-camera").float()
        for serial, pose in content["world_2_cam"].items()
    }


def _scaled(camera: Camera, width: int, height: int, path: Path) -> Camera:
    """The camera of pictures that were scaled down after the calibration."""
    factor = width / camera.width
    if abs(height / camera.height / factor - 1) > 0.01:
        raise VultusError(
            f"{path}: is {width}x{height} pixels, not a scaled copy of the {camera.width}x{camera.height} pixels that "
            "were calibrated; cropped pictures need their own cameras (see cameras.json)"
        )
    return camera.resized(width, height)


def _stills(root: Path) -> dict[tuple[str, int], Picture]:
    folder = root / "images"
    found: dict[tuple[str, int], Picture] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _STILL.fullmatch(path.name)
        if match is not None:
            key = match[1], int(match[2])
            if key in found:
                raise VultusError(f"{path}: is frame {key[1]} of camera {key[0]} a second time")
            found[key] = ImageFile(path)
    return found


def _films(root: Path) -> dict[tuple[str, int], Picture]:
    return {**films_in(root / "images"), **films_in(root)}


def films_in(folder: Path) -> dict[tuple[str, int], FilmFrame]:
    """The frames of the videos `cam_SERIAL.mp4` in a folder. Raises VultusError: not a video."""
    found: dict[tuple[str, int], FilmFrame] = {}
    for path in sorted(folder.glob("cam_*.mp4")):
        match = _FILM.fullmatch(path.name)
        if match is not None:
            film = Film(path)
            count = min(film.reader.info.frame_count, MAX_INDEX)
            found |= {(match[1], index): FilmFrame(film, index) for index in range(count)}
    return found


def _mask(root: Path, picture: Picture) -> ImageFile | None:
    if not isinstance(picture, ImageFile):
        return None
    files = (root / "alpha_maps" / f"{picture.path.stem}{suffix}" for suffix in (".jpg", ".png"))
    return next((ImageFile(file) for file in files if file.is_file()), None)


@dataclass(frozen=True)
class Corrected:
    """A picture with the colours of a calibrated camera."""

    source: Picture
    correction: Callable[[Tensor], Tensor]

    @property
    def path(self) -> Path:
        return self.source.path

    def read(self) -> Pixels:
        color, alpha = self.source.read()
        return to_uint8(self.correction(to_float(color)).clamp(0, 1)), alpha

    def size(self) -> tuple[int, int]:
        return self.source.size()


def _affine(path: Path) -> Callable[[Tensor], Tensor] | None:
    """Version 1: a 3x4 matrix applied to sRGB values."""
    if not path.is_file():
        return None
    array = read_npy(path)
    A = matrix(array if array.dtype.kind in "iuf" else None, str(path), "the correction", 3, 4).float()
    return lambda color: color @ A[:, :3] + A[:, 3]


def _polynomial(path: Path, serial: str) -> Callable[[Tensor], Tensor] | None:
    """Version 2: a 3xK matrix applied to polynomial terms of linear RGB."""
    if not path.is_file():
        return None
    content: Any = read_json(path)
    if not isinstance(content, dict):
        raise VultusError(f"{path}: is not a colour calibration")
    if serial not in content:
        return None
    rows = content[serial]
    count = len(rows[0]) if isinstance(rows, list) and rows and isinstance(rows[0], list) else 0
    where = f"{path}: camera {serial}"
    if count not in _TERMS:
        raise VultusError(f"{where}: a correction of {count} terms is not known (known: {list(_TERMS)})")
    A = matrix(rows, where, "the correction", 3, count).float()
    return lambda color: encode_srgb(polynomial_terms(decode_srgb(color), count) @ A.T)


# Products of R, G and B by their exponents, in the order of Cheung et al. 2004 as the library "colour", with which the
# published calibrations were made, has them.
_LINEAR = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
_PAIRS = [(1, 1, 0), (1, 0, 1), (0, 1, 1)]
_SQUARES = [(2, 0, 0), (0, 2, 0), (0, 0, 2)]
_CUBES = [(3, 0, 0), (0, 3, 0), (0, 0, 3)]
_FOURTHS = [(4, 0, 0), (0, 4, 0), (0, 0, 4)]
_ALL, _ONE = (1, 1, 1), (0, 0, 0)
_CUBIC_NEXT = [(2, 1, 0), (0, 2, 1), (1, 0, 2)]
_CUBIC_BEFORE = [(2, 0, 1), (1, 2, 0), (0, 1, 2)]
_QUARTIC = [(2, 1, 1), (1, 2, 1), (1, 1, 2)]
_SQUARED_PAIRS = [(2, 2, 0), (2, 0, 2), (0, 2, 2)]
_CUBED_PAIRS = [(3, 1, 0), (3, 0, 1), (1, 3, 0), (0, 3, 1), (1, 0, 3), (0, 1, 3)]
_SECOND = [*_LINEAR, *_PAIRS, *_SQUARES]
_THIRD = [*_SECOND, _ALL, *_CUBIC_NEXT, *_CUBIC_BEFORE, *_CUBES]
_TERMS = {
    3: _LINEAR,
    4: [*_LINEAR, _ONE],
    5: [*_LINEAR, _ALL, _ONE],
    7: [*_LINEAR, *_PAIRS, _ONE],
    8: [*_LINEAR, *_PAIRS, _ALL, _ONE],
    10: [*_SECOND, _ONE],
    11: [*_SECOND, _ALL, _ONE],
    14: [*_SECOND, _ALL, *_CUBES, _ONE],
    16: [*_SECOND, _ALL, *_CUBIC_NEXT, *_CUBES],
    17: [*_SECOND, _ALL, *_CUBIC_NEXT, *_CUBES, _ONE],
    19: _THIRD,
    20: [*_THIRD, _ONE],
    22: [*_THIRD, *_QUARTIC],
    35: [*_THIRD, *_CUBED_PAIRS, *_QUARTIC, *_SQUARED_PAIRS, *_FOURTHS, _ONE],
}


def polynomial_terms(color: Float[Tensor, "*B 3"], count: int) -> Float[Tensor, "*B count"]:
    """The first terms of a polynomial in linear RGB by which cameras are characterised (Cheung et al. 2004)."""
    powers = torch.tensor(_TERMS[count], dtype=color.dtype)
    return (color[..., None, :] ** powers).prod(-1)


def decode_srgb(color: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Linear light of sRGB values (IEC 61966-2-1)."""
    return torch.where(color <= 0.04045, color / 12.92, ((color.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def encode_srgb(light: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """sRGB values of linear light, clamped to what can be shown."""
    light = light.clamp(0, 1)
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(1e-9) ** (1 / 2.4) - 0.055)
