"""docs/operate.md has a runbook for every alarm that there is, and names every item of the readiness checklist."""

from __future__ import annotations

import re
import shlex
from functools import cache
from typing import Any

import pytest

from lifecycle_lambdas import names, readiness
from servicecatalog import account
from tests.docs.pages import CHECKOUT, DOCS
from tests.servicecatalog import template
from tests.servicecatalog.permitted import allowed

PAGE = (DOCS / "operate.md").read_text(encoding="utf-8")
PARTS = ("Means", "Users notice", "Look at", "Do", "Over when")
RESOURCES = template.load(account.TEMPLATE)["Resources"].values()
OF_PLATFORM = [one["Properties"]["AlarmName"] for one in RESOURCES if one["Type"] == "AWS::CloudWatch::Alarm"]
OF_ENDPOINT = [
    *names.standing_alarms("<endpoint>"),
    *(f"<endpoint>-<number>-rollback-{kind}" for kind in names.ALARM_KINDS),
    names.abort_alarm("<endpoint>-<number>"),
]


def runbooks() -> dict[str, str]:
    """By alarm; a heading may name several, the further ones by their ending."""
    found: dict[str, str] = {}
    for heading, text in re.findall(
        r"^### (`modelyard-[^\n]+|`<endpoint>[^\n]+)\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL
    ):
        first, *further = re.findall(r"`([^`]+)`", heading)
        beginning = first.removesuffix("-rollback-errors")
        found |= dict.fromkeys([first, *(beginning + ending for ending in further)], text)
    return found


def test_there_is_a_runbook_for_every_alarm_and_for_no_other() -> None:
    assert sorted(runbooks()) == sorted([*OF_PLATFORM, *OF_ENDPOINT])


@pytest.mark.parametrize("alarm", [*OF_PLATFORM, *OF_ENDPOINT])
def test_a_runbook_says_what_it_means_what_users_notice_what_to_look_at_and_do_and_when_it_is_over(alarm: str) -> None:
    said = re.findall(r"^- \*\*(.+?)\*\*: \S", runbooks()[alarm], re.MULTILINE)
    assert tuple(said) == PARTS


def test_the_readiness_list_is_the_one_that_is_checked() -> None:
    checks = {*readiness.PLATFORM, *readiness.BUCKET, *readiness.HOSTED, *readiness.SCHEDULED}
    assert {name for name in items() if name not in PAGE} == set()
    assert len(items()) == len(checks)


def items() -> set[str]:
    """What the items are called, of facts that nobody may read."""
    from tests.lifecycle_lambdas.test_readiness import READY_BUCKET, READY_ENDPOINT, READY_PLATFORM

    found = [check(READY_PLATFORM) for check in readiness.PLATFORM]
    found += [check(READY_BUCKET) for check in readiness.BUCKET]
    found += [check(READY_ENDPOINT) for check in {*readiness.HOSTED, *readiness.SCHEDULED}]
    return {item.name for item in found}


def test_the_platforms_alarms_rules_and_queues_of_the_checklist_are_those_that_are_made() -> None:
    assert sorted(readiness.PLATFORM_ALARMS) == sorted(OF_PLATFORM)
    rules = [one["Properties"]["Name"] for one in RESOURCES if one["Type"] == "AWS::Events::Rule"]
    assert sorted([*readiness.SCHEDULES, *readiness.RULES]) == sorted(rules)
    queues = [one["Properties"]["QueueName"] for one in RESOURCES if one["Type"] == "AWS::SQS::Queue"]
    assert sorted(readiness.QUEUES) == sorted(queues)


REGION = "eu-west-1:111122223333"
POLICIES = ("OperatorPolicy", "LookingPolicy", "ServingPolicy", "WatchingPolicy", "LedgerPolicy")
OF_A_PROJECT = {"tags": {"modelyard:project": "churn"}}
# What the page leaves to an administrator.
ADMINISTRATORS = {"restore-table-to-point-in-time", "wait", "create-table", "cancel-key-deletion"}


@cache
def policies() -> list[dict[str, Any]]:
    values = {"ArtifactBuckets": "my-artifacts", "CodeBucket": "code", "CodeKey": "code.zip", "SeedCodeKey": "seed.zip"}
    documents = template.policies(template.resolved(template.load(account.TEMPLATE), values))
    return [documents[name] for name in POLICIES]


