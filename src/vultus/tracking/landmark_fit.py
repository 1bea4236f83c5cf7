"""Stage L: head parameters, identity and focal length from detected points (specification 12.2).

Identity and focal length come from key frames; every frame is then fitted with them frozen. The frozen part is an
object of its own, so that frames never seen before can be fitted to a person already known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from vultus.cameras import Camera
from vultus.errors import VultusError
from vultus.heads import LandmarkSet, SkinnedHead
from vultus.motion import HeadParams
from vultus.tracking.detectors import mp478_to_ibug70
from vultus.tracking.landmark_model import LandmarkModel
from vultus.tracking.landmark_regions import (
    base_weights,
    biased_groups,
    closures,
    fitted_points,
    outer_eye_corners,
    regions,
    silhouette_positions,
)
from vultus.tracking.landmark_solver import Layout, Problem, State, minimise
from vultus.tracking.observations import FitSettings, Observations
from vultus.tracking.placement import meet, rigid
from vultus.tracking.rig import CAMERA_DISTANCE
from vultus.tracking.torso import TorsoTemplate

_SMOOTH_SIGMA = {
    "rotation": 0.02,
    "translation": 0.002,
    "jaw": 0.04,
    "eye": 0.08,
    "neck": 0.02,
    "lids": 0.5,
    "face": 0.1,
}
"""Standard deviations of second differences between frames at 25 per second: radians, metres, blendshape weights."""

_BIAS_SIGMA = 0.0063
"""Of the shift of a biased group: 0.07 of the outer eye distance in metres (specification 2.7)."""

_JOINT_SIGMA = {"jaw": (0.3, 0.03, 0.02), "neck": (0.2, 0.2, 0.2), "left_eye": (0.3, 0.4), "right_eye": (0.3, 0.4)}
_NOT_FITTED = ("mouthClose", "cheekPuff", "tongueOut")
"""Shapes that points on the face do not show: they would only soak up errors."""
_NOT_PICTURED = ("tongueOut",)
"""Of these, what samples of the skin do not show either."""
_DEFAULTS = FitSettings()
_KNOWN = 1.0
"""The estimated focal length where the cameras are known: their own are then in pixels."""
_JAW_SHAPE = "jawOpen"
"""Repeats what the jaw joint does, where there is one."""


@dataclass(frozen=True)
class SharedFit:
    """What all frames of one person and camera have in common. `focal` is in pixels of a `width`×`height` image.

    `bias` is by how much (metres on the rest head) the detector places groups of points off the head's own ones, for
    detectors that are known to (`biased_groups`); residuals that are reported never have it taken off.
    `texture` is what every vertex looks like at the scales of the photometric refinement (NaN: never seen);
    `torso` is what a capture shows below the neck. A capture adds the person's `neutral`, the `shift` (metres) that
    moved its world's origin into the head, and the `crop` of its pictures (centre x, y and side in pixels of the
    footage): further footage of the same take then gets the same world and cameras.
    """

    model: str
    identity: Float[Tensor, "S"]
    focal: float
    width: int
    height: int
    offset: Float[Tensor, "V 3"] | None = None
    neutral: HeadParams | None = None
    shift: Float[Tensor, "3"] | None = None
    crop: tuple[float, float, float] | None = None
    texture: Float[Tensor, "K V"] | None = None
    bias: Float[Tensor, "G 3"] | None = None
    torso: TorsoTemplate | None = None

    def focal_for(self, width: int, height: int) -> float:
        """The focal length for another resolution of the same view.

        Raises:
            VultusError: the image has another shape, so it cannot be the same view.
        """
        if abs(width / height - self.width / self.height) > 0.02 * width / height:
            raise VultusError(
                f"the frozen fit was made for images of {self.width}x{self.height}, which {width}x{height} is no "
                "resized copy of; fit this footage by itself"
            )
        return self.focal * width / self.width


@dataclass(frozen=True)
class Fit:
    """A landmark fit of N frames seen by C cameras. `params` have batch N, world space is metres.

    `camera` is the one for all frames, of a rig the first at the first instant. `residual` [N, C, L] is the distance of
    every projected landmark from the detected one as a fraction of the outer eye distance (NaN: not seen), with `ids`
    numbering the points in the detector's set `set_name`. `eye_distance` is in pixels.
    """

    shared: SharedFit
    params: HeadParams
    camera: Camera
    residual: Float64[np.ndarray, "N C L"]
    ids: np.ndarray
    set_name: str
    eye_distance: Float64[np.ndarray, "N C"]
    seen: Bool[np.ndarray, "N"]
    converged: bool
    iterations: int

    def mean_error(self, names: tuple[str, ...]) -> Float64[np.ndarray, "N"]:
        """Mean residual per frame over the points of some regions, fraction of the eye distance."""
        residual = self._residual_of(names)
        with np.errstate(invalid="ignore"):
            seen = np.isfinite(residual)
            total = np.where(seen, residual, 0.0).sum(1)
            return np.where(seen.any(1), total / np.maximum(seen.sum(1), 1), np.nan)

    def median_error(self, names: tuple[str, ...]) -> Float64[np.ndarray, "N"]:
        """The median instead: a view from the side, of which a detector says little that is right, does not count."""
        residual = self._residual_of(names)
        return np.array([np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else np.nan for row in residual])

    def _residual_of(self, names: tuple[str, ...]) -> Float64[np.ndarray, "N K"]:
        rows = [index for index, name in enumerate(regions(self.set_name, self.ids)) if name in names]
        return self.residual[..., rows].reshape(len(self.residual), -1)


def fit_landmarks(
    head: SkinnedHead,
    observations: Observations,
    settings: FitSettings = _DEFAULTS,
    shared: SharedFit | None = None,
) -> Fit:
    """Fit a head to detected points of one photo, of the frames of one video, or of calibrated cameras.

    With `shared`, identity, offset and focal length are those given and only the pose, joints and expression of each
    frame are estimated.

    Raises:
        VultusError: no frame has a face, the head has no landmarks for this detector, or `shared` is another model's.
    """
    if shared is not None and shared.model != head.fingerprint:
        raise VultusError("the frozen fit belongs to another head model than the one given; use the same head for both")
    model, observations = _prepared(head, observations, None if shared is None else shared.offset)
    seen = observations.seen
    if not seen.any():
        raise VultusError("no face was found in any frame, so there is nothing to fit")
    focal = settings.focal if observations.rig is None else _KNOWN
    if shared is not None and observations.rig is None:
        focal = shared.focal_for(observations.width, observations.height)
    identity, bias = (None, None) if shared is None else (shared.identity.double(), shared.bias)
    if identity is None and len(seen) > 1:
        frames = np.flatnonzero(seen)
        spread = np.linspace(0, len(frames) - 1, min(settings.key_frames, len(frames))).round().astype(int)
        key = observations.select(frames[np.unique(spread)])
        free = _with_free_bias(model, key, _votes(settings, key))
        state, _, _ = _solve(head, free, key, replace(settings, smooth=0.0), focal, None)
        identity, focal = state.identity[: model.identity_count], float(np.exp(state.log_focal))
        bias = _bias_of(state.identity[model.identity_count :], _votes(settings, key))
    placed = model.moved(_offsets(model, observations.set_name, bias))
    state, converged, iterations = _solve(head, placed, observations, settings, focal, identity)
    layout = _layout(head, settings)
    return _as_fit(head, model, layout, observations, state, shared, converged, iterations, bias)


def problem_of(
    head: SkinnedHead,
    observations: Observations,
    fit: Fit,
    settings: FitSettings = _DEFAULTS,
    *,
    pictures: bool = False,
) -> tuple[Problem, State, Observations]:
    """The energy that `fit_landmarks` minimised, where it ended, and the points used: for what goes on from there.

    With `pictures`, shapes that only pictures of the skin show, like puffed cheeks, are unknowns too.
    """
    model, observations = _prepared(head, observations, fit.shared.offset)
    model = model.moved(_offsets(model, observations.set_name, fit.shared.bias))
    layout = _layout(head, settings, _NOT_PICTURED if pictures else _NOT_FITTED)
    problem = _problem(head, model, layout, observations, settings, fit.eye_distance)
    frames = torch.zeros(len(observations.points), layout.size, dtype=torch.float64)
    frames[:, :3], frames[:, 3:6] = fit.params.joint("root"), fit.params.translation
    for column, (joint, axis) in enumerate(layout.joint_axes, start=6):
        frames[:, column] = fit.params.joint(layout.joint_names[joint])[:, axis]
    frames[:, layout.first_expression :] = fit.params.expression[:, list(layout.expression)]
    focal = fit.shared.focal if observations.rig is None else _KNOWN
    state = State(frames, fit.shared.identity.double(), float(np.log(focal)))
    return replace(problem, weights=_weights(model, observations, frames[:, :3])), state, observations


def with_state(head: SkinnedHead, fit: Fit, problem: Problem, state: State, observations: Observations) -> Fit:
    """A fit that ended at another state of its problem."""
    shared = replace(fit.shared, identity=state.identity.float())
    model = problem.model.moved(-_offsets(problem.model, observations.set_name, shared.bias))
    return _as_fit(head, model, problem.layout, observations, state, shared, fit.converged, fit.iterations)


def _prepared(
    head: SkinnedHead, observations: Observations, offset: Float[Tensor, "V 3"] | None
) -> tuple[LandmarkModel, Observations]:
    """The landmarks that a fit uses, and the observations of just these."""
    observations, landmark_set = _as_landmark_set(head, observations)
    model = LandmarkModel.of(head, embedding_of(head, landmark_set), offset)
    rows = fitted_points(observations.set_name, model.ids.numpy())
    return model.select(torch.from_numpy(rows)), replace(observations, points=observations.points[..., rows, :])


def _votes(settings: FitSettings, observations: Observations) -> float:
    """How often the priors of what frames share count."""
    return max(1.0, settings.bias_share * len(observations.points))


def _with_free_bias(model: LandmarkModel, observations: Observations, votes: float) -> LandmarkModel:
    """The model with further identity coefficients that shift the groups of points a detector places off the head's.

    Such a bias is the same in all frames: left to the pose, it would turn the head. Priors of what frames share count
    `votes` times, which is for errors not known of; these are known of, so theirs is to count once.
    """
    groups = torch.from_numpy(biased_groups(observations.set_name, model.ids.numpy()))
    shifts = torch.einsum("lg,cd->lcgd", groups.double(), torch.eye(3, dtype=torch.float64)).flatten(2)
    return model.with_shapes(_BIAS_SIGMA * votes**0.5 * shifts)


def _bias_of(coefficients: Float64[Tensor, "K"], votes: float) -> Float[Tensor, "G 3"] | None:
    return (_BIAS_SIGMA * votes**0.5 * coefficients).reshape(-1, 3).float() if len(coefficients) else None


def _offsets(model: LandmarkModel, set_name: str, bias: Float[Tensor, "G 3"] | None) -> Float64[Tensor, "L 3"]:
    """The bias of every point. One that was estimated for another detector does not count."""
    groups = torch.from_numpy(biased_groups(set_name, model.ids.numpy())).double()
    if bias is None or groups.shape[1] != len(bias):
        return torch.zeros(len(model.ids), 3, dtype=torch.float64)
    return groups @ bias.double()


def _as_landmark_set(head: SkinnedHead, observations: Observations) -> tuple[Observations, str]:
    """The observations in a set that the head has, restricted to the head's points, and the head's name for the set."""
    names = {"mp478": "mediapipe", "ibug68": "ibug68", "ibug70": "ibug68"}
    points, set_name = observations.points, observations.set_name
    dense = head.landmark_sets.get("mediapipe")
    if set_name == "mp478" and (dense is None or len(dense.ids) < 68):  # a handful of points cannot carry a fit
        points, set_name = mp478_to_ibug70(points), "ibug70"
    wanted = names[set_name]
    if wanted not in head.landmark_sets:
        raise VultusError(
            f"the head model {head.name!r} has no landmark set {wanted!r}; it has {sorted(head.landmark_sets)}"
        )
    ids = head.landmark_sets[wanted].ids.numpy()
    available = points.shape[2]
    padded = np.full((*points.shape[:2], max(int(ids.max()) + 1, available), 2), np.nan)
    padded[:, :, :available] = points
    return replace(observations, points=padded[:, :, ids], set_name=set_name), wanted


def embedding_of(head: SkinnedHead, landmark_set: str) -> LandmarkSet:
    """The head's landmarks as this fit uses them: on the built-in head, MediaPipe's silhouette is placed anew."""
    embedding = head.landmark_sets[landmark_set]
    if landmark_set != "mediapipe" or not head.name.startswith("builtin"):
        return embedding
    faces, barycentric = embedding.faces.clone(), embedding.barycentric.clone()
    skin = torch.unique(head.faces[(head.attributes["part"][head.faces] == 0).all(-1)])
    row = {int(point): index for index, point in enumerate(embedding.ids)}
    for point, position in silhouette_positions().items():
        target = head.v_template.new_tensor(position) / 1000
        vertex = skin[(head.v_template[skin] - target).norm(dim=-1).argmin()]
        face = int(torch.nonzero((head.faces == vertex).any(-1))[0])
        faces[row[point]] = face
        barycentric[row[point]] = (head.faces[face] == vertex).to(barycentric.dtype)
    return LandmarkSet(embedding.ids, faces, barycentric)


def _solve(
    head: SkinnedHead,
    model: LandmarkModel,
    observations: Observations,
    settings: FitSettings,
    focal: float | None,
    identity: Float64[Tensor, "S"] | None,
) -> tuple[State, bool, int]:
    """Initial pose in closed form, then the pose alone, then everything. A given focal length or identity stays."""
    layout = _layout(head, settings)
    longer = max(observations.width, observations.height)
    start_focal = focal if focal is not None else settings.focal_prior[0] * longer
    start_identity = torch.zeros(model.identity_count, dtype=torch.float64) if identity is None else identity
    if observations.rig is None:
        pose, scale = initial_pose(model, observations, start_identity, start_focal)
    else:
        pose, scale = placed_poses(model, observations, start_identity)
    frames = torch.zeros(len(pose), layout.size, dtype=torch.float64)
    frames[:, :6] = torch.from_numpy(pose)
    state = State(frames, start_identity, float(np.log(start_focal)))
    problem = _problem(head, model, layout, observations, settings, scale)
    pose_only = torch.zeros(layout.size, dtype=torch.bool)
    pose_only[:6] = True
    # An open mouth or a strong turn is far from the start, and no outlier: the kernel is narrowed at the end only.
    rough = replace(problem, robust=4 * settings.robust)
    state, _, _ = minimise(rough, state, free_frame=pose_only, free_identity=False, free_focal=False, iterations=8)
    everything = torch.ones(layout.size, dtype=torch.bool)
    converged, steps = False, 0
    for stage in (rough, problem):
        # Visibility follows the pose, so weights are taken again once it is known.
        problem = replace(stage, weights=_weights(model, observations, state.frames[:, :3]))
        state, converged, taken = minimise(
            problem,
            state,
            free_frame=everything,
            free_identity=identity is None,
            free_focal=focal is None,
            iterations=settings.iterations,
        )
        steps += taken
    return state, converged, steps


def initial_pose(
    model: LandmarkModel, observations: Observations, identity: Float64[Tensor, "S"], focal: float
) -> tuple[Float64[np.ndarray, "N 6"], Float64[np.ndarray, "N 1"]]:
    """Axis-angle and translation of every frame by a scaled-orthographic fit of neutral landmarks, and the outer eye
    distance in pixels (as if seen from the front). Frames without a face repeat their nearest neighbour.
    """
    neutral = torch.zeros(1, model.expression_count, dtype=torch.float64)
    points = model.evaluate(identity, neutral, {}, torch.zeros(1, 3, dtype=torch.float64)).points[0].numpy()
    names = regions(observations.set_name, model.ids.numpy())
    rigid = np.array([name in ("eyes", "nose", "brows") for name in names])
    eyes = dict(zip(model.ids.tolist(), points, strict=True))
    right, left = outer_eye_corners(observations.set_name)
    eye_distance = float(np.linalg.norm(eyes[left] - eyes[right]))
    poses, scales = np.zeros((len(observations.points), 6)), np.ones(len(observations.points))
    previous: np.ndarray | None = None
    known = np.flatnonzero(observations.seen)
    for frame in known:
        target = observations.points[frame, 0]
        usable = np.isfinite(target).all(-1)
        chosen = usable & rigid if (usable & rigid).sum() >= 6 else usable
        rotation, shift, scale = _scaled_orthographic(points[chosen], target[chosen])
        turn = _axis_angle_near(rotation, previous)
        depth = focal / scale
        center = np.array([observations.width / 2, observations.height / 2])
        planar = (shift - center) / scale
        poses[frame] = [*turn, planar[0], -planar[1], CAMERA_DISTANCE - depth]
        scales[frame] = scale * eye_distance
        previous = turn
    nearest = known[np.abs(np.arange(len(poses))[:, None] - known).argmin(1)]
    # The scaled-orthographic shift places the point set's origin; the model turns about its root joint instead.
    root = (model.joint_basis[0, :, 0]).numpy()
    for frame in known:
        rotation = _matrix(poses[frame, :3])
        poses[frame, 3:] += rotation @ root - root
    return poses[nearest], scales[nearest, None]


def placed_poses(
    model: LandmarkModel, observations: Observations, identity: Float64[Tensor, "S"]
) -> tuple[Float64[np.ndarray, "N 6"], Float64[np.ndarray, "N C"]]:
    """Axis-angle and translation of every frame from where the rays of several cameras meet, and the outer eye distance
    in pixels. Frames in which they do not meet repeat their nearest neighbour.

    Raises:
        VultusError: rays meet in no frame.
    """
    neutral = torch.zeros(1, model.expression_count, dtype=torch.float64)
    points = model.evaluate(identity, neutral, {}, torch.zeros(1, 3, dtype=torch.float64)).points[0].numpy()
    names = regions(observations.set_name, model.ids.numpy())
    stiff = np.array([name in ("eyes", "nose", "brows") for name in names])
    met = meet(observations.cameras, observations.points[:, :, stiff], observations.seen_by).points
    known = np.flatnonzero(np.isfinite(met).all(-1).sum(-1) >= 6)
    if not len(known):
        raise VultusError("no two cameras see the face at one place; are they calibrated, and all of one moment?")
    # The model turns about its root joint.
    root = model.joint_basis[0, :, 0].numpy()
    poses = np.zeros((len(met), 6))
    previous: np.ndarray | None = None
    for frame in known:
        found = np.isfinite(met[frame]).all(-1)
        rotation, shift = rigid(points[stiff][found], met[frame][found])
        turn = _axis_angle_near(rotation, previous)
        poses[frame] = [*turn, *(shift + rotation @ root - root)]
        previous = turn
    nearest = known[np.abs(np.arange(len(poses))[:, None] - known).argmin(1)]
    poses = poses[nearest]
    row = {int(point): index for index, point in enumerate(model.ids)}
    right, left = outer_eye_corners(observations.set_name)
    distance = float(np.linalg.norm(points[row[left]] - points[row[right]]))
    rig = observations.cameras
    depth = rig.seen(torch.from_numpy(poses[:, None, 3:] + root))[:, 0, :, 2].clamp_min(1e-3)
    return poses, (rig.focal[..., 0] * distance / depth).numpy()


def _scaled_orthographic(
    points: Float64[np.ndarray, "L 3"], target: Float64[np.ndarray, "L 2"]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Rotation, image shift and scale with `target ≈ scale · diag(1, −1) (R points)[:2] + shift`."""
    homogeneous = np.concatenate([points, np.ones((len(points), 1))], 1)
    solution = np.linalg.lstsq(homogeneous, target * [1.0, -1.0], rcond=None)[0]
    first, second = solution[:3, 0], solution[:3, 1]
    scale = (np.linalg.norm(first) + np.linalg.norm(second)) / 2
    rows = np.stack([first, second, np.cross(first, second) / max(scale, 1e-9)])
    u, _, vt = np.linalg.svd(rows)
    rotation = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
    return rotation, solution[3] * [1.0, -1.0], float(max(scale, 1e-6))


