"""The requests that make a deployment's model, endpoint config and endpoint, and update it. Pure.

Sources: SageMaker API reference (CreateModel, CreateEndpointConfig, UpdateEndpoint); developer guide, "Deployment
guardrails" and its "Exclusions".
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from lifecycle_lambdas import alarms, names
from lifecycle_lambdas.calls import AwsCall
from lifecycle_lambdas.declared import Declared
from lifecycle_lambdas.observe import Endpoint


def create_model(declared: Declared) -> AwsCall:
    stage_file = declared.stage_file
    container: dict[str, Any] = {"ModelPackageName": declared.package_arn}
    if stage_file.environment:
        container["Environment"] = dict(stage_file.environment)
    request: dict[str, Any] = {
        "ModelName": declared.name,
        "Containers": [container],
        "ExecutionRoleArn": declared.role_arn,
        "Tags": names.tag_list(declared.deployment_tags),
    }
    if declared.kind != "serverless":
        if stage_file.vpc is not None:
            request["VpcConfig"] = stage_file.vpc.config
        if stage_file.network_isolation:
            request["EnableNetworkIsolation"] = True
    return AwsCall("sagemaker", "create_model", request)


def create_config(declared: Declared) -> AwsCall:
    stage_file = declared.stage_file
    variant: dict[str, Any] = {"VariantName": names.VARIANT, "ModelName": declared.name}
    request: dict[str, Any] = {
        "EndpointConfigName": declared.name,
        "ProductionVariants": [variant],
        "Tags": names.tag_list(declared.deployment_tags),
    }
    if declared.kind == "serverless":
        variant["ServerlessConfig"] = stage_file.config
        return AwsCall("sagemaker", "create_endpoint_config", request)
    variant["InitialInstanceCount"] = stage_file.instance_count
    variant["InstanceType"] = stage_file.instance_type
    variant["InitialVariantWeight"] = 1.0
    if stage_file.kms_key is not None:
        request["KmsKeyId"] = stage_file.kms_key
    if stage_file.data_capture is not None:
        request["DataCaptureConfig"] = _data_capture(declared)
    return AwsCall("sagemaker", "create_endpoint_config", request)


def _data_capture(declared: Declared) -> dict[str, Any]:
    capture = declared.stage_file.data_capture
    found: dict[str, Any] = {
        "EnableCapture": True,
        "InitialSamplingPercentage": capture.percent,
        "DestinationS3Uri": declared.capture_uri,
        "CaptureOptions": capture.capture_modes,
    }
    headers = {"CsvContentTypes": capture.csv_content_types, "JsonContentTypes": capture.json_content_types}
    if any(headers.values()):
        found["CaptureContentTypeHeader"] = {name: types for name, types in headers.items() if types}
    if declared.stage_file.kms_key is not None:
        found["KmsKeyId"] = declared.stage_file.kms_key
    return found


def create_endpoint(declared: Declared) -> AwsCall:
    return AwsCall(
        "sagemaker",
        "create_endpoint",
        {
            "EndpointName": declared.endpoint,
            "EndpointConfigName": declared.name,
            "Tags": names.tag_list(declared.tags),
        },
    )


def update_endpoint(declared: Declared, endpoint: Endpoint, raised: Collection[str] = ()) -> AwsCall:
    """The update to this deployment; `raised`: the alarms in ALARM, see watching().

    Weights, and the count where scaling sets it, are what the endpoint runs with, not what its config says: they are
    retained, or an update would undo what auto scaling did. Without scaling the declared count is meant.
    """
    request: dict[str, Any] = {
        "EndpointName": declared.endpoint,
        "EndpointConfigName": declared.name,
        "RetainAllVariantProperties": True,
    }
    if declared.kind == "real_time" and declared.stage_file.scaling is None:
        request["ExcludeRetainedVariantProperties"] = [{"VariantPropertyType": "DesiredInstanceCount"}]
    if (config := deployment_config(declared, endpoint, raised)) is not None:
        request["DeploymentConfig"] = config
    return AwsCall("sagemaker", "update_endpoint", request)


def deployment_config(declared: Declared, endpoint: Endpoint, raised: Collection[str]) -> dict[str, Any] | None:
    """How traffic moves, and what rolls back; None: all at once, as SageMaker does by itself.

    Serverless endpoints have no guardrails, and an endpoint whose variants are other ones (somebody else made it)
    cannot keep them. Going back waits for nothing.
    """
    if not is_guarded(declared, endpoint):
        return None
    rollout, routing = declared.stage_file.rollout, traffic(declared, endpoint)
    watched = [call.request["AlarmName"] for call in watching(declared, endpoint, raised)]
    if routing["Type"] == "ALL_AT_ONCE" and not watched and rollout.termination_wait_seconds == 0:
        return None
    found: dict[str, Any] = {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": routing,
            "TerminationWaitInSeconds": rollout.termination_wait_seconds,
            "MaximumExecutionTimeoutInSeconds": rollout.maximum_execution_seconds,
        }
    }
    if watched:
        found["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": name} for name in watched]}
    return found


def watching(declared: Declared, endpoint: Endpoint, raised: Collection[str]) -> list[AwsCall]:
    """The alarms that the update of this endpoint is to be watched by.

    Args:
        raised: the alarms in ALARM. A custom metric need not be of the new instances alone: while its standing alarm
            is raised, it would roll back at once the very version that is to put it right, and is left out.
    """
    if not is_guarded(declared, endpoint):
        return []
    at_fault = names.standing_alarm(declared.endpoint, "custom") in raised
    calls = [call for call in alarms.rollback_alarms(declared) if alarms.sees_one_deployment(call) or not at_fault]
    # all at once there is no moment at which a person could stop half of it
    if traffic(declared, endpoint)["Type"] != "ALL_AT_ONCE":
        calls.append(alarms.abort_alarm(declared))
    return calls


def traffic(declared: Declared, endpoint: Endpoint) -> dict[str, Any]:
    """TrafficRoutingConfiguration for the fleet that the endpoint will have.

    A fleet of one cannot be parted: it moves at once, and is watched as long as at the end of the declared rollout. A
    number of instances is brought within the half (canary, linear) and the tenth (linear) that SageMaker allows.
    """
    stage_file, rollout = declared.stage_file, declared.stage_file.rollout
    fleet = stage_file.instance_count
    running = endpoint.variant(names.VARIANT)
    if stage_file.scaling is not None and running is not None and running.count is not None:
        fleet = running.count
    if rollout.type == "all_at_once" or fleet < 2:
        return {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
    size = dict(rollout.capacity)
    if size["Type"] == "INSTANCE_COUNT":
        lowest = math.ceil(fleet / 10) if rollout.type == "linear" else 1
        size["Value"] = max(lowest, min(size["Value"], fleet // 2))
    return {
        "Type": rollout.type.upper(),
        "WaitIntervalInSeconds": rollout.wait_seconds,
        "CanarySize" if rollout.type == "canary" else "LinearStepSize": size,
    }


def is_guarded(declared: Declared, endpoint: Endpoint) -> bool:
    """Whether the update moves in the declared steps, and is watched by alarms."""
    return declared.kind == "real_time" and declared.guarded and same_variants(endpoint)


def same_variants(endpoint: Endpoint) -> bool:
    """Whether the endpoint has the variant that ours have, and no other."""
    return [variant.name for variant in endpoint.variants] == [names.VARIANT]


def delete_endpoint(name: str) -> AwsCall:
    return AwsCall("sagemaker", "delete_endpoint", {"EndpointName": name})
