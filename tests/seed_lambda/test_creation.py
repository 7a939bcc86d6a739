"""What is made when, on simulated services: nothing of a creation outlives the stack that gave it up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from seed_lambda import dispatch
from seed_lambda.errors import InvalidProperties, NameTaken, SeedError, Superseded
from seed_lambda.settings import Settings
from tests.seed_lambda.fakes import SETTINGS, context
from tests.seed_lambda.requests import OTHER_STACK, STACK, TEMPLATE, VERSION, event, project
from tests.seed_lambda.simulated_aws import SimulatedAWS, installed

MAKING = [
    "CreateRepository",
    "CreateModelPackageGroup",
]


@pytest.fixture
def aws() -> SimulatedAWS:
    """With a published template; projects are pushed to by their owners, so that nothing is rendered."""
    simulated = SimulatedAWS()
    simulated.parameters |= {f"/modelyard/template/{name}": name for name in ("version", "url", "commit")}
    return simulated


def create(aws: SimulatedAWS, **changes: Any) -> dict[str, str]:
    request = event("Create", project(InitialContent="empty", **changes))
    return dispatch.run(context(aws, settings=SETTINGS, request=request))


def given_up(aws: SimulatedAWS, after: str, resource: str, stack: str) -> None:
    """The stack gives the creation up while a call is being done."""

    def around(service: str, operation: str, call: Callable[[], Any]) -> Any:
        answer = call()
        if operation == after:
            aws.resource_status, aws.stack_status = resource, stack
        return answer

    aws.around = around


@pytest.mark.parametrize(
    ("bucket", "taken"),
    [
        ("modelyard-artifacts-123456789012-eu-central-1", True),
        ("team-b-artifacts", True),
        ("modelyard-templates-123456789012-eu-central-1", False),
        ("company-data", False),
        ("team-b-artifacts-2", False),
    ],
)
def test_artifacts_are_kept_in_the_platforms_buckets_alone(aws: SimulatedAWS, bucket: str, taken: bool) -> None:
    """What people's policies let them write is as far as the bucket that a project names."""
    known = ("modelyard-artifacts-123456789012-eu-central-1", "team-*-artifacts")
    settings = replace(SETTINGS, artifact_buckets=known)
    request = event("Create", project(InitialContent="empty", ArtifactBucket=bucket))
    if taken:
        assert dispatch.run(context(aws, settings=settings, request=request))
        return
    with pytest.raises(InvalidProperties, match=f"ArtifactBucket '{bucket}'.*--artifact-buckets"):
        dispatch.run(context(aws, settings=settings, request=request))
    assert (aws.repositories, aws.groups) == ({}, {})


def test_the_buckets_are_the_environments() -> None:
    variables = {
        "GIT_HOST": "codecommit",
        "CODE_BUCKET": "code",
        "QUEUE_URL": "https://queue",
        "AWS_REGION": "eu-west-1",
    }
    with pytest.raises(SeedError, match="ARTIFACT_BUCKETS"):
        Settings.from_environment(variables)
    found = Settings.from_environment(variables | {"ARTIFACT_BUCKETS": "own,team-*, other"})
    assert found.artifact_buckets == ("own", "team-*", "other")


@pytest.mark.parametrize("after", ["CreateRepository", "CreateModelPackageGroup"])
@pytest.mark.parametrize(
    ("resource", "stack"), [("DELETE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"), ("DELETE_COMPLETE", "ROLLBACK_COMPLETE")]
)
def test_what_was_made_while_the_stack_gave_up_is_taken_back(
    aws: SimulatedAWS, after: str, resource: str, stack: str
) -> None:
    given_up(aws, after, resource, stack)
    with pytest.raises(Superseded):
        create(aws)
    assert (aws.repositories, aws.groups) == ({}, {})


def test_a_creation_that_comes_too_late_takes_nothing_back(aws: SimulatedAWS) -> None:
    """Lambda may deliver an event twice, also when the project was made, used and deleted but for its repository."""
    create(aws)
    aws.resource_status, aws.stack_status = "DELETE_COMPLETE", "DELETE_COMPLETE"
    aws.groups.clear()
    with pytest.raises(Superseded):
        create(aws)
    assert list(aws.repositories) == ["churn"]


def test_a_second_delivery_of_the_same_creation_changes_nothing(aws: SimulatedAWS) -> None:
    first = create(aws)
    before = len(aws.calls)
    assert create(aws) == first
    changing = [operation for _, operation in aws.calls[before:] if operation in MAKING]
    assert changing == []


def test_every_name_that_is_taken_is_said_at_once(aws: SimulatedAWS) -> None:
    create(aws)
    for tags in aws.tags.values():
        tags["modelyard:stack"] = OTHER_STACK
    with pytest.raises(
        NameTaken, match=r"the repository churn .*; these model package groups .*churn-feature, churn-dev"
    ):
        create(aws)


def test_a_full_account_is_said_with_what_to_do(aws: SimulatedAWS) -> None:
    aws.most_groups = 2
    with pytest.raises(SeedError, match=r"churn-prod cannot be made: .*quota .*Delete projects .*Service Quotas"):
        create(aws)


def test_a_new_project_cannot_have_been_pushed_to(aws: SimulatedAWS) -> None:
    request = event("Create", project(InitialContent="pushed"))
    with pytest.raises(SeedError, match="InitialContent 'pushed'"):
        dispatch.run(context(aws, request=request))
    assert aws.repositories == {}


