"""What a commit is told of the pipeline's execution that it was trained by: decided from what AWS says of it.

Nothing here calls anything. A definition names the commit (the metadata of its step that registers the version), and
where the step Evaluate writes; it never names the repository, which whoever writes a definition could choose.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

from lifecycle_lambdas.messages import CONSOLE
from lifecycle_lambdas.records import package_version

State = Literal["pending", "success", "failure", "error"]  # GitHub's
STATES: Mapping[str, State] = {
    "Executing": "pending",
    "Stopping": "pending",
    "Succeeded": "success",
    "Failed": "failure",
    "Stopped": "error",
}
FINAL = ("success", "failure", "error")
# In a comment, which has no sign for it.
ENDED: Mapping[State, str] = {"pending": "running", "success": "succeeded", "failure": "failed", "error": "stopped"}
DECIDED, UNDECIDED = ("success", "failure"), ("pending", "error")  # the latter say nothing about the model
CHANGED = "SageMaker Model Building Pipeline Execution Status Change"
CONTEXT = "modelyard/"  # in front of the pipeline's name; pipelines of several branches may have trained one commit
LONGEST_DESCRIPTION = 140  # characters: https://docs.github.com/rest/commits/statuses
TRAINING_STAGES = ("feature", "dev")
NEVER = datetime.min.replace(tzinfo=UTC)
RUNNING, STOPPED = "the pipeline is running", "the pipeline was stopped: by a newer push, or by somebody"
_COMMIT = re.compile(r"[0-9a-f]{40}")
UNCOMMITTED = "-dirty"  # at the end of git.tree: files were changed and not committed, so git.commit was not trained
# What is none would be read by nobody, and break out of the link to the report:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_S3_URI = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>.+)", re.ASCII)
_EXECUTION = re.compile(r"arn:[a-z-]+:sagemaker:[a-z0-9-]+:\d{12}:pipeline/[\w-]+/execution/[\w-]+", re.ASCII)


class BrokenEvent(ValueError):
    """A message that is no event of an execution; the message says what it lacks."""


@dataclass(frozen=True)
class Origin:
    """What a pipeline's definition says of where it came from.

    Args:
        commit: the full id.
        branch: "" where it does not say.
        problem_type, metric: which number of Evaluate's files is the main one; "" where it does not say.
        committed: whether the commit has the files that are trained; else some were changed and not committed.
    """

    commit: str
    branch: str = ""
    problem_type: str = ""
    metric: str = ""
    committed: bool = True


@dataclass(frozen=True)
class Folder:
    """A folder in S3.

    Args:
        prefix: ends in a slash.
    """

    bucket: str
    prefix: str


@dataclass(frozen=True)
class Quality:
    """The main metric, of evaluation.json, and what it must be, of constraints.json.

    Args:
        relation: "at least" or "at most"; "" without a threshold.
    """

    metric: str
    value: float
    relation: str = ""
    threshold: float = 0.0

    def __str__(self) -> str:
        bound = f" (must be {self.relation} {self.threshold:.6g})" if self.relation else ""
        return f"{self.metric} {self.value:.6g}{bound}"


@dataclass(frozen=True)
class Execution:
    """An execution as AWS describes it.

    Args:
        pipeline: the name.
        status: such as Succeeded.
        reason: why it failed; "" unless it did.
        steps: ListPipelineExecutionSteps', in any order.
        begun: when.
    """

    arn: str
    pipeline: str
    status: str
    reason: str = ""
    steps: Sequence[Mapping[str, Any]] = ()
    begun: datetime = NEVER

    @property
    def id(self) -> str:
        return self.arn.rpartition("/")[2]

    @property
    def state(self) -> State:
        return STATES.get(self.status, "pending")


@dataclass(frozen=True)
class Status:
    """What the commit is told.

    Args:
        context: which status of the commit's it is; a new one of this context takes the old one's place.
        description: one line, at most 140 characters.
        details: the same, whole.
        url: of the report in AWS's console; "" while there is none.
        execution: ARN.
    """

    state: State
    context: str
    description: str
    details: str
    url: str
    execution: str

    @property
    def markdown(self) -> str:
        """A comment."""
        report = [f"[Report]({self.url})"] if self.url else []
        # Indented, it is shown as it is, whatever is in it.
        return "\n\n".join(
            [f"**{self.context} {ENDED[self.state]}**", f"    {self.details}", *report, f"`{self.execution}`"]
        )


def execution_arn(body: str) -> str:
    """The execution that a message of the queue is about: EventBridge's event, as SageMaker sends it.

    https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html

    Raises:
        BrokenEvent: the message is another one.
    """
    try:
        event = json.loads(body)
        arn = event["detail"]["pipelineExecutionArn"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:  # RecursionError: nested too deeply
        raise BrokenEvent(
            f"no event of a pipeline's execution ({type(error).__name__}: {error}): {body[:200]}"
        ) from None
    if event.get("detail-type") != CHANGED or not isinstance(arn, str) or not _EXECUTION.fullmatch(arn):
        raise BrokenEvent(f"no event of a pipeline's execution: {body[:200]}")
    return arn


def origin_of(definition: str) -> Origin | None:
    """Where a definition came from; None when it names no commit that a Git host could have."""
    for step in _steps(_parsed(definition)):
        if step.get("Type") != "RegisterModel":
            continue
        metadata = _mapping(_mapping(step.get("Arguments")).get("CustomerMetadataProperties"))
        known = {name: value for name, value in metadata.items() if isinstance(value, str)}
        if _COMMIT.fullmatch(known.get("git.commit", "")):
            return Origin(
                known["git.commit"],
                known.get("git.branch", ""),
                known.get("problem-type", ""),
                known.get("metric.main", ""),
                not known.get("git.tree", "").endswith(UNCOMMITTED),
            )
    return None


def names_commit(display_name: str, commit: str) -> bool:
    """Whether an execution's display name says that it is of the commit: push-<its first 12>, commit-<the same>."""
    return display_name.rpartition("-")[2] == commit[:12]


