"""Deleting a project: what it owned goes, what it did not own stays, and what does not fit into the time comes next."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError, EndpointConnectionError

from lifecycle_lambdas import names
from seed_lambda import removal, removal_endpoints
from seed_lambda.again import AGAIN
from seed_lambda.context import Context
from seed_lambda.errors import HostUnreachable, OutOfTime, RateLimited, SeedError, Superseded
from seed_lambda.log import Log
from seed_lambda.properties import ALL_STAGES, STAGES, ProjectProperties
from seed_lambda.request import parse
from seed_lambda.settings import Settings
from tests.seed_lambda.account import Account
from tests.seed_lambda.requests import OTHER_STACK, REGION, STACK, event, project
from tests.seed_lambda.simulated_aws import CODE_BUCKET, QUEUE_URL, Answer, SimulatedAWS, arn, group_arn, refusal

PLATFORM = Path(__file__).parents[2] / "servicecatalog" / "platform.yaml"
SETTINGS = Settings("codecommit", "https://github.com", "", "", CODE_BUCKET, QUEUE_URL, REGION)
CALL_SECONDS = 0.1


@dataclass
class Scene:
    """A stack that is being deleted, and a controller that takes away what it is asked to."""

    aws: SimulatedAWS = field(default_factory=SimulatedAWS)
    seconds: float = 0.0
    lines: list[str] = field(default_factory=list)
    due: list[tuple[float, Callable[[], Any]]] = field(default_factory=list)
    controller_works: bool = True
    slept: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.aws.resource_status = self.aws.stack_status = "DELETE_IN_PROGRESS"
        self.aws.on_message = self.hear
        around = self.aws.around

        def timed(service: str, operation: str, call: Callable[[], Answer]) -> Answer:
            self.seconds += CALL_SECONDS
            return around(service, operation, call)

        self.aws.around = timed

    def hear(self, body: str) -> None:
        message = json.loads(body)
        assert message["look"] == "remove"
        if self.controller_works:
            self.due.append((self.seconds + 90, lambda: self.take_away(message["endpoint"])))

    def take_away(self, endpoint: str) -> None:
        """What lifecycle_lambdas' controller does with the message."""
        self.aws.endpoints.pop(endpoint, None)
        for things in (self.aws.models, self.aws.configs, self.aws.alarms):
            things -= {name for name in things if name.startswith(f"{endpoint}-") and not name.endswith("-mine")}
        self.aws.dashboards.discard(endpoint)
        self.aws.schedules.discard(endpoint)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds
        for at, done in [one for one in self.due if one[0] <= self.seconds]:
            self.due.remove((at, done))
            done()
        for executions in self.aws.pipelines.values():
            for execution, status in executions.items():
                executions[execution] = "Stopped" if status == "Stopping" else status

    def remove(self, seconds: float = 875.0, **changes: Any) -> None:
        self.due, self.seconds = [], 0.0
        context = Context(
            parse(event("Delete", project(**changes))),
            SETTINGS,
            self.aws,
            seconds,
            Log({}, self.lines.append),
            monotonic=lambda: self.seconds,
            sleep=self.sleep,
        )
        properties = ProjectProperties.parse_for_deletion(context.request.properties)
        assert properties is not None
        removal.remove(context, properties)

    # --- what is there

    def make_group(self, stage: str, versions: int = 0, stack: str = STACK, name: str = "churn") -> None:
        group = f"{name}-{stage}"
        self.aws.groups[group] = [arn("sagemaker", f"model-package/{group}/{number + 1}") for number in range(versions)]
        self.aws.tags[group_arn(group)] = {
            "modelyard:stack": stack,
            "modelyard:project": name,
            "modelyard:stage": stage,
        }

    def make_groups(self, scenario: str = "baseline", versions: int = 2) -> None:
        for stage in STAGES[scenario]:
            self.make_group(stage, versions)

    def make_pipeline(self, name: str, *statuses: str, owner: str = "churn") -> None:
        pipeline = arn("sagemaker", f"pipeline/{name}")
        self.aws.pipelines[name] = {f"{pipeline}/execution/{number}": one for number, one in enumerate(statuses)}
        self.aws.tags[pipeline] = {"modelyard:project": owner}

    def deploy(self, stage: str, owner: str = "churn") -> None:
        """An endpoint with everything that hangs on it."""
        endpoint = f"churn-{stage}"
        self.aws.endpoints[endpoint] = "InService"
        self.aws.models.add(f"{endpoint}-3")
        self.aws.configs.add(f"{endpoint}-3")
        self.aws.alarms |= {f"{endpoint}-errors", f"{endpoint}-3-abort"}
        self.aws.dashboards.add(endpoint)
        self.aws.schedules.add(endpoint)
        has = {"modelyard:project": owner, "modelyard:stage": stage}
        for what in (f"endpoint/{endpoint}", f"model/{endpoint}-3", f"endpoint-config/{endpoint}-3"):
            self.aws.tags[arn("sagemaker", what)] = has
        for alarm in (f"{endpoint}-errors", f"{endpoint}-3-abort"):
            self.aws.tags[arn("cloudwatch", f"alarm:{alarm}")] = has

    def schedule_retraining(self, name: str = "churn-retrain", project: str = "churn") -> None:
        """What the CI of dev makes of the settings."""
        self.aws.schedules.add(name)
        self.aws.schedule_roles[name] = f"modelyard/ci/{project}-ci-retrain"

    def make_repository(self, stack: str = STACK, pushed: bool = False) -> None:
        self.aws.create_repository("churn", {"modelyard:stack": stack})
        for email in ["modelyard@localhost", *(["ada@example.com"] if pushed else [])]:
            parent = self.aws.repositories["churn"]["branches"].get("prod")
            content = [{"filePath": "a.txt", "fileContent": email.encode(), "fileMode": "NORMAL"}]
            self.aws.create_commit("churn", "prod", content, "x", email, "x", parent)

    def left(self) -> dict[str, list[str]]:
        kinds = (
            "groups",
            "pipelines",
            "endpoints",
            "models",
            "configs",
            "alarms",
            "dashboards",
            "schedules",
            "repositories",
        )
        found = {kind: sorted(getattr(self.aws, kind)) for kind in kinds}
        return {kind: names for kind, names in found.items() if names}

    @property
    def asked(self) -> list[str]:
        return [json.loads(body)["endpoint"] for body in self.aws.sent]


