"""LPIPS against a second, plainly written implementation and torchmetrics, with weights in the published layouts."""

import math
from pathlib import Path

import pytest
import torch

from vultus.errors import VultusError
from vultus.files import read_checkpoint_tensors
from vultus.networks.lpips import Lpips
from vultus.workflows.assets import recognise_file

ALEX = {0: (3, 64, 11), 3: (64, 192, 5), 6: (192, 384, 3), 8: (384, 256, 3), 10: (256, 256, 3)}
VGG_WIDTHS = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512)


def vgg_shapes() -> dict[int, tuple[int, int, int]]:
    shapes, index, before = {}, 0, 3
    for width in VGG_WIDTHS:
        if width == "M":
            index += 1
            continue
        shapes[index] = (before, int(width), 3)
        index, before = index + 2, int(width)
    return shapes


def weights(backbone: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    features = {}
    for index, (before, after, size) in (ALEX if backbone == "alex" else vgg_shapes()).items():
        scale = math.sqrt(2 / (before * size * size))
        features[f"features.{index}.weight"] = scale * torch.randn(after, before, size, size, generator=generator)
        features[f"features.{index}.bias"] = 0.1 * torch.randn(after, generator=generator)
    widths = (64, 192, 384, 256, 256) if backbone == "alex" else (64, 128, 256, 512, 512)
    linear = {f"lin{i}.model.1.weight": torch.rand(1, w, 1, 1, generator=generator) for i, w in enumerate(widths)}
    return features, linear


def sequential(backbone: str, features: dict[str, torch.Tensor]) -> torch.nn.Sequential:
    """The convolutional part of torchvision's classifier, with these weights."""
    nn = torch.nn
    layers: list[nn.Module] = []
    if backbone == "alex":
        for index, (before, after, size) in ALEX.items():
            if index in (3, 6):
                layers.append(nn.MaxPool2d(3, 2))
            layers += [nn.Conv2d(before, after, size, 4 if index == 0 else 1, {11: 2, 5: 2, 3: 1}[size]), nn.ReLU()]
    else:
        before = 3
        for width in VGG_WIDTHS:
            if width == "M":
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(before, int(width), 3, padding=1), nn.ReLU()]
                before = int(width)
    layers.append(nn.MaxPool2d(3 if backbone == "alex" else 2, 2))
    network = nn.Sequential(*layers)
    network.load_state_dict({name.removeprefix("features."): value for name, value in features.items()})
    return network


def reference(backbone: str, features: dict, linear: dict, a: torch.Tensor, b: torch.Tensor) -> float:
    """A torch.nn.Sequential whose outputs are tapped at the published positions (counted from 1)."""
    taps = (2, 5, 8, 10, 12) if backbone == "alex" else (4, 9, 16, 23, 30)
    network = sequential(backbone, features)

    def tapped(image: torch.Tensor) -> list[torch.Tensor]:
        x = image.permute(2, 0, 1)[None] * 2 - 1
        x = (x - torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)) / torch.tensor([0.458, 0.448, 0.450]).view(
            1, 3, 1, 1
        )
        found = []
        for position, layer in enumerate(network, start=1):
            x = layer(x)
            if position in taps:
                found.append(x / (x.norm(dim=1, keepdim=True) + 1e-10))
        return found

    with torch.no_grad():
        pairs = zip(tapped(a), tapped(b), linear.values(), strict=True)
        return sum(float(((x - y) ** 2 * w).sum(1).mean()) for x, y, w in pairs)


@pytest.mark.parametrize("backbone", ["alex", "vgg"])
def test_lpips_is_the_published_sum(backbone: str) -> None:
    features, linear = weights(backbone)
    network = Lpips(backbone, features, linear)
    generator = torch.Generator().manual_seed(2)
    a, b = torch.rand(2, 64, 80, 3, generator=generator)
    distance = network(a, b)
    assert float(distance) == pytest.approx(reference(backbone, features, linear, a, b), rel=1e-5)
    assert float(network(a, a)) == 0
    assert float(network(b, a)) == pytest.approx(float(distance), rel=1e-5)
    batch = network(torch.stack([a, b, b]), torch.stack([b, b, a]))
    torch.testing.assert_close(batch, torch.stack([distance, distance * 0, distance]), rtol=1e-4, atol=1e-6)
    assert float(network(a, b, rescale=False)) != pytest.approx(float(distance), rel=1e-3)


@pytest.mark.parametrize("backbone", ["alex", "vgg"])
def test_torchmetrics_gives_the_same(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the authors' own linear layers, which torchmetrics carries, and the same random convolutions."""
    published = pytest.importorskip("torchmetrics.functional.image.lpips")
    features, _ = weights(backbone)
    monkeypatch.setattr(published, "_get_tv_model_features", lambda name, pretrained: sequential(backbone, features))
    theirs = published._LPIPS(net=backbone)
    file = Path(published.__file__).parent / "lpips_models" / f"{backbone}.pth"
    linear = read_checkpoint_tensors(file)
    assert set(linear) == {f"lin{index}.model.1.weight" for index in range(5)}
    assert recognise_file(file) == f"lpips-{backbone}"
    ours = Lpips(backbone, features, linear, where=str(file))
    a, b = torch.rand(2, 3, 64, 80, 3, generator=torch.Generator().manual_seed(5))
    planes = a.permute(0, 3, 1, 2), b.permute(0, 3, 1, 2)
    for rescale in (True, False):
        expected = theirs(*planes, normalize=rescale).flatten()
        torch.testing.assert_close(ours(a, b, rescale=rescale), expected, rtol=2e-5, atol=1e-7)


def test_a_weight_of_ones_changes_little_and_an_empty_half_nothing() -> None:
    network = Lpips("alex", *weights("alex"))
    a, b = torch.rand(2, 96, 96, 3, generator=torch.Generator().manual_seed(3))
    assert float(network(a, b, weight=torch.ones(96, 96, 1))) == pytest.approx(float(network(a, b)), rel=1e-5)
    half = torch.zeros(96, 96, 1)
    half[:, :48] = 1
    same_left = torch.where(half > 0, a, b)
    assert float(network(same_left, a, weight=half)) < 0.5 * float(network(same_left, a, weight=1 - half))


def test_gradients_are_finite_where_the_images_agree() -> None:
    network = Lpips("alex", *weights("alex"))
    image = torch.zeros(64, 64, 3, requires_grad=True)
    network(image, torch.zeros(64, 64, 3)).backward()
    assert bool(torch.isfinite(image.grad).all())


def test_what_cannot_be_used() -> None:
    features, linear = weights("alex")
    with pytest.raises(VultusError, match=r"lin1\.model\.1\.weight is missing"):
        Lpips("alex", features, {"lin0.model.1.weight": linear["lin0.model.1.weight"]}, where="weights.pth")
    with pytest.raises(VultusError, match="has the shape"):
        Lpips("vgg", features, linear)
    features["features.0.bias"][3] = math.nan
    with pytest.raises(VultusError, match="not finite"):
        Lpips("alex", features, linear)
    network = Lpips("alex", *weights("alex"))
    with pytest.raises(ValueError, match="at least 31"):
        network(torch.rand(20, 64, 3), torch.rand(20, 64, 3))
