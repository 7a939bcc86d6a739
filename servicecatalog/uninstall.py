"""Remove the platform: its records stay, and it is not pulled from under what serves unless that is asked for."""

from __future__ import annotations

from typing import Any

from servicecatalog import bucket
from servicecatalog.account import KEY_ALIAS, LEDGER_TABLE, STACK, Account
from servicecatalog.errors import InstallError
from servicecatalog.stack import Say, Stack


def in_use(account: Account, stack: Stack) -> list[str]:
    """What would suffer: endpoints that serve, schedules that start batch jobs, people and roles with our policies."""
    return [
        *(f"endpoint {name} runs with a role of the platform" for name in endpoints(account)),
        *(f"schedule {name} starts batch transform jobs" for name in schedules(account)),
        *(
            f"policy {policy.rpartition('/')[2]} is attached to {kind} {name}"
            for policy, kind, name in attachments(account, stack)
        ),
    ]


def carry_out(account: Account, say: Say, force: bool = False) -> bool:
    """Delete the stack. False: there was none.

    Args:
        force: remove it although it is in use: schedules go with their group, our policies are detached.

    Raises:
        InstallError: it is in use and not forced, or CloudFormation's reasons.
    """
    stack = Stack(account.client("cloudformation"), STACK, say)
    if stack.settle() is None:
        return False
    if (users := in_use(account, stack)) and not force:
        listed = "\n".join(f"  {user}" for user in users)
        raise InstallError(
            f"the platform is in use:\n{listed}\n"
            "Reject what serves and detach the policies, or use --force: endpoints then serve on without scaling, "
            "updates or new instances, schedules are deleted, policies detached"
        )
    for policy, kind, name in attachments(account, stack):
        _detach(account.client("iam"), policy, kind, name)
        say(f"{policy.rpartition('/')[2]} detached from {kind} {name}.")
    stack.delete()
    return True


def what_stays(account: Account) -> list[str]:
    """What is still in the account, why, and how to remove it for good."""
    lines = []
    if table := account.kept_ledger():
        lines += [
            f"The ledger {table}: who approved and deployed what. A later installation goes on with it. To lose it:",
            f"  aws dynamodb update-table --table-name {LEDGER_TABLE} --no-deletion-protection-enabled",
            f"  aws dynamodb delete-table --table-name {LEDGER_TABLE}",
        ]
    if key := account.kept_key():
        lines += [
            f"The key {key} (1 USD a month): without it nobody reads the ledger. To lose both:",
            f"  aws kms delete-alias --alias-name {KEY_ALIAS}",
            f"  aws kms schedule-key-deletion --key-id {key}",
        ]
    if bucket.exists(account):
        lines.append(f"The bucket {account.bucket}: all archives that ever ran. Empty and remove it in the S3 console.")
    return [*lines, "Model package groups, artifacts, repositories and endpoints: they are the projects'."]


def endpoints(account: Account) -> list[str]:
    """The endpoints that the controller made, by name."""
    sagemaker = account.client("sagemaker")
    pages = sagemaker.get_paginator("list_endpoints").paginate()
    found = [(endpoint["EndpointName"], endpoint["EndpointArn"]) for page in pages for endpoint in page["Endpoints"]]
    return [name for name, arn in found if _has_project(sagemaker.list_tags(ResourceArn=arn)["Tags"])]


def schedules(account: Account) -> list[str]:
    """The schedules of batch stages, by name."""
    scheduler = account.client("scheduler")
    try:
        pages = list(scheduler.get_paginator("list_schedules").paginate(GroupName=STACK))
    except scheduler.exceptions.ResourceNotFoundException:
        return []
    return [schedule["Name"] for page in pages for schedule in page["Schedules"]]


def attachments(account: Account, stack: Stack) -> list[tuple[str, str, str]]:
    """(policy ARN, "role" | "user" | "group", name) of whoever outside the stack has one of its policies."""
    iam = account.client("iam")
    resources = set(stack.resources().values())
    found = []
    for policy in sorted(resource for resource in resources if ":policy/" in resource):
        for page in iam.get_paginator("list_entities_for_policy").paginate(PolicyArn=policy):
            found += [(policy, "role", role["RoleName"]) for role in page["PolicyRoles"]]
            found += [(policy, "user", user["UserName"]) for user in page["PolicyUsers"]]
            found += [(policy, "group", group["GroupName"]) for group in page["PolicyGroups"]]
    return [(policy, kind, name) for policy, kind, name in found if name not in resources]


def _detach(iam: Any, policy: str, kind: str, name: str) -> None:
    if kind == "role":
        iam.detach_role_policy(RoleName=name, PolicyArn=policy)
    elif kind == "user":
        iam.detach_user_policy(UserName=name, PolicyArn=policy)
    else:
        iam.detach_group_policy(GroupName=name, PolicyArn=policy)


def _has_project(tags: list[dict[str, str]]) -> bool:
    return any(tag["Key"] == "modelyard:project" for tag in tags)
