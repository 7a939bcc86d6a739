"""The project in AWS and the repository's remote: what is asked of SageMaker, and how git is connected."""

from __future__ import annotations

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


# --- the project


def test_the_platform_is_found_by_its_parameters(pipeline: SimpleNamespace, account: Account) -> None:
    values = {
        "/modelyard/product/template-url": URL,
        "/modelyard/launch-role": ROLE,
        "/modelyard/artifact-bucket": BUCKET,
    }
    found = [{"Name": name, "Value": value} for name, value in values.items()]
    account.stub("ssm").add_response("get_parameters", {"Parameters": found}, {"Names": list(values)})
    assert pipeline.project.find_platform(account) == pipeline.project.Platform(URL, ROLE, BUCKET)


def test_without_a_platform_it_says_who_installs_one(pipeline: SimpleNamespace, account: Account) -> None:
    missing = {"Parameters": [], "InvalidParameters": ["/modelyard/launch-role"]}
    account.stub("ssm").add_response("get_parameters", missing)
    with pytest.raises(pipeline.InputError, match="have an administrator run `make install-platform`"):
        pipeline.project.find_platform(account)


def test_the_product_is_asked_for_what_the_repository_says_of_itself(pipeline: SimpleNamespace, settings: Any) -> None:
    asked = pipeline.project.product_parameters(settings, ["dev", "feature", "prod"], "codecommit", None)
    assert asked == {
        "Description": settings.description,
        "ProblemType": "regression",
        "Scenario": "baseline",
        "GitHost": "codecommit",
        "ArtifactBucket": "churn-artifacts",
    }
    advanced = pipeline.project.product_parameters(settings, ["champion", "challenger", "dev"], "github", "churn-model")
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
        pipeline.project.product_parameters(wrong, ["prod"], "codecommit", None)


def test_a_bucket_that_is_not_there_is_said_with_the_platforms(
    pipeline: SimpleNamespace, account: Account, settings: Any
) -> None:
    platform = pipeline.project.Platform(URL, ROLE, BUCKET)
    s3 = account.stub("s3")
    s3.add_client_error("head_bucket", "404", http_status_code=404)
    s3.add_client_error("head_bucket", "403", http_status_code=403)
    with pytest.raises(pipeline.InputError, match=f"no bucket 'churn-artifacts'. The platform's is {BUCKET}"):
        pipeline.project.check_bucket(account, settings, platform)
    pipeline.project.check_bucket(account, settings, platform)  # not for this person's eyes: there it is
    s3.add_client_error("head_bucket", "503", http_status_code=503)
    with pytest.raises(ClientError):
        pipeline.project.check_bucket(account, settings, platform)


def test_a_project_whose_update_failed_is_gone_on_with(
    pipeline: SimpleNamespace, account: Account, settings: Any
) -> None:
    """The push was told to the platform, which could not protect the branches; now it can."""
    platform = pipeline.project.Platform(URL, ROLE, BUCKET)
    account.stub("sagemaker").add_response("describe_project", described("UpdateFailed"))
    found = pipeline.cli._made_project(account, settings, platform, {})
    assert (found.status, found.stack) == ("UpdateFailed", STACK)


def test_a_project_that_could_not_be_deleted_is_said(
    pipeline: SimpleNamespace, account: Account, settings: Any
) -> None:
    platform = pipeline.project.Platform(URL, ROLE, BUCKET)
    account.stub("sagemaker").add_response("describe_project", described("DeleteFailed"))
    account.stub("cloudformation").add_response("describe_stack_events", {"StackEvents": []})
    with pytest.raises(pipeline.InputError, match="project churn is DeleteFailed:\n  so"):
        pipeline.cli._made_project(account, settings, platform, {})


def test_a_project_is_created_empty_with_the_launch_role(
    pipeline: SimpleNamespace, account: Account, settings: Any
) -> None:
    sent: list[dict[str, Any]] = []
    sagemaker = account.stub("sagemaker")
    sagemaker.client.meta.events.register("provide-client-params.sagemaker", lambda params, **_: sent.append(params))
    arn = "arn:aws:sagemaker:us-east-1:123456789012:project/churn"
    sagemaker.add_response("create_project", {"ProjectArn": arn, "ProjectId": "p-0123456789ab"})
    sagemaker.add_response("update_project", {"ProjectArn": arn})
    platform = pipeline.project.Platform(URL, ROLE, BUCKET)
    pipeline.project.create(account, settings, platform, {"Scenario": "baseline"})
    pipeline.project.update(account, settings, platform, {"Scenario": "baseline"})
    (created,) = sent[0]["TemplateProviders"]
    (updated,) = sent[1]["TemplateProvidersToUpdate"]
    template = {"TemplateName": "modelyard", "TemplateURL": URL}
    assert created["CfnTemplateProvider"] == {
        **template,
        "RoleARN": ROLE,
        "Parameters": [{"Key": "Scenario", "Value": "baseline"}, {"Key": "InitialContent", "Value": "empty"}],
    }
    assert updated["CfnTemplateProvider"] == {
        **template,
        "Parameters": [{"Key": "Scenario", "Value": "baseline"}, {"Key": "InitialContent", "Value": "pushed"}],
    }


def test_waiting_reports_each_status_once(pipeline: SimpleNamespace, account: Account) -> None:
    sagemaker = account.stub("sagemaker")
    said: list[str] = []
    pauses: list[float] = []
    for status in ("Pending", "CreateInProgress", "CreateInProgress", "CreateCompleted"):
        sagemaker.add_response("describe_project", described(status), {"ProjectName": "churn"})
    found = pipeline.project.wait(account, "churn", said.append, pauses.append)
    assert found == pipeline.project.Project("churn", "p-0123456789ab", "CreateCompleted", STACK, "so")
    assert said == [f"project churn: {status}" for status in ("Pending", "CreateInProgress", "CreateCompleted")]
    assert pauses == sorted(pauses)
    assert len(pauses) == 3


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


def test_a_project_of_studios_own_is_not_taken_over(pipeline: SimpleNamespace, account: Account) -> None:
    found = pipeline.project.Project("churn", "p-1", "CreateCompleted", None, "")
    with pytest.raises(pipeline.InputError, match="Where this is a clone of its"):
        pipeline.project.stack_of(account, found)


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


def test_codecommits_credentials_are_for_this_address_alone(pipeline: SimpleNamespace, repository: Path) -> None:
    pipeline.remote.connect(CLONE_URL, "codecommit", repository)
    section = f"credential.{CLONE_URL}"
    helper = git(repository, "config", "--local", "--get", f"{section}.helper")
    assert "aws codecommit credential-helper" in helper
    assert git(repository, "config", "--local", "--get", f"{section}.useHttpPath") == "true"
    assert "credential.helper" not in git(repository, "config", "--local", "--list")


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


def test_a_missing_branch_is_said(pipeline: SimpleNamespace, repository: Path) -> None:
    git(repository, "branch", "--quiet", "-D", "prod")
    with pytest.raises(pipeline.InputError, match="there is no branch prod here: make it with git branch prod"):
        pipeline.remote.check(repository)
