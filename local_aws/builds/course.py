"""The course of one of CodeBuild's builds: its source fetched, its buildspec's commands run, phase by phase.

https://docs.aws.amazon.com/codebuild/latest/userguide/view-build-details-phases.html
"""

from __future__ import annotations

import base64
import functools
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from local_aws.builds import records
from local_aws.builds.buildspec import ABORT, CONTINUE, Buildspec, BuildspecError, Phase, parse
from local_aws.builds.log import BuildLog, container_line
from local_aws.builds.runner import OUT_OF_TIME, SERVER, STOPPED, Programs
from local_aws.builds.workspace import Workspace
from local_aws.git import credentials as git_credentials
from local_aws.git.repositories import git_environment
from local_aws.store import Document

USUAL_BUILDSPEC = "buildspec.yml"
# How a build that was ended from outside is reported.
STATUS_OF = {STOPPED: records.STOPPED, OUT_OF_TIME: records.TIMED_OUT}
# A version is a commit, a tag or a branch; the last line says which commit it is.
CHECK_OUT = """
git clone --quiet --no-checkout "$URL" "$FOLDER" && cd "$FOLDER" || exit
for name in "$VERSION" "refs/remotes/origin/${VERSION#refs/heads/}"; do
  commit=$(git rev-parse --verify --quiet --end-of-options "$name^{commit}") || continue
  git checkout --quiet --detach "$commit" && echo "$commit"
  exit
done
echo "The source has no commit, tag or branch $VERSION."
exit 1
"""

Environment = dict[str, str]


