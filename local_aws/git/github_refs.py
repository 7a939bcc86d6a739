"""Git references by REST: https://docs.github.com/rest/git/refs. They are held to the rulesets as pushes are."""

from __future__ import annotations

from collections.abc import Callable

from local_aws.git.github_errors import ApiError
from local_aws.git.github_rest import Rest, RestAnswer, RestCall, fields, token_of_call
from local_aws.git.github_rulesets import push_rules
from local_aws.git.github_state import GitHubState, Repository
from local_aws.git.merging import contains
from local_aws.git.push_rules import CREATE, DELETE, FAST_FORWARD, FORCE, NOTHING, PushRules, RefUpdate
from local_aws.git.repositories import GitError, RefMoved, Repositories

REFERENCES = ("refs/heads/", "refs/tags/")


class Refs:
    """The operations that change references."""

    def __init__(self, rest: Rest, state: GitHubState, repositories: Repositories) -> None:
        self._rest, self._state, self._repositories = rest, state, repositories
        self.operations: dict[str, Callable[[RestCall], RestAnswer]] = {
            "CreateRef": self.create,
            "UpdateRef": self.update,
            "DeleteRef": self.delete,
        }

    def create(self, call: RestCall) -> RestAnswer:
        repository = self._rest.find(call)
        given = fields(call.body, {"ref": str, "sha": str}, required=("ref", "sha"))
        ref = given["ref"]
        if not ref.startswith(REFERENCES) or not self._repositories.is_ref_name(ref):
            raise ApiError(422, "Reference name must start with 'refs/heads/' or 'refs/tags/', and be one of Git's.")
        if ref in self._repositories.refs(repository.key):
            raise ApiError(422, "Reference already exists")
        self._check_object(repository, given["sha"])
        self._move(call, repository, RefUpdate(ref, NOTHING, given["sha"]), CREATE)
        return RestAnswer(201, self._rest.ref_content(repository, ref))

    def update(self, call: RestCall) -> RestAnswer:
        repository = self._rest.find(call)
        given = fields(call.body, {"sha": str, "force": bool}, required=("sha",))
        ref, before = self._existing(call, repository)
        self._check_object(repository, given["sha"])
        forward = contains(self._repositories, repository.key, given["sha"], before)
        if not forward and not given.get("force"):
            raise ApiError(422, "Update is not a fast forward")
        self._move(call, repository, RefUpdate(ref, before, given["sha"]), FAST_FORWARD if forward else FORCE)
        return RestAnswer(content=self._rest.ref_content(repository, ref))

    def delete(self, call: RestCall) -> RestAnswer:
        repository = self._rest.find(call)
        ref, before = self._existing(call, repository)
        if ref == f"refs/heads/{self._repositories.head(repository.key)}":
            raise ApiError(422, "Cannot delete the default branch")
        self._move(call, repository, RefUpdate(ref, before, NOTHING), DELETE)
        return RestAnswer(204)

    def _existing(self, call: RestCall, repository: Repository) -> tuple[str, str]:
        ref = f"refs/{call.labels['ref']}"
        found = self._repositories.refs(repository.key).get(ref)
        if found is None or not ref.startswith(REFERENCES):
            raise ApiError(422, "Reference does not exist")
        return ref, found

    def _check_object(self, repository: Repository, sha: str) -> None:
        if self._repositories.resolve(repository.key, sha) != sha:
            raise ApiError(422, "Object does not exist")

    def _move(self, call: RestCall, repository: Repository, update: RefUpdate, kind: str) -> None:
        head = self._repositories.head(repository.key)
        rules = PushRules(push_rules(repository.rulesets.values(), head, repository.full_name))
        if refusal := rules.refusal(update, kind):
            raise ApiError(422, f"Repository rule violations found\n\n{refusal.strip()}")
        try:
            self._repositories.update_ref(repository.key, update.ref, update.after, update.before)
        except (RefMoved, GitError) as error:
            raise ApiError(422, "Reference cannot be updated") from error
        self._state.refs_changed(repository, token_of_call(call).login, [update])
