"""GitHub's expressions, "${{ github.ref == 'refs/heads/dev' }}": read and evaluated. Pure functions.

https://docs.github.com/en/actions/reference/workflows-and-actions/expressions
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

STATUS_FUNCTIONS = ("always", "success", "failure", "cancelled")
TOKEN = re.compile(
    r"\s*(?:(?P<number>-?(?:0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?))|(?P<text>'(?:[^']|'')*')"
    r"|(?P<name>[A-Za-z_][\w-]*)|(?P<sign>&&|\|\||==|!=|<=|>=|[!<>()\[\].,*]))"
)
EMBEDDED = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
CONSTANTS: Mapping[str, Any] = {"true": True, "false": False, "null": None}
DEEPEST = 50  # of nested parentheses, as GitHub's

Function = Callable[..., Any]


class ExpressionError(ValueError):
    """An expression that is none, or that is not understood here; the message quotes it."""


@dataclass(frozen=True)
class Scope:
    """What an expression can name.

    Args:
        contexts: by name, such as {"github": {...}, "env": {...}}; what is not among them is an error.
        status: "success", "failure" or "cancelled": what always(), success() and their like go by.
        functions: besides those that are here, such as hashFiles.
    """

    contexts: Mapping[str, Any]
    status: str = "success"
    functions: Mapping[str, Function] | None = None


def evaluate(text: str, scope: Scope) -> Any:
    """The value of an expression, given without "${{ }}".

    Raises:
        ExpressionError: it is none, or has something in it that is not understood.
    """
    return _Reader(text, scope).whole()


def filled(text: str, scope: Scope) -> str:
    """A text with its expressions replaced by their values.

    Raises:
        ExpressionError: one of them is none.
    """
    return EMBEDDED.sub(lambda match: as_text(evaluate(match[1], scope)), text)


def condition(text: str, scope: Scope) -> bool:
    """Whether an `if` holds, given with or without "${{ }}".

    Without one of STATUS_FUNCTIONS it asks success() besides.

    Raises:
        ExpressionError: it is no expression.
    """
    whole = EMBEDDED.fullmatch(text.strip())
    inner = whole[1] if whole else text
    if "${{" in inner:
        return truth(filled(text, scope))
    asks = any(re.search(rf"\b{name}\s*\(", inner, re.IGNORECASE) for name in STATUS_FUNCTIONS)
    return (asks or scope.status == "success") and truth(evaluate(inner, scope))


def truth(value: Any) -> bool:
    return not (
        value is None or value is False or value == "" or (_is_number(value) and (value == 0 or value != value))
    )


def as_text(value: Any) -> str:
    """A value in a text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if _is_number(value):
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    return value if isinstance(value, str) else ("Array" if isinstance(value, list) else "Object")


