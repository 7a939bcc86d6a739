"""Builds that run: CodeBuild's buildspecs, their roles, their logs, and what is left of them."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

from local_aws import LocalAWS
from local_aws.builds import watching
from local_aws.builds.buildspec import BuildspecError, parse
from local_aws.builds.credentials import BuildCredentials
from local_aws.builds.log import BuildLog
from local_aws.builds.runner import Programs, Runner
from tests.local_aws.git_clients import Git
from tests.local_aws.waiting import wait_for

ACCOUNT, REGION = "123456789012", "us-east-1"
NUMBERS = itertools.count(1)
LEAK = "LOCAL_AWS_TESTS_LEAK"  # in the server's own environment
# What CodeBuild itself does as the role, and what the commands of most tests do.
FETCH = ("codecommit:GitPull", "logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
ENVIRONMENT = {"type": "LINUX_CONTAINER", "image": "aws/codebuild/standard:7.0", "computeType": "BUILD_GENERAL1_SMALL"}


class Stand:
    """A repository, a CodeBuild project with a role, and a rule that starts a build at each push.

    Args:
        actions: what the role may do.
        principals: whom it trusts.
    """

    def __init__(
        self,
        aws: LocalAWS,
        folder: Path,
        actions: tuple[str, ...] = FETCH,
        principals: tuple[str, ...] = ("codebuild.amazonaws.com",),
    ) -> None:
        self.aws, self.name = aws, f"stand-{next(NUMBERS)}"
        self.codebuild, iam, events = aws.client("codebuild"), aws.client("iam"), aws.client("events")
        repository = aws.client("codecommit").create_repository(repositoryName=self.name)["repositoryMetadata"]
        self.url = repository["cloneUrlHttp"]
        self.role = self._role(iam, self.name, actions, principals)
        starter = self._role(iam, f"{self.name}-starts", ("codebuild:StartBuild",), ("events.amazonaws.com",))
        self.codebuild.create_project(
            name=self.name,
            source={"type": "CODECOMMIT", "location": self.url},
            artifacts={"type": "NO_ARTIFACTS"},
            environment={**ENVIRONMENT, "environmentVariables": [{"name": "STAGE", "value": "feature"}]},
            serviceRole=self.role,
        )
        pattern = {"source": ["aws.codecommit"], "resources": [repository["Arn"]]}
        events.put_rule(Name=self.name, EventPattern=json.dumps(pattern))
        transformer = {
            "InputPathsMap": {"commit": "$.detail.commitId", "branch": "$.detail.referenceName"},
            "InputTemplate": '{"sourceVersion": <commit>, "environmentVariablesOverride": '
            '[{"name": "BRANCH", "value": <branch>, "type": "PLAINTEXT"}]}',
        }
        project = f"arn:aws:codebuild:{REGION}:{ACCOUNT}:project/{self.name}"
        target = {"Id": "build", "Arn": project, "RoleArn": starter, "InputTransformer": transformer}
        events.put_targets(Rule=self.name, Targets=[target])
        folder.mkdir(exist_ok=True)
        self.git = Git(folder, {**aws.environment, **aws.git_environment})
        self.git("init", "--quiet", "--initial-branch=main")

    def _role(self, iam: Any, name: str, actions: tuple[str, ...], principals: tuple[str, ...]) -> str:
        trust = {"Effect": "Allow", "Principal": {"Service": list(principals)}, "Action": "sts:AssumeRole"}
        made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(_policy(trust)))["Role"]["Arn"]
        allowed = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=json.dumps(_policy(allowed)))
        return str(made)

    def push(self, branch: str = "main", **files: str) -> str:
        """Commit files and push them to a branch; the commit."""
        commit = self.git.commit(**files)
        self.git("push", "--quiet", "--force", self.url, f"HEAD:refs/heads/{branch}")
        return commit

    def builds(self) -> list[dict[str, Any]]:
        """Newest first."""
        ids = self.codebuild.list_builds_for_project(projectName=self.name)["ids"]
        return self.codebuild.batch_get_builds(ids=ids)["builds"] if ids else []

    def ended(self, number: int = 1) -> dict[str, Any]:
        """The build of a number, when it is over."""

        def over() -> dict[str, Any] | None:
            return next(
                (each for each in self.builds() if each["buildNumber"] == number and each["buildComplete"]), None
            )

        found = wait_for(over, otherwise=lambda: f"{self.builds()} {self.aws.log[-2000:]}", pause=0.02)
        return dict(found)

    def log(self, build: dict[str, Any]) -> str:
        names = {"logGroupName": build["logs"]["groupName"], "logStreamName": build["logs"]["streamName"]}
        events = self.aws.client("logs").get_log_events(**names, startFromHead=True)["events"]
        return "\n".join(each["message"] for each in events)


def _policy(statement: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [statement]}


def buildspec(*commands: str) -> str:
    return json.dumps({"version": 0.2, "phases": {"build": {"commands": list(commands)}}})


def failed_phase(build: dict[str, Any]) -> tuple[str, str, str]:
    """Type, status code and message of the phase that failed."""
    found = next(each for each in build["phases"] if each.get("phaseStatus") not in (None, "SUCCEEDED"))
    return found["phaseType"], found["contexts"][0]["statusCode"], found["contexts"][0]["message"]


@pytest.fixture(scope="module")
def enforced() -> Iterator[LocalAWS]:
    """A server that asks IAM and runs builds; its own environment has what no build may see."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(LEAK, "1")
        patched.setenv("PYTHONPATH", "/leak")
        patched.setenv("GIT_AUTHOR_NAME", "leak")
        with LocalAWS(enforce_iam=True, builds=True) as server:
            yield server


# A push that runs


PUSHED = """
version: 0.2
env:
  git-credential-helper: yes
  variables: {GREETING: hello}
phases:
  install:
    runtime-versions: {python: 3.12}
    commands: [cd sub]
  pre_build:
    commands:
      - WHO="$BRANCH at $STAGE"
  build:
    commands:
      - echo "$GREETING $WHO in $(basename "$PWD")"
      - git ls-remote origin refs/heads/feature-x
      - env | sort
      - python -c "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
    finally:
      - echo finally
  post_build:
    commands:
      - echo "succeeding=$CODEBUILD_BUILD_SUCCEEDING"
"""


@pytest.fixture(scope="module")
def pushed(enforced: LocalAWS, tmp_path_factory: pytest.TempPathFactory) -> tuple[Stand, str, dict[str, Any]]:
    """A push, its commit, and the build that it started, which is over."""
    stand = Stand(enforced, tmp_path_factory.mktemp("pushed"), (*FETCH, "sts:GetCallerIdentity"))
    queue = enforced.client("sqs").create_queue(QueueName=stand.name)["QueueUrl"]
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{stand.name}"
    allow = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
    }
    enforced.client("sqs").set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps(_policy(allow))})
    events, pattern = enforced.client("events"), {"source": ["aws.codebuild"], "detail": {"project-name": [stand.name]}}
    events.put_rule(Name=f"{stand.name}-told", EventPattern=json.dumps(pattern))
    events.put_targets(Rule=f"{stand.name}-told", Targets=[{"Id": "queue", "Arn": arn}])
    commit = stand.push("feature-x", buildspec_yml=PUSHED, sub__file="")
    return stand, commit, stand.ended()


def test_a_push_runs_the_repository_s_buildspec_at_its_commit(pushed: tuple[Stand, str, dict[str, Any]]) -> None:
    stand, commit, build = pushed

    assert build["buildStatus"] == "SUCCEEDED", stand.log(build)
    assert build["sourceVersion"] == build["resolvedSourceVersion"] == commit
    assert build["initiator"] == f"rule/{stand.name}"
    phases = [each["phaseType"] for each in build["phases"]]
    middle = ["DOWNLOAD_SOURCE", "INSTALL", "PRE_BUILD", "BUILD", "POST_BUILD", "UPLOAD_ARTIFACTS", "FINALIZING"]
    assert phases == ["SUBMITTED", "QUEUED", "PROVISIONING", *middle, "COMPLETED"]


