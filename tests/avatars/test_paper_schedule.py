"""The published schedule: its constants, and our training compared step by step with one written out plainly here.

The other implementation is float64, follows the paper's formulas one after the other, and shares with ours only the
head model, the reference rasteriser and the order of the pictures. Both run freely from the same start.
"""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace

import pytest
import roma
import torch

from vultus.avatars.rigged import preset, train
from vultus.avatars.rigged.densify import DensifySettings
from vultus.avatars.rigged.settings import scaled
from vultus.cameras import Camera, look_at
from vultus.captures import CaptureWriter, open_capture
from vultus.errors import VultusError
from vultus.heads import SkinnedHead
from vultus.motion import Motion
from vultus.splats import Gaussians, rasterize
from vultus.training.randomness import shuffled_index, step_generator

WIDTH, HEIGHT = 40, 36
STEPS, CAMERAS, INSTANTS = 24, 3, 2
EVENTS = DensifySettings(
    start=6, stop=22, every=5, reset_every=17, reset_at=11, world_noise=True, screen_radius=math.inf, gradient=2e-4
)
TOLERANCE = 0.02
"""Of a rate: what rounding to float32 makes of the steps of Gaussians that hardly anything depends on."""
RATES = {
    "means": None,
    "sh0": 0.0025,
    "sh_rest": 0.0025 / 20,
    "opacities": 0.05,
    "log_scales": 0.017,
    "rotations": 0.001,
}


def test_the_published_values():
    paper = preset("paper")
    assert (paper.steps, paper.sh_every, paper.sh_degree, paper.layout) == (600_000, 1000, 3, "published")
    events = paper.densify
    assert (events.start, events.stop, events.every) == (10_000, 600_000, 2_000)
    assert (events.reset_every, events.reset_at, events.gradient, events.small) == (60_000, 10_000, 0.0002, 0.01)
    assert (paper.background, paper.finetune, paper.crop, paper.coarse) == ("white", True, False, 0.0)
    rates = paper.rates
    assert (rates.position, rates.position_end, rates.pose, rates.translation) == (0.005, 0.00005, 1e-5, 1e-6)
    assert (paper.weights.dssim, paper.weights.position, paper.weights.scale) == (0.2, 0.01, 1.0)


def test_one_factor_multiplies_every_constant_that_counts_steps():
    short = preset("paper", schedule_scale=0.02)
    assert (short.steps, short.sh_every, short.checkpoint_every) == (12_000, 20, 100)
    events = short.densify
    assert (events.start, events.stop, events.every, events.reset_every, events.reset_at) == (200, 12000, 40, 1200, 200)
    assert (short.mcmc.start, short.mcmc.stop, short.mcmc.every) == (200, 10_000, 40)
    assert replace(short, steps=1) == replace(preset("paper", steps=12_000), steps=1)
    long = preset("fast", schedule_scale=3)
    assert (long.steps, long.checkpoint_every) == (3 * preset("fast").steps, preset("fast").checkpoint_every)
    # Halves go to the even number; what is on stays on, what is off stays off.
    odd = scaled(replace(preset("photo"), steps=5, sh_every=3), 0.5)
    assert (odd.steps, odd.sh_every, odd.densify.every) == (2, 2, 0)
    assert scaled(preset("paper"), 1e-9).densify.every == 1
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(VultusError, match="positive"):
            preset("paper", schedule_scale=wrong)
    with pytest.raises(VultusError, match="one of them"):
        preset("paper", schedule_scale=0.5, steps=10)


@pytest.fixture(scope="module")
def egg() -> SkinnedHead:
    """A small egg with FLAME's five joints, two shapes of identity and three of expression."""
    generator = torch.Generator().manual_seed(5)
    rows, columns = 7, 10
    latitude = torch.linspace(-1.35, 1.35, rows)[:, None].expand(rows, columns)
    longitude = (torch.arange(columns) * 2 * math.pi / columns)[None].expand(rows, columns)
    template = torch.stack(
        [0.08 * longitude.sin() * latitude.cos(), 0.12 * latitude.sin(), 0.1 * longitude.cos() * latitude.cos()], -1
    ).reshape(-1, 3)
    template = template + 0.004 * torch.randn(template.shape, generator=generator)
    grid = torch.arange(rows * columns).reshape(rows, columns)
    a, b = grid[:-1], grid[:-1].roll(-1, 1)
    c, d = grid[1:], grid[1:].roll(-1, 1)
    faces = torch.cat([torch.stack([a, b, d], -1).reshape(-1, 3), torch.stack([a, d, c], -1).reshape(-1, 3)])
    count = len(template)
    weights = torch.rand(count, 5, generator=generator) ** 2
    return SkinnedHead(
        name="egg",
        license="none",
        v_template=template,
        faces=faces,
        identity_basis=0.004 * torch.randn(count, 3, 2, generator=generator),
        expression_basis=0.004 * torch.randn(count, 3, 3, generator=generator),
        pose_basis=0.004 * torch.randn(count, 3, 36, generator=generator),
        joint_regressor=torch.softmax(3 * torch.randn(5, count, generator=generator), -1),
        weights=weights / weights.sum(-1, keepdim=True),
        parents=(-1, 0, 1, 1, 1),
        joint_names=("root", "neck", "jaw", "left_eye", "right_eye"),
    )


