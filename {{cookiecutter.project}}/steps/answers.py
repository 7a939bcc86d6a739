"""From predictions to an answer's body. inference.py says what an answer may look like."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from media_types import CSV, JSON, JSON_LINES, PARQUET, SUPPORTED, RequestError, parse_media_type
from transform import Transform, as_text

FORMATS = (JSON, CSV, *PARQUET, *JSON_LINES)  # a wildcard means the first that matches
OPTIONS = {
    "output": ("labels", "probabilities", "values"),
    "contributions": ("true", "false"),
    "header": ("present", "absent"),
}
# What a group of JSON is called in the names of columns.
PREFIXES = {"probabilities": "probability", "contributions": "contribution"}


@dataclass(frozen=True)
class Wanted:
    """What the caller asked for. kind: one of FORMATS. output: one of OPTIONS, None for all that there is."""

    kind: str
    output: str | None = None
    contributions: bool = False
    header: bool = False


@lru_cache(maxsize=256)
def parse_accept(accept: str | None, classification: bool) -> Wanted:
    """The best of the answers that the caller takes (RFC 9110, 12.5.1: quality values; the first of equals).

    Raises RequestError (406) when there is none.
    """
    ranges = []
    for part in (accept or "*/*").split(","):
        kind, parameters = parse_media_type(part)
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            raise RequestError(f"accept {accept!r}: a quality (q) must be a number", 406) from None
        ranges.append((quality, kind, parameters))
    fault = f"ask for {SUPPORTED}"
    for quality, kind, parameters in sorted(ranges, key=lambda found: -found[0]):
        matching = [name for name in FORMATS if kind in (name, "*/*", f"{name.partition('/')[0]}/*")]
        if not matching or not quality > 0:
            continue
        refused = _refused(parameters, classification)
        if refused is None:
            contributions, header = parameters.get("contributions") == "true", parameters.get("header") == "present"
            return Wanted(matching[0], parameters.get("output"), contributions, header)
        fault = refused
    raise RequestError(f"accept {accept!r} is not supported: {fault}", 406)


def _refused(parameters: dict[str, str], classification: bool) -> str | None:
    """What is wrong with the options; None when nothing is. A misspelt one would silently be left out otherwise."""
    for name, value in parameters.items():
        if name == "charset" and value in ("utf-8", "utf8"):
            continue
        if name not in OPTIONS:
            return f"there is no option {name!r}, only {', '.join(OPTIONS)}"
        if value not in OPTIONS[name]:
            return f"{name} must be {' or '.join(OPTIONS[name])}, not {value!r}"
    output = parameters.get("output")
    if output == "values" and classification:
        return "a classification has labels and probabilities, no values"
    if output in ("labels", "probabilities") and not classification:
        return f"a regression has values, no {output}"
    return None


class AnswerWriter:
    """Writes the answers of one model: made once, when the model is loaded."""

    def __init__(self, transform: Transform) -> None:
        self._several = transform.problem_type == "multiclass_classification"
        self._columns = transform.column_names
        self._labels = [as_text(label) for label in transform.classes]
        self._labels_as = {JSON: list(map(json.dumps, transform.classes)), CSV: list(map(_csv_line, zip(self._labels)))}
        self._templates: dict[Wanted, str] = {}

    def write(self, values: np.ndarray, contributions: np.ndarray | None, wanted: Wanted) -> str | bytes:
        """The answer's body.

        values: shape (rows,): the second class's probability, or the score; (rows, classes) for several classes.
        contributions: when wanted, shape (rows, 1 or classes, columns + 1), in margin units, the bias last.
        """
        columns = self._numbers(values, contributions, wanted)
        codes = None
        if self._labels and wanted.output != "probabilities":
            codes = values.argmax(axis=1) if self._several else (values >= 0.5).astype(np.intp)
        if wanted.kind in PARQUET:
            return self._parquet(codes, columns, wanted)
        texts = [map(repr, column.tolist()) for column in columns]
        if codes is not None:
            labels = self._labels_as[CSV if wanted.kind == CSV else JSON]
            texts.insert(0, map(labels.__getitem__, codes.tolist()))
        rows = zip(*texts, strict=True)
        if wanted.kind == CSV:
            header = [_csv_line(self._names(wanted))] if wanted.header else []
            return "\n".join([*header, *map(",".join, rows)]) + "\n"
        objects = map(self._template(wanted).__mod__, rows)
        if wanted.kind == JSON:
            return f'{{"predictions": [{", ".join(objects)}]}}'
        return "\n".join(objects) + "\n"

    def _numbers(self, values: np.ndarray, contributions: np.ndarray | None, wanted: Wanted) -> list[np.ndarray]:
        """The columns but for the label, each of shape (rows,)."""
        columns = []
        if not self._labels:
            columns.append(values)
        elif wanted.output is None:
            columns.append(values.max(axis=1) if self._several else values)
        if self._shows_every_class(wanted):
            columns += list(values.T) if self._several else [1 - values, values]
        if contributions is not None:
            columns += [added for output in contributions[..., :-1].transpose(1, 2, 0) for added in output]
            columns += list(contributions[..., -1].T)
        return columns

    def _shows_every_class(self, wanted: Wanted) -> bool:
        return wanted.output == "probabilities" or (wanted.output is None and self._several)

    def _paths(self, wanted: Wanted) -> list[tuple[str, ...]]:
        """Where each column's value lies in the JSON object of a row, in the columns' order."""
        paths: list[tuple[str, ...]] = []
        if not self._labels:
            paths.append(("score",))
        elif wanted.output != "probabilities":
            paths.append(("predicted_label",))
        if self._labels and wanted.output is None:
            paths.append(("probability",))
        if self._shows_every_class(wanted):
            paths += [("probabilities", label) for label in self._labels]
        if wanted.contributions:
            outputs: list[tuple[str, ...]] = [(label,) for label in self._labels] if self._several else [()]
            paths += [("contributions", *output, name) for output in outputs for name in self._columns]
            paths += [("bias", *output) for output in outputs]
        return paths

    def _names(self, wanted: Wanted) -> list[str]:
        return [".".join((PREFIXES.get(first, first), *rest)) for first, *rest in self._paths(wanted)]

    def _template(self, wanted: Wanted) -> str:
        """A row's JSON object with %s for each value."""
        if wanted not in self._templates:
            whole: dict[str, Any] = {}
            for path in self._paths(wanted):
                *groups, last = (part.replace("%", "%%") for part in path)
                inner = whole
                for group in groups:
                    inner = inner.setdefault(group, {})
                inner[last] = "%s"
            # no name holds a single %
            self._templates[wanted] = json.dumps(whole).replace('"%s"', "%s")
        return self._templates[wanted]

    def _parquet(self, codes: np.ndarray | None, columns: list[np.ndarray], wanted: Wanted) -> bytes:
        arrays = list(map(pa.array, columns))
        if codes is not None:
            arrays.insert(0, pa.array(self._labels, pa.string()).take(pa.array(codes)))
        stream = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_arrays(arrays, self._names(wanted)), stream)
        return stream.getvalue().to_pybytes()


def _csv_line(values: Any) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\r\n").writerow(values)  # what is in its line end, it quotes
    return stream.getvalue().removesuffix("\r\n")
