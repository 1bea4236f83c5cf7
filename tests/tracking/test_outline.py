"""Outlines of masks: how far away they are, and how they hold a head where nothing else does."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from vultus.cameras import Camera, look_at
from vultus.heads import SkinnedHead
from vultus.meshes import rasterize_mesh
from vultus.tracking import FitSettings, Observations, fit_landmarks
from vultus.tracking.face_crops import Crops
from vultus.tracking.landmark_fit import embedding_of, problem_of, with_state
from vultus.tracking.landmark_solver import minimise
from vultus.tracking.outline import Outline, signed_distances
from vultus.tracking.rig import Rig

_SIDE, _FINER = 192, 3


def test_distances_to_a_disc_are_exact_to_a_tenth_of_a_pixel() -> None:
    fine = 8
    line = (torch.arange(100 * fine) + 0.5) / fine
    middle, radius = (47.3, 52.8), 30.4
    covered = ((line[:, None] - middle[1]) ** 2 + (line[None] - middle[0]) ** 2 < radius**2).float()
    mask = (255 * torch.nn.functional.avg_pool2d(covered[None, None], fine)).round().to(torch.uint8)
    found = signed_distances(mask)[0, 0].float()
    centers = torch.arange(100) + 0.5
    true = ((centers[:, None] - middle[1]) ** 2 + (centers[None] - middle[0]) ** 2).sqrt() - radius
    near = true.abs() < 12
    assert float((found - true)[near].abs().mean()) < 0.1
    assert abs(float((found - true)[near].mean())) < 0.03


def test_a_mask_without_an_outline_has_no_distances() -> None:
    masks = torch.zeros(1, 2, 16, 16, dtype=torch.uint8)
    masks[:, 1] = 255
    assert bool(signed_distances(masks).isnan().all())


@pytest.fixture(scope="module")
def seen(builtin: SkinnedHead):
    """A person with a long chin in front of four cameras; points of a detector that takes everyone for average."""
    head = builtin
    cameras = [
        Camera.from_focal(
            840.0,
            _SIDE,
            _SIDE,
            look_at(
                1.1 * torch.tensor([math.sin(turn), 0.1 * (number % 3 - 1), math.cos(turn)]),
                torch.tensor([0.0, -0.02, 0.0]),
            ),
        )
        for number, turn in enumerate((-1.4, -0.5, 0.5, 1.4))
    ]
    identity = torch.zeros(len(head.identity_names))
    identity[head.identity_names.index("chin_height")] = 2.0
    identity[head.identity_names.index("chin_protrusion")] = 1.5
    params = replace(head.neutral(2), identity=identity)
    params = replace(params, translation=torch.tensor([[0.0, 0.0, 0.0], [0.004, 0.002, 0.0]]))
    vertices = head.pose(params).vertices
    masks = torch.zeros(2, 4, _SIDE, _SIDE, dtype=torch.uint8)
    for instant in range(2):
        for column, camera in enumerate(cameras):
            K = camera.K.clone()
            K[:2] *= _FINER
            large = replace(camera, K=K, width=_FINER * _SIDE, height=_FINER * _SIDE)
            covered = (rasterize_mesh(vertices[instant], head.faces, large).face_ids >= 0).float()
            masks[instant, column] = 255 * torch.nn.functional.avg_pool2d(covered[None, None], _FINER)[0, 0]
    embedding = embedding_of(head, "mediapipe")
    mean = head.pose(replace(params, identity=torch.zeros_like(identity))).vertices
    marks = (mean[:, head.faces[embedding.faces]] * embedding.barycentric[..., None]).sum(-2)
    points = np.full((2, 4, 478, 2), np.nan)
    for column, camera in enumerate(cameras):
        points[:, column, embedding.ids.numpy()] = camera.project(marks).double().numpy()
    rig = Rig.of([cameras] * 2)
    observations = Observations(points, "mp478", _SIDE, _SIDE, np.zeros(2, np.int64), np.ones((2, 4)), rig)
    crops = Crops(masks, torch.zeros(2, 4, 2).double(), torch.ones(2, 4).double(), masks)
    fit = fit_landmarks(head, observations, FitSettings(smooth=0.0))
    return head, params, observations, crops, fit


def test_outlines_find_a_chin_that_landmarks_do_not(seen) -> None:
    head, params, observations, crops, fit = seen
    problem, state, used = problem_of(head, observations, fit, FitSettings(smooth=0.0), pictures=True)
    problem = replace(problem, weights=0.05 * problem.weights)
    distances = signed_distances(crops.masks)
    free = torch.ones(problem.layout.size, dtype=torch.bool)
    for robust in (0.01, 0.003):
        outlined = replace(problem, outline=Outline.of(head, problem, state, crops, distances, robust=robust))
        state, _, _ = minimise(outlined, state, free_frame=free, free_identity=True, free_focal=False, iterations=6)
    found = with_state(head, fit, problem, state, used)
    template = head.v_template[head.regions["face"]]
    chin = head.regions["face"][(template[:, 1] < -0.08) & (template[:, 2] > 0.05)]
    true = head.pose(params).vertices[:, chin]
    before, after = (
        1000 * float((head.pose(some.params).vertices[:, chin] - true).norm(dim=-1).mean()) for some in (fit, found)
    )
    assert before > 3
    assert after < 0.4 * before


def test_equations_of_outlines_are_those_of_their_cost(seen) -> None:
    head, _, observations, crops, fit = seen
    problem, state, _ = problem_of(head, observations, fit, FitSettings(smooth=0.0), pictures=True)
    outline = Outline.of(head, problem, state, crops, signed_distances(crops.masks), robust=0.01)
    size, shared = problem.layout.size, len(state.identity)
    hessian, gradient = np.zeros((2, size + shared, size + shared)), np.zeros((2, size + shared))
    free = torch.ones(size, dtype=torch.bool)
    outline.add_to(hessian, gradient, problem, state, free, True)
    largest = np.abs(2 * gradient).max(0)
    for column, step in ((1, 1e-3), (4, 2e-4), (5, 2e-4)):
        change = torch.zeros_like(state.frames)
        change[1, column] = step
        ahead, behind = (outline.cost(problem, replace(state, frames=state.frames + sign * change)) for sign in (1, -1))
        numeric = (ahead - behind) / (2 * step)
        kind = largest[column // 3 * 3 : column // 3 * 3 + 3].max()
        assert 2 * gradient[1, column] == pytest.approx(numeric, rel=0.1, abs=0.05 * kind), column
    change = torch.zeros_like(state.identity)
    column = head.identity_names.index("chin_height")
    change[column] = 0.05
    ahead, behind = (outline.cost(problem, replace(state, identity=state.identity + sign * change)) for sign in (1, -1))
    assert 2 * gradient[:, size + column].sum() == pytest.approx((ahead - behind) / 0.1, rel=0.1)


def test_hair_may_lie_outside_of_the_mesh_but_not_inside(seen) -> None:
    head, params, observations, crops, fit = seen
    known = replace(fit, params=params, shared=replace(fit.shared, identity=params.identity))
    problem, state, _ = problem_of(head, observations, known, FitSettings(smooth=0.0), pictures=True)
    outline = Outline.of(head, problem, state, crops, signed_distances(crops.masks), robust=0.01)
    assert bool(outline.one_sided.any())
    assert not bool(outline.one_sided.all())
    scalp = replace(
        outline,
        **{
            name: getattr(outline, name)[outline.one_sided]
            for name in ("instant", "camera", "ends", "share", "unit", "one_sided")
        },
    )
    exact = scalp.cost(problem, state)
    larger, smaller = (replace(scalp, distances=scalp.distances + pixels) for pixels in (-8.0, 8.0))
    assert larger.cost(problem, state) <= exact
    assert smaller.cost(problem, state) > 20 * exact
