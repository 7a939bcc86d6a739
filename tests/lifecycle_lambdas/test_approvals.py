"""From events and the registry to entries, and from entries to what should serve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_lambdas import approvals
from lifecycle_lambdas.approvals import (
    Known,
    desired,
    entry_of_change,
    failure,
    is_removed,
    known,
    last_modified_by,
    metadata_value,
    missed_approval,
    missed_rejection,
    stamps,
)
from lifecycle_lambdas.events import Approval, VersionChanged
from lifecycle_lambdas.records import Entry

START = datetime(2026, 11, 21, 8, 0, 0, tzinfo=UTC)
ANN, CONTROLLER = "arn:aws:iam::123456789012:user/ann", "arn:aws:sts::123456789012:assumed-role/modelyard-deploy/x"
ENDPOINT = "churn-prod"


def arn(version: int) -> str:
    return f"arn:aws:sagemaker:us-east-1:123456789012:model-package/churn-prod/{version}"


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def entry(kind: str, version: int | None, seconds: int, until: datetime | None = None) -> Entry:
    package = None if version is None else arn(version)
    return Entry(ENDPOINT, kind, at(seconds), package, ANN, "", "event", until)  # type: ignore[arg-type]


def newest_first(*entries: Entry) -> list[Entry]:
    """As the ledger reads them."""
    return sorted(entries, key=lambda each: each.key, reverse=True)


def serving(*entries: Entry, approved: tuple[int, ...], now: float = 1000) -> int | None:
    """The version that should serve when these are approved in the registry."""
    found = desired(newest_first(*entries), lambda a: "Approved" if a in map(arn, approved) else "Rejected", at(now))
    return None if found is None else int(found.package_arn.rpartition("/")[2])  # type: ignore[union-attr]


# --- what should serve


def by_itself(seconds: int, leaves: int = 2, to: int = 1) -> Entry:
    """The controller's own going back."""
    return replace(entry("go-back", to, seconds), source="controller", leaves=arn(leaves))


APPROVED = (entry("approve", 1, 0), entry("approve", 2, 10))


@pytest.mark.parametrize(
    ("entries", "approved", "expected"),
    [
        pytest.param([by_itself(20)], (1, 2), 1, id="what it leaves is approved still"),
        pytest.param([by_itself(20), entry("reject", 2, 21)], (1,), 1, id="what it leaves is rejected then"),
        pytest.param([entry("approve", 3, 19), by_itself(20)], (1, 2, 3), 3, id="another was approved just before"),
        pytest.param([entry("approve", 3, 19), by_itself(20)], (1, 2), 1, id="which is rejected by now"),
        pytest.param([entry("park", None, 19), by_itself(20)], (1, 2), None, id="it was parked just before"),
        pytest.param(
            [entry("go-back", 3, 5), by_itself(20)], (1, 2, 3), 1, id="what was decided before what it leaves"
        ),
        pytest.param([by_itself(20), by_itself(90, leaves=1, to=3)], (1, 3), 3, id="it went back twice"),
        pytest.param([by_itself(20), entry("approve", 2, 30)], (1, 2), 2, id="it is approved again"),
        pytest.param([by_itself(20)], (2,), 2, id="what it goes to is rejected"),
    ],
)
def test_going_back_by_itself_undoes_nothing_that_somebody_decided_just_before(
    entries: list[Entry], approved: tuple[int, ...], expected: int | None
) -> None:
    """The event of an approval comes seconds later, and has the approval's time."""
    assert serving(*APPROVED, *entries, approved=approved) == expected


def test_nothing_should_serve_before_anything_was_approved():
    assert serving(approved=()) is None


def test_the_version_approved_last_should_serve_and_not_the_newest_version():
    assert serving(entry("approve", 3, 0), entry("approve", 2, 5), approved=(2, 3)) == 2


def test_an_approval_that_comes_late_changes_nothing():
    assert serving(entry("approve", 3, 9), entry("approve", 2, 5), approved=(2, 3)) == 3


def test_rejecting_the_version_goes_back_to_the_one_before_it():
    assert serving(entry("approve", 1, 0), entry("approve", 2, 1), entry("reject", 2, 2), approved=(1,)) == 1


def test_a_rejection_whose_event_was_lost_counts_all_the_same():
    assert serving(entry("approve", 1, 0), entry("approve", 2, 1), approved=(1,)) == 1


