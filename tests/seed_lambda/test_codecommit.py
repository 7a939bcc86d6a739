"""A commit on CodeCommit holds what is changed alone, keeps to its limits, and is made once."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    "tree",
    [
        {str(number): File(b"x") for number in range(MOST_FILES + 1)},
        {"large": File(b"x" * (MOST_BYTES + 1))},
    ],
)
def test_too_much_for_one_commit_is_said_and_not_tried(aws: SimulatedAWS, host: CodeCommit, tree: Tree) -> None:
    with pytest.raises(SeedError, match="CodeCommit takes at most 100 files of 7,000,000 bytes in one commit"):
        host.push("churn", tree, ("prod",), "x")
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
