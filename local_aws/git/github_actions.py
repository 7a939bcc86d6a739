"""GitHub Actions: what a push, a pull request or the deletion of a branch makes of the repository's own workflows.

Runs begin in a thread of their own, after whoever caused them was answered. Their jobs run on this machine
(local_aws.builds), several runs at once as the switch "builds" says.
https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows
"""

from __future__ import annotations

import hmac
import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

from local_aws.api_calls import Answer
from local_aws.builds.machine import Machine
from local_aws.builds.runner import SERVER, Programs
from local_aws.git.github_actions_events import TAGS, Event, Events, takes
from local_aws.git.github_actions_expressions import ExpressionError, Scope, condition, filled
from local_aws.git.github_actions_job import CANCELLED, FAILURE, SKIPPED, SUCCESS, JobCourse, Result, Surroundings
from local_aws.git.github_actions_live import Groups, LiveJob, LiveRun
from local_aws.git.github_actions_log import WorkflowLog
from local_aws.git.github_actions_runs import COMPLETED, IN_PROGRESS, QUEUED, STARTUP_FAILURE, Runs
from local_aws.git.github_actions_workflows import Concurrency, WorkflowError, parse
from local_aws.git.github_calls import API, PREFIX
from local_aws.git.github_errors import ApiError
from local_aws.git.github_jobs import USUAL_AUDIENCE, job_claims
from local_aws.git.github_state import GitHubState, Repository, Token, now
from local_aws.git.push_rules import RefUpdate
from local_aws.git.repositories import GitError, Repositories
from local_aws.oidc import OidcIssuer
from local_aws.store import Document, Store

IDENTITY = "/_github/_services/identity/"  # where jobs ask for their identity tokens, as GitHub's runners tell them
BOT = "github-actions[bot]"
# What a job's identity token says of its run in the words of the context "github".
CLAIMED = (
    *("actor", "head_ref", "base_ref", "run_id", "run_number", "run_attempt", "sha"),
    *("workflow", "workflow_ref"),
)
LONGEST_JOB = 24 * 3600  # seconds that a job's token counts at most

logger = logging.getLogger(__name__)


