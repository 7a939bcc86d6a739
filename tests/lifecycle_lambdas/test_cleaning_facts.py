"""What cleaning up takes for a version's own, what its role may delete, when it runs, and which branches there are."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from lifecycle_lambdas import cleaning_facts
from lifecycle_lambdas.branches import Hosts
from lifecycle_lambdas.commit_hosts import GitHub, NotTold
from lifecycle_lambdas.handlers.clean import hosts_of
from tests.servicecatalog import template

# --- which data is a version's own


@pytest.mark.parametrize(
    ("uri", "own"),
    [
        ("s3://b/churn/feature/churn-feature-x/1/train/job/output/model.tar.gz", True),
        ("s3://b/churn/feature/churn-feature-x/tune/job/output/model.tar.gz", True),
        ("s3://b/churn/feature/churn-feature-x/1/evaluate/evaluation/", True),
        ("s3://b/churn/feature/", False),
        ("s3://b/churn/feature/churn-feature-x/", False),
        ("s3://b/churn/feature/evaluate/", False),
        ("s3://b/churn/dev/churn-dev/1/train/job/output/model.tar.gz", False),
        ("s3://b/churn2/feature/churn-feature-x/1/train/model.tar.gz", False),
        ("s3://b/churn/feature/churn-feature-x/../../dev/model.tar.gz", False),
        ("s3://b/churn/feature/churn-feature-x/1/data.parquet", False),
        ("churn/feature/churn-feature-x/1/train/model.tar.gz", False),
    ],
)
def test_only_model_archives_and_evaluations_where_pipelines_write_them_are_a_versions_own(uri, own):
    assert cleaning_facts.is_its_own("churn", uri) == own


PLATFORM = Path(__file__).parents[2] / "servicecatalog" / "platform.yaml"
BUCKETS = ("modelyard-artifacts-111122223333-eu-west-1", "theirs", "team-a-artifacts")


@pytest.fixture(scope="module")
def platform() -> dict[str, Any]:
    """The template's resources, of a platform with several buckets."""
    values = {"CodeBucket": "code", "CodeKey": "a.zip", "SeedCodeKey": "b.zip", "ArtifactBuckets": "theirs,team-*"}
    return template.resolved(template.load(PLATFORM), values)


def test_a_run_that_begins_more_than_an_hour_late_is_dropped(platform):
    rule = platform["CleanRule"]["Properties"]
    assert rule["ScheduleExpression"] == "rate(1 hour)"
    assert [target["RetryPolicy"]["MaximumEventAgeInSeconds"] for target in rule["Targets"]] == [3600]
    assert platform["CleanInvokeConfig"]["Properties"]["MaximumEventAgeInSeconds"] == 3600


@pytest.fixture(scope="module")
def may_delete(platform: dict[str, Any]) -> list[str]:
    """The ARNs of the objects that the function's role may delete."""
    policy = template.policies(platform)["CleanPolicy"]
    return [
        resource
        for statement in policy["Statement"]
        if statement["Action"] == "s3:DeleteObject"
        for resource in statement["Resource"]
    ]


@pytest.mark.parametrize(
    ("key", "may"),
    [
        ("churn/feature/churn-feature-x/1/train/job/output/model.tar.gz", True),
        ("churn/feature/churn-feature-x/tune/job/output/model.tar.gz", True),
        ("churn/feature/churn-feature-x/1/model.tar.gz", True),
        ("churn/feature/churn-feature-x/1/evaluate/evaluation/report.html", True),
        ("churn/feature/churn-feature-x/1/evaluate/evaluation/slices/by_country.json", True),
        ("churn/feature/churn-feature-x/1/preprocess/train/part-0.parquet", False),
        ("churn/feature/deployment/0a1b2c/feature.yaml", False),
        ("churn/feature/cleaning/20261121T220000Z.json", False),
        ("churn/dev/churn-dev/1/train/job/output/model.tar.gz", False),
        ("churn/prod/churn-prod/1/evaluate/evaluation/report.html", False),
    ],
)
def test_the_function_may_delete_what_is_a_versions_own_and_little_else(may_delete, key, may):
    for bucket in BUCKETS:
        assert any(fnmatchcase(f"arn:aws:s3:::{bucket}/{key}", pattern) for pattern in may_delete) == may
    folder = f"s3://b/{key.rpartition('/')[0]}/" if "/evaluate/" in key else f"s3://b/{key}"
    assert cleaning_facts.is_its_own("churn", folder) == may


# --- branches


class Pages(GitHub):
    """GitHub with so many branches."""

    def __init__(self, names: list[str], broken: bool = False) -> None:
        self._names, self._broken = names, broken

    def get(self, repository: str, path: str) -> Any:
        page = int(path.rpartition("=")[2])
        if self._broken and page > 1:
            raise NotTold("GitHub answered 502")
        return [{"name": name} for name in self._names[(page - 1) * 100 : page * 100]]


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
def test_all_pages_of_branches_are_read(count):
    names = [f"feature-{number}" for number in range(count)]
    assert Hosts(None, Pages(names)).branches("https://github.com/acme/churn") == frozenset(names)


def test_branches_of_which_a_page_is_missing_are_not_known():
    names = [f"feature-{number}" for number in range(150)]
    assert Hosts(None, Pages(names, broken=True)).branches("https://github.com/acme/churn") is None


def test_more_branches_than_are_read_are_not_known():
    assert Hosts(None, Pages(["dev"] * 10_001)).branches("https://github.com/acme/churn") is None


def test_a_repository_that_is_not_there_has_no_known_branches(clients):
    hosts = hosts_of(clients, {"GIT_BASE_URL": "none", "GIT_TOKEN_SECRET_ARN": "none"})
    assert hosts.branches("arn:aws:codecommit:us-east-1:123456789012:gone") is None
    assert hosts.branches("arn:aws:codecommit:eu-west-1:123456789012:elsewhere") is None
    assert hosts.branches("https://github.com/acme/churn") is None
