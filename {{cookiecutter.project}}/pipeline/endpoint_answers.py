"""What an endpoint is asked and what it answers, in CSV and in JSON, and whether two answers say the same. Pure.

The standard library alone, so that a Lambda function starts quickly.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

CSV, JSON, JSON_LINES = "text/csv", "application/json", "application/x-ndjson"
ROWS_FILE = "endpoint-rows.json"
# What groups of an answer in JSON are called in the names of CSV columns (steps/answers.py).
GROUPS = {"probability": "probabilities", "contribution": "contributions"}
# Of which at least one is in every answer (steps/inference.py).
NAMES = {"score", "predicted_label", "probability"}

# A value of so many characters may tell whose row it is.
TELLING = 4

Row = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What InvokeEndpoint is asked."""

    body: bytes
    content_type: str
    accept: str


@dataclass(frozen=True)
class Answer:
    """What came back.

    Args:
        status: of HTTP, as the model's container gave it; 0 when there was no answer.
        seconds: how long it took.
        error: why there is no answer, or what SageMaker itself said.
    """

    status: int
    body: bytes
    content_type: str
    seconds: float
    error: str = ""


class RowsError(ValueError):
    """endpoint-rows.json that cannot be used."""


@dataclass(frozen=True)
class EvaluatedRows:
    """endpoint-rows.json, which the step Evaluate writes (steps/probes.py).

    Args:
        columns: that the model asks for, in its order.
        kinds: of the columns: number, boolean, category, date.
        classes: that the model knows, as JSON has them; none of a regression.
        rows: of the test part, by column.
        answers: what this model answered to each of them, in JSON; none where it gave no such answer.
        fault: why there are no answers.
    """

    columns: tuple[str, ...]
    kinds: dict[str, str]
    classes: tuple[Any, ...]
    rows: tuple[Row, ...]
    answers: tuple[Row, ...]
    fault: str = ""

    @classmethod
    def read(cls, content: bytes) -> EvaluatedRows:
        """Raises RowsError."""
        try:
            found = json.loads(content)
            rows, answers = tuple(map(dict, found["rows"])), tuple(map(dict, found["answers"]))
            columns, kinds = tuple(map(str, found["columns"])), dict(found["kinds"])
            classes, fault = tuple(found["classes"]), str(found.get("fault") or "")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise RowsError(f"{ROWS_FILE} cannot be read: {error!r}") from None
        if not rows or (answers and len(answers) != len(rows)):
            raise RowsError(f"{ROWS_FILE} has {len(rows)} rows and {len(answers)} answers")
        if any(isinstance(value, (list, dict)) for row in rows for value in row.values()):
            raise RowsError(f"{ROWS_FILE} has lists or objects in its rows, and a row has one value for each column")
        return cls(columns, kinds, classes, rows, answers, fault)


class Unreadable(Exception):
    """An answer that is not what was asked for; the text says why."""


# --- requests -------------------------------------------------------------------------------------------------------


def request_of(rows: Sequence[Row], form: str) -> Request:
    """The rows as a request that is answered in the form in which it is sent. form: of the formats of a case."""
    if form == CSV:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        return Request(csv_of(rows, columns, header=True), f"{CSV}; header=present", f"{CSV}; header=present")
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows]
    if form == JSON_LINES:
        return Request(("\n".join(lines) + "\n").encode(), JSON_LINES, JSON_LINES)
    return Request(f'{{"instances": [{", ".join(lines)}]}}'.encode(), JSON, JSON)


