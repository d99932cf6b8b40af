"""The command line of the comparison; scripts/compare-peers calls it."""

import argparse
import datetime
import importlib.metadata
import os
import pathlib
import platform
import re
import sys
from collections.abc import Callable, Container
from contextlib import ExitStack
from typing import Any

from . import chart, oracle, report
from .memory import in_child, in_swift
from .other_work import other_work
from .problems import Problem, heads, problems
from .providers import Call, Provider, available, empty_function, threads
from .quiet import LIMIT, Disturbance
from .swift_process import SwiftProcess
from .timing import Sampler, Timing, after_work, interleaved, ratio, sampler

ROOT = pathlib.Path(__file__).resolve().parents[3]
RESULTS = ROOT / "Benchmarks" / "Results"
#: The largest relative errors with which FastLoss and the others are timed: of the loss, and norm-wise of
#: each gradient. torch.compile adds up millions of squares in few float32 lanes, and loses four digits.
OWN_TOLERANCE = 5e-6
PEER_TOLERANCE = 1e-3
#: The same for the heads, of which float64 checks a small one.
HEAD_TOLERANCE = 2e-6
#: The largest distance of the peers from the first one at the size that is timed, where float64 checks a
#: smaller one. In the heads, a millionth of the hidden units are then within rounding of 0, where LeakyReLU's
#: slope jumps: their gradients differ by all of their length.
DISTANCE = 2e-3
#: Calls up to this length, in seconds, are timed after other work, too.
SHORT_CALL = 0.02
#: How often a row is timed if other processes keep the machine busy.
ATTEMPTS = 3
#: ECS of a larger batch than those that are timed: there the matrix of pairs takes most of the memory.
MEMORY = [
    Problem("elastic", (8192, 512), large=True),
    Problem("contrastive", (4096, 512), large=True),
    Problem("integration", (512, 1200, 512), large=True),
    *(row for row in heads(512) if row.loss == "integration_heads"),
]


def tolerance(problem: Problem, provider: str) -> float:
    if problem.is_head:
        return HEAD_TOLERANCE
    return OWN_TOLERANCE if provider.startswith(report.OWN) else PEER_TOLERANCE


def refuse(problem: Problem, wrong: dict[str, float], other: str) -> None:
    if wrong:
        raise SystemExit(f"compare-peers: {problem.name}: too far from {other}: {wrong}")


def checked_calls(
    problem: Problem, providers: list[Provider]
) -> tuple[dict[str, Call], dict[str, float], dict[str, float]]:
    """Every provider's call, with its error against float64, and its distance from the first if float64
    checks a smaller problem."""
    small = problem.checked
    inputs = small.inputs()
    truth = oracle.truth(small, inputs)
    calls = {provider.name: provider.prepare(small, inputs) for provider in providers}
    errors = {name: oracle.error(call.read(call.run()), truth) for name, call in calls.items()}
    wrong = {name: error for name, error in errors.items() if not error <= tolerance(problem, name)}
    refuse(problem, wrong, "float64")
    if small == problem:
        return calls, errors, {}

    inputs = problem.inputs()
    calls = {provider.name: provider.prepare(problem, inputs) for provider in providers}
    results = ((name, call.read(call.run())) for name, call in calls.items())
    first, reference = next(results)
    distances = {name: oracle.error(result, reference) for name, result in results}
    refuse(problem, {name: far for name, far in distances.items() if not far <= DISTANCE}, first)
    return calls, errors, distances


def in_sequence(first: Callable[[], Any], second: Callable[[], Any]) -> Callable[[], Any]:
    def both() -> None:
        first()
        second()

    return both


def timed_in_loop(
    samplers: dict[str, Sampler], timings: dict[str, Timing], seconds: float
) -> dict[str, Timing]:
    """The calls after other work, if FastLoss's takes no longer than that: but for Swift, whose process would
    first have to be woken, and for calls of other lengths."""
    chosen = {
        name: sample
        for name, sample in samplers.items()
        if name != report.SWIFT and timings[name].median < SHORT_CALL
    }
    return after_work(chosen, other_work(), seconds) if report.OWN in chosen else {}


