"""What goes and what stays: decided from facts, and over random projects nothing goes that somebody needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle_lambdas import cleaning
from lifecycle_lambdas.approvals import desired
from lifecycle_lambdas.cleaning import (
    Facts,
    Parking,
    Pipeline,
    Policy,
    Removal,
    Serving,
    Version,
    decide,
    due,
    last_time,
    need,
)
from lifecycle_lambdas.records import Deployment, Entry, PolicyRecord
from tests.lifecycle_lambdas.fault_matrix import ALL_AT_ONCE
from tests.lifecycle_lambdas.simulated_platform import Platform

NOW = datetime(2026, 11, 21, 22, 15, tzinfo=UTC)  # a Saturday
POLICY = Policy(versions_after_days=30, pipelines_after_days=14)
BUCKET = "s3://artifacts/churn/feature/churn-feature-x"


def arn(number: int, stage: str = "feature") -> str:
    return f"arn:aws:sagemaker:eu-west-1:111122223333:model-package/churn-{stage}/{number}"


def version(number: int, days: float = 100, stage: str = "feature", data: str = "", **more: Any) -> Version:
    created = NOW - timedelta(days=days)
    own = f"{BUCKET}/{data or number}"
    uris = (f"{own}/train/output/model.tar.gz", f"{own}/evaluate/evaluation/")
    models = frozenset(uris[:1])
    return replace(
        Version(arn(number, stage), stage, created, created, False, "", "", models, frozenset(uris), uris), **more
    )


def pipeline(name: str = "churn-feature-gone", branch: str | None = "feature-gone", days: float = 20) -> Pipeline:
    return Pipeline(name, branch, NOW - timedelta(days=days), running=False)


BRANCHES = frozenset({"dev", "prod", "feature-here"})
NEWEST = version(9, days=1)


def gone(facts: Facts, policy: Policy = POLICY) -> list[tuple[str, str]]:
    return [(removal.kind, removal.what) for removal in decide(policy, facts, NOW)]


# --- versions and their data


def test_an_old_version_that_nobody_needs_goes_with_its_data():
    old = version(1)
    assert gone(Facts((old, NEWEST))) == [("version", arn(1)), *(("data", uri) for uri in old.own)]


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (Facts((version(1), version(2, days=1))), None),
        (Facts((version(1),)), "it is the newest"),
        (Facts((version(1), version(1, stage="dev"))), "it is the newest"),
        (Facts((version(1), NEWEST), {arn(1): "it serves"}), "it serves"),
        (
            Facts((version(1), NEWEST, version(4, stage="dev", promoted_from=arn(1), data="4"))),
            "churn-dev/4 is a copy of it",
        ),
        (
            Facts((version(1, tree="t"), NEWEST, version(4, stage="dev", tree="t", data="4"))),
            "churn-dev/4 is made of the same files",
        ),
        (Facts((version(1), NEWEST, version(4, stage="prod", data="1"))), "churn-prod/4 has the same model data"),
        (
            Facts((version(1), NEWEST), pipelines=(replace(pipeline(), running=True),)),
            "a pipeline is running, and may take over what the version is made of",
        ),
    ],
)
def test_a_version_that_is_needed_stays_however_old_it_is(facts, why):
    assert need(facts.versions[0], facts) == why
    assert (("version", arn(1)) in gone(facts)) == (why is None)


def test_versions_without_a_tree_are_not_taken_for_made_of_the_same_files():
    assert ("version", arn(1)) in gone(Facts((version(1), NEWEST, version(4, stage="dev", data="4"))))


@pytest.mark.parametrize(("days", "goes"), [(29.9, False), (30, False), (30.1, True)])
def test_a_version_goes_when_it_is_older_than_the_policy_says(days, goes):
    assert (("version", arn(1)) in gone(Facts((version(1, days), NEWEST)))) == goes


def test_a_version_that_was_changed_lately_stays():
    """Approved, for one, by an event that is still on its way."""
    assert gone(Facts((version(1, changed=NOW - timedelta(days=1)), NEWEST))) == []


def test_of_more_versions_than_a_run_takes_the_others_stay_with_their_data():
    facts = Facts((*(version(number) for number in range(1, cleaning.MOST + 6)), version(999, days=1)))
    found = gone(facts)
    versions = {what for kind, what in found if kind == "version"}
    assert len(versions) == cleaning.MOST
    named = {uri for one in facts.versions if one.arn not in versions for uri in one.own}
    assert not named.intersection(what for kind, what in found if kind == "data")


def test_nothing_goes_that_the_policy_leaves_out():
    facts = Facts((version(1), NEWEST), pipelines=(pipeline(),), branches=BRANCHES)
    assert {kind for kind, _ in gone(facts, Policy(None, 14))} == {"pipeline"}
    assert {kind for kind, _ in gone(facts, Policy(30, None))} == {"version", "data"}


def test_data_that_a_version_that_stays_names_stays():
    names_a_file_in_it = version(9, days=1, uris=frozenset({f"{BUCKET}/1/evaluate/evaluation/report.html"}))
    assert gone(Facts((version(1), names_a_file_in_it))) == [
        ("version", arn(1)),
        ("data", f"{BUCKET}/1/train/output/model.tar.gz"),
    ]


def test_data_of_two_versions_that_go_goes_once():
    found = gone(Facts((version(1), version(2, data="1"), NEWEST)))
    assert [what for kind, what in found if kind == "data"] == list(version(1).own)


# --- pipelines


def test_a_pipeline_goes_whose_branch_is_long_gone():
    (removal,) = decide(POLICY, Facts(pipelines=(pipeline(),), branches=BRANCHES), NOW)
    assert (removal.kind, removal.what) == ("pipeline", "churn-feature-gone")
    assert removal.why == "the branch feature-gone is gone, and it was last used 20 days ago"


@pytest.mark.parametrize(
    ("one", "branches"),
    [
        pytest.param(pipeline(branch="feature-here"), BRANCHES, id="its branch is there"),
        pytest.param(pipeline(branch=None), BRANCHES, id="nobody knows its branch"),
        pytest.param(pipeline(days=13), BRANCHES, id="it was used lately"),
        pytest.param(replace(pipeline(), running=True), BRANCHES, id="it is running"),
        pytest.param(pipeline(), None, id="the Git host does not answer"),
        pytest.param(pipeline(), frozenset(), id="the repository is empty"),
        pytest.param(pipeline(), frozenset({"main"}), id="the repository is another's"),
    ],
)
def test_a_pipeline_stays_while_it_may_be_needed(one, branches):
    assert gone(Facts(pipelines=(one,), branches=branches)) == []


# --- what the ledger needs


def entry(minute: int, kind: Any, number: int | None = None) -> Entry:
    package = None if number is None else arn(number)
    return Entry(
        "churn-feature", kind, NOW - timedelta(days=60) + timedelta(minutes=minute), package, "ann", "", "event"
    )


def deployment(
    number: int,
    package: int,
    status: Any = "succeeded",
    previous: int | None = None,
    kind: str = "real_time",
    of: str = "approve",
) -> Deployment:
    started, how = NOW - timedelta(days=60) + timedelta(minutes=number), {"kind": kind}
    key = f"ENTRY#{number}#{of}"
    return Deployment("churn-feature", number, key, arn(package), how, "", status, started, previous, ended=started)


def needed(
    entries: Sequence[Entry], history: Sequence[Deployment] = (), models: Sequence[str] = (), approved=()
) -> set[int]:
    found = cleaning.needed(entries, history, models, {arn(number) for number in approved})
    return {int(each.rpartition("/")[2]) for each in found}


@pytest.mark.parametrize(
    ("entries", "history", "models", "approved", "expected"),
    [
        pytest.param([], [], [], [], set(), id="nothing was decided"),
        pytest.param([entry(3, "approve", 3), entry(1, "approve", 1)], [], [], [1, 3], {1, 3}, id="and the way back"),
        pytest.param(
            [entry(4, "approve", 4), entry(3, "approve", 3), entry(1, "approve", 1)],
            [],
            [],
            [1, 3, 4],
            {3, 4},
            id="no more",
        ),
        pytest.param(
            [entry(5, "reject", 4), entry(4, "approve", 4), entry(3, "approve", 3), entry(1, "approve", 1)],
            [],
            [],
            [1, 3],
            {4, 3, 1},
            id="what was approved last, and what would come back",
        ),
        pytest.param([entry(5, "park"), entry(1, "approve", 1)], [], [], [1], {1}, id="of a parked endpoint"),
        pytest.param([entry(5, "remove"), entry(1, "approve", 1)], [], [], [1], set(), id="none before a removal"),
        pytest.param([], [deployment(2, 7, previous=1), deployment(1, 5)], [], [], {5, 7}, id="serves, and before it"),
        pytest.param([], [deployment(3, 8, "under-way"), deployment(2, 7)], [], [], {7, 8}, id="under way"),
        pytest.param([], [deployment(3, 8, "failed"), deployment(2, 7)], [], [], {7}, id="failed"),
        pytest.param([], [deployment(3, 7), deployment(2, 7), deployment(1, 5)], [], [], {5, 7}, id="served twice"),
        pytest.param(
            [entry(5, "approve", 5), entry(4, "approve", 4), entry(3, "approve", 3)],
            [
                deployment(5, 5, previous=4, kind="serverless"),
                deployment(4, 4, previous=3),
                deployment(3, 3, kind="serverless"),
            ],
            [],
            [3, 4, 5],
            {3, 4, 5},
            id="the way back is the last one of the same kind",
        ),
        pytest.param(
            [entry(5, "approve", 5), entry(4, "approve", 4), entry(2, "approve", 2), entry(1, "approve", 1)],
            [deployment(5, 5, previous=3), deployment(4, 4, "superseded"), deployment(3, 3), deployment(1, 1)],
            [],
            [1, 2, 4, 5],
            {1, 3, 4, 5},
            id="the way back is the last one that served and is approved",
        ),
        pytest.param(
            [],
            [
                deployment(6, 6, "under-way", 5, "serverless"),
                deployment(5, 5, previous=4),
                deployment(4, 4),
                deployment(3, 3, kind="serverless"),
            ],
            [],
            [3, 4, 5, 6],
            {3, 4, 5, 6},
            id="what is under way will have a way back",
        ),
        pytest.param(
            [],
            [deployment(number, number, previous=number - 1) for number in range(60, 2, -1)] + [deployment(1, 1)],
            [],
            [1, 60],
            {1, 59, 60},
            id="however long ago the way back served",
        ),
        pytest.param([], [], [arn(6)], [], {6}, id="a model is made of it, whatever the ledger says"),
    ],
)
def test_what_serves_and_what_leads_back_is_needed(entries, history, models, approved, expected):
    assert needed(entries, history, models, approved) == expected


# --- a hundred random projects


ages = st.sampled_from([0, 20, 31, 60, 90, 91, 400])  # days
numbers = st.integers(1, 6)  # of versions


@st.composite
def histories(draw: Any) -> tuple[list[Deployment], set[str]]:
    """Deployments, the newest first, and the ARNs of the versions that are approved now."""
    statuses = st.sampled_from(["succeeded", "succeeded", "succeeded", "failed", "superseded"])
    stage_kinds, asked_by = st.sampled_from(["real_time", "serverless"]), st.sampled_from(["approve", "go-back"])
    history = [
        deployment(number, draw(numbers), draw(statuses), number - 1, draw(stage_kinds), draw(asked_by))
        for number in range(draw(st.integers(0, 8)), 0, -1)
    ]
    return history, {arn(number) for number in draw(st.lists(numbers) | st.permutations(range(1, 7)))}


@st.composite
def projects(draw: Any) -> tuple[Facts, set[str]]:
    """Versions of any stage that share trees, data and origins at will, any pipelines, any ledger.

    Returns:
        The facts, and the ARNs of the versions that must stay by what the controller itself would deploy.
    """
    versions = []
    for stage, most in (("feature", 6), ("dev", 2), ("prod", 1)):
        for number in draw(st.lists(numbers, unique=True, max_size=most)):
            data = draw(st.sampled_from([f"{stage}-{number}", str(number), "shared"]))
            one = version(number, draw(ages), stage, data)
            names_too = draw(st.lists(numbers, max_size=1))
            tree = draw(st.sampled_from(["", f"{stage}-{number}", str(number), "shared"]))
            origin = draw(st.just("") | numbers.map(arn)) if stage != "feature" else ""
            uris = one.uris | {version(1, data=f"feature-{other}").own[0] for other in names_too}
            own = one.own if stage == "feature" else ()
            versions.append(replace(one, tree=tree, promoted_from=origin, uris=uris, own=own))
    pipelines = [
        Pipeline(
            f"churn-feature-{index}",
            draw(st.sampled_from([None, "feature-a", "feature-b", "feature-c", "feature-d"])),
            NOW - timedelta(days=draw(ages)),
            draw(st.booleans()),
        )
        for index in range(draw(st.integers(0, 3)))
    ]
    some = st.frozensets(st.sampled_from(["dev", "prod", "feature-a", "feature-b"]))
    branches = draw(st.none() | some | some.map(lambda names: names | {"dev"}))
    kinds = st.sampled_from(["approve", "approve", "reject", "go-back", "park", "remove"])
    entries = [
        entry(-index, kind, None if kind in ("park", "remove") else draw(numbers))
        for index, kind in enumerate(draw(st.lists(kinds, max_size=4)))
    ]
    history, approved = draw(histories())
    models = [arn(number) for number in draw(st.lists(numbers, max_size=1))]
    needed = cleaning.needed(entries, history, models, approved)
    return Facts(tuple(versions), needed, tuple(pipelines), branches), {*models, *_serve(entries, history, approved)}


def _serve(entries: list[Entry], history: list[Deployment], approved: set[str]) -> Iterator[str]:
    """What should serve, what would serve were that rejected, what serves, what it goes back to, what served before."""
    should = desired(entries, lambda one: "Approved" if one in approved else "Rejected", NOW)
    if should is not None and should.package_arn is not None:
        yield should.package_arn
        left = approved - {should.package_arn}
        instead = desired(entries, lambda one: "Approved" if one in left else "Rejected", NOW)
        if instead is not None and instead.package_arn is not None:
            yield instead.package_arn
    served = [one for one in history if one.status == "succeeded"]
    for one in served[:1]:
        yield one.package_arn
        yield from (each.package_arn for each in history if each.number == one.previous)
        # of each going back, what it left: not that version, as long as it was not deployed again
        gone_from = [each for each in served for back in served if back.goes_back and back.previous == each.number]
        ways_back = [
            each.package_arn
            for each in served
            if each.package_arn in approved - {one.package_arn}
            and each.stage_file == one.stage_file
            and not any(bad.package_arn == each.package_arn and bad.number >= each.number for bad in gone_from)
        ]
        yield from ways_back[:1]


def test_over_a_hundred_random_projects_nothing_goes_that_it_must_not():
    """And in enough of them something does, or else that would say nothing."""
    went: Counter[str] = Counter()

    @settings(max_examples=250, deadline=None, derandomize=True, database=None)
    @given(projects(), st.integers(30, 90), st.integers(14, 60))
    def over(project: tuple[Facts, set[str]], versions_after: int, pipelines_after: int) -> None:
        facts, must_stay = project
        assert must_stay <= facts.needed.keys()  # whether or not something else keeps it, too
        removals = decide(Policy(versions_after, pipelines_after), facts, NOW)
        went.update({removal.kind for removal in removals})
        check_versions(facts, must_stay, removals, versions_after)
        check_pipelines(facts, removals, pipelines_after)

    over()
    assert min(went["version"], went["data"], went["pipeline"]) >= 5


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(histories())
def test_whatever_was_deployed_what_serves_and_what_it_goes_back_to_is_needed(
    ledger: tuple[list[Deployment], set[str]],
):
    """The deployments alone: nothing that was decided, and no model, keeps a version besides."""
    history, approved = ledger
    assert {*_serve([], history, approved)} <= cleaning.needed([], history, [], approved).keys()


def check_versions(facts: Facts, must_stay: set[str], removals: list[Removal], days: int) -> None:
    """Said anew here, not in the words of the code: of each version that goes, all that would have forbidden it."""
    went = [one for one in facts.versions if ("version", one.arn) in {(each.kind, each.what) for each in removals}]
    features = [one for one in facts.versions if one.stage == "feature"]
    beyond = [one for one in facts.versions if one.stage != "feature"]
    stays = [one for one in facts.versions if one not in went]
    for one in went:
        assert one in features
        assert (NOW - one.created).days >= days
        assert one.arn not in must_stay
        assert one.arn not in {each.promoted_from for each in beyond}
        assert not one.tree or one.tree not in {each.tree for each in beyond}
        assert not any(one.models & each.models for each in beyond)
    assert not features or max(features, key=lambda one: int(one.arn.rpartition("/")[2])) not in went
    assert not went or not any(one.running for one in facts.pipelines)
    for uri in (one.what for one in removals if one.kind == "data"):
        assert uri in {own for one in went for own in one.own}
        assert not any(_touches(uri, named) for one in stays for named in one.uris)


def check_pipelines(facts: Facts, removals: list[Removal], days: int) -> None:
    pipelines = {one.name: one for one in facts.pipelines}
    for gone in (pipelines[one.what] for one in removals if one.kind == "pipeline"):
        assert not gone.running
        assert gone.branch not in {None, *(facts.branches or ())}
        assert {"dev", "prod"} & (facts.branches or set())
        assert (NOW - gone.used).days >= days


def _touches(folder: str, uri: str) -> bool:
    return uri.startswith(folder) or folder.startswith(uri)


# --- parking


def serving(parking: Parking, since: datetime, announced: datetime | None, **more: Any) -> Serving:
    return replace(Serving("churn-dev", parking, since, since, announced), **more)


NIGHTLY = Parking(at="nightly", hour=20, timezone="UTC")
LONG_AGO = NOW - timedelta(days=9)
TODAY_AT_8 = datetime(2026, 11, 21, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "announced", "parked"),
    [
        pytest.param(LONG_AGO, LONG_AGO, True, id="its hour has come"),
        pytest.param(LONG_AGO, None, False, id="nobody was told"),
        pytest.param(LONG_AGO, NOW, False, id="people are told just now"),
        pytest.param(LONG_AGO, TODAY_AT_8 + timedelta(minutes=5), False, id="people were told after the hour"),
        pytest.param(LONG_AGO, TODAY_AT_8 - timedelta(minutes=5), True, id="people were told before the hour"),
        pytest.param(TODAY_AT_8 + timedelta(minutes=5), LONG_AGO, False, id="approved after the hour: until tomorrow"),
    ],
)
def test_an_endpoint_is_parked_when_its_hour_has_come_and_people_know(since, announced, parked):
    """As of that hour: what was decided since then stands, also where the ledger hears of it later."""
    assert due(serving(NIGHTLY, since, announced), NOW) == (TODAY_AT_8 if parked else None)


def test_an_endpoint_about_which_somebody_decided_after_the_hour_stays():
    assert due(serving(NIGHTLY, LONG_AGO, LONG_AGO, decided=TODAY_AT_8 + timedelta(minutes=1)), NOW) is None


@pytest.mark.parametrize(
    ("since", "requests", "parked"),
    [
        (NOW - timedelta(hours=3, seconds=1), 0.0, True),
        (NOW - timedelta(hours=3, seconds=1), 1.0, False),
        (NOW - timedelta(hours=3, seconds=1), None, False),
        (NOW - timedelta(hours=3), 0.0, False),
        (NOW - timedelta(hours=2), 0.0, False),
    ],
)
def test_an_idle_endpoint_is_parked_after_its_hours_without_a_request(since, requests, parked):
    """As of when they began."""
    one = serving(Parking(idle_hours=3), since, LONG_AGO, requests=requests)
    assert due(one, NOW) == (NOW - timedelta(hours=3) if parked else None)


@pytest.mark.parametrize(
    ("parking", "as_of"), [(NIGHTLY, TODAY_AT_8), (Parking(idle_hours=3), NOW - timedelta(hours=3))]
)
@pytest.mark.parametrize(("later", "parked"), [(-1, True), (0, False), (1, False)])
def test_what_was_decided_in_the_second_as_of_which_it_would_be_parked_stands(parking, as_of, later, parked):
    one = serving(parking, LONG_AGO, LONG_AGO, decided=as_of + timedelta(seconds=later), requests=0.0)
    assert due(one, NOW + timedelta(microseconds=900_000)) == (as_of if parked else None)


@pytest.mark.parametrize(
    ("parking", "now", "time"),
    [
        (NIGHTLY, NOW, "2026-11-21T20:00:00+00:00"),
        (NIGHTLY, datetime(2026, 11, 21, 19, 59, tzinfo=UTC), "2026-11-20T20:00:00+00:00"),
        (NIGHTLY, TODAY_AT_8, "2026-11-21T20:00:00+00:00"),
        (Parking("nightly", 20, "Europe/Berlin"), NOW, "2026-11-21T19:00:00+00:00"),
        (Parking("nightly", 20, "Europe/Berlin"), datetime(2026, 7, 1, 18, tzinfo=UTC), "2026-07-01T18:00:00+00:00"),
        (Parking("nightly", 3, "Asia/Tokyo"), NOW, "2026-11-21T18:00:00+00:00"),
        (Parking("weekly", 20, "UTC", "FRI"), NOW, "2026-11-20T20:00:00+00:00"),
        (Parking("weekly", 20, "UTC", "SAT"), NOW, "2026-11-21T20:00:00+00:00"),
        (Parking("weekly", 23, "UTC", "SAT"), NOW, "2026-11-14T23:00:00+00:00"),
        (Parking("weekly", 20, "UTC", "SUN"), NOW, "2026-11-15T20:00:00+00:00"),
    ],
)
def test_when_an_endpoint_was_to_be_parked_last(parking, now, time):
    assert last_time(parking, now).isoformat() == time


@pytest.mark.parametrize("which", ["the same version", "another version"])
def test_a_parked_endpoint_comes_back_with_the_next_approval_whichever_version_it_is_of(which):
    platform = Platform()
    with platform.installed():
        version, another = platform.register(ALL_AT_ONCE), platform.register(ALL_AT_ONCE)
        platform.approve(version)
        platform.run()
        platform.outage_allowed = True
        platform.command("park", None)
        platform.run()
        assert platform.serves is None
        platform.pass_time(1300)
        assert platform.serves is None
        wanted = version if which == "the same version" else another
        platform.approve(version)  # it is approved already: no event, and nothing comes back
        platform.pass_time(1300)
        assert platform.serves is None
        if wanted == version:
            platform.reject(version)
        platform.approve(wanted)
        platform.run()
        assert platform.serves == wanted


def test_should_aws_tell_of_an_approval_that_changed_nothing_the_parked_endpoint_comes_back_once():
    """Nobody could try whether it does (docs/unverified.md)."""
    platform = Platform()
    with platform.installed():
        version = platform.register(ALL_AT_ONCE)
        platform.approve(version)
        platform.run()
        platform.outage_allowed = True
        platform.command("park", None)
        platform.run()
        platform.approve(version)
        for _ in range(2):
            platform.aws.tell_of_version(version, ["ModelApprovalStatus"])
        platform.run()
        platform.pass_time(1300)
        assert (platform.serves, len(platform.deployments)) == (version, 2)


# --- announcing


@pytest.mark.parametrize(
    ("announced", "removed", "may"),
    [
        (NOW - timedelta(hours=23), None, False),
        (NOW - timedelta(hours=24), None, True),
        (LONG_AGO, NOW - timedelta(hours=23), False),
        (LONG_AGO, NOW - timedelta(hours=24), True),
    ],
)
def test_a_policy_removes_a_day_after_people_were_told_and_once_a_day(announced, removed, may):
    assert cleaning.may_remove(announced, removed, NOW) == may


def test_a_changed_policy_is_another_one():
    assert cleaning.fingerprint(POLICY) == cleaning.fingerprint(replace(POLICY))
    sections: list[Policy | Parking] = [POLICY, Policy(31, 14), Policy(30, 15), Policy(30, None), NIGHTLY]
    assert len({cleaning.fingerprint(one) for one in sections}) == 5


def turn(record: PolicyRecord | None, sha256: str, now: datetime) -> PolicyRecord:
    """What is recorded when the newest version's policy is this one, as a run does it."""
    known = cleaning.turned_to(record, sha256, now)
    if known is not None:
        return known
    told = {} if record is None else cleaning.told_lately(record, now)
    return PolicyRecord("churn-feature", "clean", sha256, now, earlier=told)


