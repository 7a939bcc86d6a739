"""Endpoints' states: what is told, allowed and refused in each, what serves meanwhile, and what is gone back from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from local_aws.calls import ServiceError
from tests.local_aws.endpoint_fakes import CALL, FakeHosting, Stand
from tests.local_aws.waiting import wait_for

CANARY: dict[str, Any] = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {
            "Type": "CANARY",
            "WaitIntervalInSeconds": 600,
            "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 50},
        },
        "TerminationWaitInSeconds": 300,
        "MaximumExecutionTimeoutInSeconds": 3600,
    },
    "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}, {"AlarmName": "latency"}]},
}
SERVERLESS = {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5}}


@pytest.fixture
def stand() -> Iterator[Stand]:
    stand = Stand()
    yield stand
    stand.close()


@pytest.fixture
def serving(stand: Stand) -> Stand:
    """Endpoint churn in service with configuration churn-1, configuration churn-2 to change to, and its alarms."""
    stand.in_service()
    stand.config("churn-2")
    stand.aws.alarms |= {"errors": "INSUFFICIENT_DATA", "latency": "OK"}
    return stand


def update(stand: Stand, config: str = "churn-2", **members: Any) -> None:
    stand.call("UpdateEndpoint", EndpointName="churn", EndpointConfigName=config, **members)


# Creation


def test_a_new_endpoint_is_creating_until_its_container_answers_and_aws_s_time_has_passed(stand):
    stand.hosting.ready = False
    stand.config("churn-1")
    arn = stand.call("CreateEndpoint", EndpointName="Churn", EndpointConfigName="churn-1")["EndpointArn"]

    assert arn == "arn:aws:sagemaker:us-east-1:123456789012:endpoint/churn"
    created = stand.describe()
    assert created["EndpointStatus"] == "Creating"
    assert "ProductionVariants" not in created
    assert created["PendingDeploymentSummary"]["EndpointConfigName"] == "churn-1"
    stand.stage("Creating")
    assert not stand.hosting.routes
    stand.passes(120)
    assert stand.describe()["EndpointStatus"] == "Creating"
    stand.hosting.fleet("churn-1").succeed()
    described = stand.wait("churn", "InService")

    assert described["EndpointConfigName"] == "churn-1"
    assert "PendingDeploymentSummary" not in described
    (variant,) = described["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"], variant["CurrentWeight"]) == (2, 2, 1.0)
    assert stand.hosting.shares("Churn") == {"AllTraffic": {"churn-1": 1.0}}


def test_the_container_starts_while_the_endpoint_is_creating_not_after(stand):
    stand.config("churn-1")
    stand.call("CreateEndpoint", EndpointName="churn", EndpointConfigName="churn-1")

    wait_for(lambda: len(stand.hosting.fleets) == 1)
    assert stand.describe()["EndpointStatus"] == "Creating"
    spec = stand.hosting.fleets[0].spec
    assert (spec.endpoint, spec.config, spec.variant, spec.instances) == ("churn", "churn-1", "AllTraffic", 2)
    assert spec.container.model_data_url == "s3://bucket/churn-1.tar.gz"


def test_network_isolation_and_the_time_to_start_are_the_container_s(stand):
    stand.model("isolated", EnableNetworkIsolation=True)
    variant = {"VariantName": "v", "ModelName": "isolated", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    patient = variant | {"ContainerStartupHealthCheckTimeoutInSeconds": 900}
    stand.call("CreateEndpointConfig", EndpointConfigName="churn-1", ProductionVariants=[patient])
    stand.call("CreateEndpoint", EndpointName="churn", EndpointConfigName="churn-1")

    wait_for(lambda: len(stand.hosting.fleets) == 1)
    spec = stand.hosting.fleets[0].spec
    assert spec.container.network_isolation
    assert spec.startup_seconds == 900


def test_an_endpoint_whose_container_does_not_run_has_failed_and_says_why(stand):
    stand.hosting.ready = False
    stand.config("churn-1")
    stand.call("CreateEndpoint", EndpointName="churn", EndpointConfigName="churn-1")
    wait_for(lambda: len(stand.hosting.fleets) == 1)
    stand.hosting.fleets[0].fail("The primary container did not pass the ping health check.")

    described = stand.wait("churn", "Failed")

    assert described["FailureReason"] == "The primary container did not pass the ping health check."
    assert not stand.hosting.running
    assert not stand.hosting.routes
    assert "DeleteEndpoint is the only" in stand.refused(
        "UpdateEndpoint", EndpointName="churn", EndpointConfigName="churn-1"
    )
    stand.call("DeleteEndpoint", EndpointName="churn")
    wait_for(lambda: stand.describe()["EndpointStatus"] == "Deleting")


def test_names_differ_by_more_than_case(serving):
    assert serving.refused("CreateEndpoint", EndpointName="CHURN", EndpointConfigName="churn-2") == (
        'ValidationException: Cannot create already existing endpoint "arn:aws:sagemaker:us-east-1:123456789012'
        ':endpoint/churn".'
    )


def test_what_is_not_there_is_said_in_aws_s_words(stand):
    arn = "arn:aws:sagemaker:us-east-1:123456789012:"
    for operation in ("DescribeEndpoint", "DeleteEndpoint"):
        assert stand.refused(operation, EndpointName="Other") == (
            f'ValidationException: Could not find endpoint "{arn}endpoint/other".'
        )
    assert stand.refused("CreateEndpoint", EndpointName="churn", EndpointConfigName="Other") == (
        f'ValidationException: Could not find endpoint configuration "{arn}endpoint-config/other".'
    )
    stand.config("churn-1")
    stand.call("DeleteModel", ModelName="churn-1")
    assert stand.refused("CreateEndpoint", EndpointName="churn", EndpointConfigName="churn-1") == (
        f'ValidationException: Could not find model "{arn}model/churn-1".'
    )


def test_instances_beyond_the_quota_are_refused_until_it_is_raised(stand):
    stand.config("churn-1", {"AllTraffic": {"InstanceType": "ml.m5.large", "InitialInstanceCount": 5}})
    create = {"EndpointName": "churn", "EndpointConfigName": "churn-1"}

    assert stand.refused("CreateEndpoint", **create).startswith("ResourceLimitExceeded: ")
    stand.endpoints.quotas.configure({"instances_per_endpoint": 5})
    stand.call("CreateEndpoint", **create)


# Updates


def test_an_update_without_a_deployment_configuration_shifts_everything_once_the_new_fleet_answers(serving):
    serving.hosting.ready = False
    update(serving)

    assert serving.stage("Creating") == "Creating the new fleet."
    serving.passes(120)
    assert serving.hosting.shares("churn") == {"AllTraffic": {"churn-1": 1.0}}
    serving.hosting.fleet("churn-2").succeed()
    serving.stage("ActivatingTraffic")
    assert serving.hosting.shares("churn") == {"AllTraffic": {"churn-2": 1.0}}
    assert serving.describe()["EndpointConfigName"] == "churn-1"  # until it is done
    serving.passes(10)
    serving.stage("Deleting")
    wait_for(lambda: serving.hosting.running == ["churn-2"])
    serving.passes(20)

    described = serving.wait("churn", "InService")
    assert described["EndpointConfigName"] == "churn-2"
    assert "PendingDeploymentSummary" not in described
    assert not serving.hosting.routes["churn"].deploying


def test_a_canary_takes_its_share_bakes_and_then_takes_the_rest(serving):
    update(serving, DeploymentConfig=CANARY)
    serving.stage("Creating")
    serving.passes(120)

    serving.stage("ActivatingTraffic")
    assert serving.hosting.shares("churn") == {"AllTraffic": {"churn-1": 0.5, "churn-2": 0.5}}
    assert serving.hosting.routes["churn"].deploying
    serving.passes(10)
    message = serving.stage("Baking")
    assert message == "Baking for 600 seconds (WaitIntervalInSeconds) with traffic enabled on canary capacity of 1" + (
        " instance(s)."
    )
    pending = serving.describe()["PendingDeploymentSummary"]["ProductionVariants"][0]
    assert (pending["CurrentInstanceCount"], pending["DesiredInstanceCount"]) == (1, 2)
    assert pending["InstanceType"] == "ml.m5.large"
    serving.passes(600)
    serving.stage("ActivatingTraffic")
    assert serving.hosting.shares("churn") == {"AllTraffic": {"churn-2": 1.0}}
    serving.passes(10)
    assert "(TerminationWaitInSeconds)" in serving.stage("Baking")
    assert serving.hosting.running == ["churn-1", "churn-2"]  # the old fleet is there to go back to
    serving.passes(300)
    serving.stage("Deleting")
    serving.passes(20)

    described = serving.wait("churn", "InService")
    assert described["EndpointConfigName"] == "churn-2"
    assert described["LastDeploymentConfig"] == CANARY


def at(stand: Stand, stage: str) -> None:
    """Let a canary deployment come to one of its stages."""
    stand.stage("Creating")
    if stage == "Creating":
        return
    stand.passes(120)
    stand.stage("ActivatingTraffic")
    stand.passes(10)
    stand.stage("Baking")
    if stage == "canary":
        return
    stand.passes(600)
    stand.stage("ActivatingTraffic")
    stand.passes(10)
    stand.stage("Baking")


@pytest.mark.parametrize("stage", ["Creating", "canary", "termination wait"])
def test_an_alarm_at_any_time_of_a_deployment_brings_back_what_served(serving, stage):
    update(serving, DeploymentConfig=CANARY)
    at(serving, stage)

    serving.alarm("errors", "ALARM")

    serving.wait("churn", "RollingBack")
    assert serving.hosting.shares("churn") == {"AllTraffic": {"churn-1": 1.0}}
    serving.stage("Deleting")
    wait_for(lambda: serving.hosting.running == ["churn-1"])
    serving.passes(30)
    described = serving.wait("churn", "InService")
    assert described["EndpointConfigName"] == "churn-1"  # InService says nothing about which one it is
    assert described["FailureReason"] == "The deployment was rolled back: alarm(s) errors in state ALARM."
    assert "PendingDeploymentSummary" not in described
    update(serving)  # the same configuration can be tried again
    assert "FailureReason" not in serving.describe()


def test_an_alarm_that_is_in_alarm_already_rolls_back_at_once(serving):
    serving.aws.alarms["latency"] = "ALARM"
    update(serving, DeploymentConfig=CANARY)

    serving.wait("churn", "RollingBack")
    assert all("churn-2" not in shares for shares in serving.hosting.shares("churn").values())


def test_alarms_for_roll_backs_must_be_there(serving):
    del serving.aws.alarms["errors"]

    message = serving.refused(
        "UpdateEndpoint", EndpointName="churn", EndpointConfigName="churn-2", DeploymentConfig=CANARY
    )

    assert "could not find CloudWatch alarm(s) errors" in message
    assert serving.describe()["EndpointStatus"] == "InService"


def test_a_new_fleet_that_does_not_run_is_rolled_back_and_says_why(serving):
    serving.hosting.ready = False
    update(serving)
    serving.stage("Creating")
    serving.hosting.fleet("churn-2").fail("The primary container did not pass the ping health check.")
    serving.passes(0)
    serving.wait("churn", "RollingBack")
    serving.passes(30)

    described = serving.wait("churn", "InService")
    assert described["EndpointConfigName"] == "churn-1"
    assert described["FailureReason"] == "The primary container did not pass the ping health check."
    assert serving.hosting.running == ["churn-1"]


def test_a_deployment_that_takes_too_long_is_rolled_back(serving):
    policy = CANARY["BlueGreenUpdatePolicy"] | {"MaximumExecutionTimeoutInSeconds": 600}
    update(serving, DeploymentConfig=CANARY | {"BlueGreenUpdatePolicy": policy})
    at(serving, "canary")
    serving.passes(600)

    serving.wait("churn", "RollingBack")
    serving.passes(30)
    assert "longer than 600 seconds" in serving.wait("churn", "InService")["FailureReason"]


def test_a_container_that_is_long_in_starting_takes_none_of_a_deployment_s_time(serving):
    serving.hosting.ready = False
    update(serving, DeploymentConfig=CANARY)
    serving.stage("Creating")
    serving.passes(7200)
    serving.hosting.fleet("churn-2").succeed()

    serving.stage("ActivatingTraffic")
    serving.passes(10)
    assert "canary capacity" in serving.stage("Baking")
    assert serving.describe()["EndpointStatus"] == "Updating"


def test_a_fault_of_our_own_makes_the_endpoint_fail_and_its_deletion_leaves_no_process(serving):
    update(serving, DeploymentConfig=CANARY)
    at(serving, "canary")
    del serving.aws.alarms  # whoever looks at them now gets an AttributeError
    serving.passes(0)

    described = serving.wait("churn", "Failed")

    assert described["FailureReason"].startswith("InternalServerError: local_aws failed: ")
    assert serving.hosting.running == ["churn-1", "churn-2"]
    serving.call("DeleteEndpoint", EndpointName="churn")
    wait_for(lambda: not serving.hosting.running)


def test_going_back_to_a_configuration_that_was_deleted_fails(serving):
    update(serving, DeploymentConfig=CANARY)
    serving.stage("Creating")
    serving.call("DeleteEndpointConfig", EndpointConfigName="churn-1")
    serving.alarm("errors", "ALARM")
    serving.wait("churn", "RollingBack")
    serving.passes(30)

    described = serving.wait("churn", "UpdateRollbackFailed")
    assert "The roll-back to churn-1 failed" in described["FailureReason"]


def test_the_last_deployment_s_configuration_is_used_again_when_asked_for(serving):
    update(serving, DeploymentConfig=CANARY)
    serving.stage("Creating")
    serving.alarm("errors", "ALARM")
    serving.wait("churn", "RollingBack")
    serving.passes(30)
    serving.wait("churn", "InService")

    update(serving, RetainDeploymentConfig=True)

    serving.wait("churn", "RollingBack")  # its alarm is still in ALARM


@pytest.mark.parametrize(
    ("retain", "excluded", "count", "weight"),
    [(False, [], 2, 1.0), (True, [], 1, 0.5), (True, ["DesiredInstanceCount"], 2, 0.5)],
)
def test_what_scaling_has_made_of_an_endpoint_is_kept_only_when_asked_for(serving, retain, excluded, count, weight):
    wanted = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 1, "DesiredWeight": 0.5}]
    serving.call("UpdateEndpointWeightsAndCapacities", EndpointName="churn", DesiredWeightsAndCapacities=wanted)
    serving.passes(60)
    serving.wait("churn", "InService")
    members: dict[str, Any] = {"RetainAllVariantProperties": True} if retain else {}
    if excluded:
        members["ExcludeRetainedVariantProperties"] = [{"VariantPropertyType": name} for name in excluded]

    update(serving, **members)
    serving.stage("Creating")
    serving.passes(120)
    serving.stage("ActivatingTraffic")
    serving.passes(10)
    serving.stage("Deleting")
    serving.settles("InService", after=20)

    variant = serving.variant()
    assert (variant["CurrentInstanceCount"], variant["CurrentWeight"]) == (count, weight)
    assert serving.hosting.fleet("churn-2").instances == count
    assert [one.weight for one in serving.hosting.routes["churn"].variants] == [weight]


@pytest.mark.parametrize(
    ("variant", "instance_type", "refused"),
    [("AllTraffic", "ml.m5.large", False), ("AllTraffic", "ml.m5.xlarge", True), ("other", "ml.m5.large", True)],
)
def test_a_scaled_variant_must_be_deregistered_before_it_goes_or_has_other_instances(
    serving, variant, instance_type, refused
):
    target = {"ServiceNamespace": "sagemaker", "ResourceId": "endpoint/churn/variant/AllTraffic"}
    serving.aws.targets = [target | {"ScalableDimension": "sagemaker:variant:DesiredInstanceCount"}]
    serving.config("churn-3", {variant: {"InstanceType": instance_type, "InitialInstanceCount": 2}})

    if refused:
        message = serving.refused("UpdateEndpoint", EndpointName="churn", EndpointConfigName="churn-3")
        assert 'The variant(s) "[AllTraffic]" must be deregistered as scalable targets' in message
        serving.aws.targets = []
    update(serving, "churn-3")


def test_an_update_to_the_configuration_that_serves_is_refused(serving):
    message = serving.refused("UpdateEndpoint", EndpointName="churn", EndpointConfigName="churn-1")

    assert "with the endpoint configuration that it has, churn-1" in message


def test_an_endpoint_with_instances_cannot_become_serverless_but_the_other_way_it_can(stand):
    stand.in_service()
    stand.config("serverless", {"AllTraffic": SERVERLESS})
    message = stand.refused("UpdateEndpoint", EndpointName="churn", EndpointConfigName="serverless")
    assert "from instances to serverless" in message

    stand.in_service("other", "other-1", variants={"AllTraffic": SERVERLESS})
    stand.call("UpdateEndpoint", EndpointName="other", EndpointConfigName="churn-1")


def test_both_fleets_of_a_deployment_count_towards_the_quota(serving):
    serving.config("churn-3", {"AllTraffic": {"InstanceType": "ml.m5.large", "InitialInstanceCount": 3}})

    message = serving.refused("UpdateEndpoint", EndpointName="churn", EndpointConfigName="churn-3")

    assert message.startswith("ResourceLimitExceeded: ")
    assert "current utilization of 2" in message


def test_an_endpoint_whose_configuration_was_deleted_serves_on_and_cannot_change(serving):
    serving.call("DeleteEndpointConfig", EndpointConfigName="churn-1")

    assert serving.variant()["CurrentInstanceCount"] == 2
    changes: dict[str, dict[str, Any]] = {
        "UpdateEndpoint": {"EndpointConfigName": "churn-2"},
        "UpdateEndpointWeightsAndCapacities": {"DesiredWeightsAndCapacities": [{"VariantName": "AllTraffic"}]},
    }
    for operation, members in changes.items():
        message = serving.refused(operation, EndpointName="churn", **members)
        assert "Could not find endpoint configuration" in message
        assert "endpoint-config/churn-1" in message


IN_PROGRESS = (
    'ValidationException: Cannot update in-progress endpoint "arn:aws:sagemaker:us-east-1:123456789012:endpoint/churn".'
)


@pytest.mark.parametrize("status", ["Creating", "Updating", "RollingBack", "Deleting"])
def test_nothing_can_be_asked_of_an_endpoint_that_is_changing(stand, status):
    stand.config("churn-1")
    stand.config("churn-2")
    stand.aws.alarms |= {"errors": "OK", "latency": "OK"}
    stand.call("CreateEndpoint", EndpointName="churn", EndpointConfigName="churn-1")
    if status != "Creating":
        stand.stage("Creating")
        stand.passes(120)
        stand.wait("churn", "InService")
        if status == "Deleting":
            stand.call("DeleteEndpoint", EndpointName="churn")
        else:
            stand.aws.alarms["errors"] = "ALARM" if status == "RollingBack" else "OK"
            update(stand, DeploymentConfig=CANARY)
    stand.wait("churn", status)

    weights = {"DesiredWeightsAndCapacities": [{"VariantName": "AllTraffic", "DesiredWeight": 1.0}]}
    assert stand.refused("UpdateEndpoint", EndpointName="churn", EndpointConfigName="churn-2") == IN_PROGRESS
    assert stand.refused("UpdateEndpointWeightsAndCapacities", EndpointName="churn", **weights) == IN_PROGRESS
    assert stand.refused("DeleteEndpoint", EndpointName="churn") == IN_PROGRESS


def at_once(*calls: Callable[[], str]) -> list[str]:
    """What each of the calls comes to, made at the same time."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], str]) -> str:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def test_of_several_changes_at_once_one_happens_and_the_others_are_refused(serving):
    for number in range(3, 8):
        serving.config(f"churn-{number}")

    def call(config: str) -> str:
        try:
            update(serving, config)
        except ServiceError as error:
            return str(error)
        return config

    results = at_once(*(partial(call, f"churn-{number}") for number in range(2, 8)))

    (winner,) = set(results) - {IN_PROGRESS}
    assert results.count(IN_PROGRESS) == 5
    assert serving.describe()["PendingDeploymentSummary"]["EndpointConfigName"] == winner
    wait_for(lambda: serving.hosting.running == ["churn-1", winner])


