"""Sliders that pose a head: which there are, and what they do to head parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from vultus.animation.builtin_motions import EXPRESSIONS
from vultus.heads.arkit import (
    ARKIT_NAMES,
    arkit_name,
    arkit_to_params,
    arkit_weights,
    mirrored_name,
)
from vultus.heads.model import HeadModel
from vultus.motion import HeadParams
from vultus.rotations import axis_angle_to_matrix, matrix_to_axis_angle

if TYPE_CHECKING:
    import viser

_UNNAMED_SHOWN = 20
_REST = "rest"

_GROUPS = (
    ("brow", "Brows"),
    ("eye", "Eyelids"),
    ("cheek", "Cheeks and nose"),
    ("nose", "Cheeks and nose"),
    ("mouth", "Mouth"),
    ("jaw", "Jaw and tongue"),
    ("tongue", "Jaw and tongue"),
)
# Label, group, joints, axis, range in radians.
_TURNS = (
    ("jaw open", "Jaw and tongue", ("jaw",), 0, (-0.05, 0.6)),
    ("neck turn", "Neck", ("neck",), 1, (-0.9, 0.9)),
    ("neck nod", "Neck", ("neck",), 0, (-0.6, 0.6)),
    ("neck tilt", "Neck", ("neck",), 2, (-0.6, 0.6)),
    ("gaze sideways", "Gaze", ("left_eye", "right_eye"), 1, (-0.6, 0.6)),
    ("gaze down", "Gaze", ("left_eye", "right_eye"), 0, (-0.5, 0.5)),
    ("head turn", "Head", ("root",), 1, (-1.5, 1.5)),
)


@dataclass(frozen=True)
class Control:
    """One slider: an expression component, or the turn of joints about an axis (radians). `name` is what is searched,
    `label` what is read."""

    name: str
    label: str
    group: str
    low: float
    high: float
    component: int | None = None
    joints: tuple[str, ...] = ()
    axis: int = 0


def controls_of(head: HeadModel) -> tuple[Control, ...]:
    """The sliders of a head model. Of components without names only the first are offered."""
    controls, unnamed = [], 0
    for index, component in enumerate(head.expression_names):
        name = arkit_name(component)
        if name is None:
            unnamed += 1
            if unnamed <= _UNNAMED_SHOWN:
                controls.append(Control(component, component, "Expression", -3.0, 3.0, component=index))
            continue
        group = next(group for prefix, group in _GROUPS if name.startswith(prefix))
        controls.append(Control(name, _label(name), group, 0.0, 1.0, component=index))
    for label, group, joints, axis, (low, high) in _TURNS:
        if set(joints) <= set(head.joint_names):
            controls.append(Control(label, label, group, low, high, joints=joints, axis=axis))
    return tuple(controls)


def _label(name: str) -> str:
    """`mouthLowerDownLeft` as "lower down L": sliders are narrow, and the folder says the rest."""
    words = re.findall(r"[A-Z]?[a-z]+", name)
    sides = {"Left": "L", "Right": "R"}
    # Only a side that follows something else is one: mouthLeft moves the mouth to the left.
    side = [sides[words.pop()]] if len(words) > 2 and words[-1] in sides else []
    return " ".join([word.lower() for word in words[1:]] + side)


def posed(params: HeadParams, controls: Mapping[Control, float]) -> HeadParams:
    """Parameters (no batch) with the sliders' values on top."""
    expression = params.expression.clone()
    joints = dict(params.joints)
    for control, value in controls.items():
        if value == 0.0:
            continue
        if control.component is not None:
            expression[..., control.component] += value
            continue
        turn = torch.zeros(3)
        turn[control.axis] = value
        for name in control.joints:
            turned = axis_angle_to_matrix(params.joint(name) if name not in joints else joints[name])
            joints[name] = matrix_to_axis_angle(turned @ axis_angle_to_matrix(turn.to(turned)))
    return replace(params, expression=expression, joints=joints)


class ControlPanel:
    """The sliders in the browser, in folders, with a search field, expressions to choose from and a reset button.

    `changed` is called after every change, from whichever thread the browser's message arrives on.
    """

    def __init__(self, server: viser.ViserServer, head: HeadModel, changed: Callable[[], None]) -> None:
        self._head, self._changed = head, changed
        self.controls = controls_of(head)
        gui = server.gui
        self.expression: Any = gui.add_dropdown("Expression", (_REST, *EXPRESSIONS))
        self.both_sides: Any = gui.add_checkbox("Both sides together", True)
        self.search: Any = gui.add_text("Search", "", hint="shows the sliders whose names contain this")
        self.reset_button: Any = gui.add_button("Reset", icon=None)
        self.sliders: dict[Control, Any] = {}
        self._folders: dict[str, Any] = {}
        self._quiet = False
        for control in self.controls:
            if control.group not in self._folders:
                expand = control.group in ("Mouth", "Neck", "Gaze", "Expression")
                self._folders[control.group] = gui.add_folder(control.group, expand_by_default=expand)
            with self._folders[control.group]:
                slider = gui.add_slider(control.label, control.low, control.high, 0.01, 0.0)
            self.sliders[control] = slider
            slider.on_update(lambda event, control=control: self._moved(control))
        self.expression.on_update(lambda event: self.choose(str(self.expression.value)))
        self.search.on_update(lambda event: self.find(str(self.search.value)))
        self.reset_button.on_click(lambda event: self.reset())

    def values(self) -> dict[Control, float]:
        """The sliders' positions."""
        return {control: float(slider.value) for control, slider in self.sliders.items()}

    def reset(self) -> None:
        """All sliders back to where they have no effect."""
        self._set(dict.fromkeys(self.controls, 0.0))
        self.expression.value = _REST

    def choose(self, name: str) -> None:
        """Move the sliders to one of the built-in expressions."""
        weights = arkit_weights(dict(EXPRESSIONS[name])) if name != _REST else torch.zeros(len(ARKIT_NAMES))
        params = arkit_to_params(self._head, weights)
        wanted: dict[Control, float] = {}
        for control in self.controls:
            if control.component is not None:
                wanted[control] = float(params.expression[control.component])
            elif control.group in ("Jaw and tongue", "Gaze"):
                wanted[control] = float(params.joint(control.joints[0])[control.axis])
        self._set(wanted)

    def find(self, text: str) -> None:
        """Show only sliders whose name contains the text; an empty text shows all."""
        text = text.strip().lower()
        for control, slider in self.sliders.items():
            slider.visible = text in control.name.lower() or text in control.label.lower()
        for group, folder in self._folders.items():
            folder.visible = any(slider.visible for control, slider in self.sliders.items() if control.group == group)

    def _set(self, values: Mapping[Control, float]) -> None:
        self._quiet = True
        try:
            for control, value in values.items():
                self.sliders[control].value = min(max(round(value, 4), control.low), control.high)
        finally:
            self._quiet = False
        self._changed()

    def _moved(self, control: Control) -> None:
        if self._quiet:
            return
        if self.both_sides.value:
            other = mirrored_name(control.name)
            twin = next((known for known in self.controls if known.name == other and known is not control), None)
            sideways = control.name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight")
            if twin is not None and not sideways:
                self._quiet = True
                self.sliders[twin].value = self.sliders[control].value
                self._quiet = False
        self._changed()
