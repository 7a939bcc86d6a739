"""What Application Auto Scaling remembers: scalable targets, their policies, and what scaling did."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from local_aws.calls import Request, ServiceError, validation_error
from local_aws.loopback import Loopback
from local_aws.store import Document, Scope, Store

INSTANCES = "sagemaker:variant:DesiredInstanceCount"
CONCURRENCY = "sagemaker:variant:DesiredProvisionedConcurrency"
# What activities call a capacity. The first is AWS's; the second is said in the same way (an inference).
NOUNS = {INSTANCES: "instance count", CONCURRENCY: "provisioned concurrency"}
MOST_ACTIVITIES = 100  # of a target; AWS keeps them for six weeks

_RESOURCE = re.compile(r"endpoint/([a-zA-Z0-9-]{1,63})/variant/([a-zA-Z0-9-]{1,63})")


@dataclass(frozen=True)
class Variant:
    """The endpoint's variant that a scalable target scales, in one dimension."""

    endpoint: str
    name: str
    dimension: str

    @property
    def resource_id(self) -> str:
        return f"endpoint/{self.endpoint}/variant/{self.name}"

    @property
    def key(self) -> str:
        return f"{self.dimension}|{self.resource_id}"

    @property
    def members(self) -> dict[str, str]:
        """As requests and answers name it."""
        return {
            "ServiceNamespace": "sagemaker",
            "ResourceId": self.resource_id,
            "ScalableDimension": self.dimension,
        }

    def __str__(self) -> str:
        """As AWS's errors name it."""
        return f"service namespace: sagemaker, resource ID: {self.resource_id}, scalable dimension: {self.dimension}"


def variant_of(request: Request) -> Variant:
    """The variant that a request is about.

    Raises:
        ServiceError: ValidationException for what cannot be scaled, or not here.
    """
    _check_namespace(request)
    match = _RESOURCE.fullmatch(request["ResourceId"])
    dimension = request["ScalableDimension"]
    if match is None or dimension not in NOUNS:
        raise validation_error(
            "Unsupported service namespace, resource type or scalable dimension. local_aws scales ResourceId"
            f" endpoint/<name>/variant/<name> in {' and '.join(NOUNS)}; given are {request['ResourceId']!r} and"
            f" {dimension!r}."
        )
    return Variant(match[1], match[2], dimension)


def check_filters(request: Request) -> None:
    """Whether a Describe call may ask so.

    Raises:
        ServiceError: ValidationException.
    """
    _check_namespace(request)
    if "ScalableDimension" in request and not (request.get("ResourceId") or request.get("ResourceIds")):
        raise validation_error("ScalableDimension can only be given together with a resource ID.")


def _check_namespace(request: Request) -> None:
    if request["ServiceNamespace"] != "sagemaker":
        raise validation_error(f"ServiceNamespace {request['ServiceNamespace']!r} is not supported by local_aws.")


class State:
    """The tables. A document's "answer" is what Describe calls answer of it."""

    def __init__(self, store: Store, loopback: Loopback) -> None:
        self.lock = store.lock
        self.targets = store.table("scalable-target")  # beside "answer": "tags" and "bounds_changed"
        self.policies = store.table("scaling-policy")
        self.activities = store.table("scaling-activity")  # beside "answer": "target" (its key), "before", "after"
        self._linked_roles = store.table("service-linked-role")
        self.loopback = loopback

    def link_role(self, scope: Scope) -> None:
        """The account's first scalable target makes its service-linked role (local_aws.permissions asks for it)."""
        account = Scope(scope.account, "")
        if self._linked_roles.get(account, "sagemaker") is None:
            self._linked_roles.put(account, "sagemaker", {})

    def target(self, scope: Scope, variant: Variant) -> Document:
        """A scalable target.

        Raises:
            ServiceError: ObjectNotFoundException when it is not registered.
        """
        document = self.targets.get(scope, variant.key)
        if document is None:
            raise ServiceError("ObjectNotFoundException", f"No scalable target found for {variant}")
        return document

    def policies_of(self, scope: Scope, variant: Variant) -> list[Document]:
        return [
            document
            for document in self.policies.values(scope)
            if document["answer"].items() >= variant.members.items()
        ]

    def add_activity(self, scope: Scope, variant: Variant, activity: dict[str, Any], before: int, after: int) -> None:
        with self.lock:
            document = {"answer": activity, "target": variant.key, "before": before, "after": after}
            self.activities.put(scope, activity["ActivityId"], document)
            for old in self.activities_of(scope, variant)[:-MOST_ACTIVITIES]:
                self.activities.delete(scope, old["answer"]["ActivityId"])

    def end_activity(self, scope: Scope, document: Document, status: str, message: str) -> None:
        ending = {"EndTime": now(), "StatusCode": status, "StatusMessage": message}
        changed = document | {"answer": document["answer"] | ending}
        self.activities.put(scope, document["answer"]["ActivityId"], changed)

    def activities_of(self, scope: Scope, variant: Variant) -> list[Document]:
        """What scaling did with a target, the oldest first."""
        return [document for document in self.activities.values(scope) if document["target"] == variant.key]

    def endpoint(self, scope: Scope, variant: Variant) -> tuple[str, int] | None:
        """The endpoint's status, and the capacity that the variant is to have.

        Returns:
            None when there is no such endpoint, or it has no such variant that could be scaled in this dimension.
        """
        try:
            described = self.loopback.client("sagemaker", scope).describe_endpoint(EndpointName=variant.endpoint)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationException":
                raise
            return None
        for each in described.get("ProductionVariants", []):
            if each["VariantName"] == variant.name:
                capacity = _capacity(each, variant.dimension)
                return None if capacity is None else (described["EndpointStatus"], capacity)
        return None


def _capacity(described: dict[str, Any], dimension: str) -> int | None:
    """The desired capacity of a variant as DescribeEndpoint answers it; None when it has none in this dimension."""
    if dimension == CONCURRENCY:
        serverless = described.get("DesiredServerlessConfig") or described.get("CurrentServerlessConfig") or {}
        return serverless.get("ProvisionedConcurrency")
    return described.get("DesiredInstanceCount", described.get("CurrentInstanceCount"))


def now() -> float:
    """Seconds since the epoch, in whole milliseconds, never in the future."""
    return time.time_ns() // 10**6 / 1000
