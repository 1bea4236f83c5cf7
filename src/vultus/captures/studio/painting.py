"""Paints a person: the colour of every texel, from melanin, blood, lips, brows, hair and eyes."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vultus.captures.studio.people import BARE_SKIN, BLOOD, MELANIN, Person, Triple
from vultus.captures.studio.surface import (
    LEFT_EYE,
    LID,
    MOUTH_BAG,
    RIGHT_EYE,
    SKIN,
    TEETH_LOWER,
    TEETH_UPPER,
    TONGUE,
    Surface,
    smoothstep,
)

GAMMA = 2.2
_EYE_CENTRE = (31.5, 0.0, 71.0)
_IRIS_RADIUS = 5.9


def linear(color: Triple | Tensor) -> Tensor:
    """sRGB values as light."""
    return torch.as_tensor(color, dtype=torch.float32) ** GAMMA


def paint(surface: Surface, person: Person, *, hair_painted: bool, shirt_painted: bool) -> Float[Tensor, "1 4 T T"]:
    """Texture of a person: linear red, green, blue and gloss.

    hair_painted: scalp hair, beard and brows are all paint; without it only the shade under real hairs. shirt_painted:
    a shirt is painted on the bust.
    """
    color = _skin(surface, person)
    gloss = _gloss(surface, person)
    color = _brows(surface, person, color, 0.85 if hair_painted else 0.35)
    color, gloss = _scalp(surface, person, color, gloss, hair_painted)
    color = _beard(surface, person, color, hair_painted)
    _inside(surface, color, gloss)
    _eyes(surface, person, color, gloss)
    if shirt_painted:
        _shirt(surface, person, color, gloss)
    return surface.image(torch.cat([color.clamp(0, 1), gloss[:, None]], dim=1))


def mottling(surface: Surface, person: Person) -> Float[Tensor, "F N"]:
    """Skin noise of four frequencies, of this person's own pattern, in about [-.5, .5]."""
    angle = person.skin.pattern[:, None]
    return angle.cos() * surface.noises[0] + angle.sin() * surface.noises[1]


