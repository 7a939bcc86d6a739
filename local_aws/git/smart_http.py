"""Git's smart HTTP protocol: what `git clone`, `git fetch` and `git push` ask, answered by `git http-backend`.

A host of repositories says which paths are its own, which repository one names, who may do what, and is told what a
push has changed (GitHost). Everything else is done here: bodies go to the git program and back as they come, however
large, and no process outlives its request.

https://git-scm.com/docs/http-protocol, https://git-scm.com/docs/git-http-backend
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
import os
import signal
import sys
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs, unquote

from local_aws.git.push_rules import NOTHING, RULES_VARIABLE, PushRules, RefUpdate
from local_aws.git.repositories import GitError, git_environment, git_program

UPLOAD_PACK, RECEIVE_PACK = "git-upload-pack", "git-receive-pack"  # clone and fetch; push
ENDS = ("/info/refs", f"/{UPLOAD_PACK}", f"/{RECEIVE_PACK}")  # of the paths that the protocol has
PIECE = 65536  # bytes that are read from the git program at once
LONGEST_COMMANDS = 4 * 1024**2  # bytes in which a push names its refs
LONGEST_HEAD = 65536  # bytes of the git program's headers
SECONDS_TO_FINISH = 60  # for a push whose client has gone; a fetch is ended at once
SECONDS_TO_END = 5  # between SIGTERM, at which git removes its lock files, and SIGKILL
BETWEEN_LOOKS = 0.01  # seconds, whether it has ended

logger = logging.getLogger(__name__)


class Refused(Exception):
    """A request is refused.

    Args:
        status: of HTTP; with 401 the client asks for (other) credentials.
        message: for the client; git shows it as "remote: ...".
        headers: more of the answer's.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


class Credentials(NamedTuple):
    """Of Basic authentication."""

    user: str
    password: str


@dataclass(frozen=True)
class GitRequest:
    """One request of Git's protocol.

    Args:
        path: which repository is asked for: the request's path, decoded, without the host's prefix and without what
            the protocol adds; begins with a slash unless the prefix ends in one. Not to be used as a file's path.
        service: "git-upload-pack" (clone, fetch) or "git-receive-pack" (push).
        advertises: whether this is the first request of the two, which asks for the refs that there are.
        host: the Host header, such as "127.0.0.1:4566".
        credentials: None without an Authorization header.
        headers: all of them, names in lower case.
        updates: what a push wants to do (its second request only); whether it does is told by `GitHost.pushed`.
    """

    path: str
    service: str
    advertises: bool
    host: str
    credentials: Credentials | None
    headers: Mapping[str, str]
    updates: tuple[RefUpdate, ...] = ()

    @property
    def writes(self) -> bool:
        return self.service == RECEIVE_PACK


@dataclass(frozen=True)
class Opened:
    """A repository that a request may use. Hosts may add to it what `pushed` needs.

    Args:
        repository: the folder of the bare repository.
        rules: what a push may not do.
        who: the user's name, for the git program's log.
    """

    repository: Path
    rules: PushRules = field(default_factory=PushRules)
    who: str = ""


class GitHost(Protocol):
    """A host of repositories. Its methods are called in threads, several at once."""

    @property
    def prefix(self) -> str:
        """With which the paths of its requests begin, such as "/v1/repos/"."""
        ...

    def open(self, request: GitRequest) -> Opened:
        """Let a request in, or not. It is asked for each of a push's two requests.

        Raises:
            Refused: 401 without credentials or with wrong ones, 403 without the right, 404 without the repository.
        """
        ...

    def pushed(self, request: GitRequest, opened: Opened, updates: list[RefUpdate]) -> None:
        """Hear what a push has changed; the client is answered after this. What it raises goes to the log."""
        ...


