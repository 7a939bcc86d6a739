"""AWS's less usual answers, given by botocore's Stubber: names that are taken, pages, buckets of others, refusals."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from botocore.stub import ANY

from tests.template.stubbed_account import Account

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/churn-dev"
EXECUTION = f"{ARN}/execution/abcdefghijkl"


def upsert(pipeline: SimpleNamespace, account: Account) -> Any:
    return pipeline.execution.upsert(
        account, "churn-dev", "About churn", "{}", "arn:aws:iam::123456789012:role/r", {"modelyard:stage": "dev"}
    )


def test_a_new_pipeline_is_created_and_its_version_asked_for(pipeline: SimpleNamespace, account: Account) -> None:
    sagemaker = account.stub("sagemaker")
    sagemaker.add_response("create_pipeline", {"PipelineArn": ARN})
    sagemaker.add_response("update_pipeline", {"PipelineArn": ARN, "PipelineVersionId": 2})
    assert upsert(pipeline, account) == 2


def test_a_pipeline_whose_name_is_taken_is_updated_with_its_tags(pipeline: SimpleNamespace, account: Account) -> None:
    sagemaker = account.stub("sagemaker")
    sagemaker.add_client_error(
        "create_pipeline",
        "ValidationException",
        "Pipeline with name (churn-dev) already exists.",
    )
    sagemaker.add_response("describe_pipeline", {"PipelineArn": ARN}, {"PipelineName": "churn-dev"})
    sagemaker.add_response("add_tags", {}, {"ResourceArn": ARN, "Tags": [{"Key": "modelyard:stage", "Value": "dev"}]})
    sagemaker.add_response("update_pipeline", {"PipelineArn": ARN, "PipelineVersionId": 7})
    assert upsert(pipeline, account) == 7


def test_another_fault_of_the_pipeline_is_not_taken_for_a_taken_name(
    pipeline: SimpleNamespace, account: Account
) -> None:
    account.stub("sagemaker").add_client_error("create_pipeline", "ValidationException", "Unable to parse definition")
    with pytest.raises(ClientError, match="Unable to parse"):
        upsert(pipeline, account)


def test_an_execution_is_of_exactly_the_version_that_was_upserted(pipeline: SimpleNamespace, account: Account) -> None:
    account.stub("sagemaker").add_response(
        "start_pipeline_execution",
        {"PipelineExecutionArn": EXECUTION},
        {
            "PipelineName": "churn-dev",
            "PipelineVersionId": 7,
            "PipelineParameters": [{"Name": "eta", "Value": "0.3"}],
            "PipelineExecutionDisplayName": "push-abcdefabcdef",
            "ClientRequestToken": ANY,
        },
    )
    assert pipeline.execution.start(account, "churn-dev", {"eta": "0.3"}, 7, "push-abcdefabcdef") == EXECUTION


@pytest.mark.parametrize(
    ("tree", "called"), [("4e5f", "commit-abcdefabcdef"), ("4e5f-dirty", "commit-abcdefabcdef-dirty")]
)
def test_an_execution_is_named_after_the_commit_alone_that_has_its_files(
    pipeline: SimpleNamespace, tree: str, called: str
) -> None:
    lineage = pipeline.lineage.Lineage("abcdef" * 7, tree, None)
    assert pipeline.execution.display_name(pipeline.execution.BY_A_PERSON, lineage) == called


def test_the_fingerprint_covers_every_page_and_nothing_else(pipeline: SimpleNamespace, account: Account) -> None:
    def fingerprint(*objects: tuple[str, int, str]) -> str:
        contents = [{"Key": key, "Size": size, "ETag": etag} for key, size, etag in objects]
        half = len(contents) // 2
        s3 = account.stub("s3")
        wanted = {"Bucket": "b", "Prefix": "data/"}
        first = {"Contents": contents[:half], "IsTruncated": True, "NextContinuationToken": "more"}
        s3.add_response("list_objects_v2", first, wanted)
        s3.add_response("list_objects_v2", {"Contents": contents[half:]}, {**wanted, "ContinuationToken": "more"})
        return str(pipeline.aws.data_fingerprint(account, "s3://b/data/"))

    one, two = ("data/1.csv", 5, "etag-1"), ("data/2.csv", 6, "etag-2")
    same = fingerprint(one, two)
    assert fingerprint(two, one) == same
    assert fingerprint(one, ("data/2.csv", 6, "etag-3")) != same
    assert fingerprint(one, ("data/3.csv", 6, "etag-2")) != same


def test_only_empty_objects_are_no_data(pipeline: SimpleNamespace, account: Account) -> None:
    account.stub("s3").add_response("list_objects_v2", {"Contents": [{"Key": "data/", "Size": 0, "ETag": "x"}]})
    with pytest.raises(pipeline.InputError, match="only empty objects there"):
        pipeline.aws.data_fingerprint(account, "s3://b/data/")


def test_an_object_that_only_begins_like_the_data_is_not_taken_for_data(
    pipeline: SimpleNamespace, account: Account
) -> None:
    s3 = account.stub("s3")
    for uri, other in (("s3://b/data.csv", "data.csv.bak"), ("s3://b/data", "data-2025/old.csv")):
        contents = [{"Key": key, "Size": 5, "ETag": "x"} for key in (uri.removeprefix("s3://b/"), other)]
        s3.add_response("list_objects_v2", {"Contents": contents})
        with pytest.raises(pipeline.InputError, match=f"{re.escape(other)} begins in the same way"):
            pipeline.aws.data_fingerprint(account, uri)


def test_a_folder_is_sent_without_what_preprocess_would_skip(
    pipeline: SimpleNamespace, account: Account, tmp_path: Path
) -> None:
    for name in ("1.csv", "year/2.csv", "_temporary/3.csv", ".hidden/4.csv", "_SUCCESS"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a\n1\n")
    s3 = account.stub("s3")
    for _ in range(2):
        s3.add_response("put_object", {})
    sent = pipeline.aws.upload_data(account, tmp_path, "s3://b/data/")
    assert sent == ["s3://b/data/1.csv", "s3://b/data/year/2.csv"]


def test_a_file_with_another_ending_is_not_sent(pipeline: SimpleNamespace, account: Account, tmp_path: Path) -> None:
    (tmp_path / "own.parquet").write_bytes(b"x")
    with pytest.raises(pipeline.InputError, match=r"own.parquet would be stored as s3://b/data.csv"):
        pipeline.aws.upload_data(account, tmp_path / "own.parquet", "s3://b/data.csv")


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "no such bucket"), (403, "does not belong to account 123456789012"), (301, "not in us-east-1")],
)
def test_a_bucket_that_cannot_be_used_is_said(
    pipeline: SimpleNamespace, account: Account, status: int, message: str
) -> None:
    account.stub("sts").add_response("get_caller_identity", {"Account": "123456789012"})
    account.stub("s3").add_client_error("head_bucket", str(status), http_status_code=status)
    with pytest.raises(pipeline.InputError, match=message):
        pipeline.aws.check_bucket(account, "b")


def test_the_buckets_owner_is_asked_for(pipeline: SimpleNamespace, account: Account) -> None:
    account.stub("sts").add_response("get_caller_identity", {"Account": "123456789012"})
    account.stub("s3").add_response("head_bucket", {}, {"Bucket": "b", "ExpectedBucketOwner": "123456789012"})
    pipeline.aws.check_bucket(account, "b")


def test_a_bucket_of_another_region_is_refused(pipeline: SimpleNamespace, account: Account) -> None:
    account.stub("sts").add_response("get_caller_identity", {"Account": "123456789012"})
    account.stub("s3").add_response("head_bucket", {"BucketRegion": "eu-west-1"})
    with pytest.raises(pipeline.InputError, match="in eu-west-1, not in us-east-1"):
        pipeline.aws.check_bucket(account, "b")


def test_code_that_is_in_the_bucket_already_is_not_sent_again(pipeline: SimpleNamespace, account: Account) -> None:
    s3 = account.stub("s3")
    s3.add_response("head_object", {}, {"Bucket": "b", "Key": "k"})
    assert pipeline.aws.put_if_absent(account, "b", "k", b"x") is False
    s3.add_client_error("head_object", "404", http_status_code=404)
    s3.add_response("put_object", {}, {"Bucket": "b", "Key": "k", "Body": b"x"})
    assert pipeline.aws.put_if_absent(account, "b", "k", b"x") is True
    s3.add_client_error("head_object", "403", http_status_code=403)
    with pytest.raises(ClientError):
        pipeline.aws.put_if_absent(account, "b", "k", b"x")


def test_a_role_given_by_its_arn_is_not_asked_for(pipeline: SimpleNamespace, account: Account) -> None:
    arn = "arn:aws:iam::123456789012:role/path/pipeline"
    assert pipeline.aws.resolve_role(account, arn) == arn
    role = {
        "Path": "/",
        "RoleName": "pipeline",
        "RoleId": "AROA" + "x" * 12,
        "Arn": arn,
        "CreateDate": datetime.now(UTC),
    }
    account.stub("iam").add_response("get_role", {"Role": role}, {"RoleName": "pipeline"})
    assert pipeline.aws.resolve_role(account, "pipeline") == arn


GROUP = "arn:aws:sagemaker:us-east-1:123456789012:model-package-group/churn-dev"
AUTOMATIC = {"Key": "modelyard:approval", "Value": "automatic"}


def group_is_there(account: Account) -> None:
    answer = {
        "ModelPackageGroupName": "churn-dev",
        "ModelPackageGroupArn": GROUP,
        "CreationTime": datetime.now(UTC),
        "CreatedBy": {},
        "ModelPackageGroupStatus": "Completed",
    }
    account.stub("sagemaker").add_response(
        "describe_model_package_group", answer, {"ModelPackageGroupName": "churn-dev"}
    )


def no_group_is_there(account: Account, times: int = 1) -> None:
    for _ in range(times):
        account.stub("sagemaker").add_client_error(
            "describe_model_package_group", "ValidationException", "ModelPackageGroup does not exist."
        )


OURS = {"Key": "modelyard:project", "Value": "churn"}


def group_has_tags(account: Account, *tags: dict[str, str]) -> None:
    account.stub("sagemaker").add_response("list_tags", {"Tags": list(tags)}, {"ResourceArn": GROUP})


@pytest.mark.parametrize("since", [False, True])
def test_a_group_that_is_there_keeps_its_versions_and_gets_the_tags(
    pipeline: SimpleNamespace, account: Account, since: bool
) -> None:
    sagemaker = account.stub("sagemaker")
    if since:  # it was made between the look and the call
        no_group_is_there(account)
        sagemaker.add_client_error(
            "create_model_package_group", "ValidationException", f"Model Package Group already exists: {GROUP}"
        )
    group_is_there(account)
    group_has_tags(account, OURS)
    sagemaker.add_response("add_tags", {}, {"ResourceArn": GROUP, "Tags": ANY})
    assert pipeline.registry.register_project(account, "churn", "p-1", "About", ["dev"]) == {"churn-dev": False}


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (({"Key": "modelyard:stack", "Value": "arn"}, OURS), "looks after it .*without --groups-only"),
        ((), f"is not this project's .*add-tags --resource-arn {GROUP} --tags Key=modelyard:project,Value=churn"),
        (({"Key": "modelyard:project", "Value": "other"},), "choose another name for the project"),
    ],
    ids=["platform's", "nobody's", "another's"],
)
def test_a_group_of_another_project_is_left_alone_and_none_is_made(
    pipeline: SimpleNamespace, account: Account, tags: tuple[dict[str, str], ...], message: str
) -> None:
    no_group_is_there(account)  # that of feature, which is not made either
    group_is_there(account)
    group_has_tags(account, *tags)
    with pytest.raises(pipeline.InputError, match=f"(?s)the group churn-dev .*{message}"):
        pipeline.registry.register_project(account, "churn", "p-1", "About", ["feature", "dev"])


def test_the_tag_for_automatic_approval_is_given_to_a_group_that_is_made_alone(
    pipeline: SimpleNamespace, account: Account
) -> None:
    sagemaker = account.stub("sagemaker")

    def tags_of(request: dict[str, Any]) -> bool:
        return AUTOMATIC in request["Tags"]

    sent: list[dict[str, Any]] = []
    sagemaker.client.meta.events.register(
        "provide-client-params.sagemaker.CreateModelPackageGroup", lambda params, **_: sent.append(params)
    )
    no_group_is_there(account, 2)
    for _ in range(2):
        sagemaker.add_response("create_model_package_group", {"ModelPackageGroupArn": GROUP})
    made = pipeline.registry.register_project(account, "churn", "p-1", "About", ["dev", "feature"], ["dev"])
    assert made == {"churn-dev": True, "churn-feature": True}
    assert [tags_of(request) for request in sent] == [True, False]
    # one that is there keeps the tag that it has, and is not given it
    for tags, refused in (([AUTOMATIC], False), ([], True)):
        group_is_there(account)
        group_has_tags(account, OURS, *tags)
        if refused:
            with pytest.raises(pipeline.InputError, match="--automatic-approval dev: the group churn-dev is there"):
                pipeline.registry.register_project(account, "churn", "p-1", "About", ["dev"], ["dev"])
        else:
            expected = [{"Key": key, "Value": value} for key, value in pipeline_tags().items()]
            sagemaker.add_response("add_tags", {}, {"ResourceArn": GROUP, "Tags": expected})
            pipeline.registry.register_project(account, "churn", "p-1", "About", ["dev"], ["dev"])


def pipeline_tags() -> dict[str, str]:
    return {
        "sagemaker:project-name": "churn",
        "sagemaker:project-id": "p-1",
        "modelyard:project": "churn",
        "modelyard:stage": "dev",
    }


PACKAGE = "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn-dev/3"


def version_is(account: Account, approval: str = "Approved", description: str = "", **stamps: str) -> dict[str, Any]:
    answer = {
        "ModelPackageName": "churn-dev",
        "ModelPackageGroupName": "churn-dev",
        "ModelPackageArn": PACKAGE,
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": []},
        "CreationTime": datetime.now(UTC),
        "ModelApprovalStatus": approval,
        "CustomerMetadataProperties": {f"deployment.{name}": value for name, value in stamps.items()},
        **({"ApprovalDescription": description} if description else {}),
    }
    account.stub("sagemaker").add_response("describe_model_package", answer, {"ModelPackageName": PACKAGE})
    return answer


def test_a_version_is_asked_for_without_listing_all_of_them(pipeline: SimpleNamespace, account: Account) -> None:
    group_is_there(account)
    version_is(account)
    assert pipeline.registry.describe_version(account, "churn-dev", 3)["ModelPackageArn"] == PACKAGE
    group_is_there(account)
    account.stub("sagemaker").add_client_error(
        "describe_model_package", "ValidationException", f"ModelPackage {PACKAGE} does not exist."
    )
    with pytest.raises(pipeline.InputError, match="churn-dev has no version 3"):
        pipeline.registry.describe_version(account, "churn-dev", 3)


def test_an_approval_says_why_and_is_not_given_twice(pipeline: SimpleNamespace, account: Account) -> None:
    package = {"ModelPackageArn": PACKAGE, "ModelApprovalStatus": "PendingManualApproval"}
    account.stub("sagemaker").add_response(
        "update_model_package",
        {"ModelPackageArn": PACKAGE},
        {"ModelPackageArn": PACKAGE, "ModelApprovalStatus": "Approved", "ApprovalDescription": "good"},
    )
    assert pipeline.registry.set_approval(account, package, "Approved", "good") == PACKAGE
    with pytest.raises(pipeline.InputError, match=r"is Approved already: .*reject it, then approve it"):
        pipeline.registry.set_approval(account, {**package, "ModelApprovalStatus": "Approved"}, "Approved", None)


def endpoint_is(account: Account, status: str, config: str = "churn-dev-1", **more: Any) -> None:
    sagemaker = account.stub("sagemaker")
    variant = {"VariantName": "AllTraffic", "CurrentInstanceCount": 1, "DesiredInstanceCount": 2, "CurrentWeight": 1.0}
    answer = {
        "EndpointName": "churn-dev",
        "EndpointArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/churn-dev",
        "EndpointConfigName": config,
        "ProductionVariants": [variant],
        "EndpointStatus": status,
        "CreationTime": datetime.now(UTC),
        "LastModifiedTime": datetime.now(UTC),
        **more,
    }
    sagemaker.add_response("describe_endpoint", answer, {"EndpointName": "churn-dev"})
    answer = {
        "EndpointConfigName": config,
        "EndpointConfigArn": f"arn:aws:sagemaker:us-east-1:123456789012:endpoint-config/{config}",
        "ProductionVariants": [{"VariantName": "AllTraffic", "ModelName": config}],
        "CreationTime": datetime.now(UTC),
    }
    sagemaker.add_response("describe_endpoint_config", answer, {"EndpointConfigName": config})
    answer = {
        "ModelName": config,
        "PrimaryContainer": {"ModelPackageName": PACKAGE},
        "ExecutionRoleArn": "arn:aws:iam::123456789012:role/modelyard/models/default",
        "CreationTime": datetime.now(UTC),
        "ModelArn": f"arn:aws:sagemaker:us-east-1:123456789012:model/{config}",
    }
    sagemaker.add_response("describe_model", answer, {"ModelName": config})


def no_endpoint(account: Account) -> None:
    account.stub("sagemaker").add_client_error(
        "describe_endpoint",
        "ValidationException",
        'Could not find endpoint "arn:aws:sagemaker:...:endpoint/churn-dev".',
    )


def no_schedule(account: Account) -> None:
    account.stub("scheduler").add_client_error(
        "get_schedule",
        "ResourceNotFoundException",
        expected_params={"Name": "churn-dev", "GroupName": "modelyard"},
    )


def test_an_endpoint_tells_the_version_behind_it(
    pipeline: SimpleNamespace, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint_is(account, "Updating", PendingDeploymentSummary={"EndpointConfigName": "churn-dev-2"})
    found = pipeline.endpoint.read(account, "churn-dev")
    assert (found["status"], found["package_arn"], found["next_config"]) == ("Updating", PACKAGE, "churn-dev-2")
    pipeline.terminal.print_endpoint(pipeline.terminal.console(), found)
    assert capsys.readouterr().out.splitlines() == [
        "Updating     churn-dev  version 3  churn-dev-1  AllTraffic 1 of 2 instances",
        "  on its way: churn-dev-2",
    ]
    no_endpoint(account)
    no_schedule(account)
    found = pipeline.endpoint.read(account, "churn-dev")
    assert (found["status"], found["package_arn"]) == ("none", None)
    account.stub("sagemaker").add_client_error("describe_endpoint", "AccessDeniedException", "not authorized")
    with pytest.raises(ClientError, match="not authorized"):
        pipeline.endpoint.read(account, "churn-dev")


def test_a_batch_stage_tells_its_schedule_and_version(
    pipeline: SimpleNamespace, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    no_endpoint(account)
    target = {"Arn": "arn:aws:lambda:us-east-1:123456789012:function:f", "RoleArn": "arn:aws:iam::123456789012:role/r"}
    answer = {
        "ScheduleExpression": "cron(0 6 ? * MON-FRI *)",
        "ScheduleExpressionTimezone": "Europe/Berlin",
        "Target": {**target, "Input": json.dumps({"package_arn": PACKAGE, "number": 4})},
    }
    account.stub("scheduler").add_response("get_schedule", answer, {"Name": "churn-dev", "GroupName": "modelyard"})
    found = pipeline.endpoint.read(account, "churn-dev")
    assert (found["status"], found["package_arn"]) == ("scheduled", PACKAGE)
    pipeline.terminal.print_endpoint(pipeline.terminal.console(), found)
    said = "scheduled    churn-dev  version 3  cron(0 6 ? * MON-FRI *) Europe/Berlin\n"
    assert capsys.readouterr().out == said


def test_an_endpoint_whose_model_was_deleted_serves_no_version(pipeline: SimpleNamespace, account: Account) -> None:
    sagemaker = account.stub("sagemaker")
    answer = {
        "EndpointName": "churn-dev",
        "EndpointArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/churn-dev",
        "EndpointConfigName": "gone",
        "EndpointStatus": "InService",
        "CreationTime": datetime.now(UTC),
        "LastModifiedTime": datetime.now(UTC),
    }
    sagemaker.add_response("describe_endpoint", answer)
    sagemaker.add_client_error(
        "describe_endpoint_config", "ValidationException", "Could not find endpoint configuration gone."
    )
    assert pipeline.endpoint.read(account, "churn-dev")["package_arn"] is None


def test_an_approval_is_watched_until_its_own_deployment_has_ended(pipeline: SimpleNamespace, account: Account) -> None:
    seen: list[str] = []
    # what an earlier deployment left on the version says nothing of this one
    before = {
        "ModelPackageArn": PACKAGE,
        "CustomerMetadataProperties": {"deployment.number": "1", "deployment.ended": "2026-11-20T00:00:00Z"},
    }
    version_is(account, number="1", status="succeeded", ended="2026-11-20T00:00:00Z")
    no_endpoint(account)
    no_schedule(account)
    version_is(account, number="2", status="under-way")
    endpoint_is(account, "Creating")
    version_is(account, number="2", status="under-way")
    endpoint_is(account, "Creating")
    version_is(account, "Rejected", "the alarm went off", number="2", status="failed", ended="2026-11-21T08:00:00Z")
    endpoint_is(account, "InService")
    ended = pipeline.endpoint.watch_approved(
        account, before, "churn-dev", lambda found: seen.append(found["status"]), lambda seconds: False
    )
    assert ended == {
        "number": "2",
        "status": "failed",
        "ended": "2026-11-21T08:00:00Z",
        "description": "the alarm went off",
    }
    assert seen == ["none", "Creating", "InService"]
    version_is(account)
    no_endpoint(account)
    no_schedule(account)
    assert pipeline.endpoint.watch_approved(account, before, "churn-dev", print, lambda seconds: True) is None


@pytest.mark.parametrize("status", ["InService", "scheduled"])
def test_an_approval_of_what_serves_already_is_not_watched_for_ever(
    pipeline: SimpleNamespace, account: Account, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setattr(pipeline.endpoint, "STEADY_LOOKS", 2)
    found = {"status": status, "package_arn": PACKAGE, "next_config": None}
    monkeypatch.setattr(pipeline.endpoint, "read", lambda aws, name: found)
    stamps = {"deployment.number": "1", "deployment.status": "succeeded", "deployment.ended": "2026-11-20T00:00:00Z"}
    for _ in range(3):
        version_is(account, number="1", status="succeeded", ended="2026-11-20T00:00:00Z")
    pauses: list[float] = []

    def pause(seconds: float) -> bool:
        pauses.append(seconds)
        return False

    ended = pipeline.endpoint.watch_approved(
        account,
        {"ModelPackageArn": PACKAGE, "CustomerMetadataProperties": stamps},
        "churn-dev",
        lambda found: None,
        pause,
    )
    assert (ended["number"], ended["status"]) == ("1", "succeeded")
    assert len(pauses) == 2


@pytest.mark.parametrize(
    ("approval", "stamps", "later", "expected"),
    [
        pytest.param(
            "Approved",
            {"number": "2", "status": "superseded", "ended": "2026-11-21T08:00:00Z"},
            [],
            ("2", "superseded", "2026-11-21T08:00:00Z", "another decision came before it had ended"),
            id="the platform wrote it on the version",
        ),
        pytest.param(
            "Approved",
            {"number": "2", "status": "superseded", "ended": "2026-11-21T08:00:00Z"},
            [7],
            ("2", "superseded", "2026-11-21T08:00:00Z", "approved after it: version 7"),
            id="by what it was superseded",
        ),
        pytest.param(
            "Approved",
            {},
            [4, 7],
            (None, "superseded", None, "approved after it: version 4, 7"),
            id="another version was approved before its deployment began",
        ),
        pytest.param(
            "Rejected",
            {"number": "1", "status": "succeeded", "ended": "2026-11-20T00:00:00Z"},
            [],
            (None, "superseded", None, "the version is Rejected by now: too slow"),
            id="it was rejected; an earlier deployment's stamps stay",
        ),
    ],
)
def test_an_approval_that_another_decision_overtook_is_not_watched_for_ever(
    pipeline: SimpleNamespace,
    account: Account,
    monkeypatch: pytest.MonkeyPatch,
    approval: str,
    stamps: dict[str, str],
    later: list[int],
    expected: tuple[str | None, ...],
) -> None:
    """The endpoint serves another version all the time."""
    found = {"status": "InService", "package_arn": "another", "next_config": None}
    monkeypatch.setattr(pipeline.endpoint, "read", lambda aws, name: found)
    monkeypatch.setattr(pipeline.endpoint, "STEADY_LOOKS", 2)
    monkeypatch.setattr(pipeline.registry, "approved_later", lambda aws, group, package: later)
    before = {"number": "1", "status": "succeeded", "ended": "2026-11-20T00:00:00Z"}
    for _ in range(1 if stamps.get("number") == "2" else 3):
        version_is(account, approval, "too slow", **stamps)
    ended = pipeline.endpoint.watch_approved(
        account,
        {
            "ModelPackageArn": PACKAGE,
            "CustomerMetadataProperties": {f"deployment.{name}": value for name, value in before.items()},
        },
        "churn-dev",
        lambda found: None,
        lambda seconds: False,
    )
    assert tuple(ended.values()) == expected


def test_an_approval_that_nothing_overtook_is_watched_on_however_long_nothing_changes(
    pipeline: SimpleNamespace, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quota holds it up, for one: the platform tries again. The approved versions are not read at every look."""
    found = {"status": "InService", "package_arn": "another", "next_config": None}
    monkeypatch.setattr(pipeline.endpoint, "read", lambda aws, name: found)
    monkeypatch.setattr(pipeline.endpoint, "STEADY_LOOKS", 2)
    asked: list[str] = []

    def approved_later(aws: Account, group: str, package: dict[str, Any]) -> list[int]:
        asked.append(group)
        return []

    monkeypatch.setattr(pipeline.registry, "approved_later", approved_later)
    for _ in range(7):
        version_is(account)
    pauses = iter([False] * 6 + [True])
    package = {"ModelPackageArn": PACKAGE}
    watch = pipeline.endpoint.watch_approved
    assert watch(account, package, "churn-dev", lambda found: None, lambda seconds: next(pauses)) is None
    assert asked == ["churn-dev"] * 3


