"""Files of other publishers that Vultus can use or that its methods need: what they are, their terms, who has them.

Facts only; nothing here is downloaded. A licence is the publisher's to state: read it before relying on a line here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Asset:
    """One file or folder. used_by: what needs it; files: usual names; by_name: it is recognised by its name only."""

    key: str
    title: str
    used_by: str
    files: tuple[str, ...]
    license: str
    source: str
    by_name: bool = False


_FLAME = "FLAME model licence: non-commercial research"
_FLAME_SITE = "FLAME's website, after registration"

ASSETS: tuple[Asset, ...] = (
    Asset("builtin", "built-in head", "every command, by default", (), "Apache-2.0", "ships with Vultus"),
    Asset("ict", "ICT-FaceKit Light", "head model", ("FaceXModel/", "*.npz"), "MIT (USC ICT)",
          "repository ICT-FaceKit"),
    Asset("gnm", "GNM Head v3", "head model", ("gnm_head.npz",), "Apache-2.0 (Google)", "the publisher's model pages"),
    Asset("gnm-landmarks", "GNM Head's 68 landmarks", "GNM Head: tracking, conversion", ("head_sparse_68.txt",),
          "Apache-2.0 (Google)", "the publisher's repository, data/landmarks"),
    Asset("flame", "FLAME 2017, 2019, 2020 or 2023", "head model; rigged, one-shot and generative avatars",
          ("flame2023.pkl", "generic_model.pkl", "flame2023_no_jaw.pkl"), _FLAME, _FLAME_SITE),
    Asset("flame-open", "FLAME 2023 Open", "head model", ("flame2023_Open.pkl",),
          "CC-BY-4.0 with use restrictions, as reported: read the licence in the archive", _FLAME_SITE, by_name=True),
    Asset("flame-masks", "FLAME's regions", "FLAME: tracking, presets", ("FLAME_masks.pkl",), _FLAME, _FLAME_SITE),
    Asset("flame-landmarks", "FLAME's 68 or 70 landmarks", "FLAME: tracking, ARKit, conversion",
          ("landmark_embedding_with_eyes.npy", "landmark_embedding.npy"), _FLAME, "with DECA or VHAP"),
    Asset("flame-static", "FLAME's 51 landmarks",
          "FLAME: tracking", ("flame_static_embedding.pkl",), _FLAME, _FLAME_SITE),
    Asset("flame-contour", "FLAME's sliding contour", "FLAME: tracking", ("flame_dynamic_embedding.npy",), _FLAME,
          "with FLAME's fitting code"),
    Asset("flame-mediapipe", "FLAME's MediaPipe landmarks", "FLAME: tracking", ("mediapipe_landmark_embedding.npz",),
          _FLAME, _FLAME_SITE),
    Asset("flame-eyelids", "FLAME's eyelid shapes", "FLAME: blinks", ("l_eyelid.npy", "r_eyelid.npy"), _FLAME,
          "with the metrical tracker"),
    Asset("flame-texture", "FLAME's texture space", "tracking with textures", ("FLAME_texture.npz",),
          "non-commercial, also for FLAME 2023 Open", _FLAME_SITE),
    Asset("bfm", "Basel Face Model 2009, fitting cut-out", "head model; dynamic avatars", ("BFM09_model_info.mat",),
          "non-commercial, by signed agreement; not to be redistributed", "made by each user from the licensed files"),
    Asset("faceverse", "FaceVerse v2", "fitting", ("faceverse_simple_v2.npy",), "not declared for the model",
          "its authors' repository"),
    Asset("gagavatar", "GAGAvatar's network", "one-shot avatars", ("GAGAvatar.pt",),
          "code MIT; the weights carry research terms", "its authors' repository"),
    Asset("dinov2", "DINOv2 ViT-B/14 (no registers)", "one-shot avatars", ("dinov2_vitb14*",), "its publisher's",
          "hub name dinov2_vitb14; also inside GAGAvatar.pt"),
    Asset("alexnet", "AlexNet (ImageNet)", "perceptual distance: training, LPIPS", ("alexnet*",), "its publisher's",
          "the torchvision project"),
    Asset("vgg16", "VGG-16 (ImageNet)", "LPIPS", ("vgg16*",), "its publisher's", "the torchvision project"),
    Asset("lpips-alex", "LPIPS 0.1, linear layers for AlexNet", "LPIPS", ("alex*.pth",), "BSD-2-Clause",
          "the LPIPS authors' repository; also inside torchmetrics"),
    Asset("lpips-vgg", "LPIPS 0.1, linear layers for VGG-16", "LPIPS", ("vgg*.pth",), "BSD-2-Clause",
          "the LPIPS authors' repository; also inside torchmetrics"),
    Asset("vggface", "VGG-Face descriptor", "GAGAvatar's perceptual distance", ("*vgg*face*",), "research only",
          "a conversion of MatConvNet's; also inside GAGAvatar.pt"),
    Asset("arcface", "ArcFace, residual network", "evaluation: identity", ("backbone.pth",),
          "weights: non-commercial research", "InsightFace's model list (arcface_torch)"),
    Asset("deca", "DECA", "evaluation: expression", ("deca_model.tar",), "non-commercial research",
          "its authors' repository"),
    Asset("tets", "tetrahedral grid", "dynamic avatars: mesh head", ("tets_data.npz",), "with Gaussian Head Avatar",
          "the publisher's repository; the same file for every person"),
    Asset("hair-list", "FLAME's scalp vertices", "hair", ("hair_list.pkl",), "with the hair fork",
          "the publisher's repository"),
    Asset("scalp-mesh", "FLAME mesh in Perm's head space", "hair", ("flame_mesh_aligned_to_pinscreen.obj",), _FLAME,
          "the publisher's repository", by_name=True),
    Asset("strand-codec", "strand basis of Perm", "hair", ("*.npz",), "Perm: code MIT", "inside Perm's pickles"),
    Asset("strand-prior", "strand prior Perm", "hair",
          ("stylegan2-raw-texture.pkl", "unet-superres.pkl", "vae-res-texture.pkl"), "Perm: code MIT",
          "Perm's authors", by_name=True),
    Asset("modnet", "MODNet portrait matting", "mattes of multi-view captures", ("*modnet*",), "its publisher's",
          "its publisher", by_name=True),
    Asset("cdgnet", "CDGNet human parsing (LIP)", "hair masks of multi-view captures", ("*cdgnet*",),
          "its publisher's", "its publisher", by_name=True),
    Asset("omniavatar", "OmniAvatar's network", "generative avatars", ("omniavatar.pkl",),
          "NVIDIA source-code licence in its files; not to be redistributed", "its authors", by_name=True),
    Asset("ffhq-labels", "OmniAvatar's FLAME fits of FFHQ", "generative avatars", ("ffhq_labels.npy",),
          "non-commercial (FLAME, FFHQ)", "its authors"),
    Asset("data-nersemble1", "NeRSemble v1", "multi-view training", ("camera_params/",), "no sharing of the data",
          "its authors, on request"),
    Asset("data-nersemble2", "NeRSemble v2", "multi-view training", ("calibration/camera_params.json",),
          "no sharing of the data", "its authors, on request"),
    Asset("data-nersemble-benchmark", "NeRSemble benchmark", "evaluation", ("nvs/", "mono_flame_avatar/"),
          "no sharing of the data", "its authors, on request"),
    Asset("data-insta", "captures of INSTA", "monocular training", ("transforms_train.json", "flame/exp/"),
          "that of each video", "its authors, or made with their scripts"),
    Asset("data-gaussian-avatars", "export of GaussianAvatars or VHAP", "rigged avatars", ("transforms_train.json",),
          "that of the footage", "its authors, or made with VHAP"),
    Asset("data-gha", "capture in Gaussian Head Avatar's layout", "dynamic avatars", ("cameras/", "params/"),
          "that of the footage", "made by each user"),
    Asset("data-vultus", "capture of Vultus", "every training", ("capture.json",), "that of the footage",
          "vultus track"),
)  # fmt: skip

BY_KEY = {asset.key: asset for asset in ASSETS}
