"""What a workflow of GitHub Actions says, as data. Pure functions.

What is not understood here is an error that names it: a run that left something out would say nothing about the real
one. https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

PUSH, PULL_REQUEST, DELETE, SCHEDULE, DISPATCH = "push", "pull_request", "delete", "schedule", "workflow_dispatch"
EVENTS = (PUSH, PULL_REQUEST, DELETE, SCHEDULE, DISPATCH)
USUAL_TYPES = ("opened", "synchronize", "reopened")
PULL_REQUEST_TYPES = (*USUAL_TYPES, "closed", "ready_for_review", "edited")
LEVELS = ("none", "read", "write")
# Of a job's token and of the job itself (id-token): https://docs.github.com/actions/tutorials/authenticate-with-github_token
PERMISSIONS = (
    *("actions", "attestations", "checks", "contents", "deployments", "discussions", "id-token", "issues"),
    *("packages", "pages", "pull-requests", "security-events", "statuses"),
)
USUAL_PERMISSIONS: Mapping[str, str] = {"contents": "read", "packages": "read"}  # of repositories made since 2023
USUAL_MINUTES = 360.0
SHELLS = ("bash", "sh", "python")
ACTIONS: Mapping[str, tuple[str, ...]] = {
    "actions/checkout": ("ref", "fetch-depth", "persist-credentials", "token", "repository", "clean", "path"),
    "actions/setup-python": ("python-version", "python-version-file", "cache", "cache-dependency-path", "check-latest"),
    "actions/cache": ("path", "key", "restore-keys"),
    "actions/upload-artifact": ("name", "path", "if-no-files-found", "retention-days", "overwrite"),
}
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class WorkflowError(ValueError):
    """What is wrong with a workflow, or what of it is not understood here."""


@dataclass(frozen=True)
class Filter:
    """For which events of one name a workflow runs. Patterns that begin with ! take out what those before let in.

    Args:
        branches, ignored: patterns of branches; None: any.
        tags: patterns of tags; None: any tag, unless branches are named.
        types: of pull requests.
    """

    branches: tuple[str, ...] | None = None
    ignored: tuple[str, ...] = ()
    tags: tuple[str, ...] | None = None
    types: tuple[str, ...] = USUAL_TYPES

    def takes_branch(self, branch: str) -> bool:
        if self.branches is None and self.tags is not None:
            return False
        return _matches(self.branches, branch) and not (self.ignored and _matches(self.ignored, branch))

    def takes_tag(self, tag: str) -> bool:
        if self.tags is None and (self.branches is not None or self.ignored):
            return False
        return _matches(self.tags, tag)


@dataclass(frozen=True)
class Concurrency:
    """Args:
    group: an expression or text.
    cancels: "true", "false" or an expression: whether what runs is cancelled, rather than waited for.
    """

    group: str
    cancels: str = "false"


@dataclass(frozen=True)
class Step:
    """Args:
    number: from 1.
    action: such as "actions/checkout"; "" of a step that runs commands.
    """

    number: int
    id: str
    name: str
    condition: str
    action: str
    inputs: Mapping[str, str]
    run: str
    env: Mapping[str, str]
    shell: str
    folder: str
    minutes: float | None
    continues: bool


@dataclass(frozen=True)
class Job:
    """Args:
    needs: ids of the jobs before it.
    permissions: None: those of the workflow.
    environment: the deployment environment that it names.
    """

    id: str
    name: str
    needs: tuple[str, ...]
    condition: str
    permissions: Mapping[str, str] | None
    environment: str
    concurrency: Concurrency | None
    env: Mapping[str, str]
    outputs: Mapping[str, str]
    minutes: float
    continues: bool
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Workflow:
    """Args:
    events: the filters of each event that it is run for.
    crons: of the event schedule.
    inputs: defaults of the event workflow_dispatch's inputs.
    """

    name: str
    events: Mapping[str, Filter]
    crons: tuple[str, ...]
    inputs: Mapping[str, str]
    permissions: Mapping[str, str]
    env: Mapping[str, str]
    concurrency: Concurrency | None
    jobs: Mapping[str, Job] = field(default_factory=dict)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's truth values, as GitHub reads them: `on` is a word."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF")


def parse(text: str, path: str) -> Workflow:
    """Read a workflow.

    Args:
        path: its file's, which is its name when it has none.

    Raises:
        WorkflowError: it is none, or has something in it that is not understood; the message names it.
    """
    try:
        content = yaml.load(text, _Loader)  # noqa: S506  # it is a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:  # the latter: nested too deeply
        raise WorkflowError(f"{path} is not YAML: {error}") from error
    try:
        return _workflow(content, path)
    except WorkflowError as error:
        raise WorkflowError(f"{path}: {error}") from error


def _workflow(content: Any, path: str) -> Workflow:
    given = _mapping("the workflow", content)
    _only("the workflow", given, ("name", "run-name", "on", "permissions", "env", "concurrency", "defaults", "jobs"))
    events = _events(given.get("on"))
    shell, folder = _defaults("defaults", given.get("defaults"))
    jobs = {}
    for job_id, each in _mapping("jobs", given.get("jobs")).items():
        if not NAME.fullmatch(job_id):
            raise WorkflowError(f"jobs: {job_id!r} is no id of a job.")
        jobs[job_id] = _job(job_id, each, shell, folder)
    if not jobs:
        raise WorkflowError("it has no jobs.")
    for job in jobs.values():
        for needed in job.needs:
            if needed not in jobs:
                raise WorkflowError(f"jobs.{job.id}: it needs {needed!r}, which is no job.")
    _check_order(jobs)
    schedule, dispatch = events.pop(SCHEDULE, None), events.pop(DISPATCH, None)
    filters = {name: _filter(name, each) for name, each in events.items()}
    filters |= {SCHEDULE: Filter()} if schedule is not None else {}
    filters |= {DISPATCH: Filter()} if dispatch is not None else {}
    return Workflow(
        str(given.get("name") or path),
        filters,
        _crons(schedule),
        _dispatch_inputs(dispatch),
        _permissions("permissions", given["permissions"]) if "permissions" in given else USUAL_PERMISSIONS,
        _texts("env", given.get("env")),
        _concurrency("concurrency", given.get("concurrency")),
        jobs,
    )


# Events


def _events(given: Any) -> dict[str, Any]:
    if given is None:
        raise WorkflowError("on: nothing says when it runs.")
    if isinstance(given, str):
        given = [given]
    events = {name: {} for name in given} if isinstance(given, list) else dict(_mapping("on", given))
    if unknown := sorted(set(events) - set(EVENTS)):
        raise WorkflowError(f"on: local_aws does not understand {', '.join(unknown)}; it knows {', '.join(EVENTS)}.")
    return {name: {} if each is None else each for name, each in events.items()}


def _filter(event: str, given: Any) -> Filter:
    where = f"on.{event}"
    known = {PUSH: ("branches", "branches-ignore", "tags"), PULL_REQUEST: ("branches", "branches-ignore", "types")}
    fields = _mapping(where, given)
    _only(where, fields, known.get(event, ()))
    types = tuple(_words(f"{where}.types", fields.get("types", list(USUAL_TYPES))))
    if unknown := sorted(set(types) - set(PULL_REQUEST_TYPES)):
        raise WorkflowError(f"{where}.types: local_aws does not understand {', '.join(unknown)}.")
    branches = fields.get("branches")
    tags = fields.get("tags")
    return Filter(
        None if branches is None else tuple(_words(f"{where}.branches", branches)),
        tuple(_words(f"{where}.branches-ignore", fields.get("branches-ignore", []))),
        None if tags is None else tuple(_words(f"{where}.tags", tags)),
        types,
    )


def _crons(given: Any) -> tuple[str, ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(each, dict) and each.keys() == {"cron"} for each in given):
        raise WorkflowError('on.schedule: give a list of {cron: "..."}.')
    return tuple(str(each["cron"]) for each in given)


def _dispatch_inputs(given: Any) -> dict[str, str]:
    if given is None:
        return {}
    fields = _mapping(f"on.{DISPATCH}", given)
    _only(f"on.{DISPATCH}", fields, ("inputs",))
    inputs = _mapping(f"on.{DISPATCH}.inputs", fields.get("inputs"))
    found = {}
    for name, each in inputs.items():
        about = _mapping(f"on.{DISPATCH}.inputs.{name}", each)
        _only(f"on.{DISPATCH}.inputs.{name}", about, ("description", "required", "default", "type", "options"))
        found[name] = _text(about.get("default", ""))
    return found


def _matches(patterns: tuple[str, ...] | None, name: str) -> bool:
    """GitHub's patterns: "*" stops at a slash, "**" does not, the last pattern that matches counts."""
    if patterns is None:
        return True
    found = False
    for pattern in patterns:
        negative, wanted = pattern.startswith("!"), pattern.removeprefix("!")
        if _pattern(wanted).fullmatch(name):
            found = not negative
    return found


