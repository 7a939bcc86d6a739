"""Questions that MiniStack's front door asks wrongly, put right.

Touches: how `iam_actions` finds a request's action, resource and condition keys and what it knows of services and of
S3's sub-resources, how it answers failures, `tagging.resource_tags`, and `iam_evaluator.enforce` and
`parse_policy_document`.
"""

from __future__ import annotations

import contextvars
import functools
from typing import Any

from local_aws.ministack_host.app import request_scope
from local_aws.ministack_host.arns import find_arn
from local_aws.permissions import generic
from local_aws.permissions.authorization import QUESTIONS
from local_aws.permissions.clear_requests import UnclearRequest, Way, named_operation, s3_path, what_is_asked
from local_aws.store import Scope

# The question that MiniStack's front door asks next: about which resource, and what is asked besides.
_asked_besides: contextvars.ContextVar[tuple[str, list[tuple[str, str]]] | None] = contextvars.ContextVar(
    "asked besides", default=None
)
# Of what was asked besides, what was denied last.
_denied: contextvars.ContextVar[tuple[str, str] | None] = contextvars.ContextVar("denied", default=None)
# Why the request that is answered is refused whoever asks: what is asked about might not be what is done.
_unclear: contextvars.ContextVar[str] = contextvars.ContextVar("unclear", default="")
# Of the request that is answered: the name of its operation, and how it is named.
_named: contextvars.ContextVar[tuple[str, Way]] = contextvars.ContextVar("named", default=("", "target"))
UNCLEAR = "UnclearRequest"
OF_OBJECTS = ("restore", "uploadId")  # of MiniStack's sub-resources of buckets and objects alike
# S3's operations that no bucket's policy lets anybody do.
OF_NO_BUCKET = ("s3:CreateBucket", "s3:ListAllMyBuckets")
# Answered for containers, or by operations of two protocols; nothing of Modelyard's uses them.
AS_MINISTACK_SAYS = ("apigateway", "ecs-metadata", "imds", "ses")
POLICIES_KEPT = 1024  # parsed; each of an account's roles has a handful