@pytest.fixture
def scene() -> Scene:
    return Scene()


# --- all of it goes


@pytest.mark.parametrize("scenario", STAGES)
def test_pipelines_endpoints_versions_and_groups_go_and_the_repository_stays(scene: Scene, scenario: str) -> None:
    scene.make_groups(scenario, versions=120)
    scene.make_repository(pushed=True)
    scene.make_pipeline("churn-dev", "Succeeded", "Executing", "Stopping")
    scene.make_pipeline("churn-feature-better-1a2b3c", "Failed")
    scene.deploy("dev")
    scene.remove(Scenario=scenario)
    assert scene.left() == {"repositories": ["churn"]}


def test_the_controller_is_asked_for_each_stage_in_the_words_that_it_knows(scene: Scene) -> None:
    from lifecycle_lambdas.events import Removal
    from lifecycle_lambdas.events import parse as controller_reads

    scene.make_groups()
    scene.remove()
    assert controller_reads(scene.aws.sent[0]) == Removal("churn-feature", STACK, "project churn is being deleted")
    # once before, and once when the versions are gone: for what was approved in the last moment
    assert scene.asked == ["churn-feature", "churn-dev", "churn-prod"] * 2


def test_a_group_goes_only_when_its_endpoint_is_gone(scene: Scene) -> None:
    """Were the function killed between the two, nothing would say any more whose the endpoint is."""
    scene.make_groups()
    scene.deploy("dev")
    scene.controller_works = False
    with pytest.raises(
        OutOfTime, match=r"endpoint churn-dev \(InService\).*modelyard-deploy.*delete again to continue"
    ):
        scene.remove()
    assert scene.left()["groups"] == ["churn-dev", "churn-feature", "churn-prod"]
    assert scene.aws.groups["churn-dev"]
    # a message may have been lost
    assert scene.asked.count("churn-dev") > 5
    scene.controller_works = True
    scene.remove()
    assert scene.left() == {}


def test_pauses_grow_and_a_stage_that_is_empty_is_not_looked_at_again(scene: Scene) -> None:
    scene.make_groups()
    scene.deploy("dev")
    scene.remove()
    assert scene.slept == sorted(scene.slept)
    described = scene.aws.calls.count(("sagemaker", "DescribeEndpoint"))
    assert described <= 3 * 5 + len(scene.slept)


