"""Install the platform and the product, or bring installed ones up to date."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servicecatalog import assets, bucket, existing, kept, product, studio
from servicecatalog.account import GITHUB, PORTFOLIO_STACK, STACK, TAGS, TEMPLATE_REPOSITORY, Account, oidc_url
from servicecatalog.assets import Assets
from servicecatalog.errors import InstallError
from servicecatalog.stack import Say, Stack

# The parameters of the two stacks that an administrator sets; the others follow from what there is.
PLATFORM_PARAMETERS = {
    "GitHost": "where new projects' repositories are made: codecommit (when it is not given) or github",
    "GitBaseUrl": "of a GitHub Enterprise Server its address (https://github.com)",
    "GitOwner": "the organization or user on GitHub to whom the repositories will belong",
    "GitTokenSecretArn": "the Secrets Manager secret with GitHub's token",
    "VpcSubnetIds": "subnets for the function that talks to a GitHub which is only reached from there",
    "VpcSecurityGroupIds": "its security groups",
    "ArtifactBuckets": "projects' artifact buckets beside the platform's, by name; * stands for any characters",
    "DataBuckets": "further buckets that projects may name as sources of their data",
    "BatchBuckets": "further buckets that batch transform jobs read from and write to",
    "ProjectKmsKeyArns": "the KMS keys of those buckets and those that stage files name",
    "AlertEmail": "an address for deployments and failures",
    "WebhookSecretArn": "the Secrets Manager secret with a chat webhook's URL",
    "LogRetentionDays": "how long the functions' logs are kept (90)",
    "PermissionsBoundaryArn": "a managed policy that bounds the platform's own roles",
    "ProjectPermissionsBoundaryArn": "a managed policy that bounds projects' roles instead of the platform's two",
    "ExistingKmsKeyArn": "a KMS key to use instead of a new one",
    "ExistingLedgerTable": "the ledger that an earlier installation left, where it is not found by its name",
    "ExistingArtifactBucket": "a bucket for projects' artifacts to use instead of a new one",
    "ExistingTemplateBucket": "a bucket for the product's templates to use instead of a new one",
    "ExistingBuildBucket": "a bucket for what CodePipeline hands on to use instead of a new one",
    "ExistingOidcProviderArn": "the account's OIDC provider for GitHub, where it is not found by its address",
}
ALLOWED = {"GitHost": ("codecommit", "github")}  # values of those that have a list
PRINCIPALS = tuple(f"Principal{number}" for number in range(1, 6))  # of portfolio.yaml
PARAMETERS = PLATFORM_PARAMETERS | {
    "TemplateRepository": "of GitHub the repository in which the template is published (modelyard-template)",
    "Principals": "up to five roles, users or groups (ARNs, with * for any characters) that see the product",
}
# What both stacks have, and what the portfolio's alone has.
SHARED = ("PermissionsBoundaryArn",)
PORTFOLIO_PARAMETERS = (*SHARED, "TemplateRepository")
NOTHING_YET = (None, "REVIEW_IN_PROGRESS")


@dataclass(frozen=True)
class StackPlan:
    """What an installation will do with one stack.

    Args:
        stack: the stack.
        parameters: as CreateChangeSet takes them.
        new: it is not there yet.
    """

    stack: Stack
    parameters: list[dict[str, Any]]
    new: bool

    def lines(self) -> list[str]:
        given = [
            f"  {parameter['ParameterKey']}: {parameter['ParameterValue']}"
            for parameter in self.parameters
            if parameter.get("ParameterValue")
        ]
        return [f"{'Create' if self.new else 'Update'} stack {self.stack.name} with:", *given]


@dataclass(frozen=True)
class Plan:
    """What an installation will do, to be shown before it is done.

    Args:
        account: where.
        assets: what is uploaded.
        platform, portfolio: what becomes of the stacks.
        domain: Studio's domain that shall show the product as an S3 template; "": none.
        notes: what was found.
        left_buckets: the platform's own buckets that an earlier installation left, by the parameters that name them.
    """

    account: Account
    assets: Assets
    platform: StackPlan
    portfolio: StackPlan
    domain: str
    notes: tuple[str, ...]
    left_buckets: Mapping[str, str]

    def lines(self) -> list[str]:
        account, size = self.account, sum(map(len, self.assets.code_objects.values()))
        return [
            f"Account {account.number}, {account.region}, as {account.caller}.",
            f"Bucket {account.bucket}: made if it is missing; private, encrypted, versioned, TLS only.",
            f"Code and templates: {size / 1e6:.1f} MB. The template's version is {self.assets.version}.",
            *self.platform.lines(),
            *self.portfolio.lines(),
            *([f"Studio's domain {self.domain}: tagged, so that it lists the S3 template."] if self.domain else []),
            *self.notes,
        ]


def option(parameter: str) -> str:
    """Of the command: ArtifactBuckets is --artifact-buckets."""
    return "--" + re.sub(r"(?<!^)(?=[A-Z])", "-", parameter).lower()


def repairs(account: Account, say: Say) -> list[str]:
    """What plan() will have to change in stacks that an earlier attempt left half-way, for people; nothing mostly."""
    stacks = (Stack(account.client("cloudformation"), name, say) for name in (STACK, PORTFOLIO_STACK))
    return [repair for stack in stacks if (repair := stack.repair())]


def plan(
    account: Account, given: Mapping[str, str], say: Say, domain: str = "", product_template: Path = product.TEMPLATE
) -> Plan:
    """Find out what is there, bring it to where it takes a change (repairs() says how), and say what to do.

    Args:
        account: checked credentials.
        given: parameters by name (PARAMETERS), those that the administrator set. On an update the others stay as they
            are.
        say: takes lines of progress.
        domain: the id of a SageMaker domain; "": none.
        product_template: product.yaml.

    Raises:
        InstallError: what is given cannot be, or what is there cannot be built on.
    """
    platform = Stack(account.client("cloudformation"), STACK, say)
    portfolio = Stack(account.client("cloudformation"), PORTFOLIO_STACK, say)
    kept.name_key(account, platform)
    new = platform.settle() in NOTHING_YET
    new_portfolio = portfolio.settle() in NOTHING_YET
    before = {} if new else platform.parameters
    values = {name: value for name, value in given.items() if name in PLATFORM_PARAMETERS}
    standing = before | values
    if _forget_provider(values, standing, given):
        standing = before | values
    faults = [*existing.faults(account, given, standing), *_repository_faults(given, standing)]
    if not new:
        faults += kept.changes_under_projects(account, given, platform)
    check(account, standing, faults)
    before_portfolio = {} if new_portfolio else portfolio.parameters
    of_portfolio = {name: value for name, value in given.items() if name in PORTFOLIO_PARAMETERS}
    of_portfolio |= principals(account, given, before_portfolio)
    if domain:
        studio.check(account, domain, standing.get("ExistingTemplateBucket") or account.template_bucket)
    notes = _adopt(account, values, standing, {} if new else platform.resources())
    made = assets.build(_product_defaults(standing), product_template)
    values |= {"CodeBucket": account.bucket, "CodeKey": made.functions_key, "SeedCodeKey": made.seed_key}
    of_portfolio |= {"TemplateVersion": made.version, "ProductKey": made.product_key}
    if new_portfolio and standing.get("PermissionsBoundaryArn"):
        of_portfolio["PermissionsBoundaryArn"] = standing["PermissionsBoundaryArn"]
    return Plan(
        account,
        made,
        StackPlan(platform, _parameters(values, PLATFORM_PARAMETERS, before), new),
        StackPlan(
            portfolio,
            _parameters(of_portfolio, (*PRINCIPALS, *PORTFOLIO_PARAMETERS), before_portfolio),
            new_portfolio,
        ),
        domain,
        notes,
        {name: ours for name, ours in account.buckets.items() if (standing | values).get(name) == ours},
    )


def check(account: Account, values: Mapping[str, str], found: Sequence[str] = ()) -> None:
    """Refuse what cannot work, before anything is made.

    Args:
        values: parameters of platform.yaml by name, given now or before.
        found: faults that are known already.

    Raises:
        InstallError: with every fault.
    """
    faults = [*found]
    if values.get("GitHost", "codecommit") == "github":
        if not values.get("GitOwner"):
            faults.append("GitHub needs an owner of the repositories: --git-owner my-organization")
        if not (secret := values.get("GitTokenSecretArn")):
            faults.append(
                "GitHub needs a token that makes the repositories, in a secret: --git-token-secret-arn arn:aws:"
                'secretsmanager:... (docs/install.md, "GitHub")'
            )
        elif f":secretsmanager:{account.region}:" not in secret:
            faults.append(f"the secret {secret} is not in {account.region}, where it is read: make one there")
    if bool(values.get("VpcSubnetIds")) != bool(values.get("VpcSecurityGroupIds")):
        faults.append("a VPC is named by both, subnets and security groups: --vpc-subnet-ids, --vpc-security-group-ids")
    if faults:
        raise InstallError("\n  ".join(["nothing was made, since", *faults]))


def _repository_faults(given: Mapping[str, str], standing: Mapping[str, str]) -> list[str]:
    """On CodeCommit, whose repositories are of one account and Region, projects' policies have the name."""
    name = given.get("TemplateRepository", TEMPLATE_REPOSITORY)
    if name == TEMPLATE_REPOSITORY or standing.get("GitHost") == "github":
        return []
    return [f"--template-repository {name}: on CodeCommit it is {TEMPLATE_REPOSITORY}; leave the option out"]


