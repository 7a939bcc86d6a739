"""The stand-in for GitHub: pull requests, their merges and comments, commit statuses, references by REST."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_aws import LocalAWS
from tests.local_aws.git_clients import Git
from tests.local_aws.github_clients import PULL_REQUEST, GitHubClient, configure

NUMBERS = itertools.count(1)
SLOW = pytest.mark.slow
READER, WRITER = "github_pat_pullsreader1", "github_pat_statuswriter"


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS() as server:
        yield server


@pytest.fixture(scope="module")
def github(aws: LocalAWS) -> GitHubClient:
    return configure(aws)


class Repository:
    """A repository whose branch prod has a file, and dev another one besides; and a clone of it."""

    def __init__(self, github: GitHubClient, folder: Path) -> None:
        self.github, self.name = github, f"pulls-{next(NUMBERS)}"
        github.create(self.name)
        self.work = Git(folder, github.git_environment).clone(github.url(self.name), folder / "work")
        self.work("checkout", "-b", "prod")
        self.first = self.work.commit(readme_md="one\ntwo\nthree\n")
        self.work("checkout", "-b", "dev")
        self.second = self.work.commit(more_md="more")
        self.work("push", "origin", "prod", "dev")

    def __call__(self, method: str, path: str, body: Any = None, status: int | None = None) -> Any:
        """The content of an answer, which has this status (2xx unless given)."""
        answer = self.github(method, f"/repos/acme/{self.name}{path}", body)
        assert answer.status == status if status else answer.status < 300, answer
        return answer.content

    def pull(self, **more: Any) -> dict[str, Any]:
        return self("POST", "/pulls", {"title": "Ship it", "head": "dev", "base": "prod", **more}, 201)

    def merge(self, number: int, status: int | None = None, **more: Any) -> Any:
        return self("PUT", f"/pulls/{number}/merge", more, status)

    def branch(self, name: str) -> dict[str, Any]:
        return self("GET", f"/commits/{name}")


@pytest.fixture
def repository(github: GitHubClient, tmp_path: Path) -> Repository:
    return Repository(github, tmp_path)


# --- pull requests


def test_a_pull_request_is_made_found_and_listed(repository):
    made = repository.pull(body="Why")
    assert (made["number"], made["state"], made["title"], made["body"]) == (1, "open", "Ship it", "Why")
    assert (made["head"]["ref"], made["head"]["sha"], made["head"]["label"]) == ("dev", repository.second, "acme:dev")
    assert (made["base"]["ref"], made["base"]["sha"]) == ("prod", repository.first)
    assert (made["mergeable"], made["mergeable_state"], made["merged"]) == (True, "clean", False)
    assert (made["user"]["login"], made["comments"]) == ("octocat", 0)
    assert made["html_url"] == f"{repository.github.endpoint}/_github/acme/{repository.name}/pull/1"
    assert repository("GET", "/pulls/1") == made
    assert [each["number"] for each in repository("GET", "/pulls?head=acme:dev&base=prod")] == [1]
    assert repository("GET", "/pulls?head=acme:another") == []
    assert repository("GET", "/pulls?state=closed") == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"head": "gone"}, "head is invalid"),
        ({"head": "prod", "base": "dev"}, "No commits between dev and prod"),
        pytest.param({"base": "gone"}, "base is invalid", marks=SLOW),
        pytest.param({"head": "somebody:dev"}, "head is invalid", marks=SLOW),
        pytest.param({"title": " "}, "title can't be blank", marks=SLOW),
    ],
)
def test_what_no_pull_request_can_be_of_is_refused(repository, given, says):
    body = {"title": "Ship it", "head": "dev", "base": "prod", **given}
    answer = repository("POST", "/pulls", body, 422)
    assert answer["message"] == "Validation Failed"
    assert answer["errors"][0]["message"] == says


@pytest.mark.slow
def test_two_branches_have_one_open_pull_request(repository):
    repository.pull()
    answer = repository("POST", "/pulls", {"title": "Again", "head": "dev", "base": "prod"}, 422)
    assert answer["errors"][0]["message"] == "A pull request already exists for acme:dev."


@pytest.mark.slow
def test_it_is_changed_closed_and_opened_again(repository):
    number = repository.pull()["number"]
    changed = repository("PATCH", f"/pulls/{number}", {"title": "Another", "body": "Now with reasons"})
    assert (changed["title"], changed["body"]) == ("Another", "Now with reasons")
    closed = repository("PATCH", f"/pulls/{number}", {"state": "closed"})
    assert (closed["state"], closed["merged"]) == ("closed", False)
    assert closed["closed_at"] is not None
    repository.merge(number, 405)
    assert repository("PATCH", f"/pulls/{number}", {"state": "open"})["state"] == "open"


def test_a_push_to_its_head_moves_it(repository):
    number = repository.pull()["number"]
    tip = repository.work.commit(more_md="even more")
    repository.work("push", "origin", "dev")
    assert repository("GET", f"/pulls/{number}")["head"]["sha"] == tip
    assert tip in repository.work("ls-remote", "origin", f"refs/pull/{number}/head")


def test_a_push_that_brings_its_head_to_the_base_merges_it(repository):
    number = repository.pull()["number"]
    repository.work("push", "origin", "dev:prod")
    found = repository("GET", f"/pulls/{number}")
    assert (found["state"], found["merged"], found["merge_commit_sha"]) == ("closed", True, repository.second)


@pytest.mark.slow
def test_deleting_its_branch_closes_it(repository):
    number = repository.pull()["number"]
    repository.work("push", "origin", ":dev")
    found = repository("GET", f"/pulls/{number}")
    assert (found["state"], found["merged"]) == ("closed", False)


# --- merges


def test_a_merge_has_both_parents_and_github_as_committer(repository):
    number = repository.pull()["number"]
    done = repository.merge(number)
    assert (done["merged"], done["message"]) == (True, "Pull Request successfully merged")
    tip = repository.branch("prod")
    assert tip["sha"] == done["sha"]
    assert [each["sha"] for each in tip["parents"]] == [repository.first, repository.second]
    assert tip["commit"]["message"] == f"Merge pull request #{number} from acme/dev\n\nShip it"
    assert (tip["commit"]["author"]["name"], tip["commit"]["committer"]["name"]) == ("octocat", "GitHub")
    found = repository("GET", f"/pulls/{number}")
    assert (found["state"], found["merged"], found["merged_by"]["login"]) == ("closed", True, "octocat")


@pytest.mark.parametrize("method", ["squash", "rebase"])
def test_a_squash_and_a_rebase_leave_the_tree_that_the_branch_has(repository, method):
    repository.work.commit(readme_md="another")
    repository.work("push", "origin", "dev")
    number = repository.pull()["number"]
    repository.merge(number, merge_method=method)
    tip, dev = repository.branch("prod"), repository.branch("dev")
    assert tip["commit"]["tree"]["sha"] == dev["commit"]["tree"]["sha"]
    assert tip["sha"] != dev["sha"]
    assert len(tip["parents"]) == 1
    if method == "squash":
        assert tip["parents"][0]["sha"] == repository.first
        assert tip["commit"]["message"] == f"Ship it (#{number})\n\n* Change\n\n* Change"
    else:
        assert tip["commit"]["message"] == "Change"
        assert tip["commit"]["author"] == dev["commit"]["author"]
        assert tip["commit"]["committer"]["name"] == "GitHub"


@pytest.mark.slow
def test_a_rebase_goes_on_after_what_the_base_has_got_meanwhile(repository):
    repository.work("checkout", "prod")
    ours = repository.work.commit(ours_md="ours")
    repository.work("push", "origin", "prod")
    repository.merge(repository.pull()["number"], merge_method="rebase")
    assert [each["sha"] for each in repository.branch("prod")["parents"]] == [ours]


@pytest.mark.slow
def test_title_and_message_are_as_given(repository):
    message = 'All "of" it; $HOME\n\n`rm`'
    repository.merge(repository.pull()["number"], merge_method="squash", commit_title="Ship", commit_message=message)
    assert repository.branch("prod")["commit"]["message"] == f"Ship\n\n{message}"


@pytest.mark.parametrize("method", ["merge", *(pytest.param(each, marks=SLOW) for each in ("squash", "rebase"))])
def test_what_is_in_conflict_is_not_merged(repository, method):
    for branch, text in (("prod", "ours\n"), ("dev", "theirs\n")):
        repository.work("checkout", branch)
        repository.work.commit(readme_md=text)
    repository.work("push", "origin", "prod", "dev")
    pull = repository.pull()
    assert (pull["mergeable"], pull["mergeable_state"]) == (False, "dirty")
    assert repository.merge(pull["number"], 405, merge_method=method)["message"] == "Pull Request is not mergeable"


@pytest.mark.slow
def test_a_merge_can_insist_on_the_commit_that_was_looked_at(repository):
    answer = repository.merge(repository.pull()["number"], 409, sha=repository.first)
    assert answer["message"] == "Head branch was modified. Review and try the merge again."


def test_a_protected_branch_is_changed_by_pull_requests_alone(repository):
    repository.github.protect(repository.name, PULL_REQUEST)
    assert "Changes must be made through a pull request." in repository.work.fails("push", "origin", "dev:prod")
    moved = repository("PATCH", "/git/refs/heads/prod", {"sha": repository.second}, 422)
    assert "Changes must be made through a pull request." in moved["message"]
    repository.merge(repository.pull()["number"])
    assert repository.branch("prod")["parents"][0]["sha"] == repository.first


@pytest.mark.slow
def test_a_branch_that_needs_reviews_is_merged_into_by_nobody_here(repository):
    parameters = PULL_REQUEST["parameters"] | {"required_approving_review_count": 1}
    repository.github.protect(repository.name, PULL_REQUEST | {"parameters": parameters})
    assert "At least 1 approving review" in repository.merge(repository.pull()["number"], 405)["message"]


# --- comments


def test_comments_are_made_changed_and_deleted(repository):
    number = repository.pull()["number"]
    first = repository("POST", f"/issues/{number}/comments", {"body": "plan: *nothing*"}, 201)
    second = repository("POST", f"/issues/{number}/comments", {"body": "two"}, 201)
    changed = repository("PATCH", f"/issues/comments/{first['id']}", {"body": "plan: 2 changes"})
    assert (changed["body"], changed["user"]["login"]) == ("plan: 2 changes", "octocat")
    listed = repository("GET", f"/issues/{number}/comments?per_page=1")
    assert [each["id"] for each in listed] == [first["id"]]
    assert repository("GET", f"/pulls/{number}")["comments"] == 2
    repository("DELETE", f"/issues/comments/{second['id']}", status=204)
    assert repository("GET", f"/issues/{number}/comments") == [changed]


@pytest.mark.slow
def test_a_comment_needs_a_pull_request_and_words(repository):
    repository("POST", "/issues/7/comments", {"body": "x"}, 404)
    repository("PATCH", "/issues/comments/7", {"body": "x"}, 404)
    number = repository.pull()["number"]
    repository("POST", f"/issues/{number}/comments", {"body": " "}, 422)


# --- statuses


def test_the_latest_status_of_each_context_counts(repository):
    where = f"/statuses/{repository.second}"
    assert repository("GET", "/commits/dev/status")["state"] == "pending"
    repository("POST", where, {"state": "pending", "context": "modelyard/churn-dev", "description": "runs"}, 201)
    repository("POST", where, {"state": "success", "context": "lint"}, 201)
    assert repository("GET", "/commits/dev/status")["state"] == "pending"
    target = "https://example.com/report?a=1&b=2"
    made = repository("POST", where, {"state": "success", "context": "modelyard/churn-dev", "target_url": target}, 201)
    assert (made["target_url"], made["creator"]["login"]) == (target, "octocat")
    combined = repository("GET", f"/commits/{repository.second}/status")
    assert (combined["state"], combined["total_count"], combined["sha"]) == ("success", 2, repository.second)
    repository("POST", where, {"state": "error"}, 201)
    assert repository("GET", "/commits/dev/status")["state"] == "failure"
    states = [(each["context"], each["state"]) for each in repository("GET", "/commits/dev/statuses")]
    assert states == [
        ("default", "error"),
        ("modelyard/churn-dev", "success"),
        ("lint", "success"),
        ("modelyard/churn-dev", "pending"),
    ]
    assert repository("GET", "/commits/prod/status")["total_count"] == 0


def test_a_status_that_github_would_refuse_is_refused(repository):
    wrong = {
        "state is not one of": {"state": "done"},
        "description is too long (maximum is 140 characters)": {"description": "x" * 141},
        "target_url must use http(s) scheme": {"target_url": "javascript:alert(1)"},
    }
    for says, given in wrong.items():
        answer = repository("POST", f"/statuses/{repository.first}", {"state": "success", **given}, 422)
        assert says in answer["errors"][0]["message"]


@pytest.mark.slow
def test_a_commit_that_is_not_there_has_no_status(repository):
    answer = repository("POST", f"/statuses/{'1' * 40}", {"state": "success"}, 422)
    assert answer["message"] == f"No commit found for SHA: {'1' * 40}"


# --- references


def test_references_are_made_moved_and_deleted(repository):
    made = repository("POST", "/git/refs", {"ref": "refs/heads/feature-x", "sha": repository.first}, 201)
    assert made["object"]["sha"] == repository.first
    moved = repository("PATCH", "/git/refs/heads/feature-x", {"sha": repository.second})
    assert moved["object"]["sha"] == repository.second
    back = repository("PATCH", "/git/refs/heads/feature-x", {"sha": repository.first}, 422)
    assert back["message"] == "Update is not a fast forward"
    repository("PATCH", "/git/refs/heads/feature-x", {"sha": repository.first, "force": True})
    assert repository("POST", "/git/refs", {"ref": "refs/heads/feature-x", "sha": repository.first}, 422)
    assert repository("POST", "/git/refs", {"ref": "refs/heads/y", "sha": "1" * 40}, 422)["message"]
    repository("DELETE", "/git/refs/heads/feature-x", status=204)
    assert repository("DELETE", "/git/refs/heads/feature-x", status=422)["message"] == "Reference does not exist"


# --- rights


def test_a_token_does_what_its_permissions_say(aws, github, repository):
    tokens = {READER: {"rights": ["pull_requests"]}, WRITER: {"rights": ["statuses"]}}
    aws.configure("github", {"tokens": tokens})
    reader, writer = (GitHubClient(aws.endpoint, token) for token in (READER, WRITER))
    where, number = f"/repos/acme/{repository.name}", repository.pull()["number"]
    assert reader("GET", f"{where}/pulls/{number}").status == 200
    assert reader("POST", f"{where}/issues/{number}/comments", {"body": "as issue"}).status == 201
    assert writer("POST", f"{where}/statuses/{repository.first}", {"state": "success"}).status == 201
    merging = reader("PUT", f"{where}/pulls/{number}/merge", {})
    assert (merging.status, merging.headers["X-Accepted-GitHub-Permissions"]) == (403, "contents=write")
    refused = reader("POST", f"{where}/statuses/{repository.first}", {"state": "success"})
    assert (refused.status, refused.headers["X-Accepted-GitHub-Permissions"]) == (403, "statuses=write")
    assert writer("GET", f"{where}/issues/{number}/comments").status == 403


@pytest.mark.slow
def test_everything_is_there_after_a_restart_and_goes_with_the_repository(tmp_path):
    with LocalAWS(state=tmp_path / "state") as aws:
        repository = Repository(configure(aws), tmp_path)
        made = repository.pull()
        repository("POST", "/issues/1/comments", {"body": "x"}, 201)
        repository("POST", f"/statuses/{repository.first}", {"state": "success"}, 201)
        aws.restart(kill=True)
        assert repository("GET", "/pulls/1")["title"] == made["title"]
        assert repository("GET", "/commits/prod/status")["state"] == "success"
        repository("DELETE", "", status=204)
        repository.github.create(repository.name)
        assert repository("GET", "/pulls?state=all") == []
