"""Random people: everything that makes a person, as plain numbers drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vultus.heads.model import HeadModel

Triple = tuple[float, float, float]
HairStyle = Literal["bald", "buzz", "short", "fringe", "side", "back", "curly", "bob", "long", "bun"]
GlassesShape = Literal["round", "square", "aviator", "cat"]
HatKind = Literal["beanie", "cap"]
BeardStyle = Literal["none", "stubble", "moustache", "goatee", "short", "full"]

# Reflectance of skin without melanin, and how melanin and blood absorb (linear red, green, blue): a fit by eye to
# skin between the palest and the darkest of the built-in head's styles.
BARE_SKIN = (0.83, 0.545, 0.415)
MELANIN = (1.6, 2.0, 2.3)
BLOOD = (0.10, 0.62, 0.50)

# Black, dark brown, brown, chestnut, dark blond, blond, auburn, red, grey, white; sRGB.
_HAIR_COLOURS: tuple[tuple[Triple, float], ...] = (
    ((0.055, 0.047, 0.043), 0.30), ((0.12, 0.08, 0.06), 0.22), ((0.20, 0.13, 0.085), 0.15),
    ((0.30, 0.185, 0.11), 0.08), ((0.44, 0.33, 0.20), 0.07), ((0.66, 0.52, 0.33), 0.05), ((0.30, 0.12, 0.07), 0.03),
    ((0.52, 0.24, 0.11), 0.03), ((0.45, 0.44, 0.43), 0.05), ((0.78, 0.77, 0.75), 0.02),
)  # fmt: skip
_IRIS_DARK: tuple[Triple, ...] = ((0.16, 0.09, 0.05), (0.22, 0.13, 0.07), (0.28, 0.17, 0.09))
_IRIS_LIGHT: tuple[Triple, ...] = (
    (0.33, 0.22, 0.12), (0.30, 0.36, 0.22), (0.36, 0.38, 0.26), (0.32, 0.45, 0.58), (0.45, 0.52, 0.56),
    (0.27, 0.38, 0.50),
)  # fmt: skip
_CLOTH_COLOURS: tuple[Triple, ...] = (
    (0.86, 0.86, 0.84), (0.13, 0.14, 0.16), (0.18, 0.24, 0.36), (0.42, 0.16, 0.17), (0.24, 0.34, 0.26),
    (0.55, 0.56, 0.58), (0.62, 0.50, 0.36), (0.30, 0.22, 0.36), (0.75, 0.55, 0.42), (0.33, 0.49, 0.60),
    (0.80, 0.70, 0.34), (0.20, 0.20, 0.21),
)  # fmt: skip


@dataclass(frozen=True)
class Skin:
    """melanin 0 (palest) to 1.2, blood about 0 to 0.5, the rest 0 to 1. `pattern` picks the mottling (radians)."""

    melanin: float
    blood: float
    blush: float
    lip_blood: float
    lip_melanin: float
    freckles: float
    moles: int
    blemishes: float
    tired: float
    age: float
    oil: float
    pattern: Float[Tensor, "F"]
    seed: int


@dataclass(frozen=True)
class Eyes:
    iris: Triple
    pupil: float
    """Radius, millimetres."""
    redness: float
    lashes: float


@dataclass(frozen=True)
class Hair:
    """Hair on the scalp, brows and beard. Lengths in millimetres; curl and volume 0 to 1."""

    style: HairStyle
    color: Triple
    brow_color: Triple
    brow_density: float
    length: float
    volume: float
    curl: float
    part_x: float
    hairline: float
    """Millimetres that the hairline sits higher than usual."""
    beard: BeardStyle
    beard_color: Triple
    beard_length: float
    seed: int


@dataclass(frozen=True)
class Clothes:
    color: Triple
    second: Triple
    pattern: Literal["plain", "stripes", "checks", "melange"]
    neckline: Literal["crew", "vee", "collar", "high"]
    glasses: GlassesShape | None
    glasses_color: Triple
    glasses_size: float
    hat: HatKind | None
    hat_color: Triple
    earrings: Literal["studs", "hoops"] | None
    metal: Triple


@dataclass(frozen=True)
class Person:
    """A made-up person. `identity` are coefficients of the head model's identity components."""

    seed: int
    identity: Float[Tensor, "S"]
    skin: Skin
    eyes: Eyes
    hair: Hair
    clothes: Clothes


