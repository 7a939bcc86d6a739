"""Requests' bodies as XGBoost takes them, and predictions as bodies: the formats of the XGBoost image."""

from __future__ import annotations

import csv
import json
from typing import Any

import numpy as np
import xgboost

from .server import UnsupportedFormat

CSV = ("text/csv", "csv")
LIBSVM = ("text/libsvm", "text/x-libsvm", "libsvm")
RECORDIO = ("application/x-recordio-protobuf",)


def media_type(value: str) -> str:
    """`text/CSV; charset=utf-8` as "text/csv"."""
    return value.partition(";")[0].strip().lower()


def decode_features(body: bytes | str, content_type: str) -> xgboost.DMatrix:
    """The rows of a body, without header and label.

    Raises:
        UnsupportedFormat: the content type is none of CSV, LIBSVM, RECORDIO.
        ValueError: the body is not of its content type.
    """
    kind = media_type(content_type)
    data = body.encode() if isinstance(body, str) else body
    if kind in CSV:
        return xgboost.DMatrix(_csv(data.decode().strip()), nthread=1)
    if kind in LIBSVM:
        return xgboost.DMatrix(_libsvm(data.decode().strip()), nthread=1)
    if kind in RECORDIO:
        from .recordio import read_features

        return xgboost.DMatrix(read_features(data), nthread=1)
    raise UnsupportedFormat(content_type)


def _csv(text: str) -> np.ndarray:
    """Shape (rows, columns); an empty field is missing. The image finds the delimiter out by the first line."""
    lines = text.split("\n")
    try:
        found = csv.Sniffer().sniff(lines[0][:512]).delimiter
    except csv.Error:  # a single column
        found = ","
    delimiter = "," if found.isalnum() or found in ".-+" else found
    rows = [["nan" if not field.strip() else field for field in line.split(delimiter)] for line in lines]
    return np.array(rows).astype(np.float64)


def _libsvm(text: str) -> Any:
    """A sparse matrix; its columns are the features' numbers as they stand, from 0."""
    from scipy.sparse import csr_matrix

    rows, columns, values = [], [], []
    for row, line in enumerate(text.split("\n")):
        for item in line.split():
            column, colon, value = item.partition(":")
            if colon:
                rows.append(row)
                columns.append(int(column))
                values.append(float(value))
    return csr_matrix((values, (rows, columns)))


def encode_predictions(predictions: np.ndarray, accept: str) -> tuple[str | bytes, str]:
    """Script mode's default answer.

    Raises:
        UnsupportedFormat: neither JSON nor CSV is asked for.
    """
    kind = media_type(accept)
    values = np.asarray(predictions).tolist()
    if kind == "application/json":
        return json.dumps(values), kind
    if kind == "text/csv":
        rows = [value if isinstance(value, list) else [value] for value in values]
        return "".join(",".join(map(str, row)) + "\n" for row in rows), kind
    raise UnsupportedFormat(accept)
