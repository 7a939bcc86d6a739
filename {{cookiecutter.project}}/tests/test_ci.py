"""What CI decides: for what a job runs, with which role, what a push starts and stops. No AWS, no network."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from pipeline import InputError, ci, ci_systems, retraining
from pipeline.ci_systems import Run
from pipeline.execution import Running
from pipeline.settings import Retrain, load_settings
from pipeline.stage_file import load_stage_files

COMMIT, OTHER = "a" * 40, "b" * 40
NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
DEV = "arn:aws-cn:sagemaker:cn-north-1:123456789012:pipeline/churn-dev"
HOSTILE = "feature-$(id)`id`\"';&|<>#!{}()%0Aset-output,name=x"


def github(tmp_path: Path, name: str, ref: str, event: dict[str, Any], **more: str) -> ci_systems.System:
    path = tmp_path / "event.json"
    path.write_text(json.dumps(event), encoding="utf-8")
    variables = {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": name, "GITHUB_REF": ref, "GITHUB_EVENT_PATH": str(path)}
    variables |= {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "acme/churn", "GITHUB_RUN_ID": "7"}
    return ci_systems.find_system(variables | more)


URL = "https://github.com/acme/churn/actions/runs/7"
PULL = {"number": 5, "head": {"ref": HOSTILE}, "base": {"ref": "dev"}}


@pytest.mark.parametrize(
    ("name", "ref", "event", "expected"),
    [
        ("push", "refs/heads/dev", {"created": False}, Run("push", "dev", url=URL)),
        ("push", f"refs/heads/{HOSTILE}", {"created": True}, Run("push", HOSTILE, created=True, url=URL)),
        (
            "pull_request",
            "refs/pull/5/merge",
            {"pull_request": PULL},
            Run("pull_request", HOSTILE, target="dev", url=URL, pull_request=5),
        ),
        ("delete", "refs/heads/prod", {"ref": HOSTILE, "ref_type": "branch"}, Run("deleted", HOSTILE, url=URL)),
        ("schedule", "refs/heads/prod", {}, Run("schedule", "prod", url=URL)),
        ("workflow_dispatch", "refs/heads/dev", {}, Run("manual", "dev", url=URL)),
    ],
)
def test_github_says_what_a_job_runs_for(
    tmp_path: Path, name: str, ref: str, event: dict[str, Any], expected: Run
) -> None:
    assert github(tmp_path, name, ref, event).run() == expected


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (
            {"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_REF_NAME": HOSTILE, "CI_COMMIT_BEFORE_SHA": "0" * 40},
            Run("push", HOSTILE, created=True),
        ),
        (
            {"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_REF_NAME": "dev", "CI_COMMIT_BEFORE_SHA": COMMIT},
            Run("push", "dev"),
        ),
        (
            {"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_REF_NAME": HOSTILE, "CI_ENVIRONMENT_ACTION": "stop"},
            Run("deleted", HOSTILE),
        ),
        ({"CI_PIPELINE_SOURCE": "schedule", "CI_COMMIT_REF_NAME": "dev"}, Run("schedule", "dev")),
        ({"CI_PIPELINE_SOURCE": "web", "CI_COMMIT_REF_NAME": "dev"}, Run("manual", "dev")),
        (
            {
                "CI_PIPELINE_SOURCE": "merge_request_event",
                "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": HOSTILE,
                "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "prod",
                "CI_MERGE_REQUEST_IID": "9",
            },
            Run("pull_request", HOSTILE, target="prod", pull_request=9),
        ),
    ],
)
def test_gitlab_says_what_a_job_runs_for(variables: dict[str, str], expected: Run) -> None:
    assert ci_systems.find_system({"GITLAB_CI": "true", **variables}).run() == expected


@pytest.mark.parametrize(("steps", "event"), [("check push", "push"), ("deleted", "deleted"), ("", "push")])
def test_codebuild_is_told_by_whatever_starts_it(steps: str, event: str) -> None:
    variables = {"CODEBUILD_BUILD_ID": "p:1", "MODELYARD_BRANCH": HOSTILE, "MODELYARD_CI_STEPS": steps}
    assert ci_systems.find_system(variables).run() == Run(event, HOSTILE)
    with pytest.raises(InputError, match="MODELYARD_BRANCH is not set: the rule or pipeline"):
        ci_systems.find_system({"CODEBUILD_BUILD_ID": "p:1"}).run()


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("GITHUB_ACTIONS", "a status of the commit"),
        ("CODEBUILD_BUILD_ID", "a comment on the commit"),
        ("GITLAB_CI", "python -m pipeline watch"),  # the platform tells GitLab nothing
        ("HOME", "python -m pipeline watch"),
    ],
)
def test_a_job_says_where_its_executions_end_will_be_told(variable: str, said: str) -> None:
    assert ci_systems.find_system({variable: "1"}).tells_the_end.startswith(said)


@pytest.mark.parametrize(
    ("event", "branch", "variable"),
    [
        ("push", "dev", "MODELYARD_CI_ROLE_DEV"),
        ("push", "prod", "MODELYARD_CI_ROLE_PROD"),
        ("push", HOSTILE, "MODELYARD_CI_ROLE_FEATURE"),
        ("pull_request", "refs/pull/5/merge", "MODELYARD_CI_ROLE_CHECK"),
        ("deleted", "prod", "MODELYARD_CI_ROLE_PROD"),
        ("push", "pull_request", None),
        ("push", "feature", None),
        ("push", "main", None),
    ],
)
def test_the_branch_decides_on_the_role(event: Any, branch: str, variable: str | None) -> None:
    assert ci_systems.role_variable(event, branch) == variable


def test_a_job_without_a_role_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ci_systems.NoCredentials, match="MODELYARD_CI_ROLE_DEV is not set: make it a variable"):
        github(tmp_path, "push", "refs/heads/dev", {}).session("us-east-1")
    with pytest.raises(ci_systems.NoCredentials, match=r"no identity token: .* fork never gets one"):
        github(tmp_path, "push", "refs/heads/dev", {}, MODELYARD_CI_ROLE_DEV="arn").session("us-east-1")
    gitlab = {"GITLAB_CI": "true", "CI_PIPELINE_SOURCE": "push", "CI_COMMIT_REF_NAME": "dev"}
    with pytest.raises(ci_systems.NoCredentials, match="MODELYARD_ID_TOKEN, below `id_tokens`"):
        ci_systems.find_system({**gitlab, "MODELYARD_CI_ROLE_DEV": "arn"}).session("us-east-1")


def running(name: str, minutes: int = 0, stopping: bool = False) -> Running:
    return Running(f"arn:{name}:{minutes}", name, NOW + timedelta(minutes=minutes), stopping)


MINE, OLDER = running("push-" + COMMIT[:12], 5), running("push-" + OTHER[:12], 1)


@pytest.mark.parametrize(
    ("head", "others", "stopped"),
    [
        (COMMIT, [], []),
        (COMMIT, [OLDER], [OLDER]),
        (COMMIT, [running("push-" + OTHER[:12], 9)], [running("push-" + OTHER[:12], 9)]),  # its job came late
        (COMMIT, [running("commit-" + OTHER[:12]), running("retrain"), running("pushed"), running("")], []),
        (COMMIT, [running("push-" + OTHER[:12], 1, stopping=True)], []),
        (COMMIT, [running(MINE.name, 4)], [running(MINE.name, 4)]),  # the same commit's, begun earlier
        (COMMIT, [running(f"{MINE.name}-dirty", 6)], []),  # its job changed files
        (COMMIT, [running(MINE.name, 6)], []),  # the same commit's, begun later: it stops this one
        (OTHER, [OLDER], [MINE]),  # a newer push, or one that went back to an older commit
        (None, [OLDER], [MINE]),  # the branch is gone
    ],
)
def test_a_push_stops_what_earlier_pushes_started(
    head: str | None, others: list[Running], stopped: list[Running]
) -> None:
    found = ci.superseded(MINE.arn, COMMIT, head, [*others, MINE])
    assert found == [one.arn for one in stopped]


def test_of_two_pushes_of_one_commit_exactly_one_goes_on() -> None:
    both = [running(MINE.name, 5), Running("arn:other", MINE.name, MINE.started)]
    stopped = [ci.superseded(one.arn, COMMIT, COMMIT, both) for one in both]
    assert sorted(map(len, stopped)) == [0, 1]


@pytest.mark.parametrize(
    ("run", "compiled", "planned"),
    [
        (Run("push", "feature-x"), "feature-x", {"feature"}),
        (Run("push", "dev"), "dev", {"dev"}),
        (Run("push", "prod"), "dev", {"prod", "champion", "challenger"}),
        (Run("pull_request", "feature-x", target="dev"), "feature-x", {"dev"}),
        (Run("pull_request", "template-update", target="dev"), "dev", {"dev"}),
        (Run("pull_request", "dev", target="prod"), "dev", {"prod", "champion", "challenger"}),
        (Run("manual", "main"), "dev", set()),
    ],
)
def test_what_a_merge_would_change_is_compiled_and_planned(run: Run, compiled: str, planned: set[str]) -> None:
    stage_files = load_stage_files()
    assert ci.compiled_for(run) == compiled
    assert ci.planned_stages(run, stage_files) == sorted(planned & set(stage_files.contents))


@pytest.mark.parametrize("text", ["plain", "```\n@everyone <script>", "a ````` b", "```` \n~~~\n# x"])
def test_no_text_breaks_out_of_its_block(text: str) -> None:
    first, *lines, last = ci_systems.fenced(text).splitlines()
    assert first == f"{last}text"
    assert set(last) == {"`"}
    assert last not in "\n".join(lines)
    assert "\n".join(lines) == text


def test_tests_and_linters_are_given_no_credentials() -> None:
    named = {"GITHUB_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL", "CI_JOB_TOKEN", "CI_REPOSITORY_URL", "MODELYARD_ID_TOKEN"}
    named |= {"AWS_SECRET_ACCESS_KEY", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "DB_PASSWORD", "API_KEY"}
    assert ci_systems.without_secrets(dict.fromkeys({*named, "PATH", "HOME", "CI"}, "x")).keys() == {
        "PATH",
        "HOME",
        "CI",
    }


@pytest.mark.parametrize(
    ("schedule", "timezone", "message"),
    [
        ("cron(0 5 ? * MON *)", "Europe/Berlin", None),
        ("rate(7 days)", "UTC", None),
        ("0 5 * * 1", "UTC", "should match pattern"),
        ("cron(0 5 * * 1)", "UTC", "should match pattern"),
        ("rate(0 days)", "UTC", "should match pattern"),
        ("rate(7 days)", "Berlin", "no time zone 'Berlin'"),
    ],
)
def test_retraining_is_a_schedule_of_eventbridge(schedule: str, timezone: str, message: str | None) -> None:
    if message is None:
        assert Retrain(schedule=schedule, timezone=timezone)
    else:
        with pytest.raises(ValueError, match=message):
            Retrain(schedule=schedule, timezone=timezone)


def test_a_retraining_reads_the_data_again() -> None:
    project = load_settings().project
    request = retraining.wanted(project, Retrain(schedule="rate(7 days)"), DEV)
    started = json.loads(request["Target"]["Input"])
    assert started["PipelineName"] == f"{project}-dev"
    assert started["PipelineParameters"] == [{"Name": "DataFingerprint", "Value": "<aws.scheduler.scheduled-time>"}]
    assert len(request["Name"]) <= 64


@pytest.mark.parametrize("project", ["a", "ab", "churn", "x" * 32])
def test_two_invocations_of_one_time_start_one_retraining(project: str) -> None:
    request = retraining.wanted(project, Retrain(schedule="rate(7 days)"), DEV)
    token = json.loads(request["Target"]["Input"])["ClientRequestToken"]
    first, second = (token.replace("<aws.scheduler.scheduled-time>", f"2026-11-2{day}T05:00:00Z") for day in (1, 2))
    assert first != second
    assert 32 <= len(first) <= 128  # SageMaker API reference, StartPipelineExecution


def test_a_retraining_that_cannot_be_started_goes_where_an_alarm_is() -> None:
    request = retraining.wanted("churn", Retrain(schedule="rate(7 days)"), DEV)
    failed = {"Arn": "arn:aws-cn:sqs:cn-north-1:123456789012:modelyard-retraining-failed"}
    assert request["Target"]["DeadLetterConfig"] == failed
    assert request["Target"]["RoleArn"] == "arn:aws-cn:iam::123456789012:role/modelyard/ci/churn-ci-retrain"
