"""Every call that the functions make fails in every way that a call fails, in every way that a deployment goes."""

from __future__ import annotations

import random
import urllib.request
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import BotoCoreError, ClientError

from lifecycle_lambdas import planning
from lifecycle_lambdas.context import Context
from lifecycle_lambdas.handlers import notify
from tests import proof
from tests.lifecycle_lambdas import fault_matrix, simulated_platform
from tests.lifecycle_lambdas.fault_matrix import ALL_AT_ONCE, SCENARIOS, cases, faults_of, served, undisturbed
from tests.lifecycle_lambdas.simulated_platform import READ_KINDS, Call, Fault, Killed, Platform

PLATFORM = Path(__file__).parents[2] / "servicecatalog" / "platform.yaml"
SAMPLE = 150
# What the deploy and batch functions may call (servicecatalog/platform.yaml), and so what the matrix must have.
SERVICES = {"sagemaker", "dynamodb", "s3", "sns", "sqs", "cloudwatch", "application-autoscaling", "scheduler"}

Case = tuple[str, Fault]


def sample() -> list[Case]:
    """Every operation in every way at least once, where the sample is large enough, and the rest by the dice."""
    dice = random.Random(20261121)
    by_operation: dict[tuple[str, str], list[Case]] = {}
    for scenario in SCENARIOS:
        for fault in cases(scenario):
            by_operation.setdefault((fault.call.service, fault.call.operation), []).append((scenario, fault))
    chosen = [dice.choice(found) for found in by_operation.values()]
    rest = [case for found in by_operation.values() for case in found]
    return chosen + dice.sample(rest, SAMPLE - len(chosen))


def check(found: list[Case]) -> dict[str, Any]:
    """Run the cases; the counts by operation, kind and scenario. Fails with all that is not as it should be."""
    wrong: list[str] = []
    counts: dict[str, Counter[str]] = {"operations": Counter(), "kinds": Counter(), "scenarios": Counter()}
    for scenario, fault in found:
        call = fault.call
        counts["operations"][f"{call.service}: {call.operation}"] += 1
        counts["kinds"][fault.kind] += 1
        counts["scenarios"][scenario] += 1
        if faults := faults_of(scenario, fault):
            wrong.append(f"{scenario}: {call.operation} {call.nth} {fault.kind}: {faults}")
    assert not wrong, f"{len(wrong)} of {len(found)}:\n" + "\n".join(wrong[:20])
    return {"cases": len(found), **{name: dict(counted) for name, counted in counts.items()}}


def test_a_sample_of_the_matrix_ends_as_if_nothing_had_happened() -> None:
    found = sample()
    assert {fault.call.service for _, fault in found} == SERVICES
    assert {fault.kind for _, fault in found} == set(simulated_platform.WRITE_KINDS)
    check(found)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_whichever_call_fails_in_whichever_way_the_end_is_the_same(scenario: str) -> None:
    found = check([(scenario, fault) for fault in cases(scenario)])
    proof.keep(f"fault_matrix_{scenario}", found)


def test_a_function_that_was_paused_for_longer_than_its_lease_decides_nothing_about_a_version() -> None:
    """It would undo what somebody decided meanwhile."""
    scenario = "approved_again"
    check(
        [
            (scenario, fault)
            for fault in cases(scenario)
            if "ModelPackage" in fault.call.operation and fault.kind == "late"
        ]
    )


def test_the_scenarios_are_what_they_are_called() -> None:
    """A matrix whose scenarios do nothing would always pass."""
    statuses = {name: [status for _, _, status, _ in undisturbed(name).end["deployments"]] for name in SCENARIOS}
    assert statuses["canary_with_errors"] == ["failed", "succeeded"]
    assert statuses["rejected_in_the_middle"] == ["superseded", "succeeded"]
    assert statuses["two_approvals"] == ["succeeded", "superseded", "succeeded"]
    assert statuses["approved_again"] == ["succeeded", "failed", "succeeded"]
    assert undisturbed("canary").end["serves"].endswith("/2")
    assert undisturbed("go_back").end["serves"].endswith("/1")
    assert undisturbed("parked").end["serves"].endswith("/1")
    assert undisturbed("nothing_left").end["serves"] is None
    assert undisturbed("endpoint_to_batch").end["schedules"]
    assert undisturbed("scaled").end["targets"]
    assert undisturbed("removed").end["status"] == ("removed", 2)
    assert statuses["removed_in_the_middle"] == ["superseded", "succeeded"]
    assert undisturbed("removed_and_made_anew").end["serves"].endswith("/1")
    assert undisturbed("removed_and_made_anew").end["status"] == ("settled", 2)
    assert undisturbed("alarm_goes_back").end["serves"].endswith("/1")
    assert statuses["alarm_goes_back"] == ["succeeded"] * 3
    gone = ("removed", "removed_in_the_middle", "removed_batch", "removed_after_parts_of_it")
    things = ("endpoints", "models", "configs", "alarms", "targets", "policies", "dashboards", "schedules")
    assert not [what for scenario in gone for what in things if undisturbed(scenario).end[what]]
    called = {call.operation for name in SCENARIOS for call in undisturbed(name).calls}
    assert called >= {"SetAlarmState", "UpdateSchedule", "DeleteSchedule", "CreateTransformJob", "ListTransformJobs"}


