"""The project in AWS and the repository's remote: what is asked of SageMaker, and how git is connected."""

from __future__ import annotations

import os
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.template.conftest import Template, git
from tests.template.stubbed_account import Account

ROLE = "arn:aws:iam::123456789012:role/modelyard/modelyard-launch-us-east-1"
URL = "https://s3.us-east-1.amazonaws.com/templates/projects/modelyard-1.yaml"
STACK = "arn:aws:cloudformation:us-east-1:123456789012:stack/SP-churn/1"
BUCKET = "modelyard-artifacts-123456789012-us-east-1"
CLONE_URL = "https://git-codecommit.us-east-1.amazonaws.com/v1/repos/churn"


@pytest.fixture(scope="module")
def settings(pipeline: SimpleNamespace) -> Any:
    loaded = pipeline.settings.load_settings()
    named = loaded.aws.model_copy(update={"role": "churn-pipeline-{stage}"})
    return loaded.model_copy(update={"aws": named})


def described(status: str, **more: Any) -> dict[str, Any]:
    provider = {"TemplateName": "modelyard", "TemplateURL": URL, "StackDetail": {"Id": STACK, "StatusMessage": "so"}}
    return {
        "ProjectArn": "arn:aws:sagemaker:us-east-1:123456789012:project/churn",
        "ProjectName": "churn",
        "ProjectId": "p-0123456789ab",
        "ProjectStatus": status,
        "CreationTime": datetime.now(UTC),
        "TemplateProviderDetails": [{"CfnTemplateProviderDetail": provider}],
        **more,
    }


def account_is(account: Account) -> None:
    account.stub("sts").add_response("get_caller_identity", {"Account": "123456789012"})


# --- the project


def test_the_platform_is_found_by_its_parameters(pipeline: SimpleNamespace, account: Account) -> None:
    values = {
        "/modelyard/product/template-url": URL,
        "/modelyard/launch-role": ROLE,
        "/modelyard/artifact-bucket": BUCKET,
        "/modelyard/git/host": "github",
    }
    found = [{"Name": name, "Value": value} for name, value in values.items()]
    account.stub("ssm").add_response("get_parameters", {"Parameters": found}, {"Names": list(values)})
    assert pipeline.project.find_platform(account) == pipeline.project.Platform(URL, ROLE, BUCKET, "github")


def test_without_a_platform_it_says_who_installs_one(pipeline: SimpleNamespace, account: Account) -> None:
    missing = {"Parameters": [], "InvalidParameters": ["/modelyard/launch-role"]}
    account.stub("ssm").add_response("get_parameters", missing)
    account_is(account)
    with pytest.raises(pipeline.InputError, match="have an administrator run `make install-platform`") as error:
        pipeline.project.find_platform(account)
    assert "in account 123456789012, Region us-east-1" in str(error.value)
    assert "correct aws.region in settings.yaml, or sign in to its account" in str(error.value)


def test_the_product_is_asked_for_what_the_repository_says_of_itself(pipeline: SimpleNamespace, settings: Any) -> None:
    asked = pipeline.project.product_parameters(settings, ["dev", "feature", "prod"], "codecommit", {})
    assert asked == {
        "Description": settings.description,
        "ProblemType": "regression",
        "Scenario": "baseline",
        "GitHost": "codecommit",
        "ArtifactBucket": "churn-artifacts",
    }
    chosen = {"Repository": "churn-model"}
    advanced = pipeline.project.product_parameters(settings, ["champion", "challenger", "dev"], "github", chosen)
    assert (advanced["Scenario"], advanced["GitHost"]) == ("advanced", "github")
    assert advanced["Repository"] == "churn-model"


@pytest.mark.parametrize(
    ("changes", "role", "message"),
    [
        ({"project": "Churn"}, "churn-pipeline-{stage}", "makes projects in lower case alone, and this one is 'Churn'"),
        ({}, "other-pipeline", "write 'churn-pipeline-{stage}' and commit it"),
    ],
)
def test_what_the_product_cannot_make_is_said_before_it_is_asked(
    pipeline: SimpleNamespace, settings: Any, changes: dict[str, str], role: str, message: str
) -> None:
    wrong = settings.model_copy(update={**changes, "aws": settings.aws.model_copy(update={"role": role})})
    with pytest.raises(pipeline.InputError, match=message):
        pipeline.project.product_parameters(wrong, ["prod"], "codecommit", {})


