"""What portfolio.yaml promises: who makes projects, with what, and what somebody gains by a template of his own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from local_aws import ministack_host
from local_aws.permissions import Decision
from local_aws.permissions import cloudformation as cfn
from local_aws.permissions.cloudformation import Change, Question, questions
from local_aws.permissions.decisions import frozen_context
from local_aws.permissions.identities import as_list
from servicecatalog import account, install, product
from tests.servicecatalog import template
from tests.servicecatalog.lengths import longest_anywhere
from tests.servicecatalog.test_administrator_policy import changed

ACCOUNT, REGION = "111122223333", "eu-west-1"
WRITTEN = template.load(account.PORTFOLIO_TEMPLATE)
COMPANY = f"arn:aws:iam::{ACCOUNT}:policy/company"  # bounds the launch role itself
VALUES = {
    "TemplateVersion": "1.2.0-0123456789ab",
    "ProductKey": "projects/modelyard-1.2.0-0123456789ab.yaml",
    "Principal1": "arn:aws:iam:::role/studio-*",
    "PermissionsBoundaryArn": COMPANY,
}
RESOURCES = template.resolved(WRITTEN, VALUES)
POLICIES = template.policies(RESOURCES)
LAUNCH = f"arn:aws:iam::{ACCOUNT}:role/modelyard/modelyard-launch-{REGION}"
BOUNDARY = template.OF_SSM["ProjectBoundaryArn"]
OWN = f"arn:aws:iam::{ACCOUNT}:policy/company-projects"  # an organization's for projects
STACK = "SP-churn-p-0123456789ab"
OUR_TEMPLATES = f"https://s3.{REGION}.amazonaws.com/modelyard-templates-{ACCOUNT}-{REGION}/projects"
PROJECTS = [
    {"SageMakerProjectName": "churn", "SageMakerProjectId": "p-0123456789ab", "GitHost": host, "Scenario": scenario}
    | {"DataBuckets": "my-data", "KmsKeyArns": template.OF_SSM["PlatformKeyArn"]}
    for host in ("codecommit", "github")
    for scenario in ("baseline", "advanced")
]
# What nobody's change of a project asks for, and yet is needed: why.
OF_STACKS = {
    "cloudformation:CreateStack": "Service Catalog makes the stack as this role",
    "cloudformation:DeleteStack": "Service Catalog",
    "cloudformation:DescribeStackEvents": "Service Catalog",
    "cloudformation:DescribeStackResource": "Service Catalog",
    "cloudformation:DescribeStackResources": "Service Catalog",
    "cloudformation:DescribeStacks": "Service Catalog",
    "cloudformation:GetTemplateSummary": "Service Catalog",
    "cloudformation:SetStackPolicy": "Service Catalog",
    "cloudformation:UpdateStack": "Service Catalog",
    "cloudformation:ValidateTemplate": "Service Catalog",
    "s3:GetObject": "Service Catalog reads the template as this role",
    "ssm:GetParameters": "product.yaml's parameters of SSM types",
}


def changes() -> Iterator[Change]:
    """All that CloudFormation may be asked to do with one resource of a project."""
    tags = {"sagemaker:project-name": "churn", "sagemaker:project-id": "p-0123456789ab"}
    for values in PROJECTS:
        for logical_id, resource in template.resolved(template.load(product.TEMPLATE), values).items():
            properties = resource["Properties"]
            change = Change(resource["Type"], "create", logical_id, properties, STACK, ACCOUNT, REGION, stack_tags=tags)
            change = replace(change, look_up=look_up)
            yield change
            yield replace(change, operation="delete")
            if resource["Type"].startswith("Custom::"):
                yield replace(change, operation="update", before=properties)
                continue
            for before, after in changed(properties):
                update = replace(change, operation="update", before=before, properties=after)
                required = set(cfn._schema(change.type).get("required", []))
                if not cfn.replaces(update) and required <= before.keys() & after.keys():
                    yield update


def look_up(kind: str, name: str) -> str | None:
    folder = "pipelines" if "-pipeline" in name else "ci" if "-ci-" in name else "models"
    role = f"arn:aws:iam::{ACCOUNT}:role/modelyard/{folder}/{name}"
    return {"role": role, "role boundary": BOUNDARY, "boundary": BOUNDARY}.get(kind)


@cache
def needed() -> dict[str, Question]:
    return {repr(question): question for change in changes() for question in questions(change)}


def decision(action: str, resource: str, context: Mapping[str, Any] | None = None) -> Decision:
    return Decision(LAUNCH, action, resource, REGION, frozen_context(context or {}), True)


def allows(policy: str, action: str, resource: str, context: Mapping[str, Any] | None = None) -> bool:
    return bool(ministack_host.policies_allow([POLICIES[policy]])(decision(action, resource, context)))


# --- the launch role


def test_the_launch_role_may_do_whatever_a_project_needs() -> None:
    denied = [
        question
        for question in needed().values()
        if not allows("LaunchPolicy", question.action, question.resource, asked_in(question))
        # Every role of a project has a boundary, and keeps one.
        and question.action != "iam:DeleteRolePermissionsBoundary"
        and question.context.get("iam:PermissionsBoundary") != "another"
    ]
    assert not denied


def asked_in(question: Question) -> Mapping[str, Any]:
    """A question's context, with the tags that a project's CodePipeline has when it is changed."""
    if not question.action.startswith("codepipeline:") or "aws:RequestTag/modelyard:project" in question.context:
        return question.context
    return {"aws:ResourceTag/modelyard:project": "churn", **question.context}


def test_and_nothing_that_no_project_needs() -> None:
    granted = {
        action
        for statement in POLICIES["LaunchPolicy"]["Statement"]
        if statement["Effect"] == "Allow"
        for action in as_list(statement["Action"])
    }
    assert granted - {question.action for question in needed().values()} == OF_STACKS.keys()


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        # Roles elsewhere, unbounded, or bounded by something else.
        ("iam:CreateRole", "role/admin", {"iam:PermissionsBoundary": BOUNDARY}),
        ("iam:CreateRole", "role/modelyard/pipelines/x-pipeline-dev", {}),
        ("iam:CreateRole", "role/modelyard/ci/x-ci-dev", {"iam:PermissionsBoundary": "arn:aws:iam::aws:policy/Admin"}),
        ("iam:PutRolePolicy", "role/modelyard/pipelines/x-pipeline-dev", {}),
        ("iam:AttachRolePolicy", "role/modelyard/ci/x-ci-dev", {"iam:PolicyARN": "arn:aws:iam::aws:policy/Admin"}),
        # The boundary's way out.
        ("iam:DeleteRolePermissionsBoundary", "role/modelyard/ci/x-ci-dev", {}),
        ("iam:PutRolePermissionsBoundary", "role/modelyard/ci/x-ci-dev", {}),
        ("iam:PutRolePermissionsBoundary", "role/modelyard/ci/x-ci-dev", {"iam:PermissionsBoundary": COMPANY}),
        ("iam:PutRolePermissionsBoundary", "role/admin", {"iam:PermissionsBoundary": BOUNDARY}),
        ("iam:CreatePolicyVersion", f"policy/modelyard-project-boundary-{REGION}", {}),
        # The platform's own.
        ("iam:PutRolePolicy", f"role/modelyard/modelyard-launch-{REGION}", {"iam:PermissionsBoundary": BOUNDARY}),
        ("iam:UpdateAssumeRolePolicy", f"role/modelyard/modelyard-launch-{REGION}", {}),
        ("iam:UpdateAssumeRolePolicy", f"role/modelyard/modelyard-seed-{REGION}", {}),
        ("iam:UpdateAssumeRolePolicy", f"role/modelyard/models/modelyard-model-{REGION}", {}),
        ("iam:DeleteRole", f"role/modelyard/models/modelyard-model-{REGION}", {}),
        ("iam:CreatePolicyVersion", f"policy/modelyard-approver-{REGION}", {}),
        ("iam:CreatePolicyVersion", f"policy/modelyard-operator-{REGION}", {}),
        ("iam:CreatePolicyVersion", f"policy/modelyard-deny-approval-{REGION}", {}),
        # People.
        ("iam:CreateUser", "user/me", {}),
        (
            "iam:AttachUserPolicy",
            "user/me",
            {"iam:PolicyARN": f"arn:aws:iam::{ACCOUNT}:policy/modelyard-churn-developer"},
        ),
        # Giving roles away.
        ("iam:PassRole", LAUNCH.partition(f"{ACCOUNT}:")[2], {"iam:PassedToService": "lambda.amazonaws.com"}),
        ("iam:PassRole", "role/modelyard/pipelines/x-pipeline-dev", {"iam:PassedToService": "sagemaker.amazonaws.com"}),
        ("iam:PassRole", "role/modelyard/ci/x-ci-dev", {"iam:PassedToService": "lambda.amazonaws.com"}),
        ("iam:PassRole", "role/modelyard/ci/x-ci-retrain", {"iam:PassedToService": "scheduler.amazonaws.com"}),
    ],
)
def test_a_template_of_ones_own_gets_no_way_past_the_boundary(
    action: str, resource: str, context: dict[str, str]
) -> None:
    """Somebody names a template with the launch role: what could make more of it than a bounded role of a project."""
    assert not allows("LaunchPolicy", action, f"arn:aws:iam::{ACCOUNT}:{resource}", context)


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("lambda:InvokeFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:modelyard-deploy"),
        ("lambda:CreateFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:modelyard-x"),
        ("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/modelyard/ci/x-ci-dev"),
        ("events:PutRule", f"arn:aws:events:{REGION}:{ACCOUNT}:rule/modelyard-model-packages"),
        ("events:PutTargets", f"arn:aws:events:{REGION}:{ACCOUNT}:rule/modelyard-endpoints"),
        ("codepipeline:CreatePipeline", f"arn:aws:codepipeline:{REGION}:{ACCOUNT}:p-1-dev"),  # without a project's tag
        ("codepipeline:UpdatePipeline", f"arn:aws:codepipeline:{REGION}:{ACCOUNT}:the-shop"),
        # Somebody else's, which has no tags of a project.
        ("codepipeline:UpdatePipeline", f"arn:aws:codepipeline:{REGION}:{ACCOUNT}:website-prod"),
        ("codepipeline:DeletePipeline", f"arn:aws:codepipeline:{REGION}:{ACCOUNT}:website-prod"),
        ("codepipeline:TagResource", f"arn:aws:codepipeline:{REGION}:{ACCOUNT}:website-prod"),
        ("codepipeline:UntagResource", f"arn:aws:codepipeline:{REGION}:{ACCOUNT}:website-prod"),
        ("codepipeline:StartPipelineExecution", f"arn:aws:codepipeline:{REGION}:{ACCOUNT}:p-1-dev"),
        ("codepipeline:PutApprovalResult", f"arn:aws:codepipeline:{REGION}:{ACCOUNT}:p-1-prod/Approve/Approve"),
        ("s3:GetObject", f"arn:aws:s3:::modelyard-builds-{ACCOUNT}-{REGION}/p-1-dev/source/a"),
        ("logs:DeleteLogGroup", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/modelyard-deploy"),
        ("sagemaker:UpdateModelPackage", f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/churn-prod/1"),
        ("s3:PutObject", f"arn:aws:s3:::modelyard-templates-{ACCOUNT}-{REGION}/projects/mine.yaml"),
        ("ssm:PutParameter", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/modelyard/policies/project-boundary"),
        ("secretsmanager:GetSecretValue", f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:github-AbCdEf"),
        ("cloudformation:UpdateStack", f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/modelyard/1"),
    ],
)
def test_the_launch_role_reaches_nothing_of_the_platform_or_of_others(action: str, resource: str) -> None:
    assert not allows("LaunchPolicy", action, resource)


def test_services_assume_it_for_this_account_alone() -> None:
    (statement,) = RESOURCES["LaunchRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    # Not SageMaker, or else whoever may pass it could run a job as it.
    assert set(statement["Principal"]["Service"]) == {"servicecatalog.amazonaws.com", "cloudformation.amazonaws.com"}


@pytest.mark.parametrize("bounds_now", [BOUNDARY, OWN, None])
@pytest.mark.parametrize(
    ("action", "role"),
    [
        ("iam:DetachRolePolicy", "modelyard/pipelines/x-pipeline-dev"),
        ("iam:DeleteRolePolicy", "modelyard/ci/x-ci-dev"),
        ("iam:DeleteRole", "modelyard/models/x-model"),
    ],
)
def test_a_project_is_deleted_whichever_boundary_its_roles_have(action: str, role: str, bounds_now: str | None) -> None:
    """Of an organization, whose boundary was set, changed or cleared since."""
    context = {"iam:PolicyARN": template.OF_SSM["DenyApprovalPolicyArn"]}
    context |= {"iam:PermissionsBoundary": bounds_now} if bounds_now else {}
    assert allows("LaunchPolicy", action, f"arn:aws:iam::{ACCOUNT}:role/{role}", context)


@pytest.mark.parametrize("own", [None, OWN])
def test_roles_of_projects_go_from_the_platforms_boundary_to_an_organizations_and_back(own: str | None) -> None:
    """An update of a project gives its roles the boundary that holds now; its roll-back gives the one before back."""
    listed = template.OF_SSM["BoundaryArns"]
    values = VALUES | {"BoundaryArns": f"{listed},{own}" if own else listed}
    launch = template.policies(template.resolved(WRITTEN, values))["LaunchPolicy"]
    role = f"arn:aws:iam::{ACCOUNT}:role/modelyard/ci/x-ci-dev"
    expected = {BOUNDARY: True, template.OF_SSM["DeliveryBoundaryArn"]: True, OWN: own is not None, COMPANY: False}
    for action in ("iam:CreateRole", "iam:PutRolePolicy", "iam:PutRolePermissionsBoundary"):
        for boundary, allowed in expected.items():
            asked = decision(action, role, {"iam:PermissionsBoundary": boundary})
            assert ministack_host.policies_allow([launch])(asked) is allowed, (action, boundary)


# --- whoever makes projects


@pytest.mark.parametrize("action", ["cloudformation:CreateStack", "cloudformation:UpdateStack"])
@pytest.mark.parametrize(
    ("context", "allowed"),
    [
        ({"cloudformation:TemplateUrl": f"{OUR_TEMPLATES}/modelyard-1.yaml"}, True),
        ({"cloudformation:TemplateUrl": f"https://s3.{REGION}.amazonaws.com/mine/projects/modelyard-1.yaml"}, False),
        ({"cloudformation:TemplateUrl": f"https://mine.example.com/{OUR_TEMPLATES}/modelyard-1.yaml"}, False),
        ({}, False),
    ],
)
def test_a_project_is_made_and_updated_from_the_platforms_templates(
    action: str, context: dict[str, str], allowed: bool
) -> None:
    """Or else he could rewrite the policy modelyard-churn-developer, which somebody attached to him."""
    stack = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{STACK}/1"
    assert allows("CreatorPolicy", action, stack, context) == allowed


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("iam:PassRole", LAUNCH, {"iam:PassedToService": "lambda.amazonaws.com"}),
        ("iam:PassRole", LAUNCH.replace("launch", "seed"), {"iam:PassedToService": "cloudformation.amazonaws.com"}),
        ("cloudformation:CreateChangeSet", f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{STACK}/1", {}),
        ("cloudformation:DeleteStack", f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/modelyard/1", {}),
        ("lambda:InvokeFunction", template.OF_SSM["SeedFunctionArn"], {}),
        ("s3:PutObject", f"arn:aws:s3:::modelyard-templates-{ACCOUNT}-{REGION}/projects/mine.yaml", {}),
        ("servicecatalog:ProvisionProduct", f"arn:aws:catalog:{REGION}:{ACCOUNT}:product/prod-others", {}),
    ],
)
def test_whoever_makes_projects_may_do_nothing_else_with_it(
    action: str, resource: str, context: dict[str, str]
) -> None:
    assert not allows("CreatorPolicy", action, resource, context)


@pytest.mark.parametrize("action", ["TerminateProvisionedProduct", "UpdateProvisionedProduct"])
def test_what_somebody_launched_is_changed_by_them_and_by_who_has_the_same_role(action: str) -> None:
    """It may be of any product in the account."""
    arn = f"arn:aws:servicecatalog:{REGION}:{ACCOUNT}:stack/churn/pp-0123456789ab"
    for levels, allowed in (((), False), (("role", "user"), True), (("role",), True)):
        context = {f"servicecatalog:{level}Level": "self" for level in ("account", *levels)}
        assert allows("CreatorPolicy", f"servicecatalog:{action}", arn, context) is allowed


@pytest.mark.parametrize("policy", ["CreatorPolicy", "LaunchPolicy"])
def test_a_policy_is_not_longer_than_iam_takes(policy: str) -> None:
    """6,144 of a managed one, 10,240 inline: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""
    longest = 6144 if policy == "CreatorPolicy" else 10_240
    assert longest_anywhere(POLICIES[policy]) <= longest


