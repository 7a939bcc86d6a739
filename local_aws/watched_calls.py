"""Between the server's port and its services: calls are hit by faults on demand, and recorded."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Any

from hypercorn.protocol.events import StreamClosed

from local_aws.api_calls import Answer, HttpRequest, WatchedCall, find_call
from local_aws.environment import OWN_USER_AGENT
from local_aws.faults import Faults, Rule
from local_aws.recorder import Recorder


class WatchedCalls:
    """An ASGI application that does to calls what `faults` says, keeps them in `recorder`, and hands them on.

    Nothing is looked at while neither has anything to do. What the server asks itself is handed on as it is, and so
    is what is none of the calls that `finders` know.

    Args:
        application: what answers.
        finders: each answers which call a request is, or None; by default the signed calls of services that botocore
            knows.
        below: with what the paths begin of the requests that are looked at; the others' bodies are not read.
        caller_of: ARN and id of whose an access key is; None of an account's own.
        account_of: the account of an access key.
        runs_function: whether an access key is of a function's process that runs here.
        kill_function: ends that process.
        key_of_client: the access key of the function whose process has a connection from this port, or "": whose a
            call is that is not signed as AWS's are.
    """

    def __init__(
        self,
        application: Any,
        faults: Faults,
        recorder: Recorder,
        *,
        finders: Sequence[Callable[[HttpRequest], WatchedCall | None]] = (find_call,),
        below: str = "/",
        caller_of: Callable[[str], tuple[str, str] | None],
        account_of: Callable[[str], str],
        runs_function: Callable[[str], bool],
        kill_function: Callable[[str], None],
        key_of_client: Callable[[int], str],
    ) -> None:
        self._application, self._faults, self._recorder = application, faults, recorder
        self._caller_of, self._account_of = caller_of, account_of
        self._runs_function, self._kill_function = runs_function, kill_function
        self._finders, self._below, self._key_of_client = finders, below, key_of_client

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not self._looks_at(scope):
            await self._application(scope, receive, send)
            return
        body = await whole_body(receive)
        if body is None:
            return  # the client has gone before it had asked
        request = HttpRequest.of(scope, body)
        call = next((call for find in self._finders if (call := find(request))), None)
        again = _receive_again(body, receive)
        if call is None:
            await self._application(scope, again, send)
            return
        access_key = call.access_key or self._key_of_client(scope["client"][1])
        caller = self._caller(access_key)
        rule = self._faults.take(call, caller, self._runs_function(access_key))
        keep = None
        if self._recorder.active:
            fault = rule.as_json() if rule else None
            keep = functools.partial(self._recorder.keep, call, request, caller, fault)
        await self._answer(call, access_key, rule, scope, again, _Answer(send, keep))

    def _looks_at(self, scope: Any) -> bool:
        active = self._faults.active or self._recorder.active
        return active and scope["path"].startswith(self._below) and not _is_own(scope)

    def _caller(self, access_key: str) -> str:
        if not access_key:
            return ""  # no function of AWS's, and no caller that AWS knows
        identity = self._caller_of(access_key)
        return identity[0] if identity else f"arn:aws:iam::{self._account_of(access_key)}:root"

    async def _answer(
        self, call: WatchedCall, access_key: str, rule: Rule | None, scope: Any, receive: Any, answer: _Answer
    ) -> None:
        if rule is None:
            await self._application(scope, receive, answer.send)
            return
        if rule.kind == "delay":
            await self._delay(rule, scope, receive, answer)
            return
        if rule.when == "after":
            await self._application(scope, receive, _nowhere)
        if rule.kind == "kill":
            await asyncio.to_thread(self._kill_function, access_key)
        if rule.kind in ("kill", "drop"):
            await answer.drop()
            return
        code, message, status = rule.error(call)
        await answer.send_whole(*call.error_answer(code, message, status))

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


async def whole_body(receive: Any) -> bytes | None:
    """A request's body; None when the client has gone before its end."""
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
