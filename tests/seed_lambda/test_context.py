"""Nothing is changed in the name of a request that the stack does not wait for any more, or without time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from seed_lambda.context import PATIENCE
from seed_lambda.errors import OutOfTime, Superseded
from seed_lambda.log import Log
from tests.seed_lambda.fakes import Clients, Clock, context, refusal
from tests.seed_lambda.requests import STACK, event, project


def stack(resource: str, status: str = "CREATE_IN_PROGRESS") -> Clients:
    detail = {"StackResourceDetail": {"ResourceStatus": resource}}
    return Clients(
        cloudformation={
            "describe_stack_resource": lambda **_: detail,
            "describe_stacks": lambda **_: {"Stacks": [{"StackStatus": status}]},
            "get_paginator": lambda _: SimpleNamespace(paginate=lambda **_: [{"StackEvents": []}]),
        }
    )


@pytest.mark.parametrize("kind", ["Create", "Update", "Delete"])
def test_a_current_request_goes_on(kind: str) -> None:
    context(stack(f"{kind.upper()}_IN_PROGRESS"), request=event(kind, project())).still_current()


@pytest.mark.parametrize("kind", ["Create", "Update", "Delete"])
@pytest.mark.parametrize(
    "status", ["CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "CREATE_FAILED", "CREATE_COMPLETE"]
)
def test_any_other_status_stops_it(kind: str, status: str) -> None:
    if status == f"{kind.upper()}_IN_PROGRESS":
        return
    with pytest.raises(Superseded, match=status):
        context(stack(status), request=event(kind, project())).still_current()


def test_a_stack_that_is_gone_stops_it() -> None:
    def gone(**_: Any) -> None:
        raise refusal("ValidationError", message=f"Stack '{STACK}' does not exist")

    with pytest.raises(Superseded, match="absent"):
        context(Clients(cloudformation={"describe_stack_resource": gone})).still_current()


def test_no_time_stops_it() -> None:
    with pytest.raises(OutOfTime):
        context(seconds=0).still_current()


def test_waiting_never_goes_beyond_the_deadline() -> None:
    clock = Clock()
    at = context(clock=clock, seconds=10)
    at.pause(9)
    with pytest.raises(OutOfTime):
        at.pause(1)
    assert clock.waited == [9]


@pytest.mark.parametrize(
    ("kind", "status", "update", "creation"),
    [
        ("Update", "UPDATE_IN_PROGRESS", False, False),
        ("Update", "UPDATE_ROLLBACK_IN_PROGRESS", True, False),
        ("Delete", "ROLLBACK_IN_PROGRESS", False, True),
        ("Delete", "DELETE_IN_PROGRESS", False, False),
    ],
)
def test_what_is_taken_back_is_known_by_the_stacks_status(kind: str, status: str, update: bool, creation: bool) -> None:
    at = context(stack("x", status), request=event(kind, project()))
    assert (at.undoing_update, at.undoing_creation) == (update, creation)


def test_patience_with_a_silent_host_is_one_for_all_of_a_request() -> None:
    clock = Clock()
    at = context(stack("DELETE_IN_PROGRESS"), clock=clock)
    at.pause_for_host(10)
    at.waited_for_host(25)
    assert at.patience() == PATIENCE["Create"] - 35
    assert clock.waited == [10]
    at.changes = 1
    back = at.taking_back()
    assert back is not None
    assert back.patience() == PATIENCE["Delete"]  # what was made has to go all the same
    assert context(seconds=5).patience() == 5


def test_a_secret_is_in_no_line_also_where_json_escapes_it() -> None:
    lines: list[str] = []
    log = Log({}, lines.append)
    log.conceal('to"ken\\x')
    log("a failure", error='refused to"ken\\x here')
    assert "ken" not in lines[0]
    assert log.clean('to"ken\\x') == "***"
