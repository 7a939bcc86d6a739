"""The ledger's DynamoDB table in memory: the operations and the conditions that lifecycle_lambdas/ledger.py uses.

An expression of any other form is an error, never taken for true. That it answers as DynamoDB does where the ledger
looks: test_ledger.py runs on this and on MiniStack's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from tests.simulated_clients import Paginator

Item = dict[str, dict[str, str]]
Answer = dict[str, Any]

_CONDITIONS: dict[str, Callable[[Item, re.Match[str], Answer], bool]] = {
    r"attribute_not_exists\((#\w+)\)": lambda item, found, request: _name(request, found[1]) not in item,
    r"attribute_exists\((#\w+)\)": lambda item, found, request: _name(request, found[1]) in item,
    r"(#\w+) = (:\w+)": lambda item, found, request: item.get(_name(request, found[1])) == _value(request, found[2]),
    r"(#\w+) < (:\w+)": lambda item, found, request: (
        _name(request, found[1]) in item
        and float(item[_name(request, found[1])]["N"]) < float(_value(request, found[2])["N"])
    ),
}


@dataclass
class SimulatedTable:
    """A table with the keys endpoint and item, and the index by-status of those items that have a status."""

    items: dict[tuple[str, str], Item] = field(default_factory=dict)

    def get_item(self, TableName: str, Key: Item, ConsistentRead: bool) -> Answer:
        item = self.items.get(_key(Key))
        return {} if item is None else {"Item": dict(item)}

    def put_item(self, **request: Any) -> Answer:
        self._check(request, request["Item"])
        self.items[_key(request["Item"])] = dict(request["Item"])
        return {}

    def update_item(self, **request: Any) -> Answer:
        self._check(request, request["Key"])
        item = self._update(request)
        return {"Attributes": dict(item)} if request.get("ReturnValues") == "ALL_NEW" else {}

    def query(
        self, KeyConditionExpression: str, IndexName: str = "", ScanIndexForward: bool = True, **request: Any
    ) -> Answer:
        if IndexName:
            found = re.fullmatch(r"(#\w+) = (:\w+)", KeyConditionExpression)
            assert found, KeyConditionExpression
            name, value = _name(request, found[1]), _value(request, found[2])
            items = [item for _, item in sorted(self.items.items()) if item.get(name) == value]
            return {"Items": [dict(item) for item in items]}
        found = re.fullmatch(
            r"#\w+ = (:\w+) AND (?:begins_with\(#\w+, (?P<begins>:\w+)\)|#\w+ <= (?P<last>:\w+))",
            KeyConditionExpression,
        )
        assert found, KeyConditionExpression
        endpoint = _value(request, found[1])["S"]
        item = _value(request, found["begins"] or found["last"])["S"]
        keys = sorted(
            key
            for key in self.items
            if key[0] == endpoint and (key[1].startswith(item) if found["begins"] else key[1] <= item)
        )
        keys = keys if ScanIndexForward else keys[::-1]
        if "ExclusiveStartKey" in request:
            keys = keys[keys.index(_key(request["ExclusiveStartKey"])) + 1 :]
        page = keys[: request["Limit"]]
        last = {"LastEvaluatedKey": _key_item(page[-1])} if len(page) == request["Limit"] else {}
        return {"Items": [dict(self.items[key]) for key in page], **last}

    def get_paginator(self, method: str) -> Paginator:
        return Paginator(getattr(self, method))

    def transact_write_items(self, TransactItems: list[Answer], ClientRequestToken: str = "") -> Answer:
        """All or none."""
        writes = [next(iter(one.items())) for one in TransactItems]
        reasons = ["None" if self._holds(write, _keys_of(write)) else "ConditionalCheckFailed" for _, write in writes]
        if set(reasons) != {"None"}:
            message = f"Transaction cancelled, please refer cancellation reasons for specific reasons {reasons}"
            raise ClientError(
                {
                    "Error": {"Code": "TransactionCanceledException", "Message": message},
                    "CancellationReasons": [{"Code": reason} for reason in reasons],
                },
                "TransactWriteItems",
            )
        for kind, write in writes:
            if kind == "Put":
                self.items[_key(write["Item"])] = dict(write["Item"])
            elif kind == "Update":
                self._update(write)
            else:
                assert kind == "ConditionCheck", kind
        return {}

    def _check(self, request: Answer, key: Item) -> None:
        if not self._holds(request, key):
            error = {"Code": "ConditionalCheckFailedException", "Message": "The conditional request failed"}
            raise ClientError({"Error": error}, "")

    def _holds(self, request: Answer, key: Item) -> bool:
        item = self.items.get(_key(key), {})
        expression = request.get("ConditionExpression")
        return expression is None or any(
            all(_is_true(part, item, request) for part in one.split(" AND ")) for one in expression.split(" OR ")
        )

    def _update(self, request: Answer) -> Item:
        item = self.items.setdefault(_key(request["Key"]), dict(request["Key"]))
        clauses = dict(re.findall(r"(SET|ADD) (.*?)(?= SET | ADD |$)", request["UpdateExpression"]))
        before = dict(item)
        for assignment in re.findall(r"(#\w+) = ((?:if_not_exists\([^)]*\)|[#:]\w+)(?: \+ :\w+)?)", clauses["SET"]):
            item[_name(request, assignment[0])] = _evaluated(assignment[1], before, request)
        for name, value in re.findall(r"(#\w+) (:\w+)", clauses.get("ADD", "")):
            name = _name(request, name)
            item[name] = _sum(before.get(name, {"N": "0"}), _value(request, value))
        return item


def _is_true(condition: str, item: Item, request: Answer) -> bool:
    for form, holds in _CONDITIONS.items():
        if found := re.fullmatch(form, condition.strip()):
            return holds(item, found, request)
    raise AssertionError(f"a condition of another form: {condition}")


def _evaluated(expression: str, item: Item, request: Answer) -> dict[str, str]:
    operand, _, added = expression.partition(" + ")
    if found := re.fullmatch(r"if_not_exists\((#\w+), (:\w+)\)", operand):
        value = item.get(_name(request, found[1]), _value(request, found[2]))
    else:
        value = _value(request, operand)
    return _sum(value, _value(request, added)) if added else value


def _sum(one: dict[str, str], other: dict[str, str]) -> dict[str, str]:
    return {"N": str(int(one["N"]) + int(other["N"]))}


def _name(request: Answer, placeholder: str) -> str:
    return str(request["ExpressionAttributeNames"][placeholder])


def _value(request: Answer, placeholder: str) -> dict[str, str]:
    return dict(request["ExpressionAttributeValues"][placeholder])


def _keys_of(write: Answer) -> Item:
    return dict(write.get("Item") or write["Key"])


def _key(item: Item) -> tuple[str, str]:
    return item["endpoint"]["S"], item["item"]["S"]


def _key_item(key: tuple[str, str]) -> Item:
    return {"endpoint": {"S": key[0]}, "item": {"S": key[1]}}
