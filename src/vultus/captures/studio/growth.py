"""Grows hair: strands as chains of points over a person's rest pose. Millimetres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.spatial import KDTree

from vultus.captures.studio import surface
from vultus.captures.studio.painting import beard_zone
from vultus.captures.studio.people import Person
from vultus.captures.studio.wardrobe import Garment, hat_edge
from vultus.heads.builtin.sculpt import anatomy as sculpt_anatomy
from vultus.heads.builtin.sculpt.colours import hair_weight, value_noise

_CROWN = np.array([6.0, 112.0, -48.0])
_SKULL = np.array([0.0, 32.0, -14.0])
_BUN = np.array([0.0, 88.0, -98.0])


@dataclass(frozen=True)
class Strands:
    """S strands of K + 1 points each, from the root outwards, in the rest pose (mm).

    faces, weights: where on the head the roots are. width: radius of a strand at its root. shade: how much light gets
    to each point past other hair, 0 to 1. tone: brightness of each strand about 1. on_skin: strands that move with
    the skin they grow from; the others move with the skull.
    """

    kind: str
    points: Float[ndarray, "S K+1 3"]
    faces: Int[ndarray, "S"]
    weights: Float[ndarray, "S 3"]
    width: float
    shade: Float[ndarray, "S K+1"]
    tone: Float[ndarray, "S"]
    on_skin: bool


@dataclass(frozen=True)
class Ground:
    """What hair grows from and lies on: the head's rest pose (mm), its normals, faces, anatomy, and the clothes."""

    vertices: Float[ndarray, "V 3"]
    normals: Float[ndarray, "V 3"]
    faces: Int[ndarray, "F 3"]
    anatomy: surface.Anatomy
    garments: list[Garment]

    def roots(
        self, rng: np.random.Generator, weight: Float[ndarray, "V"], count: int
    ) -> tuple[Int[ndarray, "S"], Float[ndarray, "S 3"]]:
        """Random places of the surface, as dense as `weight` says."""
        corners = self.vertices[self.faces]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        chance = area * weight[self.faces].mean(1)
        if chance.sum() <= 0:
            return np.zeros(0, np.int64), np.zeros((0, 3))
        # Evenly spread over the faces, so that there are no holes.
        place = (np.arange(count) + rng.random(count)) / count * chance.sum()
        face = np.searchsorted(np.cumsum(chance), place).clip(0, len(chance) - 1)
        r1, r2 = np.sqrt(rng.random(count)), rng.random(count)
        bary = np.stack([1 - r1, r1 * (1 - r2), r1 * r2], axis=1)
        keep = rng.random(count) < (weight[self.faces[face]] * bary).sum(1) / weight[self.faces[face]].max(1)
        return face[keep], bary[keep]

    def at(self, values: Float[ndarray, "V C"], face: ndarray, bary: ndarray) -> Float[ndarray, "S C"]:
        return (values[self.faces[face]] * bary[..., None]).sum(1)


def grow_hair(person: Person, ground: Ground, detail: float) -> list[Strands]:
    """All hair of a person. `detail` 1 is for pictures of 512 pixels; less means fewer and thicker strands."""
    rng = np.random.default_rng([person.hair.seed, 0x4A12])
    result = [_scalp(person, ground, rng, detail), _beard(person, ground, rng, detail)]
    result += [_brows(person, ground, rng, detail), *_lashes(person, ground, rng, detail)]
    return [strands for strands in result if strands is not None and len(strands.points)]


