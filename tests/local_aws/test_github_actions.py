"""GitHub Actions: a repository's own workflows, run by pushes, pull requests and deleted branches."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from local_aws import LocalAWS
from local_aws.builds.runner import Programs
from local_aws.git.github_actions_expressions import ExpressionError, Scope, condition, evaluate, filled
from local_aws.git.github_actions_job import JobCourse
from local_aws.git.github_actions_log import WorkflowLog
from local_aws.git.github_actions_workflows import WorkflowError, parse
from tests.local_aws.git_clients import Git
from tests.local_aws.github_clients import ORGANIZATION, GitHubClient, configure
from tests.local_aws.waiting import PATIENCE, wait_for

CHECKOUT = Path(__file__).resolve().parents[2]
NUMBERS = itertools.count(1)
WORKFLOW = ".github/workflows/ci.yml"
CHECK_OUT = {"uses": f"actions/checkout@{'0' * 40}"}


class Stand:
    """A repository of GitHub's stand-in, and a clone of it."""

    def __init__(self, aws: LocalAWS, folder: Path) -> None:
        self.aws, self.github, self.name = aws, GitHubClient(aws.endpoint), f"actions-{next(NUMBERS)}"
        self.github.create(self.name)
        self.path, self.folder = f"/repos/{ORGANIZATION}/{self.name}", folder
        self.git = Git(folder, self.github.git_environment)
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("remote", "add", "origin", self.github.url(self.name))

    def push(self, *refs: str, workflow: dict[str, Any] | str | None = None, **files: str) -> str:
        """Commit a workflow (JSON is YAML) and files, and push them to refs (main without any); the commit."""
        if workflow is not None:
            path = self.folder / WORKFLOW
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(workflow if isinstance(workflow, str) else json.dumps(workflow))
        commit = self.git.commit(**files, **{f"number{next(NUMBERS)}": ""})
        self.git("push", "--quiet", "--force", "origin", *(f"HEAD:refs/heads/{ref}" for ref in refs or ("main",)))
        return commit

    def runs(self, **query: str) -> list[dict[str, Any]]:
        """Newest first."""
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        answer = self.github("GET", f"{self.path}/actions/runs?{asked}")
        assert answer.status == 200, answer
        return list(answer.content["workflow_runs"])

    def ended(self, number: int = 1, seconds: float = PATIENCE) -> dict[str, Any]:
        """The run of a number, when it is over."""

        def over() -> dict[str, Any] | None:
            found = (each for each in self.runs() if each["run_number"] == number)
            return next((each for each in found if each["status"] == "completed"), None)

        return dict(wait_for(over, seconds, lambda: f"{self.runs()} {self.aws.log[-2000:]}", pause=0.02))

    def jobs(self, run: dict[str, Any]) -> dict[str, dict[str, Any]]:
        answer = self.github("GET", f"{self.path}/actions/runs/{run['id']}/jobs")
        return {each["name"]: each for each in answer.content["jobs"]}

    def shown(self, ending: str) -> dict[str, Any]:
        """What the switch "builds" says of this repository's one build whose name or id ends so."""
        builds = [each for each in self.aws.settings("builds")["builds"] if f"/{self.name} " in each["name"]]
        (found,) = [each for each in builds if each["name"].endswith(ending) or each["id"] == ending]
        return dict(found)

    def log(self, job: dict[str, Any]) -> str:
        """Without the times that its lines begin with."""
        text = str(self.github("GET", f"{self.path}/actions/jobs/{job['id']}/logs").content or "")
        return "".join(f"{line.partition(' ')[2]}\n" for line in text.splitlines())