@pytest.mark.parametrize(
    ("stamp", "looks", "expected"), [("2026-11-20T08:00:00Z", 7, None), ("2026-11-21T08:00:00Z", 3, "superseded")]
)
def test_the_stamp_of_an_earlier_approval_does_not_say_that_this_one_is_overtaken(
    pipeline: SimpleNamespace,
    account: Account,
    monkeypatch: pytest.MonkeyPatch,
    stamp: str,
    looks: int,
    expected: str | None,
) -> None:
    """Rejected and approved again, while the platform is throttled: it has not read the approval yet."""
    found = {"status": "InService", "package_arn": "another", "next_config": None}
    monkeypatch.setattr(pipeline.endpoint, "read", lambda aws, name: found)
    monkeypatch.setattr(pipeline.endpoint, "STEADY_LOOKS", 2)
    monkeypatch.setattr(pipeline.registry, "approved_later", lambda aws, group, package: [4])
    for _ in range(looks):
        version_is(account)["CustomerMetadataProperties"]["approval.at"] = stamp
    pauses = iter([False] * (looks - 1) + [True])
    before = {"ModelPackageArn": PACKAGE, "CustomerMetadataProperties": {"approval.at": "2026-11-20T08:00:00Z"}}
    watch = pipeline.endpoint.watch_approved
    ended = watch(account, before, "churn-dev", lambda found: None, lambda seconds: next(pauses))
    assert (ended and ended["status"]) == expected


