"""CodeBuild: builds begun, described and stopped. Its projects are MiniStack's.

https://docs.aws.amazon.com/codebuild/latest/APIReference/
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local_aws.builds import records
from local_aws.builds.course import Course, Surroundings
from local_aws.builds.credentials import BuildCredentials, RoleCredentials
from local_aws.builds.log import BuildLog
from local_aws.builds.machine import Machine
from local_aws.builds.records import Records
from local_aws.builds.runner import SERVER, Programs
from local_aws.calls import Call, Request, Response, ServiceError
from local_aws.events import Events
from local_aws.front_door import JsonService
from local_aws.jobs.log import JobLog
from local_aws.loopback import Loopback
from local_aws.store import Document, Scope, Store

SERVICE = "codebuild.amazonaws.com"
SESSION = "AWSCodeBuild"  # what a role's sessions are called
USUAL_MINUTES = 60
MOST_IDS = 100  # of one call
# What of StartBuild is done here, besides projectName.
DONE = (
    "sourceVersion",
    "sourceTypeOverride",
    "sourceLocationOverride",
    "buildspecOverride",
    "environmentVariablesOverride",
    "timeoutInMinutesOverride",
    "idempotencyToken",
)
NOT_RUN = (
    "local_aws runs no builds now: this one was recorded only. Let it run them with LocalAWS(builds=True),"
    ' or aws.configure("builds", {"run": True}).'
)
SERVER_ENDED = "local_aws ended while the build was under way. Start it again."

logger = logging.getLogger(__name__)

# A project as CodeBuild knows it, by its name; None when there is none.
FindProject = Callable[[Scope, str], Document | None]
# Whether a role lets a service assume it for a resource: (scope, role, service, the resource's ARN).
Trusts = Callable[[Scope, str, str, str], bool]


class CodeBuild(JsonService):
    """The service's builds.

    Args:
        find_project, trusts, role_credentials: ministack_host's.
    """

    def __init__(
        self,
        store: Store,
        loopback: Loopback,
        events: Events,
        machine: Machine,
        credentials: BuildCredentials,
        *,
        find_project: FindProject,
        trusts: Trusts,
        role_credentials: RoleCredentials,
    ) -> None:
        super().__init__("codebuild", "CodeBuild", "CodeBuild_20161006.")
        self.records = Records(store, events)
        self._loopback, self._machine, self._credentials = loopback, machine, credentials
        self._find_project, self._trusts, self._role_credentials = find_project, trusts, role_credentials
        self._store = store
        self._programs: dict[str, Programs] = {}  # by build, while it waits or runs
        self.operations |= {
            "StartBuild": self.start_build,
            "BatchGetBuilds": self.batch_get_builds,
            "StopBuild": self.stop_build,
            "ListBuilds": self.list_builds,
            "ListBuildsForProject": self.list_builds_for_project,
            "BatchDeleteBuilds": self.batch_delete_builds,
        }
        machine.runner.show(self.shown)

    def resume(self) -> None:
        """After a restart with state: what was under way when the last process ended is at fault, saying so."""
        for scope, build in self.records.everywhere():
            contexts = [{"statusCode": "INTERNAL_SERVICE_ERROR", "message": SERVER_ENDED}]
            self.records.finish(scope, build["id"], records.FAULT, contexts)

    # Operations

    def start_build(self, call: Call, request: Request) -> Response:
        """Begin a build, which runs when it is its turn.

        Raises:
            ServiceError: ResourceNotFoundException without the project, InvalidInputException for what is not done
                here.
        """
        return {"build": self.begin(call.scope, request, _initiator(call))}

    def begin(self, scope: Scope, request: Request, initiator: str) -> Document:
        """The same, for whoever is named as the initiator, such as "rule/pushes".

        Raises:
            ServiceError: as `start_build`.
        """
        if others := sorted(request.keys() - {"projectName", *DONE}):
            names = ", ".join(others)
            raise ServiceError(
                "InvalidInputException", f"local_aws does not build {names} of StartBuild; it knows {', '.join(DONE)}."
            )
        name = request["projectName"].rpartition("/")[2]
        project = self._find_project(scope, name)
        if project is None:
            raise ServiceError("ResourceNotFoundException", f"Project cannot be found: {name}")
        with self._store.lock:
            before = [build for build in self.records.all(scope) if build["projectName"] == name]
            token = request.get("idempotencyToken")
            for build in before:
                if token and build.get("idempotencyToken") == token:
                    return _shown(build)
            number = max((build["buildNumber"] for build in before), default=0) + 1
            build = _new_build(scope, project, request, number, initiator)
            self.records.add(scope, build)
        if not self._machine.runner.runs:
            self._do_not_run(scope, build["id"])
        else:
            self._submit(scope, project, build)
        found = self.records.get(scope, build["id"])
        assert found is not None
        return _shown(found)

    def batch_get_builds(self, call: Call, request: Request) -> Response:
        found, missing = [], []
        for build_id in _ids(request):
            build = self.records.get(call.scope, _id_of(build_id))
            found += [_shown(build)] if build else []
            missing += [] if build else [build_id]
        return {"builds": found, "buildsNotFound": missing}

    def stop_build(self, call: Call, request: Request) -> Response:
        """Stop a build; nothing happens to one that is over."""
        build_id = _id_of(request["id"])
        if self.records.get(call.scope, build_id) is None:
            raise ServiceError("ResourceNotFoundException", f"Build cannot be found: {build_id}")
        self.records.finish(call.scope, build_id, records.STOPPED)
        if programs := self._programs.get(build_id):
            self._machine.runner.stop(programs)
        found = self.records.get(call.scope, build_id)
        return {"build": _shown(found)} if found else {}

    def list_builds(self, call: Call, request: Request) -> Response:
        return {"ids": _sorted_ids(self.records.all(call.scope), request)}

    def list_builds_for_project(self, call: Call, request: Request) -> Response:
        name = request["projectName"]
        if self._find_project(call.scope, name) is None:
            raise ServiceError("ResourceNotFoundException", f"Project cannot be found: {name}")
        builds = [build for build in self.records.all(call.scope) if build["projectName"] == name]
        return {"ids": _sorted_ids(builds, request)}

    def batch_delete_builds(self, call: Call, request: Request) -> Response:
        deleted, kept = [], []
        for build_id in _ids(request):
            build = self.records.get(call.scope, _id_of(build_id))
            if build is None or not build["buildComplete"]:
                why = "BUILD_IN_PROGRESS" if build else "NOT_FOUND"
                kept.append({"id": build_id, "statusCode": why})
            else:
                self.records.delete(call.scope, build["id"])
                self._log_file(build["id"]).unlink(missing_ok=True)
                deleted.append(build["arn"])
        return {"buildsDeleted": deleted, "buildsNotDeleted": kept}

    # Running

    def _do_not_run(self, scope: Scope, build_id: str) -> None:
        self.records.begin(scope, build_id, "PROVISIONING")
        contexts = [{"statusCode": "INTERNAL_SERVICE_ERROR", "message": NOT_RUN}]
        self.records.finish(scope, build_id, records.FAULT, contexts)

    def _submit(self, scope: Scope, project: Mapping[str, Any], build: Document) -> None:
        programs = Programs(build["projectName"], build["timeoutInMinutes"] * 60)
        self._programs[build["id"]] = programs
        self.records.begin(scope, build["id"], "QUEUED")
        self._machine.runner.submit(programs, lambda: self._run(scope, project["arn"], build, programs))

    def _run(self, scope: Scope, project: str, build: Document, programs: Programs) -> None:
        build_id, role = build["id"], build["serviceRole"]
        try:
            self.records.end(scope, build_id, records.SUCCEEDED)
            stream = self._stream(scope, build)
            if fault := self._role_fault(scope, project, build, stream):
                self.records.begin(scope, build_id, "PROVISIONING")
                self.records.finish(scope, build_id, records.FAILED, [{"statusCode": "CLIENT_ERROR", "message": fault}])
                return
            log = BuildLog(self._log_file(build_id), stream)
            workspace = self._machine.workspace()
            try:
                with self._credentials.given(role, f"{SESSION}-{build_id.rpartition(':')[2]}") as credentials:
                    usual = self._machine.environment(workspace)
                    surroundings = self._surroundings(scope, build, usual, credentials)
                    status = Course(build, project, workspace, programs, log, surroundings).run()
            finally:
                log.close(deliver=programs.ended_by != SERVER)
                workspace.remove()
            if status is not None:
                self.records.finish(scope, build_id, status)
        except Exception as error:
            logger.exception("Build %s failed here", build_id)
            message = f"local_aws failed: {error!r}. Its log has the reason."
            contexts = [{"statusCode": "INTERNAL_SERVICE_ERROR", "message": message}]
            self.records.finish(scope, build_id, records.FAULT, contexts)
        finally:
            self._programs.pop(build_id, None)

    def _stream(self, scope: Scope, build: Document) -> JobLog | None:
        logs = build["logs"]
        if "groupName" not in logs:
            return None
        return JobLog(self._client("logs", scope, build["serviceRole"]), logs["groupName"], logs["streamName"])

    def _role_fault(self, scope: Scope, project: str, build: Document, stream: JobLog | None) -> str | None:
        """Why a build's role cannot be used, None when it can; its log stream is made."""
        role = build["serviceRole"]
        if self._loopback.enforced and not self._trusts(scope, role, SERVICE, project):
            return f"CodeBuild is not authorized to perform: sts:AssumeRole on {role}"
        try:
            if stream is not None:
                stream.make()
        except (ClientError, BotoCoreError) as error:
            return (
                f"ACCESS_DENIED: Service role {role} does not allow AWS CodeBuild to create Amazon CloudWatch Logs log"
                f" streams for build {build['arn']}. Error message: {error}"
            )
        return None

    def _surroundings(
        self, scope: Scope, build: Document, usual: Mapping[str, str], credentials: Mapping[str, str]
    ) -> Surroundings:
        build_id, role = build["id"], build["serviceRole"]
        return Surroundings(
            self._machine.endpoint,
            usual,
            credentials,
            self._role_credentials(role, SESSION),
            lambda service: self._client(service, scope, role),
            lambda phase: self.records.begin(scope, build_id, phase),
            lambda status, contexts: self.records.end(scope, build_id, status, contexts),
            lambda commit: self.records.change(scope, build_id, resolvedSourceVersion=commit),
        )

    def _client(self, service: str, scope: Scope, role: str) -> Any:
        return self._loopback.client(service, scope, role, SESSION)

    def _log_file(self, build_id: str) -> Path:
        return self._machine.logs / f"{build_id.replace(':', '-')}.log"

    def shown(self) -> list[dict[str, Any]]:
        """Every build, as the switch "builds" shows it."""
        return [
            {
                "id": build["id"],
                "system": "codebuild",
                "name": build["projectName"],
                "version": build.get("resolvedSourceVersion") or build.get("sourceVersion") or "",
                "status": build["buildStatus"],
                "phase": build["currentPhase"],
                "begun": build["startTime"],
                "ended": build.get("endTime"),
                "log": str(self._log_file(build["id"])),
            }
            for _, build in self.records.everywhere()
        ]


