"""What a CI system tells a job, and where it shows what the job has to say: one small class for each system.

Everything else is the same in every system (ci.py). Another one is another class here, and its CI file.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

import boto3
import botocore.session
from botocore.credentials import (
    AssumeRoleWithWebIdentityCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import ClientError

from pipeline import InputError
from pipeline.lineage import current_branch

Event = Literal["push", "pull_request", "deleted", "schedule", "manual"]
# FEATURE, DEV or PROD follow: a role for each class of branches; or CHECK: one for pull requests, for plans alone.
ROLE_VARIABLE = "MODELYARD_CI_ROLE_"
AUDIENCE = "sts.amazonaws.com"
NO_COMMIT = re.compile("0+")
HEADS = "refs/heads/"
# By which our comment is found again. It is not shown.
MARK = "<!-- modelyard: plan -->"
# https://docs.github.com/en/rest/issues/comments: GitHub takes no longer one
LONGEST_COMMENT = 65_536
PERMISSIONS = "let the job do this (`permissions` in .github/workflows)"
TIMEOUT = 30  # seconds for an answer of the CI system or the Git host

# What may sign in somewhere: the repository's own tests and linters are not given it.
# (CI_REPOSITORY_URL, GitLab's, holds a password.)
SECRETS = re.compile(r"AWS_.*|.*(TOKEN|PASSWORD|SECRET|_KEY|_JWT).*|CI_REPOSITORY_URL")


class NoCredentials(InputError):
    """This job is given no AWS role; the text says why, and what to do where it should have one."""


@dataclass(frozen=True)
class Run:
    """What a job runs for.

    Args:
        event: what happened.
        branch: the one that was pushed to or deleted, that a pull request would merge, or that is checked out.
        target: of a pull request: the branch that it would be merged into.
        created: whether the push made the branch.
        url: of the job's page.
        pull_request: its number.
    """

    event: Event
    branch: str
    target: str | None = None
    created: bool = False
    url: str | None = None
    pull_request: int | None = None


class System:
    """A laptop: the steps are run by hand. The CI systems are the subclasses.

    environment: the job's variables.
    """

    name = "by hand"
    by_hand = True  # with a person's rights, which need not be those of a job's role
    tells_the_end = "python -m pipeline watch follows it to its end"  # of an execution that the job has started

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment

    def run(self) -> Run:
        """Raises InputError when the system does not say what the job runs for."""
        return Run("manual", current_branch(None, self.environment))

    def session(self, region: str) -> boto3.Session:
        """Raises NoCredentials where there are none, InputError where AWS does not take those that there are."""
        session = boto3.Session(region_name=region)
        if session.get_credentials() is None:
            raise NoCredentials("there are no AWS credentials here: sign in as for the AWS CLI")
        return session

    def need(self, variable: str, who: str = "") -> str:
        """A variable's value. who: gives it. Raises InputError when it is not set."""
        value = self.environment.get(variable)
        if not value:
            raise InputError(f"the variable {variable} is not set: {who or self.name + ' does so in its jobs'}")
        return value

    def git_environment(self) -> dict[str, str]:
        """The variables with which git signs in to the remote."""
        return dict(self.environment)

    @contextmanager
    def section(self, title: str) -> Iterator[None]:
        """What is printed meanwhile stands below this heading."""
        print(f"\n=== {title}", flush=True)
        yield

    def fault(self, text: str) -> None:
        """Says what failed. It is printed last."""
        print(f"error: {text}", flush=True)

    def warning(self, text: str) -> None:
        """Says what may not be meant. The job goes on."""
        print(f"warning: {text}", flush=True)

    def publish(self, run: Run, markdown: str) -> None:
        """Shows a text where whoever looks at the job, or at its pull request, sees it. Here: build/ holds it."""


