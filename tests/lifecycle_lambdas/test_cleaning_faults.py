"""Cleaning up beside the functions that deploy: whatever fails and whoever decides meanwhile, what should serve does.

In memory (simulated_platform.py), with the ten minutes' looks at everything between two runs of cleaning up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from lifecycle_lambdas import approvals
from lifecycle_lambdas.branches import Hosts
from lifecycle_lambdas.commit_hosts import GitHub
from lifecycle_lambdas.handlers import clean
from tests import proof
from tests.lifecycle_lambdas.fault_matrix import ALL_AT_ONCE
from tests.lifecycle_lambdas.simulated_aws import Answer, Request
from tests.lifecycle_lambdas.simulated_platform import (
    READ_KINDS,
    WRITE_KINDS,
    Call,
    Fault,
    Killed,
    Platform,
    PlatformAWS,
    refused,
)

HOUR, DAY = 3600, 86400
CLEANING_SECONDS = 900  # that the function has (servicecatalog/platform.yaml)
POLICY = {**ALL_AT_ONCE, "clean": {"versions_after_days": 30}}
PARKED = {
    "nightly": {**ALL_AT_ONCE, "park": {"at": "nightly", "hour": 20}},
    "idle": {**ALL_AT_ONCE, "park": {"idle_hours": 3}},
}
HOSTS = Hosts(None, GitHub("", None, ""))


@dataclass
class CleanedAWS(PlatformAWS):
    """With what only cleaning up calls. Nobody asks an endpoint anything, and there are no pipelines."""

    def list_model_packages(self, *given: Any, CreationTimeAfter: datetime | None = None, **request: Any) -> Answer:
        found = super().list_model_packages(*given, **request)["ModelPackageSummaryList"]
        after = [one for one in found if CreationTimeAfter is None or one["CreationTime"] > CreationTimeAfter]
        return {"ModelPackageSummaryList": after}

    def delete_model_package(self, ModelPackageName: str) -> None:
        self._get(self.packages, ModelPackageName, "model package")
        del self.packages[ModelPackageName]

    def list_pipelines(self, PipelineNamePrefix: str) -> Answer:
        return {"PipelineSummaries": []}

    def list_objects_v2(self, Bucket: str, Prefix: str) -> Answer:
        found = {key: body for (bucket, key), body in self.objects.items() if bucket == Bucket}
        return {"Contents": [{"Key": key, "Size": len(found[key])} for key in sorted(found) if key.startswith(Prefix)]}

    def delete_objects(self, Bucket: str, Delete: Answer) -> Answer:
        for each in Delete["Objects"]:
            self.objects.pop((Bucket, each["Key"]), None)
        return {}

    def get_metric_statistics(self, **request: Any) -> Answer:
        return {"Datapoints": []}

    def send_message(self, QueueUrl: str, MessageBody: str) -> Answer:
        return self.send_message_batch(QueueUrl, [{"Id": "1", "MessageBody": MessageBody}])


class FeaturePlatform(Platform):
    """The project's stage feature, and the function that cleans up."""

    stage = "feature"
    endpoint = "churn-feature"
    aws_type = CleanedAWS

    def register(self, stage_file: dict[str, Any] | str) -> str:
        """With an evaluation where pipelines write them."""
        package = super().register(stage_file)
        folder = f"churn/feature/churn-feature-x/{self.versions}/evaluate/evaluation/"
        self.aws.objects["artifacts", f"{folder}report.html"] = b"1"
        metadata = self.aws.packages[package]["CustomerMetadataProperties"]
        metadata["report"] = f"s3://artifacts/{folder}report.html"
        return package

    def serve(self, *stage_files: dict[str, Any]) -> list[str]:
        """Versions of these stage files, deployed one after the other."""
        versions = []
        for stage_file in stage_files:
            versions.append(self.register(stage_file))
            self.approve(versions[-1])
            self.run()
        return versions

    def away(self, seconds: float) -> None:
        """So long nothing happens, not even by schedule: what would be thousands of looks at what stays the same."""
        self.clock.seconds += seconds
        self.next_minute, self.next_ten = self.clock.seconds + 60, self.clock.seconds + 600

    def clean(self) -> None:
        """What the schedule does every hour; what fails is not tried again before."""
        time = self.clock.now().replace(microsecond=0).isoformat()
        try:
            with self._working(CLEANING_SECONDS):
                clean.respond(self.context(), HOSTS, {"time": time})
        except (Killed, RuntimeError, ClientError, BotoCoreError):
            pass

    def evaluations(self) -> list[str]:
        return sorted(key for _, key in self.aws.objects if "/evaluate/" in key)


# --- what goes


def with_an_old_version(fault: Fault | None = None) -> tuple[FeaturePlatform, list[str]]:
    """Three versions were approved, the last one serves; the first one is old, and people know that it will go."""
    platform = FeaturePlatform(fault)
    with platform.installed():
        versions = platform.serve(POLICY, POLICY, POLICY)
        platform.away(40 * DAY)
        platform.clean()
        platform.away(25 * HOUR)
    return platform, versions


def clean_up(platform: FeaturePlatform) -> None:
    """A run, the next hour's and the next day's, each with more than two looks at everything after it."""
    with platform.installed():
        platform.begin()
        for pause in (HOUR, DAY, 0):
            platform.clean()
            platform.pass_time(1300)
            platform.away(pause)
        platform.run()


