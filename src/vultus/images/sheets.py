"""Labelled grids of pictures, text in pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

_INK = (70, 74, 80)


def contact_sheet(
    rows: Sequence[Sequence[UInt8[np.ndarray, "H W 3"]]],
    *,
    column_labels: Sequence[str] = (),
    row_labels: Sequence[str] = (),
    left_panel: UInt8[np.ndarray, "h w 3"] | None = None,
    left_label: str = "",
    footer: str = "",
    gap: int = 4,
    background: tuple[int, int, int] = (255, 255, 255),
) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Pictures of one size in rows and columns with their names at the edges.

    left_panel: a picture to the left of the grid, enlarged to twice the width of a cell, in the middle of its height.
    footer: a line of small text below.
    """
    from PIL import Image, ImageDraw

    height, width = rows[0][0].shape[:2]
    text = max(11, height // 14)
    left = 0 if left_panel is None else 2 * width + 4 * gap
    margin_left = left + (round(4.2 * text) if row_labels else 0)
    margin_top = round(2.2 * text) if column_labels else gap
    columns = max(len(row) for row in rows)
    total_width = margin_left + columns * (width + gap)
    total_height = margin_top + len(rows) * (height + gap) + (round(1.8 * text) if footer else 0)
    sheet = Image.new("RGB", (total_width, total_height), background)
    draw = ImageDraw.Draw(sheet)
    for column, label in enumerate(column_labels):
        center = margin_left + column * (width + gap) + width / 2
        draw.text((center, margin_top / 2), label, fill=_INK, font=_font(text), anchor="mm")
    for row, label in enumerate(row_labels):
        middle = margin_top + row * (height + gap) + height / 2
        draw.text((margin_left - 0.7 * text, middle), label, fill=_INK, font=_font(text), anchor="rm")
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            corner = (margin_left + column * (width + gap), margin_top + row * (height + gap))
            sheet.paste(Image.fromarray(picture), corner)
    if left_panel is not None:
        shown = Image.fromarray(left_panel)
        factor = 2 * width / shown.width
        shown = shown.resize((2 * width, max(1, round(shown.height * factor))), Image.Resampling.LANCZOS)
        top = margin_top + (len(rows) * (height + gap) - shown.height) // 2
        sheet.paste(shown, (2 * gap, top))
        draw.text((2 * gap + width, top - 1.1 * text), left_label, fill=_INK, font=_font(text), anchor="mm")
    if footer:
        where = (total_width - gap, total_height - 0.9 * text)
        draw.text(where, footer, fill=(150, 154, 160), font=_font(round(0.8 * text)), anchor="rm")
    return np.asarray(sheet)


def write_text(image: UInt8[np.ndarray, "H W 3"], text: str, *, size: int | None = None) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with a small line of text in its lower right corner, legible on any background."""
    from PIL import Image, ImageDraw

    canvas = Image.fromarray(image)
    height = size or max(9, round(min(canvas.width, canvas.height) / 28))
    layer = Image.new("RGBA", canvas.size, (0, 0, 0, 0))
    where = (canvas.width - 0.5 * height, canvas.height - 0.5 * height)
    draw = ImageDraw.Draw(layer)
    stroke = max(1, height // 8)
    draw.text(
        where, text, fill=(255, 255, 255, 200), font=_font(height), anchor="rb", stroke_width=stroke,
        stroke_fill=(0, 0, 0, 130),
    )  # fmt: skip
    return np.asarray(Image.alpha_composite(canvas.convert("RGBA"), layer).convert("RGB"))


def _font(size: int):
    from PIL import ImageFont

    return ImageFont.load_default(max(8, size))
