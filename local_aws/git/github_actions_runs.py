"""Runs of workflows, as they are kept and as GitHub's REST API answers them.

https://docs.github.com/en/rest/actions/workflow-runs
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local_aws.git.github_errors import ApiError, not_built, not_found
from local_aws.git.github_rest import RestAnswer, RestCall
from local_aws.git.github_state import ANYWHERE, GitHubState, Repository, now
from local_aws.store import Document, Store

QUEUED, IN_PROGRESS, COMPLETED = "queued", "in_progress", "completed"
STARTUP_FAILURE = "startup_failure"
PAGE, LARGEST_PAGE = 30, 100
LOGS = "/_github/_services/logs/"  # where a log is fetched from, by an address that nobody can guess
SERVER_ENDED = "local_aws ended while the run was under way. Push again."


class Runs:
    """The runs of all repositories. Safe to share between threads; what is answered is a copy.

    Args:
        logs: a folder for what jobs print.
        address: the server's own.
        api: of the REST API.
        cancel: cancels a run that is under way, by its id.
        dispatch: runs a workflow of a repository because somebody asks for it: (repository, the workflow's file or
            name, ref, inputs, who).
    """

    def __init__(
        self,
        store: Store,
        state: GitHubState,
        logs: Path,
        address: str,
        api: str,
        cancel: Callable[[int], None],
        dispatch: Callable[[Repository, str, str, dict[str, str], str], None],
    ) -> None:
        self._store, self._state, self._logs = store, state, logs
        self._address, self._api, self._cancel, self._dispatch = address, api, cancel, dispatch
        self._table = store.table("github/runs")
        self._addresses: dict[str, Path] = {}
        self.operations: dict[str, Callable[[RestCall], RestAnswer]] = {
            "ListWorkflowRuns": self.list_runs,
            "GetWorkflowRun": self.get_run,
            "CancelWorkflowRun": self.cancel_run,
            "ListWorkflowJobs": self.list_jobs,
            "GetWorkflowJob": self.get_job,
            "DownloadJobLogs": self.get_log,
            "DispatchWorkflow": self.dispatch,
        }

    # Kept

    def all(self) -> list[Document]:
        """Oldest first."""
        with self._store.lock:
            return copy.deepcopy(self._table.values(ANYWHERE))

    def get(self, run_id: int) -> Document | None:
        with self._store.lock:
            return copy.deepcopy(self._table.get(ANYWHERE, str(run_id)))

    def put(self, run: Document) -> None:
        with self._store.lock:
            self._table.put(ANYWHERE, str(run["id"]), run | {"updated_at": now()})

    def change(self, run_id: int, **members: Any) -> None:
        with self._store.lock:
            self.put((self._table.get(ANYWHERE, str(run_id)) or {}) | members)

    def change_job(self, run_id: int, job_id: int, **members: Any) -> None:
        """Change a job of a run; the run is in progress as soon as one of its jobs is."""
        with self._store.lock:
            run = self._table.get(ANYWHERE, str(run_id))
            if run is None:
                return
            jobs = [each | members if each["id"] == job_id else each for each in run["jobs"]]
            begun = members.get("status") == IN_PROGRESS and run["status"] == QUEUED
            self.put(run | {"jobs": jobs} | ({"status": IN_PROGRESS, "run_started_at": now()} if begun else {}))

    def number(self, repository: Repository, path: str) -> int:
        """Of the next run of a workflow."""
        known = [each for each in self.all() if each["repository_id"] == repository.id and each["path"] == path]
        return max((each["run_number"] for each in known), default=0) + 1

    def resume(self) -> None:
        """After a restart with state: what was under way has failed, and its log says so."""
        for run in self.all():
            if run["status"] == COMPLETED:
                continue
            for job in run["jobs"]:
                if job["status"] != COMPLETED:
                    job |= {"status": COMPLETED, "conclusion": "failure", "completed_at": now()}
                    with self.log(job["id"]).open("a") as log:
                        log.write(f"{SERVER_ENDED}\n")
            self.put(run | {"status": COMPLETED, "conclusion": "failure"})

    def log(self, job_id: int) -> Path:
        """The file of a job's log, or of a run's that has no jobs."""
        self._logs.mkdir(parents=True, exist_ok=True)
        return self._logs / f"github-{job_id}.log"

    def summary(self, job_id: int) -> Path:
        """The file of what a job's steps have written to GITHUB_STEP_SUMMARY."""
        return self.log(job_id).with_suffix(".md")

    def artifacts(self, run_id: int) -> Path:
        return self._logs / f"github-{run_id}-artifacts"

    def served(self, path: str) -> bytes | None:
        """The log at an address that `get_log` gave, None at any other."""
        file = self._addresses.get(path.removeprefix(LOGS))
        return file.read_bytes() if file is not None and file.is_file() else None

    def shown(self) -> list[dict[str, Any]]:
        """Every job that was not skipped, and every run that has none, as the switch "builds" shows it."""
        return [
            {
                "id": str(job["id"]),
                "system": "github",
                "name": f"{run['repository']} {run['name']}" + (f": {job['name']}" if run["jobs"] else ""),
                "version": run["head_sha"],
                "status": job["conclusion"] or job["status"],
                "phase": run["event"],
                "begun": job.get("began") or run["began"],
                "ended": job.get("ended"),
                "log": str(self.log(job["id"])),
                "summary": str(self.summary(job["id"])),
            }
            for run in self.all()
            for job in run["jobs"] or [run]
            if job["conclusion"] != "skipped"
        ]

    # REST

    def list_runs(self, call: RestCall) -> RestAnswer:
        """Newest first."""
        repository = self._repository(call)
        known = ("branch", "event", "status", "head_sha", "actor", "per_page", "page")
        if unknown := sorted(call.query.keys() - set(known)):
            raise not_built(", ".join(unknown), ", ".join(known))
        found = [each for each in self.all() if each["repository_id"] == repository.id]
        wanted = {"branch": "head_branch", "event": "event", "head_sha": "head_sha", "actor": "actor"}
        for name, member in wanted.items():
            if name in call.query:
                found = [each for each in found if each[member] == call.query[name]]
        if status := call.query.get("status"):
            found = [each for each in found if status in (each["status"], each["conclusion"])]
        shown = [self._run(each) for each in _page(found[::-1], call)]
        return RestAnswer(content={"total_count": len(found), "workflow_runs": shown})

    def get_run(self, call: RestCall) -> RestAnswer:
        return RestAnswer(content=self._run(self._run_of(call)))

    def cancel_run(self, call: RestCall) -> RestAnswer:
        run = self._run_of(call)
        if run["status"] == COMPLETED:
            raise ApiError(409, "Cannot cancel a workflow run that is completed.")
        self._cancel(run["id"])
        return RestAnswer(202, {})

    def list_jobs(self, call: RestCall) -> RestAnswer:
        run = self._run_of(call)
        shown = [self._job(run, each) for each in _page(run["jobs"], call)]
        return RestAnswer(content={"total_count": len(run["jobs"]), "jobs": shown})

    def get_job(self, call: RestCall) -> RestAnswer:
        run, job = self._job_of(call)
        return RestAnswer(content=self._job(run, job))

    def get_log(self, call: RestCall) -> RestAnswer:
        """A redirection to where the log is, as GitHub answers; that address needs no token."""
        _, job = self._job_of(call)
        name = secrets.token_urlsafe(24)
        self._addresses[name] = self.log(job["id"])
        return RestAnswer(302, None, {"Location": f"{self._address}{LOGS}{name}"})

    def dispatch(self, call: RestCall) -> RestAnswer:
        repository = self._repository(call)
        ref, inputs = call.body.get("ref"), call.body.get("inputs") or {}
        if not isinstance(ref, str) or not isinstance(inputs, dict) or call.body.keys() - {"ref", "inputs"}:
            raise ApiError(422, "Invalid request.\n\nGive ref, the name of a branch, and inputs, an object of texts.")
        who = call.token.login if call.token else ""
        texts = {str(name): str(value) for name, value in inputs.items()}
        self._dispatch(repository, call.labels["workflow"], ref, texts, who)
        return RestAnswer(204)

    def _repository(self, call: RestCall) -> Repository:
        found = self._state.repository(call.labels["owner"], call.labels["repo"])
        if found is None:
            raise not_found()
        return found

    def _run_of(self, call: RestCall) -> Document:
        text = call.labels["run"]
        run = self.get(int(text)) if text.isascii() and text.isdigit() else None
        if run is None or run["repository_id"] != self._repository(call).id:
            raise not_found()
        return run

    def _job_of(self, call: RestCall) -> tuple[Document, Document]:
        repository = self._repository(call)
        for run in self.all():
            for job in run["jobs"]:
                if run["repository_id"] == repository.id and str(job["id"]) == call.labels["job"]:
                    return run, job
        raise not_found()

    def _run(self, run: Document) -> dict[str, Any]:
        url = f"{self._api}/repos/{run['repository']}/actions/runs/{run['id']}"
        names = ("id", "name", "head_branch", "head_sha", "path", "event", "status", "conclusion", "run_number")
        times = ("created_at", "updated_at", "run_started_at", "run_attempt", "display_title")
        return {
            **{name: run.get(name) for name in (*names, *times)},
            "actor": {"login": run["actor"]},
            "repository": {"id": run["repository_id"], "full_name": run["repository"]},
            "url": url,
            "jobs_url": f"{url}/jobs",
            "cancel_url": f"{url}/cancel",
            "html_url": run["html_url"],
        }

    def _job(self, run: Document, job: Document) -> dict[str, Any]:
        url = f"{self._api}/repos/{run['repository']}/actions/jobs/{job['id']}"
        names = ("id", "name", "status", "conclusion", "started_at", "completed_at", "steps")
        return {
            **{name: job.get(name) for name in names},
            "run_id": run["id"],
            "run_url": f"{self._api}/repos/{run['repository']}/actions/runs/{run['id']}",
            "run_attempt": 1,
            "head_sha": run["head_sha"],
            "head_branch": run["head_branch"],
            "workflow_name": run["name"],
            "url": url,
            "html_url": f"{run['html_url']}/job/{job['id']}",
        }


def _page(items: list[Document], call: RestCall) -> list[Document]:
    texts = [call.query.get("per_page", str(PAGE)), call.query.get("page", "1")]
    if not all(text.isascii() and text.isdigit() for text in texts):
        raise ApiError(422, "Invalid request.\n\nper_page and page are whole numbers.")
    size, number = min(int(texts[0]) or PAGE, LARGEST_PAGE), max(int(texts[1]), 1)
    return items[(number - 1) * size : number * size]
