"""Photos in and out: sRGB, upright, 8 bits, whatever the file's own mode, profile and orientation.

Arrays are `uint8 [H, W, C]`; tensors are float32 in [0, 1] of the same layout.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vultus.errors import VultusError
from vultus.files import atomic_path
from vultus.images.kind import media_kind
from vultus.images.masks import composite

if TYPE_CHECKING:
    from PIL import Image as PilImage

MAX_PIXELS = 100_000_000
"""Photos with more pixels are refused before they are decoded."""

WHITE = (1.0, 1.0, 1.0)


def read_image(
    path: str | Path, *, background: tuple[float, float, float] = WHITE, max_pixels: int = MAX_PIXELS
) -> UInt8[np.ndarray, "H W 3"]:
    """An image file as sRGB; transparent parts show `background` (sRGB, [0, 1]).

    The EXIF orientation is applied, an embedded colour profile is converted to sRGB, 16-bit, grey, palette and CMYK
    files become 8-bit RGB. Of an animation this is the first frame.

    Raises:
        VultusError: missing, not an image, damaged, in an unsupported format, or larger than `max_pixels`.
    """
    rgb, alpha = read_image_and_alpha(path, max_pixels=max_pixels)
    if alpha is None:
        return rgb
    return to_uint8(composite(to_float(rgb), to_float(alpha), torch.tensor(background)))


def read_image_and_alpha(
    path: str | Path, *, max_pixels: int = MAX_PIXELS
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W 1"] | None]:
    """Like `read_image`, but with the colours as stored, not composited, and the alpha channel if there is one."""
    from PIL import Image, ImageOps

    if media_kind(path) != "image":
        raise VultusError(f"{path}: is a video, where a photo was expected")
    try:
        with warnings.catch_warnings():
            # Pillow's own size warnings and its remarks about odd metadata; the size is checked right below.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                if image.width * image.height > max_pixels:
                    raise VultusError(
                        f"{path}: has {image.width}x{image.height} pixels, more than the limit of "
                        f"{max_pixels / 1e6:.0f} million; scale it down first"
                    )
                upright: PilImage.Image = ImageOps.exif_transpose(image)
                upright.load()
    except VultusError:
        raise
    except Image.DecompressionBombError as error:
        raise VultusError(f"{path}: has far too many pixels ({error}); scale it down first") from error
    except MemoryError as error:
        raise VultusError(f"{path}: does not fit into memory; scale it down first") from error
    except Exception as error:  # Pillow's decoders raise whatever they stumble over in a damaged file
        raise VultusError(
            f"{path}: is damaged or not a readable image ({_first_line(error)}). "
            "Open it in an image editor and save it as PNG or JPEG"
        ) from error
    return _to_srgb(upright, path)


def _to_srgb(
    image: PilImage.Image, path: str | Path
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W 1"] | None]:
    if image.mode == "F":
        raise VultusError(f"{path}: stores floating-point values; save it as an 8- or 16-bit PNG")
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip instead of scale
        grey = np.asarray(image).astype(np.int64)
        grey = (grey.clip(0, 65535) + 128) // 257
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1), None
    alpha = None
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        alpha = np.array(image.convert("RGBA").getchannel("A"))[..., None]
    rgb = _apply_profile(image)
    return np.array((rgb or image).convert("RGB")), alpha


def _apply_profile(image: PilImage.Image) -> PilImage.Image | None:
    """The image in sRGB by its embedded colour profile (phones store Display P3), None without a usable one."""
    profile = image.info.get("icc_profile")
    if not profile:
        return None
    from PIL import ImageCms

    if image.mode in ("P", "PA", "LA", "La", "RGBa"):
        image = image.convert("RGBA").convert("RGB")
    elif image.mode == "RGBA":
        image = image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        # A profile for another kind of image, or a broken one: viewers ignore it as well.
        return None


def write_png(
    path: str | Path,
    image: UInt8[np.ndarray, "H W *C"] | Float[Tensor, "H W *C"],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a PNG atomically: `uint8` or float in [0, 1]; 1 (or no), 3 or 4 channels. `metadata` becomes text chunks.

    Raises:
        VultusError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(encode_png(image, metadata=metadata))


def encode_png(
    image: UInt8[np.ndarray, "H W *C"] | Float[Tensor, "H W *C"], *, metadata: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of a PNG file (see `write_png`)."""
    from PIL import Image, PngImagePlugin

    text = PngImagePlugin.PngInfo()
    for key, value in (metadata or {}).items():
        text.add_itxt(key, value)
    stream = io.BytesIO()
    Image.fromarray(_pixels(image)).save(stream, "PNG", pnginfo=text, compress_level=4)
    return stream.getvalue()


def write_jpeg(
    path: str | Path, image: UInt8[np.ndarray, "H W 3"] | Float[Tensor, "H W 3"], *, quality: int = 92
) -> None:
    """Write a JPEG atomically, without colour subsampling."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(_pixels(image)).save(stream, "JPEG", quality=quality, subsampling=0)
    with atomic_path(path) as temporary:
        temporary.write_bytes(stream.getvalue())


def _pixels(image: np.ndarray | Tensor) -> np.ndarray:
    array = to_uint8(image) if isinstance(image, Tensor) else image
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ValueError(
            f"an image is uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], not {array.dtype} {array.shape}"
        )
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else np.ascontiguousarray(array)


def to_float(image: UInt8[np.ndarray, "*B C"], device: torch.device | str | None = None) -> Float[Tensor, "*B C"]:
    """8-bit values as float32 in [0, 1]."""
    return torch.from_numpy(np.array(image, order="C")).to(device).float() / 255


def to_uint8(image: Float[Tensor, "*B C"]) -> UInt8[np.ndarray, "*B C"]:
    """Float values in [0, 1] as 8 bits: rounded, clamped, NaN becomes 0."""
    scaled = image.detach().float().nan_to_num(0.0).clamp(0, 1) * 255
    return scaled.round().to(torch.uint8).cpu().numpy()


def _first_line(error: Any) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
