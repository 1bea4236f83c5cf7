"""Refinement by the pictures of several calibrated cameras, with static offsets, on rendered heads known exactly."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from vultus.cameras import Camera, look_at
from vultus.heads import SkinnedHead
from vultus.meshes import interpolate, rasterize_mesh, vertex_normals
from vultus.motion import HeadParams
from vultus.tracking import FitSettings, Observations, fit_landmarks
from vultus.tracking.face_crops import Crops
from vultus.tracking.landmark_fit import Fit, embedding_of, problem_of
from vultus.tracking.landmark_model import LandmarkModel
from vultus.tracking.photometric import SEVERAL_CAMERAS, refine_fit, with_pictures
from vultus.tracking.rig import Rig
from vultus.tracking.skin_samples import depth_range, levels, shading, surface_samples
from vultus.tracking.static_offset import Bumps, raised

_SIDE, _INSTANTS, _CAMERAS = 192, 3, 4
_GAINS = (1.0, 0.85, 1.1, 0.95)
_BUMP = 0.0025
_SETTINGS = FitSettings(smooth=0.0)


@dataclass(frozen=True)
class Scene:
    head: SkinnedHead
    params: HeadParams
    cameras: list[Camera]
    crops: Crops
    observations: Observations
    bump: torch.Tensor
    fit: Fit

    def error(self, fit: Fit) -> float:
        """Mean distance of the face's vertices in the world, millimetres."""
        face = self.head.regions["face"]
        a, b = (self.head.pose(params).vertices[:, face] for params in (self.params, fit.params))
        return 1000 * float((a - b).norm(dim=-1).mean())


def _cameras() -> list[Camera]:
    result = []
    for number, turn in enumerate(torch.linspace(-0.9, 0.9, _CAMERAS).tolist()):
        eye = 1.1 * torch.tensor([math.sin(turn), 0.15 * (number % 3 - 1), math.cos(turn)])
        result.append(Camera.from_focal(840.0, _SIDE, _SIDE, look_at(eye, torch.tensor([0.0, -0.02, 0.0]))))
    return result


@pytest.fixture(scope="module")
def scene(builtin: SkinnedHead) -> Scene:
    """Blotchy skin, a bump on one cheek, cameras of different exposure, landmarks with the same bias at all times."""
    head, cameras = builtin, _cameras()
    generator = torch.Generator().manual_seed(5)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    identity = 0.5 * random(len(head.identity_names))
    identity[[name in ("hair_volume", "scale") for name in head.identity_names]] = 0
    rest = head.rest_vertices(replace(head.neutral(), identity=identity))
    middle = torch.tensor([0.04, -0.045, 0.08])
    near = (rest[head.regions["face"]] - middle).norm(dim=-1).argmin()
    away = (rest - rest[head.regions["face"][near]]).norm(dim=-1)
    bump = _BUMP * torch.exp(-((away / 0.02) ** 2))
    time = torch.linspace(-1, 1, _INSTANTS)
    expression = torch.zeros(_INSTANTS, len(head.expression_names))
    expression[:, head.expression_names.index("mouthSmileLeft")] = 0.3 * (1 + time)
    params = replace(
        head.neutral(_INSTANTS),
        identity=identity,
        expression=expression,
        joints={**head.neutral(_INSTANTS).joints, "root": torch.stack([0.1 * time, 0.2 * time, 0 * time], -1)},
        translation=torch.stack([0.01 * time, 0 * time, 0.01 * time], -1),
        offset=bump[:, None] * vertex_normals(rest, head.faces),
    )
    vertices = head.pose(params).vertices
    waves = 250 * random(3, 8)
    blotches = 0.5 + 0.07 * torch.sin(head.v_template @ waves + 6 * random(8)).sum(-1, keepdim=True)
    images = torch.zeros(_INSTANTS, _CAMERAS, _SIDE, _SIDE, dtype=torch.uint8)
    masks = torch.zeros_like(images)
    for instant in range(_INSTANTS):
        for column, camera in enumerate(cameras):
            raster = rasterize_mesh(vertices[instant], head.faces, camera)
            color = interpolate(blotches, head.faces, raster.face_ids, raster.barycentric)[..., 0]
            images[instant, column] = (_GAINS[column] * color * 255).round().clamp(0, 255).to(torch.uint8)
            masks[instant, column] = 255 * (raster.face_ids >= 0)
    nowhere, one = torch.zeros(_INSTANTS, _CAMERAS, 2).double(), torch.ones(_INSTANTS, _CAMERAS).double()
    embedding = embedding_of(head, "mediapipe")
    marks = (vertices[:, head.faces[embedding.faces]] * embedding.barycentric[..., None]).sum(-2)
    marks = marks + 0.0015 * random(1, *marks.shape[1:])  # the same bias in all pictures
    points = np.full((_INSTANTS, _CAMERAS, 478, 2), np.nan)
    for column, camera in enumerate(cameras):
        points[:, column, embedding.ids.numpy()] = camera.project(marks).double().numpy()
    observations = Observations(
        points,
        "mp478",
        _SIDE,
        _SIDE,
        np.zeros(_INSTANTS, np.int64),
        np.ones((_INSTANTS, _CAMERAS)),
        Rig.of([cameras] * _INSTANTS),
    )
    crops = Crops(images, nowhere, one, masks)
    fit = fit_landmarks(head, observations, _SETTINGS)
    return Scene(head, params, cameras, crops, observations, bump, fit)


