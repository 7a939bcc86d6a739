"""Bringing an endpoint to what the ledger says: every rule, refusal and kill, with AWS and the ledger in memory."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import yaml
from botocore.exceptions import ClientError

from lifecycle_lambdas import converge
from lifecycle_lambdas.clients import Clients
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.converge import Outcome
from lifecycle_lambdas.ledger import Lease
from lifecycle_lambdas.records import Deployment, Entry, State
from lifecycle_lambdas.settings import Settings
from tests.lifecycle_lambdas.memory_ledger import MemoryLedger
from tests.lifecycle_lambdas.simulated_aws import SimulatedAWS, arn, refusal

STAGE_FILE: dict[str, Any] = {
    "kind": "real_time",
    "instance_type": "ml.m5.large",
    "instance_count": 1,
    "dashboard": False,
}
CANARY = {"type": "canary", "size": "50%", "bake_minutes": 10, "finish_bake_minutes": 5}
SCALING = {"min": 1, "max": 4, "target": {"invocations_per_instance": 500}}
ALARM = {"error_share": 0.05}
BATCH = {
    "kind": "batch",
    "instance_type": "ml.m5.large",
    "schedule": "rate(1 day)",
    "input": "s3://data/new/",
    "output": "s3://data/answers/",
}
# What any way takes at most: looks, each after AWS ended what it was at.
MOST_LOOKS = 20


TOLD = {
    "version 1 serves",
    "version 2 serves",
    "version 3 could not be deployed",
    "the deployment of version 2 was superseded",
    "nothing serves any more",
}


class Killed(BaseException):
    """The function's process ends here."""


@dataclass
class Stage:
    """The project's stage dev: its AWS, its ledger, and what people do there."""

    aws: SimulatedAWS
    ledger: MemoryLedger
    context: Context
    endpoint: str
    clock: int = 0
    versions: int = 0

    def register(self, **fields: Any) -> str:
        """A version to be served by this stage file; its ARN."""
        return self.register_text(yaml.safe_dump(fields if "kind" in fields else {**STAGE_FILE, **fields}))

    def register_text(self, stage_file: str, sha256: str | None = None) -> str:
        self.versions += 1
        package, prefix = arn("sagemaker", f"model-package/{self.endpoint}/{self.versions}"), f"x/{self.versions}/"
        self.aws.objects["artifacts", f"{prefix}dev.yaml"] = stage_file.encode()
        self.aws.packages[package] = {
            "ModelPackageArn": package,
            "ModelPackageVersion": self.versions,
            "ModelApprovalStatus": "PendingManualApproval",
            "CreationTime": datetime.now(UTC),
            "CustomerMetadataProperties": {
                "deployment.prefix": f"s3://artifacts/{prefix}",
                "deployment.sha256.dev": sha256 or hashlib.sha256(stage_file.encode()).hexdigest(),
            },
        }
        return package

    def approve(self, package: str) -> Entry:
        self.aws.update_model_package(package, ModelApprovalStatus="Approved")
        return self.append("approve", package)

    def reject(self, package: str) -> Entry:
        self.aws.update_model_package(package, ModelApprovalStatus="Rejected")
        return self.append("reject", package)

    def append(self, kind: Any, package: str | None, until: datetime | None = None) -> Entry:
        """An entry of the ledger, a second after the one before."""
        self.clock += 1
        at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=self.clock)
        entry = Entry(self.endpoint, kind, at, package, "arn:aws:iam::123456789012:user/ada", "tested", "event", until)
        assert self.ledger.append(entry)
        return entry

    def look(self) -> Outcome:
        return converge.look(self.endpoint, replace(self.context, deadline=time.monotonic() + 60))

    def settle(self) -> Outcome:
        """Look until it is settled, each time when AWS has ended one thing that it was at."""
        for _ in range(MOST_LOOKS):
            outcome = self.look()
            if outcome.settled:
                return outcome
            self.aws.settle()
        raise AssertionError(f"not settled: {outcome}")

    def deploy(self, *packages: str) -> None:
        for package in packages:
            self.approve(package)
            self.settle()

    @property
    def serving(self) -> str | None:
        """What answers: the endpoint's config without the endpoint's name; None: nothing."""
        endpoint = self.aws.endpoints.get(self.endpoint)
        if endpoint is None or endpoint["EndpointStatus"] != "InService":
            return None
        return self.short(endpoint["EndpointConfigName"])

    @property
    def serves(self) -> str:
        """The ARN of the version that answers."""
        config = self.aws.configs[self.aws.endpoints[self.endpoint]["EndpointConfigName"]]
        return str(config["ProductionVariants"][0]["package"])

    @property
    def deployments(self) -> list[Deployment]:
        """The newest first."""
        return list(self.ledger.deployments(self.endpoint))

    @property
    def statuses(self) -> list[str]:
        return [deployment.status for deployment in self.deployments]

    @property
    def there(self) -> set[str]:
        """What there is of models, endpoint configs and alarms, by name without the endpoint's."""
        found = [f"{name} config" for name in self.aws.configs]
        return {self.short(name) for name in [*found, *self.aws.models, *self.aws.alarms]}

    def short(self, name: str) -> str:
        return name.removeprefix(f"{self.endpoint}-")

    def told(self) -> list[str]:
        """The subjects of the messages since it was asked last, without the endpoint's name."""
        subjects = [message["Subject"].removeprefix(f"{self.endpoint}: ") for message in self.aws.published]
        self.aws.published.clear()
        return subjects

    def kill_at(self, operation: str, when: str) -> None:
        """The next such call kills the look; those after it do not."""

        def hook(called: str, request: Any, at: str) -> None:
            if (called, at) == (operation, when):
                self.aws.hook = lambda operation, request, when: None
                raise Killed

        self.aws.hook = hook


@pytest.fixture
def stage() -> Stage:
    return make_stage()


