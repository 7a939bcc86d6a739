"""docs/proof.md shows all that was kept, and nothing that was not tried."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.proof_page import PAGE, SECTIONS, counted, page

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def kept(**more: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {section.proofs: {"tried": 1_000} for section in SECTIONS} | more


def test_what_several_tests_kept_of_one_thing_is_added_up() -> None:
    found = kept(
        fault_matrix_first={"cases": 2, "kinds": {"throttle": 1}}, fault_matrix_second={"kinds": {"throttle": 4}}
    )
    text = page(found, 1_234, 6.6, NOW)

    assert "on 2026-11-21, 1,234 tests in 7 minutes" in text
    assert "| throttle | 5 |" in text
    assert "| tried | 1,000 |" in text


def test_a_section_without_anything_tried_is_no_page() -> None:
    found = kept()
    del found["requests"]
    with pytest.raises(ValueError, match="'Requests to an endpoint' kept nothing"):
        page(found, 1, 1.0, NOW)


def test_what_no_section_shows_is_no_page() -> None:
    with pytest.raises(ValueError, match="no section shows chess"):
        page(kept(chess={"games": 1}), 1, 1.0, NOW)


def test_of_a_run_of_all_tests_only_those_of_the_page_count() -> None:
    ours, again = (f'<testcase classname="tests.local_aws.test_kill" name="{name}" time="1.5"/>' for name in "ab")
    failed = ours.replace("/>", "><failure/></testcase>")
    other = '<testcase classname="tests.test_other" name="b" time="9"><failure/></testcase>'
    report = f"<testsuites><testsuite>{failed}{again}{other}</testsuite></testsuites>"
    assert counted(report, f"<testsuite>{ours}</testsuite>") == (2, 3.0)


def test_a_page_of_tests_that_failed_is_not_written() -> None:
    case = '<testcase classname="tests.local_aws.test_kill" name="dies" time="1"><failure/></testcase>'
    with pytest.raises(ValueError, match="these tests failed: dies"):
        counted(f"<testsuite>{case}</testsuite>")


def test_the_page_that_is_there_has_every_section() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [section.title for section in SECTIONS]