def test_a_rejection_is_watched_until_the_endpoint_serves_another_version(
    pipeline: SimpleNamespace, account: Account
) -> None:
    endpoint_is(account, "InService")
    endpoint_is(account, "Deleting")
    no_endpoint(account)
    no_schedule(account)
    seen: list[str] = []
    assert pipeline.endpoint.watch_rejected(
        account, PACKAGE, "churn-dev", lambda found: seen.append(found["status"]), lambda seconds: False
    )
    assert seen == ["InService", "Deleting", "none"]


PLAN = {
    "endpoint": "churn-dev",
    "package_arn": PACKAGE,
    "version": 3,
    "refused": None,
    "calls": [
        {
            "service": "sagemaker",
            "operation": "create_model",
            "summary": "the version as a model",
            "request": {"ModelName": "churn-dev-1", "Tags": []},
        },
        {"service": "x", "operation": "y", "summary": "of nothing named", "request": {}},
        {"wait": "until the endpoint is InService"},
    ],
    "changes": ["instance_count: 1 -> 2"],
    "warnings": ["no alarms"],
    "hours": 1460.0,
    "monthly": {"usd": 167.9, "why": "730 h x 2 x ml.m5.large at 0.115 USD an hour"},
}


def plan_answers(account: Account, payload: Any, **more: Any) -> None:
    function = "arn:aws:lambda:us-east-1:123456789012:function:modelyard-plan"
    parameter = {"Parameter": {"Name": "/modelyard/functions/plan", "Value": function}}
    account.stub("ssm").add_response("get_parameter", parameter, {"Name": "/modelyard/functions/plan"})
    request = {"project": "churn", "stage": "dev", "package_arn": PACKAGE, "stage_file": None}
    body = StreamingBody(io.BytesIO(json.dumps(payload).encode()), None)
    account.stub("lambda").add_response(
        "invoke",
        {"StatusCode": 200, "Payload": body, **more},
        {"FunctionName": function, "Payload": json.dumps(request).encode()},
    )


