"""Pipelines and their versions: what each operation answers and refuses."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from local_aws.calls import Call, ServiceError
from local_aws.store import Scope, Store
from tests.local_aws.pipeline_fakes import CALL, ROLE, Service, definition, fail, processing
from tests.local_aws.waiting import wait_for

ARN = "arn:aws:sagemaker:eu-central-1:123456789012:pipeline/churn"
ONE = definition(processing("One"))
TWO = definition(processing("Two"))
TOKEN = "t" * 32


@pytest.fixture
def service() -> Service:
    return Service()


def refused(service: Service, operation: str, **request: Any) -> tuple[str, str]:
    with pytest.raises(ServiceError) as error:
        service.call(operation, **request)
    return error.value.code, error.value.message


def create_request(**changes: Any) -> dict[str, Any]:
    return {"PipelineName": "new", "RoleArn": ROLE, "PipelineDefinition": json.dumps(ONE)} | changes


IN_S3 = {"Bucket": "bucket", "ObjectKey": "d.json"}
ELSEWHERE = "arn:aws:iam::999999999999:role/pipeline"
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("CreatePipeline", create_request(PipelineName="churn"), "ValidationException", "with name (churn) already exists"),
    ("CreatePipeline", create_request(PipelineName="a b"), "ValidationException", "'a b' at 'pipelineName'"),
    ("CreatePipeline", create_request(PipelineDefinition="{"), "ValidationException", "Unable to parse pipeline"),
    ("CreatePipeline", create_request(PipelineDefinitionS3Location=IN_S3), "ValidationException", "not both"),
    (
        "CreatePipeline",
        {"PipelineName": "new", "RoleArn": ROLE},
        "ValidationException",
        "Give either PipelineDefinition",
    ),
    (
        "CreatePipeline",
        {"PipelineName": "new", "RoleArn": ROLE, "PipelineDefinitionS3Location": IN_S3},
        "ValidationException",
        "PipelineDefinitionS3Location s3://bucket/d.json cannot be read: NoSuchKey",
    ),
    (
        "CreatePipeline",
        create_request(RoleArn=f"{ROLE}-not"),
        "ValidationException",
        f"Could not assume role {ROLE}-not. Please ensure that the role exists",
    ),
    ("CreatePipeline", create_request(RoleArn=ELSEWHERE), "ValidationException", "Cross-account pass role"),
    (
        "CreatePipeline",
        create_request(ParallelismConfiguration={"MaxParallelExecutionSteps": 0}),
        "ValidationException",
        "maxParallelExecutionSteps",
    ),
    ("UpdatePipeline", {"PipelineName": "none"}, "ResourceNotFound", "pipeline/none' does not exist"),
    ("UpdatePipeline", {"PipelineName": "churn", "PipelineDefinition": "{}"}, "ValidationException", "Version must be"),
    (
        "UpdatePipeline",
        {"PipelineName": "churn", "RoleArn": f"{ROLE}-not"},
        "ValidationException",
        "Please ensure that the role exists",
    ),
    ("DescribePipeline", {"PipelineName": "none"}, "ResourceNotFound", "pipeline/none' does not exist"),
    ("DescribePipeline", {"PipelineName": ARN.replace("central", "west")}, "ResourceNotFound", "eu-west-1"),
    (
        "DescribePipeline",
        {"PipelineName": "churn", "PipelineVersionId": 2},
        "ResourceNotFound",
        "no version 2; its latest",
    ),
    ("DeletePipeline", {"PipelineName": "none"}, "ResourceNotFound", "pipeline/none' does not exist"),
    ("ListPipelineVersions", {"PipelineName": "none"}, "ResourceNotFound", "pipeline/none' does not exist"),
    ("ListPipelineExecutions", {"PipelineName": "none"}, "ResourceNotFound", "pipeline/none' does not exist"),
    ("ListPipelines", {"NextToken": "x"}, "ValidationException", "NextToken"),
    ("ListPipelines", {"SortBy": "Age"}, "ValidationException", "enum value set: [Name, CreationTime]"),
    ("StartPipelineExecution", {"PipelineName": "none"}, "ResourceNotFound", "pipeline/none' does not exist"),
    ("StartPipelineExecution", {"PipelineName": "churn", "PipelineVersionId": 9}, "ResourceNotFound", "no version 9"),
    (
        "StartPipelineExecution",
        {"PipelineName": "churn", "PipelineParameters": [{"Name": "X", "Value": "1"}]},
        "ValidationException",
        "Parameter 'X' is not in the pipeline definition; its parameters are: none.",
    ),
    (
        "StartPipelineExecution",
        {"PipelineName": "churn", "SelectiveExecutionConfig": {"SelectedSteps": [{"StepName": "One"}]}},
        "ValidationException",
        "SelectiveExecutionConfig is not supported by local_aws",
    ),
    (
        "StartPipelineExecution",
        {"PipelineName": "churn", "MlflowExperimentName": "x"},
        "ValidationException",
        "MlflowExperimentName is not supported by local_aws",
    ),
]


@pytest.mark.parametrize(("operation", "request_", "code", "message"), REFUSED)
def test_a_request_is_refused(
    service: Service, operation: str, request_: dict[str, Any], code: str, message: str
) -> None:
    service.create(ONE)
    got = refused(service, operation, **request_)
    assert got[0] == code
    assert message in got[1]
    assert [item["PipelineName"] for item in service.call("ListPipelines")["PipelineSummaries"]] == ["churn"]
    assert service.call("ListPipelineExecutions", PipelineName="churn")["PipelineExecutionSummaries"] == []


def test_a_pipeline_is_described_as_it_was_created(service: Service) -> None:
    service.create(ONE, PipelineDescription="d", ParallelismConfiguration={"MaxParallelExecutionSteps": 2})
    for name in ("churn", ARN):
        described = service.call("DescribePipeline", PipelineName=name)
        assert json.loads(described.pop("PipelineDefinition")) == ONE
        assert described.pop("CreationTime") == described.pop("LastModifiedTime")
        assert described == {
            "PipelineArn": ARN,
            "PipelineName": "churn",
            "PipelineDisplayName": "churn",
            "PipelineDescription": "d",
            "PipelineStatus": "Active",
            "RoleArn": ROLE,
            "ParallelismConfiguration": {"MaxParallelExecutionSteps": 2},
            "CreatedBy": CALL.user_context,
            "LastModifiedBy": CALL.user_context,
        }


def test_a_definition_may_come_from_s3(service: Service) -> None:
    service.loopback.objects["s3://bucket/d.json"] = json.dumps(TWO)
    service.call("CreatePipeline", PipelineName="churn", RoleArn=ROLE, PipelineDefinitionS3Location=IN_S3)
    assert json.loads(service.call("DescribePipeline", PipelineName="churn")["PipelineDefinition"]) == TWO


def test_a_definition_from_s3_is_at_most_1_mib(service: Service) -> None:
    service.loopback.objects["s3://bucket/d.json"] = json.dumps(TWO) + " " * 1024 * 1024
    code, message = refused(
        service, "CreatePipeline", PipelineName="churn", RoleArn=ROLE, PipelineDefinitionS3Location=IN_S3
    )
    assert (code, "is larger than 1048576 bytes" in message) == ("ValidationException", True)


def test_an_update_changes_what_is_given_and_makes_a_version(service: Service) -> None:
    service.create(ONE, PipelineDescription="first")
    answer = service.call("UpdatePipeline", PipelineName="churn", PipelineDefinition=json.dumps(TWO))
    assert answer == {"PipelineArn": ARN, "PipelineVersionId": 2}
    assert service.call("UpdatePipeline", PipelineName="churn", PipelineDescription="third")["PipelineVersionId"] == 3

    def version(**which: Any) -> tuple[Any, str]:
        described = service.call("DescribePipeline", PipelineName="churn", **which)
        return json.loads(described["PipelineDefinition"]), described["PipelineDescription"]

    assert version() == (TWO, "third")
    assert version(PipelineVersionId=2) == (TWO, "first")
    assert version(PipelineVersionId=1) == (ONE, "first")


def test_versions_are_listed_newest_first_with_their_last_execution(service: Service) -> None:
    service.create(ONE)
    service.call("UpdatePipeline", PipelineName="churn", PipelineDefinition=json.dumps(TWO))
    arn = service.start(PipelineVersionId=1)
    service.ended(arn)
    versions = service.call("ListPipelineVersions", PipelineName="churn")["PipelineVersionSummaries"]
    assert [version["PipelineVersionId"] for version in versions] == [2, 1]
    assert [version.get("LastExecutionPipelineExecutionArn") for version in versions] == [None, arn]
    ascending = service.call("ListPipelineVersions", PipelineName=ARN, SortOrder="Ascending", MaxResults=1)
    assert [version["PipelineVersionId"] for version in ascending["PipelineVersionSummaries"]] == [1]
    assert "NextToken" in ascending


def names(service: Service, **request: Any) -> list[str]:
    return [item["PipelineName"] for item in service.call("ListPipelines", **request)["PipelineSummaries"]]


def test_pipelines_are_listed_newest_first_and_by_prefix(service: Service) -> None:
    for name in ("b1", "a2", "b3"):
        service.create(ONE, name)
    assert names(service) == ["b3", "a2", "b1"]
    assert names(service, SortOrder="Ascending") == ["b1", "a2", "b3"]
    assert names(service, SortBy="Name", SortOrder="Ascending") == ["a2", "b1", "b3"]
    assert names(service, PipelineNamePrefix="b") == ["b3", "b1"]
    moment = service.call("DescribePipeline", PipelineName="a2")["CreationTime"]
    assert names(service, CreatedAfter=moment) == ["b3"]
    assert names(service, CreatedBefore=moment) == ["b1"]
    first = service.call("ListPipelines", MaxResults=2)
    assert names(service, MaxResults=2, NextToken=first["NextToken"]) == ["b1"]


def test_a_summary_tells_the_last_execution(service: Service) -> None:
    service.create(ONE)
    assert "LastExecutionTime" not in service.call("ListPipelines")["PipelineSummaries"][0]
    service.ended(service.start())
    summary = service.call("ListPipelines")["PipelineSummaries"][0]
    assert summary["LastExecutionTime"] == service.call("DescribePipeline", PipelineName="churn")["LastRunTime"]


def test_executions_are_listed_newest_first_with_their_failure(service: Service) -> None:
    service.create(definition(fail("No", "too bad")))
    arns = [service.start(PipelineExecutionDisplayName=f"run-{number}") for number in range(3)]
    for arn in arns:
        service.ended(arn)
    listed = service.call("ListPipelineExecutions", PipelineName="churn")["PipelineExecutionSummaries"]
    assert [item["PipelineExecutionArn"] for item in listed] == arns[::-1]
    assert listed[0] == {
        "PipelineExecutionArn": arns[2],
        "PipelineExecutionDisplayName": "run-2",
        "PipelineExecutionStatus": "Failed",
        "PipelineExecutionFailureReason": "too bad",
        "StartTime": service.describe(arns[2])["CreationTime"],
    }
    by_arn = service.call(
        "ListPipelineExecutions", PipelineName=ARN, SortBy="PipelineExecutionArn", SortOrder="Ascending"
    )
    assert [item["PipelineExecutionArn"] for item in by_arn["PipelineExecutionSummaries"]] == sorted(arns)


def test_a_pipeline_with_a_running_execution_is_not_deleted(service: Service) -> None:
    service.create(ONE)
    release = threading.Event()
    service.jobs.script["One"] = [release]
    arn = service.start()
    code, message = refused(service, "DeletePipeline", PipelineName="churn")
    assert code == "ConflictException"
    assert f"has an execution that is Executing: {arn}" in message
    release.set()
    service.ended(arn)
    assert service.call("DeletePipeline", PipelineName="churn") == {"PipelineArn": ARN}


def test_deleting_a_pipeline_deletes_its_versions_executions_tags_and_cached_results(service: Service) -> None:
    cached = definition(processing("One", CacheConfig={"Enabled": True}))
    service.create(cached, Tags=[{"Key": "k", "Value": "v"}])
    arn = service.start()
    service.ended(arn)
    service.call("DeletePipeline", PipelineName="churn")
    assert refused(service, "DescribePipelineExecution", PipelineExecutionArn=arn)[0] == "ResourceNotFound"
    assert refused(service, "ListTags", ResourceArn=ARN)[0] == "ResourceNotFound"
    again = service.run(cached)
    assert again["PipelineVersionId"] == 1
    assert "CacheHitResult" not in again["Steps"]["One"]
    assert service.call("ListTags", ResourceArn=ARN)["Tags"] == []


def test_a_pipelines_tags_are_its_own(service: Service) -> None:
    service.create(ONE, Tags=[{"Key": "k", "Value": "v"}])
    assert service.call("ListTags", ResourceArn=ARN)["Tags"] == [{"Key": "k", "Value": "v"}]
    assert refused(service, "ListTags", ResourceArn=ARN.replace("eu-central", "eu-west"))[0] == "ResourceNotFound"


def test_bad_tags_leave_no_pipeline_behind(service: Service) -> None:
    code, _ = refused(service, "CreatePipeline", **create_request(Tags=[{"Key": "aws:x", "Value": "y"}]))
    assert code == "ValidationException"
    assert service.call("ListPipelines")["PipelineSummaries"] == []


@pytest.mark.parametrize("order", ["Ascending", "Descending"])
def test_every_pipeline_is_listed_though_those_of_the_page_before_are_deleted(service: Service, order: str) -> None:
    for number in range(7):
        service.create(ONE, name=f"p{number}")
    page: dict[str, Any] = {"NextToken": None}
    deleted = []
    while "NextToken" in page:
        token: dict[str, Any] = {"NextToken": page["NextToken"]} if page["NextToken"] else {}
        page = service.call("ListPipelines", MaxResults=2, SortOrder=order, **token)
        for item in page["PipelineSummaries"]:
            deleted.append(item["PipelineName"])
            service.call("DeletePipeline", PipelineName=item["PipelineName"])
    assert sorted(deleted) == [f"p{number}" for number in range(7)]


@pytest.mark.parametrize("operation", ["StartPipelineExecution", "UpdatePipeline"])
def test_a_pipeline_deleted_and_made_anew_meanwhile_stays_the_new_one(service: Service, operation: str) -> None:
    service.create(ONE)
    service.call("UpdatePipeline", PipelineName="churn", PipelineDescription="old", RoleArn=ROLE)
    look_up = service.loopback.get_role

    def while_iam_answers(RoleName: str) -> dict[str, Any]:
        service.loopback.get_role = look_up  # type: ignore[method-assign]
        service.call("DeletePipeline", PipelineName="churn")
        service.create(TWO)
        service.call("UpdatePipeline", PipelineName="churn", PipelineDescription="new")
        return look_up(RoleName)

    service.loopback.get_role = while_iam_answers  # type: ignore[method-assign]
    more: dict[str, Any] = {"RoleArn": ROLE} if operation == "UpdatePipeline" else {}
    service.call(operation, PipelineName="churn", **more)
    wait_for(lambda: not service.executions.busy)
    described = service.call("DescribePipeline", PipelineName="churn")
    assert (described["PipelineDescription"], json.loads(described["PipelineDefinition"])) == ("new", TWO)
    for execution in service.call("ListPipelineExecutions", PipelineName="churn")["PipelineExecutionSummaries"]:
        assert list(service.steps(execution["PipelineExecutionArn"])) == ["Two"]


def test_the_same_token_creates_and_starts_once(service: Service) -> None:
    for _ in range(2):
        service.create(ONE, ClientRequestToken=TOKEN)
    assert service.start(ClientRequestToken=TOKEN) == service.start(ClientRequestToken=TOKEN)
    assert len(service.call("ListPipelineExecutions", PipelineName="churn")["PipelineExecutionSummaries"]) == 1
    for _ in range(2):
        wait_for(lambda: not service.executions.busy)
        assert service.call("DeletePipeline", PipelineName="churn", ClientRequestToken=TOKEN) == {"PipelineArn": ARN}


def test_a_token_used_for_another_request_is_a_conflict(service: Service) -> None:
    service.create(ONE, ClientRequestToken=TOKEN)
    code, message = refused(service, "CreatePipeline", **create_request(ClientRequestToken=TOKEN))
    assert (code, "was used for another CreatePipeline request" in message) == ("ConflictException", True)


def test_a_role_deleted_since_stops_the_start(service: Service) -> None:
    service.create(ONE)
    service.loopback.roles.clear()
    assert "Please ensure that the role exists" in refused(service, "StartPipelineExecution", PipelineName="churn")[1]


@pytest.mark.parametrize("other", [Scope("999999999999", "eu-central-1"), Scope("123456789012", "eu-west-1")])
def test_accounts_and_regions_do_not_see_each_other(service: Service, other: Scope) -> None:
    service.create(ONE)
    call = Call(other, "x")
    assert service.call("ListPipelines", call=call)["PipelineSummaries"] == []
    with pytest.raises(ServiceError, match="ResourceNotFound"):
        service.call("DescribePipeline", call=call, PipelineName=ARN)
    with pytest.raises(ServiceError, match="ResourceNotFound"):
        service.call("DescribePipelineExecution", call=call, PipelineExecutionArn=service.start())


def test_pipelines_survive_a_restart(tmp_path: Path) -> None:
    before = Service(Store(tmp_path / "state.db"))
    before.create(ONE)
    before.call("UpdatePipeline", PipelineName="churn", PipelineDefinition=json.dumps(TWO))
    arn = before.start(ClientRequestToken=TOKEN)
    before.ended(arn)
    before.store.close()
    after = Service(Store(tmp_path / "state.db"))
    after.executions.resume()
    assert json.loads(after.call("DescribePipeline", PipelineName="churn")["PipelineDefinition"]) == TWO
    assert after.describe(arn)["PipelineExecutionStatus"] == "Succeeded"
    assert list(after.steps(arn)) == ["Two"]
    assert after.start(ClientRequestToken=TOKEN) == arn
    after.store.close()
