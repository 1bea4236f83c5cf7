"""Head model files and FLAME's sliding contour, compared with the golden folder `head-models`."""

import numpy as np
import pytest
import torch

from vultus.errors import VultusError
from vultus.files import read_object_npy, read_pickle
from vultus.heads.contour import ContourTable, contour_rows, pose_yaw_degrees, yaw_degrees
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
