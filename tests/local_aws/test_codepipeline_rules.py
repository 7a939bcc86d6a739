"""CodePipeline's rules: what a pipeline may declare, who enters a stage, what comes next in it, what variables are."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from local_aws.calls import ServiceError
from local_aws.codepipeline.actions import Work, approval_message
from local_aws.codepipeline.stages import Move, Place, Step, moves, step
from local_aws.codepipeline.structure import check, completed, environment_variables
from local_aws.codepipeline.variables import VariableError, resolved
from local_aws.ministack_host.pipelines import declaration
from local_aws.request_checks import check_request, service_model
from local_aws.store import Scope
from tests.local_aws.pipeline_stand import approval, build, pipeline, source, stage

REGION = "us-east-1"
ROLE = "arn:aws:iam::123456789012:role/pipeline"


def usual() -> dict[str, Any]:
    """As our product makes it for prod."""
    return pipeline(
        "p-1234-prod",
        ROLE,
        stage(source("churn", "prod")),
        stage(build("Check", "churn-prod")),
        stage(approval(CustomData="Promote #{Source.CommitId}?")),
        stage(build("Promote", "churn-prod")),
        executionMode="SUPERSEDED",
    )


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    made = copy.deepcopy(usual())
    change(made)
    return made


def action(made: dict[str, Any], number: int) -> dict[str, Any]:
    """The only action of a stage."""
    found: dict[str, Any] = made["stages"][number]["actions"][0]
    return found


def test_what_our_product_declares_is_allowed():
    check_request(service_model("codepipeline").operation_model("CreatePipeline"), {"pipeline": usual()})
    check(usual(), REGION)


def test_codepipeline_adds_version_run_order_and_what_is_empty():
    made = completed(usual(), 3)

    assert (made["version"], made["executionMode"]) == (3, "SUPERSEDED")
    assert action(made, 2) == {**approval(CustomData="Promote #{Source.CommitId}?")} | {
        "runOrder": 1,
        "inputArtifacts": [],
        "outputArtifacts": [],
    }


STRUCTURE, STAGE, ACTION = (
    f"Invalid{what}Exception" for what in ("Structure", "StageDeclaration", "ActionDeclaration")
)
REFUSED: list[tuple[str, Callable[[dict[str, Any]], Any], str, str]] = [
    ("one stage", lambda p: p.update(stages=p["stages"][:1]), STRUCTURE, "minimum of 2 stages"),
    ("no source first", lambda p: p["stages"].pop(0), STRUCTURE, "start with a stage that only contains source"),
    (
        "a source later",
        lambda p: p["stages"].append(stage(source("churn"), name="Again")),
        STRUCTURE,
        "only be in the first stage",
    ),
    ("a stage twice", lambda p: p["stages"][3].update(name="Check"), STAGE, "Stage name Check is there twice"),
    ("an empty stage", lambda p: p["stages"][1].update(actions=[]), STAGE, "Stage Check has no actions"),
    (
        "an action twice",
        lambda p: p["stages"][1]["actions"].append(build("Check", "other")),
        STAGE,
        "Action name Check is there twice",
    ),
    ("a condition", lambda p: p["stages"][1].update(onFailure={}), STAGE, "onFailure of stage Check"),
    ("QUEUED", lambda p: p.update(executionMode="QUEUED"), STRUCTURE, "executionMode QUEUED is not built"),
    ("PARALLEL", lambda p: p.update(executionMode="PARALLEL"), STRUCTURE, "executionMode PARALLEL is not built"),
    ("triggers", lambda p: p.update(triggers=[{"providerType": "CodeStarSourceConnection"}]), STRUCTURE, "triggers"),
    ("no store", lambda p: p.pop("artifactStore"), STRUCTURE, "Give artifactStore or artifactStores"),
    (
        "a store elsewhere",
        lambda p: p.update(artifactStores={"eu-west-1": p.pop("artifactStore")}),
        STRUCTURE,
        "Give the store of us-east-1 alone",
    ),
    (
        "V1 with variables",
        lambda p: p.update(pipelineType="V1", variables=[{"name": "Depth"}]),
        STRUCTURE,
        "need pipelineType V2",
    ),
    (
        "another provider",
        lambda p: action(p, 1)["actionTypeId"].update(provider="Jenkins"),
        ACTION,
        "(Category: 'Build', Provider: 'Jenkins', Owner: 'AWS', Version: '1') in action 'Check' is not available",
    ),
    ("a zip", lambda p: action(p, 0)["configuration"].pop("OutputArtifactFormat"), ACTION, "Use CODEBUILD_CLONE_REF"),
    (
        "polling",
        lambda p: action(p, 0)["configuration"].pop("PollForSourceChanges"),
        ACTION,
        "PollForSourceChanges of action 'Source' is true, or left out",
    ),
    (
        "no branch",
        lambda p: action(p, 0)["configuration"].pop("BranchName"),
        ACTION,
        "missing required configuration 'BranchName'",
    ),
    (
        "an unknown member",
        lambda p: action(p, 1)["configuration"].update(Project="x"),
        ACTION,
        "contains unknown configuration 'Project'",
    ),
    (
        "variables that are no JSON",
        lambda p: action(p, 1)["configuration"].update(EnvironmentVariables="A=1"),
        ACTION,
        "it is no JSON",
    ),
    (
        "an artifact of nobody",
        lambda p: action(p, 1).update(inputArtifacts=[{"name": "Other"}]),
        ACTION,
        "is no output artifact of an action before it",
    ),
    ("no artifact", lambda p: action(p, 1).update(inputArtifacts=[]), ACTION, "CodeBuild has 1 to 5"),
    (
        "an output",
        lambda p: action(p, 1).update(outputArtifacts=[{"name": "Built"}]),
        ACTION,
        "outputArtifacts of action 'Check' are not built",
    ),
    (
        "a variable of nobody",
        lambda p: action(p, 2)["configuration"].update(CustomData="#{Build.Word}"),
        ACTION,
        "#{Build.Word}, whose namespace is that of no action before it",
    ),
    (
        "a variable without a dot",
        lambda p: action(p, 2)["configuration"].update(CustomData="#{Source}"),
        ACTION,
        "#{Source} is no variable",
    ),
    (
        "a variable of the pipeline that it does not have",
        lambda p: action(p, 2)["configuration"].update(CustomData="#{variables.Depth}"),
        ACTION,
        "which the pipeline does not declare",
    ),
    ("another region", lambda p: action(p, 1).update(region="eu-west-1"), ACTION, "builds actions of one Region"),
    ("a role of an action", lambda p: action(p, 1).update(roleArn=ROLE), ACTION, "roleArn of action 'Check'"),
    (
        "a build that ends in time",
        lambda p: action(p, 1).update(timeoutInMinutes=10),
        ACTION,
        "only manual approvals can have it",
    ),
]


@pytest.mark.parametrize(("change", "code", "said"), [each[1:] for each in REFUSED], ids=[each[0] for each in REFUSED])
def test_what_aws_refuses_or_nobody_built_is_refused_by_name(
    change: Callable[[dict[str, Any]], Any], code: str, said: str
):
    with pytest.raises(ServiceError) as error:
        check(changed(change), REGION)

    assert error.value.code == code
    assert said in error.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "it is no list"),
        ('["A"]', "'A' is no variable"),
        ('[{"name": "A"}]', "has other members than name, value and type"),
        ('[{"name": "A", "value": 1}]', "is no variable"),
        ('[{"name": "A", "value": "1", "type": "FILE"}]', "the type of A is 'FILE'"),
        ('[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]', "A is there twice"),
    ],
)
def test_environment_variables_that_are_none_are_refused(text: str, said: str):
    with pytest.raises(ValueError, match="Give such as") as error:
        environment_variables(text)

    assert said in str(error.value)


def test_environment_variables_are_plain_unless_they_say_otherwise():
    given = '[{"name": "A", "value": "1"}, {"name": "B", "value": "/b", "type": "PARAMETER_STORE"}]'

    assert environment_variables(given) == [
        {"name": "A", "value": "1", "type": "PLAINTEXT"},
        {"name": "B", "value": "/b", "type": "PARAMETER_STORE"},
    ]


# --- variables


def test_a_variable_is_put_in_as_it_is():
    values = {"Source": {"CommitMessage": 'Say "#{Source.CommitId}"; $(rm -rf)', "CommitId": "abc"}}

    assert resolved("#{Source.CommitId}: #{Source.CommitMessage}", values) == 'abc: Say "#{Source.CommitId}"; $(rm -rf)'


@pytest.mark.parametrize("text", ["#{Source.Word}", "#{Other.CommitId}"])
def test_a_variable_that_nothing_has_set_is_an_error_with_its_name(text: str):
    with pytest.raises(VariableError, match="has no value") as error:
        resolved(f"before {text} after", {"Source": {"CommitId": "abc"}})

    assert text in str(error.value)


# --- stages


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        pytest.param([Place("a", 1, 0, False)], [Move("a", "enter")], id="a free stage is entered"),
        pytest.param([Place("a", 1, 1, True), Place("b", 2, 1, False)], [], id="a stage in use is waited for"),
        pytest.param(
            [Place("a", 1, 1, True), Place("b", 2, 1, False), Place("c", 3, 1, False)],
            [Move("b", "superseded")],
            id="a newer one takes the place of one that waits, and of none inside",
        ),
        pytest.param(
            [Place("c", 3, 1, False), Place("b", 2, 1, False)],
            [Move("b", "superseded"), Move("c", "enter")],
            id="the newest enters",
        ),
        pytest.param(
            [Place("a", 1, 2, True), Place("b", 2, 1, True), Place("c", 3, 0, False)],
            [Move("c", "enter")],
            id="each stage has its own",
        ),
    ],
)
def test_a_stage_has_one_execution_and_one_waits_before_it(places: list[Place], expected: list[Move]):
    assert moves(places) == expected


TWO_THEN_ONE = {"actions": [{"name": n, "runOrder": order} for n, order in (("late", 2), ("a", 1), ("b", 1))]}


@pytest.mark.parametrize(
    ("statuses", "stopping", "expected"),
    [
        ({}, False, Step(start=("a", "b"))),
        ({"a": "Succeeded", "b": "InProgress"}, False, Step()),
        ({"a": "Succeeded", "b": "Succeeded"}, False, Step(start=("late",))),
        ({"a": "Failed", "b": "InProgress"}, False, Step()),
        ({"a": "Failed", "b": "Succeeded"}, False, Step(end="Failed")),
        ({"a": "Succeeded"}, False, Step(start=("b",))),  # of a retry: what has failed is gone from the list
        ({"a": "Succeeded", "b": "Succeeded", "late": "Succeeded"}, False, Step(end="Succeeded")),
        ({"a": "Succeeded", "b": "InProgress"}, True, Step()),
        ({"a": "Succeeded", "b": "Succeeded"}, True, Step(end="Stopped")),
        ({}, True, Step(end="Stopped")),
    ],
)
def test_actions_run_by_their_order_and_those_of_one_order_together(
    statuses: dict[str, str], stopping: bool, expected: Step
):
    assert step(TWO_THEN_ONE, statuses, stopping) == expected


# --- what a topic is told


def test_a_topic_is_told_what_to_decide_until_when_and_where():
    asked = {"stage": "Approve", "action": "Look", "token": "1a2b", "expires": 1467922920.0, "declaration": {}}
    work = Work(Scope("123456789012", REGION), {"name": "churn-prod"}, {}, asked)

    message = approval_message(work, {"CustomData": "Really?"})

    assert message["region"] == REGION
    assert (
        message["consoleLink"] == f"https://console.aws.amazon.com/codepipeline/home?region={REGION}#/view/churn-prod"
    )
    assert message["approval"] == {
        "pipelineName": "churn-prod",
        "stageName": "Approve",
        "actionName": "Look",
        "token": "1a2b",
        "expires": "2016-07-07T20:22Z",
        "approvalReviewLink": f"{message['consoleLink']}/Approve/Look/approve/1a2b",
        "customData": "Really?",
    }


# --- templates


def test_a_template_says_what_a_request_says():
    template = {
        "Name": "from the template",
        "RoleArn": ROLE,
        "PipelineType": "V2",
        "ArtifactStores": [{"Region": REGION, "ArtifactStore": {"Type": "S3", "Location": "bucket"}}],
        "Stages": [
            {
                "Name": "Source",
                "Actions": [
                    {
                        "Name": "Source",
                        "RunOrder": "2",
                        "ActionTypeId": {"Category": "Source", "Owner": "AWS", "Provider": "CodeCommit", "Version": 1},
                        "Configuration": {"RepositoryName": "churn", "PollForSourceChanges": False},
                        "OutputArtifacts": [{"Name": "SourceArtifact"}],
                    }
                ],
            }
        ],
        "Tags": [{"Key": "team", "Value": "ml"}],
        "RestartExecutionOnUpdate": True,
    }

    assert declaration("p", template) == {
        "name": "p",
        "roleArn": ROLE,
        "pipelineType": "V2",
        "artifactStores": {REGION: {"type": "S3", "location": "bucket"}},
        "stages": [
            {
                "name": "Source",
                "actions": [
                    {
                        "name": "Source",
                        "runOrder": 2,
                        "actionTypeId": {
                            "category": "Source",
                            "owner": "AWS",
                            "provider": "CodeCommit",
                            "version": "1",
                        },
                        "configuration": {"RepositoryName": "churn", "PollForSourceChanges": "false"},
                        "outputArtifacts": [{"name": "SourceArtifact"}],
                    }
                ],
            }
        ],
    }


def test_a_template_cannot_hold_executions_before_a_stage():
    with pytest.raises(ValueError, match="DisableInboundStageTransitions is not built"):
        declaration("p", {"DisableInboundStageTransitions": [{"StageName": "Train", "Reason": "later"}]})
