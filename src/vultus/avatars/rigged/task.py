"""Training a rigged avatar, as a task for the loop that all avatars share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vultus.avatars.rigged import losses
from vultus.avatars.rigged.densify import Plan, replace_parameter, reset_opacity
from vultus.avatars.rigged.fitting import FittedMotion
from vultus.avatars.rigged.frames import TriangleFrames
from vultus.avatars.rigged.mcmc import Mcmc
from vultus.avatars.rigged.model import PARAMETERS, RiggedAvatar
from vultus.avatars.rigged.schedule import active_degree, position_rate
from vultus.avatars.rigged.settings import RiggedSettings
from vultus.avatars.rigged.strategy import Densification, Population, Strategy
from vultus.avatars.rigged.supervision import Example, Supervision
from vultus.avatars.rigged.turned import TurnedViews
from vultus.captures import Capture, View
from vultus.errors import VultusError
from vultus.images.metrics import psnr
from vultus.rotations import quaternion_to_matrix
from vultus.splats import SH_C0, RasterInfo
from vultus.training import shuffled_index

_COLORS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}
_FLATTEST, _THICKEST = -7.0, 0.35
_FARTHEST = 3.0
_SHAPE = ("means", "log_scales", "rotations")
_FAINT, _FAINT_OPACITY = 0.02, 0.0002
_TURNED, _TURNED_EVERY = 24, 4
_BUST, _SEEN = 0.5, 0.3


class RiggedTask:
    """See `vultus.training.Task`.

    Args:
        avatar: with its initial Gaussians.
        extent: size of the scene (metres) that learning rates and densification refer to.
        anchor, trust: likely colour of every Gaussian, and how far the pictures themselves show it (0 to 1).
        rigid: how firmly they should be opaque and stay on the surface: 1 on skin, less in hair.
        hold: factor of the pull towards the likely colour.
        bust: how far they go with the bust (0 to 1).
        beyond: which show what the head model does not reach; they may be far from their triangles.
        skin: how far they are skin whose colour the pictures show (0 to 1).
        level: height above the triangle (triangle sizes) at which they should stay.
    """

    name = "train"

    def __init__(
        self,
        avatar: RiggedAvatar,
        capture: Capture,
        views: list[View],
        supervision: Supervision,
        settings: RiggedSettings,
        *,
        extent: float,
        anchor: Float[Tensor, "N 3"],
        trust: Float[Tensor, "N"],
        rigid: Float[Tensor, "N"],
        hold: Float[Tensor, "N"],
        bust: Float[Tensor, "N"],
        beyond: Bool[Tensor, "N"],
        skin: Float[Tensor, "N"],
        level: Float[Tensor, "N"],
    ) -> None:
        self.avatar, self.settings, self.extent = avatar, settings, extent
        self._capture, self._views, self._supervision = capture, views, supervision
        self._fitted = FittedMotion(capture.motion)
        self._fits = settings.finetune and settings.bind
        self._kept = {"anchor": anchor, "trust": trust, "rigid": rigid, "hold": hold, "bust": bust, "beyond": beyond}
        self._kept["level"] = level
        if settings.weights.drift:
            self._kept |= {f"first.{name}": getattr(avatar, name).detach().clone() for name in _SHAPE}
        self._turned: TurnedViews | None = None
        if settings.weights.turned and avatar.binding is not None:
            poses = views[:: max(1, len(views) // _TURNED)][:_TURNED]
            self._turned = TurnedViews(avatar, skin, [capture.motion.params[view.timestep] for view in poses])
        self._strategy: Strategy
        if settings.strategy == "mcmc":
            self._strategy = Mcmc(settings.mcmc)
        else:
            self._strategy = Densification(settings.densify, avatar.count, white=settings.background == "white")
        self._noise: Tensor | None = None
        self._face_sizes: Tensor | None = None
        self._initial_count = avatar.count
        self._frames: dict[int, TriangleFrames] = {}
        self._info: tuple[RasterInfo, Example] | None = None
        self._build_optimizers()

    def _build_optimizers(self) -> None:
        rates, avatar = self.settings.rates, self.avatar
        groups = [
            {"params": [avatar.means], "lr": rates.position, "name": "means"},
            {"params": [avatar.sh0], "lr": rates.sh0, "name": "sh0"},
            {"params": [avatar.sh_rest], "lr": rates.sh_rest, "name": "sh_rest"},
            {"params": [avatar.opacities], "lr": rates.opacity, "name": "opacities"},
            {"params": [avatar.log_scales], "lr": rates.scale, "name": "log_scales"},
            {"params": [avatar.rotations], "lr": rates.rotation, "name": "rotations"},
        ]
        if self.settings.layout == "surface":
            # Adam takes full steps along gradients of any size, also along the traces that shine through opaque
            # Gaussians to those behind. Below a share of a visible one's gradient, steps should shrink.
            for group in groups:
                group["eps"] = (_FAINT_OPACITY if group["name"] == "opacities" else _FAINT) / self._initial_count
        groups = [group for group in groups if group["params"][0].numel()]
        if self._fits:
            groups += self._fitted.groups(rates)
        self._rates = {str(group["name"]): group["lr"] for group in groups}
        self._adam = torch.optim.Adam(groups, eps=1e-15, fused=True)
        self.optimizers: Mapping[str, torch.optim.Optimizer] = {"adam": self._adam}

    def motion(self):
        """The capture's motion, with the training frames fine-tuned."""
        return self._fitted.motion() if self._fits else self._capture.motion

    # --- one step ---------------------------------------------------------------------------------------------------

    def loss(self, step: int, generator: torch.Generator) -> tuple[Float[Tensor, ""], Mapping[str, float]]:
        settings, avatar, weights = self.settings, self.avatar, self.settings.weights
        self._set_rates(step)
        view = self._views[shuffled_index(settings.seed, step, len(self._views))]
        example = self._example(view, step)
        background = self._background(step, generator)
        gaussians = avatar.gaussians_on(self._frames_of(view.timestep))
        rendering = avatar.draw(gaussians, example.camera, background=background, depth=False)
        assert rendering.raster is not None
        self._info = (rendering.raster, example)
        target = example.over(background)
        loss = losses.image_loss(rendering.color, target, weights.dssim, example.weight, gray=weights.gray_dssim)
        if weights.alpha:
            loss = loss + weights.alpha * (example.weight.clamp(max=1) * (rendering.alpha - example.mask).abs()).mean()
        loss = loss + self._regularisers(rendering.raster, view)
        if self._turned is not None and step % _TURNED_EVERY == 0:
            loss = loss + weights.turned * self._turned.loss(avatar, step // _TURNED_EVERY)
        spread = self._strategy.regulariser(gaussians.scales, gaussians.opacities, self.extent)
        if spread is not None:
            loss = loss + spread
        with torch.no_grad():
            quality = float(psnr(rendering.color.clamp(0, 1), target))
        return loss, {"psnr": quality, "splats": float(avatar.count)}

    def _regularisers(self, raster: RasterInfo, view: View) -> Tensor:
        weights, avatar = self.settings.weights, self.avatar
        total = avatar.means.new_zeros(())
        if avatar.binding is None:
            return total
        scales = avatar.log_scales.exp()
        visible = raster.radii.amax(-1) > 0
        doubt = (1 - self._kept["trust"]) * self._kept["hold"]
        firm = self._kept["rigid"] * (1 + doubt) if weights.drift else self._kept["rigid"]
        if weights.position:
            near = visible & ~self._kept["beyond"]
            total = total + weights.position * losses.position_loss(avatar.means, near, weights.position_threshold)
        if weights.scale:
            total = total + weights.scale * losses.scale_loss(scales, visible, weights.scale_threshold)
        if weights.normal:
            total = (
                total + weights.normal * (self._kept["rigid"] * (avatar.means[:, 1] - self._kept["level"]).abs()).mean()
            )
        if weights.stretch:
            total = total + weights.stretch * losses.stretch_loss(scales)
        if weights.opacity:
            total = total + weights.opacity * (firm * (1 - avatar.opacities.sigmoid())).mean()
        if weights.drift:
            now, first = ([source(name) for name in _SHAPE] for source in (avatar.get_parameter, self._first))
            share = weights.drift_head + (weights.drift_bust - weights.drift_head) * self._kept["bust"]
            held = self._kept["rigid"] ** 2 * (share + doubt)
            total = total + weights.drift * losses.drift_loss(now, first, held)
        if weights.anchor:
            color = avatar.sh0[:, 0] * SH_C0 + 0.5
            total = total + weights.anchor * (doubt[:, None] * losses.huber(color - self._kept["anchor"])).mean()
        if weights.tracked and self._fits:
            total = total + weights.tracked * self._fitted.change(view.timestep)
        return total

    def _first(self, name: str) -> Tensor:
        return self._kept[f"first.{name}"]

    def before_update(self, step: int, generator: torch.Generator) -> None:
        raster, example = self._info or (None, None)
        self._info = None
        if raster is None or example is None:
            return
        strategy = self._strategy
        strategy.observe(step, raster, example.camera.width, example.camera.height)
        with torch.no_grad():
            if strategy.due(step):
                self._apply(strategy.plan(step, self._population(), generator))
            if strategy.lowers_opacity(step):
                reset_opacity(self._adam, self.avatar.opacities)
            left = self._position_rate(step) / self._position_rate(0)
            self._noise = strategy.noise(self._population, left, generator)

    def after_update(self, step: int) -> None:
        if self._fits and self.settings.weights.tracked:
            self._fitted.center()
        if self._noise is not None:
            with torch.no_grad():
                self.avatar.means.add_(self._noise)
            self._noise = None
        if self.settings.layout != "surface" or self.avatar.binding is None:
            return
        with torch.no_grad():
            if self.avatar.sh_frame == "triangle" and self.avatar.sh_rest.shape[-2]:
                # Clothes do not turn with the head, and what was hardly seen was not seen from several sides.
                plain = (self._kept["bust"] > _BUST) | (self._kept["trust"] < _SEEN)
                self.avatar.sh_rest[plain] = 0.0
            self.avatar.log_scales[:, 1].clamp_(_FLATTEST, float(torch.tensor(_THICKEST).log()))
            means = self.avatar.means
            means.copy_(torch.where(self._kept["beyond"][:, None], means, means.clamp(-_FARTHEST, _FARTHEST)))

    def _population(self) -> Population:
        avatar, binding = self.avatar, self.avatar.binding
        if self._face_sizes is None and binding is not None:
            self._face_sizes = avatar.frames(avatar.rest).detach().scale
        sizes = torch.ones(avatar.count, 1) if self._face_sizes is None else self._face_sizes[binding]
        return Population(
            avatar.means.detach(),
            avatar.log_scales.detach(),
            quaternion_to_matrix(avatar.rotations.detach()),
            avatar.opacities.detach().sigmoid(),
            sizes,
            binding,
            0 if binding is None else avatar.head.faces.shape[0],
            self.extent,
        )

    def _apply(self, plan: Plan) -> None:
        avatar = self.avatar
        new = {"means": plan.means, "log_scales": plan.log_scales}
        if plan.opacities is not None:
            new["opacities"] = torch.where(plan.fresh, plan.opacities.logit(), avatar.opacities[plan.source])
        for name in PARAMETERS:
            old = getattr(avatar, name)
            value = new[name] if name in new else old.detach()[plan.source]
            gradient = old.grad
            parameter = replace_parameter(self._adam, old, value, plan.source, plan.fresh)
            if gradient is not None:
                # The step that is under way still counts for those that stay.
                stays = (~plan.fresh).to(gradient).view(-1, *[1] * (gradient.dim() - 1))
                parameter.grad = gradient[plan.source] * stays
            setattr(avatar, name, parameter)
        if avatar.binding is not None:
            avatar.binding = avatar.binding[plan.source]
        self._kept = {name: value[plan.source] for name, value in self._kept.items()}

    # --- what a step needs ------------------------------------------------------------------------------------------

    def _set_rates(self, step: int) -> None:
        settings = self.settings
        share = settings.rates.left ** (min(step, settings.steps) / settings.steps)
        for group in self._adam.param_groups:
            group["lr"] = self._position_rate(step) if group["name"] == "means" else share * self._rates[group["name"]]
        self.avatar.active_degree = active_degree(step, settings.sh_degree, settings.sh_every)

    def _position_rate(self, step: int) -> float:
        settings = self.settings
        return position_rate(
            step,
            self.extent if settings.layout == "published" else 1.0,
            initial=settings.rates.position,
            final=settings.rates.position_end,
            steps=settings.steps,
        )

    def _example(self, view: View, step: int) -> Example:
        divisor = 2 if step <= round(self.settings.coarse * self.settings.steps) else 1
        if self._supervision.has(view, divisor):
            return self._supervision.example(view, None, None, divisor)
        with torch.no_grad():
            vertices = self.avatar.vertices(self._capture.motion.params[view.timestep])
        silhouette = None
        if self.settings.cut_neck:
            silhouette = model_silhouette(self.avatar, vertices, self._capture, view)
        return self._supervision.example(view, vertices, silhouette, divisor)

    def _frames_of(self, timestep: int) -> TriangleFrames | None:
        avatar = self.avatar
        if avatar.binding is None:
            return None
        if self._fits:
            return avatar.frames(self._fitted.at(timestep))
        if timestep not in self._frames:
            if len(self._frames) >= 64:
                self._frames.pop(next(iter(self._frames)))
            with torch.no_grad():
                self._frames[timestep] = avatar.frames(self._capture.motion.params[timestep]).detach()
        return self._frames[timestep]

    def _background(self, step: int, generator: torch.Generator) -> Float[Tensor, "3"]:
        background = self.settings.background
        if background == "varied":
            kind = step % 4
            if kind == 1:
                return torch.zeros(3)
            return torch.rand(3, generator=generator) if kind == 2 else torch.ones(3)
        return torch.tensor(_COLORS[background] if isinstance(background, str) else background)

    # --- state ------------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        model = {name: getattr(self.avatar, name) for name in PARAMETERS}
        if self.avatar.binding is not None:
            model["binding"] = self.avatar.binding
        if self._fits:
            model |= {f"motion.{name}": value for name, value in self._fitted.state_dict().items()}
        statistics = self._strategy.tensors()
        return model, {**self._kept, **{f"statistics.{name}": value for name, value in statistics.items()}}

    def restore(self, model: Mapping[str, Tensor], training: Mapping[str, Tensor]) -> None:
        avatar = self.avatar
        try:
            if ("binding" in model) != (avatar.binding is not None):
                raise VultusError(
                    "the checkpoint belongs to a run with the other choice of binding; choose a new folder"
                )
            for name in PARAMETERS:
                setattr(avatar, name, nn.Parameter(model[name].clone()))
            if avatar.binding is not None:
                avatar.binding = model["binding"].clone()
            if self._fits:
                prefix = "motion."
                self._fitted.restore(
                    {name.removeprefix(prefix): value for name, value in model.items() if name.startswith(prefix)}
                )
            self._kept = {name: training[name].clone() for name in self._kept}
            prefix = "statistics."
            self._strategy.restore(
                {name.removeprefix(prefix): value for name, value in training.items() if name.startswith(prefix)}
            )
        except (KeyError, RuntimeError) as error:
            raise VultusError(f"the checkpoint does not fit this training run: {error}; choose a new folder") from error
        self._build_optimizers()


def model_silhouette(
    avatar: RiggedAvatar, vertices: Float[Tensor, "V 3"], capture: Capture, view: View
) -> Float[Tensor, "H W 1"]:
    """Where the head model covers a view: its surface drawn with flat opaque Gaussians, one per triangle."""
    from vultus.avatars.rigged.frames import local_to_world, triangle_frames
    from vultus.avatars.rigged.layout import surface_splats
    from vultus.splats import Gaussians, rasterize

    faces = avatar.head.faces
    local, _ = surface_splats(vertices, faces, torch.ones(faces.shape[0], dtype=torch.int64), overlap=1.6)
    assert local.binding is not None
    means, scales, rotations = local_to_world(
        local.means, local.log_scales.exp(), local.rotations, local.binding, triangle_frames(vertices, faces)
    )
    gaussians = Gaussians(means, rotations, scales, local.opacities.sigmoid(), features=torch.ones(len(means), 1))
    with torch.no_grad():
        return rasterize(gaussians, capture.camera(view), None, replace(avatar.raster), depth=False).alpha
