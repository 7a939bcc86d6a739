"""Which of AWS's refusals pass by themselves."""

from __future__ import annotations

import pytest
from botocore.retries.standard import ThrottledRetryableChecker

from local_aws.api_calls import throttling
from local_aws.request_checks import service_model
from seed_lambda import aws_calls
from tests.seed_lambda.fakes import refusal

CALLS = {
    "cloudformation": "DescribeStacks",
    "cloudwatch": "DescribeAlarms",
    "codecommit": "GetRepository",
    "s3": "GetObject",
    "sagemaker": "ListTags",
    "scheduler": "GetSchedule",
    "secretsmanager": "GetSecretValue",
    "sqs": "SendMessage",
    "ssm": "GetParameters",
}


def test_the_words_for_too_many_calls_are_botocores() -> None:
    assert set(ThrottledRetryableChecker._THROTTLED_ERROR_CODES) == aws_calls._THROTTLED


@pytest.mark.parametrize("service", CALLS)
def test_each_services_own_word_is_known(service: str) -> None:
    code, _ = throttling(service, service_model(service).operation_model(CALLS[service]))
    assert aws_calls.is_throttled(refusal(code))


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceLimitExceeded", "ValidationException"])
def test_what_will_be_refused_again_does_not_pass(code: str) -> None:
    assert not aws_calls.is_passing(refusal(code))
