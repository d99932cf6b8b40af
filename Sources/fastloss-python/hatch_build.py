"""Tags the wheel for this platform and any Python: it has a native library, but no extension module."""

import pathlib
import sysconfig
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PlatformWheel(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        library = pathlib.Path(self.root) / "src" / "fastloss" / "_lib" / "libfastloss.so"
        if version != "editable" and not library.is_file():
            raise FileNotFoundError(
                f"{library} is missing; build the wheel with scripts/build-wheel, which adds it"
            )
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
