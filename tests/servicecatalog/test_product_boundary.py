"""The boundaries of platform.yaml allow what product.yaml grants: else a role would have rights that do nothing.

Every question that a role's policies allow is made from their statements, and put to the boundary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from servicecatalog import account
from tests.servicecatalog import template
from tests.servicecatalog.permitted import allowed

FOLDER = Path(account.__file__).parent
KEY = "arn:aws:kms:eu-west-1:111122223333:key/11112222-3333-4444-5555-666677778888"
PROJECT = {
    "SageMakerProjectName": "churn",
    "SageMakerProjectId": "p-123456789012",
    "ArtifactBucket": "team-artifacts",
    "DataBuckets": "my-data,more-data",
    "KmsKeyArns": KEY,
}
PLATFORM = {"ArtifactBuckets": "team-artifacts", "DataBuckets": "my-data,more-data", "ProjectKmsKeyArns": KEY}
PRODUCT = template.load(FOLDER / "product.yaml")
HOSTS = {host: template.resolved(PRODUCT, PROJECT | {"GitHost": host}) for host in ("codecommit", "github")}
POLICIES = template.policies(template.resolved(template.load(FOLDER / "platform.yaml"), PLATFORM))
BOUNDARY = POLICIES["ProjectBoundary"]
BOUNDARIES = {
    template.OF_SSM["ProjectBoundaryArn"]: BOUNDARY,
    template.OF_SSM["DeliveryBoundaryArn"]: POLICIES["DeliveryBoundary"],
}
ROLES = [
    (host, name)
    for host, resources in HOSTS.items()
    for name, resource in resources.items()
    if resource["Type"] == "AWS::IAM::Role"
]


def granted(host: str, role: str) -> list[dict[str, Any]]:
    """The role's own policies, and the project's that is attached to it."""
    return template.of_role(HOSTS[host], role)


def questions(documents: list[dict[str, Any]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Action, resource and context of one request for each action, resource and condition of each statement."""
    for document in documents:
        for statement in document["Statement"]:
            if statement["Effect"] == "Deny":
                continue
            context = dict(_context(statement.get("Condition", {})))
            for action in _listed(statement["Action"]):
                for resource in _listed(statement["Resource"]):
                    yield action, resource if resource == "*" else _exact(resource), context


def _context(condition: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    for operator, keys in condition.items():
        for key, values in keys.items():
            exact = [_exact(str(value)) for value in _listed(values)]
            yield key, exact if operator.startswith("For") else exact[0]


def _exact(pattern: str) -> str:
    return pattern.replace("arn:*:", "arn:aws:").replace("*", "x")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize(("host", "role"), ROLES)
def test_the_boundary_allows_all_that_a_role_is_granted(host: str, role: str) -> None:
    asked = list(questions(granted(host, role)))
    boundary = BOUNDARIES[HOSTS[host][role]["Properties"]["PermissionsBoundary"]]
    assert asked
    for action, resource, context in asked:
        assert allowed(granted(host, role), action, resource, **{"": context}), (action, resource, context)
        assert allowed([boundary], action, resource, **{"": context}), (action, resource, context)


def test_the_boundary_lets_no_role_change_what_it_may() -> None:
    role = "arn:aws:iam::111122223333:role/modelyard/pipelines/churn-pipeline-dev"
    changing = (
        "CreateRole",
        "PutRolePolicy",
        "AttachRolePolicy",
        "UpdateAssumeRolePolicy",
        "PutRolePermissionsBoundary",
    )
    for action in (*changing, "DeleteRolePermissionsBoundary", "CreatePolicyVersion"):
        for boundary in BOUNDARIES.values():
            assert not allowed([boundary], f"iam:{action}", role)


def test_a_role_is_passed_below_the_pipelines_path_alone() -> None:
    to_sagemaker = {"": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    for path in ("", "modelyard/", "modelyard/models/", "modelyard/ci/"):
        for boundary in BOUNDARIES.values():
            assert not allowed([boundary], "iam:PassRole", f"arn:aws:iam::111122223333:role/{path}any", **to_sagemaker)


def test_within_the_boundaries_no_branch_is_pushed_but_that_of_the_templates_updates() -> None:
    repository = "arn:aws:codecommit:eu-west-1:111122223333:churn"
    for branch in ("dev", "prod", "template-update"):
        context = {"": {"codecommit:References": [f"refs/heads/{branch}"]}}
        may = [allowed([boundary], "codecommit:GitPush", repository, **context) for boundary in BOUNDARIES.values()]
        assert may == [False, branch == "template-update"]