def bucket_answers(account: Account, status: int | None, region: str | None) -> None:
    """S3's answer to HEAD: where the bucket is it tells whoever asks."""
    account_is(account)
    s3 = account.stub("s3")
    if status is None:
        asked = {"Bucket": "churn-artifacts", "ExpectedBucketOwner": "123456789012"}
        s3.add_response("head_bucket", {"BucketRegion": region} if region else {}, asked)
    else:
        s3.add_client_error("head_bucket", str(status), http_status_code=status)
        headers = {"x-amz-bucket-region": region} if region else {}
        s3._queue[-1]["response"][1]["ResponseMetadata"]["HTTPHeaders"] = headers  # the stub takes none


@pytest.mark.parametrize(
    ("status", "region", "message"),
    [
        (404, None, "there is no bucket 'churn-artifacts'. The platform's is"),
        (None, "eu-west-1", "churn-artifacts is in eu-west-1, and the project in us-east-1. The platform's is"),
        (403, "eu-west-1", "churn-artifacts is in eu-west-1"),
        (301, "eu-west-1", "churn-artifacts is in eu-west-1"),
    ],
)
def test_a_bucket_that_will_not_do_is_said_with_the_platforms(
    pipeline: SimpleNamespace, account: Account, settings: Any, status: int | None, region: str | None, message: str
) -> None:
    platform = pipeline.project.Platform(URL, ROLE, BUCKET, "github")
    bucket_answers(account, status, region)
    with pytest.raises(pipeline.InputError, match=message) as error:
        pipeline.project.check_bucket(account, settings, platform, print)
    assert f"The platform's is {BUCKET}" in str(error.value)
    assert "git fetch . dev:prod" in str(error.value)


def test_a_bucket_that_may_not_be_looked_at_passes_and_is_said(
    pipeline: SimpleNamespace, account: Account, settings: Any
) -> None:
    said: list[str] = []
    for bucket in (BUCKET, "churn-artifacts"):
        bucket_answers(account, 403, "us-east-1")
        platform = pipeline.project.Platform(URL, ROLE, bucket, "github")
        pipeline.project.check_bucket(account, settings, platform, said.append)
    (warning,) = said  # the platform's own is for its projects' roles
    assert "churn-artifacts is another account's than 123456789012, or you may not look at it" in warning
    bucket_answers(account, None, None)
    pipeline.project.check_bucket(account, settings, platform, said.append)
    bucket_answers(account, 503, None)
    with pytest.raises(ClientError):
        pipeline.project.check_bucket(account, settings, platform, said.append)
    assert len(said) == 1


def test_a_project_whose_update_failed_is_gone_on_with(
    pipeline: SimpleNamespace, account: Account, settings: Any
) -> None:
    """The push was told to the platform, which could not protect the branches; now it can."""
    platform = pipeline.project.Platform(URL, ROLE, BUCKET, "github")
    account.stub("sagemaker").add_response("describe_project", described("UpdateFailed"))
    found = pipeline.cli._made_project(account, settings, platform, {})
    assert (found.status, found.stack) == ("UpdateFailed", STACK)


def test_a_project_that_could_not_be_deleted_is_said(
    pipeline: SimpleNamespace, account: Account, settings: Any
) -> None:
    platform = pipeline.project.Platform(URL, ROLE, BUCKET, "github")
    account.stub("sagemaker").add_response("describe_project", described("DeleteFailed"))
    account.stub("cloudformation").add_response("describe_stack_events", {"StackEvents": []})
    with pytest.raises(pipeline.InputError, match=r"(?s)project churn is DeleteFailed:\n  so.*then delete it again"):
        pipeline.cli._made_project(account, settings, platform, {})


