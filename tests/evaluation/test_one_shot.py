"""`vultus evaluate` of a one-shot network: pairs, figures, faces, resuming, and what it refuses."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flame_files import VERTICES, write_egg
from oneshot_samples import TINY, person, tiny_model, transform
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from test_evaluate import Interrupted, MeanColour, StoredFaces

from vultus.avatars.oneshot import CLEAN, About, OneShotAvatar, OneShotModel, held_out_pairs, save_model
from vultus.avatars.oneshot.geometry import transform_to_camera
from vultus.avatars.oneshot.head_space import at_rest
from vultus.captures.gagavatar_lmdb import TrackedPictures, write_tracked
from vultus.captures.gagavatar_records import record_of
from vultus.cli import run
from vultus.errors import VultusError
from vultus.evaluation.faces import ENLARGED, Faces, face_window, shown_in
from vultus.evaluation.one_shot import network_comparisons
from vultus.evaluation.pairs import PairChoice, default_pairs, read_pairs, write_pairs
from vultus.evaluation.session import Instruments
from vultus.evaluation.tracked_faces import tracked_distance
from vultus.files.lmdb import LmdbReader
from vultus.files.lmdb_writing import write_lmdb
from vultus.heads.builtin import load_builtin
from vultus.images import read_image
from vultus.workflows.evaluate import EvaluateRequest, open_and_evaluate
from vultus.workflows.evaluate_oneshot import PairRequest, evaluate_network

SIZE, FACE = 32, 40
QUICK = EvaluateRequest(heat_maps=False, worst=0, pairs=PairRequest(split="all", face_size=FACE))


def png(picture: torch.Tensor) -> bytes:
    stream = io.BytesIO()
    Image.fromarray((picture.clamp(0, 1) * 255).round().byte().numpy()).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def head():
    return load_builtin()


@pytest.fixture(scope="module")
def network(head, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("network")
    about = About(replace(TINY, quirks=CLEAN), head.name, head.fingerprint, "ours", "not at all")
    save_model(tiny_model(CLEAN), folder / "model.safetensors", about)
    return folder


@pytest.fixture(scope="module")
def data(head, tmp_path_factory) -> Path:
    """Three people of three frames each: the first is noise, the others what the network makes of it."""
    model, generator = tiny_model(CLEAN), torch.Generator().manual_seed(5)
    box = np.array([0.2, 0.2, 0.8, 0.8], np.float32)

    def frames():
        for number in range(3):
            someone = person(head, number)
            first = (torch.rand(SIZE, SIZE, 3, generator=generator) * (number + 1) / 3 * 255).round() / 255
            avatar = model.reconstruct(first, transform(0.0), at_rest(head, someone), head)
            for frame in range(3):
                expression = torch.rand(len(head.expression_names), generator=generator) * 0.4 * (frame > 0)
                params = replace(someone, expression=expression)
                camera = transform_to_camera(transform(0.15 * frame), SIZE)
                with torch.no_grad():
                    picture = first if frame == 0 else avatar.render(params, camera).color
                yield f"p{number}_{frame}", png(picture), record_of(head, params, camera, box)

    folder = tmp_path_factory.mktemp("data") / "people"
    keys = [f"p{number}_{frame}" for number in range(3) for frame in range(3)]
    write_tracked(folder, frames(), head, {"train": keys[:3], "val": [], "test": keys[6:]})
    return folder


def test_the_published_rule(data):
    frames = TrackedPictures(data)
    pairs = default_pairs(frames, PairChoice())
    for protocol, crossed in (("self-reenactment", False), ("cross-reenactment", True)):
        numbers = [(pair.source, pair.target) for pair in pairs if pair.protocol == protocol]
        assert sorted(numbers) == sorted(held_out_pairs(frames.clips, crossed=crossed))
    named = {(p.source_name, p.target_name) for p in pairs if p.protocol == "cross-reenactment"}
    assert named == {(f"p{(n + 1) % 3}_0", f"p{n}_{f}") for n in range(3) for f in (1, 2)}
    assert len(default_pairs(frames, PairChoice(frames_per_clip=2))) == 6
    strided = default_pairs(frames, PairChoice(stride=2, protocols=("self-reenactment",)))
    assert [pair.target_name for pair in strided] == ["p0_2", "p1_2", "p2_2"]
    assert len(default_pairs(frames, PairChoice(most=2))) == 4
    for wrong in (PairChoice(stride=0), PairChoice(frames_per_clip=1), PairChoice(most=-1)):
        with pytest.raises(VultusError, match="stride"):
            default_pairs(frames, wrong)


class Named:
    """Clips of these lengths."""

    def __init__(self, lengths, names=None):
        ends = np.cumsum([0, *lengths])
        self.clips = [list(range(a, b)) for a, b in itertools.pairwise(ends.tolist())]
        self.clip_names = names or [f"c{n}" for n in range(len(lengths))]
        self._names = [f"{self.clip_names[n]}/{i}" for n, clip in enumerate(self.clips) for i in range(len(clip))]

    def frame_name(self, index):
        return self._names[index]


def test_drawn_pairs_never_drive_themselves_and_use_every_clip_once():
    frames = Named([3, 0, 2, 5, 1, 4])
    seen = set()
    for seed in range(12):
        pairs = default_pairs(frames, PairChoice(("cross-reenactment",), seed=seed))
        assert pairs == default_pairs(frames, PairChoice(("cross-reenactment",), seed=seed))
        by_target = {pair.target_clip: pair.source_clip for pair in pairs}
        assert all(target != source for target, source in by_target.items())
        assert len(set(by_target.values())) == len(by_target) == 4
        assert len(pairs) == 2 + 1 + 4 + 3
        seen.add(tuple(sorted(by_target.items())))
    assert len(seen) > 3
    assert default_pairs(Named([4]), PairChoice(("cross-reenactment",))) == []
    assert held_out_pairs([[0, 1]], crossed=True) == []


def test_lists_of_pairs_come_back(tmp_path):
    frames = Named([3, 3], ["a, b", 'say "c"'])
    choice = PairChoice(seed=1)
    pairs = default_pairs(frames, choice)
    write_pairs(tmp_path / "pairs.csv", pairs)
    assert read_pairs(tmp_path / "pairs.csv", frames, choice) == pairs
    only = replace(choice, protocols=("self-reenactment",))
    assert read_pairs(tmp_path / "pairs.csv", frames, only) == [p for p in pairs if p.protocol == only.protocols[0]]


def test_lists_written_by_hand(tmp_path):
    frames, path = Named([4, 3, 0, 1]), tmp_path / "mine.csv"
    # Whole clips, a frame of the middle as source, no protocol, further columns, twice the same, a byte order mark.
    path.write_bytes(b"\xef\xbb\xbftarget,source,why\r\nc1,c0,x\r\nc0/3,c0/2,\r\nc1/2,c0/0,again\r\n")
    found = [(p.protocol, p.source_name, p.target_name) for p in read_pairs(path, frames, PairChoice())]
    assert found == [
        ("self-reenactment", "c0/2", "c0/3"),
        ("cross-reenactment", "c0/0", "c1/1"),
        ("cross-reenactment", "c0/0", "c1/2"),
    ]
    assert len(read_pairs(path, frames, PairChoice(("cross-reenactment",), stride=2))) == 1
    for text, message in (
        ("source,target\nc0,c9\n", r"line 2.*'c9'.*split all"),
        ("source,target\nc0,c1\n,c1\n", "line 3"),
        ("source,target\nc2,c1\n", "no picture in which the head"),
        ("source,target\nc0,c3\n", "no frame but its first"),
        ("protocol,source,target\nself-reenactment,c0,c1\n", "not of one clip"),
        ("protocol,source,target\nother,c0,c1\n", "no protocol 'other'"),
        ("a,b\nc0,c1\n", "column 'source'"),
        ("source,target\n", "no pairs"),
        ("", "column"),
    ):
        path.write_text(text)
        with pytest.raises(VultusError, match=message):
            read_pairs(path, frames, PairChoice())
    path.write_bytes(b"source,target\n\xff\xfe\n")
    with pytest.raises(VultusError, match="UTF-8"):
        read_pairs(path, frames, PairChoice())
    with pytest.raises(VultusError, match="none"):
        read_pairs(tmp_path / "none.csv", frames, PairChoice())


def test_what_the_network_itself_drew_is_found_right(network, data, head, tmp_path):
    """Limited by eight bits only; and the figures of faces are scikit-image's of crops that Pillow made."""
    result = evaluate_network(network, data, tmp_path / "a", replace(QUICK, protocol="self-reenactment")).content
    protocol = result["protocols"]["self-reenactment"]
    assert protocol["pictures"] == 6
    assert protocol["mean"]["image"]["psnr"] > 48
    assert protocol["mean"]["face"]["psnr"] > 46
    assert set(protocol["by_target_clip"]) == {"p0", "p1", "p2"}
    # Another network's are not.
    other = tmp_path / "other.safetensors"
    save_model(tiny_model(CLEAN, seed=1), other, About(replace(TINY, quirks=CLEAN)))
    request = replace(QUICK, protocol="self-reenactment", most=2)
    rows = evaluate_network(other, data, tmp_path / "b", request).content["protocols"]["self-reenactment"]["views"]
    frames = TrackedPictures(data)
    pairs = default_pairs(frames, PairChoice(("self-reenactment",), most=2))
    comparisons = network_comparisons(tiny_model(CLEAN, seed=1), About(), frames, pairs, face_size=FACE)
    for row, pair, comparison in zip(rows, pairs, comparisons, strict=True):
        assert (row["source"], row["target"]) == (pair.source_name, pair.target_name)
        shown = comparison.show()
        camera = transform_to_camera(frames.frame(pair.target).transform, SIZE)
        points = camera.project(head.landmarks(head.pose(frames.params(pair.target)).vertices, "ibug68")).numpy()
        five = [points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]]
        extent = np.ptp(five, axis=0).max()
        window = face_window(head, head.pose(frames.params(pair.target)).vertices, camera)
        assert abs(window.width - ENLARGED * extent) <= 0.5
        corners = (window.left, window.top, window.left + window.width, window.top + window.height)
        crops = []
        for picture in (shown.prediction, shown.target):
            planes = [Image.fromarray(plane.numpy()).crop(corners) for plane in picture.movedim(-1, 0)]
            crops.append(np.stack([p.resize((FACE, FACE), Image.Resampling.BILINEAR) for p in planes], -1))
        assert row["face"]["psnr"] == pytest.approx(peak_signal_noise_ratio(crops[1], crops[0], data_range=1), abs=1e-2)
        similarity = structural_similarity(
            *crops, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
        )
        assert row["face"]["ssim"] == pytest.approx(float(similarity), abs=1e-3)
        assert row["image"]["psnr"] == pytest.approx(
            peak_signal_noise_ratio(shown.target.numpy(), shown.prediction.numpy(), data_range=1), abs=1e-2
        )


