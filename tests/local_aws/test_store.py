"""What is remembered, and what a restart finds of it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from local_aws.store import Scope, Store

CHECKOUT = Path(__file__).resolve().parents[2]
HERE = Scope("123456789012", "us-east-1")
ELSEWHERE = [Scope("123456789012", "eu-west-1"), Scope("210987654321", "us-east-1")]


@pytest.fixture(params=["in memory", "in a file"])
def store(request, tmp_path):
    store = Store(tmp_path / "state" / "store.sqlite" if request.param == "in a file" else None)
    yield store
    store.close()


def test_a_document_is_found_by_its_key(store):
    table = store.table("pipelines")
    table.put(HERE, "churn", {"name": "churn"})

    assert table.get(HERE, "churn") == {"name": "churn"}
    assert table.get(HERE, "absent") is None
    assert store.table("pipelines") is table


def test_documents_keep_the_order_of_their_creation_when_they_change(store):
    table = store.table("pipelines")
    for key in "cab":
        table.put(HERE, key, {"key": key})
    table.put(HERE, "c", {"key": "c", "changed": True})

    assert [document["key"] for document in table.values(HERE)] == ["c", "a", "b"]
    assert table.values(HERE)[0]["changed"]


def test_tables_accounts_and_regions_are_apart(store):
    table = store.table("pipelines")
    table.put(HERE, "churn", {"where": "here"})
    for scope in ELSEWHERE:
        assert table.get(scope, "churn") is None
        assert table.values(scope) == []
        table.put(scope, "churn", {"where": "elsewhere"})

    assert table.get(HERE, "churn") == {"where": "here"}
    assert store.table("jobs").get(HERE, "churn") is None
    assert [(scope, key) for scope, key, _ in table.items()] == [(scope, "churn") for scope in [HERE, *ELSEWHERE]]


def test_a_deleted_document_is_gone(store):
    table = store.table("pipelines")
    table.put(HERE, "churn", {})
    table.delete(HERE, "churn")

    assert table.get(HERE, "churn") is None
    assert table.values(HERE) == []
    with pytest.raises(KeyError):
        table.delete(HERE, "churn")


def test_a_new_store_on_the_same_file_finds_everything_in_order(tmp_path):
    first = Store(tmp_path / "store.sqlite")
    for key in "cab":
        first.table("pipelines").put(HERE, key, {"key": key, "nested": {"number": 1.5, "none": None, "text": "ü"}})
    first.table("pipelines").put(HERE, "c", {"key": "c", "changed": True})
    first.table("pipelines").delete(HERE, "a")
    first.table("jobs").put(ELSEWHERE[0], "job", {"key": "job"})
    first.close()

    second = Store(tmp_path / "store.sqlite")
    found = second.table("pipelines").values(HERE)
    jobs = second.table("jobs").values(ELSEWHERE[0])
    second.close()

    assert found == [
        {"key": "c", "changed": True},
        {"key": "b", "nested": {"number": 1.5, "none": None, "text": "ü"}},
    ]
    assert jobs == [{"key": "job"}]


def test_a_killed_process_loses_nothing_that_it_has_put(tmp_path):
    path = tmp_path / "store.sqlite"
    script = (
        "import os, signal, sys; from pathlib import Path; from local_aws.store import Scope, Store\n"
        "table = Store(Path(sys.argv[1])).table('pipelines')\n"
        "for number in range(100): table.put(Scope('123456789012', 'us-east-1'), str(number), {'number': number})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(path)], cwd=CHECKOUT, check=False)
    store = Store(path)
    found = [document["number"] for document in store.table("pipelines").values(HERE)]
    store.close()

    assert killed.returncode == -9
    assert found == list(range(100))


def test_threads_may_put_and_read_at_once(tmp_path):
    store = Store(tmp_path / "store.sqlite")
    table = store.table("pipelines")
    failures: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for number in range(50):
                table.put(HERE, f"{thread}-{number}", {"number": number})
                assert len(table.values(HERE)) > number
        except BaseException as error:  # noqa: BLE001 - whatever a thread raises fails the test below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    reopened = Store(tmp_path / "store.sqlite")
    found = len(reopened.table("pipelines").values(HERE))
    reopened.close()

    assert failures == []
    assert found == 400


def test_what_is_put_while_the_lock_is_held_is_written_together(tmp_path):
    store = Store(tmp_path / "state.sqlite")
    table = store.table("packages")

    def found() -> list[str]:
        """What the next process would find, as if this one had been killed."""
        other = Store(tmp_path / "state.sqlite")
        keys = [key for _, key, _ in other.table("packages").items()]
        other.close()
        return keys

    with store.lock:
        table.put(Scope("123456789012", "us-east-1"), "one", {})
        with store.lock:
            table.put(Scope("123456789012", "us-east-1"), "two", {})
        assert found() == []
    assert found() == ["one", "two"]
    store.close()
