"""Going back by itself: when, to what, how often; and whatever happens meanwhile, the end is the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle_lambdas import approvals, going_back
from lifecycle_lambdas.going_back import GoBack, Hold, NoWayBack, RaisedAlarm, decide, way_back
from lifecycle_lambdas.ledger import Ledger
from lifecycle_lambdas.observe import Alarm, Observed
from lifecycle_lambdas.records import Deployment, Entry, TestRun
from tests.lifecycle_lambdas.fault_matrix import GUARDED, cases, faults_of, goes_bad, undisturbed
from tests.lifecycle_lambdas.simulated_platform import Platform
from tests.lifecycle_lambdas.test_converge import BATCH, STAGE_FILE

ENDPOINT = "churn-prod"
ENDED = datetime(2026, 11, 21, 8, 30, 0, 250_000, UTC)
NOW = ENDED + timedelta(minutes=20)
HOUR = timedelta(hours=1)


def arn(version: int, endpoint: str = ENDPOINT) -> str:
    return f"arn:aws:sagemaker:eu-west-1:111122223333:model-package/{endpoint}/{version}"


def deployment(number: int, version: int | None = None, **changes: Any) -> Deployment:
    values: dict[str, Any] = {
        "endpoint": ENDPOINT,
        "number": number,
        "entry_key": f"ENTRY#2026-11-21T08:00:00Z#{number:010d}#approve",
        "package_arn": arn(version or number),
        "stage_file": {"kind": "real_time", "alarms": {"error_share": 0.05}},
        "stage_file_sha256": "",
        "status": "succeeded",
        "started": ENDED - timedelta(minutes=5),
        "ended": ENDED,
    }
    return Deployment(**{**values, **changes})


def raised(minutes: float = 10, kind: str = "errors") -> RaisedAlarm:
    return RaisedAlarm(f"{ENDPOINT}-{kind}", kind, ENDED + timedelta(minutes=minutes), "0.3 was greater than 0.05")


def a_run(**changes: Any) -> TestRun:
    values: dict[str, Any] = {
        "endpoint": ENDPOINT,
        "number": 2,
        "package_arn": arn(2),
        "reason": "deployed",
        "status": "failed",
        "means": "go-back",
        "at": ENDED.replace(microsecond=0),
        "ended": ENDED + timedelta(seconds=4),
        "cases": 12,
        "failed": 3,
        "failures": ("bad input is a clear error: answered 200",),
    }
    return TestRun(**{**values, **changes})


def went_back(minutes_ago: float, **changes: Any) -> Entry:
    at = (NOW - timedelta(minutes=minutes_ago)).replace(microsecond=0)
    entry = Entry(ENDPOINT, "go-back", at, arn(1), "modelyard", "why", "controller", leaves=arn(2), cause="another")
    return replace(entry, **changes)


SERVING, PREVIOUS = deployment(2), deployment(1)


def approved(package_arn: str) -> str:
    """Every version is."""
    return "Approved"


# --- deciding


@pytest.mark.parametrize(
    ("alarms", "tests", "entries", "previous", "expected"),
    [
        pytest.param([], None, [], PREVIOUS, None, id="nothing is wrong"),
        pytest.param([raised()], None, [], PREVIOUS, GoBack, id="an alarm"),
        pytest.param([raised(-1)], None, [], PREVIOUS, None, id="an alarm that was raised before it served"),
        pytest.param([raised(-0.004)], None, [], PREVIOUS, GoBack, id="an alarm's time that is cut to the second"),
        pytest.param([raised(-1), raised(3, "latency")], None, [], PREVIOUS, GoBack, id="one before and one since"),
        pytest.param([], a_run(), [], PREVIOUS, GoBack, id="its tests failed"),
        pytest.param([], a_run(means="report"), [], PREVIOUS, None, id="its tests failed, which is only reported"),
        pytest.param([], a_run(means="block"), [], PREVIOUS, None, id="its tests failed, which blocks promotion"),
        pytest.param([], a_run(status="passed"), [], PREVIOUS, None, id="its tests passed"),
        pytest.param([], a_run(number=1), [], PREVIOUS, None, id="the tests of the deployment before failed"),
        pytest.param([raised()], None, [], None, NoWayBack, id="nothing to go back to"),
        pytest.param([raised()], None, [went_back(59)], PREVIOUS, Hold, id="it went back a short time ago"),
        pytest.param([raised()], None, [went_back(61)], PREVIOUS, GoBack, id="it went back long ago"),
        pytest.param([raised()], None, [went_back(59)], None, Hold, id="the hold is said before that there is no way"),
        pytest.param([raised()], None, [went_back(5, source="command")], PREVIOUS, GoBack, id="a person went back"),
    ],
)
def test_what_is_done_about_what_serves(
    alarms: list[RaisedAlarm],
    tests: TestRun | None,
    entries: list[Entry],
    previous: Deployment | None,
    expected: type | None,
) -> None:
    decision = decide(SERVING, previous, alarms, tests, entries, approved, HOUR, NOW)
    assert type(decision) is (type(None) if expected is None else expected)


def test_the_entry_says_what_happened_since_when_and_from_which_version_to_which() -> None:
    decision = decide(SERVING, PREVIOUS, [raised()], None, [], approved, HOUR, NOW)
    assert isinstance(decision, GoBack)
    entry = decision.entry
    assert (entry.endpoint, entry.kind, entry.package_arn, entry.leaves) == (ENDPOINT, "go-back", arn(1), arn(2))
    assert (entry.by, entry.source, entry.at) == ("modelyard", "controller", NOW.replace(microsecond=0))
    assert (
        entry.why
        == decision.reason
        == (
            "the alarm churn-prod-errors is raised (0.3 was greater than 0.05), since 2026-11-21 08:40:00 UTC: from "
            "version 2 (deployment 2) back to version 1"
        )
    )


def test_of_failed_tests_the_entry_names_the_first_failure() -> None:
    decision = decide(SERVING, PREVIOUS, [], a_run(), [], approved, HOUR, NOW)
    assert isinstance(decision, GoBack)
    assert decision.entry.why.startswith(
        "3 of its 12 endpoint tests failed, the first: bad input is a clear error: answered 200, since 2026-11-21 08:30"
    )


def test_however_long_the_failure_is_what_stands_on_the_version_says_since_when_and_to_which() -> None:
    failed = a_run(failures=(f"rows: {'not as it was evaluated ' * 80}",))
    decision = decide(SERVING, PREVIOUS, [], failed, [], approved, HOUR, NOW)
    assert isinstance(decision, GoBack)
    stands = approvals.description(approvals.gone_back_from(ENDPOINT, decision.reason))
    assert "3 of its 12 endpoint tests failed, the first: rows: not as it was evaluated" in stands
    assert stands.endswith("..., since 2026-11-21 08:30:04 UTC: from version 2 (deployment 2) back to version 1")


@pytest.mark.parametrize(
    ("kind", "previous", "alarms", "since", "now", "expected"),
    [
        pytest.param("approve", 1, {}, 0.2, 0.3, False, id="of one period, SageMaker having ended the old instances"),
        pytest.param("approve", 1, {"periods": 5}, 3.9, 4, True, id="its first periods are those of before"),
        pytest.param("approve", 1, {"periods": 5}, 4.1, 4.2, False, id="all of its periods are its own"),
        pytest.param("approve", 1, {"periods": 5}, 3.9, 5.1, False, id="it lasts when all of its periods are its own"),
        pytest.param("approve", None, {"periods": 5}, 0.2, 0.3, False, id="nothing served before"),
        pytest.param("bake", 1, {"periods": 3}, -3.1, -3, True, id="its first periods reach back before the bake"),
        pytest.param("bake", 1, {"periods": 3}, -3.1, 0, False, id="it lasts until the end of the bake"),
        pytest.param("bake", 1, {"periods": 3}, 0.2, 0.3, False, id="all requests went to it while it baked"),
        pytest.param("go-back", 1, {}, 0.9, 1.5, True, id="somebody went back, and the last minute was the other's"),
        pytest.param("go-back", 1, {}, 0.9, 2.1, False, id="somebody went back, and it lasts"),
        pytest.param("go-back", 1, {"period_seconds": 3600}, 50, 55, True, id="an hour that began with the other"),
    ],
)
def test_an_alarm_that_may_still_measure_what_served_before_is_not_held_against_what_serves(
    kind: str, previous: int | None, alarms: dict[str, Any], since: float, now: float, expected: bool
) -> None:
    """Minutes since the deployment's end."""
    rollout = {"type": "canary", "finish_bake_minutes": 5} if kind == "bake" else None
    serving = deployment(
        2,
        entry_key=f"ENTRY#2026-11-21T08:00:00Z#0000000002#{'go-back' if kind == 'go-back' else 'approve'}",
        previous=previous,
        requested=ENDED - timedelta(minutes=20),
        stage_file={"kind": "real_time", "alarms": {"error_share": 0.05, **alarms}, "rollout": rollout},
    )
    at, then = (ENDED + timedelta(minutes=minutes) for minutes in (since, now))
    assert going_back.may_be_of_before(serving, at, then) is expected
    raised = {f"{ENDPOINT}-errors": Alarm("ALARM", {}, "so", at)}
    assert bool(going_back.raised_alarms(serving, Observed(ENDPOINT, alarms=raised), then)) is not expected


