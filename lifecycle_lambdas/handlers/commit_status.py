"""Tells a commit how the pipeline that it was trained by goes: when an execution begins, and when it has ended.

A queue stands before it, so that what a Git host does not take comes again: after a rate limit when that has passed,
else later and later. Its answer names the messages that failed (ReportBatchItemFailures). Events only say "look again":
what is told is what AWS says of the execution now.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from botocore.exceptions import ClientError

from lifecycle_lambdas.aws_errors import is_missing
from lifecycle_lambdas.clients import Clients
from lifecycle_lambdas.commit_hosts import CodeCommit, GitHub, Later
from lifecycle_lambdas.commit_status import (
    DECIDED,
    FINAL,
    STATES,
    TRAINING_STAGES,
    UNDECIDED,
    Execution,
    Folder,
    Origin,
    Quality,
    evaluated,
    evaluation_folder,
    execution_arn,
    names_commit,
    origin_of,
    quality_of,
    status_of,
)
from lifecycle_lambdas.log import log
from lifecycle_lambdas.retries import come_again, counted, seconds_until
from lifecycle_lambdas.settings import SettingsError
from lifecycle_lambdas.tags import tags_of

FUNCTION = "commit-status"  # in metrics
FIRST_RETRY, LAST_RETRY = 30, 3600  # seconds until a failed message comes again: twice as long every time, to a limit
LONGEST_WAIT = 42_000  # seconds, of the 43,200 that SQS hides a message for at most
LARGEST_FILE = 16 * 1024**2  # bytes of a file of Evaluate's; ours have less than one megabyte


@dataclass(frozen=True)
class Surroundings:
    """
    Args:
        queue_url: the queue that the messages come from.
        codecommit, github: what tells a commit of each host.
    """

    clients: Clients
    queue_url: str
    codecommit: CodeCommit
    github: GitHub

    @classmethod
    def of(cls, clients: Clients, environment: Mapping[str, str] = os.environ) -> Surroundings:
        """Raises SettingsError when the environment does not name the queue."""
        if not environment.get("QUEUE_URL"):
            raise SettingsError("the environment variable QUEUE_URL is not set; the stack's template sets it")
        known = {name: environment.get(name, "") for name in ("GIT_BASE_URL", "GIT_TOKEN_SECRET_ARN")}
        base, secret = ("" if value == "none" else value for value in known.values())
        github = GitHub(base, clients("secretsmanager"), secret)
        return cls(clients, environment["QUEUE_URL"], CodeCommit(clients("codecommit")), github)


@cache
def _surroundings() -> Surroundings:
    return Surroundings.of(Clients())


def handler(event: dict[str, Any], lambda_context: Any) -> dict[str, Any]:
    return respond(_surroundings(), event["Records"])


def respond(surroundings: Surroundings, records: list[dict[str, Any]]) -> dict[str, Any]:
    """The function's answer to a batch of the queue's messages."""
    failed = []
    for record in records:
        try:
            tell(surroundings, execution_arn(record["body"]))
        except Exception as error:  # noqa: BLE001  whatever it is, it is this message's alone
            # a host that names the time from which on it takes something has not failed
            count = {} if isinstance(error, Later) else counted(FUNCTION, datetime.now(UTC), record)
            log("not told: comes again", level="WARNING", error=f"{type(error).__name__}: {error}", **count)
            later = round(error.seconds) if isinstance(error, Later) else seconds_until(record, FIRST_RETRY, LAST_RETRY)
            come_again(surroundings.clients("sqs"), surroundings.queue_url, record, min(later, LONGEST_WAIT))
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def tell(surroundings: Surroundings, arn: str) -> str:
    """Tell the commit of an execution; answers what came of it, which is in the log, too.

    Raises:
        NotTold: the Git host did not take it.
        ClientError: of AWS.
    """
    outcome, state = _tell_once(surroundings, arn)
    if state == "pending":
        # It may have ended meanwhile, and its end been told before its beginning.
        execution = _execution(surroundings.clients("sagemaker"), arn)
        if execution is not None and execution.state in FINAL:
            outcome, _ = _tell_once(surroundings, arn)
    return outcome


def _tell_once(surroundings: Surroundings, arn: str) -> tuple[str, str]:
    """What came of it, and the state that was told; "" when none was."""
    sagemaker = surroundings.clients("sagemaker")
    whose = _project(sagemaker, arn)
    if whose is None:
        return _log("not a project's pipeline, or deleted", arn), ""
    project, stage = whose
    execution = _execution(sagemaker, arn)
    if execution is None:
        return _log("the pipeline was deleted", arn), ""
    repository = _repository(sagemaker, arn, project, stage)
    if repository is None:
        return _log("its project has no repository here", arn, project=project), ""
    answer = sagemaker.describe_pipeline_definition_for_execution(PipelineExecutionArn=arn)
    definition = answer["PipelineDefinition"]
    origin = origin_of(definition)
    if origin is None:
        return _log("its definition names no commit", arn, project=project), ""
    if not origin.committed:
        return _log("files were changed and not committed: no commit has them", arn, project=project), ""
    if _overtaken(sagemaker, execution, origin.commit):
        return _log("a later execution of this commit is told", arn, project=project), ""
    folder, quality = None, None
    if execution.state in FINAL:
        execution = replace(execution, steps=_steps(sagemaker, arn))
        if evaluated(execution) and (folder := evaluation_folder(definition, execution, project, stage)):
            quality = _quality(surroundings.clients("s3"), folder, origin)
    status = status_of(execution, quality, folder)
    host = surroundings.codecommit if repository.startswith("arn:") else surroundings.github
    outcome = host.tell(repository, origin.commit, status)
    said = {"state": status.state, "commit": origin.commit, "repository": repository}
    return _log(outcome, arn, project=project, **said), status.state


def _execution(sagemaker: Any, arn: str) -> Execution | None:
    """The execution without its steps; None of a pipeline that was deleted, which takes its executions along."""
    try:
        found = sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
        # Not from the ARN, whose names are in lower case at times.
        pipeline = sagemaker.describe_pipeline(PipelineName=found["PipelineArn"])["PipelineName"]
    except ClientError as error:
        if not is_missing(error):
            raise
        return None
    status, reason = found["PipelineExecutionStatus"], found.get("FailureReason", "")
    return Execution(arn, pipeline, status, reason, begun=found["CreationTime"])


def _overtaken(sagemaker: Any, execution: Execution, commit: str) -> bool:
    """Whether a later execution of the same commit is what the commit is told of, as after a push that was delivered
    twice, or a job that was run again: that the earlier one is stopped then is no news of the commit, and its result is
    none once the later one has a result, too. A retraining's name does not say its commit, so it overtakes nothing.
    """
    pages = sagemaker.get_paginator("list_pipeline_executions").paginate(
        PipelineName=execution.pipeline, CreatedAfter=execution.begun
    )
    later = (one for page in pages for one in page["PipelineExecutionSummaries"])
    return any(
        one["PipelineExecutionArn"] != execution.arn
        and one["StartTime"] > execution.begun
        and names_commit(one.get("PipelineExecutionDisplayName", ""), commit)
        and (execution.state in UNDECIDED or STATES.get(one["PipelineExecutionStatus"]) in DECIDED)
        for one in later
    )


def _steps(sagemaker: Any, arn: str) -> tuple[dict[str, Any], ...]:
    pages = sagemaker.get_paginator("list_pipeline_execution_steps").paginate(PipelineExecutionArn=arn)
    return tuple(step for page in pages for step in page["PipelineExecutionSteps"])


def _project(sagemaker: Any, arn: str) -> tuple[str, str] | None:
    """Project and stage of an execution's pipeline; None when it is none of ours."""
    tags = tags_of(sagemaker, arn.partition("/execution/")[0])
    project, stage = tags.get("modelyard:project"), tags.get("modelyard:stage")
    return (project, stage) if project and stage in TRAINING_STAGES else None


