"""Pictures are doubted where they look along the skin; mouths are covered also while they are open."""

from dataclasses import replace

import torch

from vultus.avatars.rigged.frames import local_to_world, triangle_frames
from vultus.avatars.rigged.grazing import grazing, grazing_skin
from vultus.avatars.rigged.layout import surface_splats
from vultus.avatars.rigged.losses import drift_loss
from vultus.avatars.rigged.start import unfolded


def test_squarely_seen_is_0_and_seen_from_the_side_is_1():
    cosines = torch.tensor([1.0, 0.5, 0.325, 0.15, 0.0, -1.0])
    torch.testing.assert_close(grazing(cosines), torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0, 1.0]))


def test_the_middle_of_a_face_is_believed_and_its_outline_is_not(head, camera_at):
    camera = camera_at(0.0, 192)
    vertices = head.pose(head.neutral()).vertices
    doubt = grazing_skin(head, vertices, camera)[..., 0]
    x, y = camera.project(vertices[head.regions["nose"]].mean(0, keepdim=True))[0].floor().long().tolist()
    row = doubt[y]
    assert row[x - 8 : x + 9].max() < 0.05
    assert doubt.max() > 0.9
    ear = camera.project(vertices[head.regions["left_ear"]].mean(0, keepdim=True))[0].floor().long()
    assert doubt[ear[1], ear[0] - 4] > 0.5
    crown = camera.project(vertices[vertices[:, 1].argmax()][None])[0].floor().long()
    assert doubt[crown[1] + 1, crown[0]] < 0.05
    assert doubt[0].max() == 0


def test_gaussians_of_the_open_mouth_leave_no_gaps(head):
    rest = head.neutral()
    joints = {**rest.joints, "jaw": torch.tensor([0.35, 0.0, 0.0])}
    opened = head.pose(replace(rest, joints=joints)).vertices
    areas, shapes = unfolded(head, rest)
    closed = head.pose(rest).vertices
    a, b, c = (closed[head.faces[:, corner]] for corner in range(3))
    plain = torch.linalg.cross(b - a, c - a).norm(dim=-1) / 2
    inside = (shapes != closed[head.faces]).flatten(1).any(-1)
    assert 100 < int(inside.sum()) < 2000
    assert areas[inside].sum() > plain[inside].sum()
    torch.testing.assert_close(areas[~inside], plain[~inside])
    once = torch.ones(len(head.faces), dtype=torch.int64)
    frames = triangle_frames(opened, head.faces)

    def covered(shapes):
        splats, _ = surface_splats(closed, head.faces, once, shapes=shapes)
        _, scales, _ = local_to_world(splats.means, splats.log_scales.exp(), splats.rotations, splats.binding, frames)
        size = scales.sort(dim=-1).values
        a, b, c = (opened[head.faces[:, corner]] for corner in range(3))
        area = torch.linalg.cross(b - a, c - a).norm(dim=-1) / 2
        # The same for every triangle that is covered in its own shape.
        return (size[:, 1] * size[:, 2] / area)[inside]

    # Both half-axes of every Gaussian are those of the opened triangle; slivers have grown without them.
    assert covered(shapes).std() < 0.2 * covered(None).std()


def test_drift_is_0_at_first_and_weighs_each_gaussian():
    first = [torch.randn(5, 3), torch.randn(5, 3), torch.nn.functional.normalize(torch.randn(5, 4), dim=-1)]
    weight = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0])
    assert drift_loss(first, first, weight) == 0
    for index in range(3):
        now = [value.clone() for value in first]
        now[index][4] += 1.0
        assert drift_loss(now, first, weight) == 0
        now[index][0] += 1.0
        assert drift_loss(now, first, weight) > 0.1