class Actions:
    """Args:
    machine: what jobs are run with.
    describe: a repository as GitHub's REST API answers it.
    """

    def __init__(
        self,
        store: Store,
        state: GitHubState,
        repositories: Repositories,
        issuer: OidcIssuer,
        machine: Machine,
        describe: Callable[[Repository], dict[str, Any]],
    ) -> None:
        self._state, self._issuer = state, issuer
        self._machine, self._runner = machine, machine.runner
        address = machine.endpoint
        self._site, self._api = address + PREFIX.rstrip("/"), address + API
        self._events = Events(repositories, describe, self._site)
        self.runs = Runs(store, state, machine.logs, address, self._api, self.cancel, self.dispatch)
        self._lock = threading.RLock()
        self._groups = Groups()
        self._live: dict[int, LiveRun] = {}
        self._identities: dict[str, tuple[LiveJob, str]] = {}
        self._secrets: dict[str, dict[str, str]] = {}
        # One thread: events are looked at in their order.
        self._inbox = ThreadPoolExecutor(1, thread_name_prefix="github-events")
        machine.runner.show(self.runs.shown)
        state.ref_listeners.append(self._refs_changed)
        state.pull_listeners.append(self._pull_changed)

    # Secrets: in memory alone, so that no file has them

    def set_secrets(self, full_name: str, values: Mapping[str, str | None]) -> None:
        """Give a repository secrets; None takes one away."""
        with self._lock:
            known = self._secrets.setdefault(full_name.lower(), {})
            for name, value in values.items():
                known.pop(name.upper(), None)
                if value is not None:
                    known[name.upper()] = value

    def secret_names(self) -> dict[str, list[str]]:
        with self._lock:
            return {name: sorted(values) for name, values in self._secrets.items() if values}

    # Events

    def _refs_changed(self, repository: Repository, login: str, updates: Sequence[RefUpdate]) -> None:
        """Branches or tags have changed. What a job's own token does starts nothing: it could go on for ever.

        https://docs.github.com/en/actions/concepts/security/github_token
        """
        if self._runner.runs and login != BOT:
            self._inbox.submit(self._logged, lambda: self._changed(repository, list(updates), login))

    def _pull_changed(self, repository: Repository, pull: Mapping[str, Any], action: str, login: str) -> None:
        """Something has happened to a pull request.

        Args:
            pull: as GitHub answers it.
            action: such as "opened" or "synchronize".
        """
        if self._runner.runs and login != BOT:
            self._inbox.submit(self._logged, lambda: self._pulled(repository, action, dict(pull), login))

    def dispatch(self, repository: Repository, name: str, ref: str, inputs: dict[str, str], who: str) -> None:
        """Run a workflow because somebody asks for it.

        Args:
            name: its file's, such as "template.yml".
            ref: a branch.

        Raises:
            ApiError: there is no such workflow or branch, or it is not run like this.
        """
        event, path, text = self._events.of_dispatch(repository, name, ref, inputs, who)
        if not self._runner.runs:
            raise ApiError(422, 'local_aws runs no builds now: aws.configure("builds", {"run": True}).')
        self._inbox.submit(self._logged, lambda: self._begin(repository, event, path, text))

    def _logged(self, work: Callable[[], None]) -> None:
        try:
            work()
        except GitError as error:
            logger.warning("github: no run was begun: %s", error)  # the likeliest: the repository is deleted
        except Exception:
            logger.exception("github: an event has begun no run")

    def _changed(self, repository: Repository, updates: list[RefUpdate], who: str) -> None:
        for event in self._events.of_refs(repository, updates, who):
            self._begin_all(repository, event)

    def _pulled(self, repository: Repository, action: str, pull: dict[str, Any], who: str) -> None:
        if event := self._events.of_pull(repository, action, pull, who):
            self._begin_all(repository, event)

    # Runs

    def _begin_all(self, repository: Repository, event: Event) -> None:
        for path, text in self._events.workflows(repository, event.sha).items():
            self._begin(repository, event, path, text)

    def _begin(self, repository: Repository, event: Event, path: str, text: str) -> None:
        """Run a workflow if it is one for this event; one that is not understood fails, saying why."""
        try:
            workflow = parse(text, path)
        except WorkflowError as error:
            self._fail(self._document(repository, event, path, path), str(error))
            return
        if not takes(workflow, event):
            return
        with self._lock:
            document = self._document(repository, event, path, workflow.name)
            run = LiveRun(self, document["id"], repository, workflow, event, {})
            run.contexts = self._contexts(run, document)
            try:
                group = self._group(workflow.concurrency, run, run.contexts)
            except ExpressionError as error:
                self._fail(document, f"{path}: concurrency: {error}")
                return
            for job in workflow.jobs.values():
                number = self._state.next_id("job")
                steps: list[Any] = []
                shown = {"id": number, "name": job.name, "status": QUEUED, "conclusion": None, "steps": steps}
                run.jobs[job.id] = LiveJob(run, job, number, shown)
            self.runs.put(document | {"jobs": [each.document for each in run.jobs.values()]})
            self._live[run.id] = run
            run.group = group[0] if group else None
            if group is None or self._groups.enter(group[0], run, group[1]):
                self.advance(run)

    def _document(self, repository: Repository, event: Event, path: str, name: str) -> Document:
        run_id = self._state.next_id("run")
        branch = event.head or event.ref_name
        subject = event.payload.get("head_commit", {}).get("message", "").partition("\n")[0]
        return {
            "id": run_id,
            "name": name,
            "path": path,
            "repository": repository.full_name,
            "repository_id": repository.id,
            "head_branch": branch,
            "head_sha": event.payload.get("pull_request", {}).get("head", {}).get("sha", event.sha),
            "event": event.name,
            "actor": event.actor,
            "display_title": subject or name,
            "status": QUEUED,
            "conclusion": None,
            "run_number": self.runs.number(repository, path),
            "run_attempt": 1,
            "created_at": now(),
            "run_started_at": now(),
            "html_url": f"{self._site}/{repository.full_name}/actions/runs/{run_id}",
            "began": round(time.time(), 3),
            "jobs": [],
        }

    def _fail(self, document: Document, why: str) -> None:
        logger.warning("github: %s: %s", document["repository"], why)
        self.runs.log(document["id"]).write_text(f"{why}\n")
        ended = {"status": COMPLETED, "conclusion": STARTUP_FAILURE, "ended": round(time.time(), 3)}
        self.runs.put(document | ended)

    def _contexts(self, run: LiveRun, document: Document) -> dict[str, Any]:
        """https://docs.github.com/en/actions/reference/workflows-and-actions/contexts"""
        repository, event = run.repository, run.event
        owner = self._state.account(repository.owner)
        workflow = f"{repository.full_name}/{document['path']}@{event.ref}"
        github = {
            "actor": event.actor,
            "triggering_actor": event.actor,
            "api_url": self._api,
            "server_url": self._site,
            "base_ref": event.base,
            "head_ref": event.head,
            "event": event.payload,
            "event_name": event.name,
            "ref": event.ref,
            "ref_name": event.ref_name,
            "ref_type": "tag" if event.ref.startswith(TAGS) else "branch",
            "repository": repository.full_name,
            "repository_id": str(repository.id),
            "repository_owner": repository.owner,
            "repository_owner_id": str(owner.id) if owner else "",
            "repositoryUrl": f"{self._site}/{repository.full_name}.git",
            "run_attempt": "1",
            "run_id": str(run.id),
            "run_number": str(document["run_number"]),
            "sha": event.sha,
            "workflow": run.workflow.name,
            "workflow_ref": workflow,
            "workflow_sha": event.sha,
        }
        current = self._state.repository(repository.owner, repository.name) or repository
        variables = {name: each["value"] for name, each in current.variables.items()}
        with self._lock:
            known = dict(self._secrets.get(repository.full_name.lower(), {}))
        return {"github": github, "vars": variables, "secrets": known, "inputs": event.payload.get("inputs", {})}

    def _group(
        self, concurrency: Concurrency | None, run: LiveRun, contexts: Mapping[str, Any]
    ) -> tuple[tuple[int, str], bool] | None:
        """The key of a concurrency group, and whether who runs in it is cancelled."""
        if concurrency is None:
            return None
        scope = Scope({name: value for name, value in contexts.items() if name != "secrets"})
        cancels = filled(concurrency.cancels, scope) == "true"
        return (run.repository.id, filled(concurrency.group, scope).lower()), cancels

    def advance(self, run: LiveRun) -> None:
        """Begin the jobs whose time has come, and end the run when none is left."""
        with self._lock:
            changed = True
            while changed:
                changed = False
                for live in run.jobs.values():
                    needed = [run.jobs[name] for name in live.job.needs]
                    if live.waits and all(each.conclusion for each in needed):
                        live.waits, changed = False, True
                        self._decide(live, needed)
            if all(each.conclusion for each in run.jobs.values()):
                self._end_run(run)

    def _decide(self, live: LiveJob, needed: list[LiveJob]) -> None:
        """Skip a job, or let it run when its concurrency group does."""
        run = live.run
        if run.cancelled:
            self._end_job(live, Result(CANCELLED))
            return
        results = {each.job.id: {"result": each.conclusion, "outputs": each.outputs} for each in needed}
        contexts = {**run.contexts, "needs": results}
        conclusions = {each.conclusion for each in needed}
        status = next((each for each in (FAILURE, CANCELLED, SKIPPED) if each in conclusions), SUCCESS)
        visible = {name: value for name, value in contexts.items() if name != "secrets"}
        try:
            if not condition(live.job.condition or "success()", Scope(visible, status)):
                self._end_job(live, Result(SKIPPED))
                return
            group = self._group(live.job.concurrency, run, contexts)
        except ExpressionError as error:
            self.runs.log(live.number).write_text(f"{error}\n")
            self._end_job(live, Result(FAILURE))
            return
        live.group = group[0] if group else None
        if group is None or self._groups.enter(group[0], live, group[1]):
            self.submit(live)

    def submit(self, live: LiveJob) -> None:
        """Let a job run when it is its turn."""
        with self._lock:
            if live.conclusion or live.programs is not None:
                return
            live.programs = Programs(live.run.repository.full_name, live.job.minutes * 60)
            self._runner.submit(live.programs, lambda: self._run_job(live))

    def _end_job(self, live: LiveJob, result: Result) -> None:
        """With the lock held."""
        if live.conclusion:
            return
        live.conclusion, live.outputs = result.conclusion, result.outputs
        if result.conclusion == FAILURE and live.job.continues:
            live.conclusion = SUCCESS
        members = {"status": COMPLETED, "conclusion": result.conclusion, "completed_at": now()}
        self.runs.change_job(live.run.id, live.number, **members, ended=round(time.time(), 3))
        if live.group is not None:
            self._groups.leave(live.group, live)

    def _end_run(self, run: LiveRun) -> None:
        """With the lock held."""
        if self._live.pop(run.id, None) is None:
            return
        conclusions = {each.conclusion for each in run.jobs.values()}
        conclusion = next((each for each in (FAILURE, CANCELLED, SUCCESS) if each in conclusions), SKIPPED)
        self.runs.change(run.id, status=COMPLETED, conclusion=conclusion)
        if run.group is not None:
            self._groups.leave(run.group, run)

    def cancel(self, run_id: int) -> None:
        """Cancel a run; nothing happens to one that is over."""
        with self._lock:
            if run := self._live.get(run_id):
                self.cancel_live(run)

    def cancel_live(self, run: LiveRun) -> None:
        with self._lock:
            run.cancelled = True
            for live in run.jobs.values():
                if not live.waits:
                    self.cancel_job(live)
            self.advance(run)

    def cancel_job(self, live: LiveJob) -> None:
        """Stop a job; one that waits for its concurrency group is over."""
        with self._lock:
            if live.conclusion:
                return
            if live.programs is None:
                self._end_job(live, Result(CANCELLED))
                self.advance(live.run)
            else:
                self._runner.stop(live.programs)

    # Jobs

    def _run_job(self, live: LiveJob) -> None:
        """In a thread of the runner's. However it ends, others wait for its end: the run, and its concurrency group."""
        programs = live.programs
        assert programs is not None
        try:
            result = self._course(live, programs)
        except Exception:
            logger.exception("github: a job of %s failed here", live.run.repository.full_name)
            result = Result(FAILURE)
        if programs.ended_by == SERVER:
            return
        with self._lock:
            self._end_job(live, result)
            self.advance(live.run)

    def _course(self, live: LiveJob, programs: Programs) -> Result:
        run, began = live.run, round(time.time(), 3)
        self.runs.change_job(run.id, live.number, status=IN_PROGRESS, started_at=now(), began=began)
        permissions = dict(run.workflow.permissions if live.job.permissions is None else live.job.permissions)
        token, request = f"ghs_{secrets.token_urlsafe(27)}", secrets.token_urlsafe(32)
        name = secrets.token_urlsafe(12)
        contexts = _job_contexts(live, token)
        hidden = [*contexts["secrets"].values(), request]
        variables = {}
        if permissions.get("id-token") == "write":
            url = f"{self._machine.endpoint}{IDENTITY}{name}?api-version=2.0"
            variables = {"ACTIONS_ID_TOKEN_REQUEST_URL": url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": request}
        with ExitStack() as stack:
            log = stack.enter_context(closing(WorkflowLog(self.runs.log(live.number), None, hidden)))
            workspace = self._machine.workspace()
            stack.callback(workspace.remove)
            stack.callback(self._forget, name, token)
            with self._lock:
                self._state.put_token(token, _job_token(run.repository, permissions, token))
                self._identities[name] = (live, request)
            given = Surroundings(
                contexts,
                variables,
                self._machine.environment(workspace),
                self._site,
                token,
                self.runs.artifacts(run.id),
                lambda steps: self.runs.change_job(run.id, live.number, steps=steps),
            )
            try:
                summary = self.runs.summary(live.number)
                return JobCourse(live.job, run.workflow, workspace, programs, log, summary, given).run()
            except Exception as error:
                log.line(f"##[error]local_aws failed: {error!r}. Its log has the reason.")
                raise

    def _forget(self, name: str, token: str) -> None:
        with self._lock:
            self._identities.pop(name, None)
            self._state.revoke_token(token)

    # What jobs ask

    def served(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer | None:
        """Answer what is neither REST nor Git: a job's identity token, a job's log. None: it is neither."""
        if path.startswith(IDENTITY):
            found = self._identity(path.removeprefix(IDENTITY), query, headers.get("authorization", ""))
            status, content = (200, {"value": found}) if found else (401, {"message": "This is no job's token."})
            return status, {"Content-Type": "application/json; charset=utf-8"}, json.dumps(content).encode()
        log = self.runs.served(path)
        return None if log is None else (200, {"Content-Type": "text/plain; charset=utf-8"}, log)

    def _identity(self, name: str, query: Mapping[str, str], authorization: str) -> str | None:
        with self._lock:
            live, request = self._identities.get(name, (None, ""))
        scheme, _, given = authorization.partition(" ")
        if live is None or scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), request.encode()):
            return None
        run, owner = live.run, self._state.account(live.run.repository.owner)
        assert owner is not None  # accounts are never deleted
        github = run.contexts["github"]
        claims = job_claims(
            run.repository,
            owner,
            run.event.ref,
            query.get("audience") or USUAL_AUDIENCE,
            live.job.environment or None,
            run.event.name,
        )
        claims |= {each: github[each] for each in CLAIMED}
        claims |= {"job_workflow_ref": github["workflow_ref"], "runner_environment": "github-hosted"}
        return self._issuer.issue(claims)

    def resume(self) -> None:
        """After a restart with state."""
        self.runs.resume()

    def stop(self) -> None:
        """Look at no more events."""
        self._inbox.shutdown(wait=True, cancel_futures=True)


def _job_contexts(live: LiveJob, token: str) -> dict[str, Any]:
    """The run's, and what a job alone has: its token, what the jobs before it left."""
    run = live.run
    before = {name: run.jobs[name] for name in live.job.needs}
    return {
        **run.contexts,
        "github": {**run.contexts["github"], "job": live.job.id, "token": token},
        "secrets": {**run.contexts["secrets"], "GITHUB_TOKEN": token},
        "needs": {name: {"result": each.conclusion, "outputs": each.outputs} for name, each in before.items()},
    }


def _job_token(repository: Repository, permissions: Mapping[str, str], text: str) -> Token:
    """GITHUB_TOKEN: for one repository, with the job's permissions.

    https://docs.github.com/en/actions/concepts/security/github_token
    """
    given = {name: level for name, level in permissions.items() if name != "id-token"}
    return Token(BOT, [], time.time() + LONGEST_JOB, text[-4:], False, repository.id, given | {"metadata": "read"})
