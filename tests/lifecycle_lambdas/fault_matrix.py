"""Every way that a deployment goes, and every call of it failed in every way that a call fails.

A scenario is run once undisturbed, which tells its calls and how it ends; then once more for each call and each kind
of fault (simulated_platform.py). However it was disturbed: what served serves on, the end is the same, and nobody is
told anything else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, cast

from lifecycle_lambdas import approvals, going_back, names
from lifecycle_lambdas.messages import id_of_entry
from tests.lifecycle_lambdas.simulated_aws import arn
from tests.lifecycle_lambdas.simulated_platform import READ_KINDS, WRITE_KINDS, Call, Fault, Platform, throttled
from tests.lifecycle_lambdas.test_converge import ALARM, BATCH, CANARY, SCALING, STAGE_FILE

ALL_AT_ONCE: dict[str, Any] = {**STAGE_FILE, "instance_count": 2, "alarms": ALARM}
CANARIED = {**ALL_AT_ONCE, "rollout": CANARY, "dashboard": True}
LINEAR = {**ALL_AT_ONCE, "rollout": {"type": "linear", "step": "50%", "bake_minutes": 5, "finish_bake_minutes": 5}}
SERVERLESS: dict[str, Any] = {"kind": "serverless", "memory_mb": 2048, "max_concurrency": 5}


GUARDED = {**ALL_AT_ONCE, "alarms": {**ALARM, "go_back": True}}


def first_deployment(platform: Platform) -> None:
    platform.begin()
    version = platform.register({**ALL_AT_ONCE, "scaling": SCALING, "dashboard": True})
    platform.run()
    platform.approve(version)
    platform.run()


def served(platform: Platform, *stage_files: dict[str, Any]) -> list[str]:
    """Versions of these stage files; the first one serves. Undisturbed."""
    versions = [platform.register(stage_file) for stage_file in stage_files]
    platform.approve(versions[0])
    platform.run()
    platform.begin()
    return versions


def all_at_once(platform: Platform) -> None:
    _, second = served(platform, ALL_AT_ONCE, ALL_AT_ONCE)
    platform.approve(second)
    platform.run()


def canary(platform: Platform) -> None:
    _, second = served(platform, ALL_AT_ONCE, CANARIED)
    platform.approve(second)
    platform.run()


def linear(platform: Platform) -> None:
    _, second = served(platform, ALL_AT_ONCE, LINEAR)
    platform.approve(second)
    platform.run()


def canary_with_errors(platform: Platform) -> None:
    _, second = served(platform, CANARIED, CANARIED)
    platform.held = True
    platform.approve(second)
    platform.run(lambda: platform.status == "Updating")
    platform.raise_alarm("2-rollback-errors")
    platform.held = False
    platform.run()


def container_that_does_not_start(platform: Platform) -> None:
    _, second = served(platform, STAGE_FILE, STAGE_FILE)
    platform.aws.broken.add(second)
    platform.approve(second)
    platform.run()


def first_version_that_does_not_start(platform: Platform) -> None:
    version = platform.register(ALL_AT_ONCE)
    platform.aws.broken.add(version)
    platform.begin()
    platform.approve(version)
    platform.run()


def rejected_in_the_middle(platform: Platform) -> None:
    _, second = served(platform, CANARIED, CANARIED)
    platform.held = True
    platform.approve(second)
    platform.run(lambda: platform.status == "Updating")
    platform.reject(second)
    abort = f"{platform.endpoint}-2-abort"
    platform.run(lambda: platform.aws.alarms[abort]["StateValue"] == "ALARM")
    platform.held = False
    platform.run()


def rejected_while_it_serves(platform: Platform) -> None:
    _, second = served(platform, {**ALL_AT_ONCE, "scaling": SCALING}, ALL_AT_ONCE)
    platform.approve(second)
    platform.run()
    platform.reject(second)
    platform.run()


def go_back(platform: Platform) -> None:
    first, second = served(platform, ALL_AT_ONCE, {**ALL_AT_ONCE, "instance_type": "ml.c5.large", "scaling": SCALING})
    platform.approve(second)
    platform.run()
    platform.command("go-back", first)
    platform.run()


def parked(platform: Platform) -> None:
    served(platform, {**ALL_AT_ONCE, "scaling": SCALING, "dashboard": True})
    platform.outage_allowed = True
    platform.command("park", None, platform.clock.now() + timedelta(minutes=15))
    platform.run()
    platform.pass_time(1500)
    platform.run()


def nothing_left(platform: Platform) -> None:
    (first,) = served(platform, {**ALL_AT_ONCE, "scaling": SCALING, "dashboard": True})
    platform.outage_allowed = True
    platform.reject(first)
    platform.run()


def serverless(platform: Platform) -> None:
    _, second = served(platform, SERVERLESS, {**SERVERLESS, "memory_mb": 4096})
    platform.approve(second)
    platform.run()


def replaced(platform: Platform) -> None:
    _, second = served(platform, {**ALL_AT_ONCE, "scaling": SCALING}, {**SERVERLESS, "replace": True})
    platform.outage_allowed = True
    platform.approve(second)
    platform.run()


def replacing_refused(platform: Platform) -> None:
    _, second = served(platform, ALL_AT_ONCE, SERVERLESS)
    platform.approve(second)
    platform.run()


def batch(platform: Platform) -> None:
    _, second = served(platform, BATCH, {**BATCH, "schedule": "rate(2 days)"})
    platform.approve(second)
    platform.run()


def batch_jobs(platform: Platform) -> None:
    served(platform, BATCH)
    for ended in ("Completed", "Failed"):
        platform.scheduled()
        platform.run()
        platform.end_jobs(ended)
        platform.run()
        platform.pass_time(120)


def batch_to_endpoint(platform: Platform) -> None:
    _, second = served(platform, BATCH, ALL_AT_ONCE)
    platform.approve(second)
    platform.run()


def endpoint_to_batch(platform: Platform) -> None:
    _, second = served(platform, ALL_AT_ONCE, {**BATCH, "replace": True})
    platform.outage_allowed = True
    platform.approve(second)
    platform.run()


def scaled(platform: Platform) -> None:
    """Another instance type, so that the scalable target goes and comes."""
    scaling = {**STAGE_FILE, "scaling": SCALING}
    _, second = served(platform, scaling, {**scaling, "instance_type": "ml.m5.xlarge", "instance_count": 2})
    platform.approve(second)
    platform.run()


def scaling_at_the_fault(platform: Platform) -> None:
    """Auto scaling changes the endpoint at the very moment of the fault."""
    scaling = {**STAGE_FILE, "instance_count": 2, "scaling": SCALING}

    def scale() -> None:
        if platform.status == "InService":
            platform.aws.scale(platform.endpoint, 3)

    platform.aws.at_fault = scale
    _, second = served(platform, scaling, scaling)
    platform.aws.scale(platform.endpoint, 3)
    platform.run()
    platform.approve(second)
    platform.run()


def two_approvals(platform: Platform) -> None:
    _, second, third = served(platform, ALL_AT_ONCE, ALL_AT_ONCE, ALL_AT_ONCE)
    platform.held = True
    platform.approve(second)
    platform.run(lambda: platform.status == "Updating")
    platform.approve(third)
    platform.run(lambda: any(one.package_arn == third for one in platform.entries) and len(platform.deployments) == 3)
    platform.held = False
    platform.run()


def approvals_together(platform: Platform) -> None:
    _, second, third = served(platform, ALL_AT_ONCE, ALL_AT_ONCE, ALL_AT_ONCE)
    platform.approve(second)
    platform.approve(third)
    platform.run()


def automatic(platform: Platform) -> None:
    platform.begin()
    platform.register({**ALL_AT_ONCE, "approval": "automatic"})
    platform.run()


def lost_event(platform: Platform) -> None:
    """Found by the look at everything."""
    _, second = served(platform, ALL_AT_ONCE, ALL_AT_ONCE)
    platform.approve(second)
    platform.queue.clear()
    platform.pass_time(600)
    platform.run()


def stage_file_changed(platform: Platform) -> None:
    """The same model, served otherwise: its alarms and dashboard go, and a limit changes."""
    before = {**ALL_AT_ONCE, "dashboard": True, "scaling": SCALING}
    _, second = served(platform, before, {**STAGE_FILE, "instance_count": 3})
    platform.approve(second)
    platform.run()


def stage_file_broken(platform: Platform) -> None:
    _, second = served(platform, ALL_AT_ONCE, {"kind": "real_time"})
    platform.approve(second)
    platform.run()


def approved_again(platform: Platform) -> None:
    """A version whose deployment failed, and that was put right."""
    _, second = served(platform, ALL_AT_ONCE, ALL_AT_ONCE)
    platform.aws.broken.add(second)
    platform.approve(second)
    platform.run()
    platform.aws.broken.clear()
    platform.approve(second)
    platform.run()


def many_endpoints(platform: Platform) -> None:
    """More than one call looks at itself, so that each gets a message of its own; the approval's event was lost."""
    _, second = served(platform, ALL_AT_ONCE, ALL_AT_ONCE)
    for project in ("claims", "fraud", "leads"):
        platform.add_group(project)
    platform.approve(second)
    platform.queue.clear()
    platform.pass_time(600)
    platform.run()


