"""What can be chosen about training a one-shot network, and its presets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from vultus.avatars.oneshot.options import CLEAN, RELEASED, Architecture, Parts
from vultus.errors import VultusError
from vultus.networks.vit import VitShape

PresetName = Literal["paper", "small"]


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses: of the whole image, of the face box, of lifting, of the perceptual distance in the face
    box (which needs its networks' weights), and of how far a picture driver puts vertices from where the head model
    has them (root mean square over a picture's vertices, native units)."""

    image: float = 1.0
    box: float = 1.0
    lifting: float = 1.0
    perceptual: float = 0.01
    driver: float = 2.5


@dataclass(frozen=True)
class OneShotSettings:
    """Everything that decides a training run besides its data.

    steps, seed: of the loop. batch: pairs per step, of all processes together. rate: of Adam, falling linearly to
    `last_rate` times itself; times `slow_rate` for the style network. betas: of Adam. train_vit: learn the vision
    transformer, too; otherwise it stays as it is (DINOv2). warm_up: steps over which the rate rises from nothing.
    lifted_vertices: how many of the head model's vertices, drawn at every step, the lifting loss compares; 0: all.
    driver_pictures: how many more pictures a picture driver, if there is one, sees at every step.
    average: of the weights, the share that each step leaves of the mean so far, whose weights are what training gives;
    0: the last step's weights, as published. noise: in the neural renderer, drawn at every step as
    published or the stored one. precision: of the networks.
    """

    preset: PresetName
    architecture: Architecture
    steps: int
    batch: int = 8
    seed: int = 42
    rate: float = 1e-4
    last_rate: float = 0.1
    slow_rate: float = 0.1
    betas: tuple[float, float] = (0.0, 0.99)
    train_vit: bool = False
    warm_up: int = 0
    average: float = 0.0
    lifted_vertices: int = 0
    driver_pictures: int = 8
    weights: LossWeights = field(default_factory=LossWeights)
    noise: Literal["drawn", "stored"] = "drawn"
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpoint_every: int = 10_000
    keep: int = 2
    log_every: int = 10
    validate_every: int = 10_000
    tensorboard: bool = True


_PAPER = OneShotSettings("paper", Architecture(quirks=RELEASED), steps=200_000)

SMALL = Architecture(
    source_size=128,
    image_size=128,
    vit=VitShape(width=128, depth=6, heads=4, patch=16, grid=8),
    taps=(2, 3, 4, 5),
    levels=(32, 48, 64, 64),
    features=32,
    vertex_features=32,
    channels=16,
    hidden=32,
    vertex_hidden=64,
    style=64,
    style_layers=2,
    narrow=1 / 8,
    shortcuts=True,
    quirks=CLEAN,
)
"""The published network in small: a tenth of the splats, a hundredth of the weights, images of 128 pixels."""

_SMALL = OneShotSettings(
    "small",
    SMALL,
    steps=20_000,
    batch=2,
    seed=0,
    rate=1e-3,
    slow_rate=0.3,
    betas=(0.9, 0.99),
    train_vit=True,
    warm_up=200,
    average=0.999,
    lifted_vertices=2000,
    weights=LossWeights(perceptual=0.0),
    checkpoint_every=500,
    validate_every=500,
)

_PRESETS: dict[str, OneShotSettings] = {"paper": _PAPER, "small": _SMALL}


def preset(
    name: PresetName,
    *,
    vertices: int,
    steps: int | None = None,
    batch: int | None = None,
    seed: int | None = None,
    quirks: Literal["released", "clean"] | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    parts: Parts | None = None,
    picture_code: int = 0,
) -> OneShotSettings:
    """Settings of the paper's network or of the small one, for a head model of so many vertices.

    picture_code: train a picture driver with a code of this length along (32 is a good one); 0: none.

    Raises:
        VultusError: an unknown name, or an impossible number.
    """
    if name not in _PRESETS:
        raise VultusError(f"there is no preset {name!r}; choose {', '.join(_PRESETS)}")
    settings = _PRESETS[name]
    for what, value in (("steps", steps), ("batch", batch)):
        if value is not None and value < 1:
            raise VultusError(f"{what} is {value}; it must be at least 1")
    architecture = replace(settings.architecture, vertices=vertices, picture_code=picture_code)
    if quirks is not None:
        chosen = RELEASED if quirks == "released" else CLEAN
        architecture = replace(architecture, quirks=chosen, shortcuts=architecture.shortcuts and quirks == "clean")
    if parts is not None:
        architecture = replace(architecture, parts=parts)
    return replace(
        settings,
        architecture=architecture,
        steps=settings.steps if steps is None else steps,
        batch=settings.batch if batch is None else batch,
        seed=settings.seed if seed is None else seed,
        precision=precision,
    )
