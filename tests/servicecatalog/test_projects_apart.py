"""Projects in one account, the one's name the beginning of the other's: with IAM enforced, each one's people,
pipelines, CI and models are tried against what is the other's; and the classes of branches against each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws import LocalAWS
from tests.local_aws.people import role_session, sign_in
from tests.servicecatalog.projects import ACCOUNT, BUCKET, REGION, Project, Projects

pytestmark = pytest.mark.slow

PREFIX = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.2-0"
DEFINITION = json.dumps(
    {
        "Version": "2020-12-01",
        "Metadata": {},
        "Parameters": [],
        "Steps": [{"Name": "Stop", "Type": "Fail", "Arguments": {"ErrorMessage": "as it should"}}],
    }
)
NAMES = ("churn", "churn-dev", "churn-dev-1", "churn-x")
PAIRS = [("churn", "churn-dev"), ("churn-dev", "churn"), ("churn-dev", "churn-dev-1"), ("churn", "churn-x")]
TRAINING = ("feature", "dev")
PEOPLE, APPROVER = "data scientist", "approver"
# Whoever is of a project: its roles by the outputs that name them, and its data scientist.
ROLES = {
    "pipelines of feature": "FeaturePipelineRoleArn",
    "pipelines of dev": "DevPipelineRoleArn",
    "ci of feature": "FeatureCiRoleArn",
    "ci of dev": "DevCiRoleArn",
    "ci of prod": "ProdCiRoleArn",
    "models": "ModelRoleArn",
}
EVERYBODY = (PEOPLE, *ROLES)
# Codes with which IAM denies, in the words of each service.
DENIED = ("AccessDenied", "AccessDeniedException", "403")
Client = Callable[[str], Any]


@dataclass(frozen=True)
class Side:
    """One project.

    Args:
        clients: by who asks.
        executions: ARN of one of its pipelines' executions, by class.
    """

    name: str
    project: Project
    clients: dict[str, Client]
    executions: dict[str, str]

    def role(self, who: str) -> str:
        return self.project.outputs[ROLES[who]]


def tags(project: str, stage: str = "dev", **further: str) -> list[dict[str, str]]:
    named = {
        "sagemaker:project-name": project,
        "sagemaker:project-id": f"p-{project}",
        "modelyard:project": project,
        "modelyard:stage": stage,
    }
    return [{"Key": key, "Value": value} for key, value in (named | further).items()]


def pipeline(project: str, name: str) -> str:
    """A pipeline of a class."""
    return f"{project}-dev" if name == "dev" else f"{project}-feature-trees-0a1b2c"


@pytest.fixture(scope="module")
def sides() -> Iterator[dict[str, Side]]:
    """The projects, each with groups, versions, pipelines, executions, a model and data, made by its own."""
    with LocalAWS(enforce_iam=True) as aws:
        projects = Projects(aws).prepare()
        yield {name: side(aws, projects.create(name)) for name in NAMES}


def side(aws: LocalAWS, project: Project) -> Side:
    name = project.name
    clients = {PEOPLE: client(aws, user(aws, project, "DeveloperPolicy", "ReaderPolicy"))}
    clients[APPROVER] = client(aws, user(aws, project, "ApproverPolicy", "ReaderPolicy"))
    clients |= {who: client(aws, role_session(aws, project.outputs[output])) for who, output in ROLES.items()}
    for stage in (*TRAINING, "prod"):  # as the seed function makes them
        aws.client("sagemaker").create_model_package_group(
            ModelPackageGroupName=f"{name}-{stage}", Tags=tags(name, stage, **{"modelyard:stack": project.stack})
        )
    executions = {each: trained(clients, project, each) for each in TRAINING}
    aws.client("sagemaker").create_model(
        ModelName=f"{name}-dev-1",
        ExecutionRoleArn=project.outputs["ModelRoleArn"],
        PrimaryContainer={"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/{name}/dev/model.tar.gz"},
        Tags=tags(name),
    )
    return Side(name, project, clients, executions)


def trained(clients: dict[str, Client], project: Project, name: str) -> str:
    """What a class of branches makes: its CI a pipeline and an execution, its pipeline a model and a version of it."""
    sagemaker = clients[f"ci of {name}"]("sagemaker")
    sagemaker.create_pipeline(
        PipelineName=pipeline(project.name, name),
        PipelineDefinition=DEFINITION,
        RoleArn=project.outputs[ROLES[f"pipelines of {name}"]],
        ClientRequestToken=f"{pipeline(project.name, name):x<40}",
        Tags=tags(project.name, name),
    )
    started = sagemaker.start_pipeline_execution(
        PipelineName=pipeline(project.name, name), ClientRequestToken=f"{project.name}-{name:s<40}"
    )
    role = clients[f"pipelines of {name}"]
    role("s3").put_object(Bucket=BUCKET, Key=f"{project.name}/{name}/model.tar.gz", Body=b"a model")
    role("sagemaker").create_model_package(**version(project.name, name))
    return str(started["PipelineExecutionArn"])


def client(aws: LocalAWS, credentials: dict[str, str]) -> Client:
    return lambda service: aws.client(service, credentials=credentials)


def user(aws: LocalAWS, project: Project, *policies: str) -> dict[str, str]:
    """The credentials of a new user with some of the project's policies, by the outputs that name them."""
    iam, name = aws.client("iam"), f"{project.name}-{'-'.join(policies)}"
    iam.create_user(UserName=name)
    for policy in policies:
        iam.attach_user_policy(UserName=name, PolicyArn=project.outputs[policy])
    return sign_in(aws, name)


