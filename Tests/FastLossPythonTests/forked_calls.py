"""Makes each call the first of a child process, whose parent has used FastLoss before the fork.

The parent's helper threads are not there in the child, and whatever the library makes at its first use was
not yet made: the parent has called the first of the calls alone, a masked MSE, which needs no product.
"""

import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent

#: Large enough that four workers share the work of every function.
SIZES = {"rows": 300, "columns": 200, "masks": 7, "cells": 256, "width": 64, "tokens": 30}
#: Seconds that a child has, and how many children make each call: which worker comes first is left to chance.
LIMIT, REPETITIONS = 20, 5

#: Forks children for every call before it makes any itself, and prints what became of the first that failed,
#: or else of the last: its exit code, what it found, and what this process then finds itself.
PROGRAM = f"""
import importlib, json, os, select, signal, sys, time, warnings
warnings.simplefilter("ignore")
sys.path[:0] = {[str(HERE), str(HERE / "with_torch")]!r}
import fastloss
calls = importlib.import_module(sys.argv[1]).calls

fastloss.set_workers(4)
every = calls(**{SIZES!r})
first = every[0]
assert first.name.startswith("masked_mse")
first.run()

def start(call):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        # As in a DataLoader's workers: the threads of PyTorch's OpenMP do not outlive a fork.
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
        try:
            os.write(writer, call.digest().encode())
            status = 0
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(status)
    os.close(writer)
    return call.name, child, reader, time.monotonic() + {LIMIT}

def finish(child, reader, end):
    ready, _, _ = select.select([reader], [], [], max(0, end - time.monotonic()))
    if not ready:
        os.kill(child, signal.SIGKILL)
    text = os.read(reader, 10000).decode() if ready else ""
    os.close(reader)
    _, status = os.waitpid(child, 0)
    return [os.waitstatus_to_exitcode(status), text]

found = {{}}
for _ in range({REPETITIONS}):
    children = [start(call) for call in every if found.get(call.name, [0])[0] == 0]
    for name, *child in children:
        found[name] = finish(*child)
print(json.dumps({{call.name: [*found[call.name], call.digest()] for call in every}}))
"""


def outcomes_in_children(module: str) -> dict[str, tuple[int, str, str]]:
    """For each call of a module: a child's exit code, what it found, and what its parent finds."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, module],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=2 * REPETITIONS * LIMIT,
    )
    assert result.returncode == 0, result.stderr
    found: dict[str, tuple[int, str, str]] = json.loads(result.stdout)
    return found


def assert_same_in_a_child(outcome: tuple[int, str, str], name: str) -> None:
    status, found, expected = outcome
    assert status != -9, f"{name} had not ended after {LIMIT} seconds in a child"
    assert status == 0, found
    assert found == expected, f"{name} gives another result in a child"
