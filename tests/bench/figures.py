"""How a measured figure is kept and shown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        what: what was measured.
        samples: every measurement, in `unit`.
        unit: "s", "ms" or "x" (a ratio).
        at_most: the bound that the median must keep; None where the figure is only for comparison.
    """

    what: str
    samples: Sequence[float]
    unit: str
    at_most: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def good(self) -> bool:
        return self.at_most is None or self.median <= self.at_most

    def row(self) -> str:
        """A row of a Markdown table: the median, the range, the bound, and whether it was kept."""
        low, high = min(self.samples), max(self.samples)
        spread = f"{self.median:.2f} {self.unit} [{low:.2f} to {high:.2f}, n={len(self.samples)}]"
        wanted = "" if self.at_most is None else f"at most {self.at_most:g} {self.unit}"
        verdict = "" if self.at_most is None else ("kept" if self.good else "**missed**")
        return f"| {self.what} | {spread} | {wanted} | {verdict} |"
