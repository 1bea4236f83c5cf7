"""Splat files: what is written is read back, the layout is the published one, and broken files are explained."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from splat_scenes import random_gaussians

from vultus.errors import VultusError
from vultus.splats import Gaussians, read_ply, write_ply
from vultus.splats.formats.ply import StoredSplats, property_names


def random_splats(n=7, rest=15, bound=True):
    r = np.random.default_rng(0)

    def normal(*shape):
        return r.standard_normal(shape).astype(np.float32)

    binding = r.integers(0, 10144, n).astype(np.int32) if bound else None
    return StoredSplats(
        normal(n, 3), normal(n, 1, 3), normal(n, rest, 3), normal(n, 1), normal(n, 3), normal(n, 4), binding,
        ("made by a test",),
    )  # fmt: skip


@pytest.mark.parametrize("rest", [0, 3, 8, 15, 24])
@pytest.mark.parametrize("bound", [False, True])
def test_round_trip(tmp_path, rest, bound):
    splats = random_splats(rest=rest, bound=bound)
    path = tmp_path / "splats.ply"
    write_ply(path, splats)
    again = read_ply(path)
    for name in ("xyz", "f_dc", "f_rest", "opacity", "scaling", "rotation"):
        assert np.array_equal(getattr(again, name), getattr(splats, name)), name
    assert again.comments == ("made by a test",)
    if bound:
        assert np.array_equal(again.binding, splats.binding)
    else:
        assert again.binding is None
    assert [p.name for p in tmp_path.iterdir()] == ["splats.ply"]


def test_layout_is_the_published_one(tmp_path):
    splats = random_splats()
    write_ply(tmp_path / "a.ply", splats)
    data = (tmp_path / "a.ply").read_bytes()
    header, body = data.split(b"end_header\n", 1)
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    names = [line.split()[2] for line in lines if line.startswith("property float ")]
    assert names == property_names(15, bound=True)
    assert len(names) == 63
    table = np.frombuffer(body, "<f4").reshape(7, 63)
    column = {name: table[:, i] for i, name in enumerate(names)}
    assert np.array_equal(column["f_rest_16"], splats.f_rest[:, 1, 1])  # channel by channel: green starts at 15
    assert np.array_equal(column["binding_0"], splats.binding.astype(np.float32))
    assert np.array_equal(column["nx"], np.zeros(7))


def test_properties_are_found_by_name(tmp_path):
    splats = random_splats(rest=0, bound=False)
    names = ["rot_0", "rot_1", "rot_2", "rot_3", "confidence", "opacity", "x", "y", "z"]
    names += ["f_dc_0", "f_dc_1", "f_dc_2", "scale_0", "scale_1", "scale_2"]
    record = np.zeros(7, dtype=[(n, ">f8" if n in "xyz" else ">u2" if n == "confidence" else ">f4") for n in names])
    for i, n in enumerate("xyz"):
        record[n] = splats.xyz[:, i]
        record[f"f_dc_{i}"] = splats.f_dc[:, 0, i]
        record[f"scale_{i}"] = splats.scaling[:, i]
    for i in range(4):
        record[f"rot_{i}"] = splats.rotation[:, i]
    record["opacity"] = splats.opacity[:, 0]
    kinds = {"f8": "double", "f4": "float", "u2": "ushort"}
    lines = ["ply", "format binary_big_endian 1.0", "element camera 2", "property int id", "element vertex 7"]
    lines += [f"property {kinds[record.dtype[n].str[1:]]} {n}" for n in names] + ["end_header", ""]
    path = tmp_path / "other.ply"
    path.write_bytes(
        "\r\n".join(lines).encode().replace(b"end_header\r\n", b"end_header\n") + bytes(8) + record.tobytes()
    )
    again = read_ply(path)
    assert np.array_equal(again.xyz, splats.xyz)
    assert np.array_equal(again.rotation, splats.rotation)
    assert again.f_rest.shape == (7, 0, 3)


def test_activation_and_back(tmp_path):
    gaussians = random_gaussians(1, degree=2)
    write_ply(tmp_path / "g.ply", StoredSplats.from_gaussians(gaussians))
    again = read_ply(tmp_path / "g.ply").activated()
    assert torch.equal(again.means, gaussians.means)
    assert torch.equal(again.sh, gaussians.sh)
    assert torch.allclose(again.scales, gaussians.scales, rtol=1e-5)
    assert torch.allclose(again.opacities, gaussians.opacities, atol=1e-5)
    unit = torch.nn.functional.normalize(gaussians.rotations, dim=-1)
    assert torch.allclose(again.rotations, unit, atol=1e-6)
    extreme = Gaussians(torch.zeros(2, 3), torch.ones(2, 4), torch.zeros(2, 3), torch.tensor([0.0, 1.0]),
                        sh=torch.zeros(2, 1, 3))  # fmt: skip
    stored = StoredSplats.from_gaussians(extreme)
    assert np.isfinite(stored.opacity).all()
    assert np.isfinite(stored.scaling).all()
    with pytest.raises(VultusError, match="spherical harmonics"):
        StoredSplats.from_gaussians(random_gaussians(1))


def good_bytes(tmp_path):
    write_ply(tmp_path / "good.ply", random_splats())
    return (tmp_path / "good.ply").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: b"", "no PLY header"),
        (lambda d: b"hello" + d, "no PLY header"),
        (lambda d: d[:-5], "cut off"),
        (lambda d: d.replace(b"vertex 7", b"vertex 99999999999"), "cut off"),
        (lambda d: d.replace(b"vertex 7", b"vertex 9999999999999999999999"), "not understood"),
        (lambda d: d.replace(b"vertex 7", b"vertex -1"), "not understood"),
        (lambda d: d.replace(b"binary_little_endian", b"ascii"), "format 'ascii'"),
        (lambda d: d.replace(b"property float opacity", b"property float opacitY"), "no opacity"),
        (lambda d: d.replace(b"property float f_rest_44", b"property float other_44"), "44 properties"),
        (lambda d: d.replace(b"property float y", b"property float x"), "repeated"),
        (lambda d: d.replace(b"property float nx", b"property list uchar int nx"), "list"),
        (lambda d: d.replace(b"element vertex", b"element splat"), "no element 'vertex'"),
        (lambda d: d.replace(b"property float nx", b"property quaternion nx"), "not understood"),
        (lambda d: d.replace(b"float opacity", b"float packed_position"), "PlayCanvas"),
        (lambda d: d[:-4] + np.float32(np.nan).tobytes(), "not finite"),
        (lambda d: d[:-4] + np.float32(0.5).tobytes(), "triangle indices"),
        (lambda d: b"ply\n" + b"comment x\n" * 10000 + d[4:], "no PLY header"),
    ],
)
def test_broken_files_are_explained(tmp_path, change, message):
    path = tmp_path / "bad.ply"
    path.write_bytes(change(good_bytes(tmp_path)))
    with pytest.raises(VultusError, match=message) as raised:
        read_ply(path)
    assert "bad.ply" in str(raised.value)


def test_missing_files_and_folders_are_explained(tmp_path):
    with pytest.raises(VultusError, match=r"absent\.ply"):
        read_ply(tmp_path / "absent.ply")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(VultusError, match=r"a\.ply"):
        write_ply(tmp_path / "file" / "a.ply", random_splats())
    too_large = replace(random_splats(), binding=np.full(7, 2**24))
    with pytest.raises(VultusError, match="triangle indices"):
        write_ply(tmp_path / "a.ply", too_large)
