"""The version that was approved on dev for prod's files is found, copied once, and not trained again."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.endpoint
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError

import local_aws.calls
from local_aws import LocalAWS
from local_aws.calls import ServiceError
from local_aws.events import Events
from local_aws.sagemaker import times
from local_aws.sagemaker.registry import Registry
from local_aws.sagemaker.tags import Tags
from local_aws.store import Scope, Store
from tests.faulty_calls import Call, Fault, Killed
from tests.template.conftest import git, run

ACCOUNT = "123456789012"
CALL = local_aws.calls.Call(Scope(ACCOUNT, "us-east-1"), "a")
# What a call is answered when it is not done.
FAULTS = {
    "error": (500, {"__type": "InternalFailure", "message": "so"}),
    "throttled": (400, {"__type": "ThrottlingException", "message": "so"}),
    "denied": (400, {"__type": "AccessDeniedException", "message": "so"}),
}
ENDING = ("denied", "killed before", "killed after")  # the others botocore gets over by itself
KINDS = ("error", "throttled", "asked twice", *ENDING)
# Quickly the calls that change something; all calls where there is time.
CALLS = pytest.mark.parametrize("which", ["changes", pytest.param("all", marks=pytest.mark.slow)])
STAMPED = {
    "approval.by": "arn:aws:iam::123456789012:user/ada",
    "approval.at": "2026-11-20T09:00:00Z",
    "deployment.number": "4",
    "deployment.status": "succeeded",
    "deployment.ended": "2026-11-20T09:05:00Z",
    "tests.status": "passed",
    "tests.at": "2026-11-20T09:05:20Z",
}
# Everything that CreateModelPackage takes of a version, and that SageMaker lets a copy have.
SOURCE = {"ContentType": "application/json", "S3Uri": "s3://churn-artifacts/churn/dev/x/statistics.json"}
QUALITY = {"Statistics": SOURCE, "Constraints": SOURCE}
CARRIED: dict[str, Any] = {
    "ModelPackageDescription": "Predicts who leaves",
    "InferenceSpecification": {
        "Containers": [
            {
                "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/xgboost:3.2-0",
                "ModelDataUrl": "s3://churn-artifacts/churn/dev/x/model.tar.gz",
                "Environment": {"SAGEMAKER_PROGRAM": "inference.py"},
            }
        ],
        "SupportedContentTypes": ["text/csv"],
        "SupportedResponseMIMETypes": ["application/json"],
    },
    "AdditionalInferenceSpecifications": [
        {"Name": "gpu", "Containers": [{"Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/xgboost:gpu"}]}
    ],
    "MetadataProperties": {"CommitId": "0a1b", "GeneratedBy": "arn:aws:sagemaker:us-east-1:123456789012:pipeline/x"},
    "ModelMetrics": {"ModelQuality": QUALITY, "ModelDataQuality": QUALITY, "Explainability": {"Report": SOURCE}},
    "DriftCheckBaselines": {"ModelQuality": QUALITY, "ModelDataQuality": QUALITY},
    "ModelCard": {
        "ModelCardContent": json.dumps({"intended_uses": {"intended_uses": "Who leaves"}}),
        "ModelCardStatus": "Draft",
    },
    "SecurityConfig": {"KmsKeyId": "arn:aws:kms:us-east-1:123456789012:key/1"},
    "Domain": "MACHINE_LEARNING",
    "Task": "CLASSIFICATION",
    "SamplePayloadUrl": "s3://churn-artifacts/churn/dev/x/sample.csv",
    "SkipModelValidation": "All",
}


@cache
def sagemaker_client() -> Any:
    """One for all tests: making it takes longer than most of them."""
    signed_in = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    config = Config(retries={"mode": "standard"}, max_pool_connections=20)
    return boto3.client("sagemaker", region_name="us-east-1", config=config, **signed_in)


class Account:
    """An account with a model registry in memory, as local_aws has it: stands in for a boto3 session.

    Attributes:
        calls: what was asked of it since they were cleared; a call that botocore tries again is there twice.
        fault: what happens to one of them.
        serving: by endpoint, {"arn": the version, "status", "next": the config that is being rolled out, "schedule":
            whether it is one instead}.
        meanwhile: done after a call of an operation was answered, before the caller has the answer.
    """

    region_name = "us-east-1"

    def __init__(self) -> None:
        store = Store()
        tags = Tags(store)
        self._operations = Registry(store, tags, Events(lambda _scope, _event: None)).operations() | tags.operations()
        self._operations |= {
            "DescribeEndpoint": self._describe_endpoint,
            "DescribeEndpointConfig": lambda _, asked: {
                "ProductionVariants": [{"VariantName": "AllTraffic", "ModelName": asked["EndpointConfigName"]}]
            },
            "DescribeModel": lambda _, asked: {
                "PrimaryContainer": {"ModelPackageName": self.serving[asked["ModelName"]]["arn"]}
            },
        }
        self.calls: list[Call] = []
        self.fault: Fault | None = None
        self.meanwhile: dict[str, Callable[[], None]] = {}
        self.serving: dict[str, dict[str, Any]] = {}
        self._client = sagemaker_client()
        self._client.meta.events.register("before-send.sagemaker", self._send)

    def close(self) -> None:
        self._client.meta.events.unregister("before-send.sagemaker", self._send)

    def client(self, service: str, config: Config | None = None) -> Any:
        return SimpleNamespace(get_schedule=self._get_schedule) if service == "scheduler" else self._client

    def serve(self, arn: str, **more: Any) -> None:
        """Of a version's stage."""
        name = arn.partition("/")[2].partition("/")[0]
        self.serving[name] = {"arn": arn, "status": "InService", "next": None, "schedule": False, **more}

    def _describe_endpoint(self, _: Any, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["EndpointName"]
        found = self.serving.get(name)
        if found is None or found["schedule"]:
            raise ServiceError("ValidationException", f'Could not find endpoint "{name}".')
        pending = {"PendingDeploymentSummary": {"EndpointConfigName": found["next"]}} if found["next"] else {}
        return {"EndpointName": name, "EndpointConfigName": name, "EndpointStatus": found["status"], **pending}

    def _get_schedule(self, Name: str, GroupName: str) -> dict[str, Any]:
        found = self.serving.get(Name)
        if found is None:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "GetSchedule")
        target = {"Input": json.dumps({"package_arn": found["arn"]})}
        return {"Target": target, "ScheduleExpression": "rate(1 day)", "ScheduleExpressionTimezone": "UTC"}

    def _send(self, request: Any, **_: Any) -> AWSResponse:
        operation = request.headers["X-Amz-Target"].decode().rpartition(".")[2]
        call = Call("sagemaker", operation, 1 + sum(call.operation == operation for call in self.calls))
        self.calls.append(call)
        kind = self.fault.kind if self.fault is not None and self.fault.call == call else ""
        if kind == "killed before":
            raise Killed
        if kind in FAULTS:
            return _response(request, *FAULTS[kind])
        try:
            answer = self._operations[operation](CALL, json.loads(request.body))
        except ServiceError as error:
            return _response(request, error.status, {"__type": error.code, "message": error.message})
        if do := self.meanwhile.get(operation):
            do()
        if kind == "killed after":
            raise Killed
        if kind == "asked twice":
            raise ReadTimeoutError(endpoint_url="https://sagemaker")
        return _response(request, 200, answer)


