import numpy as np
import pytest

from vultus.tracking.matte import sharpen, without_rising_edges


def _bust(size: int = 160) -> np.ndarray:
    """A round head on a neck on shoulders that fall to both borders of the picture."""
    y, x = np.mgrid[:size, :size] + 0.5
    across = np.abs(x - size / 2)
    head = (across / 0.22) ** 2 + ((y - 0.35 * size) / 0.28) ** 2 < size**2
    neck = (across < 0.1 * size) & (y > 0.5 * size)
    shoulders = y > 0.65 * size + 0.3 * across
    return (head | neck | shoulders).astype(np.float32)


def test_shoulders_that_fall_stay() -> None:
    bust = _bust()
    assert np.array_equal(without_rising_edges(bust), bust)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_what_rises_at_a_border_goes(mirrored: bool, alpha: float) -> None:
    bust, flagged = _bust(), _bust()
    flagged[60:, :9] = np.maximum(flagged[60:, :9], alpha)
    if mirrored:
        bust, flagged = bust[:, ::-1], flagged[:, ::-1]
    left = without_rising_edges(flagged)
    rows = len(bust)
    assert np.array_equal(left[:, 16:-16], bust[:, 16:-16])
    # Up to the height at which the shoulders enter the outer tenth, and a soft edge.
    entry = int(min(bust[:, 15].argmax(), bust[:, -16].argmax()))
    above = left[: entry - max(2, rows // 128)]
    assert above[:, :16].sum() == 0
    assert above[:, -16:].sum() == 0
    assert (left[bust > 0] == 1).all()


def test_an_empty_and_a_full_mask_stay() -> None:
    for mask in (np.zeros((40, 30), np.float32), np.ones((40, 30), np.float32)):
        assert np.array_equal(without_rising_edges(mask), mask)


def test_sharpening_moves_a_blurred_edge_to_the_pictures_own() -> None:
    image = np.zeros((64, 64, 3), np.float32)
    image[:, 34:] = 0.8
    x = np.arange(64) + 0.5
    blurred = np.repeat((1 / (1 + np.exp(-(x - 30) / 3)))[None], 64, 0).astype(np.float32)
    sharp = sharpen(blurred, image, 8)
    step, before = sharp[:, 36] - sharp[:, 32], blurred[:, 36] - blurred[:, 32]
    assert (step > 1.5 * before).all()
    wrong = np.abs(blurred - (x > 34)).mean()
    assert np.abs(sharp - (x > 34)).mean() < 0.7 * wrong
