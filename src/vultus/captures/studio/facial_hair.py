"""Beards, eyebrows and lashes: short hairs that move with the skin. Millimetres."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.spatial import KDTree

from vultus.captures.studio import surface
from vultus.captures.studio.painting import beard_zone
from vultus.captures.studio.people import Person
from vultus.captures.studio.strands import Ground, Strands, thinned, unit
from vultus.heads.builtin.sculpt import anatomy as sculpt_anatomy


def _lying(
    ground: Ground,
    rng: np.random.Generator,
    weight: ndarray,
    count: int,
    comb,
    length,
    segments: int,
    lift: float,
    curl: float,
):
    """Short hairs on the skin: roots and points, bent along the direction `comb(place)`."""
    face, bary = ground.roots(rng, weight, count)
    root, normal = ground.at(ground.vertices, face, bary), unit(ground.at(ground.normals, face, bary))
    place = ground.at(ground.anatomy.position.double().numpy(), face, bary)
    along = comb(place)
    along = unit(along - (along * normal).sum(1, keepdims=True) * normal)
    d = unit(along * (1 - lift) + normal * lift + curl * rng.standard_normal(root.shape))
    step = (length(place) * rng.uniform(0.7, 1.1, len(root)) / segments)[:, None]
    p, points = root + 0.2 * normal, [root + 0.2 * normal]
    for _ in range(segments):
        d = unit(d + 0.35 * along * (1 - lift) + 0.6 * curl * rng.standard_normal(root.shape))
        d = unit(d + np.maximum(0.12 - (d * normal).sum(1, keepdims=True), 0) * normal)
        p = p + d * step
        points.append(p)
    return np.stack(points, axis=1), face, bary


def beard(person: Person, ground: Ground, rng: np.random.Generator, detail: float) -> Strands | None:
    hair = person.hair
    if hair.beard in ("none", "stubble") or hair.beard_length <= 0:
        return None
    where = ground.anatomy.position
    weight = beard_zone(where, hair.beard) * (ground.anatomy.part == surface.SKIN)
    weight = (weight * (1 - surface.smoothstep(0.05, 0.3, ground.anatomy.lip))).double().numpy()
    share = {"moustache": 0.10, "goatee": 0.3, "short": 1.0, "full": 1.0}[hair.beard]
    count, thick = thinned(round(13000 * share), detail)

    def comb(place: ndarray) -> ndarray:
        out = np.stack([0.35 * np.tanh(place[:, 0] / 12), np.full(len(place), -1.0), np.full(len(place), 0.15)], -1)
        moustache = place[:, 1] > -60
        out[moustache, 0] *= 2.4
        return out

    def length(place: ndarray) -> ndarray:
        low = np.clip((-60 - place[:, 1]) / 45, 0, 1)
        edge = np.clip((place[:, 2] - 5) / 40, 0.35, 1)
        return hair.beard_length * np.where(place[:, 1] > -60, 0.6, 0.55 + 0.75 * low) * edge

    points, face, bary = _lying(ground, rng, weight, count, comb, length, 4, 0.45, 0.22)
    along = np.linspace(0, 1, points.shape[1])
    shade = np.broadcast_to(0.42 + 0.5 * along, points.shape[:2])
    tone = 1 + 0.28 * rng.standard_normal(len(points))
    return Strands("beard", points, face, bary, 0.26 * thick, shade, np.clip(tone, 0.5, 1.9), True)


def brows(person: Person, ground: Ground, rng: np.random.Generator, detail: float) -> Strands | None:
    """Eyebrows; roots are placed on the brow's curve, since the mesh is coarse there."""
    count, thick = thinned(round(900 * person.hair.brow_density), detail)
    curve = sculpt_anatomy.BROW_CURVE
    place = ground.anatomy.position.double().numpy()
    normal_mesh = ground.anatomy.part.numpy() == surface.SKIN
    x = rng.uniform(curve[0, 0] - 1, curve[-1, 0] + 1, count)
    middle, half = np.interp(x, curve[:, 0], curve[:, 1]), np.interp(x, curve[:, 0], curve[:, 2])
    y = middle + half * rng.uniform(-0.95, 0.75, count)
    side = rng.choice([-1, 1], count)
    face, bary = _on_front(ground, place, normal_mesh, np.stack([x * side, y], axis=1))
    found = face >= 0
    face, bary, x, y, side, middle = face[found], bary[found], x[found], y[found], side[found], middle[found]
    root, normal = ground.at(ground.vertices, face, bary), unit(ground.at(ground.normals, face, bary))
    # Upwards near the nose, outwards farther on.
    out = np.clip((x - 9) / 16, 0, 1)
    along = np.stack([side * (0.35 + 0.75 * out), 1.05 - 1.05 * out - 0.35 * (y > middle), -0.25 * out], axis=1)
    along = unit(along + 0.16 * rng.standard_normal(along.shape))
    along = unit(along - (along * normal).sum(1, keepdims=True) * normal + 0.18 * normal)
    length = rng.uniform(4.5, 8.0, len(root)) * (1 - 0.35 * np.clip((x - 36) / 12, 0, 1))
    steps = np.linspace(0, 1, 4)
    droop = np.stack([0 * side, 0 * x - 0.9 * out, 0 * x], -1)
    points = root[:, None] + 0.25 * normal[:, None] + along[:, None] * (length[:, None] * steps)[..., None]
    points = points + droop[:, None] * (steps**2)[None, :, None]
    shade = np.full(points.shape[:2], 0.75)
    tone = np.clip(1 + 0.2 * rng.standard_normal(len(points)), 0.5, 1.6)
    return Strands("brows", points, face, bary, 0.20 * thick, shade, tone, True)