def principals(account: Account, given: Mapping[str, str], before: Mapping[str, str]) -> dict[str, str]:
    """portfolio.yaml's parameters of who sees the product; none of them when nobody is named.

    Who is named already keeps the place: in another one he would be associated anew, which changes nothing, and then
    the association of the place that he left would be taken away, which is the only one that he has.

    Args:
        given: PARAMETERS by name; "Principals" holds ARNs of this account with commas between, or with no account.
        before: the portfolio stack's parameters; empty when there is none.

    Raises:
        InstallError: there are too many, or one is not of this account.
    """
    if "Principals" not in given:
        return {}
    arns = [arn.strip() for arn in given["Principals"].split(",") if arn.strip()]
    if len(arns) > len(PRINCIPALS):
        raise InstallError(
            f"--principals has {len(arns)} and may have {len(PRINCIPALS)}: let one with * stand for several, such as "
            f"arn:{account.partition}:iam:::role/studio-*"
        )
    for arn in arns:
        if not re.fullmatch(rf"arn:{account.partition}:iam::({account.number})?:(role|user|group)/[\w+=.@/*?-]+", arn):
            raise InstallError(
                f"--principals: {arn} is no role, user or group of account {account.number}, such as "
                f"arn:{account.partition}:iam::{account.number}:role/studio"
            )
    named = list(dict.fromkeys(arn.replace(f"::{account.number}:", ":::") for arn in arns))
    places = {place: arn if (arn := before.get(place, "")) in named else "" for place in PRINCIPALS}
    free = [place for place, arn in places.items() if not arn]
    new = [arn for arn in named if arn not in places.values()]
    return places | dict(zip(free, new, strict=False))