def already_throttled(platform: Platform) -> None:
    """Something was refused before, and its message comes again soon."""
    _, second = served(platform, ALL_AT_ONCE, ALL_AT_ONCE)

    def once(service: str, operation: str, request: dict[str, Any]) -> Exception | None:
        if operation != "CreateModel":
            return None
        platform.aws.standing = lambda service, operation, request: None
        return throttled(service, operation)

    platform.aws.standing = once
    platform.approve(second)
    platform.run()


GROUP = arn("sagemaker", f"model-package-group/{Platform.endpoint}")
SCALED = {**ALL_AT_ONCE, "scaling": SCALING, "dashboard": True}


def removed(platform: Platform) -> None:
    """The project is deleted: the controller is asked, and when it has done it the group goes."""
    _, second = served(platform, SCALED, SCALED)
    platform.approve(second)
    platform.run()
    platform.outage_allowed = True
    platform.remove()
    platform.run()
    platform.delete_group()
    platform.run()


def removed_in_the_middle(platform: Platform) -> None:
    _, second = served(platform, CANARIED, CANARIED)
    platform.outage_allowed = platform.held = True
    platform.approve(second)
    platform.run(lambda: platform.status == "Updating")
    platform.remove()
    platform.run(lambda: platform.aws.alarms[f"{platform.endpoint}-2-abort"]["StateValue"] == "ALARM")
    platform.held = False
    platform.run()