@pytest.mark.parametrize(
    ("changes", "minutes", "expected"),
    [
        pytest.param({}, -0.9, True, id="SageMaker ended the old instances, which had no request any more"),
        pytest.param({}, -1.2, False, id="the old instances may have served then"),
        pytest.param({"requested": ENDED - timedelta(seconds=30)}, -0.9, False, id="it was not even asked for"),
        pytest.param({"previous": None}, -0.9, False, id="nothing served before: the alarm is an older endpoint's"),
        pytest.param({"finish_bake_minutes": 5}, -5.9, True, id="in its last bake, and nothing rolled it back"),
        pytest.param({"finish_bake_minutes": 5}, -6.2, False, id="before its last bake"),
        pytest.param({"finish_bake_minutes": 5, "kind": "go-back"}, -5.9, False, id="going back bakes nothing"),
    ],
)
def test_an_alarm_of_the_updates_last_moments_is_held_against_what_all_requests_went_to(
    changes: dict[str, Any], minutes: float, expected: bool
) -> None:
    changes = dict(changes)
    kind, bake = changes.pop("kind", "approve"), changes.pop("finish_bake_minutes", 0)
    stage_file = {"kind": "real_time", "alarms": {}, "rollout": {"type": "canary", "finish_bake_minutes": bake}}
    values = {"previous": 1, "requested": ENDED - timedelta(minutes=20), "stage_file": stage_file, **changes}
    serving = deployment(2, entry_key=f"ENTRY#2026-11-21T08:00:00Z#0000000002#{kind}", **values)
    assert bool(going_back.causes(serving, [raised(minutes)], None)) is expected


