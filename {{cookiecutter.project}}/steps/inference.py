"""How the endpoint answers: raw columns in, predictions out, with the transformation that training stored.

The XGBoost image calls model_fn once in every worker process, then transform_fn for every request.

Requests   text/csv                 lines of raw columns, with a header line or without. `text/csv; header=present` or
                                    `header=absent` says which; else a first line with more than half of the columns'
                                    names in it is a header (names that are numbers do not count, being values too),
                                    and one with some of them, from two or half on, is an error.
                                    Quotes as in RFC 4180; a line may not be empty.
           application/json         {"instances": [{"age": 42, "city": "Ulm"}, ...]}, the same list alone, one such
                                    object, or {"columns": ["age", ...], "data": [[42, ...], ...]}. A row without names
                                    is a list, or {"features": list}.
           application/x-ndjson     one such object or list a line (application/jsonlines is the same)
           application/x-parquet    the columns as any type that training would take (application/vnd.apache.parquet)
Columns    By name in any order, further ones are left alone; a missing one is an error (send null, or an empty field).
           Without names: exactly the columns of transform.json, in its order.
Values     As in training, whatever the form: transform.py says what a number, a date, a missing value is. NaN is
           missing, infinite and huge numbers are cut to +-1e38. A category that training never saw counts as missing,
           or as one of the rare ones when training saw rare ones. What is no number, boolean or date is an error, a
           decimal comma too, wherever the training data came from. Text is UTF-8, with or without a byte order mark.

Answers, chosen by Accept (its quality values count; application/json when all is accepted):
           regression   score
           two classes  predicted_label, probability (of the second class)
           more         predicted_label, probability (of it), probabilities (of each class)
           application/json  {"predictions": [{"predicted_label": "yes", "probability": 0.93}, ...]};
           application/x-ndjson  these objects, one a line; text/csv, application/x-parquet  the same as columns in this
           order, the classes' probabilities being probability.<class>. Labels are text there.
Options, as parameters of the media type in Accept, such as `application/json; output=labels; contributions=true`:
           output=labels | probabilities | values   the label alone, every class's probability alone, the score
           contributions=true   what each raw column added to this row's margin (SHAP values; the margin is the score,
                                or the log-odds of the second class, or each class's before softmax): "contributions"
                                {column: number} and "bias", which add up to the margin; with several classes both for
                                each class. Columns: contribution.<column> ..., bias; with several classes
                                contribution.<class>.<column> ..., bias.<class> ...
           header=present       text/csv with the columns' names as first line

Errors     A request that cannot be answered is an error of the caller (RequestError): 400, 406 (Accept), 413 (Parquet
           of more than a million rows), 415 (content type), with a text that names row (from 1, without the header) and
           column: {"error": "row 3, column 'age': must be a number, but is 'abc'", "row": 3, "column": "age"}.

The image runs one worker process for each CPU, so a request is answered by one thread.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from answers import AnswerWriter, parse_accept
from media_types import JSON, RequestError
from request_rows import RequestReader
from transform import Transform

PROBLEM_TYPES = ("binary_classification", "multiclass_classification", "regression")


class ModelError(RuntimeError):
    """The model's archive cannot be loaded here: the text says what is needed."""


@dataclass(frozen=True)
class Model:
    booster: xgboost.Booster
    transform: Transform
    reader: RequestReader
    writer: AnswerWriter


def model_fn(model_dir: str) -> Model:
    """Loads what train.py saved: the booster and the transformation. Raises ModelError."""
    folder = Path(model_dir)
    versions = _read_versions(folder / "code" / "versions.json")
    transform = _read_transform(folder / "code" / "transform.json")
    booster = xgboost.Booster({"nthread": 1})
    try:
        booster.load_model(bytearray((folder / "xgboost-model").read_bytes()))
    except (OSError, xgboost.core.XGBoostError) as error:
        reason = str(error).partition("\n")[0]  # the rest is XGBoost's stack
        raise ModelError(
            f"XGBoost {xgboost.__version__} cannot load the model: {reason}. {_needed(versions)}"
        ) from error
    booster.set_param({"nthread": 1})
    model = Model(booster, transform, RequestReader(transform), AnswerWriter(transform))
    _check_outputs(model)
    return model


