"""Parks endpoints and cleans projects up: called every hour, for all projects, and by an operator for one of them."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

from lifecycle_lambdas import cleaning, cleaning_run
from lifecycle_lambdas.branches import Hosts
from lifecycle_lambdas.clients import Clients
from lifecycle_lambdas.commit_hosts import GitHub
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.log import log
from lifecycle_lambdas.records import State
from lifecycle_lambdas.settings import Settings

ENOUGH = 60.0  # seconds that must be left to begin with another project


@cache
def _clients() -> Clients:
    return Clients()


def handler(event: dict[str, Any], lambda_context: Any) -> dict[str, Any]:
    """
    Args:
        event: EventBridge's, of the schedule; or {"project": name, "remove": whether to remove now}, see respond.
    """
    seconds = lambda_context.get_remaining_time_in_millis() / 1000
    context = Context.of(Settings.from_environment(), _clients(), lambda_context.aws_request_id, seconds)
    return respond(context, hosts_of(_clients()), event)


def hosts_of(clients: Clients, environment: Mapping[str, str] = os.environ) -> Hosts:
    """The platform's Git host, by GIT_BASE_URL and GIT_TOKEN_SECRET_ARN, and CodeCommit."""
    base, secret = (environment.get(name, "") for name in ("GIT_BASE_URL", "GIT_TOKEN_SECRET_ARN"))
    base, secret = ("" if value == "none" else value for value in (base, secret))
    return Hosts(clients("codecommit"), GitHub(base, clients("secretsmanager"), secret))


def respond(context: Context, hosts: Hosts, event: Mapping[str, Any]) -> dict[str, Any]:
    """
    Args:
        event: with "project" one project alone is looked at: shown, or with "remove" cleaned up now.

    Returns:
        {"outcomes": [cleaning_run.Outcome.as_json()]}; {"error": text} where the platform knows no such project: an
        error of the function's would be the platform's, and everybody told of it.

    Raises:
        RuntimeError: some projects failed; the others were seen to.
        cleaning_run.NotRemoved: of one project, see cleaning_run.run.
    """
    # The schedule's own time: a run that comes late is for the hour that it was due in.
    now = datetime.fromisoformat(event["time"]) if "time" in event else context.now()
    projects = _projects(context)
    if "project" in event:
        project = str(event["project"])
        if project not in projects:
            known = ", ".join(sorted(projects)) or "none"
            return {"error": f"the platform knows no endpoint of a project {project!r}: known are {known}"}
        how: cleaning_run.How = "now" if event.get("remove") else "show"
        outcomes = cleaning_run.run(context, hosts, projects[project], now, how)
        return {"outcomes": [outcome.as_json() for outcome in outcomes]}
    return {"outcomes": [outcome.as_json() for outcome in _all(context, hosts, projects, now)]}


def _all(
    context: Context, hosts: Hosts, projects: Mapping[str, list[State]], now: datetime
) -> list[cleaning_run.Outcome]:
    """Each project, a different one first every hour: should the time not suffice, none is always the last."""
    names = sorted(projects)
    first = int(now.timestamp() // 3600) % len(names) if names else 0
    outcomes: list[cleaning_run.Outcome] = []
    failed = []
    for project in [*names[first:], *names[:first]]:
        if context.remaining() < ENOUGH:
            log("no time left: the next hour begins with another project", level="WARNING", project=project)
            break
        try:
            outcomes += cleaning_run.run(context, hosts, projects[project], now, "due")
        except Exception as error:  # noqa: BLE001  whatever it is, it is this project's alone
            trace = "".join(traceback.format_exception(error))
            log("cleaning up failed", level="ERROR", project=project, error=str(error), traceback=trace)
            failed.append(project)
    for outcome in outcomes:
        log(
            "cleaning", project=outcome.project, says=outcome.says, removed=len(outcome.removals) if outcome.done else 0
        )
    if failed:
        raise RuntimeError(f"cleaning up failed for {', '.join(failed)}: see the lines before this one in the log")
    return outcomes


def _projects(context: Context) -> dict[str, list[State]]:
    """The endpoints of the stages that are parked and cleaned up, by project."""
    found: dict[str, list[State]] = {}
    for state in context.ledger.states():
        if state.stage in cleaning.PARKED_STAGES:
            found.setdefault(state.project, []).append(state)
    return found
