"""The content of a model package's model card, checked as far as its schema is published.

"Model package model card schema" in the developer guide and ModelPackageModelCard in the API reference: it has no
model_package_details, and its model_overview has model_creator and model_artifact only. Lengths are those of the
SageMaker Python SDK 3.27 (sagemaker.core.shapes.model_card_shapes). Where the sources disagree, everything passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from local_aws.calls import Request, validation_error
from local_aws.sagemaker.expressions import read_json

ANYTHING = object()
REQUIRED = "*"  # at the end of a member's name

# A number is a text's greatest length, a tuple an enumeration, a list a list of its element, a dict an object.
_METRIC = {
    "name*": 255,
    "type*": ("number", "string", "boolean", "linear_graph", "bar_chart", "matrix"),
    "value*": ANYTHING,
    "notes": 1024,
    "x_axis_name": ANYTHING,
    "y_axis_name": ANYTHING,
}
_TRAINING_METRIC = {"name*": 255, "value*": float, "notes": 1024}
_HYPERPARAMETER = {"name*": 255, "value": 255}
_TEXT = 1024
SCHEMA: dict[str, Any] = {
    "model_overview": {"model_creator": 1024, "model_artifact": [_TEXT]},
    "intended_uses": {
        "purpose_of_model": 2048,
        "intended_uses": 2048,
        "factors_affecting_model_efficiency": 2048,
        "risk_rating": ("High", "Medium", "Low", "Unknown"),
        "explanations_for_risk_rating": 2048,
    },
    "business_details": {"business_problem": 2048, "business_stakeholders": 2048, "line_of_business": 2048},
    "training_details": {
        "objective_function": ANYTHING,
        "training_observations": 1024,
        "training_job_details": {
            "training_arn": 1024,
            "training_datasets": [_TEXT],
            "training_environment": {"container_image": [_TEXT]},
            "training_metrics": [_TRAINING_METRIC],
            "user_provided_training_metrics": [_TRAINING_METRIC],
            "hyper_parameters": [_HYPERPARAMETER],
            "user_provided_hyper_parameters": [_HYPERPARAMETER],
        },
    },
    "evaluation_details": [
        {
            "name*": 63,
            "evaluation_observation": 2096,
            "evaluation_job_arn": 256,
            "datasets": [_TEXT],
            "metadata": ANYTHING,
            "metric_groups": [{"name*": 63, "metric_data*": [_METRIC]}],
        }
    ],
    "additional_information": {
        "ethical_considerations": 2048,
        "caveats_and_recommendations": 2048,
        "custom_details": ANYTHING,
    },
}


def check_model_card(request: Request) -> None:
    """Raise ValidationException when the ModelCard of a request has content that is no model card."""
    text = request.get("ModelCard", {}).get("ModelCardContent")
    if text is None:
        return
    try:
        content = read_json(text)
    except ValueError as error:
        raise validation_error(f"ModelCard.ModelCardContent is not JSON: {error}.") from error
    if faults := list(_faults(content, SCHEMA, "")):
        raise validation_error(f"ModelCard.ModelCardContent does not follow its schema: {'; '.join(faults)}.")


def _faults(value: Any, schema: Any, path: str) -> Iterator[str]:
    where = path or "the content"
    if schema is ANYTHING:
        return
    if isinstance(schema, int):
        if not isinstance(value, str):
            yield f"{where} must be a text"
        elif len(value) > schema:
            yield f"{where} has {len(value)} characters, {schema} are allowed"
    elif schema is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield f"{where} must be a number"
    elif isinstance(schema, tuple):
        if value not in schema:
            yield f"{where} must be one of {', '.join(schema)}"
    elif isinstance(schema, list):
        if not isinstance(value, list):
            yield f"{where} must be a list"
            return
        for number, item in enumerate(value):
            yield from _faults(item, schema[0], f"{path}[{number}]")
    elif not isinstance(value, dict):
        yield f"{where} must be an object"
    else:
        members = {name.removesuffix(REQUIRED): inner for name, inner in schema.items()}
        for name in sorted(set(value) - set(members)):
            yield f"{where} may not have {name!r}; it may have {', '.join(members)}"
        for name, inner in members.items():
            if name in value:
                yield from _faults(value[name], inner, f"{path}.{name}" if path else name)
            elif f"{name}{REQUIRED}" in schema:
                yield f"{where} lacks {name!r}"
