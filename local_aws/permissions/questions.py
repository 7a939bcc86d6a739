"""What a request asks IAM: questions, the parts that several operations' questions have, and what they look up.

Which resources and condition keys an action knows: https://docs.aws.amazon.com/service-authorization/latest/reference/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from local_aws.store import Document, Scope, Store

Request = dict[str, Any]
Context = dict[str, str | list[str]]


@dataclass(frozen=True)
class Question:
    """Whether the caller may do something.

    Args:
        action: such as "sagemaker:CreateModel".
        resource: an ARN, "*" for actions that know no resources.
        context: the request's condition keys.
        because: the action that this one depends on, when the caller did not call it itself.
    """

    action: str
    resource: str = "*"
    context: Mapping[str, str | list[str]] = field(default_factory=dict)
    because: str = ""


class Known:
    """What our services know of resources, for those who ask about them. Nothing here tells whether they exist.

    Args:
        store: of our services.
        scope: the caller's.
        kms_key: the ARN of the key that an id, an alias or an ARN stands for.
        caller: ARNs of the user or role that asks, and of its session; None for the account itself.
    """

    def __init__(
        self,
        store: Store,
        scope: Scope,
        kms_key: Callable[[Scope, str], str],
        caller: tuple[str, str] | None = None,
    ) -> None:
        self._store, self.scope, self._kms_key = store, scope, kms_key
        self.principal, self.session = caller or ("", "")

    def arn(self, service: str, resource: str) -> str:
        return f"arn:aws:{service}:{self.scope.region}:{self.scope.account}:{resource}"

    def tags(self, arn: str) -> dict[str, str]:
        """A SageMaker resource's tags; a version's are those of its group, an execution's those of its pipeline."""
        kind, _, name = arn.split(":", 5)[5].partition("/") if arn.count(":") >= 5 else ("", "", "")
        if kind == "model-package" and "/" in name:
            arn = self.arn("sagemaker", f"model-package-group/{name.partition('/')[0]}")
        elif kind == "pipeline":
            arn = arn.partition("/execution/")[0]
        return dict(self._document("tags", arn))

    def package(self, arn: str) -> Document:
        return self._document("model_packages", arn.partition(":model-package/")[2])

    def endpoint(self, name: str) -> Document:
        return self._document("endpoints", name.lower())

    def endpoint_config(self, name: str) -> Document:
        return self._document("endpoint_configs", name.lower())

    def pull_request(self, number: str) -> Document:
        """CodeCommit's."""
        return self._document("codecommit-pull-requests", number)

    def kms_key(self, key: str) -> str:
        return self._kms_key(self.scope, key)

    def scalable_targets(self, prefix: str, dimension: str | None = None) -> list[Document]:
        """The registered scalable targets whose ResourceId begins so."""
        return [
            target
            for target in self._store.table("scalable-target").values(self.scope)
            if target["answer"]["ResourceId"].lower().startswith(prefix.lower())
            and dimension in (None, target["answer"]["ScalableDimension"])
        ]

    def scaling_policies(self, target: Mapping[str, Any]) -> list[Document]:
        """The policies of a target, which a request's or an answer's ResourceId and ScalableDimension name."""
        names = ("ResourceId", "ScalableDimension")
        return [
            policy
            for policy in self._store.table("scaling-policy").values(self.scope)
            if all(policy["answer"][name] == target[name] for name in names)
        ]

    def linked_role(self) -> bool:
        """Whether Application Auto Scaling has its service-linked role for SageMaker in the account."""
        return self._store.table("service-linked-role").get(Scope(self.scope.account, ""), "sagemaker") is not None

    def has_domain(self) -> bool:
        """Whether there is a Studio domain in the account and Region."""
        return bool(self._store.table("domains").values(self.scope))

    def product_id(self, name: str) -> str:
        """Of Service Catalog's product of that name; empty when there is none."""
        products = self._store.table("catalog_products").values(self.scope)
        return next((str(each["Id"]) for each in products if each["Name"] == name), "")

    def catalog_tags(self, kind: str, key: str) -> dict[str, str]:
        """Of a portfolio ("catalog_portfolios") or a product ("catalog_products")."""
        return dict(self._document(kind, key).get("Tags", {}))

    def provisioned_product(self, key: str | None, name: str | None) -> Document:
        """By its id, or by its name or ARN."""
        products = self._store.table("catalog_provisioned_products").values(self.scope)
        return next((each for each in products if each["Id"] == key or name in (each["Name"], each["Arn"])), {})

    def catalog_record(self, key: str) -> Document:
        return self._document("catalog_records", key)

    def _document(self, kind: str, key: str) -> Document:
        return self._store.table(kind).get(self.scope, key) or {}


# (action, request, what is known) -> the questions, in the order in which they are asked
Ask = Callable[[str, Request, Known], list[Question]]


def nothing_in_particular(action: str, request: Request, known: Known) -> list[Question]:
    """Of an action that knows no resources."""
    return [Question(action)]


def tags_in_request(tags: Mapping[str, str] | Sequence[Mapping[str, str]] | None) -> Context:
    """aws:RequestTag/<key> of each tag, and aws:TagKeys; nothing for a request without tags."""
    if not tags:
        return {}
    pairs = tags if isinstance(tags, Mapping) else {tag["Key"]: tag["Value"] for tag in tags}
    return {f"aws:RequestTag/{key}": value for key, value in pairs.items()} | {"aws:TagKeys": list(pairs)}


def resource_tags(tags: Mapping[str, str]) -> Context:
    return {f"aws:ResourceTag/{key}": value for key, value in tags.items()}


def pass_role(role: str, service: str, because: str) -> Question:
    """Args:
    service: that the role is passed to, such as "sagemaker.amazonaws.com".
    """
    return Question("iam:PassRole", role, {"iam:PassedToService": service}, because)


def use_keys(known: Known, keys: Iterable[str], because: str) -> list[Question]:
    """A volume is encrypted by a grant that whoever asks for it gives SageMaker on the key."""
    context: Context = {"kms:ViaService": f"sagemaker.{known.scope.region}.amazonaws.com"}
    questions = []
    for key in keys:
        arn = known.kms_key(key)
        questions.append(Question("kms:DescribeKey", arn, context, because))
        questions.append(Question("kms:CreateGrant", arn, context | {"kms:GrantIsForAWSResource": "true"}, because))
    return questions


def known_keys(**values: Any) -> Context:
    """SageMaker's condition keys, by their names without the prefix, of those that the request has.

    A list is a key of several values; "true" and "false" are Booleans.
    """
    return {f"sagemaker:{name}": _text(value) for name, value in values.items() if value not in (None, [], "")}


def _text(value: Any) -> str | list[str]:
    if isinstance(value, bool):
        return str(value).lower()
    return [str(each) for each in value] if isinstance(value, list | tuple | set) else str(value)
