"""Removing an endpoint for good: everything of it goes, nobody else's does, and a project of its name begins anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from lifecycle_lambdas.records import OFF, PolicyRecord, TestSchedule
from tests.lifecycle_lambdas.fault_matrix import (
    ALL_AT_ONCE,
    BATCH,
    CANARIED,
    GROUP,
    SCALED,
    SERVERLESS,
    first_deployment,
    served,
    undisturbed,
)
from tests.lifecycle_lambdas.simulated_aws import arn, refusal
from tests.lifecycle_lambdas.simulated_platform import Platform

THINGS = ("endpoints", "models", "configs", "alarms", "targets", "policies", "dashboards", "schedules")
TEN_MINUTES = 601


@pytest.fixture
def platform() -> Iterator[Platform]:
    platform = Platform()
    platform.outage_allowed = True
    with platform.installed():
        yield platform


def left(platform: Platform) -> dict[str, list[str]]:
    """What is there, by kind."""
    found = {what: getattr(platform.aws, what) for what in THINGS}
    return {what: sorted(things) for what, things in found.items() if things}


def check_removed(platform: Platform) -> None:
    """Nothing is left, nobody looks at it any more, and nothing was lost."""
    platform.run()
    assert left(platform) == {}
    assert platform.state is not None
    assert platform.state.status == "removed"
    assert platform.dead_letters == platform.faults == []
    calls = len(platform.aws.calls)
    platform.pass_time(2 * TEN_MINUTES)
    looked = set(platform.aws.calls[calls:]) - {"ListModelPackageGroups"}
    # with its group gone there is nothing to ask about it; else its group is asked for what was approved since
    assert looked <= ({"Query"} if GROUP not in platform.aws.tags else {*looked} - {"CreateModel", "DeleteEndpoint"})


@pytest.mark.parametrize(
    "kind", [SCALED, CANARIED, SERVERLESS, BATCH], ids=["scaled", "canaried", "serverless", "batch"]
)
def test_everything_of_an_endpoint_goes_and_it_is_told_once_who_asked_and_why(
    platform: Platform, kind: dict[str, Any]
) -> None:
    first, second = served(platform, kind, kind)
    platform.approve(second)
    platform.run()
    platform.remove()
    platform.run()
    platform.delete_group()
    check_removed(platform)
    told = [message for message in platform.aws.published if "removed" in message["Subject"]]
    assert [message["Subject"] for message in told] == ["churn-dev: removed by SC-churn"]
    assert "project churn is being deleted" in told[0]["Message"]
    assert [one.package_arn for one in platform.entries if one.kind == "approve"] == [second, first]


@pytest.mark.parametrize("status", ["Creating", "Updating", "RollingBack", "SystemUpdating", "Failed", "OutOfService"])
def test_whatever_the_endpoint_is_at_it_goes_when_that_is_over(platform: Platform, status: str) -> None:
    served(platform, SCALED)
    platform.aws.endpoints[platform.endpoint]["EndpointStatus"] = status
    platform.held = True
    platform.remove()
    platform.pass_time(60)
    platform.held = False
    platform.aws.endpoints.get(platform.endpoint, {})["EndpointStatus"] = (
        "InService" if status == "SystemUpdating" else status
    )
    check_removed(platform)


def test_an_endpoint_that_is_being_created_is_awaited_and_then_goes(platform: Platform) -> None:
    version = platform.register(SCALED)
    platform.held = True
    platform.approve(version)
    platform.run(lambda: platform.status == "Creating")
    platform.remove()
    platform.pass_time(300)
    assert platform.status == "Creating"
    platform.held = False
    check_removed(platform)
    assert [one.status for one in platform.deployments] == ["superseded"]


@pytest.mark.parametrize("gone", [*THINGS, "group"])
def test_what_somebody_deleted_by_hand_stands_in_nobodys_way(platform: Platform, gone: str) -> None:
    served(platform, SCALED)
    # what serves is broken by hand
    platform.guard = platform.aws.after_change = lambda: None  # type: ignore[method-assign]
    if gone == "group":
        platform.delete_group()
    else:
        getattr(platform.aws, gone).clear()
        if gone == "targets":
            platform.aws.policies.clear()  # they go with their target
    platform.remove()
    check_removed(platform)


def test_an_endpoint_that_the_platform_never_heard_of_is_removed_at_once_and_leaves_no_trace() -> None:
    platform = Platform()
    platform.aws.tags.clear()
    with platform.installed():
        platform.remove()
        platform.run()
        assert platform.state is None
        assert platform.queue == platform.dead_letters == []
        assert platform.aws.items == {}


def test_an_endpoint_to_which_nothing_was_ever_deployed_is_removed_without_a_message(platform: Platform) -> None:
    platform.register(ALL_AT_ONCE)
    platform.pass_time(TEN_MINUTES)
    platform.remove()
    check_removed(platform)
    assert platform.aws.published == []


@pytest.mark.parametrize("group", ["whole", "gone", "tagged otherwise"])
def test_where_the_ledger_was_lost_what_carries_the_projects_tags_goes_all_the_same(
    platform: Platform, group: str
) -> None:
    served(platform, SCALED)
    platform.aws.items.clear()
    if group == "gone":
        platform.delete_group()
    if group == "tagged otherwise":
        platform.aws.tags[GROUP] = [{"Key": "team", "Value": "sales"}]
    platform.remove()
    check_removed(platform)


def test_where_only_a_schedule_is_left_it_goes(platform: Platform) -> None:
    served(platform, BATCH)
    platform.aws.items.clear()
    platform.aws.models.clear()
    platform.delete_group()
    platform.remove()
    check_removed(platform)


def test_a_project_made_anew_is_told_first_what_its_policies_do(platform: Platform) -> None:
    served(platform, ALL_AT_ONCE)
    told = PolicyRecord(platform.endpoint, "park", "a" * 64, platform.clock.now(), pending=({"kind": "version"},))
    platform.call_function(lambda context: context.ledger.put_policy(told))
    platform.remove()
    platform.run()
    found = platform.call_function(lambda context: context.ledger.policy(platform.endpoint, "park"))
    assert (found.sha256, found.pending) == (OFF, ())


def test_a_transform_job_that_runs_is_stopped_and_awaited_before_its_model_goes(platform: Platform) -> None:
    """Its role goes with the project: it would run on without one, and cost."""
    served(platform, BATCH)
    platform.scheduled()
    platform.run()
    (job,) = platform.aws.jobs.values()
    others = {"modelyard:project": "churn-dev-1", "modelyard:stage": "dev"}
    for name, tags in (("churn-dev-1-dev-7-20261122T0600", others), ("churn-dev-mine", others)):
        tag_list = [{"Key": key, "Value": value} for key, value in tags.items()]
        platform.aws.create_transform_job(TransformJobName=name, Tags=tag_list)
    status_at: dict[str, str] = {}

    def seen(service: str, operation: str, answer: dict[str, Any]) -> None:
        status_at[operation] = platform.aws.jobs[job["TransformJobName"]]["TransformJobStatus"]

    platform.aws.seen = seen
    platform.remove()
    platform.pass_time(180)
    check_removed(platform)
    # the schedule goes first: it would start another
    assert (status_at["DeleteSchedule"], status_at["DeleteModel"]) == ("InProgress", "Stopped")
    assert [one["TransformJobStatus"] for one in platform.aws.jobs.values()] == ["Stopped", "InProgress", "InProgress"]


def test_a_transform_job_that_ends_while_it_is_to_be_stopped_is_over(platform: Platform) -> None:
    served(platform, BATCH)
    platform.scheduled()
    platform.run()
    over = refusal("StopTransformJob", "ValidationException", "rejected: the job is in status Completed")

    def ended(service: str, operation: str, request: dict[str, Any]) -> Exception | None:
        if operation != "StopTransformJob":
            return None
        platform.end_jobs("Completed")
        return over

    platform.aws.standing = ended
    platform.remove()
    platform.run()
    platform.pass_time(120)
    check_removed(platform)


def test_parking_a_batch_stage_leaves_its_jobs_to_end(platform: Platform) -> None:
    served(platform, BATCH)
    platform.scheduled()
    platform.run()
    platform.outage_allowed = True
    platform.command("park", None, None)
    platform.run()
    assert [one["TransformJobStatus"] for one in platform.aws.jobs.values()] == ["InProgress"]
    assert left(platform) == {}


def test_the_schedule_of_its_endpoint_tests_is_switched_off(platform: Platform) -> None:
    served(platform, SCALED)
    due = TestSchedule(platform.endpoint, 1, 60, platform.clock.now())
    platform.call_function(lambda context: context.ledger.schedule_tests(due))
    platform.remove()
    platform.run()
    assert platform.call_function(lambda context: list(context.ledger.test_schedules())) == []


@pytest.mark.parametrize("read", [True, False], ids=["known", "new"])
def test_a_run_that_cleans_up_during_the_removal_does_not_bring_its_policy_back(platform: Platform, read: bool) -> None:
    served(platform, ALL_AT_ONCE)
    told = PolicyRecord(platform.endpoint, "clean", "a" * 64, platform.clock.now(), pending=({"kind": "version"},))
    ledger_of = platform.call_function
    assert ledger_of(lambda context: context.ledger.put_policy_if_still(None, told))
    platform.remove()
    platform.run()
    done = replace(told, pending=())
    assert not ledger_of(lambda context: context.ledger.put_policy_if_still(told if read else None, done))
    found = ledger_of(lambda context: context.ledger.policy(platform.endpoint, "clean"))
    assert (found.sha256, found.pending) == (OFF, ())


def test_the_same_removal_twice_is_one(platform: Platform) -> None:
    served(platform, SCALED)
    for _ in range(3):
        platform.remove()
    platform.run()
    platform.remove()
    check_removed(platform)
    assert [one.kind for one in platform.entries] == ["remove", "approve"]
    assert platform.told() == {"removed by SC-churn": 1}


def test_what_was_made_by_hand_in_its_name_after_the_removal_goes_with_the_next_one(platform: Platform) -> None:
    served(platform, SCALED)
    alarms = dict(platform.aws.alarms)
    platform.remove()
    platform.run()
    platform.aws.alarms |= alarms
    platform.remove()
    check_removed(platform)


def test_a_removal_that_comes_late_leaves_a_project_of_the_same_name_alone(platform: Platform) -> None:
    served(platform, SCALED)
    platform.remove()
    late = platform.queue.pop()
    platform.remove()
    platform.run()
    platform.delete_group()
    platform.add_group("churn")
    first = platform.register(ALL_AT_ONCE)
    platform.approve(first)
    platform.run()
    platform.queue.append(late)
    platform.run()
    platform.pass_time(TEN_MINUTES)
    assert platform.serves == first
    assert sorted(platform.aws.models) == ["churn-dev-2"]


def test_an_approval_during_the_removal_is_taken_away_by_the_next_one(platform: Platform) -> None:
    first, second = served(platform, SCALED, SCALED)
    platform.remove()
    platform.run()
    platform.approve(second)
    platform.run()
    assert platform.serves == second
    platform.remove()
    check_removed(platform)
    assert first != second


@pytest.mark.parametrize("lost", [False, True], ids=["heard", "its event lost"])
def test_in_a_group_made_anew_version_1_is_a_new_one_and_numbers_go_on(platform: Platform, lost: bool) -> None:
    (old,) = served(platform, SCALED)
    platform.remove()
    platform.run()
    platform.delete_group()
    platform.pass_time(TEN_MINUTES)
    platform.add_group("churn")
    version = platform.register(ALL_AT_ONCE)
    assert version == old
    platform.run()
    platform.approve(version)
    if lost:
        platform.queue.clear()
        platform.pass_time(TEN_MINUTES)
    platform.run()
    assert platform.serves == version
    assert sorted(platform.aws.models) == ["churn-dev-2"]
    assert platform.told() == {"removed by SC-churn": 1, "version 1 approved by ada": 1, "version 1 serves": 1}

    platform.reject(version)
    platform.run()
    assert platform.serves is None
    # of the life before it nothing is told again
    assert platform.told()["nothing serves any more"] == 1
    assert left(platform) == {}


@pytest.mark.parametrize("tags", [{}, {"modelyard:approval": "automatic"}], ids=["by people", "automatic"])
def test_versions_that_are_still_there_after_a_removal_are_neither_missed_nor_approved(tags: dict[str, str]) -> None:
    platform = Platform(tags=tags)
    platform.outage_allowed = True
    with platform.installed():
        served(platform, {**ALL_AT_ONCE, "approval": "automatic"}, ALL_AT_ONCE)
        platform.remove()
        platform.run()
        entries = platform.entries
        described = platform.aws.calls.count("DescribeModelPackage")
        platform.pass_time(3 * TEN_MINUTES)
        assert platform.entries == entries
        assert platform.aws.calls.count("DescribeModelPackage") == described
        check_removed(platform)


def test_another_projects_things_stay_though_its_name_begins_the_same(platform: Platform) -> None:
    """A project churn-dev has a stage dev as well: churn-dev-dev; and people call things so, too."""
    served(platform, SCALED)
    aws = platform.aws
    others = {"modelyard:project": "churn-dev", "modelyard:stage": "dev", "sagemaker:project-id": "p-2"}
    tag_list = [{"Key": key, "Value": value} for key, value in others.items()]
    for kind, table in (("model", aws.models), ("endpoint-config", aws.configs)):
        for name in ("churn-dev-dev-1", "churn-dev-77"):
            table[name] = next(iter(table.values()))
            aws.tags[arn("sagemaker", f"{kind}/{name}")] = tag_list
    aws.alarms["churn-dev-dev-errors"] = dict(next(iter(aws.alarms.values())), AlarmName="churn-dev-dev-errors")
    aws.dashboards["churn-dev-dev"] = "{}"
    platform.remove()
    platform.run()
    assert left(platform) == {
        "models": ["churn-dev-77", "churn-dev-dev-1"],
        "configs": ["churn-dev-77", "churn-dev-dev-1"],
        "alarms": ["churn-dev-dev-errors"],
        "dashboards": ["churn-dev-dev"],
    }
    assert platform.state is not None
    assert platform.state.status == "removed"


def test_an_endpoint_of_somebody_elses_that_took_the_name_stays(platform: Platform) -> None:
    served(platform, ALL_AT_ONCE)
    platform.aws.tags[arn("sagemaker", f"endpoint/{platform.endpoint}")] = []
    platform.remove()
    platform.run()
    assert platform.status == "InService"
    assert platform.state is not None
    assert platform.state.status == "removed"


def test_an_endpoint_that_somebody_put_on_a_config_of_their_own_goes(platform: Platform) -> None:
    served(platform, SCALED)
    platform.aws.configs["mine"] = platform.aws.configs["churn-dev-1"]
    platform.aws.endpoints[platform.endpoint]["EndpointConfigName"] = "mine"
    platform.remove()
    platform.run()
    assert platform.status is None
    assert left(platform) == {"configs": ["mine"]}


def test_a_permission_that_is_missing_is_told_once_and_the_removal_goes_on_with_it(platform: Platform) -> None:
    served(platform, SCALED)
    denied = refusal("DeleteDashboards", "AccessDeniedException", "not authorized to perform: DeleteDashboards")
    platform.aws.standing = lambda service, operation, request: denied if operation == "DeleteDashboards" else None
    platform.remove()
    platform.pass_time(1800)
    assert platform.told() == {"needs somebody": 1}
    platform.aws.standing = lambda service, operation, request: None
    platform.pass_time(120)
    check_removed(platform)
    assert platform.told() == {"needs somebody": 1, "removed by SC-churn": 1}


def test_a_removal_costs_no_more_with_a_long_history(platform: Platform) -> None:
    def calls(deployments: int) -> int:
        other = Platform()
        other.outage_allowed = True
        with other.installed():
            versions = served(other, *[ALL_AT_ONCE] * deployments)
            for version in versions[1:]:
                other.approve(version)
                other.run()
            other.begin()
            before = len(other.aws.calls)
            other.remove()
            other.run()
            return len(other.aws.calls) - before

    assert calls(12) == calls(3)


def test_the_first_deployment_of_a_removed_endpoint_is_like_any_first_one(platform: Platform) -> None:
    first_deployment(platform)
    platform.remove()
    platform.run()
    platform.delete_group()
    platform.add_group("churn")
    first_deployment(platform)
    assert platform.status == "InService"
    assert platform.deployments[0].previous is None


# What the deploy function calls while it removes an endpoint and a batch stage.
CALLED = sorted(
    {
        (call.service, call.operation)
        for scenario in ("removed_in_the_middle", "removed_batch", "removed_after_parts_of_it")
        for call in undisturbed(scenario).calls
    }
)


@pytest.mark.parametrize(("service", "operation"), CALLED, ids=[operation for _, operation in CALLED])
def test_each_permission_that_is_missing_is_told_once_at_most_and_waited_for(
    platform: Platform, service: str, operation: str
) -> None:
    served(platform, BATCH if operation == "DeleteSchedule" else SCALED)
    denied = refusal(operation, "AccessDeniedException", f"not authorized to perform: {operation}")
    platform.aws.standing = lambda _, called, request: denied if called == operation else None
    platform.remove()
    platform.pass_time(1800)
    assert all(count == 1 for count in platform.told().values())
    platform.aws.standing = lambda _, called, request: None
    platform.pass_time(TEN_MINUTES)
    check_removed(platform)
    assert platform.told()["removed by SC-churn"] == 1
