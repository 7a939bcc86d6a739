"""The course of one job of GitHub Actions: its steps, run one after another on this machine.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_aws.builds.log import BuildLog
from local_aws.builds.runner import OUT_OF_TIME, SERVER, Programs
from local_aws.builds.workspace import Workspace
from local_aws.git.github_actions_expressions import ExpressionError, Scope, as_text, condition, evaluate, filled
from local_aws.git.github_actions_workflows import Job, Step, Workflow
from local_aws.git.repositories import settings_in_environment

SUCCESS, FAILURE, CANCELLED, SKIPPED = "success", "failure", "cancelled", "skipped"
# How each shell runs a file: https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax, "shell"
SHELLS: Mapping[str, tuple[str, ...]] = {
    "": ("bash", "-e"),
    "bash": ("bash", "--noprofile", "--norc", "-eo", "pipefail"),
    "sh": ("sh", "-e"),
    "python": ("python",),
}
FILES = {"env": "GITHUB_ENV", "path": "GITHUB_PATH", "output": "GITHUB_OUTPUT", "summary": "GITHUB_STEP_SUMMARY"}
CHECK_OUT = """
git init --quiet "$FOLDER" && cd "$FOLDER" && git remote add origin "$URL" || exit
if [ "$DEPTH" = 0 ]; then
  git fetch --quiet --prune --tags origin '+refs/heads/*:refs/remotes/origin/*' || exit
fi
if [ "$DEPTH" != 0 ] || ! git cat-file -e "$WANTED^{commit}" 2>/dev/null; then
  depth=; [ "$DEPTH" = 0 ] || depth="--depth=$DEPTH"
  git fetch --quiet --no-tags $depth origin "+$WANTED:$TRACKED" || exit
fi
if [ -n "$BRANCH" ]; then
  git checkout --quiet -B "$BRANCH" "$TRACKED"
else
  git checkout --quiet --detach "$TRACKED"
