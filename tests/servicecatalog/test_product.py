"""What product.yaml promises: one project's people, pipelines and CI reach nothing of another's, and of its own what
their class of branches may.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from seed_lambda import buckets, creation
from servicecatalog import account
from tests.servicecatalog import template
from tests.servicecatalog.lengths import PLACES, longest_anywhere
from tests.servicecatalog.permitted import allowed, tags

PATH = Path(account.__file__).parent / "product.yaml"
WRITTEN = template.load(PATH)
KEY = "arn:aws:kms:eu-west-1:111122223333:key/99998888-7777-6666-5555-444433332222"
VALUES = {
    "SageMakerProjectName": "churn",
    "SageMakerProjectId": "p-123456789012",
    "ArtifactBucket": "shared",
    "DataBuckets": "my-data",
    "KmsKeyArns": KEY,
}
DENY = template.OF_SSM["DenyApprovalPolicyArn"]
BOUNDARY, DELIVERY_BOUNDARY = template.OF_SSM["ProjectBoundaryArn"], template.OF_SSM["DeliveryBoundaryArn"]
TRAINING = ("feature", "dev")
CLASSES = (*TRAINING, "prod")
STAGES = (*CLASSES, "champion", "challenger")
REPOSITORY = "arn:aws:codecommit:eu-west-1:111122223333:churn"
DELIVERY = "arn:aws:codepipeline:eu-west-1:111122223333:p-123456789012-"
BUILDS = "arn:aws:s3:::modelyard-builds-111122223333-eu-west-1/p-123456789012-"
# The names of projects that begin as churn's resources do; -feature in a name is refused.
OTHERS = ("churn-dev", "churn-prod", "churn-x", "churn-dev-1", "churn-pipeline", "churn-ci", "churn2", "c")


def resources(**values: str) -> dict[str, Any]:
    """The template's resources as CloudFormation would see them, on CodeCommit unless the values say otherwise."""
    return template.resolved(WRITTEN, VALUES | values)


RESOURCES = resources()
POLICIES = template.policies(RESOURCES)
ON_GITHUB = resources(GitHost="github", GitOwner="acme")


def of_role(name: str, all_resources: Mapping[str, Any] = RESOURCES) -> list[dict[str, Any]]:
    """The policies of a role: its own, the one for data buckets, and the project's that is attached to it."""
    return template.of_role(all_resources, name)


PIPELINES = {name: of_role(f"{name.title()}PipelineRole") for name in TRAINING}
CI = {name: of_role(f"{name.title()}CiRole") for name in CLASSES}
CI_ON_GITHUB = {name: of_role(f"{name.title()}CiRole", ON_GITHUB) for name in (*CLASSES, "check")}
TEMPLATE, RETRAIN, STARTS = of_role("TemplateCiRole"), of_role("RetrainRole"), of_role("StartBuildsRole")
DELIVERIES = {name: of_role(f"{name.title()}DeliveryRole") for name in ("dev", "prod")}
MODEL = of_role("ModelRole")
PEOPLE = [POLICIES["DeveloperPolicy"], POLICIES["ReaderPolicy"]]
# Whoever is of the project, by name.
EVERYBODY = {
    **{f"pipeline {name}": policies for name, policies in PIPELINES.items()},
    **{f"ci {name}": policies for name, policies in CI.items()},
    **{f"ci {name} on GitHub": policies for name, policies in CI_ON_GITHUB.items()},
    **{f"delivery {name}": policies for name, policies in DELIVERIES.items()},
    "ci template": TEMPLATE,
    "retraining": RETRAIN,
    "rules": STARTS,
    "model": MODEL,
    "people": PEOPLE,
    "approver": [POLICIES["ApproverPolicy"], POLICIES["ReaderPolicy"]],
}
ROLES = [name for name, resource in RESOURCES.items() if resource["Type"] == "AWS::IAM::Role"]


def other(name: str) -> str:
    return "dev" if name == "feature" else "feature"


def pipeline(name: str, project: str = "churn") -> str:
    return f"pipeline/{project}-dev" if name == "dev" else f"pipeline/{project}-feature-trees-0a1b2c"


# ------------------------------------------------------------------------------------------------ another project


@pytest.mark.parametrize("who", EVERYBODY)
@pytest.mark.parametrize("foreign", OTHERS)
def test_nothing_of_another_project_is_reached(who: str, foreign: str) -> None:
    policies = EVERYBODY[who]
    pending = {"": {"sagemaker:ModelApprovalStatus": "PendingManualApproval"}}
    approved = {"": {"sagemaker:ModelApprovalStatus": "Approved"}}
    for stage in STAGES:
        for action in ("DescribeModelPackageGroup", "CreateModelPackageGroup", "AddTags", "ListTags"):
            group, its = f"model-package-group/{foreign}-{stage}", tags(foreign, stage)
            assert not allowed(policies, f"sagemaker:{action}", group, tags=its, request=its)
        version = f"model-package/{foreign}-{stage}/1"
        assert not allowed(policies, "sagemaker:DescribeModelPackage", version)
        assert not allowed(policies, "sagemaker:UpdateModelPackage", version, **approved)
        assert not allowed(policies, "sagemaker:CreateModelPackage", version, **pending)
        for action in ("DescribeEndpoint", "InvokeEndpoint"):
            assert not allowed(policies, f"sagemaker:{action}", f"endpoint/{foreign}-{stage}")
        for action, kind in (("DescribeEndpointConfig", "endpoint-config"), ("DescribeModel", "model")):
            assert not allowed(
                policies, f"sagemaker:{action}", f"{kind}/{foreign}-{stage}-1", tags=tags(foreign, stage)
            )
        log = f"arn:aws:logs:eu-west-1:111122223333:log-group:/aws/sagemaker/Endpoints/{foreign}-{stage}:*"
        assert not allowed(policies, "logs:PutLogEvents", log)
        for alarm in alarms(f"{foreign}-{stage}"):
            assert not allowed(policies, "cloudwatch:DescribeAlarms", alarm)
    for name in TRAINING:
        its = tags(foreign, name)
        of_pipelines = ("CreatePipeline", "UpdatePipeline", "StartPipelineExecution", "DeletePipeline")
        for action in (*of_pipelines, "DescribePipeline", "AddTags", "ListTags"):
            assert not allowed(policies, f"sagemaker:{action}", pipeline(name, foreign), tags=its, request=its)
            # with the tags of one's own in the request
            mine = {"tags": its, "request": tags("churn", name)}
            assert action == "CreatePipeline" or not allowed(
                policies, f"sagemaker:{action}", pipeline(name, foreign), **mine
            )
        for action in ("StopPipelineExecution", "DescribePipelineExecution"):
            assert not allowed(policies, f"sagemaker:{action}", f"{pipeline(name, foreign)}/execution/e", tags=its)
    for action in ("s3:GetObject", "s3:PutObject"):
        assert not allowed(policies, action, f"arn:aws:s3:::shared/{foreign}/dev/model.tar.gz")
        assert not allowed(policies, action, "arn:aws:s3:::other/churn/dev/model.tar.gz")
    assert not allowed(policies, "s3:ListBucket", "arn:aws:s3:::shared", **{"": {"s3:prefix": f"{foreign}/"}})
    for action in ("GitPull", "GitPush", "GetBranch", "MergePullRequestBySquash"):
        assert not allowed(policies, f"codecommit:{action}", f"arn:aws:codecommit:eu-west-1:111122223333:{foreign}")
    for name in CLASSES:
        build = f"arn:aws:codebuild:eu-west-1:111122223333:project/modelyard-{foreign}-{name}"
        for action in ("StartBuild", "BatchGetBuilds"):
            assert not allowed(policies, f"codebuild:{action}", build)
        for other_id in ("p-12345678901", "p-1234567890123", "p-123456789012-x"):
            delivery = f"arn:aws:codepipeline:eu-west-1:111122223333:{other_id}-{name}"
            for action in ("StartPipelineExecution", "GetPipelineState", "ListPipelineExecutions"):
                assert not allowed(policies, f"codepipeline:{action}", delivery)
            assert not allowed(policies, "codepipeline:PutApprovalResult", f"{delivery}/Approve/Approve")
            assert not allowed(policies, "codepipeline:RetryStageExecution", f"{delivery}/Check")
            handed_on = f"arn:aws:s3:::modelyard-builds-111122223333-eu-west-1/{other_id}-{name}/source/a"
            for action in ("s3:GetObject", "s3:PutObject"):
                assert not allowed(policies, action, handed_on)
        log = f"arn:aws:logs:eu-west-1:111122223333:log-group:/aws/codebuild/modelyard-{foreign}-{name}:*"
        assert not allowed(policies, "logs:PutLogEvents", log)
        assert not allowed(policies, "logs:GetLogEvents", log)
    for name in (*STAGES, "retrain"):
        schedule = f"arn:aws:scheduler:eu-west-1:111122223333:schedule/modelyard/{foreign}-{name}"
        for action in ("GetSchedule", "CreateSchedule", "UpdateSchedule", "DeleteSchedule"):
            assert not allowed(policies, f"scheduler:{action}", schedule)


