"""Application Auto Scaling: its API, and capacities that really change."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws import LocalAWS
from local_aws.autoscaling.service import AutoScaling
from local_aws.calls import Call, ServiceError
from local_aws.clock import Clock
from local_aws.store import Scope, Store
from tests.local_aws.job_requests import Workshop
from tests.local_aws.model_archives import make_model
from tests.local_aws.test_processing_jobs import refusal
from tests.local_aws.waiting import wait_for

SCOPE = Scope("123456789012", "us-east-1")
RESOURCE = "endpoint/churn-prod/variant/AllTraffic"
INSTANCES = "sagemaker:variant:DesiredInstanceCount"
CONCURRENCY = "sagemaker:variant:DesiredProvisionedConcurrency"
TARGET = {"ServiceNamespace": "sagemaker", "ResourceId": RESOURCE, "ScalableDimension": INSTANCES}
LOAD = {
    "Namespace": "Test",
    "MetricName": "Load",
    "Dimensions": [{"Name": "Endpoint", "Value": "churn-prod"}],
    "Statistic": "Sum",
}


def policy(target: float = 10.0, **members: Any) -> dict[str, Any]:
    """A policy on LOAD without cooldowns."""
    configuration = {
        "TargetValue": target,
        "CustomizedMetricSpecification": LOAD,
        "ScaleOutCooldown": 0,
        "ScaleInCooldown": 0,
        **members,
    }
    return TARGET | {
        "PolicyName": "load",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": configuration,
    }


class Aws:
    """Stands for SageMaker and CloudWatch: one endpoint whose counts and status the test sees and sets, one metric."""

    def __init__(self) -> None:
        self.status = "InService"
        self.variant: dict[str, Any] | None = {"CurrentInstanceCount": 1, "DesiredInstanceCount": 1}
        self.value: float | None = None  # of every minute
        self.updating = "InService"  # the status that follows a change
        self.alarms: dict[str, dict[str, Any]] = {}
        self.refused: str | None = None  # why SageMaker or CloudWatch refuse a change
        self.reads = 0

    def client(self, service: str, scope: Scope) -> Aws:
        assert scope == SCOPE
        return self

    def describe_endpoint(self, EndpointName: str) -> dict[str, Any]:
        if self.variant is None:
            raise ClientError({"Error": {"Code": "ValidationException", "Message": "Could not find"}}, "Describe")
        variants = [{"VariantName": "AllTraffic", **self.variant}]
        return {"EndpointStatus": self.status, "ProductionVariants": variants}

    def update_endpoint_weights_and_capacities(self, EndpointName: str, DesiredWeightsAndCapacities: list) -> None:
        self._refuse("Update")
        self.status = self.updating
        (wanted,) = DesiredWeightsAndCapacities
        assert wanted.pop("VariantName") == "AllTraffic"
        assert self.variant is not None
        if "ServerlessUpdateConfig" in wanted:
            self.variant["DesiredServerlessConfig"] = wanted["ServerlessUpdateConfig"]
        else:
            self.variant |= wanted

    def get_metric_statistics(self, Statistics: list[str], **request: Any) -> dict[str, Any]:
        self.reads += 1
        return {"Datapoints": [] if self.value is None else [{Statistics[0]: self.value}]}

    def put_metric_alarm(self, AlarmName: str, **request: Any) -> None:
        self._refuse("PutMetricAlarm")
        self.alarms[AlarmName] = request

    def delete_alarms(self, AlarmNames: list[str]) -> None:
        for name in AlarmNames:
            del self.alarms[name]

    def _refuse(self, operation: str) -> None:
        if self.refused:
            raise ClientError({"Error": {"Code": "ValidationException", "Message": self.refused}}, operation)

    @property
    def count(self) -> int:
        assert self.variant is not None
        return self.variant["DesiredInstanceCount"]


class Scaling:
    """The service on the stand-ins, a minute of AWS's in 10 ms."""

    def __init__(self, aws: Aws, store: Store | None = None) -> None:
        self.aws, self.store = aws, store or Store()
        self.clock = Clock(6000)
        self.service = AutoScaling(self.store, aws, self.clock)  # type: ignore[arg-type]
        self.service.start()

    def __call__(self, operation: str, **request: Any) -> dict[str, Any]:
        return self.service.answer(operation, Call(SCOPE, "x"), json.dumps(request).encode())

    def register(self, **members: Any) -> str:
        return self("RegisterScalableTarget", **TARGET, **({"MinCapacity": 1, "MaxCapacity": 8} | members))[
            "ScalableTargetARN"
        ]

    def activities(self) -> list[dict[str, Any]]:
        return self("DescribeScalingActivities", ServiceNamespace="sagemaker")["ScalingActivities"]

    def minutes(self, count: int) -> None:
        """Let minutes pass in which the metrics are read."""
        reads = self.aws.reads
        wait_for(lambda: self.aws.reads >= reads + count)


