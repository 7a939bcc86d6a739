"""Two projects in one account, the one's name the beginning of the other's: with IAM enforced, each one's people and
pipelines are tried against what is the other's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws import LocalAWS
from tests.story.people import People, prepare

pytestmark = pytest.mark.slow

BUCKET = "shared-artifacts"
PREFIX = "arn:aws:sagemaker:us-east-1:123456789012"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.2-0"
DEFINITION = json.dumps(
    {
        "Version": "2020-12-01",
        "Metadata": {},
        "Parameters": [],
        "Steps": [{"Name": "Stop", "Type": "Fail", "Arguments": {"ErrorMessage": "as it should"}}],
    }
)
PAIRS = [("churn", "churn-dev"), ("churn", "churn-feature"), ("churn-dev", "churn"), ("churn-feature", "churn")]
Client = Callable[[str], Any]


@dataclass(frozen=True)
class Side:
    """One project.

    Attributes:
        clients: by who asks: its data scientist, or its pipelines' role.
        execution: ARN of one of its pipeline's.
    """

    name: str
    people: People
    clients: dict[str, Client]
    execution: str


def tags(project: str, **further: str) -> list[dict[str, str]]:
    named = {
        "sagemaker:project-name": project,
        "sagemaker:project-id": f"p-{project}",
        "modelyard:project": project,
        "modelyard:stage": "dev",
    }
    return [{"Key": key, "Value": value} for key, value in (named | further).items()]


@pytest.fixture(scope="module")
def sides() -> Iterator[dict[str, Side]]:
    """The projects, each with a group, a version, pipelines, an execution, a model and data, made by its own."""
    with LocalAWS(enforce_iam=True) as aws:
        yield {name: side(aws, name) for name in ("churn", "churn-dev", "churn-feature")}


def side(aws: LocalAWS, name: str) -> Side:
    people = prepare(aws, name, BUCKET)
    as_role = role_session(aws, people.role)
    clients: dict[str, Client] = {
        "data scientist": lambda service: aws.client(service, credentials=people.data_scientist),
        "role": lambda service: aws.client(service, credentials=as_role),
    }
    sagemaker = clients["data scientist"]("sagemaker")
    sagemaker.create_model_package_group(ModelPackageGroupName=f"{name}-dev", Tags=tags(name))
    for pipeline in (f"{name}-dev", f"{name}-feature-trees-0a1b2c"):
        sagemaker.create_pipeline(
            PipelineName=pipeline,
            PipelineDefinition=DEFINITION,
            RoleArn=people.role_arn,
            ClientRequestToken=f"{pipeline:x<40}",
            Tags=tags(name),
        )
    started = sagemaker.start_pipeline_execution(PipelineName=f"{name}-dev", ClientRequestToken=f"{name:s<40}")
    clients["role"]("s3").put_object(Bucket=BUCKET, Key=f"{name}/model.tar.gz", Body=b"a model")
    clients["role"]("sagemaker").create_model_package(**version(name, name))
    aws.client("sagemaker").create_model(
        ModelName=f"{name}-dev-1",
        ExecutionRoleArn=people.role_arn,
        PrimaryContainer={"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/{name}/model.tar.gz"},
        Tags=tags(name),
    )
    return Side(name, people, clients, started["PipelineExecutionArn"])


def role_session(aws: LocalAWS, role: str) -> dict[str, str]:
    """What a program in one of its jobs has; the owner lets themself assume the role for it."""
    iam = aws.client("iam")
    trust = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
    owner = {
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
        "Action": "sts:AssumeRole",
    }
    both = trust | {"Statement": [*trust["Statement"], owner]}
    iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(both))
    arn = iam.get_role(RoleName=role)["Role"]["Arn"]
    given = aws.client("sts").assume_role(RoleArn=arn, RoleSessionName="program")["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
        "AWS_SESSION_TOKEN": given["SessionToken"],
    }


def version(project: str, data: str, status: str = "PendingManualApproval") -> dict[str, Any]:
    """CreateModelPackage's request: for a project's group, from a project's archive."""
    return {
        "ModelPackageGroupName": f"{project}-dev",
        "ModelApprovalStatus": status,
        "InferenceSpecification": {
            "Containers": [{"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/{data}/model.tar.gz"}],
            "SupportedContentTypes": ["text/csv"],
            "SupportedResponseMIMETypes": ["text/csv"],
        },
    }


def denied(call: Callable[..., Any], **parameters: Any) -> bool:
    """Whether IAM denies it; nothing else may go wrong with it."""
    try:
        call(**parameters)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException", "403"):
            return True
        raise
    return False


