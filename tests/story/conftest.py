"""The story's places: a bucket and a role, a project whose story is told, and clones of it to change at will."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from local_aws import LocalAWS
from tests.story.demo import prepare
from tests.story.repository import BUCKET, ROLE, Repository
from tests.story.story import Story


@pytest.fixture(scope="session")
def role(aws: LocalAWS) -> str:
    return prepare(aws, BUCKET, ROLE)


@pytest.fixture(scope="module")
def told(aws: LocalAWS, role: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Story:
    """The demo's story, told to its end; the project is named by the module (PROJECT), so each has its own."""
    folder = tmp_path_factory.mktemp("story")
    story = Story(request.module.PROJECT, aws.server.region, BUCKET, role, aws.environment, folder)
    story.train()
    return story


@pytest.fixture
def repository(told: Story, tmp_path: Path) -> Repository:
    """A clone of the told repository, to change at will; same project, same AWS."""
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(told.repository), str(folder)], check=True)
    shutil.copytree(told.repository / "data", folder / "data")
    return Repository(folder, dict(told.environment))
