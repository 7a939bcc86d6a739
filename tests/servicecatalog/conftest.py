"""Accounts of local_aws with an administrator in each, who runs the installing commands."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import pytest

from lifecycle_lambdas.settings import Settings
from local_aws import LocalAWS
from servicecatalog.account import PORTFOLIO_STACK, STACK, Account

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Administrator:
    """Of one account, which has nobody else's things in it."""

    aws: LocalAWS
    account: str

    @cached_property
    def environment(self) -> dict[str, str]:
        """What points a command at the account."""
        return os.environ | self.aws.environment | {"AWS_ACCESS_KEY_ID": self.account}

    def client(self, service: str) -> Any:
        return self.aws.client(service, account=self.account)

    def run(self, *arguments: str, fails: bool = False, **changed: str | None) -> subprocess.CompletedProcess[str]:
        """python -m servicecatalog, with nobody at the terminal; it must end well, or must not when it `fails`.

        Args:
            changed: variables of the environment; None: not set.
        """
        variables = {name: value for name, value in (self.environment | changed).items() if value is not None}
        done = subprocess.run(
            [sys.executable, "-m", "servicecatalog", *arguments],
            cwd=ROOT,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        return done

    @property
    def stack(self) -> dict[str, Any] | None:
        """DescribeStacks' answer about the platform."""
        stacks = self.client("cloudformation").describe_stacks()["Stacks"]
        return next((stack for stack in stacks if stack["StackName"] == STACK), None)

    @property
    def outputs(self) -> dict[str, str]:
        """Of both stacks."""
        stacks = self.client("cloudformation").describe_stacks()["Stacks"]
        ours = [stack for stack in stacks if stack["StackName"] in (STACK, PORTFOLIO_STACK)]
        return {one["OutputKey"]: one["OutputValue"] for stack in ours for one in stack.get("Outputs", [])}

    @property
    def parameters(self) -> dict[str, str]:
        """What the platform publishes, by name."""
        pages = self.client("ssm").get_paginator("get_parameters_by_path").paginate(Path="/modelyard", Recursive=True)
        return {one["Name"]: one["Value"] for page in pages for one in page["Parameters"]}

    @property
    def status(self) -> str:
        return "none" if self.stack is None else str(self.stack["StackStatus"])

    @property
    def settings(self) -> Settings:
        """What the command line finds."""
        return Settings.from_parameters(self.client("ssm"))


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    """A server of their own: an installed platform looks around every minute, and would disturb other tests."""
    with LocalAWS() as server:
        yield server


def account_of(administrator: Administrator) -> Account:
    """The administrator's account, as the commands look at it."""
    arn = f"arn:aws:iam::{administrator.account}:user/ann"
    account = Account(boto3.Session(region_name="us-east-1"), administrator.account, "us-east-1", arn)
    services = ("cloudformation", "codecommit", "dynamodb", "iam", "kms", "s3", "sagemaker", "servicecatalog", "ssm")
    account.clients.update({service: administrator.client(service) for service in services})
    return account


def new_administrator(aws: LocalAWS) -> Administrator:
    return Administrator(aws, str(random.randint(10**11, 10**12 - 1)))


@pytest.fixture
def administrator(aws: LocalAWS) -> Administrator:
    """Of an account in which nothing is installed."""
    return new_administrator(aws)
