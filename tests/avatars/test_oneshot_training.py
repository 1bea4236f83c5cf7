"""Training one-shot networks: framing, sampling, losses that fall, exact resumption, several processes."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from oneshot_samples import TINY, person, tiny_model, transform

from vultus import avatars
from vultus.avatars.avatar import Labels
from vultus.avatars.oneshot import OneShotAvatar, avatar_of_photo
from vultus.avatars.oneshot.captured import held_out_clips, open_captures
from vultus.avatars.oneshot.frames import Frame, MemoryFrames, clips_of, collate, held_out_pairs, training_pairs
from vultus.avatars.oneshot.framing import above_neck, frame_head
from vultus.avatars.oneshot.geometry import transform_to_camera
from vultus.avatars.oneshot.head_space import head_vertices
from vultus.avatars.oneshot.losses import box_loss, lifting_loss
from vultus.avatars.oneshot.options import CLEAN, RELEASED, UNITS, Parts
from vultus.avatars.oneshot.settings import LossWeights, OneShotSettings, preset
from vultus.avatars.oneshot.task import OneShotTask, measure
from vultus.avatars.oneshot.train import new_model, train
from vultus.avatars.oneshot.weights import About, load_model
from vultus.cameras import Camera, look_at
from vultus.captures.gagavatar_lmdb import TrackedPictures, encode_picture, write_tracked
from vultus.captures.gagavatar_records import record_of
from vultus.errors import VultusError
from vultus.heads.builtin import load_builtin
from vultus.training import latest_checkpoint, read_checkpoint, step_generator
from vultus.workflows.create import CreateSettings, create_avatar
from vultus.workflows.train_oneshot import OneShotRequest, check_options, train_oneshot, usable_device

SETTINGS = OneShotSettings(
    "small",
    replace(TINY, quirks=CLEAN),
    steps=6,
    batch=2,
    seed=1,
    rate=3e-3,
    betas=(0.9, 0.99),
    train_vit=True,
    noise="stored",
    checkpoint_every=3,
    validate_every=3,
    log_every=1,
    tensorboard=False,
)


def drawn_frames(head, clips=2, count=3):
    """Heads as plain as can be: the shape of the head model in one colour, by clip, drawn by a splat per vertex."""
    from vultus.avatars.oneshot.geometry import metres_to_native
    from vultus.splats import Gaussians, rasterize

    frames, groups = [], []
    for clip in range(clips):
        color = torch.tensor([0.8, 0.5, 0.3]) if clip % 2 else torch.tensor([0.3, 0.6, 0.8])
        for number in range(count):
            params = replace(person(head, clip), joints={"jaw": torch.tensor([0.1 * number, 0.0, 0.0])})
            view = transform(0.15 * (number - 1))
            vertices = head_vertices(head, params) * UNITS
            splats = Gaussians(
                vertices,
                torch.tensor([1.0, 0, 0, 0]).expand(len(vertices), 4),
                torch.full((len(vertices), 3), 0.02),
                torch.full((len(vertices),), 0.9),
                features=color.expand(len(vertices), 3),
            )
            raster = rasterize(splats, metres_to_native(transform_to_camera(view, 32)))
            picture = (raster.color.clamp(0, 1) * 255).round().to(torch.uint8)
            frames.append(Frame(picture, params, view, torch.tensor([0.2, 0.15, 0.8, 0.85])))
            groups.append(clip)
    return MemoryFrames(head, frames, clips_of(torch.tensor(groups)))


@pytest.fixture(scope="module")
def frames():
    return drawn_frames(load_builtin())


# --- framing ------------------------------------------------------------------------------------------------------


def test_framing_finds_a_native_camera_again(head):
    """A picture that the network's own lens took, larger and not in the middle, gives that camera's view of the
    crop."""
    params = replace(person(head), joints={"neck": torch.tensor([0.1, 0.25, 0.05])}, translation=torch.rand(3) * 0.02)
    camera = transform_to_camera(transform(0.2), 400).cropped(-100, -40, 700, 600)
    frame = frame_head(torch.rand(600, 700, 3), torch.ones(600, 700, 1), params, camera, head, 64)
    native = transform_to_camera(frame.transform, 64)
    vertices = head_vertices(head, params)
    seen = Camera(camera.world_to_camera @ head.head_to_world(params), camera.K, 700, 600)
    low, high = (bound(seen.project(vertices)[above_neck(head)], dim=0) for bound in (torch.amin, torch.amax))
    side = 1.65 * float((high - low).prod().sqrt())
    expected = (seen.project(vertices) - (low + high) / 2) / side * 64 + 32
    # A shifted lens is not a turned camera: what remains is perspective.
    assert float((native.project(vertices) - expected).abs().max()) < 0.35
    box = frame.box * 64
    assert float((box[:2] - expected[above_neck(head)].amin(0)).abs().max()) < 0.5


def test_framing_of_a_near_camera(head):
    """From 0.7 m the fit is a compromise of few pixels, smaller than any shift or change of size would make it."""
    params = person(head)
    camera = Camera.from_focal(700.0, 500, 500, look_at(torch.tensor([0.3, 0.1, 0.65]), torch.zeros(3)))
    frame = frame_head(torch.rand(500, 500, 3), torch.ones(1), params, camera, head, 128)
    shown = above_neck(head)
    places = transform_to_camera(frame.transform, 128).project(head_vertices(head, params))[shown]
    pixels = camera.project(head.pose(params).vertices)[shown]
    low, high = pixels.amin(0), pixels.amax(0)
    expected = (pixels - (low + high) / 2) / (1.65 * float((high - low).prod().sqrt())) * 128 + 64
    error = (places - expected).norm(dim=-1)
    assert float(error.mean()) < 2.5
    assert float((places - expected).mean(0).abs().max()) < 0.5


def test_heads_that_cannot_be_framed_are_refused(head):
    camera = transform_to_camera(transform(0.0), 64)
    image, mask = torch.rand(64, 64, 3), torch.ones(64, 64, 1)
    aside = replace(person(head), translation=torch.tensor([3.0, 0.0, 0.0]))
    with pytest.raises(VultusError, match="larger part"):
        frame_head(image, mask, aside, camera, head, 64)
    behind = replace(person(head), translation=torch.tensor([0.0, 0.0, 5.0]))
    with pytest.raises(VultusError, match="in front"):
        frame_head(image, mask, behind, camera, head, 64)
    with pytest.raises(VultusError, match="larger part"):
        frame_head(image, mask, person(head), camera.resized(12, 12), head, 64)


def test_frames_of_captures(head, tmp_path, new_capture):
    for name in ("a", "b"):
        new_capture(tmp_path / "people" / name, head, yaws=(0.0, 0.3), instants=2)
    frames = open_captures(tmp_path / "people", 48)
    assert [len(clip) for clip in frames.clips] == [4, 4]
    frame = frames.frame(frames.clips[1][2])
    assert frame is frames.frame(frames.clips[1][2])
    assert frame.picture.shape == (48, 48, 3)
    assert int(frame.picture[:3, :3].max()) == 0  # black behind the person
    places = transform_to_camera(frame.transform, 48).project(head_vertices(head, frame.params)).long().clamp(0, 47)
    assert float((frame.picture[places[:, 1], places[:, 0]].sum(-1) > 0).float().mean()) > 0.97
    train_part, rest = held_out_clips(frames, 1)
    assert [list(clip) for clip in (*train_part.clips, *rest.clips)] == frames.clips
    with pytest.raises(VultusError, match="held out"):
        held_out_clips(frames, 2)
    with pytest.raises(VultusError, match="no captures"):
        open_captures(tmp_path, 48)


# --- sampling -----------------------------------------------------------------------------------------------------


def test_pairs_are_of_one_clip_and_reach_every_target():
    clips = [[0, 1, 2], [3], [4, 5]]
    seen = []
    for step in range(1, 11):
        for source, target in training_pairs(clips, step, 7, step_generator(7, step), 1):
            assert source != target
            assert any(source in clip and target in clip for clip in clips)
            seen.append(target)
    assert sorted(seen) == sorted([0, 1, 2, 4, 5] * 2)
    sources = {training_pairs(clips[:1], 1, 7, step_generator(k), 1)[0][0] for k in range(20)}
    assert len(sources) == 2
    with pytest.raises(VultusError, match="two frames"):
        training_pairs([[0], [1]], 1, 0, step_generator(0), 1)


def test_held_out_pairs_start_from_first_frames():
    clips = [[4, 5, 6], [7, 8]]
    assert held_out_pairs(clips) == [(4, 5), (4, 6), (7, 8)]
    assert held_out_pairs(clips, crossed=True) == [(7, 5), (7, 6), (4, 8)]


def test_batches_hold_what_the_frames_say(frames):
    batch = collate(frames, [(0, 2)], 32, 16)
    assert batch.source.shape == (1, 3, 32, 32)
    assert batch.target.shape == (1, 3, 16, 16)
    assert torch.equal(batch.transform[0], frames.frames[2].transform)
    assert torch.equal(batch.vertices[0], head_vertices(frames.head, frames.frames[2].params) * UNITS)
    small = torch.nn.functional.avg_pool2d(frames.frames[2].picture.movedim(-1, 0).float() / 255, 2)
    assert float((batch.target[0] - small).abs().mean()) < 0.02


# --- losses and parts ---------------------------------------------------------------------------------------------


def test_empty_boxes_count_for_nothing():
    images = [torch.rand(2, 3, 16, 16) for _ in range(3)]
    nothing, face = torch.zeros(4), torch.tensor([0.25, 0.25, 0.75, 0.75])
    assert float(box_loss(*images, torch.stack([nothing, nothing]), 16)) == 0
    both = box_loss(*images, torch.stack([nothing, face]), 16)
    assert torch.equal(both, box_loss(*(image[1:] for image in images), face[None], 16))


def test_lifting_pulls_the_nearest_points():
    vertices = torch.tensor([[[0.0, 0, 0], [1.0, 0, 0]]])
    points = torch.tensor([[[0.1, 0, 0], [5.0, 0, 0], [1.0, 0.2, 0]]], requires_grad=True)
    lifting_loss(vertices, points).backward()
    assert points.grad is not None
    torch.testing.assert_close(points.grad[0], torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 2.0, 0]]))


@pytest.mark.parametrize("left_out", ["expression", "behind", "before", "renderer"])
def test_parts_that_are_left_out_do_not_matter(left_out, frames):
    """Their weights have no gradient, the others' have."""
    parts = Parts(**{left_out: False})
    model = tiny_model()
    model.architecture = replace(TINY, quirks=CLEAN, parts=parts)
    task = OneShotTask(model, frames, replace(SETTINGS, architecture=model.architecture))
    loss, figures = task.loss(1, step_generator(1, 1))
    loss.backward()
    modules = {
        "expression": model.gs_generator_g,
        "behind": model.gs_generator_l0,
        "before": model.gs_generator_l1,
        "renderer": model.upsampler,
    }
    for name, module in modules.items():
        moved = any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
        assert moved == (name != left_out), name
    assert {"image", "box", "lifting", "psnr"} <= set(figures)


