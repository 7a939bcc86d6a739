"""What starting a container asks of its role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from local_aws.permissions import Decision, Denied
from local_aws.permissions.containers import ContainerDenied, ask_for_container, image_questions, network_questions
from local_aws.store import Scope

SCOPE = Scope("123456789012", "eu-west-1")
ROLE = "arn:aws:iam::123456789012:role/model"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.2-0"
METRICS = "/aws/sagemaker/Endpoints"
VPC = {"Subnets": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]}


class Role:
    """Asks IAM, which denies some actions."""

    def __init__(self, *denied: str) -> None:
        self.denied = denied
        self.asked: list[tuple[str, str, Mapping[str, Any] | None]] = []

    def ask(
        self, scope: Scope, role: str | None, action: str, resource: str = "*", context: Mapping[str, Any] | None = None
    ) -> None:
        self.asked.append((action, resource, context))
        if action in self.denied:
            raise Denied(Decision(ROLE, action, resource, scope.region, (), False), ROLE, False)


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        (IMAGE, "arn:aws:ecr:us-east-1:683313688378:repository/sagemaker-xgboost"),
        (
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/churn@sha256:00",
            "arn:aws:ecr:eu-west-1:123456789012:repository/team/churn",
        ),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/churn", "arn:aws:ecr:eu-west-1:123456789012:repository/churn"),
        (
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/churn:1",
            "arn:aws-cn:ecr:cn-north-1:123456789012:repository/churn",
        ),
    ],
)
def test_an_image_of_ecr_is_asked_for_by_its_repository(image: str, repository: str) -> None:
    asked = {question.action: question.resource for question in image_questions(image)}
    assert asked == {
        "ecr:GetAuthorizationToken": "*",
        "ecr:BatchCheckLayerAvailability": repository,
        "ecr:GetDownloadUrlForLayer": repository,
        "ecr:BatchGetImage": repository,
    }


def test_a_public_image_is_everybodys() -> None:
    assert image_questions("public.ecr.aws/sagemaker/sagemaker-distribution:4.4-cpu") == []


def test_a_vpc_asks_for_interfaces_in_its_subnets_and_security_groups() -> None:
    asked = {(question.action, question.resource) for question in network_questions(SCOPE, VPC)}
    ec2 = "arn:aws:ec2:eu-west-1:123456789012:"
    places = {"network-interface/*", "subnet/subnet-1", "subnet/subnet-2", "security-group/sg-1"}
    assert {resource for action, resource in asked if action == "ec2:CreateNetworkInterface"} == {
        ec2 + place for place in places
    }
    assert ("ec2:DescribeVpcs", "*") in asked
    assert ("ec2:DeleteNetworkInterfacePermission", f"{ec2}network-interface/*") in asked


def test_a_container_asks_for_its_image_its_network_and_its_metrics() -> None:
    role = Role()
    ask_for_container(role, SCOPE, ROLE, IMAGE, METRICS, VPC)
    assert len(role.asked) == len(image_questions(IMAGE)) + len(network_questions(SCOPE, VPC)) + 1
    assert role.asked[-1] == ("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": METRICS})


def test_the_network_is_asked_for_only_with_a_vpc() -> None:
    role = Role("ec2:CreateNetworkInterface")
    ask_for_container(role, SCOPE, ROLE, IMAGE, METRICS)
    assert not [action for action, *_ in role.asked if action.startswith("ec2:")]


def test_without_the_image_or_the_network_it_does_not_start() -> None:
    with pytest.raises(ContainerDenied, match=f"The role '{ROLE}' does not have BatchGetImage permission for the"):
        ask_for_container(Role("ecr:BatchGetImage"), SCOPE, ROLE, IMAGE, METRICS)
    with pytest.raises(ContainerDenied, match=r"VpcConfig.*ec2:CreateNetworkInterface on resource"):
        ask_for_container(Role("ec2:CreateNetworkInterface"), SCOPE, ROLE, IMAGE, METRICS, VPC)


def test_it_does_without_metrics() -> None:
    role = Role("cloudwatch:PutMetricData")
    ask_for_container(role, SCOPE, ROLE, IMAGE, METRICS)
    assert role.asked
