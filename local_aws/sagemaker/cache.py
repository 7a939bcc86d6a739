"""Step caching: when a step may reuse an earlier, successful run of itself.

https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-caching.html, .../pipelines-default-keys.html
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

# Whatever else changes (outputs' addresses, instance types, the role), the step is still the same step.
KEY_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "Processing": ("AppSpecification", "Environment", "ProcessingInputs"),
    "Training": (
        "AlgorithmSpecification",
        "CheckpointConfig",
        "DebugHookConfig",
        "DebugRuleConfigurations",
        "Environment",
        "HyperParameters",
        "InputDataConfig",
    ),
    "Tuning": (
        "HyperParameterTuningJobConfig",
        "TrainingJobDefinition.AlgorithmSpecification",
        "TrainingJobDefinition.HyperParameterRanges",
        "TrainingJobDefinition.InputDataConfig",
        "TrainingJobDefinition.StaticHyperParameters",
        "TrainingJobDefinition.TuningObjective",
        "TrainingJobDefinitions",
    ),
}
_DAYS = {"Y": 365, "M": 30, "W": 7, "D": 1}
_SECONDS = {"H": 3600, "M": 60, "S": 1}


def cache_key(step_type: str, arguments: Mapping[str, Any]) -> str:
    """A hash of what decides whether a step's result can be reused.

    Args:
        step_type: one of KEY_ATTRIBUTES.
        arguments: the step's request, every expression in it evaluated.
    """
    attributes = {}
    for name in KEY_ATTRIBUTES[step_type]:
        first, _, second = name.partition(".")
        value = arguments.get(first, {})
        if value := value.get(second) if second else value:
            attributes[name] = value
    return hashlib.sha256(json.dumps(attributes, sort_keys=True).encode()).hexdigest()


def parse_duration(text: str) -> timedelta:
    """An ISO 8601 duration, as CacheConfig's ExpireAfter has it: "P30D", "PT1H"; also AWS's own "30d" and "30dT5h".

    A year is 365 days and a month 30.

    Raises:
        ValueError: it is none.
    """
    upper = text.upper()
    match = re.fullmatch(r"P?((?:\d+[YMWD])*)(?:T((?:\d+[HMS])+))?", upper)
    if not match or not (match[1] or match[2]):
        raise ValueError(f"{text!r} is not an ISO 8601 duration such as 'P30D' or 'PT1H'")
    if re.search(r"\d{7}", upper):
        raise ValueError(f"{text!r} is longer than a step's result can last")
    days = sum(int(number) * _DAYS[unit] for number, unit in re.findall(r"(\d+)(.)", match[1]))
    seconds = sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"(\d+)(.)", match[2] or ""))
    return timedelta(days=days, seconds=seconds)
