"""register-project from its beginning to its end, killed on its way and run again, by several people and changed later.

SageMaker, CloudFormation and the Git host are stand-ins that keep what is asked of them; git is real.
"""

from __future__ import annotations

import importlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.template.conftest import CHECKOUT, Modules, Template, _taken_out, git

HOSTS = ("codecommit", "github")
DEFAULTS = {"GitOwner": "none", "Repository": "", "OnDelete": "keep", "DataBuckets": "", "KmsKeyArns": ""}
ROLE = "arn:aws:iam::123456789012:role/modelyard/modelyard-launch-us-east-1"


def refusal(operation: str, code: str, words: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": words}}, operation)


@dataclass
class Cloud:
    """An account with the platform, in which a session of whoever stands in `person` calls.

    Args:
        kill: after what the command ends: a call of SageMaker's, or connect or push.
        fails: why the next creation fails.
        slow: how many looks at a new project do not show it yet.
        hidden: how many are left of these.
    """

    host: str
    folder: Path
    region_name: str = "us-east-1"
    person: str = "ann"
    kill: str = ""
    fails: str = ""
    slow: int = 0
    hidden: int = 0
    project: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def client(self, service: str, **_: Any) -> Cloud:
        return self

    def killed(self, after: str) -> None:
        self.calls.append(after)
        if self.kill == after:
            self.kill = ""
            raise KeyboardInterrupt

    def get_parameters(self, Names: list[str]) -> dict[str, Any]:
        values = {
            "/modelyard/product/template-url": "https://s3.us-east-1.amazonaws.com/templates/projects/modelyard-1.yaml",
            "/modelyard/launch-role": ROLE,
            "/modelyard/artifact-bucket": "churn-artifacts",
            "/modelyard/git/host": self.host,
        }
        return {"Parameters": [{"Name": name, "Value": values[name]} for name in Names]}

    def get_caller_identity(self) -> dict[str, str]:
        return {"Account": "123456789012"}

    def head_bucket(self, **_: str) -> dict[str, str]:
        return {}

    def describe_project(self, ProjectName: str) -> dict[str, Any]:
        if not self.project or self.hidden:
            self.hidden = max(0, self.hidden - 1)
            raise refusal("DescribeProject", "ValidationException", f"Project {ProjectName} does not exist.")
        return self.project

    def create_project(self, ProjectName: str, TemplateProviders: list[Any], **_: str) -> dict[str, str]:
        assert not self.project
        provider = TemplateProviders[0]["CfnTemplateProvider"]
        self.project = {
            "ProjectName": ProjectName,
            "ProjectId": f"p-{len(self.calls):012}",
            "ProjectStatus": "CreateFailed" if self.fails else "CreateCompleted",
            "CreatedBy": {"IamIdentity": {"Arn": f"arn:aws:iam::123456789012:user/{self.person}"}},
            "TemplateProviderDetails": [
                {"CfnTemplateProviderDetail": {**provider, "StackDetail": {"Id": "arn:stack", "StatusMessage": "so"}}}
            ],
        }
        self._take(provider)
        if not self.fails:
            subprocess.run(["git", "init", "--quiet", "--bare", self.folder], check=True)
        self.fails, self.hidden = "", self.slow
        self.killed("create_project")
        return {"ProjectId": self.project["ProjectId"]}

    def update_project(self, TemplateProvidersToUpdate: list[Any], **_: str) -> None:
        provider = TemplateProvidersToUpdate[0]["CfnTemplateProvider"]
        detail = self.project["TemplateProviderDetails"][0]["CfnTemplateProviderDetail"]
        assert provider["TemplateName"] == detail["TemplateName"]
        self.parameters = {}  # what is not sent may be lost
        self._take(provider)
        assert self.parameters["InitialContent"] != "pushed" or len(self.heads()) == 2
        self.project["ProjectStatus"] = "UpdateCompleted"
        self.killed("update_project")

    def _take(self, provider: dict[str, Any]) -> None:
        self.parameters = DEFAULTS | {one["Key"]: one["Value"] for one in provider["Parameters"]}

    def delete_project(self, ProjectName: str) -> None:
        self.calls.append("delete_project")
        self.project = {}

    def describe_stacks(self, StackName: str) -> dict[str, Any]:
        repository = self.parameters["Repository"] or "churn"
        groups = ["champion", "challenger"] if self.parameters["Scenario"] == "advanced" else ["prod"]
        outputs = {
            "CloneUrl": self.folder.as_uri(),
            "CloneCommand": f"git clone {self.folder.as_uri()}",
            "RepositoryUrl": f"https://host.example/{repository}",
            "RepositoryName": repository,
            "ArtifactBucket": self.parameters["ArtifactBucket"],
            "Groups": ",".join(f"churn-{stage}" for stage in ["feature", "dev", *groups]),
        }
        parameters = self.parameters | {"SageMakerProjectName": "churn", "SeedFunctionArn": "/modelyard/functions/seed"}
        return {
            "Stacks": [
                {
                    "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
                    "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()],
                }
            ]
        }

    def describe_stack_events(self, StackName: str) -> dict[str, Any]:
        return {"StackEvents": []}

    def heads(self) -> dict[str, str]:
        listed = git(self.folder, "for-each-ref", "--format", "%(refname:short) %(objectname)").splitlines()
        return dict(line.split(" ") for line in listed)


@dataclass
class Said:
    code: int
    out: str
    err: str


Register = Callable[..., Said]


@pytest.fixture(params=HOSTS)
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> Cloud:
    return Cloud(request.param, tmp_path / "host.git")


@pytest.fixture
def on_github(tmp_path: Path) -> Cloud:
    """Where the host makes no difference."""
    return Cloud("github", tmp_path / "host.git")


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Said]:
    """Runs register-project in a repository."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "aws").touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")

    def run(cloud: Cloud, repository: Path, *options: str) -> Said:
        others = _taken_out()
        capfd.readouterr()
        try:
            with monkeypatch.context() as patch:
                patch.syspath_prepend(str(repository))
                patch.setattr(sys, "dont_write_bytecode", True)
                modules = Modules()
                patch.setattr(modules.aws, "session", lambda settings: cloud)
                patch.setattr(modules.project, "FIRST_PAUSE", 0.001)
                for step in ("connect", "push"):
                    patch.setattr(modules.remote, step, killable(cloud, step, getattr(modules.remote, step)))
                code = importlib.import_module("pipeline.cli").main(["register-project", *options])
        finally:
            _taken_out()
            sys.modules.update(others)
        said = capfd.readouterr()
        assert "Traceback" not in said.err
        return Said(code, said.out, said.err)

    return run


def killable(cloud: Cloud, step: str, function: Callable[..., None]) -> Callable[..., None]:
    def call(*arguments: Any) -> None:
        function(*arguments)
        cloud.killed(step)

    return call


def generate(template: Template, folder: Path, cloud: Cloud, scenario: str = "baseline") -> Path:
    """A new repository, as if it had just been generated."""
    kept = template.folder.parent / f"{cloud.host}-{scenario}"
    if not kept.exists():
        given = {"project": "churn", "problem_type": "regression", "git_host": cloud.host, "description": "First"}
        template.generate(kept, **given, pipeline_role="churn-pipeline-{stage}", scenario=scenario)
    return Path(shutil.copytree(kept / "churn", folder / "churn"))


def commit(repository: Path, *arguments: str) -> None:
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "Changed", *arguments)


def change(repository: Path, name: str, old: str, new: str) -> None:
    text = (repository / name).read_text()
    assert old in text
    (repository / name).write_text(text.replace(old, new))


# --- killed, and run again


@pytest.mark.parametrize("step", ["create_project", "connect", "push", "update_project"])
def test_it_goes_on_where_it_was_killed(
    template: Template, cloud: Cloud, register: Register, tmp_path: Path, step: str
) -> None:
    repository = generate(template, tmp_path / "ann", cloud)
    cloud.kill = step
    assert register(cloud, repository).code == 130
    done = register(cloud, repository)
    assert done.code == 0, done.err
    assert "is registered" in done.out
    assert cloud.calls.count("create_project") == 1
    assert cloud.calls.count("update_project") == 1
    assert cloud.parameters["InitialContent"] == "pushed"
    assert cloud.heads() == {branch: git(repository, "rev-parse", branch) for branch in ("dev", "prod")}
    before = list(cloud.calls)
    assert register(cloud, repository).code == 0
    assert cloud.calls == before


def test_a_project_that_sagemaker_does_not_show_at_once_is_waited_for(
    template: Template, on_github: Cloud, register: Register, tmp_path: Path
) -> None:
    repository = generate(template, tmp_path / "ann", on_github)
    on_github.slow = 5
    done = register(on_github, repository)
    assert (done.code, on_github.hidden) == (0, 0), done.err


def test_an_attempt_of_its_own_that_failed_is_removed(
    template: Template, on_github: Cloud, register: Register, tmp_path: Path
) -> None:
    repository = generate(template, tmp_path / "ann", on_github)
    on_github.fails = "the token has expired"
    assert "put that right, then run register-project again" in register(on_github, repository).err
    done = register(on_github, repository)
    assert done.code == 0, done.err
    assert "an earlier attempt failed and is removed" in done.out


def test_the_first_runs_options_hold_for_the_next(
    template: Template, on_github: Cloud, register: Register, tmp_path: Path
) -> None:
    repository = generate(template, tmp_path / "ann", on_github)
    on_github.kill = "create_project"
    options = ("--repository", "churn-model", "--git-owner", "acme", "--on-delete", "delete")
    lists = ("--data-buckets", "one,two", "--kms-key-arns", "arn:aws:kms:us-east-1:123456789012:key/1")
    assert register(on_github, repository, *options, *lists).code == 130
    asked = dict(on_github.parameters)
    assert register(on_github, repository).code == 0
    assert on_github.parameters == asked | {"InitialContent": "pushed"}
    assert [asked[name] for name in ("Repository", "GitOwner", "OnDelete")] == ["churn-model", "acme", "delete"]
    # what may change is changed, blanks are none, and the rest is refused
    done = register(on_github, repository, "--data-buckets", "one, two", "--on-delete", "keep")
    assert done.code == 0, done.err
    assert [line for line in done.out.splitlines() if "changed" in line] == ["changed: OnDelete: delete -> keep"]
    other = register(on_github, repository, "--repository", "other")
    assert (other.code, "Repository is 'churn-model' there, and 'other' here" in other.err) == (2, True)


# --- somebody else's


@pytest.mark.parametrize("failed", [False, True])
def test_anothers_project_of_the_same_name_is_left_alone(
    template: Template, cloud: Cloud, register: Register, tmp_path: Path, failed: bool
) -> None:
    anns, bobs = (generate(template, tmp_path / person, cloud) for person in ("ann", "bob"))
    cloud.kill, cloud.fails = "create_project", "no token" if failed else ""
    assert register(cloud, anns).code == 130
    cloud.person, project, calls = "bob", dict(cloud.project), list(cloud.calls)
    refused = register(cloud, bobs)
    assert refused.code == 2
    assert "the name churn is taken: arn:aws:iam::123456789012:user/ann made a project of that name" in refused.err
    assert "aws sagemaker delete-project --project-name churn" in refused.err
    assert (cloud.project, cloud.calls) == (project, calls)
    assert git(bobs, "remote") == ""
    assert failed or cloud.heads() == {}

    assert register(cloud, anns).code == 0
    refused = register(cloud, bobs)
    assert (refused.code, "the name churn is taken" in refused.err) == (2, True)
    assert cloud.heads()["dev"] == git(anns, "rev-parse", "dev")


def test_a_clone_of_what_was_pushed_goes_on(
    template: Template, on_github: Cloud, register: Register, tmp_path: Path
) -> None:
    """The first one is gone; what carries its address alone is none."""
    repository = generate(template, tmp_path / "ann", on_github)
    stranger = generate(template, tmp_path / "bob", on_github)
    git(stranger, "commit", "--quiet", "--amend", "--message", "Another")
    git(stranger, "branch", "--quiet", "--force", "prod", "dev")
    git(stranger, "remote", "add", "origin", on_github.folder.as_uri())
    on_github.kill = "push"
    assert register(on_github, repository).code == 130
    assert "the name churn is taken" in register(on_github, stranger).err
    git(tmp_path, "clone", "--quiet", "--branch", "dev", on_github.folder.as_uri(), "again")
    git(tmp_path / "again", "branch", "--quiet", "prod", "origin/prod")
    done = register(on_github, tmp_path / "again")
    assert done.code == 0, done.err
    assert on_github.parameters["InitialContent"] == "pushed"


def test_a_project_of_the_service_catalog_gets_the_command_that_changes_it(
    template: Template, on_github: Cloud, register: Register, tmp_path: Path
) -> None:
    repository = generate(template, tmp_path / "ann", on_github)
    asked = [{"Key": "Description", "Value": "First"}, {"Key": "Scenario", "Value": "baseline"}]
    on_github.project = {
        "ProjectName": "churn",
        "ProjectId": "p-1",
        "ProjectStatus": "CreateCompleted",
        "CreatedBy": {"UserProfileName": "ann"},
        "ServiceCatalogProvisioningDetails": {"ProductId": "prod-1", "ProvisioningParameters": asked},
    }
    assert "nothing is left to register" in register(on_github, repository).err
    advance(template, repository, on_github, tmp_path)
    said = register(on_github, repository).err
    assert "aws sagemaker update-project --project-name churn --service-catalog-provisioning-update-details" in said
    assert """'{"ProvisioningParameters": [{"Key": "Scenario", "Value": "advanced"}]}'""" in said


# --- what is pushed is what the project is made for


@pytest.mark.parametrize("file", ["settings.yaml", "deployment/dev.yaml", "deployment/champion.yaml"])
def test_nothing_is_made_for_what_is_not_committed(
    template: Template, on_github: Cloud, register: Register, tmp_path: Path, file: str
) -> None:
    repository = generate(template, tmp_path / "ann", on_github)
    if file.endswith("champion.yaml"):
        advance(template, repository, on_github, tmp_path, committed=False)
    else:
        with (repository / file).open("a") as stream:
            stream.write("# changed\n")
    refused = register(on_github, repository)
    assert refused.code == 2
    assert file in refused.err
    assert "not as the branch dev has it in its last commit" in refused.err
    assert on_github.calls == []
    type_what_it_says(repository, refused.err)
    if file == "settings.yaml":
        refused = register(on_github, repository)
        assert "settings.yaml: the branch prod, which is pushed too, has another one than dev" in refused.err
        assert on_github.calls == []
        type_what_it_says(repository, refused.err)
    done = register(on_github, repository)
    assert done.code == 0, done.err
    assert on_github.heads()["dev"] == git(repository, "rev-parse", "dev")


def type_what_it_says(repository: Path, said: str) -> None:
    (command,) = [line for line in said.splitlines() if line.startswith("  git ")]
    subprocess.run(command, shell=True, cwd=repository, check=True, capture_output=True)


def test_another_host_than_the_platforms_is_said_before_anything_is_made(
    template: Template, cloud: Cloud, register: Register, tmp_path: Path
) -> None:
    repository = generate(template, tmp_path / "ann", cloud)
    generated, cloud.host = cloud.host, "github" if cloud.host == "codecommit" else "codecommit"
    refused = register(cloud, repository)
    words = f"this repository is for {generated}, and the platform of this account makes repositories on {cloud.host}"
    assert (refused.code, words in refused.err) == (2, True)
    assert cloud.calls == []


def test_a_push_that_is_refused_says_who_gives_access(
    template: Template, cloud: Cloud, register: Register, tmp_path: Path
) -> None:
    repository = generate(template, tmp_path / "ann", cloud)
    cloud.kill = "create_project"
    register(cloud, repository)
    shutil.move(cloud.folder, tmp_path / "hidden")
    refused = register(cloud, repository)
    giver = "an owner of the organization" if cloud.host == "github" else "modelyard-project-creator"
    assert (refused.code, giver in refused.err) == (2, True)
    shutil.move(tmp_path / "hidden", cloud.folder)
    assert register(cloud, repository).code == 0


# --- changed later


def advance(template: Template, repository: Path, cloud: Cloud, tmp_path: Path, committed: bool = True) -> None:
    """From baseline to advanced, as the template has it."""
    advanced = generate(template, tmp_path / "advanced", cloud, scenario="advanced")
    for stage in ("champion", "challenger"):
        shutil.copy(advanced / "deployment" / f"{stage}.yaml", repository / "deployment")
    (repository / "deployment" / "prod.yaml").unlink()
    if committed:
        commit(repository)


def test_a_project_becomes_what_its_repository_says(
    template: Template, cloud: Cloud, register: Register, tmp_path: Path
) -> None:
    repository = generate(template, tmp_path / "ann", cloud)
    assert register(cloud, repository).code == 0
    advance(template, repository, cloud, tmp_path, committed=False)
    change(repository, "settings.yaml", "First", "Second")
    refused = register(cloud, repository)
    assert (refused.code, "not as the branch dev has it" in refused.err) == (2, True)
    assert cloud.parameters["Scenario"] == "baseline"

    commit(repository)  # prod gets it by a merge, later
    done = register(cloud, repository)
    assert done.code == 0, done.err
    assert "changed: Scenario: baseline -> advanced" in done.out
    assert "changed: Description: First -> Second" in done.out
    assert "Groups: churn-feature,churn-dev,churn-champion,churn-challenger" in done.out
    assert (cloud.parameters["InitialContent"], cloud.calls.count("update_project")) == ("pushed", 2)
    assert register(cloud, repository).code == 0
    assert cloud.calls.count("update_project") == 2

    git(repository, "revert", "--no-edit", "HEAD")
    refused = register(cloud, repository)
    assert "Scenario is 'advanced' there, and 'baseline' here" in refused.err
    assert cloud.parameters["Scenario"] == "advanced"


def test_the_template_brings_the_stage_files_by_the_command_of_the_page(
    template: Template, on_github: Cloud, register: Register, tmp_path: Path
) -> None:
    repository = generate(template, tmp_path / "ann", on_github)
    assert register(on_github, repository).code == 0
    page = (CHECKOUT / "docs" / "create-a-project.md").read_text()
    (command,) = [line.strip() for line in page.splitlines() if "--variables-to-update" in line]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    words = shlex.split(command)
    done = subprocess.run(words, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    commit(repository)
    stages = {path.stem for path in (repository / "deployment").glob("*.yaml")}
    assert stages == {"feature", "dev", "champion", "challenger"}
    again = register(on_github, repository)
    assert again.code == 0, again.err
    assert on_github.parameters["Scenario"] == "advanced"


def test_what_cannot_change_is_said_before_it_is_asked(
    template: Template, on_github: Cloud, register: Register, tmp_path: Path
) -> None:
    repository = generate(template, tmp_path / "ann", on_github)
    on_github.kill = "create_project"
    register(on_github, repository)
    change(repository, "settings.yaml", "churn-artifacts", "churn-others")
    commit(repository)
    refused = register(on_github, repository)
    assert "ArtifactBucket is 'churn-artifacts' there, and 'churn-others' here" in refused.err
    assert "aws sagemaker delete-project --project-name churn" in refused.err
    assert on_github.heads() == {}


def test_a_clone_of_what_studio_made_from_an_s3_template_changes_it_too(
    template: Template, on_github: Cloud, register: Register, tmp_path: Path
) -> None:
    repository = generate(template, tmp_path / "ann", on_github)
    given = {"Description": "First", "ProblemType": "regression", "Scenario": "baseline", "GitHost": "github"}
    given |= {"ArtifactBucket": "churn-artifacts", "InitialContent": "template"}
    pairs = [{"Key": key, "Value": value} for key, value in given.items()]
    provider = {"TemplateName": "project", "TemplateURL": "https://example.com/a", "Parameters": pairs}
    on_github.create_project("churn", [{"CfnTemplateProvider": provider}])
    git(repository, "remote", "add", "origin", on_github.folder.as_uri())
    git(repository, "push", "--quiet", "origin", "prod", "dev")
    assert register(on_github, repository).code == 0
    change(repository, "settings.yaml", "First", "Second")
    commit(repository)
    done = register(on_github, repository)
    assert done.code == 0, done.err
    assert (on_github.parameters["Description"], on_github.parameters["InitialContent"]) == ("Second", "template")


# --- signing in


@pytest.mark.parametrize("code", ["ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException"])
def test_keys_that_have_expired_are_said(
    template: Template, on_github: Cloud, register: Register, tmp_path: Path, code: str
) -> None:
    def refuse(**_: Any) -> None:
        raise refusal("GetParameters", code, "The security token included in the request is expired")

    on_github.get_parameters = refuse  # type: ignore[method-assign,assignment]
    refused = register(on_github, generate(template, tmp_path / "ann", on_github))
    assert (refused.code, "sign in again as for the AWS CLI" in refused.err) == (2, True)
