"""Grows hair: strands as chains of points over a person's rest pose. Millimetres."""

from __future__ import annotations

import numpy as np

from vultus.captures.studio.facial_hair import beard, brows, lashes
from vultus.captures.studio.people import Person
from vultus.captures.studio.scalp_hair import scalp_hair
from vultus.captures.studio.strands import Ground, Strands


def grow_hair(person: Person, ground: Ground, detail: float) -> list[Strands]:
    """All hair of a person. `detail` 1 is for pictures of 512 pixels; less means fewer and thicker strands."""
    rng = np.random.default_rng([person.hair.seed, 0x4A12])
    result = [scalp_hair(person, ground, rng, detail), beard(person, ground, rng, detail)]
    result += [brows(person, ground, rng, detail), *lashes(person, ground, rng, detail)]
    return [strands for strands in result if strands is not None and len(strands.points)]
