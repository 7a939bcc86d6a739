"""The ledger: what people and functions asked for, what was deployed, and who may act on an endpoint now.

One DynamoDB table. An endpoint's entries are only ever added to; its deployments are written by whoever holds its
lease, and every such write checks the lease's fencing number, so that a function that was paused for too long cannot
undo what another one did since (Kleppmann, "How to do distributed locking", 2016).

| endpoint (partition key) | item (sort key) | what |
|---|---|---|
| churn-prod | STATE | its group, whether something is under way, the last number, how often a look was asked for |
| churn-prod | LEASE | who acts on the endpoint, until when, fencing number |
| churn-prod | ENTRY#2026-11-21T08:12:00Z#0000000012#approve | records.Entry |
| churn-prod | DEPLOYMENT#000012 | records.Deployment |
| churn-prod | TOLD#approved#ENTRY#... | a message that was sent, and when; without a time one that is being sent |

The index by-status (status, endpoint) holds the STATE items alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import ClientError

from lifecycle_lambdas.records import Attempt, Deployment, Entry, State, Status

Item = dict[str, dict[str, str]]

INDEX = "by-status"
FIRST_PAGE = 10  # what should be is nearly always among the newest entries; the pages after it are longer
NEXT_PAGE = 200
CONFLICT_PAUSES = (0.02, 0.04, 0.08, 0.16, 0.32)  # seconds


class LeaseLost(Exception):
    """Another one acts on the endpoint now: stop, and leave the rest to it."""


class Ledger:
    """Every method may raise botocore's ClientError.

    Args:
        dynamodb: a boto3 client.
        table: the table's name.
    """

    def __init__(self, dynamodb: Any, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    # --- entries

    def append(self, entry: Entry) -> bool:
        """Add an entry in the place that its time gives it, and ask for a look; False when it was there already.

        Both or none: were the function to end here, the endpoint would be among those under way.

        Raises:
            LookupError: the endpoint has no STATE.
        """
        put = {
            "TableName": self._table,
            "Item": _entry_item(entry),
            "ConditionExpression": "attribute_not_exists(#item)",
            "ExpressionAttributeNames": {"#item": "item"},
        }
        try:
            self._change("transact_write_items", TransactItems=[{"Put": put}, {"Update": self._asking(entry.endpoint)}])
        except ClientError as error:
            there, unknown = _failed_conditions(error, 2)
            if there:
                return False
            if unknown:
                raise LookupError(
                    f"the ledger {self._table} does not know the endpoint {entry.endpoint}: begin it first"
                ) from error
            raise
        return True

    def entry(self, entry: Entry) -> Entry:
        """The entry of this key as it was written. Raises LookupError when there is none."""
        item = self._get(entry.endpoint, entry.key)
        if item is None:
            raise LookupError(f"the ledger {self._table} has no entry {entry.key} of {entry.endpoint}")
        return _entry(item)

    def ask(self, endpoint: str) -> None:
        """Ask whoever has the endpoint's lease to look once more, and the schedule, should that one be gone."""
        try:
            self._change("update_item", **self._asking(endpoint))
        except ClientError as error:
            if not _condition_failed(error):
                raise  # what the ledger does not know is looked at by nobody

    def _asking(self, endpoint: str) -> dict[str, Any]:
        return {
            "TableName": self._table,
            "Key": _key(endpoint, "STATE"),
            "UpdateExpression": "SET #status = :status ADD #asked :one",
            "ConditionExpression": "attribute_exists(#item)",
            "ExpressionAttributeNames": {"#status": "status", "#asked": "asked", "#item": "item"},
            "ExpressionAttributeValues": {":status": {"S": "under-way"}, ":one": {"N": "1"}},
        }

    def entries(self, endpoint: str) -> Iterator[Entry]:
        """The endpoint's entries, the newest first; further pages are read only when they are asked for."""
        return (_entry(item) for item in self._query(endpoint, "ENTRY#", FIRST_PAGE, NEXT_PAGE))

    # --- state

    def state(self, endpoint: str) -> State | None:
        item = self._get(endpoint, "STATE")
        return None if item is None else _state(item)

    def states(self, status: Status | None = None) -> Iterator[State]:
        """All endpoints but the removed ones, or those in one status. The index may lag behind the table by moments."""
        for wanted in (status,) if status is not None else ("under-way", "settled"):
            pages = self._dynamodb.get_paginator("query").paginate(
                TableName=self._table,
                IndexName=INDEX,
                KeyConditionExpression="#status = :status",
                ExpressionAttributeNames={"#status": "status"},
                ExpressionAttributeValues={":status": {"S": wanted}},
            )
            for page in pages:
                yield from map(_state, page["Items"])

    def put_state_if_new(self, state: State) -> bool:
        """Begin an endpoint's record; False when it had begun already."""
        try:
            self._dynamodb.put_item(
                TableName=self._table,
                Item=_key(state.endpoint, "STATE")
                | _strings(project=state.project, stage=state.stage, group=state.group, status=state.status)
                | {"last_number": {"N": str(state.last_number)}, "asked": {"N": str(state.asked)}}
                | {"removed_number": {"N": str(state.removed_number)}},
                ConditionExpression="attribute_not_exists(#item)",
                ExpressionAttributeNames={"#item": "item"},
            )
        except ClientError as error:
            if not _condition_failed(error):
                raise
            return False
        return True

    def set_status(self, state: State, status: Status, fence: int) -> bool:
        """False, and nothing is changed, when somebody asked for a look since the state was read.

        With the status "removed" the deployments so far are of the past: `removed_number` is the last one's.

        Raises LeaseLost when the lease with this fencing number is another's by now.
        """
        change = "SET #status = :status"
        names = {"#status": "status", "#asked": "asked"}
        values = {":status": {"S": status}, ":asked": {"N": str(state.asked)}}
        if status == "removed":
            change += ", #removed = :last"
            names["#removed"], values[":last"] = "removed_number", {"N": str(state.last_number)}
        update = {
            "TableName": self._table,
            "Key": _key(state.endpoint, "STATE"),
            "UpdateExpression": change,
            "ConditionExpression": "#asked = :asked",
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
        }
        try:
            self._write(state.endpoint, fence, {"Update": update})
        except ClientError as error:
            if not _failed_conditions(error, 2)[1]:
                raise
            return False
        return True

    # --- lease

    def lease(self, endpoint: str, owner: str, seconds: float) -> Lease | None:
        """The right to act on an endpoint for so many seconds; None while another one has it.

        One that has expired is taken over, with a higher fencing number.
        """
        now = time.time()
        try:
            answer = self._change(
                "update_item",
                TableName=self._table,
                Key=_key(endpoint, "LEASE"),
                UpdateExpression="SET #owner = :owner, #until = :until, #fence = if_not_exists(#fence, :zero) + :one",
                ConditionExpression="attribute_not_exists(#until) OR #until < :now",
                ExpressionAttributeNames={"#owner": "owner", "#until": "until", "#fence": "fence"},
                ExpressionAttributeValues={
                    ":owner": {"S": owner},
                    ":until": {"N": f"{now + seconds:.3f}"},
                    ":now": {"N": f"{now:.3f}"},
                    ":zero": {"N": "0"},
                    ":one": {"N": "1"},
                },
                ReturnValues="ALL_NEW",
            )
        except ClientError as error:
            if not _condition_failed(error):
                raise
            return None
        return Lease(self, endpoint, owner, seconds, int(answer["Attributes"]["fence"]["N"]))

    def set_lease_end(self, lease: Lease, until: float) -> None:
        """Raises LeaseLost when another one has taken it over."""
        try:
            self._change(
                "update_item",
                TableName=self._table,
                Key=_key(lease.endpoint, "LEASE"),
                UpdateExpression="SET #until = :until",
                ConditionExpression="#fence = :fence",
                ExpressionAttributeNames={"#until": "until", "#fence": "fence"},
                ExpressionAttributeValues={":until": {"N": f"{until:.3f}"}, ":fence": {"N": str(lease.fence)}},
            )
        except ClientError as error:
            if not _condition_failed(error):
                raise
            raise LeaseLost(_lost(lease.endpoint, lease.fence)) from error

    # --- deployments

    def deployments(self, endpoint: str, limit: int | None = None) -> Iterator[Deployment]:
        """The endpoint's deployments, the newest first, at most `limit` of them."""
        page = min(limit or NEXT_PAGE, NEXT_PAGE)
        for index, item in enumerate(self._query(endpoint, "DEPLOYMENT#", page, page)):
            if index == limit:
                return
            yield _deployment(item)

    def deployment(self, endpoint: str, number: int) -> Deployment | None:
        item = self._get(endpoint, _deployment_key(number))
        return None if item is None else _deployment(item)

    def start_deployment(self, lease: Lease, deployment: Deployment) -> Deployment:
        """Give the deployment its number, which nobody else gets, and record it with its endpoint as under way.

        Args:
            deployment: its number does not count; the answer carries the one that it was given.

        Raises:
            LeaseLost: another one acts on the endpoint.
            LookupError: the endpoint has no STATE.
        """
        endpoint = deployment.endpoint
        state = self.state(endpoint)
        if state is None:
            raise LookupError(
                f"the ledger {self._table} does not know the endpoint {endpoint}: record an approval first"
            )
        numbered = replace(deployment, number=state.last_number + 1)
        self._write(
            endpoint,
            lease.fence,
            {
                "Update": {
                    "TableName": self._table,
                    "Key": _key(endpoint, "STATE"),
                    "UpdateExpression": "SET #last = :number, #status = :status",
                    "ConditionExpression": "#last = :before",
                    "ExpressionAttributeNames": {"#last": "last_number", "#status": "status"},
                    "ExpressionAttributeValues": {
                        ":number": {"N": str(numbered.number)},
                        ":before": {"N": str(state.last_number)},
                        ":status": {"S": "under-way"},
                    },
                }
            },
            {
                "Put": {
                    "TableName": self._table,
                    "Item": _deployment_item(numbered),
                    "ConditionExpression": "attribute_not_exists(#item)",
                    "ExpressionAttributeNames": {"#item": "item"},
                }
            },
        )
        return numbered

    def record(self, lease: Lease, deployment: Deployment) -> None:
        """Replace what is recorded of the deployment. Raises LeaseLost when another one acts on the endpoint."""
        self._write(
            deployment.endpoint,
            lease.fence,
            {"Put": {"TableName": self._table, "Item": _deployment_item(deployment)}},
        )

    # --- messages

    def was_told(self, endpoint: str, message: str) -> bool:
        """Whether the message with this id was sent."""
        return "at" in (self._get(endpoint, f"TOLD#{message}") or {})

    def begin_telling(self, endpoint: str, message: str) -> None:
        """Before it is sent: where this cannot be written, that it was sent cannot be, and it would come for ever."""
        self._put_told(endpoint, message, begun=_time_text(datetime.now(UTC)))

    def record_told(self, endpoint: str, message: str) -> None:
        self._put_told(endpoint, message, at=_time_text(datetime.now(UTC)))

    def _put_told(self, endpoint: str, message: str, **times: str | None) -> None:
        self._dynamodb.put_item(TableName=self._table, Item=_key(endpoint, f"TOLD#{message}") | _strings(**times))

    # --- DynamoDB

    def _get(self, endpoint: str, item: str) -> Item | None:
        answer = self._dynamodb.get_item(TableName=self._table, Key=_key(endpoint, item), ConsistentRead=True)
        return answer.get("Item")

    def _query(self, endpoint: str, begins: str, first: int, after: int) -> Iterator[Item]:
        """The items whose sort key begins so, the last first, read in pages of these lengths."""
        request: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "#endpoint = :endpoint AND begins_with(#item, :begins)",
            "ExpressionAttributeNames": {"#endpoint": "endpoint", "#item": "item"},
            "ExpressionAttributeValues": {":endpoint": {"S": endpoint}, ":begins": {"S": begins}},
            "ScanIndexForward": False,
            "ConsistentRead": True,
            "Limit": first,
        }
        while True:
            page = self._dynamodb.query(**request)
            yield from page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            request |= {"ExclusiveStartKey": page["LastEvaluatedKey"], "Limit": after}

    def _change(self, operation: str, **request: Any) -> Any:
        """A write to an item that others write at the same moment: DynamoDB refuses one of two, and takes it soon."""
        for pause in CONFLICT_PAUSES:
            try:
                return getattr(self._dynamodb, operation)(**request)
            except ClientError as error:
                if not _in_conflict(error):
                    raise
            time.sleep(pause)
        return getattr(self._dynamodb, operation)(**request)

    def _write(self, endpoint: str, fence: int, *changes: dict[str, Any]) -> None:
        """The changes, all or none, and only while the lease still has this fencing number."""
        check = {
            "ConditionCheck": {
                "TableName": self._table,
                "Key": _key(endpoint, "LEASE"),
                "ConditionExpression": "#fence = :fence",
                "ExpressionAttributeNames": {"#fence": "fence"},
                "ExpressionAttributeValues": {":fence": {"N": str(fence)}},
            }
        }
        try:
            self._change("transact_write_items", TransactItems=[check, *changes])
        except ClientError as error:
            if not _failed_conditions(error, 1 + len(changes))[0]:
                raise
            raise LeaseLost(_lost(endpoint, fence)) from error


