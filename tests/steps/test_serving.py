"""What the endpoint answers: its forms, its options, and what it says about requests that cannot be answered."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import inference
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost
from media_types import RequestError
from transform import Column, as_text

from tests.steps.serving_models import CLASSES, COLUMNS, make_transform, train_booster, write_archive

CSV, JSON, LINES, PARQUET = "text/csv", "application/json", "application/x-ndjson", "application/x-parquet"
NAMES = [column.name for column in COLUMNS]
ROWS: list[list[Any]] = [
    [42, "Ulm", True, "2026-11-20T08:30:00Z", "A", "31/12/2025", None],
    [None, "Atlantis", False, "2020-02-29", "Z", "", None],
    [1e300, None, None, None, "1.50", None, "anything"],
    [-3.5, "New York, NY", True, "1999-01-01T23:59+02:00", "null and void", "01/02/2024", None],
]
RECORDS = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
INSTANCES = json.dumps({"instances": RECORDS})
GOOD = "42,Ulm,true,2026-11-20T08:30:00Z,A,31/12/2025,"


def make_model(
    folder: Path, problem_type: str = "binary_classification", columns: list[Column] | None = None
) -> inference.Model:
    transform = make_transform(problem_type, columns)
    return inference.model_fn(str(write_archive(folder / "model", transform, train_booster(transform))))


@pytest.fixture(scope="module", params=list(CLASSES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> inference.Model:
    return make_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> inference.Model:
    return make_model(tmp_path_factory.mktemp("binary"))


def ask(model: inference.Model, body: str | bytes, content_type: str, accept: str = JSON) -> Any:
    """The answer, decoded: JSON's predictions, CSV's lines, Parquet's table."""
    answer, kind = inference.transform_fn(model, body, content_type, accept)
    if kind == JSON:
        return json.loads(answer)["predictions"]
    if kind == CSV:
        return list(csv.reader(io.StringIO(answer)))
    if kind == PARQUET:
        return pq.read_table(pa.BufferReader(answer))
    return [json.loads(line) for line in answer.splitlines()]


def expected(model: inference.Model) -> np.ndarray:
    """XGBoost's own answer through a DMatrix, shape (rows,) or (rows, classes)."""
    features = model.transform.features_of_rows(ROWS, NAMES)
    types = model.transform.feature_types
    return model.booster.predict(xgboost.DMatrix(features, feature_types=types, enable_categorical=True))


def test_predictions_are_exactly_those_of_xgboost(model: inference.Model) -> None:
    values, classes = expected(model), model.transform.classes
    answers = ask(model, INSTANCES, JSON)
    if not classes:
        assert answers == [{"score": value} for value in values.tolist()]
        assert len(set(values)) == 4
    elif values.ndim == 1:
        assert answers == [
            {"predicted_label": classes[value >= 0.5], "probability": value} for value in values.tolist()
        ]
    else:
        for answer, row in zip(answers, values.tolist(), strict=True):
            best = max(range(len(row)), key=row.__getitem__)
            assert answer == {
                "predicted_label": classes[best],
                "probability": row[best],
                "probabilities": dict(zip(classes, row, strict=True)),
            }


def test_all_formats_say_the_same(model: inference.Model) -> None:
    answers = ask(model, INSTANCES, JSON)
    assert ask(model, INSTANCES, JSON, LINES) == answers
    assert ask(model, INSTANCES, JSON, "application/jsonlines") == answers
    table = ask(model, INSTANCES, JSON, PARQUET)
    header, *lines = ask(model, INSTANCES, JSON, f"{CSV}; header=present")
    assert lines == ask(model, INSTANCES, JSON, CSV)
    assert header == table.column_names
    for answer, record, line in zip(answers, table.to_pylist(), lines, strict=True):
        probabilities = answer.pop("probabilities", {})
        assert record == answer | {f"probability.{label}": value for label, value in probabilities.items()}
        assert line == [str(value) for value in record.values()]


