"""A ledger that was lost comes back from what AWS knows: nothing that serves changes, and all goes on as before."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import pytest

from lifecycle_lambdas import rebuild, remains
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.rebuild import Rebuilt
from tests.lifecycle_lambdas.fault_matrix import ALL_AT_ONCE, CANARIED, SCENARIOS, TAGS, served
from tests.lifecycle_lambdas.simulated_platform import Platform
from tests.lifecycle_lambdas.test_converge import SCALING

# What a ledger is not needed for: the same before and after it was lost, whatever the controller looks at meanwhile.
WHAT_SERVES = ("serves", "endpoints", "models", "configs", "alarms", "targets", "policies", "dashboards", "schedules")


@pytest.fixture
def platform() -> Iterator[Platform]:
    platform = Platform()
    with platform.installed():
        yield platform


def additions(platform: Platform) -> list[Rebuilt]:
    def read(context: Context) -> list[Rebuilt]:
        known = remains.deployment_names(context)
        found = [rebuild.read(context, *group, known) for group in remains.groups(context, None)]
        return [one for one in found if one is not None]

    return list(platform.call_function(read))


def rebuild_all(platform: Platform) -> list[Rebuilt]:
    found = additions(platform)
    for one in found:
        if not one.changes_nothing:
            platform.call_function(partial(_write, one))
    return found


def _write(one: Rebuilt, context: Context) -> None:
    rebuild.write(context, one)


def lose_ledger(platform: Platform) -> None:
    platform.aws.items.clear()
    platform.aws.published.clear()


def what_serves(platform: Platform) -> dict[str, Any]:
    end = platform.end_state()
    return {name: end[name] for name in WHAT_SERVES}


def incidents(platform: Platform) -> dict[Any, Any]:
    return {place: content for place, content in platform.aws.objects.items() if "/incidents/" in place[1]}


def after(scenario: str) -> Platform:
    platform = Platform(tags=TAGS.get(scenario))
    with platform.installed():
        SCENARIOS[scenario](platform)
    platform.outage_allowed = True
    return platform


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_however_it_ended_a_rebuilt_ledger_changes_nothing_that_serves_and_tells_nobody(scenario: str) -> None:
    platform = after(scenario)
    with platform.installed():
        before, versions, pages = what_serves(platform), platform.end_state()["versions"], incidents(platform)
        lose_ledger(platform)
        rebuild_all(platform)
        assert all(one.changes_nothing for one in additions(platform))
        platform.send_event({"look": "endpoint", "endpoint": platform.endpoint, "missed": True})
        platform.pass_time(1300)
        platform.run()
        assert what_serves(platform) == before
        assert platform.end_state()["versions"] == versions
        assert incidents(platform) == pages  # they know more than a rebuilt ledger
        assert platform.aws.published == []
        assert platform.faults == platform.dead_letters == []


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_ledger_that_is_whole_is_left_as_it_is(scenario: str) -> None:
    platform = after(scenario)
    with platform.installed():
        assert [one for one in additions(platform) if not one.changes_nothing] == []


def three_deployments(platform: Platform) -> list[str]:
    """The third version serves; the second one is the way back."""
    versions = served(platform, *[{**ALL_AT_ONCE, "instance_count": count} for count in (1, 2, 3)])
    for version in versions[1:]:
        platform.approve(version)
        platform.run()
    return versions


def test_approvals_and_deployments_come_back_as_they_were(platform: Platform) -> None:
    three_deployments(platform)
    entries, deployments = platform.entries, platform.deployments
    lose_ledger(platform)
    rebuild_all(platform)
    assert [(one.key, one.by, one.why) for one in platform.entries] == [(one.key, one.by, one.why) for one in entries]
    assert {one.source for one in platform.entries} == {"rebuilt"}

    def known(found: Any) -> list[Any]:
        return [
            (
                one.number,
                one.package_arn,
                one.status,
                one.entry_key,
                one.stage_file,
                one.stage_file_sha256,
                one.previous,
            )
            for one in found
        ]

    assert known(platform.deployments) == known(deployments)
    assert platform.state is not None
    assert (platform.state.status, platform.state.last_number) == ("settled", 3)


def test_after_it_approving_rejecting_going_back_and_parking_work_as_before(platform: Platform) -> None:
    first, second, third = three_deployments(platform)
    lose_ledger(platform)
    rebuild_all(platform)
    platform.reject(third)
    platform.run()
    assert (platform.serves, platform.serving_number) == (second, 4)
    platform.command("go-back", first)
    platform.run()
    assert (platform.serves, platform.serving_number) == (first, 5)
    fourth = platform.register(ALL_AT_ONCE)
    platform.approve(fourth)
    platform.run()
    assert (platform.serves, platform.serving_number) == (fourth, 6)
    platform.outage_allowed = True
    platform.command("park", None)
    platform.run()
    assert platform.serves is None
    assert platform.faults == platform.dead_letters == []


def test_who_had_gone_back_stays_there_with_the_capacity_and_can_go_back_no_further_by_himself(
    platform: Platform,
) -> None:
    bigger = {**ALL_AT_ONCE, "instance_type": "ml.c5.large", "scaling": SCALING}
    first, second = served(platform, ALL_AT_ONCE, bigger)
    platform.approve(second)
    platform.run()
    platform.command("go-back", first)
    platform.run()
    stage_file = platform.deployments[0].stage_file
    lose_ledger(platform)
    (found,) = rebuild_all(platform)
    assert "somebody had gone back" in found.notes[0]
    assert (platform.entries[0].kind, platform.entries[0].by) == ("go-back", "unknown")
    assert platform.deployments[0].stage_file == stage_file
    assert platform.deployments[0].previous == 2
    platform.pass_time(1300)
    assert (platform.serves, platform.serving_number) == (first, 3)


def test_what_was_parked_stays_parked_until_somebody_wants_it_back(platform: Platform) -> None:
    (first,) = served(platform, ALL_AT_ONCE)
    platform.outage_allowed = True
    platform.command("park", None)
    platform.run()
    lose_ledger(platform)
    (found,) = rebuild_all(platform)
    assert f"To have it again: go-back {platform.endpoint} 1" in found.notes[0]
    platform.pass_time(1300)
    assert platform.serves is None
    platform.command("go-back", first)
    platform.run()
    assert platform.serves == first


def test_an_update_under_way_goes_on_and_is_not_asked_for_twice(platform: Platform) -> None:
    _, second = served(platform, ALL_AT_ONCE, ALL_AT_ONCE)
    platform.held = True
    platform.approve(second)
    platform.run(lambda: platform.status == "Updating")
    lose_ledger(platform)
    rebuild_all(platform)
    assert platform.state is not None
    assert platform.state.status == "under-way"
    platform.held = False
    platform.run()
    assert (platform.serves, platform.serving_number) == (second, 2)
    assert platform.aws.calls.count("UpdateEndpoint") == 1
    assert [(one.number, one.status) for one in platform.deployments] == [(2, "succeeded"), (1, "succeeded")]


def test_an_approval_that_the_lost_ledger_never_had_is_deployed(platform: Platform) -> None:
    _, second = served(platform, ALL_AT_ONCE, ALL_AT_ONCE)
    platform.approve(second)
    platform.queue.clear()
    lose_ledger(platform)
    rebuild_all(platform)
    platform.run()
    assert platform.serves == second


def test_why_a_version_is_rejected_is_known_again_and_it_is_not_tried_again(platform: Platform) -> None:
    _, second = served(platform, ALL_AT_ONCE, ALL_AT_ONCE)
    platform.aws.broken.add(second)
    platform.approve(second)
    platform.run()
    failed = platform.deployments[0]
    lose_ledger(platform)
    rebuild_all(platform)
    assert (platform.deployments[0].status, platform.deployments[0].reason) == ("failed", failed.reason)
    assert (platform.entries[0].kind, platform.entries[0].source) == ("reject", "controller")
    platform.pass_time(1300)
    assert platform.serving_number == 1


def test_numbers_go_on_where_the_controller_began_a_new_ledger_before_it_was_rebuilt(platform: Platform) -> None:
    """By itself it deploys what is approved once more, as number 4; what a stamp tells of is added."""
    three_deployments(platform)
    lose_ledger(platform)
    platform.pass_time(1300)
    began = platform.state
    assert began is not None
    rebuild_all(platform)
    assert platform.state is not None
    assert platform.state.last_number >= began.last_number
    assert {one.number for one in platform.deployments} == {1, 2, 4}
    fourth = platform.register(ALL_AT_ONCE)
    platform.approve(fourth)
    platform.run()
    assert platform.serves == fourth
    assert platform.faults == platform.dead_letters == []


def test_while_somebody_acts_on_an_endpoint_its_ledger_is_not_written(platform: Platform) -> None:
    three_deployments(platform)
    lose_ledger(platform)
    (found,) = additions(platform)

    def write(context: Context) -> None:
        assert context.ledger.lease(platform.endpoint, "another", 60) is not None
        with pytest.raises(LookupError, match="stop the controller first"):
            rebuild.write(context, found)

    platform.call_function(write)
    assert platform.entries == []


def test_what_is_written_meanwhile_is_not_overwritten(platform: Platform) -> None:
    three_deployments(platform)
    lose_ledger(platform)
    (found,) = additions(platform)
    rebuild_all(platform)
    entries = platform.entries
    with pytest.raises(LookupError, match="do it again"):
        platform.call_function(lambda context: rebuild.write(context, found))
    assert platform.entries == entries


def test_a_stage_file_that_is_gone_is_named_and_the_rest_comes_back(platform: Platform) -> None:
    first, *_ = three_deployments(platform)
    del platform.aws.objects["artifacts", "x/1/dev.yaml"]
    lose_ledger(platform)
    (found,) = rebuild_all(platform)
    assert "version 1: its stage file cannot be used" in found.notes[0]
    assert [(one.package_arn, one.stage_file) for one in platform.deployments][-1] == (first, {})
    platform.pass_time(1300)
    assert platform.serving_number == 3


@pytest.mark.parametrize("versions", [1, 3])
def test_what_serves_serves_on_where_its_stage_file_cannot_be_read_now(platform: Platform, versions: int) -> None:
    """A platform that was installed without the bucket, a key that it may not use: not the fault of the version."""
    registered = three_deployments(platform) if versions == 3 else served(platform, ALL_AT_ONCE)
    place = ("artifacts", f"x/{versions}/dev.yaml")
    content = platform.aws.objects.pop(place)
    platform.aws.endpoints[platform.endpoint]["ProductionVariants"][0]["DesiredInstanceCount"] = 4
    lose_ledger(platform)
    rebuild_all(platform)
    before = what_serves(platform)
    platform.pass_time(1300)
    assert what_serves(platform) == before
    assert platform.aws.packages[registered[-1]]["ModelApprovalStatus"] == "Approved"
    assert any("serves on, but its stage file cannot be used" in one["Message"] for one in platform.aws.published)

    platform.aws.objects[place] = content
    platform.pass_time(121)
    platform.run()
    assert what_serves(platform) == before
    assert platform.deployments[0].stage_file["instance_count"] == 4
    assert platform.state is not None
    assert platform.state.status == "settled"


def test_somebody_elses_endpoint_of_the_name_does_not_count(platform: Platform) -> None:
    three_deployments(platform)
    lose_ledger(platform)
    endpoint = platform.aws.endpoints[platform.endpoint]
    platform.aws.tags[endpoint["EndpointArn"]] = []
    (found,) = additions(platform)
    assert "somebody else's" in found.notes[0]


def test_a_first_approval_that_nothing_was_done_about_yet_is_deployed(platform: Platform) -> None:
    platform.aws.missing.add("CreateModel")
    version = platform.register(ALL_AT_ONCE)
    platform.approve(version)
    platform.pass_time(120)
    platform.aws.missing.clear()
    lose_ledger(platform)
    (found,) = rebuild_all(platform)
    assert found.notes == ()
    platform.run()
    assert platform.serves == version


def test_what_was_gone_back_from_had_served(platform: Platform) -> None:
    """The stamp of a version that the controller itself went back from says so, and not how its deployment ended."""
    first, second = served(platform, ALL_AT_ONCE, {**ALL_AT_ONCE, "alarms": {**ALL_AT_ONCE["alarms"], "go_back": True}})
    platform.approve(second)
    platform.run()
    platform.pass_time(60)
    platform.raise_alarm("errors")
    platform.run()
    assert platform.serves == first
    lose_ledger(platform)
    rebuild_all(platform)
    platform.pass_time(1300)
    assert platform.serves == first
    statuses = {one.number: one.status for one in platform.deployments}
    assert statuses[2] == "succeeded"
    assert platform.entries[0].kind == "reject"
    assert platform.entries[0].source == "controller"


def restored(platform: Platform, to: dict[Any, Any]) -> list[Rebuilt]:
    """The ledger as it was then, brought up to date; the controller was stopped, and the events' queue is empty."""
    platform.queue.clear()
    platform.aws.items.clear()
    platform.aws.items.update(deepcopy(to))
    platform.aws.published.clear()
    return rebuild_all(platform)


