"""From a photo or a video of one person to a capture: detect, fit, cut out, write."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from vultus.cameras import Camera
from vultus.captures import Capture, CaptureWriter, Source, below_line_mask, open_capture
from vultus.errors import VultusError
from vultus.files import sha256_of
from vultus.heads import LandmarkSet, SkinnedHead
from vultus.images import Box, VideoWriter, crop_and_resize, to_float, to_uint8, write_png
from vultus.progress import Progress, silent
from vultus.tracking.detection import detect_footage
from vultus.tracking.detectors import Detector, mediapipe_detector
from vultus.tracking.face_crops import crops_of
from vultus.tracking.finishing import at_rest, motion_of, with_hair, write_fit
from vultus.tracking.footage import Footage
from vultus.tracking.hair_offset import Silhouette
from vultus.tracking.landmark_fit import Fit, SharedFit, embedding_of, fit_landmarks
from vultus.tracking.landmark_regions import TRUSTED
from vultus.tracking.matte import crop_box, person_matte, to_tensor
from vultus.tracking.observations import FitSettings, Observations
from vultus.tracking.overlay import draw_overlay
from vultus.tracking.photometric import refine_fit
from vultus.tracking.report import MISFIT
from vultus.tracking.selection import Selection, select_face
from vultus.tracking.settings import Clock, TrackSettings
from vultus.tracking.torso import torso_motion, torso_template, turn_body

_VERSION = 3
_PHOTO_MISFIT = 0.2
_CROP_FRAMES, _LOOKED_AT = 60, 9
_MATTE_SIDE = 512
_BELOW = 0.05
"""Metres below the head model's end that pictures keep: what an avatar learns there covers its edge when it moves."""


def track(
    source: str | Path,
    output: str | Path,
    *,
    head: SkinnedHead,
    settings: TrackSettings | None = None,
    progress: Progress = silent,
    shared: SharedFit | None = None,
    detector: Detector | None = None,
) -> Capture:
    """Track one person in a photo or video and write a capture of head crops with masks to the folder `output`.

    A folder is taken for a capture by calibrated cameras: see `track_capture`.

    Besides the capture the folder gets `report.json`, `shared.npz` (see `read_shared`), `overlay.mp4` or `overlay.png`,
    and `detections/`, from which an interrupted run goes on. With `shared`, what all frames of a person have in common
    is taken from there and only pose and expression of each frame are estimated. Without `detector`, MediaPipe is used.

    Raises:
        VultusError: MediaPipe is missing; the file is unreadable; no face, none large enough or none of that number
            is found; nothing fits; the folder cannot be written to.
    """
    source, output, settings = Path(source), Path(output), settings or TrackSettings()
    if source.is_dir():
        from vultus.tracking.multiview import track_capture

        return track_capture(
            source, output, head=head, settings=settings, progress=progress, shared=shared, detector=detector
        )
    owned = detector is None
    detector = mediapipe_detector() if detector is None else detector
    try:
        footage = Footage(source, first=settings.first, last=settings.last, limit=settings.limit)
        origin = Source(source.name, sha256_of(source))
        writer = CaptureWriter(
            output,
            head=head,
            fps=footage.fps,
            source=origin,
            val_cameras=(),
            test_timesteps=(),  # every frame is for training; who evaluates holds out what the question needs
            settings={
                "version": _VERSION,
                "detector": detector.name,
                **asdict(settings),
                **about_shared(shared, head),
            },
        )
        with writer:
            _fill(writer, footage, origin, head, settings, progress, shared, detector)
    finally:
        if owned:
            detector.close()
    return open_capture(output, head)


def about_shared(shared: SharedFit | None, head: SkinnedHead) -> dict[str, Any]:
    if shared is None:
        return {"head": head.fingerprint}
    return {
        "head": head.fingerprint,
        "identity": [round(float(value), 6) for value in shared.identity],
        "focal": shared.focal,
    }