def test_the_groups_carry_the_mark_from_the_call_that_makes_them(aws: SimulatedAWS) -> None:
    create(aws)
    assert "AddTags" not in {operation for _, operation in aws.calls}
    assert {tags["modelyard:stack"] for tags in aws.tags.values()} == {STACK}


def test_an_update_that_added_groups_is_taken_back_with_them(aws: SimulatedAWS) -> None:
    create(aws)
    old, new = project(InitialContent="empty"), project(InitialContent="empty", Scenario="advanced")
    aws.resource_status = aws.stack_status = "UPDATE_IN_PROGRESS"

    def update(to: dict[str, Any], since: dict[str, Any]) -> None:
        request = event("Update", to, OldResourceProperties=since)
        dispatch.run(context(aws, request=request))

    update(new, old)
    assert set(aws.groups) == {f"churn-{stage}" for stage in ("feature", "dev", "prod", "champion", "challenger")}
    aws.stack_status = "UPDATE_ROLLBACK_IN_PROGRESS"
    update(old, new)
    assert set(aws.groups) == {"churn-feature", "churn-dev", "churn-prod"}


def test_an_update_of_a_repository_that_is_gone_fails_and_is_taken_back(aws: SimulatedAWS) -> None:
    create(aws)
    aws.repositories.clear()
    old, new = project(InitialContent="empty"), project(InitialContent="empty", Description="Another")
    aws.resource_status = aws.stack_status = "UPDATE_IN_PROGRESS"
    with pytest.raises(SeedError, match="the repository churn of this project is gone"):
        dispatch.run(context(aws, request=event("Update", new, OldResourceProperties=old)))
    aws.stack_status = "UPDATE_ROLLBACK_IN_PROGRESS"
    data = dispatch.run(context(aws, request=event("Update", old, OldResourceProperties=new)))
    assert (data["OidcSubject"], data["Groups"]) == ("none", "churn-feature,churn-dev,churn-prod")


def test_a_template_that_cannot_be_published_leaves_a_stack_that_takes_changes() -> None:
    """The platform's new host refuses; taking that back asks it nothing: the next installation can correct it."""
    aws, settings = installed(token=""), replace(SETTINGS, git_host="github")
    old, new = TEMPLATE, TEMPLATE | {"TemplateVersion": "2.0.0-0123456789ab"}
    aws.resource_status = aws.stack_status = "UPDATE_IN_PROGRESS"
    with pytest.raises(SeedError, match="the token's secret"):
        dispatch.run(context(aws, settings=settings, request=event("Update", new, OldResourceProperties=old)))
    aws.stack_status = "UPDATE_ROLLBACK_IN_PROGRESS"
    data = dispatch.run(context(aws, settings=settings, request=event("Update", old, OldResourceProperties=new)))
    assert data == {
        "CloneUrl": aws.parameters["/modelyard/template/url"],
        "Commit": aws.parameters["/modelyard/template/commit"],
        "TemplateVersion": VERSION,
    }


def test_only_a_new_version_of_the_template_must_be_there(aws: SimulatedAWS) -> None:
    create(aws)
    aws.resource_status = aws.stack_status = "UPDATE_IN_PROGRESS"
    aws.parameters.clear()
    old = project(InitialContent="empty", TemplateVersion="0.9")
    same = project(InitialContent="empty", TemplateVersion="0.9", Description="Another")
    assert (
        dispatch.run(context(aws, request=event("Update", same, OldResourceProperties=old)))["TemplateVersion"] == "0.9"
    )
    other = project(InitialContent="empty", TemplateVersion="0.8")
    with pytest.raises(SeedError, match="no published template"):
        dispatch.run(context(aws, request=event("Update", other, OldResourceProperties=old)))


def test_a_group_that_has_versions_by_then_stays(aws: SimulatedAWS) -> None:
    create(aws)
    old, new = project(InitialContent="empty"), project(InitialContent="empty", Scenario="advanced")
    aws.resource_status = aws.stack_status = "UPDATE_IN_PROGRESS"
    dispatch.run(context(aws, request=event("Update", new, OldResourceProperties=old)))
    aws.groups["churn-champion"].append("arn:aws:sagemaker:eu-central-1:123456789012:model-package/churn-champion/1")
    aws.stack_status = "UPDATE_ROLLBACK_IN_PROGRESS"
    dispatch.run(context(aws, request=event("Update", old, OldResourceProperties=new)))
    assert set(aws.groups) == {"churn-feature", "churn-dev", "churn-prod", "churn-champion"}


def test_a_group_that_names_no_repository_is_tagged_by_the_next_update(aws: SimulatedAWS) -> None:
    """A project that an older platform has made."""
    create(aws)
    groups = [arn for arn in aws.tags if ":model-package-group/" in arn]
    named = {aws.tags[arn].pop("modelyard:repository") for arn in groups}
    assert len(named) == 1
    properties = project(InitialContent="empty")
    request = event("Update", properties | {"Description": "another"}, OldResourceProperties=properties)
    aws.resource_status = aws.stack_status = "UPDATE_IN_PROGRESS"
    dispatch.run(context(aws, settings=SETTINGS, request=request))
    assert {aws.tags[arn]["modelyard:repository"] for arn in groups} == named
