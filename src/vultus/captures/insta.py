"""The folders of INSTA: one camera that moves around a still head, pictures with alpha, `transforms_*.json`.

```
transforms.json, transforms_{train,test,val}.json     images/00012.png (RGBA)
meshes/00012.obj, canonical.obj                       flame/exp/00012.txt, depth/, seg_mask/
checkpoint/00012.frame                                (of the metrical tracker; some publishers add it)
```

The JSON is that of instant-ngp but for its axes: `transform_matrix` is camera-to-world in OpenCV's (x right, y down, z
forward), and `cy` counts from the top. What moves is the camera: the head stays where FLAME has it. `val` repeats the
last twenty pictures. The meshes are of a simplified topology, so that no head parameters can be had from them; those of
`checkpoint/` are read where a FLAME model is given, and then the camera is still and the head moves.

Source: what INSTA's published programs (Zielonka et al. 2023) write and read; no published capture was at hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vultus.cameras import Camera
from vultus.captures.capture import Capture, SplitName, View
from vultus.captures.contents import FOREIGN_FPS, Contents, Shot
from vultus.captures.fields import rigid_pose
from vultus.captures.flame_params import is_flame
from vultus.captures.pictures import ImageFile
from vultus.captures.saving import WriteOptions, straight_colors
from vultus.captures.tracker_frames import TrackedFrame, read_tracked_frame, tracked_frame_files, tracked_params
from vultus.captures.transforms import transforms_lens
from vultus.errors import VultusError
from vultus.files import read_json, safe_path, write_bytes, write_json
from vultus.heads import HeadModel
from vultus.heads.load import head_made_with
from vultus.images import write_png
from vultus.motion import Motion
from vultus.progress import Progress, counted

LAYOUT = "insta"
_SPLITS: tuple[SplitName, ...] = ("train", "test", "val")
_NUMBER = re.compile(r"\d{1,7}")
# The mouth of INSTA's canonical mesh is this far open (radians).
_CANONICAL_JAW = 0.2094
_STILL = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))


@dataclass(frozen=True)
class _Entry:
    """A picture by the number in its name."""

    number: int
    camera: Camera
    picture: Path
    split: SplitName
    named_by: Path


def is_insta(root: Path) -> bool:
    """Whether a folder has INSTA's transforms and meshes, or pictures beside the metrical tracker's checkpoints."""
    if (root / "flame_param").is_dir() or (root / "capture.json").is_file():
        return False
    if (root / "transforms_train.json").is_file():
        return (root / "flame" / "exp").is_dir() or (root / "canonical.obj").is_file()
    return (root / "images").is_dir() and bool(tracked_frame_files(root))


def read_insta(root: Path, head: HeadModel | None = None) -> Contents:
    """What a folder of INSTA holds. Timesteps count its pictures in the order of their numbers.

    With `head`, a FLAME model, the tracker's parameters are read from `checkpoint/` if they are there.

    Raises:
        VultusError: malformed files, numbers that make no camera, or paths that lead out of the folder.
    """
    frames = {frame.number: frame for frame in map(read_tracked_frame, tracked_frame_files(root))}
    entries = _entries(root) or _entries_of_frames(root, frames)
    if not entries:
        raise VultusError(f"{root}: names no picture")
    timesteps = {number: timestep for timestep, number in enumerate(sorted({entry.number for entry in entries}))}
    motion, why = _motion(root, timesteps, frames, head)
    shots = [
        Shot(
            timestep=timesteps[entry.number],
            camera=0,
            parameters=entry.camera if motion is None else replace(entry.camera, world_to_camera=_STILL),
            picture=ImageFile(entry.picture),
            mask=None,
            named_by=entry.named_by,
            split=entry.split,
        )
        for entry in entries
    ]
    return Contents(
        root=root,
        layout=LAYOUT,
        shots=shots,
        motion=motion,
        head_name="" if motion is None or head is None else head.name,
        head_fingerprint="" if motion is None or head is None else head.fingerprint,
        over_white=False,
        without_motion=why,
    )


def _entries(root: Path) -> list[_Entry]:
    found: list[_Entry] = []
    for split in _SPLITS:
        path = root / f"transforms_{split}.json"
        if not path.is_file():
            continue
        content = read_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
            raise VultusError(f"{path}: has no list of frames")
        shared = {key: value for key, value in content.items() if key != "frames"}
        known = {entry.number for entry in found}
        for index, frame in enumerate(content["frames"]):
            where = f"{path}: frame {index}"
            if not isinstance(frame, dict):
                raise VultusError(f"{where} is not an object")
            entry = _entry(root, path, where, {**shared, **frame}, split)
            # The published val repeats the last pictures of test; any other repetition is a mistake.
            if split != "val" or entry.number not in known:
                found.append(entry)
    return found


def _entry(root: Path, path: Path, where: str, frame: Mapping[str, Any], split: SplitName) -> _Entry:
    picture = safe_path(root, frame.get("file_path"), source=where)
    if not picture.suffix:
        picture = picture.with_suffix(".png")
    if _NUMBER.fullmatch(picture.stem) is None:
        raise VultusError(f"{where}: the picture {picture.name} has no number for a name")
    K, width, height = transforms_lens(frame, where)
    pose = rigid_pose(frame.get("transform_matrix"), where, "transform_matrix", "camera-to-world")
    camera = Camera(torch.linalg.inv(pose).float(), K.float(), width, height)
    return _Entry(int(picture.stem), camera, picture, split, path)


def _entries_of_frames(root: Path, frames: Mapping[int, TrackedFrame]) -> list[_Entry]:
    """The pictures of folders that have the tracker's checkpoints in place of transforms."""
    pictures: dict[int, Path] = {}
    for path in sorted((root / "images").iterdir()):
        if _NUMBER.fullmatch(path.stem) and path.suffix.lower() in (".png", ".jpg"):
            if int(path.stem) in pictures:
                raise VultusError(f"{path}: is picture {int(path.stem)} a second time")
            pictures[int(path.stem)] = path
    entries = []
    for number, frame in frames.items():
        if frame.K is None:
            raise VultusError(f"{frame.path}: has no camera in OpenCV's sense; Pixel3DMM's frames are drivers only")
        pose = _STILL.double() @ frame.model_to_camera
        camera = Camera(pose.float(), frame.K.float(), *frame.size)
        picture = pictures.get(number, root / "images" / f"{number:05d}.png")
        entries.append(_Entry(number, camera, picture, "train", frame.path))
    return entries