def make_person(seed: int, head: HeadModel) -> Person:
    """A person drawn at random: the same seed, the same person.

    Face shape follows the head model's identity components (for the built-in head, measurements that go together:
    a heavy jaw with a strong brow, a wide face with wide temples); colours and hair follow each other as they do in
    people, with exceptions.
    """
    rng = np.random.default_rng([seed, 0x5EED])
    male = float(np.clip(rng.normal(0, 0.25) + rng.choice([-0.8, 0.8]), -1.2, 1.2))
    age = float(rng.beta(1.5, 2.4))
    identity = _identity(rng, head, male)
    melanin = float(np.clip(rng.choice([rng.normal(0.08, 0.06), rng.normal(0.3, 0.1), rng.normal(0.75, 0.2)]), 0, 1.2))
    skin = _skin(rng, melanin, age, male)
    hair = _hair(rng, melanin, age, male)
    return Person(seed, identity, skin, _eyes(rng, melanin, hair.color, male), hair, _clothes(rng, male, hair))


_MALE = {
    "head_length": 0.35, "face_height": 0.5, "chin_height": 0.6, "jaw_width": 0.75, "face_width": 0.35,
    "brow_ridge": 0.8, "nose_height": 0.4, "nose_width": 0.4, "neck_width": 0.9, "neck_front": 0.7, "jaw_body": 0.4,
    "chin_protrusion": 0.5, "upper_lip": -0.45, "lower_lip": -0.4, "eye_opening": -0.4, "brow_height": -0.5,
    "cheek_full": -0.3, "forehead_slope": -0.4, "forehead_bulge": -0.4, "mouth_width": 0.3, "scale": 0.8,
    "lip_protrusion_u": -0.2,
}  # fmt: skip
_TOGETHER = {"temple": ("face_width", 0.5), "ear_tragus_width": ("face_width", 0.6), "jaw_width": ("face_width", 0.4)}


def _identity(rng: np.random.Generator, head: HeadModel, male: float) -> Float[Tensor, "S"]:
    names = head.identity_names
    size = rng.normal()
    value = np.sqrt(0.8) * rng.standard_normal(len(names)) + np.sqrt(0.2) * size * np.array(
        [any(word in name for word in ("width", "breadth", "length", "height")) for name in names], float
    )
    found = {name: column for column, name in enumerate(names)}
    for name, amount in _MALE.items():
        if name in found:
            value[found[name]] += amount * male
    for name, (other, amount) in _TOGETHER.items():
        if name in found and other in found:
            value[found[name]] += amount * value[found[other]]
    value = np.clip(value, -2.3, 2.3)
    for column, name in enumerate(names):
        if name.startswith("residual"):
            value[column] *= 0.7
        elif name.startswith("asymmetric"):
            value[column] *= 0.8
        elif name == "hair_volume":
            value[column] = 0.0
        elif name[-1:].isdigit():
            # Numbered components: keep clear of the rim of what their scans covered.
            value[column] = np.clip(value[column], -1.6, 1.6)
    return torch.from_numpy(value).float()


def _skin(rng: np.random.Generator, melanin: float, age: float, male: float) -> Skin:
    light = float(np.clip(1 - melanin / 0.5, 0, 1))
    return Skin(
        melanin=melanin,
        blood=float(rng.uniform(0.12, 0.36) * (0.6 + 0.4 * light)),
        blush=float(rng.uniform(0.15, 0.9) * (0.35 + 0.65 * light)),
        lip_blood=float(rng.uniform(0.35, 0.9)),
        lip_melanin=float(rng.uniform(0.0, 0.16) + 0.1 * melanin),
        freckles=float(rng.uniform(0.2, 1.0)) if rng.random() < 0.08 + 0.28 * light else 0.0,
        moles=int(rng.poisson(1.1)),
        blemishes=float(rng.beta(1.2, 3.0)),
        tired=float(rng.beta(1.5, 2.5)),
        age=age,
        oil=float(rng.uniform(0.35, 1.0)),
        pattern=torch.from_numpy(rng.uniform(0, 2 * np.pi, 4)).float(),
        seed=int(rng.integers(2**31)),
    )


def _eyes(rng: np.random.Generator, melanin: float, hair: Triple, male: float) -> Eyes:
    light = melanin < 0.25 and rng.random() < 0.72 - 0.9 * melanin
    palette = _IRIS_LIGHT if light else _IRIS_DARK
    base = np.array(palette[rng.integers(len(palette))]) * rng.uniform(0.85, 1.15)
    return Eyes(_triple(base), float(rng.uniform(1.7, 2.6)), float(rng.beta(1.3, 4)), float(rng.uniform(0.5, 1)))