def make_stage() -> Stage:
    simulated, ledger, project = SimulatedAWS(), MemoryLedger(), "churn"
    settings = Settings(
        ledger_table="modelyard",
        queue_url="https://sqs.us-east-1.amazonaws.com/123456789012/modelyard",
        topic_arn=arn("sns", "modelyard"),
        model_role_path="/modelyard/models/",
        default_model_role="default",
        batch_function_arn=arn("lambda", "function:modelyard-batch"),
        schedule_role_arn="arn:aws:iam::123456789012:role/modelyard-schedules",
        schedule_group="modelyard",
    )
    context = Context(settings, cast("Clients", simulated), ledger, "test", 0.0)
    endpoint = f"{project}-dev"
    tags = {"modelyard:project": project, "modelyard:stage": "dev", "sagemaker:project-id": "p-1"}
    simulated.tags[arn("sagemaker", f"model-package-group/{endpoint}")] = [
        {"Key": key, "Value": value} for key, value in tags.items()
    ]
    ledger.put_state_if_new(State(endpoint, project, "dev", endpoint, "settled"))
    return Stage(simulated, ledger, context, endpoint)


def test_an_approval_deploys_exactly_that_version(stage: Stage) -> None:
    first, second = stage.register(), stage.register()
    stage.approve(first)

    outcome = stage.settle()

    assert outcome == Outcome(stage.endpoint, settled=True, summary="version 1 serves (deployment 1)")
    assert stage.serves == first
    assert [(attempt.operation, attempt.outcome) for attempt in stage.deployments[0].attempts] == [
        ("create_model", "done"),
        ("create_endpoint_config", "done"),
        ("create_endpoint", "done"),
    ]
    stamps = stage.aws.packages[first]["CustomerMetadataProperties"]
    assert (stamps["deployment.number"], stamps["deployment.status"]) == ("1", "succeeded")
    assert "deployment.number" not in stage.aws.packages[second]["CustomerMetadataProperties"]
    assert stage.told() == ["version 1 serves"]


def test_what_serves_already_is_not_deployed_again(stage: Stage) -> None:
    first = stage.register()
    stage.deploy(first)
    stage.approve(first)
    stage.aws.calls.clear()

    assert stage.look().settled
    assert stage.look().settled

    assert all(call.startswith(("Describe", "Get", "List")) for call in stage.aws.calls)
    assert len(stage.deployments) == 1


def test_the_next_version_replaces_the_first_and_what_nobody_needs_goes(stage: Stage) -> None:
    stage.deploy(*(stage.register(alarms=ALARM) for _ in range(3)))

    assert stage.serving == "3"
    assert stage.there == {"2", "2 config", "3", "3 config", "errors"}
    assert [deployment.previous for deployment in stage.deployments] == [2, 1, None]


def test_what_others_have_of_a_similar_name_is_not_swept(stage: Stage) -> None:
    stage.deploy(stage.register())
    foreign = [{"Key": "modelyard:project", "Value": "another"}, {"Key": "modelyard:stage", "Value": "dev"}]
    container = [{"ModelPackageName": stage.serves}]
    for name, tags in (
        (f"{stage.endpoint}-99", foreign),
        (f"{stage.endpoint}-99", []),
        (f"{stage.endpoint}-b-dev-1", []),
    ):
        stage.aws.models.pop(name, None)
        stage.aws.create_model(name, container, tags)
        stage.deploy(stage.register())
        assert name in stage.aws.models


def test_rejecting_what_serves_brings_the_version_before_it_back(stage: Stage) -> None:
    first, second = stage.register(), stage.register()
    stage.deploy(first, second)

    stage.reject(second)
    stage.settle()

    assert stage.serves == first
    assert stage.serving == "3"
    # the rejected version is no way back
    assert stage.there == {"3", "3 config"}


def test_rejecting_the_only_version_takes_all_away(stage: Stage) -> None:
    first = stage.register(dashboard=True, alarms=ALARM, scaling=SCALING)
    stage.deploy(first)
    assert stage.there == {"1", "1 config", "errors"}
    assert stage.aws.targets
    assert stage.aws.dashboards
    stage.told()

    stage.reject(first)
    outcome = stage.settle()

    assert outcome.summary == "nothing serves any more"
    assert not stage.aws.endpoints
    assert not stage.there
    assert not stage.aws.targets
    assert not stage.aws.dashboards
    assert stage.told() == ["nothing serves any more"]
    assert stage.look().settled
    assert stage.told() == []


def test_going_back_keeps_type_count_and_scaling_of_what_serves(stage: Stage) -> None:
    first = stage.register(rollout={"type": "canary"}, instance_count=2)
    second = stage.register(instance_type="ml.m5.xlarge", instance_count=3, scaling=SCALING)
    stage.deploy(first, second)

    stage.reject(second)
    stage.settle()

    assert stage.serves == first
    (variant,) = stage.aws.configs[f"{stage.endpoint}-3"]["ProductionVariants"]
    assert (variant["InstanceType"], variant["InitialInstanceCount"]) == ("ml.m5.xlarge", 3)
    (target,) = stage.aws.targets.values()
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 4)


def test_going_back_keeps_the_count_that_somebody_set_by_hand(stage: Stage) -> None:
    first, second = stage.register(), stage.register()
    stage.deploy(first, second)
    stage.aws.endpoints[stage.endpoint]["ProductionVariants"][0]["DesiredInstanceCount"] = 5

    stage.reject(second)
    stage.settle()

    assert stage.aws.endpoints[stage.endpoint]["ProductionVariants"][0]["DesiredInstanceCount"] == 5


def test_the_next_version_brings_its_own_count_and_leaves_the_scaled_one(stage: Stage) -> None:
    stage.deploy(stage.register(), stage.register(instance_count=3))
    assert stage.aws.endpoints[stage.endpoint]["ProductionVariants"][0]["DesiredInstanceCount"] == 3

    stage.deploy(stage.register(instance_count=2, scaling=SCALING))
    stage.aws.endpoints[stage.endpoint]["ProductionVariants"][0]["DesiredInstanceCount"] = 4
    stage.deploy(stage.register(instance_count=2, scaling=SCALING))

    assert stage.aws.endpoints[stage.endpoint]["ProductionVariants"][0]["DesiredInstanceCount"] == 4


