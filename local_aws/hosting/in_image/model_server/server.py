"""HTTP/1.1 on a Unix socket, one request after the other, as one worker process of the image answers them.

Its only client is local_aws's data plane (or Container.invoke): requests have a Content-Length and no other framing.
"""

from __future__ import annotations

import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

READ = 1 << 20  # bytes at once
PHRASES = {status.value: status.phrase for status in HTTPStatus}
NO_LINE_BREAKS = str.maketrans("\r\n", "  ")
SERVER_ERROR = (
    b"<!doctype html>\n<html lang=en>\n<title>500 Internal Server Error</title>\n<h1>Internal Server Error</h1>\n"
    b"<p>The server encountered an internal error and was unable to complete your request. Either the server is"
    b" overloaded or there is an error in the application.</p>\n"
)


@dataclass(frozen=True)
class Request:
    """A request. headers: by name in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """An answer."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class UnsupportedFormat(Exception):
    """No such content type, or no such answer. The image's class, UnsupportedFormatError, says it in these words."""

    def __init__(self, content_type: str) -> None:
        super().__init__(f'Content type "{content_type}" is not supported by this framework.')


class Application(Protocol):
    """What answers."""

    def invoke(self, request: Request) -> Answer: ...

    def execution_parameters(self) -> Answer: ...


class _Connection:
    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self.received = bytearray()
        self.head: Request | None = None  # of the request whose body is still coming
        self.needed = 0


class Server:
    """Listens from its making on; answers once `serve` is called."""

    def __init__(self, path: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(1024)
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))

    def serve(self, application: Application) -> None:
        """Answer until the process is told to end."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._listener:
                        stream, _ = self._listener.accept()
                        selector.register(stream, selectors.EVENT_READ, _Connection(stream))
                    elif not self._read(key.data, application):
                        selector.unregister(key.fileobj)
                        key.data.stream.close()

    def _read(self, connection: _Connection, application: Application) -> bool:
        """Take what has come; answer the requests that are whole. False when the connection is at its end."""
        try:
            data = connection.stream.recv(READ)
        except ConnectionError:
            return False
        if not data:
            return False
        connection.received += data
        while (request := _next_request(connection)) is not None:
            try:
                connection.stream.sendall(encode(answer(request, application)))
            except ConnectionError:  # the client gave up waiting
                return False
        return True


def _next_request(connection: _Connection) -> Request | None:
    """Take a whole request off what was received."""
    received = connection.received
    if connection.head is None:
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *lines = received[:end].decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        connection.head = Request(method, path, headers, b"")
        connection.needed = int(headers.get("content-length", 0))
        del received[: end + 4]
    if len(received) < connection.needed:
        return None
    head, body = connection.head, bytes(received[: connection.needed])
    del received[: connection.needed]
    connection.head = None
    return Request(head.method, head.path, head.headers, body)


def answer(request: Request, application: Application) -> Answer:
    """The application's answer; 500 for whatever it raises, with the reason in the log."""
    try:
        if (request.method, request.path) == ("POST", "/invocations"):
            return application.invoke(request)
        if (request.method, request.path) == ("GET", "/ping"):
            return Answer(HTTPStatus.OK, content_type="application/json")
        if (request.method, request.path) == ("GET", "/execution-parameters"):
            return application.execution_parameters()
    except Exception:  # noqa: BLE001 (a request's error is its answer; the worker goes on)
        traceback.print_exc()
        return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, SERVER_ERROR, "text/html; charset=utf-8")
    return Answer(HTTPStatus.NOT_FOUND, b"Not Found", "text/plain")


def encode(given: Answer) -> bytes:
    """An answer as HTTP."""
    headers = dict(given.headers)
    if given.content_type is not None:
        headers["Content-Type"] = given.content_type
    headers["Content-Length"] = str(len(given.body))
    lines = [f"HTTP/1.1 {given.status} {PHRASES.get(given.status, '')}"]
    # A line break inside of a value would begin a header that nobody meant.
    lines += [f"{name}: {value}".translate(NO_LINE_BREAKS) for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace") + given.body
