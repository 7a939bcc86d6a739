"""What is counted of a variant's requests between two publications, and the metrics that come of it.

Names, units and meanings: "Metrics for monitoring Amazon SageMaker AI with Amazon CloudWatch". Latencies are in
microseconds; a value is sent for each request, so that averages are shares and percentiles work.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

MOST_VALUES = 150  # different ones in one MetricDatum


@dataclass
class Tally:
    """Latencies and set-up times in microseconds, one for each request that has one.

    utilizations: requests under way over the provisioned concurrency, when each request came.
    """

    invocations: int = 0
    client_errors: int = 0
    server_errors: int = 0
    model_errors: int = 0
    model_latencies: list[float] = field(default_factory=list)
    overheads: list[float] = field(default_factory=list)
    setups: list[float] = field(default_factory=list)
    utilizations: list[float] = field(default_factory=list)

    def metrics(self, instances: int | None) -> list[dict[str, Any]]:
        """MetricData without Dimensions and Timestamp.

        Args:
            instances: of the variant; None of a serverless one, which has none.
        """
        count = self.invocations
        found = [_datum("Invocations", "None", {1.0: count})] if count else []
        if count and instances is not None:
            found.append(_datum("InvocationsPerInstance", "None", {1.0 / max(1, instances): count}))
        for name, errors in (
            ("Invocation4XXErrors", self.client_errors),
            ("Invocation5XXErrors", self.server_errors),
            ("InvocationModelErrors", self.model_errors),
        ):
            if count:
                found.append(_datum(name, "None", {0.0: count - errors, 1.0: errors}))
        for name, unit, values in (
            ("ModelLatency", "Microseconds", self.model_latencies),
            ("OverheadLatency", "Microseconds", self.overheads),
            ("ModelSetupTime", "Microseconds", self.setups),
            ("ServerlessProvisionedConcurrencyUtilization", "None", self.utilizations),
        ):
            counted = sorted(Counter(map(rounded, values)).items())
            found += [
                _datum(name, unit, dict(counted[start : start + MOST_VALUES]))
                for start in range(0, len(counted), MOST_VALUES)
            ]
        return found


def rounded(value: float) -> float:
    """To two digits, so that a minute's values are few: at most 5% off."""
    if value <= 0:
        return 0.0
    return round(value, 1 - math.floor(math.log10(value)))


def _datum(name: str, unit: str, values: dict[float, int]) -> dict[str, Any]:
    present = {value: count for value, count in values.items() if count}
    return {"MetricName": name, "Unit": unit, "Values": list(present), "Counts": list(present.values())}
