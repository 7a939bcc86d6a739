"""The pieces of the report's page: escaping, numbers as text, tables, figures, and the style sheet.

The page is one HTML text that asks for nothing: no script, no font, no picture from elsewhere. Its own content security
policy forbids them, should a name from the data ever get past the escaping.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

# What is no character of a page: controls (but tab and line ends), lone surrogates, and the marks that turn the
# direction of the text after them.
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
NOTHING = "\N{EN DASH}"
LONG = 40  # characters: longer names and values may break anywhere in a table, others only between words


class Html(str):
    """Text that is HTML already. Any other text is escaped where it enters the page."""

    __slots__ = ()


class Number(Html):
    """A number as HTML: table cells that hold one are aligned to the right."""

    __slots__ = ()


def escape(text: str) -> Html:
    return Html(html.escape(_NO_TEXT.sub("\ufffd", text)))


def show(value: Any) -> Html:
    """Any plain value as HTML; undefined (None, NaN) as a dash."""
    if isinstance(value, Html):
        return value
    if isinstance(value, bool):
        return Html("yes" if value else "no")
    if value is None or isinstance(value, int | float):
        return Number(number(value))
    text = str(value)
    return Html(f"<span class=long>{escape(text)}</span>") if len(text) > LONG else escape(text)


def number(value: float | None, digits: int = 4) -> str:
    """A number with so many significant digits; whole numbers and thousands in full, as people write them."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == int(value) and abs(value) < 1e12:
        return _minus(f"{int(value):,}")
    if not 1e-4 <= abs(value) < 1e9:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return _minus(f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}")
    if abs(value) >= 10**digits:
        return _minus(f"{value:,.0f}")
    return _minus(f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:,.{digits - 4}f}")


def apart(value: float, bound: float) -> tuple[Number, Number]:
    """Both with as many digits as it takes to see which is the greater."""
    digits = next((d for d in range(4, 17) if value == bound or number(value, d) != number(bound, d)), 17)
    return Number(number(value, digits)), Number(number(bound, digits))


def interval(value: float | None, lower: float | None, upper: float | None, sign: bool = False) -> Number:
    """`0.972 (0.968 to 0.976)`, with two digits of the interval's half width; `sign` shows a plus."""
    plus = "+" if sign and value is not None and value > 0 else ""
    if value is None or lower is None or upper is None:
        return Number(f"{plus}{number(value)}")
    half = (upper - lower) / 2
    digits = 1 - math.floor(math.log10(half)) if 0 < half < math.inf else 4
    if not 0 <= digits <= 8 or abs(value) >= 1e9:
        texts = [number(each) for each in (value, lower, upper)]
    else:
        texts = [_minus(f"{round(each, digits) + 0.0:,.{digits}f}") for each in (value, lower, upper)]  # no -0.00
    return Number(f'{plus}{texts[0]} <span class="ci">({texts[1]} to {texts[2]})</span>')


def percent(share: float | None) -> Number:
    return Number(NOTHING if share is None else f"{number(100 * share, 3)} %")


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text


def code(text: str) -> Html:
    return Html(f"<code{' class=long' if len(text) > LONG else ''}>{escape(text)}</code>")


def join(parts: Iterable[str], between: str = "") -> Html:
    return Html(between.join(parts))


def paragraph(*parts: str, kind: str = "") -> Html:
    text = join(part if isinstance(part, Html) else escape(part) for part in parts)
    return Html(f'<p class="{kind}">{text}</p>' if kind else f"<p>{text}</p>")


def absent(notes: dict[str, str], part: str, otherwise: str) -> Html:
    """Why a part is not there: the note on it, or what is true without one."""
    return paragraph(notes.get(part) or otherwise, kind="none")


def note(notes: dict[str, str], part: str) -> Html:
    """What there is to know about a part that is there."""
    return paragraph(notes[part], kind="warn") if notes.get(part) else Html("")


