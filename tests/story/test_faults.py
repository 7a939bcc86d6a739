"""The installed platform under faults, end to end: real endpoints and functions; calls fail, functions are killed.

All of the matrix, in memory: tests/lifecycle_lambdas/test_fault_matrix.py. botocore tries a call four times, so what is
to reach the function is made to fail as often.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from lifecycle_lambdas import approvals, events
from lifecycle_lambdas.events import LookAt
from lifecycle_lambdas.records import Entry
from lifecycle_lambdas.settings import Settings
from local_aws import LocalAWS
from local_aws.request_checks import service_model
from tests import proof
from tests.lifecycle_lambdas.fault_matrix import CANARIED, SCALING
from tests.lifecycle_lambdas.simulated_platform import Platform
from tests.story.platform import CLOCK_SPEED, REAL_TIME, Project, install
from tests.story.traffic import Traffic

CANARY = REAL_TIME + "rollout: {type: canary, size: 50%, bake_minutes: 5}\nalarms: {error_share: 0.05}\n"
SCALED = REAL_TIME + "scaling: {min: 2, max: 3, target: {invocations_per_instance: 100000}}\n"
SERVERLESS = "kind: serverless\nmemory_mb: 2048\nmax_concurrency: 5\nreplace: true\n"
TRIES = 4
# What a killed function held is free after half a minute of this machine's (converge.LEASE_SECONDS).
LONG = 150.0


@pytest.fixture(scope="module")
def platform() -> Iterator[LocalAWS]:
    with LocalAWS(clock_speed=CLOCK_SPEED) as aws:
        install(aws)
        yield aws


@pytest.fixture
def project(platform: LocalAWS) -> Iterator[Project]:
    yield Project.create(platform)
    platform.configure("faults", {"rules": []})


def rule(service: str, operation: str, kind: str, when: str = "before", **more: Any) -> dict[str, Any]:
    return {
        "service": service,
        "operation": operation,
        "caller": "modelyard-deploy",
        "kind": kind,
        "when": when,
        **more,
    }


FAILING = [
    rule("sagemaker", "UpdateEndpoint", "drop", "after"),
    rule("sagemaker", "UpdateEndpoint", "throttle", times=TRIES),
    rule("sagemaker", "UpdateEndpoint", "error", "after", times=TRIES),
    rule("sagemaker", "UpdateEndpoint", "kill"),
    rule("sagemaker", "UpdateEndpoint", "kill", "after"),
    rule("sagemaker", "CreateModel", "error", times=TRIES),
    rule("sagemaker", "CreateEndpointConfig", "kill", "after"),
    rule("dynamodb", "TransactWriteItems", "drop", "after"),
    rule("dynamodb", "TransactWriteItems", "throttle", times=12),
    rule("dynamodb", "PutItem", "kill"),
    rule("dynamodb", "UpdateItem", "kill", "after"),
    rule("s3", "GetObject", "throttle", times=TRIES),
    rule("sns", "Publish", "error", times=TRIES),
    rule("sagemaker", "DeleteModel", "kill", "after"),
]


def called(fault: dict[str, Any]) -> str:
    return f"{fault['operation']} {fault['kind']} {fault['when']}"


@pytest.mark.slow  # a sample of the simulated matrix (tests/lifecycle_lambdas/test_fault_matrix.py) is not
@pytest.mark.parametrize("fault", FAILING, ids=called)
def test_a_call_that_fails_costs_no_request_and_the_version_serves(project: Project, fault: dict[str, Any]) -> None:
    ledger = project.ledger
    first, second, third = (project.register(name, CANARY) for name in ("first", "second", "third"))
    project.approve(first)
    project.deployed(first)
    project.serves("first")
    project.settled(LONG)
    if fault["operation"] == "DeleteModel":  # the third deployment is the first one that leaves something to sweep
        project.approve(second)
        serve(project, second)
        project.settled(LONG)
        second, third = third, second

    project.aws.configure("faults", {"rules": [fault]})
    with Traffic(project.runtime, project.endpoint, "1\n") as traffic:
        project.approve(second)
        serve(project, second)
        project.settled(LONG)

    (found,) = project.aws.settings("faults")["rules"]
    assert found["hit"] >= 1
    assert traffic.failed == []
    assert [one.status for one in ledger.deployments(project.endpoint)][:1] == ["succeeded"]
    assert "failed" not in [one.status for one in ledger.deployments(project.endpoint)]
    assert project.package(second)["ModelApprovalStatus"] == "Approved"
    nothing_is_orphaned(project)
    name = f"{fault['operation']}_{fault['kind']}_{fault['when']}"
    proof.keep(
        f"fault_matrix_end_to_end_{name}", {"cases through local_aws": 1, "requests meanwhile": len(traffic.answered)}
    )


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_function_killed_at_the_first_creation_makes_one_endpoint(project: Project, when: str) -> None:
    ledger = project.ledger
    first = project.register("first")
    project.aws.configure("faults", {"rules": [rule("sagemaker", "CreateEndpoint", "kill", when)]})
    project.approve(first)
    serve(project, first)
    project.settled(LONG)
    assert project.aws.settings("faults")["rules"][0]["hit"] == 1
    assert [one.status for one in ledger.deployments(project.endpoint)] == ["succeeded"]
    nothing_is_orphaned(project)


def served(project: Project) -> str | None:
    """The ARN of the version that answers; None while none does, or while an update is under way."""
    endpoint = project.describe()
    if endpoint is None or endpoint["EndpointStatus"] != "InService":
        return None
    model = project.sagemaker.describe_model(ModelName=endpoint["EndpointConfigName"])
    return str(model["Containers"][0]["ModelPackageName"])


def serve(project: Project, version: str) -> None:
    """Waits until the version answers."""
    project.until(lambda: served(project) == version, f"{version} to serve", lambda: str(project.describe()), LONG)


def nothing_is_orphaned(project: Project) -> None:
    """What serves and the way back, and no alarm of a deployment."""
    found = project.resources()
    assert found["models"] == found["configs"]
    assert len(found["models"]) <= 2
    assert not [name for name in found["alarms"] if "rollback" in name or "abort" in name]


# --- the simulated AWS, by which the matrix is driven

# What the controller asks for in nearly every look, and in a deployment with all that there is to make.
AT_LEAST = {
    "CreateEndpoint", "CreateEndpointConfig", "CreateModel", "DescribeAlarms", "DescribeEndpoint", "DescribeModel",
    "DescribeEndpointConfig", "DescribeModelPackage", "DescribeScalableTargets", "DescribeScalingPolicies", "GetItem",
    "GetDashboard", "GetObject", "GetSchedule", "ListEndpointConfigs", "ListModels", "ListTags", "ListTagsForResource",
    "PutScalingPolicy", "Query", "TransactWriteItems", "UpdateEndpoint", "UpdateItem",
}  # fmt: skip


def members(shape: Any, value: Any, path: str = "") -> Iterator[str]:
    """The paths of the members that an answer has, of those that the service's model knows."""
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if value.get(name) is not None:
                yield f"{path}.{name}"
                yield from members(member, value[name], f"{path}.{name}")
    elif shape.type_name in ("list", "map"):
        inside = shape.member if shape.type_name == "list" else shape.value
        for one in value if shape.type_name == "list" else value.values():
            yield from members(inside, one, f"{path}[]")


