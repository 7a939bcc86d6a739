"""Git's HTTP protocol: clones, pushes, what a push may not do, and clients that go away."""

from __future__ import annotations

import base64
import contextlib
import gzip
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_aws.git.push_rules import NOTHING, PathRule, PushRules, RefRule, RefUpdate
from local_aws.git.repositories import Repositories
from local_aws.git.smart_http import GitDoor, GitRequest, Opened, Refused, parse_commands
from tests.local_aws.git_clients import PUSH, Git, begun_push, serving
from tests.local_aws.waiting import wait_for

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="what runs is read off /proc, which is Linux's")
RULES = PushRules(
    (
        RefRule(("refs/heads/prod",), ("fast-forward", "force", "delete"), "{branch} is protected: ask for a review."),
        RefRule(("refs/heads/release-*",), ("force", "delete"), "{ref} keeps its history."),
        RefRule(("refs/tags/*",), ("force", "delete"), "{ref} stays {where} it is."),
    ),
    (PathRule(".github/workflows/", "{path} may not be pushed to {ref}."),),
)


class Host:
    """A host: "closed..." are repositories for those who say who they are (a "reader" does not push),
    "ruled..." have RULES, the others are everybody's.
    """

    prefix = "/git/"

    def __init__(self, folder: Path) -> None:
        self.folder, self.repositories = folder, Repositories(folder)
        self.pushes: list[tuple[str, str, list[RefUpdate]]] = []
        self.requests: list[GitRequest] = []

    def open(self, request: GitRequest) -> Opened:
        self.requests.append(request)
        user = request.credentials.user if request.credentials else ""
        if request.path.startswith("closed") and not user:
            raise Refused(401, "Who are you?")
        if request.writes and user == "reader":
            raise Refused(403, "Readers do not push.")
        if any(update.ref == "refs/heads/forbidden" for update in request.updates):
            raise Refused(403, "Nobody pushes to forbidden.")
        key = ("test", request.path)
        if not self.repositories.exists(key):
            raise Refused(404, f"There is no {request.path!r}.")
        rules = RULES if request.path.startswith("ruled") else PushRules()
        return Opened(self.repositories.path(key), rules, user)

    def pushed(self, request: GitRequest, opened: Opened, updates: list[RefUpdate]) -> None:
        self.pushes.append((request.path, opened.who, updates))
        if request.path == "unheard":
            raise ValueError("a host that fails")


async def elsewhere(scope: Any, receive: Any, send: Any) -> None:
    """The application behind the door."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b"elsewhere"})


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host(tmp_path_factory.mktemp("hosted"))


@pytest.fixture(scope="module")
def address(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    scratch = tmp_path_factory.mktemp("scratch")
    with serving(GitDoor(elsewhere, [host], scratch)) as address:
        yield address
    assert list(scratch.iterdir()) == []


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path)


@pytest.fixture
def name(request: pytest.FixtureRequest, host: Host) -> str:
    """A repository of the test's own, empty."""
    name = request.node.name.partition("[")[0] + os.urandom(3).hex()
    host.repositories.create(("test", name), "prod")
    return name


@pytest.fixture
def work(git: Git, address: str, name: str, tmp_path: Path) -> Git:
    """A clone of it with a first commit, not pushed yet."""
    work = git.clone(f"{address}/git/{name}", tmp_path / "work")
    work("config", "core.compression", "0")  # large files are there to be large
    work.commit(readme_md="one")
    return work


def heads(host: Host, name: str) -> dict[str, str]:
    return host.repositories.branches(("test", name))


def sound(host: Host, name: str) -> bool:
    host.repositories.git(("test", name), "fsck", "--strict", "--connectivity-only")
    return True


