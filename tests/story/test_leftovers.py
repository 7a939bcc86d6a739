"""That nothing is left is worth as much as what is looked at: every kind of thing that a project has is seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.story.leftovers import LISTS, everything, leftovers

# What a project churn has of each kind.
THERE = {
    ("sagemaker", "list_pipelines"): "churn-feature-x-1a2b3c",
    ("sagemaker", "list_model_package_groups"): "churn-champion",
    ("sagemaker", "list_models"): "churn-dev-3",
    ("sagemaker", "list_endpoint_configs"): "churn-dev-3",
    ("sagemaker", "list_endpoints"): "churn-prod",
    ("sagemaker", "list_transform_jobs"): "churn-dev-3-20261122T0600",
    ("sagemaker", "list_projects"): "churn",
    ("cloudwatch", "describe_alarms"): "churn-dev-3-rollback-errors",
    ("cloudwatch", "list_dashboards"): "churn-dev",
    ("scheduler", "list_schedules"): "churn-retrain",
    ("iam", "list_roles"): "churn-ci-delivery-prod",
    ("iam", "list_policies"): "modelyard-churn-reader",
    ("codecommit", "list_repositories"): "churn",
    ("codebuild", "list_projects"): "modelyard-churn-template",
    ("events", "list_rules"): "modelyard-churn-deleted",
    ("logs", "describe_log_groups"): "/aws/codebuild/modelyard-churn-dev",
    ("servicecatalog", "search_provisioned_products"): "churn-p-abc123def456",
    ("application-autoscaling", "describe_scalable_targets"): "endpoint/churn-prod/variant/AllTraffic",
    ("codepipeline", "list_pipelines"): "p-abc123def456-dev",
    ("cloudformation", "describe_stacks"): "SC-1",
}
ELSEWHERE = {("application-autoscaling", "describe_scalable_targets"): ("ScalableTargets", "ResourceId")}
ELSEWHERE |= {("codepipeline", "list_pipelines"): ("pipelines", "name")}
ELSEWHERE |= {("cloudformation", "describe_stacks"): ("Stacks", "StackName")}
ELSEWHERE |= {("servicecatalog", "search_provisioned_products"): ("ProvisionedProducts", "Name")}
MEMBERS = {(service, operation): (listed, key) for service, operation, listed, key in LISTS} | ELSEWHERE


class Client:
    """Of a service that has one thing of each kind.

    Args:
        there: its name by service and operation.
        about: what else is said of each.
    """

    def __init__(self, service: str, there: dict[tuple[str, str], str], project: str, about: dict[str, Any]) -> None:
        self.service, self.there, self.project, self.about = service, there, project, about

    def can_paginate(self, operation: str) -> bool:
        return True

    def get_paginator(self, operation: str) -> Any:
        self.operation = operation
        return self

    def paginate(self, **_: Any) -> Iterator[dict[str, Any]]:
        listed, key = MEMBERS[self.service, self.operation]
        name = self.there.get((self.service, self.operation))
        if name is None:
            return
        tags = [{"Key": "sagemaker:project-name", "Value": self.project}]
        yield {listed: [name if key is None else {key: name, "Tags": tags} | self.about]}

    def search_provisioned_products(self, **_: Any) -> dict[str, Any]:
        self.operation = "search_provisioned_products"
        return next(self.paginate(), {"ProvisionedProducts": []})

    def get_pipeline(self, name: str) -> dict[str, Any]:
        return {"metadata": {"pipelineArn": f"arn:aws:codepipeline:eu-central-1:123456789012:{name}"}}

    def list_tags_for_resource(self, resourceArn: str) -> dict[str, Any]:
        return {"tags": [{"key": "modelyard:project", "value": self.project}]}


def found(there: dict[tuple[str, str], str], project: str = "churn", look: Any = leftovers, **about: Any) -> set[str]:
    """What is seen of churn where these are there, which are of this project by their tags."""
    return set(look(lambda service: Client(service, there, project, about), "churn"))


def test_of_every_kind_what_is_left_is_seen() -> None:
    assert set(THERE) == set(MEMBERS)
    status = {"ProjectStatus": "CreateCompleted", "TransformJobStatus": "InProgress"}
    assert found(THERE, **status) == {f"{service} {listed}: {name}" for (service, listed), name in THERE.items()}


@pytest.mark.parametrize("other", ["churnx", "my-churn", "churn-eu"])
def test_another_projects_things_are_not(other: str) -> None:
    """Also of one whose name begins the same; but of a later part feature, dev or prod it could not be told."""
    assert found({kind: name.replace("churn", other) for kind, name in THERE.items()}, project=other) == set()


@pytest.mark.parametrize("status", ["Completed", "Failed", "Stopped"])
def test_a_transform_job_that_is_over_costs_nothing_and_cannot_be_deleted(status: str) -> None:
    kind = ("sagemaker", "list_transform_jobs")
    assert found({kind: THERE[kind]}, TransformJobStatus=status) == set()
    assert found({kind: THERE[kind]}, TransformJobStatus="Stopping")


def test_only_the_endpoints_logs_are_meant_to_stay() -> None:
    for name, stays in {"/aws/sagemaker/Endpoints/churn-dev": True, "/aws/lambda/churn-dev": False}.items():
        there = {("logs", "describe_log_groups"): name}
        assert found(there, look=everything) == {f"logs describe_log_groups: {name}"}
        assert found(there) == (set() if stays else {f"logs describe_log_groups: {name}"})