def _pattern(text: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*|\?|\+|\[[^\]]*\])", text)
    special = {"**": ".*", "*": "[^/]*", "?": "?", "+": "+"}
    return re.compile("".join(special.get(part, part if part.startswith("[") else re.escape(part)) for part in parts))


# Jobs


def _job(job_id: str, given: Any, shell: str, folder: str) -> Job:
    where = f"jobs.{job_id}"
    job = _mapping(where, given)
    known = ("name", "runs-on", "needs", "if", "permissions", "environment", "concurrency", "env", "defaults")
    _only(where, job, (*known, "outputs", "timeout-minutes", "continue-on-error", "steps"))
    if not isinstance(job.get("runs-on"), str) or not re.match(r"ubuntu-|\$\{\{", str(job["runs-on"])):
        raise WorkflowError(f"{where}: runs-on {job.get('runs-on')!r}: local_aws runs jobs as ubuntu-... ones alone.")
    steps = job.get("steps")
    if not isinstance(steps, list) or not steps:
        raise WorkflowError(f"{where}: it has no steps.")
    own_shell, own_folder = _defaults(f"{where}.defaults", job.get("defaults"))
    environment = job.get("environment", "")
    if isinstance(environment, dict):
        _only(f"{where}.environment", environment, ("name", "url"))
        environment = environment.get("name", "")
    return Job(
        job_id,
        str(job.get("name") or job_id),
        tuple(_words(f"{where}.needs", job.get("needs", []))),
        _text(job.get("if", "")),
        _permissions(f"{where}.permissions", job["permissions"]) if "permissions" in job else None,
        str(environment or ""),
        _concurrency(f"{where}.concurrency", job.get("concurrency")),
        _texts(f"{where}.env", job.get("env")),
        _texts(f"{where}.outputs", job.get("outputs")),
        _minutes(where, job.get("timeout-minutes", USUAL_MINUTES)),
        _flag(f"{where}.continue-on-error", job.get("continue-on-error", False)),
        tuple(
            _step(f"{where}.steps[{number}]", number + 1, each, own_shell or shell, own_folder or folder)
            for number, each in enumerate(steps)
        ),
    )


