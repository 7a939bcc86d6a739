"""The events of jobs: each change of their state, as EventBridge is told of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.local_aws.job_requests import Workshop
from tests.local_aws.model_archives import make_model
from tests.local_aws.test_transform_jobs import transform_request

TAGS = [{"Key": "modelyard:stage", "Value": "prod"}]
DATES = ("CreationTime", "LastModifiedTime", "{}StartTime", "{}EndTime")


@pytest.fixture(scope="module")
def queue(workshop: Workshop) -> Iterator[str]:
    """A queue that is sent the state changes of all jobs."""
    sqs, events = workshop.aws.client("sqs"), workshop.aws.client("events")
    name = workshop.name()
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {"source": ["aws.sagemaker"], "detail-type": [{"suffix": "Job State Change"}]}
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": arn}])
    yield url
    events.remove_targets(Rule=name, Ids=["1"])
    events.delete_rule(Name=name)
    sqs.delete_queue(QueueUrl=url)


def told(workshop: Workshop, queue: str, kind: str, job: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a job, to that of its end."""
    sqs = workshop.aws.client("sqs")
    found: list[dict[str, Any]] = []
    deadline = time.monotonic() + 20
    while not (found and found[-1]["detail"][f"{kind}JobStatus"] == job[f"{kind}JobStatus"]):
        assert time.monotonic() < deadline, found
        answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        for message in answer.get("Messages", []):
            event = json.loads(message["Body"])
            if event["resources"] == [job[f"{kind}JobArn"]]:
                found.append(event)
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return found


def check(events: list[dict[str, Any]], kind: str, job: dict[str, Any]) -> None:
    """What is said last is what Describe answers, with the tags as a map and times in milliseconds."""
    for event in events:
        assert (event["source"], event["detail-type"]) == ("aws.sagemaker", f"SageMaker {kind} Job State Change")
        assert event["detail"]["Tags"] == {"modelyard:stage": "prod"}
    last = events[-1]["detail"]
    assert last[f"{kind}JobName"] == job[f"{kind}JobName"]
    for name in (date.format(kind) for date in DATES):
        if name in job:
            assert last[name] == round(job[name].timestamp() * 1000)


def test_a_transform_jobs_changes_of_state_are_events(workshop, queue):
    uri = workshop.put(f"{workshop.name()}/a.csv", "a\n")
    request = transform_request(workshop, make_model(workshop), uri, Tags=TAGS)
    workshop.sagemaker.create_transform_job(**request)
    job = workshop.ended("Transform", request["TransformJobName"])
    events = told(workshop, queue, "Transform", job)
    assert [event["detail"]["TransformJobStatus"] for event in events] == ["InProgress", "Completed"]
    assert events[-1]["detail"]["ModelName"] == request["ModelName"]
    check(events, "Transform", job)


def test_a_failed_transform_job_says_why(workshop, queue):
    request = transform_request(workshop, make_model(workshop), workshop.uri("nothing/here"), Tags=TAGS)
    workshop.sagemaker.create_transform_job(**request)
    job = workshop.ended("Transform", request["TransformJobName"])
    events = told(workshop, queue, "Transform", job)
    assert events[-1]["detail"]["FailureReason"] == job["FailureReason"]


def test_a_processing_jobs_changes_of_state_are_events(workshop, queue):
    job = workshop.process("", Tags=TAGS)
    events = told(workshop, queue, "Processing", job)
    assert [event["detail"]["ProcessingJobStatus"] for event in events] == ["InProgress", "Completed"]
    check(events, "Processing", job)


def test_a_training_job_tells_of_each_secondary_status(workshop, queue):
    job = workshop.train({"train.py": ""}, Tags=TAGS)
    events = told(workshop, queue, "Training", job)
    assert [event["detail"]["SecondaryStatus"] for event in events] == [
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    (first, *_) = events[-1]["detail"]["SecondaryStatusTransitions"]
    assert first["StartTime"] == round(job["SecondaryStatusTransitions"][0]["StartTime"].timestamp() * 1000)
    check(events, "Training", job)
