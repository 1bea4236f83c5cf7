"""From the pictures of several calibrated cameras to head parameters: mode 3 of the tracker (specification 12.5).

The cameras are those of the capture; parameters that it may hold are not looked at. Identity is shared, pose, joints
and expression are each instant's, and every camera that shows the face well adds to them.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from vultus.captures import Capture, CaptureWriter, Source, below_line_mask, open_capture, read_contents
from vultus.captures.camera_mistakes import camera_mistakes
from vultus.captures.contents import assembled
from vultus.errors import VultusError
from vultus.heads import SkinnedHead
from vultus.images import to_uint8
from vultus.motion import Motion
from vultus.progress import Progress, counted, silent
from vultus.rotations import axis_angle_to_matrix
from vultus.tracking.detectors import Detector, mediapipe_detector
from vultus.tracking.face_crops import CROP_SIDE, RIG_CROP_SIDE, Crops, face_crop
from vultus.tracking.finishing import at_rest, motion_of, with_hair, write_fit
from vultus.tracking.hair_offset import Silhouette
from vultus.tracking.landmark_fit import Fit, SharedFit, fit_landmarks
from vultus.tracking.landmark_regions import TRUSTED, outer_eye_corners, regions
from vultus.tracking.matte import person_matte, to_tensor
from vultus.tracking.observations import FitSettings, Observations
from vultus.tracking.overlay import write_rig_overlay
from vultus.tracking.photometric import refine_fit
from vultus.tracking.placement import Meeting, meet
from vultus.tracking.report import MISFIT
from vultus.tracking.rig_detection import detect_views
from vultus.tracking.rig_footage import RigFootage
from vultus.tracking.selection import Selection
from vultus.tracking.settings import Clock, TrackSettings

_VERSION = 2
_WIDEST = np.cos(np.radians(80.0))
"""Faces turned farther away than this show a detector too little."""
_EYES = 0.07, 0.11
"""Metres between the outer eye corners of people."""
_SILHOUETTES = 24
_EXPRESSION_SIGMA = 0.7


def track_capture(
    source: Path,
    output: Path,
    *,
    head: SkinnedHead,
    settings: TrackSettings | None = None,
    progress: Progress = silent,
    shared: SharedFit | None = None,
    detector: Detector | None = None,
) -> Capture:
    """Track one person in a capture by several calibrated cameras and write a capture of ours to the folder `output`.

    The pictures, their cameras and the world stay as they are; where the capture has no masks, they are made. The
    settings `size`, `face` and `focal` say nothing here. Besides the capture the folder gets `report.json`,
    `shared.npz`, `overlay.mp4` and `detections/`, from which an interrupted run goes on.

    Raises:
        VultusError: not a capture, only one camera, wrong cameras (the message names what is likely), no face found,
            nothing fits, or the folder cannot be written to.
    """
    settings = settings or TrackSettings()
    contents = replace(read_contents(source), motion=None, head_name="", head_fingerprint="", detections=None)
    for finding in camera_mistakes(contents)[0]:
        raise VultusError(f"{source}: {finding.text}. Correct the cameras; `vultus inspect` shows them")
    footage = RigFootage.of(assembled(contents, needs_motion=False), settings)
    origin = Source(Path(source).name, footage.fingerprint())
    owned = detector is None
    detector = mediapipe_detector() if detector is None else detector
    try:
        writer = CaptureWriter(
            output,
            head=head,
            fps=footage.capture.fps,
            source=origin,
            val_cameras={view.camera for view in footage.capture.val},
            test_timesteps={view.timestep for view in footage.capture.test},
            settings={"version": _VERSION, "detector": detector.name, "head": head.fingerprint, **asdict(settings)},
        )
        with writer:
            _fill(writer, footage, origin, head, settings, progress, shared, detector)
    finally:
        if owned:
            detector.close()
    return open_capture(output, head)


def _fill(
    writer: CaptureWriter,
    footage: RigFootage,
    origin: Source,
    head: SkinnedHead,
    settings: TrackSettings,
    progress: Progress,
    shared: SharedFit | None,
    detector: Detector,
) -> None:
    clock = Clock()
    with clock.stage("detection"):
        found = detect_views(footage, detector, writer.folder / "detections", origin.sha256, progress)
    progress("fitting the head", 0, 1, {})
    with clock.stage("landmark fit"):
        observations = agreeing(footage, found.points, found.set_name)
        fitting = FitSettings(smooth=settings.smooth, expression_sigma=_EXPRESSION_SIGMA)
        fit = fit_landmarks(head, observations, fitting, shared)
        better = _without_misfits(head, observations, fit)
        if not np.array_equal(better.weights, observations.weights):
            observations = better
            fit = fit_landmarks(head, observations, fitting, shared)
    if settings.photometric:
        with clock.stage("photometric fit"):
            crops = _crops(footage, head, fit, progress)
            fit = refine_fit(
                head,
                observations,
                fit,
                crops,
                fitting,
                frozen=shared is not None,
                offsets=settings.offsets,
                progress=progress,
            )
    error = fit.mean_error(TRUSTED)
    progress("fitting the head", 1, 1, {"error": float(np.nanmean(error))})
    valid, reasons = _validity(fit, footage)
    with clock.stage("outline"):
        if settings.hair and shared is None:
            fit = with_hair(head, fit, _silhouettes(footage, head, fit, valid, detector))
    fit = at_rest(head, fit, valid)
    with clock.stage("pictures"):
        _write_pictures(writer, footage, head, fit, found.points, found.set_name, valid, detector, progress)
        if settings.overlay:
            write_rig_overlay(writer.folder / "overlay.mp4", footage, head, fit, found.points, valid, progress)
    shots = footage.capture.shots[list(footage.timesteps)]
    times = footage.capture.motion.times[list(footage.timesteps)]
    motion = motion_of(fit, valid, times, shots)
    selection = Selection(
        observations.points[:, 0], found.set_name, shots.numpy(), observations.weights[:, 0], reasons, (1,)
    )
    more = {"cameras": _about_cameras(footage, fit, observations)}
    write_fit(writer, fit, _at_timesteps(motion, footage), selection, reasons, valid, clock.seconds, more)


def agreeing(footage: RigFootage, points: Float64[np.ndarray, "N C L 2"], set_name: str) -> Observations:
    """What the fit sees: pictures whose points do not meet those of the others are left out.

    Raises:
        VultusError: no face was found, rays of no two cameras meet, or where they do, eyes are not as far apart as
            eyes are, so that the cameras cannot be in metres.
    """
    rig = footage.rig()
    names = np.array(regions(set_name, np.arange(points.shape[2])))
    stiff = np.isin(names, ("eyes", "nose"))
    usable = np.isfinite(points).all(-1).sum(-1) >= 12
    if not usable.any():
        raise VultusError(f"{footage.capture.root}: no face was found in any picture")
    met = meet(rig, points[:, :, stiff], usable)
    _check(footage, met, set_name, np.flatnonzero(stiff), usable)
    camera = footage.camera(0, 0)
    shots = footage.capture.shots[list(footage.timesteps)].numpy().astype(np.int64)
    return Observations(points, set_name, camera.width, camera.height, shots, met.agrees.astype(np.float64), rig)


def _check(
    footage: RigFootage,
    met: Meeting,
    set_name: str,
    ids: Int64[np.ndarray, "K"],
    usable: Bool[np.ndarray, "N C"],
) -> None:
    root = footage.capture.root
    several = usable.sum(1) >= 2
    if not several.any():
        raise VultusError(
            f"{root}: no instant shows a face to two cameras at once; are the pictures of one instant numbered alike?"
        )
    if (met.agrees.sum(1) >= 2)[several].mean() < 0.5:
        raise VultusError(
            f"{root}: the cameras do not see the face at one place. Their poses may be inverted (camera-to-world given "
            "as world-to-camera) or have flipped axes, K may be of another image size, or pictures of one number are "
            "of different moments; `vultus inspect` shows the cameras"
        )
    row = {int(point): index for index, point in enumerate(ids)}
    right, left = (met.points[:, row[point]] for point in outer_eye_corners(set_name))
    distance = float(np.nanmedian(np.linalg.norm(left - right, axis=-1)))
    if not _EYES[0] <= distance <= _EYES[1]:
        unit = "millimetres" if 50 <= distance <= 150 else "centimetres" if 5 <= distance <= 15 else "another unit"
        raise VultusError(
            f"{root}: the outer corners of the eyes are {distance:.3g} apart, which in metres is 0.09 in people; the "
            f"cameras are in {unit}. Scale their positions by {0.09 / distance:.4g}"
        )


def _without_misfits(head: SkinnedHead, observations: Observations, fit: Fit) -> Observations:
    """The observations without pictures of the face's back, and those whose points are far from the fit's."""
    names = regions(fit.set_name, fit.ids)
    trusted = fit.residual[..., [name in TRUSTED for name in names]]
    with np.errstate(invalid="ignore"):
        known = np.isfinite(trusted)
        error = np.where(known, trusted, 0.0).sum(-1) / np.maximum(known.sum(-1), 1)
    front = axis_angle_to_matrix(fit.params.joint("root").double())[..., 2]
    facing = (observations.cameras.toward @ front[..., None])[..., 0].numpy()
    weights = observations.weights * (facing > _WIDEST) * (error < MISFIT)
    return replace(observations, weights=weights)


def _crops(footage: RigFootage, head: SkinnedHead, fit: Fit, progress: Progress) -> Crops:
    """The face in every picture, grey; black where there is no picture."""
    face = head.regions["face"]
    count, cameras = len(footage.timesteps), len(footage.cameras)
    # Enlarging small pictures shows no more.
    small = max(footage.camera(0, column).height for column in range(cameras)) < RIG_CROP_SIDE
    side = CROP_SIDE if small else RIG_CROP_SIDE
    images, masks = (torch.zeros(count, cameras, side, side, dtype=torch.uint8) for _ in range(2))
    places = torch.zeros(count, cameras, 3, dtype=torch.float64)
    places[..., 2] = 1
    posed: tuple[int, Tensor] | None = None
    for (instant, camera), view in counted(
        sorted(footage.views.items()), "cutting out faces", len(footage.views), progress
    ):
        if posed is None or posed[0] != instant:
            posed = instant, head.pose(fit.params[instant]).vertices[face]
        numbers = footage.camera(instant, camera)
        pixels = numbers.project(posed[1])
        gray, place = face_crop(footage.capture.image(view), numbers, pixels, side)
        mask, _ = face_crop(footage.capture.mask(view).expand(-1, -1, 3), numbers, pixels, side)
        images[instant, camera], masks[instant, camera] = gray, mask
        places[instant, camera] = torch.tensor(place, dtype=torch.float64)
    return Crops(images, places[..., :2], places[..., 2], masks)


def _validity(fit: Fit, footage: RigFootage) -> tuple[Bool[np.ndarray, "N"], dict[int, str]]:
    """Which instants may be used, and why not the others.

    Judged by the median over all cameras' points: pictures refine what a detector places wrongly, above all in
    profiles, so that a good fit may be far from those points.
    """
    error = fit.median_error(TRUSTED)
    reasons = {int(instant): "no face" for instant in np.flatnonzero(~fit.seen)}
    for instant in np.flatnonzero(fit.seen):
        if not error[instant] <= MISFIT:
            reasons[int(instant)] = "misfit"
    valid = np.array([instant not in reasons for instant in range(len(error))])
    if not valid.any():
        raise VultusError(
            f"{footage.capture.root}: the head model does not fit the face found ({100 * np.nanmin(error):.0f} % of "
            "the eye distance off); check the cameras with `vultus inspect`"
        )
    return valid, reasons


def _silhouettes(
    footage: RigFootage, head: SkinnedHead, fit: Fit, valid: Bool[np.ndarray, "N"], detector: Detector
) -> list[Silhouette]:
    """The person's outline in some pictures, from every side."""
    usable = [key for key in sorted(footage.views) if valid[key[0]]]
    chosen = [usable[index] for index in np.unique(np.linspace(0, len(usable) - 1, _SILHOUETTES).round().astype(int))]
    silhouettes = []
    for instant, camera in chosen:
        mask = _mask(footage, head, fit, instant, camera, detector)
        if mask is not None:
            silhouettes.append(Silhouette(mask[..., 0].numpy(), footage.camera(instant, camera), fit.params[instant]))
    return silhouettes


