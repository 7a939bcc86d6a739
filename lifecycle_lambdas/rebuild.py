"""Brings back a ledger that was lost, from what AWS still knows. Deciding is pure.

What serves must not change by it: where what serves is not what was approved last, somebody had gone back, and where
nothing serves although a version was deployed, somebody had parked it; both are written down as such, of a ledger
that was restored to an earlier time as well. Who and why is lost, as is all that docs/operate.md lists.

Only what the ledger does not have is added, so that the same again changes nothing, and a whole ledger stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from lifecycle_lambdas import approvals, incidents, messages
from lifecycle_lambdas.approvals import AT, DEPLOYMENT_STAMPS, UNKNOWN, WENT_BACK, Known, Package
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.events import moment
from lifecycle_lambdas.ledger import Ledger, whole_seconds
from lifecycle_lambdas.records import Deployment, DeploymentStatus, Entry, State, package_version
from lifecycle_lambdas.remains import Model, Names, Remains, remains

NUMBER, STATUS, ENDED = DEPLOYMENT_STAMPS
SOURCE = "rebuilt"
LOST = "Who asked for it, and why, was lost with the ledger."
LEASE_SECONDS = 60.0
ENDS: tuple[DeploymentStatus, ...] = ("succeeded", "failed", "superseded")


@dataclass(frozen=True)
class Kept:
    """What the ledger has of an endpoint; of one that it does not know nothing."""

    state: State | None = None
    entries: tuple[Entry, ...] = ()
    deployments: tuple[Deployment, ...] = ()


@dataclass(frozen=True)
class Rebuilt:
    """What is to be added to the ledger of one endpoint.

    Args:
        state: as it is to be; None when it is already.
        begins: the ledger does not know the endpoint.
        entries, deployments: those that are not there.
        told: ids of the messages that are not to be sent again.
        notes: what a person should know: what was concluded, and what could not be.
    """

    endpoint: str
    state: State | None = None
    entries: tuple[Entry, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    told: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    begins: bool = False

    @property
    def changes_nothing(self) -> bool:
        return self.state is None and not self.entries and not self.deployments


def rebuilt(found: Remains, kept: Kept, now: datetime) -> Rebuilt:
    """What is to be added. Pure.

    Args:
        now: UTC.
    """
    decided, notes = _decisions(found, kept, now), list(found.faults)
    if (conclusion := _concluded(found, kept, decided, now)) is not None:
        decided.append(conclusion)
        notes.append(conclusion.why)
    entries = _newest_first([*kept.entries, *decided])
    wanted = approvals.desired(entries, lambda arn: _approval(found, arn), now)
    notes += _doubts(found, kept, wanted)
    deployments = _deployments(found, entries, wanted)
    have = {deployment.number for deployment in kept.deployments}
    removed = 0 if kept.state is None else kept.state.removed_number
    missing = [one for one in deployments if one.number not in have and one.number > removed]
    state = _state(found, kept, wanted, deployments)
    return Rebuilt(
        endpoint=found.endpoint,
        state=None if state == kept.state else state,
        entries=tuple(decided),
        deployments=tuple(missing),
        told=(
            *map(messages.id_of_entry, decided),
            *(_told(one) for one in missing if one.ended is not None),
            *(incidents.mark(one) for one in missing),  # its page knew more
        ),
        notes=tuple(notes),
        begins=kept.state is None,
    )


def _decisions(found: Remains, kept: Kept, now: datetime) -> list[Entry]:
    """Approvals and rejections that the registry knows and the ledger does not."""
    removal = approvals.last_removal(kept.entries)
    knows, decided = approvals.known(kept.entries), []
    for package in found.packages:
        arn, status = package["ModelPackageArn"], package["ModelApprovalStatus"]
        if removal is not None and package["CreationTime"] <= removal.at:
            continue  # of a project that was deleted
        known = knows.get(arn)
        was_approved = status == "Approved" or (known is None and AT in _metadata(package))
        if was_approved and (known is None or not known.is_approved):
            entry = approvals.missed_approval(found.endpoint, package, known or Known())
            # of one that is not approved any more the description says why not
            decided.append(entry if status == "Approved" else replace(entry, why=""))
        if status != "Approved" and (known.is_approved if known is not None else was_approved or status == "Rejected"):
            decided.append(approvals.missed_rejection(found.endpoint, arn, package, now))
    return [replace(entry, source="controller" if entry.source == "controller" else SOURCE) for entry in decided]


def _concluded(found: Remains, kept: Kept, decided: Sequence[Entry], now: datetime) -> Entry | None:
    """The going back or the parking without which what serves would change; None where what serves was approved last.

    A version that was approved after what serves began is on its way, and is no going back.
    """
    if kept.entries and not _is_behind(found, kept, decided):
        return None
    entries = _newest_first([*kept.entries, *decided])
    newest = approvals.desired(entries, lambda arn: _approval(found, arn), now)
    if newest is None or newest.package_arn is None:
        return None
    version, live, was_left = package_version(newest.package_arn), _live(found), _was_left(found, newest)
    if live is None:
        package = _package(found, newest.package_arn)
        # it was in the ledger, others had served, and nothing of a deployment of it is left: what was parked is swept
        was_known = package is not None and AT in _metadata(package)
        served = any(_metadata(one).get(STATUS) in ("succeeded", WENT_BACK) for one in found.packages)
        begun = any(model.package_arn == newest.package_arn for model in found.models.values())
        if not was_left and (begun or not (was_known and served)):
            return None
        why = (
            f"Nothing serves, although version {version} is approved: the endpoint was parked or removed. {LOST} "
            f"To have it again: go-back {found.endpoint} {version} --why ..."
        )
        return Entry(found.endpoint, "park", whole_seconds(now), None, UNKNOWN, why, SOURCE)
    model = found.models.get(live)
    if model is None or model.package_arn == newest.package_arn:
        return None
    if whole_seconds(model.created) < newest.at and not was_left:
        return None
    if _approval(found, model.package_arn) != "Approved":
        return None
    how = "was left before it served" if was_left else "was approved before it was deployed"
    why = (
        f"Version {package_version(model.package_arn)} serves, although version {version} {how}: somebody had gone "
        f"back. {LOST} To have version {version}: go-back {found.endpoint} {version} --why ..."
    )
    at = max(whole_seconds(model.created), newest.at + timedelta(seconds=1))
    return Entry(found.endpoint, "go-back", at, model.package_arn, UNKNOWN, why, SOURCE)


def _live(found: Remains) -> int | None:
    """The number of the deployment that serves, or that the endpoint is on its way to; None: nothing serves.

    What it is on its way to and was left is about to be aborted.
    """
    return found.serving if found.pending is None or found.pending in _left(found) else found.pending


def _left(found: Remains) -> dict[int, Package]:
    """By its number, the versions whose last deployment was left before it served (converge.supersede)."""
    return {
        number: package
        for number, package in _stamped(found).items()
        if _metadata(package).get(STATUS) == "superseded" and ENDED in _metadata(package)
    }


def _was_left(found: Remains, wanted: Entry) -> bool:
    """Whether the version was left after this decision, and no deployment of it began since."""
    last = max((number for number, one in found.models.items() if one.package_arn == wanted.package_arn), default=0)
    return any(
        package["ModelPackageArn"] == wanted.package_arn
        and number >= last
        and wanted.at <= moment(_metadata(package)[ENDED])
        for number, package in _left(found).items()
    )


def _is_behind(found: Remains, kept: Kept, decided: Sequence[Entry]) -> bool:
    """Whether the ledger lacks a deployment that it once had, or an approval that stands on a version.

    It was restored to an earlier time then.
    """
    have = {deployment.number for deployment in kept.deployments}
    removed = 0 if kept.state is None else kept.state.removed_number
    stamps = {(package["ModelPackageArn"], _metadata(package).get(AT)) for package in found.packages}
    return any(number > removed and number not in have for number in {*_stamped(found), *found.models}) or any(
        entry.kind == "approve" and (entry.package_arn, f"{entry.at:%Y-%m-%dT%H:%M:%SZ}") in stamps for entry in decided
    )


def _doubts(found: Remains, kept: Kept, wanted: Entry | None) -> list[str]:
    """What only people know: of a park after the time to which a ledger was restored nothing is left in AWS."""
    nothing_serves = found.serving is None and found.pending is None
    settled = kept.state is not None and kept.state.status == "settled"
    if not (nothing_serves and settled) or wanted not in kept.entries or wanted is None or wanted.package_arn is None:
        return []
    return [
        f"Nothing serves, although version {package_version(wanted.package_arn)} should, and the controller makes it "
        f"anew. If somebody parked it, before the controller is started: park {found.endpoint} --why ..."
    ]


def _deployments(found: Remains, entries: Sequence[Entry], wanted: Entry | None) -> list[Deployment]:
    """Those that a model or a stamp tells of, in the order of their numbers.

    Args:
        entries: the newest first.
        wanted: the one that says what should serve.
    """
    by_arn = {package["ModelPackageArn"]: package for package in found.packages}
    stamped = _stamped(found)
    built: list[Deployment] = []
    for number in sorted({*stamped, *found.models}):
        model = found.models.get(number)
        package = stamped[number] if model is None else by_arn[model.package_arn]
        arn, stamps = package["ModelPackageArn"], _metadata(package) if stamped.get(number) is package else {}
        status = _status(found, number, package, stamps, wanted)
        ended = _ended(found, number, status, model, stamps)
        began = ended or whole_seconds(package["CreationTime"]) if model is None else model.created
        before = next((one for one in reversed(built) if one.status == "succeeded"), None)
        built.append(
            Deployment(
                endpoint=found.endpoint,
                number=number,
                entry_key=_entry_key(entries, arn, began),
                package_arn=arn,
                stage_file=_stage_file(found, number, arn, before),
                stage_file_sha256=_metadata(package).get(f"deployment.sha256.{found.stage}", ""),
                status=status,
                started=began if ended is None else min(began, ended),
                previous=None if before is None else before.number,
                requested=found.modified if number == found.pending else None,
                ended=ended,
                reason=_reason(found.endpoint, number, package) if status == "failed" else "",
            )
        )
    return built


def _status(
    found: Remains, number: int, package: Package, stamps: dict[str, str], wanted: Entry | None
) -> DeploymentStatus:
    if number == found.pending and number not in _left(found):
        return "under-way"
    if number == found.serving:
        return "succeeded"
    if stamps.get(STATUS) == WENT_BACK:
        return "succeeded"
    for status in ENDS:
        if stamps.get(STATUS) == status:
            return status
    if found.serving is not None and number < found.serving:
        # of what served before the controller keeps the model of the way back alone (sweep.py)
        return "succeeded" if package["ModelApprovalStatus"] == "Approved" else "superseded"
    goes_on = wanted is not None and wanted.package_arn == package["ModelPackageArn"]
    return "under-way" if goes_on else "superseded"


def _ended(
    found: Remains, number: int, status: DeploymentStatus, model: Model | None, stamps: dict[str, str]
) -> datetime | None:
    """As it is stamped; else of what serves the endpoint's last change, of anything else when its model was made."""
    if status == "under-way":
        return None
    if ENDED in stamps:
        return moment(stamps[ENDED])
    if number == found.serving and found.modified is not None:
        return found.modified
    return None if model is None else model.created


