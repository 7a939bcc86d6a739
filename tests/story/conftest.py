"""The story's places, with IAM enforced: a project whose story is told, and clones of it to change at will."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local_aws import LocalAWS
from tests.story.people import prepare
from tests.story.repository import BUCKET, Repository
from tests.story.story import Story


@pytest.fixture(scope="session")
def aws() -> Iterator[LocalAWS]:
    """One for all stories; clients without credentials are the account's root."""
    with LocalAWS(enforce_iam=True) as server:
        yield server


@pytest.fixture(scope="module")
def storyteller(aws: LocalAWS, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Story]:
    """Makes the story of another project, with the people that it needs."""

    def make(project: str, problem_type: str = "binary_classification") -> Story:
        people = prepare(aws, project, BUCKET)
        place = (aws.server.region, BUCKET, people.role, people.data_scientist, people.administrator)
        return Story(project, *place, tmp_path_factory.mktemp("story"), people.admit, problem_type)

    return make


@pytest.fixture(scope="module")
def told(storyteller: Callable[..., Story], request: pytest.FixtureRequest) -> Story:
    """The demo's story, told to its end; the project is named by the module (PROJECT), so each has its own."""
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
