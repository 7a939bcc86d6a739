"""Runs at the start of a job's Python programs, in the image's environment: standard library only. See __init__.py."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

_ADDRESSES = dict(item.split("=") for item in os.environ.get("LOCAL_AWS_HOSTS", "").split())


def _function(original: Callable[..., Any]) -> Callable[..., Any]:
    def resolving(host: Any, *arguments: Any, **options: Any) -> Any:
        return original(_ADDRESSES.get(host, host), *arguments, **options)

    return resolving


def _method(original: Callable[..., Any]) -> Callable[..., Any]:
    def resolving(self: socket.socket, address: Any) -> Any:
        if isinstance(address, tuple) and address:
            address = (_ADDRESSES.get(address[0], address[0]), *address[1:])
        return original(self, address)

    return resolving


for _name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
    setattr(socket, _name, _function(getattr(socket, _name)))
for _name in ("bind", "connect", "connect_ex"):
    setattr(socket.socket, _name, _method(getattr(socket.socket, _name)))
