"""The part of JSONPath that a transform job's filters have.

Developer guide, "Associate Prediction Results with Input Records", "Supported JSONPath operators": $, .<name>,
['<name>', '<name>'], [<number>, <number>], [<start>:<end>], * and negative indices; numbers and slices may be mixed, as
in the API reference's example $[0,5:].
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_STEP = re.compile(
    r"""\.?\[(?P<bracket>[^\]]*)\]|\.(?P<name>\*|[^.\[\]'"*$@?()\s]+)""",
)
_NAME = re.compile(r"""\s*(?:'([^'\\]+)'|"([^"\\]+)")\s*""")
_NUMBER = re.compile(r"\s*(-?\d+)\s*")
_SLICE = re.compile(r"\s*(-?\d+)?\s*:\s*(-?\d+)?\s*")

Step = Callable[[Any], Any]


class NotFound(Exception):
    """A value has not what the expression names; the text says what."""


@dataclass(frozen=True)
class JsonPath:
    """An expression, read."""

    text: str
    steps: tuple[Step, ...]

    @property
    def everything(self) -> bool:
        """Whether it is "$", the whole value."""
        return not self.steps

    def select(self, value: Any) -> Any:
        """The part of a JSON value that the expression names.

        Several names give an object of them, several indices, a slice or * a list.

        Raises:
            NotFound: the value has no such part.
        """
        for step in self.steps:
            value = step(value)
        return value


def read_path(text: str) -> JsonPath:
    """Read an expression.

    Raises:
        ValueError: it is none, or uses an operator that transform jobs do not have.
    """
    if not text.startswith("$"):
        raise ValueError(f"{text!r} is no JSONPath: it must begin with $")
    steps: list[Step] = []
    position = 1
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            raise _unsupported(text, text[position:])
        if match["name"] is not None:
            steps.append(_every if match["name"] == "*" else _named([match["name"]]))
        else:
            steps.append(_bracket(text, match["bracket"]))
        position = match.end()
    return JsonPath(text, tuple(steps))


def _bracket(text: str, inside: str) -> Step:
    if inside.strip() == "*":
        return _every
    parts = inside.split(",")
    names = [_NAME.fullmatch(part) for part in parts]
    if all(names):
        return _named([match[1] or match[2] for match in names if match])
    places: list[int | slice] = []
    for part in parts:
        if number := _NUMBER.fullmatch(part):
            places.append(int(number[1]))
        elif span := _SLICE.fullmatch(part):
            start, end = (int(bound) if bound is not None else None for bound in span.groups())
            places.append(slice(start, end))
        else:
            raise _unsupported(text, f"[{inside}]")
    return _placed(places)


def _unsupported(text: str, part: str) -> ValueError:
    return ValueError(
        f"{text!r} has {part!r}, which transform jobs do not support. Their operators are $, .name, ['name','name'],"
        " [number,number], [start:end] and *"
    )


def _every(value: Any) -> Any:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list):
        return value
    raise NotFound(f"* needs an object or an array, and is given {_shown(value)}")


def _named(names: list[str]) -> Step:
    def select(value: Any) -> Any:
        for name in names:
            if not isinstance(value, dict) or name not in value:
                raise NotFound(f"there is no {name!r} in {_shown(value)}")
        return value[names[0]] if len(names) == 1 else {name: value[name] for name in names}

    return select


def _placed(places: list[int | slice]) -> Step:
    def select(value: Any) -> Any:
        if not isinstance(value, list):
            raise NotFound(f"an index needs an array, and is given {_shown(value)}")
        found: list[Any] = []
        for place in places:
            if isinstance(place, slice):
                found += value[place]
            elif -len(value) <= place < len(value):
                found.append(value[place])
            else:
                raise NotFound(f"there is no index {place} in an array of {len(value)}")
        return found[0] if len(places) == 1 and isinstance(places[0], int) else found

    return select


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:100] + "..."