# --- the product


def test_the_product_is_shown_by_studio_and_has_one_version() -> None:
    made = RESOURCES["Product"]["Properties"]
    assert {"Key": "sagemaker:studio-visibility", "Value": "true"} in made["Tags"]
    (version,) = made["ProvisioningArtifactParameters"]
    assert version["Name"] == VALUES["TemplateVersion"]
    assert version["Info"] == {"LoadTemplateFromURL": f"{OUR_TEMPLATES}/modelyard-{VALUES['TemplateVersion']}.yaml"}


def test_a_version_is_offered_once_it_is_published() -> None:
    assert WRITTEN["Resources"]["Product"]["DependsOn"] == "Template"


def test_another_git_host_address_owner_or_name_publishes_the_template_there() -> None:
    """CloudFormation calls the function only when a property changes."""
    before = RESOURCES["Template"]["Properties"]
    for name, value in (
        ("GitHost", "github"),
        ("GitBaseUrl", "https://git.example.com"),
        ("GitOwner", "acme"),
        ("TemplateRepository", "modelyard-template-eu"),
    ):
        assert template.resolved(WRITTEN, VALUES | {name: value})["Template"]["Properties"] != before


def test_who_is_not_named_does_not_see_the_product() -> None:
    principals = [one for one in RESOURCES.values() if one["Type"].endswith("PrincipalAssociation")]
    assert [one["Properties"]["PrincipalARN"] for one in principals] == [VALUES["Principal1"]]


