"""Lambda functions: run by our own processes, and retried as AWS does.

Touches: how `lambda_svc` runs functions, writes their logs and counts them, and how SNS and EventBridge invoke them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from local_aws.functions import Function, Functions
from local_aws.invocations import AsynchronousInvocations, Invocation
from local_aws.ministack_host.app import before_first_request
from local_aws.runtimes import RuntimeUnknown

logger = logging.getLogger(__name__)


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