def _on_front(
    ground: Ground, place: ndarray, chosen: ndarray, xy: Float[ndarray, "N 2"]
) -> tuple[Int[ndarray, "N"], Float[ndarray, "N 3"]]:
    """The face of the front of the head, seen along z, that holds each (x, y) of the template; -1 where none does."""
    corner_place = place[ground.faces]
    front = (corner_place[..., 2].min(1) > 45) & (np.abs(corner_place[..., 1].mean(1) - 15) < 40)
    candidates = np.flatnonzero(chosen[ground.faces].all(1) & front)
    corners = place[ground.faces[candidates]][..., :2]
    a, e1, e2 = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0]
    tree = KDTree(corners.mean(1))
    near = np.asarray(tree.query(xy, k=min(24, len(candidates)))[1])
    q = xy[:, None] - a[near]
    safe = np.where(np.abs(area[near]) < 1e-9, 1e-9, area[near])
    u = (q[..., 0] * e2[near][..., 1] - q[..., 1] * e2[near][..., 0]) / safe
    v = (e1[near][..., 0] * q[..., 1] - e1[near][..., 1] * q[..., 0]) / safe
    inside = np.minimum(np.minimum(u, v), 1 - u - v)
    best = inside.argmax(1)
    row = np.arange(len(xy))
    face = np.where(inside[row, best] > -1e-6, candidates[near[row, best]], -1)
    return face, np.stack([1 - u - v, u, v], -1)[row, best].clip(0, 1)


def lashes(person: Person, ground: Ground, rng: np.random.Generator, detail: float) -> list[Strands]:
    """Upper and lower lashes, from the vertices of the lids' edge."""
    lid = ground.anatomy.lid.numpy()
    part = ground.anatomy.part.numpy()
    place = ground.anatomy.position.double().numpy()
    edge = np.flatnonzero((lid > 0.9) & (part == surface.SKIN))
    if not len(edge):
        return []
    first_face = np.full(len(place), -1)
    for corner in range(3):
        first_face[ground.faces[:, corner]] = np.arange(len(ground.faces))
    _, thick = thinned(100, detail)
    repeats = max(1, round(4 * min(detail, 1)))
    root = np.repeat(edge, repeats)
    x, y = np.abs(place[root, 0]) - 31.5, place[root, 1]
    upper = y > np.interp(np.abs(place[root, 0]), [17, 45], [-0.6, 0.9])
    side = np.sign(place[root, 0])
    out = np.stack([side * (x / 22 + 0.12), np.where(upper, 0.30, -0.55), np.full(len(root), 1.0)], axis=1)
    out = unit(out + 0.10 * rng.standard_normal(out.shape))
    curl = np.stack([0 * x, np.where(upper, 1.0, -0.35), 0 * x - 0.1], axis=1)
    length = np.where(upper, 7.2, 4.0) * rng.uniform(0.75, 1.1, len(root)) * person.eyes.lashes
    steps = np.linspace(0, 1, 4)
    start = ground.vertices[root] + 0.8 * rng.uniform(-1, 1, (len(root), 1)) * [1, 0, 0]
    points = start[:, None] + out[:, None] * (length[:, None] * steps)[..., None]
    points = points + curl[:, None] * (0.45 * length[:, None] * steps**2)[..., None]
    face = first_face[root]
    bary = (ground.faces[face] == root[:, None]).astype(float)
    shade = np.full(points.shape[:2], 0.5)
    return [Strands("lashes", points, face, bary, 0.13 * thick, shade, np.ones(len(root)), True)]
