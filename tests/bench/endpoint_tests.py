"""Endpoint tests: how soon after a deployment's end 100 cases are asked, and how long they take."""

from __future__ import annotations

from datetime import timedelta

from lifecycle_lambdas.ledger import Ledger
from lifecycle_lambdas.settings import Settings
from local_aws import LocalAWS
from tests.bench.figures import Figure
from tests.story.platform import Project, install
from tests.story.test_endpoint_tests import AS_EVALUATED, RANGE, register, stamped

CASES = 100
ROUNDS = 5


def endpoint_tests() -> list[Figure]:
    """Each deployment when the one before is over; the first, with a cold function, is not counted."""
    cases = [AS_EVALUATED, *(RANGE | {"name": f"one number, {number}"} for number in range(1, CASES))]
    started, took = [], []
    with LocalAWS(clock_speed=60) as aws:
        install(aws)
        settings = Settings.from_parameters(aws.client("ssm"))
        ledger = Ledger(aws.client("dynamodb"), settings.ledger_table)
        project = Project.create(aws)
        for _ in range(ROUNDS + 1):
            version = register(project, 2.0, cases=cases)
            project.approve(version)
            verdict = stamped(project, version)
            run = next(ledger.test_runs(project.endpoint, limit=1))
            deployment = ledger.deployment(project.endpoint, run.number)
            if verdict != "passed" or deployment is None or deployment.ended is None:
                raise RuntimeError(f"not measured: {run}")
            if run.ended is None or run.seconds is None or run.cases != CASES:
                raise RuntimeError(f"not measured: {run}")
            asked = run.ended - timedelta(seconds=run.seconds)
            started.append((asked - deployment.ended).total_seconds())
            took.append(run.seconds)
    return [
        Figure(f"a deployment's end to the first of {CASES} cases, warm", started[1:], "s", at_most=1),
        Figure(f"{CASES} cases against an endpoint of two instances", took[1:], "s", at_most=5),
    ]
