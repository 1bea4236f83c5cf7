"""An avatar as a splat file: posed as asked, looking as the avatar does, and honest about its origin."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from synthetic_avatar import synthetic_avatar

from vultus.animation import Driver, Retargeting, retarget_motion
from vultus.animation.builtin_motions import expressions
from vultus.avatars import Avatar
from vultus.avatars.rigged import RiggedAvatar
from vultus.cli import run
from vultus.errors import VultusError
from vultus.exports import export_splats
from vultus.exports.provenance import avatar_id
from vultus.splats import VULTUS, rasterize, read_ply, read_splats
from vultus.splats.formats import SUFFIXES


@pytest.fixture(scope="module")
def avatar() -> RiggedAvatar:
    return synthetic_avatar(size=64, identity_seed=1)


@pytest.fixture(scope="module")
def driver(avatar: RiggedAvatar) -> Driver:
    return Driver("builtin:open", expressions(avatar.head, names=["open"], seconds_each=0.4, fps=25.0))


@pytest.fixture(scope="module")
def folder(avatar: RiggedAvatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "avatar"
    avatar.save(path)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_file_looks_like_the_avatar_at_rest(avatar: RiggedAvatar, tmp_path: Path, suffix: str) -> None:
    written = export_splats(avatar, tmp_path / f"head{suffix}")
    assert len(written.order) == avatar.count
    white = torch.ones(3)
    with torch.no_grad():
        wanted = avatar.render(avatar.rest, avatar.view, background=white).color
    found = rasterize(read_splats(written.path), avatar.view, white, avatar.raster).color
    assert float((found - wanted).square().mean()) < 1e-4


def test_the_head_is_upright_for_programs_that_expect_y_down(avatar: RiggedAvatar, tmp_path: Path) -> None:
    with torch.no_grad():
        means = avatar.gaussians(avatar.rest).means
    for name, axes, sign in (("a.ply", None, -1), ("b.ply", "rub", 1), ("c.ply", "rdf", -1)):
        stored = torch.from_numpy(read_ply(export_splats(avatar, tmp_path / name, axes=axes).path).xyz)
        assert torch.allclose(stored, means * torch.tensor([1.0, sign, sign]), atol=1e-6)


def test_a_driver_poses_it_at_the_nearest_instant(avatar: RiggedAvatar, driver: Driver, tmp_path: Path) -> None:
    motion = retarget_motion(driver.motion, avatar.head, avatar.rest)
    for at, row in ((0.0, 0), (0.21, 5), (0.2, 5), (0.36, 9)):
        with torch.no_grad():
            wanted = avatar.gaussians(motion.params[row]).means
        found = read_splats(export_splats(avatar, tmp_path / "a.glb", driver=driver, at=at).path)
        assert torch.allclose(found.means, wanted, atol=1e-6)
    late = Driver("late", replace(driver.motion, times=driver.motion.times + 100))  # seconds count from the start
    again = read_splats(export_splats(avatar, tmp_path / "b.glb", driver=late, at=0.2).path)
    posed = read_splats(export_splats(avatar, tmp_path / "a.glb", driver=driver, at=0.2).path)
    assert torch.allclose(again.means, posed.means, atol=1e-5)
    calm = export_splats(avatar, tmp_path / "c.glb", driver=driver, at=0.2, retargeting=Retargeting(expression_gain=0))
    rest = read_splats(export_splats(avatar, tmp_path / "d.glb").path)
    jaw = (posed.means - rest.means).norm(dim=-1).max()
    assert float(jaw) > 0.01
    assert float((read_splats(calm.path).means - posed.means).norm(dim=-1).max()) > 1e-4


@pytest.mark.parametrize("at", [-0.1, 9.0, float("nan")])
def test_an_instant_that_the_driver_does_not_have(
    avatar: RiggedAvatar, driver: Driver, tmp_path: Path, at: float
) -> None:
    with pytest.raises(VultusError, match=r"builtin:open: there is no instant at .* it lasts from 0 to 0\.36 s"):
        export_splats(avatar, tmp_path / "a.ply", driver=driver, at=at)
    assert list(tmp_path.iterdir()) == []


def test_avatars_without_coloured_splats_are_refused(avatar: RiggedAvatar, tmp_path: Path) -> None:
    class Features(RiggedAvatar):
        appearance = "features"

    other = Features(avatar.head, avatar.rest, avatar.view, avatar.splats())
    with pytest.raises(VultusError, match="vultus animate"):
        export_splats(other, tmp_path / "a.ply")

    class Planes:
        kind, head, rest, view = "generative", avatar.head, avatar.rest, avatar.view
        native_background, controls = None, frozenset()
        vertices, render, save = avatar.vertices, avatar.render, avatar.save

    assert isinstance(Planes(), Avatar)
    with pytest.raises(VultusError, match="kind generative has no splats"):
        export_splats(Planes(), tmp_path / "a.ply")


def test_files_say_where_they_come_from(avatar: RiggedAvatar, driver: Driver, tmp_path: Path) -> None:
    for suffix in (".ply", ".compressed.ply"):
        path = export_splats(avatar, tmp_path / f"a{suffix}", driver=driver).path
        lines = path.read_bytes().split(b"end_header")[0].decode("ascii").splitlines()
        about = json.loads(next(line for line in lines if line.startswith("comment vultus "))[15:])
        assert about["synthetic"] is True
        assert about["avatar"]["id"] == avatar_id(avatar)
        assert about["driver"]["name"] == "builtin:open"
    content = export_splats(avatar, tmp_path / "a.glb").path.read_bytes()
    document = json.loads(content[20 : 20 + struct.unpack_from("<I", content, 12)[0]])
    assert json.loads(document["asset"]["extras"]["vultus"])["avatar"]["kind"] == "rigged"


def test_antialiased_avatars_say_so_in_spz(avatar: RiggedAvatar, tmp_path: Path) -> None:
    import gzip

    for antialiased in (False, True):
        made = RiggedAvatar(avatar.head, avatar.rest, avatar.view, avatar.splats(),
                            raster=replace(VULTUS, antialiased=antialiased))  # fmt: skip
        data = gzip.decompress(export_splats(made, tmp_path / "a.spz").path.read_bytes())
        assert data[14] == antialiased


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(folder), "-o", str(tmp_path / "rest.spz")]) == 0
    printed = capsys.readouterr().out
    assert str(tmp_path / "rest.spz") in printed
    assert "within 0.0019 mm" in printed
    arguments = ["-d", "builtin:expressions", "--at", "0.6", "--axes", "rub", "--sh-degree", "0"]
    assert run(["export", str(folder), "-o", str(tmp_path / "smile.ply"), *arguments]) == 0
    assert "as float32" in capsys.readouterr().out
    assert read_splats(tmp_path / "smile.ply", axes="rub").count == read_splats(tmp_path / "rest.spz").count


def test_the_command_refuses_in_one_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, text in (
        (["-o", str(tmp_path / "a.obj")], "no splat format has this ending"),
        (["-o", str(tmp_path / "a.spz"), "--axes", "rdf"], "have the axes rub"),
        (["-o", str(tmp_path / "a.ply"), "--driver", "builtin:dance"], "there is no such motion"),
        (["-o", str(tmp_path / "a.ply"), "--driver", "builtin:turn", "--at", "999"], "no instant at 999 s"),
    ):
        assert run(["export", str(folder), *arguments]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ")
        assert text in error
    assert list(tmp_path.iterdir()) == []
