"""What happens to a repository, as GitHub tells its workflows of it.

https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local_aws.git.github_actions_workflows import DELETE, DISPATCH, PULL_REQUEST, PUSH, Workflow, WorkflowError, parse
from local_aws.git.github_errors import ApiError
from local_aws.git.github_state import Repository
from local_aws.git.merging import Person, commit_tree, contains, merge
from local_aws.git.push_rules import NOTHING, RefUpdate
from local_aws.git.repositories import Repositories

WORKFLOWS = ".github/workflows/"
GITHUB = Person("GitHub", "noreply@github.com")  # who commits what merging a pull request would make
HEADS, TAGS = "refs/heads/", "refs/tags/"


@dataclass(frozen=True)
class Event:
    """Something that workflows run for.

    Args:
        name: "push", "pull_request", "delete" or "workflow_dispatch".
        payload: what GitHub tells of it ("github.event").
        ref, sha: what the workflow runs for, and where it is read.
        actor: the login of who caused it.
        head, base: the branches of a pull request.
        action: of a pull request, such as "opened".
    """

    name: str
    payload: Mapping[str, Any]
    ref: str
    sha: str
    actor: str
    head: str = ""
    base: str = ""
    action: str = ""

    @property
    def ref_name(self) -> str:
        return self.ref.removeprefix(HEADS).removeprefix(TAGS).removeprefix("refs/pull/")


def takes(workflow: Workflow, event: Event) -> bool:
    """Whether a workflow is to run for an event."""
    chosen = workflow.events.get(event.name)
    if chosen is None:
        return False
    if event.name == PUSH and event.ref.startswith(TAGS):
        return chosen.takes_tag(event.ref.removeprefix(TAGS))
    if event.name == PUSH:
        return chosen.takes_branch(event.ref.removeprefix(HEADS))
    if event.name == PULL_REQUEST:
        return event.action in chosen.types and chosen.takes_branch(event.base)
    return True


class Events:
    """Args:
    describe: a repository as GitHub's REST API answers it.
    site: the address of what stands in for github.com.
    """

    def __init__(self, repositories: Repositories, describe: Callable[[Repository], dict[str, Any]], site: str) -> None:
        self._repositories, self._describe, self._site = repositories, describe, site

    def workflows(self, repository: Repository, sha: str) -> dict[str, str]:
        """The workflows of a commit, by their paths."""
        listed = self._repositories.git(repository.key, "ls-tree", "-z", "--name-only", sha, WORKFLOWS).decode()
        paths = [path for path in listed.split("\0") if path.endswith((".yml", ".yaml"))]
        return {
            path: self._repositories.git(repository.key, "cat-file", "blob", f"{sha}:{path}").decode("utf-8", "replace")
            for path in paths
        }

    def of_refs(self, repository: Repository, updates: Sequence[RefUpdate], who: str) -> Iterator[Event]:
        """What changes of branches and tags are; nothing of other refs."""
        for update in updates:
            if not update.ref.startswith((HEADS, TAGS)):
                continue
            if update.after != NOTHING:
                yield Event(PUSH, self._pushed(repository, update, who), update.ref, update.after, who)
            elif event := self._deleted(repository, update.ref, who):
                yield event

    def _deleted(self, repository: Repository, ref: str, who: str) -> Event | None:
        """Runs the default branch's workflow; the branch itself is gone."""
        default = HEADS + self._repositories.head(repository.key)
        sha = self._repositories.resolve(repository.key, default)
        if sha is None:
            return None
        kind = "branch" if ref.startswith(HEADS) else "tag"
        payload = {"ref": ref.split("/", 2)[2], "ref_type": kind, "pusher_type": "user"}
        return Event(DELETE, payload | self._common(repository, who), default, sha, who)

    def of_pull(self, repository: Repository, action: str, pull: dict[str, Any], who: str) -> Event | None:
        """Runs what merging the pull request would make; when it cannot be merged, GitHub runs nothing either."""
        number, head, base = pull["number"], pull["head"], pull["base"]
        ref = f"refs/pull/{number}/merge"
        sha = pull["merge_commit_sha"] if pull["merged"] else self._merged(repository, ref, base["sha"], head["sha"])
        if sha is None:
            return None
        payload = {"action": action, "number": number, "pull_request": pull, **self._common(repository, who)}
        return Event(PULL_REQUEST, payload, ref, sha, who, head["ref"], base["ref"], action)

    def of_dispatch(
        self, repository: Repository, name: str, ref: str, inputs: Mapping[str, str], who: str
    ) -> tuple[Event, str, str]:
        """What somebody's wish is, with the workflow's path and text.

        Args:
            name: the workflow's file, such as "template.yml".
            ref: a branch.

        Raises:
            ApiError: there is no such workflow or branch, or it is not run like this.
        """
        full = ref if ref.startswith("refs/") else HEADS + ref
        sha = self._repositories.resolve(repository.key, full)
        if sha is None:
            raise ApiError(422, f"No ref found for: {ref}")
        files = self.workflows(repository, sha)
        path = next((each for each in files if name in (each, each.rpartition("/")[2])), None)
        if path is None:
            raise ApiError(404, "Not Found")
        try:
            workflow = parse(files[path], path)
        except WorkflowError as error:
            raise ApiError(422, str(error)) from error
        if DISPATCH not in workflow.events:
            raise ApiError(422, "Workflow does not have 'workflow_dispatch' trigger")
        if unknown := sorted(inputs.keys() - workflow.inputs.keys()):
            raise ApiError(422, f"Unexpected inputs provided: {json.dumps(unknown)}")
        payload = {
            "ref": full,
            "inputs": {**workflow.inputs, **inputs},
            "workflow": path,
            **self._common(repository, who),
        }
        return Event(DISPATCH, payload, full, sha, who), path, files[path]

    def _merged(self, repository: Repository, ref: str, base: str, head: str) -> str | None:
        """A commit that merges a pull request's head into its base, which `ref` then names; None: they conflict."""
        merged = merge(self._repositories, repository.key, base, head)
        if not merged.clean:
            return None
        message = f"Merge {head} into {base}".encode()
        made = commit_tree(self._repositories, repository.key, merged.tree, [base, head], GITHUB, message)
        self._repositories.update_ref(repository.key, ref, made)
        return made

    def _common(self, repository: Repository, who: str) -> dict[str, Any]:
        return {"repository": self._describe(repository), "sender": {"login": who, "type": "User"}}

    def _pushed(self, repository: Repository, update: RefUpdate, who: str) -> dict[str, Any]:
        """https://docs.github.com/en/webhooks/webhook-events-and-payloads#push"""
        created = update.before == NOTHING
        forced = not created and not contains(self._repositories, repository.key, update.after, update.before)
        shown = self._repositories.git(
            repository.key, "log", "-1", "--format=%H%x00%T%x00%an%x00%ae%x00%aI%x00%B", update.after
        )
        commit, tree, name, email, at, message = shown.decode("utf-8", "replace").split("\0", 5)
        author = {"name": name, "email": email}
        head = {"id": commit, "tree_id": tree, "message": message.rstrip("\n"), "timestamp": at, "author": author}
        return {
            "ref": update.ref,
            "before": update.before,
            "after": update.after,
            "created": created,
            "deleted": False,
            "forced": forced,
            "base_ref": None,
            "compare": f"{self._site}/{repository.full_name}/compare/{update.before[:12]}...{update.after[:12]}",
            "head_commit": head,
            "pusher": {"name": who},
            **self._common(repository, who),
        }
