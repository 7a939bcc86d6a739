"""What the command line asks AWS before anything is created: role, bucket, data; and putting files into the bucket."""

from __future__ import annotations

import difflib
import hashlib
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.exceptions import ClientError, CredentialRetrievalError, LoginError, SSOError, TokenRetrievalError

from pipeline import InputError
from pipeline.settings import Settings
from pipeline.stage_schema import StageFile

# What S3 calls an object that is not there, by HEAD and by GET.
NO_OBJECT = ("404", "NoSuchKey", "NoSuchBucket")
DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403")
# How services say that keys are over, or are none of theirs; S3's HEAD says a number alone.
SIGNED_OUT = (
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "UnrecognizedClientException",
)
SIGN_IN = (
    "Your AWS keys have expired, or are not valid (any more): sign in again as for the AWS CLI (aws sso login, or new "
    "keys in the environment), then run this command again"
)

# Made for each project by Modelyard's servicecatalog/product.yaml; the others for each Region by its platform.
READER, DEVELOPER, APPROVER = (f"modelyard-{{project}}-{who}" for who in ("reader", "developer", "approver"))
PLANNER, CREATOR = "modelyard-planner-{region}", "modelyard-project-creator-{region}"
GROUPS = "register-project --groups-only"
CI, PROMOTE = "ci", "promote"
NEEDED = {
    "upload-data": (READER, DEVELOPER),
    "register-project": (CREATOR,),
    "upsert": (READER, DEVELOPER),
    "start": (READER, DEVELOPER),
    "plan": (READER, PLANNER),
    "approve": (READER, PLANNER, APPROVER),
    "reject": (READER, PLANNER, APPROVER),
    "swap": (READER, APPROVER),
    "promote-challenger": (READER, APPROVER),
}


def session(settings: Settings) -> boto3.Session:
    """Credentials and endpoints come from the environment, as for every AWS tool; the Region from settings.yaml."""
    return boto3.Session(region_name=settings.aws.region)


def error_code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def is_missing(error: ClientError) -> bool:
    """Whether SageMaker refused since what was named is not there; of most resources it says so in words alone."""
    said = str(error).lower()
    return error_code(error) in ("ValidationException", "ResourceNotFound") and (
        "not exist" in said or "could not find" in said
    )


def resolve_role(aws: boto3.Session, role: str) -> str:
    """The role's ARN; an ARN is taken as it is, without asking. Raises InputError when there is no such role."""
    if role.startswith("arn:"):
        return role
    name = role.rpartition("/")[2]
    try:
        return str(aws.client("iam").get_role(RoleName=name)["Role"]["Arn"])
    except ClientError as error:
        if error_code(error) != "NoSuchEntity":
            raise
        raise InputError(
            f"settings.yaml: aws.role: there is no role {name!r} in this account: correct it, or have it created"
        ) from None


def unknown_instance_type(stage_file: StageFile) -> str | None:
    """A warning when boto3 knows no such instance type for what the stage file asks for; it may be newer than boto3."""
    if stage_file.kind == "serverless":
        return None
    shape = "TransformInstanceType" if stage_file.kind == "batch" else "ProductionVariantInstanceType"
    known = botocore.session.get_session().get_service_model("sagemaker").shape_for(shape).enum
    if stage_file.instance_type in known:
        return None
    near = difflib.get_close_matches(stage_file.instance_type, known, n=1)
    hint = f", did you mean {near[0]}?" if near else ""
    return f"instance_type: boto3 knows no {stage_file.instance_type} for kind: {stage_file.kind}{hint}"


def check_bucket(aws: boto3.Session, bucket: str) -> None:
    """Raises InputError unless the bucket is there and belongs to the account that we are signed in to.

    Without asking for the owner, data and code could go to a stranger who took the bucket's name first.
    """
    account = aws.client("sts").get_caller_identity()["Account"]
    try:
        answer = aws.client("s3").head_bucket(Bucket=bucket, ExpectedBucketOwner=account)
        # boto3 follows a bucket to another Region by itself; a pipeline, and its jobs, would not
        region = answer.get("BucketRegion", aws.region_name)
        fault = "" if region == aws.region_name else f"it is in {region}, not in {aws.region_name}: choose another"
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status == 404:
            fault = "there is no such bucket: create it, or correct the name"
        elif status == 403:
            fault = (
                f"it does not belong to account {account}, or you may not use it: choose another, or ask an "
                "administrator of the account for access (README.md, Permissions)"
            )
        elif status in (301, 400):
            fault = f"it is not in {aws.region_name}: choose one in the Region of aws.region"
        else:
            raise
    if fault:
        raise InputError(f"settings.yaml: aws.bucket {bucket!r}: {fault}")


