"""Makes calls with little memory left, as under `ulimit -v`: they give the right result or raise MemoryError,
and give the right result once the limit is gone.

Each call is the first of a child process, with each of the limits. PyTorch's allocator raises RuntimeError.
"""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

HERE = pathlib.Path(__file__).parent
#: Large enough that scratch memory needs pages of its own.
SIZES = {"rows": 300, "columns": 200, "masks": 7, "cells": 256, "width": 64, "tokens": 30}
#: Seconds that a child has.
LIMIT = 60

PROGRAM = f"""
import importlib, json, os, resource, signal, sys, warnings
warnings.simplefilter("ignore")
sys.path[:0] = {[str(HERE), str(HERE / "with_torch")]!r}
import fastloss
calls = importlib.import_module(sys.argv[1]).calls
limits = json.loads(sys.argv[2])

fastloss.set_workers(2)
every = calls(**{SIZES!r})
statm = open("/proc/self/statm")

def digest(call):
    try:
        return call.digest()
    except MemoryError as error:
        return "no memory"
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        return "no memory"

def in_child(call, limit):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm({LIMIT})
            statm.seek(0)
            pages = int(statm.read().split()[0])
            old, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + limit, hard))
            limited = digest(call)
            resource.setrlimit(resource.RLIMIT_AS, (old, hard))
            os.write(writer, (limited + " " + call.digest()).encode())
            status = 0
        except BaseException as error:
            resource.setrlimit(resource.RLIMIT_AS, (old, hard))
            os.write(writer, repr(error).encode())
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), text

found = {{call.name: [in_child(call, limit) for limit in limits] for call in every}}
print(json.dumps([[call.name, *found[call.name]] + [call.digest()] for call in every]))
"""


def assert_limits_are_errors(module: str, limits: Sequence[int], **environment: str) -> None:
    """limits: bytes of address space that a child may add to its parent's."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, module, json.dumps(limits)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stderr
    refused = 0
    for name, *outcomes, expected in json.loads(result.stdout):
        for limit, (status, text) in zip(limits, outcomes, strict=True):
            label = f"{name} with {limit} bytes left"
            assert status == 0, f"{label}: {status}, {text}"
            limited, unlimited = text.rsplit(" ", 1)
            assert limited in (expected, "no memory"), label
            assert unlimited == expected, f"{label}, and then without the limit"
            refused += limited != expected
    # Some of the limits are ones that calls meet.
    assert refused > 0
