"""What MiniStack's services ask of IAM for a caller, as a role, or of a resource's policy, when it is enforced.

Each time what is allowed with exactly the rights that AWS asks is denied with one of them less.
"""

from __future__ import annotations

import functools
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from local_aws import LocalAWS
from local_aws.permissions.forwarded import KEY_ACTIONS, key_refusal, passed_roles
from local_aws.store import Scope
from servicecatalog.bucket import policy as bucket_policy
from tests.local_aws.clients import refused
from tests.local_aws.lambda_requests import Parts, archive
from tests.local_aws.minimal_roles import Grants, policy, without
from tests.local_aws.people import role_session, sign_in
from tests.local_aws.waiting import settled, wait_for
from tests.story import platform

ACCOUNT, REGION = "123456789012", "us-east-1"
SCOPE = Scope(ACCOUNT, REGION)
SPEED = 600  # a minute in a tenth of a second
EVENTS = "events.amazonaws.com"
QUIET = 0.4  # seconds in which what is allowed would have arrived several times over
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def enforcing() -> Iterator[LocalAWS]:
    with LocalAWS(enforce_iam=True, clock_speed=SPEED) as server:
        yield server


class Rights:
    """Users, roles and what they may do, made as the account's root; and who asks what."""

    def __init__(self, aws: LocalAWS) -> None:
        self.aws = aws
        self._clients: dict[tuple[str, str], Any] = {}
        self.iam = self.client("iam")

    def client(self, service: str, credentials: Mapping[str, str] | None = None) -> Any:
        """As LocalAWS.client, made once each."""
        key = (service, (credentials or {}).get("AWS_ACCESS_KEY_ID", ACCOUNT))
        if key not in self._clients:
            self._clients[key] = self.aws.client(service, credentials=credentials)
        return self._clients[key]

    @functools.cached_property
    def parts(self) -> Parts:
        return Parts(self.aws)

    def name(self, kind: str) -> str:
        return f"{kind}-{next(NUMBERS)}"

    def user(self, grants: Grants, *statements: dict[str, Any]) -> User:
        name = self.name("user")
        self.iam.create_user(UserName=name)
        user = User(self, name, sign_in(self.aws, name))
        user.may(grants, *statements)
        return user

    def role(self, service: str, grants: Grants, **conditions: Any) -> str:
        """A role that a service may assume (under conditions), and that may do this; its ARN."""
        statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        trust = {"Version": "2012-10-17", "Statement": [statement | ({"Condition": conditions} if conditions else {})]}
        name = self.name("role")
        arn = self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        if grants:
            self.role_may(arn, grants)
        return str(arn)

    def role_may(self, role: str, grants: Grants) -> None:
        """From now on the role may do exactly this."""
        name, document = role.rpartition("/")[2], json.dumps(policy(grants))
        self.iam.put_role_policy(RoleName=name, PolicyName="granted", PolicyDocument=document)

    def queue(self, *statements: dict[str, Any], **attributes: str) -> tuple[str, str]:
        """A queue's URL and ARN; its policy has these statements, each for the queue itself."""
        url, arn = self.parts.queue(self.name("queue"), **attributes)
        self.queue_allows(url, arn, *statements)
        return url, arn

    def queue_allows(self, url: str, arn: str, *statements: dict[str, Any]) -> None:
        document = {"Version": "2012-10-17", "Statement": [{"Resource": arn, **each} for each in statements]}
        text = json.dumps(document) if statements else ""
        self.parts.queues.set_queue_attributes(QueueUrl=url, Attributes={"Policy": text})

    def function(self, source: str, role: str, **more: Any) -> str:
        made = self.parts.functions.create_function(
            FunctionName=self.name("function"),
            Role=role,
            Runtime="python3.11",
            Handler="app.handler",
            Timeout=10,
            Code={"ZipFile": archive(app=source)},
            **more,
        )
        return str(made["FunctionArn"])

    def key(self, *statements: dict[str, Any], iam: bool = True) -> str:
        """A key whose policy lets IAM of the account decide, and has further statements; its ARN."""
        root = {"Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "kms:*"}
        allow = [{"Effect": "Allow", "Resource": "*", **each} for each in ([root] if iam else []) + list(statements)]
        document = {"Version": "2012-10-17", "Statement": allow}
        return str(self.client("kms").create_key(Policy=json.dumps(document))["KeyMetadata"]["Arn"])

    def decisions(self, principal: str, action: str) -> list[dict[str, Any]]:
        asked = self.aws.settings("permissions")["decisions"]
        return [each for each in asked if each["principal"] == principal and each["action"] == action]


class User:
    def __init__(self, rights: Rights, name: str, credentials: dict[str, str]) -> None:
        self.rights, self.name, self.credentials = rights, name, credentials
        self.arn = f"arn:aws:iam::{ACCOUNT}:user/{name}"

    def may(self, grants: Grants, *statements: dict[str, Any]) -> None:
        """From now on the user may do exactly this."""
        document = policy(grants)
        document["Statement"] += [{"Effect": "Allow", **each} for each in statements]
        if not document["Statement"]:
            return
        self.rights.iam.put_user_policy(UserName=self.name, PolicyName="granted", PolicyDocument=json.dumps(document))

    def client(self, service: str) -> Any:
        return self.rights.client(service, self.credentials)


@pytest.fixture(scope="module")
def rights(enforcing: LocalAWS) -> Rights:
    return Rights(enforcing)


def service(name: str, action: str, source: str | None = None) -> dict[str, Any]:
    """A statement that lets an AWS service in, for one of its resources."""
    condition = {"Condition": {"ArnEquals": {"aws:SourceArn": source}}} if source else {}
    return {"Effect": "Allow", "Principal": {"Service": name}, "Action": action, **condition}


# --- roles that are passed


def create_function(user: User, role: str) -> Any:
    code = {"ZipFile": archive(app="def handler(event, context): pass")}
    name = user.rights.name("passed")
    user.client("lambda").create_function(
        FunctionName=name, Role=role, Runtime="python3.11", Handler="app.handler", Code=code
    )
    return name


def update_function(user: User, role: str) -> Any:
    other = user.rights.role("lambda.amazonaws.com", {})
    arn = user.rights.function("def handler(event, context): pass", other)
    return user.client("lambda").update_function_configuration(FunctionName=arn, Role=role)["Role"]


def put_rule(user: User, role: str) -> Any:
    return user.client("events").put_rule(Name=user.rights.name("rule"), ScheduleExpression="rate(1 day)", RoleArn=role)


def put_targets(user: User, role: str) -> Any:
    name = user.rights.name("rule")
    user.rights.parts.events.put_rule(Name=name, ScheduleExpression="rate(1 day)")
    target = {"Id": "1", "Arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:a-queue", "RoleArn": role}
    user.client("events").put_targets(Rule=name, Targets=[target])


def schedule_of(role: str) -> dict[str, Any]:
    target = {"Arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:a-queue", "RoleArn": role}
    return {"ScheduleExpression": "rate(1 day)", "FlexibleTimeWindow": {"Mode": "OFF"}, "Target": target}


def create_schedule(user: User, role: str) -> Any:
    return user.client("scheduler").create_schedule(Name=user.rights.name("schedule"), **schedule_of(role))


def update_schedule(user: User, role: str) -> Any:
    name = user.rights.name("schedule")
    first = user.rights.role("scheduler.amazonaws.com", {})
    user.rights.client("scheduler").create_schedule(Name=name, **schedule_of(first))
    return user.client("scheduler").update_schedule(Name=name, **schedule_of(role))


def put_subscription_filter(user: User, role: str) -> Any:
    group = user.rights.name("group")
    user.rights.client("logs").create_log_group(logGroupName=group)
    stream = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/a-stream"
    user.client("logs").put_subscription_filter(
        logGroupName=group, filterName="all", filterPattern="", destinationArn=stream, roleArn=role
    )


PASSING = [
    (create_function, "lambda:CreateFunction", "lambda.amazonaws.com", "cannot be assumed by Lambda."),
    (update_function, "lambda:UpdateFunctionConfiguration", "lambda.amazonaws.com", "cannot be assumed by Lambda."),
    (put_rule, "events:PutRule", "events.amazonaws.com", "cannot be assumed by principal 'events.amazonaws.com'."),
    (put_targets, "events:PutTargets", "events.amazonaws.com", "cannot be assumed by principal"),
    (create_schedule, "scheduler:CreateSchedule", "scheduler.amazonaws.com", "must allow AWS EventBridge Scheduler"),
    (update_schedule, "scheduler:UpdateSchedule", "scheduler.amazonaws.com", "must allow AWS EventBridge Scheduler"),
    (put_subscription_filter, "logs:PutSubscriptionFilter", "logs.amazonaws.com", "Could not deliver test message"),
]


@pytest.mark.parametrize(
    ("call", "action", "principal", "said"),
    [
        pytest.param(*each, marks=[pytest.mark.slow] if "Update" in each[1] or "Rule" in each[1] else [])
        for each in PASSING
    ],
    ids=[each[1] for each in PASSING],
)
def test_a_role_is_passed_only_by_whoever_may_and_only_to_a_service_that_it_trusts(
    rights, call, action, principal, said
):
    role = rights.role(principal, {})
    stranger = rights.role("ec2.amazonaws.com", {})

    def passing(to: str) -> dict[str, Any]:
        condition = {"StringEquals": {"iam:PassedToService": to}}
        return {"Action": "iam:PassRole", "Resource": [role, stranger], "Condition": condition}

    user = rights.user({action: "*"})
    code, message = refused(lambda: call(user, role))
    assert code in ("AccessDenied", "AccessDeniedException")
    assert f"{user.arn} is not authorized to perform: iam:PassRole on resource: {role}" in message

    user.may({action: "*"}, passing("sagemaker.amazonaws.com"))
    assert "iam:PassRole" in refused(lambda: call(user, role))[1]

    user.may({action: "*"}, passing(principal))
    call(user, role)
    assert said in refused(lambda: call(user, stranger))[1]
    asked = rights.decisions(user.arn, "iam:PassRole")
    assert {(each["because"], each["context"]["iam:passedtoservice"]) for each in asked} == {(action, principal)}


def test_nothing_is_made_when_its_role_may_not_be_passed(rights):
    role = rights.role("lambda.amazonaws.com", {})
    user = rights.user({"lambda:CreateFunction": "*"})
    before = len(rights.parts.functions.list_functions()["Functions"])

    refused(lambda: create_function(user, role))

    assert len(rights.parts.functions.list_functions()["Functions"]) == before


def test_every_target_s_role_is_asked_once_and_calls_without_roles_ask_nothing():
    targets = [{"Id": "1", "RoleArn": "role/a"}, {"Id": "2", "RoleArn": "role/a"}, {"Id": "3", "RoleArn": "role/b"}]
    found = passed_roles("events:PutTargets", {"Rule": "r", "EventBusName": "own", "Targets": [*targets, {}]}, SCOPE)

    assert [(each.role, each.source) for each in found] == [
        ("role/a", "arn:aws:events:us-east-1:123456789012:rule/own/r"),
        ("role/b", "arn:aws:events:us-east-1:123456789012:rule/own/r"),
    ]
    assert passed_roles("events:PutTargets", {"Rule": "r", "Targets": [{"Id": "1"}]}, SCOPE) == []
    assert passed_roles("lambda:ListFunctions", {}, SCOPE) == []


# --- functions


def logs_of(name: str) -> Grants:
    group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/{name}:*"
    return {f"logs:{action}": group for action in ("CreateLogGroup", "CreateLogStream", "PutLogEvents")}


@pytest.mark.parametrize(
    "missing",
    [
        "logs:CreateLogGroup",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("logs:CreateLogStream", "logs:PutLogEvents")),
    ],
)
def test_a_function_without_the_right_to_log_runs_and_leaves_none(rights, missing):
    role = rights.role("lambda.amazonaws.com", {})
    arn = rights.function("def handler(event, context):\n    print('here')\n    return 1", role)
    name, logs = arn.rpartition(":")[2], rights.client("logs")

    def events() -> list[str]:
        try:
            return [one["message"] for one in logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]]
        except logs.exceptions.ResourceNotFoundException:
            return []

    rights.role_may(role, without(logs_of(name), missing))
    answer = rights.parts.invoke(name)
    silent = events()
    rights.role_may(role, logs_of(name))
    rights.parts.invoke(name)

    assert answer == (1, None)
    assert silent == []
    assert "here" in wait_for(events)
    assert {each["because"] for each in rights.decisions(role, "logs:PutLogEvents")} <= {"lambda.amazonaws.com"}


