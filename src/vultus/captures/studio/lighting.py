"""Light: what surrounds the head (second-order spherical harmonics) and lamps that cast soft shadows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.cameras import Camera, look_at
from vultus.meshes import rasterize_mesh

_SHADOW_SIZE = 256
_SHADOW_REACH = 0.26
"""Radius (metres) of what can cast shadows, around the middle of the head."""
_LAMP_DISTANCE = 3.0
_SHADOW_BIAS = 0.004
WRAP = (0.42, 0.22, 0.16)
"""How far red, green and blue light reaches around to the dark side of skin."""


@dataclass(frozen=True)
class Lighting:
    """Lamps are far away: `directions` (unit, towards the lamp) and linear `colors`. `ambient` are the coefficients of
    irradiance over pi by normal, in real spherical harmonics up to order 2 without their constants (see `ambient_at`).

    follows_head: lamps and surroundings turn with the head, so that a place of the skin looks the same in every pose.
    gloss: multiplies all highlights. shadows: lamps cast shadows.
    """

    directions: Float[Tensor, "L 3"]
    colors: Float[Tensor, "L 3"]
    ambient: Float[Tensor, "9 3"]
    follows_head: bool = False
    gloss: float = 1.0
    shadows: bool = True


def studio_lighting() -> Lighting:
    """A soft, even light that turns with the head and casts no shadows: nothing but the face's own shape."""
    directions = torch.tensor([[0.45, 0.55, 0.75], [-0.75, 0.15, 0.65]])
    colors = torch.tensor([[0.52, 0.505, 0.49], [0.17, 0.175, 0.18]])
    ambient = torch.zeros(9, 3)
    ambient[0], ambient[2], ambient[3] = 0.36, 0.07, 0.06
    return _exposed(Lighting(_unit(directions), colors, ambient, follows_head=True, gloss=0.35, shadows=False))


def random_lighting(seed: int) -> Lighting:
    """Light of some room or place, fixed to the world: a key lamp in front, perhaps a fill and a rim, a sky and a
    ground of some colour. The same seed, the same light."""
    rng = np.random.default_rng([seed, 0x11647])
    side = rng.choice([-1, 1])
    azimuth, height = side * rng.uniform(0.15, 1.15), rng.uniform(0.1, 0.95)
    warmth = rng.normal(0, 0.10)
    key = rng.uniform(0.35, 0.95)
    lamps = [(azimuth, height, key, warmth)]
    if rng.random() < 0.75:
        lamps.append(
            (-side * rng.uniform(0.5, 1.3), rng.uniform(-0.1, 0.6), rng.uniform(0.1, 0.35), rng.normal(0, 0.1))
        )
    if rng.random() < 0.6:
        lamps.append(
            (
                side * rng.uniform(2.2, 2.9) * rng.choice([-1, 1]),
                rng.uniform(0.1, 0.9),
                rng.uniform(0.2, 0.7),
                rng.normal(0, 0.12),
            )
        )
    directions = np.array([(math.sin(a) * math.cos(h), math.sin(h), math.cos(a) * math.cos(h)) for a, h, _, _ in lamps])
    colors = np.array([strength * _tone(tone) for _, _, strength, tone in lamps])
    ambient = np.zeros((9, 3))
    ambient[0] = rng.uniform(0.2, 0.5) * _tone(rng.normal(0, 0.07))
    ambient[2] = rng.uniform(0.02, 0.6) * ambient[0] * _tone(rng.normal(-0.03, 0.08))
    ambient[3] = rng.uniform(-0.1, 0.35) * ambient[0]
    ambient[1] = rng.uniform(-0.3, 0.3) * ambient[0] * _tone(rng.normal(0, 0.1))
    ambient[4:] = rng.normal(0, 0.05, (5, 1)) * ambient[0]
    tensors = [torch.from_numpy(array).float() for array in (directions, colors, ambient)]
    return _exposed(Lighting(_unit(tensors[0]), tensors[1], tensors[2]))


def _tone(warmth: float) -> np.ndarray:
    return np.array([1 + warmth, 1.0, 1 - 1.2 * warmth])


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)