def removed_batch(platform: Platform) -> None:
    """While a job of it runs."""
    served(platform, BATCH)
    platform.scheduled()
    platform.run()
    platform.remove()
    platform.run()
    platform.pass_time(180)


def removed_after_parts_of_it(platform: Platform) -> None:
    """Somebody deleted the endpoint and its alarms by hand, and took the tags off the group."""
    served(platform, SCALED)
    platform.outage_allowed = True
    for gone in (platform.aws.endpoints, platform.aws.alarms, platform.aws.models):
        gone.clear()
    del platform.aws.tags[GROUP]
    platform.remove()
    platform.run()


def removed_and_made_anew(platform: Platform) -> None:
    """A project of the same name begins with version 1 again."""
    served(platform, SCALED, ALL_AT_ONCE)
    platform.outage_allowed = True
    platform.remove()
    platform.run()
    platform.delete_group()
    platform.add_group("churn")
    first = platform.register(ALL_AT_ONCE)
    platform.run()
    platform.approve(first)
    platform.run()


def goes_bad(platform: Platform, stage_file: dict[str, Any] = GUARDED) -> tuple[str, str]:
    """Two versions, the second of which serves and is found at fault a minute later. Undisturbed until then."""
    first, second = (platform.register(stage_file) for _ in range(2))
    for version in (first, second):
        platform.approve(version)
        platform.run()
    platform.pass_time(60)
    platform.begin()
    platform.raise_alarm("errors")
    return first, second


def alarm_goes_back(platform: Platform) -> None:
    goes_bad(platform)
    platform.run()


SCENARIOS: dict[str, Callable[[Platform], None]] = {
    scenario.__name__: scenario
    for scenario in (
        first_deployment,
        all_at_once,
        canary,
        linear,
        canary_with_errors,
        container_that_does_not_start,
        first_version_that_does_not_start,
        rejected_in_the_middle,
        rejected_while_it_serves,
        go_back,
        parked,
        nothing_left,
        serverless,
        replaced,
        replacing_refused,
        batch,
        batch_jobs,
        batch_to_endpoint,
        endpoint_to_batch,
        scaled,
        scaling_at_the_fault,
        two_approvals,
        approvals_together,
        automatic,
        lost_event,
        stage_file_changed,
        stage_file_broken,
        approved_again,
        many_endpoints,
        already_throttled,
        removed,
        removed_in_the_middle,
        removed_batch,
        removed_after_parts_of_it,
        removed_and_made_anew,
        alarm_goes_back,
    )
}
# Two decisions at once: how many deployments they are depends on which is heard first; only what comes of it does not.
# What was deleted by hand is made anew by the ten minutes' look, should the removal be heard of only after it.
ANY_WAY = {"approvals_together", "removed_after_parts_of_it"}
WHAT_COMES_OF_IT = ("serves", "alarms", "targets", "policies", "dashboards", "schedules", "entries")
TAGS = {"automatic": {"modelyard:approval": "automatic"}}


@dataclass(frozen=True)
class Undisturbed:
    """How a scenario goes by itself."""

    calls: tuple[Call, ...]
    end: dict[str, Any]
    told: Counter[str]