def test_windows_reach_beyond_the_picture(head):
    picture = torch.rand(20, 20, 3)
    camera = transform_to_camera(transform(0.0), 20).cropped(9, 0, 11, 20)
    window = face_window(head, head.template, camera)
    assert window.left < 0
    assert float(shown_in(picture, window, 30)[:, 0].abs().max()) == 0
    behind = replace(camera, world_to_camera=torch.diag(torch.tensor([1.0, 1, -1, 1])) @ camera.world_to_camera)
    with pytest.raises(VultusError, match="in front"):
        face_window(head, head.template, behind)
    with pytest.raises(VultusError, match="--no-crop"):
        face_window(replace_landmarks(head), head.template, camera)


def replace_landmarks(head):
    import copy

    bare = copy.copy(head)
    bare.landmark_sets = {}
    return bare


class Codes:
    """A network whose answer is what a picture's mean colour is times a number."""

    name = "codes"

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, image):
        return torch.from_numpy(image.reshape(-1, 3).mean(0) * self.factor)


def test_in_cross_reenactment_people_are_compared_with_the_source(network, data, tmp_path):
    instruments = Instruments(identity=MeanColour(), expression=Codes(1.0), pose=Codes(2.0))
    request = replace(QUICK, pairs=replace(QUICK.pairs, face_size=0))
    result = evaluate_network(network, data, tmp_path, request, instruments=instruments).content
    rows = result["protocols"]["cross-reenactment"]["views"]
    assert len(rows) == 6
    frames = TrackedPictures(data)
    pairs = {(p.source_name, p.target_name): p for p in default_pairs(frames, PairChoice(("cross-reenactment",)))}
    comparisons = network_comparisons(tiny_model(CLEAN), About(), frames, list(pairs.values()), face_size=0)
    for row, comparison in zip(rows, comparisons, strict=True):
        assert "image" not in row
        shown = comparison.show()
        means = [
            (picture * 255).round().reshape(-1, 3).mean(0).numpy()
            for picture in (shown.prediction, shown.source, shown.target)
        ]
        cosine = means[0] @ means[1] / np.linalg.norm(means[0]) / np.linalg.norm(means[1])
        assert row["identity_similarity"] == pytest.approx(cosine, abs=1e-5)
        assert row["expression_distance"] == pytest.approx(np.abs(means[0] - means[2]).mean(), rel=1e-4)
        assert row["pose_distance"] == pytest.approx(2 * np.abs(means[0] - means[2]).mean(), rel=1e-4)
    same = result["protocols"]["self-reenactment"]["views"]
    assert all(row["identity_similarity"] > 0.999 for row in same)
    assert "colours in cross-reenactment" in result["not_measured"]
    assert {"LPIPS", "AKD"} <= set(result["not_measured"])


