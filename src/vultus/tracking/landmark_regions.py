"""Which detected points belong to which part of the face, how far each part is trusted, and which points close on
which: per landmark set, by the set's own point numbers (specifications 2.1, 2.6, 2.7 and 12.6)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64, Int64

TRUSTED = ("eyes", "nose", "mouth")
"""Regions whose points mean the same on a face model as for a detector; error figures are taken over them."""

_WEIGHTS = {
    "mp478": {"eyes": 2.0, "iris": 1.5, "nose": 2.0, "mouth": 1.5, "brows": 0.8, "jaw": 0.3, "other": 0.4},
    "ibug": {"eyes": 2.0, "iris": 1.5, "nose": 2.0, "mouth": 1.5, "brows": 0.05, "jaw": 0.02, "other": 0.25},
}
"""Weight of a squared residual by region. iBUG's jaw and brow points have a constant bias, up to 0.1 eye distances;
MediaPipe's were placed on the head where its detector sees them, and scatter most on the silhouette."""

_MEDIAPIPE = {
    "brows": [276, 282, 283, 285, 293, 295, 296, 300, 334, 336, 46, 52, 53, 55, 63, 65, 66, 70, 105, 107],
    "eyes": [
        249,
        263,
        362,
        373,
        374,
        380,
        381,
        382,
        384,
        385,
        386,
        387,
        388,
        390,
        398,
        466,
        7,
        33,
        133,
        144,
        145,
        153,
        154,
        155,
        157,
        158,
        159,
        160,
        161,
        163,
        173,
        246,
    ],
    "nose": [168, 6, 197, 195, 5, 4, 1, 19, 94, 129, 98, 97, 2, 326, 327, 358, 48, 278, 64, 294],
    "mouth": [
        0,
        13,
        14,
        17,
        37,
        39,
        40,
        61,
        78,
        80,
        81,
        82,
        84,
        87,
        88,
        91,
        95,
        146,
        178,
        181,
        185,
        191,
        267,
        269,
        270,
        291,
        308,
        310,
        311,
        312,
        314,
        317,
        318,
        321,
        324,
        375,
        402,
        405,
        409,
        415,
    ],
    "iris": list(range(468, 478)),
    "jaw": [
        389,
        356,
        454,
        323,
        361,
        288,
        397,
        365,
        379,
        378,
        400,
        377,
        152,
        148,
        176,
        149,
        150,
        136,
        172,
        58,
        132,
        93,
        234,
        127,
        162,
    ],
}
_IBUG = {
    "jaw": list(range(17)),
    "brows": list(range(17, 27)),
    "nose": list(range(27, 36)),
    "eyes": list(range(36, 48)),
    "mouth": list(range(48, 68)),
    "iris": [68, 69],
}

_MEDIAPIPE_OTHERS = 6
"""Of MediaPipe's points outside these regions every sixth is fitted: neighbours say the same."""

_CLOSURES = {
    "mp478": {
        "lids": [(159, 145), (160, 144), (158, 153), (386, 374), (385, 380), (387, 373)],
        "lips": [(13, 14), (82, 87), (312, 317), (81, 178), (311, 402)],
    },
    "ibug": {"lids": [(37, 41), (38, 40), (43, 47), (44, 46)], "lips": [(61, 67), (62, 66), (63, 65)]},
}
_OUTER_EYE_CORNERS = {"mp478": (33, 263), "ibug": (36, 45)}
_BIASED = {"mp478": (), "ibug": (range(17, 22), range(22, 27), range(6), range(6, 11), range(11, 17))}
"""Groups of points with one constant bias: brows, and jaw by side and chin. MediaPipe's points were placed on the
built-in head, so they have none to speak of; allowing for one lets brows and jaw of real people go astray."""
_LEFT_RIGHT_IRIS = {"mp478": (473, 468), "ibug": (69, 68)}


