"""The plan without AWS: the whole table, and each trap."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from lifecycle_lambdas.declared import Declared
from lifecycle_lambdas.observe import Alarm, Observed
from lifecycle_lambdas.plan import RELATIONS, TABLE, Action, Do, Done, GiveUp, Relation, Step, Wait, plan, relation
from tests.lifecycle_lambdas.plans import (
    ALARMS,
    BATCH,
    CANARY,
    ENDPOINT,
    LINEAR,
    NOW,
    SCALING,
    SERVERLESS,
    alarm,
    declared,
    endpoint,
    made,
    observed,
    target,
    variant,
)

OPERATIONS: dict[Action, str] = {
    "create": "create_model",
    "update": "create_model",
    "delete": "delete_endpoint",
    "replace": "delete_endpoint",
    "abort": "set_alarm_state",
    "finish": "register_scalable_target",
}


def situation(state: str, wanted: Relation) -> tuple[Declared | None, Observed]:
    """Something that is declared and something that is there which relate so."""
    there = None
    if state != "none":
        config = "churn-prod-12" if wanted == "wanted" and state != "Updating" else "churn-prod-11"
        kind = variant(serverless=True, count=None) if wanted == "kind" else variant()
        pending = None
        if state == "Updating":
            pending = "churn-prod-12" if wanted == "wanted" else "churn-prod-13"
        there = endpoint(state, config, pending=pending, variants=(kind,))
    seen = observed(there, alarms=alarm("churn-prod-13-abort"))
    if wanted == "nothing":
        return None, seen
    requested = NOW - timedelta(minutes=1) if wanted in ("wanted", "returned") else None
    return declared(scaling=SCALING, replace=True, requested=requested), seen


def did(step: Step) -> str:
    assert isinstance(step, Do), step
    return step.call.operation


def request(step: Step) -> dict:
    assert isinstance(step, Do), step
    return step.call.request


@pytest.mark.parametrize(
    ("state", "wanted", "action"),
    [(state, wanted, action) for state, row in TABLE.items() for wanted, action in row.items()],
)
def test_every_field_of_the_table_is_what_the_plan_does(state: str, wanted: Relation, action: Action) -> None:
    what, there = situation(state, wanted)

    step = plan(what, there, NOW)

    if state != "none":
        assert relation(what, there) == wanted
    if action == "wait":
        assert isinstance(step, Wait)
        assert not step.overdue
    elif action == "leave":
        assert step == Done()
    elif action == "give up":
        assert isinstance(step, GiveUp)
        assert step.reject
    else:
        assert did(step) == OPERATIONS[action]


def test_the_documentation_shows_the_same_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "lifecycle.md").read_text()
    table = text[text.index("| state | nothing should serve |") :].partition("\n\n")[0]
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]

    assert {row[0]: dict(zip(RELATIONS, row[1:], strict=True)) for row in rows} == TABLE


def test_a_state_that_is_not_in_the_table_needs_a_person() -> None:
    step = plan(declared(), observed(endpoint("Hibernating")), NOW)

    assert step == GiveUp(
        "the endpoint is Hibernating, which this version of Modelyard does not know: update it", False
    )


def test_an_endpoint_is_made_of_model_config_and_endpoint_in_this_order() -> None:
    wanted = declared()
    model, config = {wanted.name: wanted.package_arn}, {wanted.name: (variant(model=wanted.name),)}

    assert did(plan(wanted, observed(), NOW)) == "create_model"
    assert did(plan(wanted, observed(models=model), NOW)) == "create_endpoint_config"
    assert did(plan(wanted, observed(models=model, configs=config), NOW)) == "create_endpoint"


def test_the_model_is_the_version_itself_with_the_stage_files_environment_network_and_role() -> None:
    wanted = declared(
        environment={"LEVEL": "2"},
        vpc={"subnets": ["subnet-01234567", "subnet-89abcdef"], "security_groups": ["sg-01234567"]},
        network_isolation=True,
    )

    assert request(plan(wanted, observed(), NOW)) == {
        "ModelName": "churn-prod-12",
        "Containers": [{"ModelPackageName": wanted.package_arn, "Environment": {"LEVEL": "2"}}],
        "ExecutionRoleArn": "arn:aws:iam::111122223333:role/modelyard/models/default",
        "VpcConfig": {"Subnets": ["subnet-01234567", "subnet-89abcdef"], "SecurityGroupIds": ["sg-01234567"]},
        "EnableNetworkIsolation": True,
        "Tags": [
            {"Key": "sagemaker:project-name", "Value": "churn"},
            {"Key": "sagemaker:project-id", "Value": "p-123456789012"},
            {"Key": "modelyard:project", "Value": "churn"},
            {"Key": "modelyard:stage", "Value": "prod"},
            {"Key": "modelyard:deployment", "Value": "12"},
        ],
    }


def test_captured_data_goes_below_the_project_and_stage_with_the_stage_files_key() -> None:
    key = "arn:aws:kms:eu-west-1:111122223333:key/0a1b"
    wanted = declared(data_capture={"percent": 20, "capture": ["input"]}, kms_key=key)

    config = request(plan(wanted, observed(models={wanted.name: wanted.package_arn}), NOW))

    assert config["KmsKeyId"] == key
    assert config["DataCaptureConfig"] == {
        "EnableCapture": True,
        "InitialSamplingPercentage": 20,
        "DestinationS3Uri": "s3://artifacts/churn/captured/prod/",
        "CaptureOptions": [{"CaptureMode": "Input"}],
        "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]},
        "KmsKeyId": key,
    }


def update(wanted: Declared, there: Observed) -> dict:
    """The request of UpdateEndpoint, when all before it is done."""
    there = Observed(**{**there.__dict__, "alarms": dict(rollback(wanted).items())})
    step = plan(wanted, there, NOW)
    assert did(step) == "update_endpoint"
    return request(step)


def rollback(wanted: Declared) -> dict[str, Alarm]:
    found: dict[str, Alarm] = {}
    for name in ("rollback-errors", "rollback-latency", "rollback-custom", "abort"):
        found |= alarm(f"{wanted.name}-{name}")
    return found


def test_without_scaling_the_declared_count_is_meant_and_all_else_is_retained() -> None:
    wanted = declared()

    assert update(wanted, made(wanted, endpoint())) == {
        "EndpointName": ENDPOINT,
        "EndpointConfigName": "churn-prod-12",
        "RetainAllVariantProperties": True,
        "ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DesiredInstanceCount"}],
    }


def test_with_scaling_the_count_is_the_one_that_scaling_set() -> None:
    wanted = declared(scaling=SCALING)

    assert "ExcludeRetainedVariantProperties" not in update(wanted, made(wanted, endpoint()))


def test_a_canary_is_watched_by_alarms_of_this_deployment_and_by_its_abort_alarm() -> None:
    wanted = declared(rollout=CANARY, alarms=ALARMS)
    there = made(wanted, endpoint())

    assert request(plan(wanted, there, NOW)) == {
        "AlarmName": "churn-prod-12-rollback-errors",
        "AlarmDescription": "Rolls deployment 12 of churn-prod back.",
        "Namespace": "AWS/SageMaker",
        "MetricName": "Invocation5XXErrors",
        "Dimensions": [
            {"Name": "EndpointName", "Value": "churn-prod"},
            {"Name": "VariantName", "Value": "AllTraffic"},
            {"Name": "EndpointConfigName", "Value": "churn-prod-12"},
        ],
        "Statistic": "Average",
        "Period": 60,
        "EvaluationPeriods": 1,
        "DatapointsToAlarm": 1,
        "Threshold": 0.05,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
        "Tags": [{"Key": key, "Value": value} for key, value in wanted.deployment_tags.items()],
    }
    assert update(wanted, there)["DeploymentConfig"] == {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {
                "Type": "CANARY",
                "WaitIntervalInSeconds": 600,
                "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 50},
            },
            "TerminationWaitInSeconds": 300,
            "MaximumExecutionTimeoutInSeconds": 2700,
        },
        "AutoRollbackConfiguration": {
            "Alarms": [
                {"AlarmName": "churn-prod-12-rollback-errors"},
                {"AlarmName": "churn-prod-12-rollback-latency"},
                {"AlarmName": "churn-prod-12-abort"},
            ]
        },
    }


def test_a_linear_rollout_names_its_step() -> None:
    wanted = declared(rollout=LINEAR)
    there = made(wanted, endpoint(), alarms=alarm("churn-prod-12-abort"))

    routing = request(plan(wanted, there, NOW))["DeploymentConfig"]["BlueGreenUpdatePolicy"][
        "TrafficRoutingConfiguration"
    ]

    assert routing == {
        "Type": "LINEAR",
        "WaitIntervalInSeconds": 300,
        "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 25},
    }


def test_all_at_once_bakes_under_its_roll_back_alarms_and_has_no_abort_alarm() -> None:
    wanted = declared(rollout={"type": "all_at_once", "finish_bake_minutes": 5}, alarms={"error_share": 0.1})

    config = update(wanted, made(wanted, endpoint()))["DeploymentConfig"]

    assert config["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["Type"] == "ALL_AT_ONCE"
    assert config["BlueGreenUpdatePolicy"]["TerminationWaitInSeconds"] == 300
    assert config["AutoRollbackConfiguration"] == {"Alarms": [{"AlarmName": "churn-prod-12-rollback-errors"}]}


def test_a_canary_of_a_fleet_that_was_scaled_to_one_moves_at_once() -> None:
    wanted = declared(rollout=CANARY, scaling=SCALING)
    there = made(wanted, endpoint(variants=(variant(count=1),)))

    step = plan(wanted, there, NOW)

    assert did(step) == "update_endpoint"
    assert (
        request(step)["DeploymentConfig"]["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["Type"]
        == "ALL_AT_ONCE"
    )
    assert isinstance(step, Do)
    assert step.why == "all at once instead of canary: a fleet of one instance cannot be parted"


@pytest.mark.parametrize(("running", "size"), [(2, 1), (4, 2), (9, 2)])
def test_a_number_of_instances_is_at_most_half_of_the_fleet_that_runs(running: int, size: int) -> None:
    wanted = declared(scaling={**SCALING, "min": 4, "max": 10}, instance_count=4, rollout={"type": "canary", "size": 2})

    config = update(wanted, made(wanted, endpoint(variants=(variant(count=running),))))["DeploymentConfig"]

    routing = config["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert routing["CanarySize"] == {"Type": "INSTANCE_COUNT", "Value": size}


def test_an_endpoint_with_other_variants_is_updated_all_at_once_without_alarms() -> None:
    wanted = declared(rollout=CANARY, alarms=ALARMS)
    there = made(wanted, endpoint(config="made-by-hand", variants=(variant(name="variant-1"),)))

    step = plan(wanted, there, NOW)

    assert did(step) == "update_endpoint"
    assert "DeploymentConfig" not in request(step)


def test_another_instance_type_under_a_scaled_variant_takes_the_target_away_first_and_puts_it_back() -> None:
    wanted = declared(instance_type="ml.m5.xlarge", scaling=SCALING)
    there = made(wanted, endpoint(), targets=(target(),))

    step = plan(wanted, there, NOW)
    after = plan(wanted, made(wanted, endpoint(config=wanted.name, variants=(variant(model=wanted.name),))), NOW)

    assert did(step) == "deregister_scalable_target"
    assert request(step)["ResourceId"] == "endpoint/churn-prod/variant/AllTraffic"
    assert did(after) == "register_scalable_target"


def test_the_same_instance_type_leaves_the_target_alone() -> None:
    wanted = declared(scaling=SCALING)

    assert did(plan(wanted, made(wanted, endpoint(), targets=(target(),)), NOW)) == "update_endpoint"


def test_a_target_of_a_variant_that_goes_is_taken_away_first() -> None:
    wanted = declared()
    there = made(
        wanted,
        endpoint(variants=(variant(name="variant-1"),)),
        targets=(target("endpoint/churn-prod/variant/variant-1"),),
    )

    assert did(plan(wanted, there, NOW)) == "deregister_scalable_target"


def test_scaled_targets_go_before_the_endpoint() -> None:
    assert did(plan(None, observed(endpoint(), targets=(target(),)), NOW)) == "deregister_scalable_target"
    assert did(plan(None, observed(endpoint()), NOW)) == "delete_endpoint"


def test_an_endpoint_that_modelyard_never_deployed_to_is_not_deleted() -> None:
    assert plan(None, observed(endpoint(config="made-by-hand")), NOW) == Done()


def test_deployed_means_in_service_on_the_wanted_config_and_nothing_less() -> None:
    wanted = declared(requested=NOW - timedelta(minutes=20))
    serving = made(wanted, endpoint(config=wanted.name))
    rolled_back = made(
        wanted,
        endpoint(failure="Rolled back: alarm."),
        alarms=alarm("churn-prod-12-rollback-errors", "ALARM", "0.3 > 0.05"),
    )

    assert plan(wanted, serving, NOW) == Done()
    assert plan(wanted, rolled_back, NOW) == GiveUp(
        "SageMaker rolled it back: the endpoint is InService on churn-prod-11 again. Rolled back: alarm. "
        "Alarms raised: churn-prod-12-rollback-errors (0.3 > 0.05).",
        reject=True,
    )


def test_an_alarm_that_was_seen_while_rolling_back_is_told_when_it_is_quiet_again() -> None:
    noted = "the endpoint is RollingBack (alarms raised: churn-prod-12-rollback-errors (0.3 > 0.05))"
    wanted = declared(requested=NOW - timedelta(minutes=20))
    wanted = Declared(**{**wanted.__dict__, "noted": noted})

    step = plan(wanted, made(wanted, endpoint()), NOW)

    assert isinstance(step, GiveUp)
    assert step.reason.endswith(noted)


def test_another_kind_is_refused_unless_the_stage_file_allows_the_outage() -> None:
    step = plan(declared(SERVERLESS), observed(endpoint()), NOW)

    assert isinstance(step, GiveUp)
    assert step.reject
    assert "set replace: true in the stage file" in step.reason
    assert did(plan(declared(SERVERLESS, replace=True), observed(endpoint()), NOW)) == "delete_endpoint"
    batch = plan(declared(BATCH, replace=True), observed(endpoint()), NOW)
    assert isinstance(batch, Do)
    assert batch.why.endswith("nothing answers any more")


def test_a_canary_that_is_wanted_no_more_is_aborted_once() -> None:
    there = endpoint("Updating", pending="churn-prod-11", config="churn-prod-10")
    raised = observed(there, alarms=alarm("churn-prod-11-abort", "ALARM"))

    step = plan(declared(), observed(there, alarms=alarm("churn-prod-11-abort")), NOW)

    assert request(step) == {
        "AlarmName": "churn-prod-11-abort",
        "StateValue": "ALARM",
        "StateReason": "churn-prod-12 should serve instead",
    }
    assert isinstance(plan(declared(), raised, NOW), Wait)


def test_all_at_once_that_is_wanted_no_more_is_waited_for() -> None:
    there = endpoint("Updating", pending="churn-prod-11", config="churn-prod-10")

    assert isinstance(plan(declared(), observed(there), NOW), Wait)


def test_what_takes_longer_than_it_can_is_a_persons_business() -> None:
    old = endpoint("Creating", config="churn-prod-12", modified=NOW - timedelta(hours=3))

    step = plan(declared(requested=NOW - timedelta(hours=3)), observed(old), NOW)

    assert isinstance(step, Wait)
    assert step.overdue
    assert "for more than 2 hours" in step.reason


def test_a_rollout_of_hours_is_not_overdue_before_its_own_end() -> None:
    wanted = declared(rollout={"type": "linear", "step": "10%", "bake_minutes": 30}, requested=NOW - timedelta(hours=4))
    there = endpoint("Updating", pending="churn-prod-12", modified=NOW - timedelta(hours=4))

    step = plan(wanted, observed(there), NOW)

    assert isinstance(step, Wait)
    assert not step.overdue


@pytest.mark.parametrize(
    "there",
    [
        {"models": {"churn-prod-12": "arn:aws:sagemaker:eu-west-1:111122223333:model-package/other/1"}},
        {"models": {"churn-prod-12": None}},
        {"configs": {"churn-prod-12": (variant(model="another"),)}},
    ],
)
def test_what_others_made_by_the_same_name_is_not_used(there: dict) -> None:
    step = plan(declared(), observed(**there), NOW)

    assert isinstance(step, GiveUp)
    assert not step.reject
    assert "which Modelyard did not make" in step.reason


def test_a_serverless_update_has_no_guardrails() -> None:
    wanted = declared(SERVERLESS, memory_mb=4096)
    there = observed(
        endpoint(variants=(variant(serverless=True, count=None, instance_type=None),)),
        models={wanted.name: wanted.package_arn},
        configs={wanted.name: (variant(serverless=True, count=None, model=wanted.name),)},
    )

    assert request(plan(wanted, there, NOW)) == {
        "EndpointName": ENDPOINT,
        "EndpointConfigName": "churn-prod-12",
        "RetainAllVariantProperties": True,
    }


def test_a_batch_stage_is_a_model_and_a_schedule() -> None:
    wanted = declared(BATCH)
    model = {wanted.name: wanted.package_arn}

    assert did(plan(wanted, observed(), NOW)) == "create_model"
    schedule = request(plan(wanted, observed(models=model), NOW))
    assert schedule["ScheduleExpression"] == "rate(1 day)"
    assert schedule["ClientToken"] == "churn-prod-12"
    assert plan(wanted, observed(models=model, schedule=schedule), NOW) == Done()
    assert did(
        plan(declared(BATCH, number=13), observed(models={"churn-prod-13": wanted.package_arn}, schedule=schedule), NOW)
    ) == ("update_schedule")
    assert did(plan(None, observed(schedule=schedule), NOW)) == "delete_schedule"


def test_a_schedule_goes_when_an_endpoint_serves() -> None:
    wanted = declared()
    schedule = request(plan(declared(BATCH), observed(models={"churn-prod-12": wanted.package_arn}), NOW))

    assert did(plan(wanted, made(wanted, endpoint(config=wanted.name), schedule=schedule), NOW)) == "delete_schedule"
