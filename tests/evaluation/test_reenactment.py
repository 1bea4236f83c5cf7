import torch

from vultus.evaluation.reenactment import compare


def _disc(size: int = 96) -> torch.Tensor:
    axis = torch.arange(size) - size / 2
    return ((axis[:, None] ** 2 + axis[None] ** 2) < (size / 4) ** 2).float()[..., None]


def test_a_perfect_prediction() -> None:
    mask = _disc()
    target = torch.rand(96, 96, 3, generator=torch.Generator().manual_seed(0))
    psnr, ssim, foreground = compare(target, target, mask)
    assert psnr > 90
    assert foreground > 90
    assert ssim > 0.9999


def test_what_lies_outside_the_mask_does_not_count() -> None:
    mask = _disc()
    generator = torch.Generator().manual_seed(0)
    target, other = torch.rand(2, 96, 96, 3, generator=generator)
    mixed = target * mask + other * (1 - mask)
    assert compare(mixed, target, mask) == compare(target, target, mask)


def test_foreground_psnr_is_that_of_a_constant_error() -> None:
    mask = _disc(480)  # large, so that the soft edge of resampling weighs little
    target = torch.full((480, 480, 3), 0.5)
    psnr, _, foreground = compare(target + 0.1, target, mask)
    assert abs(foreground - 20) < 0.1  # 10 log10(1 / 0.1²)
    assert psnr > foreground  # the white surround is right for free