def aws_commands() -> list[list[str]]:
    """The page's commands of the AWS CLI, each as its words; those that are named in a text end there."""
    blocks = "\n".join(re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    inline = re.sub(r"^```.*?^```", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"(?:^|\$\()(aws [^\n)]+)", blocks, re.MULTILINE) + re.findall(r"`(aws [^`]+)`", inline)
    return [shlex.split(command)[1:] for command in found]


def needs(words: list[str]) -> tuple[str, str, dict[str, Any]]:
    """Action, resource and context that IAM is asked for."""
    service, operation, *more = words
    match service, operation:
        case "logs", "tail":
            group = more[0] if more else "/aws/lambda/modelyard-deploy"
            return "logs:FilterLogEvents", f"arn:aws:logs:{REGION}:log-group:{group}:*", {}
        case "ssm", "get-parameter":
            return "ssm:GetParameter", f"arn:aws:ssm:{REGION}:parameter{more[more.index('--name') + 1]}", {}
        case "lambda", "update-event-source-mapping":
            mapping = f"arn:aws:lambda:{REGION}:event-source-mapping:modelyard-deploy"  # as template.py calls it
            return "lambda:UpdateEventSourceMapping", mapping, {}
        case "sagemaker", "update-endpoint-weights-and-capacities":
            return "sagemaker:UpdateEndpointWeightsAndCapacities", "endpoint/churn-prod", OF_A_PROJECT
        case "sagemaker", "list-transform-jobs":
            return "sagemaker:ListTransformJobs", "*", {}
        case "sqs", ("get-queue-url" | "receive-message" | "purge-queue"):
            named = "".join(part.title() for part in operation.split("-"))
            return f"sqs:{named}", f"arn:aws:sqs:{REGION}:modelyard-retraining-failed", {}
        case "s3", "ls":
            return "s3:ListBucket", "arn:aws:s3:::my-artifacts", {}
    raise AssertionError(f"aws {service} {operation}: say here what it needs, or whose it is")


@pytest.mark.parametrize("words", [one for one in aws_commands() if one[1] not in ADMINISTRATORS], ids=" ".join)
def test_operators_may_do_what_the_page_tells_them(words: list[str]) -> None:
    action, resource, context = needs(words)
    assert allowed(policies(), action, resource, **context), f"{action} {resource}"


def test_what_is_an_administrators_is_named_so() -> None:
    commands = [one for one in aws_commands() if one[1] in ADMINISTRATORS]
    assert {one[1] for one in commands} == ADMINISTRATORS
    for service, operation, *_ in commands:
        before = PAGE[: PAGE.index(f"aws {service} {operation}")]
        assert "administrator" in before[before.rindex("\n#") :], operation


@pytest.mark.parametrize("command", ["aws dynamodb create-table", "aws dynamodb restore-table-to-point-in-time"])
def test_the_controller_is_stopped_before_it_has_another_ledger(command: str) -> None:
    """Messages wait for it: an empty ledger lets it deploy within minutes what somebody had gone back from."""
    before = PAGE[: PAGE.index(command)]
    assert "(#stopping-the-controller)" in before[before.rindex("\n#") :]


def test_what_the_page_and_messages_tell_to_type_has_all_that_the_commands_demand() -> None:
    """Whoever decides something gives a reason: a command that is shown without one ends in a usage error."""
    sources = [DOCS / "operate.md", *(CHECKOUT / "lifecycle_lambdas").rglob("*.py")]
    text = "\n".join(source.read_text(encoding="utf-8") for source in sources)
    typed = re.findall(r"(?:go-back|approve|reject|park) (?:churn-\w+|\{[\w.]*(?:endpoint|name)\})[^`\n]*", text)
    assert len(typed) >= 8
    assert [one for one in typed if "--why" not in one] == []


def test_the_empty_table_that_the_page_makes_has_the_keys_and_the_index_of_the_platforms() -> None:
    (command,) = re.findall(r"^aws dynamodb create-table .*?^```", PAGE, re.MULTILINE | re.DOTALL)
    (table,) = [one["Properties"] for one in RESOURCES if one["Type"] == "AWS::DynamoDB::Table"]
    given = shlex.split(command.removesuffix("```").replace("\\\n", " "))

    def keys(schema: list[dict[str, str]]) -> list[str]:
        return [f"AttributeName={key['AttributeName']},KeyType={key['KeyType']}" for key in schema]

    at = given.index("--key-schema") + 1
    assert given[at : at + 2] == keys(table["KeySchema"])
    (index,) = table["GlobalSecondaryIndexes"]
    schema = ",".join(f"{{{key}}}" for key in keys(index["KeySchema"]))
    projection = f"Projection={{ProjectionType={index['Projection']['ProjectionType']}}}"
    assert f"IndexName={index['IndexName']},KeySchema=[{schema}],{projection}" in given
    attributes = {f"AttributeName={one['AttributeName']},AttributeType=S" for one in table["AttributeDefinitions"]}
    assert attributes <= set(given)
