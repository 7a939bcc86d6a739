"""What the endpoint answers, and what it says about requests that it cannot answer."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import xgboost
from conftest import Run, mixed_table

import inference
from media_types import CSV, JSON, JSON_LINES, PARQUET, RequestError

FEATURES = ["age", "city", "member", "visits"]


@pytest.fixture
def model(finished_run: Run) -> inference.Model:
    return inference.model_fn(str(finished_run.model_dir))


def ask(model: inference.Model, body: str | bytes, content_type: str, accept: str = JSON) -> Any:
    return inference.transform_fn(model, body, content_type, accept)[0]


def rows() -> pd.DataFrame:
    return mixed_table(8, seed=11)[FEATURES]


def test_every_form_of_a_request_gets_the_same_answer(model: inference.Model) -> None:
    table = rows()
    records = json.loads(table.to_json(orient="records"))
    lists = [list(record.values()) for record in records]
    reordered = table[list(reversed(FEATURES))].assign(unknown_to_the_model=1)
    answers = [
        ask(model, table.to_csv(index=False), CSV),
        ask(model, table.to_csv(index=False, header=False), "text/csv; charset=utf-8"),
        ask(model, reordered.to_csv(index=False), "text/csv; header=present"),
        ask(model, json.dumps({"instances": records}), JSON),
        ask(model, json.dumps(records), JSON),
        ask(model, json.dumps(lists), JSON),
        ask(model, json.dumps({"columns": FEATURES, "data": lists}), JSON),
        ask(model, "\n".join(map(json.dumps, records)), JSON_LINES[0]),
        ask(model, reordered.to_parquet(), PARQUET[0]),
    ]
    assert set(answers) == {answers[0]}
    assert len(json.loads(answers[0])["predictions"]) == 8
    assert len(json.loads(ask(model, json.dumps(records[0]), JSON))["predictions"]) == 1


def test_many_rows_are_answered_as_each_alone(model: inference.Model) -> None:
    """They take another way through the code, which is quicker for many."""
    lines = mixed_table(2_000, seed=12)[FEATURES].to_csv(index=False, header=False).splitlines()
    assert ask(model, "\n".join(lines), CSV, CSV).splitlines()[:50] == [
        ask(model, x, CSV, CSV).strip() for x in lines[:50]
    ]


def test_answers_say_what_they_are(model: inference.Model) -> None:
    body = rows().to_csv(index=False)
    first = json.loads(ask(model, body, CSV))["predictions"][0]
    table = pd.read_csv(io.StringIO(ask(model, body, CSV, "text/csv; header=present")))
    pd.testing.assert_frame_equal(
        pd.read_parquet(io.BytesIO(ask(model, body, CSV, PARQUET[0]))), table, check_dtype=False
    )
    if model.transform.problem_type == "regression":
        assert first == {"score": pytest.approx(table["score"][0])}
        return
    assert first["predicted_label"] in model.transform.classes
    assert first["predicted_label"] == table["predicted_label"][0]
    assert first["probability"] == pytest.approx(table["probability"][0])
    if model.transform.problem_type == "multiclass_classification":
        assert list(first["probabilities"]) == ["basic", "plus", "premium"]
        assert sum(first["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert first["probability"] == max(first["probabilities"].values())


def test_contributions_say_why(model: inference.Model) -> None:
    answer = json.loads(ask(model, rows().to_csv(index=False), CSV, "application/json; contributions=true"))[
        "predictions"
    ][0]
    contributions, bias = answer["contributions"], answer["bias"]
    if model.transform.problem_type == "multiclass_classification":
        contributions, bias = contributions["basic"], bias["basic"]
    assert list(contributions) == FEATURES
    if model.transform.problem_type == "regression":
        assert sum(contributions.values()) + bias == pytest.approx(answer["score"], rel=1e-4)


def test_what_training_never_saw_counts_as_missing(model: inference.Model) -> None:
    unseen = json.dumps([{"age": 40, "city": "Atlantis", "member": None, "visits": 3}])
    missing = json.dumps([{"age": 40, "city": None, "member": None, "visits": 3}])
    assert ask(model, unseen, JSON) == ask(model, missing, JSON)


def test_a_word_for_missing_is_missing_as_in_training(model: inference.Model) -> None:
    assert ask(model, "NA,NaN,null,None\n", CSV) == ask(model, ",,,\n", CSV)


def test_a_value_that_is_a_columns_name_makes_no_header(model: inference.Model) -> None:
    assert len(json.loads(ask(model, "40,city,true,3\n", CSV))["predictions"]) == 1


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [("*/*", JSON), ("", JSON), (CSV, CSV), ("text/csv;q=0.2, application/json", JSON)],
)
def test_the_caller_chooses_the_form_of_the_answer(model: inference.Model, accept: str, content_type: str) -> None:
    assert inference.transform_fn(model, "40,Ulm,true,3", CSV, accept)[1] == content_type


@pytest.mark.parametrize(
    ("body", "content_type", "accept", "status", "message"),
    [
        ("1,Ulm,true", CSV, JSON, 400, "row 1 has 3 values, but the model takes 4: age, city, member, visits"),
        ("1,Ulm,true,1\n1,Ulm,true", CSV, JSON, 400, "row 2 has 3 values"),
        ("age,city,member\n1,Ulm,true", CSV, JSON, 400, "columns are missing: visits"),
        ("old,Ulm,true,1", CSV, JSON, 400, "row 1, column 'age': must be a number, but is 'old'"),
        ("1,Ulm,true,1\n1,Ulm,perhaps,1", CSV, JSON, 400, "row 2, column 'member': must be true or false"),
        ("age,city,member,visits", CSV, JSON, 400, "a header line but no row"),
        ('1,"Ulm,true,1', CSV, JSON, 400, "line 1 is not CSV"),
        ("1,Köln,true,1".encode("cp1252"), CSV, JSON, 400, "not UTF-8: line 1"),
        ("", CSV, JSON, 400, "no row"),
        ('[{"age": 1}]', JSON, JSON, 400, "row 1: columns are missing: city, member, visits"),
        (
            '[{"age": 1, "city": ["Ulm"], "member": true, "visits": 1}]',
            JSON,
            JSON,
            400,
            "row 1, column 'city': must be",
        ),
        ("{", JSON, JSON, 400, "not JSON"),
        (b"PAR1", PARQUET[0], JSON, 400, "not Parquet"),
        ("1,Ulm,true,1", "text/plain", JSON, 415, "'text/plain' is not supported"),
        ("1,Ulm,true,1", CSV, "image/png", 406, "'image/png' is not supported"),
        ("1,Ulm,true,1", CSV, "text/csv; contribution=true", 406, "no option 'contribution'"),
    ],
)
def test_requests_that_cannot_be_answered_say_why(
    model: inference.Model, body: str | bytes, content_type: str, accept: str, status: int, message: str
) -> None:
    with pytest.raises(RequestError, match=message) as refused:
        ask(model, body, content_type, accept)
    assert refused.value.status_code == status


def test_an_older_xgboost_than_the_models_is_refused(finished_run: Run, tmp_path: Path) -> None:
    shutil.copytree(finished_run.model_dir, tmp_path / "model")
    versions = tmp_path / "model" / "code" / "versions.json"
    versions.write_text(json.dumps(json.loads(versions.read_text()) | {"xgboost": "99.1.0"}))
    with pytest.raises(
        inference.ModelError, match=f"XGBoost {xgboost.__version__} is older .* sagemaker-xgboost 99.1 or newer"
    ):
        inference.model_fn(str(tmp_path / "model"))


def test_the_archive_has_the_booster_alone_in_its_root(finished_run: Run) -> None:
    # the image takes every file in the root for a model
    with tarfile.open(finished_run.folder / "model.tar.gz") as archive:
        files = {member.name for member in archive if member.isfile()}
    assert {name for name in files if "/" not in name} == {"xgboost-model"}
    assert {"code/inference.py", "code/transform.py", "code/transform.json", "code/versions.json"} <= files
