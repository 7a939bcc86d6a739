"""Per user and role: what its policies grant, what of that was used and is needed, and what was denied.

Made from IAM itself (identities.read_identities) and from the decisions that local_aws keeps while IAM is enforced.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from local_aws.permissions.decisions import Decision
from local_aws.permissions.identities import Identity
from local_aws.permissions.replay import Evaluator, Grant, explained, replay

# (a role's or user's name) -> (policy/Sid) -> why the whole statement, or each action or resource of it, is granted
# though nobody uses it; a reason that begins with AT_TIMES is one for what some runs use and others do not. Names,
# statements, actions and resources may be patterns (fnmatch).
Exceptions = Mapping[str, Mapping[str, str | Mapping[str, str]]]
AT_TIMES = "at times: "
PIPED_WIDTH = 160  # characters a line where no terminal says how many there are


@dataclass(frozen=True)
class Use:
    """What became of one thing that is granted.

    Args:
        grant: the action, resource or statement.
        count: how many questions it answered with yes.
        on: the resources that were asked about.
        needed: whether some of these questions would be denied without it.
    """

    grant: Grant
    count: int
    on: tuple[str, ...]
    needed: bool


@dataclass(frozen=True)
class Denial:
    """A question that was answered with no.

    Args:
        because: the action or service that it was asked for, empty where the principal asked itself.
    """

    action: str
    resource: str
    because: str
    count: int


@dataclass(frozen=True)
class IdentityReport:
    """Of one user or role.

    Args:
        arn: with its path; of an AWS service its name, such as "sns.amazonaws.com".
        exists: whether IAM still has it.
        uses: of every statement, action and resource in its policies.
        denied: what it was refused.
        unexplained: what it was allowed once and would be denied by its policies as they are now.
    """

    arn: str
    exists: bool
    uses: tuple[Use, ...]
    denied: tuple[Denial, ...]
    unexplained: tuple[Decision, ...]

    @property
    def name(self) -> str:
        return self.arn.rpartition("/")[2]

    @property
    def actions(self) -> list[Use]:
        return [use for use in self.uses if use.grant.kind == "action"]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"unexplained": [decision.as_json() for decision in self.unexplained]}


def counted(settings: Mapping[str, Any]) -> dict[Decision, int]:
    """The decisions and how often each was made, as a server's settings("permissions") have them."""
    return {Decision.from_json(one): one["count"] for one in settings["decisions"]}


def report(
    identities: Iterable[Identity], decisions: Mapping[Decision, int], allows: Evaluator
) -> list[IdentityReport]:
    """One report for each user and role, for each that is there no more but was asked about, and for each AWS service
    that a resource's policy did not let in; sorted by ARN or name.

    Args:
        decisions: with how often each was made (`counted`).
        allows: ministack_host.policies_allow.
    """
    about: dict[str, list[Decision]] = {identity.arn: [] for identity in identities}
    known = {identity.arn: identity for identity in identities}
    for decision in decisions:
        about.setdefault(decision.principal, []).append(decision)
    reports = [_of_one(arn, known.get(arn), about[arn], decisions, allows) for arn in sorted(about)]
    return [one for one in reports if one.arn.startswith("arn:") or one.denied]


def _of_one(
    arn: str,
    identity: Identity | None,
    about: Sequence[Decision],
    counts: Mapping[Decision, int],
    allows: Evaluator,
) -> IdentityReport:
    policies = identity.policies if identity else {}
    _, unexplained = explained(policies, about, allows)
    uses = [
        Use(
            grant,
            sum(counts[decision] for decision in replayed.allowed),
            tuple(sorted({decision.resource for decision in replayed.allowed})),
            bool(replayed.denied),
        )
        for grant, replayed in replay(policies, about, allows).items()
    ]
    refused: dict[tuple[str, str, str], int] = {}
    for decision in about:
        if not decision.allowed:
            key = (decision.action, decision.resource, decision.because)
            refused[key] = refused.get(key, 0) + counts[decision]
    denied = tuple(Denial(*key, count) for key, count in sorted(refused.items()))
    return IdentityReport(arn, identity is not None, tuple(uses), denied, tuple(unexplained if identity else ()))


# What is granted and not needed.


