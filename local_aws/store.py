"""What the services of local_aws remember: JSON documents, in memory, and in SQLite when a state folder is given.

Every change is written through before the call that made it is answered, so a killed process loses nothing that a
client was told.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

Document = dict[str, Any]


class Scope(NamedTuple):
    """Whose things: two accounts, and two Regions of one account, do not see each other's."""

    account: str
    region: str


class Table:
    """The documents of one kind, in the order of their creation, apart by scope.

    Documents are live: after changing one in place, `put` it again, which is what writes it down.
    """

    def __init__(self, store: Store, kind: str) -> None:
        self._store = store
        self._kind = kind
        self._documents: dict[Scope, dict[str, Document]] = {}

    def get(self, scope: Scope, key: str) -> Document | None:
        return self._documents.get(scope, {}).get(key)

    def put(self, scope: Scope, key: str, document: Document) -> None:
        with self._store.lock:
            self._documents.setdefault(scope, {})[key] = document
            self._store.write(self._kind, scope, key, document)

    def delete(self, scope: Scope, key: str) -> None:
        with self._store.lock:
            del self._documents[scope][key]
            self._store.erase(self._kind, scope, key)

    def values(self, scope: Scope) -> list[Document]:
        """All documents of a scope, oldest first (a copy of the list: safe against changes while it is read)."""
        with self._store.lock:
            return list(self._documents.get(scope, {}).values())

    def items(self) -> Iterator[tuple[Scope, str, Document]]:
        """Every document of every scope; for what is looked through once, at start."""
        with self._store.lock:
            everything = [(scope, key, doc) for scope, docs in self._documents.items() for key, doc in docs.items()]
        yield from everything

    def load(self, scope: Scope, key: str, document: Document) -> None:
        self._documents.setdefault(scope, {})[key] = document


class Transaction:
    """A lock that one thread may take several times; what is written while it is held is written together.

    Should the block fail, what it had put is written all the same: the documents in memory have changed.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._connection: sqlite3.Connection | None = None

    def begin(self, connection: sqlite3.Connection) -> None:
        """Before a write, with the lock held."""
        if self._connection is None:
            connection.execute("BEGIN")
            self._connection = connection

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        try:
            self._depth -= 1
            if self._depth == 0 and self._connection is not None:
                connection, self._connection = self._connection, None
                connection.execute("COMMIT")
        finally:
            self._lock.release()


class Store:
    """All tables, and the file behind them.

    What is put while `lock` is held is written in one transaction: a killed process leaves all of it or nothing.

    Args:
        path: the SQLite file, or None to keep everything in memory only.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.lock = Transaction()
        self._tables: dict[str, Table] = {}
        self._connection: sqlite3.Connection | None = None
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        # WAL without syncing: safe against the process being killed; only a power cut could lose the last writes.
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS documents (kind TEXT, account TEXT, region TEXT, key TEXT, document TEXT,"
            " PRIMARY KEY (kind, account, region, key))"
        )
        rows = self._connection.execute("SELECT kind, account, region, key, document FROM documents ORDER BY rowid")
        for kind, account, region, key, document in rows:
            self.table(kind).load(Scope(account, region), key, json.loads(document))

    def table(self, kind: str) -> Table:
        return self._tables.setdefault(kind, Table(self, kind))

    def write(self, kind: str, scope: Scope, key: str, document: Document) -> None:
        if self._connection is not None:
            self.lock.begin(self._connection)
            # An upsert keeps the row's id, and so the order of creation.
            self._connection.execute(
                "INSERT INTO documents VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (kind, account, region, key) DO UPDATE SET document = excluded.document",
                (kind, scope.account, scope.region, key, json.dumps(document)),
            )

    def erase(self, kind: str, scope: Scope, key: str) -> None:
        if self._connection is not None:
            self.lock.begin(self._connection)
            self._connection.execute(
                "DELETE FROM documents WHERE kind = ? AND account = ? AND region = ? AND key = ?",
                (kind, scope.account, scope.region, key),
            )

    def close(self) -> None:
        with self.lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
