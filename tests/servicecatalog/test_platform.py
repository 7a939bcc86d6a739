"""What platform.yaml promises: who may do what, what is kept, what is watched, and that the parts fit together."""

from __future__ import annotations

import ast
import fnmatch
import json
import re
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name

from lifecycle_lambdas import batch_testing, endpoint_checks, endpoint_testing, messages, metrics, names, retries
from lifecycle_lambdas.handlers import commit_status, deploy, endpoint_tests
from lifecycle_lambdas.records import TestRun
from lifecycle_lambdas.settings import PARAMETER_PATH, Settings
from local_aws.permissions.identities import as_list
from local_aws.request_checks import service_model
from servicecatalog import account, archive, bucket, install
from tests import dashboards, lint_resources
from tests.servicecatalog import template
from tests.servicecatalog.lengths import longest_anywhere
from tests.servicecatalog.permitted import allowed

# The functions of lifecycle_lambdas.
CONTROLLER = ("deploy", "plan", "notify", "batch", "commit-status", "clean", "endpoint-tests")
FUNCTIONS = (*CONTROLLER, "seed")
BEHIND_QUEUES = (deploy, endpoint_tests, commit_status)
KEY = "arn:aws:kms:eu-west-1:111122223333:key/11112222-3333-4444-5555-666677778888"
WRITTEN = template.load(account.TEMPLATE)
VALUES = {
    "ArtifactBuckets": "my-artifacts,team-*-artifacts",
    "BatchBuckets": "my-data",
    "ProjectKmsKeyArns": KEY,
    "WebhookSecretArn": "arn:aws:secretsmanager:eu-west-1:111122223333:secret:webhook-AbCdEf",
    "AlertEmail": "team@example.com",
    "CodeBucket": "code",
    "CodeKey": "modelyard/functions/0123456789abcdef.zip",
    "SeedCodeKey": "modelyard/functions/seed-0123456789abcdef.zip",
    "DataBuckets": "more-data",
    "PermissionsBoundaryArn": "arn:aws:iam::111122223333:policy/boundary",
    "ProjectPermissionsBoundaryArn": "arn:aws:iam::111122223333:policy/boundary-of-projects",
}
RESOURCES = template.resolved(WRITTEN, VALUES)
SECRET = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:github-AbCdEf"
ON_GITHUB = VALUES | {"GitHost": "github", "GitOwner": "acme", "GitTokenSecretArn": SECRET}
# What AWS offers without resources: lists, logins, descriptions of networks, and metrics, whose namespaces bound it.
WITHOUT_RESOURCES = (
    "sagemaker:List*",
    "application-autoscaling:Describe*",
    "ec2:Describe*",
    "ecr:GetAuthorizationToken",
    "pricing:GetProducts",
    "cloudwatch:PutMetricData",
    "logs:DescribeLogGroups",
    "cloudwatch:GetMetricData",
    "cloudwatch:GetMetricStatistics",
    "cloudwatch:ListDashboards",
)
READING = ("Describe", "List", "Get", "Query", "BatchGet", "BatchCheck", "Filter", "Receive", "ConditionCheck")


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    found = {name: resource for name, resource in RESOURCES.items() if resource["Type"] == kind}
    assert found
    return {name: resource["Properties"] for name, resource in found.items()}


def statements(*policies: str) -> list[dict[str, Any]]:
    """The statements of policies by their logical names; when none is named, of all that grant something.

    Actions and resources are lists.
    """
    documents = template.policies(RESOURCES)
    chosen = policies or tuple(name for name in documents if name != "ProjectBoundary")
    return [
        statement | {"Action": as_list(statement["Action"]), "Resource": as_list(statement["Resource"])}
        for name in chosen
        for statement in documents[name]["Statement"]
    ]


def allowing(action: str, *policies: str) -> list[dict[str, Any]]:
    return [
        statement
        for statement in statements(*policies)
        if statement["Effect"] == "Allow" and any(fnmatch.fnmatchcase(action, each) for each in statement["Action"])
    ]


def function(name: str) -> dict[str, Any]:
    (found,) = [one for one in of_type("AWS::Lambda::Function").values() if one["FunctionName"] == f"modelyard-{name}"]
    return found


# --- permissions


def test_no_policy_allows_a_service_as_a_whole() -> None:
    wide = [statement for statement in statements() if any(action.endswith(":*") for action in statement["Action"])]
    assert wide == []


def test_every_resource_is_allowed_only_where_aws_knows_no_resources() -> None:
    for statement in statements():
        if statement["Effect"] == "Allow" and "*" in statement["Resource"]:
            for action in statement["Action"]:
                assert any(fnmatch.fnmatchcase(action, each) for each in WITHOUT_RESOURCES), (statement["Sid"], action)


def test_the_seed_function_makes_and_changes_only_what_carries_its_mark() -> None:
    """Of pipelines, which the projects make, what is tagged as a project's."""
    for statement in statements("SeedPolicy"):
        changing = [
            action
            for action in statement["Action"]
            if action.startswith(("sagemaker:", "codecommit:")) and not action.split(":")[1].startswith(READING)
        ]
        keys = {key for operator in statement.get("Condition", {}).values() for key in operator}
        tags = {key.partition("/")[2] for key in keys} & {"modelyard:stack", "modelyard:project"}
        assert not changing or tags or keys == {"sagemaker:TaggingAction"}, statement["Sid"]


def test_the_seed_function_has_no_rights_on_iam() -> None:
    assert not [action for each in statements("SeedPolicy") for action in each["Action"] if action.startswith("iam:")]


def test_the_controller_changes_in_sagemaker_only_what_is_tagged_as_modelyards() -> None:
    for statement in statements("ServingPolicy"):
        if not any(action.startswith("sagemaker:") for action in statement["Action"]):
            continue
        condition = statement["Condition"]
        tagged = {key for operator in condition.values() for key in operator}
        assert tagged & {
            "aws:RequestTag/modelyard:project",
            "aws:ResourceTag/modelyard:project",
            "sagemaker:TaggingAction",
        }, statement["Sid"]


def test_nobody_can_tag_what_exists_and_so_make_it_his_to_change() -> None:
    for statement in allowing("sagemaker:AddTags"):
        condition = statement["Condition"]
        making = "sagemaker:TaggingAction" in condition.get("StringEquals", {})
        ours_already = "aws:ResourceTag/modelyard:stack" in condition.get("StringLike", {})
        assert making or ours_already, statement["Sid"]


def calls_of_the_controller() -> set[str]:
    """IAM's names of the calls that its plans are made of, as they stand in its sources."""
    text = "\n".join(path.read_text() for path in archive.SOURCES.glob("*.py"))
    calls = set(re.findall(r'AwsCall\(\s*"([a-z-]+)",\s*"([a-z_]+)"', text))
    return {f"{service}:{''.join(word.capitalize() for word in operation.split('_'))}" for service, operation in calls}


