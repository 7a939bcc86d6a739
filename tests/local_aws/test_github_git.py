"""Cloning from and pushing to the stand-in for GitHub: its token, its rights, its protected branches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from local_aws import LocalAWS
from tests.local_aws.git_clients import Git
from tests.local_aws.github_clients import PULL_REQUEST, TOKEN, GitHubClient, configure

WORKFLOW = ".github/workflows/ci.yml"
NO_WORKFLOW = (
    f"refusing to allow a Personal Access Token to create or update workflow `{WORKFLOW}` without `workflow` scope"
)
DECLINED = "(push declined due to repository rule violations)"

# A repository's name to a folder with one commit on branch prod, whose origin it is.
Workplace = Callable[[str], Git]


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS() as server:
        yield server


@pytest.fixture
def github(aws: LocalAWS) -> GitHubClient:
    return configure(aws)


@pytest.fixture
def workplace(github: GitHubClient, tmp_path: Path) -> Workplace:
    def make(name: str) -> Git:
        github.create(name)
        folder = tmp_path / name
        folder.mkdir()
        git = Git(folder, github.git_environment)
        git("init", "--quiet", "--initial-branch=prod")
        git("remote", "add", "origin", github.url(name))
        git.commit(README_md="one")
        return git

    return make


def as_token(git: Git, github: GitHubClient, token: str | None) -> Git:
    """The same folder with another token."""
    return Git(git.folder, GitHubClient(github.endpoint, token).git_environment)


def add_workflow(git: Git) -> None:
    folder = git.folder / ".github" / "workflows"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ci.yml").write_text(f"on: push  # {len(git('log', '--format=%h'))}\n")
    git.commit()


def test_what_is_pushed_is_cloned_and_seen_by_rest(github, workplace, tmp_path):
    git = workplace("pushed")
    commit = git("rev-parse", "HEAD")
    git("push", "--quiet", "origin", "prod", "prod:dev")

    clone = git.clone(github.url("pushed"), tmp_path / "clone")

    assert (clone("rev-parse", "HEAD"), clone("branch", "--show-current")) == (commit, "prod")
    branches = github("GET", "/repos/acme/pushed/branches").content
    assert [(each["name"], each["commit"]["sha"]) for each in branches] == [("dev", commit), ("prod", commit)]
    ref = github("GET", "/repos/acme/pushed/git/ref/heads/dev").content
    assert (ref["ref"], ref["object"]["sha"], ref["object"]["type"]) == ("refs/heads/dev", commit, "commit")
    assert github("GET", "/repos/acme/pushed").content["size"] > 0


@pytest.mark.parametrize("kind", ["branch", "id", "short id", "heads/branch", "tag"])
def test_a_commit_is_found_by_whatever_names_it(github, workplace, kind):
    git = workplace(f"commit-{kind.replace(' ', '-').replace('/', '-')}")
    git("tag", "v1")
    git("push", "--quiet", "origin", "prod", "v1")
    commit, name = git("rev-parse", "HEAD"), git.folder.name
    ref = {"branch": "prod", "id": commit, "short id": commit[:8], "heads/branch": "heads/prod", "tag": "v1"}[kind]

    found = github("GET", f"/repos/acme/{name}/commits/{ref}").content

    assert (found["sha"], found["commit"]["message"], found["parents"]) == (commit, "Change", [])
    assert found["commit"]["tree"]["sha"] == git("rev-parse", "HEAD^{tree}")
    assert found["commit"]["author"]["email"] == "ada@example.com"


@pytest.mark.parametrize("ref", ["nothing", "prod^", "prod~1", "HEAD:README.md", "--all", "a%00b", "0" * 40])
def test_what_names_no_commit_is_refused(github, workplace, ref):
    if github("GET", "/repos/acme/no-commits").status == 404:
        workplace("no-commits")("push", "--quiet", "origin", "prod")

    assert github("GET", f"/repos/acme/no-commits/commits/{ref}").status == 422
    assert github("GET", f"/repos/acme/no-commits/git/ref/{ref}").status == 404


def test_the_first_branch_that_is_pushed_is_the_default_one_until_it_is_changed(github, workplace):
    git = workplace("default")
    git("push", "--quiet", "origin", "prod")
    git("push", "--quiet", "origin", "prod:dev")
    assert github("GET", "/repos/acme/default").content["default_branch"] == "prod"

    changed = github("PATCH", "/repos/acme/default", {"default_branch": "dev"})
    missing = github("PATCH", "/repos/acme/default", {"default_branch": "main"})

    assert changed.content["default_branch"] == "dev"
    assert (missing.status, missing.content["errors"][0]["field"]) == (422, "default_branch")
    assert "The branch main was not found" in missing.content["errors"][0]["message"]
    assert "ref: refs/heads/dev\tHEAD" in git("ls-remote", "--symref", "origin", "HEAD")


# Who may push


@pytest.mark.parametrize("token", ["ghp_nobodyknowsthis", "ghp_expiredtoken", None])
def test_without_a_good_token_nothing_is_pushed_or_seen(aws, github, workplace, token):
    aws.configure("github", {"tokens": {"ghp_expiredtoken": {"expires": 1}}})
    name = f"locked-{str(token)[4:8]}"
    git = as_token(workplace(name), github, None)
    url = github.url(name).replace("http://", f"http://x:{token}@") if token else github.url(name)

    pushed, read = git.fails("push", url, "prod"), git.fails("ls-remote", url)

    words = "Authentication failed" if token else "could not read Username"
    assert words in pushed
    assert words in read
    assert ("Invalid username or token" in pushed) == (token is not None)
    assert github("GET", f"/repos/acme/{name}/branches").content == []


@pytest.mark.parametrize("user", ["x-access-token", "ada", "git"])
def test_the_token_is_the_password_of_whatever_user(github, workplace, user):
    git = as_token(workplace(f"user-{user}"), github, None)
    url = github.url(f"user-{user}").replace("http://", f"http://{user}:{TOKEN}@")

    git("push", "--quiet", url, "prod")

    assert github("GET", f"/repos/acme/user-{user}/git/ref/heads/prod").status == 200


def test_who_may_not_see_a_repository_is_told_that_there_is_none(github, workplace):
    git = workplace("there")

    said = git.fails("push", github.url("not-there"), "prod")

    assert "Repository not found." in said


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("ghp_nocontents0001", "Permission to acme/{name}.git denied to octocat."),
        ("github_pat_nocontents0001", "Write access to repository not granted."),
    ],
)
def test_a_token_without_the_contents_right_does_not_push(aws, github, workplace, token, said):
    aws.configure("github", {"tokens": {token: {"rights": ["administration"]}}})
    name = f"contents-{token[:8].replace('_', '')}"
    git = as_token(workplace(name), github, token)

    assert said.format(name=name) in git.fails("push", "origin", "prod")


def test_anybody_clones_a_public_repository_and_nobody_pushes_without_a_token(github, workplace, tmp_path):
    github("POST", "/orgs/acme/repos", {"name": "public"})
    git = workplace("of-public")
    git("push", "--quiet", github.url("public"), "prod")
    stranger = as_token(git, github, None)

    stranger.clone(github.url("public"), tmp_path / "clone")

    assert "could not read Username" in stranger.fails("push", github.url("public"), "prod:mine")


# Workflow files


def test_a_token_without_the_workflow_right_pushes_no_workflow(aws, github, workplace):
    aws.configure("github", {"tokens": {"ghp_noworkflows": {"rights": ["administration", "contents"]}}})
    git = workplace("workflows")
    poor = as_token(git, github, "ghp_noworkflows")
    poor("push", "--quiet", "origin", "prod")
    add_workflow(git)

    said = poor.fails("push", "origin", "prod", "prod~1:refs/heads/other")

    assert f"! [remote rejected] prod -> prod ({NO_WORKFLOW})" in said
    assert "[new branch]      prod~1 -> other" in said, "what has no workflow is taken"
    git("push", "--quiet", "origin", "prod")
    poor("push", "--quiet", "origin", "prod:again")  # the repository has that workflow already


def test_a_refusal_is_one_line_whatever_the_file_s_name(aws, github, workplace):
    aws.configure("github", {"tokens": {"ghp_noworkflows": {"rights": ["contents"]}}})
    git = workplace("lines")
    folder = git.folder / ".github" / "workflows"
    folder.mkdir(parents=True)
    (folder / "a\nok prod").write_text("on: push\n")
    git.commit()

    said = as_token(git, github, "ghp_noworkflows").fails("push", "origin", "prod")

    assert "workflow `.github/workflows/a ok prod` without" in said
    assert github("GET", "/repos/acme/lines/branches").content == []


def test_an_atomic_push_is_taken_as_a_whole_or_not_at_all(aws, github, workplace):
    aws.configure("github", {"tokens": {"ghp_noworkflows": {"rights": ["contents"]}}})
    git = workplace("atomic")
    add_workflow(git)

    said = as_token(git, github, "ghp_noworkflows").fails(
        "push", "--atomic", "origin", "prod", "prod~1:refs/heads/other"
    )

    assert NO_WORKFLOW in said
    assert github("GET", "/repos/acme/atomic/branches").content == []


# Protected branches


def test_a_protected_branch_takes_neither_pushes_nor_force_nor_deletion(github, workplace):
    git = workplace("protected")
    git("push", "--quiet", "origin", "prod", "prod:dev")
    before = git("rev-parse", "HEAD")
    github("PATCH", "/repos/acme/protected", {"default_branch": "dev"})
    github.protect("protected", PULL_REQUEST, {"type": "non_fast_forward"}, {"type": "deletion"})
    git.commit(README_md="two")

    forward = git.fails("push", "origin", "prod", "prod:dev")
    git("commit", "--quiet", "--amend", "--message", "Another")
    git("reset", "--quiet", "--hard", "HEAD~1")
    git("commit", "--quiet", "--amend", "--message", "Rewritten")
    forced, deleted = git.fails("push", "--force", "origin", "prod"), git.fails("push", "origin", ":prod")

    assert "remote: error: GH013: Repository rule violations found for refs/heads/prod." in forward
    assert "remote: - Changes must be made through a pull request." in forward
    assert f"! [remote rejected] prod -> prod {DECLINED}" in forward
    assert "prod -> dev" in forward
    assert "remote: - Cannot force-push to this branch" in forced
    assert "remote: - Cannot delete this branch" in deleted
    assert github("GET", "/repos/acme/protected/git/ref/heads/prod").content["object"]["sha"] == before


def test_the_protection_ends_with_its_ruleset(github, workplace):
    git = workplace("unprotected")
    git("push", "--quiet", "origin", "prod")
    made = github.protect("unprotected", PULL_REQUEST)
    git.commit(README_md="two")
    git.fails("push", "origin", "prod")

    github("DELETE", f"/repos/acme/unprotected/rulesets/{made['id']}")

    git("push", "--quiet", "origin", "prod")


def test_a_branch_whose_name_begins_alike_is_not_protected(github, workplace):
    git = workplace("alike")
    git("push", "--quiet", "origin", "prod:prod-2")
    github.protect("alike", PULL_REQUEST)
    git.commit(README_md="two")

    git("push", "--quiet", "origin", "prod:prod-2")


# Otherwise


@pytest.mark.parametrize(
    "path",
    [
        "../../etc",
        "%2e%2e/churn",
        "acme/..%2f..%2fetc",
        "acme/a%00b",
        "acme",
        "acme/a/b",
        "x" * 300 + "/y",
        "acme/" + "y" * 300,
    ],
)
def test_names_that_are_no_names_lead_to_no_repository(github, workplace, path):
    git = Git(Path.cwd(), github.git_environment)

    said = git.fails("ls-remote", f"{github.endpoint}/_github/{path}.git")

    assert "Repository not found." in said or "not found" in said


def test_a_deleted_repository_is_not_pushed_to_and_its_successor_is_empty(github, workplace):
    git = workplace("gone")
    git("push", "--quiet", "origin", "prod")
    github("DELETE", "/repos/acme/gone")

    assert "Repository not found." in git.fails("push", "origin", "prod:dev")
    github.create("gone")
    assert github("GET", "/repos/acme/gone/branches").content == []


def test_an_outage_stops_pushes_too(aws, github, workplace):
    git = workplace("outage")
    aws.configure("github", {"outage": True})

    said = git.fails("push", "origin", "prod")

    aws.configure("github", {"outage": False})
    assert "503" in said
    git("push", "--quiet", "origin", "prod")


def test_ten_pushes_to_ten_repositories_at_once_arrive(github, workplace):
    gits = [workplace(f"many-{number}") for number in range(10)]

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda git: git("push", "--quiet", "origin", "prod", "prod:dev"), gits))

    for git in gits:
        found = github("GET", f"/repos/acme/{git.folder.name}/git/ref/heads/dev").content
        assert found["object"]["sha"] == git("rev-parse", "HEAD")


def test_everything_is_there_again_after_a_kill_with_the_same_state_and_the_token_is_in_no_file(tmp_path):
    with LocalAWS(state=tmp_path / "state") as server:
        github = configure(server, immutable_subjects=False)
        made = github.create("kept", homepage="https://mark")
        github("POST", "/repos/acme/kept/actions/variables", {"name": "A", "value": "1"})
        github.protect("kept", {"type": "deletion"})
        work = tmp_path / "work"
        work.mkdir()
        git = Git(work, github.git_environment)
        git("init", "--quiet", "--initial-branch=prod")
        commit = git.commit(README_md="one")
        git("push", "--quiet", github.url("kept"), "prod", "prod:dev")
        before = github("GET", "/repos/acme/kept").content

        server.restart(kill=True)

        assert github("GET", "/repos/acme/kept").content == before
        assert github("GET", "/repos/acme/kept/actions/variables/A").content["value"] == "1"
        assert github("GET", "/repos/acme/kept/git/ref/heads/dev").content["object"]["sha"] == commit
        assert github.create("next")["id"] > made["id"]
        assert server.settings("github")["immutable_subjects"] is False
        github("PATCH", "/repos/acme/kept", {"default_branch": "dev"})
        assert "Cannot delete this branch" in git.fails("push", github.url("kept"), ":prod")
        assert TOKEN not in server.log
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []
