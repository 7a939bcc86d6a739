"""The code bucket (archives and the stacks' templates), which the command makes, and uploads to it and others."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from botocore.exceptions import ClientError

from servicecatalog.account import Account
from servicecatalog.errors import InstallError

_EVERYTHING: dict[str, Any] = {"Status": "Enabled", "Filter": {"Prefix": ""}}
_BROKEN_OFF = {
    "ID": "uploads-that-were-broken-off",
    **_EVERYTHING,
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
}
_OVERWRITTEN = {
    "ID": "what-was-overwritten",
    **_EVERYTHING,
    "NoncurrentVersionExpiration": {"NoncurrentDays": 365},
    "Expiration": {"ExpiredObjectDeleteMarker": True},
}
# Of the platform's buckets, by the parameter that names one that is there: as platform.yaml has it.
LIFECYCLES: dict[str, list[dict[str, Any]]] = {
    "ExistingArtifactBucket": [
        _BROKEN_OFF,
        {**_OVERWRITTEN, "NoncurrentVersionTransitions": [{"StorageClass": "STANDARD_IA", "NoncurrentDays": 30}]},
    ],
    "ExistingTemplateBucket": [_BROKEN_OFF, _OVERWRITTEN],
    "ExistingBuildBucket": [
        _BROKEN_OFF,
        {
            "ID": "what-was-handed-on",
            **_EVERYTHING,
            "Expiration": {"Days": 30},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
        },
    ],
}


def ensure(account: Account) -> bool:
    """Make the code bucket, or put right what is there. False: it was there. Private, encrypted, versioned, TLS only.

    Every call names the account, so that nobody else's bucket of that name gets our code.

    Raises:
        InstallError: the bucket is another account's.
    """
    s3, name = account.client("s3"), account.bucket
    made = not exists(account, name)
    if made:
        where = {} if account.region == "us-east-1" else {"LocationConstraint": account.region}
        s3.create_bucket(Bucket=name, **({"CreateBucketConfiguration": where} if where else {}))
    ours: dict[str, Any] = {"Bucket": name, "ExpectedBucketOwner": account.number}
    _secure(account, name)
    encryption = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
    s3.put_bucket_encryption(**ours, ServerSideEncryptionConfiguration=encryption)
    s3.put_bucket_policy(**ours, Policy=json.dumps(policy(name, account.partition)))
    return made


def finish(account: Account, name: str, lifecycle: Sequence[Mapping[str, Any]]) -> bool:
    """Give a bucket that an earlier installation left what platform.yaml gives a new one.

    An attempt that failed may have left it half-made. A policy, a lifecycle and an encryption that are there may be the
    account's own.

    Args:
        lifecycle: rules as PutBucketLifecycleConfiguration takes them.

    Returns:
        Whether it had no policy or no lifecycle.
    """
    s3, ours = account.client("s3"), {"Bucket": name, "ExpectedBucketOwner": account.number}
    _secure(account, name)
    if without_policy := not _has(s3.get_bucket_policy, ours, "NoSuchBucketPolicy"):
        s3.put_bucket_policy(**ours, Policy=json.dumps(policy(name, account.partition)))
    if grows := not _has(s3.get_bucket_lifecycle_configuration, ours, "NoSuchLifecycleConfiguration"):
        s3.put_bucket_lifecycle_configuration(**ours, LifecycleConfiguration={"Rules": list(lifecycle)})
    return without_policy or grows


def _has(get: Callable[..., Any], bucket: Mapping[str, str], none: str) -> bool:
    """Whether a bucket has what a call gets; `none` is the code of the error that says it has none."""
    try:
        get(**bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] == none:
            return False
        raise
    return True


def _secure(account: Account, name: str) -> None:
    """Private and versioned."""
    s3 = account.client("s3")
    ours: dict[str, Any] = {"Bucket": name, "ExpectedBucketOwner": account.number}
    s3.put_public_access_block(
        **ours,
        PublicAccessBlockConfiguration={
            "BlockPublicAcls": True,
            "IgnorePublicAcls": True,
            "BlockPublicPolicy": True,
            "RestrictPublicBuckets": True,
        },
    )
    s3.put_bucket_versioning(**ours, VersioningConfiguration={"Status": "Enabled"})


def policy(name: str, partition: str) -> dict[str, Any]:
    """Refuses whatever comes unencrypted."""
    arn = f"arn:{partition}:s3:::{name}"
    statement = {
        "Sid": "EncryptedOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def upload(account: Account, name: str, key: str, body: bytes, tags: Mapping[str, str] | None = None) -> bool:
    """Put an object whose key names its contents into a bucket. False: it was there.

    Args:
        tags: of the object, set as it is made.
    """
    ours: dict[str, Any] = {"Bucket": name, "Key": key, "ExpectedBucketOwner": account.number}
    s3 = account.client("s3")
    try:
        s3.head_object(**ours)
        return False
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
    s3.put_object(**ours, Body=body, **({"Tagging": urlencode(tags)} if tags else {}))
    return True


def exists(account: Account, name: str) -> bool:
    """Whether this account has the bucket. Raises InstallError when it is another account's."""
    try:
        account.client("s3").head_bucket(Bucket=name, ExpectedBucketOwner=account.number)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 404:
            return False
        if status == 403:
            raise InstallError(
                f"the bucket {name} is another account's, or you may not see it (s3:ListBucket); "
                "if it is another account's, nobody here can use that name: report it to AWS as squatting"
            ) from error
        raise
    return True