def version(project: str, stage: str, status: str = "PendingManualApproval") -> dict[str, Any]:
    """CreateModelPackage's request: for a group of a project, from an archive of its own."""
    return {
        "ModelPackageGroupName": f"{project}-{stage}",
        "ModelApprovalStatus": status,
        "InferenceSpecification": {
            "Containers": [{"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/{project}/{stage}/model.tar.gz"}],
            "SupportedContentTypes": ["text/csv"],
            "SupportedResponseMIMETypes": ["text/csv"],
        },
    }


def denied(call: Callable[..., Any], **parameters: Any) -> bool:
    """Whether IAM denies it; nothing else may go wrong with it."""
    try:
        call(**parameters)
    except ClientError as error:
        if error.response["Error"]["Code"] in DENIED:
            return True
        raise
    return False


@pytest.mark.parametrize("who", EVERYBODY)
@pytest.mark.parametrize(("mine", "other"), PAIRS)
def test_another_projects_things_are_neither_looked_at_nor_touched(
    sides: dict[str, Side], who: str, mine: str, other: str
) -> None:
    me, them = sides[mine], sides[other]
    sagemaker, s3 = me.clients[who]("sagemaker"), me.clients[who]("s3")
    runtime, scheduler = me.clients[who]("sagemaker-runtime"), me.clients[who]("scheduler")
    for stage in TRAINING:
        group, package = f"{other}-{stage}", f"{PREFIX}:model-package/{other}-{stage}/1"
        one = {"ModelPackageGroupName": group}
        assert denied(sagemaker.describe_model_package_group, **one)
        assert denied(sagemaker.create_model_package_group, **one, Tags=tags(mine, stage))
        assert denied(sagemaker.delete_model_package_group, **one)
        assert denied(sagemaker.list_model_packages, **one)
        assert denied(sagemaker.describe_model_package, ModelPackageName=package)
        assert denied(sagemaker.update_model_package, ModelPackageArn=package, ModelApprovalStatus="Approved")
        assert denied(sagemaker.create_model_package, **version(other, stage))
        assert denied(sagemaker.describe_endpoint, EndpointName=group)
        assert denied(runtime.invoke_endpoint, EndpointName=group, Body=b"1")
        assert denied(scheduler.get_schedule, GroupName="modelyard", Name=group)
        assert denied(sagemaker.add_tags, ResourceArn=f"{PREFIX}:model-package-group/{group}", Tags=tags(mine, stage))
        name = pipeline(other, stage)
        arn = f"{PREFIX}:pipeline/{name}"
        assert denied(sagemaker.describe_pipeline, PipelineName=name)
        assert denied(sagemaker.list_pipeline_executions, PipelineName=name)
        assert denied(sagemaker.update_pipeline, PipelineName=name, PipelineDefinition=DEFINITION)
        assert denied(sagemaker.update_pipeline, PipelineName=name, RoleArn=me.role("pipelines of dev"))
        assert denied(sagemaker.start_pipeline_execution, PipelineName=name, ClientRequestToken="q" * 32)
        assert denied(sagemaker.delete_pipeline, PipelineName=name, ClientRequestToken="q" * 32)
        assert denied(sagemaker.add_tags, ResourceArn=arn, Tags=tags(mine, stage))
        assert denied(sagemaker.delete_tags, ResourceArn=arn, TagKeys=["modelyard:project"])
        execution = {"PipelineExecutionArn": them.executions[stage]}
        assert denied(sagemaker.describe_pipeline_execution, **execution)
        assert denied(sagemaker.list_pipeline_execution_steps, **execution)
        assert denied(sagemaker.stop_pipeline_execution, **execution, ClientRequestToken="q" * 32)
        theirs = {"Bucket": BUCKET, "Key": f"{other}/{stage}/model.tar.gz"}
        assert denied(s3.get_object, **theirs)
        assert denied(s3.put_object, **theirs, Body=b"another")
        assert denied(s3.delete_object, **theirs)
        assert denied(s3.copy_object, Bucket=BUCKET, Key=f"{mine}/{stage}/copy", CopySource=theirs)
    assert denied(sagemaker.describe_model, ModelName=f"{other}-dev-1")
    assert denied(s3.list_objects_v2, Bucket=BUCKET, Prefix=f"{other}/")