def test_the_first_of_several_causes_counts_and_the_next_one_when_that_was_gone_back_for() -> None:
    both = [raised(10), raised(3, "latency")]
    first = decide(SERVING, PREVIOUS, both, None, [], approved, HOUR, NOW)
    assert isinstance(first, GoBack)
    assert "latency" in first.cause.key
    second = decide(SERVING, PREVIOUS, both, None, [replace(first.entry, source="command")], approved, HOUR, NOW)
    assert isinstance(second, GoBack)
    assert "errors" in second.cause.key


@pytest.mark.parametrize(("status", "expected"), [("Approved", None), ("Rejected", GoBack), (None, GoBack)])
def test_a_cause_that_led_to_a_version_which_is_not_approved_any_more_counts_again(
    status: str | None, expected: type | None
) -> None:
    first = decide(SERVING, PREVIOUS, [raised()], None, [], approved, HOUR, NOW)
    assert isinstance(first, GoBack)
    again = decide(
        SERVING, deployment(1, 7), [raised()], None, [first.entry], {arn(1): status}.get, HOUR, NOW + 2 * HOUR
    )
    assert type(again) is (type(None) if expected is None else expected)


@pytest.mark.parametrize(
    ("stage", "alarms", "expected"),
    [
        ("prod", {"error_share": 0.05}, True),
        ("champion", {"error_share": 0.05, "go_back": None}, True),
        ("champion", {"error_share": 0.05, "go_back": False}, False),
        ("dev", {"error_share": 0.05}, False),
        ("challenger", {"error_share": 0.05, "go_back": True}, True),
        ("prod", None, False),
    ],
)
def test_by_which_alarms_a_stage_goes_back(stage: str, alarms: dict[str, Any] | None, expected: bool) -> None:
    serving = deployment(2, endpoint=f"churn-{stage}", stage_file={"kind": "real_time", "alarms": alarms})
    alarm = {f"churn-{stage}-errors": Alarm("ALARM", {}, "bad", NOW)}
    assert bool(going_back.raised_alarms(serving, Observed(f"churn-{stage}", alarms=alarm), NOW)) is expected


