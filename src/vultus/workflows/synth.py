"""Synthetic captures: made-up people in the studio, with everything about them known exactly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vultus.errors import VultusError
from vultus.progress import Progress, silent

if TYPE_CHECKING:
    import torch

    from vultus.cameras import Camera
    from vultus.captures import CaptureWriter
    from vultus.captures.studio import Person, Studio
    from vultus.heads.model import SkinnedHead
    from vultus.motion import Motion

_MOST_PEOPLE, _MOST_TIMESTEPS = 100_000, 100_000
LANDMARK_SET = "ibug68"
FRAMES_LAYOUT = "gagavatar"


@dataclass(frozen=True)
class SynthSettings:
    """What is to be made. The same settings make the same bytes."""

    preset: Literal["clean", "hard", "people"] = "clean"
    people: int = 1
    cameras: int = 16
    timesteps: int = 60
    size: int = 512
    """Side of the square pictures, pixels."""
    seed: int = 0
    """Of the first person; the next ones follow."""
    fps: float = 25.0
    truth: Literal["motion", "labels", "all"] = "labels"
    """What is written down per picture beside its mask: nothing, label images, or also depth, normals and UV."""
    layout: str = "vultus"
    """`vultus`, another layout of `vultus.captures.LAYOUTS`, or `gagavatar`: data to train one-shot
    networks with, `timesteps` unrelated pictures of each person, one camera."""


def synthesize(
    output: str | Path,
    settings: SynthSettings | None = None,
    *,
    head: SkinnedHead | None = None,
    progress: Progress = silent,
) -> list[Path]:
    """Make a capture of one made-up person, or a folder of captures `person_00000`, ... of several; or, with the layout
    `gagavatar`, one folder of training data of all of them.

    What is already there from an interrupted run with the same settings is kept. Held out are the camera in the middle
    and the last 20 % of the timesteps. Beside the capture's own files its folder gets `truth/`: `motion.npz` with the
    true parameters (also where `hard` hands out mistaken ones), `person.json`, and what `settings.truth` asks for.

    Args:
        output: new, empty, or left by the same command.
        head: the head model; default: the built-in one.

    Returns: the folders of the captures.

    Raises:
        VultusError: settings that are not possible, a head model that cannot be painted, or an unusable folder.
    """
    from vultus.heads.load import load_head

    settings = settings or SynthSettings()
    head = load_head() if head is None else head
    _check(settings, head)
    output = Path(output)
    if settings.layout == FRAMES_LAYOUT:
        from vultus.workflows.synth_frames import synthesize_frames

        synthesize_frames(output, settings, head, progress)
        return [output]
    several = settings.people > 1
    folders = [output / f"person_{number:05d}" if several else output for number in range(settings.people)]
    for number, folder in enumerate(folders):
        stage = f"person {number + 1} of {settings.people}" if several else "pictures"
        one = replace(settings, seed=settings.seed + number, people=1)
        if settings.layout == "vultus":
            _capture(folder, one, head, stage, progress)
        else:
            _in_another_layout(folder, one, head, stage, progress)
    return folders


def _in_another_layout(
    folder: Path, settings: SynthSettings, head: SkinnedHead, stage: str, progress: Progress
) -> None:
    """The capture is made beside its place, in our own layout, and converted when it is complete."""
    from vultus.workflows.convert import convert

    if (folder / "truth" / "settings.json").is_file() and _is_finished(folder, settings, head):
        progress(stage, 1, 1, {})
        return
    own = folder.with_name(f"{folder.name}.vultus")
    _capture(own, settings, head, stage, progress)
    # The tree of Gaussian Head Avatar has no smaller pictures than 256.
    convert(own, folder, settings.layout, head=head, size=max(settings.size, 256), progress=progress)
    shutil.move(own / "truth", folder / "truth")
    shutil.rmtree(own)


def _check(settings: SynthSettings, head: SkinnedHead) -> None:
    from vultus.captures import LAYOUTS
    from vultus.captures.flame_params import is_flame
    from vultus.captures.studio.presets import PRESETS

    layouts = [name for name, layout in LAYOUTS.items() if layout.write is not None] + [FRAMES_LAYOUT]
    if settings.layout not in layouts:
        raise VultusError(f"the layout {settings.layout!r} is not known; choose {', '.join(layouts)}")
    if settings.layout == "insta" and settings.cameras > 1:
        raise VultusError(f"the layout insta holds one camera, not {settings.cameras}; give --cameras 1")
    if settings.layout == "colmap" and settings.timesteps > 1:
        raise VultusError(f"the layout colmap knows one instant, not {settings.timesteps}; give --timesteps 1")
    if settings.layout == "gaussian-avatars" and not is_flame(head):
        raise VultusError(
            f"the layout gaussian-avatars holds FLAME parameters, and {head.name} is not FLAME; give a FLAME model "
            "with --head, or choose the layout vultus"
        )

    if settings.preset not in PRESETS:
        raise VultusError(f"there is no preset {settings.preset!r}; choose {', '.join(PRESETS)}")
    for name, value, most in (
        ("people", settings.people, _MOST_PEOPLE),
        ("timesteps", settings.timesteps, _MOST_TIMESTEPS),
    ):
        if not 1 <= value <= most:
            raise VultusError(f"{name} = {value}: choose 1 to {most}")
    if not 0 < settings.fps <= 1000:
        raise VultusError(f"fps = {settings.fps}: choose more than 0 and at most 1000")
    if settings.seed < 0:
        raise VultusError(f"seed = {settings.seed}: choose 0 or more")


@dataclass(frozen=True)
class _Plan:
    """One person's capture before any picture is made: `true` is what happened, `told` what the capture says."""

    person: Person
    studio: Studio
    cameras: list[Camera]
    true: Motion
    told: Motion


