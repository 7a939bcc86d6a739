"""A push to any Git host over smart HTTP, in memory: Lambda has no git.

The commit's objects are made here and sent as one pack; nothing is fetched, since a commit needs no more of its parent
than the id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seed_lambda.hosts import Tree

if TYPE_CHECKING:
    from dulwich.objects import Commit, ShaFile

AUTHOR, EMAIL = "Modelyard", "modelyard@localhost"
_CONNECT, _READ = 5.0, 20.0  # seconds
_UNREADABLE = (ValueError, NotImplementedError, AssertionError)  # what dulwich raises about answers that are not Git's


class Refused(Exception):
    """Git's answer is that it does not take the push; the message is the host's own."""


class Failed(Exception):
    """The push was not answered by Git; the message says how. It may have been done all the same.

    Args:
        status: of HTTP; 0: there was no answer.
        headers: of that answer; names in lower case.
    """

    def __init__(self, words: str, status: int = 0, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(words)
        self.status, self.headers = status, headers or {}


@dataclass(frozen=True)
class Commitment:
    """A commit with all that it holds.

    Args:
        commit: its id.
        tree: the id of its tree.
        objects: the commit itself first.
    """

    commit: str
    tree: str
    objects: Sequence[ShaFile]


def commit_of(tree: Tree, message: str, seconds: int, parent: str | None = None) -> Commitment:
    """The commit that holds exactly these files.

    Args:
        seconds: its time, since 1970, UTC.
        parent: id of the commit before it.
    """
    from dulwich.objects import Commit

    objects: dict[bytes, ShaFile] = {}
    top = _tree_of(_nested(tree), objects)
    commit: Commit = Commit()
    commit.tree = top
    commit.parents = [parent.encode()] if parent else []
    commit.author = commit.committer = f"{AUTHOR} <{EMAIL}>".encode()
    commit.author_time = commit.commit_time = seconds
    commit.author_timezone = commit.commit_timezone = 0
    commit.encoding = b"UTF-8"
    commit.message = message.encode() + b"\n"
    return Commitment(commit.id.decode(), top.decode(), [commit, *objects.values()])


def blob_id(content: bytes) -> str:
    """Git's id of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def push(
    url: str, user: str, password: str, refs: Mapping[str, str], objects: Sequence[ShaFile], seconds: float
) -> None:
    """Set refs, all or none, and send what they need.

    Args:
        url: of the repository, over HTTP.
        refs: full names, such as refs/heads/prod, to commit ids.
        objects: what the host does not have yet.
        seconds: what each of its two calls may take.

    Raises:
        Refused: with the host's words.
        Failed: what answered was not Git.
    """
    from dulwich.client import HTTPUnauthorized, Urllib3HttpGitClient
    from dulwich.errors import GitProtocolError, NotGitRepository
    from dulwich.pack import pack_objects_to_data
    from urllib3 import PoolManager, Retry, Timeout
    from urllib3.exceptions import HTTPError

    said: list[bytes] = []
    wanted = {name.encode(): commit.encode() for name, commit in refs.items()}
    timeout = Timeout(seconds, _CONNECT, _READ)
    pool = _Pool(PoolManager(timeout=timeout, retries=Retry(total=False, redirect=False)))
    manager: Any = pool  # all that dulwich needs of one
    try:
        client = Urllib3HttpGitClient(url, pool_manager=manager, username=user, password=password, quiet=True)
        result = client.send_pack(
            "",
            lambda _: wanted,
            lambda *_, **__: pack_objects_to_data(objects, deltify=False),
            progress=said.append,
            atomic=True,
        )
    except (HTTPUnauthorized, NotGitRepository, GitProtocolError, HTTPError, OSError, *_UNREADABLE) as error:
        raise _fault(error, pool.last, said) from None
    finally:
        pool.clear()
    if refused := [f"{name.decode()}: {why}" for name, why in (result.ref_status or {}).items() if why]:
        raise Refused("; ".join([*refused, *_lines(said)]))


class _Pool:
    """A pool that remembers the last answer: of one that is no success dulwich tells no more than its status, in text.

    Args:
        pool: urllib3's PoolManager.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.headers = pool.headers
        self.clear = pool.clear
        self.last: Any = None

    def request(self, method: str, url: str, **options: Any) -> Any:
        self.last = None
        self.last = self._pool.request(method, url, **options)
        return self.last


def _fault(error: Exception, last: Any, said: Sequence[bytes]) -> Refused | Failed:
    """What dulwich's error is about.

    Args:
        last: urllib3's last answer; None: there was none.
        said: Git's own messages.
    """
    from dulwich.errors import GitProtocolError, HangupException
    from urllib3.exceptions import HTTPError

    cause = error.__cause__ or error
    if last is None:
        return Failed(f"no connection ({type(cause).__name__})")
    headers = {name.lower(): value for name, value in last.headers.items()}
    if last.status != 200:
        return Failed("; ".join([*_text(last, headers), f"HTTP status {last.status}"]), last.status, headers)
    if isinstance(cause, HTTPError | OSError | HangupException):
        return Failed(f"the connection ended within the answer ({type(cause).__name__})")
    kind = headers.get("content-type", "")
    if not kind.startswith("application/x-git-") or not isinstance(error, GitProtocolError):
        return Failed(f"it does not answer as Git does (content type {kind!r})", last.status, headers)
    words = error.args[0] if error.args else ""
    text = words.decode(errors="replace") if isinstance(words, bytes) else str(words)
    return Refused("; ".join([text, *_lines(said)]))


def _text(answer: Any, headers: Mapping[str, str]) -> list[str]:
    """What a refusal's body says, where it is made for people with a Git client."""
    from urllib3.exceptions import HTTPError

    if not headers.get("content-type", "").startswith("text/plain"):
        return []
    try:
        return _lines([answer.read(600)])
    except HTTPError:
        return []


def _lines(said: Sequence[bytes]) -> list[str]:
    return [line.strip() for line in b"".join(said).decode(errors="replace").splitlines() if line.strip()]


def _nested(tree: Tree) -> dict[str, Any]:
    """Folders as dictionaries in dictionaries."""
    top: dict[str, Any] = {}
    for path, file in tree.items():
        *folders, name = path.split("/")
        at = top
        for folder in folders:
            at = at.setdefault(folder, {})
        at[name] = file
    return top


def _tree_of(folder: Mapping[str, Any], objects: dict[bytes, ShaFile]) -> Any:
    """Id of the folder's tree; adds it and what it holds to the objects."""
    from dulwich.objects import Blob
    from dulwich.objects import Tree as TreeObject

    made = TreeObject()
    for name, entry in folder.items():
        if isinstance(entry, Mapping):
            made.add(name.encode(), 0o040000, _tree_of(entry, objects))
            continue
        blob = Blob.from_string(entry.content)
        objects[blob.id] = blob
        made.add(name.encode(), int(entry.mode, 8), blob.id)
    objects[made.id] = made
    return made.id
