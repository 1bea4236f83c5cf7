"""Weights of one-shot networks: published checkpoints, DINOv2's official file, and files of our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from vultus.avatars.oneshot.model import OneShotModel
from vultus.avatars.oneshot.options import Architecture
from vultus.config import from_yaml, to_yaml
from vultus.errors import VultusError
from vultus.files import read_checkpoint_tensors, read_tensor_notes, read_tensors, write_tensors

_NOTE = "vultus_oneshot"
_PERCEPTUAL = "percep_loss."
_PUBLISHED_LICENSE = "research terms of GAGAvatar's authors"

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class About:
    """What a file of weights says of itself. head, fingerprint: of the head model it was trained with; empty for
    published weights, which any FLAME fits. training: how it was trained, in words."""

    architecture: Architecture = field(default_factory=Architecture)
    head: str = ""
    fingerprint: str = ""
    license: str = "not stated"
    training: str = ""


def load_model(path: str | Path) -> tuple[OneShotModel, About]:
    """A network ready to use (evaluation mode): the published GAGAvatar.pt, a file that `save_model` wrote, or the
    folder of a training run.

    Raises:
        VultusError: no such file, or not such a network; the message names the first tensor that does not fit.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        raise VultusError(f"{path}: no such file. Give GAGAvatar.pt, or the file or folder that training wrote")
    if path.suffix.lower() != ".safetensors":
        about = About(license=_PUBLISHED_LICENSE)
        tensors = read_checkpoint_tensors(path)
        tensors = {name: value for name, value in tensors.items() if not name.startswith(_PERCEPTUAL)}
    else:
        text = read_tensor_notes(path).get(_NOTE)
        if text is None:
            raise VultusError(f"{path}: holds tensors, but not a one-shot network that Vultus wrote")
        about = from_yaml(About, text, f"{path}: description")
        tensors = read_tensors(path)
    with torch.device("meta"):
        model = OneShotModel(about.architecture)
    model = fill(model, tensors, path).eval()
    driver = model.picture_driver
    if (
        driver is not None
        and not 0 <= int(driver.corners.min()) <= int(driver.corners.max()) < about.architecture.vertices
    ):
        raise VultusError(
            f"{path}: picture_driver.corners names vertices that the head model lacks; the file is damaged"
        )
    return model, about


def save_model(model: OneShotModel, path: str | Path, about: About) -> None:
    """Write a network, with what is said of it, as one safetensors file.

    Raises:
        VultusError: it cannot be written.
    """
    write_tensors(path, model.state_dict(), {_NOTE: to_yaml(about)})


def perceptual_weights(path: str | Path) -> dict[str, Tensor]:
    """The perceptual networks inside a published checkpoint, by `PerceptualDistance`'s names.

    Raises:
        VultusError: the file cannot be read or has none.
    """
    tensors = read_checkpoint_tensors(path)
    found = {name.removeprefix(_PERCEPTUAL): value for name, value in tensors.items() if name.startswith(_PERCEPTUAL)}
    if not found:
        raise VultusError(f"{path}: holds no perceptual networks (percep_loss.…)")
    return found


def load_dinov2(model: OneShotModel, path: str | Path) -> None:
    """Put the official weights of a DINOv2 of the model's size into its encoder.

    Raises:
        VultusError: not such a file.
    """
    tensors = read_checkpoint_tensors(path)
    _check(model.base_model.dino_model, tensors, Path(path))
    model.base_model.dino_model.load_state_dict(tensors)


def fill(module: Net, tensors: Mapping[str, Tensor], where: Path) -> Net:
    """A module made without memory (on the meta device), with these tensors as its own; every name must fit.

    Raises:
        VultusError: a tensor is missing, left over, of another shape, or not of finite numbers.
    """
    _check(module, tensors, where)
    module = module.to_empty(device="cpu")
    module.load_state_dict({name: value.detach() for name, value in tensors.items()})
    return module


def _check(module: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    wanted = module.state_dict()
    for name, value in wanted.items():
        found = tensors.get(name)
        if found is None:
            raise VultusError(f"{where}: has no tensor {name}; it is another network, or damaged")
        if found.shape != value.shape or found.is_floating_point() != value.is_floating_point():
            raise VultusError(
                f"{where}: {name} has shape {tuple(found.shape)} ({found.dtype}) instead of {tuple(value.shape)}; "
                "it is another network, or damaged"
            )
        if not bool(found.isfinite().all()):
            raise VultusError(f"{where}: {name} holds numbers that are not finite; the file is damaged")
    extra = sorted(set(tensors) - set(wanted))
    if extra:
        raise VultusError(f"{where}: has the unknown tensor {extra[0]} (and {len(extra) - 1} more); another network")
