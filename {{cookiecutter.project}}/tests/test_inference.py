"""What the endpoint answers, and what it says about requests that it cannot answer."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from conftest import Run, mixed_table

import inference
from inference import RequestError

FEATURES = ["age", "city", "member", "visits"]


@pytest.fixture
def model(finished_run: Run) -> inference.Model:
    return inference.model_fn(str(finished_run.model_dir))


def ask(model: inference.Model, body: str, content_type: str, accept: str = "application/json") -> str:
    prediction = inference.predict_fn(inference.input_fn(body.encode(), content_type), model)
    return inference.output_fn(prediction, accept)[0]


def rows() -> pd.DataFrame:
    return mixed_table(8, seed=11)[FEATURES]


def test_every_form_of_a_request_gets_the_same_answer(model: inference.Model) -> None:
    table = rows()
    records = json.loads(table.to_json(orient="records"))
    lists = [list(record.values()) for record in records]
    reordered = table[list(reversed(FEATURES))].assign(unknown_to_the_model=1)
    answers = [
        ask(model, table.to_csv(index=False), "text/csv"),
        ask(model, table.to_csv(index=False, header=False), "text/csv; charset=utf-8"),
        ask(model, reordered.to_csv(index=False), "text/csv"),
        ask(model, json.dumps({"instances": records}), "application/json"),
        ask(model, json.dumps(records), "application/json"),
        ask(model, json.dumps(lists), "application/json"),
        ask(model, json.dumps({"columns": FEATURES, "data": lists}), "application/json"),
    ]
    assert set(answers) == {answers[0]}
    assert len(json.loads(answers[0])["predictions"]) == 8
    assert len(json.loads(ask(model, json.dumps(records[0]), "application/json"))["predictions"]) == 1


def test_answers_say_what_they_are(model: inference.Model) -> None:
    body = rows().to_csv(index=False)
    first = json.loads(ask(model, body, "text/csv"))["predictions"][0]
    line = ask(model, body, "text/csv", accept="text/csv").splitlines()[0].split(",")
    if model.transform.problem_type == "regression":
        assert set(first) == {"score"}
        assert [float(line[0])] == [first["score"]]
        return
    assert first["predicted_label"] in model.transform.classes
    assert line[0] == first["predicted_label"]
    assert float(line[1]) == first["probability"]
    if model.transform.problem_type == "multiclass_classification":
        assert list(first["probabilities"]) == ["basic", "plus", "premium"]
        assert sum(first["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert first["probability"] == max(first["probabilities"].values())


def test_what_training_never_saw_counts_as_missing(model: inference.Model) -> None:
    unseen = json.dumps([{"age": 40, "city": "Atlantis", "member": None, "visits": 3}])
    missing = json.dumps([{"age": 40, "city": None, "member": None, "visits": 3}])
    assert ask(model, unseen, "application/json") == ask(model, missing, "application/json")


def test_a_word_for_missing_is_missing_as_in_training(model: inference.Model) -> None:
    words, empty = "NA,NaN,null,None\n", ",,,\n"
    assert ask(model, words, "text/csv") == ask(model, empty, "text/csv")


def test_a_value_that_is_a_columns_name_makes_no_header(model: inference.Model) -> None:
    assert len(json.loads(ask(model, "40,city,true,3\n", "text/csv"))["predictions"]) == 1


def test_columns_named_by_numbers_are_not_mistaken_for_a_header() -> None:
    for body, kind in (("1,0\n5,6\n", "text/csv"), ("[[1, 0], [5, 6]]", "application/json")):
        named = inference._name_columns(inference.input_fn(body, kind), ["0", "1"])
        assert [list(map(int, row)) for row in named.to_numpy()] == [[1, 0], [5, 6]]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [("*/*", "application/json"), ("", "application/json"), ("text/csv", "text/csv"), ("text/csv;q=1", "text/csv")],
)
def test_the_caller_chooses_the_form_of_the_answer(model: inference.Model, accept: str, content_type: str) -> None:
    prediction = inference.predict_fn(rows(), model)
    assert inference.output_fn(prediction, accept)[1] == content_type


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        ("1,Ulm,true", "text/csv", "have 3 values, the model takes 4: age, city, member, visits"),
        ("1,Ulm,true,1\n1,Ulm,true", "text/csv", "different numbers of fields: 3, 4"),
        ("age,city\n1,Ulm", "text/csv", "have 2 values, the model takes 4: age, city, member, visits"),
        ("age,city,member\n1,Ulm,true", "text/csv", "columns are missing: visits"),
        ("age,age,city,member,visits\n1,2,Ulm,true,1", "text/csv", "'age' is named twice"),
        ("1e39,Ulm,true,1", "text/csv", r"'age' holds 1e\+39: numbers must lie within"),
        ('{"columns": ["age", "age"], "data": [[1, 2]]}', "application/json", "'age' is named twice"),
        ('{"columns": 2, "data": [[1, 2]]}', "application/json", '"columns" must be a list of names'),
        ('[{"age": 1, "city": "Ulm"}, {"city": "Ulm"}]', "application/json", r"name different columns \(age\)"),
        ('[{"age": 1, "city": ["Ulm"]}]', "application/json", r"not \['Ulm'\]"),
        ("age,city,member,visits", "text/csv", "a header line but no row"),
        ("", "text/csv", "no row"),
        ("old,Ulm,true,1", "text/csv", "'age' must be numbers, but holds 'old'"),
        ("1,Ulm,perhaps,1", "text/csv", "'member' must be true or false, but holds 'perhaps'"),
        ('[{"age": 1}]', "application/json", "columns are missing: city, member, visits"),
        ('[{"age": "old", "city": "x", "member": true, "visits": 1}]', "application/json", "'age' must be numbers"),
        ('{"instances": []}', "application/json", "no row"),
        ("{", "application/json", "not JSON"),
        ("[1, 2]", "application/json", "every row must be an object"),
        ('{"columns": ["age"], "data": [[1, 2]]}', "application/json", "1 columns are named"),
        ("1", "text/plain", "'text/plain' is not supported"),
    ],
)
def test_requests_that_cannot_be_answered_say_why(
    model: inference.Model, body: str, content_type: str, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        ask(model, body, content_type)


def test_an_answer_in_another_form_is_refused(model: inference.Model) -> None:
    with pytest.raises(RequestError, match="'image/png' is not supported"):
        inference.output_fn({"classes": [], "values": np.array([1.0])}, "image/png")