def _mask(
    footage: RigFootage, head: SkinnedHead, fit: Fit, instant: int, camera: int, detector: Detector
) -> Tensor | None:
    """The mask that the capture has, else the detector's, cut off below the head model; None without either."""
    view, numbers = footage.views[instant, camera], footage.camera(instant, camera)
    mask = footage.capture.mask(view)
    if bool((mask < 1).any()):
        return mask
    if not detector.segments_crops:
        return None
    vertices = head.pose(fit.params[instant]).vertices
    x, y = numbers.project(vertices[head.regions["face"]]).mean(0).tolist()
    matte = person_matte(detector, to_uint8(footage.capture.image(view)), (x, y))
    return to_tensor(matte) * below_line_mask(head, vertices, numbers)


def _write_pictures(
    writer: CaptureWriter,
    footage: RigFootage,
    head: SkinnedHead,
    fit: Fit,
    points: Float64[np.ndarray, "N C L 2"],
    set_name: str,
    valid: Bool[np.ndarray, "N"],
    detector: Detector,
    progress: Progress,
) -> None:
    for (instant, camera), view in counted(sorted(footage.views.items()), "pictures", len(footage.views), progress):
        if not valid[instant]:
            continue
        timestep, number = footage.timesteps[instant], footage.cameras[camera]
        if writer.has_image(timestep, number):
            writer.use_image(timestep, number)
        else:
            mask = _mask(footage, head, fit, instant, camera, detector)
            image = footage.capture.image(view)
            writer.add_image(
                timestep,
                number,
                image,
                torch.ones_like(image[..., :1]) if mask is None else mask,
                is_composited=view.mask_picture is not None and footage.capture.over_white,
            )
        writer.set_camera(number, footage.camera(instant, camera), timestep)
        if number in footage.capture.camera_names:
            writer.name_camera(number, footage.capture.camera_names[number])
        found = points[instant, camera]
        weights = torch.from_numpy(np.isfinite(found).all(-1)).float()
        writer.set_landmarks(set_name, timestep, number, torch.from_numpy(np.nan_to_num(found)).float(), weights)