@pytest.mark.parametrize("what", ["model", "endpoint-config", "alarm", "dashboard", "schedule"])
def test_whatever_is_left_of_an_endpoint_is_awaited(scene: Scene, what: str) -> None:
    scene.make_groups()
    scene.deploy("dev")
    scene.aws.endpoints.clear()
    kept = {"model": "models", "endpoint-config": "configs", "alarm": "alarms"}.get(what, f"{what}s")
    for kind in ("models", "configs", "alarms", "dashboards", "schedules"):
        if kind != kept:
            getattr(scene.aws, kind).clear()
    scene.controller_works = False
    with pytest.raises(OutOfTime, match=what.replace("-", " ")):
        scene.remove(seconds=60)
    scene.controller_works = True
    scene.remove()
    assert scene.left() == {}


def test_the_names_are_those_that_the_controller_gives() -> None:
    """The two import nothing of each other."""
    given = [names.rollback_alarm("churn-dev", 12, kind) for kind in names.ALARM_KINDS]
    given += [names.abort_alarm(names.numbered("churn-dev", 12)), *names.standing_alarms("churn-dev")]
    scene = Scene()
    for alarm in given:
        scene.make_group("dev")
        scene.aws.alarms = {alarm}
        scene.aws.tags[arn("cloudwatch", f"alarm:{alarm}")] = {"modelyard:project": "churn", "modelyard:stage": "dev"}
        scene.controller_works = False
        with pytest.raises(OutOfTime, match=alarm):
            scene.remove(seconds=30)


def test_the_retraining_schedule_goes_before_the_pipeline_that_it_starts(scene: Scene) -> None:
    scene.make_groups()
    scene.make_pipeline("churn-dev")
    scene.schedule_retraining()
    scene.remove()
    assert scene.left() == {}
    operations = [operation for _, operation in scene.aws.calls]
    assert operations.index("DeleteSchedule") < operations.index("DescribePipeline")


def test_a_schedule_of_its_name_with_another_role_is_somebody_elses(scene: Scene) -> None:
    """Another project's, whose name goes on as this one's does, or a person's own."""
    scene.make_groups()
    for name, role in (("churn-x-retrain", "churn-x"), ("churn-retrain", "other-churn")):
        scene.schedule_retraining(name, role)
    scene.remove()
    assert scene.left() == {"schedules": ["churn-retrain", "churn-x-retrain"]}


def test_with_groups_of_another_stack_the_schedule_stays(scene: Scene) -> None:
    scene.make_group("dev", stack=OTHER_STACK)
    scene.schedule_retraining()
    scene.remove()
    assert scene.left()["schedules"] == ["churn-retrain"]


def test_the_schedules_group_is_the_platforms() -> None:
    class Loader(yaml.SafeLoader):
        """CloudFormation's tags as what they are put on."""

    Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    resources = yaml.load(PLATFORM.read_text(encoding="utf-8"), Loader)["Resources"]
    assert resources["ScheduleGroup"]["Properties"]["Name"] == removal_endpoints.SCHEDULE_GROUP


# --- pipelines


def test_what_runs_is_stopped_and_awaited_before_its_pipeline_goes(scene: Scene) -> None:
    scene.make_groups()
    scene.make_pipeline("churn-dev", "Executing")
    scene.remove()
    operations = [operation for _, operation in scene.aws.calls]
    assert operations.count("StopPipelineExecution") == 1
    assert operations.index("StopPipelineExecution") < operations.index("DeletePipeline")
    assert operations.index("DeletePipeline") < operations.index("DeleteModelPackageGroup")


def test_an_execution_that_begins_at_the_last_moment_is_stopped_too(scene: Scene) -> None:
    scene.make_groups()
    scene.make_pipeline("churn-dev", "Succeeded")
    pipeline, delete = arn("sagemaker", "pipeline/churn-dev"), scene.aws.delete_pipeline

    def begun(**request: Any) -> Answer:
        scene.aws.delete_pipeline = delete  # type: ignore[method-assign]
        scene.aws.pipelines["churn-dev"][f"{pipeline}/execution/9"] = "Executing"
        return delete(**request)

    scene.aws.delete_pipeline = begun  # type: ignore[method-assign,assignment]
    scene.remove()
    assert scene.left() == {}