def test_labels_alone_or_probabilities_alone(model: inference.Model) -> None:
    classes, values = model.transform.classes, expected(model)
    if not classes:
        assert ask(model, INSTANCES, JSON, f"{JSON}; output=values") == ask(model, INSTANCES, JSON)
        for output in ("labels", "probabilities"):
            with pytest.raises(RequestError, match=f"a regression has values, no {output}") as refused:
                ask(model, INSTANCES, JSON, f"{JSON}; output={output}")
            assert refused.value.status_code == 406
        return
    labels = [answer["predicted_label"] for answer in ask(model, INSTANCES, JSON)]
    assert ask(model, INSTANCES, JSON, f"{JSON}; output=labels") == [{"predicted_label": label} for label in labels]
    assert ask(model, INSTANCES, JSON, f"{CSV}; output=labels") == [[label] for label in labels]
    every = values if values.ndim == 2 else np.stack([1 - values, values], axis=1)
    shown = ask(model, INSTANCES, JSON, f"{JSON};output=probabilities")
    assert shown == [{"probabilities": dict(zip(classes, row, strict=True))} for row in every.tolist()]
    table = ask(model, INSTANCES, JSON, f"{PARQUET}; output=probabilities")
    assert table.column_names == [f"probability.{label}" for label in classes]
    with pytest.raises(RequestError, match="has labels and probabilities, no values"):
        ask(model, INSTANCES, JSON, f"{JSON}; output=values")


def test_contributions_of_the_raw_columns_add_up_to_the_margin(model: inference.Model) -> None:
    features = model.transform.features_of_rows(ROWS, NAMES)
    matrix = xgboost.DMatrix(features, feature_types=model.transform.feature_types, enable_categorical=True)
    margins = model.booster.predict(matrix, output_margin=True, strict_shape=True)
    outputs = model.transform.classes if margins.shape[1] > 1 else [None]
    answers = ask(model, INSTANCES, JSON, f"{JSON}; contributions=true")
    plain = ask(model, INSTANCES, JSON)
    for row, answer in enumerate(answers):
        for output, label in enumerate(outputs):
            added, bias = answer["contributions"], answer["bias"]
            if label is not None:
                added, bias = added[label], bias[label]
            assert list(added) == NAMES
            assert sum(added.values()) + bias == pytest.approx(margins[row, output], abs=1e-4)
        assert answer | plain[row] == answer
    table = ask(model, INSTANCES, JSON, f"{PARQUET}; contributions=true")
    found = np.stack(
        [table.column(name).to_numpy() for name in table.column_names if name.startswith("contribution.")], axis=1
    )
    listed = [
        [
            value
            for group in (answer["contributions"].values() if outputs != [None] else [answer["contributions"]])
            for value in group.values()
        ]
        for answer in answers
    ]
    assert found.tolist() == listed
    assert len(ask(model, INSTANCES, JSON, f"{CSV}; contributions=true")[0]) == table.num_columns


def test_a_dates_contribution_is_that_of_all_its_parts(binary: inference.Model) -> None:
    features = binary.transform.features_of_rows(ROWS, NAMES)
    matrix = xgboost.DMatrix(features, feature_types=binary.transform.feature_types, enable_categorical=True)
    by_feature = binary.booster.predict(matrix, pred_contribs=True)
    parts = [position for position, source in enumerate(binary.transform.sources) if source == "joined"]
    assert len(parts) == 5
    assert np.abs(by_feature[:, parts]).sum() > 0
    found = [
        answer["contributions"]["joined"] for answer in ask(binary, INSTANCES, JSON, f"{JSON}; contributions=true")
    ]
    assert found == pytest.approx(by_feature[:, parts].sum(axis=1), abs=1e-6)


def test_names_with_every_special_character_reach_the_answer(tmp_path: Path) -> None:
    names = ['100%s "sure", or %', "a.b", "bias", "Größe\n"]
    model = make_model(tmp_path, columns=[Column(name, "number") for name in names])
    [answer] = ask(model, "[[1, 2, 3, 4]]", JSON, f"{JSON}; contributions=true")
    assert list(answer["contributions"]) == names
    assert isinstance(answer["bias"], float)
    header, _ = ask(model, "[[1, 2, 3, 4]]", JSON, f"{CSV}; contributions=true; header=present")
    assert header[2:] == [f"contribution.{name}" for name in names] + ["bias"]


