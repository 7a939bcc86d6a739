"""What is declared and what is there, for the tests of what is made of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from lifecycle_lambdas import names, stage_schema
from lifecycle_lambdas.declared import Declared
from lifecycle_lambdas.observe import Alarm, Endpoint, Observed, ScalableTarget, Variant

NOW = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
ENDPOINT = "churn-prod"
GROUP_ARN = "arn:aws:sagemaker:eu-west-1:111122223333:model-package/churn-prod"
PACKAGE = f"{GROUP_ARN}/7"

REAL_TIME: dict[str, Any] = {
    "kind": "real_time",
    "instance_type": "ml.m5.large",
    "instance_count": 2,
    "dashboard": False,
}
SERVERLESS: dict[str, Any] = {"kind": "serverless", "dashboard": False}
BATCH: dict[str, Any] = {
    "kind": "batch",
    "instance_type": "ml.m5.large",
    "schedule": "rate(1 day)",
    "input": "s3://data/new/",
    "output": "s3://data/answers/",
}
CANARY = {"type": "canary", "size": "50%", "bake_minutes": 10, "finish_bake_minutes": 5}
LINEAR = {"type": "linear", "step": "25%", "bake_minutes": 5, "finish_bake_minutes": 5}
ALARMS = {"error_share": 0.05, "p99_latency_ms": 500}
SCALING = {"min": 2, "max": 4, "target": {"invocations_per_instance": 1000}}


def declared(
    content: dict[str, Any] | None = None, *, number: int = 12, requested: datetime | None = None, **fields: Any
) -> Declared:
    """A deployment of version 7 by this stage file, with these fields of it changed."""
    stage_file = stage_schema.parse({**(REAL_TIME if content is None else content), **fields}, "prod")
    return Declared(
        endpoint=ENDPOINT,
        number=number,
        package_arn=PACKAGE,
        stage_file=stage_file,
        role_arn="arn:aws:iam::111122223333:role/modelyard/models/default",
        tags=names.project_tags("churn", "p-123456789012", "prod"),
        capture_uri="s3://artifacts/churn/captured/prod/",
        topic_arn="arn:aws:sns:eu-west-1:111122223333:modelyard",
        function_arn="arn:aws:lambda:eu-west-1:111122223333:function:modelyard-batch",
        schedule_role_arn="arn:aws:iam::111122223333:role/modelyard-schedules",
        schedule_group="modelyard",
        requested=requested,
    )


def variant(**changes: Any) -> Variant:
    values: dict[str, Any] = {
        "name": names.VARIANT,
        "serverless": False,
        "count": 2,
        "model": "churn-prod-11",
        "instance_type": "ml.m5.large",
    }
    return Variant(**{**values, **changes})


def endpoint(status: str = "InService", config: str = "churn-prod-11", **changes: Any) -> Endpoint:
    values: dict[str, Any] = {"pending": None, "modified": NOW - timedelta(minutes=1), "variants": (variant(),)}
    return Endpoint(status=status, config=config, **{**values, **changes})


def observed(there: Endpoint | None = None, **changes: Any) -> Observed:
    return Observed(name=ENDPOINT, endpoint=there, **changes)


def made(wanted: Declared, there: Endpoint, **changes: Any) -> Observed:
    """With the deployment's model and config made."""
    return observed(
        there,
        models={wanted.name: wanted.package_arn},
        configs={wanted.name: (variant(model=wanted.name),)},
        **changes,
    )


def alarm(name: str, state: str = "OK", reason: str = "") -> dict[str, Alarm]:
    return {name: Alarm(state, {"AlarmName": name}, reason)}


def target(resource: str = "endpoint/churn-prod/variant/AllTraffic") -> ScalableTarget:
    return ScalableTarget(resource, "sagemaker:variant:DesiredInstanceCount", 2, 4)