def test_a_project_is_created_empty_with_the_launch_role_and_a_name_of_this_clones(
    pipeline: SimpleNamespace, account: Account, settings: Any, repository: Path
) -> None:
    sent: list[dict[str, Any]] = []
    sagemaker = account.stub("sagemaker")
    sagemaker.client.meta.events.register("provide-client-params.sagemaker", lambda params, **_: sent.append(params))
    arn = "arn:aws:sagemaker:us-east-1:123456789012:project/churn"
    sagemaker.add_response("create_project", {"ProjectArn": arn, "ProjectId": "p-0123456789ab"})
    sagemaker.add_response("update_project", {"ProjectArn": arn})
    platform = pipeline.project.Platform(URL, ROLE, BUCKET, "github")
    asked = {"Scenario": "baseline", "Description": "So"}
    assert pipeline.project.create(account, settings, platform, asked, repository) == "p-0123456789ab"
    mark = pipeline.project.mark(repository)
    made = pipeline.project.Project("churn", "p-0123456789ab", "CreateCompleted", STACK, "", mark)
    pipeline.project.update(account, made, platform, asked, "pushed")
    (created,) = sent[0]["TemplateProviders"]
    (updated,) = sent[1]["TemplateProvidersToUpdate"]
    template = {"TemplateName": mark, "TemplateURL": URL}
    assert re.fullmatch("modelyard-clone-[0-9a-f]{16}", mark)
    parameters = [{"Key": "Scenario", "Value": "baseline"}, {"Key": "Description", "Value": "So"}]
    assert created["CfnTemplateProvider"] == {
        **template,
        "RoleARN": ROLE,
        "Parameters": [*parameters, {"Key": "InitialContent", "Value": "empty"}],
    }
    assert updated["CfnTemplateProvider"] == {
        **template,
        "Parameters": [*parameters, {"Key": "InitialContent", "Value": "pushed"}],
    }
    assert pipeline.project.make_mark(repository) == mark


def test_waiting_reports_each_status_once(pipeline: SimpleNamespace, account: Account) -> None:
    sagemaker = account.stub("sagemaker")
    said: list[str] = []
    pauses: list[float] = []
    for status in ("Pending", "CreateInProgress", "CreateInProgress", "CreateCompleted"):
        sagemaker.add_response("describe_project", described(status), {"ProjectName": "churn"})
    found = pipeline.project.wait(account, "churn", said.append, pauses.append)
    assert found == pipeline.project.Project("churn", "p-0123456789ab", "CreateCompleted", STACK, "so", "modelyard")
    assert said == [f"project churn: {status}" for status in ("Pending", "CreateInProgress", "CreateCompleted")]
    assert pauses == sorted(pauses)
    assert len(pauses) == 3


def test_one_that_is_not_shown_yet_is_waited_for_and_not_for_ever(pipeline: SimpleNamespace, account: Account) -> None:
    sagemaker = account.stub("sagemaker")
    missing = ("describe_project", "ValidationException", "Project churn does not exist.")
    pauses: list[float] = []
    sagemaker.add_client_error(*missing)
    sagemaker.add_response("describe_project", described("DeleteCompleted", ProjectId="p-before"))
    sagemaker.add_response("describe_project", described("CreateCompleted"))
    found = pipeline.project.wait(account, "churn", print, pauses.append, made="p-0123456789ab")
    assert (found.status, len(pauses)) == ("CreateCompleted", 2)
    for _ in range(61):
        sagemaker.add_client_error(*missing)
    assert pipeline.project.wait(account, "churn", print, pauses.append, made="p-0123456789ab") is None


@pytest.mark.parametrize("answer", ["missing", "deleted"])
def test_a_project_that_was_deleted_is_none(pipeline: SimpleNamespace, account: Account, answer: str) -> None:
    sagemaker = account.stub("sagemaker")
    if answer == "missing":
        sagemaker.add_client_error("describe_project", "ValidationException", "Project churn does not exist.")
    else:
        sagemaker.add_response("describe_project", described("DeleteCompleted"))
    assert pipeline.project.describe(account, "churn") is None


def test_why_it_failed_is_told_in_the_words_of_what_failed_first(pipeline: SimpleNamespace, account: Account) -> None:
    events = [
        ("AWS::CloudFormation::Stack", "SP-churn", "ROLLBACK_IN_PROGRESS", "The following resource(s) failed"),
        ("AWS::IAM::Role", "CiRole", "CREATE_FAILED", "Resource creation cancelled"),
        ("Custom::ModelyardProject", "Seed", "CREATE_FAILED", "the repository churn is somebody else's"),
    ]
    answer = [
        {
            "StackId": STACK,
            "EventId": str(number),
            "StackName": "SP-churn",
            "Timestamp": datetime.now(UTC),
            "ResourceType": kind,
            "LogicalResourceId": name,
            "ResourceStatus": status,
            "ResourceStatusReason": why,
        }
        for number, (kind, name, status, why) in enumerate(events)
    ]
    account.stub("cloudformation").add_response("describe_stack_events", {"StackEvents": answer}, {"StackName": STACK})
    failed = pipeline.project.Project("churn", "p-1", "CreateFailed", STACK, "ROLLBACK_COMPLETE")
    assert pipeline.project.reason(account, failed) == "Seed: the repository churn is somebody else's"


# --- the remote


@pytest.fixture
def repository(template: Template, tmp_path: Path) -> Path:
    return template.generate(tmp_path / "work", project="churn", problem_type="regression")


