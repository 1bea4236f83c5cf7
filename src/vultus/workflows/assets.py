"""Recognising files of other publishers by what is in them, and converting them once to plain arrays."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vultus.errors import VultusError
from vultus.files import (
    npz_names,
    read_checkpoint_tensors,
    read_npy,
    read_object_npy,
    read_pickle,
    sha256_of,
    tensor_shapes,
)
from vultus.progress import Progress, silent
from vultus.workflows.asset_list import ASSETS, BY_KEY, Asset

_MAX_FILES = 20_000
_MAX_DEPTH = 5
_SUFFIXES = {".npz", ".npy", ".pkl", ".mat", ".pt", ".pth", ".tar", ".txt", ".obj", ".ckpt", ".safetensors"}
# Of other publishers' tensors by name: shapes that all have to be there.
_NETWORKS: dict[str, dict[str, tuple[int, ...]]] = {
    "gagavatar": {"head_base": (5023, 256), "base_model.dino_model.cls_token": (1, 1, 768)},
    "dinov2": {"cls_token": (1, 1, 768), "pos_embed": (1, 1370, 768), "patch_embed.proj.weight": (768, 3, 14, 14)},
    "alexnet": {"features.0.weight": (64, 3, 11, 11), "features.10.weight": (256, 256, 3, 3)},
    "vgg16": {"features.0.weight": (64, 3, 3, 3), "features.17.weight": (512, 256, 3, 3)},
    "lpips-alex": {"lin0.model.1.weight": (1, 64, 1, 1), "lin4.model.1.weight": (1, 256, 1, 1)},
    "lpips-vgg": {"lin0.model.1.weight": (1, 64, 1, 1), "lin4.model.1.weight": (1, 512, 1, 1)},
    "arcface": {"conv1.weight": (64, 3, 3, 3), "fc.weight": (512, 25088), "features.weight": (512,)},
    "deca": {"encoder.conv1.weight": (64, 3, 7, 7), "layers.2.weight": (236, 1024)},
}
_FLAME_VERTICES = 5023
_BENCHMARK_TRACKS = ("nvs", "mono_flame_avatar")


@dataclass(frozen=True)
class Found:
    """A recognised file or folder. note: what is worth knowing about it, such as what is missing beside it."""

    asset: Asset
    path: Path
    sha256: str | None
    note: str = ""


def find_assets(folder: str | Path, *, progress: Progress = silent) -> list[Found]:
    """What a folder (five levels deep) holds of the known assets, recognised by content, by name only where it says so.

    Nothing is executed: pickles of networks are never opened. A file that is damaged or hostile is not recognised.

    Raises:
        VultusError: no such folder, or too many files.
    """
    root = Path(folder)
    if not root.is_dir():
        raise VultusError(f"{root}: is not a folder")
    found, files = [], []
    for place, entries in _folders(root):
        key = recognise_folder(place)
        if key is not None:
            found.append(Found(BY_KEY[key], place, None, _missing_shapes(place) if key == "ict" else ""))
            if key.startswith("data-") or key == "ict":
                continue
        files += [entry for entry in entries if entry.suffix.lower() in _SUFFIXES]
        if len(files) > _MAX_FILES:
            raise VultusError(f"{root}: holds more than {_MAX_FILES} candidate files; name a smaller folder")
    inside = [item.path for item in found if item.sha256 is None]
    files = [file for file in files if not any(file.is_relative_to(place) for place in inside)]
    for index, file in enumerate(sorted(files)):
        key = recognise_file(file)
        if key is not None:
            note = "recognised by its name only" if BY_KEY[key].by_name else _missing_beside(key, file)
            found.append(Found(BY_KEY[key], file, sha256_of(file), note))
        progress("looking at files", index + 1, len(files), {})
    return found


def recognise_folder(folder: Path) -> str | None:
    """The key of the asset or data set that a folder is, None for any other."""
    if any((folder / inner / "generic_neutral_mesh.obj").is_file() for inner in (".", "FaceXModel")):
        return "ict"
    if (folder / "capture.json").is_file():
        return "data-vultus"
    if (folder / "transforms_train.json").is_file() and (folder / "flame_param").is_dir():
        return "data-gaussian-avatars"
    if (folder / "transforms_train.json").is_file() and (folder / "flame" / "exp").is_dir():
        return "data-insta"
    if (folder / "calibration" / "camera_params.json").is_file() and (folder / "sequences").is_dir():
        return "data-nersemble-benchmark" if folder.parent.name in _BENCHMARK_TRACKS else "data-nersemble2"
    if (folder / "camera_params").is_dir() and any((folder / "camera_params").glob("*/camera_params.json")):
        return "data-nersemble1"
    if all((folder / inner).is_dir() for inner in ("images", "cameras", "params")):
        return "data-gha"
    return None


def recognise_file(file: Path) -> str | None:
    """The key of the asset that a file is, None for any other or a damaged one. Runs nothing that is in it."""
    try:
        match file.suffix.lower():
            case ".npz":
                key = _npz_key(npz_names(file))
            case ".npy":
                key = _npy_key(file)
            case ".pkl":
                key = _by_name(file) or _pickle_key(read_pickle(file))
            case ".mat":
                from vultus.heads.bfm.matlab import read_matlab

                key = "bfm" if {"meanshape", "idBase", "exBase", "tri", "keypoints"} <= set(read_matlab(file)) else None
            case ".pt" | ".pth" | ".ckpt" | ".tar":
                key = _network_key({name: tuple(value.shape) for name, value in read_checkpoint_tensors(file).items()})
            case ".safetensors":
                key = _network_key(tensor_shapes(file))
            case ".txt":
                key = "gnm-landmarks" if _is_landmark_table(file) else None
            case _:
                key = None
    except VultusError:
        key = None
    return key or _by_name(file)


def convert_asset(found: Found, folder: str | Path) -> Path | None:
    """Write an asset as plain arrays: head models in our own format (.npz), others as safetensors. None where there is
    nothing to gain (it is plain already, or must not be opened).

    Raises:
        VultusError: damaged, or the result cannot be written.
    """
    import torch

    from vultus.files import write_tensors
    from vultus.heads import load_head, write_head

    folder, key = Path(folder), found.asset.key
    if key in ("ict", "gnm", "flame", "flame-open", "bfm"):
        head = load_head(found.path)
        target = folder / f"{key}-{head.fingerprint[:12]}.npz"
        write_head(target, head, source={"file": found.path.name, "sha256": found.sha256 or ""})
        return target
    if key in _NETWORKS and found.path.suffix.lower() != ".safetensors":
        target = folder / f"{key}-{(found.sha256 or '')[:12]}.safetensors"
        write_tensors(target, read_checkpoint_tensors(found.path))
        return target
    if key == "hair-list":
        target = folder / f"{key}-{(found.sha256 or '')[:12]}.safetensors"
        write_tensors(target, {"vertices": torch.from_numpy(np.asarray(read_pickle(found.path), dtype=np.int64))})
        return target
    return None


def missing_assets(found: list[Found]) -> list[Asset]:
    """Assets, without data sets, of which nothing was found."""
    there = {item.asset.key for item in found} | {"builtin"}
    return [asset for asset in ASSETS if asset.key not in there and not asset.key.startswith("data-")]


def _folders(root: Path) -> Iterator[tuple[Path, list[Path]]]:
    waiting = [(root, 0)]
    while waiting:
        place, depth = waiting.pop()
        try:
            entries = sorted(place.iterdir())
        except OSError:
            continue
        yield place, [entry for entry in entries if entry.is_file()]
        if depth < _MAX_DEPTH and recognise_folder(place) is None:
            waiting += [(entry, depth + 1) for entry in entries if entry.is_dir() and not entry.is_symlink()]


def _npz_key(names: set[str]) -> str | None:
    for key, wanted in {
        "ict": {"quads", "expression_q", "identity_q"},
        "gnm": {"template_vertex_positions", "vertex_identity_basis", "skinning_weights"},
        "tets": {"tet_verts", "tets"},
        "strand-codec": {"mean_shape", "blend_shapes"},
        "flame-mediapipe": {"lmk_face_idx", "lmk_b_coords", "landmark_indices"},
        "flame-texture": {"mean", "tex_dir"},
    }.items():
        if wanted <= names:
            return key
    return None


def _npy_key(file: Path) -> str | None:
    try:
        array = read_npy(file)
    except VultusError:
        content = read_object_npy(file)
        names = set(content) if isinstance(content, dict) else set()
        if {"full_lmk_faces_idx", "full_lmk_bary_coords"} <= names:
            return "flame-landmarks"
        if {"lmk_face_idx", "lmk_b_coords"} <= names:
            return "flame-contour"
        return "faceverse" if {"meanshape", "idBase", "exBase", "tri"} <= names else None
    if array.shape == (_FLAME_VERTICES, 3):
        return "flame-eyelids"
    return "ffhq-labels" if array.ndim == 2 and array.shape[1] == 231 else None


def _pickle_key(content: Any) -> str | None:
    if isinstance(content, list | np.ndarray):
        numbers = np.asarray(content)
        fits = numbers.dtype.kind in "iu" and numbers.ndim == 1 and 0 < numbers.size < _FLAME_VERTICES
        return "hair-list" if fits and numbers.min() >= 0 and numbers.max() < _FLAME_VERTICES else None
    if not isinstance(content, dict):
        return None
    template = content.get("v_template")
    if isinstance(template, np.ndarray) and template.shape == (_FLAME_VERTICES, 3) and "shapedirs" in content:
        return "flame"
    if {"lmk_face_idx", "lmk_b_coords"} <= set(content):
        return "flame-static"
    return "flame-masks" if {"face", "scalp", "lips", "neck"} <= set(content) else None


def _network_key(shapes: dict[str, tuple[int, ...]]) -> str | None:
    for key, wanted in _NETWORKS.items():
        if all(shapes.get(name) == shape for name, shape in wanted.items()):
            return key
    return None


def _by_name(file: Path) -> str | None:
    for asset in ASSETS:
        if asset.by_name and any(fnmatch.fnmatch(file.name.lower(), pattern.lower()) for pattern in asset.files):
            return asset.key
    return None


def _is_landmark_table(file: Path) -> bool:
    if file.stat().st_size > 1 << 20:
        return False
    lines = file.read_text(encoding="ascii", errors="replace").splitlines()
    row = re.compile(r"\s*(\d+\s+-?[\d.eE+-]+\s*){3}")
    return len([line for line in lines if line.strip()]) == 68 and all(row.fullmatch(line) for line in lines if line)


def _missing_shapes(folder: Path) -> str:
    from vultus.heads.ict.layout import EXPRESSIONS, N_IDENTITY

    inner = folder / "FaceXModel"
    names = [*EXPRESSIONS, *(f"identity{index:03d}" for index in range(N_IDENTITY))]
    missing = [n for n in names if not any((place / f"{n}.obj").is_file() for place in (folder, inner))]
    return f"{len(missing)} of {len(names)} shapes are missing" if missing else ""


def _missing_beside(key: str, file: Path) -> str:
    wanted = {
        "flame": ("FLAME_masks.pkl", "head_template_mesh.obj", "mediapipe_landmark_embedding.npz"),
        "gnm": ("head_sparse_68.txt",),
    }.get(key, ())
    missing = [name for name in wanted if not (file.parent / name).is_file()]
    landmarks = ("landmark_embedding_with_eyes.npy", "landmark_embedding.npy")
    if key == "flame" and not any((file.parent / name).is_file() for name in landmarks):
        missing.append(landmarks[0])
    return f"missing beside it: {', '.join(missing)}" if missing else ""
