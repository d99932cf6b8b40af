"""Finds and loads libfastloss, and turns its statuses into exceptions."""

import ctypes
import functools
import json
import os
import pathlib
import threading
from typing import Any, NoReturn

from . import _abi
from ._parameters import integer
from .errors import BY_STATUS, FastLossError, InvalidParameterError

__all__ = [
    "describe",
    "fail",
    "get_workers",
    "library",
    "library_version",
    "masked_options",
    "set_workers",
    "workspace",
]

#: Names a library to load instead of the bundled one: a fresh build, while developing.
PATH_VARIABLE = "FASTLOSS_LIBRARY"
BUNDLED = pathlib.Path(__file__).parent / "_lib" / "libfastloss.so"


def find() -> pathlib.Path:
    chosen = os.environ.get(PATH_VARIABLE)
    if chosen:
        path = pathlib.Path(chosen)
        if not path.is_file():
            raise ImportError(f"{PATH_VARIABLE} names {chosen!r}, which is not a file")
        return path
    if not BUNDLED.is_file():
        raise ImportError(
            f"this installation of fastloss has no {BUNDLED}. Install a wheel made by scripts/build-wheel, "
            f"or set {PATH_VARIABLE} to the libFastLossC.so of `swift build --product FastLossC`"
        )
    return BUNDLED


def load() -> ctypes.CDLL:
    path = find()
    try:
        # RTLD_LOCAL: the OpenBLAS beneath it must not answer for the one that NumPy or SciPy bundles, or they
        # for it.
        loaded = ctypes.CDLL(str(path), mode=ctypes.RTLD_LOCAL)
    except OSError as error:
        raise ImportError(f"{path} cannot be loaded: {error}") from error
    try:
        _abi.declare(loaded)
    except AttributeError as error:
        raise ImportError(f"{path} is not a libfastloss that this package knows: {error}") from error
    version = loaded.fastloss_abi_version()
    if version != _abi.ABI_VERSION:
        raise ImportError(f"{path} has ABI {version}; this package needs ABI {_abi.ABI_VERSION}")
    return loaded


#: The loaded library. A call releases the GIL for as long as it takes.
library = load()


def fail(status: int) -> NoReturn:
    """Raises what the status stands for, with the library's own sentence."""
    message = library.fastloss_last_error().decode()
    raise BY_STATUS.get(status, FastLossError)(message, status)


def library_version() -> str:
    """The version of the loaded libfastloss."""
    version: bytes = library.fastloss_version()
    return version.decode()


def describe() -> dict[str, Any]:
    """What this process computes with: instruction set, workers, the BLAS in use and its processor core."""
    length = library.fastloss_describe(None, 0)
    buffer = ctypes.create_string_buffer(length + 1)
    library.fastloss_describe(buffer, len(buffer))
    description: dict[str, Any] = json.loads(buffer.value)
    return description


# --- Workers ------------------------------------------------------------------------------------------------


class Workspace:
    """Scratch memory and a number of workers; freed with the last reference to it."""

    def __init__(self, workers: int) -> None:
        handle = ctypes.c_void_p()
        status = library.fastloss_workspace_create(workers, ctypes.byref(handle))
        if status:
            fail(status)
        self.workers = workers
        self.handle = handle.value
        # Bound here: at the interpreter's end the module may be gone before this object is.
        self.destroy = library.fastloss_workspace_destroy

    def __del__(self) -> None:
        if "destroy" in self.__dict__:
            self.destroy(self.handle)


class ThreadState(threading.local):
    """The calling thread's workspace, where a number of workers has been chosen; it goes with the thread."""

    workspace: Workspace | None = None


state = ThreadState()
chosen_workers = 0


def set_workers(workers: int | None) -> None:
    """Sets how many threads a call may use, for the whole process and from the next call on.

    None is the default: the environment variable FASTLOSS_THREADS, or else the number of processors that the
    process may use. Results do not depend on it.

    Raises InvalidParameterError for what is no number from 1 to the library's limit, 4096; the earlier choice
    stays then.
    """
    global chosen_workers
    if workers is None:
        chosen_workers = 0
        return
    count = integer("workers", workers, bits=64)
    if count < 1:
        raise InvalidParameterError(f"workers is {count}; expected at least 1, or None")
    # The workspace is made before the choice is kept: the library says how many are too many.
    state.workspace = Workspace(count)
    chosen_workers = count


def get_workers() -> int:
    """How many threads a call of this thread may use."""
    count: int = library.fastloss_workspace_workers(workspace())
    return count


def workspace() -> int | None:
    """The handle to pass on; None stands for the calling thread's own workspace, which the library keeps."""
    if chosen_workers == 0:
        return None
    own = state.workspace
    if own is None or own.workers != chosen_workers:
        own = state.workspace = Workspace(chosen_workers)
    return own.handle


@functools.cache
def masked_options(reduction: int, when_empty: int) -> int:
    """The address of one of the six, which are kept for good."""
    options = _abi.sized(_abi.MaskedOptions, reduction, when_empty)
    kept.append(options)
    return ctypes.addressof(options)


kept: list[ctypes.Structure] = []