def _matrix(axis_angle: np.ndarray) -> np.ndarray:
    from vultus.rotations import axis_angle_to_matrix

    return axis_angle_to_matrix(torch.from_numpy(axis_angle)).numpy()


def _axis_angle_near(rotation: np.ndarray, previous: np.ndarray | None) -> np.ndarray:
    """The rotation vector of a matrix; of those that mean the same, the one nearest to the previous frame's."""
    from vultus.rotations import matrix_to_axis_angle

    vector = matrix_to_axis_angle(torch.from_numpy(rotation)).numpy()
    angle = np.linalg.norm(vector)
    if previous is None or angle < 1e-6:
        return vector
    candidates = [vector, vector * (1 - 2 * np.pi / angle), vector * (1 + 2 * np.pi / angle)]
    return min(candidates, key=lambda candidate: float(np.linalg.norm(candidate - previous)))


def _layout(head: SkinnedHead, settings: FitSettings, not_fitted: tuple[str, ...] = _NOT_FITTED) -> Layout:
    axes = {"jaw": (0, 1, 2), "left_eye": (0, 1), "right_eye": (0, 1)} | (
        {"neck": (0, 1, 2)} if settings.free_neck else {}
    )
    joints = tuple(
        (head.joint_names.index(name), axis) for name in axes if name in head.joint_names for axis in axes[name]
    )
    left_out = {*not_fitted, _JAW_SHAPE} if "jaw" in head.joint_names else set(not_fitted)
    fitted = tuple(index for index, name in enumerate(head.expression_names) if name not in left_out)
    return Layout(joints, head.joint_names, fitted, len(head.expression_names))


