"""CreateCommit: what a request makes of a branch's files, decided without Git; and the commit, written by Git.

Limits are those of the errors' own texts and of
https://docs.aws.amazon.com/codecommit/latest/userguide/limits.html.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from local_aws.calls import Request, ServiceError
from local_aws.git.merging import Person, commit_tree
from local_aws.git.repositories import Key, Repositories

MEGA = 1024**2
MOST_ENTRIES = 100
LARGEST_FILE = 6 * MEGA
LARGEST_FOLDER = 6 * MEGA
LARGEST_CHANGE = 7 * MEGA
LONGEST_MESSAGE = 256 * 1024
LONGEST_NAME = 128
LONGEST_EMAIL = 256
LONGEST_PATH = 4096
MODES = {"NORMAL": "100644", "EXECUTABLE": "100755", "SYMLINK": "120000"}
SUBMODULE = "160000"


class File(NamedTuple):
    """A file of a tree, by Git's mode ("100644") and the id of its content."""

    mode: str
    blob: str


Files = dict[str, File]  # by path


@dataclass(frozen=True)
class Change:
    """What a commit makes of a branch.

    Args:
        files: all that the branch has then.
        contents: of files that are new, by the contents' ids.
        added, updated, deleted: paths, in the order of the request.
    """

    files: Files
    contents: Mapping[str, bytes]
    added: list[str]
    updated: list[str]
    deleted: list[str]

    def response(self, before: Files) -> dict[str, list[dict[str, str]]]:
        """As CreateCommit answers it."""
        return {
            "filesAdded": [_metadata(path, self.files[path]) for path in self.added],
            "filesUpdated": [_metadata(path, self.files[path]) for path in self.updated],
            "filesDeleted": [_metadata(path, before[path]) for path in self.deleted],
        }


def decide(before: Files, request: Request) -> Change:
    """What a CreateCommit request makes of the files that its branch has.

    Raises:
        ServiceError: by the names and in the cases of CodeCommit's API reference.
    """
    puts, deletes = request.get("putFiles", []), request.get("deleteFiles", [])
    modes = request.get("setFileModes", [])
    _check_entries([*puts, *deletes, *modes])
    contents = {entry["filePath"]: _content(entry) for entry in puts}
    _check_sizes(contents)
    after = dict(before)
    for entry in deletes:
        _existing(before, entry["filePath"])
        del after[entry["filePath"]]
    for entry in modes:
        file = _existing(before, entry["filePath"])
        after[entry["filePath"]] = File(MODES[entry["fileMode"]], file.blob)
    _check_conflicts(after, contents)
    for entry in puts:
        path = entry["filePath"]
        mode = MODES[entry["fileMode"]] if "fileMode" in entry else before.get(path, File(MODES["NORMAL"], "")).mode
        after[path] = File(mode, blob_id(contents[path]))
    if request.get("keepEmptyFolders"):
        kept = _keep_folders(after, [entry["filePath"] for entry in deletes])
        contents |= kept
        after |= {path: File(MODES["NORMAL"], blob_id(content)) for path, content in kept.items()}
    if after == before:
        raise ServiceError(
            "NoChangeException",
            "The commit cannot be created because no changes will be made to the repository as a result of this commit."
            " A commit must contain at least one change.",
        )
    changed = [path for path in [*contents, *(entry["filePath"] for entry in modes)] if after[path] != before.get(path)]
    return Change(
        after,
        {blob_id(content): content for content in contents.values()},
        added=[path for path in changed if path not in before],
        updated=[path for path in changed if path in before],
        deleted=[entry["filePath"] for entry in deletes],
    )


