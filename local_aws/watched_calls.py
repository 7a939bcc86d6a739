"""Between the server's port and its services: calls are hit by faults on demand, and recorded."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from hypercorn.protocol.events import StreamClosed

from local_aws.api_calls import Answer, ApiCall, HttpRequest, error_answer, find_call
from local_aws.environment import OWN_USER_AGENT
from local_aws.faults import Faults, Rule
from local_aws.recorder import Recorder


class WatchedCalls:
    """An ASGI application that does to calls what `faults` says, keeps them in `recorder`, and hands them on.

    Nothing is looked at while neither has anything to do. What the server asks itself is handed on as it is, and so
    is what is no signed call of a service that botocore knows.

    Args:
        application: what answers.
        caller_of: ARN and id of whose an access key is; None of an account's own.
        account_of: the account of an access key.
        runs_function: whether an access key is of a function's process that runs here.
        kill_function: ends that process.
    """

    def __init__(
        self,
        application: Any,
        faults: Faults,
        recorder: Recorder,
        *,
        caller_of: Callable[[str], tuple[str, str] | None],
        account_of: Callable[[str], str],
        runs_function: Callable[[str], bool],
        kill_function: Callable[[str], None],
    ) -> None:
        self._application, self._faults, self._recorder = application, faults, recorder
        self._caller_of, self._account_of = caller_of, account_of
        self._runs_function, self._kill_function = runs_function, kill_function

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not (self._faults.active or self._recorder.active) or _is_own(scope):
            await self._application(scope, receive, send)
            return
        body = await _body(receive)
        if body is None:
            return  # the client has gone before it had asked
        request = HttpRequest.of(scope, body)
        call = find_call(request)
        again = _receive_again(body, receive)
        if call is None:
            await self._application(scope, again, send)
            return
        caller = self._caller(call.access_key)
        rule = self._faults.take(call, caller, self._runs_function(call.access_key))
        keep = None
        if self._recorder.active:
            fault = rule.as_json() if rule else None
            keep = functools.partial(self._recorder.keep, call, request, caller, fault)
        await self._answer(call, rule, scope, again, _Answer(send, keep))

    def _caller(self, access_key: str) -> str:
        identity = self._caller_of(access_key)
        return identity[0] if identity else f"arn:aws:iam::{self._account_of(access_key)}:root"

    async def _answer(self, call: ApiCall, rule: Rule | None, scope: Any, receive: Any, answer: _Answer) -> None:
        if rule is None:
            await self._application(scope, receive, answer.send)
            return
        if rule.kind == "delay":
            await self._delay(rule, scope, receive, answer)
            return
        if rule.when == "after":
            await self._application(scope, receive, _nowhere)
        if rule.kind == "kill":
            await asyncio.to_thread(self._kill_function, call.access_key)
        if rule.kind in ("kill", "drop"):
            await answer.drop()
            return
        code, message, status = rule.error(call)
        await answer.send_whole(*error_answer(call, code, message, status))

    async def _delay(self, rule: Rule, scope: Any, receive: Any, answer: _Answer) -> None:
        assert rule.seconds is not None
        if rule.when == "before":
            await asyncio.sleep(rule.seconds)
            await self._application(scope, receive, answer.send)
            return
        messages: list[Any] = []

        async def hold(message: Any) -> None:
            messages.append(message)

        await self._application(scope, receive, hold)
        await asyncio.sleep(rule.seconds)
        for message in messages:
            await answer.send(message)


class _Answer:
    """What is sent to the client.

    Args:
        keep: is given status, headers and body, or None when there is no answer, before the client has the end of it:
            who has been answered finds the call recorded. None: nothing is to be recorded.
    """

    def __init__(self, send: Any, keep: Callable[[Answer | None], None] | None) -> None:
        self._send, self._keep = send, keep
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    async def send(self, message: Any) -> None:
        if self._keep is not None:
            self._collect(message, self._keep)
        await self._send(message)

    def _collect(self, message: Any, keep: Callable[[Answer | None], None]) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                keep((self._status, self._headers, bytes(self._body)))

    async def send_whole(self, status: int, headers: dict[str, str], body: bytes) -> None:
        pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        pairs.append((b"content-length", str(len(body)).encode()))
        await self.send({"type": "http.response.start", "status": status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": body})

    async def drop(self) -> None:
        """Close the connection without an answer.

        ASGI has no word for it. hypercorn's stream, whose method its `send` is, closes the connection when it is told
        that the stream has ended before an answer began.
        """
        if self._keep is not None:
            self._keep(None)
        stream = self._send.__self__
        await stream.send(StreamClosed(stream_id=stream.stream_id))


def _is_own(scope: Any) -> bool:
    agent = next((value for name, value in scope["headers"] if name == b"user-agent"), b"")
    return OWN_USER_AGENT.encode() in agent


async def _body(receive: Any) -> bytes | None:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


def _receive_again(body: bytes, receive: Any) -> Any:
    """What gives the body that was received already, and then what comes after it."""
    given = False

    async def again() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _nowhere(message: Any) -> None:
    """An answer that is lost."""
