"""What the installed platform is called: from a function's environment, or from SSM parameters for the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

PARAMETER_PATH = "/modelyard/"


class SettingsError(Exception):
    """The platform's settings are not there or not whole; the message says what to do."""


@dataclass(frozen=True)
class Settings:
    """One platform of one account and Region.

    Args:
        ledger_table: DynamoDB table, see ledger.py.
        queue_url: the SQS queue in front of the function `deploy`.
        topic_arn: the SNS topic that whoever watches is subscribed to.
        model_role_path: the path below which all model execution roles lie, such as /modelyard/models/.
        default_model_role: name of the one that a group without the tag modelyard:model-role gets.
        batch_function_arn: the function that EventBridge Scheduler calls for batch stages.
        schedule_role_arn: with which it calls.
        schedule_group: of those schedules.
        tests_queue_url: the SQS queue in front of the function `endpoint-tests`.
        webhook_secret_arn: Secrets Manager secret with the chat's webhook URL; empty: no chat.
    """

    ledger_table: str
    queue_url: str
    topic_arn: str
    model_role_path: str
    default_model_role: str
    batch_function_arn: str
    schedule_role_arn: str
    schedule_group: str
    tests_queue_url: str = ""
    webhook_secret_arn: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """LEDGER_TABLE, QUEUE_URL, ... Raises SettingsError naming the variables that are missing."""
        values = {name: environment.get(name.upper(), "") for name in _NAMES}
        return cls._checked(values, "environment variables", str.upper, "the stack's template sets them")

    @classmethod
    def from_parameters(cls, ssm: Any) -> Settings:
        """/modelyard/ledger-table, /modelyard/queue-url, ...

        Args:
            ssm: a boto3 client.

        Raises:
            SettingsError: naming the parameters that are missing.
        """
        pages = ssm.get_paginator("get_parameters_by_path").paginate(Path=PARAMETER_PATH)
        found = {parameter["Name"]: parameter["Value"] for page in pages for parameter in page["Parameters"]}
        values = {name: found.get(_parameter(name), "") for name in _NAMES}
        return cls._checked(
            values,
            "SSM parameters",
            _parameter,
            "install the platform in this account and Region: make install-platform",
        )

    @classmethod
    def _checked(cls, values: dict[str, str], source: str, called: Any, remedy: str) -> Settings:
        if missing := [called(name) for name in _NAMES if not values[name] and name != "webhook_secret_arn"]:
            raise SettingsError(f"the {source} {', '.join(missing)} are not set; {remedy}")
        return cls(**values)


def _parameter(name: str) -> str:
    return PARAMETER_PATH + name.replace("_", "-")


_NAMES = tuple(field.name for field in fields(Settings))
