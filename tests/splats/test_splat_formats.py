"""Splat formats: layouts against bytes made by hand, round trips within the stated errors, and coordinate systems."""

import gzip
import json
import math
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from splat_bytes import (
    C0,
    dot_splat,
    glb,
    packed_ply,
    rotation_error,
    smallest_three,
    splat_document,
    spz_file,
    spz_header,
)
from splat_scenes import random_camera, random_gaussians

from vultus.cameras import Camera, look_at
from vultus.errors import VultusError
from vultus.rotations import axis_angle_to_matrix
from vultus.splats import Gaussians, rasterize, read_ply, read_splats, rgb_to_sh0, write_splats
from vultus.splats.formats import SUFFIXES, rdf_to_rub, rub_to_rdf
from vultus.splats.formats.compressed_ply import morton_order
from vultus.splats.formats.spz import fitting_bits
from vultus.splats.sh import evaluate_sh
from vultus.splats.transforms import rotate_sh, transform_gaussians

LOSSLESS = (".ply", ".glb")


def read_bytes(tmp_path, name, content, **options):
    path = tmp_path / name
    path.write_bytes(content)
    return read_splats(path, **options)


def row(gaussians, index=0):
    fields = (gaussians.means, gaussians.rotations, gaussians.scales, gaussians.opacities, gaussians.sh)
    return [field[index].numpy() for field in fields]


# Layouts, by hand


def test_a_dot_splat_made_by_hand_is_understood(tmp_path):
    content = dot_splat((1, 2, 3), (0.1, 0.2, 0.3), (255, 0, 51, 204), (255, 128, 128, 128))
    mean, rotation, scale, opacity, sh = row(read_bytes(tmp_path, "a.splat", content * 2, axes="rub"), 1)
    assert np.allclose(mean, [1, 2, 3])
    assert np.allclose(scale, [0.1, 0.2, 0.3])
    assert opacity == pytest.approx(0.8)
    assert np.allclose(0.5 + C0 * sh[0], [1, 0, 0.2], atol=1e-6)
    assert rotation_error(rotation, [1, 0, 0, 0]) < 0.02


def test_a_dot_splat_is_written_as_published(tmp_path):
    half = math.sqrt(0.5)
    gaussians = Gaussians(
        torch.tensor([[1.0, 2, 3], [4, 5, 6]]),
        torch.tensor([[1.0, 0, 0, 0], [half, 0, -half, 0]]) * 3,
        torch.tensor([[0.1, 0.1, 0.1], [0.2, 0.2, 0.2]]),
        torch.tensor([0.5, 1.0]),
        sh=rgb_to_sh0(torch.tensor([[[0.2, 0.4, 1.5]], [[0.0, -1.0, 1.0]]])),
    )
    written = write_splats(tmp_path / "a.splat", gaussians, axes="rub")
    assert list(written.order) == [1, 0]  # the larger one first
    content = (tmp_path / "a.splat").read_bytes()
    assert len(content) == written.bytes == 64
    assert content[:32] == dot_splat((4, 5, 6), [0.2] * 3, (0, 0, 255, 255), (218, 128, 37, 128))
    assert content[32:] == dot_splat((1, 2, 3), [0.1] * 3, (51, 102, 255, 128), (255, 128, 128, 128))


def spz_sign_magnitude(field):
    return (-1 if field & 512 else 1) * (field & 511) / 511 * math.sqrt(0.5)


