"""The XGBoost image without a program of the model's own: every file in the archive's root is taken for a model.

With its faults, which models must live with: a further file in the root (metadata.json, say) fails every request, and a
wrong number of columns is accepted.
"""

from __future__ import annotations

import json
import os
import pickle
import traceback
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from .application import max_payload_mb
from .formats import CSV, LIBSVM, RECORDIO, decode_features, media_type
from .server import Answer, Request

ACCEPTS = ("application/json", "application/jsonlines", "application/x-recordio-protobuf", "text/csv")
CONTENT_TYPES = (*CSV, *LIBSVM, *RECORDIO)
CLASSIFICATION = ("predicted_label", "labels", "raw_score", "raw_scores")
WITH_PROBABILITY = (*CLASSIFICATION, "probability", "probabilities")
# What SAGEMAKER_INFERENCE_OUTPUT may ask of a model with this objective.
OUTPUTS = {
    "reg:squarederror": ("predicted_score",),
    "reg:logistic": ("predicted_score",),
    "reg:gamma": ("predicted_score",),
    "reg:tweedie": ("predicted_score",),
    "binary:logistic": WITH_PROBABILITY,
    "binary:logitraw": CLASSIFICATION,
    "binary:hinge": CLASSIFICATION,
    "multi:softmax": CLASSIFICATION,
    "multi:softprob": WITH_PROBABILITY,
}


class _Refused(Exception):
    """The request ends here, with this status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class DefaultHandler:
    """The application. The model is loaded with the first request, so that /ping is well even when it cannot be."""

    def __init__(self, model_folder: str) -> None:
        self._folder = Path(model_folder)
        self._models: list[xgboost.Booster] = []
        output = os.environ.get("SAGEMAKER_INFERENCE_OUTPUT", "")
        self._outputs = output.replace(" ", "").lower().split(",") if output else []
        self._default_accept = os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT") or "text/csv"

    def invoke(self, request: Request) -> Answer:
        if not request.body:
            return Answer(HTTPStatus.NO_CONTENT)
        try:
            features = self._read(request)
            predictions = self._predict(features)
            accept = self._accept(request.headers.get("accept", ""))
            return Answer(HTTPStatus.OK, self._write(predictions, accept).encode(), accept)
        except _Refused as refused:
            traceback.print_exc()
            return Answer(refused.status, str(refused).encode(), "text/html; charset=utf-8")

    def execution_parameters(self) -> Answer:
        parameters = {
            "MaxConcurrentTransforms": os.cpu_count(),
            "BatchStrategy": "MULTI_RECORD",
            "MaxPayloadInMB": max_payload_mb(),
        }
        return Answer(HTTPStatus.OK, json.dumps(parameters).encode(), "application/json")

    def _read(self, request: Request) -> xgboost.DMatrix:
        content_type = media_type(request.headers.get("content-type") or "text/csv")
        if content_type not in CONTENT_TYPES:
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Content-type {content_type} not supported.")
        try:
            return decode_features(request.body, content_type)
        except Exception as error:
            kind = content_type.rpartition("/")[2]
            text = f"Loading {kind} data failed with Exception, please ensure data is in {kind} format:"
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"{text}\n {type(error)}\n {error}") from error

    def _predict(self, features: xgboost.DMatrix) -> np.ndarray:
        try:
            if not self._models:
                self._models = load_models(self._folder)
        except Exception as error:
            raise _Refused(HTTPStatus.INTERNAL_SERVER_ERROR, f"Unable to load model: {error}") from error
        try:
            found = [model.predict(features, validate_features=False) for model in self._models]
        except Exception as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, f"Unable to evaluate payload provided: {error}") from error
        return found[0] if len(found) == 1 else np.mean(found, axis=0)

    def _accept(self, header: str) -> str:
        accept = media_type(header)
        if not accept or accept == "*/*":
            return self._default_accept
        if accept not in ACCEPTS:
            text = f"Accept type {accept} is not supported. Please use supported accept types: {list(ACCEPTS)}."
            raise _Refused(HTTPStatus.NOT_ACCEPTABLE, text)
        return accept

    def _write(self, predictions: np.ndarray, accept: str) -> str:
        if self._outputs:
            rows = self._selected(predictions)
        else:
            rows = [{"score": value} for value in predictions.tolist()]
        if accept == "application/json":
            return json.dumps({"predictions": rows})
        if accept == "application/jsonlines" and self._outputs:
            return "".join(json.dumps(row) + "\n" for row in rows)
        if accept == "text/csv":
            return "".join(",".join(_csv_field(value) for value in row.values()) + "\n" for row in rows)
        raise _Refused(HTTPStatus.INTERNAL_SERVER_ERROR, f"Cannot encode predictions as {accept}.")

    def _selected(self, predictions: np.ndarray) -> list[dict[str, Any]]:
        """A row for each prediction with what SAGEMAKER_INFERENCE_OUTPUT asks for; nan for what there is not."""
        config = json.loads(self._models[0].save_config())["learner"]
        objective = config["objective"]["name"]
        if objective not in OUTPUTS:
            text = f"Objective `{objective}` unsupported for selectable inference predictions."
            raise _Refused(HTTPStatus.INTERNAL_SERVER_ERROR, text)
        classes = int(config["learner_model_param"].get("num_class") or 0) if objective.startswith("multi:") else 2
        return [
            {
                name: _output(name, value, objective, classes) if name in OUTPUTS[objective] else float("nan")
                for name in self._outputs
            }
            for value in predictions
        ]


def load_models(folder: Path) -> list[xgboost.Booster]:
    """Every file in the folder, as a pickle or else as XGBoost's own; several are an ensemble.

    Raises:
        RuntimeError: one of them is no model, or there is none.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not files:
        raise RuntimeError(f"No model is found under {folder}")
    if os.environ.get("SAGEMAKER_INFERENCE_ENSEMBLE", "true").lower() == "false":
        files = files[:1]
    return [_load(path) for path in files]


def _load(path: Path) -> xgboost.Booster:
    try:
        with path.open("rb") as stream:
            booster = pickle.load(stream)  # noqa: S301 (as the image does; the model is its owner's)
    except Exception as not_a_pickle:  # noqa: BLE001 (a pickle's content decides what reading it raises)
        booster = xgboost.Booster()
        try:
            booster.load_model(str(path))
        except Exception as error:
            raise RuntimeError(f"Model {path} cannot be loaded:\n{not_a_pickle}\n{error}") from error
    booster.set_param("nthread", 1)
    return booster


def _output(name: str, value: Any, objective: str, classes: int) -> Any:
    """One of the outputs of a prediction, which is a number, or an array of one for each class."""
    several = objective == "multi:softprob"
    if name == "labels":
        return list(range(classes))
    if name == "predicted_label":
        if several:
            return int(np.argmax(value))
        if objective in ("binary:hinge", "multi:softmax"):
            return value.item()
        return int(value > (0.5 if objective == "binary:logistic" else 0))
    if name in ("probabilities", "raw_scores"):
        return value.tolist() if several else [1.0 - value.item(), value.item()]
    return max(value).item() if several else value.item()


def _csv_field(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, list) else str(value)
    return f'"{text}"' if isinstance(value, list) else text
