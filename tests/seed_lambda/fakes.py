"""Small stand-ins: a clock that tests move, AWS clients that answer what a test says, an HTTP server with a script."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from botocore.exceptions import ClientError

from seed_lambda.context import Context
from seed_lambda.log import Log
from seed_lambda.request import parse
from seed_lambda.settings import Settings
from tests.seed_lambda.requests import REGION, event, project

SETTINGS = Settings(
    git_host="codecommit",
    git_base_url="https://github.com",
    git_owner="acme",
    git_token_secret_arn="arn:aws:secretsmanager:eu-central-1:123456789012:secret:git-AbCdEf",
    code_bucket="modelyard-platform",
    queue_url="https://sqs.example.com/events",
    region=REGION,
)


def refusal(code: str, operation: str = "Call", message: str = "no") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


class Clients:
    """boto3's clients: each operation is a function of its arguments.

    CloudFormation says that the stack waits for a Create, unless a test says otherwise.
    """

    def __init__(self, **services: Mapping[str, Callable[..., Any]]) -> None:
        waits = {"StackResourceDetail": {"ResourceStatus": "CREATE_IN_PROGRESS"}}
        stack = {"Stacks": [{"StackStatus": "CREATE_IN_PROGRESS"}]}
        usual = {"describe_stack_resource": lambda **_: waits, "describe_stacks": lambda **_: stack}
        self._services = {"cloudformation": usual} | services

    def __call__(self, service: str) -> Any:
        return type("Client", (), {name: staticmethod(made) for name, made in self._services[service].items()})


class Clock:
    """Time passes by waiting alone."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waited: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds


def context(
    clients: Callable[[str], Any] | None = None,
    clock: Clock | None = None,
    lines: list[str] | None = None,
    seconds: float = 600.0,
    settings: Settings = SETTINGS,
    request: dict[str, Any] | None = None,
) -> Context:
    """A Create's context, with a clock of its own."""
    clock = clock or Clock()
    parsed = parse(request or event("Create", project()))
    log = Log(parsed.ids, (lines if lines is not None else []).append)
    return Context(
        parsed, settings, clients or Clients(), clock.now + seconds, log, monotonic=clock.monotonic, sleep=clock.sleep
    )


Reply = tuple[int, Any, dict[str, str]] | None  # status, body, headers; None hangs up


@dataclass(frozen=True)
class Call:
    """What the server was asked."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Script:
    """An HTTP server that answers from a list; the last one is given again and again."""

    url: str
    answers: list[Reply] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)


@contextmanager
def scripted_server() -> Iterator[Script]:
    script = Script("")

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            script.calls.append(Call(self.command, self.path, dict(self.headers.items()), body))
            answer = script.answers[0] if len(script.answers) == 1 else script.answers.pop(0)
            if answer is None:
                self.close_connection = True
                return
            status, content, headers = answer
            data = b"" if content is None else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = answer

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        script.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield script
        finally:
            server.shutdown()
            thread.join()
