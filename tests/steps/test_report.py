"""The report as text: what stands in it, whatever the findings are, and that nothing in them becomes markup."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import plots
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page import STYLE, Html, apart, escape, interval, number, table
from report import MEANINGS, render

from tests.steps.report_findings import NAMES, PARTS, Findings, findings, multiclass, slice_of, undefined

pytestmark = pytest.mark.slow  # make test has fifteen minutes

SECTIONS = [
    *("decision", "comparison", "metrics", "predictions", "explanations", "slices"),
    *("fairness", "operation", "training", "data", "settings", "lineage"),
]
PROBLEM_TYPES = list(PARTS)
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


class Content(HTMLParser):
    """A page's tags and its text; an end that no open tag waits for is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _, attributes in self.tags if "id" in attributes]


def one_class() -> Findings:
    """A test part in which every row is of the positive class."""
    found = findings("binary_classification")
    gone = dict.fromkeys(("roc", "precision_recall", "serving_roc", "serving_precision_recall"))
    counts = {"no": [0] * 20, "yes": found["binary"]["scores"]["counts"]["yes"]}
    thresholds = [{**each, "precision": None, "f1": None} for each in found["binary"]["thresholds"]]
    changed = {"scores": {"edges": found["binary"]["scores"]["edges"], "counts": counts}, "thresholds": thresholds}
    changed["confusion"] = {"classes": ["no", "yes"], "counts": [[0, 0], [3, 17]]}
    return found | {"binary": {**found["binary"], **gone, **changed, "costs": None}}


def one_row() -> Findings:
    """A regression with a single test row: every bin is empty but one, every interval undefined."""
    found = undefined(findings("regression"))
    edges = [place / 40 for place in range(41)]
    counts = [[1 if i == j == 20 else 0 for j in range(40)] for i in range(40)]
    spread = dict.fromkeys(("lower", "upper", "mean", "p05", "p25", "p50", "p75", "p95"), 0.5)
    summary = {"min": 0.5, "max": 0.5, "mean": 0.5, "std": None}
    regression = {
        "predicted_actual": {"edges": edges, "counts": counts},
        "residuals": {"edges": edges, "counts": counts[20]},
        "by_prediction": [{**spread, "rows": 1}],
        "error_quantiles": [{"quantile": 0.5, "error": 0.0, "absolute_error": 0.0}],
        "actual": summary,
        "predicted": summary,
    }
    return found | {"rows": 1, "regression": regression}


def incomparable() -> Findings:
    found = findings("binary_classification")
    gone = {"comparable": False, "reason": "it needs the column 'age'", "metrics": [], "differences": []}
    return found | {"serving": {**found["serving"], **gone, "worse_by": None}}


def many() -> Findings:
    """200 columns, all of them sliced, and 1,000 classes."""
    columns = [f"column_{place:03}_{'long' * (place % 20)}" for place in range(200)]
    found = findings("multiclass_classification", columns, [f"class {place}" for place in range(1000)])
    values = [f"value {place}" for place in range(21)]
    return found | {"slices": [slice_of(column, values, NAMES["multiclass_classification"]) for column in columns]}


CASES: dict[str, Callable[[], Findings]] = {
    **{problem_type: functools.partial(findings, problem_type) for problem_type in PROBLEM_TYPES},
    **{f"undefined {each}": functools.partial(undefined, findings(each)) for each in PROBLEM_TYPES},
    "one class": one_class,
    "one row": one_row,
    "incomparable": incomparable,
    "many": many,
}


@pytest.mark.parametrize("case", CASES)
def test_every_section_is_there_and_in_order_whatever_is_undefined(case: str) -> None:
    content = Content(render(CASES[case]()))
    ids = content.ids()
    assert [each for each in ids if each in SECTIONS] == SECTIONS
    assert len(ids) == len(set(ids))
    linked = [attributes["href"] for tag, attributes in content.tags if tag == "a"]
    assert linked == [f"#{name}" for name in SECTIONS]


@pytest.mark.parametrize("case", CASES)
def test_no_undefined_number_reaches_a_drawing_or_the_text(case: str) -> None:
    content = Content(render(CASES[case]()))
    drawn = [value for _, attributes in content.tags for name, value in attributes.items() if name != "aria-label"]
    assert not [value for value in drawn if value and re.search(r"\b(nan|inf|None)\b", value)]
    assert not re.search(r"\b(nan|inf|None)\b", content.text.split("</style>")[-1])


