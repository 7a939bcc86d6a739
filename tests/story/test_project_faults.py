"""A project that cannot be made says why, in words for whoever asked, and leaves nothing behind; with IAM enforced."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from local_aws import LocalAWS
from local_aws.studio import ProjectError
from tests.local_aws.github_clients import ORGANIZATION, TOKEN, GitHubClient
from tests.story.ways import CLOCK_SPEED, S3, SECRET, Installed

pytestmark = pytest.mark.slow  # make test has fifteen minutes

HOSTS = ["github", pytest.param("codecommit", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=HOSTS)
def installed(request: pytest.FixtureRequest) -> Iterator[Installed]:
    with LocalAWS(enforce_iam=True, clock_speed=CLOCK_SPEED) as aws:
        yield Installed(aws, request.param).install()


@pytest.fixture
def github(installed: Installed) -> Iterator[Installed]:
    """Whatever a test does to GitHub is put right after it."""
    if installed.host != "github":
        pytest.skip("a fault of GitHub's")
    yield installed
    installed.heal()
    installed.aws.client("secretsmanager").put_secret_value(SecretId=SECRET, SecretString=TOKEN)


def refused(installed: Installed, project: str, words: str, **parameters: Any) -> str:
    """What is said when the project is not made; nothing of it may remain, and its record can be deleted."""
    with pytest.raises(ProjectError, match=words) as error:
        installed.create(project, **parameters)
    said = str(error.value)
    assert "CreateFailed" in said
    assert TOKEN not in said
    assert installed.remains(project) == []
    installed.delete(project)
    assert installed.left(project) == []
    return said


def token(installed: Installed, *rights: str, expires: int | None = None) -> None:
    """The platform's token has these rights alone."""
    installed.aws.configure("github", {"tokens": {TOKEN: {"login": "robot", "rights": rights, "expires": expires}}})


ALL = ("administration", "contents", "workflows", "variables", "actions", "deletion")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        pytest.param(
            lambda at: at.aws.client("secretsmanager").put_secret_value(SecretId=SECRET, SecretString="{}"),
            r"the secret \S+ holds no token: an administrator puts the token there",
            id="no token",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda at: token(at, *ALL, expires=1),
            "does not take the platform's token .* it has expired or was revoked. An administrator makes a new one",
            id="expired",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda at: token(at, "administration", "contents", "variables", "actions", "deletion"),
            "lacks the scope workflow: an administrator adds it",
            id="no workflows",
        ),
        pytest.param(
            lambda at: token(at, "workflows", "deletion"),
            "lacks the scope repo: an administrator adds it",
            id="no creation",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda at: at.aws.configure("github", {"outage": True}),
            "GitHub .* did not do .*Try again later",
            id="down",
            marks=pytest.mark.slow,  # it is tried again after pauses
        ),
        pytest.param(
            lambda at: at.aws.configure("github", {"rate_limit": {"limit": 1, "seconds": 600}}),
            "rate limit is reached: .* It takes calls again in .*: try again then",
            id="rate limit",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_github_refuses_is_said(
    github: Installed, request: pytest.FixtureRequest, fault: Callable[[Installed], Any], words: str
) -> None:
    fault(github)
    refused(github, f"refused-{re.sub('[^a-z]+', '-', request.node.callspec.id)}"[:32].strip("-"), words)


@pytest.mark.slow
def test_what_a_rate_limit_interrupts_is_taken_away_by_deleting_again(github: Installed) -> None:
    """The repository is made, and the roll-back cannot ask for it: it says so, instead of leaving it to nobody."""
    github.aws.configure("github", {"rate_limit": {"limit": 8, "seconds": 3600}})
    with pytest.raises(ProjectError, match="rate limit is reached"):
        github.create("halted")
    assert github.remains("halted") == [f"github: {ORGANIZATION}/halted"]
    reasons = github.reasons("halted")
    assert [one for one in reasons if "repository halted may be left" in one and "delete again to continue" in one]
    github.heal()
    github.delete("halted")
    assert github.left("halted") == []
    github.create("halted", OnDelete="delete")  # the name is free
    github.delete("halted")
    assert github.left("halted") == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["expired", "outage"])
