"""Golden vectors of Gaussian splatting, on every backend that runs on a CPU."""

import numpy as np
import pytest
import torch

from vultus.cameras import Camera
from vultus.splats import Gaussians, RasterSettings, evaluate_sh, rasterize, sh_basis, sh_to_rgb
from vultus.splats.reference import covariance, project, projection_jacobian
from vultus.splats.settings import ALPHA_CUTOFF, FAR

pytestmark = pytest.mark.golden

SCENES = ["scene_sh0", "scene_sh3", "scene_feat32", "scene_edge", "scene_aa"]
BACKENDS = [("reference", torch.float64), ("reference", torch.float32), ("cpu", torch.float32)]


class Scene:
    """A golden scene drawn by one backend and differentiated with the golden cotangents."""

    def __init__(self, data, backend, dtype):
        def leaf(name):
            return torch.from_numpy(data[name]).to(dtype).requires_grad_()

        names = ["means", "quats", "scales", "opacities", "viewmats", "Ks", "backgrounds"]
        colors = "sh" if "sh" in data else "features"
        self.inputs = {name: leaf(name) for name in [*names, colors]}
        x = self.inputs
        degree = int(data["sh_degree"]) if "sh" in data else None
        gaussians = Gaussians(
            x["means"], x["quats"], x["scales"], x["opacities"], **{colors: x[colors]}, sh_degree=degree
        )
        camera = Camera(x["viewmats"], x["Ks"], int(data["width"]), int(data["height"]))
        settings = RasterSettings(antialiased=bool(data["antialiased"]), absgrad=True)
        self.raster = rasterize(gaussians, camera, x["backgrounds"], settings, backend=backend)
        assert self.raster.depth is not None
        cot = {name: torch.from_numpy(data[f"cot_{name}"]).to(dtype) for name in ["render", "alpha", "depth"]}
        self.loss = (
            (self.raster.color * cot["render"]).sum()
            + (self.raster.alpha[..., 0] * cot["alpha"]).sum()
            + (self.raster.depth[..., 0] * cot["depth"]).sum()
        )
        self.loss.backward()


@pytest.fixture(params=BACKENDS, ids=lambda b: f"{b[0]}-{str(b[1])[6:]}")
def backend(request):
    return request.param


@pytest.fixture(params=SCENES)
def scene(request, golden, backend):
    data = golden.load(request.param)
    return request.param, data, Scene(data, *backend), backend[1] == torch.float64


def test_images(scene):
    name, data, drawn, exact = scene
    stable = data["stable"] == 1
    limits = (
        {"color": 5e-5, "alpha": 5e-5, "depth": 1e-3}
        if name == "scene_edge"
        else {"color": 2e-5, "alpha": 2e-5, "depth": 2e-4}
    )
    for field, expected in [("color", "render"), ("alpha", "alpha"), ("depth", "depth")]:
        image = getattr(drawn.raster, field).detach().double().numpy()
        image = image if field == "color" else image[..., 0]
        error = np.abs(image - data[expected])[stable].max()
        assert error <= (1e-10 if exact else limits[field]), (field, error)


def test_gradients(scene):
    name, data, drawn, exact = scene
    limit = 1e-10 if exact else 1e-3 if name == "scene_edge" else 2e-4
    gradients = {key: tensor.grad for key, tensor in drawn.inputs.items()}
    gradients |= {"means2d": drawn.raster.info.means2d.grad}
    checked = 0
    for key, gradient in gradients.items():
        expected = data[f"grad_{key}"]
        error = np.abs(gradient.double().numpy() - expected).max() / np.abs(expected).max()
        assert error <= limit, (key, error)
        checked += 1
    assert checked == 9
    expected = data["absgrad_means2d"]
    error = np.abs(drawn.raster.info.absgrad.double().numpy() - expected).max() / np.abs(expected).max()
    assert error <= limit, ("absgrad", error)


def test_projection_of_visible_gaussians(scene):
    _, data, drawn, _ = scene
    info = drawn.raster.info
    on_image = (info.radii > 0).all(-1).numpy()
    visible = data["visible"] == 1
    assert not (on_image & ~visible).any()  # the golden flag does not test the image border
    assert on_image.sum() > 20
    error = np.abs(info.means2d.detach().double().numpy() - data["means2d"])[on_image].max()
    assert error <= 1e-3
    assert np.allclose(info.depths.double().numpy()[on_image], data["depths"][on_image], rtol=1e-5)


