"""Driving by pictures: an encoder trained along, and motions that it makes of footage."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from oneshot_samples import TINY, person, transform
from test_oneshot_training import SETTINGS, drawn_frames

from vultus.animation import Driver, retarget_motion
from vultus.avatars.oneshot import load_model, picture_motion, save_model
from vultus.avatars.oneshot.frames import collate
from vultus.avatars.oneshot.geometry import transform_to_camera
from vultus.avatars.oneshot.head_space import head_vertices
from vultus.avatars.oneshot.options import CLEAN, UNITS, Architecture
from vultus.avatars.oneshot.picture_driver import PictureDriver
from vultus.avatars.oneshot.settings import preset
from vultus.avatars.oneshot.task import OneShotTask
from vultus.avatars.oneshot.train import new_model, train
from vultus.errors import VultusError
from vultus.heads.builtin import load_builtin
from vultus.meshes import rasterize_mesh
from vultus.motion import Motion, retarget
from vultus.training import step_generator
from vultus.workflows.train_oneshot import pictured

ARCHITECTURE = replace(TINY, quirks=CLEAN, shortcuts=True, picture_code=6)
PICTURED = replace(SETTINGS, architecture=ARCHITECTURE)


@pytest.fixture(scope="module")
def frames():
    return drawn_frames(load_builtin())


@pytest.fixture
def driver(frames):
    """With weights that move vertices by millimetres, so that pictures matter."""
    torch.manual_seed(4)
    driver = PictureDriver(ARCHITECTURE)
    driver.begin(frames, torch.Generator().manual_seed(4))
    torch.nn.init.normal_(driver.shapes, std=0.05)
    return driver


def test_the_encoder_learns_where_vertices_are(frames):
    settings = replace(PICTURED, steps=60, rate=1e-2)
    model = new_model(settings)
    assert model.picture_driver is not None
    model.picture_driver.begin(frames, torch.Generator().manual_seed(0))
    task = OneShotTask(model, frames, settings)
    errors = []
    for step in range(1, 61):
        loss, figures = task.loss(step, step_generator(1, step))
        errors.append(figures["driver"])
        task.optimizers["adam"].zero_grad()
        loss.backward()
        task.optimizers["adam"].step()
    assert sum(errors[-10:]) < 0.5 * sum(errors[:3]) / 3 * 10


def test_the_code_does_not_know_colours_of_skin_and_light(frames):
    """Gains of red, green and blue change nothing, other pictures do."""
    driver = PictureDriver(ARCHITECTURE)
    driver.begin(frames, torch.Generator().manual_seed(0))
    batch = collate(frames, [(0, 1), (3, 5)], 32, 32)
    with torch.no_grad():
        pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        code = driver(pictures, batch.rest, batch.transform)
        tinted = driver(pictures * torch.tensor([0.5, 0.7, 0.9])[:, None, None], batch.rest, batch.transform)
    assert float((code - tinted).norm(dim=-1).max()) < 0.2 * float((code[0] - code[1]).norm())


@pytest.mark.parametrize(("seed", "yaw"), [(1, 0.0), (2, 0.0), (2, 0.35), (3, -0.35)])
def test_faces_are_laid_out_from_the_front(head, frames, seed, yaw):
    """A picture that shows where on the head it is comes out the same for every person and from every side."""
    driver = PictureDriver(ARCHITECTURE)
    driver.begin(frames, torch.Generator())
    rest, view = head_vertices(head, person(head, seed)), transform(yaw)
    place = ((head.template - head.template.amin(0)) / (head.template.amax(0) - head.template.amin(0))).clamp(0, 1)
    shown = rasterize_mesh(rest, head.faces, transform_to_camera(view, 192))
    picture = (place[head.faces[shown.face_ids.clamp(min=0)]] * shown.barycentric[..., None]).sum(-2)
    front = driver.from_the_front(picture.movedim(-1, 0)[None], rest[None] * UNITS, view[None])[0]
    middle = head.regions["lips"] if yaw else head.regions["face"]
    wanted = (place[driver.corners] * driver.shares[..., None]).sum(-2).movedim(-1, 0)
    within = torch.isin(driver.corners, middle).all(-1) & (driver.shares.sum(-1) > 0)
    assert int(within.sum()) > 50
    assert float((front - wanted).abs().amax(0)[within].quantile(0.8)) < 0.02


def test_the_driver_begins_with_what_the_head_model_does(frames):
    """Every displacement of the frames is a mixture of the first shapes."""
    driver = PictureDriver(ARCHITECTURE)
    driver.begin(frames, torch.Generator().manual_seed(0))
    batch = collate(frames, [(0, 1), (3, 5)], 32, 32)
    moved = (batch.vertices - batch.rest).flatten(1)
    shapes = driver.shapes.detach()[:6]
    left = moved - torch.linalg.lstsq(shapes.T, moved.T).solution.T @ shapes
    assert float(moved.norm()) > 0.1
    assert float(left.norm()) < 0.01 * float(moved.norm())


def test_rest_is_without_expression(frames):
    batch = collate(frames, [(0, 2)], 32, 32)
    params = frames.frames[2].params
    still = replace(frames.head.neutral(), identity=params.identity)
    torch.testing.assert_close(batch.rest[0], head_vertices(frames.head, still) * UNITS)
    assert float((batch.rest - batch.vertices).abs().max()) > 0.01


def test_networks_with_and_without_a_picture_driver(frames, tmp_path):
    train(frames, tmp_path, replace(PICTURED, steps=2))
    model, about = load_model(tmp_path)
    assert model.picture_driver is not None
    assert about.architecture.picture_code == 6
    assert new_model(SETTINGS).picture_driver is None
    assert not any("picture_driver" in name for name in new_model(SETTINGS).state_dict())
    assert preset("paper", vertices=5023).architecture.picture_code == 0
    assert preset("small", vertices=5, picture_code=32).architecture.picture_code == 32
    with pytest.raises(VultusError, match="picture_code"):
        Architecture(picture_code=-1)
    model.picture_driver.corners[5, 5, 1] = 7642
    save_model(model, tmp_path / "damaged.safetensors", about)
    with pytest.raises(VultusError, match=r"damaged.*corners"):
        load_model(tmp_path / "damaged.safetensors")


def test_a_motion_of_pictures(head, clip, driver):
    """The driver's pose with displacements of its own pictures, which retargeting adds to any other face."""
    motion = picture_motion(driver, clip, head, 32)
    assert len(motion) == len(clip.motion)
    assert motion.params.offset is not None
    assert motion.neutral.offset is not None
    moved = motion.params.offset - motion.neutral.offset
    assert float(moved[0].norm(dim=-1).mean()) > 1e-3
    assert not torch.equal(moved[0], moved[1])
    assert not motion.params.expression.any()
    assert not {"jaw", "left_eye", "right_eye"} & set(motion.params.joints)
    before, after = (head.head_to_world(each.params) for each in (clip.motion, motion))
    torch.testing.assert_close(after[:, :3, :3].expand_as(before[:, :3, :3]), before[:, :3, :3])
    target = person(head, seed=8)
    carried = retarget_motion(motion, head, target)
    still = head_vertices(head, target)
    found = torch.stack([head_vertices(head, carried.params[row]) for row in range(len(motion))])
    torch.testing.assert_close(found - still, moved, rtol=1e-3, atol=2e-5)


