"""A Git host that stops answering, at whichever call: the stack fails within a minute, and nothing of it is left."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from urllib3 import HTTPResponse
from urllib3.exceptions import ConnectTimeoutError, ReadTimeoutError

from seed_lambda.context import PATIENCE
from tests.seed_lambda.account import Account
from tests.seed_lambda.fault_matrix import undisturbed
from tests.seed_lambda.simulated_github import BASE_URL, response

LONGEST = PATIENCE["Create"] + 5.0  # seconds; the answer has to come within a minute, from a function that has to start


class Failing(Account):
    """GitHub fails from its call number `first` on.

    Args:
        kind: silent; slow, which answers 502 after some seconds; closed, where no connection comes about; or pushes,
            where Git's calls alone are silent.
    """

    def __init__(self, first: int, kind: str) -> None:
        super().__init__("github")
        self.first, self.kind, self.calls = first, kind, 0
        self.github.around = self.around_host
        self.answered: list[float] = []  # when

    def around_host(self, service: str, operation: str, call: Callable[[], HTTPResponse]) -> HTTPResponse:
        self.calls += 1
        if self.calls < self.first or (self.kind == "pushes" and "/" in operation):
            answer: HTTPResponse = self.around(service, operation, call)
            return answer
        if self.kind == "slow":
            self.seconds += min(4.0, self.github.patience)
            return response(502, {"message": "Bad Gateway"})
        if self.kind == "closed":
            self.seconds += min(5.0, self.github.patience)
            raise ConnectTimeoutError("timed out")
        self.seconds += self.github.patience
        raise ReadTimeoutError(None, BASE_URL, "Read timed out.")  # type: ignore[arg-type]

    def put_answer(self, request: Any, timeout: float) -> Any:
        self.answered.append(self.seconds)
        return super().put_answer(request, timeout)

    def recover(self) -> None:
        """GitHub works again."""
        self.first = sys.maxsize


def calls() -> list[str]:
    return [call.operation for call in undisturbed("created", "github").calls if call.service == "github"]


@pytest.mark.parametrize("kind", ["silent", "slow", "closed", "pushes"])
def test_whichever_call_is_the_first_without_an_answer_the_stack_fails_within_a_minute(kind: str) -> None:
    last = next(n for n, call in enumerate(calls(), 1) if call == "POST git-receive-pack") if kind == "pushes" else None
    assert len(calls()) > 15
    for first in range(1, (last or len(calls())) + 1):
        account = Failing(first, kind)
        with account.running():
            before = account.state()
            assert not account.request("Create", "CREATE_IN_PROGRESS", account.project()), first
            assert account.answered[0] < LONGEST, f"call {first}: answered after {account.answered[0]} s"
            assert "Try again later" in account.answers[0]["Reason"], account.answers
            account.recover()
            assert account.request("Delete", "ROLLBACK_IN_PROGRESS", account.project()), account.answers
            assert account.state() == before, first