# Weights and capacities


def test_other_counts_and_weights_take_effect_after_a_while_without_another_process(serving):
    wanted = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 4, "DesiredWeight": 0.25}]
    serving.call("UpdateEndpointWeightsAndCapacities", EndpointName="churn", DesiredWeightsAndCapacities=wanted)

    described = serving.describe()
    variant = serving.variant()
    assert described["EndpointStatus"] == "Updating"
    assert "PendingDeploymentSummary" not in described
    assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (2, 4)
    assert (variant["CurrentWeight"], variant["DesiredWeight"]) == (1.0, 0.25)
    serving.settles("InService", after=60)
    variant = serving.variant()
    assert (variant["CurrentInstanceCount"], variant["CurrentWeight"]) == (4, 0.25)
    (fleet,) = serving.hosting.fleets
    assert fleet.instances == 4


def test_the_concurrency_of_a_serverless_variant_can_change(stand):
    stand.in_service(variants={"AllTraffic": SERVERLESS})
    wanted = [{"VariantName": "AllTraffic", "ServerlessUpdateConfig": {"MaxConcurrency": 9}}]
    stand.call("UpdateEndpointWeightsAndCapacities", EndpointName="churn", DesiredWeightsAndCapacities=wanted)
    assert stand.variant()["CurrentServerlessConfig"]["MaxConcurrency"] == 5
    assert stand.variant()["DesiredServerlessConfig"]["MaxConcurrency"] == 9
    stand.settles("InService", after=60)

    assert stand.variant()["CurrentServerlessConfig"]["MaxConcurrency"] == 9
    assert stand.hosting.fleets[0].serverless == {"MemorySizeInMB": 2048, "MaxConcurrency": 9}


