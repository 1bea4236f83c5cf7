"""The layouts on disk that captures are read from and written to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vultus.captures.cameras_json import is_plain, read_plain, write_plain
from vultus.captures.capture import Capture
from vultus.captures.colmap import is_colmap, read_colmap, write_colmap
from vultus.captures.contents import Contents
from vultus.captures.gagavatar import is_tracked_folder, read_tracked
from vultus.captures.gaussian_avatars import is_gaussian_avatars, read_gaussian_avatars, write_gaussian_avatars
from vultus.captures.gaussian_head_avatar import (
    is_gaussian_head_avatar,
    read_gaussian_head_avatar,
    write_gaussian_head_avatar,
)
from vultus.captures.insta import is_insta, read_insta, write_insta
from vultus.captures.native import is_native, read_native
from vultus.captures.nersemble import is_nersemble, read_nersemble, write_nersemble
from vultus.captures.nersemble_benchmark import (
    is_nersemble_benchmark,
    read_nersemble_benchmark,
    write_nersemble_benchmark,
)
from vultus.captures.saving import WriteOptions
from vultus.captures.writing import write_native
from vultus.heads import HeadModel
from vultus.progress import Progress


@dataclass(frozen=True)
class Layout:
    """How one kind of folder is recognised, read and, where that is possible, written."""

    title: str
    marks: str
    """What a folder of this layout has, for messages."""
    recognises: Callable[[Path], bool]
    read: Callable[[Path, HeadModel | None], Contents]
    write: Callable[[Capture, Path, WriteOptions, Progress], None] | None = None


LAYOUTS = {
    "vultus": Layout("Vultus", "capture.json", is_native, read_native, write_native),
    "insta": Layout(
        "INSTA",
        "transforms_train.json beside flame/exp or canonical.obj, or images beside checkpoint/*.frame",
        is_insta,
        read_insta,
        write_insta,
    ),
    "gaussian-avatars": Layout(
        "GaussianAvatars or VHAP",
        "transforms_train.json",
        is_gaussian_avatars,
        read_gaussian_avatars,
        write_gaussian_avatars,
    ),
    "gagavatar": Layout(
        "pictures that GAGAvatar's tracker worked on",
        "img_lmdb beside optim.pkl or smoothed.pkl",
        is_tracked_folder,
        read_tracked,
    ),
    "plain": Layout("pictures with cameras", "cameras.json", is_plain, read_plain, write_plain),
    "gaussian-head-avatar": Layout(
        "Gaussian Head Avatar",
        "images/FRAME/image_CAMERA.jpg and cameras/FRAME/camera_CAMERA.npz",
        is_gaussian_head_avatar,
        read_gaussian_head_avatar,
        write_gaussian_head_avatar,
    ),
    "nersemble-benchmark": Layout(
        "a sequence of the NeRSemble benchmark",
        "images/cam_SERIAL.mp4, and the person's calibration/camera_params.json with intrinsics by camera",
        is_nersemble_benchmark,
        read_nersemble_benchmark,
        write_nersemble_benchmark,
    ),
    "nersemble": Layout(
        "a sequence of NeRSemble",
        "cam_SERIAL.mp4 or images/cam_SERIAL_FRAME.jpg beside the subject's camera_params.json",
        is_nersemble,
        read_nersemble,
        write_nersemble,
    ),
    "colmap": Layout("COLMAP", "sparse/0/cameras.bin or .txt, and images", is_colmap, read_colmap, write_colmap),
}
"""By name; the first that recognises a folder reads it."""


def layout_of(root: Path) -> Layout | None:
    """The layout of a folder, None if it is of none that is known."""
    return next((layout for layout in LAYOUTS.values() if layout.recognises(root)), None)
