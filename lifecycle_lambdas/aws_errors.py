"""What AWS's refusals mean."""

from __future__ import annotations

from botocore.exceptions import ClientError


def is_missing(error: ClientError) -> bool:
    """SageMaker says ResourceNotFound, or ValidationException with "does not exist" or "could not find"."""
    code, message = error.response["Error"]["Code"], error.response["Error"]["Message"].lower()
    return code in ("ResourceNotFound", "ResourceNotFoundException") or (
        code == "ValidationException" and ("not exist" in message or "not find" in message or "not found" in message)
    )
