"""What CloudWatch would say against a dashboard's body: MiniStack takes any.

Rules: CloudWatch API reference, "Dashboard Body Structure and Syntax".
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

COLUMNS, MOST_WIDGETS, MOST_METRICS, MOST_ALARMS, TALLEST = 24, 500, 500, 100, 1000
PLACE = ("x", "y", "width", "height")
PROPERTIES = {
    "metric": {"title", "region", "view", "stat", "period", "metrics", "annotations", "yAxis", "stacked", "legend"},
    "alarm": {"title", "alarms", "sortBy", "states"},
    "text": {"markdown", "background"},
}
OPTIONS = {"color", "expression", "id", "label", "period", "region", "stat", "visible", "yAxis"}
STATISTIC = re.compile(r"SampleCount|Average|Sum|Minimum|Maximum|p\d{1,2}(\.\d+)?")


def faults(body: str) -> list[str]:
    """One text each; a body without any is a dashboard."""
    widgets = json.loads(body)["widgets"]
    found = [] if len(widgets) <= MOST_WIDGETS else [f"{len(widgets)} widgets"]
    for number, widget in enumerate(widgets):
        found += [f"widget {number}: {fault}" for fault in _faults(widget)]
    for (one, first), (other, second) in itertools.combinations(enumerate(widgets), 2):
        if _overlap(first, second):
            found.append(f"widgets {one} and {other} are in the same place")
    return found


def _faults(widget: dict[str, Any]) -> Iterator[str]:
    if set(widget) != {"type", "properties", *PLACE}:
        yield f"it has {sorted(widget)}"
        return
    if not all(isinstance(widget[name], int) for name in PLACE):
        yield "its place is not in whole numbers"
    if not (widget["x"] >= 0 and widget["width"] >= 1 and widget["x"] + widget["width"] <= COLUMNS):
        yield "it is outside of the 24 columns"
    if not (widget["y"] >= 0 and 1 <= widget["height"] <= TALLEST):
        yield "its height"
    properties, kind = widget["properties"], widget["type"]
    if unknown := set(properties) - PROPERTIES.get(kind, set()):
        yield f"a {kind} has no {sorted(unknown)}"
    if kind == "metric":
        yield from _metric_faults(properties)
    elif kind == "alarm":
        arns = properties.get("alarms", [])
        if not 1 <= len(arns) <= MOST_ALARMS:
            yield f"{len(arns)} alarms"
        yield from (f"{arn} is no alarm" for arn in arns if not re.fullmatch(r"arn:[\w-]+:cloudwatch:.+:alarm:.+", arn))


def _metric_faults(properties: dict[str, Any]) -> Iterator[str]:
    if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", properties.get("region", "")):
        yield "it has no region"
    if properties.get("view") not in ("timeSeries", "singleValue", "bar", "gauge", "pie"):
        yield "its view"
    if properties.get("period", 60) % 60 or not STATISTIC.fullmatch(properties.get("stat", "Average")):
        yield "its period or statistic"
    if not 1 <= len(properties["metrics"]) <= MOST_METRICS:
        yield f"{len(properties['metrics'])} metrics"
    for metric in properties["metrics"]:
        options = metric[-1] if isinstance(metric[-1], dict) else {}
        names = metric[:-1] if options else metric
        if set(options) - OPTIONS or not STATISTIC.fullmatch(options.get("stat", "Average")):
            yield f"options {options}"
        if "expression" in options:
            if names:
                yield f"{metric} is an expression and a metric"
        elif len(names) < 2 or len(names) % 2 or not all(isinstance(name, str) and name for name in names):
            yield f"{metric} is not a namespace, a name, and dimensions with values"
    for line in properties.get("annotations", {}).get("horizontal", []):
        if not isinstance(line.get("value"), int | float):
            yield f"the line {line}"


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        one[at] < other[at] + other[length] and other[at] < one[at] + one[length]
        for at, length in (("x", "width"), ("y", "height"))
    )