def alarms(endpoint: str) -> list[str]:
    """ARNs of all the alarms that the controller makes for an endpoint (lifecycle_lambdas/names.py)."""
    kinds = ("errors", "latency", "custom")
    of_deployments = [
        f"{number}-{end}" for number in (7, 123456) for end in ("abort", *(f"rollback-{k}" for k in kinds))
    ]
    return [f"arn:aws:cloudwatch:eu-west-1:111122223333:alarm:{endpoint}-{end}" for end in (*kinds, *of_deployments)]


@pytest.mark.parametrize("project", ["churn", "churn-dev", "dev-prod", "a"])
def test_models_look_at_all_alarms_of_their_own_endpoints(project: str) -> None:
    model = of_role("ModelRole", resources(SageMakerProjectName=project))
    for stage in STAGES:
        for alarm in alarms(f"{project}-{stage}"):
            assert allowed(model, "cloudwatch:DescribeAlarms", alarm)


@pytest.mark.parametrize("who", EVERYBODY)
def test_metrics_that_alarms_of_endpoints_watch_are_published_by_models_alone(who: str) -> None:
    """Or else a job of a feature branch could roll back what serves, of any project: a metric has no owner."""
    namespaces = {
        **dict.fromkeys(
            ("/aws/sagemaker/ProcessingJobs", "/aws/sagemaker/TrainingJobs"), ("pipeline feature", "pipeline dev")
        ),
        **dict.fromkeys(("/aws/sagemaker/Endpoints", "/aws/sagemaker/TransformJobs"), ("model",)),
        **dict.fromkeys(("AWS/SageMaker", "Modelyard", "/aws/sagemaker/InferenceComponents", "own"), ()),
    }
    for namespace, publish in namespaces.items():
        may = allowed(EVERYBODY[who], "cloudwatch:PutMetricData", "*", **{"": {"cloudwatch:namespace": namespace}})
        assert may is (who in publish), namespace


def test_what_is_read_of_further_buckets_is_granted_when_the_seed_has_found_them_good() -> None:
    """In an update, too: CloudFormation changes a resource when what it depends on has been changed."""
    for name, resource in resources(DataBuckets="my-data").items():
        reads_it = "my-data" in json.dumps(template.policies({name: resource}))
        assert reads_it is (name in ("DataBucketsPolicy", "ReaderPolicy"))
        assert not reads_it or WRITTEN["Resources"][name]["DependsOn"] == "Seed"


