"""Faults on demand and the recorder, for calls of GitHub's."""

from __future__ import annotations

import http.client
import json
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_aws import LocalAWS
from tests.local_aws.git_clients import Git
from tests.local_aws.github_clients import TOKEN, GitHubClient, configure
from tests.local_aws.lambda_requests import Parts

# A function that makes a repository, as the seed function does: with a token, and no signature of AWS's.
CREATING = f"""
import json
import os
import urllib.request

def handler(event, context):
    url = os.environ["AWS_ENDPOINT_URL"] + "/_github/api/v3/orgs/acme/repos"
    headers = {{"Authorization": "Bearer {TOKEN}"}}
    request = urllib.request.Request(url, json.dumps({{"name": event}}).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        return answer.status
"""


@pytest.fixture(scope="module")
def parts() -> Iterator[Parts]:
    with LocalAWS() as aws:
        yield Parts(aws)


@pytest.fixture
def github(parts: Parts) -> Iterator[GitHubClient]:
    yield configure(parts.aws)
    parts.aws.configure("faults", {"rules": []})
    parts.aws.configure("recorder", {"on": False})


@pytest.fixture
def git(github: GitHubClient, tmp_path: Path) -> Git:
    """A folder with one commit on branch prod."""
    git = Git(tmp_path, github.git_environment)
    git("init", "--quiet", "--initial-branch=prod")
    git.commit(README_md="one")
    return git


def set_rule(parts: Parts, operation: str, kind: str, **more: Any) -> None:
    parts.aws.configure("faults", {"rules": [{"service": "github", "operation": operation, "kind": kind, **more}]})


def hits(parts: Parts) -> tuple[int, int]:
    (rule,) = parts.aws.settings("faults")["rules"]
    return rule["matched"], rule["hit"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_call_fails_before_or_after_it_was_done(parts, github, when):
    name = f"fails-{when}"
    set_rule(parts, "CreateRepository", "error", when=when, status=502)

    answer = github("POST", "/orgs/acme/repos", {"name": name})

    assert (answer.status, answer.content["message"]) == (502, "Server Error")
    assert (github("GET", f"/repos/acme/{name}").status == 200) == (when == "after")
    assert github("POST", "/orgs/acme/repos", {"name": name}).status == (422 if when == "after" else 201)


def test_a_throttle_is_the_secondary_rate_limit(parts, github):
    set_rule(parts, "GetUser", "throttle")

    refused, then = github("GET", "/user"), github("GET", "/user")

    assert (refused.status, then.status) == (403, 200)
    assert "secondary rate limit" in refused.content["message"]
    assert refused.headers["Retry-After"] == "1"


def test_a_throttle_can_be_the_primary_rate_limit(parts, github):
    set_rule(parts, "GetUser", "throttle", code="PrimaryRateLimit", status=429)

    refused = github("GET", "/user")

    assert (refused.status, refused.headers["X-RateLimit-Remaining"]) == (429, "0")
    assert refused.content["message"].startswith("API rate limit exceeded")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_is_dropped_before_or_after_the_call_was_done(parts, github, when):
    github.create(f"dropped-{when}")
    path = f"/repos/acme/dropped-{when}/actions/variables"
    set_rule(parts, "CreateVariable", "drop", when=when)

    with pytest.raises((http.client.RemoteDisconnected, urllib.error.URLError)):
        github("POST", path, {"name": "A", "value": "1"})

    assert github("GET", path).content["total_count"] == (1 if when == "after" else 0)


def test_a_call_is_delayed(parts, github):
    set_rule(parts, "GetUser", "delay", seconds=0.01)

    assert github("GET", "/user").status == 200
    assert hits(parts) == (1, 1)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_push_fails_before_or_after_it_was_done(parts, github, git, when):
    github.create(f"push-{when}")
    set_rule(parts, "Push", "error", when=when)

    said = git.fails("push", github.url(f"push-{when}"), "prod")

    assert "500" in said
    assert len(github("GET", f"/repos/acme/push-{when}/branches").content) == (1 if when == "after" else 0)


@pytest.mark.parametrize("operation", ["DiscoverRefs", "Fetch"])
def test_a_clone_fails(parts, github, git, tmp_path, operation):
    github.create(f"clone-{operation}")
    git("push", "--quiet", github.url(f"clone-{operation}"), "prod")
    set_rule(parts, operation, "error", status=503)

    assert "503" in git.fails("clone", github.url(f"clone-{operation}"), str(tmp_path / "clone"))


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_function_that_calls_is_killed_before_or_after_its_call(parts, github, when):
    name = f"killed-{when}"
    parts.function(name, CREATING)
    set_rule(parts, "CreateRepository", "kill", when=when, caller=f"/{name}")

    answer, failed = parts.invoke(name, name)

    assert (answer["errorType"], failed) == ("Runtime.ExitError", "Unhandled")
    assert (github("GET", f"/repos/acme/{name}").status == 200) == (when == "after")
    assert parts.invoke(name, f"{name}-again") == (201, None)


def test_a_kill_is_for_functions_alone(parts, github):
    set_rule(parts, "CreateRepository", "kill")

    github.create("not-killed")

    assert hits(parts) == (0, 0)


def test_calls_are_recorded_with_whoever_called_and_without_the_token(parts, github, git):
    parts.function("recorded", CREATING)
    parts.aws.configure("recorder", {"on": True})

    parts.invoke("recorded", "recorded")
    github("POST", "/repos/acme/recorded/actions/variables", {"name": "A", "value": "1"})
    git("push", "--quiet", github.url("recorded"), "prod")

    shown = parts.aws.settings("recorder")["calls"]
    calls = [each for each in shown if each["service"] == "github"]
    assert [(each["operation"], each["status"]) for each in calls] == [
        ("CreateRepository", 201),
        ("CreateVariable", 201),
        ("DiscoverRefs", 200),
        ("Push", 200),
    ]
    assert calls[0]["caller"] == "arn:aws:sts::123456789012:assumed-role/functions/recorded"
    assert calls[0]["request"] == {"org": "acme", "name": "recorded"}
    assert calls[0]["answer"]["full_name"] == "acme/recorded"
    assert calls[1] == {
        "service": "github",
        "operation": "CreateVariable",
        "caller": "",
        "region": "",
        "request": {"owner": "acme", "repo": "recorded", "name": "A", "value": "1"},
        "status": 201,
        "answer": {},
    }
    assert calls[3]["request"]["length"] > 100
    assert TOKEN not in json.dumps(shown)


def test_a_body_that_is_no_json_is_recorded_as_null(parts, github):
    parts.aws.configure("recorder", {"on": True})

    github("POST", "/user/repos", b"{")

    (call,) = parts.aws.settings("recorder")["calls"]
    assert (call["operation"], call["request"], call["status"]) == ("CreateRepository", None, 400)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (
            {"operation": "CreateRepositor", "kind": "error"},
            "no operation 'CreateRepositor'; do you mean CreateRepository?",
        ),
        ({"operation": "Push", "kind": "error", "code": "X"}, "code 'X' means nothing to GitHub"),
        (
            {"operation": "Push", "kind": "throttle", "code": "X"},
            "is SecondaryRateLimit or PrimaryRateLimit",
        ),
    ],
)
def test_a_wrong_rule_is_refused(parts, rule, said):
    with pytest.raises(ValueError, match=said.replace("?", r"\?")):
        parts.aws.configure("faults", {"rules": [{"service": "github", **rule}]})
