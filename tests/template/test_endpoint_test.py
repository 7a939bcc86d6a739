"""tests/endpoint/ of a repository: read, checked, registered with a version, and asked before anything is promoted."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.response import StreamingBody

from lifecycle_lambdas.endpoint_tests import stamps
from lifecycle_lambdas.records import TestRun
from tests.template.conftest import PROBLEM_TYPES
from tests.template.stubbed_account import Account

ONE = "cases:\n  - {name: one, body: x, expect: {status: 4xx}}\n"
ANOTHER = "cases:\n  - {name: another, body: x, expect: {status: 4xx}}\n"
LOAD = "load: {row: {age: 1}, objectives: {p50_ms: 100}}\n"
MONOTONE = "cases:\n  - {name: grows, rows: evaluated, vary: monotone, expect: {score: monotone}}\n"


@pytest.fixture
def load(pipeline: SimpleNamespace, tmp_path: Path) -> Callable[..., Any]:
    """Reads files of these contents as those of tests/endpoint/."""

    def suite_of(settings: Any = None, **files: str) -> Any:
        for name, text in files.items():
            (tmp_path / name.replace("_", ".")).write_text(text, encoding="utf-8")
        return pipeline.endpoint_test.load_suite(settings or pipeline.settings.load_settings(), tmp_path)

    return suite_of


# --- the files


def test_without_a_file_there_are_no_tests(load: Callable[..., Any]) -> None:
    assert load() is None
    assert load(notes_md="no cases") is None


def test_the_cases_of_all_files_are_one_suite(load: Callable[..., Any]) -> None:
    suite = load(b_yaml=ONE + LOAD, a_yaml=ANOTHER + "on_failure: {dev: report}\n")
    assert [case.name for case in suite.cases] == ["another", "one"]
    assert (suite.on_failure.dev, suite.load.seconds) == ("report", 5)


def test_columns_that_are_monotone_come_from_the_settings(pipeline: SimpleNamespace, load: Callable[..., Any]) -> None:
    settings = pipeline.settings.load_settings()
    train = settings.train.model_copy(update={"monotone": {"age": "decreasing"}})
    suite = load(settings.model_copy(update={"train": train}), a_yaml=MONOTONE)
    assert [(case.name, case.expect.checks["score"].direction) for case in suite.cases] == [
        ("grows: age", "decreasing")
    ]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a_yml": ONE}, "a.yml would not be read: rename it to end with .yaml"),
        ({"a_yaml": "cases: ["}, "/a.yaml is not readable YAML: line 1"),
        ({"a_yaml": "cases: []"}, "a.yaml: cases: [] is not allowed"),
        ({"a_yaml": ONE, "b_yaml": "cases:\n  - {name: two}\n"}, "b.yaml: cases.0 (two): none of rows, row and body"),
        ({"a_yaml": ONE, "b_yaml": ONE}, "cases: 'one' is the name of two"),
        ({"a_yaml": ONE + LOAD, "b_yaml": ANOTHER + LOAD}, "b.yaml: load is in both, and a version has one"),
    ],
)
def test_a_file_that_cannot_be_used_is_said(
    pipeline: SimpleNamespace, load: Callable[..., Any], files: dict[str, str], said: str
) -> None:
    with pytest.raises(pipeline.InputError) as caught:
        load(**files)
    assert said in str(caught.value)


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES)
def test_the_generated_cases_are_right_and_nothing_is_warned_of(
    pipeline: SimpleNamespace, generated: Callable[[str], Path], problem_type: str
) -> None:
    settings = pipeline.settings.load_settings(generated(problem_type) / "settings.yaml")
    suite = pipeline.endpoint_test.load_suite(settings, generated(problem_type) / "tests" / "endpoint")
    assert len(suite.cases) == 5
    assert suite.load is not None
    assert pipeline.endpoint_test.warnings(settings, suite) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "tests/endpoint/ holds no case: what is deployed is served untested"),
        ("cases: [{name: one, row: {age: 1}, expect: {probability: 1}}]", "'one' expects probability, which"),
    ],
)
def test_what_may_not_be_meant_is_warned_of(
    pipeline: SimpleNamespace, load: Callable[..., Any], text: str | None, said: str
) -> None:
    suite = None if text is None else load(a_yaml=text)
    (warning,) = pipeline.endpoint_test.warnings(pipeline.settings.load_settings(), suite)
    assert said in warning


# --- what a version carries


def test_a_version_carries_its_cases_beside_its_stage_files(pipeline: SimpleNamespace) -> None:
    found = pipeline.endpoint_test.stage_files(pipeline.settings.load_settings())
    objects = found.objects("churn/dev")
    prefix = found.prefix("churn/dev")
    assert objects.keys() == {
        f"{prefix}{name}" for name in ("dev.yaml", "feature.yaml", "prod.yaml", "endpoint-tests.json")
    }
    assert objects[f"{prefix}endpoint-tests.json"] == found.endpoint_tests
    digest = hashlib.sha256(found.endpoint_tests).hexdigest()
    assert pipeline.endpoint_suite.read(found.endpoint_tests, digest).cases


def test_other_cases_lie_elsewhere(pipeline: SimpleNamespace) -> None:
    found = pipeline.endpoint_test.stage_files(pipeline.settings.load_settings())
    none, other = replace(found, endpoint_tests=None), replace(found, endpoint_tests=b"{}")
    assert len({one.prefix("churn/dev") for one in (found, none, other)}) == 3
    assert [name for name in none.objects("churn/dev") if name.endswith(".json")] == []


# --- what is promoted

ARN = "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn-dev/7"


def package(**metadata: str) -> dict[str, Any]:
    return {
        "ModelPackageArn": ARN,
        "CustomerMetadataProperties": {name.replace("_", "."): text for name, text in metadata.items()},
    }


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"tests_sha256": "0", "tests_status": "passed"},
        {"tests_sha256": "0", "tests_status": "reported"},
    ],
)
def test_a_version_that_passed_or_has_no_tests_is_promoted(pipeline: SimpleNamespace, metadata: dict[str, str]) -> None:
    pipeline.promotion.check_tested(package(**metadata), metadata.get("tests_sha256"))


RERUN = r"an operator of the platform has them run again \(python -m lifecycle_lambdas test churn-dev\)"


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (
            {"tests_status": "failed", "tests_at": "2026-11-21T08:00:00Z"},
            r"churn-dev/7 failed .* \(2026-11-21T08:00:00Z\)",
        ),
        ({"tests_status": "failed"}, f"have it trained and approved there.* {RERUN}.* Then promote again"),
        ({}, "nothing is known of them yet.* reject that one on dev, .* Then promote again"),
        ({"tests_status": "broken"}, f"could not be run, and the platform's message says why.* {RERUN}.* Then promote"),
    ],
)
def test_a_version_that_did_not_pass_is_not_promoted(
    pipeline: SimpleNamespace, metadata: dict[str, str], said: str
) -> None:
    with pytest.raises(pipeline.InputError, match=said):
        pipeline.promotion.check_tested(package(tests_sha256="0", **metadata), "0")


@pytest.mark.parametrize(
    ("status", "means", "is_promoted"),
    [("passed", "block", True), ("failed", "report", True), ("failed", "block", False), ("broken", "block", False)],
)
def test_promotion_understands_what_the_platform_stamps(
    pipeline: SimpleNamespace, status: Any, means: Any, is_promoted: bool
) -> None:
    ended = datetime(2026, 11, 21, 8, tzinfo=UTC)
    run = TestRun("churn-dev", 3, ARN, "deployed", status, means, ended, ended=ended)
    stamped = {"ModelPackageArn": ARN, "CustomerMetadataProperties": {"tests.sha256": "0"} | stamps(run, {})}
    if is_promoted:
        pipeline.promotion.check_tested(stamped, "0")
        return
    with pytest.raises(pipeline.InputError, match=r"2026-11-21T08:00:00Z|could not be run"):
        pipeline.promotion.check_tested(stamped, "0")


@pytest.mark.parametrize("registered", [{}, {"tests_sha256": "1", "tests_status": "passed"}])
def test_a_version_that_was_registered_without_the_cases_of_its_files_is_not_promoted(
    pipeline: SimpleNamespace, registered: dict[str, str]
) -> None:
    """Whoever registers a version by hand could leave them out, or write other ones."""
    with pytest.raises(pipeline.InputError, match=r"not registered with the cases of tests/endpoint/"):
        pipeline.promotion.check_tested(package(**registered), "0")


def test_a_copy_is_tested_by_itself(pipeline: SimpleNamespace) -> None:
    source = package(tests_sha256="0", tests_status="passed", tests_at="2026-11-21T08:00:00Z")
    copied = pipeline.promotion.copied(source, {"promoted.from": ARN})["CustomerMetadataProperties"]
    assert copied == {"tests.sha256": "0", "promoted.from": ARN}


# --- what is asked


@pytest.mark.parametrize(("number", "said"), [(1, "1 case"), (6, "6 cases")])
def test_cases_are_counted_in_words(pipeline: SimpleNamespace, number: int, said: str) -> None:
    assert pipeline.endpoint_test.counted(range(number)) == said


@pytest.mark.parametrize(("seconds", "said"), [(219.9, ""), (221.0, "take 221 s, and the platform has 220 s for them")])
def test_a_suite_for_which_the_platform_has_no_time_is_told(
    pipeline: SimpleNamespace, seconds: float, said: str
) -> None:
    found = pipeline.endpoint_test.too_long(seconds)
    assert said in found
    assert bool(said) is bool(found)


ROWS = {"columns": ["age"], "kinds": {"age": "number"}, "classes": [], "rows": [{"age": 1}], "answers": [{"score": 2}]}
REPORT = "s3://b/churn/dev/x/evaluate/evaluation/report.html"


def endpoint_with(account: Account, package_name: str | None) -> None:
    sagemaker = account.stub("sagemaker")
    described = {"EndpointName": "churn-dev", "EndpointArn": ARN, "EndpointStatus": "InService"}
    times = {"CreationTime": 0, "LastModifiedTime": 0}
    sagemaker.add_response("describe_endpoint", {**described, **times, "EndpointConfigName": "churn-dev-1"})
    variant = {"VariantName": "AllTraffic", "ModelName": "churn-dev-1"}
    config = {"EndpointConfigName": "churn-dev-1", "EndpointConfigArn": ARN, "CreationTime": 0}
    sagemaker.add_response("describe_endpoint_config", {**config, "ProductionVariants": [variant]})
    container = {} if package_name is None else {"ModelPackageName": package_name}
    sagemaker.add_response(
        "describe_model",
        {"ModelName": "churn-dev-1", "ModelArn": ARN, "CreationTime": 0, "PrimaryContainer": container},
    )


def version(account: Account, **metadata: str) -> None:
    found = package(**metadata) | {
        "ModelPackageGroupName": "churn-dev",
        "ModelPackageName": ARN,
        "CreationTime": 0,
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": []},
    }
    account.stub("sagemaker").add_response("describe_model_package", found, {"ModelPackageName": ARN})


def test_the_rows_are_those_of_the_version_that_serves(pipeline: SimpleNamespace, account: Account) -> None:
    endpoint_with(account, ARN)
    version(account, report=REPORT)
    body = json.dumps(ROWS).encode()
    account.stub("s3").add_response(
        "get_object",
        {"Body": StreamingBody(io.BytesIO(body), len(body))},
        {"Bucket": "b", "Key": "churn/dev/x/evaluate/evaluation/endpoint-rows.json"},
    )
    target = pipeline.endpoint_test.find_target(account, "churn-dev", None)
    assert (target.version, target.why, target.evaluated.rows) == ("churn-dev/7", "", ({"age": 1},))


def test_rows_that_are_gone_are_said(pipeline: SimpleNamespace, account: Account) -> None:
    endpoint_with(account, ARN)
    version(account, report=REPORT)
    account.stub("s3").add_client_error("get_object", "NoSuchKey", http_status_code=404)
    target = pipeline.endpoint_test.find_target(account, "churn-dev", None)
    assert target.evaluated is None
    assert "there is no such object" in target.why


@pytest.mark.parametrize(("package_name", "said"), [(None, "no version of the registry"), (ARN, "without a report")])
def test_what_has_no_evaluation_can_be_asked_other_rows(
    pipeline: SimpleNamespace, account: Account, package_name: str | None, said: str
) -> None:
    endpoint_with(account, package_name)
    if package_name:
        version(account)
    target = pipeline.endpoint_test.find_target(account, "churn-dev", None)
    assert target.evaluated is None
    assert said in target.why


@pytest.mark.parametrize(
    ("scheduled", "said"), [(False, "there is no endpoint churn-dev"), (True, "a schedule of transform jobs")]
)
def test_where_there_is_no_endpoint_nothing_is_asked(
    pipeline: SimpleNamespace, account: Account, scheduled: bool, said: str
) -> None:
    account.stub("sagemaker").add_client_error("describe_endpoint", "ValidationException", "Could not find endpoint")
    scheduler = account.stub("scheduler")
    if scheduled:
        target = {"Arn": ARN, "RoleArn": ARN, "Input": json.dumps({"package_arn": ARN})}
        schedule = {"ScheduleExpression": "rate(1 day)", "ScheduleExpressionTimezone": "UTC", "Target": target}
        scheduler.add_response("get_schedule", schedule)
    else:
        scheduler.add_client_error("get_schedule", "ResourceNotFoundException")
    with pytest.raises(pipeline.InputError, match=said):
        pipeline.endpoint_test.find_target(account, "churn-dev", None)
