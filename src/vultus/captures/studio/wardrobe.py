"""Clothes, hats, glasses and earrings as meshes that are carried by the skull or the shoulders."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from vultus.captures.studio import surface
from vultus.captures.studio.garments import NECK_Z, TEXELS, Body, Garment, garment, plain, texels
from vultus.captures.studio.hats import beanie, cap
from vultus.captures.studio.painting import cloth_color
from vultus.captures.studio.people import Person
from vultus.captures.studio.solids import ball, grid_faces, joined, tube
from vultus.heads.builtin.sculpt.colours import value_noise


def dressed(
    person: Person, rest: Float[Tensor, "V 3"], anatomy: surface.Anatomy, faces: Int[Tensor, "F 3"]
) -> list[Garment]:
    """What a person wears, fitted to their rest pose (metres)."""
    body = Body(rest.double().numpy() * 1000, anatomy.part.numpy(), anatomy.position.double().numpy())
    clothes, garments = person.clothes, [_shirt(person, body)]
    if clothes.hat == "beanie":
        garments.append(beanie(person, body))
    elif clothes.hat == "cap":
        garments.append(cap(person, body))
    if clothes.glasses is not None:
        garments.append(_glasses(person, body))
    if clothes.earrings is not None:
        garments.append(_earrings(person, body))
    return garments


_SHOULDERS = np.array(
    # y, half width, half depth, middle z
    [
        (-95, 48, 52, -22), (-125, 58, 56, -24), (-142, 72, 62, -25), (-158, 105, 70, -26), (-172, 146, 79, -25),
        (-186, 176, 88, -24), (-202, 194, 96, -22), (-225, 205, 104, -20), (-265, 210, 112, -16), (-350, 200, 114, -12),
    ],
    dtype=float,
)  # fmt: skip


def _shirt(person: Person, body: Body) -> Garment:
    clothes = person.clothes
    columns, rows = 96, 44
    angle = np.arange(columns + 1) / columns * 2 * np.pi  # the last column repeats the first, for the texture
    front = np.cos(angle)  # 1 in front
    width = body.vertices[:, 0].max() / 112
    top = -150 - 12 * front - 5 * front**2
    if clothes.neckline == "vee":
        top = top - 34 * np.exp(-((np.sin(angle) / 0.36) ** 2)) * (front > 0)
    elif clothes.neckline == "high":
        top = -131 - 9 * front
    elif clothes.neckline == "collar":
        top = top - 24 * np.exp(-((np.sin(angle) / 0.22) ** 2)) * (front > 0)
    share = np.linspace(0, 1, rows)[:, None] ** 1.25
    y = top * (1 - share) - 350 * share
    profile = [np.interp(-y, -_SHOULDERS[:, 0], _SHOULDERS[:, k]) for k in (1, 2, 3)]
    a, b, middle = profile[0] * np.clip(width, 0.86, 1.1), profile[1], profile[2]
    sine, cosine = np.sin(angle), np.cos(angle)
    reach = (np.abs(sine / a) ** 2.3 + np.abs(cosine / b) ** 2.3) ** (-1 / 2.3)
    own = body.neck()
    around = np.broadcast_to(np.stack([sine, cosine], -1)[None] * 60, (*y.shape, 2))
    skin = own(np.concatenate([around, np.maximum(y, -188)[..., None]], axis=-1))
    clear = 6.0 if clothes.neckline == "high" else 3.5
    # Shoulders' own shape, and never inside the body.
    shoulder = reach + 0.6 * (middle - NECK_Z) * cosine
    near_top = np.clip(share / 0.16, 0, 1)
    radius = np.maximum(
        skin + clear, np.where(near_top < 1, (skin + clear) * (1 - near_top) + shoulder * near_top, shoulder)
    )
    loose = value_noise(np.stack([sine * 3 + 9, cosine * 3, y[-1] * 0 + 0.5], -1).reshape(-1, 3)).reshape(columns + 1)
    radius = radius + 2.5 * share * loose
    grid = np.stack([radius * sine, y, NECK_Z + radius * cosine], axis=-1)
    # A hem: rolled inwards.
    lip = [grid[0] + [0, 1.2, 0], grid[0]]
    inner = np.stack([(skin[0] - 3) * sine, y[0] - 2, NECK_Z + (skin[0] - 3) * cosine], axis=-1)
    if clothes.neckline == "collar":
        lip = [*_collar_rings(grid[0], skin[0], y[0], sine, cosine), grid[0]]
    grid = np.concatenate([inner[None], np.stack(lip), grid[1:]])
    u = np.broadcast_to(angle / (2 * np.pi), grid.shape[:2])
    v = np.linspace(0, 1, len(grid))[:, None] * np.ones(columns + 1)
    mesh = grid.reshape(-1, 3), grid_faces(len(grid), columns + 1, closed=False)
    texture = _cloth_texture(person, grid)
    return garment("cloth", "shoulders", mesh, np.stack([u, v], -1).reshape(-1, 2), texture)


def _collar_rings(hem: ndarray, skin: ndarray, y: ndarray, sine: ndarray, cosine: ndarray) -> list[ndarray]:
    """A collar: up along the neck, and folded over outwards."""
    rise = 20 * np.clip(1.15 - np.exp(-((sine / 0.25) ** 2)) * (cosine > 0) * 1.1, 0.05, 1)
    rings = []
    for up, out in ((1.0, 6.0), (1.05, 9.5), (0.35, 13.0), (-0.35, 15.0), (-0.3, 12.0)):
        radius = skin + out
        rings.append(np.stack([radius * sine, y + up * rise, NECK_Z + radius * cosine], axis=-1))
    return rings


def _cloth_texture(person: Person, grid: Float[ndarray, "R C 3"]) -> Float[Tensor, "4 h w"]:
    rows = len(grid)
    points = torch.from_numpy(grid).float().permute(2, 0, 1)[None]
    place = torch.nn.functional.interpolate(points, (TEXELS, TEXELS), mode="bilinear", align_corners=True)[0]
    color = cloth_color(person, *(place[k].reshape(-1) for k in range(3)))
    weave = torch.from_numpy(value_noise(place.reshape(3, -1).T.double().numpy() * 0.5)).float()
    broad = torch.from_numpy(value_noise(place.reshape(3, -1).T.double().numpy() * 0.035)).float()
    color = color * (1 + 0.12 * weave + 0.22 * broad)[:, None]
    _, v = texels()
    hem = 1 - 0.35 * torch.exp(-(((v.reshape(-1) * rows - 4.6) / 0.35) ** 2))
    color = (color * hem[:, None]).T.reshape(3, TEXELS, TEXELS)
    return torch.cat([color, torch.full((1, TEXELS, TEXELS), 0.008)]).clamp(0, 1)


# Half width, half height, exponent of the outline, how much it narrows downwards and sweeps up outwards.
_RIMS = {
    "round": (23.0, 22.0, 2.0, 0.0, 0.0),
    "square": (26.0, 18.5, 3.6, 0.07, 0.02),
    "aviator": (27.0, 23.0, 2.3, 0.20, 0.05),
    "cat": (26.0, 19.0, 2.7, 0.12, 0.20),
}


def _glasses(person: Person, body: Body) -> Garment:
    shape = person.clothes.glasses or "round"
    width, height, power, narrow, sweep = _RIMS[shape]
    size = person.clothes.glasses_size
    left, right = body.eye(surface.LEFT_EYE), body.eye(surface.RIGHT_EYE)
    middle = (left + right) / 2
    apart = abs(left[0] - right[0]) / 2
    skin = (body.part == surface.SKIN) & (np.abs(body.place[:, 0]) < 60) & (np.abs(body.place[:, 1]) < 24)
    skin &= np.abs(body.place[:, 0]) > 12
    # In front of lids, brows and cheeks.
    plane = max(middle[2] + 25.0, float(body.vertices[skin, 2].max()) + 2.5)
    thick = 1.1 if shape == "aviator" else 1.9
    angle = np.arange(48) / 48 * 2 * np.pi
    power_of = 2 / power
    x = width * size * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power_of
    y = height * size * np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power_of
    x = x * (1 - narrow * (1 - y / height) / 2)
    y = y + sweep * np.clip(x, 0, None)
    middle_x = max(apart + 1.5, width * size * 0.92 + 8.5)
    parts = []
    beside = (body.part == surface.SKIN) & (np.abs(body.place[:, 1] - 6) < 12) & (np.abs(body.place[:, 2] - 22) < 38)
    arm_x = float(np.abs(body.vertices[beside, 0]).max()) + 2.5
    for side in (1, -1):
        rim = np.stack([side * (middle_x + x), middle[1] - 3 + y, plane - 0.0035 * (middle_x + x) ** 2 / 1.6], axis=-1)
        parts.append(tube(rim, thick, closed=True))
        corner_x = middle_x + width * size * 0.97
        corner = np.array([side * corner_x, middle[1] + 5 + sweep * width, plane - 0.0035 * corner_x**2 / 1.6])
        ear = body.ear(side)
        top = ear[ear[:, 1].argmax()] if len(ear) else np.array([arm_x * side, 5.0, -20.0])
        hinge = np.array([side * max(arm_x, corner_x + 3), corner[1], corner[2] - 9])
        on_ear = np.array([side * (abs(top[0]) - 4), top[1] + 1.5, top[2] + 4])
        path = np.stack([corner, hinge, hinge * 0.5 + on_ear * 0.5, on_ear, on_ear + np.array([side * 1.0, -14, -11])])
        smooth = np.stack([np.interp(np.linspace(0, 4, 40), np.arange(5), path[:, k]) for k in range(3)], -1)
        parts.append(tube(smooth, np.linspace(thick * 0.95, thick * 0.8, 40)))
    inner = middle_x - width * size * 0.97
    t = np.linspace(-1, 1, 16)
    bridge = np.stack([inner * t, middle[1] + 2.5 + 3.0 * (1 - t**2), plane + 3.0 * (1 - t**2) - 0.0], axis=-1)
    parts.append(tube(bridge, thick))
    if shape == "aviator":
        parts.append(tube(bridge + np.array([0, 7.5, -1.0]), thick * 0.8))
    mesh = joined(*parts)
    metal = shape == "aviator"
    texture = plain(person.clothes.metal if metal else person.clothes.glasses_color, 0.32 if metal else 0.12)
    return garment("glasses", "skull", mesh, np.full((len(mesh[0]), 2), 0.5), texture)


def _earrings(person: Person, body: Body) -> Garment:
    parts = []
    for side in (1, -1):
        ear = body.ear(side)
        lobe = ear[ear[:, 1].argmin()] if len(ear) else np.array([70.0 * side, -50.0, 0.0])
        lobe = lobe + np.array([side * 1.5, 3.0, 1.0])
        if person.clothes.earrings == "studs":
            parts.append(ball(lobe, 2.6))
        else:
            radius = 8 + 7 * person.hair.volume
            angle = np.arange(40) / 40 * 2 * np.pi
            ring = lobe + np.stack([0 * angle, radius * np.cos(angle) - radius, radius * np.sin(angle)], axis=-1)
            parts.append(tube(ring, 1.1, closed=True))
    mesh = joined(*parts)
    return garment("earrings", "skull", mesh, np.full((len(mesh[0]), 2), 0.5), plain(person.clothes.metal, 0.32))