def test_presets():
    paper, small = preset("paper", vertices=5023), preset("small", vertices=7642, steps=10)
    assert (paper.batch, paper.steps, paper.rate, paper.betas) == (8, 200_000, 1e-4, (0.0, 0.99))
    assert paper.architecture.quirks == RELEASED
    assert paper.architecture.count == 180_255
    assert not paper.train_vit
    assert small.architecture.vertices == 7642
    assert small.steps == 10
    assert preset("paper", vertices=5023, quirks="clean").architecture.quirks == CLEAN
    for wrong in ({"name": "medium"}, {"name": "small", "steps": 0}, {"name": "small", "batch": 0}):
        with pytest.raises(VultusError):
            preset(wrong.pop("name"), vertices=5023, **wrong)


# --- training -----------------------------------------------------------------------------------------------------


def test_rates_and_groups(frames):
    task = OneShotTask(new_model(SETTINGS), frames, replace(SETTINGS, steps=100, rate=1.0, train_vit=False))
    task.loss(51, step_generator(1, 51))
    network, style = task.optimizers["adam"].param_groups
    assert network["lr"] == pytest.approx(0.55)
    assert style["lr"] == pytest.approx(0.055)
    names = {id(value): name for name, value in task.model.named_parameters()}
    assert {names[id(value)].split(".")[1] for value in style["params"]} == {"final_linear", "stylegan_decoder"}
    assert not any("dino_model" in names[id(value)] for value in network["params"])