class CodeBuild(System):
    """AWS CodeBuild, which says neither branch nor event: whatever starts a build says them in variables of ours.

    https://docs.aws.amazon.com/codebuild/latest/userguide/build-env-ref-env-vars.html
    """

    name = "CodeBuild"
    by_hand = False
    tells_the_end = "a comment on the commit will say how it ended"

    def run(self) -> Run:
        branch = self.need("MODELYARD_BRANCH", "the rule or pipeline that starts the build gives it")
        event: Event = "deleted" if "deleted" in self.environment.get("MODELYARD_CI_STEPS", "").split() else "push"
        return Run(event, branch, url=self.environment.get("CODEBUILD_BUILD_URL"))


class _WithIdentityToken(System):
    """A system that proves with an OIDC token what it runs for, for which AWS gives a role's credentials."""

    by_hand = False

    def token_branch(self, run: Run) -> str:
        """The branch that the token names, which decides on the role."""
        return run.branch

    def identity_token(self) -> Callable[[], str]:
        """What asks for a token. Raises NoCredentials when this job may have none."""
        raise NotImplementedError

    def session_name(self) -> str:
        raise NotImplementedError

    def session(self, region: str) -> boto3.Session:
        run = self.run()
        variable = role_variable(run.event, self.token_branch(run))
        if variable is None:
            raise NoCredentials(f"the branch {run.branch!r} has no AWS role: dev, prod and feature-* have one")
        role = self.environment.get(variable)
        if not role:
            raise NoCredentials(
                f"the variable {variable} is not set: make it a variable of the repository in {self.name}, with the "
                "ARN of the role for this job as its value (README.md, CI)"
            )

        def refused(error: ClientError) -> InputError:
            return InputError(
                f"AWS does not give this job the role {role} ({error.response['Error'].get('Message')}): {variable} "
                f"must name a role of this project that trusts {self.name} for this branch; an administrator looks at "
                "its trust policy"
            )

        session = role_session(region, role, self.identity_token(), self.session_name(), refused)
        session.get_credentials().get_frozen_credentials()  # before anything is asked of AWS
        return session


