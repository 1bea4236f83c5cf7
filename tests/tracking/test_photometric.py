"""Photometric refinement on rendered heads whose every parameter is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vultus.heads import SkinnedHead
from vultus.meshes import interpolate, rasterize_mesh
from vultus.tracking.face_crops import Crops
from vultus.tracking.landmark_fit import fit_landmarks, problem_of
from vultus.tracking.landmark_model import LandmarkModel
from vultus.tracking.observations import FitSettings, Observations
from vultus.tracking.photometric import ONE_CAMERA, refine_fit, with_pictures
from vultus.tracking.rig import CAMERA_DISTANCE, camera_pose
from vultus.tracking.skin_samples import robust_texture, surface_samples

_SIDE, _FRAMES = 256, 8


@pytest.fixture(scope="module")
def take(builtin: SkinnedHead):
    """A head with blotchy skin that turns, and landmarks that are all off in the same way."""
    from vultus.cameras import Camera

    head = builtin
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    camera = Camera.from_focal(560.0, _SIDE, _SIDE, camera_pose(CAMERA_DISTANCE))
    waves = 250 * random(3, 6)
    blotches = 0.5 + 0.1 * torch.sin(head.v_template @ waves + 6 * random(6)).sum(-1, keepdim=True)
    time = torch.linspace(-1, 1, _FRAMES)
    turn = torch.stack([0.1 * torch.cos(5 * time), 0.35 * time, 0.05 * torch.sin(7 * time)], -1)
    params = replace(
        head.neutral(_FRAMES),
        identity=0.5 * random(len(head.identity_names)),
        joints={**head.neutral(_FRAMES).joints, "root": turn},
        translation=torch.stack([0.01 * time, 0.005 * torch.sin(3 * time), 0.02 * time], -1),
    )
    vertices = head.pose(params).vertices
    pictures = []
    for posed in vertices:
        raster = rasterize_mesh(posed, head.faces, camera)
        color = interpolate(blotches, head.faces, raster.face_ids, raster.barycentric)[..., 0]
        pictures.append((color.clamp(0, 1) * 255).round().to(torch.uint8))
    crops = Crops(torch.stack(pictures)[:, None], torch.zeros(_FRAMES, 1, 2).double(), torch.ones(_FRAMES, 1).double())
    points = camera.project(head.landmarks(vertices, "ibug68")).double()
    bias = 1.5 * random(*points[:1].shape).double()
    noise = 1.5 * random(*points.shape).double()
    observations = Observations.of((points + bias + noise).numpy(), "ibug70", _SIDE, _SIDE)
    return head, camera, params, crops, observations


def _off(head: SkinnedHead, camera, fit, params) -> float:
    """How much the face's vertices slide over the face from frame to frame, pixels.

    That all of them are off in every frame alike is the landmarks' bias; the texture is off with them, and no picture
    can tell.
    """
    face = head.regions["face"]
    there = camera.project(head.pose(fit.params).vertices[:, face])
    error = there - camera.project(head.pose(params).vertices[:, face])
    return float((error - error.mean(0)).norm(dim=-1).mean())


def test_pictures_bring_the_fit_closer_than_biased_landmarks(take) -> None:
    head, camera, params, crops, observations = take
    settings = FitSettings(focal=560.0)
    fit = fit_landmarks(head, observations, settings)
    refined = refine_fit(head, observations, fit, crops, settings, frozen=False)
    before, after = _off(head, camera, fit, params), _off(head, camera, refined, params)
    assert after < 0.75 * before
    again = fit_landmarks(head, observations, settings, refined.shared)
    frozen = refine_fit(head, observations, again, crops, settings, frozen=True)
    assert torch.equal(frozen.shared.identity, refined.shared.identity)
    assert abs(_off(head, camera, frozen, params) - after) < 0.1


def test_too_few_frames_for_a_texture_change_nothing(take) -> None:
    head, _, _, crops, observations = take
    few = np.arange(4)
    fit = fit_landmarks(head, observations.select(few), FitSettings(focal=560.0))
    assert (
        refine_fit(head, observations.select(few), fit, crops.select(few), FitSettings(focal=560.0), frozen=False)
        is fit
    )


def test_gradient_is_that_of_the_cost(take) -> None:
    head, _, _, crops, observations = take
    settings = FitSettings(focal=560.0)
    fit = fit_landmarks(head, observations, settings)
    problem, state, _ = problem_of(head, observations, fit, settings)
    surface = LandmarkModel.of(head, surface_samples(head))
    task = replace(
        with_pictures(head, problem, state, surface, crops.contrast(4.0, 12.0), None, ONE_CAMERA, 0.03), learning=False
    )
    away = torch.zeros_like(state.frames)
    away[2, :6] = torch.tensor([0.02, -0.03, 0.01, 0.003, 0.002, 0.02])
    away[2, 6] = 0.05
    state = replace(state, frames=state.frames + away)
    # Pictures only: the landmarks' part has tests of its own.
    task = replace(task, weights=0 * task.weights, closure_weight=0.0, precision=0 * task.precision)
    task = replace(task, limit_precision=0.0, smoothness=0 * task.smoothness, coupling=(), share=1.0)
    free = torch.ones(problem.layout.size, dtype=torch.bool)
    gradient = 2 * task.normal_equations(state, free, True, True).gradient
    size = problem.layout.size

    def cost(frames=None, identity=None, log_focal=None) -> float:
        moved = replace(
            state,
            frames=state.frames if frames is None else frames,
            identity=state.identity if identity is None else identity,
            log_focal=state.log_focal if log_focal is None else log_focal,
        )
        shared = task.identity_precision * float((moved.identity**2).sum())
        return task.cost(moved) - shared - task.focal_precision * (moved.log_focal - task.focal_mean) ** 2

    for column, step in ((0, 1e-3), (1, 1e-3), (2, 1e-3), (3, 1e-4), (4, 1e-4), (5, 1e-3), (6, 1e-2)):
        change = torch.zeros_like(state.frames)
        change[2, column] = step
        numeric = (cost(frames=state.frames + change) - cost(frames=state.frames - change)) / (2 * step)
        kind = slice(column // 3 * 3, column // 3 * 3 + 3)  # rotation, translation, jaw: of one unit each
        assert gradient[2, column] == pytest.approx(numeric, rel=0.02, abs=0.02 * abs(gradient[2, kind]).max()), column
    change = torch.zeros_like(state.identity)
    change[0] = 0.02
    numeric = (cost(identity=state.identity + change) - cost(identity=state.identity - change)) / 0.04
    assert gradient[:, size].sum() == pytest.approx(numeric, rel=0.1)


def test_samples_at_the_edge_of_a_crop_do_not_spoil_the_equations(take) -> None:
    head, _, _, crops, observations = take
    few = np.arange(2)
    settings = FitSettings(focal=560.0)
    fit = fit_landmarks(head, observations.select(few), settings)
    problem, state, _ = problem_of(head, observations.select(few), fit, settings)
    surface = LandmarkModel.of(head, surface_samples(head))
    seen = crops.select(few).contrast(2.0, 8.0)
    task = with_pictures(head, problem, state, surface, seen, None, ONE_CAMERA, 0.03)
    # A sample within half a pixel of where values end: its neighbours on one side are outside.
    x = task.pixels(state, slice(0, 1))[0, :, 0, 0]
    sample = int((task.visible[0, :, 0] * (x - x.min())).argmax())
    origin = seen.origin.clone()
    origin[0, 0, 0] += x[sample] - (_SIDE - 1.2)
    moved = replace(task, crops=replace(seen, origin=origin))
    equations = moved.normal_equations(state, torch.ones(task.layout.size, dtype=torch.bool), True, False)
    assert np.isfinite(equations.hessian).all()
    assert np.isfinite(equations.gradient).all()
    assert equations.removed is not None
    assert np.isfinite(equations.removed).all()


def test_with_masks_what_is_behind_does_not_count() -> None:
    generator = torch.Generator().manual_seed(4)
    person = torch.randint(60, 200, (32, 32), generator=generator, dtype=torch.uint8)
    mask = torch.zeros(32, 32, dtype=torch.uint8)
    mask[6:26, 8:24] = 255
    behind = [torch.where(mask > 0, person, torch.full_like(person, value)) for value in (0, 255)]
    nowhere, one = torch.zeros(1, 2, 2).double(), torch.ones(1, 2).double()
    crops = Crops(torch.stack(behind)[None], nowhere, one, torch.stack([mask, mask])[None])
    first, second = crops.contrast(1.0, 5.0).images[0]
    assert torch.equal(first, second)
    assert float(first[mask > 0].float().std()) > 0.01
    first, second = replace(crops, masks=None).contrast(1.0, 5.0).images[0].float()
    assert float((first - second)[mask > 0].abs().max()) > 0.1


def test_texture_ignores_an_outlier_and_what_was_never_seen() -> None:
    values = torch.full((9, 2), 0.3, dtype=torch.float64)
    values += 0.001 * torch.arange(9)[:, None]
    values[4, 0] = 5.0
    weights = torch.ones(9, 2, dtype=torch.float64)
    weights[:, 1] = 0
    texture = robust_texture(values, weights)
    assert abs(float(texture[0]) - 0.304) < 0.002
    assert bool(texture[1].isnan())
