"""The one place that touches MiniStack's private names.

Each has a contract test in tests/local_aws/test_ministack_host.py.

MiniStack is the process's web application and answers every generic service. Services of our own are mounted beside
them: a request with their `X-Amz-Target` prefix comes to our handler with account and Region already read from its
signature.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import json
import logging
import os
import secrets
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from local_aws.alarms import Point, State, fault
from local_aws.clock import Clock
from local_aws.functions import Function, Functions
from local_aws.invocations import AsynchronousInvocations, Invocation
from local_aws.loopback import Loopback
from local_aws.permissions import Decision, DecisionLog, Denied
from local_aws.permissions.decisions import frozen_context
from local_aws.permissions.permissions import Decide
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

    async def prepare_and_handle(*request: Any) -> Any:
        ministack.app.SERVICE_HANDLERS[service] = handler
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


def run_functions(functions: Functions, asynchronous: AsynchronousInvocations) -> None:
    """Let our own processes run every function, and let what invokes one asynchronously try again as AWS does."""
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
        config = record.get("config") or record
        settings = record.get("event_invoke_config") or (record.get("event_invoke_configs") or {}).get("$LATEST") or {}
        destinations = settings.get("DestinationConfig") or {}

        def run() -> tuple[bool, Any]:
            result = lambdas._execute_function_with_config_scope(record, event)
            return bool(result.get("error")), result.get("body")

        arn = ":".join(config["FunctionArn"].split(":")[:7])
        retries, oldest = settings.get("MaximumRetryAttempts"), settings.get("MaximumEventAgeInSeconds")
        asynchronous.start(
            Invocation(
                arn,
                config["Version"],
                event,
                run,
                retries=2 if retries is None else int(retries),
                oldest=float(oldest or 21600),
                on_success=(destinations.get("OnSuccess") or {}).get("Destination"),
                on_failure=(destinations.get("OnFailure") or {}).get("Destination"),
                dead_letters=(config.get("DeadLetterConfig") or {}).get("TargetArn"),
            )
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
            target = {"Id": target["Id"], "Arn": letters}
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
        for message in batch:
            message["visible_at"] = held
        try:
            run_batch(mapping, record, event, batch, url, name)
        finally:
            for message, end in zip(batch, ends, strict=True):
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


# Alarms.


class AlarmsOfMiniStack:
    """CloudWatch's metrics and alarms, as local_aws.alarms wants them (its CloudWatch)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        from ministack.services import cloudwatch

        self._cloudwatch = cloudwatch
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

    def publish(self, scope: Scope, topic: str, subject: str, message: str) -> None:
        self._on_loop(self._publish, scope, topic, subject, message)

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

    def _publish(self, scope: Scope, topic: str, subject: str, message: str) -> None:
        from ministack.core.responses import request_scope as as_if_requested_from
        from ministack.services import sns

        with as_if_requested_from(scope.account, scope.region):
            if sns.publish_internal(topic, message, subject) is None:
                logger.warning("There is no topic %s: an alarm's notification is lost", topic)

    def _on_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the server with it
            self._loop.call_soon_threadsafe(function, *arguments)


# Schedules.


class SchedulesOfMiniStack:
    """Schedules of EventBridge's rules and of EventBridge Scheduler, as local_aws.schedules wants them (its Source)."""

    def __init__(self, loopback: Loopback, loop: asyncio.AbstractEventLoop) -> None:
        from ministack.services import eventbridge, scheduler

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

    def _fire_rule(self, scope: Scope, name: str, rule: dict[str, Any], at: float) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the server with it
            self._loop.call_soon_threadsafe(self._send_to_targets, scope, name, rule, at)

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

    def _fire_schedule(self, scope: Scope, name: str, schedule: dict[str, Any], at: float) -> None:
        if schedule["ScheduleExpression"].startswith("at(") and schedule.get("ActionAfterCompletion") == "DELETE":
            self._scheduler._schedules.pop_scoped(scope.account, scope.region, name, None)
        # Not in the thread that reckons the times: a target may be slow to take it.
        arguments = (self._loopback, scope, schedule["Arn"], schedule["Target"], at)
        threading.Thread(target=send_scheduled, args=arguments, daemon=True, name=f"schedule {name}").start()
