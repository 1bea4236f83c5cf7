"""Cuts, missing frames and a second person (specification 13 and 17, check 5), without any network or picture."""

from __future__ import annotations

import numpy as np
import pytest

from vultus.errors import VultusError
from vultus.tracking.detection import FrameDetections, color_histogram
from vultus.tracking.detectors import Face, mp478_to_ibug70
from vultus.tracking.selection import select_face


def _face(left: float, top: float, size: float) -> Face:
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 22), np.linspace(0, 1, 22)), -1).reshape(-1, 2)[:478]
    return Face.from_points((grid * size + [left, top]).astype(np.float32), "mp478")


def _frames(faces: list[list[Face]], colors: list[int]) -> list[FrameDetections]:
    histograms = [color_histogram(np.full((40, 40, 3), value, np.uint8)) for value in colors]
    return [
        FrameDetections(i, i / 25, found, histogram, 100.0)
        for i, (found, histogram) in enumerate(zip(faces, histograms, strict=True))
    ]


def test_two_cuts_missing_frames_and_a_second_person() -> None:
    main = [_face(100 + i, 80, 120) for i in range(30)]
    other = [_face(400, 80, 90) for _ in range(30)]
    faces = [[other[i], main[i]] for i in range(30)]
    for missing in (4, 14, 24):
        faces[missing] = [other[missing]]
    faces[7] = []
    selection = select_face(_frames(faces, [20] * 10 + [220] * 10 + [20] * 10))
    assert selection.shots.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    assert selection.face_counts == (2, 2, 2)
    assert selection.reasons == {4: "other person", 7: "no face", 14: "other person", 24: "other person"}
    seen = np.isfinite(selection.points).all((1, 2))
    assert seen.sum() == 26
    np.testing.assert_allclose(selection.points[12], main[12].points, atol=1e-4)


def test_the_face_option_picks_another_person() -> None:
    faces = [[_face(100, 80, 120), _face(400, 80, 90)] for _ in range(5)]
    chosen = select_face(_frames(faces, [20] * 5), face=1)
    assert float(chosen.points[:, :, 0].min()) == pytest.approx(400)
    with pytest.raises(VultusError, match="no face number 2"):
        select_face(_frames(faces, [20] * 5), face=2)


def test_small_and_absent_faces_are_refused_with_a_reason() -> None:
    with pytest.raises(VultusError, match="only 40 pixels wide"):
        select_face(_frames([[_face(0, 0, 40)]], [20]))
    with pytest.raises(VultusError, match="no face was found"):
        select_face(_frames([[]], [20]))


def test_ibug_points_are_means_of_mediapipes() -> None:
    points = np.random.default_rng(0).normal(size=(478, 3)).astype(np.float32)
    ibug = mp478_to_ibug70(points)
    assert ibug.shape == (70, 3)
    np.testing.assert_allclose(ibug[3], points[[132, 58]].mean(0), rtol=1e-6)
    np.testing.assert_allclose(ibug[69], points[473])
