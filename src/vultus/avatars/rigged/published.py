"""Trained avatars in the folders of GaussianAvatars: `point_cloud.ply` with `flame_param.npz`, read and written.

Source: the saved model of GaussianAvatars (Qian et al. 2024): `cfg_args`, `cameras.json`, and
`point_cloud/iteration_N/` with the Gaussians in triangle-local coordinates and the fine-tuned FLAME parameters.
"""

from __future__ import annotations

import ast
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.avatars.rigged.folder import local_splats, stored_splats
from vultus.avatars.rigged.frames import triangle_frames
from vultus.avatars.rigged.model import Labels, LocalSplats, RiggedAvatar
from vultus.cameras import Camera, look_at
from vultus.captures.contents import FOREIGN_FPS
from vultus.captures.fields import MAX_SIDE, real, rigid_pose, whole
from vultus.captures.flame_params import is_flame, read_flame_sequence, write_flame_sequence
from vultus.errors import VultusError
from vultus.files import atomic_folder, read_json, write_bytes, write_json
from vultus.heads.model import HeadModel
from vultus.motion import HeadParams, Motion
from vultus.splats import INRIA, turn_sh1, write_ply

LAYOUT = "gaussian-avatars"
_CLOUD, _PARAMS, _SETTINGS, _CAMERAS = "point_cloud.ply", "flame_param.npz", "cfg_args", "cameras.json"
_ITERATION = re.compile(r"iteration_(\d{1,9})")
_MAX_SETTINGS = 1 << 16
_DEGREE = 3
# The published demonstration looks from one metre through this angle at pictures of the data set's size.
_DEMO_SIZE, _DEMO_ANGLE, _DEMO_DISTANCE = (550, 802), math.radians(20), 1.0


def is_published(path: Path) -> bool:
    """Whether a path is a trained avatar of GaussianAvatars: its folder, one iteration's, or the .ply with its .npz."""
    try:
        return _cloud_of(path) is not None
    except OSError:
        return False


def load_published(path: str | Path, head: HeadModel | None, *, iteration: int | None = None) -> RiggedAvatar:
    """Open a trained avatar of GaussianAvatars with the user's FLAME model (with teeth, as it was trained).

    Its motion is that of `flame_param.npz`: fine-tuned where it was trained, tracked elsewhere. At rest it has FLAME's
    zero expression. It is drawn as the published rasteriser draws.

    Args:
        iteration: which one, of a folder that holds several; default: the last.

    Raises:
        VultusError: no such avatar, no FLAME model given, Gaussians that are not bound to it, or a damaged file.
    """
    path = Path(path)
    cloud = _cloud_of(path, iteration)
    if cloud is None:
        raise VultusError(f"{path}: holds no {_CLOUD} with {_PARAMS} beside it, so it is no avatar of GaussianAvatars")
    if head is None:
        raise VultusError(
            f"{path}: is an avatar of GaussianAvatars, which is made with FLAME. Say where your FLAME model is: --head "
            "PATH on the command line, head=load_head(PATH) in Python (GaussianAvatars was trained with FLAME 2023)"
        )
    if not is_flame(head):
        raise VultusError(f"{path}: is an avatar of GaussianAvatars; it needs a FLAME model, not {head.name}")
    splats = local_splats(cloud)
    if splats.binding is None:
        raise VultusError(f"{cloud}: is not bound to a head (it has no binding_0), so that it cannot be animated")
    faces = head.faces.shape[0]
    if int(splats.binding.max()) >= faces:
        raise VultusError(
            f"{cloud}: a Gaussian is bound to triangle {int(splats.binding.max())}, but the head model has {faces}; "
            "GaussianAvatars counts FLAME's triangles with the teeth it adds (10,144)"
        )
    motion = published_motion(cloud.with_name(_PARAMS), head)
    rest = motion.neutral
    root = _root_of(cloud)
    settings = _settings(root / _SETTINGS)
    return RiggedAvatar(
        head,
        rest,
        _view(root / _CAMERAS, head, rest),
        splats,
        raster=INRIA,
        motion=motion,
        labels=Labels(provenance=_provenance(cloud, settings), license=head.license),
    )


def published_motion(path: Path, head: HeadModel) -> Motion:
    """The motion of a `flame_param.npz`: 25 instants per second, relative to FLAME's zero expression where the head
    usually is. Raises VultusError like `read_flame_sequence`."""
    params, _ = read_flame_sequence(path, head.fingerprint, head)
    zero = params[0].map(torch.zeros_like)
    neutral = replace(
        zero,
        identity=params.identity,
        translation=params.translation.median(dim=0).values,
        scale=torch.ones(()),
        offset=params.offset,
    )
    return Motion(params, torch.arange(params.batch_shape[0]) / FOREIGN_FPS, neutral)


