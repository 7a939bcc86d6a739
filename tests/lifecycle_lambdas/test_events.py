"""What a message of the queue asks for: AWS's documented events, and what is broken or not ours."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from lifecycle_lambdas import events
from lifecycle_lambdas.events import BrokenEvent, LookAt, LookAtMany, Removal, VersionChanged, parse

ARN = "arn:aws:sagemaker:us-east-2:111122223333:model-package/mygroup/2"
# SageMaker developer guide, "Automating Amazon SageMaker AI with Amazon EventBridge", without its errors of syntax
VERSION = {
    "version": "0",
    "id": "844e2571-85d4-695f-b930-0153b71dcb42",
    "detail-type": "SageMaker Model Package State Change",
    "source": "aws.sagemaker",
    "account": "111122223333",
    "time": "2021-02-24T17:00:14Z",
    "region": "us-east-2",
    "resources": [ARN],
    "detail": {
        "ModelPackageGroupName": "mygroup",
        "ModelPackageVersion": 2,
        "ModelPackageArn": ARN,
        "CreationTime": "2021-02-24T16:00:14Z",
        "InferenceSpecification": {
            "Containers": [
                {
                    "Image": "257758044811.dkr.ecr.us-east-2.amazonaws.com/sagemaker-xgboost:1.0-1-cpu-py3",
                    "ImageDigest": "sha256:4dc8",
                    "ModelDataUrl": "s3://b/output/model.tar.gz",
                }
            ],
            "SupportedContentTypes": ["text/csv"],
            "SupportedResponseMIMETypes": ["text/csv"],
        },
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
        "CertifyForMarketplace": False,
        "ModelApprovalStatus": "Rejected",
        "MetadataProperties": {
            "GeneratedBy": "arn:aws:sagemaker:us-east-2:111122223333:pipeline/p/execution/4r83jejmhorv"
        },
        "ModelLifeCycle": {"Stage": "Development", "StageStatus": "Approved", "StageDescription": "..."},
        "UpdatedModelPackageFields": ["ModelLifeCycle"],
        "LastModifiedTime": "2021-02-24T17:00:14Z",
    },
}
ENDPOINT_DETAIL = {
    "EndpointName": "MyEndpoint",
    "EndpointArn": "arn:aws:sagemaker:us-west-2:111122223333:endpoint/myendpoint",
    "EndpointConfigName": "MyEndpointConfig",
    "ProductionVariants": [{"DesiredWeight": 1.0, "DesiredInstanceCount": 1.0}],
    "EndpointStatus": "IN_SERVICE",
    "CreationTime": 1592411992203.0,
    "LastModifiedTime": 1592411994287.0,
    "Tags": {},
}
# CloudWatch user guide, "Alarm events and EventBridge"
ALARM_DETAIL = {
    "alarmName": "churn-prod-7-rollback-errors",
    "configuration": {"description": "...", "metrics": []},
    "previousState": {"reason": "...", "timestamp": "2019-10-02T17:03:40.000+0000", "value": "OK"},
    "state": {"reason": "Threshold Crossed: ...", "timestamp": "2019-10-02T17:04:40.989+0000", "value": "ALARM"},
}


def version(**detail: Any) -> str:
    """The documented event with other details; None takes one out."""
    event = copy.deepcopy(VERSION)
    kept = event["detail"] | detail  # type: ignore[operator]
    event["detail"] = {name: value for name, value in kept.items() if value is not None}
    return json.dumps(event)


def event(source: str, kind: str, detail: Any) -> str:
    return json.dumps({"version": "0", "id": "d292", "source": source, "detail-type": kind, "detail": detail})


def test_a_change_of_something_else_is_no_change_of_the_approval():
    assert parse(json.dumps(VERSION)) == VersionChanged(
        ARN, "mygroup", "Rejected", datetime(2021, 2, 24, 17, 0, 14, tzinfo=UTC), approval_changed=False
    )


@pytest.mark.parametrize(
    ("fields", "changed"),
    [
        (["ModelApprovalStatus"], True),
        (["ApprovalDescription", "ModelApprovalStatus"], True),
        (["CustomerMetadataProperties"], False),
        ([], False),
        (None, None),
    ],
)
def test_whether_the_approval_changed_is_what_the_event_says(fields, changed):
    event = parse(version(UpdatedModelPackageFields=fields))
    assert isinstance(event, VersionChanged)
    assert event.approval_changed is changed


@pytest.mark.parametrize(
    ("given", "at"),
    [
        ("2021-02-24T17:00:14Z", "2021-02-24T17:00:14+00:00"),
        ("2021-02-24T17:00:14.987Z", "2021-02-24T17:00:14+00:00"),
        ("2021-02-24T18:00:14+01:00", "2021-02-24T17:00:14+00:00"),
        (None, "2021-02-24T16:00:14+00:00"),
    ],
)
def test_the_time_is_the_last_change_or_the_creation_in_whole_seconds_of_utc(given, at):
    event = parse(version(LastModifiedTime=given))
    assert isinstance(event, VersionChanged)
    assert event.at.isoformat() == at


def test_packages_without_a_group_are_nobodys():
    assert parse(version(ModelPackageGroupName=None, ModelPackageVersion=None)) is None


@pytest.mark.parametrize(
    ("detail", "fault"),
    [
        ({"ModelPackageArn": None}, "lacks 'ModelPackageArn'"),
        ({"ModelPackageArn": "arn:aws:sagemaker:us-east-2:111122223333:model-package/mygroup"}, "not the ARN"),
        ({"ModelPackageGroupName": "another"}, "not a version of its ModelPackageGroupName another"),
        ({"ModelApprovalStatus": "Perhaps"}, "'Perhaps' is none of"),
        ({"ModelApprovalStatus": None}, "lacks 'ModelApprovalStatus'"),
        ({"LastModifiedTime": "yesterday"}, "yesterday"),
        ({"LastModifiedTime": "2021-02-24T17:00:14"}, "no time zone"),
        ({"LastModifiedTime": 1592411994287}, "fromisoformat"),
    ],
)
def test_a_broken_event_of_a_version_says_what_is_wrong(detail, fault):
    with pytest.raises(BrokenEvent, match=fault):
        parse(version(**detail))


@pytest.mark.parametrize("kind", ["SageMaker Endpoint State Change", "SageMaker Endpoint Deployment State Change"])
def test_an_endpoints_change_is_a_look_at_it(kind):
    assert parse(event("aws.sagemaker", kind, ENDPOINT_DETAIL)) == LookAt("MyEndpoint")


@pytest.mark.parametrize("detail", [{}, [], None, {"EndpointName": 7}, {"EndpointName": None}])
def test_an_endpoints_change_without_its_name_is_broken(detail):
    with pytest.raises(BrokenEvent, match="SageMaker Endpoint State Change"):
        parse(event("aws.sagemaker", "SageMaker Endpoint State Change", detail))


@pytest.mark.parametrize(
    ("alarm", "endpoint"),
    [
        ("churn-prod-7-rollback-errors", "churn-prod"),
        ("churn-prod-12-rollback-latency", "churn-prod"),
        ("churn-prod-7-abort", "churn-prod"),
        ("churn-prod-errors", "churn-prod"),
        ("churn-dev-prod-custom", "churn-dev-prod"),
        ("churn-dev-7-prod-7-abort", "churn-dev-7-prod"),
        ("churn-prod", None),
        ("churn-prod-7", None),
        ("churn-prod-07-abort", None),
        ("churn-prod-errors-mine", None),
        ("churn-production-errors", None),
        ("orders-queue-errors", None),
    ],
)
def test_an_alarm_is_its_endpoints_by_its_whole_name(alarm, endpoint):
    body = event("aws.cloudwatch", "CloudWatch Alarm State Change", ALARM_DETAIL | {"alarmName": alarm})
    assert parse(body) == (None if endpoint is None else LookAt(endpoint))


def test_a_removal_says_who_asks_for_it_and_why():
    body = '{"look": "remove", "endpoint": "churn-dev", "by": "arn:aws:x", "why": "project churn is being deleted"}'
    assert parse(body) == Removal("churn-dev", "arn:aws:x", "project churn is being deleted")


def test_schedules_and_our_own_messages_are_looks():
    assert parse('{"look": "under-way"}') == LookAtMany("under-way")
    assert parse('{"look": "everything"}') == LookAtMany("everything")
    for look in (LookAt("churn-prod"), LookAt("churn-prod", missed=True)):
        assert parse(events.message(look)) == look


@pytest.mark.parametrize(
    "body",
    [
        '{"look": "sideways"}',
        '{"look": "endpoint"}',
        '{"look": "endpoint", "endpoint": 7}',
        '{"look": ["a"]}',
        '{"look": "remove", "endpoint": "churn-dev"}',
        '{"look": "remove", "endpoint": "churn-dev", "by": "arn:aws:x", "why": ""}',
        '{"look": "remove", "endpoint": 7, "by": "arn:aws:x", "why": "y"}',
    ],
)
def test_an_unknown_look_is_broken_and_told_what_there_is(body):
    with pytest.raises(BrokenEvent, match='"under-way", "everything"'):
        parse(body)


@pytest.mark.parametrize("body", ["", "look", "[]", "null", '"look"', "{"])
def test_what_is_no_json_object_is_broken(body):
    with pytest.raises(BrokenEvent, match=r"not JSON|not a JSON object"):
        parse(body)


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"Records": []}',
        event("aws.s3", "Object Created", {}),
        event("aws.sagemaker", "SageMaker Training Job State Change", {}),
        event("aws.cloudwatch", "SageMaker Endpoint State Change", {}),
        '{"source": ["aws.sagemaker"], "detail-type": {}}',
    ],
)
def test_events_of_other_kinds_are_not_ours(body):
    assert parse(body) is None
