"""application/x-recordio-protobuf: records of features, as SageMaker's built-in algorithms exchange them.

A record is framed by the number 0xCED7230A and its length (both little-endian, 4 bytes), and padded to 4 bytes. Inside
is a Protocol Buffers message (AWS's record.proto): field 1 maps names to values, of which "values" holds the features
as a tensor of 32-bit or 64-bit floats or of 32-bit integers, dense, or sparse with keys and a shape.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

MAGIC = 0xCED7230A
TENSORS = {2: np.dtype("<f4"), 3: np.dtype("<f8"), 7: np.dtype("<i4")}  # by their field in Value
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


def read_features(data: bytes) -> Any:
    """Shape (records, features): an array, or a sparse matrix when the records are sparse.

    Raises:
        ValueError: the body is damaged, or has no features.
    """
    rows = [_row(record) for record in _records(data)]
    if not rows:
        raise ValueError("there is no record")
    if any(keys is not None for keys, _, _ in rows):
        from scipy.sparse import csr_matrix

        width = max(max(shape, *(int(key) + 1 for key in keys), 0) for keys, _, shape in rows if keys is not None)
        places = [(row, int(key)) for row, (keys, _, _) in enumerate(rows) if keys is not None for key in keys]
        values = np.concatenate([values for keys, values, _ in rows if keys is not None])
        return csr_matrix((values, tuple(zip(*places, strict=True))), shape=(len(rows), width))
    return np.vstack([values for _, values, _ in rows])


def _records(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise ValueError("the body ends within a record's head")
        magic, length = struct.unpack_from("<II", data, at)
        if magic != MAGIC or at + 8 + length > len(data):
            raise ValueError(f"there is no whole record at byte {at}")
        yield data[at + 8 : at + 8 + length]
        at += 8 + (length + 3) // 4 * 4


def _row(record: bytes) -> tuple[Any, np.ndarray, int]:
    """The features of a record: keys (None when it is dense), values, width."""
    for number, entry in _fields(record):
        if number != 1 or not isinstance(entry, bytes):
            continue
        parts = dict(_fields(entry))  # a map's entry: 1 the key, 2 the value
        if parts.get(1) != b"values":
            continue
        for kind, tensor in _fields(parts.get(2, b"")):
            if kind in TENSORS:
                return _tensor(tensor, TENSORS[kind])
    raise ValueError('a record has no features "values" of float32, float64 or int32')


def _tensor(tensor: bytes, kind: np.dtype) -> tuple[Any, np.ndarray, int]:
    values: list[np.ndarray] = []
    keys: list[int] = []
    shape = 0
    for number, content in _fields(tensor):
        if number == 1 and isinstance(content, bytes) and kind.kind == "f":
            values.append(np.frombuffer(content, kind))
        elif number == 1:
            numbers = list(_varints(content)) if isinstance(content, bytes) else [content]
            values.append(np.array(numbers, np.uint64).astype(np.int64).astype(np.float64))
        elif number in (2, 3):
            numbers = list(_varints(content)) if isinstance(content, bytes) else [content]
            if number == 2:
                keys += numbers
            else:
                shape = numbers[-1] if numbers else 0
    found = np.concatenate(values).astype(np.float64) if values else np.zeros(0)
    return (keys if keys else None), found, shape


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message: number, and bytes (length-delimited, 4 or 8 bytes) or int (varint)."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == LENGTH:
            length, at = _varint(message, at)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise ValueError(f"a record has a field of the unknown kind {wire}")
        if at + length > len(message):
            raise ValueError("a record ends within a field")
        yield number, message[at : at + length]
        at += length


def _varints(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a record ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