def test_the_ci_file_says_where_the_repository_is_to_be(
    pipeline: SimpleNamespace, template: Template, repository: Path, tmp_path: Path
) -> None:
    other = template.generate(tmp_path / "other", project="churn", git_host="github")
    assert pipeline.project.git_host(repository) == "codecommit"
    assert pipeline.project.git_host(other) == "github"
    (repository / "buildspec.yml").unlink()
    with pytest.raises(pipeline.InputError, match="name it with --git-host"):
        pipeline.project.git_host(repository)
    (repository / ".gitlab-ci.yml").touch()
    with pytest.raises(pipeline.InputError, match="on GitLab the platform makes neither repository nor roles"):
        pipeline.project.git_host(repository)


def test_prod_and_dev_are_pushed_to_the_new_remote(pipeline: SimpleNamespace, repository: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "host.git"], check=True)
    url = (tmp_path / "host.git").as_uri()
    pipeline.remote.check(repository)
    for _ in range(2):  # again: nothing more to do
        pipeline.remote.connect(url, "github", repository)
        pipeline.remote.push(repository)
    heads = git(tmp_path / "host.git", "for-each-ref", "--format", "%(refname) %(objectname)").splitlines()
    commit = git(repository, "rev-parse", "HEAD")
    assert heads == [f"refs/heads/dev {commit}", f"refs/heads/prod {commit}"]
    assert git(repository, "rev-parse", "--abbrev-ref", "dev@{upstream}") == "origin/dev"


@pytest.mark.parametrize(
    "address",
    [
        "git@github.com:acme/churn.git",
        "git@GitHub.com:/acme/churn",
        "ssh://git@github.com:22/acme/churn.git/",
        "https://ada:token@github.com/acme/churn",
    ],
)
def test_who_pushes_over_ssh_goes_on_after_an_interruption(
    pipeline: SimpleNamespace, repository: Path, address: str
) -> None:
    clone_url = "https://github.com/acme/churn.git"
    pipeline.remote.connect(clone_url, "github", repository)
    git(repository, "remote", "set-url", "origin", address)
    assert pipeline.remote.leads_to(clone_url, repository)
    pipeline.remote.connect(clone_url, "github", repository)
    assert pipeline.remote.url(repository) == address
    for other in ("https://github.com/acme/churn2.git", "https://github.example.com/acme/churn.git"):
        assert not pipeline.remote.leads_to(other, repository)
        with pytest.raises(pipeline.InputError, match="git remote rename origin old") as caught:
            pipeline.remote.connect(other, "github", repository)
        assert "token" not in str(caught.value)


def test_an_address_that_git_rewrites_is_the_same_still(pipeline: SimpleNamespace, repository: Path) -> None:
    git(repository, "config", "url.git@github.com:.insteadOf", "https://github.com/")
    git(repository, "config", "url.git@other.example.com:.insteadOf", "https://git.example.com/")
    for clone_url in ("https://github.com/acme/churn.git", "https://git.example.com/acme/churn.git"):
        for _ in range(2):
            pipeline.remote.connect(clone_url, "github", repository)
            assert pipeline.remote.leads_to(clone_url, repository)
        assert pipeline.remote.url(repository) == clone_url
        git(repository, "remote", "remove", "origin")
    assert not pipeline.remote.leads_to(clone_url, repository)