def test_times_and_tries_are_those_of_the_installed_platform() -> None:
    class Loader(yaml.SafeLoader):
        """CloudFormation's tags as what they are put on."""

    Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    resources = yaml.load(PLATFORM.read_text(encoding="utf-8"), Loader)["Resources"]
    queue, source = resources["EventQueue"]["Properties"], resources["DeployEventSource"]["Properties"]
    assert (
        resources["DeployFunction"]["Properties"]["Timeout"],
        queue["VisibilityTimeout"],
        queue["RedrivePolicy"]["maxReceiveCount"],
        source["BatchSize"],
        resources["BatchFunction"]["Properties"]["Timeout"],
        resources["BatchInvokeConfig"]["Properties"]["MaximumRetryAttempts"],
    ) == (
        simulated_platform.FUNCTION_SECONDS,
        simulated_platform.VISIBILITY_SECONDS,
        simulated_platform.MOST_RECEIVES,
        simulated_platform.BATCH_SIZE,
        simulated_platform.BATCH_FUNCTION_SECONDS,
        len(simulated_platform.BATCH_RETRIES),
    )


# --- the functions that change nothing


def planned(fault: Fault | None) -> tuple[Platform, dict[str, Any] | None]:
    """The platform, and the plan function's answer; None: it failed, or was killed."""
    platform = Platform(fault)
    with platform.installed():
        _, second = served(platform, ALL_AT_ONCE, {**ALL_AT_ONCE, "instance_type": "ml.c5.large"})

        def plan(context: Context) -> dict[str, Any]:
            return planning.answer(context, "churn", "dev", second)

        try:
            return platform, platform.call_function(plan)
        except (Killed, ClientError, BotoCoreError):
            answer = platform.call_function(plan)
            assert answer == planned(None)[1]
            return platform, None


def test_a_plan_that_fails_is_asked_for_again_and_one_without_prices_says_so() -> None:
    platform, undisturbed_answer = planned(None)
    assert undisturbed_answer is not None
    assert undisturbed_answer["monthly"]["usd"] == pytest.approx(2 * 0.125 * 730)
    calls = list(platform.aws.made)
    assert {call.service for call in calls} > {"pricing", "sagemaker", "s3", "dynamodb"}
    assert all(call.reads for call in calls)

    for call in calls:
        for kind in READ_KINDS:
            disturbed, answer = planned(Fault(call, kind))
            assert disturbed.aws.hit
            assert disturbed.end_state() == platform.end_state()
            if kind == "late":
                assert answer == undisturbed_answer
            elif call.service == "pricing" and not kind.startswith("killed"):
                assert answer is not None
                assert answer["calls"] == undisturbed_answer["calls"]
                assert answer["monthly"]["usd"] is None
                assert answer["monthly"]["why"].startswith("AWS's price list ")
            else:
                assert answer is None


@pytest.mark.parametrize("kind", READ_KINDS)
def test_a_message_is_posted_once_whatever_happened_to_the_secrets_call(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted: list[str] = []

    class Answer:
        status = 200

        def __enter__(self) -> Answer:
            return self

        def __exit__(self, *_: Any) -> None:
            pass

    class Opener:
        def open(self, request: urllib.request.Request, timeout: float) -> Answer:
            posted.append(request.full_url)
            return Answer()

    monkeypatch.setattr(notify, "_opener", Opener())
    platform = Platform(Fault(Call("secretsmanager", "GetSecretValue", 1), kind))
    webhook = notify.Webhook(platform.aws("secretsmanager"), "arn:secret")
    platform.begin()
    with platform.installed():
        # SNS calls it asynchronously, so Lambda tries twice again
        platform.call_function(lambda context: notify.post(webhook, {"text": "version 1 serves"}), tries=3)
    assert platform.aws.hit
    assert posted == ["https://chat.example/hook"]


# --- what is told twice at most


def test_only_a_message_whose_sending_was_cut_short_may_come_twice() -> None:
    may = partial(fault_matrix.may_be_told_twice)
    assert may(Fault(Call("sns", "Publish", 1), "killed after"))
    assert may(Fault(Call("dynamodb", "PutItem", 3), "error"))
    assert may(Fault(Call("dynamodb", "GetItem", 7), "late"))
    assert not may(Fault(Call("dynamodb", "GetItem", 7), "not answered"))
    assert not may(Fault(Call("sns", "Publish", 1), "error"))
    assert not may(Fault(Call("dynamodb", "TransactWriteItems", 1), "not answered"))
