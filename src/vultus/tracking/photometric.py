"""Stage P: pose, expression and identity from the picture itself, after landmarks have come close (specification 12.4).

The surface carries a texture: one value per vertex, the robust mean over the pictures that show it. A frame is then
fitted so that what it shows at every vertex is what the texture says. Values are local contrast, not brightness: what
light does to a turning head is smooth, and what pores, lids and lips do is not. Residuals are taken at vertices, so
that derivatives are those of the landmark model, and the same solver takes one step of landmarks and picture together.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Float64, Shaped, UInt8
from torch import Tensor

from vultus.cameras import Camera
from vultus.heads import LandmarkSet, SkinnedHead
from vultus.images import Box, crop_and_resize, to_float
from vultus.images.masks import soften
from vultus.meshes import rasterize_mesh, vertex_normals
from vultus.progress import Progress, counted, silent
from vultus.tracking.footage import Footage
from vultus.tracking.landmark_fit import Fit, fit_landmarks, problem_of, with_state
from vultus.tracking.landmark_model import LandmarkModel
from vultus.tracking.landmark_solver import Problem, State, minimise
from vultus.tracking.observations import FitSettings, Observations
from vultus.tracking.rig import Rig

_CHUNK = 8
"""Pictures that are worked on at once."""
CROP_SIDE, _SAMPLES = 256, 2000
_SCALES = ((2.0, 10.0), (1.0, 6.0))
"""Local contrast is what lies between two blurs of a crop (standard deviations in its pixels), coarse first."""
_KEY_FRAMES, _FEWEST, _TURNS = 48, 8, 3


@dataclass(frozen=True)
class Trust:
    """How far pictures and landmarks are believed: the standard deviation of a value of local contrast, how much of a
    sample is news (neighbours repeat each other), and the factor of the landmarks' weights."""

    noise: float
    share: float
    landmarks: float


ONE_CAMERA = Trust(noise=0.03, share=0.05, landmarks=0.1)
SEVERAL_CAMERAS = Trust(noise=0.02, share=0.2, landmarks=0.03)
"""That several cameras at once see the same value at a vertex says where it is; that one sees it over time, less so."""


@dataclass(frozen=True)
class Crops:
    """Small pictures around the face in N frames of C cameras, of side S: grey bytes, or local contrast.

    Pixel (x, y) is at `origin + scale · (x, y)` in the footage, in pixels there. `masks` say, as bytes, what of it is
    the person, where that is known.
    """

    images: Shaped[Tensor, "N C S S"]
    origin: Float64[Tensor, "N C 2"]
    scale: Float64[Tensor, "N C"]
    masks: UInt8[Tensor, "N C S S"] | None = None

    def select(self, frames: np.ndarray) -> Crops:
        chosen = torch.from_numpy(frames)
        masks = None if self.masks is None else self.masks[chosen]
        return Crops(self.images[chosen], self.origin[chosen], self.scale[chosen], masks)

    def camera(self, rig: Rig, log_focal: float, frame: int, view: int) -> Camera:
        """The camera of one of these pictures."""
        scale, origin, side = self.scale[frame, view], self.origin[frame, view], self.images.shape[-1]
        fx, fy = (rig.focal[frame, view] * float(np.exp(log_focal)) / scale).tolist()
        cx, cy = ((rig.principal[frame, view] - origin) / scale).tolist()
        whole = rig.camera(frame, view, log_focal, side, side)
        return replace(whole, K=torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]))

    def contrast(self, fine: float, coarse: float) -> Crops:
        """What lies between two blurs (standard deviations in pixels) of grey bytes, brightness 1 being white.

        With masks, blurs are means over the person only: else the outline's contrast with what is behind would outdo
        all that is on the surface, and it is another in every picture.
        """
        result = torch.empty(self.images.shape, dtype=torch.float16)
        given, made = (pictures.flatten(0, 1).split(_CHUNK) for pictures in (self.images, result))
        masks = [None] * len(given) if self.masks is None else self.masks.flatten(0, 1).split(_CHUNK)
        for images, mask, part in zip(given, masks, made, strict=True):
            gray = images[..., None].float() / 255
            if mask is None:
                part.copy_((soften(gray, fine) - soften(gray, coarse))[..., 0])
                continue
            weight = mask[..., None].float() / 255
            low, high = (
                soften(gray * weight, sigma) / soften(weight, sigma).clamp_min(1e-3) for sigma in (fine, coarse)
            )
            part.copy_((weight * (low - high))[..., 0])
        return replace(self, images=result)


