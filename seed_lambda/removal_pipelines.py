"""The project's pipelines, and their executions: stopped, awaited, deleted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from seed_lambda.aws_calls import found, is_gone, is_missing, tags
from seed_lambda.context import Context

RUNNING = "Executing"
STOPPING = "Stopping"


class Pipelines:
    """Pipelines `<project>-dev` and `<project>-feature-...` that carry the project's tag.

    Two projects cannot have the same pipeline's name: a project's name has no -feature in it, and whose
    `<project>-dev` is, the tag says.
    """

    def __init__(self, context: Context, project: str) -> None:
        self._context = context
        self._project = project
        self._sagemaker = context.client("sagemaker")

    def take_away(self) -> list[str]:
        """Stop what runs, delete what does not; answers what is left, for people.

        Raises:
            ClientError: AWS refused.
        """
        left = []
        for name in self._names():
            running = list(self._running(name))
            for execution, status in running:
                if status == RUNNING:
                    self._stop(execution)
            if running or not self._delete(name):
                left.append(f"pipeline {name} ({len(running) or 'new'} executions)")
        return left

    def _names(self) -> list[str]:
        """The project's pipelines, the dev branch's first."""
        dev = found(self._sagemaker.describe_pipeline, PipelineName=f"{self._project}-dev")
        candidates = [] if dev is None else [(dev["PipelineName"], dev["PipelineArn"])]
        # SageMaker takes no prefix that ends with a hyphen
        pages = self._sagemaker.get_paginator("list_pipelines").paginate(
            PipelineNamePrefix=f"{self._project}-feature", PaginationConfig={"PageSize": 100}
        )
        candidates += [
            (one["PipelineName"], one["PipelineArn"])
            for page in pages
            for one in page["PipelineSummaries"]
            if one["PipelineName"].startswith(f"{self._project}-feature-")
        ]
        return [name for name, arn in candidates if tags(self._context, arn).get("modelyard:project") == self._project]

    def _running(self, name: str) -> Iterator[tuple[str, str]]:
        """ARN and status of the executions that are under way."""
        pages = self._sagemaker.get_paginator("list_pipeline_executions").paginate(
            PipelineName=name, PaginationConfig={"PageSize": 100}
        )
        try:
            for page in pages:
                for execution in page["PipelineExecutionSummaries"]:
                    if execution["PipelineExecutionStatus"] in (RUNNING, STOPPING):
                        yield execution["PipelineExecutionArn"], execution["PipelineExecutionStatus"]
        except ClientError as error:
            if not is_missing(error):
                raise

    def _stop(self, execution: str) -> None:
        """One that has ended at this very moment is no error."""
        self._context.still_current()
        try:
            self._sagemaker.stop_pipeline_execution(
                PipelineExecutionArn=execution, ClientRequestToken=self._token("stop", execution)
            )
        except ClientError as error:
            if not is_missing(error) and not _is_in_the_way(error):
                raise
        self._context.log("stopped an execution", execution=execution)

    def _delete(self, name: str) -> bool:
        """False when an execution began meanwhile."""
        self._context.still_current()
        try:
            self._sagemaker.delete_pipeline(PipelineName=name, ClientRequestToken=self._token("delete", name))
        except ClientError as error:
            if _is_in_the_way(error):
                return False
            if not is_gone(error, lambda: found(self._sagemaker.describe_pipeline, PipelineName=name) is not None):
                raise
        self._context.log("deleted a pipeline", pipeline=name)
        return True

    def _token(self, *parts: str) -> str:
        """The same for the same call of the same request, so that SageMaker takes a repeated one for one."""
        return hashlib.sha256("/".join((self._context.request.request_id, *parts)).encode()).hexdigest()


def _is_in_the_way(error: ClientError) -> bool:
    """Whether SageMaker says that an execution's state does not allow it now.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DeletePipeline.html
    """
    details: dict[str, Any] = error.response["Error"]
    return details["Code"] in ("ConflictException", "ValidationException") and "execution" in details["Message"].lower()
