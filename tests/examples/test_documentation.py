"""The pages of the documentation against the code: commands parse, snippets import what exists, files have the keys."""

from __future__ import annotations

import ast
import functools
import importlib
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic_avatar import synthetic_avatar

import vultus.cli
from vultus.captures import CaptureWriter, Source
from vultus.files import read_npz, read_tensors
from vultus.motion import Motion
from vultus.tracking import SharedFit
from vultus.tracking.shared_file import write_shared

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    """Page name and text of every code block of a language."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [(page.name, text) for page in PAGES for text in pattern.findall(page.read_text(encoding="utf-8"))]


def command_lines() -> list[str]:
    lines = [line.split("#")[0].strip() for _, text in blocks("bash") for line in text.splitlines()]
    return sorted({line for line in lines if line.startswith("vultus ")} - {"vultus COMMAND --help"})


@pytest.mark.parametrize("line", command_lines())
def test_every_command_line_is_understood(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def recorded(module: str) -> Callable[..., None]:
        function = importlib.import_module(f"vultus.cli.{module}").COMMAND

        @functools.wraps(function)
        def record(*args: Any, **kwargs: Any) -> None:
            called.append(module)

        return record

    monkeypatch.setattr(vultus.cli, "_command", recorded)
    words = shlex.split(line)[1:]
    assert vultus.cli.run(words) == 0
    assert called == [words[0]]


def test_every_option_of_every_command_is_explained() -> None:
    text = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("commands.md", "tracking.md"))
    for command in vultus.cli.COMMANDS.values():
        function = importlib.import_module(f"vultus.cli.{command}").COMMAND
        for name, default in (function.__kwdefaults__ or {}).items():
            option = name.replace("_", "-")
            assert f"--no-{option}" in text if default is True else f"`--{option}" in text, f"{command} --{option}"


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_snippets_compile_and_import_what_exists(page: str, text: str) -> None:
    for node in ast.walk(ast.parse(text, page)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vultus"):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}")


def explained(page: str) -> set[str]:
    """What a page sets in code type."""
    text = re.sub(r"```.*?```", "", (ROOT / "docs" / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    return {word for quoted in re.findall(r"`([^`]+)`", text) for word in re.split(r"[ ,]+", quoted)}


def test_the_keys_of_an_avatar_folder_are_explained(tmp_path: Path) -> None:
    avatar = synthetic_avatar(size=32)
    count = 2
    params = avatar.head.neutral(count)
    avatar.motion = Motion(params, torch.arange(count) / 25, avatar.head.neutral())
    avatar.save(tmp_path / "avatar")
    known = explained("files.md")
    assert set(json.loads((tmp_path / "avatar" / "avatar.json").read_text())) <= known
    assert set(read_npz(tmp_path / "avatar" / "motion.npz")) <= known
    tensors = {
        re.sub(r"joint\..*", "joint.NAME", name) for name in read_tensors(tmp_path / "avatar/avatar.safetensors")
    }
    assert tensors <= known


def test_the_keys_of_a_capture_are_explained(tmp_path: Path) -> None:
    avatar = synthetic_avatar(size=32)
    with CaptureWriter(tmp_path, head=avatar.head, fps=25.0, source=Source("a.jpg", "0" * 64)) as writer:
        writer.add_image(0, 0, torch.ones(32, 32, 3), torch.ones(32, 32, 1))
        writer.set_camera(0, avatar.view)
        writer.set_motion(Motion(avatar.head.neutral(1), torch.zeros(1), avatar.head.neutral()))
        writer.set_landmarks("ibug68", 0, 0, torch.zeros(70, 2))
    known = explained("files.md")
    assert set(json.loads((tmp_path / "capture.json").read_text())) <= known
    assert set(json.loads((tmp_path / "transforms.json").read_text())["frames"][0]) <= known
    assert set(read_npz(tmp_path / "landmarks.npz")) <= known


def test_the_keys_of_a_shared_fit_are_explained(tmp_path: Path) -> None:
    neutral = synthetic_avatar(size=32).rest
    offset = torch.zeros(7642, 3)
    fit = SharedFit(neutral.model, neutral.identity, 900.0, 64, 48, offset, neutral, torch.zeros(3), (1.0, 2.0, 3.0))
    write_shared(tmp_path, fit)
    keys = {re.sub("joint_.*", "joint_NAME", key) for key in read_npz(tmp_path / "shared.npz")}
    assert keys <= explained("tracking.md")