def test_every_call_of_the_controllers_plans_is_allowed() -> None:
    calls = calls_of_the_controller()
    assert {"sagemaker:CreateEndpoint", "cloudwatch:PutMetricAlarm", "scheduler:CreateSchedule"} <= calls
    assert {call for call in calls if not allowing(call, "ServingPolicy", "WatchingPolicy")} == set()


# S3's actions that are not called as their operations (service authorization reference).
CALLED_OTHERWISE = {
    "get_bucket_encryption": "GetEncryptionConfiguration",
    "get_public_access_block": "GetBucketPublicAccessBlock",
}


def test_everything_that_the_functions_look_up_is_allowed() -> None:
    text = "\n".join(path.read_text() for path in archive.SOURCES.rglob("*.py"))
    looked_up = set(re.findall(r"\.((?:describe|list|get|query)(?:_[a-z_]+)?)\(\s*[A-Z]\w+=", text))
    looked_up |= set(re.findall(r'get_paginator\("([a-z_]+)"\)', text))
    looked_up |= set(re.findall(r"\.(describe_[a-z_]+)\b", text))
    assert {"describe_model_package", "get_object", "list_model_packages", "query"} <= looked_up
    allowed = {action.split(":")[1] for each in statements() if each["Effect"] == "Allow" for action in each["Action"]}
    asks = {name: CALLED_OTHERWISE.get(name, "".join(map(str.capitalize, name.split("_")))) for name in looked_up}
    assert {name for name, action in asks.items() if action not in allowed} == set()


SERVICES = (
    "sagemaker",
    "cloudwatch",
    "application-autoscaling",
    "scheduler",
    "s3",
    "dynamodb",
    "sns",
    "sqs",
    "pricing",
    "secretsmanager",
    "codecommit",
)


def modules_of(name: str) -> dict[str, str]:
    """The sources that a handler imports from the archive, itself among them, by module."""
    found: dict[str, str] = {}
    waiting = [f"lifecycle_lambdas.handlers.{name.replace('-', '_')}"]
    while waiting:
        module = waiting.pop()
        path = archive.SOURCES.parent / (module.replace(".", "/") + ".py")
        if module in found or not path.is_file():
            continue
        found[module] = path.read_text()
        for node in ast.walk(ast.parse(found[module])):
            if isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def operations_of(name: str) -> set[str]:
    """IAM's names of the AWS operations that a function's sources name; of a transaction its parts."""
    words = set(re.findall(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+|publish|query", "\n".join(modules_of(name).values())))
    found = set()
    for service in SERVICES:
        for operation in service_model(service).operation_names:
            if xform_name(operation) in words:
                found.add(f"{service}:{operation}")
    if "dynamodb:TransactWriteItems" in found:
        found -= {"dynamodb:TransactWriteItems"}
        found |= WRITES_OF_THE_LEDGER
    return found - SAME_NAMES


def role_of(name: str) -> list[str]:
    """The policies of a function's role, by their logical names."""
    role_name = f"{name.title().replace('-', '')}Role"
    role = WRITTEN["Resources"][role_name]["Properties"]
    attached = [policy["Ref"] for policy in role.get("ManagedPolicyArns", [])]
    attached += [
        policy
        for policy, resource in WRITTEN["Resources"].items()
        if {"Ref": role_name} in resource.get("Properties", {}).get("Roles", [])
    ]
    return attached


# Operations of other services that are called as ours are.
SAME_NAMES = {
    "sns:DeleteEndpoint",
    *(f"{service}:ListTagsForResource" for service in ("application-autoscaling", "scheduler", "sns", "codecommit")),
}
WRITES_OF_THE_LEDGER = {"dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:ConditionCheckItem"}
IAM_NAMES = {
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:ListObjectsV2": "s3:ListBucket",
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
}


@pytest.mark.parametrize("name", CONTROLLER)
def test_each_functions_role_allows_every_operation_that_its_sources_name(name: str) -> None:
    operations = {IAM_NAMES.get(one, one) for one in operations_of(name)}
    if name == "plan":  # it imports the controller, and does none of what it plans
        operations = {one for one in operations if one.split(":")[1].startswith(READING)} - WRITES_OF_THE_LEDGER
    if name == "batch":  # of the ledger it reads and writes what was told
        operations -= {"dynamodb:Query", "dynamodb:UpdateItem", "dynamodb:ConditionCheckItem"}
    if name == "endpoint-tests":  # of the ledger's transactions it makes none
        operations -= {"dynamodb:ConditionCheckItem"}
    if name == "clean":  # it asks the Git host, and tells no commit
        operations -= {"codecommit:GetCommit", "codecommit:PostCommentForComparedCommit"}
    if name in (
        "commit-status",
        "clean",
    ):  # of a platform with a token alone: tests/lifecycle_lambdas/test_commit_status.py
        operations -= {"secretsmanager:GetSecretValue"}
    assert operations
    assert {one for one in operations if not allowing(one, *role_of(name))} == set()


def test_the_seed_functions_role_allows_every_operation_that_its_sources_name() -> None:
    services = ("sagemaker", "codecommit", "cloudformation", "cloudwatch", "scheduler", "sqs", "ssm", "s3")
    words = {
        word
        for path in archive.SEED_SOURCES.rglob("*.py")
        for word in re.findall(r"(?:\.|\")((?:[a-z]+_)+[a-z]+)\b", path.read_text())
    }
    named = {
        f"{service}:{operation}"
        for service in services
        for operation in service_model(service).operation_names
        if xform_name(operation) in words
    }
    assert {"codecommit:CreateCommit", "sagemaker:DeleteModelPackage", "sqs:SendMessage"} <= named
    allowed = {one.split(":")[1] for one in named if allowing(one, "SeedPolicy")}
    assert {one for one in named if one.split(":")[1] not in allowed} == set()


def test_the_seed_function_reads_the_git_hosts_token_and_no_other_secret() -> None:
    policy = template.policies(template.resolved(WRITTEN, ON_GITHUB))["SeedPolicy"]["Statement"]
    (reads,) = [one for one in policy if "secretsmanager:GetSecretValue" in as_list(one["Action"])]
    assert reads["Resource"] == SECRET
    assert not allowing("secretsmanager:GetSecretValue", "SeedPolicy")  # CodeCommit needs none


def test_the_seed_function_knows_the_buckets_that_projects_may_keep_artifacts_in() -> None:
    own = template.resolved(WRITTEN, {"CodeBucket": "code"})["SeedFunction"]["Properties"]["Environment"]["Variables"]
    others = RESOURCES["SeedFunction"]["Properties"]["Environment"]["Variables"]["ARTIFACT_BUCKETS"].split(",")
    assert others == [own["ARTIFACT_BUCKETS"], *VALUES["ArtifactBuckets"].split(",")]
    kept = VALUES | {"ExistingArtifactBucket": "mine"}
    told = template.resolved(WRITTEN, kept)["SeedFunction"]["Properties"]["Environment"]["Variables"]
    assert told["ARTIFACT_BUCKETS"].split(",")[0] == "mine"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "none"),
        ({"DataBuckets": "a,b"}, "a,b"),
        ({"BatchBuckets": "c"}, "c"),
        ({"DataBuckets": "a,b", "BatchBuckets": "c,d"}, "a,b,c,d"),
    ],
)
def test_the_seed_function_knows_what_projects_may_read_besides(given: dict[str, str], told: str) -> None:
    seed = template.resolved(WRITTEN, {"CodeBucket": "code"} | given)["SeedFunction"]
    assert seed["Properties"]["Environment"]["Variables"]["DATA_BUCKETS"] == told


