"""Answers requests with a model archive's own code, as SageMaker's container does. Runs in a process of its own.

scoring.py starts this text with `python -c`, so that nothing but the archive's modules is there to be imported.
Argument: the folder of the unpacked archive. Each line of its input is a request, each line that it writes is the
answer, both JSON:
    {"body": file, "content_type": ..., "accept": ..., "repeat": n, "answer": file}
    -> {"content_type": ..., "seconds": [one per repetition]}, the body being in the answer's file; or {"error": text}
    {"importance": true}
    -> {"importance": {feature: its share of the trees' total gain}}
The first line that it writes is {} when the model is loaded, or {"error": text}.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def load(folder: Path) -> tuple[Any, Any]:
    """The archive's inference module, and its model."""
    sys.path.insert(0, str(folder / "code"))
    inference = importlib.import_module("inference")
    if not hasattr(inference, "transform_fn"):
        raise AttributeError("code/inference.py has no transform_fn: it was made by an earlier template")
    return inference, inference.model_fn(str(folder))


def respond(inference: Any, model: Any, request: dict[str, Any]) -> dict[str, Any]:
    path = Path(request["body"])
    is_text = request["content_type"].startswith(("text/", "application/json"))
    body = path.read_bytes().decode("utf-8") if is_text else path.read_bytes()  # as the container hands it over
    seconds = []
    for _ in range(request["repeat"]):
        started = time.perf_counter()
        answer, content_type = inference.transform_fn(model, body, request["content_type"], request["accept"])
        seconds.append(time.perf_counter() - started)
    Path(request["answer"]).write_bytes(answer.encode() if isinstance(answer, str) else answer)
    return {"content_type": content_type, "seconds": seconds}


def importance(folder: Path) -> dict[str, Any]:
    import xgboost

    booster = xgboost.Booster(model_file=bytearray((folder / "xgboost-model").read_bytes()))
    gains = booster.get_score(importance_type="total_gain")
    whole = sum(gains.values()) or 1.0
    return {"importance": {name: gain / whole for name, gain in gains.items()}}


def main() -> None:
    # whatever the archive's code prints goes to the log
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    folder = Path(sys.argv[1])
    said: dict[str, Any] = {}
    inference = model = None
    try:
        inference, model = load(folder)
    except Exception as error:
        said = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(said), file=answers, flush=True)
    for line in () if said else sys.stdin:
        request = json.loads(line)
        try:
            said = importance(folder) if "importance" in request else respond(inference, model, request)
        except Exception as error:
            # sagemaker_inference's errors keep their text in `message`
            said = {"error": str(getattr(error, "message", None) or error) or type(error).__name__}
        print(json.dumps(said), file=answers, flush=True)


if __name__ == "__main__":
    main()
