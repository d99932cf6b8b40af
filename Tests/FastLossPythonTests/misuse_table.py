"""The tables of the article "Bad input" with the misuses of Python, and the check of one of their rows."""

import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ARTICLE = pathlib.Path(__file__).resolve().parents[2] / "Sources/FastLoss/FastLoss.docc/Articles/BadInput.md"
TORCH = "fastloss.torch."


@dataclass(frozen=True)
class Misuse:
    """A wrong call. Its first two members are the first two cells of its row."""

    call: str
    misuse: str
    run: Callable[[], Any]

    def __str__(self) -> str:
        return f"{self.call}: {self.misuse}"

    def row(self) -> str:
        """The row as the call makes it."""
        error, message = "no error", ""
        try:
            self.run()
        except Exception as caught:
            error, message = type(caught).__name__, str(caught)
        return f"| `{self.call}` | {self.misuse} | `{error}` | {message} |"


def rows(torch: bool) -> list[str]:
    """The rows of NumPy's functions, or of PyTorch's."""
    lines = ARTICLE.read_text(encoding="utf-8").splitlines()
    found = [line for line in lines if line.startswith("| `fastloss.")]
    return [line for line in found if line.startswith(f"| `{TORCH}") == torch]
