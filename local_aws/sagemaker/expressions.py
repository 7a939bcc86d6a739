"""The expressions of the pipeline definition language, Get, Std:Join and Std:JsonGet, and the conditions.

Everything here is pure. What a reference stands for while an execution runs is asked of `Values`; what it may stand for
in a definition is checked in `definition.py`.

    {"Get": "Parameters.Rows"}, {"Get": "Execution.PipelineExecutionId"}
    {"Get": "Steps.Train.ModelArtifacts.S3ModelArtifacts"}
    {"Get": "Steps.Prepare.ProcessingOutputConfig.Outputs['train'].S3Output.S3Uri"}
    {"Std:Join": {"On": "/", "Values": ["s3://bucket", {"Get": "Execution.PipelineExecutionId"}]}}
    {"Std:JsonGet": {"PropertyFile": {"Get": "Steps.Evaluate.PropertyFiles.Report"}, "Path": "metrics.auc.value"}}
    {"Std:JsonGet": {"S3Uri": "s3://bucket/report.json", "Path": "metrics['auc'][0]"}}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

GET, JOIN, JSON_GET = "Get", "Std:Join", "Std:JsonGet"
PROPERTY_FILES = "PropertyFiles"
EXECUTION_VARIABLES = (
    "StartDateTime",
    "CurrentDateTime",
    "PipelineName",
    "PipelineArn",
    "PipelineExecutionId",
    "PipelineExecutionArn",
    "TrainingJobName",
    "ProcessingJobName",
)
COMPARISONS = ("Equals", "GreaterThan", "GreaterThanOrEqualTo", "LessThan", "LessThanOrEqualTo")
CONDITIONS = (*COMPARISONS, "In", "Not", "Or")
_CONDITION_MEMBERS = {
    **dict.fromkeys(COMPARISONS, ("LeftValue", "RightValue")),
    "In": ("QueryValue", "Values"),
    "Not": ("Condition",),
    "Or": ("Conditions",),
}
# A list of a Describe response is indexed by the name of its element: Outputs['train'], InputDataConfig['train'].
_ELEMENT_NAMES = ("OutputName", "InputName", "ChannelName", "MetricName")

# A member's name in a path; other names are written ['so'].
_NAME = r"""([^.\[\]'"*?()$@]+)"""

Token = str | int


class ExpressionError(ValueError):
    """An expression that is badly formed, or whose value cannot be had."""


@dataclass(frozen=True)
class Reference:
    """What a Get names.

    Attributes:
        text: the whole of it, such as "Steps.Train.ModelArtifacts.S3ModelArtifacts".
        kind: "Parameters", "Execution" or "Steps".
        name: of the parameter, the execution variable or the step.
        path: for a step, the property path after its name; else empty.
    """

    text: str
    kind: str
    name: str
    path: str = ""

    @property
    def property_file(self) -> str | None:
        """The property file's name, when the reference is to one."""
        first, _, rest = self.path.partition(".")
        return rest if first == PROPERTY_FILES else None


class Values(Protocol):
    """What references stand for in one execution. Each method raises ExpressionError when there is no value."""

    def parameter(self, name: str) -> Any: ...

    def execution_variable(self, name: str) -> str: ...

    def step_property(self, step: str, path: str) -> Any: ...

    def property_file(self, step: str, name: str) -> Any: ...

    def json_object(self, s3_uri: str) -> Any: ...


def read_json(text: str | bytes) -> Any:
    """A JSON document. NaN and Infinity, which Python's parser lets pass, are no JSON.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON value")


def is_expression(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in (GET, JOIN, JSON_GET)


def parse_reference(text: Any) -> Reference:
    """The parts of a Get.

    Raises:
        ExpressionError: the text has none of the three forms.
    """
    if isinstance(text, str):
        if match := re.fullmatch(r"(Parameters|Execution)\.([A-Za-z0-9_-]+)", text):
            return Reference(text, match[1], match[2])
        if match := re.fullmatch(r"Steps\.([A-Za-z0-9_-]+)\.(.+)", text):
            return Reference(text, "Steps", match[1], match[2])
    raise ExpressionError(
        f"{{'Get': {text!r}}} is not a reference: it has the form 'Parameters.<name>', 'Execution.<variable>'"
        " or 'Steps.<step>.<property path>'"
    )


def expressions(value: Any) -> Iterator[dict[str, Any]]:
    """The outermost expressions in a value of any depth."""
    if is_expression(value):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from expressions(item)
    elif isinstance(value, list):
        for item in value:
            yield from expressions(item)


def references(value: Any) -> Iterator[Reference]:
    """Every reference in a value of any depth, those inside Std:Join and Std:JsonGet included.

    Raises:
        ExpressionError: an expression is badly formed.
    """
    for expression in expressions(value):
        if GET in expression:
            reference = parse_reference(expression[GET])
            if reference.property_file is not None:
                raise ExpressionError(f"'{reference.text}' is a property file: read it with Std:JsonGet and a Path")
            yield reference
        elif JOIN in expression:
            yield from references(_join_parts(expression)[1])
        else:
            source, _ = _json_get_parts(expression)
            if isinstance(source, Reference):
                yield source
            else:
                yield from references(source)


def evaluate(value: Any, values: Values) -> Any:
    """A value of any depth with every expression replaced by what it stands for.

    Raises:
        ExpressionError: a value is missing, or not of the kind that its place needs.
    """
    if is_expression(value):
        return _evaluate_expression(value, values)
    if isinstance(value, dict):
        return {key: evaluate(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [evaluate(item, values) for item in value]
    return value


def _evaluate_expression(expression: dict[str, Any], values: Values) -> Any:
    if GET in expression:
        reference = parse_reference(expression[GET])
        if reference.kind == "Parameters":
            return values.parameter(reference.name)
        if reference.kind == "Execution":
            return values.execution_variable(reference.name)
        return values.step_property(reference.name, reference.path)
    if JOIN in expression:
        on, parts = _join_parts(expression)
        return on.join(as_text(evaluate(part, values)) for part in parts)
    source, path = _json_get_parts(expression)
    if isinstance(source, Reference):
        document = values.property_file(source.name, source.property_file or "")
        where = f"property file '{source.property_file}' of step '{source.name}'"
    else:
        uri = as_text(evaluate(source, values))
        document, where = values.json_object(uri), uri
    return follow(document, parse_path(path), where)


def _join_parts(expression: dict[str, Any]) -> tuple[str, list[Any]]:
    body = expression[JOIN]
    if not isinstance(body, dict) or set(body) - {"On", "Values"} or not isinstance(body.get("Values"), list):
        raise ExpressionError("Std:Join needs {'On': <string>, 'Values': [...]}")
    on = body.get("On", "")
    if not isinstance(on, str):
        raise ExpressionError(f"Std:Join: On must be a string, not {on!r}")
    for part in body["Values"]:
        if not is_expression(part) and not isinstance(part, str | int | float | bool):
            raise ExpressionError(f"Std:Join: {part!r} is neither a primitive value nor an expression")
    return on, body["Values"]


def _json_get_parts(expression: dict[str, Any]) -> tuple[Reference | Any, str]:
    """The source, a Reference to a property file or an S3 URI (which may be an expression), and the path."""
    body = expression[JSON_GET]
    form = "Std:JsonGet needs {'PropertyFile': {'Get': 'Steps.<step>.PropertyFiles.<name>'}, 'Path': ...} or"
    form += " {'S3Uri': ..., 'Path': ...}"
    if not isinstance(body, dict) or len(body) != 2 or not isinstance(body.get("Path"), str):
        raise ExpressionError(form)
    parse_path(body["Path"])
    if "PropertyFile" in body:
        source = body["PropertyFile"]
        reference = parse_reference(source.get(GET)) if isinstance(source, dict) else None
        if reference is None or reference.kind != "Steps" or not reference.property_file:
            raise ExpressionError(form)
        return reference, body["Path"]
    if "S3Uri" not in body or not (isinstance(body["S3Uri"], str) or is_expression(body["S3Uri"])):
        raise ExpressionError(form)
    return body["S3Uri"], body["Path"]


def as_text(value: Any) -> str:
    """A primitive value as Std:Join writes it: booleans as "true" and "false", numbers as JSON writes them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise ExpressionError(f"{value!r} is not a primitive value and cannot become part of a string")


def parse_path(path: str) -> list[Token]:
    """A path's tokens: names and list indexes. The subset of JsonPath that AWS documents: a.b, [0], ['k'], ["k"], $.

    Raises:
        ExpressionError: for anything else, such as a wildcard.
    """
    rest = path.removeprefix("$")
    tokens: list[Token] = []
    while rest:
        if match := re.match(r"\[(\d+)\]", rest):
            tokens.append(int(match[1]))
        elif match := re.match(r"""\['([^']+)'\]|\["([^"]+)"\]""", rest):
            tokens.append(match[1] or match[2])
        elif match := re.match(_NAME if rest == path else rf"\.{_NAME}", rest):
            tokens.append(match[1])
        else:
            break
        rest = rest[match.end() :]
    if rest or not tokens:
        raise ExpressionError(f"the path {path!r} is not understood from {rest!r} on; it has the form a.b[0]['c']")
    return tokens


def follow(document: Any, tokens: list[Token], where: str, by_element_name: bool = False) -> Any:
    """The value at the end of a path.

    Args:
        document: dicts, lists and primitive values.
        tokens: from parse_path.
        where: what the document is, for the message.
        by_element_name: whether a list may be indexed by an element's OutputName, InputName, ChannelName or MetricName.

    Raises:
        ExpressionError: there is nothing at the path.
    """
    value = document
    for number, token in enumerate(tokens):
        found = None
        if isinstance(value, list):
            if isinstance(token, int):
                found = value[token] if token < len(value) else None
            elif by_element_name:
                found = element(value, token)
        elif isinstance(value, dict) and isinstance(token, str):
            found = value.get(token)
        if found is None:
            raise ExpressionError(f"{where} has nothing at {path_text(tokens[: number + 1])!r}{_instead(value)}")
        value = found
    return value


def element(items: list[Any], name: str) -> Any:
    """The element of a Describe response's list that has the name, or None."""
    for item in items:
        if isinstance(item, dict) and any(item.get(key) == name for key in _ELEMENT_NAMES):
            return item
    return None


def path_text(tokens: list[Token]) -> str:
    text = ""
    for token in tokens:
        if isinstance(token, int):
            text += f"[{token}]"
        elif re.fullmatch(r"[A-Za-z0-9_-]+", token):
            text += f".{token}" if text else token
        else:
            text += f"['{token}']"
    return text


def _instead(value: Any) -> str:
    if isinstance(value, dict):
        return f"; it has {', '.join(map(str, value)) or 'no members'} there"
    if isinstance(value, list):
        return f"; there is a list of {len(value)}"
    return f"; there is {value!r}"


def condition_values(condition: dict[str, Any]) -> Iterator[Any]:
    """The operands of a condition, those of conditions inside it included. The condition must be without faults."""
    kind = condition["Type"]
    if kind in COMPARISONS:
        yield condition["LeftValue"]
        yield condition["RightValue"]
    elif kind == "In":
        yield condition["QueryValue"]
        yield from condition["Values"]
    elif kind == "Not":
        yield from condition_values(condition["Condition"])
    else:
        for inner in condition["Conditions"]:
            yield from condition_values(inner)


def condition_faults(condition: Any) -> Iterator[str]:
    """What is wrong with a condition's form."""
    if not isinstance(condition, dict) or condition.get("Type") not in CONDITIONS:
        kind = condition.get("Type") if isinstance(condition, dict) else condition
        yield f"condition type {kind!r} is unknown; the known ones are {', '.join(CONDITIONS)}"
        return
    kind, members = condition["Type"], _CONDITION_MEMBERS[condition["Type"]]
    for missing in (member for member in members if member not in condition):
        yield f"condition {kind} lacks {missing}"
    for unknown in sorted(set(condition) - {"Type", *members}):
        yield f"condition {kind}: unknown property '{unknown}'; it has {', '.join(members)}"
    if any(member not in condition for member in members):
        return
    if kind == "Not":
        yield from condition_faults(condition["Condition"])
    elif kind in ("In", "Or"):
        inner = condition[members[-1]]
        if not isinstance(inner, list) or not inner:
            yield f"condition {kind}: {members[-1]} must be a list with at least one element"
        elif kind == "Or":
            for item in inner:
                yield from condition_faults(item)
            return
    if kind in ("Not", "Or") or (kind == "In" and not isinstance(condition["Values"], list)):
        return
    for operand in condition_values(condition):
        if not is_expression(operand) and not isinstance(operand, str | int | float | bool):
            yield f"condition {kind}: {operand!r} is neither a primitive value nor an expression"


def holds(condition: dict[str, Any], values: Values) -> bool:
    """Whether a condition is true.

    Raises:
        ExpressionError: a value is missing, or two values are not comparable.
    """
    kind = condition["Type"]
    if kind == "Not":
        return not holds(condition["Condition"], values)
    if kind == "Or":
        return any(holds(inner, values) for inner in condition["Conditions"])
    if kind == "In":
        query = evaluate(condition["QueryValue"], values)
        return any(_compare("Equals", query, evaluate(item, values)) for item in condition["Values"])
    return _compare(kind, evaluate(condition["LeftValue"], values), evaluate(condition["RightValue"], values))


def _compare(kind: str, left: Any, right: Any) -> bool:
    # A string never equals a number: silently taking the else branch would hide a wrong type for good.
    if _kind(left) != _kind(right) or _kind(left) == "other":
        raise ExpressionError(f"{left!r} and {right!r} cannot be compared ({kind}): they are of different types")
    if kind == "Equals":
        return left == right
    if _kind(left) == "boolean":
        raise ExpressionError(f"{left!r} and {right!r} are booleans and have no order ({kind}): use Equals")
    if kind == "GreaterThan":
        return left > right
    if kind == "GreaterThanOrEqualTo":
        return left >= right
    if kind == "LessThan":
        return left < right
    return left <= right


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "other"
