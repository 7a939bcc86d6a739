"""Whom roles trust: whether a trust policy lets an AWS service assume the role, and what identity providers vouch for.

IAM user guide, "The confused deputy problem": a service says for which account and resource it acts.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local_aws.permissions.identities import as_list

_IF_EXISTS = "ifexists"


@dataclass(frozen=True)
class Provider:
    """An identity provider as it is registered in IAM.

    Args:
        issuer: its URL, which tokens name as theirs.
        audiences: whom tokens may be meant for (client ids).
    """

    issuer: str
    audiences: tuple[str, ...]


def audience_fault(claims: Mapping[str, Any], provider: Provider | None) -> str | None:
    """What STS says against a token whose signature is good; None: nothing.

    Args:
        claims: the token's.
        provider: the account's with the token's issuer; None: there is none.
    """
    if provider is None:
        return f"No OpenIDConnect provider found in your account for {claims['iss']}"
    meant_for = {str(each) for each in as_list(claims.get("aud"))}
    return None if meant_for & set(provider.audiences) else "Incorrect token audience"


def trusts_service(policy: Any, service: str, context: Mapping[str, str]) -> bool:
    """Whether a statement allows it, and none denies it.

    Args:
        policy: a trust policy as IAM answers it; what is no policy trusts nobody.
        service: such as "sagemaker.amazonaws.com".
        context: condition keys that the service sends, such as {"aws:SourceAccount": "123456789012"}.
    """
    if not isinstance(policy, dict):
        return False
    known = {key.lower(): value for key, value in context.items()}
    effects = {
        statement.get("Effect")
        for statement in as_list(policy.get("Statement", []))
        if isinstance(statement, dict) and _names(statement.get("Principal"), service) and _holds(statement, known)
    }
    return "Allow" in effects and "Deny" not in effects


def _names(principal: Any, service: str) -> bool:
    services = as_list(principal.get("Service", [])) if isinstance(principal, dict) else []
    return principal == "*" or "*" in services or service in services


def _holds(statement: Mapping[str, Any], context: Mapping[str, str]) -> bool:
    conditions = statement.get("Condition") or {}
    return all(
        _compare(operator.lower(), context.get(key.lower()), [str(value) for value in as_list(expected)])
        for operator, keys in conditions.items()
        for key, expected in keys.items()
    )


def _compare(operator: str, actual: str | None, expected: list[str]) -> bool:
    """One operator; one that no trust of a service needs holds never, so that nobody is trusted by mistake."""
    if operator == "null":
        return (actual is None) == ([each.lower() for each in expected[:1]] == ["true"])
    if actual is None and operator.endswith(_IF_EXISTS):
        return True
    operator = operator.removesuffix(_IF_EXISTS)
    negated = "not" in operator
    compare = _OPERATORS.get(operator.replace("not", ""))
    if compare is None:
        return False
    if actual is None:
        return negated
    return any(compare(actual, each) for each in expected) != negated


def _like(actual: str, pattern: str) -> bool:
    # "*" and "?" are IAM's only wildcards; fnmatch would read brackets too.
    return fnmatch.fnmatchcase(actual, re.sub(r"\[", "[[]", pattern))


_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "stringequals": lambda actual, expected: actual == expected,
    "stringequalsignorecase": lambda actual, expected: actual.lower() == expected.lower(),
    "stringlike": _like,
    "arnequals": _like,
    "arnlike": _like,
}