def test_rejecting_an_older_version_changes_nothing():
    entries = entry("approve", 1, 0), entry("approve", 2, 1), entry("reject", 1, 2)
    assert serving(*entries, approved=(2,)) == 2


def test_nothing_should_serve_when_all_are_rejected():
    assert serving(entry("approve", 1, 0), entry("reject", 1, 1), approved=()) is None


def test_approve_reject_approve_within_a_second_is_approved():
    # the second approval has the key of the first
    assert serving(entry("approve", 2, 5), entry("reject", 2, 5), approved=(2,)) == 2
    assert serving(entry("approve", 1, 0), entry("approve", 2, 5), entry("reject", 2, 5), approved=(1,)) == 1


def test_of_two_approvals_of_the_same_second_the_higher_version_serves():
    assert serving(entry("approve", 10, 5), entry("approve", 9, 5), approved=(9, 10)) == 10


def test_going_back_serves_the_older_version_while_the_newer_one_stays_approved():
    entries = entry("approve", 1, 0), entry("approve", 2, 1), entry("go-back", 1, 2)
    assert serving(*entries, approved=(1, 2)) == 1
    assert serving(*entries, entry("reject", 1, 3), approved=(2,)) == 2
    assert serving(*entries, entry("approve", 3, 3), approved=(1, 2, 3)) == 3


DELETED = replace(entry("reject", 2, 20), source="found", why=approvals.DELETED)


@pytest.mark.parametrize(
    ("entries", "there", "expected"),
    [
        pytest.param([], (1,), True, id="its deletion was not found yet"),
        pytest.param([DELETED], (1,), True, id="its deletion was found"),
        pytest.param([entry("approve", 3, 30), entry("reject", 3, 31)], (1,), True, id="another one is rejected"),
        pytest.param([entry("approve", 3, 30)], (1, 3), False, id="another one is approved since"),
        pytest.param([entry("go-back", 1, 30)], (1,), False, id="somebody went back since"),
        pytest.param([entry("park", None, 5, at(15))], (), True, id="a park that is over"),
        pytest.param([entry("reject", 2, 15)], (1,), False, id="it was rejected before it was deleted"),
        pytest.param([entry("reject", 2, 15), DELETED], (), False, id="it was rejected, and found deleted"),
        pytest.param([entry("park", None, 15)], (1,), False, id="it is parked"),
        pytest.param([entry("park", None, 15, at(2000))], (1,), False, id="it is parked for a time"),
        pytest.param([entry("remove", None, 15)], (), False, id="the project is deleted"),
        pytest.param([], (1, 2), False, id="it is there"),
    ],
)
def test_a_version_is_lost_where_it_is_gone_and_nobody_decided_against_it(
    entries: list[Entry], there: tuple[int, ...], expected: bool
) -> None:
    approval = {arn(version): "Approved" for version in there}
    found = approvals.is_lost(arn(2), newest_first(*APPROVED, *entries), approval.get, at(1000))
    assert found is expected


def test_parked_for_a_time_nothing_serves_until_then():
    entries = entry("approve", 1, 0), entry("park", None, 5, until=at(60))
    assert serving(*entries, approved=(1,), now=59) is None
    assert serving(*entries, approved=(1,), now=60) == 1


def test_parked_without_an_end_nothing_serves_until_something_is_approved():
    parked = entry("approve", 1, 0), entry("park", None, 5)
    assert serving(*parked, approved=(1,), now=10**9) is None
    approved = *parked, entry("approve", 2, 6)
    assert serving(*approved, approved=(1, 2)) == 2
    # rejecting goes back to what was before: to being parked
    assert serving(*approved, entry("reject", 2, 7), approved=(1,)) is None


def test_a_version_is_asked_for_once_and_a_rejected_one_not_at_all():
    asked = []

    def approval_of(package: str) -> str | None:
        asked.append(package)
        return "Approved" if package == arn(1) else None

    entries = newest_first(
        entry("approve", 1, 0),
        entry("approve", 2, 1),
        entry("approve", 3, 2),
        entry("approve", 2, 3),
        entry("reject", 3, 4),
    )
    assert desired(entries, approval_of, at(9)) == entries[-1]
    assert asked == [arn(2), arn(1)]


def test_no_more_of_the_ledger_is_read_than_needed():
    def entries() -> Any:
        yield entry("approve", 1, 0)
        pytest.fail("the second entry was read")

    assert desired(entries(), lambda _: "Approved", at(9)) is not None


