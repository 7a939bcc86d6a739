"""What tests/endpoint/*.yaml may say: requests to an endpoint, what must come back, and what a failure means. Pure.

    suite = parse({"cases": [{"name": "bad input", "body": "{", "expect": {"status": "4xx"}}]})
    suite.on_failure.means("prod"), suite.cases[0].expect.checks

A version carries its cases as one canonical JSON (`canonical`), whose SHA-256 is in the version's metadata: what is
asked is what was reviewed. Whoever runs them checks them with this module too (`read`), so it imports the standard
library and pydantic alone, and stage_schema beside it. endpoint_checks.py asks and compares.
"""

from __future__ import annotations

import datetime
import difflib
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)

from .stage_schema import Section

MOST_CASES = 1_000
# DynamoDB's items, in which the platform keeps a version's cases, have at most 400 KB.
LARGEST = 256 * 1024  # bytes of canonical JSON
LONGEST_LOAD = 60  # seconds

JSON = "application/json"
Format = Literal["text/csv", "application/json", "application/x-ndjson"]
Meaning = Literal["report", "block", "go-back"]
WithoutBlock = Annotated[
    Literal["report", "go-back"], Field(description="block is for dev, from which alone versions are promoted.")
]
Direction = Literal["increasing", "decreasing"]
# What the expectation of a varied column may be called before settings.yaml says which of the two it is.
MONOTONE = "monotone"


class SuiteError(ValueError):
    """Cases that cannot be used; `faults` has one line for each fault: field, fault, remedy."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def _plain_value(value: Any) -> Any:
    """PyYAML reads 2026-11-21 as a date; requests hold text."""
    return value.isoformat() if isinstance(value, datetime.date) else value


def _number(value: Any) -> Any:
    """PyYAML reads 1e-4 as text, since YAML 1.1 wants a dot (1.0e-4)."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value) else value


def _off_is_none(value: Any) -> Any:
    return None if value is False or value == "off" else value


def _scalar(value: Any) -> Any:
    """Text, a number, true or false, null: what a table's cell is in JSON."""
    value = _plain_value(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r} is no number of JSON: write null for a missing value")
    if value is not None and not isinstance(value, (str, int, float, bool)):
        raise ValueError(f"{_shown(value)} is no value of a cell: write text, a number, true, false or null")
    return value


def _value(value: Any) -> Any:
    if value is None:
        raise ValueError("null is no value: write one")
    return _scalar(value)


FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]
# PlainValidators: a union would tell one fault for each of its types
Scalar: TypeAlias = Annotated[Any, PlainValidator(_scalar, json_schema_input_type=str | int | float | bool | None)]
Value: TypeAlias = Annotated[Any, PlainValidator(_value, json_schema_input_type=str | int | float | bool)]
ColumnName = Annotated[str, Field(min_length=1)]
Row = Annotated[
    dict[ColumnName, Scalar],
    Field(description="A row of your own: a value, or null, for every column that the model asks for."),
]
MediaType = Annotated[str, Field(pattern=r"^[\x20-\x7e]+$", max_length=1024)]
Tolerance = Annotated[
    float,
    Field(
        ge=0,
        allow_inf_nan=False,
        description="How far a number may be off: of numbers up to 1 the difference, of larger ones a share of them.",
    ),
    BeforeValidator(_number),
]
Status = Annotated[
    str,
    Field(pattern=r"^[1-5](xx|\d\d)$"),
    BeforeValidator(
        lambda value: str(value) if type(value) is int else value,
        json_schema_input_type=Annotated[str, Field(pattern=r"^[1-5](xx|\d\d)$")]
        | Annotated[int, Field(ge=100, le=599)],
    ),
]


class AsEvaluated(Section):
    """The answers are those that this very model gave when it was evaluated."""

    tolerance: Tolerance = 1e-4


class ErrorText(Section):
    """What an error's text says."""

    contains: Annotated[str, Field(min_length=1, description="What the text of the error must contain.")]


