"""Stage P: pose, expression and identity from the picture itself, after landmarks have come close (specification 12.4).

The surface carries a texture: one value per vertex, the robust mean over the pictures that show it. A frame is then
fitted so that what it shows at every vertex is what the texture says. Residuals are taken at vertices, so that
derivatives are those of the landmark model, and the same solver takes one step of landmarks and picture together.

Of one camera's video values are local contrast, not brightness: what light does to a turning head is smooth, and what
pores, lids and lips do is not. Several cameras see a surface at one moment in one light: there values are brightness,
from which gains and a smooth light are taken off, and the texture is eliminated from the equations instead of held by
turns, so that a surface that all pictures see displaced in one way is free to move under it. Where the person was cut
out, the masks' outlines (`outline`) hold the surface too, and bring it near enough for pictures to say the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Float64
from torch import Tensor

from vultus.heads import SkinnedHead
from vultus.progress import Progress, silent
from vultus.tracking.face_crops import Crops
from vultus.tracking.landmark_fit import Fit, fit_landmarks, problem_of, with_state
from vultus.tracking.landmark_model import LandmarkModel, LandmarkState
from vultus.tracking.landmark_regions import regions
from vultus.tracking.landmark_solver import Equations, Problem, State, minimise
from vultus.tracking.observations import FitSettings, Observations
from vultus.tracking.outline import Outline, signed_distances
from vultus.tracking.skin_samples import levels, robust, robust_texture, shading, sight, surface_samples, trusted
from vultus.tracking.static_offset import Bumps, raised

_CHUNK = 8
"""Pictures that are worked on at once."""
_KEY_PICTURES, _FEWEST, _TURNS = 48, 8, 3
_MOST_INSTANTS = 16
_SEVERAL_PICTURES, _TOGETHER, _OFFSET_ROUNDS = 128, 8, 4
"""How many pictures of one camera, instants and pictures of several, learn what is shared."""
_FIRST = ((0.01, 10.0), (0.005, 10.0), (0.003, 1.0))
"""Before pictures, by landmarks and outlines: from which distance (metres) on outlines count less, and by which factor
landmarks count more than beside pictures."""
_NEAR = 0.002
"""The same distance beside pictures."""


@dataclass(frozen=True)
class Trust:
    """How far pictures and landmarks are believed, and by what blurs they are compared.

    noises: standard deviations of a value at each blur; a small one makes more values outliers, which at coarse blurs,
    where much is still displaced, few are. share: how much of a sample is news (neighbours repeat each other). tail:
    how little outliers pull (`robust`). spread: standard deviation of how much brighter or darker a sample is to all
    cameras of one instant, since light meets it at another angle (0: never). landmarks, irises, closures: factors of
    the weights of landmarks, and of gaps between lids and lips. edge: within so many pixels of a jump in depth, and of
    what is no skin, nothing counts. blurs: standard deviations in pixels of a crop, coarse first; of pairs, what lies
    between is compared.
    """

    noises: tuple[float, ...]
    share: float
    tail: float
    spread: float
    landmarks: float
    irises: float
    closures: float
    edge: int
    blurs: tuple[tuple[float, float] | tuple[float], ...]


ONE_CAMERA = Trust((0.03, 0.03), 0.05, 0.5, 0.0, 0.1, 0.1, 1.0, 0, ((2.0, 10.0), (1.0, 6.0)))
SEVERAL_CAMERAS = Trust((0.016, 0.008, 0.004), 0.1, 1.0, 0.01, 0.01, 0.2, 0.05, 2, ((2.0,), (1.0,), (0.5,)))
"""That several cameras at once see the same value at a vertex says where it is; that one sees it over time, less so.
Irises are not among the samples, so that the eyes turn by their landmarks."""


@dataclass(frozen=True)
class PhotometricProblem(Problem):
    """A landmark problem with the picture's residuals added.

    `crops` hold what is compared; `texture` [L] is the value of every sample of `surface`, `visible` [N, L, C] the
    weight of each in each picture, `shade` by which factor the picture is brighter there; `noise` is the standard
    deviation of a value; `share`, `tail` and `spread` are those of `Trust`. When `learning`, the texture given does not
    count: it is always the one of least cost, and the equations are those with it eliminated.
    """

    surface: LandmarkModel
    crops: Crops
    texture: Float64[Tensor, "L"]
    visible: Float64[Tensor, "N L C"]
    shade: Float64[Tensor, "N L C"]
    noise: float
    share: float
    tail: float
    spread: float
    learning: bool

    def pixels(self, state: State, frames: slice) -> Float64[Tensor, "N L C 2"]:
        """Where the surface's samples are in the crops."""
        part = state.frames[frames]
        joints, expression = self.layout.joints(part), self.layout.expressions(part)
        points = self.surface.evaluate(state.identity, expression, joints, part[:, 3:6]).points
        return self._into_crop(self.rig.select(frames).project(points, state.log_focal), frames)

    def _into_crop(self, footage: Tensor, frames: slice) -> Tensor:
        return (footage - self.crops.origin[frames][:, None]) / self.crops.scale[frames][:, None, :, None]

    @property
    def parts(self) -> list[slice]:
        """The frames, a few at a time."""
        return _parts(len(self.points), self.rig.cameras)

    def values(self, state: State, frames: slice) -> Float64[Tensor, "N L C"]:
        """What the pictures show at the samples, light taken off; NaN outside."""
        return _sample(self.crops.images[frames], self.pixels(state, frames)) / self.shade[frames]

    def residual(self, state: State) -> tuple[Float64[Tensor, "N L C"], Float64[Tensor, "N L"]]:
        """By how much (in units of the noise) pictures differ at the samples from what these should show there, NaN
        outside; and the part of it that was taken off as an instant's own."""
        values = torch.cat([self.values(state, frames) for frames in self.parts])
        given = None if self.learning else self.texture
        texture, own = levels(values, self.visible, self.noise, self.tail, self.spread, given)
        return (values - texture[:, None] - own[..., None]) / self.noise, own / self.noise

    def cost(self, state: State) -> float:
        residual, own = self.residual(state)
        pictures = float((self.visible * robust(residual, self.tail)).nansum())
        return super().cost(state) + self.share * (pictures + self._stillness * float(own.square().sum()))

    @property
    def _stillness(self) -> float:
        """The precision of instants' own differences, in units of the noise."""
        return (self.noise / self.spread) ** 2 if self.spread else 0.0

    def normal_equations(
        self, state: State, free_frame: Bool[Tensor, "P"], free_identity: bool, free_focal: bool
    ) -> Equations:
        """Those of the landmarks with the pictures' share.

        The derivative of a value is a 3-vector of its picture and sample (how it changes as the sample moves) times
        a matrix of its instant and sample (how it moves), so that sums over cameras are of 3-vectors and 3×3 matrices.
        """
        landmarks = super().normal_equations(state, free_frame, free_identity, free_focal)
        hessian, gradient = landmarks.hessian, landmarks.gradient
        residual, _ = self.residual(state)
        size, (count, width) = self.layout.size, gradient.shape
        samples = len(self.texture)
        total = residual.new_zeros(samples)
        ties = residual.new_zeros(samples, count * size + width - size)
        for frames in self.parts:
            part, here = state.frames[frames], residual[frames].nan_to_num()
            surface, onto, weight = self._linear(state, residual, frames, free_focal)
            motion = self._motion(surface, part, free_frame, free_identity)
            if free_focal:  # one dimension more in which all samples move alike
                motion = torch.nn.functional.pad(motion, (0, 1, 0, 1))
                motion[..., -1, -1] = 1
            weighted = onto * weight[..., None]
            inner = weighted.transpose(-1, -2) @ onto
            hessian[frames] += (motion.flatten(1, 2).transpose(1, 2) @ (inner @ motion).flatten(1, 2)).numpy()
            pull = (weighted * here[..., None]).sum(2)
            gradient[frames] += (motion.flatten(1, 2).transpose(1, 2) @ pull.flatten(1)[..., None])[..., 0].numpy()
            if not self.learning and not self.spread:
                continue
            tie, heard = (weighted.sum(2)[..., None, :] @ motion)[..., 0, :], weight.sum(2)
            if self.spread:  # first what is each instant's own, then what all share
                still = self.share * self._stillness
                owned = tie / (heard + still).sqrt()[..., None]
                hessian[frames] -= (owned.transpose(1, 2) @ owned).numpy()
                left = still / (heard + still)
                tie, heard = tie * left[..., None], heard * left
            if self.learning:
                first = (frames.start or 0) * size
                columns = tie[..., :size].transpose(0, 1).flatten(1)
                ties[:, first : first + columns.shape[1]] = columns
                ties[:, count * size :] += tie[..., size:].sum(0)
                total += heard.sum(0)
        if not self.learning:
            return Equations(hessian, gradient)
        return Equations(hessian, gradient, (ties / total.clamp_min(1e-9).sqrt()[:, None])[total > 1e-6].numpy())

    def normal_equations_along(
        self, state: State, directions: Float64[Tensor, "L 3"]
    ) -> tuple[Float64[Tensor, "L"], Float64[Tensor, "L"]]:
        """Second derivatives and gradients of the pictures' cost (both halved) as samples move along directions on the
        rest head, each for itself; metres."""
        residual, _ = self.residual(state)
        second, first, tie, total = (torch.zeros_like(self.texture) for _ in range(4))
        for frames in self.parts:
            surface, onto, weight = self._linear(state, residual, frames, False)
            moved = torch.einsum("njab,jl,lb->nla", surface.rotation, self.surface.weights, directions)
            slope = (onto * moved[:, :, None]).sum(-1)
            second += (weight * slope**2).sum((0, 2))
            first += (weight * slope * residual[frames].nan_to_num()).sum((0, 2))
            pulled, heard = (weight * slope).sum(2), weight.sum(2)
            if self.spread:
                still = self.share * self._stillness
                second -= (pulled**2 / (heard + still)).sum(0)
                pulled, heard = (part * still / (heard + still) for part in (pulled, heard))
            tie += pulled.sum(0)
            total += heard.sum(0)
        return (second - tie**2 / total.clamp_min(1e-9) if self.learning else second), first

    def _linear(
        self, state: State, residual: Float64[Tensor, "N L C"], frames: slice, with_focal: bool
    ) -> tuple[LandmarkState, Float64[Tensor, "N L C _"], Float64[Tensor, "N L C"]]:
        """The samples, derivatives of residuals by where these are (and the focal length), and residuals' weights."""
        part = state.frames[frames]
        joints, expression = self.layout.joints(part), self.layout.expressions(part)
        surface = self.surface.evaluate(state.identity, expression, joints, part[:, 3:6])
        rig = self.rig.select(frames)
        slope = self._slope(rig.project(surface.points, state.log_focal), frames)[..., None, :]
        by_points, by_focal = rig.derivative(surface.points, state.log_focal)
        onto = (slope @ by_points)[..., 0, :]
        if with_focal:
            onto = torch.cat([onto, (slope @ by_focal[..., None])[..., 0]], -1)
        # At the very edge of a crop there is a value, and no slope.
        seen = residual[frames].isfinite() & onto.isfinite().all(-1)
        weight = self.share * self.visible[frames] * trusted(residual[frames].nan_to_num(), self.tail)
        return surface, torch.where(seen[..., None], onto, 0.0) / self.noise, torch.where(seen, weight, 0.0)

    def _slope(self, footage: Float64[Tensor, "N L C 2"], frames: slice) -> Float64[Tensor, "N L C 2"]:
        """How values change with where samples are in the footage, per pixel; NaN at the edge of a crop."""
        pixels = self._into_crop(footage, frames)
        slopes = []
        for step in ((0.5, 0.0), (0.0, 0.5)):
            step = pixels.new_tensor(step)
            images = self.crops.images[frames]
            slopes.append(_sample(images, pixels + step) - _sample(images, pixels - step))
        return torch.stack(slopes, -1) / (self.crops.scale[frames][:, None] * self.shade[frames])[..., None]

    def _motion(
        self, surface: LandmarkState, part: Tensor, free_frame: Bool[Tensor, "P"], free_identity: bool
    ) -> Float64[Tensor, "N L 3 F"]:
        """Derivatives of the samples' positions by the free unknowns."""
        everything = torch.eye(3, dtype=torch.float64).expand(*surface.points.shape[:2], 3, 3)
        columns = self.frame_derivative(surface, part, free_frame, everything)
        if free_identity:
            columns.append(surface.identity_derivative(everything))
        return torch.cat(columns, -1)


