"""CodePipeline's API.

https://docs.aws.amazon.com/codepipeline/latest/APIReference/
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

from local_aws.calls import Call, Request, Response, ServiceError, page, validation_error
from local_aws.clock import Clock
from local_aws.codepipeline import answers
from local_aws.codepipeline.actions import Actions, Trusts
from local_aws.codepipeline.engine import Engine
from local_aws.codepipeline.records import Records, pipeline_arn
from local_aws.codepipeline.stages import (
    CANCELLED,
    FAILED,
    IN_PROGRESS,
    LIVE,
    STOPPED,
    STOPPING,
    SUCCEEDED,
)
from local_aws.codepipeline.structure import APPROVAL, SOURCE, Declaration, check, completed
from local_aws.events import Events
from local_aws.front_door import JsonService
from local_aws.loopback import Loopback
from local_aws.permissions.authorization import Authorization
from local_aws.request_checks import check_request, service_model
from local_aws.sagemaker.client_tokens import ClientTokens
from local_aws.sagemaker.times import now
from local_aws.store import Document, Scope, Store

MOST_TAGS = 50

logger = logging.getLogger(__name__)


class CodePipeline(JsonService):
    """The service.

    Args:
        store: where everything is kept.
        loopback: clients for what the actions call.
        trusts: whether a role lets a service assume it (ministack_host.role_trusts).
        clock: which approvals wait by.
        events: hear of every change of a state.
        authorization: who may do what; without it everybody may do everything.
    """

    def __init__(
        self,
        store: Store,
        loopback: Loopback,
        trusts: Trusts,
        clock: Clock,
        events: Events,
        authorization: Authorization | None = None,
    ) -> None:
        super().__init__("codepipeline", "CodePipeline", "CodePipeline_20150709.", authorization)
        self._records = Records(store, events)
        self._actions = Actions(loopback, trusts, clock)
        self._engine = Engine(self._records, self._actions)
        self._tokens = ClientTokens(store)
        self.operations |= {
            "CreatePipeline": self.create_pipeline,
            "UpdatePipeline": self.update_pipeline,
            "GetPipeline": self.get_pipeline,
            "DeletePipeline": self.delete_pipeline,
            "ListPipelines": self.list_pipelines,
            "StartPipelineExecution": self.start_execution,
            "StopPipelineExecution": self.stop_execution,
            "RetryStageExecution": self.retry_stage,
            "GetPipelineState": self.get_state,
            "GetPipelineExecution": self.get_execution,
            "ListPipelineExecutions": self.list_executions,
            "ListActionExecutions": self.list_actions,
            "PutApprovalResult": self.put_approval,
            "TagResource": self.tag,
            "UntagResource": self.untag,
            "ListTagsForResource": self.list_tags,
        }

    def resume(self) -> None:
        """When the server answers: executions move; those of a server before go on."""
        self._engine.start()

    def kill(self) -> None:
        """Begin nothing more."""
        self._engine.kill()

    def stop(self) -> None:
        """The same, and wait for the thread."""
        self._engine.stop()

    def tags(self, arn: str) -> dict[str, str] | None:
        """Of the pipeline with an ARN; None when there is none."""
        scope, name = _scope_and_name(arn)
        return self._records.tags(scope, name) if self._records.find(scope, name) else None

    # Pipelines

    def create_pipeline(self, call: Call, request: Request) -> Response:
        """Make a pipeline, and start it.

        A pipeline is started when it is created: https://docs.aws.amazon.com/codepipeline/latest/userguide/pipelines-about-starting.html.

        Raises:
            ServiceError: those of structure.check; InvalidStructureException: a role that CodePipeline cannot assume;
                PipelineNameInUseException; InvalidTagsException, TooManyTagsException.
        """
        declaration = request["pipeline"]
        check(declaration, call.scope.region)
        self._actions.check_role(call.scope, declaration)
        tags = _checked_tags(request.get("tags", []))
        _check_count(tags)
        with self._records.lock:
            pipeline = self._records.create(call.scope, declaration, tags)
            if _has_values(declaration):
                self._begin(call.scope, pipeline, "CreatePipeline", _caller(call))
        self._engine.notify()
        made = [{"key": key, "value": value} for key, value in tags.items()]
        return {"pipeline": answers.declaration(pipeline), "tags": made}

    def update_pipeline(self, call: Call, request: Request) -> Response:
        """Replace a pipeline's declaration; executions that are under way are cancelled.

        Raises:
            ServiceError: as create_pipeline; PipelineNotFoundException.
        """
        declaration, scope = request["pipeline"], call.scope
        self._records.pipeline(scope, declaration["name"])
        check(declaration, scope.region)
        self._actions.check_role(scope, declaration)
        with self._records.lock:
            pipeline = self._records.pipeline(scope, declaration["name"])
            for execution in self._records.executions(scope, pipeline["name"]):
                if execution["status"] in LIVE:
                    self._engine.end(scope, execution, CANCELLED)
            pipeline["versions"].append(completed(declaration, len(pipeline["versions"]) + 1))
            pipeline["updated"] = now()
            self._records.put_pipeline(scope, pipeline)
        return {"pipeline": answers.declaration(pipeline)}

    def get_pipeline(self, call: Call, request: Request) -> Response:
        """
        Raises:
            ServiceError: PipelineNotFoundException, PipelineVersionNotFoundException.
        """
        pipeline = self._records.pipeline(call.scope, request["name"])
        version = request.get("version")
        if version is not None and version > len(pipeline["versions"]):
            raise ServiceError(
                "PipelineVersionNotFoundException",
                f"Pipeline '{pipeline['name']}' has no version {version}; the newest is {len(pipeline['versions'])}",
            )
        return {
            "pipeline": answers.declaration(pipeline, version),
            "metadata": answers.pipeline_metadata(call.scope, pipeline),
        }

    def delete_pipeline(self, call: Call, request: Request) -> Response:
        """Delete a pipeline with its history; builds that it has started go on. Without one nothing happens."""
        with self._records.lock:
            self._records.delete(call.scope, request["name"])
        return {}

    def list_pipelines(self, call: Call, request: Request) -> Response:
        found = sorted(self._records.pipelines(call.scope), key=lambda each: each["name"])
        found, more = _page(found, request, 1000, lambda each: each["name"])
        return {"pipelines": [answers.pipeline_summary(each) for each in found], **more}

    # Executions

    def start_execution(self, call: Call, request: Request) -> Response:
        """
        Raises:
            ServiceError: PipelineNotFoundException; ConflictException: the token came with another request before;
                ValidationException: variables or source revisions that the pipeline does not have.
        """

        def do() -> Response:
            pipeline = self._records.pipeline(call.scope, request["name"])
            execution = self._begin(
                call.scope,
                pipeline,
                "StartPipelineExecution",
                _caller(call),
                request.get("variables", []),
                request.get("sourceRevisions", []),
            )
            return {"pipelineExecutionId": execution["id"]}

        answer = self._tokens.once(call, "codepipeline:StartPipelineExecution", request, do, "clientRequestToken")
        self._engine.notify()
        return answer

    def start_by_event(self, arn: str, rule: str, given: str | None) -> None:
        """Start a pipeline that is a rule's target.

        Args:
            arn: the pipeline's.
            rule: ARN of the rule.
            given: the target's input, a JSON object with StartPipelineExecution's variables and sourceRevisions;
                None: the event itself, which says nothing to CodePipeline.

        Raises:
            ServiceError: why it is not started.
        """
        scope, name = _scope_and_name(arn)
        try:
            request = json.loads(given) if given is not None else {}
        except ValueError as error:
            raise validation_error(f"The target's input is not JSON: {error}") from error
        if not isinstance(request, dict):
            raise validation_error("The target's input is no JSON object.")
        check_request(service_model(self.service).operation_model("StartPipelineExecution"), request | {"name": name})
        with self._records.lock:
            pipeline = self._records.pipeline(scope, name)
            variables, revisions = request.get("variables", []), request.get("sourceRevisions", [])
            self._begin(scope, pipeline, "CloudWatchEvent", rule, variables, revisions)
        self._engine.notify()

    def stop_execution(self, call: Call, request: Request) -> Response:
        """Let an execution end when what is under way has ended, or abandon that.

        https://docs.aws.amazon.com/codepipeline/latest/userguide/pipelines-stop.html

        Raises:
            ServiceError: PipelineNotFoundException, PipelineExecutionNotStoppableException,
                DuplicatedStopRequestException.
        """
        with self._records.lock:
            name, key = request["pipelineName"], request["pipelineExecutionId"]
            execution = self._records.execution(call.scope, name, key)
            abandon = request.get("abandon", False)
            if execution["status"] not in LIVE:
                raise ServiceError(
                    "PipelineExecutionNotStoppableException",
                    f"Execution {key} of pipeline '{name}' is {execution['status']}: only one that is under way can be"
                    " stopped",
                )
            if execution["status"] == STOPPING and not abandon:
                message = f"Execution {key} of pipeline '{name}' is being stopped already"
                raise ServiceError("DuplicatedStopRequestException", message)
            execution["stop"] = request.get("reason", "")
            if abandon or not execution["inside"]:
                self._engine.end(call.scope, execution, STOPPED)
            else:
                execution["status"] = STOPPING
                self._records.put_execution(call.scope, execution)
                self._records.tell_execution(call.scope, execution, "STOPPING")
        self._engine.notify()
        return {"pipelineExecutionId": key}

    def retry_stage(self, call: Call, request: Request) -> Response:
        """Do a stage's failed actions, or all of them, once more.

        https://docs.aws.amazon.com/codepipeline/latest/userguide/actions-retry.html

        Raises:
            ServiceError: PipelineNotFoundException, StageNotFoundException, StageNotRetryableException,
                NotLatestPipelineExecutionException.
        """
        with self._records.lock:
            name, stage = request["pipelineName"], request["stageName"]
            pipeline = self._records.pipeline(call.scope, name)
            _declared_stage(pipeline, stage)
            try:
                execution = self._records.execution(call.scope, name, request["pipelineExecutionId"])
            except ServiceError as error:  # the operation's model has no other code for it
                raise ServiceError("NotLatestPipelineExecutionException", error.message) from error
            _check_retryable(pipeline, stage, execution)
            actions = self._records.actions_of(call.scope, execution, stage)
            kept = {} if request["retryMode"] == "ALL_ACTIONS" else actions
            execution["actions"][stage] = {
                action: each["id"] for action, each in kept.items() if each["status"] == SUCCEEDED
            }
            execution["stages"][stage] = IN_PROGRESS
            execution |= {"status": IN_PROGRESS, "inside": True, "attempt": execution["attempt"] + 1}
            execution.pop("stop", None)
            self._records.put_execution(call.scope, execution)
            self._records.tell_execution(call.scope, execution, "RESUMED")
            self._records.tell_stage(call.scope, execution, stage, "RESUMED")
        self._engine.notify()
        return {"pipelineExecutionId": execution["id"]}

    def put_approval(self, call: Call, request: Request) -> Response:
        """Approve or reject.

        Raises:
            ServiceError: PipelineNotFoundException, StageNotFoundException, ActionNotFoundException,
                InvalidApprovalTokenException, ApprovalAlreadyCompletedException.
        """
        with self._records.lock:
            pipeline = self._records.pipeline(call.scope, request["pipelineName"])
            stage, name = _declared_stage(pipeline, request["stageName"]), request["actionName"]
            if name not in [each["name"] for each in stage["actions"] if each["actionTypeId"]["category"] == APPROVAL]:
                message = f"Stage '{stage['name']}' of pipeline '{pipeline['name']}' has no approval action '{name}'"
                raise ServiceError("ActionNotFoundException", message)
            key = pipeline["latest_actions"].get(f"{stage['name']}/{name}")
            action = self._records.action(call.scope, key) if key else None
            if action is None or action["token"] != request["token"]:
                raise ServiceError(
                    "InvalidApprovalTokenException",
                    f"The token is not that of an open approval of action '{name}'. GetPipelineState tells it.",
                )
            if action["status"] != IN_PROGRESS:
                raise ServiceError(
                    "ApprovalAlreadyCompletedException", f"Action '{name}' is {action['status']} already"
                )
            result = request["result"]
            action |= {"summary": result["summary"], "by": _caller(call), "begun": True}
            execution = self._records.execution(call.scope, pipeline["name"], action["execution"])
            status = SUCCEEDED if result["status"] == "Approved" else FAILED
            self._engine.end_action(call.scope, execution, action, status)
        self._engine.notify()
        return {"approvedAt": action["updated"]}

    # Reading

    def get_state(self, call: Call, request: Request) -> Response:
        with self._records.lock:
            pipeline = self._records.pipeline(call.scope, request["name"])
            return answers.pipeline_state(call.scope, pipeline, self._records)

    def get_execution(self, call: Call, request: Request) -> Response:
        name = request["pipelineName"]
        execution = self._records.execution(call.scope, name, request["pipelineExecutionId"])
        declaration = self._records.pipeline(call.scope, name)["versions"][execution["version"] - 1]
        return {"pipelineExecution": answers.execution_detail(execution, declaration)}

    def list_executions(self, call: Call, request: Request) -> Response:
        """The newest first."""
        pipeline = self._records.pipeline(call.scope, request["pipelineName"])
        found = self._records.executions(call.scope, pipeline["name"])[::-1]
        if stage := request.get("filter", {}).get("succeededInStage", {}).get("stageName"):
            found = [each for each in found if each["stages"].get(stage) == SUCCEEDED]
        found, more = _page(found, request, 100, lambda each: each["number"])
        return {"pipelineExecutionSummaries": [answers.execution_summary(each) for each in found], **more}

    def list_actions(self, call: Call, request: Request) -> Response:
        """The newest first.

        Raises:
            ServiceError: PipelineNotFoundException, PipelineExecutionNotFoundException, InvalidNextTokenException.
        """
        pipeline = self._records.pipeline(call.scope, request["pipelineName"])
        executions = {each["id"]: each for each in self._records.executions(call.scope, pipeline["name"])}
        found = self._records.actions(call.scope, pipeline["name"])
        asked = request.get("filter", {})
        if latest := asked.get("latestInPipelineExecution"):
            execution = self._records.execution(call.scope, pipeline["name"], latest["pipelineExecutionId"])
            ids = {key for actions in execution["actions"].values() for key in actions.values()}
            found = [each for each in found if each["id"] in ids]
        elif key := asked.get("pipelineExecutionId"):
            self._records.execution(call.scope, pipeline["name"], key)
            found = [each for each in found if each["execution"] == key]
        numbered = [(each["started"], each["id"], each) for each in found]
        numbered.sort(key=lambda each: each[:2], reverse=True)
        shown, more = _page(numbered, request, 100, lambda each: list(each[:2]))
        details = [answers.action_detail(each, executions[each["execution"]]) for _, _, each in shown]
        return {"actionExecutionDetails": details, **more}

    # Tags

    def tag(self, call: Call, request: Request) -> Response:
        """Add or replace tags.

        Raises:
            ServiceError: ResourceNotFoundException, InvalidArnException, InvalidTagsException, TooManyTagsException.
        """
        with self._records.lock:
            name = self._tagged(call, request)
            tags = self._records.tags(call.scope, name) | _checked_tags(request["tags"])
            _check_count(tags)
            self._records.set_tags(call.scope, name, tags)
        return {}

    def untag(self, call: Call, request: Request) -> Response:
        with self._records.lock:
            name = self._tagged(call, request)
            tags = self._records.tags(call.scope, name)
            left = {key: value for key, value in tags.items() if key not in request["tagKeys"]}
            self._records.set_tags(call.scope, name, left)
        return {}

    def list_tags(self, call: Call, request: Request) -> Response:
        tags = self._records.tags(call.scope, self._tagged(call, request))
        found, more = _page(sorted(tags.items()), request, 100, lambda each: each[0])
        return {"tags": [{"key": key, "value": value} for key, value in found], **more}

    # Within

    def _tagged(self, call: Call, request: Request) -> str:
        """The name of the pipeline that a request about tags names."""
        arn = request["resourceArn"]
        scope, name = _scope_and_name(arn)
        if scope != call.scope or arn != pipeline_arn(scope, name):
            message = f"{arn[:200]!r} is no ARN of a pipeline of this account and Region"
            raise ServiceError("InvalidArnException", message)
        if self._records.find(call.scope, name) is None:
            raise ServiceError("ResourceNotFoundException", f"There is no pipeline '{name}'")
        return name

    def _begin(
        self,
        scope: Scope,
        pipeline: Document,
        trigger: str,
        by: str,
        variables: Sequence[dict[str, str]] = (),
        revisions: Sequence[dict[str, str]] = (),
    ) -> Document:
        """A new execution; the lock is held."""
        newest = pipeline["versions"][-1]
        values = _values(newest, variables)
        asked = _asked(newest, revisions)
        return self._records.begin(scope, pipeline, {"triggerType": trigger, "triggerDetail": by}, values, asked)


def _values(declaration: Declaration, given: Sequence[dict[str, str]]) -> dict[str, str]:
    """The pipeline's variables, as an execution has them."""
    declared = {each["name"]: each.get("defaultValue") for each in declaration.get("variables", [])}
    asked = {each["name"]: each["value"] for each in given}
    if unknown := sorted(set(asked) - set(declared)):
        raise validation_error(f"The pipeline does not declare the variables {', '.join(unknown)}.")
    values = declared | asked
    if missing := sorted(name for name, value in values.items() if value is None):
        raise validation_error(f"The variables {', '.join(missing)} have no default value. Give them.")
    return {name: str(value) for name, value in values.items()}


