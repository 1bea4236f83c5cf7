"""What keeps skin believable from sides that no picture shows.

A video shows a cheek nearly from the front only. There any stack of flat Gaussians will do whose sum has the right
colour; turned, the ones below come out beside those above, as specks. The initial avatar has the colours of the
pictures on one smooth layer, so from the side it is duller than the person but clean. The detail of its pictures from
there is a prior; how light and shade spread over a face is left to the pictures of the capture.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.avatars.rigged.model import RiggedAvatar
from vultus.cameras import Camera, look_at
from vultus.heads.measures import head_height
from vultus.motion import HeadParams
from vultus.splats import Gaussians, rasterize

_SIZE = 208
"""Pixels of a side of the pictures."""
_FILLED = 0.72
"""Share of the picture's height that the head takes."""
_DISTANCE = 1.2
"""Metres from the camera to the middle of the head."""
_DETAIL = 9
"""Pixels of the window whose mean is not compared."""
_YAW, _PITCH = (32.0, 62.0), 12.0
"""Degrees: least and largest turn from the front, and largest tilt. A video shows less turned faces itself."""


class TurnedViews:
    """Pictures of an avatar as it is now, from both sides, and how far each of their pixels shows skin.

    Args:
        avatar: the initial one; it is drawn at once and not kept.
        skin: how far each of its Gaussians is skin whose colour the pictures show, 0 to 1.
        params: the poses to draw, one picture each.
    """

    def __init__(self, avatar: RiggedAvatar, skin: Float[Tensor, "N"], params: list[HeadParams]) -> None:
        self._cameras = [_camera(avatar, pose, index) for index, pose in enumerate(params)]
        with torch.no_grad():
            self._frames = [avatar.frames(pose) for pose in params]
            self._pictures = [
                (self._draw(avatar, index), self._share(avatar, skin, index)) for index in range(len(params))
            ]

    def loss(self, avatar: RiggedAvatar, index: int) -> Float[Tensor, ""]:
        """Mean absolute difference of detail on skin between an avatar and picture `index`, which wraps around."""
        index = index % len(self._pictures)
        color, share = self._pictures[index]
        difference = _detail(self._draw(avatar, index) - color).abs()
        return (share * difference).mean() / share.mean().clamp_min(1e-3)

    def _draw(self, avatar: RiggedAvatar, index: int) -> Float[Tensor, "H W 3"]:
        gaussians = avatar.gaussians_on(self._frames[index])
        return avatar.draw(gaussians, self._cameras[index], background=torch.ones(3), depth=False).color

    def _share(self, avatar: RiggedAvatar, skin: Float[Tensor, "N"], index: int) -> Float[Tensor, "H W 1"]:
        splats = avatar.gaussians_on(self._frames[index])
        marked = Gaussians(splats.means, splats.rotations, splats.scales, splats.opacities, features=skin[:, None])
        return rasterize(marked, self._cameras[index], None, avatar.raster, depth=False).color


def _detail(image: Float[Tensor, "H W 3"]) -> Float[Tensor, "H W 3"]:
    planes = image.permute(2, 0, 1)[None]
    broad = torch.nn.functional.avg_pool2d(planes, _DETAIL, 1, _DETAIL // 2, count_include_pad=False)
    return (planes - broad)[0].permute(1, 2, 0)


def _camera(avatar: RiggedAvatar, params: HeadParams, index: int) -> Camera:
    """Looks at the head from the side: left and right in turn, by angles spread evenly (a golden-ratio sequence)."""
    with torch.no_grad():
        to_world = avatar.head.head_to_world(params)
        center = avatar.vertices(params).mean(0)
    spread = math.modf(0.618034 * (index // 2 + 1))[0]
    yaw = math.radians(_YAW[0] + spread * (_YAW[1] - _YAW[0])) * (1 if index % 2 else -1)
    pitch = math.radians(_PITCH) * math.cos(2.4 * index)
    toward = torch.tensor([math.sin(yaw) * math.cos(pitch), math.sin(pitch), math.cos(yaw) * math.cos(pitch)])
    eye = center + _DISTANCE * (to_world[:3, :3] @ toward)
    focal = _FILLED * _SIZE * _DISTANCE / head_height(avatar.head, params)
    return Camera.from_focal(focal, _SIZE, _SIZE, look_at(eye, center, to_world[:3, 1]))
