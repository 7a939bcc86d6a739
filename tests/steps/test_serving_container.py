"""inference.py among what the image puts around it: archives that do not fit, and how an error reaches the caller."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import flask
import inference
import media_types
import pytest
import xgboost
from media_types import RequestError
from transform import Column

from tests.steps.serving_models import make_transform, train_booster, write_archive

COLUMNS = [Column("age", "number"), Column("city", "category", ["Ulm"])]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    transform = make_transform(columns=COLUMNS)
    return write_archive(tmp_path / "model", transform, train_booster(transform, rounds=3))


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def major_minor(ahead: int) -> str:
    major, minor = xgboost.__version__.split(".")[:2]
    return f"{major}.{int(minor) + ahead}"


def test_in_the_images_flask_application_a_refusal_is_its_answer(archive: Path) -> None:
    """The image's older server makes any exception a 500, but passes a response on as it is."""
    model = inference.model_fn(str(archive))
    app = flask.Flask("serving")

    @app.post("/invocations")
    def invocations() -> Any:
        request = flask.request
        answer = inference.transform_fn(model, request.get_data(), request.content_type, request.headers["Accept"])
        return flask.Response(answer[0], mimetype=answer[1]) if isinstance(answer, tuple) else answer

    ask = app.test_client()
    good = ask.post("/invocations", data="42,Ulm", content_type="text/csv", headers={"Accept": "text/csv"})
    assert (good.status_code, good.mimetype) == (200, "text/csv")
    bad = ask.post("/invocations", data="42,Ulm\nold,Ulm", content_type="text/csv", headers={"Accept": "text/csv"})
    assert (bad.status_code, bad.mimetype) == (400, "application/json")
    assert bad.get_json() == {
        "error": "row 2, column 'age': must be a number, but is 'old'",
        "row": 2,
        "column": "age",
    }
    assert ask.post("/invocations", data="1", content_type="image/png", headers={"Accept": "*/*"}).status_code == 415


def test_outside_of_a_flask_request_a_refusal_is_raised(archive: Path) -> None:
    with pytest.raises(RequestError, match="no row"):
        inference.transform_fn(inference.model_fn(str(archive)), "", "text/csv", "*/*")


def test_to_sagemakers_model_server_a_refusal_is_its_own_error_with_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """sagemaker_inference answers with the status of a BaseInferenceToolkitError, and with 500 for any other error."""

    class BaseInferenceToolkitError(Exception):
        pass

    errors = ModuleType("sagemaker_inference.errors")
    errors.BaseInferenceToolkitError = BaseInferenceToolkitError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sagemaker_inference", ModuleType("sagemaker_inference"))
    monkeypatch.setitem(sys.modules, "sagemaker_inference.errors", errors)
    spec = importlib.util.spec_from_file_location("media_types_in_the_image", str(media_types.__file__))
    assert spec is not None
    assert spec.loader is not None
    in_the_image = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(in_the_image)
    assert issubclass(in_the_image.RequestError, BaseInferenceToolkitError)
    error = in_the_image.RequestError("no such answer", 406, column="age")
    assert (error.status_code, error.message, error.phrase, str(error)) == (
        406,
        "no such answer",
        "Not Acceptable",
        "no such answer",
    )


@pytest.mark.parametrize("wrote", [xgboost.__version__, f"{major_minor(0)}.99", "1.7.4"])
def test_a_model_of_the_same_or_an_older_xgboost_is_loaded(archive: Path, wrote: str) -> None:
    change(archive / "code" / "versions.json", xgboost=wrote)
    inference.model_fn(str(archive))


def test_a_model_of_a_newer_xgboost_is_refused(archive: Path) -> None:
    newer = f"{major_minor(1)}.0"
    change(archive / "code" / "versions.json", xgboost=newer)
    with pytest.raises(inference.ModelError) as refused:
        inference.model_fn(str(archive))
    assert str(refused.value) == (
        f"XGBoost {xgboost.__version__} is older than the one that wrote the model. The model was written with python "
        f"3.12.0, xgboost {newer}, numpy 2.1.0: serve it in an image of sagemaker-xgboost {major_minor(1)} or newer"
    )


def test_a_model_that_xgboost_cannot_load_says_what_it_needs(archive: Path) -> None:
    (archive / "xgboost-model").write_bytes(b"{L\x00nonsense")
    with pytest.raises(
        inference.ModelError, match=r"cannot load the model: .* The model was written with python 3.12.0"
    ):
        inference.model_fn(str(archive))


@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        ("versions.json", {"xgboost": None}, "versions.json cannot be used"),
        ("versions.json", {"xgboost": "new"}, "versions.json cannot be used"),
        ("transform.json", {"further": 1}, "transform.json cannot be used: .*'further'"),
        ("transform.json", {"columns": [{"name": "age"}]}, "transform.json cannot be used: .*'kind'"),
        ("transform.json", {"problem_type": "ranking"}, "transform.json cannot be used: .*'ranking'"),
        ("transform.json", {"classes": []}, "transform.json cannot be used: .*classes"),
        (
            "transform.json",
            {"columns": [{"name": "age", "kind": "number"}]},
            "does not take the transformation's 1 features",
        ),
        (
            "transform.json",
            {"problem_type": "multiclass_classification", "classes": ["a", "b", "c"]},
            r"answers in the shape \(1,\), where transform.json says \(1, 3\)",
        ),
    ],
)
def test_parts_of_an_archive_that_do_not_belong_together_are_refused(
    archive: Path, file: str, fields: dict[str, Any], message: str
) -> None:
    change(archive / "code" / file, **fields)
    with pytest.raises(inference.ModelError, match=message):
        inference.model_fn(str(archive))


@pytest.mark.parametrize("file", ["code/versions.json", "code/transform.json", "xgboost-model"])
def test_an_archive_that_lacks_a_file_is_refused(archive: Path, file: str) -> None:
    (archive / file).unlink()
    with pytest.raises(inference.ModelError, match=file):
        inference.model_fn(str(archive))
