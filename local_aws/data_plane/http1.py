"""As much of HTTP/1.1 as clients of AWS and our own model servers speak; pure functions."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import NamedTuple

LARGEST_HEAD = 65536  # bytes; of a chunked body's own lines, too
LARGEST_CHUNK = 16 * 1024**2  # bytes
LENGTH = re.compile(r"[0-9]{1,18}")
CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}")
PHRASES = {status.value: status.phrase for status in HTTPStatus}


class BadRequest(Exception):
    """What came is no HTTP/1.1; the text says why."""


class Head(NamedTuple):
    """The head of a message.

    Args:
        first: the first line's three parts: method, target, version, or version, status, phrase.
        headers: by name in lower case; of those given several times the last.
    """

    first: tuple[str, str, str]
    headers: dict[str, str]


def read_head(received: bytearray) -> Head | None:
    """Take the head of a message off what was received; None when it is not whole yet.

    Raises:
        BadRequest: it is none, or a very long one.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        if len(received) > LARGEST_HEAD:
            raise BadRequest(f"a head has more than {LARGEST_HEAD} bytes")
        return None
    lines = received[:end].decode("latin-1").split("\r\n")
    del received[: end + 4]
    parts = lines[0].split(" ", 2)
    if len(parts) != 3:
        raise BadRequest(f"{lines[0][:100]!r} is no first line of HTTP/1.1")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest(f"{line[:100]!r} is no header")
        headers[name.lower()] = value.strip()
    return Head((parts[0], parts[1], parts[2]), headers)


def content_length(headers: dict[str, str]) -> int | None:
    """How long the body is in bytes; None when it comes in chunks.

    Raises:
        BadRequest: the headers do not say.
    """
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].lower() != "chunked":
            raise BadRequest(f"Transfer-Encoding {headers['transfer-encoding']!r} is not supported")
        return None
    text = headers.get("content-length", "0")
    if not LENGTH.fullmatch(text):
        raise BadRequest(f"Content-Length {text[:20]!r} is no number of bytes")
    return int(text)


def read_chunks(received: bytearray, body: bytearray) -> bool:
    """Move what has come of a chunked body over; True when it is whole.

    Raises:
        BadRequest: it is not in chunks, or in very large ones.
    """
    while True:
        end = received.find(b"\r\n")
        if end < 0:
            return _unfinished(received)
        text = received[:end].partition(b";")[0].strip()
        if not CHUNK_SIZE.fullmatch(text):
            raise BadRequest(f"{bytes(text[:20])!r} is no chunk's size")
        size = int(text, 16)
        if size == 0:
            last = received.find(b"\r\n\r\n", end)
            if last < 0:
                return _unfinished(received)
            del received[: last + 4]
            return True
        if size > LARGEST_CHUNK:
            raise BadRequest(f"a chunk has {size} bytes; at most {LARGEST_CHUNK} are taken")
        if len(received) < end + 2 + size + 2:
            return False
        if received[end + 2 + size : end + 2 + size + 2] != b"\r\n":
            raise BadRequest(f"a chunk is longer than the {size} bytes that it says")
        body += received[end + 2 : end + 2 + size]
        del received[: end + 2 + size + 2]


def _unfinished(received: bytearray) -> bool:
    if len(received) > LARGEST_HEAD:
        raise BadRequest(f"what stands around its chunks has more than {LARGEST_HEAD} bytes")
    return False


def message(first: str, headers: dict[str, str], body: bytes) -> bytes:
    """A message with this first line; Content-Length is added."""
    lines = [first, *[f"{name}: {value}" for name, value in headers.items()], f"Content-Length: {len(body)}\r\n\r\n"]
    return "\r\n".join(lines).encode("latin-1", "replace") + body


def answer(status: int, headers: dict[str, str], body: bytes) -> bytes:
    """A response."""
    return message(f"HTTP/1.1 {status} {PHRASES.get(status, '')}", headers, body)
