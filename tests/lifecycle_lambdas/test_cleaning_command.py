"""`python -m lifecycle_lambdas clean`, without the function that answers it: shown, asked, removed."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from lifecycle_lambdas.cleaning import Removal
from lifecycle_lambdas.cleaning_run import Outcome
from lifecycle_lambdas.commands import clean
from lifecycle_lambdas.commands.common import InputError


class Lambda:
    """In place of the session and its client: the function, with an answer for each call; what it was asked."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers, self.asked = list(answers), list[dict[str, Any]]()

    def client(self, *_: Any, **__: Any) -> Lambda:
        return self

    def invoke(self, Payload: bytes, **_: Any) -> dict[str, Any]:
        self.asked.append(json.loads(Payload))
        return {"Payload": io.BytesIO(json.dumps(self.answers.pop(0)).encode())}


def answered(says: str, *removals: Removal, **more: Any) -> dict[str, Any]:
    return {"outcomes": [Outcome("churn", says, removals, **more).as_json()]}


PIPELINE = Removal("pipeline", "churn-feature-gone", "its branch is gone")
WOULD, WENT = answered("this would go now", PIPELINE), answered("1 things were removed", PIPELINE, done=True)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[dict[str, Any]]]]:
    """Runs `clean churn` with these answers of the function's; the exit code, and what the function was asked."""

    def run(answers: list[dict[str, Any]], *arguments: str) -> tuple[int, list[dict[str, Any]]]:
        function = Lambda(*answers)
        monkeypatch.setattr(clean, "default_session", lambda: function)
        parser = argparse.ArgumentParser()
        clean.add(parser.add_subparsers())
        code = clean.run(parser.parse_args(["clean", "churn", *arguments]))
        assert function.answers == []
        return code, function.asked

    return run


SHOW, REMOVE = {"project": "churn"}, {"project": "churn", "remove": True}


def test_the_command_says_what_the_function_refused(command):
    with pytest.raises(InputError, match=r"^the platform knows no endpoint of a project$"):
        command([{"error": "the platform knows no endpoint of a project"}])


def test_the_command_shows_and_removes_nothing(command, capsys):
    assert command([WOULD]) == (0, [SHOW])
    assert capsys.readouterr().out == (
        "churn: this would go now\n"
        "  pipeline churn-feature-gone: its branch is gone (price unknown)\n"
        "cost: 1 of unknown price\n"
    )


@pytest.mark.parametrize("answer", ["n", ""])
def test_the_command_asks_before_it_removes(command, monkeypatch, answer):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: answer)
    with pytest.raises(InputError, match="nothing was done"):
        command([WOULD], "--remove")
    monkeypatch.setattr("builtins.input", lambda prompt: "y")
    assert command([WOULD, WENT], "--remove") == (0, [SHOW, REMOVE])


def test_the_command_without_somebody_to_ask_removes_nothing(command, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(InputError, match=r"^1 thing goes now, .* Nobody is there to ask: say --yes if this is meant$"):
        command([WOULD], "--remove")
    assert command([WOULD, WENT], "--remove", "--yes") == (0, [SHOW, REMOVE])


def test_yes_alone_is_no_word_to_remove(command):
    with pytest.raises(InputError, match=r"^--yes answers what --remove asks, .* say clean churn --remove --yes, or"):
        command([], "--yes")


def test_the_command_asks_and_removes_nothing_before_people_were_told_for_a_day(command, capsys):
    early = answered("it removes from tomorrow on, and nothing before", PIPELINE, waits=True)
    assert command([early], "--remove") == (1, [SHOW])
    assert "it removes from tomorrow on" in capsys.readouterr().out
    assert command([early]) == (0, [SHOW])
    assert command([answered("nothing is old")], "--remove") == (0, [SHOW])
    # changed while somebody read
    assert command([WOULD, early], "--remove", "--yes") == (1, [SHOW, REMOVE])