def test_and_the_buckets_of_the_platforms_own_files() -> None:
    for kept in ({}, {"ExistingTemplateBucket": "templates", "ExistingBuildBucket": "builds"}):
        resources = template.resolved(WRITTEN, VALUES | kept)
        of_parameters = {one["Properties"]["Name"]: one for one in resources.values() if "SSM" in one["Type"]}
        told = resources["SeedFunction"]["Properties"]["Environment"]["Variables"]["PLATFORM_BUCKETS"].split(",")
        names = [of_parameters[f"/modelyard/{kind}-bucket"]["Properties"]["Value"] for kind in ("template", "build")]
        assert told == names


def test_a_function_in_a_vpc_is_made_after_the_policy_that_lets_lambda_attach_it() -> None:
    """Lambda refuses to make a function in a VPC whose role may not make network interfaces by then."""
    functions = {
        name: resource["DependsOn"]
        for name, resource in WRITTEN["Resources"].items()
        if resource["Type"] == "AWS::Lambda::Function" and "VpcConfig" in resource["Properties"]
    }
    assert set(functions) == {"SeedFunction", "CommitStatusFunction", "CleanFunction"}
    for name, waits_for in functions.items():
        policy = name.replace("Function", "Policy")
        assert policy in waits_for
        assert "ec2:CreateNetworkInterface" in json.dumps(WRITTEN["Resources"][policy])
        assert WRITTEN["Resources"][policy]["Properties"]["Roles"] == [{"Ref": name.replace("Function", "Role")}]


def test_in_a_vpc_lambda_may_attach_the_seed_function_and_its_code_may_not() -> None:
    networks = {"VpcSubnetIds": "subnet-1,subnet-2", "VpcSecurityGroupIds": "sg-1"}
    resources = template.resolved(WRITTEN, ON_GITHUB | networks)
    assert resources["SeedFunction"]["Properties"]["VpcConfig"] == {
        "SubnetIds": ["subnet-1", "subnet-2"],
        "SecurityGroupIds": ["sg-1"],
    }
    by_effect = {
        one["Effect"]: one["Action"]
        for one in template.policies(resources)["SeedPolicy"]["Statement"]
        if str(one["Action"]).count("ec2:")
    }
    assert set(by_effect) == {"Allow", "Deny"}
    assert "VpcConfig" not in RESOURCES["SeedFunction"]["Properties"]


# --- the Git host


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        ("https://github.com", "token.actions.githubusercontent.com"),
        ("https://git.example.com", "git.example.com/_services/token"),
    ],
)
def test_githubs_tokens_are_trusted_by_the_provider_of_its_address(base_url: str, host: str) -> None:
    resources = template.resolved(WRITTEN, ON_GITHUB | {"GitBaseUrl": base_url})
    assert resources["OidcProvider"]["Properties"]["Url"] == f"https://{host}" == account.oidc_url(base_url)
    assert resources["OidcHostParameter"]["Properties"]["Value"] == host


def test_an_accounts_own_provider_is_used_instead_of_made() -> None:
    existing = "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"
    resources = template.resolved(WRITTEN, ON_GITHUB | {"ExistingOidcProviderArn": existing})
    assert "OidcProvider" not in resources
    assert resources["OidcProviderParameter"]["Properties"]["Value"] == existing


def test_codecommit_needs_no_provider_owner_or_token() -> None:
    assert "OidcProvider" not in RESOURCES
    values = {one["Name"]: one["Value"] for one in of_type("AWS::SSM::Parameter").values()}
    of_git = {name: value for name, value in values.items() if name.startswith("/modelyard/git/")}
    assert of_git.pop("/modelyard/git/host") == "codecommit"
    assert set(of_git.values()) == {"none"}


# --- the boundary of projects


BOUNDARIES = ("ProjectBoundary", "DeliveryBoundary")
# What stands for several actions in a boundary, and which these are.
PATTERNS = {
    "sagemaker:*HyperParameterTuningJob": "Create Delete Describe ListTrainingJobsFor Stop",
    "sagemaker:*Pipeline": "Create Delete Describe Update",
    "sagemaker:*PipelineExecution": "Describe Retry Start Stop Update",
    "sagemaker:*ProcessingJob": "Create Delete Describe Stop",
    "sagemaker:*TrainingJob": "Create Delete Describe Stop Update",
    "sagemaker:DescribeEndpoint*": " Config",
    "sagemaker:DescribeModelPackage*": " Group",
    "sagemaker:ListPipelineExecution*": "s Steps",
    "scheduler:*Schedule": "Create Delete Get Update",
    "ssm:GetParameter*": " History s sByPath",
    "codepipeline:GetPipeline*": " Execution State",
    "codepipeline:List*Executions": "Action Pipeline Rule",
    "ec2:CreateNetworkInterface*": " Permission",
    "ec2:DeleteNetworkInterface*": " Permission",
}


def test_the_boundary_allows_no_change_of_iam() -> None:
    allowed = {action for name in BOUNDARIES for action in boundary_actions(name)}
    assert {action for action in allowed if action.startswith("iam:")} == {"iam:GetRole", "iam:PassRole"}
    assert {action for action in allowed if "*" in action} == PATTERNS.keys()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_of_the_boundary_stands_for_no_more_than_it_did_when_it_was_written(pattern: str) -> None:
    service, _, name = pattern.partition(":")
    known = lint_resources.definition()[service]["privileges"]
    meant = {name.replace("*", part) for part in PATTERNS[pattern].split(" ")}
    assert {action for action in known if fnmatch.fnmatchcase(action, name)} == meant


def boundary_actions(name: str) -> set[str]:
    return {action for each in statements(name) if each["Effect"] == "Allow" for action in each["Action"]}


def test_the_boundary_reads_and_writes_only_buckets_that_the_administrator_named() -> None:
    own = "arn:*:s3:::modelyard-artifacts-111122223333-eu-west-1/*"
    named = {"arn:*:s3:::my-artifacts/*", "arn:*:s3:::team-*-artifacts/*", "arn:*:s3:::my-data/*"}

    def on(action: str) -> set[str]:
        return {resource for each in allowing(action, "ProjectBoundary") for resource in each["Resource"]}

    handed_on = "arn:*:s3:::modelyard-builds-111122223333-eu-west-1/*"
    assert on("s3:PutObject") == {own, *named}
    assert on("s3:GetObject") == {own, *named, "arn:*:s3:::more-data/*", handed_on}
    (of_deliveries,) = [each for each in statements("DeliveryBoundary") if "s3:PutObject" in each["Action"]]
    assert of_deliveries["Resource"] == [handed_on]


