"""ArcFace and DECA against plainly written versions of their formulas, with random weights in the published layouts."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from random_weights import random_weights
from torch import Tensor

from vultus.errors import VultusError
from vultus.networks.arcface import ArcFace, arcface_of
from vultus.networks.deca import DecaEncoder, deca_of


def normalised(x: Tensor, w: Mapping[str, Tensor], name: str) -> Tensor:
    shape = (1, -1) + (1,) * (x.dim() - 2)
    mean, var, gain, bias = (
        w[f"{name}.{key}"].reshape(shape) for key in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + 1e-5) * gain + bias


def arcface(w: Mapping[str, Tensor], image: Tensor, blocks: tuple[int, ...]) -> Tensor:
    def activated(x: Tensor, name: str) -> Tensor:
        slope = w[f"{name}.weight"].reshape(1, -1, 1, 1)
        return torch.where(x >= 0, x, slope * x)

    x = F.conv2d((image - 0.5) / 0.5, w["conv1.weight"], padding=1)
    x = activated(normalised(x, w, "bn1"), "prelu")
    for level, count in enumerate(blocks, start=1):
        for index in range(count):
            at, stride = f"layer{level}.{index}", 2 if index == 0 else 1
            y = F.conv2d(normalised(x, w, f"{at}.bn1"), w[f"{at}.conv1.weight"], padding=1)
            y = activated(normalised(y, w, f"{at}.bn2"), f"{at}.prelu")
            y = normalised(F.conv2d(y, w[f"{at}.conv2.weight"], stride=stride, padding=1), w, f"{at}.bn3")
            if index == 0:
                x = normalised(F.conv2d(x, w[f"{at}.downsample.0.weight"], stride=2), w, f"{at}.downsample.1")
            x = x + y
    flat = normalised(x, w, "bn2").flatten(1) @ w["fc.weight"].T + w["fc.bias"]
    return normalised(flat, w, "features")


def deca(w: Mapping[str, Tensor], image: Tensor) -> Tensor:
    at = "encoder"
    x = F.relu(normalised(F.conv2d(image, w[f"{at}.conv1.weight"], stride=2, padding=3), w, f"{at}.bn1"))
    x = F.max_pool2d(x, 3, 2, 1)
    for level, count in enumerate((3, 4, 6, 3), start=1):
        for index in range(count):
            at, stride = f"encoder.layer{level}.{index}", 2 if index == 0 and level > 1 else 1
            y = F.relu(normalised(F.conv2d(x, w[f"{at}.conv1.weight"]), w, f"{at}.bn1"))
            y = F.relu(normalised(F.conv2d(y, w[f"{at}.conv2.weight"], stride=stride, padding=1), w, f"{at}.bn2"))
            y = normalised(F.conv2d(y, w[f"{at}.conv3.weight"]), w, f"{at}.bn3")
            if index == 0:
                x = normalised(F.conv2d(x, w[f"{at}.downsample.0.weight"], stride=stride), w, f"{at}.downsample.1")
            x = F.relu(x + y)
    hidden = F.relu(x.mean((-2, -1)) @ w["layers.0.weight"].T + w["layers.0.bias"])
    return hidden @ w["layers.2.weight"].T + w["layers.2.bias"]


def test_arcface_is_its_formula() -> None:
    blocks = (2, 1, 1, 1)
    weights = random_weights(ArcFace(blocks))
    image = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    network = arcface_of(weights, "backbone.pth")
    found, expected = network(image), arcface(weights, image, blocks)
    assert found.shape == (2, 512)
    assert float(expected.std()) > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_published_network_of_fifty_layers() -> None:
    with torch.device("meta"):
        network = ArcFace((3, 4, 14, 3))
    names = set(network.state_dict())
    assert {"layer3.13.bn3.running_var", "layer1.0.downsample.1.bias", "prelu.weight", "features.running_mean"} <= names
    # Its publishers give 43.59 million.
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(43.59, abs=0.005)


def test_deca_is_its_formula() -> None:
    weights = random_weights(DecaEncoder())
    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    codes = deca_of(weights, "deca_model.tar")(image)
    assert {name: code.shape[1] for name, code in codes.items()} == {
        "shape": 100, "texture": 50, "expression": 50, "pose": 6, "camera": 3, "light": 27,
    }  # fmt: skip
    expected = deca(weights, image)
    torch.testing.assert_close(torch.cat(list(codes.values()), dim=-1), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(codes["expression"], expected[:, 150:200], rtol=1e-3, atol=1e-4)


def test_other_weights_are_refused() -> None:
    weights = random_weights(ArcFace((1, 1, 1, 1)))
    for change, message in (
        ({}, "no weights of ArcFace"),
        ({name: value for name, value in weights.items() if name != "fc.bias"}, "fc.bias is missing"),
        (weights | {"fc.bias": torch.zeros(3)}, "has the shape"),
        (weights | {"bn2.bias": torch.full((512,), torch.nan)}, "not finite"),
        (weights | {"layer4.999.conv1.weight": torch.zeros(1)}, "no weights of ArcFace"),
    ):
        with pytest.raises(VultusError, match=rf"w\.pth.*{message}"):
            arcface_of(change, "w.pth")
    with pytest.raises(VultusError, match=r"encoder\.conv1\.weight is missing"):
        deca_of({}, "w.tar")
