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
        unit: "s", "ms", "MB", "MiB", "rows/s", "requests/s" or "x" (a ratio).
        at_most, at_least: the bound that the median must keep; neither where the figure is only for comparison.
    """

    what: str
    samples: Sequence[float]
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def good(self) -> bool:
        if self.at_least is not None and self.median < self.at_least:
            return False
        return self.at_most is None or self.median <= self.at_most

    def row(self) -> str:
        """A row of a Markdown table: the median, the range, the bound, and whether it was kept."""
        low, high = min(self.samples), max(self.samples)
        spread = f"{self.median:,.2f} {self.unit} [{low:,.2f} to {high:,.2f}, n={len(self.samples)}]"
        bounds = [("at most", self.at_most), ("at least", self.at_least)]
        wanted = ", ".join(f"{side} {bound:g} {self.unit}" for side, bound in bounds if bound is not None)
        verdict = "" if not wanted else ("kept" if self.good else "**missed**")
        return f"| {self.what} | {spread} | {wanted} | {verdict} |"