def _step(where: str, number: int, given: Any, shell: str, folder: str) -> Step:
    step = _mapping(where, given)
    known = ("id", "name", "if", "uses", "with", "run", "env", "shell", "working-directory", "timeout-minutes")
    _only(where, step, (*known, "continue-on-error"))
    if ("run" in step) == ("uses" in step):
        raise WorkflowError(f"{where}: it has to have either run or uses.")
    action, inputs = "", _texts(f"{where}.with", step.get("with"))
    if "uses" in step:
        action, _, version = str(step["uses"]).partition("@")
        if action not in ACTIONS:
            known_actions = ", ".join(ACTIONS)
            raise WorkflowError(
                f"{where}: local_aws does not have the action {step['uses']!r}; it has {known_actions}."
            )
        if not version:
            raise WorkflowError(f"{where}: {action}: no version is named after @.")
        _only(f"{where}.with", inputs, ACTIONS[action])
    elif inputs:
        raise WorkflowError(f"{where}: with is for steps that use an action.")
    shell = str(step.get("shell", shell))
    if shell and shell not in SHELLS:
        raise WorkflowError(f"{where}: local_aws has no shell {shell!r}; it has {', '.join(SHELLS)}.")
    run = _text(step.get("run", ""))
    usual = f"Run {run.strip().splitlines()[0]}" if run.strip() else f"Run {step.get('uses', '')}"
    minutes = step.get("timeout-minutes")
    return Step(
        number,
        str(step.get("id", "")),
        str(step.get("name") or usual),
        _text(step.get("if", "")),
        action,
        inputs,
        run,
        _texts(f"{where}.env", step.get("env")),
        shell,
        str(step.get("working-directory", folder)),
        None if minutes is None else _minutes(where, minutes),
        _flag(f"{where}.continue-on-error", step.get("continue-on-error", False)),
    )


