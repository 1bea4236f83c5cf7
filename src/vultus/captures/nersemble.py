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
from vultus.captures.capture import Capture
from vultus.captures.contents import Contents, Shot, numbered
from vultus.captures.fields import MAX_INDEX, MAX_SIDE, intrinsics, rigid_pose, whole
from vultus.captures.nersemble_colors import Corrected, affine, polynomial
from vultus.captures.pictures import Film, FilmFrame, ImageFile, Picture, size_of
from vultus.captures.saving import WriteOptions, straight_colors
from vultus.errors import VultusError
from vultus.files import read_json, write_json
from vultus.heads import HeadModel
from vultus.images import write_png
from vultus.progress import Progress, counted

LAYOUT = "nersemble"
SEQUENCE = "SEQUENCE"
"""What a sequence is called that we write."""
_FPS = 73.0
_WIDTH, _HEIGHT = 2200, 3208
_STILL = re.compile(r"cam_(\w{1,40}?)_(\d{1,7})\.(?:jpg|png)")
_FILM = re.compile(r"cam_(\w{1,40})\.mp4")


@dataclass(frozen=True)
class _Calibration:
    cameras: Path
    colors: Callable[[str], Callable[[Tensor], Tensor] | None]


def is_nersemble(root: Path) -> bool:
    """Whether a folder is one sequence of NeRSemble, its subject's calibration being where the data set has it; or a
    subject of version 2 with one sequence."""
    return _calibration(sequence_in(root)) is not None


def sequence_in(root: Path) -> Path:
    """The only sequence of a subject's folder; the folder itself if it is none, or has several."""
    root = root.resolve()
    within = [path for path in (root / "sequences").glob("*") if path.is_dir() and path.name != "BACKGROUND"]
    return within[0] if len(within) == 1 else root


def _calibration(root: Path) -> _Calibration | None:
    second = root.parent.parent / "calibration" / "camera_params.json"
    if root.parent.name == "sequences" and second.is_file():
        return _Calibration(second, lambda serial: polynomial(second.with_name("color_calibration.json"), serial))
    subject, base = root.parent.name, root.parent.parent
    first = base / "camera_params" / subject / "camera_params.json"
    if first.is_file():
        return _Calibration(first, lambda serial: affine(base / "color_correction" / subject / f"{serial}.npy"))
    return None


def read_nersemble(root: Path, head: HeadModel | None = None) -> Contents:
    """What a sequence holds; it has no head parameters, so that `head` is not used. Timesteps count its frames.

    Raises:
        VultusError: malformed calibration, a camera without one, no pictures, or pictures of another shape.
    """
    sequence = sequence_in(root)
    calibration = _calibration(sequence)
    assert calibration is not None
    path = calibration.cameras
    poses, K, width, height = _cameras(path)
    found = _stills(sequence) or _films(sequence)
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
                mask=_mask(sequence, picture),
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


def serials_of(capture: Capture) -> dict[int, str]:
    """What each camera is called in the names of files: its name, of letters and digits only. Raises VultusError if two
    are then the same."""
    names = {camera: re.sub(r"\W", "_", capture.camera_name(camera))[:40] for camera in capture.camera_indices}
    if len(set(names.values())) != len(names):
        raise VultusError(
            f"{capture.root}: two of its cameras have names that differ only in signs, or after 40 letters"
        )
    return names


def write_nersemble(capture: Capture, folder: Path, options: WriteOptions, progress: Progress) -> None:
    """One subject of version 2 with one sequence, its frames extracted (PNG) with masks; into an empty folder.

    Head parameters and times have no place there: readers take NeRSemble's 73 frames per second for granted.

    Raises:
        VultusError: cameras that move, or that do not share one camera matrix and size; a picture cannot be read.
    """
    first = capture.camera(capture.views[0])
    serials = serials_of(capture)
    poses: dict[str, list[list[float]]] = {}
    for view in capture.views:
        camera, name = capture.camera(view), serials[view.camera]
        if not torch.equal(camera.K, first.K) or (camera.width, camera.height) != (first.width, first.height):
            raise VultusError(
                f"{capture.root}: its cameras differ in lens or size, but this layout has one camera matrix for all; "
                "choose the layout nersemble-benchmark"
            )
        pose = camera.world_to_camera.double().tolist()
        if poses.setdefault(name, pose) != pose:
            raise VultusError(f"{capture.root}: camera {name} moves, for which this layout has no place")
    sequence = folder / "sequences" / SEQUENCE
    for view in counted(capture.views, "pictures", len(capture.views), progress):
        name = f"cam_{serials[view.camera]}_{view.timestep:06d}.png"
        straight, mask = straight_colors(capture, view)
        write_png(sequence / "images" / name, straight)
        write_png(sequence / "alpha_maps" / name, mask)
    about = {"world_2_cam": poses, "intrinsics": first.K.double().tolist()}
    write_json(folder / "calibration" / "camera_params.json", about | {"width": first.width, "height": first.height})
