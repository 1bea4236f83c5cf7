"""Driving by a picture instead of the head model's coefficients: a small encoder, trained along, says where the head
model's vertices are. What lies outside the model's span, a wink or a tongue, can then be carried over."""

from __future__ import annotations

import itertools
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.avatars.oneshot.framing import frame_head
from vultus.avatars.oneshot.head_space import at_rest, require_skinned, without_pose
from vultus.avatars.oneshot.options import DRIVER_SIZE, UNITS, Architecture
from vultus.captures import Capture
from vultus.errors import VultusError
from vultus.heads.model import HeadModel
from vultus.motion import Motion

_WIDTHS = (3, 16, 32, 64, 96)
_HIDDEN = 128
_SHAPES = 48
"""Learned displacement fields, of which every expression is a mixture."""
_SLOPE = 0.2


class PictureDriver(nn.Module):
    """Pictures framed as the network knows them to displacements of the head model's vertices from rest.

    The code between the two is short, so that it has no room for who is in the picture.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(_WIDTHS):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.LeakyReLU(_SLOPE)]
        self.convolutions = nn.Sequential(*layers)
        cells = (DRIVER_SIZE >> (len(_WIDTHS) - 1)) ** 2
        self.to_code = nn.Sequential(
            nn.Linear(_WIDTHS[-1] * cells, _HIDDEN),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(_HIDDEN, architecture.picture_code),
        )
        self.to_mixture = nn.Sequential(
            nn.Linear(architecture.picture_code, _HIDDEN), nn.LeakyReLU(_SLOPE), nn.Linear(_HIDDEN, _SHAPES)
        )
        # Nearly nothing at first: the head at rest is a better start than noise.
        self.shapes = nn.Parameter(2e-4 * torch.randn(_SHAPES, 3 * architecture.vertices))

    def forward(self, picture: Float[Tensor, "B 3 S T"]) -> Float[Tensor, "B D"]:
        """The code of driving pictures (RGB in [0, 1], black behind the person)."""
        size = (DRIVER_SIZE, DRIVER_SIZE)
        small = nn.functional.interpolate(picture, size, mode="bilinear", align_corners=False, antialias=True)
        return self.to_code(self.convolutions(2 * small - 1).flatten(1))

    def displacements(self, code: Float[Tensor, "B D"]) -> Float[Tensor, "B V 3"]:
        """How far a code moves every vertex from rest, native units."""
        return (self.to_mixture(code) @ self.shapes).unflatten(-1, (-1, 3))


def picture_motion(driver: PictureDriver | None, capture: Capture, head: HeadModel, size: int) -> Motion:
    """The motion of tracked footage (a video or a photo) with the face's part taken from the pictures.

    Where the head is and how it turns stays as it was tracked. Expression, jaw and eyes give way to displacements of
    the head model's vertices (`HeadParams.offset`), which retargeting carries to any avatar on that head model. A
    picture in which the head is not found keeps the displacements of the one before.

    Args:
        driver: of the network (`OneShotModel.picture_driver`). capture: the footage; its first camera is used.
        head: the head model of footage and network. size: side of the network's pictures.

    Raises:
        VultusError: the network was trained without a picture driver, the footage was tracked with another head model,
            or no picture shows a head.
    """
    if driver is None:
        raise VultusError(
            "this network is driven by the head model's coefficients only; train one with a picture driver "
            "(--picture-code on the command line, preset(..., picture_code=32) in Python)"
        )
    head = require_skinned(head)
    if capture.head_fingerprint != head.fingerprint:
        raise VultusError(
            f"{capture.root}: was tracked with the head model {capture.head_name}, the network drives {head.name}"
        )
    first = min(view.camera for view in capture.views)
    found: dict[int, Tensor] = {}
    for view in sorted(capture.views):
        if view.camera == first and bool(capture.motion.valid[view.timestep]):
            image, params = capture.image(view, torch.zeros(3)), capture.motion.params[view.timestep]
            try:
                frame = frame_head(image, torch.ones(1), params, capture.camera(view), head, size)
            except VultusError:
                continue  # too little of the head is in it
            picture = (frame.picture.float() / 255).movedim(-1, 0)[None]
            with torch.no_grad():
                found[view.timestep] = driver.displacements(driver(picture))[0] / UNITS
    if not found:
        raise VultusError(f"{capture.root}: no picture shows the head large enough to drive an avatar by")
    motion, last = capture.motion, found[min(found)]
    rows = [last := found.get(timestep, last) for timestep in range(len(motion))]
    rest = at_rest(head, motion.neutral)
    own = torch.zeros_like(head.template) if rest.offset is None else rest.offset
    face = without_pose(head, motion.params).joints
    params = replace(
        motion.params,
        expression=torch.zeros_like(motion.params.expression),
        joints={name: turn for name, turn in motion.params.joints.items() if name not in face},
        offset=own + torch.stack(rows),
    )
    still = {name: turn for name, turn in motion.neutral.joints.items() if name not in face}
    neutral = replace(motion.neutral, expression=rest.expression, joints=still, offset=own)
    return replace(motion, params=params, neutral=neutral)