def test_commands_run_in_one_shell_and_everything_is_in_the_log(pushed: tuple[Stand, str, dict[str, Any]]) -> None:
    stand, commit, build = pushed
    log = stand.log(build)

    assert "\nhello feature-x at feature in sub\n" in log
    assert f"\n{commit}\trefs/heads/feature-x\n" in log  # git has signed in as the role
    assert "\nfinally\n" in log
    assert "\nsucceeding=1\n" in log
    assert "Phase complete: POST_BUILD State: SUCCEEDED" in log
    assert build["logs"]["groupName"] == f"/aws/codebuild/{stand.name}"


def test_a_build_is_its_role_and_has_nothing_of_the_server_s_environment(
    pushed: tuple[Stand, str, dict[str, Any]],
) -> None:
    stand, commit, build = pushed
    log = stand.log(build)
    variables = dict(re.findall(r"^(\w+)=(.*)$", log, re.MULTILINE))

    session = f"AWSCodeBuild-{build['id'].rpartition(':')[2]}"
    assert f"\narn:aws:sts::{ACCOUNT}:assumed-role/{stand.name}/{session}\n" in log
    assert not {LEAK, "PYTHONPATH", "GIT_AUTHOR_NAME", "AWS_ACCESS_KEY_ID", "PYTEST_CURRENT_TEST"} & variables.keys()
    assert variables["CODEBUILD_RESOLVED_SOURCE_VERSION"] == commit
    assert variables["CODEBUILD_BUILD_ID"] == build["id"]
    assert variables["CODEBUILD_INITIATOR"] == build["initiator"]
    assert variables["AWS_REGION"] == variables["AWS_DEFAULT_REGION"] == REGION
    source = Path(variables["CODEBUILD_SRC_DIR"])
    assert Path(variables["HOME"]).parent == source.parent == Path(variables["TMPDIR"]).parent
    assert not source.parent.exists()  # nothing is left of it


def test_eventbridge_is_told_how_a_build_goes(pushed: tuple[Stand, str, dict[str, Any]]) -> None:
    stand, _, build = pushed
    sqs, told = stand.aws.client("sqs"), []
    queue = sqs.get_queue_url(QueueName=stand.name)["QueueUrl"]

    def complete() -> bool:
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            told.append(json.loads(message["Body"]))
        return any(each["detail"].get("build-status") == "SUCCEEDED" for each in told)

    wait_for(complete)

    states = [each["detail"]["build-status"] for each in told if each["detail-type"] == "CodeBuild Build State Change"]
    assert states == ["IN_PROGRESS", "SUCCEEDED"]
    assert {each["detail"]["build-id"] for each in told} == {build["arn"]}
    phases = [each["detail"]["completed-phase"] for each in told if "completed-phase" in each["detail"]]
    assert phases[0] == "QUEUED"
    assert phases[-1] == "FINALIZING"