# --- removals


@pytest.mark.parametrize("since", [[], [("reject", 3, 6)]])
def test_nothing_before_a_removal_counts_any_more(since: list[tuple[str, int, int]]) -> None:
    entries = newest_first(entry("approve", 3, 0), entry("remove", None, 5), *[entry(*one) for one in since])
    found = desired(entries, lambda package: "Approved", at(9))
    assert found is not None
    assert found.kind == "remove"


@pytest.mark.parametrize("since", [[("approve", 3, 6), ("reject", 3, 7)], [("approve", 3, 6)], [("park", None, 6)]])
def test_what_was_decided_since_a_removal_and_leaves_nothing_to_serve_is_no_second_removal(since):
    assert (
        serving(entry("approve", 3, 0), entry("remove", None, 5), *[entry(*one) for one in since], approved=()) is None
    )


def test_what_is_approved_after_a_removal_serves():
    assert serving(entry("approve", 3, 0), entry("remove", None, 5), entry("approve", 1, 6), approved=(1, 3)) == 1


def test_a_removal_is_the_last_of_its_second_whatever_version_was_approved_in_it():
    removal, approval = entry("remove", None, 5), entry("approve", 999_999, 5)
    assert newest_first(approval, removal) == [removal, approval]


def test_what_the_ledger_knew_before_a_removal_it_knows_no_more():
    entries = [entry("approve", 1, 0), entry("approve", 2, 1), entry("remove", None, 5), entry("approve", 1, 6)]
    assert known(entries) == known(reversed(entries)) == {arn(1): Known(approved=at(6))}


@pytest.mark.parametrize(
    ("since", "removed"),
    [([], True), ([("reject", 1, 6), ("park", None, 7)], True), ([("approve", 1, 6), ("reject", 1, 7)], False)],
)
def test_a_second_removal_is_news_only_where_something_was_approved_since(since, removed):
    entries = [entry("approve", 1, 0), entry("remove", None, 5), *[entry(*one) for one in since]]
    assert is_removed(newest_first(*entries)) is removed
    assert not is_removed([])


MOVES = st.lists(st.tuples(st.sampled_from(["approve", "reject"]), st.integers(1, 4)), max_size=12)


@given(moves=MOVES, order=st.randoms(use_true_random=False), twice=st.booleans())
def test_whatever_order_events_come_in_the_version_approved_last_and_not_rejected_since_serves(moves, order, twice):
    # at most one decision a second: within a second nobody knows the order
    entries = [entry(kind, version, second) for second, (kind, version) in enumerate(moves)]
    approval = {version: kind for kind, version in moves}
    approvals = [version for kind, version in moves if kind == "approve" and approval[version] == "approve"]
    # of the versions approved now, the one whose last approval is the newest
    expected = approvals[-1] if approvals else None
    ledger: dict[str, Entry] = {}
    arriving = entries * 2 if twice else entries[:]
    order.shuffle(arriving)
    for each in arriving:
        ledger.setdefault(each.key, each)
    approved = tuple(version for version, kind in approval.items() if kind == "approve")
    assert serving(*ledger.values(), approved=approved) == expected


# --- from events


def package(
    approval: Approval = "Approved", modified: float | None = 0, by: str = ANN, **metadata: str
) -> dict[str, Any]:
    """A version as described; its metadata's names with __ for a dot."""
    described: dict[str, Any] = {
        "ModelPackageArn": arn(2),
        "ModelApprovalStatus": approval,
        "CreationTime": at(-3600),
        "CreatedBy": {"IamIdentity": {"Arn": "arn:aws:iam::123456789012:role/pipeline"}},
        "CustomerMetadataProperties": {name.replace("__", "."): value for name, value in metadata.items()},
    }
    if modified is not None:
        described |= {"LastModifiedTime": at(modified), "LastModifiedBy": {"IamIdentity": {"Arn": by}}}
    return described


def change(approval: Approval, seconds: int = 0, changed: bool | None = True) -> VersionChanged:
    return VersionChanged(arn(2), ENDPOINT, approval, at(seconds), changed)


def knows(approved: int | None = None, rejected: int | None = None) -> Callable[[], Known]:
    times = [None if seconds is None else at(seconds) for seconds in (approved, rejected)]
    return lambda: Known(*times)


