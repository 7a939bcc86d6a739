"""Cleaning up a project: a policy is announced first; later what nobody needs goes, looked at again before each call.

A version goes before its data, so that nothing that could still be approved lacks its model. What is being removed is
in the ledger before the first call, so that a run that was killed is finished, and told of, by the next one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import takewhile
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from lifecycle_lambdas import approvals, cleaning, cleaning_facts
from lifecycle_lambdas.approvals import Known
from lifecycle_lambdas.aws_errors import is_missing
from lifecycle_lambdas.branches import Hosts
from lifecycle_lambdas.cleaning import Facts, Policy, Removal, Version
from lifecycle_lambdas.cleaning_facts import Package, Parked
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.events import LookAt, message
from lifecycle_lambdas.ledger import whole_seconds
from lifecycle_lambdas.log import log
from lifecycle_lambdas.messages import Message
from lifecycle_lambdas.prices import HOURS_A_MONTH, PriceList
from lifecycle_lambdas.records import Entry, PolicyRecord, State

BY = "modelyard"  # in whose name the controller decides
PRICE_LIST_REGION = "us-east-1"  # where AWS's price list API is
ENOUGH = 20.0  # seconds that must be left to begin with another removal
LONGEST_RUN = 900.0  # seconds, of a function; as long a killed one keeps others out
SHOWN = 30  # removals that a message names; the list in S3 has all
GIGABYTE = 1024**3
MOST_AT_ONCE = 1000  # S3 API reference, DeleteObjects
KINDS = ("pipeline", "version", "data")  # in this order they go
How = Literal["due", "show", "now"]


class NotRemoved(Exception):
    """Something could not be removed; the next hour's run tries it again."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Args:
        says: in words.
        removals: what went, or of one that removes nothing what would go.
        done: whether it went.
        waits: whether something could not go yet: people were told too lately, or something else is at it.
    """

    project: str
    says: str
    removals: tuple[Removal, ...] = ()
    done: bool = False
    waits: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "project": self.project,
            "says": self.says,
            "done": self.done,
            "waits": self.waits,
            "removals": [asdict(removal) for removal in self.removals],
            "total": cleaning.total(self.removals),
        }


def run(context: Context, hosts: Hosts, states: Sequence[State], now: datetime, how: How) -> list[Outcome]:
    """Park and clean up one project.

    Args:
        states: of its endpoints of the stages feature and dev.
        now: UTC, the time that the run is for.
        how: "due": what the project's policies ask for now; "show": changes nothing; "now": at once, where people
            were told of the policy a day before.

    Raises:
        ClientError, AdministratorsFault: the same again does no harm, and goes on where this one ended.
        NotRemoved: something could not be removed, and all else was.
    """
    project = states[0].project
    lease = context.ledger.lease(f"{project}/cleaning", context.owner, LONGEST_RUN)
    if lease is None:
        says = "another one is cleaning up, or was killed within the last quarter of an hour"
        return [Outcome(project, says, waits=True)]
    with lease:
        outcomes = [_park(context, state, now, how) for state in states]
        outcomes += [_clean(context, hosts, state, now, how) for state in states if state.stage == cleaning.STAGE]
    return [outcome for outcome in outcomes if outcome is not None]


def _forget(context: Context, record: PolicyRecord | None, now: datetime, how: How) -> None:
    """Of a section that is gone: should it come back, people are told again first."""
    off = cleaning.turned_off(record, now)
    if off is not None and how == "due":
        context.ledger.put_policy(off)


# --- parking


def _park(context: Context, state: State, now: datetime, how: How) -> Outcome | None:
    began = whole_seconds(context.now())
    now = max(now, began)  # what was used since the hour that a late run is for is in use
    parked = cleaning_facts.parked(context, state, now)
    if parked == "never":
        _forget(context, context.ledger.policy(state.endpoint, "park"), now, how)
    if parked is None or parked == "never":
        return None
    serving, parking = parked.serving, parked.serving.parking
    if serving.announced is None:
        if how == "show":
            return Outcome(state.project, f"{state.endpoint} will be parked {parking}, once people were told so")
        return _announce_parking(context, state, parked, now)
    as_of = cleaning.due(serving, now)
    if as_of is None:
        return Outcome(state.project, f"{state.endpoint} is parked {parking}, and serves until then")
    removal = Removal("endpoint", state.endpoint, f"parked {parking}", _hosting(context, parked))
    if how == "show":
        return Outcome(state.project, f"{state.endpoint} would be parked now", (removal,))
    # Never of the future, where clocks differ: it would stand above approvals that come after it.
    return _park_now(context, state, parked, removal, now, min(as_of, began))


def _announce_parking(context: Context, state: State, parked: Parked, now: datetime) -> Outcome:
    sha256 = cleaning.fingerprint(parked.serving.parking)
    title = f"{state.endpoint}: will be parked {parked.serving.parking}"
    text = "It is deleted then, and comes back with the next approval. Its stage file says so (park)."
    context.tell(Message("cleaned", state.endpoint, f"parking#{sha256[:16]}#{now:%Y-%m-%dT%HZ}", title, text))
    context.ledger.put_policy(PolicyRecord(state.endpoint, "park", sha256, now))
    return Outcome(state.project, f"{title}; people were told")


def _park_now(
    context: Context, state: State, parked: Parked, removal: Removal, now: datetime, as_of: datetime
) -> Outcome:
    """Told first, once for each deployment: an endpoint that is gone is not looked at again.

    Args:
        as_of: the entry's time, so that an approval of which the ledger hears only after it takes its place above it.
    """
    package = cleaning_facts.described(context, parked.deployment.package_arn)
    place = "" if package is None else _write_list(context, state.project, package, now, [removal], done=True)
    text = "It is deleted, and comes back with the next approval. For the same version: reject it, then approve it."
    title, links = f"{state.endpoint}: {removal.why}", (("List", place),) if place else ()
    told_id = f"parked#{parked.deployment.number}"
    context.tell(
        Message("cleaned", state.endpoint, told_id, title, text, (("It cost", cleaning.cost(removal)),), links)
    )
    entry = Entry(state.endpoint, "park", as_of, None, BY, removal.why, "controller")
    if context.ledger.append(entry):
        log("entry", endpoint=entry.endpoint, entry=entry.key, by=entry.by)
    context.client("sqs").send_message(QueueUrl=context.settings.queue_url, MessageBody=message(LookAt(state.endpoint)))
    return Outcome(state.project, title, (removal,), done=True)


def _hosting(context: Context, parked: Parked) -> float | None:
    """US dollars a month of the instances that run; None where that is not known."""
    instance_type = parked.deployment.stage_file.get("instance_type")
    price = None if instance_type is None else _prices(context).instance_hour(instance_type).usd
    return None if price is None else float(price * HOURS_A_MONTH * parked.instances)


# --- cleaning up


def _clean(context: Context, hosts: Hosts, state: State, now: datetime, how: How) -> Outcome | None:
    newest = cleaning_facts.newest_version(context, state.group)
    policy = None if newest is None else cleaning_facts.policy(context, newest)
    record = context.ledger.policy(state.endpoint, "clean")
    if newest is None or policy is None:
        _forget(context, record, now, how)
        return None
    sha256 = cleaning.fingerprint(policy)
    known = cleaning.turned_to(record, sha256, now)
    ready = known is not None and cleaning.may_begin(known.announced, now)
    if known is not None and how != "show" and not ready:
        return None if how == "due" else Outcome(state.project, cleaning.would(known, now), waits=True)
    # In between what an earlier run could not remove is tried alone: the function fails as long as the cause is there.
    rest = known is not None and how == "due" and not cleaning.may_remove(known.announced, known.removed, now)
    if known is not None and rest and not known.pending:
        return None
    began = whole_seconds(context.now())
    facts = cleaning_facts.facts(context, hosts, state, policy, now)
    removals = [] if rest else _with_costs(context, cleaning.decide(policy, facts, now))
    if how == "show":
        begun = 0 if record is None else len(record.pending)
        says = cleaning.would(known, now) + (f"; an earlier run began with {begun} of it" if begun else "")
        says += cleaning.pipelines_stay(facts)
        return Outcome(state.project, says, tuple(_wanted(record, removals)), waits=not ready)
    if known is not None:
        removed = known.removed if rest else now
        return _Removing(context, state, policy, facts, newest, now, began).run(record, known, removals, removed)
    announced = PolicyRecord(state.endpoint, "clean", sha256, now)
    if record is not None:
        told = cleaning.told_lately(record, now)
        announced = replace(announced, removed=record.removed, pending=record.pending, earlier=told)
    return _announce(context, state, newest, announced, removals, facts)


def _wanted(record: PolicyRecord | None, removals: Iterable[Removal]) -> list[Removal]:
    """What an earlier run had begun with and what goes now, in the order in which it goes."""
    begun = [] if record is None else [Removal(**each) for each in record.pending]
    wanted = {removal.what: removal for removal in [*begun, *removals]}
    return sorted(wanted.values(), key=lambda one: KINDS.index(one.kind))


def _announce(
    context: Context, state: State, newest: Package, record: PolicyRecord, removals: list[Removal], facts: Facts
) -> Outcome:
    """Say what the policy would remove; nothing goes."""
    now = record.announced
    place = _write_list(context, state.project, newest, now, removals, done=False)
    what = f"{len(removals)} things" if removals else "nothing"
    text = (
        f"Nothing is removed before {now + cleaning.NOTICE:%Y-%m-%d %H:%M} UTC. What is still old and unneeded then "
        f"goes, and once a day from then on. Today it would be {what}{cleaning.pipelines_stay(facts)}. To keep all of "
        f"it, remove `clean` from deployment/feature.yaml and let a version be registered.\n{_lines(removals)}"
    )
    title = f"{state.project}: what would be cleaned up"
    told_id = f"cleaning#{record.sha256[:16]}#{now:%Y-%m-%dT%HZ}"
    context.tell(
        Message("cleaned", state.endpoint, told_id, title, text.rstrip(), _facts(removals), (("List", place),))
    )
    context.ledger.put_policy(record)
    says = f"people were told what would go; nothing was removed{cleaning.pipelines_stay(facts)}"
    return Outcome(state.project, says, tuple(removals), waits=True)


class _Removing:
    """One run that removes. `began`: when the gathering of the facts did."""

    def __init__(
        self,
        context: Context,
        state: State,
        policy: Policy,
        facts: Facts,
        newest: Package,
        now: datetime,
        began: datetime,
    ) -> None:
        self.context, self.state, self.policy, self.facts = context, state, policy, facts
        self.newest, self.now = newest, now
        self.began = began
        self.sagemaker = context.client("sagemaker")
        self.deleted: set[str] = set()
        self.failed: dict[Removal, Exception] = {}
        self.there: list[Version] | None = None

    def run(
        self, read: PolicyRecord | None, record: PolicyRecord, removals: list[Removal], removed: datetime | None
    ) -> Outcome:
        """Remove what was decided, and the rest of what an earlier run had begun with.

        Args:
            read: what the ledger had; where it has another since, the project was deleted, which forgot the policy.
            removed: what the ledger has then as the time of the last removal.

        Raises:
            NotRemoved: something could not be removed. It keeps nothing else, and is tried again an hour later.
        """
        wanted = _wanted(record, removals)
        if wanted:
            record = _pending(record, wanted)
            if not self.context.ledger.put_policy_if_still(read, record):
                return Outcome(self.state.project, "the project is being deleted", waits=True)
            read = record
        gone: list[Removal] = []
        later: list[Removal] = []
        for removal in wanted:
            if self.context.remaining() < ENOUGH:
                says = "there is more to remove than time: the next run goes on, and tells of all"
                return Outcome(self.state.project, says, tuple(gone), done=True, waits=True)
            try:
                came_to = self.remove(removal)
            except (ClientError, BotoCoreError, NotRemoved) as error:
                self.failed[removal] = error
                log("not cleaned up", level="ERROR", project=self.state.project, what=removal.what, error=str(error))
                continue
            if came_to == "gone":
                gone.append(removal)
                log("cleaned up", project=self.state.project, kind=removal.kind, what=removal.what, why=removal.why)
            elif came_to == "later":
                later.append(removal)
        if gone:
            self.tell(gone)
        after = replace(_pending(record, [*self.failed, *later]), removed=removed)
        self.context.ledger.put_policy_if_still(read, after)
        if self.failed:
            first, why = next(iter(self.failed.items()))
            raise NotRemoved(f"{len(self.failed)} of {len(wanted)} could not be removed, the first {first.what}: {why}")
        went = [f"{len(gone)} things were removed"] if gone else []
        wait = [f"{len(later)} wait until no pipeline runs"] if later else []
        says = "; ".join([*went, *wait]) or "nothing is old and unneeded"
        says += cleaning.pipelines_stay(self.facts)
        return Outcome(self.state.project, says, tuple(gone), done=True, waits=bool(later))

    def remove(self, removal: Removal) -> Literal["gone", "needed", "later"]:
        """Look once more, and remove it where nothing needs it; what is gone already is gone."""
        if removal.kind == "pipeline":
            return self.remove_pipeline(removal.what)
        if removal.kind == "version":
            return self.remove_version(removal.what)
        return self.remove_data(removal.what)

    def remove_pipeline(self, name: str) -> Literal["gone", "needed"]:
        pipeline = next((one for one in self.facts.pipelines if one.name == name), None)
        try:
            found = self.sagemaker.describe_pipeline(PipelineName=name)
            if pipeline is None or found["LastModifiedTime"] > pipeline.used:
                return "needed"  # made anew, or changed, since
            why = cleaning.reason_against(pipeline, self.policy, self.facts.branches, self.now)
            if why is None or cleaning_facts.running(self.context, name):
                return "needed"
            token = hashlib.sha256(f"clean {found['PipelineArn']} {self.now}".encode()).hexdigest()
            self.sagemaker.delete_pipeline(PipelineName=name, ClientRequestToken=token)
        except ClientError as error:
            if _begins(error):
                return "needed"
            if not is_missing(error):
                raise
        return "gone"

    def remove_version(self, arn: str) -> Literal["gone", "needed"]:
        package = cleaning_facts.described(self.context, arn)
        if package is not None:
            version = next((one for one in self.facts.versions if one.arn == arn), None)
            now = cleaning_facts.version_of(self.state.project, cleaning.STAGE, package)
            if version is None or now != version or self.decided_on(arn):
                return "needed"
            if cleaning.need(version, self.facts) is not None or not cleaning.is_old(version, self.policy, self.now):
                return "needed"
            try:
                self.sagemaker.delete_model_package(ModelPackageName=arn)
            except ClientError as error:
                if not is_missing(error):
                    raise
        self.deleted.add(arn)
        self.take_back(arn)
        return "gone"

    def take_back(self, arn: str) -> None:
        """Of a version that is gone: or else it would be found missing, and people told that somebody had rejected it.

        Not before it is gone: of one that stays, and is approved, the look at everything would find its approval
        missed, and deploy it.
        """
        if self.known.get(arn, Known()).is_approved:
            why = "removed when it was old, and nothing needed it"
            at = whole_seconds(self.context.now())
            self.context.ledger.append(Entry(self.state.endpoint, "reject", at, arn, BY, why, "controller"))

    @cached_property
    def known(self) -> dict[str, Known]:
        """What the ledger knew of each version when the first one was gone."""
        return approvals.known(self.context.ledger.entries(self.state.endpoint))

    def decided_on(self, arn: str) -> bool:
        """Whether somebody approved it, or went back to it, since the facts were gathered."""
        recent = takewhile(lambda entry: entry.at >= self.began, self.context.ledger.entries(self.state.endpoint))
        return any(entry.package_arn == arn for entry in recent)

    def remove_data(self, uri: str) -> Literal["gone", "needed", "later"]:
        versions = self.versions()
        # A version whose deletion failed may be gone all the same: then nothing but this names its data any more.
        undecided = {removal.what for removal in self.failed}
        staying = [version for version in versions if version.arn not in undecided]
        if not cleaning_facts.is_its_own(self.state.project, uri) or not cleaning.unnamed([uri], staying):
            return "needed"
        if not cleaning.unnamed([uri], versions):
            return "later"
        if any(pipeline.running for pipeline in self.facts.pipelines):
            return "later"
        bucket, key = _place(uri)
        s3 = self.context.client("s3")
        keys = [one["Key"] for one in _objects(s3, bucket, key)]
        for start in range(0, len(keys), MOST_AT_ONCE):
            objects = [{"Key": each} for each in keys[start : start + MOST_AT_ONCE]]
            answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
            if answer.get("Errors"):
                error = answer["Errors"][0]
                raise NotRemoved(f"S3 did not delete s3://{bucket}/{error.get('Key')}: {error.get('Code')}")
        return "gone"

    def versions(self) -> list[Version]:
        """Those that are there now: data that one of them names stays."""
        if self.there is None:
            known = self.facts.versions or tuple(cleaning_facts.versions(self.context, self.state.project))
            new = cleaning_facts.versions(self.context, self.state.project, since=self.began)
            self.there = [one for one in (*known, *new) if one.arn not in self.deleted]
        return self.there

    def tell(self, gone: list[Removal]) -> None:
        place = _write_list(self.context, self.state.project, self.newest, self.now, gone, done=True)
        self.context.tell(
            Message(
                "cleaned",
                self.state.endpoint,
                f"cleaned#{self.now:%Y-%m-%dT%H:%M:%SZ}",
                f"{self.state.project}: {len(gone)} things were cleaned up",
                _lines(gone),
                _facts(gone),
                (("List", place),),
            )
        )


def _pending(record: PolicyRecord, removals: Iterable[Removal]) -> PolicyRecord:
    return replace(record, pending=tuple(asdict(removal) for removal in removals))


def _begins(error: ClientError) -> bool:
    """Whether an execution of the pipeline began at this very moment.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DeletePipeline.html
    """
    return error.response["Error"]["Code"] == "ConflictException"


# --- lists, costs, words


def _with_costs(context: Context, removals: list[Removal]) -> list[Removal]:
    """Of data what storing it costs; SageMaker's price list has nothing of pipelines and versions."""
    if not any(removal.kind == "data" for removal in removals):
        return removals
    price, s3 = _prices(context).gigabyte_month().usd, context.client("s3")

    def a_month(removal: Removal) -> float | None:
        size = _size(s3, removal.what) if removal.kind == "data" and price is not None else None
        return None if size is None or price is None else float(price) * size / GIGABYTE

    return [replace(removal, usd_a_month=a_month(removal)) for removal in removals]


