"""The answer keeps to CloudFormation's protocol, reaches it whatever fails in between, and shows no secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from seed_lambda import answer
from seed_lambda.answer import LARGEST, Answer, NotDelivered
from seed_lambda.request import parse
from tests.seed_lambda.fakes import Clock, Reply, Script, context, scripted_server
from tests.seed_lambda.requests import STACK, event, project

REQUEST = parse(event("Create", project()))
TAKEN: Reply = (200, None, {})


@pytest.fixture
def server() -> Iterator[Script]:
    with scripted_server() as script:
        yield script


def send(server: Script, result: Answer, clock: Clock | None = None, lines: list[str] | None = None) -> None:
    request = event("Create", project(), ResponseURL=server.url + "/answer?signature=secret")
    answer.send(context(clock=clock, lines=lines, request=request), result, 60)


def test_it_is_put_with_an_empty_content_type(server: Script) -> None:
    server.answers = [TAKEN]
    send(server, Answer("SUCCESS", "modelyard-project/churn", data={"CloneUrl": "https://x"}))
    (call,) = server.calls
    assert (call.method, call.path, call.headers["Content-Type"]) == ("PUT", "/answer?signature=secret", "")
    assert json.loads(call.body) == {
        "Status": "SUCCESS",
        "PhysicalResourceId": "modelyard-project/churn",
        "StackId": STACK,
        "RequestId": REQUEST.request_id,
        "LogicalResourceId": "Seed",
        "NoEcho": False,
        "Data": {"CloneUrl": "https://x"},
    }


@pytest.mark.parametrize("reason", ["x" * 5000, "ü" * 5000, '"\\' * 3000])
def test_a_long_reason_is_cut_to_what_fits(reason: str) -> None:
    body = Answer("FAILED", "id", reason).body(REQUEST)
    assert LARGEST - 2 <= len(body) <= LARGEST
    said = json.loads(body)["Reason"]
    assert said.endswith(" ...")
    assert reason.startswith(said[:-4])


def test_a_reason_that_fits_is_whole() -> None:
    assert json.loads(Answer("FAILED", "id", "x" * 3500).body(REQUEST))["Reason"] == "x" * 3500


def test_what_is_no_text_does_not_keep_it_from_being_sent() -> None:
    assert json.loads(Answer("FAILED", "id", "a\ud800b").body(REQUEST))["Reason"] == "a?b"


def test_a_failure_always_has_a_reason() -> None:
    assert json.loads(Answer("FAILED", "id").body(REQUEST))["Reason"]


def test_data_that_cannot_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="more than 4096 bytes"):
        Answer("SUCCESS", "id", data={"x": "y" * 5000}).body(REQUEST)


@pytest.mark.parametrize("fault", [(500, None, {}), (503, None, {}), (429, None, {}), (408, None, {}), None])
def test_what_passes_is_tried_again(server: Script, fault: Any) -> None:
    server.answers = [fault, fault, TAKEN]
    clock = Clock()
    send(server, Answer("SUCCESS", "id"), clock)
    assert len(server.calls) == 3
    assert clock.waited == [0.5, 1.0]


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_refusal_is_final(server: Script, status: int) -> None:
    server.answers = [(status, None, {})]
    with pytest.raises(NotDelivered, match=f"HTTP status {status}"):
        send(server, Answer("SUCCESS", "id"))
    assert len(server.calls) == 1


def test_it_gives_up_in_time(server: Script) -> None:
    server.answers = [(500, None, {})]
    clock = Clock()
    with pytest.raises(NotDelivered):
        send(server, Answer("SUCCESS", "id"), clock)
    assert sum(clock.waited) < 60


def test_the_address_is_never_shown(server: Script) -> None:
    server.answers = [(500, None, {}), (403, None, {})]
    lines: list[str] = []
    with pytest.raises(NotDelivered) as caught:
        send(server, Answer("SUCCESS", "id"), lines=lines)
    assert "signature" not in "".join(lines) + str(caught.value)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://x/y", "", "http://example.com/x", "http://127.0.0.1.example.com", "http://["]
)
def test_only_https_is_written_to(url: str) -> None:
    request = event("Create", project(), ResponseURL=url or "x")
    with pytest.raises(NotDelivered, match="no HTTPS address"):
        answer.send(context(request=request), Answer("SUCCESS", "id"), 60)
