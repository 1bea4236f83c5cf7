"""MediaPipe as a detector: in this process where it can be imported, else in a worker interpreter that has it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from vultus.errors import VultusError
from vultus.files import read_npz
from vultus.tracking.detectors import mediapipe_models
from vultus.tracking.detectors.faces import Face

WORKER_VARIABLE = "VULTUS_MEDIAPIPE_PYTHON"


class MediaPipeDetector:
    """478 points per face and a person matte from the models inside the MediaPipe wheel."""

    name = "mediapipe-0.10.21"
    segments_crops = True

    def __init__(self) -> None:
        try:
            self._models = mediapipe_models.MediaPipeModels()
        except (ImportError, AttributeError, OSError) as error:
            raise VultusError(
                f"MediaPipe is installed but does not start ({error}). Vultus needs its last release with built-in "
                'models: pip install "vultus[track]"'
            ) from error

    def detect(self, image: UInt8[np.ndarray, "H W 3"], *, frame: int = 0) -> list[Face]:
        return [Face.from_points(points, "mp478") for points in self._models.detect(image)]

    def segment(self, image: UInt8[np.ndarray, "H W 3"], *, frame: int = 0) -> Float32[np.ndarray, "H W"]:
        return self._models.segment(image)

    def close(self) -> None:
        """Nothing to release: the graphs end with the process."""


class MediaPipeWorker:
    """The same models in another interpreter, exchanging `.npz` files, so that this one may have any NumPy.

    Args:
        python: path of an interpreter in which `mediapipe==0.10.21` is installed.
    """

    name = "mediapipe-0.10.21"
    segments_crops = True

    def __init__(self, python: str | Path) -> None:
        self._python = str(python)
        self._folder = tempfile.TemporaryDirectory(prefix="vultus-mediapipe-")
        try:
            self._process = subprocess.Popen(
                [self._python, "-u", str(mediapipe_models.__file__)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        except OSError as error:
            raise VultusError(
                f"{self._python} (from {WORKER_VARIABLE}) cannot be run: {error.strerror or error}"
            ) from error
        if self._read_line() != "ready":
            self.close()
            raise VultusError(
                f"{self._python} (from {WORKER_VARIABLE}) has no working MediaPipe; install it there: "
                f"{self._python} -m pip install mediapipe==0.10.21"
            )

    def detect(self, image: UInt8[np.ndarray, "H W 3"], *, frame: int = 0) -> list[Face]:
        return [Face.from_points(points, "mp478") for points in self._ask("detect", image)]

    def segment(self, image: UInt8[np.ndarray, "H W 3"], *, frame: int = 0) -> Float32[np.ndarray, "H W"]:
        return self._ask("segment", image)

    def close(self) -> None:
        """End the worker and remove the exchange folder."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._folder.cleanup()

    def _ask(self, task: str, image: np.ndarray) -> np.ndarray:
        request, answer = Path(self._folder.name, "request.npz"), Path(self._folder.name, "answer.npz")
        np.savez(request, image=image, task=np.array(task))
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(f"{request}\t{answer}\n")
            stdin.flush()
        except OSError as error:
            raise VultusError(f"the MediaPipe worker {self._python} stopped; run the command again") from error
        line = self._read_line()
        if line != str(answer):
            raise VultusError(f"the MediaPipe worker {self._python} failed: {line or 'it stopped'}")
        return read_npz(answer)["result"]

    def _read_line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")


def mediapipe_detector() -> MediaPipeDetector | MediaPipeWorker:
    """MediaPipe in process, or in the interpreter that the environment variable VULTUS_MEDIAPIPE_PYTHON names.

    Raises:
        VultusError: at once, with the line that installs it, where neither exists.
    """
    if importlib.util.find_spec("mediapipe") is not None:
        return MediaPipeDetector()
    worker = os.environ.get(WORKER_VARIABLE)
    if worker:
        return MediaPipeWorker(worker)
    raise VultusError(
        'finding faces needs MediaPipe, which is not installed here: pip install "vultus[track]" '
        f"(Python 3.11 or 3.12), or set {WORKER_VARIABLE} to a Python that has mediapipe==0.10.21, or supply "
        "landmarks and masks as files"
    )
