"""What of a role's policies is needed: take away one thing, and ask again all that was asked. Pure.

What an answer rests on is decided by an evaluator that is given: ministack_host.policies_allow, the one that gave the
answers in the first place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from local_aws.permissions.decisions import Decision
from local_aws.permissions.identities import Document, as_list, statements

# (policies' documents) -> (decision -> whether these policies allow what was asked, in the context in which it was)
Evaluator = Callable[[Iterable[Document]], Callable[[Decision], bool]]
Kind = Literal["statement", "action", "resource"]
ELEMENTS: dict[Kind, str] = {"action": "Action", "resource": "Resource"}


@dataclass(frozen=True)
class Grant:
    """One thing that can be taken from what a policy allows.

    Args:
        policy: the policy's name.
        number: the statement's place in it, from 0.
        sid: the statement's Sid, or its number where it has none.
        kind: of what: an action, a resource (both as they are written, wildcards included), or the whole statement.
        text: the action, the resource; of a statement its sid.
    """

    policy: str
    number: int
    sid: str
    kind: Kind
    text: str


def grants(policies: Mapping[str, Document]) -> list[Grant]:
    """Every allowing statement, and each action and resource in it, in their order."""
    found: list[Grant] = []
    for policy, document in policies.items():
        for number, statement in enumerate(statements(document)):
            if statement.get("Effect") != "Allow":
                continue
            sid = statement.get("Sid") or str(number)
            found.append(Grant(policy, number, sid, "statement", sid))
            for kind, element in ELEMENTS.items():
                written = as_list(statement[element]) if element in statement else []
                found += [Grant(policy, number, sid, kind, text) for text in written]
    return found


def without(policies: Mapping[str, Document], grant: Grant) -> dict[str, Document]:
    """The policies with one thing less; a statement whose last action or resource goes, goes with it."""
    changed = statements(policies[grant.policy])
    statement = dict(changed.pop(grant.number))
    if grant.kind != "statement":
        element = ELEMENTS[grant.kind]
        statement[element] = [text for text in as_list(statement[element]) if text != grant.text]
        if statement[element]:
            changed.insert(grant.number, statement)
    return {**policies, grant.policy: {**policies[grant.policy], "Statement": changed}}


def only(policies: Mapping[str, Document], grant: Grant) -> Document:
    """A policy that allows this one thing: the statement, with this action or resource alone."""
    statement = dict(statements(policies[grant.policy])[grant.number])
    if grant.kind != "statement":
        statement[ELEMENTS[grant.kind]] = [grant.text]
    return {"Version": "2012-10-17", "Statement": [statement]}


def explained(
    policies: Mapping[str, Document], decisions: Iterable[Decision], allows: Evaluator
) -> tuple[list[Decision], list[Decision]]:
    """The decisions that were "yes" by the principal's own policies, and those of them that are "no" now.

    The latter were made when the policies were others, or in a context that was not kept.
    """
    asked = [one for one in decisions if one.allowed and not one.by_resource]
    still = allows(policies.values())
    return [one for one in asked if still(one)], [one for one in asked if not still(one)]


@dataclass(frozen=True)
class Replayed:
    """What rests on one grant.

    Args:
        allowed: the recorded questions that it answers with yes.
        denied: those of them that would be denied without it; none when nobody asked, or when something else allows
            it too.
    """

    allowed: tuple[Decision, ...]
    denied: tuple[Decision, ...]


def replay(policies: Mapping[str, Document], decisions: Iterable[Decision], allows: Evaluator) -> dict[Grant, Replayed]:
    """Take away each thing that is granted, in turn, and ask again what was asked and allowed.

    What the resource's own policy allows counts for nothing.

    Args:
        policies: of one role or user, by name.
        decisions: about it, whatever their answers.
        allows: ministack_host.policies_allow.
    """
    yes, _ = explained(policies, decisions, allows)
    found: dict[Grant, Replayed] = {}
    concerned: list[Decision] = []
    for grant in grants(policies):
        # A statement's actions and resources follow it, and answer none but its questions.
        by_itself = allows([only(policies, grant)])
        allowed = [one for one in (yes if grant.kind == "statement" else concerned) if by_itself(one)]
        if grant.kind == "statement":
            concerned = allowed
        still = allows(without(policies, grant).values()) if allowed else by_itself
        found[grant] = Replayed(tuple(allowed), tuple(one for one in allowed if not still(one)))
    return found
