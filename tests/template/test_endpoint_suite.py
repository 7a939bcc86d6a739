"""What tests/endpoint/*.yaml may say: faults with their remedy, what travels with a version, the schema for editors."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest
import yaml

from lifecycle_lambdas import endpoint_suite
from lifecycle_lambdas.endpoint_suite import Case, SuiteError, canonical, parse, read, sha256
from tests.template.conftest import CHECKOUT

SCHEMA = CHECKOUT / "{{cookiecutter.project}}" / "tests" / "endpoint" / "cases.schema.json"
EDITOR = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
REFUSED: dict[str, Any] = {"name": "refused", "body": "{", "expect": {"status": "4xx"}}
EVALUATED: dict[str, Any] = {"name": "as it was", "rows": "evaluated", "expect": {"as_evaluated": {}}}
OWN: dict[str, Any] = {"name": "own", "row": {"age": 39, "city": None}, "expect": {"predicted_label": "yes"}}
LOAD: dict[str, Any] = {"rows": "evaluated", "objectives": {"p99_ms": 1000}}


def suite_of(*cases: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"cases": [copy.deepcopy(case) for case in cases], **more}


def faults(content: Any, **more: Any) -> list[str]:
    with pytest.raises(SuiteError) as caught:
        parse(content, **more)
    return caught.value.faults


# --- what is said, and by default


def test_what_a_failure_means_by_default() -> None:
    suite = parse(suite_of(REFUSED))
    meanings = {stage: suite.on_failure.means(stage) for stage in ("feature", "dev", "prod", "champion", "challenger")}
    assert meanings == {
        "feature": "report",
        "dev": "block",
        "prod": "go-back",
        "champion": "go-back",
        "challenger": "report",
    }
    assert suite.load is None
    assert not suite.needs_evaluated_rows


def test_a_value_alone_is_what_the_answer_must_equal() -> None:
    expect = parse(suite_of(OWN)).cases[0].expect
    assert expect.checks["predicted_label"].equals == "yes"
    assert (expect.wanted_status, expect.is_refusal) == ("2xx", False)


def test_an_error_without_a_status_is_the_callers() -> None:
    case = {"name": "refused", "body": "{", "expect": {"error": {"contains": "JSON"}}}
    assert parse(suite_of(case)).cases[0].expect.wanted_status == "4xx"


@pytest.mark.parametrize("tolerance", ["1e-4", 0.0001])
def test_a_tolerance_may_be_written_as_yaml_does_not_read_it(tolerance: Any) -> None:
    case = {**EVALUATED, "expect": {"as_evaluated": {"tolerance": tolerance}}}
    found = parse(suite_of(case)).cases[0].expect.as_evaluated
    assert found is not None
    assert found.tolerance == 0.0001


def test_a_date_of_yaml_is_the_text_that_a_request_holds() -> None:
    found = yaml.safe_load("cases: [{name: one, row: {joined: 2026-11-21}, expect: {score: {type: number}}}]")
    assert parse(found).cases[0].row == {"joined": "2026-11-21"}


@pytest.mark.parametrize("load", [None, False, "off"])
def test_a_load_can_be_off(load: Any) -> None:
    assert parse(suite_of(REFUSED, load=load)).load is None


@pytest.mark.parametrize(
    ("content", "needed"),
    [
        (suite_of(EVALUATED), True),
        (suite_of(OWN), False),
        (suite_of({**OWN, "vary": {"age": "evaluated"}}), True),
        (suite_of(OWN, load=LOAD), True),
        (suite_of(OWN, load={"row": {"age": 1}, "objectives": {"p50_ms": 9}}), False),
    ],
)
def test_it_is_known_whether_rows_of_the_evaluation_are_asked(content: Any, needed: bool) -> None:
    assert parse(content).needs_evaluated_rows is needed


# --- monotone columns

MONOTONE: dict[str, Any] = {
    "name": "grows",
    "rows": "evaluated",
    "vary": "monotone",
    "expect": {"score": "monotone", "bias": {"type": "number"}},
}


def test_a_monotone_case_becomes_one_for_each_column_of_the_settings() -> None:
    cases = parse(suite_of(MONOTONE, REFUSED), monotone={"age": "increasing", "price": "decreasing"}).cases
    assert [(case.name, case.vary) for case in cases] == [
        ("grows: age", {"age": "evaluated"}),
        ("grows: price", {"price": "evaluated"}),
        ("refused", None),
    ]
    assert [case.expect.checks["score"].direction for case in cases[:2]] == ["increasing", "decreasing"]
    assert cases[0].expect.checks["bias"].type == "number"


def test_without_monotone_columns_there_is_no_such_case() -> None:
    assert [case.name for case in parse(suite_of(MONOTONE, REFUSED), monotone={}).cases] == ["refused"]


def test_what_travels_names_its_columns() -> None:
    assert "grows" in faults(suite_of(MONOTONE))[0]


def test_the_name_of_a_case_stays_short_enough_whatever_the_column_is_called() -> None:
    (case,) = parse(suite_of(MONOTONE), monotone={"c" * 300: "increasing"}).cases
    assert len(case.name) == 100


def test_a_case_that_is_made_for_a_column_has_a_name_of_its_own() -> None:
    said = faults(suite_of(MONOTONE, {**REFUSED, "name": "grows: age"}), monotone={"age": "increasing"})
    assert "'grows: age' is the name of two" in said[0]


# --- faults

FAULTS = [
    ([], "must hold fields (name: value), but is list"),
    ({}, "cases: the field is missing: add it"),
    (suite_of(), "cases: [] is not allowed"),
    (suite_of({"name": "one"}), "cases.0 (one): none of rows, row and body is there: write one"),
    (suite_of({**OWN, "body": "{"}), "cases.0 (own): row and body are there: write one"),
    (suite_of({**REFUSED, "formats": ["text/csv"]}), "cases.0 (refused): formats is for rows and row: remove it"),
    (suite_of({**OWN, "accept": "text/csv"}), "cases.0 (own): accept is for body: remove it"),
    (suite_of({**OWN, "formats": ["text/csv", "text/csv"]}), "one is there twice: remove it"),
    (suite_of({**OWN, "formats": ["image/png"]}), "cases.0.formats.0 (own): 'image/png' is not allowed"),
    (suite_of({**OWN, "expect": {}}), "cases.0 (own): expect is empty, so that nothing could fail"),
    (suite_of({**OWN, "expct": {}}), "cases.0.expct (own): there is no such field, did you mean expect?"),
    ({"cases": ["own"]}, "cases.0: 'own' is not allowed: write fields (name: value), of name, rows, row, body"),
    (suite_of({**OWN, "row": {"age": [1]}}), "cases.0.row.age (own): [1] is no value of a cell"),
    (suite_of({**OWN, "row": {"age": float("inf")}}), "cases.0.row.age (own): inf is no number of JSON"),
    (suite_of({**OWN, "row": {True: 1}}), "cases.0.row"),
    (suite_of({**OWN, "expect": {"score": {}}}), "cases.0.expect.score (own): nothing is expected of it"),
    (suite_of({**OWN, "expect": {"score": {"betwen": [0, 1]}}}), "there is no such field, did you mean between?"),
    (suite_of({**OWN, "expect": {"score": {"between": [1]}}}), "cases.0.expect.score.between (own): [1]"),
    (suite_of({**OWN, "expect": {"score": {"between": [2, 1]}}}), "2 is more than 1: exchange them"),
    (suite_of({**OWN, "expect": {"score": {"between": [None, None]}}}), "holds always"),
    (suite_of({**OWN, "expect": {"score": {"equals": "a", "tolerance": 1}}}), "tolerance is of a number"),
    (suite_of({**OWN, "expect": {"score": {"type": "number", "tolerance": 1}}}), "tolerance is of a number"),
    (suite_of({**OWN, "expect": {"score": "increasing"}}), "increasing needs vary"),
    (suite_of({**OWN, "vary": {"age": [1, 2], "city": ["a", "b"]}}), "vary names 2 columns"),
    (suite_of({**OWN, "vary": {"age": [1]}}), "cases.0.vary.age (own): [1] is not allowed"),
    (suite_of({**MONOTONE, "expect": {"score": "increasing"}}), "vary: monotone needs a field"),
    (suite_of({**OWN, "vary": {"age": [1, 2]}, "expect": {"score": "monotone"}}), "monotone goes with vary: monotone"),
    (suite_of({**OWN, "expect": {"as_evaluated": {}}}), "as_evaluated is for rows: evaluated"),
    (
        suite_of({**REFUSED, "expect": {"status": 200, "error": {"contains": "x"}}}),
        "an answer of status 200 is no error",
    ),
    (suite_of({**REFUSED, "expect": {"status": "4xx", "score": 1}}), "a request that is refused has no score"),
    (suite_of({**REFUSED, "expect": {"status": 700}}), "cases.0.expect.status (refused): '700' is not allowed"),
    (suite_of(OWN, OWN), "cases: 'own' is the name of two"),
    (suite_of(*({**OWN, "name": str(number)} for number in range(1001))), "at most 1000 items"),
    (suite_of(OWN, on_failure={"prod": "block"}), "on_failure.prod: 'block' is not allowed: it must be 'report' or"),
    (suite_of(OWN, on_failure={"challengr": "report"}), "did you mean challenger?"),
    (suite_of(OWN, load={**LOAD, "seconds": 61}), "load.seconds: 61 is not allowed"),
    (suite_of(OWN, load={**LOAD, "requests_per_second": 1000}), "load.requests_per_second: 1000 is not allowed"),
    (suite_of(OWN, load={**LOAD, "row": {"age": 1}}), "load: both of rows and row: write one of them"),
    (suite_of(OWN, load={**LOAD, "objectives": {}}), "load.objectives: none is set"),
    (suite_of(OWN, load={**LOAD, "objectives": {"requests_per_second": 20}}), "is more than are sent (10)"),
]


@pytest.mark.parametrize(("content", "said"), FAULTS, ids=[said for _, said in FAULTS])
def test_bad_cases_are_refused_with_place_fault_and_remedy(content: Any, said: str) -> None:
    found = faults(content, monotone={"age": "increasing"})
    assert any(said in fault for fault in found), found


def test_every_fault_is_said_at_once() -> None:
    bad = suite_of({**OWN, "expct": {}}, {"name": "two"}, on_failure={"prod": "block"})
    assert len(faults(bad)) == 3


# --- what travels

WHOLE = suite_of(
    {**EVALUATED, "formats": ["text/csv", "application/json"], "expect": {"as_evaluated": {"tolerance": 0.001}}},
    {
        **OWN,
        "vary": {"age": [20, 30]},
        "expect": {"probability": "increasing", "predicted_label": {"one_of": "classes"}},
    },
    REFUSED,
    on_failure={"dev": "report"},
    load=LOAD,
)


def test_what_travels_says_the_same_and_has_the_same_bytes() -> None:
    suite = parse(WHOLE)
    content = canonical(suite)
    again = read(content, sha256(content))
    assert again == suite
    assert canonical(again) == content
    assert canonical(parse(dict(reversed(WHOLE.items())))) == content


def test_meanings_travel_in_full_so_that_later_defaults_do_not_change_them() -> None:
    content = json.loads(canonical(parse(WHOLE)))
    assert content["on_failure"]["prod"] == "go-back"
    assert content["on_failure"]["dev"] == "report"


def test_missing_values_of_a_row_travel() -> None:
    assert read(canonical(parse(suite_of(OWN)))).cases[0].row == {"age": 39, "city": None}


@pytest.mark.parametrize(
    ("content", "digest", "said"),
    [
        (b"{}", "0" * 64, "others than the version was registered with"),
        (b"{", None, "not readable JSON"),
        (b"[" * 100_000, None, "not readable JSON"),
        (b'{"cases": []}', None, "cases"),
        (b" " * (endpoint_suite.LARGEST + 1), None, "at most 262,144 are read"),
    ],
)
def test_what_did_not_travel_whole_is_refused(content: bytes, digest: str | None, said: str) -> None:
    with pytest.raises(SuiteError, match=said):
        read(content, digest)


def test_more_than_the_table_can_hold_does_not_travel() -> None:
    cases = [{**REFUSED, "name": str(number), "body": "x" * 1000} for number in range(300)]
    with pytest.raises(SuiteError, match="bytes of JSON, and at most 262,144 travel"):
        canonical(parse(suite_of(*cases)))


# --- the schema for editors


def test_the_published_schema_is_that_of_the_code() -> None:
    wanted = json.dumps(endpoint_suite.json_schema(), indent=2) + "\n"
    said = "python -m pipeline schema cases > tests/endpoint/cases.schema.json, in the template's folder"
    assert SCHEMA.read_text(encoding="utf-8") == wanted, said


@pytest.mark.parametrize("content", [WHOLE, suite_of(MONOTONE), suite_of(OWN, load="off")])
def test_an_editor_takes_what_is_right(content: Any) -> None:
    assert [error.message for error in EDITOR.iter_errors(content)] == []


@pytest.mark.parametrize("place", ["case", "check", "load", "on_failure"])
def test_an_editor_marks_a_misspelt_field(place: str) -> None:
    content = copy.deepcopy(WHOLE)
    sections = {
        "case": content["cases"][0],
        "check": content["cases"][1]["expect"]["predicted_label"],
        "load": content["load"],
        "on_failure": content["on_failure"],
    }
    sections[place]["misspelt"] = 1
    assert not EDITOR.is_valid(content)


def test_every_field_of_a_case_is_described_where_its_name_does_not_say_it() -> None:
    bare = {name for name, field in Case.model_fields.items() if not field.description}
    assert bare <= {"row", "expect"}  # these are sections, which describe themselves
