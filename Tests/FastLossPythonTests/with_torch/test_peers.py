"""The comparison: its peers compute what scGPT computes, its checks find what is wrong, its report says what
was seen."""

import importlib.util
import json
import os
import pathlib
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from peers import __main__ as command
from peers import memory, oracle, quiet, report, timing, torch_written
from peers.problems import Problem, problems
from peers.providers import Provider, available
from peers.swift_process import SwiftProcess

SMALL = [
    Problem("integration", (5, 40, 16)),
    Problem("integration", (5, 40, 16), gradient=False),
    Problem("value_terms", (5, 40)),
    Problem("elastic", (9, 16)),
    Problem("contrastive", (9, 16)),
    Problem("cross_entropy", (9, 4)),
]


@pytest.mark.parametrize("problem", SMALL, ids=lambda problem: problem.name)
@pytest.mark.parametrize("provider", available(), ids=lambda provider: provider.name)
def test_everyone_agrees_with_float64(problem: Problem, provider: Provider) -> None:
    if provider.name == "torch.compile" and problem.loss not in ("integration", "elastic"):
        pytest.skip("the compiled integration has the others' formulas")
    inputs = problem.inputs()
    call = provider.prepare(problem, inputs)
    found = call.read(call.run())
    assert len(found[2]) == len(problem.differentiated)
    assert oracle.error(found, oracle.truth(problem, inputs)) < 2e-6
    # The second call gives the same: no call changes its inputs.
    assert oracle.error(call.read(call.run()), found) == 0


@pytest.mark.skipif(importlib.util.find_spec("scgpt") is None, reason="scgpt is not installed")
def test_as_written_is_what_scgpt_computes() -> None:
    """Bit by bit the same as scGPT's own functions: the same operations in the same order."""
    from light_scgpt import light_scgpt

    loss = light_scgpt().loss
    inputs = {name: torch.from_numpy(value) for name, value in SMALL[2].inputs().items()}
    values = inputs["targets"], inputs["mask"]
    assert torch_written.masked_mse(inputs["gene"], *values) == loss.masked_mse_loss(inputs["gene"], *values)
    probabilities = inputs["gene_nonzero"]
    own = loss.criterion_neg_log_bernoulli(probabilities, *values)
    assert torch_written.bernoulli_nll(probabilities, *values) == own
    own = loss.masked_relative_error(inputs["gene"], *values)
    assert torch_written.relative_error(inputs["gene"], *values) == own


def test_errors_are_found() -> None:
    gradient = np.ones((2, 3))
    truth = (2.0, 4.0, [gradient])
    assert oracle.error(truth, truth) == 0
    assert oracle.error((2.002, 4.0, [gradient]), truth) == pytest.approx(1e-3)
    assert oracle.error((2.0, 4.4, [gradient]), truth) == pytest.approx(0.1)
    assert oracle.error((2.0, 4.0, [gradient * 1.5]), truth) == pytest.approx(0.5)
    for wrong in ((np.nan, 4.0, [gradient]), (2.0, np.nan, [gradient]), (2.0, 4.0, [gradient * np.nan])):
        assert oracle.error(wrong, truth) == float("inf")


def test_rounds_take_turns() -> None:
    """Samples of one index are neighbours, and the order turns."""
    order = []

    def sampler(name: str, seconds: float) -> timing.Sampler:
        def sample(times: int) -> float:
            order.append(name)
            return seconds * times

        return sample

    timings = timing.interleaved({"a": sampler("a", 1.0), "b": sampler("b", 2.0)}, seconds=0, minimum=4)
    assert timings["a"].samples == (1.0,) * 4 and timings["b"].median == 2.0
    assert timing.ratio(timings["b"], timings["a"]) == (2.0, 2.0, 2.0)
    rounds = order[2:]
    # Everyone is called once without being counted before each sample.
    assert rounds == ["a", "a", "b", "b", "b", "b", "a", "a"] * 2


def test_ratio_is_that_of_neighbours() -> None:
    """Both became slower half way: the ratio did not."""
    base = timing.Timing((1.0, 1.0, 5.0, 5.0, 5.0))
    other = timing.Timing((2.0, 2.0, 10.0, 10.0, 11.0))
    middle, low, high = timing.ratio(other, base)
    assert middle == 2.0 and low == 2.0 and high == pytest.approx(2.2)


