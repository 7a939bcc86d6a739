"""Rulesets of GitHub's, and its table of calls: what is decided without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local_aws.api_calls import HttpRequest
from local_aws.git.github import GitHub
from local_aws.git.github_actions_runs import Runs
from local_aws.git.github_calls import ROUTES, find_git_call, find_rest_call, find_route
from local_aws.git.github_errors import ApiError
from local_aws.git.github_limits import Limits
from local_aws.git.github_pulls import Pulls
from local_aws.git.github_refs import Refs
from local_aws.git.github_rest import Rest
from local_aws.git.github_rulesets import push_rules, read_ruleset
from local_aws.git.github_state import GitHubState, Repository
from local_aws.git.github_statuses import Statuses
from local_aws.git.push_rules import PushRules, RefUpdate
from local_aws.git.repositories import Repositories
from local_aws.store import Store
from tests.local_aws.github_clients import PARAMETERS, PULL_REQUEST

KINDS = ("create", "fast-forward", "force", "delete")


def ruleset(*rules: dict[str, Any], include: tuple[str, ...] = ("refs/heads/prod",), **more: Any) -> dict[str, Any]:
    names = {"ref_name": {"include": list(include), "exclude": []}}
    return {"name": "r", "enforcement": "active", "conditions": names, "rules": list(rules), **more}


def refused(rules: dict[str, Any], ref: str = "refs/heads/prod", default: str = "prod") -> list[str]:
    """The kinds of updates that a ruleset refuses."""
    held = PushRules(push_rules([read_ruleset(rules, None, ())], default, "http://host/acme/churn"))
    return [kind for kind in KINDS if held.broken(RefUpdate(ref, "a", "b"), kind)]


@pytest.mark.parametrize(
    ("rule", "kinds"),
    [
        (PULL_REQUEST, ["create", "fast-forward", "force"]),
        ({"type": "non_fast_forward"}, ["force"]),
        ({"type": "deletion"}, ["delete"]),
    ],
)
def test_each_rule_refuses_what_it_is_about(rule, kinds):
    assert refused(ruleset(rule)) == kinds


@pytest.mark.parametrize(
    ("include", "ref", "held"),
    [
        ("refs/heads/prod", "refs/heads/prod", True),
        ("refs/heads/prod", "refs/heads/prod2", False),
        ("refs/heads/prod", "refs/tags/prod", False),
        ("~DEFAULT_BRANCH", "refs/heads/main", True),
        ("~DEFAULT_BRANCH", "refs/heads/prod", False),
        ("~ALL", "refs/heads/feature-x", True),
        ("~ALL", "refs/tags/v1", False),
        ("refs/heads/release-*", "refs/heads/release-1", True),
    ],
)
def test_a_ruleset_is_about_the_branches_that_it_names(include, ref, held):
    assert bool(refused(ruleset({"type": "deletion"}, include=(include,)), ref, default="main")) == held


def test_a_disabled_ruleset_refuses_nothing():
    assert refused(ruleset({"type": "deletion"}, enforcement="disabled")) == []


def test_rules_are_the_same_when_the_hook_reads_them():
    rules = PushRules(push_rules([read_ruleset(ruleset(PULL_REQUEST), None, ())], "prod", "http://host/acme/churn"))

    assert PushRules.from_json(rules.to_json()) == rules


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": None}, "None is not a name"),
    ({"enforcement": "evaluate"}, "does not build the enforcement 'evaluate'"),
    ({"target": "tag"}, "does not build the target 'tag'"),
    ({"bypass_actors": [{"actor_id": 5}]}, "does not build bypass_actors"),
    ({"colour": 1}, "does not build colour of rulesets"),
    ({"conditions": {"repository_name": {}}}, "does not build these conditions"),
    ({"conditions": {"ref_name": {"include": [], "exclude": ["refs/heads/x"]}}}, "does not build exclude"),
    ({"conditions": {"ref_name": {"include": ["prod"], "exclude": []}}}, "Invalid target patterns: 'prod'"),
    ({"rules": {}}, "is not an array"),
    ({"rules": [{"type": "update"}]}, "does not build the rule 'update'"),
    ({"rules": [{}]}, "Invalid property /rules/0"),
    ({"rules": [{"type": "deletion"}, {"type": "pull_request"}]}, "Invalid property /rules/1"),
    ({"rules": [{"type": "deletion", "parameters": {}}]}, "Invalid property /rules/0"),
    (
        {"rules": [PULL_REQUEST | {"parameters": {**PARAMETERS, "required_reviewers": []}}]},
        "does not build required_reviewers",
    ),
]


@pytest.mark.parametrize(("changes", "said"), WRONG)
def test_a_wrong_ruleset_is_refused(changes, said):
    with pytest.raises(ApiError) as raised:
        read_ruleset(ruleset() | changes, None, ())

    assert raised.value.status == 422
    assert said in raised.value.message + str(raised.value.errors)


@pytest.mark.parametrize("missing", ["name", "enforcement"])
def test_a_new_ruleset_has_a_name_and_an_enforcement(missing):
    given = ruleset()
    del given[missing]

    with pytest.raises(ApiError, match=f'"{missing}" wasn\'t supplied'):
        read_ruleset(given, None, ())


def test_a_user_s_calls_are_taken_again_when_the_limit_was_said_to_be_over_and_another_s_all_the_time(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("local_aws.git.github_limits.time.time", lambda: clock[0])
    limits = Limits(limit=1, seconds=60)
    limits.take(1, "r")

    with pytest.raises(ApiError) as raised:
        limits.take(1, "r")
    assert limits.take(2, "r")["X-RateLimit-Remaining"] == "0"
    clock[0] = float(raised.value.headers["X-RateLimit-Reset"])

    assert limits.take(1, "r")["X-RateLimit-Used"] == "1"


def test_every_call_of_the_table_is_answered(tmp_path):
    store, repositories, address = Store(), Repositories(tmp_path), "http://127.0.0.1:1"
    state = GitHubState(store)
    rest = Rest(state, repositories, address)
    runs = Runs(store, state, tmp_path, address, address, lambda run: None, lambda *_: None)
    parts = (rest, Statuses(rest, state), Refs(rest, state, repositories), Pulls(rest, state, repositories), runs)

    answered = [operation for part in parts for operation in part.operations]
    assert sorted(answered) == sorted({route.operation for route in ROUTES})


def test_what_a_killed_server_has_left_half_made_or_half_deleted_is_cleared_away(tmp_path):
    store, repositories = Store(), Repositories(tmp_path)
    state = GitHubState(store)
    kept, half = (("github", str(state.next_id("repository"))) for _ in range(2))
    for key in (kept, half):
        repositories.create(key)
    time = "2026-11-21T12:00:00Z"
    state.put_repository(Repository(int(kept[1]), "acme", "churn", None, None, True, True, time, time, time))

    GitHub(store, repositories, "http://127.0.0.1:1")

    assert (repositories.exists(kept), repositories.exists(half)) == (True, False)


def test_a_call_is_found_by_its_method_and_path_as_it_was_sent():
    found = find_route("GET", "/_github/api/v3/repos/ac%2Fme/churn/git/ref/heads/feature-a/b")

    assert found is not None
    assert (found[0].operation, found[1]) == ("GetRef", {"owner": "ac/me", "repo": "churn", "ref": "heads/feature-a/b"})
    assert find_route("POST", "/_github/api/v3/user") is None


def test_faults_and_the_recorder_know_calls_by_their_names():
    def request(method: str, path: str, body: bytes = b"") -> HttpRequest:
        return HttpRequest(method, path, {}, {"authorization": "Bearer secret"}, body)

    create = request("POST", "/_github/api/v3/orgs/acme/repos", json.dumps({"name": "churn"}).encode())
    push = request("POST", "/_github/acme/churn.git/git-receive-pack", b"pack")
    rest, git = find_rest_call(create), find_git_call(push)

    assert rest is not None
    assert git is not None
    assert (rest.name, rest.parsed_request(create)) == ("github:CreateRepository", {"org": "acme", "name": "churn"})
    assert (git.name, git.parsed_request(push)) == ("github:Push", {"owner": "acme", "repo": "churn", "length": 4})
    assert find_rest_call(push) is find_git_call(create) is None
