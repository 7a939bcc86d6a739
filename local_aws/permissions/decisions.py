"""What IAM was asked, and how it answered."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

# A condition key's value: one, or several for keys such as aws:TagKeys.
Value = str | tuple[str, ...]


@dataclass(frozen=True)
class Decision:
    """One question of IAM and its answer.

    Args:
        principal: ARN of the user or role (not of its session), such as
            "arn:aws:iam::123456789012:role/modelyard/modelyard-deploy-us-east-1".
        action: such as "sagemaker:CreateModel".
        resource: the ARN that was asked about, "*" for actions that know no resources.
        region: in which it was asked.
        context: the condition keys (lower case) that the request had, sorted.
        allowed: the answer.
        by_resource: whether the resource's own policy allows it by itself, whatever the principal's policies say.
        because: what the question was asked for when the principal did not ask it itself: the action that it called,
            such as "sagemaker:CreateModel" for iam:PassRole, or the service that acts as the role.
    """

    principal: str
    action: str
    resource: str
    region: str
    context: tuple[tuple[str, Value], ...]
    allowed: bool
    by_resource: bool = False
    because: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"context": {key: _listed(value) for key, value in self.context}}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Decision:
        """From `as_json`; a count beside it is left out."""
        members = {name: document[name] for name in cls.__dataclass_fields__}
        return cls(**{**members, "context": frozen_context(document["context"])})


class DecisionLog:
    """How often each decision was made. Safe to share between threads."""

    def __init__(self) -> None:
        self._counts: dict[Decision, int] = {}
        self._lock = threading.Lock()

    def add(self, decision: Decision) -> None:
        with self._lock:
            self._counts[decision] = self._counts.get(decision, 0) + 1

    def counts(self) -> dict[Decision, int]:
        with self._lock:
            return dict(self._counts)

    def clear(self) -> None:
        with self._lock:
            self._counts.clear()


def frozen_context(context: Mapping[str, Any]) -> tuple[tuple[str, Value], ...]:
    """Condition keys as a Decision has them: lower case, sorted, without those that the request does not have."""
    found = {key.lower(): value for key, value in context.items() if value is not None}
    return tuple(
        (key, tuple(map(str, found[key])) if isinstance(found[key], list | tuple) else str(found[key]))
        for key in sorted(found)
    )


def _listed(value: Value) -> str | list[str]:
    return list(value) if isinstance(value, tuple) else value
