"""Asks an endpoint what a suite's cases say (endpoint_suite.py), and compares what comes. Pure, but for `ask`.

    results = run(suite, EvaluatedRows.read(content), endpoint(boto3.client("sagemaker-runtime"), "churn-dev"))
    results.passed, [case.fault for case in results.failed]

Rows of the test part, and their columns' values, are told by their number in endpoint-rows.json, not by what they are:
faults go to chat rooms and logs, and rows may be about people. Values of the cases themselves are in the repository
already.

The standard library alone, so that a Lambda function starts quickly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from .endpoint_answers import (
    CSV,
    JSON,
    ROWS_FILE,
    Answer,
    EvaluatedRows,
    Request,
    Row,
    RowsError,
    Unreadable,
    alike,
    as_json,
    as_number,
    as_text,
    csv_of,
    difference,
    flat,
    is_type,
    read_answer,
    request_of,
    without_values,
)

if TYPE_CHECKING:
    from .endpoint_suite import Case, Check, Expect, Load, Suite

# A case's fault has at most so many, each of them at most so long: they go into messages.
SHOWN_FAULTS, SHOWN_CHARACTERS = 3, 1_000
# Formats write the same number with other digits.
SAME = 1e-5
# Rounding may turn equal answers of a model that never falls into ones that do, by the last digit of 32 bits.
ROUNDING = 1e-6
MOST_LOAD_THREADS = 64
# Answers to the last requests of a load come after its end, and count as answered in it.
GRACE = 1.0  # seconds
# So long a request may take that SageMaker breaks off (InvokeEndpoint: 60 seconds).
LONGEST_ANSWER = 60  # seconds
# What the platform's function has for a suite: its own time, less that of a last answer and of writing down what came.
PLATFORM_SECONDS = 220
NO_TIME = "not asked: there was no time left, since earlier answers took long"

Ask = Callable[[Request], Answer]


@dataclass(frozen=True)
class CaseResult:
    """What one case found.

    Args:
        fault: "" when it passed: what was asked, what was expected, what came.
        skipped: why it was not asked, where it says nothing here; it counts as passed.
        out_of_time: it did not pass only since not all of it could be asked in time.
    """

    name: str
    passed: bool
    fault: str
    seconds: float
    skipped: str = ""
    out_of_time: bool = False


@dataclass(frozen=True)
class LoadResult:
    """What the load found; latencies in milliseconds from when a request was due, waiting for a free sender included.

    Args:
        requests_per_second: that were answered rightly.
        fault: "" when every objective was met.
        out_of_time: nothing was sent, since there was no time left.
    """

    passed: bool
    fault: str
    requests: int
    seconds: float
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    error_share: float
    out_of_time: bool = False


@dataclass(frozen=True)
class Results:
    """Of all cases, in the suite's order."""

    cases: tuple[CaseResult, ...]
    load: LoadResult | None
    seconds: float

    @property
    def failed(self) -> tuple[CaseResult, ...]:
        """The cases that failed; the load, when it failed, is the last of them."""
        found = tuple(case for case in self.cases if not case.passed)
        if self.load is None or self.load.passed:
            return found
        load = CaseResult("load", False, self.load.fault, self.load.seconds, out_of_time=self.load.out_of_time)
        return (*found, load)

    @property
    def passed(self) -> bool:
        return not self.failed

    @property
    def out_of_time(self) -> bool:
        """Whether nothing is wrong but that not everything could be asked in time."""
        return not self.passed and all(case.out_of_time for case in self.failed)

    def as_json(self) -> dict[str, Any]:
        """For json.dumps: every field of every case."""
        return {"passed": self.passed, **asdict(self)}


def run(
    suite: Suite,
    evaluated: EvaluatedRows | None,
    ask: Ask,
    workers: int = 8,
    deadline: Callable[[], float] | None = None,
) -> Results:
    """Asks all cases, `workers` at a time, then the load.

    Args:
        evaluated: the rows of the version that serves; None: cases that need them fail.
        ask: sends a request. What it raises is raised: it tells nothing about the version.
        deadline: how many seconds are left; what is not asked when an answer may take longer than that fails.
    """
    started = time.monotonic()
    left = deadline or (lambda: math.inf)

    def one(case: Case) -> CaseResult:
        return _run_case(case, evaluated, ask, left)

    with ThreadPoolExecutor(max(1, workers)) as threads:
        cases = tuple(threads.map(one, suite.cases))
    load = _run_load(suite.load, evaluated, ask, workers, left) if suite.load else None
    return Results(cases, load, time.monotonic() - started)


