"""The measured errors: the committed results keep their rule, and the pages show them."""

import copy
import json
import pathlib
from typing import Any

import pytest
from accuracy import report

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "Benchmarks/Results").glob("accuracy.*.json"))


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def results(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.param.read_text(encoding="utf-8"))
    return found


def test_no_error_is_larger_than_pytorchs_by_more_than_rounding(results: dict[str, Any]) -> None:
    assert report.larger(results["rows"]) == []


def test_a_larger_error_is_found(results: dict[str, Any]) -> None:
    """NaN, too, of which every comparison is false."""
    for statistic in report.STATISTICS:
        for wrong in (1.01, float("nan")):
            rows = copy.deepcopy(results["rows"][:1])
            rows[0]["FastLoss"][statistic] = rows[0]["PyTorch"][statistic] + wrong
            (message,) = report.larger(rows)
            assert statistic in message and rows[0]["kernel"] in message


def test_every_kind_of_inputs_was_measured(results: dict[str, Any]) -> None:
    kinds = {row["inputs"] for row in results["rows"]}
    assert kinds >= {"lognormal", "Cauchy", "near-duplicates", "cancelling", "wide", "huge", "long"}
    longest = max(row["FastLoss"]["count"] for row in results["rows"] if row["kernel"] == "masked MSE")
    assert longest >= 1 << 24


def test_the_pages_show_the_results() -> None:
    """Those of one of the instruction sets that were measured."""
    differing = {}
    for file in FILES:
        pages = report.pages(json.loads(file.read_text(encoding="utf-8")), ROOT)
        differing[file.name] = [
            str(page) for page, text in pages.items() if page.read_text(encoding="utf-8") != text
        ]
    assert [] in differing.values(), f"run scripts/measure-accuracy --update: {differing}"