fi || exit
git log -1 --format=%H
"""

Environment = dict[str, str]


class StepFailed(Exception):
    """Why a step failed, when no program of its own says it."""


@dataclass(frozen=True)
class Surroundings:
    """What a job is given.

    Args:
        contexts: github, vars, secrets, needs, inputs: what expressions can name.
        variables: of every step besides those that GitHub sets, such as ACTIONS_ID_TOKEN_REQUEST_URL.
        usual: those that every program of a build has.
        site: GitHub's address.
        token: GITHUB_TOKEN.
        artifacts: a folder for what the job uploads.
        on_steps: is told the steps as they are now, as GitHub answers them.
    """

    contexts: Mapping[str, Any]
    variables: Mapping[str, str]
    usual: Mapping[str, str]
    site: str
    token: str
    artifacts: Path
    on_steps: Callable[[list[dict[str, Any]]], None]


@dataclass
class Result:
    """How a job ended.

    Args:
        conclusion: "success", "failure" or "cancelled"; "" when the server ended it.
    """

    conclusion: str
    outputs: dict[str, str] = field(default_factory=dict)


class JobCourse:
    """One job.

    Args:
        summary: the file that the steps' GITHUB_STEP_SUMMARY is added to.
    """

    def __init__(
        self,
        job: Job,
        workflow: Workflow,
        workspace: Workspace,
        programs: Programs,
        log: BuildLog,
        summary: Path,
        given: Surroundings,
    ) -> None:
        self._job, self._workflow, self._workspace = job, workflow, workspace
        self._programs, self._log, self._summary, self._given = programs, log, summary, given
        self._status = SUCCESS
        self._steps: dict[str, dict[str, Any]] = {}  # by id: outputs, outcome, conclusion
        self._shown: list[dict[str, Any]] = [
            {"name": step.name, "number": step.number, "status": "queued", "conclusion": None} for step in job.steps
        ]
        self._set: Environment = {}  # by steps, for those after them
        self._path: list[str] = []
        self._files = workspace.folder / "runner"

    def run(self) -> Result:
        """Do all of it."""
        self._files.mkdir()
        self._workspace.source.mkdir()
        event = self._files / "event.json"
        event.write_text(json.dumps(self._given.contexts["github"]["event"]))
        self._own = self._variables(event)
        for step, shown in zip(self._job.steps, self._shown, strict=True):
            self._run_step(step, shown)
        if self._programs.ended_by == SERVER:
            return Result("")
        if self._programs.ended_by == OUT_OF_TIME:
            minutes = f"{self._job.minutes:g} minutes"
            self._log.line(f"##[error]The job has exceeded the maximum execution time of {minutes}.")
        outputs = {}
        try:
            scope = self._scope(self._own)
            outputs = {name: filled(text, scope) for name, text in self._job.outputs.items()}
        except ExpressionError as error:
            self._log.line(f"##[error]outputs: {error}")
            self._status = FAILURE
        return Result(CANCELLED if self._programs.ended_by else self._status, outputs)

    # Steps

    def _run_step(self, step: Step, shown: dict[str, Any]) -> None:
        env = self._own | self._set
        try:
            for texts in (self._workflow.env, self._job.env, step.env):
                env |= {name: filled(text, self._scope(env)) for name, text in texts.items()}
            runs = not self._programs.ended_by and condition(step.condition or "success()", self._scope(env))
        except ExpressionError as error:
            self._end_step(step, shown, FAILURE, str(error))
            return
        if not runs:
            self._end_step(step, shown, CANCELLED if self._programs.ended_by else SKIPPED)
            return
        shown |= {"status": "in_progress", "started_at": _now()}
        self._tell()
        fault, outcome, outputs = "", FAILURE, {}
        try:
            outputs = self._use(step, env) if step.action else self._run_commands(step, env)
            outcome = SUCCESS
        except (StepFailed, ExpressionError) as error:
            fault = str(error)
        self._end_step(step, shown, CANCELLED if self._programs.ended_by else outcome, fault, outputs)

    def _end_step(
        self,
        step: Step,
        shown: dict[str, Any],
        outcome: str,
        fault: str = "",
        outputs: Mapping[str, str] | None = None,
    ) -> None:
        if fault:
            self._log.line(f"##[error]{fault}")
        conclusion = SUCCESS if outcome == FAILURE and step.continues else outcome
        if conclusion == FAILURE:
            self._status = FAILURE
        if step.id:
            self._steps[step.id] = {"outcome": outcome, "conclusion": conclusion, "outputs": dict(outputs or {})}
        shown |= {"status": "completed", "conclusion": conclusion, "completed_at": _now()}
        self._tell()

    def _tell(self) -> None:
        if self._programs.ended_by != SERVER:
            self._given.on_steps([dict(each) for each in self._shown])

    def _run_commands(self, step: Step, env: Environment) -> dict[str, str]:
        text = filled(step.run, self._scope(env))
        script = self._files / uuid.uuid4().hex
        script.write_text(text if text.endswith("\n") else f"{text}\n")
        written = {kind: self._files / f"{kind}-{step.number}" for kind in FILES}
        for path in written.values():
            path.touch()
        env = env | {FILES[kind]: str(path) for kind, path in written.items()}
        env["PATH"] = ":".join([*self._path[::-1], env["PATH"]])
        folder = self._workspace.source / filled(step.folder, self._scope(env))
        if not folder.is_dir():
            raise StepFailed(f"working-directory {step.folder!r}: there is no such folder.")
        self._log.line(f"##[group]{step.name}")
        for line in text.splitlines():
            self._log.line(line)
        self._log.line("##[endgroup]")
        argv = [*SHELLS[step.shell], str(script)]
        seconds = float("inf") if step.minutes is None else step.minutes * 60
        ending = self._programs.run(argv, env, folder, self._log.write, seconds)
        self._log.complete()
        self._set |= _pairs(written["env"].read_text(errors="replace"), "GITHUB_ENV")
        self._path += [line for line in written["path"].read_text(errors="replace").splitlines() if line]
        if summary := written["summary"].read_text(errors="replace"):
            with self._summary.open("a") as file:
                file.write(summary if summary.endswith("\n") else f"{summary}\n")
        if not ending.succeeded and not self._programs.ended_by:
            if ending.ended_by == OUT_OF_TIME:
                raise StepFailed(f"The action '{step.name}' has timed out after {step.minutes:g} minutes.")
            how = f"exit code {ending.exit_code}" if ending.signal is None else f"signal {ending.signal}"
            raise StepFailed(ending.error or f"Process completed with {how}.")
        return _pairs(written["output"].read_text(errors="replace"), "GITHUB_OUTPUT")

    # Actions

    def _use(self, step: Step, env: Environment) -> dict[str, str]:
        inputs = {name: filled(text, self._scope(env)) for name, text in step.inputs.items()}
        self._log.line(f"##[group]{step.name}")
        for name, value in inputs.items():
            self._log.line(f"  {name}: {value}")
        self._log.line("##[endgroup]")
        does: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
            "actions/checkout": self._check_out,
            "actions/setup-python": self._set_up_python,
            "actions/cache": self._cache,
            "actions/upload-artifact": self._upload,
        }
        return does[step.action](inputs)

    def _check_out(self, inputs: dict[str, str]) -> dict[str, str]:
        github = self._given.contexts["github"]
        repository = inputs.get("repository", github["repository"])
        if repository.lower() != github["repository"].lower():
            raise StepFailed(f"checkout: local_aws checks out the job's own repository, not {repository!r}.")
        depth = inputs.get("fetch-depth", "1")
        if not re.fullmatch(r"\d{1,6}", depth):
            raise StepFailed(f"checkout: fetch-depth {depth!r} is no number.")
        folder = (self._workspace.source / inputs.get("path", ".")).resolve()
        if not folder.is_relative_to(self._workspace.source.resolve()):
            raise StepFailed(f"checkout: path {inputs['path']!r} is outside of the workspace.")
        ref, wanted = inputs.get("ref", ""), github["sha"]
        if ref:
            wanted = ref if re.fullmatch(r"[0-9a-f]{40}|refs/.*", ref) else f"refs/heads/{ref}"
        place = wanted if wanted.startswith("refs/") else ("" if ref else github["ref"])
        branch = place.removeprefix("refs/heads/") if place.startswith("refs/heads/") else ""
        signed = base64.b64encode(f"x-access-token:{inputs.get('token') or self._given.token}".encode()).decode()
        header, url = f"AUTHORIZATION: basic {signed}", f"{self._given.site}/{github['repository']}"
        self._log.hide(signed)
        kept = f"origin/{branch}" if branch else place.removeprefix("refs/") or "wanted"
        environment = dict(self._given.usual) | {
            "URL": url,
            "FOLDER": str(folder),
            "DEPTH": depth,
            "WANTED": wanted,
            "TRACKED": f"refs/remotes/{kept}",
            "BRANCH": branch,
            # Not as an argument, which every list of processes shows.
            **settings_in_environment([(f"http.{self._given.site}/.extraHeader", header)]),
        }
        ending = self._programs.run(["sh", "-c", CHECK_OUT], environment, self._workspace.folder, self._log.write)
        self._log.complete()
        if not ending.succeeded:
            raise StepFailed(f"checkout: {wanted} of {github['repository']} could not be fetched.")
        if inputs.get("persist-credentials", "true") == "true":
            config = folder / ".git" / "config"
            with config.open("a") as file:
                file.write(f'[http "{self._given.site}/"]\n\textraheader = {header}\n')
        return {"ref": ref or github["ref"], "commit": github["sha"]}

    def _set_up_python(self, inputs: dict[str, str]) -> dict[str, str]:
        version = platform.python_version()
        wanted = inputs.get("python-version") or inputs.get("python-version-file") or "any"
        self._log.line(f"Python {wanted} is asked for: local_aws has {version} alone, the one that it runs on.")
        return {"python-version": version, "cache-hit": "false"}

    def _cache(self, inputs: dict[str, str]) -> dict[str, str]:
        self._log.line(f"Cache not found for input keys: {inputs.get('key', '')} (local_aws keeps no caches)")
        return {"cache-hit": "false"}

    def _upload(self, inputs: dict[str, str]) -> dict[str, str]:
        name = inputs.get("name", "artifact")
        if not re.fullmatch(r"[^\\/:*?\"<>|\r\n]+", name) or name in (".", ".."):
            raise StepFailed(f"upload-artifact: {name!r} is no name of an artifact.")
        root = self._workspace.source.resolve()
        files = []
        for pattern in inputs.get("path", "").splitlines():
            files += [path for path in self._found(root, pattern.strip()) if path.is_file()]
        if not files:
            message = f"No files were found with the provided path: {inputs.get('path', '')}."
            if inputs.get("if-no-files-found", "warn") == "error":
                raise StepFailed(message)
            self._log.line(f"##[warning]{message}")
            return {}
        target = self._given.artifacts / name
        shutil.rmtree(target, ignore_errors=True)
        for path in dict.fromkeys(files):
            copy = target / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        self._log.line(f"Artifact {name} has {len(dict.fromkeys(files))} files, in {target}")
        return {"artifact-id": name}

    def _found(self, root: Path, pattern: str) -> Iterator[Path]:
        """Files of a pattern, in the workspace alone; a folder stands for all that is in it."""
        if not pattern or pattern.startswith(("/", "!")) or ".." in Path(pattern).parts:
            raise StepFailed(f"upload-artifact: local_aws does not understand the path {pattern!r}.")
        for path in sorted(root.glob(pattern)):
            yield from sorted(path.rglob("*")) if path.is_dir() else [path]

    # What expressions and programs see

    def _scope(self, env: Mapping[str, str]) -> Scope:
        contexts = {
            **self._given.contexts,
            "env": {name: value for name, value in env.items() if name not in self._given.usual},
            "steps": self._steps,
            "job": {"status": self._status},
            "runner": {
                "os": "Linux",
                "arch": "X64",
                "name": "local_aws",
                "temp": str(self._files),
                "tool_cache": str(self._files / "tools"),
            },
        }
        return Scope(contexts, self._status, {"hashFiles": self._hash_files})

    def _hash_files(self, *patterns: Any) -> str:
        root = self._workspace.source
        found = sorted({path for each in patterns for path in root.glob(as_text(each)) if path.is_file()})
        if not found:
            return ""
        digests = [hashlib.sha256(path.read_bytes()).digest() for path in found]
        return hashlib.sha256(b"".join(digests)).hexdigest()

    def _variables(self, event: Path) -> Environment:
        """https://docs.github.com/en/actions/reference/workflows-and-actions/variables"""
        github = self._given.contexts["github"]
        named = ("actor", "base_ref", "event_name", "head_ref", "job", "ref", "ref_name", "ref_type", "repository")
        more = ("repository_id", "repository_owner", "repository_owner_id", "run_attempt", "run_id", "run_number")
        last = ("server_url", "api_url", "sha", "triggering_actor", "workflow", "workflow_ref", "workflow_sha")
        own = {f"GITHUB_{name.upper()}": str(github[name]) for name in (*named, *more, *last)}
        return {
            **self._given.usual,
            **own,
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_WORKSPACE": str(self._workspace.source),
            "RUNNER_ARCH": "X64",
            "RUNNER_ENVIRONMENT": "github-hosted",
            "RUNNER_NAME": "local_aws",
            "RUNNER_OS": "Linux",
            "RUNNER_TEMP": str(self._files),
            **self._given.variables,
        }


def evaluated(text: str, scope: Scope) -> Any:
    """The value of a text that is one expression, and the filled text of any other."""
    whole = re.fullmatch(r"\s*\$\{\{(.*?)\}\}\s*", text, re.DOTALL)
    return evaluate(whole[1], scope) if whole and "${{" not in whole[1] else filled(text, scope)


def _pairs(text: str, what: str) -> dict[str, str]:
    """What a step has written to GITHUB_ENV or GITHUB_OUTPUT: NAME=value, or NAME<<END and lines until END.

    Raises:
        StepFailed: it is neither.
    """
    found: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        name, sign, value = line.partition("=")
        head, several, end = line.partition("<<")
        if several and (not sign or len(head) < len(name)):
            name, value, kept = head, "", []
            for each in lines:
                if each == end:
                    break
                kept.append(each)
            else:
                raise StepFailed(f"{what}: the value of {name!r} has no end: {end!r} is missing.")
            value = "\n".join(kept)
        elif not sign:
            if line.strip():
                raise StepFailed(f"{what}: invalid format {line!r}: write NAME=value.")
            continue
        found[name] = value
    return found


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