@pytest.fixture
def aws_stub() -> Aws:
    return Aws()


@pytest.fixture
def scaling(aws_stub: Aws) -> Iterator[Scaling]:
    scaling = Scaling(aws_stub)
    yield scaling
    scaling.service.stop()


# Capacities


def test_a_count_outside_of_the_registered_bounds_is_brought_inside(scaling, aws_stub):
    scaling.register(MinCapacity=3)
    wait_for(lambda: aws_stub.count == 3)
    (activity,) = wait_for(lambda: [each for each in scaling.activities() if each["StatusCode"] == "Successful"])
    assert activity["Cause"] == "minimum capacity was set to 3"
    assert activity["Description"] == "Setting desired instance count to 3."
    assert activity["StatusMessage"] == (
        "Successfully set desired instance count to 3. Change successfully fulfilled by sagemaker."
    )
    scaling("RegisterScalableTarget", **TARGET, MinCapacity=1, MaxCapacity=2)
    wait_for(lambda: aws_stub.count == 2)


def test_load_above_the_target_adds_instances_and_load_below_it_removes_them(scaling, aws_stub):
    scaling.register()
    aws_stub.value, aws_stub.updating = 30.0, "Updating"
    alarms = {each["AlarmName"] for each in scaling("PutScalingPolicy", **policy())["Alarms"]}
    wait_for(lambda: aws_stub.count == 3)
    aws_stub.value = None
    scaling.minutes(3)
    assert [each["StatusCode"] for each in scaling.activities()] == ["InProgress"]
    aws_stub.status = "InService"
    wait_for(lambda: scaling.activities()[0]["StatusCode"] == "Successful")
    cause = scaling.activities()[0]["Cause"]
    assert cause.endswith(" in state ALARM triggered policy load")
    assert cause.removeprefix("monitor alarm ").partition(" ")[0] in alarms
    aws_stub.value = 3.0
    wait_for(lambda: aws_stub.count == 1)


def test_without_any_invocation_nothing_is_removed(scaling, aws_stub):
    """AWS: no metric is sent for no traffic, so a variant that nobody asks keeps its instances."""
    aws_stub.variant = {"DesiredInstanceCount": 5}
    scaling.register()
    scaling("PutScalingPolicy", **policy())
    scaling.minutes(40)
    assert aws_stub.count == 5
    assert scaling.activities() == []


@pytest.mark.parametrize("status", ["Updating", "RollingBack", "Creating", "Failed"])
def test_scaling_pauses_while_the_endpoint_is_not_in_service(scaling, aws_stub, status):
    scaling.register()
    aws_stub.status, aws_stub.value = status, 50.0
    scaling("PutScalingPolicy", **policy())
    scaling.minutes(25)
    assert aws_stub.count == 1
    aws_stub.status = "InService"
    wait_for(lambda: aws_stub.count > 1)


@pytest.mark.parametrize(
    ("suspended", "value"), [("DynamicScalingOutSuspended", 50.0), ("DynamicScalingInSuspended", 1.0)]
)
def test_a_suspended_direction_is_not_scaled_in_until_it_is_resumed(scaling, aws_stub, suspended, value):
    aws_stub.variant, aws_stub.value = {"DesiredInstanceCount": 4}, value
    scaling.register(SuspendedState={suspended: True})
    scaling("PutScalingPolicy", **policy())
    scaling.minutes(25)
    assert aws_stub.count == 4
    scaling("RegisterScalableTarget", **TARGET, SuspendedState={suspended: False})
    wait_for(lambda: aws_stub.count == (8 if value > 10 else 1))


