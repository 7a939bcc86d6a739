"""Application Auto Scaling's API: scalable targets, target-tracking policies and what scaling did.

Names and rules are the API reference's; messages are AWS's where they are known.
"""

from __future__ import annotations

import math
import uuid
from typing import Any

from botocore.exceptions import ClientError

from local_aws.autoscaling.metrics import PREDEFINED, alarm_request, metric_of
from local_aws.autoscaling.state import NOUNS, State, Variant, check_filters, now, variant_of
from local_aws.autoscaling.target_tracking import HIGH, LOW
from local_aws.autoscaling.tracker import Tracker
from local_aws.calls import Call, Request, Response, ServiceError, page, validation_error
from local_aws.clock import Clock
from local_aws.front_door import JsonService
from local_aws.loopback import Loopback
from local_aws.permissions.authorization import Authorization
from local_aws.store import Document, Scope, Store

NOT_SUSPENDED = {
    "DynamicScalingInSuspended": False,
    "DynamicScalingOutSuspended": False,
    "ScheduledScalingSuspended": False,
}


class AutoScaling(JsonService):
    """The service, and the thread that scales.

    Args:
        store: where everything is kept.
        loopback: clients for SageMaker and CloudWatch.
        clock: how fast AWS's time passes.
        authorization: who may do what; without it everybody may do everything.
    """

    def __init__(
        self, store: Store, loopback: Loopback, clock: Clock, authorization: Authorization | None = None
    ) -> None:
        super().__init__(
            "application-autoscaling", "Application Auto Scaling", "AnyScaleFrontendService.", authorization
        )
        self._state = State(store, loopback)
        self._loopback = loopback
        self._tracker = Tracker(self._state, loopback, clock)
        self.operations |= {
            "RegisterScalableTarget": self.register_target,
            "DeregisterScalableTarget": self.deregister_target,
            "DescribeScalableTargets": self.describe_targets,
            "PutScalingPolicy": self.put_policy,
            "DeleteScalingPolicy": self.delete_policy,
            "DescribeScalingPolicies": self.describe_policies,
            "DescribeScalingActivities": self.describe_activities,
            "ListTagsForResource": self.list_tags,
        }

    def start(self) -> None:
        """Begin to scale; targets of an earlier run, too."""
        self._tracker.start()

    def kill(self) -> None:
        """Scale nothing any more."""
        self._tracker.kill()

    def stop(self) -> None:
        """The same, and wait for the thread."""
        self._tracker.stop()

    # Scalable targets

    def register_target(self, call: Call, request: Request) -> Response:
        """Register a variant, or change what was registered.

        The variant's capacity is brought inside the bounds, when its endpoint is InService.

        Raises:
            ServiceError: ValidationException when there is no such variant, or the bounds are none.
        """
        variant = variant_of(request)
        found = self._state.endpoint(call.scope, variant)
        if found is None:
            # The words are those of AWS for ECS; of a SageMaker endpoint they are not verified.
            raise validation_error(
                f"SageMaker variant doesn't exist: {variant.resource_id} (nothing to scale in {variant.dimension})"
            )
        with self._state.lock:
            before = self._state.targets.get(call.scope, variant.key)
            document = _target(call, variant, request, before)
            self._state.targets.put(call.scope, variant.key, document)
            self._state.link_role(call.scope)
        self._tracker.wake()
        return {"ScalableTargetARN": document["answer"]["ScalableTargetARN"]}

    def deregister_target(self, call: Call, request: Request) -> Response:
        """Scale it no more: its policies go, with their alarms; its capacity stays.

        Raises:
            ServiceError: ObjectNotFoundException when it is not registered.
        """
        variant = variant_of(request)
        with self._state.lock:
            self._state.target(call.scope, variant)
            policies = self._state.policies_of(call.scope, variant)
            self._state.targets.delete(call.scope, variant.key)
            for policy in policies:
                self._state.policies.delete(call.scope, _policy_key(variant, policy["answer"]["PolicyName"]))
        self._delete_alarms(call.scope, policies)
        return {}

    def describe_targets(self, call: Call, request: Request) -> Response:
        check_filters(request)
        ids = request.get("ResourceIds")
        found = [
            document["answer"]
            for document in self._state.targets.values(call.scope)
            if (not ids or document["answer"]["ResourceId"] in ids) and _matches(document["answer"], request)
        ]
        found, more = page(found, request, default=50, position=lambda each: [each["CreationTime"], each["ResourceId"]])
        return {"ScalableTargets": found, **more}

    def list_tags(self, call: Call, request: Request) -> Response:
        """The tags that a scalable target was registered with.

        Raises:
            ServiceError: ResourceNotFoundException when there is no such target.
        """
        for document in self._state.targets.values(call.scope):
            if document["answer"]["ScalableTargetARN"] == request["ResourceARN"]:
                return {"Tags": document["tags"]}
        message = f"The specified resource doesn't exist. ResourceARN: {request['ResourceARN']}"
        raise ServiceError("ResourceNotFoundException", message)

    # Policies

    def put_policy(self, call: Call, request: Request) -> Response:
        """Create or replace a target-tracking policy, with its two alarms in CloudWatch.

        Raises:
            ServiceError: ObjectNotFoundException when the target is not registered; ValidationException for a policy
                that is none, or not built here; FailedResourceAccessException when CloudWatch takes no alarm.
        """
        variant = variant_of(request)
        name = request["PolicyName"]
        self._state.target(call.scope, variant)
        key = _policy_key(variant, name)
        before = self._state.policies.get(call.scope, key)
        configuration = _configuration(request, before, variant)
        answer = {
            "PolicyARN": before["answer"]["PolicyARN"] if before else _policy_arn(call, variant, name),
            "PolicyName": name,
            **variant.members,
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": configuration,
            "CreationTime": before["answer"]["CreationTime"] if before else now(),
        }
        answer["Alarms"] = self._make_alarms(call, variant, answer)
        with self._state.lock:
            registered = self._state.targets.get(call.scope, variant.key) is not None
            if registered:
                self._state.policies.put(call.scope, key, {"answer": answer})
        if not registered:  # not any more: leave no alarm behind
            self._delete_alarms(call.scope, [{"answer": answer}])
            self._state.target(call.scope, variant)
        if before:  # AWS gives the alarms of a changed policy new names
            self._delete_alarms(call.scope, [before])
        self._tracker.wake()
        return {"PolicyARN": answer["PolicyARN"], "Alarms": answer["Alarms"]}

    def delete_policy(self, call: Call, request: Request) -> Response:
        """Delete a policy and its alarms.

        Raises:
            ServiceError: ObjectNotFoundException when there is none.
        """
        variant, name = variant_of(request), request["PolicyName"]
        with self._state.lock:
            policy = self._state.policies.get(call.scope, _policy_key(variant, name))
            if policy is None:
                message = f"No scaling policy found for {variant}, policy name: {name}"
                raise ServiceError("ObjectNotFoundException", message)
            self._state.policies.delete(call.scope, _policy_key(variant, name))
        self._delete_alarms(call.scope, [policy])
        return {}

    def describe_policies(self, call: Call, request: Request) -> Response:
        check_filters(request)
        names = request.get("PolicyNames")
        found = [
            document["answer"]
            for document in self._state.policies.values(call.scope)
            if (not names or document["answer"]["PolicyName"] in names) and _matches(document["answer"], request)
        ]
        found, more = page(
            found,
            request,
            default=50,
            position=lambda each: [each["CreationTime"], each["ResourceId"], each["PolicyName"]],
        )
        return {"ScalingPolicies": found, **more}

    def describe_activities(self, call: Call, request: Request) -> Response:
        """What scaling did, the latest first; of deregistered targets, too."""
        check_filters(request)
        if request.get("IncludeNotScaledActivities"):
            raise validation_error("IncludeNotScaledActivities is not supported by local_aws. Leave it out.")
        found = [
            document["answer"]
            for document in self._state.activities.values(call.scope)
            if _matches(document["answer"], request)
        ]
        found.sort(key=lambda each: [each["StartTime"], each["ActivityId"]], reverse=True)
        found, more = page(found, request, default=50, position=lambda each: [each["StartTime"], each["ActivityId"]])
        return {"ScalingActivities": found, **more}

    def _make_alarms(self, call: Call, variant: Variant, policy: dict[str, Any]) -> list[dict[str, str]]:
        configuration = policy["TargetTrackingScalingPolicyConfiguration"]
        metric = metric_of(configuration, variant.endpoint, variant.name)
        cloudwatch = self._loopback.client("cloudwatch", call.scope)
        alarms: list[dict[str, str]] = []
        for which in (HIGH, LOW):
            name = f"TargetTracking-{variant.resource_id}-{which}-{uuid.uuid4()}"
            request = alarm_request(metric, configuration["TargetValue"], which, name, policy["PolicyARN"])
            try:
                cloudwatch.put_metric_alarm(**request)
            except ClientError as error:
                self._delete_alarms(call.scope, [{"answer": {"Alarms": alarms}}])
                message = f"Failed to create the CloudWatch alarm {name}: {error.response['Error']['Message']}"
                raise ServiceError("FailedResourceAccessException", message) from error
            arn = f"arn:aws:cloudwatch:{call.scope.region}:{call.scope.account}:alarm:{name}"
            alarms.append({"AlarmName": name, "AlarmARN": arn})
        return alarms

    def _delete_alarms(self, scope: Scope, policies: list[Document]) -> None:
        names = [alarm["AlarmName"] for policy in policies for alarm in policy["answer"]["Alarms"]]
        if names:
            self._loopback.client("cloudwatch", scope).delete_alarms(AlarmNames=names)