@dataclass(frozen=True)
class Lease:
    """The right to act on one endpoint; leaving its block gives it back."""

    ledger: Ledger
    endpoint: str
    owner: str
    seconds: float
    fence: int

    def renew(self) -> None:
        """Have it for `seconds` from now. Raises LeaseLost when another one has taken it over."""
        self.ledger.set_lease_end(self, time.time() + self.seconds)

    def release(self) -> None:
        """Raises LeaseLost when another one has taken it over."""
        self.ledger.set_lease_end(self, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.release()
        except LeaseLost:
            if error is None:  # an error that is on its way says more than that the lease went with it
                raise


def whole_seconds(moment: datetime) -> datetime:
    """As events carry times: UTC, cut to the second."""
    return moment.astimezone(UTC).replace(microsecond=0)


def _lost(endpoint: str, fence: int) -> str:
    return f"the lease {fence} of {endpoint} has expired and another one acts on the endpoint; it goes on there"


def _condition_failed(error: ClientError) -> bool:
    return error.response["Error"]["Code"] == "ConditionalCheckFailedException"


def _in_conflict(error: ClientError) -> bool:
    """Whether another transaction was at one of the items (boto3 does not try that again)."""
    reasons = [reason.get("Code") for reason in error.response.get("CancellationReasons") or ()]
    failed = "ConditionalCheckFailed" in reasons
    return error.response["Error"]["Code"] == "TransactionConflictException" or (
        "TransactionConflict" in reasons and not failed
    )


def _failed_conditions(error: ClientError, writes: int) -> list[bool]:
    """Of each write of a transaction, whether it is its condition that failed."""
    reasons = error.response.get("CancellationReasons") or [{}] * writes
    return [reason.get("Code") == "ConditionalCheckFailed" for reason in reasons]


def _key(endpoint: str, item: str) -> Item:
    return _strings(endpoint=endpoint, item=item)


def _deployment_key(number: int) -> str:
    return f"DEPLOYMENT#{number:06d}"


def _strings(**values: str | None) -> Item:
    """DynamoDB's strings; what is None is left out."""
    return {name: {"S": value} for name, value in values.items() if value is not None}


def _text(item: Item, name: str) -> str | None:
    return item[name]["S"] if name in item else None


def _time_text(moment: datetime | None) -> str | None:
    """ISO 8601, UTC, to the microsecond where there are any."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _time(item: Item, name: str) -> datetime | None:
    text = _text(item, name)
    return None if text is None else datetime.fromisoformat(text)


def _entry_item(entry: Entry) -> Item:
    return _key(entry.endpoint, entry.key) | _strings(
        kind=entry.kind,
        at=_time_text(entry.at),
        package_arn=entry.package_arn,
        by=entry.by,
        why=entry.why,
        source=entry.source,
        until=_time_text(entry.until),
    )


def _entry(item: Item) -> Entry:
    return Entry(
        endpoint=item["endpoint"]["S"],
        kind=item["kind"]["S"],  # type: ignore[arg-type]  # written by _entry_item
        at=datetime.fromisoformat(item["at"]["S"]),
        package_arn=_text(item, "package_arn"),
        by=item["by"]["S"],
        why=item["why"]["S"],
        source=item["source"]["S"],
        until=_time(item, "until"),
    )


def _state(item: Item) -> State:
    return State(
        endpoint=item["endpoint"]["S"],
        project=item["project"]["S"],
        stage=item["stage"]["S"],
        group=item["group"]["S"],
        status=item["status"]["S"],  # type: ignore[arg-type]  # written from a State
        last_number=int(item["last_number"]["N"]),
        asked=int(item["asked"]["N"]),
        # a STATE from before there were removals has none
        removed_number=int(item.get("removed_number", {"N": "0"})["N"]),
    )


def _deployment_item(deployment: Deployment) -> Item:
    attempts = [asdict(attempt) | {"at": _time_text(attempt.at)} for attempt in deployment.attempts]
    previous = {} if deployment.previous is None else {"previous": {"N": str(deployment.previous)}}
    return (
        _key(deployment.endpoint, _deployment_key(deployment.number))
        | _strings(
            entry_key=deployment.entry_key,
            package_arn=deployment.package_arn,
            # as text: DynamoDB's numbers would come back as decimals, and nobody queries inside
            stage_file=json.dumps(deployment.stage_file, sort_keys=True),
            stage_file_sha256=deployment.stage_file_sha256,
            deployment_status=deployment.status,  # not "status": the index by-status holds STATE items alone
            started=_time_text(deployment.started),
            requested=_time_text(deployment.requested),
            ended=_time_text(deployment.ended),
            reason=deployment.reason,
            attempts=json.dumps(attempts),
        )
        | {"number": {"N": str(deployment.number)}}
        | previous
    )


def _deployment(item: Item) -> Deployment:
    return Deployment(
        endpoint=item["endpoint"]["S"],
        number=int(item["number"]["N"]),
        entry_key=item["entry_key"]["S"],
        package_arn=item["package_arn"]["S"],
        stage_file=json.loads(item["stage_file"]["S"]),
        stage_file_sha256=item["stage_file_sha256"]["S"],
        status=item["deployment_status"]["S"],  # type: ignore[arg-type]  # written by _deployment_item
        started=datetime.fromisoformat(item["started"]["S"]),
        previous=int(item["previous"]["N"]) if "previous" in item else None,
        requested=_time(item, "requested"),
        ended=_time(item, "ended"),
        reason=item["reason"]["S"],
        attempts=tuple(
            Attempt(**attempt | {"at": datetime.fromisoformat(attempt["at"])})
            for attempt in json.loads(item["attempts"]["S"])
        ),
    )
