"""The pages of docs/reference are what the code says."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import CHECKOUT
from tests.docs.reference import FOLDER, PAGES, TAGS, WRITE, comments, takes


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_not_stale(name: str) -> None:
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), f"docs/reference/{name} is stale: run {WRITE}"


def test_nothing_else_lies_there() -> None:
    assert {page.name for page in FOLDER.iterdir()} == set(PAGES)


def test_every_tag_of_the_code_is_described_and_no_other() -> None:
    folders = ("seed_lambda", "lifecycle_lambdas", "servicecatalog", "{{cookiecutter.project}}/pipeline")
    found: set[str] = set()
    for folder in folders:
        for path in (CHECKOUT / folder).rglob("*"):
            if path.suffix in (".py", ".yaml") and path.is_file():
                text = path.read_text(encoding="utf-8")
                found |= set(
                    re.findall(r"\b(?:modelyard:[a-z]+(?:-[a-z]+)*|sagemaker:(?:project|studio)-[a-z]+)", text)
                )
    assert found == set(TAGS)


def test_remarks_belong_to_the_field_below_or_before_them() -> None:
    text = "a: # of a\n  # above b\n  b: 1 # behind b\n  c: 2 # of c, which\n  # goes on\n\nd: 3\n"
    assert comments(text) == {"a": "of a", "a.b": "above b behind b", "a.c": "of c, which goes on"}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 9}, "whole number 1 to 9"),
        ({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]}, "number above 0 or `null`"),
        ({"enum": ["off", False]}, "`off`, `false`"),
        ({"type": "array", "items": {"type": "string"}}, "a list: text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_schema_is_told_in_words(schema: dict[str, object], words: str) -> None:
    assert takes(schema, {}) == words