def test_the_list_of_builds_and_a_log_can_be_watched(
    pushed: tuple[Stand, str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    stand, commit, build = pushed

    def look() -> list[watching.Build]:
        return list(stand.aws.settings("builds")["builds"])

    code = watching.follow(look, build["id"].rpartition(":")[2][:8], sys.stdout)

    assert code == 0
    shown = capsys.readouterr().out
    assert "hello feature-x at feature in sub\n" in shown
    (line,) = [each for each in watching.listed(look(), 0.0) if build["id"] in each]
    assert "SUCCEEDED" in line
    assert commit[:12] in line
    with pytest.raises(watching.NoSuchBuild, match="There is no build nothing"):
        watching.chosen(look(), "nothing")


# Failures


def test_a_failing_command_ends_its_phase_and_the_build_still_cleans_up(enforced: LocalAWS, tmp_path: Path) -> None:
    stand = Stand(enforced, tmp_path)
    spec = {"build": {"commands": ["exit 3", "echo never"], "finally": ["echo finally"]}}
    spec["post_build"] = {"commands": ["echo succeeding=$CODEBUILD_BUILD_SUCCEEDING"]}

    stand.push(buildspec_yml=json.dumps({"version": 0.2, "phases": spec}))

    build = stand.ended()
    log = stand.log(build)
    assert build["buildStatus"] == "FAILED"
    message = "Error while executing command: exit 3. Reason: exit status 3"
    assert failed_phase(build) == ("BUILD", "COMMAND_EXECUTION_ERROR", message)
    assert "\nnever" not in log
    assert "\nfinally\n" in log
    assert "\nsucceeding=0\n" in log
    assert stand.git("ls-remote", stand.url, "refs/heads/main")  # what CI rejects has landed


def test_a_phase_before_the_build_that_fails_ends_all(enforced: LocalAWS, tmp_path: Path) -> None:
    stand = Stand(enforced, tmp_path)
    phases = {"install": {"commands": ["false"]}, "post_build": {"commands": ["echo never"]}}

    stand.push(buildspec_yml=json.dumps({"version": 0.2, "phases": phases}))

    build = stand.ended()
    assert failed_phase(build)[0] == "INSTALL"
    assert "POST_BUILD" not in [each["phaseType"] for each in build["phases"]]


@pytest.mark.parametrize(
    ("missing", "phase", "says"),
    [
        ("codecommit:GitPull", "DOWNLOAD_SOURCE", "codecommit:GitPull"),
        ("logs:CreateLogStream", "PROVISIONING", "does not allow AWS CodeBuild to create Amazon CloudWatch Logs"),
    ],
)
def test_a_role_that_may_not_do_what_codebuild_does_as_it(
    enforced: LocalAWS, tmp_path: Path, missing: str, phase: str, says: str
) -> None:
    stand = Stand(enforced, tmp_path, tuple(action for action in FETCH if action != missing))

    stand.push(buildspec_yml=buildspec("true"))

    build = stand.ended()
    assert build["buildStatus"] == "FAILED"
    assert failed_phase(build)[0] == phase
    assert says in failed_phase(build)[2]


def test_a_role_that_does_not_trust_codebuild(enforced: LocalAWS, tmp_path: Path) -> None:
    stand = Stand(enforced, tmp_path, principals=("lambda.amazonaws.com",))

    stand.push(buildspec_yml=buildspec("true"))

    assert "not authorized to perform: sts:AssumeRole" in failed_phase(stand.ended())[2]


def test_a_commit_that_is_not_there_and_a_buildspec_that_is_not_there(enforced: LocalAWS, tmp_path: Path) -> None:
    stand = Stand(enforced, tmp_path)

    stand.push(readme_md="no buildspec")
    first = stand.ended(1)
    stand.codebuild.start_build(projectName=stand.name, sourceVersion="0" * 40)

    assert failed_phase(first)[:2] == ("DOWNLOAD_SOURCE", "YAML_FILE_ERROR")
    assert "no commit, tag or branch 0000" in failed_phase(stand.ended(2))[2]


# Requests


def test_a_call_overrides_what_the_project_says(enforced: LocalAWS, tmp_path: Path) -> None:
    stand = Stand(enforced, tmp_path, (*FETCH, "ssm:GetParameter"))
    enforced.client("ssm").put_parameter(Name=f"/{stand.name}", Value="open-sesame", Type="String")
    stand.push("other", readme_md="")
    stand.ended()

    given = stand.codebuild.start_build(
        projectName=stand.name,
        sourceVersion="refs/heads/other",
        buildspecOverride=f"{buildspec('echo is=$SECRET stage=$STAGE')}\n",
        environmentVariablesOverride=[
            {"name": "STAGE", "value": "dev", "type": "PLAINTEXT"},
            {"name": "SECRET", "value": f"/{stand.name}", "type": "PARAMETER_STORE"},
        ],
        timeoutInMinutesOverride=5,
        idempotencyToken="once",
    )["build"]
    again = stand.codebuild.start_build(projectName=stand.name, idempotencyToken="once")["build"]

    assert again["id"] == given["id"]
    build = stand.ended(2)
    assert build["timeoutInMinutes"] == 5
    assert "\nis=*** stage=dev\n" in stand.log(build)  # what comes from a parameter is not shown
    assert build["initiator"] == "root"  # who called


def test_what_is_not_done_here_is_refused(enforced: LocalAWS, tmp_path: Path) -> None:
    stand = Stand(enforced, tmp_path)

    with pytest.raises(ClientError, match="local_aws does not build imageOverride"):
        stand.codebuild.start_build(projectName=stand.name, imageOverride="other")
    with pytest.raises(ClientError, match="Project cannot be found: nothing"):
        stand.codebuild.start_build(projectName="nothing")


def test_a_build_that_is_stopped_leaves_no_process_and_one_that_waits_does_not_begin(
    enforced: LocalAWS, tmp_path: Path
) -> None:
    stand = Stand(enforced, tmp_path)
    enforced.configure("builds", {"at_once": 1})
    try:
        stand.push(buildspec_yml=buildspec("echo begun; sleep 600"))
        asleep = wait_for(lambda: _asleep(stand))
        waiting = stand.codebuild.start_build(projectName=stand.name)["build"]
        assert waiting["currentPhase"] == "QUEUED"

        stopped = [stand.codebuild.stop_build(id=each["id"])["build"] for each in (waiting, stand.builds()[-1])]
    finally:
        enforced.configure("builds", {"at_once": 2})

    assert [each["buildStatus"] for each in stopped] == ["STOPPED", "STOPPED"]
    wait_for(lambda: _is_gone(asleep))
    wait_for(lambda: all(each["kind"] != "build" for each in enforced.settings("processes")["processes"]))
    assert stand.ended(2)["buildStatus"] == "STOPPED"
    phases = [each["phaseType"] for each in stand.ended(2)["phases"]]
    assert phases == ["SUBMITTED", "QUEUED", "COMPLETED"]


def _asleep(stand: Stand) -> psutil.Process | None:
    """The process of a build's command `sleep`."""
    with contextlib.suppress(psutil.NoSuchProcess):  # a program of before, which has just ended
        for each in stand.aws.settings("processes")["processes"]:
            if each["name"] == stand.name:
                below = psutil.Process(each["pid"]).children(recursive=True)
                return next((process for process in below if process.name() == "sleep"), None)
    return None


def _is_gone(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


@pytest.mark.slow
def test_what_is_installed_stays_in_the_build_and_needs_no_index(enforced: LocalAWS, tmp_path: Path) -> None:
    stand = Stand(enforced, tmp_path)
    project = '[project]\nname = "madehere"\nversion = "1"\ndependencies = ["boto3>=1"]\n'
    project += '[project.optional-dependencies]\ndev = ["pytest"]\n[tool.setuptools]\npy-modules = ["madehere"]\n'
    commands = ['pip install --quiet ".[dev]"', 'cd / && python -c "import madehere; print(madehere.__file__)"']

    stand.push(buildspec_yml=buildspec(*commands), pyproject_toml=project, madehere_py="")

    build = stand.ended()
    assert build["buildStatus"] == "SUCCEEDED", stand.log(build)
    assert "/python/lib/python3" in stand.log(build)


@pytest.mark.slow
def test_a_build_under_way_when_the_server_is_killed_is_at_fault_afterwards(tmp_path: Path) -> None:
    with LocalAWS(state=tmp_path / "state", builds=True) as aws:
        stand = Stand(aws, tmp_path / "repository")
        stand.push(buildspec_yml=buildspec("sleep 600"))
        asleep = wait_for(lambda: _asleep(stand))

        aws.restart(kill=True)

        build = stand.ended()
        assert build["buildStatus"] == "FAULT"
        assert "local_aws ended while the build was under way" in failed_phase(build)[2]
        wait_for(lambda: _is_gone(asleep))
        assert stand.codebuild.start_build(projectName=stand.name)["build"]["buildNumber"] == 2


# The parts


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "is not YAML"),
        ("version: 0.1\nphases: {}", "version is 0.1"),
        ("version: 0.2", "has no phases"),
        ("version: 0.2\nartifacts: {}\nphases: {build: {}}", "does not understand artifacts"),
        ("version: 0.2\nphases: {test: {}}", "phases: local_aws does not understand test"),
        ("version: 0.2\nphases: {build: {commands: 3}}", "phases: build: the commands are a list"),
        ("version: 0.2\nphases: {build: {run-as: root}}", "does not understand run-as"),
        ("version: 0.2\nphases: {install: {runtime-versions: {java: 21}}}", "no runtime java"),
        ("version: 0.2\nphases: {build: {runtime-versions: {python: 3.12}}}", "belong to the phase install"),
        ("version: 0.2\nenv: {shell: pwsh}\nphases: {build: {}}", "the shell 'pwsh'"),
        ("version: 0.2\nenv: {exported-variables: [A]}\nphases: {build: {}}", "does not understand exported-variables"),
        ("version: 0.2\nenv: {variables: {A: [1]}}\nphases: {build: {}}", "env: variables: each value is a text"),
        ("version: 0.2\nenv: {git-credential-helper: 3}\nphases: {build: {}}", "give yes or no"),
        ("version: 0.2\nphases: {build: {on-failure: RETRY}}", "on-failure is 'RETRY'"),
    ],
)
def test_a_buildspec_that_is_not_understood_is_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(BuildspecError, match=says):
        parse(text)


