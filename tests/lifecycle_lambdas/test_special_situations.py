"""What people, quotas, keys and permissions do to a stage: what serves serves on, and it goes on when that is over."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests.lifecycle_lambdas.fault_matrix import ALL_AT_ONCE, BATCH, CANARIED, served, undisturbed
from tests.lifecycle_lambdas.simulated_aws import refusal, validation
from tests.lifecycle_lambdas.simulated_platform import Platform, refused, throttled
from tests.lifecycle_lambdas.test_converge import CANARY, SCALING, STAGE_FILE

NOTHING: Callable[[str, str, dict[str, Any]], Exception | None] = lambda service, operation, request: None  # noqa: E731
SCALED = {**SCALING, "min": 2}
HALF_AN_HOUR, HOURS = 1800, 3 * 3600


@pytest.fixture
def platform() -> Iterator[Platform]:
    platform = Platform()
    with platform.installed():
        yield platform


def check(platform: Platform, serves: str | None, numbers: list[str]) -> None:
    """What serves is what should, nothing is orphaned, nothing was lost, and another look changes nothing."""
    platform.run()
    assert platform.faults == []
    assert platform.serves == serves
    assert sorted(platform.aws.models) == sorted(platform.aws.configs) == [f"{platform.endpoint}-{n}" for n in numbers]
    assert not [name for name in platform.aws.alarms if "rollback" in name or "abort" in name]
    assert "under-way" not in [one.status for one in platform.deployments]
    calls = len(platform.aws.calls)
    platform.pass_time(601)
    platform.run()
    assert not [
        call
        for call in platform.aws.calls[calls:]
        if call.startswith(("Create", "Update", "Delete", "Put")) and call not in ("UpdateItem", "PutItem")
    ]


def deny(platform: Platform, error: Exception, *operations: str, service: str = "") -> None:
    """These operations, or all of the service, answer with the error from now on."""

    def answer(called_service: str, operation: str, request: dict[str, Any]) -> Exception | None:
        return error if operation in operations or called_service == service else None

    platform.aws.standing = answer


# --- deleted by hand


@pytest.mark.parametrize("what", ["it alone", "all versions", "their group"])
def test_what_serves_serves_on_when_its_version_is_deleted_from_the_registry(platform: Platform, what: str) -> None:
    _, second = served(platform, ALL_AT_ONCE, ALL_AT_ONCE)
    platform.approve(second)
    platform.run()
    if what == "it alone":
        del platform.aws.packages[second]
    elif what == "all versions":
        platform.aws.packages.clear()
    else:
        platform.delete_group()
    calls = len(platform.aws.calls)
    platform.pass_time(1300)
    assert platform.status == "InService"
    assert platform.serving_number == 2
    assert not {"DeleteEndpoint", "UpdateEndpoint"} & {*platform.aws.calls[calls:]}
    assert platform.faults == []
    (told,) = [
        message["Message"] for message in platform.aws.published if "not in the model registry" in message["Message"]
    ]
    assert "nobody decided otherwise. Approve another version, or take the endpoint away" in told

    platform.command("park", None)
    platform.outage_allowed = True
    platform.run()
    assert platform.status is None


def test_an_endpoint_deleted_by_hand_is_made_anew(platform: Platform) -> None:
    (first,) = served(platform, ALL_AT_ONCE)
    platform.outage_allowed = True
    platform.aws.endpoints.clear()
    platform.pass_time(601)
    check(platform, first, ["2"])
    assert platform.told() == {"version 1 serves": 1}


def test_an_endpoint_deleted_by_hand_during_its_update_comes_back_with_the_new_version(platform: Platform) -> None:
    _, second = served(platform, CANARIED, CANARIED)
    platform.held = True
    platform.approve(second)
    platform.run(lambda: platform.status == "Updating")
    platform.held, platform.outage_allowed = False, True
    platform.aws.endpoints.clear()
    platform.pass_time(120)
    check(platform, second, ["1", "2"])


@pytest.mark.parametrize("what", ["model", "config", "both"])
def test_model_or_config_deleted_by_hand_while_it_serves_stands_in_nobodys_way(platform: Platform, what: str) -> None:
    _, second = served(platform, {**ALL_AT_ONCE, "scaling": SCALING}, {**ALL_AT_ONCE, "scaling": SCALING})
    if what != "config":
        platform.aws.models.clear()
    if what != "model":
        platform.aws.configs.clear()
    platform.pass_time(601)
    platform.run()
    assert platform.status == "InService"
    platform.approve(second)
    platform.run()
    assert platform.serves == second
    assert platform.status == "InService"
    assert platform.told() == {"version 2 approved by ada": 1, "version 2 serves": 1}


@pytest.mark.parametrize("what", ["model", "config"])
@pytest.mark.parametrize("before", ["CreateEndpointConfig", "UpdateEndpoint"])
def test_model_or_config_deleted_by_hand_during_a_deployment_is_made_again(
    platform: Platform, what: str, before: str
) -> None:
    _, second = served(platform, STAGE_FILE, STAGE_FILE)

    def delete(service: str, operation: str, request: dict[str, Any]) -> Exception | None:
        if operation == before:
            platform.aws.standing = NOTHING
            (platform.aws.models if what == "model" else platform.aws.configs).pop(f"{platform.endpoint}-2", None)
            if what == "model" and operation == "UpdateEndpoint":
                return validation('Could not find model "churn-dev-2".')
        return None

    platform.aws.standing = delete
    platform.approve(second)
    check(platform, second, ["1", "2"])


def test_going_back_needs_nothing_of_what_served_then(platform: Platform) -> None:
    first, second = served(platform, ALL_AT_ONCE, ALL_AT_ONCE)
    platform.approve(second)
    platform.run()
    for there in (platform.aws.models, platform.aws.configs):
        del there[f"{platform.endpoint}-1"]
    platform.reject(second)
    check(platform, first, ["3"])


# --- what a version is made of


@pytest.mark.parametrize("at", ["CreateModel", "the start of the container"])
def test_a_version_whose_model_data_is_gone_is_rejected_and_says_so(platform: Platform, at: str) -> None:
    first, second = served(platform, ALL_AT_ONCE, ALL_AT_ONCE)
    if at == "CreateModel":
        deny(platform, validation("Could not find model data at s3://artifacts/x/2/model.tar.gz."), "CreateModel")
    else:
        platform.aws.broken.add(second)
    platform.approve(second)
    check(platform, first, ["1"])
    assert platform.aws.packages[second]["ModelApprovalStatus"] == "Rejected"
    assert ("model data" in platform.deployments[0].reason) == (at == "CreateModel")
    assert platform.told() == {"version 2 approved by ada": 1, "version 2 could not be deployed": 1}


def test_going_back_over_a_version_whose_model_data_is_gone_ends_on_the_one_before(platform: Platform) -> None:
    first, second, third = served(platform, ALL_AT_ONCE, ALL_AT_ONCE, ALL_AT_ONCE)
    for version in (second, third):
        platform.approve(version)
        platform.run()
    platform.aws.broken.add(second)
    platform.reject(third)
    check(platform, first, ["5"])
    assert platform.aws.packages[second]["ModelApprovalStatus"] == "Rejected"


SECRET = "AKIAIOSFODNN7EXAMPLE"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "is not there any more"),
        (yaml.safe_dump({**STAGE_FILE, "instance_count": 9}), "is not the file that was registered"),
        ("kind: [", "it is not readable YAML"),
        ("just text", "deployment/dev.yaml"),
        (yaml.safe_dump({**STAGE_FILE, "api_token": SECRET}), "api_token"),
        (f"kind: real_time\napi_token: [{SECRET}\n", "it is not readable YAML"),
    ],
    ids=["gone", "changed", "not YAML", "no mapping", "a secret in it", "a secret where it breaks"],
)
def test_a_stage_file_that_is_gone_or_broken_rejects_its_version_and_what_serves_serves_on(
    platform: Platform, content: str | None, reason: str
) -> None:
    (first,) = served(platform, ALL_AT_ONCE)
    registered = reason in ("is not there any more", "is not the file that was registered")
    second = platform.register(STAGE_FILE if registered or content is None else content)
    key = ("artifacts", "x/2/dev.yaml")
    if content is None:
        del platform.aws.objects[key]
    else:
        platform.aws.objects[key] = content.encode()
    platform.approve(second)
    check(platform, first, ["1"])
    said = platform.aws.packages[second]["ApprovalDescription"]
    assert reason in said
    assert SECRET not in said + json.dumps(platform.aws.published)
    assert platform.told() == {"version 2 approved by ada": 1, "version 2 could not be deployed": 1}


# --- quotas, permissions, keys


@pytest.mark.parametrize(
    "operation", ["CreateModel", "CreateEndpointConfig", "UpdateEndpoint", "RegisterScalableTarget"]
)
def test_a_quota_that_is_reached_is_told_once_and_the_deployment_goes_on_when_it_is_raised(
    platform: Platform, operation: str
) -> None:
    _, second = served(platform, ALL_AT_ONCE, {**ALL_AT_ONCE, "scaling": SCALING})
    deny(platform, refusal(operation, "ResourceLimitExceeded", "The limit is 2, the current use 2."), operation)
    platform.approve(second)
    platform.pass_time(HALF_AN_HOUR)
    assert platform.told() == {"version 2 approved by ada": 1, "needs somebody": 1}
    assert "ResourceLimitExceeded" in platform.aws.published[-1]["Message"] + platform.aws.published[0]["Message"]
    platform.aws.standing = NOTHING
    check(platform, second, ["1", "2"])
    assert platform.told() == {"version 2 approved by ada": 1, "needs somebody": 1, "version 2 serves": 1}


# What the deploy function calls in these; without the ledger and the topic nobody can be told.
CALLED = sorted(
    {
        (call.service, call.operation)
        for scenario in ("first_deployment", "canary", "lost_event", "rejected_in_the_middle")
        for call in undisturbed(scenario).calls
    }
)


@pytest.mark.parametrize(("service", "operation"), CALLED, ids=[operation for _, operation in CALLED])
def test_each_permission_that_is_missing_rejects_nothing_is_told_once_and_is_waited_for(
    platform: Platform, service: str, operation: str
) -> None:
    first, second = served(platform, CANARIED, {**CANARIED, "instance_type": "ml.c5.large", "scaling": SCALED})
    deny(platform, refusal(operation, "AccessDeniedException", f"not authorized to perform: {operation}"), operation)
    platform.approve(second)
    platform.pass_time(HALF_AN_HOUR)

    needs = platform.told()["needs somebody"]
    assert all(count == 1 for count in platform.told().values())
    if service not in ("dynamodb", "sns") and not needs and platform.state is not None:
        # a call beside the look: its message fails, and is in the log, until it is a dead letter with its alarm
        assert platform.queue or platform.serves == second
    assert {package["ModelApprovalStatus"] for package in platform.aws.packages.values()} == {"Approved"}
    assert platform.serves in (first, second)

    platform.aws.standing = NOTHING
    check(platform, second, ["1", "2"])
    assert platform.dead_letters == []
    assert platform.told()["version 2 serves"] == 1


# AWS's codes for a disabled key, by whose data is behind it.
KEYS = {
    "dynamodb": ("KMSDisabledException", 400),
    "sns": ("KMSDisabled", 400),
    "s3": ("KMS.DisabledException", 400),
}


@pytest.mark.parametrize("service", KEYS)
@pytest.mark.parametrize("seconds", [HALF_AN_HOUR, HOURS])
def test_a_disabled_key_stops_nothing_that_serves_and_all_goes_on_when_it_is_enabled(
    platform: Platform, service: str, seconds: float
) -> None:
    first, second = served(platform, ALL_AT_ONCE, ALL_AT_ONCE)
    code, status = KEYS[service]
    deny(platform, refused("", code, status, "the key is disabled"), service=service)
    platform.approve(second)
    platform.pass_time(seconds)
    # a deployment does not wait until people can be told
    assert platform.serves == (second if service == "sns" else first)
    told = {"needs somebody": 1} if service == "s3" else {}
    # without the topic nobody was; without the ledger nothing is known
    assert {subject: count for subject, count in platform.told().items() if subject == "needs somebody"} == told
    assert bool(platform.dead_letters) == (seconds == HOURS and service != "s3")

    platform.aws.standing = NOTHING
    platform.pass_time(601)
    check(platform, second, ["1", "2"])
    assert platform.told()["version 2 serves"] == 1
    assert [entry.package_arn for entry in platform.entries] == [second, first]


def test_a_disabled_key_of_the_instances_disks_says_what_happened_and_approving_again_deploys(
    platform: Platform,
) -> None:
    first, second = served(
        platform, ALL_AT_ONCE, {**ALL_AT_ONCE, "kms_key": "arn:aws:kms:us-east-1:123456789012:key/a"}
    )
    deny(platform, validation("The KMS key arn:aws:kms:us-east-1:123456789012:key/a is disabled."), "UpdateEndpoint")
    platform.approve(second)
    platform.run()
    assert platform.serves == first
    assert "is disabled" in platform.aws.packages[second]["ApprovalDescription"]
    platform.aws.standing = NOTHING
    platform.approve(second)
    check(platform, second, ["1", "3"])


# --- first creations, raised alarms


def test_a_first_creation_that_fails_leaves_nothing_and_the_next_version_is_created(platform: Platform) -> None:
    first, second = platform.register(ALL_AT_ONCE), platform.register(ALL_AT_ONCE)
    platform.begin()
    platform.aws.broken.add(first)
    platform.approve(first)
    check(platform, None, [])
    assert not platform.aws.endpoints
    platform.approve(second)
    check(platform, second, ["2"])
    assert platform.told() == {
        "version 1 approved by ada": 1,
        "version 1 could not be deployed": 1,
        "version 2 approved by ada": 1,
        "version 2 serves": 1,
    }


# A metric of the business, which sees whatever serves, the fix and what it is to put right alike.
CUSTOM = {"custom": {"namespace": "Shop", "metric": "Refunds", "dimensions": {"Shop": "all"}, "threshold": 10}}


@pytest.mark.parametrize(("alarms", "kind"), [({"error_share": 0.05}, "errors"), (CUSTOM, "custom")])
def test_the_fix_gets_through_while_a_standing_alarm_is_raised(
    platform: Platform, alarms: dict[str, Any], kind: str
) -> None:
    watched = {**ALL_AT_ONCE, "rollout": CANARY, "alarms": alarms}
    _, fix = served(platform, watched, watched)
    platform.raise_alarm(kind)
    put = platform.aws.put_metric_alarm

    def measured(AlarmName: str, **definition: Any) -> None:
        """CloudWatch finds a new alarm on the same metric raised, too."""
        put(AlarmName, **definition)
        if AlarmName.endswith("-custom"):
            platform.aws.alarms[AlarmName]["StateValue"] = "ALARM"

    platform.aws.put_metric_alarm = measured  # type: ignore[method-assign,assignment]
    platform.approve(fix)
    check(platform, fix, ["1", "2"])


def test_a_raised_alarm_of_the_new_instances_still_rolls_back(platform: Platform) -> None:
    watched = {**ALL_AT_ONCE, "rollout": CANARY, "alarms": {"error_share": 0.05, **CUSTOM}}
    first, second = served(platform, watched, watched)
    platform.raise_alarm("custom")
    platform.held = True
    platform.approve(second)
    platform.run(lambda: platform.status == "Updating")
    platform.raise_alarm("2-rollback-errors")
    platform.held = False
    check(platform, first, ["1"])


# --- the queue, the table, the topic


@pytest.mark.parametrize("delay", [0, 40, 400])
def test_messages_that_come_twice_late_and_in_another_order_change_nothing(platform: Platform, delay: float) -> None:
    first, second, third = served(platform, CANARIED, CANARIED, CANARIED)
    send = platform.send_event

    def twice(event: dict[str, Any]) -> None:
        send(event)
        send(event)
        if "detail" in event:  # the schedules are on time
            late, again = platform.queue[-2:]
            late.visible_at += delay * (len(platform.queue) % 3)
            again.visible_at += delay * (len(platform.queue) % 2)

    platform.aws.emit = twice
    platform.approve(second)
    platform.approve(third)
    platform.run()
    platform.reject(third)
    platform.run()
    platform.pass_time(601)
    check(platform, second, ["1", f"{platform.deployments[0].number}"])
    assert all(count == 1 for count in platform.told().values())
    assert [entry.kind for entry in platform.entries] == ["reject", "approve", "approve", "approve"]
    assert first != second


@pytest.mark.parametrize("seconds", [HALF_AN_HOUR, HOURS])
def test_a_table_that_is_throttled_for_long_loses_nothing(platform: Platform, seconds: float) -> None:
    first, second = served(platform, CANARIED, CANARIED)
    deny(platform, throttled("dynamodb", ""), service="dynamodb")
    platform.approve(second)
    platform.pass_time(seconds)
    assert platform.serves == first
    platform.aws.standing = NOTHING
    platform.pass_time(601)
    check(platform, second, ["1", "2"])
    # after an hour and more of tries, messages are put aside; what they said is found in the registry
    assert bool(platform.dead_letters) == (seconds == HOURS)
    assert platform.told() == {"version 2 approved by ada": 1, "version 2 serves": 1}


@pytest.mark.parametrize("seconds", [HALF_AN_HOUR, pytest.param(HOURS, marks=pytest.mark.slow)])
def test_what_serves_does_not_wait_for_the_topic(platform: Platform, seconds: float) -> None:
    first, second, third = served(platform, CANARIED, CANARIED, CANARIED)
    deny(platform, refused("Publish", "InternalError", 500), "Publish")
    platform.approve(second)
    platform.pass_time(600)
    assert platform.serves == second
    platform.reject(second)
    platform.pass_time(seconds)
    assert platform.serves == first
    platform.approve(third)
    platform.pass_time(600)
    assert platform.serves == third
    platform.aws.standing = NOTHING
    check(platform, third, ["3", "4"])
    assert platform.told()["version 3 serves"] == 1
    assert all(count == 1 for count in platform.told().values())


def test_a_batch_stage_whose_model_is_deleted_by_hand_gets_it_again(platform: Platform) -> None:
    (first,) = served(platform, BATCH)
    platform.aws.models.clear()
    platform.pass_time(601)
    platform.run()
    assert platform.serves == first
    assert list(platform.aws.models) == [f"{platform.endpoint}-1"]


def test_a_version_that_somebody_rejected_is_not_approved_automatically_by_the_late_news_of_its_registration() -> None:
    platform = Platform(tags={"modelyard:approval": "automatic"})
    with platform.installed():
        version = platform.register({**STAGE_FILE, "approval": "automatic"})
        registration = platform.queue.pop()
        platform.reject(version)
        platform.queue.append(registration)
        platform.run()
        assert platform.aws.packages[version]["ModelApprovalStatus"] == "Rejected"
        assert platform.serves is None


def test_what_is_stuck_though_all_was_settled_is_tried_again_every_minute(platform: Platform) -> None:
    served(platform, ALL_AT_ONCE)
    deny(platform, refusal("", "AccessDeniedException", "not authorized"), "DescribeEndpoint")
    platform.pass_time(601)
    assert platform.told() == {"needs somebody": 1}
    platform.aws.standing = NOTHING
    platform.aws.alarms.clear()
    platform.pass_time(62)
    assert platform.aws.alarms
