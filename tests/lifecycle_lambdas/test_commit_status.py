"""What a commit is told of its pipeline: decided from AWS's words, told to its Git host, and again when that fails."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lifecycle_lambdas import commit_hosts, metrics
from lifecycle_lambdas.clients import Clients
from lifecycle_lambdas.commit_hosts import CodeCommit, GitHub, Later, NotTold, api_url, rate_limit
from lifecycle_lambdas.commit_status import (
    BrokenEvent,
    Execution,
    Folder,
    Origin,
    Quality,
    Status,
    evaluation_folder,
    execution_arn,
    origin_of,
    quality_of,
    report_link,
    status_of,
)
from lifecycle_lambdas.handlers.commit_status import FIRST_RETRY, LONGEST_WAIT, Surroundings, respond, tell
from local_aws import LocalAWS
from servicecatalog import account
from tests.lifecycle_lambdas.conftest import LocalClients
from tests.lifecycle_lambdas.executions import (
    COMMIT,
    EXECUTION_ID,
    TREE,
    Commented,
    commented,
    metadata,
    trained,
    training_workshop,
)
from tests.local_aws.git_clients import Git
from tests.local_aws.github_clients import TOKEN, GitHubClient, configure
from tests.local_aws.job_requests import TRUST, Workshop
from tests.local_aws.people import role_session
from tests.servicecatalog import template

ARN = "arn:aws:sagemaker:eu-west-1:111122223333:pipeline/churn-dev/execution/p4jn9xou8a8s"
ORIGIN = Origin(COMMIT, "dev", "binary_classification", "auc")
QUALITY = Quality("auc", 0.873123456, "at least", 0.8)
FOLDER = Folder("artifacts", "churn/dev/churn-dev/p4jn9xou8a8s/evaluate/evaluation/")
VERSION = "arn:aws:sagemaker:eu-west-1:111122223333:model-package/churn-dev/7"
BEGUN = datetime(2026, 11, 21, 12, tzinfo=UTC)
REGISTERED = {"StepName": "Register", "StepStatus": "Succeeded", "Metadata": {"RegisterModel": {"Arn": VERSION}}}
SUCCEEDED = Execution(ARN, "churn-dev", "Succeeded", steps=(REGISTERED,))


def definition(folder: Any = None, **more: Any) -> str:
    """A pipeline's, as the template compiles it: the step that registers is behind the condition.

    Args:
        folder: where Evaluate writes.
        more: of the metadata of Register, with __ for a dot.
    """
    uri = {
        "Std:Join": {
            "On": "/",
            "Values": folder or ["s3://artifacts/churn/dev/churn-dev", EXECUTION_ID, "evaluate", "evaluation"],
        }
    }
    outputs = {"Outputs": [{"OutputName": "evaluation", "S3Output": {"S3Uri": uri}}]}
    evaluate = {"Name": "Evaluate", "Type": "Processing", "Arguments": {"ProcessingOutputConfig": outputs}}
    register = {
        "Name": "Register",
        "Type": "RegisterModel",
        "Arguments": {"CustomerMetadataProperties": metadata(**more)},
    }
    check = {"Name": "Check", "Type": "Condition", "Arguments": {"IfSteps": [register], "ElseSteps": []}}
    return json.dumps({"Version": "2020-12-01", "Steps": [evaluate, check]})


def event(arn: str = ARN, kind: str = "SageMaker Model Building Pipeline Execution Status Change") -> str:
    return json.dumps({"source": "aws.sagemaker", "detail-type": kind, "detail": {"pipelineExecutionArn": arn}})


# --- what is decided


def test_an_event_says_which_execution_it_is_about():
    assert execution_arn(event()) == ARN


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        '{"detail": 7}',
        "[" * 100_000,
        event("arn:aws:sagemaker:eu-west-1:111122223333:pipeline/churn-dev"),
        event("arn:aws:iam::111122223333:role/x"),
        event(f"{ARN}\n"),
        event(kind="SageMaker Endpoint State Change"),
    ],
)
def test_a_message_that_is_no_execution_s_event_is_refused_in_words(body):
    with pytest.raises(BrokenEvent, match="no event of a pipeline's execution"):
        execution_arn(body)


def test_a_definition_says_commit_and_metric_wherever_its_register_step_is():
    assert origin_of(definition()) == ORIGIN
    unknown = definition(**{"problem-type": {"Get": "Parameters.X"}})
    assert origin_of(unknown) == replace(ORIGIN, problem_type="")


@pytest.mark.parametrize("text", ["", "[]", "null", '{"Steps": 7}', '{"Steps": [7, {"Type": "RegisterModel"}]}'])
def test_a_definition_of_another_kind_says_nothing(text):
    assert origin_of(text) is None
    assert evaluation_folder(text, SUCCEEDED, "churn", "dev") is None


@pytest.mark.parametrize("commit", ["", COMMIT[:12], COMMIT.upper(), {"Get": "Parameters.Commit"}])
def test_what_is_no_commit_is_told_nothing(commit):
    assert origin_of(definition(git__commit=commit)) is None


def test_what_was_never_committed_is_told_to_no_commit():
    """As the template registers it (pipeline/lineage.py): the commit that was checked out, and the tree with -dirty."""
    origin = origin_of(definition(git__commit=COMMIT, git__tree=f"{TREE}-dirty"))
    assert origin == replace(ORIGIN, committed=False)


def test_the_evaluation_lies_where_the_step_writes_for_this_execution():
    assert evaluation_folder(definition(), SUCCEEDED, "churn", "dev") == FOLDER


@pytest.mark.parametrize(
    "folder",
    [
        ["s3://artifacts/churn-x/dev/churn-dev", EXECUTION_ID, "evaluate"],
        ["s3://artifacts/churn/prod/churn-dev", EXECUTION_ID, "evaluate"],
        ["s3://artifacts/churn/dev/churn-dev/another/evaluate"],
        ["s3://artifacts/churn/dev/churn-dev", EXECUTION_ID, "evaluate/../../../../other"],
        ["https://artifacts/churn/dev/churn-dev", EXECUTION_ID, "evaluate"],
        ["s3://artifacts/churn/dev/churn-dev", {"Get": "Parameters.Where"}, "evaluate"],
        ["s3:///churn/dev/churn-dev", EXECUTION_ID, "evaluate"],
        ["s3://[artifacts/churn/dev/churn-dev", EXECUTION_ID, "evaluate"],
        ["s3://artifacts) [report](x/churn/dev/churn-dev", EXECUTION_ID, "evaluate"],
        7,
    ],
)
def test_no_other_folder_is_read_whatever_a_definition_says(folder):
    assert evaluation_folder(definition(folder), SUCCEEDED, "churn", "dev") is None


def monitored(value: Any = 0.873123456, threshold: Any = 0.8, operator: str = "LessThanThreshold") -> tuple[str, str]:
    """evaluation.json and constraints.json."""
    kind = "binary_classification"
    constraint = {"threshold": threshold, "comparison_operator": operator}
    return (
        json.dumps({f"{kind}_metrics": {"auc": {"value": value}}}),
        json.dumps({f"{kind}_constraints": {"auc": constraint}}),
    )


def test_the_main_metric_and_what_it_must_be_are_in_model_monitors_files():
    assert quality_of(ORIGIN, *monitored()) == QUALITY
    at_most = quality_of(ORIGIN, *monitored(operator="GreaterThanThreshold"))
    assert at_most == replace(QUALITY, relation="at most")
    assert quality_of(ORIGIN, monitored()[0], "") == Quality("auc", 0.873123456)


@pytest.mark.parametrize(
    "files",
    [
        ("", ""),
        monitored("NaN"),
        monitored(float("nan")),
        monitored(float("inf")),
        monitored(10**400),
        monitored(True),
        ("[]", "[]"),
        ('{"x": 1', ""),
    ],
)
def test_without_a_number_there_is_no_quality(files):
    assert quality_of(ORIGIN, *files) is None


@pytest.mark.parametrize("threshold", [10**400, "0.8", float("inf"), None])
def test_without_a_threshold_the_number_stands_alone(threshold):
    assert str(quality_of(ORIGIN, *monitored(threshold=threshold))) == "auc 0.873123"


@pytest.mark.parametrize(
    ("status", "state", "says"),
    [
        ("Executing", "pending", "the pipeline is running"),
        ("Stopping", "pending", "the pipeline is running"),
        ("Stopped", "error", "the pipeline was stopped: by a newer push, or by somebody"),
        ("Failed", "failure", "auc 0.873123 (must be at least 0.8): the pipeline failed"),
        ("Succeeded", "success", "auc 0.873123 (must be at least 0.8): version 7 of churn-dev waits for approval"),
    ],
)
def test_each_status_has_its_words(status, state, says):
    told = status_of(replace(SUCCEEDED, status=status), QUALITY, FOLDER)
    assert (told.state, told.context, told.description) == (state, "modelyard/churn-dev", says)


def test_without_a_version_or_an_evaluation_that_is_said():
    assert status_of(replace(SUCCEEDED, steps=())).description == "no model version was registered"
    failed = replace(SUCCEEDED, status="Failed", steps=(), reason="AccessDenied")
    assert status_of(failed).description == "the pipeline failed: AccessDenied"
    assert status_of(failed).url == ""


def test_a_failure_says_which_step_and_of_the_gate_its_numbers():
    train = {"StepName": "Train", "StepStatus": "Failed", "FailureReason": "AlgorithmError:\n  no rows"}
    assert status_of(replace(SUCCEEDED, status="Failed", steps=(train,))).description == (
        "Train failed: AlgorithmError: no rows"
    )
    words = "the model fails 1 of 2 (auc): auc is 0.71, must be at least 0.8: FAILED. " + "x" * 200
    gate = {"StepName": "QualityNotMet", "StepStatus": "Failed", "Metadata": {"Fail": {"ErrorMessage": words}}}
    told = status_of(replace(SUCCEEDED, status="Failed", steps=(gate,)), QUALITY, FOLDER)
    assert told.description.startswith("the model fails 1 of 2 (auc): auc is 0.71")
    assert len(told.description) == 140
    assert told.description.endswith("...")
    assert words in told.markdown


def test_what_cannot_be_printed_is_told_to_no_host():
    said = status_of(replace(SUCCEEDED, status="Failed", steps=(), reason="a\x00b\u202ec\ud800d\x1b[1m")).markdown
    assert "    the pipeline failed: a b c d [1m\n" in said
    assert said.encode()


def test_the_report_opens_in_the_console_of_its_region():
    folder = replace(FOLDER, prefix="churn/dev/a b/evaluate/evaluation/")
    assert report_link(ARN, folder) == (
        "https://eu-west-1.console.aws.amazon.com/s3/object/artifacts?region=eu-west-1"
        "&prefix=churn/dev/a%20b/evaluate/evaluation/report.html"
    )
    assert "console.amazonaws.cn" in report_link(ARN.replace("arn:aws:", "arn:aws-cn:"), folder)


@pytest.mark.parametrize(("status", "word"), [("Succeeded", "succeeded"), ("Failed", "failed"), ("Stopped", "stopped")])
def test_a_comment_begins_with_how_the_pipeline_ended(status, word):
    told = status_of(replace(SUCCEEDED, status=status), QUALITY, FOLDER)
    assert told.markdown.startswith(f"**modelyard/churn-dev {word}**\n\n    {told.details}\n\n[Report](")


def test_a_comment_shows_what_a_pipeline_says_as_it_is():
    gate = {"StepName": "Q", "StepStatus": "Failed", "Metadata": {"Fail": {"ErrorMessage": "# [x](y)\n\n`z`"}}}
    text = status_of(replace(SUCCEEDED, status="Failed", steps=(gate,)), None, FOLDER).markdown
    assert "\n\n    # [x](y) `z`\n\n" in text
    assert f"[Report]({report_link(ARN, FOLDER)})" in text


# --- GitHub


STATUS = status_of(SUCCEEDED, QUALITY, FOLDER)


class Secrets:
    """Secrets Manager with one secret, which changes every time that it is read."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)

    def get_secret_value(self, SecretId: str) -> dict[str, str]:
        return {"ARN": SecretId, "SecretString": self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]}


