"""Pushes while something goes wrong: what is half-done then, the same job or the next push finishes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_aws import LocalAWS
from tests.local_aws.waiting import wait_for
from tests.story.pushed import LOOK, PATIENCE, Pushed, make_project
from tests.story.ways import CLOCK_SPEED, Installed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    folder = Path(tmp_path_factory.mktemp("faults"))
    with LocalAWS(state=folder / "state", enforce_iam=True, clock_speed=CLOCK_SPEED, builds=True) as aws:
        installed = Installed(aws, "codecommit").install()
        yield make_project(installed, "faulty", folder)


@pytest.fixture(autouse=True)
def _healed(project: Pushed) -> Iterator[None]:
    yield
    project.installed.aws.configure("events", {})
    project.installed.aws.configure("faults", {"rules": []})


def rule(operation: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"service": "sagemaker", "operation": operation, "kind": kind, "caller": "-ci-feature"} | more


def begun(project: Pushed, branch: str, commit: str) -> dict[str, Any]:
    """A feature branch's build that runs its commands."""

    def found() -> dict[str, Any] | None:
        return next(
            (
                one
                for one in project.builds(branch)
                if one["sourceVersion"] == commit and one["currentPhase"] == "BUILD"
            ),
            None,
        )

    return dict(wait_for(found, otherwise=lambda: f"{project.builds(branch)}", seconds=PATIENCE, pause=LOOK))


def test_a_push_that_is_told_twice_and_late_trains_once(project: Pushed) -> None:
    project.installed.aws.configure("events", {"double": 1.0, "delay_seconds": 2})
    branch = "feature-double"
    project.on(branch, "double", files={"notes.txt": branch})
    commit = project.push(branch)
    for nth in range(2):
        ci = project.ci(branch, commit, nth)
        assert ci.succeeded, ci.log
    ended = project.trained(branch)
    assert {name for name, _ in ended} == {f"push-{commit[:12]}"}
    assert [status for _, status in ended].count("Succeeded") >= 1
    assert project.told(commit, "success")
    assert {state for state, _ in project.tellings(commit)} == {"success"}


def test_throttling_and_lost_answers_are_outlasted(project: Pushed) -> None:
    branch = "feature-throttled"
    rules = [
        rule("CreatePipeline", "throttle", times=2),
        rule("UpdatePipeline", "drop", when="after"),
        rule("StartPipelineExecution", "drop", when="after"),
        rule("ListPipelineExecutions", "throttle", times=3),
    ]
    project.installed.aws.configure("faults", {"rules": rules})
    project.on(branch, "throttled", files={"notes.txt": branch})
    commit = project.push(branch)
    ci = project.ci(branch, commit)
    assert ci.succeeded, ci.log
    assert project.trained(branch) == [(f"push-{commit[:12]}", "Succeeded")]


def test_what_a_refused_call_leaves_the_next_push_finishes(project: Pushed) -> None:
    branch = "feature-refused"
    project.installed.aws.configure(
        "faults", {"rules": [rule("StartPipelineExecution", "error", code="Refused", status=400)]}
    )
    project.on(branch, "refused", files={"notes.txt": branch})
    ci = project.ci(branch, project.push(branch))
    assert not ci.succeeded
    refused = ci.log.index("error: AWS refused StartPipelineExecution")
    assert ci.log.index("build/ci/plan.md holds it") < refused
    assert "Traceback" not in ci.log
    project.on(branch, "again")
    commit = project.push(branch)
    assert project.ci(branch, commit).succeeded
    assert project.trained(branch) == [(f"push-{commit[:12]}", "Succeeded")]


def test_a_build_that_is_killed_leaves_a_branch_that_the_next_push_trains(project: Pushed) -> None:
    branch = "feature-killed"
    project.on(branch, "killed", files={"notes.txt": branch})
    commit = project.push(branch)
    project.client("codebuild").stop_build(id=begun(project, branch, commit)["id"])
    assert project.ci(branch, commit).log.startswith("STOPPED")
    project.on(branch, "again")
    commit = project.push(branch)
    assert project.ci(branch, commit).succeeded
    assert dict(project.trained(branch))[f"push-{commit[:12]}"] == "Succeeded"


def test_a_server_that_is_killed_with_ci_under_way_takes_the_next_pushes(project: Pushed) -> None:
    branch = "feature-interrupted"
    project.on_dev("to dev", files={"notes.txt": "dev"})
    of_dev = project.push("dev")
    project.on(branch, "interrupted", files={"notes.txt": branch})
    commit = project.push(branch)
    begun(project, branch, commit)
    wait_for(lambda: project.deliveries("dev", of_dev), seconds=PATIENCE, pause=LOOK)
    project.installed.aws.restart(kill=True)

    assert not project.ci(branch, commit).succeeded
    assert not project.ci("dev", of_dev).succeeded
    project.on(branch, "again")
    project.on_dev("to dev again")
    commit, of_dev = project.push(branch), project.push("dev")
    assert project.ci(branch, commit).succeeded
    assert project.ci("dev", of_dev).succeeded
    assert dict(project.trained(branch))[f"push-{commit[:12]}"] == "Succeeded"
    assert dict(project.trained("dev"))[f"push-{of_dev[:12]}"] == "Succeeded"
    assert project.told(of_dev, "success")


def test_a_server_that_is_killed_while_a_branch_trains_goes_on_and_tells_the_commit(project: Pushed) -> None:
    branch = "feature-training"
    project.on(branch, "training", files={"notes.txt": branch}, settings={"split": {"seed": 7}})
    commit = project.push(branch)
    assert project.ci(branch, commit).succeeded
    project.installed.aws.restart(kill=True)
    ((name, status),) = project.trained(branch)
    assert name == f"push-{commit[:12]}"
    assert project.told(commit, {"Succeeded": "success", "Failed": "failure", "Stopped": "error"}[status])
