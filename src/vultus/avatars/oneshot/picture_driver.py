"""Driving by a picture instead of the head model's coefficients: a small encoder, trained along, says where the head
model's vertices are. What lies outside the model's span, a wink or a tongue, can then be carried over."""

from __future__ import annotations

import itertools
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vultus.avatars.oneshot.frames import Frames
from vultus.avatars.oneshot.framing import above_neck, frame_head
from vultus.avatars.oneshot.geometry import metres_to_native, transform_to_camera
from vultus.avatars.oneshot.head_space import (
    at_rest,
    head_vertices,
    network_faces,
    network_offset,
    network_vertices,
    require_skinned,
    without_pose,
)
from vultus.avatars.oneshot.options import UNITS, Architecture
from vultus.cameras import Camera, look_at
from vultus.captures import Capture
from vultus.errors import VultusError
from vultus.heads.model import HeadModel, SkinnedHead
from vultus.meshes import rasterize_mesh
from vultus.motion import HeadParams, Motion

_GRID = 96
"""Side of the picture of the face, brought to the front, that the encoder looks at."""
_MARGIN = 1.15
"""Its side in units of the face's larger one."""
_FAR = 5.0
"""Metres to the camera that lays it out: nearly parallel rays."""
_CONTRAST, _FLATTEST = 0.5, 0.05
"""What colours are brought to spread by, and the spread that counts as none."""
_WIDTHS = (3, 16, 32, 64, 96)
_HIDDEN = 128
_SHAPES = 48
"""Learned displacement fields, of which every expression is a mixture."""
_LOOKED_AT = 600
"""Frames whose main displacements they begin with."""
_SLOPE = 0.2


class PictureDriver(nn.Module):
    """Pictures framed as the network knows them to displacements of the head model's vertices from rest.

    What a picture shows is taken from where the head at rest would be seen, and laid out as seen from the front, so
    that nothing but the face's motion is left to explain; its contrast is evened out by colour. The code between
    picture and displacements is short, so that it has no room for who is in the picture.
    """

    corners: Int[Tensor, "G G 3"]
    shares: Float[Tensor, "G G 3"]

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        # Which vertices the picture from the front shows, and how much of each: `begin` says it.
        self.register_buffer("corners", torch.zeros(_GRID, _GRID, 3, dtype=torch.int64))
        self.register_buffer("shares", torch.zeros(_GRID, _GRID, 3))
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(_WIDTHS):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.LeakyReLU(_SLOPE)]
        self.convolutions = nn.Sequential(*layers)
        cells = (_GRID >> (len(_WIDTHS) - 1)) ** 2
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

    def begin(self, frames: Frames, generator: torch.Generator) -> None:
        """Prepare for training on these frames: lay out the face, and begin with the main displacements from rest that
        the head model makes in some of them (principal components, by their standard deviations)."""
        head = require_skinned(frames.head)
        self.corners, self.shares = _front(head)
        numbers = [number for clip in frames.clips for number in clip]
        chosen = torch.randperm(len(numbers), generator=generator)[:_LOOKED_AT].tolist()
        with torch.no_grad():
            found = torch.stack([_displacement(head, frames.frame(numbers[index]).params) for index in chosen]).flatten(
                1
            )
            _, values, directions = torch.linalg.svd(found, full_matrices=False)
            count = min(_SHAPES, int((values > 1e-6 * values[0]).sum()))
            self.shapes[:count] = directions[:count] * (values[:count, None] / len(found) ** 0.5)

    def forward(
        self, picture: Float[Tensor, "B 3 S S"], rest: Float[Tensor, "B V 3"], transform: Float[Tensor, "B 3 4"]
    ) -> Float[Tensor, "B D"]:
        """The code of driving pictures (RGB in [0, 1], black behind the person), of people with these vertices at rest
        (native units), taken by native cameras."""
        face = self.from_the_front(picture, rest, transform)
        known = (self.shares.sum(-1) > 0).float()
        middle = (face * known).sum((-2, -1), keepdim=True) / known.sum()
        spread = ((face - middle).square() * known).sum((-2, -1), keepdim=True).div(known.sum()).sqrt()
        even = (face - middle) / (spread + _FLATTEST) * _CONTRAST * known
        return self.to_code(self.convolutions(even).flatten(1))

    def from_the_front(
        self, picture: Float[Tensor, "B 3 S S"], rest: Float[Tensor, "B V 3"], transform: Float[Tensor, "B 3 4"]
    ) -> Float[Tensor, "B 3 G G"]:
        """What pictures show where the face at rest would be, as seen from the front."""
        # An image of two pixels: places are from 0 to 2.
        camera = metres_to_native(transform_to_camera(transform, 2))
        places = camera.project((rest[:, self.corners] * self.shares[..., None]).sum(-2).flatten(1, 2))
        grid = places.unflatten(1, self.shares.shape[:2]) - 1
        return nn.functional.grid_sample(picture, grid, align_corners=False)

    def displacements(self, code: Float[Tensor, "B D"]) -> Float[Tensor, "B V 3"]:
        """How far a code moves every vertex from rest, native units."""
        return (self.to_mixture(code) @ self.shapes).unflatten(-1, (-1, 3))


def _front(head: SkinnedHead) -> tuple[Int[Tensor, "G G 3"], Float[Tensor, "G G 3"]]:
    """The face of the mean head from the front: per pixel the corners of its triangle and their shares, 0 beside it."""
    vertices, faces = head.template[: network_vertices(head)], network_faces(head)
    face = head.template[head.regions["face"]] if "face" in head.regions else vertices[above_neck(head)]
    low, high = face.amin(0), face.amax(0)
    middle, side = (low + high) / 2, _MARGIN * float((high - low)[:2].max())
    pose = look_at(middle + torch.tensor([0.0, 0.0, _FAR]), middle)
    shown = rasterize_mesh(vertices, faces, Camera.from_focal(_GRID * _FAR / side, _GRID, _GRID, pose))
    return faces[shown.face_ids.clamp(min=0)], shown.barycentric * (shown.face_ids >= 0)[..., None]


def _displacement(head: SkinnedHead, params: HeadParams) -> Float[Tensor, "V 3"]:
    """From rest, native units."""
    return (head_vertices(head, params) - head_vertices(head, at_rest(head, params))) * UNITS


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
                still = head_vertices(head, at_rest(head, frame.params))[None] * UNITS
                code = driver(picture, still, frame.transform[None])
                found[view.timestep] = driver.displacements(code)[0] / UNITS
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
        offset=own + network_offset(head, torch.stack(rows)),
    )
    still = {name: turn for name, turn in motion.neutral.joints.items() if name not in face}
    neutral = replace(motion.neutral, expression=rest.expression, joints=still, offset=own)
    return replace(motion, params=params, neutral=neutral)