def test_the_platforms_plan_is_asked_for_and_printed(
    pipeline: SimpleNamespace, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_answers(account, PLAN)
    found = pipeline.plan.ask(account, "churn", "dev", PACKAGE, None)
    pipeline.terminal.print_plan(pipeline.terminal.console(), found)
    assert capsys.readouterr().out.splitlines() == [
        "churn-dev with version 3",
        "   1  sagemaker create_model churn-dev-1: the version as a model",
        "   2  x y: of nothing named",
        "   3  wait: until the endpoint is InService",
        "  change: instance_count: 1 -> 2",
        "  warning: no alarms",
        "  at most 1460 instance-hours a month",
        "  cost a month: at most 167.90 USD (730 h x 2 x ml.m5.large at 0.115 USD an hour)",
    ]
    nothing = {**PLAN, "calls": [], "changes": [], "warnings": [], "hours": None, "version": None}
    unknown = {**nothing, "monthly": {"usd": None, "why": "pay per use"}}
    pipeline.terminal.print_plan(pipeline.terminal.console(), unknown)
    assert capsys.readouterr().out.splitlines() == [
        "churn-dev",
        "  nothing has to be done",
        "  cost a month: unknown (pay per use)",
    ]
    pipeline.terminal.print_plan(pipeline.terminal.console(), {**PLAN, "refused": "kind: no\nvpc: no"})
    assert capsys.readouterr().out.splitlines()[1:] == ["  refused: kind: no", "  refused: vpc: no"]


def test_a_plan_function_that_fails_is_said(pipeline: SimpleNamespace, account: Account) -> None:
    plan_answers(account, {"errorMessage": "out of memory", "errorType": "X"}, FunctionError="Unhandled")
    with pytest.raises(pipeline.InputError, match=r"plan function failed: out of memory \(X\).*/aws/lambda/"):
        pipeline.plan.ask(account, "churn", "dev", PACKAGE, None)


def test_a_refusal_is_not_taken_for_a_group_that_is_there(pipeline: SimpleNamespace, account: Account) -> None:
    no_group_is_there(account)
    account.stub("sagemaker").add_client_error("create_model_package_group", "AccessDeniedException", "not authorized")
    with pytest.raises(ClientError, match="not authorized"):
        pipeline.registry.register_project(account, "churn", "p-1", "About", ["dev"])


def test_watching_reports_each_change_once_and_asks_ever_more_seldom(
    pipeline: SimpleNamespace, account: Account
) -> None:
    sagemaker = account.stub("sagemaker")
    start = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)

    def answer(execution: str, **step: Any) -> None:
        sagemaker.add_response("describe_pipeline_execution", {"PipelineExecutionStatus": execution})
        steps = [{"StepName": "Train", "StartTime": start, **step}] if step else []
        sagemaker.add_response("list_pipeline_execution_steps", {"PipelineExecutionSteps": steps})

    answer("Executing")
    for _ in range(20):
        answer("Executing", StepStatus="Executing")
    answer("Failed", StepStatus="Failed", EndTime=start.replace(minute=2), FailureReason="too hot")
    reported: list[Any] = []
    pauses: list[float] = []

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        return False

    ended = pipeline.execution.watch(account, EXECUTION, reported.append, wait)
    assert ended["PipelineExecutionStatus"] == "Failed"
    assert [(step.status, step.reason) for step in reported] == [("Executing", ""), ("Failed", "too hot")]
    assert reported[1].seconds == 120
    assert pauses[:2] == [0.65, 0.5]
    assert pauses[1:] == sorted(pauses[1:])
    assert pauses[-1] == 10