@pytest.mark.parametrize("name", SCENES)
def test_conics_of_the_scenes(golden, name):
    data = {key: torch.from_numpy(np.asarray(value)) for key, value in golden.load(name).items()}
    for c in range(len(data["viewmats"])):
        view, K = data["viewmats"][c], data["Ks"][c]
        points = data["means"] @ view[:3, :3].T + view[:3, 3]
        p = project(points, data["quats"], data["scales"], view[:3, :3], K, int(data["width"]), int(data["height"]))
        seen = data["visible"][c] == 1
        expected = data["conics"][c][seen]
        error = (p.conic.double()[seen] - expected).abs() / expected.abs().amax(-1, keepdim=True)
        assert error.max() <= (1e-3 if name == "scene_edge" else 1e-4)
        if "compensations" in data:
            error = (p.compensation(0.005).double() - data["compensations"][c])[seen].abs().max()
            assert error <= 1e-4


def test_constants(golden):
    data = golden.load("scene_edge")
    in_range = (data["depths"] >= RasterSettings().near) & (data["depths"] <= FAR)
    assert np.array_equal(data["visible"] == 1, in_range & (data["opacities"] >= np.float32(ALPHA_CUTOFF)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_projection(golden, dtype):
    data = {key: torch.from_numpy(np.asarray(value)) for key, value in golden.load("projection").items()}
    width, height, K = int(data["width"]), int(data["height"]), data["K"].to(dtype)
    leaves = [data[key].to(dtype).requires_grad_() for key in ("means_cam", "quats", "scales")]
    p = project(*leaves, torch.eye(3, dtype=dtype), K, width, height)
    limit = 1e-5 if dtype == torch.float32 else 1e-10
    jacobian = projection_jacobian(leaves[0], K, width, height)
    found = {"cov3d": covariance(*leaves[1:]), "J": jacobian, "cov2d": p.sharp, "cov2d_blur": p.blurred}
    for key, value in found.items():
        scale = data[key].abs().amax((-1, -2), keepdim=True)
        assert ((value - data[key]).abs() / scale).max() <= limit, key
    compensation = p.compensation(0.005)
    assert ((p.conic - data["conics"]).abs() / data["conics"].abs().amax(-1, keepdim=True)).max() <= 10 * limit
    assert ((p.means2d - data["means2d"]).abs() / data["means2d"].abs().amax()).max() <= limit
    assert (compensation - data["compensations"]).abs().max() <= 10 * limit
    loss = (p.conic * data["cot_conics"]).sum() + (p.means2d * data["cot_means2d"]).sum()
    (loss + (compensation * data["cot_compensations"]).sum()).backward()
    for leaf, key in zip(leaves, ["grad_means", "grad_quats", "grad_scales"], strict=True):
        assert (leaf.grad - data[key]).abs().max() <= 10 * limit * data[key].abs().max(), key


@pytest.mark.parametrize("degree", range(5))
def test_spherical_harmonics(golden, degree):
    data = golden.load("sh_basis")
    directions = torch.from_numpy(data["dirs"]).requires_grad_()
    coefficients = torch.from_numpy(data["coeffs"]).requires_grad_()
    basis = sh_basis(torch.nn.functional.normalize(directions, dim=-1), degree).detach().numpy()
    assert np.abs(basis - data["basis_deg4"][:, : (degree + 1) ** 2]).max() <= 1e-6
    color = evaluate_sh(directions, coefficients, degree)
    assert np.abs(color.detach().numpy() - data[f"color_deg{degree}"]).max() <= 1e-6
    (color * torch.from_numpy(data["cot_color"])).sum().backward()
    for leaf, key in [(directions, "grad_dirs"), (coefficients, "grad_coeffs")]:
        expected = data[f"{key}_deg{degree}"]
        limit = 1e-5 * np.abs(expected).max() if degree or key == "grad_coeffs" else 1e-6
        gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        assert np.abs(gradient.numpy() - expected).max() <= limit


def test_colors_of_the_scenes(golden):
    for name in ("scene_sh0", "scene_sh3"):
        data = golden.load(name)
        means, sh = torch.from_numpy(data["means"]).double(), torch.from_numpy(data["sh"]).double()
        for view, expected in zip(data["viewmats"], data["colors"], strict=True):
            center = torch.linalg.inv(torch.from_numpy(view).double())[:3, 3]
            found = sh_to_rgb(means - center, sh, int(data["sh_degree"]))
            assert np.abs(found.numpy() - expected).max() <= 1e-10
