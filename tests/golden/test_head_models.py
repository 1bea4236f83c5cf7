"""Head model files and FLAME's sliding contour, compared with the golden folder `head-models`."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ict_files import ict_asset

from vultus.errors import VultusError
from vultus.files import read_object_npy, read_pickle
from vultus.heads.contour import ContourTable, contour_rows, pose_yaw_degrees, yaw_degrees
from vultus.heads.gnm import gnm_model
from vultus.heads.gnm.landmarks import attached
from vultus.heads.ict import load_ict
from vultus.heads.ict.layout import shape_name
from vultus.motion import HeadParams
from vultus.rotations import axis_angle_to_matrix

pytestmark = pytest.mark.golden


def test_model_pickle(golden, tmp_path):
    data = golden.load("model_pickle")
    (tmp_path / "model.pkl").write_bytes(data["stream"].tobytes())
    model = read_pickle(tmp_path / "model.pkl")
    expected = {name: array for name, array in data.items() if not name.startswith("stream")}
    assert set(model) == {*expected, "bs_style", "bs_type"}
    assert (model["bs_style"], model["bs_type"]) == ("lbs", "lrotmin")
    for name, array in expected.items():
        assert model[name].dtype == array.dtype
        np.testing.assert_array_equal(model[name], array, err_msg=name, strict=True)


def test_forbidden_pickle(golden, tmp_path):
    (tmp_path / "model.pkl").write_bytes(golden.load("model_pickle")["stream_forbidden"].tobytes())
    with pytest.raises(VultusError, match=r"model\.pkl: asks for .*not run"):
        read_pickle(tmp_path / "model.pkl")


def test_embedding_pickle(golden, tmp_path):
    data = golden.load("embedding_pickle")
    (tmp_path / "embedding.npy").write_bytes(data.pop("stream").tobytes())
    embedding = read_object_npy(tmp_path / "embedding.npy")
    assert set(embedding) == set(data)
    for name, array in data.items():
        assert embedding[name].dtype == array.dtype
        np.testing.assert_array_equal(embedding[name], array, err_msg=name, strict=True)


@pytest.mark.parametrize(("sign", "label"), [(1, "plus"), (-1, "minus")])
def test_flame_dynamic_contour(golden, sign, label):
    data = {name: torch.from_numpy(array) for name, array in golden.load("flame_dynamic_contour").items()}
    pose = data["root_and_neck_pose"]
    turn = axis_angle_to_matrix(pose[:, :3]) @ axis_angle_to_matrix(pose[:, 3:])
    torch.testing.assert_close(yaw_degrees(turn), data["out_yaw_degrees"], rtol=0, atol=1e-4)
    yaw = pose_yaw_degrees(pose[:, :3], pose[:, 3:])
    torch.testing.assert_close(yaw, data["out_yaw_degrees"], rtol=0, atol=1e-4)
    rows = contour_rows(sign * yaw)
    assert torch.equal(rows, data[f"out_row_{label}"])
    table = ContourTable(data["dynamic_lmk_faces_idx"], data["dynamic_lmk_bary_coords"])
    vertices = data["mesh_vertices"].double().expand(len(rows), -1, -1)
    torch.testing.assert_close(
        table.landmarks(vertices, data["mesh_faces"], rows), data[f"out_landmarks_{label}"], rtol=0, atol=1e-6
    )


def _at(head, names, weights):
    """Coefficients [N, E] with the weights of some components."""
    values = torch.zeros(len(weights), len(head.expression_names))
    for column, name in enumerate(names):
        if shape_name(str(name)) in head.expression_names:
            values[:, head.expression_names.index(shape_name(str(name)))] = torch.from_numpy(weights[:, column])
        else:
            assert not weights[:, column].any(), f"the model lacks {name}"
    return values


@pytest.mark.parametrize(("asset", "tolerance"), [("ict_facekit_light.npz", 3e-6), ("ict_facekit_sample", 1e-7)])
@pytest.mark.filterwarnings("ignore:.*shapes of ICT-FaceKit are missing")
def test_ict_forward(golden, asset, tolerance):
    data = golden.load("ict_forward")
    head = load_ict(ict_asset(asset))
    identity = np.zeros((len(data["identity_weights"]), max(100, data["identity_indices"].max() + 1)), np.float32)
    identity[:, data["identity_indices"]] = data["identity_weights"]
    there = {name for name in data["expression_names"] if shape_name(name) in head.expression_names}
    # The sample of the publisher's folder has few shapes: only the sets that need no others can be compared.
    count = len(head.identity_names)
    rows = np.flatnonzero(
        (identity[:, count:] == 0).all(1)
        & [all(name in there or not w for name, w in zip(data["expression_names"], row, strict=True))
           for row in data["expression_weights"]]
    )  # fmt: skip
    assert len(rows) > 0
    assert len(rows) == len(identity) or asset == "ict_facekit_sample"
    params = replace(
        head.neutral(len(rows)),
        identity=torch.from_numpy(identity[rows, :count]),
        expression=_at(head, data["expression_names"], data["expression_weights"][rows]),
    )
    vertices = head.pose(params).vertices.numpy()

    def compare(found, name):
        np.testing.assert_allclose(found, data[name][rows], rtol=0, atol=tolerance, err_msg=name)

    compare(vertices[:, data["vertex_indices"]], "out_vertices")
    compare(head.landmarks(torch.from_numpy(vertices), "ibug68").numpy(), "out_landmarks_68")
    compare(vertices.min(1), "out_bbox_min")
    compare(vertices.max(1), "out_bbox_max")
    compare(vertices.astype(np.float64).mean(1), "out_mean")


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 5e-7)])
def test_gnm_forward(golden, dtype, tolerance):
    data = golden.load("gnm_forward")
    arrays = {
        name: torch.from_numpy(value).to(dtype)
        for name, value in data.items()
        if value.dtype.kind == "f" and not name.startswith("out_")
    }
    joint_names = ("neck", "head", "left_eye", "right_eye")
    landmark_triangles = torch.from_numpy(data["landmark_indices"]).long()
    heads = [
        gnm_model(
            {name: value for name, value in arrays.items() if has_correctives or "correctives" not in name},
            parents=tuple(data["joint_parent_indices"].tolist()),
            joint_names=joint_names,
            identity_names=tuple(map(str, range(arrays["identity"].shape[1]))),
            expression_names=tuple(map(str, range(arrays["expression"].shape[1]))),
            faces=landmark_triangles,
        )
        for has_correctives in (True, False)
    ]
    head = heads[0]
    params = HeadParams(
        model=head.fingerprint,
        identity=arrays["identity"],
        expression=arrays["expression"],
        joints={name: arrays["rotations"][:, index] for index, name in enumerate(joint_names)},
        translation=arrays["translation"],
        scale=torch.ones(len(arrays["identity"]), dtype=dtype),
    )
    posed = head.pose(params)

    def compare(found, name):
        torch.testing.assert_close(
            found.double(), torch.from_numpy(data[name]), rtol=0, atol=tolerance, msg=lambda m: f"{name}: {m}"
        )

    rest = head.rest_vertices(params)
    compare(rest, "out_bind_vertices")
    compare(head.rest_joints(params, rest)[:, 1:], "out_bind_joints")
    compare(axis_angle_to_matrix(arrays["rotations"]), "out_rotation_matrices")
    compare(posed.joint_transforms[:, 1:], "out_joint_transforms")
    compare(posed.vertices, "out_vertices")
    compare(heads[1].pose(params).vertices, "out_vertices_without_correctives")
    marks = attached(head.template, head.faces, landmark_triangles, arrays["landmark_weights"])
    corners = posed.vertices[:, head.faces[marks.faces]]
    compare((corners * marks.barycentric[..., None]).sum(-2), "out_landmarks")
    feature = (axis_angle_to_matrix(arrays["rotations"]) - torch.eye(3, dtype=dtype)).flatten(1)
    compare((feature @ head.pose_basis.flatten(0, 1).T).unflatten(-1, (-1, 3)), "out_pose_correctives")