def test_codecommits_credentials_are_for_this_address_alone(
    pipeline: SimpleNamespace, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no keychain of this person's is asked for them before, or told them: they are good for minutes."""
    for name in ("aws", "keychain"):
        (tmp_path / name).write_text(
            f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/asked\necho username=it\necho password={name}\n'
        )
        (tmp_path / name).chmod(0o755)
    mine, host = tmp_path / ".gitconfig", CLONE_URL.partition("/v1")[0]
    for section in ("credential", f"credential.{host}"):
        git(repository, "config", "--file", str(mine), f"{section}.helper", str(tmp_path / "keychain"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def asked(operation: str, url: str) -> tuple[str, str]:
        """What git answers, and whom it asked."""
        (tmp_path / "asked").write_text("")
        done = subprocess.run(
            ["git", "credential", operation],
            cwd=repository,
            input=f"url={url}\nusername=it\n{'' if operation == 'fill' else 'password=x'}\n\n",
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout, (tmp_path / "asked").read_text()

    for _ in range(2):
        pipeline.remote.connect(CLONE_URL, "codecommit", repository)
        answer, whom = asked("fill", CLONE_URL)
        assert "path=v1/repos/churn\n" in answer
        assert answer.endswith("password=aws\n")
        assert whom == "aws codecommit credential-helper get --ignore-host-check\n"
        assert asked("approve", CLONE_URL)[1] == "aws codecommit credential-helper store --ignore-host-check\n"
    assert asked("fill", f"{host}/v1/repos/other")[1] == "keychain get\n"
    assert asked("approve", "https://github.com/acme/churn.git")[1] == "keychain store\n"


def test_a_remote_of_another_making_is_left_alone(pipeline: SimpleNamespace, repository: Path) -> None:
    git(repository, "remote", "add", "origin", "https://example.com/mine.git")
    with pytest.raises(pipeline.InputError, match="git remote rename origin old"):
        pipeline.remote.connect(CLONE_URL, "codecommit", repository)
    assert pipeline.remote.url(repository) == "https://example.com/mine.git"


def test_a_remote_is_renamed_before_a_project_is_made(pipeline: SimpleNamespace, repository: Path) -> None:
    pipeline.remote.check_unused(repository)
    git(repository, "remote", "add", "origin", "https://example.com/mine.git")
    with pytest.raises(pipeline.InputError, match="git remote rename origin old"):
        pipeline.remote.check_unused(repository)


def test_codecommit_needs_the_aws_cli(
    pipeline: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    pipeline.remote.check_sign_in("github")
    with pytest.raises(pipeline.InputError, match="the AWS CLI is not on the PATH"):
        pipeline.remote.check_sign_in("codecommit")
    (tmp_path / "aws").touch(mode=0o755)
    pipeline.remote.check_sign_in("codecommit")


def test_a_push_that_fails_says_how_to_go_on(pipeline: SimpleNamespace, repository: Path, tmp_path: Path) -> None:
    pipeline.remote.connect((tmp_path / "nowhere.git").as_uri(), "github", repository)
    with pytest.raises(pipeline.InputError, match="then run register-project again: it goes on here"):
        pipeline.remote.push(repository)


def test_what_no_git_host_takes_is_said_before_anything_is_made(
    pipeline: SimpleNamespace, repository: Path, tmp_path: Path
) -> None:
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "More")
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth", "1", "--no-single-branch", repository.as_uri(), str(shallow))
    with pytest.raises(pipeline.InputError, match=r"a shallow clone, .*git fetch --unshallow"):
        pipeline.remote.check(shallow)
    git(shallow, "fetch", "--quiet", "--unshallow")
    git(shallow, "branch", "prod", "origin/prod")
    pipeline.remote.check(shallow)


def test_a_repository_of_another_format_is_told_how_to_become_one(
    pipeline: SimpleNamespace, repository: Path, tmp_path: Path
) -> None:
    other = tmp_path / "work" / "other"
    git(tmp_path, "init", "--quiet", "--object-format=sha256", str(other))
    (other / "file").write_text("1\n")
    git(other, "add", "--all")
    git(other, "commit", "--quiet", "--message", "One")
    git(other, "branch", "prod")
    git(other, "checkout", "--quiet", "-b", "dev")
    with pytest.raises(pipeline.InputError, match="object format is sha256, which the Git hosts do not take") as caught:
        pipeline.remote.check(other)
    commands = "".join(str(caught.value).partition(":\n")[2:]).replace("FOLDER", "same")
    subprocess.run(["sh", "-ec", commands], cwd=other, check=True, capture_output=True)
    pipeline.remote.check(tmp_path / "work" / "same")
    assert (tmp_path / "work" / "same" / "file").read_text() == "1\n"


def test_without_a_branch_checked_out_both_are_pushed_all_the_same(
    pipeline: SimpleNamespace, repository: Path, tmp_path: Path
) -> None:
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "host.git"], check=True)
    git(repository, "checkout", "--quiet", "--detach")
    pipeline.remote.check(repository)
    pipeline.remote.connect((tmp_path / "host.git").as_uri(), "github", repository)
    pipeline.remote.push(repository)
    heads = git(tmp_path / "host.git", "for-each-ref", "--format", "%(refname)").splitlines()
    assert heads == ["refs/heads/dev", "refs/heads/prod"]


def test_a_missing_branch_is_said(pipeline: SimpleNamespace, repository: Path) -> None:
    git(repository, "branch", "--quiet", "-D", "prod")
    with pytest.raises(pipeline.InputError, match="there is no branch prod here: make it with git branch prod"):
        pipeline.remote.check(repository)
