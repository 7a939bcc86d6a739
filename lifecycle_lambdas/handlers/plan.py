"""The function that says what an approval would do. It is called synchronously, and changes nothing."""

from __future__ import annotations

from functools import cache
from typing import Any

from lifecycle_lambdas import planning
from lifecycle_lambdas.clients import Clients
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.settings import Settings


@cache
def _clients() -> Clients:
    return Clients()


def handler(event: dict[str, Any], lambda_context: Any) -> dict[str, Any]:
    """
    Args:
        event: {"project", "stage", "package_arn": ARN or None, "stage_file": text or None}; see planning.answer.

    Returns:
        As planning.answer. A request without a project or a stage is refused there, too: an error of the function's
        would be the platform's, and everybody told of it.
    """
    if missing := [name for name in ("project", "stage") if not event.get(name)]:
        lacks = f"the request lacks {', '.join(missing)}; it has project, stage, package_arn and stage_file"
        return planning.nothing("", refused=lacks)
    seconds = lambda_context.get_remaining_time_in_millis() / 1000
    context = Context.of(Settings.from_environment(), _clients(), lambda_context.aws_request_id, seconds)
    return planning.answer(context, event["project"], event["stage"], event.get("package_arn"), event.get("stage_file"))
