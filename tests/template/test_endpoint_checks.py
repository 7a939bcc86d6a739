"""What is asked of an endpoint, what its answers are compared with, and what is said when they are wrong."""

from __future__ import annotations

import ast
import csv
import io
import itertools
import json
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError, ReadTimeoutError

from lifecycle_lambdas import endpoint_answers, endpoint_checks
from lifecycle_lambdas.endpoint_answers import (
    CSV,
    JSON,
    JSON_LINES,
    Answer,
    EvaluatedRows,
    Request,
    RowsError,
    request_of,
)
from lifecycle_lambdas.endpoint_checks import LoadResult, Results, batch_body, check_batch, percentile, run
from lifecycle_lambdas.endpoint_suite import parse

ROWS: list[dict[str, Any]] = [
    {"age": 39, "city": 'say "hi", Ulm'},
    {"age": 20.5, "city": None},
    {"age": None, "city": "Köln"},
]


def probability(row: dict[str, Any]) -> float:
    age = row.get("age") or 0
    return round(min(1.0, float(age) / 100 + (0.25 if row.get("city") == "Köln" else 0)), 6)


def answer_to(row: dict[str, Any]) -> dict[str, Any]:
    share = probability(row)
    return {
        "predicted_label": "yes" if share >= 0.3 else "no",
        "probability": share,
        "probabilities": {"no": 1 - share, "yes": share},
    }


def evaluated(**changed: Any) -> EvaluatedRows:
    content = {
        "columns": ["age", "city"],
        "kinds": {"age": "number", "city": "category"},
        "classes": ["no", "yes"],
        "rows": ROWS,
        "answers": [answer_to(row) for row in ROWS],
        "fault": None,
    }
    return EvaluatedRows.read(json.dumps(content | changed).encode())


Predict = Callable[[dict[str, Any]], dict[str, Any]]


def rows_of(request: Request) -> list[dict[str, Any]]:
    """What a request holds, read by other code than wrote it."""
    text = request.body.decode()
    if request.content_type == JSON_LINES:
        return [json.loads(line) for line in text.splitlines()]
    if request.content_type == JSON:
        return list(json.loads(text)["instances"])
    assert request.content_type == f"{CSV}; header=present"
    return [{name: value or None for name, value in row.items()} for row in csv.DictReader(io.StringIO(text))]


def serving(predict: Predict = answer_to) -> Callable[[Request], Answer]:
    """An endpoint as steps/inference.py answers."""

    def ask(request: Request) -> Answer:
        try:
            answers = [predict(row) for row in rows_of(request)]
        except (AssertionError, ValueError) as error:
            return Answer(400, json.dumps({"error": f"the body is no JSON: {error}"}).encode(), "", 0.01)
        kind = request.accept.partition(";")[0]
        if kind == CSV:
            stream = io.StringIO()
            names = ["predicted_label", "probability", "probability.no", "probability.yes"]
            lines = [[one["predicted_label"], one["probability"], *one["probabilities"].values()] for one in answers]
            csv.writer(stream).writerows([names, *lines])
            text = stream.getvalue()
        elif kind == JSON_LINES:
            text = "".join(f"{json.dumps(one)}\n" for one in answers)
        else:
            text = json.dumps({"predictions": answers})
        return Answer(200, text.encode(), kind, 0.01)

    return ask


def results(*cases: dict[str, Any], ask: Callable[[Request], Answer] | None = None, **more: Any) -> Results:
    load = {"load": more.pop("load")} if "load" in more else {}
    rows = more.pop("rows", evaluated())
    return run(parse({"cases": list(cases), **load}), rows, ask or serving(), **more)


def fault(case: dict[str, Any], **more: Any) -> str:
    (found,) = results({"name": "one", **case}, **more).cases
    assert found.passed is (found.fault == "")
    return found.fault


EVALUATED: dict[str, Any] = {
    "rows": "evaluated",
    "formats": [CSV, JSON, JSON_LINES],
    "expect": {"as_evaluated": {"tolerance": 0.0001}},
}


def off_by(amount: float) -> Predict:
    return lambda row: answer_to(row) | {"probability": probability(row) + amount}


# --- what is asked


def test_an_endpoint_that_answers_as_it_was_evaluated_passes() -> None:
    found = results({"name": "as it was", **EVALUATED})
    assert (found.passed, found.failed, found.load) == (True, (), None)