def unneeded(reports: Iterable[IdentityReport], exceptions: Exceptions) -> list[str]:
    """One line for each fault: an action or resource that is granted, not needed, and not among the exceptions; an
    exception that is needed; and one about nothing that these users and roles are granted.
    """
    lines = []
    for one in reports:
        found = {
            (statement, pattern): reason
            for name, by_statement in exceptions.items()
            if fnmatch.fnmatchcase(one.name, name)
            for statement, reasons in by_statement.items()
            for pattern, reason in ({"*": reasons} if isinstance(reasons, str) else reasons).items()
        }
        hit = set()
        for use in one.uses:
            if use.grant.kind == "statement":
                continue
            place = f"{use.grant.policy}/{use.grant.sid}"
            excepted = [key for key in found if _matches(place, key[0]) and _matches(use.grant.text, key[1])]
            hit |= set(excepted)
            if not use.needed and not excepted:
                why = f"never used ({use.grant.kind})" if not use.count else "something else allows it too"
                lines.append(f"{one.name}: {place}: {use.grant.text}: {why}")
            lines += [
                f"{one.name}: {place}: {use.grant.text}: excepted ({found[key]}), yet it is needed"
                for key in excepted
                if use.needed and not found[key].startswith(AT_TIMES)
            ]
        lines += [
            f"{one.name}: {statement}: {pattern}: an exception, yet nothing of that is granted"
            for statement, pattern in found
            if (statement, pattern) not in hit
        ]
    return lines


def _matches(text: str, pattern: str) -> bool:
    return text == pattern or fnmatch.fnmatchcase(text, pattern)


# On the screen.


def render(reports: Iterable[IdentityReport], console: Console) -> None:
    """Each user and role in full: a line for each granted action, and one for each question that was denied."""
    for one in reports:
        table = Table(box=box.SIMPLE, pad_edge=False)
        for column in ("policy/statement", "action", "used", "on"):
            table.add_column(column, justify="right" if column == "used" else "left", overflow="fold")
        for use in one.actions:
            place = f"{use.grant.policy}/{use.grant.sid}"
            note = "" if use.needed or not use.count else "; something else allows it too"
            style = None if use.needed else "yellow"
            used = str(use.count) if use.count else "never"
            table.add_row(*map(escape, (place, use.grant.text, used, _shortened(use.on) + note)), style=style)
        for denial in one.denied:
            row = ("denied", denial.action, str(denial.count), shortened(denial.resource) + _for(denial.because))
            table.add_row(*map(escape, row), style="red")
        _print(one, table, console)
        if one.unexplained:
            actions = ", ".join(sorted({decision.action for decision in one.unexplained}))
            console.print(f"[yellow]Allowed once, by policies that are no more: {escape(actions)}[/]")


def render_compact(reports: Iterable[IdentityReport], console: Console) -> None:
    """One table with a line for each, users before roles: how many actions it is granted, used and never used, and how
    many questions were denied; below it what these were.
    """
    reports = sorted(reports, key=lambda one: not one.arn.split(":", 5)[-1].startswith("user/"))
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("who", overflow="fold")
    for column in ("granted", "used", "never used", "denied"):
        table.add_column(column, justify="right")
    for one in reports:
        denied = sum(each.count for each in one.denied)
        style = "red" if denied else None
        table.add_row(escape(_who(one)), *_granted_used_never(one), str(denied), style=style)
    if table.row_count:
        console.print(table, soft_wrap=False)
    for one in reports:
        for each in one.denied:
            question = f"{each.action} on {shortened(each.resource)}{_for(each.because)}"
            console.print(f"denied {each.count}: {_who(one)}: {question}", style="red", markup=False, soft_wrap=True)


def _granted_used_never(one: IdentityReport) -> tuple[str, str, str]:
    """How many actions; a user or role that may do everything has no count of what it does not do."""
    granted = {use.grant.text for use in one.actions}
    used = {use.grant.text for use in one.actions if use.count}
    if "*" in granted:
        return "everything", "", ""
    return (str(len(granted)), str(len(used)), str(len(granted - used))) if one.exists else ("", "", "")


def _print(one: IdentityReport, table: Table, console: Console) -> None:
    console.print(_title(one), style="bold", markup=False, soft_wrap=True)
    if table.row_count:
        console.print(table, soft_wrap=False)


def _title(one: IdentityReport) -> str:
    if not one.arn.startswith("arn:"):
        return f"{_who(one)}: {len(one.denied)} denied by resources' policies"
    if not one.exists:
        return f"{_who(one)}; {len(one.denied)} denied"
    actions = {use.grant.text for use in one.actions}
    used = {use.grant.text for use in one.actions if use.count}
    return f"{_who(one)}: {len(used)} of {len(actions)} granted actions used, {len(one.denied)} denied"


def _who(one: IdentityReport) -> str:
    if not one.arn.startswith("arn:"):
        return f"service {one.arn}"
    kind = one.arn.split(":", 5)[5].partition("/")[0]
    return f"{kind} {one.name}" if one.exists else f"{kind} {one.name}: there no more"


def shortened(arn: str) -> str:
    """What is particular about an ARN: without partition, service, Region and account."""
    return arn.split(":", 5)[5] if arn.startswith("arn:") and arn.count(":") >= 5 else arn


def _shortened(arns: Sequence[str], most: int = 2) -> str:
    named = ", ".join(map(shortened, arns[:most]))
    return f"{named} and {len(arns) - most} more" if len(arns) > most else named


def _for(because: str) -> str:
    return f" (for {because})" if because else ""
