"""Plots as SVG text: axes and marks that are put on them, and the few kinds of plots that the report draws often.

A plot is drawn 440 wide and scales with its place on the page. Colours are the page's (page.STYLE): series 0 is the
model that is evaluated, series 1 the version that serves now. Undefined values (None) are left out. A mark's title is
shown when a pointer rests on it.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from page import Html, escape, join, number

WIDTH = 440
NAME = 22  # letters of a name beside its row, at most
CHARACTER = 7.8  # about the width of a letter of 12 px, in a wide font
THIS, SERVING = "this version", "version now serving"  # the two series
LINES = ("s0", "s1", "s2", "s3")


@dataclass(frozen=True)
class Axis:
    """What one direction of a plot means.

    ticks: (value, text) pairs. names: the texts are names from the data; a y axis of such runs downwards.
    """

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    names: bool = False


SHARE_TICKS = tuple((each / 5, number(each / 5)) for each in range(6))


def share_axis(label: str) -> Axis:
    """From 0 to 1."""
    return Axis(label, 0, 1, SHARE_TICKS)


def axis(label: str, values: Sequence[float | None], ticks: int = 6) -> Axis:
    """An axis that holds all the values, with a small margin where they do not end at 0, and ticks at round numbers."""
    known = [value for value in values if value is not None and math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    if high - low <= max(1e-12 * max(abs(low), abs(high)), 1e-280):
        margin = max(abs(high) * 0.1, 1e-6)
        low, high = low - margin, high + margin
    step = _round_step((high - low) / (ticks - 1))
    margin = 0.03 * (high - low)
    low, high = (0.0 if low == 0 else low - margin), (0.0 if high == 0 else high + margin)
    marks = (each * step for each in range(math.ceil(low / step), math.floor(high / step) + 1))
    return Axis(label, low, high, tuple((each, number(each)) for each in marks))


def name_axis(names: Sequence[str], label: str = "") -> Axis:
    """One place for each name, at 0, 1, ...; on the y axis the first is on top."""
    return Axis(label, -0.5, len(names) - 0.5, tuple(enumerate(names)), names=True)


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least * (1 - 1e-9))


def shorten(name: str, width: int) -> str:
    """The name in at most so many columns, its middle left out: long names often differ at their ends only."""
    name = name.replace("\n", " ")
    if len(name) < 200 and _columns(name) <= width:
        return name
    tail = _fitting(name[:-100:-1], width - width // 2 - 1)[::-1]
    return f"{_fitting(name[:100], width // 2)}…{tail}"


def _fitting(text: str, width: int) -> str:
    """As much of the text's beginning as fits."""
    return text[: max(end for end in range(len(text) + 1) if _columns(text[:end]) <= width)]