def test_neither_a_quiet_alarm_nor_a_roll_back_alarm_of_the_deployment_goes_back() -> None:
    alarms = {
        f"{ENDPOINT}-errors": Alarm("OK", {}, "fine", NOW),
        f"{ENDPOINT}-2-rollback-errors": Alarm("ALARM", {}, "bad", NOW),
        f"{ENDPOINT}-latency": Alarm("INSUFFICIENT_DATA", {}, "", NOW),
    }
    assert going_back.raised_alarms(SERVING, Observed(ENDPOINT, alarms=alarms), NOW) == []


def test_the_way_back_is_the_last_version_that_served_is_approved_and_of_the_same_kind() -> None:
    history = [
        deployment(9, 8),
        deployment(8, 7, status="failed"),
        deployment(7, 6, status="superseded"),
        deployment(6, 5, stage_file={"kind": "serverless"}),
        deployment(5, 4),
        deployment(4, 3),
        deployment(3, 2),
    ]
    approvals = {arn(4): "Rejected", arn(3): None, arn(2): "Approved"}
    asked: list[str] = []

    def approval_of(package: str) -> str | None:
        asked.append(package)
        return approvals[package]

    found = way_back(history[0], history, approval_of)
    assert found == history[-1]
    assert asked == [arn(4), arn(3), arn(2)]


def gone_back(number: int, version: int, previous: int) -> Deployment:
    """A deployment by which somebody, or the controller, went back."""
    return deployment(
        number, version, previous=previous, entry_key=f"ENTRY#2026-11-21T08:00:00Z#{version:010d}#go-back"
    )


@pytest.mark.parametrize(
    ("history", "approved", "expected"),
    [
        pytest.param([gone_back(3, 1, 2)], {1, 2}, None, id="the version left is still approved"),
        pytest.param([gone_back(4, 2, 3), deployment(3)], {1, 2, 3}, 1, id="the one before it"),
        pytest.param(
            [gone_back(5, 1, 4), gone_back(4, 2, 3), deployment(3)], {1, 2, 3}, None, id="back once more: both left"
        ),
        pytest.param([deployment(4, 3), gone_back(3, 1, 2)], {1, 2, 3}, 1, id="what it had gone back to"),
        pytest.param([deployment(4, 3), gone_back(3, 1, 2)], {2, 3}, None, id="which is not approved any more"),
        pytest.param(
            [deployment(5, 3), deployment(4, 2), gone_back(3, 1, 2)], {1, 2, 3}, 2, id="somebody approved it again"
        ),
    ],
)
def test_a_version_that_was_left_is_no_way_back_until_it_is_deployed_again(
    history: list[Deployment], approved: set[int], expected: int | None
) -> None:
    """After versions 1 and 2 by the deployments 1 and 2."""
    history = [*history, deployment(2), deployment(1)]
    approval = {arn(version): "Approved" for version in approved}
    found = way_back(history[0], history, approval.get)
    assert (None if found is None else found.package_arn) == (None if expected is None else arn(expected))


VERSIONS, OTHERS = range(1, 5), "churn-b-prod"
# More often than not it is what can be gone back to, and something is wrong: else nearly nothing would come of it.
deployments = st.lists(
    st.tuples(
        st.sampled_from([*3 * [ENDPOINT], OTHERS]),
        st.sampled_from(VERSIONS),
        st.sampled_from([*6 * ["succeeded"], "failed", "superseded", "under-way"]),
        st.sampled_from([*4 * ["real_time"], "serverless", "batch"]),
        st.booleans(),
    ),
    max_size=8,
)
approvals_of_versions = st.fixed_dictionaries(
    {version: st.sampled_from([*4 * ["Approved"], "Rejected", "PendingManualApproval", None]) for version in VERSIONS}
)
alarms_raised = st.lists(
    st.builds(raised, st.sampled_from([-20, -1, 0, 1, 10, 19]), st.sampled_from(["errors", "latency", "custom"])),
    max_size=3,
)


