"""Asking IAM, and refusing as AWS does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from local_aws.permissions.decisions import Decision, DecisionLog
from local_aws.store import Scope

# (scope, access key, action, resource, context, because): asks IAM, keeps the decision, raises Denied
Decide = Callable[[Scope, str, str, str, Mapping[str, Any], str], None]


class Denied(Exception):
    """IAM says no; the message is AWS's.

    Args:
        decision: what was asked.
        principal: the session's or user's ARN, as the message names it.
        explicit: whether a statement denies it, rather than none allowing it.
    """

    def __init__(self, decision: Decision, principal: str, explicit: bool) -> None:
        reason = (
            "with an explicit deny in an identity-based policy"
            if explicit
            else f"because no identity-based policy allows the {decision.action} action"
        )
        asked = f"perform: {decision.action} on resource: {decision.resource}"
        super().__init__(f"User: {principal} is not authorized to {asked} {reason}")
        self.decision = decision


class Permissions:
    """Args:
    enforced: the switch. Off, every question is answered yes and nothing is kept.
    decide: asks IAM (ministack_host.enforce_iam); raises Denied.
    log: where each decision is kept; MiniStack's own questions too.
    """

    def __init__(self, enforced: bool, decide: Decide, log: DecisionLog) -> None:
        self.enforced, self.log = enforced, log
        self._decide = decide

    def check(
        self,
        scope: Scope,
        access_key: str,
        action: str,
        resource: str = "*",
        context: Mapping[str, Any] | None = None,
        because: str = "",
    ) -> None:
        """Ask whether the user or role session of an access key may do something.

        Args:
            access_key: of a user, of a role's session (ministack_host.role_credentials), or the account's own.
            action: such as "iam:PassRole".
            resource: an ARN, "*" for actions that know no resources.
            context: the request's condition keys, such as {"iam:PassedToService": "sagemaker.amazonaws.com"}; a value
                is a string or a list of them. Tags of MiniStack's resources are looked up; those of ours are given as
                "aws:ResourceTag/<key>". What describes the caller is known.
            because: the action that this one is asked for, when the caller did not call it itself.

        Raises:
            Denied: the caller may not.
        """
        if not self.enforced:
            return
        self._decide(scope, access_key, action, resource, context or {}, because)

    def settings(self) -> dict[str, Any]:
        """What `/_local_aws/permissions` answers: the switch, and every decision with how often it was made."""
        counts = self.log.counts()
        decisions = [decision.as_json() | {"count": count} for decision, count in counts.items()]
        return {"enforced": self.enforced, "decisions": decisions}

    def configure(self, settings: dict[str, Any]) -> None:
        """{"clear": true} forgets the decisions so far.

        Raises:
            ValueError: any other setting.
        """
        if settings != {"clear": True}:
            raise ValueError('permissions: the only setting is {"clear": true}; IAM is enforced or not from the start.')
        self.log.clear()
