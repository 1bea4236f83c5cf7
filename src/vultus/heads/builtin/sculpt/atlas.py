"""Bakes the head's colours into texture images laid out by the atlas."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy import ndarray
from PIL import Image
from scipy.ndimage import distance_transform_edt

from .colours import Places, Style, paint
from .mesh import HeadMesh

SIZE = 1024


def texel_map(
    uv: Float[ndarray, "T 2"], uv_faces: Int[ndarray, "F 3"], size: int
) -> tuple[Int[ndarray, "size size"], Float[ndarray, "size size 3"]]:
    """Triangle (-1: none) and barycentric weights at every texel centre; row 0 is v = 1."""
    face = np.full((size, size), -1)
    bary = np.zeros((size, size, 3))
    corners = np.stack([uv[..., 0] * size, (1 - uv[..., 1]) * size], axis=1)[uv_faces]
    low = np.clip(np.floor(corners.min(axis=1) - 0.5).astype(int), 0, size - 1)
    high = np.clip(np.ceil(corners.max(axis=1) + 0.5).astype(int), 0, size)
    for k, (a, b, c) in enumerate(corners):
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if abs(area) < 1e-12:
            continue
        xs = np.arange(low[k, 0], high[k, 0]) + 0.5
        ys = np.arange(low[k, 1], high[k, 1])[:, None] + 0.5
        w1 = ((xs - a[0]) * (c[1] - a[1]) - (ys - a[1]) * (c[0] - a[0])) / area
        w2 = ((b[0] - a[0]) * (ys - a[1]) - (b[1] - a[1]) * (xs - a[0])) / area
        w0 = 1 - w1 - w2
        inside = (w0 >= -1e-9) & (w1 >= -1e-9) & (w2 >= -1e-9)
        window = (slice(low[k, 1], high[k, 1]), slice(low[k, 0], high[k, 0]))
        face[window][inside] = k
        bary[window][inside] = np.stack([w0, w1, w2], axis=-1)[inside]
    return face, bary


def texel_places(
    mesh: HeadMesh, face: Int[ndarray, "H W"], bary: Float[ndarray, "H W 3"]
) -> tuple[Bool[ndarray, "H W"], Places]:
    """Which texels are used, and what lies there on the template."""
    used = face >= 0
    ids = mesh.faces[face[used]]
    w = bary[used]

    def blend(values: Float[ndarray, "V *c"]) -> Float[ndarray, "N *c"]:
        return np.einsum("nk,nk...->n...", w, values[ids])

    # A triangle between the skin and another part belongs to the other part.
    return used, Places(blend(mesh.vertices), mesh.part[ids].max(axis=1), blend(mesh.lip), blend(mesh.lid))


def bake(
    mesh: HeadMesh, uv: Float[ndarray, "T 2"], uv_faces: Int[ndarray, "F 3"], styles: Iterable[Style], size: int = SIZE
) -> Iterator[UInt8[ndarray, "size size 3"]]:
    """Texture image of each style; unused texels repeat the nearest used one."""
    face, bary = texel_map(uv, uv_faces, size)
    used, places = texel_places(mesh, face, bary)
    rows, columns = np.asarray(distance_transform_edt(~used, return_distances=False, return_indices=True))
    for style in styles:
        image = np.zeros((size, size, 3))
        image[used] = paint(places, style)
        yield np.rint(image[rows, columns] * 255).astype(np.uint8)


def encode_jpeg(image: UInt8[ndarray, "H W 3"], quality: int = 88) -> UInt8[ndarray, "N"]:
    """A JPEG file as an array of bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=0)
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8)
