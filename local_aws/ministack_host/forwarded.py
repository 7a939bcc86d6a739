"""What services do for callers and as roles: roles that are passed, keys, functions' logs, deliveries.

Touches: the handlers of those services, how functions' logs are written and queues polled for them, how EventBridge
and SNS deliver, and the provisioners of templates' topics, tables, mappings and log groups.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from local_aws.api_calls import ApiCall, HttpRequest, error_answer, find_call
from local_aws.ministack_host.app import before_first_request, request_scope, requested_from
from local_aws.ministack_host.credentials import role_credentials, role_trusts
from local_aws.ministack_host.keys import key_uses, request_of, some_key_is_off
from local_aws.permissions import Decision, Denied, Permissions
from local_aws.permissions.decisions import frozen_context
from local_aws.permissions.forwarded import (
    EVENTS,
    LAMBDA,
    POLLING,
    TARGET_ACTIONS,
    KeyUse,
    Refusal,
    denial,
    iam_name,
    key_context,
    key_refusal,
    key_state_fault,
    log_questions,
    passed_roles,
)
from local_aws.store import Scope

logger = logging.getLogger(__name__)


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
            if self._permissions.enforced or some_key_is_off():
                call = find_call(HttpRequest(method, quote(path), query, headers, body))
                refusal = self._refusal(call, headers, body, query) if call else None
                if call and refusal:
                    return error_answer(call, refusal.code, refusal.message, refusal.status)
            return await handler(method, path, headers, body, query)

        ministack.app.SERVICE_HANDLERS[service] = guarded

    def _refusal(self, call: ApiCall, headers: dict[str, str], body: bytes, query: dict[str, Any]) -> Refusal | None:
        scope = request_scope()
        try:
            request = request_of(call, headers, body, query)
        except ValueError:
            return None  # the service says what is wrong with it
        if self._permissions.enforced and (refusal := self._mapping_refusal(scope, call, request)):
            return refusal
        if self._permissions.enforced and (refusal := self._role_refusal(scope, call, request)):
            return refusal
        for use in key_uses(call, scope, request, headers):
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
                    scope, call.access_key, "iam:PassRole", passed.role, context, iam_name(call.name)
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
                self._permissions.check(scope, call.access_key, action, key["Arn"], context, iam_name(call.name))
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
        from ministack.services import sns, sqs

        kind = target.split(":")[2]
        with requested_from(scope):
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
        return not self._permissions.enforced or role_trusts(scope, role, service, source)

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

        def keep_table_settings(table: str, properties: dict[str, Any]) -> None:
            given = properties.get("SSESpecification") or {}
            specification = given and {**given, "Enabled": given.get("SSEEnabled") in (True, "true")}
            dynamodb._tables[table]["SSEDescription"] = dynamodb._sse_description_from_spec(specification)
            recovery = properties.get("PointInTimeRecoverySpecification") or {}
            dynamodb._pitr_settings[table] = recovery.get("PointInTimeRecoveryEnabled") in (True, "true")

        for kind, keep in (("AWS::SNS::Topic", keep_topic_key), ("AWS::DynamoDB::Table", keep_table_settings)):
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


def _exists(arn: str) -> bool:
    from ministack.core import iam_evaluator

    return iam_evaluator._resource_policy(arn.split(":")[2], arn) is not None


def _document(policy: str | dict[str, Any]) -> dict[str, Any]:
    found = json.loads(policy) if isinstance(policy, str) else policy
    return found if isinstance(found, dict) else {}
