"""The page that is left of going back, and of a deployment that alarms rolled back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lifecycle_lambdas import incidents
from lifecycle_lambdas.incidents import Incident, Minute, markdown
from lifecycle_lambdas.records import Attempt, Deployment, Entry, State
from tests.lifecycle_lambdas.fault_matrix import ALL_AT_ONCE, GUARDED, canary_with_errors, goes_bad, served
from tests.lifecycle_lambdas.simulated_aws import refusal
from tests.lifecycle_lambdas.simulated_platform import Platform, refused

ENDPOINT = "churn-prod"
BEGAN = datetime(2026, 11, 21, 8, 40, tzinfo=UTC)
STATE = State(ENDPOINT, "churn", "prod", ENDPOINT, "settled")
CAUSE = f"ALARM#2#{ENDPOINT}-errors#2026-11-21T08:39:30Z"


def arn(version: int) -> str:
    return f"arn:aws:sagemaker:eu-west-1:111122223333:model-package/{ENDPOINT}/{version}"


def deployment(number: int, kind: str = "approve", **changes: Any) -> Deployment:
    at = BEGAN if kind == "go-back" else BEGAN - timedelta(hours=1)
    values: dict[str, Any] = {
        "endpoint": ENDPOINT,
        "number": number,
        "entry_key": f"ENTRY#{at:%Y-%m-%dT%H:%M:%SZ}#0000000001#{kind}",
        "package_arn": arn(number),
        "stage_file": {},
        "stage_file_sha256": "",
        "status": "succeeded",
        "started": at,
        "ended": at + timedelta(minutes=4),
    }
    return Deployment(**{**values, **changes})


WENT_BACK = deployment(
    3,
    "go-back",
    package_arn=arn(1),
    attempts=(Attempt(BEGAN + timedelta(seconds=1), "update_endpoint", ENDPOINT, "done"),),
)
ENTRY = Entry(
    ENDPOINT, "go-back", BEGAN, arn(1), "modelyard", "errors | since\n08:39", "controller", leaves=arn(2), cause=CAUSE
)


def package(version: int, **metadata: str) -> dict[str, Any]:
    lineage = {"git.commit": f"{version:08x}", "metric.main": "auc", "metric.auc": f"0.9{version}"}
    return {
        "ModelPackageArn": arn(version),
        "ModelApprovalStatus": "Approved",
        "CustomerMetadataProperties": {**lineage, "data.uri": f"s3://data/{version}/", **metadata},
    }


def incident(**changes: Any) -> Incident:
    values: dict[str, Any] = {
        "deployment": WENT_BACK,
        "at_fault": deployment(2),
        "back_to": arn(1),
        "began": BEGAN,
        "cause": ENTRY.why,
        "by": ENTRY.by,
        "entries": (ENTRY,),
        "deployments": (WENT_BACK, deployment(2)),
        "packages": {arn(1): package(1), arn(2): package(2)},
        "minutes": (Minute(BEGAN, 100, 2, 30, 1.25, 40.0), Minute(BEGAN + timedelta(minutes=1), 3)),
        "unmeasured": "",
        "look_at": ("the dashboard", "the logs", "this page"),
    }
    return Incident(**{**values, **changes})


# --- the page


def test_the_page_says_what_happened_from_which_version_to_which_and_how_it_ended() -> None:
    lines = markdown(incident()).splitlines()
    assert lines[0] == "# churn-prod: back from version 2 to version 1"
    for line in (
        "| Began | 2026-11-21 08:40:00 |",
        "| Decided by | modelyard |",
        "| Cause | errors \\| since 08:39 |",  # on one line, and in one cell
        "| Status | went back |",
        "| Took | 4 min 0 s |",
        "1. the dashboard",
        "|  | version 2 (at fault) | version 1 (before) |",
        "| commit | 00000002 | 00000001 |",
        "| data | s3://data/2/ | s3://data/1/ |",
        "| auc | 0.92 | 0.91 |",
        "| 08:40 | 100 | 2 | 30 | 1.2 | 40.0 |",
        "| 08:41 | 3 | 0 | 0 |  |  |",
    ):
        assert line in lines


def test_the_time_line_has_decisions_the_alarm_and_the_calls_in_the_order_of_time() -> None:
    found = [what for _, what in incidents.timeline(incident())]
    assert found == [
        "deployment 2 of version 2 begins",
        "deployment 2 succeeded",
        "the alarm churn-prod-errors is raised, of deployment 2",
        "go-back version 1, by modelyard: errors | since\n08:39",
        "deployment 3 of version 1 begins",
        "deployment 3: update_endpoint churn-prod: done",
        "deployment 3 succeeded",
    ]


def test_the_time_line_has_the_endpoint_tests_that_failed() -> None:
    tests = replace(ENTRY, cause="TESTS#000002#2026-11-21T08:39:30Z")
    found = dict(incidents.timeline(incident(entries=(tests,))))
    assert found[BEGAN - timedelta(seconds=30)] == "endpoint tests of deployment 2 begin, and fail"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"deployment": deployment(3, "go-back", status="under-way", ended=None)}, "| Status | going back |"),
        (
            {"deployment": deployment(3, "go-back", status="failed", reason="no instances")},
            "could not go back: no inst",
        ),
        ({"minutes": ()}, "Nobody asked the endpoint anything in this time."),
        ({"unmeasured": "CloudWatch did not answer: Rate exceeded"}, "CloudWatch did not answer: Rate exceeded"),
        ({"packages": {}}, "| approval | deleted | deleted |"),
        (
            {"deployment": deployment(2, status="failed"), "back_to": arn(1)},
            "was rolled back by alarms, version 1 serves",
        ),
        ({"at_fault": None, "back_to": None}, "Not known."),
    ],
)
def test_the_page_says_what_is_not_known_or_not_over(changes: dict[str, Any], expected: str) -> None:
    assert expected in markdown(incident(**changes))


def test_the_page_lies_beside_the_versions_stage_files_by_the_time_at_which_it_began() -> None:
    prefix = {"deployment.prefix": "s3://artifacts/x/", "deployment.sha256.prod": "ab"}
    place = incidents.place(STATE, incidents.began_at(WENT_BACK), package(1, **prefix))
    assert place is not None
    assert place.uri == "s3://artifacts/churn/prod/incidents/20261121T084000Z-churn-prod.md"
    assert incidents.place(STATE, BEGAN, package(1)) is None


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (WENT_BACK, True),
        (deployment(2, status="failed", reason="SageMaker rolled it back. Alarms raised: churn-prod-2-..."), True),
        (deployment(2, status="failed", reason="the endpoint is RollingBack (alarms raised: churn-prod-2-...)"), True),
        (deployment(2, status="failed", reason="The container did not start."), False),
        (deployment(2), False),
    ],
)
def test_what_is_an_incident(one: Deployment, expected: bool) -> None:
    assert incidents.is_one(one) is expected


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (
            CAUSE,
            [
                "#dashboards/dashboard/churn-prod",
                "aws logs tail /aws/sagemaker/Endpoints/churn-prod",
                "show churn-prod",
            ],
        ),
        (
            CAUSE.replace("-errors", "-custom"),
            ["describe-alarm-history --alarm-name churn-prod-custom", "#dashboards", "show"],
        ),
        ("TESTS#000002#2026-11-21T08:39:30Z", ["results of all cases", "pipeline test-endpoint --stage prod", "show"]),
        ("", ["#dashboards", "aws logs tail", "show churn-prod"]),
    ],
)
def test_there_are_three_things_to_look_at_by_the_cause(cause: str, words: list[str]) -> None:
    found = incidents.look_at(STATE, arn(1), cause, None, None)
    assert len(found) == 3
    for one, word in zip(found, words, strict=True):
        assert word in one


# --- gathering and writing


@pytest.fixture
def platform() -> Iterator[Platform]:
    platform = Platform()
    with platform.installed():
        yield platform


def pages(platform: Platform) -> dict[str, str]:
    return {
        key: content.decode()
        for (_, key), content in platform.aws.objects.items()
        if key.startswith("churn/dev/incidents/")
    }


def test_the_page_stands_while_it_goes_back_and_is_completed_when_it_has(platform: Platform) -> None:
    goes_bad(platform)
    platform.held = True
    platform.run(lambda: platform.status == "Updating" and bool(pages(platform)))
    ((name, page),) = pages(platform).items()
    assert "| Status | going back |" in page
    platform.held = False
    platform.run()
    ((same, page),) = pages(platform).items()
    assert same == name
    assert "| Status | went back |" in page
    assert "approve version 2, by ada" in page
    assert "the alarm churn-dev-errors is raised, of deployment 2" in page
    assert "deployment 3: update_endpoint churn-dev: done" in page


def test_going_back_by_hand_leaves_a_page_too(platform: Platform) -> None:
    first, second = served(platform, ALL_AT_ONCE, ALL_AT_ONCE)
    platform.approve(second)
    platform.run()
    platform.command("go-back", first)
    platform.run()
    (page,) = pages(platform).values()
    assert "# churn-dev: back from version 2 to version 1" in page
    assert "| Cause | why |" in page


def test_a_deployment_that_alarms_rolled_back_leaves_a_page_and_one_that_did_not_start_none(platform: Platform) -> None:
    canary_with_errors(platform)
    (page,) = pages(platform).values()
    assert "# churn-dev: version 2 was rolled back by alarms, version 1 serves on" in page
    assert "churn-dev-2-rollback-errors" in page
    assert linked(platform, "version 2 could not be deployed") == list(pages(platform))
    third = platform.register(GUARDED)
    platform.aws.broken.add(third)
    platform.approve(third)
    platform.run()
    assert len(pages(platform)) == 1
    assert linked(platform, "version 3 could not be deployed") == []


def linked(platform: Platform, title: str) -> list[str]:
    """Keys of the pages to which the only message with this title leads."""
    (text,) = [one["Message"] for one in platform.aws.published if title in one["Subject"]]
    lines = json.loads(text)["default"].splitlines() if text.startswith("{") else text.splitlines()
    return [line.partition("s3://artifacts/")[2] for line in lines if line.startswith("Incident: ")]


def test_the_page_has_the_minutes_around_it(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def measured(MetricDataQueries: list[dict[str, Any]], **span: Any) -> dict[str, Any]:
        asked.append(span)
        at = platform.clock.now().replace(second=0, microsecond=0)
        values = {"requests": 20.0, "bad_requests": 0.0, "errors": 6.0, "p50": 1500.0, "p99": 250_000.0}
        return {
            "MetricDataResults": [
                {"Id": one["Id"], "Timestamps": [at], "Values": [values[one["Id"]]]} for one in MetricDataQueries
            ]
        }

    monkeypatch.setattr(platform.aws, "get_metric_data", measured)
    goes_bad(platform)
    platform.run()
    (page,) = pages(platform).values()
    assert "| 20 | 0 | 6 | 1.5 | 250.0 |" in page
    assert all(timedelta(hours=1) <= one["EndTime"] - one["StartTime"] <= incidents.LONGEST for one in asked)


def test_where_the_page_may_not_be_written_it_goes_back_all_the_same_and_people_are_told_once(
    platform: Platform,
) -> None:
    first, _ = goes_bad(platform)
    denied = refusal("PutObject", "AccessDenied", "not authorized to perform s3:PutObject")
    platform.aws.standing = lambda service, operation, request: denied if operation == "PutObject" else None
    platform.run()
    assert platform.serves == first
    assert platform.told()["needs somebody"] == 1
    text = next(one["Message"] for one in platform.aws.published if "needs somebody" in one["Subject"])
    assert "cannot be written to s3://artifacts/churn/dev/incidents/" in text
    assert "ArtifactBuckets" in text


def test_while_s3_is_out_of_order_it_goes_back_and_the_page_is_written_later(platform: Platform) -> None:
    first, _ = goes_bad(platform)
    broken = refused("PutObject", "InternalError", 500)
    platform.aws.standing = lambda service, operation, request: broken if operation == "PutObject" else None
    platform.run(lambda: platform.serves == first)
    assert pages(platform) == {}
    platform.aws.standing = lambda service, operation, request: None
    platform.run()
    assert "| Status | went back |" in next(iter(pages(platform).values()))