def test_our_own_fit_measures_expression_and_pose(head):
    """On faces whose points are known exactly."""
    someone = person(head, 1)
    camera = transform_to_camera(transform(0.0), 512)

    def points(yaw=0.0, jaw=0.0):
        joints = {"root": torch.tensor([0.0, yaw, 0.0]), "jaw": torch.tensor([jaw, 0, 0])}
        vertices = head.pose(replace(someone, joints=joints)).vertices
        return camera.project(head.landmarks(vertices, "ibug68")).numpy().astype(np.float32)

    smiling = replace(someone, expression=torch.zeros(len(head.expression_names)))
    for name in ("mouthSmileLeft", "mouthSmileRight"):
        smiling.expression[head.expression_names.index(name)] = 0.7
    smile = camera.project(head.landmarks(head.pose(smiling).vertices, "ibug68")).numpy().astype(np.float32)
    detector = StoredFaces({0: points(), 51: points(yaw=0.3), 102: smile, 153: None})

    def between(first, second):
        pictures = [torch.full((512, 512, 3), value / 255) for value in (first, second)]
        faces = Faces(*pictures, pictures[0], (someone, someone), head, float(camera.K[0, 0]))
        return tracked_distance(detector, faces)

    same, turned, happy = between(0, 0), between(51, 0), between(102, 0)
    assert same is not None
    assert turned is not None
    assert happy is not None
    assert same.expression == same.pose == 0
    assert turned.pose == pytest.approx(0.1, abs=0.02)  # 0.3 radians about one axis of three
    assert happy.pose < 0.02
    assert happy.expression > 0.01
    assert between(153, 0) is None