def _response(request: Any, status: int, answer: dict[str, Any]) -> AWSResponse:
    body = json.dumps(answer).encode()
    return AWSResponse(request.url, status, {}, SimpleNamespace(stream=lambda: iter([body])))


def chosen(calls: list[Call], which: str) -> list[Call]:
    return [call for call in calls if which == "all" or not call.reads]


@dataclass
class Project:
    """A clone of a generated repository and the model package groups of a project of its own."""

    modules: SimpleNamespace
    account: Account
    settings: Any
    repository: Path
    stages: tuple[str, ...]
    name: str = field(default_factory=lambda: f"p{uuid.uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        self.settings = self.settings.model_copy(update={"project": self.name})
        self.sagemaker = self.account.client("sagemaker")
        for stage in ("dev", *self.stages):
            self.sagemaker.create_model_package_group(ModelPackageGroupName=f"{self.name}-{stage}")

    def another(self) -> Project:
        """Another project of the same repository."""
        return replace(self, name=f"p{uuid.uuid4().hex[:8]}")

    def git(self, *arguments: str) -> str:
        return git(self.repository, *arguments)

    def commit(self, name: str, text: str = "changed\n") -> str:
        """The tree of a new commit with one file changed."""
        (self.repository / name).write_text(text)
        self.git("add", name)
        self.git("commit", "--quiet", "--message", f"Change {name}")
        return self.tree()

    def tree(self, commit: str = "HEAD") -> str:
        return self.git("rev-parse", f"{commit}^{{tree}}")

    def tested(self) -> dict[str, str]:
        """Of a version of dev whose endpoint answered as the repository's cases say."""
        digest = self.modules.endpoint_test.digest(self.settings, self.repository / "tests" / "endpoint")
        return {"tests.sha256": digest, "tests.status": "passed"}

    def register(self, tree: str, approval: str | None = "Approved", stage: str = "dev", **more: Any) -> str:
        """A version that was trained from a tree; its ARN. metadata: further ones."""
        hashes = {f"deployment.sha256.{stage}": "0" * 64 for stage in ("feature", "dev", *self.stages)}
        metadata = {
            "git.commit": "c" * 40,
            "git.tree": tree,
            "deployment.prefix": f"s3://churn-artifacts/{self.name}/dev/deployment/{'0' * 64}/",
            "pipeline.execution": "arn:aws:sagemaker:us-east-1:123456789012:pipeline/x",
            **hashes,
            **self.tested(),
            **more.pop("metadata", {}),
        }
        made = self.sagemaker.create_model_package(
            ModelPackageGroupName=f"{self.name}-{stage}", CustomerMetadataProperties=metadata, **more
        )["ModelPackageArn"]
        if approval:
            self.set(made, approval)
        return str(made)

    def set(self, arn: str, approval: str, **more: Any) -> None:
        self.sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus=approval, **more)

    def package(self, arn: str) -> dict[str, Any]:
        return dict(self.sagemaker.describe_model_package(ModelPackageName=arn))

    def versions(self, stage: str) -> list[dict[str, Any]]:
        """The oldest first."""
        return self.modules.registry.packages(self.account, f"{self.name}-{stage}")[::-1]

    def promote(self) -> int:
        return int(self.modules.promotion.promote_branch(self.settings, self.account, root=self.repository))

    def refusal(self) -> str:
        """Why nothing is promoted; nothing was made."""
        before = [len(self.versions(stage)) for stage in self.stages]
        with pytest.raises(self.modules.InputError) as caught:
            self.promote()
        assert [len(self.versions(stage)) for stage in self.stages] == before
        return str(caught.value)

    def copies_of(self, stage: str) -> list[str]:
        """Of which versions the stage's are copies, the oldest first."""
        return [package["CustomerMetadataProperties"].get("promoted.from", "") for package in self.versions(stage)]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """No call waits before it is tried again, and a second passes between two changes."""
    seconds = itertools.count(1_795_700_000.0)
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setattr(times, "now", lambda: next(seconds))
    made = Account()
    yield made
    made.close()


