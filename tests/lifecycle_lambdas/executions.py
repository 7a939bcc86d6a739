"""An execution of a project's pipeline that has really evaluated and registered, and the commit that it is of."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from local_aws import LocalAWS
from tests.local_aws.job_requests import IMAGE, Workshop
from tests.local_aws.waiting import wait_for

COMMIT, TREE = "0a1b2c3d" * 5, "4e5f6a7b" * 5
EXECUTION_ID = {"Get": "Execution.PipelineExecutionId"}
EVALUATE = """
import json
from pathlib import Path

folder = Path("/opt/ml/processing/evaluation")
kind = "binary_classification"
constraint = {"threshold": 0.8, "comparison_operator": "LessThanThreshold"}
files = {
    "evaluation.json": {f"{kind}_metrics": {"auc": {"value": 0.91}}},
    "constraints.json": {f"{kind}_constraints": {"auc": constraint}},
}
for name, content in files.items():
    (folder / name).write_text(json.dumps(content))
"""


def metadata(**more: Any) -> dict[str, Any]:
    found = {
        "git.commit": COMMIT,
        "git.tree": TREE,
        "git.branch": "dev",
        "problem-type": "binary_classification",
        "metric.main": "auc",
        "metric.threshold": {"Get": "Parameters.MinimumAuc"},
    }
    return found | {name.replace("__", "."): value for name, value in more.items()}


def registering(branch: str) -> str:
    """The definition of a pipeline of that branch, which only registers."""
    specification = {
        "Containers": [{"Image": IMAGE, "ModelDataUrl": "s3://models/model.tar.gz"}],
        "SupportedContentTypes": ["text/csv"],
        "SupportedResponseMIMETypes": ["text/csv"],
    }
    arguments = {
        "ModelPackageGroupName": "churn-feature",
        "InferenceSpecification": specification,
        "ModelApprovalStatus": "PendingManualApproval",
        "CustomerMetadataProperties": metadata(git__branch=branch, metric__threshold="0.8"),
    }
    steps = [{"Name": "Register", "Type": "RegisterModel", "Arguments": arguments}]
    return json.dumps({"Version": "2020-12-01", "Metadata": {}, "Parameters": [], "Steps": steps})


@dataclass(frozen=True)
class Commented:
    """A repository of CodeCommit's with a first commit and one after it."""

    client: Any
    arn: str
    first: str
    second: str

    def comments(self, commit: str, before: str | None = None) -> list[str]:
        name = self.arn.rpartition(":")[2]
        compared = {"repositoryName": name, "afterCommitId": commit} | ({"beforeCommitId": before} if before else {})
        found = self.client.get_comments_for_compared_commit(**compared)["commentsForComparedCommitData"]
        return [comment["content"] for each in found for comment in each["comments"]]


def training_workshop(aws: LocalAWS) -> Workshop:
    """A workshop whose role may do all that a pipeline does."""
    made = Workshop(aws)
    rights = {"Effect": "Allow", "Action": ["sagemaker:*", "s3:*", "logs:*", "ecr:*"], "Resource": "*"}
    passing = {"Effect": "Allow", "Action": "iam:PassRole", "Resource": made.role}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [rights, passing]})
    aws.client("iam").put_role_policy(RoleName=made.bucket, PolicyName="all", PolicyDocument=policy)
    return made


def commented(clients: Callable[[str], Any], tags: dict[str, str]) -> Commented:
    client, name = clients("codecommit"), f"status-{uuid.uuid4().hex[:8]}"
    made = client.create_repository(repositoryName=name, tags=tags)["repositoryMetadata"]
    commits: list[str] = []
    for text in (b"one", b"two"):
        put = [{"filePath": "readme.md", "fileContent": text}]
        parent = {"parentCommitId": commits[-1]} if commits else {}
        answer = client.create_commit(repositoryName=name, branchName="dev", putFiles=put, **parent)
        commits.append(answer["commitId"])
    return Commented(client, made["Arn"], *commits)


def trained(workshop: Workshop, project: str, repository: str, commit: str, bucket: str = "") -> str:
    """The execution of a project's pipeline that has evaluated and registered; its ARN.

    Args:
        workshop: whose role the pipeline and its jobs have.
        repository: what the group's tag says.
        bucket: of what the pipeline writes; the workshop's unless given.
    """
    sagemaker, name = workshop.sagemaker, f"{project}-dev"
    tags = {"modelyard:project": project, "modelyard:stage": "dev"}
    group = tags | {"modelyard:repository": repository}
    sagemaker.create_model_package_group(ModelPackageGroupName=name, Tags=_tags(group))
    asked = workshop.processing_request(EVALUATE, outputs=("evaluation",))
    place = [f"s3://{bucket or workshop.bucket}/{project}/dev/{name}", EXECUTION_ID, "evaluate", "evaluation"]
    asked["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"] = {"Std:Join": {"On": "/", "Values": place}}
    del asked["ProcessingJobName"]
    specification = {
        "Containers": [{"Image": asked["AppSpecification"]["ImageUri"], "ModelDataUrl": "s3://models/model.tar.gz"}],
        "SupportedContentTypes": ["text/csv"],
        "SupportedResponseMIMETypes": ["text/csv"],
    }
    registering = {
        "ModelPackageGroupName": name,
        "InferenceSpecification": specification,
        "ModelApprovalStatus": "PendingManualApproval",
        "CustomerMetadataProperties": metadata(git__commit=commit, metric__threshold="0.8"),
    }
    steps = [
        {"Name": "Evaluate", "Type": "Processing", "Arguments": asked},
        {"Name": "Register", "Type": "RegisterModel", "Arguments": registering, "DependsOn": ["Evaluate"]},
    ]
    text = json.dumps({"Version": "2020-12-01", "Metadata": {}, "Parameters": [], "Steps": steps})
    sagemaker.create_pipeline(PipelineName=name, PipelineDefinition=text, RoleArn=workshop.role, Tags=_tags(tags))
    arn = sagemaker.start_pipeline_execution(PipelineName=name)["PipelineExecutionArn"]

    def ended() -> bool:
        found = sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
        assert found["PipelineExecutionStatus"] != "Failed", found
        return found["PipelineExecutionStatus"] == "Succeeded"

    wait_for(ended)
    return arn


def _tags(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
