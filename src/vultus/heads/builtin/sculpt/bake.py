"""Builds the head and packs it into the arrays of the shipped data file (metres, plain NumPy arrays)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from . import anatomy, atlas, colours, identity, uvs
from .assembly import build_mesh
from .expressions import ExpressionSculptor, component_index
from .field import HeadField
from .identity import IdentitySculptor
from .landmarks import ibug68, mediapipe
from .mesh import HeadMesh
from .primitives import Points
from .regions import neck_points, regions
from .surface import Embedding, vertex_normals
from .weights import joint_regressor, skinning_weights

FORMAT = "vultus-builtin-head/1"
LICENSE = "Apache-2.0"
_MM = 1e-3


@dataclass(frozen=True)
class SculptedHead:
    """Everything the generator makes, in millimetres and double precision."""

    field: HeadField
    mesh: HeadMesh
    normals: Points
    weights: Float[ndarray, "V 5"]
    regressor: Float[ndarray, "5 V"]
    identity: dict[str, Points]
    parity: ndarray
    expressions: dict[str, Points]
    correctives: list[tuple[str, Points]]
    followers: list[tuple[int, Points]]
    landmarks: dict[str, tuple[ndarray, Embedding]]


def sculpt() -> SculptedHead:
    """Runs the whole generator; takes some ten seconds on one core."""
    field = HeadField()
    mesh = build_mesh(field)
    normals = vertex_normals(mesh.vertices, mesh.faces)
    weights = skinning_weights(mesh)
    expressions = ExpressionSculptor(mesh, weights)
    shapes = expressions.shapes()
    still = ~np.any([np.abs(s).max(axis=1) > 1e-3 for s in shapes.values()], axis=0)
    modes, parity = _identity_modes(mesh, normals)
    points = ibug68(mesh)
    ids, dense = mediapipe(mesh)
    return SculptedHead(
        field=field,
        mesh=mesh,
        normals=normals,
        weights=weights,
        regressor=joint_regressor(mesh, still),
        identity=modes,
        parity=parity,
        expressions=shapes,
        correctives=expressions.blink_correctives(),
        followers=expressions.pose_correctives(),
        landmarks={"ibug68": (np.arange(70), points), "mediapipe": (ids, dense)},
    )


def _identity_modes(mesh: HeadMesh, normals: Points) -> tuple[dict[str, Points], ndarray]:
    sculptor = IdentitySculptor(mesh)
    out: dict[str, Points] = {}
    named = sculptor.named()
    for k, m in enumerate(identity.MEASUREMENTS):
        out[m.name] = named[..., k]
    for prefix, modes in (("residual", sculptor.residual()), ("asymmetric", sculptor.asymmetric())):
        for k in range(modes.shape[-1]):
            out[f"{prefix}_{k:02d}"] = modes[..., k]
    out["scale"] = sculptor.scale()[..., 0]
    lift = colours.hair_lift(colours.Places.of_vertices(mesh))
    out["hair_volume"] = identity.hair_volume(normals, lift)
    parity = np.array([-1 if name.startswith("asymmetric") else 1 for name in out], dtype=np.int8)
    return out, parity


def pack(head: SculptedHead) -> dict[str, ndarray]:
    """Arrays of the data file. Identity is stored for one half only; other bases only where they are not zero."""
    mesh = head.mesh
    uv, uv_faces = uvs.atlas(mesh)
    names = list(head.expressions)
    half = np.flatnonzero(mesh.mirror >= np.arange(len(mesh.mirror)))
    modes = np.stack([m[half] for m in head.identity.values()], axis=-1) * _MM
    scale = np.abs(modes).max(axis=(0, 1)) / 32767
    named_regions = regions(mesh)
    named_regions |= {name: np.array([vertex], dtype=np.int32) for name, vertex in neck_points(mesh).items()}
    row, column = np.nonzero(np.abs(head.regressor) > 1e-12)
    places = colours.Places.of_vertices(mesh)
    out: dict[str, ndarray] = {
        "format": np.array(FORMAT),
        "license": np.array(LICENSE),
        "v_template": (mesh.vertices * _MM).astype(np.float32),
        "f": mesh.faces.astype(np.int32),
        "vt": uv.astype(np.float32),
        "ft": uv_faces,
        "mirror_vertices": mesh.mirror.astype(np.int32),
        "part": mesh.part.astype(np.uint8),
        "identity_names": np.array(list(head.identity)),
        "identity_half": np.rint(modes / scale).astype(np.int16),
        "identity_scale": scale.astype(np.float32),
        "identity_parity": head.parity,
        "expression_names": np.array(names),
        "corrective_expression": component_index(names, [name for name, _ in head.correctives]),
        "pose_feature": np.array([entry for entry, _ in head.followers], dtype=np.int32),
        "pose_feature_count": np.array(36, dtype=np.int32),
        "jaw_open_radians": np.array(anatomy.JAW_OPEN_RADIANS, dtype=np.float32),
        "J_regressor_rows": row.astype(np.int32),
        "J_regressor_columns": column.astype(np.int32),
        "J_regressor_values": head.regressor[row, column].astype(np.float32),
        "weights": _float_rows(head.weights),
        "kintree_table": np.array([anatomy.JOINT_PARENTS, range(5)], dtype=np.int32),
        "joint_names": np.array(anatomy.JOINT_NAMES),
        "region_names": np.array(list(named_regions)),
        "region_vertices": np.concatenate(list(named_regions.values())),
        "region_offsets": np.cumsum([0, *(len(r) for r in named_regions.values())], dtype=np.int32),
        "hair_weight": colours.hair_weight(places).astype(np.float16),
        "brow_weight": colours.brow_weight(places).astype(np.float16),
        "lip_weight": colours.lip_weight(places).astype(np.float16),
        "lid_weight": mesh.lid.astype(np.float16),
        "occlusion": colours.ambient_occlusion(head.field, mesh, head.normals).astype(np.float16),
    }
    out |= _sparse("expression", [s * _MM for s in head.expressions.values()])
    out |= _sparse("corrective", [c * _MM for _, c in head.correctives])
    out |= _sparse("pose", [p * _MM for _, p in head.followers])
    images = atlas.bake(mesh, uv, uv_faces, colours.STYLES.values())
    for (name, style), image in zip(colours.STYLES.items(), images, strict=True):
        out[f"color_{name}"] = np.rint(colours.paint(places, style) * 255).astype(np.uint8)
        out[f"atlas_{name}_jpeg"] = atlas.encode_jpeg(image)
    for name, (ids, embedding) in head.landmarks.items():
        out[f"landmark_{name}_ids"] = np.asarray(ids, dtype=np.int32)
        out[f"landmark_{name}_faces"] = embedding.faces.astype(np.int32)
        out[f"landmark_{name}_bary"] = embedding.bary.astype(np.float32)
    return out


def _float_rows(weights: Float[ndarray, "V 5"]) -> Float[ndarray, "V 5"]:
    """Weights in single precision whose rows still sum to 1."""
    w = weights.astype(np.float32)
    largest = w.argmax(axis=1)
    rest = w.sum(axis=1, dtype=np.float64) - w[np.arange(len(w)), largest]
    w[np.arange(len(w)), largest] = 1.0 - rest
    return w


def _sparse(prefix: str, fields: list[Points]) -> Mapping[str, ndarray]:
    """Displacement fields as the vertices they move (concatenated, with offsets) and 16-bit values with a scale."""
    vertices, values, scales = [], [], []
    for d in fields:
        scale = max(float(np.abs(d).max()), 1e-9) / 32767
        q = np.rint(d / scale).astype(np.int16)
        moved = np.flatnonzero((np.abs(d) > 1e-6).any(axis=1))
        vertices.append(moved)
        values.append(q[moved])
        scales.append(scale)
    return {
        f"{prefix}_vertices": np.concatenate(vertices).astype(np.uint16),
        f"{prefix}_offsets": np.cumsum([0, *map(len, vertices)], dtype=np.int32),
        f"{prefix}_values": np.concatenate(values),
        f"{prefix}_scale": np.array(scales, dtype=np.float32),
    }
