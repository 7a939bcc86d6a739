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
| churn-prod | SUITE#000012 | records.SuiteRecord: the endpoint tests of that deployment's version |
| churn-prod | TESTS#000012#2026-11-21T08:31:00Z | records.TestRun |
| churn-prod | TESTING | records.TestSchedule; without a status it is off |
| churn-dev | POLICY#park, POLICY#clean | records.PolicyRecord |
| churn-prod | TOLD#approved#ENTRY#... | a message that was sent, and when; without a time one that is being sent |

The index by-status (status, endpoint) holds the STATE items, and the TESTING items that are on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import ClientError

from lifecycle_lambdas import ledger_items
from lifecycle_lambdas.ledger_items import Item
from lifecycle_lambdas.records import (
    OFF,
    SECTIONS,
    Deployment,
    Entry,
    PolicyRecord,
    State,
    Status,
    SuiteRecord,
    TestRun,
    TestSchedule,
)

INDEX = "by-status"
TESTING = "testing"  # in the index the status of TESTING items
FIRST_PAGE = 10  # what should be is nearly always among the newest entries; the pages after it are longer
NEXT_PAGE = 200
MOST_AT_ONCE = 99  # DynamoDB API reference, TransactWriteItems: 100, one of which checks the lease
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

    def append(self, entry: Entry, lease: Lease | None = None) -> bool:
        """Add an entry in the place that its time gives it, and ask for a look; False when it was there already.

        Both or none: were the function to end here, the endpoint would be among those under way.

        Args:
            lease: of who decides by what they saw, and may do so only while nobody else acts on the endpoint.

        Raises:
            LookupError: the endpoint has no STATE.
            LeaseLost: another one acts on the endpoint.
        """
        put = {
            "TableName": self._table,
            "Item": ledger_items.entry_item(entry),
            "ConditionExpression": "attribute_not_exists(#item)",
            "ExpressionAttributeNames": {"#item": "item"},
        }
        writes = [{"Put": put}, {"Update": self._asking(entry.endpoint)}]
        try:
            if lease is None:
                self._change("transact_write_items", TransactItems=writes)
            else:
                self._write(entry.endpoint, lease.fence, *writes)
        except ClientError as error:
            there, unknown = _failed_conditions(error, 2 if lease is None else 3)[-2:]
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
        return ledger_items.read_entry(item)

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
            "Key": ledger_items.key(endpoint, "STATE"),
            "UpdateExpression": "SET #status = :status ADD #asked :one",
            "ConditionExpression": "attribute_exists(#item)",
            "ExpressionAttributeNames": {"#status": "status", "#asked": "asked", "#item": "item"},
            "ExpressionAttributeValues": {":status": {"S": "under-way"}, ":one": {"N": "1"}},
        }

    def entries(self, endpoint: str) -> Iterator[Entry]:
        """The endpoint's entries, the newest first; further pages are read only when they are asked for."""
        return (ledger_items.read_entry(item) for item in self._query(endpoint, "ENTRY#", FIRST_PAGE, NEXT_PAGE))

    # --- state

    def state(self, endpoint: str) -> State | None:
        item = self._get(endpoint, "STATE")
        return None if item is None else ledger_items.read_state(item)

    def states(self, status: Status | None = None) -> Iterator[State]:
        """All endpoints but the removed ones, or those in one status. The index may lag behind the table by moments."""
        for wanted in (status,) if status is not None else ("under-way", "settled"):
            yield from map(ledger_items.read_state, self._by_status(wanted))

    def put_state_if_new(self, state: State) -> bool:
        """Begin an endpoint's record; False when it had begun already."""
        try:
            self._dynamodb.put_item(
                TableName=self._table,
                Item=ledger_items.state_item(state),
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
            "Key": ledger_items.key(state.endpoint, "STATE"),
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
                Key=ledger_items.key(endpoint, "LEASE"),
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
                Key=ledger_items.key(lease.endpoint, "LEASE"),
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
            yield ledger_items.read_deployment(item)

    def deployment(self, endpoint: str, number: int) -> Deployment | None:
        item = self._get(endpoint, ledger_items.deployment_key(number))
        return None if item is None else ledger_items.read_deployment(item)

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
                    "Key": ledger_items.key(endpoint, "STATE"),
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
                    "Item": ledger_items.deployment_item(numbered),
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
            {"Put": {"TableName": self._table, "Item": ledger_items.deployment_item(deployment)}},
        )

    # --- endpoint tests

    def put_suite(self, suite: SuiteRecord) -> None:
        self._dynamodb.put_item(TableName=self._table, Item=ledger_items.suite_item(suite))

    def suite(self, endpoint: str, number: int) -> SuiteRecord | None:
        item = self._get(endpoint, ledger_items.suite_key(number))
        return None if item is None else ledger_items.read_suite(item)

    def begin_test_run(self, run: TestRun) -> bool:
        """Record a run that is due; False when it was there already."""
        return self._put_if(ledger_items.test_run_item(run), "attribute_not_exists(#item)", {"#item": "item"}, {})

    def put_test_run(self, run: TestRun) -> TestRun | None:
        """Replace what is recorded of the run; None, and nothing is changed, when somebody else has since it was read.

        Returns:
            The run as it is recorded now, with its new revision.
        """
        changed = replace(run, revision=run.revision + 1)
        condition = {":revision": {"N": str(run.revision)}}
        done = self._put_if(
            ledger_items.test_run_item(changed), "#revision = :revision", {"#revision": "revision"}, condition
        )
        return changed if done else None

    def test_run(self, endpoint: str, key: str) -> TestRun | None:
        """Args:
        key: TestRun.key.
        """
        item = self._get(endpoint, key)
        return None if item is None else ledger_items.read_test_run(item)

    def test_runs(self, endpoint: str, number: int | None = None, limit: int | None = None) -> Iterator[TestRun]:
        """The endpoint's runs, or those of one deployment, the newest first, at most `limit` of them."""
        begins = "TESTS#" if number is None else f"TESTS#{number:06d}#"
        page = min(limit or NEXT_PAGE, NEXT_PAGE)
        for index, item in enumerate(self._query(endpoint, begins, page, page)):
            if index == limit:
                return
            yield ledger_items.read_test_run(item)

    def schedule_tests(self, schedule: TestSchedule) -> None:
        """Instead of whatever schedule the endpoint has: who writes it has just seen this deployment done."""
        self._dynamodb.put_item(TableName=self._table, Item=ledger_items.test_schedule_item(schedule, TESTING))

    def reschedule_tests(self, schedule: TestSchedule, following: datetime) -> bool:
        """Set a schedule's next time; False, and nothing is changed, where it is another one since it was read."""
        return self._put_schedule_if_still(schedule, replace(schedule, next=following), TESTING)

    def unschedule_tests(self, schedule: TestSchedule) -> bool:
        """Switch a schedule off; False, and nothing is changed, where it is another one since it was read.

        Nobody may delete from the table: what has no status is not in the index.
        """
        return self._put_schedule_if_still(schedule, schedule, None)

    def test_schedules(self) -> Iterator[TestSchedule]:
        """Of all endpoints. The index may lag behind the table by moments."""
        return map(ledger_items.read_test_schedule, self._by_status(TESTING))

    def forget_tests(self, endpoint: str) -> None:
        """Switch off the schedule of an endpoint that is removed."""
        item = self._get(endpoint, "TESTING")
        if item is not None and "status" in item:
            self.unschedule_tests(ledger_items.read_test_schedule(item))

    def _put_schedule_if_still(self, read: TestSchedule, wanted: TestSchedule, status: str | None) -> bool:
        before = ledger_items.test_schedule_item(read, None)
        return self._put_if(
            ledger_items.test_schedule_item(wanted, status),
            "#number = :number AND #next = :next",
            {"#number": "number", "#next": "next"},
            {":number": before["number"], ":next": before["next"]},
        )

    # --- parking and cleaning up

    def policy(self, endpoint: str, section: str) -> PolicyRecord | None:
        item = self._get(endpoint, f"POLICY#{section}")
        return None if item is None else ledger_items.read_policy(item)

    def put_policy(self, record: PolicyRecord) -> None:
        self._dynamodb.put_item(TableName=self._table, Item=ledger_items.policy_item(record))

    def put_policy_if_still(self, read: PolicyRecord | None, record: PolicyRecord) -> bool:
        """Replace what was read; False, and nothing is changed, where the ledger has another section since.

        Args:
            read: None: there was none.
        """
        item = ledger_items.policy_item(record)
        if read is None:
            return self._put_if(item, "attribute_not_exists(#item)", {"#item": "item"}, {})
        before = ledger_items.policy_item(read)
        return self._put_if(
            item,
            "#sha256 = :sha256 AND #announced = :announced",
            {"#sha256": "sha256", "#announced": "announced"},
            {":sha256": before["sha256"], ":announced": before["announced"]},
        )

    def forget_policies(self, endpoint: str) -> None:
        """Of a project that is deleted: one that is made anew is told first what its policies will do."""
        for section in SECTIONS:
            record = self.policy(endpoint, section)
            if record is not None and record.sha256 != OFF:
                self.put_policy(replace(record, sha256=OFF, pending=(), earlier={}))

    # --- messages

    def was_told(self, endpoint: str, message: str) -> bool:
        """Whether the message with this id was sent."""
        return "at" in (self._get(endpoint, f"TOLD#{message}") or {})

    def begin_telling(self, endpoint: str, message: str) -> None:
        """Before it is sent: where this cannot be written, that it was sent cannot be, and it would come for ever."""
        self._put_told(endpoint, message, begun=ledger_items.time_text(datetime.now(UTC)))

    def record_told(self, endpoint: str, message: str) -> None:
        self._put_told(endpoint, message, at=ledger_items.time_text(datetime.now(UTC)))

    def _put_told(self, endpoint: str, message: str, **times: str | None) -> None:
        self._dynamodb.put_item(
            TableName=self._table, Item=ledger_items.key(endpoint, f"TOLD#{message}") | ledger_items.strings(**times)
        )

    # --- a ledger that was lost

    def history(self, endpoint: str) -> tuple[State | None, list[Entry], list[Deployment]]:
        """The endpoint's state, entries and deployments, the newest first, in one query."""
        found: dict[str, list[Item]] = {}
        # what sorts after them may be years of tests
        for item in self._items(endpoint, "#item <= :item", "STATE", NEXT_PAGE, NEXT_PAGE):
            found.setdefault(item["item"]["S"].partition("#")[0], []).append(item)
        states = [ledger_items.read_state(item) for item in found.get("STATE", [])]
        entries = [ledger_items.read_entry(item) for item in found.get("ENTRY", [])]
        return (
            next(iter(states), None),
            entries,
            [ledger_items.read_deployment(item) for item in found.get("DEPLOYMENT", [])],
        )

    def restore(
        self,
        lease: Lease,
        state: State | None,
        entries: Sequence[Entry],
        deployments: Sequence[Deployment],
        told: Sequence[str],
        begins: bool,
    ) -> None:
        """Add what the endpoint's ledger lacks: all or none of it, or parts of MOST_AT_ONCE that begin with the state.

        Args:
            state: None: as it is.
            told: ids of messages that count as sent.
            begins: the endpoint has no state yet; else its last number becomes the state's, and nothing else of it.

        Raises:
            LeaseLost: another one acts on the endpoint.
            LookupError: something of it is there by now.
        """
        absent = {
            "TableName": self._table,
            "ConditionExpression": "attribute_not_exists(#item)",
            "ExpressionAttributeNames": {"#item": "item"},
        }
        items = [*map(ledger_items.entry_item, entries), *map(ledger_items.deployment_item, deployments)]
        if state is not None and begins:
            items.insert(0, ledger_items.state_item(state))
        writes = [{"Put": {**absent, "Item": item}} for item in items]
        if state is not None and not begins:
            writes.insert(0, self._raising_last_number(state))
        at = ledger_items.time_text(datetime.now(UTC))
        for message in told:
            item = ledger_items.key(lease.endpoint, f"TOLD#{message}") | ledger_items.strings(at=at)
            writes.append({"Put": {"TableName": self._table, "Item": item}})
        for start in range(0, len(writes), MOST_AT_ONCE):
            part = writes[start : start + MOST_AT_ONCE]
            try:
                self._write(lease.endpoint, lease.fence, *part)
            except ClientError as error:
                if not any(_failed_conditions(error, 1 + len(part))):
                    raise
                raise LookupError(
                    f"somebody else wrote into the ledger of {lease.endpoint} meanwhile: do it again"
                ) from error

    def _raising_last_number(self, state: State) -> dict[str, Any]:
        return {
            "Update": {
                "TableName": self._table,
                "Key": ledger_items.key(state.endpoint, "STATE"),
                "UpdateExpression": "SET #last = :number",
                "ConditionExpression": "#last < :number",
                "ExpressionAttributeNames": {"#last": "last_number"},
                "ExpressionAttributeValues": {":number": {"N": str(state.last_number)}},
            }
        }

    # --- DynamoDB

    def _get(self, endpoint: str, item: str) -> Item | None:
        answer = self._dynamodb.get_item(
            TableName=self._table, Key=ledger_items.key(endpoint, item), ConsistentRead=True
        )
        return answer.get("Item")

    def _put_if(self, item: Item, condition: str, names: dict[str, str], values: Item) -> bool:
        """Put the item where the condition holds; False where it does not."""
        request = {
            "TableName": self._table,
            "Item": item,
            "ConditionExpression": condition,
            "ExpressionAttributeNames": names,
        }
        try:
            self._dynamodb.put_item(**request | ({"ExpressionAttributeValues": values} if values else {}))
        except ClientError as error:
            if not _condition_failed(error):
                raise
            return False
        return True

    def _by_status(self, status: str) -> Iterator[Item]:
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=self._table,
            IndexName=INDEX,
            KeyConditionExpression="#status = :status",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={":status": {"S": status}},
        )
        for page in pages:
            yield from page["Items"]

    def _query(self, endpoint: str, begins: str, first: int, after: int) -> Iterator[Item]:
        """The items whose sort key begins so."""
        return self._items(endpoint, "begins_with(#item, :item)", begins, first, after)

    def _items(self, endpoint: str, condition: str, item: str, first: int, after: int) -> Iterator[Item]:
        """The items whose sort key is so, the last first, read in pages of these lengths."""
        request: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": f"#endpoint = :endpoint AND {condition}",
            "ExpressionAttributeNames": {"#endpoint": "endpoint", "#item": "item"},
            "ExpressionAttributeValues": {":endpoint": {"S": endpoint}, ":item": {"S": item}},
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
                "Key": ledger_items.key(endpoint, "LEASE"),
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
