"""What is done on GitHub, and in which words it is refused: one cause, one remedy, and nothing made before."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from urllib3 import HTTPResponse
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from seed_lambda.errors import HostUnreachable, NameTaken, SeedError, Superseded
from seed_lambda.hosts import File
from seed_lambda.hosts.github import GitHub
from tests.seed_lambda.fakes import SETTINGS, Clients, Clock, context
from tests.seed_lambda.requests import STACK, TOKEN, event, project
from tests.seed_lambda.simulated_github import BASE_URL, SimulatedGitHub, response

TREE = {"README.md": File(b"x")}
MOVED = {"message": "Moved Permanently", "url": f"{BASE_URL}/api/v3/repositories/7"}
REPO, VARIABLES, RULESETS = "/repos/{repo}", "/repos/{repo}/actions/variables", "/repos/{repo}/rulesets"


def page(status: int, content: bytes, kind: str = "text/html; charset=utf-8", **headers: str) -> HTTPResponse:
    """An answer that is no JSON."""
    sent = {"Content-Type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return HTTPResponse(io.BytesIO(content), sent, status, preload_content=False)


@dataclass
class Faulty:
    """GitHub, where the first answers to some operations are others; each is an answer, what is raised, or None: the
    call is done, and its answer lost."""

    instead: dict[str, list[HTTPResponse | Exception | None]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    github: SimulatedGitHub = field(default_factory=SimulatedGitHub)
    status: str = "CREATE_IN_PROGRESS"  # of the stack's resource
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.github.around = self.around

    def around(self, service: str, operation: str, call: Callable[[], HTTPResponse]) -> HTTPResponse:
        self.calls.append(operation)
        if not self.instead.get(operation):
            return call()
        answer = self.instead[operation].pop(0)
        if isinstance(answer, HTTPResponse):
            return answer
        if answer is None:
            call()
        raise answer or ProtocolError("Connection aborted.")

    def host(self, request: str = "Create") -> GitHub:
        def waits(**_: Any) -> Any:
            return {"StackResourceDetail": {"ResourceStatus": self.status}}

        clients = Clients(
            secretsmanager={"get_secret_value": lambda **_: {"SecretString": TOKEN}},
            cloudformation={"describe_stack_resource": waits},
        )
        settings = replace(SETTINGS, git_base_url=BASE_URL)
        return GitHub(context(clients, self.clock, settings=settings, request=event(request, project())))


@pytest.fixture
def faulty() -> Iterator[Faulty]:
    made = Faulty()
    with made.github.reachable():
        yield made


@pytest.fixture
def made(faulty: Faulty) -> GitHub:
    """A host with the repository churn, made a moment ago."""
    host = faulty.host()
    host.create("churn", "", {})
    faulty.calls.clear()
    return host


# --- the token's rights


@pytest.mark.parametrize(
    ("scopes", "missing"),
    [
        ("repo, workflow", "delete_repo"),
        ("repo", "delete_repo and workflow"),
        ("gist, repo, workflow, delete_repo", ""),
    ],
)
def test_a_classic_token_must_also_be_able_to_take_a_creation_back(faulty: Faulty, scopes: str, missing: str) -> None:
    faulty.instead["GET /user"] = [response(200, {"login": "robot"}, X_OAuth_Scopes=scopes)]
    if not missing:
        return faulty.host().check()
    with pytest.raises(SeedError, match=f"lacks the scope {missing}: an administrator"):
        faulty.host().check()
    assert faulty.calls == ["GET /user"]
    return None


def test_an_organization_that_forbids_deletion_is_named_as_what_forbids_it(faulty: Faulty, made: GitHub) -> None:
    faulty.instead[f"DELETE {REPO}"] = [response(403, {"message": "Organization members cannot delete repositories."})]
    words = r"delete the repository acme/churn: Organization members cannot.* an organization may keep its members"
    with pytest.raises(SeedError, match=words):
        made.delete("churn")


# --- what answers is not GitHub


@pytest.mark.parametrize(
    "answer",
    [
        page(200, b"<html>Welcome</html>"),
        response(200, None),
        response(200, []),
        response(200, {}),
        response(404, {"message": "Not Found"}),
        page(404, b"<html>no such page</html>"),
        page(403, b"<html>the proxy says no</html>"),
        page(302, b"", Location="https://sso.example.com/login?state=secret"),
        response(301, {"message": "Moved Permanently"}, Location="https://git.example.com/user"),
    ],
    ids=lambda answer: f"{answer.status}",
)
def test_what_is_not_github_at_all_is_put_down_to_the_base_url(faulty: Faulty, answer: HTTPResponse) -> None:
    faulty.instead["GET /user"] = [answer]
    with pytest.raises(SeedError, match=f"GitBaseUrl '{BASE_URL}': .*GET /user gives HTTP status") as caught:
        faulty.host().check()
    assert "state=secret" not in str(caught.value)


def test_a_token_of_an_app_has_no_user(faulty: Faulty) -> None:
    faulty.instead["GET /user"] = [response(403, {"message": "Resource not accessible by integration"})]
    faulty.host().check()


# --- names


def test_a_new_repository_does_not_take_the_name_of_one_that_was_renamed(faulty: Faulty) -> None:
    """Whoever has cloned that one by its old name would be led to the new one."""
    host = faulty.host()
    faulty.instead[f"GET {REPO}"] = [response(301, MOVED) for _ in range(2)]
    for look in (lambda: host.find("churn"), lambda: host.create("churn", "", {})):
        with pytest.raises(NameTaken, match=r"acme/churn was renamed or moved.*: choose another name"):
            look()
    assert not [call for call in faulty.calls if call.startswith("POST")]


@pytest.mark.parametrize("request_type", ["Update", "Delete"])
def test_a_project_whose_repository_was_renamed_has_none(faulty: Faulty, request_type: str) -> None:
    faulty.instead[f"GET {REPO}"] = [response(301, MOVED)]
    assert faulty.host(request_type).find("churn") is None


def test_a_repository_that_is_there_and_not_shown_yet_is_found_after_a_pause(faulty: Faulty) -> None:
    """The answer of the first POST is lost, and the second one is refused."""
    unknown = {"message": "Not Found"}
    faulty.instead["POST /orgs/acme/repos"] = [None]
    faulty.instead[f"GET {REPO}"] = [response(404, unknown) for _ in range(2)]
    assert faulty.host().create("churn", "", {}).stack == STACK
    assert faulty.github.made == 1
    assert faulty.clock.waited == [1.0, 2]


def test_a_name_that_github_refuses_and_does_not_show_belongs_to_somebody_else(faulty: Faulty) -> None:
    faulty.github.make("POST", {"name": "churn", "description": "", "homepage": ""}, "acme")
    faulty.instead[f"GET {REPO}"] = [response(404, {"message": "Not Found"}) for _ in range(3)]
    with pytest.raises(NameTaken, match="already, which the platform's token may not see: choose another name"):
        faulty.host().create("churn", "", {})


# --- what was made a moment ago


def test_what_was_just_made_is_protected_although_it_is_not_known_everywhere(faulty: Faulty, made: GitHub) -> None:
    faulty.instead[f"GET {RULESETS}"] = [response(404, {"message": "Not Found"})]
    made.protect("churn", "prod")
    assert faulty.github.repositories["churn"].rulesets


def test_what_a_lost_answer_made_may_be_unknown_for_a_moment_too(faulty: Faulty) -> None:
    host = faulty.host()
    faulty.instead["POST /orgs/acme/repos"] = [None]
    host.create("churn", "", {})
    faulty.instead[f"GET {VARIABLES}"] = [response(404, {"message": "Not Found"})]
    host.set_variables("churn", {"A": "1"}, {})
    assert faulty.github.repositories["churn"].variables == {"A": "1"}


# --- the stack stops waiting while a call is tried again


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        (f"POST {VARIABLES}", ProtocolError("closed")),
        (f"POST {VARIABLES}", response(429, {"message": "slow down"}, Retry_After="5")),
        (f"POST {VARIABLES}", response(404, {"message": "Not Found"})),  # what was just made
        (f"PATCH {REPO}", response(502, {"message": "Bad Gateway"})),
        (f"PATCH {REPO}", response(422, {"message": "The branch was not found."})),
    ],
)
def test_nothing_is_tried_again_for_a_stack_that_has_given_up(
    faulty: Faulty, made: GitHub, operation: str, answer: HTTPResponse | Exception
) -> None:
    faulty.instead[operation] = [answer]

    def around(service: str, name: str, call: Callable[[], HTTPResponse]) -> HTTPResponse:
        if name == operation:
            faulty.status = "DELETE_COMPLETE"
        return faulty.around(service, name, call)

    faulty.github.around = around
    changes = {
        f"POST {VARIABLES}": lambda: made.set_variables("churn", {"A": "1"}, {}),
        f"PATCH {REPO}": lambda: made.set_default_branch("churn", "dev"),
    }
    with pytest.raises(Superseded):
        changes[operation]()
    assert faulty.calls.count(operation) == 1


# --- pushes

FIRST, SECOND = "GET refs", "POST git-receive-pack"
SILENT = ReadTimeoutError(None, BASE_URL, "Read timed out.")  # type: ignore[arg-type]
RESULT = "application/x-git-receive-pack-result"
REFUSED = b"unpack ok\n", b"ng refs/heads/prod protected branch hook declined\n", b"ok refs/heads/dev\n"


def packets(*lines: bytes) -> bytes:
    return b"".join(b"%04x%s" % (len(line) + 4, line) for line in lines) + b"0000"


def report(*lines: bytes, remote: bytes = b"") -> HTTPResponse:
    """Git's answer to a push, in side bands."""
    bands = [b"\x02" + remote] if remote else []
    return page(200, packets(*bands, b"\x01" + packets(*lines)), RESULT)