@pytest.mark.parametrize("form", [CSV, JSON, JSON_LINES])
def test_a_request_holds_the_rows_whatever_their_text(form: str) -> None:
    asked = rows_of(request_of(ROWS, form))
    assert [{name: None if value is None else str(value) for name, value in row.items()} for row in asked] == [
        {"age": "39", "city": 'say "hi", Ulm'},
        {"age": "20.5", "city": None},
        {"age": None, "city": "Köln"},
    ]


def test_a_lone_missing_value_is_a_line_all_the_same() -> None:
    assert request_of([{"age": None}, {"age": True}], CSV).body == b'age\n""\ntrue\n'


def test_every_row_is_asked_once_with_each_value_of_the_varied_column() -> None:
    asked: list[Request] = []

    def ask(request: Request) -> Answer:
        asked.append(request)
        return serving()(request)

    results(
        {"name": "one", "row": {"city": "Ulm"}, "vary": {"age": [1, 2]}, "expect": {"probability": "increasing"}},
        {"name": "two", "rows": "evaluated", "vary": {"age": "evaluated"}, "expect": {"probability": "increasing"}},
        ask=ask,
        workers=1,
    )
    assert rows_of(asked[0]) == [{"city": "Ulm", "age": 1}, {"city": "Ulm", "age": 2}]
    # the missing one is no value to vary by
    assert [row["age"] for row in rows_of(asked[1])] == [20.5, 39] * 3


def test_cases_are_asked_several_at_a_time_and_told_in_their_order() -> None:
    together = threading.Barrier(4, timeout=60)

    def ask(request: Request) -> Answer:
        together.wait()  # passes when four have come
        return serving()(request)

    cases = [{"name": str(number), "row": {"age": 1}, "expect": {"probability": 0.01}} for number in range(8)]
    found = results(*cases, ask=ask, workers=4)
    assert [case.name for case in found.cases] == [str(number) for number in range(8)]
    assert found.passed


# --- what is wrong

OWN: dict[str, Any] = {"row": {"age": 39, "city": "Ulm"}}
WRONG = [
    (EVALUATED, off_by(0.001), "row 0 of endpoint-rows.json: not as it was evaluated: probability was 0.39, and is"),
    ({**OWN, "expect": {"predicted_label": "no"}}, answer_to, 'predicted_label must be "no", and is "yes"'),
    ({**OWN, "expect": {"predicted_label": {"one_of": ["no"]}}}, answer_to, 'must be one of no, and is "yes"'),
    ({**OWN, "expect": {"predicted_label": True}}, answer_to, 'are true and false in YAML: write "yes")'),
    ({**OWN, "expect": {"predicted_label": {"one_of": [True, False]}}}, answer_to, 'in YAML: write "yes")'),
    (
        {**OWN, "expect": {"probability": {"between": [0.5, 1]}}},
        answer_to,
        "must be at least 0.5 and at most 1, and is",
    ),
    ({**OWN, "expect": {"probability": {"between": [None, 0.3]}}}, answer_to, "must be at most 0.3, and is 0.39"),
    ({**OWN, "expect": {"probability": {"type": "text"}}}, answer_to, "must be a text, and is 0.39"),
    ({**OWN, "expect": {"predicted_label": {"type": "number"}}}, answer_to, 'must be a number, and is "yes"'),
    ({**OWN, "expect": {"probability": {"type": "boolean"}}}, answer_to, "must be a boolean, and is 0.39"),
    (
        {**OWN, "expect": {"probability": {"equals": 0.5, "tolerance": 0.1}}},
        answer_to,
        "probability must be 0.5 (tolerance 0.1), and is 0.39",
    ),
    (
        {**OWN, "expect": {"score": {"type": "number"}}},
        answer_to,
        "the answer has no score, only predicted_label, prob",
    ),
    ({**OWN, "expect": {"probabilities.maybe": 1}}, answer_to, "the answer has no probabilities.maybe, only"),
    (
        {**OWN, "vary": {"age": [20, 40]}, "expect": {"probability": "decreasing"}},
        answer_to,
        "probability must be decreasing, and goes from 0.2 to 0.4 with age 20 to 40",
    ),
    (
        {**OWN, "vary": {"age": [20, 40]}, "expect": {"predicted_label": "increasing"}},
        answer_to,
        "predicted_label is no number, and must be increasing",
    ),
    ({"body": "{", "expect": {"status": "415"}}, answer_to, "status 415 was expected, and came: 400"),
    ({"body": "{", "expect": {"error": {"contains": "row 3"}}}, answer_to, "an error with 'row 3' was expected"),
]