def check_path(path: str) -> None:
    """Refuse what is no path of a file in a repository.

    Raises:
        ServiceError: PathRequiredException, InvalidPathException.
    """
    if not path:
        raise ServiceError("PathRequiredException", "A file's path is empty. Give the path from the repository's top.")
    parts = path.split("/")
    bad = any(part in ("", ".", "..") or part.lower() == ".git" for part in parts) or "\0" in path
    if bad or len(path) > LONGEST_PATH or not _is_utf8(path):
        shown = ascii(path[:200])
        raise ServiceError(
            "InvalidPathException",
            f"The path {shown} is not valid: give one from the repository's top, such as 'pipeline/cli.py', without a"
            " leading slash, '.', '..' or '.git'.",
        )


def blob_id(content: bytes) -> str:
    """The id that Git gives a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def mode_name(mode: str) -> str:
    """CodeCommit's name of a file's mode in Git; old clients have left others than today's three."""
    return next((name for name, each in MODES.items() if each == mode), "NORMAL")


def read_files(repositories: Repositories, key: Key, commit: str) -> Files:
    """All files of a commit."""
    listed = repositories.git(key, "ls-tree", "-r", "-z", "--full-tree", commit).decode("utf-8", "surrogateescape")
    files: Files = {}
    for line in filter(None, listed.split("\0")):
        about, _, path = line.partition("\t")
        mode, _, blob = about.split(" ")
        files[path] = File(mode, blob)
    return files


def write_commit(
    repositories: Repositories, key: Key, change: Change, parent: str | None, author: Person, message: str
) -> tuple[str, str]:
    """Write a commit, which no branch has yet.

    Returns:
        Its id and its tree's.
    """
    if change.contents:
        pieces = [b"blob\ndata %d\n%s\n" % (len(content), content) for content in change.contents.values()]
        repositories.git(key, "fast-import", "--quiet", data=b"".join(pieces))
    with repositories.scratch_folder() as folder:
        index = {"GIT_INDEX_FILE": str(folder / "index")}
        lines = [f"{file.mode} {file.blob}\t{path}\0" for path, file in change.files.items()]
        data = "".join(lines).encode("utf-8", "surrogateescape")
        repositories.git(key, "update-index", "-z", "--index-info", data=data, environment=index)
        tree = repositories.git(key, "write-tree", environment=index).decode().strip()
    parents = [parent] if parent else []
    return commit_tree(repositories, key, tree, parents, author, utf8(message)), tree


def author_of(request: Request, caller: str) -> Person:
    """Name and email of who commits; without a name it is the caller's.

    Args:
        caller: ARN.

    Raises:
        ServiceError: NameLengthExceededException, InvalidEmailException.
    """
    name, email = request.get("authorName", ""), request.get("email", "")
    if len(name) > LONGEST_NAME:
        raise ServiceError(
            "NameLengthExceededException", f"The author's name is longer than {LONGEST_NAME} characters."
        )
    if len(email) > LONGEST_EMAIL or re.search(r"[<>\s\0]", email):
        raise ServiceError("InvalidEmailException", f"The email address {email[:80]!r} is not valid.")
    # Git leaves these away, and refuses a name of which then nothing is left.
    name = re.sub(r"[<>\x00-\x1f]", "", name).strip(" .,:;\"'\\")
    return Person(utf8(name or caller.rpartition("/")[2] or caller).decode(), utf8(email).decode())


def check_message(message: str) -> None:
    """Raises:
    ServiceError: CommitMessageLengthExceededException.
    """
    if len(utf8(message)) > LONGEST_MESSAGE:
        raise ServiceError(
            "CommitMessageLengthExceededException",
            f"The commit message is too long: give at most {LONGEST_MESSAGE // 1024} KB.",
        )
    if "\0" in message:
        raise ServiceError("ValidationException", "The commit message has a NUL character. Leave it out.")


def _check_entries(entries: list[dict[str, object]]) -> None:
    if not entries:
        raise ServiceError(
            "FileEntryRequiredException",
            "The commit cannot be created because no files have been specified as added, updated, or changed"
            " (PutFile or DeleteFile) for the commit.",
        )
    if len(entries) > MOST_ENTRIES:
        raise ServiceError(
            "MaximumFileEntriesExceededException",
            f"{len(entries)} files are more than the {MOST_ENTRIES} that can be changed in a single commit. Consider"
            " using a Git client for these changes.",
        )
    paths = [str(entry["filePath"]) for entry in entries]
    for path in paths:
        check_path(path)
    if twice := sorted({path for path in paths if paths.count(path) > 1}):
        raise ServiceError("SamePathRequestException", f"More than one change is about {', '.join(twice)}.")


