"""What evaluations share: what they measure with beside colours (LPIPS, face points, networks that compare faces), and
what tells captures apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vultus.errors import VultusError

if TYPE_CHECKING:
    from vultus.captures import Capture
    from vultus.evaluation.session import Comparison, Evaluation, Instruments
    from vultus.networks.lpips import Lpips
    from vultus.progress import Progress
    from vultus.workflows.evaluate import EvaluateRequest

_BACKBONES = {"alex": ("alexnet", "AlexNet (ImageNet)"), "vgg": ("vgg16", "VGG-16 (ImageNet)")}


def measured(
    comparisons: Sequence[Comparison],
    output: Path,
    request: EvaluateRequest,
    instruments: Instruments | None,
    progress: Progress,
    *,
    subject: str,
    decided_by: Mapping[str, Any],
    described: Mapping[str, str],
    not_measured: Mapping[str, str] | None = None,
) -> Evaluation:
    """`run_comparisons` with the instruments that a request asks for; they are named in the report."""
    from vultus.evaluation.session import Outputs, run_comparisons

    instruments, missing = completed(instruments, request)
    used = {
        "lpips": None if instruments.perceptual is None else instruments.perceptual.description,
        "keypoints": None if instruments.detector is None else instruments.detector.name,
        "identity": None if instruments.identity is None else instruments.identity.name,
        "expression": None if instruments.expression is None else instruments.expression.name,
        "fit_faces": None if instruments.tracker is None else f"landmark fit to {instruments.tracker.name}'s points",
    }
    return run_comparisons(
        comparisons,
        Outputs(output, request.heat_maps, request.worst, request.overwrite),
        instruments,
        subject=subject,
        decided_by={**decided_by, **used},
        described={**described, **{name: text for name, text in used.items() if text is not None}},
        not_measured={**missing, **(not_measured or {})},
        progress=progress,
    )


def completed(given: Instruments | None, request: EvaluateRequest) -> tuple[Instruments, dict[str, str]]:
    """The caller's instruments with those the request asks for, and what is missing then."""
    from vultus.evaluation.measures import PerceptualSettings
    from vultus.evaluation.session import Instruments

    made = given or Instruments()
    if made.perceptual is None and request.networks is not None:
        network = load_lpips(request.networks, request.lpips)
        made = replace(made, perceptual=PerceptualSettings(network, request.lpips_rescale))
    if request.keypoints or request.fit_faces or request.identity is not None or request.expression is not None:
        made = _with_faces(made, request)
    weights = f"{_BACKBONES[request.lpips][1]} and of LPIPS' linear layers"
    needs = {
        "LPIPS": (made.perceptual, f"needs the weights of {weights} in a folder: --networks FOLDER"),
        "AKD": (made.detector, "needs MediaPipe; ask for it with --keypoints"),
        "identity similarity": (made.identity, "needs the weights of ArcFace: --identity FILE"),
        "expression distance": (made.expression, "needs the weights of DECA: --expression FILE"),
        "pose distance": (made.pose, "needs the weights of DECA: --expression FILE"),
    }
    return made, {name: why for name, (instrument, why) in needs.items() if instrument is None}


def _with_faces(made: Instruments, request: EvaluateRequest) -> Instruments:
    """With what needs faces to be found; all of it shares one detector."""
    from vultus.evaluation.face_networks import load_arcface, load_deca
    from vultus.tracking.detectors import mediapipe_detector

    detector = made.detector or mediapipe_detector()
    if request.keypoints:
        made = replace(made, detector=detector)
    if request.fit_faces and made.tracker is None:
        made = replace(made, tracker=detector)
    if made.identity is None and request.identity is not None:
        made = replace(made, identity=load_arcface(request.identity, detector))
    if made.expression is None and request.expression is not None:
        deca = load_deca(request.expression, detector)
        made = replace(made, expression=deca, pose=made.pose or replace(deca, code="pose"))
    return made


def load_lpips(folder: Path, backbone: Literal["alex", "vgg"] = "alex") -> Lpips:
    """LPIPS from a folder that holds its backbone's and its linear layers' weights, found by what is in the files.

    Raises:
        VultusError: one of the two is not there, or damaged.
    """
    from vultus.files import read_weights
    from vultus.networks.lpips import Lpips
    from vultus.workflows.assets import recognise_file

    if not folder.is_dir():
        raise VultusError(f"{folder}: is not a folder; give one with the weights that LPIPS needs")
    suffixes = (".pth", ".pt", ".ckpt", ".safetensors")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in suffixes)
    found = {recognise_file(file): file for file in files}
    keys = (_BACKBONES[backbone][0], f"lpips-{backbone}")
    for key, title in zip(keys, (_BACKBONES[backbone][1], "LPIPS' linear layers"), strict=True):
        if key not in found:
            raise VultusError(
                f"{folder}: holds no weights of {title} for LPIPS ({backbone}); `vultus assets` says who offers them"
            )
    features, linear = (read_weights(found[key]) for key in keys)
    return Lpips(backbone, features, linear, where=str(folder))


def capture_identity(capture: Capture) -> dict[str, Any]:
    """What tells one capture from another without reading its pictures."""
    digest = hashlib.sha256()
    params = capture.motion.params
    for tensor in (params.identity, params.expression, params.translation, *(c.K for c in capture.cameras.values())):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return {
        "name": capture.root.name,
        "source": None if capture.source is None else capture.source.sha256,
        "head": capture.head_fingerprint,
        "motion_and_cameras": digest.hexdigest(),
        "views": len(capture.views),
    }