def blendshapes(head: SkinnedHead) -> bool:
    """Whether expression components are blendshapes with weights in [0, 1] (named), not statistical axes (numbered)."""
    return any("blink" in name.lower() for name in head.expression_names)


def _problem(
    head: SkinnedHead,
    model: LandmarkModel,
    layout: Layout,
    observations: Observations,
    settings: FitSettings,
    eye_distance: Float64[np.ndarray, "N C"],
) -> Problem:
    named = blendshapes(head)
    size, first = layout.size, layout.first_expression
    precision = torch.zeros(size, dtype=torch.float64)
    smooth = torch.zeros(size, dtype=torch.float64)
    lower, upper = torch.full((size,), -1e3, dtype=torch.float64), torch.full((size,), 1e3, dtype=torch.float64)
    smooth[:3], smooth[3:6] = _SMOOTH_SIGMA["rotation"] ** -2, _SMOOTH_SIGMA["translation"] ** -2
    for offset, (joint, axis) in enumerate(layout.joint_axes):
        name = head.joint_names[joint]
        precision[6 + offset] = _JOINT_SIGMA[name][axis] ** -2
        smooth[6 + offset] = _SMOOTH_SIGMA["eye" if name.endswith("eye") else name] ** -2
        if (name, axis) == ("jaw", 0):
            lower[6 + offset], upper[6 + offset] = 0.0, 0.6
    precision[first:] = (settings.expression_sigma if named else 1.0) ** -2
    for offset, component in enumerate(layout.expression):
        lids = any(word in head.expression_names[component].lower() for word in ("blink", "lid", "wide"))
        smooth[first + offset] = _SMOOTH_SIGMA["lids" if lids else "face"] ** -2
        if lids and named:
            precision[first + offset] = 1.0
    if named:
        lower[first:], upper[first:] = 0.0, 1.0
    coupling = ()
    if layout.has("left_eye") and layout.has("right_eye"):
        coupling = tuple(
            (layout.column("left_eye", axis), layout.column("right_eye", axis), sigma**-2)
            for axis, sigma in ((0, 0.03), (1, 0.06))
        )
    ids = model.ids.numpy()
    pairs = closures(observations.set_name, ids, "lids") + closures(observations.set_name, ids, "lips")
    shots, tied = observations.shots, np.zeros(0)
    if len(shots) > 2:
        tied = settings.smooth * ((shots[:-2] == shots[1:-1]) & (shots[1:-1] == shots[2:])).astype(np.float64)
    longer = max(observations.width, observations.height)
    shared_votes = _votes(settings, observations)
    return Problem(
        model=model,
        layout=layout,
        rig=observations.cameras,
        points=torch.from_numpy(observations.points).transpose(1, 2).contiguous(),
        weights=_weights(model, observations, None),
        point_scale=torch.from_numpy(settings.point_sigma * eye_distance),
        closures=tuple(pairs),
        closure_weight=(settings.point_sigma / settings.closure_sigma) ** 2,
        robust=settings.robust,
        precision=precision,
        coupling=coupling,
        lower=lower,
        upper=upper,
        limit_precision=0.03**-2 if named else 0.3**-2,
        smoothness=smooth,
        tied=tied,
        identity_precision=shared_votes * settings.identity_sigma**-2,
        focal_mean=float(np.log(settings.focal_prior[0] * longer)),
        focal_precision=shared_votes * settings.focal_prior[1] ** -2,
    )