@pytest.mark.slow
def test_the_simulated_aws_answers_with_members_and_errors_that_local_aws_answers_with(project: Project) -> None:
    """Whatever the matrix's AWS answers, local_aws has answered of the same operation in the same deployments."""
    simulated, local = Answers(), Answers()
    platform = Platform()
    platform.aws.seen = simulated.add
    with platform.installed():
        first, second = (platform.register({**CANARIED, "scaling": {**SCALING, "min": 2}}) for _ in range(2))
        for decide, version in ((platform.approve, first), (platform.approve, second), (platform.reject, second)):
            decide(version)
            platform.run()

    watched = CANARY + "dashboard: true\nscaling: {min: 2, max: 3, target: {invocations_per_instance: 100000}}\n"
    real_first, real_second = (project.register(name, watched) for name in ("first", "second"))
    project.aws.configure("recorder", {"on": True})
    for act, version, serving in (
        (project.approve, real_first, real_first),
        (project.approve, real_second, real_second),
        (project.reject, real_second, real_first),
    ):
        act(version)
        serve(project, serving)
        project.settled(LONG)
    for call in project.aws.settings("recorder")["calls"]:
        if "modelyard-deploy" in call["caller"] and call["answer"] is not None:
            local.add(call["service"], call["operation"], call["answer"])
    project.aws.configure("recorder", {"on": False})

    for answers in (local, simulated):
        assert {operation for _, operation in answers.members.keys() | answers.codes.keys()} >= AT_LEAST
    both = simulated.members.keys() & local.members.keys()
    more = {call: simulated.members[call] - local.members[call] for call in both}
    assert {call: sorted(found) for call, found in more.items() if found} == {}
    codes = {call: simulated.codes[call] - local.codes[call] for call in simulated.codes.keys() & local.codes.keys()}
    assert {call: found for call, found in codes.items() if found} == {}


