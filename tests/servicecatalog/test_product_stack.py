"""product.yaml as CloudFormation makes, changes and deletes it, with IAM enforced."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError, WaiterError

from local_aws import LocalAWS
from servicecatalog import product
from tests.local_aws.github_clients import configure
from tests.local_aws.people import sign_in
from tests.local_aws.waiting import wait_for
from tests.servicecatalog.projects import ACCOUNT, BUCKET, REGION, TEMPLATES, Project, Projects

CLASSES = ("feature", "dev", "prod")
# Instead of CI's commands: says what CI is told, and shows that the build is a clone.
BUILDSPEC = b"""
version: 0.2
env: {git-credential-helper: "yes"}
phases:
  build:
    commands: ['test -d .git', 'echo "for $MODELYARD_BRANCH: $MODELYARD_CI_STEPS"']
"""
DENIED = "AccessDeniedException"
BOUNDARIES = ("project", "delivery")


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS(enforce_iam=True, builds=True) as server:
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
    assert len(roles) == 11
    boundaries = {f"arn:aws:iam::{ACCOUNT}:policy/modelyard-{kind}-boundary-{REGION}" for kind in BOUNDARIES}
    for name, role in roles.items():
        assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] in boundaries, name
        assert {"Key": "modelyard:project", "Value": "churn"} in role["Tags"], name


def test_the_logs_of_builds_are_encrypted_and_kept_for_a_time(aws: LocalAWS, on_codecommit: Project) -> None:
    groups = aws.client("logs").describe_log_groups(logGroupNamePrefix="/aws/codebuild/modelyard-churn-")["logGroups"]
    assert sorted(group["logGroupName"].rpartition("-")[2] for group in groups) == sorted((*CLASSES, "template"))
    assert all(group["kmsKeyId"] and group["retentionInDays"] == 90 for group in groups)


@pytest.fixture(scope="module")
def repository(aws: LocalAWS, on_codecommit: Project) -> dict[str, str]:
    """The project's, as the seed function makes it: branch to its head."""
    codecommit = aws.client("codecommit")
    codecommit.create_repository(repositoryName="churn", tags={"modelyard:project": "churn"})
    first = commit(codecommit, "prod", None, "buildspec.yml", BUILDSPEC)
    codecommit.create_branch(repositoryName="churn", branchName="dev", commitId=first)
    return {"prod": first, "dev": first}


def commit(codecommit: Any, branch: str, parent: str | None, path: str = "README.md", content: bytes = b"") -> str:
    """A commit on a branch, which is made where it is not there; its id."""
    file = {"filePath": path, "fileContent": content or branch.encode()}
    request = {"repositoryName": "churn", "branchName": branch, "putFiles": [file]}
    if parent is not None:
        request["parentCommitId"] = parent
    return str(codecommit.create_commit(**request)["commitId"])


def test_a_feature_branch_is_built_when_it_is_pushed_and_when_it_is_deleted(
    aws: LocalAWS, repository: dict[str, str]
) -> None:
    codecommit = aws.client("codecommit")
    codecommit.create_branch(repositoryName="churn", branchName="feature-trees", commitId=repository["dev"])
    pushed = commit(codecommit, "feature-trees", repository["dev"])
    assert "for feature-trees: check push" in built(aws, "feature", pushed)
    codecommit.delete_branch(repositoryName="churn", branchName="feature-trees")
    assert "for feature-trees: deleted" in built(aws, "feature", "refs/heads/prod")


def test_what_a_newer_template_changes_is_built_before_it_is_merged(aws: LocalAWS, repository: dict[str, str]) -> None:
    codecommit = aws.client("codecommit")
    codecommit.create_branch(repositoryName="churn", branchName="template-update", commitId=repository["dev"])
    proposed = commit(codecommit, "template-update", repository["dev"])
    assert "for template-update: check push" in built(aws, "feature", proposed)


def built(aws: LocalAWS, name: str, version: str) -> str:
    """The log of a class's build of a source version that has succeeded, as its own role."""

    def ended() -> list[dict[str, Any]]:
        return [build for build in builds(aws, name) if build["sourceVersion"] == version and build["buildComplete"]]

    (build,) = wait_for(ended)
    text = log(aws, build)
    assert build["buildStatus"] == "SUCCEEDED", text
    assert build["serviceRole"].endswith(f"/churn-ci-{name}")
    return text


def builds(aws: LocalAWS, name: str) -> list[dict[str, Any]]:
    codebuild = aws.client("codebuild")
    ids = codebuild.list_builds_for_project(projectName=f"modelyard-churn-{name}")["ids"]
    return list(codebuild.batch_get_builds(ids=ids)["builds"]) if ids else []


