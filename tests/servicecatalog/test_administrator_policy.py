"""Whoever has the administrator's three policies, and nothing else, installs, updates and removes it all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from local_aws import LocalAWS, ministack_host
from local_aws.permissions import Decision
from local_aws.permissions import cloudformation as cfn
from local_aws.permissions.cloudformation import Change, Question, questions
from local_aws.permissions.decisions import frozen_context
from local_aws.permissions.identities import as_list
from servicecatalog.account import PORTFOLIO_STACK, PORTFOLIO_TEMPLATE, STACK, TAGS, TEMPLATE
from tests.local_aws.people import sign_in
from tests.servicecatalog import template
from tests.servicecatalog.conftest import ROOT, Administrator

FILES = ("administrator-policy.json", "administrator-policy-services.json", "administrator-policy-product.json")
LONGEST = 6144  # characters of a managed policy, white space left out: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
ACCOUNT, REGION = "111122223333", "eu-west-1"
USER = f"arn:aws:iam::{ACCOUNT}:user/installer"
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/company-boundary"
STUDIO = "arn:aws:iam::123456789012:role/studio"
PARAMETERS = {
    "ArtifactBuckets": "my-artifacts,team-*-artifacts",
    "BatchBuckets": "my-data",
    "ProjectKmsKeyArns": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11112222-3333-4444-5555-666677778888",
    "WebhookSecretArn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:webhook-AbCdEf",
    "CodeBucket": f"modelyard-platform-{ACCOUNT}-{REGION}",
    "CodeKey": "modelyard/functions/0123456789abcdef.zip",
    "SeedCodeKey": "modelyard/functions/seed-0123456789abcdef.zip",
    "GitHost": "github",
    "GitOwner": "acme",
    "GitTokenSecretArn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:github-AbCdEf",
    "VpcSubnetIds": "subnet-0123456789abcdef0",
    "VpcSecurityGroupIds": "sg-0123456789abcdef0",
    "DataBuckets": "more-data",
    "AlertEmail": "team@example.com",
    "PermissionsBoundaryArn": BOUNDARY,
}
PORTFOLIO_PARAMETERS = {
    "TemplateVersion": "1.2.0-0123456789ab",
    "ProductKey": "projects/modelyard-1.2.0-0123456789ab.yaml",
    **{f"Principal{number}": f"arn:aws:iam:::role/studio-{number}-*" for number in range(1, 6)},
    "PermissionsBoundaryArn": BOUNDARY,
}
STACKS = ((STACK, TEMPLATE, PARAMETERS), (PORTFOLIO_STACK, PORTFOLIO_TEMPLATE, PORTFOLIO_PARAMETERS))
# What the commands do themselves, and when the run below does not need it: why.
OF_THE_COMMANDS = {
    "cloudformation:ContinueUpdateRollback": "an update whose roll-back failed is taken up again",
    "cloudformation:CreateChangeSet": "",
    "cloudformation:DeleteChangeSet": "",
    "cloudformation:DeleteStack": "",
    "cloudformation:DescribeChangeSet": "",
    "cloudformation:DescribeStackEvents": "",
    "cloudformation:DescribeStacks": "",
    "cloudformation:ExecuteChangeSet": "",
    "cloudformation:ListStackResources": "",
    "codecommit:GetRepository": "",
    "dynamodb:DescribeTable": "",
    "iam:DetachGroupPolicy": "",
    "iam:DetachRolePolicy": "",
    "iam:DetachUserPolicy": "",
    "iam:GetOpenIDConnectProvider": "whether GitHub has a provider in the account, when that is the host",
    "iam:ListEntitiesForPolicy": "",
    "kms:CreateAlias": "a creation that failed left its key before the alias was made",
    "kms:DescribeKey": "",
    "s3:CreateBucket": "",
    "s3:GetBucketCORS": "",
    "s3:GetBucketPolicy": "",
    "s3:GetLifecycleConfiguration": "",
    "s3:GetObject": "",
    "s3:GetObjectTagging": "",
    "s3:ListBucket": "",
    "s3:PutBucketCORS": "",
    "s3:PutBucketPolicy": "",
    "s3:PutBucketPublicAccessBlock": "",
    "s3:PutBucketVersioning": "",
    "s3:PutLifecycleConfiguration": "a bucket that was left half-made",
    "s3:PutEncryptionConfiguration": "",
    "s3:PutObject": "",
    "s3:PutObjectTagging": "",
    "sagemaker:AddTags": "",
    "sagemaker:DeleteTags": "",
    "sagemaker:DescribeDomain": "",
    "sagemaker:DescribeProject": "of projects, when there are some",
    "sagemaker:ListDomains": "",
    "sagemaker:ListEndpoints": "",
    "sagemaker:ListProjects": "",
    "sagemaker:ListTags": "",
    "scheduler:ListSchedules": "",
    "servicecatalog:SearchProvisionedProducts": "",
}


# AWS names resources of these that are others' than those they are asked about here (tests/lint_resources.py).
WITHOUT_RESOURCES = (
    "scheduler:ListSchedules",
    "servicecatalog:ListTagsForResource",
    "servicecatalog:TagResource",
    "servicecatalog:UntagResource",
)


def documents() -> dict[str, dict[str, Any]]:
    return {name: json.loads((ROOT / "servicecatalog" / name).read_text()) for name in FILES}


def statements() -> list[dict[str, Any]]:
    return [statement for document in documents().values() for statement in document["Statement"]]


def granted() -> set[str]:
    return {action for statement in statements() for action in as_list(statement["Action"])}


def changed(properties: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Properties before and after an update: each is new, is gone, was another in turn."""
    for name, value in properties.items():
        without = {key: other for key, other in properties.items() if key != name}
        another = [] if isinstance(value, list) else {} if isinstance(value, dict) else "another"
        yield without, properties
        yield properties, without
        yield {**properties, name: another}, properties