def test_training_learns(frames, tmp_path):
    """Colours of clips it has seen: the error falls to less than half."""
    settings = replace(SETTINGS, steps=30, checkpoint_every=30, validate_every=15)
    before = measure(new_model(settings), frames)
    model = train(frames, tmp_path, settings, validation=frames)
    after = measure(model, frames)
    assert after["held_out_psnr"] > before["held_out_psnr"] + 4
    figures = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert "held_out_psnr" not in figures[14]
    assert before["held_out_psnr"] < figures[15]["held_out_psnr"] < after["held_out_psnr"]
    again, about = load_model(tmp_path)
    assert about.fingerprint == frames.head.fingerprint
    assert "30 steps" in about.training
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())


def test_a_resumed_run_is_the_uninterrupted_one(frames, tmp_path):
    settings = replace(SETTINGS, noise="drawn")
    whole = train(frames, tmp_path / "whole", settings, validation=frames)
    stop = lambda step, task: step == 4  # noqa: E731
    train(frames, tmp_path / "parts", settings, validation=frames, control=stop)
    assert read_checkpoint(latest_checkpoint(tmp_path / "parts")).step == 4
    parts = train(frames, tmp_path / "parts", settings, validation=frames)
    assert all(torch.equal(value, parts.state_dict()[key]) for key, value in whole.state_dict().items())
    lines = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "parts")]
    assert lines[0] == lines[1]
    with pytest.raises(VultusError, match="batch"):
        train(frames, tmp_path / "parts", replace(settings, batch=4))