def _at_timesteps(motion: Motion, footage: RigFootage) -> Motion:
    """The motion with a row for every timestep of the capture; those that were not tracked repeat and are not valid."""
    wanted = list(footage.timesteps)
    count = max(wanted) + 1
    if wanted == list(range(count)):
        return motion
    rows = torch.tensor(
        [min(range(len(wanted)), key=lambda row: abs(wanted[row] - timestep)) for timestep in range(count)]
    )
    known = torch.zeros(count, dtype=torch.bool)
    known[wanted] = True
    return Motion(
        motion.params[rows],
        footage.capture.motion.times[:count],
        motion.neutral,
        motion.valid[rows] & known,
        footage.capture.shots[:count],
    )


def _about_cameras(footage: RigFootage, fit: Fit, observations: Observations) -> list[dict[str, Any]]:
    """Per camera: in how much of its pictures a face was found and used, and how far the fit is off there."""
    trusted = fit.residual[..., [name in TRUSTED for name in regions(fit.set_name, fit.ids)]]
    result = []
    for column, camera in enumerate(footage.cameras):
        pictures = sum(key[1] == column for key in footage.views)
        found = np.isfinite(observations.points[:, column]).all(-1).sum(-1) >= 12
        used = observations.seen_by[:, column]
        errors = trusted[used, column]
        result.append(
            {
                "camera": footage.capture.camera_name(camera),
                "pictures": pictures,
                "found_percent": 100 * float(found.sum()) / pictures,
                "used_percent": 100 * float(used.sum()) / pictures,
                "error_percent_of_eye_distance": 100 * float(np.nanmean(errors)) if used.any() else None,
            }
        )
    return result