def changes() -> Iterator[Change]:
    """All that CloudFormation may be asked to do with one resource of the two stacks."""
    for stack, path, parameters in STACKS:
        for logical_id, resource in template.resolved(template.load(path), parameters).items():
            yield from changes_of(stack, logical_id, resource)


def changes_of(stack: str, logical_id: str, resource: Mapping[str, Any]) -> Iterator[Change]:
    properties = resource["Properties"]
    change = Change(resource["Type"], "create", logical_id, properties, stack, ACCOUNT, REGION, stack_tags=TAGS)
    change = replace(change, look_up=look_up)
    yield change
    if resource.get("DeletionPolicy") != "Retain":
        yield replace(change, operation="delete")
    if resource["Type"].startswith("Custom::"):  # its function is called, whatever changes
        yield replace(change, operation="update", before=properties)
        return
    tags = [{"Key": key, "Value": value} for key, value in TAGS.items()]
    for before, after in changed({**properties, "Tags": tags}):
        update = replace(change, operation="update", before=before, properties=after)
        # What is replaced is created and deleted, as above; what must be given does not go.
        required = set(cfn._schema(change.type).get("required", []))
        if not cfn.replaces(update) and required <= before.keys() & after.keys():
            yield update


def look_up(kind: str, name: str) -> str | None:
    path = "modelyard/models/" if name.startswith("modelyard-model-") else "modelyard/"
    return {"role": f"arn:aws:iam::{ACCOUNT}:role/{path}{name}", "boundary": BOUNDARY}.get(kind)


@cache
def needed() -> dict[str, Question]:
    """The questions of all changes, each once."""
    return {repr(question): question for change in changes() for question in questions(change)}


def decision(question: Question) -> Decision:
    """With what is looked up: the tags of what is there."""
    tags = {f"aws:ResourceTag/{key}": value for key, value in TAGS.items()}
    context = frozen_context({**tags, **question.context, **cfn.via_cloudformation()})
    return Decision(USER, question.action, question.resource, REGION, context, True)


# --- what the policies say


@pytest.mark.parametrize("name", FILES)
def test_it_fits_into_a_managed_policy(name: str) -> None:
    assert len(json.dumps(documents()[name], separators=(",", ":"))) <= LONGEST


def test_whatever_the_template_needs_is_allowed() -> None:
    allows = ministack_host.policies_allow(documents().values())
    denied = [question for question in needed().values() if not allows(decision(question))]
    assert not denied


def test_nothing_is_granted_that_nobody_needs() -> None:
    """Neither CloudFormation for a change of the platform, nor the commands."""
    asked = {question.action for question in needed().values()}
    assert granted() == asked | OF_THE_COMMANDS.keys()


def test_each_statement_is_needed() -> None:
    """Without it something of the template or of the commands is denied."""
    of_commands = {
        "Stack",
        "CodeBucket",
        "CodeObjects",
        "WhatIsInUse",
        "WhoseEndpoint",
        "StudioReadsTemplates",
        "ProductTemplates",
        "Domains",
        "Projects",
        "TemplateRepository",
        "DetachItsPolicies",
        "KeyAlias",
    }
    everything = statements()
    for statement in everything:
        others = [one for one in everything if one is not statement]
        allows = ministack_host.policies_allow([{"Version": "2012-10-17", "Statement": others}])
        useful = not all(allows(decision(question)) for question in needed().values())
        assert useful or statement["Sid"] in of_commands, statement["Sid"]