def carry_out(plan: Plan, say: Say, revert_drift: Callable[[], bool] | None = None) -> bool:
    """Do it. False: there was nothing to do.

    Each step finds what an interrupted one left and goes on.

    Args:
        revert_drift: asked, when given, before what was deleted or changed by hand is put back, too (Stack.deploy).

    Raises:
        InstallError: with the reasons that AWS gives.
    """
    account, made = plan.account, plan.assets
    if bucket.ensure(account):
        say(f"Bucket {account.bucket} made.")
    uploaded = [bucket.upload(account, account.bucket, key, body) for key, body in made.code_objects.items()]
    if any(uploaded):
        say("Code and templates uploaded.")
    left = plan.left_buckets
    finished = [left[name] for name in left if bucket.finish(account, left[name], bucket.LIFECYCLES[name])]
    for name in finished:
        say(f"Bucket {name} given the policy or the lifecycle that it lacked.")
    changed = [bool(finished), _deploy(plan, plan.platform, made.platform_key, revert_drift)]
    templates = plan.platform.stack.outputs["TemplateBucket"]
    bucket.upload(account, templates, made.product_key, made.product, studio.HIDDEN)
    changed.append(_deploy(plan, plan.portfolio, made.portfolio_key, revert_drift))
    # not another one than the portfolio has, where somebody did not agree to what that stack would become
    if plan.portfolio.stack.parameters["ProductKey"] == made.product_key:
        changed.append(studio.show_only(account, templates, made.product_key))
    if plan.domain:
        changed.append(studio.connect(account, plan.domain, templates))
    return any(changed)


def next_steps(outputs: Mapping[str, str], domain: str) -> list[str]:
    """What the administrator does now.

    Args:
        outputs: of both stacks.
        domain: Studio's that was named; "": none.
    """

    def name_of(policy: str) -> str:
        return outputs[policy].rpartition("/")[2]

    return [
        "",
        *(f"{name}: {value}" for name, value in outputs.items()),
        "",
        "Next:",
        f"  attach the policy {name_of('CreatorPolicy')} to Studio's roles and people who make projects, and",
        "    name them as principals: --principals arn:aws:iam::...:role/...",
        f"  attach {name_of('ApproverPolicy')} and {name_of('PlannerPolicy')} to whoever",
        "    approves for every project",
        *([] if domain else ["  for Studio's S3 project templates run this again with --studio-domain d-..."]),
        "  docs/create-a-project.md says how a project is made; docs/install.md what was made here, what it costs and",
        "    what to do when it fails",
    ]


