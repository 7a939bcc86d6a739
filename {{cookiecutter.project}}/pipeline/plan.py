"""What an approval would do, as the platform's plan function says; it is computed where it is executed."""

from __future__ import annotations

import json
from typing import Any

import boto3
from botocore.exceptions import ClientError

from pipeline import InputError
from pipeline.aws import error_code

FUNCTION_PARAMETER = "/modelyard/functions/plan"


def ask(
    aws: boto3.Session, project: str, stage: str, package_arn: str | None, stage_file: str | None
) -> dict[str, Any]:
    """The plan for a version (None: the newest) with a stage file's text (None: the one that the version carries).

    The answer:
        endpoint, package_arn, version: whose plan it is.
        refused: why nothing would be done, one line per fault; or None.
        calls: in order, each {"service", "operation", "summary", "request"} or {"wait": for what}.
        changes, warnings: lines of text.
        hours: instance-hours a month at most; None where they are not what is paid for.
        monthly: {"usd": at most, or None, "why": how that is computed, or why it is unknown}.

    Raises InputError when the platform is not installed, or its function fails.
    """
    request = {"project": project, "stage": stage, "package_arn": package_arn, "stage_file": stage_file}
    function = function_arn(aws)
    answer = aws.client("lambda").invoke(FunctionName=function, Payload=json.dumps(request).encode())
    found = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise InputError(
            f"the platform's plan function failed: {found.get('errorMessage', found)} ({found.get('errorType')}); show "
            f"the administrator its log: aws logs tail /aws/lambda/{function.rpartition(':')[2]}"
        )
    return dict(found)


def function_arn(aws: boto3.Session) -> str:
    """Raises InputError when the platform is not installed."""
    try:
        return str(aws.client("ssm").get_parameter(Name=FUNCTION_PARAMETER)["Parameter"]["Value"])
    except ClientError as error:
        if error_code(error) != "ParameterNotFound":
            raise
        raise InputError(
            f"Modelyard's platform is not installed in this account and {aws.region_name} (there is no SSM parameter "
            f"{FUNCTION_PARAMETER}): without it, approving deploys nothing. An administrator installs it from a "
            "checkout of Modelyard with make install-platform (docs/install.md)"
        ) from None