def endpoint(runtime: Any, name: str) -> Ask:
    """What asks an endpoint. runtime: boto3's client of sagemaker-runtime, which should not retry.

    The answers of `ask` are what the endpoint said, errors of the container included. It raises botocore's ClientError
    and BotoCoreError for what tells nothing of the version: no permission, no such endpoint, no credentials.
    """
    from botocore.exceptions import ClientError, HTTPClientError

    def ask(request: Request) -> Answer:
        started = time.monotonic()
        try:
            found = runtime.invoke_endpoint(
                EndpointName=name, Body=request.body, ContentType=request.content_type, Accept=request.accept
            )
            body = found["Body"].read()
        except ClientError as error:
            answer = _refused(error.response, time.monotonic() - started)
            if answer is None:
                raise
            return answer
        except HTTPClientError as error:  # no answer in time, or one that breaks off
            return Answer(0, b"", "", time.monotonic() - started, f"no answer: {error}")
        return Answer(200, body, found.get("ContentType", ""), time.monotonic() - started)

    return ask


def _refused(response: Any, seconds: float) -> Answer | None:
    """What InvokeEndpoint's error says of the endpoint; None when it says nothing of it."""
    error, status = response["Error"], response["ResponseMetadata"]["HTTPStatusCode"]
    if error["Code"] == "ModelError":
        original = int(response.get("OriginalStatusCode") or 0)
        said = str(response.get("OriginalMessage") or "")
        return Answer(original, said.encode(), "", seconds, str(error.get("Message", "")))
    if status >= 500 or status == 429:
        return Answer(status, b"", "", seconds, f"{error['Code']}: {error.get('Message', '')}")
    return None


def batch_body(evaluated: EvaluatedRows) -> bytes:
    """The evaluated rows as lines of CSV without a header, for a transform job with SplitType Line.

    Rows whose text has line breaks are left out: SageMaker would cut them there. Raises RowsError when none is left.
    """
    return csv_of(_of_one_line(evaluated).rows, evaluated.columns, header=False)


def check_batch(suite: Suite, evaluated: EvaluatedRows, answer: Answer) -> Results:
    """Compares a transform job's output for `batch_body` with what the cases expect of the evaluated rows.

    answer: the output file, text/csv. Other cases are skipped and said so, the load is left out: a job has one input,
    and a request that is refused would fail it.
    """
    evaluated, cases = _of_one_line(evaluated), []
    for case in suite.cases:
        if case.rows is None or case.vary is not None or case.expect.is_refusal:
            cases.append(CaseResult(case.name, True, "", 0.0, "a transform job has no requests of its own"))
            continue
        faults = _faults_of(case, evaluated, _Asked(Request(b"", CSV, CSV), evaluated.rows), answer)[1]
        cases.append(CaseResult(case.name, not faults, _joined(faults), answer.seconds))
    return Results(tuple(cases), None, answer.seconds)


def _of_one_line(evaluated: EvaluatedRows) -> EvaluatedRows:
    kept = [number for number, row in enumerate(evaluated.rows) if not any(map(_has_line_break, row.values()))]
    if not kept:
        raise RowsError(f"every row of {ROWS_FILE} has text with line breaks, at which a transform job would cut it")
    answers = tuple(evaluated.answers[number] for number in kept) if evaluated.answers else ()
    return replace(evaluated, rows=tuple(evaluated.rows[number] for number in kept), answers=answers)


def _has_line_break(value: Any) -> bool:
    return isinstance(value, str) and ("\n" in value or "\r" in value)


# --- cases ----------------------------------------------------------------------------------------------------------


class _CannotAsk(Exception):
    """The case cannot be asked; the text says why."""


@dataclass(frozen=True)
class _Asked:
    """A request, and what it asks.

    Args:
        rows: those in it, none of a body.
        runs: how many rows that follow each other are one row with one column varied.
        column: that is varied; "" where none is.
        own: whether the rows are the case's own, and may be shown.
        own_values: whether the column's values are.
    """

    request: Request
    rows: Sequence[Row] = ()
    runs: int = 1
    column: str = ""
    own: bool = False
    own_values: bool = True

    def place(self, position: int) -> str:
        """Which row that is, in words."""
        if not self.own:
            return f"row {position // self.runs} of {ROWS_FILE}"
        if self.own_values:
            return f"row {as_json(self.rows[position])}"
        row = {name: value for name, value in self.rows[position].items() if name != self.column}
        return f"row {as_json(row)} with value {position % self.runs + 1} of {self.column} in {ROWS_FILE}"

    def step(self, position: int) -> str:
        """How the varied column goes from the row before to this one, in words."""
        if self.own_values:
            before, now = (self.rows[place][self.column] for place in (position - 1, position))
            return f"{self.column} {before!r} to {now!r}"
        value = position % self.runs
        return f"{self.column} from value {value} to value {value + 1} of {self.runs} in {ROWS_FILE}, in their order"

    @property
    def words(self) -> str:
        asked = f"asked as {self.request.content_type}"
        return asked if self.rows else f"{asked}, {_shown(self.request.body)}"

    @property
    def hidden(self) -> Sequence[Row]:
        """The rows whose values are not told, or what is not told of them."""
        if self.own and not self.own_values:
            return [{self.column: row[self.column]} for row in self.rows]
        return () if self.own else self.rows


