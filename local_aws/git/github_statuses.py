"""Commit statuses: https://docs.github.com/rest/commits/statuses"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local_aws.git.github_errors import ApiError, invalid
from local_aws.git.github_rest import Rest, RestAnswer, RestCall, fields, token_of_call
from local_aws.git.github_state import GitHubState, Repository, now

STATES = ("error", "failure", "pending", "success")
STATUS_FIELDS = {"state": str, "target_url": str, "description": str, "context": str}
LONGEST_DESCRIPTION = 140
MOST_STATUSES = 1000  # of one commit and context
FAILED = "Validation Failed"


class Statuses:
    """The operations on statuses."""

    def __init__(self, rest: Rest, state: GitHubState) -> None:
        self._rest, self._state = rest, state
        self.operations: dict[str, Callable[[RestCall], RestAnswer]] = {
            "CreateStatus": self.create,
            "ListStatuses": self.list_all,
            "GetCombinedStatus": self.combined,
        }

    def create(self, call: RestCall) -> RestAnswer:
        repository, given = self._rest.find(call), fields(call.body, STATUS_FIELDS, required=("state",))
        wanted, context = call.labels["sha"], given.get("context") or "default"
        if given["state"] not in STATES:
            raise invalid("state", f"state is not one of {', '.join(STATES)}", code="invalid", resource="Status")
        if len(given.get("description") or "") > LONGEST_DESCRIPTION:
            message = f"description is too long (maximum is {LONGEST_DESCRIPTION} characters)"
            raise invalid("description", message, resource="Status")
        if not (given.get("target_url") or "https://").startswith(("https://", "http://")):
            raise invalid("target_url", "target_url must use http(s) scheme", resource="Status")
        if self._rest.commit_id(repository, wanted) != wanted:
            raise ApiError(422, f"No commit found for SHA: {wanted}")
        with self._state.lock:
            known = self._state.statuses(repository, wanted)
            if sum(each["context"] == context for each in known) >= MOST_STATUSES:
                raise ApiError(422, FAILED, ["This SHA and context has reached the maximum number of statuses."])
            status = {
                "id": self._state.next_id("status"),
                "state": given["state"],
                "description": given.get("description"),
                "target_url": given.get("target_url"),
                "context": context,
                "creator": token_of_call(call).login,
                "created_at": now(),
            }
            self._state.put_statuses(repository, wanted, [status, *known])
        return RestAnswer(201, self._shown(repository, wanted, status))

    def list_all(self, call: RestCall) -> RestAnswer:
        """All of them, the newest first."""
        repository, commit = self._commit(call)
        every = [self._shown(repository, commit, each) for each in self._state.statuses(repository, commit)]
        return self._rest.page(call, f"{self._rest.url(repository)}/commits/{commit}/statuses", every)

    def combined(self, call: RestCall) -> RestAnswer:
        """The latest of each context, and what they come to."""
        repository, commit = self._commit(call)
        latest: dict[str, dict[str, Any]] = {}
        for each in self._state.statuses(repository, commit):
            latest.setdefault(each["context"], each)
        states = {each["state"] for each in latest.values()}
        bad, waiting = states & {"error", "failure"}, not states or "pending" in states
        content = {
            "state": "failure" if bad else "pending" if waiting else "success",
            "statuses": [self._shown(repository, commit, each) for each in latest.values()],
            "sha": commit,
            "total_count": len(latest),
            "commit_url": f"{self._rest.url(repository)}/commits/{commit}",
            "url": f"{self._rest.url(repository)}/commits/{commit}/status",
        }
        return RestAnswer(content=content)

    def _commit(self, call: RestCall) -> tuple[Repository, str]:
        repository = self._rest.find(call)
        commit = self._rest.commit_id(repository, call.labels["ref"])
        if commit is None:
            raise ApiError(422, f"No commit found for SHA: {call.labels['ref']}")
        return repository, commit

    def _shown(self, repository: Repository, commit: str, status: dict[str, Any]) -> dict[str, Any]:
        url = f"{self._rest.url(repository)}/statuses/{commit}"
        who = self._rest.person(status["creator"])
        return {**status, "url": url, "creator": who, "updated_at": status["created_at"]}
