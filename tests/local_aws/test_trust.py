"""Which trust policies let SageMaker assume a role, by the account and the resource that it acts for."""

from __future__ import annotations

from typing import Any

import pytest

from local_aws.permissions.trust import trusts_service

SAGEMAKER = "sagemaker.amazonaws.com"
ACCOUNT = "123456789012"
JOBS = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:training-job"
CONTEXT = {"aws:SourceAccount": ACCOUNT, "aws:SourceArn": f"{JOBS}/churn"}


def trust(condition: Any = None, effect: str = "Allow", principal: Any = None) -> dict[str, Any]:
    statement = {"Effect": effect, "Action": "sts:AssumeRole", "Principal": principal or {"Service": SAGEMAKER}}
    return statement | ({"Condition": condition} if condition else {})


@pytest.mark.parametrize(
    "condition",
    [
        None,
        {"StringEquals": {"aws:SourceAccount": ACCOUNT}},
        {"StringEquals": {"AWS:sourceaccount": ["999999999999", ACCOUNT]}},
        {"ArnLike": {"aws:SourceArn": f"arn:aws:sagemaker:*:{ACCOUNT}:*"}},
        {"ArnEquals": {"aws:SourceArn": f"{JOBS}/*"}, "StringEquals": {"aws:SourceAccount": ACCOUNT}},
        {"StringLike": {"aws:SourceArn": f"{JOBS}/chur?"}},
        {"StringEqualsIgnoreCase": {"aws:SourceArn": f"{JOBS}/CHURN"}},
        {"StringNotEquals": {"aws:SourceAccount": "999999999999"}},
        {"StringEqualsIfExists": {"aws:SourceOrgID": "o-1"}},
        {"StringNotEquals": {"aws:SourceOrgID": "o-1"}},
        {"Null": {"aws:SourceAccount": "false"}},
    ],
)
def test_a_condition_that_holds_lets_sagemaker_in(condition: Any) -> None:
    assert trusts_service({"Statement": [trust(condition)]}, SAGEMAKER, CONTEXT)


@pytest.mark.parametrize(
    "condition",
    [
        {"StringEquals": {"aws:SourceAccount": "999999999999"}},
        {"ArnLike": {"aws:SourceArn": f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:pipeline/*"}},
        {"StringEquals": {"aws:SourceAccount": ACCOUNT, "aws:SourceArn": "another"}},
        {"StringNotEquals": {"aws:SourceAccount": [ACCOUNT, "999999999999"]}},
        {"StringEquals": {"sts:ExternalId": "given to nobody"}},
        {"Null": {"aws:SourceAccount": "true"}},
        {"Bool": {"aws:MultiFactorAuthPresent": "true"}},
        {"StringLike": {"aws:SourceArn": f"{JOBS}/[c]hurn"}},
    ],
)
def test_a_condition_that_does_not_hold_keeps_it_out(condition: Any) -> None:
    assert not trusts_service({"Statement": [trust(condition)]}, SAGEMAKER, CONTEXT)


def test_a_deny_that_holds_counts_more() -> None:
    deny = trust({"StringEquals": {"aws:SourceAccount": ACCOUNT}}, "Deny")
    other = trust({"StringEquals": {"aws:SourceAccount": "999999999999"}}, "Deny")
    assert not trusts_service({"Statement": [trust(), deny]}, SAGEMAKER, CONTEXT)
    assert trusts_service({"Statement": [trust(), other]}, SAGEMAKER, CONTEXT)


@pytest.mark.parametrize("principal", [{"Service": "lambda.amazonaws.com"}, {"AWS": ACCOUNT}, "sagemaker"])
def test_who_is_not_named_is_not_trusted(principal: Any) -> None:
    assert not trusts_service({"Statement": trust(principal=principal)}, SAGEMAKER, CONTEXT)


@pytest.mark.parametrize("principal", ["*", {"Service": ["lambda.amazonaws.com", SAGEMAKER]}])
def test_one_of_several_and_everybody_are_enough(principal: Any) -> None:
    assert trusts_service({"Statement": trust(principal=principal)}, SAGEMAKER, CONTEXT)


@pytest.mark.parametrize("policy", ["no policy", None, {"Statement": ["no statement"]}, {}])
def test_what_is_no_policy_trusts_nobody(policy: Any) -> None:
    assert not trusts_service(policy, SAGEMAKER, CONTEXT)
