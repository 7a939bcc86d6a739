"""An approval deploys, a rejection takes away: end to end through the installed platform, real answers checked."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests import proof
from tests.lifecycle_lambdas.executions import commented, trained, training_workshop
from tests.local_aws.waiting import wait_for
from tests.story.least_privilege import after_the_whole_module, counts, denied, reports, unexplained, unneeded
from tests.story.platform import ARTIFACTS, BATCH_DATA, REAL_TIME, WAIT, Project
from tests.story.traffic import Traffic


def test_an_approved_version_serves_a_newer_one_replaces_it_and_rejections_lead_back_to_nothing(project):
    first, second = project.register("first"), project.register("second")

    project.approve(first)
    project.deployed(first)
    project.serves("first")
    with Traffic(project.runtime, project.endpoint, "1\n") as traffic:
        project.approve(second)
        project.deployed(second)
        project.serves("second")
        project.reject(second)
        project.serves("first")
    project.reject(first)
    project.gone()

    assert traffic.failed == []
    assert {answer.answer[0]["version"] for answer in traffic.answered} == {"first", "second"}
    project.until(lambda: not any(project.resources().values()), "all to be swept", lambda: str(project.resources()))


HALF = 0.5  # of the traffic, for the new version


def by_chance(share: float, requests: int) -> float:
    """How far from its share of so many requests, each routed by lot, a version may be: four standard deviations.

    Chance alone goes beyond in one of ten thousand runs, on fast machines and on slow ones. Too few requests to tell
    the share from all of them fail the test.
    """
    spread = 4 * math.sqrt(share * (1 - share) / requests)
    assert share + spread < 1, f"{requests} requests say nothing about a share of {share}"
    return spread


CANARY = REAL_TIME + "rollout: {type: canary, size: 50%, bake_minutes: 10}\nalarms: {error_share: 0.05}\n"
LINEAR = REAL_TIME + "rollout: {type: linear, step: 50%, bake_minutes: 5}\nalarms: {error_share: 0.05}\n"
ROLLOUTS = [pytest.param(CANARY, id="canary"), pytest.param(LINEAR, id="linear", marks=pytest.mark.slow)]


@pytest.mark.parametrize("stage_file", ROLLOUTS)
def test_a_good_version_is_rolled_out_in_steps_without_a_failed_request(project, stage_file):
    first, second = project.register("first"), project.register("second", stage_file)
    project.approve(first)
    project.deployed(first)

    with Traffic(project.runtime, project.endpoint, "1\n") as traffic:
        project.approve(second)
        project.deployed(second)

    names = [answer.answer[0]["version"] for answer in traffic.answered if answer.error is None]
    mixed = names[names.index("second") : len(names) - names[::-1].index("first")]
    assert traffic.failed == []
    assert abs(mixed.count("second") / len(mixed) - HALF) < by_chance(HALF, len(mixed))
    project.serves("second")


@pytest.mark.parametrize("stage_file", ROLLOUTS)
def test_a_bad_version_fails_no_more_than_its_share_and_goes_back_by_itself(project, stage_file):
    # Failures of more than a whole period, however it falls: enough requests for a share to be counted. The bake
    # outlasts the alarm, so that no machine is slow enough for the next step to come first.
    watched = re.sub("bake_minutes: [0-9]+", "bake_minutes: 60", stage_file)
    watched = watched.replace("error_share: 0.05", "error_share: 0.05, period_seconds: 300, periods: 2")
    first, second = project.register("first"), project.register("second", watched, fails=True)
    project.approve(first)
    project.deployed(first)

    with Traffic(project.runtime, project.endpoint, "1\n", pause=0.002) as traffic:
        project.approve(second)
        project.deployed(second, "failed")
        project.serves("first")

    failed = [answer for answer in traffic.answered if answer.error is not None]
    during = [answer for answer in traffic.answered if failed[0].at <= answer.at <= failed[-1].at]
    assert len(failed) / len(during) < HALF + by_chance(HALF, len(during))
    assert "Received server error (500)" in str(failed[0].error)
    assert project.package(second)["ModelApprovalStatus"] == "Rejected"
    assert "rollback-errors" in project.package(second)["ApprovalDescription"]


ONE = REAL_TIME.replace("instance_count: 2", "instance_count: 1")


def test_a_version_that_is_rejected_in_its_canary_gives_way_at_once_without_a_failed_request(project):
    slow = CANARY.replace("bake_minutes: 10", "bake_minutes: 60")
    first, second = project.register("first"), project.register("second", slow)
    project.approve(first)
    project.deployed(first)

    with Traffic(project.runtime, project.endpoint, "1\n") as traffic:
        project.approve(second)
        project.until(lambda: project.ask() == "second", "the canary to answer", lambda: str(project.describe()))
        project.reject(second)
        project.serves("first")

    assert traffic.failed == []
    assert project.describe()["EndpointConfigName"] == f"{project.endpoint}-1"


SERVERLESS = "kind: serverless\nmemory_mb: 2048\nmax_concurrency: 3\n"


def test_a_serverless_version_is_approved_replaced_and_rejected(project):
    first, second = project.register("first", SERVERLESS), project.register("second", SERVERLESS)
    project.approve(first)
    project.deployed(first)
    project.serves("first")

    project.approve(second)
    project.deployed(second)
    project.serves("second")
    project.reject(second)
    project.serves("first")

    variant = project.describe()["ProductionVariants"][0]
    assert variant["CurrentServerlessConfig"] == {"MemorySizeInMB": 2048, "MaxConcurrency": 3}


def test_a_change_of_kind_is_refused_with_the_remedy_unless_the_stage_file_accepts_the_outage(project):
    first, second = project.register("first"), project.register("second", SERVERLESS)
    third = project.register("third", SERVERLESS + "replace: true\n")
    project.approve(first)
    project.deployed(first)

    project.approve(second)
    project.deployed(second, "failed")
    assert "replace: true" in project.package(second)["ApprovalDescription"]
    project.serves("first")
    project.approve(third)
    project.deployed(third)

    project.serves("third")


def test_batch_jobs_run_on_their_schedule_with_the_approved_version_and_never_with_a_rejected_one(platform, project):
    s3, bucket = platform.client("s3"), BATCH_DATA
    s3.put_object(Bucket=bucket, Key=f"{project.name}/in/rows.csv", Body=b"1\n2\n3\n")
    stage_file = (
        "kind: batch\ninstance_type: ml.m5.large\nschedule: rate(5 minutes)\n"
        f"input: s3://{bucket}/{project.name}/in/\noutput: s3://{bucket}/{project.name}/out/\n"
        "content_type: text/csv\n"
    )
    first = project.register("first", stage_file)

    project.approve(first)
    project.deployed(first)

    def results() -> list[str]:
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"{project.name}/out/").get("Contents", [])
        return [item["Key"] for item in listed]

    project.until(lambda: len(results()) >= 2, "two runs", lambda: str(results()))
    answer = json.loads(s3.get_object(Bucket=bucket, Key=results()[0])["Body"].read().splitlines()[0])
    assert answer["predictions"][0] == {"version": "first", "value": 2.0}
    project.reject(first)
    schedules = platform.client("scheduler")
    project.until(
        lambda: not schedules.list_schedules(NamePrefix=project.endpoint)["Schedules"],
        "the schedule to go",
        lambda: str(schedules.list_schedules()),
    )
    project.until(lambda: not any(project.resources().values()), "all to be swept", lambda: str(project.resources()))


def test_a_batch_stage_becomes_an_endpoint_and_goes_back_to_its_schedule(platform, project):
    batch = (
        "kind: batch\ninstance_type: ml.m5.large\nschedule: rate(1 day)\n"
        f"input: s3://{BATCH_DATA}/{project.name}/in/\noutput: s3://{BATCH_DATA}/{project.name}/out/\n"
    )
    first, second = project.register("first", batch), project.register("second", SERVERLESS)
    schedules = platform.client("scheduler")

    def scheduled() -> int:
        return len(schedules.list_schedules(NamePrefix=project.endpoint)["Schedules"])

    project.approve(first)
    project.deployed(first)
    assert (scheduled(), project.describe()) == (1, None)
    project.approve(second)
    project.deployed(second)
    project.serves("second")
    assert scheduled() == 0
    project.reject(second)
    project.gone()

    project.until(lambda: scheduled() == 1, "the schedule to come back", lambda: str(scheduled()))


def test_what_scaling_has_set_outlives_an_update_and_another_instance_type(platform, project):
    scaled = "scaling: {min: 1, max: 4, target: {invocations_per_instance: 1000}}\n"
    more, captured = scaled.replace("max: 4", "max: 5"), "data_capture: {percent: 100}\n"
    first, second = project.register("first", ONE + scaled), project.register("second", ONE + more)
    larger = project.register("third", ONE.replace("m5.large", "m5.xlarge") + more + captured)
    project.approve(first)
    project.deployed(first)
    assert project.resources()["targets"] == [f"endpoint/{project.endpoint}/variant/AllTraffic"]
    project.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=project.endpoint,
        DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 2}],
    )
    project.serves("first")

    project.approve(second)
    project.deployed(second)
    assert project.describe()["ProductionVariants"][0]["DesiredInstanceCount"] == 2
    project.approve(larger)
    project.deployed(larger)

    assert project.resources()["targets"] == [f"endpoint/{project.endpoint}/variant/AllTraffic"]
    project.serves("third")
    for version in (larger, second, first):
        project.reject(version)
    project.gone()


@pytest.mark.parametrize(
    "fault",
    [
        {"double": 1.0},
        {"lose": 1.0},
        pytest.param({"delay_seconds": 120.0}, marks=pytest.mark.slow),
        pytest.param({"reorder": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_doubled_lost_late_and_reordered_events_end_the_same_way(platform, project, fault):
    versions = [project.register(name) for name in ("first", "second", "third")]
    platform.configure("events", fault)
    try:
        for version in versions:
            project.approve(version)
        project.deployed(versions[-1])
        project.serves("third")
        project.reject(versions[-1])
        project.serves("second")
    finally:
        platform.configure("events", {"double": 0.0, "lose": 0.0, "delay_seconds": 0.0, "reorder": False})


def test_two_approvals_at_once_end_with_the_later_version(project):
    first, second = project.register("first"), project.register("second")

    threads = [threading.Thread(target=project.approve, args=(arn,)) for arn in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    approved = {arn: project.package(arn)["LastModifiedTime"] for arn in (first, second)}
    assert len(approved) == 2
    project.deployed(second)
    project.serves("second")


def test_a_stage_file_that_is_not_the_registered_one_is_refused(project):
    first = project.register("first", **{f"deployment__sha256__{project.stage}": "0" * 64})

    project.approve(first)
    project.deployed(first, "failed")

    assert "Find out who changed it" in project.package(first)["ApprovalDescription"]
    assert project.describe() is None


def test_a_first_version_that_does_not_load_is_rejected_and_leaves_nothing(project):
    first = project.register("first", loads=False)

    project.approve(first)
    project.deployed(first, "failed")

    assert project.package(first)["ModelApprovalStatus"] == "Rejected"
    project.gone()
    project.until(lambda: not any(project.resources().values()), "all to be swept", lambda: str(project.resources()))


def test_an_operator_goes_back_to_a_version_that_is_still_approved_keeping_the_capacity(platform, project):
    first = project.register("first", ONE)
    second = project.register("second")
    for version in (first, second):
        project.approve(version)
        project.deployed(version)
    command = [sys.executable, "-m", "lifecycle_lambdas", "go-back", project.endpoint, "1", "--why", "a drill", "--yes"]
    result = subprocess.run(command, env=os.environ | platform.environment, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout + result.stderr
    project.serves("first")
    assert project.describe()["ProductionVariants"][0]["DesiredInstanceCount"] == 2


def test_versions_are_approved_automatically_only_where_the_group_allows_it(platform):
    open_stage = Project.create(platform, "dev", approval="automatic")
    closed = Project.create(platform, "dev")
    stage_file = REAL_TIME + "approval: automatic\n"

    waits, goes = closed.register("waits", stage_file), open_stage.register("goes", stage_file)
    open_stage.deployed(goes)

    open_stage.serves("goes")
    assert closed.package(waits)["ModelApprovalStatus"] == "PendingManualApproval"
    assert closed.describe() is None


@pytest.mark.slow  # what a killed function held is free after half a minute
def test_a_function_that_is_killed_again_and_again_ends_the_same_way(platform, project):
    first, second = project.register("first"), project.register("second", CANARY)
    project.approve(first)
    project.deployed(first)

    with Traffic(project.runtime, project.endpoint, "1\n") as traffic:
        project.approve(second)
        killed = sum(kill_functions(platform.server.pid) for _ in range(6))
        project.deployed(second)

    assert killed >= 1
    assert traffic.failed == []
    project.serves("second")


def kill_functions(server: int) -> int:
    """Kill -9 the server's processes that run functions, after a moment; how many there were."""
    time.sleep(0.15)
    children = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    found = [line.split(None, 2) for line in children.splitlines()]
    functions = [int(pid) for pid, parent, args in found if int(parent) == server and "/runtimes/" in args]
    for pid in functions:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(functions)


