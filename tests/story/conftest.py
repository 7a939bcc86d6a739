"""The story's places, with IAM enforced: a project whose story is told, and clones of it to change at will."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from local_aws import LocalAWS
from tests.story import platform as modelyard
from tests.story.demo import the_story
from tests.story.repository import Repository
from tests.story.story import Story


@pytest.fixture(scope="session")
def aws() -> Iterator[LocalAWS]:
    """One for all stories; clients without credentials are the account's root."""
    with LocalAWS(enforce_iam=True) as server:
        yield server


@pytest.fixture(scope="session")
def installed(aws: LocalAWS, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Modelyard's platform, installed by an administrator for all data scientists."""
    the_story(aws.server, "first", tmp_path_factory.mktemp("install"), _console()).install()


@pytest.fixture(scope="module")
def platform(request: pytest.FixtureRequest) -> Iterator[LocalAWS]:
    """A server of the module's own with the platform installed; the module may say how fast its clock runs
    (CLOCK_SPEED)."""
    speed = getattr(request.module, "CLOCK_SPEED", modelyard.CLOCK_SPEED)
    with LocalAWS(clock_speed=speed, enforce_iam=True) as aws:
        modelyard.install(aws)
        yield aws


@pytest.fixture
def project(platform: LocalAWS, request: pytest.FixtureRequest) -> modelyard.Project:
    """A new one on that platform; the module may say of which stage (STAGE)."""
    return modelyard.Project.create(platform, getattr(request.module, "STAGE", "dev"))


@pytest.fixture(scope="module")
def storyteller(aws: LocalAWS, installed: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Story]:
    """Makes the story of another project, with its people, told until its repository is cloned."""

    def make(project: str, problem_type: str = "binary_classification") -> Story:
        story = the_story(aws.server, project, tmp_path_factory.mktemp("story"), _console(), problem_type)
        story.welcome()
        story.create()
        return story

    return make


@pytest.fixture(scope="module")
def told(storyteller: Callable[..., Story], request: pytest.FixtureRequest) -> Story:
    """The demo's story until a version is registered; the project is named by the module (PROJECT), so each has its
    own."""
    story = storyteller(request.module.PROJECT)
    story.train()
    return story


@pytest.fixture
def repository(told: Story, tmp_path: Path) -> Repository:
    """A clone of the told repository, to change at will; same project, same AWS."""
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(told.repository), str(folder)], check=True)
    shutil.copytree(told.repository / "data", folder / "data")
    return Repository(folder, dict(told.environment))


def _console() -> Console:
    return Console(highlight=False, emoji=False, soft_wrap=True)
