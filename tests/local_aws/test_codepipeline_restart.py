"""Executions that are under way when the server is killed: the next one goes on with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from local_aws import LocalAWS
from tests.local_aws.pipeline_stand import Stand, approval, build, make_stand, source, stage
from tests.local_aws.waiting import wait_for

ENDLESS = """
version: 0.2
phases:
  build:
    commands: [tail -f /dev/null]
"""


@dataclass(frozen=True)
class Interrupted:
    """
    Args:
        asking: a pipeline with an open approval, and a second execution before it.
        token: of that approval.
        building: a pipeline with a build under way.
    """

    stand: Stand
    asking: str
    token: str
    building: str


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interrupted]:
    with LocalAWS(state=tmp_path_factory.mktemp("state"), builds=True) as aws:
        stand = make_stand(aws)
        asking = stand.make(stage(approval()))
        token = stand.asked(asking)
        stand.start(asking)
        wait_for(lambda: "inboundExecution" in stand.state(asking, "Approve"))
        stand.commit("endless", **{"buildspec.yml": ENDLESS})
        building = stand.make(stage(build("Check", stand.name)), first=stage(source(stand.name, "endless")))
        wait_for(lambda: "externalExecutionId" in stand.action(building, "Check"))
        aws.restart(kill=True)
        yield Interrupted(stand, asking, token, building)


def test_an_approval_is_still_open_and_what_waited_still_waits(interrupted):
    stand, name = interrupted.stand, interrupted.asking
    second, first = [each["pipelineExecutionId"] for each in stand.history(name)]

    stand.decide(name, interrupted.token)

    assert stand.ended(name, first) == "Succeeded"
    assert stand.asked(name) != interrupted.token
    assert stand.state(name, "Approve")["latestExecution"]["pipelineExecutionId"] == second


def test_a_build_that_ended_with_the_server_fails_its_action(interrupted):
    stand, name = interrupted.stand, interrupted.building

    assert stand.ended(name) == "Failed"
    assert stand.action(name, "Check")["errorDetails"]["message"] == "Build terminated with state: FAULT"
