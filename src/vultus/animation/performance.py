"""A performance for a capture: strong expressions run into each other, extremes first, with gaze, blinks and turns."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float

from vultus.animation.arkit_motion import arkit_motion
from vultus.animation.builtin_motions import EXPRESSIONS, Pose, pair
from vultus.heads.arkit import GAZE_PITCH_RADIANS, GAZE_YAW_RADIANS, arkit_weights
from vultus.heads.model import HeadModel
from vultus.motion import Motion

_EXTREMES = ("wink", "kiss", "puff", "tongue", "open", "smile", "surprise", "anger", "blink", "laugh")
_MOUTHS: tuple[Pose, ...] = (
    {"jawOpen": 0.5, **pair("mouthLowerDown", 0.25)},
    {"jawOpen": 0.2, **pair("mouthStretch", 0.4), **pair("mouthUpperUp", 0.2)},
    {"jawOpen": 0.25, "mouthFunnel": 0.5},
    {**pair("mouthPress", 0.5), "mouthRollLower": 0.3},
    {"jawLeft": 0.5, "mouthLeft": 0.4},
    {"jawRight": 0.5, "mouthRight": 0.4},
)
_SECONDS_EACH = 0.24
_LIDS = pair("eyeBlink", 0.17) | pair("eyeSquint", 0.08)
"""Eyes at rest: open, but not stared open."""


def performance(head: HeadModel, count: int, *, fps: float = 25.0, seed: int = 0, turn_degrees: float = 25.0) -> Motion:
    """`count` instants of someone going through expressions: every extreme once (wink, pucker, puffed cheeks, tongue,
    ...) as far as there is time, then random mixtures; eyes wander and blink, the head sways within about
    `turn_degrees` and, where there is time, turns twice as far once. The same seed, the same performance; on the mean
    person.
    """
    rng = np.random.default_rng([seed, 0xAC7])
    times = np.arange(count) / fps
    poses = _poses(rng, max(2, math.ceil(count / (fps * _SECONDS_EACH)) + 1))
    at = np.linspace(0, max(times[-1], 1e-6), len(poses))
    weights = _interpolated(times, at, poses)
    weights += arkit_weights(_LIDS).numpy()
    angles = np.radians(turn_degrees) * np.stack(
        [0.55 * _wander(rng, times, 0.9), 0.25 * _wander(rng, times, 0.8), 0.16 * _wander(rng, times, 0.9)], axis=1
    )
    if count >= 30:
        middle, side = rng.uniform(0.3, 0.6) * times[-1], rng.choice([-1, 1])
        share = np.exp(-(((times - middle) / max(0.22, 0.06 * times[-1])) ** 2))[:, None]
        profile = np.radians([2.0 * turn_degrees * side, 2.0, 3.0 * side])
        angles = angles * (1 - share) + profile * share
    gaze = np.stack([0.16 * _wander(rng, times, 0.5), 0.09 * _wander(rng, times, 0.5)], axis=1)
    gaze = np.clip(gaze - 0.35 * angles[:, :2], -0.45, 0.45)
    _look(weights, gaze)
    _blink(weights, rng, times)
    return arkit_motion(
        head,
        torch.from_numpy(weights.clip(0, 1)).float(),
        torch.from_numpy(times).double(),
        head_angles=torch.from_numpy(angles).float(),
        body_share=0.35,
    )


def moments(head: HeadModel, count: int, *, seed: int = 0, turn_degrees: float = 40.0) -> Motion:
    """`count` unrelated instants, one a second: expressions of every strength, mouths that speak, any gaze, heads
    turned up to about twice `turn_degrees`. For pictures that are to have nothing to do with each other."""
    rng = np.random.default_rng([seed, 0x3033])
    names = list(EXPRESSIONS)
    rows = []
    for _ in range(count):
        row = arkit_weights(_LIDS).numpy().astype(float) * rng.uniform(0, 1.6)
        kind = rng.random()
        if kind > 0.2:
            row = row + rng.uniform(0.15, 1.0) * _row(EXPRESSIONS[names[rng.integers(len(names))]])
        if kind > 0.5:
            row = row + rng.uniform(0.2, 1.0) * _row(_MOUTHS[rng.integers(len(_MOUTHS))])
        rows.append(row)
    weights = np.stack(rows)
    angles = np.radians(turn_degrees) * rng.standard_normal((count, 3)).clip(-2, 2) * [0.75, 0.32, 0.2]
    gaze = (rng.standard_normal((count, 2)) * [0.16, 0.08] - 0.3 * angles[:, :2]).clip(-0.45, 0.45)
    _look(weights, gaze)
    return arkit_motion(
        head,
        torch.from_numpy(weights.clip(0, 1)).float(),
        torch.arange(count).double(),
        head_angles=torch.from_numpy(angles).float(),
        body_share=0.45,
    )


def _poses(rng: np.random.Generator, count: int) -> Float[np.ndarray, "N 52"]:
    """Rest, the extremes in random order, then mixtures of an expression and a mouth shape."""
    extremes = [_row(EXPRESSIONS[name]) * rng.uniform(0.85, 1.0) for name in rng.permutation(_EXTREMES)]
    names = list(EXPRESSIONS)
    poses = [np.zeros(52), *extremes]
    while len(poses) < count:
        mixture = rng.uniform(0.2, 0.9) * _row(EXPRESSIONS[names[rng.integers(len(names))]])
        mixture = mixture + rng.uniform(0.0, 0.7) * _row(_MOUTHS[rng.integers(len(_MOUTHS))])
        poses.append(mixture.clip(0, 1))
    return np.stack(poses[:count])


def _row(pose: Pose) -> Float[np.ndarray, "52"]:
    return arkit_weights(dict(pose)).numpy().astype(np.float64)


def _interpolated(times: np.ndarray, at: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Poses held for a moment and left smoothly."""
    place = np.interp(times, at, np.arange(len(at)))
    low = np.minimum(place.astype(int), len(at) - 2)
    t = np.clip((place - low - 0.15) / 0.7, 0, 1)
    t = (t * t * (3 - 2 * t))[:, None]
    return poses[low] * (1 - t) + poses[low + 1] * t


