"""What is pushed has the ids that git itself computes."""

from __future__ import annotations

from pathlib import Path

from seed_lambda import template
from seed_lambda.hosts import File
from seed_lambda.hosts.git_push import blob_id, commit_of
from tests.local_aws.git_clients import git


def test_the_tree_is_gits_own(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "ü.txt").write_text("x")
    (tmp_path / "b-c").write_text("sorts between b and b/")
    (tmp_path / "run").write_text("#!/bin/sh\n")
    (tmp_path / "run").chmod(0o755)
    (tmp_path / "link").symlink_to("run")
    tree = template.files(tmp_path)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    assert commit_of(tree, "message", 0).tree == git(tmp_path, "write-tree")
    assert blob_id(b"x") == git(tmp_path, "hash-object", "b/ü.txt")


def test_the_commit_depends_on_what_it_says_alone() -> None:
    tree = {"a": File(b"a")}
    first = commit_of(tree, "message", 1700000000)
    assert first.commit == commit_of(dict(tree), "message", 1700000000).commit
    others = [
        commit_of(tree, "other", 1700000000),
        commit_of(tree, "message", 1700000001),
        commit_of(tree, "message", 1700000000, parent="a" * 40),
        commit_of({"a": File(b"a", "100755")}, "message", 1700000000),
    ]
    assert len({first.commit, *(each.commit for each in others)}) == 5