def test_an_execution_that_does_not_stop_in_time_leaves_the_rest_to_the_next_deletion(scene: Scene) -> None:
    scene.make_groups()
    scene.make_pipeline("churn-dev", "Executing")
    scene.sleep = lambda seconds: setattr(scene, "seconds", scene.seconds + seconds)  # type: ignore[method-assign]
    with pytest.raises(OutOfTime, match=r"pipeline churn-dev \(1 executions\).*delete again to continue"):
        scene.remove(seconds=100)


# --- thousands of versions


def test_thousands_of_versions_go_within_the_functions_time(scene: Scene) -> None:
    scene.make_group("dev", versions=3000)
    scene.remove()
    assert scene.left() == {}
    assert scene.aws.calls.count(("sagemaker", "DeleteModelPackage")) == 3000
    # asked before each of them, CloudFormation would refuse to answer
    assert scene.aws.calls.count(("cloudformation", "DescribeStackResource")) < 150


def test_what_does_not_fit_into_the_time_is_deleted_by_deleting_again(scene: Scene) -> None:
    scene.make_group("dev", versions=3000)
    tries = 0
    while scene.aws.groups:
        before = len(scene.aws.groups["churn-dev"])
        tries += 1
        try:
            scene.remove(seconds=100)
        except OutOfTime as error:
            assert "delete again to continue" in str(error)  # noqa: PT017  most tries raise, the last one does not
            assert len(scene.aws.groups["churn-dev"]) < before
    assert 3 < tries < 8


@pytest.mark.parametrize("code", ["ThrottlingException", "TooManyRequestsException"])
def test_calls_refused_for_their_rate_are_made_again_after_pauses(scene: Scene, code: str) -> None:
    scene.make_group("dev", versions=50)
    timed, refused = scene.aws.around, [0]

    def throttle(service: str, operation: str, call: Callable[[], Answer]) -> Answer:
        if operation == "DeleteModelPackage" and refused[0] < 60:
            refused[0] += 1
            raise refusal(operation, code, "Rate exceeded")
        return timed(service, operation, call)

    scene.aws.around = throttle
    scene.remove()
    assert scene.left() == {}
    assert scene.slept


def test_a_version_registered_while_the_group_goes_is_deleted_too(scene: Scene) -> None:
    scene.make_group("dev", versions=1)
    delete = scene.aws.delete_model_package_group

    def registered(ModelPackageGroupName: str) -> None:
        scene.aws.delete_model_package_group = delete  # type: ignore[method-assign]
        scene.aws.groups["churn-dev"].append(arn("sagemaker", "model-package/churn-dev/9"))
        delete(ModelPackageGroupName)

    scene.aws.delete_model_package_group = registered  # type: ignore[method-assign]
    scene.remove()
    assert scene.left() == {}


def test_a_group_is_gone_only_when_sagemaker_says_so(scene: Scene) -> None:
    scene.make_group("dev", versions=1)
    delete = scene.aws.delete_model_package_group

    def begun(ModelPackageGroupName: str) -> None:
        scene.due.append((scene.seconds + 20, lambda: delete(ModelPackageGroupName)))

    scene.aws.delete_model_package_group = begun  # type: ignore[method-assign]
    with pytest.raises(OutOfTime, match=r"asked to delete the model package group churn-dev, .*delete again"):
        scene.remove(seconds=25)
    assert scene.left() == {"groups": ["churn-dev"]}
    scene.aws.calls.clear()
    scene.remove(seconds=60)
    assert scene.left() == {}
    assert scene.aws.calls.count(("sagemaker", "DeleteModelPackageGroup")) == 1


# --- twice, half-made, by hand


def test_what_was_never_made_is_deleted(scene: Scene) -> None:
    scene.remove()
    assert scene.asked == []


def test_twice_is_once(scene: Scene) -> None:
    scene.make_groups()
    scene.deploy("prod")
    scene.remove()
    scene.remove()
    assert scene.left() == {}


@pytest.mark.parametrize("made", [1, 2])
def test_what_was_half_made_goes(scene: Scene, made: int) -> None:
    for stage in STAGES["baseline"][:made]:
        scene.make_group(stage)
    scene.remove()
    assert scene.left() == {}


