"""Deliberately bad versions, approved for prod where a good one serves: which net catches which, and it serves again.

| the version | caught by |
|---|---|
| does not load | its deployment: SageMaker gets no answer to its health checks |
| answers wrongly | endpoint tests: not as it was evaluated |
| answers in another form | endpoint tests: formats that must answer alike |
| refuses nothing | endpoint tests: bad input must be a clear error |
| is slow | endpoint tests: the load profile's objectives |
| fails under load in its canary | the roll-back alarm of its deployment |
| fails under load after its deployment, or dies of it | the standing alarm |
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.story.platform import REAL_TIME, Project
from tests.story.suites import AS_EVALUATED, register_tested
from tests.story.traffic import Traffic

# {"score": twice the number} for each row; what is bad stands in the mode.
PROGRAM = """
    import collections, json, os, sys, time

    MODE, ASKED = {name!r}, collections.deque(maxlen=30)

    def model_fn(model_dir):
        if MODE == "does not load":
            raise RuntimeError("this model does not load")

    def numbers(text, content_type):
        if content_type.startswith("application/json"):
            return [float(row["number"]) for row in json.loads(text)["instances"]]
        return [float(line) for line in text.split() if line != "number"]

    def transform_fn(model, body, content_type, accept):
        ASKED.append(time.monotonic())
        if MODE == "fails under load" and len(ASKED) == 30 and ASKED[-1] - ASKED[0] < 3:
            raise RuntimeError("too many at a time")
        if MODE == "dies under load" and len(ASKED) == 30 and ASKED[-1] - ASKED[0] < 3:
            os._exit(1)
        if MODE == "is slow":
            time.sleep(0.4)
        text = body if isinstance(body, str) else body.decode()
        try:
            found = numbers(text, content_type)
        except (ValueError, KeyError, TypeError) as error:
            if MODE != "refuses nothing":
                said = json.dumps({{"error": "row 1: " + str(error)}})
                return sys.modules["flask"].Response(said, status=400, mimetype="application/json")
            found = [0.0]
        scores = [(3 if MODE == "answers wrongly" else 2) * number for number in found]
        if accept.startswith("text/csv"):
            if MODE == "answers in another form":
                scores = [round(score / 10, 1) for score in scores]
            header = "score\\n" if "header=present" in accept else ""
            return header + "".join(f"{{score!r}}\\n" for score in scores), "text/csv"
        return json.dumps({{"predictions": [{{"score": score}} for score in scores]}}), "application/json"
"""
CLOCK_SPEED, STAGE = 120.0, "prod"
CLEAR_ERROR = {
    "name": "bad input is a clear error",
    "body": '{"instances": [{"number": "abc"}]}',
    "content_type": "application/json",
    "expect": {"error": {"contains": "row 1"}},
}
LOAD = {"seconds": 2, "requests_per_second": 8, "rows": "evaluated", "objectives": {"p99_ms": 300}}
WATCHED = REAL_TIME + "alarms: {error_share: 0.05}\n"
CANARY = REAL_TIME + (
    "rollout: {type: canary, size: 50%, bake_minutes: 60}\n"
    "alarms: {error_share: 0.05, period_seconds: 300, periods: 2}\n"
)


@pytest.fixture
def project(project: Project) -> Project:
    """With a good version that serves."""
    good = register(project, "good")
    project.approve(good)
    project.deployed(good)
    return project


def register(project: Project, mode: str, stage_file: str = WATCHED) -> str:
    suite: dict[str, Any] = {"cases": [AS_EVALUATED, CLEAR_ERROR], "load": LOAD}
    return register_tested(project, PROGRAM, stage_file, suite, name=mode)


def score(project: Project) -> float:
    asked = {"EndpointName": project.endpoint, "ContentType": "text/csv", "Accept": "application/json"}
    answer = project.runtime.invoke_endpoint(**asked, Body=b"4\n")
    return float(json.loads(answer["Body"].read())["predictions"][0]["score"])


def serves_version(project: Project, number: int) -> bool:
    found = project.describe() or {}
    return found["EndpointStatus"] == "InService" and found["EndpointConfigName"] == f"{project.endpoint}-{number}"


@pytest.mark.slow
def test_one_that_does_not_load_never_serves(project: Project) -> None:
    bad = register(project, "does not load")

    project.approve(bad)
    project.deployed(bad, "failed")

    assert "failed: " in project.package(bad)["ApprovalDescription"]
    assert serves_version(project, 1)
    assert project.gone_back() == []


@pytest.mark.parametrize(
    ("mode", "fault"),
    [
        ("answers wrongly", "not as it was evaluated"),
        pytest.param("answers in another form", "text/csv", marks=pytest.mark.slow),
        pytest.param("refuses nothing", "bad input is a clear error", marks=pytest.mark.slow),
        pytest.param("is slow", "p99", marks=pytest.mark.slow),
    ],
)
def test_what_endpoint_tests_catch_goes_back(project: Project, mode: str, fault: str) -> None:
    bad = register(project, mode)

    project.approve(bad)
    project.until(lambda: bool(project.gone_back()), "it to go back", lambda: str(project.describe()))
    project.until(lambda: not serves_version(project, 2), "the good one", lambda: str(project.describe()))

    (entry,) = project.gone_back()
    assert entry.cause.startswith("TESTS#")
    assert fault in entry.why
    project.until(
        lambda: project.package(bad)["ModelApprovalStatus"] == "Rejected",
        "the rejection",
        lambda: str(project.package(bad)),
    )
    assert score(project) == 8
    assert list(project.incidents())


@pytest.mark.slow
def test_one_that_fails_under_load_in_its_canary_is_rolled_back_by_its_own_alarm(project: Project) -> None:
    bad = register(project, "fails under load", CANARY)

    with Traffic(project.runtime, project.endpoint, "4\n", clients=4, pause=0.01):
        project.approve(bad)
        project.deployed(bad, "failed")

    assert "rollback-errors" in project.package(bad)["ApprovalDescription"]
    assert project.gone_back() == []
    assert serves_version(project, 1)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fails under load", "dies under load"])
def test_one_that_cannot_bear_load_after_its_deployment_goes_back_by_the_standing_alarm(
    project: Project, mode: str
) -> None:
    bad = register(project, mode)
    project.approve(bad)
    project.deployed(bad)
    project.until(
        lambda: project.package(bad)["CustomerMetadataProperties"].get("tests.status") == "passed",
        "its tests to pass: few at a time are answered rightly",
        lambda: str(project.package(bad)),
    )

    with Traffic(project.runtime, project.endpoint, "4\n", clients=4, pause=0.01):
        project.until(lambda: bool(project.gone_back()), "it to go back", lambda: str(project.describe()))

    (entry,) = project.gone_back()
    assert entry.cause.startswith("ALARM#")
    assert f"{project.endpoint}-errors" in entry.why
