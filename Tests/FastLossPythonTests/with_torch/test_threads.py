"""The losses on PyTorch's OpenMP threads: the same results, in threads, in forked children, in any order."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

import fastloss
import fastloss.torch

ROWS, COLUMNS = 64, 512
#: Seconds that a child or a thread may take.
PATIENCE = 60


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Two threads of PyTorch and two workers, also where there is one processor."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    fastloss.set_workers(2)
    yield
    fastloss.set_workers(None)
    torch.set_num_threads(before)


@pytest.fixture
def embedding() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).standard_normal((ROWS, COLUMNS), dtype=np.float32))


def result(embedding: torch.Tensor) -> bytes:
    """The bits of a loss and its gradient."""
    leaf = embedding.clone().requires_grad_()
    loss = fastloss.torch.elastic_cell_similarity(leaf, 0.3)
    loss.backward()
    assert leaf.grad is not None
    return loss.detach().numpy().tobytes() + leaf.grad.numpy().tobytes()


def work_in_parallel() -> None:
    """An operation that PyTorch shares among its threads, which then look for more."""
    torch.ones(1 << 20).mul_(2)


def has_openmp() -> bool:
    return "OpenMP" in torch.__config__.parallel_info()


def test_same_bits_whichever_threads_work(embedding: torch.Tensor) -> None:
    fastloss.set_workers(1)
    expected = result(embedding)
    fastloss.set_workers(2)
    for threads in (2, 1, 3, 2):
        torch.set_num_threads(threads)
        for _ in range(20):
            work_in_parallel()
            assert result(embedding) == expected


@pytest.mark.parametrize(("policy", "expected"), [("", "pool"), ("active", "pool"), ("PASSIVE", "helpers")])
def test_threads_that_sleep_at_once_are_not_used(policy: str, expected: str) -> None:
    if not has_openmp():
        pytest.skip("this PyTorch has no OpenMP")
    program = "import fastloss, fastloss.torch; print(fastloss.describe()['threads'])"
    environment = os.environ | {"OMP_WAIT_POLICY": policy}
    if not policy:
        del environment["OMP_WAIT_POLICY"]
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout.strip()) == (0, expected), done.stderr


def test_numpy_alone_uses_the_helpers() -> None:
    program = "import fastloss; print(fastloss.describe()['threads'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout.strip()) == (0, "helpers"), done.stderr


#: Losses before any parallel operation of PyTorch, then a fork, and one in the child. A child waits for ever
#: if the losses have made a team of OpenMP's.
LOSSES_FIRST = """
import os, time, numpy, torch, fastloss, fastloss.torch
torch.set_num_threads(2)
fastloss.set_workers(2)
embedding = torch.from_numpy(numpy.ones((300, 200), dtype=numpy.float32))
for _ in range(20):
    fastloss.torch.elastic_cell_similarity(embedding, 0.3)
    time.sleep(0.002)
child = os.fork()
if child == 0:
    torch.ones(1 << 20).mul_(2)
    fastloss.torch.elastic_cell_similarity(embedding, 0.3)
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""


def test_losses_make_no_team() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOSSES_FIRST], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr


#: PyTorch computes in parallel, fastloss.torch is imported, and losses follow operations of PyTorch. Ends
#: when a loss has not woken the library's helper: it has found PyTorch's threads at work.
OPERATIONS_FIRST = '''
import pathlib, time, torch
torch.set_num_threads(2)
torch.ones(1 << 20).mul_(2)
time.sleep(0.1)
import fastloss, fastloss.torch
fastloss.set_workers(2)
embedding = torch.ones(300, 200)
def helpers():
    """The time for which each has run, once all sleep."""
    while True:
        time.sleep(0.02)
        threads = [thread for thread in pathlib.Path("/proc/self/task").iterdir()
                   if (thread / "comm").read_text() == "fastloss\\n"]
        times = [(thread / "schedstat").read_text().split()[0] for thread in threads]
        if all(") S " in (thread / "stat").read_text() for thread in threads):
            return times
fastloss.torch.elastic_cell_similarity(embedding, 0.3)
before = helpers()
assert len(before) == 1
for _ in range(200):
    torch.ones(1 << 20).mul_(2)
    fastloss.torch.elastic_cell_similarity(embedding, 0.3)
    after = helpers()
    if after == before:
        break
    before = after
else:
    raise SystemExit("every loss has woken the helper")
'''


def test_losses_find_a_team_that_is_older_than_the_import() -> None:
    if not has_openmp() or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs OpenMP and two processors")
    # On a busy machine, PyTorch's second thread may lose its processor just when the loss looks for it.
    done = subprocess.run(
        [sys.executable, "-c", OPERATIONS_FIRST], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr


def test_forked_child_has_threads_of_its_own(embedding: torch.Tensor) -> None:
    work_in_parallel()
    expected = result(embedding)
    for _ in range(3):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            # Without an exception handler: the test's process must not go on twice.
            try:
                array = embedding.numpy()
                loss = fastloss.elastic_cell_similarity(array, threshold=0.3)
                os.write(writer, f"{fastloss.describe()['threads']} {loss.value!r}".encode())
            finally:
                os._exit(0)
        os.close(writer)
        killer = threading.Timer(PATIENCE, os.kill, (child, 9))
        killer.start()
        with os.fdopen(reader) as output:
            text = output.read()
        assert os.waitpid(child, 0)[1] == 0
        killer.cancel()
        kind, value = text.split()
        assert kind == "helpers"
        assert np.float32(value).tobytes() == expected[:4]


def test_callers_on_several_threads(embedding: torch.Tensor) -> None:
    expected = result(embedding)
    found: list[bool] = []

    def call() -> None:
        for _ in range(50):
            work_in_parallel()
            found.append(result(embedding) == expected)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE)
        assert not caller.is_alive()
    assert found == [True] * 200


def test_a_team_that_has_ended_is_not_asked(embedding: torch.Tensor) -> None:
    """A smaller number of threads ends the others, and their clocks with them."""
    expected = result(embedding)
    for threads in (4, 2, 4, 1, 4):
        torch.set_num_threads(threads)
        work_in_parallel()
        assert result(embedding) == expected
        # Long enough for the threads to sleep.
        threading.Event().wait(0.05)
        assert result(embedding) == expected