def test_it_never_goes_to_what_is_not_approved_nor_twice_for_a_cause_nor_within_the_hold_nor_elsewhere() -> None:
    """And often enough it goes back, or else that would say nothing."""
    came_to: Counter[str] = Counter()

    @settings(max_examples=500, deadline=None, derandomize=True, database=None)
    @given(
        before=deployments,
        approved_now=approvals_of_versions,
        alarms=alarms_raised,
        tests=st.sampled_from([None, ("passed", True), ("failed", False), *3 * [("failed", True)]]),
        backs=st.lists(st.integers(0, 120), max_size=2),
        hold=st.integers(0, 60),
    )
    def over(
        before: list[tuple[str, int, str, str, bool]],
        approved_now: dict[int, str | None],
        alarms: list[RaisedAlarm],
        tests: tuple[str, bool] | None,
        backs: list[int],
        hold: int,
    ) -> None:
        history = [
            deployment(
                number,
                version,
                endpoint=endpoint,
                status=status,
                stage_file={"kind": kind},
                package_arn=arn(version, endpoint),
                entry_key=f"ENTRY#2026-11-21T08:00:00Z#{number:010d}#{'go-back' if back else 'approve'}",
                previous=number - 1 or None,
            )
            for number, (endpoint, version, status, kind, back) in enumerate(before, 1)
        ][::-1]
        serving = deployment(len(before) + 1, 9)
        approval = {
            arn(version, endpoint): status
            for version, status in approved_now.items()
            for endpoint in (ENDPOINT, OTHERS)
        }
        run = None if tests is None else a_run(status=tests[0], number=serving.number - (not tests[1]))
        previous = way_back(serving, history, approval.get)
        entries = [went_back(ago) for ago in sorted(backs)]

        decision = decide(serving, previous, alarms, run, entries, approval.get, timedelta(minutes=hold), NOW)

        came_to[type(decision).__name__] += 1
        if not isinstance(decision, GoBack):
            return
        entry = decision.entry
        assert entry.package_arn is not None
        assert approval[entry.package_arn] == "Approved"
        assert entry.package_arn != serving.package_arn == entry.leaves
        assert entry.endpoint == ENDPOINT
        assert f"/{ENDPOINT}/" in entry.package_arn
        to = [one for one in history if one.package_arn == entry.package_arn]
        assert ("succeeded", "real_time") in {(one.status, one.stage_file["kind"]) for one in to}
        # who went back left what had been deployed right before
        ours = [one for one in history if one.endpoint == ENDPOINT]
        left = {one.previous for one in ours if one.goes_back and one.status == "succeeded"}
        assert any(one.number not in left for one in to)
        assert all(ago >= hold for ago in backs)
        assert decision.cause.since >= ENDED.replace(microsecond=0)
        written = [entry, *entries]
        again = decide(serving, previous, alarms, run, written, approval.get, timedelta(0), NOW)
        assert again is None or again.cause.key != decision.cause.key

    over()
    # Hypothesis also draws constants of the modules that are imported: it is not the same in every run
    assert min(came_to[kind] for kind in ("GoBack", "Hold", "NoWayBack")) >= 8, came_to


# --- doing


@pytest.fixture
def platform() -> Iterator[Platform]:
    platform = Platform()
    with platform.installed():
        yield platform


def automatic(platform: Platform) -> list[Entry]:
    """The controller's own goings back, the newest first."""
    return [entry for entry in platform.entries if going_back.is_automatic(entry)]


def page(platform: Platform) -> str:
    """The only incident's page."""
    ((_, content),) = [item for item in platform.aws.objects.items() if "/incidents/" in item[0][1]]
    return content.decode()


def test_what_an_alarm_finds_at_fault_goes_back_at_once_is_rejected_and_told_of(platform: Platform) -> None:
    first, second = goes_bad(platform)
    platform.run()

    assert platform.serves == first
    version = platform.aws.packages[second]
    assert version["ModelApprovalStatus"] == "Rejected"
    assert version["ApprovalDescription"].startswith("churn-dev went back: the alarm churn-dev-errors is raised (0.3")
    assert version["CustomerMetadataProperties"]["deployment.status"] == "went-back"
    assert platform.told() == {"goes back to version 1 by itself": 1, "version 1 serves": 1}
    # no roll-back alarms and no steps: what it goes back to is known
    assert [one.operation for one in platform.deployments[0].attempts] == [
        "create_model",
        "create_endpoint_config",
        "update_endpoint",
    ]
    assert platform.aws.endpoints[platform.endpoint]["LastDeploymentConfig"] == {}
    assert platform.entries[0].source == "controller"  # its own rejection is not told