def test_bfloat16_changes_little(frames):
    plain, half = (
        OneShotTask(new_model(SETTINGS), frames, replace(SETTINGS, precision=precision))
        for precision in ("float32", "bfloat16")
    )
    (a, _), (b, _) = (task.loss(1, step_generator(1, 1)) for task in (plain, half))
    b.backward()
    assert not torch.equal(a, b)
    assert b.item() == pytest.approx(a.item(), rel=0.02)
    grads = [value.grad for value in half.model.parameters() if value.grad is not None]
    assert all(grad.dtype == torch.float32 and grad.isfinite().all() for grad in grads)


def test_what_does_not_fit_is_refused(frames, tmp_path):
    with pytest.raises(VultusError, match="vertices"):
        train(frames, tmp_path, replace(SETTINGS, architecture=replace(TINY, vertices=5023)))
    with pytest.raises(VultusError, match=r"--dinov2"):
        train(frames, tmp_path, replace(SETTINGS, train_vit=False))
    with pytest.raises(VultusError, match=r"cannot be read"):
        train(frames, tmp_path, SETTINGS, dinov2=tmp_path / "dinov2.pth")


PROCESS = """
import sys
from pathlib import Path
import torch
here = Path(sys.argv[1])
sys.path[:0] = [str(here), str(here.parent)]
torch.set_num_threads(1)
from test_oneshot_training import SETTINGS, drawn_frames
from vultus.avatars.oneshot.train import train
from vultus.heads.builtin import load_builtin
from dataclasses import replace
train(drawn_frames(load_builtin()), Path(sys.argv[2]), replace(SETTINGS, steps=3, batch=2))
"""


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(frames, tmp_path):
    """The same batch, shared: the same weights but for rounding, files written once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    command = [sys.executable, "-c", PROCESS, str(Path(__file__).parent), str(tmp_path / "two")]
    processes = [subprocess.Popen(command, env={**environment, "RANK": str(rank)}) for rank in range(2)]
    assert [process.wait(timeout=240) for process in processes] == [0, 0]
    train(frames, tmp_path / "one", replace(SETTINGS, steps=3, batch=2))
    two, one = (load_model(tmp_path / name)[0].state_dict() for name in ("two", "one"))
    # Adam's first steps have the size of the rate whatever the gradient: compare far below it.
    differences = [float((two[key] - value).abs().max()) for key, value in one.items()]
    assert math.isfinite(max(differences))
    share = sum(d < 1e-4 for d in differences) / len(differences)
    assert share > 0.95, sorted(differences)[-10:]
    lines = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]


def test_lifting_weight_zero_leaves_the_loss_out(frames):
    settings = replace(SETTINGS, weights=LossWeights(lifting=0.0))
    _, figures = OneShotTask(new_model(settings), frames, settings).loss(1, step_generator(1, 1))
    assert "lifting" not in figures


# --- from data to avatars ------------------------------------------------------------------------------------------


def tracked_folder(folder, frames, missing=()):
    """The frames as training data on disk, as the published network's."""
    entries, splits = [], {"train": [], "val": []}
    for clip, numbers in enumerate(frames.clips):
        for number in numbers:
            frame, key = frames.frames[number], f"{clip:06d}_{number}"
            record = record_of(frames.head, frame.params, transform_to_camera(frame.transform, 512), frame.box)
            entries.append((key, encode_picture(frame.picture.float() / 255), record))
            splits["val" if clip == len(frames.clips) - 1 else "train"].append(key)
    write_tracked(folder, [entry for entry in entries if entry[0] not in missing], frames.head, splits)
    return folder


