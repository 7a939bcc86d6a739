"""Metrics of the platform, in the functions' own log lines: CloudWatch reads them there, and nobody waits for a call.

Shape: CloudWatch user guide, "Specification: Embedded metric format".
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

NAMESPACE = "Modelyard"
MESSAGES, DEPLOYMENTS, UNFINISHED, FAILING = "Messages", "Deployments", "UnfinishedSeconds", "FailingSeconds"
KIND, FUNCTION = "Kind", "Function"


def embedded(name: str, value: float, unit: str, at: datetime, **dimensions: str) -> dict[str, Any]:
    """The members of a log line from which CloudWatch makes one value of a metric.

    Args:
        unit: of CloudWatch, such as "Count" or "Seconds".
    """
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [sorted(dimensions)],
        "Metrics": [{"Name": name, "Unit": unit}],
    }
    about = {"Timestamp": round(at.timestamp() * 1000), "CloudWatchMetrics": [directive]}
    return {"_aws": about, name: value, **dimensions}
