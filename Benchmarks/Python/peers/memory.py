"""Peak memory that one call takes beyond its inputs, measured in a process of its own.

The call runs once on a small problem of the same kind, so that libraries are loaded and threads exist, and
then on the problem itself: what is reported is how far the resident set grew above where it stood before that
call. Gradients are part of it, for everyone alike. A second call would take nothing new where allocators keep
their memory, so that the first is what a user's machine has to have room for.
"""

import ctypes
import json
import os
import pathlib
import subprocess
import sys
from dataclasses import replace

from .problems import Problem
from .providers import available
from .swift_process import SwiftProcess


def kibibytes(field: str, process: int | str = "self") -> int:
    status = pathlib.Path(f"/proc/{process}/status")
    for line in status.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise RuntimeError(f"{status} has no {field}")


def reset_peak(process: int | str = "self") -> None:
    """Sets the high-water mark to what is resident now."""
    pathlib.Path(f"/proc/{process}/clear_refs").write_text("5")


def measure(problem: Problem, provider_name: str) -> int:
    """Bytes by which memory grows. Call it in a fresh process."""
    provider = next(provider for provider in available() if provider.name == provider_name)
    small = replace(problem, shape=(16, *problem.shape[1:]))
    provider.prepare(small, small.inputs()).run()
    call = provider.prepare(problem, problem.inputs())
    if provider_name == "torch.compile":
        # The first call compiles, which takes memory that does not count.
        call.run()
    # Return free memory to the system: memory left over from the inputs would hide what the call takes.
    ctypes.CDLL(None).malloc_trim(0)
    reset_peak()
    before = kibibytes("VmRSS")
    result = call.run()
    peak = kibibytes("VmHWM")
    del result
    return max(0, peak - before) * 1024


def in_child(problem: Problem, provider_name: str) -> int:
    request = json.dumps({"loss": problem.loss, "shape": problem.shape, "provider": provider_name})
    folder = str(pathlib.Path(__file__).resolve().parents[1])
    path = os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])
    child = subprocess.run(
        [sys.executable, "-m", "peers.memory", request],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return int(child.stdout.splitlines()[-1])


def in_swift(problem: Problem, program: str, threads: int) -> int:
    """The same of the Swift API. Its gradients' buffers are among the inputs: their bytes are added."""
    assert problem.swift is not None
    # With this, memory left over from the inputs goes back to the system.
    with SwiftProcess(program, threads, MALLOC_MMAP_THRESHOLD_=str(2**17)) as swift:
        swift.sampler(problem.swift)(0)  # Makes the inputs, and calls nothing.
        reset_peak(swift.process.pid)
        before = kibibytes("VmRSS", swift.process.pid)
        swift.sampler(problem.swift)(1)
        peak = kibibytes("VmHWM", swift.process.pid)
    inputs = problem.inputs()
    gradients = sum(inputs[name].nbytes for name in problem.differentiated)
    return max(0, peak - before) * 1024 + gradients


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    print(measure(Problem(request["loss"], tuple(request["shape"])), request["provider"]))
