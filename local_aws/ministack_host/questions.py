"""Questions that MiniStack's front door asks wrongly, put right.

Touches: how `iam_actions` finds a request's action, resource and condition keys, `tagging.resource_tags`, and
`iam_evaluator.enforce` and `parse_policy_document`.
"""

from __future__ import annotations

import contextvars
import functools
from typing import Any

from local_aws.ministack_host.app import request_scope
from local_aws.ministack_host.arns import find_arn
from local_aws.permissions import generic
from local_aws.store import Scope

# The question that MiniStack's front door asks next: about which resource, and what is asked besides.
_asked_besides: contextvars.ContextVar[tuple[str, list[tuple[str, str]]] | None] = contextvars.ContextVar(
    "asked besides", default=None
)
POLICIES_KEPT = 1024  # parsed; each of an account's roles has a handful


def correct_questions() -> None:
    """Let MiniStack's front door ask about the resources that AWS asks about (local_aws.permissions.generic).

    Call it after `enforce_iam`.
    """
    from ministack.core import iam_actions, iam_evaluator
    from ministack.services import tagging

    action_of, resource_of = iam_actions.extract_iam_action, iam_actions.extract_resource_arn
    context_of, logs_context_of = iam_actions.request_tag_context, iam_actions.logs_service_context
    enforce, tags_of = iam_evaluator.enforce, tagging.resource_tags
    parse = iam_evaluator.parse_policy_document
    parsed = functools.lru_cache(POLICIES_KEPT)(parse)
    path_of: contextvars.ContextVar[str] = contextvars.ContextVar("path", default="")
    iam_actions._BOTOCORE_SERVICE_MAP["lambda"] = ["lambda"]  # MiniStack's own table of Lambda's paths lacks many

    def action(
        service: str, method: str, path: str, headers: dict[str, str], body: bytes, parameters: dict[str, Any]
    ) -> str | None:
        _asked_besides.set(None)
        path_of.set(path)
        if service == "monitoring" and "/operation/" in path:  # a protocol of which MiniStack asks nothing
            return f"cloudwatch:{path.rpartition('/')[2]}"
        if service == "lambda" and (operation := iam_actions._match_rest_action(service, method, path, parameters)):
            named = f"lambda:{operation}"
        else:
            named = action_of(service, method, path, headers, body, parameters)
        return named and generic.ACTIONS.get(named, named)

    def resource(
        service: str,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        parameters: dict[str, Any],
        region: str,
        account: str,
    ) -> str:
        named = action(service, method, path, headers, body, parameters)
        own = resource_of(service, method, path, headers, body, parameters, region, account)
        if named is None:
            return own
        sent = generic.Sent(named, generic.members(body, parameters), path, Scope(account, region))
        first, *others = generic.resources(sent, find_arn) or [own]
        actions = [named, *generic.further_actions(sent)]
        asked = [(each, arn) for each in actions for arn in (first, *others)]
        _asked_besides.set((first, asked[1:]))
        return first

    def context(service: str, named: str, body: bytes, parameters: dict[str, Any]) -> dict[str, Any]:
        sent = generic.Sent(named, generic.members(body, parameters), path_of.get(), request_scope())
        return {**context_of(service, named, body, parameters), **generic.context(sent, find_arn)}

    def logs_context(named: str, body: bytes, arn: str, region: str, account: str) -> Any:
        return logs_context_of(named, body, arn.partition(":log-stream:")[0], region, account)

    def enforce_all(
        access_key: str,
        named: str,
        service: str,
        region: str,
        resource_arn: str = "*",
        service_context: dict[str, Any] | None = None,
    ) -> Any:
        besides = _asked_besides.get()
        _asked_besides.set(None)
        refusal = enforce(access_key, named, service, region, resource_arn, service_context)
        if besides is not None and besides[0] == resource_arn:
            for another, arn in besides[1]:
                refusal = refusal or enforce(access_key, another, service, region, arn, service_context)
        return refusal

    def tags(arn: str) -> dict[str, str] | None:
        service = arn.split(":")[2] if arn.count(":") >= 5 else ""
        if service not in ("cloudwatch", "events", "scheduler"):
            found: dict[str, str] | None = tags_of(arn)
            return found
        from ministack.services import cloudwatch, eventbridge, scheduler

        kept = {"cloudwatch": cloudwatch._resource_tags, "events": eventbridge._tags, "scheduler": scheduler._tags}
        return dict(kept[service].get(arn) or {})

    def parse_once(document: Any) -> Any:
        return parsed(document) if isinstance(document, str) else parse(document)

    iam_actions.extract_iam_action, iam_actions.extract_resource_arn = action, resource
    iam_actions.request_tag_context, iam_actions.logs_service_context = context, logs_context
    iam_evaluator.enforce, tagging.resource_tags = enforce_all, tags
    iam_evaluator.parse_policy_document = parse_once
