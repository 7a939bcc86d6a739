"""Users for tests where IAM is enforced, with the rights that they are given and no others."""

from __future__ import annotations

import functools
import itertools
import json
from typing import Any

from local_aws import LocalAWS

NUMBERS = itertools.count(1)


@functools.cache
def root(aws: LocalAWS, service: str) -> Any:
    """A client that may do everything: the account's root's."""
    return aws.client(service)


def sign_in(aws: LocalAWS, user: str) -> dict[str, str]:
    """A new access key of a user, as the variables of the environment that AWS's clients read."""
    key = root(aws, "iam").create_access_key(UserName=user)["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def role_session(aws: LocalAWS, arn: str) -> dict[str, str]:
    """What a program that runs as the role has; the account lets itself assume the role for it."""
    iam, role = root(aws, "iam"), arn.rpartition("/")[2]
    trust = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
    account = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{arn.split(':')[4]}:root"},
        "Action": "sts:AssumeRole",
    }
    both = trust | {"Statement": [*trust["Statement"], account]}
    iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(both))
    given = root(aws, "sts").assume_role(RoleArn=arn, RoleSessionName="program")["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
        "AWS_SESSION_TOKEN": given["SessionToken"],
    }


def allow(*actions: str, on: str | list[str] = "*", **conditions: Any) -> dict[str, Any]:
    """A statement of a policy."""
    return {"Effect": "Allow", "Action": list(actions), "Resource": on} | (
        {"Condition": conditions} if conditions else {}
    )


class Person:
    """A user with these statements and no others."""

    def __init__(self, aws: LocalAWS, *statements: dict[str, Any]) -> None:
        self._aws, self._iam, self.name = aws, root(aws, "iam"), f"person-{next(NUMBERS)}"
        self._iam.create_user(UserName=self.name)
        self.credentials = sign_in(aws, self.name)
        self.may(*statements)

    def may(self, *statements: dict[str, Any]) -> None:
        """From now on this."""
        if statements:
            policy = {"Version": "2012-10-17", "Statement": list(statements)}
            self._iam.put_user_policy(UserName=self.name, PolicyName="all", PolicyDocument=json.dumps(policy))

    def client(self, service: str) -> Any:
        """A client that asks as this person."""
        return self._aws.client(service, credentials=self.credentials)