def test_another_instance_type_of_a_scaled_endpoint_is_deployed_and_scaled_again(stage: Stage) -> None:
    stage.deploy(stage.register(scaling=SCALING), stage.register(instance_type="ml.m5.xlarge", scaling=SCALING))

    assert [attempt.operation for attempt in stage.deployments[0].attempts] == [
        "create_model",
        "create_endpoint_config",
        "deregister_scalable_target",
        "update_endpoint",
        "register_scalable_target",
        "put_scaling_policy",
    ]


def test_a_failed_update_puts_the_scaling_of_what_serves_on_back(stage: Stage) -> None:
    first = stage.register(scaling=SCALING)
    broken = stage.register(instance_type="ml.m5.xlarge", scaling={**SCALING, "max": 3})
    stage.aws.broken.add(broken)

    stage.deploy(first, broken)

    assert stage.serves == first
    (target,) = stage.aws.targets.values()
    assert target["MaxCapacity"] == 4


def test_a_failed_deployment_rejects_its_version_with_what_happened_and_the_one_before_serves_on(stage: Stage) -> None:
    first, broken = stage.register(), stage.register()
    stage.aws.broken.add(broken)
    stage.deploy(first)
    stage.told()

    stage.deploy(broken)

    assert stage.serving == "1"
    package = stage.aws.packages[broken]
    assert package["ModelApprovalStatus"] == "Rejected"
    assert package["ApprovalDescription"] == (
        f"Deployment 2 to {stage.endpoint} failed: SageMaker rolled it back: the endpoint is InService on "
        f"{stage.endpoint}-1 again. An alarm was raised, or the container did not start."
    )
    assert package["CustomerMetadataProperties"]["deployment.status"] == "failed"
    assert stage.statuses == ["failed", "succeeded"]
    assert stage.there == {"1", "1 config"}
    assert stage.told() == ["version 2 could not be deployed"]


def test_a_first_version_that_fails_leaves_nothing_behind(stage: Stage) -> None:
    broken = stage.register()
    stage.aws.broken.add(broken)

    stage.deploy(broken)

    assert stage.aws.packages[broken]["ModelApprovalStatus"] == "Rejected"
    assert not stage.aws.endpoints
    assert not stage.there
    assert stage.told() == ["version 1 could not be deployed"]


def test_an_endpoint_that_failed_by_itself_is_made_anew(stage: Stage) -> None:
    first, second = stage.register(), stage.register()
    stage.deploy(first)
    stage.aws.endpoints[stage.endpoint]["EndpointStatus"] = "Failed"

    stage.deploy(second)

    assert stage.serves == second
    operations = [attempt.operation for attempt in stage.deployments[0].attempts]
    assert operations[0] == "delete_endpoint"


def test_a_version_approved_again_after_its_failure_is_tried_again(stage: Stage) -> None:
    first, broken = stage.register(), stage.register()
    stage.aws.broken.add(broken)
    stage.deploy(first, broken)
    stage.aws.broken.clear()

    stage.deploy(broken)

    assert stage.serves == broken
    assert stage.statuses == ["succeeded", "failed", "succeeded"]


@pytest.mark.parametrize(
    ("stage_file", "sha256", "reason"),
    [
        ("kind: real_time\n", None, "deployment/dev.yaml: instance_type: the field is missing"),
        ("kind: [", None, "deployment/dev.yaml: it is not readable YAML: line 1: while parsing"),
        (yaml.safe_dump(STAGE_FILE), "0" * 64, "is not the file that was registered"),
    ],
)
def test_a_stage_file_that_cannot_be_used_fails_the_deployment_before_anything_is_made(
    stage: Stage, stage_file: str, sha256: str | None, reason: str
) -> None:
    package = stage.register_text(stage_file, sha256=sha256)
    stage.approve(package)

    assert stage.look().settled

    assert stage.aws.packages[package]["ModelApprovalStatus"] == "Rejected"
    assert reason in stage.aws.packages[package]["ApprovalDescription"]
    assert not stage.there


def test_a_stage_file_that_is_gone_fails_the_deployment(stage: Stage) -> None:
    package = stage.register()
    stage.aws.objects.clear()
    stage.approve(package)

    assert stage.look().settled

    assert "is not there any more" in stage.aws.packages[package]["ApprovalDescription"]


def test_rejecting_during_a_canary_rolls_back_and_the_first_version_serves_on(stage: Stage) -> None:
    first, second = (stage.register(instance_count=2, rollout=CANARY, alarms=ALARM) for _ in range(2))
    stage.deploy(first)
    stage.approve(second)
    stage.look()
    assert stage.there == {"1", "1 config", "2", "2 config", "2-rollback-errors", "2-abort", "errors"}

    stage.reject(second)
    stage.look()
    assert stage.aws.alarms[f"{stage.endpoint}-2-abort"]["StateValue"] == "ALARM"
    stage.settle()

    assert stage.serving == "1"
    assert stage.statuses == ["superseded", "succeeded"]
    assert stage.there == {"1", "1 config", "errors"}
    # it is nobody's fault: its version carries no failure
    assert "deployment.status" not in stage.aws.packages[second]["CustomerMetadataProperties"]


def test_a_canary_that_is_superseded_is_rolled_back_and_the_newest_version_follows(stage: Stage) -> None:
    first, second, third = (stage.register(instance_count=2, rollout=CANARY) for _ in range(3))
    stage.deploy(first)
    stage.approve(second)
    stage.look()

    stage.deploy(third)

    assert stage.serves == third
    assert stage.statuses == ["succeeded", "superseded", "succeeded"]
    version = stage.aws.packages[second]
    stamps = {name: version["CustomerMetadataProperties"][f"deployment.{name}"] for name in ("number", "status")}
    assert (version["ModelApprovalStatus"], stamps) == ("Approved", {"number": "2", "status": "superseded"})