# Deletion


def test_a_deleted_endpoint_leaves_no_process_route_scalable_target_or_tag(serving):
    dimension = "sagemaker:variant:DesiredInstanceCount"
    mine, other = (
        {"ServiceNamespace": "sagemaker", "ResourceId": name, "ScalableDimension": dimension}
        for name in ("endpoint/churn/variant/AllTraffic", "endpoint/churn-too/variant/AllTraffic")
    )
    serving.aws.targets = [mine, other]
    arn = serving.describe()["EndpointArn"]
    serving.call("AddTags", ResourceArn=arn, Tags=[{"Key": "modelyard:project", "Value": "churn"}])

    serving.call("DeleteEndpoint", EndpointName="churn")

    assert serving.describe()["EndpointStatus"] == "Deleting"
    wait_for(lambda: not serving.hosting.running and not serving.hosting.routes)
    serving.passes(20)
    serving.gone("churn")
    assert serving.aws.targets == [other]
    assert "ResourceNotFound" in serving.refused("ListTags", ResourceArn=arn)
    serving.call("CreateEndpoint", EndpointName="churn", EndpointConfigName="churn-1")
    assert serving.call("ListTags", ResourceArn=arn)["Tags"] == []


# Events


def test_state_changes_are_told_as_aws_tells_them(stand):
    stand.config("churn-1")
    stand.call(
        "CreateEndpoint",
        EndpointName="Churn",
        EndpointConfigName="churn-1",
        Tags=[{"Key": "modelyard:project", "Value": "churn"}],
    )
    stand.stage("Creating")
    stand.passes(120)
    stand.wait("churn", "InService")
    stand.call("DeleteEndpoint", EndpointName="churn")

    first, second, third = stand.events.of("Endpoint")
    assert [one["EndpointStatus"] for one in (first, second, third)] == ["CREATING", "IN_SERVICE", "DELETING"]
    assert second["EndpointName"] == "Churn"
    assert second["EndpointArn"].endswith(":endpoint/churn")
    assert second["Tags"] == {"modelyard:project": "churn"}
    assert second["EndpointConfigName"] == "churn-1"
    assert second["CreationTime"] == round(stand.describe()["CreationTime"] * 1000)
    (variant,) = second["ProductionVariants"]
    assert (variant["DesiredWeight"], variant["DesiredInstanceCount"]) == (1.0, 2)
    assert stand.events.of("Endpoint Deployment") == []


