"""Which further buckets a project may read, in a creation and in an update."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from seed_lambda import dispatch
from seed_lambda.buckets import DATA_BUCKETS_LENGTH, FOR_EACH, KEYS, data_faults
from seed_lambda.errors import InvalidProperties, SeedError
from seed_lambda.properties import ProjectProperties
from tests.seed_lambda.fakes import SETTINGS, context
from tests.seed_lambda.requests import ACCOUNT, REGION, event, project
from tests.seed_lambda.simulated_aws import SimulatedAWS

OWN = f"modelyard-artifacts-{ACCOUNT}-{REGION}"
THEIRS = replace(
    SETTINGS,
    artifact_buckets=(OWN, "team-*-artifacts"),
    data_buckets=("company-data", "lake-*", "batch"),
    platform_buckets=("modelyard-templates", "modelyard-builds"),
)
# Whatever an administrator says that projects may read.
ANY = replace(THEIRS, data_buckets=("*",))
OF_OTHERS = [OWN, "team-b-artifacts", "modelyard-templates", "modelyard-builds", SETTINGS.code_bucket]


def keys(number: int) -> str:
    return ",".join(f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{each}" for each in range(number))


def faults(new: dict[str, Any], old: dict[str, Any] | None = None, settings: Any = THEIRS) -> list[str]:
    before = None if old is None else ProjectProperties.parse(project(**old))
    return data_faults(ProjectProperties.parse(project(**new)), before, settings)


@pytest.fixture
def aws() -> SimulatedAWS:
    simulated = SimulatedAWS()
    simulated.parameters |= {f"/modelyard/template/{name}": name for name in ("version", "url", "commit")}
    return simulated


def run(aws: SimulatedAWS, request: dict[str, Any], settings: Any = THEIRS) -> dict[str, str]:
    return dispatch.run(context(aws, settings=settings, request=request))


@pytest.mark.parametrize("settings", [THEIRS, ANY], ids=["named", "any"])
@pytest.mark.parametrize("bucket", OF_OTHERS)
def test_a_bucket_in_which_others_things_lie_is_read_by_no_project(
    aws: SimulatedAWS, bucket: str, settings: Any
) -> None:
    """The boundary lets every project's roles into these, each below its own prefix: in a whole bucket are all."""
    named = f"company-data, {bucket}"
    with pytest.raises(InvalidProperties, match=f"DataBuckets '{bucket}'.* take it out of DataBuckets"):
        run(aws, event("Create", project(InitialContent="empty", DataBuckets=named)), settings)
    assert (aws.repositories, aws.groups) == ({}, {})
    old = project(InitialContent="empty")
    run(aws, event("Create", old), settings)
    aws.resource_status, aws.stack_status = "UPDATE_IN_PROGRESS", "UPDATE_IN_PROGRESS"
    calls = len(aws.calls)
    for before in (old, old | {"DataBuckets": bucket}):  # one that has it already has to let it go
        request = event("Update", old | {"DataBuckets": named, "Scenario": "advanced"}, OldResourceProperties=before)
        with pytest.raises(SeedError, match=f"DataBuckets '{bucket}'.* take it out of DataBuckets"):
            run(aws, request, settings)
    looked = {operation for _, operation in aws.calls[calls:]}
    assert looked <= {"DescribeStacks", "DescribeStackResource"}


def test_a_projects_own_bucket_is_one_of_these() -> None:
    """It may be another one than the platform has by now."""
    (fault,) = faults({"ArtifactBucket": "older", "DataBuckets": "older"}, settings=ANY)
    assert fault.startswith("DataBuckets 'older'")


def test_what_the_platform_lets_projects_read_is_taken(aws: SimulatedAWS) -> None:
    taken = project(InitialContent="empty", DataBuckets="company-data,lake-2,batch", KmsKeyArns=keys(KEYS))
    run(aws, event("Create", taken))
    assert list(aws.repositories) == ["churn"]


def test_what_it_does_not_know_is_refused_with_what_to_do() -> None:
    (fault,) = faults({"DataBuckets": "company-data,elsewhere"})
    assert "'elsewhere': projects of this platform read data from company-data, lake-*, batch alone" in fault
    assert "--data-buckets" in fault
    (fault,) = faults({"DataBuckets": "elsewhere"}, settings=replace(THEIRS, data_buckets=()))
    assert "read no further buckets" in fault


def test_what_a_project_has_already_does_not_stop_its_updates() -> None:
    """Its platform knows the bucket no more, or took more of them than it does now."""
    many = ",".join(f"lake-{number:030}" for number in range(20))
    has = {"DataBuckets": f"elsewhere,{many}", "KmsKeyArns": keys(KEYS + 2)}
    assert faults(has | {"Description": "another"}, has) == []
    assert faults(has | {"DataBuckets": many, "KmsKeyArns": keys(KEYS + 1)}, has) == []
    (fault,) = faults({"DataBuckets": "elsewhere,nowhere"}, {"DataBuckets": "elsewhere"})
    assert fault.startswith("DataBuckets 'nowhere'")


def test_of_a_product_that_did_not_tell_what_there_is_counts_as_had() -> None:
    old: dict[str, Any] = {"DataBuckets": None, "KmsKeyArns": None}
    assert faults({"DataBuckets": "elsewhere", "KmsKeyArns": keys(KEYS + 1)}, old) == []
    (fault,) = faults({"DataBuckets": f"elsewhere,{OWN}"}, old)
    assert fault.startswith(f"DataBuckets '{OWN}'")
    assert faults(old) == faults(old, old) == []


def test_more_than_the_policies_take_is_refused_before_the_repository_is_made() -> None:
    """tests/servicecatalog/test_product.py shows that so much fits."""
    fits = "lake-" + "x" * (DATA_BUCKETS_LENGTH // 2 - FOR_EACH - 5)
    assert faults({"DataBuckets": f"{fits},{fits}", "KmsKeyArns": keys(KEYS)}) == []
    found = faults({"DataBuckets": f"{fits},{fits}x", "KmsKeyArns": keys(KEYS + 1)})
    assert [fault.partition(":")[0] for fault in found] == ["DataBuckets", "KmsKeyArns"]
    assert f"room for {DATA_BUCKETS_LENGTH} characters" in found[0]
    assert f"room for {KEYS} keys" in found[1]


@pytest.mark.parametrize("names", ["team-*", "a/b", "Upper", "x,*"])
def test_a_name_is_one_buckets(names: str) -> None:
    with pytest.raises(InvalidProperties, match=r"DataBuckets .*names of S3 buckets"):
        ProjectProperties.parse(project(DataBuckets=names))


def test_taking_back_an_update_that_was_refused_is_not(aws: SimulatedAWS) -> None:
    """The groups of the other scenario that are there were not made by it."""
    old = project(InitialContent="empty")
    run(aws, event("Create", old))
    aws.resource_status, aws.stack_status = "UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS"
    refused = old | {"DataBuckets": OWN}
    assert run(aws, event("Update", old, OldResourceProperties=refused))["RepositoryName"] == "churn"
    assert len(aws.groups) == 3