class PhaseFailed(Exception):
    """A phase cannot go on.

    Args:
        code: the context's statusCode.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Surroundings:
    """What a build is given.

    Args:
        endpoint: where AWS's calls are answered.
        usual: the variables that every program of a build has.
        credentials: its role's, as variables by which AWS clients find them.
        signed: its role's, as the variables that AWS clients read, by which its source is fetched.
        client: a client of the role's, by the service's name.
        begin, end: a phase begins, and ends with a status and contexts.
        resolved: is told the commit that was checked out.
    """

    endpoint: str
    usual: Mapping[str, str]
    credentials: Mapping[str, str]
    signed: Mapping[str, str]
    client: Callable[[str], Any]
    begin: Callable[[str], None]
    end: Callable[[str, records.Contexts | None], None]
    resolved: Callable[[str], None]


class Course:
    """One build.

    Args:
        build: as BatchGetBuilds answers it, when it begins.
        project: ARN of its project.
    """

    def __init__(
        self,
        build: Document,
        project: str,
        workspace: Workspace,
        programs: Programs,
        log: BuildLog,
        surroundings: Surroundings,
    ) -> None:
        self._build, self._project, self._workspace = build, project, workspace
        self._programs, self._log, self._given = programs, log, surroundings
        self._region = build["arn"].split(":")[3]
        self._folder = workspace.source
        self._environment: Environment = {}

    def run(self) -> str | None:
        """Do all of it.

        Returns:
            The build's status; None when the server ended it.
        """
        self._phase("PROVISIONING", lambda: None)
        spec: list[Buildspec] = []
        succeeded = self._phase("DOWNLOAD_SOURCE", lambda: spec.append(self._prepare()))
        if succeeded:
            succeeded = self._run_phases(spec[0])
        self._phase("FINALIZING", lambda: None)
        if self._programs.ended_by == SERVER:
            return None
        usual = records.SUCCEEDED if succeeded else records.FAILED
        return STATUS_OF.get(self._programs.ended_by or "", usual)

    def _run_phases(self, spec: Buildspec) -> bool:
        """The buildspec's; a build that fails still has its post_build, any other phase ends it."""
        succeeded = True
        for name, phase in spec.phases.items():
            self._environment["CODEBUILD_BUILD_SUCCEEDING"] = str(int(succeeded))
            if not self._phase(name.upper(), functools.partial(self._run_commands, spec, phase)):
                succeeded = False
                usual = CONTINUE if name == "build" else ABORT
                if self._programs.ended_by or (phase.on_failure or usual) == ABORT:
                    return False
        self._phase("UPLOAD_ARTIFACTS", lambda: None)
        return succeeded

    def _phase(self, name: str, work: Callable[[], None]) -> bool:
        """One phase; whether it has succeeded. Nothing is begun any more when the build was ended from outside."""
        if self._programs.ended_by:
            return False
        self._given.begin(name)
        self._log.line(container_line(f"Entering phase {name}"))
        contexts = None
        try:
            work()
            status = records.SUCCEEDED
        except PhaseFailed as failed:
            status = STATUS_OF.get(self._programs.ended_by or "", records.FAILED)
            contexts = [{"statusCode": failed.code, "message": str(failed)}]
        if self._programs.ended_by == SERVER:
            return False
        self._log.line(container_line(f"Phase complete: {name} State: {status}"))
        if contexts:
            text = f"Phase context status code: {contexts[0]['statusCode']} Message: {contexts[0]['message']}"
            self._log.line(container_line(text))
        self._given.end(status, contexts)
        return status == records.SUCCEEDED

    # DOWNLOAD_SOURCE

    def _prepare(self) -> Buildspec:
        source = self._build["source"]
        commit = self._fetch(source) if source["type"] != "NO_SOURCE" else ""
        self._workspace.source.mkdir(exist_ok=True)
        try:
            spec = parse(self._buildspec(source.get("buildspec") or ""))
        except BuildspecError as error:
            raise PhaseFailed("YAML_FILE_ERROR", str(error)) from error
        self._environment = self._variables(spec, commit)
        if spec.signs_in_to_git:
            self._let_git_sign_in()
        if spec.ignored:
            self._log.line(container_line(f"local_aws ignores {', '.join(spec.ignored)} of the buildspec."))
        for name, version in spec.phases["install"].runtimes.items():
            here = f"local_aws has {platform.python_version()} alone, the one that it runs on"
            self._log.line(container_line(f"Selecting '{name}' runtime version '{version}': {here}."))
        return spec

    def _fetch(self, source: Mapping[str, Any]) -> str:
        """Clone CodeCommit's repository as the build's role; the commit that is checked out."""
        address = urlsplit(source.get("location", ""))
        if source["type"] != "CODECOMMIT" or f"{address.scheme}://{address.netloc}" != self._given.endpoint:
            here = f"{self._given.endpoint}{git_credentials.PREFIX}<repository>"
            raise PhaseFailed(
                "CLIENT_ERROR",
                f"local_aws fetches sources of CodeCommit, at {here}; this one is {source['type']} at"
                f" {source.get('location')!r}.",
            )
        password = git_credentials.password(
            self._given.signed["AWS_SECRET_ACCESS_KEY"], self._region, address.netloc, address.path, datetime.now(UTC)
        )
        user = f"{self._given.signed['AWS_ACCESS_KEY_ID']}%{self._given.signed['AWS_SESSION_TOKEN']}"
        signed = base64.b64encode(f"{user}:{password}".encode()).decode()
        environment = git_environment({"http.extraHeader": f"Authorization: Basic {signed}"})
        version = self._build.get("sourceVersion") or "refs/remotes/origin/HEAD"
        environment |= {"URL": source["location"], "FOLDER": str(self._workspace.source), "VERSION": version}
        printed: list[bytes] = []
        ending = self._programs.run(["/bin/sh", "-c", CHECK_OUT], environment, self._workspace.folder, printed.append)
        said = b"".join(printed).decode(errors="replace").strip()
        if not ending.succeeded:
            raise PhaseFailed("CLIENT_ERROR", f"The source could not be fetched: {said or ending.ended_by}")
        commit = said.splitlines()[-1]
        self._given.resolved(commit)
        return commit

    def _buildspec(self, given: str) -> str:
        if "\n" in given or given.lstrip().startswith(("version:", "{")):
            return given
        path = self._workspace.source / (given or USUAL_BUILDSPEC)
        inside = path.resolve().is_relative_to(self._workspace.source.resolve())
        if not inside or not path.is_file():
            raise PhaseFailed("YAML_FILE_ERROR", f"stat {path.name}: no such file in the source: {given!r}")
        return path.read_text(errors="replace")

    def _let_git_sign_in(self) -> None:
        """Git's own configuration of the build; on AWS the build's image has a credential helper for it."""
        lines = []
        for name, value in git_credentials.client_settings(self._given.endpoint):
            section, _, key = name.removeprefix("credential.").rpartition(".")
            quoted = value.replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'[credential "{section}"]\n\t{key} = "{quoted}"\n')
        (self._workspace.home / ".gitconfig").write_text("".join(lines))

    # Variables

    def _variables(self, spec: Buildspec, commit: str) -> Environment:
        """https://docs.aws.amazon.com/codebuild/latest/userguide/build-env-ref-env-vars.html"""
        build, environment = self._build, self._build["environment"]
        own = {
            "AWS_REGION": self._region,
            "AWS_DEFAULT_REGION": self._region,
            "CODEBUILD_BUILD_ARN": build["arn"],
            "CODEBUILD_BUILD_ID": build["id"],
            "CODEBUILD_BUILD_IMAGE": environment.get("image", ""),
            "CODEBUILD_BUILD_NUMBER": str(build["buildNumber"]),
            "CODEBUILD_BUILD_SUCCEEDING": "1",
            "CODEBUILD_INITIATOR": build["initiator"],
            "CODEBUILD_KMS_KEY_ID": build["encryptionKey"],
            "CODEBUILD_LOG_PATH": build["logs"]["streamName"],
            "CODEBUILD_PROJECT_ARN": self._project,
            "CODEBUILD_RESOLVED_SOURCE_VERSION": commit,
            "CODEBUILD_SOURCE_REPO_URL": build["source"].get("location", ""),
            "CODEBUILD_SOURCE_VERSION": build.get("sourceVersion") or "",
            "CODEBUILD_SRC_DIR": str(self._workspace.source),
            "CODEBUILD_START_TIME": str(int(build["startTime"] * 1000)),
        }
        given = {**spec.variables}
        given |= {name: self._parameter(value) for name, value in spec.parameters.items()}
        given |= {name: self._secret(value) for name, value in spec.secrets.items()}
        for variable in environment.get("environmentVariables") or []:
            read = {"PARAMETER_STORE": self._parameter, "SECRETS_MANAGER": self._secret}
            value = read.get(variable.get("type", "PLAINTEXT"), str)(variable["value"])
            given[variable["name"]] = value
        return dict(self._given.usual) | given | own | dict(self._given.credentials)

    def _parameter(self, name: str) -> str:
        return self._read(
            "ssm", lambda client: client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
        )

    def _secret(self, reference: str) -> str:
        """Of a reference "<secret>:<key in its JSON>"; the whole secret without a key."""
        secret, _, key = reference.partition(":") if not reference.startswith("arn:") else (reference, "", "")
        text = self._read("secretsmanager", lambda client: client.get_secret_value(SecretId=secret)["SecretString"])
        if not key:
            return text
        try:
            value = str(json.loads(text)[key.partition(":")[0]])
        except (ValueError, KeyError, TypeError) as error:
            raise PhaseFailed("Secrets Manager Error Message", f"The secret {secret} has no {key!r}.") from error
        self._log.hide(value)
        return value

    def _read(self, service: str, read: Callable[[Any], str]) -> str:
        try:
            value = read(self._given.client(service))
        except (ClientError, BotoCoreError) as error:
            raise PhaseFailed("CLIENT_ERROR", str(error)) from error
        self._log.hide(value)
        return value

    # The buildspec's phases

    def _run_commands(self, spec: Buildspec, phase: Phase) -> None:
        try:
            self._run_all(spec, phase.commands)
        finally:
            if phase.finally_:
                self._run_all(spec, phase.finally_)

    def _run_all(self, spec: Buildspec, commands: tuple[str, ...]) -> None:
        for command in commands:
            self._log.line(container_line(f"Running command {command.strip()}"))
            script = self._workspace.script(command)
            ending = self._programs.run([*spec.shell, str(script)], self._environment, self._folder, self._log.write)
            self._environment, self._folder = self._workspace.after(self._environment, self._folder)
            if ending.succeeded:
                continue
            how = {STOPPED: "the build was stopped", OUT_OF_TIME: "the build has run out of time"}
            reason = how.get(ending.ended_by) or _reason(ending.exit_code, ending.signal, ending.error)
            raise PhaseFailed(
                "COMMAND_EXECUTION_ERROR", f"Error while executing command: {command.strip()}. Reason: {reason}"
            )


def _reason(exit_code: int | None, signal: int | None, error: str | None) -> str:
    if error is not None:
        return error
    return f"exit status {exit_code}" if signal is None else f"signal {signal}"