@cache
def calls_of_cleaning() -> tuple[Call, ...]:
    platform, _ = with_an_old_version()
    with platform.installed():
        platform.begin()
        platform.clean()
    return tuple(platform.aws.made)


def faults(calls: tuple[Call, ...]) -> list[Fault]:
    return [Fault(call, kind) for call in calls for kind in (READ_KINDS if call.reads else WRITE_KINDS)]


def counts(found: list[Fault]) -> dict[str, Any]:
    """Of what was tried: cases, by operation, by kind."""
    operations = Counter(f"{fault.call.service}: {fault.call.operation}" for fault in found)
    return {"cases": len(found), "kinds": Counter(fault.kind for fault in found), "operations": operations}


def check_removal(fault: Fault | None) -> None:
    """Only the old version goes, and nothing else is ever deployed, however the run is disturbed."""
    platform, (old, before, serving) = with_an_old_version(fault)
    clean_up(platform)
    what = f"{fault}: {platform.entries}"
    assert platform.aws.hit == (fault is not None), what
    assert (platform.serves, len(platform.deployments)) == (serving, 3), what
    assert set(platform.aws.packages) == {before, serving}, what
    assert [key.split("/")[3] for key in platform.evaluations()] == ["2", "3"], what
    assert not approvals.known(platform.entries)[old].is_approved, what
    assert platform.faults == [], what
    assert any("were cleaned up" in subject for subject in platform.told()), what


@pytest.mark.parametrize("kind", WRITE_KINDS)
def test_a_version_whose_deletion_goes_wrong_serves_never_again(kind):
    check_removal(Fault(Call("sagemaker", "DeleteModelPackage", 1), kind))


def test_cleaning_up_undisturbed_is_the_controllers_own_doing():
    check_removal(None)
    platform, (old, *_) = with_an_old_version()
    clean_up(platform)
    assert [one.source for one in platform.entries if one.package_arn == old] == ["controller", "event"]


@pytest.mark.slow
def test_whatever_call_of_cleaning_up_fails_in_whatever_way_the_end_is_the_same():
    found = faults(calls_of_cleaning())
    for fault in found:
        check_removal(fault)
    proof.keep("cleaning_up", counts(found))


def test_a_version_that_may_not_be_deleted_stays_and_serves_never_again_by_itself():
    platform, (old, *_, serving) = with_an_old_version()

    def denied(service: str, operation: str, request: Request) -> Exception | None:
        return refused(operation, "AccessDeniedException", 400) if operation == "DeleteModelPackage" else None

    platform.aws.standing = denied
    clean_up(platform)
    assert (platform.serves, len(platform.deployments)) == (serving, 3)
    assert old in platform.aws.packages
    assert approvals.known(platform.entries)[old].is_approved
    assert len(platform.evaluations()) == 3


# --- parking


def to_be_parked(park: str, fault: Fault | None = None) -> tuple[FeaturePlatform, str, str]:
    """What serves is due to be parked, and people know; another version waits for its approval."""
    platform, stage_file = FeaturePlatform(fault), PARKED[park]
    with platform.installed():
        (serving,) = platform.serve(stage_file)
        another = platform.register(stage_file)
        platform.run()
        platform.clean()
        platform.away(DAY + 20 * HOUR + 900 - platform.clock.seconds % DAY)  # 20:15
        platform.run()
        platform.outage_allowed = True
        platform.begin()
    return platform, serving, another


def at_call(platform: FeaturePlatform, nth: int, then: Callable[[], None]) -> None:
    """Before the n-th call of the run, from 0, which takes some seconds."""
    left = nth

    def count(service: str, operation: str, request: Request) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            then()
            platform.clock.seconds += 5

    platform.aws.standing = count


def approve(platform: FeaturePlatform, version: str) -> None:
    """What is approved already is rejected first: to approve it once more is no event."""
    if platform.aws.packages[version]["ModelApprovalStatus"] == "Approved":
        platform.reject(version)
    platform.approve(version)


@cache
def calls_of_parking(park: str) -> tuple[Call, ...]:
    platform, _, _ = to_be_parked(park)
    with platform.installed():
        platform.clean()
        calls = tuple(platform.aws.made)
        platform.run()
    assert platform.serves is None
    return calls


@pytest.mark.parametrize("park", PARKED)
@pytest.mark.parametrize("which", ["another version", "the version that serves"])
def test_an_approval_while_the_endpoint_is_being_parked_serves(park, which):
    for nth in range(len(calls_of_parking(park))):
        platform, serving, another = to_be_parked(park)
        wanted = another if which == "another version" else serving
        with platform.installed():
            at_call(platform, nth, partial(approve, platform, wanted))
            platform.clean()
            platform.run()
            platform.pass_time(1300)
        assert platform.serves == wanted, f"approved before call {nth}: {platform.entries}"


@pytest.mark.slow
@pytest.mark.parametrize("park", PARKED)
def test_whatever_call_of_parking_fails_in_whatever_way_the_next_run_has_parked_the_endpoint(park):
    found = faults(calls_of_parking(park))
    for fault in found:
        platform, _, _ = to_be_parked(park, fault)
        with platform.installed():
            for _ in range(2):
                platform.clean()
                platform.pass_time(1300)
                platform.away(HOUR)
            platform.run()
        what = f"{fault}: {platform.entries}"
        assert platform.aws.hit, what
        assert platform.serves is None, what
        assert [one.kind for one in platform.entries] == ["park", "approve"], what
        assert any("parked" in subject for subject in platform.told()), what
    proof.keep(f"cleaning_parking_{park}", counts(found))
