"""Install the platform, or bring an installed one up to date."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from servicecatalog import archive, bucket
from servicecatalog.account import STACK, TAGS, TEMPLATE, Account
from servicecatalog.errors import InstallError
from servicecatalog.stack import Say, Stack

# The parameters of platform.yaml that an administrator sets; the others follow from what there is.
PARAMETERS = {
    "ArtifactBuckets": "the projects' artifact buckets, by name, with commas between; * stands for any characters",
    "BatchBuckets": "further buckets that batch transform jobs read from and write to",
    "ProjectKmsKeyArns": "the KMS keys of those buckets and those that stage files name",
    "AlertEmail": "an address for deployments and failures",
    "WebhookSecretArn": "the Secrets Manager secret with a chat webhook's URL",
    "LogRetentionDays": "how long the functions' logs are kept (90)",
    "PermissionsBoundaryArn": "a managed policy that bounds every role made",
    "ExistingKmsKeyArn": "a KMS key to use instead of a new one",
    "ExistingLedgerTable": "the ledger that an earlier installation left, where it is not found by its name",
}


@dataclass(frozen=True)
class Plan:
    """What an installation will do, to be shown before it is done."""

    account: Account
    stack: Stack
    parameters: list[dict[str, Any]]
    archive: bytes
    new: bool
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        what = "Create" if self.new else "Update"
        given = [
            f"  {parameter['ParameterKey']}: {parameter['ParameterValue']}"
            for parameter in self.parameters
            if parameter.get("ParameterValue")
        ]
        return [
            f"Account {self.account.number}, {self.account.region}, as {self.account.caller}.",
            f"Bucket {self.account.bucket}: made if it is missing; private, encrypted, versioned, TLS only.",
            f"Functions: {len(self.archive) / 1e6:.1f} MB to {archive.key(self.archive)}.",
            f"{what} stack {STACK} with:",
            *given,
            *self.notes,
        ]


def plan(account: Account, given: Mapping[str, str], say: Say) -> Plan:
    """Find out what is there, and say what to do.

    Args:
        account: checked credentials.
        given: parameters by name (PARAMETERS), those that the administrator set. On an update the others stay as they
            are.
        say: takes lines of progress.

    Raises:
        InstallError: ArtifactBuckets is missing, or what is there cannot be built on.
    """
    stack = Stack(account.client("cloudformation"), STACK, say)
    new = stack.settle() in (None, "REVIEW_IN_PROGRESS")
    values = dict(given)
    if new and not values.get("ArtifactBuckets"):
        raise InstallError(
            "the projects' artifact buckets are not given: --artifact-buckets my-artifacts, or "
            "make install-platform ARTIFACT_BUCKETS=my-artifacts"
        )
    notes = _adopt(account, values) if new else ()
    code = archive.build()
    values |= {"CodeBucket": account.bucket, "CodeKey": archive.key(code)}
    parameters: list[dict[str, Any]] = [
        {"ParameterKey": name, "ParameterValue": value} for name, value in values.items()
    ]
    if not new:
        known = {parameter["ParameterKey"] for parameter in (stack.describe() or {}).get("Parameters", [])}
        # A parameter that is new in the template has no value from before; its default stands.
        kept = [name for name in PARAMETERS if name in known and name not in values]
        parameters += [{"ParameterKey": name, "UsePreviousValue": True} for name in kept]
    return Plan(account, stack, parameters, code, new, notes)


def carry_out(plan: Plan, say: Say) -> bool:
    """Do it. False: there was nothing to do.

    Raises:
        InstallError: with the reasons that AWS gives.
    """
    account = plan.account
    if bucket.ensure(account):
        say(f"Bucket {account.bucket} made.")
    if bucket.upload(account, archive.key(plan.archive), plan.archive):
        say("Functions uploaded.")
    template = TEMPLATE.read_bytes()
    template_key = f"modelyard/platform-{hashlib.sha256(template).hexdigest()[:16]}.yaml"
    bucket.upload(account, template_key, template)
    host = account.client("s3").meta.endpoint_url
    return plan.stack.deploy(_template_url(host, account, template_key), plan.parameters, TAGS)


def next_steps(outputs: Mapping[str, str]) -> list[str]:
    """What the administrator does now."""
    return [
        "",
        *(f"{name}: {value}" for name, value in outputs.items()),
        "",
        "Next:",
        f"  attach {outputs['DenyApprovalPolicy']} to every CI and pipeline role: they never approve",
        f"  attach {outputs['ApproverPolicy']} and {outputs['PlannerPolicy']} to whoever approves for every project",
        '  for each project make its roles and policies: docs/install.md, "A project\'s roles"',
        "  in a project: python -m pipeline register-project, python -m pipeline plan, and approve a version",
        "  docs/install.md says what was made, what it costs and what to do when it fails",
    ]


def _adopt(account: Account, values: dict[str, str]) -> tuple[str, ...]:
    """Go on with the ledger and the key that an earlier installation left; adds them to `values`."""
    notes = []
    if not values.get("ExistingKmsKeyArn") and (key := account.kept_key()):
        values["ExistingKmsKeyArn"] = key
        notes.append(f"The key {key} of an earlier installation is used again.")
    if not values.get("ExistingLedgerTable") and (table := account.kept_ledger()):
        values["ExistingLedgerTable"] = table
        notes.append(f"The ledger {table} of an earlier installation is used again.")
    return tuple(notes)


def _template_url(s3_endpoint: str, account: Account, key: str) -> str:
    """Path style, which is the same whatever host S3 has."""
    return f"{s3_endpoint.rstrip('/')}/{account.bucket}/{key}"
