import torch
from scipy.spatial.transform import Rotation

from vultus.rotations import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    multiply_quaternions,
    quaternion_to_matrix,
    rotation_between,
)


def _vectors(count: int = 50) -> torch.Tensor:
    return torch.randn(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_agrees_with_scipy() -> None:
    vectors = _vectors()
    expected = torch.from_numpy(Rotation.from_rotvec(vectors.numpy()).as_matrix())
    torch.testing.assert_close(axis_angle_to_matrix(vectors), expected)


def test_round_trips() -> None:
    matrices = axis_angle_to_matrix(_vectors())
    torch.testing.assert_close(axis_angle_to_matrix(matrix_to_axis_angle(matrices)), matrices)
    torch.testing.assert_close(quaternion_to_matrix(matrix_to_quaternion(matrices)), matrices)


def test_quaternions_are_wxyz_and_multiply_as_rotations() -> None:
    identity = matrix_to_quaternion(torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(identity.abs(), torch.tensor([1.0, 0, 0, 0], dtype=torch.float64))
    a, b = axis_angle_to_matrix(_vectors(2))
    product = multiply_quaternions(matrix_to_quaternion(a), matrix_to_quaternion(b))
    torch.testing.assert_close(quaternion_to_matrix(product), a @ b)


def test_scaled_and_zero_quaternions() -> None:
    quaternion = torch.tensor([2.0, 0.0, 0.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(quaternion_to_matrix(quaternion), quaternion_to_matrix(quaternion / 7))
    assert torch.isfinite(quaternion_to_matrix(torch.zeros(4))).all()


def test_gradient_at_zero_rotation_is_finite_and_right() -> None:
    vector = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    axis_angle_to_matrix(vector)[2, 1].backward()  # d R_21 / d x = 1 at zero
    torch.testing.assert_close(vector.grad, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))


def test_rotation_between() -> None:
    start, end = axis_angle_to_matrix(_vectors(2))
    torch.testing.assert_close(start @ rotation_between(start, end), end)
