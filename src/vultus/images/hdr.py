"""Videos recorded in high dynamic range (what phones call HDR or Dolby Vision), shown as ordinary sRGB pictures.

Source: ITU-R BT.2100-2 (transfer functions of HLG and PQ) and BT.2408 (reference white at 203 cd/m2).
"""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float, UInt8, UInt16

_PQ, _HLG = 16, 18
_REFERENCE_WHITE = 203.0
# Linear light, BT.2020 primaries to BT.709 primaries (same white).
_2020_TO_709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]], np.float32
)
_LUMINANCE_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)
_STEPS = 4096


def is_hdr(transfer: int) -> bool:
    """Whether a transfer characteristic (ITU-T H.273 number) is PQ or HLG."""
    return transfer in (_PQ, _HLG)


def to_sdr(image: UInt16[np.ndarray, "H W 3"], transfer: int) -> UInt8[np.ndarray, "H W 3"]:
    """A 16-bit PQ or HLG picture with BT.2020 primaries as 8-bit sRGB.

    Reference white becomes white less a little room: light beyond 80 % of it is compressed, not clipped, so that
    highlights on skin keep their shape.
    """
    linear = _linear_table(transfer)[image]
    if transfer == _HLG:
        # The display's system gamma of 1.2, applied to luminance so that hues stay.
        luminance = (linear @ _LUMINANCE_2020)[..., None]
        linear = linear * np.maximum(luminance, 1e-6) ** 0.2 * (1000.0 / _REFERENCE_WHITE)
    light = np.maximum(linear @ _2020_TO_709.T, 0)
    knee = 0.8
    excess = np.maximum(light - knee, 0)
    light = np.minimum(light, knee) + (1 - knee) * (excess / (excess + (1 - knee)))
    index = np.sqrt(light) * (_STEPS - 1) + 0.5  # the square root spends the table's steps where the eye needs them
    return _srgb_table()[index.astype(np.int32).clip(0, _STEPS - 1)]


@cache
def _linear_table(transfer: int) -> Float[np.ndarray, "65536"]:
    """Signal (16 bit) to linear light: scene light in [0, 1] for HLG, multiples of reference white for PQ."""
    signal = np.linspace(0, 1, 65536)
    if transfer == _HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    else:
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        power = signal ** (1 / m2)
        light = (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1) * (10000.0 / _REFERENCE_WHITE)
    return light.astype(np.float32)


@cache
def _srgb_table() -> UInt8[np.ndarray, "4096"]:
    light = np.linspace(0, 1, _STEPS) ** 2
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(encoded * 255).astype(np.uint8)