def test_tracked_pictures_train_a_network(frames, tmp_path):
    """From an LMDB with splits to the file of a network, through the workflow; what is read is what was written."""
    folder = tracked_folder(tmp_path / "data", frames)
    pictures = TrackedPictures(folder)
    batch, truth = collate(pictures, [(0, 1)], 32, 32), collate(frames, [(0, 1)], 32, 32)
    torch.testing.assert_close(batch.transform, truth.transform, atol=1e-5, rtol=0)
    torch.testing.assert_close(batch.vertices, truth.vertices, atol=1e-5, rtol=0)
    assert float((batch.source - truth.source).abs().mean()) < 0.02
    request = OneShotRequest(steps=1, batch=1)
    model = train_oneshot(folder, tmp_path / "run", request)
    assert model.architecture.image_size == 128
    again, about = load_model(tmp_path / "run")
    assert about.fingerprint == frames.head.fingerprint
    assert torch.equal(again.head_base, model.head_base)


def test_a_training_picture_that_cannot_be_decoded_is_named(frames, tmp_path):
    """Training stops at it with its key; with the picture repaired, the same call ends."""
    named = {}
    for number in range(4):
        frame, key = frames.frames[number], f"{number // 2:06d}_{number % 2}"
        record = record_of(frames.head, frame.params, transform_to_camera(frame.transform, 48), frame.box)
        named[key] = encode_picture(frame.picture.float() / 255), record
    picture, record = named["000001_1"]
    for content, fine in (({**named, "000001_1": (picture[:200], record)}, False), (named, True)):
        write_tracked(tmp_path / "people", ((key, *entry) for key, entry in content.items()), frames.head, {})
        pictures = TrackedPictures(tmp_path / "people")
        if fine:
            train(pictures, tmp_path / "run", replace(SETTINGS, steps=6))
        else:
            with pytest.raises(VultusError, match=r"people: 000001_1.*damaged"):
                train(pictures, tmp_path / "run", replace(SETTINGS, steps=6))
        assert (tmp_path / "run" / "model.safetensors").exists() == fine


def test_options_of_the_other_method_are_refused():
    check_options("oneshot", {"preset": "small", "batch": 3, "seed": 1})
    check_options("rigged", {"preset": "paper", "bind": False})
    for method, given in (
        ("rigged", {"batch": 3}),
        ("oneshot", {"bind": False}),
        ("rigged", {"preset": "small"}),
        ("oneshot", {"preset": "photo"}),
    ):
        with pytest.raises(VultusError, match=method):
            check_options(method, given)
    with pytest.raises(VultusError, match="cannot be used here"):
        usable_device("cuda:77")


