"""Endpoints are parked and projects cleaned up through the installed platform: IAM enforced, the clock moved."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from local_aws import LocalAWS
from tests import proof
from tests.lifecycle_lambdas.executions import commented, registering, training_workshop
from tests.story.least_privilege import after_the_whole_module, counts, denied, reports, unexplained, unneeded
from tests.story.platform import ARTIFACTS, REAL_TIME, Project, as_operator

pytestmark = pytest.mark.slow  # that it decides right, and does it once: tests/lifecycle_lambdas/test_cleaning*.py

HOUR, DAY = 3600, 86400
CLOCK_SPEED = 60.0  # what takes longer is passed over
CLEAN = REAL_TIME + "clean: {versions_after_days: 30, pipelines_after_days: 14}\n"
NIGHTLY = REAL_TIME + "park: {at: nightly, hour: 20, timezone: Europe/Berlin}\n"
IDLE = REAL_TIME + "park: {idle_hours: 3}\n"


@pytest.fixture(scope="module")
def told(platform: LocalAWS) -> Callable[[], list[str]]:
    """All that the topic was told so far."""
    sqs, texts = platform.client("sqs"), list[str]()
    queue = sqs.create_queue(QueueName="watcher")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = platform.client("ssm").get_parameter(Name="/modelyard/topic-arn")["Parameter"]["Value"]
    raw = {"RawMessageDelivery": "true"}
    may = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [may]})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    platform.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=raw)

    def read() -> list[str]:
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            for message in messages:
                texts.append(message["Body"])
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return texts

    return read


def log(platform: LocalAWS) -> str:
    answer = platform.client("logs").filter_log_events(logGroupName="/aws/lambda/modelyard-clean")
    return "\n".join(event["message"].rstrip() for event in answer["events"])[-5000:]


def pass_time(platform: LocalAWS, seconds: float) -> None:
    platform.configure("clock", {"advance": seconds})


@pytest.mark.parametrize(
    ("stage", "stage_file", "seconds"), [("dev", NIGHTLY, DAY), ("feature", IDLE, 4 * HOUR)], ids=["nightly", "idle"]
)
def test_an_endpoint_is_parked_once_people_were_told_so_and_comes_back_with_the_next_approval(
    platform, told, stage, stage_file, seconds
):
    project = Project.create(platform, stage)
    first, second = project.register("first", stage_file), project.register("second")
    project.approve(first)
    project.deployed(first)
    pass_time(platform, HOUR)
    announced = f"{project.endpoint}: will be parked"
    project.until(lambda: any(announced in text for text in told()), "the announcement", lambda: log(platform))
    pass_time(platform, seconds)
    project.gone()
    parked = f"{project.endpoint}: parked"
    project.until(lambda: any(text.startswith(parked) for text in told()), "a message", lambda: log(platform))
    (message,) = [text for text in told() if text.startswith(parked)]
    assert "It cost: price unknown" in message  # local_aws knows no prices
    project.approve(second)
    project.deployed(second)
    project.serves("second")


def trained(project: Project, name: str, stage_file: str = REAL_TIME, tree: str = "") -> tuple[str, list[str]]:
    """A version with a model and an evaluation where pipelines write them; its ARN, and their keys."""
    folder = f"{project.name}/{project.stage}/{project.name}-feature-x/{uuid.uuid4().hex[:12]}"
    evaluation = f"{folder}/evaluate/evaluation/"
    for file in ("report.html", "evaluation.json"):
        project.aws.client("s3").put_object(Bucket=ARTIFACTS, Key=f"{evaluation}{file}", Body=b"1")
    report = f"s3://{ARTIFACTS}/{evaluation}report.html"
    arn = project.register(name, stage_file, folder=f"{folder}/train/job/output", report=report, git__tree=tree or name)
    return arn, [f"{folder}/train/job/output/model.tar.gz", f"{evaluation}report.html", f"{evaluation}evaluation.json"]


def keys(project: Project) -> set[str]:
    pages = project.aws.client("s3").get_paginator("list_objects_v2").paginate(Bucket=ARTIFACTS, Prefix=project.name)
    return {one["Key"] for page in pages for one in page.get("Contents", ())}


def there(project: Project, arn: str) -> bool:
    pages = project.sagemaker.get_paginator("list_model_packages").paginate(ModelPackageGroupName=project.endpoint)
    return arn in {one["ModelPackageArn"] for page in pages for one in page["ModelPackageSummaryList"]}


def lists(project: Project) -> list[dict[str, Any]]:
    """What was written of what would go, or went; the oldest first."""
    found = sorted(key for key in keys(project) if "/feature/cleaning/" in key)
    s3 = project.aws.client("s3")
    return [json.loads(s3.get_object(Bucket=ARTIFACTS, Key=key)["Body"].read()) for key in found]


def test_what_is_old_and_unneeded_goes_a_day_after_people_were_told_and_nothing_else(platform, told):
    name = f"p{uuid.uuid4().hex[:8]}"
    repository = commented(platform.client, {"modelyard:project": name})
    repository.client.create_branch(
        repositoryName=repository.arn.rpartition(":")[2], branchName="feature-here", commitId=repository.first
    )
    feature = project_of(platform, name, "feature", repository.arn)
    dev = project_of(platform, name, "dev", repository.arn)
    tree = "1" * 40
    old, old_keys = trained(feature, "old", tree="0" * 40)
    merged, merged_keys = trained(feature, "merged", tree=tree)
    dev.register("copy", git__tree=tree)
    back, back_keys = trained(feature, "back")
    serving, serving_keys = trained(feature, "serving")
    for version in (back, serving):
        feature.approve(version)
        feature.deployed(version)
    newest, newest_keys = trained(feature, "newest", CLEAN)
    role = training_workshop(platform).role
    tags = [{"Key": f"modelyard:{key}", "Value": value} for key, value in (("project", name), ("stage", "feature"))]
    for branch in ("gone", "here"):
        feature.sagemaker.create_pipeline(
            PipelineName=f"{name}-feature-{branch}-0a1b2c",
            PipelineDefinition=registering(f"feature-{branch}"),
            RoleArn=role,
            Tags=tags,
        )
    before = keys(feature)

    pass_time(platform, 40 * DAY)
    feature.until(lambda: len(lists(feature)) == 1, "a list of what would go", lambda: log(platform))
    (would,) = lists(feature)
    assert not would["removed"]
    assert {one["what"] for one in would["removals"]} >= {old, f"{name}-feature-gone-0a1b2c"}
    assert before <= keys(feature)
    assert there(feature, old)

    pass_time(platform, DAY + HOUR)
    feature.until(lambda: len(lists(feature)) == 2, "a list of what went", lambda: log(platform))
    went = lists(feature)[1]
    assert went["removed"]
    assert {one["what"] for one in went["removals"]} == {one["what"] for one in would["removals"]}
    assert not there(feature, old)
    assert all(there(feature, arn) for arn in (merged, back, serving, newest))
    left = keys(feature)
    assert not left.intersection(old_keys)
    assert left >= {*merged_keys, *back_keys, *serving_keys, *newest_keys}
    names = {
        one["PipelineName"] for one in feature.sagemaker.list_pipelines(PipelineNamePrefix=name)["PipelineSummaries"]
    }
    assert names == {f"{name}-feature-here-0a1b2c"}
    feature.serves("serving")
    feature.reject(serving)
    feature.serves("back")
    assert any(f"{name}: 4 things were cleaned up" in text for text in told())


def project_of(platform: LocalAWS, name: str, stage: str, repository: str) -> Project:
    project = Project(platform, name, stage)
    tags = {"sagemaker:project-name": name, "sagemaker:project-id": f"p-{name}", "modelyard:project": name}
    tags |= {"modelyard:stage": stage, "modelyard:repository": repository}
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    project.sagemaker.create_model_package_group(ModelPackageGroupName=project.endpoint, Tags=listed)
    return project


def test_an_operator_sees_what_would_go_and_is_told_of_a_project_that_is_not_there(platform):
    project = Project.create(platform, "feature")
    version = project.register("first", CLEAN)
    project.approve(version)
    project.deployed(version)

    shown = as_operator(platform, "clean", project.name)
    assert shown.returncode == 0, shown.stderr
    assert "people were" in shown.stdout
    early = as_operator(platform, "clean", project.name, "--remove", "--yes")
    assert early.returncode == 1, early.stdout + early.stderr
    assert there(project, version)
    nobody = as_operator(platform, "clean", "nobody")
    assert nobody.returncode == 2
    assert "knows no endpoint of a project 'nobody'" in nobody.stderr


# --- last: what the function's role was asked in all tests of this module, with IAM enforced


@pytest.fixture
def role(platform, request):
    after_the_whole_module(request)
    return reports(platform, "modelyard-clean-*")


def test_the_function_was_denied_nothing(role):
    assert len(role) == 1
    assert denied(role) == []


def test_without_any_one_of_its_permissions_the_function_would_have_been_denied(role, platform):
    """But for those that no test uses, each with its reason."""
    assert unexplained(role) == []
    assert unneeded(role, "cleaning") == []
    proof.keep("permissions_cleaning", counts(platform, role))
