"""Reading and writing whole objects of S3."""

from __future__ import annotations

from botocore.exceptions import ClientError

from lifecycle_lambdas.context import Context


class Unreadable(Exception):
    """An object that is not there, or may not be read; the message names it and the remedy."""


def uri(bucket: str, key: str) -> str:
    return f"s3://{bucket}/{key}"


def read(context: Context, address: str) -> bytes:
    """The object's content.

    Args:
        address: s3://bucket/key.

    Raises:
        Unreadable: it is not there or may not be read, which S3 tells apart only for those who may list the bucket.
        ClientError: S3 cannot answer now.
    """
    bucket, _, key = address.removeprefix("s3://").partition("/")
    try:
        return bytes(context.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status not in (400, 403, 404):
            raise
        raise Unreadable(
            f"{address} cannot be read ({error.response['Error']['Code']}): either it was deleted, or the bucket is "
            "missing in the platform's parameter ArtifactBuckets, or its key in ProjectKmsKeyArns"
        ) from error


def write(context: Context, bucket: str, key: str, content: bytes, content_type: str) -> None:
    """Raises ClientError."""
    context.client("s3").put_object(Bucket=bucket, Key=key, Body=content, ContentType=content_type)