def _check_in_full(value: Any) -> Any:
    """`increasing` alone is a direction, any other value alone what the answer must equal."""
    if value in (*get_args(Direction), MONOTONE):
        return {"direction": value}
    return value if isinstance(value, dict) else {"equals": value}


class Check(Section):
    """What one field of the answer must be; all that is said must hold."""

    type: Annotated[
        Literal["number", "text", "boolean"] | None, Field(description="Of the answer in JSON; CSV has text alone.")
    ] = None
    between: Annotated[
        list[FiniteFloat | None] | None,
        Field(min_length=2, max_length=2, description="The lowest and the highest value; null: no such bound."),
    ] = None
    one_of: Annotated[
        Literal["classes"] | Annotated[list[Value], Field(min_length=1)] | None,
        Field(description="The values that there are, or classes: those that the model was trained with."),
    ] = None
    equals: Annotated[Value, Field(description="The value; a number may be off by tolerance.")] = None
    tolerance: Tolerance | None = None
    direction: Annotated[
        Literal["increasing", "decreasing", "monotone"] | None,
        Field(
            description="With vary: the answer never falls (increasing) or never grows (decreasing) with the column's "
            "values in their order; monotone: as train.monotone of settings.yaml says, with vary: monotone."
        ),
    ] = None

    @model_validator(mode="after")
    def _says_something(self) -> Check:
        if not any(getattr(self, name) is not None for name in ("type", "between", "one_of", "equals", "direction")):
            raise ValueError("nothing is expected of it: write a value, or type, between, one_of, equals or direction")
        low, high = self.between or (None, None)
        if self.between and low is None and high is None:
            raise ValueError("between: [null, null] holds always: write one bound at least, or remove it")
        if low is not None and high is not None and low > high:
            raise ValueError(f"between: {low:g} is more than {high:g}: exchange them")
        if self.tolerance is not None and (type(self.equals) not in (int, float)):
            raise ValueError("tolerance is of a number that equals names: add equals, or remove tolerance")
        return self


class Expect(Section):
    """What must come back. Besides the three fields here: fields of the answer, each with a Check.

    A field within another is written with a dot: probabilities.yes.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    __pydantic_extra__: dict[
        str,
        Annotated[
            Check,
            BeforeValidator(
                _check_in_full,
                json_schema_input_type=Check | str | int | float | bool,  # the short forms
            ),
        ],
    ]

    as_evaluated: Annotated[
        AsEvaluated | None,
        Field(description="With rows: evaluated: the answers are those of the evaluation, numbers within tolerance."),
    ] = None
    status: Annotated[
        Status | None, Field(description="The HTTP status, as in 415, or 4xx for any from 400 to 499.")
    ] = None
    error: Annotated[ErrorText | None, Field(description="The request is refused, and the error says this.")] = None

    @property
    def checks(self) -> dict[str, Check]:
        """By the answer's field."""
        return dict(self.__pydantic_extra__ or {})

    @property
    def wanted_status(self) -> str:
        """As in 415 or 4xx."""
        return self.status or ("2xx" if self.error is None else "4xx")

    @property
    def is_refusal(self) -> bool:
        return not self.wanted_status.startswith("2")

    @model_validator(mode="after")
    def _refusals_have_no_answer(self) -> Expect:
        if self.error is not None and not self.is_refusal:
            raise ValueError(f"an answer of status {self.status} is no error: correct status, or remove error")
        answers = [*self.checks, *(["as_evaluated"] if self.as_evaluated else [])]
        if self.is_refusal and answers:
            raise ValueError(f"a request that is refused has no {answers[0]}: remove it, or status and error")
        return self


