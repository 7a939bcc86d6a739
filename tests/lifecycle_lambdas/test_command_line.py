"""The controller from the command line, with an operator's credentials; and what it plans.

What a look does is converge's, and is replaced here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError

from lifecycle_lambdas import command_line, dead_letters, looking, planning, stage_schema
from lifecycle_lambdas.commands import common
from lifecycle_lambdas.commands import go_back as going_back_command
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.converge import Outcome
from lifecycle_lambdas.handlers import plan as plan_handler
from lifecycle_lambdas.observe import Observed
from lifecycle_lambdas.records import Deployment, DeploymentStatus, Entry, EntryKind, State
from local_aws import LocalAWS
from tests.lifecycle_lambdas import plans
from tests.lifecycle_lambdas.conftest import LocalClients, make_group

CHECKOUT = Path(__file__).parents[2]
ROOT = "arn:aws:iam::123456789012:root"
STAGE_FILE = {"kind": "real_time", "instance_type": "ml.m5.large", "instance_count": 1, "dashboard": False}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    """A server of these tests' own: a platform is one for an account."""
    with LocalAWS() as server:
        yield server


@pytest.fixture
def parameters(clients: LocalClients, context: Context) -> None:
    """The SSM parameters of the installed platform."""
    for name, value in vars(context.settings).items():
        if value:
            parameter = f"/modelyard/{name.replace('_', '-')}"
            clients("ssm").put_parameter(Name=parameter, Value=value, Type="String", Overwrite=True)


