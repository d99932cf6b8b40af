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
from peers import chart, head_modules, memory, oracle, providers, quiet, report, timing, torch_written
from peers.head_inputs import DECODER, DISCRIMINATOR, MVC_DECODER
from peers.problems import Problem, heads, problems
from peers.providers import Provider, available
from peers.swift_process import SwiftProcess

from fastloss.torch import certified_pairs

SMALL = [
    Problem("integration", (5, 40, 16)),
    Problem("integration", (5, 40, 16), gradient=False),
    Problem("value_terms", (5, 40)),
    Problem("elastic", (9, 16)),
    Problem("elastic_cone", (9, 16)),
    Problem("contrastive", (9, 16)),
    Problem("cross_entropy", (9, 4)),
    *(row.checked for row in heads(64)),
]
COMPILED = ("integration", "elastic", "integration_heads")


@pytest.mark.parametrize("problem", SMALL, ids=lambda problem: problem.name)
@pytest.mark.parametrize("provider", available(), ids=lambda provider: provider.name)
def test_everyone_agrees_with_float64(problem: Problem, provider: Provider) -> None:
    if provider.name == "torch.compile" and problem.loss not in COMPILED:
        pytest.skip("the compiled integration has the others' formulas")
    if provider.excludes(problem):
        assert problem.is_head and provider.name.startswith(report.OWN)
        pytest.skip(provider.excludes(problem))
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


@pytest.mark.skipif(importlib.util.find_spec("scgpt") is None, reason="scgpt is not installed")
def test_heads_are_scgpts() -> None:
    """Bit by bit what scGPT's own modules compute, forward and backward."""
    from light_scgpt import light_scgpt

    model = light_scgpt().model.model
    inputs = {
        name: torch.from_numpy(value)
        for name, value in Problem("integration_heads", (5, 40, 16)).inputs().items()
    }
    batches = inputs["batch_embedding"][inputs["labels"]]
    expression = model.ExprDecoder(16, explicit_zero_prob=True, use_batch_labels=True)
    masked = model.MVCDecoder(16, explicit_zero_prob=True, use_batch_labels=True)
    discriminator = model.AdversarialDiscriminator(16, n_cls=2, reverse_grad=True)
    for name, module in ((DECODER, expression), (MVC_DECODER, masked), (DISCRIMINATOR, discriminator)):
        module.load_state_dict(
            {key.removeprefix(name): value for key, value in inputs.items() if key.startswith(name)}
        )
    wanted = [inputs[name].requires_grad_() for name in ("states", "embedding", "gene_embedding")]

    def gradients(*outputs: torch.Tensor) -> list[torch.Tensor]:
        factors = [torch.sin(torch.arange(output.numel())).view_as(output) for output in outputs]
        return list(torch.autograd.grad(outputs, wanted, factors))

    repeated = batches.unsqueeze(1).repeat(1, 40, 1)
    theirs = [
        expression(torch.cat([inputs["states"], repeated], dim=2)),
        masked(torch.cat([inputs["embedding"], batches], dim=1), inputs["gene_embedding"].expand(5, -1, -1)),
    ]
    own = [head_modules.expression_outputs(inputs), head_modules.masked_value_outputs(inputs)]
    their_outputs = [x[key] for x in theirs for key in ("pred", "zero_probs")]
    their_outputs.append(discriminator(inputs["embedding"]))
    own_outputs = [x[key] for x in own for key in ("predictions", "nonzeroProbabilities")]
    own_outputs.append(head_modules.batch_logits(inputs))
    for a, b in zip(own_outputs, their_outputs, strict=True):
        assert torch.equal(a, b)
    for a, b in zip(gradients(*own_outputs), gradients(*their_outputs), strict=True):
        # A sum over cells may have another order.
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


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

    timings = timing.interleaved({"a": sampler("a", 0.1), "b": sampler("b", 0.2)}, seconds=0, minimum=4)
    assert timings["a"].samples == (0.1,) * 4 and timings["b"].median == 0.2
    assert timing.ratio(timings["b"], timings["a"]) == (2.0, 2.0, 2.0)
    rounds = order[2:]
    # Everyone is called once without being counted before each sample.
    assert rounds == ["a", "a", "b", "b", "b", "b", "a", "a"] * 2
    order.clear()
    timing.interleaved({"a": sampler("a", 0.1), "b": sampler("b", 2.0)}, seconds=0, minimum=3)
    # A call of seconds needs none, and the call that finds its length is its first sample.
    assert order == ["a", "b", "a", "a", "b", "a", "a", "a", "a", "b"]


