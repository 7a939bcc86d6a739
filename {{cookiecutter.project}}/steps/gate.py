"""The gate: which numbers must hold, and what is said when they do or do not.

The pipeline's conditions decide, by the numbers of gate.json; what is computed here by the same rules is for the text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

# FailStep takes 3,072 characters (SageMaker API reference, pipeline definition schema)
LONGEST = 3_000


class GateError(ValueError):
    """The settings name a number that there is not."""


@dataclass(frozen=True)
class Compared:
    """version, stage: what serves now. worse_by: the main metric's margin, 0 or more is worse, in the metric's unit.

    reason: why it cannot be compared, or None; then worse_by is 0.
    """

    version: str
    stage: str
    value: float | None
    worse_by: float
    reason: str | None = None


def margin(candidate: float, serving: float, higher_is_better: bool) -> float:
    """How much worse the candidate is; without what subtracting adds in the last digits."""
    return float(f"{serving - candidate if higher_is_better else candidate - serving:.9g}")


def decide(
    gate: dict[str, Any], values: dict[str, float], threshold: float, tolerance: float, compared: Compared | None
) -> dict[str, Any]:
    """Returns {"file": the content of gate.json, "checks": for the report, see findings}.

    gate: metric, higher_is_better, incomparable, conditions of the settings. values: every number by name. Raises
    GateError when a condition's number is unknown or undefined.
    """
    conditions = [number(values, condition["metric"]) for condition in gate["conditions"]]
    worse_by = compared.worse_by if compared else 0.0
    comparable = int(compared is None or compared.reason is None)
    checks = [_check(gate["metric"], "threshold", values[gate["metric"]], gate["higher_is_better"], threshold)]
    if compared is not None and compared.reason is None:
        checks.append(_check("worse_by.serving", "comparison", worse_by, False, tolerance))
    elif compared is not None and gate["incomparable"] == "fail":
        checks.append(_check("comparable", "comparison", comparable, True, 1))
    for condition, value in zip(gate["conditions"], conditions, strict=True):
        floor = condition.get("at_least")
        bound = condition["at_most"] if floor is None else floor
        checks.append(_check(condition["metric"], "condition", value, floor is not None, bound))
    passed = all(check["passed"] for check in checks)
    return {
        "checks": checks,
        "file": {
            "metric": values[gate["metric"]],
            "worse_by": {"serving": worse_by},
            "comparable": comparable,
            "conditions": {f"c{position}": value for position, value in enumerate(conditions)},
            "serving_version": compared.version if compared else "none",
            "passed": int(passed),
            "decision": _text(checks, compared, tolerance, passed),
        },
    }


def number(values: dict[str, float], name: str) -> float:
    """Raises GateError, naming near names, when there is no such number, or it is undefined."""
    if name not in values:
        near = get_close_matches(name, values, n=5) or [known for known in values if not known.startswith("slice.")]
        raise GateError(f"gate.conditions names {name!r}, which there is not: choose among {', '.join(near)}")
    if not math.isfinite(values[name]):
        raise GateError(
            f"gate.conditions names {name!r}, which is undefined on these test rows (too few, or of one class or value "
            "only): provide more data, or remove the condition"
        )
    return values[name]


def _check(name: str, kind: str, value: float, floor: bool, bound: float) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "value": value,
        "relation": "at least" if floor else "at most",
        "bound": bound,
        "passed": bool(value >= bound if floor else value <= bound),
    }


def _text(checks: list[dict[str, Any]], compared: Compared | None, tolerance: float, passed: bool) -> str:
    failed = [check["name"] for check in checks if not check["passed"]]
    parts = []
    for check in checks:
        verdict = "ok" if check["passed"] else "FAILED"
        if check["kind"] == "comparison":
            continue
        parts.append(
            f"{check['name']} is {check['value']:.6g}, must be {check['relation']} {check['bound']:g}: {verdict}"
        )
    serving = f"the version serving in {compared.stage} ({compared.version})" if compared else ""
    if compared is None:
        parts.insert(1, "no version serves yet that it could be compared with")
    elif compared.reason is not None:
        verdict = "FAILED" if "comparable" in failed else "let pass by gate.incomparable"
        parts.insert(
            1,
            f"{serving} is not comparable, {compared.reason}: {verdict}",
        )
    else:
        verdict = "FAILED" if "worse_by.serving" in failed else "ok"
        how = "worse" if compared.worse_by > 0 else "better"
        how = f"{how} by {abs(compared.worse_by):.6g}" if compared.worse_by else "as good"
        parts.insert(
            1,
            f"{serving} has {compared.value:.6g} on the same rows, so "
            f"this one is {how}, may be worse by {tolerance:g}: {verdict}",
        )
    head = "the model passes" if passed else f"the model fails {len(failed)} of {len(checks)} ({', '.join(failed)})"
    text = f"{head}: {'; '.join(parts)}"
    if not passed:
        text += ". No model version was registered"
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
