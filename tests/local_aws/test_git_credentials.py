"""Passwords for CodeCommit's addresses, as AWS's own credential helper makes them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local_aws.git.credentials import BadPassword, answer_git, check_password, password

NOW = datetime(2026, 11, 21, 14, 30, tzinfo=UTC)
ADDRESS = ("us-east-1", "127.0.0.1:4566", "/v1/repos/churn")
VARIABLES = {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
ASKED = "protocol=http\nhost=127.0.0.1:4566\npath=v1/repos/churn\n\n"


def test_who_has_signed_the_address_is_let_in():
    check_password(password("secret", *ADDRESS, NOW), "secret", *ADDRESS, NOW + timedelta(minutes=14))


@pytest.mark.parametrize(
    "address",
    [
        ("eu-west-1", "127.0.0.1:4566", "/v1/repos/churn"),
        ("us-east-1", "example.com", "/v1/repos/churn"),
        ("us-east-1", "127.0.0.1:4566", "/v1/repos/churn-dev"),
    ],
)
def test_another_address_was_signed(address: tuple[str, str, str]) -> None:
    with pytest.raises(BadPassword, match="does not match"):
        check_password(password("secret", *address, NOW), "secret", *ADDRESS, NOW)


def test_another_secret_signed():
    with pytest.raises(BadPassword, match="does not match"):
        check_password(password("other", *ADDRESS, NOW), "secret", *ADDRESS, NOW)


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_signature_counts_for_15_minutes(minutes):
    signed = password("secret", *ADDRESS, NOW + timedelta(minutes=minutes))
    with pytest.raises(BadPassword, match="15 minutes"):
        check_password(signed, "secret", *ADDRESS, NOW)


@pytest.mark.parametrize(
    "given", ["", "secret", "20261121T143000", "20261121T143000Z", "20261121T143000Zé", "Z", "\ud800Z"]
)
def test_what_is_no_signature_lets_nobody_in(given):
    with pytest.raises(BadPassword):
        check_password(given, "secret", *ADDRESS, NOW)


def test_git_is_answered_with_key_token_and_password():
    target = io.StringIO()
    answer_git("get", io.StringIO(ASKED), target, VARIABLES | {"AWS_SESSION_TOKEN": "token"}, NOW)
    assert target.getvalue() == f"username=AKIA1%token\npassword={password('secret', *ADDRESS, NOW)}\n"


@pytest.mark.parametrize(
    ("operation", "asked"),
    [
        ("store", ASKED),
        ("erase", ASKED),
        ("get", ASKED.replace("v1/repos/churn", "_github/owner/churn.git")),
        ("get", "protocol=http\nhost=127.0.0.1:4566\n\n"),
    ],
)
def test_nothing_is_said_of_other_addresses_and_operations(operation, asked):
    target = io.StringIO()
    answer_git(operation, io.StringIO(asked), target, VARIABLES, NOW)
    assert target.getvalue() == ""


def test_a_variable_that_is_missing_is_named():
    with pytest.raises(BadPassword, match="AWS_SECRET_ACCESS_KEY, AWS_REGION must be set"):
        answer_git("get", io.StringIO(ASKED), io.StringIO(), {"AWS_ACCESS_KEY_ID": "AKIA1"}, NOW)


def helper(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        command,
        input=ASKED,
        capture_output=True,
        text=True,
        env=kept | variables | {"AWS_EC2_METADATA_DISABLED": "true"},
    )


@pytest.mark.parametrize("token", ["", "token"])
@pytest.mark.parametrize("who", ["local_aws", "the AWS CLI"])
def test_both_helpers_sign_what_is_verified(who, token):
    aws = [sys.executable, str(Path(sys.executable).with_name("aws")), "codecommit", "credential-helper"]
    ours = [sys.executable, "-m", "local_aws", "git-credential", "get"]
    command = ours if who == "local_aws" else [*aws, "get", "--ignore-host-check"]
    done = helper(
        *command, **VARIABLES, AWS_DEFAULT_REGION="us-east-1", **({"AWS_SESSION_TOKEN": token} if token else {})
    )
    answer = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert answer["username"] == ("AKIA1%token" if token else "AKIA1"), done.stderr
    check_password(answer["password"], "secret", *ADDRESS, datetime.now(UTC))


def test_without_credentials_the_command_says_what_is_missing():
    done = helper(sys.executable, "-m", "local_aws", "git-credential", "get")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "AWS_ACCESS_KEY_ID" in done.stderr