class GitDoor:
    """An ASGI application that answers Git's requests to its hosts, and hands everything else on.

    It stands before what limits bodies or reads them into memory.

    Args:
        application: what answers all other requests.
        hosts: the hosts; the first whose prefix a path begins with answers.
        scratch: a folder for what a request needs while it is answered.
    """

    def __init__(self, application: Any, hosts: Sequence[GitHost], scratch: Path) -> None:
        self._application, self._hosts, self._scratch = application, hosts, scratch

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = _path(scope) if scope["type"] == "http" else ""
        host = next((host for host in self._hosts if path.startswith(host.prefix)), None)
        if host is None or not path.endswith(ENDS):
            await self._application(scope, receive, send)
            return
        try:
            await self._answer(host, path, scope, receive, send)
        except _ClientGone:
            logger.info("The client of %s has gone before it was answered.", path)

    async def _answer(self, host: GitHost, path: str, scope: Any, receive: Any, send: Any) -> None:
        body = _Body(receive)
        try:
            request = _request(host, path, scope)
            if request.writes and not request.advertises:
                request = await _with_updates(request, body)
            opened = await asyncio.to_thread(host.open, request)
            with tempfile.TemporaryDirectory(dir=self._scratch, prefix="git-") as folder:
                await _Backend(host, request, opened, scope, Path(folder)).run(body, send)
        except Refused as refused:
            await _refuse(refused, body, send)
        except GitError as error:
            await _refuse(Refused(500, str(error)), body, send)


class _ClientGone(Exception):
    pass


def _path(scope: Any) -> str:
    """The path as it was sent: only this one tells "%2F" from "/"."""
    return scope.get("raw_path", scope["path"].encode()).decode("latin-1").partition("?")[0]


def _request(host: GitHost, path: str, scope: Any) -> GitRequest:
    end = next(end for end in ENDS if path.endswith(end))
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    advertises = end == "/info/refs"
    method = "GET" if advertises else "POST"
    if scope["method"] != method:
        raise Refused(405, f"{scope['method']} {path}: Git's protocol has {method} here.", {"allow": method})
    service = end[1:]
    if advertises:
        service = parse_qs(scope["query_string"].decode("latin-1")).get("service", [""])[0]
        if service not in (UPLOAD_PACK, RECEIVE_PACK):
            raise Refused(403, "Only Git's smart HTTP protocol is answered here. Use git 1.6.6 or later.")
    elif headers.get("content-type") != f"application/x-{service}-request":
        raise Refused(415, f"The body has to be an application/x-{service}-request.")
    try:
        repository = unquote(path[len(host.prefix) : -len(end)], errors="strict")
    except UnicodeDecodeError as error:
        raise Refused(404, "The repository's name is not UTF-8.") from error
    return GitRequest(repository, service, advertises, headers.get("host", ""), _credentials(headers), headers)


def _credentials(headers: Mapping[str, str]) -> Credentials | None:
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return Credentials(user, password) if colon else None


class _Body:
    """A request's body as it comes: read from the front, put back, and handed on."""

    def __init__(self, receive: Any) -> None:
        self._receive = receive
        self._ahead: list[bytes] = []
        self.ended = False

    async def next(self) -> bytes | None:
        """The next piece; None after the last.

        Raises:
            _ClientGone: the client has gone before the end.
        """
        if self._ahead:
            return self._ahead.pop()
        if self.ended:
            return None
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise _ClientGone
        self.ended = not message.get("more_body", False)
        return message.get("body", b"")

    def put_back(self, *pieces: bytes) -> None:
        """Let `next` give these first."""
        self._ahead += reversed([piece for piece in pieces if piece])

    async def gone(self) -> None:
        """Return when the client goes; to be called after the body's end."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def _with_updates(request: GitRequest, body: _Body) -> GitRequest:
    """The request with what its body begins with: the push's commands."""
    plain, read = bytearray(), []
    inflate = zlib.decompressobj(31) if request.headers.get("content-encoding") in ("gzip", "x-gzip") else None
    while (end := _commands_end(plain)) is None:
        piece = await body.next()
        if piece is None:
            raise Refused(400, "The push ends before it has named all its refs.")
        read.append(piece)
        try:
            plain += inflate.decompress(piece, LONGEST_COMMANDS) if inflate else piece
        except zlib.error as error:
            raise Refused(400, "The body is not the gzip that its Content-Encoding says it is.") from error
        if len(plain) > LONGEST_COMMANDS + PIECE:
            raise Refused(413, f"The push names more refs than {LONGEST_COMMANDS} bytes hold. Push them in parts.")
    body.put_back(*read)
    updates = parse_commands(bytes(plain[:end]))
    return GitRequest(**{**request.__dict__, "updates": tuple(updates)})