@pytest.mark.parametrize(("case", "predict", "said"), WRONG, ids=[said for *_, said in WRONG])
def test_a_wrong_answer_is_told_with_what_was_expected(case: dict[str, Any], predict: Predict, said: str) -> None:
    assert said in fault(case, ask=serving(predict))


RIGHT: list[dict[str, Any]] = [
    {**OWN, "expect": {"probability": {"equals": 0.391, "tolerance": 0.01, "type": "number", "between": [0, None]}}},
    {**OWN, "expect": {"predicted_label": {"one_of": "classes", "type": "text"}, "probabilities.no": 0.61}},
    {**OWN, "formats": [CSV], "expect": {"probability": {"type": "number"}, "probabilities.yes": {"between": [0, 1]}}},
    {**OWN, "formats": [CSV, JSON]},
    {**OWN, "vary": {"age": [20, 20, 40]}, "expect": {"probability": "increasing"}},
    {"rows": "evaluated", "vary": {"age": [40, 20]}, "expect": {"probability": "decreasing"}},
    {"body": "{", "expect": {"status": 400, "error": {"contains": "JSON"}}},
    {"body": '{"instances": [{"age": 39}]}', "expect": {"probability": 0.39}},
    {"body": "age\n39\n", "content_type": f"{CSV}; header=present", "accept": CSV, "expect": {"probability": 0.39}},
]


@pytest.mark.parametrize("case", RIGHT, ids=json.dumps)
def test_a_right_answer_passes(case: dict[str, Any]) -> None:
    assert fault(case) == ""


def test_a_large_number_may_be_off_by_a_share_of_it() -> None:
    case = {**OWN, "expect": {"score": {"equals": 2_000_000, "tolerance": 0.01}}}

    def answering(score: float) -> Callable[[Request], Answer]:
        body = json.dumps({"predictions": [{"score": score}]}).encode()
        return lambda request: Answer(200, body, JSON, 0.01)

    assert fault(case, ask=answering(2_019_999)) == ""
    assert "must be 2000000 (tolerance 0.01)" in fault(case, ask=answering(2_020_001))


@pytest.mark.parametrize(
    ("label", "text"), [(1, "1"), (2.0, "2"), (True, "true"), ("007", "007"), ("ja, sicher", "ja, sicher")]
)
def test_a_label_is_the_same_in_csv_and_in_json(label: Any, text: str) -> None:
    def ask(request: Request) -> Answer:
        if request.accept == JSON:
            return Answer(200, json.dumps({"predictions": [{"predicted_label": label}]}).encode(), JSON, 0.01)
        stream = io.StringIO()
        csv.writer(stream).writerows([["predicted_label"], [text]])
        return Answer(200, stream.getvalue().encode(), CSV, 0.01)

    case = {**OWN, "formats": [JSON, CSV], "expect": {"predicted_label": {"one_of": "classes"}}}
    assert fault(case, ask=ask, rows=evaluated(classes=["x", label])) == ""


def test_formats_that_differ_are_told() -> None:
    right, wrong = serving(), serving(off_by(0.01))
    found = fault(
        {"rows": "evaluated", "formats": [CSV, JSON]},
        ask=lambda request: (right if request.accept == JSON else wrong)(request),
    )
    assert "text/csv; header=present and application/json differ: probability was" in found


UNREADABLE = [
    (b"not JSON", JSON, "no JSON that can be read"),
    (b'{"prediction": []}', JSON, 'the answer is not {"predictions"'),
    (b'{"predictions": [1]}', JSON, 'the answer is not {"predictions"'),
    (b'{"predictions": []}', JSON, "1 rows were asked, and 0 answers came"),
    (b"\xff", JSON, "no UTF-8"),
    (b"yes,0.39", CSV, "application/json was asked for, and text/csv came"),
]


@pytest.mark.parametrize(("body", "kind", "said"), UNREADABLE, ids=[said for *_, said in UNREADABLE])
def test_an_answer_in_another_form_is_told(body: bytes, kind: str, said: str) -> None:
    found = fault({**OWN, "expect": {"probability": 0.39}}, ask=lambda request: Answer(200, body, kind, 0.01))
    assert said in found


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'"open', "no CSV that can be read"),
        (b"yes,0.39\n", "nobody knows what its columns are"),
        (b"predicted_label,probability\nyes\n", "not every line of the answer has the 2 fields"),
    ],
)
def test_csv_that_is_none_is_told(body: bytes, said: str) -> None:
    case = {**OWN, "formats": [CSV], "expect": {"probability": 0.39}}
    assert said in fault(case, ask=lambda request: Answer(200, body, CSV, 0.01))