MEDIAPIPE_SILHOUETTE = {
    454: (67.2, -17.2, 23.6),
    323: (64.8, -32.2, 25.5),
    361: (60.6, -46.3, 21.1),
    288: (56.2, -61.5, 24.9),
    397: (49.6, -74.2, 39.4),
    365: (43.0, -85.5, 47.7),
    379: (34.2, -91.9, 63.7),
    378: (28.8, -97.3, 69.5),
    400: (21.3, -100.5, 81.4),
}
"""Where MediaPipe's points of the left silhouette are on the built-in head (millimetres on its template): the surface
points of least reprojection error in 100 renders with yaw up to 42°. Carrying detections back along rays, which places
the other points well, fails here: a ray that just misses the silhouette hits whatever comes next."""

_MIRRORED = {454: 234, 323: 93, 361: 132, 288: 58, 397: 172, 365: 136, 379: 150, 378: 149, 400: 176}


def silhouette_positions() -> dict[int, tuple[float, float, float]]:
    """`MEDIAPIPE_SILHOUETTE` with the mirror points of the right side."""
    left = MEDIAPIPE_SILHOUETTE
    return left | {_MIRRORED[point]: (-x, y, z) for point, (x, y, z) in left.items()}


def _family(set_name: str) -> str:
    return "mp478" if set_name == "mp478" else "ibug"


def regions(set_name: str, ids: Int64[np.ndarray, "L"]) -> list[str]:
    """The region of every point; points of no region are `other`."""
    table = _MEDIAPIPE if set_name == "mp478" else _IBUG
    owner = {point: region for region, points in table.items() for point in points}
    return [owner.get(int(point), "other") for point in ids]


def fitted_points(set_name: str, ids: Int64[np.ndarray, "L"]) -> Int64[np.ndarray, "M"]:
    """Rows of the points worth fitting: all of the named regions, iris centres only, and a thinned-out rest."""
    if set_name != "mp478":
        return np.arange(len(ids))
    names = regions(set_name, ids)
    kept = [
        point in (468, 473) if name == "iris" else name != "other" or point % _MEDIAPIPE_OTHERS == 0
        for name, point in zip(names, ids, strict=True)
    ]
    return np.flatnonzero(kept)


def base_weights(set_name: str, ids: Int64[np.ndarray, "L"]) -> Float64[np.ndarray, "L"]:
    """Weights by region, shared among a region's points so that a densely covered region is not heard more.

    The sum over a region is what iBUG's point count would give it; a region that is not in iBUG counts as 12 points.
    """
    names = regions(set_name, ids)
    nominal = {region: len(points) for region, points in _IBUG.items()} | {"other": 12}
    weights = _WEIGHTS[_family(set_name)]
    return np.array([weights[name] * min(1.0, nominal[name] / names.count(name)) for name in names])


def closures(set_name: str, ids: Int64[np.ndarray, "L"], kind: str) -> list[tuple[int, int]]:
    """Rows of the upper and lower points of `lids` or `lips` that meet when they close."""
    row = {int(point): index for index, point in enumerate(ids)}
    pairs = _CLOSURES[_family(set_name)][kind]
    return [(row[upper], row[lower]) for upper, lower in pairs if upper in row and lower in row]


def biased_groups(set_name: str, ids: Int64[np.ndarray, "L"]) -> Bool[np.ndarray, "L G"]:
    """Which points belong to which group that the detector places elsewhere than the head model does."""
    groups = _BIASED[_family(set_name)]
    return np.array([[int(point) in group for group in groups] for point in ids], bool).reshape(len(ids), len(groups))


def outer_eye_corners(set_name: str) -> tuple[int, int]:
    """Point numbers of the subject's right and left outer eye corner."""
    return _OUTER_EYE_CORNERS[_family(set_name)]


def irises(set_name: str) -> tuple[int, int]:
    """Point numbers of the left and right iris centre (`ibug68` has none)."""
    return _LEFT_RIGHT_IRIS[_family(set_name)]


def eye_distance(points: Float64[np.ndarray, "*B L 2"], set_name: str) -> Float64[np.ndarray, "*B"]:
    """Distance between the outer eye corners of detected points, pixels."""
    right, left = outer_eye_corners(set_name)
    return np.linalg.norm(points[..., left, :] - points[..., right, :], axis=-1)
