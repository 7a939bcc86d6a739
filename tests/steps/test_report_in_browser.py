"""The report as people see it: opened in headless Chromium, wide and on a phone, light and dark, and printed."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from report import render

from tests.steps.browser import Page, find_browser, open_browser
from tests.steps.report_findings import NAMES, PARTS, Findings, findings, slice_of, undefined

BROWSER = find_browser()
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome on the PATH")
PHONE, DESK = 360, 1200
# What is left of an A4 page within its margins of 14 mm, at 96 pixels an inch.
PAPER_WIDTH, PAPER_HEIGHT = round((210 - 28) / 25.4 * 96), round((297 - 28) / 25.4 * 96)


def awkward() -> Findings:
    """200 columns with long names, 1,000 classes, names without a place to break."""
    columns = [f"{'column' * (place % 30)}_{place}" for place in range(200)]
    classes = [f"{'クラス' * (place % 9)} {place} <b>" for place in range(1000)]
    found = findings("multiclass_classification", columns, classes)
    found |= {"description": "W" * 500, "project": "p" * 32, "target": "target" * 40}
    found["lineage"]["data_uri"] = "s3://bucket/" + "folder/" * 60
    return found | {"slices": [slice_of("slice" * 40, ["v" * 300, "'\"<&>", ""], NAMES["multiclass_classification"])]}


CASES: dict[str, Callable[[], Findings]] = {
    "binary": lambda: findings("binary_classification"),
    "multiclass": lambda: findings("multiclass_classification"),
    "regression": lambda: findings("regression"),
    "undefined": lambda: undefined(findings("regression")),
    "awkward": awkward,
}
SIZES = """[...document.querySelectorAll('svg')].map(svg => {
  const box = svg.getBoundingClientRect(); return [box.width, box.height]})"""
# Texts that reach out of their drawing, with one drawing unit of mercy.
CUT_TEXTS = """[...document.querySelectorAll('svg[role=img]')].flatMap(svg => {
  const all = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter(text => { const box = text.getBoundingClientRect();
    return box.left < all.left - 1 || box.right > all.right + 1 || box.top < all.top - 1 || box.bottom > all.bottom + 1
  }).map(text => text.textContent)})"""
FIGURE_HEIGHTS = "[...document.querySelectorAll('figure')].map(figure => figure.getBoundingClientRect().height)"
WIDTH = "document.documentElement.scrollWidth"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    assert BROWSER is not None
    with open_browser(BROWSER) as opened:
        yield opened


@pytest.fixture(scope="module", params=CASES)
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(render(CASES[request.param]()), encoding="utf-8")
    return file


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_it_opens_without_a_complaint_and_asks_for_nothing_but_itself(page: Page, report: Path, width: int) -> None:
    page.open(report, width)
    assert page.complaints() == []
    assert page.requests() == [report.as_uri()]


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_every_plot_is_there_and_nothing_reaches_beyond_the_window(page: Page, report: Path, width: int) -> None:
    page.open(report, width)
    sizes = page.evaluate(SIZES)
    assert all(across > 20 and down > 10 for across, down in sizes)
    assert len(sizes) == report.read_text(encoding="utf-8").count("<svg ")
    assert page.evaluate(WIDTH) <= width


def test_no_text_of_a_plot_is_cut(page: Page, report: Path) -> None:
    assert page.open(report, DESK).evaluate(CUT_TEXTS) == []


def test_dark_mode_is_dark_and_the_light_one_light(page: Page, report: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.open(report, DESK).evaluate(ground) == "rgb(255, 255, 255)"
    assert page.open(report, DESK, dark=True).evaluate(ground) == "rgb(20, 24, 29)"


def test_printed_it_is_light_no_plot_is_cut_and_none_is_wider_than_the_paper(page: Page, report: Path) -> None:
    page.open(report, PAPER_WIDTH, dark=True)
    page.call("Emulation.setEmulatedMedia", media="print", features=[])
    assert page.evaluate(WIDTH) <= PAPER_WIDTH
    assert all(height <= PAPER_HEIGHT for height in page.evaluate(FIGURE_HEIGHTS))
    breaks = "[...document.querySelectorAll('figure')].map(each => getComputedStyle(each).breakInside)"
    assert set(page.evaluate(breaks)) <= {"avoid"}
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(28, 33, 40)"
    printed: dict[str, Any] = page.call("Page.printToPDF", preferCSSPageSize=True)
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")


def test_every_problem_type_is_opened() -> None:
    assert {found["problem_type"] for found in (make() for make in CASES.values())} == set(PARTS)