@pytest.mark.parametrize("gone", ["dev", "feature", "all"])
def test_groups_deleted_by_hand_leave_nothing_behind(scene: Scene, gone: str) -> None:
    scene.make_groups()
    scene.make_repository(pushed=True)
    scene.make_pipeline("churn-dev", "Executing")
    scene.deploy("dev")
    for stage in STAGES["baseline"] if gone == "all" else [gone]:
        del scene.aws.groups[f"churn-{stage}"]
    scene.aws.dashboards.clear()
    scene.aws.schedules.clear()
    scene.remove()
    assert scene.left() == {"repositories": ["churn"]}


@pytest.mark.parametrize("host", ["codecommit", "github"])
def test_groups_and_repository_deleted_by_hand_leave_nothing_running(scene: Scene, host: str) -> None:
    """Nor do they where the host cannot say whose the repository is: here the platform has no token of GitHub's."""
    scene.make_pipeline("churn-dev", "Executing")
    scene.make_pipeline("churn-feature-x-1a2b3c", "Executing", owner="another")
    scene.schedule_retraining()
    scene.deploy("dev")
    scene.deploy("champion", owner="another")
    scene.aws.schedules.discard("churn-champion")
    scene.aws.dashboards.discard("churn-champion")
    scene.aws.alarms -= {"churn-champion-errors", "churn-champion-3-abort"}
    scene.aws.configs.discard("churn-champion-3")
    others = {"pipelines": ["churn-feature-x-1a2b3c"], "endpoints": ["churn-champion"], "models": ["churn-champion-3"]}
    scene.remove(GitHost=host, GitOwner="none" if host == "codecommit" else "acme")
    assert scene.left() == others
    assert set(scene.asked) == {"churn-dev"}


def test_a_batch_schedule_alone_is_taken_away_too(scene: Scene) -> None:
    """Somebody has deleted its model and its group: it would fire for ever."""
    scene.aws.schedules.add("churn-prod")
    scene.remove()
    assert scene.left() == {}
    assert set(scene.asked) == {"churn-prod"}


# --- what is not the project's


def test_a_project_whose_name_was_taken_touches_nothing_of_who_has_it(scene: Scene) -> None:
    for stage in STAGES["baseline"]:
        scene.make_group(stage, versions=3, stack=OTHER_STACK)
    scene.make_repository(stack=OTHER_STACK)
    scene.make_pipeline("churn-dev", "Executing")
    scene.deploy("dev")
    before = scene.left()
    scene.aws.stack_status = "ROLLBACK_IN_PROGRESS"
    scene.remove(OnDelete="delete")
    assert scene.left() == before
    assert scene.asked == []
    assert scene.aws.pipelines["churn-dev"] == {arn("sagemaker", "pipeline/churn-dev") + "/execution/0": "Executing"}


def test_where_only_the_repository_is_this_stacks_what_the_groups_owner_has_stays(scene: Scene) -> None:
    """Two stacks of one project's name at the same moment: the other one was first with the groups."""
    for stage in STAGES["baseline"]:
        scene.make_group(stage, stack=OTHER_STACK)
    scene.make_pipeline("churn-dev", "Executing")
    scene.deploy("champion")
    before = scene.left()
    scene.make_repository()
    scene.aws.stack_status = "ROLLBACK_IN_PROGRESS"
    scene.remove()
    assert scene.left() == before
    assert scene.asked == []


def test_where_only_the_repositorys_name_was_taken_a_pipeline_of_the_projects_name_stays(scene: Scene) -> None:
    scene.make_repository(stack=OTHER_STACK)
    scene.make_pipeline("churn-dev", "Executing")
    scene.aws.stack_status = "ROLLBACK_IN_PROGRESS"
    scene.remove()
    assert scene.left() == {"pipelines": ["churn-dev"], "repositories": ["churn"]}


def test_a_group_of_somebody_elses_in_a_stage_that_the_scenario_lacks_stays_with_its_endpoint(scene: Scene) -> None:
    scene.make_groups()
    scene.make_group("champion", versions=2, stack="")
    scene.deploy("champion")
    scene.remove()
    assert scene.left()["groups"] == ["churn-champion"]
    assert scene.left()["endpoints"] == ["churn-champion"]
    assert "churn-champion" not in scene.asked