def _entry_key(entries: Sequence[Entry], arn: str, began: datetime) -> str:
    """Of the decision that the deployment fulfils: the last one for its version before it began."""
    mine = [entry for entry in entries if entry.package_arn == arn and entry.kind in ("approve", "go-back")]
    before = [entry for entry in mine if entry.at <= began]
    return next((entry.key for entry in (*before, *reversed(mine))), "")


def _stage_file(found: Remains, number: int, arn: str, before: Deployment | None) -> dict[str, Any]:
    """As it applied: going back to an older version kept the capacity of what served (converge.applied)."""
    from lifecycle_lambdas import stage_schema

    own = found.stage_files.get(arn)
    if own is None:
        return {}
    stage_file = stage_schema.parse(own, found.stage)
    if before is not None and before.stage_file and package_version(arn) < package_version(before.package_arn):
        stage_file = stage_schema.with_capacity_of(stage_file, stage_schema.parse(before.stage_file, found.stage))
    counted = isinstance(stage_file, stage_schema.RealTime) and stage_file.scaling is None
    if number == found.serving and counted and found.instance_count is not None:
        stage_file = stage_file.model_copy(update={"instance_count": found.instance_count})
    return stage_schema.dump(stage_file)


def _reason(endpoint: str, number: int, package: Package) -> str:
    """Why it failed, as the controller wrote it on the version (approvals.failure)."""
    beginning = approvals.failure(endpoint, number, "")
    return str(package.get("ApprovalDescription", "")).removeprefix(beginning)