def _unit(vectors: ndarray) -> ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _comb(person: Person, p: ndarray, root: ndarray) -> ndarray:
    """The direction that hair of a style is combed to, at places p, of strands from `root`."""
    style, hair = person.hair.style, person.hair
    from_crown = _unit(p - _CROWN)
    if style == "back":
        back = np.tile([0.0, -0.25, -1.0], (len(p), 1))
        back[:, 1] += 0.9 * np.clip((p[:, 2] - 55) / 40, 0, 1) - 0.9 * np.clip((-40 - p[:, 2]) / 50, 0, 1)
        return _unit(back)
    if style == "bun":
        return _unit(_BUN - p)
    if style in ("side", "bob", "long"):
        part = hair.part_x if style != "long" else 0.35 * hair.part_x
        away = np.where(root[:, 0] > part, 1.0, -1.0)
        # Over the forehead hair goes aside until it has passed the temple, then down.
        past = np.clip((away * p[:, 0] - 48) / 24, 0, 1) if style != "side" else np.clip((70 - p[:, 1]) / 40, 0, 1)
        behind = np.clip((20 - p[:, 2]) / 60, 0, 1)
        falling = np.maximum(past, behind * np.clip((95 - p[:, 1]) / 60, 0, 1))[:, None]
        side = np.stack([away, 0.05 * away * away, np.where(style == "side", 0.15, -0.12) - 0.45 * behind], axis=1)
        down = np.stack([0.10 * away * (1 - past), -np.ones(len(p)), np.full(len(p), -0.18)], axis=1)
        return _unit(side * (1 - falling) + down * falling + 0.35 * from_crown * behind[:, None])
    return from_crown


_FIT = {
    # stiffness, pull of the comb, gravity, lift at the root, layers (mm), strands, segments
    "buzz": (0.9, 0.25, 0.0, 0.75, 1.0, 9000, 2),
    "short": (0.55, 0.35, 0.05, 0.5, 9.0, 9000, 5),
    "fringe": (0.5, 0.4, 0.12, 0.4, 11.0, 8500, 8),
    "side": (0.45, 0.5, 0.06, 0.45, 12.0, 9000, 9),
    "back": (0.5, 0.5, 0.03, 0.45, 12.0, 9000, 9),
    "curly": (0.75, 0.10, 0.02, 0.95, 14.0, 9000, 7),
    "bob": (0.30, 0.62, 0.10, 0.30, 13.0, 7500, 12),
    "long": (0.30, 0.62, 0.10, 0.30, 12.0, 7500, 16),
    "bun": (0.35, 0.65, 0.0, 0.2, 5.0, 7000, 11),
}


