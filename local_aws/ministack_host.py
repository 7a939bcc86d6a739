"""The one place that touches MiniStack's private names.

Each has a contract test in tests/local_aws/test_ministack_host.py.

MiniStack is the process's web application and answers every generic service. Services of our own are mounted beside
them: a request with their `X-Amz-Target` prefix comes to our handler with account and Region already read from its
signature.
"""

from __future__ import annotations

import ast
import asyncio
import concurrent.futures
import contextlib
import contextvars
import dataclasses
import functools
import hashlib
import importlib
import json
import logging
import os
import secrets
import sys
import threading
import time
import types
import urllib.parse
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from local_aws.alarms import Point, State, fault
from local_aws.api_calls import ApiCall, HttpRequest, error_answer, find_call, parsed_request
from local_aws.calls import ServiceError
from local_aws.clock import Clock
from local_aws.durability import WHOLE, Durability, Kept, Row, Watched
from local_aws.functions import Function, Functions
from local_aws.invocations import AsynchronousInvocations, Invocation
from local_aws.loopback import Loopback
from local_aws.permissions import Decision, DecisionLog, Denied, Permissions, generic
from local_aws.permissions.cloudformation import (
    SERVICE,
    SESSION,
    Change,
    Operation,
    Question,
    questions,
    replaces,
    status_reason,
    via_cloudformation,
)
from local_aws.permissions.decisions import frozen_context
from local_aws.permissions.forwarded import (
    EVENTS,
    KEY_ACTIONS,
    LAMBDA,
    POLLING,
    SCHEDULER,
    TARGET_ACTIONS,
    KeyUse,
    Refusal,
    denial,
    key_context,
    key_refusal,
    key_state_fault,
    log_questions,
    passed_roles,
    schedule_group_arn,
)
from local_aws.permissions.invocation import Credential
from local_aws.permissions.permissions import Decide
from local_aws.permissions.trust import trusts_service
from local_aws.runtimes import RuntimeUnknown
from local_aws.schedules import ExpressionError, Schedule, next_time, send_scheduled
from local_aws.store import Scope

HELD_WHILE_HANDLED = 1800.0  # seconds; longer than any function may run
WAKE_GAP = 0.002  # seconds between two looks of the event source mappings; MiniStack's 0.05 would be half of our figure

logger = logging.getLogger(__name__)

# (method, path, headers, body, query parameters) -> (HTTP status, headers, body)
Handler = Callable[[str, str, dict[str, str], bytes, dict[str, Any]], Awaitable[tuple[int, dict[str, str], bytes]]]


def configure(port: int, account: str, region: str, data: Path, state: Path | None, enforce_iam: bool = False) -> None:
    """Set MiniStack's environment variables; it reads them when it is imported, so call this first.

    Args:
        port: where the server will listen, on loopback.
        account, region: of callers that name none.
        data: a folder for the bodies of S3 objects (they are kept on disk, so that memory stays small).
        state: a folder for what should survive a restart, or None.
        enforce_iam: whether MiniStack asks IAM before it answers, and verifies signatures.
    """
    os.environ.update(
        AUTH="true" if enforce_iam else "false",
        GATEWAY_PORT=str(port),
        BIND_HOST="127.0.0.1",
        MINISTACK_HOST="127.0.0.1",
        MINISTACK_ACCOUNT_ID=account,
        MINISTACK_REGION=region,
        S3_PERSIST="1",
        S3_DATA_DIR=str(data),
        IOT_MTLS_ENABLED="0",  # else it opens port 8883
        SFTP_ENABLED="0",
        DOCKER_HOST="unix:///nonexistent/docker.sock",  # never look for a Docker daemon, never reap its containers
    )
    os.environ.setdefault("LOG_LEVEL", "WARNING")
    if state is not None:
        os.environ.update(PERSIST_STATE="1", STATE_DIR=str(state))


def application() -> Any:
    """MiniStack's ASGI application. It loads and saves its state in the ASGI lifespan."""
    from ministack.app import app

    return app


def mount(service: str, target_prefix: str, handler: Handler) -> None:
    """Let `handler` answer every request whose X-Amz-Target begins with the prefix, such as "SageMaker."."""
    import ministack.app
    from ministack.core import router

    router.SERVICE_PATTERNS[service] = {"host_patterns": [], "target_prefixes": [target_prefix]}
    ministack.app.SERVICE_HANDLERS[service] = handler


def before_first_request(service: str, prepare: Callable[[], None]) -> None:
    """Call `prepare` once, before the first request to one of MiniStack's services, which is when it is imported."""
    import ministack.app

    handler = ministack.app.SERVICE_HANDLERS[service]
    prepared = False

    async def prepare_and_handle(*request: Any) -> Any:
        nonlocal prepared
        if not prepared:
            prepared = True
            prepare()
        return await handler(*request)

    ministack.app.SERVICE_HANDLERS[service] = prepare_and_handle


def request_scope() -> Scope:
    """The account and Region of the request that is being answered (a context variable: valid in its threads too)."""
    from ministack.core.responses import get_account_id, get_region

    return Scope(get_account_id(), get_region())


def caller_of(access_key: str) -> tuple[str, str] | None:
    """ARN and id of the user or role session that an access key is of; None when it is of no known one."""
    from ministack.core.iam_evaluator import resolve_caller_identity

    identity = resolve_caller_identity(access_key)
    return (identity["userArn"], identity["userId"]) if identity else None


# Permissions.

# What describes one session rather than its role; no policy of a role can be about it.
OF_ONE_SESSION = ("aws:userid", "aws:username", "aws:tokenissuetime", "aws:multifactorauthpresent")

_because: contextvars.ContextVar[str] = contextvars.ContextVar("because", default="")
_access_key: contextvars.ContextVar[str] = contextvars.ContextVar("access key", default="")


def request_access_key() -> str:
    """The access key that signed the request that is being answered (a context variable: valid in its tasks too).

    Known to MiniStack's services while IAM is enforced; empty for what no request asked for.
    """
    return _access_key.get()


def enforce_iam(log: DecisionLog) -> Decide:
    """Keep every decision of IAM's, and ask it as MiniStack's own services do.

    Returns:
        What local_aws.permissions.Permissions asks.
    """
    from ministack.core import iam_evaluator
    from ministack.core.responses import request_scope as as_if_requested_from
    from ministack.core.router import extract_access_key_id

    enforce, evaluate = iam_evaluator.enforce, iam_evaluator.evaluate
    # The context of the question, and the answer of the principal's own policies.
    asked: contextvars.ContextVar[list[Any] | None] = contextvars.ContextVar("asked", default=None)

    def evaluate_and_keep(context: Any, policies: Any, *limits: Any) -> Any:
        # Loopback counts as TLS, or every policy that demands TLS would refuse everything here.
        context.secure_transport = True
        result = evaluate(context, policies, *limits)
        kept = asked.get()
        if kept is not None and not kept:
            kept.extend([context, result])
        return result

    def enforce_and_keep(
        access_key: str,
        action: str,
        service: str,
        region: str,
        resource_arn: str = "*",
        service_context: dict[str, Any] | None = None,
    ) -> Any:
        kept: list[Any] = []
        token = asked.set(kept)
        try:
            refusal = enforce(access_key, action, service, region, resource_arn, service_context)
        finally:
            asked.reset(token)
        if kept:
            log.add(_decision(kept[0], service, refusal is None))
        return refusal

    def decide(
        scope: Scope, access_key: str, action: str, resource: str, context: Mapping[str, Any], because: str
    ) -> None:
        contextvars.copy_context().run(_decide, scope, access_key, action, resource, context, because)

    def _decide(
        scope: Scope, access_key: str, action: str, resource: str, context: Mapping[str, Any], because: str
    ) -> None:
        iam_evaluator._signed_request.set(None)  # it is not the request that is asked about
        iam_evaluator._anonymous.set(False)
        _because.set(because)
        service = action.partition(":")[0]
        with as_if_requested_from(scope.account, scope.region):
            refusal = enforce_and_keep(access_key, action, service, scope.region, resource, dict(context))
        if refusal is None:
            return
        if isinstance(refusal, iam_evaluator.AuthError):
            raise PermissionError(refusal.message)
        found = frozen_context(context)
        decision = Decision(refusal.principal_arn, action, resource, scope.region, found, False, because=because)
        raise Denied(decision, refusal.principal_arn, refusal.decision == "Deny")

    pin_request_caller = iam_evaluator.pin_request_caller

    def pin_caller_and_key(headers: dict[str, str], query: dict[str, Any] | None = None) -> None:
        pin_request_caller(headers, query)
        _access_key.set(extract_access_key_id(headers, query or {}) or "")

    iam_evaluator.enforce, iam_evaluator.evaluate = enforce_and_keep, evaluate_and_keep
    iam_evaluator.pin_request_caller = pin_caller_and_key
    return decide


def _decision(context: Any, service: str, allowed: bool) -> Decision:
    from ministack.core import iam_evaluator

    policy = iam_evaluator._resource_policy(service, context.resource_arn) if allowed else None
    by_resource = policy is not None and (
        iam_evaluator.evaluate_resource_policy(policy[0], context, named_only=True).decision == "Allow"
    )
    keys = {key: value for key, value in context.principal_keys.items() if key not in OF_ONE_SESSION}
    return Decision(
        _role_of(context.principal_arn),
        context.action,
        context.resource_arn,
        context.region,
        frozen_context({**keys, **context.service_context}),
        allowed,
        by_resource,
        _because.get(),
    )


def _role_of(principal: str) -> str:
    """The role's ARN, with its path, for its session's; other principals are answered as they are."""
    from ministack.services import iam

    if ":assumed-role/" not in principal:
        return principal
    account, name = principal.split(":")[4], principal.split("/")[1]
    role = iam._roles.get_scoped(account, None, name)
    return str(role["Arn"]) if role else f"arn:aws:iam::{account}:role/{name}"


def policies_allow(policies: Iterable[Mapping[str, Any]]) -> Callable[[Decision], bool]:
    """Whether policies allow what was asked, by the evaluator that answered it, in the context in which it was asked.

    Args:
        policies: documents of one principal's own policies; resources' policies and boundaries are left out.
    """
    from ministack.core import iam_evaluator

    parsed = [
        statement for document in policies for statement in iam_evaluator.parse_policy_document(dict(document))
    ]

    @functools.cache
    def about(action: str) -> list[Any]:
        """The statements that can say anything about an action: the others cost time only."""
        return [one for one in parsed if iam_evaluator._action_matches(action, one.actions, one.not_actions)]

    def allow(decision: Decision) -> bool:
        statements = about(decision.action)
        return bool(statements) and (
            iam_evaluator.evaluate(_question(decision), [statements]).decision == "Allow"
        )

    return allow


@functools.lru_cache(maxsize=16384)
def _question(decision: Decision) -> Any:
    """What was asked, as the evaluator takes it."""
    from ministack.core import iam_evaluator

    context = {key: list(value) if isinstance(value, tuple) else value for key, value in decision.context}
    return iam_evaluator.EvalContext(
        principal_arn=decision.principal,
        principal_type="User" if ":user/" in decision.principal else "AssumedRole",
        principal_account=decision.principal.split(":")[4],
        action=decision.action,
        resource_arn=decision.resource,
        region=decision.region,
        source_ip="127.0.0.1",
        secure_transport=True,
        # A key that the request did not have is absent, aws:TagKeys too.
        service_context={"aws:tagkeys": None, **context},
    )


def put_event(scope: Scope, entry: dict[str, Any]) -> None:
    """Give EventBridge's default bus an event of an AWS service, which PutEvents takes from no client.

    On the server's event loop only: MiniStack's services change their state there without locks.

    Args:
        entry: as in PutEvents: Source, DetailType, Resources, Detail (a JSON string).
    """
    from ministack.core.responses import request_scope as as_if_requested_from
    from ministack.services import eventbridge

    with as_if_requested_from(scope.account, scope.region):
        eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)


