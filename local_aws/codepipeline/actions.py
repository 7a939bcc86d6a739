"""What an action does, as the pipeline's role.

- CodeCommit: finds the commit and writes a reference to it into the artifact bucket, from which CodeBuild clones
  (https://docs.aws.amazon.com/codepipeline/latest/userguide/action-reference-CodeCommit.html).
- CodeBuild: starts a build of that commit and follows it
  (https://docs.aws.amazon.com/codepipeline/latest/userguide/action-reference-CodeBuild.html).
- Manual: tells a topic that somebody should decide, and waits
  (https://docs.aws.amazon.com/codepipeline/latest/userguide/approvals-json-format.html).
"""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, ClientError

from local_aws.calls import ServiceError
from local_aws.clock import Clock
from local_aws.codepipeline.records import pipeline_arn
from local_aws.codepipeline.stages import FAILED, IN_PROGRESS, SUCCEEDED
from local_aws.codepipeline.structure import APPROVAL, Declaration, environment_variables
from local_aws.codepipeline.variables import VariableError, resolved
from local_aws.loopback import Loopback
from local_aws.store import Document, Scope

SERVICE = "codepipeline.amazonaws.com"
SESSION = "codepipeline"  # the name of the pipelines' roles' sessions
DEFAULT_MINUTES = (
    7 * 24 * 60
)  # that an approval waits: https://docs.aws.amazon.com/codepipeline/latest/userguide/limits.html
CONSOLE = "https://console.aws.amazon.com"
_LETTERS = string.ascii_letters + string.digits

# (scope, the role's ARN, the service that wants to assume it, ARN of what it acts for) -> whether the role lets it
Trusts = Callable[[Scope, str, str, str], bool]


@dataclass(frozen=True)
class Work:
    """An action of an execution.

    Args:
        pipeline: its declaration.
        execution, action: the documents.
    """

    scope: Scope
    pipeline: Declaration
    execution: Document
    action: Document

    @property
    def declaration(self) -> Declaration:
        found: Declaration = self.action["declaration"]
        return found

    @property
    def store(self) -> Declaration:
        """The artifact store."""
        stores = self.pipeline.get("artifactStores", {})
        found: Declaration = self.pipeline.get("artifactStore") or stores[self.scope.region]
        return found


@dataclass(frozen=True)
class Outcome:
    """What an action has come to.

    Args:
        status: InProgress, Succeeded or Failed.
        error: code and message of what failed.
        configuration: with the variables' values in it.
        variables: that it has set.
        artifacts: where those are that it has made, by name.
        revision: of a source: id, summary, url, created.
        external_id, external_url: of the build.
    """

    status: str
    error: tuple[str, str] | None = None
    configuration: dict[str, str] | None = None
    variables: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, dict[str, str]] = field(default_factory=dict)
    revision: dict[str, Any] | None = None
    external_id: str | None = None
    external_url: str | None = None