class GitHub(_WithIdentityToken):
    """GitHub Actions: https://docs.github.com/en/actions/reference/workflows-and-actions/variables."""

    name = "GitHub Actions"
    tells_the_end = "a status of the commit says how it ends"

    def run(self) -> Run:
        name, event = self.need("GITHUB_EVENT_NAME"), self._event()
        if name == "push":
            return Run("push", self._ref_branch(), created=bool(event.get("created")), url=self._url())
        if name == "pull_request":
            pull = event["pull_request"]
            return Run(
                "pull_request",
                branch=pull["head"]["ref"],
                target=pull["base"]["ref"],
                url=self._url(),
                pull_request=pull["number"],
            )
        if name == "delete":
            if event["ref_type"] != "branch":
                raise InputError(f"the {event['ref_type']} {event['ref']!r} was deleted: only branches have pipelines")
            return Run("deleted", event["ref"], url=self._url())
        return Run("schedule" if name == "schedule" else "manual", self._ref_branch(), url=self._url())

    def token_branch(self, run: Run) -> str:
        return self._ref_branch()

    def _ref_branch(self) -> str:
        # when a branch is deleted, and on a schedule, this is the default branch
        return self.need("GITHUB_REF").removeprefix(HEADS)

    def _event(self) -> dict[str, Any]:
        return dict(json.loads(Path(self.need("GITHUB_EVENT_PATH")).read_text(encoding="utf-8")))

    def _url(self) -> str:
        names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
        server, repository, number = (self.need(name) for name in names)
        return f"{server}/{repository}/actions/runs/{number}"

    def session_name(self) -> str:
        return f"github-{self.environment['GITHUB_RUN_ID']}"

    def identity_token(self) -> Callable[[], str]:
        """A token is good for minutes: each asking gets another one.

        https://docs.github.com/en/actions/reference/security/oidc
        """
        url = self.environment.get("ACTIONS_ID_TOKEN_REQUEST_URL")
        secret = self.environment.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
        if not url or not secret:
            raise NoCredentials(
                "GitHub gives this job no identity token: a pull request from a fork never gets one, any other job "
                "needs `permissions: id-token: write` in its workflow file"
            )
        asked = f"{url}{'&' if '?' in url else '?'}{urlencode({'audience': AUDIENCE})}"

        def ask() -> str:
            answer = call(urllib.request.Request(asked, headers={"Authorization": f"bearer {secret}"}), PERMISSIONS)
            return str(answer["value"])

        return ask

    def git_environment(self) -> dict[str, str]:
        """With the job's token, by variables: it stands neither in a file nor in a list of processes."""
        token = self.environment.get("GITHUB_TOKEN")
        if not token:
            return dict(self.environment)
        basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        return {
            **self.environment,
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{self.environment['GITHUB_SERVER_URL']}/.extraheader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
        }

    @contextmanager
    def section(self, title: str) -> Iterator[None]:
        """A group that can be folded. No line in it is a command, whatever a test, a stage file or a commit holds.

        https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands, "Stopping and starting"
        """
        word = secrets.token_hex(16)
        print(f"::group::{_command_text(title)}\n::stop-commands::{word}", flush=True)
        try:
            yield
        finally:
            print(f"::{word}::\n::endgroup::", flush=True)

    def fault(self, text: str) -> None:
        print(f"::error::{_command_text(text)}", flush=True)

    def warning(self, text: str) -> None:
        print(f"::warning::{_command_text(text)}", flush=True)

    def publish(self, run: Run, markdown: str) -> None:
        """Into the job's summary; of a pull request, into one comment too, which later runs change."""
        if path := self.environment.get("GITHUB_STEP_SUMMARY"):
            with Path(path).open("a", encoding="utf-8") as summary:
                summary.write(f"{markdown}\n")
        if run.pull_request is not None and self.environment.get("GITHUB_TOKEN"):
            self._comment(run.pull_request, f"{MARK}\n{markdown}")

    def _comment(self, pull_request: int, body: str) -> None:
        repository = f"/repos/{quote(self.environment['GITHUB_REPOSITORY'])}/issues"
        page, found = 1, None
        while found is None:
            path = f"{repository}/{pull_request}/comments?per_page=100&page={page}"
            comments = self._api("GET", path)
            found = next((one for one in comments if _is_ours(one)), None)
            if len(comments) < 100:
                break
            page += 1
        text = {"body": _shortened(body)}
        if found is None:
            self._api("POST", f"{repository}/{pull_request}/comments", text)
        elif found["body"] != text["body"]:
            self._api("PATCH", f"{repository}/comments/{found['id']}", text)

    def _api(self, method: str, path: str, body: dict[str, str] | None = None) -> Any:
        request = urllib.request.Request(
            f"{self.environment['GITHUB_API_URL']}{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={
                "Authorization": f"Bearer {self.environment['GITHUB_TOKEN']}",
                "Accept": "application/vnd.github+json",
                "X-GitHub-Api-Version": "2022-11-28",
            },
        )
        return call(request, PERMISSIONS)


class GitLab(_WithIdentityToken):
    """GitLab CI: https://docs.gitlab.com/ci/variables/predefined_variables/."""

    name = "GitLab CI"

    def run(self) -> Run:
        source, url = self.need("CI_PIPELINE_SOURCE"), self.environment.get("CI_JOB_URL")
        if source == "merge_request_event":
            return Run(
                "pull_request",
                branch=self.need("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME"),
                target=self.need("CI_MERGE_REQUEST_TARGET_BRANCH_NAME"),
                url=url,
                pull_request=int(self.need("CI_MERGE_REQUEST_IID")),
            )
        branch = self.need("CI_COMMIT_REF_NAME")
        # a branch that is deleted stops its environment (.gitlab-ci.yml, on_stop)
        if self.environment.get("CI_ENVIRONMENT_ACTION") == "stop":
            return Run("deleted", branch, url=url)
        if source == "push":
            created = NO_COMMIT.fullmatch(self.environment.get("CI_COMMIT_BEFORE_SHA", "")) is not None
            return Run("push", branch, created=created, url=url)
        return Run("schedule" if source == "schedule" else "manual", branch, url=url)

    def session_name(self) -> str:
        return f"gitlab-{self.environment['CI_JOB_ID']}"

    def identity_token(self) -> Callable[[], str]:
        """https://docs.gitlab.com/ci/secrets/id_token_authentication/: the job's own token, good as long as the job."""
        token = self.environment.get("MODELYARD_ID_TOKEN")
        if not token:
            raise NoCredentials(
                "GitLab gives this job no identity token: it needs MODELYARD_ID_TOKEN, below `id_tokens` in "
                ".gitlab-ci.yml"
            )
        return lambda: token