def test_a_secret_is_hidden_even_when_it_comes_in_two_pieces(tmp_path: Path) -> None:
    log = BuildLog(tmp_path / "log", None, ["open-sesame", "ab"])
    for piece in (b"open-", b"sesame\nab", b" is too short to be one\n"):
        log.write(piece)
    log.close()

    assert (tmp_path / "log").read_text() == "***\nab is too short to be one\n"


def test_a_build_s_role_is_given_to_who_knows_its_token_until_the_build_ends() -> None:
    made = itertools.count(1)

    def role_credentials(role: str, session: str) -> dict[str, str]:
        name = f"{role}/{session}/{next(made)}"
        return {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}

    credentials = BuildCredentials("http://127.0.0.1:1", role_credentials)
    with credentials.given("role", "session") as variables:
        name = variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"].rpartition("/")[2]
        token = variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
        given = [credentials.answer(name, token) for _ in range(2)]
        assert credentials.answer(name, "another") is None
        assert credentials.answer("another", token) is None

    assert [each["AccessKeyId"] for each in given if each] == ["role/session/1", "role/session/1"]
    assert credentials.answer(name, token) is None


def test_programs_that_run_out_of_time_are_ended(tmp_path: Path) -> None:
    programs = Programs("x", seconds=0.2)
    programs.begin()

    ending = programs.run(["/bin/sleep", "600"], {}, tmp_path, lambda data: None)

    assert ending.ended_by == programs.ended_by == "time"
    assert programs.run(["/bin/true"], {}, tmp_path, lambda data: None).ended_by == "time"


def test_builds_begin_in_their_order_no_more_at_once_than_is_set() -> None:
    runner, let_go = Runner(runs=True), threading.Event()
    order: list[int] = []
    runner.configure({"at_once": 2})

    def work(number: int) -> None:
        order.append(number)
        let_go.wait(60)

    for number in range(4):
        runner.submit(Programs(str(number), 60), functools.partial(work, number))
    wait_for(lambda: len(order) == 2)
    assert runner.busy
    let_go.set()
    wait_for(lambda: not runner.busy)

    assert sorted(order[:2]) == [0, 1]
    assert sorted(order[2:]) == [2, 3]


@pytest.mark.parametrize("settings", [{}, {"run": 3}, {"at_once": 0}, {"at_once": True}, {"other": 1}])
def test_the_switch_refuses_what_it_does_not_know(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="builds: "):
        Runner(runs=False).configure(settings)
