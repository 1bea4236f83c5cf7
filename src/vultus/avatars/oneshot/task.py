"""Training a one-shot network, as a task for the loop that all avatars share."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.avatars.oneshot.compute import Compute
from vultus.avatars.oneshot.frames import (
    Batch,
    Frames,
    Targets,
    collate,
    collate_targets,
    held_out_pairs,
    training_pairs,
)
from vultus.avatars.oneshot.losses import box_crops, box_loss, expanded_box, image_loss, lifting_loss, pixel_box
from vultus.avatars.oneshot.model import Drawn, OneShotModel
from vultus.avatars.oneshot.settings import OneShotSettings
from vultus.errors import VultusError
from vultus.images.metrics import psnr, ssim
from vultus.networks.feature_distance import PerceptualDistance
from vultus.training import average_gradients, rank, step_generator, world_size

_SLOW = ("style_mlp", "final_linear")
_LATEST = "latest."
"""Weights of the last step in checkpoints, beside the averaged ones."""
_VALIDATED = 16
"""Pairs that are looked at while training, as published."""
_TINY = 1e-8
"""Keeps a square root's slope finite where nothing is wrong."""
_GRAY = (0.299, 0.587, 0.114)


class OneShotTask:
    """See `vultus.training.Task`. Every process of a group works on its share of each batch.

    Args:
        model: on its device. frames: to learn from. validation: clips to measure on; None: no measuring.
        perceptual: the networks of the perceptual loss, where their weights are at hand.

    Raises:
        VultusError: the batch cannot be shared evenly.
    """

    name = "train"

    def __init__(
        self,
        model: OneShotModel,
        frames: Frames,
        settings: OneShotSettings,
        *,
        validation: Frames | None = None,
        perceptual: PerceptualDistance | None = None,
    ) -> None:
        if settings.batch % world_size():
            raise VultusError(f"a batch of {settings.batch} cannot be shared evenly by {world_size()} processes")
        self.model, self.settings, self._frames, self._validation = model, settings, frames, validation
        self._perceptual = None if perceptual is None else perceptual.eval().requires_grad_(False)
        model.compute = Compute(settings.precision)  # unchecked: training in 16 bits also saves memory
        model.base_model.dino_model.requires_grad_(settings.train_vit)
        self._device = model.head_base.device
        self._numbers = [number for clip in frames.clips for number in clip]
        named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
        self._trained = [value for _, value in named]
        slow = [value for name, value in named if any(part in name for part in _SLOW)]
        fast = [value for name, value in named if not any(part in name for part in _SLOW)]
        self._adam = torch.optim.Adam(
            [{"params": fast, "name": "network", "share": 1.0}, {"params": slow, "name": "style", "share": 0.0}],
            betas=settings.betas,
            eps=1e-8,
            fused=True,
        )
        self._adam.param_groups[1]["share"] = settings.slow_rate
        self.optimizers: Mapping[str, torch.optim.Optimizer] = {"adam": self._adam}
        self.result = copy.deepcopy(model).requires_grad_(False) if settings.average else model
        """The network that training gives: of averaged weights where the settings say so."""
        self._measured: dict[str, float] = {}

    def loss(self, step: int, generator: torch.Generator) -> tuple[Float[Tensor, ""], Mapping[str, float]]:
        settings, architecture = self.settings, self.settings.architecture
        progress = min(1.0, (step - 1) / settings.steps)
        rate = settings.rate * min(1.0, step / (settings.warm_up + 1))
        for group in self._adam.param_groups:
            group["lr"] = rate * group["share"] * (1 - (1 - settings.last_rate) * progress)
        pairs = training_pairs(self._frames.clips, step, settings.seed, generator, settings.batch)
        pairs = pairs[rank() :: world_size()]
        batch = collate(self._frames, pairs, architecture.source_size, architecture.image_size).to(self._device)
        noise = None
        if settings.noise == "drawn":
            noise = step_generator(settings.seed, step, rank() + 1, device=self._device)
        vertices = driven_vertices(self.model, batch)
        drawn, lifted = self.model(batch.source, batch.source_transform, vertices, batch.transform, noise)
        terms = self._terms(drawn, lifted, batch, generator)
        if self.model.picture_driver is not None and settings.weights.driver:
            more = self._looked_at(generator)
            apart = [vertices - batch.vertices, driven_vertices(self.model, more) - more.vertices]
            # Of every picture by itself: what few vertices do, a wink, would not count beside a wide open mouth.
            terms["driver"] = settings.weights.driver * (torch.cat(apart).square().mean((1, 2)) + _TINY).sqrt().mean()
        with torch.no_grad():
            quality = float(psnr(drawn.fine.clamp(0, 1).movedim(1, -1), batch.target.movedim(1, -1)).mean())
        figures = {name: float(term.detach()) for name, term in terms.items()}
        return torch.stack(list(terms.values())).sum(), {**figures, "psnr": quality, **self._measured}

    def _looked_at(self, generator: torch.Generator) -> Targets:
        """Frames from which only the picture driver learns: it needs more of them than can be drawn."""
        count = max(self.settings.driver_pictures, world_size())
        numbers = torch.randint(len(self._numbers), (count,), generator=generator)
        chosen = [self._numbers[number] for number in numbers.tolist()][rank() :: world_size()]
        return collate_targets(self._frames, chosen, self.settings.architecture.image_size).to(self._device)

    def _terms(
        self, drawn: Drawn, lifted: Float[Tensor, "B P 3"], batch: Batch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The weighted losses by name."""
        weights, size, parts = self.settings.weights, batch.target.shape[-1], self.settings.architecture.parts
        coarse, fine, target = drawn.coarse, drawn.fine, batch.target
        terms = {
            "image": weights.image * image_loss(coarse, fine, target),
            "box": weights.box * box_loss(coarse, fine, target, batch.box, size),
        }
        behind, before = lifted.chunk(2, dim=1)
        sheets = [sheet for sheet, kept in ((behind, parts.behind), (before, parts.before)) if kept]
        if weights.lifting and sheets:
            vertices, some = batch.vertices, self.settings.lifted_vertices
            if some:
                drawn_ones = torch.randint(vertices.shape[1], (some,), generator=generator).to(vertices.device)
                vertices = vertices[:, drawn_ones]
            terms["lifting"] = weights.lifting * lifting_loss(vertices, torch.cat(sheets, dim=1))
        if weights.perceptual and self._perceptual is not None:
            boxes = pixel_box(expanded_box(batch.box), size)
            crops = [box_crops(image, boxes, size) for image in (coarse, fine, target)]
            if crops[0]:
                a, b, truth = (torch.cat(images) for images in crops)
                distance = self._perceptual(a, truth) + self._perceptual(b, truth)
                terms["perceptual"] = weights.perceptual * distance
        return terms

    def before_update(self, step: int, generator: torch.Generator) -> None:
        average_gradients(self._trained)

    def after_update(self, step: int) -> None:
        if self.result is not self.model:
            # Early on the mean forgets faster: it would otherwise be one of first weights.
            kept = min(self.settings.average, step / (step + 10))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.result.parameters()), list(self.model.parameters()), 1 - kept)
        if self._validation is not None and step % self.settings.validate_every == 0:
            self._measured = measure(self.result, self._validation)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        training = {f"measured.{name}": torch.tensor(value) for name, value in self._measured.items()}
        if self.result is not self.model:
            training |= {_LATEST + name: value for name, value in self.model.named_parameters()}
        return dict(self.result.state_dict()), training

    def restore(self, model: Mapping[str, Tensor], training: Mapping[str, Tensor]) -> None:
        try:
            self.result.load_state_dict(dict(model))
            if self.result is not self.model:
                latest = {name: training[_LATEST + name] for name, _ in self.model.named_parameters()}
                self.model.load_state_dict({**model, **latest})
        except KeyError as error:
            raise VultusError(f"the checkpoint lacks the tensor {error}; it belongs to another version") from error
        except RuntimeError as error:
            raise VultusError(f"the checkpoint belongs to another network: {str(error)[:200]}") from error
        self._measured = {
            name.removeprefix("measured."): float(value)
            for name, value in training.items()
            if name.startswith("measured.")
        }


def driven_vertices(model: OneShotModel, batch: Batch | Targets) -> Float[Tensor, "B V 3"]:
    """The targets' vertices: the head model's, or where the network has a picture driver, what it makes of the targets'
    pictures."""
    if model.picture_driver is None:
        return batch.vertices
    return model.driven(batch.target, batch.transform, batch.rest)


def measure(
    model: OneShotModel, frames: Frames, count: int | None = _VALIDATED, *, crossed: bool = False
) -> dict[str, float]:
    """PSNR of colours and SSIM of their luminance on the first pairs of held-out clips (None: on all), as published:
    the source is the first frame of the target's own clip, or with `crossed` of the next one; noise stored."""
    architecture = model.architecture
    qualities, similarities = [], []
    weights = torch.tensor(_GRAY)
    with torch.no_grad():
        for pair in held_out_pairs(frames.clips, crossed=crossed)[:count]:
            batch = collate(frames, [pair], architecture.source_size, architecture.image_size)
            batch = batch.to(model.head_base.device)
            vertices = driven_vertices(model, batch)
            drawn, _ = model(batch.source, batch.source_transform, vertices, batch.transform)
            fine, target = (image.clamp(0, 1).movedim(1, -1).cpu() for image in (drawn.fine, batch.target))
            qualities.append(psnr(fine, target))
            similarities.append(ssim((fine * weights).sum(-1, True), (target * weights).sum(-1, True)))
    if not qualities:
        return {}
    return {"held_out_psnr": float(torch.cat(qualities).mean()), "held_out_ssim": float(torch.cat(similarities).mean())}
