"""Starting, finding and stopping servers: what `python -m local_aws`, tests and the demo use."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from local_aws.control_calls import PREFIX
from local_aws.environment import MISLEADING_VARIABLES, client_environment
from local_aws.scratch import scratch_folder

DEFAULT_PORT = 4566  # MiniStack's and LocalStack's
DEFAULT_ACCOUNT = "123456789012"
DEFAULT_REGION = "us-east-1"
START_TIMEOUT = 60.0  # seconds; ready takes about one
STOP_TIMEOUT = 30.0  # seconds; jobs get a few to end

_MAKING_CLIENTS = threading.Lock()  # a session makes one at a time


class StartError(Exception):
    """The server did not start; the message says why and what to do."""


@dataclass(frozen=True)
class Server:
    """One running server, as it is written down for `status` and `stop`."""

    pid: int
    port: int
    runtime_port: int
    account: str
    region: str
    log: str
    state: str | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def runtime_endpoint(self) -> str:
        """Where InvokeEndpoint is answered."""
        return f"http://127.0.0.1:{self.runtime_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point any AWS client at this server."""
        return client_environment(self.endpoint, self.runtime_endpoint, self.account, self.region)

    @property
    def git_environment(self) -> dict[str, str]:
        """The variables by which git signs in to CodeCommit here, with the credentials in the AWS_* variables.

        Example:
            subprocess.run(["git", "clone", url], env=os.environ | server.environment | server.git_environment)
        """
        from local_aws.git.credentials import client_settings
        from local_aws.git.repositories import settings_in_environment

        return settings_in_environment(client_settings(self.endpoint))

    @property
    def shell_commands(self) -> str:
        """Lines for a shell to `eval`: the variables set, and those unset that would lead a client elsewhere."""
        exports = [f"export {name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return "\n".join([*exports, f"unset {' '.join(MISLEADING_VARIABLES)}"])

    def client(
        self,
        service: str,
        account: str | None = None,
        region: str | None = None,
        credentials: Mapping[str, str] | None = None,
    ) -> Any:
        """A boto3 client of this server.

        Args:
            service: boto3's name, such as "sagemaker".
            account, region: others than the server's defaults.
            credentials: of a user or of a role's session, as the variables that AWS clients read
                (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN); without them it is the account's root,
                which may do everything.
        """
        from botocore.config import Config

        with _MAKING_CLIENTS:
            return _session().client(
                service,
                endpoint_url=self.runtime_endpoint if service == "sagemaker-runtime" else self.endpoint,
                region_name=region or self.region,
                aws_access_key_id=(credentials or {}).get("AWS_ACCESS_KEY_ID") or account or self.account,
                aws_secret_access_key=(credentials or {}).get("AWS_SECRET_ACCESS_KEY", "local"),
                aws_session_token=(credentials or {}).get("AWS_SESSION_TOKEN"),
                config=Config(retries={"max_attempts": 1}, proxies={}),
            )

    def configure(self, name: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Change one of the server's switches (local_aws.control_calls); answers its settings as they are then.

        Args:
            name: such as "clock" or "events".
            settings: such as {"advance": 3600} or {"double": 0.5}.

        Raises:
            ValueError: there is no such switch or setting.
        """
        return self._control(name, json.dumps(settings).encode())

    def settings(self, name: str) -> dict[str, Any]:
        """The settings of one of the server's switches.

        Raises:
            ValueError: there is no such switch.
        """
        return self._control(name, None)

    def _control(self, name: str, body: bytes | None) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310  # it is this server's address
            f"{self.endpoint}{PREFIX}{name}", body, {"Content-Type": "application/json"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]) from error


def launch(
    port: int,
    account: str = DEFAULT_ACCOUNT,
    region: str = DEFAULT_REGION,
    *,
    log: Path,
    runtime_port: int = 0,
    state: Path | None = None,
    opt_ml: str = "auto",
    clock_speed: float = 1.0,
    enforce_iam: bool = False,
    builds: bool = False,
    idle_minutes: float | None = None,
    with_parent: bool = False,
) -> tuple[Server, subprocess.Popen[str]]:
    """Start a server process and wait until it answers.

    Args:
        port: on loopback; 0 takes a free one.
        account, region: of clients that name none.
        log: the file for what the server prints.
        runtime_port: InvokeEndpoint's; 0 takes a free one.
        state: a folder for what should survive a restart.
        opt_ml: how jobs get /opt/ml: "auto", "namespace" or "rewrite".
        clock_speed: how many of AWS's seconds pass in one second here (bakes, schedules, alarm periods).
        enforce_iam: ask IAM before anything is done; the account's root may do everything.
        builds: run the builds that pushes start, instead of recording them only.
        idle_minutes: stop by itself after so long without a request, job or build.
        with_parent: stop when this process ends, however it ends.

    Raises:
        StartError: with the reason: the port is taken, the state folder is in use, ...
    """
    command = [sys.executable, "-m", "local_aws.server", f"--port={port}", f"--account={account}", f"--region={region}"]
    command += [f"--log={log}", f"--runtime-port={runtime_port}"]
    command += [f"--opt-ml={opt_ml}", f"--clock-speed={clock_speed}"]
    command += [f"--state={state.resolve()}"] if state else []
    command += ["--enforce-iam"] if enforce_iam else []
    command += ["--builds"] if builds else []
    command += [f"--idle-minutes={idle_minutes}"] if idle_minutes else []
    command += ["--with-parent"] if with_parent else []
    checkout = str(Path(__file__).resolve().parent.parent)
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE if with_parent else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=_server_environment() | {"PYTHONPATH": checkout},
    )
    assert process.stdout is not None
    line = _first_line(process, START_TIMEOUT)
    answer = json.loads(line) if line.startswith("{") else {}
    if "port" not in answer:
        process.kill()
        process.wait()
        tail = log.read_text()[-2000:] if log.exists() else ""
        raise StartError(answer.get("error") or f"local_aws did not start.\n{line}{tail}".rstrip())
    process.stdout.close()
    ports = answer["port"], answer["runtime_port"]
    server = Server(process.pid, *ports, account, region, str(log), str(state.resolve()) if state else None)
    return server, process


def _server_environment() -> dict[str, str]:
    """This process's environment without AWS settings: the server's own clients must talk to nobody but itself."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}


def _first_line(process: subprocess.Popen[str], timeout: float) -> str:
    """The line by which the server says that it is ready or why not; what came before an exit without one."""
    import selectors

    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(timeout):
            process.kill()
            process.wait()
            raise StartError(f"local_aws did not answer within {timeout:g} s; is the machine overloaded?")
    return process.stdout.readline() or process.stdout.read()


class LocalAWS:
    """A server for the length of a `with` block; it ends with the block, and with this process however that ends.

    Args:
        port: on loopback; 0, the default, takes a free one.
        account, region: of clients that name none.
        state: a folder whose contents survive, to be given again; without it everything is gone at the end.
        opt_ml: how jobs get /opt/ml: "auto", "namespace" or "rewrite".
        clock_speed: how many of AWS's seconds pass in one second here (bakes, schedules, alarm periods).
        enforce_iam: ask IAM before anything is done; the account's root may do everything.
        builds: run the builds that pushes start, instead of recording them only; also the switch "builds".

    Example:
        with LocalAWS() as aws:
            aws.client("sagemaker").list_pipelines()
            subprocess.run(["aws", "s3", "ls"], env=os.environ | aws.environment)
    """

    def __init__(
        self,
        port: int = 0,
        account: str = DEFAULT_ACCOUNT,
        region: str = DEFAULT_REGION,
        state: Path | None = None,
        opt_ml: str = "auto",
        clock_speed: float = 1.0,
        enforce_iam: bool = False,
        builds: bool = False,
    ) -> None:
        self._options: dict[str, Any] = {"port": port, "account": account, "region": region, "state": state}
        self._options |= {"opt_ml": opt_ml, "clock_speed": clock_speed, "enforce_iam": enforce_iam, "builds": builds}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as cleanup:
            self._folder = cleanup.enter_context(scratch_folder("log"))
            self.server, self._process = launch(**self._options, log=self._folder / "log", with_parent=True)
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._cleanup.close()

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()

    @property
    def endpoint(self) -> str:
        return self.server.endpoint

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point any AWS client at this server."""
        return self.server.environment

    @property
    def git_environment(self) -> dict[str, str]:
        """The variables by which git signs in to CodeCommit here; see `Server.git_environment`."""
        return self.server.git_environment

    @property
    def log(self) -> str:
        """What the server has printed so far."""
        return (self._folder / "log").read_text()

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL)."""
        self._process.kill()
        self._process.wait()

    def restart(self, kill: bool = False) -> None:
        """End the server and start it again, at the same addresses and with the same state: clients go on.

        Args:
            kill: end it as a crash would (SIGKILL), instead of letting it end by itself (SIGTERM).

        Raises:
            ValueError: it has no state folder, so that nothing would be there any more.
            StartError: it did not start again, with the reason.
        """
        if self.server.state is None:
            raise ValueError(
                "This server keeps nothing over a restart. Give it a state folder: LocalAWS(state=Path(...))."
            )
        if kill:
            self.kill()
        self._stop()
        ports = {"port": self.server.port, "runtime_port": self.server.runtime_port}
        # The process that answers InvokeEndpoint outlives a server that was killed by a moment.
        for port in ports.values():
            _wait_until_free(port)
        options = self._options | ports
        self.server, self._process = launch(**options, log=self._folder / "log", with_parent=True)

    def client(
        self,
        service: str,
        account: str | None = None,
        region: str | None = None,
        credentials: Mapping[str, str] | None = None,
    ) -> Any:
        """A boto3 client of this server; see `Server.client`."""
        return self.server.client(service, account, region, credentials)

    def settings(self, name: str) -> dict[str, Any]:
        """The settings of one of the server's switches; see `Server.settings`."""
        return self.server.settings(name)

    def configure(self, name: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Change one of the server's switches; see `Server.configure`."""
        return self.server.configure(name, settings)


@functools.cache
def _session() -> Any:
    """The boto3 session of all clients: it reads each service's model once, which is nearly all that a client costs."""
    import boto3

    return boto3.Session()


def _wait_until_free(port: int) -> None:
    """Return once a server can listen on the port, or after STOP_TIMEOUT: starting one then says what is wrong."""
    deadline = time.monotonic() + STOP_TIMEOUT
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return
        time.sleep(0.01)


def records_folder() -> Path:
    """Where running servers are written down, for this user only."""
    folder = Path(tempfile.gettempdir()) / f"local_aws-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise StartError(f"{folder} belongs to another user. Remove it, or set TMPDIR to a folder of your own.")
    return folder


def start(port: int = DEFAULT_PORT, **options: Any) -> Server:
    """Start a server that outlives this process, and write it down for `running` and `stop`.

    Raises:
        StartError: with the reason.
    """
    folder = records_folder()
    # Not named by the port alone: it may be taken by a server whose log is still written.
    log = folder / f"{port or 'any'}-{os.getpid()}.log"
    try:
        server, _ = launch(port, log=log, **options)
    except BaseException:
        log.unlink(missing_ok=True)
        raise
    record = folder / f"{server.port}.json"
    written = log.with_suffix(".written")
    written.write_text(json.dumps(asdict(server)))
    written.replace(record)  # at once: `running` may be looking
    return server


def running() -> list[Server]:
    """The servers that `start` started and that still run; records of others are removed."""
    servers = []
    for record in sorted(records_folder().glob("*.json")):
        server = Server(**json.loads(record.read_text()))
        if _is_server(server.pid):
            servers.append(server)
        else:
            record.unlink(missing_ok=True)
            Path(server.log).unlink(missing_ok=True)
    return servers


def stop(server: Server) -> None:
    """End a server that `start` started and wait until it is gone (its state is then saved)."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT
    while _is_server(server.pid):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server.pid, signal.SIGKILL)
        time.sleep(0.05)
    (records_folder() / f"{server.port}.json").unlink(missing_ok=True)
    Path(server.log).unlink(missing_ok=True)


def _is_server(pid: int) -> bool:
    """Whether the process is one of ours: process ids are used again, and a stranger must not be stopped."""
    state, command = _process(pid)
    return "local_aws.server" in command and not state.startswith("Z")


def _process(pid: int) -> tuple[str, str]:
    """A process's state ("Z" when it has ended and was not waited for) and command; empty when there is none."""
    folder = Path("/proc") / str(pid)
    if Path("/proc/self/stat").exists():
        try:
            state = (folder / "stat").read_text().rpartition(") ")[2]
            return state, (folder / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            return "", ""
    # No /proc: macOS.
    answer = subprocess.run(["ps", "-ww", "-o", "stat=,command=", "-p", str(pid)], capture_output=True, text=True)
    state, _, command = answer.stdout.strip().partition(" ")
    return state, command
