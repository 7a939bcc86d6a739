"""A metric's value with its uncertainty: standard deviation and 95 % confidence interval over the choice of rows.

Every metric here is a function of averages over the rows, so that its variance follows from one number per row, the
row's influence (the delta method; Hampel, 1974): variance = sum(influence^2) / (rows * (rows - 1)). For the area under
the ROC curve this is the estimate of DeLong, DeLong and Clarke-Pearson (1988). Two models scored on the same rows are
compared by the difference of their influences, which takes care of their correlation. All of it is one pass over
the rows: no resampling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Z95 = 1.959963984540054  # the normal distribution's 97.5 % quantile
LEVEL = 0.95
NONE = np.empty(0)


@dataclass(frozen=True)
class Estimate:
    """value: NaN when it is undefined on these rows. influence: shape (rows,), or empty when the value is undefined.

    support: the number of rows that the value speaks about, for a recall those of the class. shape: what the value can
    be, which decides how the interval is computed: "share" (0 to 1), "error" (0 and more), "at_most_one" (1 and less).
    """

    value: float
    influence: np.ndarray
    support: float
    shape: str = "share"

    @property
    def higher_is_better(self) -> bool:
        return self.shape != "error"

    @property
    def standard_deviation(self) -> float:
        rows = len(self.influence)
        if math.isnan(self.value) or rows < 2:
            return math.nan
        return math.sqrt(float(np.square(self.influence, dtype=np.float64).sum()) / (rows * (rows - 1)))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval; NaN, NaN when it is undefined.

        Shares: Wilson's interval (1927) with the number of rows that a plain share of this variance would need (Korn
        and Graubard, 1998), which stays within 0 and 1 and has a width at 0 and 1 too. Errors: symmetric on the
        logarithmic scale.
        """
        deviation = self.standard_deviation
        if math.isnan(deviation):
            return math.nan, math.nan
        if self.shape == "share":
            spread = self.value * (1 - self.value)
            return wilson(self.value, spread / deviation**2 if deviation > 0 and spread > 0 else self.support)
        if self.shape == "at_most_one":
            lower, upper = _log_interval(1 - self.value, deviation)
            return 1 - upper, 1 - lower
        return _log_interval(self.value, deviation)

    def numbers(self) -> dict[str, float | None]:
        """value, lower, upper, standard_deviation; None for what is undefined."""
        lower, upper = self.interval
        found = {"value": self.value, "lower": lower, "upper": upper, "standard_deviation": self.standard_deviation}
        return {name: defined(number) for name, number in found.items()}


UNDEFINED = Estimate(math.nan, NONE, 0)


def ratio(parts: np.ndarray, wholes: np.ndarray, when_empty: float = math.nan) -> Estimate:
    """The share sum(parts) / sum(wholes), both of shape (rows,); `when_empty` is its value when there is no whole."""
    parts, wholes = parts.astype(np.float64), wholes.astype(np.float64)
    whole = float(wholes.sum())
    if not whole:
        return UNDEFINED if math.isnan(when_empty) else Estimate(when_empty, np.zeros(len(parts)), 0)
    value = float(parts.sum()) / whole
    return Estimate(value, (parts - value * wholes) * (len(parts) / whole), whole)


def mean(values: np.ndarray, shape: str = "error") -> Estimate:
    """The mean of `values`, shape (rows,)."""
    if not len(values):
        return UNDEFINED
    values = values.astype(np.float64)
    value = float(values.mean())
    return Estimate(value, values - value, len(values), shape)


def difference(first: Estimate, second: Estimate) -> tuple[float, float, float]:
    """first minus second, on the same rows, with its 95 % confidence interval; NaN when one of them is undefined."""
    value = first.value - second.value
    if math.isnan(value):
        return math.nan, math.nan, math.nan
    margin = Z95 * Estimate(value, first.influence - second.influence, 0).standard_deviation
    return value, value - margin, value + margin


def wilson(share: float, rows: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `rows` rows; the whole of 0 to 1 when there are none."""
    if rows <= 0:
        return 0.0, 1.0
    centre = (share + Z95**2 / (2 * rows)) / (1 + Z95**2 / rows)
    margin = Z95 * math.sqrt(share * (1 - share) / rows + Z95**2 / (4 * rows**2)) / (1 + Z95**2 / rows)
    return max(0.0, min(centre - margin, share)), min(1.0, max(centre + margin, share))


def defined(number: Any) -> float | None:
    """The number, or None in the place of NaN and infinity, which JSON does not have."""
    return float(number) if number is not None and math.isfinite(number) else None


def _log_interval(value: float, deviation: float) -> tuple[float, float]:
    if value <= 0 or deviation <= 0:
        return value, value
    factor = math.exp(min(Z95 * deviation / value, 700.0))
    return value / factor, value * factor