def test_a_function_s_log_needs_its_groups_key(rights):
    role, kms = rights.role("lambda.amazonaws.com", {"logs:*": "*"}), rights.client("kms")
    arn = rights.function("def handler(event, context): print('here')", role)
    name, logs = arn.rpartition(":")[2], rights.client("logs")
    group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/{name}"
    statement = service(f"logs.{REGION}.amazonaws.com", "kms:*")
    statement["Condition"] = {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": group}}
    key, foreign = rights.key(statement), rights.key()

    code, message = refused(lambda: logs.create_log_group(logGroupName=f"/aws/lambda/{name}", kmsKeyId=foreign))
    logs.create_log_group(logGroupName=f"/aws/lambda/{name}", kmsKeyId=key)
    kms.disable_key(KeyId=key)
    rights.parts.invoke(name)
    silent = logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
    kms.enable_key(KeyId=key)
    rights.parts.invoke(name)

    assert (code, "is not allowed to be used with LogGroup" in message) == ("InvalidParameterException", True)
    assert silent == []
    assert wait_for(lambda: logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"])


POLLING = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")


@pytest.mark.parametrize(
    "missing", ["sqs:GetQueueAttributes", *(pytest.param(each, marks=pytest.mark.slow) for each in POLLING[:2])]
)
def test_a_queue_is_mapped_to_a_function_whose_role_may_poll_it(rights, missing):
    _, arn = rights.queue()
    grants = dict.fromkeys(POLLING, arn)
    role = rights.role("lambda.amazonaws.com", without(grants, missing))
    function = rights.function("def handler(event, context): pass", role)

    def create() -> Any:
        return rights.parts.functions.create_event_source_mapping(FunctionName=function, EventSourceArn=arn)

    code, message = refused(create)
    rights.role_may(role, grants)
    rights.parts.functions.delete_event_source_mapping(UUID=create()["UUID"])

    assert code == "InvalidParameterValueException"
    assert message.endswith(f"does not have permissions to call {missing.partition(':')[2]} on SQS")


def test_who_may_map_queues_to_one_function_may_to_no_other(rights):
    _, arn = rights.queue()
    role = rights.role("lambda.amazonaws.com", dict.fromkeys(POLLING, arn))
    ours, other = (rights.function("def handler(event, context): pass", role) for _ in range(2))
    condition = {"ArnEquals": {"lambda:FunctionArn": ours}}
    user = rights.user({}, {"Action": "lambda:CreateEventSourceMapping", "Resource": "*", "Condition": condition})

    def create(function: str) -> Any:
        mapping = {"FunctionName": function, "EventSourceArn": arn, "Enabled": False}
        return user.client("lambda").create_event_source_mapping(**mapping)

    create(ours)
    create(ours.rpartition(":")[2])

    assert refused(lambda: create(other))[0] == "AccessDeniedException"


def test_nothing_is_polled_any_more_once_the_right_is_taken_away(rights, tmp_path):
    seen = tmp_path / "seen"
    seen.touch()
    url, arn = rights.queue(VisibilityTimeout="60")
    grants = dict.fromkeys(POLLING, arn)
    role = rights.role("lambda.amazonaws.com", grants)
    source = f"def handler(event, context): open({str(seen)!r}, 'a').write(event['Records'][0]['body'])"
    function = rights.function(source, role)
    mapping = rights.parts.functions.create_event_source_mapping(FunctionName=function, EventSourceArn=arn)["UUID"]

    def send(text: str) -> None:
        rights.parts.queues.send_message(QueueUrl=url, MessageBody=text)

    send("a")
    wait_for(lambda: seen.read_text() == "a")
    rights.role_may(role, without(grants, "sqs:ReceiveMessage"))
    send("b")
    time.sleep(QUIET)
    without_right = seen.read_text()
    rights.role_may(role, grants)
    wait_for(lambda: seen.read_text() == "ab")
    rights.parts.functions.delete_event_source_mapping(UUID=mapping)

    assert without_right == "a"
    asked = rights.decisions(role, "sqs:ReceiveMessage")
    assert {(each["allowed"], each["because"]) for each in asked} == {
        (True, "lambda.amazonaws.com"),
        (False, "lambda.amazonaws.com"),
    }


def test_destinations_and_dead_letters_are_told_as_the_functions_role(rights):
    told, told_arn = rights.queue()
    dead, dead_arn = rights.queue()
    role = rights.role("lambda.amazonaws.com", {})
    function = rights.function(
        "def handler(event, context): raise ValueError(event)", role, DeadLetterConfig={"TargetArn": dead_arn}
    )
    rights.parts.functions.put_function_event_invoke_config(
        FunctionName=function,
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": told_arn}},
    )

    def invoke(event: str) -> None:
        rights.parts.functions.invoke(FunctionName=function, InvocationType="Event", Payload=json.dumps(event))

    invoke("lost")
    wait_for(lambda: len(rights.decisions(role, "sqs:SendMessage")) == 2)
    rights.role_may(role, {"sqs:SendMessage": told_arn})
    invoke("one")
    record = rights.parts.received(told)[0]
    rights.role_may(role, {"sqs:SendMessage": [told_arn, dead_arn]})
    invoke("two")

    assert record["requestPayload"] == "one"
    assert rights.parts.received(dead) == ["two"]


# --- schedules


@pytest.fixture
def schedule(rights: Rights) -> Iterator[Callable[..., str]]:
    """Makes a schedule of each minute, until the test ends."""
    scheduler, made = rights.client("scheduler"), []

    def create(target: str, role: str, **more: Any) -> str:
        name = rights.name("schedule")
        scheduler.create_schedule(
            Name=name,
            ScheduleExpression="rate(1 minute)",
            FlexibleTimeWindow={"Mode": "OFF"},
            Target={"Arn": target, "RoleArn": role, **{"Input": json.dumps({"of": name}), **more}},
        )
        made.append(name)
        return name

    yield create
    for name in made:
        scheduler.delete_schedule(Name=name)


def test_a_schedule_sends_as_its_role(rights, schedule):
    url, arn = rights.queue()
    role = rights.role("scheduler.amazonaws.com", {})
    name = schedule(arn, role)

    wait_for(lambda: rights.decisions(role, "sqs:SendMessage"))
    nothing = rights.parts.is_empty(url)
    rights.role_may(role, {"sqs:SendMessage": arn})

    assert nothing
    assert rights.parts.received(url)[0] == {"of": name}


def test_a_schedule_invokes_a_function_that_its_role_may_and_else_tells_its_dead_letters(rights, schedule, tmp_path):
    seen = tmp_path / "seen"
    url, arn = rights.queue()
    source = f"def handler(event, context): open({str(seen)!r}, 'w').write(event['of'])"
    function = rights.function(source, rights.role("lambda.amazonaws.com", {}))
    role = rights.role("scheduler.amazonaws.com", {"sqs:SendMessage": arn})
    name = schedule(function, role, DeadLetterConfig={"Arn": arn})

    letter = wait_for(
        lambda: rights.parts.queues.receive_message(QueueUrl=url, MessageAttributeNames=["All"]).get("Messages")
    )[0]
    attributes = {key: value["StringValue"] for key, value in letter["MessageAttributes"].items()}
    not_yet = seen.exists()
    rights.role_may(role, {"sqs:SendMessage": arn, "lambda:InvokeFunction": function})

    assert not not_yet
    assert attributes["ERROR_CODE"] == "AccessDeniedException"
    assert "lambda:InvokeFunction" in attributes["ERROR_MESSAGE"]
    wait_for(lambda: seen.exists() and seen.read_text() == name)


@pytest.mark.parametrize("universal", [False, True], ids=["a pipeline's own target", "a universal target"])
def test_a_schedule_starts_a_pipeline_that_its_role_may_start(rights, schedule, universal):
    sagemaker = rights.client("sagemaker")
    role = rights.role("sagemaker.amazonaws.com", {})
    condition = {"Type": "Equals", "LeftValue": {"Get": "Parameters.Word"}, "RightValue": "yes"}
    step = {
        "Name": "Ask",
        "Type": "Condition",
        "Arguments": {"Conditions": [condition], "IfSteps": [], "ElseSteps": []},
    }
    definition = {
        "Version": "2020-12-01",
        "Parameters": [{"Name": "Word", "Type": "String", "DefaultValue": "no"}],
        "Steps": [step],
    }
    pipeline = sagemaker.create_pipeline(
        PipelineName=rights.name("pipeline"),
        RoleArn=role,
        PipelineDefinition=json.dumps(definition),
        ClientRequestToken=("u" if universal else "a") * 32,
    )["PipelineArn"]
    caller = rights.role("scheduler.amazonaws.com", {})
    name, parameters = pipeline.rpartition("/")[2], [{"Name": "Word", "Value": "yes"}]
    if universal:
        # as the template's retraining does it (pipeline/retraining.py)
        time = "<aws.scheduler.scheduled-time>"
        request = {"PipelineName": name, "PipelineParameters": parameters, "ClientRequestToken": f"{'-' * 12}{time}"}
        target = "arn:aws:scheduler:::aws-sdk:sagemaker:startPipelineExecution"
        schedule(target, caller, Input=json.dumps({**request, "PipelineExecutionDisplayName": "retrain"}))
    else:
        schedule(pipeline, caller, SageMakerPipelineParameters={"PipelineParameterList": parameters})

    def executions() -> list[dict[str, Any]]:
        return sagemaker.list_pipeline_executions(PipelineName=name)["PipelineExecutionSummaries"]

    wait_for(lambda: rights.decisions(caller, "sagemaker:StartPipelineExecution"))
    none = executions()
    rights.role_may(caller, {"sagemaker:StartPipelineExecution": pipeline})
    started = wait_for(executions)[0]

    assert none == []
    assert (started.get("PipelineExecutionDisplayName") == "retrain") is universal
    arn = started["PipelineExecutionArn"]
    assert (
        sagemaker.list_pipeline_parameters_for_execution(PipelineExecutionArn=arn)["PipelineParameters"] == parameters
    )


def test_a_universal_target_that_is_no_call_goes_to_its_dead_letters(rights, schedule):
    url, arn = rights.queue()
    role = rights.role("scheduler.amazonaws.com", {"sqs:SendMessage": arn})
    schedule("arn:aws:scheduler:::aws-sdk:sagemaker:startNothing", role, DeadLetterConfig={"Arn": arn})

    asked = {"QueueUrl": url, "MessageAttributeNames": ["All"]}
    (letter,) = wait_for(lambda: rights.parts.queues.receive_message(**asked).get("Messages"))

    assert "sagemaker:startNothing" in letter["MessageAttributes"]["ERROR_MESSAGE"]["StringValue"]


def test_a_schedules_role_is_assumed_for_its_own_account_and_group_only(rights):
    scheduler = rights.client("scheduler")
    scheduler.create_schedule_group(Name="modelyard")
    source = f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule-group/modelyard"
    ours = rights.role(
        "scheduler.amazonaws.com", {}, StringEquals={"aws:SourceAccount": ACCOUNT, "aws:SourceArn": source}
    )
    others = rights.role("scheduler.amazonaws.com", {}, StringEquals={"aws:SourceAccount": "210987654321"})

    scheduler.create_schedule(Name="a", GroupName="modelyard", **schedule_of(ours))
    refusals = [
        refused(lambda: scheduler.create_schedule(Name="b", **schedule_of(ours))),  # of the group "default"
        refused(lambda: scheduler.create_schedule(Name="c", GroupName="modelyard", **schedule_of(others))),
    ]
    scheduler.delete_schedule(Name="a", GroupName="modelyard")

    assert {code for code, _ in refusals} == {"ValidationException"}


def test_a_schedule_whose_role_trusts_it_no_more_sends_nothing(rights, schedule):
    url, arn = rights.queue()
    role = rights.role("scheduler.amazonaws.com", {"sqs:SendMessage": arn})
    schedule(arn, role)
    rights.parts.received(url)
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    rights.iam.update_assume_role_policy(
        RoleName=role.rpartition("/")[2], PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )
    time.sleep(0.2)  # what is on its way arrives
    rights.parts.queues.purge_queue(QueueUrl=url)

    time.sleep(QUIET)

    assert rights.parts.is_empty(url)


# --- rules


class Rule:
    """A rule for events of a source of its own."""

    def __init__(self, rights: Rights) -> None:
        self.rights, self.name = rights, rights.name("rule")
        pattern = json.dumps({"source": [self.name]})
        self.arn = rights.parts.events.put_rule(Name=self.name, EventPattern=pattern)["RuleArn"]

    def target(self, arn: str, **more: Any) -> None:
        self.rights.parts.events.put_targets(Rule=self.name, Targets=[{"Id": "1", "Arn": arn, **more}])

    def send(self) -> None:
        entry = {"Source": self.name, "DetailType": "Probe", "Detail": "{}"}
        self.rights.parts.events.put_events(Entries=[entry])


def test_a_rule_sends_to_a_queue_whose_policy_lets_that_rule_in_and_else_to_dead_letters(rights):
    rule, other = Rule(rights), Rule(rights)
    url, arn = rights.queue(service(EVENTS, "sqs:SendMessage", other.arn))
    dead, dead_arn = rights.queue(service(EVENTS, "sqs:SendMessage", rule.arn))
    rule.target(arn, DeadLetterConfig={"Arn": dead_arn})

    rule.send()
    letter = rights.parts.received(dead)[0]
    refused_first = rights.parts.is_empty(url)
    rights.queue_allows(url, arn, service(EVENTS, "sqs:SendMessage", rule.arn))
    rule.send()

    assert letter["source"] == rule.name
    assert refused_first
    assert rights.parts.received(url)[0]["source"] == rule.name
    assert rights.parts.is_empty(dead)


def test_what_neither_a_target_nor_its_dead_letters_let_in_is_lost(rights):
    rule = Rule(rights)
    url, arn = rights.queue()
    dead, dead_arn = rights.queue()
    rule.target(arn, DeadLetterConfig={"Arn": dead_arn})

    rule.send()
    time.sleep(QUIET)

    assert rights.parts.is_empty(url)
    assert rights.parts.is_empty(dead)
    asked = rights.decisions("events.amazonaws.com", "sqs:SendMessage")
    assert {each["resource"] for each in asked if each["context"]["aws:sourcearn"] == rule.arn} == {arn, dead_arn}


def test_a_rule_invokes_a_function_whose_policy_lets_that_rule_in(rights, tmp_path):
    seen, rule = tmp_path / "seen", Rule(rights)
    source = f"def handler(event, context): open({str(seen)!r}, 'w').write('called')"
    function = rights.function(source, rights.role("lambda.amazonaws.com", {}))
    rule.target(function)

    rule.send()
    time.sleep(QUIET)
    before = seen.exists()
    rights.parts.functions.add_permission(
        FunctionName=function,
        StatementId="rule",
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
        SourceArn=rule.arn,
    )
    rule.send()

    assert not before
    wait_for(seen.exists)


def test_a_rule_publishes_to_a_topic_whose_policy_and_key_let_it(rights):
    rule, sns = Rule(rights), rights.client("sns")
    key = rights.key()
    url, queue = rights.queue(service("sns.amazonaws.com", "sqs:SendMessage"))
    topic = sns.create_topic(Name=rights.name("topic"), Attributes={"KmsMasterKeyId": key})["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
    rule.target(topic)

    def allow_rule() -> None:
        document = {
            "Version": "2012-10-17",
            "Statement": [{"Resource": topic, **service(EVENTS, "sns:Publish", rule.arn)}],
        }
        sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(document))

    def let_key() -> None:
        root = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "kms:*"}
        allow = service(EVENTS, "kms:*", rule.arn)
        document = {"Version": "2012-10-17", "Statement": [{"Resource": "*", **each} for each in (root, allow)]}
        rights.client("kms").put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps(document))

    allow_rule()
    rule.send()
    time.sleep(QUIET)
    without_key = rights.parts.is_empty(url)
    let_key()
    rule.send()

    assert without_key
    assert len(rights.parts.received(url)) == 1


