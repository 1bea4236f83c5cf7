"""The synthetic studio: the truth it states is what its pictures show."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from vultus.cameras import Camera
from vultus.captures.studio import LABELS, Shot, Stage, Studio, make_person, random_lighting, studio_rig
from vultus.captures.studio.dressing import dress
from vultus.captures.studio.labels import NUMBER
from vultus.captures.studio.mistaken import mistracked, static_offset
from vultus.captures.studio.solids import ball, tube
from vultus.captures.studio.surface import anatomy_of
from vultus.captures.studio.wardrobe import dressed
from vultus.errors import VultusError
from vultus.heads.load import load_head
from vultus.meshes import closest_points, face_normals
from vultus.motion import Motion
from vultus.rotations import axis_angle_to_matrix

SIZE = 128


@pytest.fixture(scope="module", params=[False, True], ids=["painted", "dressed"])
def stage(request: pytest.FixtureRequest) -> Stage:
    head = load_head()
    person = make_person(3, head)
    pose = replace(head.neutral(), identity=person.identity)
    pose = replace(
        pose, joints={**pose.joints, "neck": torch.tensor([0.0, 0.3, 0.05]), "jaw": torch.tensor([0.2, 0, 0])}
    )
    return Studio(head, person, random_lighting(1), wardrobe=request.param, size=SIZE).pose(pose)


@pytest.fixture(scope="module")
def camera() -> Camera:
    return studio_rig(5, SIZE)[1]


@pytest.fixture(scope="module")
def shot(stage: Stage, camera: Camera) -> Shot:
    return stage.shoot(camera, truth=True)


def test_the_same_seed_makes_the_same_person_and_another_seed_another() -> None:
    head = load_head()
    one, same, other = make_person(11, head), make_person(11, head), make_person(12, head)
    assert torch.equal(one.identity, same.identity)
    assert (one.eyes, one.hair, one.clothes) == (same.eyes, same.hair, same.clothes)
    assert not torch.equal(one.identity, other.identity)


def test_a_picture_is_the_same_every_time(stage: Stage, camera: Camera, shot: Shot) -> None:
    again = stage.shoot(camera)
    assert torch.equal(again.image, shot.image)
    assert torch.equal(again.alpha, shot.alpha)


def test_depth_leads_back_to_the_surface(stage: Stage, camera: Camera, shot: Shot) -> None:
    truth = shot.truth
    assert truth is not None
    row, column = (truth.depth > 0).nonzero(as_tuple=True)
    chosen = torch.arange(0, len(row), 37)
    row, column = row[chosen], column[chosen]
    z = truth.depth[row, column]
    K = camera.K
    x, y = (column + 0.5 - K[0, 2]) / K[0, 0] * z, (row + 0.5 - K[1, 2]) / K[1, 1] * z
    points = torch.stack([x, y, z], dim=-1) - camera.world_to_camera[:3, 3]
    points = points @ camera.world_to_camera[:3, :3]
    nearest = closest_points(points.numpy(), stage.vertices.numpy(), stage.faces.numpy())
    assert float(np.abs(nearest.distances).max()) < 2e-5


def test_labels_and_uv_cover_what_depth_covers_and_normals_face_the_camera(
    stage: Stage, camera: Camera, shot: Shot
) -> None:
    truth = shot.truth
    assert truth is not None
    shown = truth.depth > 0
    hair = (truth.labels == LABELS.index("hair")) | (truth.labels == LABELS.index("beard"))
    assert torch.equal((truth.labels > 0) & ~hair, shown & ~hair)
    assert bool((truth.uv[..., 0] >= 0)[shown & (truth.labels == LABELS.index("lips"))].all())
    assert not bool((truth.uv[..., 0] >= 0)[~shown].any())
    worn = torch.isin(truth.labels, torch.tensor([LABELS.index(name) for name in ("glasses", "hat", "cloth")]))
    if len(stage.faces) > len(stage.studio.head.faces):
        assert bool((truth.uv[..., 0] < 0)[worn].all())
    lengths = truth.normals.norm(dim=-1)
    assert torch.allclose(lengths[shown], torch.ones(int(shown.sum())), atol=1e-4)
    assert float(lengths[~shown].abs().max()) == 0
    facing = truth.normals[shown] @ camera.world_to_camera[2, :3]
    assert float((facing < 0.2).float().mean()) > 0.95
    assert {LABELS[int(number)] for number in truth.labels.unique()} >= {"background", "skin", "neck", "eyes", "lips"}


def test_coverage_is_full_inside_and_agrees_with_the_depth(shot: Shot) -> None:
    truth = shot.truth
    assert truth is not None
    alpha = shot.alpha[..., 0]
    shown = truth.depth > 0
    assert float(alpha[shown].min()) > 0
    inside = torch.nn.functional.max_pool2d((~shown).float()[None, None], 3, 1, 1)[0, 0] == 0
    # Between a collar and a neck, a quarter of a pixel may show what is behind.
    assert float((alpha[inside] > 1 - 1e-6).float().mean()) > 0.995
    hair = (truth.labels == LABELS.index("hair")) | (truth.labels == LABELS.index("beard"))
    assert bool((alpha[(truth.labels > 0)] > 0).all())
    assert bool((alpha[hair] > 0.2).all())
    if not bool((hair & ~shown).any()):
        assert abs(float(alpha.sum()) - float(shown.sum())) < 0.01 * float(shown.sum())


def test_landmarks_lie_on_what_they_name(stage: Stage, shot: Shot, camera: Camera) -> None:
    truth = shot.truth
    assert truth is not None
    points, weights = stage.landmarks(camera, "ibug68")
    assert float(weights.mean()) > 0.5
    # The iris centres are on eyes, the middle of the lips on the lips or in the mouth.
    for numbers, allowed in (((68, 69), {"eyes", "glasses", "hair"}), ((51, 57), {"lips", "skin", "mouth"})):
        for number in numbers:
            if weights[number] > 0:
                column, row = points[number].floor().long().tolist()
                assert LABELS[int(truth.labels[row, column])] in allowed
    projected = camera.project(stage.studio.head.landmarks(stage.vertices, "ibug68"))
    assert torch.allclose(points, projected)


def test_landmarks_behind_the_head_are_hidden(stage: Stage) -> None:
    rig = studio_rig(5, SIZE)
    _, from_right = stage.landmarks(rig[0], "ibug68")
    _, from_left = stage.landmarks(rig[4], "ibug68")
    # Seen from the subject's right, the right half of the jaw shows and the left does not.
    assert float(from_right[:6].sum()) > float(from_right[11:17].sum())
    assert float(from_left[11:17].sum()) > float(from_left[:6].sum())


@pytest.mark.parametrize("count", [1, 2, 16, 32])
def test_rigs_look_at_the_head(count: int) -> None:
    cameras = studio_rig(count, 64)
    assert len(cameras) == count
    for camera in cameras:
        at = camera.project(torch.tensor([[0.0, -0.035, 0.01]]))
        assert torch.allclose(at, torch.full((1, 2), 32.0), atol=1e-3)
    x = [float(camera.center[0]) for camera in cameras]
    assert x == sorted(x) or count < 3 or max(abs(a) for a in x) < 1.5


@pytest.mark.parametrize(("count", "size"), [(0, 64), (33, 64), (4, 8), (4, 100_000)])
def test_impossible_rigs_are_refused(count: int, size: int) -> None:
    with pytest.raises(VultusError):
        studio_rig(count, size)


def test_tracking_errors_have_the_stated_size_and_hide_the_offset() -> None:
    head = load_head()
    offset = static_offset(head, 5)
    assert float(offset.norm(dim=-1).max()) == pytest.approx(0.0015, rel=1e-3)
    count = 400
    neutral = replace(head.neutral(), offset=offset)
    true = Motion(replace(head.neutral(count), offset=offset), torch.arange(count) / 25, neutral)
    turns, shifts = [], []
    pivot = head.template.mean(0)
    for seed in range(12):
        told = mistracked(true, head, seed)
        assert told.params.offset is None
        assert told.neutral.offset is None
        turn = told.params.joint("root").norm(dim=-1).square().mean()
        rotation = axis_angle_to_matrix(told.params.joint("root"))
        root = head.pose(head.neutral()).joints[0]
        moved = (rotation @ (pivot - root)) + root + told.params.translation - pivot
        turns.append(float(turn))
        shifts.append(float(moved.square().sum(-1).mean()))
    assert math.degrees(np.mean(turns) ** 0.5) == pytest.approx(0.5, rel=0.35)
    assert np.mean(shifts) ** 0.5 == pytest.approx(0.001, rel=0.35)


@pytest.mark.parametrize("solid", ["tube", "ring", "ball"])
def test_solids_are_turned_outwards(solid: str) -> None:
    angle = np.arange(40) / 40 * 2 * np.pi
    circle = np.stack([9 * np.cos(angle), 0 * angle, 9 * np.sin(angle)], axis=1)
    meshes = {
        "tube": lambda: tube(np.array([[0.0, y, 0.1 * y] for y in range(9)]), 2.0),
        "ring": lambda: tube(circle, 1.0, closed=True),
        "ball": lambda: ball(np.array([5.0, 2.0, 1.0]), 3.0),
    }
    vertices, faces = meshes[solid]()
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    volume = (a * np.cross(b, c)).sum() / 6
    expected = {"tube": 60.0, "ring": 2 * np.pi**2 * 9, "ball": 4 / 3 * np.pi * 27}[solid]
    assert volume == pytest.approx(expected, rel=0.2)


def test_clothes_face_outwards() -> None:
    head = load_head()
    rest = head.pose(head.neutral()).vertices
    person = make_person(4, head)
    person = replace(person, clothes=replace(person.clothes, hat="cap", glasses="square", earrings="hoops"))
    for garment in dressed(person, rest, anatomy_of(head), head.faces):
        if garment.label in ("cloth", "hat"):
            middle = garment.vertices[garment.faces].mean(1)
            outward = (
                middle - torch.tensor([0.0, 0.0, -0.02])
                if garment.label == "hat"
                else middle * torch.tensor([1.0, 0, 1])
            )
            agree = (face_normals(garment.vertices, garment.faces) * outward).sum(-1) > 0
            assert float(agree.float().mean()) > 0.75


def test_shoulders_of_another_head_model_wear_cloth_too() -> None:
    own, other = load_head(), deepcopy(load_head())
    del other.attributes["part"]
    person = make_person(4, own)
    cloth = [dress(head, person, wardrobe=True, size=64).labels[:512] == NUMBER["cloth"] for head in (own, other)]
    assert not bool(cloth[0].any())
    assert float(cloth[1].float().mean()) > 0.01
