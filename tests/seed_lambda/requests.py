"""Requests as CloudFormation sends them."""

from __future__ import annotations

from typing import Any

ACCOUNT, REGION = "123456789012", "eu-central-1"
_STACK_NAME = f"SC-{ACCOUNT}-pp-abcdefghijklm"
STACK = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{_STACK_NAME}/0b1c2d3e-0000-4000-8000-000000000001"
OTHER_STACK = STACK[:-1] + "2"
VERSION = "1.0.0-0123456789ab"
TOKEN = "ghp_" + "A1b2C3d4" * 4
PROJECT = {
    "ServiceToken": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:modelyard-seed",
    "ServiceTimeout": "3000",
    "Project": "churn",
    "ProjectId": "p-abcdefghijkl",
    "Description": "Who leaves within a month",
    "ProblemType": "binary_classification",
    "Scenario": "baseline",
    "ArtifactBucket": f"modelyard-artifacts-{ACCOUNT}-{REGION}",
    "PipelineRole": "churn-pipeline-{stage}",
    "ModelRole": "churn-model",
    "GitHost": "codecommit",
    "GitOwner": "none",
    "Repository": "churn",
    "InitialContent": "template",
    "TemplateVersion": "latest",
    "OnDelete": "keep",
    "DataBuckets": "",
    "KmsKeyArns": "",
    "CiVariables": {"AWS_REGION": REGION, "MODELYARD_PROJECT": "churn"},
}
TEMPLATE = {
    "ServiceToken": PROJECT["ServiceToken"],
    "ServiceTimeout": "3000",
    "TemplateVersion": VERSION,
    "Repository": "modelyard-template",
}


def project(**changes: Any) -> dict[str, Any]:
    """The properties of a project; None takes one out."""
    return {name: value for name, value in (PROJECT | changes).items() if value is not None}


def event(request_type: str, properties: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A request of a project's resource, or of the template's when the properties are its."""
    resource = "Custom::ModelyardProject" if "Project" in properties else "Custom::ModelyardTemplate"
    name = f"modelyard-project/{properties['Project']}" if "Project" in properties else "modelyard-template/x"
    whole = {
        "RequestType": request_type,
        "ResponseURL": "https://cloudformation.example.com/answer?signature=secret",
        "StackId": STACK,
        "RequestId": "5d478078-13e9-baf0-464a-7ef285ecc786",
        "ResourceType": resource,
        "LogicalResourceId": "Seed",
        "ResourceProperties": properties,
    }
    if request_type != "Create":
        whole["PhysicalResourceId"] = name
    return whole | changes
