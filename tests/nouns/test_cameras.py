import torch

from vultus.cameras import (
    Camera,
    look_at,
    opengl_camera_to_world_to_world_to_camera,
    world_to_camera_to_opengl_camera_to_world,
)
from vultus.rotations import axis_angle_to_matrix


def _random_camera(seed: int) -> Camera:
    generator = torch.Generator().manual_seed(seed)
    eye = torch.randn(3, generator=generator, dtype=torch.float64) + torch.tensor([0.0, 0.0, 4.0])
    pose = look_at(eye, torch.zeros(3, dtype=torch.float64))
    return Camera.from_focal(700.0, 640, 480, pose, principal=(300.0, 260.0))


def test_the_target_is_on_the_optical_axis_and_up_is_up() -> None:
    camera = _random_camera(0)
    at_target, above = camera.project(torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.1, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(at_target, torch.tensor([300.0, 260.0], dtype=torch.float64))
    assert above[1] < at_target[1]


def test_subject_left_is_image_right_when_seen_from_the_front() -> None:
    pose = look_at(torch.tensor([0.0, 0.0, 1.0]), torch.zeros(3))
    left = Camera.from_focal(500.0, 100, 100, pose).project(torch.tensor([[0.05, 0.0, 0.0]]))
    assert left[0, 0] > 50


def test_center_projects_to_the_origin_of_camera_space() -> None:
    camera = _random_camera(1)
    torch.testing.assert_close(camera.to_camera(camera.center[None]), torch.zeros(1, 3, dtype=torch.float64))


def test_crop_and_resize_commute_with_projection() -> None:
    camera, points = _random_camera(2), torch.randn(5, 3, dtype=torch.float64) * 0.1
    pixels = camera.project(points)
    torch.testing.assert_close(camera.cropped(40, 30, 100, 90).project(points), pixels - torch.tensor([40.0, 30.0]))
    torch.testing.assert_close(camera.resized(320, 120).project(points), pixels * torch.tensor([0.5, 0.25]))


def test_opengl_round_trip_and_meaning() -> None:
    camera = _random_camera(3)
    camera_to_world = world_to_camera_to_opengl_camera_to_world(camera.world_to_camera)
    torch.testing.assert_close(opengl_camera_to_world_to_world_to_camera(camera_to_world), camera.world_to_camera)
    torch.testing.assert_close(camera_to_world[:3, 3], camera.center)
    forward = -camera_to_world[:3, 2]  # an OpenGL camera looks along its −z
    torch.testing.assert_close(forward, torch.nn.functional.normalize(-camera.center, dim=0))


def test_moving_world_and_camera_together_changes_nothing() -> None:
    camera, points = _random_camera(4), torch.randn(5, 3, dtype=torch.float64) * 0.1
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, :3] = axis_angle_to_matrix(torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64))
    motion[:3, 3] = torch.tensor([0.1, 0.2, -0.3])
    moved = points @ motion[:3, :3].T + motion[:3, 3]
    torch.testing.assert_close(camera.moved(motion).project(moved), camera.project(points))


def test_stack_and_index() -> None:
    cameras = [_random_camera(5), _random_camera(6)]
    stacked = Camera.stack(cameras)
    assert stacked.batch_shape == (2,)
    torch.testing.assert_close(stacked[1].world_to_camera, cameras[1].world_to_camera)
