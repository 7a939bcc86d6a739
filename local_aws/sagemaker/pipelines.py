"""Pipelines and their versions."""

from __future__ import annotations

import time
from typing import Any

from botocore.exceptions import ClientError

from local_aws.calls import Call, Operation, Request, Response, ServiceError, page, validation_error
from local_aws.loopback import Loopback
from local_aws.sagemaker.client_tokens import ClientTokens
from local_aws.sagemaker.definition_reader import DefinitionError, parse_definition
from local_aws.sagemaker.executions import EXECUTING, STOPPING, Executions
from local_aws.sagemaker.roles import check_role
from local_aws.sagemaker.tags import Tags
from local_aws.store import Document, Scope, Store

LARGEST_DEFINITION = 1024 * 1024
_SETTINGS = ("PipelineDisplayName", "PipelineDescription", "RoleArn", "ParallelismConfiguration")
_NOT_SUPPORTED = ("SelectiveExecutionConfig", "MlflowExperimentName")


class Pipelines:
    """Creates, changes, lists and deletes pipelines.

    A pipeline's document has the members of its Describe call except the definition and the settings: those are in the
    documents of its versions. LatestVersion is the number of its newest.
    """

    def __init__(self, store: Store, tags: Tags, loopback: Loopback, executions: Executions) -> None:
        self._store = store
        self._pipelines = store.table("pipelines")
        self._versions = store.table("pipeline-versions")
        self._tokens = ClientTokens(store)
        self._tags = tags
        self._loopback = loopback
        self._executions = executions
        tags.know(self._is_ours)

    def operations(self) -> dict[str, Operation]:
        return {
            "CreatePipeline": self.create_pipeline,
            "UpdatePipeline": self.update_pipeline,
            "DescribePipeline": self.describe_pipeline,
            "ListPipelines": self.list_pipelines,
            "ListPipelineVersions": self.list_pipeline_versions,
            "DeletePipeline": self.delete_pipeline,
            "StartPipelineExecution": self.start_pipeline_execution,
            "ListPipelineExecutions": self.list_pipeline_executions,
        }

    def create_pipeline(self, call: Call, request: Request) -> Response:
        name = request["PipelineName"]
        definition = self._definition(call, request)
        if definition is None:
            raise validation_error("Give either PipelineDefinition or PipelineDefinitionS3Location.")
        self._check_role(call, name, request["RoleArn"])

        def create() -> Response:
            if self._pipelines.get(call.scope, name) is not None:
                raise validation_error(
                    "Pipeline names must be unique within an AWS account and region."
                    f" Pipeline with name ({name}) already exists."
                )
            arn, now = call.arn(f"pipeline/{name}"), time.time()
            self._tags.set_on_create(call, arn, request.get("Tags"))
            self._pipelines.put(
                call.scope,
                name,
                {
                    "PipelineArn": arn,
                    "PipelineName": name,
                    "PipelineStatus": "Active",
                    "CreationTime": now,
                    "LastModifiedTime": now,
                    "CreatedBy": call.user_context,
                    "LastModifiedBy": call.user_context,
                    "LatestVersion": 1,
                },
            )
            self._put_version(call, name, 1, {"PipelineDisplayName": name} | _settings(request), definition)
            return {"PipelineArn": arn}

        return self._tokens.once(call, "CreatePipeline", request, create)

    def update_pipeline(self, call: Call, request: Request) -> Response:
        """Make a new version: of what is given, the rest as in the version before."""
        self._require(call, request["PipelineName"])
        definition = self._definition(call, request)
        if "RoleArn" in request:
            self._check_role(call, request["PipelineName"], request["RoleArn"])
        with self._store.lock:
            pipeline = self._require(call, request["PipelineName"])  # it may be another one, or none, by now
            latest = self._version(call.scope, pipeline)
            number = pipeline["LatestVersion"] + 1
            settings = _settings(latest) | _settings(request)
            self._put_version(
                call, pipeline["PipelineName"], number, settings, definition or latest["PipelineDefinition"]
            )
            changes = {"LatestVersion": number, "LastModifiedTime": time.time(), "LastModifiedBy": call.user_context}
            self._pipelines.put(call.scope, pipeline["PipelineName"], pipeline | changes)
        return {"PipelineArn": pipeline["PipelineArn"], "PipelineVersionId": number}

    def describe_pipeline(self, call: Call, request: Request) -> Response:
        pipeline = self._require(call, request["PipelineName"])
        version = self._version(call.scope, pipeline, request.get("PipelineVersionId"))
        described = {key: value for key, value in pipeline.items() if key != "LatestVersion"}
        return described | {key: version[key] for key in ("PipelineDefinition", *_SETTINGS) if key in version}

    def list_pipelines(self, call: Call, request: Request) -> Response:
        """Those whose name has the prefix, the newest first unless the request sorts otherwise."""
        prefix = request.get("PipelineNamePrefix", "")
        found = [item for item in self._pipelines.values(call.scope) if item["PipelineName"].startswith(prefix)]
        key = "PipelineName" if request.get("SortBy") == "Name" else "CreationTime"
        shown, more = _page(found, request, key, "PipelineName")
        return {"PipelineSummaries": [self._summary(call.scope, item) for item in shown], **more}

    def list_pipeline_versions(self, call: Call, request: Request) -> Response:
        """A pipeline's versions, the newest first unless SortOrder says otherwise."""
        pipeline = self._require(call, request["PipelineName"])
        versions = self._versions_of(call.scope, pipeline["PipelineName"])
        shown, more = _page(versions, request, "PipelineVersionId", "PipelineVersionId")
        last_executions = {
            execution["PipelineVersionId"]: execution["PipelineExecutionArn"]
            for execution in self._executions.of_pipeline(call.scope, pipeline["PipelineName"])
        }
        summaries = []
        for version in shown:
            summary = {"PipelineArn": pipeline["PipelineArn"]}
            summary |= {key: version[key] for key in ("PipelineVersionId", "CreationTime")}
            if version["PipelineVersionId"] in last_executions:
                summary["LastExecutionPipelineExecutionArn"] = last_executions[version["PipelineVersionId"]]
            summaries.append(summary)
        return {"PipelineVersionSummaries": summaries, **more}

    def delete_pipeline(self, call: Call, request: Request) -> Response:
        """Delete a pipeline with its versions and executions.

        Raises:
            ServiceError: ConflictException while an execution is under way.
        """

        def delete() -> Response:
            pipeline = self._require(call, request["PipelineName"])
            name = pipeline["PipelineName"]
            for execution in self._executions.of_pipeline(call.scope, name):
                if execution["PipelineExecutionStatus"] in (EXECUTING, STOPPING):
                    raise ServiceError(
                        "ConflictException",
                        f"Pipeline '{name}' has an execution that is {execution['PipelineExecutionStatus']}:"
                        f" {execution['PipelineExecutionArn']}. Stop it, then delete the pipeline.",
                    )
            self._executions.forget(call.scope, name)
            for version in self._versions_of(call.scope, name):
                self._versions.delete(call.scope, f"{name}/{version['PipelineVersionId']}")
            self._pipelines.delete(call.scope, name)
            self._tags.forget(call.scope, pipeline["PipelineArn"])
            return {"PipelineArn": pipeline["PipelineArn"]}

        return self._tokens.once(call, "DeletePipeline", request, delete)

    def start_pipeline_execution(self, call: Call, request: Request) -> Response:
        """Begin an execution of the latest version, or of PipelineVersionId."""
        for member in _NOT_SUPPORTED:
            if member in request:
                raise validation_error(f"{member} is not supported by local_aws: leave it out.")
        pipeline = self._require(call, request["PipelineName"])
        asked = self._version(call.scope, pipeline, request.get("PipelineVersionId"))
        self._check_role(call, pipeline["PipelineName"], asked["RoleArn"])

        def start() -> Response:
            # While IAM was asked it may have been updated, or deleted and made anew.
            pipeline = self._require(call, request["PipelineName"])
            version = self._version(call.scope, pipeline, asked["PipelineVersionId"])
            arn = self._executions.start(call, pipeline, version, request)
            self._pipelines.put(call.scope, pipeline["PipelineName"], pipeline | {"LastRunTime": time.time()})
            return {"PipelineExecutionArn": arn}

        return self._tokens.once(call, "StartPipelineExecution", request, start)

    def list_pipeline_executions(self, call: Call, request: Request) -> Response:
        """A pipeline's executions, the newest first unless the request sorts otherwise."""
        pipeline = self._require(call, request["PipelineName"])
        executions = self._executions.of_pipeline(call.scope, pipeline["PipelineName"])
        shown, more = _page(executions, request, request.get("SortBy", "CreationTime"), "PipelineExecutionArn")
        members = {
            "PipelineExecutionArn": "PipelineExecutionArn",
            "StartTime": "CreationTime",
            "PipelineExecutionStatus": "PipelineExecutionStatus",
            "PipelineExecutionDescription": "PipelineExecutionDescription",
            "PipelineExecutionDisplayName": "PipelineExecutionDisplayName",
            "PipelineExecutionFailureReason": "FailureReason",
        }
        summaries = [{key: item[source] for key, source in members.items() if source in item} for item in shown]
        return {"PipelineExecutionSummaries": summaries, **more}

    def _check_role(self, call: Call, name_or_arn: str, role: str) -> None:
        # It is assumed for executions: AWS's example of a condition on aws:SourceArn is ...:pipeline/<name>/*.
        name = name_or_arn.rpartition("/")[2]
        check_role(self._loopback, call.scope, role, call.arn(f"pipeline/{name}/execution/any"))

    def _is_ours(self, scope: Scope, arn: str) -> bool:
        pipeline = self._pipelines.get(scope, arn.rpartition(":pipeline/")[2])
        return pipeline is not None and pipeline["PipelineArn"] == arn

    def _require(self, call: Call, name_or_arn: str) -> Document:
        prefix = call.arn("pipeline/")
        pipeline = self._pipelines.get(call.scope, name_or_arn.removeprefix(prefix))
        if pipeline is None:
            arn = name_or_arn if name_or_arn.startswith("arn:") else prefix + name_or_arn
            raise ServiceError("ResourceNotFound", f"Pipeline '{arn}' does not exist.")
        return pipeline

    def _version(self, scope: Scope, pipeline: Document, number: int | None = None) -> Document:
        """A version of a pipeline; the latest unless a number is given."""
        number = number or pipeline["LatestVersion"]
        version = self._versions.get(scope, f"{pipeline['PipelineName']}/{number}")
        if version is None:
            raise ServiceError(
                "ResourceNotFound",
                f"Pipeline '{pipeline['PipelineArn']}' has no version {number}; its latest is"
                f" {pipeline['LatestVersion']}.",
            )
        return version

    def _versions_of(self, scope: Scope, name: str) -> list[Document]:
        return [version for version in self._versions.values(scope) if version["PipelineName"] == name]

    def _put_version(self, call: Call, name: str, number: int, settings: Document, definition: str) -> None:
        self._versions.put(
            call.scope,
            f"{name}/{number}",
            settings
            | {
                "PipelineName": name,
                "PipelineVersionId": number,
                "PipelineDefinition": definition,
                "CreationTime": time.time(),
            },
        )

    def _summary(self, scope: Scope, pipeline: Document) -> Document:
        version = self._version(scope, pipeline)
        summary = {key: pipeline[key] for key in ("PipelineArn", "PipelineName", "CreationTime", "LastModifiedTime")}
        summary |= {
            key: version[key] for key in ("PipelineDisplayName", "PipelineDescription", "RoleArn") if key in version
        }
        if "LastRunTime" in pipeline:
            summary["LastExecutionTime"] = pipeline["LastRunTime"]
        return summary

    def _definition(self, call: Call, request: Request) -> str | None:
        """The checked definition of a request, inline or from S3; None when it has none."""
        location = request.get("PipelineDefinitionS3Location")
        definition = request.get("PipelineDefinition")
        if location is not None and definition is not None:
            raise validation_error("Give either PipelineDefinition or PipelineDefinitionS3Location, not both.")
        if location is not None:
            definition = self._from_s3(call, location)
        if definition is not None:
            try:
                parse_definition(definition)
            except DefinitionError as error:
                raise validation_error(str(error)) from error
        return definition

    def _from_s3(self, call: Call, location: dict[str, str]) -> str:
        uri = f"s3://{location['Bucket']}/{location['ObjectKey']}"
        version = {"VersionId": location["VersionId"]} if "VersionId" in location else {}
        try:
            answer = self._loopback.client("s3", call.scope).get_object(
                Bucket=location["Bucket"], Key=location["ObjectKey"], **version
            )
        except ClientError as error:
            code = error.response["Error"]["Code"]
            raise validation_error(f"PipelineDefinitionS3Location {uri} cannot be read: {code}.") from error
        body = answer["Body"].read(LARGEST_DEFINITION + 1)
        if len(body) > LARGEST_DEFINITION:
            raise validation_error(f"The pipeline definition at {uri} is larger than {LARGEST_DEFINITION} bytes.")
        try:
            return body.decode()
        except UnicodeDecodeError as error:
            raise validation_error(f"The pipeline definition at {uri} is not UTF-8 text.") from error


def _settings(document: Document) -> Document:
    return {key: document[key] for key in _SETTINGS if key in document}


def _page(items: list[Document], request: Request, key: str, name: str) -> tuple[list[Document], dict[str, str]]:
    """A page of a list operation, after its filters by creation time, in its order (by default descending).

    Args:
        key: the member to sort by.
        name: the member that is different for each, for those that are alike in `key`.
    """
    after, before = request.get("CreatedAfter"), request.get("CreatedBefore")
    found = [
        item
        for item in items
        if (after is None or item["CreationTime"] > float(after))
        and (before is None or item["CreationTime"] < float(before))
    ]

    def position(item: Document) -> list[Any]:
        return [item[key], item[name]]

    found.sort(key=position, reverse=request.get("SortOrder") != "Ascending")
    return page(found, request, position=position)
