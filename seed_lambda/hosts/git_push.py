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
_CONNECT, _READ = 5.0, 25.0  # seconds


class Refused(Exception):
    """The host did not take the push; the message is the host's own, without the address."""


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


def push(url: str, user: str, password: str, refs: Mapping[str, str], objects: Sequence[ShaFile]) -> None:
    """Set refs, all or none, and send what they need.

    Args:
        url: of the repository, over HTTP.
        refs: full names, such as refs/heads/prod, to commit ids.
        objects: what the host does not have yet.

    Raises:
        Refused: with the host's words. A push whose answer was lost is refused here and may have been done.
    """
    from dulwich.client import HTTPUnauthorized, Urllib3HttpGitClient
    from dulwich.errors import GitProtocolError, NotGitRepository
    from dulwich.pack import pack_objects_to_data
    from urllib3 import PoolManager, Retry, Timeout

    said: list[bytes] = []
    wanted = {name.encode(): commit.encode() for name, commit in refs.items()}
    pool = PoolManager(timeout=Timeout(connect=_CONNECT, read=_READ), retries=Retry(total=False, redirect=False))
    try:
        client = Urllib3HttpGitClient(url, pool_manager=pool, username=user, password=password, quiet=True)
        result = client.send_pack(
            "",
            lambda _: wanted,
            lambda *_, **__: pack_objects_to_data(objects, deltify=False),
            progress=said.append,
            atomic=True,
        )
    except HTTPUnauthorized:
        raise Refused("401 Unauthorized") from None
    except NotGitRepository:
        raise Refused("404: the repository is not there, or the token may not see it") from None
    except (GitProtocolError, OSError) as error:
        raise Refused(_words(error, said)) from None
    finally:
        pool.clear()
    if refused := [f"{name.decode()}: {why}" for name, why in (result.ref_status or {}).items() if why]:
        raise Refused("; ".join([*refused, *_lines(said)]))


def _words(error: Exception, said: Sequence[bytes]) -> str:
    return "; ".join([f"{type(error).__name__}: {error}", *_lines(said)])


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
