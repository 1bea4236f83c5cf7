"""The viewer without a browser: a real server, its controls moved, what it would draw looked at."""

import math
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_avatar import synthetic_avatar

from vultus.animation import Driver
from vultus.animation.builtin_motions import EXPRESSIONS, expressions, talking
from vultus.animation.paths import head_center
from vultus.avatars.rigged import RiggedAvatar
from vultus.cameras import Camera
from vultus.captures import CaptureWriter, write_motion
from vultus.cli import run
from vultus.errors import VultusError
from vultus.heads.arkit import arkit_to_params
from vultus.motion import Motion
from vultus.splats import Gaussians, rgb_to_sh0
from vultus.viewer import AvatarViewer
from vultus.viewer.controls import controls_of, posed
from vultus.viewer.server import open_server
from vultus.viewer.stage import SCALE, browser_camera, modes_of, render, splat_arrays


@pytest.fixture(scope="module")
def avatar() -> RiggedAvatar:
    return synthetic_avatar(size=64)


@pytest.fixture(scope="module")
def viewer(avatar: RiggedAvatar) -> Iterator[AvatarViewer]:
    viewer = AvatarViewer(avatar, port=0)
    yield viewer
    viewer.close()


@pytest.fixture(autouse=True)
def _from_rest(request: pytest.FixtureRequest) -> None:
    if "viewer" in request.fixturenames:
        viewer = request.getfixturevalue("viewer")
        viewer.panel.reset()
        viewer.panel.find("")
        viewer.choose_motion("none")
        viewer.mode.value = "splats"


