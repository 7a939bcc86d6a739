"""What an attempt that failed leaves is finished by the next; what projects have is not changed under them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, cast

import pytest

from local_aws import LocalAWS
from servicecatalog import bucket, install, kept, uninstall
from servicecatalog.account import KEY_ALIAS, STACK, Account
from servicecatalog.stack import Stack
from tests.servicecatalog.conftest import Administrator, account_of

TRUST = {"Version": "2012-10-17", "Statement": []}
OWN = {"ArtifactBucket": "ours", "BuildBucket": "builds", "KmsKey": "arn:of-our-key"}


def take(administrator: Administrator, role: str) -> None:
    """The name of a role that the platform wants."""
    administrator.client("iam").create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(TRUST))


def keys(administrator: Administrator) -> set[str]:
    """That cost something."""
    kms = administrator.client("kms")
    found = [kms.describe_key(KeyId=one["KeyId"])["KeyMetadata"] for one in kms.list_keys()["Keys"]]
    return {one["Arn"] for one in found if one["KeyManager"] == "CUSTOMER" and one["KeyState"] == "Enabled"}


def has_everything(administrator: Administrator, name: str) -> None:
    s3 = administrator.client("s3")
    (statement,) = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])["Statement"]
    assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    assert all(s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"].values())
    assert len(s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]) == 2


@pytest.mark.slow
def test_after_an_attempt_that_failed_the_next_makes_everything_and_no_second_key(administrator: Administrator) -> None:
    take(administrator, "modelyard-seed-us-east-1")
    assert "modelyard-seed-us-east-1" in administrator.run("install", "--yes", fails=True).stderr
    buckets = account_of(administrator).buckets.values()
    there = {one["Name"] for one in administrator.client("s3").list_buckets()["Buckets"]}
    assert not there & set(buckets)
    administrator.client("iam").delete_role(RoleName="modelyard-seed-us-east-1")
    administrator.run("install", "--yes")
    assert administrator.status == "CREATE_COMPLETE"
    for name in buckets:
        has_everything(administrator, name)
    assert keys(administrator) == {administrator.outputs["KmsKey"]} == {account_of(administrator).kept_key()}
    assert "Nothing to do" in administrator.run("install", "--yes").stdout


@pytest.mark.slow
def test_a_stack_that_is_deleted_under_projects_keeps_what_deletes_them() -> None:
    """As `aws cloudformation delete-stack` and `terraform destroy` do it, which look at nothing."""
    with LocalAWS(enforce_iam=True) as aws:
        delete_under_projects(Administrator(aws, "123456789012"))


def delete_under_projects(administrator: Administrator) -> None:
    administrator.run("install", "--yes")
    iam, cloudformation = administrator.client("iam"), administrator.client("cloudformation")
    boundary = administrator.outputs["ProjectBoundary"]
    iam.create_role(
        RoleName="churn-pipeline-dev", AssumeRolePolicyDocument=json.dumps(TRUST), PermissionsBoundary=boundary
    )
    platform = Stack(cloudformation, STACK, lambda _line: None)
    cloudformation.delete_stack(StackName=STACK)
    assert platform.at_rest() == "DELETE_FAILED"
    functions = {one["FunctionName"] for one in administrator.client("lambda").list_functions()["Functions"]}
    assert {"modelyard-seed", "modelyard-deploy"} <= functions
    assert iam.get_role_policy(RoleName="modelyard-seed-us-east-1", PolicyName="projects")
    sources = administrator.client("lambda").list_event_source_mappings(FunctionName="modelyard-deploy")
    assert len(sources["EventSourceMappings"]) == 1

    iam.delete_role(RoleName="churn-pipeline-dev")
    platform.delete()
    assert platform.describe() is None


def test_a_bucket_that_was_left_half_made_is_finished_once(administrator: Administrator) -> None:
    account, s3 = account_of(administrator), administrator.client("s3")
    name = account.build_bucket
    s3.create_bucket(Bucket=name)
    assert bucket.finish(account, name, bucket.LIFECYCLES["ExistingBuildBucket"])
    has_everything(administrator, name)
    assert not bucket.finish(account, name, bucket.LIFECYCLES["ExistingBuildBucket"])


def test_what_somebody_gave_a_bucket_since_stays(administrator: Administrator) -> None:
    account, s3 = account_of(administrator), administrator.client("s3")
    name = account.artifact_bucket
    s3.create_bucket(Bucket=name)
    theirs = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject", "Resource": f"arn:aws:s3:::{name}/*"}
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [theirs]}))
    rule = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 7}}
    s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [rule]})
    assert not bucket.finish(account, name, bucket.LIFECYCLES["ExistingArtifactBucket"])
    assert json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])["Statement"] == [theirs]
    assert [one["ID"] for one in s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]] == ["theirs"]
    assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"


def test_a_key_whose_alias_was_never_made_is_found_by_it_afterwards(administrator: Administrator) -> None:
    """On AWS another resource fails while the key is being made; here the alias comes after what fails."""
    take(administrator, "taken")
    cloudformation, account = administrator.client("cloudformation"), account_of(administrator)
    resources = {
        "PlatformKey": {
            "Type": "AWS::KMS::Key",
            "DeletionPolicy": "Retain",
            "Properties": {"KeyPolicy": policy(account)},
        },
        "Role": {
            "Type": "AWS::IAM::Role",
            "DependsOn": "PlatformKey",
            "Properties": {"RoleName": "taken", "AssumeRolePolicyDocument": TRUST},
        },
    }
    cloudformation.create_stack(
        StackName=STACK, TemplateBody=json.dumps({"Resources": resources}), Capabilities=["CAPABILITY_NAMED_IAM"]
    )
    platform = Stack(cloudformation, STACK, lambda _line: None)
    (key,) = wait_for_keys(administrator)
    assert platform.at_rest() == "ROLLBACK_COMPLETE"
    kept.name_key(account, platform)
    assert account.kept_key() == key
    kept.name_key(account, platform)  # which an interrupted attempt may do again


def wait_for_keys(administrator: Administrator) -> set[str]:
    for _ in range(100):
        if found := keys(administrator):
            return found
        time.sleep(0.05)
    raise AssertionError("no key was made")


def policy(account: Account) -> dict[str, Any]:
    root = {"AWS": f"arn:aws:iam::{account.number}:root"}
    statement = {"Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def test_a_stack_that_is_there_has_left_nothing(administrator: Administrator) -> None:
    account = account_of(administrator)
    kept.name_key(account, Stack(administrator.client("cloudformation"), STACK, lambda _line: None))
    assert KEY_ALIAS not in {one["AliasName"] for one in administrator.client("kms").list_aliases()["Aliases"]}


class Installed:
    """A platform's stack."""

    def __init__(self, **parameters: str) -> None:
        self.parameters, self.outputs = parameters, OWN


