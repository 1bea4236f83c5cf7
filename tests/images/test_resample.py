"""Crop and resize move the image and its camera together; masks grow, shrink and soften."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vultus.cameras import Camera
from vultus.images import Box, crop, crop_and_resize, resize
from vultus.images.masks import dilate, erode, soften


def blob(camera: Camera, point: torch.Tensor, sigma: float = 3.0) -> torch.Tensor:
    """A picture with a soft dot where the camera sees the point."""
    x, y = camera.project(point[None])[0]
    rows = torch.arange(camera.height)[:, None] + 0.5
    columns = torch.arange(camera.width)[None, :] + 0.5
    return torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))[..., None]


def center_of_mass(image: torch.Tensor) -> torch.Tensor:
    weights = image[..., 0] / image.sum()
    rows = torch.arange(image.shape[0])[:, None] + 0.5
    columns = torch.arange(image.shape[1])[None, :] + 0.5
    return torch.stack([(weights * columns).sum(), (weights * rows).sum()])


@settings(max_examples=25, deadline=None)
@given(
    left=st.integers(-20, 20), top=st.integers(-20, 20), side=st.integers(60, 90), size=st.integers(30, 150),
    x=st.floats(-0.05, 0.05), y=st.floats(-0.05, 0.05),
)  # fmt: skip
def test_a_point_stays_where_the_camera_says(left: int, top: int, side: int, size: int, x: float, y: float) -> None:
    camera = Camera.from_focal(100.0, 80, 64)
    point = torch.tensor([x, y, 1.0])
    box = Box(left, top, side + 10, side)
    image, seen = crop_and_resize(blob(camera, point), camera, box, size, size + 7)
    assert image.shape == (size + 7, size, 1)
    expected = seen.project(point[None])[0]
    margin = 0.3 * size
    if (expected > margin).all() and (expected < torch.tensor([size, size + 7]) - margin).all():
        torch.testing.assert_close(center_of_mass(image), expected, atol=0.25, rtol=0)


def test_shrinking_is_antialiased() -> None:
    stripes = (torch.arange(120) % 2).float()[None, :, None].expand(60, 120, 1)
    small = resize(stripes, 29, 15)
    assert float(small[:, 2:-2].sub(0.5).abs().max()) < 0.05


def test_crop_beyond_the_image_is_filled() -> None:
    image = torch.rand(2, 10, 12, 3)
    part = crop(image, Box(-3, 6, 8, 9), fill=0.5)
    assert part.shape == (2, 9, 8, 3)
    assert torch.equal(part[:, :4, 3:], image[:, 6:, :5])
    assert (part[:, :, :3] == 0.5).all()
    assert (part[:, 4:] == 0.5).all()
    assert (crop(image, Box(50, 50, 2, 2)) == 0).all()


def test_square_box() -> None:
    assert Box.square_around((10.0, 20.0), 8.0) == Box(6, 16, 8, 8)


def test_erosion_and_dilation_are_squares() -> None:
    mask = torch.zeros(1, 21, 21, 1)
    mask[:, 10, 10] = 1
    grown = dilate(mask, 3)
    assert int(grown.sum()) == 49
    assert torch.equal(erode(grown, 3), mask)
    assert torch.equal(erode(torch.ones(9, 9, 1), 2), torch.ones(9, 9, 1))
    assert dilate(mask, 0) is mask


@pytest.mark.parametrize("sigma", [0.8, 2.5])
def test_soften_keeps_the_amount(sigma: float) -> None:
    mask = torch.zeros(41, 41, 1)
    mask[20, 20] = 1
    soft = soften(mask, sigma)
    assert float(soft.sum()) == pytest.approx(1.0, abs=1e-5)
    rows = torch.arange(41.0) - 20
    assert float((soft[..., 0].sum(1) * rows**2).sum().sqrt()) == pytest.approx(sigma, rel=0.03)
    torch.testing.assert_close(soften(torch.ones(9, 9, 1), sigma), torch.ones(9, 9, 1))