def test_a_cooldown_begins_when_a_change_is_fulfilled(scaling, aws_stub):
    scaling.register()
    aws_stub.value = 20.0
    scaling("PutScalingPolicy", **policy(ScaleOutCooldown=10**9))
    wait_for(lambda: aws_stub.count == 2)
    wait_for(lambda: scaling.activities()[0]["StatusCode"] == "Successful")
    scaling.minutes(10)
    assert aws_stub.count == 2  # twice the target was asked of one instance, and is the reason for the second
    scaling.clock.advance(10**9)
    wait_for(lambda: aws_stub.count == 4)


def test_what_sagemaker_refuses_is_a_failed_activity(scaling, aws_stub):
    scaling.register()
    scaling("PutScalingPolicy", **policy())
    aws_stub.refused = "the account-level service limit was exceeded"
    aws_stub.value = 20.0
    activity = wait_for(scaling.activities)[-1]
    assert activity["StatusCode"] == "Failed"
    assert activity["StatusMessage"] == (
        "Failed to set desired instance count to 2. Reason: the account-level service limit was exceeded"
    )


def test_a_change_that_somebody_else_overrode_says_so(scaling, aws_stub):
    scaling.register()
    scaling("PutScalingPolicy", **policy())
    aws_stub.value, aws_stub.updating = 20.0, "Updating"
    wait_for(lambda: aws_stub.count == 2)
    aws_stub.variant, aws_stub.status = {"DesiredInstanceCount": 6}, "InService"
    wait_for(lambda: scaling.activities()[-1]["StatusCode"] == "Overridden")


def test_provisioned_concurrency_is_scaled_by_its_utilization(scaling, aws_stub):
    aws_stub.variant = {"CurrentServerlessConfig": {"MemorySizeInMB": 2048, "ProvisionedConcurrency": 2}}
    target = TARGET | {"ScalableDimension": CONCURRENCY}
    scaling("RegisterScalableTarget", **target, MinCapacity=1, MaxCapacity=10)
    predefined = {"PredefinedMetricType": "SageMakerVariantProvisionedConcurrencyUtilization"}
    configuration = {"TargetValue": 0.7, "PredefinedMetricSpecification": predefined}
    request = policy() | target | {"TargetTrackingScalingPolicyConfiguration": configuration}
    aws_stub.value, aws_stub.updating = 1.0, "Updating"
    scaling("PutScalingPolicy", **request)
    wait_for(lambda: (aws_stub.variant or {}).get("DesiredServerlessConfig") == {"ProvisionedConcurrency": 3})
    (low, _) = sorted(aws_stub.alarms.values(), key=lambda each: each["Threshold"])
    assert low["MetricName"] == "ServerlessProvisionedConcurrencyUtilization"
    assert low["Threshold"] == pytest.approx(0.63)


def test_after_a_restart_targets_are_scaled_on_and_what_was_under_way_is_seen_to_its_end(tmp_path: Path, aws_stub: Aws):
    first = Scaling(aws_stub, Store(tmp_path / "state"))
    arn = first.register()
    first("PutScalingPolicy", **policy())
    aws_stub.value, aws_stub.updating = 20.0, "Updating"
    wait_for(lambda: aws_stub.count == 2)
    first.service.stop()
    first.store.close()

    second = Scaling(aws_stub, Store(tmp_path / "state"))
    try:
        (target,) = second("DescribeScalableTargets", ServiceNamespace="sagemaker")["ScalableTargets"]
        assert target["ScalableTargetARN"] == arn
        aws_stub.status = "InService"
        wait_for(lambda: second.activities()[-1]["StatusCode"] == "Successful")
        wait_for(lambda: aws_stub.count > 2)
    finally:
        second.service.stop()
        second.store.close()


# The API