def correct_questions() -> None:
    """Let MiniStack's front door ask about the resources that AWS asks about (local_aws.permissions.generic).

    Call it after `enforce_iam`.
    """
    from ministack.app import SERVICE_HANDLERS
    from ministack.core import iam_actions, iam_evaluator
    from ministack.services import tagging

    action_of, resource_of = iam_actions.extract_iam_action, iam_actions.extract_resource_arn
    context_of, logs_context_of = iam_actions.request_tag_context, iam_actions.logs_service_context
    enforce, tags_of = iam_evaluator.enforce, tagging.resource_tags
    additional_checks, respond = iam_actions.s3_additional_checks, iam_actions.access_denied_response
    parse = iam_evaluator.parse_policy_document
    parsed = functools.lru_cache(POLICIES_KEPT)(parse)
    path_of: contextvars.ContextVar[str] = contextvars.ContextVar("path", default="")
    s3_action_of, rest_of = iam_actions._s3_action, iam_actions._match_rest_action
    iam_actions._BOTOCORE_SERVICE_MAP["lambda"] = ["lambda"]  # MiniStack's own table of Lambda's paths lacks many
    refused = ("InvalidParameterCombination", 400, "InvalidParameterCombination")
    iam_actions._AUTH_FAILURES[UNCLEAR] = (*refused, ("InvalidArgument", 400, "The request is not clear."))

    def ways_of(service: str) -> tuple[Way, ...]:
        if service == "s3" or service in iam_actions._BOTOCORE_SERVICE_MAP or service.startswith("lambda-"):
            return ("path",)
        if service == "sqs" or service in iam_actions._CBOR_CAPABLE:
            return ("target", "form")
        return ("form",) if service in iam_actions._SERVICE_PROTOCOL else ("target",)

    def operation_of(
        service: str, method: str, path: str, headers: dict[str, str], body: bytes, parameters: dict[str, Any]
    ) -> tuple[str, Way]:
        """Raises UnclearRequest."""
        ways = ways_of(service)
        if ways != ("path",):
            return named_operation(ways, service, method, path, headers, body, parameters)
        if service == "lambda":
            if "%" in path:
                raise UnclearRequest("The path is quoted twice.")
            found = rest_of(service, method, path, parameters)
        else:  # without what would name another operation than the path does
            own = {name: value for name, value in parameters.items() if name != "Action"}
            found = (action_of(service, method, path, {}, b"", own) or "").partition(":")[2]
        if not found:
            raise UnclearRequest(f"{method} {path} is no operation that is known here.")
        return found, "path"

    def unclear(namespace: str, why: str) -> str:
        _unclear.set(why)
        return f"{namespace}:{UNCLEAR}"

    def action(
        service: str, method: str, path: str, headers: dict[str, str], body: bytes, parameters: dict[str, Any]
    ) -> str | None:
        _asked_besides.set(None)
        _unclear.set("")
        path_of.set(path)
        if service in QUESTIONS:  # our own: they ask for themselves
            return None
        if service in AS_MINISTACK_SAYS:
            return action_of(service, method, path, headers, body, parameters)
        namespace = iam_actions.SERVICE_TO_IAM_NAMESPACE.get(service, service)
        if service not in iam_actions.SERVICE_TO_IAM_NAMESPACE:
            if service not in SERVICE_HANDLERS:  # nothing answers it
                return None
            return unclear(service, f"Nobody has said what {service} asks IAM.")
        try:
            operation, way = operation_of(service, method, path, headers, body, parameters)
        except UnclearRequest as error:
            return unclear(namespace, str(error))
        _named.set((operation, way))
        named = f"{iam_actions._IAM_NAMESPACE_BY_OPERATION.get((service, operation), namespace)}:{operation}"
        return generic.ACTIONS.get(named, named)

    def s3_action(method: str, path: str, parameters: dict[str, Any]) -> str | None:
        _unclear.set("")
        shared = iam_actions._S3_QUERY_ACTIONS
        bucket = {
            name: shared[name] for name in shared if name not in OF_OBJECTS
        } | iam_actions._S3_BUCKET_QUERY_ACTIONS
        of_object = {name: shared[name] for name in OF_OBJECTS} | iam_actions._S3_OBJECT_QUERY_ACTIONS
        bucket["uploads"], of_object["uploads"] = {"GET": "listed"}, {"POST": "begun"}
        try:
            found: str | None = s3_action_of(method, s3_path(method, path, parameters, bucket, of_object), parameters)
        except UnclearRequest as error:
            _unclear.set(str(error))
            return UNCLEAR
        if found is None:
            _unclear.set(f"{method} {path} is no operation of S3.")
        return found or UNCLEAR

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
        if named is None or _unclear.get():
            return "*"
        operation, way = _named.get()
        body, parameters = what_is_asked(way, service, operation, body, parameters)
        own = resource_of(service, method, path, headers, body, parameters, region, account)
        sent = generic.Sent(named, generic.members(body, parameters), path, Scope(account, region))
        first, *others = generic.resources(sent, find_arn) or [own]
        actions = [named, *generic.further_actions(sent)]
        asked = [(each, arn) for each in actions for arn in (first, *others)]
        _asked_besides.set((first, asked[1:]))
        return first

    def context(service: str, named: str, body: bytes, parameters: dict[str, Any]) -> dict[str, Any]:
        if service in AS_MINISTACK_SAYS or _unclear.get():
            found: dict[str, Any] = context_of(service, named, body, parameters)
            return found
        operation, way = _named.get()
        asked, among = what_is_asked(way, service, operation, body, parameters)
        sent = generic.Sent(named, generic.members(asked, among), path_of.get(), request_scope())
        # Tags are in a form by other names than the members have: there it is as it was sent.
        tags = context_of(service, named, asked, parameters)
        return {**tags, **generic.context(sent, find_arn)}

    def logs_context(named: str, body: bytes, arn: str, region: str, account: str) -> Any:
        return logs_context_of(named, body, arn.partition(":log-stream:")[0], region, account)

    def s3_checks(
        method: str, path: str, headers: dict[str, str], body: bytes, parameters: dict[str, Any]
    ) -> list[tuple[str, str]]:
        checks: list[tuple[str, str]] = additional_checks(method, path, headers, body, parameters)
        bucket, _, key = path.removeprefix("/").partition("/")
        asked = generic.s3_further_actions(method, key, headers)
        return [*checks, *[(each, f"arn:aws:s3:::{bucket}/{key}") for each in asked]]

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
        if unclear := _unclear.get():
            return iam_evaluator.AuthError(UNCLEAR, unclear)
        # MiniStack takes who names no key for the account's root. What S3 does for everybody it decides itself.
        of_bucket = service == "s3" and named not in OF_NO_BUCKET
        if not access_key and not of_bucket and not iam_evaluator._served_unsigned(service, named):
            return iam_evaluator.AuthError("MissingAuthenticationToken", "Request is missing Authentication Token")
        _denied.set(None)
        refusal = enforce(access_key, named, service, region, resource_arn, service_context)
        if besides is not None and besides[0] == resource_arn:
            for another, arn in besides[1]:
                if refusal is None and (refusal := enforce(access_key, another, service, region, arn, service_context)):
                    _denied.set((another, arn))
        return refusal

    def denied_response(service: str, named: str, *others: Any, **more: Any) -> Any:
        """The front door names what it asked itself; what was denied may be what was asked besides."""
        action_denied, arn = _denied.get() or (named, more.get("resource_arn"))
        if "resource_arn" in more:
            more["resource_arn"] = arn
        return respond(service, action_denied, *others, **more)

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
    iam_actions._s3_action, iam_actions.s3_additional_checks = s3_action, s3_checks
    iam_actions.access_denied_response = denied_response
    iam_actions.request_tag_context, iam_actions.logs_service_context = context, logs_context
    iam_evaluator.enforce, tagging.resource_tags = enforce_all, tags
    iam_evaluator.parse_policy_document = parse_once
