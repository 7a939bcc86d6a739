"""Studio domains, as data: nothing runs in them here. Their tags say where Studio finds project templates."""

from __future__ import annotations

import secrets
from typing import Any

from local_aws.calls import Call, Operation, Request, Response, ServiceError, page
from local_aws.loopback import Loopback
from local_aws.sagemaker.roles import check_role
from local_aws.sagemaker.tags import Tags
from local_aws.sagemaker.times import now
from local_aws.store import Document, Scope, Store

_SUMMARY = ("DomainArn", "DomainId", "DomainName", "Status", "CreationTime", "LastModifiedTime", "Url")


class Domains:
    """Domains by their ids."""

    def __init__(self, store: Store, tags: Tags, loopback: Loopback) -> None:
        self._lock, self._tags, self._loopback = store.lock, tags, loopback
        self._domains = store.table("domains")
        tags.know(lambda scope, arn: self._domains.get(scope, arn.rpartition("/")[2]) is not None)

    def operations(self) -> dict[str, Operation]:
        return {
            "CreateDomain": self.create,
            "DescribeDomain": self.describe,
            "ListDomains": self.list,
            "DeleteDomain": self.delete,
        }

    def create(self, call: Call, request: Request) -> Response:
        """Keep a domain; it is InService at once.

        Raises:
            ServiceError: ResourceInUse: the name is taken; ValidationException: its execution role is not there, or
                SageMaker cannot assume it.
        """
        domain_id = f"d-{''.join(secrets.choice('abcdefghijklmnopqrstuvwxyz0123456789') for _ in range(12))}"
        arn = call.arn(f"domain/{domain_id}")
        role = request["DefaultUserSettings"].get("ExecutionRole")
        if role is not None:
            check_role(self._loopback, call.scope, role, arn)
        document: dict[str, Any] = {name: value for name, value in request.items() if name != "Tags"}
        document |= {
            "DomainArn": arn,
            "DomainId": domain_id,
            "Status": "InService",
            "CreationTime": now(),
            "LastModifiedTime": now(),
            "Url": f"https://{domain_id}.studio.{call.scope.region}.sagemaker.aws",
        }
        with self._lock:
            if any(each["DomainName"] == request["DomainName"] for each in self._domains.values(call.scope)):
                raise ServiceError(
                    "ResourceInUse", f"Domain {request['DomainName']} already exists. Choose another name."
                )
            self._tags.set_on_create(call, arn, request.get("Tags"))
            self._domains.put(call.scope, domain_id, document)
        return {"DomainArn": arn, "DomainId": domain_id, "Url": document["Url"]}

    def describe(self, call: Call, request: Request) -> Response:
        return dict(self._domain(call.scope, request["DomainId"]))

    def list(self, call: Call, request: Request) -> Response:
        found, more = page(self._domains.values(call.scope), request, position=_position)
        return {"Domains": [{name: each[name] for name in _SUMMARY} for each in found], **more}

    def delete(self, call: Call, request: Request) -> Response:
        with self._lock:
            domain = self._domain(call.scope, request["DomainId"])
            self._domains.delete(call.scope, domain["DomainId"])
            self._tags.forget(call.scope, domain["DomainArn"])
        return {}

    def _domain(self, scope: Scope, domain_id: str) -> Document:
        found = self._domains.get(scope, domain_id)
        if found is None:
            raise ServiceError("ResourceNotFound", f"Domain {domain_id} does not exist.")
        return found


def _position(domain: Document) -> list[Any]:
    return [domain["CreationTime"], domain["DomainId"]]