def _hair(rng: np.random.Generator, melanin: float, age: float, male: float) -> Hair:
    weights = np.array([weight for _, weight in _HAIR_COLOURS])
    if melanin > 0.3:
        weights = weights * [3, 2, 0.6, 0.15, 0.05, 0.02, 0.05, 0.01, 0.8, 0.5]
    weights[-2:] *= 0.2 + 3.5 * age
    color = np.array(_HAIR_COLOURS[rng.choice(len(weights), p=weights / weights.sum())][0]) * rng.uniform(0.85, 1.2)
    style = _style(rng, melanin, age, male)
    length = {
        "bald": 0, "buzz": rng.uniform(4, 9), "short": rng.uniform(18, 38), "fringe": rng.uniform(45, 75),
        "side": rng.uniform(60, 110), "back": rng.uniform(60, 120), "curly": rng.uniform(28, 80),
        "bob": rng.uniform(150, 210), "long": rng.uniform(260, 380), "bun": rng.uniform(120, 170),
    }[style]  # fmt: skip
    curl = rng.beta(1.2, 3.5) if style != "curly" else rng.uniform(0.55, 1.0)
    beards: list[BeardStyle] = ["none", "stubble", "moustache", "goatee", "short", "full"]
    beard = beards[rng.choice(6, p=[0.36, 0.2, 0.07, 0.09, 0.16, 0.12])] if male > 0.15 else "none"
    beard_length = {"none": 0, "stubble": 0, "moustache": 8, "goatee": 9, "short": 5, "full": 17}[beard]
    dark = np.minimum(color * rng.uniform(0.65, 1.0), 0.5)
    return Hair(
        style=style,
        color=_triple(color),
        brow_color=_triple(0.75 * dark + 0.25 * np.array([0.20, 0.12, 0.07])),
        brow_density=float(rng.uniform(0.55, 1.0)),
        length=float(length),
        volume=float(rng.uniform(0.2, 1)),
        curl=float(curl),
        part_x=float(rng.choice([-1, 1]) * rng.uniform(12, 38)),
        hairline=float(rng.normal(0, 3) + (9 * age if male > 0 else 0)),
        beard=beard,
        beard_color=_triple(dark * rng.uniform(0.85, 1.15)),
        beard_length=float(beard_length * rng.uniform(0.75, 1.3)),
        seed=int(rng.integers(2**31)),
    )


def _style(rng: np.random.Generator, melanin: float, age: float, male: float) -> HairStyle:
    if male > 0:
        styles: list[HairStyle] = ["bald", "buzz", "short", "fringe", "side", "back", "curly", "long"]
        chances = np.array([0.05 + 0.12 * age, 0.17, 0.27, 0.12, 0.17, 0.1, 0.08 + 0.2 * (melanin > 0.5), 0.03])
    else:
        styles = ["buzz", "short", "fringe", "side", "back", "curly", "bob", "long", "bun"]
        chances = np.array([0.02, 0.06, 0.06, 0.05, 0.06, 0.13 + 0.2 * (melanin > 0.5), 0.24, 0.3, 0.13])
    return styles[rng.choice(len(styles), p=chances / chances.sum())]


def _clothes(rng: np.random.Generator, male: float, hair: Hair) -> Clothes:
    first, second, third = rng.choice(len(_CLOTH_COLOURS), 3, replace=False)
    frames: list[Triple] = [
        (0.05, 0.045, 0.045),
        (0.20, 0.11, 0.06),
        (0.62, 0.52, 0.36),
        (0.35, 0.36, 0.38),
        (0.25, 0.06, 0.08),
    ]
    shapes: list[GlassesShape] = ["round", "square", "aviator"]
    if male < 0:
        shapes.extend(("cat", "cat"))
    hats: list[HatKind] = ["beanie", "cap"]
    metals: list[Triple] = [(0.83, 0.68, 0.36), (0.75, 0.76, 0.78)]
    wears_hat = rng.random() < 0.12
    return Clothes(
        color=_CLOTH_COLOURS[first],
        second=_CLOTH_COLOURS[second],
        pattern=rng.choice(["plain", "stripes", "checks", "melange"], p=[0.5, 0.15, 0.12, 0.23]),
        neckline=rng.choice(["crew", "vee", "collar", "high"], p=[0.42, 0.2, 0.26, 0.12]),
        glasses=shapes[rng.integers(len(shapes))] if rng.random() < 0.25 else None,
        glasses_color=frames[rng.integers(len(frames))],
        glasses_size=float(rng.uniform(0.9, 1.12)),
        hat=hats[rng.integers(2)] if wears_hat else None,
        hat_color=_CLOTH_COLOURS[third],
        earrings=str(rng.choice(["studs", "hoops"])) if rng.random() < (0.06 if male > 0 else 0.45) else None,  # pyright: ignore[reportArgumentType]
        metal=metals[rng.integers(2)],
    )


def _triple(color: np.ndarray) -> Triple:
    r, g, b = (float(min(max(value, 0.0), 1.0)) for value in color)
    return r, g, b
