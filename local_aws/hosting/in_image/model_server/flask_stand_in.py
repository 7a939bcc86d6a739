"""As much of Flask as a model's program uses in the image, whose model server is a Flask application.

The environments that stand for images have no Flask. A program that finds itself inside of a request may answer with a
flask.Response, which reaches the caller as it is, status included.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from .server import Request

_current: list[_FlaskRequest] = []


class Response:
    """flask.Response: a body, a status, headers."""

    def __init__(
        self,
        response: str | bytes = b"",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        mimetype: str | None = None,
        content_type: str | None = None,
    ) -> None:
        self.data = response.encode() if isinstance(response, str) else bytes(response)
        self.status_code = int(status)
        self.headers = dict(headers or {})
        if mimetype is not None and content_type is None:
            text = mimetype.startswith("text/") and "charset=" not in mimetype
            content_type = f"{mimetype}; charset=utf-8" if text else mimetype
        self.headers["Content-Type"] = content_type or "text/html; charset=utf-8"

    @property
    def mimetype(self) -> str:
        return self.headers["Content-Type"].partition(";")[0].strip().lower()

    def get_data(self) -> bytes:
        return self.data


class _FlaskRequest:
    def __init__(self, request: Request) -> None:
        self.headers = _Headers(request.headers)
        self.data = request.body
        self.content_type = request.headers.get("content-type")

    def get_data(self) -> bytes:
        return self.data


class _Headers(dict[str, str]):
    """By name in any case."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name.lower() if isinstance(name, str) else name)


class _Module(ModuleType):
    @property
    def request(self) -> _FlaskRequest:
        if not _current:
            raise RuntimeError("Working outside of request context.")
        return _current[-1]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(
            f"flask.{name}: local_aws has of flask, in a container, Response, request and has_request_context only"
        )


def install() -> None:
    """Let `import flask` find this, unless the environment has Flask itself."""
    if importlib.util.find_spec("flask") is not None:
        return
    module = _Module("flask")
    module.Response = Response  # type: ignore[attr-defined]
    module.has_request_context = lambda: bool(_current)  # type: ignore[attr-defined]
    sys.modules["flask"] = module


@contextlib.contextmanager
def request_context(request: Request) -> Iterator[None]:
    """While a request is answered."""
    _current.append(_FlaskRequest(request))
    try:
        yield
    finally:
        _current.pop()