class Case(Section):
    """One thing to try."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\r\n]+$", description="What must hold.")]
    rows: Annotated[
        Literal["evaluated"] | None,
        Field(description="evaluated: rows of the test part, which the model answered when it was evaluated."),
    ] = None
    row: Row | None = None
    body: Annotated[str | None, Field(max_length=100_000, description="The request's body, word by word.")] = None
    content_type: Annotated[MediaType, Field(description="Of body.")] = JSON
    accept: Annotated[MediaType, Field(description="The media type of the answer to body.")] = JSON
    formats: list[Format] = Field(
        default=["application/json"],
        min_length=1,
        max_length=3,
        description="The rows are sent in each of them, and answered in it; all must answer alike.",
    )
    vary: Annotated[
        dict[ColumnName, Annotated[list[Scalar], Field(min_length=2, max_length=100)] | Literal["evaluated"]]
        | Literal["monotone"]
        | None,
        Field(
            description="{column: [values in their order]}: every row is asked once with each of them; evaluated "
            "instead of a list: the values that the evaluated rows have. monotone: one case for each column of "
            "train.monotone in settings.yaml."
        ),
    ] = None
    expect: Expect = Field(default_factory=lambda: Expect.model_validate({}))

    @field_validator("formats")
    @classmethod
    def _formats_differ(cls, formats: list[str]) -> list[str]:
        if len(set(formats)) < len(formats):
            raise ValueError(f"{', '.join(formats)}: one is there twice: remove it")
        return formats

    @model_validator(mode="after")
    def _asks_one_thing(self) -> Case:
        given = [name for name in ("rows", "row", "body") if getattr(self, name) is not None]
        if len(given) != 1:
            there = f"{' and '.join(given)} are there" if given else "none of rows, row and body is there"
            raise ValueError(f"{there}: write one")
        rows, own = ("formats", "vary"), ("content_type", "accept")
        for name in rows if given == ["body"] else own:
            if name in self.model_fields_set:
                raise ValueError(f"{name} is for {'rows and row' if name in rows else 'body'}: remove it")
        return self

    @model_validator(mode="after")
    def _varies_one_column(self) -> Case:
        directions = {check.direction for check in self.expect.checks.values()} - {None}
        if isinstance(self.vary, dict) and len(self.vary) != 1:
            raise ValueError(f"vary names {len(self.vary)} columns: name one, and write a case for each")
        if directions and self.vary is None:
            raise ValueError(f"{directions.pop()} needs vary: {{column: [values in their order]}}")
        if self.vary == MONOTONE and directions != {MONOTONE}:
            raise ValueError("vary: monotone needs a field of the answer that is monotone (score: monotone)")
        if self.vary != MONOTONE and MONOTONE in directions:
            raise ValueError("monotone goes with vary: monotone: write increasing or decreasing, or vary: monotone")
        return self

    @model_validator(mode="after")
    def _expects_something(self) -> Case:
        if self.expect.as_evaluated is not None and (self.rows is None or self.vary is not None):
            raise ValueError("as_evaluated is for rows: evaluated as they are: remove it, or vary, row or body")
        if not self.expect.model_fields_set and not self.expect.checks and len(self.formats) < 2:
            raise ValueError("expect is empty, so that nothing could fail: say what must come back")
        return self


class Objectives(Section):
    """What must hold under the load; at least one of them."""

    p50_ms: Annotated[float | None, Field(gt=0, le=60_000, description="In so many ms half of the answers come.")] = (
        None
    )
    p99_ms: Annotated[float | None, Field(gt=0, le=60_000, description="In so many ms 99 of 100 come.")] = None
    error_share: Annotated[
        float | None, Field(ge=0, lt=1, description="The share, 0 to 1, without a right answer.")
    ] = None
    requests_per_second: Annotated[float | None, Field(gt=0, description="So many are answered rightly.")] = None

    @model_validator(mode="after")
    def _says_something(self) -> Objectives:
        if all(value is None for _, value in self):
            raise ValueError("none is set: set one of p50_ms, p99_ms, error_share, requests_per_second, or load: off")
        return self


class Load(Section):
    """Requests of one row each, at a steady rate, after the cases."""

    seconds: Annotated[int, Field(ge=1, le=LONGEST_LOAD, description="How long, 1 to 60.")] = 5
    requests_per_second: Annotated[float, Field(gt=0, le=200, description="How many are sent, at most 200.")] = 10
    rows: Annotated[
        Literal["evaluated"] | None, Field(description="evaluated: rows of the test part, one after the other.")
    ] = None
    row: Row | None = None
    as_evaluated: Annotated[
        AsEvaluated | None, Field(description="With rows: evaluated: other answers than those count as errors.")
    ] = None
    objectives: Objectives

    @model_validator(mode="after")
    def _can_be_met(self) -> Load:
        if (self.rows is None) == (self.row is None):
            raise ValueError(f"{'none' if self.rows is None else 'both'} of rows and row: write one of them")
        if self.as_evaluated is not None and self.rows is None:
            raise ValueError("as_evaluated is for rows: evaluated: remove it")
        wanted = self.objectives.requests_per_second
        if wanted is not None and wanted > self.requests_per_second:
            raise ValueError(
                f"objectives.requests_per_second {wanted:g} is more than are sent ({self.requests_per_second:g}): "
                "lower it, or raise load.requests_per_second"
            )
        return self


class OnFailure(Section):
    """What a failure means, by stage. block: nothing is promoted from dev. go-back: the version before serves again."""

    feature: WithoutBlock = "report"
    dev: Meaning = "block"
    prod: WithoutBlock = "go-back"
    champion: WithoutBlock = "go-back"
    challenger: WithoutBlock = "report"

    def means(self, stage: str) -> Meaning:
        """Of a stage that there is."""
        found: Meaning = getattr(self, stage)
        return found


class Suite(Section):
    """All cases of a version."""

    on_failure: OnFailure = OnFailure()
    cases: Annotated[list[Case], Field(min_length=1, max_length=MOST_CASES)]
    load: Annotated[
        Load | None,
        BeforeValidator(_off_is_none, json_schema_input_type=Load | Literal["off", False] | None),
        Field(description="A load and what must hold under it; off: none."),
    ] = None

    @model_validator(mode="after")
    def _names_are_unique(self) -> Suite:
        _check_names(self.cases)
        return self

    @property
    def needs_evaluated_rows(self) -> bool:
        return any(case.rows or _varies_evaluated(case) for case in self.cases) or bool(self.load and self.load.rows)


def parse(content: Any, monotone: Mapping[str, Direction] | None = None) -> Suite:
    """A suite's content (of YAML or JSON) with all defaults.

    Args:
        monotone: train.monotone of settings.yaml, by which cases that say `vary: monotone` become one case for each
            column; None: there can be none of them, as in what `canonical` made.

    Raises SuiteError with every fault that can be told.
    """
    if not isinstance(content, dict):
        raise SuiteError([f"it must hold fields (name: value), but is {type(content).__name__}: restore it"])
    try:
        suite = Suite.model_validate(content)
    except ValidationError as error:
        raise SuiteError([_fault_line(content, fault) for fault in error.errors()]) from None
    cases = [one for case in suite.cases for one in _for_each_column(case, monotone)]
    if len(cases) > MOST_CASES:
        raise SuiteError([f"cases: they become {len(cases):,} with train.monotone, and at most {MOST_CASES:,} are run"])
    try:
        _check_names(cases)
    except ValueError as error:
        raise SuiteError([f"{error} (train.monotone makes one for each column)"]) from None
    return suite.model_copy(update={"cases": cases})


def canonical(suite: Suite) -> bytes:
    """The same bytes for the same suite; `read` reads them back. Raises SuiteError when they are too many."""
    content = {
        "on_failure": suite.on_failure.model_dump(mode="json"),
        "cases": [case.model_dump(mode="json", exclude_unset=True) for case in suite.cases],
        "load": suite.load.model_dump(mode="json", exclude_unset=True) if suite.load else None,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    if len(text) > LARGEST:
        raise SuiteError([f"cases: they are {len(text):,} bytes of JSON, and at most {LARGEST:,} travel: shorten them"])
    return text


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read(content: bytes, digest: str | None = None) -> Suite:
    """What `canonical` made. digest: the SHA-256 that it must have. Raises SuiteError."""
    if digest is not None and sha256(content) != digest:
        raise SuiteError([f"they are others than the version was registered with (SHA-256 {digest}): restore them"])
    if len(content) > LARGEST:
        raise SuiteError([f"they have {len(content):,} bytes, and at most {LARGEST:,} are read"])
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SuiteError([f"they are not readable JSON: {error}"]) from None
    return parse(found)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of tests/endpoint/*.yaml, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_plain(Suite.model_json_schema())}


def _check_names(cases: list[Case]) -> None:
    twice = [name for name, count in Counter(case.name for case in cases).items() if count > 1]
    if twice:
        raise ValueError(f"cases: {twice[0]!r} is the name of two, and a result could be either's: rename one")


def _varies_evaluated(case: Case) -> bool:
    return isinstance(case.vary, dict) and "evaluated" in case.vary.values()


def _for_each_column(case: Case, monotone: Mapping[str, Direction] | None) -> Iterator[Case]:
    """The case; of one that says `vary: monotone`, one for each column."""
    if case.vary != MONOTONE:
        yield case
        return
    if monotone is None:
        raise SuiteError([f"cases: {case.name!r}: vary: monotone is not said by columns: make the cases again"])
    for column, direction in monotone.items():
        content = case.model_dump(mode="json", exclude_unset=True)
        for name, check in case.expect.checks.items():
            if check.direction is not None:
                content["expect"][name]["direction"] = direction
        ending = f": {column}"
        yield Case.model_validate(
            {**content, "name": case.name[: 100 - len(ending)] + ending[:100], "vary": {column: "evaluated"}}
        )


# --- faults ---------------------------------------------------------------------------------------------------------

# What pydantic puts into a fault's place for the alternatives of a field.
_ALTERNATIVES = re.compile(r"^(str|int|float|bool|constrained-.*|list\[.*|dict\[.*|literal\[.*|Check|function-.*)$")


def _fault_line(content: dict[str, Any], fault: Any) -> str:
    """One of pydantic's errors as: place, fault, remedy."""
    place = [part for part in fault["loc"] if isinstance(part, int) or not _ALTERNATIVES.match(part)]
    section, description = _at(place if fault["type"] != "extra_forbidden" else place[:-1])
    text = _fault_text(section, description, fault)
    name = ".".join(map(str, place))
    return f"{name}{_named(content, place)}: {text}" if name else text