def _fill(
    writer: CaptureWriter,
    footage: Footage,
    origin: Source,
    head: SkinnedHead,
    settings: TrackSettings,
    progress: Progress,
    shared: SharedFit | None,
    detector: Detector,
) -> None:
    clock = Clock()
    with clock.stage("detection"):
        frames = detect_footage(footage, detector, writer.folder / "detections", origin.sha256, progress)
    try:
        selection = select_face(frames, settings.face)
    except VultusError as error:
        raise VultusError(f"{footage.path}: {error}") from error
    progress("fitting the head", 0, 1, {})
    with clock.stage("landmark fit"):
        observations = _observations(footage, selection)
        fitting = FitSettings(
            focal=settings.focal if settings.focal is not None else footage.focal, smooth=settings.smooth
        )
        fit = fit_landmarks(head, observations, fitting, shared)
    if settings.photometric and not footage.photo:
        with clock.stage("photometric fit"):
            crops = crops_of(footage, head, fit, progress)
            fit = refine_fit(head, observations, fit, crops, fitting, frozen=shared is not None, progress=progress)
    progress("fitting the head", 1, 1, {"error": float(np.nanmean(fit.mean_error(TRUSTED)))})
    valid, reasons = _validity(fit, selection, footage)
    fit = _placed(fit, valid, shared)
    with clock.stage("outline"):
        silhouettes: list[Silhouette] = []
        if shared is None and detector.segments_crops:
            silhouettes = _silhouettes(footage, head, fit, valid, detector)
        if settings.hair and silhouettes:
            fit = with_hair(head, fit, silhouettes)
        crop = fit.shared.crop or _choose_crop(head, fit, valid, silhouettes)
    box = Box.square_around(crop[:2], crop[2])
    camera = fit.camera.cropped(box.left, box.top, box.width, box.height).resized(settings.size, settings.size)
    fit = at_rest(head, fit, valid)
    fit = replace(fit, shared=replace(fit.shared, crop=crop))
    with clock.stage("pictures"):
        _write_pictures(writer, footage, head, fit, valid, selection, camera, box, settings, detector, progress)
    if settings.photometric and not footage.photo:
        with clock.stage("torso"):
            fit = _follow_torso(writer, head, fit, valid, selection.shots, camera, progress)
    times = torch.tensor([frame.time for frame in frames], dtype=torch.float64)
    motion = motion_of(fit, valid, times, torch.from_numpy(selection.shots))
    writer.set_camera(0, camera)
    more = {} if footage.damage is None else {"damage": footage.damage}
    write_fit(writer, fit, motion, selection, reasons, valid, clock.seconds, more)


def _observations(footage: Footage, selection: Selection) -> Observations:
    return Observations(
        selection.points[:, None],
        selection.set_name,
        footage.width,
        footage.height,
        selection.shots,
        selection.weights[:, None],
    )


def _validity(fit: Fit, selection: Selection, footage: Footage) -> tuple[Bool[np.ndarray, "N"], dict[int, str]]:
    """Which frames may be used, and why not the others."""
    error = fit.mean_error(TRUSTED)
    reasons = dict(selection.reasons)
    limit = _PHOTO_MISFIT if footage.photo else MISFIT
    for frame in np.flatnonzero(fit.seen):
        if not error[frame] <= limit:
            reasons[int(frame)] = "misfit"
    valid = np.array([frame not in reasons for frame in range(len(error))])
    if not valid.any():
        raise VultusError(
            f"{footage.path}: the head model does not fit the face found ({100 * np.nanmin(error):.0f} % of the "
            "eye distance off); use a picture that shows the whole face"
        )
    return valid, reasons


def _placed(fit: Fit, valid: Bool[np.ndarray, "N"], shared: SharedFit | None) -> Fit:
    """The same fit in a world whose origin is where the head is on average; the camera moves along."""
    shift = fit.params.translation[torch.from_numpy(valid)].mean(0)
    if shared is not None and shared.shift is not None:
        shift = shared.shift
    move = torch.eye(4)
    move[:3, 3] = -shift
    params = replace(fit.params, translation=fit.params.translation - shift)
    return replace(fit, params=params, camera=fit.camera.moved(move), shared=replace(fit.shared, shift=shift))


def _projected(head: SkinnedHead, fit: Fit, frame: int, camera: Camera) -> np.ndarray:
    return camera.project(head.pose(fit.params[frame]).vertices).double().numpy()


def model_points(
    head: SkinnedHead, embedding: LandmarkSet, vertices: Float[Tensor, "V 3"], fit: Fit, camera: Camera
) -> np.ndarray:
    """The fitted landmarks in the picture."""
    row = {int(point): index for index, point in enumerate(embedding.ids)}
    chosen = [row[int(point)] for point in fit.ids]
    corners = vertices[head.faces[embedding.faces[chosen]]]
    points = (corners * embedding.barycentric[chosen][..., None]).sum(-2)
    return camera.project(points).double().numpy()


