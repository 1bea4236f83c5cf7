"""A tiny synthetic capture: the built-in head, coloured and lit, drawn at 96 pixels."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from vultus.avatars.rigged.frames import triangle_frames
from vultus.avatars.rigged.layout import surface_splats
from vultus.avatars.rigged.model import RiggedAvatar
from vultus.avatars.rigged.parts import interpolate, vertex_colors
from vultus.cameras import Camera, look_at
from vultus.captures import CaptureWriter, open_capture
from vultus.heads.builtin import load_builtin
from vultus.motion import Motion
from vultus.splats import rgb_to_sh0

SIZE = 96


@pytest.fixture(scope="session")
def head():
    return load_builtin()


@pytest.fixture(scope="session")
def camera_at():
    """A camera at a yaw angle (radians) in front of the head: `camera_at(yaw, size)`."""
    return camera


@pytest.fixture(scope="session")
def make_subject(head):
    """A new copy of the person whom the captures show: `make_subject()`."""
    return lambda: subject(head)


def subject(head):
    """A person who is not the mean head, as an avatar with vertex colours and light from one side."""
    rest = head.neutral()
    generator = torch.Generator().manual_seed(3)
    rest = replace(rest, identity=0.4 * torch.randn(rest.identity.shape, generator=generator))
    vertices = head.pose(rest).vertices
    splats, places = surface_splats(vertices, head.faces, torch.ones(len(head.faces), dtype=torch.int64), overlap=1.7)
    colors = interpolate(vertex_colors(head, "b"), head.faces[splats.binding], places)
    normals = triangle_frames(vertices, head.faces).rotation[splats.binding][..., 1]
    light = torch.nn.functional.normalize(torch.tensor([0.5, 0.6, 0.8]), dim=0)
    colors = colors * (0.55 + 0.45 * (normals @ light).clamp_min(0))[:, None]
    return RiggedAvatar(head, rest, camera(), replace(splats, sh0=rgb_to_sh0(colors)[:, None]))


def camera(yaw=0.0, size=SIZE):
    target = torch.tensor([0.0, -0.02, 0.0])
    eye = target + 0.9 * torch.tensor([math.sin(yaw), 0.0, math.cos(yaw)])
    return Camera.from_focal(2.9 * size, size, size, look_at(eye, target))


def make_capture(folder, head, *, yaws=(0.25,), instants=1):
    avatar = subject(head)
    params = avatar.rest.map(lambda tensor: tensor.expand(instants, *tensor.shape).clone())
    phase = torch.linspace(0, 2 * math.pi, instants + 1)[:instants]
    params.joints["jaw"][:, 0] = 0.15 * (1 - torch.cos(phase))
    params.joints["neck"][:, 1] = 0.2 * torch.sin(phase)
    motion = Motion(params, torch.arange(instants) / 25, avatar.rest)
    with CaptureWriter(folder, head=head, fps=25, val_cameras=(), test_timesteps=()) as writer:
        for index, yaw in enumerate(yaws):
            writer.set_camera(index, camera(yaw))
            for instant in range(instants):
                with torch.no_grad():
                    rendering = avatar.render(motion.params[instant], camera(yaw), background=torch.ones(3))
                image = rendering.color.clamp(0, 1)
                writer.add_image(instant, index, image, rendering.alpha, is_composited=True)
        writer.set_motion(motion)
    return open_capture(folder, head)


@pytest.fixture(scope="session")
def new_capture():
    """`new_capture(folder, head, yaws=..., instants=...)`."""
    return make_capture


@pytest.fixture(scope="session")
def photo(head, tmp_path_factory):
    """One view."""
    return make_capture(tmp_path_factory.mktemp("captures") / "photo", head)


@pytest.fixture(scope="session")
def clip(head, tmp_path_factory):
    """Four instants of one camera."""
    return make_capture(tmp_path_factory.mktemp("captures") / "clip", head, instants=4)
