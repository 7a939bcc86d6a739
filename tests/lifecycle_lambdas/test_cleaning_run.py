"""Cleaning up as the function does it, against local_aws: announced first, looked at again, finished after a kill."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lifecycle_lambdas import cleaning_facts, cleaning_run
from lifecycle_lambdas.branches import Hosts
from lifecycle_lambdas.cleaning import Parking, Serving
from lifecycle_lambdas.cleaning_facts import Parked
from lifecycle_lambdas.cleaning_run import NotRemoved
from lifecycle_lambdas.commit_hosts import GitHub
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.handlers.clean import respond
from lifecycle_lambdas.prices import Price
from lifecycle_lambdas.records import OFF, Deployment, Entry, PolicyRecord, State
from tests.faulty_calls import Killed
from tests.lifecycle_lambdas.conftest import IMAGE, LocalClients, make_group
from tests.lifecycle_lambdas.executions import registering
from tests.local_aws.job_requests import Workshop

BUCKET = "cleaning"
CLEAN = "kind: real_time\ninstance_type: ml.m5.large\nclean: {versions_after_days: 30, pipelines_after_days: 14}\n"
HERE = frozenset({"dev", "prod", "feature-here"})
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def role(aws: Any) -> str:
    aws.client("s3").create_bucket(Bucket=BUCKET)
    return Workshop(aws).role


class Known(Hosts):
    """A Git host of which the branches are known, or nothing is."""

    def __init__(self, known: frozenset[str] | None = HERE) -> None:
        super().__init__(None, GitHub("", None, ""))
        object.__setattr__(self, "known", known)

    def branches(self, repository: str) -> frozenset[str] | None:
        known: frozenset[str] | None = vars(self)["known"]
        return known


class Scene:
    """A project of whose feature stage there is one old version with its data, and one pipeline, that nobody needs."""

    def __init__(self, context: Context, clients: LocalClients, project: str, role: str) -> None:
        self.context = replace(context, deadline=time.monotonic() + 600)
        self.clients, self.project = clients, project
        self.sagemaker, self.s3 = clients("sagemaker"), clients("s3")
        self.group = make_group(clients, project, "feature", repository="https://github.com/acme/churn")
        context.ledger.put_state_if_new(State(self.group, project, "feature", self.group, "settled"))
        self.folder = f"{project}/feature/{project}-feature-x/{uuid.uuid4().hex[:8]}"
        self.keys = {f"{self.folder}/{name}" for name in ("train/model.tar.gz", "evaluate/evaluation/report.html")}
        for key in self.keys:
            self.s3.put_object(Bucket=BUCKET, Key=key, Body=b"12345")
        self.old = self.register(self.folder)
        self.role = role
        self.pipeline = self.create_pipeline("gone")
        self.newest = self.register(f"{project}/feature/{project}-feature-x/newest", CLEAN)

    def create_pipeline(self, branch: str) -> str:
        """Of feature-<branch>; its name."""
        name = f"{self.project}-feature-{branch}-0a1b2c"
        tags = {"modelyard:project": self.project, "modelyard:stage": "feature"}
        self.sagemaker.create_pipeline(
            PipelineName=name,
            PipelineDefinition=registering(f"feature-{branch}"),
            RoleArn=self.role,
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
        )
        return name

    def register(self, folder: str, stage_file: str = "", group: str = "", **more: str) -> str:
        prefix = f"{self.project}/feature/deployment/{uuid.uuid4().hex}/"
        self.s3.put_object(Bucket=BUCKET, Key=f"{prefix}feature.yaml", Body=stage_file.encode())
        given = {
            "report": f"s3://{BUCKET}/{folder}/evaluate/evaluation/report.html",
            "deployment.prefix": f"s3://{BUCKET}/{prefix}",
            "deployment.sha256.feature": hashlib.sha256(stage_file.encode()).hexdigest(),
        }
        return str(
            self.sagemaker.create_model_package(
                ModelPackageGroupName=group or self.group,
                ModelApprovalStatus="PendingManualApproval",
                InferenceSpecification={
                    "Containers": [{"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/{folder}/train/model.tar.gz"}],
                    "SupportedContentTypes": ["text/csv"],
                    "SupportedResponseMIMETypes": ["text/csv"],
                },
                CustomerMetadataProperties=given | {name.replace("__", "."): value for name, value in more.items()},
            )["ModelPackageArn"]
        )

    def run(self, days: float, hosts: Hosts | None = None, **event: Any) -> list[dict[str, Any]]:
        """As the schedule calls it so many days from now."""
        then = datetime.now(UTC) + days * DAY
        answer = respond(self.context, hosts or Known(), {"time": then.isoformat(), **event})
        return [outcome for outcome in answer["outcomes"] if outcome["project"] == self.project]

    def versions(self) -> set[str]:
        found = self.sagemaker.list_model_packages(ModelPackageGroupName=self.group)["ModelPackageSummaryList"]
        return {one["ModelPackageArn"] for one in found}

    def pipelines(self) -> set[str]:
        found = self.sagemaker.list_pipelines(PipelineNamePrefix=self.project)["PipelineSummaries"]
        return {one["PipelineName"] for one in found}

    def stored(self) -> set[str]:
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.project}/").get("Contents", [])
        return {one["Key"] for one in found}

    def untouched(self) -> bool:
        return {self.old} <= self.versions() and {self.pipeline} <= self.pipelines() and self.keys <= self.stored()

    def cleaned(self) -> bool:
        gone = self.old in self.versions() or self.pipeline in self.pipelines() or self.keys & self.stored()
        return not gone and self.newest in self.versions()


@pytest.fixture
def scene(context: Context, clients: LocalClients, project: str, role: str) -> Scene:
    return Scene(context, clients, project, role)


def test_a_policy_only_says_first_what_would_go_and_removes_a_day_later(scene, told):
    scene.run(40)
    (text,) = told()
    assert scene.untouched()
    assert f"version {scene.old}: 40 days old, and nothing needs it (price unknown)" in text
    scene.run(40.5)
    assert scene.untouched()
    assert told() == []
    scene.run(41.1)
    assert scene.cleaned()
    (text,) = told()
    assert f"{scene.project}: 4 things were cleaned up" in text
    scene.run(42.2)
    assert told() == []


class Prices:
    """A price list in which storing a byte costs a dollar a month, and an hour of any instance half of one."""

    def gigabyte_month(self) -> Price:
        return Price(Decimal(1024**3), "")

    def instance_hour(self, instance_type: str) -> Price:
        return Price(Decimal("0.5"), "")


def test_what_went_is_listed_with_what_it_cost_a_month_where_the_price_is_known(scene, told, monkeypatch):
    monkeypatch.setattr(cleaning_run, "_prices", lambda context: Prices())
    scene.run(40)
    (announced,) = told()
    (removed,) = scene.run(41.1)
    # each of the two objects has five bytes; the price list has nothing of versions and pipelines
    assert [(one["kind"], one["usd_a_month"]) for one in removed["removals"]] == [
        ("pipeline", None),
        ("version", None),
        ("data", 5.0),
        ("data", 5.0),
    ]
    (went,) = told()
    for text in (announced, went):
        assert "Cost: 10.00 USD a month and 2 of unknown price" in text
    lists = sorted(key for key in scene.stored() if "/feature/cleaning/" in key)
    would, did = (json.loads(scene.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()) for key in lists)
    assert (would["removed"], did["removed"]) == (False, True)
    assert (did["removals"], did["total"]) == (removed["removals"], removed["total"])


def test_a_parked_endpoint_cost_what_its_instances_do(scene, monkeypatch):
    monkeypatch.setattr(cleaning_run, "_prices", lambda context: Prices())
    started = datetime.now(UTC)
    serving = Serving(scene.group, Parking(idle_hours=3), started, started, None)
    for stage_file, cost in (({"instance_type": "ml.m5.large"}, 2 * 730 * 0.5), ({"kind": "serverless"}, None)):
        deployment = Deployment(scene.group, 1, "ENTRY#1", scene.old, stage_file, "", "succeeded", started)
        assert cleaning_run._hosting(scene.context, Parked(serving, deployment, instances=2)) == cost


def test_a_changed_policy_is_announced_again(scene, told):
    scene.run(40)
    scene.register(
        f"{scene.project}/feature/x/other", CLEAN.replace("versions_after_days: 30", "versions_after_days: 31")
    )
    scene.run(41.1)
    assert scene.untouched()
    assert len(told()) == 2
    scene.run(42.2)
    assert scene.old not in scene.versions()


@pytest.mark.parametrize("when", ["before it removes", "while it removes"])
def test_a_policy_that_a_deletion_forgets_meanwhile_stays_forgotten(scene, monkeypatch, when):
    scene.run(40)
    ledger = scene.context.ledger
    forgotten: list[bool] = []

    def forget(*_: Any) -> Any:
        if not forgotten:
            forgotten.append(True)
            ledger.forget_policies(scene.group)

    before = {"before it removes": "_with_costs", "while it removes": "_write_list"}[when]
    original = getattr(cleaning_run, before)
    monkeypatch.setattr(cleaning_run, before, lambda *args, **kwargs: (forget(), original(*args, **kwargs))[1])
    scene.run(41.1)
    assert forgotten
    record = ledger.policy(scene.group, "clean")
    assert (record.sha256, record.pending) == (OFF, ())
    if when == "before it removes":
        assert scene.pipeline in scene.pipelines()


def test_without_a_policy_nothing_goes(scene, told):
    scene.register(f"{scene.project}/feature/x/other", CLEAN.partition("clean")[0])
    assert scene.run(40) == scene.run(42) == []
    assert scene.untouched()
    assert told() == []


def check_pipelines_stay(scene: Scene, told: Callable[[], list[str]], hosts: Hosts, why: str) -> None:
    """Announced, shown and removed without the pipeline, and each says why."""
    said = f"; branches are not known ({why}), so pipelines stay"
    outcomes = [scene.run(40, hosts), scene.run(40.1, hosts, project=scene.project), scene.run(41.1, hosts)]
    assert [outcome["says"].endswith(said) for (outcome,) in outcomes] == [True] * 3, outcomes
    assert said in told()[0]
    assert scene.pipeline in scene.pipelines()
    assert scene.old not in scene.versions()


def test_while_the_git_host_does_not_answer_no_pipeline_goes(scene, told):
    asked = "asked are CodeCommit in this Region, and the platform's GitHub"
    check_pipelines_stay(scene, told, Known(None), f"https://github.com/acme/churn does not say; {asked}")


def test_where_no_tag_says_which_repository_it_is_no_pipeline_goes(scene, told):
    """As on GitLab, and after `register-project --groups-only`."""
    group = scene.sagemaker.describe_model_package_group(ModelPackageGroupName=scene.group)["ModelPackageGroupArn"]
    scene.sagemaker.delete_tags(ResourceArn=group, TagKeys=["modelyard:repository"])
    check_pipelines_stay(scene, told, Known(), f"{scene.group} has no tag modelyard:repository")


def test_of_a_repository_without_our_branches_no_pipeline_goes(scene, told):
    hosts = Known(frozenset({"main"}))
    check_pipelines_stay(scene, told, hosts, "https://github.com/acme/churn has none of dev, prod")


def test_where_the_branches_are_known_nothing_is_said_of_them(scene):
    outcomes = [scene.run(40), scene.run(40.1, project=scene.project), scene.run(41.1)]
    assert not any("branches" in outcome["says"] for (outcome,) in outcomes)


def approve(scene: Scene, arn: str) -> None:
    scene.sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")


def go_back(scene: Scene, arn: str) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    scene.context.ledger.append(Entry(scene.group, "go-back", now, arn, "ann", "", "command"))


def run_pipeline(scene: Scene, arn: str) -> None:
    scene.sagemaker.update_pipeline(PipelineName=scene.pipeline, PipelineDescription="in use again")


@pytest.mark.parametrize("happens", [approve, go_back, run_pipeline])
def test_what_becomes_needed_between_looking_and_removing_stays(scene, monkeypatch, happens):
    scene.run(40)
    decided = cleaning_run._with_costs

    def meanwhile(*given: Any) -> Any:
        happens(scene, scene.old)
        return decided(*given)

    monkeypatch.setattr(cleaning_run, "_with_costs", meanwhile)
    scene.run(41.1)
    if happens is run_pipeline:
        assert scene.pipeline in scene.pipelines()
    else:
        assert scene.old in scene.versions()
        assert scene.keys <= scene.stored()


def test_an_approved_version_that_went_is_not_taken_for_rejected_by_somebody(scene, clients):
    for number, arn in enumerate((scene.old, scene.register("a"), scene.register("b"))):
        approve(scene, arn)
        at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=9 - number)
        scene.context.ledger.append(Entry(scene.group, "approve", at, arn, "ann", "", "event"))
    scene.register(f"{scene.project}/feature/x/newest", CLEAN)
    scene.run(40)
    scene.run(41.1)
    assert scene.old not in scene.versions()
    (entry,) = [one for one in scene.context.ledger.entries(scene.group) if one.kind == "reject"]
    assert (entry.package_arn, entry.source, entry.by) == (scene.old, "controller", "modelyard")


OPERATIONS = ("DeletePipeline", "DeleteModelPackage", "DeleteObjects", "PutObject", "Publish", "PutItem")
KILLED = [(operation, when) for operation in OPERATIONS for when in ("before-call", "after-call")]
# After these something is gone that the next run cannot find any more.
DECISIVE = [("DeleteModelPackage", "after-call"), ("DeleteObjects", "after-call"), ("Publish", "before-call")]


@pytest.mark.parametrize(
    ("operation", "when"), [pytest.param(*one, marks=[] if one in DECISIVE else pytest.mark.slow) for one in KILLED]
)
def test_a_run_that_is_killed_is_finished_and_told_of_by_the_next_one(scene, clients, told, operation, when):
    scene.run(40)
    told()

    def kill(model: Any, **_: Any) -> None:
        if model.name == operation:
            raise Killed

    services = [clients(service).meta.events for service in ("sagemaker", "s3", "sns", "dynamodb")]
    for events in services:
        events.register(when, kill)
    try:
        with pytest.raises(Killed):
            scene.run(41.1)
    finally:
        for events in services:
            events.unregister(when, kill)
    scene.run(41.2)
    assert scene.cleaned()
    texts = told()
    assert any(f"{scene.project}: 4 things were cleaned up" in text for text in texts), texts
    assert scene.context.ledger.policy(scene.group, "clean").pending == ()


def test_one_project_that_fails_does_not_keep_the_others(scene, clients, project, monkeypatch):
    broken = f"{project}-broken"
    scene.context.ledger.put_state_if_new(State(f"{broken}-feature", broken, "feature", f"{broken}-feature", "settled"))
    newest = cleaning_facts.newest_version

    def failing(context: Context, group: str) -> Any:
        if group.startswith(broken):
            raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow"}}, "ListModelPackages")
        return newest(context, group)

    monkeypatch.setattr(cleaning_facts, "newest_version", failing)
    for days in (40, 41.1):
        with pytest.raises(RuntimeError, match=f"cleaning up failed for {broken}:"):
            scene.run(days)
    assert scene.cleaned()


@contextmanager
def refused(clients: LocalClients, service: str, operation: str) -> Iterator[None]:
    """AWS refuses these calls."""

    def refuse(model: Any, **_: Any) -> None:
        if model.name == operation:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "not authorized"}}, operation)

    events = clients(service).meta.events
    events.register("before-call", refuse)
    try:
        yield
    finally:
        events.unregister("before-call", refuse)


def test_a_pipeline_that_cannot_be_removed_keeps_nothing_else_and_is_tried_again_every_hour(scene, clients, told):
    scene.run(40)
    told()
    with refused(clients, "sagemaker", "DeletePipeline"):
        with pytest.raises(RuntimeError, match=f"cleaning up failed for {scene.project}:"):
            scene.run(41.1)
        assert scene.pipeline in scene.pipelines()
        assert scene.old not in scene.versions()
        assert not scene.keys & scene.stored()
        (text,) = told()
        assert f"{scene.project}: 3 things were cleaned up" in text
        with pytest.raises(RuntimeError, match=f"cleaning up failed for {scene.project}:"):
            scene.run(41.5)
    (outcome,) = scene.run(41.6)
    assert outcome["says"] == "1 things were removed"
    assert scene.cleaned()
    assert scene.run(41.7) == []


def test_what_is_tried_again_between_two_days_is_all_that_goes_then(scene, clients):
    """And it does not put off what goes once a day."""
    scene.run(40)
    with refused(clients, "sagemaker", "DeletePipeline"):
        with pytest.raises(RuntimeError, match="cleaning up failed"):
            scene.run(41.1)
        other = scene.newest
        scene.register(f"{scene.project}/feature/x/newest", CLEAN)
        for days in (41.2, 42.0):
            with pytest.raises(RuntimeError, match="cleaning up failed"):
                scene.run(days)
            assert other in scene.versions()
        with pytest.raises(RuntimeError, match="cleaning up failed"):
            scene.run(42.2)
    assert other not in scene.versions()


def test_data_whose_version_is_gone_is_shown_and_removed_when_it_can_be(scene, clients, project):
    scene.run(40)
    with refused(clients, "s3", "DeleteObjects"), pytest.raises(RuntimeError, match="cleaning up failed"):
        scene.run(41.1)
    assert scene.old not in scene.versions()
    (shown,) = scene.run(41.15, project=project)
    assert [one["kind"] for one in shown["removals"]] == ["data", "data"]
    assert shown["says"].endswith(": this would go now; an earlier run began with 2 of it")
    (removed,) = scene.run(41.15, project=project, remove=True)
    assert removed["says"] == "2 things were removed"
    assert scene.cleaned()
    assert scene.run(41.2) == []


def test_data_that_waits_for_a_running_pipeline_is_said_to_wait(scene, clients, monkeypatch):
    scene.run(40)
    with refused(clients, "s3", "DeleteObjects"), pytest.raises(RuntimeError, match="cleaning up failed"):
        scene.run(41.1)
    scene.create_pipeline("here")
    with monkeypatch.context() as patched:
        patched.setattr(cleaning_facts, "running", lambda context, name: True)
        (outcome,) = scene.run(41.2)
        assert (outcome["says"], outcome["waits"]) == ("2 wait until no pipeline runs", True)
        assert scene.keys <= scene.stored()
    (outcome,) = scene.run(41.3)
    assert (outcome["says"], outcome["waits"]) == ("2 things were removed", False)
    assert not scene.keys & scene.stored()


def test_data_that_cannot_be_listed_has_no_known_price_and_keeps_nothing_else(scene, clients, told, project):
    with refused(clients, "s3", "ListObjectsV2"):
        (shown,) = scene.run(40, project=project)
        assert [one["usd_a_month"] for one in shown["removals"]] == [None] * 4
        scene.run(40)
        with pytest.raises(NotRemoved, match="2 of 4 could not be removed, the first s3://"):
            scene.run(41.1, project=project, remove=True)
    assert (scene.pipelines(), scene.old in scene.versions()) == (set(), False)
    assert scene.keys <= scene.stored()
    scene.run(41.2)
    assert scene.cleaned()


def test_data_in_a_bucket_that_is_gone_is_gone(scene):
    assert cleaning_run._size(scene.s3, "s3://a-bucket-that-is-gone/churn/feature/x/1/train/model.tar.gz") == 0


def test_data_in_another_bucket_than_the_versions_stage_files_is_not_its_own(scene):
    package = scene.sagemaker.describe_model_package(ModelPackageName=scene.old)
    assert len(cleaning_facts.version_of(scene.project, "feature", package).own) == 2
    for prefix in (f"s3://{BUCKET}-of-others/x/", f"s3://{BUCKET[:-1]}/x/", ""):
        package["CustomerMetadataProperties"]["deployment.prefix"] = prefix
        assert cleaning_facts.version_of(scene.project, "feature", package).own == ()


def test_policies_of_branches_that_take_turns_remove_a_day_after_each_was_announced(scene, told):
    """Whichever was registered last counts."""
    other = CLEAN.replace("versions_after_days: 30", "versions_after_days: 31")
    days = [40, 40.4, 40.8, 41.2]
    for number, day in enumerate(days):
        scene.register(f"{scene.project}/feature/x/{number}", (CLEAN, other)[number % 2])
        assert scene.untouched()
        scene.run(day)
    announced = [text for text in told() if "what would be cleaned up" in text]
    assert len(announced) == 2
    assert scene.untouched()
    scene.run(41.5)
    assert scene.old not in scene.versions()


def test_a_policy_that_was_off_is_announced_again_before_anything_goes(scene, told):
    scene.run(40)
    scene.register(f"{scene.project}/feature/x/1", "kind: real_time\ninstance_type: ml.m5.large\n")
    assert scene.run(41.2) == []
    scene.register(f"{scene.project}/feature/x/2", CLEAN)
    for day in (60, 60.9):
        scene.run(day)
        assert scene.untouched()
    assert len([text for text in told() if "what would be cleaned up" in text]) == 2
    scene.run(61.1)
    assert scene.old not in scene.versions()


def test_an_operator_is_shown_what_would_go_and_removes_it_a_day_after_people_were_told(scene, project):
    (shown,) = scene.run(40, project=project)
    assert scene.untouched()
    assert (shown["done"], shown["waits"]) == (False, True)
    assert [one["kind"] for one in shown["removals"]] == ["pipeline", "version", "data", "data"]
    assert scene.context.ledger.policy(scene.group, "clean") is None
    (told,) = scene.run(40, project=project, remove=True)
    assert scene.untouched()
    assert told["says"] == "people were told what would go; nothing was removed"
    record = scene.context.ledger.policy(scene.group, "clean")
    first, last = (f"{record.announced + days * DAY:%Y-%m-%d %H:%M} UTC" for days in (0, 1))
    for days, remove in ((40, True), (40.9, True), (40.9, False)):
        (early,) = scene.run(days, project=project, remove=remove)
        said = f"people were told of this policy at {first}: it removes from {last} on, and nothing before"
        assert (early["says"], early["done"], early["waits"]) == (said, False, True)
        assert scene.untouched()
    (shown,) = scene.run(41.1, project=project)
    assert (shown["says"], shown["waits"]) == (f"people were told of this policy at {first}: this would go now", False)
    (removed,) = scene.run(41.1, project=project, remove=True)
    assert (removed["done"], removed["waits"]) == (True, False)
    assert scene.cleaned()


def test_an_operator_removes_more_than_once_a_day(scene, project):
    """What was approved when the day's run came, and is rejected now, for one."""
    scene.run(40)
    scene.run(41.1)
    other = scene.newest
    scene.register(f"{scene.project}/feature/x/newest", CLEAN)
    assert scene.run(41.2) == []
    (removed,) = scene.run(41.2, project=project, remove=True)
    assert other in [one["what"] for one in removed["removals"]]