@pytest.fixture
def make(
    pipeline: SimpleNamespace, account: Account, generated: Callable[..., Path], tmp_path: Path
) -> Callable[..., Project]:
    def made(scenario: str = "baseline") -> Project:
        repository = tmp_path / f"churn-{scenario}"
        git(tmp_path, "clone", "--quiet", str(generated("regression", scenario)), str(repository))
        git(repository, "checkout", "--quiet", "prod")
        stages = ("prod",) if scenario == "baseline" else ("champion", "challenger")
        return Project(pipeline, account, pipeline.settings.load_settings(), repository, stages)

    return made


@pytest.fixture
def project(make: Callable[..., Project]) -> Project:
    """In the baseline scenario, with prod checked out."""
    return make()


# --- which version is promoted


WAYS = {
    "fast-forward": [["merge", "--quiet", "--ff-only", "dev"]],
    "merge commit": [["merge", "--quiet", "--no-ff", "--no-edit", "dev"]],
    "squash": [["merge", "--quiet", "--squash", "dev"], ["commit", "--quiet", "--message", "All at once"]],
    "cherry-pick": [["cherry-pick", "prod..dev"]],
    "rebase": [["checkout", "--quiet", "-B", "prod", "dev"], ["rebase", "--quiet", "--force-rebase", "HEAD~2"]],
}


@pytest.mark.parametrize("way", WAYS)
def test_however_dev_comes_to_prod_its_version_is_promoted(project: Project, way: str) -> None:
    project.git("checkout", "--quiet", "dev")
    project.commit("one.txt")
    tree = project.commit("two.txt")
    version = project.register(tree)
    project.git("checkout", "--quiet", "prod")
    for command in WAYS[way]:
        project.git(*command)
    assert project.promote() == 0
    (copy,) = project.versions("prod")
    metadata = copy["CustomerMetadataProperties"]
    assert metadata["promoted.from"] == version
    assert metadata["promoted.commit"] == project.git("rev-parse", "prod")
    assert (metadata["git.commit"], metadata["git.tree"]) == ("c" * 40, tree)
    assert copy["ModelApprovalStatus"] == "PendingManualApproval"


def test_a_clone_without_history_promotes(project: Project, tmp_path: Path) -> None:
    project.register(project.commit("one.txt"))
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth", "1", "--branch", "prod", project.repository.as_uri(), str(shallow))
    project.repository = shallow
    project.git("checkout", "--quiet", "--detach")
    assert project.promote() == 0
    assert len(project.versions("prod")) == 1


def test_what_prod_alone_has_is_refused_with_the_nearest(project: Project) -> None:
    far = project.register(project.commit("one.txt"))
    project.commit("two.txt")
    near = project.register(project.commit("three.txt"), "PendingManualApproval")
    unknown = project.register("e" * 40)
    tree = project.commit("README.md")
    said = project.refusal()
    assert f"no version of {project.name}-dev that is approved was trained from the files of commit" in said
    assert f"(tree {tree})" in said
    lines = [line for line in said.splitlines() if line.startswith("  version")]
    assert [line.split()[1].strip(",") for line in lines] == [arn.rpartition("/")[2] for arn in (near, far, unknown)]
    assert lines[0].endswith(": 1 files differ (README.md)")
    assert ": 3 files differ (README.md, three.txt, two.txt)" in lines[1]
    assert "differ" not in lines[2]
    assert "git merge prod" in said


@pytest.mark.parametrize(
    ("approval", "words"),
    [
        ("PendingManualApproval", "approve it: python -m pipeline approve 1 --stage dev"),
        (
            "Rejected",
            r"it was rejected \(too slow\); were that to be changed: python -m pipeline approve 1 --stage dev",
        ),
    ],
)
def test_a_version_of_the_tree_that_is_not_approved_is_named(project: Project, approval: str, words: str) -> None:
    version = project.register(project.tree(), None)
    project.set(version, approval, ApprovalDescription="too slow")
    said = project.refusal()
    assert re.search(words, said)
    assert "nearest" not in said
    assert "Then promote again: prod's CI job once more (README.md, Promoting), or python -m pipeline promote" in said


def test_a_group_without_versions_is_said(project: Project) -> None:
    assert "nearest" not in project.refusal()


def test_dirty_trees_are_never_promoted(project: Project) -> None:
    project.register(f"{project.tree()}-dirty")
    assert "files were changed and not committed when it was trained, and it is never promoted" in project.refusal()
    project.register(project.tree())
    (project.repository / "new.txt").write_text("not committed")
    assert "changed and not committed, and what is promoted is a commit" in project.refusal()