def save_published(avatar: RiggedAvatar, folder: str | Path, *, iteration: int | None = None) -> list[str]:
    """Write an avatar made with FLAME as GaussianAvatars saves its own, into a new or empty folder.

    The published program has no bound of sizes: sizes are bounded as they are at rest. Degrees of spherical harmonics
    that the avatar has not are zero.

    Args:
        iteration: the number in the folder's name; default: the steps it was trained for.

    Returns:
        What the layout has no place for and was left out, as sentences.

    Raises:
        VultusError: not FLAME, not bound, scaled, of a degree above 3, or the folder has files in it.
    """
    if not is_flame(avatar.head):
        raise VultusError(
            f"{folder}: the layout of GaussianAvatars holds avatars on FLAME; this one is on {avatar.head.name}. Write "
            "splats in one pose instead: `vultus export AVATAR -o head.ply`"
        )
    if avatar.binding is None:
        raise VultusError(f"{folder}: the layout holds avatars that are bound to a head; this one is not")
    motion = avatar.motion
    params = avatar.rest.map(lambda tensor: tensor[None]) if motion is None else motion.params
    for scale in (params.scale, avatar.rest.scale):
        if not torch.allclose(scale, torch.ones(())):
            raise VultusError(f"{folder}: the avatar's head is scaled, for which this layout has no place")
    splats, left_out = _exportable(avatar, params)
    if splats.sh_rest.shape[1] > (_DEGREE + 1) ** 2 - 1:
        raise VultusError(f"{folder}: the layout holds spherical harmonics up to degree {_DEGREE}")
    steps = avatar.labels.provenance.get("steps")
    number = iteration if iteration is not None else steps if isinstance(steps, int) and steps > 0 else 1
    offset = avatar.rest.offset if params.offset is None or params.offset.dim() > 2 else params.offset
    with atomic_folder(folder, _refuse_files) as partial:
        place = partial / "point_cloud" / f"iteration_{number}"
        place.mkdir(parents=True)
        write_ply(place / _CLOUD, stored_splats(splats))
        write_flame_sequence(place / _PARAMS, replace(params, offset=offset), avatar.head.template.shape[0])
        write_bytes(partial / _SETTINGS, _namespace().encode())
        write_json(partial / _CAMERAS, [_camera_entry(avatar.view)])
    return left_out


# --- reading ----------------------------------------------------------------------------------------------------------


def _cloud_of(path: Path, iteration: int | None = None) -> Path | None:
    """The point cloud that a path means; None where there is none with its parameters beside it."""
    if path.is_file():
        return path if path.suffix == ".ply" and path.with_name(_PARAMS).is_file() else None
    found: dict[int, Path] = {}
    if (path / _CLOUD).is_file():
        found[-1] = path / _CLOUD
    for folder in (path / "point_cloud").glob("iteration_*"):
        number = _ITERATION.fullmatch(folder.name)
        if number is not None and (folder / _CLOUD).is_file():
            found[int(number[1])] = folder / _CLOUD
    if iteration is not None and found:
        if iteration not in found:
            known = ", ".join(str(number) for number in sorted(found) if number >= 0)
            raise VultusError(f"{path}: has no iteration {iteration}; it has {known or 'only one, without a number'}")
        return found[iteration]
    cloud = found[max(found)] if found else None
    return cloud if cloud is not None and cloud.with_name(_PARAMS).is_file() else None


def _root_of(cloud: Path) -> Path:
    """The folder of the whole model, which may be the point cloud's own (as the demonstration is distributed)."""
    folder = cloud.parent
    return folder.parent.parent if _ITERATION.fullmatch(folder.name) and folder.parent.name == "point_cloud" else folder


def _settings(path: Path) -> dict[str, Any]:
    """The values of `cfg_args`, `Namespace(key=value, ...)`, read as literals: nothing in it is run. {} without one.

    Raises:
        VultusError: too large, or anything but such a line of literals.
    """
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _MAX_SETTINGS:
            raise VultusError(f"{path}: is larger than {_MAX_SETTINGS >> 10} KB; it is not the settings of a training")
        tree = ast.parse(path.read_bytes().decode("utf-8").strip(), mode="eval").body
        if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name) or tree.args:
            raise ValueError("it is not Namespace(key=value, ...)")
        if tree.func.id != "Namespace" or any(keyword.arg is None for keyword in tree.keywords):
            raise ValueError("it is not Namespace(key=value, ...)")
        return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in tree.keywords}
    except OSError as error:
        raise VultusError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise VultusError(f"{path}: is not the settings of a training: {str(error)[:120]}") from error


def _provenance(cloud: Path, settings: dict[str, Any]) -> dict[str, object]:
    number = _ITERATION.fullmatch(cloud.parent.name)
    made: dict[str, object] = {"method": "GaussianAvatars checkpoint"}
    if number is not None:
        made["steps"] = int(number[1])
    source = settings.get("source_path")
    if isinstance(source, str) and source:
        made["source"] = re.split(r"[/\\]", source.rstrip("/\\"))[-1][:200]
    if isinstance(settings.get("white_background"), bool):
        made["background"] = "white" if settings["white_background"] else "black"
    return made


