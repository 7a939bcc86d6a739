"""Metric math, as far as alarms need it: arithmetic, comparisons, IF, FILL, MIN, MAX, SUM, AVG.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# One value for each period, oldest first; None where there is none.
Series = list[float | None]

_BINARY: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_COMPARISONS: dict[type, Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_REDUCTIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "MIN": min,
    "MAX": max,
    "SUM": sum,
    "AVG": lambda values: sum(values) / len(values),
}


class MathError(ValueError):
    """An expression that cannot be evaluated; the message says what in it."""


def evaluate(expression: str, series: Mapping[str, Series]) -> Series:
    """The value of an expression for each period.

    Args:
        expression: such as "m1 / m2" or "IF(m2 > 100, m1 / m2, 0)".
        series: what its names stand for, all of one length.

    Raises:
        MathError: something in it is unknown.
    """
    length = len(next(iter(series.values()), []))
    tree = _parse(expression)
    return _spread(_Evaluation(expression, series, length).value(tree), length)


def check(expression: str, names: Sequence[str]) -> None:
    """
    Raises:
        MathError: the expression cannot be evaluated with these names.
    """
    evaluate(expression, {name: [1.0] for name in names})


def _parse(expression: str) -> ast.expr:
    text = expression.replace("&&", " and ").replace("||", " or ").strip()
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise MathError(f"Expression {expression!r} cannot be read: {error}") from error


def _spread(value: float | Series, length: int) -> Series:
    return value if isinstance(value, list) else [value] * length


class _Evaluation:
    def __init__(self, expression: str, series: Mapping[str, Series], length: int) -> None:
        self._expression = expression
        self._series = series
        self._length = length

    def value(self, node: ast.expr) -> float | Series:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return float(node.value)
        if isinstance(node, ast.Name) and node.id in self._series:
            return self._series[node.id]
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            return self._each(_BINARY[type(node.op)], node.left, node.right)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return self._each(operator.neg, node.operand)
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARISONS:
            compare = _COMPARISONS[type(node.ops[0])]
            return self._each(lambda left, right: float(compare(left, right)), node.left, node.comparators[0])
        if isinstance(node, ast.BoolOp):
            every = all if isinstance(node.op, ast.And) else any
            return self._each(lambda *values: float(every(values)), *node.values)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self._call(node.func.id.upper(), node.args)
        raise MathError(
            f"Expression {self._expression!r}: {ast.unparse(node)!r} is not known here. local_aws knows the metrics'"
            " ids, numbers, + - * / ^, comparisons, &&, ||, IF, FILL, MIN, MAX, SUM and AVG."
        )

    def _each(self, function: Callable[..., float], *nodes: ast.expr) -> Series:
        """The function of each period's values; none where one is missing, or divided by zero."""
        columns = [_spread(self.value(node), self._length) for node in nodes]
        return [_apply(function, values) for values in zip(*columns, strict=True)]

    def _call(self, name: str, arguments: list[ast.expr]) -> float | Series:
        if name == "IF" and len(arguments) in (2, 3):
            condition, *branches = (_spread(self.value(argument), self._length) for argument in arguments)
            other = branches[1] if len(branches) == 2 else [None] * self._length
            chosen = zip(condition, branches[0], other, strict=True)
            return [None if test is None else (yes if test else no) for test, yes, no in chosen]
        if name == "FILL" and len(arguments) == 2:
            series = _spread(self.value(arguments[0]), self._length)
            if isinstance(arguments[1], ast.Name) and arguments[1].id == "REPEAT":
                return _repeated(series)
            filling = _spread(self.value(arguments[1]), self._length)
            return [filler if value is None else value for value, filler in zip(series, filling, strict=True)]
        if name in _REDUCTIONS and len(arguments) == 1 and isinstance(arguments[0], ast.List):
            columns = [_spread(self.value(item), self._length) for item in arguments[0].elts]
            return [_reduced(_REDUCTIONS[name], values) for values in zip(*columns, strict=True)]
        raise MathError(
            f"Expression {self._expression!r}: {name}(...) with {len(arguments)} arguments is not known here;"
            " IF(condition, value, other), FILL(metric, value), and MIN, MAX, SUM, AVG of [m1, m2] are."
        )


def _apply(function: Callable[..., float], values: tuple[Any, ...]) -> float | None:
    if None in values:
        return None
    try:
        return float(function(*values))
    except (ZeroDivisionError, OverflowError):
        return None


def _reduced(function: Callable[[Sequence[float]], float], values: tuple[float | None, ...]) -> float | None:
    known = [value for value in values if value is not None]
    return function(known) if known else None


def _repeated(series: Series) -> Series:
    last: float | None = None
    filled: Series = []
    for value in series:
        last = value if value is not None else last
        filled.append(last)
    return filled
