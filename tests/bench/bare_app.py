"""The least that a prediction server can do: an ASGI application that parses numbers and asks XGBoost.

It knows that there are 30 columns of numbers, no header, nothing missing and nothing wrong. Parsing takes numpy for a
few rows and pyarrow for many, whichever is faster. MODEL names the model's file.
"""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import xgboost

COLUMNS = [f"c{number}" for number in range(30)]
MANY = 8_000  # bytes
READ = pa_csv.ReadOptions(column_names=COLUMNS, use_threads=False)
CONVERT = pa_csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.float32()))

booster = xgboost.Booster({"nthread": 1}, model_file=os.environ["MODEL"])
booster.set_param("nthread", 1)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request of any path."""
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if len(body) < MANY:
        features = np.array(body.replace(b"\n", b",").rstrip(b",").split(b","), dtype=np.float32)
        features = features.reshape(-1, len(COLUMNS))
    else:
        table = pa_csv.read_csv(io.BytesIO(body), READ, convert_options=CONVERT)
        features = np.column_stack([column.to_numpy() for column in table.columns])
    answer = ("\n".join(map(repr, booster.inplace_predict(features).tolist())) + "\n").encode()
    headers = [(b"content-type", b"text/csv"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
