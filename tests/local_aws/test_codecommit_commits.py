"""What CreateCommit makes of a branch's files, decided without Git."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from local_aws.calls import ServiceError
from local_aws.git.codecommit_commits import (
    LARGEST_FILE,
    LONGEST_MESSAGE,
    MEGA,
    File,
    author_of,
    blob_id,
    check_message,
    decide,
)

BEFORE = {
    "readme.md": File("100644", blob_id(b"one")),
    "run.sh": File("100755", blob_id(b"#!/bin/sh\n")),
    "data/a.csv": File("100644", blob_id(b"1")),
    "sub": File("160000", "1" * 40),
}
ARN = "arn:aws:iam::123456789012:user/ada"


def put(path: str, content: bytes = b"new", **more: Any) -> dict[str, Any]:
    return {"filePath": path, "fileContent": base64.b64encode(content).decode(), **more}


def code(request: dict[str, Any]) -> str:
    with pytest.raises(ServiceError) as error:
        decide(BEFORE, request)
    return error.value.code


def test_a_content_has_gits_id():
    assert blob_id(b"hi\n") == "45b983be36b73c0788dc9cbcb76cbb80fc7bb057"


def test_files_are_added_updated_and_deleted():
    request = {
        "putFiles": [put("new/deep.py"), put("readme.md", b"two"), put("link", b"run.sh", fileMode="SYMLINK")],
        "deleteFiles": [{"filePath": "data/a.csv"}],
        "setFileModes": [{"filePath": "run.sh", "fileMode": "NORMAL"}],
    }
    change = decide(BEFORE, request)
    assert change.files == {
        "readme.md": File("100644", blob_id(b"two")),
        "run.sh": File("100644", blob_id(b"#!/bin/sh\n")),
        "sub": BEFORE["sub"],
        "new/deep.py": File("100644", blob_id(b"new")),
        "link": File("120000", blob_id(b"run.sh")),
    }
    assert (change.added, change.updated) == (["new/deep.py", "link"], ["readme.md", "run.sh"])
    assert change.deleted == ["data/a.csv"]
    assert change.contents == {blob_id(each): each for each in (b"new", b"two", b"run.sh")}
    answer = change.response(BEFORE)
    assert answer["filesAdded"][1] == {"absolutePath": "link", "blobId": blob_id(b"run.sh"), "fileMode": "SYMLINK"}
    assert answer["filesDeleted"] == [{"absolutePath": "data/a.csv", "blobId": blob_id(b"1"), "fileMode": "NORMAL"}]


def test_a_file_keeps_its_mode_unless_another_is_given():
    assert decide(BEFORE, {"putFiles": [put("run.sh")]}).files["run.sh"].mode == "100755"
    assert decide(BEFORE, {"putFiles": [put("run.sh", fileMode="NORMAL")]}).files["run.sh"].mode == "100644"


def test_what_stays_as_it_is_is_not_told_as_updated():
    change = decide(BEFORE, {"putFiles": [put("readme.md", b"one"), put("new")]})
    assert (change.added, change.updated) == (["new"], [])


def test_a_folder_that_lost_its_files_is_kept_when_that_is_asked():
    request = {"deleteFiles": [{"filePath": "data/a.csv"}]}
    assert "data/.gitkeep" not in decide(BEFORE, request).files
    change = decide(BEFORE, request | {"keepEmptyFolders": True})
    assert change.files["data/.gitkeep"] == File("100644", blob_id(b""))
    assert change.added == ["data/.gitkeep"]


def test_what_was_a_folder_may_become_a_file_in_one_commit():
    change = decide(BEFORE, {"deleteFiles": [{"filePath": "data/a.csv"}], "putFiles": [put("data")]})
    assert "data" in change.files


def test_a_hundred_files_are_no_more_than_are_allowed():
    assert len(decide({}, {"putFiles": [put(f"f{number}") for number in range(100)]}).added) == 100


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, "FileEntryRequiredException"),
        ({"putFiles": []}, "FileEntryRequiredException"),
        ({"putFiles": [put(f"f{number}") for number in range(101)]}, "MaximumFileEntriesExceededException"),
        ({"putFiles": [put("readme.md", b"one")]}, "NoChangeException"),
        ({"setFileModes": [{"filePath": "run.sh", "fileMode": "EXECUTABLE"}]}, "NoChangeException"),
        ({"putFiles": [put("a"), put("a")]}, "SamePathRequestException"),
        ({"putFiles": [put("readme.md")], "deleteFiles": [{"filePath": "readme.md"}]}, "SamePathRequestException"),
        ({"putFiles": [{"filePath": "a"}]}, "SourceFileOrContentRequiredException"),
        ({"putFiles": [{"filePath": "a", "sourceFile": {"filePath": "b"}}]}, "NotImplementedException"),
        ({"putFiles": [{"filePath": "a", "fileContent": "%%%"}]}, "SerializationException"),
        ({"putFiles": [put("a"), put("a/b")]}, "PutFileEntryConflictException"),
        ({"putFiles": [put("data")]}, "FileNameConflictsWithDirectoryNameException"),
        ({"putFiles": [put("readme.md/more")]}, "DirectoryNameConflictsWithFileNameException"),
        ({"putFiles": [put("sub/more")]}, "FilePathConflictsWithSubmodulePathException"),
        ({"deleteFiles": [{"filePath": "gone"}]}, "FileDoesNotExistException"),
        ({"setFileModes": [{"filePath": "gone", "fileMode": "NORMAL"}]}, "FileDoesNotExistException"),
        ({"putFiles": [put("a", b"x" * (LARGEST_FILE + 1))]}, "FileContentSizeLimitExceededException"),
        ({"putFiles": [put(f"{n}/a", b"x" * 3 * MEGA) for n in range(3)]}, "FileContentSizeLimitExceededException"),
        (
            {"putFiles": [put(f"a/{n}", b"x" * (3 * MEGA + 1)) for n in range(2)]},
            "FolderContentSizeLimitExceededException",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_requests_are_refused_by_name(request_, expected):
    assert code(request_) == expected


@pytest.mark.parametrize(
    "path",
    ["../x", "/x", "a/../b", "a//b", "a/", ".", "..", ".git/config", "a/.GIT/hooks/x", "a\0b", "x" * 5000, "\ud800"],
    ids=ascii,
)
def test_what_is_no_path_in_a_repository_is_refused(path):
    assert code({"putFiles": [put(path)]}) == "InvalidPathException"


def test_a_path_is_required():
    assert code({"putFiles": [put("")]}) == "PathRequiredException"


def test_who_commits():
    assert author_of({"authorName": "Ada", "email": "ada@example.com"}, ARN) == ("Ada", "ada@example.com")
    assert author_of({}, ARN) == ("ada", "")
    assert author_of({"authorName": "<..>"}, ARN) == ("ada", "")
    assert author_of({"authorName": "A\nB\0 <x>"}, ARN) == ("AB x", "")
    for bad in ({"authorName": "x" * 129}, {"email": "a b"}, {"email": "a>"}, {"email": "x" * 257}):
        with pytest.raises(ServiceError):
            author_of(bad, ARN)


def test_how_long_a_message_may_be():
    check_message("x" * LONGEST_MESSAGE)
    for message in ("é" * LONGEST_MESSAGE, "a\0b"):
        with pytest.raises(ServiceError):
            check_message(message)
    assert hashlib.sha1(b"blob 0\0", usedforsecurity=False).hexdigest() == blob_id(b"")