@pytest.mark.parametrize("who", EVERYBODY)
def test_the_roles_of_another_project_are_not_passed(who: str) -> None:
    to_sagemaker = {"": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    for foreign in OTHERS:
        for role in ("pipelines/{}-pipeline-dev", "pipelines/{}-pipeline-feature", "ci/{}-ci-dev", "models/{}-model"):
            arn = f"arn:aws:iam::111122223333:role/modelyard/{role.format(foreign)}"
            assert not allowed(EVERYBODY[who], "iam:PassRole", arn, **to_sagemaker)
        retrain = f"arn:aws:iam::111122223333:role/modelyard/ci/{foreign}-ci-retrain"
        to_scheduler = {"": {"iam:PassedToService": "scheduler.amazonaws.com"}}
        assert not allowed(EVERYBODY[who], "iam:PassRole", retrain, **to_scheduler)


@pytest.mark.parametrize("name", [*OTHERS, "churn"])
def test_what_two_projects_make_never_has_the_same_name(name: str) -> None:
    mine = named(RESOURCES)
    # SageMaker gives every project an id of its own
    theirs = named(resources(SageMakerProjectName=name, **({} if name == "churn" else {"SageMakerProjectId": "p-1"})))
    unnamed = ("Custom::ModelyardProject", "AWS::IAM::Policy")  # the second is called so within each role
    assert len(mine) == len([one for one in RESOURCES.values() if one["Type"] not in unnamed])
    assert (mine & theirs == set()) is (name != "churn")


def named(all_resources: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Type and name of each resource that has a name of its own."""
    keys = ("RoleName", "ManagedPolicyName", "LogGroupName", "Name")
    return {
        (resource["Type"], resource["Properties"][key])
        for resource in all_resources.values()
        for key in keys
        if key in resource["Properties"]
    }


# ------------------------------------------------------------------------------------------------ classes of branches


@pytest.mark.parametrize("name", TRAINING)
def test_a_class_makes_runs_and_stops_its_own_pipelines_and_no_others(name: str) -> None:
    mine, theirs = tags("churn", name), tags("churn", other(name))
    made = {"": {"sagemaker:TaggingAction": "CreatePipeline"}}
    assert allowed(CI[name], "sagemaker:CreatePipeline", pipeline(name), request=mine)
    assert allowed(CI[name], "sagemaker:AddTags", pipeline(name), request=mine, **made)
    assert allowed(CI[name], "sagemaker:AddTags", pipeline(name), request=mine, tags=mine)
    for action in ("UpdatePipeline", "StartPipelineExecution"):
        assert allowed(CI[name], f"sagemaker:{action}", pipeline(name), tags=mine)
        assert not allowed(CI[name], f"sagemaker:{action}", pipeline(other(name)), tags=theirs)
        assert not allowed(CI[name], f"sagemaker:{action}", pipeline(name), tags=theirs)
    assert allowed(CI[name], "sagemaker:StopPipelineExecution", f"{pipeline(name)}/execution/e", tags=mine)
    assert not allowed(CI[name], "sagemaker:StopPipelineExecution", f"{pipeline(other(name))}/execution/e", tags=theirs)
    assert not allowed(CI[name], "sagemaker:CreatePipeline", pipeline(other(name)), request=theirs)
    assert not allowed(CI[name], "sagemaker:CreatePipeline", pipeline(name), request=theirs)
    assert not allowed(CI[name], "sagemaker:AddTags", pipeline(name), request=theirs, tags=mine)
    assert not allowed(CI[name], "sagemaker:AddTags", pipeline(other(name)), request=mine, tags=theirs)


@pytest.mark.parametrize("who", EVERYBODY)
def test_pipelines_of_deleted_branches_go_by_the_ci_that_the_deletion_starts_and_by_nobody_else(who: str) -> None:
    """CodeCommit's event starts the build of feature branches; GitHub runs it on the default branch, which is dev."""
    deletes = allowed(EVERYBODY[who], "sagemaker:DeletePipeline", pipeline("feature"), tags=tags("churn", "feature"))
    assert deletes is (who in ("ci feature", "ci dev on GitHub"))
    assert not allowed(EVERYBODY[who], "sagemaker:DeletePipeline", pipeline("dev"), tags=tags("churn", "dev"))
    assert not allowed(EVERYBODY[who], "sagemaker:DeletePipeline", pipeline("feature"), tags=tags("churn", "dev"))
    if deletes:
        stopped = f"{pipeline('feature')}/execution/e"
        assert allowed(EVERYBODY[who], "sagemaker:StopPipelineExecution", stopped, tags=tags("churn", "feature"))
        assert allowed(EVERYBODY[who], "sagemaker:ListTags", pipeline("feature"), tags=tags("churn", "feature"))


@pytest.mark.parametrize("name", TRAINING)
def test_a_class_registers_as_pending_in_its_own_group_alone(name: str) -> None:
    def status(value: str) -> dict[str, Any]:
        return {"": {"sagemaker:ModelApprovalStatus": value}}

    group, register = f"model-package-group/churn-{name}", "sagemaker:CreateModelPackage"
    assert allowed(PIPELINES[name], register, group, **status("PendingManualApproval"))
    assert allowed(PIPELINES[name], register, f"model-package/churn-{name}/*", **status("PendingManualApproval"))
    assert not allowed(PIPELINES[name], register, group, **status("Approved"))
    assert not allowed(PIPELINES[name], register, group)
    for stage in STAGES:
        if stage != name:
            foreign = f"model-package-group/churn-{stage}"
            assert not allowed(PIPELINES[name], register, foreign, **status("PendingManualApproval"))
        assert not allowed(PIPELINES[name], "sagemaker:UpdateModelPackage", f"model-package/churn-{stage}/1")
        assert not allowed(CI[name], register, f"model-package-group/churn-{stage}", **status("PendingManualApproval"))


@pytest.mark.parametrize("name", TRAINING)
@pytest.mark.parametrize("kind", ["ProcessingJob", "TrainingJob", "HyperParameterTuningJob"])
def test_jobs_are_made_watched_and_stopped_for_the_class_alone(name: str, kind: str) -> None:
    job = re.sub(r"(?<!^)(?=[A-Z])", "-", kind).lower() + "/pipelines-abc-train"
    mine, theirs = tags("churn", name), tags("churn", other(name))
    while_creating = {"": {"sagemaker:TaggingAction": f"Create{kind}"}}
    policies = PIPELINES[name]
    assert allowed(policies, f"sagemaker:Create{kind}", job, request=mine)
    assert allowed(policies, "sagemaker:AddTags", job, request=mine, **while_creating)
    assert allowed(policies, f"sagemaker:Stop{kind}", job, tags=mine)
    assert not allowed(policies, f"sagemaker:Create{kind}", job)
    assert not allowed(policies, "sagemaker:AddTags", job, request=mine)
    for foreign in (theirs, tags("churn-x", name)):
        assert not allowed(policies, f"sagemaker:Create{kind}", job, request=foreign)
        assert not allowed(policies, "sagemaker:AddTags", job, request=foreign, **while_creating)
        assert not allowed(policies, f"sagemaker:Stop{kind}", job, tags=foreign)
        assert not allowed(policies, f"sagemaker:Describe{kind}", job, tags=foreign)


@pytest.mark.parametrize("name", TRAINING)
def test_a_class_passes_its_own_pipeline_role_and_to_sagemaker_alone(name: str) -> None:
    role = "arn:aws:iam::111122223333:role/modelyard/{}"
    to_sagemaker = {"": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    for policies in (PIPELINES[name], CI[name]):
        own = role.format(f"pipelines/churn-pipeline-{name}")
        assert allowed(policies, "iam:PassRole", own, **to_sagemaker)
        assert not allowed(policies, "iam:PassRole", own, **{"": {"iam:PassedToService": "lambda.amazonaws.com"}})
        for foreign in (f"pipelines/churn-pipeline-{other(name)}", f"ci/churn-ci-{name}", "models/churn-model"):
            assert not allowed(policies, "iam:PassRole", role.format(foreign), **to_sagemaker)


@pytest.mark.parametrize("policies", [PIPELINES, CI], ids=["pipelines", "ci"])
@pytest.mark.parametrize("name", TRAINING)
def test_a_class_reads_all_of_the_project_and_writes_below_its_own_prefix(
    policies: Mapping[str, list[dict[str, Any]]], name: str
) -> None:
    for folder in ("data", "feature", "dev", "captured/prod"):
        address = f"arn:aws:s3:::shared/churn/{folder}/file"
        assert allowed(policies[name], "s3:GetObject", address)
        assert allowed(policies[name], "s3:PutObject", address) is (folder == name)
    assert allowed(policies[name], "s3:ListBucket", "arn:aws:s3:::shared", **{"": {"s3:prefix": "churn/data/"}})
    assert not allowed(policies[name], "s3:PutObject", f"arn:aws:s3:::shared/churn/{name}2/file")
    assert not allowed(policies[name], "s3:DeleteObject", f"arn:aws:s3:::shared/churn/{name}/file")


def changing(policies: list[dict[str, Any]]) -> set[str]:
    """The actions of policies that do more than look."""
    actions = {action for document in policies for one in document["Statement"] for action in listed(one["Action"])}
    return {one for one in actions if not re.match(r"\w+:(Describe|List|Get|GitPull|Invoke)", one)}


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# A build's own log, and what is encrypted.
OF_A_BUILD = {"logs:CreateLogStream", "logs:PutLogEvents", "kms:Decrypt"}


def test_the_ci_of_prod_copies_versions_as_pending_and_changes_nothing_else() -> None:
    assert changing(CI["prod"]) == OF_A_BUILD | {"sagemaker:CreateModelPackage"}
    for stage in STAGES:
        for thing in (f"model-package-group/churn-{stage}", f"model-package/churn-{stage}/*"):
            for status in ("PendingManualApproval", "Approved", "Rejected"):
                may = stage in ("prod", "champion", "challenger") and status == "PendingManualApproval"
                context = {"": {"sagemaker:ModelApprovalStatus": status}}
                assert allowed(CI["prod"], "sagemaker:CreateModelPackage", thing, **context) is may
            assert not allowed(CI["prod"], "sagemaker:CreateModelPackage", thing)


@pytest.mark.parametrize("who", ["ci feature", "ci dev", "ci prod", "ci check on GitHub"])
def test_ci_asks_for_plans(who: str) -> None:
    plan = "arn:aws:lambda:eu-west-1:111122223333:function:modelyard-plan"
    assert allowed(EVERYBODY[who], "lambda:InvokeFunction", plan)
    assert not allowed(EVERYBODY[who], "lambda:InvokeFunction", plan.replace("plan", "deploy"))
    parameter = "arn:aws:ssm:eu-west-1:111122223333:parameter/modelyard/functions/"
    assert allowed(EVERYBODY[who], "ssm:GetParameter", f"{parameter}plan")
    assert not allowed(EVERYBODY[who], "ssm:GetParameter", f"{parameter}deploy")


def test_the_ci_of_pull_requests_does_nothing_but_that() -> None:
    """A pull request comes from any branch, whose files its job runs."""
    actions = {
        action for one in CI_ON_GITHUB["check"] for each in one["Statement"] for action in listed(each["Action"])
    }
    assert actions == {"lambda:InvokeFunction", "ssm:GetParameter"}


def test_no_role_of_ci_starts_or_approves_what_codepipeline_does() -> None:
    for who, policies in EVERYBODY.items():
        for name in ("dev", "prod"):
            may = allowed(policies, "codepipeline:StartPipelineExecution", f"{DELIVERY}{name}")
            # an approver what a retraining has brought to dev, for which nothing is to be merged into prod
            assert may is (who == "rules" or (who == "approver" and name == "prod")), who
            for action in ("StopPipelineExecution", "UpdatePipeline", "DisableStageTransition"):
                assert not allowed(policies, f"codepipeline:{action}", f"{DELIVERY}{name}"), who
            approves = allowed(policies, "codepipeline:PutApprovalResult", f"{DELIVERY}{name}/Approve/Approve")
            assert approves is (who == "approver" and name == "prod"), who


def test_people_try_a_stage_of_dev_again_and_approvers_one_of_prod() -> None:
    for who, policies in EVERYBODY.items():
        for name, its in (("dev", "people"), ("prod", "approver")):
            again = allowed(policies, "codepipeline:RetryStageExecution", f"{DELIVERY}{name}/Check")
            assert again is (who == its), who


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_whoever_reads_sees_where_a_push_is(name: str) -> None:
    for action in ("GetPipeline", "GetPipelineExecution", "GetPipelineState", "ListActionExecutions"):
        assert allowed([POLICIES["ReaderPolicy"]], f"codepipeline:{action}", f"{DELIVERY}{name}")


# ------------------------------------------------------------------------------------------------ retraining, template


def test_dev_alone_schedules_retraining_and_gives_the_schedule_its_role() -> None:
    schedule = "arn:aws:scheduler:eu-west-1:111122223333:schedule/modelyard/churn-"
    role = "arn:aws:iam::111122223333:role/modelyard/ci/churn-ci-retrain"
    to_scheduler = {"": {"iam:PassedToService": "scheduler.amazonaws.com"}}
    for who, policies in EVERYBODY.items():
        mine = who in ("ci dev", "ci dev on GitHub")
        for action in ("CreateSchedule", "UpdateSchedule", "DeleteSchedule"):
            assert allowed(policies, f"scheduler:{action}", f"{schedule}retrain") is mine, who
            for stage in STAGES:  # those of batch stages are the platform's
                assert not allowed(policies, f"scheduler:{action}", f"{schedule}{stage}"), who
        assert allowed(policies, "iam:PassRole", role, **to_scheduler) is mine, who
        assert not allowed(policies, "iam:PassRole", role, **{"": {"iam:PassedToService": "sagemaker.amazonaws.com"}})


def test_the_schedule_starts_the_pipeline_of_dev_and_nothing_else() -> None:
    start, mine = "sagemaker:StartPipelineExecution", tags("churn", "dev")
    assert allowed(RETRAIN, start, pipeline("dev"), tags=mine)
    assert not allowed(RETRAIN, start, pipeline("dev"), tags=tags("another", "dev"))
    assert not allowed(RETRAIN, start, pipeline("feature"), tags=tags("churn", "feature"))
    send, queue = "sqs:SendMessage", "arn:aws:sqs:eu-west-1:111122223333:modelyard-"
    assert allowed(RETRAIN, send, f"{queue}retraining-failed")
    for other_queue in ("failed", "events", "tests", "commit-status"):
        assert not allowed(RETRAIN, send, f"{queue}{other_queue}")
    assert {one["Action"] for document in RETRAIN for one in document["Statement"]} == {start, send}
    (trust,) = RESOURCES["RetrainRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "scheduler.amazonaws.com"}
    group = "arn:aws:scheduler:eu-west-1:111122223333:schedule-group/modelyard"
    assert trust["Condition"]["StringEquals"] == {"aws:SourceAccount": "111122223333", "aws:SourceArn": group}


def test_who_updates_the_template_pushes_one_branch_and_proposes_it() -> None:
    push = "codecommit:GitPush"
    assert allowed(TEMPLATE, push, REPOSITORY, tags=OF_THE_PROJECT)  # Git asks first without a reference
    assert allowed(TEMPLATE, push, REPOSITORY, **references("refs/heads/template-update"))
    for branch in ("dev", "prod", "feature-x", "template-update-2"):
        assert not allowed(TEMPLATE, push, REPOSITORY, **references(f"refs/heads/{branch}"))
        both = references("refs/heads/template-update", f"refs/heads/{branch}")
        assert not allowed(TEMPLATE, push, REPOSITORY, **both)
    for action in ("GitPull", "CreatePullRequest", "ListPullRequests", "GetPullRequest", "UpdatePullRequestTitle"):
        assert allowed(TEMPLATE, f"codecommit:{action}", REPOSITORY, tags=OF_THE_PROJECT)
    for action in ("MergePullRequestBySquash", "MergeBranchesByFastForward", "CreateBranch", "CreateCommit", "PutFile"):
        assert not allowed(TEMPLATE, f"codecommit:{action}", REPOSITORY, **references("refs/heads/dev"))
    assert changing(TEMPLATE) == {
        *("codecommit:GitPush", "codecommit:CreatePullRequest"),
        *("codecommit:UpdatePullRequestDescription", "codecommit:UpdatePullRequestTitle"),
        *("logs:CreateLogStream", "logs:PutLogEvents"),
    }


def test_what_feature_may_dev_may_of_its_own_and_the_other_way_round() -> None:
    """The two are written down twice, since CloudFormation has no other way: they must say the same."""
    for kind in ("PipelineRole", "CiRole", "BuildLogs", "Build"):
        feature, dev = (json.dumps(RESOURCES[f"{name.title()}{kind}"]) for name in TRAINING)
        assert comparable(feature, "feature") == comparable(dev, "dev")


def comparable(text: str, name: str) -> Any:
    """A resource with its class's name left out, with the versions looked at as they are for both, and without what
    one of them alone has: feature gets its pushes and branches' ends by itself, dev by CodePipeline, and trains again.
    """
    text = text.replace("pipeline/churn-feature-*", "pipeline/churn-dev").replace('{"prefix": "feature-"}', '"dev"')
    text = text.replace("feature branches", "dev")
    if name == "feature":
        text = text.replace("feature", "dev").replace("Feature", "Dev")
    document = json.loads(text)
    properties = document["Properties"]
    for its_own in ("Source", "Artifacts", "EncryptionKey"):
        properties.pop(its_own, None)
    if "Environment" in properties:
        properties["Environment"]["EnvironmentVariables"] = []
    policies = [
        one for one in properties.get("Policies", []) if one["PolicyName"] not in ("ended-branches", "retraining")
    ]
    for policy in policies:
        statements = [one for one in policy["PolicyDocument"]["Statement"] if one["Sid"] not in OF_CODEPIPELINE]
        policy["PolicyDocument"]["Statement"] = statements
        for statement in statements:
            if isinstance(statement["Resource"], list):
                statement["Resource"] = sorted(set(statement["Resource"]))
    return document | {"Properties": properties | {"Policies": policies}}


OF_CODEPIPELINE = ("WhatCodePipelineHandsOn", "ItsKey")


# ------------------------------------------------------------------------------------------------ people


@pytest.mark.parametrize("stage", STAGES)
def test_who_approves_does_not_write_how_the_endpoint_tests_went(stage: str) -> None:
    """Promotion believes that stamp. Pipelines and CI are denied it by the platform's policy (deny-approval)."""
    approved = {"sagemaker:ModelApprovalStatus": "Approved"}
    verdict = {"sagemaker:CustomerMetadataProperties/tests.status": "passed"}
    for asked, may in (({**approved}, True), (verdict, False), ({**approved, **verdict}, False)):
        answer = allowed(
            EVERYBODY["approver"], "sagemaker:UpdateModelPackage", f"model-package/churn-{stage}/7", **{"": asked}
        )
        assert answer is may


@pytest.mark.parametrize("stage", STAGES)
def test_people_look_at_every_stage_and_approve_with_the_approvers_policy_alone(stage: str) -> None:
    group, version = f"model-package-group/churn-{stage}", f"model-package/churn-{stage}/1"
    approved = {"": {"sagemaker:ModelApprovalStatus": "Approved"}}
    assert allowed(PEOPLE, "sagemaker:DescribeModelPackageGroup", group)
    assert allowed(PEOPLE, "sagemaker:ListModelPackages", f"model-package/churn-{stage}/*")
    assert allowed(EVERYBODY["approver"], "sagemaker:UpdateModelPackage", version, **approved)
    assert not allowed(PEOPLE, "sagemaker:UpdateModelPackage", version, **approved)


def test_people_write_data_and_what_both_classes_write() -> None:
    for folder in ("data", "feature", "dev"):
        assert allowed(PEOPLE, "s3:PutObject", f"arn:aws:s3:::shared/churn/{folder}/file")
    for folder in ("captured/prod", "batch", "prod"):
        assert not allowed(PEOPLE, "s3:PutObject", f"arn:aws:s3:::shared/churn/{folder}/file")


@pytest.mark.parametrize("name", TRAINING)
def test_people_run_the_pipelines_of_both_classes_and_give_them_their_role(name: str) -> None:
    to_sagemaker = {"": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    role = f"arn:aws:iam::111122223333:role/modelyard/pipelines/churn-pipeline-{name}"
    assert allowed(PEOPLE, "sagemaker:StartPipelineExecution", pipeline(name), tags=tags("churn", name))
    assert allowed(PEOPLE, "iam:PassRole", role, **to_sagemaker)
    assert not allowed(
        PEOPLE, "iam:PassRole", "arn:aws:iam::111122223333:role/modelyard/models/churn-model", **to_sagemaker
    )


def test_groups_and_their_tags_are_the_seeds_alone() -> None:
    """With their tags a group approves by itself, names another model role, or is taken for another stack's."""
    for policies in EVERYBODY.values():
        for stage in STAGES:
            group = {"request": tags("churn", stage), "tags": tags("churn", stage)}
            for action in ("CreateModelPackageGroup", "AddTags", "DeleteTags", "DeleteModelPackageGroup"):
                assert not allowed(policies, f"sagemaker:{action}", f"model-package-group/churn-{stage}", **group)


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
@pytest.mark.parametrize("policies", [PEOPLE, CI["dev"]], ids=["people", "ci"])
def test_of_what_is_not_there_aws_may_say_so(policies: list[dict[str, Any]], action: str, name: str) -> None:
    """What is not there has no tags; "access denied" would leave people without a clue."""
    assert allowed(policies, f"sagemaker:{action}", name)


OF_THE_PROJECT = {"modelyard:project": "churn"}  # what the seed function tags its repository with


def references(*names: str) -> dict[str, Any]:
    return {"tags": OF_THE_PROJECT, "": {"codecommit:References": list(names)}}


@pytest.mark.parametrize("action", ["GitPush", "CreateBranch", "DeleteBranch"])
def test_prod_of_a_codecommit_repository_changes_by_pull_requests_alone(action: str) -> None:
    call = f"codecommit:{action}"
    assert allowed(PEOPLE, call, REPOSITORY, **references("refs/heads/feature-x"))
    assert allowed(PEOPLE, call, REPOSITORY, **references("refs/heads/dev"))
    assert not allowed(PEOPLE, call, REPOSITORY, **references("refs/heads/prod"))
    assert not allowed(PEOPLE, call, REPOSITORY, **references("refs/heads/dev", "refs/heads/prod"))
    one = references() | {"": {"codecommit:References": "refs/heads/prod"}}
    assert not allowed(PEOPLE, call, REPOSITORY, **one)
    assert allowed(PEOPLE, "codecommit:MergePullRequestBySquash", REPOSITORY, **references("refs/heads/prod"))


def test_git_asks_first_without_a_reference() -> None:
    assert allowed(PEOPLE, "codecommit:GitPush", REPOSITORY, tags=OF_THE_PROJECT)


def test_who_brings_a_repository_pushes_prod_until_it_is_pushed() -> None:
    for content, may in (("empty", True), ("pushed", False), ("template", False)):
        policies = [template.policies(resources(InitialContent=content))["DeveloperPolicy"]]
        assert allowed(policies, "codecommit:GitPush", REPOSITORY, **references("refs/heads/prod")) is may


def test_who_reads_and_the_ci_pull_and_do_not_push() -> None:
    for policies in ([POLICIES["ReaderPolicy"]], *CI.values()):
        assert allowed(policies, "codecommit:GitPull", REPOSITORY, tags=OF_THE_PROJECT)
        assert not allowed(policies, "codecommit:GitPush", REPOSITORY, **references("refs/heads/feature-x"))


def test_the_policies_name_the_repository_by_its_own_name() -> None:
    policies = [template.policies(resources(Repository="forecasts"))["DeveloperPolicy"]]
    other = REPOSITORY.replace("churn", "forecasts")
    assert allowed(policies, "codecommit:CreateBranch", other, tags=OF_THE_PROJECT)
    assert not allowed(policies, "codecommit:CreateBranch", REPOSITORY, tags=OF_THE_PROJECT)


@pytest.mark.parametrize("tagged", [{}, {"modelyard:project": "another"}])
@pytest.mark.parametrize("action", ["GitPull", "GitPush", "CreateBranch", "MergePullRequestBySquash", "GetFile"])
def test_another_projects_repository_that_got_the_name_later_is_not_its(action: str, tagged: dict[str, str]) -> None:
    """Or else its builds would fetch that code, once its own was deleted by hand, and run it as this project's CI."""
    for policies in (PEOPLE, *CI.values()):
        assert not allowed(policies, f"codecommit:{action}", REPOSITORY, tags=tagged)


def test_everybody_pulls_the_published_template() -> None:
    for policies in ([POLICIES["ReaderPolicy"]], *CI.values()):
        assert allowed(policies, "codecommit:GitPull", REPOSITORY.replace("churn", "modelyard-template"))


# ------------------------------------------------------------------------------------------------ who takes the roles


@pytest.mark.parametrize("name", ROLES)
def test_every_role_is_bounded_and_those_of_programs_approve_nothing(name: str) -> None:
    role = RESOURCES[name]["Properties"]
    carries = name in ("TemplateCiRole", "RetrainRole", "DevDeliveryRole", "ProdDeliveryRole")
    assert role["PermissionsBoundary"] == (DELIVERY_BOUNDARY if carries else BOUNDARY)
    registers = name.endswith(("PipelineRole", "CiRole"))
    assert (DENY in role.get("ManagedPolicyArns", [])) is registers


@pytest.mark.parametrize("name", ["FeaturePipelineRole", "DevPipelineRole", "ModelRole"])
def test_pipelines_and_models_are_sagemakers_in_this_account(name: str) -> None:
    (trust,) = RESOURCES[name]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert trust["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "111122223333"},
        "ArnLike": {"aws:SourceArn": "arn:aws:sagemaker:eu-west-1:111122223333:*"},
    }


@pytest.mark.parametrize("name", CLASSES)
def test_on_codecommit_a_class_is_taken_by_its_own_builds(name: str) -> None:
    (trust,) = RESOURCES[f"{name.title()}CiRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    build = f"arn:aws:codebuild:eu-west-1:111122223333:project/modelyard-churn-{name}"
    assert trust["Principal"] == {"Service": "codebuild.amazonaws.com"}
    assert trust["Condition"]["StringEquals"] == {"aws:SourceAccount": "111122223333", "aws:SourceArn": build}
    assert RESOURCES[f"{name.title()}Build"]["Properties"]["ServiceRole"].endswith(f"/modelyard/ci/churn-ci-{name}")


ON_GITHUB_CI = (*CLASSES, "check")
SUBJECTS = {
    "ref:refs/heads/feature-x": "feature",
    "ref:refs/heads/feature-prod": "feature",
    "ref:refs/heads/dev": "dev",
    "ref:refs/heads/prod": "prod",
    "ref:refs/heads/dev-2": None,
    "ref:refs/heads/feature": None,
    "ref:refs/heads/x/feature-y": None,
    "ref:refs/tags/feature-x": None,
    "ref:refs/tags/prod": None,
    "environment:dev": None,
    "environment:prod": None,
    "pull_request": "check",
}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_on_github_a_class_is_taken_by_its_own_branches(subject: str) -> None:
    taken = [name for name in ON_GITHUB_CI if trusts(name, f"repo:acme@1/churn@2:{subject}")]
    assert taken == ([SUBJECTS[subject]] if SUBJECTS[subject] else [])
    for repository in ("acme@1/churn@3", "acme/churn", "acme@1/churn@2-2", "other@9/churn@2"):
        assert not any(trusts(name, f"repo:{repository}:{subject}") for name in ON_GITHUB_CI)
    assert not any(
        trusts(name, f"repo:acme@1/churn@2:{subject}", audience="https://github.com/acme") for name in ON_GITHUB_CI
    )


def trusts(name: str, subject: str, audience: str = "sts.amazonaws.com") -> bool:
    """Whether the CI role of a class trusts a token: its trust policy, asked as if it were a principal's own."""
    (statement,) = json.loads(ON_GITHUB[f"{name.title()}CiRole"]["Properties"]["AssumeRolePolicyDocument"])["Statement"]
    assert statement["Principal"] == {"Federated": template.OF_SSM["OidcProviderArn"]}
    asked = {key: value for key, value in statement.items() if key != "Principal"} | {"Resource": "*"}
    document = {"Version": "2012-10-17", "Statement": [asked]}
    host = template.OF_SSM["OidcHost"]
    context = {"": {f"{host}:sub": subject, f"{host}:aud": audience}}
    return allowed([document], "sts:AssumeRoleWithWebIdentity", "arn:aws:iam::111122223333:role/any", **context)


def test_the_controller_finds_the_model_role_and_passes_no_other() -> None:
    paths = {name: RESOURCES[name]["Properties"]["Path"] for name in ROLES}
    assert [name for name, path in paths.items() if path.startswith("/modelyard/models/")] == ["ModelRole"]
    assert (
        RESOURCES["ModelRole"]["Properties"]["RoleName"]
        == RESOURCES["Seed"]["Properties"]["ModelRole"]
        == "churn-model"
    )


def test_a_model_reads_the_project_and_writes_what_it_captured_and_predicted() -> None:
    for folder in ("feature", "data", "captured/prod", "batch"):
        address = f"arn:aws:s3:::shared/churn/{folder}/file"
        assert allowed(MODEL, "s3:GetObject", address)
        assert allowed(MODEL, "s3:PutObject", address) is folder.startswith(("captured", "batch"))
    assert allowed(MODEL, "s3:GetObject", "arn:aws:s3:::my-data/rows.csv")


# ------------------------------------------------------------------------------------------------ builds


def test_pushes_of_feature_branches_start_their_build_with_the_commit_and_the_branch() -> None:
    assert heard("FeaturePushes") == (
        ["referenceCreated", "referenceUpdated"],
        [{"prefix": "feature-"}, "template-update"],
    )
    assert asked("FeaturePushes", commit="0f", branch="feature-x") == {
        "sourceVersion": "0f",
        "environmentVariablesOverride": [variable("MODELYARD_BRANCH", "feature-x")],
    }
    assert variables("FeatureBuild")["MODELYARD_CI_STEPS"] == "check push"


def test_a_feature_branch_that_is_deleted_starts_prods_commands_with_its_name() -> None:
    assert heard("FeatureDeletions") == (["referenceDeleted"], [{"prefix": "feature-"}])
    assert asked("FeatureDeletions", branch="feature-x") == {
        "sourceVersion": "refs/heads/prod",
        "environmentVariablesOverride": [
            variable("MODELYARD_BRANCH", "feature-x"),
            variable("MODELYARD_CI_STEPS", "deleted"),
        ],
    }


def test_the_template_is_looked_at_every_week() -> None:
    rule = RESOURCES["TemplateUpdates"]["Properties"]
    assert rule["ScheduleExpression"] == "rate(7 days)"
    assert rule["Targets"][0]["Arn"].endswith(":project/modelyard-churn-template")
    given = variables("TemplateBuild")
    assert (given["MODELYARD_CI_STEPS"], given["MODELYARD_EXTRAS"]) == ("template", "template")
    assert RESOURCES["TemplateBuild"]["Properties"]["SourceVersion"] == "refs/heads/dev"


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_later_pushes_to_dev_and_prod_start_their_codepipeline_and_the_one_that_makes_the_branch_does_not(
    name: str,
) -> None:
    assert heard(f"{name.title()}Pushes") == (["referenceUpdated"], [name])
    (target,) = RESOURCES[f"{name.title()}Pushes"]["Properties"]["Targets"]
    assert target["Arn"] == f"{DELIVERY}{name}"
    given = json.loads(target["InputTransformer"]["InputTemplate"].replace("<commit>", '"0f"'))
    assert given == {"variables": [{"name": "PushedCommit", "value": "0f"}]}


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_the_creation_of_a_codepipeline_starts_nothing(name: str) -> None:
    """AWS would, but it has no value for a variable without a default."""
    (variable,) = RESOURCES[f"{name.title()}Delivery"]["Properties"]["Variables"]
    assert variable["Name"] == "PushedCommit"
    assert "DefaultValue" not in variable


def heard(rule: str) -> tuple[list[str], list[Any]]:
    """Events and references' names that a rule about the project's repository hears."""
    pattern = RESOURCES[rule]["Properties"]["EventPattern"]
    assert pattern["resources"] == [REPOSITORY]
    assert pattern["detail"]["referenceType"] == ["branch"]
    return pattern["detail"]["event"], pattern["detail"]["referenceName"]


def asked(rule: str, **values: str) -> dict[str, Any]:
    """The request of the build of feature branches that a rule starts."""
    (target,) = RESOURCES[rule]["Properties"]["Targets"]
    assert target["Arn"].endswith(":project/modelyard-churn-feature")
    transformer = target["InputTransformer"]
    assert set(transformer["InputPathsMap"]) == set(values)
    text = transformer["InputTemplate"]
    for key, value in values.items():
        text = text.replace(f"<{key}>", json.dumps(value))
    given: dict[str, Any] = json.loads(text)
    return given


def variable(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value, "type": "PLAINTEXT"}


def variables(build: str) -> dict[str, str]:
    environment = RESOURCES[build]["Properties"]["Environment"]
    return {one["Name"]: one["Value"] for one in environment["EnvironmentVariables"]}


# Stage, and the step of CI that its build does; a person decides where there is none.
DELIVERED: dict[str, dict[str, str | None]] = {
    "dev": {"Check": "check", "Train": "push"},
    "prod": {"Check": "check", "Approve": None, "Promote": "push"},
}


@pytest.mark.parametrize("name", DELIVERED)
def test_a_codepipeline_checks_first_and_prod_waits_for_a_person_before_it_promotes(name: str) -> None:
    pipeline = RESOURCES[f"{name.title()}Delivery"]["Properties"]
    assert (pipeline["Name"], pipeline["PipelineType"]) == (f"p-123456789012-{name}", "V2")
    assert pipeline["ExecutionMode"] == "SUPERSEDED"
    source, *stages = pipeline["Stages"]
    (of_source,) = source["Actions"]
    assert of_source["Configuration"] == {
        "RepositoryName": "churn",
        "BranchName": name,
        "PollForSourceChanges": "false",
        "OutputArtifactFormat": "CODEBUILD_CLONE_REF",
    }
    assert [stage["Name"] for stage in stages] == list(DELIVERED[name])
    for stage in stages:
        (action,) = stage["Actions"]
        assert action["Name"] == stage["Name"]
        if (steps := DELIVERED[name][stage["Name"]]) is None:
            assert action["ActionTypeId"]["Category"] == "Approval"
            continue
        assert action["Configuration"]["ProjectName"] == f"modelyard-churn-{name}"
        given = json.loads(action["Configuration"]["EnvironmentVariables"])
        assert given == [variable("MODELYARD_BRANCH", "#{Source.BranchName}"), variable("MODELYARD_CI_STEPS", steps)]


@pytest.mark.parametrize("name", DELIVERED)
def test_a_codepipeline_does_what_it_does_for_its_own_branch_alone(name: str) -> None:
    policies = DELIVERIES[name]
    other_name = "prod" if name == "dev" else "dev"
    (trust,) = RESOURCES[f"{name.title()}DeliveryRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "codepipeline.amazonaws.com"}
    assert trust["Condition"]["StringEquals"] == {
        "aws:SourceAccount": "111122223333",
        "aws:SourceArn": f"{DELIVERY}{name}",
    }
    build = "arn:aws:codebuild:eu-west-1:111122223333:project/modelyard-churn-"
    for action in ("codebuild:StartBuild", "codebuild:BatchGetBuilds"):
        assert allowed(policies, action, f"{build}{name}")
        assert not allowed(policies, action, f"{build}{other_name}")
    for action in ("s3:GetObject", "s3:PutObject"):
        assert allowed(policies, action, f"{BUILDS}{name}/source/abc")
        assert not allowed(policies, action, f"{BUILDS}{other_name}/source/abc")
    assert allowed(policies, "codecommit:GetCommit", REPOSITORY, tags=OF_THE_PROJECT)
    assert not allowed(policies, "codecommit:GetCommit", REPOSITORY, tags={"modelyard:project": "another"})
    assert changing(policies) == {"codebuild:StartBuild", "codebuild:BatchGetBuilds", "s3:PutObject"} | {
        *("kms:Decrypt", "kms:GenerateDataKey")
    }


def test_ci_reads_what_its_own_codepipeline_hands_on_and_writes_nothing_there() -> None:
    for name in CLASSES:
        for folder in ("dev", "prod"):
            assert allowed(CI[name], "s3:GetObject", f"{BUILDS}{folder}/source/abc") is (folder == name)
            assert not allowed(CI[name], "s3:PutObject", f"{BUILDS}{folder}/source/abc")


def test_the_role_that_starts_builds_does_nothing_else_and_is_taken_by_the_rules_alone() -> None:
    assert changing(STARTS) == {"codebuild:StartBuild", "codepipeline:StartPipelineExecution"}
    (trust,) = RESOURCES["StartBuildsRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    rules = [one["Properties"]["Name"] for one in RESOURCES.values() if one["Type"] == "AWS::Events::Rule"]
    arns = {f"arn:aws:events:eu-west-1:111122223333:rule/{name}" for name in rules}
    assert set(trust["Condition"]["StringEquals"]["aws:SourceArn"]) == arns
    for who, policies in EVERYBODY.items():
        for build in builds():
            of_feature = build.endswith(("-feature", "-template"))
            starts = who == "rules" if of_feature else who == f"delivery {build.rpartition('-')[2]}"
            assert allowed(policies, "codebuild:StartBuild", build) is starts, (who, build)


def builds() -> list[str]:
    names = (*CLASSES, "template")
    return [f"arn:aws:codebuild:eu-west-1:111122223333:project/modelyard-churn-{name}" for name in names]


def test_on_github_nothing_of_codecommit_is_made() -> None:
    made = {resource["Type"] for resource in ON_GITHUB.values()}
    assert made == {"Custom::ModelyardProject", "AWS::IAM::Role", "AWS::IAM::ManagedPolicy", "AWS::IAM::Policy"}
    assert "codecommit:" not in json.dumps(ON_GITHUB)
    assert "codebuild" not in json.dumps(ON_GITHUB)


# ------------------------------------------------------------------------------------------------ the template itself


def test_the_seed_is_told_what_the_parameters_say() -> None:
    told = RESOURCES["Seed"]["Properties"]
    assert told["ServiceToken"] == template.OF_SSM["SeedFunctionArn"]
    assert told["ServiceTimeout"] > 3 * 900 + 60 + 120
    assert told["PipelineRole"] == "churn-pipeline-{stage}"
    assert (told["Repository"], told["ArtifactBucket"]) == ("churn", "shared")
    assert (told["DataBuckets"], told["KmsKeyArns"]) == ("my-data", KEY)
    several = resources(DataBuckets="my-data,more-data")["Seed"]["Properties"]
    assert several["DataBuckets"] == "my-data,more-data"
    assert resources(Repository="forecasts")["Seed"]["Properties"]["Repository"] == "forecasts"
    bare = template.resolved(WRITTEN, {"SageMakerProjectName": "churn", "SageMakerProjectId": "p-1"})
    assert bare["Seed"]["Properties"]["ArtifactBucket"] == template.OF_SSM["PlatformArtifactBucket"]
    assert (bare["Seed"]["Properties"]["DataBuckets"], bare["Seed"]["Properties"]["KmsKeyArns"]) == ("", "")


def test_the_repository_knows_the_ci_roles_by_the_names_that_they_get() -> None:
    given = RESOURCES["Seed"]["Properties"]["CiVariables"]
    for name in ON_GITHUB_CI:
        role = ON_GITHUB[f"{name.title()}CiRole"]["Properties"]
        arn = f"arn:aws:iam::111122223333:role{role['Path']}{role['RoleName']}"
        assert given[f"MODELYARD_CI_ROLE_{name.upper()}"] == arn


def test_without_optional_parameters_nothing_is_left_of_them() -> None:
    bare = template.resolved(WRITTEN, {"SageMakerProjectName": "churn", "SageMakerProjectId": "p-1"})
    text = json.dumps(list(template.policies(bare).values()))
    for value in ("my-data", KEY, "shared"):
        assert value not in text
    assert "modelyard-artifacts-111122223333-eu-west-1/churn/" in text


def test_everything_that_takes_tags_has_the_projects() -> None:
    for name, resource in RESOURCES.items():
        if resource["Type"] in ("AWS::IAM::ManagedPolicy", "AWS::IAM::Policy", "Custom::ModelyardProject"):
            continue  # policies have none in CloudFormation, the other tags what it makes
        has = {tag["Key"]: tag["Value"] for tag in resource["Properties"]["Tags"]}
        stage = next((one for one in CLASSES if name.startswith(one.title())), None)
        expected = {
            "sagemaker:project-name": "churn",
            "sagemaker:project-id": "p-123456789012",
            "modelyard:project": "churn",
        }
        assert has == expected | ({"modelyard:stage": stage} if stage else {}), name


# As many buckets and keys as the seed function takes.
_SHORT = buckets.DATA_BUCKETS_LENGTH // (9 + buckets.FOR_EACH)
MANY_BUCKETS = [f"bucket-{number:02}" for number in range(_SHORT)]
MANY_BUCKETS[0] += "x" * (buckets.DATA_BUCKETS_LENGTH % (9 + buckets.FOR_EACH))
LONGEST = {
    "SageMakerProjectName": "p" * 32,
    "SageMakerProjectId": "p" * 15,
    "ArtifactBucket": "b" * 63,
    "DataBuckets": ",".join(MANY_BUCKETS),
    "KmsKeyArns": ",".join([KEY] * buckets.KEYS),
    "Repository": "r" * 100,
}


@pytest.mark.parametrize("host", ["codecommit", "github"])
def test_policies_are_not_longer_than_iam_takes(host: str) -> None:
    """6,144 characters for a managed policy, 10,240 for a role's inline policies together, 2,048 for a role's trust:
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
    """
    assert {"aws", "aws-cn", "aws-us-gov", "aws-eusc"} <= set(PLACES)
    made = template.resolved(WRITTEN, LONGEST | {"GitHost": host})
    of_data = made["DataBucketsPolicy"]["Properties"]
    for resource in made.values():
        properties = resource["Properties"]
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            assert longest_anywhere(properties["PolicyDocument"]) <= 6144
        if resource["Type"] == "AWS::IAM::Role":
            of_role = [*properties["Policies"], *([of_data] if properties["RoleName"] in of_data["Roles"] else [])]
            assert sum(longest_anywhere(one["PolicyDocument"]) for one in of_role) <= 10240
            assert longest_anywhere(properties["AssumeRolePolicyDocument"]) <= 2048
            assert len(properties["RoleName"]) <= 64


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        (
            "SageMakerProjectName",
            ["churn", "a", "a-b2", "p" * 32, "feature", "feature-x", "churn-features", "churn-dev-1"],
            ["", "Churn", "2a", "a-", "a_b", "p" * 33, "churn-feature", "churn-feature-x", "a--feature"],
        ),
        ("SageMakerProjectId", ["p-abc123def456", "p" * 15], ["", "p_1", "p" * 16]),
        (
            "Description",
            ["What it is for (100 %)", "x" * 1024],
            ["", "  ", "two\nlines", "{{ code }}", "{% x", "x" * 1025],
        ),
        ("GitOwner", ["none", "acme", "a-b", "jo_corp"], ["", "-a", "a/b", "a" * 40]),
        ("Repository", ["", "churn", "My.Repo_2"], ["a b", "../x", "..", "churn.git", "r" * 101]),
        ("ArtifactBucket", ["", "my-artifacts"], ["team-*", "s3://x"]),
        ("DataBuckets", ["", "my-data", "a.b, c-d"], ["/path", "team-*"]),
        ("KmsKeyArns", ["", KEY, f"{KEY},{KEY}"], ["alias/my-key"]),
        ("TemplateVersion", ["latest", "0.6.0-0123456789ab"], ["", "-x", "a b"]),
    ],
)
def test_a_parameter_takes_what_can_be_and_nothing_else(parameter: str, good: list[str], bad: list[str]) -> None:
    pattern = WRITTEN["Parameters"][parameter]["AllowedPattern"]
    assert [value for value in good if not re.search(pattern, value)] == []
    assert [value for value in bad if re.search(pattern, value)] == []


def test_the_docs_say_how_many_projects_fit() -> None:
    def made(all_resources: Mapping[str, Any], kind: str) -> int:
        return sum(one["Type"] == kind for one in all_resources.values())

    platform = template.load(account.TEMPLATE)["Resources"]
    rules, own = made(RESOURCES, "AWS::Events::Rule"), made(platform, "AWS::Events::Rule")
    roles, on_github = made(RESOURCES, "AWS::IAM::Role"), made(ON_GITHUB, "AWS::IAM::Role")
    assert (rules, own) == (5, 10)  # as the words say
    page = " ".join((PATH.parent.parent / "docs" / "install.md").read_text().split())
    assert f"room for {(300 - own) // rules} projects ({(100 - own) // rules})" in page
    assert f"{roles} IAM roles, on GitHub {on_github}" in page
    assert f"room for {1000 // roles} ({1000 // on_github})" in page


def test_the_docs_say_how_many_buckets_and_keys_a_project_may_have() -> None:
    page = " ".join((PATH.parent.parent / "docs" / "projects.md").read_text().split())
    assert f"{buckets.DATA_BUCKETS_LENGTH} characters, each name counted with {buckets.FOR_EACH} more" in page
    assert (buckets.KEYS, "for three keys" in page) == (3, True)


def test_every_parameter_is_explained_where_studio_shows_it() -> None:
    shown = WRITTEN["Metadata"]["AWS::CloudFormation::Interface"]
    grouped = [name for group in shown["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(grouped) == sorted(shown["ParameterLabels"]) == sorted(WRITTEN["Parameters"])
    for name, parameter in WRITTEN["Parameters"].items():
        assert parameter["Description"].endswith("."), name
        assert ("ConstraintDescription" in parameter) is ("AllowedPattern" in parameter), name


def test_a_project_can_be_made_with_nothing_but_a_name() -> None:
    without = [name for name, parameter in WRITTEN["Parameters"].items() if "Default" not in parameter]
    assert without == ["SageMakerProjectName", "SageMakerProjectId"]
    for name, parameter in WRITTEN["Parameters"].items():
        if "AllowedValues" in parameter:
            assert parameter["Default"] in parameter["AllowedValues"], name
        elif "AllowedPattern" in parameter and "Default" in parameter:
            assert re.search(parameter["AllowedPattern"], parameter["Default"]), name


def test_what_the_seed_function_answers_is_kept_in_the_outputs_of_the_same_name() -> None:
    """When an update is taken back and the Git host cannot be asked, it reads there what the repository was."""
    outputs = WRITTEN["Outputs"]
    for name in (*creation.OF_REPOSITORY, "TemplateVersion"):
        assert "Condition" not in outputs[name]
        assert outputs[name]["Value"] in ({"Fn::GetAtt": ["Seed", name]}, {"Fn::GetAtt": f"Seed.{name}"}), name