class _Reader:
    """Reads an expression from left to right and evaluates it on the way."""

    def __init__(self, text: str, scope: Scope) -> None:
        self._text, self._scope, self._depth = text.strip(), scope, 0
        self._tokens = list(self._split())
        self._at = 0

    def whole(self) -> Any:
        if not self._tokens:
            raise self._fault("it is empty")
        value = self._either()
        if self._at < len(self._tokens):
            raise self._fault(f"{self._tokens[self._at][1]!r} is not expected there")
        return value

    def _split(self) -> Iterator[tuple[str, str]]:
        at = 0
        while at < len(self._text):
            match = TOKEN.match(self._text, at)
            if match is None:
                raise self._fault(f"{self._text[at:].strip()[:10]!r} is not understood")
            kind = str(match.lastgroup)
            yield kind, match[kind]
            at = match.end()

    def _fault(self, what: str) -> ExpressionError:
        return ExpressionError(f"The expression {self._text!r}: {what}.")

    def _next_is(self, *signs: str) -> bool:
        return self._at < len(self._tokens) and self._tokens[self._at] in [("sign", sign) for sign in signs]

    def _take(self) -> tuple[str, str]:
        if self._at == len(self._tokens):
            raise self._fault("it ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, sign: str) -> None:
        if self._take() != ("sign", sign):
            raise self._fault(f"{sign!r} is missing")

    # From what binds least to what binds most. Every side is read, so that nothing wrong in it goes unseen.

    def _either(self) -> Any:
        value = self._both()
        while self._next_is("||"):
            self._take()
            other = self._both()
            value = value if truth(value) else other
        return value

    def _both(self) -> Any:
        value = self._compared()
        while self._next_is("&&"):
            self._take()
            other = self._compared()
            value = other if truth(value) else value
        return value

    def _compared(self) -> Any:
        value = self._negated()
        while self._next_is("==", "!=", "<", "<=", ">", ">="):
            sign = self._take()[1]
            value = _compare(sign, value, self._negated())
        return value

    def _negated(self) -> Any:
        if self._next_is("!"):
            self._take()
            return not truth(self._negated())
        return self._parts(self._single())

    def _single(self) -> Any:
        kind, text = self._take()
        if kind == "number":
            return float(int(text, 16)) if "x" in text else float(text)
        if kind == "text":
            return text[1:-1].replace("''", "'")
        if kind == "name":
            if self._next_is("("):
                return self._called(text)
            if text in CONSTANTS:
                return CONSTANTS[text]
            contexts = {name.lower(): value for name, value in self._scope.contexts.items()}
            if text.lower() not in contexts:
                known = ", ".join(sorted(self._scope.contexts))
                raise self._fault(f"local_aws has nothing called {text!r} there; it has {known}")
            return contexts[text.lower()]
        if text != "(":
            raise self._fault(f"{text!r} is not expected there")
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._fault("it is nested too deeply")
        value = self._either()
        self._expect(")")
        self._depth -= 1
        return value

    def _parts(self, value: Any) -> Any:
        """What follows a value: .name and ['name']."""
        while self._next_is(".", "["):
            if self._take()[1] == ".":
                kind, key = self._take()
                if kind != "name":
                    raise self._fault(f"local_aws does not understand .{key}")
            else:
                key = self._either()
                self._expect("]")
            value = _part(value, key)
        return value

    def _called(self, name: str) -> Any:
        self._expect("(")
        arguments = []
        while not self._next_is(")"):
            arguments.append(self._either())
            if not self._next_is(")"):
                self._expect(",")
        self._expect(")")
        functions = {each.lower(): call for each, call in {**_FUNCTIONS, **(self._scope.functions or {})}.items()}
        status = self._scope.status
        functions |= {each: lambda each=each: each in ("always", status) for each in STATUS_FUNCTIONS}
        if name.lower() not in functions:
            raise self._fault(f"local_aws does not understand {name}(); it knows {', '.join(sorted(functions))}")
        try:
            return functions[name.lower()](*arguments)
        except (TypeError, ValueError) as error:
            raise self._fault(f"{name}(): {error}") from error


def _part(value: Any, key: Any) -> Any:
    if isinstance(value, Mapping):
        names = {str(name).lower(): each for name, each in value.items()}
        return names.get(as_text(key).lower())
    if isinstance(value, list) and _is_number(key) and 0 <= key < len(value):
        return value[int(key)]
    return None


def _compare(sign: str, left: Any, right: Any) -> bool:
    """Loosely, as GitHub does: texts whatever their case, and values of two kinds as numbers."""
    if isinstance(left, str) and isinstance(right, str):
        left, right = left.lower(), right.lower()
    elif isinstance(left, Mapping | list) or isinstance(right, Mapping | list):
        return {"==": left is right, "!=": left is not right}.get(sign, False)
    elif type(left) is not type(right) or not _is_number(left):
        left, right = _number(left), _number(right)
    results = {
        "==": left == right,
        "!=": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }
    return results[sign]


def _number(value: Any) -> float:
    if value is None or value == "":
        return 0.0
    if isinstance(value, bool):
        return float(value)
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _contains(search: Any, item: Any) -> bool:
    if isinstance(search, list):
        return any(_compare("==", each, item) for each in search)
    return as_text(item).lower() in as_text(search).lower()


def _format(text: Any, *values: Any) -> str:
    def put(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        if int(match[1]) >= len(values):
            raise ValueError(f"there is no value for {match[0]}")
        return as_text(values[int(match[1])])

    return re.sub(r"\{\{|\}\}|\{(\d+)\}", put, as_text(text))


def _join(values: Any, separator: Any = ",") -> str:
    return as_text(separator).join(as_text(each) for each in values) if isinstance(values, list) else as_text(values)


_FUNCTIONS: dict[str, Function] = {
    "contains": _contains,
    "startsWith": lambda text, start: as_text(text).lower().startswith(as_text(start).lower()),
    "endsWith": lambda text, end: as_text(text).lower().endswith(as_text(end).lower()),
    "format": _format,
    "join": _join,
    "toJSON": lambda value: json.dumps(value, indent=2),
    "fromJSON": lambda text: json.loads(as_text(text)),
}
