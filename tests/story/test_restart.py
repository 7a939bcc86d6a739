"""The installed platform on a server that ends in the middle of a deployment, IAM enforced: it goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lifecycle_lambdas.ledger import Ledger
from lifecycle_lambdas.settings import Settings
from local_aws import LocalAWS
from tests.story.least_privilege import denied, reports
from tests.story.platform import CLOCK_SPEED, REAL_TIME, Project, install

CANARY = REAL_TIME + "rollout: {type: canary, size: 50%, bake_minutes: 20}\nalarms: {error_share: 0.05}\n"
# Containers are started again, and the lease of a function that was killed expires, in this machine's seconds.
LONG = 150.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAWS]:
    state = tmp_path_factory.mktemp("state")
    with LocalAWS(state=state, clock_speed=CLOCK_SPEED, enforce_iam=True) as aws:
        install(aws)
        yield aws


@pytest.fixture
def project(platform: LocalAWS) -> Project:
    return Project.create(platform)


def ends_well(project: Project, version: str, name: str, deployments: list[str]) -> None:
    """The version serves, nothing is under way or left over, no role was denied anything."""
    settings = Settings.from_parameters(project.aws.client("ssm"))
    ledger = Ledger(project.aws.client("dynamodb"), settings.ledger_table)

    def settled() -> bool:
        state = ledger.state(project.endpoint)
        return state is not None and state.status == "settled"

    def news() -> str:
        return f"{ledger.state(project.endpoint)} {project.describe()} {list(ledger.deployments(project.endpoint))}"

    project.until(lambda: project.package(version)["ModelApprovalStatus"] == "Approved", "the approval", news)
    project.until(
        lambda: settled()
        and (project.describe() or {}).get("EndpointStatus") == "InService"
        and _asked(project) == name,
        f"{name} to serve",
        news,
        LONG,
    )
    found = sorted(ledger.deployments(project.endpoint), key=lambda one: one.number)
    assert [one.status for one in found] == deployments
    resources = project.resources()
    assert resources["models"] == resources["configs"] == [one.name for one in found if one.status == "succeeded"][-2:]
    assert not [alarm for alarm in resources["alarms"] if "rollback" in alarm or "abort" in alarm]
    assert denied(reports(project.aws, "modelyard-*")) == []


def _policy(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _asked(project: Project) -> str | None:
    try:
        return project.ask()
    except project.runtime.exceptions.ClientError:
        return None


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
def test_a_canary_goes_on_and_what_was_approved_right_before_the_end_is_deployed(project: Project, kill: bool) -> None:
    aws = project.aws
    first, second, third = (project.register(name, CANARY) for name in ("first", "second", "third"))
    project.approve(first)
    project.deployed(first)
    project.serves("first")
    project.approve(second)
    project.until(
        lambda: (project.describe() or {}).get("EndpointStatus") == "Updating",
        "the canary",
        lambda: str(project.describe()),
    )

    project.approve(third)
    aws.restart(kill=kill)

    ends_well(project, third, "third", ["succeeded", "superseded", "succeeded"])


def test_a_first_version_approved_right_before_the_kill_is_created(project: Project) -> None:
    first = project.register("first")
    project.approve(first)
    project.aws.restart(kill=True)

    ends_well(project, first, "first", ["succeeded"])


def test_a_deployment_that_is_killed_again_and_again_ends(project: Project) -> None:
    first, second = (project.register(name, CANARY) for name in ("first", "second"))
    project.approve(first)
    project.deployed(first)
    project.approve(second)
    for _ in range(4):
        project.aws.restart(kill=True)

    ends_well(project, second, "second", ["succeeded", "succeeded"])


def test_a_session_that_was_given_before_the_kill_may_afterwards_what_it_might_before(project: Project) -> None:
    iam = project.aws.client("iam")
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}}
    role = iam.create_role(RoleName="modelyard-visitor", AssumeRolePolicyDocument=_policy(trust))["Role"]["Arn"]
    reads = {"Effect": "Allow", "Action": "sagemaker:ListEndpoints", "Resource": "*"}
    iam.put_role_policy(RoleName="modelyard-visitor", PolicyName="reads", PolicyDocument=_policy(reads))
    given = project.aws.client("sts").assume_role(RoleArn=role, RoleSessionName="before")["Credentials"]
    visitor = project.aws.client(
        "sagemaker",
        credentials={
            "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
            "AWS_SESSION_TOKEN": given["SessionToken"],
        },
    )
    project.aws.restart(kill=True)

    visitor.list_endpoints()
    with pytest.raises(visitor.exceptions.ClientError, match="not authorized to perform: sagemaker:ListModels"):
        visitor.list_models()