@pytest.fixture
def run(
    clients: LocalClients,
    parameters: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs a command as an operator; answers its exit code, what it printed, and its errors (without log lines)."""
    monkeypatch.setattr(common, "Clients", lambda: clients)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = command_line.main(arguments)
        out, err = capsys.readouterr()
        return code, out, "\n".join(line for line in err.splitlines() if not line.startswith("{"))

    return run


@pytest.fixture
def endpoint(context: Context, group: str, project: str) -> str:
    """The group's endpoint, known to the ledger."""
    context.ledger.put_state_if_new(State(group, project, "dev", group, "settled"))
    return group


@pytest.fixture
def version(clients: LocalClients, project: str, register: Callable[..., str]) -> Callable[..., str]:
    """Registers a version with this stage file; answers its ARN."""

    def version(approval: str = "PendingManualApproval", sha256: str = "", **fields: Any) -> str:
        text = yaml.safe_dump({**STAGE_FILE, **fields}).encode()
        digest = hashlib.sha256(text).hexdigest()
        clients("s3").create_bucket(Bucket=project)
        clients("s3").put_object(Bucket=project, Key=f"{digest}/dev.yaml", Body=text)
        return register(
            approval, deployment__prefix=f"s3://{project}/{digest}/", deployment__sha256__dev=sha256 or digest
        )

    return version


def approval(clients: LocalClients, arn: str) -> tuple[str, str]:
    package = clients("sagemaker").describe_model_package(ModelPackageName=arn)
    return package["ModelApprovalStatus"], package.get("ApprovalDescription", "")


def asked(context: Context) -> list[dict[str, Any]]:
    """The looks that the platform's function was asked for."""
    found = context.client("sqs").receive_message(QueueUrl=context.settings.queue_url, MaxNumberOfMessages=10)
    return [json.loads(message["Body"]) for message in found.get("Messages", [])]


# --- where the platform is


def test_without_a_platform_the_error_says_how_to_install_one(aws, monkeypatch, capsys):
    for name, value in (aws.environment | {"AWS_ACCESS_KEY_ID": "210987654321"}).items():
        monkeypatch.setenv(name, value)
    assert command_line.main(["show", "churn-dev"]) == 2
    error = capsys.readouterr().err
    assert "/modelyard/ledger-table, /modelyard/queue-url" in error
    assert "make install-platform" in error


def test_an_unknown_endpoint_is_an_error_that_names_the_known_ones(run, endpoint):
    code, _, error = run("show", "another-dev")
    assert code == 2
    assert f"known: {endpoint}" in error


def test_the_operators_own_environment_says_where_aws_is(aws, parameters, endpoint, monkeypatch, capsys):
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    assert command_line.main(["show", endpoint]) == 0
    assert capsys.readouterr().out.startswith(endpoint)


def test_in_a_terminal_it_says_in_words_what_it_did_and_logs_nothing(aws, parameters, endpoint):
    command = [sys.executable, "-m", "lifecycle_lambdas", "park", endpoint, "--why", "audit", "--yes"]
    done = subprocess.run(
        command, cwd=CHECKOUT, env=os.environ | aws.environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"park is in the ledger of {endpoint}\n")
    assert done.stderr == ""


def test_a_reader_who_has_had_enough_is_no_error(aws, parameters, endpoint):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "lifecycle_lambdas", "show", endpoint]
    with os.fdopen(writing, "w") as output:
        done = subprocess.run(
            command, cwd=CHECKOUT, env=os.environ | aws.environment, stdout=output, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (1, "")


def test_an_endpoint_whose_events_were_all_lost_is_found_by_its_group(run, group, context, project):
    assert run("show", group)[0] == 0
    assert context.ledger.state(group) == State(group, project, "dev", group, "settled")


def test_what_aws_refuses_is_said_in_one_line(run, endpoint, clients, context):
    clients("dynamodb").delete_table(TableName=context.settings.ledger_table)
    code, _, error = run("show", endpoint)
    assert (code, len(error.splitlines())) == (2, 1)
    assert error.startswith("error: AWS refused GetItem")


def test_a_missing_permission_names_the_policies_that_give_it(run, clients, monkeypatch):
    refused = ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetParametersByPath")

    def from_parameters(ssm: object) -> None:
        raise refused

    monkeypatch.setattr(common.Settings, "from_parameters", from_parameters)
    code, _, error = run("show", "churn-dev")
    assert (code, error.splitlines()[0]) == (2, "error: AWS refused GetParametersByPath: no")
    assert "ask an administrator for modelyard-operator" in error.splitlines()[1]


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where nobody has signed in to AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.parametrize("command", [["show", "churn-dev"], ["clean", "churn"]], ids=["show", "clean"])
def test_without_credentials_or_region_the_error_says_what_to_do(nowhere, monkeypatch, capsys, command):
    assert command_line.main(command) == 2
    assert "no Region is set: set AWS_REGION, or run: aws configure" in capsys.readouterr().err

    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert command_line.main(command) == 2
    assert "no AWS credentials here: sign in as for the AWS CLI" in capsys.readouterr().err


# --- deciding


def test_approving_and_rejecting_are_done_in_the_registry(run, endpoint, register, clients, context):
    arn = register()
    assert run("approve", endpoint, "1", "--why", "AUC is  better\n", "--yes")[0] == 0
    assert approval(clients, arn) == ("Approved", "AUC is better")
    code, out, _ = run("approve", endpoint, "1", "--why", "again", "--yes")
    assert (code, "is Approved already" in out) == (0, True)
    assert run("reject", endpoint, "1", "--why", "worse", "--yes")[0] == 0
    assert approval(clients, arn) == ("Rejected", "worse")
    assert list(context.ledger.entries(endpoint)) == []  # its event brings it there, or a look


@pytest.mark.parametrize("overtaken_by", ["park", "go-back", "approve", "remove"])
def test_approving_what_is_approved_and_was_overtaken_deploys_it_again(
    run, endpoint, register, context, overtaken_by, told
):
    told()
    first, second = (register("Approved") for _ in range(2))
    at = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
    for minute, arn in enumerate((first, second)):
        assert context.ledger.append(Entry(endpoint, "approve", at.replace(minute=minute), arn, ROOT, "", "event"))
    code, out, _ = run("approve", endpoint, "2", "--why", "again", "--yes")
    assert (code, "is Approved already" in out) == (0, True)
    other = first if overtaken_by in ("go-back", "approve") else None
    assert context.ledger.append(Entry(endpoint, overtaken_by, at + timedelta(hours=1), other, ROOT, "", "command"))
    asked(context)

    assert run("approve", endpoint, "2", "--why", "again", "--yes")[0] == 0
    newest = next(context.ledger.entries(endpoint))
    assert (newest.kind, newest.package_arn, newest.by, newest.why) == ("approve", second, ROOT, "again")
    assert asked(context) == [{"look": "endpoint", "endpoint": endpoint, "missed": False}]
    assert len(told()) == 1
    assert "is Approved already" in run("approve", endpoint, "2", "--why", "again", "--yes")[1]


@pytest.mark.parametrize(
    ("rejected", "leads_to"),
    [
        pytest.param("1", "no other version is left to serve, so {endpoint} is deleted", id="the only one"),
        pytest.param("2", "version 3 serves in its place", id="what somebody had gone back to"),
        pytest.param("3", "what should serve stays as it is", id="what somebody left"),
    ],
)
def test_who_rejects_is_asked_with_what_serves_then(
    run, endpoint, register, context, rejected, leads_to, monkeypatch, clients
):
    versions = [register("Approved") for _ in range(1 if rejected == "1" else 3)]
    at = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
    decided: list[tuple[EntryKind, str]] = [("approve", arn) for arn in versions]
    decided += [] if rejected == "1" else [("go-back", versions[1])]
    for minute, (kind, arn) in enumerate(decided):
        assert context.ledger.append(Entry(endpoint, kind, at.replace(minute=minute), arn, ROOT, "", "event"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "")
    code, out, _ = run("reject", endpoint, rejected, "--why", "it is worse")
    assert (code, approval(clients, versions[int(rejected) - 1])[0]) == (2, "Approved")
    assert f"Reject version {rejected} of {endpoint}: {leads_to.format(endpoint=endpoint)}." in out


@pytest.mark.parametrize("command", [("approve", "1"), ("reject", "1"), ("go-back", "1"), ("park",), ("remove",)])
def test_nothing_is_done_before_somebody_says_yes(run, endpoint, version, clients, context, command, monkeypatch):
    arn = version("Approved" if command[0] != "approve" else "PendingManualApproval")
    before = approval(clients, arn)
    arguments = (command[0], endpoint, *command[1:], "--why", "because")
    code, _, error = run(*arguments)
    assert (code, "say --yes" in error) == (2, True)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "")
    code, out, error = run(*arguments)
    assert (code, error, "Why: because" in out) == (2, "error: nothing was done", True)
    assert (approval(clients, arn), list(context.ledger.entries(endpoint)), asked(context)) == (before, [], [])
    monkeypatch.setattr("builtins.input", lambda _: " Yes")
    assert run(*arguments)[0] == 0


def test_going_back_shows_the_plan_and_is_an_entry_that_is_told_and_looked_at(run, endpoint, version, context, told):
    told()
    arn = version("Approved")
    version("Approved")
    code, out, _ = run("go-back", endpoint, "1", "--why", "the new one is slow", "--yes")
    assert (code, out.splitlines()[:2]) == (0, [f"{endpoint}, version 1", "calls to come:"])
    (entry,) = context.ledger.entries(endpoint)
    assert (entry.kind, entry.package_arn, entry.by, entry.why) == ("go-back", arn, ROOT, "the new one is slow")
    assert (entry.source, datetime.now(UTC) - entry.at < timedelta(minutes=1)) == ("command", True)
    assert [text.splitlines()[0] for text in told()] == [f"{endpoint}: {ROOT} goes back to version 1"]
    assert asked(context) == [{"look": "endpoint", "endpoint": endpoint, "missed": False}]


def test_going_back_to_what_could_not_be_deployed_is_refused_with_the_reason(run, endpoint, register, context):
    register("Approved")
    code, _, error = run("go-back", endpoint, "1", "--why", "x", "--yes")
    assert (code, list(context.ledger.entries(endpoint))) == (2, [])
    assert error.startswith(f"error: {endpoint} cannot go back to version 1: ")
    assert "register it with the project's pipeline" in error


@pytest.mark.parametrize("clock", ["slow", "fast"])
def test_what_an_operator_decides_comes_after_what_was_decided_whatever_their_clock_says(
    run, endpoint, version, context, clock, monkeypatch
):
    """The newest approval is an hour ahead, as by a clock that was fast; the operator's own is three minutes off."""
    first, second = (version("Approved") for _ in range(2))
    now = datetime.now(UTC).replace(microsecond=0)

    class Clock(datetime):
        @classmethod
        def now(cls, zone=None):
            return now + timedelta(minutes=3 if clock == "fast" else -3)

    monkeypatch.setattr("lifecycle_lambdas.context.datetime", Clock)
    assert run("go-back", endpoint, "1", "--why", "slow", "--yes")[0] == 0
    at = next(context.ledger.entries(endpoint)).at
    assert now <= at < now + timedelta(minutes=2)

    ahead = Entry(endpoint, "approve", now + timedelta(hours=1), second, ROOT, "", "event")
    assert context.ledger.append(ahead)
    assert run("go-back", endpoint, "1", "--why", "slow", "--yes")[0] == 0
    newest = next(context.ledger.entries(endpoint))
    assert (newest.package_arn, newest.at) == (first, ahead.at + timedelta(seconds=1))


@pytest.fixture
def served(endpoint, version, context, monkeypatch):
    """Records deployments of versions that are approved, and what serves; answers the versions."""

    def served(
        statuses: list[DeploymentStatus],
        serving: int,
        pending: int | None = None,
        kind: str = "approve",
        ended: datetime | None = None,
    ) -> list[str]:
        versions = [version("Approved") for _ in statuses]
        at = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
        with context.ledger.lease(endpoint, "test", 60) as lease:
            for number, (arn, status) in enumerate(zip(versions, statuses, strict=True)):
                key = f"ENTRY#2026-11-21T08:00:00Z#{arn[-1]:>010}#{kind if arn == versions[-1] else 'approve'}"
                stage_file = stage_schema.dump(stage_schema.parse(STAGE_FILE, "dev"))
                deployment = Deployment(endpoint, 0, key, arn, stage_file, "ab", status, at, previous=number or None)
                context.ledger.start_deployment(lease, replace(deployment, ended=ended))
        config = None if pending is None else f"{endpoint}-{pending}"
        state = "InService" if pending is None else "Updating"
        observed = Observed(endpoint, plans.endpoint(state, f"{endpoint}-{serving}", pending=config))
        monkeypatch.setattr(planning, "observe", lambda *_: observed)
        monkeypatch.setattr(going_back_command.observe, "observe", lambda *_: observed)
        return versions

    return served


def test_without_a_version_it_goes_back_to_the_one_before(run, endpoint, served, context):
    first, _, _ = served(["succeeded", "failed", "succeeded"], 3)
    code, out, error = run("go-back", endpoint, "--why", "slow", "--yes")
    assert (code, error) == (0, "")
    assert "  version: 3 -> 1" in out.splitlines()
    assert next(context.ledger.entries(endpoint)).package_arn == first


@pytest.mark.parametrize(
    ("newest", "pending"),
    [
        pytest.param("under-way", 3, id="SageMaker is at it"),
        pytest.param("under-way", None, id="SageMaker was not asked yet, or refuses"),
        pytest.param("superseded", 3, id="it is being aborted"),
    ],
)
def test_without_a_version_while_another_is_rolled_out_it_goes_back_to_what_serves_still(
    run, endpoint, served, context, newest, pending
):
    _, second, _ = served(["succeeded", "succeeded", newest], 2, pending)
    code, _, error = run("go-back", endpoint, "--why", "slow", "--yes")
    assert (code, error) == (0, "")
    assert next(context.ledger.entries(endpoint)).package_arn == second


def test_without_a_version_while_it_goes_back_already_it_is_what_it_goes_back_to(run, endpoint, served, context):
    """Typed twice, or the controller was faster: what is left is not brought back."""
    *_, back = served(["succeeded", "succeeded", "under-way"], 2, 3, "go-back")
    code, _, error = run("go-back", endpoint, "--why", "slow", "--yes")
    assert (code, error) == (0, "")
    assert next(context.ledger.entries(endpoint)).package_arn == back


@pytest.mark.parametrize("ago", [59, 61])
def test_without_a_version_just_after_going_back_it_goes_no_further(run, endpoint, served, context, ago):
    """Whoever is called by an alarm comes minutes after the controller, or after a colleague."""
    ended = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=ago)
    _, _, back = served(["succeeded", "succeeded", "succeeded"], 3, kind="go-back", ended=ended)
    at = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
    entry = Entry(endpoint, "go-back", at, back, "modelyard", "the alarm is raised", "controller")
    assert context.ledger.append(entry)
    code, _, error = run("go-back", endpoint, "--why", "slow", "--yes")
    if ago == 61:
        assert (code, error) == (0, "")
        return
    assert code == 2
    assert f"{endpoint} went back from version 2 to version 3 already, at {ended:%Y-%m-%d %H:%M:%S} UTC" in error
    assert "(by modelyard: the alarm is raised). To go back further, name the version" in error
    assert next(context.ledger.entries(endpoint)) == entry


