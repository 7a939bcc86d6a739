"""GitHub's calls: repeated where that is safe, waited for where that is short, refused in words without the token."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from seed_lambda.context import PATIENCE, Context
from seed_lambda.errors import HostUnreachable, SeedError
from seed_lambda.hosts.github_api import GitHubApi, api_url
from tests.seed_lambda.fakes import SETTINGS, Clock, Reply, Script, context, scripted_server
from tests.seed_lambda.requests import TOKEN

FINE: Reply = (200, {"login": "robot"}, {})
DOWN: Reply = (502, {"message": "Bad Gateway"}, {})


@pytest.fixture
def server() -> Iterator[Script]:
    with scripted_server() as script:
        yield script


def api(server: Script, clock: Clock | None = None, lines: list[str] | None = None) -> GitHubApi:
    at: Context = context(clock=clock, lines=lines, settings=replace(SETTINGS, git_base_url=server.url))
    return GitHubApi(at, server.url, TOKEN, SETTINGS.git_token_secret_arn)


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("https://github.com", "https://api.github.com"),
        ("https://acme.ghe.com", "https://api.acme.ghe.com"),
        ("https://github.example.com", "https://github.example.com/api/v3"),
        ("https://git.example.com:8443/github/", "https://git.example.com:8443/github/api/v3"),
        ("http://127.0.0.1:4566/_github", "http://127.0.0.1:4566/_github/api/v3"),
        ("http://localhost:4566", "http://localhost:4566/api/v3"),
        ("http://[::1]:4566", "http://[::1]:4566/api/v3"),
    ],
)
def test_the_api_is_found_by_the_hosts_address(base: str, expected: str) -> None:
    assert api_url(base) == expected


@pytest.mark.parametrize(
    "base",
    ["http://github.com", "http://127.0.0.1.example.com", "ftp://x", "github.com", "https://u:p@x", "https://x?y", ""],
)
def test_an_address_that_would_show_the_token_is_refused(base: str) -> None:
    with pytest.raises(SeedError, match="HTTPS"):
        api_url(base)


def test_a_call_carries_the_token_and_the_apis_version(server: Script) -> None:
    server.answers = [FINE]
    assert api(server).call("GET", "/user").body == {"login": "robot"}
    headers = server.calls[0].headers
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["X-GitHub-Api-Version"] == "2022-11-28"
    assert headers["User-Agent"] == "modelyard"


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("fault", [DOWN, (500, None, {}), None])
def test_a_repeatable_call_is_tried_again(server: Script, method: str, fault: Reply) -> None:
    server.answers = [fault, fault, FINE]
    clock = Clock()
    api(server, clock).call(method, "/user")
    assert clock.waited == [0.5, 1.0]


def test_a_post_is_never_repeated_blindly(server: Script) -> None:
    server.answers = [DOWN, FINE]
    with pytest.raises(HostUnreachable):
        api(server).call("POST", "/user/repos", {})
    assert len(server.calls) == 1


def test_a_host_that_is_down_is_said_with_what_to_do(server: Script) -> None:
    server.answers = [DOWN]
    clock = Clock()
    with pytest.raises(
        HostUnreachable, match=r"did not do GET /user: it answers Bad Gateway \(HTTP status 502\).*later"
    ):
        api(server, clock).call("GET", "/user")
    assert len(server.calls) == 4
    assert sum(clock.waited) < PATIENCE["Create"]


def test_a_host_that_is_not_there_is_said() -> None:
    at = context()
    with pytest.raises(HostUnreachable, match="no connection"):
        GitHubApi(at, "http://127.0.0.1:9", TOKEN, "secret").call("GET", "/user")


@pytest.mark.parametrize("status", [403, 429])
def test_a_short_rate_limit_is_waited_for(server: Script, status: int) -> None:
    server.answers = [(status, {"message": "You have exceeded a secondary rate limit"}, {"retry-after": "7"}), FINE]
    clock = Clock()
    api(server, clock).call("POST", "/user/repos", {})  # what was refused was not done
    assert clock.waited == [7.0]


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "90"},
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "in half an hour"},
        {},  # a secondary limit that says no time
    ],
)
def test_a_long_rate_limit_fails_at_once_and_says_until_when(server: Script, headers: dict[str, str]) -> None:
    if "x-ratelimit-reset" in headers:  # counted from the test's beginning, which may be an hour after its collection
        headers = headers | {"x-ratelimit-reset": str(int(time.time()) + 1800)}
    server.answers = [(403, {"message": "You have exceeded a secondary rate limit"}, headers)]
    clock = Clock()
    with pytest.raises(SeedError, match=r"rate limit is reached.*takes calls again in .* UTC"):
        api(server, clock).call("GET", "/user")
    assert clock.waited == []


def test_limits_that_follow_each_other_end(server: Script) -> None:
    server.answers = [(429, {"message": "slow down"}, {"retry-after": "15"})]
    clock = Clock()
    with pytest.raises(SeedError, match="rate limit"):
        api(server, clock).call("GET", "/user")
    assert sum(clock.waited) <= PATIENCE["Create"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, {"message": "Bad credentials"}, {}), "expired or was revoked"),
        (
            (
                403,
                {"message": "Resource not accessible by personal access token"},
                {"x-accepted-github-permissions": "administration=write"},
            ),
            "needs administration=write",
        ),
        ((404, {"message": "Not Found"}, {}), "does not let the platform's token do GET /x"),
        (
            (422, {"message": "Validation Failed", "errors": [{"message": "name is reserved"}, "bad"]}, {}),
            "Validation Failed; name is reserved; bad",
        ),
    ],
)
def test_a_refusal_is_said_in_words(server: Script, answer: tuple[int, object, dict[str, str]], words: str) -> None:
    server.answers = [answer]
    with pytest.raises(SeedError, match=words) as caught:
        api(server).call("GET", "/x")
    assert len(server.calls) == 1
    assert TOKEN not in str(caught.value)


def test_an_allowed_refusal_is_an_answer(server: Script) -> None:
    server.answers = [(404, {"message": "Not Found"}, {})]
    assert api(server).call("GET", "/x", allowed=(404,)).status == 404


def test_what_was_just_made_may_be_unknown_for_a_moment(server: Script) -> None:
    unknown: Reply = (404, {"message": "Not Found"}, {})
    server.answers = [unknown, unknown, FINE]
    clock = Clock()
    api(server, clock).call("POST", "/repos/acme/churn/rulesets", {}, early=(404,))
    assert clock.waited == [0.5, 1.0]
    server.answers = [unknown]
    with pytest.raises(SeedError, match="Not Found"):
        api(server).call("POST", "/repos/acme/churn/rulesets", {}, early=(404,))


def test_redirects_are_not_followed_with_the_token(server: Script) -> None:
    server.answers = [(301, {"url": "https://elsewhere.example.com"}, {"location": "https://elsewhere.example.com"})]
    assert api(server).call("GET", "/x", allowed=(301,)).status == 301
    assert len(server.calls) == 1


def test_a_list_is_read_to_its_last_page_however_few_come_at_once(server: Script) -> None:
    """Of variables GitHub gives 30 at most, whatever it is asked for."""
    page = [{"name": str(number)} for number in range(30)]
    server.answers = [(200, {"total_count": 63, "variables": part}, {}) for part in (page, page, page[:3])]
    assert len(api(server).pages("/variables", "variables")) == 63
    assert [call.path.rpartition("page=")[2] for call in server.calls] == ["1", "2", "3"]


def test_a_list_that_becomes_shorter_meanwhile_ends(server: Script) -> None:
    pages: list[list[dict[str, str]]] = [[{}], []]
    server.answers = [(200, {"total_count": 3, "variables": page}, {}) for page in pages]
    assert len(api(server).pages("/variables", "variables")) == 1
