"""Splat files from strangers: cut off, damaged, dishonest. Every one is refused with its name, or read as splats."""

import gzip
import json
import struct
import time
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from splat_bytes import dot_splat, glb, packed_ply, splat_document, spz_file, spz_header
from splat_scenes import random_gaussians

from vultus.errors import VultusError
from vultus.splats import Gaussians, read_splats, write_splats
from vultus.splats.formats import SUFFIXES

NAN, INF = float("nan"), float("inf")
SPLAT = {"position": (0, 0, 0), "alpha": [1], "color": [1] * 3, "scale": [99] * 3, "rotation": [0, 0, 0, 192]}
CHUNK = (0, 0, 0, 1, 1, 1, -5, -5, -5, -4, -4, -4, 0, 0, 0, 1, 1, 1)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    return {
        suffix: write_splats(folder / f"a{suffix}", random_gaussians(0, count=270, degree=1)).path.read_bytes()
        for suffix in SUFFIXES
    }


def refused(tmp_path, content, match, name="bad.bin"):
    path = tmp_path / name
    path.write_bytes(content)
    started = time.process_time()  # of this process: others may be busy
    with pytest.raises(VultusError, match=match) as raised:
        read_splats(path)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)
    assert time.process_time() - started < 5


def changed_document(change):
    document, binary = splat_document(3)
    change(document)
    return glb(document, binary)


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), suffix=st.sampled_from(SUFFIXES))
def test_damaged_files_are_refused_or_read_as_splats(tmp_path, good, data, suffix):
    content = bytearray(good[suffix])
    if suffix == ".spz" and data.draw(st.booleans(), label="inside"):
        content = bytearray(gzip.decompress(content))  # damage what gzip's checksum protects
        inside = True
    else:
        inside = False
    header = data.draw(st.booleans(), label="header")
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, min(len(content), 900) - 1 if header else len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    content = bytes(content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(gzip.compress(content, mtime=0) if inside else content)
    try:
        found = read_splats(path)
    except VultusError as error:
        assert path.name in str(error)  # noqa: PT017 - not raising is right, too
    else:
        assert found.count > 0
        for tensor in (found.means, found.rotations, found.scales, found.opacities, found.sh):
            assert bool(tensor.isfinite().all())
        assert bool((found.scales >= 0).all())
        assert float(found.opacities.min()) >= 0
        assert float(found.opacities.max()) <= 1


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=300),
    start=st.sampled_from([b"", b"ply\n", b"glTF", b"\x1f\x8b", b"NGSP"]),
    suffix=st.sampled_from([".splat", ".bin"]),
)
def test_noise_is_refused_or_read_as_splats(tmp_path, content, start, suffix):
    path = tmp_path / f"noise{suffix}"
    path.write_bytes(start + content)
    try:
        assert read_splats(path).count > 0
    except VultusError as error:
        assert path.name in str(error)  # noqa: PT017 - not raising is right, too


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_files_that_are_cut_off(tmp_path, good, suffix, share):
    content = good[suffix]
    length = int(len(content) * share)
    length -= suffix == ".splat" and length % 32 == 0  # otherwise it is a whole, shorter file
    refused(tmp_path, content[: max(length, 0)], "cut off|no splat file|too few|no PLY header|no whole number|gzip",
            f"bad{suffix}")  # fmt: skip


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (dot_splat((NAN, 0, 0), (1, 1, 1), [9] * 4, [0] * 4), "position that is not finite"),
        (dot_splat((0, 0, 0), (1, INF, 1), [9] * 4, [0] * 4), "scale that is not finite"),
        (dot_splat((0, 0, 0), (1, 1, -1), [9] * 4, [0] * 4), "negative scale"),
        (b"", "no whole number"),
        (bytes(33), "no whole number"),
    ],
)
def test_dishonest_dot_splats(tmp_path, content, match):
    refused(tmp_path, content, match, "bad.splat")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (gzip.compress(b"hello", mtime=0), "cut off"),
        (gzip.compress(bytes(100), mtime=0), "not an SPZ file"),
        (b"NGSP" + bytes(60), "version 4"),
        (gzip.compress(spz_header(1, 1) + bytes(99), mtime=0), "version 1"),
        (gzip.compress(spz_header(9, 1) + bytes(99), mtime=0), "version 9"),
        (spz_file(3, []), "no splats"),
        (spz_file(3, [SPLAT])[:-6], "cut off"),
        (spz_file(3, [SPLAT])[:-8] + bytes(8), "damaged|readable"),
        (gzip.compress(spz_header(3, 2) + bytes(39), mtime=0), "ends after 39 of 40 bytes"),
        (gzip.compress(spz_header(3, 4_000_000_000) + bytes(99), mtime=0), "claims 4000000000 splats"),
        (gzip.compress(spz_header(3, 29_000_000, 4) + bytes(99), mtime=0), "claims 29000000 splats"),
        (gzip.compress(spz_header(3, 1, 200) + bytes(9999), mtime=0), "degree 200"),
        (gzip.compress(spz_header(2, 1, 4) + bytes(9999), mtime=0), "degree 4"),
        (gzip.compress(spz_header(3, 1, 0, 25) + bytes(99), mtime=0), "25 fractional bits"),
    ],
)
def test_dishonest_spz(tmp_path, content, match):
    refused(tmp_path, content, match)