def test_without_a_version_before_it_says_what_to_do(run, endpoint, version):
    version("Approved")
    code, _, error = run("go-back", endpoint, "--why", "slow", "--yes")
    assert (code, error) == (
        2,
        f"error: nothing that Modelyard deployed serves at {endpoint}: name a version to go back to",
    )


def test_here_it_is_done_from_here_to_the_end(run, endpoint, version, outcomes):
    version("Approved")
    waiting = Outcome(endpoint, summary="it is being created", look_again_in=1.0)
    outcomes[endpoint] = [waiting, Outcome(endpoint, settled=True, summary="version 1 serves")]
    code, out, _ = run("go-back", endpoint, "1", "--why", "the function is broken", "--yes", "--here")
    assert (code, out.splitlines()[-2:]) == (0, [f"{endpoint}: it is being created", f"{endpoint}: version 1 serves"])


def test_going_back_to_what_is_not_approved_is_refused(run, endpoint, register, context):
    register("Rejected")
    code, _, error = run("go-back", endpoint, "1", "--why", "x", "--yes")
    assert (code, list(context.ledger.entries(endpoint))) == (2, [])
    assert f"approve it instead (approve {endpoint} 1" in error


def test_a_version_that_is_not_there_is_named(run, endpoint):
    assert run("approve", endpoint, "7", "--why", "x", "--yes")[2] == f"error: {endpoint} has no version 7"


