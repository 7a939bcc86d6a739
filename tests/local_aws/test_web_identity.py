"""CI jobs assume roles with tokens of their Git host: sts:AssumeRoleWithWebIdentity, with IAM enforced and without."""

from __future__ import annotations

import base64
import functools
import json
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from local_aws import LocalAWS
from local_aws.permissions.trust import Provider, audience_fault
from tests.local_aws.clients import refused
from tests.local_aws.github_clients import ORGANIZATION, TOKEN, GitHubClient

ACCOUNT, AUDIENCE = "123456789012", "sts.amazonaws.com"
NOT_AUTHORIZED = ("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
ISSUER = "https://token.actions.githubusercontent.com"


@pytest.mark.parametrize(
    ("audience", "provider", "fault"),
    [
        (AUDIENCE, Provider(ISSUER, (AUDIENCE,)), None),
        ([AUDIENCE, "other"], Provider(ISSUER, (AUDIENCE,)), None),
        ("other", Provider(ISSUER, (AUDIENCE,)), "Incorrect token audience"),
        (None, Provider(ISSUER, (AUDIENCE,)), "Incorrect token audience"),
        (AUDIENCE, Provider(ISSUER, ()), "Incorrect token audience"),
        (AUDIENCE, None, f"No OpenIDConnect provider found in your account for {ISSUER}"),
    ],
)
def test_a_token_is_for_an_audience_of_a_registered_provider(
    audience: Any, provider: Provider | None, fault: str | None
) -> None:
    assert audience_fault({"iss": ISSUER, "aud": audience}, provider) == fault


class Host:
    """A server, and the tokens that its Git host gives jobs."""

    def __init__(self, aws: LocalAWS) -> None:
        self.aws = aws
        token = {TOKEN: {"login": "admin"}}
        aws.configure("github", {"organizations": {ORGANIZATION: {}}, "users": {"admin": {}}, "tokens": token})
        self.repository = GitHubClient(aws.endpoint).create("churn")
        self.iam = aws.client("iam")
        self.issuer = f"{aws.endpoint}/_github/_services/token".removeprefix("http://")
        self.provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{self.issuer}"
        owner = self.repository["owner"]
        self.subject = f"repo:acme@{owner['id']}/churn@{self.repository['id']}"
        self.sts = boto3.client(  # a job has no credentials before it calls
            "sts", endpoint_url=aws.endpoint, region_name="us-east-1", config=Config(signature_version=UNSIGNED)
        )

    def register(self, *audiences: str) -> None:
        self.iam.create_open_id_connect_provider(Url=f"https://{self.issuer}", ClientIDList=list(audiences))

    def role(self, subject: str | list[str], operator: str = "StringEquals", audience: str = AUDIENCE) -> str:
        statement = {
            "Effect": "Allow",
            "Principal": {"Federated": self.provider},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {
                operator: {f"{self.issuer}:sub": subject},
                "ForAnyValue:StringEquals": {f"{self.issuer}:aud": audience},
            },
        }
        trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        name = f"ci-{uuid.uuid4().hex[:8]}"
        arn = self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        may = {"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [may]})
        self.iam.put_role_policy(RoleName=name, PolicyName="may", PolicyDocument=policy)
        return str(arn)

    def token(self, ref: str = "refs/heads/dev", audience: str = AUDIENCE, **more: Any) -> str:
        asked = {"repository": "acme/churn", "ref": ref, "audience": audience, **more}
        return str(self.aws.configure("github", {"issue_oidc_token": asked})["oidc_token"])

    def assume(self, role: str, token: str, **more: Any) -> dict[str, Any]:
        given = {"RoleArn": role, "RoleSessionName": "job", "WebIdentityToken": token, **more}
        return dict(self.sts.assume_role_with_web_identity(**given))


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with LocalAWS(enforce_iam=True) as aws:
        host = Host(aws)
        host.register(AUDIENCE)
        yield host


def test_a_job_of_a_trusted_branch_gets_a_session_that_may_what_the_role_may(host: Host) -> None:
    role = host.role(f"{host.subject}:ref:refs/heads/dev")
    answer = host.assume(role, host.token())
    assert answer["SubjectFromWebIdentityToken"] == f"{host.subject}:ref:refs/heads/dev"
    assert answer["Audience"] == AUDIENCE
    assert (
        answer["AssumedRoleUser"]["Arn"] == f"{role.replace(':iam:', ':sts:').replace(':role/', ':assumed-role/')}/job"
    )
    given = answer["Credentials"]
    session = boto3.Session(
        given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], region_name="us-east-1"
    )
    session.client("s3", endpoint_url=host.aws.endpoint).list_buckets()
    code, message = refused(lambda: session.client("iam", endpoint_url=host.aws.endpoint).list_roles())
    assert code == "AccessDenied"
    assert "is not authorized to perform: iam:ListRoles" in message


@pytest.mark.parametrize(
    ("pattern", "ref", "trusted"),
    [
        ("ref:refs/heads/feature-*", "refs/heads/feature-x", True),
        ("ref:refs/heads/feature-*", "refs/heads/dev", False),
        ("ref:refs/heads/feature-*", "refs/heads/xfeature-x", False),
        ("*", "refs/heads/anything", True),
    ],
)
def test_a_pattern_of_branches_is_trusted(host: Host, pattern: str, ref: str, trusted: bool) -> None:
    role = host.role(f"{host.subject}:{pattern}", operator="StringLike")
    if trusted:
        host.assume(role, host.token(ref))
    else:
        assert refused(lambda: host.assume(role, host.token(ref))) == NOT_AUTHORIZED


@pytest.mark.parametrize(
    "subject",
    [
        "{subject}:ref:refs/heads/prod",
        "{subject}:ref:refs/heads/de",
        "{subject}:ref:refs/heads/*",
        "repo:acme/churn:ref:refs/heads/dev",
    ],
)
def test_another_subject_is_not_trusted(host: Host, subject: str) -> None:
    role = host.role(subject.format(subject=host.subject))
    assert refused(lambda: host.assume(role, host.token())) == NOT_AUTHORIZED


def test_a_roles_own_condition_on_the_audience_counts(host: Host) -> None:
    role = host.role(f"{host.subject}:ref:refs/heads/dev", audience="another")
    assert refused(lambda: host.assume(role, host.token())) == NOT_AUTHORIZED


def test_a_role_that_is_not_there_or_trusts_a_service_only_is_not_to_be_had(host: Host) -> None:
    statement = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    name = f"service-{uuid.uuid4().hex[:8]}"
    role = host.iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    for arn in (role, role.replace("service-", "nobodys-")):
        assert refused(functools.partial(host.assume, arn, host.token())) == NOT_AUTHORIZED


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"audience": "somebody-else"}, "InvalidIdentityToken", "Incorrect token audience"),
        ({"lasts": 0}, "ExpiredTokenException", "Token expired"),
    ],
)
def test_a_token_for_somebody_else_or_of_another_time_is_refused(
    host: Host, change: dict[str, Any], code: str, message: str
) -> None:
    role = host.role(f"{host.subject}:*", operator="StringLike")
    found = refused(lambda: host.assume(role, host.token(**change)))
    assert found[0] == code
    assert message in found[1]


