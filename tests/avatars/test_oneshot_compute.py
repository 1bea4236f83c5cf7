"""How one-shot networks compute can be chosen in one place, and what a device cannot do is refused."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from vultus.avatars.oneshot import Compute, OneShotModel
from vultus.avatars.oneshot import compute as module
from vultus.avatars.oneshot.geometry import transform_to_camera
from vultus.avatars.oneshot.head_space import head_vertices
from vultus.avatars.oneshot.options import UNITS
from vultus.avatars.oneshot.settings import SMALL
from vultus.errors import VultusError
from vultus.heads.load import load_head

TRANSFORM = torch.tensor([[-1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 9.3]])


@pytest.fixture(scope="module")
def head():
    return load_head("builtin")


@pytest.fixture
def model(head):
    torch.manual_seed(0)
    return OneShotModel(replace(SMALL, vertices=len(head.template), shortcuts=False)).eval()


def pictured(model, head):
    """A reconstruction and its frame."""
    picture = torch.rand(128, 128, 3, generator=torch.Generator().manual_seed(1))
    rest = head.neutral()
    with torch.no_grad():
        avatar = model.reconstruct(picture, TRANSFORM, rest, head)
        image = avatar.render(rest, transform_to_camera(TRANSFORM, 128)).color
        drawn = model.draw(avatar.splats(), head_vertices(head, rest)[None] * UNITS, TRANSFORM[None]).fine
    return avatar, image, drawn


def test_sixteen_bits_are_the_same_picture_within_their_rounding(model, head, monkeypatch):
    _, wanted, plain = pictured(model, head)
    monkeypatch.setattr(module, "cpu_has_bfloat16", lambda: True)
    avatar, found, drawn = pictured(model.use(Compute("bfloat16")), head)
    assert avatar.compute.precision == "bfloat16"  # an avatar computes as the network that made it
    for one, other in ((wanted, found), (plain, drawn)):
        difference = (one - other).abs()
        assert 0 < difference.max() < 0.1
        assert difference.square().mean().sqrt() < 0.02
    avatar.use(Compute())
    with torch.no_grad():
        again = avatar.render(head.neutral(), transform_to_camera(TRANSFORM, 128)).color
    assert found.dtype == again.dtype == torch.float32
    assert not torch.equal(found, again)


@pytest.mark.parametrize(
    ("compute", "says"),
    [
        (Compute("bfloat16"), "no bfloat16 instructions"),
        (Compute("tf32"), "NVIDIA"),
        (Compute(compiled=True), "for GPUs"),
        (Compute("float16"), "choose float32, tf32 or bfloat16"),  # type: ignore[arg-type]
    ],
)
def test_what_a_processor_cannot_do_is_refused(model, monkeypatch, compute, says):
    monkeypatch.setattr(module, "cpu_has_bfloat16", lambda: False)
    with pytest.raises(VultusError, match=says):
        model.use(compute)
    assert model.compute == Compute()


def test_bfloat16_is_found_by_the_processor_s_own_word(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    assert not module.cpu_has_bfloat16()
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert module.cpu_has_bfloat16()


def test_a_gpu_s_age_and_compiler_are_asked(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    for precision in ("tf32", "bfloat16"):
        with pytest.raises(VultusError, match="too old"):
            Compute(precision).require("cuda")
    Compute(channels_last=True).require("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    Compute("tf32").require("cuda")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(VultusError, match="Triton"):
        Compute(compiled=True).require("cuda:0")


def test_the_process_s_own_switches_are_put_back():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    for wanted in (True, False):
        with module._products_of_19_bits(wanted):
            assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is wanted
        assert before == (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)


def test_channels_last_changes_the_layout_and_not_the_weights(model, head):
    _, wanted, _ = pictured(model, head)
    state = copy.deepcopy(model.state_dict())
    _, found, _ = pictured(model.use(Compute(channels_last=True)), head)
    assert model.upsampler.final_conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    model.use(Compute())
    assert model.upsampler.final_conv.weight.is_contiguous()


def test_only_the_renderer_is_compiled_and_copies_are_not(model, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: asked.append((self, options)))
    Compute(compiled=True).prepare(model, model.upsampler)
    assert asked == [(model.upsampler, {"mode": "reduce-overhead"})]
    model.upsampler._compiled_call_impl = lambda *given: None
    assert copy.deepcopy(model.upsampler)._compiled_call_impl is None


@pytest.mark.slow
def test_fewer_multiplications_give_the_same_splats_at_the_published_size():
    torch.manual_seed(0)
    with torch.device("meta"):
        model = OneShotModel()
    model = model.to_empty(device="cpu").eval().requires_grad_(False)
    for name, value in model.state_dict().items():  # activations as large as those of trained networks
        value.normal_(0, value[0].numel() ** -0.5 if value.dim() > 1 else 0.05)
        if value.dim() == 1 and name.endswith(("weight", "gamma")):
            value.add_(1)
    picture = torch.rand(1, 3, 518, 518)
    with torch.no_grad():
        found = model.splats(picture, TRANSFORM[None])
        with torch.backends.nnpack.flags(enabled=False):
            wanted = model.splats(picture, TRANSFORM[None])
    assert found.lifted.shape == (1, 2 * 296**2, 3)
    for name in ("features", "opacities", "scales", "rotations"):
        one, other = (getattr(each.attributes, name) for each in (found, wanted))
        assert (one - other).square().mean().sqrt() < 2e-5 * other.square().mean().sqrt(), name
    assert (found.lifted - wanted.lifted).abs().max() < 1e-4  # 0.02 mm