@pytest.mark.parametrize("operation", [FIRST, SECOND])
@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (
            lambda: page(502, b"<html>Bad Gateway</html>"),
            HostUnreachable,
            r"did not do the push.*HTTP status 502.*later",
        ),
        (lambda: page(503, b""), HostUnreachable, "did not do the push to acme/churn: HTTP status 503"),
        (lambda: SILENT, HostUnreachable, r"no connection \(ReadTimeoutError\)"),
        (lambda: ProtocolError("closed"), HostUnreachable, r"no connection \(ProtocolError\)"),
        (lambda: page(200, b"<html>Sign in</html>"), HostUnreachable, "does not answer as Git does .*GitBaseUrl"),
        (lambda: page(200, b"", RESULT), HostUnreachable, "the connection ended within the answer"),
        (lambda: page(301, b"", Location="https://x"), HostUnreachable, "HTTP status 301.*GitBaseUrl"),
        (lambda: page(429, b"slow", "text/plain", Retry_After="90"), SeedError, r"rate limit is reached.* in 90 s"),
        (
            lambda: page(403, b"Write access to repository not granted.\n", "text/plain"),
            SeedError,
            "platform's token do the push .*: Write access to repository not granted.* the permission Contents",
        ),
        (lambda: page(401, b"no", "text/plain"), SeedError, "platform's token do the push .*the permission Contents"),
        (lambda: page(404, b"", "text/plain"), SeedError, "platform's token do the push .*the permission Contents"),
    ],
)
def test_a_push_that_fails_is_put_down_to_what_failed(
    faulty: Faulty, made: GitHub, operation: str, answer: Callable[[], Any], kind: type[SeedError], words: str
) -> None:
    faulty.instead[operation] = [answer() for _ in range(3)]
    with pytest.raises(SeedError, match=words) as caught:
        made.push("churn", TREE, ("prod", "dev"), "message")
    assert type(caught.value) is kind or kind is SeedError
    assert TOKEN not in str(caught.value)
    assert ("permission Contents" in str(caught.value)) == ("Contents" in words)