def _content(entry: dict[str, object]) -> bytes:
    if "sourceFile" in entry:
        raise ServiceError(
            "NotImplementedException", "local_aws does not build putFiles.sourceFile. Give the fileContent.", 501
        )
    if "fileContent" not in entry:
        raise ServiceError("SourceFileOrContentRequiredException", f"{entry['filePath']} has no fileContent.")
    try:
        return base64.b64decode(str(entry["fileContent"]), validate=True)
    except binascii.Error as error:
        raise ServiceError("SerializationException", f"fileContent of {entry['filePath']} is not base64.") from error


def _check_sizes(contents: Mapping[str, bytes]) -> None:
    folders: dict[str, int] = {}
    for path, content in contents.items():
        folder = path.rpartition("/")[0]
        folders[folder] = folders.get(folder, 0) + len(content)
    largest = max(map(len, contents.values()), default=0)
    if largest > LARGEST_FILE or sum(map(len, contents.values())) > LARGEST_CHANGE:
        raise ServiceError(
            "FileContentSizeLimitExceededException",
            "The file cannot be added because it is too large. The maximum file size is 6 MB, and the combined file"
            " content change size is 7 MB. Consider making these changes using a Git client.",
        )
    if too_large := [folder or "/" for folder, size in folders.items() if size > LARGEST_FOLDER]:
        raise ServiceError(
            "FolderContentSizeLimitExceededException",
            f"The changes in {', '.join(too_large)} exceed the limit of 6 MB for a folder. Either reduce the number and"
            " size of your changes, or split the changes across multiple folders.",
        )


def _existing(files: Files, path: str) -> File:
    if path not in files:
        raise ServiceError("FileDoesNotExistException", f"There is no file {path} on the branch.")
    return files[path]


def _check_conflicts(files: Files, added: Iterable[str]) -> None:
    """Refuse files that would be where folders are, and the other way round."""
    added = list(added)
    folders = {folder for path in files for folder in _folders(path)}
    for path in added:
        if clash := sorted(set(_folders(path)) & set(added)):
            raise ServiceError("PutFileEntryConflictException", f"{clash[0]} is a file and a folder in this commit.")
        if path in folders:
            raise ServiceError("FileNameConflictsWithDirectoryNameException", f"{path} is a folder on the branch.")
        for folder in _folders(path):
            if folder not in files:
                continue
            if files[folder].mode == SUBMODULE:
                raise ServiceError("FilePathConflictsWithSubmodulePathException", f"{folder} is a submodule.")
            raise ServiceError("DirectoryNameConflictsWithFileNameException", f"{folder} is a file on the branch.")


def _folders(path: str) -> list[str]:
    """The folders that a file is in, from the top."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: number + 1]) for number in range(len(parts))]


def _keep_folders(files: Files, deleted: list[str]) -> dict[str, bytes]:
    """An empty .gitkeep for each folder that has lost its last file."""
    folders = dict.fromkeys(path.rpartition("/")[0] for path in deleted if "/" in path)
    return {
        f"{folder}/.gitkeep": b""
        for folder in folders
        if not any(path.startswith(f"{folder}/") for path in files) and f"{folder}/.gitkeep" not in deleted
    }


def _metadata(path: str, file: File) -> dict[str, str]:
    return {"absolutePath": path, "blobId": file.blob, "fileMode": mode_name(file.mode)}


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can name
        return False
    return True


def utf8(text: str) -> bytes:
    """A client's text as Git is given it; half of a surrogate pair, which JSON can name, becomes a question mark."""
    return text.encode("utf-8", "replace")
