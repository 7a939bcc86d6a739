"""product.yaml as CloudFormation makes, changes and deletes it, with IAM enforced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from local_aws import LocalAWS
from tests.local_aws.github_clients import configure
from tests.local_aws.waiting import wait_for
from tests.servicecatalog.projects import ACCOUNT, REGION, Project, Projects

CLASSES = ("feature", "dev", "prod")


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS(enforce_iam=True) as server:
        yield server


@pytest.fixture(scope="module")
def projects(aws: LocalAWS) -> Projects:
    """The Git host's tokens are the server's own GitHub's, of a repository that is there."""
    repository = configure(aws).create("on-github")
    issuer = f"{aws.endpoint}/_github/_services/token".removeprefix("http://")
    owner = repository["owner"]
    subject = f"repo:{owner['login']}@{owner['id']}/{repository['name']}@{repository['id']}"
    return Projects(aws, issuer, subject).prepare()


@pytest.fixture(scope="module")
def on_codecommit(projects: Projects) -> Project:
    return projects.create("churn")


@pytest.fixture(scope="module")
def on_github(projects: Projects) -> Project:
    return projects.create("on-github", GitHost="github", GitOwner="acme")


def resources(projects: Projects, project: Project) -> dict[str, str]:
    """Logical to physical ids of what the stack has."""
    found = projects.cloudformation.describe_stack_resources(StackName=project.stack)["StackResources"]
    return {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in found}


def test_every_role_that_is_made_is_bounded_and_tagged(
    aws: LocalAWS, projects: Projects, on_codecommit: Project
) -> None:
    iam = aws.client("iam")
    made = resources(projects, on_codecommit)
    roles = {name: iam.get_role(RoleName=made[name])["Role"] for name in made if name.endswith("Role")}
    assert len(roles) == 7
    boundary = f"arn:aws:iam::{ACCOUNT}:policy/modelyard-project-boundary-{REGION}"
    for name, role in roles.items():
        assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == boundary, name
        assert {"Key": "modelyard:project", "Value": "churn"} in role["Tags"], name


def test_the_logs_of_builds_are_encrypted_and_kept_for_a_time(aws: LocalAWS, on_codecommit: Project) -> None:
    groups = aws.client("logs").describe_log_groups(logGroupNamePrefix="/aws/codebuild/modelyard-churn-")["logGroups"]
    assert sorted(group["logGroupName"].rpartition("-")[2] for group in groups) == sorted(CLASSES)
    assert all(group["kmsKeyId"] and group["retentionInDays"] == 90 for group in groups)


def test_a_push_starts_the_build_of_its_class_with_its_commit(aws: LocalAWS, on_codecommit: Project) -> None:
    codecommit = aws.client("codecommit")
    codecommit.create_repository(repositoryName="churn")
    commits: dict[str, str] = {}
    for branch in ("prod", "dev", "feature-trees"):
        commits[branch] = commit(codecommit, branch, next(reversed(commits.values()), None))

    for name, branch in zip(("prod", "dev", "feature"), commits, strict=True):
        build = build_of(aws, name, commits[branch])
        variables = {one["name"]: one["value"] for one in build["environment"]["environmentVariables"]}
        assert variables["MODELYARD_BRANCH"] == branch
        assert build["serviceRole"].endswith(f"/churn-ci-{name}")
    assert not begun(aws, "prod", commits["dev"])
    assert not begun(aws, "dev", commits["feature-trees"])


def commit(codecommit: Any, branch: str, parent: str | None) -> str:
    """A commit on a new branch, which begins with the parent; its id."""
    file = {"filePath": "README.md", "fileContent": branch.encode()}
    request = {"repositoryName": "churn", "branchName": branch, "putFiles": [file]}
    if parent is not None:
        codecommit.create_branch(repositoryName="churn", branchName=branch, commitId=parent)
        request["parentCommitId"] = parent
    made = codecommit.create_commit(**request)
    return str(made["commitId"])


def build_of(aws: LocalAWS, name: str, commit: str) -> dict[str, Any]:
    (build,) = wait_for(lambda: begun(aws, name, commit))
    return dict(build)