def test_calls_of_a_loop_follow_the_work() -> None:
    """One call after each piece of work, and the order turns."""
    order = []

    def sampler(name: str, seconds: float) -> timing.Sampler:
        def sample(times: int) -> float:
            order.append(name)
            return seconds * times

        return sample

    samplers = {"a": sampler("a", 0.1), "b": sampler("b", 0.2)}
    timings = timing.after_work(samplers, lambda: order.append("work"), seconds=0, minimum=2)
    assert order == ["work", "a", "work", "b", "work", "b", "work", "a"]
    assert timings["a"].samples == (0.1,) * 2 and timings["b"].samples == (0.2,) * 2


def test_losses_are_timed_in_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every provider but Swift, relative to FastLoss; the table and the picture show these ratios."""
    peers = [provider for provider in available() if provider.name != "torch.compile"]
    monkeypatch.setattr(command, "available", lambda: peers)
    row = command.measure(Problem("elastic", (9, 16)), None, seconds=0)
    names = {provider.name for provider in peers} | {report.EMPTY, report.FLOOR}
    assert {name for name, record in row["providers"].items() if "in_loop" in record} == names
    assert row["providers"]["FastLoss"]["in_loop"]["ratio"] == 1
    floor, parts = row["providers"][report.FLOOR], (report.NUMPY, report.EMPTY)
    assert all(floor["median"] > row["providers"][part]["median"] / 2 for part in parts)
    assert row["providers"]["FastLoss"]["in_loop"]["rounds"] >= 21
    found = results()
    assert not report.has_loop(found)
    record = found["rows"][0]["providers"]
    record[report.EMPTY] = {**record["JAX jit"], "ratio": 0.2}
    record[report.FLOOR] = {**record["JAX jit"], "ratio": 0.97}
    record["FastLoss"]["in_loop"] = {**record["FastLoss"], "median": 2e-3}
    record["JAX jit"]["in_loop"] = {**record["JAX jit"], "ratio": 3.0}
    page = report.markdown(found, "file")
    loop, back_to_back = page.split("Back to back:")
    assert "| ECS | 64×512 | 2 ms | – | – | – | 3× | 1e-07 | 1e-07 – 1e-07 |" in loop
    assert "| ECS | 64×512 | 1.5 ms | – | 0.93× | 0.2× | 0.97× | – | 0.8× |" in back_to_back
    picture = chart.svg({**found, "providers": ["FastLoss", "JAX jit"]})
    assert "3×</text>" in picture and "as in a training loop" in picture


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
    own, before = quiet.process_time(os.getpid()), quiet.machine_times()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    own, after = quiet.process_time(os.getpid()) - own, quiet.machine_times()
    # In ticks of 10 ms: differences of seconds round.
    busy, total = (round(100 * (end - start)) for start, end in zip(before, after, strict=True))
    assert 0.2 < own < 5
    assert busy > 20 and total >= busy


@pytest.fixture
def program(tmp_path: pathlib.Path) -> str:
    """A program like Benchmarks with the row `known`, whose calls take a quarter of a second each."""
    path = tmp_path / "Benchmarks"
    path.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = --list ]; then echo known; exit; fi\n'
        '[ "$1" = serve ] && [ "$FASTLOSS_THREADS" = 3 ] || exit 1\n'
        'while read -r row calls; do [ "$row" = known ] || exit 1; echo $((calls * 250000000)); done\n'
    )
    path.chmod(0o755)
    return str(path)


def test_swift_is_asked_line_by_line(program: str) -> None:
    with SwiftProcess(program, 3) as swift:
        assert swift.rows == {"known"}
        assert swift.sampler("known")(2) == 0.5
        assert swift.sampler("known")(4) == 1.0
        with pytest.raises(RuntimeError, match="ended when asked for other"):
            swift.sampler("other")(1)


def test_what_a_row_is_relative_to(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To FastLoss, without it to the Swift API, and without both to the first of the peers."""
    everyone = [provider for provider in available() if provider.name != "torch.compile"]
    monkeypatch.setattr(command, "available", lambda: everyone)
    row = replace(heads(64)[2], shape=(4, 50, 8))
    with SwiftProcess(program, 3) as swift:
        complete = command.measure(replace(row, swift="known"), swift, seconds=0)
        assert complete["base"] == report.OWN and complete["providers"][report.OWN]["ratio"] == 1
        assert complete["providers"][report.SWIFT]["median"] == 0.25
        peers = [provider for provider in everyone if provider.name != report.OWN]
        monkeypatch.setattr(command, "available", lambda: peers)
        known = command.measure(replace(row, swift="known"), swift, seconds=0)
        unknown = command.measure(row, swift, seconds=0)
    assert known["base"] == report.SWIFT and known["providers"][report.SWIFT]["ratio"] == 1
    assert known["providers"][report.SWIFT]["median"] == 0.25
    written = known["providers"]["PyTorch as written"]
    assert written["rounds"] == 3 and written["error"] < 2e-6
    assert known["providers"]["PyTorch at its best"]["distance"] < 1e-5
    assert set(known["skipped"]) == {"FastLoss, NumPy"}
    assert unknown["base"] == "PyTorch as written"
    assert unknown["skipped"][report.SWIFT] == f"Benchmarks has no row '{row.swift}'"
    known["disturbance"] = unknown["disturbance"] = 0.0
    found = {**results(), "rows": [known, unknown], "providers": [provider.name for provider in peers]}
    lines = report.table(found, markdown=True).splitlines()
    assert f"| {row.title} | 4×50×8 | – | 250 ms | – | " in lines[2]
    assert f"| {row.title} | 4×50×8 | – | – | – | " in lines[3]
    missing = f"{report.SWIFT} is left out of {row.title} 4×50×8: Benchmarks has no row"
    assert any(missing in line for line in report.omissions(found))
    with pytest.raises(SystemExit, match="has no time of FastLoss"):
        command.update(found)