def find_system(environment: Mapping[str, str] = os.environ) -> System:
    """Whose job this is; a person's where no CI system's variables are."""
    for variable, system in (("GITHUB_ACTIONS", GitHub), ("GITLAB_CI", GitLab), ("CODEBUILD_BUILD_ID", CodeBuild)):
        if environment.get(variable):
            return system(environment)
    return System(environment)


def role_variable(event: Event, branch: str) -> str | None:
    """The variable that names the role of a job, None where no role is for it.

    branch: the one that the job's token names.
    """
    if event == "pull_request":
        return f"{ROLE_VARIABLE}CHECK"
    if branch in ("dev", "prod"):
        return f"{ROLE_VARIABLE}{branch.upper()}"
    return f"{ROLE_VARIABLE}FEATURE" if branch.startswith("feature-") else None


def role_session(
    region: str,
    role_arn: str,
    token: Callable[[], str],
    name: str,
    refused: Callable[[ClientError], InputError],
) -> boto3.Session:
    """A session with the role's credentials, which asks for new ones, with a new token, before they expire.

    Args:
        token: asks for an identity token.
        name: of the session, which CloudTrail shows.
        refused: what a call raises when AWS does not give, or renew, the credentials.
    """
    session = botocore.session.Session()
    session.set_config_variable("region", region)
    fetcher = AssumeRoleWithWebIdentityCredentialFetcher(
        session.create_client, token, role_arn, extra_args={"RoleSessionName": name}
    )

    def fetch() -> dict[str, Any]:
        try:
            return dict(fetcher.fetch_credentials())
        except ClientError as error:
            raise refused(error) from None

    credentials = DeferredRefreshableCredentials(fetch, _Role.METHOD)
    session.register_component("credential_provider", CredentialResolver([_Role(credentials)]))
    return boto3.Session(botocore_session=session)


def fenced(text: str) -> str:
    """The text as a block of code in Markdown, from which nothing in it can break out."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text.rstrip()}\n{fence}"


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not SECRETS.fullmatch(name)}


class _Role(CredentialProvider):
    """What botocore is given instead of looking for credentials in the job's environment."""

    METHOD = "assume-role-with-web-identity"

    def __init__(self, credentials: DeferredRefreshableCredentials) -> None:
        super().__init__()
        self._credentials = credentials

    def load(self) -> DeferredRefreshableCredentials:
        return self._credentials


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows a redirect, as of a repository that was renamed, on the same host alone: the token goes along."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            return None  # the answer is then an error with this code
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_opener = urllib.request.build_opener(_SameHost)


def call(request: urllib.request.Request, remedy: str) -> Any:
    """The answer's JSON. Raises InputError, which never holds the request's query or headers.

    Args:
        remedy: what to do when it is refused.
    """
    asked = f"{request.get_method()} {request.full_url.partition('?')[0]}"
    try:
        with _opener.open(request, timeout=TIMEOUT) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        said = error.read(1000).decode(errors="replace")
        raise InputError(f"{asked}: {error.code} {said}: {remedy}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{asked} failed ({error}): run the job again") from None


def _is_ours(comment: dict[str, Any]) -> bool:
    """Whether a job wrote it: a person may have quoted it. Of an account that was deleted there is no user."""
    return (comment["user"] or {}).get("type") == "Bot" and (comment["body"] or "").startswith(MARK)


def _shortened(body: str) -> str:
    if len(body) <= LONGEST_COMMENT:
        return body
    end = "\n...\nThe rest is in the job's summary."
    return body[: LONGEST_COMMENT - len(end)] + end


def _command_text(text: str) -> str:
    """The text of a workflow command: it ends with its line."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