def _prices(context: Context) -> PriceList:
    return PriceList(context.clients("pricing", PRICE_LIST_REGION), context.clients.region)


def _size(s3: Any, uri: str) -> int | None:
    """In bytes; None where S3 does not say."""
    try:
        return sum(int(one["Size"]) for one in _objects(s3, *_place(uri)))
    except (ClientError, BotoCoreError) as error:
        log("the size of data is not known", level="WARNING", what=uri, error=str(error))
        return None


def _objects(s3: Any, bucket: str, key: str) -> Iterator[dict[str, Any]]:
    """The object with this key; of a key that ends with a slash all below it. None of a bucket that is gone."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
    try:
        for one in (one for page in pages for one in page.get("Contents", ())):
            if key.endswith("/") or one["Key"] == key:
                yield one
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucket":
            raise


def _place(uri: str) -> tuple[str, str]:
    """Bucket and key."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _write_list(
    context: Context, project: str, package: Package, now: datetime, removals: list[Removal], done: bool
) -> str:
    """Into the bucket that the version's stage files are in; answers the list's S3 URI."""
    bucket, _ = _place(package["CustomerMetadataProperties"]["deployment.prefix"])
    # several endpoints are parked in one second
    kinds = "".join(f"-{removal.what}-parked" for removal in removals if removal.kind == "endpoint")
    key = f"{project}/{cleaning.STAGE}/cleaning/{now:%Y%m%dT%H%M%SZ}{kinds}.json"
    content = {
        "project": project,
        "at": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "removed": done,
        "removals": [asdict(removal) for removal in removals],
        "total": cleaning.total(removals),
    }
    context.client("s3").put_object(
        Bucket=bucket, Key=key, Body=json.dumps(content, indent=2).encode(), ContentType="application/json"
    )
    return f"s3://{bucket}/{key}"


def _lines(removals: list[Removal]) -> str:
    lines = [f"{one.kind} {one.what}: {one.why} ({cleaning.cost(one)})" for one in removals[:SHOWN]]
    more = len(removals) - SHOWN
    return "\n".join([*lines, *([f"and {more} more, see the list"] if more > 0 else [])])


def _facts(removals: list[Removal]) -> tuple[tuple[str, str], ...]:
    return (("Cost", cleaning.total(removals)),) if removals else ()