def transform_fn(model: Model, body: bytes | str, content_type: str, accept: str) -> Any:
    """The answer's body and its content type.

    A request that cannot be answered raises RequestError, except inside of the image's Flask application, where any
    exception would become a 500: there it is a flask.Response.
    """
    try:
        return respond(model, body, content_type, accept)
    except RequestError as error:
        flask = sys.modules.get("flask")
        if flask is None or not flask.has_request_context():
            raise
        row = None if error.row is None else error.row + 1
        said = json.dumps({"error": error.message, "row": row, "column": error.column})
        return flask.Response(said, status=error.status_code, mimetype=JSON)


def respond(model: Model, body: bytes | str, content_type: str, accept: str) -> tuple[str | bytes, str]:
    """As transform_fn, always raising RequestError for a request that cannot be answered."""
    wanted = parse_accept(accept, bool(model.transform.classes))
    features = model.reader.features(body, content_type)
    contributions = _contributions(model, features) if wanted.contributions else None
    return model.writer.write(model.booster.inplace_predict(features), contributions, wanted), wanted.kind


def _contributions(model: Model, features: np.ndarray) -> np.ndarray:
    """SHAP values by raw column: shape (rows, outputs, columns + 1), the bias last.

    A date is several features; contributions add up, so the column's is their sum.
    """
    types = model.transform.feature_types
    matrix = xgboost.DMatrix(features, feature_types=types, enable_categorical=True, nthread=1)
    by_feature = model.booster.predict(matrix, pred_contribs=True, strict_shape=True)
    columns = {name: position for position, name in enumerate(model.transform.column_names)}
    summed = np.zeros((*by_feature.shape[:2], len(columns) + 1), dtype=np.float32)
    summed[..., -1] = by_feature[..., -1]
    for feature, source in enumerate(model.transform.sources):
        summed[..., columns[source]] += by_feature[..., feature]
    return summed


def _read_versions(path: Path) -> dict[str, str]:
    """What wrote the model. Raises ModelError when XGBoost here is an older one, which may read the model wrongly."""
    try:
        versions = dict(json.loads(path.read_text(encoding="utf-8")))
        wrote = _major_minor(versions["xgboost"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"the archive's code/versions.json cannot be used: {error!r}; train the model again"
        ) from error
    if _major_minor(xgboost.__version__) < wrote:
        raise ModelError(
            f"XGBoost {xgboost.__version__} is older than the one that wrote the model. {_needed(versions)}"
        )
    return versions


def _read_transform(path: Path) -> Transform:
    try:
        transform = Transform.load(path)
        if transform.problem_type not in PROBLEM_TYPES:
            raise ValueError(f"problem_type {transform.problem_type!r}")
        if bool(transform.classes) == (transform.problem_type == "regression"):
            raise ValueError(f"classes {transform.classes} of a {transform.problem_type}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"the archive's code/transform.json cannot be used: {error!r}; train the model again"
        ) from error
    return transform


def _check_outputs(model: Model) -> None:
    """One row tells whether the booster and the transformation belong together."""
    row = np.full((1, len(model.transform.feature_names)), np.nan, dtype=np.float32)
    classes = len(model.transform.classes)
    expected = (1, classes) if model.transform.problem_type == "multiclass_classification" else (1,)
    try:
        found = model.booster.inplace_predict(row).shape
    except (ValueError, xgboost.core.XGBoostError) as error:
        raise ModelError(f"the booster does not take the transformation's {row.shape[1]} features: {error}") from error
    if found != expected:
        raise ModelError(f"the booster answers in the shape {found}, where transform.json says {expected}")


def _needed(versions: dict[str, str]) -> str:
    wrote = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"The model was written with {wrote}: serve it in an image of sagemaker-xgboost "
        f"{'.'.join(map(str, _major_minor(versions['xgboost'])))} or newer"
    )


def _major_minor(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
