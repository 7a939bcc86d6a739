"""Signatures of InvokeEndpoint's requests, and how long an answer about who may invoke what holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local_aws.data_plane import permits as permits_module
from local_aws.data_plane.http1 import Head
from local_aws.data_plane.invocations import Refusal
from local_aws.data_plane.permits import FOR_SECONDS, Permits
from local_aws.data_plane.signature import check

KEY, SECRET = "AKIAEXAMPLE", "secret"
TARGET = "/endpoints/churn-dev/invocations"


def signed(body: bytes = b"1,2", token: str | None = None, target: str = TARGET, service: str = "sagemaker") -> Head:
    """The head of a request that botocore has signed."""
    headers = {"Content-Type": "text/csv", "Host": "127.0.0.1:1"}
    request = AWSRequest("POST", f"http://127.0.0.1:1{target}", headers, body)
    SigV4Auth(Credentials(KEY, SECRET, token), service, "us-east-1").add_auth(request)
    return Head(("POST", target, "HTTP/1.1"), {name.lower(): value for name, value in request.headers.items()})


def now() -> float:
    return datetime.now(UTC).timestamp()


def refused(head: Head, body: bytes = b"1,2", secret: str = SECRET, token: str | None = None, at: float = 0) -> str:
    with pytest.raises(Refusal) as refusal:
        check(head, body, secret, token, now() + at)
    assert refusal.value.status == 403
    return refusal.value.code


@pytest.mark.parametrize("target", [TARGET, f"{TARGET}?b=2&a=1&c", "/endpoints/a%20b/invocations"])
def test_what_botocore_signs_is_right(target):
    check(signed(target=target), b"1,2", SECRET, None, now())
    check(signed(target=target, token="token"), b"1,2", SECRET, "token", now())


def test_another_secret_body_target_header_or_token_is_wrong():
    assert refused(signed(), secret="other") == "InvalidSignatureException"
    assert refused(signed(), body=b"1,3") == "InvalidSignatureException"
    elsewhere = Head(("POST", "/endpoints/other/invocations", "HTTP/1.1"), signed().headers)
    assert refused(elsewhere) == "InvalidSignatureException"
    head = signed()
    head.headers["host"] = "127.0.0.1:2"
    assert refused(head) == "InvalidSignatureException"
    assert refused(signed(token="token"), token="other") == "UnrecognizedClientException"
    assert refused(signed(), token="token") == "UnrecognizedClientException"
    assert refused(signed(token="token")) == "UnrecognizedClientException"
    assert refused(signed(service="logs")) == "InvalidSignatureException"


def test_a_signature_without_its_parts_or_of_another_time_is_refused():
    head = signed()
    head.headers["authorization"] = head.headers["authorization"].partition(", Signature")[0]
    assert refused(head) == "IncompleteSignatureException"
    head = signed()
    del head.headers["x-amz-date"]
    assert refused(head) == "IncompleteSignatureException"
    assert refused(signed(), at=1000) == "InvalidSignatureException"
    assert refused(signed(), at=-1000) == "InvalidSignatureException"
    unsigned_host = signed()
    unsigned_host.headers["authorization"] = unsigned_host.headers["authorization"].replace(";host", "")
    assert refused(unsigned_host) == "InvalidSignatureException"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return now()


class Server:
    """Takes the questions, and answers them when it is told to."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.again: list[str] = []
        self.permits = Permits(lambda kind, **content: self.asked.append(content))

    def check(self, name: str = "request") -> bool:
        return self.permits.check(signed(), b"1,2", "churn-dev", lambda: self.again.append(name))

    def answer(self, refusal: list[str] | None = None) -> None:
        self.permits.know({**self.asked[-1], "secret": SECRET, "token": None, "refusal": refusal})


def test_the_server_is_asked_once_for_a_key_and_an_endpoint_and_again_after_a_while(monkeypatch):
    clock, server = Clock(), Server()
    monkeypatch.setattr(permits_module, "time", clock)
    assert [server.check("first"), server.check("second")] == [False, False]
    assert server.asked == [{"access_key": KEY, "region": "us-east-1", "endpoint": "churn-dev"}]
    server.answer()
    assert server.again == ["first", "second"]
    assert server.check()
    clock.now += FOR_SECONDS + 0.1
    assert not server.check()
    server.answer(["AccessDeniedException", "no"])
    with pytest.raises(Refusal, match="no"):
        server.check()
    assert len(server.asked) == 2


def test_the_accounts_own_key_is_not_asked_about():
    server = Server()
    head = Head(("POST", TARGET, "HTTP/1.1"), {
        "authorization": "AWS4-HMAC-SHA256 Credential=123456789012/20261121/us-east-1/sagemaker/aws4_request, x"
    })  # fmt: skip
    assert server.permits.check(head, b"", "churn-dev", lambda: None)
    assert server.asked == []
