"""What is made when, on simulated services: nothing of a creation outlives the stack that gave it up."""

from __future__ import annotations

import copy
import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from seed_lambda import dispatch
from seed_lambda.errors import InvalidProperties, NameTaken, SeedError, Superseded
from seed_lambda.hosts.codecommit import LARGEST
from seed_lambda.settings import Settings
from tests.seed_lambda import small_template
from tests.seed_lambda.fakes import SETTINGS, context
from tests.seed_lambda.requests import OTHER_STACK, STACK, TEMPLATE, VERSION, event, project
from tests.seed_lambda.simulated_aws import CODE_BUCKET, SimulatedAWS, installed, refusal

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
    with pytest.raises(SeedError, match="ARTIFACT_BUCKETS, DATA_BUCKETS, PLATFORM_BUCKETS"):
        Settings.from_environment(variables)
    told = variables | {"ARTIFACT_BUCKETS": "own,team-*, other", "PLATFORM_BUCKETS": "templates,builds"}
    found = Settings.from_environment(told | {"DATA_BUCKETS": "a, b-*"})
    assert found.artifact_buckets == ("own", "team-*", "other")
    assert (found.data_buckets, found.platform_buckets) == (("a", "b-*"), ("templates", "builds"))
    assert Settings.from_environment(told | {"DATA_BUCKETS": "none"}).data_buckets == ()


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