def test_a_plan_says_what_an_approval_would_do(platform, project):
    first, second = project.register("first", ONE), project.register("second", CANARY)

    def operations(version: str) -> list[str]:
        request = {"project": project.name, "stage": project.stage, "package_arn": version, "stage_file": None}
        answer = platform.client("lambda").invoke(FunctionName="modelyard-plan", Payload=json.dumps(request).encode())
        plan = json.loads(answer["Payload"].read())
        assert plan["refused"] is None
        return [call["operation"] for call in plan["calls"] if "operation" in call]

    assert operations(first)[:3] == ["create_model", "create_endpoint_config", "create_endpoint"]
    project.approve(first)
    project.deployed(first)
    assert "update_endpoint" in operations(second)


def test_an_execution_that_ends_is_told_at_the_commit_that_it_trained(platform):
    repository = commented(platform.client, {"modelyard:project": "told"})
    arn = trained(training_workshop(platform), "told", repository.arn, repository.second, ARTIFACTS)
    said = wait_for(lambda: repository.comments(repository.second, repository.first), WAIT)
    assert len(said) == 1
    assert "auc 0.91 (must be at least 0.8): version 1 of told-dev waits for approval" in said[0]
    assert arn in said[0]


# --- last: what the platform's roles were asked in all tests of this module, with IAM enforced


@pytest.fixture
def roles(platform, request):
    after_the_whole_module(request)
    # What makes projects is asked of in test_projects.py, what cleans them up in test_cleaning.py, what tests endpoints
    # in test_endpoint_tests.py.
    found = reports(platform, "modelyard-*")
    elsewhere = ("modelyard-seed-", "modelyard-launch-", "modelyard-clean-", "modelyard-endpoint-tests-")
    return [one for one in found if not one.name.startswith(elsewhere)]


def test_no_role_of_the_platform_was_denied_anything(roles):
    assert len(roles) == 7
    assert denied(roles) == []


def test_without_any_one_of_its_permissions_a_role_of_the_platform_would_have_been_denied(roles, platform):
    """But for those that no test uses, each with its reason."""
    assert unexplained(roles) == []
    assert unneeded(roles, "platform") == []
    proof.keep("permissions_platform", counts(platform, roles))
