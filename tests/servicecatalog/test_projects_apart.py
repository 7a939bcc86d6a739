"""Projects in one account, the one's name the beginning of the other's: with IAM enforced, each one's people,
pipelines, CI and models are tried against what is the other's; and the classes of branches against each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws import LocalAWS
from tests.local_aws.git_clients import Git
from tests.local_aws.people import role_session, sign_in
from tests.servicecatalog.projects import ACCOUNT, BUCKET, BUILDS, REGION, Project, Projects

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
ON_GITHUB = "on-github"
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
    "ci of the template": "TemplateCiRoleArn",
    "retraining": "RetrainRoleArn",
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
def server() -> Iterator[LocalAWS]:
    with LocalAWS(enforce_iam=True) as aws:
        yield aws


@pytest.fixture(scope="module")
def sides(server: LocalAWS) -> dict[str, Side]:
    """The projects, each with groups, versions, pipelines, executions, a model and data, made by its own."""
    projects = Projects(server).prepare()
    server.client("scheduler").create_schedule_group(Name="modelyard")
    found = {name: side(server, projects.create(name)) for name in NAMES}
    on_github = projects.create(ON_GITHUB, GitHost="github", GitOwner="acme")
    return found | {ON_GITHUB: side(server, on_github)}


def side(aws: LocalAWS, project: Project) -> Side:
    name = project.name
    clients = {PEOPLE: client(aws, user(aws, project, "DeveloperPolicy", "ReaderPolicy"))}
    clients[APPROVER] = client(aws, user(aws, project, "ApproverPolicy", "ReaderPolicy"))
    roles = {who: project.outputs[output] for who, output in ROLES.items() if output in project.outputs}
    clients |= {who: client(aws, role_session(aws, arn)) for who, arn in roles.items()}
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


def approval(pipeline_name: str) -> dict[str, Any]:
    """PutApprovalResult's request."""
    return {
        "pipelineName": pipeline_name,
        "stageName": "Approve",
        "actionName": "Approve",
        "token": "11112222-3333-4444-5555-666677778888",
        "result": {"status": "Approved", "summary": ""},
    }


def schedule(project: str, role: str, name: str = "retrain") -> dict[str, Any]:
    """CreateSchedule's request, of the retraining of a project."""
    return {
        "GroupName": "modelyard",
        "Name": f"{project}-{name}",
        "ScheduleExpression": "rate(30 days)",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {
            "Arn": "arn:aws:scheduler:::aws-sdk:sagemaker:startPipelineExecution",
            "RoleArn": role,
            "Input": json.dumps({"PipelineName": f"{project}-dev"}),
        },
    }


def permitted(call: Callable[..., Any], **parameters: Any) -> bool:
    """Whether IAM lets it be; something else may go wrong with it."""
    try:
        call(**parameters)
    except ClientError as error:
        return error.response["Error"]["Code"] not in DENIED
    return True


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
    assert denied(sagemaker.create_model_package, **version(other, "prod"))
    assert denied(sagemaker.describe_model, ModelName=f"{other}-dev-1")
    codepipeline = me.clients[who]("codepipeline")
    for name in (f"p-{other}-dev", f"p-{other}-prod"):
        assert denied(codepipeline.start_pipeline_execution, name=name)
        assert denied(codepipeline.get_pipeline_state, name=name)
        assert denied(codepipeline.put_approval_result, **approval(name))
        handed_on = {"Bucket": BUILDS, "Key": f"{name}/source/a"}
        assert denied(s3.get_object, **handed_on)
        assert denied(s3.put_object, **handed_on, Body=b"another")
    retraining = schedule(other, them.role("retraining"))
    assert denied(scheduler.create_schedule, **retraining)
    assert denied(scheduler.update_schedule, **retraining)
    assert denied(scheduler.delete_schedule, GroupName="modelyard", Name=f"{other}-retrain")
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


# ------------------------------------------------------------------------------------------------ what each CI role may


@pytest.mark.parametrize("name", TRAINING)
def test_the_ci_of_a_class_that_trains_neither_registers_nor_promotes_nor_writes_elsewhere(
    sides: dict[str, Side], name: str
) -> None:
    ci = sides["churn"].clients[f"ci of {name}"]
    for stage in (*TRAINING, "prod", "champion", "challenger"):
        assert denied(ci("sagemaker").create_model_package, **version("churn", stage))
    for address in ("dev" if name == "feature" else "feature", "data", "prod", "captured/prod"):
        assert denied(ci("s3").put_object, Bucket=BUCKET, Key=f"churn/{address}/file", Body=b"")
    assert denied(ci("codepipeline").start_pipeline_execution, name="p-churn-prod")
    assert denied(ci("codepipeline").put_approval_result, **approval("p-churn-prod"))
    assert not denied(ci("codepipeline").get_pipeline_state, name="p-churn-prod")
    assert permitted(ci("lambda").invoke, FunctionName="modelyard-plan")
    assert denied(ci("lambda").invoke, FunctionName="modelyard-seed")


