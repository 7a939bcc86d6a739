"""What a stage file may say: SageMaker's limits with reasons, defaults, warnings, and the schema for editors."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle_lambdas import stage_schema
from lifecycle_lambdas.stage_schema import Batch, RealTime, Serverless, StageFileError, dump, parse
from tests.template.conftest import CHECKOUT

DEPLOYMENT = CHECKOUT / "{{cookiecutter.project}}" / "deployment"
PUBLISHED = json.loads((DEPLOYMENT / "stage.schema.json").read_text(encoding="utf-8"))
EDITOR = jsonschema.Draft202012Validator(PUBLISHED)
REAL_TIME = {"kind": "real_time", "instance_type": "ml.m5.large"}
TWO = {**REAL_TIME, "instance_count": 2}
BATCH = {
    "kind": "batch",
    "instance_type": "ml.m5.large",
    "schedule": "rate(1 day)",
    "input": "s3://bucket/in/",
    "output": "s3://bucket/out/",
}
TARGET = {"invocations_per_instance": 100}
USE = {"utilization": 0.7}
KEY = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
SUBNETS = {"subnets": ["subnet-0a1b2c3d", "subnet-0123456789abcdef0"], "security_groups": ["sg-0a1b2c3d"]}


def faults(content: Any, stage: str = "dev") -> str:
    with pytest.raises(StageFileError) as caught:
        parse(content, stage)
    assert str(caught.value) == "\n".join(caught.value.faults)
    return str(caught.value)


def real_time(stage: str = "dev", **fields: Any) -> RealTime:
    found = parse({**REAL_TIME, **fields}, stage)
    assert isinstance(found, RealTime)
    return found


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"instance_type": "m5.large"}, "^instance_type: 'm5.large' is not allowed: .*as in ml.m5.large"),
        ({"instance_count": 0}, "^instance_count: 0 is not allowed: it must be greater than or equal to 1"),
        ({"instance_count": True}, "^instance_count: True is not allowed: it must be a valid integer"),
        ({"instance_count": "2"}, "^instance_count: '2' is not allowed"),
        ({"instance_cuont": 2}, "^instance_cuont: there is no such field, did you mean instance_count"),
        ({"memory_mb": 2048}, "^memory_mb: that is for kind: serverless"),
        ({"rollout": "canary"}, "^rollout canary moves at most half .* 1 instance: set instance_count to 2"),
        ({"rollout": "linear"}, "^rollout linear moves at most half"),
        ({"rollout": "blue_green"}, "^rollout: 'blue_green' is no type of rollout: choose one of all_at_once, canary"),
        ({"rollout": {"size": "10%"}}, "^rollout: None is no type of rollout"),
        ({"rollout": {"type": "canary", "step": "10%"}}, r"^rollout.step: there is no such field.*known here: .*size"),
        ({"scaling": {"min": 1, "max": 4}}, "^scaling.target: the field is missing"),
        ({"scaling": {"min": 4, "max": 1, "target": TARGET}}, "^scaling: min 4 is more than max 1: exchange them"),
        ({"scaling": {"min": 0, "max": 1, "target": TARGET}}, "^scaling.min: 0 .*cannot be scaled to none"),
        (
            {"scaling": {"min": 1, "max": 2, "target": USE}},
            "^scaling.target.invocations_per_instance: the field is mis",
        ),
        ({"instance_count": 5, "scaling": {"min": 1, "max": 4, "target": TARGET}}, "^instance_count 5 is not within"),
        ({"alarms": {}}, "^alarms: none of error_share, p99_latency_ms and custom is set"),
        ({"alarms": {"error_share": 5}}, "^alarms.error_share: 5 .*less than 1: The share of requests, 0 to 1"),
        ({"alarms": {"p99_latency_ms": 0}}, "^alarms.p99_latency_ms: 0 .*greater than 0"),
        (
            {"alarms": {"p99_latency_ms": 70000}},
            "^alarms.p99_latency_ms: 70000 .*breaks a request off after 60 seconds",
        ),
        ({"alarms": {"error_share": 0.1, "period_seconds": 90}}, "^alarms.period_seconds: 90 .*multiple of 60"),
        ({"data_capture": {"percent": 0}}, "^data_capture.percent: 0 is not allowed"),
        ({"data_capture": {"capture": []}}, r"^data_capture.capture: \[\] is not allowed"),
        (
            {"data_capture": {"content_types": ["image/png"]}},
            "^data_capture.content_types: SageMaker keeps image/png in",
        ),
        ({"environment": {"THREADS": 2}}, "^environment.THREADS: 2 is not allowed.*values in quotes"),
        ({"environment": {"MY-NAME": "x"}}, "^environment.MY-NAME.*names of letters, digits and _"),
        ({"environment": {"SAGEMAKER_PROGRAM": "x.py"}}, "^environment: SAGEMAKER_PROGRAM is the version's own"),
        (
            {"vpc": {"subnets": ["vpc-1"], "security_groups": ["sg-0a1b2c3d"]}},
            r"^vpc.subnets.0: 'vpc-1' is not allowed",
        ),
        ({"vpc": {"subnets": ["subnet-0a1b2c3d"]}}, "^vpc.security_groups: the field is missing"),
        ({"kms_key": "alias/mine"}, "^kms_key: 'alias/mine' is not allowed: The ARN of the KMS key"),
        ({"kms_key": KEY, "instance_type": "ml.m5d.large"}, "^kms_key: ml.m5d.large has disks of its own"),
        ({"approval": "always"}, "^approval: 'always' is not allowed: it must be 'manual' or 'automatic'"),
    ],
)
def test_what_sagemaker_would_refuse_is_refused_with_the_reason(fields: dict[str, Any], message: str) -> None:
    assert re.search(message, faults({**REAL_TIME, **fields}))


@pytest.mark.parametrize(
    ("count", "rollout", "message"),
    [
        (4, {"type": "canary", "size": "60%"}, "^rollout.size: a canary of 60% is too large: .*at most 50%"),
        (4, {"type": "canary", "size": 3}, "canary of 3 instances is more than half .*: lower it to 2"),
        (
            4,
            {"type": "canary", "size": "half"},
            "^rollout.size: 'half' is no size: write a share of the instances",
        ),
        (4, {"type": "canary", "size": 0}, "^rollout.size: 0 is no size"),
        (4, {"type": "canary", "size": 0.1}, "^rollout.size: 0.1 is no size"),
        (4, {"type": "linear", "step": "5%"}, "^rollout.step: a step of 5% cannot be: .*10% to 50%"),
        (4, {"type": "linear", "step": "51%"}, "^rollout.step: a step of 51% cannot be"),
        (40, {"type": "linear", "step": 3}, "less than a tenth of the fleet.*: raise it to 4"),
        (4, {"type": "canary", "bake_minutes": 61}, "^rollout.bake_minutes: 61 .*0 to 3600 seconds"),
        (4, {"type": "all_at_once", "finish_bake_minutes": 61}, "^rollout.finish_bake_minutes: 61 .*0 to 3600 seconds"),
        (4, {"type": "linear", "step": "10%", "bake_minutes": 60}, "545 minutes in all.* than the 480 minutes"),
    ],
)
def test_a_rollout_that_sagemaker_would_not_take_is_refused(count: int, rollout: dict[str, Any], message: str) -> None:
    assert re.search(message, faults({**REAL_TIME, "instance_count": count, "rollout": rollout}))


def test_a_fleet_that_can_shrink_to_one_instance_cannot_be_canaried() -> None:
    scaling = {"min": 1, "max": 4, "target": TARGET}
    assert "scaling.min to 2 at least" in faults({**TWO, "scaling": scaling, "rollout": "canary"})
    assert real_time(scaling={**scaling, "min": 2}, rollout="canary").smallest_fleet == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vpc": SUBNETS}, "^vpc: SageMaker's serverless endpoints cannot be in a VPC"),
        ({"network_isolation": True}, "^network_isolation: SageMaker's serverless endpoints have no network isolation"),
        ({"data_capture": {}}, "^data_capture: SageMaker's serverless endpoints cannot capture data"),
        ({"rollout": "canary"}, "^rollout: SageMaker has no canary, linear or baking updates of serverless"),
        ({"kms_key": KEY}, "^kms_key: a serverless endpoint has no volume"),
        ({"instance_type": "ml.m5.large"}, "^instance_type: a serverless endpoint has no instances"),
        ({"memory_mb": 2000}, "^memory_mb: 2000 .*1024 to 6144, in steps of 1024"),
        ({"max_concurrency": 201}, "^max_concurrency: 201 "),
        ({"provisioned_concurrency": 6}, "^provisioned_concurrency 6 is more than max_concurrency 5"),
        ({"scaling": {"min": 1, "max": 2, "target": USE}}, "^scaling changes provisioned_concurrency, and none is set"),
        (
            {"provisioned_concurrency": 4, "scaling": {"min": 1, "max": 2, "target": USE}},
            "^provisioned_concurrency 4 is not within",
        ),
        (
            {"provisioned_concurrency": 4, "scaling": {"min": 1, "max": 9, "target": USE}},
            "^scaling.max 9 is more than max_concurrency 5",
        ),
    ],
)
def test_what_serverless_endpoints_cannot_do_is_said(fields: dict[str, Any], message: str) -> None:
    assert re.search(message, faults({"kind": "serverless", **fields}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rollout": "canary"}, "^rollout: a batch stage has no endpoint"),
        ({"input": "bucket/in"}, "^input: 'bucket/in' is not allowed"),
        ({"output": "s3://bucket/in/out/"}, "^output lies below input .*: the next run would predict the answers too"),
        (
            {"content_type": "application/x-parquet"},
            "^split: line needs a content_type of which every line is a record",
        ),
        ({"join_input": True, "split": "none"}, "^join_input writes record and answer as one line"),
        ({"join_input": True, "accept": "application/json"}, "^join_input writes record and answer as one line"),
        ({"max_payload_mb": 101}, "^max_payload_mb: 101 "),
        ({"timezone": "Europe/Berin"}, "^timezone: there is no time zone 'Europe/Berin'"),
        ({"schedule": "daily"}, "^schedule: 'daily' is no schedule: write rate"),
        ({"kms_key": KEY, "instance_type": "ml.g5.xlarge"}, "^kms_key: ml.g5.xlarge has disks of its own"),
    ],
)
def test_a_batch_stage_that_could_not_run_is_refused(fields: dict[str, Any], message: str) -> None:
    assert re.search(message, faults({**BATCH, **fields}))


@pytest.mark.parametrize(
    "schedule",
    [
        "rate(1 day)",
        "rate(15 minutes)",
        "cron(0 6 * * ? *)",
        "cron(0/15 8-17 ? * MON-FRI *)",
        "cron(0 0 L * ? 2026-2030)",
        "cron(30 5 15W JAN,JUL ? *)",
        "cron(0 9 ? * 6#3 *)",
        "cron(*/5 * ? * 2L *)",
    ],
)
def test_schedules_of_eventbridge_are_taken(schedule: str) -> None:
    assert parse({**BATCH, "schedule": schedule}, "dev").kind == "batch"


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("rate(0 days)", "is no schedule"),
        ("rate(1 week)", "is no schedule"),
        ("rate(1\N{ARABIC-INDIC DIGIT TWO} days)", "is no schedule"),
        ("at(2026-11-21T06:00:00)", "would run once alone"),
        ("cron(0 6 * * *)", "is no schedule.*six fields"),
        ("cron(60 6 * * ? *)", "'60' is not allowed for the minutes: write 0 to 59"),
        ("cron(0 24 * * ? *)", "'24' is not allowed for the hours"),
        ("cron(0 6 0 * ? *)", "'0' is not allowed for the day of the month"),
        ("cron(0 6 * 13 ? *)", "'13' is not allowed for the month"),
        ("cron(0 6 ? * MON-FRY *)", "'MON-FRY' is not allowed for the day of the week"),
        ("cron(0 17-8 ? * 2 *)", "'17-8' is not allowed for the hours"),
        ("cron(0/0 6 ? * 2 *)", "'0/0' is not allowed for the minutes"),
        ("cron(0 6 ? * 2 1969)", "'1969' is not allowed for the year"),
        ("cron(0 6 * * * *)", "exactly one of day of the month and day of the week must be"),
        ("cron(0 6 ? * ? *)", "exactly one of day of the month and day of the week must be"),
    ],
)
def test_schedules_that_eventbridge_would_refuse_are_refused(schedule: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stage_schema.check_schedule(schedule)


@pytest.mark.parametrize(
    "place",
    [{"role": "x"}, {"execution_role_arn": "x"}, {"Role": "x"}, {"vpc": {**SUBNETS, "role_arn": "x"}}],
)
@pytest.mark.parametrize("content", [REAL_TIME, {"kind": "serverless"}, BATCH])
def test_a_role_is_refused_wherever_it_stands(content: dict[str, Any], place: dict[str, Any]) -> None:
    said = faults({**content, **place})
    if not ("vpc" in place and content["kind"] == "serverless"):
        assert "a stage file cannot name a role: who may push to this repository would choose" in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "kind: the field is missing: add it (real_time, serverless, batch)"),
        ({"kind": "asynchronous"}, "kind: asynchronous is not built yet: choose one of real_time, serverless, batch"),
        ({"kind": "multi_model"}, "kind: multi_model is not built yet"),
        ({"kind": "realtime"}, "did you mean real_time?"),
        ({"kind": ["batch"]}, "kind: ['batch'] is none"),
        ([REAL_TIME], "it must hold fields (name: value), but is list"),
        (None, "it must hold fields (name: value), but is NoneType"),
    ],
)
def test_a_file_without_a_kind_of_ours_is_refused(content: Any, message: str) -> None:
    assert message in faults(content)


def test_every_fault_is_told_at_once() -> None:
    found = faults({"kind": "real_time", "instance_count": 0, "dashbord": True, "scaling": {"min": "a"}})
    assert len(found.splitlines()) == 6


# --- defaults and derived values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "count"), [("feature", 1), ("dev", 1), ("challenger", 1), ("prod", 2), ("champion", 2)]
)
def test_what_users_are_served_with_has_two_instances_by_default(stage: str, count: int) -> None:
    assert real_time(stage).instance_count == count
    assert real_time(stage, instance_count=3).instance_count == 3


def test_the_default_count_is_within_the_bounds_of_scaling() -> None:
    assert real_time("dev", scaling={"min": 3, "max": 6, "target": TARGET}).instance_count == 3
    assert real_time("prod", scaling={"min": 1, "max": 1, "target": TARGET}).instance_count == 1


def test_a_bare_off_is_off_however_yaml_reads_it() -> None:
    text = "kind: real_time\ninstance_type: ml.m5.large\nscaling: off\nalarms: off\ndata_capture: off\n"
    found = parse(yaml.safe_load(text), "dev")
    assert isinstance(found, RealTime)
    assert (found.scaling, found.alarms, found.data_capture) == (None, None, None)
    assert found == real_time(scaling="off", alarms=None, data_capture=False)


def test_latency_is_in_microseconds_and_errors_are_a_share_for_cloudwatch() -> None:
    custom = {"namespace": "Modelyard", "metric": "Drift", "threshold": 1, "statistic": "p90", "dimensions": {"A": "b"}}
    alarms = real_time(alarms={"error_share": 0.05, "p99_latency_ms": 500, "custom": custom, "periods": 2}).alarms
    assert alarms is not None
    errors, latency, own = alarms.specs
    assert (errors.metric, errors.threshold, errors.statistic_argument) == (
        "Invocation5XXErrors",
        0.05,
        {"Statistic": "Average"},
    )
    assert (latency.metric, latency.threshold, latency.statistic_argument) == (
        "ModelLatency",
        500_000,
        {"ExtendedStatistic": "p99"},
    )
    assert {errors.namespace, latency.namespace} == {"AWS/SageMaker"}
    assert (own.namespace, own.dimensions, own.statistic_argument) == (
        "Modelyard",
        {"A": "b"},
        {"ExtendedStatistic": "p90"},
    )
    assert alarms.seconds_until_raised == 120


@pytest.mark.parametrize(
    ("custom", "message"),
    [
        ({"namespace": "AWS/SageMaker", "metric": "CPUUtilization"}, "is in the namespace /aws/sagemaker/Endpoints"),
        ({"namespace": "AWS/SageMaker", "metric": "OverheadLatency", "statistic": "p99"}, "no percentiles"),
        ({"namespace": "AWS/SageMaker", "metric": "Invocations", "statistic": "Mean"}, "Average, Sum"),
    ],
)
def test_an_alarm_that_could_never_be_raised_is_refused(custom: dict[str, Any], message: str) -> None:
    assert message in faults({**REAL_TIME, "alarms": {"custom": {**custom, "threshold": 1}}})


@pytest.mark.parametrize(
    ("rollout", "capacity", "seconds"),
    [
        ("all_at_once", None, (0, 0, 1800)),
        ({"type": "all_at_once", "finish_bake_minutes": 2.5}, None, (0, 150, 1950)),
        ("canary", {"Type": "CAPACITY_PERCENT", "Value": 10}, (600, 300, 2700)),
        ({"type": "canary", "size": 2}, {"Type": "INSTANCE_COUNT", "Value": 2}, (600, 300, 2700)),
        # four steps of a quarter, with three waits between them
        ("linear", {"Type": "CAPACITY_PERCENT", "Value": 25}, (300, 300, 3 * 300 + 300 + 1800)),
    ],
)
def test_minutes_become_the_seconds_of_updateendpoint(
    rollout: Any, capacity: dict[str, Any] | None, seconds: tuple[int, int, int]
) -> None:
    found = real_time(instance_count=4, rollout=rollout).rollout
    assert (found.wait_seconds, found.termination_wait_seconds, found.maximum_execution_seconds) == seconds
    assert getattr(found, "capacity", None) == capacity


def test_content_types_and_directions_of_data_capture_are_those_of_sagemaker() -> None:
    capture = real_time(data_capture={"percent": 20, "capture": ["input"]}).data_capture
    assert capture is not None
    assert (capture.csv_content_types, capture.json_content_types) == (["text/csv"], ["application/json"])
    assert capture.capture_modes == [{"CaptureMode": "Input"}]


# --- going back -----------------------------------------------------------------------------------------------------


def test_going_back_keeps_the_capacity_that_serves_now() -> None:
    old = real_time(instance_type="ml.m5.xlarge", instance_count=6, alarms={"error_share": 0.1})
    now = real_time(instance_count=3, scaling={"min": 2, "max": 5, "target": TARGET})
    both = stage_schema.with_capacity_of(old, now)
    assert isinstance(both, RealTime)
    assert (both.instance_type, both.instance_count, both.scaling) == ("ml.m5.large", 3, now.scaling)
    assert both.alarms == old.alarms


def test_going_back_to_a_fleet_that_is_too_small_for_a_canary_is_all_at_once() -> None:
    old = real_time(instance_count=4, rollout={"type": "canary", "size": 2})
    both = stage_schema.with_capacity_of(old, real_time(instance_count=1))
    assert isinstance(both, RealTime)
    assert (both.instance_count, both.rollout.type) == (1, "all_at_once")


def test_going_back_to_another_kind_keeps_nothing_and_replaces_what_serves() -> None:
    old = parse({"kind": "serverless"}, "dev")
    assert stage_schema.with_capacity_of(old, real_time()) == parse({"kind": "serverless", "replace": True}, "dev")
    now = parse({"kind": "serverless", "memory_mb": 4096, "max_concurrency": 9}, "dev")
    assert stage_schema.with_capacity_of(old, now) == now


# --- warnings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "content", "message"),
    [
        ("prod", {**REAL_TIME, "instance_count": 1}, "prod can be on one instance"),
        ("champion", {**TWO, "scaling": {"min": 1, "max": 2, "target": TARGET}}, "champion can be on one instance"),
        ("dev", {**REAL_TIME, "instance_count": 3}, "6 in all: the quota of instances per endpoint is 4"),
        ("dev", {**TWO, "rollout": "canary"}, "rollout canary without alarms"),
        ("dev", {**REAL_TIME, "alarms": {"error_share": 0.1}}, "alarms without bake times"),
        (
            "dev",
            {
                **REAL_TIME,
                "rollout": {"type": "all_at_once", "finish_bake_minutes": 1},
                "alarms": {"error_share": 0.1, "periods": 3},
            },
            "the alarms need 180 s to be raised, and the rollout watches for 60 s",
        ),
        ("dev", {**TWO, "vpc": {**SUBNETS, "subnets": ["subnet-0a1b2c3d"]}}, "one subnet"),
        ("prod", {"kind": "serverless"}, "the first answer after a pause"),
        ("prod", {**TWO, "approval": "automatic"}, "served to users, seen by nobody"),
        ("dev", {"kind": "serverless", "replace": True}, "an outage"),
    ],
)
def test_what_may_not_be_meant_is_warned_of(stage: str, content: dict[str, Any], message: str) -> None:
    found = stage_schema.warnings(parse(content, stage), stage)
    assert [text for text in found if message in text], found


def test_nothing_is_warned_of_without_a_reason() -> None:
    careful = {**TWO, "rollout": "canary", "alarms": {"error_share": 0.01, "p99_latency_ms": 500}}
    for stage, content in (("dev", REAL_TIME), ("prod", REAL_TIME), ("prod", careful), ("dev", BATCH)):
        assert stage_schema.warnings(parse(content, stage), stage) == []


# --- the published schema and documentation -------------------------------------------------------------------------


def test_the_published_schema_is_the_one_that_is_checked_with() -> None:
    wanted = json.dumps(stage_schema.json_schema(), indent=2) + "\n"
    found = (DEPLOYMENT / "stage.schema.json").read_text(encoding="utf-8")
    assert found == wanted, "python -m pipeline schema > deployment/stage.schema.json, in the template's folder"
    jsonschema.Draft202012Validator.check_schema(PUBLISHED)


def test_the_stage_files_of_the_template_name_the_schema_and_keep_to_it() -> None:
    paths = sorted(DEPLOYMENT.glob("*.yaml*"))  # some names hold the question for which scenario they are
    assert len(paths) == 5
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# yaml-language-server: $schema=stage.schema.json\n")
        content = yaml.safe_load(text)
        EDITOR.validate(content)
        (stage,) = re.findall(r'stage "(\w+)"', text)
        assert stage_schema.warnings(parse(content, stage), stage) == []


def test_the_stage_files_of_the_template_watch_what_serves_and_park_what_is_forgotten() -> None:
    found = {}
    for path in DEPLOYMENT.glob("*.yaml*"):
        text = path.read_text(encoding="utf-8")
        (stage,) = re.findall(r'stage "(\w+)"', text)
        found[stage] = dump(parse(yaml.safe_load(text), stage))

    for stage in ("prod", "champion", "challenger"):
        alarms = found[stage]["alarms"]
        assert None not in (alarms["error_share"], alarms["p99_latency_ms"]), stage
        assert alarms["go_back"] is None, "as the stage has it: in prod and champion"
    assert (found["feature"]["park"]["idle_hours"], found["dev"]["park"]) == (24, None)
    assert found["feature"]["clean"] == {"versions_after_days": 90, "pipelines_after_days": 30}


def test_the_schema_refuses_what_editors_can_see() -> None:
    for content in (
        {**REAL_TIME, "role": "x"},
        {**REAL_TIME, "rollout": "blue_green"},
        {"kind": "serverless", "memory_mb": 2000},
        {"kind": "serverless", "vpc": SUBNETS},
        {"kind": "multi_model"},
        {**BATCH, "input": "bucket"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            EDITOR.validate(content)


@pytest.mark.parametrize("content", [REAL_TIME, {"kind": "serverless"}])
def test_endpoint_tests_are_run_every_five_minutes_to_once_a_day(content: dict[str, Any]) -> None:
    for minutes in (5, 1440):
        stage_file = parse({**content, "tests": {"every_minutes": minutes}}, "prod")
        assert stage_schema.dump(stage_file)["tests"] == {"every_minutes": minutes}
    assert stage_schema.dump(parse({**content, "tests": False}, "prod"))["tests"] is None
    for minutes in (4, 1441):
        with pytest.raises(StageFileError, match=r"tests\.every_minutes.*5 to 1440"):
            parse({**content, "tests": {"every_minutes": minutes}}, "prod")


def test_a_batch_stage_has_nothing_to_be_tested_between_its_runs() -> None:
    with pytest.raises(StageFileError, match=r"tests.*when it is deployed"):
        parse({**BATCH, "tests": {"every_minutes": 5}}, "dev")


def test_what_is_tested_all_the_time_is_never_idle() -> None:
    with pytest.raises(StageFileError, match=r"never idle.*set tests to off, or park to nightly or weekly"):
        parse({**REAL_TIME, "tests": {"every_minutes": 5}, "park": {"idle_hours": 3}}, "dev")


def test_the_reference_names_every_field() -> None:
    text = (DEPLOYMENT / "README.md").read_text(encoding="utf-8")
    named = {name for code in re.findall(r"`([^`\n]+)`", text) for name in re.findall(r"\w+", code)}
    fields = {name for part in PUBLISHED["$defs"].values() for name in part["properties"]}
    assert fields - named == set()
    assert all(f"\n## {kind}\n" in text for kind in stage_schema.KINDS)


# --- every combination ----------------------------------------------------------------------------------------------

counts = st.integers(1, 12)
minutes = st.integers(0, 60) | st.just(0.5)
sizes = st.integers(1, 60).map(lambda share: f"{share}%") | st.integers(1, 6)
rollouts = st.one_of(
    st.sampled_from(["all_at_once", "canary", "linear"]),
    st.fixed_dictionaries({"type": st.just("all_at_once")}, optional={"finish_bake_minutes": minutes}),
    st.fixed_dictionaries(
        {"type": st.just("canary")},
        optional={"size": sizes, "bake_minutes": minutes, "finish_bake_minutes": minutes},
    ),
    st.fixed_dictionaries(
        {"type": st.just("linear")},
        optional={"step": sizes, "bake_minutes": minutes, "finish_bake_minutes": minutes},
    ),
)
scalings = st.just("off") | st.fixed_dictionaries({"min": counts, "max": counts, "target": st.just(TARGET)})
alarm_sets = st.just("off") | st.fixed_dictionaries(
    {},
    optional={
        "error_share": st.floats(0, 1, exclude_max=True),
        "p99_latency_ms": st.integers(1, 59999),
        "period_seconds": st.sampled_from([60, 120, 600]),
        "periods": st.integers(1, 24),
    },
)
captures = st.just("off") | st.fixed_dictionaries({}, optional={"percent": st.integers(1, 100)})
common = {
    "environment": st.dictionaries(st.sampled_from(["A", "_B1"]), st.text(max_size=9), max_size=2),
    "replace": st.booleans(),
    "approval": st.sampled_from(["manual", "automatic"]),
}
real_times = st.fixed_dictionaries(
    {"kind": st.just("real_time"), "instance_type": st.sampled_from(["ml.m5.large", "ml.m5d.xlarge"])},
    optional={
        **common,
        "instance_count": counts,
        "scaling": scalings,
        "rollout": rollouts,
        "alarms": alarm_sets,
        "data_capture": captures,
        "dashboard": st.booleans(),
        "vpc": st.sampled_from([None, SUBNETS]),
        "kms_key": st.sampled_from([None, KEY]),
        "network_isolation": st.booleans(),
    },
)
serverless = st.fixed_dictionaries(
    {"kind": st.just("serverless")},
    optional={
        **common,
        "memory_mb": st.sampled_from([1024, 6144]),
        "max_concurrency": st.integers(1, 200),
        "provisioned_concurrency": st.none() | st.integers(1, 200),
        "scaling": st.just("off") | st.fixed_dictionaries({"min": counts, "max": counts, "target": st.just(USE)}),
        "alarms": alarm_sets,
    },
)
batches = st.fixed_dictionaries(
    {key: st.just(value) for key, value in BATCH.items()},
    optional={
        **common,
        "instance_count": counts,
        "content_type": st.sampled_from(["text/csv", "application/x-ndjson", "application/x-parquet"]),
        "split": st.sampled_from(["line", "none"]),
        "join_input": st.booleans(),
    },
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(real_times, serverless, batches), st.sampled_from(["dev", "prod"]))
def test_whatever_is_taken_is_within_the_limits_of_aws_and_reads_back_as_it_was(
    content: dict[str, Any], stage: str
) -> None:
    try:
        found = parse(content, stage)
    except StageFileError:
        return
    # what is kept of a deployment is this, as JSON
    assert parse(json.loads(json.dumps(stage_schema.dump(found))), "feature") == found
    EDITOR.validate(content)
    assert all(stage_schema.warnings(found, stage))
    assert stage_schema.with_capacity_of(found, found) == found
    if isinstance(found, RealTime):
        rollout = found.rollout
        assert 0 <= rollout.wait_seconds <= 3600
        assert 0 <= rollout.termination_wait_seconds <= 3600
        assert 600 <= rollout.maximum_execution_seconds <= 28800
        assert 1 <= found.smallest_fleet <= found.instance_count <= found.largest_fleet
        if rollout.type != "all_at_once":
            size = rollout.capacity
            share = size["Value"] if size["Type"] == "CAPACITY_PERCENT" else 100 * size["Value"] / found.smallest_fleet
            assert found.smallest_fleet >= 2
            assert share <= 50
    if isinstance(found, Serverless):
        assert found.config["MemorySizeInMB"] % 1024 == 0
        assert found.config.get("ProvisionedConcurrency", 1) <= found.config["MaxConcurrency"] <= 200
    if isinstance(found, Batch):
        assert (found.split_type, found.assemble_with) in (("Line", "Line"), ("None", "None"))


@settings(max_examples=200, deadline=None)
@given(real_times, real_times)
def test_going_back_always_finds_a_stage_file_that_can_be_deployed(
    old: dict[str, Any], serving: dict[str, Any]
) -> None:
    try:
        wanted, now = parse(old, "dev"), parse(serving, "dev")
    except StageFileError:
        return
    both = stage_schema.with_capacity_of(wanted, now)
    assert parse(stage_schema.dump(both), "dev") == both
