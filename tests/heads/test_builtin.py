"""The built-in head: its data file, and that the generator still makes it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from vultus.errors import VultusError
from vultus.heads import SkinnedHead
from vultus.heads.builtin import NAME, load_builtin, load_texture, texture_styles

ARKIT = [
         "eyeBlinkLeft",     "eyeLookDownLeft",     "eyeLookInLeft",     "eyeLookOutLeft",
    "eyeLookUpLeft",     "eyeSquintLeft",     "eyeWideLeft",     "eyeBlinkRight",     "eyeLookDownRight",
    "eyeLookInRight",     "eyeLookOutRight",     "eyeLookUpRight",     "eyeSquintRight",     "eyeWideRight",
    "jawForward",     "jawLeft",     "jawRight",     "jawOpen",     "mouthClose",     "mouthFunnel",
    "mouthPucker",     "mouthLeft",     "mouthRight",     "mouthSmileLeft",     "mouthSmileRight",
    "mouthFrownLeft",     "mouthFrownRight",     "mouthDimpleLeft",     "mouthDimpleRight",
    "mouthStretchLeft",     "mouthStretchRight",     "mouthRollLower",     "mouthRollUpper",
    "mouthShrugLower",     "mouthShrugUpper",     "mouthPressLeft",     "mouthPressRight",
    "mouthLowerDownLeft",     "mouthLowerDownRight",     "mouthUpperUpLeft",     "mouthUpperUpRight",
    "browDownLeft",     "browDownRight",     "browInnerUp",     "browOuterUpLeft",     "browOuterUpRight",
    "cheekPuff",     "cheekSquintLeft",     "cheekSquintRight",     "noseSneerLeft",     "noseSneerRight",
    "tongueOut",
]  # fmt: skip
FLIP = np.array([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def head() -> SkinnedHead:
    return load_builtin()


def posed(head: SkinnedHead, expression=None, joints=None, identity=None) -> np.ndarray:
    p = head.neutral()
    e, i = p.expression.clone(), p.identity.clone()
    for name, value in (expression or {}).items():
        e[head.expression_names.index(name)] = value
    for name, value in (identity or {}).items():
        i[head.identity_names.index(name)] = value
    turned = {**p.joints, **{k: torch.tensor(v) for k, v in (joints or {}).items()}}
    vertices = head.pose(dataclasses.replace(p, expression=e, identity=i, joints=turned)).vertices
    return vertices.double().numpy()


def region(head: SkinnedHead, name: str) -> np.ndarray:
    return head.regions[name].numpy()


def directed_edges(faces: np.ndarray) -> np.ndarray:
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def test_surface_is_oriented_manifold_open_only_at_bust_and_behind_lids(head):
    e = directed_edges(head.faces.numpy())
    n = len(head.v_template)
    keys, back = e[:, 0] * n + e[:, 1], e[:, 1] * n + e[:, 0]
    assert len(np.unique(keys)) == len(keys)
    border = np.unique(e[~np.isin(keys, back)])
    lids = np.concatenate([region(head, "left_eyelid"), region(head, "right_eyelid")])
    rim = region(head, "below_line")
    assert set(rim) <= set(border)
    hidden = np.setdiff1d(border, rim)
    assert np.isin(hidden, lids).all()
    assert len(np.unique(head.faces)) == n


def test_solid_parts_face_outward(head):
    v, f = head.v_template.double().numpy(), head.faces.numpy()
    for name in ("left_eyeball", "right_eyeball", "teeth_upper", "teeth_lower", "tongue"):
        own = f[np.isin(f, region(head, name)).all(1)]
        p = v - v[region(head, name)].mean(0)
        assert np.einsum("ij,ij->", p[own[:, 0]], np.cross(p[own[:, 1]], p[own[:, 2]])) > 0


def test_mirror_symmetry_is_exact(head):
    mirror = head.attributes["mirror_vertices"].numpy()
    v = head.v_template.numpy()
    assert (mirror[mirror] == np.arange(len(v))).all()
    assert (v[mirror] * FLIP == v).all()
    basis = head.identity_basis.numpy()
    flipped = basis[mirror] * FLIP[:, None]
    for k, name in enumerate(head.identity_names):
        sign = -1 if name.startswith("asymmetric") else 1
        assert (flipped[..., k] == sign * basis[..., k]).all(), name
    expressions = head.expression_basis.numpy()
    for k, name in enumerate(head.expression_names):
        other = name[:-4] + "Right" if name.endswith("Left") else name[:-5] + "Left" if name.endswith("Right") else name
        twin = head.expression_names.index(other)
        np.testing.assert_allclose(expressions[mirror][..., k] * FLIP, expressions[..., twin], atol=2e-6, err_msg=name)


def test_skin_triangles_are_well_shaped(head):
    v, f = head.v_template.double().numpy(), head.faces.numpy()
    part = head.attributes["part"].numpy()
    c = v[f[(part[f] == 0).all(1)]]
    area = np.linalg.norm(np.cross(c[:, 1] - c[:, 0], c[:, 2] - c[:, 0]), axis=1) / 2
    length2 = sum(((c[:, i] - c[:, i - 1]) ** 2).sum(1) for i in range(3))
    quality = 4 * np.sqrt(3) * area / length2
    assert quality.min() > 0.15
    assert quality.mean() > 0.8


def test_lips_touch_at_rest(head):
    v = head.v_template.double().numpy()
    upper, lower = v[region(head, "lip_upper")], v[region(head, "lip_lower")]
    gap = np.linalg.norm(upper[:, None] - lower[None], axis=-1).min(1)
    assert (np.sort(gap)[:20] == 0).all()


@pytest.mark.parametrize("closed", [0.0, 0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("pitch", [0.0, 0.35, -0.35])
def test_lids_stay_clear_of_the_eyeball(head, closed, pitch):
    turn = [pitch, 0.0, 0.0]
    v = posed(head, {"eyeBlinkLeft": closed, "eyeBlinkRight": closed}, {"left_eye": turn, "right_eye": turn})
    for side in ("left", "right"):
        ball, lids = v[region(head, f"{side}_eyeball")], v[region(head, f"{side}_eyelid")]
        centre = head.v_template.double().numpy()[region(head, f"{side}_eyeball")].mean(0)
        centre[2] = 0.071
        ball, lids = ball - centre, lids - centre
        lids = lids[lids[:, 2] > 0.004]
        direction = lids / np.linalg.norm(lids, axis=1, keepdims=True)
        ball_direction = ball / np.linalg.norm(ball, axis=1, keepdims=True)
        under = (direction @ ball_direction.T).argmax(1)
        assert (np.linalg.norm(lids, axis=1) - np.linalg.norm(ball[under], axis=1)).min() > 0


def test_blink_closes_the_eye(head):
    def opening(v):
        p = head.landmarks(torch.from_numpy(v).float(), "ibug68").numpy()
        return [(p[a, 1] + p[b, 1] - p[c, 1] - p[d, 1]) / 2 for a, b, c, d in ((37, 38, 40, 41), (43, 44, 46, 47))]

    rest = opening(posed(head))
    shut = opening(posed(head, {"eyeBlinkLeft": 1.0}))
    assert min(rest) > 0.007
    assert abs(shut[1]) < 0.001
    assert shut[0] == pytest.approx(rest[0], abs=1e-6)


def test_lids_follow_the_gaze(head):
    upper = head.landmark_sets["ibug68"].ids.tolist().index(44)

    def height(pitch):
        v = posed(head, joints={"left_eye": [pitch, 0.0, 0.0]})
        return float(head.landmarks(torch.from_numpy(v).float(), "ibug68")[upper, 1])

    assert height(0.35) < height(0.0) - 0.0015
    assert height(-0.35) > height(0.0) + 0.001
    moved = posed(head, joints={"left_eye": [0.35, 0.0, 0.0]}) - posed(head)
    assert (
        np.abs(moved[moved[:, 0] != 0][:, 0]).size == 0 or (head.v_template[np.abs(moved).max(1) > 1e-7, 0] > 0).all()
    )


def test_jaw_moves_the_lower_teeth_rigidly_and_leaves_the_upper_still(head):
    rest, opened = posed(head), posed(head, joints={"jaw": [0.4, 0.0, 0.0]})
    still = region(head, "teeth_upper")
    np.testing.assert_allclose(opened[still], rest[still], atol=1e-6)
    moving = region(head, "teeth_lower")
    a, b = rest[moving][::37], opened[moving][::37]
    np.testing.assert_allclose(
        np.linalg.norm(a[:, None] - a, axis=-1), np.linalg.norm(b[:, None] - b, axis=-1), atol=1e-6
    )
    assert np.linalg.norm(a - b, axis=1).min() > 0.015
    p = head.landmarks(torch.from_numpy(opened).float(), "ibug68")
    assert float(p[62, 1] - p[66, 1]) > 0.02


def test_mouth_close_brings_the_lips_together_over_an_open_jaw(head):
    def gap(expression):
        v = posed(head, expression, {"jaw": [0.4, 0.0, 0.0]})
        p = head.landmarks(torch.from_numpy(v).float(), "ibug68")
        return float((p[62] - p[66]).norm())

    assert gap({"mouthClose": 1.0}) < 0.1 * gap({})


def test_lips_do_not_cross(head):
    upper, lower = region(head, "lip_upper"), region(head, "lip_lower")
    v = head.v_template.double().numpy()
    # Vertices of the line between the lips: pairs at the same place.
    pairs = [(a, b) for a in upper for b in lower if a != b and (v[a] == v[b]).all() and abs(v[a, 0]) < 0.022]
    assert len(pairs) > 12
    a, b = np.array(pairs).T
    for name in head.expression_names:
        q = posed(head, {name: 1.0}, {"jaw": [0.4, 0.0, 0.0]} if name == "mouthClose" else None)
        assert (q[a, 1] - q[b, 1]).min() > -0.0004, name


def test_tongue_comes_out(head):
    v = posed(head, {"tongueOut": 1.0}, {"jaw": [0.15, 0.0, 0.0]})
    tip, lower = v[region(head, "tongue"), 2].max(), v[region(head, "lip_lower"), 2].max()
    assert tip > lower + 0.005


def test_arkit_names_all_drive_the_head(head):
    by_joint = {n for n in ARKIT if n.startswith("eyeLook")} | {"jawOpen"}
    assert set(head.expression_names) == set(ARKIT) - by_joint
    size = head.expression_basis.norm(dim=1).amax(0)
    assert (size > 0.001).all()
    assert (size < 0.06).all()


def test_weights_and_regressor(head):
    w = head.weights.double()
    assert (w >= 0).all()
    np.testing.assert_allclose(w.sum(1).numpy(), 1, atol=1e-6)
    np.testing.assert_allclose(head.joint_regressor.double().sum(1).numpy(), 1, atol=1e-5)
    joints = head.pose(head.neutral()).joints.numpy()
    expected = [[0, -0.18, -0.032], [0, -0.118, -0.028], [0, -0.017, 0.01], [0.0315, 0, 0.071], [-0.0315, 0, 0.071]]
    np.testing.assert_allclose(joints, expected, atol=1e-6)


def test_joints_follow_identity_but_not_expression(head):
    rest = head.pose(head.neutral()).joints
    params = head.neutral()
    for k, name in enumerate(head.expression_names):
        e = params.expression.clone()
        e[k] = 1
        moved = head.pose(dataclasses.replace(params, expression=e)).joints - rest
        assert moved.abs().max() < 1e-5, name
    i = params.identity.clone()
    i[head.identity_names.index("biocular")] = 2
    eyes = head.pose(dataclasses.replace(params, identity=i)).joints[3:]
    assert float(eyes[0, 0] - eyes[1, 0]) > float(rest[3, 0] - rest[4, 0]) + 0.001


def test_landmarks_lie_where_their_names_say(head):
    v = head.v_template
    p = head.landmarks(v, "ibug68").numpy()
    mirror = [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46,
              39, 38, 37, 36, 41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67,
              66, 65, 69, 68]  # fmt: skip
    np.testing.assert_allclose(p[mirror] * FLIP, p, atol=1e-6)
    assert (p[42:48, 0] > 0.01).all()
    assert (p[:8, 0] < 0).all()
    assert p[69, 0] > 0
    assert p[30, 2] > p[27:, 2].max() - 0.002
    assert p[8, 1] < p[57, 1] < p[51, 1] < p[33, 1] < p[27, 1] < p[19, 1]
    assert p[38, 1] > p[40, 1]
    assert p[43, 1] > p[47, 1]
    dense = head.landmark_sets["mediapipe"]
    ids = dense.ids.tolist()
    assert ids == list(range(478))
    q = head.landmarks(v, "mediapipe").numpy()
    np.testing.assert_allclose(dense.barycentric.sum(1).numpy(), 1, atol=1e-6)
    assert (dense.barycentric >= -1e-6).all()
    # The two sets name many of the same places (means of the MediaPipe points listed).
    table = {8: [152], 30: [4], 33: [2], 36: [33], 39: [133], 42: [362], 45: [263], 37: [160], 44: [387], 41: [144],
             48: [61], 54: [291], 51: [0], 57: [17], 62: [13], 66: [14], 19: [105],
             24: [334], 68: [468], 69: [473]}  # fmt: skip
    for point, sources in table.items():
        assert np.linalg.norm(p[point] - q[sources].mean(0)) < 0.006, point
    pairs = {132: 361, 58: 288, 172: 397, 136: 365, 150: 379, 33: 263, 133: 362, 61: 291, 78: 308}
    for a, b in pairs.items():
        np.testing.assert_allclose(q[a] * FLIP, q[b], atol=1e-6)


def test_regions(head):
    v = head.v_template.numpy()
    names = [
                 "face",         "neck",         "scalp",         "boundary",         "forehead",         "nose",
        "lips",         "eye_region",         "left_eye_region",         "right_eye_region",
        "left_eyeball",         "right_eyeball",         "left_ear",         "right_ear",         "lip_upper",
        "lip_lower",         "left_eyelid",         "right_eyelid",         "teeth_upper",         "teeth_lower",
        "teeth",         "tongue",         "mouth_bag",         "skin",         "hair",         "brows",
        "left_iris",         "right_iris",         "below_line",
    ]  # fmt: skip
    for name in names:
        ids = region(head, name)
        assert len(ids) > 10, name
        assert (np.diff(ids) > 0).all(), name
        assert ids[0] >= 0, name
        assert ids[-1] < len(v), name
    for name in ("left_eye_region", "left_eyeball", "left_ear", "left_eyelid", "left_iris"):
        assert (v[region(head, name), 0] > 0).all(), name
        twin = head.attributes["mirror_vertices"].numpy()[region(head, name)]
        assert set(twin) == set(region(head, name.replace("left", "right")))
    assert not set(region(head, "face")) & set(region(head, "scalp"))
    assert v[region(head, "neck_left_point")[0], 0] > 0.03 > -0.03 > v[region(head, "neck_right_point")[0], 0]


def test_uv_atlas_has_no_overturned_triangles(head):
    assert float(head.uvs.min()) >= 0
    assert float(head.uvs.max()) <= 1
    c = head.uvs.double().numpy()[head.uv_faces.numpy()]
    a, b = c[:, 1] - c[:, 0], c[:, 2] - c[:, 0]
    area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    assert (area > 0).all()


def test_textures(head):
    assert len(texture_styles()) == 6
    image = load_texture("b")
    assert image.shape[0] == image.shape[1] >= 512
    assert float(image.min()) >= 0
    assert float(image.max()) <= 1

    def at(vertex):
        row, column = torch.nonzero(head.faces == vertex)[0].tolist()
        u, w = head.uvs[head.uv_faces[row, column]].tolist()
        n = image.shape[0]
        return image[min(int((1 - w) * n), n - 1), min(int(u * n), n - 1)]

    v = head.v_template
    cheek = int((v - torch.tensor([0.035, -0.035, 0.08])).norm(dim=1).argmin())
    crown = int(v[:, 1].argmax())
    pupil = int(head.regions["left_iris"][v[head.regions["left_iris"], 2].argmax()])
    assert at(cheek).mean() > 0.6 > at(crown).mean() > at(pupil).mean()
    with pytest.raises(VultusError, match="choose one of"):
        load_texture("z")


def test_every_load_has_the_same_fingerprint(head):
    again = load_builtin()
    assert again.fingerprint == head.fingerprint
    assert again.name == NAME


@pytest.fixture(scope="module")
def sculptor():
    from vultus.heads.builtin.sculpt.assembly import build_mesh
    from vultus.heads.builtin.sculpt.field import HeadField
    from vultus.heads.builtin.sculpt.identity import IdentitySculptor

    return IdentitySculptor(build_mesh(HeadField()))


@pytest.mark.slow
def test_named_modes_change_their_own_measurement_by_one_sd(head, sculptor):
    from vultus.heads.builtin.sculpt.identity import MEASUREMENTS, measure

    rest = head.v_template.double().numpy() * 1000
    change = []
    for k, m in enumerate(MEASUREMENTS):
        mode = head.identity_basis[..., k].double().numpy() * 1000
        step = 1e-3  # measurements are linearised at the template
        change.append((measure(rest + step * mode, sculptor) - measure(rest, sculptor)) / step / sculptor.sd)
        assert head.identity_names[k] == m.name
    change = np.array(change)
    np.testing.assert_allclose(change.diagonal(), 1, atol=0.01)
    leak = np.abs(change - np.diag(change.diagonal()))
    assert leak.max() < 0.65
    assert leak.mean() < 0.05


@pytest.mark.slow
def test_generator_reproduces_the_data_file(head, tmp_path):
    out = tmp_path / "rebuilt.npz"
    subprocess.run([sys.executable, "-m", "vultus.heads.builtin.sculpt", str(out)], check=True, timeout=400)
    with np.load(out, allow_pickle=False) as rebuilt:
        assert (rebuilt["f"] == head.faces.numpy()).all()
        assert (rebuilt["ft"] == head.uv_faces.numpy()).all()
        np.testing.assert_allclose(rebuilt["v_template"], head.v_template.numpy(), atol=1e-5)
        half = np.flatnonzero(rebuilt["mirror_vertices"] >= np.arange(len(rebuilt["v_template"])))
        modes = rebuilt["identity_half"] * rebuilt["identity_scale"]
        np.testing.assert_allclose(modes, head.identity_basis.numpy()[half], atol=1e-5)
        np.testing.assert_allclose(rebuilt["weights"], head.weights.numpy(), atol=1e-5)
        assert (rebuilt["landmark_ibug68_faces"] == head.landmark_sets["ibug68"].faces.numpy()).all()
