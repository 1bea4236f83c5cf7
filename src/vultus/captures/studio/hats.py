"""Beanies and caps, fitted to the skull. Millimetres."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from vultus.captures.studio.garments import SKULL, TEXELS, Body, Garment, garment, texels
from vultus.captures.studio.painting import linear
from vultus.captures.studio.people import Person
from vultus.captures.studio.solids import grid_faces, joined


def _dome(body: Body, low: Float[ndarray, "C"], rows: int, grow: float) -> tuple[ndarray, ndarray, ndarray]:
    """A grid over the skull from the crown down to heights `low` (mm above the skull's middle) by longitude, `grow` mm
    off the skin; also longitude and the share of the way down."""
    columns = len(low)
    longitude = np.arange(columns) / (columns - 1) * 2 * np.pi
    own = body.skull()
    share = np.linspace(0.0, 1, rows)[:, None]
    edge = np.arctan2(low, 88.0)
    latitude = np.pi / 2 * (1 - share) + edge * share
    direction = np.stack(
        [np.cos(latitude) * np.sin(longitude), np.sin(latitude), np.cos(latitude) * np.cos(longitude)], axis=-1
    )
    radius = own(direction) + grow
    return direction * radius[..., None], longitude, share


def hat_edge(longitude: ndarray, kind: str) -> Float[ndarray, "*s"]:
    """Height (mm above the skull's middle) that a hat reaches down to, by longitude from the front."""
    front = np.cos(longitude)
    return (12 + 14 * front - 20 * (1 - front) / 2) if kind == "beanie" else (14 + 9 * front - 10 * (1 - front) / 2)


def beanie(person: Person, body: Body) -> Garment:
    columns, rows = 97, 34
    longitude = np.arange(columns) / (columns - 1) * 2 * np.pi
    grid, longitude, share = _dome(body, hat_edge(longitude, "beanie"), rows, 9.0)
    length = np.linalg.norm(grid, axis=-1, keepdims=True)
    slouch = 16 * person.hair.volume * np.clip(1 - share[..., None] / 0.5, 0, 1) ** 1.5
    fold = 4.0 * (share[..., None] > 0.74)
    grid = grid * (1 + (slouch + fold) / length)
    rim = grid[-1] * (1 - 11 / np.linalg.norm(grid[-1], axis=-1, keepdims=True))
    grid = np.concatenate([grid, rim[None]]) + SKULL
    u, v = texels()
    color, second = linear(person.clothes.hat_color), linear(person.clothes.second)
    ribs = 0.5 + 0.5 * torch.sin(u * 2 * torch.pi * 48)
    row = 0.5 + 0.5 * torch.sin(v * 2 * torch.pi * 42)
    shade = 0.62 + 0.38 * (0.7 * ribs + 0.3 * row)
    band = ((v > 0.30) & (v < 0.40)).float() * (person.clothes.pattern == "stripes")
    base = color[:, None, None] + (second - color)[:, None, None] * band
    edge = 1 - 0.45 * torch.exp(-(((v - 0.725) / 0.012) ** 2))
    texture = torch.cat([base * shade * edge, torch.full((1, TEXELS, TEXELS), 0.004)]).clamp(0, 1)
    return _dome_garment(grid, texture)


def cap(person: Person, body: Body) -> Garment:
    columns, rows = 97, 26
    longitude = np.arange(columns) / (columns - 1) * 2 * np.pi
    grid, longitude, share = _dome(body, hat_edge(longitude, "cap"), rows, 8.0)
    height = 6 * np.sin(np.pi * np.clip(share[..., None], 0, 1))
    grid = grid * (1 + height / np.linalg.norm(grid, axis=-1, keepdims=True))
    rim = grid[-1] * (1 - 7 / np.linalg.norm(grid[-1], axis=-1, keepdims=True))
    edge = grid[-1]
    dome = np.concatenate([grid, rim[None]]) + SKULL
    u, v = texels()
    color = linear(person.clothes.hat_color)
    seam = torch.exp(-((((u * 6) % 1 - 0.5).abs() - 0.5) ** 2) / 0.0012) * (v < 0.96)
    base = color[:, None, None] * (1 - 0.35 * seam)
    texture = torch.cat([base, torch.full((1, TEXELS, TEXELS), 0.015)]).clamp(0, 1)
    # The peak: forwards from the front of the rim, curved down to the sides.
    half = np.linspace(-1, 1, 33)
    at = np.interp((half * 0.95) % (2 * np.pi), np.arange(columns) / (columns - 1) * 2 * np.pi, np.arange(columns))
    low = np.floor(at).astype(int).clip(0, columns - 2)
    base_line = edge[low] + (edge[low + 1] - edge[low]) * (at - low)[:, None] + SKULL
    rows_out = []
    for step in np.linspace(0, 1, 7):
        reach = 66 * np.sqrt(np.clip(1 - half**2 * 0.96, 0, 1))
        out = base_line + np.stack([6 * half * step, -8 * step - 13 * half**2 * step, reach * step], axis=-1)
        rows_out.append(out)
    below = [row - [0, 2.2, 0] for row in reversed(rows_out)]
    peak = np.stack(rows_out + below)
    peak_mesh = peak.reshape(-1, 3), grid_faces(len(peak), 33, closed=False)
    dome_mesh = dome.reshape(-1, 3), grid_faces(len(dome), columns, closed=False)
    uv = np.concatenate([_grid_uv(*dome.shape[:2]), np.full((len(peak_mesh[0]), 2), [0.08, 0.98])])
    return garment("hat", "skull", joined(dome_mesh, peak_mesh), uv, texture)


def _grid_uv(rows: int, columns: int) -> Float[ndarray, "N 2"]:
    u = np.broadcast_to(np.linspace(0, 1, columns), (rows, columns))
    v = np.broadcast_to(np.linspace(0, 1, rows)[:, None], (rows, columns))
    return np.stack([u, v], -1).reshape(-1, 2)


def _dome_garment(grid: Float[ndarray, "R C 3"], texture: Tensor) -> Garment:
    mesh = grid.reshape(-1, 3), grid_faces(*grid.shape[:2], closed=False)
    return garment("hat", "skull", mesh, _grid_uv(*grid.shape[:2]), texture)