@pytest.fixture(scope="module")
def capture(egg, tmp_path_factory):
    """Three cameras and two instants of the egg; pictures of coloured waves, over white."""
    generator = torch.Generator().manual_seed(2)
    params = egg.neutral(INSTANTS)
    joints = {name: 0.1 * torch.randn(INSTANTS, 3, generator=generator) for name in egg.joint_names}
    params = replace(
        params,
        identity=torch.tensor([0.5, -0.7]),
        expression=torch.randn(INSTANTS, 3, generator=generator),
        joints=joints,
        translation=0.01 * torch.randn(INSTANTS, 3, generator=generator),
    )
    folder = tmp_path_factory.mktemp("egg") / "capture"
    y, x = torch.meshgrid(torch.linspace(0, 6, HEIGHT), torch.linspace(0, 7, WIDTH), indexing="ij")
    with CaptureWriter(folder, head=egg, fps=25, val_cameras=(), test_timesteps=()) as writer:
        for camera in range(CAMERAS):
            turn = 0.9 * (camera - 1)
            eye = torch.tensor([math.sin(turn), 0.1 * camera, math.cos(turn)])
            pose = look_at(eye, torch.zeros(3))
            K = torch.tensor([[105.0, 0.0, 19.0], [0.0, 108.0, 18.5], [0.0, 0.0, 1.0]])
            writer.set_camera(camera, Camera(pose, K, WIDTH, HEIGHT))
            for instant in range(INSTANTS):
                color = 0.5 + 0.4 * torch.stack([(x + camera).sin(), (y - instant).cos(), (x + y).sin()], -1)
                mask = (((x - 3.5) / 2.4) ** 2 + ((y - 3) / 2.6) ** 2 < 1).float()[..., None]
                writer.add_image(instant, camera, color, mask)
        writer.set_motion(Motion(params, torch.arange(INSTANTS) / 25, egg.neutral()))
    return open_capture(folder, egg)


# --- the other implementation ---------------------------------------------------------------------------------------


def unit(vectors):
    return vectors / (vectors * vectors).sum(-1, keepdim=True).clamp_min(1e-20).sqrt()


def hamilton(p, q):
    a, b, c, d = p.unbind(-1)
    e, f, g, h = q.unbind(-1)
    return torch.stack(
        [
            a * e - b * f - c * g - d * h,
            a * f + b * e + c * h - d * g,
            a * g - b * h + c * e + d * f,
            a * h + b * g - c * f + d * e,
        ],
        -1,
    )


def frames_of(vertices, faces):
    first, second, third = (vertices[faces[:, corner]] for corner in range(3))
    a0 = unit(second - first)
    a1 = unit(torch.linalg.cross(a0, third - first))
    a2 = -unit(torch.linalg.cross(a1, a0))
    rotation = torch.stack([a0, a1, a2], -1)
    base = (second - first).norm(dim=-1)
    height = (a2 * (third - first)).sum(-1).abs()
    return (first + second + third) / 3, rotation, (base + height)[:, None] / 2


def similarity(image, target):
    offsets = torch.arange(11, dtype=torch.float64) - 5
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    line = line / line.sum()
    window = (line[:, None] * line[None])[None, None].expand(3, 1, 11, 11)

    def blurred(planes):
        return torch.nn.functional.conv2d(planes.permute(2, 0, 1)[None], window, padding=5, groups=3)

    mean, other = blurred(image), blurred(target)
    variance, second = blurred(image * image) - mean * mean, blurred(target * target) - other * other
    covariance = blurred(image * target) - mean * other
    top = (2 * mean * other + 0.01**2) * (2 * covariance + 0.03**2)
    return (top / ((mean**2 + other**2 + 0.01**2) * (variance + second + 0.03**2))).mean()