def test_who_went_back_after_the_time_to_which_a_ledger_is_restored_stays_there(platform: Platform) -> None:
    first, second = served(platform, ALL_AT_ONCE, ALL_AT_ONCE)
    platform.approve(second)
    platform.run()
    then = deepcopy(platform.aws.items)
    platform.command("go-back", first)
    platform.run()
    (found,) = restored(platform, then)
    assert "somebody had gone back" in found.notes[0]
    assert (platform.entries[0].kind, platform.entries[0].package_arn) == ("go-back", first)
    assert all(one.changes_nothing for one in additions(platform))
    platform.pass_time(1300)
    assert (platform.serves, platform.serving_number) == (first, 3)
    assert platform.aws.published == platform.faults == []


def test_who_went_back_from_what_a_restored_ledger_does_not_know_stays_there(platform: Platform) -> None:
    """Approved, deployed and gone back from, all of it after that time."""
    first, second, third = served(platform, ALL_AT_ONCE, ALL_AT_ONCE, ALL_AT_ONCE)
    platform.approve(second)
    platform.run()
    then = deepcopy(platform.aws.items)
    platform.approve(third)
    platform.run()
    platform.command("go-back", first)
    platform.run()
    restored(platform, then)
    assert {entry.package_arn for entry in platform.entries} == {first, second, third}
    platform.pass_time(1300)
    assert (platform.serves, platform.serving_number) == (first, 4)


