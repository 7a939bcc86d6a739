"""A newer version of the template reaches a project's repository as a pull request, as its CI does it each week."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_aws import LocalAWS
from tests.local_aws.github_clients import ORGANIZATION, TOKEN, GitHubClient
from tests.story.test_projects import copy_of_modelyard
from tests.story.ways import CLOCK_SPEED, Installed

pytestmark = pytest.mark.slow

NAME = "renewed"


@pytest.fixture(params=["codecommit", "github"])
def installed(request: pytest.FixtureRequest) -> Iterator[Installed]:
    with LocalAWS(enforce_iam=True, clock_speed=CLOCK_SPEED) as aws:
        yield Installed(aws, request.param).install()


def job(installed: Installed) -> dict[str, str]:
    """The variables of the weekly job."""
    if installed.host == "codecommit":
        build = {"CODEBUILD_BUILD_ID": "x:1", "MODELYARD_BRANCH": "dev", "MODELYARD_CI_STEPS": "template"}
        return {**installed.ci(NAME, "template"), **installed.aws.git_environment, **build}
    return {
        **installed.aws.environment,
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "schedule",
        "GITHUB_REF": "refs/heads/dev",
        "GITHUB_REPOSITORY": f"{ORGANIZATION}/{NAME}",
        "GITHUB_SERVER_URL": installed.github_url,
        "GITHUB_API_URL": f"{installed.github_url}/api/v3",
        "MODELYARD_TEMPLATE_TOKEN": TOKEN,
    }


def pull_requests(installed: Installed) -> list[dict[str, Any]]:
    """The open ones: title, text, commit of the branch."""
    if installed.host == "github":
        pulls = GitHubClient(installed.aws.endpoint)("GET", f"/repos/{ORGANIZATION}/{NAME}/pulls").content
        return [{"title": one["title"], "text": one["body"], "commit": one["head"]["sha"]} for one in pulls]
    codecommit = installed.aws.client("codecommit")
    numbers = codecommit.list_pull_requests(repositoryName=NAME, pullRequestStatus="OPEN")["pullRequestIds"]
    pulls = [codecommit.get_pull_request(pullRequestId=number)["pullRequest"] for number in numbers]
    return [
        {
            "title": one["title"],
            "text": one["description"],
            "commit": one["pullRequestTargets"][0]["sourceCommit"],
        }
        for one in pulls
    ]


def test_the_weekly_job_opens_one_pull_request(installed: Installed, tmp_path: Path) -> None:
    installed.create(NAME)
    installed.person(NAME).admit()
    clone = installed.clone(NAME, tmp_path / NAME)

    def run() -> subprocess.CompletedProcess[str]:
        home = {"HOME": str(tmp_path)}
        return installed.run(job(installed) | home, clone.folder, "python", "-m", "pipeline", "ci", "template")

    nothing = run()
    assert (nothing.returncode, nothing.stdout) == (0, "the template has nothing new for this repository\n"), nothing
    changed = copy_of_modelyard(tmp_path / "modelyard")
    readme = changed / "{{cookiecutter.project}}" / "README.md"
    readme.write_text(f"{readme.read_text()}\nA newer template.\n")
    installed.install(changed)
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    (pull,) = pull_requests(installed)
    newest = installed.parameter("/modelyard/template/commit")
    assert pull["title"] == f"Bring the template to {newest[:12]}"
    assert "- `README.md`: changed" in pull["text"]
    clone("fetch", "--quiet", "origin")
    assert clone("rev-parse", "origin/template-update").strip() == pull["commit"]
    assert clone("show", "origin/template-update:README.md").rstrip().endswith("A newer template.")
    assert json.loads(clone("show", "origin/template-update:.cruft.json"))["commit"] == newest
    again = run()
    assert (again.returncode, pull_requests(installed)) == (0, [pull]), again.stdout + again.stderr
    assert "the pull request is up to date" in again.stdout
