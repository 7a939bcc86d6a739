"""What the ledger holds: entries, which people and functions append, and deployments, which the controller records."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

EntryKind = Literal["approve", "reject", "park", "go-back", "remove"]
Status = Literal["under-way", "settled", "removed"]
DeploymentStatus = Literal["under-way", "succeeded", "failed", "superseded"]

LAST_OF_ITS_SECOND = 9_999_999_999


@dataclass(frozen=True)
class Entry:
    """One line of an endpoint's ledger; never changed, never deleted.

    Args:
        endpoint: "<project>-<stage>".
        kind: "approve" and "go-back" name the version that should serve; "reject" says that one should not, "park"
            that nothing should until `until` (None: until the next approval), "remove" that everything of the endpoint
            goes, and that nothing before it counts any more.
        at: when, UTC, in whole seconds (events carry no more); of an approval the package's LastModifiedTime.
        package_arn: the versioned model package; None for "park" and "remove".
        by: who, as an ARN; "unknown" where AWS does not say. Of a removal the stack's, when its project is deleted.
        why: in words, for the messages.
        source: "event", "found" (by looking again), "command", "controller".
    """

    endpoint: str
    kind: EntryKind
    at: datetime
    package_arn: str | None
    by: str
    why: str
    source: str
    until: datetime | None = None

    @property
    def key(self) -> str:
        """The sort key: entries in the order of their time; the same approval twice has the same key.

        A removal is the last of its second: what was approved in it belongs to what is removed.
        """
        if self.kind == "remove":
            version = LAST_OF_ITS_SECOND
        else:
            version = 0 if self.package_arn is None else package_version(self.package_arn)
        return f"ENTRY#{self.at:%Y-%m-%dT%H:%M:%SZ}#{version:010d}#{self.kind}"


@dataclass(frozen=True)
class Attempt:
    """One call that changes something: what was asked for, when, and how AWS answered ("" while it is not known)."""

    at: datetime
    operation: str
    resource: str
    outcome: str


@dataclass(frozen=True)
class Deployment:
    """One way of bringing one version behind one endpoint, with every attempt.

    Args:
        number: from 1, never given twice for an endpoint; the names of its model, endpoint config and alarms end in it.
        entry_key: of the ledger's entry that it fulfils.
        stage_file: the stage file as it applies here, defaults filled in and, going back, with the capacity that
            served before (the JSON form of stage_schema.StageFile).
        stage_file_sha256: of the file as it was registered.
        previous: the number of the deployment that served when this one began: the way back.
        requested: when CreateEndpoint, UpdateEndpoint or CreateSchedule was asked for; None before.
    """

    endpoint: str
    number: int
    entry_key: str
    package_arn: str
    stage_file: dict[str, Any]
    stage_file_sha256: str
    status: DeploymentStatus
    started: datetime
    previous: int | None = None
    requested: datetime | None = None
    ended: datetime | None = None
    reason: str = ""
    attempts: tuple[Attempt, ...] = field(default=())

    @property
    def name(self) -> str:
        """Of its model and its endpoint config: at most 32 + 1 + 10 + 1 + 6 of 63 characters."""
        return f"{self.endpoint}-{self.number}"


@dataclass(frozen=True)
class State:
    """What is kept of one endpoint beside its ledger: where to look, and whether something is under way.

    Args:
        status: "removed": everything of it is gone, and nobody looks at it until something is approved again.
        asked: how often somebody asked for a look, by an entry or by finding another one at it.
        removed_number: the last deployment before the last removal; what serves from then on has higher numbers.
    """

    endpoint: str
    project: str
    stage: str
    group: str
    status: Status
    last_number: int = 0
    asked: int = 0
    removed_number: int = 0


def package_version(arn: str) -> int:
    """The version number in a versioned model package's ARN. Raises ValueError for any other ARN."""
    group, _, version = arn.rpartition("/")
    if ":model-package/" not in group or not version.isdecimal():
        raise ValueError(f"{arn!r} is not the ARN of a version of a model package group")
    return int(version)