def _skin(surface: Surface, person: Person) -> Float[Tensor, "N 3"]:
    skin, p = person.skin, surface.position
    x, y, z = p[:, 0].abs(), p[:, 1], p[:, 2]
    low, mid, fine, finest = mottling(surface, person)
    front = smoothstep(15, 60, z)

    def spot(cx: float, cy: float, sx: float, sy: float) -> Tensor:
        return torch.exp(-(((x - cx) / sx) ** 2) - ((y - cy) / sy) ** 2) * front

    def fold(points: list[tuple[float, float]], width: float) -> Tensor:
        """A soft line y(x) on both halves of the face."""
        xs, ys = np.array(points).T
        line = torch.from_numpy(np.interp(x.numpy(), xs, ys)).float()
        ends = smoothstep(xs[0] - 2, xs[0] + 3, x) * smoothstep(xs[-1] + 2, xs[-1] - 3, x)
        return torch.exp(-(((y - line) / width) ** 2)) * ends * front

    age, tired = skin.age, skin.tired
    blood = skin.blood + 0.16 * low + 0.10 * mid + 0.07 * fine
    blood = blood + skin.blush * (
        0.42 * spot(36, -32, 19, 16)
        + 0.45 * spot(0, -32, 15, 10) * smoothstep(88, 105, z)
        + 0.16 * spot(0, -97, 20, 10)
        + 0.10 * spot(0, 45, 40, 18)
    )
    blood = blood + 0.22 * (surface.part != SKIN) + (0.10 + 0.3 * tired) * spot(29, -9, 15, 6.5)
    blood = blood + 0.22 * spot(30, 8, 15, 5) + 0.12 * spot(14, -36, 7, 6)
    spread = 0.05 + 0.05 * skin.blemishes
    melanin = skin.melanin * (1 + 0.20 * low + 0.15 * mid + 0.05 * fine) + spread * fine * skin.blemishes * 0.8
    melanin = melanin + (0.05 + 0.15 * tired) * spot(29, -10, 15, 6) + 0.07 * spot(30, 9, 15, 5)
    melanin = melanin - 0.12 * skin.melanin * spot(0, 45, 40, 24) - 0.08 * skin.melanin * spot(33, -30, 18, 14)
    melanin = melanin + 0.02 * skin.melanin * smoothstep(-110, -160, y)
    if skin.freckles:
        area = spot(24, -22, 26, 22) + 0.9 * spot(0, -22, 12, 16) + 0.35 * spot(0, 45, 45, 20)
        dots = smoothstep(0.16, 0.30, finest + 0.5 * mid) * 0.5 + smoothstep(0.15, 0.32, fine - 0.3 * mid) * 0.35
        melanin = melanin + 0.42 * skin.freckles * area.clamp(0, 1) * dots
    red = smoothstep(0.22, 0.40, fine + 0.4 * mid) * (spot(35, -45, 24, 30) + 0.7 * spot(0, 45, 40, 20)).clamp(0, 1)
    blood = blood + 0.45 * skin.blemishes * red
    rng = np.random.default_rng(skin.seed)
    for _ in range(skin.moles):
        cx, cy, size = rng.uniform(-58, 58), rng.uniform(-150, 60), rng.uniform(0.5, 1.1)
        distance = torch.hypot(p[:, 0] - cx, y - cy)
        melanin = melanin + 0.55 * smoothstep(size * 1.3, size * 0.6, distance) * front
    # Lips.
    lip = smoothstep(0.25, 0.75, surface.lip + 0.08 * fine)
    blood = blood * (1 - 0.5 * lip) + lip * (0.25 + 0.55 * skin.lip_blood)
    melanin = melanin + lip * skin.lip_melanin
    absorbed = melanin.clamp_min(0)[:, None] * torch.tensor(MELANIN) + blood.clamp_min(0)[:, None] * torch.tensor(BLOOD)
    color = torch.tensor(BARE_SKIN) * torch.exp(-absorbed)

    # Relief that the mesh does not have, as shade: pores, wrinkles of the lips, lines of age, the lids' crease.
    shade = 1 + 0.05 * fine + 0.07 * finest
    shade = shade * (1 + 0.22 * lip * surface.lip_wrinkles) * (1 - 0.35 * smoothstep(0.95, 1.0, surface.lip) * lip)
    lines = fold([(12, 56), (30, 58), (48, 52)], 1.1) + fold([(8, 47), (30, 48.5), (48, 43)], 1.1)
    lines = lines + fold([(4, 38), (25, 39.5), (45, 34)], 1.1)
    cheek = fold([(20, -41), (24, -47), (28, -55), (32.5, -66)], 3.0)
    crow = fold([(50, 4), (58, 9)], 1.0) + fold([(50, -1), (58, -1)], 1.0) + fold([(50, -6), (58, -10)], 1.0)
    bags = fold([(16, -9), (24, -14), (33, -15.5), (43, -11)], 1.6)
    frown = torch.exp(-(((x - 5.5) / 1.1) ** 2) - ((y - 24) / 7) ** 2) * front
    shade = shade * (1 - age * (0.17 * lines * (1 + low) + 0.16 * crow + 0.22 * frown))
    shade = shade * (1 - (0.06 + 0.24 * age) * cheek) * (1 - (0.05 + 0.22 * age + 0.1 * tired) * bags)
    crease = fold([(17, 5.5), (24, 9.2), (31, 10.4), (38, 9.4), (47, 3.6)], 1.0) * smoothstep(60, 64, z)
    shade = shade * (1 - 0.5 * crease)
    nostril = torch.exp(-(((x - 6.4) / 3.0) ** 2) - ((y + 41.2) / 2.2) ** 2 - ((z - 101) / 5.0) ** 2)
    shade = shade * (1 - 0.85 * (1.3 * nostril).clamp(0, 1))
    color = color * shade.clamp_min(0)[:, None]
    # The roots of the lashes; the lid's edge itself is moist and pink.
    lash = smoothstep(0.55, 0.95, surface.lid) * (0.30 + 0.55 * smoothstep(-3, 2, y)) * person.eyes.lashes
    return color * (1 - 0.85 * lash[:, None] * torch.tensor([0.9, 0.95, 0.96]))


def _gloss(surface: Surface, person: Person) -> Float[Tensor, "N"]:
    p = surface.position
    x, y, z = p[:, 0].abs(), p[:, 1], p[:, 2]

    def spot(cx: float, cy: float, sx: float, sy: float) -> Tensor:
        return torch.exp(-(((x - cx) / sx) ** 2) - ((y - cy) / sy) ** 2) * smoothstep(15, 60, z)

    fine, finest = surface.noises[0, 2], surface.noises[1, 3]
    oily = 0.45 + 0.7 * spot(0, 45, 32, 22) + 0.8 * spot(0, -18, 9, 26) + 0.35 * spot(40, -20, 12, 12)
    gloss = 0.055 * person.skin.oil * oily * (1 + 0.8 * fine + 0.9 * finest).clamp_min(0)
    return gloss + 0.06 * smoothstep(0.4, 0.9, surface.lip)


def _over(color: Tensor, top: Tensor, weight: Tensor) -> Tensor:
    return color + (top - color) * weight.clamp(0, 1)[:, None]