def runs(host: Host) -> bool:
    """Whether a process of git's works on one of the host's repositories."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            if str(host.folder) in (path / "cmdline").read_text() or str(host.folder) in (path / "environ").read_text():
                return True
    return False


def test_what_was_pushed_is_cloned(host, address, name, work, git, tmp_path):
    first = work("rev-parse", "HEAD")
    work("push", "origin", "HEAD:prod", "HEAD:dev")
    assert heads(host, name) == {"dev": first, "prod": first}
    again = git.clone(f"{address}/git/{name}", tmp_path / "again")
    assert (again.folder / "readme.md").read_text() == "one"
    assert again("branch", "--show-current") == "prod"


def test_an_empty_repository_is_cloned_with_its_branch(work):
    assert work("branch", "--show-current") == "prod"


def test_the_host_hears_what_a_push_changed_before_the_client_goes_on(host, address, name, work):
    first = work("rev-parse", "HEAD")
    work("push", "origin", "HEAD:dev", "HEAD:refs/tags/v1")
    assert host.pushes[-1] == (
        name,
        "",
        [RefUpdate("refs/heads/dev", NOTHING, first), RefUpdate("refs/tags/v1", NOTHING, first)],
    )
    second = work.commit(readme_md="two")
    work("push", "origin", "HEAD:dev")
    assert host.pushes[-1][2] == [RefUpdate("refs/heads/dev", first, second)]
    work("push", "origin", ":dev")
    assert host.pushes[-1][2] == [RefUpdate("refs/heads/dev", second, NOTHING)]
    assert host.requests[-1].updates == (RefUpdate("refs/heads/dev", second, NOTHING),)


def test_a_push_that_changes_nothing_is_told_to_nobody(host, work):
    work("push", "origin", "HEAD:dev")
    told = len(host.pushes)
    work("push", "origin", "HEAD:dev")
    assert len(host.pushes) == told


def test_a_host_that_fails_to_hear_spoils_no_push(host, address, git, tmp_path):
    host.repositories.create(("test", "unheard"))
    work = git.clone(f"{address}/git/unheard", tmp_path / "work")
    pushed = work.commit(readme_md="one")
    work("push", "origin", "HEAD:main")
    assert heads(host, "unheard") == {"main": pushed}


def test_a_large_file_comes_through_both_ways(host, address, name, work, git, tmp_path):
    content = os.urandom(8 * 1024**2)
    work.commit(data_bin=content)
    work("push", "origin", "HEAD:prod")
    again = git.clone(f"{address}/git/{name}", tmp_path / "again")
    assert (again.folder / "data.bin").read_bytes() == content


def test_a_force_push_moves_a_branch_and_a_plain_one_does_not(host, name, work):
    work("push", "origin", "HEAD:dev")
    before = heads(host, name)["dev"]
    work("commit", "--amend", "--quiet", "--message", "Other")
    assert "non-fast-forward" in work.fails("push", "origin", "HEAD:dev")
    assert heads(host, name)["dev"] == before
    work("push", "--force", "origin", "HEAD:dev")
    assert heads(host, name)["dev"] == work("rev-parse", "HEAD")
    assert host.pushes[-1][2] == [RefUpdate("refs/heads/dev", before, work("rev-parse", "HEAD"))]


def test_of_two_pushes_at_once_one_gets_in_and_the_other_is_told(host, address, name, work, git, tmp_path):
    work("push", "origin", "HEAD:prod")
    others = [git.clone(f"{address}/git/{name}", tmp_path / f"work{number}") for number in range(4)]
    commits = [other.commit(**{f"file{number}": "x"}) for number, other in enumerate(others)]
    results: list[Any] = [None] * len(others)

    def push(number: int) -> None:
        results[number] = others[number].tried("push", "origin", "HEAD:prod")

    threads = [threading.Thread(target=push, args=(number,)) for number in range(len(others))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [number for number, done in enumerate(results) if done.returncode == 0]
    assert heads(host, name)["prod"] == commits[winner]
    assert [updates[0].after for path, _, updates in host.pushes if path == name][1:] == [commits[winner]]
    assert sound(host, name)


def test_the_branch_that_a_clone_checks_out_is_not_deleted(host, name, work):
    work("push", "origin", "HEAD:prod")
    assert "refusing to delete the current branch" in work.fails("push", "origin", ":prod")
    assert list(heads(host, name)) == ["prod"]


def test_credentials_are_asked_for_and_handed_on(host, address, git, tmp_path):
    host.repositories.create(("test", "closed"))
    url = f"{address}/git/closed"
    assert "could not read Username" in git.fails("clone", url, "a")
    work = git.clone(url.replace("//", "//ada:p%25w@"), tmp_path / "b")
    assert host.requests[-1].credentials == ("ada", "p%w")
    assert host.requests[-1].host == address.removeprefix("http://")
    work.commit(readme_md="one")
    work("push", "origin", "HEAD:main")
    assert host.pushes[-1][:2] == ("closed", "ada")
    assert "Readers do not push." in work.fails("push", url.replace("//", "//reader:x@"), "HEAD:dev")


def test_a_refusal_reaches_the_client_in_words(host, address, name, work):
    url = f"{address}/git/{name}"
    # Here the second request is refused, when the push has said what it is to change.
    assert "403" in work.fails("push", url, "HEAD:forbidden")
    assert "There is no 'nowhere'." in work.fails("ls-remote", f"{address}/git/nowhere")
    assert heads(host, name) == {}


# --- rules


@pytest.fixture
def ruled(host: Host, address: str, git: Git, tmp_path: Path) -> Git:
    name = f"ruled-{os.urandom(3).hex()}"
    host.repositories.create(("test", name), "main")
    work = git.clone(f"{address}/git/{name}", tmp_path / "ruled")
    work.commit(readme_md="one")
    work("push", "origin", "HEAD:main", "HEAD:prod", "HEAD:release-1", "HEAD:refs/tags/v1")
    work.commit(readme_md="two")
    return work


def test_a_protected_branch_is_made_once_and_not_pushed_to(ruled):
    refusal = ruled.fails("push", "origin", "HEAD:prod")
    assert "remote: prod is protected: ask for a review." in refusal
    assert "pre-receive hook declined" in refusal
    assert "prod is protected" in ruled.fails("push", "--force", "origin", "HEAD:prod")
    assert "prod is protected" in ruled.fails("push", "origin", ":prod")


def test_a_branch_may_move_forward_and_keep_its_history(ruled):
    ruled("push", "origin", "HEAD:release-1")
    ruled("commit", "--amend", "--quiet", "--message", "Other")
    assert "remote: refs/heads/release-1 keeps its history." in ruled.fails(
        "push", "--force", "origin", "HEAD:release-1"
    )
    assert "keeps its history" in ruled.fails("push", "origin", ":release-1")


def test_a_tag_that_moves_is_forced_wherever_it_moves(ruled):
    # Other braces than {ref}, {branch} and {path} are the message's own.
    assert "remote: refs/tags/v1 stays {where} it is." in ruled.fails("push", "--force", "origin", "HEAD:refs/tags/v1")


def test_a_push_is_taken_as_a_whole_or_not_at_all(ruled):
    ruled.fails("push", "origin", "HEAD:prod", "HEAD:main")
    assert ruled("ls-remote", "origin", "main").split()[0] == ruled("rev-parse", "HEAD~1")


def test_files_of_a_path_are_not_pushed_by_any_commit(ruled):
    ruled.commit(_github__workflows__ci_yml="on: push")
    refusal = ruled.fails("push", "origin", "HEAD:main")
    assert "remote: .github/workflows/ci.yml may not be pushed to refs/heads/main." in refusal
    ruled("rm", "--quiet", ".github/workflows/ci.yml")
    ruled("commit", "--quiet", "--message", "Without it")  # the commit before still has it
    assert "may not be pushed" in ruled.fails("push", "origin", "HEAD:main")


def test_files_that_the_repository_has_already_may_go_to_other_branches(host, ruled, address):
    name = ruled("remote", "get-url", "origin").rpartition("/")[2]
    ruled.commit(_github__workflows__ci_yml="on: push")
    # Somebody who may has pushed it: here straight into the repository.
    ruled("push", "--quiet", str(host.repositories.path(("test", name))), "HEAD:main")
    ruled("push", "origin", "HEAD:other")
    ruled.commit(_github__workflows__ci_yml="on: pull_request")
    assert "may not be pushed" in ruled.fails("push", "origin", "HEAD:other")
    ruled("reset", "--quiet", "--hard", "HEAD~1")
    ruled.commit(_github__workflows__more="x", readme_md="three")
    assert "workflows/more may not be pushed" in ruled.fails("push", "origin", "HEAD:refs/tags/v2")


def test_rules_are_data():
    assert PushRules.from_json(RULES.to_json()) == RULES
    assert RULES
    assert not PushRules()
    with pytest.raises(ValueError, match="cannot refuse push"):
        RefRule(("refs/heads/*",), ("push",), "")


# --- requests that are none


def ask(url: str, data: bytes | None = None, **headers: str) -> tuple[int, str]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data, sent)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


@pytest.mark.parametrize(
    ("path", "data", "kind", "status"),
    [
        ("/info/refs", None, "", 403),  # the dumb protocol
        ("/info/refs?service=git-archive", None, "", 403),
        ("/git-upload-pack", None, "", 405),
        ("/info/refs?service=git-upload-pack", b"", "text/plain", 405),
        ("/git-receive-pack", b"0000", "text/plain", 415),
        ("/git-receive-pack", b"", PUSH, 400),
        ("/git-receive-pack", b"hello world", PUSH, 400),
        ("/git-receive-pack", b"0001", PUSH, 400),
        ("/git-receive-pack", b"0012refs/heads/dev0000", PUSH, 400),
        ("/git-receive-pack", b"000bhello\n\n0000", PUSH, 400),
        ("/git-receive-pack", b"ffff" * 2000000, PUSH, 413),
        ("/HEAD", None, "", 418),
        ("/objects/info/packs", None, "", 418),
        ("", None, "", 418),
    ],
)
def test_what_is_no_request_of_the_protocol_is_refused_or_somebody_elses(address, name, path, data, kind, status):
    assert ask(f"{address}/git/{name}{path}", data, Content_Type=kind or "text/plain")[0] == status


@pytest.mark.parametrize(
    "path", ["../x", "%2e%2e", "..%2f..%2fetc", "a/b", "a%00b", "%ff", "a" * 300, "%2fetc", "", "-x", "%252e%252e"]
)
def test_names_lead_nowhere(address, path):
    assert ask(f"{address}/git/{path}/info/refs?service=git-upload-pack")[0] == 404


def test_a_body_may_be_compressed(host, address, name, work):
    commit = work("rev-parse", "HEAD")
    pack = subprocess.run(
        ["git", "pack-objects", "--revs", "--stdout", "--quiet"],
        input=b"HEAD\n", cwd=work.folder, env=work.environment, capture_output=True, check=True,
    ).stdout  # fmt: skip
    line = f"{NOTHING} {commit} refs/heads/dev\0 report-status".encode()
    body = b"%04x%s0000%s" % (len(line) + 4, line, pack)
    url = f"{address}/git/{name}/git-receive-pack"
    headers = {"Content_Type": PUSH, "Content_Encoding": "gzip"}
    assert ask(url, b"not gzip", **headers)[0] == 400
    status, answer = ask(url, gzip.compress(body), **headers)
    assert (status, heads(host, name)) == (200, {"dev": commit})
    assert "unpack ok" in answer
    assert host.pushes[-1] == (name, "", [RefUpdate("refs/heads/dev", NOTHING, commit)])


def test_commands_are_read_as_git_writes_them():
    one, two = "1" * 40, "2" * 40
    lines = [f"{one} {two} refs/heads/a b\0 report-status side-band-64k\n", f"{two} {NOTHING} refs/tags/é\n"]
    data = b"".join(b"%04x%s" % (len(line.encode()) + 4, line.encode()) for line in ["shallow " + one, *lines])
    assert parse_commands(data) == [RefUpdate("refs/heads/a b", one, two), RefUpdate("refs/tags/é", two, NOTHING)]


# --- clients that go


@LINUX
def test_a_client_that_goes_amid_a_push_leaves_a_sound_repository_and_no_process(host, address, name, work):
    work("push", "origin", "HEAD:prod")
    with begun_push(f"{address}/git/{name}"):
        wait_for(lambda: runs(host))
    wait_for(lambda: not runs(host))
    assert sound(host, name)
    assert list(heads(host, name)) == ["prod"]
    assert list(host.repositories.path(("test", name)).rglob("*.lock")) == []
    work.commit(readme_md="two")
    work("push", "origin", "HEAD:prod")


@LINUX
def test_a_client_that_is_killed_amid_a_push_leaves_a_sound_repository(host, name, work):
    work.commit(data_bin=os.urandom(8 * 1024**2))
    push = subprocess.Popen(["git", "push", "--quiet", "origin", "HEAD:prod"], cwd=work.folder, env=work.environment)
    wait_for(lambda: runs(host))
    push.kill()
    push.wait()
    wait_for(lambda: not runs(host))
    assert sound(host, name)
    # all of the first push may have been sent before the kill: it is then done meanwhile, which refuses the second
    wait_for(lambda: work.tried("push", "origin", "HEAD:prod").returncode == 0)
    assert heads(host, name) == {"prod": work("rev-parse", "HEAD")}
    assert sound(host, name)


@LINUX
def test_a_client_that_goes_amid_a_clone_leaves_no_process(host, address, name, work):
    commit = work.commit(data_bin=os.urandom(8 * 1024**2))
    work("push", "origin", "HEAD:prod")
    server, _, port = address.removeprefix("http://").partition(":")
    want = f"want {commit} ofs-delta\n".encode()
    body = b"%04x%s00000009done\n" % (len(want) + 4, want)
    head = f"POST /git/{name}/git-upload-pack HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/x-git-upload-pack-request\r\n\r\n"
    with socket.create_connection((server, int(port))) as connection:
        connection.sendall(head.encode() + body)
        assert connection.recv(12) == b"HTTP/1.1 200"
        assert runs(host)
    wait_for(lambda: not runs(host))


def test_basic_credentials_that_are_none_are_no_credentials(host, address):
    host.repositories.create(("test", "closed-too"))
    for value in ("Basic", "Basic !!!", f"Basic {base64.b64encode(b'nocolon').decode()}", "Bearer x", "Basic /w=="):
        url = f"{address}/git/closed-too/info/refs?service=git-upload-pack"
        assert ask(url, Authorization=value)[0] == 401