def _has_values(declaration: Declaration) -> bool:
    """Whether a pipeline can be started without being given any variables."""
    return all("defaultValue" in each for each in declaration.get("variables", []))


def _asked(declaration: Declaration, given: Sequence[dict[str, str]]) -> dict[str, str]:
    """Source revisions that are asked for, by action."""
    sources = [
        action["name"] for action in declaration["stages"][0]["actions"] if action["actionTypeId"]["category"] == SOURCE
    ]
    for each in given:
        if each["actionName"] not in sources:
            raise validation_error(f"sourceRevisions: {each['actionName']} is no source action of the pipeline.")
        if each["revisionType"] != "COMMIT_ID":
            raise validation_error(
                f"sourceRevisions: of CodeCommit revisionType is COMMIT_ID, not {each['revisionType']}."
            )
    return {each["actionName"]: each["revisionValue"] for each in given}


def _declared_stage(pipeline: Document, name: str) -> Declaration:
    for stage in pipeline["versions"][-1]["stages"]:
        if stage["name"] == name:
            found: Declaration = copy.deepcopy(stage)
            return found
    message = f"Pipeline '{pipeline['name']}' does not have a stage with name '{name}'"
    raise ServiceError("StageNotFoundException", message)


def _check_retryable(pipeline: Document, stage: str, execution: Document) -> None:
    if pipeline["latest"].get(stage) != execution["id"]:
        raise ServiceError(
            "NotLatestPipelineExecutionException",
            f"Execution {execution['id']} is not the latest that was in stage '{stage}'",
        )
    status = execution["stages"].get(stage)
    if status not in (FAILED, STOPPED) or execution["status"] not in (FAILED, STOPPED):
        raise ServiceError(
            "StageNotRetryableException", f"Stage '{stage}' is {status}: only a failed one can be retried"
        )
    if execution["version"] != len(pipeline["versions"]):
        raise ServiceError(
            "StageNotRetryableException",
            f"Pipeline '{pipeline['name']}' was updated since. Start it again instead.",
        )