class Answers:
    """What was answered, by service and operation: the members, and the codes of errors."""

    def __init__(self) -> None:
        self.members: dict[tuple[str, str], set[str]] = {}
        self.codes: dict[tuple[str, str], set[str]] = {}

    def add(self, service: str, operation: str, answer: dict[str, Any]) -> None:
        key = (service, operation)
        if "Error" in answer:
            self.codes.setdefault(key, set()).add(answer["Error"]["Code"])
            return
        found = self.members.setdefault(key, set())
        shape = service_model(service).operation_model(operation).output_shape
        if shape is not None:
            found |= set(members(shape, {name: value for name, value in answer.items() if name != "Body"}))


# --- random histories

HISTORIES, STEPS = 20, 8


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(HISTORIES))
def test_whatever_happened_what_serves_is_what_the_ledger_says(project: Project, seed: int) -> None:
    """test_interleavings.py's histories with real endpoints: decisions at any time, and functions killed."""
    dice, ledger = random.Random(seed), project.ledger
    queue = Settings.from_parameters(project.aws.client("ssm")).queue_url
    kinds = [dice.choice([REAL_TIME, CANARY, SCALED, SERVERLESS]) for _ in range(3)]
    versions = [project.register(f"v{index}", kind, loads=dice.random() < 0.9) for index, kind in enumerate(kinds)]
    project.approve(versions[0])
    done = [f"seed {seed}", *(kind.split("\n")[-2] for kind in kinds)]

    def command(kind: Any, version: str | None) -> None:
        at = datetime.now(UTC).replace(microsecond=0)
        if ledger.state(project.endpoint) is None:
            return
        ledger.append(Entry(project.endpoint, kind, at, version, "ada", "tested", "command"))
        project.aws.client("sqs").send_message(QueueUrl=queue, MessageBody=events.message(LookAt(project.endpoint)))

    acts: dict[str, Callable[[str], Any]] = {
        "approve": project.approve,
        "reject": project.reject,
        "go-back": lambda version: command("go-back", version),
        "park": lambda version: command("park", None),
        "kill": lambda version: project.aws.configure("processes", {"kill": "modelyard-deploy"}),
    }
    for _ in range(STEPS):
        what, version = (
            dice.choice(["approve"] * 5 + ["reject", "reject", "go-back", "park", "kill"]),
            dice.choice(versions),
        )
        running = {one["name"] for one in project.aws.settings("processes")["processes"]}
        if what == "kill" and "modelyard-deploy" not in running:
            continue
        done.append(f"{what} {version[-1]}")
        acts[what](version)
        time.sleep(dice.choice([0.0, 0.3, 1.5]))  # what is decided may fall anywhere in what is under way

    def wanted() -> str | None:
        entry = approvals.desired(
            ledger.entries(project.endpoint),
            lambda arn: str(project.package(arn)["ModelApprovalStatus"]),
            datetime.now(UTC),
        )
        return None if entry is None else entry.package_arn

    def unheard() -> list[str]:
        """Versions that were approved, and of which the ledger does not know yet: their events are on their way."""
        decided = {entry.package_arn for entry in ledger.entries(project.endpoint)}
        approved = [one for one in versions if project.package(one)["ModelApprovalStatus"] == "Approved"]
        return [version for version in approved if version not in decided]

    def is_so() -> bool:
        state = ledger.state(project.endpoint)
        quiet = state is not None and state.status == "settled" and not unheard()
        return quiet and served(project) == wanted() and (wanted() is not None or project.describe() is None)

    project.until(
        is_so, "what should serve to serve", lambda: f"{done} {unheard()} {wanted()} {project.describe()}", LONG
    )
    nothing_is_orphaned(project)
    assert "under-way" not in [one.status for one in ledger.deployments(project.endpoint)], done
    proof.keep(f"interleavings_end_to_end_{seed}", {"histories through local_aws": 1, "steps through local_aws": STEPS})
