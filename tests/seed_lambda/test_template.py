"""The template's archive is unpacked into its folder only, with git's modes, once; versions are found or named."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest

from seed_lambda import template
from seed_lambda.errors import SeedError
from seed_lambda.hosts import File
from seed_lambda.template import Published
from tests.seed_lambda.fakes import Clients, context, refusal
from tests.seed_lambda.requests import VERSION

URL = "https://git-codecommit.eu-central-1.amazonaws.com/v1/repos/modelyard-template"
PARAMETERS = {
    "/modelyard/template/version": VERSION,
    "/modelyard/template/url": URL,
    "/modelyard/template/commit": "c" * 40,
}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def zipped(**files: tuple[int, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, (mode, content) in {"cookiecutter.json": (0o100644, "{}"), **files}.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


class Bucket:
    """Holds one archive and counts how often it is fetched."""

    def __init__(self, content: bytes) -> None:
        self.content, self.fetched = content, 0

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        self.fetched += 1
        assert (Bucket, Key) == ("modelyard-platform", f"modelyard/template/{VERSION}.zip")
        return {"Body": io.BytesIO(self.content)}


def unpacked(content: bytes) -> Path:
    return template.unpacked(context(Clients(s3={"get_object": Bucket(content).get_object})), VERSION)


def test_modes_and_links_are_gits() -> None:
    folder = unpacked(
        zipped(
            **{
                "hooks/run.sh": (0o100755, "#!/bin/sh\n"),
                "{{cookiecutter.project}}/a.txt": (0o100644, "a"),
                "{{cookiecutter.project}}/b.txt": (0o120000, "a.txt"),
                "linked": (0o120000, "hooks"),
            }
        )
    )
    assert template.files(folder) == {
        "cookiecutter.json": File(b"{}"),
        "hooks/run.sh": File(b"#!/bin/sh\n", "100755"),
        "linked": File(b"hooks", "120000"),
        "{{cookiecutter.project}}/a.txt": File(b"a"),
        "{{cookiecutter.project}}/b.txt": File(b"a.txt", "120000"),
    }


def test_it_is_fetched_once() -> None:
    bucket = Bucket(zipped())
    at = context(Clients(s3={"get_object": bucket.get_object}))
    assert template.unpacked(at, VERSION) == template.unpacked(at, VERSION)
    assert bucket.fetched == 1


@pytest.mark.parametrize(
    "files",
    [
        {"../outside": (0o100644, "x")},
        {"/outside": (0o100644, "x")},
        {"a/../../outside": (0o100644, "x")},
        {"a\\..\\outside": (0o100644, "x")},
        {"link": (0o120000, "../outside")},
        {"link": (0o120000, "/etc/passwd")},
        {"link": (0o120000, "folder"), "folder": (0o120000, ".."), "link/outside": (0o100644, "x")},
    ],
)
def test_nothing_is_written_outside(own_folder: Path, files: dict[str, tuple[int, str]]) -> None:
    with pytest.raises(SeedError, match="outside of its folder"):
        unpacked(zipped(**files))
    assert list(own_folder.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no zip", zipped()[:50]])
def test_an_archive_that_cannot_be_read_is_said(own_folder: Path, content: bytes) -> None:
    with pytest.raises(SeedError, match="cannot be read"):
        unpacked(content)
    assert list(own_folder.iterdir()) == []


def test_an_archive_that_is_no_template_is_said() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("README.md", "x")
    with pytest.raises(SeedError, match=r"no cookiecutter\.json"):
        unpacked(buffer.getvalue())


def test_unpacked_files_are_the_owners_to_write() -> None:
    folder = unpacked(zipped(x=(0o100000, "no mode")))
    assert stat.S_IMODE((folder / "x").stat().st_mode) == 0o644


@pytest.mark.parametrize("code", ["NoSuchKey", "AccessDenied"])
def test_a_version_without_an_archive_is_unknown(code: str) -> None:
    def get_object(**_: Any) -> None:
        raise refusal(code)

    with pytest.raises(SeedError, match=f"TemplateVersion '{VERSION}'.*'latest'"):
        template.unpacked(context(Clients(s3={"get_object": get_object})), VERSION)


def parameters(values: dict[str, str]) -> dict[str, Any]:
    found = [{"Name": name, "Value": value} for name, value in values.items()]
    return {"get_parameters": lambda Names: {"Parameters": [each for each in found if each["Name"] in Names]}}


@pytest.mark.parametrize("version", ["latest", VERSION])
def test_the_latest_version_is_what_the_parameters_say(version: str) -> None:
    at = context(Clients(ssm=parameters(PARAMETERS)))
    assert template.published(at, version) == Published(VERSION, URL, "c" * 40)


def test_an_older_version_is_found_by_its_branch() -> None:
    def get_branch(repositoryName: str, branchName: str) -> dict[str, Any]:
        assert (repositoryName, branchName) == ("modelyard-template", "version-0.9")
        return {"branch": {"commitId": "b" * 40}}

    at = context(Clients(ssm=parameters(PARAMETERS), codecommit={"get_branch": get_branch}))
    assert template.published(at, "0.9") == Published("0.9", URL, "b" * 40)


def test_a_version_that_was_never_published_is_unknown() -> None:
    def get_branch(**_: Any) -> None:
        raise refusal("BranchDoesNotExistException")

    at = context(Clients(ssm=parameters(PARAMETERS), codecommit={"get_branch": get_branch}))
    with pytest.raises(SeedError, match=r"TemplateVersion '0\.8'.*no branch version-0\.8"):
        template.published(at, "0.8")


def test_a_platform_without_a_template_says_what_is_missing() -> None:
    at = context(Clients(ssm=parameters({"/modelyard/template/version": VERSION})))
    with pytest.raises(SeedError, match="/modelyard/template/url, /modelyard/template/commit are not there"):
        template.published(at, "latest")
