"""Calibrated cameras: one solver for any number of them, where rays meet, a whole track, and the mistakes of rigs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vultus.cameras import Camera, look_at
from vultus.captures import CaptureWriter, read_motion
from vultus.errors import VultusError
from vultus.heads import SkinnedHead
from vultus.meshes import rasterize_mesh
from vultus.motion import HeadParams, Motion
from vultus.tracking import FitSettings, Observations, TrackSettings, fit_landmarks, track
from vultus.tracking.detectors import StoredDetector
from vultus.tracking.landmark_fit import embedding_of
from vultus.tracking.landmark_regions import TRUSTED
from vultus.tracking.placement import meet, rigid
from vultus.tracking.rig import Rig
from vultus.workflows.synth import SynthSettings, synthesize

_SIDE = 256


def cameras(count: int, side: int = 512, spread: float = 0.9) -> list[Camera]:
    """On an arc around a head that is 2 metres from the origin, with different lenses."""
    center = torch.tensor([0.4, 1.6, -2.0])
    result = []
    for number, turn in enumerate(torch.linspace(-spread, spread, count).tolist()):
        eye = center + torch.tensor([math.sin(turn), 0.15 * (number % 3 - 1), math.cos(turn)]) * (0.9 + 0.05 * number)
        fx = 2.2 * side * (1 + 0.05 * number)
        K = torch.tensor([[fx, 0.0, 0.48 * side], [0.0, 1.01 * fx, 0.51 * side], [0.0, 0.0, 1.0]])
        result.append(Camera(look_at(eye, center), K, side, side))
    return result


def person(head: SkinnedHead, count: int, seed: int = 0) -> HeadParams:
    """Somebody who moves and speaks in front of these cameras."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.linspace(0, 1, count)
    names = list(head.expression_names)
    identity = 0.5 * torch.randn(len(head.identity_names), generator=generator)
    identity[[name in ("hair_volume", "scale") for name in head.identity_names]] = 0
    expression = torch.zeros(count, len(names))
    expression[:, names.index("mouthSmileLeft")] = 0.6 * time
    expression[:, names.index("browInnerUp")] = 0.5 * (1 - time)
    zero = torch.zeros(count)
    return replace(
        head.neutral(count),
        identity=identity,
        expression=expression,
        joints={
            "root": torch.stack([0.1 * torch.sin(6 * time), 0.4 * (time - 0.5), zero], -1),
            "jaw": torch.stack([0.15 * (1 - torch.cos(6 * time)) / 2, zero, zero], -1),
        },
        translation=torch.tensor([0.4, 1.6, -2.0]) + 0.03 * torch.stack([time, zero, -time], -1),
    )


def landmarks(head: SkinnedHead, params: HeadParams, rig: list[Camera]) -> np.ndarray:
    """Exact pixels [N, C, 478, 2] of MediaPipe's points (NaN: not on the head)."""
    embedding = embedding_of(head, "mediapipe")
    corners = head.pose(params).vertices[:, head.faces[embedding.faces]]
    points = (corners * embedding.barycentric[..., None]).sum(-2)
    result = np.full((len(points), len(rig), 478, 2), np.nan)
    for column, camera in enumerate(rig):
        result[:, column, embedding.ids.numpy()] = camera.project(points).double().numpy()
    return result


def observed(points: np.ndarray, rig: list[Camera]) -> Observations:
    count = len(points)
    return Observations(
        points,
        "mp478",
        rig[0].width,
        rig[0].height,
        np.zeros(count, np.int64),
        np.ones(points.shape[:2]),
        Rig.of([rig] * count),
    )


def face_error(head: SkinnedHead, true: HeadParams, found: HeadParams) -> float:
    """Root mean square distance of the face's vertices, millimetres."""
    a, b = (head.pose(params).vertices[:, head.regions["face"]] for params in (true, found))
    return 1000 * float((a - b).square().sum(-1).mean().sqrt())


def test_a_rig_projects_like_its_cameras_and_derives_what_it_projects() -> None:
    rig = cameras(3)
    points = (
        torch.tensor([0.4, 1.6, -2.0]).double()
        + 0.1 * torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1)).double()
    )
    several = Rig.of([rig, rig])
    for column, camera in enumerate(rig):
        torch.testing.assert_close(
            several.project(points, 0.0)[:, :, column].float(), camera.project(points.float()), rtol=1e-4, atol=1e-2
        )
        torch.testing.assert_close(several.centers[0, column].float(), camera.center)
    by_points, by_focal = several.derivative(points, 0.1)
    jacobian = torch.func.jacrev(lambda p: several.project(p, 0.1))(points)
    for frame in range(2):
        for point in range(5):
            torch.testing.assert_close(by_points[frame, point], jacobian[frame, point, :, :, frame, point])
    change = (several.project(points, 0.1 + 1e-6) - several.project(points, 0.1 - 1e-6)) / 2e-6
    torch.testing.assert_close(by_focal, change, rtol=1e-5, atol=1e-3)


