"""SSIM, PSNR and L1 against independent implementations, and their gradients."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vultus.images import l1, ms_ssim, psnr, ssim, ssim_map


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


def test_reflected_ssim_is_the_mean_of_torchmetrics(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    from torchmetrics.functional.image import structural_similarity_index_measure

    first, second = (x.permute(2, 0, 1)[None] for x in pair)
    reference = structural_similarity_index_measure(first, second, data_range=1.0)
    assert float(ssim(*pair, padding="reflect")) == pytest.approx(float(reference), abs=1e-10)


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


@pytest.fixture
def large_pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Large enough for five scales, with structure at all of them; odd sizes, so that halving leaves rows out."""
    generator = torch.Generator().manual_seed(5)
    image = torch.zeros(183, 201, 3, dtype=torch.float64)
    for size in (3, 9, 30):
        coarse = torch.rand(1, 3, size, size, generator=generator, dtype=torch.float64)
        image += torch.nn.functional.interpolate(coarse, (183, 201), mode="bilinear")[0].permute(1, 2, 0) / 3
    return image, (image + 0.08 * torch.randn(image.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)


def test_ms_ssim_agrees_with_torchmetrics(large_pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    first, second = (x.permute(2, 0, 1)[None] for x in large_pair)
    reference = multiscale_structural_similarity_index_measure(first, second, data_range=1.0)
    assert float(ms_ssim(*large_pair)) == pytest.approx(float(reference), abs=1e-8)


def test_ms_ssim_agrees_with_a_plain_reference(large_pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    """The paper's definition on SciPy's filters, channel by channel."""
    from scipy.ndimage import correlate1d

    axis = np.arange(11) - 5
    window = np.exp(-(axis**2) / (2 * 1.5**2))
    window /= window.sum()

    def blurred(plane: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(plane, window, axis=0, mode="mirror"), window, axis=1, mode="mirror")

    def halved(plane: np.ndarray) -> np.ndarray:
        plane = plane[: len(plane) // 2 * 2, : plane.shape[1] // 2 * 2]
        return (plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2]) / 4

    first, second = ([x.numpy()[..., channel] for channel in range(3)] for x in large_pair)
    total = 1.0
    for exponent in (0.0448, 0.2856, 0.3001, 0.2363, 0.1333):
        contrasts, luminances = [], []
        for a, b in zip(first, second, strict=True):
            mean_a, mean_b = blurred(a), blurred(b)
            variances = blurred((a - 0.5) ** 2) - (mean_a - 0.5) ** 2 + blurred((b - 0.5) ** 2) - (mean_b - 0.5) ** 2
            covariance = blurred((a - 0.5) * (b - 0.5)) - (mean_a - 0.5) * (mean_b - 0.5)
            contrasts.append((2 * covariance + 0.03**2) / (variances + 0.03**2))
            luminances.append((2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2))
        coarsest = exponent == 0.1333
        maps = [c * light if coarsest else c[5:-5, 5:-5] for c, light in zip(contrasts, luminances, strict=True)]
        total *= max(0.0, float(np.mean(maps))) ** exponent
        first, second = [halved(x) for x in first], [halved(x) for x in second]
    assert float(ms_ssim(*large_pair)) == pytest.approx(total, abs=1e-9)


def test_ms_ssim_of_what_is_too_small() -> None:
    with pytest.raises(ValueError, match="at least 176"):
        ms_ssim(torch.rand(175, 300, 3), torch.rand(175, 300, 3))
    assert float(ms_ssim(torch.rand(176, 176, 3), torch.rand(176, 176, 3))) >= 0


def test_weights_choose_what_counts(large_pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, target = large_pair
    ones = torch.ones(183, 201, 1)
    left = (torch.arange(201) < 100).double()[None, :, None].expand(183, 201, 1)
    for metric in (psnr, ssim, ms_ssim):
        assert float(metric(image, target, weight=ones)) == pytest.approx(float(metric(image, target)), abs=1e-9)
        worse = image.clone()
        worse[:, 180:] = 1 - worse[:, 180:]  # farther from the counted half than any window of SSIM reaches
        if metric is not ms_ssim:
            assert float(metric(worse, target, weight=left)) == pytest.approx(float(metric(image, target, weight=left)))
        assert float(metric(worse, target)) < float(metric(image, target))
    assert float(psnr(image, target, weight=left)) == pytest.approx(float(psnr(image[:, :100], target[:, :100])))
    similarity = ssim_map(image, target, padding="valid")
    assert float(ssim(image, target, padding="valid", weight=left)) == pytest.approx(float(similarity[:, :95].mean()))
