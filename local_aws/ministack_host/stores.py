"""What each service keeps, under which names, and how it is written down entry by entry.

Touches: the services' dictionaries of what they have, and how DynamoDB, Lambda and KMS write theirs.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from local_aws.durability import WHOLE, Kept, Row

# What each service saves, under the names that its get_state() and load_persisted_state() have for it: the same here,
# entry by entry.
SAVED_STORES = {
    "s3": (
        "buckets_meta bucket_versioning bucket_notifications bucket_tags bucket_policies bucket_encryption"
        " bucket_lifecycle bucket_cors bucket_acl bucket_websites bucket_logging_config bucket_accelerate_config"
        " bucket_request_payment_config bucket_object_lock bucket_replication mraps mrap_operations access_points"
        " object_lambda_access_points"
    ),
    "sqs": "queues queue_name_to_url",
    "sns": "topics sub_arn_to_topic sms_messages platform_applications platform_endpoints",
    "iam": (
        "users roles policies groups instance_profiles access_keys oidc_providers service_linked_role_deletion_tasks"
        " user_inline_policies group_inline_policies aws_managed_attachment_counts sla_jobs saml_providers mfa_devices"
        " login_profiles credential_reports account_password_policy account_aliases"
    ),
    "dynamodb": (
        "tables tags ttl_settings pitr_settings kinesis_destinations contributor_insights backups resource_policies"
        " exports imports"
    ),
    "lambda": "functions layers esms function_urls kinesis_positions dynamodb_stream_positions",
    "eventbridge": (
        "buses rules targets tags archives replays endpoints partner_event_sources event_bus_policies connections"
        " api_destinations"
    ),
    "scheduler": "schedules schedule_groups tags",
    "ssm": "parameters parameter_history tags commands service_settings",
    "kms": "keys aliases alias_dates grants",
    "codebuild": "projects",
    "cloudformation": "stacks stack_events exports change_sets",
    "secretsmanager": "secrets resource_policies",
    "cloudwatch": "metrics alarms composite_alarms composite_triggers alarm_history dashboards resource_tags",
    "cloudwatch_logs": (
        "log_groups destinations resource_policies log_group_policies metric_filters queries log_records"
        " delivery_sources delivery_destinations deliveries"
    ),
    "resource_groups": "groups group_queries group_configs group_members group_tags account_settings",
}
MODULES = {"lambda": "lambda_svc"}  # where the module is not called as the service's state
ATTRIBUTES = {"s3/buckets_meta": "_buckets", "eventbridge/buses": "_event_buses"}  # else "_" and the name
LAGGING_STORES = ("cloudwatch/metrics", "cloudwatch_logs/log_records", "cloudwatch_logs/queries")
LOG_STREAMS = "cloudwatch_logs/log_groups.streams"


def joined(store: str, parts: dict[str, Any], streams: dict[str, Any]) -> Any:
    """An entry as MiniStack has it."""
    entry = parts.pop(WHOLE)
    if store == "sqs/queues":
        entry["messages"] = list(parts.values())
    elif store == "dynamodb/tables":
        items: dict[Any, dict[Any, Any]] = {}
        for key, item in parts.items():
            partition, sort = ast.literal_eval(key)
            items.setdefault(partition, {})[sort] = item
        entry["items"] = items
    elif store == "cloudwatch_logs/log_groups":
        entry["streams"] = streams
    return entry


Parts = Iterator[tuple[str, Any, Callable[[], str]]]


class Sessions(Kept):
    """Sessions that a client was given; what the server has made for its own ends with it."""

    def parts(self, key: Any, value: Any, thorough: bool) -> Parts:
        return super().parts(key, value, thorough) if "Expiration" in value else iter(())


class _Buckets(Kept):
    """Buckets; their objects have files of their own."""

    def parts(self, key: Any, value: Any, thorough: bool) -> Parts:
        return super().parts(key, {name: each for name, each in value.items() if name != "objects"}, thorough)


class _Queues(Kept):
    """Queues, each message a part."""

    def parts(self, key: Any, value: Any, thorough: bool) -> Parts:
        yield from super().parts(key, {name: each for name, each in value.items() if name != "messages"}, thorough)
        for message in list(value["messages"]):
            # All that changes once it is sent.
            mark = (message.get("visible_at"), message.get("receive_count"), message.get("receipt_handle"))
            yield message["id"], mark, functools.partial(self._encode, message)


class _LogGroups(Kept):
    """Log groups without their streams, which may lag."""

    def parts(self, key: Any, value: Any, thorough: bool) -> Parts:
        return super().parts(key, {name: each for name, each in value.items() if name != "streams"}, thorough)


class LogStreams(Kept):
    """The streams of log groups, each a part."""

    def parts(self, key: Any, value: Any, thorough: bool) -> Parts:
        for name, stream in list(value["streams"].items()):
            mark = (len(stream["events"]), stream.get("lastIngestionTime"))
            yield name, mark, functools.partial(self._encode, stream)


class _Keys(Kept):
    """KMS keys, their secret parts encoded as KMS's own saving does."""

    def parts(self, key: Any, value: Any, thorough: bool) -> Parts:
        from ministack.services import kms

        return super().parts(key, kms.get_state()["keys"]._data[key], thorough)