def test_a_version_that_may_not_be_stamped_does_not_keep_its_canary_from_being_aborted(stage: Stage) -> None:
    first, second = (stage.register(instance_count=2, rollout=CANARY) for _ in range(2))
    stage.deploy(first)
    stage.approve(second)
    stage.look()

    def refuse(operation: str, request: Any, when: str) -> None:
        if operation == "UpdateModelPackage" and request["ModelPackageArn"] == second:
            raise refusal(operation, "AccessDeniedException", "no identity-based policy allows it")

    stage.aws.hook = refuse
    stage.append("go-back", first)
    stage.settle()

    assert stage.serves == first
    assert stage.statuses == ["superseded", "succeeded"]


def test_all_at_once_is_waited_for_before_the_next_version_follows(stage: Stage) -> None:
    first, second, third = (stage.register() for _ in range(3))
    stage.deploy(first)
    stage.approve(second)
    stage.look()
    stage.approve(third)

    assert not stage.look().settled
    stage.aws.settle()
    assert stage.serving == "2"
    stage.settle()

    assert stage.serves == third


def test_approving_and_taking_it_back_while_all_moves_at_once_ends_on_what_is_approved(stage: Stage) -> None:
    first, second, third = (stage.register() for _ in range(3))
    stage.deploy(first)
    stage.approve(second)
    stage.look()
    stage.approve(third)
    stage.look()
    stage.reject(third)
    stage.look()
    stage.aws.settle()

    stage.settle()

    # the superseded deployment arrived after all, and counts
    assert stage.serving == "2"
    assert stage.serves == second


def test_an_alarm_fails_the_deployment_and_is_named_though_it_is_quiet_again(stage: Stage) -> None:
    first, second = (stage.register(instance_count=2, rollout=CANARY, alarms=ALARM) for _ in range(2))
    stage.deploy(first)
    stage.approve(second)
    stage.look()
    alarm = f"{stage.endpoint}-2-rollback-errors"
    stage.aws.set_alarm_state(alarm, "ALARM", "0.3 was greater than 0.05")
    stage.aws.settle()
    stage.look()
    stage.aws.set_alarm_state(alarm, "OK", "no data")

    stage.settle()

    description = stage.aws.packages[second]["ApprovalDescription"]
    assert f"alarms raised: {alarm} (0.3 was greater than 0.05)" in description
    assert stage.serving == "1"


def test_another_kind_needs_the_stage_files_permission_for_the_outage(stage: Stage) -> None:
    first, refused = stage.register(), stage.register(kind="serverless")
    allowed = stage.register(kind="serverless", replace=True)

    stage.deploy(first, refused)
    assert "set replace: true" in stage.aws.packages[refused]["ApprovalDescription"]
    assert stage.serves == first

    stage.deploy(allowed)
    assert stage.serves == allowed


def test_parking_takes_away_what_serves_until_its_time_is_over(stage: Stage) -> None:
    first = stage.register()
    stage.deploy(first)

    until = datetime.now(UTC) + timedelta(hours=1)
    stage.append("park", None, until)
    assert stage.settle().summary == "nothing serves any more"

    stage.context = replace(stage.context, now=lambda: until + timedelta(seconds=1))
    stage.settle()
    assert stage.serves == first


def test_going_back_by_the_command_deploys_the_older_version(stage: Stage) -> None:
    first, second = stage.register(), stage.register()
    stage.deploy(first, second)

    stage.append("go-back", first)
    stage.settle()

    assert stage.serves == first
    assert stage.aws.packages[second]["ModelApprovalStatus"] == "Approved"


def test_a_batch_stage_has_a_schedule_that_goes_with_its_version(stage: Stage) -> None:
    first, second = stage.register(**BATCH), stage.register(**BATCH)

    def scheduled() -> dict[str, Any]:
        return dict(json.loads(stage.aws.schedules[stage.endpoint]["Target"]["Input"]))

    stage.deploy(first)
    assert scheduled()["transform"]["ModelName"] == f"{stage.endpoint}-1"
    stage.deploy(second)
    assert scheduled()["package_arn"] == second

    stage.aws.calls.clear()
    assert stage.look().settled
    assert all(call.startswith(("Describe", "Get", "List")) for call in stage.aws.calls)

    stage.reject(second)
    stage.settle()
    assert scheduled()["package_arn"] == first
    assert stage.there == {"3"}

    stage.reject(first)
    stage.settle()
    assert not stage.aws.schedules
    assert not stage.there


def test_from_batch_to_an_endpoint_and_back(stage: Stage) -> None:
    stage.deploy(stage.register(**BATCH), stage.register())
    assert stage.serving == "2"
    assert not stage.aws.schedules

    stage.deploy(stage.register(**BATCH, replace=True))
    assert not stage.aws.endpoints
    assert stage.aws.schedules


def test_an_endpoint_that_somebody_deleted_is_made_anew(stage: Stage) -> None:
    stage.deploy(stage.register())
    stage.aws.endpoints.clear()

    stage.settle()

    assert stage.serving == "2"


def test_an_endpoint_that_somebody_updated_is_brought_back(stage: Stage) -> None:
    stage.deploy(stage.register())
    stage.aws.create_endpoint_config(
        "by-hand", [{**stage.aws.configs[f"{stage.endpoint}-1"]["ProductionVariants"][0]}], []
    )
    stage.aws.endpoints[stage.endpoint]["EndpointConfigName"] = "by-hand"

    stage.settle()

    assert stage.serving == "2"
    assert stage.statuses == ["succeeded", "succeeded"]


