"""Measuring a one-shot network on pictures of people it may never have seen: self- and cross-reenactment."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vultus.errors import VultusError
from vultus.progress import Progress, silent
from vultus.workflows.instruments import capture_identity, measured

if TYPE_CHECKING:
    from vultus.avatars.oneshot import NamedFrames
    from vultus.evaluation.pairs import Pair, PairChoice, ReenactmentName
    from vultus.evaluation.session import Evaluation, Instruments
    from vultus.workflows.evaluate import EvaluateRequest

_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt")
_PICTURE_SIZE = 512


@dataclass(frozen=True)
class PairRequest:
    """Which pictures a one-shot network is measured on.

    file: a list of pairs (see `evaluation.pairs`) instead of the rule. split: of a data set with splits: train, val,
    test or all; default: test where there is one, else all. stride, frames_per_clip, seed: see `PairChoice`.
    face_size: pixels of a side of the faces that are compared beside whole pictures; 0: none are.
    """

    file: Path | None = None
    split: str | None = None
    stride: int = 1
    frames_per_clip: int = 0
    seed: int | None = None
    face_size: int = _PICTURE_SIZE


def is_network(path: Path) -> bool:
    """Whether a path is a one-shot network: a file of weights, or the folder of its training."""
    from vultus.avatars import is_avatar

    if path.is_dir():
        return (path / "model.safetensors").is_file() and not is_avatar(path)
    return path.suffix.lower() in _SUFFIXES


def check_subject(subject: Path, request: EvaluateRequest) -> None:
    """Raise VultusError if what is no one-shot network is asked for what only those have."""
    if request.protocol == "cross-reenactment":
        raise VultusError(
            f"{subject}: is no one-shot network; cross-reenactment needs one. An avatar that is driven by "
            "somebody else has no truth to be compared with"
        )
    for name, value in vars(request.pairs).items():
        if value != getattr(PairRequest(), name):
            raise VultusError(f"{subject}: is no one-shot network; pairs ({name.replace('_', ' ')}) are only for those")
    if request.fit_faces:
        raise VultusError(f"{subject}: is no one-shot network; --fit-faces is only for those")


def evaluate_network(
    network: Path,
    data: Path,
    output: Path,
    request: EvaluateRequest,
    *,
    head: str | None = None,
    instruments: Instruments | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Make avatars of single pictures by a one-shot network, drive them by other pictures, and measure what they show.

    Self-reenactment: the first frame of a clip is the source, the clip's others drive it and are the truth.
    Cross-reenactment: another clip's frames drive it; identity is compared with the source, expression, pose and
    keypoints with the driving picture. Writes what `evaluate` writes, `pairs.csv` (the list of pairs, which
    `PairRequest.file` reads) and a sheet of worst and median pairs per protocol. Interrupted, the same call goes on.

    Args:
        network: GAGAvatar.pt, or what training wrote. data: a folder of captures, one person each, or of pictures in an
            LMDB. head: the head model of the data, a path; default: the built-in one, where the data says so.

    Raises:
        VultusError: the network or the data cannot be used or do not fit each other, the list of pairs names what is
            not there, there is no pair, or `output` holds another evaluation.
    """
    from vultus.avatars.oneshot import load_model
    from vultus.evaluation.one_shot import network_comparisons
    from vultus.evaluation.pairs import REENACTMENTS, PairChoice, default_pairs, read_pairs, write_pairs
    from vultus.files import tensors_fingerprint

    asked = request.pairs
    if request.protocol in ("novel-view", "training"):
        raise VultusError(f"a one-shot network has no protocol {request.protocol}; it has {' and '.join(REENACTMENTS)}")
    if request.hold_out_cameras or request.hold_out_timesteps or request.tracked or request.cut_neck:
        raise VultusError(
            "held-out cameras or timesteps, tracked poses and the neck's cut are for avatars; leave them out"
        )
    if not 0 <= asked.face_size <= 4096 or 0 < asked.face_size < 16:
        raise VultusError(f"faces of {asked.face_size} pixels cannot be compared; give 16 to 4096, or 0 for none")
    model, about = load_model(network)
    frames, split, identity = open_frames(Path(data), head, asked.split)
    protocols: list[ReenactmentName] = [n for n in REENACTMENTS if request.protocol in (n, "all", "held-out")]
    choice = PairChoice(protocols, asked.stride, asked.frames_per_clip, asked.seed, request.most)
    pairs = default_pairs(frames, choice) if asked.file is None else read_pairs(asked.file, frames, choice)
    comparisons = network_comparisons(model, about, frames, pairs, face_size=asked.face_size)
    if not pairs:
        raise VultusError(
            f"{data}: makes no pairs for {' and '.join(protocols)} ({split}): self-reenactment needs a clip of two "
            "frames, cross-reenactment two clips. --split all takes every clip of the data"
        )
    digest = hashlib.sha256(repr([(p.protocol, p.source_name, p.target_name) for p in pairs]).encode()).hexdigest()
    result = measured(
        comparisons,
        output,
        request,
        instruments,
        progress,
        subject=f"{Path(network).name} on {frames.name}",
        decided_by={
            "network": tensors_fingerprint(model.state_dict()),
            "data": {"name": frames.name, "head": frames.head.fingerprint, "split": split, "sha256": identity},
            "pairs": digest,
            "face_size": asked.face_size,
        },
        described={
            "network": f"{Path(network).name}: {about.training or 'published weights'}",
            "data": f"{frames.name}, head model {frames.head.name}, {split}, {len(frames.clips)} clips",
            "pairs": _described(asked, choice),
            "face": f"3 x the box of five points of the tracked head, {asked.face_size} px"
            if asked.face_size
            else "not cropped",
            "background": "black",
        },
        not_measured=_missing(frames, pairs, protocols),
    )
    write_pairs(output / "pairs.csv", pairs)
    return result


