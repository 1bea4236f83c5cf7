"""Structural similarity against the golden vectors of the splatting topic."""

import numpy as np
import pytest
import torch

from vultus.images import ssim, ssim_map

pytestmark = pytest.mark.golden
TOPIC = "splatting"


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_ssim(golden, padding):
    data = golden.load("ssim")
    image, target = (torch.from_numpy(data[name]).permute(1, 2, 0) for name in ("image", "target"))
    image.requires_grad_()
    seen = ssim_map(image, target, padding=padding)
    np.testing.assert_allclose(seen.detach().permute(2, 0, 1).numpy(), data[f"ssim_map_{padding}"], rtol=0, atol=1e-5)
    mean = ssim(image, target, padding=padding)
    assert abs(float(mean.detach()) - float(data[f"ssim_{padding}"])) <= 1e-6
    if padding == "same":
        mean.backward()
        expected = data["grad_image_same"].transpose(1, 2, 0)
        np.testing.assert_allclose(image.grad.numpy(), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