def _commands_end(data: bytes | bytearray) -> int | None:
    """Where the flush packet begins that ends the commands; None: it has not come yet.

    Raises:
        Refused: this is no pkt-line format.
    """
    at = 0
    while at + 4 <= len(data):
        try:
            length = int(bytes(data[at : at + 4]), 16)
        except ValueError as error:
            raise Refused(400, "The push does not begin with Git's commands.") from error
        if length == 0:
            return at
        if length < 4:
            raise Refused(400, "The push does not begin with Git's commands.")
        at += length
        if at > LONGEST_COMMANDS:
            raise Refused(413, f"The push names more refs than {LONGEST_COMMANDS} bytes hold. Push them in parts.")
    return None


def parse_commands(data: bytes) -> list[RefUpdate]:
    """The commands of a push: pkt-lines "<before> <after> <ref>", after the first one's NUL the client's abilities.

    https://git-scm.com/docs/pack-protocol#_reference_update_request_and_packfile_transfer

    Raises:
        Refused: a line is none of those.
    """
    updates, at = [], 0
    while at < len(data):
        length = int(data[at : at + 4], 16)
        line = data[at + 4 : at + length].partition(b"\0")[0].rstrip(b"\n")
        at += length
        if line.startswith((b"shallow ", b"push-cert")):
            continue
        words = line.split(b" ", 2)
        if len(words) != 3 or len(words[0]) != len(NOTHING) or len(words[1]) != len(NOTHING):
            raise Refused(400, "The push has a command that is none of Git's.")
        before, after, ref = (word.decode("utf-8", "surrogateescape") for word in words)
        updates.append(RefUpdate(ref, before, after))
    return updates


class _Backend:
    """One run of `git http-backend`, which speaks CGI.

    Args:
        folder: of its own, for what the hooks of a push read and write.
    """

    def __init__(self, host: GitHost, request: GitRequest, opened: Opened, scope: Any, folder: Path) -> None:
        self._host, self._request, self._opened, self._scope = host, request, opened, scope
        self._rules = folder / "rules"
        self._report = folder / "updates"  # by the post-receive hook: what the push has changed

    async def run(self, body: _Body, send: Any) -> None:
        """Answer the request; when this returns or fails, no process of it is left."""
        if self._opened.rules:
            self._rules.write_text(self._opened.rules.to_json())
        process = await asyncio.create_subprocess_exec(
            git_program(),
            "http-backend",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._environment(),
            start_new_session=True,
        )
        try:
            await self._talk(process, body, _Sender(send))
        finally:
            await _end(process, gently=self._request.writes)

    async def _talk(self, process: asyncio.subprocess.Process, body: _Body, sender: _Sender) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        feeding = asyncio.create_task(_feed(body, process.stdin))
        answering = asyncio.create_task(_pass_on(process.stdout, sender))
        try:
            await asyncio.wait({feeding, answering}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():  # the client has gone: `_feed` returns at nothing else
                feeding.result()
                sender.gone = True
                if not self._request.writes:
                    raise _ClientGone
                await asyncio.wait({answering}, timeout=SECONDS_TO_FINISH)
            if answering.done():
                answering.result()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), SECONDS_TO_END)
            await self._tell()
            await sender.end()
        finally:
            feeding.cancel()
            answering.cancel()
            await asyncio.gather(feeding, answering, return_exceptions=True)

    async def _tell(self) -> None:
        """Tell the host what a push has changed."""
        updates = _reported(self._report)
        if updates:
            try:
                await asyncio.to_thread(self._host.pushed, self._request, self._opened, updates)
            except Exception:
                logger.exception("What was pushed to %s could not be told", self._request.path)

    def _environment(self) -> dict[str, str]:
        request, opened, headers = self._request, self._opened, self._request.headers
        end = "info/refs" if request.advertises else request.service
        variables = {
            "GIT_PROJECT_ROOT": str(opened.repository.parent),
            "PATH_INFO": f"/{opened.repository.name}/{end}",
            "GIT_HTTP_EXPORT_ALL": "1",
            "REMOTE_USER": opened.who.replace("\0", "") or "anonymous",
            "REMOTE_ADDR": "127.0.0.1",
            "REQUEST_METHOD": self._scope["method"],
            "QUERY_STRING": f"service={request.service}" if request.advertises else "",
            "CONTENT_TYPE": headers.get("content-type", ""),
            "LOCAL_AWS_GIT_PYTHON": sys.executable,
            "LOCAL_AWS_GIT_UPDATES": str(self._report),
            RULES_VARIABLE: str(self._rules) if opened.rules else "",
        }
        # Not CONTENT_LENGTH: the program then reads to the end of its input; for the rest of a body that ends early it
        # would wait for ever.
        for header, variable in (("content-encoding", "HTTP_CONTENT_ENCODING"), ("git-protocol", "GIT_PROTOCOL")):
            if header in headers:
                variables[variable] = headers[header]
        return git_environment(opened.rules.settings) | variables


