"""The training loop: what it promises about resuming, interruption, checkpoints and randomness."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch

from vultus.errors import VultusError
from vultus.training import LoopSettings, latest_checkpoint, read_checkpoint, shuffled_index, step_generator, train


class Regression:
    """Fits a line through noisy samples: a task with data order, noise, a growing parameter and statistics."""

    name = "regression"

    def __init__(self, broken_at: int = 0) -> None:
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.seen = torch.zeros(7)
        self.broken_at = broken_at
        self._build()

    def _build(self) -> None:
        self.adam = torch.optim.Adam([{"params": [self.weight], "lr": 0.05, "name": "weight"}])
        self.optimizers = {"adam": self.adam}

    def loss(self, step, generator):
        item = shuffled_index(5, step, 7)
        self.seen[item] += 1
        x = torch.randn(self.weight.shape[0], generator=generator)
        loss = ((self.weight * x).sum() - x.sum() * (1 + 0.1 * item)).square()
        if step == self.broken_at:
            loss = loss * torch.nan
        return loss, {"item": float(item)}

    def before_update(self, step, generator):
        if step == 9:
            state = self.adam.state.pop(self.weight)
            gradient = self.weight.grad
            grown = torch.cat([self.weight.detach(), torch.randn(1, generator=generator)])
            self.weight = torch.nn.Parameter(grown)
            self.weight.grad = torch.cat([gradient, torch.zeros(1)])
            self.adam.param_groups[0]["params"] = [self.weight]
            pad = {k: torch.cat([v, torch.zeros(1)]) if v.dim() else v for k, v in state.items()}
            self.adam.state[self.weight] = pad

    def after_update(self, step):
        with torch.no_grad():
            self.weight.clamp_(-3, 3)

    def state(self):
        return {"weight": self.weight}, {"seen": self.seen}

    def restore(self, model, training):
        self.weight = torch.nn.Parameter(model["weight"].clone())
        self.seen = training["seen"].clone()
        self._build()


def settings(**changes):
    return LoopSettings(
        **{"steps": 20, "seed": 3, "checkpoint_every": 6, "log_every": 2, "tensorboard": False, **changes}
    )


@pytest.mark.parametrize("stop", [1, 5, 8, 9, 13])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path, stop):
    whole = Regression()
    assert train(whole, tmp_path / "whole", settings()) == 20
    first = Regression()
    train(first, tmp_path / "parts", settings(), control=lambda step, task: step == stop)
    assert read_checkpoint(latest_checkpoint(tmp_path / "parts")).step == stop
    second = Regression()
    assert train(second, tmp_path / "parts", settings()) == 20
    assert torch.equal(whole.weight, second.weight)
    assert torch.equal(whole.seen, second.seen)
    lines = [(tmp_path / run / "metrics.jsonl").read_text() for run in ("whole", "parts")]
    assert lines[0] == lines[1]
    for name in ("model.safetensors", "training_state.safetensors"):
        files = [(tmp_path / run / "checkpoints" / "step_000020" / name).read_bytes() for run in ("whole", "parts")]
        assert files[0] == files[1]


def test_lines_and_checkpoints_after_the_resumed_one_are_made_again(tmp_path):
    train(Regression(), tmp_path, settings())
    for folder in (tmp_path / "checkpoints").iterdir():
        if folder.name > "step_000018":
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2')
    train(Regression(), tmp_path, settings())
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(2, 21, 2))


def test_only_the_newest_checkpoints_stay(tmp_path):
    train(Regression(), tmp_path, settings(keep=2))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step_000018", "step_000020"]


def test_ctrl_c_finishes_the_step_and_writes_a_checkpoint(tmp_path):
    before = signal.getsignal(signal.SIGINT)

    def interrupt(stage, done, total, figures):
        if done == 7:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(Regression(), tmp_path, settings(), progress=interrupt)
    assert read_checkpoint(latest_checkpoint(tmp_path)).step == 7
    assert signal.getsignal(signal.SIGINT) is before
    resumed, whole = Regression(), Regression()
    train(resumed, tmp_path, settings())
    train(whole, tmp_path / "whole", settings())
    assert torch.equal(resumed.weight, whole.weight)


def test_another_run_in_the_folder_is_refused(tmp_path):
    train(Regression(), tmp_path, settings(about={"seed": 1}))
    with pytest.raises(VultusError, match="seed 1, not 2"):
        train(Regression(), tmp_path, settings(about={"seed": 2}))


def test_a_loss_that_is_no_number_keeps_the_last_checkpoint(tmp_path):
    with pytest.raises(VultusError, match="at step 15"):
        train(Regression(broken_at=15), tmp_path, settings())
    assert read_checkpoint(latest_checkpoint(tmp_path)).step == 12


@pytest.mark.parametrize("name", ["state.json", "model.safetensors", "training_state.safetensors"])
def test_a_damaged_checkpoint_is_named(tmp_path, name):
    train(Regression(), tmp_path, settings())
    path = latest_checkpoint(tmp_path) / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VultusError, match=name):
        train(Regression(), tmp_path, settings(steps=30))


def test_deterministic_algorithms_are_on_only_inside(tmp_path):
    seen = []
    train(
        Regression(), tmp_path, settings(), control=lambda *_: seen.append(torch.are_deterministic_algorithms_enabled())
    )
    assert all(seen)
    assert not torch.are_deterministic_algorithms_enabled()


def test_events_for_tensorboard(tmp_path):
    train(Regression(), tmp_path, settings(tensorboard=True))
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_every_epoch_visits_everything_in_an_order_of_its_own():
    orders = [[shuffled_index(1, epoch * 11 + i + 1, 11) for i in range(11)] for epoch in range(3)]
    assert all(sorted(order) == list(range(11)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert shuffled_index(1, 5, 11) == shuffled_index(1, 5, 11)


def test_generators_depend_on_seed_and_every_counter():
    draws = {
        tuple(torch.rand(3, generator=step_generator(*key)).tolist())
        for key in [(0, 1), (0, 2), (1, 1), (0, 1, 0), (0, 1, 1), (0, 0), (1, 0), (-1, 0), (2**63, 0)]
    }
    assert len(draws) == 9
