"""The numbers of the head that more than one step needs, in millimetres.

Frame: +y up, +z out of the face, +x to the subject's left; y = 0 at pupil height, z = 0 at the tragion plane. The
left half is described; the right half is its mirror image. Sizes follow adult averages, both sexes pooled.
"""

from __future__ import annotations

import numpy as np

EYE_CENTRE = np.array([31.5, 0.0, 71.0])
EYE_RADIUS = 12.2
IRIS_RADIUS = 5.9
PUPIL_RADIUS = 2.1
CORNEA_HEIGHT = 0.75
"""Extra height of the cornea over the sphere, on the optical axis."""
LID_INNER_RADIUS = 13.15
"""Radius on which the inner side of the lids slides; the cornea's apex is at 12.95."""

JOINT_NAMES = ("root", "neck", "jaw", "left_eye", "right_eye")
JOINT_PARENTS = (-1, 0, 1, 1, 1)
JOINTS = np.array([[0, -180, -32], [0, -118, -28], [0, -17, 10], [31.5, 0, 71], [-31.5, 0, 71]], dtype=float)
JAW_OPEN_RADIANS = 0.4
"""Jaw rotation that ARKit's jawOpen = 1 stands for, and at which mouthClose = 1 brings the lips together."""

LIP_LINE_Y = -65.2
"""Height of the closed mouth."""
MOUTH_HALF_WIDTH = 25.8

MIRROR = np.array([-1.0, 1.0, 1.0])

# Closed curves of the mouth as (x / half width, y): the line between the lips and the two vermilion borders.
LIP_LINE = [(0, -64.9), (0.2, -64.4), (0.45, -64.8), (0.7, -65.05), (0.9, -65.1), (1, -65.0)]
LIP_BORDER_UPPER = [
    (0, -56.9), (0.1, -56.3), (0.2, -55.5), (0.3, -55.9), (0.5, -57.9), (0.75, -61.2), (0.93, -63.7), (1, -64.7),
]  # fmt: skip
LIP_BORDER_LOWER = [
    (0, -75.8), (0.2, -75.6), (0.35, -74.9), (0.55, -72.8), (0.78, -69.3), (0.93, -67.2), (1, -65.6),
]  # fmt: skip
BORDER_HALF_WIDTH = 27.1

# Brow: x, y and half thickness along the curve.
BROW_CURVE = np.array(
    [(9.5, 20.6, 2.6), (14, 21.6, 3.2), (22, 22.8, 3.1), (31, 24.0, 2.6), (39, 23.0, 2.0), (47.5, 18.5, 1.0)]
)

# Depth of the face's skin: x, y, and the z the surface is pulled to there.
FACE_DEPTH = np.array(
    [
        (0, 75, 82), (0, 60, 89), (0, 45, 92.5), (0, 26, 94), (0, 12, 88.5), (0, 0, 88), (0, -10, 89), (0, -30, 92),
        (0, -42.5, 97), (0, -53, 98.5), (0, -62, 97), (0, -72, 95.5), (0, -80, 93), (0, -88, 95.5), (0, -96, 96),
        (0, -103, 92.5), (0, -108, 86),
        (15, 75, 80.5), (15, 50, 90.5), (15, 28, 92), (15, 19, 91.5), (13, 8, 83), (16, 0, 80), (15, -10, 83.5),
        (15, -25, 87.5), (18, -35, 88), (18, -45, 90), (16, -54, 94), (16, -63, 93.5), (16, -72, 91), (15, -82, 89.5),
        (15, -95, 90), (14, -104, 86),
        (31, 75, 73), (31, 50, 84), (32, 30, 87.5), (32, 21, 87.5), (31.5, 11, 82), (31.5, 0, 78.5),
        (31.5, -10, 79.5), (31, -18, 80.5), (30, -28, 83), (31, -38, 83), (31, -50, 82), (31, -60, 81),
        (31, -72, 79), (30, -85, 76.5), (28, -97, 72),
        (46, 65, 66), (46, 45, 74.5), (46, 30, 76.5), (45, 18, 76), (45, 8, 71), (45, 0, 70), (45, -10, 71.5),
        (46, -20, 73), (46, -32, 72), (46, -45, 69), (45, -60, 65), (41, -75, 61),
        (58, 45, 58), (58, 30, 60), (57, 15, 58), (57, 0, 56), (58, -12, 57.5), (58, -22, 57), (57, -35, 52),
        (54, -50, 46),
    ],
    dtype=float,
)  # fmt: skip
