"""What a server remembers in dictionaries, written down before anybody is told of it.

MiniStack's services keep their resources in dictionaries and save them when the server is stopped. With a state folder
they are watched here instead: whatever an answer has read or changed is in SQLite before the answer leaves, so that a
killed process (not a power cut: nothing is synced to the disk) loses nothing that a client was told or shown.

Of each request it is recorded which entries it touched; these are encoded and compared with what was written last, and
what differs is written in one transaction. Answers that are ready at the same time share one. What no request touches
(deliveries, alarms' states, what a deployment of CloudFormation does) is written within SWEEP_SECONDS; stores that may
lag, which are logs and metrics, within LAG_SECONDS.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import contextvars
import copy
import json
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

SWEEP_SECONDS = 0.5  # between two looks at what was touched outside of requests
LAG_SECONDS = 10.0  # within which logs and metrics are written
THOROUGH_SHARE = 0.02  # of the time, at most, may go into looking through everything
ATTEMPTS = 10  # to encode an entry that another thread changes meanwhile

EVERYTHING = object()  # instead of a key: all entries of a store
WHOLE = ""  # the part of an entry that has but one

logger = logging.getLogger(__name__)


class NotWritten(Exception):
    """What an answer was made of cannot be written down, so the answer must not leave."""


# What encodes a value that JSON does not know (json.JSONEncoder's `default`).
Default = Callable[[Any], Any]
# One change: store, key, part, and the JSON text (None: it is gone).
Row = tuple[str, str, str, str | None]


class Journal:
    """The file: JSON texts by store, key and part, in the order in which they were written first."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = sqlite3.connect(
            path, check_same_thread=False, isolation_level=None
        )
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=OFF")  # safe against a killed process, as in local_aws.store
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS entries (store TEXT, key TEXT, part TEXT, value TEXT,"
            " PRIMARY KEY (store, key, part))"
        )

    def read(self, store: str = "%") -> Iterator[tuple[str, str, str, str]]:
        """Store, key, part and text of everything, or of one store."""
        assert self._connection is not None
        query = "SELECT store, key, part, value FROM entries WHERE store LIKE ? ORDER BY rowid"
        yield from self._connection.execute(query, (store,))

    def write(self, rows: Iterable[Row]) -> None:
        """Write changes, all or none of them; after `close` nothing more."""
        written = [row for row in rows if row[3] is not None]
        erased = [row[:3] for row in rows if row[3] is None]
        if not written and not erased:
            return
        with self._lock:
            if self._connection is None:
                return
            self._connection.execute("BEGIN")
            try:
                # An upsert keeps the row's id, and so the order.
                self._connection.executemany(
                    "INSERT INTO entries VALUES (?, ?, ?, ?)"
                    " ON CONFLICT (store, key, part) DO UPDATE SET value = excluded.value",
                    written,
                )
                self._connection.executemany("DELETE FROM entries WHERE store = ? AND key = ? AND part = ?", erased)
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


class Watched(dict[Any, Any]):
    """A dictionary that says which of its entries were read or changed: who has read one may change what is in it."""

    __slots__ = ("_tell",)

    def __init__(self, data: dict[Any, Any], tell: Callable[[Any], None]) -> None:
        super().__init__(data)
        self._tell = tell

    def __getitem__(self, key: Any) -> Any:
        self._tell(key)
        return super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self._tell(key)

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(key)
        self._tell(key)

    def get(self, key: Any, default: Any = None) -> Any:
        self._tell(key)
        return super().get(key, default)

    def pop(self, key: Any, *default: Any) -> Any:
        value = super().pop(key, *default)
        self._tell(key)
        return value

    def popitem(self) -> tuple[Any, Any]:
        item = super().popitem()
        self._tell(item[0])
        return item

    def setdefault(self, key: Any, default: Any = None) -> Any:
        value = super().setdefault(key, default)
        self._tell(key)
        return value

    def update(self, *others: Any, **named: Any) -> None:
        super().update(*others, **named)
        self._tell(EVERYTHING)

    def clear(self) -> None:
        super().clear()
        self._tell(EVERYTHING)

    def values(self) -> Any:
        self._tell(EVERYTHING)
        return super().values()

    def items(self) -> Any:
        self._tell(EVERYTHING)
        return super().items()

    def copy(self) -> dict[Any, Any]:
        return dict(super().items())

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[Any, Any]:
        return copy.deepcopy(self.copy(), memo)

    def __reduce__(self) -> Any:
        return dict, (self.copy(),)


