"""Motion files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from capture_samples import make_head, make_motion
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vultus.captures import head_of_motion, read_motion, write_motion
from vultus.errors import VultusError
from vultus.files import read_npz, write_npz
from vultus.heads import SkinnedHead
from vultus.motion import HeadParams, Motion

in_tmp_path = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)


def assert_params_equal(actual: HeadParams, expected: HeadParams) -> None:
    assert actual.model == expected.model
    torch.testing.assert_close(actual.identity, expected.identity)
    torch.testing.assert_close(actual.expression, expected.expression)
    torch.testing.assert_close(actual.translation, expected.translation)
    torch.testing.assert_close(actual.scale, expected.scale)
    for name in {*actual.joints, *expected.joints}:
        torch.testing.assert_close(*torch.broadcast_tensors(actual.joint(name), expected.joint(name)))
    assert (actual.offset is None) == (expected.offset is None)
    if actual.offset is not None:
        torch.testing.assert_close(actual.offset, expected.offset)


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("has_offset", [False, True])
@pytest.mark.parametrize("with_head", [False, True])
def test_round_trip(tmp_path: Path, head: SkinnedHead, count: int, has_offset: bool, with_head: bool) -> None:
    motion = make_motion(head, count, has_offset)
    write_motion(tmp_path / "m.npz", motion, head)
    back = read_motion(tmp_path / "m.npz", head if with_head else None)
    assert_params_equal(back.params, motion.params)
    assert_params_equal(back.neutral, motion.neutral)
    torch.testing.assert_close(back.times, motion.times)
    assert torch.equal(back.valid, motion.valid)
    assert torch.equal(back.shots, motion.shots)
    assert back.params.batch_shape == (count,)
    assert head_of_motion(tmp_path / "m.npz") == (head.name, head.fingerprint)


def test_components_are_placed_by_name(tmp_path: Path, head: SkinnedHead) -> None:
    motion = make_motion(head, 3)
    write_motion(tmp_path / "m.npz", motion, head)
    arrays = read_npz(tmp_path / "m.npz")
    order = [2, 0]
    for key in ("expression", "neutral_expression"):
        arrays[key] = arrays[key][..., order]
    arrays["expression_names"] = arrays["expression_names"][order]
    write_npz(tmp_path / "m.npz", **arrays)
    expected = motion.params.expression.clone()
    expected[:, 1] = 0
    torch.testing.assert_close(read_motion(tmp_path / "m.npz", head).params.expression, expected)
    arrays["expression_names"][0] = "another"
    write_npz(tmp_path / "m.npz", **arrays)
    with pytest.raises(VultusError, match="no component 'another'"):
        read_motion(tmp_path / "m.npz", head)


def test_absent_joints_are_zero(tmp_path: Path, head: SkinnedHead) -> None:
    motion = make_motion(head, 3)
    params = HeadParams(**{**vars(motion.params), "joints": {"jaw": motion.params.joints["jaw"]}})
    neutral = HeadParams(**{**vars(motion.neutral), "joints": {}})
    write_motion(tmp_path / "m.npz", Motion(params, motion.times, neutral), head)
    back = read_motion(tmp_path / "m.npz", head)
    assert set(back.params.joints) == {"jaw"}
    torch.testing.assert_close(back.params.joints["jaw"], params.joints["jaw"])
    assert not back.params.joint("neck").any()


def test_another_head_is_refused_with_advice(tmp_path: Path, head: SkinnedHead) -> None:
    other = make_head("other-head", vertices=11)
    motion = make_motion(head, 3)
    with pytest.raises(VultusError, match="other-head"):
        write_motion(tmp_path / "m.npz", motion, other)
    write_motion(tmp_path / "m.npz", motion, head)
    with pytest.raises(VultusError, match=r"m\.npz.*test-head.*other-head.*track the footage again"):
        read_motion(tmp_path / "m.npz", other)


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, head: SkinnedHead) -> None:
    motion = make_motion(head, 3)
    motion.params.translation[1, 2] = float("nan")
    with pytest.raises(ValueError, match="translation"):
        write_motion(tmp_path / "m.npz", motion, head)
    still = make_motion(head, 2)
    still.times[1] = still.times[0]
    with pytest.raises(ValueError, match="increase"):
        write_motion(tmp_path / "m.npz", still, head)
    assert not (tmp_path / "m.npz").exists()


@in_tmp_path
@given(data=st.data())
def test_hostile_motions(tmp_path: Path, data: st.DataObject) -> None:
    head = make_head()
    write_motion(tmp_path / "m.npz", make_motion(head, 3, has_offset=True), head)
    arrays = read_npz(tmp_path / "m.npz")
    key = data.draw(st.sampled_from(sorted(arrays)))
    change = data.draw(st.sampled_from(["drop", "nan", "text", "empty", "longer", "deeper", "huge"]))
    value = arrays[key]
    if change == "drop":
        del arrays[key]
    elif change == "nan":
        arrays[key] = np.full(value.shape, np.nan, np.float32)
    elif change == "text":
        arrays[key] = np.full(value.shape, "x")
    elif change == "empty":
        arrays[key] = np.zeros(0, np.float32)
    elif change == "longer":
        arrays[key] = np.concatenate([np.atleast_1d(value)] * 2)
    elif change == "deeper":
        arrays[key] = value[None, None, None]
    else:
        arrays[key] = np.full(value.shape, 3e38, np.float32)
    write_npz(tmp_path / "m.npz", **arrays)
    try:
        motion = read_motion(tmp_path / "m.npz", head)
    except VultusError as error:
        assert "m.npz" in str(error)  # noqa: PT017
    else:
        assert (key, change) in {("offset", "drop"), ("neutral_offset", "drop"), ("head_name", "text")} or (
            change == "text" and value.dtype.kind == "U"
        ), f"{key} {change} was accepted"
        assert bool(torch.isfinite(motion.params.expression).all())
