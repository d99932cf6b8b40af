"""Finds and loads libfastloss, and raises its errors as exceptions.

The losses are called through the extension module `_native`. The functions that no training step calls, and
those that reduce and pool, are called through ctypes.
"""

import ctypes
import functools
import json
import os
import pathlib
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from . import _abi, _native
from ._parameters import integer
from .errors import BY_STATUS, FastLossError, InvalidParameterError

__all__ = [
    "TERM_NAMES",
    "call",
    "describe",
    "fail",
    "get_workers",
    "library",
    "library_version",
    "masked_options",
    "set_workers",
    "sized",
    "workspace",
]

#: The environment variable with the path of another library, for example of a development build.
PATH_VARIABLE = "FASTLOSS_LIBRARY"
BUNDLED = pathlib.Path(__file__).parent / "_lib" / "libfastloss.so"


def find() -> pathlib.Path:
    chosen = os.environ.get(PATH_VARIABLE)
    if chosen:
        path = pathlib.Path(chosen)
        if not path.is_file():
            raise ImportError(f"{PATH_VARIABLE} is {chosen!r}, which is not a file")
        return path
    if not BUNDLED.is_file():
        raise ImportError(
            f"this installation of fastloss has no {BUNDLED}. Install a wheel from scripts/build-wheel, or "
            f"set {PATH_VARIABLE} to the libFastLossC.so of `swift build --product FastLossC`"
        )
    return BUNDLED


def load() -> ctypes.CDLL:
    path = find()
    try:
        # RTLD_LOCAL keeps its OpenBLAS apart from those of NumPy and SciPy.
        loaded = ctypes.CDLL(str(path), mode=ctypes.RTLD_LOCAL)
    except OSError as error:
        raise ImportError(f"{path} cannot be loaded: {error}") from error
    for name, (result, arguments) in _abi.FUNCTIONS.items():
        try:
            function = getattr(loaded, name)
        except AttributeError as error:
            raise ImportError(f"{path} is not a libfastloss that this package supports: {error}") from error
        function.restype, function.argtypes = result, arguments
    version = loaded.fastloss_abi_version()
    if version != _abi.ABI_VERSION:
        raise ImportError(f"{path} has ABI {version}; this package needs ABI {_abi.ABI_VERSION}")
    _native.open_library(str(path))
    return loaded


#: The loaded library.
library = load()

#: scGPT's names of the terms, in the order of `fastloss_term`.
TERM_NAMES: tuple[str, ...] = tuple(
    library.fastloss_term_name(term).decode() for term in range(_abi.TERM_COUNT)
)

AnyStructure = TypeVar("AnyStructure", bound=ctypes.Structure)


def sized(structure: type[AnyStructure], *values: Any, **members: Any) -> AnyStructure:
    """A struct that begins with its size. Members without a value are 0."""
    return structure(ctypes.sizeof(structure), *values, **members)


#: The Python names of parameters and values that have another name in C.
NAMES = {
    "FASTLOSS_EMPTY_NAN": '"nan"',
    "FASTLOSS_EMPTY_ZERO": '"zero"',
    "batch_lambda": "lambd",
    "lambda": "lambd",
    "reversed": "reversed_gradient",
    "scale": "gradient_scale",
    "similarities": "out",
    "states": "token_states",
}


def fail(status: int, names: Mapping[str, str] = NAMES) -> NoReturn:
    """Raises the exception of a status, with the library's message in Python's names."""

    def renamed(match: re.Match[str]) -> str:
        name = match[0]
        if name.startswith("gradients."):
            return f"gradients[{name.removeprefix('gradients.')!r}]"
        return names.get(name, name)

    message = re.sub(r"[A-Za-z_][\w.]*", renamed, library.fastloss_last_error().decode())
    raise BY_STATUS.get(status, FastLossError)(message, status)


def call(function: Callable[..., Any], checked: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
    """The result of a function of `_native`.

    If the function cannot read an argument, `checked` converts the arguments or raises the error.
    """
    result = function(workspace(), *arguments)
    if result is None:
        result = function(workspace(), *checked(*arguments))
    if type(result) is int:
        fail(result)
    if result is None:
        raise FastLossError("an argument has a form that libfastloss cannot read")
    return result


def library_version() -> str:
    """The version of the loaded libfastloss."""
    version: bytes = library.fastloss_version()
    return version.decode()


def describe() -> dict[str, Any]:
    """Describes the process: instruction set, workers, and the BLAS: file, version, kernels of which core."""
    length = library.fastloss_describe(None, 0)
    buffer = ctypes.create_string_buffer(length + 1)
    library.fastloss_describe(buffer, len(buffer))
    description: dict[str, Any] = json.loads(buffer.value)
    blas = description["blasLibrary"]
    if "/" in blas:
        # The wheel finds its BLAS relative to the library.
        description["blasLibrary"] = os.path.normpath(blas)
    return description


# --- Workers ------------------------------------------------------------------------------------------------


class Workspace:
    """Scratch memory and a number of workers. The last reference frees it."""

    def __init__(self, workers: int) -> None:
        handle = ctypes.c_void_p()
        status = library.fastloss_workspace_create(workers, ctypes.byref(handle))
        if status:
            fail(status)
        self.workers = workers
        self.handle = handle.value
        # At interpreter exit, the module may be deleted before this object.
        self.destroy = library.fastloss_workspace_destroy

    def __del__(self) -> None:
        if "destroy" in self.__dict__:
            self.destroy(self.handle)


class ThreadState(threading.local):
    """The calling thread's workspace after `set_workers`. The end of the thread frees it."""

    workspace: Workspace | None = None


state = ThreadState()
chosen_workers = 0


def set_workers(workers: int | None) -> None:
    """Sets the number of threads per call for the whole process, from the next call on.

    None restores the default: the environment variable FASTLOSS_THREADS, or the number of processors
    available to the process. Results do not depend on it.

    Raises InvalidParameterError unless the number is from 1 to 4096. The earlier setting then stays.
    """
    global chosen_workers
    if workers is None:
        chosen_workers = 0
        return
    count = integer("workers", workers, bits=64)
    if count < 1:
        raise InvalidParameterError(f"workers is {count}; expected at least 1, or None")
    # Create the workspace first: the library checks the upper limit.
    state.workspace = Workspace(count)
    chosen_workers = count


def get_workers() -> int:
    """The number of threads that a call of this thread may use."""
    count: int = library.fastloss_workspace_workers(workspace())
    return count


def workspace() -> int | None:
    """The workspace to pass to the library. None is the library's own workspace of the calling thread."""
    if chosen_workers == 0:
        return None
    own = state.workspace
    if own is None or own.workers != chosen_workers:
        own = state.workspace = Workspace(chosen_workers)
    return own.handle


@functools.cache
def masked_options(reduction: int, when_empty: int) -> int:
    """The address of the options. All six combinations are kept for the life of the process."""
    options = sized(_abi.MaskedOptions, reduction, when_empty)
    kept.append(options)
    return ctypes.addressof(options)


kept: list[ctypes.Structure] = []
