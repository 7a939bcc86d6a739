"""Clients' connections: HTTP/1.1 with keep-alive, one request of each at a time."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from local_aws.data_plane import http1
from local_aws.data_plane.invocations import LARGEST_BODY, too_large
from local_aws.data_plane.plane import Plane

MOST_DISCARDED = 256 * 1024**2  # bytes of a body that is too large; of a larger one the connection is closed


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._received = bytearray()
        self._head: http1.Head | None = None
        self._body = bytearray()  # of one in chunks
        self._length: int | None = 0
        self._discard = 0  # bytes of a body that is refused and still comes
        self._started = 0.0
        self._busy = self._reading = False
        self._full = False  # the client does not take its answers: it gets no more until it does

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not (self._busy or self._full):
            self._read()
        elif len(self._received) > LARGEST_BODY:  # further requests, before the answer to this one
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._go_on()

    def _read(self) -> None:
        """Take the next request off what has come, as often as there is one and the one before is answered."""
        self._reading = True
        try:
            while self._received and not (self._busy or self._full or self._transport.is_closing()):
                if not self._read_one():
                    break
        except http1.BadRequest as error:
            said = json.dumps({"message": f"This is no request in HTTP/1.1: {error}."}).encode()
            headers = {"x-amzn-ErrorType": "BadRequestException", "Content-Type": "application/json"}
            self._transport.write(http1.answer(400, headers | {"Connection": "close"}, said))
            self._transport.close()
        finally:
            self._reading = False

    def _read_one(self) -> bool:
        """Take what there is of a request; False when more must come."""
        if self._head is None:
            self._head = http1.read_head(self._received)
            if self._head is None:
                return False
            self._started = time.perf_counter()
            self._length = http1.content_length(self._head.headers)
            if self._length is not None and self._length > LARGEST_BODY:
                if self._length > MOST_DISCARDED:
                    raise http1.BadRequest(f"its body has {self._length} bytes")
                self._discard = self._length
            if self._head.headers.get("expect", "").lower() == "100-continue":
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._discard:
            gone = min(self._discard, len(self._received))
            del self._received[:gone]
            self._discard -= gone
            if self._discard:
                return False
            headers, said = too_large(LARGEST_BODY).answer()
            self._busy = True
            self._respond(400, headers, said)
            return True
        if self._length is None:
            whole = http1.read_chunks(self._received, self._body)
            if len(self._body) > LARGEST_BODY + 1:
                del self._body[LARGEST_BODY + 1 :]  # too large whatever else comes: keep as much as shows it
            if not whole:
                return False
            body = bytes(self._body)
            self._body.clear()
        else:
            if len(self._received) < self._length:
                return False
            body = bytes(self._received[: self._length])
            del self._received[: self._length]
        self._busy = True
        self._plane.handle(self._head, body, self._started, self._respond)
        return True

    def _respond(self, status: int, headers: dict[str, str], body: bytes) -> None:
        head, self._head = self._head, None
        self._busy = False
        if self._transport.is_closing():
            return
        assert head is not None
        if head.headers.get("connection", "").lower() == "close" or head.first[2] == "HTTP/1.0":
            self._transport.write(http1.answer(status, headers | {"Connection": "close"}, body))
            self._transport.close()
            return
        self._transport.write(http1.answer(status, headers, body))
        self._go_on()

    def _go_on(self) -> None:
        """With the requests that came meanwhile."""
        if self._full or self._busy or self._transport.is_closing():
            return
        self._transport.resume_reading()
        if self._received and not self._reading:
            self._read()
