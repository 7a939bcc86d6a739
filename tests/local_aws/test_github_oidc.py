"""The tokens that jobs of GitHub Actions identify themselves with."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from local_aws.git.github_jobs import job_claims
from local_aws.git.github_state import Account, Repository
from local_aws.oidc import ExpiredToken, InvalidToken, OidcIssuer
from local_aws.store import Store

URL = "http://127.0.0.1:4566/_github/_services/token"
CLAIMS = {"sub": "repo:acme/churn:ref:refs/heads/dev", "aud": "sts.amazonaws.com"}
OWNER = Account("acme", 1000001, "Organization", "team")


def issuer(url: str = URL) -> OidcIssuer:
    return OidcIssuer(url, Store())


def test_a_token_says_what_it_was_issued_for_and_by_whom():
    tokens = issuer()

    claims = tokens.verify(tokens.issue(CLAIMS))

    assert {name: claims[name] for name in ("sub", "aud", "iss")} == {**CLAIMS, "iss": URL}
    assert claims["exp"] - claims["iat"] == 300


def test_the_issuer_s_own_claims_cannot_be_given():
    tokens = issuer()

    assert tokens.verify(tokens.issue({"iss": "https://elsewhere", "exp": 2**40}))["iss"] == URL


def test_a_token_of_another_server_is_refused():
    with pytest.raises(InvalidToken, match="signature is not this server's"):
        issuer().verify(issuer().issue(CLAIMS))


def test_a_token_that_has_expired_is_refused():
    tokens = issuer()

    with pytest.raises(ExpiredToken, match="has expired"):
        tokens.verify(tokens.issue(CLAIMS, lasts=0))


def test_a_token_of_the_same_key_but_another_address_is_refused():
    store = Store()

    with pytest.raises(InvalidToken, match="It was issued by http"):
        OidcIssuer(URL, store).verify(OidcIssuer("http://127.0.0.1:1/", store).issue(CLAIMS))


def test_a_changed_token_is_refused():
    tokens = issuer()
    header, _, signature = tokens.issue(CLAIMS).split(".")
    claims = base64.urlsafe_b64encode(json.dumps({**CLAIMS, "iss": URL, "exp": 2**40}).encode()).rstrip(b"=").decode()

    with pytest.raises(InvalidToken, match="signature"):
        tokens.verify(f"{header}.{claims}.{signature}")


def test_a_token_that_names_no_algorithm_is_refused():
    header = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    claims = base64.urlsafe_b64encode(json.dumps({"iss": URL, "exp": 2**40}).encode()).rstrip(b"=").decode()

    with pytest.raises(InvalidToken, match="signature"):
        issuer().verify(f"{header}.{claims}.")


@pytest.mark.parametrize("text", ["", "x", "a.b", "a.b.c.d", "…", "a.b.c", "a.b.\udcff"])
def test_what_is_no_token_is_refused(text):
    with pytest.raises(InvalidToken):
        issuer().verify(text)


def test_a_token_is_good_after_a_restart_with_the_same_state(tmp_path: Path):
    store = Store(tmp_path / "state.sqlite")
    token = OidcIssuer(URL, store).issue(CLAIMS)
    store.close()

    again = Store(tmp_path / "state.sqlite")

    assert OidcIssuer(URL, again).verify(token)["sub"] == CLAIMS["sub"]
    again.close()


def repository(immutable: bool = True) -> Repository:
    time = "2026-11-21T12:00:00Z"
    return Repository(900000001, "acme", "churn", None, None, True, immutable, time, time, time)


@pytest.mark.parametrize(
    ("immutable", "job", "subject"),
    [
        (True, {"ref": "refs/heads/dev"}, "repo:acme@1000001/churn@900000001:ref:refs/heads/dev"),
        (False, {"ref": "refs/heads/dev"}, "repo:acme/churn:ref:refs/heads/dev"),
        (True, {"environment": "prod"}, "repo:acme@1000001/churn@900000001:environment:prod"),
        (False, {"environment": "eu:prod"}, "repo:acme/churn:environment:eu%3Aprod"),
        (False, {"event": "pull_request"}, "repo:acme/churn:pull_request"),
        (False, {"event": "pull_request", "environment": "test"}, "repo:acme/churn:environment:test"),
    ],
)
def test_the_subject_says_what_the_job_runs_for(immutable, job, subject):
    assert job_claims(repository(immutable), OWNER, **job)["sub"] == subject


def test_the_claims_name_the_repository_and_what_the_job_runs_for():
    claims = job_claims(repository(), OWNER, ref="refs/tags/v1", audience="somebody")

    assert claims == {
        "sub": "repo:acme@1000001/churn@900000001:ref:refs/tags/v1",
        "aud": "somebody",
        "ref": "refs/tags/v1",
        "ref_type": "tag",
        "repository": "acme/churn",
        "repository_id": "900000001",
        "repository_owner": "acme",
        "repository_owner_id": "1000001",
        "repository_visibility": "private",
        "event_name": "push",
    }


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ({"ref": "dev"}, "ref 'dev' does not begin with refs/heads/"),
        ({"ref": None}, "ref None"),
        ({"event": "release"}, "event 'release' is none of push, pull_request, delete"),
        ({"audience": ""}, "audience '' is no text"),
        ({"environment": ""}, "environment '' is no text"),
    ],
)
def test_a_job_that_cannot_be_is_refused(job, said):
    with pytest.raises(ValueError, match=said):
        job_claims(repository(), OWNER, **job)
