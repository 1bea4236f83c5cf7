"""Labelled grids of pictures, text in pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

if TYPE_CHECKING:
    from PIL.Image import Image

_INK = (70, 74, 80)


def contact_sheet(
    rows: Sequence[Sequence[UInt8[np.ndarray, "H W 3"]]],
    *,
    column_labels: Sequence[str] = (),
    row_labels: Sequence[str] = (),
    panels: Mapping[str, UInt8[np.ndarray, "_ _ 3"]] | None = None,
    footer: str = "",
    gap: int = 4,
    background: tuple[int, int, int] = (255, 255, 255),
) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Pictures of one size in rows and columns with their names at the edges.

    panels: larger pictures by name, one below the other to the left of the grid, together as high as the grid.
    footer: a line of small text below.
    """
    from PIL import Image, ImageDraw

    height, width = rows[0][0].shape[:2]
    text = max(11, height // 14)
    margin_top = round(2.2 * text) if column_labels or panels else gap
    larger = _column(panels, len(rows) * (height + gap) - gap, margin_top) if panels else {}
    left = max((picture.width + 2 * gap for picture in larger.values()), default=0)
    longest = max((len(line) for label in row_labels for line in label.split("\n")), default=0)
    margin_left = left + (round(max(4.2, 0.62 * longest + 1.4) * text) if row_labels else 0)
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
    top = margin_top
    for label, picture in larger.items():
        sheet.paste(picture, (gap, top))
        draw.text((left / 2, top - margin_top / 2), label, fill=_INK, font=_font(text), anchor="mm")
        top += picture.height + margin_top
    if footer:
        where = (total_width - gap, total_height - 0.9 * text)
        draw.text(where, footer, fill=(150, 154, 160), font=_font(round(0.8 * text)), anchor="rm")
    return np.asarray(sheet)


def _column(panels: Mapping[str, UInt8[np.ndarray, "_ _ 3"]], height: int, label_height: int) -> dict[str, Image]:
    """The panels in one width, of which they fill `height` together with a label between each two."""
    from PIL import Image

    room = height - (len(panels) - 1) * label_height
    width = max(1, round(room / sum(panel.shape[0] / panel.shape[1] for panel in panels.values())))
    pictures = {label: Image.fromarray(panel) for label, panel in panels.items()}
    return {
        label: picture.resize((width, max(1, int(width * picture.height / picture.width))), Image.Resampling.LANCZOS)
        for label, picture in pictures.items()
    }


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