def test_values_of_evaluated_rows_are_not_in_what_is_told() -> None:
    """It goes to chat rooms; the row's number says where to look."""
    found = fault(EVALUATED, ask=serving(off_by(0.5)))
    assert "row 2 of endpoint-rows.json" in found
    assert not any(text in found for text in ("Ulm", "Köln"))


VARIED: dict[str, Any] = {
    "rows": "evaluated",
    "vary": {"age": "evaluated"},
    "expect": {"probability": "decreasing"},
}
SECRET = [{"age": 31.5, "city": "Ulm"}, {"age": 53123.77, "city": "Ulm"}, {"age": 98400.12, "city": "Ulm"}]


def by_age(row: dict[str, Any]) -> dict[str, Any]:
    return answer_to({"age": float(row["age"]) / 10_000})


@pytest.mark.parametrize(
    ("case", "predict", "said"),
    [
        (VARIED, by_age, "row 0 of endpoint-rows.json: probability must be decreasing, and goes from "),
        (VARIED, by_age, "with age from value 1 to value 2 of 3 in endpoint-rows.json, in their order"),
        (
            {**VARIED, "rows": None, "row": {"city": "Ulm"}},
            by_age,
            'row {"city": "Ulm"} with value 2 of age in endpoint-rows.json: probability must be decreasing, and goes',
        ),
        (
            {**VARIED, "rows": None, "row": {"city": "Ulm"}, "expect": {"probability": {"between": [0.5, 1]}}},
            by_age,
            'row {"city": "Ulm"} with value 3 of age in endpoint-rows.json: probability must be at least 0.5',
        ),
        ({**VARIED, "vary": {"age": [20, 40]}}, by_age, "with age 20 to 40"),
        ({**VARIED, "vary": {"age": [20, 20, 40]}}, by_age, "with age 20 to 40"),
    ],
)
def test_nor_are_the_values_by_which_a_case_varies_a_column_unless_it_names_them(
    case: dict[str, Any], predict: Predict, said: str
) -> None:
    case = {name: value for name, value in case.items() if value is not None}
    found = fault(case, rows=evaluated(rows=SECRET, answers=[]), ask=serving(predict))
    assert said in found
    assert not any(str(row["age"]) in found for row in SECRET)


def test_nor_in_an_error_that_repeats_a_varied_value_beside_a_row_of_the_case() -> None:
    case = {**OWN, "vary": {"age": "evaluated"}, "expect": {"probability": "increasing"}}
    refused = Answer(400, b"'Ulm' at the age of 53123.77 is too old", "text/plain", 0.01)
    found = fault(case, rows=evaluated(rows=SECRET, answers=[]), ask=lambda request: refused)
    assert "'Ulm' at the age of (a value) is too old" in found


def _always(answer: Answer, request: Request) -> Answer:
    return answer


def test_nor_in_an_error_of_the_container_that_repeats_them() -> None:
    rows = [{"age": 39123, "name": "Jane Doe"}, {"age": 20, "name": "Al"}]
    known = evaluated(rows=rows, answers=[])
    said = b"could not convert 'Jane Doe' (age 39123.5, 39123; row 1) to a number"
    refused = Answer(400, said, "text/plain", 0.01, f"Received client error (400): {said.decode()}")
    broken = Answer(200, said, JSON, 0.01)
    load = {"seconds": 1, "requests_per_second": 1, "rows": "evaluated", "objectives": {"error_share": 0.5}}
    for answer in (refused, replace(refused, body=b""), broken):
        case = {"name": "one", **EVALUATED, "formats": [JSON]}
        found = results(case, rows=known, ask=partial(_always, answer), load=load)
        told = "\n".join(one.fault for one in found.failed)
        assert "could not convert '(a value)' (age" in told
        assert not any(value in told for value in ("Jane", "Doe", " 39123;"))
    # what stands in the repository is told
    own = fault({"row": rows[0], "expect": {"score": 1}}, ask=lambda request: refused)
    assert "Jane Doe" in own


