"""The picture of the comparison: how many times longer the peers take than FastLoss, as one SVG file."""

import math
from html import escape
from typing import Any

from .report import has_loop

#: The rows of scGPT's sizes, with gradient: the loss and the shape.
ROWS = [
    ("integration", "64×1201×512"),
    ("value_terms", "64×1201"),
    ("elastic", "64×512"),
    ("contrastive", "64×512"),
    ("cross_entropy", "32×50"),
    ("expression_decoder", "64×1201×512"),
    ("masked_value_shared", "64×1201×512"),
    ("masked_value_lists", "64×1201×512"),
    ("integration_heads", "64×1201×512"),
]
WIDTH, LEFT, RIGHT, LINE = 720, 170, 650, 20
STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1c2430;--quiet:#5a6675;--grid:#dfe4ea;
--slow:#b4510c;--own:#1f5fbf}
@media(prefers-color-scheme:dark){:root{--paper:#14181e;--ink:#e6eaf0;--quiet:#a3aebb;--grid:#303946;
--slow:#f0924c;--own:#6ea8ff}}
text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;fill:var(--ink)}
.quiet{fill:var(--quiet)}.title{font-size:16px;font-weight:600}
.strong{font-weight:600;paint-order:stroke;stroke:var(--paper);stroke-width:5px}
.grid{stroke:var(--grid)}.own{stroke:var(--own);stroke-width:2}.own-text{fill:var(--own)}
.slow{fill:var(--slow)}.fast{fill:none;stroke:var(--own);stroke-width:2}
"""


def svg(report: dict[str, Any]) -> str:
    """Bars that start at FastLoss's time, to the right where a peer takes longer; the axis is logarithmic."""
    peers = [name for name in report["providers"] if not name.startswith("FastLoss")]
    with_gradient = [row for row in report["rows"] if row["gradient"]]
    rows = [row for key in ROWS for row in with_gradient if (row["loss"], row["shape"]) == key]

    def time_ratio(row: dict[str, Any], name: str) -> float | None:
        """The ratio after other work, as in a training loop; back to back where the row has no other."""
        record = row["providers"].get(name)
        return None if record is None else record.get("in_loop", record)["ratio"]

    found = [time_ratio(row, name) for row in rows for name in peers]
    ratios = [ratio for ratio in found if ratio is not None]
    low, high = min([0.5, *ratios]) / 1.1, max([10, *ratios]) * 1.1

    def x(ratio: float) -> float:
        return LEFT + (RIGHT - LEFT) * math.log(ratio / low) / math.log(high / low)

    height = 92 + sum(34 + LINE * len(peers) for _ in rows)
    parts = [
        '<text x="16" y="28" class="title">Time per call relative to FastLoss</text>',
        f'<text x="16" y="48" class="quiet">value and gradient, {report["threads"]} threads, log scale'
        f"{'; losses after other work, as in a training loop' if has_loop(report) else ''}</text>",
    ]
    for tick in (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000):
        if low <= tick <= high:
            kind = "own" if tick == 1 else "grid"
            place = f'x1="{x(tick):.1f}" x2="{x(tick):.1f}"'
            parts.append(f'<line {place} y1="78" y2="{height - 14}" class="{kind}"/>')
            label = "own-text strong" if tick == 1 else "quiet"
            parts.append(
                f'<text x="{x(tick):.1f}" y="70" text-anchor="middle" class="{label}">'
                f"{'FastLoss' if tick == 1 else f'{tick:g}×'}</text>"
            )
    y = 84
    for row in rows:
        parts.append(
            f'<text x="16" y="{y + 18}" class="strong">{escape(row["title"])}, {row["shape"]}</text>'
        )
        y += 26
        for name in peers:
            parts.append(f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>')
            ratio = time_ratio(row, name)
            if ratio is None:
                parts.append(f'<text x="{x(1) + 6:.1f}" y="{y + 14}" class="quiet">not measured</text>')
            else:
                start, end = sorted((x(1), x(ratio)))
                kind = "slow" if ratio >= 1 else "fast"
                parts.append(
                    f'<rect x="{start:.1f}" y="{y + 3}" width="{max(end - start, 1):.1f}" height="14" '
                    f'class="{kind}"/>'
                )
                parts.append(f'<text x="{end + 6:.1f}" y="{y + 14}">{ratio:.3g}×</text>')
            y += LINE
        y += 8
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="Time per call of PyTorch and JAX relative to FastLoss"><style>{STYLE}</style>\n'
        f'<rect width="100%" height="100%" style="fill:var(--paper)"/>\n{body}\n</svg>\n'
    )