def _motion(
    root: Path, timesteps: Mapping[int, int], frames: Mapping[int, TrackedFrame], head: HeadModel | None
) -> tuple[Motion | None, str]:
    if not frames:
        return None, "it has the meshes, but not the parameters, of its head (no checkpoint/ of the metrical tracker)"
    if head is None or not is_flame(head):
        return None, "its head parameters are FLAME's; give the FLAME model (--head) to read them"
    known = [frames[number] for number in timesteps if number in frames]
    if not known:
        raise VultusError(f"{root}: none of the frames in checkpoint/ has the number of a picture")
    params = tracked_params(known, head)
    valid = torch.tensor([number in frames for number in timesteps])
    # An instant without a frame repeats the one before; it is marked as not found.
    rows = (valid.cumsum(0) - 1).clamp_min(0)
    spread = replace(
        params,
        expression=params.expression[rows],
        joints={name: turn[rows] for name, turn in params.joints.items()},
        translation=params.translation[rows],
    )
    neutral = replace(
        params[0].map(torch.zeros_like),
        identity=params.identity,
        scale=params.scale,
        translation=params.translation.median(dim=0).values,
    )
    return Motion(spread, torch.arange(len(timesteps)) / FOREIGN_FPS, neutral, valid), ""


def write_insta(capture: Capture, folder: Path, options: WriteOptions, progress: Progress) -> None:
    """Pictures with alpha, meshes, expression coefficients and transforms of one camera, into an empty folder.

    Cameras are placed relative to the skull; instants without a head are left out. INSTA also wants `depth/`,
    `seg_mask/` and its own simplified meshes, which its scripts make.

    Raises:
        VultusError: no head parameters, several cameras, a lens that changes, or a picture that cannot be read.
    """
    if not capture.has_motion:
        raise VultusError(
            f"{capture.root}: has no head parameters, relative to which this layout places its camera; fit a head "
            "model first, or choose the layout plain"
        )
    if len(capture.camera_indices) > 1:
        raise VultusError(
            f"{capture.root}: has {len(capture.camera_indices)} cameras, but this layout holds one; choose it with "
            "--cameras"
        )
    head = head_made_with(capture.root, capture.head_name, capture.head_fingerprint, options.head)
    views = [view for view in capture.views if bool(capture.motion.valid[view.timestep])]
    if not views:
        raise VultusError(f"{capture.root}: no picture has a head in it")
    lens = capture.camera(views[0])
    if any(not _same_lens(lens, capture.camera(view)) for view in views):
        raise VultusError(f"{capture.root}: its camera zooms or changes its size, for which this layout has no place")
    entries: dict[SplitName, list[dict[str, Any]]] = {split: [] for split in _SPLITS}
    for view in counted(views, "pictures", len(views), progress):
        name = f"{view.timestep:05d}"
        write_png(folder / "images" / f"{name}.png", torch.cat(straight_colors(capture, view), dim=-1))
        pose = capture.camera(view).world_to_camera.double()
        params = capture.motion.params[view.timestep]
        skull = head.head_to_world(params).double()
        vertices = (head.pose(params).vertices.double() - skull[:3, 3]) @ skull[:3, :3]
        _write_obj(folder / "meshes" / f"{name}.obj", vertices, head.faces)
        text = "".join(f"{value:.8f}\n" for value in params.expression.tolist())
        write_bytes(folder / "flame" / "exp" / f"{name}.txt", text.encode())
        entry = {
            "transform_matrix": torch.linalg.inv(pose @ skull).tolist(),
            "file_path": f"images/{name}.png",
            "mesh_path": f"meshes/{name}.obj",
            "exp_path": f"flame/exp/{name}.txt",
        }
        entries[_split_of(capture, view)].append(entry)
    _write_canonical(folder / "canonical.obj", capture, head)
    _write_transforms(folder, lens, entries)