def run(scenario: str, fault: Fault | None) -> Platform:
    platform = Platform(fault, TAGS.get(scenario))
    with platform.installed():
        SCENARIOS[scenario](platform)
    return platform


@cache
def undisturbed(scenario: str) -> Undisturbed:
    platform = run(scenario, None)
    assert not platform.faults, platform.faults
    assert not platform.dead_letters
    assert not against_the_rules(platform), against_the_rules(platform)
    messages = [message["Message"] for message in platform.aws.published]
    assert len(messages) == len(set(messages)), messages
    return Undisturbed(tuple(platform.aws.made), platform.end_state(), platform.told())


def against_the_rules(platform: Platform) -> list[str]:
    """What may be at no scenario's end, whatever another run of it came to."""
    aws, name = platform.aws, platform.endpoint

    def approval_of(arn: str) -> str | None:
        return cast("str | None", aws.packages.get(arn, {}).get("ModelApprovalStatus"))

    wanted = approvals.desired(platform.entries, approval_of, platform.clock.now())
    serving = next((one for one in platform.deployments if one.number == platform.serving_number), None)
    stage_file: dict[str, Any] = {} if serving is None else serving.stage_file
    of_endpoint = stage_file if aws.endpoints else {}
    back = None if serving is None else going_back.way_back(serving, platform.deployments, approval_of)
    kept = {one.name for one in (serving, back) if one is not None}
    standing = {*names.standing_alarms(name)} if of_endpoint.get("alarms") else set()
    approved = {arn for arn, version in aws.packages.items() if version["ModelApprovalStatus"] == "Approved"}
    told = {
        key[1].removeprefix("TOLD#") for key, item in aws.items.items() if key[1].startswith("TOLD#") and "at" in item
    }
    kinds = {"succeeded": "deployed", "failed": "failed", "superseded": "superseded"}
    news = {id_of_entry(one) for one in platform.entries if one.source in ("event", "found")}
    news |= {f"{kinds.get(one.status)}#{one.number}" for one in platform.deployments}
    rules = {
        "people were told of all": news <= told,
        "every approval is in the ledger": approved <= {one.package_arn for one in platform.entries},
        "what serves is what the ledger says": platform.serves == (None if wanted is None else wanted.package_arn),
        "an endpoint or a schedule": not (aws.endpoints and aws.schedules),
        "the version that serves has a deployment": (serving is None) == (platform.serves is None),
        "models of what serves and the way back": set(aws.models) <= kept,
        "configs of these models": set(aws.configs) <= set(aws.models),
        "the standing alarms of what serves": set(aws.alarms) <= standing,
        "scaling of what serves": not aws.targets or bool(of_endpoint.get("scaling")),
        "policies of targets": len(aws.policies) == len(aws.targets),
        "a dashboard of what serves": not aws.dashboards or bool(of_endpoint.get("dashboard")),
        "nothing is under way": all(one.status != "under-way" for one in platform.deployments),
    }
    return [f"not so: {rule}" for rule, holds in rules.items() if not holds]


def cases(scenario: str) -> Iterator[Fault]:
    for call in undisturbed(scenario).calls:
        for kind in READ_KINDS if call.reads else WRITE_KINDS:
            yield Fault(call, kind)


def faults_of(scenario: str, fault: Fault) -> list[str]:
    """What is not as it should be, after this fault."""
    expected = undisturbed(scenario)
    try:
        platform = run(scenario, fault)
    except AssertionError as error:
        return [str(error)]
    found = [*platform.faults, *against_the_rules(platform)]
    if not platform.aws.hit:
        found.append("the call was not made")
    if platform.dead_letters:
        found.append(f"dead letters: {platform.dead_letters}")
    end = platform.end_state()
    for what in WHAT_COMES_OF_IT if scenario in ANY_WAY else end:
        if end[what] != expected.end[what]:
            found.append(f"{what}: {end[what]} instead of {expected.end[what]}")
    if scenario in ANY_WAY:
        return found
    told = platform.told()
    if missing := expected.told - told:
        found.append(f"not told: {dict(missing)}")
    more = told - expected.told
    if more and not (may_be_told_twice(fault) and set(more) <= set(expected.told) and more.total() == 1):
        found.append(f"told besides: {dict(more)}")
    return found


def may_be_told_twice(fault: Fault) -> bool:
    """It is looked up, sent, and recorded: where that is cut short or takes too long, one message may come again."""
    what, call = (fault.call.operation, fault.kind), (fault.call.service, fault.call.operation)
    sent = what[0] == "Publish" and what[1] in ("killed after", "not answered", "closed", "late", "asked twice")
    return sent or call == ("dynamodb", "PutItem") or what == ("GetItem", "late")