def test_an_spz_of_version_3_made_by_hand_is_understood(tmp_path):
    # Largest component 1 (y of x, y, z, w); x = -100, z = 200, w = 300 of 511.
    packed = (1 << 30) | ((512 | 100) << 20) | (200 << 10) | 300
    sh = [128 + i for i in range(9)]
    first = {"position": (4096, -1, -(2**23)), "alpha": [255], "color": [0, 255, 128], "scale": [160, 0, 255],
             "rotation": struct.pack("<I", packed), "sh": sh}  # fmt: skip
    second = {"position": (0, 0, 0), "alpha": [51], "color": [128] * 3, "scale": [100] * 3,
              "rotation": struct.pack("<I", 3 << 30), "sh": [0] * 9}  # fmt: skip
    found = read_bytes(tmp_path, "a.spz", spz_file(3, [first, second], degree=1))
    mean, rotation, scale, opacity, coefficients = row(found)
    assert np.allclose(mean, [1, -1 / 4096, -2048])
    assert np.allclose(np.log(scale), [0, -10, 255 / 16 - 10], atol=1e-5)
    assert opacity == 1
    assert np.allclose(0.15 * coefficients[0] + 0.5, np.array([0, 255, 128]) / 255, atol=1e-6)
    assert np.allclose(coefficients[1:], np.arange(9).reshape(3, 3) / 128)  # red, green, blue of one coefficient
    expected = smallest_three(packed, (1, 2, 3, 0), spz_sign_magnitude)
    assert np.allclose(rotation, expected, atol=1e-6)
    assert expected[1] < 0 < expected[2]
    assert np.allclose(row(found, 1)[1], [1, 0, 0, 0])
    assert np.allclose(row(found, 1)[4][1:], -1)


def test_an_spz_of_version_2_made_by_hand_is_understood(tmp_path):
    splat = {"position": (1 << 18, 0, 0), "alpha": [0], "color": [0] * 3, "scale": [80] * 3, "rotation": [255, 127, 0]}
    splat["rotation"] = [204, 102, 128]
    mean, rotation, _, opacity, _ = row(read_bytes(tmp_path, "a.spz", spz_file(2, [splat], bits=18)))
    assert np.allclose(mean, [1, 0, 0])
    assert opacity == 0
    xyz = np.array([204, 102, 128]) / 127.5 - 1
    assert np.allclose(rotation, [math.sqrt(1 - (xyz**2).sum()), *xyz], atol=1e-6)


@pytest.mark.parametrize("version", [2, 3])
def test_spz_is_written_as_published(tmp_path, version):
    q = np.array([-0.5, 0.1, 0.7, -0.5])  # wxyz, y is the largest
    q /= np.linalg.norm(q)
    gaussians = Gaussians(
        torch.tensor([[0.1, -0.2, 0.3]]), torch.tensor(q[None]).float(), torch.full((1, 3), 0.002),
        torch.tensor([0.5]), sh=torch.tensor([[0.5, -0.5, 4.0], [0.3, -0.3, 3], [0.1, 0, 0], [0, 0, 0]])[None],
    )  # fmt: skip
    written = write_splats(tmp_path / "a.spz", gaussians, spz_version=version, antialiased=True)
    data = gzip.decompress((tmp_path / "a.spz").read_bytes())
    assert data[:16] == spz_header(version, 1, 1, 18, 1)
    assert written.position_error == 2.0**-19
    fixed = [int.from_bytes(data[16 + 3 * i : 19 + 3 * i], "little", signed=True) for i in range(3)]
    assert fixed == [round(v * 2**18) for v in (0.1, -0.2, 0.3)]
    assert data[25] == 128
    assert list(data[26:29]) == [round(255 * (0.15 * c + 0.5)) for c in (0.5, -0.5)] + [255]
    assert list(data[29:32]) == [round(16 * (math.log(0.002) + 10))] * 3
    if version == 2:
        assert list(data[32:35]) == [math.floor(-127.5 * c + 128) for c in q[1:]]  # -q has a positive w
        rest = data[35:]
    else:
        found = smallest_three(int.from_bytes(data[32:36], "little"), (1, 2, 3, 0), spz_sign_magnitude)
        assert rotation_error(found, q) < 0.003
        rest = data[36:]
    assert list(rest) == [168, 88, 255, 144, 128, 128, 128, 128, 128]  # multiples of 8 around 128


def compressed_unorm(field):
    return (field / 1023 - 0.5) * math.sqrt(2)