def open_frames(folder: Path, head: str | None, split: str | None) -> tuple[NamedFrames, str, str]:
    """The frames of a data set, which of them in words, and what tells the data from other data without reading its
    pictures. Raises VultusError: see `evaluate_network`."""
    from vultus.avatars.oneshot import open_captures
    from vultus.captures.gagavatar_lmdb import TrackedPictures
    from vultus.files import sha256_of
    from vultus.heads.load import load_head

    if not folder.is_dir():
        raise VultusError(
            f"{folder}: is not a folder. A network is measured on a folder of captures, which `vultus track` makes of "
            "videos, or of pictures of GAGAvatar's tracker in an LMDB"
        )
    model = None if head is None else load_head(head)
    if not (folder / "img_lmdb").is_dir():
        if split not in (None, "all"):
            raise VultusError(f"{folder}: has no splits, so that --split {split} means nothing")
        frames = open_captures(folder, _PICTURE_SIZE, model)
        identity = repr([capture_identity(capture) for capture in frames.captures])
        return frames, "all of it", hashlib.sha256(identity.encode()).hexdigest()
    whole = TrackedPictures(folder, model)
    name = split or ("test" if whole.splits.get("test") else "all")
    identity = sha256_of(whole.records_path)
    if name == "all":
        return whole, "all of it", identity
    return TrackedPictures(folder, model, split=name), f"split {name}", identity


def _described(asked: PairRequest, choice: PairChoice) -> str:
    if asked.file is not None:
        return f"listed in {asked.file.name}"
    driven = (
        "the next clip's source" if choice.seed is None else f"another clip's source, drawn with seed {choice.seed}"
    )
    frames = f"{choice.frames_per_clip} frames per clip, " if choice.frames_per_clip else ""
    every = f"every {choice.stride} frames, " if choice.stride > 1 else ""
    return f"{frames}{every}first frames are sources, frames of a clip drive it and {driven}"


def _missing(frames: NamedFrames, pairs: list[Pair], protocols: list[ReenactmentName]) -> dict[str, str]:
    """What the data has no pairs for."""
    there = {pair.protocol for pair in pairs}
    needs = {"self-reenactment": "needs a clip of two frames", "cross-reenactment": "needs two clips"}
    missing = {name: f"{needs[name]} in this data or list" for name in protocols if name not in there}
    empty = [name for name, clip in zip(frames.clip_names, frames.clips, strict=True) if not clip]
    if empty:
        missing[f"clips {', '.join(empty[:10])}"] = "no picture in which the head was found"
    return missing
