"""The linter that looks for "*" finds one, however it is written."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lint_resources import definition, findings, policies, too_wide
from tests.servicecatalog.conftest import ROOT

MODEL = "arn:aws:sagemaker:eu-west-1:111122223333:model/churn-*"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return definition()


def faults(services: dict[str, Any], **statement: Any) -> list[str]:
    written = {"Sid": "Planted", "Effect": "Allow", **statement}
    return [fault for sid, fault in too_wide({"Statement": [written]}, services) if sid == "Planted"]


@pytest.mark.parametrize(
    "resource",
    ["*", ["*"], [MODEL, "*"], "**", "*?", "arn:*", "arn:aws:sagemaker:*", "arn:aws:sagemaker:*:*:*", "arn:aws:s3:::*"],
    ids=str,
)
def test_everything_is_found_however_it_is_written(services, resource):
    assert faults(services, Action="sagemaker:CreateModel", Resource=resource) == [
        "sagemaker:CreateModel on *: name a resource (model)"
    ]


def test_an_action_that_knows_no_resource_may_name_none(services):
    assert faults(services, Action=["sagemaker:ListModels", "ecr:GetAuthorizationToken"], Resource="*") == []
    assert faults(services, Action="sagemaker:CreateModel", Resource=MODEL) == []


def test_what_cannot_be_right_is_found(services):
    assert faults(services, Action="sagemaker:MakeModel", Resource="*") == [
        "sagemaker:MakeModel: AWS knows no such action"
    ]
    assert faults(services, Action="*", Resource="*") == ["*: AWS knows no such action"]
    assert len(faults(services, Action="sagemaker:Create*", Resource="*")) > 50
    for statement in ({"NotAction": "iam:*", "Resource": "*"}, {"Action": "s3:GetObject", "NotResource": MODEL}):
        assert len(faults(services, **statement)) == 1


OURS = sorted([*(ROOT / "servicecatalog").glob("*-policy*.json"), *(ROOT / "servicecatalog").glob("p*.yaml")])


def test_our_policies_have_no_star_without_a_reason_and_no_reason_without_a_star(services):
    assert {"platform.yaml", "portfolio.yaml", "product.yaml"} <= {path.name for path in OURS}
    assert findings(OURS, services) == []


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_a_star_that_is_planted_in_our_policies_is_found(services, path):
    for document in policies(path).values():
        planted = {"Effect": "Allow", "Action": "sagemaker:DeleteEndpoint", "Resource": "*"}
        found = [fault for _, fault in too_wide({"Statement": [planted, *document["Statement"]]}, services)]
        assert found[0] == "sagemaker:DeleteEndpoint on *: name a resource (endpoint)"