@dataclass
class Stand:
    """A repository on the stand-in for GitHub, with one commit."""

    aws: LocalAWS
    client: GitHubClient
    name: str = field(default_factory=lambda: f"status-{uuid.uuid4().hex[:8]}")
    commit: str = ""

    @property
    def base_url(self) -> str:
        return f"{self.aws.endpoint}/_github"

    @property
    def url(self) -> str:
        return f"{self.base_url}/acme/{self.name}"

    def host(self, *secrets: str) -> GitHub:
        return GitHub(self.base_url, Secrets(*(secrets or (TOKEN,))), "arn:secret")

    def statuses(self) -> list[tuple[str, str, str]]:
        found = self.client("GET", f"/repos/acme/{self.name}/commits/{self.commit}/statuses").content
        return [(each["context"], each["state"], each["description"]) for each in found]


@pytest.fixture(scope="module")
def github(aws: LocalAWS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    client = configure(aws, tokens={TOKEN: {}, "github_pat_contents0009": {"rights": ["contents"]}})
    stand = Stand(aws, client)
    client.create(stand.name)
    folder = tmp_path_factory.mktemp("status")
    work = Git(folder, client.git_environment).clone(client.url(stand.name), folder / "work")
    stand.commit = work.commit(readme_md="one")
    work("push", "origin", "HEAD:dev")
    yield stand
    aws.configure("github", {"rate_limit": None, "outage": False})


@pytest.fixture(autouse=True)
def _usual(request: pytest.FixtureRequest) -> Iterator[None]:
    """Limits and outages end with the test that makes them."""
    yield
    if "github" in request.fixturenames:
        request.getfixturevalue("github").aws.configure("github", {"rate_limit": None, "outage": False})


def test_github_is_told_a_status_and_the_same_again(github):
    host = github.host(f' {{"token": "{TOKEN}"}}')
    before = len(github.statuses())
    for _ in range(2):
        assert host.tell(github.url, github.commit, STATUS) == "set"
    told = ("modelyard/churn-dev", "success", STATUS.description)
    assert github.statuses()[: len(github.statuses()) - before] == [told, told]
    found = github.client("GET", f"/repos/acme/{github.name}/commits/dev/status").content["statuses"]
    assert [each["target_url"] for each in found] == [STATUS.url]


def test_a_commit_that_was_never_pushed_is_told_nothing_and_nothing_fails(github):
    assert github.host().tell(github.url, COMMIT, STATUS) == "not told: the commit was never pushed"


FULL = "This SHA and context has reached the maximum number of statuses."


@pytest.mark.parametrize("fault", [{"resource": "Status", "code": "custom", "message": FULL}, FULL])
def test_a_commit_with_as_many_statuses_as_github_keeps_is_no_failure(monkeypatch, fault):
    refused = json.dumps({"message": "Validation Failed", "errors": [fault]}).encode()
    monkeypatch.setattr(GitHub, "_ask", lambda *_: commit_hosts._answered(422, {}, refused))
    host = GitHub("https://github.com", None, "")
    assert host.tell("https://github.com/acme/churn", COMMIT, STATUS) == (
        "not told: GitHub keeps no more statuses of this commit"
    )


def test_what_github_finds_wrong_is_said(monkeypatch):
    errors = [{"resource": "Status", "field": "state", "code": "invalid"}, 7, {"code": None}]
    refused = json.dumps({"message": "Validation Failed", "errors": errors}).encode()
    monkeypatch.setattr(GitHub, "_ask", lambda *_: commit_hosts._answered(422, {}, refused))
    with pytest.raises(NotTold, match=r"GitHub answered 422 for .*: Validation Failed: invalid$"):
        GitHub("https://github.com", None, "").tell("https://github.com/acme/churn", COMMIT, STATUS)


@pytest.mark.parametrize(
    ("limit", "wait"), [({"secondary": 1, "retry_after": 7}, 7), ({"limit": 0, "seconds": 40}, 41)]
)
def test_a_rate_limit_is_waited_for_as_long_as_github_says(github, limit, wait):
    github.aws.configure("github", {"rate_limit": limit})
    with pytest.raises(Later, match="rate limit") as refused:
        github.host().tell(github.url, github.commit, STATUS)
    assert wait - 2 <= refused.value.seconds <= wait + 1


@pytest.mark.parametrize(
    ("status", "headers", "words", "seconds"),
    [
        (403, {}, "Resource not accessible", None),
        (500, {"retry-after": "3"}, "", None),
        (429, {}, "", 60.0),
        (403, {}, "You have exceeded a secondary rate limit.", 60.0),
        (403, {"retry-after": "0"}, "", 1.0),
        (403, {"x-ratelimit-remaining": "0"}, "", 60.0),
    ],
)
def test_which_answers_are_rate_limits(status, headers, words, seconds):
    assert rate_limit(status, headers, words) == seconds


@pytest.mark.parametrize("outage", [500, 503])
def test_an_outage_and_a_dead_host_are_errors_that_come_again(github, outage):
    github.aws.configure("github", {"outage": outage})
    with pytest.raises(NotTold, match=f"GitHub answered {outage}"):
        github.host().tell(github.url, github.commit, STATUS)
    nowhere = "http://127.0.0.1:9"
    with pytest.raises(NotTold, match="could not be reached"):
        GitHub(nowhere, Secrets(TOKEN), "arn:secret").tell(f"{nowhere}/acme/churn", COMMIT, STATUS)


def test_a_token_without_the_right_is_told_which_one_and_nothing_tells_the_token(github, capsys):
    weak, gone = "github_pat_contents0009", "github_pat_revoked00009"
    said = []
    for token in (weak, gone):
        with pytest.raises(NotTold) as refused:
            github.host(token).tell(github.url, github.commit, STATUS)
        said.append(str(refused.value))
        assert refused.value.__cause__ is None
    assert "Commit statuses (read and write)" in said[0]
    assert "expired or was revoked" in said[1]
    written = "".join([*said, *capsys.readouterr()])
    assert weak not in written
    assert gone not in written


def test_another_token_is_used_as_soon_as_one_is_refused(github):
    host = github.host("github_pat_revoked00009", TOKEN)
    with pytest.raises(NotTold):
        host.tell(github.url, github.commit, STATUS)
    assert host.tell(github.url, github.commit, STATUS) == "set"


@pytest.mark.parametrize("secret", ["", "two words", "{}", '{"token": 7}', "nön-ascii", "x\ny"])
def test_a_secret_without_a_token_is_an_error_that_names_the_secret_alone(github, secret):
    with pytest.raises(NotTold, match=r"^the secret arn:secret holds no token: put it there as text$"):
        github.host(secret).tell(github.url, github.commit, STATUS)


@pytest.mark.parametrize(
    "repository",
    [
        "https://evil.example/acme/churn",
        "{base}.evil.example/acme/churn",
        "{base}/acme",
        "{base}/acme/churn/../other",
        "{base}/../user",
        "{base}/acme/..",
        "{base}/acme/churn?x=1",
        "",
    ],
)
def test_the_token_goes_to_no_other_host_than_the_platforms(github, repository, monkeypatch):
    monkeypatch.setattr(commit_hosts, "_opener", None)  # whoever asks for it fails
    with pytest.raises(NotTold, match="is not on the platform's Git host"):
        github.host().tell(repository.replace("{base}", github.base_url), github.commit, STATUS)


@pytest.mark.parametrize("base", ["http://github.example.com", "ftp://x", "none", "", "http://127.0.0.1.evil.example"])
def test_the_token_is_sent_over_https_alone_but_to_this_machine(base):
    with pytest.raises(NotTold, match="no HTTPS address"):
        api_url(base)


@pytest.mark.parametrize(
    ("base", "api"),
    [
        ("https://github.com", "https://api.github.com"),
        ("https://acme.ghe.com", "https://api.acme.ghe.com"),
        ("https://git.example.com", "https://git.example.com/api/v3"),
        ("http://127.0.0.1:4566/_github", "http://127.0.0.1:4566/_github/api/v3"),
    ],
)
def test_where_a_host_s_api_is(base, api):
    assert api_url(base) == api


# --- CodeCommit


@pytest.fixture
def codecommit(clients: LocalClients) -> Commented:
    return commented(clients, {})


def test_codecommit_is_told_the_end_in_one_comment_on_what_the_commit_changed(codecommit):
    host = CodeCommit(codecommit.client)
    running = status_of(replace(SUCCEEDED, status="Executing"))
    assert host.tell(codecommit.arn, codecommit.second, running) == "CodeCommit is told how it ends"
    for _ in range(2):
        assert host.tell(codecommit.arn, codecommit.second, STATUS) == "commented"
    # told before in other words
    assert host.tell(codecommit.arn, codecommit.second, replace(STATUS, details="other")).startswith("not told")
    assert codecommit.comments(codecommit.second, codecommit.first) == [STATUS.markdown]
    assert host.tell(codecommit.arn, codecommit.first, STATUS) == "not told: IdempotencyParameterMismatchException"
    first = replace(STATUS, execution=f"{ARN}2")
    assert host.tell(codecommit.arn, codecommit.first, first) == "commented"
    assert codecommit.comments(codecommit.first) == [first.markdown]


def test_a_commit_or_a_repository_of_codecommits_that_is_gone_is_no_failure(codecommit):
    host = CodeCommit(codecommit.client)
    assert host.tell(codecommit.arn, COMMIT, STATUS) == "not told: CommitIdDoesNotExistException"
    gone = f"{codecommit.arn}-gone"
    assert host.tell(gone, COMMIT, STATUS) == "not told: RepositoryDoesNotExistException"


@pytest.mark.parametrize("arn", ["arn:aws:codecommit:us-west-2:111122223333:churn", "arn:aws:s3:::churn", "arn:x"])
def test_a_tag_that_names_no_repository_here_is_an_error_that_says_so(codecommit, arn):
    with pytest.raises(NotTold, match="correct the group's tag"):
        CodeCommit(codecommit.client).tell(arn, COMMIT, STATUS)


# --- the function


def summary(
    arn: str = ARN, seconds: float = 0, name: str = f"push-{COMMIT[:12]}", status: str = "Executing"
) -> dict[str, Any]:
    """Of an execution that began so much later than ours."""
    return {
        "PipelineExecutionArn": arn,
        "StartTime": BEGUN + timedelta(seconds=seconds),
        "PipelineExecutionDisplayName": name,
        "PipelineExecutionStatus": status,
    }


@dataclass
class Host:
    """Stands for a Git host; raises what it is told to."""

    told: list[tuple[str, str, Status]] = field(default_factory=list)
    raises: list[Exception] = field(default_factory=list)

    def tell(self, repository: str, commit: str, status: Status) -> str:
        if self.raises:
            raise self.raises.pop(0)
        self.told.append((repository, commit, status))
        return "set"


@dataclass
class SageMaker:
    """Stands for SageMaker with one execution, whose statuses follow each other."""

    statuses: list[str]
    tags: dict[str, dict[str, str]]
    gone: bool = False
    later: list[dict[str, Any]] = field(default_factory=list)

    def describe_pipeline_execution(self, PipelineExecutionArn: str) -> dict[str, Any]:
        if self.gone:
            error = {"Code": "ResourceNotFound", "Message": "Pipeline execution does not exist."}
            raise ClientError({"Error": error}, "DescribePipelineExecution")
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        pipeline = PipelineExecutionArn.partition("/execution/")[0]
        return {"PipelineArn": pipeline, "PipelineExecutionStatus": status, "CreationTime": BEGUN}

    def describe_pipeline(self, PipelineName: str) -> dict[str, str]:
        return {"PipelineName": PipelineName.rpartition("/")[2]}

    def describe_pipeline_definition_for_execution(self, PipelineExecutionArn: str) -> dict[str, str]:
        return {"PipelineDefinition": definition()}

    def get_paginator(self, operation: str) -> Any:
        if operation == "list_pipeline_executions":
            return Paginator([{"PipelineExecutionSummaries": [summary(), *self.later]}])
        return self if operation == "list_tags" else Paginator([{"PipelineExecutionSteps": [REGISTERED]}])

    def paginate(self, ResourceArn: str) -> list[dict[str, Any]]:
        tags = self.tags.get(ResourceArn.rpartition(":")[2], {})
        return [{"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]


@dataclass
class Paginator:
    pages: list[dict[str, Any]]

    def paginate(self, **_: Any) -> list[dict[str, Any]]:
        return self.pages


@dataclass
class Queue:
    """Stands for SQS; keeps for how long each message is hidden."""

    hidden: dict[str, int] = field(default_factory=dict)

    def change_message_visibility(self, QueueUrl: str, ReceiptHandle: str, VisibilityTimeout: int) -> None:
        self.hidden[ReceiptHandle] = VisibilityTimeout


@dataclass
class Scene:
    sagemaker: SageMaker
    queue: Queue = field(default_factory=Queue)
    codecommit: Host = field(default_factory=Host)
    github: Host = field(default_factory=Host)

    @property
    def surroundings(self) -> Surroundings:
        services = {"sagemaker": self.sagemaker, "sqs": self.queue}
        return Surroundings(lambda name: services[name], "queue", self.codecommit, self.github)  # type: ignore[arg-type]


TAGS = {
    "pipeline/churn-dev": {"modelyard:project": "churn", "modelyard:stage": "dev"},
    "model-package-group/churn-dev": {
        "modelyard:project": "churn",
        "modelyard:repository": "https://github.com/acme/churn",
    },
}


def scene(*statuses: str, **tags: dict[str, str]) -> Scene:
    """Tags by what they are of ("pipeline", "group"), instead of ours."""
    names = {"pipeline": "pipeline/churn-dev", "group": "model-package-group/churn-dev"}
    return Scene(SageMaker(list(statuses), TAGS | {names[name]: value for name, value in tags.items()}))


def record(body: str = "", number: int = 1, tries: int = 1) -> dict[str, Any]:
    attributes = {"ApproximateReceiveCount": str(tries)}
    return {"messageId": f"m{number}", "receiptHandle": f"r{number}", "body": body or event(), "attributes": attributes}


@pytest.mark.parametrize("repository", ["https://github.com/acme/churn", "arn:aws:codecommit:eu-west-1:1:churn"])
def test_the_groups_tag_says_which_repository_is_told(repository):
    given = scene("Succeeded", group={"modelyard:project": "churn", "modelyard:repository": repository})
    tell(given.surroundings, ARN)
    told = [*given.codecommit.told, *given.github.told]
    assert [each[:2] for each in told] == [(repository, COMMIT)]
    assert bool(given.codecommit.told) == repository.startswith("arn:")


@pytest.mark.parametrize(
    "tags",
    [
        {"pipeline": {}},
        {"pipeline": {"modelyard:project": "churn"}},
        {"pipeline": {"modelyard:project": "churn", "modelyard:stage": "prod"}},
        {"pipeline": {"modelyard:project": "another", "modelyard:stage": "dev"}},
        {"group": {}},
        {"group": {"modelyard:project": "churn"}},
        {"group": {"modelyard:project": "another", "modelyard:repository": "https://github.com/acme/another"}},
    ],
)
def test_what_is_no_projects_or_has_no_repository_here_is_told_to_nobody(tags):
    given = scene("Succeeded", **tags)
    assert respond(given.surroundings, [record()]) == {"batchItemFailures": []}
    assert (given.github.told, given.codecommit.told) == ([], [])


def test_a_pipeline_that_was_deleted_meanwhile_is_no_failure():
    given = scene("Succeeded")
    given.sagemaker.gone = True
    assert respond(given.surroundings, [record()]) == {"batchItemFailures": []}


def test_what_aws_says_now_is_told_not_what_an_event_said():
    given = scene("Succeeded")
    respond(given.surroundings, [record(), record(number=2)])
    assert [status.state for *_, status in given.github.told] == ["success", "success"]


def test_an_end_that_comes_while_the_beginning_is_told_is_told_last():
    given = scene("Executing", "Succeeded")
    tell(given.surroundings, ARN)
    assert [status.state for *_, status in given.github.told] == ["pending", "success"]


@pytest.mark.parametrize(
    ("status", "later", "told"),
    [
        ("Stopped", summary(f"{ARN}2", 1), []),
        ("Executing", summary(f"{ARN}2", 1), []),
        ("Stopped", summary(f"{ARN}2", 1, f"commit-{COMMIT[:12]}"), []),
        ("Stopped", summary(f"{ARN}2", 1, "push-ffffffffffff"), ["error"]),
        ("Stopped", summary(f"{ARN}2", 1, "retrain"), ["error"]),
        ("Stopped", summary(f"{ARN}2", -1), ["error"]),
        ("Succeeded", summary(f"{ARN}2", 1), ["success"]),
        ("Succeeded", summary(f"{ARN}2", 1, status="Failed"), []),
        ("Failed", summary(f"{ARN}2", 1, status="Succeeded"), []),
        ("Failed", summary(f"{ARN}2", -1, status="Succeeded"), ["failure"]),
        ("Failed", summary(f"{ARN}2", 1, "push-ffffffffffff", "Succeeded"), ["failure"]),
        ("Failed", summary(f"{ARN}2", 1, status="Stopped"), ["failure"]),
        # of changes that nobody has committed, as the template's `start` names it: its result is told to no commit
        ("Failed", summary(f"{ARN}2", 1, f"commit-{COMMIT[:12]}-dirty", "Succeeded"), ["failure"]),
    ],
)
def test_what_a_later_execution_of_the_commit_has_overtaken_is_no_news(status, later, told):
    given = scene(status)
    given.sagemaker.later = [later]
    assert respond(given.surroundings, [record()]) == {"batchItemFailures": []}
    assert [found.state for *_, found in given.github.told] == told


def test_a_message_that_fails_comes_again_alone_and_later_every_time():
    given = scene("Succeeded")
    given.github.raises = [NotTold("GitHub answered 500"), Later("rate limit", 1234.4), Later("rate limit", 10**6)]
    records = [record(number=number, tries=number) for number in (1, 2, 3, 4)]
    failed = [each["itemIdentifier"] for each in respond(given.surroundings, records)["batchItemFailures"]]
    assert failed == ["m1", "m2", "m3"]
    assert given.queue.hidden == {"r1": FIRST_RETRY, "r2": 1234, "r3": LONGEST_WAIT}
    assert len(given.github.told) == 1
    given.github.raises = [NotTold("again")]
    respond(given.surroundings, [record(number=9, tries=5)])
    assert given.queue.hidden["r9"] == FIRST_RETRY * 16


def test_a_failure_is_counted_and_a_hosts_limit_is_none(capsys):
    given = scene("Succeeded")
    given.github.raises = [NotTold("GitHub answered 401"), Later("rate limit", 1234.4)]
    records = [record(number=number) for number in (1, 2, 3)]
    first = (datetime.now(UTC) - timedelta(seconds=700)).timestamp()
    for each in records:
        each["attributes"]["ApproximateFirstReceiveTimestamp"] = str(int(first * 1000))
    respond(given.surroundings, records)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (failure, limit) = [line for line in lines if line["message"].startswith("not told")]
    assert "401" in failure["error"]
    assert 700 <= failure[metrics.FAILING] < 720
    assert "_aws" not in limit


def test_a_message_that_nobody_can_read_fails_alone():
    given = scene("Succeeded")
    answer = respond(given.surroundings, [record("not JSON"), record(number=2)])
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    assert len(given.github.told) == 1


# --- with the platform's role, IAM enforced


@pytest.fixture(scope="module")
def enforced() -> Iterator[LocalAWS]:
    with LocalAWS(enforce_iam=True) as server:
        yield server


@pytest.fixture(scope="module")
def workshop(enforced: LocalAWS) -> Workshop:
    return training_workshop(enforced)


@pytest.fixture(scope="module")
def as_function(enforced: LocalAWS, workshop: Workshop) -> Callable[..., Surroundings]:
    """Makes the function's surroundings, with the role that platform.yaml gives it and no more."""
    text = Path(account.__file__).with_name("platform.yaml").read_text()
    given = {"GitHost": "github", "ExistingArtifactBucket": workshop.bucket, "GitTokenSecretArn": "*"}
    resources = template.resolved(template.load_text(text), given)
    policy = json.dumps(resources["CommitStatusPolicy"]["Properties"]["PolicyDocument"])
    for old, new in (("111122223333", "123456789012"), ("eu-west-1", "us-east-1")):
        policy = policy.replace(old, new)
    policy = re.sub(r'"arn:aws:[a-z]+:[^"]*modelyard-failed[^"]*"', '"*"', policy)
    iam = enforced.client("iam")
    trust = json.dumps(TRUST).replace("sagemaker.amazonaws.com", "lambda.amazonaws.com")
    role = iam.create_role(RoleName="commit-status", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    iam.put_role_policy(RoleName="commit-status", PolicyName="all", PolicyDocument=policy)
    session = role_session(enforced, role)

    class OfTheRole(Clients):
        def __call__(self, service: str, region: str | None = None) -> Any:
            return enforced.client(service, credentials=session)

    def make(base_url: str = "", secret: str = "") -> Surroundings:
        variables = {"QUEUE_URL": "queue", "GIT_BASE_URL": base_url, "GIT_TOKEN_SECRET_ARN": secret}
        return Surroundings.of(OfTheRole(), variables)

    return make


@pytest.mark.slow
def test_with_its_role_alone_the_function_comments_on_a_commit_of_codecommits(enforced, workshop, as_function):
    repository = commented(enforced.client, {"modelyard:project": "churn"})
    arn = trained(workshop, "churn", repository.arn, repository.second)
    for _ in range(2):
        assert tell(as_function(), arn) == "commented"
    (comment,) = repository.comments(repository.second, repository.first)
    assert "auc 0.91 (must be at least 0.8): version 1 of churn-dev waits for approval" in comment
    assert f"prefix=churn/dev/churn-dev/{arn.rpartition('/')[2]}/evaluate/evaluation/report.html" in comment
    # what is nobody's project, and what is gone
    workshop.sagemaker.delete_pipeline(PipelineName="churn-dev", ClientRequestToken=uuid.uuid4().hex)
    assert tell(as_function(), arn) == "not a project's pipeline, or deleted"


@pytest.mark.slow
def test_with_its_role_alone_the_function_sets_a_status_on_github(enforced, workshop, as_function, tmp_path):
    client = configure(enforced)
    client.create("trees")
    work = Git(tmp_path, client.git_environment).clone(client.url("trees"), tmp_path / "work")
    commit = work.commit(readme_md="one")
    work("push", "origin", "HEAD:dev")
    secret = enforced.client("secretsmanager").create_secret(Name="token", SecretString=TOKEN)["ARN"]
    base = f"{enforced.endpoint}/_github"
    arn = trained(workshop, "trees", f"{base}/acme/trees", commit)
    assert tell(as_function(base, secret), arn) == "set"
    (found,) = client("GET", f"/repos/acme/trees/commits/{commit}/status").content["statuses"]
    assert (found["context"], found["state"]) == ("modelyard/trees-dev", "success")
    assert found["description"] == "auc 0.91 (must be at least 0.8): version 1 of trees-dev waits for approval"


@pytest.mark.slow
def test_a_repository_of_nobodys_is_commented_on_by_nobody(enforced, workshop, as_function):
    repository = commented(enforced.client, {})
    arn = trained(workshop, "untagged", repository.arn, repository.second)
    with pytest.raises(ClientError, match="AccessDenied"):
        tell(as_function(), arn)