def test_a_project_that_is_not_there_is_named_and_is_no_fault_of_the_function(scene, project):
    answer = respond(scene.context, Known(), {"project": "nobody"})
    assert answer == {"error": f"the platform knows no endpoint of a project 'nobody': known are {project}"}


def test_two_at_once_are_one(scene, project):
    with scene.context.ledger.lease(f"{project}/cleaning", "another", 60):
        (outcome,) = scene.run(40)
    assert outcome["says"].startswith("another one is cleaning up")


# --- parking


def test_an_endpoint_with_something_under_way_is_not_parked(scene, project):
    section = {"at": "nightly", "hour": 20, "timezone": "UTC", "day": None, "idle_hours": None}
    state = State(scene.group, project, "feature", scene.group, "under-way")
    started = datetime.now(UTC)
    deployment = Deployment(
        scene.group, 1, "ENTRY#1", scene.old, {"park": section}, "", "succeeded", started, ended=started
    )

    class SageMaker:
        def describe_endpoint(self, **_: str) -> dict[str, Any]:
            return {"EndpointConfigName": f"{scene.group}-1", "EndpointStatus": "InService", "ProductionVariants": []}

    class Ledger:
        def deployment(self, *_: Any) -> Deployment:
            return deployment

        def entries(self, endpoint: str) -> Iterator[Entry]:
            return iter([Entry(endpoint, "approve", started, scene.old, "ann", "", "event")])

        def policy(self, *_: Any) -> None:
            return None

    context = replace(scene.context, ledger=Ledger(), clients=lambda service: SageMaker())
    assert cleaning_facts.parked(context, state, started) is None
    state = replace(state, status="settled")
    assert isinstance(cleaning_facts.parked(context, state, started), Parked)
    del deployment.stage_file["park"]
    assert cleaning_facts.parked(context, state, started) == "never"


def test_parking_that_was_off_is_announced_again(scene, project, monkeypatch):
    record = PolicyRecord(scene.group, "park", "a" * 64, datetime.now(UTC))
    scene.context.ledger.put_policy(record)
    monkeypatch.setattr(cleaning_facts, "parked", lambda *_: "never")
    scene.run(1, project=project)  # an operator is shown what would go
    assert scene.context.ledger.policy(scene.group, "park") == record
    scene.run(1)
    found = scene.context.ledger.policy(scene.group, "park")
    assert cleaning_facts.announced(found, record.sha256) is None


def test_an_endpoint_used_since_the_hour_that_a_late_run_is_for_is_not_parked(scene, monkeypatch):
    """The schedule's event may lie for a while before the function has it."""
    due = datetime.now(UTC).replace(microsecond=0)
    asked: list[datetime] = []

    def parked(context: Context, state: State, now: datetime) -> None:
        asked.append(now)

    monkeypatch.setattr(cleaning_facts, "parked", parked)
    late = replace(scene.context, now=lambda: due + timedelta(hours=5))
    respond(late, Known(), {"time": due.isoformat()})
    assert asked == [due + timedelta(hours=5)]
