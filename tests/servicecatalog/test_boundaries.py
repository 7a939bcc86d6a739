"""An organization's boundary of projects' roles is set and taken back while there are projects, with IAM enforced."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from local_aws import LocalAWS
from tests.servicecatalog.projects import ACCOUNT, LAUNCH_ROLE, Project, Projects

COMPANY = f"arn:aws:iam::{ACCOUNT}:policy/company-projects"


@pytest.fixture
def projects() -> Iterator[Projects]:
    with LocalAWS(enforce_iam=True) as aws:
        yield Projects(aws).prepare()


def test_projects_are_updated_and_deleted_whichever_boundary_was_set_since(projects: Projects) -> None:
    churn, fraud = projects.create("churn"), projects.create("fraud")
    ours = {name: projects.published(name) for name in ("project", "delivery")}
    assert boundaries(projects, churn) == set(ours.values())

    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam = projects.aws.client("iam")
    iam.create_policy(PolicyName=COMPANY.rpartition("/")[2], PolicyDocument=json.dumps(everything))
    install(projects, {"project": COMPANY, "delivery": COMPANY}, [*ours.values(), COMPANY])
    projects.update(churn)
    assert boundaries(projects, churn) == {COMPANY}
    projects.delete(fraud)  # whose roles have the platform's

    install(projects, ours, list(ours.values()))
    late = projects.create("late")
    assert boundaries(projects, late) == set(ours.values())
    projects.delete(churn)  # whose roles have the organization's


def install(projects: Projects, boundaries: dict[str, str], listed: list[str]) -> None:
    """What the platform publishes, and the launch role's policy."""
    for name, arn in boundaries.items():
        projects.aws.client("ssm").put_parameter(
            Name=f"/modelyard/policies/{name}-boundary", Value=arn, Type="String", Overwrite=True
        )
    iam = projects.aws.client("iam")
    for name, document in projects.launch_policies(BoundaryArns=",".join(listed)).items():
        iam.put_role_policy(RoleName=LAUNCH_ROLE, PolicyName=name, PolicyDocument=document)


def boundaries(projects: Projects, project: Project) -> set[str]:
    """Of a project's roles."""
    iam = projects.aws.client("iam")
    found = projects.cloudformation.describe_stack_resources(StackName=project.stack)["StackResources"]
    roles = [one["PhysicalResourceId"] for one in found if one["ResourceType"] == "AWS::IAM::Role"]
    assert roles
    return {iam.get_role(RoleName=role)["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"] for role in roles}
