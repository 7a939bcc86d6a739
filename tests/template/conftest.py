"""Repositories generated from a committed copy of the template, in folders that vanish with the tests."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from cookiecutter.main import cookiecutter

from tests.template.stubbed_account import Account

CHECKOUT = Path(__file__).resolve().parents[2]
PROBLEM_TYPES = ("binary_classification", "multiclass_classification", "regression")
SCENARIOS = ("baseline", "advanced")
ROLE_ARN = "arn:aws:iam::123456789012:role/modelyard-pipeline"


@dataclass(frozen=True)
class Template:
    """The template as a git repository of its own, and a way to generate from it."""

    folder: Path
    cookiecutter_config: Path

    def generate(self, output: Path, **answers: str) -> Path:
        """The generated repository. Raises cookiecutter's FailedHookException when the answers are refused."""
        output.mkdir(parents=True, exist_ok=True)
        made = cookiecutter(
            str(self.folder),
            no_input=True,
            extra_context={"pipeline_role": ROLE_ARN, **answers},
            output_dir=str(output),
            config_file=str(self.cookiecutter_config),
        )
        return Path(made)


@pytest.fixture(scope="session", autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No git or AWS settings of whoever runs the tests; returns the home folder that programs see instead."""
    home = tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text("[user]\n\tname = Ada Tester\n\temail = ada@example.com\n")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "GIT_", "GITHUB_", "CI_"))]:
            patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield home


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, clean_environment: Path) -> Template:
    folder = tmp_path_factory.mktemp("template")
    for name in (".gitattributes", "cookiecutter.json"):
        shutil.copy(CHECKOUT / name, folder)
    for part in ("hooks", "{{cookiecutter.project}}"):
        shutil.copytree(CHECKOUT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "The template")
    config = clean_environment / "cookiecutter.yaml"
    folders = {"cookiecutters_dir": str(folder.parent / "clones"), "replay_dir": str(folder.parent / "replay")}
    config.write_text(json.dumps(folders))  # JSON is YAML
    return Template(folder, config)


@pytest.fixture(scope="session")
def generated(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """The repository of a problem type and scenario, generated once; tests only read it."""
    made: dict[tuple[str, str], Path] = {}

    def get(problem_type: str, scenario: str = "baseline") -> Path:
        if (problem_type, scenario) not in made:
            made[problem_type, scenario] = template.generate(
                tmp_path_factory.mktemp("generated"), project="churn", problem_type=problem_type, scenario=scenario
            )
        return made[problem_type, scenario]

    return get


class Modules(SimpleNamespace):
    """The modules of the package `pipeline`, each imported when it is first asked for: some take seconds.

    And what is in the package itself.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Python and pytest ask for such
            raise AttributeError(name)
        found = getattr(importlib.import_module("pipeline"), name, None) or importlib.import_module(f"pipeline.{name}")
        setattr(self, name, found)
        return found


@pytest.fixture(scope="module")
def pipeline(generated: Callable[..., Path]) -> Iterator[Modules]:
    """The modules of a generated repository's `pipeline` package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(generated("regression")))
        patch.setattr(sys, "dont_write_bytecode", True)
        # Other tests of this process may have imported the template's own, whose settings.yaml is not filled in.
        others = _taken_out()
        yield Modules()
        _taken_out()
        sys.modules.update(others)


def _taken_out() -> dict[str, ModuleType]:
    """The modules of `pipeline`, which are imported anew when they are asked for again."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "pipeline"}


@pytest.fixture
def account() -> Iterator[Account]:
    """Every call that a test prepared must have come by its end."""
    made = Account()
    yield made
    for stub in made.stubs.values():
        stub.assert_no_pending_responses()


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python in a repository, as its owner would start it; leaves no byte code behind."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
