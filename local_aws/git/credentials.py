"""User names and passwords by which git clients sign in to CodeCommit: AWS's signature over the repository's address.

The user name is the access key id, with "%" and the token of a session; the password is the time and a Signature
Version 4, as the AWS CLI's credential helper and git-remote-codecommit make them. It counts for 15 minutes.

https://docs.aws.amazon.com/codecommit/latest/userguide/setting-up-https-unixes.html
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shlex
import sys
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

MOST_SKEW = 900  # seconds between the client's clock and ours
TIME = "%Y%m%dT%H%M%S"
SERVICE = "codecommit"
PREFIX = "/v1/repos/"  # of the addresses that are CodeCommit's


class BadPassword(Exception):
    """A password does not let its user in; the message says why."""


def password(secret: str, region: str, host: str, path: str, now: datetime) -> str:
    """The password for a repository's address.

    Args:
        secret: the secret access key.
        host: of the address; a port does not count.
        path: of the address, such as "/v1/repos/churn".
    """
    time = now.strftime(TIME)
    return f"{time}Z{_signature(secret, region, host, path, time)}"


def check_password(given: str, secret: str, region: str, host: str, path: str, now: datetime) -> None:
    """Let those in who have signed this address just now.

    Raises:
        BadPassword: another secret, Region or address was signed, or the signature is too old.
    """
    time, _, signature = given.partition("Z")
    try:
        signed = datetime.strptime(time, TIME).replace(tzinfo=UTC)
    except ValueError as error:
        raise BadPassword(
            "The password is no signature of AWS's credential helper, which begins with a time. Use one, such as"
            " `python -m local_aws git-credential`."
        ) from error
    expected = _signature(secret, region, host, path, time)
    if not hmac.compare_digest(expected.encode(), signature.encode(errors="replace")):
        raise BadPassword(
            "The signature does not match: another secret access key, Region or repository was signed. Check the"
            " AWS_* variables of the credential helper, and that credential.useHttpPath is true."
        )
    if abs((now - signed).total_seconds()) > MOST_SKEW:
        raise BadPassword(f"The signature of {time} is more than 15 minutes from the server's time. Sign again.")


def _signature(secret: str, region: str, host: str, path: str, time: str) -> str:
    canonical = f"GIT\n{path}\n\nhost:{host.partition(':')[0]}\n\nhost\n"
    scope = f"{time[:8]}/{region}/{SERVICE}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", time, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def answer_git(operation: str, source: TextIO, target: TextIO, variables: Mapping[str, str], now: datetime) -> None:
    """A credential helper, as git calls it (https://git-scm.com/docs/git-credential): for CodeCommit's addresses alone.

    Args:
        operation: "get"; "store" and "erase" do nothing.
        source, target: git's description of what it asks for, and the answer.
        variables: those by which AWS clients know their credentials and Region.

    Raises:
        BadPassword: a variable is missing.
    """
    variables = container_credentials(variables)
    asked = dict(line.rstrip("\r\n").split("=", 1) for line in source if "=" in line)
    path = "/" + quote(asked.get("path", ""))
    if operation != "get" or not path.startswith(PREFIX):
        return
    region = variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION")
    missing = [name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if not variables.get(name)]
    if missing or not region:
        names = ", ".join([*missing, *([] if region else ["AWS_REGION"])])
        raise BadPassword(f"{names} must be set to sign in to {asked.get('host')}{path}.")
    token = variables.get("AWS_SESSION_TOKEN")
    target.write(f"username={variables['AWS_ACCESS_KEY_ID']}{f'%{token}' if token else ''}\n")
    signed = password(variables["AWS_SECRET_ACCESS_KEY"], region, asked.get("host", ""), path, now)
    target.write(f"password={signed}\n")


def container_credentials(variables: Mapping[str, str]) -> Mapping[str, str]:
    """The variables, with the credentials that a container's role has when they name the address that gives them.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
    """
    address = variables.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
    if variables.get("AWS_ACCESS_KEY_ID") or not address.startswith("http://127.0.0.1:"):
        return variables
    token = variables.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(address, headers={"Authorization": token})  # noqa: S310  # it is on loopback
    try:
        with opener.open(request, timeout=30) as answer:
            found = json.load(answer)
    except (OSError, ValueError) as error:
        raise BadPassword(f"The container's credentials cannot be had at {address}: {error}") from error
    return {
        **variables,
        "AWS_ACCESS_KEY_ID": found["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
        "AWS_SESSION_TOKEN": found["Token"],
    }


def client_settings(endpoint: str) -> list[tuple[str, str]]:
    """Settings of Git's configuration by which clients sign in at a server's address with `main`, and nowhere else."""
    checkout = Path(__file__).resolve().parents[2]
    command = f"PYTHONPATH={shlex.quote(str(checkout))} {shlex.quote(sys.executable)} -m local_aws git-credential"
    return [
        (f"credential.{endpoint}.useHttpPath", "true"),  # what is signed is the path
        (f"credential.{endpoint}.helper", ""),  # forgets the user's own helpers, which know nothing of it
        (f"credential.{endpoint}.helper", f"!{command}"),
    ]


def main(operation: str) -> int:
    """`python -m local_aws git-credential`."""
    try:
        answer_git(operation, sys.stdin, sys.stdout, os.environ, datetime.now(UTC))
    except BadPassword as error:
        print(error, file=sys.stderr)
        return 1
    return 0