def test_a_going_back_that_is_under_way_goes_on_with_a_restored_ledger(platform: Platform) -> None:
    first, second = served(platform, ALL_AT_ONCE, ALL_AT_ONCE)
    platform.approve(second)
    platform.run()
    then = deepcopy(platform.aws.items)
    platform.held = True
    platform.command("go-back", first)
    platform.run(lambda: platform.status == "Updating")
    restored(platform, then)
    platform.held = False
    platform.pass_time(1300)
    assert (platform.serves, platform.serving_number) == (first, 3)


def test_what_a_restored_ledger_does_not_know_to_be_parked_is_named_before_it_is_made_anew(platform: Platform) -> None:
    served(platform, ALL_AT_ONCE)
    then = deepcopy(platform.aws.items)
    platform.outage_allowed = True
    platform.command("park", None)
    platform.run()
    (found,) = restored(platform, then)
    assert found.changes_nothing
    assert "Nothing serves, although version 1 should" in found.notes[0]
    assert f"park {platform.endpoint} --why" in found.notes[0]
    platform.command("park", None)
    platform.pass_time(1300)
    assert platform.serves is None


def test_what_was_deployed_and_parked_after_that_time_stays_parked(platform: Platform) -> None:
    _, second = served(platform, ALL_AT_ONCE, ALL_AT_ONCE)
    then = deepcopy(platform.aws.items)
    platform.approve(second)
    platform.run()
    platform.outage_allowed = True
    platform.command("park", None)
    platform.run()
    (found,) = restored(platform, then)
    assert f"To have it again: go-back {platform.endpoint} 2" in found.notes[0]
    platform.pass_time(1300)
    assert platform.serves is None


