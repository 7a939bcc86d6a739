"""The model card that SageMaker shows on the version: what people say about the model beside what was measured.

Source: SageMaker developer guide, "View the Details of a Model Version", the schema of model package model cards: its
field names, and how long each may be; a card takes 100,000 characters.
"""

from __future__ import annotations

import json
from typing import Any

LONGEST_CARD = 100_000
LONG, MIDDLE, NAME, VALUE = 2048, 1024, 255, 255
MOST_METRICS = 100


def model_card(findings: dict[str, Any]) -> str:
    """The card's content, JSON. findings: as the report gets them (evaluate.py)."""
    said, lineage = findings["settings"]["model_card"], findings["lineage"]
    rows = json.dumps(findings["summary"].get("rows", {}))
    details = {
        "name": "Test part",
        "evaluation_observation": _cut(findings["gate"]["decision"], LONG),
        "datasets": [_cut(lineage["data_uri"], MIDDLE)],
        "metadata": {
            "rows": str(findings["rows"]),
            "execution": _cut(lineage["execution"], MIDDLE),
        },
        "metric_groups": _metric_groups(findings),
    }
    card = {
        "model_overview": {"model_creator": _cut(said["owner"] or findings["project"], MIDDLE)},
        "intended_uses": {
            "purpose_of_model": _cut(findings["description"], LONG),
            "intended_uses": _cut(said["intended_uses"], LONG),
            "risk_rating": said["risk_rating"],
        },
        "training_details": {
            "objective_function": {
                # what XGBoost minimises: the logarithmic loss, or the squared error
                "function": "Minimize",
                "facet": "RMSE" if findings["problem_type"] == "regression" else "Loss",
            },
            "training_observations": _cut(
                f"{findings['problem_type']} of {findings['target']!r} with XGBoost; "
                f"commit {lineage['commit']} of branch {lineage['branch']}; rows: {rows}",
                MIDDLE,
            ),
            "training_job_details": {
                "training_datasets": [_cut(lineage["data_uri"], MIDDLE)],
                "hyper_parameters": [
                    {"name": _cut(name, NAME), "value": _cut(str(value), VALUE)}
                    for name, value in findings["settings"]["hyperparameters"].items()
                ],
            },
        },
        "evaluation_details": [details],
        "additional_information": {
            "caveats_and_recommendations": _cut(said["caveats"], LONG),
            "custom_details": {"data_sha256": _cut(lineage["data_sha256"], MIDDLE)},
        },
    }
    content = json.dumps(_said(card), allow_nan=False)
    if len(content) > LONGEST_CARD:  # the slices are what grows
        details["metric_groups"] = _metric_groups(findings)[:1]
        content = json.dumps(_said(card), allow_nan=False)
    return content


def _said(value: Any) -> Any:
    """The card without what nobody said: empty texts, lists and objects."""
    if isinstance(value, dict):
        said = {name: _said(inner) for name, inner in value.items()}
        return {name: inner for name, inner in said.items() if inner not in ("", [], {})}
    if isinstance(value, list):
        return [inner for inner in map(_said, value) if inner not in ("", [], {})]
    return value


def _metric_groups(findings: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [{"name": "Quality", "metric_data": [_metric(metric["name"], metric) for metric in findings["metrics"]]}]
    main = findings["metrics"][0]["name"]
    for part in findings["slices"]:
        data = [
            _metric(
                f"{main} where {part['column']} is {value['value']}", value["metrics"][main] | {"rows": value["rows"]}
            )
            for value in part["values"]
        ]
        groups.append({"name": _cut(f"By {part['column']}", 63), "metric_data": data})
    operation = {
        name: value
        for name, value in findings["values"].items()
        if value is not None and name.startswith(("latency.", "model.", "fairness.", "cost."))
    }
    groups.append(
        {
            "name": "Fairness, cost, size and latency",
            "metric_data": [_metric(name, {"value": value}) for name, value in list(operation.items())[:MOST_METRICS]],
        }
    )
    defined = [{**group, "metric_data": [metric for metric in group["metric_data"] if metric]} for group in groups]
    return [group for group in defined if group["metric_data"]]


def _metric(name: str, found: dict[str, Any]) -> dict[str, Any] | None:
    """None when the value is undefined: a card's numbers must be numbers."""
    if found["value"] is None:
        return None
    notes = []
    if found.get("lower") is not None:
        notes.append(f"95 % confidence interval: {found['lower']:.6g} to {found['upper']:.6g}")
    if "rows" in found:
        notes.append(f"{found['rows']} rows")
    metric = {"name": _cut(name, NAME), "type": "number", "value": found["value"]}
    return {**metric, "notes": "; ".join(notes)} if notes else metric


def _cut(text: str | None, longest: int) -> str:
    """The schema's patterns take no line breaks."""
    plain = " ".join((text or "").split())
    return plain if len(plain) <= longest else plain[: longest - 3] + "..."
