"""What nobody needs any more: endpoints to park, old feature versions with their data, pipelines of branches long gone.

Pure: facts in, removals out. Whatever is not known counts as needed. The facts are gathered by cleaning_facts.py, and
looked at once more before each removal by cleaning_run.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from lifecycle_lambdas import going_back
from lifecycle_lambdas.ledger import whole_seconds
from lifecycle_lambdas.records import OFF, Deployment, Entry, PolicyRecord, package_version

STAGE = "feature"  # the one whose versions and pipelines go by age
PARKED_STAGES = ("feature", "dev")
MAIN_BRANCHES = ("dev", "prod")  # a repository of ours has them: a list without them is another's
NOTICE = timedelta(hours=24)  # between the report of a policy and what it removes first, and between two removals
REMEMBERED = timedelta(days=7)  # so long people know of a policy after another one took its turn
DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")  # as datetime.weekday() counts them
MOST = 100  # versions, and pipelines, of one run; the others go with the next ones
WAYS_BACK = 2  # approved versions, from the newest decision on: what serves, and what a rejection leads back to


@dataclass(frozen=True)
class Removal:
    """
    Args:
        kind: "endpoint": parked until something is approved; "pipeline"; "version"; "data": of versions that go.
        what: the endpoint's or the pipeline's name, the version's ARN, an S3 URI (of a folder with a slash at its end).
        usd_a_month: what it costs a month while it is there; None: not known.
    """

    kind: Literal["endpoint", "pipeline", "version", "data"]
    what: str
    why: str
    usd_a_month: float | None = None


@dataclass(frozen=True)
class Policy:
    """The section `clean` of a project's stage file: days without a change after which something goes; None: never."""

    versions_after_days: int | None
    pipelines_after_days: int | None


@dataclass(frozen=True)
class Parking:
    """The section `park` of the stage file that an endpoint serves by (stage_schema.Park).

    Args:
        at, hour, timezone, day: every day, or on that day, at that hour there; None with idle_hours.
        idle_hours: without a request; None with `at`.
    """

    at: Literal["nightly", "weekly"] | None = None
    hour: int | None = None
    timezone: str | None = None
    day: str | None = None
    idle_hours: int | None = None

    def __str__(self) -> str:
        if self.idle_hours is not None:
            return f"after {self.idle_hours} hours without a request"
        return f"{self.at}{'' if self.day is None else f' ({self.day})'} at {self.hour}:00 {self.timezone}"


@dataclass(frozen=True)
class Serving:
    """An endpoint that serves.

    Args:
        since: when its deployment had ended.
        decided: of the newest entry that approved something, or went back.
        announced: when people were told of this very parking; None: not yet.
        requests: how many there were in the last `idle_hours`; None: not asked for.
    """

    endpoint: str
    parking: Parking
    since: datetime
    decided: datetime
    announced: datetime | None
    requests: float | None = None


@dataclass(frozen=True)
class Version:
    """A version of any of the project's stages.

    Args:
        tree: git's id of its files; "" when it does not say.
        promoted_from: ARN of the version that it is a copy of; "" of none.
        models: S3 URIs of its model data.
        uris: every S3 URI that it names, of its model and of its reports.
        own: of these what goes with it: its model data and its evaluation's folder, below <project>/feature/.
        changed: when it was registered, or changed last.
    """

    arn: str
    stage: str
    created: datetime
    changed: datetime
    approved: bool = False
    tree: str = ""
    promoted_from: str = ""
    models: frozenset[str] = frozenset()
    uris: frozenset[str] = frozenset()
    own: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pipeline:
    """A pipeline of the stage feature.

    Args:
        branch: of its definition; None where that does not say.
        used: when it was run or changed last.
        running: whether an execution is under way.
    """

    name: str
    branch: str | None
    used: datetime
    running: bool


@dataclass(frozen=True)
class Facts:
    """What there is of one project.

    Args:
        versions: of all stages; of `feature` all, or none.
        needed: ARNs of versions that the ledger and the models there say are needed, with what for.
        pipelines: of the stage feature.
        branches: at the Git host; None: it did not say.
        unsure: why nobody can say which branches are gone, where an old pipeline may go with its branch; else "".
    """

    versions: tuple[Version, ...] = ()
    needed: Mapping[str, str] = field(default_factory=dict)
    pipelines: tuple[Pipeline, ...] = ()
    branches: frozenset[str] | None = None
    unsure: str = ""


def decide(policy: Policy, facts: Facts, now: datetime) -> list[Removal]:
    """What goes: pipelines, versions, and the data that no version names then.

    Args:
        now: UTC.
    """
    pipelines = [
        Removal("pipeline", pipeline.name, why)
        for pipeline in facts.pipelines
        if (why := reason_against(pipeline, policy, facts.branches, now)) is not None
    ]
    old = [version for version in facts.versions if is_old(version, policy, now) and need(version, facts) is None]
    gone = old[:MOST]
    return [
        *pipelines[:MOST],
        *(Removal("version", one.arn, _age(one.changed, now)) for one in gone),
        *_data(gone, facts),
    ]