class Plain:
    """Everything of the published training, on one list of tensors."""

    def __init__(self, head, capture, avatar, steps, events, sh_every):
        self.head, self.capture, self.steps, self.events, self.sh_every = (
            head.double(),
            capture,
            steps,
            events,
            sh_every,
        )
        self.values = {name: getattr(avatar, name).detach().double().requires_grad_() for name in RATES}
        self.binding = avatar.binding.clone()
        params = capture.motion.params
        self.identity = params.identity.double()
        self.joints = {name: params.joints[name].double().clone().requires_grad_() for name in sorted(params.joints)}
        self.translation = params.translation.double().clone().requires_grad_()
        self.expression = params.expression.double().clone().requires_grad_()
        centers = torch.stack([capture.camera(view).center for view in capture.views]).double()
        self.extent = 1.1 * float((centers - centers.mean(0)).norm(dim=-1).max())
        groups = [{"params": [self.values[name]], "lr": rate or 0.0} for name, rate in RATES.items()]
        groups.append({"params": list(self.joints.values()), "lr": 1e-5})
        groups.append({"params": [self.translation], "lr": 1e-6})
        groups.append({"params": [self.expression], "lr": 1e-3})
        self.adam = torch.optim.Adam(groups, betas=(0.9, 0.999), eps=1e-15)
        self.forget()

    def forget(self):
        count = len(self.binding)
        self.gradient, self.seen = torch.zeros(count).double(), torch.zeros(count)

    def posed(self, instant):
        params = replace(
            self.head.neutral(),
            identity=self.identity,
            expression=self.expression[instant],
            joints={name: value[instant] for name, value in self.joints.items()},
            translation=self.translation[instant],
            scale=torch.ones((), dtype=torch.float64),
        )
        return frames_of(self.head.pose(params).vertices, self.head.faces)

    def step(self, number):
        share = min(max(number / self.steps, 0), 1)
        rate = self.extent * math.exp((1 - share) * math.log(0.005) + share * math.log(0.00005))
        self.adam.param_groups[0]["lr"] = rate
        view = self.capture.views[shuffled_index(0, number, len(self.capture.views))]
        camera = self.capture.camera(view).to(dtype=torch.float64)
        target = self.capture.image(view).double()
        center, rotation, size = self.posed(view.timestep)
        bound, v = self.binding, self.values
        quaternion = roma.rotmat_to_unitquat(rotation)[:, [3, 0, 1, 2]]
        gaussians = Gaussians(
            means=size[bound] * (rotation[bound] @ v["means"][..., None])[..., 0] + center[bound],
            rotations=hamilton(quaternion[bound], v["rotations"] / v["rotations"].norm(dim=-1, keepdim=True)),
            scales=size[bound] * v["log_scales"].exp(),
            opacities=torch.sigmoid(v["opacities"]),
            sh=torch.cat([v["sh0"], v["sh_rest"]], 1),
            sh_degree=min(3, number // self.sh_every),
        )
        white = torch.ones(3, dtype=torch.float64)
        raster = rasterize(gaussians, camera, white, backend="reference")
        visible = raster.info.radii.amax(-1) > 0
        loss = 0.8 * (raster.color - target).abs().mean() + 0.2 * (1 - similarity(raster.color, target))
        distance = (v["means"] ** 2).sum(-1)
        distance = torch.where(distance > 0, distance.clamp_min(1e-300).sqrt(), 0 * distance)
        loss = loss + 0.01 * (distance - 1.0).clamp_min(0)[visible].mean()
        excess = ((v["log_scales"].exp() - 0.6).clamp_min(0) ** 2).sum(-1)
        excess = torch.where(excess > 0, excess.clamp_min(1e-300).sqrt(), 0 * excess)
        loss = loss + 1.0 * excess[visible].mean()
        self.adam.zero_grad()
        loss.backward()
        if number < self.events.stop:
            gradient = raster.info.means2d.grad
            assert gradient is not None
            moved = gradient * torch.tensor([WIDTH / 2, HEIGHT / 2], dtype=torch.float64)
            self.gradient += torch.where(visible, moved.norm(dim=-1), 0.0)
            self.seen += visible
            if number > self.events.start and number % self.events.every == 0:
                self.densify(number)
            if number % self.events.reset_every == 0 or number == self.events.reset_at:
                opacities = self.values["opacities"]
                opacities.data.clamp_(max=math.log(0.01 / 0.99))
                for name in ("exp_avg", "exp_avg_sq"):
                    self.adam.state[opacities][name].zero_()
        self.adam.step()
        return float(loss.detach())

    def densify(self, number):
        events, v = self.events, {name: value.detach() for name, value in self.values.items()}
        rest = self.capture.motion.neutral.map(lambda tensor: tensor.double())
        rest_size = frames_of(self.head.pose(rest).vertices, self.head.faces)[2][:, 0]
        strength = torch.where(self.seen > 0, self.gradient / self.seen.clamp_min(1), 0.0)
        largest = rest_size[self.binding] * v["log_scales"].exp().amax(-1)
        grown = [index for index in range(len(strength)) if strength[index] >= events.gradient]
        clones = [index for index in grown if largest[index] <= 0.01 * self.extent]
        splits = [index for index in grown if largest[index] > 0.01 * self.extent]

        noise = torch.randn(2 * len(splits), 3, generator=step_generator(0, number)).double()
        rows = list(range(len(strength))) + clones + splits + splits
        means, scales = v["means"][rows].clone(), v["log_scales"][rows].clone()
        for place, parent in enumerate(splits + splits):
            row = len(strength) + len(clones) + place
            turn = roma.unitquat_to_rotmat(unit(v["rotations"][parent])[[1, 2, 3, 0]])
            spread = rest_size[self.binding[parent]] * v["log_scales"][parent].exp()
            means[row] += turn @ (noise[place] * spread)
            scales[row] = (v["log_scales"][parent].exp() / 1.6).log()
        binding = self.binding[rows]
        opacity = torch.sigmoid(v["opacities"][rows])
        old = torch.arange(len(rows)) < len(strength)
        kept = torch.ones(len(rows), dtype=torch.bool)
        late = number > events.reset_every
        world = rest_size[binding] * scales.exp().amax(-1)
        parents = old & torch.isin(torch.tensor(rows), torch.tensor(splits))
        for wanted in (parents, (opacity < 0.005) | (late & (world > 0.1 * self.extent))):
            wanted = wanted & kept
            for face in binding[wanted].unique():
                here = kept & (binding == face)
                if int((here & wanted).sum()) == int(here.sum()):
                    wanted = wanted & (binding != face)
            kept &= ~wanted
        source = torch.tensor(rows)[kept]
        stays = old[kept].double()
        new = {"means": means[kept], "log_scales": scales[kept]}
        for position, (name, before) in enumerate(list(self.values.items())):
            value = new.get(name, before.detach()[source]).clone().requires_grad_()
            along = stays.view(-1, *[1] * (value.dim() - 1))
            value.grad = before.grad[source] * along
            state = self.adam.state.pop(before)
            self.adam.state[value] = {
                key: moment if moment.dim() == 0 else moment[source] * along for key, moment in state.items()
            }
            self.adam.param_groups[position]["params"] = [value]
            self.values[name] = value
        self.binding = binding[kept]
        self.forget()


def test_every_step_is_that_of_the_published_method(egg, capture, tmp_path):
    """Both run freely; a difference is said in units of the way that Adam at most goes in a step, its rate."""
    settings = replace(
        preset("paper"), steps=STEPS, sh_every=4, densify=EVENTS, tensorboard=False, checkpoint_every=1000
    )
    plain: list[Plain] = []
    worst: dict[str, float] = {}
    counts: list[int] = []

    def compare(step, task):
        if not plain:
            # A ball looks the same however it is turned: Adam would make steps of rounding errors. Ellipsoids do not.
            with torch.no_grad():
                generator = torch.Generator().manual_seed(1)
                task.avatar.log_scales.add_(0.3 * torch.randn(task.avatar.log_scales.shape, generator=generator))
            plain.append(Plain(copy.deepcopy(egg), capture, task.avatar, STEPS, EVENTS, 4))
            return
        loss = plain[0].step(step)
        counts.append(task.avatar.count)
        assert torch.equal(task.avatar.binding, plain[0].binding), step
        logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        if logged and logged[-1]["step"] == step:
            assert logged[-1]["loss"] == pytest.approx(loss, rel=1e-4)
        rates = {group["name"]: group["lr"] for group in task.optimizers["adam"].param_groups}
        for name, ours, other in pairs(task.avatar, task.motion().params, plain[0]):
            off = (ours.detach().double() - other.detach()).abs() / rates[name]
            worst[name] = max(worst.get(name, 0.0), float(off.max()))

    train(capture, tmp_path / "run", settings, head=egg, control=compare)
    assert len(set(counts)) >= 3  # the number of Gaussians changed more than once, in both alike
    assert set(worst) == {*RATES, "pose", "translation", "expression"}
    assert max(worst.values()) < TOLERANCE, worst


def pairs(avatar, params, plain):
    """Name of the rate, our value, the other one."""
    for name, other in plain.values.items():
        yield name, getattr(avatar, name), other
    for name, other in plain.joints.items():
        yield "pose", params.joints[name], other
    yield "translation", params.translation, plain.translation
    yield "expression", params.expression, plain.expression