def test_an_endpoint_that_somebody_else_made_is_never_deleted(stage: Stage) -> None:
    package = stage.register_text("kind: real_time\n")
    stage.aws.models["m"] = {"Containers": [{"ModelPackageName": None}]}
    stage.aws.create_endpoint_config("by-hand", [{"VariantName": "v", "ModelName": "m", "InitialInstanceCount": 1}], [])
    stage.aws.create_endpoint(stage.endpoint, "by-hand", [])
    stage.aws.settle()

    stage.approve(package)
    stage.settle()

    assert stage.aws.endpoints[stage.endpoint]["EndpointConfigName"] == "by-hand"


def test_a_standing_alarm_that_somebody_changed_is_as_declared_again(stage: Stage) -> None:
    stage.deploy(stage.register(alarms=ALARM))
    alarm = stage.aws.alarms[f"{stage.endpoint}-errors"]
    alarm["Threshold"] = 0.9

    assert stage.look().settled

    assert stage.aws.alarms[f"{stage.endpoint}-errors"]["Threshold"] == 0.05
    assert len(stage.deployments) == 1


def test_while_another_one_has_the_lease_nothing_is_done(stage: Stage) -> None:
    stage.approve(stage.register())
    lease = stage.ledger.lease(stage.endpoint, "another", 60)
    assert lease is not None

    with lease:
        outcome = stage.look()

    assert outcome.busy
    assert stage.deployments == []


def test_whoever_finds_another_one_at_it_makes_that_one_look_once_more(stage: Stage) -> None:
    first, second = stage.register(), stage.register()
    stage.deploy(first)
    stage.approve(second)
    outcomes: list[Outcome] = []

    def reject_second(operation: str, request: Any, when: str) -> None:
        if (operation, when) == ("CreateModel", "before"):
            stage.aws.hook = lambda operation, request, when: None
            stage.reject(second)
            # many events at once, and not one of them comes again
            outcomes.extend(stage.look() for _ in range(20))

    stage.aws.hook = reject_second
    stage.aws.calls.clear()
    stage.look()

    assert all(outcome.busy for outcome in outcomes)
    # the second look: all moves at once, so it is waited for
    assert stage.statuses == ["superseded", "succeeded"]
    assert stage.aws.calls.count("DescribeEndpoint") == 2
    stage.settle()
    assert stage.serves == first


def test_news_that_no_entry_was_written_from_makes_it_look_once_more_too(stage: Stage) -> None:
    """Of an endpoint or an alarm, which may have changed after it was looked at."""
    stage.deploy(stage.register())
    stage.approve(stage.register())

    def endpoint_changed(operation: str, request: Any, when: str) -> None:
        stage.aws.hook = lambda operation, request, when: None
        assert stage.look().busy

    stage.aws.hook = endpoint_changed
    stage.aws.calls.clear()
    stage.look()

    assert stage.aws.calls.count("DescribeEndpoint") == 2


def test_the_schedule_of_what_is_under_way_finds_another_one_at_it_and_asks_for_nothing(stage: Stage) -> None:
    """Were looks slower than it comes, nobody would ever be done."""
    stage.deploy(stage.register())
    stage.approve(stage.register())

    def schedules(operation: str, request: Any, when: str) -> None:
        context = replace(stage.context, deadline=time.monotonic() + 60)
        assert converge.look(stage.endpoint, context, asking=False).busy

    stage.aws.hook = schedules
    stage.look()
    stage.aws.settle()

    assert stage.look().settled


def test_an_ask_between_the_last_step_and_the_end_is_not_lost(stage: Stage) -> None:
    first = stage.register()
    stage.deploy(first)
    stage.approve(first)
    settle = stage.ledger.set_status

    def rejected_meanwhile(*arguments: Any) -> bool:
        stage.ledger.set_status = settle  # type: ignore[method-assign]
        stage.reject(first)
        return settle(*arguments)

    stage.ledger.set_status = rejected_meanwhile  # type: ignore[method-assign,assignment]
    stage.look()

    assert stage.aws.endpoints[stage.endpoint]["EndpointStatus"] == "Deleting"


@pytest.mark.parametrize("seconds", [60, 9])
def test_an_entry_is_under_way_before_anybody_looks_and_until_it_was_looked_at(stage: Stage, seconds: float) -> None:
    stage.deploy(stage.register())
    lease = stage.ledger.lease(stage.endpoint, "killed", 60)
    assert lease is not None
    stage.approve(stage.register())
    assert stage.ledger.known[stage.endpoint].status == "under-way"
    assert stage.look().busy

    stage.ledger.leased.clear()  # it expires
    late = replace(stage.context, deadline=time.monotonic() + seconds)
    assert [state.endpoint for state in stage.ledger.known.values() if state.status == "under-way"] == [stage.endpoint]
    assert not converge.look(stage.endpoint, late).settled
    assert stage.settle().settled
    assert stage.ledger.known[stage.endpoint].status == "settled"


def test_whoever_lost_the_lease_stops(stage: Stage) -> None:
    stage.approve(stage.register())
    ledger = stage.ledger

    def take_over(operation: str, request: Any, when: str) -> None:
        if (operation, when) == ("CreateModel", "after"):
            ledger.fences[stage.endpoint] += 1

    stage.aws.hook = take_over

    assert stage.look().busy
    assert "CreateEndpointConfig" not in stage.aws.calls


def test_an_endpoint_that_the_ledger_does_not_know_is_left_alone(stage: Stage) -> None:
    outcome = converge.look("nobody-dev", replace(stage.context, deadline=time.monotonic() + 60))

    assert outcome == Outcome("nobody-dev", settled=True, summary="the ledger does not know it")


def test_a_fault_that_is_not_the_versions_rejects_nothing_and_is_told_once(stage: Stage) -> None:
    first = stage.register()
    stage.aws.missing.add("CreateModel")
    stage.approve(first)

    outcomes = [stage.look(), stage.look()]

    assert not any(outcome.settled for outcome in outcomes)
    assert "not authorized to perform CreateModel" in outcomes[0].summary
    assert stage.told() == ["needs somebody"]
    stage.aws.missing.clear()
    stage.settle()
    assert stage.serves == first