def _told(deployment: Deployment) -> str:
    kinds: dict[str, messages.DeploymentKind] = {
        "succeeded": "deployed",
        "failed": "failed",
        "superseded": "superseded",
    }
    return messages.of_deployment(kinds[deployment.status], deployment, approved_by="").id


def _state(found: Remains, kept: Kept, wanted: Entry | None, deployments: Sequence[Deployment]) -> State:
    """Settled where what should serve does: the controller has nothing to do then, and nobody to tell."""
    last = max((*found.numbers, *(one.number for one in deployments)), default=0)
    if kept.state is not None:
        return replace(kept.state, last_number=max(last, kept.state.last_number))
    serving = next((one for one in deployments if one.number == found.serving), None)
    should = None if wanted is None else wanted.package_arn
    settled = found.pending is None and should == (None if serving is None else serving.package_arn)
    return State(
        endpoint=found.endpoint,
        project=found.project,
        stage=found.stage,
        group=found.endpoint,
        status="settled" if settled else "under-way",
        last_number=last,
    )


def _newest_first(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.key, reverse=True)


def _stamped(found: Remains) -> dict[int, Package]:
    """The versions that say of which deployment they were last, by its number."""
    return {
        int(stamp): package for package in found.packages if (stamp := _metadata(package).get(NUMBER, "")).isdecimal()
    }


