"""`/_local_aws/<name>`: switches of the server itself, beside the AWS calls on the same port.

GET answers a switch's settings, POST (JSON) changes them and answers them as they are then. They are for tests and
demonstrations; nothing that also runs on AWS calls them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

PREFIX = "/_local_aws/"

Settings = dict[str, Any]


class ControlCalls:
    """An ASGI application that answers the switches, and hands everything else on.

    Args:
        application: what answers all other requests.
    """

    def __init__(self, application: Any) -> None:
        self._application = application
        self._switches: dict[str, tuple[Callable[[], Settings], Callable[[Settings], None]]] = {}

    def add(self, name: str, read: Callable[[], Settings], change: Callable[[Settings], None]) -> None:
        """Add a switch. `change` is called on the event loop, so it is quick; it raises ValueError for the client."""
        self._switches[name] = (read, change)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._application(scope, receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        status, answer = self._answer(scope["method"], scope["path"].removeprefix(PREFIX), body)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def _answer(self, method: str, name: str, body: bytes) -> tuple[int, Settings]:
        if name not in self._switches:
            return 404, {"error": f"There is no switch {name!r}; there are {', '.join(sorted(self._switches))}."}
        read, change = self._switches[name]
        if method not in ("GET", "POST"):
            return 405, {"error": f"{method} {PREFIX}{name}: use GET to read it, POST to change it."}
        if method == "POST":
            try:
                settings = json.loads(body)
            except ValueError as error:
                return 400, {"error": f"{name}: the settings are not JSON: {error}"}
            if not isinstance(settings, dict):
                return 400, {"error": f"{name}: the settings are a JSON object such as {json.dumps(read())}"}
            try:
                change(settings)
            except ValueError as error:
                return 400, {"error": str(error)}
        return 200, read()
