"""A transform job's data: files as records, records as requests, answers as a file. Pure, but for reading a stream.

Developer guide, "Batch transform for inference" and "Associate Prediction Results with Input Records".
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from local_aws.jobs.json_path import JsonPath, NotFound

CSV, JSON, JSON_LINES = "text/csv", "application/json", "application/jsonlines"
FORMATS = (CSV, JSON, JSON_LINES)


class BadRecord(Exception):
    """A record, or the container's answer to it, is not what it must be; the text says what."""


@dataclass(frozen=True)
class Processing:
    """DataProcessing: what of a record the model is shown, and what of record and answer is written.

    Args:
        format: one of FORMATS.
        input_filter, output_filter: "$" for everything.
        join: whether the answer is joined to its record (JoinSource Input).
        lines: whether a request holds records by line (SplitType Line), else one document.
    """

    format: str
    input_filter: JsonPath
    output_filter: JsonPath
    join: bool
    lines: bool

    def request(self, records: list[bytes]) -> bytes:
        """The body that the model is sent for some records.

        Raises:
            BadRecord: one of them is not in the format, or has not what the filter names.
        """
        if self.input_filter.everything:
            return b"".join(records)
        return self._written([self._select(self.input_filter, self._read(record)) for record in records])

    def answer(self, records: list[bytes], body: bytes) -> bytes:
        """What is written for the model's answer to some records.

        Raises:
            BadRecord: the answer is not in the format or not one record for each, or has not what the filter names.
        """
        if self.output_filter.everything and not self.join:
            return body
        answers = _lines(body) if self.lines else [body]
        if len(answers) != len(records):
            raise BadRecord(f"the model answered {len(records)} records with {len(answers)}; each needs one answer")
        found = []
        for record, answer in zip(records, answers, strict=True):
            value = self._read(answer)
            found.append(self._select(self.output_filter, self._joined(self._read(record), value)))
        return self._written(found)

    def _joined(self, record: Any, answer: Any) -> Any:
        if not self.join:
            return answer
        if self.format == CSV:
            return [*record, *answer]
        if isinstance(record, dict):
            return record | {"SageMakerOutput": answer}
        return {"SageMakerInput": record, "SageMakerOutput": answer}

    def _select(self, path: JsonPath, value: Any) -> Any:
        try:
            return path.select(value)
        except NotFound as fault:
            raise BadRecord(f"{path.text}: {fault}") from fault

    def _read(self, record: bytes) -> Any:
        try:
            text = record.decode("utf-8")
            if self.format != CSV:
                return json.loads(text)
            (row,) = csv.reader(io.StringIO(text.rstrip("\r\n")), strict=True)
        except (ValueError, csv.Error, RecursionError) as error:
            raise BadRecord(f"a record is no {self.format}: {error}") from error
        return row

    def _written(self, values: list[Any]) -> bytes:
        if self.format == CSV:
            stream = io.StringIO()
            csv.writer(stream, lineterminator="\n").writerows(
                value if isinstance(value, list) else [value] for value in values
            )
            return stream.getvalue().encode()
        ending = "\n" if self.lines else ""
        return "".join(json.dumps(value, ensure_ascii=False) + ending for value in values).encode()


def split_lines(stream: Iterable[bytes]) -> Iterator[bytes]:
    """SplitType Line: a file's lines, with their line feeds; empty ones are no records."""
    return (line for line in stream if line.strip())


def batches(records: Iterable[bytes], largest: int | None, single: bool) -> Iterator[list[bytes]]:
    """Records as mini-batches: as many as fit into `largest` bytes (None: all), or one each.

    Raises:
        BadRecord: one record alone is larger.
    """
    batch: list[bytes] = []
    size = 0
    for record in records:
        if largest is not None and len(record) > largest:
            raise BadRecord(f"Too much data for max payload size: a record has {len(record)} bytes of {largest}")
        if batch and (single or (largest is not None and size + len(record) > largest)):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += len(record)
    if batch:
        yield batch


def assembled(answers: Iterable[bytes], lines: bool) -> Iterator[bytes]:
    """AssembleWith: None puts the answers one after the other, Line ends each with a line feed."""
    for answer in answers:
        yield answer if not lines or answer.endswith(b"\n") else answer + b"\n"


class Manifest(NamedTuple):
    """What a manifest names: objects by their paths below a prefix, s3://bucket/some/prefix/."""

    prefix: str
    paths: list[str]


def manifest_objects(text: bytes) -> Manifest:
    """Read a manifest: [{"prefix": "s3://bucket/some/prefix/"}, "relative/path", ...].

    Raises:
        ValueError: it is none.
    """
    entries = json.loads(text)
    first = entries[0] if isinstance(entries, list) and entries else None
    if not isinstance(first, dict) or set(first) != {"prefix"} or not isinstance(first["prefix"], str):
        raise ValueError('a manifest is a JSON array of {"prefix": "s3://bucket/prefix/"} and paths below it')
    for path in entries[1:]:
        if not isinstance(path, str) or not path or ".." in path.split("/"):
            raise ValueError(f"{path!r} is no path below the manifest's prefix")
    return Manifest(first["prefix"], entries[1:])


def _lines(body: bytes) -> list[bytes]:
    return [line for line in body.splitlines(keepends=True) if line.strip()]
