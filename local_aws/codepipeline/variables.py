"""Variables in an action's configuration: `#{Namespace.Name}`.

https://docs.aws.amazon.com/codepipeline/latest/userguide/reference-variables.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

SERVICE = "codepipeline"  # the namespace of what CodePipeline itself tells
PIPELINE = "variables"  # of the pipeline's own variables
_PLACE = re.compile(r"#\{([^}]*)\}")
_NAME = re.compile(r"([A-Za-z0-9@_-]+)\.([A-Za-z0-9@_-]+)")


class VariableError(Exception):
    """Why a text's variables cannot be resolved."""


@dataclass(frozen=True)
class Reference:
    """A variable as a text names it."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"#{{{self.namespace}.{self.name}}}"


def references(text: str) -> Iterator[Reference]:
    """The variables that a text names.

    Raises:
        VariableError: a place that is no Namespace.Name.
    """
    for place in _PLACE.finditer(text):
        yield _reference(place)


def resolved(text: str, values: Mapping[str, Mapping[str, str]]) -> str:
    """A text with the variables' values in it; they are put in as they are.

    Args:
        values: by namespace and name.

    Raises:
        VariableError: a variable that has no value.
    """

    def value(place: re.Match[str]) -> str:
        reference = _reference(place)
        found = values.get(reference.namespace, {}).get(reference.name)
        if found is None:
            raise VariableError(f"The variable {reference} has no value: no action has set it in this execution.")
        return found

    return _PLACE.sub(value, text)


def _reference(place: re.Match[str]) -> Reference:
    found = _NAME.fullmatch(place[1])
    if found is None:
        raise VariableError(f"{place[0]} is no variable: they are written as #{{Namespace.Name}}.")
    return Reference(found[1], found[2])