@pytest.mark.parametrize("who", ["data scientist", "role"])
@pytest.mark.parametrize(("mine", "other"), PAIRS)
def test_another_projects_things_are_neither_looked_at_nor_touched(
    sides: dict[str, Side], who: str, mine: str, other: str
) -> None:
    me, them = sides[mine], sides[other]
    sagemaker, s3 = me.clients[who]("sagemaker"), me.clients[who]("s3")
    runtime, scheduler = me.clients[who]("sagemaker-runtime"), me.clients[who]("scheduler")
    group, package = f"{other}-dev", f"{PREFIX}:model-package/{other}-dev/1"
    one = {"ModelPackageGroupName": group}
    assert denied(sagemaker.describe_model_package_group, **one)
    assert denied(sagemaker.create_model_package_group, **one, Tags=tags(mine))
    assert denied(sagemaker.delete_model_package_group, **one)
    assert denied(sagemaker.list_model_packages, **one)
    assert denied(sagemaker.describe_model_package, ModelPackageName=package)
    assert denied(sagemaker.update_model_package, ModelPackageArn=package, ModelApprovalStatus="Approved")
    assert denied(sagemaker.create_model_package, **version(other, mine))
    assert denied(sagemaker.describe_endpoint, EndpointName=group)
    assert denied(runtime.invoke_endpoint, EndpointName=group, Body=b"1")
    assert denied(sagemaker.describe_model, ModelName=f"{other}-dev-1")
    assert denied(scheduler.get_schedule, GroupName="modelyard", Name=group)
    for name in (f"{other}-dev", f"{other}-feature-trees-0a1b2c"):
        arn = f"{PREFIX}:pipeline/{name}"
        assert denied(sagemaker.describe_pipeline, PipelineName=name)
        assert denied(sagemaker.list_pipeline_executions, PipelineName=name)
        assert denied(sagemaker.update_pipeline, PipelineName=name, PipelineDefinition=DEFINITION)
        assert denied(sagemaker.update_pipeline, PipelineName=name, RoleArn=me.people.role_arn)
        assert denied(sagemaker.start_pipeline_execution, PipelineName=name, ClientRequestToken="q" * 32)
        assert denied(sagemaker.delete_pipeline, PipelineName=name, ClientRequestToken="q" * 32)
        assert denied(sagemaker.add_tags, ResourceArn=arn, Tags=tags(mine))
        assert denied(sagemaker.delete_tags, ResourceArn=arn, TagKeys=["modelyard:project"])
    execution = {"PipelineExecutionArn": them.execution}
    assert denied(sagemaker.describe_pipeline_execution, **execution)
    assert denied(sagemaker.list_pipeline_execution_steps, **execution)
    assert denied(sagemaker.stop_pipeline_execution, **execution, ClientRequestToken="q" * 32)
    assert denied(sagemaker.add_tags, ResourceArn=f"{PREFIX}:model-package-group/{group}", Tags=tags(mine))
    theirs = {"Bucket": BUCKET, "Key": f"{other}/model.tar.gz"}
    assert denied(s3.get_object, **theirs)
    assert denied(s3.put_object, **theirs, Body=b"another")
    assert denied(s3.delete_object, **theirs)
    assert denied(s3.copy_object, Bucket=BUCKET, Key=f"{mine}/copy", CopySource=theirs)
    assert denied(s3.list_objects_v2, Bucket=BUCKET, Prefix=f"{other}/")


@pytest.mark.parametrize("mine", ["churn", "churn-dev"])
def test_the_role_of_another_is_not_passed_and_ones_own_version_not_approved(sides: dict[str, Side], mine: str) -> None:
    me = sides[mine]
    package = f"{PREFIX}:model-package/{mine}-dev/1"
    others = [sides["churn-feature"].people.role_arn, "arn:aws:iam::123456789012:role/modelyard/models/any"]
    for who in ("data scientist", "role"):
        sagemaker = me.clients[who]("sagemaker")
        for role in others:
            assert denied(sagemaker.update_pipeline, PipelineName=f"{mine}-dev", RoleArn=role)
        assert denied(sagemaker.update_model_package, ModelPackageArn=package, ModelApprovalStatus="Approved")
        assert denied(sagemaker.create_model_package, **version(mine, mine, "Approved"))
        assert denied(sagemaker.delete_model_package, ModelPackageName=package)


@pytest.mark.parametrize("key", ["modelyard:approval", "modelyard:model-role", "another"])
def test_a_group_is_not_given_the_tags_with_which_it_approves_or_has_another_role(
    sides: dict[str, Side], key: str
) -> None:
    sagemaker = sides["churn"].clients["data scientist"]("sagemaker")
    slipped = tags("churn", **{key: "automatic"})
    assert denied(sagemaker.create_model_package_group, ModelPackageGroupName="churn-prod", Tags=slipped)
    group = f"{PREFIX}:model-package-group/churn-dev"
    assert denied(sagemaker.add_tags, ResourceArn=group, Tags=slipped)
    assert denied(sagemaker.delete_tags, ResourceArn=group, TagKeys=["modelyard:stage"])
    assert denied(sagemaker.add_tags, ResourceArn=group, Tags=tags("churn-feature"))
    assert not denied(sagemaker.add_tags, ResourceArn=group, Tags=tags("churn"))


def test_who_approves_one_projects_versions_approves_no_others(sides: dict[str, Side]) -> None:
    """Last: it gives the data scientist of churn a further policy."""
    me = sides["churn"]
    policy = "arn:aws:iam::123456789012:policy/modelyard-churn-approver"
    me.people.aws.client("iam").attach_user_policy(UserName="churn-data-scientist", PolicyArn=policy)
    sagemaker = me.clients["data scientist"]("sagemaker")
    versions = {name: f"{PREFIX}:model-package/{name}-dev/1" for name in sides}
    for name, arn in versions.items():
        refused = denied(sagemaker.update_model_package, ModelPackageArn=arn, ModelApprovalStatus="Approved")
        assert refused is (name != "churn")
