"""FLAME as the command line loads it, with the teeth that Vultus appends: published networks know it without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from flame_files import VERTICES, write_egg
from oneshot_samples import TINY, transform

from vultus import avatars
from vultus.avatars.oneshot import CLEAN, OneShotModel, OneShotSettings, train
from vultus.avatars.oneshot.frames import Frame, MemoryFrames
from vultus.avatars.oneshot.geometry import transform_to_camera
from vultus.avatars.oneshot.head_space import head_vertices, network_offset, network_vertices
from vultus.errors import VultusError
from vultus.heads.builtin import load_builtin
from vultus.heads.flame import load_flame
from vultus.heads.load import load_head

PUBLISHED = replace(TINY, vertices=VERTICES, quirks=CLEAN)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_egg(tmp_path_factory.mktemp("flame") / "model")


def person(head, expression=0.0):
    neutral = head.neutral()
    generator = torch.Generator().manual_seed(4)
    return replace(
        neutral,
        identity=torch.randn(neutral.identity.shape, generator=generator) * (torch.arange(300) < 3),
        expression=torch.full_like(neutral.expression, expression),
    )


def test_teeth_are_not_the_networks(folder):
    head, bare = load_head(folder), load_flame(folder, with_teeth=False)
    assert len(head.template) == VERTICES + 120
    assert network_vertices(head) == network_vertices(bare) == VERTICES
    assert network_vertices(load_builtin()) == len(load_builtin().template)
    torch.testing.assert_close(head_vertices(head, person(head)), head_vertices(bare, person(bare)))
    moved = torch.rand(2, VERTICES, 3)
    offset = network_offset(head, moved)
    assert offset.shape == (2, VERTICES + 120, 3)
    assert torch.equal(offset[:, :VERTICES], moved)
    assert float(offset[:, VERTICES:].abs().max()) == 0


@pytest.mark.parametrize("pictures", [1, 2])
def test_avatars_are_the_same_with_teeth_and_without(folder, pictures, tmp_path, monkeypatch):
    """Made, drawn, saved and opened, of one picture and of two."""
    monkeypatch.setenv("VULTUS_NETWORKS", str(tmp_path / "networks"))
    torch.manual_seed(0)
    model = OneShotModel(PUBLISHED).eval()
    photos = torch.rand(pictures, 32, 32, 3)
    views = torch.stack([transform(0.4 * n) for n in range(pictures)])
    images = []
    for head in (load_head(folder), load_flame(folder, with_teeth=False)):
        avatar = model.reconstruct(photos, views, person(head), head)
        name = tmp_path / f"{len(head.template)}"
        avatar.save(name)
        opened = avatars.load(name, head=head)
        camera = transform_to_camera(transform(0.1), 48)
        with torch.no_grad():
            images += [each.render(person(head, 0.5), camera).color for each in (avatar, opened)]
    for image in images[1:]:
        torch.testing.assert_close(image, images[0], atol=1e-5, rtol=0)
    assert float(images[0].std()) > 0.01


def test_networks_trained_on_flame_have_the_published_size(folder, tmp_path):
    head = load_head(folder)
    frames = [
        Frame(
            (torch.rand(32, 32, 3) * 255).byte(),
            person(head, 0.3 * n),
            transform(0.2 * n),
            torch.tensor([0.1, 0.1, 0.9, 0.9]),
        )
        for n in range(2)
    ]
    settings = OneShotSettings("small", PUBLISHED, steps=1, batch=1, train_vit=True, noise="stored", tensorboard=False)
    model = train(MemoryFrames(head, frames, [[0, 1]]), tmp_path / "run", settings)
    assert model.head_base.shape[0] == VERTICES
    with_teeth = replace(settings, architecture=replace(PUBLISHED, vertices=VERTICES + 120))
    with pytest.raises(VultusError, match=f"which has {VERTICES}"):
        train(MemoryFrames(head, frames, [[0, 1]]), tmp_path / "other", with_teeth)
