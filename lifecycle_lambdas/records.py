"""What the ledger holds: entries, which people and functions append, and deployments, which the controller records."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

EntryKind = Literal["approve", "reject", "park", "go-back", "remove"]
Status = Literal["under-way", "settled", "removed"]
DeploymentStatus = Literal["under-way", "succeeded", "failed", "superseded"]
TestReason = Literal["deployed", "schedule", "asked"]
TestStatus = Literal["due", "running", "passed", "failed", "broken", "superseded"]
Meaning = Literal["report", "block", "go-back"]

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
        leaves: of the controller's own going back the version that is at fault; else None.
        cause: of the controller's own going back what made it, see going_back.Cause; else "".
    """

    endpoint: str
    kind: EntryKind
    at: datetime
    package_arn: str | None
    by: str
    why: str
    source: str
    until: datetime | None = None
    leaves: str | None = None
    cause: str = ""

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
        previous: the number of the deployment that served when this one began; what it would go back to may be an
            older one, see going_back.way_back.
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

    @property
    def kind(self) -> str:
        """Of the entry that it fulfils."""
        return self.entry_key.rpartition("#")[2]

    @property
    def goes_back(self) -> bool:
        """Whether somebody, or the controller itself, went back to its version."""
        return self.kind == "go-back"


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


@dataclass(frozen=True)
class SuiteRecord:
    """The endpoint tests of a deployment's version, as they were registered.

    Args:
        sha256: of `text`, which is the version's metadata tests.sha256.
        text: endpoint-tests.json, at most 256 KB.
        evaluated: S3 URI of endpoint-rows.json, which Evaluate wrote; "" where the version does not say where.
        bucket: where the results go.
    """

    endpoint: str
    number: int
    sha256: str
    text: str
    evaluated: str
    bucket: str


@dataclass(frozen=True)
class TestRun:
    """One run of a deployment's endpoint tests.

    Args:
        number: of the deployment.
        status: "broken": it could not be run, for a reason that is not the version's; "superseded": the deployment
            served no more before there was a verdict.
        means: what a failure means in this stage.
        at: when it was asked for, UTC, in whole seconds.
        cases, failed: how many; what was skipped is not among them.
        failures: the first five in full, each at most 2,000 characters; of a broken one why it is.
        failed_names: of those cases.
        skipped: what could not be asked of this kind of endpoint, each with why.
        results: S3 URI of all of them.
        seconds: from the first request to the last answer.
        p50_ms, p99_ms, error_share, requests_per_second: of the load, where the suite has one.
        claimed: who runs it, or ran it last.
        job: the transform job that answers, of a batch stage.
        sent_at, sent: when the function was told of it last, and how often.
        revision: counts the changes, so that of two at once one is refused.
    """

    __test__ = False  # no test of pytest's

    endpoint: str
    number: int
    package_arn: str
    reason: TestReason
    status: TestStatus
    means: Meaning
    at: datetime
    ended: datetime | None = None
    cases: int = 0
    failed: int = 0
    failures: tuple[str, ...] = ()
    failed_names: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    results: str = ""
    seconds: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    error_share: float | None = None
    requests_per_second: float | None = None
    claimed: str = ""
    job: str = ""
    sent_at: datetime | None = None
    sent: int = 0
    revision: int = 0

    @property
    def key(self) -> str:
        """The sort key: runs by deployment, and in the order of their time."""
        return f"TESTS#{self.number:06d}#{self.at:%Y-%m-%dT%H:%M:%SZ}"

    @property
    def is_over(self) -> bool:
        return self.status not in ("due", "running")

    @property
    def verdict(self) -> str:
        """As it stands on the version: a failure that means nothing but a report is "reported"."""
        return "reported" if self.status == "failed" and self.means == "report" else self.status


@dataclass(frozen=True)
class TestSchedule:
    """That the deployment which serves is tested again and again.

    Args:
        next: when it is due, UTC.
    """

    __test__ = False

    endpoint: str
    number: int
    every_minutes: int
    next: datetime


Section = Literal["park", "clean"]
SECTIONS: tuple[Section, ...] = ("park", "clean")
OFF = "off"


@dataclass(frozen=True)
class PolicyRecord:
    """What became of a section of a stage file by which things go: `park` of an endpoint, `clean` of a project.

    Args:
        endpoint: of `clean` the one of the stage feature.
        sha256: of the section; a changed one is announced first again. OFF where there is none any more.
        announced: when people were told what it will do.
        removed: of `clean`, when it removed last, or looked for what to remove.
        pending: what is being removed, as JSON (cleaning.Removal): a run that was killed is finished by the next one.
        earlier: of `clean`, when people were told of other sections, by SHA-256: branches may have different ones.
    """

    endpoint: str
    section: Section
    sha256: str
    announced: datetime
    removed: datetime | None = None
    pending: tuple[dict[str, Any], ...] = ()
    earlier: dict[str, datetime] = field(default_factory=dict)


def package_version(arn: str) -> int:
    """The version number in a versioned model package's ARN. Raises ValueError for any other ARN."""
    group, _, version = arn.rpartition("/")
    if ":model-package/" not in group or not version.isdecimal():
        raise ValueError(f"{arn!r} is not the ARN of a version of a model package group")
    return int(version)
