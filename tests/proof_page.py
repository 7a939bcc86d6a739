"""docs/proof.md: what was tried against the platform and local_aws, how often, and what came out.

`make proof` runs the tests that try it, each of which keeps what it found (tests/proof.py), and writes the page. Of a
run of all tests that kept it (`PROOF_FOLDER=kept make test-all PARALLEL='... --junitxml=report.xml'`) the page is
written by `python -m tests.proof_page kept report.xml`; of a test that a further report has as well, that counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests import proof

CHECKOUT = Path(__file__).resolve().parents[1]
PAGE = CHECKOUT / "docs" / "proof.md"
# Tests that share nothing are shared out one by one; the others file by file, since a file's tests share a server.
ALONE = (
    "tests/lifecycle_lambdas/test_fault_matrix.py",
    "tests/lifecycle_lambdas/test_interleavings.py",
    "tests/lifecycle_lambdas/test_cleaning_faults.py",
    "tests/seed_lambda/test_fault_matrix.py",
)
BY_FILE = (
    "tests/story/test_faults.py",
    "tests/story/test_deploy.py",
    "tests/story/test_story.py",
    "tests/story/test_cleaning.py",
    "tests/story/test_endpoint_tests.py",
    "tests/local_aws/test_kill.py",
    "tests/steps/test_fuzzed_requests.py",
    "tests/lifecycle_lambdas/test_fuzzed_input.py",
    "tests/local_aws/test_hostile_input.py",
)
INTRODUCTION = """\
# What was tried, and what came out

Tried on {day}, {tests} tests in {minutes:.0f} minutes, added up; none failed. `make proof` tries it again. Each section
names the test that tries it; `make test-all` runs them all, `make test` a sample. What only AWS itself can tell is in
[unverified.md](unverified.md).
"""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        title: its heading.
        text: what was tried, and what must come out; says where the test is.
        proofs: names of what was kept, by prefix; several with the same counts are added up.
    """

    title: str
    text: str
    proofs: str


SECTIONS = (
    Section(
        "Every permission is needed",
        "IAM is enforced in `tests/story/test_deploy.py` (the platform's roles: every kind of deployment), "
        "`test_cleaning.py` and `test_endpoint_tests.py` beside it (the roles of these functions), and "
        "`tests/story/test_story.py` (a project's): nothing is denied. Then each action that a policy grants is taken "
        "away, and the recorded questions are asked again: one of them is denied, or the action is in "
        "`servicecatalog/unused_permissions.yaml` with the reason why it is granted all the same.",
        "permissions",
    ),
    Section(
        "The controller under faults",
        "`tests/lifecycle_lambdas/test_fault_matrix.py`: in every way that a deployment goes, every AWS call that the "
        "functions make fails once, is throttled once, times out once (done or not done), is answered late once, and "
        "the function is killed before and after it. What served before serves on, the end is that of a run without "
        "the fault, nothing is orphaned, no event is lost. `tests/story/test_faults.py` does some of it through "
        "local_aws.",
        "fault_matrix",
    ),
    Section(
        "Cleaning up and parking under faults",
        "`tests/lifecycle_lambdas/test_cleaning_faults.py`: the same with every call of a run that cleans up a project "
        "or parks its endpoint (at an hour, after hours without a request), the controller's looks in between. What "
        "was to go goes, and nothing else; what served serves on, and nothing else is ever deployed.",
        "cleaning",
    ),
    Section(
        "Interleavings",
        "`tests/lifecycle_lambdas/test_interleavings.py`: approvals, rejections, going back, parking, alarms, changes "
        "by hand and looks in random orders (property-based), against the ledger's rules: all converge. "
        "`tests/story/test_faults.py` drives some of them through local_aws, with real endpoints.",
        "interleavings",
    ),
    Section(
        "Creating and deleting projects under faults",
        "`tests/seed_lambda/test_fault_matrix.py`: in creating, updating and deleting a project on CodeCommit and on "
        "GitHub every call to AWS and to the host fails once (done or not done), is throttled once and loses its "
        "answer once, and the function is killed after it. After Lambda's retries or CloudFormation's roll-back there "
        "is all or nothing of the project, never a second repository, and nothing of anybody else's was touched. From "
        "each call on the host fails until somebody puts it right, too (a limit, no connection, credentials that it "
        "refuses): an update is taken back all the same, and what a creation left goes when it is deleted again. "
        "`tests/story/test_project_faults.py` does some of it through local_aws.",
        "seed_fault_matrix",
    ),
    Section(
        "Requests to an endpoint",
        "`tests/steps/test_fuzzed_requests.py`: right and spoilt requests in every content type, to an endpoint of two "
        "variants. Each is answered by the variant that was asked, with exactly the prediction that training's own "
        "transformation and the model give for its rows, or refused with a 4xx that says why; no answer holds a stack "
        'trace, a path or a secret. "Refused by the image": a body that is no UTF-8, which the image\'s server decodes '
        "before our code has it.",
        "requests",
    ),
    Section(
        "Stage files",
        "`tests/lifecycle_lambdas/test_fuzzed_input.py`: spoilt and hostile YAML (bombs of aliases, deep nesting, tags "
        "that call Python) is read as what it says, or refused with field, fault and remedy, in little memory.",
        "stage_files",
    ),
    Section("Messages of the queue", "The same file: events with values replaced, taken away or put in.", "events"),
    Section(
        "The chat",
        "The same file: whatever the webhook answers (redirects, junk, nothing), the message is posted or comes again; "
        "its URL is in no error and no log.",
        "chat",
    ),
    Section(
        "HTTP",
        "`tests/local_aws/test_hostile_input.py`: malformed requests on both ports; after them the server answers. The "
        "same file has huge bodies, tricks in names and keys, and hostile archives.",
        "http",
    ),
    Section(
        "Kill -9",
        "`tests/local_aws/test_kill.py`: under load the server is killed at random moments and started again with its "
        "state: every version, object, endpoint, row, message and event that a client had been told of is there.",
        "kill",
    ),
)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="proof-") as folder:
        tests, seconds = 0, 0.0
        found, report = Path(folder, "found"), Path(folder, "junit.xml")
        for options in (["--dist", "load", *ALONE], ["--dist", "loadfile", "--no-loadscope-reorder", *BY_FILE]):
            command = [sys.executable, "-m", "pytest", "-q", "-n", "auto", f"--junitxml={report}", *options]
            environment = os.environ | {proof.FOLDER: str(found)}
            ended = subprocess.run(command, cwd=CHECKOUT, env=environment, check=False)
            if ended.returncode:
                print(f"The page is not written: some tests failed (exit code {ended.returncode}).", file=sys.stderr)
                return ended.returncode
            of_run = counted(report.read_text())
            tests, seconds = tests + of_run[0], seconds + of_run[1]
        write(found, tests, seconds)
    return 0


