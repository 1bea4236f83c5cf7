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


def test_a_neck_that_is_bent_is_left_alone() -> None:
    head = load_head("builtin")
    params = head.neutral(2)
    bent = replace(params, joints={**params.joints, "neck": torch.full((2, 3), 0.1)})
    assert turn_neck(head, bent, torch.zeros(3)) is bent
