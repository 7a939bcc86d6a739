"""Endpoints, their routes, and what becomes of a request."""

from __future__ import annotations

import functools
import logging
import random
import time
import uuid
from collections.abc import Callable
from typing import Any

from local_aws.data_plane import invocations
from local_aws.data_plane.capture import Capture
from local_aws.data_plane.fleet import IDLE_SECONDS, Fleet, Invocation
from local_aws.data_plane.http1 import Head
from local_aws.data_plane.invocations import Asked, Refusal
from local_aws.data_plane.permits import Permits
from local_aws.data_plane.tally import Tally

# Statuses in which an endpoint has nothing that could answer.
NOT_SERVING = ("Creating", "Failed", "Deleting", "OutOfService")
MOST_CAPTURED = 4 * 1024**2  # bytes of records that wait to be written; AWS too drops what it cannot keep

Respond = Callable[[int, dict[str, str], bytes], None]

logger = logging.getLogger(__name__)


class Endpoint:
    """Its routes. Shares are summed up once, so that a draw is one comparison or two."""

    def __init__(self, described: dict[str, Any], fleets: dict[str, Fleet]) -> None:
        self.status: str = described["status"]
        self.deploying: bool = described["deploying"]
        config = described["data_capture"]
        capture = Capture(config) if config else None
        self.capture = capture if capture is not None and capture.enabled else None
        self.variants: dict[str, list[tuple[Fleet, float]]] = {}
        self.choices: list[tuple[Fleet, float]] = []
        for variant in described["variants"]:
            # A fleet that has been stopped meanwhile gets nothing any more.
            shares = [(fleets[fleet], share) for fleet, share in variant["fleets"] if fleet in fleets]
            self.variants[variant["name"]] = shares
            self.choices += [(fleet, share * variant["weight"]) for fleet, share in shares]

    def choose(self, asked: Asked) -> Fleet | None:
        """The fleet for a request; None when nothing can answer it.

        Raises:
            Refusal: there is no such variant.
        """
        choices = self.choices
        if asked.variant is not None:
            if asked.variant not in self.variants:
                raise invocations.variant_not_found(asked.variant, asked.endpoint)
            choices = self.variants[asked.variant]
        if len(choices) == 1:
            return choices[0][0]
        draw = random.random() * sum(weight for _, weight in choices)  # noqa: S311 (no secret)
        for fleet, weight in choices:
            draw -= weight
            if draw < 0:
                return fleet
        return None