@pytest.fixture(scope="module")
def coarse(scene: Scene) -> Iterator[None]:
    """Fewer samples and turns, for time."""
    from vultus.tracking import photometric, skin_samples

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(skin_samples, "_SAMPLES", 600)
        patch.setattr(photometric, "_TOGETHER", 4)
        patch.setattr(photometric, "_OFFSET_ROUNDS", 1)
        yield


def test_pictures_bring_the_face_closer_than_biased_landmarks(scene: Scene, coarse) -> None:
    refined = refine_fit(scene.head, scene.observations, scene.fit, scene.crops, _SETTINGS, frozen=False, offsets=True)
    assert scene.error(refined) < 0.78 * scene.error(scene.fit)
    assert refined.shared.offset is not None
    assert refined.params.offset is not None
    assert refined.shared.texture is not None
    assert len(refined.shared.texture) == len(SEVERAL_CAMERAS.blurs)
    eyes = torch.cat([scene.head.regions["left_eyeball"], scene.head.regions["teeth"]])
    assert float(refined.shared.offset[eyes].norm(dim=-1).max()) < 1e-4


def test_a_bump_that_no_identity_makes_is_found(scene: Scene) -> None:
    head, known = scene.head, replace(scene.params, offset=None)
    fit = replace(scene.fit, params=known, shared=replace(scene.fit.shared, identity=known.identity))
    problem, state, _ = problem_of(head, scene.observations, fit, _SETTINGS, pictures=True)
    surface = LandmarkModel.of(head, surface_samples(head))
    task = with_pictures(head, problem, state, surface, scene.crops.brightness(0.5), None, SEVERAL_CAMERAS, 0.008)
    task = replace(task, share=1.0)  # these pictures are exact
    found = raised(Bumps.of(head, known.identity), task, state).offset
    there = torch.zeros(len(found), dtype=torch.bool)
    there[head.regions["face"]] = True
    true = scene.bump[:, None] * vertex_normals(head.rest_vertices(known[0]), head.faces)
    bumpy = there & (scene.bump > 0.5 * _BUMP)
    before, after = true[bumpy].norm(dim=-1).mean(), (found - true)[bumpy].norm(dim=-1).mean()
    assert float(after) < 0.6 * float(before)
    assert float(found[there & (scene.bump < 0.01 * _BUMP)].norm(dim=-1).mean()) < 0.15 * _BUMP