def _run_case(case: Case, evaluated: EvaluatedRows | None, ask: Ask, left: Callable[[], float]) -> CaseResult:
    started = time.monotonic()
    try:
        if skipped := _says_nothing(case, evaluated):
            return CaseResult(case.name, True, "", 0.0, skipped)
        faults = list(_case_faults(case, evaluated, ask, left))
    except _CannotAsk as reason:
        faults = [str(reason)]
    seconds = time.monotonic() - started
    return CaseResult(case.name, not faults, _joined(faults), seconds, out_of_time=faults == [NO_TIME])


def _says_nothing(case: Case, evaluated: EvaluatedRows | None) -> str:
    if evaluated is None or not isinstance(case.vary, dict) or "evaluated" not in case.vary.values():
        return ""
    (column,) = case.vary
    if evaluated.kinds.get(column) == "date":
        return f"{column} is a date: its weekday and month may act in any direction"
    if len(_values_of(column, evaluated)) < 2:
        return f"the evaluated rows have one value of {column}"
    return ""


def _case_faults(case: Case, evaluated: EvaluatedRows | None, ask: Ask, left: Callable[[], float]) -> Iterator[str]:
    first: tuple[str, list[Row]] | None = None
    for asked in _requests(case, evaluated):
        # or else the last answers would come when nobody can write them down any more
        if left() <= LONGEST_ANSWER:
            yield NO_TIME
            return
        answers, faults = _faults_of(case, evaluated, asked, ask(asked.request))
        yield from faults
        if not answers:
            continue
        if first is None:
            first = (asked.request.content_type, answers)
            continue
        for position, (one, other) in enumerate(zip(first[1], answers, strict=False)):
            if fault := difference(one, other, SAME):
                yield f"{asked.place(position)}: {first[0]} and {asked.request.content_type} differ: {fault}"
                break


def _requests(case: Case, evaluated: EvaluatedRows | None) -> Iterator[_Asked]:
    if case.body is not None:
        yield _Asked(Request(case.body.encode(), case.content_type, case.accept))
        return
    rows: Sequence[Row] = [dict(case.row)] if case.row is not None else _evaluated(evaluated).rows
    runs, column, own_values = 1, "", True
    if isinstance(case.vary, dict):
        ((column, values),) = case.vary.items()
        own_values = values != "evaluated"
        values = values if own_values else _values_of(column, _evaluated(evaluated))
        rows, runs = [{**row, column: value} for row in rows for value in values], len(values)
    for form in case.formats:
        yield _Asked(request_of(rows, form), rows, runs, column, case.row is not None, own_values)


def _evaluated(evaluated: EvaluatedRows | None) -> EvaluatedRows:
    if evaluated is None:
        raise _CannotAsk(
            f"the version has no {ROWS_FILE} beside its report, and the case needs its rows: it was trained before "
            "endpoint tests were there; train again, or ask rows of your own (row)"
        )
    return evaluated


def _values_of(column: str, evaluated: EvaluatedRows) -> list[Any]:
    """The values that the evaluated rows have, in order; missing ones have none."""
    found = {row.get(column) for row in evaluated.rows} - {None}
    return sorted(found, key=lambda value: (isinstance(value, str), value))


def _faults_of(
    case: Case, evaluated: EvaluatedRows | None, asked: _Asked, answer: Answer
) -> tuple[list[Row], list[str]]:
    """The answers by row (none where there are none), and what is wrong with them."""
    if fault := _status_fault(case.expect, answer, asked.hidden):
        return [], [f"{asked.words}: {fault}"]
    if case.expect.is_refusal:
        return [], []
    try:
        answers = read_answer(answer, asked.request.accept, evaluated)
    except Unreadable as reason:
        return [], [f"{asked.words}: {reason}; came: {_shown(answer.body, asked.hidden)}"]
    if asked.rows and len(answers) != len(asked.rows):
        return [], [f"{asked.words}: {len(asked.rows)} rows were asked, and {len(answers)} answers came"]
    return answers, [f"{asked.words}: {fault}" for fault in _answer_faults(case.expect, evaluated, asked, answers)]


