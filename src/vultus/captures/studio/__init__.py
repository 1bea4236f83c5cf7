"""The synthetic studio: made-up people with everything about them known, seen by as many cameras as wanted."""

from vultus.captures.studio.labels import LABELS
from vultus.captures.studio.lighting import Lighting, random_lighting, studio_lighting
from vultus.captures.studio.people import Person, make_person
from vultus.captures.studio.rendering import Shot, Stage, Studio, Truth
from vultus.captures.studio.rig import studio_rig

__all__ = [
    "LABELS",
    "Lighting",
    "Person",
    "Shot",
    "Stage",
    "Studio",
    "Truth",
    "make_person",
    "random_lighting",
    "studio_lighting",
    "studio_rig",
]
