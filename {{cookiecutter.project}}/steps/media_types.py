"""Media types of requests and answers, and the error for a request that cannot be answered."""

from __future__ import annotations

from http import HTTPStatus

try:  # SageMaker's model server answers with the status of its own error class, and with 500 for any other
    from sagemaker_inference.errors import BaseInferenceToolkitError as _ServerError
except ImportError:
    _ServerError = Exception

CSV, JSON = "text/csv", "application/json"
JSON_LINES = ("application/x-ndjson", "application/ndjson", "application/jsonlines", "application/x-jsonlines")
PARQUET = ("application/x-parquet", "application/vnd.apache.parquet")
SUPPORTED = f"{CSV}, {JSON}, {JSON_LINES[0]} or {PARQUET[0]}"


class RequestError(ValueError, _ServerError):
    """A request that cannot be answered: the text is for the caller.

    status_code: of HTTP: 400 the body is wrong, 406 no such answer, 413 too many rows, 415 no such content type.
    column: the column's name; row: the row's number, from 0; each None when it is not one that is at fault.
    """

    def __init__(self, message: str, status_code: int = 400, column: str | None = None, row: int | None = None) -> None:
        super().__init__(message)
        self.message, self.status_code, self.column, self.row = message, status_code, column, row
        self.phrase = HTTPStatus(status_code).phrase


def parse_media_type(text: str) -> tuple[str, dict[str, str]]:
    """`text/csv; Header=present` as ("text/csv", {"header": "present"}): both in lower case (RFC 9110, 8.3.1)."""
    kind, *parameters = text.split(";")
    pairs = [parameter.partition("=") for parameter in parameters if parameter.strip()]
    return kind.strip().lower(), {name.strip().lower(): value.strip(' \t"').lower() for name, _, value in pairs}