def reason_against(pipeline: Pipeline, policy: Policy, branches: frozenset[str] | None, now: datetime) -> str | None:
    """Why the pipeline goes; None: it stays."""
    if policy.pipelines_after_days is None or branches is None or not branches.intersection(MAIN_BRANCHES):
        return None
    if pipeline.branch is None or pipeline.branch in branches or pipeline.running:
        return None
    if now - pipeline.used <= timedelta(days=policy.pipelines_after_days):
        return None
    return f"the branch {pipeline.branch} is gone, and it was last used {_days(now - pipeline.used)} days ago"


def is_old(version: Version, policy: Policy, now: datetime) -> bool:
    """Whether the policy lets it go, were it not needed."""
    days = policy.versions_after_days
    # An approval of which the ledger has not heard yet changes the version, too.
    return days is not None and now - version.changed > timedelta(days=days)


def need(version: Version, facts: Facts) -> str | None:
    """Why the version is needed, however old it is; None: nobody needs it."""
    if version.stage != STAGE:
        return f"it is of the stage {version.stage}"
    if any(pipeline.running for pipeline in facts.pipelines):
        return "a pipeline is running, and may take over what the version is made of"
    if all(other.stage != STAGE or _number(other) <= _number(version) for other in facts.versions):
        return "it is the newest"
    if version.arn in facts.needed:
        return facts.needed[version.arn]
    for other in facts.versions:
        if other.stage == STAGE:
            continue
        if other.promoted_from == version.arn:
            return f"{_short(other.arn)} is a copy of it"
        if version.tree and other.tree == version.tree:
            return f"{_short(other.arn)} is made of the same files"
        if version.models & other.models:
            return f"{_short(other.arn)} has the same model data"
    return None


def unnamed(data: Iterable[str], versions: Collection[Version]) -> list[str]:
    """Of these S3 URIs the ones that none of the versions names, nor anything below or above them."""
    named = {uri for version in versions for uri in version.uris}
    return [uri for uri in dict.fromkeys(data) if not any(_overlap(uri, other) for other in named)]


def needed(
    entries: Iterable[Entry], history: Sequence[Deployment], models: Iterable[str], approved: Collection[str]
) -> dict[str, str]:
    """ARNs of versions that an endpoint needs, each with what for.

    Args:
        entries: the newest first; no more of them are read than needed, and none before a removal.
        history: all deployments since the last removal, the newest first.
        models: ARNs of the versions that the SageMaker models of the endpoint have.
        approved: ARNs of the group's versions that are approved now.
    """
    found = dict.fromkeys(models, "a model of its endpoint is made of it")
    decided = [entry.package_arn for entry in _decisions(entries, approved)]
    for arn in decided:
        found.setdefault(str(arn), "it was approved last, or is the way back")
    for deployment in _kept_deployments(history, approved):
        found.setdefault(deployment.package_arn, f"deployment {deployment.number} serves, or is the way back")
    return found


def due(serving: Serving, now: datetime) -> datetime | None:
    """The time as of which the endpoint is parked now, in whole seconds; None: it is not.

    Not before people were told of this parking, and not for a time at which another version was already decided on.
    The ledger may hear of a decision only later: what was decided after this time stands.

    Returns:
        The hour that it was to be parked at; of an idle one when the hours without a request began.
    """
    parking, announced = serving.parking, serving.announced
    if announced is None or announced >= now:
        return None
    decided = max(serving.since, serving.decided)
    if parking.idle_hours is not None:
        begin = whole_seconds(now) - timedelta(hours=parking.idle_hours)
        return begin if serving.requests == 0 and decided < begin else None
    time = last_time(parking, now)
    return time if max(decided, announced) < time else None


def last_time(parking: Parking, now: datetime) -> datetime:
    """When the endpoint was to be parked last, `now` included; UTC."""
    local = now.astimezone(ZoneInfo(parking.timezone or "UTC"))
    time = local.replace(hour=parking.hour or 0, minute=0, second=0, microsecond=0)
    if time > local:
        time -= timedelta(days=1)
    if parking.day is not None:
        time -= timedelta(days=(time.weekday() - DAYS.index(parking.day)) % 7)
    return time.astimezone(UTC)


def told_lately(record: PolicyRecord, now: datetime) -> dict[str, datetime]:
    """When people were told of policies, by SHA-256; not of those that they were told of long ago."""
    told = {**record.earlier, record.sha256: record.announced}
    return {sha256: announced for sha256, announced in told.items() if now - announced <= REMEMBERED}


def turned_to(record: PolicyRecord | None, sha256: str, now: datetime) -> PolicyRecord | None:
    """The record, as one of the policy with this hash; None: people were not told of that one, or long ago.

    Two branches whose policies differ may register in turn: were each turn announced anew, nothing would ever go.
    """
    if record is None or record.sha256 == sha256:
        return record
    told = told_lately(record, now)
    announced = told.pop(sha256, None)
    return None if announced is None else replace(record, sha256=sha256, announced=announced, earlier=told)


