"""Convolutions with fewer multiplications give what plain ones give, and are taken only where they do."""

from __future__ import annotations

import multiprocessing

import pytest
import torch

from vultus.networks import convolution
from vultus.networks.convolution import Conv3x3, convolved

needs_nnpack = pytest.mark.skipif(not torch._nnpack_available(), reason="PyTorch was built without NNPACK")


@pytest.fixture
def calls(monkeypatch):
    """How often the way with fewer multiplications is taken."""
    made, real = [], torch._nnpack_spatial_convolution
    convolution._threads_of.cache_clear()
    convolution._threads_of(convolution._PROCESS)
    monkeypatch.setattr(torch, "_nnpack_spatial_convolution", lambda *given: made.append(given) or real(*given))
    return made


def example(inputs=64, outputs=96, height=40, width=33, batch=1):
    generator = torch.Generator().manual_seed(inputs + height)
    x = torch.randn(batch, inputs, height, width, generator=generator)
    return x, torch.randn(outputs, inputs, 3, 3, generator=generator), torch.randn(outputs, generator=generator)


def exact(x, weight, bias, padding):
    return torch.nn.functional.conv2d(x.double(), weight.double(), None if bias is None else bias.double(), 1, padding)


@needs_nnpack
@pytest.mark.parametrize("padding", [(1, 1), (0, 1), (0, 0)])
@pytest.mark.parametrize("sizes", [(64, 96, 40, 33, 2), (130, 65, 32, 32, 1), (64, 64, 7, 200, 1)])
def test_it_is_the_convolution_up_to_rounding(calls, sizes, padding):
    x, weight, bias = example(*sizes)
    for layout in (torch.contiguous_format, torch.channels_last):
        for each in (bias, None):
            wanted = exact(x, weight, each, padding)
            with torch.no_grad():
                found = convolved(x.contiguous(memory_format=layout), weight, each, padding)
            assert found.shape == wanted.shape
            error = (found - wanted) / wanted.std()
            # Plain ones are off by 4e-7 (64 channels) to 2e-6 (1,000), these by 3e-6 to 5e-6 of the spread.
            assert error.square().mean().sqrt() < 1e-5
            assert error.abs().max() < 1.5e-4
    assert len(calls) == 4


@needs_nnpack
def test_it_is_taken_only_where_it_can(calls):
    x, weight, bias = example()
    convolved(x, weight, bias)  # gradients might be wanted
    with torch.no_grad():
        convolved(*example(inputs=32))
        convolved(*example(outputs=32))
        convolved(*example(height=20, width=20))
        convolved(x.double(), weight.double(), bias.double())
        convolved(x, weight[..., :1, :1], bias, (0, 0))
        with torch.autocast("cpu", torch.bfloat16):
            assert convolved(x, weight, bias).dtype == torch.bfloat16
        with torch.backends.nnpack.flags(enabled=False):
            convolved(x, weight, bias)
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(threads + 1)  # NNPACK's are as many as there were
            convolved(x, weight, bias)
        finally:
            torch.set_num_threads(threads)
        assert not calls
        convolved(x, weight, bias)
        assert len(calls) == 1


@needs_nnpack
def test_same_inputs_give_the_same_bits(calls):
    inputs = example(height=100, width=100)
    with torch.no_grad():
        first = convolved(*inputs)
        assert all(torch.equal(convolved(*inputs), first) for _ in range(3))


def test_a_layer_has_the_names_of_any_other_and_learns():
    torch.manual_seed(0)
    layer, plain = Conv3x3(64, 70), torch.nn.Conv2d(64, 70, 3, padding=1)
    plain.load_state_dict(layer.state_dict())
    x = example()[0]
    torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=0)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    with torch.no_grad():
        torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=1e-4)
    assert [*Conv3x3(64, 70, bias=False).state_dict()] == ["weight"]


def in_child(queue):
    torch.set_num_threads(1)
    with torch.no_grad():
        queue.put(convolved(*example()).sum().item())


@needs_nnpack
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_forked_processes_do_not_wait_for_threads_they_lack():
    with torch.no_grad():
        wanted = convolved(*example()).sum().item()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=in_child, args=(queue,), daemon=True)
    child.start()
    try:
        assert queue.get(timeout=60) == pytest.approx(wanted, rel=1e-3)
    finally:
        child.kill()
        child.join()
