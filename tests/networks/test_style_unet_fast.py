"""The fast way through the style-modulated UNet gives the images of the plain one."""

from __future__ import annotations

import copy
import io

import pytest
import torch

from vultus.networks import convolution, style_unet_fast
from vultus.networks.style_unet import StyleUNet


def network(in_size, out_size, narrow, channels=8):
    torch.manual_seed(3)
    made = StyleUNet(in_size, out_size, channels, 3, style=16, layers=2, narrow=narrow).eval()
    with torch.no_grad():
        for name, value in made.named_parameters():
            if value.shape == (1,) or name.endswith("bias"):  # noise strengths and biases start at zero
                value.add_(0.3 * torch.randn(value.shape))
    return made


@pytest.mark.parametrize("rows", [3, 16, 1000], ids=["narrow bands", "bands", "whole"])
@pytest.mark.parametrize(
    ("in_size", "out_size", "given", "narrow"),
    [(64, 64, 64, 1 / 16), (128, 64, 128, 1 / 32), (64, 64, 20, 1 / 32), (8, 8, 8, 1 / 8), (128, 128, 128, 1 / 64)],
)
def test_the_images_are_the_same(in_size, out_size, given, narrow, rows, monkeypatch):
    made = network(in_size, out_size, narrow)
    widest = len(made.stylegan_decoder.style_convs[-1].bias[0]) * out_size
    monkeypatch.setattr(style_unet_fast, "_LEAST_ROWS", 1)
    monkeypatch.setattr(style_unet_fast, "_BAND", rows * widest)
    x = torch.randn(2, 8, given, given)
    with torch.no_grad():
        wanted, found = made.plain_logits(x), made.fast().logits(x)
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, atol=2e-5 * float(wanted.abs().max()), rtol=0)


@pytest.mark.skipif(not torch._nnpack_available(), reason="PyTorch was built without NNPACK")
def test_the_images_are_the_same_with_fewer_multiplications(monkeypatch):
    made, calls, threads = network(64, 64, 1 / 16), [], torch.get_num_threads()
    real = torch._nnpack_spatial_convolution
    monkeypatch.setattr(torch, "_nnpack_spatial_convolution", lambda *given: calls.append(1) or real(*given))
    for name, value in (("_LEAST_CHANNELS", 1), ("_LEAST_PIXELS", 1), ("_threads_of", lambda process: 1)):
        monkeypatch.setattr(convolution, name, value)
    x = torch.randn(1, 8, 64, 64)
    try:
        with torch.no_grad():
            made.logits(x)
            assert threads == 1 or not calls
            torch.set_num_threads(1)
            wanted, found = made.plain_logits(x), made.logits(x)
    finally:
        torch.set_num_threads(threads)
    assert len(calls) > 20
    torch.testing.assert_close(found, wanted, atol=2e-4 * float(wanted.abs().max()), rtol=0)


def test_it_is_taken_only_where_it_gives_the_same(monkeypatch):
    made = network(32, 32, 1 / 32)
    x = torch.randn(1, 8, 32, 32)
    calls = []
    fast = style_unet_fast.FastStyleUNet.logits
    monkeypatch.setattr(style_unet_fast.FastStyleUNet, "logits", lambda self, x: calls.append(1) or fast(self, x))
    image = made(x)
    image.sum().backward()
    assert made.conv_body_first.weight.grad is not None
    with torch.no_grad():
        made(x, torch.Generator().manual_seed(1))
        with torch.autocast("cpu", torch.bfloat16):
            made(x)
        assert not calls
        torch.testing.assert_close(made(x), image, atol=1e-5, rtol=0)
        assert len(calls) == 1


def test_changed_weights_are_noticed():
    made = network(32, 32, 1 / 32)
    x = torch.randn(1, 8, 32, 32)
    with torch.no_grad():
        first = made(x)
        kept = made.fast()
        assert made.fast() is kept
        made.final_conv.weight.mul_(1.5)
        made.stylegan_decoder.style_convs[3].modulated_conv.weight.mul_(-1)
        second = made(x)
        assert made.fast() is not kept
        torch.testing.assert_close(second, made.plain_logits(x).sigmoid(), atol=1e-5, rtol=0)
        assert not torch.allclose(first, second, atol=1e-4)
        other = network(32, 32, 1 / 32)
        made.load_state_dict(other.state_dict())
        torch.testing.assert_close(made(x), first, atol=1e-5, rtol=0)


def test_copies_are_independent():
    made = network(32, 32, 1 / 32)
    x = torch.randn(1, 8, 32, 32)
    with torch.no_grad():
        first = made(x)
        for copied in (copy.deepcopy(made), _through_a_file(made)):
            assert torch.equal(copied(x), first)
            copied.final_linear.bias.add_(3.0)
            assert not torch.equal(copied(x), first)
        assert torch.equal(made(x), first)


def _through_a_file(made):
    stream = io.BytesIO()
    torch.save(made, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)