def test_a_targets_role_sends_what_the_targets_policy_does_not_let_in(rights):
    rule = Rule(rights)
    url, arn = rights.queue()
    role = rights.role(EVENTS, {"sqs:ReceiveMessage": arn})
    rule.target(arn, RoleArn=role)

    rule.send()
    wait_for(lambda: rights.decisions(role, "sqs:SendMessage"))
    nothing = rights.parts.is_empty(url)
    rights.role_may(role, {"sqs:SendMessage": arn})
    rule.send()

    assert nothing
    assert rights.parts.received(url)[0]["source"] == rule.name


# --- topics and alarms


def test_a_topic_sends_on_what_the_endpoints_policies_let_in_and_else_to_dead_letters(rights, tmp_path):
    sns, seen = rights.client("sns"), tmp_path / "seen"
    topic = sns.create_topic(Name=rights.name("topic"))["TopicArn"]
    url, queue = rights.queue()
    dead, dead_arn = rights.queue(service("sns.amazonaws.com", "sqs:SendMessage", topic))
    source = f"def handler(event, context): open({str(seen)!r}, 'w').write(event['Records'][0]['Sns']['Message'])"
    function = rights.function(source, rights.role("lambda.amazonaws.com", {}))
    letters = {"RedrivePolicy": json.dumps({"deadLetterTargetArn": dead_arn})}
    for protocol, endpoint in (("sqs", queue), ("lambda", function)):
        sns.subscribe(TopicArn=topic, Protocol=protocol, Endpoint=endpoint, Attributes=letters)

    sns.publish(TopicArn=topic, Message="one")
    redriven = [each["Message"] for each in rights.parts.received(dead, 2)]
    before = rights.parts.is_empty(url), seen.exists()
    rights.queue_allows(url, queue, service("sns.amazonaws.com", "sqs:SendMessage", topic))
    rights.parts.functions.add_permission(
        FunctionName=function,
        StatementId="topic",
        Action="lambda:InvokeFunction",
        Principal="sns.amazonaws.com",
        SourceArn=topic,
    )
    sns.publish(TopicArn=topic, Message="two")

    assert redriven == ["one", "one"]
    assert before == (True, False)
    assert rights.parts.received(url)[0]["Message"] == "two"
    wait_for(lambda: seen.exists() and seen.read_text() == "two")
    assert rights.parts.is_empty(dead)


