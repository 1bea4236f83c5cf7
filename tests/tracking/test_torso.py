"""Following the torso: registration of pictures, the turn of the root joint, and the template's file."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.heads import SkinnedHead
from vultus.images.masks import soften
from vultus.images.resample import resize
from vultus.meshes import rasterize_mesh
from vultus.tracking.landmark_fit import SharedFit
from vultus.tracking.neck import turn_neck
from vultus.tracking.shared_file import FILE_NAME, read_shared, write_shared
from vultus.tracking.torso import TorsoTemplate, bust_share, torso_motion, torso_template, turn_body


def _template(picture: torch.Tensor, rows: slice, columns: slice) -> TorsoTemplate:
    region = torch.zeros(*picture.shape[:2], 1)
    region[rows, columns] = 1
    return TorsoTemplate(
        resize(picture.mean(-1, keepdim=True), 256, 256),
        resize(region, 256, 256) > 0.5,
        torch.zeros(0, dtype=torch.long),
        torch.zeros(0, 2),
        (picture.shape[1], picture.shape[0]),
    )


def _noise(seed: int) -> torch.Tensor:
    picture = soften(torch.rand(300, 300, 3, generator=torch.Generator().manual_seed(seed)), 4.0)
    return (picture - 0.5) * 6 + 0.5


def _camera() -> Camera:
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    pose[2, 3] = 1.2
    return Camera.from_focal(900.0, 384, 384, pose)


def test_registration_finds_an_affine_motion() -> None:
    random = torch.Generator().manual_seed(0)
    picture = soften(torch.rand(300, 300, 3, generator=random), 4.0)
    picture = (picture - 0.5) * 6 + 0.5
    y, x = torch.meshgrid(torch.arange(300) + 0.5, torch.arange(300) + 0.5, indexing="ij")
    truth = []
    pictures = []
    for step in range(5):
        linear = torch.tensor([[1 + 0.01 * step, -0.015 * step], [0.012 * step, 1 - 0.01 * step]])
        shift = torch.tensor([2.0, -1.5]) * step
        warp = torch.cat([linear, (150 + shift - linear @ torch.tensor([150.0, 150.0]))[:, None]], -1)
        # The picture at warp(x) shows what the first shows at x.
        back = torch.linalg.inv(linear)
        source = (torch.stack([x, y], -1) - warp[:, 2]) @ back.T
        grid = 2 * source / 300 - 1
        shown = torch.nn.functional.grid_sample(picture.permute(2, 0, 1)[None], grid[None], align_corners=False)
        pictures.append(shown[0].permute(1, 2, 0))
        truth.append(warp)
    template = _template(pictures[0], slice(80, 220), slice(60, 240))
    found, likeness = torso_motion(template, lambda index: pictures[index], range(5), 0)
    assert float(likeness.min()) > 0.99
    corners = torch.tensor([[60.0, 80.0], [240.0, 80.0], [60.0, 220.0], [240.0, 220.0]])
    for warp, expected in zip(found, truth, strict=True):
        got, want = (corners @ matrix[:, :2].T + matrix[:, 2] for matrix in (warp, expected))
        assert float((got - want).abs().max()) < 0.3


def test_something_else_is_not_alike() -> None:
    template = _template(_noise(0), slice(80, 220), slice(60, 240))
    _, likeness = torso_motion(template, lambda index: _noise(index), range(1, 3), 0)
    assert float(likeness.max()) < 0.5


def test_the_body_turns_to_where_the_pictures_show_the_bust(builtin: SkinnedHead) -> None:
    head, camera = builtin, _camera()
    random = torch.Generator().manual_seed(2)
    params = head.neutral(6)
    params = replace(params, joints={**params.joints, "neck": 0.1 * torch.randn(6, 3, generator=random)})
    body = 0.06 * torch.tensor([[0, 0, -1], [0, 1, 0], [0, 0, 1], [-1, 1, 0], [0, -1, -1], [1, 1, 1]]).float()
    truth = turn_neck(head, params, body)
    picture, mask = _shown(head, params[0], camera)
    template = torso_template(head, params[0], camera, picture, mask)
    assert template is not None
    places = camera.project(head.pose(truth).vertices[:, template.vertices])
    onto = torch.cat([template.places, torch.ones_like(template.places[:, :1])], -1)
    warps = torch.linalg.lstsq(onto.expand(6, -1, -1), places).solution.transpose(1, 2)
    found = turn_body(head, params, camera, template, warps, torch.tensor([1.0, 1, 1, 1, 1, 0]))

    def off(poses, frame: int) -> float:
        seen = camera.project(head.pose(poses[frame]).vertices[template.vertices])
        return float((seen - places[frame]).norm(dim=-1).mean())

    for frame in range(5):
        assert off(found, frame) < 0.8 * off(params, frame)
    assert torch.equal(found[5].joint("root"), params[5].joint("root"))
    skull = head.regions["scalp"]
    before, after = head.pose(params).vertices, head.pose(found).vertices
    torch.testing.assert_close(after[:, skull], before[:, skull], atol=2e-6, rtol=0)


def _shown(head: SkinnedHead, params, camera: Camera) -> tuple[torch.Tensor, torch.Tensor]:
    faces = rasterize_mesh(head.pose(params).vertices, head.faces, camera).face_ids
    mask = (faces >= 0).float()[..., None]
    return 1 - 0.5 * mask.expand(-1, -1, 3), mask


def test_a_template_is_the_bust_and_not_the_head(builtin: SkinnedHead) -> None:
    head, camera = builtin, _camera()
    template = torso_template(head, head.neutral(), camera, *_shown(head, head.neutral(), camera))
    assert template is not None
    assert float(bust_share(head)[template.vertices].min()) > 0.9
    pixels = camera.project(head.pose(head.neutral()).vertices) * 256 / 384
    chin = pixels[head.regions["face"], 1].max()
    rows = template.region[..., 0].any(1).nonzero()
    assert float(rows.min()) > float(pixels[head.regions["lips"], 1].min())
    assert float(rows.max()) > float(chin)
    empty = torch.zeros(384, 384, 1)
    assert torso_template(head, head.neutral(), camera, torch.ones(384, 384, 3), empty) is None


def test_a_template_survives_its_file_and_a_damaged_one_is_reported(builtin: SkinnedHead, tmp_path) -> None:
    head, camera = builtin, _camera()
    template = torso_template(head, head.neutral(), camera, *_shown(head, head.neutral(), camera))
    assert template is not None
    shared = SharedFit(head.fingerprint, head.neutral().identity, 900.0, 384, 384, torso=template)
    write_shared(tmp_path, shared)
    read = read_shared(tmp_path, head).torso
    assert read is not None
    assert read.size == template.size
    assert torch.equal(read.region, template.region)
    assert torch.equal(read.vertices, template.vertices)
    assert torch.equal(read.places, template.places)
    assert float((read.picture - template.picture).abs().max()) < 0.003
    write_shared(tmp_path, replace(shared, torso=replace(template, vertices=template.vertices + len(head.template))))
    with pytest.raises(VultusError, match=FILE_NAME):
        read_shared(tmp_path, head)
