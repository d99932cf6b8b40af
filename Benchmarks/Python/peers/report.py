"""The results: a table for the terminal, JSON, and the table in Benchmarks/Results/README.md."""

import json
import pathlib
from typing import Any

from .other_work import BYTES, SIZE

BEGIN, END = "<!-- peers:begin -->", "<!-- peers:end -->"
OWN = "FastLoss"
SWIFT = "FastLoss, Swift"
NUMPY = "FastLoss, NumPy"
#: An autograd function that computes nothing, with as many tensors.
EMPTY = "PyTorch, empty function"
#: FastLoss's call from NumPy, which has no autograd, and then the empty function: about the least that a call
#: from PyTorch takes. The call leaves its data in the caches, and the empty function then takes longer.
FLOOR = "FastLoss, NumPy, then PyTorch, empty function"
#: What the table says of both.
EXPLAINED = {
    EMPTY: " Empty is an autograd function with as many tensors that computes nothing: PyTorch's own part of "
    "it.",
    FLOOR: " Floor is FastLoss's call from NumPy, and then the empty function.",
}


#: In which state the calls of a loop are timed.
LOOP = (
    f"every call, FastLoss's and the others', follows a product of {SIZE}³ and a pass over {BYTES >> 20} MiB "
    "by PyTorch"
)


def time_text(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            value = seconds / scale
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    return f"{seconds / 1e-9:.0f} ns"


def ratio_text(record: dict[str, Any] | None) -> str:
    """A ratio with its interval. A peer that is faster than FastLoss has a ratio below 1."""
    if record is None:
        return "–"
    ratio = record["ratio"]
    return f"{ratio:.0f}×" if ratio >= 100 else f"{ratio:.3g}×"


def bytes_text(count: float) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def base(row: dict[str, Any]) -> str:
    """The provider that the ratios of a row are to. Older results name none."""
    name: str = row.get("base", OWN)
    return name


def cell(row: dict[str, Any], provider: str) -> str:
    """The time of the row's base, and the ratios of the others."""
    record = row["providers"].get(provider)
    return time_text(record["median"]) if record and provider == base(row) else ratio_text(record)


def floors(report: dict[str, Any]) -> list[str]:
    """The providers that show PyTorch's own part. Older results have none."""
    return [name for name in (EMPTY, FLOOR) if any(name in row["providers"] for row in report["rows"])]


def has_loop(report: dict[str, Any]) -> bool:
    """Whether the results have times after other work. Older ones have none."""
    return any("in_loop" in record for row in report["rows"] for record in row["providers"].values())


def in_loop(report: dict[str, Any]) -> dict[str, Any]:
    """The same report with the times after other work, of the rows and providers that have them."""
    rows = []
    for row in report["rows"]:
        providers = {
            name: record["in_loop"] | {"error": record["error"]}
            for name, record in row["providers"].items()
            if "in_loop" in record
        }
        if providers:
            rows.append(row | {"providers": providers})
    return report | {"rows": rows}


def omissions(report: dict[str, Any]) -> list[str]:
    """Who is left out of which rows, and why."""
    rows: dict[tuple[str, str], list[str]] = {}
    for row in report["rows"]:
        for name, reason in row["skipped"].items():
            rows.setdefault((name, reason), []).append(f"{row['title']} {row['shape']}")
    return [f"{name} is left out of {'; '.join(titles)}: {reason}" for (name, reason), titles in rows.items()]


def table(report: dict[str, Any], markdown: bool) -> str:
    """One line per problem: FastLoss's time, then how many times longer each of the others takes."""
    peers = [name for name in report["providers"] if not name.startswith(OWN)]
    shown = floors(report)
    own_columns = ["FastLoss", "Swift", "NumPy", *("empty" if name == EMPTY else "floor" for name in shown)]
    header = ["loss", "shape", *own_columns, *peers, "error", "peers' errors"]
    rows = []
    for row in report["rows"]:
        own = row["providers"].get(OWN)
        others = [row["providers"][name]["error"] for name in peers if name in row["providers"]]
        rows.append(
            [
                row["title"] + ("" if row["gradient"] else ", value only"),
                row["shape"],
                cell(row, OWN),
                *(cell(row, name) for name in [SWIFT, NUMPY, *shown, *peers]),
                f"{own['error']:.0e}" if own else "–",
                f"{min(others):.0e} – {max(others):.0e}" if others else "–",
            ]
        )
    return lines(header, rows, markdown)


def memory_table(report: dict[str, Any], markdown: bool) -> str:
    names = [name for name in report["providers"] if name != NUMPY]
    if any(SWIFT in row["bytes"] for row in report["memory"]):
        names.insert(1, SWIFT)
    rows = [
        [
            row["title"],
            row["shape"],
            *(bytes_text(row["bytes"][name]) if name in row["bytes"] else "–" for name in names),
        ]
        for row in report["memory"]
    ]
    return lines(["loss", "shape", *("Swift" if name == SWIFT else name for name in names)], rows, markdown)


def lines(header: list[str], rows: list[list[str]], markdown: bool) -> str:
    if markdown:
        rule = ["---", *["---:"] * (len(header) - 1)]
        return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows])
    widths = [max(len(row[index]) for row in [header, *rows]) for index in range(len(header))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if index == 0 else text.rjust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in [header, *rows]
    )


