"""The token is read from its secret in two forms, and neither a message nor a line shows anything of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from seed_lambda.errors import SeedError
from seed_lambda.hosts.token import read_token
from tests.seed_lambda.fakes import SETTINGS, Clients, context, refusal
from tests.seed_lambda.requests import TOKEN


def secret(text: str | None) -> Clients:
    return Clients(secretsmanager={"get_secret_value": lambda **_: {"SecretString": text} if text else {}})


@pytest.mark.parametrize("text", [TOKEN, f" {TOKEN}\n", f'{{"token": "{TOKEN}"}}', f'{{"token": "{TOKEN}", "x": 1}}'])
def test_it_is_text_or_a_member_of_json(text: str) -> None:
    lines: list[str] = []
    at = context(secret(text), lines=lines)
    assert read_token(at) == TOKEN
    at.log("refused", error=f"no access with {TOKEN} or {text}")
    assert TOKEN not in lines[0]


@pytest.mark.parametrize("text", [None, "  ", '{"key": "ghp_secret"}', '{"token": 7}', '{"broken', "two words", "ü"])
def test_a_secret_without_a_token_is_named_and_not_shown(text: str | None) -> None:
    with pytest.raises(SeedError, match="holds no token") as caught:
        read_token(context(secret(text)))
    assert SETTINGS.git_token_secret_arn in str(caught.value)
    assert text is None or not text.strip() or text.strip() not in str(caught.value)


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "AccessDeniedException", "InvalidRequestException"])
def test_a_secret_that_cannot_be_read_is_named(code: str) -> None:
    def refuse(**_: Any) -> None:
        raise refusal(code)

    with pytest.raises(SeedError, match=f"cannot be read \\({code}\\)"):
        read_token(context(Clients(secretsmanager={"get_secret_value": refuse})))


def test_a_platform_without_a_token_offers_codecommit() -> None:
    with pytest.raises(SeedError, match="GitHost codecommit"):
        read_token(context(settings=replace(SETTINGS, git_token_secret_arn="")))