@pytest.mark.parametrize("classes", [[0, 1], [False, True], [1.5, 2.0], ["no", 'quote "yes", comma']])
def test_labels_keep_their_type_in_json_and_are_text_elsewhere(tmp_path: Path, classes: list[Any]) -> None:
    transform = replace(make_transform(), classes=classes)
    model = inference.model_fn(str(write_archive(tmp_path / "model", transform, train_booster(transform))))
    labels = [answer["predicted_label"] for answer in ask(model, INSTANCES, JSON)]
    assert set(labels) <= set(classes)
    assert [type(label) for label in labels] == [type(classes[0])] * 4
    texts = [line[0] for line in ask(model, INSTANCES, JSON, CSV)]
    assert texts == [as_text(label) for label in labels]
    assert texts == ask(model, INSTANCES, JSON, PARQUET).column("predicted_label").to_pylist()


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("text/*", CSV),
        ("TEXT/CSV; charset=UTF-8", CSV),
        ("text/csv;q=0.4, application/json;q=0.5", JSON),
        ("text/csv, application/json", CSV),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON),
        ("application/json;q=0, text/csv;q=0.1", CSV),
        ("image/png, application/vnd.apache.parquet", "application/vnd.apache.parquet"),
        ("application/json; output=nonsense, text/csv", CSV),
    ],
)
def test_the_caller_chooses_the_form_of_the_answer(binary: inference.Model, accept: str, kind: str) -> None:
    assert inference.transform_fn(binary, GOOD, CSV, accept)[1] == kind


