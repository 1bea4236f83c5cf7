"""What a real capture gets wrong, put into a synthetic one: an unknown shape, mistaken tracking, a noisy sensor."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vultus.heads.model import HeadModel
from vultus.motion import Motion
from vultus.rotations import axis_angle_to_matrix, matrix_to_axis_angle

_BUMPS = 60


def static_offset(head: HeadModel, seed: int, *, metres: float = 0.0015) -> Float[Tensor, "V 3"]:
    """A smooth displacement of the rest pose that no component of the model explains: bumps and dents 2 to 6 cm wide,
    largest about `metres`, along the surface's normals; none on eyes, teeth and tongue."""
    from vultus.captures.studio.surface import EAR, SKIN, anatomy_of
    from vultus.meshes import vertex_normals

    rng = np.random.default_rng([seed, 0x0FF5E7])
    template = head.template
    part = anatomy_of(head).part
    skin = (part == SKIN) | (part == EAR)
    centres = template[skin][torch.from_numpy(rng.integers(int(skin.sum()), size=_BUMPS))]
    widths = torch.from_numpy(rng.uniform(0.012, 0.032, _BUMPS)).float()
    heights = torch.from_numpy(rng.standard_normal(_BUMPS)).float()
    field = (torch.exp(-0.5 * (torch.cdist(template, centres) / widths) ** 2) * heights).sum(1)
    # Lids, lips and what lies behind them stay together: the face's openings are left out smoothly.
    openings = template[~skin & (template[:, 2] > 0.04)]
    if len(openings):
        clear = torch.cdist(template, openings[:: max(1, len(openings) // 800)]).amin(1)
        field = field * ((clear - 0.004) / 0.014).clamp(0, 1)
    field = field * skin
    return vertex_normals(template, head.faces) * (field * (metres / field.abs().amax().clamp_min(1e-9)))[:, None]


def mistracked(
    motion: Motion, head: HeadModel, seed: int, *, radians: float = math.radians(0.5), metres: float = 0.001
) -> Motion:
    """The motion as a tracker might have found it: the head turned by about `radians` and moved by about `metres`
    (root mean square of the whole rotation vector and of the displacement), half of the variance the same at all
    times, half changing from instant to instant. The offset, which trackers do not know, is left out."""
    rng = np.random.default_rng([seed, 0x7AC4])
    count = len(motion)

    def errors(size: float) -> Float[Tensor, "T 3"]:
        constant = _of_length(rng, 1) * math.sqrt(0.5)
        changing = _of_length(rng, count) * math.sqrt(0.5)
        return torch.from_numpy(size * (constant + changing)).float()

    turn = axis_angle_to_matrix(errors(radians))
    pivot = head.template.mean(0)
    root = axis_angle_to_matrix(motion.params.joint("root").expand(count, 3))
    # Turned about the middle of the head, not about the root, which is far below.
    joint = _root_position(head, motion)
    arm = (root @ (pivot - joint)[..., None])[..., 0]
    moved = arm - (turn @ arm[..., None])[..., 0]
    joints = dict(motion.params.joints) | {"root": matrix_to_axis_angle(turn @ root)}
    params = replace(
        motion.params, joints=joints, translation=motion.params.translation + moved + errors(metres), offset=None
    )
    return replace(motion, params=params, neutral=replace(motion.neutral, offset=None))


def _of_length(rng: np.random.Generator, count: int) -> Float[np.ndarray, "N 3"]:
    """Random vectors whose length has a root mean square of 1."""
    return rng.standard_normal((count, 3)) / math.sqrt(3)


def _root_position(head: HeadModel, motion: Motion) -> Float[Tensor, "3"]:
    neutral = replace(head.neutral(), identity=motion.neutral.identity)
    return head.pose(neutral).joints[0]


def sensor_noise(image: Float[Tensor, "H W 3"], seed: tuple[int, ...], *, read: float = 0.008, shot: float = 0.012):
    """The picture as a sensor sees it: noise of standard deviation √(read² + shot² · brightness), in [0, 1]."""
    rng = np.random.default_rng([*seed, 0x4015E])
    noise = torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype=np.float32))
    return (image + noise * (read**2 + shot**2 * image).sqrt()).clamp(0, 1)