@pytest.mark.parametrize("missing", ["topic", "key", "nothing"])
def test_an_alarm_tells_a_topic_whose_policy_and_key_let_cloudwatch_in(rights, missing):
    sns, cloudwatch, name = rights.client("sns"), rights.client("cloudwatch"), rights.name("alarm")
    account = {"Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT}}}
    allow = service("cloudwatch.amazonaws.com", "kms:*") | {"Action": ["kms:Decrypt", "kms:GenerateDataKey*"]} | account
    key = rights.key(*([] if missing == "key" else [allow]))
    topic = sns.create_topic(Name=rights.name("topic"), Attributes={"KmsMasterKeyId": key})["TopicArn"]
    source = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{'another' if missing == 'topic' else '*'}"
    publish = service("cloudwatch.amazonaws.com", "sns:Publish") | {
        "Resource": topic,
        "Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT}, "ArnLike": {"aws:SourceArn": source}},
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [publish]})
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=document)
    url, queue = rights.queue(service("sns.amazonaws.com", "sqs:SendMessage"))
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
    cloudwatch.put_metric_alarm(
        AlarmName=name,
        Namespace="Probe",
        MetricName="Probe",
        Statistic="Sum",
        Period=86400,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="ignore",
        AlarmActions=[topic],
    )

    cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="to see")
    asked = "sns:Publish" if missing == "topic" else "kms:GenerateDataKey"
    wait_for(lambda: rights.decisions("cloudwatch.amazonaws.com", asked))

    if missing == "nothing":
        assert json.loads(rights.parts.received(url)[0]["Message"])["AlarmName"] == name
    else:
        time.sleep(QUIET)
        assert rights.parts.is_empty(url)


