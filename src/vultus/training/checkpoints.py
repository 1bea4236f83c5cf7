"""Checkpoints: `checkpoints/step_000500/{model.safetensors, training_state.safetensors, state.json}`.

A checkpoint folder appears whole or not at all.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vultus.errors import VultusError
from vultus.files import atomic_folder, read_json, read_tensors, write_json, write_tensors

_FORMAT = 1
_FOLDER = re.compile(r"step_(\d{6,})")


@dataclass(frozen=True)
class Checkpoint:
    """Everything a training run needs to go on. `about` says which run it belongs to; it has to match on resuming."""

    step: int
    model: Mapping[str, Tensor]
    training: Mapping[str, Tensor]
    about: Mapping[str, object]


def write_checkpoint(run: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write a checkpoint of a run folder and delete all but the newest `keep`. Returns its folder.

    Raises:
        VultusError: the folder cannot be written.
    """
    folder = run / "checkpoints" / f"step_{checkpoint.step:06d}"
    with atomic_folder(folder) as partial:
        write_tensors(partial / "model.safetensors", checkpoint.model)
        write_tensors(partial / "training_state.safetensors", checkpoint.training)
        write_json(
            partial / "state.json", {"format": _FORMAT, "step": checkpoint.step, "about": dict(checkpoint.about)}
        )
    for _, old in _folders(run)[: -max(keep, 1)]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        VultusError: a file is missing, damaged or of a newer version.
    """
    state = read_json(folder / "state.json")
    if not isinstance(state, dict) or state.get("format") != _FORMAT or not isinstance(state.get("step"), int):
        raise VultusError(
            f"{folder / 'state.json'}: is not a checkpoint of format {_FORMAT}; delete {folder} to start from an "
            "earlier one"
        )
    about = state.get("about")
    return Checkpoint(
        step=state["step"],
        model=read_tensors(folder / "model.safetensors"),
        training=read_tensors(folder / "training_state.safetensors"),
        about=about if isinstance(about, dict) else {},
    )


def latest_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint folder of a run, or None."""
    folders = _folders(run)
    return folders[-1][1] if folders else None


def _folders(run: Path) -> list[tuple[int, Path]]:
    parent = run / "checkpoints"
    if not parent.is_dir():
        return []
    matches = ((_FOLDER.fullmatch(path.name), path) for path in parent.iterdir())
    return sorted((int(match[1]), path) for match, path in matches if match)


def optimizer_tensors(optimizers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """State of optimisers by `optimizer.<name>.<group>.<parameter>.<key>`. Groups may have a `name`."""
    tensors = {}
    for name, optimizer in optimizers.items():
        for place, parameter in _places(name, optimizer):
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{place}.{key}"] = torch.as_tensor(value)
    return tensors


def restore_optimizers(optimizers: Mapping[str, torch.optim.Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave, onto the parameters that the optimisers have now.

    Raises:
        VultusError: a stored moment does not fit its parameter.
    """
    for name, optimizer in optimizers.items():
        for place, parameter in _places(name, optimizer):
            prefix = f"{place}."
            state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if not state:
                optimizer.state.pop(parameter, None)
                continue
            for key, value in state.items():
                if value.dim() > 0 and value.shape != parameter.shape:
                    raise VultusError(
                        f"the checkpoint's {prefix}{key} has shape {tuple(value.shape)} where the model has "
                        f"{tuple(parameter.shape)}; the checkpoint belongs to another run"
                    )
            optimizer.state[parameter] = {
                # Adam counts steps on the CPU whatever the device.
                key: value.clone() if value.dim() == 0 else value.clone().to(parameter.device)
                for key, value in state.items()
            }


def _places(name: str, optimizer: torch.optim.Optimizer) -> list[tuple[str, Tensor]]:
    return [
        (f"optimizer.{name}.{group.get('name', index)}.{number}", parameter)
        for index, group in enumerate(optimizer.param_groups)
        for number, parameter in enumerate(group["params"])
    ]
