"""Say what a folder or file is, count what is in it, draw it, and name what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vultus.errors import VultusError
from vultus.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vultus.captures import Contents, Shot
    from vultus.captures.findings import Finding
    from vultus.captures.mistakes import Judgement
    from vultus.heads import HeadModel

_MAX_DRAWN = 200
_OVERLAYS, _TILE = 8, 300


@dataclass(frozen=True)
class Inspection:
    """What was found: what it is, figures by name, mistakes, and the pictures that were drawn."""

    what: str
    figures: dict[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    drawings: tuple[Path, ...] = ()

    def summary(self) -> str:
        """Lines for the terminal."""
        lines = [f"{'what':<14} {self.what}"]
        lines += [f"{name:<14} {text}" for name, text in self.figures.items()]
        lines += [f"{'drawn' if index == 0 else '':<14} {path}" for index, path in enumerate(self.drawings)]
        lines += [f"mistake        {finding.name}: {finding.text}" for finding in self.findings]
        return "\n".join(lines)


def inspect(
    path: Path,
    output: Path | None = None,
    *,
    head: HeadModel | None = None,
    pictures: int = 100,
    progress: Progress = silent,
) -> Inspection:
    """Inspect a capture of any layout that can be read; of other files, say what they are.

    Args:
        output: folder for `cameras_top.png`, `cameras_side.png`, `overlay.png` and `inspection.json`; None: nothing is
            written.
        head: the model of the capture's head parameters, for the overlay; the built-in one is known.
        pictures: how many pictures are decoded, evenly spread; 0: all.

    Raises:
        VultusError: nothing is there, or it is of no kind that is known.
    """
    from vultus.avatars import is_avatar
    from vultus.captures import LAYOUTS, layout_of, read_contents
    from vultus.captures.fields import MirroredPose
    from vultus.captures.findings import Finding
    from vultus.captures.mistakes import find_mistakes

    path = Path(path)
    if not path.exists():
        raise VultusError(f"{path}: there is no such file or folder")
    # A published avatar has a cameras.json too, of another kind than that of plain captures.
    layout = layout_of(path) if path.is_dir() and not is_avatar(path) else None
    if layout is None:
        return Inspection(_other(path))
    title = f"a capture in the layout of {layout.title}"
    try:
        contents = read_contents(path, _suitable(path, head))
    except VultusError as error:
        name = "flipped-axes" if isinstance(error, MirroredPose) else "malformed"
        return Inspection(title, findings=(Finding(name, str(error)),))
    if not contents.shots:
        return Inspection(title, findings=(Finding("missing-frames", f"{path}: names no picture"),))
    title = f"a capture in the layout of {LAYOUTS[contents.layout].title} ({contents.layout})"
    judgement = find_mistakes(contents, pictures=pictures, progress=progress)
    result = Inspection(title, _figures(contents, judgement), judgement.findings)
    if output is None:
        return result
    return _drawn(result, contents, judgement, output, head)


def _suitable(path: Path, head: HeadModel | None) -> HeadModel | None:
    """The head to read with: the one given, else the built-in one for captures that say they were made with it."""
    from vultus.captures import head_of_motion
    from vultus.heads.load import load_head

    if head is None and (path / "capture.json").is_file():
        builtin = load_head()
        try:
            return builtin if head_of_motion(path / "motion.npz")[1] == builtin.fingerprint else None
        except VultusError:
            return None  # the reader will say what is wrong
    return head


def _figures(contents: Contents, judgement: Judgement) -> dict[str, str]:
    shots, motion = contents.shots, contents.motion
    timesteps, cameras = {shot.timestep for shot in shots}, {shot.camera for shot in shots}
    sizes = sorted({(shot.parameters.width, shot.parameters.height) for shot in shots})
    splits = [sum(shot.split == split for shot in shots) for split in ("train", "val", "test")]
    masks = sum(shot.mask is not None for shot in shots)
    figures = {
        "pictures": f"{len(shots)}, {judgement.decoded} of them decoded",
        "cameras": str(len(cameras)),
        "timesteps": f"{len(timesteps)}, from {min(timesteps)} to {max(timesteps)}, {contents.fps:g} per second",
        "sizes": ", ".join(f"{width}x{height}" for width, height in sizes[:4]) + (" ..." if len(sizes) > 4 else ""),
        "masks": _masks(masks, len(shots), judgement),
        "split": "{} train, {} val, {} test".format(*splits),
    }
    if motion is None:
        figures["head"] = f"no parameters: {contents.without_motion}"
    else:
        found = int(motion.valid.sum())
        figures["head"] = f"{contents.head_name}, found at {found} of {len(motion)} instants"
    return figures


def _masks(masks: int, pictures: int, judgement: Judgement) -> str:
    if masks == pictures:
        return "all"
    if judgement.with_alpha:
        return f"alpha channels, in {judgement.with_alpha} of {judgement.decoded} pictures; {masks} files"
    return "none" if masks == 0 else f"{masks} of {pictures} pictures"


def _drawn(
    result: Inspection, contents: Contents, judgement: Judgement, output: Path, head: HeadModel | None
) -> Inspection:
    from dataclasses import replace

    from vultus.captures.plan import draw_cameras
    from vultus.files import write_json
    from vultus.images import write_png

    vertices = _vertices(contents, head)
    body = next(iter(vertices.values()))[1] if vertices else None
    if body is None and judgement.aim is not None:
        body = judgement.aim.points[:1]
    cameras = _distinct(contents)
    drawings = []
    for view in ("top", "side"):
        path = output / f"cameras_{view}.png"
        title = f"{contents.root.resolve().name}: {len(cameras)} camera poses, seen from {_FROM[view]}"
        write_png(path, draw_cameras(cameras, view, body=body, title=title))
        drawings.append(path)
    if vertices:
        path = output / "overlay.png"
        sheet = _overlay(contents, vertices, head)
        if sheet is not None:
            write_png(path, sheet)
            drawings.append(path)
    about = {
        "what": result.what,
        "layout": contents.layout,
        "figures": result.figures,
        "mistakes": [{"name": finding.name, "text": finding.text} for finding in result.findings],
    }
    write_json(output / "inspection.json", about)
    return replace(result, drawings=tuple(drawings))


_FROM = {"top": "above", "side": "the side"}


def _distinct(contents: Contents) -> list:
    """The different cameras (poses) by name, at most a number that can be drawn."""
    seen = {}
    for shot in contents.shots:
        name = contents.camera_names.get(shot.camera, str(shot.camera))
        pose = tuple(shot.parameters.world_to_camera.flatten().tolist())
        seen.setdefault((shot.camera, pose), (name, shot.parameters))
    cameras = list(seen.values())
    return cameras[:: max(1, -(-len(cameras) // _MAX_DRAWN))]


def _vertices(contents: Contents, head: HeadModel | None) -> dict[tuple[int, int], tuple[Shot, torch.Tensor]]:
    """Views to overlay, spread over cameras and time, with the posed mesh; none without head parameters or model."""
    import numpy as np

    head = _suitable(contents.root, head)
    motion = contents.motion
    if motion is None or head is None or head.fingerprint != contents.head_fingerprint:
        return {}
    shots = [
        shot
        for shot in sorted(contents.shots, key=lambda shot: (shot.timestep, shot.camera))
        if shot.timestep < len(motion) and bool(motion.valid[shot.timestep]) and shot.picture.path.is_file()
    ]
    chosen = (
        [shots[int(place)] for place in np.linspace(0, len(shots) - 1, min(_OVERLAYS, len(shots)))] if shots else []
    )
    return {(shot.timestep, shot.camera): (shot, head.pose(motion.params[shot.timestep]).vertices) for shot in chosen}


def _overlay(
    contents: Contents, vertices: dict[tuple[int, int], tuple[Shot, torch.Tensor]], head: HeadModel | None
) -> np.ndarray | None:
    """Pictures with the shaded mesh half over them."""
    from vultus.exports.shading import shaded_mesh
    from vultus.images import resize, to_float, to_uint8
    from vultus.images.sheets import contact_sheet

    head = _suitable(contents.root, head)
    tiles: list[np.ndarray] = []
    names: list[str] = []
    size = (_TILE, _TILE)
    for shot, posed in vertices.values():
        try:
            color, _ = shot.picture.read()
        except VultusError:
            continue  # it is among the findings
        camera = shot.parameters
        if head is None or color.shape[:2] != (camera.height, camera.width):
            continue
        if not tiles:
            factor = _TILE / max(camera.width, camera.height)
            size = max(1, round(camera.width * factor)), max(1, round(camera.height * factor))
        mesh, coverage = shaded_mesh(posed, head.faces, camera.resized(*size))
        picture = resize(to_float(color), *size)
        tiles.append(to_uint8(picture * (1 - 0.5 * coverage) + 0.5 * coverage * mesh))
        name = contents.camera_names.get(shot.camera, str(shot.camera))
        names.append(f"{shot.timestep} / {name}"[:18])
    if not tiles:
        return None
    rows = [tiles[start : start + 4] for start in range(0, len(tiles), 4)]
    return contact_sheet(rows, footer=f"timestep / camera: {', '.join(names)}")


def _other(path: Path) -> str:
    """What a file or folder that is no capture is."""
    from vultus.avatars import is_avatar

    if path.is_dir():
        if (path / "avatar.json").is_file() or (path / "avatar" / "avatar.json").is_file():
            return f"an avatar; look at it with: vultus view {path}"
        if is_avatar(path):
            return f"a trained avatar of GaussianAvatars; look at it with: vultus view {path} --head PATH_OF_FLAME"
        inside = _captures_in(path)
        if inside:
            listed = ", ".join(str(folder) for folder in inside[:6])
            return f"a folder with {len(inside)} captures in it; inspect one of them: {listed}"
        return _unknown(path)
    from vultus.images import media_kind
    from vultus.splats.formats import format_suffix

    if path.suffix == ".npz":
        from vultus.captures import head_of_motion, read_motion

        motion, (name, _) = read_motion(path), head_of_motion(path)
        return f"a motion of the head model {name}: {len(motion)} instants, {float(motion.times[-1]):.2f} s"
    try:
        return f"Gaussian splats ({format_suffix(path)})"
    except VultusError:
        pass
    kind = media_kind(path)
    return f"a {'photo' if kind == 'image' else 'video'}; make an avatar of it with: vultus create {path} -o runs/NAME"


def _captures_in(folder: Path) -> Sequence[Path]:
    """Captures up to three folders down, but not within each other."""
    from vultus.captures import layout_of

    below = [path for pattern in ("*", "*/*", "*/*/*") for path in sorted(folder.glob(pattern))[:500] if path.is_dir()]
    found: list[Path] = []
    for path in below:
        if not set(path.parents) & set(found) and layout_of(path) is not None:
            found.append(path)
    return found


def _unknown(path: Path) -> str:
    from vultus.captures import LAYOUTS

    known = "; ".join(f"{layout.title}: {layout.marks}" for layout in LAYOUTS.values())
    raise VultusError(f"{path}: is no capture of a layout that is known. {known}")
