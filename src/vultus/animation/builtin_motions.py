"""Motions that need no driver: talking, a tour of expressions, a turn of the head. The same seed, the same motion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vultus.animation.arkit_motion import arkit_motion
from vultus.heads.arkit import ARKIT_NAMES, GAZE_PITCH_RADIANS, GAZE_YAW_RADIANS, arkit_weights
from vultus.heads.model import HeadModel
from vultus.motion import Motion

Pose = Mapping[str, float]


def pair(name: str, value: float) -> dict[str, float]:
    """Both sides of a shape."""
    return {name + "Left": value, name + "Right": value}


EXPRESSIONS: dict[str, Pose] = {
    "smile": {
        **pair("mouthSmile", 0.85), **pair("cheekSquint", 0.5), **pair("mouthUpperUp", 0.3),
        **pair("mouthLowerDown", 0.2), **pair("eyeSquint", 0.25), "jawOpen": 0.1,
    },
    "surprise": {
        "browInnerUp": 0.95, **pair("browOuterUp", 0.95), **pair("eyeWide", 1.0), "jawOpen": 0.75,
        "mouthFunnel": 0.25,
    },
    "anger": {
        **pair("browDown", 1.0), **pair("eyeSquint", 0.5), **pair("noseSneer", 0.9), **pair("mouthUpperUp", 0.45),
        **pair("mouthLowerDown", 0.55), **pair("mouthFrown", 0.4), **pair("mouthStretch", 0.3), "jawOpen": 0.1,
    },
    "wink": {
        "eyeBlinkLeft": 1.0, "cheekSquintLeft": 0.8, "mouthSmileLeft": 0.8, "mouthSmileRight": 0.35,
        "browOuterUpRight": 0.5, "eyeSquintLeft": 0.3, "mouthDimpleLeft": 0.4,
    },
    "smirk": {
        "mouthSmileRight": 0.95, "mouthRight": 0.75, "mouthUpperUpRight": 0.45, "mouthDimpleRight": 0.5,
        "browOuterUpLeft": 1.0, "browInnerUp": 0.3, "browDownRight": 0.9, "eyeSquintRight": 0.6,
        "cheekSquintRight": 0.7, "noseSneerRight": 0.4,
    },
    "laugh": {
        **pair("mouthSmile", 1.0), **pair("cheekSquint", 0.9), **pair("eyeSquint", 0.6), **pair("mouthUpperUp", 0.5),
        **pair("browOuterUp", 0.3), **pair("mouthLowerDown", 0.3), "jawOpen": 0.6,
    },
    "sad": {
        "browInnerUp": 1.0, **pair("mouthFrown", 0.95), "mouthShrugLower": 0.6, **pair("eyeSquint", 0.35),
        **pair("eyeLookDown", 0.3),
    },
    "kiss": {"mouthPucker": 0.95, "mouthFunnel": 0.2, **pair("eyeSquint", 0.2)},
    "disgust": {
        **pair("noseSneer", 0.95), **pair("browDown", 0.6), **pair("mouthUpperUp", 0.5), **pair("eyeSquint", 0.5),
        "mouthShrugUpper": 0.3,
    },
    "puff": {"cheekPuff": 1.0, **pair("mouthPress", 0.5), **pair("browOuterUp", 0.4)},
    "open": {"jawOpen": 1.0, **pair("mouthLowerDown", 0.3)},
    "tongue": {"tongueOut": 1.0, "jawOpen": 0.35, **pair("eyeSquint", 0.3)},
    "blink": pair("eyeBlink", 1.0),
    "look left": {"eyeLookOutLeft": 0.9, "eyeLookInRight": 0.9},
    "look right": {"eyeLookInLeft": 0.9, "eyeLookOutRight": 0.9},
    "look up": {**pair("eyeLookUp", 0.9), "browInnerUp": 0.3},
}  # fmt: skip
"""Strong expressions as ARKit weights."""

_VOWELS: tuple[Pose, ...] = (
    {"jawOpen": 0.55, **pair("mouthLowerDown", 0.25), **pair("mouthUpperUp", 0.12)},
    {"jawOpen": 0.34, **pair("mouthStretch", 0.25), **pair("mouthLowerDown", 0.3), **pair("mouthSmile", 0.12)},
    {"jawOpen": 0.16, **pair("mouthSmile", 0.32), **pair("mouthStretch", 0.2), **pair("mouthUpperUp", 0.15)},
    {"jawOpen": 0.38, "mouthFunnel": 0.5, "mouthPucker": 0.2},
    {"jawOpen": 0.18, "mouthPucker": 0.65, "mouthFunnel": 0.3},
)
_CONSONANTS: tuple[Pose, ...] = (
    {"jawOpen": 0.04, "mouthClose": 0.04, **pair("mouthPress", 0.45), "mouthRollLower": 0.2, "mouthRollUpper": 0.15},
    {"jawOpen": 0.1, "mouthRollLower": 0.5, **pair("mouthUpperUp", 0.2)},
    {"jawOpen": 0.2, **pair("mouthLowerDown", 0.3), **pair("mouthUpperUp", 0.1)},
    {"jawOpen": 0.07, **pair("mouthStretch", 0.25), **pair("mouthLowerDown", 0.35), **pair("mouthUpperUp", 0.2)},
    {"jawOpen": 0.14, "mouthPucker": 0.55, "mouthFunnel": 0.25},
    {"jawOpen": 0.22, **pair("mouthLowerDown", 0.15)},
)


def talking(head: HeadModel, *, seconds: float = 6.0, fps: float = 25.0, seed: int = 0) -> Motion:
    """Someone speaking to the camera: syllables that run into each other, pauses, blinks, glances, a moving head."""
    rng = np.random.default_rng(seed)
    count = max(1, round(seconds * fps))
    times = np.arange(count) / fps
    mouth, stress = _speech(rng, times)
    weights = np.zeros((count, len(ARKIT_NAMES)))
    weights += mouth
    angles = np.stack(
        [
            0.075 * _noise(rng, times, 0.55),
            0.030 * _noise(rng, times, 0.40) + 0.055 * (_blur(stress, times, 0.12) - stress.mean()),
            0.035 * _noise(rng, times, 0.65),
        ],
        axis=1,
    )
    _add(weights, pair("mouthSmile", 1.0), 0.08 + 0.06 * np.clip(_noise(rng, times, 1.0), -1, 2))
    _add(weights, {"browInnerUp": 1.0, **pair("browOuterUp", 0.6)}, np.clip(_noise(rng, times, 0.35) - 0.4, 0, 1) * 0.4)
    _add(weights, pair("browOuterUp", 1.0), 0.25 * np.clip(_blur(stress, times, 0.1) - 0.6, 0, 1))
    _add(weights, pair("browDown", 1.0), np.clip(_noise(rng, times, 0.5) - 0.9, 0, 1) * 0.3)
    _add(weights, pair("eyeSquint", 1.0), 0.05 + 0.06 * np.clip(_noise(rng, times, 0.8), 0, 2))
    _add(weights, pair("eyeBlink", 1.0), _blinks(rng, times))
    # The eyes hold the camera while the head moves, except where they glance aside.
    yaw, pitch = _glances(rng, times)
    _look(weights, yaw - 0.8 * angles[:, 0], pitch - 0.8 * angles[:, 1])
    fade = np.clip(np.minimum(times, times[-1] - times) / 0.35, 0, 1)
    fade = (fade**2 * (3 - 2 * fade))[:, None]
    return _motion(head, weights.clip(0, 1) * fade, angles * fade, times, body_share=0.15)


def expressions(
    head: HeadModel, *, names: Sequence[str] = tuple(EXPRESSIONS), seconds_each: float = 1.2, fps: float = 25.0
) -> Motion:
    """From rest into each expression, a moment there, and back."""
    each = max(4, round(seconds_each * fps))
    phase = (np.arange(each) + 0.5) / each
    rise = np.clip(np.minimum(phase, 1 - phase) / 0.3, 0, 1)
    envelope = rise**2 * (3 - 2 * rise)
    weights = np.concatenate([envelope[:, None] * _row(EXPRESSIONS[name]) for name in names])
    times = np.arange(len(weights)) / fps
    rng = np.random.default_rng(0)
    angles = 0.02 * np.stack([_noise(rng, times, 0.6) for _ in range(3)], axis=1)
    return _motion(head, weights, angles, times)


def turn(head: HeadModel, *, degrees: float = 45.0, seconds: float = 6.0, fps: float = 25.0) -> Motion:
    """The head turns to its left, to its right and back, with a nod on the way; the eyes lead and blink once."""
    count = max(2, round(seconds * fps))
    times = np.arange(count) / fps
    phase = times / times[-1] * 2 * math.pi
    # Slower near the extremes, so that profiles can be looked at.
    swing = np.sin(phase - 0.35 * np.sin(2 * phase) * 0.5)
    yaw = math.radians(degrees) * swing
    pitch = math.radians(8) * np.sin(2 * phase) * np.cos(phase / 2) ** 2
    weights = np.zeros((count, len(ARKIT_NAMES)))
    _look(weights, 0.25 * np.gradient(yaw, times), np.zeros(count))
    _add(weights, pair("eyeBlink", 1.0), np.sum([_blink(times, seconds * t) for t in (0.22, 0.5, 0.78)], axis=0))
    _add(weights, pair("mouthSmile", 1.0), 0.1 * np.sin(phase / 2))
    angles = np.stack([yaw, pitch, 0.08 * yaw], axis=1)
    return _motion(head, weights.clip(0, 1), angles, times, body_share=0.3)


def _motion(
    head: HeadModel, weights: np.ndarray, angles: np.ndarray, times: np.ndarray, body_share: float = 0.0
) -> Motion:
    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).float()

    return arkit_motion(head, tensor(weights), tensor(times), head_angles=tensor(angles), body_share=body_share)


def _row(pose: Pose) -> Float[np.ndarray, "52"]:
    return arkit_weights(dict(pose)).numpy().astype(np.float64)


def _add(weights: np.ndarray, pose: Pose, amount: np.ndarray) -> None:
    weights += amount[:, None] * _row(pose)


def _speech(rng: np.random.Generator, times: np.ndarray) -> tuple[Float[np.ndarray, "T 52"], Float[np.ndarray, "T"]]:
    """Mouth weights, and how stressed each instant is (0 in pauses)."""
    targets = np.zeros((len(times), len(ARKIT_NAMES)))
    stress = np.zeros(len(times))
    vowels, consonants = [_row(pose) for pose in _VOWELS], [_row(pose) for pose in _CONSONANTS]
    time = 0.25
    while time < times[-1]:
        for _ in range(int(rng.integers(5, 11))):
            strength = rng.uniform(0.55, 1.15)
            onset, nucleus = rng.uniform(0.06, 0.1), rng.uniform(0.09, 0.17)
            parts = ((consonants[rng.integers(len(consonants))], onset), (vowels[rng.integers(len(vowels))], nucleus))
            for pose, duration in parts:
                rows = (times >= time) & (times < time + duration)
                targets[rows] = pose * strength
                stress[rows] = strength
                time += duration
        time += rng.uniform(0.25, 0.6)
    # Lips and jaw are slow: every sound is coloured by its neighbours, the jaw most of all.
    lips, jaw = _blur(targets, times, 0.045), _blur(targets, times, 0.06)
    column = ARKIT_NAMES.index("jawOpen")
    lips[:, column] = jaw[:, column]
    return lips, stress


def _blinks(rng: np.random.Generator, times: np.ndarray) -> Float[np.ndarray, "T"]:
    closed = np.zeros(len(times))
    time = rng.uniform(0.7, 1.4)
    while time < times[-1] - 0.4:
        closed = np.maximum(closed, _blink(times, time))
        time += 0.35 if rng.uniform() < 0.12 else rng.uniform(1.6, 4.2)
    return closed


def _blink(times: np.ndarray, start: float) -> Float[np.ndarray, "T"]:
    """Shut within 80 ms, shut for 40 ms, open again within 180 ms."""
    return np.interp(times, start + np.array([0, 0.08, 0.12, 0.2, 0.3]), [0, 1, 1, 0.35, 0])


def _glances(rng: np.random.Generator, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Yaw (to the subject's left) and pitch (down) of the eyes, radians: jumps, then stillness."""
    yaw, pitch = np.zeros(len(times)), np.zeros(len(times))
    time = rng.uniform(0.8, 1.5)
    while time < times[-1]:
        away = rng.uniform() < 0.45
        rows = times >= time
        yaw[rows] = rng.uniform(-0.28, 0.28) if away else rng.uniform(-0.03, 0.03)
        pitch[rows] = rng.uniform(-0.08, 0.16) if away else rng.uniform(-0.02, 0.02)
        time += rng.uniform(0.35, 0.9) if away else rng.uniform(0.8, 2.2)
    return _blur(yaw, times, 0.02), _blur(pitch, times, 0.02)