class ActionFailed(Exception):
    """Why an action failed, for whoever looks at the pipeline."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Unreachable(Exception):
    """The server does not answer itself: it is about to end, and the next one goes on."""


class Actions:
    """
    Args:
        trusts: ministack_host.role_trusts.
        clock: which approvals wait by.
    """

    def __init__(self, loopback: Loopback, trusts: Trusts, clock: Clock) -> None:
        self._loopback, self._trusts, self._clock = loopback, trusts, clock

    def check_role(self, scope: Scope, pipeline: Declaration) -> None:
        """
        Raises:
            ServiceError: InvalidStructureException: CodePipeline cannot assume the pipeline's role.
        """
        role = pipeline["roleArn"]
        if not self._trusts(scope, role, SERVICE, pipeline_arn(scope, pipeline["name"])):
            raise ServiceError(
                "InvalidStructureException",
                f"CodePipeline is not authorized to perform AssumeRole on role {role}. Let its trust policy name"
                f" {SERVICE}.",
            )

    def begin(self, work: Work) -> Outcome:
        """Set an action going. What was set going before, and not written down, is not done a second time.

        Raises:
            Unreachable.
        """
        begin = {"CodeCommit": self._take_commit, "CodeBuild": self._start_build, "Manual": self._ask}
        provider = work.declaration["actionTypeId"]["provider"]
        configuration = None
        try:
            self._check_trust(work)
            configuration = self._configuration(work)
            return begin[provider](work, configuration)
        except ActionFailed as failed:
            return Outcome(FAILED, error=(failed.code, failed.message), configuration=configuration)

    def look(self, work: Work) -> Outcome:
        """How far an action is that was set going.

        Raises:
            Unreachable.
        """
        if work.declaration["actionTypeId"]["category"] == APPROVAL:
            return self._look_at_time(work)
        try:
            return self._look_at_build(work)
        except ActionFailed as failed:
            return Outcome(FAILED, error=(failed.code, failed.message))

    def expiry(self, action: Declaration) -> float:
        """When an approval that begins now has waited long enough, by the clock."""
        return self._clock.now() + 60 * action.get("timeoutInMinutes", DEFAULT_MINUTES)

    def _check_trust(self, work: Work) -> None:
        try:
            self.check_role(work.scope, work.pipeline)
        except ServiceError as error:
            raise ActionFailed("PermissionError", error.message) from error

    def _configuration(self, work: Work) -> dict[str, str]:
        execution = work.execution
        values = {
            **execution["outputs"],
            "variables": execution["variables"],
            "codepipeline": {"PipelineExecutionId": execution["id"]},
        }
        try:
            return {name: resolved(text, values) for name, text in work.declaration["configuration"].items()}
        except VariableError as error:
            raise ActionFailed("InvalidVariable", f"Action '{work.action['action']}': {error}") from error

    # CodeCommit

    def _take_commit(self, work: Work, configuration: dict[str, str]) -> Outcome:
        codecommit = self._client("codecommit", work)
        repository, branch = configuration["RepositoryName"], configuration["BranchName"]

        def ask(operation: str, **request: str) -> Any:
            try:
                return _call(getattr(codecommit, operation), repositoryName=repository, **request)
            except ClientError as error:
                raise _of_codecommit(error, repository, branch) from error

        clone_url = ask("get_repository")["repositoryMetadata"]["cloneUrlHttp"]
        asked = work.execution["asked"].get(work.action["action"])
        commit_id = asked or ask("get_branch", branchName=branch)["branch"]["commitId"]
        commit = ask("get_commit", commitId=commit_id)["commit"]
        reference = {"repository": clone_url, "branch": branch, "commit": commit_id}
        artifact = work.declaration["outputArtifacts"][0]["name"]
        location = self._write_artifact(work, artifact, json.dumps(reference))
        return Outcome(
            SUCCEEDED,
            configuration=configuration,
            artifacts={artifact: location},
            revision={
                "id": commit_id,
                "summary": commit["message"][:2048],
                "url": _commit_url(work.scope, repository, commit_id),
                "created": float(commit["committer"]["date"].partition(" ")[0]),
            },
            variables={
                "CommitId": commit_id,
                "CommitMessage": commit["message"],
                "RepositoryName": repository,
                "BranchName": branch,
                "AuthorDate": _date(commit["author"]["date"]),
                "CommitterDate": _date(commit["committer"]["date"]),
            },
        )

    def _write_artifact(self, work: Work, name: str, content: str) -> dict[str, str]:
        """Below the first twenty characters of the pipeline's name; the artifact's has ten."""
        own = "".join(secrets.choice(_LETTERS) for _ in range(7))
        location = {"bucket": work.store["location"], "key": f"{work.pipeline['name'][:20]}/{name[:10]}/{own}"}
        encryption = {}
        if "encryptionKey" in work.store:
            encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": work.store["encryptionKey"]["id"]}
        try:
            _call(
                self._client("s3", work).put_object,
                Bucket=location["bucket"],
                Key=location["key"],
                Body=content.encode(),
                **encryption,
            )
        except ClientError as error:
            raise _of_bucket(error, "upload the artifact to", location) from error
        return location

    # CodeBuild

    def _start_build(self, work: Work, configuration: dict[str, str]) -> Outcome:
        artifact = configuration.get("PrimarySource") or work.declaration["inputArtifacts"][0]["name"]
        source = self._read_artifact(work, artifact, configuration["ProjectName"])
        try:
            variables = environment_variables(configuration.get("EnvironmentVariables", "[]"))
        except ValueError as error:
            raise ActionFailed("ConfigurationError", f"EnvironmentVariables, with the values in it: {error}") from error
        try:
            build = _call(
                self._client("codebuild", work).start_build,
                projectName=configuration["ProjectName"],
                sourceTypeOverride="CODECOMMIT",
                sourceLocationOverride=source["repository"],
                sourceVersion=source["commit"],
                environmentVariablesOverride=variables,
                idempotencyToken=work.action["id"],
            )["build"]
        except ClientError as error:
            raise ActionFailed("JobFailed", f"Error calling startBuild: {_said(error)}") from error
        return Outcome(
            IN_PROGRESS,
            configuration=configuration,
            external_id=build["id"],
            external_url=(
                f"{CONSOLE}/codebuild/home?region={work.scope.region}#/builds/{quote(build['id'], safe=':')}/view/new"
            ),
        )

    def _read_artifact(self, work: Work, name: str, project: str) -> dict[str, str]:
        """The reference to a commit; read by the pipeline's role, and as CodeBuild does by the build's."""
        location = work.execution["artifacts"][name]
        try:
            body = _read(self._client("s3", work), location)
        except ClientError as error:
            raise _of_bucket(error, "read the artifact from", location) from error
        builds = self._loopback.client("codebuild", work.scope)
        found = _call(builds.batch_get_projects, names=[project])["projects"]
        if found and found[0].get("serviceRole"):  # of a project that is not there StartBuild says so
            as_build = self._loopback.client("s3", work.scope, found[0]["serviceRole"], "AWSCodeBuild")
            try:
                _read(as_build, location)
            except ClientError as error:
                message = (
                    f"Build terminated with state: FAILED. CLIENT_ERROR: {_said(error)} for primary source and source"
                    f" version arn:aws:s3:::{location['bucket']}/{location['key']}"
                )
                raise ActionFailed("JobFailed", message) from error
        reference: dict[str, str] = json.loads(body)
        return reference

    def _look_at_build(self, work: Work) -> Outcome:
        try:
            found = _call(self._client("codebuild", work).batch_get_builds, ids=[work.action["external_id"]])["builds"]
        except ClientError as error:
            raise ActionFailed("JobFailed", f"Error calling batchGetBuilds: {_said(error)}") from error
        if not found:
            raise ActionFailed("JobFailed", f"Build {work.action['external_id']} is gone")
        status = found[0]["buildStatus"]
        if status == "IN_PROGRESS":
            return Outcome(IN_PROGRESS)
        if status != "SUCCEEDED":
            raise ActionFailed("JobFailed", f"Build terminated with state: {status}")
        return Outcome(SUCCEEDED)

    # Approvals

    def _ask(self, work: Work, configuration: dict[str, str]) -> Outcome:
        if topic := configuration.get("NotificationArn"):
            message = approval_message(work, configuration)
            name = work.action["action"]
            subject = f"APPROVAL NEEDED: AWS CodePipeline {work.pipeline['name']} for action {name}"
            try:
                _call(
                    self._client("sns", work).publish,
                    TopicArn=topic,
                    Subject=subject[:100],
                    Message=json.dumps(message, indent=4),
                )
            except ClientError as error:
                raise ActionFailed("PermissionError", f"Unable to publish to {topic}: {_said(error)}") from error
        return Outcome(IN_PROGRESS, configuration=configuration)

    def _look_at_time(self, work: Work) -> Outcome:
        if self._clock.now() < work.action["expires"]:
            return Outcome(IN_PROGRESS)
        minutes = work.declaration.get("timeoutInMinutes", DEFAULT_MINUTES)
        return Outcome(FAILED, error=("TimeoutError", f"Nobody has approved or rejected it within {minutes} minutes"))

    def _client(self, service: str, work: Work) -> Any:
        return self._loopback.client(service, work.scope, work.pipeline["roleArn"], SESSION)


def approval_message(work: Work, configuration: dict[str, str]) -> dict[str, Any]:
    """What a topic is told of an approval.

    https://docs.aws.amazon.com/codepipeline/latest/userguide/approvals-json-format.html
    """
    name, action = work.pipeline["name"], work.action
    link = f"{CONSOLE}/codepipeline/home?region={work.scope.region}#/view/{name}"
    approval = {
        "pipelineName": name,
        "stageName": action["stage"],
        "actionName": action["action"],
        "token": action["token"],
        "expires": datetime.fromtimestamp(action["expires"], UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "externalEntityLink": configuration.get("ExternalEntityLink"),
        "approvalReviewLink": f"{link}/{action['stage']}/{action['action']}/approve/{action['token']}",
        "customData": configuration.get("CustomData"),
    }
    said = {member: value for member, value in approval.items() if value is not None}
    return {"region": work.scope.region, "consoleLink": link, "approval": said}


def _call(operation: Callable[..., Any], **request: Any) -> Any:
    """An API call's answer.

    Raises:
        ClientError: the service refuses it.
        Unreachable: the server does not answer itself.
    """
    try:
        return operation(**request)
    except BotoCoreError as error:
        raise Unreachable(str(error)) from error


def _read(s3: Any, location: dict[str, str]) -> bytes:
    """An object's content; errors as of `_call`."""
    answer = _call(s3.get_object, Bucket=location["bucket"], Key=location["key"])
    content: bytes = _call(answer["Body"].read)
    return content


