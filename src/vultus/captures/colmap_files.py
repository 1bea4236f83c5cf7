"""The files of a COLMAP model, text or binary: cameras, images and points. Source: COLMAP's documentation.

Poses are OpenCV world-to-camera with quaternions w x y z; the centre of the first pixel is (0.5, 0.5): as here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64, UInt8

from vultus.cameras import Camera
from vultus.captures.fields import MAX_SIDE
from vultus.captures.lens import Lens, lens
from vultus.errors import VultusError
from vultus.rotations import normalize_quaternion, quaternion_to_matrix

_MAX_BYTES = 4 << 30
# Number, name, count of parameters; then where fx, fy, cx, cy and the distortion k1 k2 p1 p2 k3.. stand among them.
_MODELS = {
    0: ("SIMPLE_PINHOLE", 3, (0, 0, 1, 2), ()),
    1: ("PINHOLE", 4, (0, 1, 2, 3), ()),
    2: ("SIMPLE_RADIAL", 4, (0, 0, 1, 2), (3,)),
    3: ("RADIAL", 5, (0, 0, 1, 2), (3, 4)),
    4: ("OPENCV", 8, (0, 1, 2, 3), (4, 5, 6, 7)),
    6: ("FULL_OPENCV", 12, (0, 1, 2, 3), (4, 5, 6, 7, 8, 9, 10, 11)),
}
_NUMBERS = {name: number for number, (name, *_) in _MODELS.items()}


@dataclass(frozen=True)
class ColmapImage:
    """One photo of a model."""

    name: str
    camera: Camera
    lens: Lens


@dataclass(frozen=True, eq=False)
class ColmapModel:
    """A model: photos with cameras, and the points that were found with them (in the model's own unit)."""

    images: tuple[ColmapImage, ...]
    points: Float64[np.ndarray, "P 3"]
    colors: UInt8[np.ndarray, "P 3"]


def read_colmap_model(folder: Path) -> ColmapModel:
    """Cameras, images and points in a folder, binary files before text ones; points may be missing.

    Raises:
        VultusError: malformed, cut off, or with a camera model that cannot be undistorted.
    """
    suffix = ".bin" if (folder / "cameras.bin").is_file() else ".txt"
    is_binary = suffix == ".bin"
    cameras_path, images_path = folder / f"cameras{suffix}", folder / f"images{suffix}"
    cameras = dict((_binary_cameras if is_binary else _text_cameras)(cameras_path))
    images = []
    for name, pose, camera_id in (_binary_images if is_binary else _text_images)(images_path):
        if camera_id not in cameras:
            raise VultusError(f"{images_path}: {name} was taken by camera {camera_id}, which {cameras_path.name} lacks")
        camera, bent = cameras[camera_id]
        images.append(ColmapImage(name, Camera(pose, camera.K, camera.width, camera.height), bent))
    points_path = folder / f"points3D{suffix}"
    points = list((_binary_points if is_binary else _text_points)(points_path)) if points_path.is_file() else []
    values = np.array(points, dtype=np.float64).reshape(-1, 6)
    return ColmapModel(tuple(images), values[:, :3], values[:, 3:].astype(np.uint8))


def _camera(
    where: str, model: int | None, name: str, width: float, height: float, values: tuple[float, ...]
) -> tuple[Camera, Lens]:
    known = ", ".join(_NUMBERS)
    if model not in _MODELS:
        raise VultusError(
            f"{where}: the camera model {name} is not one of {known}; undistort the photos first, with "
            "`colmap image_undistorter`, and give its result"
        )
    _, count, places, bends = _MODELS[model]
    if len(values) != count or not all(abs(value) < 1e7 for value in values):
        raise VultusError(f"{where}: a {_MODELS[model][0]} camera has {count} parameters of sensible size")
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise VultusError(f"{where}: pictures of {width} x {height} pixels")
    fx, fy, cx, cy = (values[place] for place in places)
    if not 1e-3 < fx < 1e7 or not 1e-3 < fy < 1e7:
        raise VultusError(f"{where}: the focal length is {fx}")
    K = torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    camera = Camera(torch.eye(4), K, int(width), int(height))
    return camera, lens(K, [values[place] for place in bends], where)


def _pose(where: str, values: tuple[float, ...]) -> torch.Tensor:
    numbers = torch.tensor(values, dtype=torch.float64)
    norm = float(numbers[:4].norm())
    if not bool(torch.isfinite(numbers).all()) or not 0.5 < norm < 2 or float(numbers.abs().max()) > 1e7:
        raise VultusError(f"{where}: its pose {values} is not a rotation (a unit quaternion) and a translation")
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = quaternion_to_matrix(normalize_quaternion(numbers[:4]))
    pose[:3, 3] = numbers[4:]
    return pose.float()


# ---- binary


class _Bytes:
    """A binary file read from front to back without trusting the counts in it."""

    def __init__(self, path: Path) -> None:
        self.path, self.at = path, 0
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise VultusError(f"{path}: is larger than {_MAX_BYTES} bytes")
            self.content = path.read_bytes()
        except OSError as error:
            raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error

    def take(self, form: str) -> tuple:
        size = struct.calcsize(form)
        self._check(size)
        self.at += size
        return struct.unpack_from(form, self.content, self.at - size)

    def skip(self, size: int) -> None:
        self._check(size)
        self.at += size

    def name(self) -> str:
        end = self.content.find(b"\0", self.at, self.at + 4096)
        if end < 0:
            raise VultusError(f"{self.path}: a name does not end; the file is damaged")
        name, self.at = self.content[self.at : end].decode("utf-8", "replace"), end + 1
        return name

    def count(self, least: int) -> int:
        """A number of records that take at least so many bytes each."""
        (count,) = self.take("<Q")
        self._check(count * least)
        return count

    def _check(self, size: int) -> None:
        if size > len(self.content) - self.at:
            raise VultusError(f"{self.path}: ends too early; it is damaged or cut off")


def _binary_cameras(path: Path) -> Iterator[tuple[int, tuple[Camera, Lens]]]:
    file = _Bytes(path)
    for _ in range(file.count(24)):
        number, model, width, height = file.take("<iiQQ")
        count = _MODELS[model][1] if model in _MODELS else 0
        yield number, _camera(f"{path}: camera {number}", model, str(model), width, height, file.take(f"<{count}d"))


def _binary_images(path: Path) -> Iterator[tuple[str, torch.Tensor, int]]:
    file = _Bytes(path)
    for _ in range(file.count(73)):
        number, *values, camera = file.take("<i7di")
        name = file.name()
        yield name, _pose(f"{path}: image {number}", tuple(values)), camera
        file.skip(file.count(24) * 24)


def _binary_points(path: Path) -> Iterator[tuple[float, ...]]:
    file = _Bytes(path)
    for _ in range(file.count(51)):
        _, *values, _ = file.take("<Q3d3Bd")
        yield tuple(values)
        file.skip(file.count(8) * 8)


# ---- text


def _lines(path: Path) -> Iterator[str]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise VultusError(f"{path}: is larger than {_MAX_BYTES} bytes")
        with open(path, encoding="utf-8") as file:
            yield from (line.strip() for line in file)
    except OSError as error:
        raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise VultusError(f"{path}: is not a text file") from error


def _numbers(where: str, words: list[str]) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in words)
    except ValueError as error:
        raise VultusError(f"{where}: has text where numbers belong") from error


