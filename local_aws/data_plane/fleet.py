"""A variant's container as the data plane sees it: a socket, the requests that it has, and those that wait for it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from local_aws.data_plane import http1
from local_aws.data_plane.invocations import (
    LARGEST_BODY,
    LARGEST_SERVERLESS_BODY,
    Asked,
    Refusal,
    connection_lost,
    model_timeout,
    throttled,
    unavailable,
)
from local_aws.data_plane.tally import Tally

# How long a serverless variant's container stays without requests. AWS does not say; a few minutes by experience.
IDLE_SECONDS = 300.0
# Real seconds in which local_aws.hosting says that a container has ended, if it has.
KNOWN_AFTER = 0.25

Finish = Callable[["Invocation"], None]


class Invocation:
    """One request under way; `finish` is called once, when it has its answer or its error."""

    __slots__ = (
        "answer",
        "asked",
        "body",
        "fault",
        "finish",
        "fleet",
        "headers",
        "received",
        "sent",
        "setup",
        "status",
        "worker",
    )

    def __init__(self, asked: Asked, body: bytes, received: float, finish: Finish) -> None:
        self.asked, self.body, self.received, self.finish = asked, body, received, finish
        self.sent = received  # time.perf_counter() when the container was given it
        self.setup = 0.0  # microseconds that it waited for a serverless container
        self.worker: Worker | None = None
        self.fleet: Fleet | None = None
        self.fault: Refusal | None = None
        self.status = 0
        self.headers: dict[str, str] = {}
        self.answer = b""

    def to_container(self) -> bytes:
        """POST /invocations."""
        asked = self.asked
        given = {
            "Content-Type": asked.content_type,
            "Accept": asked.accept,
            "X-Amzn-SageMaker-Custom-Attributes": asked.custom_attributes,
            "X-Amzn-SageMaker-Inference-Id": asked.inference_id,
        }
        headers = {name: value for name, value in given.items() if value is not None}
        return http1.message("POST /invocations HTTP/1.1", headers, self.body)


class Fleet:
    """Starting, until `up` is called.

    Args:
        described: what local_aws.hosting says of it (Fleet.described there).
        say: sends local_aws.hosting a message.
        changed: is called when it has no request any more.
    """

    def __init__(self, described: dict[str, Any], say: Callable[..., None], changed: Callable[[Fleet], None]) -> None:
        self._say, self._changed = say, changed
        self.state = "starting"  # or "up", "lost" (up or down), "down" (to be up again soon), "broken", "asleep"
        self.idle: list[Worker] = []
        self.in_flight: set[Invocation] = set()
        self.waiting: deque[Invocation] = deque()
        self.tally = Tally()
        self._last_used = time.monotonic()
        self._connecting: set[asyncio.Task[None]] = set()
        self.describe(described)
        if described["up"] or described["asleep"]:  # of a fleet that an earlier process of ours had
            self.state = "up" if described["up"] else "asleep"

    def describe(self, described: dict[str, Any]) -> None:
        """What it is, anew."""
        self.id: str = described["id"]
        self.scope: list[str] = described["scope"]
        self.endpoint, self.config, self.variant = described["endpoint"], described["config"], described["variant"]
        self.instances: int | None = described["instances"]
        self.max_concurrency: int | None = described["max_concurrency"]
        self.provisioned: int | None = described["provisioned_concurrency"]
        self.socket: str = described["socket"]

    @property
    def busy(self) -> bool:
        return bool(self.in_flight or self.waiting)

    @property
    def largest_body(self) -> int:
        """Of requests and answers, in bytes."""
        return LARGEST_BODY if self.max_concurrency is None else LARGEST_SERVERLESS_BODY

    def submit(self, invocation: Invocation) -> None:
        """Send it to the container, now or when there is one.

        Raises:
            Refusal: it is not taken.
        """
        concurrent = len(self.in_flight) + len(self.waiting)
        if self.max_concurrency is not None and concurrent >= self.max_concurrency:
            raise throttled()
        if self.provisioned:
            self.tally.utilizations.append((concurrent + 1) / self.provisioned)
        invocation.fleet = self
        self._last_used = time.monotonic()
        if self.state == "up":
            self._send(invocation)
            return
        if self.state == "broken":
            self.tally.invocations += 1
            self.tally.server_errors += 1
            raise unavailable(self.endpoint)
        self.waiting.append(invocation)
        if self.state == "asleep":
            self.state = "starting"
            self._say("wake", fleet=self.id)

    def up(self, setup: float) -> None:
        """The container answers; starting it took so many microseconds."""
        self.state = "up"
        self._last_used = time.monotonic()
        waiting, self.waiting = self.waiting, deque()
        for invocation in waiting:
            invocation.setup = setup
            self._send(invocation)

    def lost(self) -> None:
        """The container hung up: most likely it is ending, and would yet take requests that it never answers."""
        if self.state == "up":
            self.state = "lost"
            self._close_idle()
            asyncio.get_running_loop().call_later(KNOWN_AFTER, self._up_after_all)

    def _up_after_all(self) -> None:
        if self.state == "lost":
            self.up(0.0)

    def down(self) -> None:
        """The container has ended and is started again."""
        self.state = "down"
        self._close_idle()

    def broken(self) -> None:
        """The container could not be started again; that is tried further."""
        self.state = "broken"
        self._close_idle()
        while self.waiting:
            self.finish(self.waiting.popleft(), unavailable(self.endpoint))

    def sleep_if_idle(self, seconds: float) -> None:
        """Let the container go when it had nothing to do for so many seconds."""
        may_sleep = self.max_concurrency is not None and not self.provisioned
        idle = may_sleep and self.state == "up" and not self.busy
        if idle and time.monotonic() - self._last_used >= seconds:
            self.state = "asleep"
            self._close_idle()
            self._say("sleep", fleet=self.id)

    def expire(self, before: float) -> None:
        """Give up the requests that were received before this time (time.perf_counter())."""
        while self.waiting and self.waiting[0].received < before:
            self.finish(self.waiting.popleft(), unavailable(self.endpoint))
        for invocation in [each for each in self.in_flight if each.sent < before]:
            worker, invocation.worker = invocation.worker, None
            if worker is not None:
                worker.abandon()
            self.finish(invocation, model_timeout(invocation.asked))

    def close(self) -> None:
        """Fail what is left, and whatever may come."""
        self.state = "broken"
        self._close_idle()
        for invocation in [*self.waiting, *self.in_flight]:
            if invocation.worker is not None:
                invocation.worker.abandon()
            self.finish(invocation, connection_lost(invocation.asked))
        self.waiting.clear()

    def finish(self, invocation: Invocation, fault: Refusal | None = None) -> None:
        """It has its answer, or this error."""
        self.in_flight.discard(invocation)
        invocation.fault = fault
        now = time.perf_counter()
        tally = self.tally
        tally.invocations += 1
        if invocation.status:
            latency = (now - invocation.sent) * 1e6
            tally.model_latencies.append(latency)
            tally.overheads.append(max(0.0, (now - invocation.received) * 1e6 - latency - invocation.setup))
        if invocation.setup:
            tally.setups.append(invocation.setup)
        if fault is not None or not 200 <= invocation.status < 300:
            tally.model_errors += 1
            if 400 <= invocation.status < 500:
                tally.client_errors += 1
            else:
                tally.server_errors += 1
        self._last_used = time.monotonic()
        invocation.finish(invocation)
        if not self.busy:
            self._changed(self)

    def _send(self, invocation: Invocation) -> None:
        self.in_flight.add(invocation)
        while self.idle:
            worker = self.idle.pop()
            if not worker.closing:
                worker.ask(invocation)
                return
        task = asyncio.get_running_loop().create_task(self._connect(invocation))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, invocation: Invocation) -> None:
        try:
            _, worker = await asyncio.get_running_loop().create_unix_connection(lambda: Worker(self), self.socket)
        except OSError:
            if invocation not in self.in_flight:  # it was given up meanwhile
                return
            # Nothing was sent: it waits for the container that is started in the place of the one that has ended.
            self.in_flight.discard(invocation)
            if self.state == "broken":
                self.finish(invocation, unavailable(self.endpoint))
                return
            if self.state == "up":
                self.state = "down"
            self.waiting.append(invocation)
            return
        if invocation in self.in_flight:
            worker.ask(invocation)
        else:
            self.idle.append(worker)

    def _close_idle(self) -> None:
        idle, self.idle = self.idle, []
        for worker in idle:
            worker.abandon()


class Worker(asyncio.Protocol):
    """A connection to a container: one request at a time."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._invocation: Invocation | None = None
        self._received = bytearray()
        self._head: http1.Head | None = None
        self._length = 0
        self.closing = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self, invocation: Invocation) -> None:
        self._invocation = invocation
        invocation.worker = self
        invocation.sent = time.perf_counter()
        self._transport.write(invocation.to_container())

    def abandon(self) -> None:
        """Close it; nobody waits for its answer."""
        self.closing = True
        self._invocation = None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._head is None:
            self._head = http1.read_head(self._received)
            if self._head is None:
                return
            self._length = int(self._head.headers.get("content-length", 0))
        if len(self._received) < self._length:
            return
        invocation, head = self._invocation, self._head
        body = bytes(self._received)
        self._invocation = self._head = None
        self._received.clear()
        if invocation is None:
            return
        invocation.worker = None
        invocation.status, invocation.headers, invocation.answer = int(head.first[1]), head.headers, body
        self._fleet.idle.append(self)
        self._fleet.finish(invocation)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        if self in self._fleet.idle:
            self._fleet.idle.remove(self)
        invocation, self._invocation = self._invocation, None
        if invocation is not None:
            invocation.worker = None
            self._fleet.lost()
            self._fleet.finish(invocation, connection_lost(invocation.asked))
