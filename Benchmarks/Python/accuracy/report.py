"""The results: the rule that they keep, JSON, and tables for the terminal and the documentation."""

import json
import pathlib
import statistics
from typing import Any

Row = dict[str, Any]
#: The two columns of every table.
WHO = ("FastLoss", "PyTorch")
STATISTICS = ("median", "p99", "max")
#: By how many units in the last place an error of FastLoss may exceed PyTorch's: two roundings.
ROUNDING = 1.0

BEGIN, END = "<!-- accuracy:begin -->", "<!-- accuracy:end -->"
README_HEADER = (
    "| loss and gradient | shape | FastLoss, in a loop | PyTorch, in a loop | FastLoss | PyTorch "
    "| error | PyTorch's |"
)
#: The measured losses of README: a row of the comparison with peers, by its loss and shape, and the
#: kernels that it consists of.
README_ROWS = {
    ("integration", "64×1201×512"): ("integration objective",),
    ("value_terms", "64×1201"): ("masked MSE", "Bernoulli NLL", "masked relative error"),
    ("elastic", "64×512"): ("ECS",),
    ("elastic_cone", "16384×512"): (),
    ("contrastive", "64×512"): ("CCE",),
    ("cross_entropy", "4096×1000"): ("cross-entropy",),
}


def larger(rows: list[Row]) -> list[str]:
    """The errors of FastLoss that exceed PyTorch's by more than rounding: none if all is well."""
    return [
        f"{row['kernel']}, {row['inputs']}: the {statistic} error of the {row['quantity']} is "
        f"{row['FastLoss'][statistic]:.3g} units in the last place; PyTorch's is "
        f"{row['PyTorch'][statistic]:.3g}"
        for row in rows
        for statistic in STATISTICS
        if not row["FastLoss"][statistic] <= row["PyTorch"][statistic] + ROUNDING
    ]


# --- Tables -------------------------------------------------------------------------------------------------


def number(error: float) -> str:
    """Two digits, and no more than a table can hold."""
    if error >= 1e4:
        mantissa, exponent = f"{error:.0e}".split("e")
        raised = str(int(exponent)).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"{mantissa}·10{raised}"
    return "0" if error < 0.005 else f"{error:.0f}" if error >= 100 else f"{error:.2g}"


def summary(errors: dict[str, Any]) -> str:
    return " / ".join(number(errors[statistic]) for statistic in STATISTICS)


def table(rows: list[Row]) -> str:
    """Every row, for the terminal."""
    cells = [["kernel", "inputs", "quantity", "numbers", *WHO]]
    for row in rows:
        names = [row[name] for name in ("kernel", "inputs", "quantity")]
        cells.append([*names, f"{row['FastLoss']['count']}", *(summary(row[who]) for who in WHO)])
    widths = [max(len(line[index]) for line in cells) for index in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def worst(rows: list[Row], who: str) -> dict[str, float]:
    """Of several kinds of inputs, the largest of each statistic."""
    return {statistic: max(row[who][statistic] for row in rows) for statistic in STATISTICS}


def grouped(rows: list[Row]) -> dict[tuple[str, str], list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["kernel"], row["quantity"]), []).append(row)
    return groups


def markdown(results: dict[str, Any], file: str) -> str:
    """The table of the article: a line for each quantity, the worst kind of inputs in each number."""
    lines = []
    for (kernel, quantity), rows in grouped(results["rows"]).items():
        hardest = max(rows, key=lambda row: row["PyTorch"]["max"])["inputs"]
        numbers = " | ".join(summary(worst(rows, who)) for who in WHO)
        lines.append(f"| {kernel} | {quantity} | {numbers} | {hardest} |")
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    own = results["fastloss"]
    header = (
        f"Measured on {results['date']}: {versions}; FastLoss's kernels {own['instructionSet']}, its "
        f"OpenBLAS's {own['blasCore']}. `Benchmarks/Results/{file}` has a row for each kind of inputs."
    )
    rule = "| kernel | quantity | FastLoss | PyTorch | hardest for PyTorch |\n|---|---|---:|---:|---|"
    return "\n".join([header, "", rule, *lines])


def typical_and_largest(rows: list[Row], who: str) -> str:
    """The median error of half of the kinds of inputs, and the largest of all."""
    typical = statistics.median(row[who]["median"] for row in rows)
    return f"{number(typical)} / {number(max(row[who]['max'] for row in rows))}"


def readme(results: dict[str, Any], peers: dict[str, Any]) -> str:
    """The table of speed and error: a line for each loss that the comparison with peers times."""
    from peers.report import time_text

    timed = {(row["loss"], row["shape"]): row for row in peers["rows"] if row["gradient"]}
    lines = [README_HEADER, "|---|" + "---:|" * 7]
    for key, kernels in README_ROWS.items():
        row = timed[key]
        timings = [row["providers"][name] for name in ("FastLoss", "PyTorch as written")]
        # A long call takes as long in a loop, and is timed back to back alone.
        times = [timing.get("in_loop") for timing in timings] + timings
        errors = [
            typical_and_largest([r for r in results["rows"] if r["kernel"] in kernels], who)
            if kernels
            else "–"
            for who in WHO
        ]
        cells = [
            row["title"],
            row["shape"],
            *(time_text(time["median"]) if time else "–" for time in times),
            *errors,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


# --- Files --------------------------------------------------------------------------------------------------


def write(results: dict[str, Any], path: pathlib.Path) -> None:
    from peers.report import write as write_rows

    write_rows(results, path)


def pages(results: dict[str, Any], root: pathlib.Path) -> dict[pathlib.Path, str]:
    """The pages that show the results, as they should be."""
    file = f"accuracy.{results['fastloss']['instructionSet']}.json"
    peers = json.loads((root / "Benchmarks/Results/peers.avx512.json").read_text(encoding="utf-8"))
    article = root / "Sources/FastLoss/FastLoss.docc/Articles/NumericalAccuracy.md"
    front = root / "README.md"
    return {
        article: with_section(article.read_text(encoding="utf-8"), markdown(results, file)),
        front: with_table(front.read_text(encoding="utf-8"), readme(results, peers)),
    }


def with_section(page: str, text: str) -> str:
    """The page with another text between the markers."""
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise SystemExit(f"a page must have the lines '{BEGIN}' and '{END}', once each")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"


def with_table(page: str, table: str) -> str:
    """The page with another table in place of the one with that header: README has no lines for markers."""
    if page.count(README_HEADER) != 1:
        raise SystemExit(f"README must have the table '{README_HEADER}' once")
    before, rest = page.split(README_HEADER)
    lines = rest.split("\n")[1:]
    while lines and lines[0].startswith("|"):
        lines.pop(0)
    return "\n".join([before + table, *lines])


def update(results: dict[str, Any], root: pathlib.Path) -> None:
    """Writes the committed results and the tables made of them."""
    write(results, root / "Benchmarks/Results" / f"accuracy.{results['fastloss']['instructionSet']}.json")
    for page, text in pages(results, root).items():
        page.write_text(text, encoding="utf-8")