def log(aws: LocalAWS, build: dict[str, Any]) -> str:
    stream = {"logGroupName": build["logs"]["groupName"], "logStreamName": build["logs"]["streamName"]}
    return "\n".join(event["message"] for event in aws.client("logs").get_log_events(**stream)["events"])


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_neither_the_creation_of_the_project_nor_of_its_branches_starts_a_delivery(
    aws: LocalAWS, repository: dict[str, str], name: str
) -> None:
    assert executions(aws, name) == []


def executions(aws: LocalAWS, name: str) -> list[dict[str, Any]]:
    found = aws.client("codepipeline").list_pipeline_executions(pipelineName=f"p-churn-{name}")
    return list(found["pipelineExecutionSummaries"])


def actions(aws: LocalAWS, name: str, execution: str | None = None) -> dict[str, str]:
    """Status of what an execution has done, or all of them, by action."""
    found = aws.client("codepipeline").list_action_executions(pipelineName=f"p-churn-{name}")["actionExecutionDetails"]
    of_it = (one for one in found if execution in (None, one["pipelineExecutionId"]))
    return {one["actionName"]: one["status"] for one in of_it}


def test_a_push_to_dev_is_checked_and_then_trains(aws: LocalAWS, repository: dict[str, str]) -> None:
    pushed = commit(aws.client("codecommit"), "dev", repository["dev"])
    (execution,) = wait_for(lambda: [one for one in executions(aws, "dev") if one["status"] != "InProgress"])
    assert (execution["status"], execution["sourceRevisions"][0]["revisionId"]) == ("Succeeded", pushed)
    steps = [line for build in builds(aws, "dev") for line in log(aws, build).splitlines() if line.startswith("for ")]
    assert sorted(steps) == ["for dev: check", "for dev: push"]


def test_a_push_to_prod_waits_for_an_approver_before_it_promotes(
    aws: LocalAWS, repository: dict[str, str], on_codecommit: Project
) -> None:
    pushed = commit(aws.client("codecommit"), "prod", repository["prod"])
    wait_for(lambda: actions(aws, "prod").get("Approve") == "InProgress")
    developer = person(aws, on_codecommit, "DeveloperPolicy", "ReaderPolicy")
    approver = person(aws, on_codecommit, "ApproverPolicy", "ReaderPolicy")
    state = developer.get_pipeline_state(name="p-churn-prod")["stageStates"]
    (token,) = [
        action["latestExecution"]["token"]
        for stage in state
        if stage["stageName"] == "Approve"
        for action in stage["actionStates"]
    ]
    decision = {
        "pipelineName": "p-churn-prod",
        "stageName": "Approve",
        "actionName": "Approve",
        "token": token,
        "result": {"status": "Approved", "summary": "as agreed"},
    }
    for denied, request in (
        (developer.put_approval_result, decision),
        (developer.start_pipeline_execution, {"name": "p-churn-prod"}),
        (approver.start_pipeline_execution, {"name": "p-churn-dev"}),
    ):
        with pytest.raises(ClientError, match=DENIED):
            denied(**request)
    assert "Promote" not in actions(aws, "prod")
    approver.put_approval_result(**decision)
    wait_for(lambda: actions(aws, "prod").get("Promote") == "Succeeded")
    # what a retraining has brought to dev: prod has the files already
    variables = [{"name": "PushedCommit", "value": pushed}]
    again = approver.start_pipeline_execution(name="p-churn-prod", variables=variables)["pipelineExecutionId"]
    wait_for(lambda: actions(aws, "prod", again).get("Approve") == "InProgress")


def person(aws: LocalAWS, project: Project, *policies: str) -> Any:
    """CodePipeline's client of somebody with these policies of the project, by the outputs that name them."""
    iam, name = aws.client("iam"), "-".join(policies)
    iam.create_user(UserName=name)
    for policy in policies:
        iam.attach_user_policy(UserName=name, PolicyArn=project.outputs[policy])
    return aws.client("codepipeline", credentials=sign_in(aws, name))


@pytest.mark.parametrize(
    ("job", "name"),
    [
        ({"ref": "refs/heads/feature-trees"}, "feature"),
        ({"ref": "refs/heads/dev"}, "dev"),
        ({"ref": "refs/heads/prod"}, "prod"),
        ({"ref": "refs/heads/feature-trees", "environment": "prod"}, None),
        ({"ref": "refs/heads/main"}, None),
        ({"ref": "refs/pull/1/merge", "event": "pull_request"}, "check"),
    ],
    ids=["feature", "dev", "prod", "environment prod", "another branch", "pull request"],
)
def test_a_job_of_github_takes_the_role_of_its_branch_and_no_other(
    aws: LocalAWS, on_github: Project, job: dict[str, str], name: str | None
) -> None:
    asked = {"repository": "acme/on-github", "audience": "sts.amazonaws.com", **job}
    token = aws.configure("github", {"issue_oidc_token": asked})["oidc_token"]
    sts = boto3.client("sts", endpoint_url=aws.endpoint, region_name=REGION, config=Config(signature_version=UNSIGNED))
    taken = [each for each in (*CLASSES, "check") if takes(sts, on_github.outputs[f"{each.title()}CiRoleArn"], token)]
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
    # what could start something goes before what it would start is looked for
    assert {"RetrainRole", "DevDelivery", "ProdDelivery", "DevCiRole", "FeaturePushes", "DevPushes"} <= set(before)
    assert {"FeaturePipelineRole", "DevPipelineRole", "ModelRole"} <= set(after)
    pages = iam.get_paginator("list_roles").paginate(PathPrefix="/modelyard/")
    assert [role["RoleName"] for page in pages for role in page["Roles"] if role["RoleName"].startswith("going-")] == []


