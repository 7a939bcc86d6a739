"""AWS as far as the seed function calls it, in memory: every request is checked against botocore's service model.

That it answers as local_aws does where the function looks: test_simulated_services.py.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import botocore.session
from botocore import xform_name
from botocore.exceptions import ClientError

from local_aws.request_checks import check_request, service_model
from tests.seed_lambda.requests import ACCOUNT, REGION, VERSION
from tests.simulated_clients import Answer, Client, Request

CODE_BUCKET = f"modelyard-platform-{ACCOUNT}-{REGION}"
QUEUE_URL = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/modelyard-events"
SECRET_ARN = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:modelyard/git-AbCdEf"
PAGE = 100  # versions of a group that one list call answers


class PagedClient(Client):
    """A list is a call for each page of it."""

    def get_paginator(self, method: str) -> Any:
        members = _pages(self._service)[self._operations[method]]["result_key"]
        member = members if isinstance(members, str) else members[0]
        return Pages(getattr(self, method), member, 10 if self._service == "sagemaker" else 100)


@dataclass
class Pages:
    """
    Args:
        member: of an answer that holds the list.
        usual: how many a page has, unless it is said (SageMaker's default is 10).
    """

    call: Callable[..., Answer]
    member: str
    usual: int

    def paginate(self, PaginationConfig: dict[str, int] | None = None, **request: Any) -> Iterator[Answer]:
        size, start = (PaginationConfig or {}).get("PageSize", self.usual), 0
        while True:
            answer = self.call(**request)
            yield answer | {self.member: answer[self.member][start : start + size]}
            start += size
            if start >= len(answer[self.member]):
                return


@cache
def _pages(service: str) -> Any:
    return botocore.session.get_session().get_paginator_model(service)._paginator_config


@dataclass
class SimulatedAWS:
    """
    Args:
        resource_status: of the stack's resource that the function serves; stack_status: of the stack.
        resource_age: seconds since the resource has that status.
        stack_events: the statuses that the stack itself has had; stack_outputs: its outputs.
        around: what happens to a call: it is given what makes it, and answers or raises.
    """

    token: str = ""
    resource_status: str = "CREATE_IN_PROGRESS"
    stack_status: str = "CREATE_IN_PROGRESS"
    resource_age: Callable[[], float] = lambda: 1.0
    stack_events: tuple[str, ...] = ("CREATE_IN_PROGRESS", "CREATE_COMPLETE")
    stack_outputs: dict[str, str] = field(default_factory=dict)
    around: Callable[[str, str, Callable[[], Answer]], Answer] = lambda service, operation, call: call()
    calls: list[tuple[str, str]] = field(default_factory=list)
    parameters: dict[str, str] = field(default_factory=dict)
    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)  # name to its versions' ARNs
    most_groups: int = 250
    pipelines: dict[str, dict[str, str]] = field(default_factory=dict)  # name to its executions' statuses, by ARN
    endpoints: dict[str, str] = field(default_factory=dict)  # name to status
    models: set[str] = field(default_factory=set)
    configs: set[str] = field(default_factory=set)
    alarms: set[str] = field(default_factory=set)
    dashboards: set[str] = field(default_factory=set)
    schedules: set[str] = field(default_factory=set)
    schedule_roles: dict[str, str] = field(default_factory=dict)  # of those that the platform's role does not fire
    repositories: dict[str, Answer] = field(default_factory=dict)  # CodeCommit's, by name
    commits: dict[tuple[str, str], Answer] = field(default_factory=dict)  # by repository and id
    on_message: Callable[[str], None] = lambda body: None

    def __call__(self, service: str) -> Any:
        return PagedClient(self.call, service)

    def call(self, service: str, operation: str, request: Request) -> Answer:
        check_request(service_model(service).operation_model(operation), request)
        self.calls.append((service, operation))
        name = f"{service}_{xform_name(operation)}".replace("-", "_")
        method = getattr(self, name, None) or getattr(self, xform_name(operation))
        return self.around(service, operation, lambda: dict(method(**request) or {}))

    # --- CloudFormation, SSM, S3, Secrets Manager, SQS

    def describe_stack_resource(self, StackName: str, LogicalResourceId: str) -> Answer:
        since = datetime.now(UTC) - timedelta(seconds=self.resource_age())
        return {"StackResourceDetail": {"ResourceStatus": self.resource_status, "LastUpdatedTimestamp": since}}

    def describe_stacks(self, StackName: str) -> Answer:
        outputs = [{"OutputKey": key, "OutputValue": value} for key, value in self.stack_outputs.items()]
        return {"Stacks": [{"StackName": StackName, "StackStatus": self.stack_status, "Outputs": outputs}]}

    def describe_stack_events(self, StackName: str) -> Answer:
        events = [{"PhysicalResourceId": StackName, "ResourceStatus": status} for status in self.stack_events]
        return {"StackEvents": [*events, {"PhysicalResourceId": "churn-model", "ResourceStatus": "CREATE_COMPLETE"}]}

    def get_parameters(self, Names: list[str]) -> Answer:
        there = [name for name in Names if name in self.parameters]
        return {
            "Parameters": [{"Name": name, "Value": self.parameters[name]} for name in there],
            "InvalidParameters": [name for name in Names if name not in self.parameters],
        }

    def get_object(self, Bucket: str, Key: str) -> Answer:
        if (Bucket, Key) not in self.objects:
            raise refusal("GetObject", "NoSuchKey", "The specified key does not exist.")
        return {"Body": io.BytesIO(self.objects[Bucket, Key])}

    def get_secret_value(self, SecretId: str) -> Answer:
        if not self.token:
            raise refusal("GetSecretValue", "ResourceNotFoundException", "Secrets Manager can't find the secret.")
        return {"SecretString": self.token}

    def send_message(self, QueueUrl: str, MessageBody: str) -> Answer:
        self.sent.append(MessageBody)
        self.on_message(MessageBody)
        return {"MessageId": str(len(self.sent))}

    # --- SageMaker: tags, groups, versions

    def list_tags(self, ResourceArn: str) -> Answer:
        return {"Tags": [{"Key": key, "Value": value} for key, value in self.tags.get(ResourceArn, {}).items()]}

    def add_tags(self, ResourceArn: str, Tags: list[dict[str, str]]) -> Answer:
        self.tags.setdefault(ResourceArn, {}).update(_map(Tags))
        return {"Tags": Tags}

    def create_model_package_group(
        self, ModelPackageGroupName: str, Tags: list[dict[str, str]], ModelPackageGroupDescription: str = ""
    ) -> Answer:
        if ModelPackageGroupName in self.groups:
            raise validation(f"Model Package Group already exists: {group_arn(ModelPackageGroupName)}")
        if len(self.groups) >= self.most_groups:
            text = f"The account-level service limit is {self.most_groups}."
            raise refusal("CreateModelPackageGroup", "ResourceLimitExceeded", text)
        self.groups[ModelPackageGroupName] = []
        self.tags[group_arn(ModelPackageGroupName)] = _map(Tags)
        return {"ModelPackageGroupArn": group_arn(ModelPackageGroupName)}

    def describe_model_package_group(self, ModelPackageGroupName: str) -> Answer:
        self._group(ModelPackageGroupName)
        return {
            "ModelPackageGroupName": ModelPackageGroupName,
            "ModelPackageGroupArn": group_arn(ModelPackageGroupName),
        }

    def delete_model_package_group(self, ModelPackageGroupName: str) -> None:
        if self._group(ModelPackageGroupName):
            raise refusal("DeleteModelPackageGroup", "ConflictException", "it contains model packages")
        del self.groups[ModelPackageGroupName]
        del self.tags[group_arn(ModelPackageGroupName)]

    def list_model_packages(self, ModelPackageGroupName: str, MaxResults: int = 10) -> Answer:
        versions = self._group(ModelPackageGroupName)[:MaxResults]
        return {"ModelPackageSummaryList": [{"ModelPackageArn": arn} for arn in versions]}

    def delete_model_package(self, ModelPackageName: str) -> None:
        group = ModelPackageName.split("/")[-2]
        if ModelPackageName not in self.groups.get(group, []):
            raise validation(f"ModelPackage {ModelPackageName} does not exist.")
        self.groups[group].remove(ModelPackageName)

    def _group(self, name: str) -> list[str]:
        if name not in self.groups:
            raise validation(f"ModelPackageGroup {group_arn(name)} does not exist.")
        return self.groups[name]

    # --- SageMaker: pipelines

    def describe_pipeline(self, PipelineName: str) -> Answer:
        self._pipeline(PipelineName)
        return {"PipelineName": PipelineName, "PipelineArn": arn("sagemaker", f"pipeline/{PipelineName}")}

    def list_pipelines(self, PipelineNamePrefix: str) -> Answer:
        names = [name for name in self.pipelines if name.startswith(PipelineNamePrefix)]
        return {"PipelineSummaries": [self.describe_pipeline(name) for name in names]}

    def list_pipeline_executions(self, PipelineName: str) -> Answer:
        executions = self._pipeline(PipelineName)
        return {
            "PipelineExecutionSummaries": [
                {"PipelineExecutionArn": execution, "PipelineExecutionStatus": status}
                for execution, status in executions.items()
            ]
        }

    def stop_pipeline_execution(self, PipelineExecutionArn: str, ClientRequestToken: str) -> Answer:
        for executions in self.pipelines.values():
            if PipelineExecutionArn in executions:
                if executions[PipelineExecutionArn] != "Executing":
                    text = f"Pipeline execution {PipelineExecutionArn} is {executions[PipelineExecutionArn]}"
                    raise refusal("StopPipelineExecution", "ConflictException", text)
                executions[PipelineExecutionArn] = "Stopping"
        return {"PipelineExecutionArn": PipelineExecutionArn}

    def delete_pipeline(self, PipelineName: str, ClientRequestToken: str) -> Answer:
        if {"Executing", "Stopping"} & set(self._pipeline(PipelineName).values()):
            raise refusal("DeletePipeline", "ConflictException", f"Pipeline '{PipelineName}' has an execution")
        del self.pipelines[PipelineName]
        return {"PipelineArn": arn("sagemaker", f"pipeline/{PipelineName}")}

    def _pipeline(self, name: str) -> dict[str, str]:
        if name not in self.pipelines:
            raise refusal("DescribePipeline", "ResourceNotFound", f"Pipeline '{name}' does not exist.")
        return self.pipelines[name]

    # --- SageMaker's endpoints, CloudWatch: read only; EventBridge Scheduler

    def describe_endpoint(self, EndpointName: str) -> Answer:
        if EndpointName not in self.endpoints:
            raise validation(f'Could not find endpoint "{EndpointName}".')
        return {
            "EndpointName": EndpointName,
            "EndpointArn": arn("sagemaker", f"endpoint/{EndpointName}"),
            "EndpointStatus": self.endpoints[EndpointName],
        }

    def list_models(self, NameContains: str) -> Answer:
        names = sorted(name for name in self.models if NameContains in name)
        return {"Models": [{"ModelName": name, "ModelArn": arn("sagemaker", f"model/{name}")} for name in names]}

    def list_endpoint_configs(self, NameContains: str) -> Answer:
        names = sorted(name for name in self.configs if NameContains in name)
        return {
            "EndpointConfigs": [
                {"EndpointConfigName": name, "EndpointConfigArn": arn("sagemaker", f"endpoint-config/{name}")}
                for name in names
            ]
        }

    def describe_alarms(self, AlarmNamePrefix: str, AlarmTypes: list[str]) -> Answer:
        names = sorted(name for name in self.alarms if name.startswith(AlarmNamePrefix))
        return {"MetricAlarms": [{"AlarmName": name, "AlarmArn": arn("cloudwatch", f"alarm:{name}")} for name in names]}

    def cloudwatch_list_tags_for_resource(self, ResourceARN: str) -> Answer:
        return self.list_tags(ResourceARN)

    def list_dashboards(self, DashboardNamePrefix: str) -> Answer:
        names = sorted(name for name in self.dashboards if name.startswith(DashboardNamePrefix))
        return {"DashboardEntries": [{"DashboardName": name} for name in names]}

    def get_schedule(self, Name: str, GroupName: str) -> Answer:
        if Name not in self.schedules:
            raise refusal("GetSchedule", "ResourceNotFoundException", f"Schedule {Name} does not exist.")
        role = self.schedule_roles.get(Name, f"modelyard/modelyard-schedule-{REGION}")
        return {
            "Name": Name,
            "GroupName": GroupName,
            "Target": {"Arn": "arn:aws:scheduler:::aws-sdk:any:any", "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/{role}"},
        }

    def delete_schedule(self, Name: str, GroupName: str) -> Answer:
        if Name not in self.schedules:
            raise refusal("DeleteSchedule", "ResourceNotFoundException", f"Schedule {Name} does not exist.")
        self.schedules.discard(Name)
        return {}

    # --- CodeCommit

    def get_repository(self, repositoryName: str) -> Answer:
        return {"repositoryMetadata": self._repository(repositoryName)["metadata"]}

    def create_repository(self, repositoryName: str, tags: dict[str, str], repositoryDescription: str = "") -> Answer:
        if repositoryName in self.repositories:
            text = f"Repository named {repositoryName} already exists"
            raise refusal("CreateRepository", "RepositoryNameExistsException", text)
        metadata = {
            "repositoryName": repositoryName,
            **({"repositoryDescription": repositoryDescription} if repositoryDescription else {}),
            "Arn": arn("codecommit", repositoryName),
            "cloneUrlHttp": f"https://git-codecommit.{REGION}.amazonaws.com/v1/repos/{repositoryName}",
        }
        self.repositories[repositoryName] = {"metadata": metadata, "branches": {}}
        self.tags[metadata["Arn"]] = dict(tags)
        return {"repositoryMetadata": metadata}

    def delete_repository(self, repositoryName: str) -> Answer:
        found = self.repositories.pop(repositoryName, None)
        return {} if found is None else {"repositoryId": repositoryName}

    def update_repository_description(self, repositoryName: str, repositoryDescription: str) -> None:
        self._repository(repositoryName)["metadata"]["repositoryDescription"] = repositoryDescription

    def update_default_branch(self, repositoryName: str, defaultBranchName: str) -> None:
        repository = self._repository(repositoryName)
        if defaultBranchName not in repository["branches"]:
            raise _no_branch("UpdateDefaultBranch", defaultBranchName)
        repository["metadata"]["defaultBranch"] = defaultBranchName

    def codecommit_list_tags_for_resource(self, resourceArn: str) -> Answer:
        return {"tags": self.tags.get(resourceArn, {})}

    def tag_resource(self, resourceArn: str, tags: dict[str, str]) -> None:
        self.tags.setdefault(resourceArn, {}).update(tags)

    def list_branches(self, repositoryName: str) -> Answer:
        return {"branches": sorted(self._repository(repositoryName)["branches"])}

    def get_branch(self, repositoryName: str, branchName: str) -> Answer:
        branches = self._repository(repositoryName)["branches"]
        if branchName not in branches:
            raise _no_branch("GetBranch", branchName)
        return {"branch": {"branchName": branchName, "commitId": branches[branchName]}}

    def create_branch(self, repositoryName: str, branchName: str, commitId: str) -> None:
        branches = self._repository(repositoryName)["branches"]
        if branchName in branches:
            raise refusal("CreateBranch", "BranchNameExistsException", f"Branch {branchName} already exists")
        branches[branchName] = commitId

    def create_commit(
        self,
        repositoryName: str,
        branchName: str,
        putFiles: list[Answer],
        authorName: str,
        email: str,
        commitMessage: str,
        parentCommitId: str | None = None,
        deleteFiles: list[Answer] | None = None,
    ) -> Answer:
        repository = self._repository(repositoryName)
        there = repository["branches"].get(branchName)
        if there is not None and parentCommitId is None:
            raise refusal("CreateCommit", "ParentCommitIdRequiredException", "A parent commit ID is required")
        if parentCommitId is not None and (repositoryName, parentCommitId) not in self.commits:
            raise refusal("CreateCommit", "ParentCommitDoesNotExistException", "The parent commit does not exist")
        if there != parentCommitId:
            raise refusal("CreateCommit", "ParentCommitIdOutdatedException", "The parent commit ID is not the tip")
        files = {} if there is None else dict(self.commits[repositoryName, there]["files"])
        for gone in deleteFiles or []:
            del files[gone["filePath"]]
        files |= {file["filePath"]: (file["fileContent"], file["fileMode"]) for file in putFiles}
        if there is not None and files == self.commits[repositoryName, there]["files"]:
            raise refusal("CreateCommit", "NoChangeException", "nothing would change")
        commit = hashlib.sha1(repr((sorted(files.items()), parentCommitId)).encode(), usedforsecurity=False).hexdigest()
        self.commits[repositoryName, commit] = {
            "files": files,
            "parent": parentCommitId,
            "email": email,
            "message": commitMessage,
        }
        repository["branches"][branchName] = commit
        repository["metadata"].setdefault("defaultBranch", branchName)
        return {"commitId": commit}

    def get_commit(self, repositoryName: str, commitId: str) -> Answer:
        commit = self.commits[repositoryName, commitId]
        parents = [] if commit["parent"] is None else [commit["parent"]]
        return {"commit": {"commitId": commitId, "parents": parents, "author": {"email": commit["email"]}}}

    def get_folder(self, repositoryName: str, commitSpecifier: str, folderPath: str) -> Answer:
        at = folderPath.strip("/")
        found: dict[str, list[Answer]] = {"files": [], "symbolicLinks": [], "subFolders": []}
        below: set[str] = set()
        for path, (content, mode) in self.commits[repositoryName, commitSpecifier]["files"].items():
            folder, _, _ = path.rpartition("/")
            if folder == at:
                kind = "symbolicLinks" if mode == "SYMLINK" else "files"
                found[kind].append({"absolutePath": path, "blobId": blob_id(content), "fileMode": mode})
            elif not at or path.startswith(f"{at}/"):
                rest = path[len(at) + 1 if at else 0 :]
                below.add(f"{at}/{rest.split('/')[0]}".strip("/"))
        found["subFolders"] = [{"absolutePath": folder} for folder in sorted(below)]
        return {"commitId": commitSpecifier, "folderPath": folderPath, **found}

    def _repository(self, name: str) -> Answer:
        if name not in self.repositories:
            raise refusal("GetRepository", "RepositoryDoesNotExistException", f"{name} does not exist")
        return self.repositories[name]


def installed(token: str = "", archive: bytes = b"") -> SimulatedAWS:
    """With a published template."""
    aws = SimulatedAWS(token=token)
    aws.parameters = {
        "/modelyard/template/version": VERSION,
        "/modelyard/template/url": f"https://git-codecommit.{REGION}.amazonaws.com/v1/repos/modelyard-template",
        "/modelyard/template/commit": "c" * 40,
    }
    aws.objects[CODE_BUCKET, f"modelyard/template/{VERSION}.zip"] = archive
    return aws


def arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


def group_arn(name: str) -> str:
    return arn("sagemaker", f"model-package-group/{name}")


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def refusal(operation: str, code: str, message: str, status: int = 400) -> ClientError:
    error = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(error, operation)


def validation(message: str) -> ClientError:
    return refusal("", "ValidationException", message)


def _no_branch(operation: str, branch: str) -> ClientError:
    return refusal(operation, "BranchDoesNotExistException", f"Branch {branch} does not exist")


def _map(tags: list[dict[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}
