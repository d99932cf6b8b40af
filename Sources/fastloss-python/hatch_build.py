"""Compiles the extension module `_native`, and tags the wheel for this platform and Python 3.10 or newer.

The module uses Python's stable ABI, and no headers of NumPy or PyTorch. It loads libfastloss at run time.
An editable installation compiles it too, beside the package's source.
"""

import os
import pathlib
import shlex
import subprocess
import sysconfig
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: The oldest Python whose stable ABI has everything that the module uses, as Py_LIMITED_API has it.
STABLE_ABI = "0x030A0000"


class NativeWheel(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        package = pathlib.Path(self.root) / "src" / "fastloss"
        library = package / "_lib" / "libfastloss.so"
        if version != "editable" and not library.is_file():
            raise FileNotFoundError(
                f"{library} is missing; build the wheel with scripts/build-wheel, which adds it"
            )
        self.compile(package / "_native.abi3.so")
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"cp310-abi3-{platform}"

    def compile(self, module: pathlib.Path) -> None:
        root = pathlib.Path(self.root)
        headers = [sysconfig.get_paths()["include"], root.parent / "CFastLoss" / "include"]
        command = [
            *shlex.split(os.environ.get("CC", "cc")),
            *("-std=gnu11", "-O2", "-Wall", "-Wextra", "-fPIC", "-fvisibility=hidden", "-shared"),
            f"-DPy_LIMITED_API={STABLE_ABI}",
            *(f"-I{folder}" for folder in headers),
            *sorted(map(str, (root / "native").glob("*.c"))),
            *("-ldl", "-o", str(module)),
        ]
        subprocess.run(command, check=True)
