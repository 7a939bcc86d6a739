"""Whether what serves is at fault, and what it goes back to: from what was observed and recorded. Pure.

The rules (docs/lifecycle.md has them in words):

- At fault is a deployment of which a standing alarm was raised when all requests went to it, where its stage file says
  `alarms.go_back`, or whose endpoint tests failed where that means going back. An alarm that was raised before is not
  its fault, since what served before had it, too; nor one that is raised so soon that it may still measure what served
  before, unless it is raised when that cannot be any more.
- One cause goes back once, unless what it led to is not approved any more: it did not start, or somebody rejected it.
  What was gone back from and is approved again by a person is a new deployment, of which the old alarm and the old
  tests say nothing.
- Between two of the controller's own goings back lies the time of `alarms.hold_minutes`, or two versions that are both
  at fault would take turns.
- It goes back to the last version that served before and is approved now; to none that was gone back from, though it
  stays approved when a person does so, and to none of another kind: SageMaker could change the kind only by deleting
  the endpoint. Where there is none, what serves serves on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lifecycle_lambdas import names
from lifecycle_lambdas.ledger import whole_seconds
from lifecycle_lambdas.observe import Observed
from lifecycle_lambdas.records import Deployment, Entry, TestRun, package_version

BY = "modelyard"
# Stages whose alarms go back where the stage file does not say.
BY_ITSELF = ("prod", "champion")
HOLD = timedelta(minutes=60)
# Of a failure: a reason stands on the version, which takes 1024 characters. The run's own message has all of it.
LONGEST_FAILURE = 500
# So long at least SageMaker takes to end the old instances, when traffic has left them and before the deployment ends.
ENDING = timedelta(seconds=60)


@dataclass(frozen=True)
class RaisedAlarm:
    """A standing alarm in ALARM.

    Args:
        kind: "errors", "latency" or "custom".
        since: when it was raised, UTC.
        reason: in CloudWatch's words.
    """

    name: str
    kind: str
    since: datetime
    reason: str


@dataclass(frozen=True)
class Cause:
    """Why a deployment is at fault.

    Args:
        key: the same for the same news, however often it is looked at; of endpoint tests their run's.
        kind: of an alarm "errors", "latency" or "custom"; "tests" of the endpoint tests.
        since: when it was found, UTC.
        what: in words, without the time.
    """

    key: str
    kind: str
    since: datetime
    what: str


@dataclass(frozen=True)
class GoBack:
    """The entry that is to be written; `reason` is its why."""

    entry: Entry
    reason: str
    cause: Cause


@dataclass(frozen=True)
class Hold:
    """It went back by itself a short time ago: nothing is done until then, and people are told."""

    until: datetime
    reason: str
    cause: Cause


@dataclass(frozen=True)
class NoWayBack:
    """What serves is at fault, and there is nothing to go back to."""

    reason: str
    cause: Cause


def decide(
    serving: Deployment,
    previous: Deployment | None,
    raised: Sequence[RaisedAlarm],
    tests: TestRun | None,
    entries: Sequence[Entry],
    approval_of: Callable[[str], str | None],
    hold: timedelta,
    now: datetime,
) -> GoBack | Hold | NoWayBack | None:
    """What is to be done about what serves; None: nothing.

    Args:
        previous: what it would go back to, see way_back().
        raised: the alarms that may go back, see raised_alarms().
        tests: the deployment's last run of endpoint tests that came to a verdict.
        entries: the endpoint's, the newest first, those since the last removal; as far back as `serving` began, and
            as the hold reaches.
        approval_of: a version's ModelApprovalStatus now; asked of those that it went back to by itself.
        now: UTC.
    """
    written = {entry.cause for entry in entries if entry.cause and led_on(entry, approval_of)}
    cause = next((one for one in causes(serving, raised, tests) if one.key not in written), None)
    if cause is None:
        return None
    bad = f"version {package_version(serving.package_arn)} (deployment {serving.number})"
    found = f"{cause.what}, since {_moment(cause.since)}"
    last = next((one for one in entries if is_automatic(one)), None)
    if last is not None and now < last.at + hold:
        return Hold(
            last.at + hold,
            f"{bad} is at fault: {found}. {serving.endpoint} went back by itself at {_moment(last.at)} already, and "
            f"does not go back again before {_moment(last.at + hold)}: so that two versions that are both at fault do "
            "not take turns",
            cause,
        )
    if previous is None:
        return NoWayBack(f"{bad} is at fault: {found}. {_no_way(serving)}", cause)
    reason = f"{found}: from {bad} back to version {package_version(previous.package_arn)}"
    entry = Entry(
        endpoint=serving.endpoint,
        kind="go-back",
        at=whole_seconds(now),
        package_arn=previous.package_arn,
        by=BY,
        why=reason,
        source="controller",
        leaves=serving.package_arn,
        cause=cause.key,
    )
    return GoBack(entry, reason, cause)


def causes(serving: Deployment, raised: Sequence[RaisedAlarm], tests: TestRun | None) -> list[Cause]:
    """Why the deployment is at fault, what came first at the beginning; empty when it is not."""
    if serving.ended is None:
        return []
    # alarms' times may be cut to the second
    since = whole_seconds(moved(serving, serving.ended))
    found = [
        Cause(
            key=f"ALARM#{serving.number}#{alarm.name}#{_stamp(alarm.since)}",
            kind=alarm.kind,
            since=alarm.since,
            what=f"the alarm {alarm.name} is raised" + (f" ({alarm.reason})" if alarm.reason else ""),
        )
        for alarm in raised
        if alarm.since >= since
    ]
    if tests is not None and tests.number == serving.number and tests.status == "failed" and tests.means == "go-back":
        found_at = tests.ended or tests.at
        what = f"{tests.failed} of its {tests.cases} endpoint tests failed"
        what += f", the first: {_shortened(tests.failures[0])}" if tests.failures else ""
        found.append(Cause(tests.key, "tests", found_at, what))
    return sorted(found, key=lambda cause: cause.since)


def moved(serving: Deployment, ended: datetime) -> datetime:
    """When at the latest all requests went to it: before its end lie the last bake and the old instances' ending.

    An alarm that is raised then and lasts is its fault, though no roll-back alarm saw it or none was declared.

    Args:
        ended: the deployment's.
    """
    if serving.requested is None or serving.previous is None:
        return ended
    return max(ended - _alone(serving), serving.requested)


def _alone(serving: Deployment) -> timedelta:
    """How long before its end it got all requests, in an update that takes longer than that: SageMaker's own times."""
    bake = timedelta(minutes=(serving.stage_file.get("rollout") or {}).get("finish_bake_minutes") or 0)
    # going back bakes nothing
    return ENDING + (timedelta(0) if serving.goes_back else bake)