def test_projects_whose_names_begin_the_same_stay(scene: Scene) -> None:
    """churn and churn-dev, whose stage dev is churn-dev-dev, and whose feature pipelines are churn-dev-feature-..."""
    scene.make_groups()
    for stage in STAGES["baseline"]:
        scene.make_group(stage, versions=1, name="churn-dev")
    for name in ("churn-dev-dev", "churn-dev-feature-x-1a2b3c"):
        scene.make_pipeline(name, "Executing", owner="churn-dev")
    # of the very name that the project's own dev pipeline would have, and of one of its branches'
    scene.make_pipeline("churn-dev", "Executing", owner="another")
    scene.make_pipeline("churn-feature-x-1a2b3c", "Executing", owner="churn-feature")
    scene.aws.models |= {"churn-dev-dev-1", "churn-dev-77"}
    scene.aws.alarms |= {"churn-dev-dev-errors", "churn-dev-mine"}
    scene.remove()
    assert scene.left() == {
        "groups": ["churn-dev-dev", "churn-dev-feature", "churn-dev-prod"],
        "pipelines": ["churn-dev", "churn-dev-dev", "churn-dev-feature-x-1a2b3c", "churn-feature-x-1a2b3c"],
        "models": ["churn-dev-77", "churn-dev-dev-1"],
        "alarms": ["churn-dev-dev-errors", "churn-dev-mine"],
    }
    assert all("Executing" in executions.values() for executions in scene.aws.pipelines.values())


@pytest.mark.parametrize("names", ["project-{}", "churn-{}", "my-churn-dev-{}", "churn-dev-{}"])
def test_calls_do_not_grow_with_the_number_of_projects(names: str) -> None:
    """Whatever these have of this one's name: SageMaker finds models by any part of theirs, a hundred with one call."""

    def calls(others: int) -> list[tuple[str, str]]:
        one = Scene()
        one.make_groups()
        for number in range(others):
            other = names.format(number)
            for stage in STAGES["baseline"]:
                one.make_group(stage, name=other)
            for pipeline in (f"{other}-dev", f"{other}-feature-x-1a2b3c"):
                one.make_pipeline(pipeline, "Executing", owner=other)
            one.aws.models.add(f"{other}-dev-1")
            one.aws.configs.add(f"{other}-dev-1")
            one.aws.alarms.add(f"{other}-dev-1-abort")
            one.aws.dashboards.add(f"{other}-dev")
        one.remove()
        return one.aws.calls

    assert calls(60) == calls(0)


# --- the repository


@pytest.mark.parametrize(
    ("on_delete", "undoing", "pushed", "kept"),
    [
        ("keep", False, False, True),
        ("keep", False, True, True),
        ("delete", False, True, False),
        ("keep", True, False, False),
        ("keep", True, True, True),
        ("delete", True, True, False),
    ],
)
def test_the_repository_goes_when_it_was_asked_for_or_when_a_creation_that_alone_filled_it_is_taken_back(
    scene: Scene, on_delete: str, undoing: bool, pushed: bool, kept: bool
) -> None:
    scene.make_groups()
    scene.make_repository(pushed=pushed)
    scene.aws.stack_status = "ROLLBACK_IN_PROGRESS" if undoing else "DELETE_IN_PROGRESS"
    scene.remove(OnDelete=on_delete)
    assert scene.left() == ({"repositories": ["churn"]} if kept else {})