def test_a_compressed_ply_made_by_hand_is_understood(tmp_path):
    chunk = (-1, 0, 10, 1, 0, 20, -8, -7, -6, -4, -3, -2, 0, 0.5, -1, 1, 1, 3)
    position = (2047 << 21) | (5 << 11) | 1024
    rotation = (2 << 30) | (1000 << 20) | (512 << 10) | 100
    color = (255 << 24) | (0 << 16) | (128 << 8) | 51
    harmonics = [0, 255, 128, *range(6)]
    content = packed_ply([chunk], [(position, rotation, position, color)], [harmonics])
    mean, quaternion, scale, opacity, sh = row(read_bytes(tmp_path, "a.ply", content, axes="rub"))
    assert np.allclose(mean, [1, 0, 10 + 10 * 1024 / 2047])
    assert np.allclose(np.log(scale), [-4, -7 + 4 * 5 / 1023, -6 + 4 * 1024 / 2047], atol=1e-5)
    assert np.allclose(0.5 + C0 * sh[0], [1, 0.5, -1 + 4 * 128 / 255], atol=1e-6)
    assert opacity == pytest.approx(0.2)
    assert np.allclose(quaternion, smallest_three(rotation, (0, 1, 2, 3), compressed_unorm), atol=1e-6)
    # Channel by channel; the outermost bytes are the ends of the range.
    assert np.allclose(sh[1:, 0], [-4, 4, 8 * (128.5 / 256 - 0.5)])
    assert np.allclose(sh[1:, 2], [8 * ((i + 0.5) / 256 - 0.5) for i in (3, 4, 5)])


def test_older_compressed_plys_have_no_bounds_of_colours(tmp_path):
    content = packed_ply([(0, 0, 0, 1, 1, 1, -5, -5, -5, -5, -5, -5)], [(0, 512, 0, 0xFF003380)], chunk_properties=12)
    *_, opacity, sh = row(read_bytes(tmp_path, "a.ply", content))
    assert np.allclose(0.5 + C0 * sh[0], [1, 0, 0.2], atol=1e-6)
    assert opacity == pytest.approx(128 / 255)


def test_a_compressed_ply_is_written_as_published(tmp_path):
    gaussians = random_gaussians(3, count=300, degree=1)
    gaussians = replace(gaussians, rotations=torch.tensor([1.0, 0, 0, 0]).expand(300, 4))
    written = write_splats(tmp_path / "a.compressed.ply", gaussians, axes="rub", metadata={"vultus": '{"ü": 1}'})
    header, body = (tmp_path / "a.compressed.ply").read_bytes().split(b"end_header\n", 1)
    text = header.decode("ascii")
    assert 'comment vultus {"\\u00fc": 1}\n' in text  # still JSON
    assert "element chunk 2\n" in text
    assert "element vertex 300\nproperty uint packed_position\nproperty uint packed_rotation\n" in text
    assert "element sh 300\nproperty uchar f_rest_0\n" in text
    assert len(body) == 2 * 72 + 300 * (16 + 9)
    chunks = np.frombuffer(body, "<f4", 36).reshape(2, 18)
    means = gaussians.means.numpy()[written.order]
    assert np.array_equal(chunks[0, :3], means[:256].min(0))
    assert np.array_equal(chunks[1, 3:6], means[256:].max(0))
    vertices = np.frombuffer(body, "<u4", 1200, 144).reshape(300, 4)
    assert (vertices[:, 1] == (512 << 20 | 512 << 10 | 512)).all()  # w is the largest, the others are zero
    top = vertices[:256][means[:256, 1].argmax(), 0]
    assert (top >> 11) & 1023 == 1023
    assert np.array_equal(vertices[:, 3] & 255, np.floor(255 * gaussians.opacities.numpy()[written.order] + 0.5))
    sh = np.frombuffer(body, "u1", offset=144 + 4800).reshape(300, 9)
    green = gaussians.sh[:, 2, 1].numpy()[written.order]
    assert np.array_equal(sh[:, 4], np.clip(np.trunc((green / 8 + 0.5) * 256), 0, 255))


