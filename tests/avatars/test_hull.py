"""What several cameras agree on beyond the head model is covered before training begins."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from vultus.avatars.rigged import preset
from vultus.avatars.rigged.hull import can_carve, hull_shell
from vultus.avatars.rigged.start import start_avatar
from vultus.avatars.rigged.supervision import Supervision
from vultus.cameras import Camera, look_at
from vultus.captures import open_capture
from vultus.workflows.synth import SynthSettings, synthesize

SIZE = 96
HEAD, BUN = (torch.zeros(3), 0.1), (torch.tensor([0.12, 0.12, -0.04]), 0.05)


def rig(yaws) -> list[Camera]:
    eyes = [1.1 * torch.tensor([math.sin(yaw), 0.3 * (-1) ** n, math.cos(yaw)]) for n, yaw in enumerate(yaws)]
    return [Camera.from_focal(2.4 * SIZE, SIZE, SIZE, look_at(eye, torch.zeros(3))) for eye in eyes]


def disc(camera: Camera, ball: tuple[torch.Tensor, float]) -> torch.Tensor:
    """Pixels whose rays meet a ball."""
    y, x = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    rays = torch.stack([x, y, torch.ones_like(x)], -1) @ torch.linalg.inv(camera.K).T
    rays = torch.nn.functional.normalize(rays, dim=-1)
    middle = camera.to_camera(ball[0][None])[0]
    return (torch.linalg.cross(rays, middle.expand_as(rays)).norm(dim=-1) < ball[1]) & (rays @ middle > 0)


def test_the_shell_lies_on_what_is_missing() -> None:
    cameras = rig([-1.4, -1.0, -0.6, -0.2, 0.2, 0.6, 1.0, 1.4])
    masks = [disc(camera, HEAD) | disc(camera, BUN) for camera in cameras]
    missing = [mask & ~disc(camera, HEAD) for camera, mask in zip(cameras, masks, strict=True)]
    points, spacing = hull_shell(cameras, masks, missing, torch.zeros(3))
    assert len(points) > 100
    away = (points - BUN[0]).norm(dim=-1) - BUN[1]
    # A hull is larger than its content, most of all to where no camera stands; inwards only by the grid.
    assert float(away.amin()) > -2 * spacing
    assert float(away.median()) < 1.5 * spacing
    # All around that the cameras see.
    directions = torch.nn.functional.normalize(points - BUN[0], dim=-1)
    for side in ([0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]):
        assert float((directions @ torch.tensor(side)).max()) > 0.9
    assert not len(hull_shell(cameras, [disc(c, HEAD) for c in cameras], missing, torch.zeros(3))[0])


def test_what_too_few_cameras_have_inside_their_pictures_is_left_alone() -> None:
    cameras = rig([-1.2, -0.6, 0.0, 0.6, 1.2])
    far = torch.tensor([0.0, -0.2, 0.0])
    cameras = [camera if n == 2 else camera.cropped(24, 24, 48, 48) for n, camera in enumerate(cameras)]
    everything = [torch.ones(camera.height, camera.width, dtype=torch.bool) for camera in cameras]
    points, _ = hull_shell(cameras, everything, everything, torch.zeros(3))
    assert len(points)
    assert float((points - far).norm(dim=-1).min()) > 0.04


@pytest.mark.parametrize(("yaws", "expected"), [((0.0, 0.5), False), ((0.0, 0.02, 0.04), False), ((0, 0.3, 1), True)])
def test_carving_needs_cameras_that_stand_apart(yaws, expected: bool) -> None:
    cameras = [
        Camera.from_focal(100, 8, 8, look_at(torch.tensor([math.sin(y), 0, math.cos(y)]), torch.zeros(3))) for y in yaws
    ]
    assert can_carve(cameras) is expected


def test_hair_and_shoulders_of_a_dressed_person_are_there_from_the_start(head, tmp_path) -> None:
    synthesize(tmp_path, SynthSettings(preset="people", cameras=5, timesteps=1, size=64, seed=3))
    capture = open_capture(tmp_path, head)
    views = list(capture.views)

    def covered(settings) -> tuple[float, float]:
        avatar = start_avatar(capture, head, views, settings).avatar
        inside, outside = [], []
        with torch.no_grad():
            for view in views:
                alpha = avatar.render(capture.motion.params[0], capture.camera(view)).alpha
                mask = capture.mask(view)
                inside.append(alpha[mask > 0.9])
                outside.append(alpha[mask < 0.1])
        return float(torch.cat(inside).mean()), float(torch.cat(outside).mean())

    settings = preset("fast")
    inside, outside = covered(settings)
    before, _ = covered(replace(settings, hull=False))
    assert inside > 0.93
    assert before < inside - 0.1
    assert outside < 0.05

    settings = replace(settings, crop=False)
    view = views[0]
    vertices = head.pose(capture.motion.params[0]).vertices
    nothing = torch.zeros(64, 64, 1)
    example = Supervision(capture, head, settings).example(view, vertices, nothing)
    assert float(example.mask.sum()) == pytest.approx(float(capture.mask(view).sum()), rel=0.01)
    cut = Supervision(capture, head, replace(settings, hull=False)).example(view, vertices, nothing)
    assert float(cut.mask.sum()) < 0.95 * float(example.mask.sum())
