"""Bare repositories by keys: whatever the key, it stays in the folder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from local_aws.git.push_rules import NOTHING
from local_aws.git.repositories import HOOKS, GitError, RefMoved, Repositories, git_environment

HOSTILE = [
    "../x",
    "..",
    ".",
    "/etc",
    "%2e%2e",
    "a/b",
    "a\0b",
    "a" * 300,
    "é" * 300,
    "",
    "-rf",
    "x.git",
    "CON",
    "\ud800",
]
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


@pytest.fixture
def repositories(tmp_path: Path) -> Repositories:
    return Repositories(tmp_path / "git")


def commit(repositories: Repositories, key: tuple[str, ...], message: str = "first") -> str:
    repositories.git(key, "hash-object", "-t", "tree", "-w", "--stdin")
    who = {f"GIT_{role}_{part}": "a@b" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    return repositories.git(key, "commit-tree", EMPTY_TREE, data=message.encode(), environment=who).decode().strip()


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_repository_of_any_name_lies_in_the_folder(repositories, tmp_path, name):
    path = repositories.create(("host", name))
    assert path.resolve().is_relative_to((tmp_path / "git").resolve())
    assert repositories.exists(("host", name))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["git"]
    repositories.delete(("host", name))
    assert not repositories.exists(("host", name))


def test_names_that_a_file_system_may_take_for_one_are_two(repositories):
    paths = {
        str(repositories.path(("host", name))).lower() for name in ("a", "A", "a/b", "a%2Fb", "a" * 100, "a" * 101)
    }
    assert len(paths) == 6
    assert repositories.path(("a", "b", "c")) != repositories.path(("a", "b/c"))


def test_a_new_repository_is_empty_and_its_head_is_chosen(repositories):
    key = ("host", "churn")
    repositories.create(key, head="prod")
    assert repositories.refs(key) == {}
    assert repositories.head(key) == "prod"
    assert repositories.resolve(key, "HEAD") is None
    with pytest.raises(FileExistsError, match="already"):
        repositories.create(key)


def test_refs_are_made_moved_and_deleted_only_from_where_they_are_said_to_be(repositories):
    key = ("host", "churn")
    repositories.create(key)
    first, second = commit(repositories, key), commit(repositories, key, "second")
    repositories.update_ref(key, "refs/heads/dev", first, NOTHING)
    with pytest.raises(RefMoved):
        repositories.update_ref(key, "refs/heads/dev", second, NOTHING)
    with pytest.raises(RefMoved):
        repositories.update_ref(key, "refs/heads/dev", first, second)
    repositories.update_ref(key, "refs/heads/dev", second, first)
    assert repositories.refs(key) == {"refs/heads/dev": second}
    assert repositories.branches(key) == {"dev": second}
    assert repositories.resolve(key, "refs/heads/dev") == second
    with pytest.raises(RefMoved):
        repositories.update_ref(key, "refs/heads/dev", NOTHING, first)
    repositories.update_ref(key, "refs/heads/dev", NOTHING, second)
    assert repositories.refs(key) == {}
    with pytest.raises(GitError):
        repositories.update_ref(key, "refs/heads/..", first)


def test_a_ref_moves_from_anywhere_when_nobody_says_where_it_is(repositories):
    key = ("host", "churn")
    repositories.create(key)
    first, second = commit(repositories, key), commit(repositories, key, "second")
    for target in (first, second):
        repositories.update_ref(key, "refs/heads/dev", target)
        assert repositories.branches(key) == {"dev": target}


def test_what_is_no_revision_resolves_to_nothing(repositories):
    key = ("host", "churn")
    repositories.create(key)
    for revision in ("refs/heads/dev", "--all", "a\0b", "\ud800", "", "0" * 40):
        assert repositories.resolve(key, revision) is None


@pytest.mark.parametrize(
    "ref", ["refs/heads/a..b", "refs/heads/", "refs/heads/a b", "refs/heads/a.lock", "a\0", "\ud800"]
)
def test_names_that_git_does_not_allow(repositories, ref):
    assert not repositories.is_ref_name(ref)
    assert repositories.is_ref_name("refs/heads/feature-x")


def test_a_repository_moves_to_a_key_that_nobody_has(repositories):
    repositories.create(("host", "a"))
    repositories.create(("host", "b"))
    with pytest.raises(FileExistsError):
        repositories.move(("host", "a"), ("host", "b"))
    repositories.move(("host", "a"), ("other", "a"))
    assert repositories.exists(("other", "a"))
    assert not repositories.exists(("host", "a"))


def test_what_a_killed_server_left_half_made_goes_at_the_next_start(tmp_path):
    (tmp_path / ".half-1").mkdir()
    Repositories(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("hook", ["pre-receive", "post-receive", "proc-receive"])
def test_hooks_are_programs(hook):
    """Git passes over those that are not."""
    assert os.access(HOOKS / hook, os.X_OK)


def test_no_configuration_of_the_machine_or_its_user_counts(repositories, tmp_path, monkeypatch):
    (tmp_path / ".gitconfig").write_text("[init]\n\tdefaultBranch = mine\n[gc]\n\tauto = 5\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert "GIT_DIR" not in git_environment()
    listed = subprocess.run(
        ["git", "config", "--list"], env=git_environment(), capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "mine" not in listed.stdout
    assert "gc.auto=0" in listed.stdout