def _status_fault(expect: Expect, answer: Answer, hidden: Sequence[Row]) -> str:
    wanted, text = expect.wanted_status, answer.body.decode("utf-8", "replace")
    came = _refusal(answer, hidden)
    if not _is_status(answer.status, wanted):
        return f"status {wanted} was expected, and came: {came}"
    if expect.error is not None and expect.error.contains not in text:
        return f"an error with {expect.error.contains!r} was expected, and came: {came}"
    return ""


def _refusal(answer: Answer, hidden: Sequence[Row]) -> str:
    """What came instead of an answer, in words."""
    text = answer.body.decode("utf-8", "replace") if answer.status else ""
    said = _shown(text or answer.error, hidden)
    return f"{answer.status} {said}".strip() if answer.status else said


def _is_status(status: int, wanted: str) -> bool:
    return str(status // 100) == wanted[0] if wanted.endswith("xx") else str(status) == wanted


def _answer_faults(expect: Expect, evaluated: EvaluatedRows | None, asked: _Asked, answers: list[Row]) -> Iterator[str]:
    if expect.as_evaluated is not None:
        then = _evaluated(evaluated)
        if not then.answers:
            yield f"{ROWS_FILE} has no answers to compare with: {then.fault or 'the evaluation gave none'}"
        for position, (before, now) in enumerate(zip(then.answers, answers, strict=False)):
            if fault := difference(flat(before), now, expect.as_evaluated.tolerance):
                yield f"{asked.place(position)}: not as it was evaluated: {fault}"
    text_alone = asked.request.accept.startswith(CSV)
    for position, answer in enumerate(answers):
        for name, check in expect.checks.items():
            if name not in answer:
                yield f"{asked.place(position)}: the answer has no {name}, only {', '.join(answer) or 'nothing'}"
            elif fault := _value_fault(check, answer[name], evaluated, text_alone):
                yield f"{asked.place(position)}: {name} {fault}"
    for name, check in expect.checks.items():
        if check.direction is not None:
            yield from _order_faults(name, check.direction, asked, answers)


def _value_fault(check: Check, value: Any, evaluated: EvaluatedRows | None, text_alone: bool) -> str:
    shown = as_json(value)
    if check.type is not None and not is_type(value, check.type, text_alone):
        return f"must be a {check.type}, and is {shown}"
    if check.between is not None:
        low, high = check.between
        number = as_number(value)
        if number is None or (low is not None and number < low) or (high is not None and number > high):
            bounds = " and ".join(
                f"at {word} {bound:g}" for word, bound in (("least", low), ("most", high)) if bound is not None
            )
            return f"must be {bounds}, and is {shown}"
    if check.one_of is not None:
        known: Iterable[Any] = _evaluated(evaluated).classes if check.one_of == "classes" else check.one_of
        if as_text(value) not in {as_text(one) for one in known}:
            return f"must be one of {', '.join(map(str, known))}, and is {shown}{_without_quotes(known, value)}"
    if check.equals is not None and not alike(check.equals, value, check.tolerance or 0.0):
        tolerance = f" (tolerance {check.tolerance:g})" if check.tolerance else ""
        return f"must be {as_json(check.equals)}{tolerance}, and is {shown}{_without_quotes([check.equals], value)}"
    return ""


def _without_quotes(wanted: Iterable[Any], value: Any) -> str:
    """What to do where a case has true for "yes": YAML 1.1 reads yes, no, on and off as booleans."""
    if str(value).lower() not in ("yes", "no", "on", "off") or not any(isinstance(one, bool) for one in wanted):
        return ""
    return f' (without quotes yes, no, on and off are true and false in YAML: write "{value}")'


def _order_faults(name: str, direction: str, asked: _Asked, answers: list[Row]) -> Iterator[str]:
    """Where the answer falls, or grows, with the column that is varied, though it must not."""
    sign = 1 if direction == "increasing" else -1
    for start in range(0, len(answers), asked.runs):
        for position in range(start + 1, start + asked.runs):
            before, now = (as_number(answers[place].get(name)) for place in (position - 1, position))
            if before is None or now is None:
                yield f"{asked.place(position)}: {name} is no number, and must be {direction}"
                break
            if sign * (now - before) < -ROUNDING * max(1.0, abs(before)):
                fell = f"{name} must be {direction}, and goes from {before:g} to {now:g}"
                yield f"{asked.place(position)}: {fell} with {asked.step(position)}"
                break


# --- load -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sent:
    """A request of the load: seconds from when it was due, and from the load's start, to its answer."""

    waited: float
    ended: float
    fault: str


def _run_load(
    load: Load, evaluated: EvaluatedRows | None, ask: Ask, workers: int, left: Callable[[], float]
) -> LoadResult:
    """Sends requests when they are due, whatever the earlier ones do, as callers would."""
    rows: Sequence[Row]
    answers: Sequence[Row] = ()
    try:
        rows = [dict(load.row)] if load.row is not None else _evaluated(evaluated).rows
        if load.as_evaluated is not None:
            answers = [flat(answer) for answer in _evaluated(evaluated).answers]
    except _CannotAsk as reason:
        return LoadResult(False, str(reason), 0, 0.0, 0.0, 0.0, 0.0, 1.0)
    seconds = min(float(load.seconds), left() - LONGEST_ANSWER)
    if seconds < load.seconds:
        fault = f"not sent: the load takes {load.seconds} s, and there was no time left for it"
        return LoadResult(False, fault, 0, 0.0, 0.0, 0.0, 0.0, 1.0, out_of_time=True)
    requests = [request_of([row], JSON) for row in rows]
    count = max(1, round(load.seconds * load.requests_per_second))
    threads = min(MOST_LOAD_THREADS, max(workers, math.ceil(load.requests_per_second)))
    started = time.monotonic()

    def one(number: int) -> _Sent:
        due = started + number / load.requests_per_second
        time.sleep(max(0.0, due - time.monotonic()))
        which = number % len(requests)
        answer = ask(requests[which])
        ended = time.monotonic()
        fault = _load_fault(load, answer, answers[which] if answers else None, evaluated)
        fault = f"row {which} of {ROWS_FILE}: {fault}" if fault and load.row is None else fault
        return _Sent(ended - due, ended - started, fault)

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(one, range(count)))
    return _load_result(load, found, time.monotonic() - started)


