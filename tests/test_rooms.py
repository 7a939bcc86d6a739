"""The rules of the house that CONTRIBUTING.md names: which room may know which."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = "{{cookiecutter.project}}"
ROOMS = ("seed_lambda", "lifecycle_lambdas", "servicecatalog", f"{TEMPLATE}/pipeline", f"{TEMPLATE}/steps", "hooks")
# By the name under which each is imported; the generated repository's are its own.
OTHERS = {"seed_lambda", "lifecycle_lambdas", "servicecatalog", "local_aws", "tests", "ministack"}
HOST = ROOT / "local_aws" / "ministack_host"


@cache
def imports(folder: Path) -> list[tuple[Path, str]]:
    """File and module of every absolute import, those within functions too."""
    found: list[tuple[Path, str]] = []
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found += [(path, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found += [(path, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def packages(folder: Path) -> list[tuple[Path, str]]:
    """File and top package of every import."""
    return [(path, name.partition(".")[0]) for path, name in imports(folder)]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_no_other(room: str) -> None:
    found = packages(ROOT / room)
    assert found
    assert [(str(path), name) for path, name in found if name in OTHERS - {room}] == []


def test_local_aws_imports_no_room() -> None:
    rooms = OTHERS - {"local_aws", "ministack"}
    assert [(str(path), name) for path, name in packages(ROOT / "local_aws") if name in rooms] == []


def test_the_host_alone_touches_ministack() -> None:
    found = [path for path, name in packages(ROOT / "local_aws") if name == "ministack"]
    assert found
    assert [str(path) for path in found if HOST not in path.parents] == []


def test_codepipeline_reaches_builds_and_repositories_by_aws_calls_alone() -> None:
    """As in AWS: what its role may not do, it does not do."""
    found = imports(ROOT / "local_aws" / "codepipeline")
    assert found
    others = ("local_aws.builds", "local_aws.git")
    assert [(str(path), name) for path, name in found if name.startswith(others)] == []
