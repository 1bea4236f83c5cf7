"""ICT-FaceKit Light as a head model: its linear shapes, with eye joints and a neck built on top.

The published model has no joints and its eyeballs never move. Eyeballs here turn about the centre of their sphere. The
neck is an invention: a smooth bend between the bottom of the mesh and the jaw. There is no jaw joint: `jawOpen` is a
shape, which moves the lower teeth, too.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vultus.errors import VultusError
from vultus.heads.ict.files import NEUTRAL, IctShapes, read_archive, read_folder
from vultus.heads.ict.layout import ATLAS, LANDMARKS_68, OPAQUE_POLYGONS, PARTS, SCLERA, VERTICES, shape_name
from vultus.heads.ict.regions import JAW_CORNER, ict_regions
from vultus.heads.model import SkinnedHead
from vultus.heads.vertex_landmarks import vertex_landmarks

NAME = "ict_facekit_light"
LICENSE = "MIT, Copyright (c) 2020 USC Institute for Creative Technologies"
_JOINTS = ("root", "neck", "left_eye", "right_eye")
_RING = 0.006
"""Vertices within this height (metres) of the neck joint make its ring."""


def load_ict(path: str | Path, *, with_shells: bool = False) -> SkinnedHead:
    """ICT-FaceKit Light from its folder of OBJ files (or the one above it) or from the compact archive (.npz).

    Expression components get ARKit's spelling (`mouthSmileLeft` for `mouthSmile_L`); weights are 0 to 1, identity
    weights are standard deviations. Shapes whose file is missing are left out, with a warning that counts them.

    Args:
        path: `FaceXModel`, the folder that holds it, or the archive.
        with_shells: keep the triangles of tear fluid, lid shadows and eyelashes, which are meant to be see-through.
            Their vertices are always there.

    Raises:
        VultusError: not that model, or a file that is damaged.
    """
    path = Path(path)
    if path.is_dir():
        inner = path / "FaceXModel"
        shapes = read_folder(inner if (inner / f"{NEUTRAL}.obj").is_file() else path)
    else:
        shapes = read_archive(path)
    if shapes.missing:
        some = ", ".join(shapes.missing[:3]) + (", ..." if len(shapes.missing) > 3 else "")
        warnings.warn(f"{path}: {len(shapes.missing)} shapes of ICT-FaceKit are missing ({some})", stacklevel=2)
    template = torch.from_numpy(shapes.neutral)
    polygons = slice(None) if with_shells else slice(0, OPAQUE_POLYGONS)
    faces = _triangles(shapes.polygons[polygons])
    uvs, uv_faces = _texture(shapes, polygons)
    regions = ict_regions(template, _triangles(shapes.polygons[:OPAQUE_POLYGONS]))
    jaw = template[LANDMARKS_68[JAW_CORNER], 1]
    regressor = _joint_regressor(path, template, regions, jaw)
    return SkinnedHead(
        name=NAME,
        license=LICENSE,
        v_template=template,
        faces=faces,
        identity_basis=torch.from_numpy(shapes.identities).permute(1, 2, 0),
        expression_basis=torch.from_numpy(shapes.expressions).permute(1, 2, 0),
        pose_basis=template.new_zeros(VERTICES, 3, 9 * (len(_JOINTS) - 1)),
        joint_regressor=regressor,
        weights=_weights(template, (regressor @ template)[0, 1], jaw),
        parents=(-1, 0, 1, 1),
        joint_names=_JOINTS,
        identity_names=[f"identity_{index:03d}" for index in range(len(shapes.identities))],
        expression_names=[shape_name(name) for name in shapes.expression_names],
        uvs=uvs,
        uv_faces=uv_faces,
        regions=regions,
        landmark_sets={"ibug68": vertex_landmarks(faces, LANDMARKS_68, range(68))},
    )


def _triangles(polygons: np.ndarray) -> Tensor:
    """Every polygon's first triangle, then the second ones of those with four corners, in polygon order each."""
    four = polygons[:, 3] >= 0
    return torch.from_numpy(np.concatenate([polygons[:, :3], polygons[four][:, [0, 2, 3]]]))