class Kept:
    """One store, and what of it is written down.

    An entry is one JSON text, or several parts with a text of their own, so that a small change of a large entry is
    a small write: see `parts`.

    Args:
        name: of the store, such as "iam/roles".
        data: finds its entries.
        default: encodes what JSON does not know.
        lags: whether its writing may wait.
    """

    def __init__(
        self, name: str, data: Callable[[], dict[Any, Any]], default: Default | None = None, lags: bool = False
    ) -> None:
        self.name, self.lags = name, lags
        self._data = data
        self._encode = json.JSONEncoder(default=default).encode
        self._written: dict[Any, dict[str, Any]] = {}  # by key and part: the mark of what was written
        self._refused: set[Any] = set()  # keys whose entries could not be encoded

    def parts(self, key: Any, value: Any, thorough: bool) -> Iterator[tuple[str, Any, Callable[[], str]]]:
        """The parts of an entry: name, a mark that differs when the part does, and what encodes it."""
        text = self._encode(value)
        yield WHOLE, hash(text), lambda: text

    def changes(self, keys: Iterable[Any], thorough: bool = False) -> list[Row]:
        """What differs from what was written last; it counts as written. What cannot be encoded keeps nothing else
        from being written: see `refused`."""
        if EVERYTHING in keys:
            # A list at once: another thread may add to the dictionary.
            keys = {*list(dict.keys(self._data())), *self._written}
        rows: list[Row] = []
        for key in keys:
            try:
                rows += self._changes_of(key, thorough)
                self._refused.discard(key)
            except Exception:
                logger.exception("%s %r cannot be written down: it would be lost with the server", self.name, key)
                self._refused.add(key)
        return rows

    def refused(self, keys: set[Any]) -> set[Any]:
        """Of these keys those whose entries could not be encoded the last time."""
        return set(self._refused) if EVERYTHING in keys else self._refused & keys

    def forget(self) -> None:
        """What was written is not known any more: everything differs."""
        self._written.clear()

    def _changes_of(self, key: Any, thorough: bool) -> list[Row]:
        data = self._data()
        if not dict.__contains__(data, key):
            return [(self.name, repr(key), part, None) for part in self._written.pop(key, ())]
        before = self._written.get(key, {})
        for attempt in range(ATTEMPTS):
            try:
                return self._compare(key, dict.__getitem__(data, key), before, thorough)
            except (RuntimeError, KeyError):  # changed by another thread meanwhile
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def _compare(self, key: Any, value: Any, before: dict[str, Any], thorough: bool) -> list[Row]:
        rows: list[Row] = []
        now: dict[str, Any] = {}
        for part, mark, text in self.parts(key, value, thorough):
            now[part] = mark
            known = before.get(part)
            if part not in before or (known is not mark and known != mark):
                rows.append((self.name, repr(key), part, text()))
        rows += [(self.name, repr(key), part, None) for part in before.keys() - now.keys()]
        self._written[key] = now
        return rows


class Touched:
    """Which entries a request has touched, until it is answered."""

    def __init__(self) -> None:
        # Added to by any thread, while the event loop takes out: a deque bears that.
        self._entries: deque[tuple[Kept, Any]] = deque()
        self.open = True

    def add(self, kept: Kept, key: Any) -> None:
        self._entries.append((kept, key))

    def take(self) -> dict[Kept, set[Any]]:
        """What there is, once."""
        found: dict[Kept, set[Any]] = {}
        with contextlib.suppress(IndexError):
            while True:
                kept, key = self._entries.popleft()
                found.setdefault(kept, set()).add(key)
        return found


_touched: contextvars.ContextVar[Touched | None] = contextvars.ContextVar("touched", default=None)