def test_parking_lasts_until_the_time_given(run, endpoint, context):
    assert run("park", endpoint, "--why", "audit", "--until", "12h", "--yes")[0] == 0
    (entry,) = context.ledger.entries(endpoint)
    assert (entry.kind, entry.package_arn, entry.why) == ("park", None, "audit")
    assert timedelta(hours=11, minutes=59) < entry.until - datetime.now(UTC) <= timedelta(hours=12)


def test_removing_is_an_entry_that_is_looked_at_and_told_when_it_is_done(run, endpoint, context, told, clients):
    told()
    assert run("remove", endpoint, "--why", "the stage is gone", "--yes")[0] == 0
    (entry,) = context.ledger.entries(endpoint)
    assert (entry.kind, entry.package_arn, entry.by, entry.source) == ("remove", None, ROOT, "command")
    assert asked(context) == [{"look": "endpoint", "endpoint": endpoint, "missed": False}]
    assert told() == []
    code, out, _ = run("look", endpoint, "--wait")
    assert (code, out) == (0, f"{endpoint}: removed: nothing of it is left\n")
    assert context.ledger.state(endpoint).status == "removed"
    assert run("show", endpoint)[1].splitlines()[0].endswith("stage dev): removed")

    code, out, _ = run("remove", endpoint, "--why", "again", "--yes")
    assert (code, "removed already" in out) == (0, True)
    code, _, error = run("park", endpoint, "--why", "x", "--yes")
    assert (code, "there is nothing to park" in error) == (2, True)
    assert len(list(context.ledger.entries(endpoint))) == 1