@dataclass(frozen=True)
class PhotometricProblem(Problem):
    """A landmark problem with the picture's residuals added.

    `crops` hold local contrast; `texture` [L] is the value of every sample of `surface`, `visible` [N, L, C] the weight
    of each in each picture; `noise` is the standard deviation of a value, `share` how much of a sample is news
    (neighbours repeat each other).
    """

    surface: LandmarkModel
    crops: Crops
    texture: Float64[Tensor, "L"]
    visible: Float64[Tensor, "N L C"]
    noise: float
    share: float

    @property
    def known_texture(self) -> Float64[Tensor, "L"]:
        """The texture, NaN where no frame shows it."""
        return torch.where(self.visible.amax((0, 2)) > 0, self.texture, torch.nan)

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
        """What the pictures show at the samples; NaN outside."""
        return _sample(self.crops.images[frames], self.pixels(state, frames))

    def cost(self, state: State) -> float:
        total = super().cost(state)
        for frames in self.parts:
            residual = (self.values(state, frames) - self.texture[:, None]) / self.noise
            total += self.share * float((self.visible[frames] * _robust(residual)).nansum())
        return total

    def normal_equations(
        self, state: State, free_frame: Bool[Tensor, "P"], free_identity: bool, free_focal: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        hessian, gradient = super().normal_equations(state, free_frame, free_identity, free_focal)
        hessian, gradient = hessian.copy(), gradient.copy()
        for frames in self.parts:
            part = state.frames[frames]
            joints, expression = self.layout.joints(part), self.layout.expressions(part)
            surface = self.surface.evaluate(state.identity, expression, joints, part[:, 3:6])
            rig = self.rig.select(frames)
            pixels = self._into_crop(rig.project(surface.points, state.log_focal), frames)
            value, slope = _sample_with_slope(self.crops.images[frames], pixels)
            slope = (slope / self.crops.scale[frames][:, None, :, None])[..., None, :]
            projection, by_focal = rig.derivative(surface.points, state.log_focal)
            onto = (slope @ projection)[..., 0, :]
            columns = self._frame_derivative(surface, part, free_frame, onto)
            if free_identity:
                columns.append(surface.identity_derivative(onto))
            if free_focal:
                columns.append((slope @ by_focal[..., None])[..., 0])
            jacobian = torch.cat(columns, -1).flatten(1, 2)
            residual = ((value - self.texture[:, None]) / self.noise).flatten(1)
            weight = self.share * self.visible[frames].flatten(1) / torch.sqrt(1 + residual**2) / self.noise
            # At the very edge of a crop there is a value, and no slope.
            seen = residual.isfinite() & slope.isfinite().all(-1).flatten(1)
            residual, weight = residual.nan_to_num(), torch.where(seen, weight, 0.0)
            jacobian = torch.where(seen[..., None], jacobian, 0.0)
            weighted = (jacobian * weight[..., None]).transpose(1, 2)
            hessian[frames] += (weighted @ jacobian / self.noise).numpy()
            gradient[frames] += (weighted @ residual[..., None])[..., 0].numpy()
        return hessian, gradient


def _parts(count: int, cameras: int) -> list[slice]:
    size = max(1, _CHUNK // cameras)
    return [slice(start, start + size) for start in range(0, count, size)]


def _robust(residual: Tensor) -> Tensor:
    """The pseudo-Huber cost of a residual in units of its scale, near zero its square."""
    return 2 * (torch.sqrt(1 + residual**2) - 1)


def _sample(images: Float16[Tensor, "N C S S"], pixels: Float64[Tensor, "N L C 2"]) -> Float64[Tensor, "N L C"]:
    side = images.shape[-1]
    grid = (2 * pixels / side - 1).float().transpose(1, 2).flatten(0, 1)
    values = torch.nn.functional.grid_sample(
        images.flatten(0, 1)[:, None].float(), grid[:, :, None], align_corners=False, padding_mode="border"
    )[:, 0, :, 0].double()
    values = values.unflatten(0, images.shape[:2]).transpose(1, 2)
    inside = ((pixels > 1) & (pixels < side - 1)).all(-1)
    return torch.where(inside, values, torch.nan)


def _sample_with_slope(images: Tensor, pixels: Tensor) -> tuple[Float64[Tensor, "N L C"], Float64[Tensor, "N L C 2"]]:
    """Values and their derivatives by pixel coordinates."""
    along = []
    for step in ((0.5, 0.0), (0.0, 0.5)):
        step = pixels.new_tensor(step)
        along.append(_sample(images, pixels + step) - _sample(images, pixels - step))
    return _sample(images, pixels), torch.stack(along, -1)


def robust_texture(values: Float64[Tensor, "N L"], weights: Float64[Tensor, "N L"]) -> Float64[Tensor, "L"]:
    """The weighted mean over pictures, with outliers weighted down (NaN where nothing was seen)."""
    weights = torch.where(values.isfinite(), weights, 0.0)
    middle = torch.where(weights > 0, values, torch.nan).nanmedian(0).values
    values = values.nan_to_num()
    for _ in range(5):
        spread = ((weights * (values - middle).abs().clamp_max(0.2)).sum(0) / weights.sum(0)).clamp_min(1e-3)
        trusted = weights / (1 + ((values - middle) / spread) ** 2)
        middle = (trusted * values).sum(0) / trusted.sum(0)
    return middle


def surface_samples(head: SkinnedHead) -> LandmarkSet:
    """The vertices that show a face: skin that moves with skull or jaw."""
    bust = head.weights[:, head.joint_names.index("root")] > 0.02
    low = torch.zeros(len(head.v_template), dtype=torch.bool)
    if "neck" in head.regions:
        low[head.regions["neck"]] = True
    skin = torch.zeros_like(low)
    skin[head.regions["skin" if "skin" in head.regions else "face"]] = True
    chosen = (skin & ~bust & ~low).nonzero()[:, 0]
    return vertex_landmarks(head, chosen[:: max(1, len(chosen) // _SAMPLES)])


def vertex_landmarks(head: SkinnedHead, vertices: Tensor) -> LandmarkSet:
    """Vertices as landmarks, numbered by vertex."""
    flat = head.faces.flatten()
    first = torch.full((len(head.v_template),), -1, dtype=torch.int64)
    first[flat.flip(0)] = torch.arange(len(flat)).flip(0)
    place = first[vertices]
    barycentric = torch.nn.functional.one_hot(place % 3, 3).to(head.v_template)
    return LandmarkSet(vertices, place // 3, barycentric)


def crops_of(footage: Footage, head: SkinnedHead, fit: Fit, progress: Progress = silent) -> Crops:
    """The face of every frame, grey. Frames where no face was fitted get the nearest pose's box."""
    face = head.regions["face"]
    images, boxes = [], []
    for frame in counted(footage, "cutting out faces", len(fit.seen), progress):
        points = fit.camera.project(head.pose(fit.params[frame.index]).vertices[face])
        image, place = face_crop(to_float(frame.image), fit.camera, points)
        images.append(image[None])
        boxes.append([place])
    placed = torch.tensor(boxes, dtype=torch.float64)
    return Crops(torch.stack(images), placed[..., :2], placed[..., 2])


def face_crop(
    image: Float[Tensor, "H W 3"], camera: Camera, face: Float[Tensor, "K 2"]
) -> tuple[UInt8[Tensor, "S S"], tuple[float, float, float]]:
    """A grey square with room around a face that is at these pixels; its left and top, and the size of its pixels."""
    low, high = face.amin(0), face.amax(0)
    box = Box.square_around(tuple(((low + high) / 2).tolist()), 1.7 * float((high - low).max()))
    part, _ = crop_and_resize(image, camera, box, CROP_SIDE, CROP_SIDE)
    gray = part @ torch.tensor([0.299, 0.587, 0.114])
    return (gray * 255).round().clamp(0, 255).to(torch.uint8), (box.left, box.top, box.width / CROP_SIDE)


def refine_fit(
    head: SkinnedHead,
    observations: Observations,
    fit: Fit,
    crops: Crops,
    settings: FitSettings,
    *,
    frozen: bool,
    progress: Progress = silent,
) -> Fit:
    """The fit, closer to the pictures.

    Key frames estimate identity and texture by turns; then every frame is fitted with both frozen, starting from its
    landmarks. With `frozen`, the texture of `fit.shared` is used and nothing shared is estimated. A texture needs
    several frames: of fewer than 8, the fit comes back as it is.
    """
    surface = LandmarkModel.of(head, surface_samples(head), fit.shared.offset)
    if not frozen:
        usable = np.flatnonzero(fit.seen)
        if len(usable) * crops.scale.shape[1] < _FEWEST:
            return fit
        wanted = max(_FEWEST, _KEY_FRAMES // crops.scale.shape[1])
        key = usable[np.unique(np.linspace(0, len(usable) - 1, wanted).round().astype(int))]
        problem, state, _ = problem_of(head, observations.select(key), _part(fit, key), settings)
        problem = replace(problem, tied=np.zeros_like(problem.tied))
        textures = []
        for scales in _SCALES:
            seen = crops.select(key).contrast(*scales)
            task = _with_pictures(head, problem, state, surface, seen, None)
            for turn in range(_TURNS):
                progress("learning the surface", len(textures) * _TURNS + turn, len(_SCALES) * _TURNS, {})
                state = _settle(task, state, free_identity=True, iterations=4)
                task = _with_pictures(head, problem, state, surface, seen, None)
            textures.append(_over_vertices(head, surface, task.known_texture))
        progress("learning the surface", len(_SCALES) * _TURNS, len(_SCALES) * _TURNS, {})
        shared = replace(fit.shared, identity=state.identity.float(), texture=torch.stack(textures).float())
        fit = fit_landmarks(head, observations, settings, shared)
    texture = fit.shared.texture
    if texture is None:
        return fit
    problem, state, used = problem_of(head, observations, fit, settings)
    for done, (values, scales) in enumerate(zip(texture.double(), _SCALES, strict=True)):
        progress("following the surface", done, len(_SCALES), {})
        task = _with_pictures(head, problem, state, surface, crops.contrast(*scales), values[surface.ids])
        state = _settle(task, state, free_identity=False, iterations=4)
    progress("following the surface", len(_SCALES), len(_SCALES), {})
    return with_state(head, fit, problem, state, used)


def _settle(task: PhotometricProblem, state: State, *, free_identity: bool, iterations: int) -> State:
    free = torch.ones(task.layout.size, dtype=torch.bool)
    return minimise(task, state, free_frame=free, free_identity=free_identity, free_focal=False, iterations=iterations)[
        0
    ]


def _part(fit: Fit, frames: np.ndarray) -> Fit:
    return replace(
        fit,
        params=fit.params[torch.from_numpy(frames)],
        residual=fit.residual[frames],
        eye_distance=fit.eye_distance[frames],
        seen=fit.seen[frames],
    )


def _over_vertices(head: SkinnedHead, surface: LandmarkModel, values: Tensor) -> Float64[Tensor, "V"]:
    return torch.full((len(head.v_template),), torch.nan, dtype=torch.float64).index_copy(0, surface.ids, values)


def _with_pictures(
    head: SkinnedHead,
    problem: Problem,
    state: State,
    surface: LandmarkModel,
    crops: Crops,
    texture: Float64[Tensor, "L"] | None,
) -> PhotometricProblem:
    """The problem with the residuals of the pictures; without a texture, with the one the state makes likely."""
    visible = _visibility(head, problem, state, surface, crops)
    given = {field.name: getattr(problem, field.name) for field in fields(Problem)}
    trust = SEVERAL_CAMERAS if problem.rig.cameras > 1 else ONE_CAMERA
    given["weights"] = trust.landmarks * problem.weights
    task = PhotometricProblem(
        **given,
        surface=surface,
        crops=crops,
        texture=visible.new_zeros(len(surface.ids)) if texture is None else texture,
        visible=visible,
        noise=trust.noise,
        share=trust.share,
    )
    if texture is None:
        values = torch.cat([task.values(state, frames) for frames in task.parts])
        texture = robust_texture(*(part.transpose(1, 2).flatten(0, 1) for part in (values, visible)))
    known = texture.isfinite()
    return replace(task, texture=texture.nan_to_num(), visible=torch.where(known[:, None], visible, 0.0))


def _visibility(
    head: SkinnedHead, problem: Problem, state: State, surface: LandmarkModel, crops: Crops
) -> Float64[Tensor, "N L C"]:
    """How squarely each picture shows each sample: 0 if it is turned away or hidden."""
    side = crops.images.shape[-1]
    joints, expression = problem.layout.joints(state.frames), problem.layout.expressions(state.frames)
    hair = head.attributes.get("hair_weight")
    trust = torch.ones(len(surface.ids)) if hair is None else 1 - 0.7 * hair[surface.ids]
    rows = []
    for index in range(len(state.frames)):
        params = replace(
            head.neutral(),
            identity=state.identity.float(),
            expression=expression[index].float(),
            joints={name: angle[index].float() for name, angle in joints.items()},
            translation=state.frames[index, 3:6].float(),
        )
        vertices = head.pose(params).vertices
        normals = vertex_normals(vertices, head.faces)[surface.ids]
        views = []
        for view in range(problem.rig.cameras):
            camera = crops.camera(problem.rig, state.log_focal, index, view)
            depth = rasterize_mesh(vertices, head.faces, camera).depth
            seen = camera.to_camera(vertices[surface.ids])
            turned = normals @ camera.world_to_camera[:3, :3].T
            facing = -(turned * torch.nn.functional.normalize(seen, dim=-1)).sum(-1)
            x, y = camera.project(vertices[surface.ids]).floor().long().clamp(0, side - 1).unbind(-1)
            front = depth[y, x]
            open_to_view = (front == 0) | (seen[:, 2] < front + 0.006)
            views.append(((facing - 0.25) / 0.3).clamp(0, 1) * open_to_view * trust)
        rows.append(torch.stack(views, -1))
    return torch.stack(rows).double()
