"""Named vertex sets of the head: FLAME's region names and the finer ones the sculpt knows."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from . import anatomy, rings
from .colours import Places, brow_weight, hair_weight
from .mesh import HeadMesh, Part
from .skin import Kind


def regions(mesh: HeadMesh) -> dict[str, Int[ndarray, "N"]]:
    """Vertex numbers by region name, ascending."""
    v = mesh.vertices
    signed, x, y, z = v[:, 0], np.abs(v[:, 0]), v[:, 1], v[:, 2]
    skin = mesh.part == Part.SKIN
    count = len(mesh.skin.vertices)

    def placed(kinds: tuple[Kind, ...], below: int) -> ndarray:
        mask = np.zeros(len(v), dtype=bool)
        mask[:count] = np.isin(mesh.skin.kind, kinds) & (mesh.skin.ring < below)
        return mask

    rim = np.zeros(len(v), dtype=bool)
    rim[_bottom_ring(mesh)] = True
    places = Places.of_vertices(mesh)
    left, right = signed > 0, signed < 0
    upper_lip = placed((Kind.LIP_UPPER,), rings.LIP_RINGS)
    lower_lip = placed((Kind.LIP_LOWER,), rings.LIP_RINGS)
    corners = placed((Kind.LIP_UPPER,), rings.LIP_RINGS)
    corners[:count] &= mesh.skin.column == 0
    eyelid = placed((Kind.EYE,), len(rings.EYE_OFFSETS)) | (mesh.part == Part.LID)
    around_eye = np.hypot((x - 32) / 25, (y - 1) / 19) < 1
    eye_region = (skin & around_eye & (z > 40)) | (mesh.part == Part.LID)
    nose = skin & (z > 78) & (y < 6) & (y > -47) & (x < 8 + 14 * np.clip((4 - y) / 30, 0, 1))
    forehead = skin & (y > 20) & (z > 25) & (hair_weight(places) < 0.5) & ~around_eye
    neck = skin & (y < -112 + 0.55 * np.clip(40 - z, 0, 90))
    hair = hair_weight(places) > 0.5
    scalp = skin & ((y > 76) | ((y > 30) & (z < 25)) | ((z < -20) & ~neck))
    face = skin & (z > 18) & ~neck & (y < 76) & ~scalp
    boundary = skin & (y < -150)
    iris = anatomy.IRIS_RADIUS + 0.05
    eyes = {"left": mesh.part == Part.LEFT_EYE, "right": mesh.part == Part.RIGHT_EYE}
    in_iris = (np.hypot(x - anatomy.EYE_CENTRE[0], y) < iris) & (z > anatomy.EYE_CENTRE[2])
    ear = mesh.part == Part.EAR
    ear[:count] |= (mesh.skin.kind == Kind.EAR) & (mesh.skin.ring == 0)
    masks = {
        "skin": skin | (mesh.part == Part.EAR),
        "face": face,
        "neck": neck,
        "scalp": scalp,
        "boundary": boundary,
        "below_line": rim,
        "forehead": forehead,
        "nose": nose,
        "lips": upper_lip | lower_lip,
        "lip_upper": upper_lip,
        "lip_lower": lower_lip | corners,
        "eye_region": eye_region,
        "left_eye_region": eye_region & left,
        "right_eye_region": eye_region & right,
        "left_eyelid": eyelid & left,
        "right_eyelid": eyelid & right,
        "left_eyeball": eyes["left"],
        "right_eyeball": eyes["right"],
        "left_iris": eyes["left"] & in_iris,
        "right_iris": eyes["right"] & in_iris,
        "left_ear": ear & left,
        "right_ear": ear & right,
        "teeth_upper": mesh.part == Part.TEETH_UPPER,
        "teeth_lower": mesh.part == Part.TEETH_LOWER,
        "teeth": mesh.is_part(Part.TEETH_UPPER, Part.TEETH_LOWER),
        "tongue": mesh.part == Part.TONGUE,
        "mouth_bag": mesh.part == Part.MOUTH_BAG,
        "hair": hair,
        "brows": brow_weight(places) > 0.4,
    }
    return {name: np.flatnonzero(mask).astype(np.int32) for name, mask in masks.items()}


def _bottom_ring(mesh: HeadMesh) -> Int[ndarray, "N"]:
    """Vertices of the bust's open lower border."""
    f = mesh.skin.faces
    e = np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]])
    n = len(mesh.skin.vertices)
    once = ~np.isin(e[:, 0] * n + e[:, 1], e[:, 1] * n + e[:, 0])
    ids = np.unique(e[once])
    return ids[mesh.vertices[ids, 1] < -170]


def neck_points(mesh: HeadMesh) -> dict[str, int]:
    """Single vertices that place the line below which a capture is cut off: on both sides of the neck and in front."""
    skin = np.flatnonzero(mesh.skin.directions[:, 1] < 0)
    v = mesh.vertices
    left = skin[np.linalg.norm(v[skin] - [52, -140, -22], axis=1).argmin()]
    rim = _bottom_ring(mesh)
    middle = rim[np.abs(v[rim, 0]) < 1e-9]
    return {
        "neck_left_point": int(left),
        "neck_right_point": int(mesh.mirror[left]),
        "front_bottom_point": int(middle[v[middle, 2].argmax()]),
        "back_bottom_point": int(middle[v[middle, 2].argmin()]),
    }
