"""Whoever's endpoint was parked is told the way to have it back: approving what is approved already is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.template.stubbed_account import Account

ARN = "arn:aws:sagemaker:us-east-1:123456789012"
GROUP = {"ModelPackageGroupName": "churn-dev", "ModelPackageGroupArn": f"{ARN}:model-package-group/churn-dev"}
SAID = (
    "version 3 is approved: its deployment is on its way, or the endpoint may have been parked. To have a parked one "
    "back, reject and approve it again: python -m pipeline reject 3 --stage dev and python -m pipeline approve 3 "
    "--stage dev"
)


def nothing_serves(account: Account) -> None:
    account.stub("sagemaker").add_client_error("describe_endpoint", "ValidationException", "Could not find endpoint")
    account.stub("scheduler").add_client_error("get_schedule", "ResourceNotFoundException")


def a_group(account: Account) -> None:
    created = {"CreationTime": 0, "CreatedBy": {}, "ModelPackageGroupStatus": "Completed"}
    account.stub("sagemaker").add_response(
        "describe_model_package_group", {**GROUP, **created}, {"ModelPackageGroupName": "churn-dev"}
    )


def approved(account: Account, **versions: str) -> None:
    """The group's versions that are approved, the newest first; v3="09": version 3, at nine o'clock."""
    sagemaker = account.stub("sagemaker")
    found = [
        {
            "ModelPackageArn": f"{ARN}:model-package/churn-dev/{name[1:]}",
            "ModelPackageVersion": int(name[1:]),
            "ModelPackageStatus": "Completed",
            "CreationTime": 0,
        }
        for name in versions
    ]
    sagemaker.add_response("list_model_packages", {"ModelPackageSummaryList": found})
    for package, hour in zip(found, versions.values(), strict=True):
        metadata = {"CustomerMetadataProperties": {"approval.at": f"2026-11-20T{hour}:00:00Z"}}
        described = {"ModelPackageName": "x", "ModelPackageStatusDetails": {"ValidationStatuses": []}, **metadata}
        sagemaker.add_response("describe_model_package", {**package, **described})


@pytest.fixture
def command(
    pipeline: SimpleNamespace, account: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs a command in the stubbed account; returns its exit code and what it printed."""
    monkeypatch.setattr(pipeline.aws, "session", lambda _: account)

    def run(*arguments: str) -> tuple[int, str]:
        code = pipeline.cli.main(list(arguments))
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def test_the_status_says_how_a_parked_endpoint_comes_back(account: Account, command: Callable[..., Any]) -> None:
    nothing_serves(account)
    a_group(account)
    approved(account, v3="09")
    assert command("status", "--stage", "dev") == (0, f"there is no endpoint churn-dev, and no schedule\n{SAID}\n")
    nothing_serves(account)
    code, printed = command("status", "--stage", "dev", "--json")
    assert (code, json.loads(printed)["status"]) == (0, "none")


def test_testing_a_parked_endpoint_says_how_it_comes_back(account: Account, command: Callable[..., Any]) -> None:
    nothing_serves(account)
    a_group(account)
    approved(account, v3="09")
    assert command("test-endpoint", "--stage", "dev") == (2, f"error: there is no endpoint churn-dev: {SAID}\n")
    nothing_serves(account)
    code, printed = command("test-endpoint", "--endpoint", "other-dev")
    assert (code, "no endpoint other-dev: approve a version, or name another" in printed) == (2, True)


def test_of_several_versions_it_is_the_one_that_was_approved_last(pipeline: SimpleNamespace, account: Account) -> None:
    a_group(account)
    approved(account, v4="08", v3="09", v2="07")
    assert pipeline.endpoint.how_it_comes_back(account, "churn", "dev") == SAID


def test_where_nothing_is_approved_there_is_nothing_to_say(pipeline: SimpleNamespace, account: Account) -> None:
    a_group(account)
    approved(account)
    assert pipeline.endpoint.how_it_comes_back(account, "churn", "dev") is None
    account.stub("sagemaker").add_client_error(
        "describe_model_package_group", "ValidationException", "ModelPackageGroup churn-dev does not exist."
    )
    assert pipeline.endpoint.how_it_comes_back(account, "churn", "dev") is None


def test_whoever_may_not_look_at_versions_still_has_the_status(pipeline: SimpleNamespace, account: Account) -> None:
    sagemaker = account.stub("sagemaker")
    sagemaker.add_client_error("describe_model_package_group", "AccessDeniedException", "not authorized")
    assert pipeline.endpoint.how_it_comes_back(account, "churn", "dev") is None
    sagemaker.add_client_error("describe_model_package_group", "InternalFailure", "so")
    with pytest.raises(ClientError, match="so"):
        pipeline.endpoint.how_it_comes_back(account, "churn", "dev")
