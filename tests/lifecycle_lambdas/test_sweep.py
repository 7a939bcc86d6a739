"""What is removed, and above all what is not."""

from __future__ import annotations

import pytest

from lifecycle_lambdas.observe import Observed
from lifecycle_lambdas.sweep import Needed, Present, is_ours, needed, stale
from tests.lifecycle_lambdas.fault_matrix import ALL_AT_ONCE, served
from tests.lifecycle_lambdas.plans import ENDPOINT, endpoint, observed
from tests.lifecycle_lambdas.simulated_aws import SimulatedAWS, arn
from tests.lifecycle_lambdas.simulated_platform import Platform

NOTHING = Needed(frozenset(), frozenset(), frozenset(), dashboard=False)


def there(*names: str, alarms: tuple[str, ...] = (), dashboard: bool = False) -> Present:
    """Models and endpoint configs of these names."""
    arns = {name: f"arn:{name}" for name in names}
    return Present(models=arns, configs=arns, alarms={name: f"arn:{name}" for name in alarms}, dashboard=dashboard)


def removed(present: Present, need: Needed) -> list[str]:
    return [f"{call.operation} {call.resource}" for call, _ in stale(ENDPOINT, present, need)]


def test_configs_go_before_the_models_that_they_name_and_the_needed_stay() -> None:
    need = Needed(frozenset({11, 12}), frozenset(), frozenset(), dashboard=False)

    assert removed(there("churn-prod-10", "churn-prod-11", "churn-prod-12"), need) == [
        "delete_endpoint_config churn-prod-10",
        "delete_model churn-prod-10",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "churn-prod-b-dev-12",  # of a project churn-prod-b
        "other-churn-prod-12",
        "churn-prod-12-copy",
        "churn-prod-012",
        "churn-prod-0",
        "churn-prod-",
        "churn-prod",
        "churn-prod-1234567",
        "CHURN-PROD-12",
        "churn-prod-12\n",
    ],
)
def test_names_that_only_resemble_ours_are_left_alone(name: str) -> None:
    assert removed(there(name, alarms=(f"{name}-abort",)), NOTHING) == []


def test_alarms_go_with_their_deployment_and_standing_ones_when_they_are_not_declared() -> None:
    need = Needed(frozenset({12}), frozenset({13}), frozenset({"churn-prod-errors"}), dashboard=True)
    alarms = (
        "churn-prod-12-abort",
        "churn-prod-12-rollback-errors",
        "churn-prod-13-abort",
        "churn-prod-13-rollback-custom",
        "churn-prod-errors",
        "churn-prod-latency",
        "churn-prod-by-hand",
        "TargetTracking-endpoint/churn-prod/variant/AllTraffic-AlarmHigh-1",
    )

    assert removed(there(alarms=alarms, dashboard=True), need) == [
        "delete_alarms churn-prod-12-abort",
        "delete_alarms churn-prod-12-rollback-errors",
        "delete_alarms churn-prod-latency",
    ]


def test_a_dashboard_goes_when_it_is_not_declared() -> None:
    assert removed(there(dashboard=True), NOTHING) == ["delete_dashboards churn-prod"]


@pytest.mark.parametrize(
    ("seen", "current", "way_back", "numbers", "watching"),
    [
        (observed(), None, None, set(), set()),
        (observed(endpoint()), 11, 9, {9, 11}, set()),
        # somebody updates the endpoint by hand, back to an older config
        (observed(endpoint("Updating", pending="churn-prod-7")), 11, 9, {7, 9, 11}, {7}),
        (observed(endpoint(config="churn-prod-5")), 11, None, {5, 11}, set()),
        (observed(endpoint(config="by-hand", pending="by-hand-too")), None, None, set(), set()),
    ],
)
def test_what_the_endpoint_is_on_or_on_its_way_to_and_the_way_back_stay(
    seen: Observed, current: int | None, way_back: int | None, numbers: set[int], watching: set[int]
) -> None:
    need = needed(seen, current, way_back, [], dashboard=False)

    assert need.numbers == numbers
    assert need.watching == watching


@pytest.mark.parametrize("service", ["sagemaker", "cloudwatch"])
@pytest.mark.parametrize(
    ("tags", "ours"),
    [
        ({"modelyard:project": "churn", "modelyard:stage": "prod", "team": "a"}, True),
        ({"modelyard:project": "churn", "modelyard:stage": "dev"}, False),
        ({"modelyard:project": "churn-prod", "modelyard:stage": "prod"}, False),
        ({}, False),
    ],
)
def test_ours_is_what_carries_the_projects_and_the_stages_tags(service: str, tags: dict[str, str], ours: bool) -> None:
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    resource = (
        arn("sagemaker", "model/churn-prod-12")
        if service == "sagemaker"
        else arn("cloudwatch", "alarm:churn-prod-errors")
    )
    aws = SimulatedAWS(tags={resource: listed})
    wanted = {"modelyard:project": "churn", "modelyard:stage": "prod"}

    assert is_ours(aws, service, resource, wanted) is ours


def test_after_going_back_the_model_stays_that_it_would_go_back_to_and_the_one_that_was_left_goes() -> None:
    platform = Platform()
    with platform.installed():
        first, second, third = served(platform, ALL_AT_ONCE, ALL_AT_ONCE, ALL_AT_ONCE)
        for version in (second, third):
            platform.approve(version)
            platform.run()
        platform.command("go-back", first)
        platform.run()
        assert platform.serves == first
        assert sorted(platform.aws.models) == sorted(platform.aws.configs) == ["churn-dev-2", "churn-dev-4"]


def test_what_is_deployed_again_leaves_the_way_back_to_another_version() -> None:
    platform = Platform()
    with platform.installed():
        _, second = served(platform, ALL_AT_ONCE, ALL_AT_ONCE)
        platform.approve(second)
        platform.run()
        platform.aws.delete_endpoint(platform.endpoint)
        platform.outage_allowed = True
        platform.pass_time(1300)
        assert (platform.serves, platform.serving_number) == (second, 3)
        assert sorted(platform.aws.models) == sorted(platform.aws.configs) == ["churn-dev-1", "churn-dev-3"]
