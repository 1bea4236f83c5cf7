"""What can be chosen about training a rigged avatar, and the presets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from vultus.avatars.rigged.densify import DensifySettings
from vultus.avatars.rigged.mcmc import McmcSettings
from vultus.avatars.rigged.model import ShFrame
from vultus.errors import VultusError

Background = Literal["white", "black", "varied"] | tuple[float, float, float]
PresetName = Literal["photo", "monocular", "fast", "paper"]
StrategyName = Literal["default", "mcmc"]


@dataclass(frozen=True)
class Rates:
    """Learning rates of Adam. `position` falls to `position_end` over the run; `left` is the share of all others that
    is left at the end, where they fall in the same way."""

    position: float = 0.005
    position_end: float = 0.00005
    sh0: float = 0.0025
    sh_rest: float = 0.000125
    opacity: float = 0.05
    scale: float = 0.017
    rotation: float = 0.001
    pose: float = 1e-5
    """Joint rotations of the training frames."""
    translation: float = 1e-6
    expression: float = 1e-3
    left: float = 1.0


@dataclass(frozen=True)
class Weights:
    """Weights (and thresholds) of loss terms; 0 turns one off.

    dssim: share of 1 − SSIM in the image loss; gray_dssim: of the gray image only, which is faster.
    position, scale: the published regularisers.
    alpha: difference of alpha and mask. opacity: pull of opacities on the head towards 1.
    normal: distance from the surface along its normal. stretch: needles.
    anchor: pull of colours that were not seen towards their likely value.
    tracked: pull of fine-tuned head parameters towards the tracked ones, which they then equal on average.
    eyes, mouth: extra weight of those image regions.
    grazing: weight of pixels that show skin from the side; 1: as all others.
    drift: distance of position, size and rotation from the initial ones, the more the less the pictures show them;
    drift_head, drift_bust: share of it where they show them well.
    turned: difference from the initial avatar on skin, seen from sides that the pictures do not show.
    """

    dssim: float = 0.2
    gray_dssim: bool = False
    position: float = 0.01
    position_threshold: float = 1.0
    scale: float = 1.0
    scale_threshold: float = 0.6
    alpha: float = 0.0
    opacity: float = 0.0
    normal: float = 0.0
    stretch: float = 0.0
    anchor: float = 0.0
    tracked: float = 0.0
    eyes: float = 0.0
    mouth: float = 0.0
    grazing: float = 1.0
    drift: float = 0.0
    drift_head: float = 1.0
    drift_bust: float = 1.0
    turned: float = 0.0


@dataclass(frozen=True)
class RiggedSettings:
    """Everything that decides a training run besides the capture.

    steps, seed: of the loop. background: what renders and pictures are composited over while training; "varied" changes
    it every step, so that only the person becomes opaque. bind: rig the Gaussians to the head; otherwise they are plain
    3D Gaussians. layout: "surface" covers the head with `splats` flat Gaussians coloured from the pictures,
    "published" starts from one grey Gaussian per triangle. sh_degree, sh_every: spherical harmonics, and the steps
    after which each further degree is used; sh_frame: what their directions refer to, "world" as published or
    "triangle": before one camera a head that turns changes its colours like one that is seen from elsewhere.
    largest: bound of every standard deviation as a share of the head's height; None: unbounded.
    inset: how far below the surface its Gaussians begin, in pixels of the pictures: blurred as they are drawn, they
    would reach beyond its outline. antialiased: what is thinner than a pixel covers it only in part, or else outlines,
    where many Gaussians are seen from the side, grow; whatever draws the avatar must do the same.
    coarse: share of the steps, at the start, at half resolution. crop: draw only the part of a picture that the head is
    in. cut_neck: believe pictures only near the head model. shoulders: below the mouth believe all of them, and cover
    what they show beyond the model's bust. hull: instead of both, where several cameras have masks, believe these and
    cover all that they agree on and the model does not reach, hair as well as shoulders. posture: learn from a video
    how the bust moves with the head.
    reach: how far beyond the head model pictures are believed to show the head, as a share of its height.
    finetune: also optimise pose, translation and expression of the training frames. strategy: how Gaussians are added,
    moved and removed: "default" as `densify` says, "mcmc" as `mcmc` says.
    """

    preset: PresetName
    steps: int
    seed: int = 0
    background: Background = "white"
    bind: bool = True
    layout: Literal["surface", "published"] = "published"
    splats: int = 20_000
    sh_degree: int = 3
    sh_every: int = 1000
    sh_frame: ShFrame = "world"
    largest: float | None = None
    inset: float = 0.0
    antialiased: bool = False
    coarse: float = 0.0
    crop: bool = True
    cut_neck: bool = False
    shoulders: bool = False
    hull: bool = False
    posture: bool = False
    reach: float = 0.15
    finetune: bool = True
    rates: Rates = field(default_factory=Rates)
    weights: Weights = field(default_factory=Weights)
    strategy: StrategyName = "default"
    densify: DensifySettings = field(default_factory=DensifySettings)
    mcmc: McmcSettings = field(default_factory=McmcSettings)
    checkpoint_every: int = 500
    keep: int = 2
    tensorboard: bool = True


def scaled(settings: RiggedSettings, factor: float) -> RiggedSettings:
    """The same training in `factor` times as many steps: every constant that counts steps is multiplied.

    These are `steps` (over which the position rate falls), `sh_every`, the `start`, `stop`, `every`, `reset_every` and
    `reset_at` of densification, and `start`, `stop` and `every` of the other strategy. A product is rounded to the
    nearest whole number, halves to the even one, and is at least 1; what is off (0) stays off. Rates, weights and
    thresholds stay. Checkpoints, which change nothing, come more often in a shorter run and not less in a longer one.

    Raises:
        VultusError: the factor is not a positive number.
    """
    if not (math.isfinite(factor) and factor > 0):
        raise VultusError(f"the schedule cannot be scaled by {factor}; give a positive number")
    return replace(
        settings,
        steps=_times(settings.steps, factor),
        sh_every=_times(settings.sh_every, factor),
        densify=_in_proportion(settings.densify, factor),
        mcmc=_in_proportion(settings.mcmc, factor),
        checkpoint_every=_times(settings.checkpoint_every, min(factor, 1)),
    )


_Events = TypeVar("_Events", DensifySettings, McmcSettings)


def _in_proportion(events: _Events, factor: float) -> _Events:
    names = {"start", "stop", "every", "reset_every", "reset_at"} & vars(events).keys()
    return replace(events, **{name: _times(getattr(events, name), factor) for name in names})


def _times(steps: int, factor: float) -> int:
    return max(1, round(steps * factor)) if steps > 0 else 0


_ONE_VIEW = Weights(
    gray_dssim=True,
    position=0.02,
    scale_threshold=0.7,
    alpha=0.3,
    opacity=0.06,
    normal=0.05,
    stretch=0.01,
    anchor=1.5,
    tracked=0.0,
    eyes=2.0,
    mouth=1.5,
)

_PHOTO = RiggedSettings(
    preset="photo",
    steps=450,
    background="varied",
    layout="surface",
    splats=24_000,
    sh_degree=0,
    largest=0.0195,
    coarse=1 / 3,
    cut_neck=True,
    finetune=False,
    rates=Rates(position=0.004, position_end=0.0004, sh0=0.01, opacity=0.03, scale=0.008, rotation=0.004),
    weights=replace(_ONE_VIEW, grazing=0.15, drift=0.12),
    densify=DensifySettings(every=0, reset_every=0, reset_at=0),
    mcmc=McmcSettings(start=50, stop=375, every=25, limit=24_000),
    checkpoint_every=150,
)

_MONOCULAR = replace(
    _PHOTO,
    preset="monocular",
    steps=4000,
    shoulders=True,
    posture=True,
    sh_degree=1,
    sh_frame="triangle",
    finetune=True,
    rates=Rates(
        position=0.004,
        position_end=0.0002,
        sh0=0.005,
        sh_rest=0.001,
        opacity=0.03,
        scale=0.008,
        rotation=0.003,
        expression=5e-4,
    ),
    weights=replace(_ONE_VIEW, anchor=0.3, tracked=0.1, drift=0.02, drift_head=0.0, turned=0.15),
    densify=DensifySettings(
        start=667, stop=2933, every=400, reset_every=0, reset_at=0, gradient=0.0004, limit=40_000, small=0.004
    ),
    mcmc=McmcSettings(start=667, stop=3333, every=100, limit=40_000),
    checkpoint_every=250,
)

# The published values, which are the defaults of the settings' fields, and what else the published program does: it
# compares whole pictures, scatters the children of a split by their world size, and never removes a Gaussian for its
# size on the screen, because it has just set those sizes to zero when it asks.
_PAPER = RiggedSettings(
    preset="paper",
    steps=600_000,
    crop=False,
    densify=DensifySettings(world_noise=True, screen_radius=math.inf),
    checkpoint_every=5000,
)

_FAST = replace(
    _MONOCULAR,
    preset="fast",
    steps=6000,
    hull=True,
    posture=False,
    inset=0.8,
    antialiased=True,
    coarse=0.2,
    sh_degree=1,
    sh_every=1500,
    rates=replace(_MONOCULAR.rates, pose=1e-4, translation=1e-5, left=0.1),
    weights=replace(_ONE_VIEW, anchor=0.1, tracked=0.1, eyes=1.0, mouth=1.0),
    densify=replace(_MONOCULAR.densify, start=500, stop=4500, every=250, limit=60_000),
    mcmc=replace(_MONOCULAR.mcmc, start=500, stop=5000, limit=60_000),
    checkpoint_every=500,
)

_PRESETS: dict[str, RiggedSettings] = {
    "photo": _PHOTO,
    "monocular": _MONOCULAR,
    "fast": _FAST,
    "paper": _PAPER,
}


def preset(
    name: PresetName,
    *,
    steps: int | None = None,
    schedule_scale: float | None = None,
    seed: int = 0,
    background: Background | None = None,
    bind: bool = True,
    strategy: StrategyName = "default",
) -> RiggedSettings:
    """Settings for one photo, a video of one camera, several cameras (`fast`), or `paper`, the published method's own
    values.

    Either `steps` or `schedule_scale` makes training shorter or longer: see `scaled`.

    Raises:
        VultusError: an unknown name, an impossible number of steps or scale, or both of them.
    """
    if name not in _PRESETS:
        raise VultusError(f"there is no preset {name!r}; choose {', '.join(_PRESETS)}")
    settings = _PRESETS[name]
    if steps is not None and schedule_scale is not None:
        raise VultusError("steps and schedule_scale both say how long to train; give one of them")
    if steps is not None and steps < 1:
        raise VultusError(f"the number of training steps is {steps}; it must be at least 1")
    if schedule_scale is not None:
        settings = scaled(settings, schedule_scale)
    elif steps is not None:
        settings = replace(scaled(settings, steps / settings.steps), steps=steps)
    if background is not None:
        settings = replace(settings, background=background)
    return replace(settings, seed=seed, bind=bind, strategy=strategy)
