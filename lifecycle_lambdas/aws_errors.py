"""What AWS's refusals mean."""

from __future__ import annotations

from botocore.exceptions import ClientError


def is_missing(error: ClientError) -> bool:
    """SageMaker says ResourceNotFound, or ValidationException with "does not exist" or "could not find"."""
    code, message = error.response["Error"]["Code"], error.response["Error"]["Message"].lower()
    return code in ("ResourceNotFound", "ResourceNotFoundException") or (
        code == "ValidationException" and ("not exist" in message or "not find" in message or "not found" in message)
    )


def not_allowed(error: ClientError) -> bool:
    """Whether AWS says that the caller lacks a permission, or that a key of KMS is disabled or about to be deleted.

    Each service has its own code for keys, such as S3's KMS.DisabledException (unlike DynamoDB's and SNS's own).
    """
    code = error.response["Error"]["Code"]
    return code in ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation") or "KMS" in code
