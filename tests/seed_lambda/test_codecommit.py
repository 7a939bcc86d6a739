"""A commit on CodeCommit holds what is changed alone, keeps to its limits, and is made once."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from seed_lambda.errors import NameTaken, SeedError
from seed_lambda.hosts import File, Tree
from seed_lambda.hosts.codecommit import LARGEST, MOST_BYTES, MOST_FILES, CodeCommit
from tests.local_aws.git_clients import Git
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


def test_a_clone_signs_in_with_the_aws_cli_alone(host: CodeCommit, tmp_path: Path) -> None:
    """Not with this person's keychain, which would keep a password that is good for minutes."""
    for name in ("aws", "keychain"):
        (tmp_path / name).write_text(
            f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/asked\necho username=it\necho password={name}\n'
        )
        (tmp_path / name).chmod(0o755)
    (tmp_path / ".gitconfig").write_text(f"[credential]\n    helper = {tmp_path}/keychain\n")
    environment = {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "GIT_CONFIG_GLOBAL": str(tmp_path / ".gitconfig"),
    }
    repository = host.find("churn")
    assert repository is not None
    program, *command, url = shlex.split(repository.clone_command)
    assert (program, url) == ("git", repository.clone_url)
    Git(tmp_path, environment)("init", "--quiet", "--bare", "host.git")
    clone = Git(tmp_path / "churn", environment)
    Git(tmp_path, environment)(*command, "--quiet", "host.git", "churn")
    for operation, rest in (("fill", ""), ("approve", "username=it\npassword=x\n")):
        question = f"url={url}\n{rest}\n"
        subprocess.run(
            ["git", "credential", operation],
            cwd=clone.folder,
            env=clone.environment,
            input=question,
            text=True,
            check=True,
        )
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == [f"aws codecommit credential-helper {word}" for word in ("get", "store")]


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
    tree: Tree = {f"{name}/{name}": File(name.encode() * (MOST_BYTES // 2)) for name in "abc"}
    host.check_tree(tree)
    commit = host.push("churn", tree, ("prod",), "Large")
    assert len(messages_of(aws, commit)) == 2
    assert set(files_of(aws, commit)) == set(tree)


@pytest.mark.parametrize(
    ("paths", "size", "words"),
    [
        (["a/large"], LARGEST + 1, "the file a/large has 6,000,001 bytes, and CodeCommit takes at most 6,000,000 in a"),
        (["a/1", "a/2"], LARGEST // 2 + 1, "the files in the folder a have 6,000,002 bytes, .* in one folder"),
        (["1", "2"], LARGEST // 2 + 1, "the files in the folder / have"),
    ],
)
def test_files_that_codecommit_does_not_take_are_said(
    host: CodeCommit, paths: list[str], size: int, words: str
) -> None:
    host.check_tree({path: File(b"x" * (size - 1)) for path in paths})
    with pytest.raises(SeedError, match=words):
        host.check_tree({path: File(b"x" * size) for path in paths})


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