# --- keys that services use for their callers


class Keyed:
    """A call on something that is encrypted with a key."""

    def __init__(self, rights: Rights, key: str) -> None:
        self.rights, self.key, self.name = rights, key, rights.name("keyed")
        self.root = rights.client

    def dynamodb(self, operation: str) -> Callable[[Any], Any]:
        self.root("dynamodb").create_table(
            TableName=self.name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            SSESpecification={"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": self.key},
        )
        item = {"id": {"S": "a"}}
        put = {"TransactItems": [{"Put": {"TableName": self.name, "Item": item}}]}
        return {
            "GetItem": lambda client: client.get_item(TableName=self.name, Key=item),
            "PutItem": lambda client: client.put_item(TableName=self.name, Item=item),
            "TransactWriteItems": lambda client: client.transact_write_items(**put),
            "BatchGetItem": lambda client: client.batch_get_item(RequestItems={self.name: {"Keys": [item]}}),
        }[operation]

    def sns(self, _operation: str) -> Callable[[Any], Any]:
        topic = self.root("sns").create_topic(Name=self.name, Attributes={"KmsMasterKeyId": self.key})["TopicArn"]
        return lambda client: client.publish(TopicArn=topic, Message="text")

    def sqs(self, operation: str) -> Callable[[Any], Any]:
        attributes = {"KmsMasterKeyId": self.key}
        url = self.root("sqs").create_queue(QueueName=self.name, Attributes=attributes)["QueueUrl"]
        if operation == "ReceiveMessage":
            return lambda client: client.receive_message(QueueUrl=url)
        return lambda client: client.send_message(QueueUrl=url, MessageBody="text")

    def s3(self, operation: str) -> Callable[[Any], Any]:
        s3, where = self.root("s3"), {"Bucket": self.name, "Key": "a folder/an object"}
        s3.create_bucket(Bucket=self.name)
        encrypted = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.key}
        s3.put_object(**where, Body=b"text", **encrypted)
        upload = s3.create_multipart_upload(**where, **encrypted)["UploadId"]
        source = {"Bucket": self.name, "Key": "a folder/an object"}
        part = {"UploadId": upload, "PartNumber": 1, "Body": b"text"}
        return {
            "GetObject": lambda client: client.get_object(**where)["Body"].read(),
            "PutObject": lambda client: client.put_object(**where, Body=b"more", **encrypted),
            "CopyObject": lambda client: client.copy_object(
                Bucket=self.name, Key="copy", CopySource=source, **encrypted
            ),
            "UploadPart": lambda client: client.upload_part(**where, **part),
        }[operation]

    def secretsmanager(self, _operation: str) -> Callable[[Any], Any]:
        secret = self.root("secretsmanager").create_secret(Name=self.name, SecretString="text", KmsKeyId=self.key)
        return lambda client: client.get_secret_value(SecretId=secret["ARN"])

    def ssm(self, operation: str) -> Callable[[Any], Any]:
        secure = {
            "Name": f"/{self.name}/a",
            "Value": "text",
            "Type": "SecureString",
            "KeyId": self.key,
            "Overwrite": True,
        }
        self.root("ssm").put_parameter(**secure)
        name = secure["Name"]
        return {
            "PutParameter": lambda client: client.put_parameter(**secure),
            "GetParameter": lambda client: client.get_parameter(Name=name, WithDecryption=True),
            "GetParametersByPath": lambda client: client.get_parameters_by_path(
                Path=f"/{self.name}", WithDecryption=True
            ),
        }[operation]


