"""The command line of the measurement; scripts/measure-accuracy calls it."""

import argparse
import datetime
import json
import pathlib
import re
import sys
import zlib
from typing import Any

import numpy as np
import torch

import fastloss

from . import report
from .errors import Distribution
from .inputs import LONG
from .kernels import KERNELS, Kernel, in_precision

DRAWS, QUICK_DRAWS = 25, 3
ROOT = pathlib.Path(__file__).resolve().parents[3]


def measure(kernel: Kernel, family: str, draws: int) -> list[dict[str, Any]]:
    """The errors of one kernel on one kind of inputs: a row for each quantity."""
    found = {who: {name: Distribution() for name in kernel.measures} for who in ("FastLoss", "PyTorch")}
    for draw in range(draws):
        seed = zlib.crc32(f"{kernel.title} {family} {draw}".encode())
        arrays = kernel.families[family](np.random.default_rng(seed))
        truth = kernel.truth(arrays)
        results = {"FastLoss": kernel.ours(arrays), "PyTorch": kernel.written(arrays)}
        exact = in_precision(arrays, torch.float64)
        for who, quantities in results.items():
            assert quantities.keys() == truth.keys() == kernel.measures.keys(), (kernel.title, who)
            for name, errors in kernel.measures.items():
                found[who][name].add(errors(quantities[name], truth[name], exact))
    return [
        {"kernel": kernel.title, "inputs": family, "quantity": name}
        | {who: distributions[name].summary() for who, distributions in found.items()}
        for name in kernel.measures
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/measure-accuracy",
        description="The errors of FastLoss and of PyTorch against float64, on adversarial inputs. The exit "
        "code is 1 if an error of FastLoss is larger than PyTorch's by more than rounding.",
    )
    parser.add_argument("--quick", action="store_true", help="few draws, and none of 2²⁴ elements")
    parser.add_argument("--filter", default="", metavar="REGEX", help="only the kernels whose name matches")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the results")
    parser.add_argument("--update", action="store_true", help="write the committed results; needs a full run")
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
        report.update(json.loads(options.source.read_text(encoding="utf-8")), ROOT)
        return 0

    torch.set_num_threads(2)
    rows: list[dict[str, Any]] = []
    for kernel in KERNELS:
        if not re.search(options.filter, kernel.title, re.IGNORECASE):
            continue
        for family in kernel.families:
            if family not in LONG:
                rows += measure(kernel, family, QUICK_DRAWS if options.quick else DRAWS)
            elif not options.quick:
                rows += measure(kernel, family, 1)
    results: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "versions": {"PyTorch": torch.__version__, "NumPy": np.__version__},
        "fastloss": {key: fastloss.describe()[key] for key in ("version", "instructionSet", "blasCore")},
        "rows": rows,
    }
    print("Errors in units in the last place: median / 99 % / largest.\n")
    print(report.table(rows))
    if options.json:
        report.write(results, options.json)
    larger = report.larger(rows)
    for line in larger:
        print(f"measure-accuracy: {line}", file=sys.stderr)
    if options.update and not larger:
        report.update(results, ROOT)
    return 1 if larger else 0


if __name__ == "__main__":
    sys.exit(main())