def test_a_photo_becomes_an_avatar(head, photo, tmp_path, monkeypatch):
    """Of a capture: seen through the photo's camera, the head lies where the photo shows it."""
    monkeypatch.setenv("VULTUS_NETWORKS", str(tmp_path / "networks"))
    about = About(SETTINGS.architecture, head.name, head.fingerprint, "ours", "not at all")
    avatar = avatar_of_photo(tiny_model(CLEAN), about, photo, head, labels=Labels(consent="agreed"))
    assert avatar.labels.consent == "agreed"
    assert avatar.labels.provenance["network_license"] == "ours"
    (view,) = photo.views
    params, camera = photo.motion.params[view.timestep], photo.camera(view)
    with torch.no_grad():
        rendering = avatar.render(params, camera)
    shown = torch.zeros(camera.height, camera.width, dtype=torch.bool)
    pixels = camera.project(avatar.vertices(params))[above_neck(head)].long().clamp(0, camera.width - 1)
    shown[pixels[:, 1], pixels[:, 0]] = True
    assert float(rendering.alpha[..., 0][shown].mean()) > 0.9
    avatar.save(tmp_path / "avatar")
    assert isinstance(avatars.load(tmp_path), OneShotAvatar)
    with pytest.raises(VultusError, match="network's"):
        avatar_of_photo(tiny_model(CLEAN), replace(about, fingerprint="0" * 64), photo, head)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (CreateSettings(method="oneshot"), "--weights"),
        (CreateSettings(weights="x"), "--method oneshot"),
        (CreateSettings(method="oneshot", weights="x", steps=3), "--steps"),
        (CreateSettings(method="oneshot", weights="missing.pt"), "no such file"),
    ],
)
def test_create_says_at_once_what_does_not_fit(settings, message, tmp_path):
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(VultusError, match=message):
        create_avatar(tmp_path / "photo.png", tmp_path / "run", settings)


def test_the_most_frontal_picture_of_a_clip_is_taken(head, tmp_path, new_capture):
    capture = new_capture(tmp_path / "turning", head, yaws=(0.7, 0.05, -0.5))
    about = About(SETTINGS.architecture, head.name, head.fingerprint)
    avatar = avatar_of_photo(tiny_model(CLEAN), about, capture, head)
    params = capture.motion.params[0]
    eyes = [capture.camera(view).center for view in capture.views]
    skull = head.head_to_world(params)
    own = skull[:3, :3] @ avatar.view.center + skull[:3, 3]
    angles = [float(torch.nn.functional.cosine_similarity(own, eye, dim=0)) for eye in eyes]
    assert max(range(3), key=angles.__getitem__) == 1
    with pytest.raises(VultusError, match="timestep 9"):
        avatar_of_photo(tiny_model(CLEAN), about, capture, head, timestep=9)


def test_crossed_pairs_are_other_pairs(frames):
    model = new_model(SETTINGS)
    with torch.no_grad():
        own, crossed = (measure(model, frames, None, crossed=crossed) for crossed in (False, True))
    assert set(own) == set(crossed) == {"held_out_psnr", "held_out_ssim"}
    assert own != crossed


def test_training_goes_on_from_a_network(frames, tmp_path):
    """Every weight is the other network's; the picture driver, which it lacks, begins anew."""
    train(frames, tmp_path / "first", replace(SETTINGS, steps=2))
    first, _ = load_model(tmp_path / "first")
    settings = replace(SETTINGS, steps=2, seed=9, architecture=replace(SETTINGS.architecture, picture_code=4))
    begun = new_model(settings, first)
    for name, value in first.state_dict().items():
        assert torch.equal(begun.state_dict()[name], value)
    assert not torch.equal(new_model(settings).head_base, first.head_base)
    train(frames, tmp_path / "second", settings, start_from=first)
    second, about = load_model(tmp_path / "second")
    assert "on from another network" in about.training
    assert not torch.equal(second.head_base, first.head_base)
    moved = (second.head_base - first.head_base).detach().abs()
    assert float(moved.max()) <= 2.5 * settings.rate
    with pytest.raises(VultusError, match="another architecture"):
        new_model(replace(settings, architecture=replace(settings.architecture, hidden=40)), first)
    with pytest.raises(VultusError, match="code of 4 numbers; 6 were"):
        new_model(replace(settings, architecture=replace(settings.architecture, picture_code=6)), second)
    with pytest.raises(VultusError, match="start"):
        train(frames, tmp_path / "second", settings, start_from=second)


def test_a_start_decides_sizes(frames, tmp_path):
    train(frames, tmp_path / "first", replace(SETTINGS, steps=1))
    data = tracked_folder(tmp_path / "data", frames)
    asked = OneShotRequest(steps=1, start_from=tmp_path / "first", picture_code=5)
    model = train_oneshot(data, tmp_path / "second", asked)
    assert model.architecture == replace(SETTINGS.architecture, picture_code=5)
    with pytest.raises(VultusError, match="other quirks"):
        train_oneshot(data, tmp_path / "third", replace(asked, quirks="released"))