def _weights(
    model: LandmarkModel, observations: Observations, rotation: Float64[Tensor, "N 3"] | None
) -> Float64[Tensor, "N L C"]:
    """Weights by region and picture; points on a side turned away from a camera fade out (specification 2.7)."""
    ids = model.ids.numpy()
    weights = torch.from_numpy(base_weights(observations.set_name, ids))[:, None]
    weights = weights * torch.from_numpy(observations.weights)[:, None]
    if rotation is not None:
        from vultus.rotations import axis_angle_to_matrix

        template = (model.basis[..., 0]).sum(0)
        outward = template - template.new_tensor([0.0, 0.0, 0.02])
        outward = torch.nn.functional.normalize(outward * template.new_tensor([1.0, 0.3, 1.0]), dim=-1)
        facing = (observations.cameras.toward @ (axis_angle_to_matrix(rotation) @ outward.T)).transpose(1, 2)
        weights = weights * ((facing + 0.35) / 0.45).clamp(0.0, 1.0)
    missing = torch.from_numpy(~np.isfinite(observations.points).all(-1)).transpose(1, 2)
    return weights.masked_fill(missing, 0.0).contiguous()


def _as_fit(
    head: SkinnedHead,
    model: LandmarkModel,
    layout: Layout,
    observations: Observations,
    state: State,
    shared: SharedFit | None,
    converged: bool,
    iterations: int,
    bias: Float[Tensor, "G 3"] | None = None,
) -> Fit:
    state = _with_drivers_in_range(model, layout, state)
    count = len(state.frames)
    focal = float(np.exp(state.log_focal))
    if observations.rig is not None:
        focal = float(observations.rig.focal[0, 0, 0])
    if shared is None:
        size = observations.width, observations.height
        shared = SharedFit(head.fingerprint, state.identity.float(), focal, *size, bias=bias)
    joints = {name: angles.float() for name, angles in layout.joints(state.frames).items()}
    params = replace(
        head.neutral(count),
        identity=shared.identity,
        expression=layout.expressions(state.frames).float(),
        joints=joints,
        translation=state.frames[:, 3:6].float(),
        offset=shared.offset,
    )
    rig = observations.cameras
    camera = rig.camera(0, 0, state.log_focal, observations.width, observations.height)
    problem = _problem(head, model, layout, observations, _DEFAULTS, np.ones((count, rig.cameras)))
    distance = problem.residuals(state).norm(dim=-1).transpose(1, 2).numpy()
    eye_distance = _projected_eye_distance(problem, state, observations.set_name)
    residual = np.where(np.isfinite(observations.points).all(-1), distance / eye_distance[..., None], np.nan)
    return Fit(
        shared,
        params,
        camera,
        residual,
        model.ids.numpy(),
        observations.set_name,
        eye_distance,
        observations.seen,
        converged,
        iterations,
    )


def _with_drivers_in_range(model: LandmarkModel, layout: Layout, state: State) -> State:
    """Outside 0 to 1 the landmark model goes on where the head model cuts correctives off: the result stays inside."""
    frames = state.frames.clone()
    for driver in model.corrective_drivers.tolist():
        if driver in layout.expression:
            column = layout.first_expression + layout.expression.index(driver)
            frames[:, column] = frames[:, column].clamp(0, 1)
    return replace(state, frames=frames)


def _projected_eye_distance(problem: Problem, state: State, set_name: str) -> Float64[np.ndarray, "N C"]:
    """Outer eye distance in pixels, as long as it would look if the face were turned to the camera."""
    points = problem.landmarks(state).points
    row = {int(point): index for index, point in enumerate(problem.model.ids)}
    right, left = (points[:, row[point]] for point in outer_eye_corners(set_name))
    depth = problem.rig.seen(((right + left) / 2)[:, None])[:, 0, :, 2].clamp_min(1e-3)
    focal = float(np.exp(state.log_focal)) * problem.rig.focal[..., 0]
    return (focal * (left - right).norm(dim=-1)[:, None] / depth).numpy()
