"""The stand-in for GitHub's REST API: what it answers, and how it refuses."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from local_aws import LocalAWS
from tests.local_aws.github_clients import PULL_REQUEST, TOKEN, GitHubClient, configure

CONTENTS_ONLY = "github_pat_contents0001"
NO_RIGHTS = "github_pat_nothing00002"
EXPIRED = "github_pat_expired00003"


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS() as server:
        yield server


@pytest.fixture
def github(aws: LocalAWS) -> Iterator[GitHubClient]:
    yield configure(aws)
    aws.configure("github", {"rate_limit": None, "outage": False, "immutable_subjects": True})


# Accounts


def test_a_token_s_user_and_an_organization_are_found(aws, github):
    aws.configure("github", {"tokens": {"ghp_somebodyelse": {"login": "ada"}}})

    user = GitHubClient(aws.endpoint, "ghp_somebodyelse")("GET", "/user")
    organization = github("GET", "/orgs/ACME")

    assert (user.content["login"], user.content["type"]) == ("ada", "User")
    assert (organization.content["login"], organization.content["type"]) == ("acme", "Organization")
    assert user.content["id"] != organization.content["id"]


@pytest.mark.parametrize("path", ["/orgs/nobody", "/orgs/octocat"])
def test_an_unknown_organization_is_not_found(github, path):
    answer = github("GET", path)

    assert (answer.status, answer.content["message"]) == (404, "Not Found")


# Repositories


def test_a_new_repository_has_the_fields_that_clients_use(github):
    homepage = "https://console.aws.amazon.com/cloudformation/home?region=us-east-1#/stacks/stackinfo?stackId=arn"
    made = github(
        "POST", "/orgs/acme/repos", {"name": "new", "private": True, "description": "d", "homepage": homepage}
    )

    content = made.content
    assert made.status == 201
    assert made.headers["Location"] == content["url"] == f"{github.endpoint}/_github/api/v3/repos/acme/new"
    assert content["clone_url"] == github.url("new")
    assert (content["full_name"], content["private"], content["visibility"]) == ("acme/new", True, "private")
    assert (content["description"], content["homepage"]) == ("d", homepage)
    assert content["owner"]["login"] == "acme"
    assert (content["default_branch"], content["size"]) == ("main", 0)
    assert github("GET", "/repos/Acme/NEW").content == content


def test_a_repository_of_the_token_s_own_user_is_public_unless_it_is_said_otherwise(github):
    made = github("POST", "/user/repos", {"name": "mine"})

    assert (made.status, made.content["full_name"], made.content["private"]) == (201, "octocat/mine", False)
    assert GitHubClient(github.endpoint, None)("GET", "/repos/octocat/mine").status == 200


def test_a_private_repository_is_not_there_for_who_has_no_token(github):
    github.create("hidden")

    assert GitHubClient(github.endpoint, None)("GET", "/repos/acme/hidden").status == 404


@pytest.mark.parametrize("name", ["taken", "Taken"])
def test_a_name_that_is_taken_is_refused_in_github_s_words(github, name):
    github("POST", "/orgs/acme/repos", {"name": "taken", "private": True})

    answer = github("POST", "/orgs/acme/repos", {"name": name})

    assert (answer.status, answer.content["message"]) == (422, "Repository creation failed.")
    assert answer.content["errors"] == [
        {
            "resource": "Repository",
            "code": "custom",
            "field": "name",
            "message": "name already exists on this account",
        }
    ]
    assert answer.content["documentation_url"].endswith("#create-an-organization-repository")


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ("a b", "a-b"),
        ("../../etc", "..-..-etc"),
        ("c/d", "c-d"),
        ("nul\0here", "nul-here"),
        ("größe", "gr-e"),
        ("x.git", "x"),
    ],
)
def test_what_may_not_be_in_a_name_becomes_a_hyphen(github, wanted, given):
    made = github.create(wanted)

    assert (made["name"], made["full_name"]) == (given, f"acme/{given}")
    assert github("GET", f"/repos/acme/{given}").content["id"] == made["id"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, '"name" wasn\'t supplied'),
        ({"name": None}, "nil is not a string"),
        ({"name": 7}, "7 is not a string"),
        ({"name": "x", "private": "yes"}, "'yes' is not a boolean"),
        ({"name": ""}, "name is too short"),
        ({"name": "n" * 101}, "name is too long (maximum is 100 characters)"),
        ({"name": ".."}, "name is reserved"),
        ({"name": ".git"}, "name is too short"),
        ({"name": "x", "homepage": "h" * 256}, "homepage is too long (maximum is 255 characters)"),
        ({"name": "x", "description": "d" * 351}, "description is too long (maximum is 350 characters)"),
        ({"name": "x", "description": "a\nb"}, "description control characters are not allowed"),
        ({"name": "x", "auto_init": True}, "local_aws does not build auto_init"),
        ({"name": "x", "team_id": 1}, "local_aws does not build team_id"),
        ({"name": "x", "visibility": "internal"}, "does not build the visibility 'internal'"),
    ],
)
def test_a_wrong_request_is_refused_and_nothing_is_made(aws, github, body, said):
    before = aws.settings("github")["repositories"]

    answer = github("POST", "/orgs/acme/repos", body)

    assert answer.status == 422
    assert said in answer.content["message"] + str(answer.content.get("errors"))
    assert aws.settings("github")["repositories"] == before


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "Problems parsing JSON"),
        (b"[]", "Body should be a JSON object"),
        (b"[" * 100_000, "Problems parsing JSON"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(github, body, said):
    answer = github("POST", "/user/repos", body)

    assert (answer.status, answer.content["message"]) == (400, said)


def test_description_and_homepage_change_and_can_be_emptied(github):
    made = github.create("changing", description="one", homepage="https://one")

    changed = github("PATCH", "/repos/acme/changing", {"description": "two", "homepage": None})

    assert changed.status == 200
    assert (changed.content["description"], changed.content["homepage"]) == ("two", None)
    assert changed.content["id"] == made["id"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": "other"}, "local_aws does not build renaming a repository"),
        ({"default_branch": "dev"}, "Cannot update default branch for an empty repository"),
        ({"private": False}, "local_aws does not build private"),
    ],
)
def test_a_change_that_cannot_be_is_refused(github, body, said):
    github("POST", "/orgs/acme/repos", {"name": "fixed", "private": True})

    answer = github("PATCH", "/repos/acme/fixed", body)

    assert answer.status == 422
    assert said in json.dumps(answer.content)


def test_a_deleted_repository_is_gone_and_its_name_is_free_but_its_id_is_not(github):
    first = github.create("again")

    assert github("DELETE", "/repos/acme/again").status == 204
    assert github("GET", "/repos/acme/again").status == 404
    assert github("DELETE", "/repos/acme/again").status == 404
    assert github.create("again")["id"] > first["id"]


def test_of_ten_creations_of_one_name_at_once_one_succeeds(github):
    with ThreadPoolExecutor(10) as pool:
        statuses = list(pool.map(lambda _: github("POST", "/orgs/acme/repos", {"name": "race"}).status, range(10)))

    assert sorted(statuses) == [201] + [422] * 9


def test_ten_creations_at_once_make_ten_repositories(github):
    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(lambda number: github.create(f"at-once-{number}"), range(10)))

    assert len({each["id"] for each in made}) == 10
    assert {each["name"] for each in made} == {f"at-once-{number}" for number in range(10)}


# What Git keeps, while there is nothing


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/git/ref/heads/main", 409, "Git Repository is empty."),
        ("/commits/main", 409, "Git Repository is empty."),
        ("/branches", 200, None),
    ],
)
def test_an_empty_repository_has_no_commits(github, path, status, said):
    github("POST", "/orgs/acme/repos", {"name": "empty", "private": True})

    answer = github("GET", f"/repos/acme/empty{path}")

    assert answer.status == status
    assert answer.content["message"] == said if said else answer.content == []


# Variables of Actions


def test_variables_are_made_changed_listed_and_deleted(github):
    github.create("variables")
    path = "/repos/acme/variables/actions/variables"

    assert github("POST", path, {"name": "aws_role", "value": "one"}).status == 201
    assert github("PATCH", f"{path}/AWS_ROLE", {"value": "two"}).status == 204
    assert github("GET", f"{path}/aws_role").content["value"] == "two"
    listed = github("GET", path).content
    assert (listed["total_count"], [each["name"] for each in listed["variables"]]) == (1, ["AWS_ROLE"])
    assert github("DELETE", f"{path}/AWS_ROLE").status == 204
    assert github("GET", f"{path}/AWS_ROLE").status == 404
    assert github("PATCH", f"{path}/AWS_ROLE", {"value": "x"}).status == 404
    assert github("DELETE", f"{path}/AWS_ROLE").status == 404


def test_a_variable_that_is_there_is_not_made_again(github):
    github.create("twice")
    path = "/repos/acme/twice/actions/variables"
    github("POST", path, {"name": "A", "value": "1"})

    answer = github("POST", path, {"name": "a", "value": "2"})

    assert (answer.status, answer.content["message"]) == (409, "Already exists - Variable already exists")
    assert github("GET", f"{path}/A").content["value"] == "1"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": "A"}, '"value" wasn\'t supplied'),
        ({"name": "1A", "value": ""}, "Must start with a letter"),
        ({"name": "A-B", "value": ""}, "can only contain alphanumeric characters"),
        ({"name": "GITHUB_A", "value": ""}, "must not start with GITHUB_"),
        ({"name": "A", "value": "x" * 49153}, "at most 48 KB"),
    ],
)
def test_a_wrong_variable_is_refused(github, body, said):
    github("POST", "/orgs/acme/repos", {"name": "wrong-variables", "private": True})

    answer = github("POST", "/repos/acme/wrong-variables/actions/variables", body)

    assert answer.status == 422
    assert said in answer.content["message"]


def test_a_list_comes_in_pages(github):
    github.create("pages")
    path = "/repos/acme/pages/actions/variables"
    for number in range(12):
        github("POST", path, {"name": f"V{number:02}", "value": ""})

    first, second = github("GET", path), github("GET", f"{path}?page=2")

    assert [len(each.content["variables"]) for each in (first, second)] == [10, 2]
    assert first.content["total_count"] == 12
    assert 'page=2>; rel="next"' in first.headers["Link"]
    assert 'rel="next"' not in second.headers["Link"]
    assert len(github("GET", f"{path}?per_page=99").content["variables"]) == 12


# Rulesets


def test_rulesets_are_made_changed_listed_and_deleted(github):
    github.create("rules")
    made = github.protect("rules", PULL_REQUEST, {"type": "deletion"})
    path = "/repos/acme/rules/rulesets"

    listed = github("GET", path).content
    changed = github("PUT", f"{path}/{made['id']}", {"enforcement": "disabled"})

    assert [(each["id"], each["name"]) for each in listed] == [(made["id"], "Protect prod")]
    assert "rules" not in listed[0]
    assert (changed.status, changed.content["enforcement"], changed.content["rules"]) == (
        200,
        "disabled",
        made["rules"],
    )
    assert github("GET", f"{path}/{made['id']}").content == changed.content
    assert github("DELETE", f"{path}/{made['id']}").status == 204
    assert github("GET", path).content == []
    assert github("PUT", f"{path}/{made['id']}", {}).status == 404


def test_two_rulesets_of_one_name_are_refused(github):
    github.create("same-rules")
    made = github.protect("same-rules")

    again = github("POST", "/repos/acme/same-rules/rulesets", {"name": made["name"], "enforcement": "active"})

    assert (again.status, again.content["errors"]) == (422, ["Name must be unique"])
    assert github("PUT", f"/repos/acme/same-rules/rulesets/{made['id']}", {"name": made["name"]}).status == 200


def test_a_free_plan_has_no_rulesets_for_private_repositories(aws, github):
    aws.configure("github", {"organizations": {"poor": {"plan": "free"}}})
    github("POST", "/orgs/poor/repos", {"name": "private", "private": True})
    github("POST", "/orgs/poor/repos", {"name": "public"})
    body = {"name": "r", "enforcement": "active"}

    answers = [github("POST", "/repos/poor/private/rulesets", body), github("GET", "/repos/poor/private/rulesets")]

    for answer in answers:
        assert answer.status == 403
        assert (
            answer.content["message"] == "Upgrade to GitHub Pro or make this repository public to enable this feature."
        )
    assert github("POST", "/repos/poor/public/rulesets", body).status == 201


# OpenID Connect


@pytest.mark.parametrize("immutable", [True, False])
def test_the_subject_s_form_is_fixed_when_the_repository_is_made(aws, github, immutable):
    name = f"subject-{immutable}"
    aws.configure("github", {"immutable_subjects": immutable})
    made = github.create(name)
    aws.configure("github", {"immutable_subjects": not immutable})

    answer = github("GET", f"/repos/acme/{name}/actions/oidc/customization/sub").content

    ids = f"repo:acme@{made['owner']['id']}/{name}@{made['id']}"
    prefix = ids if immutable else f"repo:acme/{name}"
    assert answer == {"use_default": True, "use_immutable_subject": immutable, "sub_claim_prefix": prefix}


def test_a_job_s_token_is_issued_on_demand_and_shown_once(aws, github):
    github.create("jobs")

    asked = aws.configure("github", {"issue_oidc_token": {"repository": "acme/jobs", "ref": "refs/heads/dev"}})

    assert asked["oidc_token"].count(".") == 2
    assert "oidc_token" not in aws.settings("github")


# Who may what


@pytest.mark.parametrize("token", ["ghp_nobodyknowsthis", EXPIRED, "x"])
def test_a_token_that_is_wrong_or_expired_is_bad_credentials(aws, github, token):
    aws.configure("github", {"tokens": {EXPIRED: {"expires": "2026-01-01T00:00:00Z"}}})

    answer = GitHubClient(aws.endpoint, token)("GET", "/user")

    assert (answer.status, answer.content["message"]) == (401, "Bad credentials")


def test_a_revoked_token_is_bad_credentials(aws, github):
    aws.configure("github", {"tokens": {"ghp_soongone123": {}}})
    assert GitHubClient(aws.endpoint, "ghp_soongone123")("GET", "/user").status == 200

    aws.configure("github", {"tokens": {"ghp_soongone123": None}})

    assert GitHubClient(aws.endpoint, "ghp_soongone123")("GET", "/user").status == 401


@pytest.mark.parametrize("scheme", ["token", "bearer", "Basic eC1hY2Nlc3MtdG9rZW46"])
def test_a_token_is_taken_in_each_of_github_s_ways(github, scheme):
    import base64

    basic = base64.b64encode(f"anything:{TOKEN}".encode()).decode()
    header = f"Basic {basic}" if scheme.startswith("Basic") else f"{scheme} {TOKEN}"

    answer = GitHubClient(github.endpoint, None)("GET", "/user", headers={"Authorization": header})

    assert answer.content["login"] == "octocat"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "/user", None), ("POST", "/orgs/acme/repos", {"name": "x"}), ("POST", "/user/repos", {"name": "x"})],
)
def test_without_a_token_nothing_is_made(github, method, path, body):
    answer = GitHubClient(github.endpoint, None)(method, path, body)

    assert (answer.status, answer.content["message"]) == (401, "Requires authentication")


RIGHTS: dict[str, list[tuple[str, str, Any]]] = {
    "administration=write": [
        ("POST", "/orgs/acme/repos", {"name": "without-right"}),
        ("POST", "/user/repos", {"name": "without-right"}),
        ("PATCH", "/repos/acme/guarded", {"description": "x"}),
        ("DELETE", "/repos/acme/guarded", None),
        ("POST", "/repos/acme/guarded/rulesets", {"name": "r", "enforcement": "active"}),
    ],
    "contents=read": [("GET", "/repos/acme/guarded/branches", None)],
    "actions_variables=read": [("GET", "/repos/acme/guarded/actions/variables", None)],
    "actions_variables=write": [("POST", "/repos/acme/guarded/actions/variables", {"name": "A", "value": ""})],
    "actions=read": [("GET", "/repos/acme/guarded/actions/oidc/customization/sub", None)],
}


@pytest.mark.parametrize("right", RIGHTS)
def test_a_token_without_the_right_is_told_which_one_there_is(aws, github, right):
    github("POST", "/orgs/acme/repos", {"name": "guarded", "private": True})
    aws.configure("github", {"tokens": {NO_RIGHTS: {"rights": []}}})
    poor = GitHubClient(aws.endpoint, NO_RIGHTS)

    for method, path, body in RIGHTS[right]:
        answer = poor(method, path, body)

        assert (answer.status, answer.content["message"]) == (403, "Resource not accessible by personal access token")
        assert answer.headers["X-Accepted-GitHub-Permissions"] == right
    assert poor("GET", "/repos/acme/guarded").status == 200


@pytest.mark.parametrize("token", [None, NO_RIGHTS])
def test_anybody_reads_a_public_repository_and_nobody_its_variables(aws, github, token):
    aws.configure("github", {"tokens": {NO_RIGHTS: {"rights": []}}})
    github("POST", "/orgs/acme/repos", {"name": "open"})
    anybody = GitHubClient(aws.endpoint, token)

    assert anybody("GET", "/repos/acme/open/branches").status == 200
    assert anybody("GET", "/repos/acme/open/rulesets").status == 200
    assert anybody("GET", "/repos/acme/open/actions/variables").status == (403 if token else 401)
    assert anybody("DELETE", "/repos/acme/open").status == (403 if token else 401)


def test_a_missing_repository_is_not_found_before_a_missing_right_is_told(aws, github):
    aws.configure("github", {"tokens": {NO_RIGHTS: {"rights": []}}})

    assert GitHubClient(aws.endpoint, NO_RIGHTS)("DELETE", "/repos/acme/nothing").status == 404
    assert GitHubClient(aws.endpoint, NO_RIGHTS)("POST", "/orgs/nobody/repos", {"name": "x"}).status == 404


def test_only_a_classic_token_is_told_its_scopes(aws, github):
    aws.configure(
        "github", {"tokens": {CONTENTS_ONLY: {"rights": ["contents"]}, "ghp_onlycontents": {"rights": ["contents"]}}}
    )

    headers = [
        GitHubClient(aws.endpoint, each)("GET", "/user").headers for each in (TOKEN, "ghp_onlycontents", CONTENTS_ONLY)
    ]

    assert [each["X-OAuth-Scopes"] for each in headers] == ["repo, workflow, delete_repo", "repo", None]


def test_a_classic_token_deletes_repositories_by_a_scope_of_its_own(aws, github):
    rights = {"rights": ["administration", "contents", "workflows"]}
    aws.configure("github", {"tokens": {"ghp_deletesnone": rights, "github_pat_administers": rights}})
    github.create("lasting")

    refused = GitHubClient(aws.endpoint, "ghp_deletesnone")("DELETE", "/repos/acme/lasting")

    assert (refused.status, refused.content["message"]) == (403, "Must have admin rights to Repository.")
    assert GitHubClient(aws.endpoint, "github_pat_administers")("DELETE", "/repos/acme/lasting").status == 204


def test_a_request_without_a_user_agent_is_refused(github):
    answer = github("GET", "/user", headers={"User-Agent": ""})

    assert answer.status == 403
    assert "User-Agent" in answer.content["message"]


# What goes wrong


def test_calls_are_counted_and_the_headers_say_how_many_are_left(aws, github):
    aws.configure("github", {"rate_limit": {"limit": 3}})

    left = [github("GET", "/user").headers["X-RateLimit-Remaining"] for _ in range(3)]

    assert left == ["2", "1", "0"]


@pytest.mark.parametrize("status", [403, 429])
def test_one_call_too_many_is_told_until_when_to_wait(aws, github, status):
    aws.configure("github", {"rate_limit": {"limit": 0, "seconds": 90, "status": status}})

    answer = github("GET", "/user")

    assert answer.status == status
    assert answer.content["message"].startswith("API rate limit exceeded for user ID ")
    assert answer.headers["X-RateLimit-Remaining"] == "0"
    assert 0 < int(answer.headers["X-RateLimit-Reset"]) - time.time() <= 92


def test_the_secondary_limit_says_how_long_to_wait(aws, github):
    aws.configure("github", {"rate_limit": {"secondary": 1, "retry_after": 7}})

    refused, then = github("GET", "/user"), github("GET", "/user")

    assert (refused.status, then.status) == (403, 200)
    assert refused.headers["Retry-After"] == "7"
    assert "secondary rate limit" in refused.content["message"]


@pytest.mark.parametrize(("outage", "status"), [(True, 503), (502, 502)])
def test_an_outage_answers_everything(aws, github, outage, status):
    aws.configure("github", {"outage": outage})

    assert github("GET", "/user").status == status

    aws.configure("github", {"outage": False})
    assert github("GET", "/user").status == 200


@pytest.mark.parametrize("path", ["/repos/acme/x/issues", "/gists", "", "/repos/acme", "/%2e%2e/x"])
def test_what_is_not_built_says_so(github, path):
    answer = github("GET", path)

    assert answer.status == 404
    assert answer.content["message"].startswith("local_aws ")


@pytest.mark.parametrize("owner", ["%2e%2e", "..%2f..", "a%00b", "%ff", "x" * 300])
def test_names_that_are_no_names_lead_nowhere(github, owner):
    for path in (f"/repos/{owner}/churn", f"/repos/acme/{owner}", f"/orgs/{owner}"):
        assert github("GET", path).status == 404


# The switch


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"colour": 1}, "there is no setting colour; there are organizations"),
        ({"organizations": []}, "organizations: give a JSON object"),
        ({"organizations": {"a/b": {}}}, "'a/b' is no name of an account"),
        ({"organizations": {"..": {}}}, "'..' is no name of an account"),
        ({"organizations": {"api": {}}}, "'api' is no name of an account"),
        ({"organizations": {"octocat": {}}}, "'octocat' is the name of another account"),
        ({"organizations": {"acme": {"plan": "gold"}}}, "there is no plan 'gold'; give free or team or enterprise"),
        ({"organizations": {"acme": {"size": 1}}}, "acme: give a JSON object with plan"),
        ({"tokens": {"short": {}}}, "a token is 12 or more ASCII characters"),
        ({"tokens": {"ghp_0123456789": {"rights": ["all"]}}}, "…6789: rights .*: give a list of administration"),
        ({"tokens": {"ghp_0123456789": {"expires": "soon"}}}, "…6789: expires 'soon' is no time"),
        ({"tokens": {"ghp_0123456789": {"login": "acme"}}}, "'acme' is the name of another account"),
        ({"immutable_subjects": "yes"}, "give true or false"),
        ({"rate_limit": {"limit": -1}}, "limit -1 is no whole number from 0"),
        ({"rate_limit": {"seconds": 0}}, "seconds 0: give more than 0"),
        ({"rate_limit": {"status": 500}}, "status 500 is neither 403 nor 429"),
        ({"outage": 200}, "outage 200: give true, false or a status"),
        ({"outage": []}, r"outage \[\]"),
        ({"issue_oidc_token": {"repository": "acme/none"}}, "there is no repository 'acme/none'"),
        ({"issue_oidc_token": {"branch": "dev"}}, "give a JSON object with repository, ref"),
    ],
)
def test_a_wrong_setting_is_refused_and_nothing_is_set(aws, github, settings, said):
    before = aws.settings("github")

    with pytest.raises(ValueError, match=f"github: .*{said}"):
        aws.configure("github", {"organizations": {"not-made": {}}} | settings)

    assert aws.settings("github") == before


def test_of_a_token_its_last_four_characters_are_shown_and_logged_nothing(aws, github):
    secret = "ghp_thesecretpartABCD"

    shown = aws.configure("github", {"tokens": {secret: {}}})
    client = GitHubClient(aws.endpoint, secret)
    client("GET", "/user")
    client("GET", "/repos/acme/nothing")
    GitHubClient(aws.endpoint, f"{secret}wrong")("GET", "/user")

    assert "…ABCD" in [each["token"] for each in shown["tokens"]]
    assert "thesecretpart" not in json.dumps(shown) + aws.log


def test_a_known_account_keeps_its_id_when_its_plan_changes(aws, github):
    before: dict[str, Any] = aws.settings("github")["organizations"]["acme"]

    after = aws.configure("github", {"organizations": {"acme": {"plan": "enterprise"}}})["organizations"]["acme"]

    assert (after["id"], after["plan"]) == (before["id"], "enterprise")
