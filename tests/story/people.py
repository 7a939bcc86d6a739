"""Who plays in the story where IAM is enforced: an administrator, and a data scientist with a project's policies.

What the owner of an account does before them is done by plain calls, as the account's root.
"""

from __future__ import annotations

from dataclasses import dataclass

from local_aws import LocalAWS, control

ADMINISTRATOR = "administrator"
ADMINISTRATOR_ACCESS = "arn:aws:iam::aws:policy/AdministratorAccess"
DATA_SCIENTISTS = "arn:aws:iam:::user/*-data-scientist"
"""Whom the portfolio is for, as a pattern of Service Catalog's."""
AWS = LocalAWS | control.Server


@dataclass(frozen=True)
class People:
    """Of one project: the variables with which each calls AWS, and with which the data scientist's git signs in."""

    aws: AWS
    project: str
    administrator: dict[str, str]
    data_scientist: dict[str, str]

    def welcome(self) -> None:
        """What an administrator does for somebody who is to create projects, once the platform is there."""
        self._attach(f"modelyard-project-creator-{self._region}")

    def admit(self) -> None:
        """What an administrator does once the project is there: the data scientist works on it, asks for plans, and
        approves its versions.
        """
        for who in ("reader", "developer", "approver"):
            self._attach(f"modelyard-{self.project}-{who}")
        self._attach(f"modelyard-planner-{self._region}")

    def release(self) -> None:
        """What an administrator does before the project is deleted: its policies go, and none that is in use can."""
        iam = self.aws.client("iam", credentials=self.administrator)
        for policy in iam.list_attached_user_policies(UserName=data_scientist(self.project))["AttachedPolicies"]:
            if policy["PolicyName"].startswith(f"modelyard-{self.project}-"):
                iam.detach_user_policy(UserName=data_scientist(self.project), PolicyArn=policy["PolicyArn"])

    @property
    def _region(self) -> str:
        return self.administrator["AWS_REGION"]

    def _attach(self, policy: str) -> None:
        """A managed policy of this account, wherever its path lies."""
        iam = self.aws.client("iam", credentials=self.administrator)
        pages = iam.get_paginator("list_policies").paginate(Scope="Local")
        (arn,) = [one["Arn"] for page in pages for one in page["Policies"] if one["PolicyName"] == policy]
        iam.attach_user_policy(UserName=data_scientist(self.project), PolicyArn=arn)


def data_scientist(project: str) -> str:
    """The user's name."""
    return f"{project}-data-scientist"


def prepare(aws: AWS, project: str) -> People:
    """Two users. Nothing of Modelyard is installed yet; `welcome` follows its installation."""
    iam = aws.client("iam")
    users = [user["UserName"] for page in iam.get_paginator("list_users").paginate() for user in page["Users"]]
    if ADMINISTRATOR not in users:
        iam.create_user(UserName=ADMINISTRATOR)
        iam.attach_user_policy(UserName=ADMINISTRATOR, PolicyArn=ADMINISTRATOR_ACCESS)
    iam.create_user(UserName=data_scientist(project))
    return People(
        aws,
        project,
        _signed_in(aws, ADMINISTRATOR),
        _signed_in(aws, data_scientist(project)) | aws.git_environment,
    )


def _signed_in(aws: AWS, user: str) -> dict[str, str]:
    key = aws.client("iam").create_access_key(UserName=user)["AccessKey"]
    return aws.environment | {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
