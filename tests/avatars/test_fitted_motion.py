"""Fine-tuned head parameters: they change from frame to frame, and not on average."""

from __future__ import annotations

from dataclasses import replace

import torch

from vultus.avatars.rigged.fitting import FittedMotion
from vultus.heads.builtin import load_builtin
from vultus.motion import Motion


def test_what_all_frames_share_is_taken_out_of_the_change() -> None:
    head, count = load_builtin(), 5
    random = torch.Generator().manual_seed(0)
    params = head.neutral(count)
    joints = {name: 0.1 * torch.randn(count, 3, generator=random) for name in params.joints}
    params = replace(params, joints=joints, translation=torch.randn(count, 3, generator=random))
    fitted = FittedMotion(
        Motion(
            params, torch.arange(count).double(), head.neutral(), torch.ones(count).bool(), torch.zeros(count).long()
        )
    )
    change = torch.randn(count, 3, generator=random)
    with torch.no_grad():
        fitted.translation += change
        fitted.expression += 2.0
        fitted.joints[0] += 0.3 + change
    fitted.center()
    found = fitted.motion().params
    torch.testing.assert_close(found.translation - params.translation, change - change.mean(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.expression, params.expression, atol=1e-6, rtol=0)
    name = fitted.joint_names[0]
    torch.testing.assert_close(found.joint(name) - params.joint(name), change - change.mean(0), atol=1e-6, rtol=0)
    assert fitted.change(0) > 0