def _fault_text(section: type[BaseModel], description: str, fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        known = list(section.model_fields)
        near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1, cutoff=0.6)
        return (
            f"there is no such field{f', did you mean {near[0]}?' if near else ''}: correct or remove it "
            f"(known here: {', '.join(known)})"
        )
    if fault["type"] == "missing":
        return f"the field is missing: add it. {description}".rstrip()
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    if fault["type"] == "model_type":
        names = ", ".join(section.model_fields)
        return f"{_shown(fault['input'])} is not allowed: write fields (name: value), of {names}"
    message = re.sub(r"^(Input|String|Value|List|Dictionary|Keys) should", "must", fault["msg"])
    return f"{_shown(fault['input'])} is not allowed: it {message}{f': {description}' if description else ''}"


def _shown(value: Any) -> str:
    """The value as a message shows it, however long it is."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _named(content: dict[str, Any], place: list[Any]) -> str:
    """The case's name, which is easier to find than its number."""
    if place[:1] != ["cases"] or len(place) < 2:
        return ""
    try:
        return f" ({content['cases'][place[1]]['name']})"
    except (KeyError, IndexError, TypeError):
        return ""


def _at(place: list[Any]) -> tuple[type[BaseModel], str]:
    """The section and the description of the field at `place`; what names no field stays with its section."""
    section: type[BaseModel] = Suite
    description = ""
    for part in place:
        field = section.model_fields.get(str(part))
        if field is None and section is Expect:
            section, description = Check, ""  # a field of the answer
        elif field is not None:
            description = field.description or ""
            section = _section(field.annotation) or section
    return section, description


def _section(annotation: Any) -> type[Any] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _section(inner))), None)


def _plain(schema: Any) -> Any:
    """Without the titles, which repeat the names."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _plain(value) for key, value in schema.items() if not (key == "title" and isinstance(value, str))}
