"""Hair on the head: nine styles, combed, laid over each other, and kept out of skull and clothes. Millimetres."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial import KDTree

from vultus.captures.studio import surface
from vultus.captures.studio.garments import SKULL
from vultus.captures.studio.hats import hat_edge
from vultus.captures.studio.people import Person
from vultus.captures.studio.strands import Ground, Strands, thinned, unit
from vultus.heads.builtin.sculpt.colours import hair_weight, value_noise

_CROWN = np.array([6.0, 112.0, -48.0])
_BUN = np.array([0.0, 88.0, -98.0])


def _comb(person: Person, p: ndarray, root: ndarray) -> ndarray:
    """The direction that hair of a style is combed to, at places p, of strands from `root`."""
    style, hair = person.hair.style, person.hair
    from_crown = unit(p - _CROWN)
    if style == "back":
        back = np.tile([0.0, -0.25, -1.0], (len(p), 1))
        back[:, 1] += 0.9 * np.clip((p[:, 2] - 55) / 40, 0, 1) - 0.9 * np.clip((-40 - p[:, 2]) / 50, 0, 1)
        return unit(back)
    if style == "bun":
        return unit(_BUN - p)
    if style in ("side", "bob", "long"):
        part = hair.part_x if style != "long" else 0.35 * hair.part_x
        away = np.where(root[:, 0] > part, 1.0, -1.0)
        # Over the forehead hair goes aside until it has passed the temple, then down.
        past = np.clip((away * p[:, 0] - 48) / 24, 0, 1) if style != "side" else np.clip((70 - p[:, 1]) / 40, 0, 1)
        behind = np.clip((20 - p[:, 2]) / 60, 0, 1)
        falling = np.maximum(past, behind * np.clip((95 - p[:, 1]) / 60, 0, 1))[:, None]
        side = np.stack([away, 0.05 * away * away, np.where(style == "side", 0.15, -0.12) - 0.45 * behind], axis=1)
        down = np.stack([0.10 * away * (1 - past), -np.ones(len(p)), np.full(len(p), -0.18)], axis=1)
        return unit(side * (1 - falling) + down * falling + 0.35 * from_crown * behind[:, None])
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


def scalp_hair(person: Person, ground: Ground, rng: np.random.Generator, detail: float) -> Strands | None:
    hair = person.hair
    if hair.style == "bald":
        return None
    stiff, pull, gravity, lift, layers, count, segments = _FIT[hair.style]
    cling = {"buzz": 0.0, "curly": 0.0, "short": 0.35, "fringe": 0.5}.get(hair.style, 0.8)
    count, thick = thinned(count, detail)
    weight = hair_weight(ground.anatomy.places(), hair.hairline)
    # Ears and what lies behind the hairline of the nape stay free.
    face, bary = ground.roots(rng, weight, count)
    root, normal = ground.at(ground.vertices, face, bary), unit(ground.at(ground.normals, face, bary))
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
    d = unit(lifted * normal + (1 - lifted) * unit(tangent) + 0.12 * rng.standard_normal((number, 3)))
    if hair.style == "curly":
        d = unit(normal + 0.5 * rng.standard_normal((number, 3)))
    ground_points, ground_normals = _obstacles(ground)
    tree = KDTree(ground_points)
    step = (length / segments)[:, None]
    p, points = root, [root]
    wave = rng.uniform(0, 2 * np.pi, number)
    axis1 = unit(np.cross(normal, rng.standard_normal((number, 3))))
    axis2 = np.cross(normal, axis1)
    for k in range(segments):
        comb = _comb(person, p, place)
        target = pull * comb + gravity * np.array([0, -1.0, 0]) + 0.10 * flow
        # Long hair keeps off the face.
        if hair.style in ("bob", "long"):
            front = np.clip((p[:, 2] - 25) / 30, 0, 1) * np.clip((45 - p[:, 1]) / 40, 0, 1)
            target += front[:, None] * np.stack([0.8 * np.sign(p[:, 0]), 0 * front, -0.9 + 0 * front], axis=1)
        d = unit(stiff * d + target)
        turn = wave + k * (0.9 + 2.2 * hair.curl)
        swing = hair.curl * (0.35 if hair.style != "curly" else 0.95)
        bent = unit(d + swing * (np.cos(turn)[:, None] * axis1 + np.sin(turn)[:, None] * axis2))
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
        d = unit(0.5 * d + 0.5 * unit(q - p))
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
    pole = unit(rng.standard_normal((count, 3)) * [0.35, 0.35, 0.35] + [0, 0.5, -0.8])
    first = unit(np.cross(pole, rng.standard_normal((count, 3))))
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
            normals.append(unit(normal))
    return np.concatenate(points), np.concatenate(normals)


def _under_hat(person: Person, strands: ndarray) -> tuple[ndarray, ndarray]:
    """Strands that a hat leaves, pressed to the head below its rim."""
    hat = person.clothes.hat
    if hat is None:
        return strands, np.arange(len(strands))
    q = strands - SKULL
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
