"""Measuring an avatar against a capture, or one sequence of pictures against another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vultus.errors import VultusError
from vultus.progress import Progress, silent
from vultus.workflows.evaluate_oneshot import PairRequest, check_subject, is_network
from vultus.workflows.instruments import capture_identity, measured

if TYPE_CHECKING:
    from vultus.avatars import Avatar
    from vultus.captures import Capture
    from vultus.evaluation.protocols import ProtocolName
    from vultus.evaluation.session import Evaluation, Instruments
    from vultus.heads import HeadModel

ProtocolChoice = Literal["held-out", "novel-view", "self-reenactment", "cross-reenactment", "training", "all"]


@dataclass(frozen=True)
class EvaluateRequest:
    """What `evaluate` may be asked for.

    protocol: `held-out` is novel-view and self-reenactment, `all` training as well; of a one-shot network both are
    self- and cross-reenactment. hold_out_*: a split other than the
    one the avatar was trained with. dilation: pixels by which the mask grows. cut_neck: count only what is above the
    line at which the head model ends. most: at most so many pictures per protocol, evenly spread; 0: all. tracked:
    render trained instants with tracked, not with fine-tuned, head parameters. networks: folder with LPIPS' weights.
    lpips, lpips_rescale: its backbone, and whether its input is brought to [−1, 1]. keypoints: measure AKD, with
    MediaPipe. identity, expression: files with the weights of ArcFace and of DECA, to compare faces with; MediaPipe
    finds them. fit_faces: measure expression and pose by our own landmark fit, of one-shot networks. pairs: what a
    one-shot network is measured on. heat_maps: write an error picture per picture. worst: how many frames the sheet
    has. overwrite: replace an evaluation of something else.
    """

    protocol: ProtocolChoice = "held-out"
    hold_out_cameras: tuple[int, ...] = ()
    hold_out_timesteps: tuple[int, ...] = ()
    dilation: int = 8
    cut_neck: bool = False
    most: int = 0
    tracked: bool = False
    networks: Path | None = None
    lpips: Literal["alex", "vgg"] = "alex"
    lpips_rescale: bool = True
    keypoints: bool = False
    identity: Path | None = None
    expression: Path | None = None
    fit_faces: bool = False
    pairs: PairRequest = field(default_factory=PairRequest)
    heat_maps: bool = True
    worst: int = 6
    overwrite: bool = False


def evaluate(
    avatar: Avatar,
    capture: Capture,
    output: Path,
    request: EvaluateRequest | None = None,
    *,
    instruments: Instruments | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Compare what an avatar renders with the pictures of a capture, over white.

    Writes `evaluation.json`, `evaluation.md`, `worst_frames.png`, `errors/` and `views.jsonl` into `output`.
    Interrupted, the same call goes on where it stopped.

    Args:
        instruments: the caller's own, such as a face-recognition network. LPIPS and keypoints are added as requested.

    Raises:
        VultusError: no picture belongs to the protocol, a picture cannot be read, weights are missing or of another
            network, or `output` holds another evaluation.
    """
    from vultus.evaluation.comparisons import MaskRule, avatar_comparisons
    from vultus.evaluation.protocols import PROTOCOLS
    from vultus.exports.provenance import avatar_id

    request = request or EvaluateRequest()
    capture, split = _split(avatar, capture, request)
    protocols: list[ProtocolName] = [
        name
        for name in PROTOCOLS
        if request.protocol in (name, "all") or (request.protocol == "held-out" and name != "training")
    ]
    rule = MaskRule(request.dilation, request.cut_neck)
    comparisons = avatar_comparisons(avatar, capture, protocols, mask=rule, most=request.most, tracked=request.tracked)
    if not comparisons:
        raise VultusError(
            f"{capture.root}: has no picture for the protocol {request.protocol}: nothing is held out. Name cameras or "
            "timesteps with --hold-out-cameras or --hold-out-timesteps, or measure the training pictures with "
            "--protocol training"
        )
    identity = avatar_id(avatar)
    labels = getattr(avatar, "labels", None)
    method = labels.provenance.get("method") if labels is not None else None
    return measured(
        comparisons,
        Path(output),
        request,
        instruments,
        progress,
        subject=capture.root.name,
        decided_by={
            "avatar": identity,
            "capture": capture_identity(capture),
            "split": split,
            "dilation": rule.dilation,
            "cut_neck": rule.cut_neck,
            "tracked": request.tracked,
        },
        described={
            "avatar": f"{avatar.kind}, {identity[:12]}, on the head model {avatar.head.name}",
            **({"made by": str(method)} if method else {}),
            "capture": f"{capture.root.name}, cameras {', '.join(map(str, capture.camera_indices))}",
            "split": split,
            "poses": "tracked" if request.tracked else "fine-tuned in training where the avatar has them, else tracked",
            "mask": f"the capture's, dilated by {rule.dilation} px{', cut off at the neck' if rule.cut_neck else ''}",
            "background": "white",
        },
    )


