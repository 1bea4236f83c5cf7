"""SSIM, PSNR and L1 against independent implementations, and their gradients."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vultus.images import l1, psnr, ssim, ssim_map


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    noise = torch.rand(40, 56, 3, generator=generator, dtype=torch.float64)
    smooth = torch.linspace(0, 1, 56, dtype=torch.float64)[None, :, None].expand(40, 56, 3)
    image = 0.6 * smooth + 0.4 * noise
    return image, (image + 0.1 * torch.randn(40, 56, 3, generator=generator, dtype=torch.float64)).clamp(0, 1)


def test_ssim_agrees_with_scikit_image(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, target = pair
    _, reference = structural_similarity(
        image.numpy(), target.numpy(), channel_axis=-1, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, data_range=1.0, full=True,
    )  # fmt: skip
    ours = ssim_map(image, target, padding="valid").numpy()
    np.testing.assert_allclose(ours, reference[5:-5, 5:-5], atol=1e-10)
    assert float(ssim(image, target, padding="valid")) == pytest.approx(ours.mean())


def test_ssim_agrees_with_torchmetrics(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    from torchmetrics.functional.image import structural_similarity_index_measure

    image, target = pair
    _, reference = structural_similarity_index_measure(
        image.permute(2, 0, 1)[None], target.permute(2, 0, 1)[None], data_range=1.0, return_full_image=True
    )
    # Its border is reflected, which neither of our paddings does.
    inside = reference[0, :, 5:-5, 5:-5].permute(1, 2, 0)
    torch.testing.assert_close(ssim_map(image, target, padding="valid"), inside)


def test_same_padding_pads_with_zeros(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, target = pair
    pad = (0, 0, 5, 5, 5, 5)
    padded = ssim_map(torch.nn.functional.pad(image, pad), torch.nn.functional.pad(target, pad), padding="valid")
    torch.testing.assert_close(ssim_map(image, target), padded)


def test_ssim_gradient(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, target = pair[0][:14, :13, :2].clone().requires_grad_(), pair[1][:14, :13, :2]
    assert torch.autograd.gradcheck(lambda x: ssim(x, target), (image,))
    assert torch.autograd.gradcheck(lambda x: ssim(x, target, padding="valid"), (image,))


def test_batches_are_images_one_by_one(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    images = torch.stack([pair[0], pair[1], pair[0].flip(0)]).reshape(3, 1, 40, 56, 3)
    targets = torch.stack([pair[1], pair[1], pair[1]]).reshape(3, 1, 40, 56, 3)
    for metric in (ssim, psnr):
        batch = metric(images, targets)
        assert batch.shape == (3, 1)
        for i in range(3):
            torch.testing.assert_close(batch[i, 0], metric(images[i, 0], targets[i, 0]))
    assert float(ssim(pair[1], pair[1])) == pytest.approx(1.0)


def test_psnr_and_l1(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, target = pair
    reference = peak_signal_noise_ratio(target.numpy(), image.numpy(), data_range=1.0)
    assert float(psnr(image, target)) == pytest.approx(reference, abs=1e-9)
    assert float(psnr(image, image)) == pytest.approx(100.0)
    assert float(l1(image, image + 0.25)) == pytest.approx(0.25)


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        ssim(torch.rand(12, 12, 3), torch.rand(12, 13, 3))
    with pytest.raises(ValueError, match="smaller than"):
        ssim(torch.rand(12, 10, 3), torch.rand(12, 10, 3), padding="valid")