def test_a_quota_is_told_once_whatever_is_used_of_it_now_and_another_reason_again(stage: Stage) -> None:
    stage.approve(stage.register())
    used = itertools.count()

    def refuse(operation: str, request: Any, when: str) -> None:
        if operation == "CreateEndpoint":
            said = f"The limit 'ml.m5.large' is 2 Instances, with current utilization of {next(used)} Instances."
            raise refusal(operation, "ResourceLimitExceeded", said)

    stage.aws.hook = refuse
    for _ in range(3):
        stage.look()
    assert stage.told() == ["needs somebody"]
    stage.aws.missing.add("CreateEndpoint")
    for _ in range(3):
        stage.look()
    assert stage.told() == ["needs somebody"]


def test_a_long_look_keeps_its_lease(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.deploy(stage.register(), stage.register())
    stage.approve(stage.register())
    monkeypatch.setattr(converge, "RENEW_AFTER", 0.0)
    renewed: list[int] = []
    real = stage.ledger.set_lease_end

    def noted(lease: Lease, until: float) -> None:
        renewed.append(len(stage.aws.calls)) if until else None
        real(lease, until)

    monkeypatch.setattr(stage.ledger, "set_lease_end", noted)
    stage.settle()

    changes = [
        index
        for index, call in enumerate(stage.aws.calls)
        if call.startswith(("Create", "Update", "Delete")) and call != "UpdateModelPackage"
    ]
    calls_since = [index - max((at for at in renewed if at <= index), default=-1) for index in changes[-5:]]
    assert calls_since == [0] * 5


@pytest.mark.parametrize("operation", ["GetObject", "DescribeEndpoint", "ListTags", "UpdateModelPackage"])
def test_whatever_the_controller_may_not_do_is_told_once_and_goes_on_by_itself(stage: Stage, operation: str) -> None:
    stage.aws.missing.add(operation)
    first = stage.register()
    stage.aws.packages[first]["ModelApprovalStatus"] = "Approved"
    stage.append("approve", first)

    for _ in range(3):
        assert not stage.look().settled
        stage.aws.settle()

    assert stage.told() == ["needs somebody"]
    assert stage.ledger.known[stage.endpoint].status == "under-way"
    stage.aws.missing.clear()
    stage.settle()
    assert stage.serves == first
    assert stage.told() == ["version 1 serves"]


def test_a_stage_file_that_may_not_be_read_says_where_it_is_and_what_to_do(stage: Stage) -> None:
    stage.aws.missing.add("GetObject")
    stage.approve(stage.register())

    assert stage.look().summary.startswith("s3://artifacts/x/1/dev.yaml may not be read (AccessDenied")
    assert "ArtifactBuckets" in stage.aws.published[0]["Message"]
    assert stage.deployments == []


@pytest.mark.parametrize("operation", ["DeleteModel", "DeleteEndpointConfig", "DeleteAlarms"])
def test_what_cannot_be_swept_is_told_once_and_serves_all_the_same(stage: Stage, operation: str) -> None:
    first, second, third = (stage.register(alarms=ALARM) for _ in range(3))
    stage.deploy(first, second)
    stage.aws.missing.add(operation)
    stage.approve(third)
    stage.told()
    for _ in range(4):
        assert not stage.look().settled
        stage.aws.settle()

    assert stage.serves == third
    assert sorted(stage.told()) == ["needs somebody", "version 3 serves"]
    stage.aws.missing.clear()
    stage.settle()
    assert stage.there == {"2", "2 config", "3", "3 config", "errors"}


@pytest.mark.parametrize(
    "message",
    [
        "Could not assume role x.",
        'Could not access model data at s3://artifacts/model.tar.gz. Please ensure that the role "x" exists and that '
        'its trust relationship policy allows the action "sts:AssumeRole" for the service principal '
        '"sagemaker.amazonaws.com".',
    ],
)
def test_a_role_that_is_not_right_is_not_the_versions_fault(stage: Stage, message: str) -> None:
    first = stage.register()
    stage.approve(first)

    def refuse(operation: str, request: Any, when: str) -> None:
        if operation == "CreateModel":
            raise refusal(operation, "ValidationException", message)

    stage.aws.hook = refuse
    assert message in stage.look().summary
    assert stage.aws.packages[first]["ModelApprovalStatus"] == "Approved"
    assert "Whoever administers the platform: give the role" in stage.aws.published[0]["Message"]


def test_too_many_calls_are_nobodys_fault_and_the_look_comes_again(stage: Stage) -> None:
    first = stage.register()
    stage.approve(first)

    def refuse(operation: str, request: Any, when: str) -> None:
        stage.aws.hook = lambda operation, request, when: None
        raise refusal(operation, "ThrottlingException", "Rate exceeded")

    stage.aws.hook = refuse
    with pytest.raises(ClientError, match="Rate exceeded"):
        stage.look()
    assert stage.told() == []
    stage.settle()

    assert stage.serves == first
    assert [one.outcome for one in stage.deployments[0].attempts][:2] == ["not known: the look ended with it", "done"]


def test_what_is_refused_for_days_does_not_outgrow_the_ledgers_item(stage: Stage) -> None:
    stage.aws.missing.add("CreateEndpointConfig")
    stage.approve(stage.register())

    for _ in range(150):
        stage.look()

    attempts = stage.deployments[0].attempts
    assert len(attempts) == converge.MOST_ATTEMPTS
    assert [one.operation for one in attempts[:2]] == ["create_model", "create_endpoint_config"]
    assert all("not authorized" in one.outcome for one in attempts[1:])


def test_the_tag_of_a_role_that_is_none_is_the_administrators_business(stage: Stage) -> None:
    first = stage.register()
    group = stage.aws.tags[arn("sagemaker", f"model-package-group/{stage.endpoint}")]
    group.append({"Key": "modelyard:model-role", "Value": "../admin"})
    stage.approve(first)

    assert "which is no name of a role" in stage.look().summary
    group[-1]["Value"] = "own"
    stage.settle()
    assert stage.aws.models[f"{stage.endpoint}-1"]["ExecutionRoleArn"].endswith(":role/modelyard/models/own")


def test_what_sagemaker_refuses_of_a_stage_file_rejects_the_version(stage: Stage) -> None:
    first, second = stage.register(), stage.register()
    stage.deploy(first)

    def refuse(operation: str, request: Any, when: str) -> None:
        if operation == "CreateEndpointConfig":
            stage.aws._get({}, "ml.m5.large", "instance type")

    stage.aws.hook = refuse
    stage.deploy(second)

    assert 'Could not find instance type "ml.m5.large"' in stage.aws.packages[second]["ApprovalDescription"]
    assert stage.serving == "1"


def test_a_version_without_room_for_stamps_is_deployed_and_rejected_all_the_same(stage: Stage) -> None:
    first, broken = stage.register(), stage.register()
    for package in (first, broken):
        stage.aws.packages[package]["CustomerMetadataProperties"] |= {f"x{number}": "" for number in range(48)}
    stage.aws.broken.add(broken)

    stage.deploy(first, broken)

    assert stage.serves == first
    assert stage.aws.packages[broken]["ModelApprovalStatus"] == "Rejected"


CHANGES = (
    "CreateModel",
    "CreateEndpointConfig",
    "PutMetricAlarm",
    "DeregisterScalableTarget",
    "UpdateEndpoint",
    "RegisterScalableTarget",
    "PutScalingPolicy",
    "PutDashboard",
    "UpdateModelPackage",
    "Publish",
    "DeleteEndpointConfig",
    "DeleteModel",
    "DeleteAlarms",
)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("operation", CHANGES)
def test_a_look_that_is_killed_at_any_call_of_a_deployment_is_taken_up(stage: Stage, operation: str, when: str) -> None:
    stage.deploy(*(stage.register(scaling=SCALING) for _ in range(2)))
    third = stage.register(
        instance_type="ml.m5.xlarge",
        instance_count=2,
        scaling=SCALING,
        rollout={"type": "all_at_once"},
        alarms=ALARM,
        dashboard=True,
    )
    stage.told()
    stage.approve(third)
    stage.kill_at(operation, when)

    with pytest.raises(Killed):
        stage.settle()
    stage.settle()

    assert stage.serves == third
    assert stage.statuses == ["succeeded"] * 3
    assert stage.there == {"2", "2 config", "3", "3 config", "errors"}
    assert stage.told()[-1] == "version 3 serves"
    asked = [one for one in stage.deployments[0].attempts if one.operation == "update_endpoint"]
    assert len(asked) == (2 if (operation, when) == ("UpdateEndpoint", "before") else 1)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("operation", ["UpdateEndpoint", "UpdateModelPackage", "Publish", "DeleteEndpointConfig"])
def test_a_look_that_is_killed_at_any_call_of_a_failure_is_taken_up(stage: Stage, operation: str, when: str) -> None:
    first, broken = stage.register(), stage.register()
    stage.deploy(first)
    stage.told()
    stage.aws.broken.add(broken)
    stage.approve(broken)
    stage.kill_at(operation, when)

    with pytest.raises(Killed):
        stage.settle()
    stage.settle()

    assert stage.serves == first
    assert stage.aws.packages[broken]["ModelApprovalStatus"] == "Rejected"
    assert stage.statuses == ["failed", "succeeded"]
    assert stage.there == {"1", "1 config"}
    assert set(stage.told()) == {"version 2 could not be deployed"}


@pytest.mark.parametrize(("watched", "asked"), [({"alarms": ALARM}, 1), ({}, 2)])
def test_a_roll_back_between_the_kill_and_the_next_look_is_known_by_its_alarms_and_else_tried_once_more(
    stage: Stage, watched: dict[str, Any], asked: int
) -> None:
    first, broken = stage.register(), stage.register(**watched)
    stage.deploy(first)
    stage.aws.broken.add(broken)
    stage.approve(broken)
    stage.kill_at("UpdateEndpoint", "after")
    with pytest.raises(Killed):
        stage.look()
    stage.aws.settle()
    stage.aws.settle()
    assert stage.serving == "1"

    stage.settle()

    assert [one.operation for one in stage.deployments[0].attempts].count("update_endpoint") == asked
    assert stage.aws.packages[broken]["ModelApprovalStatus"] == "Rejected"
    assert stage.serves == first


def test_auto_scaling_between_the_kill_and_the_next_look_is_not_taken_for_a_roll_back(stage: Stage) -> None:
    first, second = (stage.register(scaling=SCALING, alarms=ALARM) for _ in range(2))
    stage.deploy(first)
    stage.approve(second)
    stage.kill_at("UpdateEndpoint", "before")
    with pytest.raises(Killed):
        stage.look()
    stage.aws.scale(stage.endpoint, 3)
    stage.look()
    stage.aws.settle()

    stage.settle()

    assert stage.serves == second
    assert stage.aws.endpoints[stage.endpoint]["ProductionVariants"][0]["DesiredInstanceCount"] == 3


def test_auto_scaling_that_is_at_the_endpoint_time_and_again_is_waited_for(stage: Stage) -> None:
    first, second = (stage.register(scaling=SCALING) for _ in range(2))
    stage.deploy(first)
    stage.approve(second)

    def scale(operation: str, request: Any, when: str) -> None:
        if (operation, when) == ("UpdateEndpoint", "before"):
            raise refusal(operation, "ValidationException", 'Cannot update in-progress endpoint "churn-dev".')

    stage.aws.hook = scale
    assert "Cannot update in-progress" in stage.look().summary
    stage.aws.hook = lambda operation, request, when: None
    stage.settle()

    assert stage.serves == second


def test_approving_twice_does_not_begin_anew(stage: Stage) -> None:
    first, second = (stage.register(instance_count=2, rollout=CANARY) for _ in range(2))
    stage.deploy(first)
    stage.approve(second)
    stage.look()
    stage.approve(second)

    stage.settle()

    assert stage.serves == second
    assert stage.statuses == ["succeeded", "succeeded"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "operation", ["DeregisterScalableTarget", "DeleteEndpoint", "DeleteModel", "DeleteDashboards", "Publish"]
)
def test_a_look_that_is_killed_while_it_takes_away_is_taken_up(stage: Stage, operation: str, when: str) -> None:
    first = stage.register(scaling=SCALING, alarms=ALARM, dashboard=True)
    stage.deploy(first)
    stage.told()
    stage.reject(first)
    stage.kill_at(operation, when)

    with pytest.raises(Killed):
        stage.settle()
    stage.settle()

    assert not stage.aws.endpoints
    assert not stage.there
    assert not stage.aws.dashboards
    assert set(stage.told()) == {"nothing serves any more"}


def story(stage: Stage, look: Callable[[], Any]) -> None:
    """Everything that can happen to an endpoint, with `look` before whatever AWS or a person does next."""
    first = stage.register(instance_count=2, scaling=SCALING, alarms=ALARM)
    second = stage.register(instance_count=2, rollout=CANARY, alarms=ALARM, dashboard=True)
    broken = stage.register(instance_type="ml.c5.large")
    stage.aws.broken.add(broken)
    steps: list[Callable[[], Any]] = [
        lambda: stage.approve(first),
        stage.aws.settle,
        lambda: stage.approve(second),
        lambda: stage.reject(second),  # while its canary takes the first traffic
        stage.aws.settle,
        stage.aws.settle,
        lambda: stage.approve(second),
        stage.aws.settle,
        lambda: stage.approve(broken),
        stage.aws.settle,
        stage.aws.settle,
        lambda: stage.reject(second),
        stage.aws.settle,
        lambda: stage.reject(first),
        stage.aws.settle,
        lambda: stage.approve(second),
        stage.aws.settle,
    ]
    for step in steps:
        step()
        look()
    stage.settle()


@pytest.mark.parametrize("times", list(itertools.product([0, 1, 2], repeat=4)))
def test_looks_that_are_lost_or_doubled_end_the_same(times: tuple[int, ...]) -> None:
    undisturbed, stage = make_stage(), make_stage()
    story(undisturbed, undisturbed.look)
    pattern = itertools.cycle(times)

    def look() -> None:
        for _ in range(next(pattern)):
            stage.look()

    story(stage, look)

    assert stage.serves == undisturbed.serves
    assert stage.aws.configs.keys() == stage.aws.models.keys()
    assert len(stage.aws.configs) <= 2
    assert stage.aws.alarms.keys() == undisturbed.aws.alarms.keys()
    assert stage.aws.dashboards == undisturbed.aws.dashboards


def test_whichever_call_kills_the_look_everything_ends_the_same() -> None:
    """Calls to AWS that change something and writes to the ledger: before and after each one of a long story."""
    undisturbed = make_stage()
    counting = Mortal(undisturbed, None)
    story(undisturbed, undisturbed.look)
    assert counting.moment > 150

    for moment in range(counting.moment):
        stage = make_stage()
        mortal = Mortal(stage, moment)

        def look(stage: Stage = stage) -> None:
            try:
                stage.look()
            except Killed:
                stage.look()

        story(stage, look)

        assert mortal.moment > moment
        what = f"killed at moment {moment}, {mortal.last}"
        assert stage.serves == undisturbed.serves, what
        assert [package["ModelApprovalStatus"] for package in stage.aws.packages.values()] == [
            "Rejected",
            "Approved",
            "Rejected",
        ]
        assert stage.statuses == undisturbed.statuses, what
        assert stage.there == undisturbed.there, what
        assert set(stage.told()) == TOLD, what


class Mortal:
    """Kills the look at the given moment: each call that changes AWS or the ledger has one before and one after it."""

    def __init__(self, stage: Stage, at: int | None) -> None:
        self.at, self.moment, self.last = at, 0, ""
        stage.aws.hook = lambda operation, request, when: self.pass_moment(f"{when} {operation}")
        for name in ("start_deployment", "record", "set_status", "record_told"):
            self.wrap(stage.ledger, name)

    def wrap(self, ledger: MemoryLedger, name: str) -> None:
        real = getattr(ledger, name)

        def written(*arguments: Any) -> Any:
            self.pass_moment(f"before {name}")
            answer = real(*arguments)
            self.pass_moment(f"after {name}")
            return answer

        setattr(ledger, name, written)

    def pass_moment(self, what: str) -> None:
        self.moment += 1
        if self.at is not None and self.moment == self.at + 1:
            self.last = what
            raise Killed


def test_the_calls_of_a_look_do_not_grow_with_the_history(stage: Stage) -> None:
    first, second, third = (stage.register() for _ in range(3))
    stage.deploy(first)
    stage.aws.calls.clear()
    stage.deploy(second)
    calls = list(stage.aws.calls)
    for _ in range(30):
        stage.append("reject", first)
        stage.append("approve", second)
    lease = stage.ledger.lease(stage.endpoint, "test", 60)
    assert lease is not None
    with lease:
        for _ in range(30):
            stage.ledger.start_deployment(lease, replace(stage.deployments[0], started=datetime.now(UTC)))
    stage.aws.calls.clear()
    stage.deploy(third)

    # both are swept: it would go back to the last of these, of which there is no model
    swept = 2 * ["DeleteEndpointConfig", "DeleteModel", "ListTags", "ListTags"]
    assert sorted([*calls, *swept]) == sorted(stage.aws.calls)