@pytest.mark.parametrize("properties", [project(), TEMPLATE], ids=["project", "template"])
def test_what_the_host_does_not_take_is_said_before_anything_is_made(
    properties: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # a template of its own is unpacked there
    packed = io.BytesIO(small_template.ARCHIVE)
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("{{cookiecutter.project}}/large.bin", b"\0" * (LARGEST + 1))
    aws, settings = installed(archive=packed.getvalue()), replace(SETTINGS, code_bucket=CODE_BUCKET)
    with pytest.raises(SeedError, match=r"the file .*large\.bin has 6,000,001 bytes, and CodeCommit takes at most"):
        dispatch.run(context(aws, settings=settings, request=event("Create", properties)))
    assert (aws.repositories, aws.groups) == ({}, {})


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


@pytest.mark.parametrize("begins", ["UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS"])
def test_an_update_that_the_stack_takes_back_meanwhile_changes_nothing_more(aws: SimulatedAWS, begins: str) -> None:
    """Its resource says UPDATE_IN_PROGRESS all the time: the roll-back's own request is waited for. And the other way
    round, when the stack makes another update at once."""
    create(aws)
    old, new = project(InitialContent="empty"), project(InitialContent="empty", Scenario="advanced", Description="new")
    if begins == "UPDATE_ROLLBACK_IN_PROGRESS":
        old, new = new, old
    aws.resource_status, aws.stack_status = "UPDATE_IN_PROGRESS", begins
    around = aws.around

    def other(service: str, operation: str, call: Callable[[], Any]) -> Any:
        answer = around(service, operation, call)
        if operation == "GetRepository":
            others = {"UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS"} - {begins}
            aws.stack_status = others.pop()
        return answer

    aws.around = other
    before = copy.deepcopy((aws.groups, aws.repositories, aws.tags))
    with pytest.raises(Superseded, match="nothing more was done"):
        dispatch.run(context(aws, request=event("Update", new, OldResourceProperties=old)))
    assert (aws.groups, aws.repositories, aws.tags) == before


def test_an_update_that_comes_again_when_it_was_taken_back_changes_nothing(aws: SimulatedAWS) -> None:
    create(aws)
    old, new = project(InitialContent="empty"), project(InitialContent="empty", Scenario="advanced")
    aws.resource_status, aws.stack_status = "UPDATE_COMPLETE", "UPDATE_ROLLBACK_IN_PROGRESS"
    with pytest.raises(Superseded, match="does not wait for this Update any more"):
        dispatch.run(context(aws, request=event("Update", new, OldResourceProperties=old)))
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


def test_an_update_says_what_a_repository_lacks_that_is_there(aws: SimulatedAWS) -> None:
    create(aws)
    before = copy.deepcopy(aws.groups)
    (there,) = [arn for arn in aws.tags if ":codecommit:" in arn]
    aws.tags[there].clear()
    old, new = project(InitialContent="empty"), project(InitialContent="empty", Scenario="advanced")
    aws.resource_status = aws.stack_status = "UPDATE_IN_PROGRESS"
    with pytest.raises(SeedError, match=rf"nothing was changed\. If it is, let its tag modelyard:stack be {STACK}"):
        dispatch.run(context(aws, request=event("Update", new, OldResourceProperties=old)))
    assert aws.groups == before
    aws.tags[there]["modelyard:stack"] = STACK
    dispatch.run(context(aws, request=event("Update", new, OldResourceProperties=old)))
    assert "churn-champion" in aws.groups


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


@pytest.mark.parametrize("begun", ["before", "after"])
def test_an_update_is_taken_back_while_its_host_cannot_be_asked(aws: SimulatedAWS, begun: str) -> None:
    """The host is denied before the update has done anything, or when all of it was done. Data stays as it was."""
    aws.stack_outputs = before = create(aws)
    old, new = project(InitialContent="empty"), project(InitialContent="empty", Scenario="advanced", Description="new")
    forward, back = (event("Update", to, OldResourceProperties=since) for to, since in ((new, old), (old, new)))

    def denied(service: str, operation: str, call: Callable[[], Any]) -> Any:
        if service == "codecommit":
            raise refusal(operation, "AccessDeniedException", "not authorized")
        return call()

    aws.resource_status = aws.stack_status = "UPDATE_IN_PROGRESS"
    if begun == "after":
        dispatch.run(context(aws, request=forward))
    aws.around = denied
    if begun == "before":
        with pytest.raises(ClientError, match="not authorized"):
            dispatch.run(context(aws, request=forward))
    aws.stack_status = "UPDATE_ROLLBACK_IN_PROGRESS"
    lines: list[str] = []
    assert dispatch.run(context(aws, request=back, lines=lines)) == before
    assert set(aws.groups) == {"churn-feature", "churn-dev", "churn-prod"}
    assert "the Git host could not be asked" in "".join(lines)
    del aws.stack_outputs["OidcSubject"]  # a stack that does not know all of it cannot say what was
    with pytest.raises(ClientError, match="not authorized"):
        dispatch.run(context(aws, request=back))


def test_of_an_update_that_is_taken_back_no_group_stays_but_one_with_versions(aws: SimulatedAWS) -> None:
    create(aws)
    old, new = project(InitialContent="empty"), project(InitialContent="empty", Scenario="advanced")
    aws.resource_status = aws.stack_status = "UPDATE_IN_PROGRESS"
    dispatch.run(context(aws, request=event("Update", new, OldResourceProperties=old)))
    refused = iter(["Throttling", "AccessDeniedException"])

    def refuse(service: str, operation: str, call: Callable[[], Any]) -> Any:
        if operation == "DeleteModelPackageGroup" and (code := next(refused, None)):
            raise refusal(operation, code, "no")
        return call()

    aws.around, aws.stack_status = refuse, "UPDATE_ROLLBACK_IN_PROGRESS"
    request = event("Update", old, OldResourceProperties=new)
    with pytest.raises(ClientError, match="AccessDenied"):  # throttled, it was tried again
        dispatch.run(context(aws, request=request))
    dispatch.run(context(aws, request=request))
    assert set(aws.groups) == {"churn-feature", "churn-dev", "churn-prod"}


def test_calls_of_a_creation_do_not_grow_with_the_number_of_projects(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def calls(others: int) -> list[tuple[str, str]]:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("cold")))  # no template is unpacked there
        aws = installed(archive=small_template.ARCHIVE)
        for number in range(others):
            for name in (f"churn-{number}", f"my-churn-dev-{number}"):
                aws.create_repository(name, {"modelyard:stack": OTHER_STACK})
                for stage in ("feature", "dev", "prod"):
                    aws.create_model_package_group(f"{name}-{stage}", [])
        aws.most_groups = 1000
        settings = replace(SETTINGS, code_bucket=CODE_BUCKET)
        dispatch.run(context(aws, settings=settings, request=event("Create", project())))
        return aws.calls

    assert calls(40) == calls(0)


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
