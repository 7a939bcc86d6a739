"""The generated repository's workflows, run by the server's GitHub: pushes, pull requests, deleted branches.

GitHub's stand-in reads the workflow files, runs their jobs' commands and gives them GitHub's variables and tokens
(tests/local_aws/test_github_actions.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from local_aws import LocalAWS
from tests.ci.projects import HOSTILE, MESSAGE, ci_roles, executions, generate, pipelines, prepare
from tests.local_aws.git_clients import Git
from tests.local_aws.github_clients import GitHubClient
from tests.local_aws.waiting import wait_for

pytestmark = pytest.mark.slow
PATH = "/repos/acme/churn"


@dataclass(frozen=True)
class Project:
    """The repository acme/churn with a clone, and the account that its jobs work in."""

    aws: LocalAWS
    github: GitHubClient
    git: Git

    def commit(self, branch: str, **files: str) -> str:
        """Commits to the branch, made from dev, and pushes it; returns the commit."""
        self.git("checkout", "--quiet", "-B", branch, "dev")
        for name, content in files.items():
            (self.git.folder / name).write_text(content, encoding="utf-8")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", MESSAGE)
        self.git("push", "--quiet", "--force", "origin", f"HEAD:refs/heads/{branch}")
        return self.git("rev-parse", "HEAD")

    def runs(self, event: str) -> list[dict[str, Any]]:
        return list(self.github("GET", f"{PATH}/actions/runs?event={event}").content["workflow_runs"])

    def ended(self, event: str, is_it: Callable[[dict[str, Any]], bool] = lambda _: True) -> tuple[str, dict[str, str]]:
        """The conclusion of the newest such run when it is over, and the logs of its jobs that ran, by name."""

        def over() -> dict[str, Any] | None:
            return next((run for run in self.runs(event) if run["status"] == "completed" and is_it(run)), None)

        run = wait_for(over, otherwise=lambda: f"{self.runs(event)} {self.aws.log[-2000:]}", seconds=240, pause=0.2)
        jobs = self.github("GET", f"{PATH}/actions/runs/{run['id']}/jobs").content["jobs"]
        ran = [job for job in jobs if job["conclusion"] != "skipped"]
        return run["conclusion"], {
            job["name"]: str(self.github("GET", f"{PATH}/actions/jobs/{job['id']}/logs").content) for job in ran
        }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("github")
    with LocalAWS(builds=True) as aws:
        prepare(aws)
        roles, github = ci_roles(aws), GitHubClient(aws.endpoint)
        for name, value in roles.items():
            answer = github("POST", f"{PATH}/actions/variables", {"name": name, "value": value})
            assert answer.status == 201, answer
        git = Git(generate(folder, "github"), github.git_environment)
        git("remote", "add", "origin", github.url("churn"))
        git("push", "--quiet", "origin", "prod")
        github("PATCH", PATH, {"default_branch": "prod"})
        git("push", "--quiet", "origin", "dev")
        yield Project(aws, github, git)


def test_the_pushes_that_make_prod_and_dev_start_nothing(project: Project) -> None:
    prod, prods = project.ended("push", lambda run: run["head_branch"] == "prod")
    dev, devs = project.ended("push", lambda run: run["head_branch"] == "dev")
    assert (prod, dev) == ("success", "success"), (prods, devs)
    assert "prod has just been made" in prods["push"]
    assert "dev has just been made" in devs["push"]
    assert pipelines(project.aws) == []


def test_a_feature_branch_is_trained_and_its_pipeline_goes_with_it(project: Project) -> None:
    commit = project.commit(HOSTILE)
    conclusion, logs = project.ended("push", lambda run: run["head_sha"] == commit)
    assert conclusion == "success", logs
    assert logs.keys() == {"push"}
    (pipeline,) = pipelines(project.aws)
    assert [name for name, _ in executions(project.aws, pipeline)] == [f"push-{commit[:12]}"]
    project.git("push", "--quiet", "origin", "--delete", f"refs/heads/{HOSTILE}")
    conclusion, logs = project.ended("delete")
    assert conclusion == "success", logs
    assert f"deleted the pipeline {pipeline}" in logs["deleted"]
    assert pipelines(project.aws) == []


def test_a_pull_request_is_checked_and_starts_nothing(project: Project) -> None:
    commit = project.commit("feature-pull/one")
    project.ended("push", lambda run: run["head_sha"] == commit)
    started = executions(project.aws, pipelines(project.aws)[0])
    made = project.github("POST", f"{PATH}/pulls", {"title": MESSAGE[:60], "head": "feature-pull/one", "base": "dev"})
    assert made.status == 201, made
    conclusion, logs = project.ended("pull_request")
    assert conclusion == "success", logs
    assert "the pipeline of feature-pull/one compiles" in logs["pull-request"]
    assert [name for name, _ in executions(project.aws, pipelines(project.aws)[0])] == [name for name, _ in started]


def test_by_hand_prod_is_asked_for_what_a_push_would_promote(project: Project) -> None:
    """As after a retraining, whose version was trained from files that prod has already."""
    asked = project.github("POST", f"{PATH}/actions/workflows/ci.yml/dispatches", {"ref": "prod"})
    assert asked.status == 204, asked
    conclusion, logs = project.ended("workflow_dispatch")
    assert (conclusion, logs.keys()) == ("failure", {"push"}), logs
    assert "no version of churn-dev that is approved was trained from the files of commit" in logs["push"]


def test_a_newer_push_supersedes_the_one_before(project: Project) -> None:
    older = project.commit("feature-twice")
    newer = project.commit("feature-twice", **{"notes.txt": "more"})
    conclusion, logs = project.ended("push", lambda run: run["head_sha"] == newer)
    assert conclusion == "success", logs
    project.ended("push", lambda run: run["head_sha"] == older)
    (pipeline,) = [name for name in pipelines(project.aws) if "feature-twice" in name]
    going = [name for name, status in executions(project.aws, pipeline) if status not in ("Stopping", "Stopped")]
    assert going == [f"push-{newer[:12]}"]
