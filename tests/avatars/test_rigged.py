"""Training a rigged avatar on tiny synthetic captures, and its folder."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from vultus import avatars
from vultus.avatars import Avatar, SplatAvatar
from vultus.avatars.rigged import Labels, preset, train
from vultus.avatars.rigged.densify import DensifySettings
from vultus.avatars.rigged.start import start_avatar
from vultus.errors import VultusError
from vultus.evaluation.integrity import measure_integrity
from vultus.images.metrics import psnr

WHITE = torch.ones(3)


def small(name="photo", steps=24, **changes):
    settings = replace(preset(name, steps=steps), splats=16_000, tensorboard=False, checkpoint_every=10)
    return replace(settings, **changes)


@pytest.fixture(scope="module")
def trained(photo, head, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    labels = Labels(consent="the test agreed", license="CC0-1.0")
    return train(photo, run, small(steps=60), head=head, labels=labels), run


def quality(avatar, capture, view):
    with torch.no_grad():
        image = avatar.render(avatar.motion.params[view.timestep], capture.camera(view), background=WHITE).color
    return float(psnr(image.clamp(0, 1), capture.image(view)))


def test_one_photo_is_reproduced(trained, photo):
    assert quality(trained[0], photo, photo.views[0]) > 30


def test_the_head_holds_together_when_turned_and_moving(trained, head, camera_at):
    avatar, _ = trained
    names = list(head.expression_names)
    expression = avatar.rest.expression.clone()
    for name in ("mouthSmileLeft", "mouthSmileRight", "eyeBlinkLeft"):
        expression[names.index(name)] = 1.0
    joints = {**avatar.rest.joints, "jaw": torch.tensor([0.3, 0.0, 0.0])}
    params = replace(avatar.rest, expression=expression, joints=joints)
    face = head.regions["face"]
    for yaw in (-0.785, 0.0, 0.785):
        view = camera_at(yaw, 128)
        with torch.no_grad():
            alpha = avatar.render(params, view).alpha[..., 0]
        pixels = view.project(head.pose(params).vertices[face]).floor().long()
        covered = alpha[pixels[:, 1], pixels[:, 0]]
        assert covered.mean() > 0.97


def test_no_gaussian_is_longer_than_its_bound(trained, head):
    avatar, _ = trained
    scales = avatar.gaussians(avatar.rest).scales
    assert float(scales.detach().max()) <= avatar.largest * 1.000001
    assert measure_integrity(avatar, avatar.rest, avatar.view).longest_splat < 0.08


@pytest.mark.parametrize("stature", [-3.0, 0.0, 3.0])
@pytest.mark.parametrize("name", ["photo", "monocular"])
def test_the_bound_is_a_share_of_this_persons_head(photo, head, name, stature):
    rest = photo.motion.neutral
    identity = rest.identity.clone()
    identity[:4] = stature
    rest = replace(rest, identity=identity, scale=torch.tensor(1 + 0.1 * stature))
    capture = replace(photo, motion=replace(photo.motion, neutral=rest))
    settings = replace(small(name), splats=8_000, shoulders=False)
    avatar = start_avatar(capture, head, photo.views, settings).avatar
    with torch.no_grad():
        avatar.log_scales.fill_(9.0)
    assert 0.07 < measure_integrity(avatar, rest, avatar.view).longest_splat < 0.08


def test_what_was_not_seen_is_neither_grey_nor_another_colour(trained, camera_at):
    avatar, _ = trained
    with torch.no_grad():
        back = avatar.render(avatar.rest, camera_at(3.14159, 64), background=WHITE)
    inside = back.alpha[..., 0] > 0.95
    color = back.color[inside].mean(0)
    assert color[0] > color[2] + 0.05
    assert float(color.mean()) < 0.6


def test_it_is_an_avatar_made_of_splats(trained):
    avatar, _ = trained
    assert isinstance(avatar, Avatar)
    assert isinstance(avatar, SplatAvatar)
    assert "expression" in avatar.controls


def test_a_saved_avatar_renders_the_same_pixels(trained, head):
    avatar, run = trained
    loaded = avatars.load(run, head=head)
    with torch.no_grad():
        one, two = (each.render(each.rest, each.view, background=WHITE) for each in (avatar, loaded))
    assert torch.equal(one.color, two.color)
    assert torch.equal(one.alpha, two.alpha)
    assert loaded.labels.consent == "the test agreed"
    assert loaded.labels.license == "CC0-1.0"
    assert loaded.labels.provenance["steps"] == 60
    assert loaded.raster == avatar.raster
    assert torch.equal(loaded.motion.params.expression, avatar.motion.params.expression)


@pytest.mark.parametrize("name", ["avatar.json", "gaussians.ply", "avatar.safetensors", "motion.npz"])
def test_a_damaged_folder_is_an_error_that_names_the_file(trained, head, tmp_path, name):
    avatar, _ = trained
    avatar.save(tmp_path / "avatar")
    path = tmp_path / "avatar" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VultusError, match=name):
        avatars.load(tmp_path / "avatar", head=head)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "dynamic"),
        ("kind", None),
        ("format", 99),
        ("head", {}),
        ("raster", {"alpha_max": "1"}),
        ("raster", {"unknown": 1}),
        ("largest", -1),
        ("sh_frame", "moon"),
        ("view", {}),
        ("bound", False),
        ("provenance", 3),
    ],
)
def test_a_strange_description_is_an_error(trained, head, tmp_path, key, value):
    avatar, _ = trained
    avatar.save(tmp_path / "avatar")
    path = tmp_path / "avatar" / "avatar.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(VultusError, match=str(tmp_path)):
        avatars.load(tmp_path / "avatar", head=head)


def test_saving_never_deletes_what_is_no_avatar(trained, photo, head, tmp_path):
    avatar, _ = trained
    (tmp_path / "avatar").mkdir()
    for _ in range(2):  # into an empty folder, and over the avatar there
        avatar.save(tmp_path / "avatar")
    theirs = tmp_path / "run" / "avatar" / "thesis.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    with pytest.raises(VultusError, match="is not empty and holds no avatar"):
        avatar.save(theirs.parent)
    with pytest.raises(VultusError, match="is not empty and holds no avatar"):
        train(photo, tmp_path / "run", small(), head=head)
    assert theirs.read_text() == "mine"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["avatar"], "said before training"


def test_no_avatar_is_an_error(tmp_path):
    with pytest.raises(VultusError, match=r"avatar\.json"):
        avatars.load(tmp_path)
    with pytest.raises(VultusError, match="no such folder"):
        avatars.load(tmp_path / "missing")


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_a_resumed_run_ends_at_the_same_avatar_to_the_bit(clip, head, tmp_path):
    densify = DensifySettings(start=4, stop=20, every=6, reset_every=11, reset_at=0, gradient=1e-5, limit=17_000)
    settings = small("monocular", densify=densify, background="varied", sh_degree=1, sh_every=8)
    whole = train(clip, tmp_path / "whole", settings, head=head)
    train(clip, tmp_path / "parts", settings, head=head, control=lambda step, task: step == 13)
    resumed = train(clip, tmp_path / "parts", settings, head=head)
    assert whole.count > 15_004
    assert torch.bincount(whole.binding, minlength=len(head.faces)).min() >= 1
    assert same(whole, resumed)
    assert torch.equal(whole.motion.params.expression, resumed.motion.params.expression)
    files = [(tmp_path / run / "avatar" / "gaussians.ply").read_bytes() for run in ("whole", "parts")]
    assert files[0] == files[1]


def test_head_parameters_are_fine_tuned_only_when_asked(clip, head, tmp_path):
    tuned = train(clip, tmp_path / "tuned", small("monocular", steps=4), head=head)
    fixed = train(clip, tmp_path / "fixed", small("monocular", steps=4, finetune=False), head=head)
    assert not torch.equal(tuned.motion.params.expression, clip.motion.params.expression)
    assert torch.equal(fixed.motion.params.expression, clip.motion.params.expression)
    assert torch.equal(tuned.motion.params.identity, clip.motion.params.identity)


def test_without_binding_nothing_moves(photo, head, tmp_path):
    avatar = train(photo, tmp_path, small(steps=8, bind=False), head=head)
    assert avatar.binding is None
    assert avatar.controls == frozenset()
    joints = {**avatar.rest.joints, "jaw": torch.tensor([0.4, 0.0, 0.0])}
    with torch.no_grad():
        still = avatar.render(avatar.rest, avatar.view).color
        moved = avatar.render(replace(avatar.rest, joints=joints), avatar.view).color
    assert torch.equal(still, moved)
    assert quality(avatar, photo, photo.views[0]) > 22
    assert avatars.load(tmp_path, head=head).binding is None


def test_the_published_method_starts_from_one_gaussian_per_triangle(photo, head, tmp_path):
    settings = replace(preset("paper", steps=3), tensorboard=False, densify=DensifySettings(every=0))
    avatar = train(photo, tmp_path, settings, head=head)
    assert torch.equal(avatar.binding, torch.arange(len(head.faces)))
    assert avatar.sh_rest.shape == (len(head.faces), 15, 3)


def test_a_capture_of_another_head_is_refused(photo, head, tmp_path):
    with pytest.raises(VultusError, match="head model"):
        train(replace(photo, head_fingerprint="0" * 64), tmp_path, small(), head=head)


def test_presets_scale_with_the_number_of_steps():
    settings = preset("paper", steps=6000)
    assert settings.densify.start == 100
    assert settings.densify.every == 20
    with pytest.raises(VultusError, match="no preset"):
        preset("magic")
    with pytest.raises(VultusError, match="at least 1"):
        preset("photo", steps=0)
