"""What project.yaml promises: one project's people and pipelines reach nothing of another's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from local_aws.ministack_host import policies_allow
from local_aws.permissions.decisions import Decision, frozen_context
from servicecatalog import account
from tests.servicecatalog import template

PATH = Path(account.__file__).parent / "project.yaml"
WRITTEN = template.load(PATH)
KEY = "arn:aws:kms:eu-west-1:111122223333:key/11112222-3333-4444-5555-666677778888"
VALUES = {
    "Project": "churn",
    "ArtifactBucket": "shared",
    "DataBuckets": "my-data",
    "KmsKeyArns": KEY,
    "DenyApprovalPolicyArn": "arn:aws:iam::111122223333:policy/modelyard-deny-approval-eu-west-1",
    "PermissionsBoundaryArn": "arn:aws:iam::111122223333:policy/boundary",
}
RESOURCES = template.resolved(WRITTEN, VALUES)
POLICIES = template.policies(RESOURCES)
ROLE = [document for name, document in POLICIES.items() if name.startswith("PipelineRole/")]
PEOPLE = [POLICIES["DeveloperPolicy"], POLICIES["ReaderPolicy"]]
# The names of projects that begin as churn's resources do.
OTHERS = ("churn-dev", "churn-feature", "churn-feature-x", "churn2", "c")


def allowed(policies: Iterable[Mapping[str, Any]], action: str, resource: str, **context: Any) -> bool:
    """Keys of the context with their prefix, such as request={"modelyard:project": ...} for aws:RequestTag."""
    known = {"request": "aws:RequestTag/", "tags": "aws:ResourceTag/", "": ""}
    keys: dict[str, Any] = {}
    for kind, values in context.items():
        keys |= {f"{known.get(kind, '')}{key}": value for key, value in values.items()}
    if "request" in context:
        keys.setdefault("aws:TagKeys", list(context["request"]))
    arn = resource if resource.startswith("arn:") else f"arn:aws:sagemaker:eu-west-1:111122223333:{resource}"
    principal = "arn:aws:iam::111122223333:user/somebody"
    return policies_allow(policies)(Decision(principal, action, arn, "eu-west-1", frozen_context(keys), True))


def tags(project: str, stage: str = "dev") -> dict[str, str]:
    return {
        "sagemaker:project-name": project,
        "sagemaker:project-id": "p-123456789012",
        "modelyard:project": project,
        "modelyard:stage": stage,
    }


@pytest.mark.parametrize("stage", ["feature", "dev", "prod", "champion", "challenger"])
def test_the_groups_of_the_project_and_no_others_can_be_made_and_looked_at(stage: str) -> None:
    group = f"model-package-group/churn-{stage}"
    assert allowed(PEOPLE, "sagemaker:CreateModelPackageGroup", group, request=tags("churn", stage))
    assert allowed(PEOPLE, "sagemaker:DescribeModelPackageGroup", group)
    assert allowed(PEOPLE, "sagemaker:ListModelPackages", f"model-package/churn-{stage}/*")
    for other in OTHERS:
        foreign = f"model-package-group/{other}-{stage}"
        assert not allowed(PEOPLE, "sagemaker:CreateModelPackageGroup", foreign, request=tags("churn", stage))
        assert not allowed(PEOPLE, "sagemaker:DescribeModelPackageGroup", foreign)
        assert not allowed(PEOPLE, "sagemaker:DescribeModelPackage", f"model-package/{other}-{stage}/1")
        assert not allowed([*PEOPLE, *ROLE], "sagemaker:DescribeEndpoint", f"endpoint/{other}-{stage}")
        assert not allowed(PEOPLE, "sagemaker:InvokeEndpoint", f"endpoint/{other}-{stage}")


def test_a_group_cannot_be_made_for_another_project_or_be_let_approve_by_itself() -> None:
    group, make = "model-package-group/churn-dev", "sagemaker:CreateModelPackageGroup"
    assert not allowed(PEOPLE, make, group, request=tags("other"))
    assert not allowed(PEOPLE, make, group)
    for key in ("modelyard:approval", "modelyard:model-role"):
        assert not allowed(PEOPLE, make, group, request=tags("churn") | {key: "automatic"})
        again = {"request": tags("churn") | {key: "automatic"}, "tags": tags("churn")}
        assert not allowed(PEOPLE, "sagemaker:AddTags", group, **again)


def test_what_is_anothers_cannot_be_tagged_as_ones_own() -> None:
    pipeline = "pipeline/churn-feature-x-dev"
    assert allowed(PEOPLE, "sagemaker:AddTags", pipeline, request=tags("churn"), tags=tags("churn"))
    assert not allowed(PEOPLE, "sagemaker:AddTags", pipeline, request=tags("churn"), tags=tags("churn-feature-x"))
    assert not allowed(PEOPLE, "sagemaker:AddTags", pipeline, request=tags("churn"))
    assert not allowed(PEOPLE, "sagemaker:AddTags", pipeline, request=tags("other"), tags=tags("churn"))


@pytest.mark.parametrize("name", ["churn-dev", "churn-feature-trees-0a1b2c"])
@pytest.mark.parametrize("action", ["UpdatePipeline", "StartPipelineExecution", "DescribePipeline"])
def test_pipelines_are_run_by_their_projects_people(name: str, action: str) -> None:
    assert allowed(PEOPLE, f"sagemaker:{action}", f"pipeline/{name}", tags=tags("churn"))
    assert not allowed(PEOPLE, f"sagemaker:{action}", f"pipeline/{name}", tags=tags("churn-feature"))


@pytest.mark.parametrize(
    ("action", "name"),
    [
        ("DescribePipeline", "pipeline/churn-dev"),
        ("ListPipelineExecutions", "pipeline/churn-feature-x-0a1b2c"),
        ("DescribeEndpoint", "endpoint/churn-dev"),
        ("DescribeEndpointConfig", "endpoint-config/churn-dev-1"),
        ("DescribeModel", "model/churn-dev-1"),
        ("DescribeModelPackageGroup", "model-package-group/churn-prod"),
    ],
)
def test_of_what_is_not_there_aws_may_say_so(action: str, name: str) -> None:
    """What is not there has no tags; "access denied" would leave people without a clue."""
    assert allowed(PEOPLE, f"sagemaker:{action}", name)


def test_jobs_are_made_watched_and_stopped_for_the_project_alone() -> None:
    for job in ("processing-job", "training-job", "hyper-parameter-tuning-job"):
        kind = {"hyper-parameter-tuning-job": "HyperParameterTuningJob"}.get(job) or job.title().replace("-", "")
        name = f"{job}/pipelines-abc-train"
        while_creating = {"": {"sagemaker:TaggingAction": f"Create{kind}"}}
        assert allowed(ROLE, f"sagemaker:Create{kind}", name, request=tags("churn"))
        assert not allowed(ROLE, f"sagemaker:Create{kind}", name, request=tags("other"))
        assert not allowed(ROLE, f"sagemaker:Create{kind}", name)
        assert allowed(ROLE, "sagemaker:AddTags", name, request=tags("churn"), **while_creating)
        assert not allowed(ROLE, "sagemaker:AddTags", name, request=tags("churn"))
        assert allowed(ROLE, f"sagemaker:Stop{kind}", name, tags=tags("churn"))
        assert not allowed(ROLE, f"sagemaker:Stop{kind}", name, tags=tags("other"))


@pytest.mark.parametrize("group", ["model-package-group/churn-dev", "model-package/churn-feature/*"])
def test_the_pipeline_registers_as_pending_and_never_approves(group: str) -> None:
    def status(value: str) -> dict[str, Any]:
        return {"": {"sagemaker:ModelApprovalStatus": value}}

    assert allowed(ROLE, "sagemaker:CreateModelPackage", group, **status("PendingManualApproval"))
    assert not allowed(ROLE, "sagemaker:CreateModelPackage", group, **status("Approved"))
    assert not allowed(ROLE, "sagemaker:CreateModelPackage", group)
    assert not allowed(ROLE, "sagemaker:UpdateModelPackage", group, tags=tags("churn"))


def test_who_approves_a_projects_versions_approves_no_others() -> None:
    approver = [*PEOPLE, POLICIES["ApproverPolicy"]]
    approved = {"": {"sagemaker:ModelApprovalStatus": "Approved"}}
    for stage in ("feature", "dev", "prod", "champion", "challenger"):
        assert allowed(approver, "sagemaker:UpdateModelPackage", f"model-package/churn-{stage}/1", **approved)
        assert not allowed(PEOPLE, "sagemaker:UpdateModelPackage", f"model-package/churn-{stage}/1", **approved)
        for other in OTHERS:
            foreign = f"model-package/{other}-{stage}/1"
            assert not allowed(approver, "sagemaker:UpdateModelPackage", foreign, tags=tags("churn"), **approved)
            assert not allowed(approver, "sagemaker:DescribeModelPackage", foreign, tags=tags("churn"))


def test_the_pipeline_registers_where_it_trains_not_where_users_are_served() -> None:
    pending = {"": {"sagemaker:ModelApprovalStatus": "PendingManualApproval"}}
    for name in ("churn-prod", "churn-champion", "other-dev", "churn-dev-dev"):
        assert not allowed(ROLE, "sagemaker:CreateModelPackage", f"model-package-group/{name}", **pending)


def test_the_role_cannot_be_passed_but_to_sagemaker_nor_any_other_by_these_policies() -> None:
    role = "arn:aws:iam::111122223333:role/modelyard/pipelines/churn-pipeline"
    to_sagemaker = {"": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    for policies in (ROLE, PEOPLE):
        assert allowed(policies, "iam:PassRole", role, **to_sagemaker)
        assert not allowed(policies, "iam:PassRole", role, **{"": {"iam:PassedToService": "lambda.amazonaws.com"}})
        assert not allowed(policies, "iam:PassRole", role.replace("churn", "churn-dev"), **to_sagemaker)


@pytest.mark.parametrize("policies", [ROLE, PEOPLE], ids=["role", "people"])
def test_objects_of_the_project_and_no_others_are_read_and_written(policies: list[dict[str, Any]]) -> None:
    for action in ("s3:GetObject", "s3:PutObject"):
        assert allowed(policies, action, "arn:aws:s3:::shared/churn/data/rows.csv")
        assert not allowed(policies, action, "arn:aws:s3:::shared/churn-dev/data/rows.csv")
        assert not allowed(policies, action, "arn:aws:s3:::other/churn/data/rows.csv")
    bucket = "arn:aws:s3:::shared"
    assert allowed(policies, "s3:ListBucket", bucket, **{"": {"s3:prefix": "churn/data/"}})
    assert not allowed(policies, "s3:ListBucket", bucket, **{"": {"s3:prefix": "churn-dev/"}})
    assert not allowed(policies, "s3:ListBucket", bucket, **{"": {"s3:prefix": ""}})


def test_the_role_is_sagemakers_in_this_account_and_bounded() -> None:
    role = RESOURCES["PipelineRole"]["Properties"]
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert trust["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "111122223333"},
        "ArnLike": {"aws:SourceArn": "arn:aws:sagemaker:eu-west-1:111122223333:*"},
    }
    assert role["PermissionsBoundary"] == VALUES["PermissionsBoundaryArn"]
    assert role["ManagedPolicyArns"] == [VALUES["DenyApprovalPolicyArn"]]
    assert f"{role['Path']}{role['RoleName']}" == "/modelyard/pipelines/churn-pipeline"


def test_the_controller_cannot_pass_it() -> None:
    assert not RESOURCES["PipelineRole"]["Properties"]["Path"].startswith("/modelyard/models/")


def test_without_optional_parameters_nothing_is_left_of_them() -> None:
    bare = template.resolved(WRITTEN, {"Project": "churn", "ArtifactBucket": "shared"})
    text = json.dumps(bare)
    for value in ("my-data", "kms:", "PermissionsBoundary", "deny-approval"):
        assert value not in text
    assert "ManagedPolicyArns" not in bare["PipelineRole"]["Properties"]


@pytest.mark.parametrize("policy", ["DeveloperPolicy", "ReaderPolicy", "ApproverPolicy"])
def test_a_managed_policy_is_not_longer_than_iam_takes(policy: str) -> None:
    """6,144 characters, by the longest name: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""
    many = VALUES | {"Project": "p" * 32, "KmsKeyArns": ",".join([KEY] * 3), "ArtifactBucket": "b" * 63}
    document = template.resolved(WRITTEN, many)[policy]["Properties"]["PolicyDocument"]
    assert len(json.dumps(document, separators=(",", ":"))) <= 6144