def _parts(count: int, cameras: int) -> list[slice]:
    size = max(1, _CHUNK // cameras)
    return [slice(start, start + size) for start in range(0, count, size)]


def _sample(images: Float16[Tensor, "N C S S"], pixels: Float64[Tensor, "N L C 2"]) -> Float64[Tensor, "N L C"]:
    side = images.shape[-1]
    grid = (2 * pixels / side - 1).float().transpose(1, 2).flatten(0, 1)
    values = torch.nn.functional.grid_sample(
        images.flatten(0, 1)[:, None].float(), grid[:, :, None], align_corners=False, padding_mode="border"
    )[:, 0, :, 0].double()
    values = values.unflatten(0, images.shape[:2]).transpose(1, 2)
    inside = ((pixels > 1) & (pixels < side - 1)).all(-1)
    return torch.where(inside, values, torch.nan)


@dataclass(frozen=True)
class Learnt:
    """What key frames say of all frames: identity, the texture of all vertices at every blur, per-vertex offsets where
    they were asked for; and the unknowns of these frames."""

    identity: Float64[Tensor, "S"]
    texture: Float64[Tensor, "K V"]
    frames: Float64[Tensor, "N P"]
    offset: Float[Tensor, "V 3"] | None = None


def refine_fit(
    head: SkinnedHead,
    observations: Observations,
    fit: Fit,
    crops: Crops,
    settings: FitSettings,
    *,
    frozen: bool,
    offsets: bool = False,
    progress: Progress = silent,
) -> Fit:
    """The fit, closer to the pictures.

    Key frames estimate identity and texture; then every frame is fitted with both frozen, starting from its landmarks.
    With `frozen`, the texture of `fit.shared` is used and nothing shared is estimated. With `offsets`, and several
    cameras, the surface may differ from the head model along its normals, alike in all frames. A texture needs several
    pictures: of fewer than 8, the fit comes back as it is.
    """
    several = crops.scale.shape[1] > 1
    trust = SEVERAL_CAMERAS if several else ONE_CAMERA
    surface = LandmarkModel.of(head, surface_samples(head), fit.shared.offset)
    known: tuple[np.ndarray, Learnt] | None = None
    if not frozen:
        usable = np.flatnonzero(fit.seen)
        if len(usable) * crops.scale.shape[1] < _FEWEST:
            return fit
        key = key_frames(usable, crops.scale.shape[1])
        given = head, observations.select(key), part_of(fit, key), crops.select(key), settings
        if several:
            learnt = _learn_together(*given, offsets=offsets, progress=progress)
            known = key, learnt
        else:
            learnt = _learn_by_turns(*given, progress=progress)
        shared = replace(fit.shared, identity=learnt.identity.float(), texture=learnt.texture.float())
        if learnt.offset is not None:
            shared = replace(shared, offset=learnt.offset)
            surface = LandmarkModel.of(head, surface_samples(head), learnt.offset)
        fit = fit_landmarks(head, observations, settings, shared)
    texture = fit.shared.texture
    if texture is None or len(texture) != len(trust.blurs):
        return fit
    problem, state, used = problem_of(head, observations, fit, settings, pictures=several)
    problem = quieter(problem, used.set_name, trust)
    distances = None if crops.masks is None else signed_distances(crops.masks)
    offset = fit.shared.offset
    if distances is not None and (known is None or len(known[0]) < len(state.frames)):
        state = _within_outlines(head, problem, state, crops, distances, offset, free_identity=False)
    if known is not None:  # where these ended is closer than their landmarks
        state.frames[torch.from_numpy(known[0])] = known[1].frames
    for done, (values, blur, noise) in enumerate(zip(texture.double(), trust.blurs, trust.noises, strict=True)):
        progress("following the surface", done, len(texture), {})
        problem = _outlined(head, problem, state, crops, distances, offset)
        task = with_pictures(head, problem, state, surface, filtered(crops, blur), values[surface.ids], trust, noise)
        state = settle(task, state, free_identity=False, iterations=4)
    progress("following the surface", len(texture), len(texture), {})
    return with_state(head, fit, problem, state, used)


def key_frames(usable: np.ndarray, cameras: int) -> np.ndarray:
    """The frames that learn what all of them share."""
    if cameras == 1:
        wanted = _KEY_PICTURES
    else:
        wanted = min(max(_FEWEST, _SEVERAL_PICTURES // cameras), _MOST_INSTANTS)
    return usable[np.unique(np.linspace(0, len(usable) - 1, wanted).round().astype(int))]


def filtered(crops: Crops, blur: tuple[float, float] | tuple[float]) -> Crops:
    """The crops as they are compared."""
    return crops.brightness(*blur) if len(blur) == 1 else crops.contrast(*blur)


def _learn_by_turns(
    head: SkinnedHead,
    observations: Observations,
    fit: Fit,
    crops: Crops,
    settings: FitSettings,
    *,
    progress: Progress,
) -> Learnt:
    """With the texture held while the rest moves."""
    trust = ONE_CAMERA
    surface = LandmarkModel.of(head, surface_samples(head), fit.shared.offset)
    problem, state, used = problem_of(head, observations, fit, settings)
    problem = replace(quieter(problem, used.set_name, trust), tied=np.zeros_like(problem.tied))
    textures: list[Tensor] = []
    steps = len(trust.blurs) * _TURNS
    for blur, noise in zip(trust.blurs, trust.noises, strict=True):
        seen = filtered(crops, blur)
        task = with_pictures(head, problem, state, surface, seen, None, trust, noise)
        for turn in range(_TURNS):
            progress("learning the surface", len(textures) * _TURNS + turn, steps, {})
            state = settle(replace(task, learning=False), state, free_identity=True, iterations=4)
            task = with_pictures(head, problem, state, surface, seen, None, trust, noise)
        textures.append(over_vertices(head, surface, task))
    progress("learning the surface", steps, steps, {})
    return Learnt(state.identity, torch.stack(textures), state.frames)


def _learn_together(
    head: SkinnedHead,
    observations: Observations,
    fit: Fit,
    crops: Crops,
    settings: FitSettings,
    *,
    offsets: bool,
    progress: Progress,
) -> Learnt:
    """With the texture eliminated from the equations.

    The landmarks' prior of the identity counts once per two frames, because their errors are the same in all frames;
    the pictures' are not, so here it counts once.
    """
    trust, samples = SEVERAL_CAMERAS, surface_samples(head)
    surface = LandmarkModel.of(head, samples, fit.shared.offset)
    problem, state, used = problem_of(head, observations, fit, settings, pictures=True)
    once = settings.identity_sigma**-2
    problem = quieter(problem, used.set_name, trust)
    problem = replace(problem, tied=np.zeros_like(problem.tied), identity_precision=once)
    distances = None if crops.masks is None else signed_distances(crops.masks)
    if distances is not None:
        state = _within_outlines(head, problem, state, crops, distances, fit.shared.offset)
    steps = len(trust.blurs) + (_OFFSET_ROUNDS if offsets else 0)
    for done, (blur, noise) in enumerate(zip(trust.blurs, trust.noises, strict=True)):
        progress("learning the surface", done, steps, {})
        for _ in range(2 if done == len(trust.blurs) - 1 else 1):  # who sees what is taken anew
            problem = _outlined(head, problem, state, crops, distances, fit.shared.offset)
            task = with_pictures(head, problem, state, surface, filtered(crops, blur), None, trust, noise)
            state = settle(task, state, free_identity=True, iterations=_TOGETHER)
    offset = fit.shared.offset
    if offsets:
        finest = filtered(crops, trust.blurs[-1])
        bumps = Bumps.of(head, state.identity.float())
        for done in range(_OFFSET_ROUNDS):
            progress("learning the surface", len(trust.blurs) + done, steps, {})
            task = with_pictures(head, problem, state, surface, finest, None, trust, trust.noises[-1])
            bumps = raised(bumps, task, state)
            offset = bumps.offset if fit.shared.offset is None else fit.shared.offset + bumps.offset
            surface = LandmarkModel.of(head, samples, offset)
            state = settle(replace(task, surface=surface), state, free_identity=True, iterations=3)
    textures = []
    for blur, noise in zip(trust.blurs, trust.noises, strict=True):
        task = with_pictures(head, problem, state, surface, filtered(crops, blur), None, trust, noise)
        textures.append(over_vertices(head, surface, task))
    progress("learning the surface", steps, steps, {})
    return Learnt(state.identity, torch.stack(textures), state.frames, offset)


def _within_outlines(
    head: SkinnedHead,
    problem: Problem,
    state: State,
    crops: Crops,
    distances: Tensor,
    offset: Float[Tensor, "V 3"] | None,
    *,
    free_identity: bool = True,
) -> State:
    """Close to the masks' outlines, by these and landmarks."""
    for robust_from, louder in _FIRST:
        nearer = replace(problem, weights=louder * problem.weights)
        nearer = _outlined(head, nearer, state, crops, distances, offset, robust_from)
        state = settle(nearer, state, free_identity=free_identity, iterations=6)
    return state


def _outlined(
    head: SkinnedHead,
    problem: Problem,
    state: State,
    crops: Crops,
    distances: Tensor | None,
    offset: Float[Tensor, "V 3"] | None,
    robust_from: float = _NEAR,
) -> Problem:
    """The problem with the masks' outlines added, where there are any."""
    if distances is None:
        return problem
    outline = Outline.of(head, problem, state, crops, distances, robust=robust_from, offset=offset)
    return replace(problem, outline=outline)


def settle(task: Problem, state: State, *, free_identity: bool, iterations: int) -> State:
    """Some steps of the solver."""
    free = torch.ones(task.layout.size, dtype=torch.bool)
    return minimise(task, state, free_frame=free, free_identity=free_identity, free_focal=False, iterations=iterations)[
        0
    ]


def part_of(fit: Fit, frames: np.ndarray) -> Fit:
    """The fit of some frames."""
    return replace(
        fit,
        params=fit.params[torch.from_numpy(frames)],
        residual=fit.residual[frames],
        eye_distance=fit.eye_distance[frames],
        seen=fit.seen[frames],
    )


def over_vertices(head: SkinnedHead, surface: LandmarkModel, task: PhotometricProblem) -> Float64[Tensor, "V"]:
    """The texture by vertex, NaN where no picture shows it."""
    known = torch.where(task.visible.amax((0, 2)) > 0, task.texture, torch.nan)
    return torch.full((len(head.v_template),), torch.nan, dtype=torch.float64).index_copy(0, surface.ids, known)


def quieter(problem: Problem, set_name: str, trust: Trust) -> Problem:
    """The problem with its landmarks believed as little as beside pictures."""
    iris = torch.tensor([name == "iris" for name in regions(set_name, problem.model.ids.numpy())])
    factor = torch.where(iris, trust.irises, trust.landmarks).double()
    closures = trust.closures * problem.closure_weight
    return replace(problem, weights=factor[:, None] * problem.weights, closure_weight=closures)


def with_pictures(
    head: SkinnedHead,
    problem: Problem,
    state: State,
    surface: LandmarkModel,
    crops: Crops,
    texture: Float64[Tensor, "L"] | None,
    trust: Trust,
    noise: float,
) -> PhotometricProblem:
    """The problem with the residuals of the pictures; without a texture, one that learns it."""
    seen = sight(head, problem, state, surface, crops, edge=trust.edge)
    given = {field.name: getattr(problem, field.name) for field in fields(Problem)}
    task = PhotometricProblem(
        **given,
        surface=surface,
        crops=crops,
        texture=seen.visible.new_zeros(len(surface.ids)) if texture is None else texture,
        visible=seen.visible,
        shade=torch.ones_like(seen.visible),
        noise=noise,
        share=trust.share,
        tail=trust.tail,
        spread=trust.spread,
        learning=texture is None,
    )
    values = torch.cat([task.values(state, frames) for frames in task.parts])
    if problem.rig.cameras > 1:
        task = replace(task, shade=shading(values, seen.visible, seen.normals))
        values = values / task.shade
    if texture is None:
        flat = (part.transpose(1, 2).flatten(0, 1) for part in (values, seen.visible))
        texture = (
            robust_texture(*flat)
            if problem.rig.cameras == 1
            else levels(values, seen.visible, noise, trust.tail, trust.spread)[0]
        )
    known = texture.isfinite()
    return replace(task, texture=texture.nan_to_num(), visible=torch.where(known[:, None], seen.visible, 0.0))