def _new_build(scope: Scope, project: Mapping[str, Any], request: Request, number: int, initiator: str) -> Document:
    unique, now = str(uuid.uuid4()), round(time.time(), 3)
    build_id = f"{project['name']}:{unique}"
    source = dict(project.get("source") or {"type": "NO_SOURCE"})
    for override, member in (
        ("sourceTypeOverride", "type"),
        ("sourceLocationOverride", "location"),
        ("buildspecOverride", "buildspec"),
    ):
        if override in request:
            source[member] = request[override]
    environment = dict(project.get("environment") or {})
    overrides = request.get("environmentVariablesOverride") or []
    if overrides:
        own = {each["name"]: each for each in environment.get("environmentVariables") or []}
        environment["environmentVariables"] = [*{**own, **{each["name"]: each for each in overrides}}.values()]
    logs = (project.get("logsConfig") or {}).get("cloudWatchLogs") or {}
    group = logs.get("groupName") or f"/aws/codebuild/{project['name']}"
    stream = f"{logs['streamName']}/{unique}" if logs.get("streamName") else unique
    shown: dict[str, Any] = {"cloudWatchLogs": {"status": logs.get("status", "ENABLED"), **logs}}
    if logs.get("status", "ENABLED") == "ENABLED":
        shown |= {"groupName": group, "streamName": stream}
    else:
        shown |= {"streamName": stream}
    minutes = request.get("timeoutInMinutesOverride") or project.get("timeoutInMinutes") or USUAL_MINUTES
    submitted = {
        "phaseType": "SUBMITTED",
        "phaseStatus": records.SUCCEEDED,
        "startTime": now,
        "endTime": now,
        "durationInSeconds": 0,
    }
    build = {
        "id": build_id,
        "arn": f"arn:aws:codebuild:{scope.region}:{scope.account}:build/{build_id}",
        "buildNumber": number,
        "startTime": now,
        "currentPhase": "QUEUED",
        "buildStatus": records.IN_PROGRESS,
        "buildComplete": False,
        "projectName": project["name"],
        "phases": [submitted],
        "source": source,
        "artifacts": {"location": ""},
        "environment": environment,
        "serviceRole": project.get("serviceRole", ""),
        "logs": shown,
        "timeoutInMinutes": int(minutes),
        "initiator": initiator,
        "encryptionKey": project.get("encryptionKey", ""),
    }
    version = request.get("sourceVersion") or project.get("sourceVersion")
    build |= {"sourceVersion": version} if version else {}
    return build | ({"idempotencyToken": request["idempotencyToken"]} if "idempotencyToken" in request else {})


def _shown(build: Document) -> Document:
    return {key: value for key, value in build.items() if key != "idempotencyToken"}


def _initiator(call: Call) -> str:
    """A user's name, or a role and its session as "role/session"; the account for its root."""
    if call.caller is None:
        return call.scope.account
    resource = call.caller[0].rpartition(":")[2]
    kind, _, rest = resource.partition("/")
    return rest if kind == "assumed-role" else resource.rpartition("/")[2]


def _ids(request: Request) -> list[str]:
    ids = request["ids"]
    if len(ids) > MOST_IDS:
        raise ServiceError("InvalidInputException", f"{len(ids)} ids were given, of {MOST_IDS} allowed in one call.")
    return ids


def _id_of(text: str) -> str:
    """A build's id, of its id or its ARN."""
    return text.rpartition(":build/")[2] if text.startswith("arn:") else text


def _sorted_ids(builds: list[Document], request: Request) -> list[str]:
    """Newest first unless the request wants otherwise."""
    ids = [build["id"] for build in builds]
    return ids if request.get("sortOrder") == "ASCENDING" else ids[::-1]