def wait_for(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def move(viewer: AvatarViewer, name: str, value: float) -> None:
    control = next(control for control in viewer.panel.controls if control.name == name)
    viewer.panel.sliders[control].value = value


def test_every_part_of_the_head_has_a_slider(avatar: RiggedAvatar) -> None:
    controls = controls_of(avatar.head)
    names = {control.name for control in controls}
    assert set(avatar.head.expression_names) <= names
    assert {"jaw open", "neck turn", "neck nod", "gaze sideways"} <= names
    assert len({(control.group, control.label) for control in controls}) == len(controls)
    assert {"smile L", "smile R", "left", "right"} <= {c.label for c in controls if c.group == "Mouth"}


def test_sliders_pose_the_head(avatar: RiggedAvatar) -> None:
    controls = {control.name: control for control in controls_of(avatar.head)}
    base = arkit_to_params(avatar.head, {"browInnerUp": 0.2})
    params = posed(base, {controls["mouthSmileLeft"]: 0.5, controls["jaw open"]: 0.3, controls["gaze sideways"]: 0.4})
    names = avatar.head.expression_names
    assert float(params.expression[names.index("mouthSmileLeft")]) == pytest.approx(0.5)
    assert float(params.expression[names.index("browInnerUp")]) == pytest.approx(0.2)
    assert params.joints["jaw"].tolist() == pytest.approx([0.3, 0, 0], abs=1e-6)
    assert params.joints["left_eye"].tolist() == pytest.approx([0, 0.4, 0], abs=1e-6)
    assert params.joints["right_eye"].tolist() == pytest.approx([0, 0.4, 0], abs=1e-6)
    assert not base.joints["jaw"].any()


def test_moving_a_slider_draws(viewer: AvatarViewer) -> None:
    wait_for(lambda: viewer.frames_drawn > 0)
    before, centers = viewer.frames_drawn, viewer.stage._splats.centers.copy()
    move(viewer, "jaw open", 0.4)
    wait_for(lambda: viewer.frames_drawn > before)
    wait_for(lambda: np.abs(viewer.stage._splats.centers - centers).max() > 0.02 * SCALE * 0.5)
    assert float(viewer.params().joints["jaw"][0]) == pytest.approx(0.4)


def test_both_sides_and_search_and_reset(viewer: AvatarViewer) -> None:
    names = viewer.avatar.head.expression_names
    left, right = names.index("mouthSmileLeft"), names.index("mouthSmileRight")
    move(viewer, "mouthSmileLeft", 0.6)
    wait_for(lambda: float(viewer.params().expression[right]) == pytest.approx(0.6))
    viewer.panel.both_sides.value = False
    move(viewer, "mouthSmileLeft", 0.1)
    time.sleep(0.1)
    assert float(viewer.params().expression[left]) == pytest.approx(0.1)
    assert float(viewer.params().expression[right]) == pytest.approx(0.6)
    viewer.panel.both_sides.value = True
    viewer.panel.find("brow")
    shown = {control.name for control, slider in viewer.panel.sliders.items() if slider.visible}
    assert shown == {name for name in names if "brow" in name.lower()}
    viewer.panel.reset()
    assert not viewer.params().expression.any()


@pytest.mark.parametrize("name", ["wink", "surprise", "look left"])
def test_expressions_move_the_sliders(viewer: AvatarViewer, name: str) -> None:
    viewer.panel.choose(name)
    expected = arkit_to_params(viewer.avatar.head, EXPRESSIONS[name])
    torch.testing.assert_close(viewer.params().expression, expected.expression, atol=0.011, rtol=0)
    torch.testing.assert_close(viewer.params().joints["jaw"], expected.joints["jaw"], atol=0.011, rtol=0)
    viewer.panel.choose("rest")
    assert not viewer.params().expression.any()


def test_motions_play_pause_and_seek(viewer: AvatarViewer) -> None:
    viewer.choose_motion("builtin:expressions")
    assert viewer.playing.value
    wait_for(lambda: int(viewer.timeline.value) > 2)
    viewer.playing.value = False
    time.sleep(0.3)
    stopped = int(viewer.timeline.value)
    time.sleep(0.3)
    assert int(viewer.timeline.value) == stopped
    viewer.timeline.value = 14  # the middle of the smile
    names = viewer.avatar.head.expression_names
    wait_for(lambda: float(viewer.params().expression[names.index("mouthSmileLeft")]) > 0.7)
    move(viewer, "tongueOut", 0.5)  # sliders come on top of the motion
    assert float(viewer.params().expression[names.index("tongueOut")]) == pytest.approx(0.5)
    assert float(viewer.params().expression[names.index("mouthSmileLeft")]) > 0.7


def test_motion_files_are_loaded_and_bad_ones_explained(viewer: AvatarViewer, tmp_path) -> None:
    motion = expressions(viewer.avatar.head, names=["kiss"])
    write_motion(tmp_path / "mine.npz", motion, viewer.avatar.head)
    viewer.load_motion(str(tmp_path / "mine.npz"))
    assert "Loaded mine.npz" in viewer.message.content
    wait_for(lambda: viewer.motion_choice.value == "mine.npz" and viewer.timeline.max == len(motion) - 1)
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    for name in ("bad.npz", "absent.npz", "clip.mp4"):
        viewer.load_motion(str(tmp_path / name))
        assert viewer.message.content.startswith("**Not loaded:**")


def test_the_other_ways_of_showing(viewer: AvatarViewer) -> None:
    assert modes_of(viewer.avatar) == ("splats", "frames", "mesh")
    viewer.mode.value = "mesh"
    wait_for(lambda: viewer.stage._mesh is not None and viewer.stage._mesh.visible)
    wait_for(lambda: not viewer.stage._splats.visible)
    before = viewer.stage._mesh.vertices.copy()
    move(viewer, "neck turn", 0.5)
    wait_for(lambda: np.abs(viewer.stage._mesh.vertices - before).max() > 0.02 * SCALE)
    viewer.mode.value = "frames"
    wait_for(lambda: not viewer.stage._mesh.visible)


def test_avatars_that_are_no_splats_are_streamed(avatar: RiggedAvatar) -> None:
    class Pictures:
        """A renderer without Gaussians, as a tri-plane generator is one."""

        kind, head, rest, view, native_background = "pictures", avatar.head, avatar.rest, avatar.view, None
        controls = frozenset({"expression"})

        def render(self, *arguments, **options):
            return avatar.render(*arguments, **options)

        def save(self, folder) -> None: ...

    assert modes_of(Pictures()) == ("frames", "mesh")  # type: ignore[arg-type]
    viewer = AvatarViewer(Pictures(), port=0)  # type: ignore[arg-type]
    try:
        wait_for(lambda: viewer.frames_drawn > 0)
        assert viewer.stage._splats is None
    finally:
        viewer.close()


def test_splats_for_the_browser() -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(5, 3, generator=generator)
    colors = torch.rand(5, 3, generator=generator)
    gaussians = Gaussians(
        means=means,
        rotations=torch.tensor([1.0, 0, 0, 0]).repeat(5, 1),
        scales=torch.tensor([0.001, 0.002, 0.003]).repeat(5, 1),
        opacities=torch.full((5,), 0.5),
        sh=rgb_to_sh0(colors)[:, None],
    )
    centers, covariances, rgb, opacities = splat_arrays(gaussians, torch.zeros(3))
    np.testing.assert_allclose(centers, means * SCALE, rtol=1e-6)
    np.testing.assert_allclose(rgb, colors, atol=1e-6)
    assert opacities.shape == (5, 1)
    # What half precision keeps of them is within a percent.
    diagonal = covariances.astype(np.float16).astype(float)[:, [0, 1, 2], [0, 1, 2]]
    np.testing.assert_allclose(diagonal, (np.array([0.001, 0.002, 0.003]) * SCALE)[None].repeat(5, 0) ** 2, rtol=0.01)


def test_the_browsers_camera_is_the_avatars_camera(avatar: RiggedAvatar) -> None:
    """Where browsers start they see what the avatar's own camera sees."""
    from vultus.rotations import matrix_to_quaternion

    view = avatar.view
    wxyz = matrix_to_quaternion(view.world_to_camera[:3, :3].T)
    fov = 2 * math.atan(view.height / 2 / float(view.K[1, 1]))
    camera = browser_camera((view.center * SCALE).numpy(), wxyz.numpy(), fov, view.width, view.height)
    torch.testing.assert_close(camera.world_to_camera, view.world_to_camera, atol=1e-5, rtol=0)
    torch.testing.assert_close(camera.K, view.K, atol=1e-3, rtol=0)
    picture = render(avatar, avatar.rest, camera, (255, 0, 0))
    assert picture.shape == (64, 64, 3)
    assert (picture[0, 0] == [255, 0, 0]).all()


def test_home_is_the_avatars_camera(viewer: AvatarViewer) -> None:
    home, view = viewer.server.initial_camera, viewer.avatar.view
    np.testing.assert_allclose(home.position, view.center * SCALE, atol=1e-5)
    np.testing.assert_allclose(home.up, [0, 1, 0], atol=0.02)
    np.testing.assert_allclose(home.look_at, viewer.stage.center * SCALE, atol=1e-5)


def test_browsers_start_with_the_head_in_the_middle(avatar: RiggedAvatar, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the avatar's camera saw it at the side: in a crop, whose principal point lies elsewhere."""
    view = avatar.view
    moved = view.world_to_camera.clone()
    moved[:3, 3] += torch.tensor([0.1, -0.2, 0.0])
    off = Camera(moved, view.K, view.width, view.height)
    assert not 0.2 < float(off.project(head_center(avatar.head, avatar.rest)[None])[0, 1]) / view.height < 0.8
    monkeypatch.setattr(avatar, "view", off)
    viewer = AvatarViewer(avatar, port=0)
    try:
        home = viewer.server.initial_camera
        np.testing.assert_allclose(home.position, off.center * SCALE, atol=1e-5)
        np.testing.assert_allclose(home.look_at, head_center(avatar.head, avatar.rest) * SCALE, atol=1e-5)
    finally:
        viewer.close()


def test_addresses(viewer: AvatarViewer) -> None:
    assert viewer.url.startswith("http://127.0.0.1:")
    taken = viewer.server.get_port()
    with pytest.raises(VultusError, match=f"port {taken} of 127.0.0.1 is taken"):
        open_server("127.0.0.1", taken, "second")
    with pytest.raises(VultusError, match="cannot listen"):
        open_server("203.0.113.7", 8080, "nowhere")
    with pytest.raises(VultusError, match="port is 99999"):
        open_server("127.0.0.1", 99999, "nowhere")


def test_given_motions_are_offered(avatar: RiggedAvatar) -> None:
    motion = Driver("x", talking(avatar.head, seconds=0.4)).motion
    viewer = AvatarViewer(avatar, port=0, motions={"hello": motion})
    try:
        assert "hello" in viewer.motion_choice.options
        viewer.choose_motion("hello")
        assert viewer.timeline.max == 9
    finally:
        viewer.close()


@pytest.mark.parametrize("command", ["view", "train"])
def test_a_taken_port_is_one_line(
    command: str, avatar: RiggedAvatar, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    avatar.save(tmp_path / "avatar")
    with CaptureWriter(tmp_path / "capture", head=avatar.head, fps=25.0) as writer:
        writer.add_image(0, 0, torch.ones(8, 8, 3), torch.ones(8, 8, 1))
        writer.set_camera(0, avatar.view.resized(8, 8))
        writer.set_motion(Motion(avatar.head.neutral(1), torch.zeros(1), avatar.head.neutral()))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        words = {
            "view": ["view", str(tmp_path / "avatar"), "--port", port],
            "train": ["train", "rigged", str(tmp_path / "capture"), "-o", str(tmp_path / "run"), "--view", port],
        }
        assert run(words[command]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: port {port} of 127.0.0.1 is taken by another program, perhaps another viewer. End that program or "
        "choose another port; 0 takes any free one"
    ]
    assert not (tmp_path / "run").exists()
