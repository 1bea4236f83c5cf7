"""The data tree of Gaussian Head Avatar: `images/FRAME/image_CAMERA.jpg`, `mask_CAMERA.jpg`, `cameras/FRAME/*.npz`.

Source: the layout that the published pre-processing of Gaussian Head Avatar (Xu et al. 2024) writes. Head parameters
are read from `FLAME_params/` where a FLAME model is given; fits of the Basel face model (`params/`) are not.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vultus.cameras import Camera
from vultus.captures.capture import Capture
from vultus.captures.contents import FOREIGN_FPS, Contents, Shot, numbered
from vultus.captures.fields import MAX_INDEX, intrinsics, rigid_pose
from vultus.captures.flame_params import is_flame
from vultus.captures.pictures import ImageFile, Picture, size_of
from vultus.captures.saving import WriteOptions
from vultus.errors import VultusError
from vultus.files import read_npz, write_npz
from vultus.heads import HeadModel, SkinnedHead
from vultus.heads.flame import turned_about_origin
from vultus.images import Box, crop_and_resize, write_jpeg
from vultus.motion import HeadParams, Motion
from vultus.progress import Progress, counted

LAYOUT = "gaussian-head-avatar"
_PICTURE = re.compile(r"image_(?!lowres_)([^/]{1,80})\.(?:jpg|png)")
_FRAME = re.compile(r"\d{1,6}")
_MASK_FOLDERS = ("NeuralHaircut_masks/body", "masks/body")
_LOW = 256
# exp_coeff of a FLAME fit: expression, jaw, eyes.
_EXPRESSION, _JAW, _EYES = 50, 3, 6


def is_gaussian_head_avatar(root: Path) -> bool:
    """Whether a folder has pictures and cameras in the folders of Gaussian Head Avatar."""
    return (root / "images").is_dir() and next((root / "cameras").glob("*/camera_*.npz"), None) is not None


def read_gaussian_head_avatar(root: Path, head: HeadModel | None = None) -> Contents:
    """What a data tree holds.

    Raises:
        VultusError: no pictures, a camera file that is missing or malformed, or parameters that are.
    """
    found = [
        (int(folder.name), match[1], path)
        for folder in sorted((root / "images").iterdir())
        if _FRAME.fullmatch(folder.name) and folder.is_dir()
        for path in sorted(folder.iterdir())
        if (match := _PICTURE.fullmatch(path.name))
    ]
    numbers = numbered(name for _, name, _ in found)
    of_camera: dict[str, list[Picture]] = {}
    for _, name, path in found:
        of_camera.setdefault(name, []).append(ImageFile(path))
    # The size is nowhere in the tree but in the pictures; all of a camera are of one size.
    sizes: dict[str, tuple[int, int]] = {}
    shots = []
    for timestep, name, path in found:
        folder = path.parent.name
        camera = root / "cameras" / folder / f"camera_{name}.npz"
        arrays = read_npz(camera)
        width, height = sizes[name] if name in sizes else sizes.setdefault(name, size_of(of_camera[name]))
        pose = rigid_pose(arrays.get("extrinsic"), str(camera), "extrinsic", "world-to-camera")
        K = intrinsics(arrays.get("intrinsic"), str(camera), "intrinsic")
        masks = [path.with_name(f"mask_{name}{suffix}") for suffix in (".jpg", ".png")]
        masks += [
            root / other / folder / f"image_{name}{suffix}" for other in _MASK_FOLDERS for suffix in (".jpg", ".png")
        ]
        mask = next((file for file in masks if file.is_file()), None)
        shots.append(
            Shot(
                timestep=timestep,
                camera=numbers[name],
                parameters=Camera(pose.float(), K.float(), width, height),
                picture=ImageFile(path),
                mask=None if mask is None else ImageFile(mask),
                named_by=camera,
            )
        )
    motion, why = _motion(root, {timestep: path.parent.name for timestep, _, path in found}, head)
    return Contents(
        root=root,
        layout=LAYOUT,
        shots=shots,
        motion=motion,
        head_name="" if motion is None or head is None else head.name,
        head_fingerprint="" if motion is None or head is None else head.fingerprint,
        camera_names={number: name for name, number in numbers.items() if name != str(number)},
        over_white=False,
        without_motion=why,
    )


def _motion(root: Path, folders: dict[int, str], head: HeadModel | None) -> tuple[Motion | None, str]:
    files = {timestep: root / "FLAME_params" / folder / "params.npz" for timestep, folder in folders.items()}
    files = {timestep: path for timestep, path in sorted(files.items()) if path.is_file()}
    if not files:
        return None, "it has no FLAME_params (fits of the Basel face model are not read)"
    if not isinstance(head, SkinnedHead) or not is_flame(head):
        return None, "its head parameters are FLAME's; give the FLAME model (--head) to read them"
    found = {timestep: _params(path, head) for timestep, path in files.items()}
    first = next(iter(found.values()))
    rows = [found.get(timestep, first) for timestep in range(max(found) + 1)]
    params = HeadParams(
        model=head.fingerprint,
        identity=first.identity,
        expression=torch.stack([row.expression for row in rows]),
        joints={name: torch.stack([row.joints[name] for row in rows]) for name in first.joints},
        translation=torch.stack([row.translation for row in rows]),
        scale=first.scale,
    )
    neutral = replace(
        first.map(torch.zeros_like), identity=first.identity, scale=first.scale,
        translation=params.translation.median(dim=0).values,
    )  # fmt: skip
    valid = torch.tensor([timestep in found for timestep in range(len(rows))])
    return Motion(params=params, times=torch.arange(len(rows)) / FOREIGN_FPS, neutral=neutral, valid=valid), ""


def _params(path: Path, head: SkinnedHead) -> HeadParams:
    """One instant. The fit turns and scales the posed model about the origin, FLAME turns about its root joint."""
    arrays = read_npz(path)

    def vector(key: str, size: int) -> Tensor:
        value = arrays.get(key)
        if value is None or value.dtype.kind not in "iuf" or value.size != size:
            raise VultusError(f"{path}: {key} does not hold {size} numbers; it is not a FLAME fit")
        if not np.isfinite(value).all() or np.abs(value).max() > 1e4:
            raise VultusError(f"{path}: {key} holds values that are not finite or absurdly large")
        return torch.from_numpy(value.astype(np.float32).reshape(-1))

    def fitted(values: Tensor, size: int) -> Tensor:
        return torch.nn.functional.pad(values[:size], (0, max(0, size - values.shape[0])))

    coefficients = vector("exp_coeff", _EXPRESSION + _JAW + _EYES)
    jaw, eyes = coefficients[_EXPRESSION : _EXPRESSION + _JAW], coefficients[_EXPRESSION + _JAW :]
    pose, scale = vector("pose", 6), vector("scale", 1)[0]
    params = replace(
        head.neutral(),
        identity=fitted(vector("id_coeff", 100), len(head.identity_names)),
        expression=fitted(coefficients[:_EXPRESSION], len(head.expression_names)),
        joints={"root": pose[:3], "neck": torch.zeros(3), "jaw": jaw, "left_eye": eyes[:3], "right_eye": eyes[3:]},
        translation=pose[3:],
        scale=scale,
    )
    return turned_about_origin(head, params)


def write_gaussian_head_avatar(capture: Capture, folder: Path, options: WriteOptions, progress: Progress) -> None:
    """Square pictures of `options.size` with masks, visible areas, small copies and cameras, into an empty folder.

    Pictures are widened to squares around their centre; what is added is black and marked as not visible. Head
    parameters are not written: the published trainer wants fits of the Basel face model.

    Raises:
        VultusError: a picture cannot be read, or a timestep or the size is out of range.
    """
    size = options.size
    if not _LOW <= size <= 8192:
        raise VultusError(f"pictures of {size} pixels: give a size from {_LOW} to 8192")
    for view in counted(capture.views, "pictures", len(capture.views), progress):
        if view.timestep >= MAX_INDEX:
            raise VultusError(f"{capture.root}: timestep {view.timestep} is out of range")
        frame, name = f"{view.timestep:04d}", re.sub(r"[^\w.-]", "_", capture.camera_name(view.camera))
        camera = capture.camera(view)
        box = Box.square_around((camera.width / 2, camera.height / 2), max(camera.width, camera.height))
        image, mask = capture.image(view), capture.mask(view).expand(-1, -1, 3)
        for kind, pixels in (("image", image), ("mask", mask), ("visible", torch.ones_like(image))):
            for prefix, side in (("", size), ("lowres_", _LOW)):
                square, seen = crop_and_resize(pixels, camera, box, side, side)
                write_jpeg(folder / "images" / frame / f"{kind}_{prefix}{name}.jpg", square.clamp(0, 1), quality=95)
                if kind == "image" and not prefix:
                    write_npz(
                        folder / "cameras" / frame / f"camera_{name}.npz",
                        extrinsic=seen.world_to_camera[:3].double().numpy(),
                        intrinsic=seen.K.double().numpy(),
                    )
