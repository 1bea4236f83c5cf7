"""The colours a new avatar starts with: from the picture where it shows the surface, plausible everywhere else.

What one picture does not show is filled from the other half of the face, then from the head model's own colours,
recoloured to this person: skin by the skin that was seen, hair by the hair, and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.avatars.rigged.grazing import grazing
from vultus.avatars.rigged.parts import Parts
from vultus.cameras import Camera
from vultus.splats import Gaussians, RasterSettings, rasterize
from vultus.splats.reference import covariance, projection_jacobian

_SEEN_SHARE = 0.3
"""Share of its own footprint that a Gaussian in the midst of equally opaque neighbours contributes to an image."""
_ENOUGH = 24
"""So many seen Gaussians are needed to measure the colour of a part."""
_NEIGHBOURS = 24
_SPREAD = 512
_STRANDS = 1.5
_REACH = {"skin": (0.02, 1.0), "hair": (0.06, 1.0), "neck": (0.1, 0.3)}
"""Parts whose seen colours are continued: how far (metres), and the weight of sideways distance. A neck, like a
collar, is much the same all around."""


@dataclass(frozen=True)
class Seen:
    """What a picture says about every Gaussian: the colour there, and how much of the Gaussian it shows (0 to 1)."""

    color: Float[Tensor, "N 3"]
    share: Float[Tensor, "N"]


def backproject(
    gaussians: Gaussians,
    camera: Camera,
    image: Float[Tensor, "H W 3"],
    mask: Float[Tensor, "H W 1"],
    settings: RasterSettings,
) -> Seen:
    """Bring an image back onto Gaussians: the mean colour of the pixels each contributes to, weighted by how much.

    A rendered pixel is a weighted sum of splat colours, so the derivative of `Σ image · rendering` by a splat's
    colour is exactly that weighted sum over pixels, occlusion included.
    """
    features = torch.zeros(gaussians.count, 4, requires_grad=True)
    with torch.no_grad():
        plain = replace(gaussians, sh=None, sh_degree=None, features=features)
    with torch.enable_grad():
        rendering = rasterize(plain, camera, None, settings, depth=False)
        (gathered,) = torch.autograd.grad(rendering.color, features, torch.cat([image * mask, mask], dim=-1))
    weight = gathered[:, 3]
    footprint = gaussians.opacities * _footprint(gaussians, camera)
    share = torch.where(footprint > 0, weight / (_SEEN_SHARE * footprint).clamp_min(1e-3), 0.0).clamp(0, 1)
    return Seen(gathered[:, :3] / weight[:, None].clamp_min(1e-6), torch.where(weight > 0.05, share, 0.0))


def _footprint(gaussians: Gaussians, camera: Camera) -> Float[Tensor, "N"]:
    """Integral over pixels of the projected, blurred Gaussians; 0 behind the camera."""
    points = camera.to_camera(gaussians.means)
    ahead = points[:, 2] > 1e-3
    points = torch.where(ahead[:, None], points, points.new_tensor([0.0, 0.0, 1.0]))
    jacobian = projection_jacobian(points, camera.K, camera.width, camera.height) @ camera.world_to_camera[:3, :3]
    projected = jacobian @ covariance(gaussians.rotations, gaussians.scales) @ jacobian.transpose(-1, -2)
    projected = projected + 0.3 * torch.eye(2)
    area = 2 * torch.pi * torch.linalg.det(projected).clamp_min(0).sqrt()
    return torch.where(ahead, area, 0.0)


def merge(observations: list[Seen]) -> Seen:
    """One observation from several views: colours weighted by how well each view shows the Gaussian."""
    weights = torch.stack([seen.share for seen in observations]) ** 2
    colors = torch.stack([seen.color for seen in observations])
    color = (weights[..., None] * colors).sum(0) / weights.sum(0).clamp_min(1e-6)[:, None]
    return Seen(color, torch.stack([seen.share for seen in observations]).amax(0))


def mirror_of(places: Float[Tensor, "N 3"], tolerance: float = 0.004) -> Int[Tensor, "N"]:
    """For each point of a nearly symmetric rest surface the index of its mirror image in x; −1 without one nearby."""
    from scipy.spatial import KDTree

    points = places.detach().cpu().double().numpy()
    distance, index = KDTree(points).query(points * np.array([-1.0, 1.0, 1.0]))
    return torch.from_numpy(np.where(distance < tolerance, index, -1))


def paint(
    seen: Seen,
    facing: Float[Tensor, "N"],
    places: Float[Tensor, "N 3"],
    prior: Float[Tensor, "N 3"],
    parts: Parts,
    doubtful: Float[Tensor, "N"],
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N"]]:
    """Colours of all Gaussians and how far each is known from the pictures themselves (0 to 1).

    Args:
        facing: cosine between surface normal and direction to the camera, of the best view.
        places: where they sit on the mean head, metres.
        prior: the head model's own colours.
        doubtful: how much less the pictures are believed (0 to 1), where they show a surface crumpled.
    """
    # Grazing surface near the outline shows the background as much as the skin.
    trust = seen.share * (1 - grazing(facing)) * (1 - doubtful)
    trust = trust * trust * (3 - 2 * trust)
    mirror = mirror_of(places)
    other = mirror.clamp_min(0)
    mirrored = torch.where(mirror >= 0, trust[other], 0.0) * (1 - parts.weights["eyes"])
    likely = recolored(prior, seen.color, trust, parts.weights)
    for name, reach in _REACH.items():
        likely = _continued(likely, name, reach, seen.color, trust, places, parts, doubtful)
    mirrored = mirrored[:, None]
    unseen = mirrored * seen.color[other] + (1 - mirrored) * likely
    return (trust[:, None] * seen.color + (1 - trust[:, None]) * unseen).clamp(0, 1), trust


def recolored(
    prior: Float[Tensor, "N 3"],
    observed: Float[Tensor, "N 3"],
    trust: Float[Tensor, "N"],
    weights: Mapping[str, Float[Tensor, "N"]],
) -> Float[Tensor, "N 3"]:
    """The prior colours with each part's median moved to what was seen of it, by a gain per channel.

    A part of which too little was seen takes the skin's gain, or only its brightness where it has a colour of its own
    (eyes, teeth), so that it is lit like the rest.
    """
    gains: dict[str, Tensor] = {}
    for name in ("skin", "hair", "lips"):
        chosen = (weights[name] > 0.6) & (trust > 0.6)
        if int(chosen.sum()) >= _ENOUGH:
            gains[name] = (observed[chosen].median(0).values + 0.01) / (prior[chosen].median(0).values + 0.01)
    skin = gains.get("skin", torch.ones(3))
    brightness = skin.mean().clamp(0.7, 1.15).expand(3)
    result, total = torch.zeros_like(prior), torch.zeros_like(trust)
    for name, weight in weights.items():
        gain = gains.get(name, brightness if name in ("eyes", "teeth") else skin)
        result = result + weight[:, None] * prior * gain.clamp(0.1, 6.0)
        total = total + weight
    return (result / total.clamp_min(1e-6)[:, None]).clamp(0, 1)


def _blended(
    nearest: Float[Tensor, "T 3"],
    distance: Float[Tensor, "T 1"],
    target: Float[Tensor, "T 3"],
    source: Float[Tensor, "S 3"],
    colors: Float[Tensor, "S 3"],
) -> Float[Tensor, "T 3"]:
    """The nearest seen colours close by; farther away a mean over ever more of them, so that no borders show."""
    step = -(-len(source) // _SPREAD)
    chosen, shades = source[::step], colors[::step]
    width = 0.5 * distance + 0.004
    share = torch.softmax(-torch.cdist(target, chosen).square() / (2 * width.square()), dim=-1)
    far = ((distance - 0.01) / 0.02).clamp(0, 1)
    return (1 - far) * nearest + far * (share @ shades)


def _continued(
    likely: Float[Tensor, "N 3"],
    name: str,
    reach: tuple[float, float],
    observed: Float[Tensor, "N 3"],
    trust: Float[Tensor, "N"],
    places: Float[Tensor, "N 3"],
    parts: Parts,
    doubtful: Float[Tensor, "N"],
) -> Float[Tensor, "N 3"]:
    """Continue the colours that were seen of one part into its unseen neighbourhood, so that no edge shows.

    Hair also takes over its texture: the strands seen in front are laid, mirrored, on the back of the head.
    """
    from scipy.spatial import KDTree

    weight = parts.weights[name]
    source = ((weight > 0.5) & (trust > 0.6)).nonzero()[:, 0]
    target = ((weight > 0.01) & (trust < 0.99)).nonzero()[:, 0]
    if source.numel() < _ENOUGH or target.numel() == 0:
        return likely
    falloff, sideways = reach
    metric = torch.tensor([sideways, 1.0, sideways])
    tree = KDTree((places[source] * metric).numpy())

    def smooth(points: Tensor) -> tuple[Tensor, Tensor]:
        distance, index = tree.query((points * metric).numpy(), k=_NEIGHBOURS)
        distance = torch.from_numpy(distance).float()
        nearest = distance[:, :1]
        width = 0.5 * nearest + 0.004
        share = torch.exp(-(distance.square() - nearest.square()) / (2 * width.square()))
        colors = observed[source[torch.from_numpy(index)]]
        return (share[..., None] * colors).sum(1) / share.sum(1, keepdim=True), nearest

    color, distance = smooth(places[target])
    color = _blended(color, distance, places[target] * metric, places[source] * metric, observed[source])
    # A closed lid is as light as the cheek, not as the shade around the open eye.
    near = torch.exp(-((distance / falloff) ** 2)) * (1 - doubtful[target, None])
    value = near * color + (1 - near) * likely[target]
    if name == "hair":
        center = places[weight > 0.5, 2].mean()
        reflected = places[target].clone()
        reflected[:, 2] = 2 * center - reflected[:, 2]
        # Squeezed to the heights at which hair was seen; elsewhere one seen edge would be repeated over and over.
        low, high = places[source, 1].quantile(torch.tensor([0.05, 0.95]))
        bottom, top = places[target, 1].aminmax()
        reflected[:, 1] = low + (reflected[:, 1] - bottom) / (top - bottom).clamp_min(1e-6) * (high - low)
        _, donor = tree.query((reflected * metric).numpy())
        donor = source[torch.from_numpy(donor)]
        texture = (observed[donor].mean(-1) + 0.02) / (smooth(places[donor])[0].mean(-1) + 0.02)
        value = value * (texture**_STRANDS).clamp(0.6, 1.6)[:, None]
    share = weight[target][:, None]
    result = likely.clone()
    result[target] = share * value.clamp(0, 1) + (1 - share) * likely[target]
    return result