def _columns(text: str) -> int:
    """How wide a text is, in columns: characters of East Asia take two, those drawn above others none."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


class Plot:
    """Marks within two axes. Each method adds some; `svg` gives the whole."""

    def __init__(
        self, x: Axis, y: Axis, height: int = 300, width: int = WIDTH, right: float = 16, grid: bool = True
    ) -> None:
        self.x, self.y, self.height, self.width, self.grid = x, y, height, width, grid
        self._marks: list[str] = []
        self._name_width = NAME if self.y.names else 11
        widest = max((_columns(shorten(text, self._name_width)) for _, text in y.ticks), default=0)
        self.left = 12 + CHARACTER * widest + (18 if y.label else 0)
        self.right, self.top = width - right, 10.0
        self._tilted = x.names and len(x.ticks) > 4
        below = 8 + 5.2 * max(_columns(shorten(text, 16)) for _, text in x.ticks) if self._tilted else 20
        self.bottom = height - below - (20 if x.label else 0)

    def at_x(self, value: float) -> float:
        return self.left + (value - self.x.low) / (self.x.high - self.x.low) * (self.right - self.left)

    def at_y(self, value: float) -> float:
        share = (value - self.y.low) / (self.y.high - self.y.low)
        return self.top + (share if self.y.names else 1 - share) * (self.bottom - self.top)

    def line(self, xs: Sequence[float], ys: Sequence[float | None], kind: str = "s0") -> None:
        pieces, pen = [], "M"
        for x, y in zip(xs, ys, strict=True):
            if y is None:
                pen = "M"
            else:
                pieces.append(f"{pen}{self.at_x(x):.1f} {self.at_y(y):.1f}")
                pen = "L"
        self._marks.append(f'<path class="{kind}" d="{"".join(pieces)}"/>')

    def bar(self, left: float, right: float, low: float, high: float, kind: str = "f0", title: str = "") -> None:
        """A rectangle between two x and two y."""
        x, width = self.at_x(left), self.at_x(right) - self.at_x(left)
        y, height = min(self.at_y(low), self.at_y(high)), abs(self.at_y(high) - self.at_y(low))
        self._marks.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}">'
            f"{_title(title)}</rect>"
        )

    def heat(self, x: float, y: float, share: float, title: str, text: str = "") -> None:
        """One cell of a matrix, the darker the greater the share (0 to 1)."""
        left, right = self.at_x(x - 0.5), self.at_x(x + 0.5)
        top, bottom = sorted((self.at_y(y - 0.5), self.at_y(y + 0.5)))
        self._marks.append(
            f'<rect class="h" fill-opacity="{0.04 + 0.92 * share:.2f}" x="{left:.1f}" y="{top:.1f}" '
            f'width="{right - left:.1f}" height="{bottom - top:.1f}">{_title(title)}</rect>'
        )
        if text:
            kind = "on" if share > 0.55 else "ink"
            self.text((left + right) / 2, (top + bottom) / 2 + 4, text, kind=kind, anchor="middle")

    def dot(self, x: float | None, y: float, series: int = 0, title: str = "") -> None:
        """Series 0 a full circle, series 1 an open diamond."""
        if x is None:
            return
        a, b = self.at_x(x), self.at_y(y)
        mark = (
            f'<circle class="f0" cx="{a:.1f}" cy="{b:.1f}" r="4.5">{_title(title)}</circle>'
            if series == 0
            else f'<path class="o1" d="M{a - 5.5:.1f} {b:.1f}l5.5 -5.5 5.5 5.5 -5.5 5.5z">{_title(title)}</path>'
        )
        self._marks.append(mark)

    def across(self, low: float | None, high: float | None, y: float, series: int = 0) -> None:
        """An interval along x."""
        if low is not None and high is not None:
            self.line([low, high], [y, y], f"w{series}")

    def upright(self, x: float, low: float | None, high: float | None, series: int = 0) -> None:
        """An interval along y."""
        if low is not None and high is not None:
            self.line([x, x], [low, high], f"w{series}")

    def rule(self, x: float | None = None, y: float | None = None, text: str = "") -> None:
        """A dotted line across the plot, with a text at its end."""
        if x is not None:
            self.line([x, x], [self.y.low, self.y.high], "rule")
            near_end = self.at_x(x) > (self.left + self.right) / 2
            at, anchor = self.at_x(x) + (-4 if near_end else 4), "end" if near_end else "start"
            self.text(at, self.top + 11, text, anchor=anchor)
        if y is not None:
            self.line([self.x.low, self.x.high], [y, y], "rule")
            self.text(self.right, self.at_y(y) - 4, text, anchor="end")

    def swarm(self, xs: Sequence[float], y: float, ranks: Sequence[float | None], reach: float) -> None:
        """A row of points, side by side where many lie at one place; coloured by rank (0 to 1), grey without one.

        reach: how far above and below its row the swarm may grow, in the drawing's units.
        """
        seen: dict[int, int] = {}
        offsets = []
        for x in xs:
            place = round(self.at_x(x) / 3)
            seen[place] = count = seen.get(place, 0) + 1
            offsets.append((count // 2) * (1 if count % 2 else -1))
        step = min(2.6, reach / max(max(seen.values()) // 2, 1))
        paths: dict[int, list[str]] = {}
        for x, offset, rank in zip(xs, offsets, ranks, strict=True):
            kind = 5 if rank is None else min(int(rank * 5), 4)
            paths.setdefault(kind, []).append(f"M{self.at_x(x):.1f} {self.at_y(y) + offset * step:.1f}h0")
        self._marks += [f'<path class="q{kind}" d="{"".join(path)}"/>' for kind, path in sorted(paths.items())]

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        """A text at a place of the drawing (not of the axes)."""
        if text:
            self._marks.append(
                f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
            )

    def svg(self, about: str) -> Html:
        """The drawing. about: what it shows, in words, for people who cannot see it."""
        return Html(
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(about)}">'
            f"{join(self._axes())}{join(self._marks)}</svg>"
        )

    def _axes(self) -> list[str]:
        drawn = []
        for value, text in self.x.ticks:
            at = self.at_x(value)
            if self.grid and not self.x.names:
                drawn.append(f'<path class="grid" d="M{at:.1f} {self.top}V{self.bottom:.1f}"/>')
            if self._tilted:
                drawn.append(
                    f'<text class="name" transform="translate({at + 4:.1f} {self.bottom + 12:.1f}) rotate(-45)" '
                    f'text-anchor="end">{_title(text)}{escape(shorten(text, 16))}</text>'
                )
            else:
                kind = "name" if self.x.names else ""
                drawn.append(
                    f'<text class="{kind}" x="{at:.1f}" y="{self.bottom + 16:.1f}" text-anchor="middle">'
                    f"{_title(text if self.x.names else '')}{escape(shorten(text, 16))}</text>"
                )
        for value, text in self.y.ticks:
            at = self.at_y(value)
            if self.grid:
                drawn.append(f'<path class="grid" d="M{self.left:.1f} {at:.1f}H{self.right}"/>')
            kind = "name" if self.y.names else ""
            drawn.append(
                f'<text class="{kind}" x="{self.left - 7:.1f}" y="{at + 4:.1f}" text-anchor="end">'
                f"{_title(text if self.y.names else '')}{escape(shorten(text, self._name_width))}</text>"
            )
        if self.x.label:
            middle, text = (
                (self.left + self.right) / 2,
                shorten(self.x.label, int((self.right - self.left) / CHARACTER)),
            )
            drawn.append(f'<text x="{middle:.1f}" y="{self.height - 6}" text-anchor="middle">{escape(text)}</text>')
        if self.y.label:
            middle, text = (
                (self.top + self.bottom) / 2,
                shorten(self.y.label, int((self.bottom - self.top) / CHARACTER)),
            )
            drawn.append(
                f'<text transform="translate(13 {middle:.1f}) rotate(-90)" text-anchor="middle">{escape(text)}</text>'
            )
        return drawn


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""


def legend(*entries: tuple[str, str]) -> Html:
    """Samples with their names: (class of a line, bar or mark, name)."""
    shapes = {"s": "M1 6H25", "o": "M7 6l6 -5 6 5 -6 5z", "q": "M13 6h0"}
    drawn = []
    for kind, name in entries:
        if kind == "f0":
            sample = '<circle class="f0" cx="13" cy="6" r="4.5"/>'
        elif kind[0] in shapes:
            sample = f'<path class="{kind}" d="{shapes[kind[0]]}"/>'
        else:
            sample = f'<rect class="{kind}" x="3" y="1" width="20" height="10"/>'
        drawn.append(f'<span><svg viewBox="0 0 26 12" aria-hidden="true">{sample}</svg>{escape(name)}</span>')
    return Html(f'<div class="legend">{join(drawn)}</div>')


def histogram(x: Axis, edges: Sequence[float], counts: dict[str, Sequence[int]], about: str) -> Html:
    """Bars between the edges, one set for each of one or two names, as shares of all their rows."""
    shares = {name: [count / max(sum(each), 1) for count in each] for name, each in counts.items()}
    plot = Plot(x, axis("share of rows", [0.0, *(share for each in shares.values() for share in each)]), height=280)
    for series, (name, each) in enumerate(shares.items()):
        for left, right, share, count in zip(edges, edges[1:], each, counts[name], strict=False):
            if count:
                title = f"{name}: {number(count)} rows from {number(left)} to {number(right)}"
                plot.bar(left, right, 0, share, f"b{series}", title)
    return plot.svg(about)


def matrix(rows: Axis, columns: Axis, counts: Sequence[Sequence[int]], about: str, wide: bool) -> Html:
    """Counts as cells, each as dark as its share of its row; with their numbers unless they are `wide`: too many."""
    width = 2 * WIDTH if wide else WIDTH
    plot = Plot(columns, rows, height=round(width * (0.62 if len(counts) <= 4 else 0.9)), width=width, grid=False)
    for i, line in enumerate(counts):
        for j, count in enumerate(line):
            share = count / max(sum(line), 1)
            if count or not wide:
                title = f"{rows.ticks[i][1]} → {columns.ticks[j][1]}: {number(count)} rows, {number(100 * share, 3)} %"
                plot.heat(j, i, share, title, "" if wide else number(count))
    return plot.svg(about)


def density(label: tuple[str, str], edges: Sequence[float], counts: Sequence[Sequence[int]], about: str) -> Html:
    """counts[i][j]: rows whose y lies in bin i and x in bin j; the darker the more, by the square root."""
    bins, most = len(edges) - 1, max(max(line) for line in counts)
    scale = axis("", [edges[0], edges[-1]])
    places = [
        (bins * (value - edges[0]) / (edges[-1] - edges[0]) - 0.5, text)
        for value, text in scale.ticks
        if edges[0] <= value <= edges[-1]
    ]
    x, y = (Axis(each, -0.5, bins - 0.5, tuple(places)) for each in label)
    plot = Plot(x, y, height=400)
    for i, line in enumerate(counts):
        for j, count in enumerate(line):
            if count:
                title = f"{number(count)} rows: {label[1]} about {number((edges[i] + edges[i + 1]) / 2)}, "
                title += f"{label[0]} about {number((edges[j] + edges[j + 1]) / 2)}"
                plot.heat(j, i, math.sqrt(count / max(most, 1)), title)
    plot.line([-0.5, bins - 0.5], [-0.5, bins - 0.5], "rule")
    return plot.svg(about)


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, for a row of `estimates`."""

    value: float | None
    lower: float | None = None
    upper: float | None = None

    @property
    def bounds(self) -> tuple[float | None, float | None, float | None]:
        return self.value, self.lower, self.upper