@pytest.mark.parametrize(
    ("status", "said"), [("failed", "failed its endpoint tests on dev"), ("broken", "could not be run"), ("", "yet")]
)
def test_what_did_not_pass_its_endpoint_tests_on_dev_is_not_promoted(project: Project, status: str, said: str) -> None:
    arn = project.register(project.tree(), metadata={"tests.status": status} if status else {})
    if not status:
        project.sagemaker.update_model_package(ModelPackageArn=arn, CustomerMetadataPropertiesToRemove=["tests.status"])
    assert said in project.refusal()


def test_of_several_the_one_that_was_approved_last_is_promoted(project: Project) -> None:
    tree = project.tree()
    at = [f"2026-11-20T0{hour}:00:00Z" for hour in (3, 9, 6)]
    versions = [project.register(tree, metadata={**STAMPED, "approval.at": time}) for time in at]
    project.register("f" * 40, metadata={**STAMPED, "approval.at": "2026-11-20T10:00:00Z"})
    project.promote()
    assert project.copies_of("prod") == [versions[1]]
    # where no platform has stamped them, the one that was changed last
    unstamped = [project.register(tree, None) for _ in range(2)]
    for version in reversed(unstamped):
        project.set(version, "Approved")
    project.promote()
    assert project.copies_of("prod") == [versions[1], unstamped[0]]


def test_the_moment_of_an_approval_is_the_stamps_else_the_last_change(pipeline: SimpleNamespace) -> None:
    now = datetime.now(UTC)
    changed = {"CreationTime": now - timedelta(hours=2), "LastModifiedTime": now}
    stamped = {**changed, "CustomerMetadataProperties": STAMPED}
    assert pipeline.registry.approved_at(stamped) == datetime(2026, 11, 20, 9, tzinfo=UTC)
    assert pipeline.registry.approved_at(changed) == now
    odd = {**changed, "CustomerMetadataProperties": {"approval.at": "yesterday"}}
    assert pipeline.registry.approved_at(odd) == now


# --- what the copy has


def test_a_copy_has_all_that_a_version_can_carry_and_nothing_of_what_became_of_its_source(project: Project) -> None:
    arn = project.register(project.tree(), metadata=STAMPED, **CARRIED)
    project.set(arn, "Approved", ApprovalDescription="better")
    project.promote()
    (copy,), source = project.versions("prod"), project.package(arn)
    for name, value in CARRIED.items():
        assert copy[name] == source[name] == value, name
    added = {"promoted.from": arn, "promoted.commit": project.git("rev-parse", "HEAD")}
    own = {key: value for key, value in source["CustomerMetadataProperties"].items() if key not in STAMPED}
    assert copy["CustomerMetadataProperties"] == own | added
    assert "ApprovalDescription" not in copy


def test_every_field_of_a_version_is_carried_or_left_out_for_a_reason(pipeline: SimpleNamespace) -> None:
    """A field that SageMaker adds is to be decided about here."""
    model = sagemaker_client().meta.service_model
    taken = set(model.operation_model("CreateModelPackage").input_shape.members)
    described = set(model.operation_model("DescribeModelPackage").output_shape.members)
    of_the_copy = {"ModelPackageGroupName", "ModelApprovalStatus", "CustomerMetadataProperties"}
    left_out = {
        *("ModelPackageName", "CertifyForMarketplace"),  # of packages without a group
        *("SourceUri", "ModelLifeCycle", "ValidationSpecification", "ManagedStorageType"),
        "ModelPackageRegistrationType",  # what is promoted is a registered one
    }
    assert taken & described == {*pipeline.promotion.CARRIED, *of_the_copy, *left_out}


def test_hashes_of_the_data_are_left_to_sagemaker_and_compared_afterwards(pipeline: SimpleNamespace) -> None:
    def package(number: int, tag: str) -> dict[str, Any]:
        s3 = {"S3Uri": "s3://b/k/", "S3DataType": "S3Prefix", "CompressionType": "None", "ETag": tag}
        containers = [{"Image": "i", "ModelDataETag": "same"}, {"ModelDataSource": {"S3DataSource": s3}}]
        arn = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:model-package/churn-dev/{number}"
        return {"ModelPackageArn": arn, "InferenceSpecification": {"Containers": containers}}

    source = package(1, "one")
    asked = pipeline.promotion.copied(source, {"promoted.from": "x"})
    assert "ETag" not in json.dumps(asked)
    assert asked["InferenceSpecification"]["Containers"][1]["ModelDataSource"]["S3DataSource"]["S3Uri"] == "s3://b/k/"
    pipeline.promotion.check_data(source, package(2, "one"))
    with pytest.raises(pipeline.InputError, match=r"the data of churn-dev/1 was changed after it was registered"):
        pipeline.promotion.check_data(source, package(2, "another"))


def test_a_version_of_a_source_uri_alone_is_copied_by_it(pipeline: SimpleNamespace) -> None:
    arn = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:model-package/other/1"
    asked = pipeline.promotion.copied({"SourceUri": arn}, {"promoted.from": "x"})
    assert asked["SourceUri"] == arn


