"""Whether pictures drive what a head model's coefficients may miss: a wink, the tongue.

    python benchmarks/picture_driver.py WORK --weights RUN_OR_FILE [--people 20]

The network (`vultus train oneshot --picture-code 32`) makes an avatar of a made-up person it never saw, from one
picture at rest. Another unknown person makes faces, and the pictures of that (not the parameters) drive the avatar.
Compared with the truth, the avatar's person making the same face: the vertices that this face moves by more than 1
mm, as the share of their displacement that arrives (1: all of it; regression through the origin), its correlation,
and the mean error in millimetres beside that of a face at rest; and PSNR where those vertices are seen, driven by
pictures, by the true coefficients, and at rest. For one face, only the vertices of what it is about are looked at:
the tongue's, the winking eye's lids. Intervals are 95 %, bootstrapped over people. Writes WORK/picture_driver.json
and .png.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from oneshot import FIRST_PERSON, interval, rounded
from torch import Tensor

from vultus.animation.arkit_motion import arkit_motion
from vultus.animation.builtin_motions import EXPRESSIONS
from vultus.avatars.oneshot import OneShotModel, load_model, require_skinned
from vultus.avatars.oneshot.head_space import at_rest, head_vertices, without_pose
from vultus.avatars.oneshot.options import FOCAL, UNITS
from vultus.cameras import Camera, look_at
from vultus.captures.gagavatar_records import record_of
from vultus.captures.studio import Studio, make_person, random_lighting
from vultus.files import write_json
from vultus.heads.arkit import arkit_weights
from vultus.heads.load import load_head
from vultus.heads.model import SkinnedHead
from vultus.images import psnr, to_uint8, write_png
from vultus.images.masks import dilate
from vultus.images.sheets import contact_sheet
from vultus.meshes import rasterize_mesh
from vultus.motion import HeadParams

FACES = {
    "wink": ("left_eyelid",),
    "tongue": ("tongue",),
    "kiss": ("lips",),
    "puff": ("face",),
    "open": ("face",),
    "laugh": ("face",),
}
"""Expressions, and what they are about."""
MOVED_METRES = 0.001
BOX = torch.tensor([0.2, 0.15, 0.8, 0.85])
SHOWN = 3


@dataclass(frozen=True)
class Shown:
    """A face of a person: at rest, making it, the place of the camera, and the picture."""

    rest: HeadParams
    params: HeadParams
    camera: Camera
    picture: Tensor


def faces_of(person: int, head: SkinnedHead, size: int, poses: np.random.Generator) -> dict[str, Shown]:
    """A made-up person at rest and with every face, each in a pose of its own; lids and gaze at rest as of pictures."""
    someone = make_person(FIRST_PERSON + person, head)
    studio = Studio(head, someone, random_lighting(FIRST_PERSON + person), wardrobe=True, size=size)
    weights = torch.stack([arkit_weights({}), *(arkit_weights(dict(EXPRESSIONS[name])) for name in FACES)])
    angles = torch.from_numpy(poses.normal(0, 1, (len(weights), 3)).clip(-2, 2) * np.radians([10, 5, 3])).float()
    motion = arkit_motion(head, weights, torch.arange(len(weights)), head_angles=angles, body_share=0.45)
    eye = torch.tensor([0.0, 0.05, 1.86])
    camera = Camera.from_focal(FOCAL * size / 2, size, size, look_at(eye, torch.tensor([0.0, 0.002, 0.0])))
    result = {}
    for row, name in enumerate(("rest", *FACES)):
        params = replace(motion.params[row], identity=someone.identity)
        with torch.no_grad():
            picture = studio.render(params, camera).over(0.0)
        result[name] = Shown(at_rest(head, params), params, camera, picture)
    return result


def compared(
    model: OneShotModel, head: SkinnedHead, people: int
) -> Iterator[tuple[dict[str, dict[str, float]], list[list[Tensor]]]]:
    """Per pair of people and face: figures; and for the sheet driving picture, truth, driven by picture, by the true
    coefficients."""
    driver, size = model.picture_driver, model.architecture.image_size
    if driver is None:
        raise SystemExit("the network has no picture driver; train one with --picture-code 32")
    poses = np.random.default_rng(7)
    for number in range(people):
        acting, worn = (faces_of(2 * number + k, head, size, poses) for k in (0, 1))
        start = worn["rest"]
        record = record_of(head, start.params, start.camera, BOX)
        avatar = model.reconstruct(
            start.picture, torch.from_numpy(record.transform_matrix.copy()), without_pose(head, start.params), head
        )
        figures, rows = {}, []
        for name, regions in FACES.items():
            truth = worn[name]
            shown = acting[name]
            with torch.no_grad():
                taken = torch.from_numpy(record_of(head, shown.params, shown.camera, BOX).transform_matrix.copy())
                person = head_vertices(head, shown.rest)[None] * UNITS
                code = driver(shown.picture.movedim(-1, 0)[None], person, taken[None])
                moved = driver.displacements(code)[0] / UNITS
                still = head_vertices(head, truth.rest)
                true = head_vertices(head, truth.params) - still
                about = torch.cat([head.regions[region] for region in regions])
                about = about[true[about].norm(dim=-1) > MOVED_METRES]
                camera = truth.camera
                skull = head.head_to_world(truth.params)
                seen = replace(camera, world_to_camera=camera.world_to_camera @ skull)
                drawn = {
                    "pictures": replace(truth.rest, offset=moved),
                    "coefficients": without_pose(head, truth.params),
                    "rest": truth.rest,
                }
                images = {way: avatar.render(params, seen).color.clamp(0, 1) for way, params in drawn.items()}
            where = place_of(still + true, about, head, seen)
            a, b = true[about].flatten(), moved[about].flatten()
            figures[name] = {
                "share": float(a @ b / (a @ a)),
                "correlation": float(torch.corrcoef(torch.stack([a, b]))[0, 1]),
                "millimetres": 1000 * float((true - moved)[about].norm(dim=-1).mean()),
                "millimetres at rest": 1000 * float(true[about].norm(dim=-1).mean()),
                **{f"psnr, {way}": float(psnr(image, truth.picture, weight=where)) for way, image in images.items()},
            }
            rows.append([acting[name].picture, truth.picture, images["pictures"], images["coefficients"]])
        yield figures, rows


def place_of(vertices: Tensor, about: Tensor, head: SkinnedHead, camera: Camera) -> Tensor:
    """Where triangles with these vertices are seen, and a few pixels around."""
    chosen = torch.zeros(len(vertices), dtype=torch.bool)
    chosen[about] = True
    shown = rasterize_mesh(vertices, head.faces, camera).face_ids
    inside = (shown >= 0) & chosen[head.faces[shown.clamp(min=0)]].any(-1)
    return dilate(inside[..., None].float(), max(1, camera.width // 64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--people", type=int, default=20)
    options = parser.parse_args()
    head = require_skinned(load_head())
    model = load_model(options.weights)[0]
    values: dict[str, dict[str, list[float]]] = {}
    sheet: list[list[np.ndarray]] = []
    for figures, rows in compared(model, head, options.people):
        for name, own in figures.items():
            for what, value in own.items():
                if math.isfinite(value):
                    values.setdefault(name, {}).setdefault(what, []).append(value)
        if len(sheet) < SHOWN * len(FACES):
            sheet += [[to_uint8(image) for image in row] for row in rows]
    report = {
        name: {what: interval(np.array(each)) for what, each in figures.items()} for name, figures in values.items()
    }
    write_json(options.work / "picture_driver.json", rounded({"people": options.people, **report}))
    columns = ["driving picture", "truth", "driven by it", "by coefficients"]
    labels = [name for _ in range(SHOWN) for name in FACES]
    write_png(options.work / "picture_driver.png", contact_sheet(sheet, column_labels=columns, row_labels=labels))
    print((options.work / "picture_driver.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
