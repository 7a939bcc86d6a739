"""From events and from what the registry says to entries, and from entries to what should serve. Pure.

The rules (docs/lifecycle.md has them in words):

- An approval is a version and the time of its event in whole seconds. The same one twice is one entry; one that is
  older than the newest takes its place below it, and changes nothing.
- Stamping a version changes its LastModifiedTime, and is an event as well: so the time is always the event's, and an
  event that does not say what was changed counts only when the ledger does not know of it.
- A version that is approved, and of which the ledger's newest entry is not an approval, was missed; it counts at its
  LastModifiedTime, or at the time with which it was stamped.
- Before a removal nothing counts: a project of the same name made later begins with version 1 again, and with a ledger
  that knows of none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lifecycle_lambdas.events import VersionChanged, moment
from lifecycle_lambdas.ledger import whole_seconds
from lifecycle_lambdas.records import Entry, EntryKind

Package = dict[str, Any]
"""DescribeModelPackage's answer."""

BY, AT = "approval.by", "approval.at"
STATUS = "deployment.status"
WENT_BACK = "went-back"  # of a version that the controller went back from; of others how its deployment ended
DEPLOYMENT_STAMPS = ("deployment.number", STATUS, "deployment.ended")
UNKNOWN = "unknown"
DELETED = "the version was deleted"


def desired(entries: Iterable[Entry], approval_of: Callable[[str], str | None], now: datetime) -> Entry | None:
    """The entry that says what should serve; None: nothing should. A removal: nothing, and all of the endpoint goes.

    From the newest entry on: a park that still lasts, a removal, or the first approval or going back whose version is
    approved now. So rejecting a version goes back to what was before it, were it nothing. What was approved after a
    removal and is rejected now leaves nothing to serve, and is not removed once more.

    The controller's own going back is about the version that it leaves. What somebody had decided just before, and of
    which the controller had not heard when it went back, stands: another version, or a park.

    Args:
        entries: the newest first; no more of them are read than needed.
        approval_of: a version's ModelApprovalStatus now, None when there is no such version. Asked once for each.
        now: UTC.
    """
    rejected: dict[str, datetime] = {}
    approvals: dict[str, str | None] = {}
    approved_since = False
    back: Entry | None = None  # the controller's, unless what was decided before it is not about what it leaves
    for entry in entries:
        if entry.kind == "remove":
            return back or (None if approved_since else entry)
        if entry.kind == "park":
            if entry.until is None or now < entry.until:
                return None
            continue
        arn = _arn(entry)
        approved_since |= entry.kind != "reject"
        if back is not None and entry.kind != "reject" and arn == back.leaves:
            return back
        if entry.kind == "reject":
            rejected.setdefault(arn, entry.at)
        # Approved again after a rejection would be an entry of its own: no need to ask the registry. Within the same
        # second their order is not known, and the registry decides.
        elif entry.at >= rejected.get(arn, entry.at):
            if arn not in approvals:
                approvals[arn] = approval_of(arn)
            if approvals[arn] != "Approved":
                continue
            if back is not None or entry.leaves is None:
                return entry
            back = entry
    return back


def is_lost(arn: str, entries: Iterable[Entry], approval_of: Callable[[str], str | None], now: datetime) -> bool:
    """Whether the version should serve, were it not gone from the registry: nobody decided otherwise since.

    Args:
        entries: the newest first; no more of them are read than needed.
        approval_of: as desired()'s.
        now: UTC.
    """
    if approval_of(arn) is not None:
        return False
    for entry in entries:
        if entry.kind == "remove" or (entry.kind == "park" and (entry.until is None or now < entry.until)):
            return False
        if entry.package_arn is None or (entry.kind == "reject" and entry.why == DELETED):
            continue
        if entry.package_arn == arn:
            return entry.kind != "reject"
        if entry.kind != "reject" and approval_of(entry.package_arn) == "Approved":
            return False
    return False


@dataclass(frozen=True)
class Known:
    """Of one version, when the ledger last heard that it was approved (or gone back to), and that it was rejected."""

    approved: datetime | None = None
    rejected: datetime | None = None

    @property
    def is_approved(self) -> bool:
        """As far as the ledger knows; of the same second the approval counts, since the registry is asked anyway."""
        return self.approved is not None and (self.rejected is None or self.approved >= self.rejected)