def _load_fault(load: Load, answer: Answer, wanted: Row | None, evaluated: EvaluatedRows | None) -> str:
    if not _is_status(answer.status, "2xx"):
        return _refusal(answer, () if evaluated is None or load.row is not None else evaluated.rows)
    if wanted is None or load.as_evaluated is None:
        return ""
    try:
        answers = read_answer(answer, JSON, evaluated)
    except Unreadable as reason:
        return str(reason)
    return difference(wanted, answers[0] if answers else {}, load.as_evaluated.tolerance)


def _load_result(load: Load, found: list[_Sent], seconds: float) -> LoadResult:
    waited = sorted(1000 * one.waited for one in found)
    wrong = [one.fault for one in found if one.fault]
    in_time = [one for one in found if not one.fault and one.ended <= load.seconds + GRACE]
    measured = {
        "p50_ms": percentile(waited, 50),
        "p99_ms": percentile(waited, 99),
        "error_share": len(wrong) / len(found),
        "requests_per_second": len(in_time) / load.seconds,
    }
    faults = []
    for name, value in measured.items():
        bound = getattr(load.objectives, name)
        at_least = name == "requests_per_second"
        if bound is not None and (value < bound if at_least else value > bound):
            faults.append(f"{name} is {value:.4g}, and must be at {'least' if at_least else 'most'} {bound:g}")
    if faults and wrong:
        faults.append(f"the first of {len(wrong)} requests without a right answer: {wrong[0]}")
    # all of them: they are few
    fault = f"{len(found)} requests in {seconds:.1f} s: " + "\n".join(faults) if faults else ""
    return LoadResult(
        passed=not faults,
        fault=fault,
        requests=len(found),
        seconds=seconds,
        requests_per_second=round(measured["requests_per_second"], 4),
        p50_ms=round(measured["p50_ms"], 4),
        p99_ms=round(measured["p99_ms"], 4),
        error_share=round(measured["error_share"], 4),
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Of numbers in order: the smallest that `percent` of 100 do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def _shown(content: bytes | str, hidden: Sequence[Row] = ()) -> str:
    """A body as a fault shows it, however long it is. hidden: rows whose values it may repeat, and are not told."""
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
    # with more than is shown, so that no value is cut in two before it is looked for
    text = without_values(text[: 10 * SHOWN_CHARACTERS], hidden) if hidden else text
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}... ({len(text):,} characters)"


def _joined(faults: Sequence[str]) -> str:
    more = f"\nand {len(faults) - SHOWN_FAULTS:,} more" if len(faults) > SHOWN_FAULTS else ""
    return "\n".join(faults[:SHOWN_FAULTS]) + more
