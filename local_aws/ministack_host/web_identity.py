"""sts:AssumeRoleWithWebIdentity: a token's signature, its provider and its audience, before the role's trust is asked.

Touches: what `sts` refuses with IAM enforced, and what it answers.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping
from typing import Any
from xml.sax.saxutils import escape

from local_aws.ministack_host.app import before_first_request, requested_from
from local_aws.oidc import ExpiredToken, InvalidToken
from local_aws.permissions.trust import Provider, audience_fault
from local_aws.store import Scope

# What MiniStack answers whatever the token says.
_SUBJECT = b"<SubjectFromWebIdentityToken>test-subject<"
_AUDIENCE = b"<Audience>sts.amazonaws.com<"
_PROVIDER = b"<Provider>sts.amazonaws.com<"

_claims: contextvars.ContextVar[Mapping[str, Any] | None] = contextvars.ContextVar("claims of a token", default=None)


def take_web_identities(verify: Callable[[str], Mapping[str, Any]]) -> None:
    """With IAM enforced, let STS take the tokens that this server has issued and no others.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html

    Args:
        verify: answers a token's claims; raises local_aws.oidc.InvalidToken.
    """
    import ministack.app

    before_first_request("sts", lambda: _prepare(verify))
    handle = ministack.app.SERVICE_HANDLERS["sts"]

    async def handle_and_name(*request: Any) -> Any:
        token = _claims.set(None)
        try:
            status, headers, body = await handle(*request)
            claims = _claims.get()
        finally:
            _claims.reset(token)
        if claims is None or status != 200 or not isinstance(body, bytes):
            return status, headers, body
        for written, claim in ((_SUBJECT, "sub"), (_AUDIENCE, "aud"), (_PROVIDER, "iss")):
            name = written.partition(b">")[0] + b">"
            body = body.replace(written, name + escape(str(claims[claim])).encode() + b"<")
        return status, headers, body

    ministack.app.SERVICE_HANDLERS["sts"] = handle_and_name


def _prepare(verify: Callable[[str], Mapping[str, Any]]) -> None:
    from ministack.services import iam, sts

    refuse = sts._web_identity_trust_denied

    def refuse_or_remember(role: str, params: dict[str, Any], use_json: bool) -> Any:
        try:
            claims = verify(sts._p(params, "WebIdentityToken"))
        except ExpiredToken as error:
            return _error("ExpiredTokenException", f"Token expired: {error}")
        except InvalidToken as error:
            return _error("InvalidIdentityToken", f"The ID Token provided is not a valid JWT. {error}")
        issuer, account = str(claims["iss"]), role.split(":")[4]
        host = issuer.split("://", 1)[-1].rstrip("/")
        with requested_from(Scope(account, "")):
            record = iam._oidc_providers.get(f"arn:aws:iam::{account}:oidc-provider/{host}")
        provider = Provider(issuer, tuple(record["ClientIDList"])) if record else None
        if fault := audience_fault(claims, provider):
            return _error("InvalidIdentityToken", fault)
        if refusal := refuse(role, params, use_json):
            return refusal
        with requested_from(Scope(account, "")):
            longest = int(iam._roles[role.rpartition("/")[2]]["MaxSessionDuration"])
        if int(sts._p(params, "DurationSeconds") or 3600) > longest:
            message = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            return _error("ValidationError", message)
        _claims.set(claims)
        return None

    def _error(code: str, message: str) -> Any:
        return sts._error(400, code, escape(message), ns="sts")

    sts._web_identity_trust_denied = refuse_or_remember