def begun(aws: LocalAWS, name: str, commit: str) -> list[dict[str, Any]]:
    """The builds of a class for a commit."""
    codebuild = aws.client("codebuild")
    ids = codebuild.list_builds_for_project(projectName=f"modelyard-churn-{name}")["ids"]
    builds = codebuild.batch_get_builds(ids=ids)["builds"] if ids else []
    return [build for build in builds if build["sourceVersion"] == commit]


@pytest.mark.parametrize(
    ("job", "name"),
    [
        ({"ref": "refs/heads/feature-trees"}, "feature"),
        ({"ref": "refs/heads/dev"}, "dev"),
        ({"ref": "refs/heads/prod"}, "prod"),
        ({"ref": "refs/heads/feature-trees", "environment": "prod"}, None),
        ({"ref": "refs/heads/main"}, None),
    ],
    ids=["feature", "dev", "prod", "environment prod", "another branch"],
)
def test_a_job_of_github_takes_the_role_of_its_branch_and_no_other(
    aws: LocalAWS, on_github: Project, job: dict[str, str], name: str | None
) -> None:
    asked = {"repository": "acme/on-github", "audience": "sts.amazonaws.com", **job}
    token = aws.configure("github", {"issue_oidc_token": asked})["oidc_token"]
    sts = boto3.client("sts", endpoint_url=aws.endpoint, region_name=REGION, config=Config(signature_version=UNSIGNED))
    taken = [each for each in CLASSES if takes(sts, on_github.outputs[f"{each.title()}CiRoleArn"], token)]
    assert taken == ([name] if name else [])


def takes(sts: Any, role: str, token: str) -> bool:
    try:
        sts.assume_role_with_web_identity(RoleArn=role, RoleSessionName="job", WebIdentityToken=token)
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDenied":
            raise
        return False
    return True


def test_prod_is_protected_once_what_was_there_is_pushed(aws: LocalAWS, projects: Projects) -> None:
    project = projects.create("brought", InitialContent="empty")
    policy = project.outputs["DeveloperPolicy"]
    assert "ProdByPullRequestOnly" not in statements(aws, policy)
    projects.update(project, InitialContent="pushed", Scenario="advanced")
    assert "ProdByPullRequestOnly" in statements(aws, policy)


def statements(aws: LocalAWS, policy: str) -> list[str]:
    iam = aws.client("iam")
    version = iam.get_policy(PolicyArn=policy)["Policy"]["DefaultVersionId"]
    document = iam.get_policy_version(PolicyArn=policy, VersionId=version)["PolicyVersion"]["Document"]
    return [statement["Sid"] for statement in document["Statement"]]


@pytest.mark.parametrize("name", ["churn-feature", "churn-feature-x", "Churn"])
def test_a_name_that_could_be_confused_is_refused_before_anything_is_made(projects: Projects, name: str) -> None:
    with pytest.raises(ClientError, match="`feature` must not be a later part of it"):
        projects.create(name)


def test_on_deletion_the_policies_go_before_the_seed_is_asked_and_its_roles_after_it(
    aws: LocalAWS, projects: Projects
) -> None:
    """A policy that cannot go, since somebody still has it, then stops the deletion before anything is lost."""
    project, iam = projects.create("going"), aws.client("iam")
    (found,) = projects.cloudformation.describe_stacks(StackName=project.stack)["Stacks"]

    projects.delete(project)

    events = projects.cloudformation.describe_stack_events(StackName=found["StackId"])["StackEvents"]
    gone = [one["LogicalResourceId"] for one in reversed(events) if one["ResourceStatus"] == "DELETE_COMPLETE"]
    before, after = gone[: gone.index("Seed")], gone[gone.index("Seed") + 1 :]
    assert {"DeveloperPolicy", "ReaderPolicy", "ApproverPolicy"} <= set(before)
    assert {"FeaturePipelineRole", "DevPipelineRole", "ModelRole"} <= set(after)
    pages = iam.get_paginator("list_roles").paginate(PathPrefix="/modelyard/")
    assert [role["RoleName"] for page in pages for role in page["Roles"] if role["RoleName"].startswith("going-")] == []
