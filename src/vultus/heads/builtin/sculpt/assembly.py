"""Joins skin, openings and solids into one oriented, mirror-symmetric mesh."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from . import anatomy, openings, rings, solids
from .field import HeadField
from .mesh import HeadMesh, MeshBuilder, Part, consistent_orientation
from .primitives import smoothstep
from .skin import Kind, Skin, build_skin
from .surface import vertex_normals

_LIP_MASK = (1.0, 1.0, 1.0, 0.95, 0.5)
_LID_MASK = (1.0, 0.35)


def fold_lids(skin: Skin) -> Skin:
    """Creases the upper lids along their own ring: the lid's plate and the fold above bulge, the crease sinks."""
    v = skin.vertices.copy()
    normals = vertex_normals(v, skin.faces)
    columns = np.arange(rings.EYE_POINTS)
    # Full over the middle of the upper lid, fading toward the corners; the lower lid keeps a hint of it.
    upper = np.sin(columns / rings.EYE_POINTS * 2 * np.pi)
    weight = np.where(upper > 0, smoothstep(0.05, 0.75, upper), 0.2 * smoothstep(0.1, 0.8, -upper))
    for ring, height in ((-1, 0.35), (0, -1.0), (1, 0.55)):
        ids = skin.ring_ids(Kind.EYE, rings.CREASE_RING + ring)
        v[ids] += normals[ids] * (height * weight)[:, None]
        v[skin.mirror[ids]] = v[ids] * anatomy.MIRROR
    return replace(skin, vertices=v)


def build_mesh(field: HeadField) -> HeadMesh:
    """The complete head (millimetres) sculpted from a distance field."""
    skin = fold_lids(build_skin(field))
    b = MeshBuilder(skin)
    n = len(skin.vertices)
    mirror = np.empty(n, dtype=int)
    mirror[: skin.half] = skin.mirror
    mirror[skin.mirror] = np.arange(skin.half)
    upper, lower = skin.kind == Kind.LIP_UPPER, skin.kind == Kind.LIP_LOWER
    side = np.where(upper, 1, np.where(lower, -1, 0))
    side[upper & (skin.column == 0) & (skin.ring < rings.LIP_RINGS)] = 0
    b.add(skin.vertices, Part.SKIN, mirror, side)
    openings.add_ears(b)
    lid_rings = openings.add_lid_interiors(b)
    bag_rings = openings.add_mouth_bag(b)
    solids.add_eyeballs(b)
    solids.add_teeth(b)
    solids.add_tongue(b)
    vertices = np.concatenate(b.vertices)
    part = np.concatenate(b.parts)

    faces, patch_faces, start = [skin.faces], [], len(skin.faces)
    for patch in b.patches:
        f = patch.slot_vertices()[patch.slots()]
        faces.append(f)
        patch_faces.append(start + np.arange(len(f)))
        start += len(f)
    all_faces = np.concatenate(faces)
    solid_parts = (Part.LEFT_EYE, Part.RIGHT_EYE, Part.TEETH_UPPER, Part.TEETH_LOWER, Part.TONGUE)
    shell = np.flatnonzero(~np.isin(part[all_faces], solid_parts).any(axis=1))
    top = int(np.argmax(vertices[all_faces[shell]].mean(axis=1)[:, 1]))
    all_faces[shell] = consistent_orientation(all_faces[shell], top)
    for solid in solid_parts:
        ids = np.flatnonzero((part[all_faces] == solid).all(axis=1))
        v = vertices - vertices[part == solid].mean(axis=0)
        a, b_, c = (v[all_faces[ids, k]] for k in range(3))
        if (a * np.cross(b_, c)).sum() < 0:
            all_faces[ids] = all_faces[ids][:, [0, 2, 1]]

    lip, lid = np.zeros(len(vertices)), np.zeros(len(vertices))
    for k, value in enumerate(_LIP_MASK):
        lip[:n][(upper | lower) & (skin.ring == k)] = value
    for k, value in enumerate(_LID_MASK):
        lid[:n][(skin.kind == Kind.EYE) & (skin.ring == k)] = value
    return HeadMesh(
        skin=skin,
        vertices=vertices,
        faces=all_faces,
        part=part,
        side=np.concatenate(b.sides),
        lip=lip,
        lid=lid,
        mirror=np.concatenate(b.mirrors),
        patches=tuple(b.patches),
        patch_faces=tuple(patch_faces),
        lid_rings=lid_rings,
        bag_rings=bag_rings,
    )