def test_where_there_is_no_room_a_copy_leaves_out_what_is_said_elsewhere(project: Project) -> None:
    own = {f"hyperparameter.h{number}": "1" for number in range(50)}
    room = 50 - len(STAMPED)
    tree, limits = project.tree(), project.modules.promotion
    has = len(project.package(project.register(tree))["CustomerMetadataProperties"])
    # one more than there is room for: the stamp of its tests is not its own
    full = project.package(project.register(tree, metadata=dict(list(own.items())[: room - has + 1])))
    full["CustomerMetadataProperties"].pop("tests.status")
    added = dict.fromkeys(("promoted.from", "promoted.commit", "promoted.by"), "x")
    metadata = limits.copied(full, added)["CustomerMetadataProperties"]
    assert len(full["CustomerMetadataProperties"]) == len(metadata) == room == limits.MOST_PROPERTIES
    spared = {name for name in limits.SPARED if name in full["CustomerMetadataProperties"]}
    assert full["CustomerMetadataProperties"].keys() - metadata.keys() == spared
    assert len(spared) == len(added)
    full["CustomerMetadataProperties"]["own"] = "1"
    with pytest.raises(project.modules.InputError, match=rf"{project.name}-dev/2 carries {room + 1} metadata"):
        limits.copied(full, added)


def test_a_version_without_the_stages_file_is_refused(project: Project) -> None:
    arn = project.register(project.tree())
    project.sagemaker.update_model_package(
        ModelPackageArn=arn, CustomerMetadataPropertiesToRemove=["deployment.sha256.prod"]
    )
    assert f"{project.name}-dev/1 was registered without deployment/prod.yaml" in project.refusal()


def test_without_the_group_nothing_is_made(make: Callable[..., Project]) -> None:
    project = make("advanced")
    project.register(project.tree())
    project.sagemaker.delete_model_package_group(ModelPackageGroupName=f"{project.name}-challenger")
    project.stages = ("champion",)
    assert f"there is no model package group {project.name}-challenger" in project.refusal()


# --- once