def workflow(
    *steps: dict[str, Any], on: Any = "push", job: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """A workflow of one job, "one"."""
    return {"on": on, "jobs": {"one": {"runs-on": "ubuntu-24.04", "steps": list(steps), **(job or {})}}, **more}


@pytest.fixture(scope="module")
def server() -> Iterator[LocalAWS]:
    with LocalAWS(enforce_iam=True, builds=True) as aws:
        configure(aws)
        yield aws


@pytest.fixture
def stand(server: LocalAWS, tmp_path: Path) -> Stand:
    return Stand(server, tmp_path)


# A push


PUSHED = """
name: ci
on:
  push: {branches: [main]}
permissions: {}
env: {GREETING: "hello ${{ vars.WHO }}"}
jobs:
  one:
    runs-on: ubuntu-24.04
    permissions: {contents: read, id-token: write}
    outputs: {five: "${{ steps.counts.outputs.five }}"}
    steps:
      - uses: actions/checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8
        with: {persist-credentials: false}
      - uses: actions/setup-python@e797f83bcb11b83ae66e0230d6156d7c80228e7c
        with: {python-version: "3.12", cache: pip}
      - id: counts
        run: |
          echo "$GREETING on $GITHUB_REF_NAME at $GITHUB_SHA in $(git rev-parse --abbrev-ref HEAD)"
          echo "the secret is ${{ secrets.SESAME }}"
          echo "five=5" >> "$GITHUB_OUTPUT"
          printf 'TEXT<<END\\nfirst\\nsecond\\nEND\\n' >> "$GITHUB_ENV"
          echo "# Summary" >> "$GITHUB_STEP_SUMMARY"
          mkdir bin; printf '#!/bin/sh\\necho mine\\n' > bin/mine; chmod +x bin/mine; echo "$PWD/bin" >> "$GITHUB_PATH"
      - run: echo "$TEXT"; mine; git config --list
      - shell: python
        run: |
          import json, os, urllib.request
          url = os.environ["ACTIONS_ID_TOKEN_REQUEST_URL"] + "&audience=sts.amazonaws.com"
          token = {"Authorization": "bearer " + os.environ["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]}
          answer = json.load(urllib.request.urlopen(urllib.request.Request(url, headers=token)))
          open("token", "w").write(answer["value"])
      - uses: actions/upload-artifact@v4
        with: {name: identity, path: token}
  two:
    needs: one
    runs-on: ubuntu-24.04
    steps:
      - run: echo "five is ${{ needs.one.outputs.five }}"; env
"""


@pytest.fixture(scope="module")
def pushed(server: LocalAWS, tmp_path_factory: pytest.TempPathFactory) -> tuple[Stand, str, dict[str, Any]]:
    """A push, its commit, and the run that it caused, which is over."""
    stand = Stand(server, tmp_path_factory.mktemp("pushed"))
    stand.github("POST", f"{stand.path}/actions/variables", {"name": "WHO", "value": "world"})
    full_name = f"{ORGANIZATION}/{stand.name}"
    server.configure("github", {"secrets": {full_name: {"SESAME": "open-sesame"}}})
    assert server.settings("github")["secrets"][full_name] == ["SESAME"]
    commit = stand.push("main", "other", workflow=PUSHED)
    return stand, commit, stand.ended()


def test_a_push_runs_the_jobs_of_its_workflow_in_their_order(pushed: tuple[Stand, str, dict[str, Any]]) -> None:
    stand, commit, run = pushed
    jobs = stand.jobs(run)

    assert run["conclusion"] == "success", stand.log(jobs["one"])
    assert (run["head_sha"], run["head_branch"], run["event"], run["name"]) == (commit, "main", "push", "ci")
    assert {name: job["conclusion"] for name, job in jobs.items()} == {"one": "success", "two": "success"}
    assert "\nfive is 5\n" in stand.log(jobs["two"])
    assert [run["head_branch"] for run in stand.runs()] == ["main"]  # none for the other branch
    assert stand.runs(branch="other") == []


def test_steps_see_what_steps_before_them_have_set(pushed: tuple[Stand, str, dict[str, Any]]) -> None:
    stand, commit, run = pushed
    log = stand.log(stand.jobs(run)["one"])

    assert f"\nhello world on main at {commit} in main\n" in log
    assert "\nfirst\nsecond\nmine\n" in log
    assert "extraheader" not in log  # persist-credentials: false
    shown = next(
        each for each in stand.aws.settings("builds")["builds"] if each["name"].endswith(f"{stand.name} ci: one")
    )
    assert Path(shown["summary"]).read_text() == "# Summary\n"


def test_no_log_has_a_secret_or_a_token(pushed: tuple[Stand, str, dict[str, Any]]) -> None:
    stand, _, run = pushed
    logs = "".join(stand.log(job) for job in stand.jobs(run).values())

    assert "\nthe secret is ***\n" in logs
    assert "open-sesame" not in logs
    assert "ghs_" not in logs
    assert "open-sesame" not in json.dumps(stand.aws.settings("github"))


def test_a_job_s_identity_token_is_one_that_sts_knows(pushed: tuple[Stand, str, dict[str, Any]]) -> None:
    stand, _, run = pushed
    subject = stand.github("GET", f"{stand.path}/actions/oidc/customization/sub").content
    token = (
        Path(stand.shown("one")["log"]).parent / f"github-{run['id']}-artifacts" / "identity" / "token"
    ).read_text()
    iam, sts, issuer = stand.aws.client("iam"), stand.aws.client("sts"), stand.aws.endpoint.removeprefix("http://")
    provider = iam.create_open_id_connect_provider(
        Url=f"https://{issuer}/_github/_services/token", ClientIDList=["sts.amazonaws.com"]
    )["OpenIDConnectProviderArn"]
    trust = {"Effect": "Allow", "Principal": {"Federated": provider}, "Action": "sts:AssumeRoleWithWebIdentity"}
    claims = {f"{issuer}/_github/_services/token:sub": f"repo:*{stand.name}@*:ref:refs/heads/main"}
    policy = {"Version": "2012-10-17", "Statement": [trust | {"Condition": {"StringLike": claims}}]}
    role = iam.create_role(RoleName=stand.name, AssumeRolePolicyDocument=json.dumps(policy))["Role"]["Arn"]

    given = sts.assume_role_with_web_identity(RoleArn=role, RoleSessionName="job", WebIdentityToken=token)

    assert given["SubjectFromWebIdentityToken"] == f"{subject['sub_claim_prefix']}:ref:refs/heads/main"
    log = stand.log(stand.jobs(run)["two"])
    assert "ACTIONS_ID_TOKEN_REQUEST_URL" not in log  # it has not the permission


# Failures


def test_a_step_that_fails_ends_its_job_but_for_steps_that_run_always(stand: Stand) -> None:
    steps: list[dict[str, Any]] = [
        {"run": "false", "continue-on-error": True, "id": "tried"},
        {"run": "echo tried ${{ steps.tried.outcome }} ${{ steps.tried.conclusion }}; exit 3"},
        {"run": "echo never"},
        {"run": "echo ${{ job.status }}", "if": "failure()"},
        {"run": "echo always", "if": "${{ always() && github.ref_name == 'main' }}"},
    ]
    made = workflow(*steps)
    made["jobs"]["after"] = {"runs-on": "ubuntu-24.04", "needs": "one", "steps": [{"run": "true"}]}
    made["jobs"]["anyway"] = {**made["jobs"]["after"], "if": "always()"}

    stand.push(workflow=made)

    run = stand.ended()
    jobs = stand.jobs(run)
    assert run["conclusion"] == "failure"
    conclusions = {name: job["conclusion"] for name, job in jobs.items()}
    assert conclusions == {"one": "failure", "after": "skipped", "anyway": "success"}
    steps_ended = [each["conclusion"] for each in jobs["one"]["steps"]]
    assert steps_ended == ["success", "failure", "skipped", "success", "success"]
    log = stand.log(jobs["one"])
    assert "\ntried failure success\n" in log
    assert "\n##[error]Process completed with exit code 3.\n" in log
    assert "\nfailure\n" in log
    assert "\nalways\n" in log


def test_a_workflow_that_is_not_understood_fails_by_name(stand: Stand) -> None:
    stand.push(workflow=workflow({"run": "true"}, job={"strategy": {"matrix": {"a": [1]}}}))

    run = stand.ended()

    assert run["conclusion"] == "startup_failure"
    why = Path(stand.shown(str(run["id"]))["log"]).read_text()
    assert "jobs.one: local_aws does not understand strategy" in why


def test_an_expression_that_is_not_understood_fails_its_step(stand: Stand) -> None:
    stand.push(workflow=workflow({"run": "echo ${{ matrix.a }}"}))

    jobs = stand.jobs(stand.ended())

    assert jobs["one"]["conclusion"] == "failure"
    assert "local_aws has nothing called 'matrix' there" in stand.log(jobs["one"])


# Other events


def test_a_deleted_branch_runs_the_default_branch_s_workflow(stand: Stand) -> None:
    only = {"if": "github.event.ref_type == 'branch' && startsWith(github.event.ref, 'feature-')"}
    step = {"run": "echo gone ${{ github.event.ref }}; cat file; git branch --show-current"}
    commit = stand.push(
        "main", "feature-x", workflow=workflow(CHECK_OUT, step, on={"delete": None}, job=only), file="here"
    )

    stand.git("push", "--quiet", "origin", ":refs/heads/feature-x")

    run = stand.ended()
    assert (run["event"], run["head_branch"], run["head_sha"]) == ("delete", "main", commit)
    assert "\ngone feature-x\nheremain\n" in stand.log(stand.jobs(run)["one"])


def test_a_pull_request_runs_what_merging_it_would_make(stand: Stand) -> None:
    step = {"run": "echo ${{ github.event_name }} ${{ github.event.action }} $GITHUB_REF $GITHUB_HEAD_REF; ls"}
    stand.push(workflow=workflow(CHECK_OUT, step, on="pull_request"))
    first = stand.git("rev-parse", "HEAD")
    stand.push(base="of main")
    stand.git("checkout", "--quiet", "-b", "feature-x", first)
    head = stand.push("feature-x", feature="new")

    pull = stand.github("POST", f"{stand.path}/pulls", {"title": "x", "head": "feature-x", "base": "main"}).content
    run = stand.ended()
    stand.push("feature-x", feature="newer")

    log = stand.log(stand.jobs(run)["one"])
    assert f"\npull_request opened refs/pull/{pull['number']}/merge feature-x\n" in log
    assert "\nbase\nfeature\n" in log
    assert run["head_sha"] == head
    assert "pull_request synchronize" in stand.log(stand.jobs(stand.ended(2))["one"])


def test_a_workflow_can_be_run_by_hand(stand: Stand) -> None:
    inputs = {"inputs": {"who": {"default": "nobody", "type": "string"}}}
    stand.push(workflow=workflow({"run": "echo for ${{ inputs.who }}"}, on={"workflow_dispatch": inputs}))
    place = f"{stand.path}/actions/workflows/ci.yml/dispatches"

    assert stand.github("POST", place, {"ref": "main", "inputs": {"who": "ada"}}).status == 204
    assert "\nfor ada\n" in stand.log(stand.jobs(stand.ended())["one"])
    assert stand.github("POST", place, {"ref": "nothing"}).status == 422
    assert stand.github("POST", place, {"ref": "main", "inputs": {"other": "1"}}).status == 422
    assert stand.github("POST", place.replace("ci.yml", "no.yml"), {"ref": "main"}).status == 404


# Tokens


def test_a_job_s_token_has_the_job_s_permissions_and_what_it_does_starts_nothing(stand: Stand) -> None:
    other = stand.github.create(f"{stand.name}-other")["full_name"]
    push = {
        "run": "git config user.name x; git config user.email x@example.com; git commit --quiet --allow-empty -m more;"
        " git push --quiet origin HEAD:main 2>&1 || echo refused"
    }
    foreign = {"run": "git ls-remote ${{ github.server_url }}/" + other + ".git 2>&1 || echo foreign"}
    ask = {
        "run": 'for path in "" /pulls /actions/runs; do\n  curl -s -o /dev/null -w "$path %{http_code}\\n"'
        ' -H "Authorization: Bearer ${{ github.token }}" $GITHUB_API_URL/repos/$GITHUB_REPOSITORY$path\ndone'
    }

    stand.push(workflow=workflow(CHECK_OUT, push, foreign, ask, permissions={"contents": "read"}))
    first = stand.log(stand.jobs(stand.ended())["one"])
    stand.push(workflow=workflow(CHECK_OUT, push, permissions={"contents": "write"}))
    second = stand.log(stand.jobs(stand.ended(2))["one"])

    assert "\nrefused\n" in first
    assert "\nforeign\n" in first
    assert "\n 200\n/pulls 403\n/actions/runs 403\n" in first
    assert "refused" not in second.replace("|| echo refused", "")
    stand.push(workflow=workflow({"run": "true"}))
    assert stand.ended(3)["head_sha"] == stand.git("rev-parse", "HEAD")  # the job's push was no run


def test_runs_are_seen_with_the_right_to_actions_alone(stand: Stand) -> None:
    limited = "github_pat_limited_0123"
    stand.aws.configure("github", {"tokens": {limited: {"rights": ["contents"]}}})

    assert GitHubClient(stand.aws.endpoint, limited)("GET", f"{stand.path}/actions/runs").status == 403
    assert stand.github("GET", f"{stand.path}/actions/runs/1").status == 404
    assert stand.github("GET", f"{stand.path}/actions/jobs/1/logs").status == 404


# Concurrency


def test_a_newer_push_cancels_the_older_one_s_job(stand: Stand) -> None:
    group = {"concurrency": {"group": "ci-${{ github.ref }}", "cancel-in-progress": True}}
    stand.push(workflow=workflow({"run": "sleep 600"}, job=group))
    wait_for(lambda: stand.runs(status="in_progress"))

    stand.push(workflow=workflow({"run": "true"}, job=group))

    assert stand.ended(2)["conclusion"] == "success"
    assert stand.ended(1)["conclusion"] == "cancelled"


def test_a_run_waits_for_its_group_and_a_third_takes_the_second_one_s_place(stand: Stand) -> None:
    group = {"group": "one-at-a-time", "cancel-in-progress": False}
    gate = stand.folder.parent / f"{stand.name}-gate"
    step = {"run": f"until [ -e {gate} ]; do sleep 0.05; done"}
    stand.push(workflow=workflow(step, concurrency=group))
    wait_for(lambda: stand.runs(status="in_progress"))

    for _ in range(2):
        stand.push(workflow=workflow({"run": "true"}, concurrency=group))
    second = stand.ended(2)
    assert stand.runs(status="queued")[0]["run_number"] == 3
    gate.touch()

    assert second["conclusion"] == "cancelled"
    assert stand.ended(1)["conclusion"] == stand.ended(3)["conclusion"] == "success"
    gate.unlink()


def test_a_run_that_is_cancelled_ends_and_cannot_be_cancelled_again(stand: Stand) -> None:
    stand.push(workflow=workflow({"run": "sleep 600"}, {"run": "echo never"}))
    (run,) = wait_for(lambda: stand.runs(status="in_progress"))

    answer = stand.github("POST", f"{stand.path}/actions/runs/{run['id']}/cancel")

    assert answer.status == 202
    assert stand.ended()["conclusion"] == "cancelled"
    assert stand.github("POST", f"{stand.path}/actions/runs/{run['id']}/cancel").status == 409


@pytest.mark.slow
def test_a_run_under_way_when_the_server_is_killed_has_failed_afterwards(tmp_path: Path) -> None:
    with LocalAWS(state=tmp_path / "state", builds=True) as aws:
        configure(aws)
        (tmp_path / "repository").mkdir()
        stand = Stand(aws, tmp_path / "repository")
        stand.push(workflow=workflow({"run": "echo begun; sleep 600"}))
        wait_for(lambda: stand.runs(status="in_progress"))

        aws.restart(kill=True)

        run = stand.ended()
        assert run["conclusion"] == "failure"
        assert "while the run was under way" in str(
            stand.github("GET", f"{stand.path}/actions/jobs/{stand.jobs(run)['one']['id']}/logs").content
        )


def test_a_job_that_cannot_even_begin_fails_and_lets_the_next_one_run(stand: Stand) -> None:
    """As on a full disk."""
    one = workflow({"run": "pwd"}, concurrency={"group": "one"})
    stand.push(workflow=one)
    (folder,) = {
        line.split()[-1] for line in stand.log(stand.jobs(stand.ended())["one"]).splitlines() if "/builds/" in line
    }
    builds = next(parent for parent in Path(folder).parents if parent.name == "builds")
    builds.rename(builds.with_name("away"))
    builds.touch()
    try:
        stand.push(workflow=one)
        assert stand.ended(2)["conclusion"] == "failure"
    finally:
        builds.unlink()
        builds.with_name("away").rename(builds)
    stand.push(workflow=one)
    assert stand.ended(3)["conclusion"] == "success"


def test_without_builds_nothing_runs(aws: LocalAWS, tmp_path: Path) -> None:
    configure(aws)
    stand = Stand(aws, tmp_path)

    stand.push(workflow=workflow({"run": "true"}))

    assert stand.runs() == []


@pytest.mark.slow
def test_a_generated_repository_passes_its_own_checks(stand: Stand, tmp_path: Path) -> None:
    """The push that makes dev, as the seed's does: it is checked, and trains nothing."""
    command = [
        sys.executable,
        "-m",
        "cookiecutter",
        str(CHECKOUT),
        "--no-input",
        "--output-dir",
        str(tmp_path / "made"),
    ]
    environment = stand.git.environment | {"HOME": str(tmp_path)}
    subprocess.run([*command, "project=churn", "git_host=github"], env=environment, check=True, capture_output=True)
    generated = Git(tmp_path / "made" / "churn", stand.github.git_environment)

    generated("push", "--quiet", stand.github.url(stand.name), "HEAD:refs/heads/dev")

    jobs = stand.jobs(stand.ended(seconds=900))
    assert jobs["push"]["conclusion"] == "success", stand.log(jobs["push"])[-5000:]
    assert " passed" in stand.log(jobs["push"])  # its own tests


@pytest.mark.parametrize(
    ("secrets", "says"),
    [
        ({"acme/nothing": {"A": "1"}}, "no repository 'acme/nothing'"),
        ({"{stand}": {"1A": "1"}}, "no name of a secret"),
        ({"{stand}": {"GITHUB_A": "1"}}, "no name of a secret"),
        ({"{stand}": {"A": 1}}, "the value of A is no text"),
    ],
)
def test_secrets_that_are_none_are_refused(stand: Stand, secrets: dict[str, Any], says: str) -> None:
    named = {name.replace("{stand}", f"{ORGANIZATION}/{stand.name}"): values for name, values in secrets.items()}

    with pytest.raises(ValueError, match=says):
        stand.aws.configure("github", {"secrets": named})


# The token


def test_no_list_of_processes_shows_a_job_s_token_while_its_files_are_fetched(tmp_path: Path) -> None:
    git, asked = tmp_path / "bin" / "git", tmp_path / "asked"
    git.parent.mkdir()
    git.write_text(f'#!/bin/sh\necho "$GIT_CONFIG_KEY_0" "$GIT_CONFIG_VALUE_0" >> {asked}.env\necho "$@" >> {asked}\n')
    git.chmod(0o755)
    programs = Programs("acme/churn", 60)
    programs.begin()
    given = SimpleNamespace(
        contexts={"github": {"repository": "acme/churn", "sha": "a" * 40, "ref": "refs/heads/dev"}},
        usual={"PATH": f"{git.parent}:/usr/bin:/bin"},
        site="https://github.example.com",
        token="t0ken",
    )
    workspace = SimpleNamespace(source=tmp_path, folder=tmp_path)
    log, nothing = WorkflowLog(tmp_path / "log"), cast("Any", SimpleNamespace(steps=()))
    course = JobCourse(nothing, nothing, cast("Any", workspace), programs, log, tmp_path / "md", cast("Any", given))
    course._check_out({"persist-credentials": "false"})
    log.close()
    signed = base64.b64encode(b"x-access-token:t0ken").decode()
    assert "fetch" in asked.read_text()
    assert signed not in asked.read_text()
    told = f"http.https://github.example.com/.extraHeader AUTHORIZATION: basic {signed}"
    assert set((tmp_path / "asked.env").read_text().splitlines()) == {told}


# The log


def test_workflow_commands_in_what_is_printed_are_obeyed(tmp_path: Path) -> None:
    log = WorkflowLog(tmp_path / "log")
    printed = ["::add-mask::open-sesame", "say open-sesame", "::group::Tests", "::endgroup::", "::debug::no"]
    printed += ["::error file=a.py,line=1::broken", "::stop-commands::token", "::error::a text", "::token::"]
    log.write("".join(f"{line}\n" for line in printed).encode())
    log.close()

    shown = [line.partition("Z ")[2] for line in (tmp_path / "log").read_text().splitlines()]
    assert shown == ["say ***", "##[group]Tests", "##[endgroup]", "##[error]broken", "::error::a text"]


# The language


CONTEXTS = {
    "github": {"ref": "refs/heads/Dev", "event": {"numbers": [1, 2]}, "flag": True},
    "vars": {},
    "env": {"A": "b"},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("github.ref == 'refs/heads/dev'", True),  # whatever the case
        ("github.ref != 'x' && github.ref || 'other'", "refs/heads/Dev"),
        ("false && 'a' || 'b'", "b"),
        ("!startsWith(github.ref, 'refs/tags/')", True),
        ("github.event.numbers[1]", 2),
        ("github['ref']", "refs/heads/Dev"),
        ("vars.NOTHING", None),
        ("vars.NOTHING == ''", True),
        ("1 < 2 == true", True),
        ("'1' == 1", True),
        ("'it''s'", "it's"),
        ("format('{0} {{}} {1}', 'a', true)", "a {} true"),
        ("contains(github.event.numbers, 2) && endsWith('abc', 'C')", True),
        ("fromJSON('[1]')[0]", 1),
        ("join(github.event.numbers, '-')", "1-2"),
        ("(true)", True),
        ("always()", True),
        ("success()", False),
        ("failure() && !cancelled()", True),
    ],
)
def test_an_expression_has_its_value(text: str, value: Any) -> None:
    assert evaluate(text, Scope(CONTEXTS, "failure")) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it is empty"),
        ("matrix.a", "nothing called 'matrix'"),
        ("nothing(1)", "does not understand nothing"),
        ("github.ref =", "'=' is not understood"),
        ("'open", "is not understood"),
        ("github.ref github", "'github' is not expected"),
        ("(1", "ends too early"),
        ("github.*", r"does not understand \.\*"),
        ("format('{1}', 'a')", "no value for"),
        ("fromJSON('{')", "fromJSON"),
        ("(" * 60 + "1" + ")" * 60, "nested too deeply"),
    ],
)
def test_an_expression_that_is_none_is_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(ExpressionError, match=says):
        evaluate(text, Scope(CONTEXTS))