@pytest.mark.parametrize(
    ("problem_type", "drawn"),
    [
        (
            "binary_classification",
            {
                *("ROC curve", "Precision and recall", "Calibration", "Predicted probabilities by true class"),
                *("Confusion matrix at 0.5", "Choosing a threshold", "Cost of wrong answers"),
                *("Strength of each column", "SHAP values row by row", "Learning curve", "Metrics between 0 and 1"),
                *("country", "Selection rate, yes", "True positive rate, yes"),
            },
        ),
        (
            "multiclass_classification",
            {
                *("Confusion matrix", "Recall by class", "Calibration", "Strength of each column", "Learning curve"),
                *("Metrics between 0 and 1", "country", "Selection rate, premium", "True positive rate, premium"),
            },
        ),
        (
            "regression",
            {
                *("Predicted against actual", "Residuals", "Residuals by prediction", "Absolute error", "country"),
                *("Strength of each column", "SHAP values row by row", "Learning curve"),
            },
        ),
    ],
)
def test_each_problem_type_has_its_plots(problem_type: str, drawn: set[str]) -> None:
    page = render(findings(problem_type))
    titled = re.findall(r"<figure[^>]*><h3>([^<]*)</h3>", page)
    assert set(titled) == drawn
    assert (
        len(titled)
        == len(re.findall('role="img"', page))
        == len(re.findall("<figcaption>[^<]{20,}</figcaption>", page))
    )


def test_the_decision_says_every_number_that_decided() -> None:
    found = findings("binary_classification")
    found["gate"]["checks"].append(
        {"name": "recall", "kind": "condition", "value": 0.79999, "relation": "at least", "bound": 0.8, "passed": False}
    )
    found["gate"] |= {"passed": False, "decision": "the model fails 1 of 6"}
    page = render(found)
    decision = page[page.index('id="decision"') : page.index('id="comparison"')]
    for text in ("Failed: this version is not registered", "The model fails 1 of 6", "0.79999", "not met", "at least"):
        assert text in decision
    assert decision.count("✓ met") == 5


def test_the_comparison_shows_both_versions_the_difference_and_what_it_means() -> None:
    page = render(findings("regression"))
    comparison = page[page.index('id="comparison"') : page.index('id="metrics"')]
    for text in ("model-package/churn-prod/3", "split differently", "✓ better", "✗ worse", "undecided"):
        assert text in comparison
    # rmse is an error: a smaller one is better, and lies right of the middle of its sketch
    assert "\N{MINUS SIGN}0.0080 " in comparison
    better = re.search(r'<circle class="f0" cx="([0-9.]+)"', comparison)
    assert better is not None
    assert float(better[1]) > 75


def test_parts_that_are_not_there_say_why() -> None:
    found = undefined(findings("binary_classification")) | {"notes": {"explanations": "the model is an old one"}}
    text = Content(render(found)).text
    for reason in (
        "No version serves yet",
        "the model is an old one",
        "evaluate.slices",
        "evaluate.fairness",
        "The training job gave no curve",
        "No summary of the data",
    ):
        assert reason in text
    assert "it needs the column 'age'" in Content(render(incomparable())).text


def test_every_metric_of_the_problem_types_is_explained() -> None:
    assert {name for names in NAMES.values() for name in names} <= set(MEANINGS)


EVIL = [
    "<script>alert(1)</script>",
    "\"' onload=alert(1) x='",
    "</style></title><img src=x onerror=alert(1)>",
    "]]><svg/onload=alert(1)>",
    "&lt;b&gt; {{ 7 * 7 }} %s",
    "x" * 5000,
    "日本語の列" * 30,
    "\u202egnp.exe\x00\x1b[31m\ud800",
    "",
]