def test_of_many_faults_the_first_are_told_and_the_others_counted() -> None:
    found = fault(
        {**EVALUATED, "formats": [JSON]},
        rows=evaluated(rows=ROWS * 5, answers=[answer_to(row) for row in ROWS] * 5),
        ask=serving(off_by(0.1)),
    )
    assert found.count("not as it was evaluated") == 3
    assert found.endswith("and 12 more")


def test_a_long_answer_is_cut_in_what_is_told() -> None:
    found = fault({"body": "{", "expect": {"status": 400}}, ask=lambda request: Answer(200, b"x" * 50_000, JSON, 0.01))
    assert len(found) < 1_500
    assert "(50,000 characters)" in found


# --- what cannot be asked


def test_without_evaluated_rows_their_cases_fail_and_others_do_not() -> None:
    found = results(
        {"name": "as it was", **EVALUATED}, {"name": "own", **OWN, "expect": {"probability": 0.39}}, rows=None
    )
    assert [case.passed for case in found.cases] == [False, True]
    assert "the version has no endpoint-rows.json" in found.cases[0].fault


def test_a_model_that_gave_no_answer_in_json_when_it_was_evaluated_cannot_be_compared() -> None:
    rows = evaluated(answers=[], fault="the model gives no answer in JSON: 406")
    assert "endpoint-rows.json has no answers to compare with: the model gives no answer in JSON: 406" in fault(
        {**EVALUATED, "formats": [JSON]}, rows=rows
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"kinds": {"age": "date"}}, "age is a date"), ({"rows": ROWS[:1], "answers": []}, "have one value of age")],
)
def test_a_column_that_says_nothing_is_skipped_and_said_so(changed: dict[str, Any], said: str) -> None:
    case = {"name": "one", "rows": "evaluated", "vary": {"age": "evaluated"}, "expect": {"probability": "decreasing"}}
    (found,) = results(case, rows=evaluated(**changed)).cases
    assert (found.passed, found.fault) == (True, "")
    assert said in found.skipped


def test_what_is_not_asked_before_the_deadline_fails() -> None:
    """An answer may take a minute, and is waited for: none is asked for later than that."""
    left = itertools.chain([61.0], itertools.repeat(60.0))
    cases = [{"name": str(number), **OWN, "expect": {"probability": 0.39}} for number in range(3)]
    found = results(*cases, workers=1, deadline=lambda: next(left))
    assert [case.passed for case in found.cases] == [True, False, False]
    assert "there was no time left" in found.cases[2].fault
    assert (found.passed, found.out_of_time) == (False, True)


def test_what_was_answered_wrongly_before_the_deadline_is_a_failure_all_the_same() -> None:
    """Also in a case of which the next format was not asked any more."""
    left = itertools.chain([61.0], itertools.repeat(60.0))
    cases = [{"name": str(number), **OWN, "formats": [CSV, JSON], "expect": {"probability": 1}} for number in (1, 2)]
    found = results(*cases, workers=1, deadline=lambda: next(left))
    assert [case.out_of_time for case in found.cases] == [False, True]
    assert "probability must be 1, and is" in found.cases[0].fault
    assert "there was no time left" in found.cases[0].fault
    assert not found.out_of_time


def test_what_tells_nothing_of_the_version_is_raised() -> None:
    def ask(request: Request) -> Answer:
        raise PermissionError("denied")

    with pytest.raises(PermissionError):
        results({"name": "one", **OWN, "expect": {"probability": 0.39}}, ask=ask)


CONTENT: dict[str, Any] = {"columns": ["a"], "kinds": {}, "classes": [], "rows": [{"a": 1}], "answers": [{"b": 1}]}


@pytest.mark.parametrize(
    "content",
    [
        *(json.dumps({**CONTENT, "rows": [{"a": value}]}).encode() for value in ([1], {"b": 1})),
        *(b"", b"{", b"[]", b"[" * 100_000),
        b'{"columns": [], "kinds": {}, "classes": [], "rows": [], "answers": []}',
    ],
)
def test_rows_that_cannot_be_read_are_refused(content: bytes) -> None:
    with pytest.raises(RowsError, match=r"endpoint-rows\.json"):
        EvaluatedRows.read(content)


# --- under load

LOAD: dict[str, Any] = {"seconds": 1, "requests_per_second": 40, "rows": "evaluated"}
CASE = {"name": "one", **OWN, "expect": {"probability": 0.39}}


