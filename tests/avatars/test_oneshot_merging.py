"""One-shot avatars of several pictures: copies of one are that one, and every side comes from who saw it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from oneshot_samples import TINY, person, tiny_model, transform

from vultus import avatars
from vultus.avatars.oneshot import avatar_of_photo
from vultus.avatars.oneshot.generators import Attributes
from vultus.avatars.oneshot.geometry import transform_to_camera
from vultus.avatars.oneshot.head_space import head_vertices
from vultus.avatars.oneshot.merging import merged
from vultus.avatars.oneshot.model import SourceSplats, native_gaussians
from vultus.avatars.oneshot.options import CLEAN, RELEASED, UNITS
from vultus.avatars.oneshot.weights import About
from vultus.errors import VultusError
from vultus.splats import rasterize


@pytest.fixture(autouse=True)
def _own_networks(tmp_path, monkeypatch):
    monkeypatch.setenv("VULTUS_NETWORKS", str(tmp_path / "networks"))


def pictures(count, seed=1):
    return torch.rand(count, 32, 32, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("quirks", [RELEASED, CLEAN], ids=["released", "clean"])
def test_copies_of_one_picture_are_that_picture(head, quirks):
    model, image, place = tiny_model(quirks), pictures(1)[0], transform(0.2)
    one = model.reconstruct(image, place, person(head), head)
    three = model.reconstruct(image.expand(3, -1, -1, -1), place.expand(3, -1, -1), person(head), head)
    batch_of_one = model.reconstruct(image[None], place[None], person(head), head)
    assert (one.pictures, three.pictures) == (1, 3)
    assert three.count == one.count + 2 * (one.count - TINY.vertices)
    params = replace(person(head), expression=0.3 * torch.ones(len(head.expression_names)))
    camera = transform_to_camera(transform(-0.1), TINY.image_size)
    with torch.no_grad():
        a, b, c = (each.render(params, camera) for each in (one, three, batch_of_one))
    assert torch.equal(a.color, c.color)
    # Equally dense in the middle of a splat, a little denser towards its rim.
    torch.testing.assert_close(a.alpha, b.alpha, atol=0.05, rtol=0)
    torch.testing.assert_close(a.coarse, b.coarse, atol=0.1, rtol=0)
    assert float((a.alpha - b.alpha).abs().mean()) < 0.015
    vertices = slice(0, TINY.vertices)
    for name in ("features", "opacities", "scales", "rotations"):
        torch.testing.assert_close(getattr(three, name)[vertices], getattr(one, name)[vertices], atol=1e-5, rtol=1e-4)


def colored(head, colors, yaws, rest):
    """Sheets at the head model's surface, of one colour per picture, and vertices of the same."""
    architecture = replace(TINY, source_size=256, quirks=CLEAN)
    vertices = head_vertices(head, rest) * UNITS
    count = 2 * architecture.plane_size**2
    places = vertices[torch.linspace(0, len(vertices) - 1, count).long()]
    total = len(vertices) + count
    features = torch.stack([torch.tensor(color).expand(total, 3) for color in colors])
    attributes = Attributes(
        torch.cat([features, torch.zeros(len(colors), total, 5)], dim=-1),
        torch.full((len(colors), total, 1), 0.9),
        torch.full((len(colors), total, 3), 0.02),
        torch.tensor([1.0, 0, 0, 0]).expand(len(colors), total, 4),
    )
    splats = SourceSplats(attributes, places.expand(len(colors), -1, -1))
    return merged(splats, torch.stack([transform(yaw) for yaw in yaws]), vertices, head), vertices, architecture


def test_every_side_shows_the_picture_that_saw_it(head):
    rest = person(head)
    splats, vertices, architecture = colored(head, [(1.0, 0, 0), (0, 0, 1.0)], [1.2, -1.2], rest)
    gaussians = native_gaussians(splats, vertices[None], architecture)
    from vultus.avatars.oneshot.geometry import metres_to_native

    for yaw, own, other in ((1.2, 0, 2), (-1.2, 2, 0)):
        camera = metres_to_native(transform_to_camera(transform(yaw)[None], 64))
        raster = rasterize(gaussians, camera, settings=architecture.quirks.raster)
        color, alpha = raster.color[0], raster.alpha[0, ..., 0]
        solid = alpha > 0.95
        assert int(solid.sum()) > 400
        assert float(color[solid][:, own].mean()) > 10 * float(color[solid][:, other].mean())
    frontal = metres_to_native(transform_to_camera(transform(0.0)[None], 64))
    color = rasterize(gaussians, frontal, settings=architecture.quirks.raster).color[0]
    assert float(color[20:40, :30, 2].mean()) > float(color[20:40, :30, 0].mean())  # the right half of the face
    assert float(color[20:40, 34:, 0].mean()) > float(color[20:40, 34:, 2].mean())


def test_avatars_of_several_pictures_are_saved(head, tmp_path):
    model = tiny_model(CLEAN)
    avatar = model.reconstruct(
        pictures(2), torch.stack([transform(0.4), transform(-0.4)]), person(head), head, license="ours"
    )
    avatar.save(tmp_path / "avatar", standalone=True)
    again = avatars.load(tmp_path / "avatar")
    assert again.pictures == 2
    with torch.no_grad():
        a, b = (each.render(person(head), avatar.view) for each in (avatar, again))
    assert torch.equal(a.color, b.color)
    path = tmp_path / "avatar" / "avatar.json"
    for wrong in ('"pictures": 0', '"pictures": 3', '"pictures": "many"'):
        path.write_text(path.read_text().replace('"pictures": 2', wrong))
        with pytest.raises(VultusError):
            avatars.load(tmp_path / "avatar")
        path.write_text(path.read_text().replace(wrong, '"pictures": 2'))


def test_parts_left_out_are_left_out_of_every_picture(head):
    from vultus.avatars.oneshot.model import drawn_opacities
    from vultus.avatars.oneshot.options import Parts

    architecture = replace(TINY, parts=Parts(behind=False))
    sheet = architecture.plane_size**2
    drawn = drawn_opacities(torch.ones(1, TINY.vertices + 4 * sheet), architecture)[0]
    assert drawn[: TINY.vertices].all()
    groups = drawn[TINY.vertices :].unflatten(0, (4, sheet)).mean(1)
    assert groups.tolist() == [0, 1, 0, 1]


def test_captures_of_one_person_make_one_avatar(head, tmp_path, new_capture):
    captures = [new_capture(tmp_path / str(n), head, yaws=(yaw,)) for n, yaw in enumerate((0.6, -0.1, -0.6))]
    about = About(replace(TINY, quirks=CLEAN), head.name, head.fingerprint, "ours")
    avatar = avatar_of_photo(tiny_model(CLEAN), about, captures, head)
    assert avatar.pictures == 3
    single = avatar_of_photo(tiny_model(CLEAN), about, captures[1], head)
    # The view is that of the most frontal picture.
    assert torch.equal(avatar.view.world_to_camera, single.view.world_to_camera)
    torch.testing.assert_close(avatar.rest.identity, captures[0].motion.params[0].identity)
    assert avatar.labels.provenance["source"] == ["0", "1", "2"]
    with pytest.raises(VultusError, match="at least one"):
        avatar_of_photo(tiny_model(CLEAN), about, [], head)
