"""What `ci` does at its edges: AWS's less usual answers, the remote, GitHub's API, names that are full of signs."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import Request

import pytest
from botocore.exceptions import ClientError
from botocore.stub import ANY

from tests.ci.projects import HOSTILE
from tests.template.conftest import git
from tests.template.stubbed_account import Account

COMMIT, OTHER = "a" * 40, "b" * 40
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
PIPELINE = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/churn-dev"
EXECUTION = f"{PIPELINE}/execution/abcdefghijkl"


class Remote:
    """origin, as `remote.head` asks it: the branch's commits, one for each asking; the last one again and again."""

    def __init__(self, *heads: str | None) -> None:
        self.heads, self.asked = list(heads), 0

    def head(self, branch: str, environment: object) -> str | None:
        self.asked += 1
        return self.heads.pop(0) if len(self.heads) > 1 else self.heads[0]


@pytest.fixture
def job(pipeline: SimpleNamespace, account: Account, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Makes a job of CodeBuild's on a branch, at COMMIT, in a stubbed account."""

    def make(branch: str, *heads: str | None) -> Any:
        variables = {"CODEBUILD_BUILD_ID": "p:1", "MODELYARD_BRANCH": branch}
        made = pipeline.ci.Job(pipeline.ci_systems.CodeBuild(variables), watch=lambda *_: 7)
        made.session = account
        lineage = pipeline.lineage.Lineage(commit=COMMIT, tree=COMMIT, repository=None)
        monkeypatch.setattr(pipeline.ci, "read_lineage", lambda: lineage)
        monkeypatch.setattr(pipeline.remote, "head", Remote(*heads).head)
        monkeypatch.setattr(pipeline.ci.starting, "start", lambda *_: EXECUTION)
        return made

    return make


def executions(*listed: tuple[str, str, str]) -> dict[str, Any]:
    """ListPipelineExecutions' answer: id, display name and status of each."""
    return {
        "PipelineExecutionSummaries": [
            {
                "PipelineExecutionArn": f"{PIPELINE}/execution/{number}",
                "PipelineExecutionDisplayName": name,
                "PipelineExecutionStatus": status,
                "StartTime": NOW,
            }
            for number, name, status in listed
        ]
    }


def nothing_under_way(account: Account) -> None:
    """The branch's first push: there is no pipeline yet."""
    account.stub("sagemaker").add_client_error("list_pipeline_executions", "ResourceNotFound", "It does not exist.")


def stopping(account: Account, number: str) -> None:
    wanted = {"PipelineExecutionArn": f"{PIPELINE}/execution/{number}", "ClientRequestToken": ANY}
    account.stub("sagemaker").add_response("stop_pipeline_execution", {}, wanted)


@pytest.mark.parametrize("head", [OTHER, None], ids=["a newer push", "the branch is gone"])
def test_what_is_not_the_branchs_head_starts_nothing(
    job: Callable[..., Any],
    pipeline: SimpleNamespace,
    head: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = job("dev", head)
    monkeypatch.setattr(pipeline.ci.starting, "start", lambda *_: pytest.fail("it was started"))
    assert pipeline.ci.push(made) == 0
    assert "nothing is started" in capsys.readouterr().out


def test_a_push_stops_the_older_pushes_and_nobody_elses(
    job: Callable[..., Any], pipeline: SimpleNamespace, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    made = job("feature-x", COMMIT)
    nothing_under_way(account)
    account.stub("sagemaker").add_response(
        "list_pipeline_executions",
        executions(
            ("abcdefghijkl", f"push-{COMMIT[:12]}", "Executing"),
            ("older", f"push-{OTHER[:12]}", "Executing"),
            ("ended", f"push-{OTHER[:12]}", "Succeeded"),
            ("persons", f"commit-{OTHER[:12]}", "Executing"),
            ("schedules", "retrain", "Executing"),
        ),
    )
    stopping(account, "older")
    assert pipeline.ci.push(made) == 0
    said = capsys.readouterr().out
    assert f"stopped {PIPELINE}/execution/older\n" in said
    assert f"started {EXECUTION}\n" in said
    assert "https://console.aws.amazon.com/s3/buckets/" in said


@pytest.mark.parametrize("head", [OTHER, None], ids=["a newer push", "the branch is gone"])
def test_a_push_that_is_overtaken_while_it_starts_stops_itself(
    job: Callable[..., Any], pipeline: SimpleNamespace, account: Account, head: str | None, capsys: Any
) -> None:
    made = job("dev", COMMIT, head)
    nothing_under_way(account)
    account.stub("sagemaker").add_response(
        "list_pipeline_executions", executions(("newer", f"push-{OTHER[:12]}", "Executing"))
    )
    stopping(account, "abcdefghijkl")
    assert pipeline.ci.push(made) == 0, "and dev's schedule is the newer push's to make"
    assert "this execution is stopped" in capsys.readouterr().out


@pytest.mark.parametrize("denied", [False, True])
def test_a_push_whose_branch_is_deleted_meanwhile_leaves_no_pipeline(
    job: Callable[..., Any],
    pipeline: SimpleNamespace,
    account: Account,
    denied: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = job("feature-x", COMMIT, None)
    nothing_under_way(account)
    sagemaker = account.stub("sagemaker")
    sagemaker.add_response("list_pipeline_executions", executions())
    stopping(account, "abcdefghijkl")
    described(account, pipeline, "feature-x")
    sagemaker.add_response("list_pipeline_executions", executions(("abcdefghijkl", "push-x", "Stopped")))
    if denied:
        sagemaker.add_client_error("delete_pipeline", "AccessDeniedException", "not authorized")
    else:
        sagemaker.add_response("delete_pipeline", {})
    assert pipeline.ci.push(made) == 0
    assert ("is left to the job of the deleted branch" if denied else "deleted the pipeline") in capsys.readouterr().out


def test_a_push_can_follow_what_it_started(
    job: Callable[..., Any], pipeline: SimpleNamespace, account: Account
) -> None:
    made = job("feature-x", COMMIT)
    made.settings = pipeline.settings.load_settings().model_copy(update={"ci": pipeline.settings.Ci(watch=True)})
    nothing_under_way(account)
    account.stub("sagemaker").add_response("list_pipeline_executions", executions())
    assert pipeline.ci.push(made) == 7, "as watching ends"


@pytest.mark.parametrize("watch", [True, False])
def test_a_job_that_is_run_again_follows_what_is_under_way_for_its_commit(
    job: Callable[..., Any],
    pipeline: SimpleNamespace,
    account: Account,
    watch: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    followed: list[str] = []

    def watching(_settings: object, _session: object, arn: str) -> int:
        followed.append(arn)
        return 7

    made = job("feature-x", COMMIT)
    made.settings = pipeline.settings.load_settings().model_copy(update={"ci": pipeline.settings.Ci(watch=watch)})
    made.watch = watching
    monkeypatch.setattr(pipeline.ci.starting, "start", lambda *_: pytest.fail("it was started once more"))
    listed = executions(
        ("persons", f"commit-{COMMIT[:12]}", "Executing"),
        ("stopped", f"push-{COMMIT[:12]}", "Stopping"),
        ("first", f"push-{COMMIT[:12]}", "Executing"),
        ("older", f"push-{OTHER[:12]}", "Executing"),
    )
    for _ in range(2):
        account.stub("sagemaker").add_response("list_pipeline_executions", listed)
    stopping(account, "older")
    assert pipeline.ci.push(made) == (7 if watch else 0)
    assert followed == ([f"{PIPELINE}/execution/first"] if watch else [])
    assert f"this commit is being trained already: {PIPELINE}/execution/first\n" in capsys.readouterr().out


def test_a_commit_is_trained_though_executions_of_it_have_ended_or_had_changed_files(
    pipeline: SimpleNamespace, account: Account
) -> None:
    """As after a step that failed for lack of instances, or when somebody tried something out by hand."""
    called = f"push-{COMMIT[:12]}"
    listed = executions(
        ("first", called, "Failed"), ("second", called, "Stopped"), ("changed", f"{called}-dirty", "Executing")
    )
    account.stub("sagemaker").add_response("list_pipeline_executions", listed)
    assert pipeline.ci.under_way(called, pipeline.execution.running(account, "churn-dev")) is None


GOES_ON = "It goes on: the copy waits for its own approval"


@pytest.mark.parametrize(
    ("head", "by_hand", "said"),
    [
        (COMMIT, False, ""),
        (
            OTHER,
            False,
            f"prod's newest commit is {OTHER[:12]}, this job promotes {COMMIT[:12]}, an older one. {GOES_ON}",
        ),
        (OTHER, True, f"this job promotes {COMMIT[:12]}, another one: older, or not pushed yet. {GOES_ON}"),
        (None, False, f"there is no branch prod at origin, this job promotes {COMMIT[:12]}, an older one. {GOES_ON}"),
    ],
    ids=["the newest", "run again", "by hand", "the branch is gone"],
)
def test_a_job_of_prod_that_is_not_of_its_newest_commit_says_so_and_promotes(
    job: Callable[..., Any],
    pipeline: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    head: str | None,
    by_hand: bool,
    said: str,
) -> None:
    made, published = job("prod", head), []
    made.system.by_hand = by_hand
    made.system.publish = lambda _run, markdown: published.append(markdown)
    monkeypatch.setattr(pipeline.ci.promotion, "promote_branch", lambda *_: print("promoting") or 5)
    assert pipeline.ci.push(made) == 5
    printed = capsys.readouterr().out
    assert printed.endswith("promoting\n")
    assert printed.startswith("warning: ") is bool(said)
    assert f"{said}\n" in printed
    assert [text.startswith("**Warning**: ") and text.endswith(said) for text in published] == [True] * bool(said)


def test_a_job_of_prod_that_cannot_ask_for_the_newest_commit_promotes(
    job: Callable[..., Any], pipeline: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    made = job("prod", OTHER)

    def head(*_: object) -> None:
        raise pipeline.InputError("origin cannot be asked")

    monkeypatch.setattr(pipeline.remote, "head", head)
    monkeypatch.setattr(pipeline.ci.promotion, "promote_branch", lambda *_: 0)
    assert pipeline.ci.push(made) == 0
    printed = capsys.readouterr().out
    assert printed == "warning: nobody knows whether this is the newest commit of prod: origin cannot be asked\n"


@pytest.mark.parametrize("branch", ["main", "template-update", "feature", "Feature-x"])
def test_other_branches_train_nothing_and_fail_nothing(
    job: Callable[..., Any], pipeline: SimpleNamespace, branch: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pipeline.ci.push(job(branch, COMMIT)) == 0
    assert f"the branch {branch} trains nothing" in capsys.readouterr().out


@pytest.mark.parametrize("branch", ["dev", "prod"])
def test_the_push_that_makes_dev_or_prod_does_nothing(
    job: Callable[..., Any], pipeline: SimpleNamespace, branch: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = job(branch, COMMIT)
    made.run = pipeline.ci_systems.Run("push", branch, created=True)
    assert pipeline.ci.push(made) == 0
    assert f"{branch} has just been made" in capsys.readouterr().out


def test_a_pull_request_starts_nothing(job: Callable[..., Any], pipeline: SimpleNamespace) -> None:
    made = job("dev", COMMIT)
    made.run = pipeline.ci_systems.Run("pull_request", "feature-x", target="dev")
    with pytest.raises(pipeline.InputError, match="runs for a pull request, which starts nothing: remove push"):
        pipeline.ci.push(made)


def test_the_first_step_that_fails_ends_the_job(pipeline: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def made(step: str, code: int) -> Callable[[object], int]:
        def run(_: object) -> int:
            ran.append(step)
            return code

        return run

    for step, code in (("check", 3), ("push", 0)):
        monkeypatch.setitem(pipeline.ci.STEPS, step, made(step, code))
    assert pipeline.ci.run_steps(["push", "check", "push"], None) == 3
    assert ran == ["push", "check"]


@pytest.mark.parametrize("status", ["Stopping", "Stopped", "Succeeded"])
def test_stopping_what_has_ended_is_no_fault(pipeline: SimpleNamespace, account: Account, status: str) -> None:
    sagemaker = account.stub("sagemaker")
    sagemaker.add_client_error("stop_pipeline_execution", "ValidationException", "Only Executing ones can be stopped")
    sagemaker.add_response("describe_pipeline_execution", {"PipelineExecutionStatus": status})
    pipeline.execution.stop(account, EXECUTION)


def test_what_cannot_be_stopped_is_said(pipeline: SimpleNamespace, account: Account) -> None:
    sagemaker = account.stub("sagemaker")
    sagemaker.add_client_error("stop_pipeline_execution", "ConflictException", "Not now")
    sagemaker.add_response("describe_pipeline_execution", {"PipelineExecutionStatus": "Executing"})
    with pytest.raises(ClientError, match="Not now"):
        pipeline.execution.stop(account, EXECUTION)


def test_by_hand_a_check_without_the_right_to_ask_for_plans_says_which_policy_it_is(
    job: Callable[..., Any], pipeline: SimpleNamespace, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    made = job("dev", COMMIT)
    made.run = pipeline.ci_systems.Run("manual", "dev")
    made.system = pipeline.ci_systems.System({})
    plans_are_denied(account)
    pipeline.ci._write_plan(made)
    printed = capsys.readouterr().out
    assert "no plan: An error occurred (AccessDeniedException)" in printed
    assert "`plan` needs modelyard-churn-reader and modelyard-planner-" in printed


def test_a_job_whose_role_may_not_ask_for_plans_fails(job: Callable[..., Any], account: Account, pipeline: Any) -> None:
    plans_are_denied(account)
    with pytest.raises(ClientError, match="not authorized"):
        pipeline.ci._write_plan(job("dev", COMMIT))


def plans_are_denied(account: Account) -> None:
    said = "User ada is not authorized to perform: ssm:GetParameter"
    account.stub("ssm").add_client_error("get_parameter", "AccessDeniedException", said)


def described(account: Account, pipeline: SimpleNamespace, branch: str, stage: str = "feature") -> str:
    name = pipeline.names.names_of("churn", branch).pipeline
    sagemaker = account.stub("sagemaker")
    sagemaker.add_response("describe_pipeline", {"PipelineArn": PIPELINE}, {"PipelineName": name})
    tags = [{"Key": "modelyard:project", "Value": "churn"}, {"Key": "modelyard:stage", "Value": stage}]
    sagemaker.add_response("list_tags", {"Tags": tags}, {"ResourceArn": PIPELINE})
    return str(name)


def test_a_deleted_branchs_executions_end_before_its_pipeline_goes(
    job: Callable[..., Any], pipeline: SimpleNamespace, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job(HOSTILE, None)
    name = described(account, pipeline, HOSTILE)
    sagemaker = account.stub("sagemaker")
    sagemaker.add_response("list_pipeline_executions", executions(("1", "commit-x", "Executing")))
    stopping(account, "1")
    sagemaker.add_response("list_pipeline_executions", executions(("1", "commit-x", "Stopping")))
    sagemaker.add_response("list_pipeline_executions", executions(("1", "commit-x", "Stopped")))
    sagemaker.add_response("delete_pipeline", {}, {"PipelineName": name, "ClientRequestToken": ANY})
    pauses: list[float] = []
    monkeypatch.setattr(pipeline.ci.time, "sleep", pauses.append)
    assert pipeline.ci.deleted(made) == 0
    assert pauses == [0.5, 0.75]


def test_an_execution_that_never_stops_leaves_the_pipeline_for_the_next_try(
    job: Callable[..., Any], pipeline: SimpleNamespace, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job("feature-x", None)
    described(account, pipeline, "feature-x")
    monkeypatch.setattr(pipeline.ci.time, "sleep", lambda _: None)
    stuck = SimpleNamespace(arn=EXECUTION, name="", stopping=True)
    monkeypatch.setattr(pipeline.execution, "running", lambda *_: [stuck])
    with pytest.raises(pipeline.InputError, match=r"has not stopped within 15 minutes: .* run this job again"):
        pipeline.ci.deleted(made)


def test_a_branch_that_is_made_again_keeps_its_pipeline(
    job: Callable[..., Any], pipeline: SimpleNamespace, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pipeline.ci.deleted(job("feature-x", OTHER)) == 0
    assert "its pipeline is left alone" in capsys.readouterr().out
    described(account, pipeline, "feature-x")
    account.stub("sagemaker").add_response("list_pipeline_executions", executions())
    assert pipeline.ci.deleted(job("feature-x", None, OTHER)) == 0
    assert "there again: its pipeline is left alone" in capsys.readouterr().out


def test_a_branch_without_a_pipeline_is_nothing_to_delete(
    job: Callable[..., Any], pipeline: SimpleNamespace, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.stub("sagemaker").add_client_error("describe_pipeline", "ResourceNotFound", "Pipeline does not exist.")
    assert pipeline.ci.deleted(job("feature-x", None)) == 0
    assert pipeline.ci.deleted(job("main", None)) == 0
    assert capsys.readouterr().out.count("nothing is to be done") == 2


@pytest.mark.parametrize("branch", ["dev", "prod"])
def test_dev_and_prod_are_never_deleted(job: Callable[..., Any], pipeline: SimpleNamespace, branch: str) -> None:
    with pytest.raises(pipeline.InputError, match=f"{branch} is a branch of every project"):
        pipeline.ci.deleted(job(branch, None))


def test_a_pipeline_of_another_making_is_not_deleted(
    job: Callable[..., Any], pipeline: SimpleNamespace, account: Account
) -> None:
    described(account, pipeline, "feature-x", stage="dev")
    with pytest.raises(pipeline.InputError, match="does not carry the tags of churn, stage feature"):
        pipeline.ci.deleted(job("feature-x", None))


def retraining(pipeline: SimpleNamespace, schedule: str | None) -> tuple[Any, dict[str, Any]]:
    """Settings that ask for this, and the schedule's request."""
    asked = None if schedule is None else pipeline.settings.Retrain(schedule=schedule)
    settings = pipeline.settings.load_settings().model_copy(update={"retrain": asked})
    return settings, {} if asked is None else pipeline.retraining.wanted("churn", asked, EXECUTION)


ARN = {"ScheduleArn": "arn:aws:scheduler:us-east-1:123456789012:schedule/modelyard/churn-retrain"}


def test_the_retraining_schedule_is_made_changed_and_removed(pipeline: SimpleNamespace, account: Account) -> None:
    scheduler = account.stub("scheduler")
    settings, weekly = retraining(pipeline, "rate(7 days)")
    scheduler.add_client_error("get_schedule", "ResourceNotFoundException", "no such schedule")
    scheduler.add_response("create_schedule", ARN, weekly)
    assert "churn-retrain is made" in pipeline.retraining.bring_about(account, settings, EXECUTION)
    scheduler.add_response("get_schedule", {**weekly, "CreationDate": NOW})
    assert pipeline.retraining.bring_about(account, settings, EXECUTION) is None, "it is so already"
    settings, daily = retraining(pipeline, "rate(1 day)")
    scheduler.add_response("get_schedule", {**weekly, "CreationDate": NOW})
    scheduler.add_response("update_schedule", ARN, daily)
    assert "churn-retrain is changed" in pipeline.retraining.bring_about(account, settings, EXECUTION)
    settings, _ = retraining(pipeline, None)
    scheduler.add_response("get_schedule", {**daily, "CreationDate": NOW})
    scheduler.add_response("delete_schedule", {}, {"Name": "churn-retrain", "GroupName": "modelyard"})
    assert "churn-retrain is removed" in pipeline.retraining.bring_about(account, settings, EXECUTION)
    scheduler.add_client_error("get_schedule", "ResourceNotFoundException", "no such schedule")
    assert pipeline.retraining.bring_about(account, settings, EXECUTION) is None


def test_two_jobs_that_make_the_schedule_at_once_end_with_one(pipeline: SimpleNamespace, account: Account) -> None:
    scheduler = account.stub("scheduler")
    settings, weekly = retraining(pipeline, "rate(7 days)")
    scheduler.add_client_error("get_schedule", "ResourceNotFoundException", "no such schedule")
    scheduler.add_client_error("create_schedule", "ConflictException", "it is there")
    scheduler.add_response("update_schedule", ARN, weekly)
    assert pipeline.retraining.bring_about(account, settings, EXECUTION) is None
    settings, _ = retraining(pipeline, None)
    scheduler.add_response("get_schedule", {**weekly, "CreationDate": NOW})
    scheduler.add_client_error("delete_schedule", "ResourceNotFoundException", "no such schedule")
    assert pipeline.retraining.bring_about(account, settings, EXECUTION) is None


def test_retraining_without_the_platform_says_so(pipeline: SimpleNamespace, account: Account) -> None:
    settings, _ = retraining(pipeline, "rate(7 days)")
    scheduler = account.stub("scheduler")
    scheduler.add_client_error("get_schedule", "ResourceNotFoundException", "no such schedule")
    scheduler.add_client_error("create_schedule", "ResourceNotFoundException", "no such group")
    with pytest.raises(pipeline.InputError, match=r"settings\.yaml: retrain: there is no schedule group modelyard"):
        pipeline.retraining.bring_about(account, settings, EXECUTION)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a bare origin that has dev and a branch whose name only ends like it."""
    folder = tmp_path_factory.mktemp("clone")
    git(folder, "init", "--quiet", "--bare", "origin.git")
    git(folder, "clone", "--quiet", str(folder / "origin.git"), "churn")
    repository = folder / "churn"
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "$(id) `id` \"'\n\n::set-output name=x::y")
    git(repository, "push", "--quiet", "origin", "HEAD:refs/heads/dev", f"HEAD:refs/heads/{HOSTILE}")
    git(repository, "push", "--quiet", "origin", "HEAD:refs/heads/refs/heads/gone", "HEAD:refs/heads/x/feature-a")
    return repository


@pytest.mark.parametrize(("branch", "there"), [("dev", True), (HOSTILE, True), ("gone", False), ("feature-a", False)])
def test_the_branchs_head_is_read_at_the_remote(
    pipeline: SimpleNamespace, clone: Path, branch: str, there: bool
) -> None:
    head = pipeline.remote.head(branch, root=clone)
    assert head == (git(clone, "rev-parse", "HEAD") if there else None)


def test_a_remote_that_cannot_be_asked_is_said_without_its_password(pipeline: SimpleNamespace, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    with pytest.raises(pipeline.InputError, match=r"no remote origin here, .*git remote add origin ADDRESS"):
        pipeline.remote.head("dev", root=tmp_path)
    git(tmp_path, "remote", "add", "origin", "http://me:s3@cr3t@127.0.0.1:9/churn.git")
    with pytest.raises(pipeline.InputError, match=r"git can read it, then run this again. git says:\n  \| ") as caught:
        pipeline.remote.head("dev", root=tmp_path)
    assert "me:" not in str(caught.value)
    assert "cr3t" not in str(caught.value)


class Requests:
    """GitHub's API, as ci_systems calls it: a pull request's comments."""

    def __init__(self, *comments: dict[str, Any]) -> None:
        self.comments = list(comments)
        self.sent: list[tuple[str, str, str]] = []

    def call(self, request: Any, remedy: str) -> Any:
        assert request.get_header("Authorization") == "Bearer t0ken"
        if request.get_method() == "GET":
            page = int(request.full_url.rpartition("=")[2])
            return self.comments[100 * (page - 1) : 100 * page]
        self.sent.append((request.get_method(), request.full_url, json.loads(request.data)["body"]))
        return {}


def comment(number: int, body: str, kind: str = "Bot") -> dict[str, Any]:
    return {"id": number, "body": body, "user": {"type": kind, "login": "x"}}


API = "https://api.example.com/repos/acme/churn/issues"
THEIRS = comment(1, "<!-- modelyard: plan -->\nquoted", "User")


@pytest.mark.parametrize(
    ("there", "sent"),
    [
        ([], [("POST", f"{API}/5/comments")]),
        ([THEIRS, comment(2, "another bot's")], [("POST", f"{API}/5/comments")]),
        ([THEIRS, comment(3, "<!-- modelyard: plan -->\nold")], [("PATCH", f"{API}/comments/3")]),
        ([{**THEIRS, "user": None}, {**THEIRS, "body": None}], [("POST", f"{API}/5/comments")]),
        ([*[THEIRS] * 120, comment(4, "<!-- modelyard: plan -->\nold")], [("PATCH", f"{API}/comments/4")]),
        ([comment(5, "<!-- modelyard: plan -->\nnew")], []),
    ],
    ids=["the first", "none of ours", "changed in place", "nobody's", "on the second page", "the same"],
)
def test_a_pull_request_has_one_comment_with_its_plan(
    pipeline: SimpleNamespace,
    tmp_path: Path,
    there: list[dict[str, Any]],
    sent: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    github = Requests(*there)
    monkeypatch.setattr(pipeline.ci_systems, "call", github.call)
    system = pipeline.ci_systems.GitHub(
        {
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
            "GITHUB_TOKEN": "t0ken",
            "GITHUB_REPOSITORY": "acme/churn",
            "GITHUB_API_URL": "https://api.example.com",
        }
    )
    system.publish(pipeline.ci_systems.Run("pull_request", "feature-x", target="dev", pull_request=5), "new")
    assert [one[:2] for one in github.sent] == sent
    assert all(one[2] == "<!-- modelyard: plan -->\nnew" for one in github.sent)
    assert (tmp_path / "summary").read_text() == "new\n"


def test_a_comment_that_is_too_long_says_that_it_goes_on(pipeline: SimpleNamespace) -> None:
    body = pipeline.ci_systems._shortened("x" * 70_000)
    assert len(body) == 65_536
    assert body.endswith("The rest is in the job's summary.")


def test_no_line_of_a_section_is_a_command_to_github(
    pipeline: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    system = pipeline.ci_systems.GitHub({})
    with system.section("plan\n::error::x"):
        print("::add-path::/evil")
    system.fault("50%\n::error::y")
    system.warning("50%\n::error::z")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "::group::plan%0A::error::x"
    assert lines[1].startswith("::stop-commands::")
    word = lines[1].removeprefix("::stop-commands::")
    assert len(word) == 32
    commands = [f"::{word}::", "::endgroup::", "::error::50%25%0A::error::y", "::warning::50%25%0A::error::z"]
    assert lines[2:] == ["::add-path::/evil", *commands]


def test_git_signs_in_with_the_jobs_token_that_no_list_of_processes_shows(
    pipeline: SimpleNamespace, tmp_path: Path
) -> None:
    system = pipeline.ci_systems.GitHub({"GITHUB_TOKEN": "t0ken", "GITHUB_SERVER_URL": "https://github.example.com"})
    environment = {**system.git_environment(), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    asked = ["git", "config", "--get-urlmatch", "http.extraheader"]
    for url, known in (("https://github.example.com/acme/churn", True), ("https://evil.example.com/x", False)):
        done = subprocess.run([*asked, url], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.stdout.startswith("Authorization: Basic ") is known


class Moved(BaseHTTPRequestHandler):
    """Redirects /to/PORT to the port's /there, which answers with the token that it was sent."""

    tokens: list[str | None]

    def do_GET(self) -> None:
        there = self.path == "/there"
        self.tokens.append(self.headers["Authorization"])
        body = json.dumps(self.headers["Authorization"] if there else "moved").encode()
        self.send_response(200 if there else 301)
        if not there:
            self.send_header("Location", f"http://127.0.0.1:{self.path.rpartition('/')[2]}/there")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not on the tests' output."""


def test_a_token_follows_a_redirect_to_no_other_host(pipeline: SimpleNamespace) -> None:
    handlers: list[Any] = [type("Handler", (Moved,), {"tokens": []}) for _ in range(2)]
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for handler in handlers]
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}) for server in servers]
    for thread in threads:
        thread.start()
    own, other = (server.server_address[1] for server in servers)

    def asked(port: int) -> Any:
        url = f"http://127.0.0.1:{own}/to/{port}"
        return pipeline.ci_systems.call(Request(url, headers={"Authorization": "Bearer t0ken"}), "do something")

    try:
        assert asked(own) == "Bearer t0ken", "a repository that was renamed"
        with pytest.raises(pipeline.InputError, match=r": 301 .*do something"):
            asked(other)
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()
    assert handlers[1].tokens == []


class Sts(BaseHTTPRequestHandler):
    """AssumeRoleWithWebIdentity: credentials that are about to expire, or a refusal."""

    tokens: list[str]
    refuses = False

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        assert "Authorization" not in self.headers, "a job that has no credentials signs nothing"
        self.tokens.append(next(part for part in asked.split("&") if part.startswith("WebIdentityToken=")))
        expires = (datetime.now(UTC) + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
        keys = f"<AccessKeyId>AKIA{len(self.tokens)}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        body = (
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
            f"{keys}<SessionToken>t</SessionToken><Expiration>{expires}</Expiration></Credentials>"
            "<AssumedRoleUser><AssumedRoleId>x:y</AssumedRoleId><Arn>arn:aws:sts::123456789012:assumed-role/r/s</Arn>"
            "</AssumedRoleUser></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        )
        if self.refuses:
            said = "Not authorized to perform sts:AssumeRoleWithWebIdentity"
            body = f"<ErrorResponse><Error><Code>AccessDenied</Code><Message>{said}</Message></Error></ErrorResponse>"
        self.send_response(403 if self.refuses else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Not on the tests' output."""


@pytest.fixture
def sts(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Sts]]:
    handler = type("Handler", (Sts,), {"tokens": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{server.server_address[1]}")
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_roles_credentials_are_renewed_each_time_with_a_new_token(pipeline: SimpleNamespace, sts: type[Sts]) -> None:
    tokens = iter(["first", "second"])
    session = pipeline.ci_systems.role_session(
        "us-east-1",
        "arn:aws:iam::123456789012:role/churn-ci-dev",
        lambda: next(tokens),
        "github-7",
        lambda error: pipeline.InputError(f"refused: {error}"),
    )
    credentials = session.get_credentials()
    assert sts.tokens == [], "nothing is asked for before it is needed"
    assert credentials.get_frozen_credentials().access_key == "AKIA1"
    assert credentials.get_frozen_credentials().access_key == "AKIA2", "the first would have expired in minutes"
    assert sts.tokens == ["WebIdentityToken=first", "WebIdentityToken=second"]
    tokens, sts.refuses = iter(["third"]), True
    with pytest.raises(pipeline.InputError, match=r"refused: .*Not authorized"):
        session.client("sts").get_caller_identity()


def test_a_role_that_aws_does_not_give_is_said_with_its_variable(
    pipeline: SimpleNamespace, sts: type[Sts], monkeypatch: pytest.MonkeyPatch
) -> None:
    sts.refuses = True
    variables = {"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_REF_NAME": "dev", "CI_JOB_ID": "9"}
    variables |= {"MODELYARD_ID_TOKEN": "s3cr3t.t0ken", "MODELYARD_CI_ROLE_DEV": "arn:aws:iam::123456789012:role/mine"}
    with pytest.raises(pipeline.InputError) as caught:
        pipeline.ci_systems.GitLab(variables).session("us-east-1")
    said = str(caught.value)
    assert "role/mine" in said
    assert "MODELYARD_CI_ROLE_DEV must name a role of this project that trusts GitLab CI for this branch" in said
    assert "s3cr3t" not in said
    assert not isinstance(caught.value, pipeline.ci_systems.NoCredentials), "the check must not pass without a plan"
