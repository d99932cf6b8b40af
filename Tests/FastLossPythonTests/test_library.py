"""Loading, workers, threads, processes."""

import os
import pathlib
import re
import subprocess
import sys
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest

import fastloss
from fastloss import _library

Embeddings = np.ndarray[tuple[int, int], np.dtype[np.float32]]


@pytest.fixture
def embeddings() -> Embeddings:
    return np.random.default_rng(1).standard_normal((700, 64)).astype(np.float32)


def python(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_versions_agree() -> None:
    assert fastloss.__version__ == fastloss.library_version()
    assert fastloss.describe()["abiVersion"] == 1


def test_a_library_that_is_not_there() -> None:
    result = python("import fastloss", FASTLOSS_LIBRARY="/nowhere/libfastloss.so")
    assert result.returncode != 0
    assert "ImportError: FASTLOSS_LIBRARY is '/nowhere/libfastloss.so', which is not a file" in result.stderr


def test_a_library_that_is_another(tmp_path: pathlib.Path) -> None:
    text = tmp_path / "text.so"
    text.write_text("not a library")
    assert "cannot be loaded" in python("import fastloss", FASTLOSS_LIBRARY=str(text)).stderr
    other = next(iter(sorted(pathlib.Path("/usr/lib").glob("*-linux-gnu/libm.so.6"))), None)
    if other is not None:
        result = python("import fastloss", FASTLOSS_LIBRARY=str(other))
        assert "is not a libfastloss that this package supports" in result.stderr


@pytest.mark.skipif("FASTLOSS_LIBRARY" in os.environ, reason="a library of the developer's, not the wheel's")
def test_the_wheel_brings_what_it_needs() -> None:
    """Neither Swift nor a BLAS of the system is in this process."""
    folder = pathlib.Path(fastloss.__file__).parent
    maps = pathlib.Path("/proc/self/maps").read_text().splitlines()
    mapped = {line.split(maxsplit=5)[5] for line in maps if "/" in line}
    native = [path for path in mapped if ".so" in pathlib.Path(path).name]
    assert str(folder / "_lib" / "libfastloss.so") in native
    blas = [path for path in native if "blas" in pathlib.Path(path).name or "gfortran" in path]
    assert any(path.startswith(f"{folder}.libs/") for path in blas)
    # The description names that library, and a version of it that has the kernels of today's processors.
    description = fastloss.describe()
    assert description["blasLibrary"] in blas
    version = re.match(r"OpenBLAS (\d+)\.(\d+)\.(\d+)", description["blasConfiguration"])
    assert version and tuple(map(int, version.groups())) >= (0, 3, 34), description
    site = str(folder.parent)
    assert all(path.startswith(site) for path in blas), blas
    assert not [path for path in native if "swift" in path.lower() or "dispatch" in path]


def test_workers_change_nothing_but_the_time(embeddings: Embeddings) -> None:
    default = fastloss.get_workers()
    gradients = []
    try:
        for workers in (1, 2, 5, None):
            fastloss.set_workers(workers)
            assert fastloss.get_workers() == (workers or default)
            gradient = np.empty_like(embeddings)
            loss = fastloss.elastic_cell_similarity(embeddings, gradient=gradient)
            gradients.append((loss, gradient.tobytes()))
    finally:
        fastloss.set_workers(None)
    assert all(result == gradients[0] for result in gradients)


@pytest.mark.parametrize(
    "workers",
    [0, -1, 4097, 10**6, 2**63, 2**64 + 1, 10**5000, True, 2.0, "2", b"2", [2], np.ones(1)],
    ids=type,
)
def test_numbers_of_workers_that_are_none(embeddings: Embeddings, workers: Any) -> None:
    """A refused call leaves the earlier choice in force."""
    expected = fastloss.elastic_cell_similarity(embeddings)
    for earlier in (3, None):
        fastloss.set_workers(earlier)
        try:
            before = fastloss.get_workers()
            with pytest.raises(fastloss.InvalidParameterError, match=r"workers is .*(expected|must)"):
                fastloss.set_workers(workers)
            assert fastloss.get_workers() == before
            assert fastloss.elastic_cell_similarity(embeddings) == expected
        finally:
            fastloss.set_workers(None)


@pytest.mark.parametrize("workers", [np.int64(2), np.uint8(2), 4096], ids=repr)
def test_numbers_of_workers_of_other_types(workers: Any) -> None:
    fastloss.set_workers(workers)
    try:
        assert fastloss.get_workers() == workers
    finally:
        fastloss.set_workers(None)


@pytest.mark.parametrize("workers", [None, 2])
def test_threads_at_once(embeddings: Embeddings, workers: int | None) -> None:
    fastloss.set_workers(workers)
    expected = fastloss.elastic_cell_similarity(embeddings)
    found = []

    def work() -> None:
        for _ in range(20):
            found.append(fastloss.elastic_cell_similarity(embeddings))
            found.append(fastloss.elastic_cell_similarity(embeddings[:300]) and expected)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fastloss.set_workers(None)
    assert found == [expected] * 160


def test_a_workspace_goes_with_its_thread(embeddings: Embeddings) -> None:
    seen: list[weakref.ref[_library.Workspace]] = []

    def work() -> None:
        fastloss.elastic_cell_similarity(embeddings)
        assert _library.state.workspace is not None
        seen.append(weakref.ref(_library.state.workspace))

    fastloss.set_workers(1)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        fastloss.set_workers(None)
    assert len(seen) == 1 and seen[0]() is None


def test_the_gil_is_released() -> None:
    """Another Python thread runs while a long call does."""
    large = np.random.default_rng(1).standard_normal((3000, 256)).astype(np.float32)
    fastloss.set_workers(1)
    counted, stop = [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            counted[0] += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    before = counted[0]
    fastloss.elastic_cell_similarity(large, gradient=np.empty_like(large))
    during = counted[0] - before
    stop.set()
    thread.join()
    fastloss.set_workers(None)
    # With the GIL held, the other thread could count at most once.
    assert during > 10


def test_after_a_fork(embeddings: Embeddings) -> None:
    """The parent's helper threads are not there in a child; its calls end all the same, with the same
    result."""
    program = """
import os, sys, warnings, numpy as np, fastloss
warnings.simplefilter("ignore")
rows = np.random.default_rng(1).standard_normal((700, 64)).astype(np.float32)
expected = fastloss.elastic_cell_similarity(rows)
child = os.fork()
if child == 0:
    os._exit(0 if fastloss.elastic_cell_similarity(rows) == expected else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert _library.chosen_workers == 0