def known(entries: Iterable[Entry]) -> dict[str, Known]:
    """By version, since the last removal. `entries` in any order."""
    entries = list(entries)
    removed = last_removal(entries)
    found: dict[str, Known] = {}
    for entry in entries:
        if entry.package_arn is None or (removed is not None and entry.key < removed.key):
            continue
        before = found.get(entry.package_arn, Known())
        if entry.kind == "reject":
            changed = Known(before.approved, max(entry.at, before.rejected or entry.at))
        else:
            changed = Known(max(entry.at, before.approved or entry.at), before.rejected)
        found[entry.package_arn] = changed
    return found


def last_removal(entries: Iterable[Entry]) -> Entry | None:
    """The newest removal among the entries, in any order."""
    return max((entry for entry in entries if entry.kind == "remove"), key=lambda entry: entry.key, default=None)


def is_removed(entries: Iterable[Entry]) -> bool:
    """Whether nothing was approved since a removal: another one would be the same. `entries`: the newest first."""
    decisive = next((entry for entry in entries if entry.kind in ("approve", "go-back", "remove")), None)
    return decisive is not None and decisive.kind == "remove"


def entry_of_change(
    endpoint: str, change: VersionChanged, package: Package, ledger: Callable[[], Known]
) -> Entry | None:
    """The entry that an event is; None when it is nobody's decision.

    Args:
        package: the version as it is described now, perhaps changed since.
        ledger: what the ledger knows of it; asked only when the event does not say what was changed.
    """
    if change.approval_changed is False:
        return None
    if change.approval_changed is None and not _is_news(change, package, ledger):
        return None
    kind: EntryKind = "approve" if change.approval == "Approved" else "reject"
    unchanged_since = _last_modified(package) == change.at
    why = _reason(endpoint, kind, package) if unchanged_since else ""
    if change.approval == "PendingManualApproval":
        why = " ".join(part for part in ("set back to PendingManualApproval", why) if part)
    return Entry(
        endpoint=endpoint,
        kind=kind,
        at=change.at,
        package_arn=change.package_arn,
        by=last_modified_by(package) if unchanged_since else _stamped_by(package, change.at),
        why=why,
        source="controller" if kind == "reject" and was_rejected_by_controller(package) else "event",
    )


def _is_news(change: VersionChanged, package: Package, ledger: Callable[[], Known]) -> bool:
    """Whether an event that does not say what was changed tells of a decision that the ledger has not heard of.

    It must still be so, since the event may be as late as any (that of a registration may come after the approval's).
    """
    if package.get("ModelApprovalStatus") != change.approval:
        return False
    knows, approved = ledger(), change.approval == "Approved"
    same, opposite = (knows.approved, knows.rejected) if approved else (knows.rejected, knows.approved)
    # the very event that the ledger has it from may come again, when what followed from it was cut short
    if change.at == same:
        return True
    return approved != knows.is_approved and (opposite is None or change.at >= opposite)


def missed_approval(endpoint: str, package: Package, knows: Known) -> Entry:
    """The entry of an approved version that the ledger does not know as approved.

    A stamp is of an approval that was in a ledger before: where that ledger is lost, it comes back as it was.

    Args:
        knows: what the ledger knows of it. An approval before a rejection that it knows of is not the missed one.
    """
    metadata = package.get("CustomerMetadataProperties", {})
    stamped = moment(metadata[AT]) if AT in metadata else None
    if stamped is not None and (knows.rejected is None or stamped > knows.rejected):
        at, by = stamped, metadata.get(BY, UNKNOWN)
    else:
        at, by = _last_modified(package), last_modified_by(package)
    why = _reason(endpoint, "approve", package)
    return Entry(endpoint, "approve", at, package["ModelPackageArn"], by, why, "found")