def _wander(rng: np.random.Generator, times: np.ndarray, period: float) -> Float[np.ndarray, "T"]:
    """A smooth random path of about unit size: three sines."""
    speeds = 2 * np.pi / (period * np.array([1.0, 1.7, 3.1]) * rng.uniform(0.8, 1.25, 3))
    phases = rng.uniform(0, 2 * np.pi, 3)
    return (np.sin(times[:, None] * speeds + phases) * [0.7, 0.9, 0.9]).sum(1)


def _look(weights: np.ndarray, gaze: Float[np.ndarray, "T 2"]) -> None:
    """Add a gaze: radians to the subject's left, and downwards."""
    side, height = gaze[:, 0] / GAZE_YAW_RADIANS, gaze[:, 1] / GAZE_PITCH_RADIANS
    for amount, pose in (
        (side, {"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0}),
        (-side, {"eyeLookInLeft": 1.0, "eyeLookOutRight": 1.0}),
        (height, pair("eyeLookDown", 1.0)),
        (-height, pair("eyeLookUp", 1.0)),
    ):
        weights += np.clip(amount, 0, 1)[:, None] * _row(pose)


def _blink(weights: np.ndarray, rng: np.random.Generator, times: np.ndarray) -> None:
    time = rng.uniform(0.3, 1.0)
    closed = _row(pair("eyeBlink", 1.0))
    while time < times[-1]:
        share = np.interp(times, time + np.array([0, 0.08, 0.12, 0.2, 0.28]), [0, 1, 1, 0.35, 0])[:, None]
        np.maximum(weights, share * closed, out=weights)
        time += rng.uniform(1.2, 3.2)