class _Sender:
    """The answer to the client, while there is one."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self._begun = False
        self.gone = False

    async def head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def piece(self, data: bytes) -> None:
        if not self.gone:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        if self._begun and not self.gone:
            await self._send({"type": "http.response.body", "body": b""})


async def _feed(body: _Body, stdin: asyncio.StreamWriter) -> None:
    """Hand a body to the git program; return when the client has gone, before the body's end or after it."""
    try:
        while (piece := await body.next()) is not None:
            stdin.write(piece)
            await stdin.drain()
    except _ClientGone:
        return
    except ConnectionError:  # the program has seen enough, and answers; what still comes is read and dropped
        with contextlib.suppress(_ClientGone):
            while await body.next() is not None:
                pass
    finally:
        stdin.close()
    await body.gone()


async def _pass_on(stdout: asyncio.StreamReader, sender: _Sender) -> None:
    """Hand the git program's answer to the client, but for the answer's end."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = await stdout.read(PIECE)
        if not piece or len(head) > LONGEST_HEAD:
            raise Refused(500, "The git program has not answered; the log of local_aws has the reason.")
        head += piece
    head, _, rest = head.partition(b"\r\n\r\n")
    await sender.head(*_status_and_headers(head))
    while rest or (rest := await stdout.read(PIECE)):
        await sender.piece(rest)
        rest = b""


def _status_and_headers(head: bytes) -> tuple[int, list[tuple[bytes, bytes]]]:
    status, headers = 200, []
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"status":
            status = int(value.split()[0])
        else:
            headers.append((name.strip().lower(), value.strip()))
    return status, headers


def _reported(report: Path) -> list[RefUpdate]:
    """What the post-receive hook has written down; nothing when it did not run, because nothing has changed."""
    try:
        lines = report.read_text(errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return []
    return [RefUpdate(ref, before, after) for before, after, ref in (line.split(" ", 2) for line in lines)]


async def _end(process: asyncio.subprocess.Process, gently: bool) -> None:
    """End a process and all that it has started, which is in its process group.

    Args:
        gently: let them remove their lock files first.
    """
    if process.returncode is None:  # else what it had started has ended before it
        if gently and _signal(process, signal.SIGTERM):
            for _ in range(round(SECONDS_TO_END / BETWEEN_LOOKS)):
                await asyncio.sleep(BETWEEN_LOOKS)
                if not _signal(process, 0):
                    break
        _signal(process, signal.SIGKILL)
        await process.wait()
    while process.stdout is not None and await process.stdout.read(PIECE):
        pass  # what nobody has read keeps the pipe open


def _signal(process: asyncio.subprocess.Process, number: int) -> bool:
    """Send a signal to a process group; returns whether there is one (also of processes that nobody has waited for)."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):  # the latter: macOS says so of a group that has ended
        return False
    return True


async def _refuse(refused: Refused, body: _Body, send: Any) -> None:
    headers = {"content-type": "text/plain; charset=utf-8", "cache-control": "no-cache"} | refused.headers
    if refused.status == 401:
        headers.setdefault("www-authenticate", 'Basic realm="Git"')
    # A client that still sends would not read the answer.
    with contextlib.suppress(_ClientGone):
        while await body.next() is not None:
            pass
    pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": pairs})
    await send({"type": "http.response.body", "body": f"{refused.message}\n".encode()})