def test_within_the_boundary_nobody_approves_or_lets_a_group_approve_by_itself() -> None:
    denied = {action for each in statements("ProjectBoundary") if each["Effect"] == "Deny" for action in each["Action"]}
    assert denied == {"sagemaker:CreateModelPackage", "sagemaker:AddTags"}
    assert not allowing("sagemaker:UpdateModelPackage", "ProjectBoundary")


@pytest.mark.parametrize("name", ["project", "delivery"])
def test_an_accounts_own_boundary_takes_its_place(name: str) -> None:
    (parameter,) = [
        one for one in of_type("AWS::SSM::Parameter").values() if one["Name"] == f"/modelyard/policies/{name}-boundary"
    ]
    assert parameter["Value"] == VALUES["ProjectPermissionsBoundaryArn"]


def test_what_bounds_the_platforms_own_roles_bounds_no_project() -> None:
    """It must let functions and the launch role do what they do; a project would have the same."""
    values = {name: value for name, value in VALUES.items() if name != "ProjectPermissionsBoundaryArn"}
    resources = template.resolved(WRITTEN, values)
    for name in ("Project", "Delivery"):
        value = resources[f"{name}BoundaryParameter"]["Properties"]["Value"]
        assert value == f"arn:aws:iam::111122223333:policy/modelyard-{name.lower()}-boundary-eu-west-1"


def test_roles_of_projects_may_keep_the_platforms_boundaries_when_an_account_has_its_own() -> None:
    ours = [f"arn:aws:iam::111122223333:policy/modelyard-{name}-boundary-eu-west-1" for name in ("project", "delivery")]
    without = template.resolved(WRITTEN, VALUES | {"ProjectPermissionsBoundaryArn": ""})["ProjectBoundariesParameter"]
    assert without["Properties"]["Value"].split(",") == ours
    own = RESOURCES["ProjectBoundariesParameter"]["Properties"]["Value"].split(",")
    assert own == [*ours, VALUES["ProjectPermissionsBoundaryArn"]]


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_stack_that_is_deleted_under_projects_fails_before_what_deletes_projects_is_gone(boundary: str) -> None:
    """What a resource needs, by DependsOn or by reference, is deleted after it."""
    needed = needs(boundary)
    assert {"SeedFunction", "SeedPolicy", "SeedRole", "SeedLogs", "EventQueue"} <= needed
    assert {"DeployEventSource", "DeployFunction", "DeployRole", "ServingPolicy", "Ledger", "PlatformKey"} <= needed


def needs(name: str) -> set[str]:
    """What CloudFormation makes before a resource."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        resource = WRITTEN["Resources"][waiting.pop()]
        text = json.dumps(resource.get("Properties", {}))
        named = set(as_list(resource.get("DependsOn", [])))
        for reference in (r'"Ref": "(\w+)"', r'"Fn::GetAtt": \["(\w+)"', r"\$\{(\w+)[.}]"):
            named |= set(re.findall(reference, text))
        new = (named & WRITTEN["Resources"].keys()) - found
        found |= new
        waiting += new
    return found


def test_the_controller_may_change_nothing_that_its_plans_never_ask_for() -> None:
    """But for what AWS does in the course of these calls, with its caller's rights."""
    in_their_course = {
        "sagemaker:AddTags",
        "sagemaker:UpdateEndpointWeightsAndCapacities",
        "sagemaker:UpdateModelPackage",
        "application-autoscaling:TagResource",
        "cloudwatch:TagResource",
        "iam:PassRole",
        "iam:CreateServiceLinkedRole",
        "kms:CreateGrant",
        "kms:DescribeKey",
    }
    incidents = {"cloudwatch:GetMetricData", "s3:PutObject", "kms:GenerateDataKey"}
    allowed = {action for each in statements("ServingPolicy", "WatchingPolicy") for action in each["Action"]}
    assert allowed - in_their_course - incidents == calls_of_the_controller()


def test_only_model_roles_of_one_path_and_the_schedules_role_are_passed() -> None:
    passed = {
        (resource, statement["Condition"]["StringEquals"]["iam:PassedToService"])
        for statement in allowing("iam:PassRole")
        for resource in statement["Resource"]
    }
    assert passed == {
        ("arn:aws:iam::111122223333:role/modelyard/models/*", "sagemaker.amazonaws.com"),
        ("arn:aws:iam::111122223333:role/modelyard/modelyard-schedule-eu-west-1", "scheduler.amazonaws.com"),
    }


def test_the_roles_that_may_be_passed_are_no_role_of_the_platform_itself() -> None:
    roles = of_type("AWS::IAM::Role")
    in_path = {name for name, role in roles.items() if role["Path"].startswith("/modelyard/models/")}
    assert in_path == {"ModelRole"}


def test_the_controller_approves_only_where_the_group_allows_it() -> None:
    for statement in allowing("sagemaker:UpdateModelPackage", "ServingPolicy"):
        condition = statement["Condition"]
        never = condition.get("StringNotEquals", {}).get("sagemaker:ModelApprovalStatus") == "Approved"
        automatic = condition.get("StringEquals", {}).get("aws:ResourceTag/modelyard:approval") == "automatic"
        assert never or automatic


@pytest.mark.parametrize(
    ("group", "tagged", "status", "may"),
    [
        ("churn-champion", {"modelyard:project": "churn"}, "PendingManualApproval", True),
        ("churn-challenger", {"modelyard:project": "churn"}, "PendingManualApproval", True),
        ("churn-champion", {"modelyard:project": "churn"}, "Approved", False),
        ("churn-prod", {"modelyard:project": "churn"}, "PendingManualApproval", False),
        ("somebody-elses-champion", {}, "PendingManualApproval", False),
    ],
)
def test_who_approves_for_all_projects_copies_in_groups_of_projects_alone(
    group: str, tagged: dict[str, str], status: str, may: bool
) -> None:
    asked: dict[str, Any] = {"": {"sagemaker:ModelApprovalStatus": status}}
    policies = [template.policies(RESOURCES)["ApproverPolicy"]]
    answers = [
        allowed(policies, "sagemaker:CreateModelPackage", f"model-package-group/{group}", tags=tagged, **asked),
        allowed(policies, "sagemaker:CreateModelPackage", f"model-package/{group}/7", **asked),
    ]
    assert all(answers) is may


