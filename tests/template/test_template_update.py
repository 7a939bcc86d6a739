"""What is new in the template comes as one pull request: real git and cruft, Git hosts by their calls."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from tests.template.conftest import git

LINES = [f"line {number}" for number in range(1, 31)]
MACHINE = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")


@dataclass
class Pulls:
    """A Git host's pull requests, in memory. `fails` at the next call."""

    proposal: type
    opened: list[Any] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    fails: bool = False

    def find(self) -> Any:
        return self.opened[0] if self.opened else None

    def was_closed(self, commit: str) -> bool:
        return commit in self.closed

    def create(self, title: str, text: str, commit: str) -> str:
        if self.fails:
            self.fails = False
            raise ConnectionError("killed")
        self.calls.append("create")
        self.opened.append(self.proposal("1", title, text, "https://host/1"))
        return "https://host/1"

    def change(self, proposal: Any, title: str, text: str) -> None:
        self.calls.append("change")
        self.opened[0] = self.proposal(proposal.id, title, text, proposal.url)


@dataclass
class World:
    """A template, a repository made from it, and where that one was pushed to."""

    pipeline: SimpleNamespace
    folder: Path
    faults: list[str] = field(default_factory=list)
    runs: int = 0

    def __post_init__(self) -> None:
        self.template, self.work, self.origin = (self.folder / name for name in ("template", "churn", "origin.git"))
        self.pulls = Pulls(self.pipeline.pull_requests.Proposal)
        below = self.template / "{{cookiecutter.project}}"
        below.mkdir(parents=True)
        (self.template / "cookiecutter.json").write_text('{"project": "churn"}')
        (below / "steps.txt").write_text("\n".join(LINES) + "\n")
        (below / "old.txt").write_text("of {{ cookiecutter.project }}\n")
        git(self.folder, "init", "--quiet", str(self.template))
        commit = self.commit(self.template, "The template")
        self.work.mkdir()
        (self.work / "steps.txt").write_text("\n".join(LINES) + "\n")
        (self.work / "old.txt").write_text("of churn\n")
        answers = {"cookiecutter": {"project": "churn", "_template": str(self.template), "_commit": commit}}
        state = {"template": str(self.template), "commit": commit, "checkout": None, "context": answers}
        (self.work / ".cruft.json").write_text(json.dumps({**state, "directory": None}, indent=2) + "\n")
        git(self.work, "init", "--quiet", "--initial-branch", "dev")
        self.commit(self.work, "From the template")
        git(self.folder, "clone", "--quiet", "--bare", str(self.work), str(self.origin))
        git(self.work, "remote", "add", "origin", str(self.origin))

    def commit(self, folder: Path, message: str = "A change") -> str:
        git(folder, "add", "--all")
        git(folder, *MACHINE, "commit", "--quiet", "--message", message)
        return git(folder, "rev-parse", "HEAD")

    def change_template(self, **contents: str | None) -> str:
        """Files by their names, with __ for a dot; None removes one."""
        for name, content in contents.items():
            path = self.template / "{{cookiecutter.project}}" / name.replace("__", ".")
            path.unlink() if content is None else path.write_text(content)
        return self.commit(self.template)

    def change(self, branch: str, name: str, content: str) -> str:
        """Somebody pushes a change of a file."""
        git(self.work, "fetch", "--quiet", "origin")
        git(self.work, "checkout", "--quiet", "-B", branch, f"origin/{branch}")
        (self.work / name).write_text(content)
        commit = self.commit(self.work)
        git(self.work, "push", "--quiet", "origin", branch)
        return commit

    def run(self) -> int:
        self.runs += 1
        folder = self.folder / f"run-{self.runs}"
        folder.mkdir()
        system = self.pipeline.ci_systems.System({})
        system.fault = self.faults.append
        module = self.pipeline.template_update
        clone = module.Clone.of(str(self.origin), folder, {"PATH": "/usr/bin:/bin", "HOME": str(self.folder)})
        return int(module.propose(system, clone, self.pulls))

    def head(self, branch: str = "template-update") -> str | None:
        listed = git(self.origin, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")
        return listed or None

    def file(self, name: str, branch: str = "template-update") -> str:
        return git(self.origin, "show", f"{branch}:{name}")


@pytest.fixture
def world(pipeline: SimpleNamespace, tmp_path: Path) -> World:
    return World(pipeline, tmp_path)


def line(number: int, text: str) -> str:
    return "\n".join([*LINES[: number - 1], text, *LINES[number:]]) + "\n"


def test_nothing_new_does_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run() == 0
    (world.template / "docs.md").write_text("of the template itself\n")
    world.commit(world.template)
    assert world.run() == 0
    assert capsys.readouterr().out == "the template has nothing new for this repository\n" * 2
    assert (world.head(), world.pulls.calls) == (None, [])


def test_what_changed_is_proposed_once_and_refreshed(world: World) -> None:
    own = world.change("dev", "steps.txt", line(2, "my own"))
    newest = world.change_template(
        steps__txt=line(29, "better"), new__txt="for {{ cookiecutter.project }}\n", old__txt=None
    )
    assert world.run() == 0
    head = world.head()
    assert git(world.origin, "rev-parse", "template-update^") == own
    assert "my own" in world.file("steps.txt")
    assert "better" in world.file("steps.txt")
    assert world.file("new.txt") == "for churn"
    assert json.loads(world.file(".cruft.json"))["commit"] == newest
    (pull,) = world.pulls.opened
    assert pull.title == f"Bring the template to {newest[:12]}"
    assert "- `new.txt`: new\n- `old.txt`: removed\n- `steps.txt`: changed" in pull.text
    assert "by hand" not in pull.text
    # again: the same commit, the same text
    assert world.run() == 0
    assert (world.head(), world.pulls.calls) == (head, ["create"])


@pytest.mark.slow
def test_the_branch_follows_dev_and_the_template_and_its_pull_request_stays_the_same(world: World) -> None:
    world.change_template(new__txt="for {{ cookiecutter.project }}\n")
    world.run()
    head = world.head()
    world.change("dev", "own.txt", "mine\n")
    assert world.run() == 0
    assert world.head() != head
    world.change_template(new__txt="otherwise\n")
    assert world.run() == 0
    assert world.pulls.calls == ["create", "change"]
    assert (world.file("new.txt"), world.file("own.txt")) == ("otherwise", "mine")
    assert len(git(world.origin, "log", "--format=%H", "dev..template-update").split()) == 1


def test_where_both_changed_the_same_lines_the_own_ones_stay_and_the_templates_are_said(world: World) -> None:
    world.change("dev", "steps.txt", line(10, "my own"))
    world.change_template(steps__txt=line(10, "the template's").replace("line 25", "clean"))
    assert world.run() == 0
    assert world.file("steps.txt") == line(10, "my own").replace("line 25", "clean").rstrip()
    assert git(world.origin, "ls-tree", "-r", "--name-only", "template-update").split() == [
        ".cruft.json",
        "old.txt",
        "steps.txt",
    ]
    (pull,) = world.pulls.opened
    assert "### To be decided by hand\n\nIn `steps.txt` this repository and the template" in pull.text
    assert "-my own\n+the template's\n" in pull.text
    assert "clean" not in pull.text.partition("```diff")[2]


@pytest.mark.slow
def test_what_somebody_decides_in_the_branch_stays_and_is_gone_on_from_when_it_is_merged(world: World) -> None:
    world.change("dev", "steps.txt", line(10, "my own"))
    text = line(10, "the template's")
    newest = world.change_template(steps__txt=text)
    world.run()
    head = world.change("template-update", "steps.txt", text.replace("the template's", "decided"))
    assert (world.run(), world.head(), world.faults) == (0, head, [])
    world.change_template(steps__txt=text.replace("line 26", "newer"))
    assert (world.run(), world.head()) == (1, head)
    (fault,) = world.faults
    assert "template-update has commits of ada@example.com, and the template has gone on since" in fault
    assert "git push origin --delete template-update" in fault
    # merged and deleted: it goes on from there
    git(world.work, "push", "--quiet", "origin", "template-update:dev", ":template-update")
    world.pulls.opened.clear()
    assert world.run() == 0
    assert json.loads(world.file(".cruft.json", "dev"))["commit"] == newest
    assert "newer" in world.file("steps.txt")
    assert "decided" in world.file("steps.txt")


@pytest.mark.slow
def test_a_change_that_git_cannot_place_is_said_and_leaves_no_file(world: World) -> None:
    """Without the files of then there are no three sides: git leaves what it cannot apply in a file beside."""
    world.change("dev", "steps.txt", "all of it is otherwise\n")
    world.change_template(steps__txt=line(10, "the template's"), old__txt="of the template\n")
    git(world.work, "checkout", "--quiet", "--orphan", "fresh", "dev")
    world.commit(world.work, "History was rewritten")
    git(world.work, "push", "--quiet", "--force", "origin", "fresh:dev")
    assert world.run() == 0
    (pull,) = world.pulls.opened
    assert "In `steps.txt` this repository" in pull.text
    assert "+the template's" in pull.text
    assert world.file("steps.txt") == "all of it is otherwise"
    assert world.file("old.txt") == "of the template"
    assert ".rej" not in git(world.origin, "ls-tree", "-r", "--name-only", "template-update")


@pytest.mark.slow
def test_killed_between_push_and_pull_request_the_next_try_opens_it(world: World) -> None:
    world.change_template(old__txt="new\n")
    world.pulls.fails = True
    with pytest.raises(ConnectionError):
        world.run()
    head = world.head()
    assert (world.run(), world.head(), world.pulls.calls) == (0, head, ["create"])


@pytest.mark.slow
def test_a_pull_request_that_was_closed_is_not_opened_again_for_the_same(world: World) -> None:
    world.change_template(old__txt="new\n")
    world.run()
    world.pulls.opened.clear()
    world.pulls.closed.append(str(world.head()))
    assert (world.run(), world.pulls.calls) == (0, ["create"])
    world.change_template(old__txt="newer\n")
    assert (world.run(), world.pulls.calls) == (0, ["create", "create"])


def test_what_fails_is_said_without_secrets(world: World) -> None:
    state = json.loads((world.work / ".cruft.json").read_text())
    address = "https://robot:hunter2@127.0.0.1:9/template.git"
    world.change("dev", ".cruft.json", json.dumps({**state, "template": address}))
    with pytest.raises(world.pipeline.InputError, match="cruft update failed") as caught:
        world.run()
    assert "hunter2" not in str(caught.value)
    assert world.head() is None
    git(world.work, "rm", "--quiet", ".cruft.json")
    world.commit(world.work)
    git(world.work, "push", "--quiet", "origin", "dev")
    with pytest.raises(world.pipeline.InputError, match=r"dev has no \.cruft\.json"):
        world.run()


@pytest.mark.parametrize(
    "address", ["/home/ada/modelyard", "file:///home/ada/modelyard", "../modelyard", r"C:\modelyard"]
)
def test_a_template_in_a_folder_that_ci_does_not_have_is_said_with_the_remedy(world: World, address: str) -> None:
    state = json.loads((world.work / ".cruft.json").read_text())
    world.change("dev", ".cruft.json", json.dumps({**state, "template": address}))
    with pytest.raises(world.pipeline.InputError) as caught:
        world.run()
    said = str(caught.value)
    assert said.startswith(f".cruft.json on dev names the template by a folder, {address}, which this machine does not")
    assert "aws ssm get-parameter --name /modelyard/template/url" in said
    assert "commit its newest one (/modelyard/template/commit)" in said
    assert "(README.md, CI)" in said
    assert world.head() is None
    # the remedy: the published template, whose commits are other ones
    published = world.folder / "published.git"
    other = world.folder / "published"
    git(world.folder, "clone", "--quiet", str(world.template), str(other))
    (other / "CHANGELOG.md").write_text("of the published one\n")
    commit = world.commit(other)
    git(world.folder, "clone", "--quiet", "--bare", str(other), str(published))
    world.change("dev", ".cruft.json", json.dumps({**state, "template": published.as_uri(), "commit": commit}))
    assert (world.run(), world.head()) == (0, None)
    (other / "{{cookiecutter.project}}" / "new.txt").write_text("new\n")
    world.commit(other)
    git(other, "push", "--quiet", str(published), "HEAD")
    assert world.run() == 0
    assert world.file("new.txt") == "new"


@pytest.mark.parametrize(
    ("address", "folder"),
    [
        ("/work/template", "/work/template"),
        ("file:///work/my%20template", "/work/my template"),
        ("template", "template"),
        ("./a:b", "a:b"),
        ("C:/modelyard", "C:/modelyard"),
        ("https://git.example.com/acme/modelyard-template.git", None),
        ("http://127.0.0.1:4566/v1/repos/modelyard-template", None),
        ("ssh://git@host/acme/template.git", None),
        ("git@host:acme/template.git", None),
        ("codecommit::eu-west-1://modelyard-template", None),
        ("gh:acme/template", None),
    ],
)
def test_folders_are_told_from_what_is_fetched(pipeline: SimpleNamespace, address: str, folder: str | None) -> None:
    found = pipeline.template_update.folder_of(address)
    assert found == (None if folder is None else Path(folder))


def test_no_address_in_an_error_holds_credentials(pipeline: SimpleNamespace) -> None:
    said = b"fatal: unable to access 'https://gitlab-ci-token:hunter2@host/a.git/': no\nssh://git@host/b.git"
    done = SimpleNamespace(stderr=said, stdout=b"")
    failure = pipeline.template_update._failure(("git", "clone", "https://robot:hunter2@host/a.git"), done)
    assert failure.startswith(
        "git clone failed:\nfatal: unable to access 'https://host/a.git/': no\nssh://host/b.git\n"
    )
    assert "hunter2" not in failure


def test_a_long_text_is_cut_where_the_host_would_refuse_it(pipeline: SimpleNamespace) -> None:
    module = pipeline.template_update
    conflicts = tuple(module.Conflict(f"{number}.txt", "+```\n" * 300) for number in range(20))
    text = module.text(module.Update("a" * 40, "b" * 40, (("M", "x.txt"),), conflicts))
    assert 9_000 < len(text) <= 10_000
    assert text.endswith("20 files are to be decided)")
    assert "````diff" in text


# --- Git hosts


class Host(ThreadingHTTPServer):
    """Answers what it is told to, and notes what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, dict[str, Any] | None, str]] = []
        self.answers: list[tuple[int, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/api"


class _Handler(BaseHTTPRequestHandler):
    server: Host

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        secret = self.headers.get("Authorization") or self.headers.get("PRIVATE-TOKEN") or ""
        self.server.asked.append((self.command, self.path, body, secret))
        status, answer = self.server.answers.pop(0)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = do_PUT = _answer

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


GITHUB = {"GITHUB_REPOSITORY": "acme/churn", "GITHUB_SERVER_URL": "https://github.com"}
GITLAB = {
    "CI_PROJECT_ID": "12",
    "CI_SERVER_URL": "https://gitlab.com",
    "CI_PROJECT_URL": "https://gitlab.com/acme/churn",
    "CI_REPOSITORY_URL": "https://gitlab-ci-token:job@gitlab.com/acme/churn.git",
}


def connected(pipeline: SimpleNamespace, system: str, **environment: str) -> tuple[dict[str, str], Any]:
    job = SimpleNamespace(system=getattr(pipeline.ci_systems, system)(environment), session="a session")
    return pipeline.template_update._connect(job, "https://host/churn")


def test_github_is_asked_with_the_token_that_may(pipeline: SimpleNamespace, host: Host) -> None:
    variables = {**GITHUB, "GITHUB_API_URL": host.url, "GITHUB_TOKEN": "the job's", "MODELYARD_TEMPLATE_TOKEN": "ours"}
    environment, pulls = connected(pipeline, "GitHub", **variables)
    assert environment["GIT_CONFIG_KEY_0"] == "http.https://github.com/.extraheader"
    assert environment["GIT_CONFIG_VALUE_0"] == "Authorization: Basic eC1hY2Nlc3MtdG9rZW46b3Vycw=="
    one = {"number": 7, "title": "Old", "body": None, "html_url": "https://github.com/7", "head": {"sha": "a" * 40}}
    host.asked.clear()
    host.answers += [(200, []), (200, [one]), (201, one), (200, [one]), (200, one)]
    assert pulls.find() is None
    assert pulls.was_closed("a" * 40)
    assert pulls.create("Title", "Text", "c" * 40) == "https://github.com/7"
    found = pulls.find()
    assert (found.title, found.text) == ("Old", "")
    pulls.change(found, "Title", "Text")
    query = "head=acme%3Atemplate-update&base=dev&per_page=100"
    assert [(method, path, body) for method, path, body, _ in host.asked] == [
        ("GET", f"/api/repos/acme/churn/pulls?state=open&{query}", None),
        ("GET", f"/api/repos/acme/churn/pulls?state=closed&{query}", None),
        (
            "POST",
            "/api/repos/acme/churn/pulls",
            {"title": "Title", "body": "Text", "head": "template-update", "base": "dev"},
        ),
        ("GET", f"/api/repos/acme/churn/pulls?state=open&{query}", None),
        ("PATCH", "/api/repos/acme/churn/pulls/7", {"title": "Title", "body": "Text"}),
    ]
    assert {secret for *_, secret in host.asked} == {"Bearer ours"}


def test_gitlab_is_asked_with_the_token_that_may(pipeline: SimpleNamespace, host: Host) -> None:
    variables = {**GITLAB, "CI_API_V4_URL": host.url, "MODELYARD_TEMPLATE_TOKEN": "ours"}
    environment, pulls = connected(pipeline, "GitLab", **variables)
    assert environment["GIT_CONFIG_KEY_1"] == "url.https://gitlab.com/acme/churn.git.insteadOf"
    assert environment["GIT_CONFIG_VALUE_1"] == GITLAB["CI_REPOSITORY_URL"]
    one = {"iid": 7, "title": "Old", "description": None, "web_url": "https://gitlab.com/7", "sha": "a" * 40}
    host.asked.clear()
    host.answers += [(200, [one]), (200, [one]), (201, one), (200, one)]
    found = pulls.find()
    assert not pulls.was_closed("b" * 40)
    assert pulls.create("Title", "Text", "c" * 40) == "https://gitlab.com/7"
    pulls.change(found, "Title", "Text")
    text = {"title": "Title", "description": "Text"}
    query = "source_branch=template-update&target_branch=dev&per_page=100"
    assert [(method, path, body) for method, path, body, _ in host.asked] == [
        ("GET", f"/api/projects/12/merge_requests?state=opened&{query}", None),
        ("GET", f"/api/projects/12/merge_requests?state=closed&{query}", None),
        (
            "POST",
            "/api/projects/12/merge_requests",
            {**text, "source_branch": "template-update", "target_branch": "dev"},
        ),
        ("PUT", "/api/projects/12/merge_requests/7", text),
    ]
    assert {secret for *_, secret in host.asked} == {"ours"}


@pytest.mark.parametrize(("system", "variables"), [("GitHub", GITHUB), ("GitLab", GITLAB)])
def test_without_the_token_it_is_said_what_to_make(
    pipeline: SimpleNamespace, system: str, variables: dict[str, str]
) -> None:
    with pytest.raises(pipeline.InputError, match=r"MODELYARD_TEMPLATE_TOKEN is not set: make a .* token"):
        connected(pipeline, system, **variables, GITHUB_API_URL="http://x", CI_API_V4_URL="http://x")


def test_a_refusal_says_what_the_host_said_and_not_the_token(pipeline: SimpleNamespace, host: Host) -> None:
    _, pulls = connected(
        pipeline, "GitHub", **GITHUB, GITHUB_API_URL=host.url, MODELYARD_TEMPLATE_TOKEN="ours-and-secret"
    )
    host.answers.append((403, {"message": "Resource not accessible by personal access token"}))
    with pytest.raises(pipeline.InputError) as caught:
        pulls.create("Title", "Text", "c" * 40)
    said = str(caught.value)
    assert re.match(r"POST http://127.0.0.1:\d+/api/repos/acme/churn/pulls: 403 .*not accessible by personal", said)
    assert "MODELYARD_TEMPLATE_TOKEN must let this job open pull requests" in said
    assert "ours-and-secret" not in said


def test_codecommit_is_asked_as_whom_the_build_runs(pipeline: SimpleNamespace) -> None:
    client = boto3.client("codecommit", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    session = SimpleNamespace(client=lambda service: client, region_name="us-east-1")
    job = SimpleNamespace(system=pipeline.ci_systems.CodeBuild({"A": "1"}), session=session)
    address = "https://git-codecommit.us-east-1.amazonaws.com/v1/repos/churn"
    environment, pulls = pipeline.template_update._connect(job, address)
    assert environment == {"A": "1"}

    def pull(number: str, source: str) -> dict[str, Any]:
        target = {"sourceReference": f"refs/heads/{source}", "destinationReference": "refs/heads/dev"}
        target |= {"sourceCommit": "a" * 40}
        return {"pullRequestId": number, "title": "Old", "description": "Text", "pullRequestTargets": [target]}

    with Stubber(client) as stub:
        for status in ("OPEN", "CLOSED"):
            asked = {"repositoryName": "churn", "pullRequestStatus": status}
            stub.add_response("list_pull_requests", {"pullRequestIds": ["3", "7"]}, asked)
            for number, source in (("3", "feature-x"), ("7", "template-update")):
                answer = {"pullRequest": pull(number, source)}
                stub.add_response("get_pull_request", answer, {"pullRequestId": number})
        found = pulls.find()
        assert (found.id, found.title, found.text) == ("7", "Old", "Text")
        assert pulls.was_closed("a" * 40)
        stub.add_response("update_pull_request_title", {"pullRequest": {}}, {"pullRequestId": "7", "title": "New"})
        pulls.change(found, "New", "Text")
        target = {"repositoryName": "churn", "sourceReference": "template-update", "destinationReference": "dev"}
        stub.add_response(
            "create_pull_request",
            {"pullRequest": pull("9", "template-update")},
            {"title": "New", "description": "Text", "targets": [target], "clientRequestToken": "c" * 40},
        )
        assert pulls.create("New", "Text", "c" * 40).startswith(
            "https://us-east-1.console.aws.amazon.com/codesuite/codecommit/"
        )
        stub.assert_no_pending_responses()


def test_elsewhere_a_person_opens_it(pipeline: SimpleNamespace) -> None:
    _, pulls = connected(pipeline, "System")
    assert pulls is None