def refusals(
    monkeypatch: pytest.MonkeyPatch, projects: list[str], given: Mapping[str, str], **before: str
) -> list[str]:
    monkeypatch.setattr(uninstall, "projects", lambda _account: projects)
    return kept.changes_under_projects(cast(Account, None), given, cast(Stack, Installed(**before)))


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ("ExistingArtifactBucket", ("--existing-artifact-bucket", "is ours", "--artifact-buckets another")),
        ("ExistingBuildBucket", ("--existing-build-bucket", "is builds")),
        ("ExistingKmsKeyArn", ("--existing-kms-key-arn", "is arn:of-our-key")),
    ],
)
def test_no_other_bucket_or_key_is_named_under_projects(
    monkeypatch: pytest.MonkeyPatch, parameter: str, words: tuple[str, ...]
) -> None:
    projects = [f"{name} (Service Catalog)" for name in ("a", "b", "c", "d", "e")]
    (fault,) = refusals(monkeypatch, projects, {parameter: "another"})
    assert all(word in fault for word in (*words, "a (Service Catalog)", "and 2 more"))
    assert refusals(monkeypatch, [], {parameter: "another"}) == []
    # It was named before, and now it is not: a new one would be made.
    assert len(refusals(monkeypatch, projects, {parameter: ""}, **{parameter: "another"})) == 1


@pytest.mark.parametrize("given", [{}, {"ExistingArtifactBucket": "ours"}, {"ExistingArtifactBucket": ""}])
def test_what_stays_as_it_is_may_be_named(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    assert refusals(monkeypatch, ["churn"], given) == []


def test_the_templates_repository_has_another_name_on_github_alone() -> None:
    another = {"TemplateRepository": "modelyard-template-eu"}
    assert install._repository_faults(another, {"GitHost": "github"}) == []
    assert "--template-repository" in install._repository_faults(another, {})[0]
    assert install._repository_faults({"TemplateRepository": "modelyard-template"}, {}) == []