def test_spz_files_that_unpack_without_end(tmp_path):
    """A few hundred kilobytes that claim to be, or are followed by, hundreds of megabytes."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    bomb = packer.compress(spz_header(3, 10_000_000)) + b"".join(packer.compress(zeros) for _ in range(200))
    refused(tmp_path, bomb + packer.flush(), "too many for a file")
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    bomb = packer.compress(spz_header(3, 1) + bytes(20)) + b"".join(packer.compress(zeros) for _ in range(200))
    refused(tmp_path, bomb + packer.flush(), "goes on after its last splat")


def test_extensions_at_the_end_of_an_spz_are_skipped(tmp_path):
    path = tmp_path / "a.spz"
    path.write_bytes(spz_file(3, [SPLAT], flags=2, tail=struct.pack("<IIfff", 0xADBE0002, 12, 0, 1, 1)))
    assert read_splats(path).count == 1


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (packed_ply([CHUNK], [(0, 0, 0, 0)] * 257), "257 splats need 2 chunks"),
        (packed_ply([CHUNK] * 2, [(0, 0, 0, 0)]), "1 splats need 1 chunks"),
        (packed_ply([CHUNK], [(0, 0, 0, 0)], counts=(40_000_000, 10_239_999_999, 0)), "cut off"),
        (packed_ply([], []), "no splats"),
        (packed_ply([CHUNK], [(0, 0, 0, 0)], [[0] * 10]), "9, 24 or 45"),
        (packed_ply([CHUNK], [(0, 0, 0, 0)], [[0] * 9] * 2), "1 splats have 2 rows"),
        (packed_ply([(NAN, *CHUNK[1:])], [(0, 0, 0, 0)]), "position that is not finite"),
        (packed_ply([(*CHUNK[:6], 1e30, *CHUNK[7:])], [(0, 0, 0, 0)]), "scale that is not finite"),
        (packed_ply([CHUNK], [(0, 0, 0, 0)]).replace(b"uint packed_scale", b"float packed_scale"), "packed_scale"),
        (packed_ply([CHUNK], [(0, 0, 0, 0)]).replace(b"float max_y", b"float max_q"), "max_y"),
        (packed_ply([CHUNK], [(0, 0, 0, 0)]).replace(b"float max_y", b"float max_x"), "max_y"),
        (packed_ply([CHUNK], [(0, 0, 0, 0)]).replace(b"chunk 1\n", b"chunk -1\n"), "not understood"),
        (packed_ply([CHUNK], [(0, 0, 0, 0)]).replace(b"chunk 1\n", b"chunk \xd9\xa1\n"), "not understood"),
        (b"ply\nformat binary_little_endian 1.0\nelement vertex 99999999999\nend_header\n", "no properties"),
        (b"ply\nformat binary_little_endian 1.0\nelement vertex 0\nproperty float x\nend_header\n", "not a splat file"),
    ],
)
def test_dishonest_plys(tmp_path, content, match):
    refused(tmp_path, content, match)


@pytest.mark.parametrize(("value", "match"), [(NAN, "scale_0|scale"), (500.0, "scale that is not finite")])
def test_plys_with_numbers_that_no_splat_has(tmp_path, value, match):
    path = tmp_path / "good.ply"
    write_splats(path, random_gaussians(0, count=2, degree=0))
    content = path.read_bytes()
    refused(tmp_path, content[:-28] + struct.pack("<f", value) + content[-24:], match)


def test_plys_that_are_bound_to_a_head_are_not_splats_of_the_world(tmp_path):
    path = tmp_path / "good.ply"
    write_splats(path, random_gaussians(0, count=1, degree=0))
    content = path.read_bytes().replace(b"property float rot_3\n", b"property float rot_3\nproperty float binding_0\n")
    refused(tmp_path, content + bytes(4), "bound to the triangles")


def accessor(number, **values):
    return lambda document: document["accessors"][number].update(values)


def view(number, **values):
    return lambda document: document["bufferViews"][number].update(values)


def primitive(**values):
    return lambda document: document["meshes"][0]["primitives"][0].update(values)


def extension(**values):
    return lambda document: document["meshes"][0]["primitives"][0]["extensions"]["KHR_gaussian_splatting"].update(
        values
    )


def node(**values):
    return lambda document: document["nodes"][0].update(values)


def forget(*path):
    def change(document):
        for key in path[:-1]:
            document = document[key]
        del document[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (accessor(0, count=4), "claims 4 values"),
        (accessor(0, count=10**14), "claims"),
        (accessor(0, count=-1), "count is -1"),
        (accessor(0, count=0), "claims 0 values"),
        (accessor(0, count=1.5), "count is 1.5"),
        (accessor(0, count=10**30), "count is 1"),
        (accessor(0, byteOffset=4), "cannot hold"),
        (accessor(0, byteOffset=-12), "byteOffset is -12"),
        (accessor(0, bufferView=77), "number 77 of 5 bufferViews"),
        (accessor(0, bufferView="x"), "refers to number 'x'"),
        (accessor(0, componentType=[5126]), "type that is not read"),
        (accessor(0, type="MAT4"), "type that is not read"),
        (accessor(0, sparse={"count": 1}), "type that is not read"),
        (accessor(1, count=2), "3 positions but 2 values of SCALE"),
        (view(0, byteLength=10**9), "lies outside"),
        (view(0, byteStride=2), "cannot hold"),
        (view(0, byteStride=0), "cannot hold"),
        (view(0, buffer=1), "number 1 of 1 buffers"),
        (forget("bufferViews"), "bufferViews is missing"),
        (lambda d: d["buffers"][0].update(uri="/etc/passwd"), "in another file"),
        (primitive(mode=4), "not of points"),
        (primitive(attributes=[]), "attributes is missing"),
        (forget("meshes", 0, "primitives", 0, "attributes", "KHR_gaussian_splatting:OPACITY"), "no attribute .*OPAC"),
        (lambda d: d["meshes"][0]["primitives"][0]["attributes"].update(
            {"KHR_gaussian_splatting:SH_DEGREE_1_COEF_0": 4}), "no attribute .*SH_DEGREE_1_COEF_1"),
        (primitive(extensions={}), "no Gaussian splats"),
        (primitive(extensions={"KHR_gaussian_splatting": 7}), "not a JSON object"),
        (extension(kernel="box"), "kernel 'box'"),
        (extension(colorSpace="lin_rec709_display"), "colorSpace 'lin_rec709_display'"),
        (extension(extensions={"KHR_gaussian_splatting_compression_spz_2": {}}), "needs? the extension KHR"),
        (node(mesh=3), "number 3 of 1 meshes"),
        (node(scale=[1, 2, 1]), "stretches"),
        (node(scale=[-1, 1, 1]), "stretches, shears or mirrors"),
        (node(scale=[0, 0, 0]), "stretches"),
        (node(scale=[1e31, 1e31, 1e31]), "scale is not 3 numbers"),
        (lambda d: d.update(nodes=[{"mesh": 0, "scale": [1e25] * 3}, {"children": [0], "scale": [1e25] * 3}],
                            scenes=[{"nodes": [1]}]), "not finite"),
        (node(translation=[1, 2]), "translation is not 3 numbers"),
        (node(translation=[1, 2, None]), "translation is not 3 numbers"),
        (node(rotation=[0, 0, 0, 0]), "length zero"),
        (node(matrix=[1] * 16), "stretches"),
        (node(children=[0]), "in the scene twice"),
        (node(children=[5]), "number 5 of 1 nodes"),
        (node(children=5), "children is missing or is not a list"),
        (lambda d: d.update(scene=4), "number 4 of 1 scenes"),
        (lambda d: d.update(scenes=[{"nodes": [0] * 10}]), "in the scene twice"),
        (lambda d: d.update(scenes={}), "scenes is missing"),
        (lambda d: d.update(nodes=[{"mesh": 0}] * 9999, scenes=[{"nodes": list(range(9999))}]), "again and again"),
    ],
)  # fmt: skip
def test_dishonest_glbs(tmp_path, change, match):
    refused(tmp_path, changed_document(change), match)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (glb([1, 2]), "not an object"),
        (glb(b"{" * 100), "not valid"),
        (glb(b"[" * 200_000), "not valid"),
        (glb(b'{"a":"\xff\xff"}'), "not valid"),
        (glb({}, version=1), "version 2"),
        (glb({}, length=10**6), "cut off"),
        (glb({}, json_length=2**32 - 4), "cut off"),
        (glb({}, b"1234", binary_length=999), "binary chunk is cut off"),
        (glb({}), "nodes|no Gaussian splats"),
        (glb(json.dumps({"nodes": [{"matrix": [NAN] * 16, "mesh": 0}]}).encode()), "matrix is not 16 numbers"),
    ],
)
def test_dishonest_containers(tmp_path, content, match):
    refused(tmp_path, content, match)


def test_a_mesh_may_be_shown_more_than_once(tmp_path):
    document, binary = splat_document(2)
    document["nodes"].append({"mesh": 0, "translation": [5, 0, 0]})
    document["scenes"][0]["nodes"] = [0, 1]
    path = tmp_path / "twice.glb"
    path.write_bytes(glb(document, binary))
    assert read_splats(path).means[:, 0].tolist() == [0, 1, 5, 6]


def test_long_chains_of_nodes_are_followed_without_recursion(tmp_path):
    document, binary = splat_document(1)
    document["nodes"] = [{"children": [i + 1]} for i in range(5000)] + [{"mesh": 0}]
    path = tmp_path / "deep.glb"
    path.write_bytes(glb(document, binary))
    assert read_splats(path).count == 1


def bad(**fields):
    scene = random_gaussians(0, count=4, degree=1)
    for name, value in fields.items():
        tensor = getattr(scene, name).clone()
        tensor[2] = value
        scene = replace(scene, **{name: tensor})
    return scene


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("scene", "match"),
    [
        (bad(means=NAN), "splat 2 has a position that is not finite"),
        (bad(scales=INF), "splat 2 has a scale that is not finite"),
        (bad(scales=-1.0), "splat 2 has a negative scale"),
        (bad(opacities=1.5), "splat 2 has the opacity 1.5"),
        (bad(rotations=0.0), "splat 2 has a rotation of length zero"),
        (bad(sh=NAN), "splat 2 has a colour that is not finite"),
        (random_gaussians(0, count=4), "features"),
        (random_gaussians(0, count=0, degree=0), "no splats"),
        (Gaussians(torch.zeros(2, 1, 3), torch.ones(1, 4), torch.ones(1, 3), torch.ones(1), sh=torch.zeros(1, 1, 3)),
         "batch"),
    ],
)  # fmt: skip
def test_splats_that_no_file_can_hold_leave_nothing_behind(tmp_path, suffix, scene, match):
    with pytest.raises(VultusError, match=match) as raised:
        write_splats(tmp_path / f"a{suffix}", scene)
    assert f"a{suffix}" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_extreme_splats_survive_or_are_refused(tmp_path, suffix):
    scene = replace(
        random_gaussians(0, count=4, degree=1),
        scales=torch.tensor([0.0, 1e-20, 1.0, 300.0])[:, None].expand(4, 3),
        opacities=torch.tensor([0.0, 1.0, 1e-9, 0.5]),
        means=torch.tensor([[0.0, 0, 0], [1e-30, 0, 0], [1e3, -1e3, 0], [0, 0, 3e3]]),
        sh=torch.full((4, 4, 3), 50.0),
    )
    written = write_splats(tmp_path / f"a{suffix}", scene)
    found = read_splats(written.path)
    order = torch.from_numpy(written.order)
    assert float((found.means - scene.means[order]).abs().max()) <= written.position_error * 1.001 + 1e-3
    assert float((found.opacities - scene.opacities[order]).abs().max()) < 0.003
    far = replace(scene, means=scene.means * 1e35)
    if suffix == ".spz":
        with pytest.raises(VultusError, match="m from the origin"):
            write_splats(tmp_path / "far.spz", far)
    else:
        assert read_splats(write_splats(tmp_path / f"far{suffix}", far).path).count == 4


def test_arguments_that_do_not_fit(tmp_path):
    scene = random_gaussians(0, count=4, degree=1)
    for name, options, match in [
        ("a.obj", {}, r"no splat format has this ending; choose one of \.compressed\.ply"),
        ("a", {}, "no splat format"),
        ("a.splat", {"sh_degree": 1}, r"\.splat has 0 to 0"),
        ("a.glb", {"sh_degree": 4}, r"\.glb has 0 to 3"),
        ("a.spz", {"sh_degree": 4, "spz_version": 2}, r"\.spz has 0 to 3"),
        ("a.ply", {"sh_degree": -1}, "degree -1"),
        ("a.spz", {"spz_version": 4}, "version 4 is not written"),
    ]:
        with pytest.raises(VultusError, match=match):
            write_splats(tmp_path / name, scene, **options)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    for suffix in SUFFIXES:
        with pytest.raises(VultusError, match=f"a{suffix}"):
            write_splats(tmp_path / "file" / f"a{suffix}", scene)


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path / "absent.spz", tmp_path):
        with pytest.raises(VultusError, match="cannot be read"):
            read_splats(path)


def test_gradients_are_not_needed(tmp_path):
    scene = random_gaussians(0, count=4, degree=0)
    scene.means.requires_grad_()
    assert np.isclose(read_splats(write_splats(tmp_path / "a.spz", scene).path).means.numpy(),
                      scene.means.detach().numpy(), atol=1e-5).all()  # fmt: skip
