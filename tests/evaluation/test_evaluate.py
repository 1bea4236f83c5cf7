"""`vultus evaluate`: its figures against other implementations, its protocols, resuming, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import maximum_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vultus.avatars.rigged import Labels, RiggedAvatar
from vultus.cli import run
from vultus.errors import VultusError
from vultus.evaluation.embeddings import code_distance, identity_similarity
from vultus.evaluation.keypoints import keypoint_distance
from vultus.evaluation.measures import counted_pixels, measure
from vultus.evaluation.pictures import error_picture
from vultus.evaluation.session import Instruments
from vultus.evaluation.temporal import Shown, temporal_change
from vultus.images import read_image, write_png, write_video
from vultus.tracking.detectors import Face
from vultus.workflows.assets import recognise_file
from vultus.workflows.evaluate import EvaluateRequest, evaluate, open_and_evaluate
from vultus.workflows.instruments import load_lpips

QUICK = EvaluateRequest(heat_maps=False, worst=0)


def off_colour(avatar: RiggedAvatar, amount: float = 0.2) -> RiggedAvatar:
    with torch.no_grad():
        avatar.sh0.add_(amount * torch.randn(avatar.sh0.shape, generator=torch.Generator().manual_seed(0)))
    return avatar


def test_the_figures_are_those_of_scikit_image(rig, tmp_path: Path) -> None:
    avatar, capture = off_colour(rig.avatar()), rig.capture
    result = evaluate(avatar, capture, tmp_path / "out", replace(QUICK, dilation=2)).content
    assert list(result["protocols"]) == ["novel-view", "self-reenactment"]
    views = {(view.camera, view.timestep): view for view in capture.views}
    for protocol, expected in (
        ("novel-view", {(2, 0), (2, 1), (2, 2)}),
        ("self-reenactment", {(0, 3), (1, 3), (2, 3)}),
    ):
        rows = result["protocols"][protocol]["views"]
        assert {(int(row["camera"]), row["timestep"]) for row in rows} == expected
        for row in rows:
            view = views[int(row["camera"]), row["timestep"]]
            with torch.no_grad():
                seen = avatar.render(
                    capture.motion.params[view.timestep], capture.camera(view), background=torch.ones(3)
                )
            picture, target = seen.color.clamp(0, 1).double().numpy(), capture.image(view).double().numpy()
            assert row["image"]["psnr"] == pytest.approx(
                peak_signal_noise_ratio(target, picture, data_range=1.0), abs=1e-3
            )
            similarity = structural_similarity(
                picture, target, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
                data_range=1.0,
            )  # fmt: skip
            assert row["image"]["ssim"] == pytest.approx(float(similarity), abs=1e-5)
            inside = maximum_filter(capture.mask(view)[..., 0].numpy() > 0.5, size=5)
            error = np.mean((picture - target)[inside] ** 2)
            assert row["mask"]["psnr"] == pytest.approx(-10 * np.log10(error), abs=1e-3)
            assert row["mask"]["l1"] == pytest.approx(np.abs(picture - target)[inside].mean(), abs=1e-6)
    mean = result["protocols"]["novel-view"]["mean"]
    rows = result["protocols"]["novel-view"]["views"]
    for region in ("mask", "image"):
        for name, value in mean[region].items():
            assert value == pytest.approx(np.mean([row[region][name] for row in rows]))
    assert result["protocols"]["self-reenactment"]["by_camera"]["1"]["image"]["psnr"] == pytest.approx(
        next(row for row in result["protocols"]["self-reenactment"]["views"] if row["camera"] == "1")["image"]["psnr"]
    )
    assert list(result["protocols"]["novel-view"]["by_timestep"]) == ["0", "1", "2"]
    assert {"LPIPS", "AKD", "identity similarity", "expression distance", "MS-SSIM"} <= set(result["not_measured"])


def test_the_true_avatar_is_limited_by_eight_bits_only(rig, tmp_path: Path) -> None:
    result = evaluate(rig.avatar(), rig.capture, tmp_path, replace(QUICK, protocol="all")).content
    for protocol, pictures in (("novel-view", 3), ("self-reenactment", 3), ("training", 6)):
        mean = result["protocols"][protocol]["mean"]
        assert result["protocols"][protocol]["pictures"] == pictures
        assert mean["image"]["psnr"] > 52
        assert mean["image"]["ssim"] > 0.999
    # Only instants that follow each other in one camera have a change: 3 instants of camera 2 have 2.
    assert result["protocols"]["novel-view"]["mean"]["pairs"] == 2
    assert "pairs" not in result["protocols"]["self-reenactment"]["mean"]
    assert result["protocols"]["novel-view"]["mean"]["flicker"] < 0.7
    assert result["protocols"]["novel-view"]["mean"]["change_ratio"] == pytest.approx(1, abs=0.05)


def test_trained_instants_are_rendered_as_they_were_fitted(rig, tmp_path: Path) -> None:
    avatar, capture = rig.avatar(), rig.capture
    params = capture.motion.params
    bent = {**params.joints, "jaw": params.joints["jaw"] + torch.tensor([0.2, 0.0, 0.0])}
    avatar.motion = replace(capture.motion, params=replace(params, joints=bent))
    one = replace(QUICK, most=1)
    fitted = evaluate(avatar, capture, tmp_path / "a", one).content["protocols"]
    tracked = evaluate(avatar, capture, tmp_path / "b", replace(one, tracked=True)).content["protocols"]
    assert fitted["novel-view"]["mean"]["image"]["psnr"] < tracked["novel-view"]["mean"]["image"]["psnr"] - 5
    assert fitted["self-reenactment"] == tracked["self-reenactment"]


def test_of_another_take_everything_is_held_out(rig, tmp_path: Path) -> None:
    avatar = rig.avatar()
    avatar.motion = replace(avatar.motion, times=avatar.motion.times * 2)
    result = evaluate(avatar, rig.capture, tmp_path / "a", QUICK).content
    assert {name: protocol["pictures"] for name, protocol in result["protocols"].items()} == {"self-reenactment": 12}
    assert result["protocols"]["self-reenactment"]["mean"]["image"]["psnr"] > 52
    assert "never saw it" in result["split"]
    avatar.motion = None
    one = replace(QUICK, most=1)
    assert list(evaluate(avatar, rig.capture, tmp_path / "b", one).content["protocols"]) == ["self-reenactment"]


def test_what_training_held_out_is_what_is_measured(rig, tmp_path: Path) -> None:
    avatar = rig.avatar()
    avatar.labels = Labels(provenance={"held_out": {"cameras": [0], "timesteps": []}})
    result = evaluate(avatar, rig.capture, tmp_path / "a", QUICK).content
    assert {(row["camera"], row["timestep"]) for row in result["protocols"]["novel-view"]["views"]} == {
        ("0", t) for t in range(4)
    }
    assert "as in training: cameras 0 held out" in result["split"]
    asked = replace(QUICK, hold_out_timesteps=(1,), most=2)
    result = evaluate(avatar, rig.capture, tmp_path / "b", asked).content
    assert [row["camera"] for row in result["protocols"]["self-reenactment"]["views"]] == ["0", "2"]
    whole = replace(rig.capture, val=frozenset(), test=frozenset())
    with pytest.raises(VultusError, match="nothing is held out"):
        evaluate(rig.avatar(), whole, tmp_path / "c", QUICK)


class Interrupted(Exception):
    pass


def test_an_interrupted_evaluation_goes_on(rig, tmp_path: Path) -> None:
    request = EvaluateRequest(worst=2)
    avatar, rendered = off_colour(rig.avatar()), []
    render = avatar.render
    avatar.render = lambda *args, **kwargs: rendered.append(1) or render(*args, **kwargs)  # type: ignore[method-assign]

    def stop(stage: str, done: int, total: int, figures: object) -> None:
        if done == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        evaluate(avatar, rig.capture, tmp_path / "a", request, progress=stop)
    lines = (tmp_path / "a" / "views.jsonl").read_bytes().splitlines()
    assert len(lines) == 3
    # As after a crash in the midst of writing.
    (tmp_path / "a" / "views.jsonl").write_bytes(b"\n".join(lines) + b'\n{"protocol": "nov')
    rendered.clear()
    evaluate(avatar, rig.capture, tmp_path / "a", request)
    # Four views, the instant before the first of them for the change, and two rows of the sheet.
    assert len(rendered) == 4 + 1 + 2
    evaluate(avatar, rig.capture, tmp_path / "b", request)
    for name in ("evaluation.json", "evaluation.md", "worst_frames.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert len(list((tmp_path / "a" / "errors").rglob("*.png"))) == 6
    rendered.clear()
    evaluate(avatar, rig.capture, tmp_path / "a", replace(request, worst=0))
    assert not rendered


def test_another_evaluation_is_not_mixed_in(rig, tmp_path: Path) -> None:
    one = replace(QUICK, most=1, protocol="novel-view")
    evaluate(rig.avatar(), rig.capture, tmp_path, one)
    for avatar, request in ((off_colour(rig.avatar()), one), (rig.avatar(), replace(one, dilation=3))):
        with pytest.raises(VultusError, match="--overwrite"):
            evaluate(avatar, rig.capture, tmp_path, request)
    result = evaluate(rig.avatar(), rig.capture, tmp_path, replace(one, dilation=3, overwrite=True)).content
    assert result["dilation"] == 3


def test_inside_the_mask_nothing_else_counts() -> None:
    generator = torch.Generator().manual_seed(1)
    target, picture, other = torch.rand(3, 190, 190, 3, generator=generator)
    mask = torch.zeros(190, 190, 1)
    mask[60:100, 70:120] = 1
    weight = counted_pixels(mask, 8)
    assert int(weight.sum()) == 56 * 66
    mixed = torch.where(weight > 0, picture, other)
    first, second = measure(picture, target, weight), measure(mixed, target, weight)
    assert first == second
    assert set(first) == {"psnr", "psnr_channels", "ssim", "ssim_reflected", "ssim_padded", "ms_ssim", "l1"}
    same = measure(torch.where(weight > 0, target, other), target, weight)
    assert same["psnr"] == pytest.approx(100)
    assert same["ms_ssim"] == pytest.approx(1)
    assert "ms_ssim" not in measure(picture[:100], target[:100])


def test_flicker_is_the_change_of_the_error() -> None:
    target = torch.rand(20, 30, 3, generator=torch.Generator().manual_seed(2)) * 0.5 + 0.2
    moved = target.roll(3, 1)
    steady = temporal_change(Shown(target + 0.1, target), Shown(moved + 0.1, moved))
    assert steady.flicker == pytest.approx(0, abs=1e-4)
    assert steady.change == pytest.approx(steady.target_change)
    blinking = temporal_change(Shown(target + 0.1, target), Shown(moved - 0.1, moved))
    assert blinking.flicker == pytest.approx(0.2 * 255, rel=1e-4)
    still = temporal_change(Shown(target, target), Shown(target, moved))
    assert still.change == 0
    assert still.flicker == pytest.approx(still.target_change)
    weight = torch.zeros(20, 30, 1)
    weight[:, :15] = 1
    half = moved.clone()
    half[:, 15:] = 0
    assert temporal_change(Shown(target, target, weight), Shown(half, moved, weight)).flicker == 0


class StoredFaces:
    """A detector that finds the points it is given, by the picture's first value."""

    name = "stored"
    segments_crops = False

    def __init__(self, points: dict[int, np.ndarray | None]) -> None:
        self._points = points

    def detect(self, image: np.ndarray, *, frame: int = 0) -> list[Face]:
        points = self._points[int(image[0, 0, 0])]
        return [] if points is None else [Face.from_points(points, "ibug68")]

    def segment(self, image: np.ndarray, *, frame: int = 0) -> None:
        return None

    def close(self) -> None: ...


