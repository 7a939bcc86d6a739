"""The events that AWS's services send to EventBridge, and what can happen to them on the way.

AWS promises little: SageMaker's events are best effort, may come more than once
(https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html), late, and in another
order. By default they come once, at once and in order here; `configure` asks for the rest, so that what listens can
be shown to bear it.
"""

from __future__ import annotations

import heapq
import itertools
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, Protocol

from local_aws.store import Scope, Store

HELD_FOR_REORDERING = 1.0  # seconds that an event waits for one to change places with

logger = logging.getLogger(__name__)

# What hands an entry of PutEvents (Source, DetailType, Resources, Detail) to EventBridge's default bus, and returns
# when what came of it is kept.
Put = Callable[[Scope, dict[str, Any]], None]


class Outbox(Protocol):
    """Where events are kept until they are delivered, also over the end of the server."""

    def keep(self, key: str, scope: Scope, entry: dict[str, Any]) -> None: ...

    def forget(self, key: str, scope: Scope) -> None: ...

    def left(self) -> list[tuple[str, Scope, dict[str, Any]]]:
        """Those that are kept: key, scope, entry."""
        ...


class StoreOutbox:
    """An outbox in the store: an event that is emitted while the store's lock is held is kept together with the change
    that it tells."""

    def __init__(self, store: Store) -> None:
        self._table = store.table("events")

    def keep(self, key: str, scope: Scope, entry: dict[str, Any]) -> None:
        self._table.put(scope, key, entry)

    def forget(self, key: str, scope: Scope) -> None:
        self._table.delete(scope, key)

    def left(self) -> list[tuple[str, Scope, dict[str, Any]]]:
        return sorted((key, scope, entry) for scope, key, entry in self._table.items())


class DictionaryOutbox:
    """An outbox in a dictionary, for what is told by those who keep their state in such ones (Durability)."""

    def __init__(self, kept: MutableMapping[str, Any]) -> None:
        self._kept = kept

    def keep(self, key: str, scope: Scope, entry: dict[str, Any]) -> None:
        self._kept[key] = [*scope, entry]

    def forget(self, key: str, scope: Scope) -> None:
        del self._kept[key]

    def left(self) -> list[tuple[str, Scope, dict[str, Any]]]:
        return [(key, Scope(account, region), entry) for key, (account, region, entry) in self._kept.items()]