def _planned(settings: SynthSettings, head: SkinnedHead) -> _Plan:
    from vultus.animation.performance import performance
    from vultus.captures.studio import make_person, random_lighting, studio_lighting, studio_rig
    from vultus.captures.studio.mistaken import mistracked, static_offset
    from vultus.captures.studio.presets import PRESETS
    from vultus.captures.studio.rendering import Studio

    preset, seed = PRESETS[settings.preset], settings.seed
    person = make_person(seed, head)
    cameras = studio_rig(settings.cameras, settings.size)
    lighting = random_lighting(seed) if preset.world_lights else studio_lighting()
    studio = Studio(head, person, lighting, wardrobe=preset.wardrobe, size=settings.size)
    acted = performance(head, settings.timesteps, fps=settings.fps, seed=seed)
    offset = static_offset(head, seed, metres=preset.offset) if preset.offset else None
    params = replace(acted.params, identity=person.identity, offset=offset)
    true = replace(acted, params=params, neutral=replace(acted.neutral, identity=person.identity, offset=offset))
    told = true
    if preset.turn_error or preset.place_error or preset.offset:
        told = mistracked(true, head, seed, radians=preset.turn_error, metres=preset.place_error)
    return _Plan(person, studio, cameras, true, told)


def _capture(folder: Path, settings: SynthSettings, head: SkinnedHead, stage: str, progress: Progress) -> None:
    import torch

    from vultus.captures import CaptureWriter
    from vultus.captures.motions import write_motion
    from vultus.files import write_json

    if (folder / "capture.json").is_file() and _is_finished(folder, settings, head):
        progress(stage, 1, 1, {})
        return
    plan = _planned(settings, head)
    count = settings.timesteps
    writer = CaptureWriter(
        folder,
        head=head,
        fps=settings.fps,
        settings=identity_of(settings, head),
        val_cameras={len(plan.cameras) // 2} if len(plan.cameras) > 1 else set(),
        test_timesteps=set(range(count - count // 5, count)),
    )
    total, done = count * len(plan.cameras), 0
    with writer, torch.no_grad():
        truth = folder / "truth"
        write_motion(truth / "motion.npz", plan.true, head)
        write_json(truth / "person.json", _described(plan.person))
        for number, camera in enumerate(plan.cameras):
            writer.set_camera(number, camera)
        progress(stage, 0, total, {})
        with workers() as pool:
            jobs = [pool.submit(_timestep, writer, plan, settings, timestep) for timestep in range(count)]
            for job in _finished(jobs):
                for camera, (points, weights) in enumerate(job.landmarks):
                    writer.set_landmarks(LANDMARK_SET, job.timestep, camera, points, weights)
                done += len(plan.cameras)
                progress(stage, done, total, {})
        writer.set_motion(plan.told)
        # Last: an interrupted run is not taken for a finished one.
        write_json(truth / "settings.json", identity_of(settings, head))


@dataclass(frozen=True)
class _Done:
    timestep: int
    landmarks: list[tuple[torch.Tensor, torch.Tensor]]


def _timestep(writer: CaptureWriter, plan: _Plan, settings: SynthSettings, timestep: int) -> _Done:
    """All pictures of one instant, except those that are there."""
    from vultus.captures.studio.mistaken import sensor_noise
    from vultus.captures.studio.presets import PRESETS
    from vultus.captures.studio.truth_files import has_truth, write_truth

    stage = plan.studio.pose(plan.true.params[timestep])
    landmarks = []
    for number, camera in enumerate(plan.cameras):
        truth = writer.folder / "truth"
        if writer.has_image(timestep, number) and has_truth(truth, timestep, number, settings.truth):
            landmarks.append(stage.landmarks(camera, LANDMARK_SET))
            writer.use_image(timestep, number)
            continue
        shot = stage.shoot(camera, truth=True)
        assert shot.truth is not None
        landmarks.append(stage.landmarks(camera, LANDMARK_SET, depth=shot.truth.depth))
        write_truth(truth, timestep, number, shot.truth, settings.truth)
        image = shot.image
        if PRESETS[settings.preset].noise:
            image = sensor_noise(image, (settings.seed, timestep, number))
        writer.add_image(timestep, number, image, shot.alpha)
    return _Done(timestep, landmarks)


def identity_of(settings: SynthSettings, head: SkinnedHead) -> dict[str, Any]:
    """Everything the pictures depend on, as JSON values."""
    return {"synth": 1, "head": head.fingerprint, **asdict(settings)}


def _is_finished(folder: Path, settings: SynthSettings, head: SkinnedHead) -> bool:
    from vultus.files import read_json

    path = folder / "truth" / "settings.json"
    return path.is_file() and read_json(path) == json.loads(json.dumps(identity_of(settings, head)))


def _described(person: Person) -> dict[str, Any]:
    """A person as JSON values."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, tuple | list):
            return [plain(item) for item in value]
        return value.tolist() if hasattr(value, "tolist") else value

    return plain(asdict(person))


@contextmanager
def workers() -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch may use, each of which computes alone: results do not depend on their number."""
    import torch

    count = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(count)


def _finished(jobs: list[Future[_Done]]) -> Iterator[_Done]:
    try:
        for job in as_completed(jobs):
            yield job.result()
    finally:
        for job in jobs:
            job.cancel()