def test_pictures_without_a_head_keep_the_face(head, clip, driver):
    """A timestep that tracking marked as lost has the displacements of the one before."""
    valid = torch.tensor([True, False, True, True])
    motion = picture_motion(driver, replace(clip, motion=replace(clip.motion, valid=valid)), head, 32)
    assert motion.params.offset is not None
    assert torch.equal(motion.params.offset[0], motion.params.offset[1])
    assert not torch.equal(motion.params.offset[1], motion.params.offset[2])
    lost = replace(clip, motion=replace(clip.motion, valid=torch.zeros(4, dtype=torch.bool)))
    with pytest.raises(VultusError, match="no picture shows"):
        picture_motion(driver, lost, head, 32)


def test_avatars_are_driven_by_pictures(head, clip, tmp_path, frames):
    """From a network on disk to images: different pictures, different faces."""
    train(frames, tmp_path, replace(PICTURED, steps=1))
    network, _ = load_model(tmp_path)
    frame = frames.frames[0]
    avatar = network.reconstruct(frame.picture.float() / 255, frame.transform, frame.params, head)
    made = pictured(Driver("clip", clip.motion, capture=clip), tmp_path, head)
    motion = retarget_motion(made.motion, head, avatar.rest)
    with torch.no_grad():
        image = avatar.render(motion.params[0], avatar.view).color
    assert image.isfinite().all()
    assert made.capture is clip


def test_what_cannot_drive_is_refused(head, clip, driver, tmp_path, frames):
    with pytest.raises(VultusError, match="--picture-code"):
        picture_motion(None, clip, head, 32)
    with pytest.raises(VultusError, match="tracked with the head model"):
        picture_motion(driver, replace(clip, head_fingerprint="0" * 64), head, 32)
    train(frames, tmp_path, replace(PICTURED, steps=1))
    with pytest.raises(VultusError, match="no pictures"):
        pictured(Driver("builtin:talking", clip.motion), tmp_path, head)


def test_retargeting_carries_moving_offsets_only(head):
    """A driver's own hair does not move to another head; what moves does."""
    hair = torch.randn(7642, 3) * 0.01
    neutral = replace(head.neutral(), offset=hair)
    target = replace(person(head), offset=torch.randn(7642, 3) * 0.01)
    assert retarget(neutral, neutral, target).offset is target.offset
    assert retarget(neutral, neutral, person(head)).offset is None
    assert retarget(neutral, head.neutral(), target).offset is target.offset
    push = torch.zeros(2, 7642, 3)
    push[1, 5] = torch.tensor([0.0, 0.01, 0.0])
    moving = Motion(replace(neutral.expand(2), offset=hair + push), torch.tensor([0.0, 0.04]), neutral)
    for goal in (target, person(head)):
        offset = retarget_motion(moving, head, goal).params.offset
        own = 0.0 if goal.offset is None else goal.offset
        torch.testing.assert_close(offset, own + push, rtol=0, atol=1e-6)