def _scalp(person: Person, ground: Ground, rng: np.random.Generator, detail: float) -> Strands | None:
    hair = person.hair
    if hair.style == "bald":
        return None
    stiff, pull, gravity, lift, layers, count, segments = _FIT[hair.style]
    cling = {"buzz": 0.0, "curly": 0.0, "short": 0.35, "fringe": 0.5}.get(hair.style, 0.8)
    count, thick = _count(count, detail)
    weight = hair_weight(ground.anatomy.places(), hair.hairline)
    # Ears and what lies behind the hairline of the nape stay free.
    face, bary = ground.roots(rng, weight, count)
    root, normal = ground.at(ground.vertices, face, bary), _unit(ground.at(ground.normals, face, bary))
    place = ground.at(ground.anatomy.position.double().numpy(), face, bary)
    number = len(root)
    length = hair.length * rng.uniform(0.82, 1.0, number)
    low = np.clip((42 - place[:, 1]) / 50, 0, 1) * (hair.style in ("short", "side", "back", "fringe"))
    if low.any():
        # Sides and nape are cut shorter.
        length *= 1 - (0.86 if hair.style != "fringe" else 0.72) * low
    level = rng.random(number) ** 0.8
    clearance = 0.7 + level * layers * (0.35 + 0.65 * hair.volume)
    clearance *= 1 - 0.7 * low
    noise = [value_noise(root * 0.06 + 17 * k) for k in range(3)]
    flow = 2 * np.stack(noise, axis=1)
    comb = _comb(person, root, place)
    tangent = comb - (comb * normal).sum(1, keepdims=True) * normal
    lifted = (lift * (1 - 0.6 * low))[:, None]
    d = _unit(lifted * normal + (1 - lifted) * _unit(tangent) + 0.12 * rng.standard_normal((number, 3)))
    if hair.style == "curly":
        d = _unit(normal + 0.5 * rng.standard_normal((number, 3)))
    ground_points, ground_normals = _obstacles(ground)
    tree = KDTree(ground_points)
    step = (length / segments)[:, None]
    p, points = root, [root]
    wave = rng.uniform(0, 2 * np.pi, number)
    axis1 = _unit(np.cross(normal, rng.standard_normal((number, 3))))
    axis2 = np.cross(normal, axis1)
    for k in range(segments):
        comb = _comb(person, p, place)
        target = pull * comb + gravity * np.array([0, -1.0, 0]) + 0.10 * flow
        # Long hair keeps off the face.
        if hair.style in ("bob", "long"):
            front = np.clip((p[:, 2] - 25) / 30, 0, 1) * np.clip((45 - p[:, 1]) / 40, 0, 1)
            target += front[:, None] * np.stack([0.8 * np.sign(p[:, 0]), 0 * front, -0.9 + 0 * front], axis=1)
        d = _unit(stiff * d + target)
        turn = wave + k * (0.9 + 2.2 * hair.curl)
        swing = hair.curl * (0.35 if hair.style != "curly" else 0.95)
        bent = _unit(d + swing * (np.cos(turn)[:, None] * axis1 + np.sin(turn)[:, None] * axis2))
        q = p + bent * step
        share = min(1.0, (k + 1) / max(2.0, 0.35 * segments))
        _, near = tree.query(q)
        gap = ((q - ground_points[near]) * ground_normals[near]).sum(1)
        goal = clearance * share + 0.3
        deep = np.clip(goal - gap, 0, 14)
        # Above the ears hair lies in its layer; below, it hangs free. Strands that stand on end do neither.
        lies = cling * np.clip((p[:, 1] - 5) / 35, 0, 1)
        loose = np.clip(gap - goal, 0, None) * lies
        q = q + ground_normals[near] * (deep - loose)[:, None]
        d = _unit(0.5 * d + 0.5 * _unit(q - p))
        p = q
        points.append(p)
    strands = np.stack(points, axis=1)
    if hair.style == "bun":
        strands = np.concatenate([strands, _bun(rng, number // 3, segments)])
        extra = rng.integers(number, size=number // 3)
        face, bary = np.concatenate([face, face[extra]]), np.concatenate([bary, bary[extra]])
        level = np.concatenate([level, rng.random(number // 3)])
    if hair.style == "bob":
        # Cut straight.
        _end(strands, strands[..., 1] < -58 - 45 * hair.volume + 4 * rng.standard_normal((len(strands), 1)))
    strands, kept = _under_hat(person, strands)
    face, bary, level = face[kept], bary[kept], level[kept]
    along = np.linspace(0, 1, strands.shape[1])
    shade = np.clip(0.30 + 0.62 * level[:, None] * (0.4 + 0.6 * along) + 0.15 * along, 0.2, 1)
    tone = 1 + 0.22 * rng.standard_normal(len(strands)) + 0.35 * value_noise(strands[:, 0] * 0.11)
    return Strands("hair", strands, face, bary, 0.34 * thick, shade, np.clip(tone, 0.45, 1.7), False)


def _bun(rng: np.random.Generator, count: int, segments: int) -> Float[ndarray, "S K+1 3"]:
    """A knot: arcs wound around a ball."""
    pole = _unit(rng.standard_normal((count, 3)) * [0.35, 0.35, 0.35] + [0, 0.5, -0.8])
    first = _unit(np.cross(pole, rng.standard_normal((count, 3))))
    second = np.cross(pole, first)
    turn = np.linspace(0, 2.2, segments + 1)[None, :] + rng.uniform(0, 2 * np.pi, count)[:, None]
    height = rng.uniform(-0.85, 0.85, count)[:, None, None]
    radius = 27 * (0.86 + 0.14 * rng.random(count))[:, None, None]
    ring = np.cos(turn)[..., None] * first[:, None] + np.sin(turn)[..., None] * second[:, None]
    return _BUN + [0, 4, -8] + radius * (ring * np.sqrt(1 - height**2) + pole[:, None] * height)


def _obstacles(ground: Ground) -> tuple[Float[ndarray, "N 3"], Float[ndarray, "N 3"]]:
    """Points of the head's outer skin and of the clothes on the shoulders, with outward normals."""
    part = ground.anatomy.part.numpy()
    outer = (part == surface.SKIN) | (part == surface.EAR)
    points, normals = [ground.vertices[outer]], [ground.normals[outer]]
    for garment in ground.garments:
        if garment.label == "cloth":
            v = garment.vertices.double().numpy() * 1000
            normal = np.stack([v[:, 0], 60 + 0 * v[:, 1], v[:, 2] + 24], axis=1)
            points.append(v)
            normals.append(_unit(normal))
    return np.concatenate(points), np.concatenate(normals)


def _under_hat(person: Person, strands: ndarray) -> tuple[ndarray, ndarray]:
    """Strands that a hat leaves, pressed to the head below its rim."""
    hat = person.clothes.hat
    if hat is None:
        return strands, np.arange(len(strands))
    q = strands - _SKULL
    edge = hat_edge(np.arctan2(q[..., 0], q[..., 2]), hat)
    covered = q[..., 1] > edge - 3
    keep = ~covered[:, 0]
    strands = strands[keep].copy()
    _end(strands, covered[keep])
    return strands, np.flatnonzero(keep)


def _end(strands: Float[ndarray, "S K 3"], beyond: ndarray) -> None:
    """Let strands end, in place, before their first point that is `beyond`."""
    beyond = np.logical_or.accumulate(beyond, axis=1)
    for k in range(1, strands.shape[1]):
        strands[beyond[:, k], k] = strands[beyond[:, k], k - 1]


def _count(count: int, detail: float) -> tuple[int, float]:
    """Fewer strands for small pictures, and as much thicker."""
    detail = min(max(detail, 0.1), 1.5)
    return max(200, round(count * detail)), detail**-0.75


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
    root, normal = ground.at(ground.vertices, face, bary), _unit(ground.at(ground.normals, face, bary))
    place = ground.at(ground.anatomy.position.double().numpy(), face, bary)
    along = comb(place)
    along = _unit(along - (along * normal).sum(1, keepdims=True) * normal)
    d = _unit(along * (1 - lift) + normal * lift + curl * rng.standard_normal(root.shape))
    step = (length(place) * rng.uniform(0.7, 1.1, len(root)) / segments)[:, None]
    p, points = root + 0.2 * normal, [root + 0.2 * normal]
    for _ in range(segments):
        d = _unit(d + 0.35 * along * (1 - lift) + 0.6 * curl * rng.standard_normal(root.shape))
        d = _unit(d + np.maximum(0.12 - (d * normal).sum(1, keepdims=True), 0) * normal)
        p = p + d * step
        points.append(p)
    return np.stack(points, axis=1), face, bary


def _beard(person: Person, ground: Ground, rng: np.random.Generator, detail: float) -> Strands | None:
    hair = person.hair
    if hair.beard in ("none", "stubble") or hair.beard_length <= 0:
        return None
    where = ground.anatomy.position
    weight = beard_zone(where, hair.beard) * (ground.anatomy.part == surface.SKIN)
    weight = (weight * (1 - surface.smoothstep(0.05, 0.3, ground.anatomy.lip))).double().numpy()
    share = {"moustache": 0.10, "goatee": 0.3, "short": 1.0, "full": 1.0}[hair.beard]
    count, thick = _count(round(13000 * share), detail)

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


def _brows(person: Person, ground: Ground, rng: np.random.Generator, detail: float) -> Strands | None:
    """Eyebrows; roots are placed on the brow's curve, since the mesh is coarse there."""
    count, thick = _count(round(900 * person.hair.brow_density), detail)
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
    root, normal = ground.at(ground.vertices, face, bary), _unit(ground.at(ground.normals, face, bary))
    # Upwards near the nose, outwards farther on.
    out = np.clip((x - 9) / 16, 0, 1)
    along = np.stack([side * (0.35 + 0.75 * out), 1.05 - 1.05 * out - 0.35 * (y > middle), -0.25 * out], axis=1)
    along = _unit(along + 0.16 * rng.standard_normal(along.shape))
    along = _unit(along - (along * normal).sum(1, keepdims=True) * normal + 0.18 * normal)
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


def _lashes(person: Person, ground: Ground, rng: np.random.Generator, detail: float) -> list[Strands]:
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
    _, thick = _count(100, detail)
    repeats = max(1, round(4 * min(detail, 1)))
    root = np.repeat(edge, repeats)
    x, y = np.abs(place[root, 0]) - 31.5, place[root, 1]
    upper = y > np.interp(np.abs(place[root, 0]), [17, 45], [-0.6, 0.9])
    side = np.sign(place[root, 0])
    out = np.stack([side * (x / 22 + 0.12), np.where(upper, 0.30, -0.55), np.full(len(root), 1.0)], axis=1)
    out = _unit(out + 0.10 * rng.standard_normal(out.shape))
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