def _write_canonical(path: Path, capture: Capture, head: HeadModel) -> None:
    """The person with a neutral face and the mouth a little open."""
    first = capture.motion.params[0]
    rest = replace(head.neutral(), identity=first.identity, offset=first.offset, scale=first.scale)
    if "jaw" in head.joint_names:
        rest = replace(rest, joints={**rest.joints, "jaw": rest.translation.new_tensor([_CANONICAL_JAW, 0.0, 0.0])})
    _write_obj(path, head.pose(rest).vertices, head.faces)


def _write_transforms(folder: Path, lens: Camera, entries: Mapping[SplitName, list[dict[str, Any]]]) -> None:
    K = lens.K.double()
    (fx, fy), (cx, cy) = K.diagonal()[:2].tolist(), K[:2, 2].tolist()
    angles = [float(2 * np.arctan(side / (2 * focal))) for side, focal in ((lens.width, fx), (lens.height, fy))]
    shared = {
        "w": float(lens.width), "h": float(lens.height), "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy,
        "camera_angle_x": angles[0], "camera_angle_y": angles[1],
        "x_fov": float(np.degrees(angles[0])), "y_fov": float(np.degrees(angles[1])), "integer_depth_scale": 0.001,
    }  # fmt: skip
    for split, frames in entries.items():
        write_json(folder / f"transforms_{split}.json", {**shared, "frames": frames})
    every = sorted((frame for frames in entries.values() for frame in frames), key=lambda frame: frame["file_path"])
    write_json(folder / "transforms.json", {**shared, "frames": every})


def _write_obj(path: Path, vertices: Float[Tensor, "V 3"], faces: Tensor) -> None:
    lines = [f"v {x:.8f} {y:.8f} {z:.8f}\n" for x, y, z in vertices.tolist()]
    lines += [f"f {a} {b} {c}\n" for a, b, c in (faces + 1).tolist()]
    write_bytes(path, "".join(lines).encode())


def _split_of(capture: Capture, view: View) -> SplitName:
    return cast(SplitName, "test" if view in capture.test else "val" if view in capture.val else "train")


def _same_lens(one: Camera, other: Camera) -> bool:
    return torch.equal(one.K, other.K) and (one.width, one.height) == (other.width, other.height)
