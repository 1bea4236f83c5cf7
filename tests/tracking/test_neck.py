from dataclasses import replace

import torch

from vultus.heads.load import load_head
from vultus.tracking.neck import turn_neck


def test_the_skull_stays_and_the_bust_rests() -> None:
    head = load_head("builtin")
    generator = torch.Generator().manual_seed(3)
    params = head.neutral(4)
    params = replace(
        params,
        identity=0.5 * torch.randn(len(head.identity_names), generator=generator),
        joints={**params.joints, "root": 0.4 * torch.randn(4, 3, generator=generator)},
        translation=0.1 * torch.randn(4, 3, generator=generator),
    )
    body = torch.tensor([0.1, -0.05, 0.02])
    turned = turn_neck(head, params, body)
    before, after = head.pose(params), head.pose(turned)
    skull = torch.cat([head.regions["scalp"], head.regions["left_eyeball"], head.regions["teeth_upper"]])
    torch.testing.assert_close(after.vertices[:, skull], before.vertices[:, skull], atol=2e-6, rtol=0)
    assert not torch.allclose(
        before.vertices[:, head.regions["below_line"]], after.vertices[:, head.regions["below_line"]]
    )
    rim = after.vertices[:, head.regions["below_line"]] - turned.translation[:, None]
    torch.testing.assert_close(rim, rim[:1].expand_as(rim), atol=2e-6, rtol=0)


def test_a_bent_neck_bends_further_or_less() -> None:
    head = load_head("builtin")
    generator = torch.Generator().manual_seed(5)
    params = head.neutral(3)
    joints = {name: 0.2 * torch.randn(3, 3, generator=generator) for name in ("root", "neck")}
    params = replace(params, joints={**params.joints, **joints}, translation=torch.full((3, 3), 0.05))
    bodies = 0.2 * torch.randn(3, 3, generator=generator)
    turned = turn_neck(head, params, bodies)
    torch.testing.assert_close(turned.joint("root"), bodies)
    before, after = head.pose(params), head.pose(turned)
    skull = torch.cat([head.regions["scalp"], head.regions["left_eyeball"], head.regions["teeth_upper"]])
    torch.testing.assert_close(after.vertices[:, skull], before.vertices[:, skull], atol=2e-6, rtol=0)
    back = turn_neck(head, turned, params.joint("root"))
    torch.testing.assert_close(back.joint("neck"), params.joint("neck"), atol=1e-5, rtol=0)
    torch.testing.assert_close(back.translation, params.translation, atol=1e-6, rtol=0)
