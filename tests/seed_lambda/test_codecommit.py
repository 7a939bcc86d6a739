"""A commit on CodeCommit holds what is changed alone, keeps to its limits, and is made once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from seed_lambda.errors import NameTaken, SeedError
from seed_lambda.hosts import File, Tree
from seed_lambda.hosts.codecommit import MOST_BYTES, MOST_FILES, CodeCommit
from tests.seed_lambda.fakes import context, refusal
from tests.seed_lambda.requests import OTHER_STACK, STACK
from tests.seed_lambda.simulated_aws import SimulatedAWS

TREE: Tree = {
    "README.md": File(b"# churn\n"),
    "run/it.sh": File(b"#!/bin/sh\n", "100755"),
    "link": File(b"README.md", "120000"),
}


@pytest.fixture
def aws() -> SimulatedAWS:
    return SimulatedAWS()


@pytest.fixture
def host(aws: SimulatedAWS) -> CodeCommit:
    made = CodeCommit(context(aws))
    made.create("churn", "Who leaves", {"modelyard:stack": STACK})
    return made


def files_of(aws: SimulatedAWS, commit: str) -> dict[str, tuple[bytes, str]]:
    return aws.commits["churn", commit]["files"]


def test_the_branches_point_to_one_commit_of_all_files(aws: SimulatedAWS, host: CodeCommit) -> None:
    commit = host.push("churn", TREE, ("prod", "dev"), "Create churn")
    assert host.heads("churn", ("prod", "dev", "other")) == {"prod": commit, "dev": commit}
    assert files_of(aws, commit) == {
        "README.md": (b"# churn\n", "NORMAL"),
        "run/it.sh": (b"#!/bin/sh\n", "EXECUTABLE"),
        "link": (b"README.md", "SYMLINK"),
    }


def test_the_same_files_make_no_second_commit(aws: SimulatedAWS, host: CodeCommit) -> None:
    first = host.push("churn", TREE, ("main", "version-1"), "1")
    assert host.push("churn", TREE, ("main", "version-2"), "2") == first
    assert host.heads("churn", ("version-2",)) == {"version-2": first}


def test_a_next_commit_changes_adds_and_deletes(aws: SimulatedAWS, host: CodeCommit) -> None:
    first = host.push("churn", TREE, ("main",), "1")
    tree: Tree = {"README.md": File(b"# changed\n"), "run/it.sh": File(b"#!/bin/sh\n"), "new": File(b"")}
    second = host.push("churn", tree, ("main",), "2")
    assert second != first
    assert files_of(aws, second) == {
        "README.md": (b"# changed\n", "NORMAL"),
        "run/it.sh": (b"#!/bin/sh\n", "NORMAL"),
        "new": (b"", "NORMAL"),
    }


MANY: Tree = {f"file-{number:03}": File(b"%d" % number) for number in range(2 * MOST_FILES + 1)}


def messages_of(aws: SimulatedAWS, commit: str | None) -> list[str]:
    """Of a commit and those before it, the newest first."""
    found = []
    while commit is not None:
        found.append(aws.commits["churn", commit]["message"])
        commit = aws.commits["churn", commit]["parent"]
    return found


def test_more_files_than_codecommit_takes_come_in_several_commits(aws: SimulatedAWS, host: CodeCommit) -> None:
    commit = host.push("churn", MANY, ("prod", "dev"), "Create churn")
    assert {path: content for path, (content, _) in files_of(aws, commit).items()} == {
        path: file.content for path, file in MANY.items()
    }
    assert host.heads("churn", ("prod", "dev")) == {"prod": commit, "dev": commit}
    assert messages_of(aws, commit) == [f"Create churn ({number} of 3)\n" for number in (3, 2, 1)]
    assert host.holds_seed_alone("churn")
    assert host.push("churn", MANY, ("prod", "dev"), "Create churn") == commit

    fewer = host.push("churn", {"README.md": File(b"")}, ("prod",), "Fewer")
    assert set(files_of(aws, fewer)) == {"README.md"}


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_what_a_first_try_had_committed_is_not_committed_again(aws: SimulatedAWS, host: CodeCommit, lost: int) -> None:
    """Lambda's next try goes on where the one before was killed: after this many commits."""
    made = 0

    def kill(service: str, operation: str, call: Callable[[], dict[str, object]]) -> dict[str, object]:
        nonlocal made
        answer = call()
        made += operation == "CreateCommit"
        if made == lost:
            raise KeyboardInterrupt
        return answer

    usual, aws.around = aws.around, kill
    with pytest.raises(KeyboardInterrupt):
        host.push("churn", MANY, ("prod", "dev"), "Create churn")
    aws.around = usual
    commit = host.push("churn", MANY, ("prod", "dev"), "Create churn")
    assert len(messages_of(aws, commit)) == 3
    assert set(files_of(aws, commit)) == set(MANY)
    assert host.holds_seed_alone("churn")


def test_bytes_are_divided_as_files_are(aws: SimulatedAWS, host: CodeCommit) -> None:
    tree: Tree = {name: File(name.encode() * (MOST_BYTES // 2)) for name in "abc"}
    commit = host.push("churn", tree, ("prod",), "Large")
    assert len(messages_of(aws, commit)) == 2
    assert set(files_of(aws, commit)) == set(tree)


def test_a_file_that_is_too_large_is_said_and_nothing_is_tried(aws: SimulatedAWS, host: CodeCommit) -> None:
    with pytest.raises(SeedError, match="the file large has 7,000,001 bytes, and CodeCommit takes at most 7,000,000"):
        host.push("churn", {"large": File(b"x" * (MOST_BYTES + 1))}, ("prod",), "x")
    assert ("codecommit", "CreateCommit") not in aws.calls


def test_anothers_repository_is_not_touched(aws: SimulatedAWS, host: CodeCommit) -> None:
    (arn,) = aws.tags
    aws.tags[arn]["modelyard:stack"] = OTHER_STACK
    with pytest.raises(NameTaken, match="the CodeCommit repository churn is there already"):
        host.create("churn", "x", {"modelyard:stack": STACK})


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("RepositoryLimitExceededException", "quota of repositories is reached"),
        ("OperationNotAllowedException", "AWS does not let this account make repositories"),
    ],
)
def test_an_account_that_cannot_have_more_is_told_what_to_do(aws: SimulatedAWS, code: str, words: str) -> None:
    def refuse(service: str, operation: str, call: object) -> dict[str, object]:
        if operation == "CreateRepository":
            raise refusal(code, operation)
        return call()  # type: ignore[operator]

    aws.around = refuse
    with pytest.raises(SeedError, match=words):
        CodeCommit(context(aws)).create("churn", "x", {"modelyard:stack": STACK})


def test_a_repository_with_more_than_the_seeds_commit_is_somebodys(host: CodeCommit) -> None:
    assert host.holds_seed_alone("churn")
    host.push("churn", TREE, ("prod", "dev"), "Create churn")
    assert host.holds_seed_alone("churn")
    host.push("churn", {**TREE, "mine": File(b"x")}, ("dev",), "Mine")
    assert not host.holds_seed_alone("churn")


def test_deleting_what_is_gone_is_no_error(host: CodeCommit) -> None:
    host.delete("churn")
    host.delete("churn")
    assert host.find("churn") is None