def _exposed(lighting: Lighting) -> Lighting:
    """As bright as makes white paper, averaged over the front of a ball, a little less than white."""
    normals = torch.tensor([[0.0, 0.0, 1.0], [0.6, 0.0, 0.8], [-0.6, 0.0, 0.8], [0.0, 0.5, 0.866], [0.0, -0.4, 0.9165]])
    lit = irradiance(normals, torch.ones(len(normals)), torch.ones(len(lighting.directions), len(normals)), lighting)
    gain = 0.92 / float(lit.mean())
    return replace(lighting, colors=lighting.colors * gain, ambient=lighting.ambient * gain)


def ambient_at(normals: Float[Tensor, "N 3"], ambient: Float[Tensor, "9 3"]) -> Float[Tensor, "N 3"]:
    """Ambient irradiance (over pi) of surfaces facing along `normals`: 1, x, y, z, xy, yz, 3z²-1, xz, x²-y²."""
    x, y, z = normals.unbind(-1)
    basis = torch.stack([torch.ones_like(x), x, y, z, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], dim=-1)
    return (basis @ ambient).clamp_min(0)


def irradiance(
    normals: Float[Tensor, "N 3"],
    occlusion: Float[Tensor, "N"],
    visible: Float[Tensor, "L N"],
    lighting: Lighting,
) -> Float[Tensor, "N 3"]:
    """Light that a surface scatters (irradiance over pi): ambient dimmed by occlusion, lamps by their shadows.

    Lamps reach a little around the edge of their own shade, red farthest, as in skin.
    """
    shaded = occlusion[:, None]
    # Deep places are dim and reddish, since light arrives there from skin.
    total = ambient_at(normals, lighting.ambient) * shaded ** torch.tensor([0.85, 1.0, 1.05])
    wrap = torch.tensor(WRAP)
    for direction, color, seen in zip(lighting.directions, lighting.colors, visible, strict=True):
        facing = (normals @ direction)[:, None]
        soft = ((facing + wrap) / (1 + wrap)).clamp_min(0) ** 1.15
        total = total + color * soft * seen[:, None] * (0.35 + 0.65 * shaded)
    return total


def lamp_visibility(
    vertices: Float[Tensor, "V 3"],
    faces: Int[Tensor, "F 3"],
    normals: Float[Tensor, "V 3"],
    lighting: Lighting,
    lamps: Float[Tensor, "L 3"],
    middle: Float[Tensor, "3"],
) -> Float[Tensor, "L V"]:
    """Share of each lamp that every vertex sees past the rest of the mesh, by a shadow map with soft edges; `lamps`
    are the directions towards them in the world."""
    result = torch.ones(len(lamps), len(vertices))
    if not lighting.shadows:
        return result
    focal = 0.5 * _SHADOW_SIZE * _LAMP_DISTANCE / _SHADOW_REACH
    lifted = vertices + normals * 0.002
    for row, direction in enumerate(lamps):
        pose = look_at(middle + direction * _LAMP_DISTANCE, middle)
        camera = Camera.from_focal(focal, _SHADOW_SIZE, _SHADOW_SIZE, pose)
        depth = rasterize_mesh(vertices, faces, camera).depth
        depth = torch.where(depth > 0, depth, 1e3).reshape(-1)
        places = camera.project(lifted)
        z = camera.to_camera(lifted)[:, 2]
        slope = 0.0015 * (1 - (normals @ direction).clamp(0, 1))
        lit = torch.zeros(len(vertices))
        offsets = [(0.0, 0.0), (-2.0, -0.7), (0.7, -2.0), (2.0, 0.7), (-0.7, 2.0)]
        for dx, dy in offsets:
            column = (places[:, 0] + dx).floor().long().clamp(0, _SHADOW_SIZE - 1)
            line = (places[:, 1] + dy).floor().long().clamp(0, _SHADOW_SIZE - 1)
            lit += (z - depth[line * _SHADOW_SIZE + column] < _SHADOW_BIAS + slope).float()
        result[row] = lit / len(offsets)
    return result
