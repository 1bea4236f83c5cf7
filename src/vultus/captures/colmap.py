"""Models of COLMAP as captures: every photo is a camera of its own, all at one instant."""

from __future__ import annotations

import struct
from pathlib import Path

from vultus.captures.capture import Capture
from vultus.captures.colmap_files import read_colmap_model
from vultus.captures.contents import Contents, Shot
from vultus.captures.lens import Lens
from vultus.captures.pictures import ImageFile, Picture, Undistorted
from vultus.captures.saving import WriteOptions, save_pictures, view_name
from vultus.errors import VultusError
from vultus.files import safe_path, write_bytes
from vultus.heads import HeadModel
from vultus.progress import Progress
from vultus.rotations import matrix_to_quaternion

LAYOUT = "colmap"
_FOLDERS = ("sparse/0", "sparse", ".")
_PINHOLE = 1


def is_colmap(root: Path) -> bool:
    """Whether a folder, or `sparse/0` or `sparse` in it, is a model of COLMAP."""
    return _model_folder(root) is not None


def _model_folder(root: Path) -> Path | None:
    for name in _FOLDERS:
        if any((root / name / f"cameras{suffix}").is_file() for suffix in (".bin", ".txt")):
            return root / name
    return None


def read_colmap(root: Path, head: HeadModel | None = None) -> Contents:
    """A model as one instant: every photo is a camera of its own, named like the photo. `head` is not used.

    Photos are in `images/`, masks (if any) in `masks/` under the photo's name and `.png`.
    """
    folder = _model_folder(root)
    assert folder is not None
    source = next(path for path in (folder / "images.bin", folder / "images.txt") if path.is_file())
    images = read_colmap_model(folder).images
    # A photo that is listed twice gets one number, so that the repetition is noticed.
    numbers = {name: number for number, name in enumerate(sorted({image.name for image in images}))}
    shots = []
    for image in sorted(images, key=lambda image: image.name):
        path = safe_path(root / "images", image.name, source=source)
        mask = safe_path(root / "masks", f"{image.name}.png", source=source)
        shots.append(
            Shot(
                timestep=0,
                camera=numbers[image.name],
                parameters=image.camera,
                picture=_through(ImageFile(path), image.lens),
                mask=_through(ImageFile(mask), image.lens) if mask.is_file() else None,
                named_by=source,
            )
        )
    return Contents(
        root=root,
        layout=LAYOUT,
        shots=shots,
        camera_names={number: name for name, number in numbers.items()},
        over_white=False,
        without_motion="COLMAP knows no heads",
    )


def _through(picture: Picture, bent: Lens) -> Picture:
    return picture if bent.is_straight else Undistorted(picture, bent)


def write_colmap(capture: Capture, folder: Path, options: WriteOptions, progress: Progress) -> None:
    """One instant as a binary model without points, photos over white, masks. Into an empty folder.

    Raises:
        VultusError: the capture has several timesteps.
    """
    if len({view.timestep for view in capture.views}) > 1:
        raise VultusError(
            f"{capture.root}: has several timesteps, but COLMAP knows only one instant; choose one, e.g. --timesteps 0"
        )
    cameras, images = [], []
    for number, view in enumerate(save_pictures(capture, folder, progress, masks="masks/{}.png.png"), start=1):
        camera, name = capture.camera(view), f"{view_name(view)}.png"
        K, pose = camera.K.double(), camera.world_to_camera.double()
        focal = (float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]))
        cameras.append(struct.pack("<iiQQ4d", number, _PINHOLE, camera.width, camera.height, *focal))
        turn = matrix_to_quaternion(pose[:3, :3]).tolist()
        images.append(
            struct.pack("<i7di", number, *turn, *pose[:3, 3].tolist(), number)
            + name.encode()
            + b"\0"
            + struct.pack("<Q", 0)
        )
    for name, records in (("cameras", cameras), ("images", images), ("points3D", [])):
        write_bytes(folder / "sparse" / "0" / f"{name}.bin", struct.pack("<Q", len(records)) + b"".join(records))