def test_policies_that_take_turns_are_announced_once_a_week_each():
    record, announced = None, []
    for hour in range(0, 15 * 24, 6):
        now = NOW + timedelta(hours=hour)
        record = turn(record, "ab"[hour // 6 % 2], now)
        announced += [(hour, record.sha256)] if record.announced == now else []
    assert announced == [(0, "a"), (6, "b"), (180, "a"), (186, "b")]


def test_a_policy_that_comes_back_after_more_than_a_week_is_announced_again():
    first = PolicyRecord("churn-feature", "clean", "a", NOW)
    assert cleaning.turned_to(first, "a", NOW + timedelta(days=400)) == first
    other = turn(first, "b", NOW + timedelta(days=6))
    assert cleaning.turned_to(other, "a", NOW + timedelta(days=7)) is not None
    assert cleaning.turned_to(other, "a", NOW + timedelta(days=7, seconds=1)) is None


def test_a_policy_that_was_off_for_more_than_a_week_is_announced_again():
    """Else what people were told of a year ago would remove within the hour."""
    first = PolicyRecord("churn-feature", "clean", "a", NOW)
    off = cleaning.turned_off(first, NOW + timedelta(days=6))
    assert off is not None
    assert cleaning.turned_off(off, NOW + timedelta(days=6)) is None
    assert cleaning.turned_off(None, NOW) is None
    assert cleaning.turned_to(off, "a", NOW + timedelta(days=7)) is not None
    assert cleaning.turned_to(off, "a", NOW + timedelta(days=7, seconds=1)) is None


def test_costs_are_added_where_they_are_known():
    removals = [
        cleaning.Removal("data", "a", "", 1.5),
        cleaning.Removal("data", "b", "", 0.25),
        cleaning.Removal("pipeline", "c", ""),
    ]
    assert cleaning.total(removals) == "1.75 USD a month and 1 of unknown price"
    assert cleaning.total([]) == "nothing"
