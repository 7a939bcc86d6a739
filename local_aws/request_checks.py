"""Requests checked against botocore's own service model: types, required members, lengths, ranges, enums and patterns.

Clients check some of it before they send; the service checks all of it. Messages follow AWS's form
("1 validation error detected: Value 'x' at 'pipelineName' failed to satisfy constraint: ...").
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
from botocore.model import OperationModel, ServiceModel, Shape

from local_aws.calls import ServiceError, validation_error


@functools.cache
def service_model(service: str) -> ServiceModel:
    return botocore.session.Session().get_service_model(service)


@functools.cache
def python_pattern(pattern: str) -> re.Pattern[str]:
    """A model's pattern (they are Java's) as Python's."""
    pattern = _CATEGORY.sub(_category, pattern)
    # Classes that name code points above U+FFFF do it by pairs of surrogates.
    pattern = pattern.replace(r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF")
    # "$" with a quantifier, in the patterns of customer metadata: the lengths are checked by min and max.
    return re.compile(re.sub(r"\$\{\d+,\d+\}", "$", pattern))


_CATEGORY = re.compile(r"\\p\{(\w+)\}")
_LAST_LETTER = 0x32400  # no code point above is assigned to a letter, number, mark, symbol or punctuation
_ASCII_CLASSES = {"Alnum": "a-zA-Z0-9", "Print": r"\x20-\x7e"}


def _category(match: re.Match[str]) -> str:
    """A category as a part of a class, or as a class of its own where the pattern has it outside of one."""
    ranges, before = _category_ranges(match[1]), match.string[: match.start()]
    return ranges if before.rfind("[") > before.rfind("]") else f"[{ranges}]"


def _category_ranges(name: str) -> str:
    """The inside of a regular expression's class for a Unicode category such as "L", which Python's `re` lacks."""
    if name in _ASCII_CLASSES:
        return _ASCII_CLASSES[name]
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in _code_points_by_category()[name])


@functools.cache
def _code_points_by_category() -> dict[str, list[tuple[int, int]]]:
    """Unicode's code points as ranges by the first letter of their general category (20 ms, once)."""
    ranges: dict[str, list[tuple[int, int]]] = {}
    for category, run in itertools.groupby(range(_LAST_LETTER), key=lambda code: unicodedata.category(chr(code))[0]):
        codes = list(run)
        ranges.setdefault(category, []).append((codes[0], codes[-1]))
    return ranges


def check_request(operation: OperationModel, request: Any) -> None:
    """Raise the ValidationException (or SerializationException) that AWS answers to a request its model forbids."""
    if operation.input_shape is None:
        return
    faults = list(_faults(operation.input_shape, request, ""))
    if faults:
        noun = "validation error" if len(faults) == 1 else "validation errors"
        raise validation_error(f"{len(faults)} {noun} detected: " + "; ".join(faults))


def without_nulls(value: Any) -> Any:
    """A request without its null members: they count as absent."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


# (shape, value, path) -> what is wrong with the value as a stand-in for a value of the shape; None when it is none
Placeholder = Callable[[Shape, Any, str], list[str] | None]


def check_shape(service: str, shape: str, value: Any, placeholder: Placeholder | None = None) -> list[str]:
    """What the named shape of a service's model forbids about a value; empty when nothing.

    Args:
        placeholder: judges parts whose value is only known later, such as the expressions of a pipeline's definition.

    Raises:
        ServiceError: SerializationException, for a part of the wrong type.
    """
    return list(_faults(service_model(service).shape_for(shape), value, "", placeholder))


def _member(path: str, name: str) -> str:
    name = name[:1].lower() + name[1:]
    return f"{path}.{name}" if path else name


def _faults(shape: Shape, value: Any, path: str, placeholder: Placeholder | None = None) -> Iterator[str]:
    if placeholder is not None and (faults := placeholder(shape, value, path)) is not None:
        yield from faults
        return
    kind = shape.type_name
    if kind == "structure":
        if not isinstance(value, dict):
            raise _serialization_error(path, "a structure", value)
        for name in shape.required_members:
            if value.get(name) is None:
                yield f"Value null at '{_member(path, name)}' failed to satisfy constraint: Member must not be null"
        for name, item in value.items():
            if name not in shape.members:
                yield (
                    f"Unknown member '{_member(path, name)}': not in botocore's model of this request"
                    f" (members: {', '.join(shape.members)})"
                )
            elif item is not None:
                yield from _faults(shape.members[name], item, _member(path, name), placeholder)
    elif kind == "list":
        if not isinstance(value, list):
            raise _serialization_error(path, "a list", value)
        yield from _bounds(shape, len(value), value, path, "length")
        for number, item in enumerate(value, 1):
            yield from _faults(shape.member, item, f"{path}.{number}.member", placeholder)
    elif kind == "map":
        if not isinstance(value, dict):
            raise _serialization_error(path, "a map", value)
        yield from _bounds(shape, len(value), value, path, "length")
        for key, item in value.items():
            yield from _faults(shape.key, key, f"{path} (key)")
            yield from _faults(shape.value, item, f"{path}.{key}", placeholder)
    elif kind == "string":
        if not isinstance(value, str):
            raise _serialization_error(path, "a string", value)
        yield from _bounds(shape, len(value), value, path, "length")
        if (enum := shape.metadata.get("enum")) and value not in enum:
            yield _constraint(value, path, f"Member must satisfy enum value set: [{', '.join(enum)}]")
        pattern = shape.metadata.get("pattern")
        if pattern and not python_pattern(pattern).fullmatch(value):
            yield _constraint(value, path, f"Member must satisfy regular expression pattern: {pattern}")
    elif kind in ("integer", "long"):
        if isinstance(value, bool) or not isinstance(value, int):
            raise _serialization_error(path, "an integer", value)
        yield from _bounds(shape, value, value, path, "value")
    elif kind in ("float", "double"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _serialization_error(path, "a number", value)
        yield from _bounds(shape, value, value, path, "value")
    elif kind == "timestamp":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _serialization_error(path, "a time stamp in seconds since 1970", value)
    elif kind == "boolean" and not isinstance(value, bool):
        raise _serialization_error(path, "true or false", value)


def _bounds(shape: Shape, size: float, value: Any, path: str, what: str) -> Iterator[str]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    noun = "length " if what == "length" else "value "
    if low is not None and size < low:
        yield _constraint(value, path, f"Member must have {noun}greater than or equal to {low}")
    if high is not None and size > high:
        yield _constraint(value, path, f"Member must have {noun}less than or equal to {high}")


def _constraint(value: Any, path: str, rule: str) -> str:
    shown = str(value)
    if len(shown) > 200:
        shown = shown[:200] + "..."
    return f"Value '{shown}' at '{path}' failed to satisfy constraint: {rule}"


def _serialization_error(path: str, wanted: str, value: Any) -> ServiceError:
    return ServiceError(
        "SerializationException", f"'{path or 'the request'}' must be {wanted}, not {type(value).__name__}"
    )