def _repository(sagemaker: Any, arn: str, project: str, stage: str) -> str | None:
    """What the tag modelyard:repository of the stage's group says; None without a group or a tag.

    Args:
        arn: of an execution, which is where the group is.
    """
    tags = tags_of(sagemaker, f"{arn.partition(':pipeline/')[0]}:model-package-group/{project}-{stage}")
    return tags.get("modelyard:repository") if tags.get("modelyard:project") == project else None


def _quality(s3: Any, folder: Folder, origin: Origin) -> Quality | None:
    return quality_of(origin, *(_text(s3, folder, name) for name in ("evaluation.json", "constraints.json")))


def _text(s3: Any, folder: Folder, name: str) -> str:
    """A file of Evaluate's; "" when it is not there or may not be read: then the commit is told without numbers."""
    try:
        body = s3.get_object(Bucket=folder.bucket, Key=f"{folder.prefix}{name}")["Body"]
        with body:
            return str(body.read(LARGEST_FILE), "utf-8", "replace")
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
            raise
        code = error.response["Error"]["Code"]
        log("a file of the evaluation could not be read", level="WARNING", bucket=folder.bucket, name=name, code=code)
        return ""


def _log(outcome: str, execution: str, **fields: Any) -> str:
    log(outcome, execution=execution, **fields)
    return outcome