def test_each_stage_of_a_deployment_is_told(serving):
    update(serving, DeploymentConfig=CANARY)
    at(serving, "canary")
    serving.alarm("errors", "ALARM")
    serving.wait("churn", "RollingBack")
    serving.passes(30)
    serving.wait("churn", "InService")

    told = serving.events.of("Endpoint Deployment")
    pending = [one["PendingDeploymentSummary"]["ProductionVariants"][0] for one in told]
    assert [one["VariantStatus"][0]["Status"] for one in pending] == [
        "Creating",
        "ActivatingTraffic",
        "Baking",
        "Deleting",
    ]
    baking = told[2]
    assert baking["EndpointStatus"] == "UPDATING"
    assert baking["EndpointConfigName"] == "churn-1"
    assert baking["PendingDeploymentSummary"]["EndpointConfigName"] == "churn-2"
    assert (pending[2]["CurrentInstanceCount"], pending[2]["DesiredInstanceCount"]) == (1, 2)
    assert pending[2]["VariantStatus"][0]["StartTime"] > 1e12  # milliseconds
    states = [one["EndpointStatus"] for one in serving.events.of("Endpoint")]
    assert states[-3:] == ["UPDATING", "ROLLING_BACK", "IN_SERVICE"]
    assert "alarm(s) errors" in serving.events.of("Endpoint")[-1]["FailureReason"]