def test_an_update_that_the_host_interrupts_is_made_again_when_it_is_well(github: Installed, fault: str) -> None:
    """As register-project makes one, which goes on when it is run again."""
    github.create(f"patient-{fault}", OnDelete="delete")
    before = github.holdings(f"patient-{fault}")
    if fault == "expired":
        token(github, *ALL, expires=1)
    else:
        github.aws.configure("github", {"outage": True})
    assert github.update(f"patient-{fault}", Description="Another") == "UpdateFailed"
    github.heal()
    assert github.holdings(f"patient-{fault}") == before  # whom the roles of its CI trust above all
    assert github.update(f"patient-{fault}", Description="Another") == "UpdateCompleted"
    github.delete(f"patient-{fault}")
    assert github.left(f"patient-{fault}") == []


@pytest.mark.slow
def test_a_fine_grained_token_without_rights_is_refused_by_the_creation_or_the_push(github: Installed) -> None:
    """Such a token does not say what it may."""
    secrets, fine = github.aws.client("secretsmanager"), "github_pat_" + "A1b2C3d4" * 4
    secrets.put_secret_value(SecretId=SECRET, SecretString=fine)
    for missing, words in (
        ("administration", "does not let the platform's token do POST .*the repository permissions Administration"),
        ("workflows", "an administrator gives it the permission Workflows"),
    ):
        rights = [right for right in ALL if right != missing]
        github.aws.configure("github", {"tokens": {fine: {"login": "robot", "rights": rights}}})
        assert fine not in refused(github, f"without-{missing}", words)


@pytest.mark.slow
def test_an_unknown_organization_is_named(github: Installed) -> None:
    refused(github, "homeless", "GitOwner 'nobody': .* knows no organization of that name", GitOwner="nobody")


def test_a_repository_that_is_there_is_left_alone(installed: Installed) -> None:
    somebodys(installed, "theirs")
    words = "the repository theirs .* is there already and not this project's: choose another name"
    refused(installed, "ours", words, Repository="theirs", OnDelete="delete")
    if installed.host == "github":
        assert GitHubClient(installed.aws.endpoint)("GET", f"/repos/{ORGANIZATION}/theirs").status == 200
    else:
        assert installed.aws.client("codecommit").get_repository(repositoryName="theirs")


def somebodys(installed: Installed, name: str) -> None:
    """A repository that is none of a project's."""
    if installed.host == "github":
        GitHubClient(installed.aws.endpoint).create(name)
    else:
        installed.aws.client("codecommit").create_repository(repositoryName=name)


@pytest.mark.slow
def test_a_group_that_is_there_is_left_alone(installed: Installed) -> None:
    sagemaker, tags = installed.aws.client("sagemaker"), [{"Key": "whose", "Value": "theirs"}]
    sagemaker.create_model_package_group(ModelPackageGroupName="grouped-dev", Tags=tags)
    words = "not this project's: grouped-dev. Choose another name"
    with pytest.raises(ProjectError, match=words):
        installed.create("grouped")
    assert installed.remains("grouped") == ["sagemaker list_model_package_groups: grouped-dev"]
    installed.delete("grouped")
    assert installed.groups("grouped") == {"grouped-dev": {"whose": "theirs"}}


def test_the_quota_of_groups_is_named_and_the_first_groups_are_taken_back(installed: Installed) -> None:
    sagemaker = installed.aws.client("sagemaker")
    pages = sagemaker.get_paginator("list_model_package_groups").paginate()
    there = sum(len(page["ModelPackageGroupSummaryList"]) for page in pages)
    installed.aws.configure("quotas", {"model_package_groups": there + 2})
    try:
        refused(installed, "crowded", "quota of model package groups .* is reached .*Service Quotas")
    finally:
        installed.heal()


