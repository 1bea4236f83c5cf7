"""The perceptual distance of GAGAvatar's training: features of AlexNet (ImageNet) and VGG-16 (VGG-Face), without
learned weights of channels. The networks' weights are the user's own files."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_VGG_FACE_MEAN = (129.186279, 104.762382, 93.593964)
_VGG_TAPS = (1, 6, 11, 18, 25)
_LEVEL_WEIGHTS = (0.1, 0.1, 1.0, 1.0, 1.0)
_VGG_SHARE = 0.5


def imagenet_normalized(image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """RGB in [0, 1] with ImageNet's mean and standard deviation removed."""
    mean = image.new_tensor(IMAGENET_MEAN)[:, None, None]
    return (image - mean) / image.new_tensor(IMAGENET_STD)[:, None, None]


class AlexNetFeatures(nn.Module):
    """AlexNet's five convolutions (torchvision's order); features after each ReLU. Keys `slice1.0` … `slice5.10`."""

    def __init__(self) -> None:
        super().__init__()
        self.slice1 = _named({"0": nn.Conv2d(3, 64, 11, stride=4, padding=2), "1": nn.ReLU()})
        self.slice2 = _named({"2": nn.MaxPool2d(3, 2), "3": nn.Conv2d(64, 192, 5, padding=2), "4": nn.ReLU()})
        self.slice3 = _named({"5": nn.MaxPool2d(3, 2), "6": nn.Conv2d(192, 384, 3, padding=1), "7": nn.ReLU()})
        self.slice4 = _named({"8": nn.Conv2d(384, 256, 3, padding=1), "9": nn.ReLU()})
        self.slice5 = _named({"10": nn.Conv2d(256, 256, 3, padding=1), "11": nn.ReLU()})

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B C h w"]]:
        x, features = imagenet_normalized(image), []
        for part in (self.slice1, self.slice2, self.slice3, self.slice4, self.slice5):
            x = part(x)
            features.append(x)
        return features


class VggFaceFeatures(nn.Module):
    """VGG-16's convolutions with VGG-Face's normalisation; features after relu1_1, 2_1, 3_1, 4_1, 5_1."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2, 2))
        self.network = nn.Sequential(*layers)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B C h w"]]:
        x, features = 255 * image - image.new_tensor(_VGG_FACE_MEAN)[:, None, None], []
        for index, layer in zip(range(_VGG_TAPS[-1] + 1), self.network, strict=False):
            x = layer(x)
            if index in _VGG_TAPS:
                features.append(x)
        return features


def feature_distance(a: Float[Tensor, "B C H W"], b: Float[Tensor, "B C H W"]) -> Float[Tensor, ""]:
    """Mean over pixels of the summed absolute difference of features divided by their length at that pixel."""
    return (_unit(a) - _unit(b)).abs().sum(1).mean()


def combined_distance(
    alex: tuple[Sequence[Tensor], Sequence[Tensor]] | None, vgg: tuple[Sequence[Tensor], Sequence[Tensor]] | None
) -> Float[Tensor, ""]:
    """The weighted sum over five levels of both networks' feature distances, as published; None leaves one out."""
    terms = []
    for features, share in ((alex, 1.0), (vgg, _VGG_SHARE)):
        if features is not None:
            pairs = zip(_LEVEL_WEIGHTS, *features, strict=True)
            terms += [share * weight * feature_distance(a, b) for weight, a, b in pairs]
    return torch.stack(terms).sum()


class PerceptualDistance(nn.Module):
    """Distance of images in [0, 1]. `vggface=False` leaves out the term whose weights have a research licence."""

    def __init__(self, *, vggface: bool = True) -> None:
        super().__init__()
        self.net = AlexNetFeatures()
        self.vggface = VggFaceFeatures() if vggface else None

    def forward(self, a: Float[Tensor, "B 3 H W"], b: Float[Tensor, "B 3 H W"]) -> Float[Tensor, ""]:
        vgg = None if self.vggface is None else (self.vggface(a), self.vggface(b))
        return combined_distance((self.net(a), self.net(b)), vgg)


def _unit(features: Tensor) -> Tensor:
    return features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + 1e-10)


def _named(layers: dict[str, nn.Module]) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))