def test_times_are_spans_or_iso_8601():
    assert command_line.until("2099-01-01T01:00:00+01:00") == datetime(2099, 1, 1, tzinfo=UTC)
    for text in ("0m", "12", "tomorrow", "2099-01-01T01:00:00", "2001-01-01T00:00:00Z"):
        with pytest.raises(argparse.ArgumentTypeError):
            command_line.until(text)


@pytest.mark.parametrize("why", ["", "  ", "x" * 1025])
def test_a_reason_is_needed(run, why, capsys):
    with pytest.raises(SystemExit) as ended:
        run("park", "churn-dev", "--why", why, "--yes")
    assert ended.value.code == 2
    assert "1 to 1024 characters" in capsys.readouterr().err


# --- looking


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Outcome]]:
    """What looks at an endpoint come to, one after the other."""
    coming: dict[str, list[Outcome]] = {}
    monkeypatch.setattr(looking.converge, "look", lambda endpoint, *_: coming[endpoint].pop(0))
    monkeypatch.setattr(common.time, "sleep", lambda _: None)
    return coming


def test_a_look_finds_what_was_missed_and_says_how_far_it_got(run, endpoint, register, outcomes, context):
    arn = register("Approved")
    outcomes[endpoint] = [Outcome(endpoint, summary="version 1 is being created")]
    assert run("look", endpoint)[:2] == (1, f"{endpoint}: version 1 is being created\n")
    assert [entry.package_arn for entry in context.ledger.entries(endpoint)] == [arn]


def test_with_wait_it_looks_until_nothing_is_under_way(run, endpoint, outcomes):
    waiting = Outcome(endpoint, summary="it is being created", look_again_in=1.0)
    outcomes[endpoint] = [waiting, waiting, Outcome(endpoint, settled=True, summary="version 1 serves")]
    code, out, _ = run("look", endpoint, "--wait")
    assert (code, out.splitlines()[-1]) == (0, f"{endpoint}: version 1 serves")
    assert outcomes[endpoint] == []


def test_everything_is_every_endpoint_and_new_groups(run, clients, project, outcomes, context):
    for stage in ("dev", "prod"):
        make_group(clients, project, stage)
    for page in clients("sagemaker").get_paginator("list_model_package_groups").paginate():
        for group in page["ModelPackageGroupSummaryList"]:
            name = group["ModelPackageGroupName"]
            outcomes[name] = [Outcome(name, settled=True, summary="fine")]
    code, out, _ = run("look", "--everything")
    assert code == 0
    assert {f"{project}-dev: fine", f"{project}-prod: fine"} <= set(out.splitlines())


@pytest.mark.parametrize("arguments", [(), ("churn-dev", "--everything")])
def test_a_look_is_at_endpoints_or_at_everything(run, arguments):
    code, _, error = run("look", *arguments)
    assert (code, error) == (2, "error: name endpoints to look at, or say --everything")


# --- showing


def test_the_ledger_and_the_deployments_stand_below_each_other(run, endpoint, context):
    at = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
    arn = f"arn:aws:sagemaker:us-east-1:123456789012:model-package/{endpoint}/12"
    approved = Entry(endpoint, "approve", at, arn, "ann", "better", "event")
    parked = Entry(endpoint, "park", at + timedelta(hours=1), None, "bob", "audit", "command", at + timedelta(hours=2))
    for entry in (approved, parked):
        context.ledger.append(entry)
    with context.ledger.lease(endpoint, "test", 60) as lease:
        started = context.ledger.start_deployment(
            lease, Deployment(endpoint, 0, approved.key, arn, {}, "ab", "under-way", at)
        )
        ended = replace(started, status="failed", ended=at + timedelta(seconds=75), reason="alarm\nrang")
        context.ledger.record(lease, ended)
    code, out, _ = run("show", endpoint)
    assert code == 0
    assert out.splitlines()[2:] == [
        "when (UTC)           what     version  by   source   why",
        "2026-11-21 09:00:00  park              bob  command  until 2026-11-21 10:00:00, audit",
        "2026-11-21 08:00:00  approve  12       ann  event    better",
        "",
        "deployment  version  status  began (UTC)          took        reason",
        "1           12       failed  2026-11-21 08:00:00  1 min 15 s  alarm rang",
    ]
    shown = json.loads(run("show", endpoint, "--json")[1])
    assert (shown["entries"][1]["at"], shown["deployments"][0]["status"]) == ("2026-11-21T08:00:00+00:00", "failed")
    assert len(json.loads(run("show", endpoint, "--json", "--limit", "1")[1])["entries"]) == 1


# --- planning


def operations(found: dict[str, Any]) -> list[str]:
    return [call.get("operation", "wait") for call in found["calls"]]


