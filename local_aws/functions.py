"""Lambda functions run for real, each in a process of its own that sees its zip, its runtime and its role, no more.

A process is an execution environment: it answers one invocation at a time, is kept for the next, and ends with the
server. https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import select
import shutil
import signal
import subprocess
import threading
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from local_aws.processes import Process
from local_aws.runtimes import BOOTSTRAP, Runtimes, RuntimeUnknown
from local_aws.runtimes.bootstrap import END_OF_LOG
from local_aws.store import Scope

INIT_SECONDS = 10.0  # how long AWS lets a handler's module be imported
IDLE_SECONDS = 300.0  # how long a process is kept without an invocation
MEMORY_LOOKS = 0.05  # seconds between two looks at how much memory a process has taken
LARGEST_ANSWER = 6_291_556  # bytes
LARGEST_UNZIPPED = 262_144_000  # bytes: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
PAGE = os.sysconf("SC_PAGE_SIZE")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Function:
    """What an invocation runs: one version of a function, as it is configured now.

    Args:
        arn: without a qualifier.
        timeout: seconds.
        memory: MB.
        code: the zip archive.
    """

    arn: str
    name: str
    version: str
    runtime: str
    handler: str
    role: str
    timeout: int
    memory: int
    variables: dict[str, str]
    code: bytes = field(repr=False)

    @property
    def scope(self) -> Scope:
        parts = self.arn.split(":")
        return Scope(account=parts[4], region=parts[3])

    @property
    def key(self) -> str:
        """The same for invocations that can share a process."""
        settings = [self.arn, self.version, self.runtime, self.handler, self.role, self.timeout, self.memory]
        text = json.dumps([*settings, self.variables], sort_keys=True)
        return hashlib.sha256(text.encode() + self.code).hexdigest()


@dataclass(frozen=True)
class Outcome:
    """How an invocation ended.

    Args:
        body: the handler's answer as JSON, or the error as AWS's Python runtime tells it.
        failed: whether `body` is an error.
        log: START, what the function printed, END and REPORT.
        seconds: how long it took.
    """

    body: Any
    failed: bool
    log: str
    seconds: float


class ExecutionEnvironment:
    """One process of one function."""

    def __init__(self, function: Function, interpreter: Path, folder: Path, environment: dict[str, str]) -> None:
        self.function = function
        self.access_key = environment.get("AWS_ACCESS_KEY_ID", "")
        self.idle_since = time.monotonic()
        self._folder = folder
        self._started = time.monotonic()
        self._ready = False
        self._most_memory = 0
        temporary = folder / "tmp"
        temporary.mkdir(parents=True)
        request_end, self._requests = os.pipe()
        self._answers, answer_end = os.pipe()
        try:
            # -I: neither PYTHON* variables nor the folder it starts in; -B: AWS's /var/task cannot be written to.
            self._process = subprocess.Popen(
                [str(interpreter), "-I", "-B", str(BOOTSTRAP), str(request_end), str(answer_end)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(request_end, answer_end),
                cwd=environment["LAMBDA_TASK_ROOT"],
                env=environment | {"TMPDIR": str(temporary)},
                start_new_session=True,
                bufsize=0,
            )
        except BaseException:
            os.close(self._requests)
            os.close(self._answers)
            raise
        finally:
            os.close(request_end)
            os.close(answer_end)
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()

    def invoke(self, request_id: str, invoked_arn: str, event: Any) -> tuple[Any, bool, str]:
        """Run the handler once.

        Returns:
            The answer or the error, whether it is an error, and what was printed. After a crash, a time-out or an
            import that failed the process has ended (`alive`).
        """
        first: list[bytes] = []
        if not self._ready:
            answer = self._wait(first, self._started + INIT_SECONDS + self.function.timeout, request_id)
            if "init" not in answer or answer["init"] is not None:
                self.stop()
                return answer.get("init") or answer["error"], True, _text(first)
            self._ready = True
        log: list[bytes] = []
        request = {
            "request_id": request_id,
            "arn": invoked_arn,
            "event": event,
            "deadline": time.time() + self.function.timeout,
        }
        self._send(json.dumps(request).encode() + b"\n")
        answer = self._wait(log, time.monotonic() + self.function.timeout, request_id)
        printed = _text(first) + _text(log)
        if "error" in answer:
            return answer["error"], True, printed
        if len(answer["result"].encode()) > LARGEST_ANSWER:
            message = f"Response payload size exceeded maximum allowed payload size ({LARGEST_ANSWER} bytes)."
            return {"errorMessage": message, "errorType": "Function.ResponseSizeTooLarge"}, True, printed
        return json.loads(answer["result"]), False, printed

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def most_memory(self) -> int:
        """The most that the process has taken, in MB."""
        return self._most_memory

    def stop(self) -> None:
        """End the process, and everything that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """The same, and give everything back. Only who was given the environment by the pool calls it."""
        self.stop()
        assert self._process.stdout is not None
        self._process.stdout.close()
        os.close(self._requests)
        os.close(self._answers)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended: `_wait` says how
            while data:
                data = data[os.write(self._requests, data) :]

    def _wait(self, log: list[bytes], deadline: float, request_id: str) -> dict[str, Any]:
        """The next answer, with everything printed before it. One that never comes is the error to tell."""
        answer = b""
        poll = select.poll()
        for descriptor in (self._answers, self._output):
            poll.register(descriptor, select.POLLIN | select.POLLHUP)
        while not (answer.endswith(b"\n") and _logged_to_end(log)):
            left = deadline - time.monotonic()
            if left <= 0:
                self.stop()
                seconds = f"{self.function.timeout:.2f}"
                return _ended(
                    "Sandbox.Timedout", f"RequestId: {request_id} Error: Task timed out after {seconds} seconds"
                )
            self._look_at_memory()
            if self._most_memory > self.function.memory:
                self.stop()
                return _ended(
                    "Runtime.ExitError", f"RequestId: {request_id} Error: Runtime exited with error: signal: killed"
                )
            for descriptor, _ in poll.poll(min(left, MEMORY_LOOKS) * 1000):
                data = os.read(descriptor, 65536)
                if descriptor == self._answers:
                    answer += data
                else:
                    log.append(data)
                if not data:
                    poll.unregister(descriptor)
                    if descriptor == self._answers:  # closed: the process has ended
                        return _ended("Runtime.ExitError", f"RequestId: {request_id} Error: {self._ending(log)}")
        self._look_at_memory()
        return json.loads(answer)

    def _ending(self, log: list[bytes]) -> str:
        """How the process ended by itself; takes what it printed last."""
        self.stop()
        os.set_blocking(self._output, False)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._output, 65536):
                log.append(data)
        code = self._process.returncode
        if code == 0:
            return "Runtime exited without providing a reason"
        if code < 0:
            return f"Runtime exited with error: signal: {(signal.strsignal(-code) or str(-code)).lower()}"
        return f"Runtime exited with error: exit status {code}"

    def _look_at_memory(self) -> None:
        # Only where there is a /proc: elsewhere a function may take more than its memory.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, IndexError):
            resident = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * PAGE
            self._most_memory = max(self._most_memory, resident // 2**20)


def _ended(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"errorType": kind, "errorMessage": message}}


