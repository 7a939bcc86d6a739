"""What policies would have answered to questions that were asked.

Touches: `iam_evaluator`'s parser and evaluator.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from local_aws.permissions import Decision


def policies_allow(policies: Iterable[Mapping[str, Any]]) -> Callable[[Decision], bool]:
    """Whether policies allow what was asked, by the evaluator that answered it, in the context in which it was asked.

    Args:
        policies: documents of one principal's own policies; resources' policies and boundaries are left out.
    """
    from ministack.core import iam_evaluator

    parsed = [statement for document in policies for statement in iam_evaluator.parse_policy_document(dict(document))]

    @functools.cache
    def about(action: str) -> list[Any]:
        """The statements that can say anything about an action: the others cost time only."""
        return [one for one in parsed if iam_evaluator._action_matches(action, one.actions, one.not_actions)]

    def allow(decision: Decision) -> bool:
        statements = about(decision.action)
        return bool(statements) and (iam_evaluator.evaluate(_question(decision), [statements]).decision == "Allow")

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
