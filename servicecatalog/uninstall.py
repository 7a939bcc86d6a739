"""Remove the product and the platform: records, repositories and data stay.

Neither is pulled from under projects or what serves unless that is asked for.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from servicecatalog import bucket, studio
from servicecatalog.account import (
    GITHUB,
    KEY_ALIAS,
    PORTFOLIO_STACK,
    STACK,
    TEMPLATE_REPOSITORY,
    Account,
)
from servicecatalog.errors import InstallError
from servicecatalog.install import PLATFORM_PARAMETERS, option
from servicecatalog.stack import Say, Stack

PRODUCT = "Modelyard project"  # as portfolio.yaml calls it
GONE = "DeleteCompleted"  # ProjectStatus: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeProject.html


def in_use(account: Account, stacks: Sequence[Stack]) -> list[str]:
    """What would suffer: what serves, schedules that start jobs, people and roles with our policies."""
    return [
        *(f"endpoint {name} runs with a role of the platform" for name in endpoints(account)),
        *(f"schedule {name} starts batch transform jobs" for name in schedules(account)),
        *(
            f"policy {policy.rpartition('/')[2]} is attached to {kind} {name}"
            for stack in stacks
            for policy, kind, name in attachments(account, stack)
        ),
    ]


def carry_out(account: Account, say: Say, force: bool = False) -> bool:
    """Delete both stacks. False: there was none.

    Args:
        force: remove them although they are in use: schedules go with their group, our policies are detached. Projects
            must be gone all the same.

    Raises:
        InstallError: there are projects; it is in use and not forced; or CloudFormation's reasons.
    """
    # The product first: what it published is taken away by the platform's function.
    both = [Stack(account.client("cloudformation"), name, say) for name in (PORTFOLIO_STACK, STACK)]
    stacks = [stack for stack in both if stack.at_rest() is not None]
    if not stacks:
        return False
    if made := projects(account):
        listed = "\n".join(f"  {project}" for project in made)
        raise InstallError(
            f"there are projects:\n{listed}\n"
            "Delete them first, in Studio or Service Catalog. Nor does --force go past this: their roles are bounded "
            "by a policy of the platform's, and only its seed function can delete what they own"
        )
    if (users := in_use(account, stacks)) and not force:
        listed = "\n".join(f"  {user}" for user in users)
        raise InstallError(
            f"the platform is in use:\n{listed}\n"
            "Reject what serves and detach the policies, or use --force: endpoints then serve on without scaling, "
            "updates or new instances, schedules are deleted, policies detached"
        )
    for domain in _template_domains(account, both[1]):
        say(f"Studio's domain {domain} lists the template no more.")
    for stack in stacks:
        for policy, kind, name in attachments(account, stack):
            _detach(account.client("iam"), policy, kind, name)
            say(f"{policy.rpartition('/')[2]} detached from {kind} {name}.")
        stack.delete()
    return True


def _template_domains(account: Account, platform: Stack) -> list[str]:
    """Take the platform's bucket out of Studio; the domains that listed it."""
    templates = platform.outputs.get("TemplateBucket")
    return studio.disconnect(account, templates) if templates else []


def parameters(account: Account) -> dict[str, str]:
    """What the platform's stack was given, by name; empty when there is no stack."""
    return Stack(account.client("cloudformation"), STACK, lambda _line: None).parameters


def what_stays(account: Account, given: Mapping[str, str]) -> list[str]:
    """What is still in the account, why, how to remove it for good, and how to install again what there was.

    Args:
        given: as parameters() answered before the stack was removed.
    """
    lines = []
    if table := given.get("ExistingLedgerTable") or account.kept_ledger():
        lines += [
            f"The ledger {table}: who approved and deployed what. A later installation goes on with it. To lose it:",
            f"  aws dynamodb update-table --table-name {table} --no-deletion-protection-enabled",
            f"  aws dynamodb delete-table --table-name {table}",
        ]
    if key := account.kept_key():
        lines += [
            f"The key {key} (1 USD a month): without it nobody reads the ledger. To lose both:",
            f"  aws kms delete-alias --alias-name {KEY_ALIAS}",
            f"  aws kms schedule-key-deletion --key-id {key}",
        ]
    for name, what in (
        (account.bucket, "all archives that ever ran, and the templates of the stacks"),
        (account.template_bucket, "the templates that projects were made from"),
        (account.artifact_bucket, "the projects' data, code and models"),
        (account.build_bucket, "what CodePipeline handed on, which goes within 31 days"),
    ):
        if bucket.exists(account, name):
            lines.append(f"The bucket {name}: {what}. Empty and remove it in the S3 console.")
    if given.get("GitHost") == "github" and (arn := account.kept_oidc_provider(given.get("GitBaseUrl") or GITHUB)):
        lines += [
            f"The OIDC provider {arn}, which others may use as well. To remove it:",
            f"  aws iam delete-open-id-connect-provider --open-id-connect-provider-arn {arn}",
        ]
    lines += _template_repository(account)
    if options := _options(given):
        lines += ["What it was installed with, to install it again:", f'  make install-platform OPTIONS="{options}"']
    return [*lines, "Model package groups, artifacts, repositories and endpoints: they are the projects'."]