CONTEXTS = {
    "dynamodb": "aws:dynamodb:tablename",
    "sns": "aws:sns:topicarn",
    "sqs": "aws:sqs:arn",
    "s3": "aws:s3:arn",
    "secretsmanager": "secretarn",
    "ssm": "parameter_arn",
}
DENIED = {"sns": "KMSAccessDenied", "sqs": "KmsAccessDenied", "s3": "AccessDenied"}
DISABLED = {
    "dynamodb": "AccessDeniedException",
    "sns": "KMSDisabled",
    "sqs": "KmsDisabled",
    "s3": "KMS.DisabledException",
    "secretsmanager": "DecryptionFailure",
    "ssm": "InvalidKeyId",
}
KEYED = [
    *("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:TransactWriteItems", "dynamodb:BatchGetItem", "sns:Publish"),
    *("sqs:SendMessage", "sqs:ReceiveMessage", "s3:GetObject", "s3:PutObject", "s3:CopyObject", "s3:UploadPart"),
    *("secretsmanager:GetSecretValue", "ssm:PutParameter", "ssm:GetParameter", "ssm:GetParametersByPath"),
]


# The others ask in the same way: all of them run in `make test-all`.
SAMPLE = ("dynamodb:GetItem", "sns:Publish", "s3:CopyObject", "secretsmanager:GetSecretValue")


@pytest.mark.parametrize(
    "operation",
    [each if each in SAMPLE else pytest.param(each, marks=pytest.mark.slow) for each in KEYED],
)
def test_a_call_on_something_encrypted_asks_for_its_key(rights, operation):
    name, kind = operation.split(":")
    key = rights.key()
    call = getattr(Keyed(rights, key), name)(kind)
    asked = {*KEY_ACTIONS[operation], *(("kms:Decrypt",) if kind == "CopyObject" else ())}
    user = rights.user({f"{name}:*": "*"})
    via = {"StringEquals": {"kms:ViaService": f"{name}.{REGION}.amazonaws.com"}}
    other = {"StringEquals": {"kms:ViaService": f"rds.{REGION}.amazonaws.com"}}

    for missing in sorted(asked):
        rest = [action for action in sorted(asked) if action != missing]
        grants = [{"Action": rest, "Resource": key, "Condition": via}] if rest else []
        elsewhere = {"Action": missing, "Resource": key, "Condition": other}
        user.may({f"{name}:*": "*"}, *grants, elsewhere)
        code, message = refused(lambda: call(user.client(name)))
        assert code == DENIED.get(name, "AccessDeniedException")
        assert message == "Access to KMS is not allowed" if name == "secretsmanager" else missing in message

    user.may({f"{name}:*": "*"}, {"Action": sorted(asked), "Resource": key, "Condition": via})
    call(user.client(name))
    decisions = [each for action in asked for each in rights.decisions(user.arn, action) if each["allowed"]]
    assert {each["because"].partition(":")[0] for each in decisions} == {name}
    assert all(f"kms:encryptioncontext:{CONTEXTS[name]}" in each["context"] for each in decisions)


