"""Tags on SageMaker's resources: AddTags, ListTags, DeleteTags."""

from __future__ import annotations

from collections.abc import Callable

from local_aws.calls import Call, Operation, Request, Response, ServiceError, page, validation_error
from local_aws.store import Scope, Store

MOST_TAGS = 50


class Tags:
    """The tags of every resource, by its ARN."""

    def __init__(self, store: Store) -> None:
        self._lock = store.lock
        self._tags = store.table("tags")
        self._exists: list[Callable[[Scope, str], bool]] = []

    def operations(self) -> dict[str, Operation]:
        return {"AddTags": self.add_tags, "ListTags": self.list_tags, "DeleteTags": self.delete_tags}

    def know(self, exists: Callable[[Scope, str], bool]) -> None:
        """Let a part of the service say which ARNs are its own: `exists(scope, arn)`."""
        self._exists.append(exists)

    def set_on_create(self, call: Call, arn: str, tags: list[dict[str, str]] | None) -> None:
        """Tags given in a Create call. Call it before the resource is kept, so that bad tags leave nothing behind.

        Raises:
            ServiceError: ValidationException for duplicate, reserved or too many keys.
        """
        if tags:
            self._merge(call.scope, arn, tags)

    def put_back(self, scope: Scope, arn: str, tags: dict[str, str]) -> None:
        """A change of the resource was refused: its tags are what `of` said before it."""
        with self._lock:
            if tags != self.of(scope, arn):
                self._tags.put(scope, arn, tags)

    def forget(self, scope: Scope, arn: str) -> None:
        """The resource is deleted."""
        if self._tags.get(scope, arn) is not None:
            self._tags.delete(scope, arn)

    def of(self, scope: Scope, arn: str) -> dict[str, str]:
        return dict(self._tags.get(scope, arn) or {})

    def add_tags(self, call: Call, request: Request) -> Response:
        """Add or replace tags; the answer has all tags of the resource."""
        self._require(call, request["ResourceArn"])
        self._merge(call.scope, request["ResourceArn"], request["Tags"])
        return {"Tags": _as_list(self.of(call.scope, request["ResourceArn"]))}

    def list_tags(self, call: Call, request: Request) -> Response:
        self._require(call, request["ResourceArn"])
        tags, more = page(_as_list(self.of(call.scope, request["ResourceArn"])), request, default=50)
        return {"Tags": tags, **more}

    def delete_tags(self, call: Call, request: Request) -> Response:
        self._require(call, request["ResourceArn"])
        with self._lock:
            tags = self.of(call.scope, request["ResourceArn"])
            for key in request["TagKeys"]:
                tags.pop(key, None)
            self._tags.put(call.scope, request["ResourceArn"], tags)
        return {}

    def _merge(self, scope: Scope, arn: str, tags: list[dict[str, str]]) -> None:
        keys = [tag["Key"] for tag in tags]
        if duplicates := sorted({key for key in keys if keys.count(key) > 1}):
            raise validation_error(f"Duplicate tag keys: {', '.join(duplicates)}. Give each key once.")
        for key in keys:
            if key.lower().startswith("aws:"):
                raise validation_error(f"Tag key {key!r}: the prefix aws: is AWS's own. Choose another key.")
        with self._lock:
            merged = self.of(scope, arn) | {tag["Key"]: tag["Value"] for tag in tags}
            if len(merged) > MOST_TAGS:
                raise validation_error(
                    f"{arn} would have {len(merged)} tags; at most {MOST_TAGS} are allowed. Remove some first."
                )
            self._tags.put(scope, arn, merged)

    def _require(self, call: Call, arn: str) -> None:
        if not any(exists(call.scope, arn) for exists in self._exists):
            raise ServiceError("ResourceNotFound", f"Resource {arn} does not exist in this account and Region.")


def _as_list(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