def test_a_target_is_described_and_a_part_of_it_can_be_changed(scaling):
    arn = scaling.register(Tags={"modelyard:stage": "prod"})
    assert scaling.register(MaxCapacity=5) == arn
    scaling("RegisterScalableTarget", **TARGET, SuspendedState={"ScheduledScalingSuspended": True})
    (target,) = scaling("DescribeScalableTargets", ServiceNamespace="sagemaker", ResourceIds=[RESOURCE])[
        "ScalableTargets"
    ]
    assert target.pop("CreationTime") <= time.time()
    assert target == TARGET | {
        "MinCapacity": 1,
        "MaxCapacity": 5,
        "RoleARN": "arn:aws:iam::123456789012:role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com/"
        "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint",
        "SuspendedState": {
            "DynamicScalingInSuspended": False,
            "DynamicScalingOutSuspended": False,
            "ScheduledScalingSuspended": True,
        },
        "ScalableTargetARN": arn,
    }
    assert scaling("ListTagsForResource", ResourceARN=arn) == {"Tags": {"modelyard:stage": "prod"}}


def test_a_policy_has_two_alarms_which_change_with_it_and_go_with_it(scaling, aws_stub):
    scaling.register()
    first = scaling("PutScalingPolicy", **policy())
    assert set(aws_stub.alarms) == {each["AlarmName"] for each in first["Alarms"]}
    high, low = (aws_stub.alarms[each["AlarmName"]] for each in first["Alarms"])
    assert (high["ComparisonOperator"], high["Threshold"], high["EvaluationPeriods"]) == ("GreaterThanThreshold", 10, 3)
    assert (low["ComparisonOperator"], low["Threshold"], low["EvaluationPeriods"]) == ("LessThanThreshold", 9, 15)
    second = scaling("PutScalingPolicy", **policy(target=20))
    assert second["PolicyARN"] == first["PolicyARN"]
    assert set(aws_stub.alarms) == {each["AlarmName"] for each in second["Alarms"]}
    (described,) = scaling("DescribeScalingPolicies", ServiceNamespace="sagemaker", ResourceId=RESOURCE)[
        "ScalingPolicies"
    ]
    assert described["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 20
    assert described["Alarms"] == second["Alarms"]
    scaling("DeleteScalingPolicy", **TARGET, PolicyName="load")
    assert aws_stub.alarms == {}


def test_deregistering_takes_policies_and_alarms_along_and_leaves_the_count(scaling, aws_stub):
    aws_stub.variant = {"DesiredInstanceCount": 4}
    scaling.register()
    scaling("PutScalingPolicy", **policy())
    scaling("DeregisterScalableTarget", **TARGET)
    assert aws_stub.alarms == {}
    assert scaling("DescribeScalableTargets", ServiceNamespace="sagemaker") == {"ScalableTargets": []}
    assert scaling("DescribeScalingPolicies", ServiceNamespace="sagemaker") == {"ScalingPolicies": []}
    assert aws_stub.count == 4


def test_when_cloudwatch_takes_no_alarm_there_is_no_policy(scaling, aws_stub):
    scaling.register()
    aws_stub.refused = "The maximum number of alarms is reached"
    with pytest.raises(ServiceError, match=r"FailedResourceAccessException: .*The maximum number of alarms is reached"):
        scaling("PutScalingPolicy", **policy())
    assert scaling("DescribeScalingPolicies", ServiceNamespace="sagemaker") == {"ScalingPolicies": []}


PREDEFINED: dict[str, Any] = {
    "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
}


@pytest.mark.parametrize(
    ("operation", "request_", "message"),
    [
        (
            "RegisterScalableTarget",
            TARGET | {"ResourceId": "endpoint/churn-prod/variant/Other", "MinCapacity": 1, "MaxCapacity": 2},
            "ValidationException: SageMaker variant doesn't exist: endpoint/churn-prod/variant/Other",
        ),
        (
            "RegisterScalableTarget",
            TARGET | {"ScalableDimension": CONCURRENCY, "MinCapacity": 1, "MaxCapacity": 2},
            "ValidationException: SageMaker variant doesn't exist: .*nothing to scale in .*ProvisionedConcurrency",
        ),
        (
            "RegisterScalableTarget",
            TARGET | {"ResourceId": "inference-component/x"},
            "ValidationException: Unsupported service namespace, resource type or scalable dimension",
        ),
        (
            "RegisterScalableTarget",
            TARGET | {"ServiceNamespace": "ecs"},
            "ValidationException: ServiceNamespace 'ecs' is not supported by local_aws",
        ),
        ("RegisterScalableTarget", TARGET | {"MinCapacity": 1}, "ValidationException: MaxCapacity is missing"),
        (
            "RegisterScalableTarget",
            TARGET | {"MinCapacity": 0, "MaxCapacity": 2},
            "ValidationException: MinCapacity 0 must be at least 1",
        ),
        (
            "RegisterScalableTarget",
            TARGET | {"MinCapacity": 3, "MaxCapacity": 2},
            "ValidationException: Maximum capacity cannot be less than minimum capacity",
        ),
        (
            "DeregisterScalableTarget",
            TARGET | {"ResourceId": "endpoint/other/variant/x"},
            "ObjectNotFoundException: No scalable target found for service namespace: sagemaker, resource ID:"
            " endpoint/other/variant/x, scalable dimension: sagemaker:variant:DesiredInstanceCount",
        ),
        (
            "PutScalingPolicy",
            policy() | {"ResourceId": "endpoint/other/variant/x"},
            "ObjectNotFoundException: No scalable target found",
        ),
        (
            "DeleteScalingPolicy",
            TARGET | {"PolicyName": "other"},
            "ObjectNotFoundException: No scaling policy found for service namespace: sagemaker, .*, policy name: other",
        ),
        (
            "PutScalingPolicy",
            policy() | {"PolicyType": "StepScaling"},
            "ValidationException: PolicyType 'StepScaling' is not supported by local_aws",
        ),
        (
            "PutScalingPolicy",
            {key: value for key, value in policy().items() if key != "PolicyType"},
            "ValidationException: PolicyType 'StepScaling' is not supported by local_aws",
        ),
        (
            "PutScalingPolicy",
            policy() | {"StepScalingPolicyConfiguration": {"AdjustmentType": "ChangeInCapacity"}},
            "ValidationException: StepScalingPolicyConfiguration is not supported by local_aws",
        ),
        ("PutScalingPolicy", policy(target=0), "ValidationException: TargetValue 0 must be greater than 0"),
        ("PutScalingPolicy", policy(**PREDEFINED), "ValidationException: Exactly one of PredefinedMetricSpecification"),
        (
            "PutScalingPolicy",
            policy(CustomizedMetricSpecification={"MetricName": "Load", "Namespace": "Test"}),
            "ValidationException: CustomizedMetricSpecification: Statistic is missing",
        ),
        (
            "PutScalingPolicy",
            policy(CustomizedMetricSpecification={"Metrics": [{"Id": "a"}]}),
            r"ValidationException: CustomizedMetricSpecification: Metrics \(metric math\) is not supported",
        ),
        (
            "PutScalingPolicy",
            policy(
                CustomizedMetricSpecification=None,
                PredefinedMetricSpecification={"PredefinedMetricType": "ECSServiceAverageCPUUtilization"},
            ),
            "ValidationException: PredefinedMetricType 'ECSServiceAverageCPUUtilization' is not supported",
        ),
        (
            "PutScalingPolicy",
            policy(
                CustomizedMetricSpecification=None,
                PredefinedMetricSpecification={
                    "PredefinedMetricType": "SageMakerVariantProvisionedConcurrencyUtilization"
                },
            ),
            "ValidationException: PredefinedMetricType .* scales a variant's provisioned concurrency",
        ),
        (
            "PutScalingPolicy",
            policy(ScaleInCooldown=-1),
            "ValidationException: ScaleInCooldown -1 must not be negative",
        ),
        (
            "DescribeScalingActivities",
            {"ServiceNamespace": "sagemaker", "IncludeNotScaledActivities": True},
            "ValidationException: IncludeNotScaledActivities is not supported",
        ),
        (
            "DescribeScalableTargets",
            {"ServiceNamespace": "sagemaker", "ScalableDimension": INSTANCES},
            "ValidationException: ScalableDimension can only be given together with a resource ID",
        ),
        ("PutScheduledAction", {}, "NotImplementedException: local_aws does not build application-autoscaling:"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(scaling, operation, request_, message):
    if operation == "PutScalingPolicy":
        scaling.register()
    with pytest.raises(ServiceError, match=message):
        scaling(operation, **request_)


# On a server, with an endpoint that is really asked


@pytest.fixture(scope="module")
def fast() -> Iterator[Workshop]:
    with LocalAWS(clock_speed=240) as aws:
        yield Workshop(aws)


def make_endpoint(workshop: Workshop) -> str:
    model = make_model(workshop)
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": model,
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
    }
    workshop.sagemaker.create_endpoint_config(EndpointConfigName=model, ProductionVariants=[variant])
    workshop.sagemaker.create_endpoint(EndpointName=model, EndpointConfigName=model)
    wait_for(lambda: workshop.sagemaker.describe_endpoint(EndpointName=model)["EndpointStatus"] == "InService")
    return model


def counts(workshop: Workshop, endpoint: str) -> tuple[str, int]:
    described = workshop.sagemaker.describe_endpoint(EndpointName=endpoint)
    return described["EndpointStatus"], described["ProductionVariants"][0]["CurrentInstanceCount"]


def test_invocations_add_instances_and_fewer_remove_them_without_a_failed_request(fast):
    endpoint = make_endpoint(fast)
    client = fast.aws.client("application-autoscaling")
    target = TARGET | {"ResourceId": f"endpoint/{endpoint}/variant/AllTraffic"}
    client.register_scalable_target(**target, MinCapacity=1, MaxCapacity=2)
    configuration = {"TargetValue": 8.0, "ScaleInCooldown": 0, **PREDEFINED}
    alarms = client.put_scaling_policy(
        **target,
        PolicyName="invocations",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=configuration,
    )["Alarms"]
    cloudwatch = fast.aws.client("cloudwatch")
    names = [each["AlarmName"] for each in alarms]
    assert {each["AlarmArn"] for each in cloudwatch.describe_alarms(AlarmNames=names)["MetricAlarms"]} == {
        each["AlarmARN"] for each in alarms
    }
    # A minute takes 0.25 s: as many requests as three clients can send, and then two or three a minute.
    many, few, faults = threading.Event(), threading.Event(), []

    def ask(stop: threading.Event, pause: float) -> None:
        runtime = fast.aws.client("sagemaker-runtime")
        while not stop.wait(pause):
            try:
                runtime.invoke_endpoint(EndpointName=endpoint, ContentType="text/csv", Accept="text/csv", Body=b"1\n")
            except ClientError as error:
                faults.append(error)

    asking = [
        threading.Thread(target=ask, args=arguments) for arguments in ((many, 0), (many, 0), (many, 0), (few, 0.1))
    ]
    for thread in asking:
        thread.start()
    try:
        wait_for(lambda: counts(fast, endpoint) == ("InService", 2), 60)
        many.set()
        wait_for(lambda: counts(fast, endpoint) == ("InService", 1), 60)
    finally:
        many.set()
        few.set()
        for thread in asking:
            thread.join()
    assert faults == []
    activities = client.describe_scaling_activities(ServiceNamespace="sagemaker", ResourceId=target["ResourceId"])
    assert [each["Description"] for each in activities["ScalingActivities"]] == [
        "Setting desired instance count to 1.",
        "Setting desired instance count to 2.",
    ]


def test_deleting_an_endpoint_deregisters_its_scalable_targets_with_their_alarms(fast):
    endpoint = make_endpoint(fast)
    client = fast.aws.client("application-autoscaling")
    target = TARGET | {"ResourceId": f"endpoint/{endpoint}/variant/AllTraffic"}
    client.register_scalable_target(**target, MinCapacity=1, MaxCapacity=2)
    request = policy() | target
    client.put_scaling_policy(**request)
    fast.sagemaker.delete_endpoint(EndpointName=endpoint)

    def registered() -> list[dict[str, Any]]:
        answer = client.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[target["ResourceId"]])
        return answer["ScalableTargets"]

    wait_for(lambda: registered() == [])
    prefix = f"TargetTracking-endpoint/{endpoint}/"
    assert fast.aws.client("cloudwatch").describe_alarms(AlarmNamePrefix=prefix)["MetricAlarms"] == []
    code, message = refusal(client.deregister_scalable_target, **target)
    assert (code, message.partition(":")[0]) == (
        "ObjectNotFoundException",
        "No scalable target found for service namespace",
    )
