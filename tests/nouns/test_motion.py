import torch

from vultus.motion import HeadParams, Motion, retarget
from vultus.rotations import axis_angle_to_matrix


def _params(*batch: int, seed: int = 0) -> HeadParams:
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return 0.3 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    return HeadParams(
        model="m",
        identity=noise(4),
        expression=noise(*batch, 5),
        joints={"jaw": noise(*batch, 3), "root": noise(*batch, 3)},
        translation=noise(*batch, 3),
        scale=torch.ones((), dtype=torch.float64),
    )


def test_indexing_keeps_what_is_shared() -> None:
    params = _params(6)
    assert params.batch_shape == (6,)
    one = params[2]
    assert one.batch_shape == ()
    torch.testing.assert_close(one.expression, params.expression[2])
    torch.testing.assert_close(one.identity, params.identity)
    assert params[1:4].batch_shape == (3,)


def test_absent_joint_is_zero() -> None:
    assert _params(2).joint("neck").abs().sum() == 0


def test_retargeting_a_neutral_gives_the_other_neutral() -> None:
    source, target = _params(seed=1), _params(seed=2)
    moved = retarget(source, source, target)
    torch.testing.assert_close(moved.expression, target.expression)
    torch.testing.assert_close(moved.translation, target.translation)
    for name in target.joints:
        torch.testing.assert_close(axis_angle_to_matrix(moved.joint(name)), axis_angle_to_matrix(target.joint(name)))
    torch.testing.assert_close(moved.identity, target.identity)


def test_retargeting_to_oneself_changes_nothing() -> None:
    motion, neutral = _params(6, seed=3), _params(seed=4)
    moved = retarget(motion, neutral, neutral)
    torch.testing.assert_close(moved.expression, motion.expression)
    for name in motion.joints:
        torch.testing.assert_close(axis_angle_to_matrix(moved.joint(name)), axis_angle_to_matrix(motion.joint(name)))


def test_motion_defaults_and_frame_rate() -> None:
    motion = Motion(_params(4), torch.arange(4) / 30.0, _params())
    assert bool(motion.valid.all())
    assert motion.shots.tolist() == [0, 0, 0, 0]
    assert abs(motion.fps - 30.0) < 1e-3
    assert len(motion[1:3]) == 2