def evaluation_folder(definition: str, execution: Execution, project: str, stage: str) -> Folder | None:
    """Where the execution's step Evaluate has written; None when the definition does not say, or says that it is
    outside of what the pipeline writes to: whoever writes a definition could name another project's.
    """
    for step in _steps(_parsed(definition)):
        if step.get("Name") != "Evaluate":
            continue
        outputs = _mapping(_mapping(step.get("Arguments")).get("ProcessingOutputConfig")).get("Outputs")
        for output in outputs if isinstance(outputs, list) else []:
            if _mapping(output).get("OutputName") == "evaluation":
                uri = _resolved(_mapping(_mapping(output).get("S3Output")).get("S3Uri"), execution.id)
                return _own_folder(uri or "", f"{project}/{stage}/{execution.pipeline}/{execution.id}/evaluate/")
    return None


def quality_of(origin: Origin, evaluation: str, constraints: str) -> Quality | None:
    """The main metric of Model Monitor's two files; None when it is not there, or undefined.

    Args:
        evaluation, constraints: the files' texts; "" of one that is not there.
    """
    metrics = _mapping(_parsed(evaluation).get(f"{origin.problem_type}_metrics"))
    value = _number(_mapping(metrics.get(origin.metric)).get("value"))
    if value is None:
        return None
    constraint = _mapping(_mapping(_parsed(constraints).get(f"{origin.problem_type}_constraints")).get(origin.metric))
    threshold, operator = _number(constraint.get("threshold")), constraint.get("comparison_operator")
    if threshold is None:
        return Quality(origin.metric, value)
    return Quality(origin.metric, value, "at least" if operator == "LessThanThreshold" else "at most", threshold)


def evaluated(execution: Execution) -> bool:
    """Whether there is something in Evaluate's folder."""
    return any(step.get("StepName") == "Evaluate" and step.get("StepStatus") == "Succeeded" for step in execution.steps)


