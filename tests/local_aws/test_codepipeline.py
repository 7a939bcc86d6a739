"""CodePipeline with IAM enforced: from a commit through builds and approvals, what supersedes what, and who may."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from local_aws import LocalAWS
from tests.local_aws.clients import refused
from tests.local_aws.people import Person, root
from tests.local_aws.people import allow as may
from tests.local_aws.pipeline_stand import (
    BUCKET,
    HERE,
    Stand,
    allow,
    approval,
    build,
    decision,
    make_role,
    make_stand,
    pipeline,
    put_policy,
    source,
    stage,
)
from tests.local_aws.waiting import settled, wait_for

# What CloudFormation needs for a pipeline.
OF_STACKS = (
    *("CreatePipeline", "GetPipeline", "UpdatePipeline", "DeletePipeline"),
    *("GetPipelineState", "TagResource", "UntagResource"),
)
ARN = f"arn:aws:codepipeline:{HERE}"


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS(enforce_iam=True, builds=True) as server:
        yield server


@pytest.fixture(scope="module")
def stand(aws: LocalAWS) -> Stand:
    return make_stand(aws)


def queue(aws: LocalAWS, name: str, service: str) -> str:
    """The URL of a new queue that a service may send to; its ARN has the same name."""
    sqs, arn = root(aws, "sqs"), f"arn:aws:sqs:{HERE}:{name}"
    url: str = sqs.create_queue(QueueName=name)["QueueUrl"]
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sqs:SendMessage", "Resource": arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    return url


@pytest.fixture(scope="module")
def states(aws: LocalAWS) -> str:
    """The URL of a queue that gets every event of CodePipeline."""
    url, events = queue(aws, "pipeline-states", "events.amazonaws.com"), root(aws, "events")
    events.put_rule(Name="pipeline-states", EventPattern=json.dumps({"source": ["aws.codepipeline"]}))
    target = {"Id": "queue", "Arn": f"arn:aws:sqs:{HERE}:pipeline-states"}
    events.put_targets(Rule="pipeline-states", Targets=[target])
    return url


def told(aws: LocalAWS, states: str, execution: str) -> list[dict[str, Any]]:
    """The events of an execution, when the last of them has come."""
    found: list[dict[str, Any]] = []
    sqs = root(aws, "sqs")

    def last() -> bool:
        for message in sqs.receive_message(QueueUrl=states, MaxNumberOfMessages=10).get("Messages", []):
            sqs.delete_message(QueueUrl=states, ReceiptHandle=message["ReceiptHandle"])
            event = json.loads(message["Body"])
            if event["detail"]["execution-id"] == execution:
                found.append(event)
        ends = [each for each in found if each["detail-type"].startswith("CodePipeline Pipeline")]
        return len(ends) == 2

    wait_for(last)
    return found


def test_a_commit_goes_through_check_approval_and_build(aws, stand, states):
    commit = stand.commit(message="""Say "it's" $(so)""")
    name = stand.make(stage(build("Check", stand.name)), stage(approval()), stage(build("Promote", stand.name)))
    execution = stand.newest(name)

    token = stand.asked(name)
    waiting = stand.history(name)[0]
    stand.decide(name, token)
    status = stand.ended(name)

    assert (waiting["status"], status) == ("InProgress", "Succeeded")
    assert waiting["trigger"]["triggerType"] == "CreatePipeline"
    assert [(each["revisionId"], each["revisionSummary"]) for each in waiting["sourceRevisions"]] == [
        (commit, """Say "it's" $(so)""")
    ]
    assert stand.action(name, "Approve")["summary"] == "Looked at"
    builds = [stand.action(name, each)["externalExecutionId"] for each in ("Check", "Promote")]
    for each in root(aws, "codebuild").batch_get_builds(ids=builds)["builds"]:
        assert (each["buildStatus"], each["resolvedSourceVersion"]) == ("SUCCEEDED", commit)
        assert {"name": "MODELYARD_BRANCH", "value": "dev", "type": "PLAINTEXT"} in each["environment"][
            "environmentVariables"
        ]
    seen = [
        (each["detail"].get("stage"), each["detail"].get("action"), each["detail"]["state"])
        for each in told(aws, states, execution)
    ]
    assert seen[0] == (None, None, "STARTED")
    assert seen[-1] == (None, None, "SUCCEEDED")
    assert ("Approve", "Approve", "STARTED") in seen
    assert [each for each in seen if each[0] == "Promote"] == [
        ("Promote", None, "STARTED"),
        ("Promote", "Promote", "STARTED"),
        ("Promote", "Promote", "SUCCEEDED"),
        ("Promote", None, "SUCCEEDED"),
    ]


def test_the_reference_to_the_commit_lies_below_the_first_letters_of_the_pipelines_name(aws, stand):
    name = stand.make(stage(approval()), name="a-name-of-more-than-twenty-letters")
    stand.asked(name)

    action = stand.client.list_action_executions(pipelineName=name)["actionExecutionDetails"][-1]
    (artifact,) = action["output"]["outputArtifacts"]
    location = artifact["s3location"]
    written = json.loads(root(aws, "s3").get_object(Bucket=location["bucket"], Key=location["key"])["Body"].read())

    assert (artifact["name"], location["bucket"]) == ("SourceArtifact", BUCKET)
    assert location["key"].startswith("a-name-of-more-than-/SourceArti/")
    assert written["commit"] == action["output"]["outputVariables"]["CommitId"]
    assert (written["branch"], written["repository"].rpartition("/")[2]) == ("dev", stand.name)


def test_a_build_that_fails_fails_its_stage_and_can_be_retried(stand):
    stand.commit("broken", broken="yes")
    name = stand.make(stage(build("Check", stand.name)), stage(approval()), first=stage(source(stand.name, "broken")))

    first = stand.ended(name)
    failed = stand.action(name, "Check")
    execution = stand.newest(name)
    retried = stand.client.retry_stage_execution(
        pipelineName=name, stageName="Check", pipelineExecutionId=execution, retryMode="FAILED_ACTIONS"
    )
    again = stand.ended(name)

    assert (first, again) == ("Failed", "Failed")
    assert retried["pipelineExecutionId"] == execution
    assert failed["errorDetails"] == {"code": "JobFailed", "message": "Build terminated with state: FAILED"}
    assert stand.action(name, "Check")["externalExecutionId"] != failed["externalExecutionId"]
    assert stand.action(name, "Approve") == {}


# --- superseding, stopping, deciding: without builds


def test_a_newer_execution_takes_the_place_of_one_that_waits_but_not_of_an_open_approval(aws, stand, states):
    name = stand.make(stage(approval()))
    token, first = stand.asked(name), stand.newest(name)

    second = stand.start(name)
    wait_for(lambda: stand.state(name, "Approve").get("inboundExecution", {}).get("pipelineExecutionId") == second)
    third = stand.start(name)
    superseded = stand.ended(name, second)
    stand.decide(name, token)
    ended = stand.ended(name, first)
    next_token = wait_for(lambda: (found := stand.action(name, "Approve").get("token")) != token and found)

    assert (superseded, ended, stand.status(name, third)) == ("Superseded", "Succeeded", "InProgress")
    assert next_token
    assert told(aws, states, second)[-1]["detail"]["state"] == "SUPERSEDED"
    assert stand.state(name, "Approve")["latestExecution"]["pipelineExecutionId"] == third


def test_a_rejection_fails_the_execution_and_says_who_said_so(stand):
    name = stand.make(stage(approval()), stage(build("Promote", stand.name)))

    stand.decide(name, stand.asked(name), "Rejected")

    assert stand.ended(name) == "Failed"
    decided = stand.action(name, "Approve")
    assert (decided["status"], decided["lastUpdatedBy"]) == ("Failed", "arn:aws:iam::123456789012:root")
    assert stand.action(name, "Promote") == {}


def test_nobody_decides_twice_or_with_another_token(stand):
    name = stand.make(stage(approval()))
    token = stand.asked(name)

    wrong = refused(lambda: stand.decide(name, str(uuid.uuid4())))
    stand.decide(name, token)
    twice = refused(lambda: stand.decide(name, token, "Rejected"))
    nowhere = refused(lambda: stand.client.put_approval_result(**decision(name, token) | {"stageName": "Source"}))

    assert wrong[0] == "InvalidApprovalTokenException"
    assert twice == ("ApprovalAlreadyCompletedException", "Action 'Approve' is Succeeded already")
    assert nowhere[0] == "ActionNotFoundException"
    assert stand.ended(name) == "Succeeded"


def test_an_approval_waits_seven_days_or_as_long_as_it_says(aws, stand):
    short = stand.make(stage({**approval(), "timeoutInMinutes": 5}))
    stand.asked(short)
    usual = stand.make(stage(approval()))
    stand.asked(usual)

    aws.configure("clock", {"advance": 300})
    ended = stand.ended(short)
    left = stand.status(usual, stand.newest(usual))

    assert (ended, left) == ("Failed", "InProgress")
    assert stand.action(short, "Approve")["errorDetails"]["code"] == "TimeoutError"


def test_stopping_waits_for_what_is_under_way_unless_that_is_abandoned(stand):
    name = stand.make(stage(approval()), stage(approval("Again")))
    token, execution = stand.asked(name), stand.newest(name)
    asked = {"pipelineName": name, "pipelineExecutionId": execution}

    stand.client.stop_pipeline_execution(**asked, reason="Not now")
    stopping = stand.status(name, execution)
    twice = refused(lambda: stand.client.stop_pipeline_execution(**asked))
    stand.decide(name, token)
    ended = stand.ended(name)

    assert (stopping, ended) == ("Stopping", "Stopped")
    assert twice[0] == "DuplicatedStopRequestException"
    assert stand.history(name)[0]["stopTrigger"] == {"reason": "Not now"}
    assert refused(lambda: stand.client.stop_pipeline_execution(**asked))[0] == "PipelineExecutionNotStoppableException"

    other = stand.start(name)
    stand.asked(name)
    stand.client.stop_pipeline_execution(pipelineName=name, pipelineExecutionId=other, abandon=True)
    assert stand.status(name, other) == "Stopped"
    assert stand.action(name, "Approve")["status"] == "Abandoned"


def test_an_update_cancels_what_is_under_way(stand):
    name = stand.make(stage(approval()))
    stand.asked(name)
    declared = stand.client.get_pipeline(name=name)["pipeline"]

    longer = [*declared["stages"], stage(approval("Again"))]
    changed = stand.client.update_pipeline(pipeline=declared | {"stages": longer})

    assert changed["pipeline"]["version"] == 2
    assert stand.ended(name) == "Cancelled"
    assert stand.client.get_pipeline(name=name, version=1)["pipeline"] == declared
    assert refused(lambda: stand.client.get_pipeline(name=name, version=3))[0] == "PipelineVersionNotFoundException"


def test_starting_twice_with_one_token_starts_once(stand):
    name = stand.make(stage(approval()))
    stand.asked(name)

    both = [stand.start(name, clientRequestToken="once") for _ in range(2)]
    other = refused(
        lambda: stand.start(
            name,
            clientRequestToken="once",
            sourceRevisions=[{"actionName": "Source", "revisionType": "COMMIT_ID", "revisionValue": "0" * 40}],
        )
    )

    assert both[0] == both[1]
    assert len(stand.history(name)) == 2
    assert other[0] == "ConflictException"


def test_an_execution_has_the_commit_and_the_variables_that_it_was_started_with(stand):
    old, _new = stand.commit(), stand.commit()
    declared = [{"name": "Depth", "defaultValue": "3"}]
    name = stand.make(stage(approval(CustomData="#{variables.Depth} #{Source.CommitId}")), variables=declared)
    stand.decide(name, stand.asked(name))
    stand.ended(name)

    revision = {"actionName": "Source", "revisionType": "COMMIT_ID", "revisionValue": old}
    stand.start(name, sourceRevisions=[revision], variables=[{"name": "Depth", "value": "9"}])
    wait_for(lambda: stand.action(name, "Approve").get("token"))
    unknown = refused(lambda: stand.start(name, variables=[{"name": "Width", "value": "9"}]))

    def resolved() -> str | None:
        action = stand.client.list_action_executions(pipelineName=name)["actionExecutionDetails"][0]
        text: str | None = action["input"]["resolvedConfiguration"].get("CustomData")
        return text

    assert wait_for(resolved) == f"9 {old}"
    assert unknown == ("ValidationException", "The pipeline does not declare the variables Width.")


def test_creating_a_pipeline_whose_variable_has_no_value_starts_nothing(stand):
    name = stand.make(stage(approval()), variables=[{"name": "PushedCommit"}])

    code, message = refused(lambda: stand.start(name))
    started = stand.start(name, variables=[{"name": "PushedCommit", "value": "0f"}])

    assert (code, message) == ("ValidationException", "The variables PushedCommit have no default value. Give them.")
    assert [each["pipelineExecutionId"] for each in stand.history(name)] == [started]


def test_lists_come_in_pages_the_newest_first(stand):
    name = stand.make(stage(approval()))
    started = [stand.newest(name), *[stand.start(name) for _ in range(3)]]

    pages = stand.client.get_paginator("list_pipeline_executions").paginate(
        pipelineName=name, PaginationConfig={"PageSize": 3}
    )
    found = [each["pipelineExecutionId"] for page in pages for each in page["pipelineExecutionSummaries"]]
    names = [
        each["name"]
        for page in stand.client.get_paginator("list_pipelines").paginate(PaginationConfig={"PageSize": 2})
        for each in page["pipelines"]
    ]

    assert found == started[::-1]
    assert name in names
    assert names == sorted(names)
    assert refused(lambda: stand.client.list_pipelines(nextToken="x"))[0] == "InvalidNextTokenException"


def test_a_pipeline_that_is_deleted_is_gone_with_its_history_and_deleting_again_is_fine(stand):
    name = stand.make(stage(approval()))
    stand.asked(name)

    stand.client.delete_pipeline(name=name)
    stand.client.delete_pipeline(name=name)

    code, message = refused(lambda: stand.history(name))
    assert (code, message) == (
        "PipelineNotFoundException",
        f"Account '123456789012' does not have a pipeline with name '{name}'",
    )
    assert stand.make(stage(approval()), name=name) == name
    assert len(stand.history(name)) == 1


def test_what_is_not_built_says_its_name(stand):
    code, message = refused(lambda: stand.client.list_action_types())

    assert code == "NotImplementedException"
    assert "codepipeline:ListActionTypes" in message


# --- topics


def test_a_topic_is_told_of_an_approval(aws, stand):
    topic = root(aws, "sns").create_topic(Name="approvals")["TopicArn"]
    url = queue(aws, "approvals", "sns.amazonaws.com")
    root(aws, "sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{HERE}:approvals")
    name = f"p{uuid.uuid4().hex[:10]}-prod"
    asks = approval(NotificationArn=topic, CustomData="Hm")
    declared = pipeline(name, stand.role, stage(source(stand.name)), stage(asks))

    stand.may(*stand.rights(name))
    stand.client.create_pipeline(pipeline=declared)
    without = stand.ended(name)
    refusal = stand.action(name, "Approve")["errorDetails"]
    stand.may(*stand.rights(name), allow(["sns:Publish"], topic))
    stand.start(name)
    token = stand.asked(name)
    (message,) = wait_for(lambda: root(aws, "sqs").receive_message(QueueUrl=url).get("Messages"))

    assert (without, refusal["code"]) == ("Failed", "PermissionError")
    assert "is not authorized to perform: sns:Publish" in refusal["message"]
    notice = json.loads(message["Body"])
    assert notice["Subject"] == f"APPROVAL NEEDED: AWS CodePipeline {name} for action Approve"
    said = json.loads(notice["Message"])["approval"]
    assert (said["token"], said["customData"]) == (token, "Hm")


# --- whom IAM lets do what


@pytest.mark.parametrize(
    ("missing", "at", "code", "said"),
    [
        ("codecommit:GetRepository", "Source", "PermissionError", "required to access the AWS CodeCommit repository"),
        ("codecommit:GetBranch", "Source", "PermissionError", "perform: codecommit:GetBranch"),
        ("codecommit:GetCommit", "Source", "PermissionError", "perform: codecommit:GetCommit"),
        ("s3:PutObject", "Source", "PermissionError", "may not upload the artifact to s3://pipeline-artifacts/"),
        ("s3:GetObject", "Check", "PermissionError", "may not read the artifact from s3://pipeline-artifacts/"),
        ("codebuild:StartBuild", "Check", "JobFailed", "Error calling startBuild"),
    ],
)
def test_what_the_pipelines_role_may_not_do_fails_the_action_with_its_name(stand, missing, at, code, said):
    name = f"p{uuid.uuid4().hex[:10]}-dev"
    less = [
        each | {"Action": [action for action in each["Action"] if action != missing]} for each in stand.rights(name)
    ]
    stand.may(*[each for each in less if each["Action"]])
    stand.client.create_pipeline(
        pipeline=pipeline(name, stand.role, stage(source(stand.name)), stage(build("Check", stand.name)))
    )

    assert stand.ended(name) == "Failed"
    error = stand.action(name, at)["errorDetails"]
    assert error["code"] == code
    assert said in error["message"]
    assert f"{stand.role.rpartition('/')[2]}/codepipeline is not authorized" in error["message"] or "s3" in missing


def test_a_build_that_may_not_read_what_it_is_handed_fails(aws, stand):
    other = make_role(aws, f"{stand.name}-blind", "codebuild.amazonaws.com")
    codebuild = root(aws, "codebuild")
    project = codebuild.batch_get_projects(names=[stand.name])["projects"][0]
    given = {name: project[name] for name in ("source", "artifacts", "environment")}
    codebuild.create_project(name=f"{stand.name}-blind", serviceRole=other, **given)

    name = stand.make(stage(build("Check", f"{stand.name}-blind")))

    assert stand.ended(name) == "Failed"
    message = stand.action(name, "Check")["errorDetails"]["message"]
    assert message.startswith("Build terminated with state: FAILED. CLIENT_ERROR: ")
    assert f"for primary source and source version arn:aws:s3:::{BUCKET}/{name}" in message


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ({"BranchName": "nowhere"}, "no branch named nowhere was found in the selected AWS CodeCommit repository"),
        ({"RepositoryName": "nothing"}, "nothing"),
    ],
)
def test_a_source_that_is_not_there_fails_the_execution(stand, configuration, said):
    first = source(stand.name)
    first["configuration"] |= configuration

    name = stand.make(stage(approval()), first=stage(first))

    assert stand.ended(name) == "Failed"
    assert said in stand.action(name, "Source")["errorDetails"]["message"]


def test_a_role_that_does_not_trust_codepipeline_cannot_be_a_pipelines(aws, stand):
    other = make_role(aws, f"{stand.name}-distrustful", "lambda.amazonaws.com")

    code, message = refused(lambda: replace(stand, role=other).make(stage(approval())))

    assert code == "InvalidStructureException"
    assert f"CodePipeline is not authorized to perform AssumeRole on role {other}" in message


def test_who_makes_a_pipeline_passes_its_role(aws, stand):
    name = f"p{uuid.uuid4().hex[:10]}-dev"
    declared = pipeline(name, stand.role, stage(source(stand.name)), stage(approval()))
    person = Person(aws, may("codepipeline:CreatePipeline", on=f"{ARN}:{name}"))
    client = person.client("codepipeline")

    code, message = refused(lambda: client.create_pipeline(pipeline=declared))
    passed = {"StringEquals": {"iam:PassedToService": "codepipeline.amazonaws.com"}}
    person.may(
        may("codepipeline:CreatePipeline", on=f"{ARN}:{name}", StringEquals={"aws:RequestTag/stage": "dev"}),
        may("iam:PassRole", on=stand.role, **passed),
    )
    untagged = refused(lambda: client.create_pipeline(pipeline=declared))
    made = client.create_pipeline(pipeline=declared, tags=[{"key": "stage", "value": "dev"}])

    assert code == "AccessDeniedException"
    assert f"iam:PassRole on resource: {stand.role}" in message
    assert untagged[0] == "AccessDeniedException"
    assert made["tags"] == [{"key": "stage", "value": "dev"}]


def test_only_who_may_decide_decides(aws, stand):
    name = stand.make(stage(approval()))
    token = stand.asked(name)
    looks = may("codepipeline:GetPipelineState", on=f"{ARN}:{name}")
    reader = Person(aws, looks)
    decider = Person(aws, looks, may("codepipeline:PutApprovalResult", on=f"{ARN}:{name}/Approve/Approve"))

    code, message = refused(lambda: stand.decide(name, token, client=reader.client("codepipeline")))
    stand.decide(name, token, client=decider.client("codepipeline"))

    assert code == "AccessDeniedException"
    assert f"codepipeline:PutApprovalResult on resource: {ARN}:{name}/Approve/Approve" in message
    assert stand.ended(name) == "Succeeded"
    assert stand.action(name, "Approve")["lastUpdatedBy"].endswith(f"user/{decider.name}")


def test_tags_are_told_and_decide(aws, stand):
    name = stand.make(stage(approval()))
    arn = stand.client.get_pipeline(name=name)["metadata"]["pipelineArn"]
    person = Person(aws, may("codepipeline:StartPipelineExecution", StringEquals={"aws:ResourceTag/team": "ml"}))
    client = person.client("codepipeline")

    before = refused(lambda: client.start_pipeline_execution(name=name))
    stand.client.tag_resource(resourceArn=arn, tags=[{"key": "team", "value": "ml"}, {"key": "a", "value": "b"}])
    client.start_pipeline_execution(name=name)
    stand.client.untag_resource(resourceArn=arn, tagKeys=["a"])

    assert before[0] == "AccessDeniedException"
    assert arn == f"{ARN}:{name}"
    assert stand.client.list_tags_for_resource(resourceArn=arn)["tags"] == [{"key": "team", "value": "ml"}]
    reserved = refused(lambda: stand.client.tag_resource(resourceArn=arn, tags=[{"key": "aws:a", "value": "b"}]))
    assert reserved[0] == "InvalidTagsException"
    missing = refused(lambda: stand.client.list_tags_for_resource(resourceArn=f"{ARN}:nothing"))
    assert missing[0] == "ResourceNotFoundException"


# --- templates and rules


def template(stand: Stand, name: str, comment: str, *, branch: str = "dev") -> str:
    """A pipeline, and a rule that starts it when the branch is pushed to."""
    role = f"arn:aws:iam::123456789012:role/{stand.name}-rule"
    delivery = {
        "Type": "AWS::CodePipeline::Pipeline",
        "Properties": {
            "Name": name,
            "RoleArn": stand.role,
            "PipelineType": "V2",
            "ArtifactStore": {"Type": "S3", "Location": BUCKET},
            "Stages": [
                {
                    "Name": "Source",
                    "Actions": [
                        {
                            "Name": "Source",
                            "ActionTypeId": {
                                "Category": "Source",
                                "Owner": "AWS",
                                "Provider": "CodeCommit",
                                "Version": "1",
                            },
                            "Configuration": {
                                "RepositoryName": stand.name,
                                "BranchName": branch,
                                "PollForSourceChanges": False,
                                "OutputArtifactFormat": "CODEBUILD_CLONE_REF",
                            },
                            "OutputArtifacts": [{"Name": "source"}],
                        }
                    ],
                },
                {
                    "Name": "Approve",
                    "Actions": [
                        {
                            "Name": "Approve",
                            "ActionTypeId": {
                                "Category": "Approval",
                                "Owner": "AWS",
                                "Provider": "Manual",
                                "Version": "1",
                            },
                            "Configuration": {"CustomData": comment},
                        }
                    ],
                },
            ],
            "Tags": [{"Key": "stage", "Value": comment}],
        },
    }
    pushes = {
        "Type": "AWS::Events::Rule",
        "Properties": {
            "Name": name,
            "EventPattern": {
                "source": ["aws.codecommit"],
                "resources": [f"arn:aws:codecommit:{HERE}:{stand.name}"],
                "detail": {"event": ["referenceUpdated"], "referenceName": [branch]},
            },
            "Targets": [
                {
                    "Id": "delivery",
                    "Arn": {"Fn::Sub": f"{ARN}:${{Delivery}}"},
                    "RoleArn": role,
                    "InputTransformer": {
                        "InputPathsMap": {"commit": "$.detail.commitId"},
                        "InputTemplate": json.dumps(
                            {
                                "sourceRevisions": [
                                    {
                                        "actionName": "Source",
                                        "revisionType": "COMMIT_ID",
                                        "revisionValue": "<commit>",
                                    }
                                ]
                            }
                        ),
                    },
                }
            ],
        },
    }
    outputs = {
        "Name": {"Value": {"Ref": "Delivery"}},
        "Version": {"Value": {"Fn::GetAtt": ["Delivery", "Version"]}},
        "Arn": {"Value": {"Fn::GetAtt": ["Delivery", "Arn"]}},
    }
    return json.dumps({"Resources": {"Delivery": delivery, "Pushes": pushes}, "Outputs": outputs})


def test_a_stack_makes_changes_and_deletes_a_pipeline_that_a_push_starts(aws, stand):
    name, cloudformation = f"p{uuid.uuid4().hex[:10]}-dev", root(aws, "cloudformation")
    stand.commit("pushed")
    stand.may(*stand.rights(name))
    rule_role = make_role(aws, f"{stand.name}-rule", "events.amazonaws.com")
    put_policy(aws, rule_role, allow(["codepipeline:StartPipelineExecution"], f"{ARN}:{name}"))
    stack_role = make_role(aws, f"{stand.name}-stack", "cloudformation.amazonaws.com")
    rights = [
        allow([f"codepipeline:{action}" for action in OF_STACKS], f"{ARN}:{name}"),
        allow(["iam:GetRole", "iam:PassRole"], [stand.role, rule_role]),
        allow(["events:*"], "*"),
    ]
    put_policy(aws, stack_role, *rights)

    def change(operation: Any, comment: str) -> dict[str, Any]:
        operation(StackName=name, TemplateBody=template(stand, name, comment, branch="pushed"), RoleARN=stack_role)
        found = settled(cloudformation, name)
        return {each["OutputKey"]: each["OutputValue"] for each in found["Outputs"]} | {"status": found["StackStatus"]}

    made = change(cloudformation.create_stack, "first")
    stand.decide(name, stand.asked(name))
    stand.ended(name)
    commit = stand.commit("pushed")
    wait_for(lambda: len(stand.history(name)) == 2)
    stand.asked(name)
    started = stand.history(name)[0]
    changed = change(cloudformation.update_stack, "second")
    tags = stand.client.list_tags_for_resource(resourceArn=f"{ARN}:{name}")["tags"]
    cloudformation.delete_stack(StackName=name, RoleARN=stack_role)
    wait_for(lambda: name not in [each["name"] for each in stand.client.list_pipelines()["pipelines"]])

    named = {"Name": name, "Arn": f"{ARN}:{name}"}
    assert made == named | {"Version": "1", "status": "CREATE_COMPLETE"}
    assert changed == named | {"Version": "2", "status": "UPDATE_COMPLETE"}
    assert started["trigger"] == {
        "triggerType": "CloudWatchEvent",
        "triggerDetail": f"arn:aws:events:{HERE}:rule/{name}",
    }
    assert started["sourceRevisions"][0]["revisionId"] == commit
    assert {"key": "stage", "value": "second"} in tags


def test_a_stack_whose_role_may_not_make_pipelines_says_what_is_missing(aws, stand):
    name, cloudformation = f"p{uuid.uuid4().hex[:10]}-dev", root(aws, "cloudformation")
    role = make_role(aws, f"{name}-stack", "cloudformation.amazonaws.com")
    put_policy(aws, role, allow(["iam:GetRole", "iam:PassRole"], "*"))

    cloudformation.create_stack(StackName=name, TemplateBody=template(stand, name, "first"), RoleARN=role)
    found = settled(cloudformation, name)

    assert found["StackStatus"] == "ROLLBACK_COMPLETE"
    events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    reasons = [each.get("ResourceStatusReason", "") for each in events]
    assert any("not authorized to perform: codepipeline:" in reason for reason in reasons)


def test_a_rule_whose_role_may_not_start_a_pipeline_does_not(aws, stand):
    name = stand.make(stage(approval()))
    role = make_role(aws, f"{name}-rule", "events.amazonaws.com")
    put_policy(aws, role, allow(["codepipeline:GetPipeline"], "*"))
    events = root(aws, "events")
    events.put_rule(Name=name, EventPattern=json.dumps({"source": [name]}))
    events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": f"{ARN}:{name}", "RoleArn": role}])
    entry = {"Source": name, "DetailType": "Push", "Detail": "{}"}

    events.put_events(Entries=[entry])
    put_policy(aws, role, allow(["codepipeline:StartPipelineExecution"], f"{ARN}:{name}"))
    events.put_events(Entries=[entry])

    assert [each["trigger"]["triggerType"] for each in stand.history(name)] == ["CloudWatchEvent", "CreatePipeline"]


@pytest.mark.parametrize(
    ("pipeline_name", "given"),
    [("nothing", "{}"), ("", "[]"), ("", json.dumps({"variables": [{"name": "Width"}]})), ("", '{"pipeline": "x"}')],
)
def test_what_cannot_be_started_goes_to_the_dead_letters(aws, stand, pipeline_name, given):
    name, rule = stand.make(stage(approval())), f"lost-{uuid.uuid4().hex[:10]}"
    letters = queue(aws, rule, "events.amazonaws.com")
    role = make_role(aws, rule, "events.amazonaws.com")
    put_policy(aws, role, allow(["codepipeline:StartPipelineExecution"], "*"))
    root(aws, "events").put_rule(Name=rule, EventPattern=json.dumps({"source": [rule]}))
    target = {"Id": "1", "Arn": f"{ARN}:{pipeline_name or name}", "RoleArn": role, "Input": given}
    dead = {"DeadLetterConfig": {"Arn": f"arn:aws:sqs:{HERE}:{rule}"}}
    root(aws, "events").put_targets(Rule=rule, Targets=[target | dead])

    answer = root(aws, "events").put_events(Entries=[{"Source": rule, "DetailType": "Push", "Detail": "{}"}])

    (message,) = root(aws, "sqs").receive_message(QueueUrl=letters)["Messages"]
    assert answer["FailedEntryCount"] == 0
    assert json.loads(message["Body"])["source"] == rule
    assert [each["trigger"]["triggerType"] for each in stand.history(name)] == ["CreatePipeline"]