def test_promoting_again_makes_nothing(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.register(project.tree())
    project.promote()
    said = capsys.readouterr().out
    assert f"{project.name}-prod/1 waits for approval:\n  python -m pipeline plan 1 --stage prod\n" in said
    assert "  python -m pipeline approve 1 --stage prod\n" in said
    project.git("commit", "--quiet", "--allow-empty", "--message", "The same files")
    assert project.promote() == 0
    assert len(project.versions("prod")) == 1


def test_a_copy_that_was_rejected_is_not_made_again(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.register(project.tree())
    project.promote()
    (copy,) = project.versions("prod")
    project.set(copy["ModelPackageArn"], "Rejected", ApprovalDescription="not before Christmas")
    capsys.readouterr()
    assert project.promote() == 0
    assert len(project.versions("prod")) == 1
    assert capsys.readouterr().err == (
        f"{project.name}-prod/1 is this version already, and was rejected: not before Christmas\n"
        "  nothing was made; to have it served all the same: python -m pipeline approve 1 --stage prod\n"
    )


def test_promoting_an_older_tree_again_says_how_to_go_back(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    old = project.tree()
    for tree in (old, project.commit("one.txt")):
        project.register(tree)
        project.git("checkout", "--quiet", "--detach", next(c for c in ("HEAD", "HEAD~1") if project.tree(c) == tree))
        project.promote()
        project.set(project.versions("prod")[-1]["ModelPackageArn"], "Approved")
        project.git("checkout", "--quiet", "prod")
    assert len(project.versions("prod")) == 2
    capsys.readouterr()
    project.git("revert", "--no-edit", "HEAD")
    assert project.promote() == 0
    assert len(project.versions("prod")) == 2
    said = capsys.readouterr().out
    assert f"{project.name}-prod/1 is this version already, and approved; approved after it: 2\n" in said
    assert "to go back to it, reject what was approved later:\n  python -m pipeline reject 2 --stage prod\n" in said


def test_a_copy_that_was_deleted_is_made_again(project: Project) -> None:
    project.register(project.tree())
    for number in (1, 2, 3):
        project.promote()
        (copy,) = project.versions("prod")
        assert copy["ModelPackageVersion"] == number
        project.sagemaker.delete_model_package(ModelPackageName=copy["ModelPackageArn"])
        project.git("commit", "--quiet", "--allow-empty", "--message", "The same files")


def test_two_at_once_make_one_copy(make: Callable[..., Project], tmp_path: Path) -> None:
    project = make("advanced")
    version = project.register(project.tree())
    shutil.copytree(project.repository, tmp_path / "other")
    git(tmp_path / "other", "commit", "--quiet", "--allow-empty", "--message", "The same files")
    together = threading.Barrier(4, timeout=30)
    # all of them have seen that there is no copy before one of them makes it
    waiting = iter(range(4))

    def wait() -> None:
        if next(waiting, None) is not None:
            together.wait()

    project.account.meanwhile["ListModelPackages"] = wait

    def promote(number: int) -> int:
        root = (project.repository, tmp_path / "other")[number % 2]
        return int(project.modules.promotion.promote_branch(project.settings, project.account, root=root))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(promote, range(4))) == [0] * 4
    assert [project.copies_of(stage) for stage in project.stages] == [[version], [version]]


# --- what fails


@CALLS
def test_whichever_call_fails_in_whichever_way_the_next_try_finishes_and_copies_nothing_twice(
    make: Callable[..., Project], which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = make("advanced")
    account, modules = repository.account, repository.modules
    lineage = modules.lineage.read_lineage(repository.repository)
    monkeypatch.setattr(modules.promotion, "read_lineage", lambda root: lineage)  # git takes longer than all the rest
    repository.register(repository.tree())
    account.calls.clear()
    assert repository.promote() == 0
    calls = list(account.calls)
    assert {call.operation for call in calls} == {
        "CreateModelPackage",
        "DescribeModelPackage",
        "DescribeModelPackageGroup",
        "ListModelPackages",
    }
    for call, kind in itertools.product(chosen(calls, which), KINDS):
        project = repository.another()
        version = project.register(lineage.tree)
        account.calls.clear()
        account.fault = Fault(call, kind)
        try:
            project.promote()
        except (Killed, ClientError):
            assert kind in ENDING
        else:
            assert kind not in ENDING
        account.fault = None
        assert project.promote() == 0
        assert [project.copies_of(stage) for stage in project.stages] == [[version], [version]], (call, kind)


def test_a_version_that_is_deleted_between_list_and_description_is_none(project: Project) -> None:
    tree = project.tree()
    kept, deleted = project.register(tree), project.register(tree)
    account = project.account

    def delete() -> None:
        account.meanwhile.clear()
        project.sagemaker.delete_model_package(ModelPackageName=deleted)

    account.meanwhile["ListModelPackages"] = delete
    assert project.promote() == 0
    assert project.copies_of("prod") == [kept]


@pytest.mark.slow
def test_thousands_of_versions_are_listed_by_the_hundred_and_the_approved_ones_described_once(
    project: Project,
) -> None:
    for number in range(3000):
        project.register(f"{number:040x}", "Approved" if number % 50 == 0 else None)
    wanted = project.register(project.tree())
    project.account.calls.clear()
    assert project.promote() == 0
    counted = Counter(call.operation for call in project.account.calls)
    assert project.copies_of("prod") == [wanted]
    assert counted["ListModelPackages"] <= 3
    assert counted["DescribeModelPackage"] <= 60 + 3


# --- champion and challenger


@dataclass
class Pair:
    """Champion and challenger of a project, each serving a version of its own; and the platform, which deploys."""

    project: Project

    def __post_init__(self) -> None:
        self.account = self.project.account
        for stage in self.project.stages:
            specification = {"Containers": [{"Image": "i", "ModelDataUrl": f"s3://b/{stage}.tar.gz"}]}
            arn = self.project.register("0" * 40, None, stage, InferenceSpecification=specification)
            self.project.set(arn, "Approved")
        self.deploy()
        self.first = self.serving()

    def deploy(self) -> None:
        """What the platform does: of each stage what was approved last serves."""
        for stage in self.project.stages:
            arn = self.project.modules.pair._decided(self.project.versions(stage))
            stamps = {"deployment.ended": "2027-01-01T00:00:00Z"}
            if arn is not None:
                self.project.sagemaker.update_model_package(ModelPackageArn=arn, CustomerMetadataProperties=stamps)
                self.account.serve(arn)

    def serving(self) -> list[str]:
        """The data of the model that champion, and that challenger serves."""
        packages = [
            self.project.package(self.account.serving[self.endpoint(one)]["arn"]) for one in self.project.stages
        ]
        return [one["InferenceSpecification"]["Containers"][0]["ModelDataUrl"] for one in packages]

    def endpoint(self, stage: str) -> str:
        return f"{self.project.name}-{stage}"

    def versions(self) -> tuple[int, int]:
        """That champion and challenger serve."""
        found = [self.account.serving[self.endpoint(stage)]["arn"] for stage in self.project.stages]
        return int(found[0].rpartition("/")[2]), int(found[1].rpartition("/")[2])

    def swap(self, versions: tuple[int, int] | None = None, why: str | None = None, sure: Any = lambda: None) -> int:
        project = self.project
        return int(project.modules.pair.swap(project.name, self.account, project.stages, versions, why, sure))

    def promote(self, why: str | None = None) -> int:
        project = self.project
        pair = project.modules.pair
        return int(pair.promote_challenger(project.name, self.account, project.stages, why, lambda: None))

    def refusal(self, do: Callable[[], int]) -> str:
        """Why nothing is exchanged; nothing was made or approved."""
        before = [self.project.versions(stage) for stage in self.project.stages]
        with pytest.raises(self.project.modules.InputError) as caught:
            do()
        assert [self.project.versions(stage) for stage in self.project.stages] == before
        return str(caught.value)


@pytest.fixture
def pair(make: Callable[..., Project]) -> Pair:
    return Pair(make("advanced"))


def test_champion_and_challenger_exchange_what_they_serve(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    name, asked = pair.project.name, []
    assert pair.swap(why="it is better", sure=lambda: asked.append(capsys.readouterr().out)) == 0
    assert asked == [
        f"champion serves {name}-champion/1 (commit cccccccccccc), and will serve a copy of {name}-challenger/1 "
        f"(commit cccccccccccc)\nchallenger serves {name}-challenger/1 (commit cccccccccccc), and will serve a copy of "
        f"{name}-champion/1 (commit cccccccccccc)\n"
    ]
    copies = [pair.project.versions(stage)[-1] for stage in pair.project.stages]
    assert [one["ApprovalDescription"] for one in copies] == [
        f"swap champion/1 challenger/1: champion serves what was {name}-challenger/1; it is better",
        f"swap champion/1 challenger/1: challenger serves what was {name}-champion/1; it is better",
    ]
    metadata = copies[0]["CustomerMetadataProperties"]
    assert metadata["promoted.by"] == "swap champion/1 challenger/1"
    assert metadata["promoted.from"].endswith(f"{name}-challenger/1")
    pair.deploy()
    assert pair.serving() == pair.first[::-1]
    # and once more, which is meant: back
    assert pair.swap() == 0
    pair.deploy()
    assert (pair.serving(), pair.versions()) == (pair.first, (3, 3))


def test_swapping_named_versions_again_does_nothing(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    assert pair.swap((1, 1)) == 0
    pair.deploy()
    assert pair.swap((1, 1)) == 0
    assert "both are done already" in capsys.readouterr().out
    assert pair.versions() == (2, 2)
    said = pair.refusal(lambda: pair.swap((7, 1)))
    assert "what serves is not what you named: it would be swap champion/2 challenger/2" in said


def left_half_way(
    repository: Project, calls: list[Call], do: Callable[[Pair], object]
) -> Iterator[tuple[Pair, Call, str]]:
    """For each of the calls, and each way in which it ends all: a pair of its own, as that leaves it."""
    account = repository.account
    for call, kind in itertools.product(calls, ENDING):
        pair = Pair(repository.another())
        account.calls.clear()
        account.fault = Fault(call, kind)
        with pytest.raises((Killed, ClientError)):
            do(pair)
        account.fault = None
        yield pair, call, kind


@CALLS
def test_whichever_call_of_a_swap_fails_the_next_try_finishes_and_never_swaps_back(
    make: Callable[..., Project], which: str
) -> None:
    repository = make("advanced")
    account = repository.account
    whole = Pair(repository.another())
    account.calls.clear()
    whole.swap()
    calls = list(account.calls)
    assert Counter(call.operation for call in calls)["UpdateModelPackage"] == 2
    for pair, call, kind in left_half_way(repository, chosen(calls, which), lambda pair: pair.swap()):
        # the platform is quicker than whoever tries again, but when all was done before the end
        if call != calls[-1] or kind != "killed after":
            pair.deploy()
        pair.swap((1, 1))
        pair.deploy()
        assert (pair.serving(), pair.versions()) == (pair.first[::-1], (2, 2)), (call, kind)


@pytest.mark.parametrize("nth", [1, 2])
def test_an_interrupted_swap_goes_on_though_nobody_names_it(pair: Pair, nth: int) -> None:
    """Nor when the first stage serves its copy already, or is still on its way to it."""
    kind = {1: "killed after", 2: "killed before"}[nth]
    pair.account.calls.clear()
    pair.account.fault = Fault(Call("sagemaker", "UpdateModelPackage", nth), kind)
    with pytest.raises(Killed):
        pair.swap()
    pair.account.fault = None
    if nth == 1:
        pair.account.serving[pair.endpoint("champion")] |= {"status": "Updating", "next": "another"}
    else:
        pair.deploy()
    pair.swap()
    pair.deploy()
    assert (pair.serving(), pair.versions()) == (pair.first[::-1], (2, 2))


def test_a_swap_half_of_which_was_rejected_is_decided_by_a_person(pair: Pair) -> None:
    pair.swap()
    (challengers,) = [pair.project.versions("challenger")[-1]["ModelPackageArn"]]
    pair.project.set(challengers, "Rejected", ApprovalDescription="Deployment 3 failed")
    pair.deploy()
    said = pair.refusal(pair.swap)
    assert "that of challenger was rejected (Deployment 3 failed). Finish with python -m pipeline approve 2" in said
    assert "or go back with python -m pipeline reject 2 --stage champion" in said
    # both rejected: as if it had never been; and it can be done again
    pair.project.set(pair.project.versions("champion")[-1]["ModelPackageArn"], "Rejected")
    pair.deploy()
    assert pair.versions() == (1, 1)
    pair.swap()
    pair.deploy()
    assert (pair.serving(), pair.versions()) == (pair.first[::-1], (2, 2))


def test_what_was_approved_after_an_interrupted_swap_makes_another_one(pair: Pair) -> None:
    pair.account.calls.clear()
    pair.account.fault = Fault(Call("sagemaker", "UpdateModelPackage", 2), "killed before")
    with pytest.raises(Killed):
        pair.swap()
    pair.account.fault = None
    specification = {"Containers": [{"Image": "i", "ModelDataUrl": "s3://b/new.tar.gz"}]}
    pair.project.register("1" * 40, "Approved", "champion", InferenceSpecification=specification)
    pair.deploy()
    assert pair.versions() == (3, 1)
    pair.swap()
    pair.deploy()
    assert pair.serving() == [pair.first[1], "s3://b/new.tar.gz"]


@pytest.mark.parametrize("command", ["swap", "promote"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": "Updating"}, "challenger is Updating: wait until"),
        ({"next": "another"}, "challenger is InService: wait until it serves one version, and stays so"),
        ({"status": "Creating", "arn": None}, "challenger is Creating: wait until"),
        ({"status": "Failed"}, "challenger is Failed: wait until"),
        (None, "challenger serves no version: promote to it, and approve a version there"),
    ],
)
def test_nothing_is_exchanged_while_one_of_them_changes_or_serves_nothing(
    pair: Pair, command: str, change: dict[str, Any] | None, words: str
) -> None:
    if change is None:
        del pair.account.serving[pair.endpoint("challenger")]
    else:
        pair.account.serving[pair.endpoint("challenger")] |= change
    assert words in pair.refusal(getattr(pair, command))


def test_a_version_that_was_deleted_while_it_serves_is_exchanged_with_nothing(pair: Pair) -> None:
    arn = pair.account.serving[pair.endpoint("champion")]["arn"]
    pair.project.sagemaker.delete_model_package(ModelPackageName=arn)
    assert f"champion serves {pair.project.name}-champion/1, which was deleted" in pair.refusal(pair.swap)


def test_an_approval_that_is_not_deployed_yet_is_waited_for(pair: Pair) -> None:
    arn = pair.project.register("1" * 40, "Approved", "champion")
    name = pair.project.name
    assert f"{name}-champion/2 was approved after {name}-champion/1, which serves" in pair.refusal(pair.swap)
    pair.project.set(arn, "Rejected")
    assert pair.swap() == 0


def test_of_one_model_in_both_stages_nothing_is_exchanged(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    assert pair.promote() == 0
    pair.deploy()
    assert pair.serving() == [pair.first[1]] * 2
    assert (pair.promote(), pair.swap()) == (0, 0)
    said = capsys.readouterr().out
    assert "champion serves what challenger serves" in said
    assert "serve the same model: there is nothing to exchange" in said
    assert pair.versions() == (2, 1)


@CALLS
def test_whichever_call_of_promoting_the_challenger_fails_the_next_try_finishes(
    make: Callable[..., Project], which: str
) -> None:
    repository = make("advanced")
    account = repository.account
    whole = Pair(repository.another())
    account.calls.clear()
    whole.promote("better")
    calls = list(account.calls)
    assert whole.project.versions("champion")[-1]["ApprovalDescription"].endswith("; better")
    for pair, call, kind in left_half_way(repository, chosen(calls, which), lambda pair: pair.promote()):
        pair.deploy()
        pair.promote()
        pair.deploy()
        assert (pair.serving(), pair.versions()) == ([pair.first[1]] * 2, (2, 1)), (call, kind)


def test_batch_stages_are_exchanged_too(pair: Pair) -> None:
    for found in pair.account.serving.values():
        found["schedule"] = True
    assert pair.swap() == 0
    pair.deploy()
    assert pair.serving() == pair.first[::-1]


def test_nobody_agreeing_makes_nothing(pair: Pair) -> None:
    def no() -> None:
        raise pair.project.modules.InputError("nothing was done")

    assert pair.refusal(lambda: pair.swap(sure=no)) == "nothing was done"
    assert "--reason: 79 characters too many" in pair.refusal(lambda: pair.swap(why="x" * 1024))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["swap", "--champion", "1"], "--champion and --challenger go together"),
        (["swap", "--champion", "0", "--challenger", "1"], "'0' is not a whole number of at least 1"),
        (["promote-challenger", "--reason", ""], "characters: write 1 to 1024"),
        (["promote", "--branch", "feature-x"], "'feature-x' is not promoted: merge it into prod"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_aws_is_asked(
    pipeline: SimpleNamespace, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = pipeline.cli.main(words)
    except SystemExit as error:
        code = error.code
    assert (code, said in capsys.readouterr().err) == (2, True)


def test_without_a_terminal_nobody_is_asked(pipeline: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    with pytest.raises(pipeline.InputError, match="say --yes if this is meant; nothing was done"):
        pipeline.cli._asking(SimpleNamespace(yes=False))()
    pipeline.cli._asking(SimpleNamespace(yes=True))()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    for answer, agreed in (("n", False), ("", False), (" Yes ", True)):
        monkeypatch.setattr("builtins.input", lambda _, said=answer: said)
        if agreed:
            pipeline.cli._asking(SimpleNamespace(yes=False))()
        else:
            with pytest.raises(pipeline.InputError, match="nothing was done"):
                pipeline.cli._asking(SimpleNamespace(yes=False))()


def test_a_project_without_challenger_is_refused(pipeline: SimpleNamespace, account: Account) -> None:
    for command in (
        lambda: pipeline.pair.swap("churn", account, ["dev", "prod"], None, None, lambda: None),
        lambda: pipeline.pair.promote_challenger("churn", account, ["dev", "prod"], None, lambda: None),
    ):
        with pytest.raises(pipeline.InputError, match="merge into prod, and promote"):
            command()
    assert account.calls == []


# --- as a command


@pytest.mark.slow
def test_the_command_promotes_prod_alone(project: Project, tmp_path: Path) -> None:
    settings = project.repository / "settings.yaml"
    text = settings.read_text().replace('project: "churn"', f'project: "{project.name}"')
    with LocalAWS() as aws:

        def command(*arguments: str) -> subprocess.CompletedProcess[str]:
            return run(project.repository, "-m", "pipeline", "promote", *arguments, **aws.environment)

        settings.write_text(text)
        assert "changed and not committed" in command().stderr
        project.git("commit", "--quiet", "--all", "--message", "Another name")
        refused = command("--branch", "dev")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr == "error: 'dev' is not promoted: merge it into prod, which is, and promote there\n"
        project.sagemaker = aws.client("sagemaker")
        for stage in ("dev", "prod"):
            project.sagemaker.create_model_package_group(ModelPackageGroupName=f"{project.name}-{stage}")
        project.register(project.tree())
        promoted = command()
        assert promoted.returncode == 0, promoted.stderr
        said = promoted.stdout.splitlines()
        assert said[0] == f"promoting {project.name}-dev/1 (commit cccccccccccc, tree {project.tree()})"
        assert said[1] == f"{project.name}-prod/1 waits for approval:"