def summary(report: dict[str, Any]) -> str:
    machine, own = report["machine"], report["fastloss"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return (
        f"{report['date']}: {machine['cpu']}, {report['threads']} threads each; {versions}; FastLoss's "
        f"kernels {own['instructionSet']}, its OpenBLAS's {own['blasCore']}"
    )


def markdown(report: dict[str, Any], path: str) -> str:
    """The text between the markers of Benchmarks/Results/README.md."""
    skipped = sorted(
        {
            (row["title"], row["shape"], reason)
            for row in report["rows"]
            for name, reason in row["skipped"].items()
            if not name.startswith(OWN)
        }
    )
    notes = "".join(f" {title} {shape} as written is left out: {reason}." for title, shape, reason in skipped)
    distances = [
        record["distance"]
        for row in report["rows"]
        for record in row["providers"].values()
        if "distance" in record
    ]
    if distances:
        notes += (
            f" Of the task heads, FastLoss is `fastloss.torch.heads`. Float64 checks them at a small size. "
            f"At the row's size the peers differ from FastLoss by at most {max(distances):.0e} of a "
            f"gradient's norm: some hidden units are within rounding of LeakyReLU's kink."
        )
    explained = "".join(EXPLAINED[name] for name in floors(report))
    memory = memory_table(report, True)
    loop = (
        f"In a training loop, {LOOP}:\n\n{table(in_loop(report), True)}\n\nBack to back:\n\n"
        if has_loop(report)
        else ""
    )
    return (
        f"Measured on {summary(report)}. FastLoss is `fastloss.torch` in eager mode, its time in the third "
        f"column. The others are given as ratios to it, medians over interleaved rounds: above 1 they are "
        f"slower, below 1 faster. Swift is the Swift API on inputs of the same kind; what it lacks to 1 is "
        f"what crossing from Python costs.{explained} Error: the largest relative one of loss and gradients "
        f"against float64.{notes} [{path}]({path}) has all rows.\n\n{loop}{table(report, True)}\n\n"
        f"Peak memory of one call with its gradients, beyond the inputs:\n\n{memory}"
    )


def renew_readme(readme: pathlib.Path, text: str) -> None:
    page = readme.read_text(encoding="utf-8")
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise SystemExit(f"{readme} must have the lines '{BEGIN}' and '{END}', once each")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def write(report: dict[str, Any], path: pathlib.Path) -> None:
    """JSON with one row a line."""

    def text(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in value) + "\n]"
        return json.dumps(value, ensure_ascii=False)

    members = ",\n".join(f"{json.dumps(name)}: {text(value)}" for name, value in report.items())
    path.write_text(f"{{\n{members}\n}}\n", encoding="utf-8")
