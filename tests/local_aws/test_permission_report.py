"""What each user and role was granted, used and was denied: from IAM and from the decisions, and as a command."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from rich.console import Console

from local_aws import control
from local_aws.ministack_host import policies_allow
from local_aws.permissions import report
from local_aws.permissions.decisions import Decision
from local_aws.permissions.identities import Identity, read_identities
from tests.local_aws.people import sign_in

ROLE = "arn:aws:iam::123456789012:role/modelyard/modelyard-deploy-us-east-1"
TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/"
DOCUMENT = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "Ledger",
            "Effect": "Allow",
            "Action": ["dynamodb:GetItem", "dynamodb:PutItem"],
            "Resource": [TABLE + "ledger", TABLE + "other"],
        }
    ],
}
IDENTITY = Identity(ROLE, {"modelyard-ledger-us-east-1": DOCUMENT})
READ = Decision(ROLE, "dynamodb:GetItem", TABLE + "ledger", "us-east-1", (), True)
REFUSED = Decision(
    ROLE, "iam:PassRole", "arn:aws:iam::1:role/x", "us-east-1", (), False, because="lambda:CreateFunction"
)


def reported(decisions: dict[Decision, int]) -> report.IdentityReport:
    (found,) = report.report([IDENTITY], decisions, policies_allow)
    return found


def test_each_action_says_how_often_it_was_used_and_on_what() -> None:
    found = reported({READ: 3, REFUSED: 2})
    assert [(use.grant.text, use.count, use.on, use.needed) for use in found.actions] == [
        ("dynamodb:GetItem", 3, (TABLE + "ledger",), True),
        ("dynamodb:PutItem", 0, (), False),
    ]


def test_what_was_denied_says_for_what_it_was_asked() -> None:
    assert reported({READ: 3, REFUSED: 2}).denied == (
        report.Denial("iam:PassRole", "arn:aws:iam::1:role/x", "lambda:CreateFunction", 2),
    )


def test_a_role_that_is_gone_still_says_what_it_was_denied() -> None:
    (found,) = report.report([], {REFUSED: 1}, policies_allow)
    assert (found.exists, len(found.denied), found.unexplained) == (False, 1, ())


def test_a_service_is_named_where_a_resources_policy_did_not_let_it_in() -> None:
    let_in = Decision("sns.amazonaws.com", "sqs:SendMessage", "arn:aws:sqs:us-east-1:1:q", "us-east-1", (), True, True)
    refused = replace(let_in, allowed=False, by_resource=False)
    assert report.report([], {let_in: 1}, policies_allow) == []
    (found,) = report.report([], {let_in: 1, refused: 2}, policies_allow)
    console = Console(file=io.StringIO(), width=160)
    report.render([found], console)
    report.render_compact([found], console)
    assert "service sns.amazonaws.com: 1 denied by resources' policies" in console.file.getvalue()
    assert "denied 2: service sns.amazonaws.com: sqs:SendMessage on q\n" in console.file.getvalue()


def test_what_is_granted_and_not_needed_is_named_once_for_action_and_resource() -> None:
    lines = report.unneeded([reported({READ: 1})], {})
    place = "modelyard-deploy-us-east-1: modelyard-ledger-us-east-1/Ledger"
    assert lines == [
        f"{place}: dynamodb:PutItem: never used (action)",
        f"{place}: {TABLE}other: never used (resource)",
    ]


def test_an_exception_excuses_what_it_names_and_nothing_else() -> None:
    reasons = {"dynamodb:PutItem": "the first deployment", "*:table/other": "restored ledgers"}
    exceptions = {"modelyard-deploy-*": {"modelyard-ledger-*/Ledger": reasons}}
    assert report.unneeded([reported({READ: 1})], exceptions) == []
    assert report.unneeded([reported({})], exceptions) != []


def test_a_reason_for_a_statement_is_one_for_all_of_it() -> None:
    exceptions = {"modelyard-deploy-*": {"modelyard-ledger-*/Ledger": "nobody deploys in this run"}}
    assert report.unneeded([reported({})], exceptions) == []


def test_an_exception_that_is_needed_and_one_that_is_about_nothing_are_named() -> None:
    reasons = {"dynamodb:GetItem": "never read", "dynamodb:PutItem": "x", "*:table/other": "x", "dynamodb:Query": "x"}
    (needed, nothing) = report.unneeded(
        [reported({READ: 1})], {"modelyard-deploy-*": {"modelyard-ledger-*/Ledger": reasons}}
    )
    assert needed.endswith("dynamodb:GetItem: excepted (never read), yet it is needed")
    assert nothing.endswith("dynamodb:Query: an exception, yet nothing of that is granted")


def test_what_only_some_runs_use_is_excused_either_way() -> None:
    reason = {"dynamodb:GetItem": "at times: when it is late", "dynamodb:PutItem": "x", "*:table/*": "at times: both"}
    exceptions = {"modelyard-deploy-*": {"*/Ledger": reason}}
    assert report.unneeded([reported({READ: 1})], exceptions) == report.unneeded([reported({})], exceptions) == []


def test_exceptions_of_other_roles_are_left_alone() -> None:
    assert len(report.unneeded([reported({READ: 1})], {"modelyard-plan-*": {"x/y": "z"}})) == 2


def printed(render: Any, decisions: dict[Decision, int]) -> str:
    console = Console(file=io.StringIO(), width=160)
    render([reported(decisions)], console)
    text = console.file.getvalue()
    assert isinstance(text, str)
    return text


def test_the_table_has_a_line_for_every_action_and_every_denial() -> None:
    text = printed(report.render, {READ: 3, REFUSED: 2})
    assert "role modelyard-deploy-us-east-1: 1 of 2 granted actions used, 1 denied" in text
    (put,) = [line for line in text.splitlines() if "dynamodb:PutItem" in line]
    assert "never" in put
    (denied,) = [line for line in text.splitlines() if "iam:PassRole" in line]
    assert denied.split() == ["denied", "iam:PassRole", "2", "role/x", "(for", "lambda:CreateFunction)"]


def test_the_compact_table_has_a_line_for_each_and_says_what_was_denied() -> None:
    lines = printed(report.render_compact, {READ: 3, REFUSED: 2}).splitlines()
    assert lines[1].split() == ["who", "granted", "used", "never", "used", "denied"]
    assert lines[3].split() == ["role", "modelyard-deploy-us-east-1", "2", "1", "1", "2"]
    assert lines[-1] == "denied 2: role modelyard-deploy-us-east-1: iam:PassRole on role/x (for lambda:CreateFunction)"


def test_the_compact_table_is_no_wider_than_a_terminal_and_has_users_first() -> None:
    everything = {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
    longest = replace(IDENTITY, arn=f"{ROLE.rpartition('/')[0]}/{'r' * 64}")
    user = Identity("arn:aws:iam::123456789012:user/z", {"all": everything})
    gone = replace(REFUSED, principal="arn:aws:iam::123456789012:role/gone")
    console = Console(file=io.StringIO(), width=80)
    report.render_compact(report.report([longest, user], {gone: 1}, policies_allow), console)
    lines = console.file.getvalue().splitlines()
    table = lines[: next(number for number, line in enumerate(lines) if line.startswith("denied"))]
    assert max(map(len, table)) <= 80
    assert lines[3].split() == ["user", "z", "everything", "0"]
    assert "role gone: there no more" in console.file.getvalue()


# With a server.


def running(**options: Any) -> contextlib.closing[Any]:
    """A server that commands find."""
    server = control.start(0, idle_minutes=5, **options)
    return contextlib.closing(SimpleNamespace(server=server, close=lambda: control.stop(server)))


@pytest.fixture(scope="module")
def enforcing() -> Iterator[control.Server]:
    """With a user who may read one bucket, by a group's policy, and was refused another."""
    with running(enforce_iam=True) as found:
        aws = found.server
        iam, s3 = aws.client("iam"), aws.client("s3")
        for bucket in ("mine", "yours"):
            s3.create_bucket(Bucket=bucket)
        iam.create_user(UserName="reader")
        iam.create_group(GroupName="readers")
        iam.add_user_to_group(GroupName="readers", UserName="reader")
        statement = {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObject"], "Resource": "arn:aws:s3:::mine*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_group_policy(GroupName="readers", PolicyName="read", PolicyDocument=document)
        own = iam.create_policy(PolicyName="own", PolicyDocument=document)["Policy"]["Arn"]
        trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        iam.create_role(
            RoleName="worker",
            Path="/some/path/",
            AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        )
        iam.put_role_policy(RoleName="worker", PolicyName="inline", PolicyDocument=document)
        iam.attach_role_policy(RoleName="worker", PolicyArn=own)
        iam.attach_role_policy(RoleName="worker", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
        reader = aws.client("s3", credentials=sign_in(aws, "reader"))
        reader.list_objects_v2(Bucket="mine")
        with pytest.raises(ClientError, match="AccessDenied"):
            reader.list_objects_v2(Bucket="yours")
        yield aws


def command(aws: control.Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local_aws", "permissions", f"--port={aws.port}", *arguments],
        env=os.environ | aws.environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_iam_tells_inline_attached_and_groups_policies_and_aws_own(enforcing: control.Server) -> None:
    found = {identity.arn: set(identity.policies) for identity in read_identities(enforcing.client("iam"))}
    assert found == {
        "arn:aws:iam::123456789012:user/reader": {"readers/read"},
        "arn:aws:iam::123456789012:role/some/path/worker": {"inline", "own", "AdministratorAccess"},
    }


def test_the_command_prints_a_table_for_each_and_writes_it_all(enforcing: control.Server, tmp_path: Path) -> None:
    done = command(enforcing, "--json", str(tmp_path / "report.json"))
    assert done.returncode == 0, done.stderr
    assert "user reader: 1 of 2 granted actions used, 1 denied" in done.stdout
    written = {one["arn"].rpartition("/")[2]: one for one in json.loads((tmp_path / "report.json").read_text())}
    assert written["reader"]["denied"] == [
        {"action": "s3:ListBucket", "resource": "arn:aws:s3:::yours", "because": "", "count": 1}
    ]
    assert written["worker"]["denied"] == []


def test_the_command_fails_on_what_it_is_told_to(enforcing: control.Server) -> None:
    assert command(enforcing, "--role", "reader", "--fail-on", "denied").returncode == 1
    assert command(enforcing, "--role", "worker", "--fail-on", "denied").returncode == 0
    assert command(enforcing, "--role", "work*", "--fail-on", "unused,denied", "--compact").returncode == 1
    assert command(enforcing, "--fail-on", "everything").returncode == 2


def test_the_command_says_when_its_file_cannot_be_written(enforcing: control.Server, tmp_path: Path) -> None:
    done = command(enforcing, "--json", str(tmp_path / "nowhere" / "report.json"))
    assert done.returncode == 1
    assert (
        done.stderr == f"--json {tmp_path / 'nowhere' / 'report.json'} cannot be written: No such file or directory.\n"
    )


def test_the_command_says_when_there_is_no_such_role(enforcing: control.Server) -> None:
    assert "--role nobody: there is no such user or role" in command(enforcing, "--role", "nobody").stderr


def test_the_command_says_that_a_server_enforces_nothing() -> None:
    with running() as found:
        done = command(found.server)
    assert done.returncode == 1
    assert "enforces no IAM: start one with --enforce-iam" in done.stderr


def test_what_was_decided_so_far_can_be_forgotten(enforcing: control.Server) -> None:
    """Last: the other tests look at it."""
    assert command(enforcing, "--clear").stdout.endswith("has forgotten 2 decisions.\n")
    assert "user reader: 0 of 2 granted actions used, 0 denied" in command(enforcing).stdout