def raised_alarms(serving: Deployment, observed: Observed, now: datetime) -> list[RaisedAlarm]:
    """The standing alarms that are raised and, by the stage file of what serves, go back.

    Args:
        now: UTC.
    """
    return [alarm for alarm in _in_alarm(serving, observed) if not may_be_of_before(serving, alarm.since, now)]


def is_in_doubt(serving: Deployment, observed: Observed, now: datetime) -> bool:
    """Whether an alarm is raised of which the next minutes show whether it is the fault of what serves.

    Args:
        now: UTC.
    """
    raised = [alarm for alarm in _in_alarm(serving, observed) if may_be_of_before(serving, alarm.since, now)]
    return bool(causes(serving, raised, None))


def _in_alarm(serving: Deployment, observed: Observed) -> list[RaisedAlarm]:
    if not by_alarm(serving):
        return []
    found = []
    for kind in names.ALARM_KINDS:
        name = names.standing_alarm(serving.endpoint, kind)
        alarm = observed.alarms.get(name)
        if alarm is not None and alarm.state == "ALARM" and alarm.since is not None:
            found.append(RaisedAlarm(name, kind, alarm.since.astimezone(UTC), alarm.reason))
    return found


def may_be_of_before(serving: Deployment, since: datetime, now: datetime) -> bool:
    """Whether an alarm that was raised then may still measure the deployment that served before.

    Its last periods reach back to when that served: who went back by hand from what fails would see the alarm raised
    a minute later, and what was gone back to rejected for it. An alarm that lasts longer than that is what serves now.
    """
    if serving.ended is None or serving.previous is None:
        return False
    alarms = serving.stage_file.get("alarms") or {}
    period = timedelta(seconds=alarms.get("period_seconds") or 60)
    # going back follows close upon what was wrong: there every moment before its end is doubted
    from_here_on = serving.ended - (timedelta(0) if serving.goes_back else _alone(serving))
    last = from_here_on + period * (alarms.get("periods") or 1)
    return since < last and now < last + period