def of_all_tests(found: Path, reports: Sequence[Path]) -> int:
    """Write the page of what a run of all tests kept.

    Args:
        found: the folder that it was given as PROOF_FOLDER.
        reports: the run's junit.xml, and those of tests that ran again.
    """
    try:
        write(found, *counted(*(report.read_text() for report in reports)))
    except (OSError, ValueError) as error:
        print(f"The page is not written: {error}", file=sys.stderr)
        return 1
    return 0


def counted(*reports: str) -> tuple[int, float]:
    """How many tests are of the files whose page this is, and how many seconds they took; the last run of each counts.

    Raises:
        ValueError: one of them failed.
    """
    modules = {file.removesuffix(".py").replace("/", ".") for file in (*ALONE, *BY_FILE)}
    cases = {
        (case.get("classname"), case.get("name")): case
        for report in reports
        for case in ElementTree.fromstring(report).iter("testcase")
        if case.get("classname") in modules
    }
    if failed := [str(name) for (_, name), case in cases.items() if {one.tag for one in case} & {"failure", "error"}]:
        raise ValueError(f"these tests failed: {', '.join(failed)}")
    return len(cases), sum(float(case.get("time", 0)) for case in cases.values())


def write(found: Path, tests: int, seconds: float) -> None:
    """Raises ValueError as page() does."""
    kept = {path.stem: json.loads(path.read_text()) for path in sorted(found.glob("*.json"))}
    PAGE.write_text(page(kept, tests, seconds / 60, datetime.now(UTC)), encoding="utf-8")
    print(f"{PAGE.relative_to(CHECKOUT)} is written.")


def page(kept: dict[str, dict[str, Any]], tests: int, minutes: float, now: datetime) -> str:
    """The page's text.

    Args:
        kept: what the tests kept, by name.
        tests: how many there were.
        minutes: that they took, added up.

    Raises:
        ValueError: a section's tests kept nothing, or something was kept that no section shows.
    """
    parts = [INTRODUCTION.format(day=f"{now:%Y-%m-%d}", tests=f"{tests:,}", minutes=minutes)]
    shown: set[str] = set()
    for section in SECTIONS:
        names = [name for name in kept if name.startswith(section.proofs)]
        if not names:
            raise ValueError(f"the tests of {section.title!r} kept nothing")
        shown.update(names)
        parts.append(f"## {section.title}\n\n{_wrapped(section.text)}\n\n{_tables([kept[name] for name in names])}")
    if unknown := sorted(set(kept) - shown):
        raise ValueError(f"no section shows {', '.join(unknown)}")
    return "\n".join(parts)


def _tables(found: list[dict[str, Any]]) -> str:
    """The single counts as one table, each group of counts as one of its own."""
    single: Counter[str] = Counter()
    groups: dict[str, Counter[str]] = {}
    for one in found:
        for name, value in one.items():
            if isinstance(value, dict):
                groups.setdefault(name, Counter()).update(value)
            else:
                single[name] += value
    tables = [_table("", dict(single))] if single else []
    return "\n".join([*tables, *(_table(name, dict(sorted(counts.items()))) for name, counts in groups.items())])


def _table(title: str, counts: dict[str, int]) -> str:
    rows = "".join(f"| {name} | {count:,} |\n" for name, count in counts.items())
    return f"| {title} | count |\n|---|---:|\n{rows}"


def _wrapped(text: str) -> str:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= 120:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{word}"
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        given = [Path(argument) for argument in sys.argv[1:]]
        sys.exit(of_all_tests(given[0], given[1:]) if given else main())
    except KeyboardInterrupt:
        print("Stopped by you; the page is as it was.", file=sys.stderr)
        sys.exit(130)
