"""Whatever happens, CloudFormation gets one answer with the resource's own id, and no secret is shown."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from seed_lambda import dispatch, handler
from seed_lambda.answer import NotDelivered
from seed_lambda.context import Context
from seed_lambda.errors import OutOfTime, SeedError
from seed_lambda.request import parse
from tests.seed_lambda.fakes import Clients, Script, refusal, scripted_server
from tests.seed_lambda.requests import PROJECT, TEMPLATE, event, project

ENVIRONMENT = {
    "GIT_HOST": "codecommit",
    "GIT_BASE_URL": "none",
    "GIT_OWNER": "none",
    "GIT_TOKEN_SECRET_ARN": "none",
    "CODE_BUCKET": "modelyard-platform",
    "QUEUE_URL": "https://sqs.example.com/events",
    "AWS_REGION": "eu-central-1",
    "ARTIFACT_BUCKETS": "modelyard-artifacts",
    "DATA_BUCKETS": "none",
    "PLATFORM_BUCKETS": "modelyard-templates,modelyard-builds",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/modelyard-seed",
}


@pytest.fixture
def server() -> Iterator[Script]:
    with scripted_server() as script:
        script.answers = [(200, None, {})]
        yield script


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def respond(server: Script, request: dict[str, Any], clients: Clients | None = None) -> dict[str, Any]:
    """The one answer."""
    request |= {"ResponseURL": server.url + "/?signature=secret"}
    handler.respond(parse(request), 900.0, clients or Clients())
    (call,) = server.calls
    return json.loads(call.body)


def refusing(**_: Any) -> None:
    raise refusal("Throttling")


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def run(_: Context) -> dict[str, str]:
        raise error

    monkeypatch.setattr(dispatch, "run", run)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (SeedError("Project 'x': write less"), "Project 'x': write less"),
        (refusal("AccessDeniedException", "CreateRepository", "not authorized"), "AWS refused CreateRepository: Acc"),
        (ZeroDivisionError("oops"), "an error of the seed function itself, ZeroDivisionError: oops"),
        (OutOfTime("could not be finished in time"), "could not be finished in time"),
    ],
)
def test_every_error_is_a_failure_with_its_reason_and_the_log_group(
    server: Script, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    failing(monkeypatch, error)
    said = respond(server, event("Create", project()))
    assert (said["Status"], said["PhysicalResourceId"]) == ("FAILED", "modelyard-project/churn")
    assert said["Reason"].startswith(words)
    assert said["Reason"].endswith("(log group /aws/lambda/modelyard-seed)")


def waiting(seconds: float, status: str = "CREATE_IN_PROGRESS") -> Clients:
    """The stack waits for so many seconds whenever it is asked, which may be long after the tests were collected."""

    def describe(**_: Any) -> dict[str, Any]:
        since = datetime.now(UTC) - timedelta(seconds=seconds)
        return {"StackResourceDetail": {"ResourceStatus": status, "LastUpdatedTimestamp": since}}

    return Clients(cloudformation={"describe_stack_resource": describe})


@pytest.mark.parametrize(
    ("kind", "clients", "changes", "marked"),
    [
        ("Create", waiting(5), 0, True),
        ("Create", waiting(5), 1, False),  # one may have been made although its call failed
        ("Create", waiting(70), 0, False),  # another call of the function may have been killed before
        ("Create", waiting(5, "DELETE_IN_PROGRESS"), 0, False),
        ("Create", Clients(cloudformation={"describe_stack_resource": refusing}), 0, False),
        ("Update", waiting(5), 0, False),
        ("Delete", waiting(5), 0, False),
    ],
)
def test_a_creation_that_has_made_nothing_for_certain_says_so_by_its_id(
    server: Script, monkeypatch: pytest.MonkeyPatch, kind: str, clients: Clients, changes: int, marked: bool
) -> None:
    def run(context: Context) -> dict[str, str]:
        context.changes = changes
        raise SeedError("GitHub does not take the platform's token")

    monkeypatch.setattr(dispatch, "run", run)
    said = respond(server, event(kind, project()), clients)
    assert said["Status"] == "FAILED"
    assert said["PhysicalResourceId"] == "modelyard-project/churn" + ("/nothing-made" if marked else "")


def test_what_was_never_made_is_deleted_without_a_look_at_anything(server: Script) -> None:
    """Not at its host, which may be why it was not made, nor at what another creation made under the same name."""
    request = event("Delete", project(OnDelete="delete"), PhysicalResourceId="modelyard-project/churn/nothing-made")
    said = respond(server, request, Clients(cloudformation={}))
    assert (said["Status"], said["PhysicalResourceId"]) == ("SUCCESS", request["PhysicalResourceId"])


def test_faulty_properties_fail_before_anything_is_asked_of_aws(server: Script) -> None:
    said = respond(server, event("Create", project(Project="Churn!", Scenario="x")))
    assert said["Status"] == "FAILED"
    assert "Project 'Churn!'" in said["Reason"]
    assert "Scenario 'x'" in said["Reason"]


def test_the_deletion_of_what_was_refused_succeeds(server: Script) -> None:
    said = respond(server, event("Delete", project(Project="Churn!")))
    assert said["Status"] == "SUCCESS"
    assert said["PhysicalResourceId"] == "modelyard-project/Churn!"


def test_a_deletion_out_of_time_says_how_to_go_on(server: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, OutOfTime("could not be finished in time"))
    assert "delete again to continue" in respond(server, event("Delete", project()))["Reason"]


@pytest.mark.parametrize("name", ["CODE_BUCKET", "GIT_HOST"])
def test_a_platform_that_is_not_whole_says_so(server: Script, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    clients = Clients(codecommit={"get_repository": lambda **_: {}})
    assert f"environment variables {name} are not set" in respond(server, event("Create", TEMPLATE), clients)["Reason"]


def test_another_resource_type_is_refused(server: Script) -> None:
    said = respond(server, event("Create", project(), ResourceType="Custom::Other"))
    assert "'Custom::Other' is none of this function's" in said["Reason"]


def test_the_published_template_outlives_its_resource(server: Script) -> None:
    assert respond(server, event("Delete", TEMPLATE))["Status"] == "SUCCESS"


def test_an_answer_that_is_not_taken_fails_the_function(server: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers = [(403, None, {})]
    failing(monkeypatch, SeedError("x"))
    with pytest.raises(NotDelivered):
        respond(server, event("Create", project()))


def test_a_call_that_hangs_is_answered_before_the_functions_time_is_up(
    server: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    put = server.calls

    def hang(_: Context) -> dict[str, str]:
        assert answered.wait(30)
        return {}

    monkeypatch.setattr(dispatch, "run", hang)
    send = handler.answer.send

    def send_and_tell(*given: Any) -> None:
        send(*given)
        answered.set()

    monkeypatch.setattr(handler.answer, "send", send_and_tell)
    request = event("Create", project(), ResponseURL=server.url)
    handler.respond(parse(request), handler.FOR_THE_WATCH, Clients())  # the watch's time is now
    (call,) = put
    said = json.loads(call.body)
    assert (said["Status"], said["PhysicalResourceId"]) == ("FAILED", "modelyard-project/churn")
    assert "could not be finished in the function's time" in said["Reason"]


def test_no_line_holds_the_answers_address_or_a_property(
    server: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, RuntimeError(f"no answer from {server.url}/?signature=secret"))
    said = respond(server, event("Create", project()))
    shown = capsys.readouterr().err + said["Reason"]
    assert "signature" not in shown
    assert PROJECT["Description"] not in shown
    assert PROJECT["ServiceToken"] not in shown


@pytest.mark.parametrize("member", ["RequestType", "ResponseURL", "StackId", "RequestId", "LogicalResourceId"])
def test_an_event_that_is_no_request_is_refused_by_the_members_name(member: str) -> None:
    request = event("Create", project())
    del request[member]
    with pytest.raises(ValueError, match=member) as caught:
        parse(request)
    assert "signature" not in str(caught.value)


def test_a_request_shows_neither_address_nor_properties() -> None:
    shown = repr(parse(event("Create", project())))
    assert "signature" not in shown
    assert "Who leaves" not in shown