# Lambda functions.


def run_functions(
    functions: Functions, asynchronous: AsynchronousInvocations
) -> Callable[[str, str, Any], Invocation | None]:
    """Let our own processes run every function, and let what invokes one asynchronously try again as AWS does.

    Returns:
        What finds the invocation of a function (its ARN, a version, the event), for AsynchronousInvocations.resume.
    """
    import ministack.services.lambda_svc as lambdas
    from ministack.services import eventbridge, sns, sqs

    emit_metrics = lambdas._emit_lambda_metrics

    def execute(record: dict, config: dict, event: Any, request_id: str, _started: float) -> dict[str, Any]:
        outcome = functions.invoke(_function(record, config), event, request_id, config["FunctionArn"])
        lambdas._emit_lambda_logs(record, request_id, outcome.log, outcome.failed, 0, log_source="rie")
        # AWS counts every invocation; MiniStack only those that somebody waits for.
        emit_metrics(config["FunctionName"], duration_ms=outcome.seconds * 1000, error=outcome.failed, throttle=False)
        return {"body": outcome.body, "error": outcome.failed, "log": outcome.log}

    def count_throttles(name: str, duration_ms: float, error: bool, throttle: bool) -> None:
        if throttle and not duration_ms:  # with a duration it is said a second time, by Invoke
            emit_metrics(name, duration_ms=0.0, error=False, throttle=True)

    def invoke_later(record: dict, event: Any) -> None:
        asynchronous.start(invocation(record, event))

    def find(arn: str, version: str, event: Any) -> Invocation | None:
        account, region = arn.split(":")[4], arn.split(":")[3]
        reference = arn if version == "$LATEST" else f"{arn}:{version}"
        record, config, _ = lambdas._get_func_record_for_ref_in_scope(reference, account_id=account, region=region)
        return invocation(lambdas._execution_record_for_config(record, config), event) if record and config else None

    def invocation(record: dict, event: Any) -> Invocation:
        config = record.get("config") or record
        settings = record.get("event_invoke_config") or (record.get("event_invoke_configs") or {}).get("$LATEST") or {}
        destinations = settings.get("DestinationConfig") or {}

        def run() -> tuple[bool, Any]:
            result = lambdas._execute_function_with_config_scope(record, event)
            return bool(result.get("error")), result.get("body")

        arn = ":".join(config["FunctionArn"].split(":")[:7])
        retries, oldest = settings.get("MaximumRetryAttempts"), settings.get("MaximumEventAgeInSeconds")
        return Invocation(
            arn,
            config["Version"],
            config["Role"],
            event,
            run,
            retries=2 if retries is None else int(retries),
            oldest=float(oldest or 21600),
            on_success=(destinations.get("OnSuccess") or {}).get("Destination"),
            on_failure=(destinations.get("OnFailure") or {}).get("Destination"),
            dead_letters=(config.get("DeadLetterConfig") or {}).get("TargetArn"),
        )

    def invoke_by_arn(arn: str, payload: str) -> None:
        record, config, _ = lambdas._get_func_record_for_ref(arn)
        if record and config:
            lambdas.invoke_async_with_retry(lambdas._execution_record_for_config(record, config), json.loads(payload))
        else:
            logger.warning("There is no function %s: an event for it is lost", arn)

    def notify(arn: str, envelope: str, _topic: str, subscription: str, *_: Any) -> None:
        record = {"EventVersion": "1.0", "EventSubscriptionArn": subscription, "EventSource": "aws:sns"}
        invoke_by_arn(arn, json.dumps({"Records": [record | {"Sns": json.loads(envelope)}]}))

    invoke_target = eventbridge._invoke_target

    def invoke_target_or_tell(target: dict[str, Any], event: Any, rule: Any, view: Any = None) -> None:
        # A target that is gone is not tried again: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
        letters = (target.get("DeadLetterConfig") or {}).get("Arn")
        if letters and is_gone(target["Arn"]):
            eventbridge._invoke_target({"Id": target["Id"], "Arn": letters}, event, rule, view)
        else:
            invoke_target(target, event, rule, view)

    def is_gone(arn: str) -> bool:
        service = arn.split(":")[2]
        if service == "lambda":
            return lambdas._get_func_record_for_ref(arn)[0] is None
        if service == "sqs":
            return sqs._queue_by_arn(arn) is None
        return service == "sns" and sns._topic_by_arn_any_scope(arn) is None

    def forget(name: str, *_: Any, **__: Any) -> None:
        functions.forget(name)

    lambdas._execute_function_dispatch = execute
    lambdas._emit_lambda_metrics = count_throttles
    lambdas.invoke_async_with_retry = invoke_later
    lambdas.invalidate_worker = forget
    eventbridge._dispatch_to_lambda = invoke_by_arn
    eventbridge._invoke_target = invoke_target_or_tell
    sns._deliver_to_lambda = notify
    _refuse_unknown_runtimes(functions, lambdas)
    return find


def _refuse_unknown_runtimes(functions: Functions, lambdas: Any) -> None:
    from ministack.core.responses import error_response_json

    def fault(request: dict[str, Any]) -> str | None:
        if request.get("PackageType") == "Image" or "ImageUri" in (request.get("Code") or {}):
            return "local_aws runs no functions from container images. Give a zip archive and a Runtime."
        if request.get("Layers"):
            return "local_aws runs functions without layers. Put what the function needs into its zip archive."
        try:
            if "Runtime" in request:
                functions.check_runtime(request["Runtime"])
        except RuntimeUnknown as error:
            return str(error)
        return None

    create, update = lambdas._create_function, lambdas._update_config

    def create_function(request: dict[str, Any]) -> Any:
        if message := fault(request):
            return error_response_json("InvalidParameterValueException", message, 400)
        return create(request)

    def update_function(name: str, request: dict[str, Any]) -> Any:
        if message := fault(request):
            return error_response_json("InvalidParameterValueException", message, 400)
        return update(name, request)

    def refuse_in_templates() -> None:
        from ministack.services.cloudformation import provisioners

        handlers = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]
        create_resource, update_resource = handlers["create"], handlers["update"]

        def create_from_template(logical_id: str, properties: dict[str, Any], stack: str) -> Any:
            if message := fault(properties):
                raise ValueError(message)
            return create_resource(logical_id, properties, stack)

        def update_from_template(
            physical_id: str, before: dict[str, Any], properties: dict[str, Any], *more: Any, **named: Any
        ) -> Any:
            if message := fault(properties):
                raise ValueError(message)
            return update_resource(physical_id, before, properties, *more, **named)

        handlers["create"], handlers["update"] = create_from_template, update_from_template

    lambdas._create_function, lambdas._update_config = create_function, update_function
    before_first_request("cloudformation", refuse_in_templates)


def _function(record: dict[str, Any], config: dict[str, Any]) -> Function:
    return Function(
        arn=":".join(config["FunctionArn"].split(":")[:7]),
        name=config["FunctionName"],
        version=config["Version"],
        runtime=config["Runtime"],
        handler=config["Handler"],
        role=config["Role"],
        timeout=int(config["Timeout"]),
        memory=int(config["MemorySize"]),
        variables=(config.get("Environment") or {}).get("Variables") or {},
        code=record["code_zip"],
    )


def role_credentials(role: str, session: str) -> dict[str, str]:
    """Credentials of a role's session, as the variables that AWS clients read.

    Args:
        role: the role's ARN.
        session: the session's name.
    """
    from ministack.services import sts

    account, name = role.split(":")[4], role.rpartition("/")[2]
    key = f"ASIA{secrets.token_hex(8).upper()}"
    secret, token = secrets.token_urlsafe(30), secrets.token_urlsafe(60)
    sts.register_session(
        key,
        {
            "Arn": f"arn:aws:sts::{account}:assumed-role/{name}/{session}",
            "UserId": f"AROA{name.upper()[:17]}:{session}",
            "SecretAccessKey": secret,
            "SessionToken": token,
            "AccountId": account,
            "PrincipalType": "AssumedRole",
        },
    )
    return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token}


# Credentials.


def credential_of(access_key: str) -> Credential:
    """What belongs to an access key.

    Raises:
        ServiceError: as AWS answers to a key that there is not, or not any more.
    """
    from ministack.core import iam_actions, iam_evaluator

    account = iam_evaluator.find_iam_access_key_account(access_key) or account_of(access_key)
    found = iam_evaluator.resolve_credential(access_key, account)
    if isinstance(found, iam_evaluator.CredentialResolutionError):
        raise ServiceError(iam_actions._AUTH_FAILURES[found.code][2], found.message, 403)
    if found.principal_type == "Root":
        return Credential(account, None, None)
    return Credential(account, found.secret_access_key, found.session_token)


# Questions that MiniStack asks wrongly.

# The question that MiniStack's front door asks next: about which resource, and what is asked besides.
_asked_besides: contextvars.ContextVar[tuple[str, list[tuple[str, str]]] | None] = contextvars.ContextVar(
    "asked besides", default=None
)
POLICIES_KEPT = 1024  # parsed; each of an account's roles has a handful


def kms_key_arn(scope: Scope, key: str) -> str:
    """The ARN of the key that an id, an alias or an ARN stands for; as if it were there when it is not."""
    from ministack.core.responses import request_scope as as_if_requested_from
    from ministack.services import kms

    with as_if_requested_from(scope.account, scope.region):
        record = kms._resolve_key(key)
    if record is not None:
        return str(record["Arn"])
    return key if key.startswith("arn:") else f"arn:aws:kms:{scope.region}:{scope.account}:key/{key}"


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
        sent = generic.Sent(named, _members(body, parameters), path, Scope(account, region))
        first, *others = generic.resources(sent, _find) or [own]
        actions = [named, *generic.further_actions(sent)]
        asked = [(each, arn) for each in actions for arn in (first, *others)]
        _asked_besides.set((first, asked[1:]))
        return first

    def context(service: str, named: str, body: bytes, parameters: dict[str, Any]) -> dict[str, Any]:
        sent = generic.Sent(named, _members(body, parameters), path_of.get(), request_scope())
        return {**context_of(service, named, body, parameters), **generic.context(sent, _find)}

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