def test_the_plan_of_a_first_version_creates_everything_and_does_nothing(context, version, project, group, clients):
    arn = version(scaling={"min": 1, "max": 3, "target": {"invocations_per_instance": 1000}})
    found = planning.answer(context, project, "dev", arn)
    assert (found["endpoint"], found["version"], found["refused"], found["changes"]) == (group, 1, None, [])
    assert operations(found)[:2] == ["create_model", "create_endpoint_config"]
    assert {"create_endpoint", "wait", "register_scalable_target", "put_scaling_policy"} <= set(operations(found))
    create = next(call for call in found["calls"] if call.get("operation") == "create_model")
    assert create["request"]["ModelName"] == f"{group}-1"
    assert create["service"] == "sagemaker"
    assert found["hours"] == 730 * 3
    assert found["monthly"]["usd"] is None  # nothing answers for AWS's price list here
    assert found["monthly"]["why"]
    json.dumps(found)
    assert context.ledger.state(group) is None
    assert clients("sagemaker").list_models()["Models"] == []


def test_without_a_version_the_newest_is_planned(context, version, project):
    version()
    arn = version()
    assert planning.answer(context, project, "dev")["package_arn"] == arn


def test_a_stage_file_of_ones_own_stands_for_the_versions(context, version, project):
    version()
    own = yaml.safe_dump({**STAGE_FILE, "instance_count": 4})
    found = planning.answer(context, project, "dev", stage_file=own)
    assert found["hours"] == 730 * 4
    assert "warnings" in found


def test_against_what_serves_the_plan_says_what_changes(context, version, project, endpoint, monkeypatch):
    older = version(instance_count=3)
    newer = version(instance_count=1, environment={"A": "b"})
    serving = stage_schema.dump(stage_schema.parse({**STAGE_FILE, "instance_count": 2}, "dev"))
    with context.ledger.lease(endpoint, "test", 60) as lease:
        deployment = Deployment(endpoint, 0, "ENTRY#", older, serving, "ab", "succeeded", datetime.now(UTC))
        context.ledger.start_deployment(lease, deployment)
    served = plans.endpoint(config=f"{endpoint}-1")
    monkeypatch.setattr(planning, "observe", lambda *_: Observed(endpoint, served))
    found = planning.answer(context, project, "dev", newer)
    assert found["refused"] is None
    assert {"version: 1 -> 2", "environment.A: none -> b", "instance_count: 2 -> 1"} <= set(found["changes"])
    assert "update_endpoint" in operations(found)
    # the version that serves would not be deployed again
    assert "update_endpoint" not in operations(planning.answer(context, project, "dev", older))


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"stage": "attic"}, "no stage 'attic'"),
        ({"stage": "prod"}, "no model package group"),
        ({"package_arn": "arn:aws:sagemaker:us-east-1:123456789012:model-package/other-dev/1"}, "no version of the"),
        ({"package_arn": "{group}/99"}, "there is no version"),
        ({"stage_file": "kind: real_time\n"}, "instance_type"),
        ({"stage_file": "kind: [\n"}, "deployment/dev.yaml"),
        ({"stage_file": "role: arn:aws:iam::1:role/admin\nkind: serverless\n"}, "role"),
    ],
)
def test_what_would_not_be_deployed_is_refused_with_the_reason(context, version, project, request_, reason):
    group_arn = version().rpartition("/")[0]
    request = {"stage": "dev"} | {name: text.replace("{group}", group_arn) for name, text in request_.items()}
    found = planning.answer(context, project, **request)
    assert reason in (found["refused"] or "")
    assert (found["calls"], found["hours"]) == ([], None)


def test_a_stage_file_that_was_changed_is_refused(context, version, project):
    version(sha256="0" * 64)
    assert "is not the file that was registered" in planning.answer(context, project, "dev")["refused"]


def test_a_group_without_tags_is_refused_since_its_approvals_deploy_nothing(context, clients, project):
    clients("sagemaker").create_model_package_group(ModelPackageGroupName=f"{project}-dev")
    clients("sagemaker").create_model_package(ModelPackageGroupName=f"{project}-dev")
    own = yaml.safe_dump(STAGE_FILE)
    assert "register-project" in planning.answer(context, project, "dev", stage_file=own)["refused"]
    assert "stage file" in planning.answer(context, project, "dev")["refused"]


def test_a_group_without_versions_is_refused(context, group, project):
    assert "no version is registered" in planning.answer(context, project, "dev")["refused"]


def test_the_plan_is_printed(run, endpoint, version):
    version(instance_count=2)
    code, out, _ = run("plan", endpoint, "1")
    lines = out.splitlines()
    assert (code, lines[0]) == (0, f"{endpoint}, version 1")
    assert "  sagemaker create_model: " in out
    assert f"({endpoint}-1)" in out
    assert "instance-hours a month: at most 1460" in lines
    assert lines[-1].startswith("cost a month: unknown: ")
    assert json.loads(run("plan", endpoint, "--json")[1])["version"] == 1


