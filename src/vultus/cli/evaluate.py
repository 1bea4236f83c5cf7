"""vultus evaluate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

Protocol = Literal["held-out", "novel-view", "self-reenactment", "cross-reenactment", "training", "all"]


def evaluate(
    subject: Positional[Path],
    against: Positional[Path],
    output: Annotated[Path | None, arg(aliases=["-o"])] = None,
    *,
    head: str | None = None,
    protocol: Literal[
        "held-out", "novel-view", "self-reenactment", "cross-reenactment", "training", "all"
    ] = "held-out",
    hold_out_cameras: tuple[int, ...] = (),
    hold_out_timesteps: tuple[int, ...] = (),
    dilation: int = 8,
    cut_neck: bool = False,
    most: int = 0,
    tracked: bool = False,
    networks: Path | None = None,
    lpips: Literal["alex", "vgg"] = "alex",
    lpips_rescale: bool = True,
    keypoints: bool = False,
    identity: Path | None = None,
    expression: Path | None = None,
    fit_faces: bool = False,
    pairs: Path | None = None,
    split: Literal["train", "val", "test", "all"] | None = None,
    stride: int = 1,
    frames_per_clip: int = 0,
    seed: int | None = None,
    crop: bool = True,
    crop_size: int = 512,
    heat_maps: bool = True,
    worst: int = 6,
    overwrite: bool = False,
) -> None:
    """Measure an avatar against a capture: PSNR, SSIM, MS-SSIM, LPIPS, keypoints, flicker; tables, heat maps, a sheet.

    SUBJECT is an avatar or its run, AGAINST a capture. Or both are folders of pictures, or videos, to be compared one
    by one. Or SUBJECT is a one-shot network and AGAINST pictures of many people: every clip's first frame is made an
    avatar, which the clip's other frames drive (self-reenactment) and those of another clip (cross-reenactment).
    Writes evaluation.json, evaluation.md, figures.csv, sheets and errors/. Interrupted, the same command goes on.

    Args:
        subject: Folder of the avatar or its run; a one-shot network (GAGAvatar.pt, or a file or folder of `vultus train
            oneshot`); or pictures.
        against: Folder of the capture; of captures or an LMDB of GAGAvatar's tracker for a network; or pictures.
        output: Folder to write; default: "evaluation" in the run, else beside SUBJECT.
        head: Head model the avatar or the network's data was made with: path of its file or folder; default: the
            built-in one.
        protocol: novel-view: held-out cameras; self-reenactment: held-out timesteps; held-out: both; training: what was
            trained on; all: everything. Of a network: self-reenactment or cross-reenactment; all and held-out: both.
        hold_out_cameras: Cameras (by index) that count as held out; default: as in training, else the capture's own.
        hold_out_timesteps: Timesteps that count as held out; default: likewise.
        dilation: Pixels by which the mask grows before figures are taken inside it.
        cut_neck: Count only what is above the line at which the head model ends.
        most: At most so many pictures or pairs per protocol, evenly spread; 0: all.
        tracked: Render trained timesteps with the tracked head parameters instead of the fine-tuned ones.
        networks: Folder with the weights that LPIPS needs; without, LPIPS is not measured.
        lpips: Network under LPIPS.
        lpips_rescale: Bring pictures to -1..1 for LPIPS, its own way; without, 0..1, as in GaussianAvatars' figures.
        keypoints: Measure the distance of face points (AKD), with MediaPipe.
        identity: Weights of ArcFace (backbone.pth): measure how alike the faces are (CSIM), aligned by MediaPipe.
        expression: Weights of DECA (deca_model.tar): measure the distance of expression and pose coefficients (AED,
            APD), likewise.
        fit_faces: Networks: measure distances of expression and pose by Vultus' own fit to MediaPipe's points.
        pairs: Networks: a list of pairs to measure, CSV with the columns protocol, source, target; default: by rule.
        split: Networks: of data with splits, which; default: test where there is one, else all.
        stride: Networks: take every so-manieth frame of a clip.
        frames_per_clip: Networks: at most so many frames of a clip, evenly spread; 0: all.
        seed: Networks: draw whom a clip drives in cross-reenactment; default: the next clip, as published.
        crop: Networks: compare the faces, cut out around five points, beside whole pictures.
        crop_size: Networks: pixels of a side of those faces.
        heat_maps: Write a picture of the error for every picture.
        worst: Rows in the sheet of worst frames; 0: no sheet.
        overwrite: Replace an evaluation of something else in OUTPUT.
    """
    from vultus.cli.terminal import progress_bars
    from vultus.evaluation.report import lines
    from vultus.workflows.evaluate import EvaluateRequest, open_and_evaluate
    from vultus.workflows.evaluate_oneshot import PairRequest

    request = EvaluateRequest(
        protocol=protocol,
        hold_out_cameras=hold_out_cameras,
        hold_out_timesteps=hold_out_timesteps,
        dilation=dilation,
        cut_neck=cut_neck,
        most=most,
        tracked=tracked,
        networks=networks,
        lpips=lpips,
        lpips_rescale=lpips_rescale,
        keypoints=keypoints,
        identity=identity,
        expression=expression,
        fit_faces=fit_faces,
        pairs=PairRequest(pairs, split, stride, frames_per_clip, seed, crop_size if crop else 0),
        heat_maps=heat_maps,
        worst=worst,
        overwrite=overwrite,
    )
    with progress_bars() as progress:
        result = open_and_evaluate(subject, against, output, request, head=head, progress=progress)
    print("\n".join(lines(result.content)))
    print(f"report         {result.folder / 'evaluation.md'}")


COMMAND = evaluate
