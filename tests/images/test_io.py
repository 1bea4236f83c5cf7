"""Reading the photos people have, refusing what is none, writing atomically."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from vultus.errors import VultusError
from vultus.images import (
    encode_png,
    media_kind,
    read_image,
    read_image_and_alpha,
    to_float,
    to_uint8,
    write_jpeg,
    write_png,
)


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth picture without symmetry: any flip, rotation or channel swap changes it a lot."""
    y, x = np.mgrid[0:24, 0:36]
    return np.stack([x * 7, y * 10, (x + 2 * y) * 3 % 255], -1).astype(np.uint8)


def test_png_round_trip_is_exact(tmp_path: Path, picture: np.ndarray) -> None:
    path = tmp_path / "Gesicht ä 顔.png"
    write_png(path, picture, metadata={"Software": "vultus", "Title": "Gesicht 顔"})
    assert np.array_equal(read_image(path), picture)
    with Image.open(path) as image:
        assert image.text["Title"] == "Gesicht 顔"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_float_round_trip_and_clamping() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    assert np.array_equal(to_uint8(to_float(levels)), levels)
    assert to_uint8(torch.tensor([[-1.0, 2.0, float("nan"), 0.5]])).tolist() == [[0, 255, 0, 128]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, picture: np.ndarray, orientation: int) -> None:
    # What a viewer has to do to the stored pixels, per the EXIF standard, undone here to store them.
    stored = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
        8: lambda p: np.rot90(p, -1),
    }[orientation](picture)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    assert np.array_equal(read_image(path), picture)


def test_alpha_is_composited_or_returned(tmp_path: Path, picture: np.ndarray) -> None:
    alpha = np.zeros((24, 36, 1), np.uint8)
    alpha[:, 12:24], alpha[:, 24:] = 128, 255
    path = tmp_path / "cutout.png"
    write_png(path, np.concatenate([picture, alpha], -1))
    colours, opacity = read_image_and_alpha(path)
    assert np.array_equal(colours, picture)
    assert opacity is not None
    assert np.array_equal(opacity, alpha)
    on_white = read_image(path)
    assert (on_white[:, :12] == 255).all()
    assert np.array_equal(on_white[:, 24:], picture[:, 24:])
    expected = picture[:, 12:24] * (128 / 255) + 255 * (127 / 255)
    assert np.abs(on_white[:, 12:24] - expected).max() <= 0.51
    assert (read_image(path, background=(0.0, 1.0, 0.0))[0, 0] == [0, 255, 0]).all()


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (4, 3), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 1), 1)
    image.save(tmp_path / "p.png", transparency=1)
    colours, alpha = read_image_and_alpha(tmp_path / "p.png")
    assert colours[0, 0].tolist() == [10, 20, 30]
    assert alpha is not None
    assert (alpha[1, 1, 0], alpha[0, 0, 0]) == (0, 255)
    image.save(tmp_path / "opaque.png")
    assert read_image_and_alpha(tmp_path / "opaque.png")[1] is None


@pytest.mark.parametrize("mode", ["1", "L", "LA", "CMYK", "YCbCr", "RGBA"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (8, 6), (255, 255, 255)).convert(mode)
    suffix = "jpg" if mode == "CMYK" else "tiff" if mode == "YCbCr" else "png"
    image.save(tmp_path / f"a.{suffix}")
    pixels = read_image(tmp_path / f"a.{suffix}")
    assert pixels.shape == (6, 8, 3)
    assert (pixels >= 254).all()


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    pixels = read_image(tmp_path / f"deep.{suffix}")
    assert np.abs(pixels[..., 0] - values / 257).max() <= 0.51


def _linear_profile() -> bytes:
    """The sRGB profile with its transfer curves replaced by straight lines (parametric type 3 with exponent 1)."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    start = 0
    while (start := profile.find(b"para", start)) >= 0:
        profile[start + 12 : start + 32] = struct.pack(">5i", 65536, 65536, 0, 65536, 0)
        start += 32
    return bytes(profile)


def test_embedded_profile_is_converted(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4), (64, 128, 200))
    image.save(tmp_path / "linear.png", icc_profile=_linear_profile())
    light = np.array([64, 128, 200]) / 255
    expected = 255 * (1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(read_image(tmp_path / "linear.png") - expected).max() <= 1.5
    image.save(tmp_path / "broken.png", icc_profile=b"nonsense")
    assert (read_image(tmp_path / "broken.png") == [64, 128, 200]).all()


def test_real_photo_survives_jpeg(tmp_path: Path) -> None:
    from skimage.data import astronaut

    write_jpeg(tmp_path / "a.jpg", astronaut())
    difference = read_image(tmp_path / "a.jpg").astype(int) - astronaut()
    assert np.abs(difference).mean() < 2


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_truncated_file_is_refused(tmp_path: Path, keep: float) -> None:
    rng = np.random.default_rng(0)
    content = encode_png(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    path = tmp_path / "cut.png"
    path.write_bytes(content[: int(len(content) * keep) - 20])
    with pytest.raises(VultusError, match=r"cut\.png.*damaged"):
        read_image(path)


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.jpg").write_text("this is text")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    (tmp_path / "deep.tiff").write_bytes(_tiff_of_floats())
    for name, message in [
        ("missing.png", "no such file"),
        ("empty.png", "is empty"),
        ("notes.jpg", "neither a photo"),
        ("phone.heic", "HEIC.*JPEG"),
        (".", "is a folder"),
        ("deep.tiff", "floating-point"),
    ]:
        with pytest.raises(VultusError, match=message):
            read_image(tmp_path / name)


def _tiff_of_floats() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.ones((4, 4), np.float32)).save(stream, "TIFF")
    return stream.getvalue()


def test_huge_images_are_refused_before_decoding(tmp_path: Path) -> None:
    # A valid header that promises 60000 x 60000 pixels, and nothing behind it.
    content = bytearray(encode_png(np.zeros((4, 4), np.uint8)))
    content[16:24] = struct.pack(">II", 60000, 60000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    (tmp_path / "bomb.png").write_bytes(content)
    with pytest.raises(VultusError, match=r"bomb\.png.*scale it down"):
        read_image(tmp_path / "bomb.png")
    write_png(tmp_path / "big.png", np.zeros((40, 40), np.uint8))
    with pytest.raises(VultusError, match="40x40"):
        read_image(tmp_path / "big.png", max_pixels=1000)


def test_writing_where_one_cannot(tmp_path: Path, picture: np.ndarray) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VultusError, match="cannot be written"):
        write_png(tmp_path / "file" / "a.png", picture)
    with pytest.raises(ValueError, match="uint8"):
        write_png(tmp_path / "a.png", np.zeros((4, 4, 2), np.uint8))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_kind_is_told_by_content(tmp_path: Path, format: str, picture: np.ndarray) -> None:
    path = tmp_path / "misnamed.mp4"
    Image.fromarray(picture).save(path, format)
    assert media_kind(path) == "image"
    assert read_image(path).shape == picture.shape