class Durability:
    """Writes down what stores hold. Its methods are the event loop's; the dictionaries may be used by any thread.

    Args:
        path: the SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)
        self._stores: dict[str, Kept] = {}
        self._background, self._lagging = Touched(), Touched()
        self._due: dict[Kept, set[Any]] = {}
        self._writing: asyncio.Future[None] | None = None
        self._requests = 0
        self._not_written: set[Kept] = set()  # of which a write failed
        self.before_write: Callable[[], None] = lambda: None  # finds stores that there were not before

    def load(self, hook: Callable[[dict[str, Any]], Any] | None = None) -> dict[str, dict[Any, dict[str, Any]]]:
        """What the last process left: by store and key, the parts of each entry in the order of their writing.

        Args:
            hook: decodes what JSON does not know (json.loads's `object_hook`).
        """
        found: dict[str, dict[Any, dict[str, Any]]] = {}
        for store, key, part, text in self._journal.read():
            parts = found.setdefault(store, {}).setdefault(ast.literal_eval(key), {})
            parts[part] = json.loads(text, object_hook=hook)
        return found

    def keep(self, *stores: Kept) -> Callable[[Any], None]:
        """Write down these stores from now on; answers what their dictionary (Watched) tells its touches to."""
        for kept in stores:
            self._stores[kept.name] = kept

        def tell(key: Any) -> None:
            for kept in stores:
                self.touch(kept, key)

        tell(EVERYTHING)
        return tell

    def dictionary(self, name: str) -> Watched:
        """A dictionary of JSON values with text keys that survives, with what the last process left in it.

        It is written as MiniStack's stores are: with the answer to the request that changed it, else soon.
        """
        found = {ast.literal_eval(key): json.loads(text) for _, key, _, text in self._journal.read(name)}
        kept = Kept(name, lambda: watched)
        watched = Watched(found, self.keep(kept))
        return watched

    def touch(self, kept: Kept, key: Any) -> None:
        touched = _touched.get()
        if kept.lags:
            touched = self._lagging
        elif touched is None or not touched.open:
            touched = self._background
        touched.add(kept, key)

    @contextlib.contextmanager
    def recorded(self) -> Iterator[Touched]:
        """What is touched within, in its threads and tasks too, is this record's, until it is closed (`open`)."""
        touched = Touched()
        token = _touched.set(touched)
        try:
            yield touched
        finally:
            _touched.reset(token)
            touched.open = False
            for kept, keys in touched.take().items():
                for key in keys:
                    self.touch(kept, key)

    async def saved(self, touched: Touched) -> None:
        """Return when what was touched is written; who asks at the same time waits for the same write.

        Raises:
            NotWritten: an entry that was touched cannot be encoded; whatever else there is was written.
            sqlite3.Error: nothing could be written.
        """
        self.before_write()
        self._requests += 1
        entries = touched.take()
        for kept, keys in entries.items():
            self._due.setdefault(kept, set()).update(keys)
        if not self._due and self._writing is None:
            return
        if self._writing is None:
            loop = asyncio.get_running_loop()
            self._writing = loop.create_future()
            loop.call_soon(self._write_due)
        await asyncio.shield(self._writing)
        if refused := [f"{kept.name} {key!r}" for kept, keys in entries.items() for key in kept.refused(keys)]:
            raise NotWritten(f"{', '.join(refused)}: cannot be written down, so nobody is told of it; the log says why")

    def _write_due(self) -> None:
        due, self._due = self._due, {}
        writing, self._writing = self._writing, None
        assert writing is not None
        try:
            self.write(due)
        except Exception as error:  # noqa: BLE001  # it is raised where the answer waits
            writing.set_exception(error)
        else:
            writing.set_result(None)

    def write(self, entries: dict[Kept, set[Any]], thorough: bool = False) -> None:
        """Write what differs of these entries, in one transaction."""
        rows = [row for kept in self._not_written for row in self._all_of(kept)]
        rows += [row for kept, keys in entries.items() for row in kept.changes(keys, thorough)]
        try:
            self._journal.write(rows)
        except sqlite3.Error:
            # Once the disk has room again, whatever is written next brings the file up to date.
            self._not_written |= entries.keys()
            for kept in self._not_written:
                kept.forget()
            raise
        self._not_written.clear()

    def _all_of(self, kept: Kept) -> list[Row]:
        """All that a store has, and what of it is in the file and no more in the store."""
        rows = kept.changes({EVERYTHING}, thorough=True)
        there = {row[:3] for row in rows}
        return rows + [
            (*row[:3], None) for row in self._journal.read(kept.name) if row[0] == kept.name and row[:3] not in there
        ]

    def write_everything(self) -> None:
        self.before_write()
        self.write({kept: {EVERYTHING} for kept in self._stores.values()}, thorough=True)

    async def sweep(self) -> None:
        """Write, again and again, what no request's answer waits for."""
        lagging = thorough = time.monotonic()
        seen = 0
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                self.before_write()
                self.write(self._background.take())
                now = time.monotonic()
                if now - lagging > LAG_SECONDS:
                    lagging = now
                    self.write(self._lagging.take())
                # Who has read an entry long ago may still change it: CloudFormation does so.
                if now > thorough and seen != self._requests:
                    seen = self._requests
                    thorough = now + await self._look_through() / THOROUGH_SHARE
            except sqlite3.Error:
                logger.exception("The state cannot be written")

    async def _look_through(self) -> float:
        """Write what differs of every store; the seconds that it took."""
        spent = 0.0
        for kept in [each for each in self._stores.values() if not each.lags]:
            began = time.perf_counter()
            self.write({kept: {EVERYTHING}}, thorough=True)
            spent += time.perf_counter() - began
            await asyncio.sleep(0)
        return spent

    def close(self) -> None:
        self._journal.close()


class SavedAnswers:
    """An ASGI application whose answers leave when everything that they were made of is written."""

    def __init__(self, application: Any, durability: Durability) -> None:
        self._application, self._durability = application, durability

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        with self._durability.recorded() as touched:

            async def send_saved(message: Any) -> None:
                if message["type"] == "http.response.start":
                    await self._durability.saved(touched)
                await send(message)

            await self._application(scope, receive, send_saved)