def csv_of(rows: Iterable[Row], columns: Sequence[str], header: bool) -> bytes:
    """RFC 4180; what is missing is an empty field."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    if header:
        writer.writerow(columns)
    for row in rows:
        writer.writerow([_csv_value(row.get(name)) for name in columns])
    return stream.getvalue().encode()


def _csv_value(value: Any) -> str:
    return "" if value is None else as_text(value) if isinstance(value, bool) else str(value)


# --- answers --------------------------------------------------------------------------------------------------------


def read_answer(answer: Answer, accept: str, evaluated: EvaluatedRows | None) -> list[Row]:
    """The answers by row, each with the fields in it. Raises Unreadable."""
    wanted, kind = (text.partition(";")[0].strip().lower() for text in (accept, answer.content_type))
    if kind and kind != wanted:
        raise Unreadable(f"{wanted} was asked for, and {kind} came")
    try:
        text = answer.body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(f"the answer is no UTF-8 ({error})") from None
    if wanted == CSV:
        return _read_csv(text, evaluated)
    try:
        found = [json.loads(line) for line in text.splitlines()] if wanted == JSON_LINES else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the answer is no JSON that can be read ({error})") from None
    found = found.get("predictions") if isinstance(found, dict) else found
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Unreadable('the answer is not {"predictions": [{...}, ...]}')
    return [flat(one) for one in found]


def _read_csv(text: str, evaluated: EvaluatedRows | None) -> list[Row]:
    try:
        lines = [line for line in csv.reader(io.StringIO(text), strict=True) if line]
    except csv.Error as error:
        raise Unreadable(f"the answer is no CSV that can be read ({error})") from None
    known = list(flat(evaluated.answers[0])) if evaluated is not None and evaluated.answers else []
    names = [_json_name(name) for name in lines[0]] if lines else []
    if _is_header(names, known):
        lines = lines[1:]
    elif lines and len(known) == len(lines[0]):
        names = known
    else:
        raise Unreadable("the answer has no header line, and nobody knows what its columns are")
    if any(len(line) != len(names) for line in lines):
        raise Unreadable(f"not every line of the answer has the {len(names)} fields of the first")
    return [dict(zip(names, line, strict=True)) for line in lines]


def _is_header(names: list[str], known: list[str]) -> bool:
    """Whether a line holds names: of every answer at least one field is a number."""
    return not {*known, *NAMES}.isdisjoint(names) and not any(as_number(name) is not None for name in names)


def _json_name(name: str) -> str:
    """probability.yes of CSV is probabilities.yes in JSON."""
    first, dot, rest = name.partition(".")
    return f"{GROUPS.get(first, first)}.{rest}" if dot else name


def flat(answer: Row) -> Row:
    """{"probabilities": {"yes": 1}} as {"probabilities.yes": 1}."""
    found: Row = {}
    for name, value in answer.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": one for inner, one in flat(value).items()}
        else:
            found[name] = value
    return found


def without_values(text: str, rows: Iterable[Row]) -> str:
    """The text without the rows' values: a container's error may repeat what it was asked.

    Short texts and numbers stay, which are in every message and tell of nobody.
    """
    values = {str(value) for row in rows for value in row.values() if value is not None}
    known = {form for value in values if len(value) >= TELLING for form in (value, as_json(value)[1:-1])}
    for value in sorted(known, key=len, reverse=True):
        if value in text:
            text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "(a value)", text)
    return text


# --- values ---------------------------------------------------------------------------------------------------------


def difference(wanted: Row, found: Row, tolerance: float) -> str:
    """The first field of `wanted` that `found` has otherwise, in words; empty where there is none."""
    for name, value in wanted.items():
        if name not in found:
            return f"{name} is missing"
        if not alike(value, found[name], tolerance):
            return f"{name} was {as_json(value)}, and is {as_json(found[name])}"
    return ""


def alike(wanted: Any, found: Any, tolerance: float) -> bool:
    """Whether values are the same, whatever form they came in; numbers within the tolerance."""
    one, other = as_number(wanted), as_number(found)
    if one is None or other is None:
        return as_text(wanted) == as_text(found)
    return abs(one - other) <= tolerance * max(1.0, abs(one))


def is_type(value: Any, kind: str, text_alone: bool) -> bool:
    if kind == "number":
        return as_number(value) is not None and (text_alone or not isinstance(value, str))
    if kind == "boolean":
        return isinstance(value, bool) or (text_alone and value in ("true", "false"))
    return isinstance(value, str)


def as_number(value: Any) -> float | None:
    """A finite number, also one that CSV wrote; None of anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def as_text(value: Any) -> str:
    """As steps/transform.py writes labels: true and True, 5 and 5.0 are the same one."""
    if isinstance(value, bool) or value in ("True", "False", "TRUE", "FALSE"):
        return str(value).lower()
    text = str(value).strip()
    return re.sub(r"^([+-]?\d+)\.0*$", r"\1", text)


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