def data_fingerprint(aws: boto3.Session, uri: str) -> str:
    """A hash of the keys, sizes and ETags of all objects under `uri`: other data at the same address has another one.

    Raises InputError when there is no object, or only empty ones; or one that only begins with the same text: an
    S3Prefix of a job takes data.csv.bak beside data.csv (SageMaker API reference, S3DataType).
    """
    prefix = split_uri(uri)[1]
    objects = _objects(aws, uri)
    others = [item["Key"] for item in objects if not f"{item['Key']}/".startswith(f"{prefix.rstrip('/')}/")]
    if others:
        raise InputError(
            f"{uri}: {others[0]} begins in the same way, and a job would take it for data too: move it away, or choose "
            "an address that no other one begins with (a prefix ends with /)"
        )
    if not any(item["Size"] for item in objects):
        found = "only empty objects" if objects else "no object"
        raise InputError(
            f"{uri}: there is {found} there: put the data there (python -m pipeline upload-data PATH), "
            "or correct data.uri in settings.yaml"
        )
    lines = "".join(f"{item['Key'].removeprefix(prefix)} {item['Size']} {item['ETag']}\n" for item in objects)
    return hashlib.sha256(lines.encode()).hexdigest()


def put_if_absent(aws: boto3.Session, bucket: str, key: str, content: bytes) -> bool:
    """Puts an object whose key says what is in it; returns whether it had to be put."""
    s3 = aws.client("s3")
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") != 404:
            raise
        s3.put_object(Bucket=bucket, Key=key, Body=content)
        return True
    return False


def sample_is_there(aws: boto3.Session, path: Path, uri: str) -> bool:
    """Whether upload_data of the sample would change nothing: it lies there already, byte for byte.

    Raises InputError when anything else lies there: it may be what the model is trained with, and of a bucket without
    versions nothing that is overwritten comes back.
    """
    bucket, key = split_uri(uri)
    target = _target(path, key)
    found = {item["Key"]: item["Size"] for item in _objects(aws, uri) if not _is_folder(item)}
    below = [name for name in sorted(found) if f"{name}/".startswith(f"{key.rstrip('/')}/")]
    same = target in found and found[target] == path.stat().st_size and _holds(aws, bucket, target, path.read_bytes())
    if other := next((name for name in below if not (same and name == target)), None):
        raise InputError(
            f"s3://{bucket}/{other} is there already, and is not the sample ({path.name}), or cannot be read. The "
            "sample is for a new project, and is not sent. To send data of your own, name it: "
            "python -m pipeline upload-data PATH"
        )
    return same


def upload_data(aws: boto3.Session, path: Path, uri: str) -> list[str]:
    """Uploads a file to `uri`, or the files of a folder to below it; returns their URIs. Raises InputError."""
    bucket, key = split_uri(uri)
    if path.is_file() and not key.endswith("/") and path.suffix.lower() != PurePosixPath(key).suffix.lower():
        raise InputError(
            f"{path.name} would be stored as {uri}: give data.uri in settings.yaml the same ending, or a / at its end"
        )
    if path.is_file():
        files = {path: _target(path, key)}
    elif path.is_dir():
        below = sorted(file for file in path.rglob("*") if file.is_file())
        names = {file: file.relative_to(path) for file in below}
        # Preprocess skips these names too (steps/tables.py): what Spark and others leave beside the data
        files = {
            file: f"{key.rstrip('/')}/{name.as_posix()}"
            for file, name in names.items()
            if not any(part.startswith((".", "_")) for part in name.parts)
        }
    else:
        raise InputError(f"{path}: there is no such file or folder: name the data, or make it with sample-data")
    if not files or not all(file.stat().st_size for file in files):
        empty = next((file for file in files if not file.stat().st_size), path)
        raise InputError(f"{empty} is empty: there is nothing to upload")
    for file, target in files.items():
        aws.client("s3").upload_file(str(file), bucket, target)
    return [f"s3://{bucket}/{target}" for target in files.values()]