def test_the_ci_of_feature_branches_deletes_their_pipelines_and_no_others(sides: dict[str, Side]) -> None:
    feature, dev = (sides["churn"].clients[f"ci of {name}"]("sagemaker") for name in TRAINING)
    gone = {"PipelineName": "churn-feature-gone-0a1b2c", "ClientRequestToken": "g" * 32}
    feature.create_pipeline(
        **gone,
        PipelineDefinition=DEFINITION,
        RoleArn=sides["churn"].role("pipelines of feature"),
        Tags=tags("churn", "feature"),
    )
    assert denied(dev.delete_pipeline, **gone)
    assert denied(feature.delete_pipeline, **gone | {"PipelineName": "churn-dev"})
    assert not denied(feature.list_tags, ResourceArn=f"{PREFIX}:pipeline/churn-feature-gone-0a1b2c")
    assert not denied(feature.delete_pipeline, **gone)


def test_the_ci_of_dev_alone_schedules_retraining_and_with_its_own_role(sides: dict[str, Side]) -> None:
    me = sides["churn"]
    retraining, theirs = schedule("churn", me.role("retraining")), sides["churn-x"].role("retraining")
    named = {"GroupName": "modelyard", "Name": "churn-retrain"}
    for who in EVERYBODY:
        if who != "ci of dev":
            assert denied(me.clients[who]("scheduler").create_schedule, **retraining), who
    dev = me.clients["ci of dev"]("scheduler")
    for role in (theirs, me.role("ci of dev"), me.role("pipelines of dev")):
        assert denied(dev.create_schedule, **schedule("churn", role))
    assert denied(dev.create_schedule, **schedule("churn", me.role("retraining"), name="prod"))
    assert not denied(dev.create_schedule, **retraining)
    assert not denied(me.clients[PEOPLE]("scheduler").get_schedule, **named)
    assert denied(dev.update_schedule, **schedule("churn", theirs))
    assert not denied(dev.update_schedule, **retraining)
    assert denied(me.clients["ci of feature"]("scheduler").delete_schedule, **named)
    assert not denied(dev.delete_schedule, **named)


def test_retraining_starts_the_pipeline_of_dev_and_does_nothing_else(sides: dict[str, Side]) -> None:
    role = sides["churn"].clients["retraining"]
    sagemaker = role("sagemaker")
    start = {"ClientRequestToken": "t" * 32}
    assert not denied(sagemaker.start_pipeline_execution, PipelineName="churn-dev", **start)
    assert denied(sagemaker.start_pipeline_execution, PipelineName=pipeline("churn", "feature"), **start)
    assert denied(sagemaker.describe_pipeline, PipelineName="churn-dev")
    assert denied(sagemaker.update_pipeline, PipelineName="churn-dev", PipelineDefinition=DEFINITION)
    assert denied(role("s3").get_object, Bucket=BUCKET, Key="churn/dev/model.tar.gz")


def test_the_ci_of_prod_copies_versions_that_wait_for_approval_and_changes_nothing_else(
    sides: dict[str, Side],
) -> None:
    me = sides["churn"]
    prod = me.clients["ci of prod"]
    sagemaker = prod("sagemaker")
    assert not denied(sagemaker.describe_model_package, ModelPackageName=f"{PREFIX}:model-package/churn-dev/1")
    copied = version("churn", "prod") | {"InferenceSpecification": version("churn", "dev")["InferenceSpecification"]}
    for status in ("Approved", "Rejected"):
        assert denied(sagemaker.create_model_package, **copied | {"ModelApprovalStatus": status})
    copy = sagemaker.create_model_package(**copied)["ModelPackageArn"]
    for status in ("Approved", "Rejected"):
        assert denied(sagemaker.update_model_package, ModelPackageArn=copy, ModelApprovalStatus=status)
    for stage in TRAINING:
        assert denied(sagemaker.create_model_package, **version("churn", stage))
        name = pipeline("churn", stage)
        assert denied(sagemaker.start_pipeline_execution, PipelineName=name, ClientRequestToken="q" * 32)
        assert denied(sagemaker.update_pipeline, PipelineName=name, PipelineDefinition=DEFINITION)
        assert denied(sagemaker.delete_pipeline, PipelineName=name, ClientRequestToken="q" * 32)
    for folder in (*TRAINING, "prod", "data"):
        assert denied(prod("s3").put_object, Bucket=BUCKET, Key=f"churn/{folder}/file", Body=b"")
    assert denied(prod("codepipeline").put_approval_result, **approval("p-churn-prod"))
    assert denied(prod("codepipeline").start_pipeline_execution, name="p-churn-prod")
    assert permitted(prod("lambda").invoke, FunctionName="modelyard-plan")