def test_a_refused_plan_is_printed_with_every_fault(run, endpoint, version, tmp_path):
    version()
    path = tmp_path / "dev.yaml"
    path.write_text("kind: real_time\ninstance_typ: ml.m5.large\ninstance_count: 0\n")
    code, out, _ = run("plan", endpoint, "--stage-file", str(path))
    assert (code, out.splitlines()[1]) == (1, "nothing would be deployed:")
    assert "instance_typ" in out
    code, _, error = run("plan", endpoint, "--stage-file", str(tmp_path / "none.yaml"))
    assert (code, "none.yaml cannot be read" in error) == (2, True)


def test_another_kind_is_told_without_all_that_it_has_no_more():
    arn, now = "arn:aws:sagemaker:eu-central-1:123456789012:model-package/churn-dev/1", datetime.now(UTC)
    was = {"kind": "real_time", "instance_type": "ml.m5.large", "rollout": {"finish_bake_minutes": 0.0}}
    old = Deployment("churn-dev", 1, "ENTRY#", arn, was, "ab", "succeeded", now)
    new = replace(old, stage_file={"kind": "serverless", "memory_mb": 2048, "share": 1.0})
    kind, *others = planning.changes(old, new)
    assert (kind, others) == ("kind: real_time -> serverless", ["memory_mb: none -> 2048", "share: none -> 1"])


def test_known_prices_are_printed():
    found = {
        "endpoint": "churn-dev",
        "version": 3,
        "refused": None,
        "warnings": ["one instance is no redundancy"],
        "changes": ["instance_count: 1 -> 2"],
        "calls": [{"wait": "the endpoint is being created"}],
        "hours": 1460.0,
        "monthly": {"usd": 167.9, "why": "730 h x 2 x ml.m5.large at 0.115 USD an hour"},
    }
    assert command_line.plan_text(found).splitlines() == [
        "churn-dev, version 3",
        "warning: one instance is no redundancy",
        "what changes:",
        "  instance_count: 1 -> 2",
        "calls to come:",
        "  wait: the endpoint is being created",
        "instance-hours a month: at most 1460",
        "cost a month: at most 167.90 USD (730 h x 2 x ml.m5.large at 0.115 USD an hour)",
    ]


class Function:
    """Lambda's context object."""

    aws_request_id = "request-1"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


def test_the_plan_function_answers_the_same(aws, context, version, project, monkeypatch):
    version()
    settings = {name.upper(): value for name, value in vars(context.settings).items()}
    for name, value in (aws.environment | settings).items():
        monkeypatch.setenv(name, value)
    plan_handler._clients.cache_clear()
    event = {"project": project, "stage": "dev", "package_arn": None, "stage_file": None, "something": "else"}
    assert plan_handler.handler(event, Function()) == planning.answer(context, project, "dev")
    lacking = plan_handler.handler({}, Function())
    assert lacking["refused"].startswith("the request lacks project, stage;")
    assert lacking.keys() == planning.answer(context, project, "dev").keys()


# --- operating


def test_a_lost_ledger_is_rebuilt_after_asking_and_again_nothing_is_missing(
    run: Run, context: Context, register: Callable[..., str], group: str, project: str
) -> None:
    stamps = {"approval__at": "2026-11-21T08:00:00Z", "approval__by": ROOT}
    version = register("Approved", **stamps)
    code, out, err = run("rebuild", "--project", project)
    assert (code, context.ledger.state(group)) == (2, None)
    assert "say --yes" in err
    code, out, _ = run("rebuild", "--project", project, "--yes")
    assert code == 0
    assert out.endswith("1 of 1 endpoints are rebuilt\n")
    assert [(one.package_arn, one.by) for one in context.ledger.entries(group)] == [(version, ROOT)]
    assert run("rebuild", "--project", project) == (0, "\nnothing is missing\n", "")


def test_a_project_that_is_not_there_is_neither_rebuilt_nor_ready(run: Run) -> None:
    assert run("rebuild", "--project", "no-such") == (
        2,
        "",
        "error: there is no project 'no-such': no model package group <project>-<stage> has its tags",
    )
    assert "no-such-prod, no-such-champion, no-such-challenger" in run("ready", "no-such")[2]


def test_ready_prints_every_item_and_what_it_does_not_check_and_fails_where_something_is_missing(
    run: Run, clients: LocalClients, project: str, failed_queue: str
) -> None:
    make_group(clients, project, "prod")
    code, out, _ = run("ready", project)
    assert code == 1
    assert f"missing  {project}-prod" in out
    assert "not checked:" in out
    items = json.loads(run("ready", project, "--json")[1])["items"]
    assert {"place", "name", "status", "found", "remedy"} == set(items[0])
    assert all(item["remedy"] for item in items if item["status"] != "ok")


@pytest.fixture
def failed_queue(clients: LocalClients, context: Context) -> str:
    """The URL of the dead letter queue behind the context's queue."""
    sqs = clients("sqs")
    url = sqs.create_queue(QueueName=f"modelyard-failed-{context.settings.ledger_table}")["QueueUrl"]
    policy = json.dumps({"deadLetterTargetArn": queue_arn(clients, url), "maxReceiveCount": 3})
    sqs.set_queue_attributes(QueueUrl=context.settings.queue_url, Attributes={"RedrivePolicy": policy})
    return str(url)


