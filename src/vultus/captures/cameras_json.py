"""Plain folders: pictures, masks and one `cameras.json` in the conventions of this library.

Cameras are OpenCV's (x right, y down, z forward), poses world-to-camera, `K` in pixels from the top-left corner.
Lens distortion is taken out when a picture is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

import torch

from vultus.cameras import Camera
from vultus.captures.capture import Capture, SplitName
from vultus.captures.contents import FOREIGN_FPS, Contents, Shot, numbered
from vultus.captures.fields import MAX_INDEX, MAX_SIDE, intrinsics, real, rigid_pose, whole
from vultus.captures.lens import Lens, lens
from vultus.captures.pictures import ImageFile, Picture, Undistorted
from vultus.captures.saving import WriteOptions, save_pictures, view_name
from vultus.errors import VultusError
from vultus.files import read_json, safe_path, write_json
from vultus.heads import HeadModel
from vultus.progress import Progress

FORMAT, VERSION, LAYOUT = "vultus-cameras", 1, "plain"
_FILE = "cameras.json"


def is_plain(root: Path) -> bool:
    """Whether a folder has a `cameras.json`."""
    return (root / _FILE).is_file()


def read_plain(root: Path, head: HeadModel | None = None) -> Contents:
    """What a plain folder holds; it has no head parameters, so that `head` is not used.

    Raises:
        VultusError: malformed, numbers that make no camera, or paths that lead out of the folder.
    """
    path = root / _FILE
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise VultusError(f'{path}: is not a list of cameras (it has no "format": "{FORMAT}")')
    if whole(content, "version", str(path), 1, MAX_INDEX) > VERSION:
        raise VultusError(f"{path}: was written by a newer version of Vultus; update to read it")
    cameras, frames = content.get("cameras"), content.get("frames")
    if not isinstance(cameras, dict) or not isinstance(frames, list):
        raise VultusError(f'{path}: has no object "cameras" or no list "frames"')
    fps = real(content, "fps", str(path), FOREIGN_FPS)
    if not 0 < fps < 1e5:
        raise VultusError(f"{path}: fps = {fps!r} is not a frame rate")
    is_over_white = content.get("over_white", False)
    if not isinstance(is_over_white, bool):
        raise VultusError(f"{path}: over_white is not true or false")
    numbers = numbered(cameras)
    shots = [_shot(root, path, index, frame, cameras, numbers) for index, frame in enumerate(frames)]
    return Contents(
        root=root,
        layout=LAYOUT,
        shots=shots,
        fps=fps,
        camera_names={number: name for name, number in numbers.items() if name != str(number)},
        over_white=is_over_white,
        without_motion=f"{_FILE} holds no head parameters",
    )


def _shot(
    root: Path, path: Path, index: int, frame: object, cameras: Mapping[str, Any], numbers: Mapping[str, int]
) -> Shot:
    where = f"{path}: frame {index}"
    if not isinstance(frame, dict):
        raise VultusError(f"{where} is not an object")
    name = frame.get("camera")
    if not isinstance(name, str) or not isinstance(cameras.get(name), dict):
        raise VultusError(f"{where}: its camera {str(name)[:40]!r} is not one of cameras")
    split = frame.get("split", "train")
    if split not in get_args(SplitName):
        raise VultusError(f"{where}: split = {str(split)[:40]!r} is not train, val or test")
    parameters, bent = _camera({**cameras[name], **frame}, where)

    def picture(key: str) -> Picture:
        file = ImageFile(safe_path(root, frame.get(key), source=where))
        return file if bent.is_straight else Undistorted(file, bent)

    return Shot(
        timestep=whole(frame, "timestep", where, 0, MAX_INDEX),
        camera=numbers[name],
        parameters=parameters,
        picture=picture("image"),
        mask=None if frame.get("mask") is None else picture("mask"),
        named_by=path,
        split=cast(SplitName, split),
    )


def _camera(entry: Mapping[str, Any], where: str) -> tuple[Camera, Lens]:
    width, height = (whole(entry, key, where, 1, MAX_SIDE) for key in ("width", "height"))
    K = intrinsics(entry.get("K"), where)
    pose = rigid_pose(entry.get("world_to_camera"), where, "world_to_camera", "world-to-camera")
    coefficients = entry.get("distortion", [])
    if not isinstance(coefficients, list):
        raise VultusError(f"{where}: distortion is not a list of numbers")
    return Camera(pose.float(), K.float(), width, height), lens(K, coefficients, where)


def write_plain(capture: Capture, folder: Path, options: WriteOptions, progress: Progress) -> None:
    """Pictures over white, masks and `cameras.json` into an empty folder. Head parameters have no place there.

    Raises:
        VultusError: a picture cannot be read, or the folder cannot be written to.
    """
    frames, cameras, first = [], {}, {}
    for view in save_pictures(capture, folder, progress):
        name, camera = capture.camera_name(view.camera), capture.camera(view)
        shared = first.setdefault(name, camera)
        cameras.setdefault(name, _entry(camera))
        frame: dict[str, Any] = {
            "timestep": view.timestep,
            "camera": name,
            "image": f"images/{view_name(view)}.png",
            "mask": f"masks/{view_name(view)}.png",
            "split": "val" if view in capture.val else "test" if view in capture.test else "train",
        }
        # A camera that moves, or zooms, differs from what stands under its name.
        if not _same(camera, shared):
            frame |= _entry(camera)
        frames.append(frame)
    write_json(
        folder / _FILE,
        {
            "format": FORMAT,
            "version": VERSION,
            "fps": capture.fps,
            "over_white": True,
            "cameras": cameras,
            "frames": frames,
        },
    )


def _entry(camera: Camera) -> dict[str, Any]:
    return {
        "width": camera.width,
        "height": camera.height,
        "K": camera.K.double().tolist(),
        "world_to_camera": camera.world_to_camera.double().tolist(),
    }


def _same(one: Camera, other: Camera) -> bool:
    return (
        torch.equal(one.K, other.K)
        and torch.equal(one.world_to_camera, other.world_to_camera)
        and (one.width, one.height) == (other.width, other.height)
    )