def test_ci_and_pipelines_are_denied_setting_approved() -> None:
    never = statements("DenyApprovalPolicy")[0]
    assert never["Effect"] == "Deny"
    assert set(never["Action"]) == {"sagemaker:CreateModelPackage", "sagemaker:UpdateModelPackage"}
    assert never["Resource"] == ["*"]
    assert never["Condition"] == {"StringEquals": {"sagemaker:ModelApprovalStatus": "Approved"}}


@pytest.mark.parametrize("action", ["CreateModelPackage", "UpdateModelPackage"])
def test_nor_writing_how_the_endpoint_tests_of_a_version_went(action: str) -> None:
    """Promotion believes that stamp, which is the controller's to write."""
    everything = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    policies = [everything, template.policies(RESOURCES)["DenyApprovalPolicy"]]
    for stamp, may in (("passed", False), ("failed", False), (None, True)):
        asked = {"sagemaker:ModelApprovalStatus": "PendingManualApproval"}
        asked |= {} if stamp is None else {"sagemaker:CustomerMetadataProperties/tests.status": stamp}
        answer = allowed(policies, f"sagemaker:{action}", "model-package/churn-dev/7", **{"": asked})
        assert answer is may


def test_they_cannot_let_a_group_approve_by_itself_either() -> None:
    group = statements("DenyApprovalPolicy")[1]
    assert group["Effect"] == "Deny"
    assert "sagemaker:AddTags" in group["Action"]
    assert "modelyard:approval" in group["Condition"]["ForAnyValue:StringEquals"]["aws:TagKeys"]


def test_the_plan_function_only_reads() -> None:
    for statement in statements("LookingPolicy", "PlanPolicy"):
        for action in statement["Action"]:
            verb = action.split(":")[1]
            assert verb.startswith((*READING, "Decrypt")) or action.startswith("logs:"), action


def test_nobody_may_delete_from_the_ledger() -> None:
    assert allowing("dynamodb:DeleteItem") == []
    assert allowing("dynamodb:DeleteTable") == []


def test_only_the_alarms_that_the_controller_names_can_be_put_by_it() -> None:
    (put,) = [one for one in allowing("cloudwatch:PutMetricAlarm") if one["Sid"] == "PutTaggedAlarms"]
    patterns = [resource.rpartition(":alarm:")[2] for resource in put["Resource"]]

    def allowed(alarm: str) -> bool:
        return any(fnmatch.fnmatchcase(alarm, pattern) for pattern in patterns)

    for stage in ("feature", "dev", "prod", "champion", "challenger"):
        endpoint = f"churn-{stage}"
        assert all(map(allowed, names.standing_alarms(endpoint)))
        assert all(allowed(names.rollback_alarm(endpoint, 12, kind)) for kind in names.ALARM_KINDS)
        assert allowed(names.abort_alarm(names.numbered(endpoint, 12)))
    assert not allowed("payments-errors")


def test_services_are_trusted_for_this_account_alone() -> None:
    """Lambda's functions are this account's by nature: https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html"""
    for name, role in of_type("AWS::IAM::Role").items():
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        if statement["Principal"] != {"Service": "lambda.amazonaws.com"}:
            assert statement["Condition"]["StringEquals"]["aws:SourceAccount"] == "111122223333", name


def test_a_permissions_boundary_bounds_every_role() -> None:
    bounds = {role.get("PermissionsBoundary") for role in of_type("AWS::IAM::Role").values()}
    assert bounds == {"arn:aws:iam::111122223333:policy/boundary"}


def test_without_optional_parameters_nothing_is_left_of_them() -> None:
    bare = template.resolved(WRITTEN, {name: VALUES[name] for name in ("CodeBucket", "CodeKey", "SeedCodeKey")})
    text = json.dumps(bare)
    for value in ("my-data", "my-artifacts", "secretsmanager", "policy/boundary", "team@example.com"):
        assert value not in text
    assert not any("PermissionsBoundary" in resource["Properties"] for resource in bare.values())
    empty = [one for one in template.policies(bare).values() for each in one["Statement"] if not each["Resource"]]
    assert empty == []


@pytest.mark.parametrize("policy", sorted(of_type("AWS::IAM::ManagedPolicy")))
def test_a_managed_policy_is_not_longer_than_iam_takes(policy: str) -> None:
    """6,144 characters without white space: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html

    With as much as somebody may reasonably give: ten buckets and five keys.
    """
    many = VALUES | {
        "ArtifactBuckets": ",".join(f"artifact-bucket-of-team-number-{number}" for number in range(10)),
        "DataBuckets": ",".join(f"data-bucket-of-team-number-{number}" for number in range(5)),
        "ProjectKmsKeyArns": ",".join([KEY] * 5),
    }
    document = template.resolved(WRITTEN, many)[policy]["Properties"]["PolicyDocument"]
    assert longest_anywhere(document) <= 6144


def test_models_read_the_artifact_buckets_and_write_only_what_they_capture() -> None:
    def on(action: str) -> set[str]:
        return {resource for each in allowing(action, "ModelRole/serve") for resource in each["Resource"]}

    buckets = ("modelyard-artifacts-111122223333-eu-west-1", "my-artifacts", "team-*-artifacts")
    artifacts = {f"arn:*:s3:::{bucket}/*" for bucket in buckets}
    captured = {f"arn:*:s3:::{bucket}/*/captured/*" for bucket in buckets}
    assert on("s3:GetObject") == artifacts | {"arn:*:s3:::my-data/*"}
    assert on("s3:PutObject") == captured | {"arn:*:s3:::my-data/*"}


# --- what is kept


@pytest.mark.parametrize(
    ("kept", "policy"),
    [
        # A creation that fails leaves the ledger, which is protected, and so its key.
        *((name, "Retain") for name in ("Ledger", "PlatformKey", "PlatformKeyAlias")),
        # It leaves no bucket that it could not finish: the next would use it as it is.
        *(
            (f"{name}Bucket{part}", "RetainExceptOnCreate")
            for name in ("Artifact", "Template", "Build")
            for part in ("", "Policy")
        ),
    ],
)
def test_the_ledger_its_key_and_the_buckets_outlive_the_platform(kept: str, policy: str) -> None:
    assert RESOURCES[kept]["DeletionPolicy"] == policy
    assert RESOURCES[kept]["UpdateReplacePolicy"] == "Retain"


@pytest.mark.parametrize(("parameter", "rules"), bucket.LIFECYCLES.items())
def test_a_bucket_that_was_left_without_a_lifecycle_gets_the_one_of_the_template(
    parameter: str, rules: list[dict[str, Any]]
) -> None:
    of_template = RESOURCES[parameter.removeprefix("Existing")]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert [as_put(rule) for rule in of_template] == rules


