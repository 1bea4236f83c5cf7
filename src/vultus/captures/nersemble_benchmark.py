"""One sequence of the NeRSemble benchmark, of its tracks `nvs` and `mono_flame_avatar`.

```
PERSON/calibration/camera_params.json           world_2_cam and intrinsics by camera, of the videos' own size
PERSON/sequences/SEQUENCE/images/cam_SERIAL.mp4           background removed
PERSON/sequences/SEQUENCE/alpha_maps/cam_SERIAL.mp4
PERSON/sequences/SEQUENCE/tracking/flame2023_tracking*.npz    (mono_flame_avatar; see flame_fits)
```

It is NeRSemble's second version cut down, but for the intrinsics, of which every camera has its own. Cameras that are
held out have a calibration and no video; point clouds are not read.

Source: the benchmark's published toolkit (Kirschstein et al. 2025); no published sequence was at hand. What it puts
behind the person is not documented: white is assumed, and `vultus inspect` says where that is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vultus.cameras import Camera
from vultus.captures.capture import Capture, View
from vultus.captures.contents import FOREIGN_FPS, Contents, Shot, numbered
from vultus.captures.fields import intrinsics
from vultus.captures.flame_fits import benchmark_tracking_file, read_benchmark_tracking, write_benchmark_tracking
from vultus.captures.flame_params import is_flame
from vultus.captures.nersemble import SEQUENCE, calibrated_poses, films_in, sequence_in, serials_of
from vultus.captures.pictures import FilmFrame
from vultus.captures.saving import WriteOptions
from vultus.errors import VultusError
from vultus.files import read_json, write_json
from vultus.heads import HeadModel, SkinnedHead
from vultus.images import write_video
from vultus.motion import Motion
from vultus.progress import Progress, counted

LAYOUT = "nersemble-benchmark"
_PARAMS = "calibration/camera_params.json"
# The quality that the benchmark itself asks of submitted videos.
_QUALITY = 14


def is_nersemble_benchmark(root: Path) -> bool:
    """Whether a folder is a sequence of the benchmark with videos, or a person with one such sequence."""
    return _sequence(root) is not None


def _sequence(root: Path) -> Path | None:
    """The sequence's folder, None if there is none."""
    root = sequence_in(root)
    params = root.parent.parent / _PARAMS
    if not params.is_file() or next((root / "images").glob("cam_*.mp4"), None) is None:
        return None
    try:
        content = read_json(params)
    except VultusError:
        return None  # whoever reads it will say what is wrong
    return root if isinstance(content, dict) and isinstance(content.get("intrinsics"), dict) else None


def read_nersemble_benchmark(root: Path, head: HeadModel | None = None) -> Contents:
    """What a sequence holds. With `head`, FLAME 2023, its tracking is read where it has one.

    Raises:
        VultusError: malformed calibration or tracking, a video without calibration, or a damaged video.
    """
    sequence = _sequence(root)
    assert sequence is not None
    path = sequence.parent.parent / _PARAMS
    content = read_json(path)
    poses, lenses = calibrated_poses(path, content), content["intrinsics"]
    found = films_in(sequence / "images")
    masks = films_in(sequence / "alpha_maps")
    numbers = numbered(serial for serial, _ in found)
    cameras: dict[str, Camera] = {}
    shots, fps = [], FOREIGN_FPS
    for (serial, frame), picture in sorted(found.items()):
        if serial not in cameras:
            if serial not in poses or serial not in lenses:
                raise VultusError(f"{path}: has no camera {serial}, which {picture.path.name} was taken by")
            cameras[serial] = _camera(path, serial, poses[serial], lenses[serial], picture)
            fps = picture.film.reader.info.fps or fps
        shots.append(
            Shot(
                timestep=frame,
                camera=numbers[serial],
                parameters=cameras[serial],
                picture=picture,
                mask=masks.get((serial, frame)),
                named_by=path,
            )
        )
    motion, why = _motion(sequence, fps, head)
    return Contents(
        root=root,
        layout=LAYOUT,
        shots=shots,
        motion=motion,
        fps=fps,
        head_name="" if motion is None or head is None else head.name,
        head_fingerprint="" if motion is None or head is None else head.fingerprint,
        camera_names={number: serial for serial, number in numbers.items()},
        without_motion=why,
    )