def _brows(surface: Surface, person: Person, color: Tensor, strength: float) -> Float[Tensor, "N 3"]:
    hair = person.hair
    top = linear(hair.brow_color) * (1 + 0.6 * surface.brow_hairs)[:, None]
    return _over(color, top, strength * hair.brow_density * surface.brow)


def _scalp(
    surface: Surface, person: Person, color: Tensor, gloss: Tensor, hair_painted: bool
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N"]]:
    hair = person.hair
    if hair.style == "bald":
        # Shaved: a grey shadow, or nothing.
        shadow = surface.scalp * (0.12 + 0.25 * hair.volume)
        return _over(color, color * 0.45 + linear(hair.color) * 0.3, shadow), gloss + 0.03 * surface.scalp
    top = linear(hair.color) * (1 + 1.3 * surface.strands)[:, None].clamp_min(0.1)
    if not hair_painted:
        top = top * 0.55
    weight = (0.95 if hair_painted or hair.style != "buzz" else 0.7) * surface.scalp
    return _over(color, top, weight), gloss * (1 - weight) + 0.02 * weight


def beard_zone(position: Float[Tensor, "N 3"], style: str) -> Float[Tensor, "N"]:
    """Where a beard of a style grows, 0 to 1; position in millimetres on the template."""
    x, y, z = position[:, 0].abs(), position[:, 1], position[:, 2]
    front = smoothstep(-4, 14, z) * smoothstep(-132, -112, y - 0.28 * (z - 60).clamp(-60, 0))
    edge = -52 + 1.05 * (x - 36).clamp(0, 40) - 7 * torch.exp(-(((x - 27) / 7) ** 2))
    jaw = smoothstep(4, -8, y - edge) * front
    lip = smoothstep(-42, -47, y + 0.05 * x) * smoothstep(-64, -58, y) * smoothstep(34, 24, x) * smoothstep(60, 75, z)
    beside = smoothstep(24, 27, x) * smoothstep(38, 31, x) * smoothstep(-56, -62, y) * (y > -95)
    chin = smoothstep(26, 18, x - 0.06 * (y + 90)) * smoothstep(-78, -84, y) * front
    if style == "moustache":
        return lip
    if style == "goatee":
        return torch.maximum(torch.maximum(lip, chin), beside * front)
    return torch.maximum(jaw, lip)


def _beard(surface: Surface, person: Person, color: Tensor, hair_painted: bool) -> Float[Tensor, "N 3"]:
    hair = person.hair
    if hair.beard == "none":
        return color
    _, mid, fine, finest = mottling(surface, person)
    zone = beard_zone(surface.position + 8 * torch.stack([mid, fine, mid], dim=1), hair.beard)
    zone = zone * (surface.part == SKIN) * (1 - smoothstep(0.2, 0.6, surface.lip))
    strength = 0.5 if hair.beard == "stubble" else 0.85 if hair_painted else 0.6
    grain = (0.75 + 1.2 * finest + 0.9 * fine).clamp(0, 1)
    return _over(color, linear(hair.beard_color) * 0.8 + color * 0.12, strength * zone * grain)


def _inside(surface: Surface, color: Tensor, gloss: Tensor) -> None:
    """Mouth and lid interiors, in place."""
    p, part = surface.position, surface.part
    x, y, z = p[:, 0].abs(), p[:, 1], p[:, 2]
    fine, finest = surface.noises[0, 2:]

    def put(chosen: Tensor, value: Tensor, shine: float) -> None:
        color[chosen] = value[chosen]
        gloss[chosen] = shine

    tone = linear((0.74, 0.48, 0.44)) * (1 - 0.45 * ((80 - z) / 6).clamp(0, 1))[:, None]
    put(part == LID, tone, 0.12)
    put(part == MOUTH_BAG, linear((0.55, 0.26, 0.25)) * ((z - 55) / 38).clamp(0.06, 1)[:, None], 0.03)
    shade = 0.3 + 0.7 * smoothstep(52, 80, z)
    put(part == TONGUE, linear((0.80, 0.45, 0.44)) * (shade * (1 + 0.2 * fine + 0.25 * finest))[:, None], 0.09)
    upper = part == TEETH_UPPER
    from_gum = torch.where(upper, (-57.5 - y) / 8.9, (y + 74.8) / 8.2)
    gum = smoothstep(0.20, 0.10, from_gum)
    phase = torch.where(x < 8.6, x / 8.6, 1 + (x - 8.6) / 6.9)
    gap = smoothstep(0.16, 0.0, (torch.pi * phase).sin().abs()) * (1 - gum)
    tooth = linear((0.90, 0.87, 0.80)) * (1 - 0.4 * gap)[:, None]
    depth = (1 - 0.55 * smoothstep(8, 24, x)) * smoothstep(56, 90, z)
    value = (tooth + (linear((0.72, 0.42, 0.41)) - tooth) * gum[:, None]) * depth[:, None]
    put(upper | (part == TEETH_LOWER), value, 0.22)


def _eyes(surface: Surface, person: Person, color: Tensor, gloss: Tensor) -> None:
    """Eyeballs, in place."""
    eyes = person.eyes
    iris_color = linear(eyes.iris)
    for number, side in ((LEFT_EYE, 1.0), (RIGHT_EYE, -1.0)):
        own = surface.part == number
        if not bool(own.any()):
            continue
        q = surface.position[own] - torch.tensor([_EYE_CENTRE[0] * side, _EYE_CENTRE[1], _EYE_CENTRE[2]])
        r, angle = torch.hypot(q[:, 0], q[:, 1]), torch.atan2(q[:, 1], q[:, 0] * side)
        front = (q[:, 2] > 0).float()
        white = linear((0.89, 0.86, 0.83)) * (1 - 0.30 * smoothstep(6.5, 12, r))[:, None]
        white = white * (1 - torch.tensor([0.0, 0.16, 0.20]) * smoothstep(6, 11.5, r)[:, None] * (0.7 + eyes.redness))
        vein = smoothstep(0.22, 0.42, surface.noises[1, 2][own] + 0.5 * surface.noises[0, 3][own])
        white = white * (1 - torch.tensor([0.0, 0.35, 0.35]) * (eyes.redness * vein * smoothstep(6.5, 10, r))[:, None])
        fibres = 0.5 + 0.5 * (37 * angle + 3 * (11 * angle).sin()).sin()
        fibres = 0.6 * fibres + 0.4 * (0.5 + 0.5 * (61 * angle + 2 * (7 * angle).sin() + r).sin())
        light = 0.65 + 0.75 * fibres * smoothstep(2.0, 4.6, r) + 0.35 * smoothstep(3.8, 2.4, r)
        light = light * (1 - 0.72 * smoothstep(_IRIS_RADIUS - 1.1, _IRIS_RADIUS, r))
        iris = iris_color * light[:, None]
        value = _over(white, iris, smoothstep(_IRIS_RADIUS + 0.35, _IRIS_RADIUS - 0.25, r) * front)
        value = _over(value, torch.full((3,), 0.004), smoothstep(eyes.pupil + 0.25, eyes.pupil - 0.25, r) * front)
        color[own] = value
        gloss[own] = 0.5


def shirt_weight(surface: Surface) -> Float[Tensor, "N"]:
    """1 on the shirt that is painted on the bust."""
    p = surface.position
    return smoothstep(0.8, -0.8, p[:, 1] - _hem(p)) * surface.is_skin


def _hem(p: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
    """Height of the shirt's upper edge: lower in front."""
    front = smoothstep(0, 20, p[:, 2]) * (40 - p[:, 0].abs()).clamp(0, 40)
    return -172 + 0.22 * (-20 - p[:, 2]) - 0.16 * front


def _shirt(surface: Surface, person: Person, color: Tensor, gloss: Tensor) -> None:
    """A shirt on the bust, in place."""
    p, weight = surface.position, shirt_weight(surface)
    grain = 1 + 0.10 * (surface.noises[0, 3] + surface.noises[1, 2])
    weave = cloth_color(person, p[:, 0], p[:, 1], p[:, 2]) * grain[:, None]
    hem = 1 - 0.35 * torch.exp(-(((p[:, 1] - _hem(p) + 3.2) / 0.8) ** 2))
    color[:] = _over(color, weave * hem[:, None], weight)
    gloss[:] = gloss * (1 - weight)


def cloth_color(person: Person, x: Tensor, y: Tensor, z: Tensor) -> Float[Tensor, "N 3"]:
    """Linear colour of the shirt at places in millimetres."""
    clothes = person.clothes
    first, second = linear(clothes.color), linear(clothes.second)
    around = torch.atan2(x, z + 30) * 100
    if clothes.pattern == "stripes":
        share = smoothstep(0.30, 0.36, ((y / 16) % 1 - 0.5).abs() * 1.0)
    elif clothes.pattern == "checks":
        share = 0.5 * smoothstep(0.22, 0.28, ((y / 22) % 1 - 0.5).abs()) + 0.5 * smoothstep(
            0.22, 0.28, ((x / 22) % 1 - 0.5).abs()
        )
    elif clothes.pattern == "melange":
        share = (0.12 + 0.12 * (y * 2.1 + (around * 0.7).sin()).sin() * (around * 1.9).sin()).clamp(0, 1)
    else:
        share = torch.zeros_like(y)
    return first + (second - first) * share[:, None]
