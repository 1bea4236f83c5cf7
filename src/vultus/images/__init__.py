"""Images and videos in and out, resampling together with the camera, masks, image metrics, contact sheets."""

from vultus.images.io import (
    encode_png,
    read_image,
    read_image_and_alpha,
    to_float,
    to_uint8,
    write_jpeg,
    write_png,
)
from vultus.images.kind import media_kind
from vultus.images.metrics import l1, ms_ssim, psnr, ssim, ssim_map
from vultus.images.resample import Box, crop, crop_and_resize, resize
from vultus.images.video import VideoFrame, VideoInfo, VideoReader, VideoWriter, probe_video, write_video

__all__ = [
    "Box",
    "VideoFrame",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "crop",
    "crop_and_resize",
    "encode_png",
    "l1",
    "media_kind",
    "ms_ssim",
    "probe_video",
    "psnr",
    "read_image",
    "read_image_and_alpha",
    "resize",
    "ssim",
    "ssim_map",
    "to_float",
    "to_uint8",
    "write_jpeg",
    "write_png",
    "write_video",
]