def _texture(shapes: IctShapes, polygons: slice) -> tuple[Tensor, Tensor]:
    """Texture points in one unit square. Published, every part has a square of its own, and some share one."""
    corners = _triangles(shapes.polygons_uv[polygons]).numpy()
    owner = np.concatenate([np.arange(len(shapes.polygons))[polygons]] * 2)
    four = shapes.polygons[polygons][:, 3] >= 0
    owner = np.concatenate([owner[: len(four)], owner[: len(four)][four]])
    part = np.full(len(shapes.polygons), len(PARTS) - 1)
    for index, (_, _, start, end) in enumerate(PARTS.values()):
        part[start:end] = index
    keys = corners + part[owner][:, None] * len(shapes.uv)
    unique, places = np.unique(keys, return_inverse=True)
    points = shapes.uv[unique % len(shapes.uv)].astype(np.float64)
    placement = np.array([ATLAS[name] for name in PARTS])[unique // len(shapes.uv)]
    # A point on the right border of its square belongs to the square on its left.
    tile = np.ceil(points[:, 0]) - 1
    points[:, 0] = np.clip(points[:, 0] - tile.clip(min=0), 0, 1)
    points = np.clip(points, 0, 1) * placement[:, 2:] + placement[:, :2]
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(places.reshape(corners.shape))


def _joint_regressor(path: Path, template: Tensor, regions: Mapping[str, Tensor], jaw: Tensor) -> Float[Tensor, "J V"]:
    """Root: mean of the mesh's lower border. Neck: mean of the ring of skin half-way up to the jaw. Eyes: the centre
    of the sphere through the back of the sclera, as an affine combination of its vertices, which every affine motion of
    the eyeball carries along."""
    regressor = template.new_zeros(len(_JOINTS), VERTICES)
    border, neck = regions["boundary"], regions["neck"]
    height = (template[border, 1].mean() + jaw) / 2 if len(border) else jaw
    ring = neck[(template[neck, 1] - height).abs() < _RING]
    if len(border) == 0 or len(ring) == 0:
        raise VultusError(f"{path}: its neck is not where that of ICT-FaceKit is")
    regressor[0, border], regressor[1, ring] = 1 / len(border), 1 / len(ring)
    for row, side in ((2, "left"), (3, "right")):
        vertices = torch.arange(*SCLERA[side])
        points = template[vertices].double()
        back = points[points[:, 2] < points[:, 2].median()]
        system = torch.cat([2 * back, torch.ones(len(back), 1, dtype=back.dtype)], 1)
        centre = torch.linalg.lstsq(system, back.square().sum(1, keepdim=True)).solution[:3, 0]
        middle = points.mean(0)
        around = points - middle
        pull = around @ torch.linalg.solve(around.T @ around, centre - middle)
        regressor[row, vertices] = (1 / len(vertices) + pull - pull.mean()).float()
    return regressor


def _weights(template: Tensor, bottom: Tensor, jaw: Tensor) -> Float[Tensor, "V J"]:
    weights = template.new_zeros(VERTICES, len(_JOINTS))
    rise = ((template[:, 1] - bottom) / (jaw - bottom)).clamp(0, 1)
    # Only the outside of the head bends; everything inside it follows the skull.
    bends = torch.zeros(VERTICES, dtype=torch.bool)
    for name in ("face", "head_and_neck"):
        bends[slice(*PARTS[name][:2])] = True
    neck = torch.where(bends, rise * rise * (3 - 2 * rise), 1.0)
    weights[:, 0], weights[:, 1] = 1 - neck, neck
    for column, name in ((2, "eyeball_left"), (3, "eyeball_right")):
        weights[slice(*PARTS[name][:2])] = 0
        weights[slice(*PARTS[name][:2]), column] = 1
    return weights
