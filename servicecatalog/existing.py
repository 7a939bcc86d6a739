"""What of the account's an installation is told to use, or finds: looked at before a stack is built on it."""

from __future__ import annotations

from collections.abc import Mapping

from botocore.exceptions import ClientError

from servicecatalog import bucket
from servicecatalog.account import GITHUB, KEY_ALIAS, Account, oidc_url
from servicecatalog.errors import InstallError

AUDIENCE = "sts.amazonaws.com"  # of the tokens that the projects' CI asks GitHub for
_BUCKETS = {
    "ExistingArtifactBucket": "--existing-artifact-bucket",
    "ExistingTemplateBucket": "--existing-template-bucket",
    "ExistingBuildBucket": "--existing-build-bucket",
}
_DENIED = ("AccessDeniedException", "AccessDenied")


def faults(account: Account, given: Mapping[str, str], standing: Mapping[str, str]) -> list[str]:
    """What is wrong with the `Existing...` parameters that are given now, one text each.

    What may not be looked at is not judged; a bucket must be, since what is uploaded goes there.

    Args:
        standing: those given before, too.
    """
    return [
        *_bucket_faults(account, given),
        *_key_faults(account, given.get("ExistingKmsKeyArn", "")),
        *_ledger_faults(account, given.get("ExistingLedgerTable", ""), standing.get("ExistingKmsKeyArn", "")),
        *_provider_faults(account, given.get("ExistingOidcProviderArn", ""), standing.get("GitBaseUrl") or GITHUB),
    ]


def check_alias(account: Account) -> None:
    """Raises InstallError when the platform's alias leads to a key that nobody can use: a new one could not have it."""
    try:
        key = account.client("kms").describe_key(KeyId=KEY_ALIAS)["KeyMetadata"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "NotFoundException":
            return
        raise
    if key["KeyState"] != "Enabled":
        raise InstallError(
            f"nothing was made, since {KEY_ALIAS} leads to the key {key['Arn']}, which is {key['KeyState']}: "
            f"{_remedy(key)}"
        )


def ledger_key(account: Account, table: str) -> str | None:
    """The ARN of the KMS key with which a table is encrypted; None: one of DynamoDB's own, or there is no table."""
    dynamodb = account.client("dynamodb")
    try:
        described = dynamodb.describe_table(TableName=table)["Table"]
    except dynamodb.exceptions.ResourceNotFoundException:
        return None
    return described.get("SSEDescription", {}).get("KMSMasterKeyArn")


def _bucket_faults(account: Account, given: Mapping[str, str]) -> list[str]:
    found = []
    for parameter, option in _BUCKETS.items():
        name = given.get(parameter, "")
        try:
            if name and not bucket.exists(account, name):
                found.append(f"{option} {name}: there is no such bucket; without the option one is made")
        except InstallError as error:
            found.append(f"{option}: {error}")
    return found


def _key_faults(account: Account, arn: str) -> list[str]:
    if not arn:
        return []
    try:
        key = account.client("kms").describe_key(KeyId=arn)["KeyMetadata"]
    except ClientError as error:
        if error.response["Error"]["Code"] in _DENIED:
            return []
        return [f"--existing-kms-key-arn {arn}: AWS knows no such key: {error.response['Error']['Message']}"]
    if key["KeyState"] == "Enabled":
        return []
    return [f"--existing-kms-key-arn {arn}: the key is {key['KeyState']}: {_remedy(key)}"]


def _ledger_faults(account: Account, table: str, key: str) -> list[str]:
    if not table:
        return []
    dynamodb = account.client("dynamodb")
    try:
        dynamodb.describe_table(TableName=table)
    except dynamodb.exceptions.ResourceNotFoundException:
        return [f"--existing-ledger-table {table}: there is no such table; without the option one is made or found"]
    except ClientError as error:
        if error.response["Error"]["Code"] in _DENIED:
            return []
        raise
    used = ledger_key(account, table)
    if key and used and used != key:
        return [f"--existing-ledger-table {table} is encrypted with {used}: give --existing-kms-key-arn {used}"]
    return []


def _provider_faults(account: Account, arn: str, base_url: str) -> list[str]:
    if not arn:
        return []
    host = oidc_url(base_url).partition("://")[2]
    if not arn.endswith(f":oidc-provider/{host}"):
        return [f"--existing-oidc-provider-arn {arn} is not the provider of {base_url}, which ends in {host}"]
    iam = account.client("iam")
    try:
        audiences = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)["ClientIDList"]
    except iam.exceptions.NoSuchEntityException:
        return [f"--existing-oidc-provider-arn {arn}: there is no such provider; without the option one is made"]
    except ClientError as error:
        if error.response["Error"]["Code"] in _DENIED:
            return []
        raise
    if AUDIENCE in audiences:
        return []
    return [
        f"the OIDC provider {arn} does not take tokens for {AUDIENCE}: "
        f"aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn {arn} --client-id {AUDIENCE}"
    ]


def _remedy(key: Mapping[str, str]) -> str:
    """How the key can be used again."""
    again = f"aws kms enable-key --key-id {key['Arn']}"
    if key["KeyState"] == "PendingDeletion":
        again = f"aws kms cancel-key-deletion --key-id {key['Arn']}, then {again}"
    return f"{again}; or, if what it encrypted may be lost: aws kms delete-alias --alias-name {KEY_ALIAS}"