def queue_arn(clients: LocalClients, url: str) -> str:
    answer = clients("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(answer["Attributes"]["QueueArn"])


def bodies(clients: LocalClients, url: str) -> list[str]:
    """Of the messages in a queue, which are there no more afterwards."""
    messages = clients("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    return [message["Body"] for message in messages]


def test_dead_letters_are_shown_and_sent_back_and_what_nobody_knows_stays(
    run: Run, clients: LocalClients, context: Context, failed_queue: str
) -> None:
    assert run("replay") == (0, "there are no dead letters\n", "")
    sqs = clients("sqs")
    events = sqs.create_queue(QueueName=f"modelyard-events-{context.settings.ledger_table}")["QueueUrl"]
    target = {"TARGET_ARN": {"DataType": "String", "StringValue": queue_arn(clients, events)}}
    look = json.dumps({"look": "everything"})
    sqs.send_message(QueueUrl=failed_queue, MessageBody=look, MessageAttributes=target)
    sqs.send_message(QueueUrl=failed_queue, MessageBody="hello")
    code, out, err = run("replay", "--show")
    assert (code, err) == (0, "")
    assert "look at everything" in out
    code, out, err = run("replay")
    assert (code, bodies(clients, events)) == (2, [])
    assert "1 go back to where they came from; 1 stay" in err
    code, out, _ = run("replay", "--yes")
    assert (code, bodies(clients, events)) == (1, [look])
    assert "left where it is" in out
    _, _, err = run("replay", "--delete-others")
    assert "0 go back to where they came from; 1 are deleted" in err
    code, out, _ = run("replay", "--delete-others", "--yes")
    assert (code, "deleted: " in out.splitlines()[-1]) == (0, True)
    assert bodies(clients, failed_queue) == []


def test_whoever_thinks_longer_than_the_letters_are_hidden_and_says_no_is_told_that_nothing_was_done(
    run: Run, clients: LocalClients, failed_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients("sqs").send_message(QueueUrl=failed_queue, MessageBody="hello")
    monkeypatch.setattr(dead_letters, "HIDDEN", 0)
    monkeypatch.setattr(dead_letters, "MOST", 1)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)

    def somebody_else_deletes_it(_: str) -> str:
        (message,) = clients("sqs").receive_message(QueueUrl=failed_queue)["Messages"]
        clients("sqs").delete_message(QueueUrl=failed_queue, ReceiptHandle=message["ReceiptHandle"])
        return "n"

    monkeypatch.setattr("builtins.input", somebody_else_deletes_it)
    code, _, error = run("replay")
    assert (code, error) == (2, "error: nothing was done")


def test_a_removal_is_not_sent_where_a_version_is_approved_while_somebody_thinks_about_it(
    run: Run,
    clients: LocalClients,
    context: Context,
    endpoint: str,
    register: Callable[..., str],
    failed_queue: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events = clients("sqs").create_queue(QueueName=f"modelyard-events-{context.settings.ledger_table}")["QueueUrl"]
    target = {"TARGET_ARN": {"DataType": "String", "StringValue": queue_arn(clients, events)}}
    removal = json.dumps({"look": "remove", "endpoint": endpoint, "by": "arn:stack", "why": "deleted"})
    clients("sqs").send_message(QueueUrl=failed_queue, MessageBody=removal, MessageAttributes=target)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)

    def somebody_approves(_: str) -> str:
        later = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=1)
        assert context.ledger.append(Entry(endpoint, "approve", later, register("Approved"), ROOT, "", "event"))
        return "y"

    monkeypatch.setattr("builtins.input", somebody_approves)
    code, out, _ = run("replay")
    assert (code, "deleted: remove" in out) == (0, True)
    assert bodies(clients, events) == bodies(clients, failed_queue) == []


def test_a_removal_that_is_older_than_an_approval_is_deleted_and_not_sent(
    run: Run, clients: LocalClients, context: Context, endpoint: str, register: Callable[..., str], failed_queue: str
) -> None:
    events = clients("sqs").create_queue(QueueName=f"modelyard-events-{context.settings.ledger_table}")["QueueUrl"]
    target = {"TARGET_ARN": {"DataType": "String", "StringValue": queue_arn(clients, events)}}
    removal = json.dumps({"look": "remove", "endpoint": endpoint, "by": "arn:stack", "why": "deleted"})
    clients("sqs").send_message(QueueUrl=failed_queue, MessageBody=removal, MessageAttributes=target)
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=1)
    assert context.ledger.append(Entry(endpoint, "approve", later, register("Approved"), ROOT, "", "event"))
    code, out, _ = run("replay", "--yes")
    assert code == 0
    assert "deleted: remove" in out
    assert bodies(clients, events) == bodies(clients, failed_queue) == []