def _scope_and_name(arn: str) -> tuple[Scope, str]:
    parts = [*arn.split(":", 5), *[""] * 6]
    return Scope(parts[4], parts[3]), parts[5]


def _caller(call: Call) -> str:
    return call.caller[0] if call.caller else f"arn:aws:iam::{call.scope.account}:root"


def _checked_tags(given: list[dict[str, str]]) -> dict[str, str]:
    keys = [each["key"] for each in given]
    for key in keys:
        if key.lower().startswith("aws:"):
            message = f"Tag key {key!r}: the prefix aws: is AWS's own. Choose another key"
            raise ServiceError("InvalidTagsException", message)
    if len(keys) != len(set(keys)):
        raise ServiceError("InvalidTagsException", "A tag key is there twice. Give each key once")
    return {each["key"]: each["value"] for each in given}


def _check_count(tags: dict[str, str]) -> None:
    if len(tags) > MOST_TAGS:
        raise ServiceError("TooManyTagsException", f"There would be {len(tags)} tags; at most {MOST_TAGS} are allowed")


def _page(
    items: Sequence[Any], request: Request, default: int, position: Callable[[Any], Any]
) -> tuple[list[Any], dict[str, str]]:
    asked = {"MaxResults": request.get("maxResults", default), "NextToken": request.get("nextToken")}
    try:
        found, more = page(items, asked, position=position)
    except ServiceError as error:
        raise ServiceError("InvalidNextTokenException", error.message) from error
    return found, {"nextToken": more["NextToken"]} if more else {}
