"""IAM's decisions: asked, kept, and answered as AWS answers them.

Touches: `iam_evaluator.enforce` and `evaluate`, which are replaced, `pin_request_caller`, which says who called, and
`_resolve_condition_key`.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Mapping
from typing import Any

from local_aws.ministack_host.app import requested_from
from local_aws.ministack_host.credentials import caller_of
from local_aws.permissions import Decision, DecisionLog, Denied
from local_aws.permissions.decisions import frozen_context
from local_aws.permissions.permissions import Decide
from local_aws.store import Scope

# What describes one session rather than its role; no policy of a role can be about it.
OF_ONE_SESSION = ("aws:userid", "aws:username", "aws:tokenissuetime", "aws:multifactorauthpresent")

_because: contextvars.ContextVar[str] = contextvars.ContextVar("because", default="")
_access_key: contextvars.ContextVar[str] = contextvars.ContextVar("access key", default="")


def request_access_key() -> str:
    """The access key that signed the request that is being answered (a context variable: valid in its tasks too).

    Known to MiniStack's services while IAM is enforced; empty for what no request asked for.
    """
    return _access_key.get()


@contextlib.contextmanager
def requested_with(access_key: str) -> Iterator[None]:
    """Let what follows be asked for by whoever an access key belongs to."""
    token = _access_key.set(access_key)
    try:
        yield
    finally:
        _access_key.reset(token)


def enforce_iam(log: DecisionLog) -> Decide:
    """Keep every decision of IAM's, and ask it as MiniStack's own services do.

    Returns:
        What local_aws.permissions.Permissions asks.
    """
    from ministack.core import iam_evaluator
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
        with requested_from(scope):
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

    value_of = iam_evaluator._resolve_condition_key

    def value_of_role(key: str, context: Any) -> Any:
        # Of a session it is its role's, with the path; MiniStack has the session's:
        # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html#condition-keys-principalarn
        return _role_of(context.principal_arn) if key.lower() == "aws:principalarn" else value_of(key, context)

    iam_evaluator.enforce, iam_evaluator.evaluate = enforce_and_keep, evaluate_and_keep
    iam_evaluator._resolve_condition_key = value_of_role
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


def identity_of(access_key: str) -> tuple[str, str] | None:
    """ARNs of the user or role that an access key is of, with its path, and of its session (of a user the same).

    None for the account itself, and for a key that nobody has.
    """
    found = caller_of(access_key)
    if found is None or found[0].endswith(":root"):
        return None
    return _role_of(found[0]), found[0]


def _role_of(principal: str) -> str:
    """The role's ARN, with its path, for its session's; other principals are answered as they are."""
    from ministack.services import iam

    if ":assumed-role/" not in principal:
        return principal
    account, name = principal.split(":")[4], principal.split("/")[1]
    role = iam._roles.get_scoped(account, None, name)
    return str(role["Arn"]) if role else f"arn:aws:iam::{account}:role/{name}"
