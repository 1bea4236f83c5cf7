"""Contact sheets keep their pictures as they are; text stays in its corner."""

import numpy as np

from vultus.images.sheets import contact_sheet, write_text


def test_pictures_are_in_place() -> None:
    rng = np.random.default_rng(0)
    rows = [[rng.integers(0, 200, (40, 30, 3), dtype=np.uint8) for _ in range(3)] for _ in range(2)]
    sheet = contact_sheet(rows, gap=4)
    assert sheet.shape == (4 + 2 * 44, 3 * 34, 3)
    for row in range(2):
        for column in range(3):
            top, left = 4 + row * 44, column * 34
            assert np.array_equal(sheet[top : top + 40, left : left + 30], rows[row][column])
    labelled = contact_sheet(
        rows,
        column_labels=["a", "b", "c"],
        row_labels=["0°", "45°"],
        panels={"one": rows[0][0], "two": rows[0][1]},
        footer="note",
    )
    assert labelled.shape[0] > sheet.shape[0]
    assert labelled.shape[1] > sheet.shape[1] + 60
    found = sum(
        np.array_equal(labelled[y : y + 40, x : x + 30], rows[1][2])
        for y in range(labelled.shape[0] - 40)
        for x in range(labelled.shape[1] - 30)
    )
    assert found == 1


def test_text_is_small_and_in_the_corner() -> None:
    for value in (0, 128, 255):
        image = np.full((200, 300, 3), value, np.uint8)
        changed = (write_text(image, "synthetic") != image).any(-1)
        rows, columns = np.nonzero(changed)
        assert rows.min() > 180
        assert columns.min() > 230
        assert changed.sum() > 50