def _parameters(values: Mapping[str, str], settable: Any, before: Mapping[str, str]) -> list[dict[str, Any]]:
    """As CreateChangeSet takes them: those with a value, and those that keep theirs.

    Args:
        settable: names that an administrator sets.
        before: values of the stack's parameters; one that is new in the template is not among them, its default stands.
    """
    given: list[dict[str, Any]] = [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]
    kept = [name for name in settable if name in before and name not in values]
    return [*given, *({"ParameterKey": name, "UsePreviousValue": True} for name in kept)]


def _product_defaults(values: Mapping[str, str]) -> dict[str, str]:
    """What product.yaml offers first."""
    return assets.defaults(values.get("GitHost", ""), values.get("GitOwner", ""))


def _forget_provider(values: dict[str, str], standing: Mapping[str, str], given: Mapping[str, str]) -> bool:
    """Whether another GitHub was named than the one whose OIDC provider was found before: it is found or made anew."""
    arn, host = standing.get("ExistingOidcProviderArn", ""), oidc_url(standing.get("GitBaseUrl") or GITHUB)
    if not arn or given.get("ExistingOidcProviderArn") or arn.endswith(f":oidc-provider/{host.partition('://')[2]}"):
        return False
    values["ExistingOidcProviderArn"] = ""
    return True


def _adopt(
    account: Account, values: dict[str, str], standing: Mapping[str, str], resources: Mapping[str, str]
) -> tuple[str, ...]:
    """Go on with what an earlier installation left, or the account has; adds it to `values`.

    Args:
        standing: parameters given now or before.
        resources: of the stack that is there, by logical id: what it has it goes on with by itself.
    """

    if "PlatformKey" not in resources and not standing.get("ExistingKmsKeyArn"):
        existing.check_alias(account)

    def kept_bucket(name: str) -> str | None:
        return name if bucket.exists(account, name) else None

    def kept_oidc_provider() -> str | None:
        if standing.get("GitHost") != "github":
            return None
        return account.kept_oidc_provider(standing.get("GitBaseUrl") or GITHUB)

    left: list[tuple[str, str, str, Callable[[], str | None]]] = [
        ("key", "ExistingKmsKeyArn", "PlatformKey", account.kept_key),
        ("ledger", "ExistingLedgerTable", "Ledger", account.kept_ledger),
        ("bucket", "ExistingArtifactBucket", "ArtifactBucket", lambda: kept_bucket(account.artifact_bucket)),
        ("bucket", "ExistingTemplateBucket", "TemplateBucket", lambda: kept_bucket(account.template_bucket)),
        ("bucket", "ExistingBuildBucket", "BuildBucket", lambda: kept_bucket(account.build_bucket)),
        ("OIDC provider", "ExistingOidcProviderArn", "OidcProvider", kept_oidc_provider),
    ]
    notes = []
    for what, parameter, logical_id, find in left:
        if not standing.get(parameter) and logical_id not in resources and (found := find()):
            values[parameter] = found
            notes.append(f"The {what} {found} of an earlier installation is used again.")
    used = existing.ledger_key(account, values["ExistingLedgerTable"]) if values.get("ExistingLedgerTable") else None
    key = values.get("ExistingKmsKeyArn") or standing.get("ExistingKmsKeyArn")
    if used and not key and "PlatformKey" not in resources:
        values["ExistingKmsKeyArn"] = used
        notes.append(f"The key {used}, with which the ledger is encrypted, is used again.")
    elif used and key and used != key:
        raise InstallError(
            f"nothing was made, since the ledger {values['ExistingLedgerTable']} is encrypted with {used}, which "
            f"nobody could read with {key}: give --existing-kms-key-arn {used}"
        )
    return tuple(notes)


def _deploy(plan: Plan, stack: StackPlan, key: str, revert_drift: Callable[[], bool] | None) -> bool:
    account = plan.account
    host = account.client("s3").meta.endpoint_url
    return stack.stack.deploy(_template_url(host, account, key), stack.parameters, TAGS, revert_drift)


def _template_url(s3_endpoint: str, account: Account, key: str) -> str:
    """Path style, which is the same whatever host S3 has."""
    return f"{s3_endpoint.rstrip('/')}/{account.bucket}/{key}"
