"""Identity tokens (JSON Web Tokens) that this server issues to jobs of its Git hosts, and knows again.

A CI job proves with one who it is: sts:AssumeRoleWithWebIdentity takes it for a role's session. GitHub's are signed
with RS256, and AWS fetches the public key from the issuer; here issuer and verifier are one process, so the tokens are
signed with a key that never leaves it (HS256), and no other server's verify.
https://docs.github.com/en/actions/reference/security/oidc, RFC 7519, RFC 7515
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
import uuid
from collections.abc import Mapping
from typing import Any

from local_aws.store import Scope, Store

LASTS = 300  # seconds; GitHub's are good for five minutes
_HEADER = {"alg": "HS256", "typ": "JWT", "kid": "local_aws"}
_ANYWHERE = Scope("", "")  # a Git host is of no account and no Region
_KEY = "key"

Claims = dict[str, Any]


class InvalidToken(Exception):
    """What is wrong with a token; the message never holds the token."""


class ExpiredToken(InvalidToken):
    """Its time is over; whoever has it asks for another."""


class OidcIssuer:
    """Issues and verifies the tokens of one issuer.

    Args:
        url: what their claim "iss" says.
        store: keeps the key, so that tokens are still good after a restart with the same state.
    """

    def __init__(self, url: str, store: Store) -> None:
        self.url = url
        table = store.table("oidc")
        kept = table.get(_ANYWHERE, _KEY)
        if kept is None:
            kept = {"key": secrets.token_hex(32)}
            table.put(_ANYWHERE, _KEY, kept)
        self._key = bytes.fromhex(kept["key"])

    def issue(self, claims: Mapping[str, Any], lasts: int = LASTS) -> str:
        """A signed token with these claims and the issuer's own: iss, jti, iat, nbf, exp.

        Args:
            claims: such as {"sub": "repo:acme/churn:ref:refs/heads/dev", "aud": "sts.amazonaws.com"}.
            lasts: seconds until it expires; 0 or less makes one that has expired.
        """
        now = int(time.time())
        own = {"iss": self.url, "jti": str(uuid.uuid4()), "iat": now, "nbf": now - 600, "exp": now + lasts}
        signed = f"{_encoded(_HEADER)}.{_encoded({**claims, **own})}"
        return f"{signed}.{_base64(self._signature(signed))}"

    def verify(self, token: str) -> Claims:
        """The claims of a token that this server issued and that has not expired.

        Raises:
            ExpiredToken: its time is over.
            InvalidToken: it is no token of this server's, or was changed.
        """
        signed, _, signature = token.rpartition(".")
        if signed.count(".") != 1 or not token.isascii():
            raise InvalidToken("It is no JSON Web Token: that is three parts with dots between.")
        # Everything else is looked at only afterwards: it is then what this server wrote.
        if not hmac.compare_digest(_base64(self._signature(signed)).encode(), signature.encode()):
            raise InvalidToken("Its signature is not this server's.")
        claims = json.loads(_decoded(signed.partition(".")[2]))
        if claims["iss"] != self.url:
            raise InvalidToken(f"It was issued by {claims['iss']}, which this server is no longer; it is {self.url}.")
        if claims["exp"] <= time.time():
            raise ExpiredToken("It has expired; the job asks for another.")
        return claims

    def _signature(self, signed: str) -> bytes:
        return hmac.digest(self._key, signed.encode(), hashlib.sha256)


def _encoded(part: Mapping[str, Any]) -> str:
    return _base64(json.dumps(part, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    """As JWTs have it: the alphabet of URLs, no padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