def test_noisy_points_of_eight_cameras_give_the_face_to_half_a_millimetre(builtin: SkinnedHead) -> None:
    params, rig = person(builtin, 4), cameras(8)
    points = landmarks(builtin, params, rig)
    points += 0.5 * np.random.default_rng(0).normal(size=points.shape)
    fit = fit_landmarks(builtin, observed(points, rig), FitSettings(point_sigma=0.005, bias_share=0.0))
    assert face_error(builtin, params, fit.params) < 0.5
    assert fit.residual.shape[:2] == (4, 8)
    assert fit.eye_distance.shape == (4, 8)


def test_a_camera_that_sees_something_else_is_left_out(builtin: SkinnedHead) -> None:
    params, rig = person(builtin, 3), cameras(5)
    points = landmarks(builtin, params, rig)
    points[:, 1] += [60.0, -45.0]
    points[1, 3] = np.nan
    usable = np.isfinite(points).all(-1).any(-1)
    known = np.isfinite(points[0, 0]).all(-1)
    met = meet(Rig.of([rig] * 3), points[:, :, known], usable)
    assert met.agrees[:, [0, 2, 4]].all()
    assert not met.agrees[:, 1].any()
    assert not met.agrees[1, 3]
    embedding = embedding_of(builtin, "mediapipe")
    corners = builtin.pose(params).vertices[:, builtin.faces[embedding.faces]]
    true = (corners * embedding.barycentric[..., None]).sum(-2).double().numpy()
    order = np.argsort(embedding.ids.numpy())
    assert np.abs(met.points - true[:, order]).max() < 1e-4


def test_a_view_of_which_the_detector_says_little_right_makes_no_misfit(builtin: SkinnedHead) -> None:
    params, rig = person(builtin, 2), cameras(4)
    fit = fit_landmarks(builtin, observed(landmarks(builtin, params, rig), rig))
    residual = fit.residual.copy()
    residual[:, 3] += 0.5
    residual[1] = np.nan
    worse = replace(fit, residual=residual)
    assert worse.mean_error(TRUSTED)[0] > 0.1
    assert worse.median_error(TRUSTED)[0] < 0.03
    assert np.isnan(worse.median_error(TRUSTED)[1])


def test_a_rigid_motion_is_found() -> None:
    generator = np.random.default_rng(3)
    points = generator.normal(size=(9, 3))
    turn = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    rotation, shift = rigid(points, points @ turn.T + [1.0, 2.0, 3.0])
    np.testing.assert_allclose(rotation, turn, atol=1e-12)
    np.testing.assert_allclose(shift, [1.0, 2.0, 3.0], atol=1e-12)


# --- from a folder --------------------------------------------------------------------------------------------------


class Numbered(StoredDetector):
    """Exact landmarks by (timestep, camera)."""

    def __init__(self, folder: Path, points: np.ndarray) -> None:
        np.savez(folder, points=points.reshape(-1, *points.shape[2:]), set=np.array("mp478"))
        super().__init__(folder)


def footage(folder: Path, head: SkinnedHead, params: HeadParams, rig: list[Camera], unit: float = 1.0) -> None:
    """A capture that knows the cameras and nothing of the head: its parameters say nothing."""
    still = head.neutral(len(params.translation))
    with CaptureWriter(folder, head=head, fps=25, val_cameras=(1,), test_timesteps=()) as writer:
        for column, camera in enumerate(rig):
            pose = camera.world_to_camera.clone()
            pose[:3, 3] *= unit
            writer.set_camera(column, replace(camera, world_to_camera=pose))
        for timestep in range(len(still.translation)):
            vertices = head.pose(params[timestep]).vertices
            for column, camera in enumerate(rig):
                covered = (rasterize_mesh(vertices, head.faces, camera).face_ids >= 0)[..., None].float()
                writer.add_image(timestep, column, 0.3 + 0.4 * covered.expand(-1, -1, 3), covered)
        writer.set_motion(Motion(still, torch.arange(len(params.translation)) / 25, head.neutral()))