def estimates(
    names: Sequence[str],
    series: Sequence[Sequence[Estimate]],
    x: Axis,
    about: str,
    rule: float | None = None,
    rows: Sequence[int] | None = None,
) -> Html:
    """A row for each name: a dot with its interval for each of one or two series.

    rule: where all rows lie together. rows: how many there are of each name, written at the right.
    """
    right = 24 + CHARACTER * max(len(number(count)) for count in rows) if rows else 16
    plot = Plot(x, name_axis(names), height=64 + 26 * len(names), right=right)
    plot.rule(x=rule)
    for row, count in enumerate(rows or []):
        plot.text(WIDTH, plot.at_y(row) + 4, number(count), anchor="end")
    for number_of, each in enumerate(series):
        shift = 0.0 if len(series) == 1 else (number_of - 0.5) * 0.36
        for row, estimate in enumerate(each):
            if estimate.value is None:
                plot.text(plot.left + 6, plot.at_y(row + shift) + 4, "undefined")
                continue
            title = f"{names[row]}: {number(estimate.value)}"
            if estimate.lower is not None and estimate.upper is not None:
                title += f" ({number(estimate.lower)} to {number(estimate.upper)})"
            plot.across(estimate.lower, estimate.upper, row + shift, number_of)
            plot.dot(estimate.value, row + shift, number_of, title)
    return plot.svg(about)