def turned_off(record: PolicyRecord | None, now: datetime) -> PolicyRecord | None:
    """The record to write where no stage file says the section any more; None where that is known.

    Years later the same section would remove at once what people were told of years ago. One of branches that take
    turns stays known for as long as any other. What an earlier run began with stays on record, too.
    """
    if record is None or record.sha256 == OFF:
        return None
    return replace(record, sha256=OFF, announced=now, earlier=told_lately(record, now))


def may_begin(announced: datetime, now: datetime) -> bool:
    """Whether anything may go by a policy, whoever asks: a day after people were told of it."""
    return now - announced >= NOTICE


def may_remove(announced: datetime, removed: datetime | None, now: datetime) -> bool:
    """Whether a policy removes by itself now: as soon as it may, and once a day."""
    return may_begin(max(announced, removed or announced), now)


def would(record: PolicyRecord | None, now: datetime) -> str:
    """From when on a policy removes, as people read it. `record`: None when they were not told of it."""
    if record is None:
        return "people were not told of this policy yet: its first run, within the hour, only says what would go"
    told = f"people were told of this policy at {record.announced:%Y-%m-%d %H:%M} UTC"
    if may_begin(record.announced, now):
        return f"{told}: this would go now"
    return f"{told}: it removes from {record.announced + NOTICE:%Y-%m-%d %H:%M} UTC on, and nothing before"


def pipelines_stay(facts: Facts) -> str:
    """What is said besides when old pipelines stay since nobody knows which branches are gone; else ""."""
    return f"; branches are not known ({facts.unsure}), so pipelines stay" if facts.unsure else ""


def fingerprint(section: Policy | Parking) -> str:
    """By it a changed section is known; SHA-256."""
    return hashlib.sha256(json.dumps(vars(section), sort_keys=True).encode()).hexdigest()


def policy_of(section: Mapping[str, Any]) -> Policy:
    """Of `clean` as stage_schema.dump has it."""
    return Policy(section["versions_after_days"], section["pipelines_after_days"])


def parking_of(section: Mapping[str, Any]) -> Parking:
    """Of `park` as stage_schema.dump has it."""
    return Parking(**section)


def total(removals: Iterable[Removal]) -> str:
    """What the removals cost a month, as people read it."""
    costs = [removal.usd_a_month for removal in removals]
    known = [cost for cost in costs if cost is not None]
    unknown = len(costs) - len(known)
    parts = [f"{sum(known):.2f} USD a month"] if known else []
    parts += [f"{unknown} of unknown price"] if unknown else []
    return " and ".join(parts) or "nothing"


def cost(removal: Removal) -> str:
    return "price unknown" if removal.usd_a_month is None else f"{removal.usd_a_month:.2f} USD a month"


def _data(gone: list[Version], facts: Facts) -> Iterator[Removal]:
    """The data of versions that go, where none that stays names it."""
    arns = {version.arn for version in gone}
    staying = [version for version in facts.versions if version.arn not in arns]
    for uri in unnamed((uri for version in gone for uri in version.own), staying):
        yield Removal("data", uri, "no version that stays names it")


def _decisions(entries: Iterable[Entry], approved: Collection[str]) -> Iterator[Entry]:
    """What was approved last, and after it the approvals that count now, until there is a way back."""
    seen: set[str] = set()
    newest = True
    for entry in entries:
        if entry.kind == "remove" or len(seen) >= WAYS_BACK:
            return
        if entry.kind not in ("approve", "go-back") or entry.package_arn is None:
            continue
        if entry.package_arn in approved:
            seen.add(entry.package_arn)
        if newest or entry.package_arn in approved:
            yield entry
        newest = False


def _kept_deployments(history: Sequence[Deployment], approved: Collection[str]) -> Iterator[Deployment]:
    """What is under way or served last, what each of them goes back to, and what served before, another version."""
    by_number = {deployment.number: deployment for deployment in history}
    served = [deployment for deployment in history if deployment.status == "succeeded"]
    for one in [*(deployment for deployment in history if deployment.status == "under-way"), *served[:1]]:
        yield one
        back = going_back.way_back(one, history, lambda arn: "Approved" if arn in approved else None)
        if back is not None:
            yield back
    if not served:
        return
    last = served[0]
    if last.previous in by_number:
        yield by_number[last.previous]
    yield from [one for one in served if one.package_arn != last.package_arn][:1]


def _overlap(one: str, other: str) -> bool:
    """Whether one of the two is, or lies in, the other."""
    one, other = one.rstrip("/"), other.rstrip("/")
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def _number(version: Version) -> int:
    return package_version(version.arn)


def _short(arn: str) -> str:
    """churn-dev/12"""
    return arn.partition(":model-package/")[2]


def _days(span: timedelta) -> int:
    return span // timedelta(days=1)


def _age(changed: datetime, now: datetime) -> str:
    return f"{_days(now - changed)} days old, and nothing needs it"