def test_the_command_and_its_files(network, data, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["evaluate", str(network), str(data), "-o", str(out), "--split", "all", "--crop-size", "40"]
    assert run([*command, "--worst", "4"]) == 0
    printed = capsys.readouterr().out
    for text in ("self-reenactment 6 pictures", "cross-reenactment 6 pictures", "face:", "not measured", "--identity"):
        assert text in printed
    content = json.loads((out / "evaluation.json").read_text())
    assert content["face_size"] == 40
    page = (out / "evaluation.md").read_text()
    assert "| self-reenactment | 6 | face |" in page
    assert "3 x the box of five points" in page
    sheets = [read_image(out / f"{name}.png") for name in ("self-reenactment", "cross-reenactment")]
    assert all(sheet.shape[0] > 4 * 280 for sheet in sheets)
    assert sheets[0].shape[1] > sheets[1].shape[1]  # the error has a column where there is truth
    assert not (out / "worst_frames.png").exists()
    assert len(list((out / "errors").rglob("*.png"))) == 6
    table = (out / "figures.csv").read_text().splitlines()
    assert len(table) == 13
    assert table[0].startswith("protocol,source,target,source_clip,target_clip,face_psnr")
    # Its own list gives the same again; without crops or of one protocol only, it is another evaluation.
    before = (out / "figures.csv").read_bytes()
    assert run([*command, "--pairs", str(out / "pairs.csv"), "--worst", "4"]) == 0
    assert (out / "figures.csv").read_bytes() == before
    assert run([*command, "--no-crop"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    # By default the test split: of one person, so that nobody drives another.
    assert run(["evaluate", str(network), str(data), "-o", str(tmp_path / "test"), "--no-crop", "--worst", "0"]) == 0
    printed = capsys.readouterr().out
    assert "self-reenactment 2 pictures" in printed
    assert "cross-reenactment: needs two clips" in printed


def test_an_interrupted_evaluation_of_a_network_goes_on(network, data, tmp_path):
    def stop(stage, done, total, figures):
        if done == 7:
            raise Interrupted

    request = replace(QUICK, worst=2)
    with pytest.raises(Interrupted):
        evaluate_network(network, data, tmp_path / "a", request, progress=stop)
    assert len((tmp_path / "a" / "views.jsonl").read_bytes().splitlines()) == 8
    evaluate_network(network, data, tmp_path / "a", request)
    evaluate_network(network, data, tmp_path / "b", request)
    for name in ("evaluation.json", "evaluation.md", "figures.csv", "pairs.csv", "self-reenactment.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    with pytest.raises(VultusError, match="--overwrite"):
        evaluate_network(network, data, tmp_path / "a", replace(request, pairs=replace(request.pairs, seed=3)))


def test_a_folder_of_captures(rig, network, tmp_path):
    people = tmp_path / "people"
    for name in ("ann", "bob"):
        shutil.copytree(rig.capture.root, people / name)
    result = open_and_evaluate(network, people, tmp_path / "out", replace(QUICK, most=1, pairs=PairRequest()))
    rows = [protocol["views"][0] for protocol in result.content["protocols"].values()]
    assert (rows[0]["source"], rows[0]["target"]) == ("ann/0/0", "ann/0/1")
    assert (rows[1]["source"], rows[1]["target_clip"]) == ("ann/0/0", "bob")
    with pytest.raises(VultusError, match="has no splits"):
        open_and_evaluate(network, people, tmp_path / "x", replace(QUICK, pairs=PairRequest(split="test")))
    # Clips in which the head was never found are said, and not in pairs.
    file = people / "bob" / "motion.npz"
    arrays = dict(np.load(file))
    np.savez(file, **{**arrays, "valid": np.zeros_like(arrays["valid"])})
    request = replace(QUICK, most=1, pairs=PairRequest())
    result = open_and_evaluate(network, people, tmp_path / "out2", request).content
    assert list(result["protocols"]) == ["self-reenactment"]
    assert "head was found" in result["not_measured"]["clips bob"]


def broken(data: Path, folder: Path, key: str | None, picture: bytes | None) -> Path:
    """A copy of a data set with a picture replaced, or without it."""
    shutil.copytree(data, folder)
    reader = LmdbReader(data / "img_lmdb")
    entries = {k: reader[k] for k in (f"p{n}_{f}".encode() for n in range(3) for f in range(3))}
    if picture is None:
        del entries[key.encode()]
    else:
        entries[key.encode()] = picture
    shutil.rmtree(folder / "img_lmdb")
    write_lmdb(folder / "img_lmdb", iter(sorted(entries.items())))
    return folder


def test_broken_data_is_named(network, data, head, tmp_path):
    whole = LmdbReader(data / "img_lmdb")[b"p1_2"]
    tall = io.BytesIO()
    Image.new("RGB", (20, 30)).save(tall, "PNG")
    for number, (picture, message) in enumerate(
        ((whole[: len(whole) // 2], "p1_2.*damaged"), (b"", "p1_2"), (tall.getvalue(), "p1_2.*20x30"), (None, "p1_2"))
    ):
        folder = broken(data, tmp_path / f"d{number}", "p1_2", picture)
        with pytest.raises(VultusError, match=message):
            evaluate_network(network, folder, tmp_path / f"o{number}", QUICK)
    records = pickle.loads((data / "optim.pkl").read_bytes())
    for number, change in enumerate(
        (
            lambda r: r["p2_1"].pop("expcode"),
            lambda r: r["p2_1"].update(transform_matrix=np.zeros((3, 4), np.float32)),
            lambda r: r["p2_1"].update(shapecode=np.full(300, np.nan, np.float32)),
            lambda r: r.update({"p2": r.pop("p2_1")}),
        )
    ):
        changed = {key: dict(value) for key, value in records.items()}
        change(changed)
        folder = tmp_path / f"r{number}"
        shutil.copytree(data, folder)
        (folder / "optim.pkl").write_bytes(pickle.dumps(changed))
        with pytest.raises(VultusError, match="p2"):
            evaluate_network(network, folder, tmp_path / "x", QUICK)


def test_what_does_not_fit_is_refused(rig, network, data, head, tmp_path):
    stranger = tmp_path / "stranger.safetensors"
    about = About(replace(TINY, quirks=CLEAN), "FLAME2020", "0" * 64)
    save_model(tiny_model(CLEAN), stranger, about)
    with pytest.raises(VultusError, match=r"trained with the head model FLAME2020.*builtin"):
        evaluate_network(stranger, data, tmp_path / "x", QUICK)
    small = tmp_path / "small.safetensors"
    fewer = replace(TINY, vertices=50)
    save_model(OneShotModel(fewer), small, About(fewer))
    with pytest.raises(VultusError, match=r"50 vertices.*--head"):
        evaluate_network(small, data, tmp_path / "x", QUICK)
    for request, message in (
        (replace(QUICK, protocol="novel-view"), "no protocol novel-view"),
        (replace(QUICK, cut_neck=True), "are for avatars"),
        (replace(QUICK, pairs=PairRequest(face_size=7)), "7 pixels"),
        (replace(QUICK, pairs=PairRequest(split="val")), "has no split|makes no pairs"),
        (replace(QUICK, pairs=PairRequest(split="all", file=tmp_path / "none.csv")), "none.csv"),
    ):
        with pytest.raises(VultusError, match=message):
            evaluate_network(network, data, tmp_path / "x", request)
    with pytest.raises(VultusError, match="holds no captures"):
        evaluate_network(network, tmp_path, tmp_path / "x", QUICK)
    with pytest.raises(VultusError, match="vultus track"):
        evaluate_network(network, small, tmp_path / "x", QUICK)
    with pytest.raises(VultusError, match="no such file"):
        open_and_evaluate(tmp_path / "none.pt", data, tmp_path / "x", QUICK)
    rig.avatar().save(tmp_path / "avatar")
    for request, message in (
        (replace(QUICK, pairs=PairRequest(), protocol="cross-reenactment"), "no one-shot network"),
        (replace(QUICK, pairs=PairRequest(stride=2)), "stride"),
        (replace(QUICK, pairs=PairRequest(), fit_faces=True), "--fit-faces"),
    ):
        with pytest.raises(VultusError, match=message):
            open_and_evaluate(tmp_path / "avatar", rig.capture.root, tmp_path / "x", request)


def test_pictures_tracked_with_flame(data, tmp_path):
    """As the published program leaves them: nothing says which head model, so it has to be given, and it has no points
    of the face."""
    flame = str(write_egg(tmp_path / "flame"))
    foreign = tmp_path / "foreign"
    shutil.copytree(data, foreign)
    (foreign / "head.json").unlink()
    records = pickle.loads((data / "optim.pkl").read_bytes())
    for record in records.values():
        record["shapecode"][5:], record["expcode"][5:] = 0, 0
    (foreign / "optim.pkl").write_bytes(pickle.dumps(records))
    published = replace(TINY, vertices=VERTICES)
    torch.save({"model": OneShotModel(published).state_dict()}, tmp_path / "GAGAvatar.pt")
    save_model(OneShotModel(published), tmp_path / "network.safetensors", About(published))
    network = tmp_path / "network.safetensors"
    with pytest.raises(VultusError, match="--head PATH"):
        evaluate_network(network, foreign, tmp_path / "x", QUICK)
    with pytest.raises(VultusError, match=r"--no-crop"):
        evaluate_network(network, foreign, tmp_path / "x", QUICK, head=flame)
    whole = replace(QUICK, most=2, pairs=PairRequest(split="all", face_size=0))
    result = evaluate_network(network, foreign, tmp_path / "out", whole, head=flame).content
    assert [protocol["pictures"] for protocol in result["protocols"].values()] == [2, 2]
    # Weights of another size than the published are said to be.
    with pytest.raises(VultusError, match=r"GAGAvatar\.pt.*another network"):
        evaluate_network(tmp_path / "GAGAvatar.pt", foreign, tmp_path / "y", whole, head=flame)


def test_networks_that_pictures_drive_are_driven_by_pictures(data, head, tmp_path):
    """The target's coefficients then say nothing, its picture does."""
    about = About(replace(TINY, quirks=CLEAN, picture_code=6), head.name, head.fingerprint)
    torch.manual_seed(2)
    model = OneShotModel(about.architecture).eval()
    assert model.picture_driver is not None
    model.picture_driver.begin(TrackedPictures(data), torch.Generator().manual_seed(0))
    with torch.no_grad():
        for value in model.picture_driver.to_mixture.parameters():
            value.mul_(30)  # untrained, it says next to nothing

    class Changed:
        """The same frames, those of targets with another picture or other coefficients."""

        def __init__(self, frames, *, picture=False, expression=False):
            self._frames, self._picture, self._expression = frames, picture, expression

        def __getattr__(self, name):
            return getattr(self._frames, name)

        def frame(self, index):
            frame = self._frames.frame(index)
            if index % 3 and self._picture:
                frame = replace(frame, picture=255 - frame.picture)
            if index % 3 and self._expression:
                frame = replace(frame, params=replace(frame.params, expression=1 - frame.params.expression))
            return frame

    frames = TrackedPictures(data)
    pairs = default_pairs(frames, PairChoice(most=1))
    seen = []
    for changes in ({}, {"expression": True}, {"picture": True}):
        comparisons = network_comparisons(model, about, Changed(frames, **changes), pairs, face_size=0)
        seen.append(torch.stack([comparison.show().prediction for comparison in comparisons]))
    assert torch.equal(seen[0], seen[1])
    assert float((seen[0] - seen[2]).abs().max()) > 1e-4


def test_avatars_of_a_network_are_evaluated_as_any_others(rig, head, tmp_path, monkeypatch):
    monkeypatch.setenv("VULTUS_NETWORKS", str(tmp_path / "networks"))
    avatar = tiny_model(CLEAN).reconstruct(torch.rand(32, 32, 3), transform(0.0), person(head), head)
    avatar.save(tmp_path / "run" / "avatar")
    request = EvaluateRequest(heat_maps=False, worst=2, most=2)
    result = open_and_evaluate(tmp_path / "run", rig.capture.root, None, request).content
    assert result["protocols"]["self-reenactment"]["pictures"] == 2
    assert (tmp_path / "run" / "evaluation" / "worst_frames.png").is_file()


def test_shape_is_the_sources_and_the_rest_the_drivers(data, monkeypatch):
    drawn = []
    render = OneShotAvatar.render

    def recorded(avatar, params, camera, **options):
        drawn.append((avatar, params, camera))
        return render(avatar, params, camera, **options)

    monkeypatch.setattr(OneShotAvatar, "render", recorded)
    frames = TrackedPictures(data)
    pairs = default_pairs(frames, PairChoice(frames_per_clip=2))
    for comparison in network_comparisons(tiny_model(CLEAN), About(), frames, pairs, face_size=0):
        comparison.show()
    assert len(drawn) == len(pairs) == 6
    for pair, (avatar, params, camera) in zip(pairs, drawn, strict=True):
        source, target = frames.frame(pair.source), frames.frame(pair.target)
        assert torch.equal(params.identity, source.params.identity)
        assert torch.equal(avatar.rest.identity, source.params.identity)
        assert torch.equal(params.expression, target.params.expression)
        assert float(target.params.expression.abs().max()) > 0
        assert all(torch.equal(params.joint(name), target.params.joint(name)) for name in ("jaw", "left_eye"))
        wanted = transform_to_camera(target.transform, SIZE)
        assert torch.equal(camera.world_to_camera, wanted.world_to_camera)
        assert torch.equal(camera.K, wanted.K)
        assert (pair.source_clip == pair.target_clip) == (pair.protocol == "self-reenactment")