def test_its_message_says_what_to_look_at(platform: Platform) -> None:
    goes_bad(platform)
    platform.run()
    text = next(one["Message"] for one in platform.aws.published if "by itself" in one["Subject"])
    for words in (
        "from version 2 (deployment 2) back to version 1",
        "#dashboards/dashboard/churn-dev",
        "aws logs tail /aws/sagemaker/Endpoints/churn-dev",
        "aws s3 cp s3://artifacts/churn/dev/incidents/",
    ):
        assert words in text


def test_an_alarm_that_was_raised_before_the_deployment_ended_is_not_its_fault(platform: Platform) -> None:
    first, second = (platform.register(GUARDED) for _ in range(2))
    platform.approve(first)
    platform.run()
    platform.held = True
    platform.approve(second)
    platform.run(lambda: platform.status == "Updating")
    platform.raise_alarm("errors")
    platform.pass_time(120)
    platform.held = False
    platform.pass_time(1300)
    assert platform.serves == second
    assert automatic(platform) == []


def test_an_alarm_that_is_heard_of_before_the_end_of_the_deployment_is_its_fault_all_the_same(
    platform: Platform,
) -> None:
    """SageMaker's event of the end was lost: the end is when SageMaker says, and not when somebody looked."""
    first, second = (platform.register(GUARDED) for _ in range(2))
    platform.approve(first)
    platform.run()
    platform.approve(second)
    platform.run(lambda: platform.status == "Updating")
    platform.run(lambda: platform.status == "InService")
    platform.queue.clear()
    platform.clock.seconds += 5
    platform.raise_alarm("errors")
    platform.run()
    assert platform.serves == first
    assert [one.status for one in platform.deployments] == ["succeeded"] * 3


def test_where_the_stage_file_does_not_say_so_people_are_told_and_nothing_goes_back(platform: Platform) -> None:
    _, second = goes_bad(platform, {**GUARDED, "alarms": {"error_share": 0.05}})
    platform.pass_time(1300)
    assert (platform.serves, automatic(platform)) == (second, [])


def test_a_lost_alarm_event_is_made_good_within_ten_minutes(platform: Platform) -> None:
    first, _ = goes_bad(platform)
    platform.queue.clear()
    platform.pass_time(601)
    platform.run()
    assert platform.serves == first


def test_the_first_version_has_no_way_back_and_serves_on(platform: Platform) -> None:
    version = platform.register(GUARDED)
    platform.approve(version)
    platform.run()
    platform.begin()
    platform.pass_time(60)
    platform.raise_alarm("errors")
    platform.pass_time(1300)
    assert (platform.serves, platform.aws.packages[version]["ModelApprovalStatus"]) == (version, "Approved")
    assert platform.told() == {"needs somebody": 1}
    assert "no other version of kind real-time" in platform.aws.published[0]["Message"]


def test_a_person_may_approve_it_again_and_a_new_alarm_goes_back_only_after_the_hold(platform: Platform) -> None:
    first, second = goes_bad(platform)
    platform.run()
    platform.approve(second)
    platform.run()
    # the alarm is raised still, and says nothing about the new deployment
    assert platform.serves == second
    stamps = platform.aws.packages[second]["CustomerMetadataProperties"]
    assert (stamps["deployment.status"], stamps["deployment.number"]) == ("succeeded", "4")
    assert platform.entries[0].why == ""  # why it went back is no reason to approve

    platform.aws.published.clear()
    platform.aws.set_alarm_state(f"{platform.endpoint}-errors", "OK", "fine")
    platform.pass_time(60)
    platform.raise_alarm("errors")
    platform.pass_time(1800)
    assert platform.serves == second
    assert platform.told() == {"needs somebody": 1}
    assert "does not go back again before" in platform.aws.published[0]["Message"]

    platform.pass_time(3600)
    platform.run()
    assert platform.serves == first
    assert len(automatic(platform)) == 2