def test_a_glb_made_by_hand_is_understood_with_its_nodes(tmp_path):
    half = math.sqrt(0.5)
    node = {"translation": [10, 0, 0], "rotation": [0, 0, half, half], "scale": [2, 2, 2]}
    document, binary = splat_document(3, node)
    document["nodes"].append({"children": [0], "matrix": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 5, 1]})
    document["scenes"] = [{"nodes": [1]}]
    found = read_bytes(tmp_path, "a.glb", glb(document, binary))
    mean, rotation, scale, opacity, sh = row(found, 1)
    # (1, 1.5, 1.25) turned by 90 degrees about z, doubled and moved.
    assert np.allclose(mean, [10 - 3, 2, 2.5 + 5], atol=1e-6)
    assert np.allclose(scale, [0.2, 0.4, 0.6])
    assert rotation_error(rotation, [0, half, half, 0]) < 1e-3  # x by 180 degrees, then z by 90
    assert opacity == pytest.approx(0.2)
    assert np.allclose(sh[0], 0.5)


def test_the_nodes_of_a_glb_turn_its_spherical_harmonics(tmp_path):
    gaussians = replace(random_gaussians(5, degree=3), opacities=torch.rand(60) * 0.9)
    write_splats(tmp_path / "a.glb", gaussians)
    content = (tmp_path / "a.glb").read_bytes()
    size = struct.unpack_from("<I", content, 12)[0]
    document = json.loads(content[20 : 20 + size])
    turn = axis_angle_to_matrix(torch.tensor([0.3, -1.1, 0.6]))
    move = torch.eye(4)
    move[:3, :3], move[:3, 3] = turn, torch.tensor([0.1, 0.2, -0.3])
    document["nodes"][0]["matrix"] = move.T.flatten().tolist()
    found = read_bytes(tmp_path, "b.glb", glb(document, content[28 + size :]))
    camera = random_camera(1)
    moved = replace(camera, world_to_camera=camera.world_to_camera @ torch.linalg.inv(move))
    assert torch.allclose(rasterize(found, moved).color, rasterize(gaussians, camera).color, atol=2e-4)


