"""The switch "github" (local_aws.control_calls): who has which account and token, what is out of order, jobs' tokens.

aws.configure("github", {"organizations": {"acme": {}}, "tokens": {"ghp_0123456789ab": {}}})
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from local_aws.git.github_jobs import job_claims
from local_aws.git.github_limits import LIMIT, WINDOW, Limits
from local_aws.git.github_state import ORGANIZATION, RIGHTS, USER, GitHubState, Token
from local_aws.oidc import LASTS, OidcIssuer

if TYPE_CHECKING:
    from local_aws.git.github_actions import Actions

Settings = dict[str, Any]

LOGIN = re.compile(r"[A-Za-z0-9](-?[A-Za-z0-9]){0,38}")  # GitHub's rule for names of accounts
RESERVED = frozenset({"api", "orgs", "users", "user", "repos"})  # words of its own paths
SOMEBODY = "octocat"  # whose a token is that names nobody
PLANS = {ORGANIZATION: ("free", "team", "enterprise"), USER: ("free", "pro")}
USUAL_PLAN = {ORGANIZATION: "team", USER: "pro"}  # with rulesets for private repositories
SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SHORTEST_TOKEN = 12  # of which four are shown
OUTAGE = 503


class GitHubSwitch:
    """Reads and changes the settings. On the server's event loop only."""

    def __init__(self, state: GitHubState, limits: Limits, issuer: OidcIssuer, actions: Actions | None = None) -> None:
        self._state, self._limits, self._issuer, self._actions = state, limits, issuer, actions
        self._issued: str | None = None
        self._changes: dict[str, Callable[[Any], Callable[[], None]]] = {
            "organizations": lambda given: self._accounts(ORGANIZATION, given),
            "users": lambda given: self._accounts(USER, given),
            "tokens": self._tokens,
            "immutable_subjects": self._immutable_subjects,
            "rate_limit": self._rate_limit,
            "outage": self._outage,
            "issue_oidc_token": self._job_token,
            "secrets": self._repository_secrets,
        }

    def settings(self) -> Settings:
        """Everything that is set. Of a token its last four characters are shown.

        "oidc_token" is there in the answer to the change that asked for one, and only there.
        """
        limits, issued, self._issued = self._limits, self._issued, None
        shown = {
            "organizations": self._shown(ORGANIZATION),
            "users": self._shown(USER),
            "tokens": [
                {"token": f"…{each.ending}", "login": each.login, "rights": each.rights, "expires": each.expires}
                for each in self._state.tokens()
                if each.permissions is None  # a job's own goes with the job
            ],
            "repositories": [each.full_name for each in self._state.repositories()],
            "immutable_subjects": self._state.immutable_subjects,
            "rate_limit": {
                name: getattr(limits, name) for name in ("limit", "seconds", "status", "secondary", "retry_after")
            },
            "outage": limits.outage,
            "secrets": self._actions.secret_names() if self._actions else {},
        }
        return shown | ({"oidc_token": issued} if issued else {})

    def configure(self, settings: Settings) -> None:
        """Change what is given; nothing at all when something in it is wrong.

        organizations, users: {login: {"plan": ...}}; known ones stay.
        tokens: {token: {"login", "rights", "expires"}}; null revokes one. `rights` are of RIGHTS, without them all;
            `expires` is a time as ISO 8601 or seconds since the epoch.
        immutable_subjects: whether repositories that are made from now on have immutable OIDC subjects.
        rate_limit: {"limit", "seconds", "status", "secondary", "retry_after"} (github_limits.Limits); null: GitHub's.
        outage: false, true (503) or a status from 500 to 599.
        secrets: {"acme/churn": {name: value}}: of a repository's workflows; null takes one away. They are in memory
            alone: no file has them, and a restart forgets them.
        issue_oidc_token: {"repository", "ref", "audience", "environment", "event", "lasts"} (github_jobs.job_claims).

        Raises:
            ValueError: what is wrong.
        """
        if unknown := sorted(settings.keys() - self._changes.keys()):
            raise ValueError(f"github: there is no setting {', '.join(unknown)}; there are {', '.join(self._changes)}.")
        for change in [self._changes[name](given) for name, given in settings.items()]:
            change()

    def _shown(self, kind: str) -> Settings:
        return {each.login: {"id": each.id, "plan": each.plan} for each in self._state.accounts(kind)}

    def _accounts(self, kind: str, given: Any) -> Callable[[], None]:
        word = "organizations" if kind == ORGANIZATION else "users"
        plans = {}
        for login, each in _objects(word, given).items():
            fields = _fields(f"{word}: {login}", each or {}, ("plan",))
            self._check_login(word, login, kind)
            plans[login] = plan = fields.get("plan", USUAL_PLAN[kind])
            if plan not in PLANS[kind]:
                raise ValueError(
                    f"github: {word}: {login}: there is no plan {plan!r}; give {' or '.join(PLANS[kind])}."
                )

        def change() -> None:
            for login, plan in plans.items():
                self._state.put_account(login, kind, plan)

        return change

    def _check_login(self, word: str, login: Any, kind: str) -> None:
        if not isinstance(login, str) or not LOGIN.fullmatch(login) or login.lower() in RESERVED:
            raise ValueError(
                f"github: {word}: {login!r} is no name of an account: letters, digits and single hyphens between them,"
                " at most 39 characters."
            )
        known = self._state.account(login)
        if known is not None and known.kind != kind:
            raise ValueError(f"github: {word}: {login!r} is the name of another account ({known.kind}).")

    def _tokens(self, given: Any) -> Callable[[], None]:
        tokens = {text: self._token(text, each) for text, each in _objects("tokens", given).items()}

        def change() -> None:
            for text, token in tokens.items():
                if token is None:
                    self._state.revoke_token(text)
                    continue
                if self._state.account(token.login) is None:
                    self._state.put_account(token.login, USER, USUAL_PLAN[USER])
                self._state.put_token(text, token)

        return change

    def _token(self, text: str, given: Any) -> Token | None:
        shown = f"tokens: …{text[-4:]}"
        if len(text) < SHORTEST_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError(f"github: a token is {SHORTEST_TOKEN} or more ASCII characters without spaces.")
        if given is None:
            return None
        fields = _fields(shown, given, ("login", "rights", "expires"))
        login, rights = fields.get("login", SOMEBODY), fields.get("rights", list(RIGHTS))
        self._check_login(shown, login, USER)
        if not isinstance(rights, list) or not set(rights) <= set(RIGHTS):
            raise ValueError(f"github: {shown}: rights {rights!r}: give a list of {', '.join(RIGHTS)}.")
        return Token(login, rights, _time(shown, fields.get("expires")), text[-4:], not text.startswith("github_pat_"))

    def _immutable_subjects(self, given: Any) -> Callable[[], None]:
        if type(given) is not bool:
            raise ValueError(f"github: immutable_subjects {given!r}: give true or false.")

        def change() -> None:
            self._state.immutable_subjects = given

        return change

    def _rate_limit(self, given: Any) -> Callable[[], None]:
        fields = _fields("rate_limit", given or {}, ("limit", "seconds", "status", "secondary", "retry_after"))
        limit, seconds = fields.get("limit", LIMIT), fields.get("seconds", WINDOW)
        status, secondary, retry = fields.get("status", 403), fields.get("secondary", 0), fields.get("retry_after", 1)
        for name, value in (("limit", limit), ("secondary", secondary), ("retry_after", retry)):
            if type(value) is not int or value < 0:
                raise ValueError(f"github: rate_limit: {name} {value!r} is no whole number from 0.")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= WINDOW:
            raise ValueError(f"github: rate_limit: seconds {seconds!r}: give more than 0 and at most {WINDOW:g}.")
        if status not in (403, 429):
            raise ValueError(f"github: rate_limit: status {status!r} is neither 403 nor 429.")
        return lambda: self._limits.set_rate(limit, seconds, status, secondary, retry)

    def _outage(self, given: Any) -> Callable[[], None]:
        status = OUTAGE if given is True else None if given is False else given
        if status is not None and (type(status) is not int or not 500 <= status <= 599):
            raise ValueError(f"github: outage {given!r}: give true, false or a status from 500 to 599.")

        def change() -> None:
            self._limits.outage = status

        return change

    def _repository_secrets(self, given: Any) -> Callable[[], None]:
        actions = self._actions
        if actions is None:
            raise ValueError("github: secrets: this server runs no workflows.")
        values = _objects("secrets", given)
        for full_name, names in values.items():
            if self._state.repository(*full_name.partition("/")[::2]) is None:
                raise ValueError(f"github: secrets: there is no repository {full_name!r}.")
            for name, value in (names or {}).items():
                if not SECRET.fullmatch(name) or name.upper().startswith("GITHUB_"):
                    raise ValueError(
                        f"github: secrets: {full_name}: {name!r} is no name of a secret: letters, digits and _, not a"
                        " digit first, not GITHUB_ before them."
                    )
                if not (value is None or (isinstance(value, str) and value)):
                    raise ValueError(f"github: secrets: {full_name}: the value of {name} is no text.")

        def change() -> None:
            for full_name, names in values.items():
                actions.set_secrets(full_name, names or {})

        return change

    def _job_token(self, given: Any) -> Callable[[], None]:
        names = ("repository", "ref", "audience", "environment", "event", "lasts")
        fields = _fields("issue_oidc_token", given, names)
        full_name, lasts = fields.get("repository"), fields.get("lasts", LASTS)
        owner, _, name = full_name.partition("/") if isinstance(full_name, str) else ("", "", "")
        repository, account = self._state.repository(owner, name), self._state.account(owner)
        if repository is None or account is None:
            raise ValueError(f"github: issue_oidc_token: there is no repository {full_name!r}.")
        if type(lasts) is not int:
            raise ValueError(f"github: issue_oidc_token: lasts {lasts!r}: give whole seconds; 0 has expired already.")
        claims = job_claims(repository, account, **{name: fields[name] for name in names[1:5] if name in fields})

        def change() -> None:
            self._issued = self._issuer.issue(claims, lasts)

        return change


def _objects(name: str, given: Any) -> Settings:
    if not isinstance(given, dict) or not all(each is None or isinstance(each, dict) for each in given.values()):
        raise ValueError(f"github: {name}: give a JSON object with an object for each.")
    return given


def _fields(what: str, given: Any, known: tuple[str, ...]) -> Settings:
    if not isinstance(given, dict) or given.keys() - set(known):
        raise ValueError(f"github: {what}: give a JSON object with {', '.join(known)}.")
    return given


def _time(what: str, given: Any) -> float | None:
    if given is None or (isinstance(given, int | float) and not isinstance(given, bool)):
        return given
    try:
        moment = datetime.datetime.fromisoformat(given)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"github: {what}: expires {given!r} is no time; give ISO 8601, such as 2026-11-21T12:00:00Z."
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