def test_when_what_it_goes_back_to_does_not_start_what_is_at_fault_serves_on(platform: Platform) -> None:
    first, second = goes_bad(platform)
    platform.aws.broken.add(first)
    platform.run()
    platform.pass_time(1300)
    assert platform.serves == second
    status = {arn: version["ModelApprovalStatus"] for arn, version in platform.aws.packages.items()}
    assert status == {first: "Rejected", second: "Approved"}
    told = {"goes back to version 1 by itself": 1, "version 1 could not be deployed": 1, "needs somebody": 1}
    assert platform.told() == told
    assert "does not go back again before" in platform.aws.published[-1]["Message"]
    assert len(automatic(platform)) == 1
    assert "could not go back" in page(platform)

    platform.pass_time(7200)
    assert (platform.serves, platform.told()) == (second, {**told, "needs somebody": 2})
    assert "no other version of kind real-time" in platform.aws.published[-1]["Message"]


def test_when_what_it_goes_back_to_does_not_start_the_version_before_that_is_tried_after_the_hold(
    platform: Platform,
) -> None:
    first, second, third = (platform.register(GUARDED) for _ in range(3))
    for version in (first, second, third):
        platform.approve(version)
        platform.run()
    platform.pass_time(60)
    platform.begin()
    platform.aws.broken.add(second)
    platform.raise_alarm("errors")
    platform.run()
    platform.pass_time(1300)
    assert platform.serves == third
    platform.pass_time(3600)
    platform.run()
    assert platform.serves == first
    status = {arn: version["ModelApprovalStatus"] for arn, version in platform.aws.packages.items()}
    assert status == {first: "Approved", second: "Rejected", third: "Rejected"}
    assert platform.told() == {
        "goes back to version 2 by itself": 1,
        "version 2 could not be deployed": 1,
        "needs somebody": 1,  # of the hold
        "goes back to version 1 by itself": 1,
        "version 1 serves": 1,
    }


def test_what_was_not_gone_back_from_after_all_stays_the_way_back_of_the_next_version(platform: Platform) -> None:
    first, second = goes_bad(platform)
    platform.aws.broken.add(first)
    platform.run()
    third = platform.register(GUARDED)
    platform.approve(third)
    platform.run()
    assert platform.serves == third
    assert platform.aws.packages[second]["ModelApprovalStatus"] == "Approved"


def test_the_version_that_a_person_left_is_not_what_an_alarm_goes_back_to(platform: Platform) -> None:
    first, second = (platform.register(GUARDED) for _ in range(2))
    for version in (first, second):
        platform.approve(version)
        platform.run()
    platform.command("go-back", first)
    platform.run()
    platform.pass_time(600)
    platform.begin()
    platform.raise_alarm("errors")
    platform.pass_time(1300)
    assert (platform.serves, automatic(platform)) == (first, [])
    assert platform.told() == {"needs somebody": 1}


SLOW_ALARM = {**GUARDED, "alarms": {**GUARDED["alarms"], "periods": 3}}


def served_after_a_long_update(platform: Platform) -> list[str]:
    """Two versions whose alarms take three minutes; the second one serves, and nothing is under way."""
    versions = [platform.register(SLOW_ALARM) for _ in range(2)]
    platform.approve(versions[0])
    platform.run()
    platform.held = True
    platform.approve(versions[1])
    platform.run(lambda: platform.status == "Updating")
    platform.pass_time(300)
    platform.held = False
    platform.run()
    platform.pass_time(60)
    return versions


def test_an_alarm_whose_periods_reach_back_is_looked_at_again_within_a_minute_of_when_they_do_not(
    platform: Platform,
) -> None:
    first, _ = served_after_a_long_update(platform)
    platform.raise_alarm("errors")
    raised_at = platform.clock.now()
    platform.run()
    assert platform.serves == first
    (entry,) = automatic(platform)
    # of three minutes; two are gone when it is raised, and it is asked once more a minute after the third
    assert timedelta(minutes=1) < entry.at - raised_at < timedelta(minutes=4)


def test_an_alarm_that_was_of_what_served_before_and_is_quiet_then_is_no_fault(platform: Platform) -> None:
    _, second = served_after_a_long_update(platform)
    platform.raise_alarm("errors")
    platform.pass_time(30)
    assert platform.state is not None
    assert platform.state.status == "under-way"
    platform.aws.set_alarm_state(f"{platform.endpoint}-errors", "OK", "fine")
    platform.run()
    assert (platform.serves, automatic(platform)) == (second, [])