def download(aws: boto3.Session, uri: str, path: Path) -> None:
    """Downloads one object. Raises InputError when it is not there."""
    bucket, key = split_uri(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        aws.client("s3").download_file(bucket, key, str(path))
    except ClientError as error:
        if error_code(error) not in NO_OBJECT:
            raise
        raise InputError(_no_object(uri)) from None


def read_object(aws: boto3.Session, uri: str) -> bytes:
    """One object's content. Raises InputError when it is not there."""
    bucket, key = split_uri(uri)
    try:
        return bytes(aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    except ClientError as error:
        if error_code(error) not in NO_OBJECT:
            raise
        raise InputError(_no_object(uri)) from None


def split_uri(uri: str) -> tuple[str, str]:
    """s3://bucket/some/key as ("bucket", "some/key")."""
    parts = urlsplit(uri)
    if parts.scheme != "s3" or not parts.netloc:
        raise InputError(f"{uri!r} is no S3 URI: write s3://bucket/key")
    return parts.netloc, uri.removeprefix(f"s3://{parts.netloc}").lstrip("/")


def _no_object(uri: str) -> str:
    return f"{uri}: there is no such object: was it deleted, or did Evaluate not end well?"


def _target(path: Path, key: str) -> str:
    """The key that a file gets: below a prefix it keeps its name."""
    return key + path.name if key.endswith("/") else key


def _objects(aws: boto3.Session, uri: str) -> list[dict[str, Any]]:
    """All objects whose address begins with `uri`, by key. Raises InputError when there is no such bucket."""
    bucket, prefix = split_uri(uri)
    pages = aws.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    try:
        found = [item for page in pages for item in page.get("Contents", [])]
    except ClientError as error:
        if error_code(error) != "NoSuchBucket":
            raise
        raise InputError(f"{uri}: there is no bucket {bucket!r}: correct data.uri in settings.yaml") from None
    return sorted(found, key=lambda item: str(item["Key"]))


def _is_folder(item: dict[str, Any]) -> bool:
    """What S3's console leaves where somebody makes a folder."""
    return item["Key"].endswith("/") and item["Size"] == 0


def _holds(aws: boto3.Session, bucket: str, key: str, content: bytes) -> bool:
    """Whether the object is exactly this; False too where it may not be read."""
    try:
        return bool(aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read() == content)
    except ClientError as error:
        if not is_denied(error):
            raise
        return False


def is_denied(error: Exception) -> bool:
    """Of boto3's errors: S3's transfers say in words alone why AWS refused."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "")) in DENIED
    return "(AccessDenied)" in str(error) or "(403)" in str(error)


def is_signed_out(error: Exception) -> bool:
    """Of boto3's errors: whether another sign-in is the remedy."""
    if isinstance(error, ClientError):
        return error_code(error) in SIGNED_OUT
    return isinstance(error, CredentialRetrievalError | LoginError | SSOError | TokenRetrievalError)


def advice(command: str, project: str, region: str, said: str) -> str:
    """What follows AWS's own message.

    Args:
        command: such as "start".
        said: AWS's message: what a policy forbids is not to be had by another one.
    """
    if "explicit deny" in said:
        return "A policy forbids it, whatever others allow: CI and pipelines never approve (README.md, Permissions)"
    if command == GROUPS:
        return (
            "This is for an administrator of the account: a group's tags say which role its models run with, and "
            "whether versions are deployed without a person (README.md, Permissions)"
        )
    if command == CI:
        return (
            "This job's role lacks it: an administrator of the account updates the project, which brings its roles up "
            "to date, or where they are not the platform's gives them what README.md says under Permissions"
        )
    if command == PROMOTE:
        return (
            "A push to prod promotes, with the role of CI: push there, or run its job again. An administrator of the "
            "account can promote by hand"
        )
    policies = [one.format(project=project.lower(), region=region) for one in NEEDED.get(command, (READER,))]
    named = ", ".join(policies[:-1]) + " and " + policies[-1] if policies[1:] else policies[0]
    return f"Ask an administrator of the account: `{command}` needs {named} (README.md, Permissions)"