def test_watching_can_be_stopped_while_the_execution_goes_on(pipeline: SimpleNamespace, account: Account) -> None:
    sagemaker = account.stub("sagemaker")
    sagemaker.add_response("describe_pipeline_execution", {"PipelineExecutionStatus": "Executing"})
    sagemaker.add_response("list_pipeline_execution_steps", {"PipelineExecutionSteps": []})
    assert pipeline.execution.watch(account, EXECUTION, print, lambda seconds: True) is None


def test_the_report_is_found_though_the_arn_writes_the_pipelines_name_in_lower_case(
    pipeline: SimpleNamespace, account: Account
) -> None:
    answer = {"PipelineName": "Churn-dev", "PipelineArn": ARN}
    account.stub("sagemaker").add_response("describe_pipeline", answer, {"PipelineName": ARN})
    found = pipeline.execution.report_uri(account, EXECUTION, "Churn", "bucket")
    assert found == "s3://bucket/Churn/dev/Churn-dev/abcdefghijkl/evaluate/evaluation/report.html"


def test_the_log_is_found_though_the_arn_writes_the_jobs_name_in_lower_case(
    pipeline: SimpleNamespace, account: Account
) -> None:
    step = pipeline.execution.Step("Train", "Failed", 1.0, "", False, ("TrainingJob", "pipelines-abc-train-xyz"))
    logs = account.stub("logs")
    streams = [
        {"logStreamName": "pipelines-abc-Preprocess-123/algo-1-1"},
        {"logStreamName": "pipelines-abc-Train-xyz/algo-1-1"},
    ]
    wanted = {"logGroupName": "/aws/sagemaker/TrainingJobs", "logStreamNamePrefix": "pipelines-abc"}
    logs.add_response("describe_log_streams", {"logStreams": streams}, wanted)
    logs.add_response(
        "get_log_events",
        {"events": [{"timestamp": 1, "message": "first"}, {"timestamp": 2, "message": "last"}]},
        {
            "logGroupName": "/aws/sagemaker/TrainingJobs",
            "logStreamName": "pipelines-abc-Train-xyz/algo-1-1",
            "limit": 20,
            "startFromHead": False,
        },
    )
    assert pipeline.execution.last_log_lines(account, step) == ["first", "last"]
    logs.add_client_error("describe_log_streams", "ResourceNotFoundException", "no such group")
    assert pipeline.execution.last_log_lines(account, step) == []


