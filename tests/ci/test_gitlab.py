"""The jobs of .gitlab-ci.yml, run one by one against local_aws, with the variables that GitLab would give."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from local_aws import LocalAWS
from local_aws.builds.workspace import Toolbox
from tests.ci.gitlab_jobs import GitLab, merge_request, pushed, scheduled
from tests.ci.projects import ACCOUNT, HOSTILE, MESSAGE, ci_roles, document, executions, generate, pipelines, prepare
from tests.local_aws.git_clients import Git


@dataclass(frozen=True)
class Project:
    """A repository on GitLab, with a clone, and the account that its jobs work in."""

    aws: LocalAWS
    gitlab: GitLab
    folder: Path

    @property
    def git(self) -> Git:
        return Git(self.folder)

    def settings(self) -> str:
        """settings.yaml as dev has it."""
        return self.git("show", "dev:settings.yaml") + "\n"

    def commit(self, branch: str, **files: str) -> str:
        """Commits to the branch, which is made from dev when it is not there, and pushes it; returns the commit."""
        known = self.git("branch", "--list", branch)
        self.git("checkout", "--quiet", *([branch] if known else ["-b", branch, "dev"]))
        for name, content in files.items():
            (self.folder / name).write_text(content, encoding="utf-8")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", MESSAGE)
        self.git("push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
        return self.git("rev-parse", "HEAD")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("gitlab")
    with LocalAWS(enforce_iam=True) as aws:  # else nobody looks at which role trusts whom
        prepare(aws)
        clone = generate(folder, "gitlab")
        Git(folder)("init", "--quiet", "--bare", "--initial-branch=prod", "origin.git")
        git = Git(clone)
        git("remote", "add", "origin", str(folder / "origin.git"))
        git("push", "--quiet", "origin", "prod", "dev")
        (folder / "jobs").mkdir()

        def token(ref: str, audience: str) -> str:
            # a token of the server's GitHub: GitLab's differ in the words of their subject alone
            asked = {"repository": "acme/churn", "ref": ref, "audience": audience}
            return str(aws.configure("github", {"issue_oidc_token": asked})["oidc_token"])

        gitlab = GitLab(
            origin=folder / "origin.git",
            folder=folder / "jobs",
            settings=ci_roles(aws),
            endpoint=aws.endpoint,
            runtime_endpoint=aws.environment["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"],
            token=token,
            toolbox=Toolbox(folder / "toolbox"),
        )
        yield Project(aws, gitlab, clone)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("event", "jobs"),
    [
        (pushed("feature-x"), ["feature"]),
        (pushed("dev"), ["dev"]),
        (pushed("prod"), ["prod"]),
        (pushed("main"), []),
        (pushed("feature"), []),
        (merge_request("feature-x", "dev"), ["check"]),
        (merge_request("main", "prod"), ["check"]),
        (scheduled("dev"), ["template"]),
        (scheduled("prod"), []),
        (scheduled("feature-x"), []),
        ({"CI_PIPELINE_SOURCE": "web", "CI_COMMIT_BRANCH": "dev"}, ["dev"]),
    ],
    ids=lambda value: value.get("CI_PIPELINE_SOURCE") if isinstance(value, dict) else None,
)
def test_each_event_starts_its_job(project: Project, event: dict[str, str], jobs: list[str]) -> None:
    assert project.gitlab.jobs_for("dev", event) == jobs


def test_a_feature_branch_is_trained_and_goes_with_its_pipeline(project: Project) -> None:
    """Its name and its commit's message are full of what a shell, YAML or a log could take for something else."""
    commit = project.commit(HOSTILE)
    (done,) = project.gitlab.push(HOSTILE)
    assert (done.name, done.code) == ("feature", 0), done.output
    (pipeline,) = pipelines(project.aws)
    assert pipeline.startswith("churn-feature-touch-ifs-x-id-")
    assert [name for name, _ in executions(project.aws, pipeline)] == [f"push-{commit[:12]}"]
    assert "1 passed" in done.output
    assert f"started arn:aws:sagemaker:us-east-1:{ACCOUNT}:pipeline/" in done.output
    assert json.loads(done.artifacts["build/ci/definition.json"])["Steps"]
    assert not (project.gitlab.folder / "x").exists()
    (gone,) = project.gitlab.delete(HOSTILE)
    assert (gone.name, gone.code) == ("deleted", 0), gone.output
    assert f"deleted the pipeline {pipeline}" in gone.output
    assert pipelines(project.aws) == []