def _target(call: Call, variant: Variant, request: Request, before: Document | None) -> Document:
    """A target's document, from a request and what was registered before.

    Raises:
        ServiceError: ValidationException for bounds that are none.
    """
    earlier = before["answer"] if before else {}
    bounds: dict[str, int] = {}
    for name in ("MinCapacity", "MaxCapacity"):
        value = request.get(name, earlier.get(name))
        if value is None:
            raise validation_error(f"{name} is missing; a target that is registered for the first time needs it.")
        if value < 1:  # DG/endpoint-auto-scaling-add-policy; 0 is for asynchronous endpoints and inference components
            raise validation_error(f"{name} {value} must be at least 1 for {variant.resource_id}.")
        bounds[name] = value
    if bounds["MaxCapacity"] < bounds["MinCapacity"]:
        raise validation_error("Maximum capacity cannot be less than minimum capacity")
    role = (
        f"arn:aws:iam::{call.scope.account}:role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com/"
        "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
    )
    arn = f"arn:aws:application-autoscaling:{call.scope.region}:{call.scope.account}:scalable-target/"
    answer = (
        variant.members
        | {
            **bounds,
            "RoleARN": role,  # a request's own is not used for SageMaker: there is a service-linked role
            "CreationTime": earlier.get("CreationTime", now()),
            "SuspendedState": earlier.get("SuspendedState", NOT_SUSPENDED) | request.get("SuspendedState", {}),
            "ScalableTargetARN": earlier.get("ScalableTargetARN", arn + uuid.uuid4().hex[:28]),
        }
    )
    if before and request.get("Tags"):
        raise validation_error("Tags can only be given when a target is registered for the first time.")
    tags = before["tags"] if before else request.get("Tags", {})
    return {"answer": answer, "tags": tags, "bounds_changed": True}