def _options(given: Mapping[str, str]) -> str:
    """The command's options for the parameters of a stack that have a value."""
    values = {name: value for name in PLATFORM_PARAMETERS if (value := given.get(name, ""))}
    return " ".join(f"{option(name)} {shlex.quote(value)}" for name, value in values.items())


def _template_repository(account: Account) -> list[str]:
    """Of GitHub nobody but its token could ask; it is named as it may be."""
    codecommit = account.client("codecommit")
    try:
        codecommit.get_repository(repositoryName=TEMPLATE_REPOSITORY)
    except codecommit.exceptions.RepositoryDoesNotExistException:
        return [
            f"On GitHub, if that was the host: the repository {TEMPLATE_REPOSITORY}, or what --template-repository "
            "named, and all of the projects."
        ]
    return [
        f"The repository {TEMPLATE_REPOSITORY}, from which projects are updated. To lose it:",
        f"  aws codecommit delete-repository --repository-name {TEMPLATE_REPOSITORY}",
    ]


def projects(account: Account) -> list[str]:
    """The projects that the product has made, by whichever way, by name."""
    return sorted({*_provisioned(account), *_sagemaker_projects(account)})


def _provisioned(account: Account) -> list[str]:
    """Of Service Catalog."""
    product = Stack(account.client("cloudformation"), PORTFOLIO_STACK, lambda _line: None).outputs.get("Product")
    query: dict[str, Any] = {"AccessLevelFilter": {"Key": "Account", "Value": "self"}}
    if product is not None:
        query["Filters"] = {"SearchQuery": [f"productId:{product}"]}
    found = _all(account.client("servicecatalog").search_provisioned_products, "ProvisionedProducts", "Page", query)
    # where somebody took the portfolio away first, what was provisioned is there still, and has the product's name
    return [
        f"{provisioned['Name']} (Service Catalog)"
        for provisioned in found
        if product is not None or provisioned.get("ProductName") == PRODUCT
    ]


def _sagemaker_projects(account: Account) -> list[str]:
    """Of S3 templates: those whose template lies in the platform's bucket."""
    sagemaker, found = account.client("sagemaker"), []
    templates = Stack(account.client("cloudformation"), STACK, lambda _line: None).outputs.get("TemplateBucket")
    if templates is None:
        return []
    listed = [one for one in _all(sagemaker.list_projects, "ProjectSummaryList") if one["ProjectStatus"] != GONE]
    for name in (one["ProjectName"] for one in listed):
        described = sagemaker.describe_project(ProjectName=name)
        details = [one.get("CfnTemplateProviderDetail", {}) for one in described.get("TemplateProviderDetails", [])]
        if any(_is_of(one.get("TemplateURL", ""), templates) for one in details):
            found.append(f"{name} (S3 template)")
    return found


def _is_of(url: str, bucket: str) -> bool:
    """Whether an object's address is one of the bucket's, which stands in its path or before its host."""
    parts = urlsplit(url)
    return parts.path.startswith(f"/{bucket}/") or parts.netloc.startswith(f"{bucket}.s3")


def _all(
    operation: Callable[..., dict[str, Any]], key: str, token: str = "", query: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """What an operation lists that boto3 has no paginator for.

    Args:
        key: of the list in its answers.
        token: what stands before "Token" in its request; in its answers it is "Next<token>Token".
    """
    request = dict(query or {})
    while True:
        page = operation(**request)
        yield from page[key]
        if not (following := page.get(f"Next{token}Token")):
            return
        request[f"{token or 'Next'}Token"] = following


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