def test_a_bucket_that_the_seed_refuses_is_read_at_no_time(aws: LocalAWS, projects: Projects) -> None:
    project = projects.create("reading", DataBuckets="my-data")
    assert {name for name in READING if data_buckets(aws, name)} == READING
    with pytest.raises(WaiterError, match="UPDATE_ROLLBACK_COMPLETE"):
        projects.update(project, DataBuckets=BUCKET)
    events = projects.cloudformation.describe_stack_events(StackName=project.stack)["StackEvents"]
    updated = {one["LogicalResourceId"] for one in events if one["ResourceStatus"] == "UPDATE_IN_PROGRESS"}
    assert "Seed" in updated
    assert not {"DataBucketsPolicy", "ReaderPolicy"} & updated
    for name in READING:
        assert "arn:*:s3:::my-data/*" in data_buckets(aws, name)
    projects.update(project, DataBuckets="")
    assert {name for name in READING if data_buckets(aws, name)} == set()
    projects.delete(project)


READING = {"reading-pipeline-feature", "reading-pipeline-dev", "reading-model"}


def data_buckets(aws: LocalAWS, role: str) -> str:
    """The role's policy about further buckets; "" where it has none."""
    iam = aws.client("iam")
    if "data-buckets" not in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        return ""
    return json.dumps(iam.get_role_policy(RoleName=role, PolicyName="data-buckets")["PolicyDocument"])


BEFORE_CODEPIPELINE = "7d20b46"  # the last commit whose product made projects without it


@pytest.mark.slow
@pytest.mark.parametrize("host", ["codecommit", "github"])
def test_a_project_that_was_made_before_codepipeline_gets_it_by_an_update_and_loses_nothing(
    aws: LocalAWS, projects: Projects, host: str
) -> None:
    project = older(aws, projects, f"old-{host}", GitHost=host, GitOwner="acme")
    before, roles = resources(projects, project), role_ids(aws, project)
    projects.update(project, GitHost=host, GitOwner="acme")
    after = resources(projects, project)
    assert before == {name: after[name] for name in before}
    assert roles == {name: found for name, found in role_ids(aws, project).items() if name in roles}
    on_codecommit = {"TemplateCiRole", "DevDeliveryRole", "ProdDeliveryRole", "DevDelivery", "ProdDelivery"}
    expected = {"RetrainRole"} | (on_codecommit if host == "codecommit" else {"CheckCiRole"})
    assert expected <= after.keys() - before.keys()
    if host == "codecommit":
        codepipeline = aws.client("codepipeline")
        for name in (after["DevDelivery"], after["ProdDelivery"]):
            assert codepipeline.list_pipeline_executions(pipelineName=name)["pipelineExecutionSummaries"] == []
    projects.delete(project)


def older(aws: LocalAWS, projects: Projects, name: str, **parameters: str) -> Project:
    """A project of the template before CodePipeline, in an account whose platform is new."""
    found = subprocess.run(
        ["git", "show", f"{BEFORE_CODEPIPELINE}:servicecatalog/product.yaml"],
        cwd=Path(product.TEMPLATE).parent,
        capture_output=True,
        check=False,
    )
    if found.returncode:
        pytest.skip(f"this checkout's history does not go back to {BEFORE_CODEPIPELINE}")
    where = {"Bucket": TEMPLATES, "Key": "product.yaml"}
    s3 = aws.client("s3")
    s3.put_object(**where, Body=found.stdout)
    try:
        return projects.create(name, **parameters)
    finally:
        s3.put_object(**where, Body=Path(product.TEMPLATE).read_bytes())


def role_ids(aws: LocalAWS, project: Project) -> dict[str, str]:
    """Of the project's roles, by name: a role that is made anew has another."""
    pages = aws.client("iam").get_paginator("list_roles").paginate(PathPrefix="/modelyard/")
    found = {role["RoleName"]: role["RoleId"] for page in pages for role in page["Roles"]}
    return {name: identity for name, identity in found.items() if name.startswith(f"{project.name}-")}