def _choose_crop(
    head: SkinnedHead, fit: Fit, valid: Bool[np.ndarray, "N"], silhouettes: list[Silhouette]
) -> tuple[float, float, float]:
    """A square around the head and the neck in all frames, and around the hair in those that were looked at."""
    names = [name for name in ("face", "scalp", "left_ear", "right_ear", "front_bottom_point") if name in head.regions]
    members = torch.cat([head.regions[name] for name in names]).numpy()
    frames = spread(np.flatnonzero(valid), _CROP_FRAMES)
    skull = np.stack([_projected(head, fit, int(frame), fit.camera)[members] for frame in frames])
    person = None
    if silhouettes:
        boxes = np.array([_person_box(head, silhouette, fit.camera) for silhouette in silhouettes])
        person = np.array([*boxes[:, :2].min(0), *boxes[:, 2:].max(0)])
    return crop_box(skull, person)


def spread(frames: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the frames, evenly."""
    return frames[np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int))]


def _silhouettes(
    footage: Footage, head: SkinnedHead, fit: Fit, valid: Bool[np.ndarray, "N"], detector: Detector
) -> list[Silhouette]:
    """The person's matte around the head, with room for hair, in a few frames."""
    wanted = set(spread(np.flatnonzero(valid), _LOOKED_AT).tolist())
    silhouettes = []
    for frame in footage:
        if frame.index not in wanted:
            continue
        face = _projected(head, fit, frame.index, fit.camera)[head.regions["face"].numpy()]
        center, side = face.mean(0), 2.6 * float((face.max(0) - face.min(0)).max())
        height, width = frame.image.shape[:2]
        left, top = max(int(center[0] - side / 2), 0), max(int(center[1] - 0.6 * side), 0)
        right, bottom = min(int(center[0] + side / 2), width), min(int(center[1] + 0.5 * side), height)
        scale = min(1.0, _MATTE_SIDE / max(right - left, bottom - top))
        size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
        box = Box(left, top, right - left, bottom - top)
        part, camera = crop_and_resize(to_float(frame.image), fit.camera, box, *size)
        mask = person_matte(detector, to_uint8(part), tuple((center - [left, top]) * scale), frame=frame.number)
        silhouettes.append(Silhouette(mask, camera, fit.params[frame.index]))
    return silhouettes


def _person_box(head: SkinnedHead, silhouette: Silhouette, camera: Camera) -> list[float]:
    """Left, top, right, bottom (pixels of the footage) of the person above the chin, near the model."""
    inner, mask = silhouette.camera, silhouette.mask
    projected = inner.project(head.pose(silhouette.params).vertices).double().numpy()
    scalp, face = (projected[head.regions[name].numpy()] for name in ("scalp", "face"))
    low, high = scalp.min(0), scalp.max(0)
    reach = 0.6 * (high - low)[0]
    rows, columns = np.nonzero(mask[: max(1, int(face[:, 1].max()))] > 0.5)
    found = np.array([*low, *high])
    if len(rows):
        found[:2] = max(columns.min(), low[0] - reach), max(rows.min(), low[1] - reach)
        found[2:] = min(columns.max() + 1, high[0] + reach), rows.max() + 1
    scale = float(camera.K[0, 0] / inner.K[0, 0])
    origin = (camera.K[:2, 2] - scale * inner.K[:2, 2]).double().numpy()
    return [*(origin + scale * found[:2]), *(origin + scale * found[2:])]


def _write_pictures(
    writer: CaptureWriter,
    footage: Footage,
    head: SkinnedHead,
    fit: Fit,
    valid: Bool[np.ndarray, "N"],
    selection: Selection,
    camera: Camera,
    box: Box,
    settings: TrackSettings,
    detector: Detector,
    progress: Progress,
) -> None:
    total = int(valid.sum())
    embedding = embedding_of(head, "mediapipe" if fit.set_name == "mp478" else "ibug68")
    overlays: list[np.ndarray] = []
    done = 0
    for frame in footage:
        if not valid[frame.index]:
            continue
        progress("cutting out the head", done, total, {})
        done += 1
        picture, _ = crop_and_resize(to_float(frame.image), fit.camera, box, settings.size, settings.size)
        points = camera_points(selection.points[frame.index], box, settings.size)
        vertices = head.pose(fit.params[frame.index]).vertices
        projected = camera.project(vertices).double().numpy()
        if writer.has_image(frame.index, 0):
            writer.use_image(frame.index, 0)
        else:
            pixels = to_uint8(picture)
            center = projected[head.regions["face"].numpy()].mean(0)
            mask = person_matte(
                detector,
                pixels,
                (float(center[0]), float(center[1])),
                frame=frame.number,
                stored=_stored_mask(detector, frame.image, frame.number, fit.camera, box, settings.size),
            )
            mask = mask * below_line_mask(head, vertices, camera, lower=_BELOW).numpy()
            mask = mask * _inside(frame.image, box, settings.size)
            writer.add_image(frame.index, 0, picture, to_tensor(mask.astype(np.float32)))
        weights = torch.from_numpy(np.isfinite(points).all(-1)).float()
        writer.set_landmarks(
            selection.set_name, frame.index, 0, torch.from_numpy(np.nan_to_num(points)).float(), weights
        )
        if settings.overlay:
            seen = points if fit.set_name != selection.set_name else points[fit.ids]
            fitted = model_points(head, embedding, vertices, fit, camera)
            overlays.append(draw_overlay(to_uint8(picture), head, vertices, camera, seen, fitted))
    progress("cutting out the head", total, total, {})
    if overlays and footage.photo:
        write_png(writer.folder / "overlay.png", overlays[0])
    elif overlays:
        with VideoWriter(writer.folder / "overlay.mp4", fps=footage.fps, quality=23) as video:
            for picture in overlays:
                video.write(picture)


def _follow_torso(
    writer: CaptureWriter,
    head: SkinnedHead,
    fit: Fit,
    valid: Bool[np.ndarray, "N"],
    shots: Int[np.ndarray, "N"],
    camera: Camera,
    progress: Progress,
) -> Fit:
    """The fit with the root joint turned to where the pictures written show the torso, and their template."""
    rest, template = fit.shared.neutral, fit.shared.torso
    assert rest is not None
    params = fit.params
    away = (params.translation - rest.translation).norm(dim=-1)
    if template is None:
        start = int(torch.where(torch.from_numpy(valid), away, torch.inf).argmin())
        template = torso_template(head, params[start], camera, *writer.image(start, 0))
    if template is None or template.size != (camera.width, camera.height):
        return fit
    joints = {name: values.clone() for name, values in params.joints.items()}
    translation = params.translation.clone()
    for shot in np.unique(shots[valid]):
        frames = np.flatnonzero(valid & (shots == shot))
        chosen = torch.from_numpy(frames)
        first = int(away[chosen].argmin())
        warps, likeness = torso_motion(
            template, lambda frame: writer.image(frame, 0)[0], frames.tolist(), first, progress
        )
        turned = turn_body(head, params[chosen], camera, template, warps, likeness)
        for name, values in joints.items():
            values[chosen] = turned.joint(name)
        translation[chosen] = turned.translation
    params = replace(params, joints=joints, translation=translation)
    return replace(fit, params=params, shared=replace(fit.shared, torso=template))


def camera_points(points: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Points of the footage in pixels of the resized crop."""
    return (points - [box.left, box.top]) * [size / box.width, size / box.height]


def _inside(image: UInt8[np.ndarray, "H W 3"], box: Box, size: int) -> np.ndarray:
    """Ones where a pixel of the crop lies inside the footage."""
    height, width = image.shape[:2]
    x = box.left + (np.arange(size) + 0.5) * box.width / size
    y = box.top + (np.arange(size) + 0.5) * box.height / size
    return (((y >= 0) & (y <= height))[:, None] & ((x >= 0) & (x <= width))[None]).astype(np.float32)


def _stored_mask(
    detector: Detector, image: UInt8[np.ndarray, "H W 3"], number: int, camera: Camera, box: Box, size: int
) -> np.ndarray | None:
    """The crop of a mask that a detector has for whole frames."""
    if detector.segments_crops:
        return None
    mask = detector.segment(image, frame=number)
    if mask is None:
        return None
    return crop_and_resize(to_tensor(mask), camera, box, size, size)[0][..., 0].numpy()