class Plane:
    """All of it.

    Args:
        say: sends local_aws.hosting a message.
        clock_speed: how many of AWS's seconds pass in one here.
        model_timeout: how long a container has for an answer, in seconds of this machine: computing is not made
            faster by the clock.
        permits: who may invoke what; without them everybody may invoke everything.
    """

    def __init__(
        self,
        say: Callable[..., None],
        clock_speed: float,
        model_timeout: float = invocations.MODEL_TIMEOUT,
        permits: Permits | None = None,
    ) -> None:
        self._permits = permits
        self._say, self._model_timeout = say, model_timeout
        self._idle_seconds = IDLE_SECONDS / clock_speed
        self._fleets: dict[str, Fleet] = {}
        self._endpoints: dict[tuple[str, str, str], Endpoint] = {}
        self._accounts: dict[str, str] = {}
        self._unknown_keys: dict[str, list[tuple[Head, bytes, float, Respond]]] = {}
        self._captured: dict[tuple[str, ...], list[str]] = {}
        self._captured_size = 0
        self._draining: dict[str, list[int]] = {}

    # Requests

    def handle(self, head: Head, body: bytes, received: float, respond: Respond) -> None:
        """Answer a request, now or later.

        Args:
            received: when its head came (time.perf_counter()).
            respond: is called once with status, headers and body.
        """
        method, target, _ = head.first
        try:
            asked = invocations.read_request(method, target, head.headers, self._accounts.__getitem__)
        except KeyError as unknown:
            self._ask_for_account(str(unknown.args[0]), (head, body, received, respond))
            return
        except Refusal as refusal:
            _refuse(respond, refusal)
            return
        try:
            if self._permits is not None:
                again = functools.partial(self.handle, head, body, received, respond)
                if not self._permits.check(head, body, asked.endpoint, again):
                    return
            self._invoke(asked, body, received, respond)
        except Refusal as refusal:
            _refuse(respond, refusal)

    def _invoke(self, asked: Asked, body: bytes, received: float, respond: Respond) -> None:
        endpoint = self._endpoints.get((asked.account, asked.region, asked.endpoint))
        if endpoint is None or endpoint.status in NOT_SERVING:
            raise invocations.not_found(asked.endpoint, asked.account)
        fleet = endpoint.choose(asked)
        if fleet is None:
            raise invocations.unavailable(asked.endpoint)
        if len(body) > fleet.largest_body:
            raise invocations.too_large(fleet.largest_body)
        fleet.submit(Invocation(asked, body, received, lambda done: self._finish(done, endpoint, respond)))

    def _finish(self, done: Invocation, endpoint: Endpoint, respond: Respond) -> None:
        fleet, asked = done.fleet, done.asked
        assert fleet is not None
        if done.fault is not None:
            _refuse(respond, done.fault)
            return
        if not 200 <= done.status < 300:
            _refuse(respond, invocations.model_error(asked, done.status, done.answer))
            return
        if len(done.answer) > fleet.largest_body:
            _refuse(respond, invocations.answer_too_large(asked, done.status))
            return
        content_type = done.headers.get("content-type")
        headers = {"x-Amzn-Invoked-Production-Variant": fleet.variant}
        if content_type is not None:
            headers["Content-Type"] = content_type
        if "x-amzn-sagemaker-custom-attributes" in done.headers:
            headers["X-Amzn-SageMaker-Custom-Attributes"] = done.headers["x-amzn-sagemaker-custom-attributes"]
        _respond(respond, done.status, headers, done.answer)
        capture = endpoint.capture
        if capture is not None and random.random() < capture.share:  # noqa: S311 (no secret)
            record = capture.record(asked, done.body, content_type, done.answer)
            if self._captured_size + len(record) > MOST_CAPTURED:
                self._send_captured()
            target = (fleet.variant, capture.destination, capture.kms_key or "")
            key = (asked.account, asked.region, asked.endpoint, *target)
            self._captured.setdefault(key, []).append(record)
            self._captured_size += len(record)

    def _ask_for_account(self, key: str, request: tuple[Head, bytes, float, Respond]) -> None:
        waiting = self._unknown_keys.setdefault(key, [])
        waiting.append(request)
        if len(waiting) == 1:
            self._say("account", access_key=key)

    # Regular work

    def check(self) -> None:
        """Give up requests that took too long; let idle serverless containers go."""
        before = time.perf_counter() - self._model_timeout
        for fleet in self._fleets.values():
            if fleet.busy:
                fleet.expire(before)
            fleet.sleep_if_idle(self._idle_seconds)

    def publish(self) -> None:
        """Hand over what was counted and captured since the last time."""
        self._publish(list(self._fleets.values()))
        self._send_captured()

    def _publish(self, fleets: list[Fleet]) -> None:
        found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for fleet in fleets:
            data = self._metrics(fleet)
            if data:
                found.setdefault(tuple(fleet.scope), []).extend(data)
        for scope, data in found.items():
            self._say("metrics", scope=scope, at=time.time(), data=data)

    def _metrics(self, fleet: Fleet) -> list[dict[str, Any]]:
        """Of the fleet's requests since the last time: MetricData without Timestamp."""
        tally, fleet.tally = fleet.tally, Tally()
        metrics = tally.metrics(fleet.instances)
        dimensions = [
            {"Name": "EndpointName", "Value": fleet.endpoint},
            {"Name": "VariantName", "Value": fleet.variant},
        ]
        data = [{**datum, "Dimensions": dimensions} for datum in metrics]
        endpoint = self._endpoints.get((*fleet.scope, fleet.endpoint))
        if endpoint is not None and endpoint.deploying:
            more = [*dimensions, {"Name": "EndpointConfigName", "Value": fleet.config}]
            data += [{**datum, "Dimensions": more} for datum in metrics]
        return data

    def _send_captured(self) -> None:
        captured, self._captured, self._captured_size = self._captured, {}, 0
        for (account, region, endpoint, variant, destination, kms_key), records in captured.items():
            self._say(
                "capture",
                scope=[account, region],
                endpoint=endpoint,
                variant=variant,
                to=destination,
                kms_key=kms_key or None,
                at=time.time(),
                records=records,
            )

    # What local_aws.hosting says

    def act(self, message: dict[str, Any]) -> None:
        """Act on a message, and say when it is done."""
        do, number = message["do"], message.get("number")
        if do == "account":
            self._know_account(message["access_key"], message["account"])
            return
        if do == "permit":
            if self._permits is not None:
                self._permits.know(message)
            return
        if do == "drain":
            fleet = self._fleets.get(message["fleet"])
            if fleet is not None and fleet.busy:
                self._draining.setdefault(fleet.id, []).append(number or 0)
                return
        elif do == "fleet":
            self._describe(message["fleet"])
        elif do == "route":
            self._route(message)
        elif do == "flush":
            self.publish()
        elif message["fleet"] in self._fleets:
            self._change_fleet(do, self._fleets[message["fleet"]], message)
        self._say("done", number=number)

    def _describe(self, described: dict[str, Any]) -> None:
        if described["id"] in self._fleets:
            self._fleets[described["id"]].describe(described)
        else:
            self._fleets[described["id"]] = Fleet(described, self._say, self._drained)

    def _route(self, message: dict[str, Any]) -> None:
        key = (*message["scope"], message["endpoint"])
        # What was counted until now belongs to the state until now (EndpointConfigName or not).
        self._publish([fleet for fleet in self._fleets.values() if (*fleet.scope, fleet.endpoint) == key])
        if message["routes"] is None:
            self._endpoints.pop(key, None)
        else:
            self._endpoints[key] = Endpoint(message["routes"], self._fleets)

    def _change_fleet(self, do: str, fleet: Fleet, message: dict[str, Any]) -> None:
        if do == "up":
            fleet.up(message["setup"] if fleet.max_concurrency is not None else 0.0)
        elif do == "down":
            fleet.down()
        elif do == "broken":
            fleet.broken()
        else:  # "forget"
            fleet.close()
            self._publish([fleet])
            del self._fleets[fleet.id]

    def _drained(self, fleet: Fleet) -> None:
        for number in self._draining.pop(fleet.id, ()):
            self._say("done", number=number)

    def _know_account(self, key: str, account: str) -> None:
        self._accounts[key] = account
        for request in self._unknown_keys.pop(key, ()):
            self.handle(*request)


def _refuse(respond: Respond, refusal: Refusal) -> None:
    headers, body = refusal.answer()
    _respond(respond, refusal.status, headers, body)


def _respond(respond: Respond, status: int, headers: dict[str, str], body: bytes) -> None:
    headers["x-amzn-RequestId"] = str(uuid.uuid4())
    respond(status, headers, body)
