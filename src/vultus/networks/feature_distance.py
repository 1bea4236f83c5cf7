"""The perceptual distance of GAGAvatar's training: features of AlexNet (ImageNet) and VGG-16 (VGG-Face), without
learned weights of channels. The networks' weights are the user's own files."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vultus.networks.classifiers import ALEXNET, VGG16, Convolution, features_at

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_VGG_FACE_MEAN = (129.186279, 104.762382, 93.593964)
_VGG_TAPS = (0, 5, 10, 17, 24)
_LEVEL_WEIGHTS = (0.1, 0.1, 1.0, 1.0, 1.0)
_VGG_SHARE = 0.5


def imagenet_normalized(image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """RGB in [0, 1] with ImageNet's mean and standard deviation removed."""
    mean = image.new_tensor(IMAGENET_MEAN)[:, None, None]
    return (image - mean) / image.new_tensor(IMAGENET_STD)[:, None, None]


class AlexNetFeatures(nn.Module):
    """AlexNet's five convolutions; features after each ReLU. Keys `slice1.0` … `slice5.10`."""

    def __init__(self) -> None:
        super().__init__()
        for number, layer in enumerate(ALEXNET, start=1):
            self.add_module(f"slice{number}", nn.ModuleDict({str(layer.index): layer.module()}))
        self._of = {layer: f"slice{number}.{layer.index}" for number, layer in enumerate(ALEXNET, start=1)}

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B C h w"]]:
        taps = [layer.index for layer in ALEXNET]
        return features_at(imagenet_normalized(image), ALEXNET, taps, lambda layer, x: self._layer(layer)(x))

    def _layer(self, layer: Convolution) -> nn.Module:
        return self.get_submodule(self._of[layer])


class VggFaceFeatures(nn.Module):
    """VGG-16's convolutions with VGG-Face's normalisation; features after relu1_1, 2_1, 3_1, 4_1, 5_1. Keys
    `network.0` … `network.28`."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.ModuleDict({str(layer.index): layer.module() for layer in VGG16})

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B C h w"]]:
        planes = 255 * image - image.new_tensor(_VGG_FACE_MEAN)[:, None, None]
        return features_at(planes, VGG16, _VGG_TAPS, lambda layer, x: self.network[str(layer.index)](x))


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