def _logged_to_end(log: list[bytes]) -> bool:
    return END_OF_LOG.encode() in b"".join(log)


def _text(log: list[bytes]) -> str:
    return b"".join(log).decode(errors="replace").replace(END_OF_LOG, "")


class Functions:
    """Runs functions, and keeps their processes for the next invocation.

    Args:
        runtimes: the interpreters.
        folder: for the functions' code and temporary files; it and everything in it go at `stop`.
        variables: what points AWS clients in a scope at this server.
        credentials: those of a role, as environment variables; given the role's ARN and the session's name.
    """

    def __init__(
        self,
        runtimes: Runtimes,
        folder: Path,
        variables: Callable[[Scope], dict[str, str]],
        credentials: Callable[[str, str], dict[str, str]],
    ) -> None:
        self._runtimes = runtimes
        self._folder = folder
        self._variables = variables
        self._credentials = credentials
        self._lock = threading.Lock()
        self._code = threading.Lock()
        self._idle: dict[str, list[ExecutionEnvironment]] = {}
        self._busy: set[ExecutionEnvironment] = set()
        self._stopping = threading.Event()

    def check_runtime(self, runtime: str) -> None:
        """
        Raises:
            RuntimeUnknown: no function can run here with it.
        """
        self._runtimes.interpreter(runtime)

    def invoke(self, function: Function, event: Any, request_id: str, invoked_arn: str) -> Outcome:
        """Run a function once, in a process that is free or a new one. It takes as long as the function does."""
        started = time.monotonic()
        if self._stopping.is_set():
            body: Any = {"errorMessage": "local_aws ends", "errorType": "ServiceException"}
            return Outcome(body, True, _log(function, request_id, "", 0.0, 0), 0.0)
        try:
            environment = self._take(function)
        except (RuntimeUnknown, zipfile.BadZipFile) as error:
            kind = "Runtime.InvalidRuntime" if isinstance(error, RuntimeUnknown) else "Runtime.InvalidZipFile"
            body = {"errorMessage": str(error), "errorType": kind}
            return Outcome(body, True, _log(function, request_id, str(error) + "\n", 0.0, 0), 0.0)
        try:
            body, failed, printed = environment.invoke(request_id, invoked_arn, event)
        finally:
            self._give_back(environment)
        seconds = time.monotonic() - started
        if failed and body.get("errorType") in ("Sandbox.Timedout", "Runtime.ExitError"):
            printed += body["errorMessage"] + "\n"
        return Outcome(body, failed, _log(function, request_id, printed, seconds, environment.most_memory), seconds)

    def forget(self, name: str) -> None:
        """A function's code or settings changed, or it is gone: end its processes that are free."""
        with self._lock:
            gone = [each for kept in self._idle.values() for each in kept if each.function.name == name]
            for key in {each.function.key for each in gone}:
                self._idle[key] = [each for each in self._idle[key] if each not in gone]
        for environment in gone:
            environment.close()

    def runs(self, access_key: str) -> bool:
        """Whether a process that runs has this access key: every process has a session of its own."""
        return any(each.access_key == access_key for each in self._alive())

    def kill(self, access_key: str) -> None:
        """End the process that has this access key, as a crash would: its invocation has failed then."""
        for each in self._alive():
            if each.access_key == access_key:
                each.stop()

    def key_of_client(self, port: int) -> str:
        """The access key of the process that has a connection from a port of this machine; "" when none has.

        So a call is known to be a function's that is not signed with its key, such as one of a Git host.
        """
        for each in self._alive():
            with contextlib.suppress(psutil.Error):  # it has just ended
                if any(end.laddr and end.laddr.port == port for end in psutil.Process(each.pid).net_connections("tcp")):
                    return each.access_key
        return ""

    def processes(self) -> list[Process]:
        """Those that run or are kept."""
        return [Process("function", each.function.name, each.pid) for each in self._alive()]

    def _alive(self) -> list[ExecutionEnvironment]:
        with self._lock:
            every = [*self._busy, *(each for kept in self._idle.values() for each in kept)]
        return [each for each in every if each.alive]

    def stop(self) -> None:
        """End every process."""
        self._stopping.set()
        with self._lock:
            free = [each for kept in self._idle.values() for each in kept]
            self._idle.clear()
            busy = list(self._busy)
        for environment in free:
            environment.close()
        for environment in busy:
            environment.stop()  # who waits for it closes it

    def _take(self, function: Function) -> ExecutionEnvironment:
        key = function.key
        with self._lock:
            kept = self._idle.get(key, [])
            while kept:
                environment = kept.pop()
                if environment.alive:
                    self._busy.add(environment)
                    return environment
                environment.close()
        interpreter = self._runtimes.interpreter(function.runtime)
        code = self._unpack(function.code)
        folder = self._folder / "environments" / uuid.uuid4().hex
        environment = ExecutionEnvironment(function, interpreter, folder, self._environment(function, code))
        with self._lock:
            self._busy.add(environment)
        return environment

    def _give_back(self, environment: ExecutionEnvironment) -> None:
        environment.idle_since = time.monotonic()
        with self._lock:
            self._busy.discard(environment)
            keep = environment.alive and not self._stopping.is_set()
            if keep:
                self._idle.setdefault(environment.function.key, []).append(environment)
            old = [each for kept in self._idle.values() for each in kept if _is_old(each)]
            self._idle = {key: [each for each in kept if not _is_old(each)] for key, kept in self._idle.items()}
        for each in [*old, *([] if keep else [environment])]:
            each.close()

    def _unpack(self, code: bytes) -> Path:
        """The folder with the archive's files; the same for the same archive.

        Raises:
            zipfile.BadZipFile: it cannot be extracted.
        """
        folder = self._folder / "code" / hashlib.sha256(code).hexdigest()
        with self._code:
            if not folder.exists():
                partial = folder.with_suffix(".partial")
                shutil.rmtree(partial, ignore_errors=True)
                try:
                    with zipfile.ZipFile(io.BytesIO(code)) as archive:
                        if sum(member.file_size for member in archive.infolist()) >= LARGEST_UNZIPPED:
                            raise zipfile.BadZipFile(f"Unzipped size must be smaller than {LARGEST_UNZIPPED} bytes")
                        archive.extractall(partial)
                except (OSError, EOFError, RuntimeError, zlib.error) as error:  # damaged, encrypted, names that clash
                    raise zipfile.BadZipFile(f"The function's archive cannot be extracted: {error}") from error
                partial.mkdir(parents=True, exist_ok=True)  # an archive without files
                partial.rename(folder)
        return folder

    def _environment(self, function: Function, code: Path) -> dict[str, str]:
        """All variables: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html"""
        scope = function.scope
        own = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "TZ": ":UTC",
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.runtime}",
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_VERSION": function.version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": f"{datetime.now(UTC):%Y/%m/%d}/[{function.version}]{uuid.uuid4().hex}",
            "LAMBDA_TASK_ROOT": str(code),
            "_HANDLER": function.handler,
            "AWS_DEFAULT_REGION": scope.region,
        }
        credentials = self._credentials(function.role, function.name)
        return function.variables | own | self._variables(scope) | credentials


def _is_old(environment: ExecutionEnvironment) -> bool:
    return time.monotonic() - environment.idle_since > IDLE_SECONDS


def _log(function: Function, request_id: str, printed: str, seconds: float, memory: int) -> str:
    """What an invocation leaves in the function's log group."""
    milliseconds = seconds * 1000
    end = "" if not printed or printed.endswith("\n") else "\n"
    return (
        f"START RequestId: {request_id} Version: {function.version}\n{printed}{end}END RequestId: {request_id}\n"
        f"REPORT RequestId: {request_id}\tDuration: {milliseconds:.2f} ms\tBilled Duration: {milliseconds:.0f} ms\t"
        f"Memory Size: {function.memory} MB\tMax Memory Used: {memory} MB\n"
    )
