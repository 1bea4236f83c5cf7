"""The fixed mesh of ICT-FaceKit Light: which vertices and polygons are which part, landmarks and shape names."""

from __future__ import annotations

VERTICES, POLYGONS, TEXTURE_POINTS = 26719, 26384, 28911
N_IDENTITY = 100

# Part: first vertex, past the last vertex, first polygon, past the last polygon.
PARTS: dict[str, tuple[int, int, int, int]] = {
    "face": (0, 9409, 0, 9230),
    "head_and_neck": (9409, 11248, 9230, 11144),
    "mouth_socket": (11248, 13294, 11144, 13226),
    "eye_socket_left": (13294, 13678, 13226, 13630),
    "eye_socket_right": (13678, 14062, 13630, 14034),
    "gums_and_tongue": (14062, 17039, 14034, 17006),
    "teeth": (17039, 21451, 17006, 21496),
    "eyeball_left": (21451, 23021, 21496, 23094),
    "eyeball_right": (23021, 24591, 23094, 24692),
}
OPAQUE_POLYGONS = 24692
"""Polygons from here on are see-through shells (tear fluid, lid shadows) and eyelashes."""
NARROW_FACE = (0, 6706)
SCLERA = {"left": (21451, 22221), "right": (23021, 23791)}
IRIS = {"left": (22221, 23021), "right": (23791, 24591)}
UPPER_TEETH, LOWER_TEETH = (17039, 19247), (19247, 21451)

# fmt: off
LANDMARKS_68 = (
    1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443, 268, 493, 1914,
    2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360, 1507, 1542, 1537,
    1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732, 5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518,
    5957, 5841, 5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966,
)

EXPRESSIONS = (
    "browDown_L", "browDown_R", "browInnerUp_L", "browInnerUp_R", "browOuterUp_L", "browOuterUp_R", "cheekPuff_L",
    "cheekPuff_R", "cheekSquint_L", "cheekSquint_R", "eyeBlink_L", "eyeBlink_R", "eyeLookDown_L", "eyeLookDown_R",
    "eyeLookIn_L", "eyeLookIn_R", "eyeLookOut_L", "eyeLookOut_R", "eyeLookUp_L", "eyeLookUp_R", "eyeSquint_L",
    "eyeSquint_R", "eyeWide_L", "eyeWide_R", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose",
    "mouthDimple_L", "mouthDimple_R", "mouthFrown_L", "mouthFrown_R", "mouthFunnel", "mouthLeft", "mouthLowerDown_L",
    "mouthLowerDown_R", "mouthPress_L", "mouthPress_R", "mouthPucker", "mouthRight", "mouthRollLower",
    "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmile_L", "mouthSmile_R", "mouthStretch_L",
    "mouthStretch_R", "mouthUpperUp_L", "mouthUpperUp_R", "noseSneer_L", "noseSneer_R",
)
# fmt: on
EXTRA_EXPRESSIONS = ("PupilDilate_L", "PupilDilate_R", "cheekRaiser_L", "cheekRaiser_R")

# Where each part's unit square of texture coordinates goes in one: corner (u, v) and side.
ATLAS: dict[str, tuple[float, float, float]] = {
    "face": (0.0, 0.5, 0.5),
    "head_and_neck": (0.5, 0.5, 0.5),
    "mouth_socket": (0.5, 0.5, 0.5),
    "eye_socket_left": (0.5, 0.5, 0.5),
    "eye_socket_right": (0.5, 0.5, 0.5),
    "gums_and_tongue": (0.0, 0.0, 0.5),
    "teeth": (0.5, 0.25, 0.25),
    "eyeball_left": (0.75, 0.0, 0.25),
    "eyeball_right": (0.5, 0.0, 0.25),
}


def shape_name(published: str) -> str:
    """Our spelling of a published shape name: `mouthSmile_L` is `mouthSmileLeft`."""
    for short, side in (("_L", "Left"), ("_R", "Right")):
        if published.endswith(short):
            return published.removesuffix(short) + side
    return published
