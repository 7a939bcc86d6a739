"""AWS Signature Version 4, verified; pure functions.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
from datetime import UTC, datetime
from urllib.parse import quote

from local_aws.data_plane.http1 import Head
from local_aws.data_plane.invocations import Refusal

MOST_SKEW = 900  # seconds between the client's clock and ours
SERVICE = "sagemaker"
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<key>[^/, ]+)/(?P<date>\d{8})/(?P<region>[a-z0-9-]+)/(?P<service>[a-z-]+)"
    r"/aws4_request, *SignedHeaders=(?P<signed>[a-z0-9;-]+), *Signature=(?P<signature>[0-9a-f]{64})"
)


def check(head: Head, body: bytes, secret: str, token: str | None, now: float) -> None:
    """Whether who holds the secret has signed this request, just now.

    Args:
        token: of a session; None for a user's key.
        now: seconds since the epoch.

    Raises:
        Refusal: as AWS does.
    """
    headers = head.headers
    found = AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if found is None:
        text = "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' of AWS4-HMAC-SHA256."
        raise Refusal("IncompleteSignatureException", 403, text)
    if found["service"] != SERVICE:
        raise _mismatch(f"Credential should be scoped to correct service: '{SERVICE}'.")
    sent = headers.get("x-amz-date", "")
    _check_date(sent, found["date"], now)
    given = headers.get("x-amz-security-token")
    if (given or None) != token:
        text = "The security token included in the request is invalid."
        raise Refusal("UnrecognizedClientException", 403, text)
    names = found["signed"].split(";")
    digest = hashlib.sha256(body).hexdigest()
    hashed = headers.get("x-amz-content-sha256", digest)
    if "host" not in names or hashed != digest:
        raise _mismatch()
    method, target, _ = head.first
    path, _, query = target.partition("?")
    canonical = "\n".join(
        [
            method,
            quote(path, safe="/~"),  # what is encoded already is encoded once more
            "&".join(sorted(pair if "=" in pair else f"{pair}=" for pair in query.split("&") if pair)),
            *[f"{name}:{' '.join(headers.get(name, '').split())}" for name in names],
            "",
            found["signed"],
            digest,
        ]
    )
    scope = f"{found['date']}/{found['region']}/{SERVICE}/aws4_request"
    asked = hashlib.sha256(canonical.encode("latin-1", "replace")).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", sent, scope, asked])
    expected = hmac.new(_key(secret, found["date"], found["region"]), text.encode(), "sha256").hexdigest()
    if not hmac.compare_digest(expected, found["signature"]):
        raise _mismatch()


def _check_date(sent: str, scope_date: str, now: float) -> None:
    try:
        signed = datetime.strptime(sent, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        text = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        raise Refusal("IncompleteSignatureException", 403, text) from error
    if not sent.startswith(scope_date):
        raise _mismatch("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.")
    if abs(now - signed) > MOST_SKEW:
        how = "expired" if signed < now else "not yet current"
        raise _mismatch(f"Signature {how}: {sent} is more than 15 min. from the server's time.")


def _mismatch(message: str | None = None) -> Refusal:
    text = (
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access"
        " Key and signing method. Consult the service documentation for details."
    )
    return Refusal("InvalidSignatureException", 403, message or text)


@functools.lru_cache(1024)
def _key(secret: str, date: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, SERVICE, "aws4_request"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    return key
