"""Going back by alarm: from the first request that fails to SageMaker being asked, and until the old one serves."""

from __future__ import annotations

import time
from typing import cast

from lifecycle_lambdas.ledger import Ledger
from lifecycle_lambdas.settings import Settings
from local_aws import LocalAWS
from tests.bench.figures import Figure
from tests.story.platform import PROGRAM, REAL_TIME, Project, install
from tests.story.traffic import Traffic

ROUNDS = 3
# A minute of AWS's takes six seconds: the functions' own time counts as little as it does there.
SPEED = 10.0
PERIOD = 60 / SPEED  # seconds
WATCHED = REAL_TIME + "alarms: {error_share: 0.05}\n"
GOOD, BAD = "1\n", "-1\n"
# It fails at what is asked, and serves well until then.
FAILS_AT_BAD = PROGRAM.replace("{fails}", "'-' in str(body)")


def going_back() -> list[Figure]:
    asked, served = [], []
    with LocalAWS(clock_speed=SPEED) as aws:
        install(aws)
        settings = Settings.from_parameters(aws.client("ssm"))
        ledger = Ledger(aws.client("dynamodb"), settings.ledger_table)
        for _ in range(ROUNDS):
            begins, goes_back, serves = _one(aws, ledger)
            asked.append((goes_back - begins) / PERIOD)
            served.append(serves - goes_back)
    return [
        Figure(
            "first failed request to going back being asked of SageMaker, alarms of 1 period", asked, "x", at_most=2
        ),
        Figure("from there to the version before serving alone, in local_aws", served, "s"),
    ]


def _one(aws: LocalAWS, ledger: Ledger) -> tuple[float, float, float]:
    """When requests began to fail, when SageMaker was asked, and when the version before served: seconds since 1970."""
    project = Project.create(aws, "prod")
    first, second = project.register("first", WATCHED), project.register("second", WATCHED, program=FAILS_AT_BAD)
    for version in (first, second):
        project.approve(version)
        project.deployed(version)
    with Traffic(project.runtime, project.endpoint, GOOD):
        time.sleep(PERIOD)
    begins = time.time()
    with Traffic(project.runtime, project.endpoint, BAD):
        project.until(lambda: len(list(ledger.deployments(project.endpoint))) == 3, "it to go back", lambda: "", 300)
        project.until(lambda: _asked(ledger, project) is not None, "SageMaker to be asked", lambda: "", 300)
        project.until(lambda: _is_back(project), "the version before to serve", lambda: str(project.describe()), 300)
    serves = time.time()
    return begins, cast("float", _asked(ledger, project)), serves


def _asked(ledger: Ledger, project: Project) -> float | None:
    """When SageMaker was asked for the third deployment."""
    newest = next(iter(ledger.deployments(project.endpoint)))
    return None if newest.requested is None else newest.requested.timestamp()


def _is_back(project: Project) -> bool:
    endpoint = project.describe() or {}
    return (endpoint.get("EndpointStatus"), endpoint.get("EndpointConfigName")) == (
        "InService",
        f"{project.endpoint}-3",
    )
