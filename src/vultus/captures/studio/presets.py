"""How hard a synthetic capture is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PresetName = Literal["clean", "hard", "people"]


@dataclass(frozen=True)
class Preset:
    """What a capture holds that the head model cannot explain, and what is known wrongly about it.

    wardrobe: hair with volume, beards, glasses, hats, earrings and clothes; without it all of that is paint on the
    skin. world_lights: lamps stay where they are when the head turns, and cast shadows. offset: unknown displacement
    of the surface, metres. turn_error (radians), place_error (metres): of the head parameters that are handed out.
    noise: of the sensor.
    """

    wardrobe: bool
    world_lights: bool
    offset: float = 0.0
    turn_error: float = 0.0
    place_error: float = 0.0
    noise: bool = False


PRESETS: dict[str, Preset] = {
    "clean": Preset(wardrobe=False, world_lights=False),
    "hard": Preset(wardrobe=True, world_lights=True, offset=0.0015, turn_error=0.00873, place_error=0.001, noise=True),
    "people": Preset(wardrobe=True, world_lights=True),
}
"""`clean`: the head model explains everything. `hard`: as in a real capture. `people`: all variety, but exact
parameters, as training data."""
