"""What an endpoint is asked as soon as it serves: end to end through the installed platform, IAM enforced."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from lifecycle_lambdas.records import TestRun
from local_aws import LocalAWS
from tests import proof
from tests.story.least_privilege import after_the_whole_module, counts, denied, reports, unexplained, unneeded
from tests.story.platform import ARTIFACTS, BATCH_DATA, REAL_TIME, Project, as_operator
from tests.story.suites import AS_EVALUATED, register_tested

pytestmark = pytest.mark.slow

# Answers {"score": factor * number} for each row, in the form that is asked for; a row of text is the caller's fault.
PROGRAM = """
    import json

    FACTOR = {seconds}

    def model_fn(model_dir):
        return None

    def transform_fn(model, body, content_type, accept):
        text = body if isinstance(body, str) else body.decode()
        if content_type.startswith("application/json"):
            numbers = [row["number"] for row in json.loads(text)["instances"]]
        else:
            numbers = [line for line in text.split() if line != "number"]
        scores = [FACTOR * float(number) for number in numbers]
        if accept.startswith("text/csv"):
            header = "score\\n" if "header=present" in accept else ""
            return header + "".join(f"{{score!r}}\\n" for score in scores), "text/csv"
        return json.dumps({{"predictions": [{{"score": score}} for score in scores]}}), "application/json"