def record(timing: Timing, base: Timing) -> dict[str, Any]:
    middle, low, high = ratio(timing, base)
    return {
        "median": timing.median,
        "ratio": middle,
        "ratio_low": low,
        "ratio_high": high,
        "rounds": len(timing.samples),
    }


def measure(problem: Problem, swift: SwiftProcess | None, seconds: float) -> dict[str, Any]:
    """Every provider's call, checked and then timed."""
    reasons = [(provider, provider.excludes(problem)) for provider in available()]
    skipped = {provider.name: reason for provider, reason in reasons if reason}
    calls, errors, distances = checked_calls(
        problem, [provider for provider, reason in reasons if not reason]
    )
    samplers: dict[str, Sampler] = {name: sampler(call.run) for name, call in calls.items()}
    if swift is not None and problem.swift is not None:
        if problem.swift in swift.rows:
            samplers[report.SWIFT] = swift.sampler(problem.swift)
        else:
            skipped[report.SWIFT] = f"Benchmarks has no row '{problem.swift}'"
    if problem.gradient and not problem.is_head:
        empty = empty_function(problem, problem.inputs())
        samplers[report.EMPTY] = sampler(empty)
        if report.NUMPY in calls:
            samplers[report.FLOOR] = sampler(in_sequence(calls[report.NUMPY].run, empty))
    base = next((name for name in (report.OWN, report.SWIFT) if name in samplers), next(iter(samplers)))
    processes = [os.getpid(), *([swift.process.pid] if swift else [])]
    least = float("inf")
    for _ in range(ATTEMPTS):
        with Disturbance(processes) as seen:
            attempt = interleaved(samplers, seconds, minimum=problem.rounds)
            in_loop = {} if problem.is_head else timed_in_loop(samplers, attempt, seconds)
        if seen.share < least:
            least, timings, loop_timings = seen.share, attempt, in_loop
        if least <= LIMIT:
            break
    records = {}
    for name, timing in timings.items():
        records[name] = record(timing, timings[base]) | {"error": errors.get(name)}
        if name in distances:
            records[name]["distance"] = distances[name]
        if name in loop_timings:
            records[name]["in_loop"] = record(loop_timings[name], loop_timings[base])
    return {
        "loss": problem.loss,
        "title": problem.title,
        "shape": problem.shape_text,
        "gradient": problem.gradient,
        "base": base,
        "providers": records,
        "skipped": skipped,
        "disturbance": least,
    }


def measure_memory(problem: Problem, program: str | None, rows: Container[str]) -> dict[str, Any]:
    found = {
        provider.name: in_child(problem, provider.name)
        for provider in available()
        if provider.name != report.NUMPY and provider.excludes(problem) is None
    }
    if program is not None and problem.swift in rows:
        found[report.SWIFT] = in_swift(problem, program, threads())
    return {"loss": problem.loss, "title": problem.title, "shape": problem.shape_text, "bytes": found}


def machine() -> dict[str, Any]:
    cpu = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return {
        "cpu": cpu.group(1) if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
    }


def library() -> dict[str, Any]:
    """What FastLoss says of itself, with OpenBLAS's file by its name: its folder is the machine's own."""
    import fastloss

    description = fastloss.describe()
    return {**description, "blasLibrary": pathlib.Path(description["blasLibrary"]).name}


