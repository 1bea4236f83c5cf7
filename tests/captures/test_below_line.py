"""The cut below the neck."""

import pytest
import torch
from capture_samples import make_head

from vultus.cameras import Camera, look_at
from vultus.captures import below_line_mask
from vultus.errors import VultusError
from vultus.heads import load_head
from vultus.rotations import axis_angle_to_matrix


def camera_at(angle: float, roll: float = 0.0) -> Camera:
    yaw = axis_angle_to_matrix(torch.tensor([0.0, angle, 0.0]))
    pose = look_at(yaw @ torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, -0.05, 0.0]))
    turn = torch.eye(4)
    turn[:3, :3] = axis_angle_to_matrix(torch.tensor([0.0, 0.0, roll]))
    return Camera.from_focal(200, 120, 100, turn @ pose)


@pytest.mark.parametrize("angle", [0.0, 0.5, -1.2])
@pytest.mark.parametrize("roll", [0.0, 0.4, 3.0])
def test_the_face_stays_and_what_is_below_the_neck_goes(angle: float, roll: float) -> None:
    head, camera = load_head(), camera_at(angle, roll)
    keep = below_line_mask(head, head.template, camera)
    assert keep.shape == (100, 120)
    assert float(keep.min()) >= 0
    assert float(keep.max()) <= 1

    def kept(point: torch.Tensor) -> float:
        x, y = camera.project(point[None])[0].tolist()
        return float(keep[int(y), int(x)]) if 0 <= x < 120 and 0 <= y < 100 else float("nan")

    front = head.template[head.regions["front_bottom_point"][0]]
    assert kept(head.template[head.regions["nose"]].mean(0)) == 1
    assert kept(front) == pytest.approx(0.5, abs=0.15)
    assert kept(front + torch.tensor([0.0, 0.02, 0.0])) == 1
    assert kept(front - torch.tensor([0.0, 0.02, 0.0])) == 0


def test_the_edge_is_straight_and_a_ramp() -> None:
    head, camera = load_head(), camera_at(0.0)
    keep = below_line_mask(head, head.template, camera)
    # Seen from the front both neck points are at one height: the line is horizontal.
    torch.testing.assert_close(keep, keep[:, :1].expand_as(keep), atol=1e-3, rtol=0)
    partial = ((keep[:, 0] > 0) & (keep[:, 0] < 1)).sum()
    assert 2 <= int(partial) <= 5


def test_a_head_without_neck_points_is_refused() -> None:
    head = make_head()
    with pytest.raises(VultusError, match="neck_left_point"):
        below_line_mask(head, head.template, camera_at(0.0))
    with pytest.raises(VultusError, match="behind the camera"):
        below_line_mask(load_head(), load_head().template + torch.tensor([0.0, 0.0, 5.0]), camera_at(0.0))
