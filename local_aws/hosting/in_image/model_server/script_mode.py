"""Script mode: SAGEMAKER_PROGRAM names a module with model_fn and transform_fn, or input_fn, predict_fn, output_fn.

As in the image: without an Accept header JSON is asked for, bodies of text/csv and application/json come as str, a
transform_fn excludes the other three, what they leave out is the default's, and any exception is a 500.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any

from . import flask_stand_in
from .application import max_payload_mb
from .server import Answer, Request, UnsupportedFormat

CSV, JSON = "text/csv", "application/json"
TEXT = (CSV, JSON)


class ScriptMode:
    """The application. Raises what importing the module and model_fn raise, and ValueError for functions amiss."""

    def __init__(self, model_folder: str) -> None:
        flask_stand_in.install()
        module = _import(model_folder)
        self._transform = _transform(module)
        self._default_accept = os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT") or JSON
        load = getattr(module, "model_fn", None)
        if load is None:
            raise ValueError(
                f"{module.__file__} has no model_fn: in script mode it must load the model, as in"
                " `def model_fn(model_dir): ...`"
            )
        self._model = load(model_folder)

    def invoke(self, request: Request) -> Answer:
        content_type = request.headers.get("content-type") or JSON
        accept = request.headers.get("accept")
        if not accept or "*/*" in accept:
            accept = self._default_accept
        body: bytes | str = request.body.decode() if content_type in TEXT else request.body
        with flask_stand_in.request_context(request):
            result = self._transform(self._model, body, content_type, accept)
        return _answer(result)

    def execution_parameters(self) -> Answer:
        parameters = {"MaxConcurrentTransforms": 1, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": max_payload_mb()}
        return Answer(HTTPStatus.OK, json.dumps(parameters).encode(), JSON)


def _import(model_folder: str) -> ModuleType:
    program = os.environ["SAGEMAKER_PROGRAM"]
    submitted = os.environ.get("SAGEMAKER_SUBMIT_DIRECTORY")
    folders = [submitted] if submitted else ["/opt/ml/code", str(Path(model_folder) / "code")]
    folder = next((folder for folder in folders if (Path(folder) / program).is_file()), None)
    if folder is None:
        raise FileNotFoundError(
            f"SAGEMAKER_PROGRAM {program!r} is not in {' or '.join(folders)}. Put it there, or set"
            " SAGEMAKER_SUBMIT_DIRECTORY to the folder that it lies in (such as /opt/ml/model/code)."
        )
    sys.path.insert(0, folder)
    return importlib.import_module(program.removesuffix(".py").replace("/", "."))


def _transform(module: ModuleType) -> Callable[..., Any]:
    """(model, body, content type, accept) -> result."""
    transform = getattr(module, "transform_fn", None)
    steps = {name: getattr(module, name, None) for name in ("input_fn", "predict_fn", "output_fn")}
    if transform is not None:
        if any(steps.values()):
            raise ValueError("Cannot use transform_fn implementation with input_fn, predict_fn, and/or output_fn")
        return transform
    # Importing XGBoost takes most of a container's start: only for what needs it.
    from .formats import decode_features, encode_predictions

    read = steps["input_fn"] or decode_features
    predict = steps["predict_fn"] or (lambda features, model: model.predict(features, validate_features=False))
    write = steps["output_fn"] or encode_predictions

    def in_steps(model: Any, body: bytes | str, content_type: str, accept: str) -> Any:
        try:
            features = read(body, content_type)
        except UnsupportedFormat as error:
            return _refused(error, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        predictions = predict(features, model)
        try:
            return write(predictions, accept)
        except UnsupportedFormat as error:
            return _refused(error, HTTPStatus.NOT_ACCEPTABLE)

    return in_steps


def _refused(error: Exception, status: int) -> flask_stand_in.Response:
    said = {"error": type(error).__name__, "error-message": str(error), "stack-trace": traceback.format_exc()}
    return flask_stand_in.Response(json.dumps(said), status=status, mimetype=JSON)


def _answer(result: Any) -> Answer:
    """What a model's function gave: (body, content type), a flask.Response, or a body alone."""
    if isinstance(result, tuple):
        body, content_type, *_ = result
        return Answer(HTTPStatus.OK, _bytes(body), str(content_type))
    status = getattr(result, "status_code", None)
    if status is not None:
        headers = {name: value for name, value in result.headers.items() if name.lower() != "content-length"}
        return Answer(int(status), result.get_data(), None, headers)
    return Answer(HTTPStatus.OK, _bytes(result), "text/html; charset=utf-8")


def _bytes(body: Any) -> bytes:
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    raise TypeError(f"the model's function answered {type(body).__name__}: give (str or bytes, content type)")
