"""`git clone` and `git push` of CodeCommit's repositories, at /v1/repos/<name>.

On AWS the host's name says the Region. Here all Regions have one address: a verified signature says it; else the
repository's only one, or the server's own, counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from local_aws.calls import ServiceError
from local_aws.git.codecommit_state import State
from local_aws.git.credentials import PREFIX, BadPassword, check_password
from local_aws.git.push_rules import ANYTHING, PushRules, RefRule, RefUpdate
from local_aws.git.smart_http import Credentials, GitRequest, Opened, Refused
from local_aws.permissions.authorization import Authorization
from local_aws.permissions.invocation import CredentialOf
from local_aws.store import Scope

# Of one push: https://docs.aws.amazon.com/codecommit/latest/userguide/limits.html
MOST_REFERENCES = 4000
# What AWS says of a branch that a policy denies.
NO_PERMISSION = "You don't have permission to push changes to this branch."


@dataclass(frozen=True, kw_only=True)
class OpenedHere(Opened):
    """Args:
    caller: ARN of who asked.
    """

    scope: Scope
    name: str
    caller: str


@dataclass(frozen=True)
class _Caller:
    access_key: str
    scope: Scope


class CodeCommitHost:
    """Who may clone from and push to CodeCommit's repositories.

    Args:
        state: the repositories.
        scope: account and Region of callers that name none.
        authorization: asked for codecommit:GitPull and codecommit:GitPush.
        account_of, caller_of: the account, and ARN and id, of an access key.
        credential_of: the secret of an access key, to verify signatures; None: anybody may do everything.
    """

    prefix = PREFIX

    def __init__(
        self,
        state: State,
        scope: Scope,
        authorization: Authorization,
        *,
        account_of: Callable[[str], str],
        caller_of: Callable[[str], tuple[str, str] | None],
        credential_of: CredentialOf | None,
    ) -> None:
        self._state, self._scope, self._authorization = state, scope, authorization
        self._account_of, self._caller_of, self._credential_of = account_of, caller_of, credential_of

    def open(self, request: GitRequest) -> OpenedHere:
        """See GitHost."""
        name = request.path
        if len(request.updates) > MOST_REFERENCES:
            count = len(request.updates)
            raise Refused(413, f"The push names {count} references, of {MOST_REFERENCES} allowed. Push them in parts.")
        caller = self._caller(request)
        rules = self._ask_iam(caller, request)
        if self._state.find(caller.scope, name) is None:
            raise Refused(404, f"There is no repository {name!r} in {caller.scope.region}. Check its name and Region.")
        identity = self._caller_of(caller.access_key) if caller.access_key else None
        arn = identity[0] if identity else f"arn:aws:iam::{caller.scope.account}:root"
        folder = self._state.git.path(self._state.key(caller.scope, name))
        return OpenedHere(folder, rules, arn, scope=caller.scope, name=name, caller=arn)

    def pushed(self, request: GitRequest, opened: Opened, updates: list[RefUpdate]) -> None:
        """See GitHost."""
        assert isinstance(opened, OpenedHere)
        self._state.changed(opened.scope, opened.name, opened.caller, updates)

    def _caller(self, request: GitRequest) -> _Caller:
        if request.credentials is None:
            if self._credential_of is not None:
                raise Refused(401, "Sign in with AWS's credential helper, or `python -m local_aws git-credential`.")
            return _Caller("", self._scope_of(self._scope.account, request.path))
        access_key, _, token = request.credentials.user.partition("%")
        if self._credential_of is None:
            return _Caller(access_key, self._scope_of(self._account_of(access_key), request.path))
        try:
            credential = self._credential_of(access_key)
        except ServiceError as error:
            raise Refused(403, error.message) from error
        if credential.secret is None:
            return _Caller(access_key, self._scope_of(credential.account, request.path))
        if (credential.token or "") != token:
            raise Refused(403, "The security token included in the request is invalid.")
        region = self._signed_region(credential.account, credential.secret, request, request.credentials)
        return _Caller(access_key, Scope(credential.account, region))

    def _signed_region(self, account: str, secret: str, request: GitRequest, given: Credentials) -> str:
        """The Region whose signature it is: one that has the repository, or else the server's own."""
        regions = dict.fromkeys([*self._state.regions(account, request.path), self._scope.region])
        reasons = []
        for region in regions:
            try:
                check_password(
                    given.password, secret, region, request.host, f"{PREFIX}{request.path}", datetime.now(UTC)
                )
            except BadPassword as bad:
                reasons.append(str(bad))
            else:
                return region
        raise Refused(403, reasons[-1])

    def _scope_of(self, account: str, name: str) -> Scope:
        """Where the repository is, when nothing verified says it."""
        regions = self._state.regions(account, name)
        if len(regions) == 1:
            return Scope(account, regions[0])
        if len(regions) > 1 and self._scope.region not in regions:
            where = ", ".join(regions)
            raise Refused(409, f"There is a repository {name!r} in each of {where}; nothing says which one is meant.")
        return Scope(account, self._scope.region)

    def _ask_iam(self, caller: _Caller, request: GitRequest) -> PushRules:
        """Whether the caller may fetch or push; of a push that has named its refs, which of them it may not change.

        AWS asks for a push first without references, which is its first request, then for those that it is to change.
        """
        if not request.writes:
            self._ask(caller, "GitPull", request, [])
            return PushRules()
        refused = []
        for ref in dict.fromkeys(update.ref for update in request.updates):
            try:
                self._ask(caller, "GitPush", request, [ref])
            except Refused as denied:
                refused.append(RefRule((ref,), ANYTHING, f"{NO_PERMISSION} {ref}: {denied.message}"))
        if not request.updates:
            self._ask(caller, "GitPush", request, [])
        return PushRules(tuple(refused))

    def _ask(self, caller: _Caller, operation: str, request: GitRequest, references: list[str]) -> None:
        asked = {"repositoryName": request.path, "references": references}
        try:
            self._authorization.check(caller.scope, caller.access_key, "codecommit", operation, asked)
        except ServiceError as error:
            raise Refused(403, error.message) from error