def _look(weights: np.ndarray, yaw: np.ndarray, pitch: np.ndarray) -> None:
    """Add a gaze, radians to the subject's left and downwards."""
    side, height = yaw / GAZE_YAW_RADIANS, pitch / GAZE_PITCH_RADIANS
    _add(weights, {"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0}, np.clip(side, 0, 1))
    _add(weights, {"eyeLookInLeft": 1.0, "eyeLookOutRight": 1.0}, np.clip(-side, 0, 1))
    _add(weights, pair("eyeLookDown", 1.0), np.clip(height, 0, 1))
    _add(weights, pair("eyeLookUp", 1.0), np.clip(-height, 0, 1))


def _noise(rng: np.random.Generator, times: np.ndarray, period: float) -> Float[np.ndarray, "T"]:
    """Smooth noise of unit variance, drawn on a grid of its own so that it does not depend on the frame rate."""
    step = 0.02
    grid = np.arange(0, times[-1] + 8 * period + step, step)
    raw = _blur(rng.standard_normal(len(grid)), grid, period / 2)
    start = round(4 * period / step)
    inside = raw[start : len(grid) - start + 1]
    return np.interp(times, np.arange(len(inside)) * step, inside / max(float(raw.std()), 1e-9))


def _blur(values: np.ndarray, times: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian smoothing over equally spaced times."""
    from scipy.ndimage import gaussian_filter1d

    step = float(times[1] - times[0]) if len(times) > 1 else 1.0
    return gaussian_filter1d(values, sigma / step, axis=0, mode="nearest")