def test_every_resource_that_can_be_named_is_named() -> None:
    for statement in statements():
        if "*" in as_list(statement["Resource"]):
            for action in as_list(statement["Action"]):
                kinds = (cfn._privilege(action) or {})["resource_types"]
                assert not any(kinds) or action in WITHOUT_RESOURCES, action


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("sqs:DeleteQueue", f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders", {}),
        ("iam:PutRolePolicy", f"arn:aws:iam::{ACCOUNT}:role/Admin", {}),
        (
            "iam:AttachRolePolicy",
            f"arn:aws:iam::{ACCOUNT}:role/modelyard/modelyard-deploy-{REGION}",
            {"iam:PolicyARN": "arn:aws:iam::aws:policy/AdministratorAccess"},
        ),
        (
            "iam:PassRole",
            f"arn:aws:iam::{ACCOUNT}:role/modelyard/modelyard-deploy-{REGION}",
            {"iam:PassedToService": "ec2.amazonaws.com"},
        ),
        ("kms:PutKeyPolicy", f"arn:aws:kms:{REGION}:{ACCOUNT}:key/theirs", {"aws:ResourceTag/team": "theirs"}),
        ("kms:TagResource", f"arn:aws:kms:{REGION}:{ACCOUNT}:key/theirs", {"aws:RequestTag/team": "theirs"}),
        ("dynamodb:DeleteTable", f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/modelyard-ledger", {}),
        (
            "lambda:CreateEventSourceMapping",
            "*",
            {"lambda:FunctionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:orders"},
        ),
    ],
)
def test_what_is_not_the_platforms_is_denied(action: str, resource: str, context: dict[str, str]) -> None:
    """Nor may the ledger be deleted."""
    allows = ministack_host.policies_allow(documents().values())
    assert not allows(Decision(USER, action, resource, REGION, frozen_context(context), True))


# --- who has them


@pytest.mark.slow
def test_who_has_them_installs_updates_and_removes_the_platform() -> None:
    """And installs it again, on what stays."""
    with LocalAWS(enforce_iam=True) as aws:
        iam, name = aws.client("iam"), "installer"
        iam.create_user(UserName=name)
        for file, document in documents().items():
            policy = iam.create_policy(PolicyName=Path(file).stem, PolicyDocument=json.dumps(document))["Policy"]
            iam.attach_user_policy(UserName=name, PolicyArn=policy["Arn"])
        own: dict[str, Any] = sign_in(aws, name)
        administrator = Administrator(aws, "123456789012")

        domain = make_domain(aws)
        administrator.run("install", "--yes", "--artifact-buckets", "my-artifacts", **own)
        assert administrator.status == "CREATE_COMPLETE"
        changed = ("--artifact-buckets", "team-*", "--log-retention-days", "30", "--principals", STUDIO)
        administrator.run("install", "--yes", *changed, "--studio-domain", domain, **own)
        assert administrator.status == "UPDATE_COMPLETE"
        assert "Nothing to do" in administrator.run("install", "--yes", "--studio-domain", domain, **own).stdout
        outputs = {one["OutputKey"]: one["OutputValue"] for one in (administrator.stack or {})["Outputs"]}
        attach(iam, outputs["ApproverPolicy"])
        assert "is attached to" in administrator.run("uninstall", "--yes", fails=True, **own).stderr
        administrator.run("uninstall", "--yes", "--force", **own)
        assert administrator.status == "none"
        again = administrator.run("install", "--yes", "--artifact-buckets", "my-artifacts", **own)
        assert again.stdout.count("is used again") == 5  # ledger, key and three buckets

        decisions = [one for one in aws.settings("permissions")["decisions"] if one["principal"].endswith(f"/{name}")]
    assert all(one["allowed"] for one in decisions)
    used = {one["action"] for one in decisions if not one["because"].startswith("cloudformation:AWS::")}
    assert {action for action, reason in OF_THE_COMMANDS.items() if not reason} <= used


def make_domain(aws: LocalAWS) -> str:
    """The id of a SageMaker domain with the role STUDIO."""
    principal = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [principal]})
    aws.client("iam").create_role(RoleName=STUDIO.rpartition("/")[2], AssumeRolePolicyDocument=trust)
    made = aws.client("sagemaker").create_domain(
        DomainName="studio",
        AuthMode="IAM",
        DefaultUserSettings={"ExecutionRole": STUDIO},
        VpcId="vpc-0123456789abcdef0",
        SubnetIds=["subnet-0123456789abcdef0"],
    )
    return str(made["DomainArn"].rpartition("/")[2])


def attach(iam: Any, policy: str) -> None:
    """To somebody of each kind."""
    iam.create_user(UserName="ann")
    iam.create_group(GroupName="approvers")
    iam.create_role(RoleName="approver", AssumeRolePolicyDocument="{}")
    iam.attach_user_policy(UserName="ann", PolicyArn=policy)
    iam.attach_group_policy(GroupName="approvers", PolicyArn=policy)
    iam.attach_role_policy(RoleName="approver", PolicyArn=policy)