def test_a_newer_approval_comes_before_going_back_and_what_was_left_is_rejected_all_the_same(
    platform: Platform,
) -> None:
    _, second = goes_bad(platform)
    third = platform.register(GUARDED)
    platform.held = True
    platform.run(lambda: platform.status == "Updating")
    platform.approve(third)
    platform.run(lambda: any(one.package_arn == third for one in platform.entries))
    platform.held = False
    platform.run()
    assert platform.serves == third
    assert platform.aws.packages[second]["ModelApprovalStatus"] == "Rejected"


@pytest.mark.parametrize("kind", ["real_time", "serverless", "batch"])
def test_failed_endpoint_tests_go_back_whatever_kind_it_is(platform: Platform, kind: str) -> None:
    stage_file = {
        "real_time": STAGE_FILE,
        "serverless": {"kind": "serverless", "memory_mb": 2048, "max_concurrency": 5},
        "batch": BATCH,
    }[kind]
    first, second = (platform.register(stage_file) for _ in range(2))
    for version in (first, second):
        platform.approve(version)
        platform.run()
    platform.aws.packages[second]["CustomerMetadataProperties"]["tests.sha256"] = "ab"
    platform.clock.seconds += 5
    at = platform.clock.now().replace(microsecond=0)
    run = a_run(endpoint=platform.endpoint, package_arn=second, at=at, ended=at, results="s3://artifacts/results.json")
    platform._read(lambda ledger: ledger.begin_test_run(run))
    platform.begin()

    platform.send_event({"look": "endpoint", "endpoint": platform.endpoint, "missed": False})
    platform.run()

    assert platform.serves == first
    assert platform.aws.packages[second]["ModelApprovalStatus"] == "Rejected"
    text = next(one["Message"] for one in platform.aws.published if "by itself" in one["Subject"])
    assert "aws s3 cp s3://artifacts/results.json -" in text
    assert "python -m pipeline test-endpoint --stage dev" in text
    assert "3 of its 12 endpoint tests failed" in page(platform)


def test_tests_that_fail_on_every_schedule_with_no_way_back_call_for_somebody_once(platform: Platform) -> None:
    version = platform.register(STAGE_FILE)
    platform.approve(version)
    platform.run()
    platform.aws.packages[version]["CustomerMetadataProperties"]["tests.sha256"] = "ab"
    platform.begin()
    for _ in range(3):
        platform.pass_time(900)
        at = platform.clock.now().replace(microsecond=0)
        run = a_run(endpoint=platform.endpoint, number=1, package_arn=version, at=at, ended=at)
        platform._read(partial(Ledger.begin_test_run, run=run))
        platform.send_event({"look": "endpoint", "endpoint": platform.endpoint, "missed": False})
        platform.run()
    assert platform.serves == version
    assert platform.told()["needs somebody"] == 1


# --- whatever happens meanwhile

KINDS = ("killed before", "killed after", pytest.param("throttled", marks=pytest.mark.slow))


@pytest.mark.parametrize("kind", KINDS)
def test_killed_or_refused_at_any_call_it_goes_back_once_and_all_the_same(kind: str) -> None:
    """All kinds of faults: test_fault_matrix.py. "late" is another function that looks at the same time."""
    assert len(automatic_entries("alarm_goes_back")) == 1
    wrong = [
        f"{fault.call} {fault.kind}: {faults}"
        for fault in cases("alarm_goes_back")
        if fault.kind == kind and (faults := faults_of("alarm_goes_back", fault))
    ]
    assert not wrong, "\n".join(wrong[:10])


def test_a_look_that_lost_its_lease_meanwhile_writes_nothing() -> None:
    late = [fault for fault in cases("alarm_goes_back") if fault.kind == "late" and fault.call.service == "dynamodb"]
    assert late
    wrong = [f"{fault.call}: {faults}" for fault in late if (faults := faults_of("alarm_goes_back", fault))]
    assert not wrong, "\n".join(wrong[:10])


def automatic_entries(scenario: str) -> list[Any]:
    return [entry for entry in undisturbed(scenario).end["entries"] if entry[0] == "go-back"]