def test_the_roles_policies_are_not_longer_than_iam_takes() -> None:
    """10,240 characters of inline policies together: the same page."""
    many = template.resolved(WRITTEN, VALUES | {"Project": "p" * 32, "KmsKeyArns": ",".join([KEY] * 3)})
    inline = many["PipelineRole"]["Properties"]["Policies"]
    assert sum(len(json.dumps(one["PolicyDocument"], separators=(",", ":"))) for one in inline) <= 10240


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        ("Project", ["churn", "a", "a-b2", "p" * 32], ["", "Churn", "2a", "a-", "a_b", "p" * 33]),
        ("ArtifactBucket", ["my-artifacts"], ["", "team-*", "s3://x"]),
        ("DataBuckets", ["", "my-data", "a.b, c-d"], ["/path", "team-*"]),
        ("KmsKeyArns", ["", KEY, f"{KEY},{KEY}"], ["alias/my-key"]),
        ("DenyApprovalPolicyArn", ["", VALUES["DenyApprovalPolicyArn"]], ["modelyard-deny-approval"]),
        ("PermissionsBoundaryArn", ["", "arn:aws:iam::aws:policy/PowerUserAccess"], ["PowerUserAccess"]),
    ],
)
def test_a_parameter_takes_what_can_be_and_nothing_else(parameter: str, good: list[str], bad: list[str]) -> None:
    described = WRITTEN["Parameters"][parameter]
    assert described["Description"]
    assert all(re.search(described["AllowedPattern"], value) for value in good)
    assert not any(re.search(described["AllowedPattern"], value) for value in bad)


def test_every_parameter_has_its_place_in_the_console() -> None:
    groups = WRITTEN["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    shown = [name for group in groups for name in group["Parameters"]]
    assert sorted(shown) == sorted(WRITTEN["Parameters"])