def test_equations_without_the_texture_are_those_of_the_cost(scene: Scene, coarse) -> None:
    head = scene.head
    problem, state, _ = problem_of(head, scene.observations, scene.fit, _SETTINGS, pictures=True)
    surface = LandmarkModel.of(head, surface_samples(head))
    task = with_pictures(head, problem, state, surface, scene.crops.brightness(6.0), None, SEVERAL_CAMERAS, 0.02)
    assert task.learning
    task = replace(task, weights=0 * task.weights, closure_weight=0.0, precision=0 * task.precision, coupling=())
    task = replace(task, limit_precision=0.0, identity_precision=0.0, focal_precision=0.0)
    free = torch.ones(problem.layout.size, dtype=torch.bool)
    equations = task.normal_equations(state, free, True, False)
    size = problem.layout.size
    for column, step in ((1, 3e-4), (4, 5e-5), (5, 5e-5)):
        change = torch.zeros_like(state.frames)
        change[1, column] = step
        ahead, behind = (task.cost(replace(state, frames=state.frames + sign * change)) for sign in (1, -1))
        kind = np.abs(2 * equations.gradient[:, column // 3 * 3 : column // 3 * 3 + 3]).max()
        numeric = (ahead - behind) / (2 * step)
        assert 2 * equations.gradient[1, column] == pytest.approx(numeric, rel=0.05, abs=0.03 * kind), column
    change = torch.zeros_like(state.identity)
    change[4] = 0.02
    ahead, behind = (task.cost(replace(state, identity=state.identity + sign * change)) for sign in (1, -1))
    slope = 2 * equations.gradient[:, size + 4].sum()
    largest = np.abs(2 * equations.gradient[:, size:].sum(0)).max()
    assert slope == pytest.approx((ahead - behind) / 0.04, rel=0.05, abs=0.03 * largest)
    # Eliminating unknowns leaves less of the Hessian, and nothing negative.
    assert equations.removed is not None
    full = equations.hessian[:, :size, :size]
    rows = equations.removed[:, : _INSTANTS * size].reshape(-1, _INSTANTS, size)
    for instant in range(_INSTANTS):
        left = full[instant] - rows[:, instant].T @ rows[:, instant]
        assert np.linalg.eigvalsh(left).min() > -1e-6 * np.abs(full[instant]).max()
        assert np.trace(left) < np.trace(full[instant])


def test_gains_of_cameras_and_smooth_light_are_taken_off() -> None:
    generator = torch.Generator().manual_seed(2)
    normals = torch.nn.functional.normalize(torch.randn(2, 400, 3, generator=generator), dim=-1).double()
    color = 0.3 + 0.4 * torch.rand(400, generator=generator).double()
    light = torch.stack([1 + 0.2 * normals[0, :, 0], 1 - 0.15 * normals[1, :, 1]])
    gains = torch.tensor([1.0, 0.8, 1.15]).double()
    values = color[:, None] * light[..., None] * gains
    factor = shading(values, torch.ones_like(values), normals)
    flat = values / factor
    spread = (flat - flat.mean((0, 2), keepdim=True)).abs().mean()
    assert float(spread) < 0.15 * float((values - values.mean((0, 2), keepdim=True)).abs().mean())


def test_what_all_pictures_of_an_instant_share_is_told_from_the_texture() -> None:
    generator = torch.Generator().manual_seed(3)
    color = 0.3 + 0.4 * torch.rand(50, generator=generator).double()
    own = 0.01 * torch.randn(12, 50, generator=generator).double()
    values = (color + own)[..., None].repeat(1, 1, 6)
    values[:, :, 0] += 0.2  # a hand before one camera
    values[3, 7] = torch.nan
    weights = torch.ones_like(values)
    texture, found = levels(values, weights, 0.004, 1.0, 0.01)
    assert float((texture - color - own.mean(0)).abs().mean()) < 0.15 * float(own.abs().mean())
    relative = own - own.mean(0)
    seen = torch.ones(12, 50, dtype=torch.bool)
    seen[3, 7] = False
    assert float((found - relative)[seen].abs().mean()) < 0.2 * float(own.abs().mean())
    assert float(found[3, 7]) == 0
    held, again = levels(values, weights, 0.004, 1.0, 0.01, texture)
    assert held is texture
    assert float((again - found).abs().mean()) < 2e-4
    assert not bool(levels(values, weights, 0.004, 1.0, 0.0)[1].any())


def test_depth_jumps_are_seen_from_both_sides() -> None:
    depth = torch.ones(9, 9)
    depth[:, 5:] = 1.2
    depth[0] = 0
    near = depth_range(depth, 1)
    assert near[4, 2] == 0
    assert near[4, 4] == pytest.approx(0.2)
    assert near[4, 5] == pytest.approx(0.2)
    assert near[1, 2] > 100