def _package(found: Remains, arn: str) -> Package | None:
    return next((package for package in found.packages if package["ModelPackageArn"] == arn), None)


def _approval(found: Remains, arn: str) -> str | None:
    package = _package(found, arn)
    return None if package is None else package["ModelApprovalStatus"]


def _metadata(package: Package) -> dict[str, str]:
    metadata: dict[str, str] = package.get("CustomerMetadataProperties", {})
    return metadata


def read(context: Context, group: str, arn: str, known: Names) -> Rebuilt | None:
    """What is to be added for a model package group; None for one that is not Modelyard's."""
    found = remains(context, group, arn, known)
    return None if found is None else rebuilt(found, kept(context.ledger, group), context.now())


def kept(ledger: Ledger, endpoint: str) -> Kept:
    state, entries, deployments = ledger.history(endpoint)
    return Kept(state, tuple(entries), tuple(deployments))


def write(context: Context, addition: Rebuilt) -> None:
    """Add it, while nobody else acts on the endpoint.

    Raises:
        LookupError: somebody does, or wrote meanwhile; the same again finds what is missing then.
    """
    lease = context.ledger.lease(addition.endpoint, context.owner, LEASE_SECONDS)
    if lease is None:
        raise LookupError(f"somebody acts on {addition.endpoint}: stop the controller first (docs/operate.md)")
    with lease:
        # the newest first: should it be cut short, what was concluded is there
        entries = _newest_first(addition.entries)
        context.ledger.restore(lease, addition.state, entries, addition.deployments, addition.told, addition.begins)
