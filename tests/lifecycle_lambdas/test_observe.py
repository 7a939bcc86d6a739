"""What is observed, from AWS's own answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from lifecycle_lambdas.observe import Alarm, Endpoint, Observed, ScalableTarget, Variant, observe
from tests.lifecycle_lambdas.plans import PACKAGE

ARN = "arn:aws:sagemaker:eu-west-1:111122223333"
AT = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
ENDPOINT: dict[str, Any] = {
    "EndpointName": "churn-prod",
    "EndpointArn": f"{ARN}:endpoint/churn-prod",
    "EndpointConfigName": "churn-prod-11",
    "EndpointStatus": "Updating",
    "CreationTime": AT,
    "LastModifiedTime": AT,
    "ProductionVariants": [{"VariantName": "AllTraffic", "CurrentInstanceCount": 2, "DesiredInstanceCount": 3}],
    "PendingDeploymentSummary": {"EndpointConfigName": "churn-prod-12"},
}
CONFIG: dict[str, Any] = {
    "EndpointConfigName": "churn-prod-11",
    "EndpointConfigArn": f"{ARN}:endpoint-config/churn-prod-11",
    "CreationTime": AT,
    "ProductionVariants": [
        {
            "VariantName": "AllTraffic",
            "ModelName": "churn-prod-11",
            "InitialInstanceCount": 2,
            "InstanceType": "ml.m5.large",
        }
    ],
}
SERVERLESS: dict[str, Any] = {
    "VariantName": "AllTraffic",
    "CurrentServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 5},
}
RESOURCE = "endpoint/churn-prod/variant/AllTraffic"
DIMENSION = "sagemaker:variant:DesiredInstanceCount"


class Answers:
    """boto3 clients that answer what the test says, checked against botocore's models."""

    def __init__(self) -> None:
        self.clients = {
            name: boto3.client(name, region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
            for name in ("sagemaker", "cloudwatch", "application-autoscaling", "scheduler")
        }
        self.stubs = {name: Stubber(client) for name, client in self.clients.items()}
        for stub in self.stubs.values():
            stub.activate()

    def answer(self, service: str, operation: str, answer: dict[str, Any]) -> None:
        self.stubs[service].add_response(operation, answer)

    def refuse(self, service: str, operation: str, code: str, message: str = "") -> None:
        self.stubs[service].add_client_error(operation, code, message)

    def rest_is_missing(self) -> None:
        """No dashboard and no schedule."""
        self.refuse("cloudwatch", "get_dashboard", "ResourceNotFound", "Dashboard churn-prod does not exist")
        self.refuse("scheduler", "get_schedule", "ResourceNotFoundException", "Schedule churn-prod does not exist.")

    def observe(self, number: int | None = None) -> Observed:
        found = observe(self.clients.__getitem__, "churn-prod", number, "modelyard")
        for stub in self.stubs.values():
            stub.assert_no_pending_responses()
        return found


def test_where_nothing_is_nothing_is_observed() -> None:
    aws = Answers()
    aws.refuse(
        "sagemaker", "describe_endpoint", "ValidationException", f'Could not find endpoint "{ARN}:endpoint/churn-prod".'
    )
    aws.answer("cloudwatch", "describe_alarms", {"MetricAlarms": []})
    aws.rest_is_missing()

    assert aws.observe() == Observed("churn-prod")


def test_an_update_is_observed_with_all_that_belongs_to_it() -> None:
    aws = Answers()
    aws.answer("sagemaker", "describe_endpoint", ENDPOINT)
    aws.answer("sagemaker", "describe_endpoint_config", CONFIG)
    aws.refuse("sagemaker", "describe_endpoint_config", "ValidationException", "Could not find endpoint configuration")
    aws.answer(
        "sagemaker",
        "describe_model",
        {
            "ModelName": "churn-prod-12",
            "ModelArn": f"{ARN}:model/churn-prod-12",
            "CreationTime": AT,
            "Containers": [{"ModelPackageName": PACKAGE}],
        },
    )
    aws.refuse("sagemaker", "describe_model", "ValidationException", "Could not find model")  # the schedule's
    alarm = {"AlarmName": "churn-prod-12-abort", "StateValue": "ALARM", "StateReason": "set", "Threshold": 0.0}
    aws.answer("cloudwatch", "describe_alarms", {"MetricAlarms": [alarm]})
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": RESOURCE,
        "ScalableDimension": DIMENSION,
        "MinCapacity": 1,
        "MaxCapacity": 4,
        "RoleARN": "arn:aws:iam::111122223333:role/x",
        "CreationTime": AT,
    }
    aws.answer("application-autoscaling", "describe_scalable_targets", {"ScalableTargets": [target]})
    policy = {
        "PolicyARN": "arn:aws:autoscaling:x",
        "PolicyName": "churn-prod-target-tracking",
        "ServiceNamespace": "sagemaker",
        "ResourceId": RESOURCE,
        "ScalableDimension": DIMENSION,
        "PolicyType": "TargetTrackingScaling",
        "CreationTime": AT,
        "TargetTrackingScalingPolicyConfiguration": {"TargetValue": 5.0},
    }
    aws.answer("application-autoscaling", "describe_scaling_policies", {"ScalingPolicies": [policy]})
    aws.answer("cloudwatch", "get_dashboard", {"DashboardBody": "{}"})
    schedule = {
        "Name": "churn-prod",
        "GroupName": "modelyard",
        "Target": {"Arn": "a", "RoleArn": "b", "Input": '{"number": 9}'},
    }
    aws.answer("scheduler", "get_schedule", schedule)

    found = aws.observe(12)

    assert found == Observed(
        name="churn-prod",
        endpoint=Endpoint(
            status="Updating",
            config="churn-prod-11",
            pending="churn-prod-12",
            modified=AT,
            variants=(Variant("AllTraffic", False, 3, "churn-prod-11", "ml.m5.large"),),
            arn=f"{ARN}:endpoint/churn-prod",
        ),
        models={"churn-prod-12": PACKAGE},
        configs={"churn-prod-11": (Variant("AllTraffic", False, 2, "churn-prod-11", "ml.m5.large"),)},
        alarms={"churn-prod-12-abort": Alarm("ALARM", {"AlarmName": "churn-prod-12-abort", "Threshold": 0.0}, "set")},
        targets=(ScalableTarget(RESOURCE, DIMENSION, 1, 4, {"churn-prod-target-tracking": {"TargetValue": 5.0}}),),
        dashboard="{}",
        schedule=schedule,
    )
    assert found.serving == 11
    assert found.raised == ["churn-prod-12-abort"]