def as_put(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule of a template as PutBucketLifecycleConfiguration takes it."""
    made = {"ID": rule["Id"], "Filter": {"Prefix": ""}, **{name: rule[name] for name in rule if name != "Id"}}
    expiration = {}
    if "ExpirationInDays" in made:
        expiration["Days"] = made.pop("ExpirationInDays")
    if "ExpiredObjectDeleteMarker" in made:
        expiration["ExpiredObjectDeleteMarker"] = made.pop("ExpiredObjectDeleteMarker")
    if "NoncurrentVersionTransitions" in made:
        made["NoncurrentVersionTransitions"] = [
            {"StorageClass": one["StorageClass"], "NoncurrentDays": one["TransitionInDays"]}
            for one in made["NoncurrentVersionTransitions"]
        ]
    return made | ({"Expiration": expiration} if expiration else {})


def test_the_ledger_can_be_restored_and_is_encrypted_by_the_platforms_key() -> None:
    ledger = RESOURCES["Ledger"]["Properties"]
    assert ledger["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert ledger["DeletionProtectionEnabled"] is True
    assert ledger["SSESpecification"] == {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": KEY}
    assert ledger["TableName"] == account.LEDGER_TABLE


@pytest.mark.parametrize("name", ["ArtifactBucket", "TemplateBucket", "BuildBucket"])
def test_a_bucket_is_private_encrypted_versioned_and_forgets_what_is_not_needed(name: str) -> None:
    bucket = RESOURCES[name]["Properties"]
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    rules = {rule["Id"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"]}
    if name == "BuildBucket":
        assert rules["what-was-handed-on"]["ExpirationInDays"] == 30  # an approval waits for seven at most
        assert rules["what-was-handed-on"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    else:
        assert rules["what-was-overwritten"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 365}
        assert rules["what-was-overwritten"]["ExpiredObjectDeleteMarker"] is True
    (statement,) = RESOURCES[f"{name}Policy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


@pytest.mark.parametrize("name", ["Artifact", "Template", "Build"])
def test_a_bucket_that_is_there_is_used_instead_of_made(name: str) -> None:
    resources = template.resolved(WRITTEN, VALUES | {f"Existing{name}Bucket": "theirs"})
    assert not {f"{name}Bucket", f"{name}BucketPolicy"} & resources.keys()
    assert resources[f"{name}BucketParameter"]["Properties"]["Value"] == "theirs"


def test_what_an_earlier_installation_left_is_used_instead_of_made() -> None:
    existing = KEY.replace("1111222", "9999000")
    again = template.resolved(WRITTEN, VALUES | {"ExistingLedgerTable": "restored", "ExistingKmsKeyArn": existing})
    assert not {"Ledger", "PlatformKey", "PlatformKeyAlias"} & set(again)
    text = json.dumps(again)
    assert "table/restored" in text
    assert existing in text
    assert KEY not in json.dumps(template.policies(again)["LookingPolicy"]["Statement"][1])
    assert again["DeployFunction"]["Properties"]["Environment"]["Variables"]["LEDGER_TABLE"] == "restored"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_functions_log_is_made_encrypted_and_does_not_grow_for_ever(name: str) -> None:
    logs = {one["LogGroupName"]: one for one in of_type("AWS::Logs::LogGroup").values()}
    group = logs[f"/aws/lambda/modelyard-{name}"]
    assert group["RetentionInDays"] == "90"
    assert group["KmsKeyId"] == KEY
    # Neither the functions' roles nor the operators: a group that was deleted does not come back.
    assert allowing("logs:CreateLogGroup") == allowing("logs:CreateLogGroup", "ModelRole/serve")


# --- the parts fit together


@pytest.mark.parametrize("name", ["deploy", "plan", "batch"])
def test_a_function_finds_its_settings_in_its_environment(name: str) -> None:
    settings = Settings.from_environment(function(name)["Environment"]["Variables"])
    assert settings.batch_function_arn == "arn:aws:lambda:eu-west-1:111122223333:function:modelyard-batch"
    assert settings.default_model_role == "modelyard-model-eu-west-1"
    assert settings.model_role_path == RESOURCES["ModelRole"]["Properties"]["Path"]


def test_the_command_line_finds_the_same_settings_in_parameters() -> None:
    parameters = {one["Name"]: one["Value"] for one in of_type("AWS::SSM::Parameter").values()}
    environment = function("deploy")["Environment"]["Variables"]
    for field in fields(Settings):
        if field.name != "webhook_secret_arn":
            assert parameters[PARAMETER_PATH + field.name.replace("_", "-")] == environment[field.name.upper()]
    assert parameters["/modelyard/webhook-secret-arn"] == VALUES["WebhookSecretArn"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_functions_arn_is_published(name: str) -> None:
    parameters = {one["Name"]: one["Value"] for one in of_type("AWS::SSM::Parameter").values()}
    assert (
        parameters[f"/modelyard/functions/{name}"] == f"arn:aws:lambda:eu-west-1:111122223333:function:modelyard-{name}"
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_functions_handler_is_there(name: str) -> None:
    module, _, attribute = function(name)["Handler"].rpartition(".")
    path = Path(account.__file__).parent.parent / f"{module.replace('.', '/')}.py"
    assert f"def {attribute}(" in path.read_text()


def test_messages_stay_hidden_six_times_as_long_as_the_function_may_take() -> None:
    assert RESOURCES["EventQueue"]["Properties"]["VisibilityTimeout"] >= 6 * function("deploy")["Timeout"]


def test_one_message_that_fails_does_not_take_the_others_with_it() -> None:
    sources = of_type("AWS::Lambda::EventSourceMapping")
    assert set(sources) == {"DeployEventSource", "CommitStatusEventSource", "EndpointTestsEventSource"}
    for source in sources.values():
        assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert source["MaximumBatchingWindowInSeconds"] == 0
    for queue in ("EventQueue", "CommitStatusQueue", "EndpointTestsQueue"):
        assert RESOURCES[queue]["Properties"]["RedrivePolicy"]["deadLetterTargetArn"].endswith(":modelyard-failed")


def test_a_queue_hides_a_message_for_six_times_as_long_as_its_function_may_run() -> None:
    for queue, function in (
        ("EventQueue", "DeployFunction"),
        ("CommitStatusQueue", "CommitStatusFunction"),
        ("EndpointTestsQueue", "EndpointTestsFunction"),
    ):
        assert RESOURCES[queue]["Properties"]["VisibilityTimeout"] == 6 * RESOURCES[function]["Properties"]["Timeout"]


def test_the_ends_of_executions_alone_reach_the_function_that_tells_commits() -> None:
    rule = RESOURCES["ExecutionRule"]["Properties"]
    assert rule["EventPattern"]["source"] == ["aws.sagemaker"]
    assert rule["EventPattern"]["detail"] == {
        "currentPipelineExecutionStatus": ["Executing", "Succeeded", "Failed", "Stopped"]
    }
    (target,) = rule["Targets"]
    assert target["Arn"].endswith(":modelyard-commit-status")
    assert target["DeadLetterConfig"]["Arn"].endswith(":modelyard-failed")
    allowed, denied = RESOURCES["CommitStatusQueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert allowed["Condition"]["ArnEquals"]["aws:SourceArn"].endswith(":rule/modelyard-executions")
    assert denied["Effect"] == "Deny"


def test_whoever_tells_commits_reads_evaluations_and_nothing_else_of_the_buckets() -> None:
    document = RESOURCES["CommitStatusPolicy"]["Properties"]["PolicyDocument"]
    reads = [each for each in document["Statement"] if "s3:GetObject" in each["Action"]]
    assert {resource.partition("/")[2] for each in reads for resource in each["Resource"]} == {"*/evaluate/*"}
    writes = [action for each in document["Statement"] for action in each["Action"] if "codecommit:Post" in action]
    assert writes == ["codecommit:PostCommentForComparedCommit"]


def test_the_queue_takes_messages_from_the_platforms_rules_alone() -> None:
    rules = of_type("AWS::Events::Rule")
    to_queue = {
        f"arn:aws:events:eu-west-1:111122223333:rule/{rule['Name']}"
        for rule in rules.values()
        if rule["Targets"][0]["Arn"].endswith(":modelyard-events")
    }
    allowed, denied = RESOURCES["QueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert allowed["Principal"] == {"Service": "events.amazonaws.com"}
    assert set(allowed["Condition"]["ArnEquals"]["aws:SourceArn"]) == to_queue
    assert denied["Effect"] == "Deny"
    assert len(to_queue) == 5


def test_it_looks_every_minute_at_what_is_under_way_and_every_ten_at_everything() -> None:
    schedules = {
        rule["ScheduleExpression"]: json.loads(rule["Targets"][0]["Input"])
        for rule in of_type("AWS::Events::Rule").values()
        if "ScheduleExpression" in rule and rule["Targets"][0]["Arn"].endswith(":modelyard-events")
    }
    assert schedules == {"rate(1 minute)": {"look": "under-way"}, "rate(10 minutes)": {"look": "everything"}}


def test_every_five_minutes_one_message_asks_which_scheduled_endpoint_tests_are_due() -> None:
    rule = RESOURCES["EndpointTestsRule"]["Properties"]
    assert rule["ScheduleExpression"] == "rate(5 minutes)"
    (target,) = rule["Targets"]
    assert target["Arn"].endswith(":modelyard-tests")
    assert "Input" not in target  # the event's own time says which are due


def test_endpoint_tests_have_as_long_as_projects_are_told() -> None:
    seconds = RESOURCES["EndpointTestsFunction"]["Properties"]["Timeout"]
    assert seconds - endpoint_testing.SPARE - endpoint_checks.LONGEST_ANSWER == endpoint_checks.PLATFORM_SECONDS


def test_the_rule_for_jobs_that_answer_endpoint_tests_passes_their_names() -> None:
    (name,) = RESOURCES["TestJobRule"]["Properties"]["EventPattern"]["detail"]["TransformJobName"]
    at = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
    run = TestRun("churn-dev", 12, "", "deployed", "due", "report", at)
    assert batch_testing.name_of(run).endswith(name["suffix"])
    assert batch_testing.run_of(batch_testing.name_of(run)) == (run.endpoint, run.key)


def test_whoever_tests_endpoints_reads_what_was_evaluated_and_answered_and_writes_results_alone() -> None:
    document = RESOURCES["EndpointTestsPolicy"]["Properties"]["PolicyDocument"]
    places: dict[str, set[str]] = {}
    for each in document["Statement"]:
        for action in as_list(each["Action"]):
            if action.startswith("s3:"):
                places.setdefault(action, set()).update(one.partition("/")[2] for one in each["Resource"])
    answers = "*/captured/*/endpoint-tests/*"
    assert places == {"s3:GetObject": {"*/evaluate/*", answers}, "s3:PutObject": {"*/endpoint-tests/*"}}


def test_the_alarms_rule_passes_the_controllers_alarms() -> None:
    patterns = RESOURCES["AlarmRule"]["Properties"]["EventPattern"]["detail"]["alarmName"]
    suffixes = tuple(pattern["suffix"] for pattern in patterns)
    endpoint = "churn-prod"
    ours = [*names.standing_alarms(endpoint), names.abort_alarm("churn-prod-12")]
    ours += [names.rollback_alarm(endpoint, 12, kind) for kind in names.ALARM_KINDS]
    assert all(alarm.endswith(suffixes) for alarm in ours)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_fails_is_told(name: str) -> None:
    watched = {
        dimension["Value"]
        for alarm in of_type("AWS::CloudWatch::Alarm").values()
        if alarm["MetricName"] == "Errors"
        for dimension in alarm["Dimensions"]
    }
    assert f"modelyard-{name}" in watched


def test_a_function_that_answers_which_messages_failed_has_an_alarm_of_its_own_for_them() -> None:
    """To Lambda such an answer is a success. What the alarm watches the functions write: tests/lifecycle_lambdas."""
    sources = of_type("AWS::Lambda::EventSourceMapping").values()
    answering = {one["FunctionName"] for one in sources if "ReportBatchItemFailures" in one["FunctionResponseTypes"]}
    alarms = {alarm["AlarmName"] for alarm in of_type("AWS::CloudWatch::Alarm").values()}
    assert {f"{name}-retrying" for name in answering} == {name for name in alarms if name.endswith("-retrying")}
    assert answering == {f"modelyard-{handler.FUNCTION}" for handler in BEHIND_QUEUES}


@pytest.mark.parametrize("handler", BEHIND_QUEUES)
def test_a_cause_that_lasts_is_told_after_a_quarter_of_an_hour_and_one_slow_failure_is_not(handler: Any) -> None:
    name = f"modelyard-{handler.FUNCTION}"
    (alarm,) = (one for one in of_type("AWS::CloudWatch::Alarm").values() if one["AlarmName"] == f"{name}-retrying")
    (function,) = (one for one in of_type("AWS::Lambda::Function").values() if one["FunctionName"] == name)
    (source,) = (one for one in of_type("AWS::Lambda::EventSourceMapping").values() if one["FunctionName"] == name)
    queues = {one["QueueName"]: one for one in of_type("AWS::SQS::Queue").values()}
    most = queues[source["EventSourceArn"].rpartition(":")[2]]["RedrivePolicy"]["maxReceiveCount"]
    tries = [0]  # seconds after the first one, of a message that fails at once
    while len(tries) < most:
        record = {"attributes": {"ApproximateReceiveCount": str(len(tries))}}
        tries.append(tries[-1] + retries.seconds_until(record, handler.FIRST_RETRY, handler.LAST_RETRY))
    told = next(seconds for seconds in tries if seconds > alarm["Threshold"])
    assert told <= 16 * 60
    assert alarm["Threshold"] >= 2 * function["Timeout"]
    assert (alarm["Period"], alarm["DatapointsToAlarm"]) == (60, 1)


def test_every_alarm_tells_the_topic() -> None:
    topic = "arn:aws:sns:eu-west-1:111122223333:modelyard-deployments"
    for alarm in of_type("AWS::CloudWatch::Alarm").values():
        assert alarm["AlarmActions"] == [topic]
        assert alarm["TreatMissingData"] == "notBreaching"


def test_the_dashboard_is_one_that_cloudwatch_takes_and_shows_every_alarm_function_and_queue() -> None:
    (dashboard,) = of_type("AWS::CloudWatch::Dashboard").values()
    body = dashboard["DashboardBody"]
    assert dashboards.faults(body) == []
    widgets = json.loads(body)["widgets"]
    shown = [arn.rpartition(":")[2] for widget in widgets for arn in widget["properties"].get("alarms", [])]
    assert sorted(shown) == sorted(alarm["AlarmName"] for alarm in of_type("AWS::CloudWatch::Alarm").values())
    values = {
        value
        for widget in widgets
        for metric in widget["properties"].get("metrics", [])
        for value in metric[2:]
        if isinstance(value, str)
    }
    assert {one["FunctionName"] for one in of_type("AWS::Lambda::Function").values()} <= values
    assert {one["QueueName"] for one in of_type("AWS::SQS::Queue").values()} <= values


def test_the_dashboard_shows_only_kinds_of_messages_that_there_are() -> None:
    """A kind that is written otherwise here than in the code would be a line that is always flat."""
    (dashboard,) = of_type("AWS::CloudWatch::Dashboard").values()
    shown = {
        (metric[0], metric[1], metric[2])
        for widget in json.loads(dashboard["DashboardBody"])["widgets"]
        for metric in widget["properties"].get("metrics", [])
        if metric[0] == metrics.NAMESPACE
    }
    assert shown == {
        (metrics.NAMESPACE, metrics.MESSAGES, metrics.KIND),
        (metrics.NAMESPACE, metrics.DEPLOYMENTS, metrics.KIND),
        (metrics.NAMESPACE, metrics.UNFINISHED, metrics.FUNCTION),
        (metrics.NAMESPACE, metrics.FAILING, metrics.FUNCTION),
    }
    kinds = {
        metric[3]
        for widget in json.loads(dashboard["DashboardBody"])["widgets"]
        for metric in widget["properties"].get("metrics", [])
        if metric[1] == metrics.MESSAGES
    }
    # what a person does is told by the command line, whose lines CloudWatch does not read
    assert kinds <= set(messages.MARKS) - {"go-back", "parked"}
    assert {"approved", "deployed", "failed", "went-back", "tests-failed", "stuck"} <= kinds


@pytest.mark.parametrize("name", ["NotifyInvokeConfig", "BatchInvokeConfig"])
def test_an_event_that_a_function_cannot_answer_is_kept(name: str) -> None:
    failed = RESOURCES["FailedQueue"]
    assert RESOURCES[name]["Properties"]["DestinationConfig"]["OnFailure"]["Destination"].endswith(
        f":{failed['Properties']['QueueName']}"
    )


def test_a_request_to_the_seed_function_is_kept_nowhere() -> None:
    """It holds the signed address with which anybody could answer CloudFormation."""
    assert "DestinationConfig" not in RESOURCES["SeedInvokeConfig"]["Properties"]
    assert "DeadLetterConfig" not in RESOURCES["SeedFunction"]["Properties"]


def test_every_parameter_can_be_given_or_follows_from_what_there_is() -> None:
    assert set(WRITTEN["Parameters"]) == {*install.PLATFORM_PARAMETERS, "CodeBucket", "CodeKey", "SeedCodeKey"}


def test_every_parameter_has_its_place_in_the_console() -> None:
    groups = WRITTEN["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    shown = [name for group in groups for name in group["Parameters"]]
    assert sorted(shown) == sorted(WRITTEN["Parameters"])


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        ("ArtifactBuckets", ["", "my-artifacts", "a.b.c, team-*"], ["UPPER", "with_underscore", "two buckets"]),
        ("DataBuckets", ["", "my-data"], ["s3://my-data"]),
        (
            "GitBaseUrl",
            ["https://github.com", "https://git.example.com:8443/ghe", "http://127.0.0.1:4566/_github"],
            ["", "github.com", "http://git.example.com", "https://github.com/", "https://u:p@git.example.com"],
        ),
        ("GitOwner", ["", "acme", "acme-ml", "a"], ["acme/x", "-a", "a" * 40]),
        ("GitTokenSecretArn", ["", SECRET], ["ghp_0123456789"]),
        ("VpcSubnetIds", ["", "subnet-0a1b2c3d, subnet-4e5f6a7b"], ["vpc-1", "subnet-1;subnet-2"]),
        ("VpcSecurityGroupIds", ["", "sg-0a1b2c3d"], ["default"]),
        ("ExistingArtifactBucket", ["", "mine"], ["s3://mine", "team-*"]),
        ("ExistingTemplateBucket", ["", "mine"], ["s3://mine"]),
        (
            "ExistingOidcProviderArn",
            ["", "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"],
            ["token.actions.githubusercontent.com"],
        ),
        ("SeedCodeKey", ["modelyard/functions/seed-0123456789abcdef.zip"], [""]),
        ("BatchBuckets", ["", "my-data"], ["/path"]),
        ("ProjectKmsKeyArns", ["", KEY, f"{KEY},{KEY}"], ["alias/my-key", "mrk-1"]),
        ("AlertEmail", ["", "team@example.com"], ["team", "team@host", "a b@example.com"]),
        ("WebhookSecretArn", ["", VALUES["WebhookSecretArn"]], ["webhook", "https://hooks.slack.com/services/x"]),
        ("PermissionsBoundaryArn", ["", "arn:aws:iam::aws:policy/PowerUserAccess"], ["PowerUserAccess"]),
        ("ProjectPermissionsBoundaryArn", ["", "arn:aws:iam::aws:policy/PowerUserAccess"], ["PowerUserAccess"]),
        ("ExistingKmsKeyArn", ["", KEY], ["alias/modelyard"]),
        ("ExistingLedgerTable", ["", "modelyard-ledger"], ["my table"]),
        ("CodeBucket", ["modelyard-platform-111122223333-eu-west-1"], ["", "s3://code"]),
        ("CodeKey", ["modelyard/functions/0123456789abcdef.zip"], ["", "functions.tar.gz"]),
    ],
)
def test_a_parameter_takes_what_can_be_and_nothing_else(parameter: str, good: list[str], bad: list[str]) -> None:
    pattern = WRITTEN["Parameters"][parameter]["AllowedPattern"]
    assert all(re.search(pattern, value) for value in good)
    assert not any(re.search(pattern, value) for value in bad)


@pytest.mark.parametrize("parameter", sorted(WRITTEN["Parameters"]))
def test_every_parameter_says_what_it_is_and_refuses_what_it_cannot_be(parameter: str) -> None:
    described = WRITTEN["Parameters"][parameter]
    assert described["Description"]
    assert "AllowedPattern" in described or "AllowedValues" in described
