"""Hair as splats: posed with the head, lit by the lamps, hidden by the meshes in front of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.cameras import Camera
from vultus.captures.studio.lighting import Lighting, ambient_at
from vultus.captures.studio.painting import GAMMA, linear
from vultus.captures.studio.people import Person
from vultus.captures.studio.strands import Strands
from vultus.splats import Gaussians, RasterSettings, rasterize

KINDS = ("hair", "beard", "brows", "lashes")
_OPACITY = {"hair": 0.92, "beard": 0.85, "brows": 0.7, "lashes": 0.8}
_SETTINGS = RasterSettings(antialiased=True)
_BEHIND = 0.0012
"""Metres that a splat may lie behind the surface that its middle projects on."""


@dataclass(frozen=True)
class Fibres:
    """All strands of a person as points and the pieces between them; rest pose, metres.

    start, end: numbers of points that a piece joins. root_face, root_weights: of every point's strand; on_skin: whether
    it moves with that face; kind: number in KINDS per piece.
    """

    points: Float[Tensor, "P 3"]
    outward: Float[Tensor, "P 3"]
    root_face: Int[Tensor, "P"]
    root_weights: Float[Tensor, "P 3"]
    on_skin: Tensor
    start: Int[Tensor, "M"]
    end: Int[Tensor, "M"]
    kind: Int[Tensor, "M"]
    color: Float[Tensor, "M 3"]
    shade: Float[Tensor, "M"]
    width: Float[Tensor, "M"]
    opacity: Float[Tensor, "M"]


def as_fibres(strands: list[Strands], person: Person, normals: Float[Tensor, "V 3"], faces: Tensor) -> Fibres | None:
    """Strands of one person as pieces to be drawn; None for none."""
    if not strands:
        return None
    parts: dict[str, list[Tensor]] = {name: [] for name in Fibres.__dataclass_fields__}
    offset = 0
    for group in strands:
        s, k = group.points.shape[:2]
        points = torch.from_numpy(group.points).float() / 1000
        face, weights = torch.from_numpy(group.faces), torch.from_numpy(group.weights).float()
        normal = (normals[faces[face]] * weights[..., None]).sum(1)
        number = torch.arange(s * k).reshape(s, k) + offset
        base = linear(person.hair.color if group.kind == "hair" else person.hair.beard_color)
        if group.kind in ("brows", "lashes"):
            base = linear(person.hair.brow_color) if group.kind == "brows" else linear((0.06, 0.045, 0.04))
        tone = torch.from_numpy(group.tone).float()
        shade = torch.from_numpy(group.shade.copy()).float()
        share = torch.linspace(0, 1, k - 1)
        taper = 1 - 0.55 * share**2
        parts["points"].append(points.reshape(-1, 3))
        parts["outward"].append(normal[:, None].expand(s, k, 3).reshape(-1, 3))
        parts["root_face"].append(face[:, None].expand(s, k).reshape(-1))
        parts["root_weights"].append(weights[:, None].expand(s, k, 3).reshape(-1, 3))
        parts["on_skin"].append(torch.full((s * k,), group.on_skin))
        parts["start"].append(number[:, :-1].reshape(-1))
        parts["end"].append(number[:, 1:].reshape(-1))
        parts["kind"].append(torch.full((s * (k - 1),), KINDS.index(group.kind)))
        # Tips are bleached by the sun.
        tint = base * tone[:, None, None] * (0.92 + 0.22 * share)[None, :, None]
        parts["color"].append(tint.reshape(-1, 3))
        parts["shade"].append(((shade[:, :-1] + shade[:, 1:]) / 2).reshape(-1))
        parts["width"].append((group.width / 1000 * taper).expand(s, k - 1).reshape(-1))
        parts["opacity"].append((_OPACITY[group.kind] * (1 - 0.3 * share**3)).expand(s, k - 1).reshape(-1))
        offset += s * k
    return _without_stumps(Fibres(**{name: torch.cat(values) for name, values in parts.items()}))


def _without_stumps(fibres: Fibres) -> Fibres:
    """Without pieces of no length (strands that end early)."""
    from dataclasses import replace

    length = (fibres.points[fibres.end] - fibres.points[fibres.start]).norm(dim=-1)
    keep = length > 1e-5
    names = ("start", "end", "kind", "color", "shade", "width", "opacity")
    return replace(fibres, **{name: getattr(fibres, name)[keep] for name in names})


def skin_frames(vertices: Float[Tensor, "V 3"], corners: Int[Tensor, "F 3"]) -> Float[Tensor, "F 3 3"]:
    """An orthonormal frame on each triangle, as columns."""
    a, b, c = vertices[corners].unbind(1)
    first = torch.nn.functional.normalize(b - a, dim=-1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(first, c - a), dim=-1)
    return torch.stack([first, torch.linalg.cross(normal, first), normal], dim=-1)


@dataclass(frozen=True)
class PosedFibres:
    """Splats of one pose, and what their colours are made of."""

    fibres: Fibres
    means: Float[Tensor, "M 3"]
    tangents: Float[Tensor, "M 3"]
    rotations: Float[Tensor, "M 4"]
    scales: Float[Tensor, "M 3"]
    diffuse: Float[Tensor, "M 3"]
    lamps: Float[Tensor, "L 3"]
    lamp_colors: Float[Tensor, "L 3"]
    gloss: float


def pose_fibres(
    fibres: Fibres,
    rest: Float[Tensor, "V 3"],
    posed: Float[Tensor, "V 3"],
    faces: Int[Tensor, "F 3"],
    skull: tuple[Float[Tensor, "3 3"], Float[Tensor, "3"], float],
    lighting: Lighting,
    lamps: Float[Tensor, "L 3"],
    turn: Float[Tensor, "3 3"],
) -> PosedFibres:
    """Strands carried along with a pose, and lit. `skull`: rotation, shift and scale of the skull."""
    rotation, shift, scale = skull
    points = scale * fibres.points @ rotation.T + shift
    outward = fibres.outward @ rotation.T
    own = fibres.on_skin.nonzero()[:, 0]
    if len(own):
        unique, back = fibres.root_face[own].unique(return_inverse=True)
        corners = faces[unique]
        bend = skin_frames(posed, corners) @ skin_frames(rest, corners).transpose(-1, -2)
        weights = fibres.root_weights[own][..., None]
        root_rest = (rest[corners][back] * weights).sum(1)
        root_posed = (posed[corners][back] * weights).sum(1)
        local = (fibres.points[own] - root_rest) * scale
        points[own] = root_posed + (bend[back] @ local[..., None])[..., 0]
        outward[own] = (bend[back] @ fibres.outward[own][..., None])[..., 0]
    first, last = points[fibres.start], points[fibres.end]
    along = last - first
    length = along.norm(dim=-1)
    tangent = along / length[:, None]
    normal = outward[fibres.start]
    diffuse = _diffuse(fibres, tangent, normal, lighting, lamps, turn)
    # Pieces overlap, so that a strand has no gaps.
    scales = torch.stack([length * 0.42, fibres.width * scale, fibres.width * scale], dim=-1)
    return PosedFibres(
        fibres, (first + last) / 2, tangent, _towards(tangent), scales, diffuse, lamps, lighting.colors, lighting.gloss
    )


def _towards(tangent: Float[Tensor, "M 3"]) -> Float[Tensor, "M 4"]:
    """Quaternions (wxyz) that turn +x to each unit vector the short way."""
    x, y, z = tangent.unbind(-1)
    w = 1 + x
    # Opposite to +x: half a turn about y.
    flip = w < 1e-5
    quaternion = torch.stack([torch.where(flip, 0.0, w), torch.zeros_like(x), torch.where(flip, 1.0, -z), y], dim=-1)
    return torch.nn.functional.normalize(quaternion, dim=-1)


def _diffuse(
    fibres: Fibres, tangent: Tensor, normal: Tensor, lighting: Lighting, lamps: Tensor, turn: Tensor
) -> Float[Tensor, "M 3"]:
    """Light scattered by hair (after Kajiya and Kay 1989), mixed with that of the surface the hair forms."""
    light = ambient_at(normal @ turn, lighting.ambient) * (0.25 + 0.75 * fibres.shade[:, None])
    for lamp, color in zip(lamps, lighting.colors, strict=True):
        across = (1 - (tangent @ lamp) ** 2).clamp_min(0).sqrt()
        facing = ((normal @ lamp + 0.35) / 1.35).clamp(0, 1)
        light = light + (color * ((0.25 + 0.75 * across) * facing * fibres.shade)[:, None])
    return fibres.color * light * 1.35


def draw_fibres(
    posed: PosedFibres, camera: Camera, depth: Float[Tensor, "H W"]
) -> tuple[Float[Tensor, "H W 3"], Float[Tensor, "H W 1"], Float[Tensor, "H W 2"]]:
    """Hair over nothing: premultiplied sRGB, coverage, and how much of it is beard and brow. `depth` of the meshes
    (metres, 0: none) hides what is behind them."""
    means = posed.means
    places, z = camera.project(means), camera.to_camera(means)[:, 2]
    column, row = places.floor().long().unbind(-1)
    inside = (z > 0.05) & (column > -8) & (column < camera.width + 8) & (row > -8) & (row < camera.height + 8)
    shown = depth[row.clamp(0, camera.height - 1), column.clamp(0, camera.width - 1)]
    keep = (inside & ((shown == 0) | (z < shown + _BEHIND))).nonzero()[:, 0]
    fibres = posed.fibres
    view = torch.nn.functional.normalize(camera.center - means[keep], dim=-1)
    light = posed.diffuse[keep] + _shine(posed, keep, view)
    light = torch.where(light > 0.7, 0.7 + 0.3 * torch.tanh((light - 0.7) / 0.3), light)
    kind = fibres.kind[keep]
    features = torch.cat(
        [light.clamp(0, 1) ** (1 / GAMMA), (kind == 1).float()[:, None], (kind >= 2).float()[:, None]], dim=-1
    )
    gaussians = Gaussians(
        means[keep], posed.rotations[keep], posed.scales[keep], fibres.opacity[keep], features=features
    )
    raster = rasterize(gaussians, camera, settings=_SETTINGS, depth=False)
    return raster.color[..., :3], raster.alpha, raster.color[..., 3:]


def _shine(posed: PosedFibres, keep: Tensor, view: Float[Tensor, "K 3"]) -> Float[Tensor, "K 3"]:
    """Two highlights along the strands: one white, one of the hair's colour, shifted towards the tip."""
    tangent, shade, color = posed.tangents[keep], posed.fibres.shade[keep], posed.fibres.color[keep]
    total = torch.zeros_like(view)
    for lamp, lamp_color in zip(posed.lamps, posed.lamp_colors, strict=True):
        half = torch.nn.functional.normalize(view + lamp, dim=-1)
        dot = (tangent * half).sum(-1)
        white = (1 - (dot + 0.10) ** 2).clamp_min(0) ** 40
        warm = (1 - (dot - 0.12) ** 2).clamp_min(0) ** 10
        facing = ((view @ lamp) * 0.5 + 0.6).clamp(0, 1) * shade**2
        gleam = (0.07 * white * facing)[:, None] + (0.75 * warm * facing)[:, None] * color
        total = total + gleam * lamp_color
    return total * posed.gloss
