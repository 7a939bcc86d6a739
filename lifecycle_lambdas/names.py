"""What the controller calls the things that it makes, and how it knows them again.

A deployment's model and endpoint config are `<endpoint>-<number>`, its roll-back alarms
`<endpoint>-<number>-rollback-...` and its abort alarm `<endpoint>-<number>-abort`; standing alarms are
`<endpoint>-errors`, `-latency` and `-custom`. Since one project's name can be the beginning of another's, names are
matched whole, never by their beginning.
"""

from __future__ import annotations

import re

VARIANT = "AllTraffic"
ALARM_KINDS = ("errors", "latency", "custom")


def numbered(endpoint: str, number: int) -> str:
    """The name of a deployment's model and endpoint config."""
    return f"{endpoint}-{number}"


def number_of(endpoint: str, name: str) -> int | None:
    """The number of the deployment that a model or endpoint config belongs to; None when it is not one of ours."""
    match = re.fullmatch(re.escape(endpoint) + r"-([1-9][0-9]{0,5})", name)
    return None if match is None else int(match[1])


def rollback_alarm(endpoint: str, number: int, kind: str) -> str:
    return f"{numbered(endpoint, number)}-rollback-{kind}"


def abort_alarm(config: str) -> str:
    """The alarm that a person's rejection sets, so that SageMaker rolls back the deployment of this endpoint config."""
    return f"{config}-abort"


def standing_alarm(endpoint: str, kind: str) -> str:
    return f"{endpoint}-{kind}"


def alarm_number(endpoint: str, name: str) -> int | None:
    """The number of the deployment that a roll-back or abort alarm belongs to; None when it is not one of ours."""
    match = re.fullmatch(
        rf"{re.escape(endpoint)}-([1-9][0-9]{{0,5}})-(?:abort|rollback-(?:{'|'.join(ALARM_KINDS)}))", name
    )
    return None if match is None else int(match[1])


def standing_alarms(endpoint: str) -> tuple[str, ...]:
    """Every name that a standing alarm of the endpoint can have."""
    return tuple(standing_alarm(endpoint, kind) for kind in ALARM_KINDS)


def scaling_policy(endpoint: str) -> str:
    return f"{endpoint}-target-tracking"


def resource_id(endpoint: str, variant: str) -> str:
    """Application Auto Scaling's name of a variant."""
    return f"endpoint/{endpoint}/variant/{variant}"


def project_tags(project: str, project_id: str, stage: str) -> dict[str, str]:
    """What is on everything that the controller makes, whichever deployment it belongs to."""
    return {
        "sagemaker:project-name": project,
        "sagemaker:project-id": project_id,
        "modelyard:project": project,
        "modelyard:stage": stage,
    }


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