def poison(value: Any, evil: str) -> Any:
    """Every text that people or their data could have written is this one."""
    if isinstance(value, dict):
        fixed = {"problem_type", "created", "relation", "kind"}
        return {name: inner if name in fixed else poison(inner, evil) for name, inner in value.items()}
    if isinstance(value, list):
        return [poison(inner, evil) for inner in value]
    return evil if isinstance(value, str) else value


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize("problem_type", PROBLEM_TYPES)
def test_no_text_from_the_data_becomes_markup(problem_type: str, evil: str) -> None:
    found = poison(findings(problem_type), evil)
    found["summary"]["columns"] = {evil: found["summary"]["target"]}
    found["summary"]["split"] = {evil: {evil: evil}}
    found["settings"] = {evil: {evil: [evil, evil]}}
    if found["binary"]:
        found["binary"]["scores"]["counts"] = {evil: [1] * 20, f"{evil} ": [2] * 20}
    page = render(found)
    page.encode()
    clean = Content(render(findings(problem_type)))
    content = Content(page)
    assert {tag for tag, _ in content.tags} <= {tag for tag, _ in clean.tags}
    assert {name for _, each in content.tags for name in each} <= {name for _, each in clean.tags for name in each}
    assert (
        evil[:3000]
        .replace("\x00", "\ufffd")
        .replace("\x1b", "\ufffd")
        .replace("\ud800", "\ufffd")
        .replace("\u202e", "\ufffd")
        in content.text
    )


def test_the_page_asks_for_nothing() -> None:
    content = Content(render(findings("binary_classification")))
    assert not {"script", "img", "iframe", "object", "video", "form"} & {tag for tag, _ in content.tags}
    asked = [value for _, each in content.tags for name, value in each.items() if name in ("src", "href", "xlink:href")]
    assert all(value.startswith("#") or value == "data:," for value in asked if value is not None)
    assert "url(" not in STYLE
    assert "@import" not in STYLE


def test_rendering_leaves_the_findings_as_they_are() -> None:
    found = findings("binary_classification")
    before = copy.deepcopy(found)
    assert render(found) == render(before)
    assert found == before


def test_a_report_of_200_sliced_columns_and_1000_classes_stays_below_5_mb() -> None:
    assert len(render(many()).encode()) < 5_000_000


def test_beyond_20_classes_the_plots_show_the_most_frequent_and_say_so() -> None:
    text = Content(render(many())).text
    assert "The 20 classes with most rows" in text
    assert "The 100 classes with most rows of 1,000" in text
    assert "The 20 strongest of 200 columns" in text


def test_the_data_section_shows_rows_classes_columns_and_warnings() -> None:
    page = render(findings("binary_classification"))
    text = page[page.index('id="data"') : page.index('id="settings"')]
    for shown in (
        "100,000",
        "duplicates",
        "cp1252",
        "2 more warnings",
        "50 %",
        "DE (900)",
        "about 97",
        "2020-01-01",
        "empty",
    ):
        assert shown in text


def test_the_learning_curve_is_drawn_through_what_was_measured() -> None:
    """train.py measures the training part every tenth round, and repeats the value until the next."""
    found = findings("binary_classification")
    found["training"]["train"] = [0.6 - each // 10 / 100 for each in range(100)]
    page = render(found)
    section = page[page.index('id="training"') : page.index('id="data"')]
    drawn = re.findall(r'<path class="(s[01])" d="([^"]*)"', section[section.index('role="img"') :])
    points = {kind: path.count("L") + 1 for kind, path in drawn}
    assert points == {"s1": 11, "s0": 100}


def test_a_class_that_is_in_no_test_row_is_said_to_be_undefined() -> None:
    found = findings("multiclass_classification")
    per_class = multiclass(["basic", "plus", "premium"])["per_class"]
    per_class[2] |= dict.fromkeys(("precision", "recall", "recall_lower", "recall_upper", "f1"), None)
    page = render(found | {"multiclass": {**found["multiclass"], "per_class": per_class}})
    assert ">undefined</text>" in page


# Numbers


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *((0, "0"), (5.0, "5"), (20000, "20,000"), (-3, "−3"), (0.97234, "0.9723"), (12.3456, "12.35")),
        *((1234.5678, "1,235"), (1e-7, "1e-7"), (1.5e12, "1.5e12"), (1e38, "1e38"), (-2.5e-9, "−2.5e-9")),
        *((None, "–"), (float("nan"), "–"), (float("inf"), "–"), (True, "1"), (0.00012, "0.00012")),
    ],
)
def test_numbers_are_written_as_people_do(value: float | None, shown: str) -> None:
    assert number(value) == shown


@given(FINITE)
def test_a_number_keeps_its_four_leading_digits(value: float) -> None:
    read = float(number(value).replace("−", "-").replace(",", ""))
    assert read == pytest.approx(value, rel=6e-4)