def unasked() -> Known:
    raise AssertionError("the ledger was asked")


def entry_of(change: VersionChanged, described: dict[str, Any]) -> Entry:
    """The entry of an event that says itself what was changed."""
    found = entry_of_change(ENDPOINT, change, described, unasked)
    assert found is not None
    return found


def test_an_approval_is_the_version_and_the_events_time_and_who_changed_the_version_last():
    described = package(modified=0.7) | {"ApprovalDescription": "AUC is better"}
    assert entry_of_change(ENDPOINT, change("Approved"), described, unasked) == Entry(
        ENDPOINT, "approve", START, arn(2), ANN, "AUC is better", "event"
    )


def test_why_a_deployment_failed_is_no_reason_to_approve_it_again():
    described = package() | {"ApprovalDescription": failure(ENDPOINT, 3, "the container did not start")}
    assert entry_of(change("Approved"), described).why == ""
    assert missed_approval(ENDPOINT, described, Known()).why == ""
    assert "did not start" in entry_of(change("Rejected"), described).why


def test_when_the_version_was_changed_since_the_events_time_counts_and_who_approved_is_not_guessed():
    described = package(modified=30, by="arn:aws:iam::123456789012:user/bob") | {"ApprovalDescription": "another's"}
    found = entry_of(change("Approved"), described)
    assert (found.at, found.by, found.why) == (START, "unknown", "")


def test_an_event_that_comes_again_after_the_stamp_is_the_same_entry():
    first = entry_of(change("Approved"), package())
    stamped = package(modified=1, by=CONTROLLER, approval__by=ANN, approval__at="2026-11-21T08:00:00Z")
    assert entry_of(change("Approved"), stamped) == first


def test_a_change_of_something_else_is_no_entry():
    assert entry_of_change(ENDPOINT, change("Approved", changed=False), package(), unasked) is None


def test_a_rejection_is_an_entry_whatever_the_registry_says_by_now():
    found = entry_of(change("Rejected"), package("Approved", modified=9))
    assert (found.kind, found.at, found.source) == ("reject", START, "event")


def test_setting_a_version_back_to_pending_takes_it_away():
    found = entry_of(change("PendingManualApproval"), package("PendingManualApproval"))
    assert (found.kind, found.why) == ("reject", "set back to PendingManualApproval")


def test_a_rejection_by_the_controller_says_so():
    failed = package("Rejected", by=CONTROLLER, deployment__status="failed")
    assert entry_of(change("Rejected"), failed).source == "controller"


@pytest.mark.parametrize(
    ("approval", "ledger", "kind"),
    [
        ("Approved", knows(), "approve"),  # registered as approved
        ("Approved", knows(approved=-60), None),  # a stamp, or metadata
        ("Approved", knows(approved=0), "approve"),  # the same event again
        ("Approved", knows(approved=-60, rejected=-30), "approve"),  # approved again
        ("Rejected", knows(approved=-60), "reject"),
        ("Rejected", knows(), None),  # registered as rejected
        ("Rejected", knows(approved=-60, rejected=-30), None),
        ("Rejected", knows(approved=-60, rejected=0), "reject"),
        ("PendingManualApproval", knows(), None),  # registered
        ("PendingManualApproval", knows(approved=-60), "reject"),
    ],
)
def test_an_event_that_does_not_say_what_changed_counts_when_the_ledger_knows_otherwise(approval, ledger, kind):
    found = entry_of_change(ENDPOINT, change(approval, changed=None), package(approval), ledger)
    assert (None if found is None else found.kind) == kind


@pytest.mark.parametrize(
    ("approval", "seconds", "now", "ledger"),
    [
        ("PendingManualApproval", 0, "Approved", knows(approved=0)),  # registered and approved in one second
        ("PendingManualApproval", -60, "Approved", knows(approved=0)),
        ("Approved", 0, "Rejected", knows(rejected=5)),  # registered as approved, rejected since
        ("Approved", 0, "Approved", knows(rejected=5)),  # and approved again, of which another event tells
        ("Rejected", 0, "Rejected", knows(approved=5)),
    ],
)
def test_an_event_that_does_not_say_what_changed_is_nothing_when_it_comes_late(approval, seconds, now, ledger):
    assert entry_of_change(ENDPOINT, change(approval, seconds, changed=None), package(now), ledger) is None


# --- what was missed


