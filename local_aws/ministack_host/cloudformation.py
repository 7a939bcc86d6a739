"""CloudFormation, acting as a stack's role or as its caller, and asking IAM before each operation on a resource.

Touches: `cloudformation`'s handlers of stack operations, the provisioners of its resources, and what reads a template,
a parameter or a secret for one.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from local_aws.ministack_host.app import before_first_request, request_scope
from local_aws.ministack_host.arns import find_arn, secret_arn
from local_aws.ministack_host.credentials import role_credentials, role_trusts
from local_aws.ministack_host.permissions import request_access_key, requested_with
from local_aws.permissions import Denied, Permissions
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
from local_aws.store import Scope


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
        with requested_with(operation.access_key) if operation is not None else contextlib.nullcontext():
            start_task(work, stack, stack_id)

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
            arn = secret_arn(operation.scope, reference)
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
            look_up=find_arn,
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
    try:
        permissions.check(
            scope, request_access_key(), "iam:PassRole", role, {"iam:PassedToService": SERVICE}, because=action
        )
    except Denied as denied:
        return "AccessDenied", str(denied), 403
    if not role_trusts(scope, role, SERVICE):
        return "ValidationError", f"Role {role} is invalid or cannot be assumed", 400
    return None


def _remembered_role(name: str, params: dict[str, Any]) -> str:
    """The role that a stack was given last, which later operations use without being given it."""
    from ministack.services.cloudformation import handlers, helpers

    if name in ("CreateStack", "ValidateTemplate", "GetTemplateSummary"):
        return ""
    stack = handlers._resolve_stack(helpers._p(params, "StackName")) or {}
    return "" if stack.get("StackStatus") == "DELETE_COMPLETE" else str(stack.get("RoleARN", ""))