def evaluate_pictures(
    pictures: Path,
    targets: Path,
    output: Path,
    request: EvaluateRequest | None = None,
    *,
    instruments: Instruments | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Compare two folders of pictures, or two videos, in order; everything else as `evaluate`, without masks.

    Raises:
        VultusError: not pictures, not the same number of them, not the same sizes, or as `evaluate`.
    """
    from vultus.evaluation.comparisons import picture_comparisons
    from vultus.files import sha256_of

    request = request or EvaluateRequest()
    comparisons = picture_comparisons(pictures, targets, most=request.most)
    places = {"pictures": Path(pictures), "targets": Path(targets)}
    return measured(
        comparisons,
        Path(output),
        request,
        instruments,
        progress,
        subject=Path(pictures).name,
        decided_by={name: sha256_of(p) if p.is_file() else str(p.resolve()) for name, p in places.items()},
        described={**{name: str(path) for name, path in places.items()}, "mask": "none"},
    )


def open_and_evaluate(
    subject: Path,
    against: Path,
    output: Path | None = None,
    request: EvaluateRequest | None = None,
    *,
    head: str | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """`evaluate` for the folders of an avatar (or its run) and of a capture; `evaluate_network` for a one-shot network
    and pictures of many people; `evaluate_pictures` for pictures.

    output: default: `evaluation` in the run folder, else a folder beside the avatar.

    Raises:
        VultusError: as `evaluate`, or a folder that is neither.
    """
    from vultus.avatars import is_avatar, load
    from vultus.captures import layout_of, open_capture
    from vultus.heads.load import load_head

    subject, against = Path(subject), Path(against)
    for path in (subject, against):
        if not path.exists():
            raise VultusError(f"{path}: there is no such file or folder")
    output, request = output or _beside(subject), request or EvaluateRequest()
    if is_network(subject):
        from vultus.workflows.evaluate_oneshot import evaluate_network

        return evaluate_network(subject, against, output, request, head=head, progress=progress)
    check_subject(subject, request)
    if against.is_file() or layout_of(against) is None:
        if is_avatar(subject):
            raise VultusError(f"{against}: is not a capture; an avatar is evaluated against a capture folder")
        return evaluate_pictures(subject, against, output, request, progress=progress)
    model: HeadModel | None = None if head is None else load_head(head)
    avatar = load(subject, head=model)
    return evaluate(avatar, open_capture(against, avatar.head), output, request, progress=progress)


def _beside(subject: Path) -> Path:
    if any((subject / name).is_file() for name in ("avatar/avatar.json", "model.safetensors")):
        return subject / "evaluation"
    if subject.name == "avatar":
        return subject.parent / "evaluation"
    return subject.with_name(f"{subject.stem}_evaluation")


def _split(avatar: Avatar, capture: Capture, request: EvaluateRequest) -> tuple[Capture, str]:
    """The capture with the split asked for, else the one the avatar was trained with, else its own; and which.

    Of a capture that the avatar was not trained on, everything is held out.
    """
    from vultus.evaluation.protocols import was_trained_on

    if request.hold_out_cameras or request.hold_out_timesteps:
        chosen = capture.hold_out(request.hold_out_cameras, request.hold_out_timesteps)
        return chosen, _said("as asked", request.hold_out_cameras, request.hold_out_timesteps)
    if not was_trained_on(avatar, capture):
        return replace(capture, val=frozenset(), test=frozenset(capture.views)), "all of it: the avatar never saw it"
    labels = getattr(avatar, "labels", None)
    held_out = labels.provenance.get("held_out") if labels is not None else None
    if isinstance(held_out, Mapping):
        cameras, timesteps = (_whole_numbers(held_out.get(key)) for key in ("cameras", "timesteps"))
        there = {view.timestep for view in capture.views}
        if (cameras or timesteps) and set(cameras) <= set(capture.camera_indices) and set(timesteps) <= there:
            return capture.hold_out(cameras, timesteps), _said("as in training", cameras, timesteps)
    return capture, "the capture's own"


def _said(how: str, cameras: tuple[int, ...], timesteps: tuple[int, ...]) -> str:
    parts = [f"cameras {', '.join(map(str, cameras))}"] if cameras else []
    if timesteps:
        parts.append(f"{len(timesteps)} timesteps from {min(timesteps)} to {max(timesteps)}")
    return f"{how}: {' and '.join(parts)} held out"


def _whole_numbers(value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        return ()
    return tuple(entry for entry in value if isinstance(entry, int) and not isinstance(entry, bool))
