"""Faults on demand: the n-th call of an operation fails, is throttled, delayed or dropped, or its caller is killed.

Rules are data, set by the switch "faults" (local_aws.control_calls); local_aws.watched_calls does what they say.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, get_args, get_type_hints

from local_aws.api_calls import WatchedCall, known_service, services_signed_as
from local_aws.git import github_calls
from local_aws.request_checks import service_model

KINDS = ("error", "throttle", "delay", "drop", "kill")
MOMENTS = ("before", "after")
LONGEST_DELAY = 900.0  # seconds: longer than any client of ours waits, and a function may run
# What may be said beside service, operation, caller, nth, times, kind and when.
OF_KIND: dict[str, frozenset[str]] = {
    "error": frozenset({"code", "status", "message"}),
    "throttle": frozenset({"code", "status", "message"}),
    "delay": frozenset({"seconds"}),
    "drop": frozenset(),
    "kill": frozenset(),
}
# Answered by a process of its own, which knows its callers by their account alone (local_aws.data_plane).
OUT_OF_REACH = frozenset({"sagemaker-runtime"})


@dataclass(frozen=True)
class Rule:
    """What happens to some calls of one operation.

    Args:
        service: boto3's name, such as "sagemaker", or "github".
        operation: such as "UpdateEndpoint"; GitHub's are in local_aws.git.github_calls.
        kind: "error", "throttle" (the service's own way to say "too many calls"), "delay", "drop" (the connection is
            closed without an answer) or "kill" (the process of the function that calls is ended; calls of others do
            not match).
        when: "before" (the call is not executed; one that is delayed is executed then) or "after" (it is executed,
            and its answer replaced, lost or late).
        caller: a part of the caller's ARN: arn:aws:sts::<account>:assumed-role/<role>/<session>, where the session of
            a function has the function's name; arn:aws:iam::<account>:root. None: anybody.
        nth: which of the matching calls is the first that it happens to, from 1, since the rules were set.
        times: to how many in a row; None: to every later one.
        code, status, message: of an error, or instead of the service's own of a throttle. GitHub's errors have no
            code; for a throttle of it "SecondaryRateLimit" (the default) or "PrimaryRateLimit" is meant.
        seconds: of a delay; of this machine's, since the client's time-outs are.
    """

    service: str
    operation: str
    kind: str
    when: str = "before"
    caller: str | None = None
    nth: int = 1
    times: int | None = 1
    code: str | None = None
    status: int | None = None
    message: str | None = None
    seconds: float | None = None

    def hits(self, number: int) -> bool:
        """Whether it happens to the matching call of this number, from 1."""
        return number >= self.nth and (self.times is None or number < self.nth + self.times)

    def error(self, call: WatchedCall) -> tuple[str, str, int]:
        """Code, message and HTTP status of an error or a throttle."""
        code, message, status = call.throttling(self.code) if self.kind == "throttle" else call.failing()
        return self.code or code, self.message or message, self.status or status

    def as_json(self) -> dict[str, Any]:
        """As it was set, with the defaults that matter."""
        always = ("service", "operation", "kind", "when", "nth", "times")
        return {name: value for name, value in vars(self).items() if name in always or value is not None}


def read_rule(given: dict[str, Any], number: int) -> Rule:
    """A rule from JSON.

    Args:
        number: its place among the rules, from 1, for the message.

    Raises:
        ValueError: what is wrong with it.
    """
    try:
        return _read_rule(given)
    except ValueError as error:
        raise ValueError(f"faults: rule {number} ({given.get('service')}:{given.get('operation')}): {error}") from error


def _read_rule(given: dict[str, Any]) -> Rule:
    types = get_type_hints(Rule)
    if unknown := sorted(given.keys() - types.keys()):
        raise ValueError(f"a rule has no {', '.join(unknown)}; it has {', '.join(types)}.")
    if missing := [name for name in ("service", "operation", "kind") if name not in given]:
        raise ValueError(f"{', '.join(missing)} must be given.")
    for name, value in given.items():
        allowed = get_args(types[name]) or (types[name],)
        number = isinstance(value, int) and not isinstance(value, bool) and float in allowed
        if type(value) not in allowed and not number:
            raise ValueError(f"{name} {value!r} is of the wrong type.")
    rule = Rule(**given)
    if rule.kind not in KINDS:
        raise ValueError(f"there is no kind {rule.kind!r}; there are {', '.join(KINDS)}.")
    if rule.when not in MOMENTS:
        raise ValueError(f"when {rule.when!r} is neither before nor after.")
    if stray := sorted(given.keys() & frozenset().union(*OF_KIND.values()) - OF_KIND[rule.kind]):
        raise ValueError(f"{', '.join(stray)} means nothing to kind {rule.kind!r}.")
    _check_operation(rule)
    _check_numbers(rule)
    return rule


def _check_operation(rule: Rule) -> None:
    if rule.service == github_calls.SERVICE:
        _check_known(rule, github_calls.OPERATIONS)
        if rule.code is not None and (rule.kind != "throttle" or rule.code not in github_calls.LIMITS):
            limits = " or ".join(github_calls.LIMITS)
            raise ValueError(f"code {rule.code!r} means nothing to GitHub; a throttle's is {limits}.")
        return
    if not known_service(rule.service):
        raise ValueError(f"there is no service {rule.service!r}; give boto3's name, such as sagemaker or cloudwatch.")
    if rule.service in OUT_OF_REACH:
        raise ValueError(
            f"{rule.service} is answered by a process of its own, which no rule reaches. Kill that process, or the"
            ' endpoint\'s containers, with the switch "processes".'
        )
    model = service_model(rule.service)
    _check_known(rule, model.operation_names)
    if rule.service not in services_signed_as(model.signing_name):
        raise ValueError(
            f"local_aws does not tell calls of {rule.service} from those of other services that are signed for"
            f" {model.signing_name!r}; name it in local_aws.api_calls.SIGNED_AS."
        )


def _check_known(rule: Rule, operations: Collection[str]) -> None:
    if rule.operation not in operations:
        near = difflib.get_close_matches(rule.operation, operations, n=1)
        meant = f"; do you mean {near[0]}?" if near else "."
        raise ValueError(f"{rule.service} has no operation {rule.operation!r}{meant}")


def _check_numbers(rule: Rule) -> None:
    if rule.nth < 1:
        raise ValueError(f"nth {rule.nth}: calls are counted from 1.")
    if rule.times is not None and rule.times < 1:
        raise ValueError(f"times {rule.times}: give 1 or more, or null for every later call.")
    if rule.status is not None and not 400 <= rule.status <= 599:
        raise ValueError(f"status {rule.status} is no error's; give 400 to 599.")
    if rule.kind == "delay" and not 0 < (rule.seconds or 0) <= LONGEST_DELAY:
        raise ValueError(f"seconds {rule.seconds}: a delay has more than 0 and at most {LONGEST_DELAY:g}.")


@dataclass(frozen=True)
class _Count:
    rule: Rule
    matched: int = 0
    hit: int = 0


class Faults:
    """The rules that are set, and how often each was hit. On the server's event loop only."""

    def __init__(self) -> None:
        self._counts: list[_Count] = []

    @property
    def active(self) -> bool:
        return bool(self._counts)

    def take(self, call: WatchedCall, caller: str, by_function: bool) -> Rule | None:
        """Count a call; answers the rule that it is hit by, the first one when there are several.

        Args:
            caller: ARN of who calls; empty when it is nobody that AWS knows.
            by_function: whether a function of this server calls.
        """
        taken = None
        for place, count in enumerate(self._counts):
            rule = count.rule
            if (rule.service, rule.operation) != (call.service, call.operation_name):
                continue
            if rule.caller is not None and rule.caller not in caller:
                continue
            if rule.kind == "kill" and not by_function:
                continue
            number = count.matched + 1
            hit = taken is None and rule.hits(number)
            taken = rule if hit else taken
            self._counts[place] = replace(count, matched=number, hit=count.hit + hit)
        return taken

    def settings(self) -> dict[str, Any]:
        """For the switch: the rules, with how many calls matched and how many were hit."""
        rules = [count.rule.as_json() | {"matched": count.matched, "hit": count.hit} for count in self._counts]
        return {"rules": rules}

    def configure(self, settings: dict[str, Any]) -> None:
        """Set the rules anew, {"rules": [...]}, counting from nothing; none at all when one of them is wrong.

        Raises:
            ValueError: what is wrong.
        """
        rules = settings.get("rules")
        if settings.keys() != {"rules"} or not isinstance(rules, list) or not all(isinstance(r, dict) for r in rules):
            raise ValueError('faults: the settings are {"rules": [...]}, each rule a JSON object; [] ends them all.')
        self._counts = [_Count(read_rule(given, number)) for number, given in enumerate(rules, 1)]