def by_alarm(serving: Deployment) -> bool:
    """Whether an alarm of this deployment goes back."""
    alarms = serving.stage_file.get("alarms") or {}
    said = alarms.get("go_back")
    return bool(alarms) and (serving.endpoint.rpartition("-")[2] in BY_ITSELF if said is None else bool(said))


def hold_of(serving: Deployment) -> timedelta:
    """How long after one going back there is no other."""
    alarms = serving.stage_file.get("alarms") or {}
    minutes = alarms.get("hold_minutes")
    return HOLD if minutes is None else timedelta(minutes=minutes)


def way_back(
    serving: Deployment, history: Iterable[Deployment], approval_of: Callable[[str], str | None]
) -> Deployment | None:
    """The last deployment before this one that served another version which is approved now, and of the same kind.

    A version that was gone back from since, by a person or by itself, is none: whoever left it had a reason.

    Args:
        history: the endpoint's deployments since its last removal, the newest first.
        approval_of: a version's ModelApprovalStatus now; asked only of those that it could be.
    """
    kind, asked = serving.stage_file.get("kind"), {serving.package_arn}
    left = {serving.previous} if serving.goes_back else set()
    for one in history:
        if one.endpoint != serving.endpoint or one.number >= serving.number or one.status != "succeeded":
            continue
        if one.goes_back:
            left.add(one.previous)
        if one.number in left:
            asked.add(one.package_arn)
        if one.stage_file.get("kind") != kind or one.package_arn in asked:
            continue
        asked.add(one.package_arn)
        if approval_of(one.package_arn) == "Approved":
            return one
    return None


def is_automatic(entry: Entry) -> bool:
    """Whether it is the controller's own going back."""
    return entry.kind == "go-back" and entry.source == "controller"


def led_on(entry: Entry, approval_of: Callable[[str], str | None]) -> bool:
    """Whether what the entry went back to may serve still; else it came to nothing, or is over.

    Args:
        approval_of: a version's ModelApprovalStatus now.
    """
    return entry.package_arn is not None and approval_of(entry.package_arn) == "Approved"


def left_behind(entries: Iterable[Entry]) -> Entry | None:
    """The controller's last going back, unless the version that it left was decided about since. Pure.

    Args:
        entries: the newest first.
    """
    decided: set[str | None] = set()
    for entry in entries:
        if entry.kind == "remove":
            return None
        if is_automatic(entry) and entry.leaves is not None:
            return None if entry.leaves in decided else entry
        decided.add(entry.package_arn)
    return None


def _shortened(failure: str) -> str:
    failure = " ".join(failure.split())
    return failure if len(failure) <= LONGEST_FAILURE else f"{failure[: LONGEST_FAILURE - 3]}..."


def _no_way(serving: Deployment) -> str:
    kind = str(serving.stage_file.get("kind", "")).replace("_", "-")
    return (
        f"There is no other version of kind {kind} that served before, was not gone back from and is approved now, so "
        "it serves on: approve a version that is right, or take it away "
        f"(reject {serving.endpoint} {package_version(serving.package_arn)} --why ...)"
    )


def _moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _stamp(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