@pytest.mark.slow
def test_an_unknown_version_of_the_template_is_named(installed: Installed) -> None:
    refused(installed, "versionless", "TemplateVersion '0.0.1'", TemplateVersion="0.0.1")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a-feature-b", "`feature` must not be a later part"),
        pytest.param("Capital", "lower case", marks=pytest.mark.slow),
        pytest.param("a" * 33, "32", marks=pytest.mark.slow),
    ],
)
def test_a_name_that_cannot_be_is_refused(installed: Installed, name: str, words: str) -> None:
    with pytest.raises(ProjectError, match=words):
        installed.create(name)
    assert installed.remains(name) == []


@pytest.mark.slow
def test_a_name_that_is_taken_is_refused_and_its_project_left_alone(installed: Installed) -> None:
    installed.create("wanted", OnDelete="delete")
    before = installed.holdings("wanted")
    for route in ("servicecatalog", S3):
        with pytest.raises(ProjectError, match=r"Project wanted was not made: .*already exists"):
            installed.create("wanted", route, OnDelete="delete")
    assert installed.holdings("wanted") == before
    installed.delete("wanted")
    assert installed.left("wanted") == []


@pytest.mark.slow
def test_register_project_goes_on_when_its_fault_is_put_right(github: Installed, tmp_path: Path) -> None:
    repository = github.generate("again", tmp_path)
    token(github, "workflows", "deletion")
    failed = github.register("again", repository)
    assert failed.returncode == 2
    assert "lacks the scope repo" in failed.stderr
    assert "put that right, then run register-project again" in failed.stderr
    assert github.remains("again") == []
    github.heal()
    done = github.register("again", repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(github.groups("again")) == {"again-feature", "again-dev", "again-prod"}
    assert github.register("again", repository).returncode == 0  # nothing is left to do


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_function_that_is_killed_in_the_middle_is_tried_again(installed: Installed, when: str) -> None:
    """Lambda invokes it again after a minute, which is a second here."""
    rule = {"service": "sagemaker", "operation": "CreateModelPackageGroup", "kind": "kill", "when": when, "nth": 2}
    installed.aws.configure("faults", {"rules": [rule]})
    try:
        made = installed.create(f"killed-{when}", OnDelete="delete")
        assert [one["hit"] for one in installed.aws.settings("faults")["rules"]] == [1]
    finally:
        installed.aws.configure("faults", {"rules": []})
    assert made.outputs["Groups"] == f"killed-{when}-feature,killed-{when}-dev,killed-{when}-prod"
    assert set(installed.groups(f"killed-{when}")) == set(made.outputs["Groups"].split(","))


@pytest.mark.slow
def test_ten_creations_at_once_are_ten_projects(installed: Installed) -> None:
    names = [f"many-{number}" for number in range(10)]
    for name in names:
        installed.person(name)
    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(lambda name: installed.create(name, OnDelete="delete"), names))
    assert [project.outputs["RepositoryName"] for project in made] == names
    assert sorted(installed.groups("many")) == sorted(
        f"{name}-{stage}" for name in names for stage in ("feature", "dev", "prod")
    )
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(installed.delete, names))
    assert [left for name in names for left in installed.left(name)] == []


@pytest.mark.slow
def test_one_name_twice_at_once_is_one_project(installed: Installed) -> None:
    installed.person("twin")

    def create(route: str) -> str:
        try:
            return installed.create("twin", route).status  # type: ignore[arg-type]
        except ProjectError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        said = sorted(pool.map(create, ("servicecatalog", S3)))
    assert said[0] == "CreateCompleted"
    assert "already exists" in said[1]
    assert set(installed.groups("twin")) == {"twin-feature", "twin-dev", "twin-prod"}