def test_a_list_of_branches_that_is_none_is_no_error_of_the_function(faulty: Faulty, made: GitHub) -> None:
    answer = packets(b"# service=git-receive-pack\n") + packets(b"nonsense")
    faulty.instead[FIRST] = [page(200, answer, "application/x-git-receive-pack-advertisement") for _ in range(3)]
    with pytest.raises(HostUnreachable, match="does not answer as Git does"):
        made.push("churn", TREE, ("prod", "dev"), "message")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            lambda: report(*REFUSED, remote=b"error: GH013: Repository rule violations found\n"),
            "refused the push to acme/churn: refs/heads/prod: protected branch hook declined; error: GH013: Repository",
        ),
        (lambda: report(b"unpack index-pack abnormal exit\n"), "refused the push to acme/churn: unpack index-pack"),
        (
            lambda: report(b"unpack ok\n", b"ng refs/heads/prod the workflow 'scan' is required\n"),
            "refused the push to acme/churn: refs/heads/prod: the workflow 'scan' is required",
        ),
        (
            lambda: report(
                b"unpack ok\n",
                b"ng refs/heads/prod refusing to allow a Personal Access Token to create or update workflow `x`"
                b" without `workflow` scope\n",
            ),
            "the permission Workflows",
        ),
    ],
)
def test_a_push_that_git_refuses_is_said_in_its_own_words(
    faulty: Faulty, made: GitHub, answer: Callable[[], HTTPResponse], words: str
) -> None:
    faulty.instead[SECOND] = [answer()]
    with pytest.raises(SeedError, match=words) as caught:
        made.push("churn", TREE, ("prod", "dev"), "message")
    assert "Contents" not in str(caught.value)
    assert faulty.calls.count(SECOND) == 1  # it would be refused again


@pytest.mark.parametrize(
    "answer", [page(502, b""), SILENT, page(429, b"slow", "text/plain", Retry_After="3"), page(404, b"")]
)
def test_a_push_that_fails_once_is_made_again(faulty: Faulty, made: GitHub, answer: Any) -> None:
    faulty.instead[FIRST] = [answer]
    commit = made.push("churn", TREE, ("prod", "dev"), "message")
    assert faulty.calls.count(FIRST) == 2
    assert faulty.github.repositories["churn"].branches == {"prod": commit, "dev": commit}


def test_a_push_whose_answer_is_lost_is_not_made_again(faulty: Faulty, made: GitHub) -> None:
    faulty.instead[SECOND] = [None]
    commit = made.push("churn", TREE, ("prod", "dev"), "message")
    assert faulty.github.repositories["churn"].branches["prod"] == commit
    assert faulty.calls.count(SECOND) == 1