class Clock:
    """The time of a load: it passes where somebody waits for it."""

    def __init__(self) -> None:
        self.now, self._lock = 0.0, threading.Lock()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(endpoint_checks, "time", made)
    return made


def loaded(ask: Callable[[Request], Answer], **load: Any) -> LoadResult:
    found = results(CASE, ask=ask, load={**LOAD, **load}).load
    assert found is not None
    return found


@pytest.mark.usefixtures("clock")
def test_a_load_that_is_borne_passes() -> None:
    found = loaded(serving(), objectives={"error_share": 0, "requests_per_second": 40}, as_evaluated={})
    assert (found.passed, found.fault, found.requests, found.error_share) == (True, "", 40, 0)
    assert found.requests_per_second == 40


def test_the_requests_are_sent_when_they_are_due() -> None:
    """This one alone by the clock on the wall."""
    found = loaded(serving(), requests_per_second=3, objectives={"error_share": 0})
    assert found.requests == 3
    assert found.seconds >= 2 / 3
    assert 0 < found.p50_ms <= found.p99_ms


@pytest.mark.usefixtures("clock")
def test_other_answers_under_load_count_as_errors() -> None:
    found = loaded(serving(off_by(0.1)), objectives={"error_share": 0.5}, as_evaluated={})
    assert (found.passed, found.error_share, found.requests_per_second) == (False, 1, 0)
    assert "error_share is 1, and must be at most 0.5" in found.fault
    assert "requests without a right answer: row 0 of endpoint-rows.json: probability was" in found.fault


@pytest.mark.usefixtures("clock")
def test_refusals_under_load_count_as_errors() -> None:
    found = loaded(
        lambda request: Answer(429, b"", "", 0.0, "ThrottlingException: Rate exceeded"), objectives={"error_share": 0}
    )
    assert "ThrottlingException: Rate exceeded" in found.fault


@pytest.mark.usefixtures("clock")
def test_too_few_answers_are_told() -> None:
    found = loaded(lambda request: Answer(0, b"", "", 0.0, "no answer"), objectives={"requests_per_second": 1})
    assert "requests_per_second is 0, and must be at least 1" in found.fault


def test_slow_answers_are_told_and_those_that_come_too_late_are_not_counted(clock: Clock) -> None:
    def ask(request: Request) -> Answer:
        clock.sleep(3.0)
        return serving()(request)

    found = loaded(ask, requests_per_second=1, objectives={"p50_ms": 2_999, "p99_ms": 2_999, "requests_per_second": 1})
    assert found.fault == (
        "1 requests in 3.0 s: p50_ms is 3000, and must be at most 2999\np99_ms is 3000, and must be at most 2999\n"
        "requests_per_second is 0, and must be at least 1"
    )


@pytest.mark.usefixtures("clock")
def test_a_load_that_failed_is_among_the_failures() -> None:
    found = results(CASE, load={**LOAD, "as_evaluated": {}, "objectives": {"error_share": 0}}, ask=serving(wrong))
    assert [case.name for case in found.failed] == ["load"]
    assert not found.passed
    assert json.loads(json.dumps(found.as_json()))["load"]["passed"] is False


def wrong(row: dict[str, Any]) -> dict[str, Any]:
    """Right for the case's own row alone."""
    return answer_to(row) if row == OWN["row"] else answer_to({"age": 99})


def test_a_load_for_which_no_time_is_left_fails_without_a_request() -> None:
    found = results(CASE, load={**LOAD, "objectives": {"p99_ms": 100}}, deadline=lambda: 60.0).load
    assert found is not None
    assert (found.passed, found.requests, found.out_of_time) == (False, 0, True)


@pytest.mark.parametrize(("percent", "found"), [(50, 2), (99, 4), (100, 4), (1, 1)])
def test_percentiles_are_measured_values(percent: float, found: float) -> None:
    assert percentile([1, 2, 3, 4], percent) == found


# --- a transform job's answers


def test_a_transform_jobs_rows_have_no_header_and_no_line_breaks() -> None:
    broken = evaluated(rows=[{"age": 1, "city": "a\nb"}, *ROWS[1:]])
    assert batch_body(broken).decode() == "20.5,\n,Köln\n"


def batch(text: str, *cases: dict[str, Any], rows: EvaluatedRows | None = None) -> Results:
    answer = Answer(200, text.encode(), CSV, 9.0)
    return check_batch(parse({"cases": list(cases)}), rows or evaluated(), answer)