@pytest.mark.parametrize("told", [False, True])
def test_a_serverless_endpoint_tells_of_its_states_only_as_switched(stand, told):
    stand.events.serverless = told
    stand.in_service(variants={"AllTraffic": SERVERLESS})

    assert bool(stand.events.of("Endpoint")) == told
    assert stand.events.of("Endpoint Deployment") == []


def test_configurations_and_models_tell_of_their_creation_and_deletion(stand):
    stand.config("churn-1")
    stand.call("DeleteEndpointConfig", EndpointConfigName="churn-1")
    stand.call("DeleteModel", ModelName="churn-1")

    first, second = stand.events.of("Endpoint Config")
    assert first == second
    assert first["EndpointConfigName"] == "churn-1"
    assert first["ProductionVariants"][0]["ModelName"] == "churn-1"
    assert first["CreationTime"] > 1e12
    first, second = stand.events.of("Model")
    assert first == second
    assert first["ModelName"] == "churn-1"
    assert first["Tags"] == {}


# Data capture, lists


def test_data_capture_is_described_and_given_to_what_serves(stand):
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 50,
        "DestinationS3Uri": "s3://bucket/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }
    stand.in_service(DataCaptureConfig=capture)

    assert stand.describe()["DataCaptureConfig"] == {
        "EnableCapture": True,
        "CaptureStatus": "Started",
        "CurrentSamplingPercentage": 50,
        "DestinationS3Uri": "s3://bucket/captured",
        "KmsKeyId": "",
    }
    assert stand.hosting.routes["churn"].data_capture == capture


