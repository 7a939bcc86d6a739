"""What runs in a function's process: imports the handler, then answers one invocation after the other.

Started by local_aws.functions with two descriptors: requests come on the first, one line of JSON each, answers go to
the second. When the first is closed, which the kernel does should the server die, the process and everything that it
started end. Errors are told as AWS's Python runtime tells them
(https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html). Standard library only: it runs in the runtime's
environment, not in the server's.
"""

from __future__ import annotations

import decimal
import importlib
import json
import logging
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

END_OF_LOG = "\0end of log\n"  # on standard output, after everything that belongs to an invocation


class Context:
    """The handler's second argument: https://docs.aws.amazon.com/lambda/latest/dg/python-context.html"""

    identity = None
    client_context = None

    def __init__(self, request: dict[str, Any]) -> None:
        self.aws_request_id = request["request_id"]
        self.invoked_function_arn = request["arn"]
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self._deadline = request["deadline"]

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._deadline - time.time()) * 1000))

    def log(self, message: object) -> None:
        sys.stdout.write(str(message))


class LogLines(logging.Handler):
    """The root logger's handler, with AWS's line format."""

    request_id = ""

    def emit(self, record: logging.LogRecord) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        text = self.format(record)
        sys.stdout.write(f"[{record.levelname}]\t{at}.{int(record.msecs):03d}Z\t{self.request_id}\t{text}\n")


class InitError(Exception):
    """The handler cannot be had; `answer` is the invocation's."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer)
        self.answer = answer


def main() -> None:
    reading, writing = int(sys.argv[1]), int(sys.argv[2])
    for descriptor in (reading, writing):
        os.set_inheritable(descriptor, False)  # what a handler starts must not hold them open
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(reading, requests), daemon=True).start()
    sys.argv = [sys.argv[0]]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    log = LogLines()
    logging.getLogger().addHandler(log)
    try:
        handler = _import_handler(os.environ["_HANDLER"])
    except InitError as error:
        _tell_error(error.answer)
        _answer(writing, {"init": error.answer})
        requests.get()  # nothing more comes; the server ends the process
        return
    _answer(writing, {"init": None})
    while True:
        request = requests.get()
        log.request_id = request["request_id"]
        _answer(writing, _invoke(handler, request))


def _read(descriptor: int, requests: queue.SimpleQueue[dict[str, Any]]) -> None:
    with open(descriptor, "rb") as stream:
        for line in stream:
            requests.put(json.loads(line))
    os.killpg(os.getpid(), signal.SIGKILL)


def _answer(descriptor: int, answer: dict[str, Any]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(1, END_OF_LOG.encode())
    data = json.dumps(answer).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


def _import_handler(name: str) -> Callable[[Any, Context], Any]:
    sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
    module_name, dot, function_name = name.rpartition(".")
    if not dot:
        raise InitError(_error("Runtime.MalformedHandlerName", f"Bad handler '{name}': not enough values to unpack"))
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        raise InitError(
            _error("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {error}")
        ) from error
    except SyntaxError as error:
        raise InitError(
            _error("Runtime.UserCodeSyntaxError", f"Syntax error in module '{module_name}': {error}")
        ) from error
    except BaseException as error:
        raise InitError(_exception(error)) from error
    if not hasattr(module, function_name):
        raise InitError(
            _error("Runtime.HandlerNotFound", f"Handler '{function_name}' missing on module '{module_name}'")
        )
    return getattr(module, function_name)


def _invoke(handler: Callable[[Any, Context], Any], request: dict[str, Any]) -> dict[str, Any]:
    try:
        result = handler(request["event"], Context(request))
    except Exception as error:  # noqa: BLE001  # whatever the handler raises is the answer
        answer = _exception(error)
        _tell_error(answer)
        return {"error": answer | {"requestId": request["request_id"]}}
    try:
        return {"result": json.dumps(result, default=_as_json)}
    except (TypeError, ValueError) as error:
        answer = _error("Runtime.MarshalError", f"Unable to marshal response: {error}")
        _tell_error(answer)
        return {"error": answer | {"requestId": request["request_id"]}}


def _as_json(value: object) -> float:
    if isinstance(value, decimal.Decimal):
        return float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"errorMessage": message, "errorType": kind, "stackTrace": []}


def _exception(error: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__ and "importlib" not in frame.filename]
    return {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "stackTrace": traceback.format_list(own),
    }


def _tell_error(answer: dict[str, Any]) -> None:
    lines = [f"[ERROR] {answer['errorType']}: {answer['errorMessage']}\n"]
    if answer["stackTrace"]:
        lines += ["Traceback (most recent call last):\n", *answer["stackTrace"]]
    sys.stdout.write("".join(lines))


if __name__ == "__main__":
    main()