def _view(path: Path, head: HeadModel, rest: HeadParams) -> Camera:
    """Of the cameras it was trained with, the one most in front of the face; without any, the demonstration's."""
    pose = head.head_to_world(rest)
    forward = pose[:3, 2]
    center = head.pose(rest).vertices.mean(0)
    cameras = _cameras(path)
    if not cameras:
        width, height = _DEMO_SIZE
        focal = height / (2 * math.tan(_DEMO_ANGLE / 2))
        return Camera.from_focal(focal, width, height, look_at(center + _DEMO_DISTANCE * forward, center, pose[:3, 1]))

    def in_front(camera: Camera) -> float:
        return float(torch.nn.functional.normalize(camera.center - center, dim=0) @ forward)

    return max(cameras, key=in_front)


def _cameras(path: Path) -> list[Camera]:
    """The cameras of `cameras.json`; [] without one. Raises VultusError for numbers that make no camera."""
    if not path.is_file():
        return []
    entries = read_json(path)
    if not isinstance(entries, list):
        raise VultusError(f"{path}: is not a list of cameras")
    cameras, seen = [], set()
    for number, entry in enumerate(entries):
        where = f"{path}: camera {number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("rotation"), list):
            raise VultusError(f"{where} has no rotation and position")
        position = entry.get("position")
        if not isinstance(position, list) or len(position) != 3 or len(entry["rotation"]) != 3:
            raise VultusError(f"{where} has no rotation and position")
        # One camera is listed once per instant.
        key = str((entry["rotation"], position))
        if key in seen:
            continue
        seen.add(key)
        rows = [
            [*(row if isinstance(row, list) else [row]), x] for row, x in zip(entry["rotation"], position, strict=True)
        ]
        pose = torch.linalg.inv(rigid_pose(rows, where, "rotation", "camera-to-world")).float()
        width, height = (whole(entry, key, where, 1, MAX_SIDE) for key in ("width", "height"))
        fx, fy = (real(entry, key, where) for key in ("fx", "fy"))
        if not (1e-3 < fx < 1e7 and 1e-3 < fy < 1e7):
            raise VultusError(f"{where}: the focal lengths are {fx:g} and {fy:g}")
        K = torch.tensor([[fx, 0.0, width / 2], [0.0, fy, height / 2], [0.0, 0.0, 1.0]])
        cameras.append(Camera(pose, K, width, height))
    return cameras


# --- writing ----------------------------------------------------------------------------------------------------------


def _exportable(avatar: RiggedAvatar, params: HeadParams) -> tuple[LocalSplats, list[str]]:
    """The raw values in the form the published program expects, and what it cannot express."""
    splats, left_out = avatar.splats(), []
    assert splats.binding is not None
    with torch.no_grad():
        frames = triangle_frames(avatar.vertices(avatar.rest), avatar.head.faces)
    if avatar.sh_frame == "triangle" and splats.sh_rest.shape[1]:
        splats = replace(splats, sh_rest=turn_sh1(splats.sh_rest, frames.rotation[splats.binding]))
        left_out.append(
            "Colours that change with the direction are those of the pose at rest; they do not turn with the head."
        )
    if avatar.largest is not None:
        bound = math.log(avatar.largest) - frames.scale[splats.binding].clamp_min(1e-12).log()
        splats = replace(splats, log_scales=torch.minimum(splats.log_scales, bound))
        left_out.append("The bound of sizes holds for the pose at rest only.")
    missing = (_DEGREE + 1) ** 2 - 1 - splats.sh_rest.shape[1]
    splats = replace(splats, sh_rest=torch.nn.functional.pad(splats.sh_rest, (0, 0, 0, max(missing, 0))))
    if avatar.posture is not None:
        left_out.append("How the bust moves with the head is left out: it moves as FLAME has it.")
    if bool((params.expression[..., 100:] != 0).any()):
        left_out.append("Expression components beyond the hundredth (eyelids) are left out of the motion.")
    if avatar.raster != INRIA:
        left_out.append(
            "It was trained with another rasteriser than the published one, which draws it a little differently."
        )
    return splats, left_out


def _namespace() -> str:
    """`cfg_args` of a standard training; it names no path of this machine."""
    values = {
        "sh_degree": _DEGREE, "source_path": "", "target_path": "", "model_path": "", "images": "images",
        "resolution": -1, "white_background": True, "data_device": "cuda", "eval": True, "bind_to_mesh": True,
        "disable_flame_static_offset": False, "not_finetune_flame_params": False, "select_camera_id": -1,
    }  # fmt: skip
    return f"Namespace({', '.join(f'{key}={value!r}' for key, value in values.items())})"


def _camera_entry(camera: Camera) -> dict[str, Any]:
    pose: Float[Tensor, "4 4"] = torch.linalg.inv(camera.world_to_camera.double())
    return {
        "id": 0,
        "img_name": "00000_00",
        "width": camera.width,
        "height": camera.height,
        "position": pose[:3, 3].tolist(),
        "rotation": pose[:3, :3].tolist(),
        "fy": float(camera.K[1, 1]),
        "fx": float(camera.K[0, 0]),
    }


def _refuse_files(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise VultusError(f"{folder}: has files in it; choose a new or an empty folder")
