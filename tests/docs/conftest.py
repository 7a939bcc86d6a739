"""A project like the tutorial's, for the pages that begin in a clone of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local_aws import LocalAWS
from tests.docs.commands import Shell
from tests.docs.pages import CHECKOUT
from tests.story.platform import install

PROJECT = "churn"


@pytest.fixture(scope="module")
def account() -> Iterator[LocalAWS]:
    """With the platform and the project, whose sample data is not sent yet."""
    with LocalAWS(clock_speed=60) as aws:
        install(aws)
        yield aws


@pytest.fixture(scope="module")
def new_clone(account: LocalAWS, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Shell]:
    """Opens a shell in a clone of its own of the project that is named, the sample data sent."""
    there: set[str] = set()

    def typed(shell: Shell, script: str) -> None:
        code, printed = shell.run(script)
        assert code == 0, printed

    def new_shell(name: str) -> Shell:
        variables = account.environment | account.git_environment | {"MODELYARD": str(CHECKOUT)}
        shell = Shell.open(CHECKOUT, tmp_path_factory.mktemp(name) / "home", variables)
        shell.variables["PATH"] = f"{Path(sys.executable).parent}:{shell.variables['PATH']}"
        return shell

    def clone(project: str = PROJECT) -> Shell:
        if project not in there:
            form = f'python -m local_aws studio create --template "Modelyard project" --name {project}'
            typed(new_shell("form"), form)
            there.add(project)
        shell = new_shell("clone")
        typed(shell, f'cd ~; git clone --quiet "$AWS_ENDPOINT_URL/v1/repos/{project}"; cd {project}')
        typed(shell, "python -m pipeline sample-data; python -m pipeline upload-data")
        return shell

    return clone