def test_a_glb_is_written_as_published(tmp_path):
    gaussians = random_gaussians(2, count=4, degree=2)
    write_splats(tmp_path / "a.glb", gaussians, metadata={"vultus": "{}"})
    content = (tmp_path / "a.glb").read_bytes()
    magic, version, length, size, kind = struct.unpack_from("<4sIII4s", content)
    assert (magic, version, length, kind) == (b"glTF", 2, len(content), b"JSON")
    document = json.loads(content[20 : 20 + size])
    start = 20 + size
    assert struct.unpack_from("<I4s", content, start) == (len(content) - start - 8, b"BIN\0")
    assert len(content) % 4 == size % 4 == 0
    assert document["asset"]["extras"] == {"vultus": "{}"}
    assert document["extensionsUsed"] == ["KHR_gaussian_splatting"]
    primitive = document["meshes"][0]["primitives"][0]
    assert primitive["mode"] == 0
    assert primitive["extensions"]["KHR_gaussian_splatting"]["colorSpace"] == "srgb_rec709_display"
    binary = content[start + 8 :]

    def values(name):
        accessor = document["accessors"][primitive["attributes"][name]]
        view = document["bufferViews"][accessor["bufferView"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        kind = {5126: "<f4", 5121: "u1"}[accessor["componentType"]]
        return np.frombuffer(binary, kind, 4 * width, view["byteOffset"]).reshape(4, width), accessor

    positions, accessor = values("POSITION")
    assert np.array_equal(positions, gaussians.means.numpy())
    assert np.allclose(accessor["min"], positions.min(0))
    unit = torch.nn.functional.normalize(gaussians.rotations, dim=-1).numpy()
    assert np.allclose(values("KHR_gaussian_splatting:ROTATION")[0], unit[:, [1, 2, 3, 0]], atol=1e-6)
    assert np.array_equal(values("KHR_gaussian_splatting:SCALE")[0], gaussians.scales.numpy())
    assert np.array_equal(values("KHR_gaussian_splatting:OPACITY")[0][:, 0], gaussians.opacities.numpy())
    assert np.array_equal(values("KHR_gaussian_splatting:SH_DEGREE_2_COEF_3")[0], gaussians.sh[:, 7].numpy())
    assert values("COLOR_0")[1]["normalized"] is True


# Round trips


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**20),
    count=st.integers(1, 600),
    degree=st.integers(0, 4),
    size=st.sampled_from([1e-3, 0.3, 4.0, 200.0]),
    thickness=st.sampled_from([1e-3, 1.0, 30.0]),
    suffix=st.sampled_from(SUFFIXES),
    axes=st.sampled_from([None, "rub", "rdf"]),
)
def test_round_trips_stay_within_the_stated_errors(
    tmp_path_factory, seed, count, degree, size, thickness, suffix, axes
):
    scene = random_gaussians(seed, count=count, degree=degree)
    scene = replace(scene, means=scene.means * size, scales=scene.scales * thickness)
    axes = None if suffix in (".spz", ".glb") else axes
    path = tmp_path_factory.mktemp("round") / f"a{suffix}"
    written = write_splats(path, scene, axes=axes)
    assert written.bytes == path.stat().st_size
    assert sorted(written.order) == list(range(scene.count))
    found = read_splats(path, axes=axes)
    order = torch.from_numpy(written.order)
    error = (found.means - scene.means[order]).abs()
    extent = float(scene.means.abs().max())
    assert float(error.max()) <= written.position_error * (1 + 1e-5) + 3e-7 * extent
    expected = {".ply": 0, ".splat": 0, ".glb": 0, ".spz": 0.5 * 2.0 ** -fitting_bits(extent)}
    assert written.position_error == expected.get(suffix, written.position_error)

    unit = torch.nn.functional.normalize(scene.rotations[order], dim=-1)
    # Half a step in three components, doubled at most by what the fourth makes of it, is half an angle. The angle
    # between equal quaternions in float32 is up to 1e-3, because the arc cosine is steep at 1.
    angle = {".compressed.ply": 0.005, ".splat": 0.02, ".spz": 0.005}.get(suffix, 1.5e-3)
    assert rotation_error(found.rotations, unit).max() < angle

    logs, wanted = found.scales.log(), scene.scales[order].log()
    if suffix == ".spz":
        wanted = wanted.clamp(-10, 255 / 16 - 10)
    scale_error = {".compressed.ply": float(wanted.max() - wanted.min()) / 2046, ".spz": 1 / 32}.get(suffix, 0)
    assert float((logs - wanted).abs().max()) <= scale_error + 1e-5

    assert float((found.opacities - scene.opacities[order]).abs().max()) <= (2e-6 if suffix in LOSSLESS else 1 / 509)

    degree = min(scene.active_degree, {".splat": 0, ".glb": 3, ".compressed.ply": 3}.get(suffix, 4))
    assert found.active_degree == written.sh_degree == degree
    sh = scene.sh[order, : (degree + 1) ** 2]
    color, expected_color = 0.5 + C0 * found.sh[:, 0], 0.5 + C0 * sh[:, 0]
    if suffix == ".splat":
        expected_color = expected_color.clamp(0, 1)
    steps = {".compressed.ply": float(expected_color.max() - expected_color.min()), ".splat": 1, ".spz": C0 / 0.15}
    assert float((color - expected_color).abs().max()) <= steps.get(suffix, 0) / 509 + 1e-6
    rest, wanted_rest = found.sh[:, 1:], sh[:, 1:]
    if suffix in LOSSLESS:
        assert torch.equal(rest, wanted_rest)
    elif suffix == ".compressed.ply":
        assert bool(((rest - wanted_rest).abs() <= 1 / 32 + 1e-6).all())
    else:
        inside = (wanted_rest.abs() < 0.9).all(-1).all(-1)
        assert bool(((rest - wanted_rest)[inside].abs() <= 1 / 15).all())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_splats_make_the_same_bytes_and_nothing_else(tmp_path, suffix):
    scene = random_gaussians(0, count=50, degree=1)
    write_splats(tmp_path / f"a{suffix}", scene)
    first = (tmp_path / f"a{suffix}").read_bytes()
    write_splats(tmp_path / f"a{suffix}", scene)
    assert (tmp_path / f"a{suffix}").read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_format_is_known_by_content(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_splats(path, random_gaussians(0, count=20, degree=0))
    other = tmp_path / "b.bin"
    other.write_bytes(path.read_bytes())
    if suffix == ".splat":  # has no signature
        with pytest.raises(VultusError, match=r"b\.bin: is no splat file"):
            read_splats(other)
    else:
        assert read_splats(other).count == 20


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pictures_survive(tmp_path, suffix):
    """Drawn again after a round trip, a scene looks as before: the errors of no field are larger than thought."""
    scene = random_gaussians(4, count=300, degree=0, scale=0.02)
    scene = replace(scene, sh=rgb_to_sh0(torch.rand(300, 1, 3, generator=torch.Generator().manual_seed(0))))
    write_splats(tmp_path / f"a{suffix}", scene)
    camera, background = random_camera(0, 160, 140), torch.ones(3)
    before = rasterize(scene, camera, background).color
    after = rasterize(read_splats(tmp_path / f"a{suffix}"), camera, background).color
    psnr = -10 * float((before - after).square().mean().log10())
    assert psnr > (60 if suffix in LOSSLESS else 38), psnr


def test_only_the_degrees_in_use_are_written(tmp_path):
    scene = replace(random_gaussians(0, degree=3), sh_degree=1)
    assert read_splats(write_splats(tmp_path / "a.ply", scene).path).active_degree == 1
    assert read_splats(write_splats(tmp_path / "b.ply", scene, sh_degree=0).path).active_degree == 0
    assert write_splats(tmp_path / "c.ply", scene, sh_degree=3).sh_degree == 1


# Coordinate systems


def corner(tmp_path, suffix):
    """Where the format puts a splat of Vultus at left 0.1, up 0.2, front 0.3."""
    splat = Gaussians(torch.tensor([[0.1, 0.2, 0.3]]), torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 0.01),
                      torch.tensor([0.5]), sh=torch.zeros(1, 1, 3))  # fmt: skip
    path = tmp_path / f"a{suffix}"
    write_splats(path, splat)
    data = path.read_bytes()
    if suffix == ".ply":
        return read_ply(path).xyz[0]
    if suffix == ".compressed.ply":
        return np.frombuffer(data.split(b"end_header\n", 1)[1], "<f4", 3)
    if suffix == ".splat":
        return np.frombuffer(data, "<f4", 3)
    if suffix == ".spz":
        data = gzip.decompress(data)
        return np.array([int.from_bytes(data[i : i + 3], "little", signed=True) for i in (16, 19, 22)]) / 2 ** data[13]
    size = struct.unpack_from("<I", data, 12)[0]
    return np.array(json.loads(data[20 : 20 + size])["accessors"][0]["min"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_axes_of_files(tmp_path, suffix):
    down = suffix not in (".spz", ".glb")
    assert np.allclose(corner(tmp_path, suffix), [0.1, -0.2, -0.3] if down else [0.1, 0.2, 0.3], atol=1e-5)
    scene = random_gaussians(1, count=5, degree=1)
    if down:
        write_splats(tmp_path / f"b{suffix}", scene, axes="rub")
        found = read_splats(tmp_path / f"b{suffix}", axes="rub")
        turned = read_splats(tmp_path / f"b{suffix}")
        assert torch.allclose(found.means[:, 1], -turned.means[:, 1])
    else:
        with pytest.raises(VultusError, match="the axes rub, not rdf"):
            write_splats(tmp_path / f"b{suffix}", scene, axes="rdf")
        with pytest.raises(VultusError, match="the axes rub, not rdf"):
            read_splats(tmp_path / f"a{suffix}", axes="rdf")


def test_rub_to_rdf_and_back(tmp_path):
    scene = random_gaussians(7, degree=4)
    turned = rub_to_rdf(scene)
    back = rdf_to_rub(turned)
    for name in ("means", "scales", "opacities", "sh"):
        assert torch.equal(getattr(back, name), getattr(scene, name)), name
    assert torch.equal(turned.means, scene.means * torch.tensor([1.0, -1, -1]))
    assert torch.equal(turned.sh.abs(), scene.sh.abs())  # only signs change


def test_a_scene_in_other_axes_looks_the_same_from_a_camera_in_them():
    scene = random_gaussians(8, degree=3, dtype=torch.float64)
    camera = random_camera(2, dtype=torch.float64)
    half_turn = torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=torch.float64))
    seen = rasterize(rub_to_rdf(scene), replace(camera, world_to_camera=camera.world_to_camera @ half_turn)).color
    assert torch.allclose(seen, rasterize(scene, camera).color, atol=1e-9)


