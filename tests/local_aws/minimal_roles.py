"""Roles that may do exactly what a test grants them, and what IAM was asked of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

from local_aws import LocalAWS
from tests.local_aws.job_requests import TRUST

NAMES = itertools.count(1)
# Action to the resources (or the resource) that it is granted on.
Grants = Mapping[str, str | list[str]]

IMAGES = "arn:aws:ecr:us-east-1:683313688378:repository/sagemaker-xgboost"
PULL: Grants = {
    "ecr:GetAuthorizationToken": "*",
    "ecr:BatchCheckLayerAvailability": IMAGES,
    "ecr:GetDownloadUrlForLayer": IMAGES,
    "ecr:BatchGetImage": IMAGES,
}
LOGS: Grants = {
    f"logs:{action}": "arn:aws:logs:*:*:log-group:/aws/sagemaker/*"
    for action in ("CreateLogGroup", "CreateLogStream", "DescribeLogStreams", "PutLogEvents")
}
# What every container of SageMaker's needs of its role, whatever it does.
CONTAINER: Grants = {**PULL, **LOGS, "cloudwatch:PutMetricData": "*"}


def data(bucket: str) -> Grants:
    """Reading inputs from a bucket and writing outputs to it."""
    objects = f"arn:aws:s3:::{bucket}/*"
    return {"s3:ListBucket": f"arn:aws:s3:::{bucket}", "s3:GetObject": objects, "s3:PutObject": objects}


def without(grants: Grants, *actions: str) -> Grants:
    """The same grants less some actions, each of which is among them."""
    assert set(actions) <= set(grants)
    return {action: resources for action, resources in grants.items() if action not in actions}


def policy(grants: Grants) -> dict[str, Any]:
    statements = [{"Effect": "Allow", "Action": action, "Resource": resources} for action, resources in grants.items()]
    return {"Version": "2012-10-17", "Statement": statements}


def make_role(aws: LocalAWS, grants: Grants, trust: Mapping[str, Any] = TRUST) -> str:
    """A role that SageMaker may assume and that may do this; its ARN."""
    iam, name = aws.client("iam"), f"minimal-{next(NAMES)}"
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    grant(aws, arn, grants)
    return str(arn)


def grant(aws: LocalAWS, role: str, grants: Grants) -> None:
    """From now on the role may do exactly this."""
    name, iam = role.rpartition("/")[2], aws.client("iam")
    if grants:
        iam.put_role_policy(RoleName=name, PolicyName="granted", PolicyDocument=json.dumps(policy(grants)))


def decisions(aws: LocalAWS, role: str, allowed: bool = True) -> list[dict[str, Any]]:
    """What IAM was asked of a role, and allowed or denied."""
    asked = aws.settings("permissions")["decisions"]
    return [each for each in asked if each["principal"] == role and each["allowed"] == allowed]


def actions(found: Iterable[Mapping[str, Any]]) -> set[str]:
    return {each["action"] for each in found}