@pytest.mark.parametrize(
    ("accept", "message"),
    [
        ("image/png", "'image/png' is not supported: ask for text/csv, application/json"),
        (
            "application/json; contribution=true",
            "there is no option 'contribution', only output, contributions, header",
        ),
        ("application/json; contributions=yes", "contributions must be true or false, not 'yes'"),
        ("application/json;q=0", "is not supported"),
        ("application/json;q=high", "a quality .q. must be a number"),
    ],
)
def test_an_answer_that_cannot_be_given_is_refused(binary: inference.Model, accept: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as refused:
        inference.transform_fn(binary, GOOD, CSV, accept)
    assert refused.value.status_code == 406


def test_a_header_is_found_or_said(binary: inference.Model) -> None:
    header = '"plan, old",nothing,left,joined,member,city,age,extra'
    line = "A,,31/12/2025,2026-11-20T08:30:00Z,true,Ulm,42,more"
    wanted = ask(binary, GOOD, CSV)
    assert ask(binary, f"{header}\n{line}\n", CSV) == wanted
    assert ask(binary, f"{header}\n{line}\n", f"{CSV}; header=present") == wanted
    with pytest.raises(RequestError, match="row 1 has 8 values"):
        ask(binary, f"{header}\n{line}\n", f"{CSV}; header=absent")
    with pytest.raises(RequestError, match="columns are missing: age, city"):
        ask(binary, f"{GOOD}\n{GOOD}", f"{CSV}; header=present")
    with pytest.raises(RequestError, match="header of text/csv is present or absent, not 'maybe'"):
        ask(binary, GOOD, f"{CSV}; header=maybe")


def test_a_header_in_capitals_is_a_header_that_names_other_columns(tmp_path: Path) -> None:
    """Else it would be answered as a row of categories that training never saw."""
    model = make_model(tmp_path, columns=[Column("city", "category", ["Ulm"]), Column("plan", "category", ["A"])])
    with pytest.raises(RequestError, match=r"columns are missing: city, plan \(there are 'CITY', 'PLAN'\)"):
        ask(model, "CITY,PLAN\nUlm,A", CSV)


def test_a_first_line_with_some_of_the_names_is_never_answered_as_a_row(tmp_path: Path) -> None:
    columns = [Column(name, "category", categories=["a", "b"]) for name in ("city", "plan", "shop", "size", "kind")]
    model = make_model(tmp_path, columns=columns)
    body = "city,plan,shopp,siz,knd\na,b,a,b,a\n"
    with pytest.raises(RequestError, match=r"some of the columns' names .'city', 'plan'.*header=absent") as refused:
        ask(model, body, CSV)
    assert refused.value.status_code == 400
    assert len(ask(model, body, f"{CSV}; header=absent")) == 2
    # one such text can be a value
    assert len(ask(model, "city,a,b,a,b\na,b,a,b,a\n", CSV)) == 2


def test_columns_named_by_numbers_are_not_mistaken_for_a_header(tmp_path: Path) -> None:
    model = make_model(tmp_path, columns=[Column("0", "number"), Column("1", "number")])
    assert len(ask(model, "1,0\n5,6\n", CSV)) == 2
    assert len(ask(model, "1,0\n5,6\n", f"{CSV}; header=present")) == 1


def test_a_single_column_keeps_its_missing_value(tmp_path: Path) -> None:
    model = make_model(tmp_path, columns=[Column("age", "number")])
    assert ask(model, 'age\n1\n""\n2\n', CSV) == ask(model, "[[1], [null], [2]]", JSON)
    with pytest.raises(RequestError, match='line 2 is empty: write a missing value of a single column as ""'):
        ask(model, "1\n\n2\n", CSV)


@pytest.mark.parametrize("few", [True, False])
def test_line_ends_and_a_byte_order_mark_change_nothing(
    binary: inference.Model, few: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not few:
        monkeypatch.setattr("request_rows.FEW_CHARACTERS", 0)
    wanted = ask(binary, f"{GOOD}\n{GOOD}", CSV)
    for body in (
        f"{GOOD}\r\n{GOOD}\r\n",
        f"{GOOD}\r{GOOD}\r",
        f"\ufeff{GOOD}\n{GOOD}\n\n",
        f"\ufeff{','.join(map(quoted, NAMES))}\n{GOOD}\n{GOOD}",
    ):
        assert ask(binary, body, CSV) == wanted
        assert ask(binary, body.encode(), CSV) == wanted


def quoted(name: str) -> str:
    return f'"{name}"'


@pytest.mark.parametrize("rows", [1, 60])
def test_not_a_number_and_infinity_are_taken_as_in_training(binary: inference.Model, rows: int) -> None:
    record = RECORDS[0]
    for body, same in [("NaN", None), ("Infinity", 1e38), ("-Infinity", -1e38), ("1e999", 1e38), ("-999", None)]:
        text = json.dumps([{**record, "age": "HERE"}] * rows).replace('"HERE"', body)
        assert ask(binary, text, JSON) == ask(binary, json.dumps([{**record, "age": same}] * rows), JSON)


def test_a_category_that_training_never_saw_is_a_rare_one_or_missing(binary: inference.Model) -> None:
    features = binary.reader.features(json.dumps([{**RECORDS[0], "city": "Atlantis", "plan, old": "Z"}]), JSON)[0]
    names = binary.transform.feature_names
    assert features[names.index("city")] == len(COLUMNS[1].categories)
    assert np.isnan(features[names.index("plan, old")])


def test_a_hundred_thousand_rows(binary: inference.Model) -> None:
    wanted = ask(binary, GOOD, CSV, CSV)
    body = f"{GOOD}\n" * 100_000
    assert ask(binary, body, CSV, CSV) == wanted * 100_000
    assert ask(binary, body.replace("Ulm", '"Ulm"'), CSV, CSV) == wanted * 100_000
    with pytest.raises(RequestError, match="row 99001, column 'age': must be a number, but is 'old'"):
        ask(binary, f"{GOOD}\n" * 99_000 + GOOD.replace("42", "old") + f"\n{GOOD}" * 999, CSV)


def test_the_rows_of_a_parquet_request_are_limited(binary: inference.Model) -> None:
    """A file of a few kilobytes would take any amount of memory."""
    many = pa.nulls(1_000_001, pa.string())
    stream = pa.BufferOutputStream()
    pq.write_table(pa.table([many] * len(NAMES), NAMES), stream)
    with pytest.raises(RequestError, match="1,000,001 rows: send at most 1,000,000") as refused:
        ask(binary, stream.getvalue().to_pybytes(), PARQUET)
    assert refused.value.status_code == 413


def record(**changes: Any) -> str:
    return json.dumps([RECORDS[0], {**RECORDS[0], **changes}])


def parquet(columns: dict[str, Any]) -> bytes:
    stream = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("body", "content_type", "message", "row", "column"),
    [
        # nothing
        ("", CSV, "the body has no row", None, None),
        ("\r\n\n", CSV, "the body has no row", None, None),
        ("", JSON, "not JSON", None, None),
        ("", LINES, "line 1 is empty", None, None),
        (b"", PARQUET, "not Parquet", None, None),
        ('{"instances": []}', JSON, "the body has no row", None, None),
        ("[]", JSON, "the body has no row", None, None),
        (parquet({name: pa.array([], pa.string()) for name in NAMES}), PARQUET, "the body has no row", None, None),
        (",".join(map(quoted, NAMES)), CSV, "a header line but no row", None, None),
        # columns
        ("1,2,3", CSV, "row 1 has 3 values, but the model takes 7: age, city, .* .in this order.", 0, None),
        (f"{GOOD}\n{GOOD},", CSV, "row 2 has 8 values", 1, None),
        (
            "age,city,member,joined\n1,a,true,2020-01-01",
            CSV,
            "columns are missing: plan, old, left, nothing",
            None,
            "plan, old",
        ),
        (",".join(map(quoted, [*NAMES, "age"])) + f"\n{GOOD},1", CSV, "column 'age': is named twice", None, "age"),
        (
            ",".join(map(quoted, NAMES)) + f"\n{GOOD}\n{GOOD},1",
            CSV,
            "row 2 has 8 values, but 7 columns are named",
            1,
            None,
        ),
        ('[{"age": 1}]', JSON, r"row 1: columns are missing: city, .* \(there are 'age'\)", 0, "city"),
        (json.dumps([RECORDS[0], {"city": "Ulm"}]), JSON, "row 2: columns are missing: age", 1, "age"),
        ("{}", JSON, "row 1: columns are missing: .*there are none", 0, "age"),
        ("[[1, 2]]", JSON, "row 1 has 2 values, but the model takes 7", 0, None),
        ('{"columns": ["age", "age"], "data": [[1, 2]]}', JSON, "columns are missing: city", None, "city"),
        (
            json.dumps({"columns": [*NAMES, "age"], "data": [[1] * 8]}),
            JSON,
            "column 'age': is named twice",
            None,
            "age",
        ),
        (json.dumps({"columns": NAMES, "data": [[1]]}), JSON, "row 1 has 1 values, but 7 columns are named", 0, None),
        ('{"columns": 2, "data": [[1, 2]]}', JSON, '"columns" must be a list of names', None, None),
        ('{"age": 1, "age": 2}', JSON, "column 'age': is named twice in an object", None, "age"),
        (parquet({"age": [1]}), PARQUET, "columns are missing: city", None, "city"),
        # values
        (GOOD.replace("42", "old"), CSV, "row 1, column 'age': must be a number, but is 'old'", 0, "age"),
        (GOOD.replace("42", "1_000"), CSV, "row 1, column 'age': must be a number, but is '1_000'", 0, "age"),
        (
            f"{GOOD}\n{GOOD.replace('true', 'perhaps')}",
            CSV,
            "row 2, column 'member': must be true or false, but",
            1,
            "member",
        ),
        (
            GOOD.replace("31/12/2025", "2025-12-31"),
            CSV,
            "row 1, column 'left': must be a date like %d/%m/%Y",
            0,
            "left",
        ),
        (record(joined="yesterday"), JSON, "row 2, column 'joined': must be a date in ISO 8601", 1, "joined"),
        (record(joined=5), JSON, "row 2, column 'joined': must be a date", 1, "joined"),
        (record(age=True), JSON, "row 2, column 'age': must be a number, but is true", 1, "age"),
        (record(city=["Ulm"]), JSON, r"row 2, column 'city': must be a number, a text, .* but is \['Ulm'\]", 1, "city"),
        (
            record(age={"value": 1}),
            JSON,
            "row 2, column 'age': must be a number, a text, true, false or null",
            1,
            "age",
        ),
        (
            json.dumps(RECORDS[0]) + "\n" + json.dumps({**RECORDS[0], "age": "old"}),
            LINES,
            "row 2, column 'age'",
            1,
            "age",
        ),
        (
            parquet({name: [b"\xff"] for name in NAMES}),
            PARQUET,
            "column 'age': must be a number, but is of type binary",
            None,
            "age",
        ),
        # form
        ('"1,2\n', CSV, "line 1 is not CSV", None, None),
        (GOOD.replace("Ulm", '"Ulm'), CSV, "line 1 is not CSV: unexpected end of data", None, None),
        (GOOD.replace("Ulm", '"Ulm"x'), CSV, "line 1 is not CSV: ',' expected after '\"'", None, None),
        (f"{GOOD}\n\n{GOOD}", CSV, "line 2 is empty", 1, None),
        (INSTANCES[:-5], JSON, "the body is not JSON", None, None),
        ("[1, 2]", JSON, "every row must be an object, or every row a list", None, None),
        ("[[1, 2], {}]", JSON, "every row must be an object, or every row a list", None, None),
        ("42", JSON, "the body has no row", None, None),
        ("[" * 100_000, JSON, "the body is not JSON that can be read", None, None),
        ("9" * 5_000, JSON, "the body is not JSON that can be read", None, None),
        (json.dumps(RECORDS[0]) + "\n\n" + json.dumps(RECORDS[0]), LINES, "line 2 is empty", None, None),
        (json.dumps(RECORDS[0]) + "\n{", LINES, "line 2 is not one: the body is not JSON", None, None),
        (b"PAR1 nonsense PAR1", PARQUET, "not Parquet that can be read", None, None),
        ("text", PARQUET, "not Parquet, but text", None, None),
        # encoding
        (
            GOOD.replace("Ulm", "Köln").encode("cp1252"),
            CSV,
            "not UTF-8: line 1 holds bytes that are no character",
            None,
            None,
        ),
        (f"{GOOD}\n".encode() + b"\xff", CSV, "not UTF-8: line 2", None, None),
        (GOOD.replace("Ulm", "K\ufffdln"), CSV, "not UTF-8: line 1", None, None),
        (GOOD.replace("Ulm", "\udcf6"), CSV, "not UTF-8: line 1", None, None),
        (INSTANCES.encode("utf-16"), JSON, "not UTF-8", None, None),
    ],
)
@pytest.mark.parametrize("few", [True, False])
def test_requests_that_cannot_be_answered_say_why_and_where(
    binary: inference.Model,
    body: str | bytes,
    content_type: str,
    message: str,
    row: int | None,
    column: str | None,
    few: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not few:
        monkeypatch.setattr("request_rows.FEW_CHARACTERS", 0)
        monkeypatch.setattr("request_rows.FEW_VALUES", 0)
    with pytest.raises(RequestError, match=message) as refused:
        ask(binary, body, content_type)
    assert (refused.value.status_code, refused.value.row, refused.value.column) == (400, row, column)


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "text/csv; charset=latin-1", "application/json; charset=utf-16"]
)
def test_content_types_that_are_not_supported(binary: inference.Model, content_type: str) -> None:
    with pytest.raises(RequestError, match="is not supported: send") as refused:
        ask(binary, GOOD, content_type)
    assert refused.value.status_code == 415