@pytest.mark.slow
def test_a_merge_request_is_checked_and_starts_nothing(project: Project) -> None:
    project.commit("feature-merge")
    (done,) = project.gitlab.merge_request("feature-merge", "dev")
    assert (done.name, done.code) == ("check", 0), done.output
    assert "the pipeline of feature-merge compiles" in done.output
    assert done.artifacts.keys() == {"build/ci/definition.json"}
    assert pipelines(project.aws) == []


@pytest.mark.slow
def test_what_fails_is_said_last_and_nothing_is_started(project: Project) -> None:
    project.commit(
        "feature-faults",
        **{
            "steps/faults.py": "import os\n",
            "tests/test_two.py": "def test_two():\n    print('::error::x')\n    raise AssertionError\n",
            "settings.yaml": project.settings().replace("eta: 0.1", "eta: 3"),
        },
    )
    (done,) = project.gitlab.push("feature-faults")
    assert done.code == 1
    ruff, pytest_, settings = done.output.splitlines()[-3:]
    assert (ruff, pytest_) == ("error: ruff check .: exit code 1", "error: pytest: exit code 1")
    assert settings.startswith("error: settings.yaml: train.hyperparameters.eta: 3 is not allowed")
    assert pipelines(project.aws) == []


@pytest.mark.slow
@pytest.mark.timeout(900)  # three jobs, one after the other
def test_a_push_to_dev_trains_and_makes_the_schedule_and_prod_promotes(project: Project) -> None:
    scheduler = project.aws.client("scheduler")
    scheduler.create_schedule_group(Name="modelyard")
    trust = {"Effect": "Allow", "Principal": {"Service": "scheduler.amazonaws.com"}, "Action": "sts:AssumeRole"}
    project.aws.client("iam").create_role(
        RoleName="churn-ci-retrain", Path="/modelyard/ci/", AssumeRolePolicyDocument=document(trust)
    )
    before = project.git("rev-parse", "dev")
    settings = project.settings().replace("retrain: null", "retrain: {schedule: rate(7 days)}")
    commit = project.commit("dev", **{"settings.yaml": settings})
    (done,) = project.gitlab.push("dev", before)
    assert done.code == 0, done.output
    assert [name for name, _ in executions(project.aws, "churn-dev")] == [f"push-{commit[:12]}"]
    assert scheduler.get_schedule(Name="churn-retrain", GroupName="modelyard")["ScheduleExpression"] == "rate(7 days)"
    (late,) = project.gitlab.push("dev", before)  # the job is run again, before and after a newer push
    assert late.code == 0, late.output
    (_, *earlier) = executions(project.aws, "churn-dev")
    assert "Executing" not in {status for _, status in earlier}, "the later job supersedes it, unless it has ended"
    project.git("push", "--quiet", "origin", "dev:prod")
    (prod,) = project.gitlab.push("prod", before)
    assert prod.code == 2
    assert "error: no version of churn-dev that is approved" in prod.output, prod.output


@pytest.mark.slow
def test_a_role_of_another_branch_is_not_given(project: Project) -> None:
    project.commit("feature-role")
    settings = {
        **project.gitlab.settings,
        "MODELYARD_CI_ROLE_FEATURE": project.gitlab.settings["MODELYARD_CI_ROLE_DEV"],
    }
    (done,) = replace(project.gitlab, settings=settings).push("feature-role")
    assert done.code == 1, done.output
    last = done.output.splitlines()[-1]
    assert last.startswith(f"error: plan: AWS does not give this job the role arn:aws:iam::{ACCOUNT}:role/churn-ci-dev")
    assert "MODELYARD_CI_ROLE_FEATURE must name a role of this project that trusts GitLab CI for this branch" in last
