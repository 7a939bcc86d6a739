"""Whether policies allow something, by the evaluator of local_aws; the pure half of trying it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from local_aws.ministack_host import policies_allow
from local_aws.permissions.decisions import Decision, frozen_context

PREFIXES = {"request": "aws:RequestTag/", "tags": "aws:ResourceTag/", "": ""}


def allowed(policies: Iterable[Mapping[str, Any]], action: str, resource: str, **context: Any) -> bool:
    """Whether policies of one principal allow an action.

    Args:
        resource: an ARN, or what follows a SageMaker ARN's account.
        context: keys of the context by their prefix: request={"modelyard:project": ...} for aws:RequestTag, tags for
            aws:ResourceTag; whole keys in `**{"": {...}}`.
    """
    keys: dict[str, Any] = {}
    for kind, values in context.items():
        keys |= {f"{PREFIXES[kind]}{key}": value for key, value in values.items()}
    if "request" in context:
        keys.setdefault("aws:TagKeys", list(context["request"]))
    arn = (
        resource
        if resource.startswith("arn:") or resource == "*"
        else f"arn:aws:sagemaker:eu-west-1:111122223333:{resource}"
    )
    principal = "arn:aws:iam::111122223333:user/somebody"
    return policies_allow(policies)(Decision(principal, action, arn, "eu-west-1", frozen_context(keys), True))


def tags(project: str, stage: str = "dev") -> dict[str, str]:
    """What everything of a project and stage is tagged with."""
    return {
        "sagemaker:project-name": project,
        "sagemaker:project-id": "p-123456789012",
        "modelyard:project": project,
        "modelyard:stage": stage,
    }
