"""MediaPipe's bundled face mesh and selfie segmentation (the "solutions" API, last in 0.10.21), in or out of process.

This file imports nothing of Vultus, so that another Python interpreter that has MediaPipe can run it as a script and
serve an interpreter that has not: each line on standard input names a request `.npz`, each line on standard output its
answer `.npz` (or `error <text>`).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

POINTS = 478


@contextlib.contextmanager
def _native_messages_silenced() -> Iterator[None]:
    """TensorFlow Lite and absl write to the stderr descriptor while they start; nothing there is for the user."""
    sys.stderr.flush()
    saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)


class MediaPipeModels:
    """Face mesh with irises in static mode (no state between images) and the general selfie model.

    Args:
        max_faces: how many faces to look for in one image.
    """

    def __init__(self, max_faces: int = 4) -> None:
        os.environ.setdefault("GLOG_minloglevel", "3")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with _native_messages_silenced():
            from mediapipe.python.solutions import face_detection, face_mesh, selfie_segmentation

            self._mesh = face_mesh.FaceMesh(static_image_mode=True, max_num_faces=max_faces, refine_landmarks=True)
            self._finder = face_detection.FaceDetection(model_selection=1)
            self._selfie = selfie_segmentation.SelfieSegmentation(model_selection=0)
            blank = np.zeros((64, 64, 3), np.uint8)  # their threads report delegates until the first image is through
            for graph in (self._mesh, self._finder, self._selfie):
                graph.process(blank)

    def detect(self, image: np.ndarray) -> np.ndarray:
        """Points [faces, 478, 3] in pixels of an RGB uint8 image; z in the same unit, smaller is nearer.

        The mesh's own detector misses faces that fill little of the image, so where it finds none the far-range
        detector proposes a region to look at closely.
        """
        faces = self._mesh_points(image)
        if len(faces):
            return faces
        found = _process(self._finder, image).detections or []
        height, width = image.shape[:2]
        results = []
        for detection in found:
            box = detection.location_data.relative_bounding_box
            side = 2.2 * max(box.width * width, box.height * height)
            x, y = (box.xmin + box.width / 2) * width, (box.ymin + box.height / 2) * height
            left, top = max(int(x - side / 2), 0), max(int(y - side / 2), 0)
            crop = image[top : int(y + side / 2) + 1, left : int(x + side / 2) + 1]
            if min(crop.shape[:2]) >= 16:
                results += [points + np.array([left, top, 0], np.float32) for points in self._mesh_points(crop)[:1]]
        return np.stack(results) if results else np.zeros((0, POINTS, 3), np.float32)

    def _mesh_points(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        found = _process(self._mesh, image).multi_face_landmarks or []
        points = [[(point.x * width, point.y * height, point.z * width) for point in face.landmark] for face in found]
        return np.asarray(points, np.float32).reshape(-1, POINTS, 3)

    def segment(self, image: np.ndarray) -> np.ndarray:
        """Probability [H, W] in [0, 1] that a pixel belongs to a person."""
        mask = _process(self._selfie, image).segmentation_mask
        return np.clip(np.asarray(mask, np.float32), 0.0, 1.0)


def _process(graph: Any, image: np.ndarray) -> Any:
    with _native_messages_silenced():  # graphs warn on their first image and on their first face
        return graph.process(np.ascontiguousarray(image))


def _serve() -> None:
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing that a library prints may reach the answers
    models = MediaPipeModels()
    print("ready", file=channel, flush=True)
    for line in sys.stdin:
        request, answer = line.rstrip("\n").split("\t")
        try:
            with np.load(request, allow_pickle=False) as data:
                image, task = data["image"], str(data["task"])
            result = models.detect(image) if task == "detect" else models.segment(image)
            with open(answer, "wb") as file:
                np.savez(file, result=result)
            print(answer, file=channel, flush=True)
        except Exception as error:
            print(f"error {error!r}".replace("\n", " "), file=channel, flush=True)


if __name__ == "__main__":
    _serve()
