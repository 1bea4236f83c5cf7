"""Which points of two head models are the same place of the face: shared landmarks, and the skin between them.

The source's mean face is scaled and shifted onto the target's landmarks and bent to meet them; then every sampled
vertex of the target's face takes the nearest places of the source that move alike with the jaw, which keeps the two
lips apart where they touch. No axes are turned: all head models look along +Z with +Y up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vultus.errors import VultusError
from vultus.heads.model import SkinnedHead

_SETS = ("ibug68", "mediapipe")
_IRIS = {"ibug68": 68, "mediapipe": 468}
"""Landmarks from this number on are iris centres, which say nothing about skin."""
_INSIDE = (
    "left_eyeball", "right_eyeball", "teeth", "teeth_upper", "teeth_lower", "mouth_bag", "tongue", "gums",
)  # fmt: skip
_SAMPLES = 700
_LANDMARK_WEIGHT = 3.0
_FARTHEST = 0.01
"""Metres between a place and its counterpart, after bending, above which there is no counterpart."""
_JAW_METRES = 0.04
"""Moving fully with the jaw is as far from not moving as this."""
_JAW_TEST_RADIANS = 0.15


@dataclass(frozen=True)
class SurfacePoints:
    """Points on a head: three vertices each and their weights."""

    vertices: Int[Tensor, "P 3"]
    weights: Float[Tensor, "P 3"]


@dataclass(frozen=True)
class Correspondence:
    """P places on two heads and how much each counts. A length on the source is `scale` times as long on the target;
    `source_centre` and `target_centre` (metres, rest pose) are the middle of their landmarks."""

    source: SurfacePoints
    target: SurfacePoints
    weights: Float[Tensor, "P"]
    scale: float
    source_centre: Float[Tensor, "3"]
    target_centre: Float[Tensor, "3"]


def correspond(source: SkinnedHead, target: SkinnedHead) -> Correspondence:
    """The correspondence of two head models.

    Raises:
        VultusError: they have no landmark set in common.
    """
    from scipy.interpolate import RBFInterpolator
    from scipy.spatial import KDTree

    first, second = _shared_landmarks(source, target)
    marks, wanted = (_places(head, points) for head, points in ((source, first), (target, second)))
    centre, wanted_centre = marks.mean(0), wanted.mean(0)
    spread, wanted_spread = (points - points.mean(0) for points in (marks, wanted))
    scale = float(wanted_spread.norm() / spread.norm())
    aligned = (source.template - centre) * scale + wanted_centre
    known = spread * scale + wanted_centre
    # In decimetres, where a smoothing of 0.01 lets landmarks disagree by about a millimetre.
    bend = RBFInterpolator(10 * known.numpy(), (wanted - known).numpy(), kernel="linear", smoothing=0.01)
    skin, wanted_skin = _skin(source, marks), _skin(target, wanted)
    order = torch.randperm(len(wanted_skin), generator=torch.Generator().manual_seed(0))[:_SAMPLES]
    samples = wanted_skin[order.sort().values]
    bent = aligned[skin].numpy() + bend(10 * aligned[skin].numpy())
    features, wanted_features = bent, target.template[samples].numpy()
    jaw, wanted_jaw = _follows_jaw(source), _follows_jaw(target)
    if jaw is not None and wanted_jaw is not None:
        features = np.concatenate([features, _JAW_METRES * jaw[skin, None].numpy()], 1)
        wanted_features = np.concatenate([wanted_features, _JAW_METRES * wanted_jaw[samples, None].numpy()], 1)
    distance, nearest = KDTree(features).query(wanted_features, k=3)
    kept = torch.from_numpy(distance[:, 0] < _FARTHEST)
    closeness = torch.from_numpy(1 / (distance + 1e-7) ** 2).float()[kept]
    vertices = skin[torch.from_numpy(nearest)[kept]]
    on_target = samples[kept]
    whole = torch.tensor([1.0, 0.0, 0.0]).expand(len(on_target), 3)
    return Correspondence(
        source=SurfacePoints(
            torch.cat([first.vertices, vertices]),
            torch.cat([first.weights, closeness / closeness.sum(1, keepdim=True)]),
        ),
        target=SurfacePoints(
            torch.cat([second.vertices, on_target[:, None].expand(-1, 3)]), torch.cat([second.weights, whole])
        ),
        weights=torch.cat([torch.full((len(marks),), _LANDMARK_WEIGHT), torch.ones(len(on_target))]),
        scale=scale,
        source_centre=centre,
        target_centre=wanted_centre,
    )


def _shared_landmarks(source: SkinnedHead, target: SkinnedHead) -> tuple[SurfacePoints, SurfacePoints]:
    """Landmarks that both heads have, as points of each."""
    parts: tuple[list[SurfacePoints], list[SurfacePoints]] = ([], [])
    for name in _SETS:
        if name not in source.landmark_sets or name not in target.landmark_sets:
            continue
        ids = [head.landmark_sets[name].ids for head in (source, target)]
        common = ids[0][torch.isin(ids[0], ids[1]) & (ids[0] < _IRIS[name])]
        for head, own, part in zip((source, target), ids, parts, strict=True):
            rows = torch.stack([torch.nonzero(own == number)[0, 0] for number in common])
            marks = head.landmark_sets[name]
            part.append(SurfacePoints(head.faces[marks.faces[rows]], marks.barycentric[rows].to(head.template)))
    if not parts[0]:
        raise VultusError(
            f"the head models {source.name} and {target.name} have no landmarks in common, so that nothing says which "
            "point is which; put the files with the model's landmarks beside it"
        )
    merged = [
        SurfacePoints(torch.cat([p.vertices for p in part]), torch.cat([p.weights for p in part])) for part in parts
    ]
    return merged[0], merged[1]


def _places(head: SkinnedHead, points: SurfacePoints) -> Float[Tensor, "P 3"]:
    return (head.template[points.vertices] * points.weights[..., None]).sum(1)


def _skin(head: SkinnedHead, marks: Float[Tensor, "M 3"]) -> Int[Tensor, "_"]:
    """Vertices of the face's skin: of the region `face` where there is one, near the landmarks elsewhere."""
    mask = torch.zeros(len(head.template), dtype=torch.bool)
    if "face" in head.regions:
        mask[head.regions["face"]] = True
    else:
        mask |= torch.cdist(head.template, marks).amin(1) < 0.025
    for name in _INSIDE:
        if name in head.regions:
            mask[head.regions[name]] = False
    return torch.nonzero(mask)[:, 0]


def _follows_jaw(head: SkinnedHead) -> Float[Tensor, "V"] | None:
    """How far vertices go when the jaw opens, relative to those that go farthest; None for a head without a jaw."""
    params = head.neutral()
    if "jaw" in head.joint_names:
        params.joints["jaw"][0] = _JAW_TEST_RADIANS
    elif "jawOpen" in head.expression_names:
        params.expression[head.expression_names.index("jawOpen")] = 1.0
    else:
        return None
    moved = (head.pose(params).vertices - head.template).norm(dim=-1)
    return (moved / moved.quantile(0.99).clamp_min(1e-9)).clamp(max=1)