def missed_rejection(endpoint: str, arn: str, package: Package | None, now: datetime) -> Entry:
    """The entry of a version that the ledger knows as approved and that is not.

    Args:
        package: None when the version is gone.
        now: when it was found gone.
    """
    if package is None:
        return Entry(endpoint, "reject", whole_seconds(now), arn, UNKNOWN, DELETED, "found")
    why = package.get("ApprovalDescription", "")
    source = "controller" if was_rejected_by_controller(package) else "found"
    return Entry(endpoint, "reject", _last_modified(package), arn, last_modified_by(package), why, source)


def stamps(entry: Entry, package: Package) -> dict[str, Any] | None:
    """The UpdateModelPackage request that writes who approved the version and when; None when there is nothing to say.

    What a failed deployment, or going back, left on it goes: it is approved anew.
    """
    metadata = package.get("CustomerMetadataProperties", {})
    written = approval_stamps(entry, package)
    if package.get("ModelApprovalStatus") != "Approved" or not written:
        return None
    request: dict[str, Any] = {"ModelPackageArn": package["ModelPackageArn"], "CustomerMetadataProperties": written}
    if metadata.get(STATUS) in ("failed", WENT_BACK):
        request["CustomerMetadataPropertiesToRemove"] = [name for name in DEPLOYMENT_STAMPS if name in metadata]
    return request


def approval_stamps(entry: Entry, package: Package) -> dict[str, str]:
    """Who approved the version and when; empty where that stands on it, or where the entry is no approval."""
    at = f"{entry.at:%Y-%m-%dT%H:%M:%SZ}"
    stands = package.get("CustomerMetadataProperties", {}).get(AT, "") >= at
    return {} if stands or entry.kind != "approve" else {BY: metadata_value(entry.by), AT: at}


def failure(endpoint: str, number: int, reason: str) -> str:
    """What the controller writes on a version whose deployment failed, as its ApprovalDescription."""
    return f"Deployment {number} to {endpoint} failed: {reason}"


def gone_back_from(endpoint: str, reason: str) -> str:
    """What the controller writes on a version that it went back from, as its ApprovalDescription."""
    return f"{endpoint} went back: {reason}"


def description(text: str) -> str:
    """As ApprovalDescription takes it (SageMaker API reference, UpdateModelPackage): one line, 1024 characters."""
    return " ".join(text.split())[:1024]


def _reason(endpoint: str, kind: EntryKind, package: Package) -> str:
    """Why it was decided. SageMaker keeps ApprovalDescription until somebody writes another: why a deployment failed,
    or went back, is no reason to approve."""
    why, name = str(package.get("ApprovalDescription", "")), re.escape(endpoint)
    ours = re.match(rf"Deployment \d+ to {name} failed: |{name} went back: ", why)
    return "" if ours and kind == "approve" else why


def was_rejected_by_controller(package: Package) -> bool:
    """Rejected by the controller itself, after a deployment of it had failed or had been gone back from."""
    status = package.get("CustomerMetadataProperties", {}).get(STATUS)
    return package.get("ModelApprovalStatus") == "Rejected" and status in ("failed", WENT_BACK)


def last_modified_by(package: Package) -> str:
    """Who changed the version last: in Studio the user profile, since the role there is everybody's.

    Of a version never changed, who registered it.
    """
    user = package.get("LastModifiedBy") or package.get("CreatedBy") or {}
    return user.get("UserProfileArn") or user.get("IamIdentity", {}).get("Arn") or UNKNOWN


def metadata_value(text: str) -> str:
    """As CustomerMetadataProperties take it (SageMaker API reference): other characters become _, 256 at most."""
    return "".join(character if character.isalnum() or character in " _.:/=+-@" else "_" for character in text)[:256]


def _last_modified(package: Package) -> datetime:
    return whole_seconds(package.get("LastModifiedTime") or package["CreationTime"])


def _stamped_by(package: Package, at: datetime) -> str:
    """Who it was by the stamp of this very approval: the version was changed since, by us for one."""
    metadata = package.get("CustomerMetadataProperties", {})
    return metadata.get(BY, UNKNOWN) if metadata.get(AT) == f"{at:%Y-%m-%dT%H:%M:%SZ}" else UNKNOWN


def _arn(entry: Entry) -> str:
    if entry.package_arn is None:
        raise ValueError(f"{entry.endpoint}: the ledger's entry {entry.key} names no version")
    return entry.package_arn
