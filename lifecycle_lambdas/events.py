"""What a message of the queue asks for. Events only say "look again"; of an approval alone they also carry the time.

Shapes: SageMaker developer guide, "Automating Amazon SageMaker AI with Amazon EventBridge"; CloudWatch user guide,
"Alarm events and EventBridge". What is not ours is None; what cannot be read is a BrokenEvent.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from lifecycle_lambdas.ledger import whole_seconds
from lifecycle_lambdas.records import package_version

Approval = Literal["Approved", "Rejected", "PendingManualApproval"]
APPROVALS = ("Approved", "Rejected", "PendingManualApproval")
STAGES = ("feature", "dev", "prod", "champion", "challenger")

# roll-back and abort alarms of one deployment, and the standing ones
_ALARM = re.compile(
    rf"(?P<endpoint>.+-(?:{'|'.join(STAGES)}))-(?:[1-9]\d*-(?:rollback-(?:errors|latency|custom)|abort)|errors|latency|custom)"
)
_GROUP_OF_ARN = re.compile(r"arn:[a-z-]+:sagemaker:[a-z0-9-]+:\d{12}:model-package/(?P<group>[\w-]+)/\d+", re.ASCII)


class BrokenEvent(ValueError):
    """An event of a kind that is ours, without what it must have."""


@dataclass(frozen=True)
class VersionChanged:
    """A version was registered or changed.

    Args:
        group: the model package group's name.
        approval: its ModelApprovalStatus after the change.
        at: LastModifiedTime; of a new version CreationTime. UTC, whole seconds.
        approval_changed: whether the change was one of the approval; None: the event does not say, as when the version
            is new.
    """

    package_arn: str
    group: str
    approval: Approval
    at: datetime
    approval_changed: bool | None


@dataclass(frozen=True)
class LookAt:
    """Look at one endpoint.

    Args:
        missed: also for approvals whose events were lost.
        asking: whoever is at the endpoint already looks once more. Not for what is under way, whose schedule comes
            again by itself: were looks slower than it comes, nobody would ever be done.
    """

    endpoint: str
    missed: bool = False
    asking: bool = field(default=True, compare=False)


@dataclass(frozen=True)
class LookAtMany:
    """Look at every endpoint that has something under way, or at all of them."""

    which: Literal["under-way", "everything"]


@dataclass(frozen=True)
class Removal:
    """Take away everything of an endpoint, for good: its project is being deleted.

    Args:
        by: who asks, as an ARN: the project's stack.
        why: in words, for the messages.
    """

    endpoint: str
    by: str
    why: str


Event = VersionChanged | LookAt | LookAtMany | Removal


def parse(body: str) -> Event | None:
    """What a message's body asks for; None when it is nothing of ours.

    Raises:
        BrokenEvent: it is not JSON, or lacks what its kind must have.
    """
    try:
        event = json.loads(body)
    except (ValueError, RecursionError) as error:  # the latter: nested too deeply
        raise BrokenEvent(f"a message that is not JSON ({error}): {body[:200]}") from error
    if not isinstance(event, dict):
        raise BrokenEvent(f"a message that is not a JSON object: {body[:200]}")
    if "look" in event:
        return _look(event)
    read = _READERS.get((str(event.get("source")), str(event.get("detail-type"))))
    if read is None:
        return None
    try:
        return read(event)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise BrokenEvent(f"{event['detail-type']} (id {event.get('id')}): {what}") from error


def message(look: LookAt) -> str:
    """The body with which the controller asks itself to look."""
    return json.dumps({"look": "endpoint", "endpoint": look.endpoint, "missed": look.missed})


def endpoint_of_alarm(name: str) -> str | None:
    """The endpoint that an alarm belongs to by its name."""
    found = _ALARM.fullmatch(name)
    return None if found is None else found["endpoint"]


def moment(value: str) -> datetime:
    """ISO 8601 with a time zone, as UTC in whole seconds. Raises ValueError for anything else."""
    time = datetime.fromisoformat(value)
    if time.tzinfo is None:
        raise ValueError(f"the time {value!r} has no time zone")
    return whole_seconds(time)


def _look(event: dict[str, Any]) -> Event:
    what = event["look"]
    if what in ("under-way", "everything"):
        return LookAtMany(what)
    if what == "endpoint" and isinstance(event.get("endpoint"), str):
        missed = bool(event.get("missed"))
        return LookAt(event["endpoint"], missed, asking=missed)
    if what == "remove" and all(isinstance(event.get(name), str) and event[name] for name in ("endpoint", "by", "why")):
        return Removal(event["endpoint"], event["by"], event["why"])
    raise BrokenEvent(
        f'{event}: "look" is "under-way", "everything", "endpoint" with "endpoint": its name, or "remove" with '
        '"endpoint", "by" and "why"'
    )


def _version_changed(event: dict[str, Any]) -> VersionChanged | None:
    detail = event["detail"]
    group = detail.get("ModelPackageGroupName")
    if group is None:
        return None  # a package without a group is deployed by nobody here
    arn = detail["ModelPackageArn"]
    package_version(arn)
    found = _GROUP_OF_ARN.fullmatch(arn)
    # names in ARNs of events are in lower case at times (the guide's sample of an endpoint's, for one)
    if found is None or found["group"].lower() != group.lower():
        raise ValueError(f"{arn} is not a version of its ModelPackageGroupName {group}")
    if detail["ModelApprovalStatus"] not in APPROVALS:
        raise ValueError(f"ModelApprovalStatus {detail['ModelApprovalStatus']!r} is none of {', '.join(APPROVALS)}")
    fields = detail.get("UpdatedModelPackageFields")
    return VersionChanged(
        package_arn=arn,
        group=group,
        approval=detail["ModelApprovalStatus"],
        at=moment(detail.get("LastModifiedTime") or detail.get("CreationTime") or event["time"]),
        approval_changed=None if fields is None else "ModelApprovalStatus" in fields,
    )


def _endpoint_changed(event: dict[str, Any]) -> LookAt:
    return LookAt(event["detail"]["EndpointName"] + "")


def _alarm_changed(event: dict[str, Any]) -> LookAt | None:
    endpoint = endpoint_of_alarm(event["detail"]["alarmName"])
    return None if endpoint is None else LookAt(endpoint)


_READERS = {
    ("aws.sagemaker", "SageMaker Model Package State Change"): _version_changed,
    ("aws.sagemaker", "SageMaker Endpoint State Change"): _endpoint_changed,
    ("aws.sagemaker", "SageMaker Endpoint Deployment State Change"): _endpoint_changed,
    ("aws.cloudwatch", "CloudWatch Alarm State Change"): _alarm_changed,
}
