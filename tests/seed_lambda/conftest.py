"""The template as its archive has it, as a folder, and as a Git repository that cookiecutter can generate from."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from servicecatalog import template_archive
from tests.local_aws.git_clients import git


@pytest.fixture(scope="session")
def archive() -> bytes:
    return template_archive.build()


@pytest.fixture(scope="session")
def template_folder(archive: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Git repository with the template's files in one commit."""
    folder = tmp_path_factory.mktemp("template")
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        for entry in opened.infolist():
            opened.extract(entry, folder)
            (folder / entry.filename).chmod((entry.external_attr >> 16) & 0o777)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "The template")
    return folder


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where the function unpacks the template: one folder for all tests, which goes with them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.getbasetemp()))
        yield