def status_of(execution: Execution, quality: Quality | None = None, folder: Folder | None = None) -> Status:
    """What the commit is told of an execution.

    Args:
        folder: where the report lies, once there is one.
    """
    details = _one_line(_words(execution, quality))
    return Status(
        state=execution.state,
        context=f"{CONTEXT}{execution.pipeline}",
        description=_shortened(details, LONGEST_DESCRIPTION),
        details=details,
        url=report_link(execution.arn, folder) if folder else "",
        execution=execution.arn,
    )


def report_link(arn: str, folder: Folder) -> str:
    """The report in the console of S3, where whoever may read it can open it.

    Args:
        arn: of something in the same partition and Region.
    """
    _, partition, _, region, *_ = arn.split(":")
    console = f"https://{region}.{CONSOLE.get(partition, CONSOLE['aws'])}/s3/object/{folder.bucket}"
    return f"{console}?region={region}&prefix={quote(f'{folder.prefix}report.html', safe='/')}"


def _words(execution: Execution, quality: Quality | None) -> str:
    measured = f"{quality}: " if quality else ""
    if execution.state == "pending":
        return RUNNING
    if execution.state == "error":
        return STOPPED
    if execution.state == "failure":
        # What a step of type Fail says has the numbers in it.
        return _failure(execution) or f"{measured}the pipeline failed"
    version = next((found for step in execution.steps if (found := _registered(step))), None)
    if version is None:
        return f"{measured}no model version was registered"
    return f"{measured}version {package_version(version)} of {version.split('/')[-2]} waits for approval"


def _failure(execution: Execution) -> str:
    """Why it failed: of the steps that failed the one that decided about the model, else the first."""
    failed = [step for step in execution.steps if step.get("StepStatus") == "Failed"]
    for step in failed:
        if said := _mapping(_mapping(step.get("Metadata")).get("Fail")).get("ErrorMessage"):
            return str(said)
    for step in failed:
        return f"{step.get('StepName')} failed: {step.get('FailureReason', 'AWS does not say why')}"
    return f"the pipeline failed: {execution.reason}" if execution.reason else ""


def _registered(step: Mapping[str, Any]) -> str | None:
    """ARN of the version that a step has registered."""
    arn = _mapping(_mapping(step.get("Metadata")).get("RegisterModel")).get("Arn")
    return arn if isinstance(arn, str) and re.search(r"/[\w-]+/[1-9]\d*$", arn, re.ASCII) else None


def _own_folder(uri: str, begin: str) -> Folder | None:
    found = _S3_URI.fullmatch(uri)
    prefix = f"{found['key'].strip('/')}/" if found else ""
    if found is None or not prefix.startswith(begin) or ".." in prefix.split("/"):
        return None
    return Folder(found["bucket"], prefix)


def _resolved(value: Any, execution_id: str) -> str | None:
    """A value of a definition that knows of the execution nothing but its id; None for any other."""
    if isinstance(value, str):
        return value
    if value == {"Get": "Execution.PipelineExecutionId"}:
        return execution_id
    join = _mapping(_mapping(value).get("Std:Join"))
    values = join.get("Values")
    parts = [_resolved(part, execution_id) for part in values] if isinstance(values, list) else [None]
    known = [part for part in parts if part is not None]
    return str(join.get("On", "")).join(known) if len(known) == len(parts) else None


def _steps(definition: Mapping[str, Any], member: str = "Steps") -> Iterator[Mapping[str, Any]]:
    """All steps, those of conditions included."""
    steps = definition.get(member)
    for step in map(_mapping, steps if isinstance(steps, list) else []):
        yield step
        for branch in ("IfSteps", "ElseSteps"):
            yield from _steps(_mapping(step.get("Arguments")), branch)


def _parsed(text: str) -> Mapping[str, Any]:
    """A JSON object; an empty one for any other text."""
    try:
        return _mapping(json.loads(text))
    except (ValueError, RecursionError):
        return {}


def _number(value: Any) -> float | None:
    """None of what is no number that can be said: "NaN" is a text there, and an integer can have any length."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _one_line(text: str) -> str:
    """Without what cannot be printed, half a character included: a Git host refuses that, this time and the next."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 3].rstrip() + "..."