def test_known_is_the_newest_of_each_version_in_whatever_order():
    entries = entry("approve", 1, 0), entry("go-back", 1, 9), entry("reject", 1, 5), entry("park", None, 6)
    for order in (entries, entries[::-1]):
        assert known(order) == {arn(1): Known(at(9), at(5))}
    assert known(entries)[arn(1)].is_approved
    assert not known((*entries, entry("reject", 1, 10)))[arn(1)].is_approved


def test_a_missed_approval_counts_at_the_last_change():
    found = missed_approval(ENDPOINT, package(modified=12.9), Known())
    assert found == Entry(ENDPOINT, "approve", at(12), arn(2), ANN, "", "found")


def test_a_version_registered_as_approved_counts_at_its_creation_by_who_registered_it():
    found = missed_approval(ENDPOINT, package(modified=None), Known())
    assert (found.at, found.by) == (at(-3600), "arn:aws:iam::123456789012:role/pipeline")


def test_a_stamped_version_comes_back_into_a_lost_ledger_as_it_was():
    stamped = package(modified=99, by=CONTROLLER, approval__by=ANN, approval__at="2026-11-21T08:00:00Z")
    assert missed_approval(ENDPOINT, stamped, Known()) == Entry(ENDPOINT, "approve", START, arn(2), ANN, "", "found")


def test_the_stamp_of_the_approval_before_a_rejection_is_not_that_of_the_one_after_it():
    stamped = package(modified=99, by=ANN, approval__by="another", approval__at="2026-11-21T08:00:00Z")
    found = missed_approval(ENDPOINT, stamped, Known(at(0), at(50)))
    assert (found.at, found.by) == (at(99), ANN)


def test_missed_rejections_are_written_with_what_is_known():
    found = missed_rejection(ENDPOINT, arn(2), package("Rejected", modified=5), at(60))
    assert (found.kind, found.at, found.by, found.source) == ("reject", at(5), ANN, "found")
    gone = missed_rejection(ENDPOINT, arn(2), None, at(60.5))
    assert (gone.at, gone.by, gone.why) == (at(60), "unknown", "the version was deleted")


# --- stamps


def test_a_version_is_stamped_with_who_approved_it_and_when():
    assert stamps(entry("approve", 2, 0), package()) == {
        "ModelPackageArn": arn(2),
        "CustomerMetadataProperties": {"approval.by": ANN, "approval.at": "2026-11-21T08:00:00Z"},
    }


@pytest.mark.parametrize(
    "described",
    [
        package("Rejected"),
        package(approval__at="2026-11-21T08:00:00Z"),
        package(approval__at="2026-11-21T09:00:00Z"),
    ],
)
def test_a_version_is_not_stamped_when_it_was_rejected_since_or_carries_this_stamp_or_a_later_one(described):
    assert stamps(entry("approve", 2, 0), described) is None


def test_approved_anew_a_version_loses_what_its_failed_deployment_left_on_it():
    failed = package(approval__at="2026-11-21T08:00:00Z", deployment__number="3", deployment__status="failed")
    request = stamps(entry("approve", 2, 60), failed) or {}
    assert request["CustomerMetadataPropertiesToRemove"] == ["deployment.number", "deployment.status"]
    serving_now = package(deployment__status="succeeded")
    assert "CustomerMetadataPropertiesToRemove" not in (stamps(entry("approve", 2, 60), serving_now) or {})


def test_stamps_are_cut_to_what_metadata_may_hold():
    long = replace(entry("approve", 2, 0), by="{Ann}, " + "x" * 300)
    request = stamps(long, package()) or {}
    assert request["CustomerMetadataProperties"]["approval.by"] == "_Ann__ " + "x" * 249
    assert metadata_value("Jürgen/é +-@_.:=") == "Jürgen/é +-@_.:="


# --- who


@pytest.mark.parametrize(
    ("user", "name"),
    [
        ({"IamIdentity": {"Arn": ANN}}, ANN),
        ({"UserProfileArn": "arn:user-profile/ann", "IamIdentity": {"Arn": CONTROLLER}}, "arn:user-profile/ann"),
        ({"UserProfileName": "ann"}, "unknown"),
        ({}, "arn:aws:iam::123456789012:role/pipeline"),
    ],
)
def test_who_is_the_studio_user_else_the_identity(user, name):
    assert last_modified_by(package() | {"LastModifiedBy": user}) == name
