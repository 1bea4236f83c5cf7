"""Identity and expression from weights in files: alignment, what is compared, and what the command says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from random_weights import random_weights

from vultus.errors import VultusError
from vultus.evaluation.face_networks import load_arcface, load_deca, similarity
from vultus.images import to_uint8
from vultus.networks.arcface import ArcFace
from vultus.networks.deca import DecaEncoder
from vultus.tracking.detectors import Face
from vultus.workflows.assets import recognise_file
from vultus.workflows.evaluate import EvaluateRequest, evaluate


class Points:
    """A detector that was told where the face is."""

    name = "told"
    segments_crops = False

    def __init__(self, points: np.ndarray | None) -> None:
        self.points = points

    def detect(self, image: np.ndarray, *, frame: int = 0) -> list[Face]:
        return [] if self.points is None else [Face.from_points(self.points, "ibug68")]

    def segment(self, image: np.ndarray, *, frame: int = 0) -> None:
        return None

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("arcface") / "backbone.pth"
    torch.save(random_weights(ArcFace((1, 1, 1, 1))), file)
    return file


def face_points(side: float, corner: tuple[float, float]) -> np.ndarray:
    points = np.random.default_rng(0).uniform(0.1, 0.9, (68, 2))
    points[36:42], points[42:48] = [0.3, 0.35], [0.7, 0.35]
    points[30], points[48], points[54] = [0.5, 0.6], [0.33, 0.8], [0.67, 0.8]
    points[0], points[16] = [0.0, 0.0], [1.0, 1.0]
    return (points * side + corner).astype(np.float32)


def test_similarity_undoes_what_was_done() -> None:
    rng = np.random.default_rng(1)
    points = rng.standard_normal((5, 2))
    turn, shift = 0.7 * np.exp(0.4j), 3 - 2j
    moved = turn * (points @ [1, 1j]) + shift
    found = similarity(points, np.stack([moved.real, moved.imag], axis=-1))
    np.testing.assert_allclose(found, (turn, shift))
    with pytest.raises(VultusError, match="coincide"):
        similarity(np.ones((5, 2)), points)


def picture() -> np.ndarray:
    y, x = torch.meshgrid(torch.linspace(0, 1, 240), torch.linspace(0, 1, 240), indexing="ij")
    waves = [torch.sin(8 * x + 5 * y), torch.cos(9 * y), torch.sin(6 * x * y + 1)]
    return to_uint8(torch.stack(waves, dim=-1) * 0.4 + 0.5)


def test_a_face_that_only_moved_is_the_same(backbone: Path) -> None:
    image = picture()
    here = load_arcface(backbone, Points(face_points(120, (50, 60))))(image)
    moved = np.roll(image, (9, -14), (0, 1))
    there = load_arcface(backbone, Points(face_points(120, (36, 69))))(moved)
    other = load_arcface(backbone, Points(face_points(120, (20, 69))))(moved)
    assert here is not None
    assert there is not None
    assert other is not None
    torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-3)
    assert float((other - here).norm()) > 10 * float((there - here).norm())
    assert load_arcface(backbone, Points(None))(image) is None
    assert load_arcface(backbone, Points(np.full((68, 2), 5, np.float32)))(image) is None
    unseen = face_points(120, (50, 60))
    unseen[7] = np.nan
    assert load_arcface(backbone, Points(unseen))(image) is None


def test_deca_sees_a_square_around_the_face(tmp_path: Path) -> None:
    weights = random_weights(DecaEncoder())
    torch.save({"E_flame": weights, "opt": {}, "global_step": 3}, tmp_path / "deca_model.tar")
    assert recognise_file(tmp_path / "deca_model.tar") == "deca"
    side = 224 / (1.1 * 1.25)
    image = np.random.default_rng(3).integers(0, 256, (300, 280, 3), np.uint8)
    # With this size of face the square is 224 pixels wide, and here it begins at whole pixels.
    corner = (20 + 112 - side / 2, 40 + 112 - side / 2)
    network = load_deca(tmp_path / "deca_model.tar", Points(face_points(side, corner)))
    found = network(image)
    planes = torch.from_numpy(image[40:264, 20:244]).permute(2, 0, 1)[None] / 255
    expected = network.network(planes)["expression"][0]
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3)
    turn = replace(network, code="pose")(image)
    assert turn is not None
    torch.testing.assert_close(turn, network.network(planes)["pose"][0, :3], rtol=1e-2, atol=1e-3)
    assert network.name.startswith("DECA, weights ")


def test_evaluation_with_weights(rig, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import vultus.tracking.detectors as detectors

    assert recognise_file(backbone) == "arcface"
    points = face_points(14, (8, 8))
    monkeypatch.setattr(detectors, "mediapipe_detector", lambda: Points(points))
    request = EvaluateRequest(heat_maps=False, worst=0, most=1, protocol="novel-view", identity=backbone)
    result = evaluate(rig.avatar(), rig.capture, tmp_path / "out", request).content
    assert result["identity"].startswith("ArcFace, weights ")
    assert result["protocols"]["novel-view"]["mean"]["identity_similarity"] > 0.99
    assert "identity similarity" not in result["not_measured"]
    for name in ("expression distance", "pose distance"):
        assert "--expression FILE" in result["not_measured"][name]
    (tmp_path / "junk.pth").write_bytes(b"junk")
    for key in ("identity", "expression"):
        with pytest.raises(VultusError, match=r"junk\.pth"):
            evaluate(rig.avatar(), rig.capture, tmp_path / key, replace(request, **{key: tmp_path / "junk.pth"}))