def _said(error: ClientError) -> str:
    answered = error.response["Error"]
    return f"{answered.get('Message', '')} (Error Code: {answered.get('Code', '')})"


def _of_codecommit(error: ClientError, repository: str, branch: str) -> ActionFailed:
    """What CodePipeline says when CodeCommit refuses."""
    code = error.response["Error"].get("Code", "")
    if code.startswith("AccessDenied"):
        return ActionFailed(
            "PermissionError",
            "The service role or action role doesn't have the permissions required to access the AWS CodeCommit"
            f" repository named {repository}. Update the IAM role permissions, and then try again. Error:"
            f" {_said(error)}",
        )
    if code == "BranchDoesNotExistException":
        return ActionFailed(
            "ConfigurationError",
            f"The action failed because no branch named {branch} was found in the selected AWS CodeCommit repository"
            f" {repository}. Make sure you are using the correct branch name, and then try again. Error:"
            f" {_said(error)}",
        )
    return ActionFailed("ConfigurationError", f"AWS CodeCommit repository {repository}: {_said(error)}")


def _of_bucket(error: ClientError, does: str, location: dict[str, str]) -> ActionFailed:
    """What CodePipeline says when S3 refuses."""
    code = error.response["Error"].get("Code", "")
    if code in ("AccessDenied", "403"):
        return ActionFailed(
            "PermissionError",
            "Insufficient permissions: The provided role does not have permissions to perform this action: it may not"
            f" {does} s3://{location['bucket']}/{location['key']}. Underlying error: {_said(error)}",
        )
    where = f"s3://{location['bucket']}/{location['key']}"
    return ActionFailed("ConfigurationError", f"CodePipeline could not {does} {where}: {_said(error)}")


def _commit_url(scope: Scope, repository: str, commit: str) -> str:
    return f"{CONSOLE}/codecommit/home?region={scope.region}#/repository/{repository}/commit/{commit}"


def _date(git: str) -> str:
    """Git's time stamp ("1517508943 -0800") as the variables have it."""
    seconds = re.match(r"\d+", git)
    return datetime.fromtimestamp(int(seconds[0]) if seconds else 0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