def test_a_key_whose_policy_does_not_leave_it_to_iam_is_refused_whatever_the_caller_may(rights):
    key = rights.key({"Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/nobody"}, "Action": "kms:*"}, iam=False)
    call = Keyed(rights, key).sns("Publish")
    user = rights.user({"sns:*": "*", "kms:*": "*"})

    assert refused(lambda: call(user.client("sns")))[0] == "KMSAccessDenied"


@pytest.mark.parametrize("operation", ["dynamodb:PutItem", "sns:Publish", "s3:GetObject", "sqs:SendMessage"])
def test_a_resource_that_is_not_encrypted_with_a_key_asks_for_none(rights, operation):
    name, kind = operation.split(":")
    made = Keyed(rights, f"arn:aws:kms:{REGION}:{ACCOUNT}:key/of-nobody")
    call = getattr(made, name)(kind)
    user = rights.user({f"{name}:*": "*"})

    call(user.client(name))


def test_a_key_may_be_used_for_one_secret_alone(rights):
    key = rights.key()
    first, second = (Keyed(rights, key) for _ in range(2))
    calls = [first.secretsmanager("GetSecretValue"), second.secretsmanager("GetSecretValue")]
    arn = rights.client("secretsmanager").describe_secret(SecretId=first.name)["ARN"]
    condition = {
        "StringEquals": {
            "kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com",
            "kms:EncryptionContext:SecretARN": arn,
        }
    }
    user = rights.user(
        {"secretsmanager:GetSecretValue": "*"},
        {"Action": "kms:Decrypt", "Resource": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/*", "Condition": condition},
    )

    calls[0](user.client("secretsmanager"))

    assert refused(lambda: calls[1](user.client("secretsmanager")))[0] == "AccessDeniedException"


@pytest.mark.parametrize(
    ("name", "enforced"),
    [
        ("dynamodb", True),
        ("sns", False),
        *(pytest.param("dynamodb" if name == "sns" else name, False, marks=pytest.mark.slow) for name in DISABLED),
    ],
)
def test_a_disabled_key_makes_calls_fail_until_it_is_enabled_whether_iam_is_enforced_or_not(name, enforced, request):
    rights = Rights(request.getfixturevalue("enforcing" if enforced else "aws"))
    kms, key = rights.client("kms"), rights.key()
    kind = {"dynamodb": "GetItem", "s3": "GetObject", "ssm": "GetParameter"}.get(name, "")
    call = getattr(Keyed(rights, key), name)(kind)

    kms.disable_key(KeyId=key)
    code, _ = refused(lambda: call(rights.client(name)))
    kms.enable_key(KeyId=key)
    call(rights.client(name))
    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    refused(lambda: call(rights.client(name)))

    assert code == DISABLED[name]


def test_what_a_key_cannot_be_used_for_is_said_as_kms_says_it():
    disabled = key_refusal("dynamodb", "GetItem", "Disabled", "arn:key is disabled.")
    secret = key_refusal("secretsmanager", "PutSecretValue", "PendingDeletion", "arn:key is pending deletion.")

    assert (disabled.code, disabled.message) == (
        "AccessDeniedException",
        "KMS key disabled error: arn:key is disabled.",
    )
    assert secret.code == "EncryptionFailure"


class Stack:
    """A stack of the given resources, which is made or fails."""

    def __init__(self, rights: Rights, **resources: tuple[str, dict[str, Any]]) -> None:
        self.cloudformation, self.name = rights.client("cloudformation"), rights.name("stack")
        template = {
            "Resources": {name: {"Type": kind, "Properties": given} for name, (kind, given) in resources.items()}
        }
        self.cloudformation.create_stack(StackName=self.name, TemplateBody=json.dumps(template))
        self.status = str(settled(self.cloudformation, self.name)["StackStatus"])

    def failures(self) -> str:
        events = self.cloudformation.describe_stack_events(StackName=self.name)["StackEvents"]
        return " ".join(each.get("ResourceStatusReason", "") for each in events if "FAILED" in each["ResourceStatus"])


def test_a_topic_and_a_table_of_a_template_keep_their_key(rights):
    key, topic, table = rights.key(), rights.name("topic"), rights.name("table")
    identifier = {"AttributeName": "id", "AttributeType": "S"}
    properties = {
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [identifier],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "SSESpecification": {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": key},
    }
    Stack(
        rights,
        Topic=("AWS::SNS::Topic", {"TopicName": topic, "KmsMasterKeyId": key}),
        Table=("AWS::DynamoDB::Table", properties),
    )
    user = rights.user({"sns:Publish": "*", "dynamodb:GetItem": "*"})
    arn = f"arn:aws:sns:{REGION}:{ACCOUNT}:{topic}"

    assert refused(lambda: user.client("sns").publish(TopicArn=arn, Message="a"))[0] == "KMSAccessDenied"
    code, message = refused(lambda: user.client("dynamodb").get_item(TableName=table, Key={"id": {"S": "a"}}))
    assert (code, "kms:Decrypt" in message) == ("AccessDeniedException", True)


def test_a_template_maps_no_queue_that_the_functions_role_may_not_poll(rights):
    _, arn = rights.queue()
    role = rights.role("lambda.amazonaws.com", {})
    function = rights.function("def handler(event, context): pass", role)
    mapping = ("AWS::Lambda::EventSourceMapping", {"FunctionName": function, "EventSourceArn": arn, "Enabled": False})

    refused_stack = Stack(rights, Mapping=mapping)
    rights.role_may(role, dict.fromkeys(POLLING, arn))

    assert "does not have permissions to call ReceiveMessage on SQS" in refused_stack.failures()
    assert Stack(rights, Mapping=mapping).status == "CREATE_COMPLETE"


def test_a_template_makes_no_log_group_with_a_key_that_does_not_let_the_logs_in(rights):
    def group(key: str) -> Stack:
        return Stack(rights, Group=("AWS::Logs::LogGroup", {"LogGroupName": rights.name("group"), "KmsKeyId": key}))

    assert "is not allowed to be used with LogGroup" in group(rights.key()).failures()
    assert group(rights.key(service(f"logs.{REGION}.amazonaws.com", "kms:*"))).status == "CREATE_COMPLETE"


# --- resources' own policies


TLS_ONLY = {"Effect": "Deny", "Principal": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}


def test_a_queues_policy_lets_another_account_in_and_refuses_its_own_users_and_demands_tls(rights):
    url, arn = rights.queue({**TLS_ONLY, "Action": "sqs:*"})
    user, other = rights.user({"sqs:SendMessage": arn}), rights.aws.client("sqs", account="210987654321")

    user.client("sqs").send_message(QueueUrl=url, MessageBody='"tls counts as given on loopback"')
    denied_elsewhere = refused(lambda: other.send_message(QueueUrl=url, MessageBody='"x"'))[0]
    foreign = {"Effect": "Allow", "Principal": {"AWS": "210987654321"}, "Action": "sqs:SendMessage"}
    forbidden = {"Effect": "Deny", "Principal": {"AWS": user.arn}, "Action": "sqs:SendMessage"}
    rights.queue_allows(url, arn, foreign, forbidden)
    other.send_message(QueueUrl=url, MessageBody='"x"')

    assert "AccessDenied" in denied_elsewhere
    assert "AccessDenied" in refused(lambda: user.client("sqs").send_message(QueueUrl=url, MessageBody='"x"'))[0]


def test_a_topics_tls_statement_refuses_nobody_here_and_its_deny_does(rights):
    sns = rights.client("sns")
    topic = sns.create_topic(Name=rights.name("topic"))["TopicArn"]
    user = rights.user({"sns:Publish": topic})

    def allows(*statements: dict[str, Any]) -> None:
        document = {
            "Version": "2012-10-17",
            "Statement": [{"Action": "sns:Publish", "Resource": topic, **each} for each in statements],
        }
        sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(document))

    allows(TLS_ONLY)
    user.client("sns").publish(TopicArn=topic, Message="a")
    allows({"Effect": "Deny", "Principal": {"AWS": user.arn}})

    assert refused(lambda: user.client("sns").publish(TopicArn=topic, Message="a"))[0] == "AuthorizationError"


def test_a_condition_on_the_principal_is_about_the_sessions_role_with_its_path(rights):
    url, arn = rights.queue()
    denied, allowed = rights.name("role"), rights.name("role")
    for path, name in (("/team/ci/", denied), ("/team/", allowed)):
        trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        role = rights.iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=document)["Role"]["Arn"]
        rights.role_may(role, {"sqs:SendMessage": arn})
    condition = {"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/team/*/*"}}
    deny = {"Effect": "Deny", "Principal": "*", "Action": "sqs:SendMessage", "Condition": condition}
    rights.queue_allows(url, arn, deny)

    def send(path: str, name: str) -> None:
        session = role_session(rights.aws, f"arn:aws:iam::{ACCOUNT}:role{path}{name}")
        rights.client("sqs", session).send_message(QueueUrl=url, MessageBody=name)

    send("/team/", allowed)
    assert "explicit deny" in refused(lambda: send("/team/ci/", denied))[1]


def test_the_code_buckets_policy_refuses_nobody_here_and_another_buckets_deny_does(rights):
    s3, name = rights.client("s3"), rights.name("bucket")
    s3.create_bucket(Bucket=name)
    user = rights.user({"s3:PutObject": f"arn:aws:s3:::{name}/*"})

    s3.put_bucket_policy(Bucket=name, Policy=json.dumps(bucket_policy(name, "aws")))
    user.client("s3").put_object(Bucket=name, Key="code.zip", Body=b"")
    deny = bucket_policy(name, "aws")
    deny["Statement"][0]["Condition"] = {"StringNotLike": {"aws:PrincipalArn": "*/somebody"}}
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps(deny))

    assert refused(lambda: user.client("s3").put_object(Bucket=name, Key="code.zip", Body=b""))[0] == "AccessDenied"


def test_a_function_is_invoked_by_whoever_its_policy_names_or_his_own_policy_allows(rights):
    function = rights.function("def handler(event, context): return 1", rights.role("lambda.amazonaws.com", {}))
    by_policy, by_right, neither = rights.user({}), rights.user({"lambda:InvokeFunction": function}), rights.user({})
    rights.parts.functions.add_permission(
        FunctionName=function, StatementId="user", Action="lambda:InvokeFunction", Principal=by_policy.arn
    )

    for user in (by_policy, by_right):
        assert json.loads(user.client("lambda").invoke(FunctionName=function)["Payload"].read()) == 1
    assert refused(lambda: neither.client("lambda").invoke(FunctionName=function))[0] == "AccessDeniedException"


@pytest.mark.slow
def test_the_platforms_own_policies_let_in_what_it_needs_and_demand_of_nobody_here_what_he_cannot_give():
    """As servicecatalog/platform.yaml has them: of its queues, its topic, its function notify and its key."""
    # Slower: the template's custom resource has 3,000 seconds, and takes some of this machine's.
    with LocalAWS(enforce_iam=True, clock_speed=120) as aws:
        platform.install(aws)
        rights = Rights(aws)
        topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:modelyard-deployments"
        rights.client("sns").publish(TopicArn=topic, Message="text")
        rights.client("cloudwatch").set_alarm_state(
            AlarmName="modelyard-event-age", StateValue="ALARM", StateReason="-"
        )
        expected = {
            (EVENTS, "sqs:SendMessage"),
            ("sns.amazonaws.com", "lambda:InvokeFunction"),
            ("cloudwatch.amazonaws.com", "sns:Publish"),
            ("cloudwatch.amazonaws.com", "kms:GenerateDataKey"),
            (f"logs.{REGION}.amazonaws.com", "kms:GenerateDataKey"),
            (f"arn:aws:iam::{ACCOUNT}:role/modelyard/modelyard-deploy-{REGION}", "sqs:ReceiveMessage"),
            (f"arn:aws:iam::{ACCOUNT}:role/modelyard/modelyard-deploy-{REGION}", "kms:Decrypt"),
            (f"arn:aws:iam::{ACCOUNT}:role/modelyard/modelyard-notify-{REGION}", "logs:PutLogEvents"),
        }
        wait_for(lambda: all(rights.decisions(*each) for each in expected), 60)
        decisions = aws.settings("permissions")["decisions"]

    assert [each for each in decisions if not each["allowed"]] == []
