"""What is written down of dictionaries, and when."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from local_aws.durability import Durability, Kept, NotWritten, SavedAnswers, Watched


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


def watched(durability: Durability, name: str = "roles", lags: bool = False) -> Watched:
    kept = Kept(name, lambda: data, lags=lags)
    data = Watched({}, durability.keep(kept))
    return data


def found(path: Path, store: str = "roles") -> dict[Any, Any]:
    """What the next process would find, as if this one had been killed."""
    durability = Durability(path)
    try:
        return {key: parts[""] for key, parts in durability.load().get(store, {}).items()}
    finally:
        durability.close()


def answer(durability: Durability, change: Any) -> None:
    """Answer one request, which does so."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        change()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    sent = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(SavedAnswers(application, durability)({"type": "http"}, None, send))
    assert len(sent) == 1


def test_what_a_request_changed_is_written_when_its_answer_leaves(path):
    durability = Durability(path)
    roles = watched(durability)

    answer(durability, lambda: roles.update({("1", "a"): {"Name": "a"}}))
    answer(durability, lambda: roles[("1", "a")].update(Tags=[]))  # in place, without a word to the dictionary
    assert found(path) == {("1", "a"): {"Name": "a", "Tags": []}}

    answer(durability, lambda: roles.pop(("1", "a")))
    assert found(path) == {}


def test_nothing_leaves_before_it_is_written(path):
    durability = Durability(path)
    roles = watched(durability)
    seen = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        roles["a"] = 1
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        seen.append(found(path))

    asyncio.run(SavedAnswers(application, durability)({"type": "http"}, None, send))

    assert seen == [{"a": 1}]


def test_what_a_request_only_shows_is_written_too(path):
    """A deployment of CloudFormation changes its stack long after it was read; who sees that must not see it undone."""
    durability = Durability(path)
    stacks = watched(durability)
    stack = {"Status": "CREATE_IN_PROGRESS"}
    answer(durability, lambda: stacks.update(name=stack))

    stack["Status"] = "CREATE_COMPLETE"
    answer(durability, lambda: stacks["name"])

    assert found(path) == {"name": {"Status": "CREATE_COMPLETE"}}


def test_an_answer_with_what_cannot_be_written_fails_and_all_else_is_written(path, caplog):
    durability = Durability(path)
    one, other = watched(durability, "queues"), watched(durability, "topics")

    def whole() -> None:
        one["a"] = other["a"] = 1

    def half() -> None:
        one["a"] = 2
        other["a"] = object()  # no JSON

    answer(durability, whole)
    with pytest.raises(NotWritten, match="topics 'a'"):
        answer(durability, half)

    assert (found(path, "queues"), found(path, "topics")) == ({"a": 2}, {"a": 1})
    assert "topics 'a' cannot be written down" in caplog.text


def test_what_cannot_be_written_fails_no_answer_but_those_that_show_it(path):
    durability = Durability(path)
    roles = watched(durability)

    async def one(name: str, value: Any) -> None:
        with durability.recorded() as touched:
            roles[name] = value
            await durability.saved(touched)

    async def several() -> Any:
        return await asyncio.gather(one("a", object()), one("b", 1), return_exceptions=True)

    failed, answered = asyncio.run(several())
    assert isinstance(failed, NotWritten)
    assert answered is None
    answer(durability, lambda: roles["b"])
    with pytest.raises(NotWritten):
        answer(durability, lambda: list(roles.values()))
    answer(durability, lambda: roles.update(a=2))
    answer(durability, lambda: list(roles.values()))
    assert found(path) == {"a": 2, "b": 1}


def test_answers_that_are_ready_at_the_same_time_are_written_together(path, monkeypatch):
    durability = Durability(path)
    roles = watched(durability)
    write, writes = durability.write, []

    def count(*arguments: Any) -> None:
        writes.append(arguments)
        write(*arguments)

    monkeypatch.setattr(durability, "write", count)

    async def one(name: str) -> None:
        with durability.recorded() as touched:
            roles[name] = {}
            await durability.saved(touched)

    async def several() -> None:
        await asyncio.gather(*(one(f"role-{number}") for number in range(10)))

    asyncio.run(several())

    assert len(writes) == 1
    assert len(found(path)) == 10


def test_what_no_request_touched_is_written_soon_and_what_may_lag_at_the_end(path, monkeypatch):
    monkeypatch.setattr("local_aws.durability.SWEEP_SECONDS", 0.01)
    durability = Durability(path)
    alarms, metrics = watched(durability, "alarms"), watched(durability, "metrics", lags=True)

    async def sweep() -> None:
        sweeping = asyncio.create_task(durability.sweep())
        alarms["a"] = "ALARM"
        metrics["m"] = [1.0]
        await asyncio.sleep(0.2)
        sweeping.cancel()

    asyncio.run(sweep())
    assert (found(path, "alarms"), found(path, "metrics")) == ({"a": "ALARM"}, {})

    durability.write_everything()
    assert found(path, "metrics") == {"m": [1.0]}


def test_entries_come_back_in_the_order_in_which_they_were_made(path):
    durability = Durability(path)
    roles = watched(durability)
    names = [f"role-{number}" for number in (3, 1, 2)]
    for name in names:
        answer(durability, lambda name=name: roles.update({name: 1}))
    answer(durability, lambda: roles.update({"role-3": 2}))

    assert list(found(path)) == names


def test_a_dictionary_of_our_own_is_there_again(path):
    first = Durability(path)
    kept = first.dictionary("local_aws/invocations")
    answer(first, lambda: kept.update(one={"attempts": 1}))
    first.close()

    assert Durability(path).dictionary("local_aws/invocations") == {"one": {"attempts": 1}}


def test_what_could_not_be_written_is_written_with_the_next_change(path, monkeypatch):
    """A full disk, for one: the client is told so, and what was changed or deleted is not forgotten."""
    durability = Durability(path)
    roles, users = watched(durability), watched(durability, "users")
    answer(durability, lambda: roles.update(gone="a", changed="b", kept="c"))

    def spoil() -> None:
        del roles["gone"]
        roles["changed"] = "d"

    with monkeypatch.context() as full:
        full.setattr(durability._journal, "write", lambda rows: fail())
        with pytest.raises(sqlite3.OperationalError, match="disk is full"):
            answer(durability, spoil)
    answer(durability, lambda: users.update(another="e"))

    assert found(path) == {"changed": "d", "kept": "c"}
    assert found(path, "users") == {"another": "e"}


def fail() -> None:
    raise sqlite3.OperationalError("database or disk is full")
