"""Git, run by tests as a person would run it, with nobody's configuration."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

from local_aws.git.push_rules import NOTHING

PUSH = "application/x-git-receive-pack-request"
QUIET = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
    "LC_ALL": "C",
}


class Git:
    """Git commands in one folder.

    Args:
        environment: variables besides those that keep the machine's configuration away.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder, self._environment = folder, dict(environment or {})

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GIT_"))}
        return kept | QUIET | self._environment

    def __call__(self, *arguments: str) -> str:
        """Run a command that succeeds; what it printed."""
        done = self.tried(*arguments)
        assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def tried(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command that may fail."""
        return subprocess.run(
            ["git", *arguments], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60
        )

    def fails(self, *arguments: str) -> str:
        """Run a command that fails; what it said."""
        done = self.tried(*arguments)
        assert done.returncode != 0, f"git {' '.join(arguments)} succeeded: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def clone(self, url: str, folder: Path) -> Git:
        """A clone, to go on in."""
        self("clone", "--quiet", url, str(folder))
        return Git(folder, self._environment)

    def commit(self, **files: str | bytes) -> str:
        """Commit files (in names "__" stands for a slash and "_" for a dot); the commit's id."""
        for name, content in files.items():
            path = self.folder / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self("add", "--all")
        self("commit", "--quiet", "--message", "Change")
        return self("rev-parse", "HEAD")


def git(folder: Path, *arguments: str) -> str:
    """A command in a folder, which succeeds; what it printed."""
    return Git(folder)(*arguments)


def begun_push(url: str, **headers: str) -> socket.socket:
    """A connection on which a push to a repository has begun, and does not end.

    Args:
        headers: further ones of its request.
    """
    address, _, path = url.removeprefix("http://").partition("/")
    server, _, port = address.partition(":")
    connection = socket.create_connection((server, int(port)))
    lines = [f"POST /{path}/git-receive-pack HTTP/1.1", f"Host: {address}", f"Content-Type: {PUSH}"]
    lines += ["Content-Length: 10000000", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    command = f"{NOTHING} {'1' * 40} refs/heads/begun\0 report-status".encode()
    # The head of a pack of one object, of which nothing comes.
    pack = b"PACK" + bytes([0, 0, 0, 2, 0, 0, 0, 1])
    connection.sendall("\r\n".join(lines).encode() + b"%04x%s0000%s" % (len(command) + 4, command, pack))
    return connection


@contextmanager
def serving(application: Any) -> Iterator[str]:
    """An ASGI application on a free port for the length of a block; its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        port = listener.getsockname()[1]
        config = Config()
        config.bind = [f"fd://{os.dup(listener.fileno())}"]  # hypercorn closes it
        config.loglevel = "ERROR"
        loop, stopping = asyncio.new_event_loop(), asyncio.Event()
        run = serve(application, config, shutdown_trigger=stopping.wait)
        thread = threading.Thread(target=loop.run_until_complete, args=(run,))
        thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.close()
