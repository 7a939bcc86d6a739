"""The ledger, on MiniStack's DynamoDB and on the simulated table that the fault matrix runs on."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lifecycle_lambdas.ledger import FIRST_PAGE, LeaseLost, Ledger
from lifecycle_lambdas.records import Attempt, Deployment, Entry, State, TestRun, TestSchedule
from tests.lifecycle_lambdas.conftest import create_table
from tests.lifecycle_lambdas.simulated_table import SimulatedTable

ENDPOINT = "churn-prod"
PACKAGE = "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn-prod/{}"
START = datetime(2026, 11, 21, 8, 12, 0, tzinfo=UTC)
STATE = State(ENDPOINT, "churn", "prod", ENDPOINT, "settled")


def approval(version: int, seconds: int = 0, **changes: Any) -> Entry:
    at = START + timedelta(seconds=seconds)
    entry = Entry(ENDPOINT, "approve", at, PACKAGE.format(version), "arn:aws:iam::1:user/ann", "better", "event")
    return replace(entry, **changes)


def deployment(version: int = 1, **changes: Any) -> Deployment:
    new = Deployment(
        endpoint=ENDPOINT,
        number=0,
        entry_key=approval(version).key,
        package_arn=PACKAGE.format(version),
        stage_file={"kind": "real_time", "instance_count": 2, "alarms": {"error_share": 0.05}},
        stage_file_sha256="ab" * 32,
        status="under-way",
        started=START,
    )
    return replace(new, **changes)


@pytest.fixture(params=["MiniStack", "simulated"])
def ledger(request, clients):
    if request.param == "simulated":
        return Ledger(SimulatedTable(), "ledger")
    return Ledger(clients("dynamodb"), create_table(clients("dynamodb")))


def keys(ledger: Ledger) -> list[str]:
    return [entry.key for entry in ledger.entries(ENDPOINT)]


# --- entries


@pytest.fixture
def begun(ledger):
    for endpoint in (ENDPOINT, f"{ENDPOINT}-dev"):
        ledger.put_state_if_new(replace(STATE, endpoint=endpoint))
    return ledger


def test_an_entry_asks_for_a_look_once(begun):
    assert begun.append(approval(1))
    assert not begun.append(approval(1))
    assert begun.state(ENDPOINT) == replace(STATE, status="under-way", asked=1)


def test_an_entry_of_an_endpoint_that_has_not_begun_is_not_written(ledger):
    with pytest.raises(LookupError, match="does not know the endpoint churn-prod"):
        ledger.append(approval(1))
    assert keys(ledger) == []


def test_who_decides_by_what_they_saw_writes_it_only_while_they_have_the_lease(begun):
    lost = begun.lease(ENDPOINT, "one", -1)
    with begun.lease(ENDPOINT, "two", 60) as lease:
        with pytest.raises(LeaseLost):
            begun.append(approval(1), lost)
        assert begun.append(approval(2), lease)
        assert not begun.append(approval(2), lease)
    assert [entry.package_arn for entry in begun.entries(ENDPOINT)] == [PACKAGE.format(2)]
    assert begun.state(ENDPOINT).asked == 1


def test_going_back_comes_back_with_its_cause_and_what_it_leaves(begun):
    entry = approval(
        1, kind="go-back", source="controller", leaves=PACKAGE.format(2), cause="ALARM#2#churn-prod-errors"
    )
    begun.append(entry)
    assert list(begun.entries(ENDPOINT)) == [entry]


def test_entries_come_back_as_they_were_written_the_newest_first(begun):
    until = START + timedelta(hours=1, microseconds=5)
    park = Entry(ENDPOINT, "park", START + timedelta(seconds=2), None, "ann", "Prüfung", "command", until)
    written = [approval(1), approval(2, 1), park]
    for entry in (written[1], written[2], written[0]):
        assert begun.append(entry)
    assert list(begun.entries(ENDPOINT)) == written[::-1]


def test_an_approval_is_written_once_whoever_finds_it(begun):
    again = approval(1, why="found", by="unknown", source="found")
    with pytest.raises(LookupError, match="has no entry"):
        begun.entry(again)
    assert begun.append(approval(1))
    assert not begun.append(again)
    assert list(begun.entries(ENDPOINT)) == [approval(1)]
    assert begun.entry(again) == approval(1)


def test_an_approval_older_than_the_newest_takes_its_place_below_it(begun):
    begun.append(approval(3, 9))
    assert begun.append(approval(2, 4))
    assert keys(begun) == [approval(3, 9).key, approval(2, 4).key]


def test_of_the_same_second_the_higher_version_is_the_newer_and_a_rejection_comes_after_its_approval(begun):
    rejected = approval(9, kind="reject")
    for entry in (approval(10), rejected, approval(9)):
        begun.append(entry)
    assert keys(begun) == [approval(10).key, rejected.key, approval(9).key]


def test_endpoints_whose_names_begin_alike_have_ledgers_of_their_own(begun):
    begun.append(approval(1))
    begun.append(approval(2, endpoint=f"{ENDPOINT}-dev"))
    assert keys(begun) == [approval(1).key]


def test_further_pages_are_read_only_when_they_are_asked_for(begun, monkeypatch):
    for version in range(1, FIRST_PAGE + 6):
        begun.append(approval(version, version))
    queries: list[Any] = []
    query = begun._dynamodb.query

    def counted(**asked: Any) -> Any:
        queries.append(asked)
        return query(**asked)

    monkeypatch.setattr(begun._dynamodb, "query", counted)
    entries = begun.entries(ENDPOINT)
    assert next(entries).package_arn == PACKAGE.format(FIRST_PAGE + 5)
    assert len(queries) == 1
    assert [entry.package_arn for entry in entries] == [PACKAGE.format(n) for n in range(FIRST_PAGE + 4, 0, -1)]


# --- state


def test_an_endpoint_begins_once(ledger):
    assert ledger.state(ENDPOINT) is None
    assert ledger.put_state_if_new(STATE)
    assert not ledger.put_state_if_new(replace(STATE, stage="dev", last_number=7))
    assert ledger.state(ENDPOINT) == STATE


def test_an_endpoint_is_not_settled_when_somebody_asked_for_a_look_meanwhile(begun):
    before = begun.state(ENDPOINT)
    begun.ask(ENDPOINT)
    asked = begun.state(ENDPOINT)
    with begun.lease(ENDPOINT, "one", 60) as lease:
        assert not begun.set_status(before, "settled", lease.fence)
        assert begun.state(ENDPOINT) == asked == replace(STATE, status="under-way", asked=1)
        assert begun.set_status(asked, "settled", lease.fence)
    assert begun.state(ENDPOINT) == replace(STATE, asked=1)


def test_a_removed_endpoint_is_found_no_more_until_something_is_written_down_again(begun):
    with begun.lease(ENDPOINT, "one", 60) as lease:
        begun.start_deployment(lease, deployment())
        assert begun.set_status(begun.state(ENDPOINT), "removed", lease.fence)
    assert begun.state(ENDPOINT) == replace(STATE, status="removed", last_number=1, removed_number=1)
    assert ENDPOINT not in [state.endpoint for state in begun.states()]
    begun.append(approval(9))
    assert [state.endpoint for state in begun.states("under-way")] == [ENDPOINT]
    with begun.lease(ENDPOINT, "one", 60) as lease:
        assert begun.start_deployment(lease, deployment()).number == 2
        assert begun.set_status(begun.state(ENDPOINT), "settled", lease.fence)
    assert begun.state(ENDPOINT) == replace(STATE, last_number=2, asked=1, removed_number=1)


def test_nobody_asks_for_what_the_ledger_does_not_know(ledger):
    ledger.ask(ENDPOINT)
    assert ledger.state(ENDPOINT) is None


def test_endpoints_are_found_by_their_status_and_nothing_else_is(ledger):
    other = replace(STATE, endpoint="other-dev")
    ledger.put_state_if_new(STATE)
    ledger.put_state_if_new(other)
    with ledger.lease(ENDPOINT, "one", 60) as lease:
        ledger.start_deployment(lease, deployment())
    assert [state.endpoint for state in ledger.states("under-way")] == [ENDPOINT]
    assert list(ledger.states("settled")) == [other]
    assert {state.endpoint for state in ledger.states()} == {ENDPOINT, "other-dev"}


# --- lease


def test_one_at_a_time_has_the_lease(ledger):
    lease = ledger.lease(ENDPOINT, "one", 60)
    assert lease is not None
    assert ledger.lease(ENDPOINT, "two", 60) is None
    assert ledger.lease("other-dev", "two", 60) is not None
    lease.release()
    assert ledger.lease(ENDPOINT, "two", 60).fence == lease.fence + 1


def test_of_many_at_once_one_gets_the_lease(dynamodb, table):
    ledger = Ledger(dynamodb, table)
    with ThreadPoolExecutor(8) as pool:
        leases = list(pool.map(lambda n: ledger.lease(ENDPOINT, str(n), 60), range(16)))
    assert sum(lease is not None for lease in leases) == 1


def test_an_expired_lease_is_taken_over_and_its_holder_can_write_nothing_more(ledger):
    ledger.put_state_if_new(STATE)
    slow = ledger.lease(ENDPOINT, "slow", 0.05)
    started = ledger.start_deployment(slow, deployment())
    time.sleep(0.1)
    quick = ledger.lease(ENDPOINT, "quick", 60)
    assert quick.fence == slow.fence + 1
    ended = replace(started, status="succeeded")
    for write in (
        lambda: ledger.record(slow, ended),
        lambda: ledger.set_status(STATE, "settled", slow.fence),
        lambda: ledger.start_deployment(slow, deployment(2)),
        slow.renew,
        slow.release,
    ):
        with pytest.raises(LeaseLost, match="another one acts"):
            write()
    assert ledger.deployment(ENDPOINT, 1) == started
    assert ledger.state(ENDPOINT) == replace(STATE, status="under-way", last_number=1)
    ledger.record(quick, ended)
    assert ledger.deployment(ENDPOINT, 1) == ended


def test_an_expired_lease_that_nobody_took_still_holds(ledger):
    ledger.put_state_if_new(STATE)
    lease = ledger.lease(ENDPOINT, "slow", 0.01)
    time.sleep(0.05)
    ledger.start_deployment(lease, deployment())
    lease.renew()


def test_a_renewed_lease_lasts_from_then_on(ledger):
    lease = ledger.lease(ENDPOINT, "one", 0.3)
    time.sleep(0.2)
    lease.renew()
    time.sleep(0.15)
    assert ledger.lease(ENDPOINT, "two", 60) is None


def test_a_block_gives_the_lease_back_and_its_error_is_what_is_raised(ledger):
    def work(seconds: float) -> None:
        with ledger.lease(ENDPOINT, "one", seconds):
            time.sleep(0.02)
            if seconds < 1:
                assert ledger.lease(ENDPOINT, "two", 60) is not None
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        work(60)
    with pytest.raises(RuntimeError, match="broken"):
        work(0.01)


# --- deployments


def test_deployments_are_numbered_from_one_and_listed_newest_first(ledger):
    ledger.put_state_if_new(STATE)
    with ledger.lease(ENDPOINT, "one", 60) as lease:
        started = [ledger.start_deployment(lease, deployment(version)) for version in range(1, 13)]
    assert [each.number for each in started] == list(range(1, 13))
    assert [each.number for each in ledger.deployments(ENDPOINT)] == list(range(12, 0, -1))
    assert [each.number for each in ledger.deployments(ENDPOINT, limit=2)] == [12, 11]
    assert ledger.deployment(ENDPOINT, 13) is None


def test_a_deployment_comes_back_with_every_attempt(ledger):
    ledger.put_state_if_new(STATE)
    attempts = (
        Attempt(START, "create_model", "churn-prod-1", "done"),
        Attempt(START + timedelta(milliseconds=1500), "update_endpoint", ENDPOINT, ""),
    )
    with ledger.lease(ENDPOINT, "one", 60) as lease:
        started = ledger.start_deployment(lease, deployment())
        changed = replace(
            started, previous=4, requested=START, ended=START, reason="no\ncapacity", status="failed", attempts=attempts
        )
        ledger.record(lease, changed)
    assert ledger.deployment(ENDPOINT, 1) == changed


def test_a_deployment_needs_an_endpoint_that_has_begun(ledger):
    with ledger.lease(ENDPOINT, "one", 60) as lease, pytest.raises(LookupError, match="record an approval first"):
        ledger.start_deployment(lease, deployment())


# --- messages and errors


def test_what_was_told_is_known(ledger):
    assert not ledger.was_told(ENDPOINT, "approved#1")
    ledger.begin_telling(ENDPOINT, "approved#1")
    assert not ledger.was_told(ENDPOINT, "approved#1")
    ledger.record_told(ENDPOINT, "approved#1")
    assert ledger.was_told(ENDPOINT, "approved#1")
    assert not ledger.was_told(ENDPOINT, "approved#2")


def test_a_table_that_is_not_there_is_an_error_of_every_call(dynamodb):
    ledger = Ledger(dynamodb, "no-such-table")
    for call in (
        lambda: ledger.append(approval(1)),
        lambda: list(ledger.entries(ENDPOINT)),
        lambda: ledger.put_state_if_new(STATE),
        lambda: ledger.lease(ENDPOINT, "one", 60),
        lambda: ledger.set_status(STATE, "settled", 1),
    ):
        with pytest.raises(ClientError, match=r"no-such-table|not found|non-existent"):
            call()


class Contended:
    """A DynamoDB client whose first writes meet another transaction."""

    def __init__(self, dynamodb: Any, times: int) -> None:
        self.dynamodb, self.times = dynamodb, times

    def __getattr__(self, operation: str) -> Any:
        if operation not in ("update_item", "transact_write_items"):
            return getattr(self.dynamodb, operation)

        def write(**request: Any) -> Any:
            self.times -= 1
            if self.times < 0:
                return getattr(self.dynamodb, operation)(**request)
            if operation == "update_item":
                answer: Any = {"Error": {"Code": "TransactionConflictException", "Message": "ongoing"}}
            else:
                reasons = [{"Code": "None"}, {"Code": "TransactionConflict"}]
                answer = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}
            raise ClientError(answer, operation)

        return write


@pytest.mark.parametrize("times", [1, 3])
def test_a_write_that_meets_another_one_is_made_again(begun, times):
    def contended() -> Ledger:
        return Ledger(Contended(begun._dynamodb, times), begun._table)

    assert contended().append(approval(1))
    contended().ask(ENDPOINT)
    lease = contended().lease(ENDPOINT, "one", 60)
    assert lease is not None
    started = contended().start_deployment(lease, deployment())
    contended().record(lease, started)
    assert contended().set_status(begun.state(ENDPOINT), "settled", lease.fence)
    contended().set_lease_end(lease, 0)
    assert begun.state(ENDPOINT) == replace(STATE, last_number=1, asked=2)


def test_writes_that_always_meet_others_are_an_error(begun, monkeypatch):
    monkeypatch.setattr("lifecycle_lambdas.ledger.CONFLICT_PAUSES", (0.0, 0.0))
    with pytest.raises(ClientError, match="TransactionCanceled"):
        Ledger(Contended(begun._dynamodb, 3), begun._table).append(approval(1))


# --- endpoint tests

SCHEDULE = TestSchedule(ENDPOINT, 3, 15, START)


def test_a_schedule_goes_on_and_ends(ledger):
    ledger.schedule_tests(SCHEDULE)
    assert ledger.reschedule_tests(SCHEDULE, START + timedelta(minutes=15))
    (found,) = ledger.test_schedules()
    assert found == replace(SCHEDULE, next=START + timedelta(minutes=15))
    assert ledger.unschedule_tests(found)
    assert list(ledger.test_schedules()) == []


@pytest.mark.parametrize("changed", [{"number": 4}, {"next": START + timedelta(minutes=15)}])
def test_a_schedule_that_is_another_one_by_now_stays_as_it_is(ledger, changed):
    another = replace(SCHEDULE, **changed)
    ledger.schedule_tests(another)
    assert not ledger.reschedule_tests(SCHEDULE, START + timedelta(minutes=30))
    assert not ledger.unschedule_tests(SCHEDULE)
    assert list(ledger.test_schedules()) == [another]


# --- a ledger that was lost


def restored(ledger: Ledger, state: State | None, begins: bool, *items: Any, told: tuple[str, ...] = ()) -> None:
    entries = [one for one in items if isinstance(one, Entry)]
    deployments = [one for one in items if isinstance(one, Deployment)]
    lease = ledger.lease(ENDPOINT, "operator", 60)
    assert lease is not None
    with lease:
        ledger.restore(lease, state, entries, deployments, told, begins)


def test_what_is_restored_is_read_as_it_was_and_asks_for_no_look(ledger):
    state, one = replace(STATE, last_number=2), deployment(number=2)
    restored(ledger, state, True, approval(1), approval(2, 60), one, told=("deployed#2",))
    assert ledger.history(ENDPOINT) == (state, [approval(2, 60), approval(1)], [one])
    assert ledger.state(ENDPOINT) == state
    assert list(ledger.entries(ENDPOINT)) == [approval(2, 60), approval(1)]
    assert list(ledger.deployments(ENDPOINT)) == [one]
    assert ledger.was_told(ENDPOINT, "deployed#2")


def test_what_is_kept_of_endpoint_tests_is_not_read_with_the_history(begun, monkeypatch):
    begun.append(approval(1))
    before = begun.history(ENDPOINT)
    for minutes in range(10):
        at = START + timedelta(minutes=minutes)
        begun.begin_test_run(TestRun(ENDPOINT, 1, PACKAGE.format(1), "schedule", "due", "report", at))
    query, read = begun._dynamodb.query, []

    def counted(**request: Any) -> Any:
        page = query(**request)
        read.extend(page["Items"])
        return page

    monkeypatch.setattr(begun._dynamodb, "query", counted)
    assert begun.history(ENDPOINT) == before
    assert len(read) == 2


def test_of_an_endpoint_that_has_begun_only_the_last_number_is_raised(begun):
    begun.append(approval(1))
    restored(begun, replace(STATE, last_number=7, status="settled"), False)
    assert begun.state(ENDPOINT) == replace(STATE, status="under-way", asked=1, last_number=7)


@pytest.mark.parametrize("there", [approval(1), deployment(number=1), None])
def test_what_is_there_is_never_replaced_and_nothing_of_the_rest_is_written(begun, there):
    if there is not None:
        restored(begun, None, False, there)
    before = begun.history(ENDPOINT)
    again = [replace(there, why="other") if isinstance(there, Entry) else replace(there, reason="x")] if there else []
    with pytest.raises(LookupError, match="do it again"):
        restored(begun, None if there else STATE, True, approval(5), *again)
    assert begun.history(ENDPOINT) == before


def test_a_lease_that_is_another_ones_by_now_restores_nothing(begun):
    lost = begun.lease(ENDPOINT, "one", -1)
    with begun.lease(ENDPOINT, "two", 60), pytest.raises(LeaseLost):
        begun.restore(lost, None, [approval(1)], [], (), False)
    assert keys(begun) == []


def test_more_than_dynamodb_takes_at_once_is_restored_in_parts(ledger):
    entries = [approval(version, version) for version in range(1, 121)]
    restored(ledger, STATE, True, *entries)
    assert len(keys(ledger)) == 120
