"""The tags of what SageMaker has."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from lifecycle_lambdas.aws_errors import is_missing


def tags_of(sagemaker: Any, arn: str) -> dict[str, str]:
    """Empty of what is not there (any more). Raises ClientError when they may not be read."""
    pages = sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
    try:
        return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
    except ClientError as error:
        if not is_missing(error):
            raise
        return {}