def test_an_approver_exchanges_champion_and_challenger_and_promotes_nothing_from_dev(sides: dict[str, Side]) -> None:
    sagemaker = sides["churn"].clients[APPROVER]("sagemaker")
    for stage in ("champion", "challenger"):
        assert permitted(sagemaker.create_model_package, **version("churn", stage))
        assert denied(sagemaker.create_model_package, **version("churn", stage, "Approved"))
        assert denied(sagemaker.create_model_package, **version("churn-x", stage))
    for stage in (*TRAINING, "prod"):
        assert denied(sagemaker.create_model_package, **version("churn", stage))


def test_the_template_is_updated_on_a_branch_of_its_own(
    server: LocalAWS, sides: dict[str, Side], tmp_path: Path
) -> None:
    server.client("codecommit").create_repository(repositoryName="churn", tags={"modelyard:project": "churn"})
    url = f"{server.endpoint}/v1/repos/churn"
    credentials = role_session(server, sides["churn"].role("ci of the template"))
    root = Git(tmp_path, {**server.environment, **server.git_environment})
    role = Git(tmp_path, {**server.environment, **server.git_environment, **credentials})
    root("init", "--quiet", "--initial-branch=dev")
    root("commit", "--quiet", "--allow-empty", "--message=as it was")
    root("push", "--quiet", url, "dev", "dev:prod")
    role("fetch", "--quiet", url, "dev")
    role("commit", "--quiet", "--allow-empty", "--message=as the template has it")
    for branches in (["dev"], ["prod"], ["feature-x"], ["template-update-2"], ["template-update", "dev"]):
        said = role.fails("push", "--atomic", url, *(f"HEAD:refs/heads/{branch}" for branch in branches))
        assert "You don't have permission to push changes to this branch" in said
    role("push", "--quiet", url, "HEAD:refs/heads/template-update")
    codecommit = sides["churn"].clients["ci of the template"]("codecommit")
    target = {"repositoryName": "churn", "sourceReference": "template-update", "destinationReference": "dev"}
    proposed = codecommit.create_pull_request(title="A newer template", targets=[target])["pullRequest"]
    merge = {"pullRequestId": proposed["pullRequestId"], "repositoryName": "churn"}
    assert denied(codecommit.merge_pull_request_by_fast_forward, **merge)
    assert not denied(sides["churn"].clients[PEOPLE]("codecommit").merge_pull_request_by_fast_forward, **merge)


def test_on_github_a_pull_request_asks_for_plans_and_a_deletion_takes_devs_role(
    server: LocalAWS, sides: dict[str, Side]
) -> None:
    project = sides[ON_GITHUB].project
    check = client(server, role_session(server, project.outputs["CheckCiRoleArn"]))
    assert permitted(check("lambda").invoke, FunctionName="modelyard-plan")
    assert permitted(check("ssm").get_parameter, Name="/modelyard/functions/plan")
    assert denied(check("ssm").get_parameter, Name="/modelyard/functions/seed")
    sagemaker = check("sagemaker")
    assert denied(sagemaker.describe_model_package_group, ModelPackageGroupName=f"{ON_GITHUB}-dev")
    assert denied(sagemaker.describe_pipeline, PipelineName=f"{ON_GITHUB}-dev")
    assert denied(sagemaker.start_pipeline_execution, PipelineName=f"{ON_GITHUB}-dev", ClientRequestToken="q" * 32)
    assert denied(check("s3").get_object, Bucket=BUCKET, Key=f"{ON_GITHUB}/dev/model.tar.gz")
    gone = {"PipelineName": pipeline(ON_GITHUB, "feature"), "ClientRequestToken": "q" * 32}
    for who, may in (("ci of feature", False), ("ci of prod", False), ("ci of dev", True)):
        assert denied(sides[ON_GITHUB].clients[who]("sagemaker").delete_pipeline, **gone) is not may, who