def test_endpoints_are_listed_newest_first_and_by_status(stand):
    stand.in_service("churn-dev", "churn-dev-1")
    stand.in_service("churn-prod", "churn-prod-1")
    stand.call("DeleteEndpoint", EndpointName="churn-prod")

    def names(**request: Any) -> list[str]:
        return [one["EndpointName"] for one in stand.call("ListEndpoints", **request)["Endpoints"]]

    assert names() == ["churn-prod", "churn-dev"]
    assert names(SortBy="Name", SortOrder="Ascending") == ["churn-dev", "churn-prod"]
    assert names(StatusEquals="InService") == ["churn-dev"]
    assert names(NameContains="prod") == ["churn-prod"]
    page = stand.call("ListEndpoints", MaxResults=1)
    assert [one["EndpointName"] for one in page["Endpoints"]] == ["churn-prod"]
    assert names(MaxResults=1, NextToken=page["NextToken"]) == ["churn-dev"]


# Restart with state


def restart(stand: Stand, state: Path) -> Stand:
    stand.close()
    again = Stand(state, FakeHosting())
    again.endpoints.resume()
    return again


def test_what_was_in_service_is_served_again_after_a_restart(tmp_path):
    state = tmp_path / "state.sqlite"
    stand = Stand(state)
    stand.in_service()
    stand.call("DeleteModel", ModelName="churn-1")  # what serves does not need it

    again = restart(stand, state)

    wait_for(lambda: again.hosting.routes.keys() == {"churn"})
    assert again.describe()["EndpointStatus"] == "InService"
    assert again.hosting.fleets[0].spec == stand.hosting.fleets[0].spec
    again.close()