def _configuration(request: Request, before: Document | None, variant: Variant) -> dict[str, Any]:
    """A policy's TargetTrackingScalingPolicyConfiguration, checked.

    Raises:
        ServiceError: ValidationException.
    """
    for name in ("StepScalingPolicyConfiguration", "PredictiveScalingPolicyConfiguration"):
        if name in request:
            raise validation_error(
                f"{name} is not supported by local_aws; TargetTrackingScalingPolicyConfiguration is."
            )
    kind = request.get("PolicyType", "TargetTrackingScaling" if before else "StepScaling")  # StepScaling: AWS's default
    if kind != "TargetTrackingScaling":
        raise validation_error(f"PolicyType {kind!r} is not supported by local_aws; TargetTrackingScaling is.")
    configuration = request.get("TargetTrackingScalingPolicyConfiguration")
    if configuration is None:
        raise validation_error("TargetTrackingScalingPolicyConfiguration is missing.")
    predefined = configuration.get("PredefinedMetricSpecification")
    custom = configuration.get("CustomizedMetricSpecification")
    if (predefined is None) == (custom is None):
        raise validation_error(
            "Exactly one of PredefinedMetricSpecification and CustomizedMetricSpecification must be given."
        )
    if not (math.isfinite(configuration["TargetValue"]) and configuration["TargetValue"] > 0):
        raise validation_error(f"TargetValue {configuration['TargetValue']} must be greater than 0.")
    for name in ("ScaleInCooldown", "ScaleOutCooldown"):
        if configuration.get(name, 0) < 0:
            raise validation_error(f"{name} {configuration[name]} must not be negative.")
    if predefined is not None:
        _check_predefined(predefined, variant)
    else:
        _check_customized(custom)
    return {"ScaleOutCooldown": 300, "ScaleInCooldown": 300, "DisableScaleIn": False} | configuration


def _check_predefined(specification: dict[str, Any], variant: Variant) -> None:
    kind = specification["PredefinedMetricType"]
    if kind not in PREDEFINED:
        raise validation_error(
            f"PredefinedMetricType {kind!r} is not supported by local_aws; {' and '.join(PREDEFINED)} are."
        )
    dimension = PREDEFINED[kind][2]
    if dimension != variant.dimension:
        noun = NOUNS[dimension]
        raise validation_error(f"PredefinedMetricType {kind!r} scales a variant's {noun}, not {variant.dimension}.")
    if "ResourceLabel" in specification:
        raise validation_error(f"ResourceLabel can't be specified for PredefinedMetricType {kind!r}.")


def _check_customized(specification: dict[str, Any]) -> None:
    if "Metrics" in specification:
        raise validation_error("CustomizedMetricSpecification: Metrics (metric math) is not supported by local_aws.")
    for name in ("MetricName", "Namespace", "Statistic"):
        if name not in specification:
            raise validation_error(f"CustomizedMetricSpecification: {name} is missing.")


def _matches(answer: dict[str, Any], request: Request) -> bool:
    return all(answer[name] == request[name] for name in ("ResourceId", "ScalableDimension") if name in request)


def _policy_key(variant: Variant, name: str) -> str:
    return f"{variant.key}|{name}"


def _policy_arn(call: Call, variant: Variant, name: str) -> str:
    return (
        f"arn:aws:autoscaling:{call.scope.region}:{call.scope.account}:scalingPolicy:{uuid.uuid4()}"
        f":resource/sagemaker/{variant.resource_id}:policyName/{name}"
    )
