"""A job's program as a subprocess of this server: started, read, stopped; nothing of it outlives it or the server."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launcher.py")
STOP_GRACE = 5.0  # seconds between SIGTERM and SIGKILL; 120 on AWS


@dataclass(frozen=True)
class Namespace:
    """What a program sees in a mount namespace of its own: this folder at /opt/ml, this file at /etc/hosts.

    Args:
        network: whether it sees this machine's network, or none at all.
    """

    opt_ml: Path
    hosts: Path
    network: bool = True


@dataclass(frozen=True)
class Ending:
    """How a program ended: with an exit code, or by a signal, or it never began (`error`)."""

    exit_code: int | None = None
    signal: int | None = None
    ended_by: str = "itself"  # "itself", "stop", "time" (its limit) or "server" (which went away)
    error: str | None = None

    @property
    def succeeded(self) -> bool:
        return self.ended_by == "itself" and self.exit_code == 0


class JobProcess:
    """One program. Made early: the launcher gets ready while the job's data is fetched.

    The launcher kills everything when its standard input closes, which the kernel does for us should this server die.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        reading, writing = os.pipe()
        try:
            # -X utf8: arguments and paths are UTF-8 in an empty environment too.
            self._launcher = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(LAUNCHER), str(writing)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
                env={},
                start_new_session=True,
                bufsize=0,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._status = reading
        self.pid: int | None = None  # the program's, while it runs

    def run(
        self,
        argv: list[str],
        environment: dict[str, str],
        folder: Path,
        namespace: Namespace | None,
        seconds: float,
        on_output: Callable[[bytes], None],
    ) -> Ending:
        """Run the program to its end.

        Args:
            argv: the program, looked up in the environment's PATH, and its arguments.
            environment: all of the program's environment variables.
            folder: its working directory, which may be one below /opt/ml in the namespace.
            namespace: what the program sees instead of what is there, or None for no mount namespace of its own.
            seconds: the longest it may run; then SIGTERM, and SIGKILL after STOP_GRACE.
            on_output: is given what the program prints, as it comes, standard output and error in their order.
        """
        job = {"argv": argv, "environment": environment, "folder": str(folder), "seconds": seconds}
        job |= {"opt_ml": None}
        if namespace:
            job |= {"opt_ml": str(namespace.opt_ml), "hosts": str(namespace.hosts), "network": namespace.network}
        job |= {"grace": STOP_GRACE}
        self._command(json.dumps(job).encode() + b"\n")
        try:
            return self._read(on_output)
        finally:
            self.close()

    def stop(self) -> None:
        """Ask the program to end (SIGTERM), and kill it after STOP_GRACE."""
        self._command(b"stop\n")

    def close(self) -> None:
        """Kill what still runs, and give everything back."""
        with self._lock:
            if self._launcher.stdin is None or self._launcher.stdin.closed:
                return
            with contextlib.suppress(BrokenPipeError):
                self._launcher.stdin.close()
        try:
            self._launcher.wait(STOP_GRACE)
        except subprocess.TimeoutExpired:
            self._launcher.kill()
            self._launcher.wait()
        assert self._launcher.stdout is not None
        self._launcher.stdout.close()
        os.close(self._status)

    def kill(self) -> None:
        """Kill the program at once, from another thread; `run` then returns."""
        with self._lock:
            stdin = self._launcher.stdin
            if stdin is not None and not stdin.closed:
                # Only shut the pipe: closing it is left to `close`, which the thread in `run` calls.
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stdin.fileno())
                os.close(null)

    def _command(self, line: bytes) -> None:
        with self._lock:
            stdin = self._launcher.stdin
            # A program that has just ended needs no command any more.
            if stdin is not None and not stdin.closed:
                with contextlib.suppress(BrokenPipeError):
                    _write_all(stdin.fileno(), line)

    def _read(self, on_output: Callable[[bytes], None]) -> Ending:
        """Pass the output on until the launcher has gone (its end of the status pipe is closed)."""
        assert self._launcher.stdout is not None
        output, status = self._launcher.stdout.fileno(), b""
        poll = select.poll()
        poll.register(output, select.POLLIN | select.POLLHUP)
        poll.register(self._status, select.POLLIN | select.POLLHUP)
        launcher_gone = False
        while not launcher_gone:
            for descriptor, _ in poll.poll():
                data = os.read(descriptor, 65536)
                if descriptor == self._status:
                    status += data
                    launcher_gone = not data
                    self.pid = _running(status)
                elif data:
                    on_output(data)
                else:
                    poll.unregister(output)
        os.set_blocking(output, False)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(output, 65536):
                on_output(data)
        return self._ending(status)

    def _ending(self, status: bytes) -> Ending:
        lines = [json.loads(line) for line in status.splitlines()]
        if not lines or lines[-1].keys() == {"pid"}:
            # The launcher itself was killed. Its child dies with it (PR_SET_PDEATHSIG), the group is ended here.
            if lines:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(lines[0]["pid"], signal.SIGKILL)
            return Ending(error="the process that watched the program was killed from outside")
        return Ending(**lines[-1])


def _running(status: bytes) -> int | None:
    """The program's process, by what the launcher has said so far: {"pid": ...}, then how it ended."""
    lines = status.splitlines() if status.endswith(b"\n") else []
    return json.loads(lines[0]).get("pid") if len(lines) == 1 else None


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
