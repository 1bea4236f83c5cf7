"""vultus export"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


def export(
    avatar: Positional[Path],
    output: Annotated[Path, arg(aliases=["-o"])],
    *,
    head: str | None = None,
    driver: Annotated[str | None, arg(aliases=["-d"])] = None,
    at: float = 0.0,
    expression_gain: float = 1.0,
    axes: Literal["rub", "rdf"] | None = None,
    sh_degree: int | None = None,
    spz_version: Literal[2, 3] = 3,
    layout: Literal["gaussian-avatars", "vultus"] | None = None,
) -> None:
    """Write an avatar, posed, as Gaussian splats for other programs: .ply, .compressed.ply, .splat, .spz or .glb.

    With --layout, write the whole avatar, to be animated and trained further, as a folder.

    Args:
        avatar: Folder of the avatar.
        output: File to write; the end of its name says the format.
        head: Head model the avatar was made with: path of a model file or folder; default: the built-in one.
        driver: Whose pose it takes, as for `vultus animate` (motion.npz, builtin:expressions, a photo ...); default:
            the person at rest.
        at: Seconds from the driver's start.
        expression_gain: Exaggerate (above 1) or calm (below 1) the driver's expression.
        axes: rub: y up, z to the viewer; rdf: y down, z away; default: what other programs expect of the format.
        sh_degree: Highest degree of spherical harmonics; default: all there are and the format holds.
        spz_version: Version of an .spz file.
        layout: OUTPUT is a folder: gaussian-avatars: as GaussianAvatars saves its own (needs an avatar on FLAME);
            vultus: ours, for avatars that were opened from another layout.
    """
    from vultus.animation import Retargeting, load_driver
    from vultus.avatars import load
    from vultus.cli.terminal import progress_bars
    from vultus.exports.splats import export_splats
    from vultus.heads.load import load_head
    from vultus.splats.formats import format_suffix

    if layout is not None:
        from vultus.exports.folders import export_folder

        for sentence in export_folder(load(avatar, head=None if head is None else load_head(head)), output, layout):
            print(f"note           {sentence}")
        print(f"avatar         {output}")
        return
    format_suffix(output)  # a wrong name is said before a driver is tracked for a minute
    opened = load(avatar, head=None if head is None else load_head(head))
    with progress_bars() as progress:
        motion = None if driver is None else load_driver(driver, opened.head, progress=progress)
    written = export_splats(
        opened,
        output,
        driver=motion,
        at=at,
        retargeting=Retargeting(expression_gain=expression_gain),
        axes=axes,
        sh_degree=sh_degree,
        spz_version=spz_version,
    )
    count = len(written.order)
    exact = "as float32" if written.position_error == 0 else f"within {1000 * written.position_error:.2g} mm"
    print(f"splats         {written.path}")
    print(f"               {count} splats of {written.bytes / count:.1f} bytes, positions {exact}")


COMMAND = export