def test_keypoints() -> None:
    points = np.random.default_rng(0).uniform(100, 200, (68, 2)).astype(np.float32)
    points[36], points[45] = (120, 150), (180, 150)
    detector = StoredFaces({1: points, 2: points + np.float32([3, 4]), 3: None})
    pictures = {value: np.full((4, 4, 3), value, np.uint8) for value in (1, 2, 3)}
    found = keypoint_distance(detector, pictures[2], pictures[1])
    assert found is not None
    assert found.pixels == pytest.approx(5, rel=1e-5)
    assert found.eye_share == pytest.approx(5 / 60, rel=1e-5)
    assert keypoint_distance(detector, pictures[3], pictures[1]) is None
    assert keypoint_distance(detector, pictures[1], pictures[3]) is None


class MeanColour:
    name = "mean colour"

    def __call__(self, image: np.ndarray) -> torch.Tensor | None:
        mean = image.reshape(-1, 3).mean(0)
        return None if mean.max() == 0 else torch.from_numpy(mean)


def test_networks_of_the_caller(rig, tmp_path: Path) -> None:
    red, green = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)
    red[..., 0], green[..., 1] = 90, 30
    assert identity_similarity(MeanColour(), red, red) == pytest.approx(1)
    assert identity_similarity(MeanColour(), red, green) == pytest.approx(0)
    assert code_distance(MeanColour(), red, green) == pytest.approx(40)
    assert identity_similarity(MeanColour(), red, np.zeros_like(red)) is None
    made = Instruments(identity=MeanColour(), expression=MeanColour())
    result = evaluate(rig.avatar(), rig.capture, tmp_path, replace(QUICK, most=1), instruments=made).content
    assert result["protocols"]["novel-view"]["mean"]["identity_similarity"] == pytest.approx(1, abs=1e-4)
    assert "identity similarity" not in result["not_measured"]
    assert result["identity"] == "mean colour"