def test_requests_wait_after_a_restart_for_a_container_and_are_refused_when_it_does_not_start(tmp_path):
    stand = Stand(tmp_path / "state.sqlite")
    stand.in_service()
    stand.close()
    again = Stand(tmp_path / "state.sqlite", FakeHosting(ready=False))
    again.endpoints.resume()

    wait_for(lambda: again.hosting.routes.keys() == {"churn"})
    again.hosting.fleets[0].fail("no model")
    wait_for(lambda: again.describe()["EndpointStatus"] == "Failed")
    assert not again.hosting.routes
    again.close()


def test_a_creation_under_way_at_a_restart_begins_anew(tmp_path):
    state = tmp_path / "state.sqlite"
    stand = Stand(state)
    stand.config("churn-1")
    stand.call("CreateEndpoint", EndpointName="churn", EndpointConfigName="churn-1")

    again = restart(stand, state)

    assert again.describe()["EndpointStatus"] == "Creating"
    again.passes(120)
    wait_for(lambda: again.describe()["EndpointStatus"] == "InService")
    assert again.hosting.shares("churn") == {"AllTraffic": {"churn-1": 1}}
    again.close()


def test_an_update_under_way_at_a_restart_begins_anew_beside_what_served(tmp_path):
    state = tmp_path / "state.sqlite"
    stand = Stand(state)
    stand.config("churn-2")
    stand.in_service()
    update(stand)
    stand.stage("Creating")

    again = restart(stand, state)

    wait_for(lambda: again.hosting.routes.keys() == {"churn"})
    assert again.describe()["EndpointStatus"] == "Updating"
    assert again.hosting.shares("churn") == {"AllTraffic": {"churn-1": 1}}
    wait_for(lambda: again.hosting.running == ["churn-1", "churn-2"])

    def in_service_after_a_second() -> bool:
        again.passes(1)
        return again.describe()["EndpointStatus"] == "InService"

    wait_for(in_service_after_a_second)
    assert again.describe()["EndpointConfigName"] == "churn-2"
    assert again.hosting.shares("churn") == {"AllTraffic": {"churn-2": 1}}
    wait_for(lambda: again.hosting.running == ["churn-2"])
    again.close()