def test_a_session_lasts_no_longer_than_the_role_says(host: Host) -> None:
    role = host.role(f"{host.subject}:*", operator="StringLike")
    assert refused(lambda: host.assume(role, host.token(), DurationSeconds=3601)) == (
        "ValidationError",
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
    )


def test_a_token_that_somebody_wrote_themselves_is_refused(host: Host) -> None:
    role, token = host.role(f"{host.subject}:*", operator="StringLike"), host.token()
    head, claims, signature = token.split(".")
    decoded = json.loads(base64.urlsafe_b64decode(claims + "=="))
    other = base64.urlsafe_b64encode(json.dumps({**decoded, "sub": "repo:x/y:*"}).encode()).rstrip(b"=").decode()
    for forged in (f"{head}.{other}.{signature}", "abcd", f"{head}.{claims}."):
        code, message = refused(functools.partial(host.assume, role, forged))
        assert code == "InvalidIdentityToken"
        assert token not in message


def test_without_a_provider_in_the_account_no_token_counts(host: Host) -> None:
    role = host.role(f"{host.subject}:*", operator="StringLike")
    host.iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=host.provider)
    try:
        assert refused(lambda: host.assume(role, host.token())) == (
            "InvalidIdentityToken",
            f"No OpenIDConnect provider found in your account for http://{host.issuer}",
        )
    finally:
        host.register(AUDIENCE)


@pytest.mark.slow
def test_without_enforcement_everybody_gets_a_session() -> None:
    with LocalAWS() as aws:
        host = Host(aws)
        assert host.assume(host.role("nobody"), host.token())["Credentials"]["SessionToken"]
