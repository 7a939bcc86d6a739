"""Which actions of a resource schema count when, on which resources and with which condition keys."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local_aws.permissions import Decision, Denied
from local_aws.permissions import cloudformation as cfn
from local_aws.permissions.cloudformation import Change, Operation, questions
from local_aws.permissions.resource_types import OPERATIONS, RULES
from tests.servicecatalog import template

PLATFORM = Path(__file__).resolve().parent.parent.parent / "servicecatalog" / "platform.yaml"
ACCOUNT, REGION = "111122223333", "eu-west-1"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11112222-3333-4444-5555-666677778888"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/service/worker"
# Of types that the platform does not have, with every property that a rule names.
SAMPLES: dict[str, dict[str, Any]] = {
    "AWS::CloudFormation::CustomResource": {"ServiceToken": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:provider"},
    "AWS::CloudFormation::Stack": {"TemplateURL": "https://s3.amazonaws.com/bucket/key"},
    "AWS::CodeBuild::Project": {"Name": "build", "ServiceRole": ROLE},
    "AWS::CodePipeline::Pipeline": {"Name": "delivery", "RoleArn": ROLE, "RestartExecutionOnUpdate": True},
    "AWS::IAM::OIDCProvider": {
        "Url": "https://token.actions.githubusercontent.com",
        "ClientIdList": ["sts.amazonaws.com"],
        "ThumbprintList": ["a" * 40],
    },
    "AWS::S3::Bucket": {"VersioningConfiguration": {"Status": "Enabled"}, "BucketEncryption": {"Rules": []}},
    "AWS::S3::BucketPolicy": {"Bucket": "my-artifacts", "PolicyDocument": {}},
    "AWS::SageMaker::ModelPackageGroup": {"ModelPackageGroupName": "churn-dev", "ModelPackageGroupPolicy": {"a": 1}},
    "AWS::SageMaker::Project": {
        "ProjectName": "churn",
        "ServiceCatalogProvisioningDetails": {"ProductId": "prod-abcdefgh12345"},
    },
    "AWS::ServiceCatalog::CloudFormationProduct": {
        "Name": "project",
        "ProvisioningArtifactParameters": [{"Info": {"LoadTemplateFromURL": "https://s3.amazonaws.com/code/t.yaml"}}],
    },
    "AWS::ServiceCatalog::LaunchRoleConstraint": {"PortfolioId": "port-1", "ProductId": "prod-1", "RoleArn": ROLE},
    "AWS::ServiceCatalog::Portfolio": {"DisplayName": "Modelyard"},
    "AWS::ServiceCatalog::PortfolioPrincipalAssociation": {"PortfolioId": "port-1", "PrincipalARN": ROLE},
    "AWS::ServiceCatalog::PortfolioProductAssociation": {"PortfolioId": "port-1", "ProductId": "prod-1"},
    "AWS::ServiceCatalog::ResourceUpdateConstraint": {"PortfolioId": "port-1", "ProductId": "prod-1"},
}
# The reference names no portfolios and products for these, so nobody can say more than "*".
OF_THE_CATALOG = tuple(f"servicecatalog:{name}" for name in ("ListTagsForResource", "TagResource", "UntagResource"))
# The reference names no dashboards for these; that they can be tagged CloudFormation's schema says.
OF_DASHBOARDS = ("cloudwatch:TagResource", "cloudwatch:UntagResource", "cloudwatch:ListTagsForResource")
WITHOUT_CALLS = ("AWS::CloudFormation::WaitCondition", "AWS::CloudFormation::WaitConditionHandle")


def a(kind: str, operation: Operation = "create", **properties: Any) -> Change:
    return Change(kind, operation, "Thing", properties, "stack", ACCOUNT, REGION)


def asked(change: Change) -> dict[str, list[str]]:
    """The resources that each action is asked about."""
    found: dict[str, list[str]] = {}
    for question in questions(change):
        found.setdefault(question.action, []).append(question.resource)
    return found


def context(change: Change, action: str) -> Mapping[str, Any]:
    return next(question.context for question in questions(change) if question.action == action)


def examples() -> Iterator[Change]:
    """Of each type that has rules, all operations."""
    values = {"ArtifactBuckets": "my-artifacts", "LogRetentionDays": "90", "AlertEmail": "team@example.com"}
    platform = template.resolved(template.load(PLATFORM), values)
    found = [(resource["Type"], resource.get("Properties", {})) for resource in platform.values()]
    for kind, properties in [*found, *SAMPLES.items()]:
        for operation in OPERATIONS:
            change = replace(a(kind, operation, **properties), stack_tags={"team": "a"})
            yield replace(change, before=dict.fromkeys(properties, "before") if operation == "update" else {})


# --- the table against its sources


def test_every_type_with_rules_has_an_example() -> None:
    assert {change.type for change in examples()} | set(WITHOUT_CALLS) == set(RULES)


def test_every_rule_is_about_an_action_that_the_schema_lists() -> None:
    for kind, rules in RULES.items():
        if rules.actions is not None:
            listed = {action for actions in rules.actions.values() for action in actions}
        else:
            handlers = cfn._schema(kind)["handlers"]
            listed = {
                action for operation in OPERATIONS for action in handlers.get(operation, {}).get("permissions", [])
            }
        assert set(rules.rules) <= listed, kind


def test_every_action_is_asked_about_a_resource_that_it_knows() -> None:
    """By the ARN formats of the Service Authorization Reference; "*" only where there are none."""
    reference = cfn._reference()
    for change in examples():
        for question in questions(change):
            service, name = question.action.split(":")
            kinds = [kind for kind in reference[service]["privileges"][name]["resource_types"] if kind]
            formats = [re.escape(reference[service]["resources"][kind]["arn"]) for kind in kinds]
            patterns = [re.sub(r"\\\$\\\{\w+\\\}", ".+", text) for text in formats]
            of_a_dashboard = change.type == "AWS::CloudWatch::Dashboard" and question.action in OF_DASHBOARDS
            if of_a_dashboard:
                patterns = [r"arn:aws:cloudwatch::\d{12}:dashboard/.+"]
            elif not kinds or question.action in OF_THE_CATALOG:
                patterns = [r"\*"]
            assert any(re.fullmatch(pattern, question.resource) for pattern in patterns), (change.type, question)


def test_every_condition_key_is_one_that_the_action_or_every_request_has() -> None:
    reference = cfn._reference()
    for change in examples():
        for question in questions(change):
            service, name = question.action.split(":")
            kinds = reference[service]["privileges"][name]["resource_types"]
            known = {re.sub(r"\$\{.*", "", key) for kind in kinds.values() for key in kind["condition_keys"]}
            for key in question.context:
                named = key if "Tag/" not in key else key.partition("/")[0] + "/"
                assert named in known | {"aws:ResourceTag/"}, (change.type, question)


# --- what counts when


def test_nothing_is_asked_for_properties_that_are_not_there() -> None:
    assert asked(a("AWS::DynamoDB::Table", TableName="ledger")).keys() == {
        f"dynamodb:{name}"
        for name in (
            "CreateTable",
            "DescribeTable",
            "DescribeTimeToLive",
            "DescribeContinuousBackups",
            "DescribeContributorInsights",
            "DescribeKinesisStreamingDestination",
            "GetResourcePolicy",
            "ListTagsOfResource",
            "UpdateTable",
        )
    }


@pytest.mark.parametrize(
    ("kind", "properties", "action"),
    [
        ("AWS::DynamoDB::Table", {"PointInTimeRecoverySpecification": {"a": 1}}, "dynamodb:UpdateContinuousBackups"),
        ("AWS::DynamoDB::Table", {"TimeToLiveSpecification": {"a": 1}}, "dynamodb:UpdateTimeToLive"),
        ("AWS::Lambda::Function", {"ReservedConcurrentExecutions": 5}, "lambda:PutFunctionConcurrency"),
        ("AWS::Lambda::Function", {"VpcConfig": {"SubnetIds": ["a"]}}, "ec2:DescribeSubnets"),
        ("AWS::Logs::LogGroup", {"RetentionInDays": 30}, "logs:PutRetentionPolicy"),
        ("AWS::KMS::Key", {"EnableKeyRotation": True}, "kms:EnableKeyRotation"),
        ("AWS::S3::Bucket", {"VersioningConfiguration": {"Status": "Enabled"}}, "s3:PutBucketVersioning"),
        ("AWS::IAM::Role", {"Policies": [{"PolicyName": "a"}]}, "iam:PutRolePolicy"),
        ("AWS::SQS::Queue", {"Tags": [{"Key": "team", "Value": "a"}]}, "sqs:TagQueue"),
        ("AWS::SSM::Parameter", {"Tags": {"team": "a"}}, "ssm:AddTagsToResource"),
    ],
)
def test_an_action_counts_with_its_property(kind: str, properties: dict[str, Any], action: str) -> None:
    assert action in asked(a(kind, **properties))
    assert action not in asked(a(kind))


def test_an_update_asks_for_what_changed() -> None:
    before = {"TableName": "t", "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True}}
    change = replace(a("AWS::DynamoDB::Table", "update", **before), before=before, physical_id="t")
    assert "dynamodb:UpdateContinuousBackups" not in asked(change)
    off = {**before, "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": False}}
    assert "dynamodb:UpdateContinuousBackups" in asked(replace(change, properties=off))


def test_tags_that_an_update_adds_and_removes() -> None:
    tags = [{"Key": "team", "Value": "a"}]
    added = replace(a("AWS::SQS::Queue", "update", QueueName="q", Tags=tags), before={"QueueName": "q"})
    assert {"sqs:TagQueue", "sqs:UntagQueue"} & asked(added).keys() == {"sqs:TagQueue"}
    removed = replace(added, properties=added.before, before=added.properties)
    assert {"sqs:TagQueue", "sqs:UntagQueue"} & asked(removed).keys() == {"sqs:UntagQueue"}


def test_an_update_of_what_only_creation_sets_replaces() -> None:
    change = replace(a("AWS::SQS::Queue", "update", QueueName="new"), before={"QueueName": "old"})
    assert cfn.replaces(change)
    assert not cfn.replaces(replace(change, properties={"QueueName": "old", "DelaySeconds": 1}))


# --- on what, with which keys


def test_a_name_that_cloudformation_makes_begins_with_stack_and_logical_id() -> None:
    (arn,) = asked(a("AWS::SQS::Queue"))["sqs:CreateQueue"]
    assert re.fullmatch(rf"arn:aws:sqs:{REGION}:{ACCOUNT}:stack-Thing-[0-9A-F]{{13}}", arn)


def test_what_is_there_is_asked_about_by_its_physical_id() -> None:
    url = f"http://127.0.0.1:4566/{ACCOUNT}/stack-Thing-1234"
    change = replace(a("AWS::SQS::Queue", "delete"), physical_id=url)
    assert asked(change)["sqs:DeleteQueue"] == [f"arn:aws:sqs:{REGION}:{ACCOUNT}:stack-Thing-1234"]


@pytest.mark.parametrize(
    ("kind", "properties", "service"),
    [
        ("AWS::Lambda::Function", {"Role": ROLE}, "lambda.amazonaws.com"),
        ("AWS::CodeBuild::Project", {"ServiceRole": ROLE}, "codebuild.amazonaws.com"),
        ("AWS::CodePipeline::Pipeline", {"RoleArn": ROLE}, "codepipeline.amazonaws.com"),
        ("AWS::Events::Rule", {"Targets": [{"Arn": "a", "RoleArn": ROLE}]}, "events.amazonaws.com"),
        ("AWS::S3::Bucket", {"ReplicationConfiguration": {"Role": ROLE}}, "s3.amazonaws.com"),
        (
            "AWS::ServiceCatalog::LaunchRoleConstraint",
            {"PortfolioId": "p", "ProductId": "q", "RoleArn": ROLE},
            "servicecatalog.amazonaws.com",
        ),
    ],
)
def test_a_role_in_the_properties_is_passed_to_the_types_service(
    kind: str, properties: dict[str, Any], service: str
) -> None:
    change = a(kind, **properties)
    assert asked(change)["iam:PassRole"] == [ROLE]
    assert context(change, "iam:PassRole")["iam:PassedToService"] == service
    assert "iam:PassRole" not in asked(replace(change, operation="delete"))


def test_a_key_is_asked_about_by_the_service_that_uses_it() -> None:
    change = a("AWS::DynamoDB::Table", TableName="t", SSESpecification={"KMSMasterKeyId": KEY})
    assert {action for action in asked(change) if action.startswith("kms:")} == {
        f"kms:{name}" for name in ("CreateGrant", "Decrypt", "DescribeKey", "Encrypt", "RevokeGrant")
    }
    assert asked(change)["kms:CreateGrant"] == [KEY]
    assert context(change, "kms:CreateGrant") == {
        "kms:ViaService": f"dynamodb.{REGION}.amazonaws.com",
        "kms:GrantIsForAWSResource": "true",
    }


def test_a_tagged_table_does_not_lend_its_tags_to_its_key() -> None:
    change = a("AWS::DynamoDB::Table", SSESpecification={"KMSMasterKeyId": KEY}, Tags=[{"Key": "team", "Value": "a"}])
    assert "aws:ResourceTag/team" not in context(change, "kms:CreateGrant")


def test_each_policy_of_a_role_is_asked_about() -> None:
    boundary = f"arn:aws:iam::{ACCOUNT}:policy/boundary"
    policies = [f"arn:aws:iam::{ACCOUNT}:policy/{name}" for name in "ab"]
    change = a("AWS::IAM::Role", RoleName="r", Path="/p/", ManagedPolicyArns=policies, PermissionsBoundary=boundary)
    attached = [question for question in questions(change) if question.action == "iam:AttachRolePolicy"]
    assert [question.context["iam:PolicyARN"] for question in attached] == policies
    assert {question.resource for question in attached} == {f"arn:aws:iam::{ACCOUNT}:role/p/r"}
    assert context(change, "iam:CreateRole")["iam:PermissionsBoundary"] == boundary


def test_a_policy_is_put_on_roles_by_their_whole_arns() -> None:
    change = replace(
        a("AWS::IAM::Policy", PolicyName="p", Roles=["worker"]), look_up=lambda kind, _: {"role": ROLE}.get(kind)
    )
    assert asked(change) == {"iam:GetRolePolicy": [ROLE], "iam:PutRolePolicy": [ROLE]}
    assert asked(replace(change, operation="delete")) == {"iam:DeleteRolePolicy": [ROLE]}


def test_a_role_that_an_inline_policy_leaves_is_asked_about() -> None:
    change = replace(a("AWS::IAM::Policy", "update", Roles=["new"]), before={"Roles": ["old", "new"]})
    assert asked(change)["iam:DeleteRolePolicy"] == [f"arn:aws:iam::{ACCOUNT}:role/old"]


def test_tags_are_condition_keys() -> None:
    change = replace(a("AWS::KMS::Key", EnableKeyRotation=True), stack_tags={"modelyard:part": "platform"})
    assert context(change, "kms:CreateKey") == {
        "aws:RequestTag/modelyard:part": "platform",
        "aws:TagKeys": ["modelyard:part"],
    }
    assert context(change, "kms:EnableKeyRotation") == {"aws:ResourceTag/modelyard:part": "platform"}


def test_a_custom_resource_calls_its_function_or_its_topic() -> None:
    function, topic = (
        f"arn:aws:{kind}:{REGION}:{ACCOUNT}:{name}" for kind, name in (("lambda", "function:f"), ("sns", "t"))
    )
    assert asked(a("Custom::Thing", ServiceToken=function)) == {"lambda:InvokeFunction": [function]}
    assert asked(a("Custom::Thing", ServiceToken=topic)) == {"sns:Publish": [topic]}


def test_a_rule_on_a_bus_of_its_own() -> None:
    arns = asked(a("AWS::Events::Rule", Name="r", EventBusName="orders"))["events:PutRule"]
    assert arns == [f"arn:aws:events:{REGION}:{ACCOUNT}:rule/orders/r"]


@pytest.mark.parametrize("kind", WITHOUT_CALLS)
def test_what_calls_nothing_asks_nothing(kind: str) -> None:
    assert questions(a(kind)) == []


# --- types without rules


def test_a_type_without_rules_asks_for_all_that_its_schema_lists() -> None:
    change = a("AWS::SecretsManager::Secret", Name="mine")
    assert {"secretsmanager:CreateSecret", "secretsmanager:TagResource"} <= asked(change).keys()
    decision = Decision("p", "secretsmanager:CreateSecret", "*", REGION, (), False)
    assert "knows no more of AWS::SecretsManager::Secret" in cfn.status_reason(Denied(decision, "p", False), change)


def test_a_type_that_nobody_describes_is_not_made() -> None:
    with pytest.raises(cfn.ActionsUnknown, match="AWS::Nobody::Knows"):
        questions(a("AWS::Nobody::Knows"))