def test_an_update_of_which_only_the_old_fleet_was_left_is_done_after_a_restart(tmp_path):
    state = tmp_path / "state.sqlite"
    stand = Stand(state)
    stand.config("churn-2")
    stand.in_service()
    update(stand)
    for stage, seconds in (("Creating", 120), ("ActivatingTraffic", 10)):
        stand.stage(stage)
        stand.passes(seconds)
    stand.stage("Deleting")

    again = restart(stand, state)

    wait_for(lambda: again.describe()["EndpointStatus"] == "InService")
    assert again.describe()["EndpointConfigName"] == "churn-2"
    assert again.hosting.running == ["churn-2"]
    again.close()


def test_a_roll_back_under_way_at_a_restart_is_finished_and_says_why_it_was(tmp_path):
    state = tmp_path / "state.sqlite"
    stand = Stand(state)
    stand.config("churn-2")
    stand.in_service()
    stand.hosting.ready = False
    update(stand)
    wait_for(lambda: "churn-2" in stand.hosting.running)
    stand.hosting.fleet("churn-2").fail("the model does not load")
    wait_for(lambda: stand.describe()["EndpointStatus"] == "RollingBack")

    again = restart(stand, state)

    wait_for(lambda: again.describe()["EndpointStatus"] == "InService")
    assert again.describe()["EndpointConfigName"] == "churn-1"
    assert again.describe()["FailureReason"] == "the model does not load"
    assert again.hosting.running == ["churn-1"]
    again.close()


def test_a_change_of_capacity_under_way_at_a_restart_is_finished(tmp_path):
    state = tmp_path / "state.sqlite"
    stand = Stand(state)
    stand.in_service()
    capacities = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 3}]
    stand.call("UpdateEndpointWeightsAndCapacities", EndpointName="churn", DesiredWeightsAndCapacities=capacities)

    again = restart(stand, state)

    wait_for(lambda: again.hosting.routes.keys() == {"churn"})
    assert again.describe()["EndpointStatus"] == "Updating"
    again.passes(60)
    wait_for(lambda: again.describe()["EndpointStatus"] == "InService")
    assert again.describe()["ProductionVariants"][0]["CurrentInstanceCount"] == 3
    again.close()


def test_a_deletion_under_way_at_a_restart_is_finished(tmp_path):
    state = tmp_path / "state.sqlite"
    stand = Stand(state)
    stand.in_service()
    stand.call("DeleteEndpoint", EndpointName="churn")

    again = restart(stand, state)

    again.passes(20)
    again.gone("churn")
    again.close()


def test_nothing_is_started_once_the_server_goes_down(stand):
    stand.config("churn-1")
    stand.endpoints.kill()

    assert stand.refused("CreateEndpoint", EndpointName="churn", EndpointConfigName="churn-1").startswith(
        "InternalFailure: "
    )
    assert not stand.hosting.fleets


def test_another_account_has_endpoints_of_its_own(serving):
    other = type(CALL)(CALL.scope._replace(account="210987654321"), "210987654321")

    assert serving.operations["ListEndpoints"](other, {})["Endpoints"] == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"endpoints": 1}, "there is no quota endpoints"), ({"instances_per_endpoint": 0}, "positive whole number")],
)
def test_quotas_that_cannot_be(stand, settings, message):
    with pytest.raises(ValueError, match=message):
        stand.endpoints.quotas.configure(settings)
