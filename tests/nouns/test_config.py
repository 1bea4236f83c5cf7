from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vultus.config import from_yaml, to_yaml
from vultus.errors import VultusError


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    names: tuple[str, ...] = ("a",)


@dataclass(frozen=True)
class Outer:
    mode: Literal["fast", "good"] = "fast"
    steps: int | None = None
    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    inner: Inner = field(default_factory=Inner)
    source: Path = Path("clip.mp4")
    flag: bool = False


@given(
    st.builds(
        Outer,
        mode=st.sampled_from(["fast", "good"]),
        steps=st.none() | st.integers(),
        color=st.tuples(*[st.floats(allow_nan=False)] * 3),
        inner=st.builds(Inner, rate=st.floats(allow_nan=False), names=st.lists(st.text()).map(tuple)),
        source=st.sampled_from([Path("a/b.mp4"), Path("ünï.png")]),
        flag=st.booleans(),
    )
)
def test_yaml_round_trip(config: Outer) -> None:
    assert from_yaml(Outer, to_yaml(config)) == config


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("stepz: 3", "stepz"),
        ("inner: {rat: 1.0}", "rat"),
        ("mode: slow", "mode"),
        ("steps: many", "steps"),
        ("flag: 1", "flag"),
        ("steps: true", "steps"),
        ("color: [1.0, 2.0]", "color"),
        ("- 1", "settings"),
        ("a: [", "YAML"),
    ],
)
def test_mistakes_are_named(text: str, named: str) -> None:
    with pytest.raises(VultusError, match=named):
        from_yaml(Outer, text)


def test_missing_keys_take_defaults() -> None:
    assert from_yaml(Outer, "") == Outer()
    assert from_yaml(Outer, "color: [0, 1, 0]").color == (0.0, 1.0, 0.0)
