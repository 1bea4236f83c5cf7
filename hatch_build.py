"""Build hook: compile the kernel library into the wheel, or say in the wheel why it could not be compiled."""

from __future__ import annotations

import importlib.util
import os
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def _build_module() -> ModuleType:
    """`vultus.kernels.build`, loaded by its path: the package itself cannot be imported in a build environment."""
    path = Path(__file__).resolve().parent / "src" / "vultus" / "kernels" / "build.py"
    spec = importlib.util.spec_from_file_location("vultus_kernels_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class KernelBuildHook(BuildHookInterface):
    """VULTUS_REQUIRE_KERNEL=1 turns a failed compilation into a failed build."""

    def dependencies(self) -> list[str]:
        """The zig compiler comes as a wheel; it is asked for only where there is no compiler."""
        if self.target_name != "wheel" or _build_module().find_compiler() is not None:
            return []
        return ["ziglang>=0.13"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        kernels = _build_module()
        root = Path(self.root)
        try:
            library = kernels.build()
        except kernels.BuildError as error:
            if os.environ.get("VULTUS_REQUIRE_KERNEL") == "1":
                raise
            self.app.display_warning(f"Vultus is installed without compiled kernels: {error}")
            kernels.LIBRARY.unlink(missing_ok=True)  # one of an older build would not fit these sources
            kernels.WHY_NOT.write_text(f"{error}\n", encoding="utf-8")
            build_data["artifacts"].append(kernels.WHY_NOT.relative_to(root).as_posix())
            return
        kernels.WHY_NOT.unlink(missing_ok=True)
        build_data["artifacts"].append(library.relative_to(root).as_posix())
        build_data["pure_python"] = False
        machine = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{machine}"