def _id(where: str, word: str) -> int:
    try:
        return int(word)
    except ValueError as error:
        raise VultusError(f"{where}: {word[:40]!r} is not a number") from error


def _text_cameras(path: Path) -> Iterator[tuple[int, tuple[Camera, Lens]]]:
    for line in _lines(path):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        where = f"{path}: camera {words[0]}"
        if len(words) < 4:
            raise VultusError(f"{where}: is incomplete")
        width, height, *values = _numbers(where, words[2:])
        yield _id(where, words[0]), _camera(where, _NUMBERS.get(words[1]), words[1][:40], width, height, tuple(values))


def _text_images(path: Path) -> Iterator[tuple[str, torch.Tensor, int]]:
    lines = _lines(path)
    for line in lines:
        if not line or line.startswith("#"):
            continue
        words = line.split(maxsplit=9)
        where = f"{path}: image {words[0]}"
        if len(words) < 10:
            raise VultusError(f"{where}: is incomplete")
        yield words[9], _pose(where, _numbers(where, words[1:8])), _id(where, words[8])
        next(lines, None)  # its points in the picture, a line that may be empty


def _text_points(path: Path) -> Iterator[tuple[float, ...]]:
    for line in _lines(path):
        words = line.split()
        if words and not line.startswith("#"):
            values = _numbers(f"{path}: point {words[0]}", words[1:7])
            if len(values) != 6:
                raise VultusError(f"{path}: point {words[0]} is incomplete")
            yield values