def test_texts_are_filled_and_conditions_ask_for_success() -> None:
    assert filled("a ${{ env.A }} ${{ github.flag }} ${{ vars.NO }}.", Scope(CONTEXTS)) == "a b true ."
    assert condition("github.flag", Scope(CONTEXTS))
    assert not condition("github.flag", Scope(CONTEXTS, "failure"))
    assert condition("${{ always() && github.flag }}", Scope(CONTEXTS, "failure"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"on": "release"}, "on: local_aws does not understand release"),
        ({"on": None}, "nothing says when it runs"),
        ({"on": {"push": {"paths": ["a"]}}}, "on.push: local_aws does not understand paths"),
        ({"on": {"pull_request": {"types": ["labeled"]}}}, "does not understand labeled"),
        ({"jobs": {}}, "it has no jobs"),
        ({"permissions": {"everything": "write"}}, "does not understand everything"),
        ({"permissions": {"contents": "all"}}, "'all' is no level"),
        ({"concurrency": {"cancel-in-progress": True}}, "it has no group"),
        ({"job": {"runs-on": "windows-latest"}}, "runs-on 'windows-latest'"),
        ({"job": {"container": "x"}}, "does not understand container"),
        ({"job": {"needs": "nothing"}}, "needs 'nothing', which is no job"),
        ({"job": {"needs": "one"}}, "need each other in a circle"),
        ({"job": {"steps": []}}, "it has no steps"),
        ({"job": {"timeout-minutes": 0}}, "timeout-minutes is 0"),
        ({"step": {"uses": "acme/own@v1"}}, "does not have the action 'acme/own@v1'"),
        ({"step": {"uses": "actions/checkout"}}, "no version is named"),
        ({"step": {"uses": "actions/checkout@v5", "with": {"submodules": True}}}, "does not understand submodules"),
        ({"step": {"run": "true", "shell": "pwsh"}}, "no shell 'pwsh'"),
        ({"step": {"run": "true", "uses": "actions/cache@v4"}}, "either run or uses"),
    ],
)
def test_a_workflow_that_asks_for_something_else_is_refused_by_name(change: dict[str, Any], says: str) -> None:
    made = workflow(change.pop("step", {"run": "true"}), job=change.pop("job", {})) | change

    with pytest.raises(WorkflowError, match=says):
        parse(json.dumps(made), WORKFLOW)


@pytest.mark.parametrize(
    ("filters", "branch", "runs"),
    [
        ({}, "any/branch", True),
        ({"branches": ["prod", "dev", "feature-*"]}, "feature-x", True),
        ({"branches": ["feature-*"]}, "feature-x/y", False),
        ({"branches": ["feature-**"]}, "feature-x/y", True),
        ({"branches": ["**", "!old-*"]}, "old-1", False),
        ({"branches-ignore": ["old-*"]}, "old-1", False),
        ({"branches-ignore": ["old-*"]}, "new", True),
        ({"tags": ["v*"]}, "v1", False),
    ],
)
def test_a_push_s_filter_lets_branches_in_by_pattern(filters: dict[str, Any], branch: str, runs: bool) -> None:
    parsed = parse(json.dumps(workflow({"run": "true"}, on={"push": filters})), WORKFLOW)

    assert parsed.events["push"].takes_branch(branch) == runs