@pytest.mark.parametrize("who", EVERYBODY)
@pytest.mark.parametrize("mine", ["churn", "churn-dev"])
def test_the_role_of_another_is_not_passed_and_ones_own_version_not_approved(
    sides: dict[str, Side], mine: str, who: str
) -> None:
    me = sides[mine]
    others = [sides["churn-x"].role(role) for role in ROLES]
    sagemaker = me.clients[who]("sagemaker")
    for role in [*others, me.role("models"), me.role("ci of dev"), f"arn:aws:iam::{ACCOUNT}:role/any"]:
        for stage in TRAINING:
            assert denied(sagemaker.update_pipeline, PipelineName=pipeline(mine, stage), RoleArn=role)
    for stage in TRAINING:
        package = f"{PREFIX}:model-package/{mine}-{stage}/1"
        assert denied(sagemaker.update_model_package, ModelPackageArn=package, ModelApprovalStatus="Approved")
        assert denied(sagemaker.create_model_package, **version(mine, stage, "Approved"))
        assert denied(sagemaker.delete_model_package, ModelPackageName=package)


@pytest.mark.parametrize("name", TRAINING)
@pytest.mark.parametrize("mine", ["churn", "churn-dev"])
def test_a_class_of_branches_does_nothing_to_the_other(sides: dict[str, Side], mine: str, name: str) -> None:
    me, other = sides[mine], "dev" if name == "feature" else "feature"
    ci, runs = me.clients[f"ci of {name}"], me.clients[f"pipelines of {name}"]
    sagemaker, theirs = ci("sagemaker"), pipeline(mine, other)
    assert not denied(sagemaker.describe_pipeline, PipelineName=theirs)
    assert denied(sagemaker.update_pipeline, PipelineName=theirs, PipelineDefinition=DEFINITION)
    assert denied(sagemaker.start_pipeline_execution, PipelineName=theirs, ClientRequestToken="q" * 32)
    assert denied(sagemaker.add_tags, ResourceArn=f"{PREFIX}:pipeline/{theirs}", Tags=tags(mine, name))
    execution = {"PipelineExecutionArn": me.executions[other], "ClientRequestToken": "q" * 32}
    assert denied(sagemaker.stop_pipeline_execution, **execution)
    own = {"PipelineName": pipeline(mine, name)}
    assert denied(sagemaker.update_pipeline, **own, RoleArn=me.role(f"pipelines of {other}"))
    assert not denied(sagemaker.update_pipeline, **own, RoleArn=me.role(f"pipelines of {name}"))
    stage = f"{PREFIX}:pipeline/{pipeline(mine, name)}"
    assert denied(sagemaker.add_tags, ResourceArn=stage, Tags=tags(mine, other))
    assert not denied(sagemaker.add_tags, ResourceArn=stage, Tags=tags(mine, name))
    assert denied(runs("sagemaker").create_model_package, **version(mine, other))
    for s3 in (ci("s3"), runs("s3")):
        assert not denied(s3.get_object, Bucket=BUCKET, Key=f"{mine}/{other}/model.tar.gz")
        assert not denied(s3.put_object, Bucket=BUCKET, Key=f"{mine}/{name}/file", Body=b"")
        for folder in (other, "data", "captured/prod", f"{name}2"):
            assert denied(s3.put_object, Bucket=BUCKET, Key=f"{mine}/{folder}/file", Body=b"")


@pytest.mark.parametrize("key", ["modelyard:approval", "modelyard:model-role", "modelyard:stack", "another"])
@pytest.mark.parametrize("who", EVERYBODY)
def test_a_group_is_given_no_tags_by_which_it_approves_has_another_role_or_another_owner(
    sides: dict[str, Side], who: str, key: str
) -> None:
    sagemaker = sides["churn"].clients[who]("sagemaker")
    slipped = tags("churn", **{key: "automatic"})
    group = f"{PREFIX}:model-package-group/churn-dev"
    assert denied(sagemaker.create_model_package_group, ModelPackageGroupName="churn-champion", Tags=slipped)
    assert denied(sagemaker.add_tags, ResourceArn=group, Tags=slipped)
    assert denied(sagemaker.delete_tags, ResourceArn=group, TagKeys=["modelyard:stage"])


def test_who_approves_one_projects_versions_approves_no_others(sides: dict[str, Side]) -> None:
    sagemaker = sides["churn"].clients[APPROVER]("sagemaker")
    for name in NAMES:
        package = f"{PREFIX}:model-package/{name}-dev/1"
        refused = denied(sagemaker.update_model_package, ModelPackageArn=package, ModelApprovalStatus="Approved")
        assert refused is (name != "churn")