def test_wrong_heads_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the timed size, too, where there is no oracle."""
    row = replace(heads(64)[1], shape=(4, 50, 8))

    def worse(problem: Problem, inputs: dict[str, Any]) -> providers.Call:
        call = providers.best(problem, inputs)
        factor = 1.0 if problem == row.checked else 1.015

        def read(result: Any) -> providers.Result:
            loss, metric, gradients = call.read(result)
            return loss, metric, [*gradients[:-1], gradients[-1] * factor]

        return providers.Call(call.run, read)

    peers = [Provider("as written", providers.written), Provider("worse", worse)]
    with pytest.raises(SystemExit, match=r"too far from as written: \{'worse': 0\.01[45]"):
        command.checked_calls(row, peers)


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


def test_committed_results() -> None:
    """The table in Benchmarks/Results is that of the committed file, whichever version wrote it."""
    page = (command.RESULTS / "README.md").read_text(encoding="utf-8")
    tables = [
        report.markdown(json.loads(path.read_text(encoding="utf-8")), path.name)
        for path in command.RESULTS.glob("peers.*.json")
    ]
    assert not tables or any(table in page for table in tables)


def test_readme_takes_no_part_and_no_disturbed_run() -> None:
    with pytest.raises(SystemExit, match="a part of the rows"):
        command.update({**results(), "quick": True})
    disturbed = results()
    disturbed["rows"][0]["disturbance"] = 0.5
    with pytest.raises(SystemExit, match="not idle"):
        command.update(disturbed)


def test_results_name_no_folder_of_the_machine() -> None:
    """What is committed tells which OpenBLAS ran, and not where it was installed."""
    blas = command.library()["blasLibrary"]
    assert "openblas" in blas and "/" not in blas
    committed = [file.read_text(encoding="utf-8") for file in command.RESULTS.glob("*.json")]
    assert committed and all("/lib/python" not in text and '"/' not in text for text in committed)


def test_a_cone_is_certified() -> None:
    """The row of the closed form times the closed form."""

    def certified(loss: str) -> int:
        embedding = Problem(loss, (2048, 128)).inputs()["embedding"]
        return certified_pairs(torch.from_numpy(embedding), 0.8)

    assert certified("elastic_cone") == 2048**2
    assert certified("elastic") == 0


def test_large_matrices_of_pairs_are_checked_at_a_smaller_size() -> None:
    row = Problem("elastic_cone", (16384, 512))
    assert row.checked == replace(row, shape=(4096, 512))
    assert replace(row, shape=(4096, 512)).checked.shape == (4096, 512)
    assert Problem("mse", (8192, 1201)).checked.shape == (8192, 1201)


def test_rows() -> None:
    rows = problems()
    assert len({row.name for row in rows}) == len(rows)
    assert {row.loss for row in problems(quick=True)} == {row.loss for row in rows}
    small = replace(rows[0], shape=(3, 900, 8)).inputs()
    # More tokens than genes repeat them; each row has exactly its share of masked tokens.
    assert (small["targets"][:, :135] == small["targets"][:, 765:]).all()
    assert (small["mask"].sum(axis=1) == int(0.4 * 900)).all()


def test_inputs_of_heads() -> None:
    for row in heads(8):
        inputs = row.checked.inputs()
        assert set(row.differentiated) <= set(inputs)
        floats = {name for name, value in inputs.items() if value.dtype == np.float32}
        assert floats - set(row.differentiated) == {"targets"}
        assert set(inputs["labels"]) == {0, 1}
    genes = heads(8)[2].checked.inputs()["genes"]
    # Each cell has its own order of the same genes.
    assert (np.sort(genes, axis=1) == np.arange(40)).all() and len(np.unique(genes, axis=0)) == 3