@pytest.mark.parametrize(
    ("command", "policies"),
    [
        ("start", "`start` needs modelyard-churn-reader and modelyard-churn-developer ("),
        ("versions", "`versions` needs modelyard-churn-reader ("),
        ("approve", "needs modelyard-churn-reader, modelyard-planner-us-east-1 and modelyard-churn-approver ("),
    ],
)
def test_a_missing_permission_names_whom_to_ask_for_which_policies(
    pipeline: SimpleNamespace, command: str, policies: str
) -> None:
    said = pipeline.aws.advice(command, "Churn", "us-east-1", "User: x is not authorized to perform: y")
    assert said.startswith("Ask an administrator of the account: ")
    assert policies in said


def test_what_a_policy_forbids_is_not_promised_by_another(pipeline: SimpleNamespace) -> None:
    said = pipeline.aws.advice("approve", "churn", "us-east-1", "with an explicit deny in an identity-based policy")
    assert "A policy forbids it" in said
    assert "modelyard-approver" not in said


def test_automatic_approval_is_an_administrators(pipeline: SimpleNamespace) -> None:
    said = pipeline.aws.advice(pipeline.aws.GROUPS, "churn", "us-east-1", "not authorized")
    assert said.startswith("This is for an administrator of the account")


def test_every_command_for_which_more_than_looking_is_needed_is_one(pipeline: SimpleNamespace) -> None:
    for command in pipeline.aws.NEEDED:
        with pytest.raises(SystemExit, match="0"):
            pipeline.cli.main([*command.split(), "--help"])


@pytest.mark.parametrize(
    ("error", "denied"),
    [
        (ClientError({"Error": {"Code": "AccessDeniedException", "Message": "m"}}, "DescribeEndpoint"), True),
        (ClientError({"Error": {"Code": "403", "Message": "Forbidden"}}, "HeadObject"), True),
        (ClientError({"Error": {"Code": "ValidationException", "Message": "AccessDenied"}}, "DescribeEndpoint"), False),
        (S3UploadFailedError("Failed to upload a to b: An error occurred (AccessDenied) when calling PutObject"), True),
        (S3UploadFailedError("Failed to upload a to b: An error occurred (SlowDown) when calling PutObject"), False),
    ],
)
def test_a_missing_permission_is_told_from_other_errors(
    pipeline: SimpleNamespace, error: Exception, denied: bool
) -> None:
    assert pipeline.aws.is_denied(error) is denied