@settings(deadline=None, max_examples=20)
@given(angles=st.tuples(*[st.floats(-3, 3)] * 3), degree=st.integers(0, 4), seed=st.integers(0, 100))
def test_rotated_spherical_harmonics_are_the_rotated_function(angles, degree, seed):
    g = torch.Generator().manual_seed(seed)
    turn = axis_angle_to_matrix(torch.tensor(angles, dtype=torch.float64))
    coefficients = torch.randn((degree + 1) ** 2, 3, generator=g, dtype=torch.float64)
    directions = torch.nn.functional.normalize(torch.randn(20, 3, generator=g, dtype=torch.float64), dim=-1)
    rotated = rotate_sh(coefficients, turn)
    assert torch.allclose(
        evaluate_sh(directions @ turn.T, rotated, degree), evaluate_sh(directions, coefficients, degree), atol=1e-10
    )


def test_a_scene_that_moves_with_its_camera_looks_the_same():
    scene = random_gaussians(9, degree=2)
    turn, shift = axis_angle_to_matrix(torch.tensor([0.4, 1.0, -0.2])), torch.tensor([0.5, -0.2, 0.1])
    moved = transform_gaussians(scene, turn, scale=2.0, translation=shift)
    eye = torch.tensor([0.2, 0.3, 1.5])
    K = torch.tensor([[60.0, 0, 30], [0, 60, 25], [0, 0, 1]])
    camera = Camera(look_at(eye, torch.zeros(3)), K, 60, 50)
    pose = torch.eye(4)
    pose[:3, :3] = camera.world_to_camera[:3, :3] @ turn.T
    pose[:3, 3] = 2 * camera.world_to_camera[:3, 3] - pose[:3, :3] @ shift
    assert torch.allclose(
        rasterize(moved, replace(camera, world_to_camera=pose)).color, rasterize(scene, camera).color, atol=1e-4
    )


# Resolution


def test_spz_takes_as_many_fractional_bits_as_fit():
    assert fitting_bits(0.3) == 18
    assert fitting_bits(31.99) == 18
    assert fitting_bits(33) == 17
    assert fitting_bits(2047) == 12
    assert fitting_bits(5e6) == 0


def test_morton_order_keeps_neighbours_together():
    grid = np.stack(np.meshgrid(*[np.arange(8)] * 3, indexing="ij"), -1).reshape(-1, 3).astype(np.float32)
    shuffled = np.random.default_rng(0).permutation(grid)
    ordered = shuffled[morton_order(shuffled)].reshape(64, 8, 3)
    assert (np.ptp(ordered, axis=1) == 1).all()  # every eight in a row are one cube of 2 × 2 × 2
    assert sorted(morton_order(np.zeros((5, 3), np.float32))) == [0, 1, 2, 3, 4]