OUTPUT = "yes,0.39,0.61,0.39\nno,0.205,0.795,0.205\nno,0.25,0.75,0.25\n"


def test_a_transform_jobs_answers_are_compared_with_the_evaluation() -> None:
    case = {"name": "as it was", **EVALUATED}
    assert batch(OUTPUT, case).passed
    found = batch(OUTPUT.replace("0.205,0.795", "0.305,0.695"), case)
    assert "row 1 of endpoint-rows.json: not as it was evaluated: probability was 0.205" in found.cases[0].fault


def test_answers_to_the_rows_that_were_sent_are_compared_alone() -> None:
    broken = evaluated(rows=[{"age": 1, "city": "a\nb"}, *ROWS[1:]])
    assert batch(OUTPUT.partition("\n")[2], {"name": "as it was", **EVALUATED}, rows=broken).passed


def test_cases_that_a_transform_job_cannot_ask_are_skipped_and_said_so() -> None:
    found = batch(OUTPUT, CASE, {"name": "refused", "body": "{", "expect": {"status": "4xx"}})
    assert found.passed
    assert all("a transform job has no requests of its own" in case.skipped for case in found.cases)


def test_a_transform_job_that_failed_fails_its_cases() -> None:
    answer = Answer(0, b"", "", 9.0, "the transform job failed: AlgorithmError")
    found = check_batch(parse({"cases": [{"name": "as it was", **EVALUATED}]}), evaluated(), answer)
    assert "AlgorithmError" in found.cases[0].fault


# --- InvokeEndpoint


class Runtime:
    """The client of sagemaker-runtime, answering as AWS does."""

    def __init__(self, answer: dict[str, Any] | Exception) -> None:
        self.answer = answer
        self.asked: dict[str, Any] = {}

    def invoke_endpoint(self, **asked: Any) -> dict[str, Any]:
        self.asked = asked
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def refusal(code: str, status: int, **more: Any) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": "so"}, "ResponseMetadata": {"HTTPStatusCode": status}, **more}
    return ClientError(response, "InvokeEndpoint")


REQUEST = Request(b"{", JSON, JSON)


def test_an_endpoint_is_asked_with_content_type_and_accept() -> None:
    runtime = Runtime({"Body": io.BytesIO(b"{}"), "ContentType": JSON})
    found = endpoint_checks.endpoint(runtime, "churn-dev")(replace(REQUEST, accept=CSV))
    assert (found.status, found.body, found.content_type) == (200, b"{}", JSON)
    assert runtime.asked == {"EndpointName": "churn-dev", "Body": b"{", "ContentType": JSON, "Accept": CSV}


TOLD = [
    (refusal("ModelError", 424, OriginalStatusCode=400, OriginalMessage="no JSON"), 400, b"no JSON"),
    (refusal("ModelError", 424, OriginalStatusCode=0, OriginalMessage="timed out"), 0, b"timed out"),
    (refusal("ThrottlingException", 429), 429, b""),
    (refusal("ServiceUnavailable", 503), 503, b""),
    (ReadTimeoutError(endpoint_url="https://x"), 0, b""),
]


@pytest.mark.parametrize(("error", "status", "body"), TOLD, ids=[str(error) for error, *_ in TOLD])
def test_what_the_endpoint_refuses_is_an_answer(error: Exception, status: int, body: bytes) -> None:
    found = endpoint_checks.endpoint(Runtime(error), "churn-dev")(REQUEST)
    assert (found.status, found.body) == (status, body)
    assert found.error


@pytest.mark.parametrize("code", ["AccessDeniedException", "ValidationError", "ExpiredTokenException"])
def test_what_is_not_the_endpoints_doing_is_raised(code: str) -> None:
    with pytest.raises(ClientError, match=code):
        endpoint_checks.endpoint(Runtime(refusal(code, 400)), "churn-dev")(REQUEST)


def test_without_credentials_nothing_is_said_of_the_endpoint() -> None:
    with pytest.raises(NoCredentialsError):
        endpoint_checks.endpoint(Runtime(NoCredentialsError()), "churn-dev")(REQUEST)


@pytest.mark.parametrize("module", [endpoint_checks, endpoint_answers])
def test_the_modules_import_the_standard_library_alone(module: ModuleType) -> None:
    """A Lambda function imports them at its start, and pydantic takes longer than all the rest."""
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    beside = {"endpoint_answers"}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.level == 0 or node.module not in beside):
            names.add(str(node.module))
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
