"""What a push does on both hosts, as a person meets it: in CI's log, at the commit, in a pull request, in the registry.

The repository is a generated one, with one test of its own, so that CI takes seconds; everything else is real: roles,
rules, builds, pipelines, trainings. The faults are those of test_push_faults.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local_aws import LocalAWS
from tests.ci.projects import MESSAGE
from tests.local_aws.waiting import wait_for
from tests.story.pushed import Pushed, make_project
from tests.story.ways import CLOCK_SPEED, Installed

pytestmark = pytest.mark.slow

# What a shell, YAML, JSON, a log or a console could take for something else than a name; git allows all of it.
HOSTILE = "feature--rf-$(touch${IFS}x)`id`\"';&|<>#!{}()%0Aé"


@pytest.fixture(scope="module", params=["codecommit", "github"])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    with LocalAWS(enforce_iam=True, clock_speed=CLOCK_SPEED, builds=True) as aws:
        installed = Installed(aws, request.param).install()
        yield make_project(installed, "pushed", Path(tmp_path_factory.mktemp("pushes")))


def test_a_feature_branch_is_trained_and_its_commit_is_told(project: Pushed) -> None:
    project.on("feature-columns", MESSAGE, files={"notes.txt": "one"})
    commit = project.push("feature-columns")
    ci = project.ci("feature-columns", commit)
    assert ci.succeeded, ci.log
    assert "the pipeline of feature-columns compiles" in ci.log
    assert "started arn:" in ci.log
    assert project.trained("feature-columns") == [(f"push-{commit[:12]}", "Succeeded")]
    (version,) = project.versions("feature")
    assert version["ModelApprovalStatus"] == "PendingManualApproval"
    assert version["CustomerMetadataProperties"]["git.commit"] == commit
    assert version["CustomerMetadataProperties"]["git.branch"] == "feature-columns"
    told = project.told(commit, "success")
    assert "rmse" in told
    assert "version 1 of pushed-feature waits for approval" in told
    assert "report.html" in told


def test_a_newer_push_supersedes_and_a_force_push_too(project: Pushed) -> None:
    branch = "feature-hurried"
    project.on(branch, "first", files={"notes.txt": "first"})
    first = project.push(branch)
    project.on(branch, "second", files={"notes.txt": "second"})
    second = project.push(branch)
    for commit in (first, second):
        project.ci(branch, commit)
    project.on(branch, "instead of both", base="dev", files={"notes.txt": "third"})
    third = project.push(branch, "--force")
    last = project.ci(branch, third)
    assert last.succeeded, last.log
    ended = dict(project.trained(branch))
    assert ended[f"push-{third[:12]}"] == "Succeeded"
    assert ended.get(f"push-{first[:12]}", "Stopped") == "Stopped"  # maybe it was not even started
    assert project.told(third, "success")


def test_names_and_texts_full_of_shell_are_names_and_texts(project: Pushed) -> None:
    project.on(HOSTILE, MESSAGE, files={"notes $(id).txt": "`id`"})
    commit = project.push(HOSTILE)
    ci = project.ci(HOSTILE, commit)
    assert ci.succeeded, ci.log
    assert "started arn:" in ci.log
    assert "uid=" not in ci.log
    assert project.trained(HOSTILE) == [(f"push-{commit[:12]}", "Succeeded")]
    version = project.versions("feature")[-1]
    assert version["CustomerMetadataProperties"]["git.commit"] == commit
    assert project.told(commit, "success")
    project.delete(HOSTILE)
    assert "deleted the pipeline" in project.ci_of_deletion(HOSTILE).log
    assert project.pipelines(HOSTILE) == []


def test_what_ci_rejects_lands_and_trains_nothing(project: Pushed) -> None:
    branch = "feature-broken"
    project.on(branch, "broken", files={"settings.yaml": "project: pushed\nnothing: true\n"})
    commit = project.push(branch)
    ci = project.ci(branch, commit)
    assert not ci.succeeded
    assert "settings.yaml: nothing" in ci.log, ci.log
    assert project.head(branch) == commit
    assert project.pipelines(branch) == []


def test_the_pipeline_of_a_deleted_branch_goes_while_it_trains(project: Pushed) -> None:
    branch = "feature-short"
    project.on(branch, "short", files={"notes.txt": branch})
    ci = project.ci(branch, project.push(branch))
    assert ci.succeeded, ci.log
    assert project.pipelines(branch)
    project.delete(branch)
    ci = project.ci_of_deletion(branch)
    assert ci.succeeded, ci.log
    assert "deleted the pipeline" in ci.log
    assert project.pipelines(branch) == []


def test_a_branch_of_another_name_trains_nothing(project: Pushed) -> None:
    before = project.runs()
    project.on("topic", "topic", files={"notes.txt": "topic"})
    project.push("topic")
    project.on("feature-after", "after", files={"notes.txt": "after"})
    project.ci("feature-after", project.push("feature-after"))
    assert [branch for branch in project.runs() if branch not in before] == ["feature-after"]


def test_watch_follows_the_training_to_its_end(project: Pushed) -> None:
    branch = "feature-watched"
    project.on(branch, "watch", settings={"ci": {"watch": True}})
    ci = project.ci(branch, project.push(branch))
    assert ci.succeeded, ci.log
    assert "Register" in ci.log
    assert "Succeeded" in ci.log
    project.on(branch, "a gate that no model passes", settings={"gate": {"threshold": 0.0001}})
    commit = project.push(branch)
    ci = project.ci(branch, commit)
    assert not ci.succeeded
    assert "rmse" in ci.log
    assert "rmse" in project.told(commit, "failure")


def test_a_pull_request_is_shown_the_plan_in_one_comment(project: Pushed) -> None:
    if not project.on_github:
        pytest.skip("CodeCommit starts nothing for a pull request here")
    project.on("feature-asked", "ask", files={"notes.txt": "ask"})
    project.push("feature-asked")
    number = project.open_pull_request("feature-asked", "dev", MESSAGE[:60])
    ci = project.ci_of_pull_request("feature-asked")
    assert ci.succeeded, ci.log
    (comment,) = wait_for(lambda: project.comments(number))
    assert "### Plan of `pushed`" in comment
    project.on("feature-asked", "ask again", files={"notes.txt": "ask again"})
    project.push("feature-asked")
    assert project.ci_of_pull_request("feature-asked", runs=2).succeeded
    assert len(project.comments(number)) == 1


def test_what_github_does_not_take_it_is_told_when_it_is_back(project: Pushed) -> None:
    if not project.on_github:
        pytest.skip("CodeCommit is AWS's own")
    branch, aws = "feature-outage", project.installed.aws
    project.on(branch, "outage", files={"notes.txt": branch})
    commit = project.push(branch)
    assert project.ci(branch, commit).succeeded
    aws.configure("github", {"outage": True})
    try:
        assert project.trained(branch)[0][1] == "Succeeded"
        wait_for(lambda: "not told: comes again" in project.log_of_status(), seconds=60, pause=0.2)
    finally:
        aws.configure("github", {"outage": False})
    assert project.told(commit, "success")


def test_dev_is_trained_and_its_commit_is_told(project: Pushed) -> None:
    project.on("dev", "to dev", files={"notes.txt": "to dev"})
    commit = project.push("dev")
    ci = project.ci("dev", commit)
    assert ci.succeeded, ci.log
    assert dict(project.trained("dev"))[f"push-{commit[:12]}"] == "Succeeded"
    assert "of pushed-dev waits for approval" in project.told(commit, "success")


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_prod_is_given_what_was_approved_on_dev_for_its_tree(project: Pushed, method: str) -> None:
    commit = project.on_dev(method, files={"notes.txt": method})
    approved = project.register(project.clone("rev-parse", f"{commit}^{{tree}}"))
    project.push("dev")
    before = project.versions("prod")
    released = project.release(method, f"release by {method}: $(id) `id` \"'")
    ci = project.ci("prod", released)
    assert ci.succeeded, ci.log
    assert "waits for approval" in ci.log
    assert "started arn:" not in ci.log
    (copy,) = project.versions("prod")[len(before) :]
    assert copy["ModelApprovalStatus"] == "PendingManualApproval"
    assert copy["CustomerMetadataProperties"]["promoted.from"] == approved
    assert copy["CustomerMetadataProperties"]["promoted.commit"] == released
    assert project.pipelines("prod") == []


def test_a_tree_that_was_never_approved_is_refused_and_says_what_to_do(project: Pushed) -> None:
    commit = project.on_dev("never trained", files={"notes.txt": "never"})
    project.push("dev")
    before = project.versions("prod")
    ci = project.ci("prod", project.release("merge", "too early"))
    assert not ci.succeeded
    tree = project.clone("rev-parse", f"{commit}^{{tree}}")
    assert f"(tree {tree}), and prod trains nothing" in ci.log, ci.log
    assert project.versions("prod") == before


def test_a_second_push_of_the_same_tree_makes_nothing(project: Pushed) -> None:
    commit = project.on_dev("twice", files={"notes.txt": "twice"})
    project.register(project.clone("rev-parse", f"{commit}^{{tree}}"))
    project.push("dev")
    assert project.ci("prod", project.release("merge", "once")).succeeded
    before = project.versions("prod")
    project.on_dev("the same files")
    project.push("dev")
    again = project.ci("prod", project.release("merge", "again"))
    assert again.succeeded, again.log
    assert "waits for approval" in again.log
    assert project.versions("prod") == before