def versions() -> dict[str, str]:
    names = {"Python": None, "PyTorch": "torch", "JAX": "jax", "NumPy": "numpy"}
    found = {"Python": platform.python_version()}
    for name, package in names.items():
        if package:
            try:
                found[name] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                continue
    return found


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def two_processors(count: int) -> None:
    """Keeps every provider to as many processors as threads: JAX would use all of a larger machine."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < count:
        raise SystemExit(
            f"compare-peers: {count} threads each were asked for, but there are {len(usable)} processors"
        )
    os.sched_setaffinity(0, usable[:count])


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/compare-peers",
        description="FastLoss against PyTorch, torch.compile and JAX, in turns in one process.",
    )
    parser.add_argument("--quick", action="store_true", help="leave out the large shapes and the memory")
    parser.add_argument("--filter", default="", metavar="REGEX", help="only the rows whose name matches")
    parser.add_argument("--list", action="store_true", help="show the names of the rows, and run none")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="time for each row's rounds, at least five of them"
    )
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the results")
    parser.add_argument("--swift", metavar="PROGRAM", help="the program Benchmarks, built for release")
    parser.add_argument("--update", action="store_true", help="write Benchmarks/Results; needs a full run")
    parser.add_argument(
        "--from",
        dest="source",
        type=pathlib.Path,
        metavar="FILE",
        help="with --update: the JSON of a full run",
    )
    options = parser.parse_args()
    if options.source and not options.update:
        parser.error("--from is for --update")
    if options.update and (options.quick or options.filter):
        parser.error("--update needs a full run")

    if options.source:
        import json

        update(json.loads(options.source.read_text()))
        return 0
    rows = [row for row in problems(options.quick) if re.search(options.filter, row.name, re.IGNORECASE)]
    memory = (
        [] if options.quick else [row for row in MEMORY if re.search(options.filter, row.name, re.IGNORECASE)]
    )
    if options.list:
        print("\n".join(row.name for row in rows))
        return 0

    two_processors(threads())
    os.environ["FASTLOSS_THREADS"] = str(threads())
    results: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "quick": options.quick or bool(options.filter),
        "threads": threads(),
        "machine": machine(),
        "versions": versions(),
        "fastloss": library(),
        "providers": [provider.name for provider in available()],
        "rows": [],
        "memory": [],
    }
    with ExitStack() as stack:
        swift = stack.enter_context(SwiftProcess(options.swift, threads())) if options.swift else None
        for index, row in enumerate(rows):
            progress(f"[{index + 1}/{len(rows)}] {row.name}")
            results["rows"].append(measure(row, swift, options.seconds))
    for row in memory:
        progress(f"memory: {row.name}")
        rows_of_swift = swift.rows if swift else frozenset()
        results["memory"].append(measure_memory(row, options.swift, rows_of_swift))
    progress("")

    print(report.summary(results))
    if report.has_loop(results):
        print(f"\nIn a loop: {report.LOOP}.\n")
        print(report.table(report.in_loop(results), markdown=False))
    print(
        "\nBack to back. FastLoss: time per call of fastloss.torch. The others: how many times longer they "
        "take, median over interleaved rounds.\n"
    )
    print(report.table(results, markdown=False))
    for line in report.omissions(results):
        print(line)
    for row in disturbed(results):
        print(f"{row['title']} {row['shape']}: other processes took {row['disturbance']:.0%} of the machine")
    if results["memory"]:
        print("\nPeak memory of one call with its gradients, beyond the inputs\n")
        print(report.memory_table(results, markdown=False))
    if options.json:
        report.write(results, options.json)
    if options.update:
        update(results)
    return 0


def disturbed(results: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in results["rows"] if row["disturbance"] > LIMIT]


def update(results: dict[str, Any]) -> None:
    if disturbed(results):
        raise SystemExit("compare-peers: the machine was not idle; committed results need an idle one")
    if results["quick"]:
        raise SystemExit(
            "compare-peers: these are the results of a part of the rows; committed results need a full run"
        )
    for row in results["rows"]:
        if not report.base(row).startswith(report.OWN):
            raise SystemExit(f"compare-peers: {row['title']} {row['shape']} has no time of FastLoss")
    path = RESULTS / f"peers.{results['fastloss']['instructionSet']}.json"
    report.renew_readme(RESULTS / "README.md", report.markdown(results, path.name))
    report.write(results, path)
    (RESULTS / "peers.svg").write_text(chart.svg(results), encoding="utf-8")
    print(f"wrote {path.name}, peers.svg and README.md in {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