# --- left before it served


def left_during_its_update(platform: Platform, stage_file: dict[str, Any], over: bool) -> tuple[str, str]:
    """Somebody goes back while the second version's update is under way; the first one had not stopped serving.

    Args:
        over: until the endpoint is back; else until the controller has done what it can do now.
    """
    first, second = served(platform, ALL_AT_ONCE, stage_file)
    platform.held = True
    platform.approve(second)
    platform.run(lambda: platform.status == "Updating")
    platform.command("go-back", first)
    platform.run(lambda: platform.deployments[0].status == "superseded" and not platform.queue)
    if over:
        platform.held = False
        platform.run()
        assert platform.serving_number == 1
    return first, second


@pytest.mark.parametrize("restores", [False, True])
@pytest.mark.parametrize(("stage_file", "over"), [(CANARIED, True), (CANARIED, False), (ALL_AT_ONCE, False)])
def test_who_went_back_during_an_update_stays_there(
    platform: Platform, stage_file: dict[str, Any], over: bool, restores: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an empty ledger, and with one from before the version was approved."""
    snapshots: list[dict[Any, Any]] = []
    monkeypatch.setattr(platform, "begin", lambda: snapshots.append(deepcopy(platform.aws.items)))
    first, second = left_during_its_update(platform, stage_file, over)
    (found,) = restored(platform, snapshots[0] if restores else {})
    assert "somebody had gone back" in found.notes[0]
    assert all(one.changes_nothing for one in additions(platform))
    platform.held = False
    platform.pass_time(1300)
    assert platform.serves == first
    assert platform.aws.packages[second]["ModelApprovalStatus"] == "Approved"
    assert "superseded" not in platform.told()
    assert platform.faults == platform.dead_letters == []


def test_what_was_left_and_is_wanted_after_all_is_deployed_with_a_rebuilt_ledger(platform: Platform) -> None:
    """Its update is under way once more: the stamp is of the one before."""
    _, second = left_during_its_update(platform, CANARIED, over=True)
    platform.held = True
    platform.command("go-back", second)
    platform.run(lambda: platform.status == "Updating")
    lose_ledger(platform)
    (found,) = rebuild_all(platform)
    assert found.notes == ()
    platform.held = False
    platform.run()
    assert (platform.serves, platform.serving_number) == (second, 3)


def test_what_was_left_and_is_approved_again_is_deployed_with_a_rebuilt_ledger(platform: Platform) -> None:
    """It was stamped as approved after it was left; the controller came no further."""
    _, second = left_during_its_update(platform, CANARIED, over=True)
    platform.clock.seconds += 60
    platform.aws.missing.add("CreateModel")
    platform.reject(second)
    platform.approve(second)
    platform.pass_time(120)
    platform.aws.missing.clear()
    lose_ledger(platform)
    (found,) = rebuild_all(platform)
    assert found.notes == ()
    platform.run()
    assert platform.serves == second


@pytest.mark.parametrize("swept", [True, False])
@pytest.mark.parametrize("served_before", [True, False])
def test_what_was_parked_while_it_was_being_made_stays_parked(
    platform: Platform, served_before: bool, swept: bool
) -> None:
    """The first time, or when it came back: then its stamp that it had served is of the past."""
    platform.outage_allowed = True
    version = platform.register(ALL_AT_ONCE)
    if served_before:
        platform.approve(version)
        platform.run()
        platform.command("park", None)
        platform.run()
    platform.held = True
    if served_before:
        platform.command("go-back", version)
    else:
        platform.approve(version)
    platform.run(lambda: platform.status == "Creating")
    platform.command("park", None)
    platform.run(lambda: platform.deployments[0].status == "superseded" and not platform.queue)
    if swept:
        platform.held = False
        platform.run()
        assert platform.aws.models == {}
    lose_ledger(platform)
    (found,) = rebuild_all(platform)
    assert f"To have it again: go-back {platform.endpoint} 1" in found.notes[0]
    platform.held = False
    platform.pass_time(1300)
    assert platform.serves is None
    assert platform.aws.models == {}
    platform.command("go-back", version)
    platform.run()
    assert platform.serves == version


# What is removed while its model package group stays leaves no more behind than what is parked.
LEAVES_NO_TRACE = "removed_batch"
# The group has lost its tags: it is nobody's.
NOT_FOUND = "removed_after_parts_of_it"


@pytest.mark.parametrize("scenario", sorted({*SCENARIOS} - {NOT_FOUND}))
def test_a_ledger_restored_to_before_a_scenario_changes_nothing_that_serves(
    scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots: list[dict[Any, Any]] = []
    begin = Platform.begin

    def begins(platform: Platform) -> None:
        snapshots.append(deepcopy(platform.aws.items))
        begin(platform)

    monkeypatch.setattr(Platform, "begin", begins)
    platform = after(scenario)
    with platform.installed():
        before, versions = what_serves(platform), platform.end_state()["versions"]
        found = restored(platform, snapshots[0])
        assert all(one.changes_nothing for one in additions(platform))
        if scenario == LEAVES_NO_TRACE:
            assert "Nothing serves, although version 1 should" in found[0].notes[0]
            return
        platform.pass_time(1300)
        platform.run()
        assert what_serves(platform) == before
        assert platform.end_state()["versions"] == versions
        assert platform.faults == platform.dead_letters == []