class _FunctionRecords(Kept):
    """Functions; their archives are files named by their content."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._archives: dict[int, tuple[bytes, str]] = {}  # by id: bytes (kept, that the id stays theirs) and digest

    def parts(self, key: Any, value: Any, thorough: bool) -> Parts:
        record = self._without_archive(value)
        record["versions"] = {name: self._without_archive(each) for name, each in value.get("versions", {}).items()}
        return super().parts(key, record, thorough)

    def _without_archive(self, record: dict[str, Any]) -> dict[str, Any]:
        from ministack.services import lambda_svc

        code = record.get("code_zip")
        if not isinstance(code, bytes) or not code:
            return dict(record)
        if id(code) not in self._archives:
            self._archives[id(code)] = (code, lambda_svc._write_code_blob(code))
        return record | {"code_zip": {lambda_svc._BLOB_REF_KEY: self._archives[id(code)][1]}}


class _Tables(Kept):
    """DynamoDB's tables, each item a part; items are never changed in place, only replaced."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        from ministack.services import dynamodb

        self._changed: dict[int, tuple[Any, set[Any]]] = {}  # by a table's id: its items, and which of them to look at
        self._items: dict[Any, tuple[Any, dict[Any, Any]]] = {}  # by a table's key: its items, and those written
        set_item, remove_item = dynamodb._set_item, dynamodb._remove_item

        def set_and_note(table: dict[str, Any], partition: Any, sort: Any, item: Any) -> Any:
            self._note(table, partition, sort)
            return set_item(table, partition, sort, item)

        def remove_and_note(table: dict[str, Any], partition: Any, sort: Any) -> Any:
            self._note(table, partition, sort)
            return remove_item(table, partition, sort)

        dynamodb._set_item, dynamodb._remove_item = set_and_note, remove_and_note
        self._members = dynamodb._INDEX_MEMBERS

    def _note(self, table: dict[str, Any], partition: Any, sort: Any) -> None:
        items = table["items"]
        self._changed.setdefault(id(items), (items, set()))[1].add((partition, sort))

    def changes(self, keys: Iterable[Any], thorough: bool = False) -> list[Row]:
        rows = super().changes(keys, thorough)
        if thorough:  # what is left is of tables that are gone, or are no table of the store
            tables = {id(table["items"]) for table in list(dict.values(self._data()))}
            self._changed = {key: value for key, value in list(self._changed.items()) if key in tables}
        return rows

    def forget(self) -> None:
        super().forget()
        self._items.clear()

    def _changes_of(self, key: Any, thorough: bool) -> list[Row]:
        table = dict.get(self._data(), key)
        if table is None:
            rows = super()._changes_of(key, thorough)
            written = self._items.pop(key, (None, {}))[1]
            return rows + [(self.name, repr(key), repr(item), None) for item in written]
        plain = {name: each for name, each in table.items() if name not in ("items", self._members)}
        rows = self._compare(key, plain, self._written.get(key, {}), thorough)
        items = table["items"]
        known, written = self._items.get(key, (None, {}))
        _, noted = self._changed.pop(id(items), (None, set()))
        if thorough or known is not items:
            found = {(one, other): item for one, sorts in list(items.items()) for other, item in list(sorts.items())}
            noted = {each for each, item in found.items() if written.get(each) is not item} | written.keys() - found
        self._items[key] = (items, written)
        for each in noted:
            item = (items.get(each[0]) or {}).get(each[1])
            if item is not None:
                written[each] = item
                rows.append((self.name, repr(key), repr(each), self._encode(item)))
            elif written.pop(each, None) is not None:
                rows.append((self.name, repr(key), repr(each), None))
        return rows


SPECIAL_STORES: dict[str, type[Kept]] = {
    "s3/buckets_meta": _Buckets,
    "sqs/queues": _Queues,
    "cloudwatch_logs/log_groups": _LogGroups,
    "kms/keys": _Keys,
    "lambda/functions": _FunctionRecords,
    "dynamodb/tables": _Tables,
}