@pytest.fixture(scope="module")
def taken(builtin: SkinnedHead, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("rig")
    params, rig = person(builtin, 3), cameras(4, side=_SIDE)
    footage(folder / "capture", builtin, params, rig)
    detector = Numbered(folder / "points.npz", landmarks(builtin, params, rig))
    return folder / "capture", params, rig, detector


def test_a_folder_of_calibrated_pictures_becomes_a_capture(taken, builtin: SkinnedHead, tmp_path: Path) -> None:
    folder, params, rig, detector = taken
    settings = TrackSettings(photometric=False, hair=False)
    capture = track(folder, tmp_path / "out", head=builtin, settings=settings, detector=detector)
    assert len(capture.views) == 12
    assert bool(capture.motion.valid.all())
    assert {view.camera for view in capture.val} == {1}
    for view in capture.views:
        torch.testing.assert_close(capture.camera(view).K, rig[view.camera].K, rtol=1e-4, atol=1e-3)
        assert capture.image(view).shape == (_SIDE, _SIDE, 3)
        assert 0.02 < float(capture.mask(view).mean()) < 0.9
    # Landmarks are exact, but priors pull: nearly there.
    assert face_error(builtin, params, capture.motion.params) < 2.0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["valid_percent"] == 100
    assert [camera["used_percent"] for camera in report["cameras"]] == [100.0] * 4
    assert (tmp_path / "out" / "overlay.mp4").is_file()


def test_only_the_timesteps_asked_for_are_tracked(taken, builtin: SkinnedHead, tmp_path: Path) -> None:
    folder, params, _, detector = taken
    settings = TrackSettings(photometric=False, hair=False, overlay=False, first=1, last=1)
    capture = track(folder, tmp_path / "out", head=builtin, settings=settings, detector=detector)
    assert {view.timestep for view in capture.views} == {1}
    assert capture.motion.valid.tolist() == [False, True]
    assert face_error(builtin, params[1:2], capture.motion.params[1:2]) < 2.5


def test_wrong_rigs_are_refused_by_what_is_likely(taken, builtin: SkinnedHead, tmp_path: Path) -> None:
    folder, params, rig, detector = taken
    settings = TrackSettings(photometric=False, hair=False, overlay=False)
    footage(tmp_path / "large", builtin, params[:1], rig, unit=1000.0)
    with pytest.raises(VultusError, match="millimetres"):
        track(tmp_path / "large", tmp_path / "a", head=builtin, settings=settings, detector=detector)
    footage(tmp_path / "twice", builtin, params[:1], rig, unit=2.0)
    with pytest.raises(VultusError, match=r"Scale their positions by 0\.[45]"):
        track(tmp_path / "twice", tmp_path / "b", head=builtin, settings=settings, detector=detector)
    footage(tmp_path / "inverted", builtin, params[:1], rig)
    for name in ("transforms.json", "transforms_train.json", "transforms_val.json"):
        path = tmp_path / "inverted" / name
        content = json.loads(path.read_text())
        for frame in content["frames"]:
            frame["transform_matrix"] = torch.linalg.inv(torch.tensor(frame["transform_matrix"])).tolist()
        path.write_text(json.dumps(content))
    with pytest.raises(VultusError, match="invert"):
        track(tmp_path / "inverted", tmp_path / "c", head=builtin, settings=settings, detector=detector)
    footage(tmp_path / "one", builtin, params[:1], rig[:1])
    with pytest.raises(VultusError, match="one camera"):
        track(tmp_path / "one", tmp_path / "d", head=builtin, settings=settings, detector=detector)
    late = TrackSettings(first=7, photometric=False)
    with pytest.raises(VultusError, match="no picture at timesteps 7"):
        track(folder, tmp_path / "e", head=builtin, settings=late, detector=detector)


@pytest.mark.slow
def test_a_clean_capture_is_tracked_to_less_than_a_millimetre_from_its_pictures_alone(
    builtin: SkinnedHead, tmp_path: Path
) -> None:
    """Of somebody on whom no constant was chosen: mean 0.8 mm when this was written; 4.3 mm from landmarks alone."""
    pytest.importorskip("mediapipe")
    made = SynthSettings(preset="clean", cameras=8, timesteps=6, size=384, seed=5, truth="motion")
    synthesize(tmp_path / "capture", made)
    settings = TrackSettings(hair=False, overlay=False)
    found = track(tmp_path / "capture", tmp_path / "out", head=builtin, settings=settings).motion.params
    true = read_motion(tmp_path / "capture" / "truth" / "motion.npz", builtin).params
    face = builtin.regions["face"]
    a, b = (builtin.pose(params).vertices[:, face] for params in (true, found))
    distance = 1000 * (a - b).norm(dim=-1)
    assert float(distance.median()) < 0.8
    assert float(distance.mean()) < 1.0
