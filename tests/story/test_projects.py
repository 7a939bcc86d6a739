"""A project is created in three ways, changed and deleted, with IAM enforced; its repository trains and is updated."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws import LocalAWS
from local_aws.studio import ProjectError
from tests import proof
from tests.local_aws.git_clients import Git
from tests.local_aws.github_clients import ORGANIZATION, GitHubClient
from tests.story.least_privilege import after_the_whole_module, counts, denied, reports, unexplained, unneeded
from tests.story.people import data_scientist
from tests.story.platform import Project as StageProject
from tests.story.repository import versions
from tests.story.story import CHECKOUT
from tests.story.ways import CATALOG, CLOCK_SPEED, S3, Installed, differences, tree

DEFINITION = json.dumps(
    {
        "Version": "2020-12-01",
        "Steps": [{"Name": "Stop", "Type": "Fail", "Arguments": {"ErrorMessage": "nothing to do"}}],
    }
)

HOSTS = ["codecommit", pytest.param("github", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=HOSTS)
def installed(request: pytest.FixtureRequest) -> Iterator[Installed]:
    with LocalAWS(enforce_iam=True, clock_speed=CLOCK_SPEED) as aws:
        yield Installed(aws, request.param).install()


@pytest.mark.parametrize("scenario", ["baseline", pytest.param("advanced", marks=pytest.mark.slow)])
def test_three_ways_make_the_same_project(installed: Installed, scenario: str, tmp_path: Path) -> None:
    name = f"same-{scenario}"
    held, trees, states = [], [], []
    for route in (CATALOG, S3):
        installed.create(name, route, Scenario=scenario, OnDelete="delete")
        held.append(installed.holdings(name))
        clone = installed.clone(name, tmp_path / route)
        trees.append({branch: tree(clone, branch) for branch in ("prod", "dev")})
        states.append(json.loads((clone.folder / ".cruft.json").read_text()))
        installed.delete(name)
        assert installed.left(name) == []

    repository = installed.generate(name, tmp_path, scenario=scenario)
    done = installed.register(name, repository)
    assert done.returncode == 0, done.stdout + done.stderr
    held.append(installed.holdings(name))
    clone = installed.clone(name, tmp_path / "pushed")
    trees.append({branch: tree(clone, branch) for branch in ("prod", "dev")})
    states.append(json.loads((clone.folder / ".cruft.json").read_text()))

    assert [differences(held[0], other) for other in held[1:]] == [[], []]
    assert trees[0] == trees[1] == trees[2]
    assert states[0] == states[1] == states[2]

    installed.delete(name)
    (kept,) = installed.left(name)  # the repository, which nobody asked to be deleted
    assert kept.startswith(("codecommit ", "github: "))


@pytest.mark.slow
def test_the_policies_that_the_page_names_let_nobody_push_to_a_project_that_is_there(
    installed: Installed, tmp_path: Path
) -> None:
    """Who may create projects pushes what they bring, until it is pushed."""
    repository = installed.generate("brought", tmp_path)
    done = installed.register("brought", repository)
    assert done.returncode == 0, done.stdout + done.stderr
    if installed.host == "codecommit":
        git = Git(repository, installed.environment("brought"))
        git("commit", "--quiet", "--allow-empty", "--message", "More")
        assert "403" in git.fails("push", "origin", "dev")


@pytest.mark.slow
def test_updates_change_what_may_change_and_refuse_the_rest_with_the_reason(installed: Installed) -> None:
    installed.create("changing", OnDelete="delete")
    assert installed.update("changing", Description="Another one", Scenario="advanced") == "UpdateCompleted"
    stages = {"feature", "dev", "prod", "champion", "challenger"}
    assert set(installed.groups("changing")) == {f"changing-{stage}" for stage in stages}
    assert installed.retag("changing", cost="7") == "UpdateCompleted"
    held = installed.holdings("changing")
    artifacts = installed.parameter("/modelyard/artifact-bucket")
    assert held["repository"]["description"] == "Another one"
    tags = [role["tags"] for role in held["roles"].values()]
    assert {(one["cost"], one["modelyard:project"]) for one in tags} == {("7", "changing")}
    for refused, words in (
        ({"Scenario": "baseline"}, "Scenario cannot change from 'advanced' to 'baseline': .*create another project"),
        ({"ProblemType": "regression"}, "ProblemType cannot change .* the repository was generated for it"),
        ({"Repository": "renamed"}, "Repository cannot change .* create another project"),
        ({"DataBuckets": artifacts}, f"DataBuckets '{artifacts}': other projects' data .* take it out of DataBuckets"),
        ({"DataBuckets": "elsewhere"}, "DataBuckets 'elsewhere': projects of this platform read no further buckets"),
    ):
        assert installed.update("changing", **refused) == "UpdateFailed"
        assert any(re.search(words, reason) for reason in installed.reasons("changing")), installed.reasons("changing")
        assert differences(held, installed.holdings("changing")) == []
    installed.delete("changing")
    assert installed.left("changing") == []


@pytest.mark.slow
def test_a_project_gets_the_groups_of_the_stage_files_that_its_repository_got(
    installed: Installed, tmp_path: Path
) -> None:
    repository = installed.generate("growing", tmp_path)
    assert installed.register("growing", repository).returncode == 0
    (tmp_path / "advanced").mkdir()
    advanced = installed.generate("growing", tmp_path / "advanced", scenario="advanced")
    for stage in ("champion", "challenger"):
        shutil.copy(advanced / "deployment" / f"{stage}.yaml", repository / "deployment")
    (repository / "deployment" / "prod.yaml").unlink()
    git = Git(repository, installed.environment("growing"))
    git("add", "--all")
    git("commit", "--quiet", "--message", "Two models")
    taken = installed.register("growing", advanced)
    assert (taken.returncode, "the name growing is taken" in taken.stderr) == (2, True)
    assert "growing-champion" not in installed.groups("growing")

    done = installed.register("growing", repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed: Scenario: baseline -> advanced" in done.stdout
    stages = {"feature", "dev", "prod", "champion", "challenger"}
    assert set(installed.groups("growing")) == {f"growing-{stage}" for stage in stages}
    installed.delete("growing")


@pytest.mark.slow
def test_what_was_removed_by_hand_does_not_stop_a_deletion(installed: Installed) -> None:
    installed.create("handled", OnDelete="delete")
    installed.aws.client("sagemaker").delete_model_package_group(ModelPackageGroupName="handled-dev")
    if installed.host == "github":
        GitHubClient(installed.aws.endpoint)("DELETE", f"/repos/{ORGANIZATION}/handled")
    else:
        installed.aws.client("codecommit").delete_repository(repositoryName="handled")
    installed.delete("handled")
    assert installed.left("handled") == []
    with pytest.raises(ProjectError, match="handled"):
        installed.delete("handled")  # there is nothing left to delete


@pytest.mark.slow
def test_a_policy_that_somebody_has_stops_the_deletion_until_it_is_detached(installed: Installed) -> None:
    made = installed.create("attached", OnDelete="delete")
    iam, user, policy = installed.aws.client("iam"), data_scientist("attached"), made.outputs["DeveloperPolicy"]
    iam.attach_user_policy(UserName=user, PolicyArn=policy)
    with pytest.raises(ProjectError, match="DeleteFailed"):
        installed.delete("attached")
    # what is of value is there; what a stack makes of the CI, and the policies that nobody has, may be gone
    left = set(installed.remains("attached"))
    value = {f"sagemaker list_model_package_groups: attached-{stage}" for stage in ("feature", "dev", "prod")}
    value |= {f"iam list_roles: attached-{role}" for role in ("pipeline-dev", "pipeline-feature", "model")}
    repository = "github: acme/attached" if installed.host == "github" else "codecommit list_repositories: attached"
    assert left == {*value, repository, "iam list_policies: modelyard-attached-developer"}
    iam.detach_user_policy(UserName=user, PolicyArn=policy)
    installed.delete("attached")
    assert installed.left("attached") == []


@pytest.mark.slow
def test_a_version_serves_as_the_projects_own_model_role_and_is_deleted_with_the_project(installed: Installed) -> None:
    installed.create("serving")  # the repository is kept
    project = StageProject(installed.aws, "serving", bucket=installed.parameter("/modelyard/artifact-bucket"))
    version = project.register("first")
    project.approve(version)
    project.deployed(version)
    project.serves("first")
    (model,) = project.resources()["models"]
    role = installed.aws.client("sagemaker").describe_model(ModelName=model)["ExecutionRoleArn"]
    assert role.endswith(":role/modelyard/models/serving-model")

    installed.delete("serving")
    (repository,) = installed.left("serving")
    assert repository.startswith(("codecommit ", "github: "))


@pytest.fixture(scope="module")
def apart(installed: Installed) -> Installed:
    """Two projects."""
    installed.create("apart", OnDelete="delete")
    installed.create("apart-too", OnDelete="delete")
    return installed


def test_the_ci_of_feature_branches_does_nothing_of_devs_and_nothing_of_another_project(apart: Installed) -> None:
    session, bucket = apart.ci("apart", "feature"), apart.parameter("/modelyard/artifact-bucket")
    sagemaker = apart.aws.client("sagemaker", credentials=session)
    s3 = apart.aws.client("s3", credentials=session)
    package = StageProject(apart.aws, "apart", "feature", bucket).register("its own")

    def put(key: str) -> Any:
        return s3.put_object(Bucket=bucket, Key=key, Body=b"x")

    def pipeline(project: str, name: str, role: str) -> Any:
        tags = {"modelyard:project": project, "modelyard:stage": name}
        return sagemaker.create_pipeline(
            PipelineName=f"{project}-{name}{'-x-012345' if name == 'feature' else ''}",
            PipelineDefinition=DEFINITION,
            ClientRequestToken="0" * 32,
            RoleArn=f"arn:aws:iam::{apart.aws.server.account}:role/modelyard/pipelines/{role}",
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
        )

    group = "arn:aws:sagemaker:us-east-1:123456789012:model-package-group/apart-dev"
    put("apart/feature/code/x")
    pipeline("apart", "feature", "apart-pipeline-feature")
    for refused in (
        lambda: put("apart/dev/code/x"),
        lambda: put("apart/data/x"),
        lambda: put("apart-too/feature/code/x"),
        lambda: s3.get_object(Bucket=bucket, Key="apart-too/data/x"),
        lambda: pipeline("apart", "dev", "apart-pipeline-dev"),
        lambda: pipeline("apart", "dev", "apart-pipeline-feature"),
        lambda: pipeline("apart-too", "feature", "apart-too-pipeline-feature"),
        lambda: sagemaker.update_pipeline(
            PipelineName="apart-feature-x-012345",
            RoleArn=f"arn:aws:iam::{apart.aws.server.account}:role/modelyard/pipelines/apart-pipeline-dev",
        ),
        lambda: sagemaker.start_pipeline_execution(PipelineName="apart-dev", ClientRequestToken="0" * 32),
        lambda: sagemaker.create_model_package(ModelPackageGroupName="apart-dev"),
        lambda: sagemaker.update_model_package(ModelPackageArn=package, ModelApprovalStatus="Approved"),
        lambda: sagemaker.add_tags(ResourceArn=group, Tags=[{"Key": "modelyard:approval", "Value": "automatic"}]),
        lambda: sagemaker.describe_model_package_group(ModelPackageGroupName="apart-too-feature"),
    ):
        with pytest.raises(ClientError, match=r"not authorized|Access Denied|AccessDenied"):
            refused()


def test_a_repository_of_the_same_name_by_somebody_else_is_not_trusted(apart: Installed) -> None:
    if apart.host != "github":
        pytest.skip("GitHub's subjects")
    role = f"arn:aws:iam::{apart.aws.server.account}:role/modelyard/ci/apart-too-ci-dev"
    assert apart.take(role, apart.job_token("apart-too", "refs/heads/dev"))
    github = GitHubClient(apart.aws.endpoint)
    github("DELETE", f"/repos/{ORGANIZATION}/apart-too")
    github.create("apart-too")
    with pytest.raises(ClientError, match="AccessDenied"):
        apart.take(role, apart.job_token("apart-too", "refs/heads/dev"))


@pytest.mark.slow
def test_a_newer_template_reaches_the_repository_by_cruft(installed: Installed, tmp_path: Path) -> None:
    installed.create("updated", OnDelete="delete")
    installed.person("updated").admit()
    folder, environment = tmp_path / "clone", installed.environment("updated") | {"HOME": str(tmp_path)}
    git = Git(tmp_path, environment)
    git("clone", "--quiet", "--branch", "dev", installed.clone_url("updated"), str(folder))
    assert "up to date" in run(installed, environment, folder, "cruft", "check")

    changed = copy_of_modelyard(tmp_path / "modelyard")
    readme = changed / "{{cookiecutter.project}}" / "README.md"
    readme.write_text(readme.read_text() + "\nA newer template.\n")
    installed.install(changed)

    assert installed.run(environment, folder, "cruft", "check").returncode == 1
    run(installed, environment, folder, "cruft", "update", "--skip-apply-ask")
    assert (folder / "README.md").read_text().endswith("\nA newer template.\n")
    newest = installed.parameter("/modelyard/template/commit")
    assert json.loads((folder / ".cruft.json").read_text())["commit"] == newest
    assert Git(folder)("status", "--porcelain").split() == ["M", ".cruft.json", "M", "README.md"]
    made = installed.create("newer", OnDelete="delete")
    assert made.outputs["TemplateVersion"] == installed.parameter("/modelyard/template/version")
    assert "A newer template." in (installed.clone("newer", tmp_path / "newer").folder / "README.md").read_text()


def copy_of_modelyard(folder: Path) -> Path:
    """A checkout to change; what is installed in this one serves it too."""
    tracked = Git(CHECKOUT)("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, tracked):
        if name.split("/")[0] not in ("tests", "docs", "local_aws") and (CHECKOUT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, folder / name, follow_symlinks=False)
    (folder / ".envs").symlink_to(CHECKOUT / ".envs")
    return folder


def run(installed: Installed, environment: dict[str, str], folder: Path, *command: str) -> str:
    done = installed.run(environment, folder, *command)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_its_own_tests_pass(installed: Installed, tmp_path: Path) -> None:
    if installed.host == "github":
        pytest.skip("the same files but for the CI's")
    installed.create("tested", OnDelete="delete")
    folder = installed.clone("tested", tmp_path / "tested").folder
    run(installed, installed.environment("tested"), folder, "python", "-m", "pytest", "-q", "-p", "no:cacheprovider")


@pytest.mark.slow
def test_its_pipelines_train_as_its_cis_roles_and_its_version_deploys(installed: Installed, tmp_path: Path) -> None:
    name = "trained"
    installed.create(name, OnDelete="delete")
    people = installed.person(name)
    people.admit()
    clone = installed.clone(name, tmp_path / name)
    person = installed.environment(name)
    run(installed, person, clone.folder, "python", "-m", "pipeline", "sample-data")
    run(installed, person, clone.folder, "python", "-m", "pipeline", "upload-data")
    for branch, stage in (("dev", "dev"), ("feature-x", "feature")):
        clone("checkout", "--quiet", "-B", branch)
        run(installed, installed.ci(name, stage), clone.folder, "python", "-m", "pipeline", "start", "--watch")
        (version,) = versions(installed.aws, f"{name}-{stage}")
        assert version["ModelApprovalStatus"] == "PendingManualApproval"
        assert version["CustomerMetadataProperties"]["git.branch"] == branch
    clone("checkout", "--quiet", "dev")
    run(installed, person, clone.folder, "python", "-m", "pipeline", "approve", "1", "--watch", "--reason", "good")
    endpoint = installed.aws.client("sagemaker").describe_endpoint(EndpointName=f"{name}-dev")
    assert endpoint["EndpointStatus"] == "InService"

    started = run(installed, installed.ci(name, "dev"), clone.folder, "python", "-m", "pipeline", "start")
    assert "started arn:" in started
    people.release()
    installed.delete(name)  # while it runs and serves
    assert installed.left(name) == []


# --- last: what the roles that make projects were asked in all tests of this module, with IAM enforced


@pytest.mark.slow
def test_the_roles_that_make_projects_need_all_that_they_have_and_were_denied_nothing(
    installed: Installed, request: pytest.FixtureRequest
) -> None:
    after_the_whole_module(request)
    roles = reports(installed.aws, "modelyard-seed-*", "modelyard-launch-*")
    assert len(roles) == 2
    assert denied(roles) == []
    assert unexplained(roles) == []
    assert unneeded(roles, f"projects on {installed.host}") == []
    proof.keep(f"permissions_projects_{installed.host}", counts(installed.aws, roles))