def bullets(texts: Sequence[Any]) -> Html:
    return Html(f"<ul>{join(f'<li>{show(text)}</li>' for text in texts)}</ul>") if texts else Html("")


def table(headers: Sequence[Any], rows: Sequence[Sequence[Any]], about: str) -> Html:
    """A table in a box of its own, within which a wide one scrolls. The first cell of a row names it.

    about: what the table holds, for people who cannot see it.
    """
    if not rows:
        return Html("")
    right = [cell is None or (isinstance(cell, int | float | Number) and cell is not True) for cell in rows[0]]
    head = join(
        f"<th scope=col{' class=n' if numeric else ''}>{show(header)}</th>"
        for header, numeric in zip(headers, right, strict=True)
    )
    body = join(
        f"<tr><th scope=row>{show(row[0])}</th>{join(_cell(show(cell)) for cell in row[1:])}</tr>\n" for row in rows
    )
    return Html(
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(about)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(content: Html) -> str:
    return f"<td{' class=n' if isinstance(content, Number) else ''}>{content}</td>"


def pairs(content: dict[str, Any], about: str) -> Html:
    """Names and values in two columns; what lies within another dict is named with dots."""
    flat = _flatten("", content) if content else ()
    return table(["name", "value"], [[code(name), Html(str(show(value)))] for name, value in flat], about)


def _flatten(path: str, value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flatten(f"{path}.{name}" if path else str(name), inner)
    elif isinstance(value, list) and not any(isinstance(each, dict | list) for each in value):
        yield path, ", ".join(map(str, value)) or NOTHING
    elif isinstance(value, list):
        yield path, json.dumps(value, ensure_ascii=False)
    else:
        yield path, (value if value not in ("", {}) else NOTHING)


def folded(summary: str, content: Html) -> Html:
    return Html(f"<details><summary>{escape(summary)}</summary>{content}</details>") if content else Html("")


def figure(title: str, plot: Html, caption: str, legend: Html | None = None, wide: bool = False) -> Html:
    """A plot with its title above and, below, one line that says how to read it."""
    drawing = Html(f'<div class="scroll" tabindex="0">{plot}</div>') if wide else plot
    return Html(
        f"<figure{' class=wide' if wide else ''}><h3>{escape(title)}</h3>{legend or ''}{drawing}"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def figures(*drawn: Html) -> Html:
    return Html(f'<div class="figures">{join(drawn)}</div>')


def tile(label: str, value: Any, note: Any = "") -> Html:
    return Html(f"<div><dt>{escape(label)}</dt><dd>{show(value)}<small>{show(note)}</small></dd></div>")


def document(title: str, header: Html, sections: Sequence[tuple[str, str, Html]], footer: Html) -> str:
    """The whole page. sections: (id, title, content) in order; the navigation lists them."""
    links = join((f'<a href="#{name}">{escape(heading)}</a>' for name, heading, _ in sections), " ")
    body = join(
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{escape(heading)}</h2>'
        f"{content}</section>\n"
        for name, heading, content in sections
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>{header}</header>
<nav aria-label="Sections">{links}</nav>
<main>
{body}</main>
<footer>{footer}</footer>
</body>
</html>
"""


# The hues are told apart with every kind of colour blindness (after Okabe and Ito's palette); text and lines keep a
# contrast of 4.5 and 3 to 1 (WCAG 2.2) in both modes. s: strokes, f: fills, h: heat (with an opacity), q: low to high.
STYLE = """
:root {
  color-scheme: light dark; --ink: #1c2128; --soft: #59636e; --line: #d5dbe1; --paper: #fff; --wash: #f5f7f9;
  --on: #fff; --c0: #0067a5; --c1: #c2500f; --c2: #00806a; --c3: #8250b8; --good: #0b7a4b; --bad: #b42318;
  --q0: #0067a5; --q1: #5872bd; --q2: #9c6db5; --q3: #cc6c86; --q4: #cf5a12;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e8ec; --soft: #a0aab4; --line: #39414a; --paper: #14181d; --wash: #1d2329; --on: #10141a;
    --c0: #62b4ee; --c1: #ff9d5c; --c2: #4fd0b2; --c3: #c8a4f6; --good: #63d297; --bad: #ff8f85;
    --q0: #4fa8ea; --q1: #8ba6ea; --q2: #c09bdc; --q3: #ec9aa8; --q4: #ff9450;
  }
}
* { box-sizing: border-box }
body {
  margin: 0 auto; max-width: 1080px; padding: 28px 24px 40px; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
  overflow-wrap: anywhere; -webkit-text-size-adjust: 100%;
}
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -.01em }
h2 { font-size: 21px; line-height: 1.3; margin: 0 0 12px }
h3 { font-size: 15px; line-height: 1.4; margin: 0 0 6px }
p { margin: 0 0 12px; max-width: 76ch }
ul { margin: 0 0 12px; padding-left: 20px; max-width: 76ch }
code { font: .86em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace }
small, figcaption, .soft, .ci, nav, footer { color: var(--soft) }
.lead { font-size: 17px; color: var(--soft); margin: 0 0 4px }
.facts { font-size: 14px; color: var(--soft); margin: 0 0 20px; max-width: none }
.verdict {
  border: 1px solid var(--line); border-left: 6px solid var(--mark); border-radius: 6px;
  background: var(--wash); padding: 16px 20px 8px; margin: 0 0 20px;
}
.verdict.pass { --mark: var(--good) }
.verdict.fail { --mark: var(--bad) }
.verdict strong { display: block; font-size: 22px; line-height: 1.3; color: var(--mark); margin: 0 0 6px }
.pass-word { color: var(--good); font-weight: 600; white-space: nowrap }
.fail-word { color: var(--bad); font-weight: 600; white-space: nowrap }
.none { color: var(--soft); border-left: 3px solid var(--line); padding-left: 12px }
.warn { border-left: 3px solid var(--c1); padding-left: 12px }
.warn ul { padding-left: 16px }
.tiles {
  display: grid; grid-template-columns: repeat(auto-fit,minmax(130px,1fr)); gap: 12px 20px; margin: 0 0 20px;
}
.tiles dt { font-size: 13px; color: var(--soft) }
.tiles dd {
  margin: 0; font-size: 24px; line-height: 1.3; font-weight: 600; font-variant-numeric: tabular-nums;
}
.tiles small, .tiles .ci { display: block; font-size: 13px; line-height: 1.4; font-weight: 400 }
nav {
  display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 14px; padding: 10px 0; border: solid var(--line);
  border-width: 1px 0;
}
a { color: var(--c0) }
nav a { text-decoration: none }
a:hover { text-decoration: underline }
section { padding: 28px 0 4px }
section + section { border-top: 1px solid var(--line) }
.scroll { overflow-x: auto; margin: 0 0 16px }
table {
  border-collapse: collapse; font-size: 14px; line-height: 1.45; font-variant-numeric: tabular-nums;
  overflow-wrap: normal;
}
th, td {
  text-align: left; font-weight: 400; padding: 6px 15px 6px 0; border-bottom: 1px solid var(--line);
  vertical-align: top;
}
thead th { color: var(--soft); font-size: 13px; vertical-align: bottom }
table .long { display: inline-block; min-width: 24ch; max-width: 62ch; overflow-wrap: anywhere }
.n { text-align: right; white-space: nowrap }
.ci { font-size: .92em }
details { margin: 0 0 16px }
summary { cursor: pointer; font-size: 14px; color: var(--c0); padding: 4px 0; margin: 0 0 6px }
.figures {
  display: grid; grid-template-columns: repeat(auto-fit,minmax(min(100%,400px),1fr)); gap: 28px 40px;
  margin: 0 0 20px; align-items: start;
}
.figures > * { min-width: 0 }
figure { margin: 0; max-width: 520px }
figure.wide { max-width: 800px; grid-column: 1/-1 }
figcaption { font-size: 13px; line-height: 1.45; margin: 6px 0 0 }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 13px; margin: 0 0 4px }
.legend span { display: inline-flex; align-items: center; gap: 6px; min-width: 0 }
.legend svg { width: 26px; height: 12px; flex: none }
svg { display: block; width: 100%; height: auto; overflow: visible }
svg.inline { width: 150px; height: 18px }
.wide svg { min-width: 600px }
svg text { font-size: 12px; fill: var(--soft) }
svg text.name { fill: var(--ink) }
svg text.ink { fill: var(--ink) }
svg text.on { fill: var(--on) }
.grid { stroke: var(--line); stroke-width: 1 }
.rule { stroke: var(--soft); stroke-width: 1.2; stroke-dasharray: 3 3; fill: none }
.s0, .s1, .s2, .s3 { fill: none; stroke-width: 2; stroke-linejoin: round }
.s0 { stroke: var(--c0) }
.s1 { stroke: var(--c1); stroke-dasharray: 6 3 }
.s2 { stroke: var(--c2); stroke-dasharray: 2 3 }
.s3 { stroke: var(--c3); stroke-dasharray: 9 3 2 3 }
.w0, .w1 { stroke-width: 1.6 }
.w0 { stroke: var(--c0) }
.w1 { stroke: var(--c1) }
.f0 { fill: var(--c0) }
.f1 { fill: var(--c1) }
.f2 { fill: var(--c2) }
.f3 { fill: var(--c3) }
.o1 { fill: var(--paper); stroke: var(--c1); stroke-width: 2 }
.b0 { fill: var(--c0); fill-opacity: .55; stroke: var(--c0) }
.b1 { fill: var(--c1); fill-opacity: .25; stroke: var(--c1); stroke-dasharray: 4 2 }
.h { fill: var(--c0) }
.light { fill: var(--c0); fill-opacity: .18 }
.mid { fill: var(--c0); fill-opacity: .42 }
.q0, .q1, .q2, .q3, .q4, .q5 { fill: none; stroke-width: 4.4; stroke-linecap: round; stroke-opacity: .85 }
.q0 { stroke: var(--q0) }
.q1 { stroke: var(--q1) }
.q2 { stroke: var(--q2) }
.q3 { stroke: var(--q3) }
.q4 { stroke: var(--q4) }
.q5 { stroke: var(--soft); stroke-opacity: .45 }
.legend path[class^=q] { stroke-width: 10 }
footer { border-top: 1px solid var(--line); padding: 14px 0 0; font-size: 13px }
@media (max-width: 520px) {
  body { padding: 20px 16px 32px }
  h1 { font-size: 25px }
  .verdict { padding: 14px 14px 4px }
  .verdict strong { font-size: 19px }
  th, td { padding-right: 14px }
  table { width: max-content }
  tbody th small, .n .ci { display: block }
}
@page { size: A4; margin: 14mm }
@media print {
  :root { color-scheme: light }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact }
  body { max-width: none; padding: 0; font-size: 10.5pt }
  nav { display: none }
  figure, .verdict, tr, .tiles { break-inside: avoid }
  h2, h3, thead { break-after: avoid }
  details:not([open]) { display: none }
  .scroll { overflow: visible }
  table { font-size: 8.5pt; width: auto; max-width: 100% }
  th, td { padding: 3px 9px 3px 0 }
  .n .ci { display: block }
  svg.inline { width: 90px }
  .tiles { grid-template-columns: repeat(5,1fr) }
  .wide svg { min-width: 0 }
  .figures { grid-template-columns: 1fr 1fr; gap: 20px 28px }
  p, ul { max-width: none }
  section { padding: 16px 0 0 }
}
"""