@given(FINITE, FINITE)
def test_a_value_and_its_bound_look_different_unless_they_are_equal(value: float, bound: float) -> None:
    left, right = apart(value, bound)
    assert (left == right) == (value == bound)


def test_intervals_are_written_with_two_digits_of_their_half_width() -> None:
    assert interval(0.97234, 0.96812, 0.97651).startswith("0.9723 <")
    assert "(0.9681 to 0.9765)" in interval(0.97234, 0.96812, 0.97651)
    assert interval(1234.6, 1200, 1260).startswith("1,235 <")
    assert interval(0.5, None, None) == "0.5"
    assert interval(-0.0004, -0.014, 0.013).startswith("0.000 <")
    assert interval(0.25, 0.1, 0.4, sign=True).startswith("+0.25")


def test_only_html_enters_the_page_as_it_is() -> None:
    made = table(["<i>"], [[Html("<b>1</b>")], ["<b>2</b>"]], 'a "table"')
    assert "&lt;i&gt;" in made
    assert "<b>1</b>" in made
    assert "&lt;b&gt;2&lt;/b&gt;" in made
    assert 'aria-label="a &quot;table&quot;"' in made


# Plots


@given(st.lists(st.one_of(st.none(), FINITE), max_size=20))
def test_an_axis_holds_its_values_between_few_ticks_at_round_numbers(values: list[float | None]) -> None:
    made = plots.axis("x", values)
    known = [value for value in values if value is not None]
    assert made.low < made.high
    assert all(made.low <= value <= made.high for value in known)
    assert 1 <= len(made.ticks) <= 12
    assert all(made.low <= tick <= made.high for tick, _ in made.ticks)


@given(st.lists(st.tuples(FINITE, st.one_of(st.none(), FINITE)), min_size=1, max_size=20))
def test_every_mark_lies_within_its_plot(points: list[tuple[float, float | None]]) -> None:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    plot = plots.Plot(plots.axis("x", xs), plots.axis("y", ys))
    plot.line(xs, ys)
    path = re.search(r'class="s0" d="([^"]*)"', plot.svg("a line"))
    assert path is not None
    places = [float(each) for each in re.findall(r"[0-9.]+", path[1])]
    assert all(plot.left - 0.1 <= x <= plot.right + 0.1 for x in places[::2])
    assert all(plot.top - 0.1 <= y <= plot.bottom + 0.1 for y in places[1::2])


@given(st.text(max_size=300), st.integers(3, 40))
def test_a_shortened_name_fits_and_keeps_both_ends(name: str, width: int) -> None:
    short = plots.shorten(name, width)
    if short != name.replace("\n", " "):
        head, _, tail = short.partition("…")
        assert name.replace("\n", " ").startswith(head)
        assert name.replace("\n", " ").endswith(tail)
    assert plots._columns(short) <= width


def test_swarms_draw_a_dot_for_every_row() -> None:
    plot = plots.Plot(plots.axis("", [-1, 1]), plots.name_axis(["a"]))
    plot.swarm([0.0] * 400 + [0.5] * 100, 0, [None, *(each / 498 for each in range(499))], reach=10)
    drawn = plot.svg("")
    assert drawn.count("h0") == 500
    heights = [float(each) for each in re.findall(r"M[0-9.]+ ([0-9.]+)h0", drawn)]
    assert max(heights) - min(heights) <= 20.1


# Colours


def relative_luminance(colour: str) -> float:
    """Of a #rrggbb or #rgb colour (WCAG 2.2, relative luminance)."""
    digits = colour.lstrip("#")
    digits = "".join(each * 2 for each in digits) if len(digits) == 3 else digits
    parts = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_text_and_lines_have_the_contrast_that_people_need(mode: int) -> None:
    roots = re.findall(r":root \{([^}]*--ink[^}]*)\}", STYLE)
    colours = dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]+)", roots[mode]))
    for name, least in {"ink": 7, "soft": 4.5, "good": 4.5, "bad": 4.5, "c0": 4.5, "c1": 3, "c2": 3, "c3": 3}.items():
        for ground in ("paper", "wash"):
            levels = sorted(relative_luminance(colours[each]) for each in (name, ground))
            assert (levels[1] + 0.05) / (levels[0] + 0.05) >= least, f"{name} on {ground}"


def test_escape_marks_what_is_no_text() -> None:
    assert escape("a\x00b\ud800c\u202ed<") == "a\ufffdb\ufffdc\ufffdd&lt;"