def test_lpips_from_a_folder_of_weights(rig, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
    features = {f"features.{i}.weight": 0.05 * torch.randn(shape, generator=generator) for i, shape in shapes.items()}
    features |= {f"features.{i}.bias": torch.zeros(shape[0]) for i, shape in shapes.items()}
    features["classifier.1.weight"] = torch.zeros(4, 4)
    widths = (64, 192, 384, 256, 256)
    linear = {f"lin{i}.model.1.weight": torch.rand(1, w, 1, 1, generator=generator) for i, w in enumerate(widths)}
    folder = tmp_path / "networks"
    folder.mkdir()
    torch.save(features, folder / "a.pth")
    with pytest.raises(VultusError, match="linear layers"):
        load_lpips(folder)
    # The published file of linear layers is a stream of before 2020, not a zip file.
    torch.save(linear, folder / "b.pth", _use_new_zipfile_serialization=False)
    request = replace(QUICK, networks=folder, protocol="self-reenactment", most=1)
    result = evaluate(off_colour(rig.avatar()), rig.capture, tmp_path / "out", request).content
    mean = result["protocols"]["self-reenactment"]["mean"]
    assert mean["mask"]["lpips"] > mean["image"]["lpips"] > 0
    assert result["lpips"] == "LPIPS 0.1, alex, input in [-1, 1]"
    with pytest.raises(VultusError, match="VGG-16"):
        load_lpips(folder, "vgg")


def test_the_published_linear_layers_are_recognised() -> None:
    """torchmetrics carries the authors' files."""
    torchmetrics = pytest.importorskip("torchmetrics")
    folder = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models"
    if not (folder / "alex.pth").is_file():
        pytest.skip("this torchmetrics carries no LPIPS weights")
    assert {name: recognise_file(folder / f"{name}.pth") for name in ("alex", "vgg", "squeeze")} == {
        "alex": "lpips-alex", "vgg": "lpips-vgg", "squeeze": None,
    }  # fmt: skip


def test_pictures_against_pictures(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(4)
    frames = torch.rand(3, 40, 48, 3, generator=generator)
    for name, shift in (("a", 0.0), ("b", 0.04)):
        (tmp_path / name).mkdir()
        for index, frame in enumerate(frames):
            write_png(tmp_path / name / f"{index:03d}.png", (frame * 0.9 + shift).clamp(0, 1))
    result = open_and_evaluate(tmp_path / "a", tmp_path / "b").content
    assert (tmp_path / "a_evaluation" / "worst_frames.png").is_file()
    mean = result["protocols"]["pictures"]["mean"]
    assert mean["image"]["psnr"] == pytest.approx(-20 * np.log10(0.04), abs=0.1)
    assert mean["flicker"] < 1
    assert "figures inside the mask" in result["not_measured"]
    write_video(tmp_path / "a.mp4", frames, fps=5)
    write_video(tmp_path / "b.mp4", frames, fps=5)
    same = open_and_evaluate(tmp_path / "a.mp4", tmp_path / "b.mp4", tmp_path / "videos", QUICK).content
    assert same["protocols"]["pictures"]["mean"]["image"]["psnr"] == pytest.approx(100)
    (tmp_path / "b" / "003.png").write_bytes((tmp_path / "b" / "000.png").read_bytes())
    with pytest.raises(VultusError, match="has 3 pictures"):
        open_and_evaluate(tmp_path / "a", tmp_path / "b", tmp_path / "more")
    (tmp_path / "b" / "003.png").unlink()
    write_png(tmp_path / "b" / "001.png", frames[0, :30])
    with pytest.raises(VultusError, match="picture 1 of"):
        open_and_evaluate(tmp_path / "a", tmp_path / "b", tmp_path / "more", QUICK)


def test_the_command(rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    off_colour(rig.avatar()).save(tmp_path / "run" / "avatar")
    command = ["evaluate", str(tmp_path / "run"), str(rig.capture.root), "--worst", "2"]
    assert run(command) == 0
    printed = capsys.readouterr().out
    for text in ("novel-view", "self-reenactment", "inside the mask:", "not measured", "--networks FOLDER"):
        assert text in printed
    folder = tmp_path / "run" / "evaluation"
    page = (folder / "evaluation.md").read_text(encoding="utf-8")
    assert "| novel-view | 3 | inside the mask |" in page
    assert "by timestep" in page
    content = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert content["format"] == "vultus-evaluation"
    sheet = read_image(folder / "worst_frames.png")
    assert sheet.shape[0] > 2 * 280
    assert run(["evaluate", str(tmp_path / "run"), str(tmp_path)]) == 2
    assert "is not a capture" in capsys.readouterr().err
    assert run(["evaluate", str(tmp_path / "nothing"), str(rig.capture.root)]) == 2


def test_error_pictures_are_dark_where_right() -> None:
    target = torch.full((8, 8, 3), 0.5)
    picture = target.clone()
    picture[:4] += 0.3
    drawn = error_picture(picture, target).astype(int)
    assert drawn[0, 0].sum() > 600
    assert drawn[7, 0].sum() < 10
    weight = torch.zeros(8, 8, 1)
    ignored = error_picture(picture, target, weight)
    assert (ignored[0, 0] == ignored[0, 0, 0]).all()