@pytest.mark.parametrize(
    ("variants", "kind"), [([SERVERLESS], "serverless"), (ENDPOINT["ProductionVariants"], "real_time")]
)
def test_the_kind_is_known_though_the_config_was_deleted(variants: list[dict[str, Any]], kind: str) -> None:
    aws = Answers()
    aws.answer(
        "sagemaker", "describe_endpoint", {**ENDPOINT, "EndpointStatus": "InService", "ProductionVariants": variants}
    )
    aws.refuse("sagemaker", "describe_endpoint_config", "ValidationException", "Could not find endpoint configuration")
    aws.answer("cloudwatch", "describe_alarms", {"MetricAlarms": []})
    aws.answer("application-autoscaling", "describe_scalable_targets", {"ScalableTargets": []})
    aws.rest_is_missing()

    endpoint = aws.observe().endpoint

    assert endpoint is not None
    assert endpoint.kind == kind
    assert endpoint.variants[0].instance_type is None


def test_while_an_endpoint_is_created_its_variants_are_its_configs() -> None:
    aws = Answers()
    creating = {
        name: value
        for name, value in ENDPOINT.items()
        if name not in ("ProductionVariants", "PendingDeploymentSummary")
    }
    aws.answer("sagemaker", "describe_endpoint", {**creating, "EndpointStatus": "Creating"})
    aws.answer("sagemaker", "describe_endpoint_config", CONFIG)
    aws.answer("cloudwatch", "describe_alarms", {"MetricAlarms": []})
    aws.answer("application-autoscaling", "describe_scalable_targets", {"ScalableTargets": []})
    aws.rest_is_missing()

    endpoint = aws.observe().endpoint

    assert endpoint is not None
    assert endpoint.variants == (Variant("AllTraffic", False, 2, "churn-prod-11", "ml.m5.large"),)


def test_what_may_not_be_read_is_not_taken_for_missing() -> None:
    aws = Answers()
    aws.refuse("sagemaker", "describe_endpoint", "AccessDeniedException", "not authorized")

    with pytest.raises(ClientError, match="AccessDenied"):
        aws.observe()


@pytest.mark.parametrize("text", ["not JSON", '{"number": "9"}', "[]", "{}"])
def test_a_schedule_with_somebody_elses_input_is_of_no_deployment(text: str) -> None:
    assert Observed("churn-prod", schedule={"Target": {"Input": text}}).serving is None