@dataclass(frozen=True)
class Faults:
    """What happens to events on the way.

    Args:
        double: the share, 0 to 1, that come twice (with another id, as SageMaker's own duplicates).
        lose: the share, 0 to 1, of SageMaker's that never come.
        delay_seconds: how late they come, in seconds of the wall clock.
        reorder: each second one comes before the one before it.
        serverless: whether serverless endpoints send state changes: "none", or "some" (each second one). AWS's
            documents say neither.
    """

    double: float = 0.0
    lose: float = 0.0
    delay_seconds: float = 0.0
    reorder: bool = False
    serverless: str = "none"

    def __post_init__(self) -> None:
        for name in ("double", "lose"):
            share = getattr(self, name)
            if not (_is_number(share) and 0 <= share <= 1):
                raise ValueError(f"events: {name} is {share!r}; give the share of the events, 0 to 1")
        if not (_is_number(self.delay_seconds) and 0 <= self.delay_seconds < float("inf")):
            raise ValueError(f"events: delay_seconds is {self.delay_seconds!r}; give seconds, 0 or more")
        if self.reorder not in (True, False):
            raise ValueError(f"events: reorder is {self.reorder!r}; give true or false")
        if self.serverless not in ("none", "some"):
            raise ValueError(f"events: serverless is {self.serverless!r}; give 'none' or 'some'")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class Events:
    """Sends events to EventBridge from a thread of its own: what emits them neither waits nor fails.

    Args:
        put: hands an event to EventBridge.
        outboxes: by an event's source, where it is kept until then; those of other sources are lost with the server.
        waits: nothing is sent before `resume`, while EventBridge does not know its rules yet.
    """

    def __init__(self, put: Put, outboxes: Mapping[str, Outbox] | None = None, waits: bool = False) -> None:
        self._put, self._outboxes, self._waits = put, outboxes or {}, waits
        self._faults = Faults()
        self._random = random.Random(0)  # the same faults in the same order at every start  # noqa: S311
        self._serverless = itertools.cycle((True, False))
        self._number = itertools.count()
        # A heap by due time: that, a number, scope, entry, key in the outbox.
        self._waiting: list[tuple[float, int, Scope, dict[str, Any], str]] = []
        self._held: tuple[float, int, Scope, dict[str, Any], str] | None = None
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._deliver, daemon=True, name="events")
        self._thread.start()

    def emit(
        self,
        scope: Scope,
        detail_type: str,
        resources: list[str],
        detail: dict[str, Any],
        source: str = "aws.sagemaker",
    ) -> None:
        """Send one event; returns at once.

        Args:
            scope: the account and Region that it is of.
            detail_type: such as "SageMaker Endpoint State Change".
            resources: ARNs of what it is about.
            detail: JSON; it is written down now, so that later changes do not reach it.
            source: the service's name in events.
        """
        entry = {
            "Source": source,
            "DetailType": detail_type,
            "Resources": list(resources),
            "Detail": json.dumps(detail),
        }
        with self._changed:
            # Alarms' events are not best effort: https://docs.aws.amazon.com/eventbridge/latest/ref/event-delivery-level.html
            if source == "aws.sagemaker" and self._random.random() < self._faults.lose:
                logger.info("Lost on request: %s %s", detail_type, resources)
                return
            copies = 2 if self._random.random() < self._faults.double else 1
        # Not with the condition held: who emits may hold the outbox's lock, and who delivers may wait for it.
        key = f"{time.time_ns():020d}-{next(self._number)}"
        if outbox := self._outboxes.get(source):
            outbox.keep(key, scope, entry)
        with self._changed:
            for _ in range(copies):
                self._send_later(scope, entry, key)
            self._changed.notify()

    def resume(self) -> None:
        """Begin to send; first what the last server had not sent when it ended."""
        left = sorted(
            (key, scope, entry)
            for source, outbox in self._outboxes.items()
            for key, scope, entry in outbox.left()
            if entry["Source"] == source
        )
        with self._changed:
            known = {item[4] for item in self._waiting}
            for key, scope, entry in left:
                if key not in known:  # else it was emitted since the start
                    heapq.heappush(self._waiting, (0.0, next(self._number) - len(left), scope, entry, key))
            self._waits = False
            self._changed.notify()

    def _send_later(self, scope: Scope, entry: dict[str, Any], key: str) -> None:
        due = time.monotonic() + self._faults.delay_seconds
        item = (due, next(self._number), scope, entry, key)
        if not self._faults.reorder:
            heapq.heappush(self._waiting, item)
        elif self._held is None or self._held not in self._waiting:  # one that waited long enough has gone alone
            self._held = (due + HELD_FOR_REORDERING, *item[1:])
            heapq.heappush(self._waiting, self._held)
        else:
            heapq.heappush(self._waiting, item)
            self._waiting.remove(self._held)
            heapq.heapify(self._waiting)
            heapq.heappush(self._waiting, (due, next(self._number), *self._held[2:]))
            self._held = None

    def for_serverless(self) -> bool:
        """Whether this state change of a serverless endpoint is one that AWS tells about."""
        with self._changed:
            return self._faults.serverless == "some" and next(self._serverless)

    def settings(self) -> dict[str, Any]:
        return asdict(self._faults)

    def configure(self, settings: dict[str, Any]) -> None:
        """Ask for faults; those that are not named happen no more.

        Raises:
            ValueError: a name or value that is none.
        """
        names = [field.name for field in fields(Faults)]
        if unknown := sorted(set(settings) - set(names)):
            raise ValueError(f"events: there is no setting {', '.join(unknown)}; there are {', '.join(names)}")
        faults = Faults(**settings)
        with self._changed:
            self._faults = faults
            self._held = None

    def stop(self) -> None:
        """Send nothing more."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _deliver(self) -> None:
        while (item := self._next()) is not None:
            scope, entry, key = item
            try:
                self._put(scope, entry)
            except Exception:
                logger.exception("EventBridge did not take %s", entry)
            if (outbox := self._outboxes.get(entry["Source"])) and not self._is_waiting(key):
                outbox.forget(key, scope)

    def _is_waiting(self, key: str) -> bool:
        """Whether it is to be sent a second time."""
        with self._changed:
            return any(item[4] == key for item in self._waiting)

    def _next(self) -> tuple[Scope, dict[str, Any], str] | None:
        with self._changed:
            while not self._stopped:
                if self._waits:
                    self._changed.wait()
                    continue
                left = self._waiting[0][0] - time.monotonic() if self._waiting else None
                if left is not None and left <= 0:
                    return heapq.heappop(self._waiting)[2:]
                self._changed.wait(left)
        return None


def event_time(seconds: float) -> str:
    """A time as most events have it: UTC, ISO 8601, in whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