def _members(body: bytes, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A request's members, of its JSON body or its form; a form's lists ("Names.member.1") as lists."""
    members: dict[str, Any] = {}
    for name, value in parameters.items():
        first = value[0] if isinstance(value, list) and value else value
        head, _, place = name.partition(".member.")
        if place.isdigit():
            members.setdefault(head, []).append(first)
        else:
            members[name] = first
    if body[:1] == b"{":
        with contextlib.suppress(ValueError, RecursionError):  # the service refuses it
            found = json.loads(body)
            members |= found if isinstance(found, dict) else {}
    return members


def _find(kind: str, name: str) -> str | None:
    """The ARN of a role, user, group, instance profile or KMS key of the request's account, or a boundary's."""
    from ministack.services import iam, kms

    if kind == "key":
        record = kms._resolve_key(name)
        return record and str(record["Arn"])
    kept = {"role": iam._roles, "user": iam._users, "group": iam._groups, "instance-profile": iam._instance_profiles}
    record = kept[kind.partition(" ")[0]].get(name) if kind.partition(" ")[0] in kept else None
    if record is None:
        return None
    found = record.get("PermissionsBoundary" if kind.endswith(" boundary") else "Arn")
    return None if found is None else str(found)


# Queues.


def keep_queue_times(clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
    """Let visibility timeouts and delays of queues pass as the clock says, and mappings to functions lose nothing.

    A message that a function handles stays invisible until the function has ended, however fast the clock: what the
    function does takes real time. MiniStack's poller changes queues in a thread of its own, so that a message sent at
    that moment could be lost; here it does so on the event loop, as everything else.
    """
    import ministack.services.lambda_svc as lambdas
    from ministack.services import sqs

    collect, run_batch = sqs._collect_msgs, lambdas._run_sqs_batch
    change, change_several, send = sqs._act_change_visibility, sqs._act_change_visibility_batch, sqs._act_send_message

    def collect_with_clock(queue: dict[str, Any], most: int, seconds: float) -> Any:
        return collect(queue, most, clock.seconds(seconds))

    def send_with_clock(request: dict[str, Any], url: str) -> Any:
        answer = send(request, url)
        for message in sqs._get_q(request.get("QueueUrl", url))["messages"][-1:]:
            if message["visible_at"] > message["sent_at"] and message["receive_count"] == 0:
                delay = clock.seconds(message["visible_at"] - message["sent_at"])
                message["visible_at"] = message["sent_at"] + delay
                wake_in(delay)
        return answer

    def change_with_clock(request: dict[str, Any], url: str) -> Any:
        answer = change(request, url)
        hide(request.get("QueueUrl", url), {request["ReceiptHandle"]: request.get("VisibilityTimeout", 30)})
        return answer

    def change_several_with_clock(request: dict[str, Any], url: str) -> Any:
        answer = change_several(request, url)
        timeouts = {entry.get("ReceiptHandle"): entry.get("VisibilityTimeout", 30) for entry in request["Entries"]}
        hide(request.get("QueueUrl", url), timeouts)
        return answer

    def hide(url: str, timeouts: dict[str, Any]) -> None:
        for message in sqs._get_q(url)["messages"]:
            if message["receipt_handle"] in timeouts:
                delay = clock.seconds(int(timeouts[message["receipt_handle"]]))
                message["visible_at"] = time.time() + delay
                wake_in(delay)

    def run_held(mapping: Any, record: Any, event: Any, batch: list[dict[str, Any]], url: str, name: str) -> None:
        ends = [message["visible_at"] for message in batch]
        held = time.time() + HELD_WHILE_HANDLED
        for message, end in zip(batch, ends, strict=True):
            message["visible_at"], message[HELD] = held, end
        try:
            run_batch(mapping, record, event, batch, url, name)
        finally:
            for message, end in zip(batch, ends, strict=True):
                message.pop(HELD, None)
                if message["visible_at"] == held:  # else the function itself has changed it
                    message["visible_at"] = end
                    wake_in(end - time.time())

    def wake_in(seconds: float) -> None:
        def after() -> None:
            loop.call_later(max(0.0, seconds), lambdas._esm_wake.set)

        with contextlib.suppress(RuntimeError):  # the loop has ended, and the server with it
            loop.call_soon_threadsafe(after)

    def on_loop(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            done: concurrent.futures.Future[Any] = concurrent.futures.Future()

            def run() -> None:
                try:
                    done.set_result(function(*arguments))
                except Exception as error:  # noqa: BLE001  # it is raised where the answer is waited for
                    done.set_exception(error)

            loop.call_soon_threadsafe(run, context=contextvars.copy_context())
            return done.result()

        return call

    sqs._collect_msgs = collect_with_clock
    sqs._receive_messages_for_esm = on_loop(sqs._receive_messages_for_esm)
    sqs._delete_messages_for_esm = on_loop(sqs._delete_messages_for_esm)
    lambdas._run_sqs_batch = run_held
    lambdas._ESM_IDLE_WAKE_GAP_SECONDS = WAKE_GAP
    lambdas._ESM_BACKOFF_SECONDS = clock.seconds(lambdas._ESM_BACKOFF_SECONDS)
    sqs._act_send_message = send_with_clock  # SendMessageBatch calls it
    sqs._HANDLERS["SendMessage"] = send_with_clock
    sqs._HANDLERS["ChangeMessageVisibility"] = change_with_clock
    sqs._HANDLERS["ChangeMessageVisibilityBatch"] = change_several_with_clock


def account_of(access_key: str) -> str:
    """The account that an access key belongs to: itself when it is one, a role session's, else the default account."""
    import contextvars

    from ministack.core.responses import get_account_id, set_request_account_id

    def resolve() -> str:
        set_request_account_id(access_key)
        return get_account_id()

    return contextvars.copy_context().run(resolve)


# Conditions of templates.


def join_in_conditions() -> None:
    """Let a template's conditions join lists, as AWS does; MiniStack takes Fn::Join in one for a text of its own.

    So that !Not [!Equals [!Join ["", !Ref SomeList], ""]] is whether the list has anything in it.
    """

    def prepare() -> None:
        from ministack.services.cloudformation import changesets, engine, handlers, stacks

        evaluate = engine._evaluate_conditions

        def evaluate_joined(template: dict[str, Any], params: dict[str, Any]) -> dict[str, bool]:
            return evaluate({**template, "Conditions": _joined_texts(template.get("Conditions", {}), params)}, params)

        for module in (changesets, engine, handlers, stacks):
            module._evaluate_conditions = evaluate_joined

    before_first_request("cloudformation", prepare)


def _joined_texts(condition: Any, params: dict[str, Any]) -> Any:
    """The condition with what Fn::Join makes of parameters and texts in its place."""
    if isinstance(condition, list):
        return [_joined_texts(each, params) for each in condition]
    if not isinstance(condition, dict):
        return condition
    if "Fn::Join" not in condition:
        return {name: _joined_texts(each, params) for name, each in condition.items()}
    separator, items = condition["Fn::Join"]
    texts: list[str] = []
    for item in items if isinstance(items, list) else [items]:
        if not isinstance(item, dict):
            texts.append(str(item))
        elif (parameter := params[item["Ref"]])["Type"] == "CommaDelimitedList":
            texts += [text.strip() for text in parameter["Value"].split(",")]
        else:
            texts.append(str(parameter["Value"]))
    return str(separator).join(texts)


# CloudFormation.


@dataclass(frozen=True)
class _StackOperation:
    """What CloudFormation was asked for, and as whom it acts.

    Args:
        action: such as "cloudformation:CreateStack".
        access_key: the caller's, or that of a session of the role.
        role: the stack's service role; None: it acts as the caller.
    """

    action: str
    scope: Scope
    access_key: str
    role: str | None

    def check(self, permissions: Permissions, question: Question, because: str) -> None:
        """Raises Denied."""
        context = question.context if self.role else {**question.context, **via_cloudformation()}
        permissions.check(self.scope, self.access_key, question.action, question.resource, context, because)

    def read(self, permissions: Permissions, question: Question) -> None:
        """Before what a template refers to is read. Raises ValueError, which is a fault of the template's."""
        try:
            self.check(permissions, question, self.action)
        except Denied as denied:
            raise ValueError(str(denied)) from denied


_stack_operation: contextvars.ContextVar[_StackOperation | None] = contextvars.ContextVar(
    "stack operation", default=None
)
_asked_for: contextvars.ContextVar[tuple[str, str] | None] = contextvars.ContextVar("asked for", default=None)

S3_ERRORS = "http://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"
TAKE_ROLES = ("CreateStack", "UpdateStack", "DeleteStack", "CreateChangeSet", "ContinueUpdateRollback", "RollbackStack")
ON_STACKS = (*TAKE_ROLES, "ExecuteChangeSet", "ValidateTemplate", "GetTemplateSummary")


def authorize_stacks(permissions: Permissions) -> None:
    """Let CloudFormation act as a stack's role, else as its caller, and ask IAM before each operation on a resource."""
    before_first_request("cloudformation", lambda: _authorize_stacks(permissions))


def _authorize_stacks(permissions: Permissions) -> None:
    from ministack.core.iam_evaluator import is_root_access_key
    from ministack.services import cloudformation, ssm
    from ministack.services.cloudformation import changesets, engine, handlers, helpers, provisioners, stacks

    start_task = stacks._create_stack_task_in_region

    def start_as_role(work: Any, stack: dict[str, Any], stack_id: str | None = None) -> None:
        operation = _stack_operation.get()
        if operation is not None and operation.role:
            stack["RoleARN"] = operation.role
        # What services ask while they make a resource, they ask about whoever CloudFormation acts as.
        token = _access_key.set(operation.access_key) if operation is not None else None
        try:
            start_task(work, stack, stack_id)
        finally:
            if token is not None:
                _access_key.reset(token)

    def handled(name: str, handle: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
        def handle_as_role(params: dict[str, Any]) -> Any:
            scope, action = request_scope(), f"cloudformation:{name}"
            role = helpers._p(params, "RoleARN") if name in TAKE_ROLES else ""
            if role and permissions.enforced and (refusal := _refuse_stack_role(permissions, scope, role, action)):
                return helpers._error(*refusal)
            change_set = None
            if name == "ExecuteChangeSet":
                where = helpers._p(params, "ChangeSetName"), helpers._p(params, "StackName")
                change_set = changesets._find_change_set(*where)[1]
            role = role or (change_set or {}).get("RoleARN") or _remembered_role(name, params) or None
            key = request_access_key()
            if role and permissions.enforced:
                key = role_credentials(role, SESSION)["AWS_ACCESS_KEY_ID"]
            token = _stack_operation.set(_StackOperation(action, scope, key, role))
            try:
                answer = handle(params)
            finally:
                _stack_operation.reset(token)
            if name == "CreateChangeSet" and answer[0] == 200 and role:
                where = helpers._p(params, "ChangeSetName"), helpers._p(params, "StackName")
                changesets._find_change_set(*where)[1]["RoleARN"] = role
            return answer

        return handle_as_role

    def describe_with_roles(params: dict[str, Any]) -> Any:
        status, headers, body = describe(params)
        for stack in cloudformation._stacks.values():
            if role := stack.get("RoleARN"):
                stack_id = f"<StackId>{helpers._esc(stack['StackId'])}</StackId>".encode()
                body = body.replace(stack_id, stack_id + f"<RoleARN>{helpers._esc(role)}</RoleARN>".encode())
        return status, headers, body

    resolve_document = helpers._resolve_document

    def read_as_caller(params: dict[str, Any], body_key: str, url_key: str, label: str) -> Any:
        operation, url = _stack_operation.get(), helpers._p(params, url_key)
        if operation is not None and url and not helpers._p(params, body_key):
            path = urllib.parse.unquote(urllib.parse.urlparse(url).path.lstrip("/"))
            caller = dataclasses.replace(operation, access_key=request_access_key(), role=None)
            try:
                caller.check(permissions, Question("s3:GetObject", f"arn:aws:s3:::{path}"), operation.action)
            except Denied as denied:
                message = f"S3 error: Access Denied\nFor more information check {S3_ERRORS} ({denied})"
                return None, helpers._error("ValidationError", message)
        return resolve_document(params, body_key, url_key, label)

    resolve_parameter, resolve_reference = ssm.resolve_parameter_value, engine._resolve_dynamic_reference

    def resolve_as_role(name: str, *more: Any, **named: Any) -> Any:
        operation = _stack_operation.get()
        if operation is not None:
            where = f"{operation.scope.region}:{operation.scope.account}"
            arn = name if name.startswith("arn:") else f"arn:aws:ssm:{where}:parameter/{name.removeprefix('/')}"
            operation.read(permissions, Question("ssm:GetParameters", arn))
        return resolve_parameter(name, *more, **named)

    def resolve_secret_as_role(literal: str) -> Any:
        service, _, reference = literal.strip("{}").removeprefix("resolve:").partition(":")
        operation = _stack_operation.get()
        if operation is not None and service == "secretsmanager":
            arn = _secret_arn(operation.scope, reference)
            operation.read(permissions, Question("secretsmanager:GetSecretValue", arn))
        return resolve_reference(literal)

    def ask(change: Change) -> None:
        operation = _stack_operation.get()
        if operation is None or not permissions.enforced or is_root_access_key(operation.access_key):
            return
        try:
            for question in questions(change):
                operation.check(permissions, question, f"cloudformation:{change.type}")
        except Denied as denied:
            raise ValueError(status_reason(denied, change)) from denied

    def change(kind: str, operation: Operation, logical_id: str, properties: Any, stack: str, **more: Any) -> Change:
        scope = request_scope()
        tags = {tag["Key"]: tag["Value"] for tag in (cloudformation._stacks.get(stack) or {}).get("Tags") or []}
        return Change(
            kind,
            operation,
            logical_id,
            properties or {},
            stack,
            scope.account,
            scope.region,
            stack_tags=tags,
            look_up=_look_up,
            **more,
        )

    provision, update, delete = (
        provisioners._provision_resource,
        provisioners._update_resource,
        provisioners._delete_resource,
    )

    def ask_and_create(kind: str, logical_id: str, properties: Any, stack: str) -> Any:
        if _asked_for.get() != (stack, logical_id):  # MiniStack updates some types by creating them again
            ask(change(kind, "create", logical_id, properties, stack))
        return provision(kind, logical_id, properties, stack)

    def ask_and_update(
        kind: str,
        physical_id: str,
        before: Any,
        properties: Any,
        stack: str,
        logical_id: str | None = None,
        attributes: Any = None,
    ) -> Any:
        arguments = (kind, physical_id, before, properties, stack, logical_id, attributes)
        if before == properties:
            return update(*arguments)
        name = logical_id or physical_id
        asked = change(kind, "update", name, properties, stack, before=before, physical_id=physical_id)
        ask(change(kind, "create", name, properties, stack) if replaces(asked) else asked)
        token = _asked_for.set((stack, name))
        try:
            answer = update(*arguments)
        finally:
            _asked_for.reset(token)
        deferred = provisioners._DEFERRED_PREDECESSOR_DELETES.get()
        if deferred:  # what an update replaced by itself goes when the stack is otherwise updated
            gone = change(kind, "delete", name, before, stack, physical_id=physical_id)
            deferred.insert(0, (ask, (gone,), {}))
        return answer

    def ask_and_delete(
        kind: str, physical_id: str, properties: Any, stack: str | None = None, logical_id: str | None = None
    ) -> Any:
        gone = change(kind, "delete", logical_id or physical_id, properties, stack or "", physical_id=physical_id)
        ask(gone)
        return delete(kind, physical_id, properties, stack, logical_id)

    for module in (provisioners, stacks):
        module._provision_resource = ask_and_create
        module._update_resource = ask_and_update
        module._delete_resource = ask_and_delete
    for module in (handlers, changesets):
        module._create_stack_task_in_region = start_as_role
    helpers._resolve_document = read_as_caller
    ssm.resolve_parameter_value, engine._resolve_dynamic_reference = resolve_as_role, resolve_secret_as_role
    actions = cloudformation._ACTION_HANDLERS
    describe = actions["DescribeStacks"]
    actions["DescribeStacks"] = describe_with_roles
    actions.update({name: handled(name, actions[name]) for name in ON_STACKS})


def _refuse_stack_role(permissions: Permissions, scope: Scope, role: str, action: str) -> tuple[str, str, int] | None:
    """Code, message and HTTP status of AWS's refusal of a role that the caller may not pass or CloudFormation not have.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-iam-servicerole.html
    """
    from ministack.services import iam

    try:
        permissions.check(
            scope, request_access_key(), "iam:PassRole", role, {"iam:PassedToService": SERVICE}, because=action
        )
    except Denied as denied:
        return "AccessDenied", str(denied), 403
    found = iam._roles.get(role.rpartition("/")[2])
    trust = (found or {}).get("AssumeRolePolicyDocument")
    policy = json.loads(trust) if isinstance(trust, str) else trust
    if not found or found["Arn"] != role or not trusts_service(policy, SERVICE, {"aws:SourceAccount": scope.account}):
        return "ValidationError", f"Role {role} is invalid or cannot be assumed", 400
    return None


def _remembered_role(name: str, params: dict[str, Any]) -> str:
    """The role that a stack was given last, which later operations use without being given it."""
    from ministack.services.cloudformation import handlers, helpers

    if name in ("CreateStack", "ValidateTemplate", "GetTemplateSummary"):
        return ""
    stack = handlers._resolve_stack(helpers._p(params, "StackName")) or {}
    return "" if stack.get("StackStatus") == "DELETE_COMPLETE" else str(stack.get("RoleARN", ""))


def _look_up(kind: str, name: str) -> str | None:
    """What local_aws.permissions.cloudformation.Change asks of IAM and KMS."""
    from ministack.services import iam, kms

    if kind == "key":
        return (kms._resolve_key(name) or {}).get("Arn")
    if kind == "boundary":
        return (iam._roles.get(name) or {}).get("PermissionsBoundary")
    return ({"role": iam._roles, "user": iam._users, "group": iam._groups}[kind].get(name) or {}).get("Arn")


def _secret_arn(scope: Scope, reference: str) -> str:
    """Of a secret as a dynamic reference names it: by ARN or name, and what follows."""
    from ministack.services import secretsmanager

    if reference.startswith("arn:"):
        return ":".join(reference.split(":")[:7])
    name = reference.partition(":")[0]
    secret = secretsmanager._resolve(name)[1]
    return str(secret["ARN"]) if secret else f"arn:aws:secretsmanager:{scope.region}:{scope.account}:secret:{name}"


# Alarms.


class AlarmsOfMiniStack:
    """CloudWatch's metrics and alarms, as local_aws.alarms wants them (its CloudWatch)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, forwarded: Forwarded) -> None:
        from ministack.services import cloudwatch

        self._cloudwatch = cloudwatch
        self._forwarded = forwarded
        self._loop = loop
        self._speed = clock.speed

    def alarms(self) -> list[tuple[Scope, dict[str, Any]]]:
        items = self._cloudwatch._alarms.all_items()
        return [(Scope(account, region), alarm) for (account, region, _), alarm in items]

    def points(self, scope: Scope, metric: Mapping[str, Any], unit: str | None, since: float) -> list[Point]:
        dimensions = {each["Name"]: each["Value"] for each in metric.get("Dimensions") or []}
        key = (metric["Namespace"], metric["MetricName"], self._cloudwatch._dims_key(dimensions))
        kept = self._cloudwatch._metrics.get_scoped(scope.account, scope.region, key) or []
        return [
            Point(point["Timestamp"], *self._cloudwatch._point_stats(point))
            for point in list(kept)
            if point["Timestamp"] >= since and unit in (None, point["Unit"])
        ]

    def measure(self) -> None:
        self._on_loop(self._measure_queues)

    def set_state(self, scope: Scope, alarm: dict[str, Any], state: State, reason: str) -> None:
        self._on_loop(self._set_state, scope, alarm, state, reason)

    def publish(self, scope: Scope, alarm: str, topic: str, subject: str, message: str) -> None:
        # At once, on the event loop already: the alarm's new state and its notification are then written together.
        self._publish(scope, alarm, topic, subject, message)

    def tell_changes(self, tell: Callable[[Scope, dict[str, Any], State, State, str], None]) -> None:
        """Let `tell` be called for each change of an alarm's state; nothing is evaluated by MiniStack any more."""
        cloudwatch = self._cloudwatch
        put, evict = cloudwatch._put_metric_alarm, cloudwatch._evict_old_metrics
        last_eviction = 0.0

        def dispatch(alarm: dict[str, Any], before: State, state: State, reason: str) -> None:
            tell(request_scope(), alarm, before, state, reason)

        def put_alarm(query: Any, request: dict[str, Any], is_cbor: bool, is_json: bool = False) -> Any:
            if is_cbor or is_json:
                message = fault({"Statistic": None, **request})
            else:
                message = "local_aws takes alarms in the JSON and CBOR protocols only, which boto3 and the CLI speak."
            if message:
                return cloudwatch._error("ValidationError", message, 400, use_json=is_json, use_cbor=is_cbor)
            answer = put(query, request, is_cbor, is_json)
            if answer[0] == 200:
                complete(cloudwatch._alarms[request["AlarmName"]], request)
            return answer

        def check_in_templates() -> None:
            from ministack.services.cloudformation import provisioners

            record = provisioners._cw_metric_alarm_record

            def record_from_template(name: str, properties: dict[str, Any]) -> Any:
                if message := fault({"Statistic": None, **properties}):
                    raise ValueError(message)
                alarm = record(name, properties)
                complete(alarm, properties)
                return alarm

            provisioners._cw_metric_alarm_record = record_from_template

        def complete(alarm: dict[str, Any], request: dict[str, Any]) -> None:
            if request.get("Metrics"):
                alarm["Metrics"] = request["Metrics"]
                for name in ("MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Period"):
                    alarm[name] = None
            elif alarm.get("ExtendedStatistic"):
                alarm["Statistic"] = None

        def evict_sometimes() -> None:
            nonlocal last_eviction
            if time.monotonic() - last_eviction > 60:  # it goes through every point, at each request
                last_eviction = time.monotonic()
                evict()

        cloudwatch._evaluate_alarm = lambda _alarm: None
        cloudwatch._evaluate_all_alarms = lambda: None
        cloudwatch._dispatch_alarm_actions = dispatch
        cloudwatch._put_metric_alarm = put_alarm
        cloudwatch._evict_old_metrics = evict_sometimes
        before_first_request("cloudformation", check_in_templates)

    def _set_state(self, scope: Scope, alarm: dict[str, Any], state: State, reason: str) -> None:
        from ministack.core.responses import request_scope as as_if_requested_from

        cloudwatch = self._cloudwatch
        with as_if_requested_from(scope.account, scope.region):
            before = alarm["StateValue"]
            if cloudwatch._alarms.get(alarm["AlarmName"]) is not alarm or before == state:
                return  # deleted, replaced or set meanwhile
            now = int(time.time())
            alarm.update(StateValue=state, StateReason=reason, StateUpdatedTimestamp=now)
            alarm["StateTransitionedTimestamp"] = now
            cloudwatch._record_history(alarm["AlarmName"], before, state, reason)
            cloudwatch._dispatch_alarm_actions(alarm, before, state, reason)
            cloudwatch._evaluate_parent_alarms(alarm)

    def _measure_queues(self) -> None:
        from ministack.core.responses import request_scope as as_if_requested_from
        from ministack.services import sqs

        now = time.time()
        for (account, region, _), queue in sqs._queues.all_items():
            messages = queue["messages"]
            visible = [message for message in messages if message["visible_at"] <= now]
            oldest = max((now - message["sent_at"] for message in messages), default=0.0)
            measured = {
                "ApproximateNumberOfMessagesVisible": (len(visible), "Count"),
                "ApproximateNumberOfMessagesNotVisible": (len(messages) - len(visible), "Count"),
                "ApproximateAgeOfOldestMessage": (oldest * self._speed, "Seconds"),
            }
            with as_if_requested_from(account, region):
                for metric, (value, unit) in measured.items():
                    dimensions = {"QueueName": queue["name"]}
                    self._cloudwatch.record_metric("AWS/SQS", metric, value, unit, dimensions)

    def _publish(self, scope: Scope, alarm: str, topic: str, subject: str, message: str) -> None:
        from ministack.core.responses import request_scope as as_if_requested_from
        from ministack.services import sns

        with as_if_requested_from(scope.account, scope.region):
            if refusal := self._forwarded.delivery_fault(scope, "cloudwatch.amazonaws.com", topic, alarm):
                logger.warning("The notification of %s is lost: %s", alarm, refusal)
            elif sns.publish_internal(topic, message, subject) is None:
                logger.warning("There is no topic %s: an alarm's notification is lost", topic)

    def _on_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the server with it
            self._loop.call_soon_threadsafe(function, *arguments)


# Schedules.


class SchedulesOfMiniStack:
    """Schedules of EventBridge's rules and of EventBridge Scheduler, as local_aws.schedules wants them (its Source)."""

    def __init__(self, loopback: Loopback, loop: asyncio.AbstractEventLoop, forwarded: Forwarded) -> None:
        from ministack.services import eventbridge, scheduler

        self._forwarded = forwarded
        self._eventbridge = eventbridge
        self._scheduler = scheduler
        self._loopback = loopback
        self._loop = loop

    def schedules(self) -> list[Schedule]:
        found = []
        for (account, region, name), rule in self._eventbridge._rules.all_items():
            if rule.get("State") == "ENABLED" and rule.get("ScheduleExpression"):
                scope, key = Scope(account, region), ("rule", account, region, name)
                fire = functools.partial(self._fire_rule, scope, name, rule)
                found.append(Schedule(key, rule["ScheduleExpression"], "UTC", None, None, fire))
        for (account, region, name), schedule in self._scheduler._schedules.all_items():
            if schedule.get("State") == "ENABLED":
                begin, end = (self._scheduler._to_epoch(schedule.get(bound)) for bound in ("StartDate", "EndDate"))
                scope, key = Scope(account, region), ("schedule", account, region, name)
                fire = functools.partial(self._fire_schedule, scope, name, schedule)
                zone = schedule.get("ScheduleExpressionTimezone") or "UTC"
                found.append(Schedule(key, schedule["ScheduleExpression"], zone, begin, end, fire))
        return found

    def next_cron(self, expression: str, after: datetime) -> datetime | None:
        fields = self._eventbridge._parse_cron_fields(expression)
        if fields is None:
            raise ValueError(f"{expression} is no cron expression")
        return self._eventbridge._cron_next_fire(fields, after)

    def take_over(self) -> None:
        """Let MiniStack fire nothing itself, and refuse schedules of EventBridge Scheduler that could never fire."""
        scheduler = self._scheduler
        create, update = scheduler._create_schedule, scheduler._update_schedule

        def checked(change: Callable[..., Any]) -> Callable[..., Any]:
            def check_and_change(name: str, body: dict[str, Any]) -> Any:
                zone = body.get("ScheduleExpressionTimezone") or "UTC"
                try:
                    next_time(body.get("ScheduleExpression", ""), zone, 0.0, 0.0, self.next_cron)
                except ExpressionError as error:
                    return scheduler._error(400, "ValidationException", str(error))
                return change(name, body)

            return check_and_change

        self._eventbridge.start_scheduler = scheduler.start_scheduler = lambda: None
        scheduler._create_schedule, scheduler._update_schedule = checked(create), checked(update)

    def _fire_rule(
        self, scope: Scope, name: str, rule: dict[str, Any], at: float, delivered: Callable[[], None]
    ) -> None:
        def send() -> None:
            self._send_to_targets(scope, name, rule, at)
            delivered()

        with contextlib.suppress(RuntimeError):  # the loop has ended, and the server with it
            self._loop.call_soon_threadsafe(send)

    def _send_to_targets(self, scope: Scope, name: str, rule: dict[str, Any], at: float) -> None:
        from ministack.core.responses import request_scope as as_if_requested_from

        event = {
            "EventId": str(uuid.uuid4()),
            "Source": "aws.events",
            "DetailType": "Scheduled Event",
            "Detail": "{}",
            "EventBusName": "default",
            "Time": int(at),
            "Resources": [rule["Arn"]],
            "Account": scope.account,
            "Region": scope.region,
        }
        with as_if_requested_from(scope.account, scope.region):
            for target in self._eventbridge._targets.get(name) or []:
                self._eventbridge._invoke_target(target, event, rule)

    def _fire_schedule(
        self, scope: Scope, name: str, schedule: dict[str, Any], at: float, delivered: Callable[[], None]
    ) -> None:
        def send() -> None:
            source = schedule_group_arn(scope, schedule["GroupName"])
            if self._forwarded.trusts(scope, schedule["Target"]["RoleArn"], SCHEDULER, source):
                send_scheduled(self._loopback, scope, schedule["Arn"], schedule["Target"], at)
            else:  # its dead letters, too, are sent as that role
                logger.warning("Schedule %s sends nothing: its role does not let %s assume it", name, SCHEDULER)
            # Now and not before: should the server end meanwhile, it fires again.
            if schedule["ScheduleExpression"].startswith("at(") and schedule.get("ActionAfterCompletion") == "DELETE":
                self._scheduler._schedules.pop_scoped(scope.account, scope.region, name, None)
            delivered()

        # Not in the thread that reckons the times: a target may be slow to take it.
        threading.Thread(target=send, daemon=True, name=f"schedule {name}").start()


# Durability.

# What each service saves, under the names that its get_state() and load_persisted_state() have for it: the same here,
# entry by entry.
SAVED_STORES = {
    "s3": (
        "buckets_meta bucket_versioning bucket_notifications bucket_tags bucket_policies bucket_encryption"
        " bucket_lifecycle bucket_cors bucket_acl bucket_websites bucket_logging_config bucket_accelerate_config"
        " bucket_request_payment_config bucket_object_lock bucket_replication mraps mrap_operations access_points"
        " object_lambda_access_points"
    ),
    "sqs": "queues queue_name_to_url",
    "sns": "topics sub_arn_to_topic sms_messages platform_applications platform_endpoints",
    "iam": (
        "users roles policies groups instance_profiles access_keys oidc_providers service_linked_role_deletion_tasks"
        " user_inline_policies group_inline_policies aws_managed_attachment_counts sla_jobs saml_providers mfa_devices"
        " login_profiles credential_reports account_password_policy account_aliases"
    ),
    "dynamodb": (
        "tables tags ttl_settings pitr_settings kinesis_destinations contributor_insights backups resource_policies"
        " exports imports"
    ),
    "lambda": "functions layers esms function_urls kinesis_positions dynamodb_stream_positions",
    "eventbridge": (
        "buses rules targets tags archives replays endpoints partner_event_sources event_bus_policies connections"
        " api_destinations"
    ),
    "scheduler": "schedules schedule_groups tags",
    "ssm": "parameters parameter_history tags commands service_settings",
    "kms": "keys aliases alias_dates grants",
    "cloudformation": "stacks stack_events exports change_sets",
    "secretsmanager": "secrets resource_policies",
    "cloudwatch": "metrics alarms composite_alarms composite_triggers alarm_history dashboards resource_tags",
    "cloudwatch_logs": (
        "log_groups destinations resource_policies log_group_policies metric_filters queries log_records"
        " delivery_sources delivery_destinations deliveries"
    ),
    "resource_groups": "groups group_queries group_configs group_members group_tags account_settings",
}
MODULES = {"lambda": "lambda_svc"}  # where the module is not called as the service's state
ATTRIBUTES = {"s3/buckets_meta": "_buckets", "eventbridge/buses": "_event_buses"}  # else "_" and the name
LAGGING_STORES = ("cloudwatch/metrics", "cloudwatch_logs/log_records", "cloudwatch_logs/queries")
LOG_STREAMS = "cloudwatch_logs/log_groups.streams"
# What a stack is in whose operation ended with the server. From each there is a way on: to delete it, to update it
# again, to continue the roll-back.
INTERRUPTED_STACKS = {
    "CREATE_IN_PROGRESS": "CREATE_FAILED",
    "ROLLBACK_IN_PROGRESS": "ROLLBACK_FAILED",
    "DELETE_IN_PROGRESS": "DELETE_FAILED",
    "UPDATE_IN_PROGRESS": "UPDATE_FAILED",
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": "UPDATE_COMPLETE",
    "UPDATE_ROLLBACK_IN_PROGRESS": "UPDATE_ROLLBACK_FAILED",
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": "UPDATE_ROLLBACK_COMPLETE",
    "IMPORT_IN_PROGRESS": "IMPORT_ROLLBACK_FAILED",
    "IMPORT_ROLLBACK_IN_PROGRESS": "IMPORT_ROLLBACK_FAILED",
}
HELD = "local_aws_visible_at"  # of a message that a function handles: when it would be visible again


def keep_state(durability: Durability, data: Path) -> None:
    """Let MiniStack's state be written down whenever it changes, and be loaded from there.

    Other services' state than SAVED_STORES has is saved when the server is stopped.

    Args:
        data: the folder of S3's objects, as in `configure`.
    """
    repair_objects(data)
    import ministack.app
    from ministack.core import persistence
    from ministack.services import sns

    load_file, save_files, load_all = persistence.load_state, persistence.save_all, ministack.app._load_persisted_state
    found = durability.load(persistence._json_object_hook)
    services_found = {name.partition("/")[0] for name in found}
    stores = _StoresOfMiniStack(durability)

    def load(service: str) -> Any:
        if service not in SAVED_STORES or service not in services_found:
            return load_file(service)  # also what an older local_aws has left
        return stores.state(service, found)

    def load_and_keep() -> None:
        load_all()
        if sessions := found.get("sts/sessions"):
            from ministack.services import sts

            sts._sessions.update({key: parts[WHOLE] for key, parts in sessions.items()})
        found.clear()
        stores.clean_up()
        durability.write_everything()
        for service in SAVED_STORES:
            (Path(persistence.STATE_DIR) / f"{service}.json").unlink(missing_ok=True)

    def save(services: dict[str, Any]) -> None:
        durability.write_everything()
        save_files({name: state for name, state in services.items() if name not in SAVED_STORES})

    ministack.app.load_state, ministack.app.save_all = load, save
    ministack.app._load_persisted_state = load_and_keep
    durability.before_write = stores.watch_new
    sns._threading = types.SimpleNamespace(Thread=_Delivery)


def repair_objects(data: Path) -> None:
    """Undo writes of objects that the end of a server has cut in two.

    S3 writes an object's body, then what describes it, each file at once. A body that is newer than its description was
    not acknowledged: the version before it comes back, when the bucket has versions, else it is described anew.
    """
    for description in data.glob("[0-9]*/*/**/*.meta.json"):
        body = description.with_name(description.name.removesuffix(".meta.json"))
        if not body.is_file() or body.stat().st_mtime_ns <= description.stat().st_mtime_ns:
            continue
        known = json.loads(description.read_text())
        account, bucket, *key = body.relative_to(data).parts
        version = data / ".versions" / account / bucket / str(known.get("version_id")) / Path(*key)
        temporary = body.with_name(body.name + ".tmp")
        if version.is_file():
            temporary.write_bytes(version.read_bytes())
            temporary.replace(body)
        else:
            content = body.read_bytes()
            digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
            known |= {"size": len(content), "etag": f'"{digest}"', "checksums": {}}
        temporary.write_text(json.dumps(known))
        temporary.replace(description)


class _Delivery(threading.Thread):
    """What SNS delivers by: an invocation of a function must be kept before the topic's client is answered."""

    def __init__(self, target: Callable[..., Any], args: tuple[Any, ...], daemon: bool) -> None:
        super().__init__(target=target, args=args, daemon=daemon)
        self._delivery = args[0]

    def start(self) -> None:
        from ministack.services import sns

        if self._delivery is sns._deliver_to_lambda:
            self.run()
        else:
            super().start()


class _StoresOfMiniStack:
    """MiniStack's dictionaries, watched as their modules are imported."""

    def __init__(self, durability: Durability) -> None:
        self._durability = durability
        self._new = [*SAVED_STORES, "sts"]

    def state(self, service: str, found: Mapping[str, dict[Any, dict[str, Any]]]) -> dict[str, Any]:
        """What a module's load_persisted_state() takes."""
        module = importlib.import_module(f"ministack.services.{MODULES.get(service, service)}")
        state = {}
        for name in SAVED_STORES[service].split():
            full_name = f"{service}/{name}"
            store = type(getattr(module, ATTRIBUTES.get(full_name, f"_{name}")))()
            entries = found.get(full_name, {})
            streams = found.get(LOG_STREAMS, {}) if name == "log_groups" else {}
            store._data = {key: _joined(full_name, parts, streams.get(key, {})) for key, parts in entries.items()}
            state[name] = store
        return state

    def watch_new(self) -> None:
        """Watch what was imported since."""
        for service in list(self._new):
            module = sys.modules.get(f"ministack.services.{MODULES.get(service, service)}")
            if module is not None and not getattr(module.__spec__, "_initializing", False):
                self._new.remove(service)
                self._watch(service, module)

    def clean_up(self) -> None:
        """What was under way when the last process ended goes no further by itself."""
        from ministack.services import lambda_svc, sqs

        for queue in sqs._queues.all_values():
            for message in queue["messages"]:
                if HELD in message:
                    message["visible_at"] = message.pop(HELD)
        codes = set()
        for function in lambda_svc._functions.all_values():
            for record in (function, *function.get("versions", {}).values()):
                if isinstance(record.get("code_zip"), bytes):
                    codes.add(hashlib.sha256(record["code_zip"]).hexdigest())
        lambda_svc._prune_orphan_code_blobs(codes)
        if cloudformation := sys.modules.get("ministack.services.cloudformation"):
            _end_stack_operations(cloudformation)

    def _watch(self, service: str, module: Any) -> None:
        from ministack.core.persistence import _json_default

        if service == "sts":
            module._sessions = self._watched([_Sessions("sts/sessions", lambda: module._sessions)], module._sessions)
            return
        for name in SAVED_STORES[service].split():
            full_name = f"{service}/{name}"
            store = getattr(module, ATTRIBUTES.get(full_name, f"_{name}"))
            data = functools.partial(getattr, store, "_data")
            kind = SPECIAL_STORES.get(full_name, Kept)
            kept = [kind(full_name, data, _json_default, full_name in LAGGING_STORES)]
            if name == "log_groups":
                kept.append(_LogStreams(LOG_STREAMS, data, _json_default, lags=True))
            store._data = self._watched(kept, store._data)

    def _watched(self, kept: list[Kept], data: dict[Any, Any]) -> Watched:
        return Watched(data, self._durability.keep(*kept))


def _end_stack_operations(cloudformation: Any) -> None:
    for stack in cloudformation._stacks.all_values():
        if status := INTERRUPTED_STACKS.get(stack["StackStatus"]):
            reason = f"local_aws was stopped while the stack was {stack['StackStatus']}."
            stack.update(StackStatus=status, StackStatusReason=reason)
    for changes in cloudformation._change_sets.all_values():
        if changes.get("ExecutionStatus") == "EXECUTE_IN_PROGRESS":
            changes["ExecutionStatus"] = "EXECUTE_FAILED"


def _joined(store: str, parts: dict[str, Any], streams: dict[str, Any]) -> Any:
    """An entry as MiniStack has it."""
    entry = parts.pop(WHOLE)
    if store == "sqs/queues":
        entry["messages"] = list(parts.values())
    elif store == "dynamodb/tables":
        items: dict[Any, dict[Any, Any]] = {}
        for key, item in parts.items():
            partition, sort = ast.literal_eval(key)
            items.setdefault(partition, {})[sort] = item
        entry["items"] = items
    elif store == "cloudwatch_logs/log_groups":
        entry["streams"] = streams
    return entry


Parts = Iterator[tuple[str, Any, Callable[[], str]]]


class _Sessions(Kept):
    """Sessions that a client was given; what the server has made for its own ends with it."""

    def parts(self, key: Any, value: Any, thorough: bool) -> Parts:
        return super().parts(key, value, thorough) if "Expiration" in value else iter(())


class _Buckets(Kept):
    """Buckets; their objects have files of their own."""

    def parts(self, key: Any, value: Any, thorough: bool) -> Parts:
        return super().parts(key, {name: each for name, each in value.items() if name != "objects"}, thorough)


class _Queues(Kept):
    """Queues, each message a part."""

    def parts(self, key: Any, value: Any, thorough: bool) -> Parts:
        yield from super().parts(key, {name: each for name, each in value.items() if name != "messages"}, thorough)
        for message in list(value["messages"]):
            # All that changes once it is sent.
            mark = (message.get("visible_at"), message.get("receive_count"), message.get("receipt_handle"))
            yield message["id"], mark, functools.partial(self._encode, message)


class _LogGroups(Kept):
    """Log groups without their streams, which may lag."""

    def parts(self, key: Any, value: Any, thorough: bool) -> Parts:
        return super().parts(key, {name: each for name, each in value.items() if name != "streams"}, thorough)


class _LogStreams(Kept):
    """The streams of log groups, each a part."""

    def parts(self, key: Any, value: Any, thorough: bool) -> Parts:
        for name, stream in list(value["streams"].items()):
            mark = (len(stream["events"]), stream.get("lastIngestionTime"))
            yield name, mark, functools.partial(self._encode, stream)


class _Keys(Kept):
    """KMS keys, their secret parts encoded as KMS's own saving does."""

    def parts(self, key: Any, value: Any, thorough: bool) -> Parts:
        from ministack.services import kms

        return super().parts(key, kms.get_state()["keys"]._data[key], thorough)


class _FunctionRecords(Kept):
    """Functions; their archives are files named by their content."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._archives: dict[int, tuple[bytes, str]] = {}  # by id: bytes (kept, that the id stays theirs) and digest

    def parts(self, key: Any, value: Any, thorough: bool) -> Parts:
        record = self._without_archive(value)
        record["versions"] = {name: self._without_archive(each) for name, each in value.get("versions", {}).items()}
        return super().parts(key, record, thorough)

    def _without_archive(self, record: dict[str, Any]) -> dict[str, Any]:
        from ministack.services import lambda_svc

        code = record.get("code_zip")
        if not isinstance(code, bytes) or not code:
            return dict(record)
        if id(code) not in self._archives:
            self._archives[id(code)] = (code, lambda_svc._write_code_blob(code))
        return record | {"code_zip": {lambda_svc._BLOB_REF_KEY: self._archives[id(code)][1]}}


class _Tables(Kept):
    """DynamoDB's tables, each item a part; items are never changed in place, only replaced."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        from ministack.services import dynamodb

        self._changed: dict[int, tuple[Any, set[Any]]] = {}  # by a table's id: its items, and which of them to look at
        self._items: dict[Any, tuple[Any, dict[Any, Any]]] = {}  # by a table's key: its items, and those written
        set_item, remove_item = dynamodb._set_item, dynamodb._remove_item

        def set_and_note(table: dict[str, Any], partition: Any, sort: Any, item: Any) -> Any:
            self._note(table, partition, sort)
            return set_item(table, partition, sort, item)

        def remove_and_note(table: dict[str, Any], partition: Any, sort: Any) -> Any:
            self._note(table, partition, sort)
            return remove_item(table, partition, sort)

        dynamodb._set_item, dynamodb._remove_item = set_and_note, remove_and_note
        self._members = dynamodb._INDEX_MEMBERS

    def _note(self, table: dict[str, Any], partition: Any, sort: Any) -> None:
        items = table["items"]
        self._changed.setdefault(id(items), (items, set()))[1].add((partition, sort))

    def changes(self, keys: Iterable[Any], thorough: bool = False) -> list[Row]:
        rows = super().changes(keys, thorough)
        if thorough:  # what is left is of tables that are gone, or are no table of the store
            tables = {id(table["items"]) for table in list(dict.values(self._data()))}
            self._changed = {key: value for key, value in list(self._changed.items()) if key in tables}
        return rows

    def forget(self, keys: Iterable[Any]) -> None:
        super().forget(keys)
        self._items.clear()

    def _changes_of(self, key: Any, thorough: bool) -> list[Row]:
        table = dict.get(self._data(), key)
        if table is None:
            rows = super()._changes_of(key, thorough)
            written = self._items.pop(key, (None, {}))[1]
            return rows + [(self.name, repr(key), repr(item), None) for item in written]
        plain = {name: each for name, each in table.items() if name not in ("items", self._members)}
        rows = self._compare(key, plain, self._written.get(key, {}), thorough)
        items = table["items"]
        known, written = self._items.get(key, (None, {}))
        _, noted = self._changed.pop(id(items), (None, set()))
        if thorough or known is not items:
            found = {(one, other): item for one, sorts in list(items.items()) for other, item in list(sorts.items())}
            noted = {each for each, item in found.items() if written.get(each) is not item} | written.keys() - found
        self._items[key] = (items, written)
        for each in noted:
            item = (items.get(each[0]) or {}).get(each[1])
            if item is not None:
                written[each] = item
                rows.append((self.name, repr(key), repr(each), self._encode(item)))
            elif written.pop(each, None) is not None:
                rows.append((self.name, repr(key), repr(each), None))
        return rows


SPECIAL_STORES: dict[str, type[Kept]] = {
    "s3/buckets_meta": _Buckets,
    "sqs/queues": _Queues,
    "cloudwatch_logs/log_groups": _LogGroups,
    "kms/keys": _Keys,
    "lambda/functions": _FunctionRecords,
    "dynamodb/tables": _Tables,
}


# What services do for callers and as roles.


class Forwarded:
    """Asks IAM what MiniStack's services do not ask: of roles that are passed, of keys that a service uses for its
    caller, of roles that a service acts as, and of resources' policies when a service delivers something.

    Args:
        permissions: while they are not enforced, only keys' states count.
    """

    KEYED = ("dynamodb", "sns", "sqs", "s3", "secretsmanager", "ssm")
    PASSING = ("lambda", "events", "scheduler", "logs")

    def __init__(self, permissions: Permissions, loop: asyncio.AbstractEventLoop) -> None:
        self._permissions = permissions
        self._loop = loop
        self._sessions: dict[tuple[str, str], str] = {}

    def take_over(self) -> None:
        """After `run_functions`, whose hooks are asked for here."""
        for service in (*self.KEYED, *(self.PASSING if self._permissions.enforced else ())):
            self._guard(service)
        before_first_request("cloudformation", self._complete_templates)
        if self._permissions.enforced:
            self._ask_for_functions()
            self._ask_for_targets()
            self._ask_for_subscriptions()

    # What the caller of a service asks besides

    def _guard(self, service: str) -> None:
        import ministack.app

        handler = ministack.app.SERVICE_HANDLERS[service]

        async def guarded(method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]) -> Any:
            if self._permissions.enforced or _some_key_is_off():
                call = find_call(HttpRequest(method, quote(path), query, headers, body))
                refusal = self._refusal(call, headers, body, query) if call else None
                if call and refusal:
                    return error_answer(call, refusal.code, refusal.message, refusal.status)
            return await handler(method, path, headers, body, query)

        ministack.app.SERVICE_HANDLERS[service] = guarded

    def _refusal(self, call: ApiCall, headers: dict[str, str], body: bytes, query: dict[str, Any]) -> Refusal | None:
        scope = request_scope()
        try:
            request = _request_of(call, headers, body, query)
        except ValueError:
            return None  # the service says what is wrong with it
        if self._permissions.enforced and (refusal := self._mapping_refusal(scope, call, request)):
            return refusal
        if self._permissions.enforced and (refusal := self._role_refusal(scope, call, request)):
            return refusal
        for use in _key_uses(call, scope, request, headers):
            if fault := self._key_fault(scope, call, use):
                return key_refusal(call.service, call.operation.name, *fault)
        if call.name in ("logs:CreateLogGroup", "logs:AssociateKmsKey") and request.get("kmsKeyId"):
            return self._log_key_refusal(scope, str(request.get("logGroupName")), request["kmsKeyId"])
        return None

    def _role_refusal(self, scope: Scope, call: ApiCall, request: dict[str, Any]) -> Refusal | None:
        for passed in passed_roles(call.name, request, scope):
            context = {"iam:PassedToService": passed.service}
            try:
                self._permissions.check(
                    scope, call.access_key, "iam:PassRole", passed.role, context, _iam_name(call.name)
                )
            except Denied as denied:
                return denial(call.service, str(denied))
            if not self.trusts(scope, passed.role, passed.service, passed.source):
                return Refusal(passed.code, passed.message, 400)
        return None

    def _mapping_refusal(self, scope: Scope, call: ApiCall, request: dict[str, Any]) -> Refusal | None:
        """https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html#events-sqs-permissions"""
        import ministack.services.lambda_svc as lambdas

        if call.name == "lambda:CreateEventSourceMapping":
            config = lambdas._get_func_record_for_ref(request.get("FunctionName", ""))[1]
            fault = self.mapping_fault(scope, config, request.get("EventSourceArn", "")) if config else None
            return Refusal("InvalidParameterValueException", fault, 400) if fault else None
        return None

    def _key_fault(self, scope: Scope, call: ApiCall, use: KeyUse) -> tuple[str, str] | None:
        """Why a caller cannot use a key: its state or "Denied", and what KMS says; None when he can.

        A key that is not known here is none of ours, and AWS's own keys are for every caller.
        """
        from ministack.services import kms

        key = kms._resolve_key(use.key)
        if key is None:
            return None
        context = key_context(scope, call.service, use.context)
        try:
            for action in use.actions:
                self._permissions.check(scope, call.access_key, action, key["Arn"], context, _iam_name(call.name))
        except Denied as denied:
            return "Denied", str(denied)
        fault = key_state_fault(key["Arn"], key["KeyState"])
        return (key["KeyState"], fault) if fault else None

    def _log_key_refusal(self, scope: Scope, group: str, key: str) -> Refusal | None:
        arn = f"arn:aws:logs:{scope.region}:{scope.account}:log-group:{group}"
        if not self._service_key_fault(scope, f"logs.{scope.region}.amazonaws.com", key, arn, {"aws:logs:arn": arn}):
            return None
        message = f"The specified KMS key does not exist or is not allowed to be used with LogGroup '{arn}'"
        return Refusal("InvalidParameterException", message, 400)

    # What a service may by resources' policies

    def delivery_fault(self, scope: Scope, service: str, target: str, source: str) -> str | None:
        """Why a service may not send to a queue, topic or function by its policy (and its key's); None when it may.

        Args:
            service: such as "events.amazonaws.com".
            target: the queue's, topic's or function's ARN. One that is gone refuses nobody.
            source: ARN of what sends, such as a rule.
        """
        from ministack.core.responses import request_scope as as_if_requested_from
        from ministack.services import sns, sqs

        kind = target.split(":")[2]
        with as_if_requested_from(scope.account, scope.region):
            asked = self._permissions.enforced and _exists(target)
            if asked and (fault := self._service_fault(scope, service, TARGET_ACTIONS[kind], target, source, {})):
                return fault
            if kind == "sqs":
                key = ((sqs._queue_by_arn(target) or {}).get("attributes") or {}).get("KmsMasterKeyId")
                return self._service_key_fault(scope, service, key, source, {"aws:sqs:arn": target}) if key else None
            if kind == "sns":
                topic = sns._topic_by_arn_any_scope(target) or {}
                key, context = (topic.get("attributes") or {}).get("KmsMasterKeyId"), {"aws:sns:topicArn": target}
                return self._service_key_fault(scope, service, key, source, context) if key else None
        return None

    def _service_fault(
        self, scope: Scope, service: str, action: str, resource: str, source: str, context: Mapping[str, Any]
    ) -> str | None:
        from ministack.core import iam_evaluator

        known = {
            "aws:SourceArn": source,
            "aws:SourceAccount": scope.account,
            "aws:SourceOwner": scope.account,
            **context,
        }
        question = iam_evaluator.EvalContext(
            # Of no account: a statement for the account's root is not for its services.
            principal_arn="*",
            principal_type="Service",
            principal_account="",
            action=action,
            resource_arn=resource,
            region=scope.region,
            service_context={key.lower(): value for key, value in known.items()},
        )
        policy = (iam_evaluator._resource_policy(action.partition(":")[0], resource) or ("",))[0]
        answer = iam_evaluator.evaluate_resource_policy(policy, question, service=service).decision
        allowed = answer == "Allow"
        found = frozen_context(known)
        self._permissions.log.add(Decision(service, action, resource, scope.region, found, allowed, allowed))
        return None if allowed else f"{service} is not authorized to perform: {action} on resource: {resource}"

    def _service_key_fault(
        self, scope: Scope, service: str, key: str, source: str, encryption: Mapping[str, str]
    ) -> str | None:
        from ministack.services import kms

        found = kms._resolve_key(key)
        if found is None:
            # Nobody can change the policies of AWS's own keys, and they name no service.
            return f"{service} cannot use {key}" if "alias/aws/" in key and self._permissions.enforced else None
        if self._permissions.enforced:
            context = {f"kms:EncryptionContext:{name}": value for name, value in encryption.items()}
            for action in ("kms:GenerateDataKey", "kms:Decrypt"):
                if fault := self._service_fault(scope, service, action, found["Arn"], source, context):
                    return fault
        return key_state_fault(found["Arn"], found["KeyState"])

    # What a role allows a service that acts as it

    def trusts(self, scope: Scope, role: str, service: str, source: str) -> bool:
        """Whether a service may assume a role for a resource of its own. Always, while IAM is not enforced."""
        from ministack.services import iam

        if not self._permissions.enforced:
            return True
        account, name = role.split(":")[4], role.rpartition("/")[2]
        found = iam._roles.get_scoped(account, None, name)
        if found is None or found["Arn"] != role:
            return False
        policy = found["AssumeRolePolicyDocument"]
        with contextlib.suppress(ValueError):  # what is no JSON trusts nobody
            policy = json.loads(policy) if isinstance(policy, str) else policy
        return trusts_service(policy, service, {"aws:SourceAccount": scope.account, "aws:SourceArn": source})

    def role_fault(
        self,
        scope: Scope,
        role: str,
        session: str,
        action: str,
        resource: str,
        service: str,
        context: Mapping[str, Any] | None = None,
    ) -> str | None:
        """Why a service that acts as a role may not do something, None when it may.

        Args:
            session: the name of the role's session.
            service: that acts.
        """
        if not self._permissions.enforced:
            return None
        key = self._sessions.get((role, session))
        if key is None:
            key = self._sessions[role, session] = role_credentials(role, session)["AWS_ACCESS_KEY_ID"]
        try:
            self._permissions.check(scope, key, action, resource, context, service)
        except Denied as denied:
            return str(denied)
        return None

    def mapping_fault(self, scope: Scope, config: dict[str, Any], queue: str) -> str | None:
        """Why a function's role cannot poll a queue, None when it can, or when it is another source."""
        from ministack.services import kms, sqs

        if queue.split(":")[2:3] != ["sqs"]:
            return None
        role, session = config["Role"], config["FunctionName"]
        for action in POLLING:
            if self.role_fault(scope, role, session, action, queue, LAMBDA):
                name = action.partition(":")[2]
                return f"The provided execution role does not have permissions to call {name} on SQS"
        key = kms._resolve_key(((sqs._queue_by_arn(queue) or {}).get("attributes") or {}).get("KmsMasterKeyId", ""))
        if key is None:
            return None
        context = key_context(scope, "sqs", {"aws:sqs:arn": queue})
        return self.role_fault(scope, role, session, "kms:Decrypt", key["Arn"], LAMBDA, context) or key_state_fault(
            key["Arn"], key["KeyState"]
        )

    # Hooks

    def _complete_templates(self) -> None:
        """Keep what MiniStack drops from templates, and ask where it asks at the door only."""
        from ministack.services import dynamodb, lambda_svc, sns
        from ministack.services.cloudformation import provisioners

        def keep_topic_key(topic: str, properties: dict[str, Any]) -> None:
            attributes = sns._topics[topic]["attributes"]
            attributes.pop("KmsMasterKeyId", None)
            if properties.get("KmsMasterKeyId"):
                attributes["KmsMasterKeyId"] = properties["KmsMasterKeyId"]

        def keep_table_key(table: str, properties: dict[str, Any]) -> None:
            given = properties.get("SSESpecification") or {}
            specification = given and {**given, "Enabled": given.get("SSEEnabled") in (True, "true")}
            dynamodb._tables[table]["SSEDescription"] = dynamodb._sse_description_from_spec(specification)

        for kind, keep in (("AWS::SNS::Topic", keep_topic_key), ("AWS::DynamoDB::Table", keep_table_key)):
            handlers = provisioners._RESOURCE_HANDLERS[kind]
            handlers["create"] = _then(handlers["create"], 1, keep)
            handlers["update"] = _then(handlers["update"], 2, keep)
        if not self._permissions.enforced:
            return
        mappings = provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"]
        groups = provisioners._RESOURCE_HANDLERS["AWS::Logs::LogGroup"]
        make_mapping, make_group = mappings["create"], groups["create"]

        def create_mapping(logical_id: str, properties: dict[str, Any], *more: Any, **named: Any) -> Any:
            config = lambda_svc._get_func_record_for_ref(properties["FunctionName"])[1]
            fault = (
                self.mapping_fault(request_scope(), config, properties.get("EventSourceArn", "")) if config else None
            )
            if fault:
                raise ValueError(f"Invalid request provided: {fault} (Service: Lambda, Status Code: 400)")
            return make_mapping(logical_id, properties, *more, **named)

        def create_group(logical_id: str, properties: dict[str, Any], *more: Any, **named: Any) -> Any:
            name, key = properties.get("LogGroupName") or logical_id, properties.get("KmsKeyId")
            if key and (refusal := self._log_key_refusal(request_scope(), name, key)):
                raise ValueError(f"{refusal.message} (Service: CloudWatchLogs, Status Code: 400)")
            return make_group(logical_id, properties, *more, **named)

        mappings["create"], groups["create"] = create_mapping, create_group

    def _ask_for_functions(self) -> None:
        """Functions' logs and the queues that they are invoked from, as their roles."""
        import ministack.services.lambda_svc as lambdas
        from ministack.services import cloudwatch_logs

        emit, concurrency = lambdas._emit_lambda_logs, lambdas._sqs_esm_concurrency

        def emit_as_role(record: dict[str, Any], *what: Any, **named: Any) -> None:
            config = record.get("config") or record
            name, arn = config["FunctionName"], config["FunctionArn"].split(":")
            scope = Scope(arn[4], arn[3])
            group = (config.get("LoggingConfig") or {}).get("LogGroup") or f"/aws/lambda/{name}"
            found = cloudwatch_logs._log_groups.get_scoped(scope.account, scope.region, group)
            # MiniStack chooses the stream's name; what counts of it is its group.
            stream = f"{datetime.now(UTC):%Y/%m/%d}/[{config.get('Version', '$LATEST')}]"
            for action, resource in log_questions(scope, group, stream, found is not None):
                if self.role_fault(scope, config["Role"], name, action, resource, LAMBDA):
                    return  # the function has run; it has no log, as on AWS
            key = (found or {}).get("kmsKeyId")
            if key and self._log_key_refusal(scope, group, key):
                return
            emit(record, *what, **named)

        def concurrency_as_role(mapping: dict[str, Any], record: Any, config: dict[str, Any], queue: Any = None) -> int:
            now = time.time()
            waiting = queue and any(message["visible_at"] <= now for message in list(queue["messages"]))
            if waiting and (fault := self.mapping_fault(request_scope(), config, mapping["EventSourceArn"])):
                mapping["LastProcessingResult"] = f"PROBLEM: {fault}"
                return 0
            return int(concurrency(mapping, record, config, queue))

        lambdas._emit_lambda_logs = emit_as_role
        lambdas._sqs_esm_concurrency = concurrency_as_role

    def _ask_for_targets(self) -> None:
        """What rules send: as the target's role when it has one, else by the target's own policy."""
        from ministack.services import eventbridge

        invoke = eventbridge._invoke_target

        def invoke_if_allowed(target: dict[str, Any], event: Any, rule: dict[str, Any], view: Any = None) -> None:
            fault = self._target_fault(target, rule["Arn"])
            if fault is None:
                invoke(target, event, rule, view)
            elif letters := (target.get("DeadLetterConfig") or {}).get("Arn"):
                eventbridge._invoke_target({"Id": target["Id"], "Arn": letters}, event, rule, view)
            else:
                logger.warning("An event of %s for %s is lost: %s", rule["Arn"], target["Arn"], fault)

        eventbridge._invoke_target = invoke_if_allowed

    def _target_fault(self, target: dict[str, Any], rule: str) -> str | None:
        arn, role = target["Arn"], target.get("RoleArn")
        scope, kind = Scope(rule.split(":")[4], rule.split(":")[3]), arn.split(":")[2]
        if role and kind in TARGET_ACTIONS:
            if not self.trusts(scope, role, EVENTS, rule):
                return f"{EVENTS} cannot assume {role}"
            return self.role_fault(scope, role, rule.rpartition("/")[2], TARGET_ACTIONS[kind], arn, EVENTS)
        return self.delivery_fault(scope, EVENTS, arn, rule) if kind in ("sqs", "sns", "lambda") else None

    def _ask_for_subscriptions(self) -> None:
        """What topics send on: by the policy of the queue or function; what they cannot goes to the dead letters."""
        from ministack.services import sns

        to_queue, to_function = sns._deliver_to_sqs, sns._deliver_to_lambda

        def deliver_to_queue(queue: str, envelope: str, raw: bool, message: str, *more: Any, **named: Any) -> None:
            topic = named["topic_arn"]
            if fault := self._subscription_fault(topic, queue):
                redrive(topic, queue, message if raw else envelope, fault)
            else:
                to_queue(queue, envelope, raw, message, *more, **named)

        def deliver_to_function(function: str, envelope: str, topic: str, *more: Any) -> None:
            if fault := self._subscription_fault(topic, function):
                # It is called in a thread of its own, and queues are changed on the event loop only.
                self._loop.call_soon_threadsafe(redrive, topic, function, envelope, fault)
            else:
                to_function(function, envelope, topic, *more)

        def redrive(topic: str, endpoint: str, body: str, fault: str) -> None:
            subscriptions = (sns._topic_by_arn_any_scope(topic) or {}).get("subscriptions", [])
            policies = [
                each["attributes"].get("RedrivePolicy") for each in subscriptions if each["endpoint"] == endpoint
            ]
            letters = next((_document(policy).get("deadLetterTargetArn") for policy in policies if policy), None)
            lost = self._subscription_fault(topic, letters) if letters else "it has no dead-letter queue"
            if letters and not lost:
                to_queue(letters, body, True, body, topic_arn=topic)
            else:
                logger.warning("A notification of %s for %s is lost: %s; %s", topic, endpoint, fault, lost)

        sns._deliver_to_sqs, sns._deliver_to_lambda = deliver_to_queue, deliver_to_function

    def _subscription_fault(self, topic: str, endpoint: str) -> str | None:
        if not _exists(endpoint):
            return f"There is no {endpoint}"
        return self.delivery_fault(
            Scope(topic.split(":")[4], topic.split(":")[3]), "sns.amazonaws.com", endpoint, topic
        )


def _then(
    handle: Callable[..., Any], position: int, finish: Callable[[str, dict[str, Any]], None]
) -> Callable[..., Any]:
    """A template resource's handler, and after it `finish` with the physical id and the properties.

    Args:
        position: the properties' among the handler's arguments.
    """

    def handle_and_finish(*arguments: Any, **named: Any) -> Any:
        answer = handle(*arguments, **named)
        finish(answer[0] if isinstance(answer, tuple) else answer, arguments[position])
        return answer

    return handle_and_finish


def _iam_name(operation: str) -> str:
    """IAM's name of an operation, which a question is asked for."""
    names = {
        "s3:CopyObject": "s3:PutObject",
        "s3:CreateMultipartUpload": "s3:PutObject",
        "s3:UploadPart": "s3:PutObject",
    }
    return names.get(operation, operation)


def _exists(arn: str) -> bool:
    from ministack.core import iam_evaluator

    return iam_evaluator._resource_policy(arn.split(":")[2], arn) is not None


def _document(policy: str | dict[str, Any]) -> dict[str, Any]:
    found = json.loads(policy) if isinstance(policy, str) else policy
    return found if isinstance(found, dict) else {}


def _some_key_is_off() -> bool:
    from ministack.services import kms

    return any(key["KeyState"] != "Enabled" for key in kms._keys.all_values())


def _request_of(call: ApiCall, headers: dict[str, str], body: bytes, query: dict[str, Any]) -> dict[str, Any]:
    """A call's parameters, as boto3 takes them, without what is in S3's headers and bodies.

    Raises:
        ValueError: the body is none.
    """
    if call.service == "s3":
        return {"UploadId": query.get("uploadId", [""])[0], **call.labels}
    if call.protocol == "query":
        return dict(parsed_request(call, HttpRequest("POST", "/", query, headers, body)))
    found = json.loads(body or b"{}")
    return (found if isinstance(found, dict) else {}) | dict(call.labels)


def _key_uses(call: ApiCall, scope: Scope, request: dict[str, Any], headers: dict[str, str]) -> list[KeyUse]:
    """The keys that a call uses through its service, by what the resource says that it is encrypted with."""
    actions = KEY_ACTIONS.get(call.name)
    if actions is None:
        return []
    find = {
        "dynamodb": _table_keys,
        "sns": _topic_keys,
        "sqs": _queue_keys,
        "s3": _object_keys,
        "secretsmanager": _secret_keys,
        "ssm": _parameter_keys,
    }[call.service]
    return [
        KeyUse(key, only or actions, context)
        for key, context, only in find(call.operation.name, scope, request, headers)
        if key
    ]


# Of a call: each key, the encryption context, and what is asked of it when that is not what the call asks.
FoundKeys = list[tuple[str | None, dict[str, str], tuple[str, ...]]]


def _table_keys(operation: str, scope: Scope, request: dict[str, Any], _: dict[str, str]) -> FoundKeys:
    from ministack.services import dynamodb

    def context(name: str) -> dict[str, str]:
        return {"aws:dynamodb:tableName": name, "aws:dynamodb:subscriberId": scope.account}

    if operation == "CreateTable":
        key = (request.get("SSESpecification") or {}).get("KMSMasterKeyId")
        return [(key, context(str(request.get("TableName"))), ())]
    items = [one for each in request.get("TransactItems") or [] for one in each.values()]
    named = [request.get("TableName"), *(request.get("RequestItems") or {}), *(one.get("TableName") for one in items)]
    found: FoundKeys = []
    for name in dict.fromkeys(str(one).rpartition("/")[2] for one in named if one):
        description = (dynamodb._tables.get(name) or {}).get("SSEDescription") or {}
        found.append((description.get("KMSMasterKeyArn"), context(name), ()))
    return found


def _topic_keys(_operation: str, _scope: Scope, request: dict[str, Any], _: dict[str, str]) -> FoundKeys:
    from ministack.services import sns

    arn = request.get("TopicArn") or request.get("TargetArn") or ""
    attributes = (sns._topic_by_arn_any_scope(arn) or {}).get("attributes") or {}
    return [(attributes.get("KmsMasterKeyId"), {"aws:sns:topicArn": arn}, ())]


def _queue_keys(_operation: str, scope: Scope, request: dict[str, Any], _: dict[str, str]) -> FoundKeys:
    from ministack.services import sqs

    account, name = (["", *str(request.get("QueueUrl", "")).split("/")])[-2:]
    arn = f"arn:aws:sqs:{scope.region}:{account}:{name}"
    attributes = (sqs._queue_by_arn(arn) or {}).get("attributes") or {}
    return [(attributes.get("KmsMasterKeyId"), {"aws:sqs:arn": arn}, ())]


def _object_keys(operation: str, _: Scope, request: dict[str, Any], headers: dict[str, str]) -> FoundKeys:
    from ministack.services import s3

    def key_of(sse: Mapping[str, str] | None) -> str | None:
        return (sse or {}).get("x-amz-server-side-encryption-aws-kms-key-id")

    def kept(bucket: str, key: str) -> tuple[str | None, dict[str, str], tuple[str, ...]]:
        objects = (s3._ensure_bucket(bucket) or {}).get("objects") or {}
        found = s3._stored_sse_headers(objects.get(key) or {})
        return key_of(found), {"aws:s3:arn": f"arn:aws:s3:::{bucket}/{key}"}, ("kms:Decrypt",)

    bucket, name = request["Bucket"], request["Key"]
    if operation == "GetObject":
        return [kept(bucket, name)]
    context = {"aws:s3:arn": f"arn:aws:s3:::{bucket}/{name}"}
    found: FoundKeys = []
    if source := headers.get("x-amz-copy-source"):
        found.append(kept(*unquote(source).lstrip("/").partition("?")[0].partition("/")[::2]))
    if operation == "UploadPart":
        upload = s3._multipart_uploads.get(request["UploadId"]) or {}
        return [*found, (key_of(s3._stored_sse_headers(upload)), context, ())]
    sse, fault = s3._resolve_sse_write_headers(headers, bucket)
    return found if fault else [*found, (key_of(sse), context, ())]


def _secret_keys(_operation: str, _scope: Scope, request: dict[str, Any], _: dict[str, str]) -> FoundKeys:
    from ministack.services import secretsmanager

    secret = secretsmanager._resolve(request.get("SecretId"))[1] or {}
    key = request.get("KmsKeyId") or secret.get("KmsKeyId")
    return [(key, {"SecretARN": secret["ARN"]} if secret else {}, ())]


def _parameter_keys(operation: str, scope: Scope, request: dict[str, Any], _: dict[str, str]) -> FoundKeys:
    from ministack.services import ssm

    if operation == "PutParameter":
        name = str(request.get("Name", "")).lstrip("/")
        context = {"PARAMETER_ARN": f"arn:aws:ssm:{scope.region}:{scope.account}:parameter/{name}"}
        return [(request.get("KeyId") if request.get("Type") == "SecureString" else None, context, ())]
    if not request.get("WithDecryption"):
        return []
    if operation == "GetParametersByPath":
        below = str(request.get("Path", "")).rstrip("/") + "/"
        parameters = [one for name, one in ssm._parameters.items() if name.startswith(below)]
    else:
        names = request.get("Names") or [request.get("Name")]
        parameters = [found for name in names if (found := ssm._select_parameter(name)[0])]
    secure = [one for one in parameters if one["Type"] == "SecureString"]
    return [(one["KeyId"], {"PARAMETER_ARN": one["ARN"]}, ()) for one in secure]