def _check_order(jobs: Mapping[str, Job]) -> None:
    done: set[str] = set()
    while ready := {job.id for job in jobs.values() if job.id not in done and set(job.needs) <= done}:
        done |= ready
    if left := sorted(jobs.keys() - done):
        raise WorkflowError(f"jobs: {', '.join(left)} need each other in a circle.")


# Parts


def _permissions(where: str, given: Any) -> dict[str, str]:
    """What is not named is "none"."""
    if given in ("read-all", "write-all"):
        return dict.fromkeys(PERMISSIONS, str(given).partition("-")[0])
    found = _texts(where, given)
    _only(where, found, PERMISSIONS)
    for name, level in found.items():
        if level not in LEVELS or (name == "id-token" and level == "read"):
            raise WorkflowError(f"{where}: {name}: {level!r} is no level; give {', '.join(LEVELS)}.")
    return {name: level for name, level in found.items() if level != "none"}


def _concurrency(where: str, given: Any) -> Concurrency | None:
    if given is None:
        return None
    if isinstance(given, str):
        return Concurrency(given)
    fields = _mapping(where, given)
    _only(where, fields, ("group", "cancel-in-progress"))
    if not fields.get("group"):
        raise WorkflowError(f"{where}: it has no group.")
    return Concurrency(_text(fields["group"]), _text(fields.get("cancel-in-progress", False)))


def _defaults(where: str, given: Any) -> tuple[str, str]:
    """Shell and folder of the steps."""
    fields = _mapping(where, given)
    _only(where, fields, ("run",))
    run = _mapping(f"{where}.run", fields.get("run"))
    _only(f"{where}.run", run, ("shell", "working-directory"))
    return str(run.get("shell", "")), str(run.get("working-directory", ""))


def _minutes(where: str, given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or given <= 0:
        raise WorkflowError(f"{where}: timeout-minutes is {given!r}: give a positive number.")
    return float(given)


def _flag(where: str, given: Any) -> bool:
    if given not in (True, False):
        raise WorkflowError(f"{where} is {given!r}: local_aws understands true and false there.")
    return bool(given)


def _text(given: Any) -> str:
    return str(given).lower() if isinstance(given, bool) else str(given)


def _words(where: str, given: Any) -> list[str]:
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise WorkflowError(f"{where}: give a list of texts.")
    return given


def _texts(where: str, given: Any) -> dict[str, str]:
    found = _mapping(where, given)
    if any(isinstance(value, dict | list) for value in found.values()):
        raise WorkflowError(f"{where}: each value is a text.")
    return {name: "" if value is None else _text(value) for name, value in found.items()}


def _mapping(where: str, given: Any) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
        raise WorkflowError(f"{where}: it has to be a mapping of names to values.")
    return given


def _only(where: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    if unknown := sorted(given.keys() - set(known)):
        names = ", ".join(known) or "nothing"
        raise WorkflowError(f"{where}: local_aws does not understand {', '.join(unknown)}; it knows {names}.")
