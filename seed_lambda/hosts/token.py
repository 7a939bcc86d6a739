"""The Git host's token, from Secrets Manager; it is concealed in every line before anything else is done with it."""

from __future__ import annotations

import json

from botocore.exceptions import ClientError

from seed_lambda.context import Context
from seed_lambda.errors import SeedError


def read_token(context: Context) -> str:
    """The token, from a secret that is the token alone or JSON with a member "token".

    Raises:
        SeedError: there is none; the message holds nothing of the secret.
    """
    secret = context.settings.git_token_secret_arn
    remedy = "an administrator puts the token there as text, or as JSON {\"token\": \"...\"}"  # fmt: skip
    if not secret:
        raise SeedError(
            "this platform has no token for GitHub: take GitHost codecommit, or an administrator names the secret that "
            "holds one with make install-platform"
        )
    try:
        text = context.client("secretsmanager").get_secret_value(SecretId=secret).get("SecretString") or ""
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code not in ("ResourceNotFoundException", "AccessDeniedException", "InvalidRequestException"):
            raise
        raise SeedError(f"the token's secret {secret} cannot be read ({code}): {remedy}") from error
    token = _token_of(text).strip()
    context.log.conceal(text.strip())
    context.log.conceal(token)
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise SeedError(f"the secret {secret} holds no token: {remedy}")
    return token


def _token_of(text: str) -> str:
    if not text.lstrip().startswith("{"):
        return text
    try:
        value = json.loads(text)["token"]
    except (ValueError, KeyError):
        return ""
    return value if isinstance(value, str) else ""