"""
RANGE = {"name": "one number", "row": {"number": 3}, "expect": {"score": {"type": "number", "between": [0, 10]}}}
LOAD = {"seconds": 1, "requests_per_second": 10, "rows": "evaluated", "objectives": {"error_share": 0.0}}
BATCH = (
    "kind: batch\ninstance_type: ml.m5.large\nschedule: rate(1 day)\n"
    f"input: s3://{BATCH_DATA}/{{name}}/in/\noutput: s3://{BATCH_DATA}/{{name}}/out/\n"
)


def register(
    project: Project, factor: float, stage_file: str = REAL_TIME, *, evaluated: float = 2.0, **suite: Any
) -> str:
    """A version that multiplies by `factor`, and was evaluated when it multiplied by `evaluated`; its ARN."""
    whole = {"cases": [AS_EVALUATED, RANGE]} | suite
    return register_tested(project, PROGRAM, stage_file, whole, evaluated, seconds=factor)


def runs(project: Project) -> list[TestRun]:
    """The newest first."""
    return list(project.ledger.test_runs(project.endpoint))


def stamped(project: Project, arn: str) -> str:
    """Waits for the verdict on the version."""

    def stamp() -> str:
        return str(project.package(arn)["CustomerMetadataProperties"].get("tests.status", ""))

    project.until(lambda: bool(stamp()), "a verdict", lambda: f"{runs(project)} {log(project)}")
    return stamp()


def log(project: Project) -> str:
    events = project.aws.client("logs").filter_log_events(logGroupName="/aws/lambda/modelyard-endpoint-tests")["events"]
    lines = [event["message"].rstrip() for event in events]
    return "\n".join(line for line in lines if not line.startswith(("START", "END", "REPORT")))[-10_000:]


def results(project: Project, run: TestRun) -> dict[str, Any]:
    bucket, _, key = run.results.removeprefix("s3://").partition("/")
    found: dict[str, Any] = json.loads(project.aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    return found


@pytest.mark.parametrize("kind", ["real_time", "serverless"])
def test_what_serves_is_asked_all_cases_and_carries_the_verdict(project: Project, kind: str) -> None:
    stage_file = REAL_TIME if kind == "real_time" else "kind: serverless\nmemory_mb: 2048\nmax_concurrency: 3\n"
    arn = register(project, 2.0, stage_file, load=LOAD)

    project.approve(arn)

    assert stamped(project, arn) == "passed"
    (run,) = runs(project)
    assert (run.status, run.reason, run.cases, run.failed) == ("passed", "deployed", 3, 0)
    assert [case["passed"] for case in results(project, run)["cases"]] == [True, True]


def test_wrong_answers_in_dev_are_told_in_full_and_the_version_serves_on_but_blocked(project: Project) -> None:
    arn = register(project, 3.0)

    project.approve(arn)

    assert stamped(project, arn) == "failed"
    (run,) = runs(project)
    assert (run.means, run.failed, run.cases) == ("block", 1, 2)
    assert 'row 0 of endpoint-rows.json: not as it was evaluated: score was 2.0, and is "3.0"' in run.failures[0]
    assert project.package(arn)["ModelApprovalStatus"] == "Approved"
    assert told(project) == [f"tests-failed#{run.key.partition('#')[2]}"]


def told(project: Project) -> list[str]:
    """What the function told of the endpoint, as its log has it."""
    lines = [json.loads(line) for line in log(project).splitlines() if line.startswith("{")]
    return [line["id"] for line in lines if line["message"] == "told" and line["endpoint"] == project.endpoint]


def test_a_batch_stage_is_asked_the_evaluated_rows_by_a_transform_job(project: Project) -> None:
    good, bad = (register(project, factor, BATCH.format(name=project.name)) for factor in (2.0, 3.0))

    project.approve(good)
    assert stamped(project, good) == "passed"
    project.approve(bad)
    assert stamped(project, bad) == "failed"

    worse, better = runs(project)
    assert (better.status, better.cases, better.failed) == ("passed", 1, 0)
    assert better.skipped == ("1 case: a transform job has no requests of its own",)
    assert "not as it was evaluated" in worse.failures[0]
    assert project.describe() is None


def test_cases_that_are_not_the_registered_ones_are_not_run_and_people_are_told(project: Project) -> None:
    arn = register(project, 2.0)
    place = project.package(arn)["CustomerMetadataProperties"]["deployment.prefix"].removeprefix(f"s3://{ARTIFACTS}/")
    registered = project.aws.client("s3").get_object(Bucket=ARTIFACTS, Key=f"{place}endpoint-tests.json")["Body"].read()
    project.aws.client("s3").put_object(Bucket=ARTIFACTS, Key=f"{place}endpoint-tests.json", Body=b"{}")

    project.approve(arn)
    assert stamped(project, arn) == "broken"
    assert "is not the file that was registered" in runs(project)[0].failures[0]

    project.aws.client("s3").put_object(Bucket=ARTIFACTS, Key=f"{place}endpoint-tests.json", Body=registered)
    project.until(lambda: runs(project)[0].status == "passed", "the next look", lambda: str(runs(project)))


def test_a_serving_version_is_tested_on_its_schedule_and_a_rejected_one_no_more(project: Project) -> None:
    arn = register(project, 2.0, REAL_TIME + "tests: {every_minutes: 5}\n")
    project.approve(arn)

    project.until(lambda: len(runs(project)) >= 3, "two scheduled runs", lambda: str(runs(project)))
    project.until(lambda: all(run.status == "passed" for run in runs(project)[1:]), "them", lambda: str(runs(project)))
    assert [run.reason for run in runs(project)[-3:]] == ["schedule", "schedule", "deployed"]
    project.reject(arn)
    project.gone()

    # a run that was begun in the moment in which the one before found the endpoint gone ends like that one
    ledger = project.ledger
    project.until(
        lambda: (
            project.endpoint not in {one.endpoint for one in ledger.test_schedules()}
            and runs(project)[0].status == "superseded"
        ),
        "the schedule to end",
        lambda: f"{list(ledger.test_schedules())} {runs(project)[:3]}",
    )


def test_an_operator_has_the_tests_run_and_sees_the_failures(platform: LocalAWS, project: Project) -> None:
    arn = register(project, 3.0)
    project.approve(arn)
    stamped(project, arn)

    asked, shown = (as_operator(platform, "test", project.endpoint, *more) for more in ([], ["--last", "5"]))

    assert asked.returncode == 1, asked.stdout + asked.stderr
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "1 of 2 cases fail" in asked.stdout
    assert "not as it was evaluated" in asked.stdout
    assert shown.stdout.count("failed") == 2
    assert {"asked", "deployed"} <= set(shown.stdout.split())


# --- last: what the function's role was asked in all tests of this module, with IAM enforced


def test_the_functions_role_needed_all_that_it_has_and_was_denied_nothing(
    platform: LocalAWS, request: pytest.FixtureRequest
) -> None:
    after_the_whole_module(request)
    roles = reports(platform, "modelyard-endpoint-tests-*")
    assert len(roles) == 1
    # an endpoint that goes while it is asked has no tags any more, by which it may be asked
    there = {one["EndpointName"] for one in platform.client("sagemaker").list_endpoints()["Endpoints"]}
    asking = re.compile(r"sagemaker:InvokeEndpoint on \S+:endpoint/(\S+) ")
    assert [one for one in denied(roles) if (asked := asking.search(one)) is None or asked[1] in there] == []
    assert unexplained(roles) == []
    assert unneeded(roles, "endpoint tests") == []
    proof.keep("permissions_endpoint_tests", counts(platform, roles))