def _camera(path: Path, serial: str, pose: Tensor, lens: Any, picture: FilmFrame) -> Camera:
    K = intrinsics(lens, f"{path}: camera {serial}", "intrinsics").float()
    width, height = picture.size()
    if not (0 < float(K[0, 2]) < width and 0 < float(K[1, 2]) < height):
        raise VultusError(
            f"{path}: camera {serial} has its principal point outside the {width}x{height} pixels of "
            f"{picture.path.name}; the video was scaled or belongs to another calibration"
        )
    return Camera(pose, K, width, height)


def _motion(sequence: Path, fps: float, head: HeadModel | None) -> tuple[Motion | None, str]:
    tracking = benchmark_tracking_file(sequence)
    if tracking is None:
        return None, "this track of the benchmark has no head parameters"
    if head is None or not is_flame(head):
        return None, "its head parameters are FLAME's; give FLAME 2023 (--head) to read them"
    params = read_benchmark_tracking(tracking, head)
    count = params.batch_shape[0]
    neutral = replace(
        params[0].map(torch.zeros_like),
        identity=params.identity,
        scale=params.scale,
        translation=params.translation.median(dim=0).values,
    )
    return Motion(params, torch.arange(count) / fps, neutral), ""


def write_nersemble_benchmark(capture: Capture, folder: Path, options: WriteOptions, progress: Progress) -> None:
    """Videos over white, masks as videos, calibration and, of FLAME, the tracking, into an empty folder.

    The folder is that of a person with one sequence. Videos are compressed, so that colours change a little.

    Raises:
        VultusError: a camera that moves or lacks some of the instants, or a picture that cannot be read.
    """
    timesteps = sorted({view.timestep for view in capture.views})
    by_camera = {camera: [v for v in capture.views if v.camera == camera] for camera in capture.camera_indices}
    serials = serials_of(capture)
    poses, lenses = {}, {}
    for camera, views in by_camera.items():
        name = serials[camera]
        if [view.timestep for view in views] != timesteps:
            raise VultusError(f"{capture.root}: camera {name} lacks some of the instants, so that it makes no video")
        first = capture.camera(views[0])
        if any(not _is_same(first, capture.camera(view)) for view in views):
            raise VultusError(f"{capture.root}: camera {name} moves or zooms, for which this layout has no place")
        poses[name], lenses[name] = first.world_to_camera.double().tolist(), first.K.double().tolist()
    report = _counter(progress, 2 * len(capture.views))
    sequence = folder / "sequences" / SEQUENCE
    for camera, views in by_camera.items():
        name = f"cam_{serials[camera]}.mp4"
        write_video(sequence / "images" / name, _images(capture, views, report), fps=capture.fps, quality=_QUALITY)
        write_video(sequence / "alpha_maps" / name, _masks(capture, views, report), fps=capture.fps, quality=_QUALITY)
    if isinstance(options.head, SkinnedHead) and is_flame(options.head) and capture.has_motion:
        params = capture.motion.params[torch.tensor(timesteps)]
        write_benchmark_tracking(sequence / "tracking" / "flame2023_tracking.npz", params, options.head)
    write_json(folder / _PARAMS, {"world_2_cam": poses, "intrinsics": lenses})


def _images(capture: Capture, views: list[View], report: Iterator[int]) -> Iterator[Tensor]:
    for view in views:
        next(report)
        yield capture.image(view)


def _masks(capture: Capture, views: list[View], report: Iterator[int]) -> Iterator[Tensor]:
    for view in views:
        next(report)
        yield capture.mask(view).expand(-1, -1, 3)


def _counter(progress: Progress, count: int) -> Iterator[int]:
    return iter(counted(range(count), "pictures", count, progress))


def _is_same(one: Camera, other: Camera) -> bool:
    same_lens = torch.equal(one.K, other.K) and (one.width, one.height) == (other.width, other.height)
    return same_lens and torch.equal(one.world_to_camera, other.world_to_camera)