def test_disturbance_is_what_others_take(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, own = iter([(10.0, 100.0), (14.0, 110.0)]), iter([1.0, 3.0])
    monkeypatch.setattr(quiet, "machine_times", lambda: next(machine))
    monkeypatch.setattr(quiet, "process_time", lambda process: next(own))
    with quiet.Disturbance([1]) as seen:
        pass
    assert seen.share == pytest.approx(0.2)


def test_clocks_of_the_machine() -> None:
    """What this process uses is in its own time and in the machine's."""
    own, (busy, total) = quiet.process_time(os.getpid()), quiet.machine_times()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    own, later = quiet.process_time(os.getpid()) - own, quiet.machine_times()
    assert 0.2 < own < 5
    assert later[0] - busy > 0.2 and later[1] - total >= later[0] - busy


def test_swift_is_asked_line_by_line(tmp_path: pathlib.Path) -> None:
    program = tmp_path / "Benchmarks"
    program.write_text(
        '#!/bin/sh\n[ "$1" = serve ] && [ "$FASTLOSS_THREADS" = 3 ] || exit 1\n'
        'while read -r row calls; do [ "$row" = known ] || exit 1; echo $((calls * 250000000)); done\n'
    )
    program.chmod(0o755)
    with SwiftProcess(str(program), 3) as swift:
        assert swift.sampler("known")(2) == 0.5
        assert swift.sampler("known")(4) == 1.0
        with pytest.raises(RuntimeError, match="ended when asked for other"):
            swift.sampler("other")(1)


def test_memory_of_a_call() -> None:
    """32 MiB for one matrix of pairs at B = 2896; FastLoss stores none."""
    problem = Problem("elastic", (2896, 64))
    pairs = 4 * 2896**2
    assert memory.in_child(problem, "PyTorch as written") > 2 * pairs
    assert memory.in_child(problem, "FastLoss") < pairs / 2


def results() -> dict[str, Any]:
    def record(median: float, ratio: float) -> dict[str, Any]:
        return {
            "median": median,
            "ratio": ratio,
            "ratio_low": ratio,
            "ratio_high": ratio,
            "rounds": 5,
            "error": 1e-7,
        }

    return {
        "date": "2026-01-01",
        "quick": False,
        "threads": 2,
        "machine": {"cpu": "a processor"},
        "versions": {"Python": "3"},
        "fastloss": {"instructionSet": "avx2", "blasCore": "Haswell"},
        "providers": ["FastLoss", "FastLoss, NumPy", "PyTorch as written", "JAX jit"],
        "rows": [
            {
                "loss": "elastic",
                "title": "ECS",
                "shape": "64×512",
                "gradient": True,
                "disturbance": 0.0,
                "skipped": {"PyTorch as written": "it takes 9 GiB"},
                "providers": {
                    "FastLoss": record(1.5e-3, 1.0),
                    "FastLoss, NumPy": record(1.4e-3, 0.93),
                    "JAX jit": record(1.2e-3, 0.8),
                },
            }
        ],
        "memory": [
            {
                "loss": "elastic",
                "title": "ECS",
                "shape": "8192×512",
                "bytes": {"FastLoss": 2**25, "JAX jit": 2**30},
            }
        ],
    }


def test_readme_shows_losses(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "README.md").write_text(
        f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", encoding="utf-8"
    )
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    command.update(results())
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert page.startswith("before\n") and page.endswith("after\n") and "old" not in page
    assert "| ECS | 64×512 | 1.5 ms | – | 0.93× | – | 0.8× | 1e-07 | 1e-07 – 1e-07 |" in page
    assert "ECS 64×512 as written is left out: it takes 9 GiB." in page
    assert "| ECS | 8192×512 | 32 MiB | – | 1.00 GiB |" in page
    assert "ECS, 64×512" in (tmp_path / "peers.svg").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "peers.avx2.json").read_text(encoding="utf-8")) == results()
    command.update(results())
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == page


def test_readme_takes_no_part_and_no_disturbed_run() -> None:
    with pytest.raises(SystemExit, match="a part of the rows"):
        command.update({**results(), "quick": True})
    disturbed = results()
    disturbed["rows"][0]["disturbance"] = 0.5
    with pytest.raises(SystemExit, match="not idle"):
        command.update(disturbed)


def test_rows() -> None:
    rows = problems()
    assert len({row.name for row in rows}) == len(rows)
    assert {row.loss for row in problems(quick=True)} == {row.loss for row in rows}
    small = replace(rows[0], shape=(3, 900, 8)).inputs()
    # More tokens than genes repeat them; each row has exactly its share of masked tokens.
    assert (small["targets"][:, :135] == small["targets"][:, 765:]).all()
    assert (small["mask"].sum(axis=1) == int(0.4 * 900)).all()