def bars(names: Sequence[str], values: Sequence[float], label: str, about: str) -> Html:
    """A bar for each name, its value at its end."""
    longest = max(values, default=0.0)
    plot = Plot(axis(label, [0.0, longest * 1.12], ticks=5), name_axis(names), height=64 + 24 * len(names))
    for row, (name, value) in enumerate(zip(names, values, strict=True)):
        plot.bar(0, value, row - 0.32, row + 0.32, "f0", f"{name}: {number(value)}")
        plot.text(plot.at_x(value) + 5, plot.at_y(row) + 4, number(value, 3), kind="ink")
    return plot.svg(about)


def against_zero(lower: float | None, value: float | None, upper: float | None, better_is_right: bool) -> Html:
    """A difference with its interval, small, for a table's row: the middle is no difference, right is better.

    Each has a scale of its own: whether the interval reaches the middle is what it shows.
    """
    if lower is None or value is None or upper is None:
        return Html("")
    turn = 1 if better_is_right else -1
    reach = max(abs(lower), abs(upper), abs(value))
    a, b, c = (75 + 65 * turn * (each / reach if reach else 0.0) for each in (lower, value, upper))
    return Html(
        '<svg class="inline" viewBox="0 0 150 18" aria-hidden="true"><path class="rule" d="M75 1V17"/>'
        f'<path class="w0" d="M{a:.1f} 9H{c:.1f}"/><circle class="f0" cx="{b:.1f}" cy="9" r="4"/></svg>'
    )