def test_a_projects_template_finds_what_the_platform_and_the_product_publish() -> None:
    platform = template.resolved(template.load(account.TEMPLATE), {})
    published = {
        resource["Properties"]["Name"]
        for resources in (platform, RESOURCES)
        for resource in resources.values()
        if resource["Type"] == "AWS::SSM::Parameter"
    }
    read = {
        parameter["Default"]
        for path in (product.TEMPLATE, account.PORTFOLIO_TEMPLATE)
        for parameter in template.load(path)["Parameters"].values()
        if parameter["Type"].startswith("AWS::SSM::")
    }
    assert read
    assert read <= published


def test_the_function_has_more_time_than_its_three_runs_and_the_pauses_between_them() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html: one and two minutes."""
    function = template.resolved(template.load(account.TEMPLATE), {})["SeedFunction"]["Properties"]
    assert RESOURCES["Template"]["Properties"]["ServiceTimeout"] > 3 * function["Timeout"] + 60 + 120


def test_no_run_of_the_function_outlives_the_request_that_it_is_for() -> None:
    """Lambda may start one late, as when calls are throttled: the stack is being rolled back then."""
    platform = template.resolved(template.load(account.TEMPLATE), {})
    seconds = platform["SeedFunction"]["Properties"]["Timeout"]
    oldest = platform["SeedInvokeConfig"]["Properties"]["MaximumEventAgeInSeconds"]
    asked = template.resolved(template.load(product.TEMPLATE), {"SageMakerProjectName": "churn"})["Seed"]
    for resource in (RESOURCES["Template"], asked):
        assert oldest + seconds < resource["Properties"]["ServiceTimeout"]
    assert oldest > 2 * seconds + 60 + 120  # the third try begins


# --- parameters


def test_every_parameter_can_be_given_or_follows_from_what_there_is() -> None:
    given = {*install.PRINCIPALS, *install.PORTFOLIO_PARAMETERS, "TemplateVersion", "ProductKey"}
    others = {name for name in WRITTEN["Parameters"] if name not in given}
    assert all(WRITTEN["Parameters"][name]["Type"].startswith("AWS::SSM::") for name in others)
    assert given <= WRITTEN["Parameters"].keys()


def test_every_parameter_has_its_place_in_the_console() -> None:
    groups = WRITTEN["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(WRITTEN["Parameters"])


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        ("Principal1", ["", "arn:aws:iam:::role/service-role/AmazonSageMaker-*"], ["role/x", LAUNCH, "*"]),
        ("ProductKey", ["projects/modelyard-1.2.0-0123456789ab.yaml"], ["", "modelyard.yaml", "projects/../x.zip"]),
        ("TemplateVersion", ["1.2.0-0123456789ab", "0-ab"], ["", "a version", "../x"]),
        ("PermissionsBoundaryArn", ["", "arn:aws:iam::aws:policy/PowerUserAccess"], ["PowerUserAccess"]),
        ("TemplateRepository", ["modelyard-template", "modelyard-template-eu"], ["", "acme/template", ".git", "a b"]),
    ],
)
def test_a_parameter_takes_what_can_be_and_nothing_else(parameter: str, good: list[str], bad: list[str]) -> None:
    pattern = WRITTEN["Parameters"][parameter]["AllowedPattern"]
    assert all(re.search(pattern, value) for value in good)
    assert not any(re.search(pattern, value) for value in bad)