@pytest.mark.parametrize(
    ("events", "kept"),
    [
        (("CREATE_IN_PROGRESS", "DELETE_IN_PROGRESS"), False),
        (("CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "ROLLBACK_FAILED", "DELETE_IN_PROGRESS"), False),
        (("CREATE_IN_PROGRESS", "CREATE_COMPLETE", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS"), True),
        (("UPDATE_COMPLETE", "DELETE_IN_PROGRESS"), True),  # the older events are not kept any more
        # made without a roll-back, failed, and completed by an update
        (("CREATE_IN_PROGRESS", "CREATE_FAILED", "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE", "DELETE_IN_PROGRESS"), True),
    ],
)
def test_the_repository_of_a_stack_that_was_never_created_goes_with_it(
    scene: Scene, events: tuple[str, ...], kept: bool
) -> None:
    """Somebody deletes it while it is being created, or after a roll-back that failed."""
    scene.aws.stack_events = events
    scene.make_groups()
    scene.make_repository()
    scene.remove()
    assert scene.left() == ({"repositories": ["churn"]} if kept else {})


@pytest.mark.parametrize("on_delete", ["keep", "delete"])
def test_a_repository_without_this_stacks_mark_stays(scene: Scene, on_delete: str) -> None:
    scene.make_groups()
    scene.make_repository(stack=OTHER_STACK)
    scene.remove(OnDelete=on_delete)
    assert scene.left() == {"repositories": ["churn"]}


def test_a_repository_that_says_no_more_whose_it_is_stays_and_is_named(scene: Scene) -> None:
    """On GitHub its mark is the field Website, which any administrator of the repository may fill in."""
    scene.make_groups()
    scene.make_repository(stack="", pushed=True)
    with pytest.raises(SeedError, match=rf"repository churn.*let its tag modelyard:stack be {STACK}.*delete again"):
        scene.remove(OnDelete="delete")
    assert scene.left() == {"repositories": ["churn"]}
    scene.aws.tags[arn("codecommit", "churn")] = {"modelyard:stack": STACK}
    scene.remove(OnDelete="delete")
    assert scene.left() == {}


def test_on_github_the_words_say_what_the_field_website_must_be() -> None:
    account = Account("github")
    with account.running():
        assert account.create()
        stored = account.github.repositories["churn"]
        mark, stored.homepage = stored.homepage, "https://churn.example"
        old, new = account.project(), account.project(Description="Another", OnDelete="delete")
        assert not account.request("Update", "UPDATE_IN_PROGRESS", new, OldResourceProperties=old)
        assert f'field Website (beside "About" on its page on GitHub) be {mark}' in account.answers[-1]["Reason"]
        assert not account.request("Delete", "DELETE_IN_PROGRESS", new)
        assert f"be {mark}, or delete it yourself" in account.answers[-1]["Reason"]
        assert "churn" in account.github.repositories
        stored.homepage = mark
        assert account.request("Delete", "DELETE_IN_PROGRESS", new)
        assert "churn" not in account.github.repositories


@pytest.mark.parametrize("changes", [{}, {"OnDelete": "delete"}])
def test_it_hinders_neither_a_roll_back_nor_a_deletion_that_keeps_it(scene: Scene, changes: dict[str, Any]) -> None:
    scene.make_repository(stack="")
    scene.aws.stack_status = "ROLLBACK_IN_PROGRESS" if changes else "DELETE_IN_PROGRESS"
    scene.remove(**changes)
    assert scene.left() == {"repositories": ["churn"]}


def test_a_repository_that_is_kept_needs_no_call_of_its_host(scene: Scene) -> None:
    """So its token may be gone."""
    scene.make_groups()
    scene.remove(GitHost="github", GitOwner="acme")
    assert {service for service, _ in scene.aws.calls} == {
        "sagemaker",
        "cloudformation",
        "cloudwatch",
        "scheduler",
        "sqs",
    }


SILENT = {
    "no token": SeedError("this platform has no token for GitHub"),
    "rate limit": RateLimited("GitHub's rate limit is reached", 1800.0),
    "down": HostUnreachable("GitHub did not answer"),
    "denied": refusal("GetRepository", "AccessDeniedException", "not authorized"),
    "no connection": EndpointConnectionError(endpoint_url="https://codecommit.eu-central-1.amazonaws.com/"),
}


@pytest.mark.parametrize("groups", [True, False])
@pytest.mark.parametrize("why", SILENT)
def test_a_creation_is_not_taken_back_as_long_as_its_host_cannot_be_asked(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, why: str, groups: bool
) -> None:
    """Or its repository, which may be there, would be nobody's: groups or not, they are made after it."""
    if groups:
        scene.make_groups()
    scene.make_repository()
    scene.aws.stack_status = "ROLLBACK_IN_PROGRESS"

    def silent(*_: Any) -> Any:
        raise SILENT[why]

    with monkeypatch.context() as patch:
        patch.setattr(removal, "host_for", silent)
        with pytest.raises(SeedError, match=r"repository churn may be left.*When that .* delete again to continue"):
            scene.remove()
    assert scene.left() == {"repositories": ["churn"]}
    assert scene.slept == ([*AGAIN] if why in ("down", "no connection") else [])
    scene.aws.stack_status, scene.aws.stack_events = "DELETE_IN_PROGRESS", ("CREATE_IN_PROGRESS", "ROLLBACK_FAILED")
    scene.remove()
    assert scene.left() == {}


def test_a_short_rate_limit_is_waited_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.make_repository()
    scene.aws.stack_status = "ROLLBACK_IN_PROGRESS"
    found, refused = removal.host_for, [RateLimited("GitHub's rate limit is reached", 60.0)]

    def limited(*given: Any) -> Any:
        if scene.seconds < 60:
            raise refused[0]
        return found(*given)

    monkeypatch.setattr(removal, "host_for", limited)
    scene.remove()
    assert scene.slept == [60.0]
    assert scene.left() == {}


def test_what_passes_by_itself_is_tried_again(scene: Scene) -> None:
    scene.make_groups()
    timed, left = scene.aws.around, [2]

    def fail(service: str, operation: str, call: Callable[[], Answer]) -> Answer:
        if operation == "DescribeStacks" and left[0]:
            left[0] -= 1
            raise refusal(operation, "InternalFailure", "try again", 500)
        return timed(service, operation, call)

    scene.aws.around = fail
    scene.remove()
    assert scene.left() == {}


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize(
    "deletion", ["DeletePipeline", "DeleteModelPackage", "DeleteModelPackageGroup", "DeleteRepository"]
)
def test_a_deletion_that_is_denied_since_its_thing_is_gone_is_done(scene: Scene, deletion: str, done: bool) -> None:
    """As when its first answer was lost: boto3 asks again, and what is gone has no tag that the permission asks for."""
    scene.make_groups()
    scene.make_repository()
    scene.make_pipeline("churn-dev")
    timed, left = scene.aws.around, [1]

    def deny(service: str, operation: str, call: Callable[[], Answer]) -> Answer:
        if operation == deletion and left[0]:
            left[0] -= 1
            if done:
                timed(service, operation, call)
            raise refusal(operation, "AccessDeniedException", "not authorized")
        return timed(service, operation, call)

    scene.aws.around = deny
    if done:
        scene.remove(OnDelete="delete")
        assert scene.left() == {}
    else:
        with pytest.raises((ClientError, SeedError), match="not authorized"):
            scene.remove(OnDelete="delete")


def test_a_host_that_refuses_fails_the_deletion_when_all_else_is_gone(scene: Scene) -> None:
    scene.make_groups()
    with pytest.raises(SeedError, match="token"):
        scene.remove(OnDelete="delete", GitHost="github", GitOwner="acme")
    assert scene.left() == {}


# --- whether it still counts


def test_a_request_that_is_not_the_stacks_any_more_changes_nothing(scene: Scene) -> None:
    scene.make_groups()
    scene.make_pipeline("churn-dev", "Executing")
    before = scene.left()
    scene.aws.resource_status = "CREATE_IN_PROGRESS"
    with pytest.raises(Superseded, match="does not wait for this Delete any more"):
        scene.remove()
    assert scene.left() == before
    assert scene.asked == []


def test_every_changing_call_is_preceded_by_the_question_whether_it_still_counts(scene: Scene) -> None:
    scene.make_groups("advanced")
    scene.make_repository()
    scene.make_pipeline("churn-dev", "Executing")
    scene.remove(OnDelete="delete", Scenario="advanced")
    operations = [operation for _, operation in scene.aws.calls]
    changing = ("Delete", "Stop", "Send")
    for before, operation in itertools.pairwise(operations):
        if operation.startswith(changing):
            # versions are deleted some at a time
            assert before == "DescribeStackResource" or operation == before == "DeleteModelPackage"


def test_what_aws_refuses_is_not_swallowed(scene: Scene) -> None:
    scene.make_groups()
    timed = scene.aws.around

    def deny(service: str, operation: str, call: Callable[[], Answer]) -> Answer:
        if operation == "DeleteModelPackage":
            raise refusal(operation, "AccessDeniedException", "not authorized")
        return timed(service, operation, call)

    scene.aws.around = deny
    with pytest.raises(ClientError, match="not authorized"):
        scene.remove()
    assert (
        set(scene.left()["groups"])
        == {f"churn-{stage}" for stage in STAGES["baseline"]}
        <= {f"churn-{stage}" for stage in ALL_STAGES}
    )
