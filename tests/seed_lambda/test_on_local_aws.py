"""Projects are created and updated through CloudFormation on both hosts, or fail in words and leave nothing behind."""

from __future__ import annotations

import io
import json
import re
import urllib.request
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from local_aws import LocalAWS
from seed_lambda import template as templates
from seed_lambda.hosts import File
from tests.local_aws.git_clients import git
from tests.seed_lambda.platform import OWNER, Platform, Stack
from tests.seed_lambda.requests import TOKEN, VERSION

HOSTS = ("codecommit", "github")
HEALTHY = {"tokens": {TOKEN: {"login": "robot", "expires": None}}, "outage": False, "rate_limit": None}


@pytest.fixture(scope="module")
def platforms(archive: bytes) -> Iterator[dict[str, Platform]]:
    with LocalAWS() as aws:
        made = {host: Platform(aws, host, archive, VERSION) for host in HOSTS}
        yield made


@pytest.fixture(scope="module")
def published(platforms: dict[str, Platform]) -> Stack:
    """The template on CodeCommit; what cruft updates from is the same for both."""
    made = platforms["codecommit"].publish(VERSION)
    platforms["codecommit"].announce(made)
    return made


@pytest.fixture(params=HOSTS)
def platform(request: pytest.FixtureRequest, platforms: dict[str, Platform], published: Stack) -> Platform:
    return platforms[request.param]


@pytest.fixture(params=["codecommit", pytest.param("github", marks=pytest.mark.slow)])
def either(request: pytest.FixtureRequest, platforms: dict[str, Platform], published: Stack) -> Platform:
    """For what hardly depends on the host: quick on one."""
    return platforms[request.param]


@pytest.fixture
def github(platforms: dict[str, Platform], published: Stack) -> Iterator[Platform]:
    """Whatever a test does to GitHub is put right after it."""
    yield platforms["github"]
    platforms["github"].aws.configure("github", HEALTHY)


def rest(platform: Platform, path: str) -> Any:
    headers = {"Authorization": f"Bearer {TOKEN}", "User-Agent": "tests"}
    request = urllib.request.Request(f"{platform.aws.endpoint}/_github/api/v3{path}", headers=headers)
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def test_a_project_is_a_repository_with_two_branches_and_groups(platform: Platform, tmp_path: Path) -> None:
    name = f"first-{platform.host}"
    made = platform.create(name, Scenario="advanced")
    assert made.status == "CREATE_COMPLETE", made.reasons
    assert made.outputs["RepositoryName"] == name
    assert made.outputs["DefaultBranch"] == "dev"
    assert made.outputs["TemplateVersion"] == VERSION
    assert made.outputs["Groups"] == f"{name}-feature,{name}-dev,{name}-champion,{name}-challenger"

    clone = platform.clone(made.outputs["CloneUrl"], tmp_path / name)
    assert git(clone, "symbolic-ref", "--short", "HEAD") == "dev"
    heads = {git(clone, "rev-parse", f"origin/{branch}") for branch in ("prod", "dev")}
    assert heads == {made.outputs["Commit"]}
    author = git(clone, "log", "--format=%an %s")
    assert author == f"Modelyard Create {name} from the Modelyard template"
    state = json.loads((clone / ".cruft.json").read_text())
    assert state["context"]["cookiecutter"]["project"] == name
    assert (
        state["commit"]
        == platform.aws.client("ssm").get_parameter(Name="/modelyard/template/commit")["Parameter"]["Value"]
    )

    groups = platform.groups(name)
    assert {tags["modelyard:stage"] for tags in groups.values()} == {"feature", "dev", "champion", "challenger"}
    assert {tags["modelyard:project"] for tags in groups.values()} == {name}
    assert all(":stack/project-" in tags["modelyard:stack"] for tags in groups.values())
    # where the platform tells a commit how its pipeline went
    where = f"arn:aws:codecommit:{platform.aws.server.region}:{platform.aws.server.account}:{name}"
    told = {"codecommit": where, "github": made.outputs["RepositoryUrl"]}[platform.host]
    assert {tags["modelyard:repository"] for tags in groups.values()} == {told}


def test_github_gets_variables_protection_and_an_immutable_subject(github: Platform, tmp_path: Path) -> None:
    made = github.create("guarded", CiVariables={"AWS_REGION": "eu-central-1", "MODELYARD_PROJECT": "guarded"})
    assert re.fullmatch(rf"repo:{OWNER}@\d+/guarded@\d+", made.outputs["OidcSubject"])
    variables = rest(github, f"/repos/{OWNER}/guarded/actions/variables")["variables"]
    assert {each["name"]: each["value"] for each in variables} == {
        "AWS_REGION": "eu-central-1",
        "MODELYARD_PROJECT": "guarded",
    }
    assert rest(github, f"/repos/{OWNER}/guarded")["private"]
    clone = github.clone(made.outputs["CloneUrl"], tmp_path / "guarded")
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "x")
    git(clone, "push", "--quiet", "origin", "HEAD:dev")
    with pytest.raises(AssertionError, match="pull request"):
        git(clone, "push", "--quiet", "origin", "HEAD:prod")


def test_a_plan_without_rulesets_is_a_warning(github: Platform) -> None:
    github.aws.configure("github", {"organizations": {OWNER: {"plan": "free"}}})
    try:
        assert github.create("unguarded").status == "CREATE_COMPLETE"
    finally:
        github.aws.configure("github", {"organizations": {OWNER: {"plan": "team"}}})
    assert "GitHub did not protect the branch" in github.logs()


def test_updates_change_what_may_change(platform: Platform) -> None:
    name = f"growing-{platform.host}"
    platform.create(name, CiVariables={"OLD": "1", "KEPT": "1"})
    stages = {"feature", "dev", "prod", "champion", "challenger"}
    changes = {"Description": "Another description", "Scenario": "advanced", "ModelRole": "other-model"}
    made = platform.update(name, CiVariables={"KEPT": "2", "NEW": "1"}, **changes)
    assert made.status == "UPDATE_COMPLETE", made.reasons
    groups = platform.groups(name)
    assert {tags["modelyard:stage"] for tags in groups.values()} == stages
    assert {tags["modelyard:model-role"] for group, tags in groups.items() if not group.endswith("-prod")} == {
        "other-model"
    }
    if platform.host == "github":
        assert rest(platform, f"/repos/{OWNER}/{name}")["description"] == "Another description"
        variables = rest(platform, f"/repos/{OWNER}/{name}/actions/variables")["variables"]
        assert {each["name"]: each["value"] for each in variables} == {"KEPT": "2", "NEW": "1"}
    else:
        metadata = platform.aws.client("codecommit").get_repository(repositoryName=name)["repositoryMetadata"]
        assert metadata["repositoryDescription"] == "Another description"


def test_an_update_that_may_not_be_is_refused_and_rolled_back(either: Platform) -> None:
    name = f"fixed-{either.host}"
    either.create(name)
    made = either.update(name, ProblemType="regression", Scenario="advanced", Description="Another")
    assert made.status == "UPDATE_ROLLBACK_COMPLETE"
    assert "ProblemType cannot change from 'binary_classification' to 'regression'" in made.reasons[0]
    assert {tags["modelyard:stage"] for tags in either.groups(name).values()} == {"feature", "dev", "prod"}


@pytest.mark.parametrize(
    ("fault", "settings"),
    [
        ("expired", {"tokens": {TOKEN: {"login": "robot", "expires": 1}}}),
        # it is asked again after pauses
        pytest.param("outage", {"outage": True}, marks=pytest.mark.slow),
        pytest.param("limited", {"rate_limit": {"limit": 1, "seconds": 3600}}, marks=pytest.mark.slow),
    ],
)
def test_an_update_while_the_host_cannot_be_asked_leaves_a_stack_that_takes_updates(
    github: Platform, fault: str, settings: dict[str, Any]
) -> None:
    name, changes = f"w-{fault[:3]}", {"Description": "Another description", "Scenario": "advanced"}
    before = github.create(name)
    github.aws.configure("github", settings)
    made = github.update(name, **changes)
    assert made.status == "UPDATE_ROLLBACK_COMPLETE", made.reasons
    assert made.outputs == before.outputs  # OidcSubject among them: whom the roles of its CI trust
    assert len(github.groups(name)) == 3
    github.aws.configure("github", HEALTHY)
    made = github.update(name, **changes)
    assert made.status == "UPDATE_COMPLETE", made.reasons
    assert len(github.groups(name)) == 5
    assert rest(github, f"/repos/{OWNER}/{name}")["description"] == "Another description"


def test_a_creation_that_its_host_interrupts_is_finished_off_by_deleting_again(github: Platform) -> None:
    """The repository was there when the hour's calls were used up, and the roll-back cannot ask for it."""
    github.aws.configure("github", {"rate_limit": {"limit": 8, "seconds": 3600}})
    made = github.create("halted")
    assert made.status == "ROLLBACK_FAILED"
    assert "rate limit is reached" in made.reasons[-1]
    assert "the project's repository halted may be left" in made.reasons[0]
    assert "delete again to continue" in made.reasons[0]
    github.aws.configure("github", HEALTHY)
    assert github.has_repository("halted")
    assert github.delete("halted").status == "DELETE_COMPLETE"
    assert not github.has_repository("halted")
    assert github.create("halted").status == "CREATE_COMPLETE"  # its name is free


def test_somebody_else_may_push_first(platform: Platform, tmp_path: Path) -> None:
    name = f"pushed-{platform.host}"
    made = platform.create(name, InitialContent="empty")
    assert (made.status, made.outputs["Commit"]) == ("CREATE_COMPLETE", "none")
    early = platform.update(name, InitialContent="pushed")
    assert early.status == "UPDATE_ROLLBACK_COMPLETE"
    assert "has no branch prod and no branch dev; push" in early.reasons[0]

    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "Mine")
    url = platform.with_token(made.outputs["CloneUrl"])
    git(tmp_path, "push", "--quiet", url, "HEAD:refs/heads/prod", "HEAD:refs/heads/dev")
    pushed = platform.update(name, InitialContent="pushed")
    assert pushed.status == "UPDATE_COMPLETE", pushed.reasons
    assert pushed.outputs["Commit"] == git(tmp_path, "rev-parse", "HEAD")
    clone = platform.clone(made.outputs["CloneUrl"], tmp_path / "clone")
    assert git(clone, "symbolic-ref", "--short", "HEAD") == "dev"


def test_a_taken_repository_is_refused_and_left_alone(either: Platform) -> None:
    name = f"first-{either.host}-taken"
    owner = either.create(name)
    made = either.create(f"{name}-2", Repository=name)
    assert made.status == "ROLLBACK_COMPLETE"
    assert f"the repository {name} (" in made.reasons[0]
    assert "not this project's: choose another name" in made.reasons[0]
    assert either.has_repository(name)
    assert len(either.groups(name)) == 3
    assert either.update(name, Description="Still there").outputs["Commit"] == owner.outputs["Commit"]


def test_a_taken_group_is_refused_before_a_repository_is_made(either: Platform) -> None:
    name = f"grouped-{either.host}"
    either.sagemaker.create_model_package_group(ModelPackageGroupName=f"{name}-dev")
    made = either.create(name)
    assert made.status == "ROLLBACK_COMPLETE"
    assert f"not this project's: {name}-dev. Choose another name" in made.reasons[0]
    assert not either.has_repository(name)
    assert either.groups(name) == {f"{name}-dev": {}}


@pytest.mark.parametrize(
    ("case", "settings", "changes", "words"),
    [
        ("expired", {"tokens": {TOKEN: {"login": "robot", "expires": 1}}}, {}, "does not take the platform's token"),
        ("unknown", {}, {"GitOwner": "nobody"}, "GitOwner 'nobody': .* knows no organization"),
        pytest.param(
            "down",
            {"outage": True},
            {},
            r"GitHub .* did not do GET /user: .*HTTP status 503",
            marks=pytest.mark.slow,  # it is tried again after pauses
        ),
        pytest.param(
            "limited",
            {"rate_limit": {"limit": 1, "seconds": 600}},
            {},
            "rate limit is reached: .* takes calls again in",
            marks=pytest.mark.slow,
        ),
        (
            "flowless",
            {"tokens": {TOKEN: {"login": "robot", "rights": ["administration", "contents", "variables"]}}},
            {},
            "lacks the scope delete_repo and workflow",
        ),
        ("versionless", {}, {"TemplateVersion": "0.1"}, "TemplateVersion '0.1'"),
        ("ruled", {}, {"ArtifactBucket": "xn--bucket"}, "must not begin with xn--"),
    ],
)
def test_a_fault_is_said_and_nothing_is_left(
    github: Platform, case: str, settings: dict[str, Any], changes: dict[str, str], words: str
) -> None:
    if settings:
        github.aws.configure("github", settings)
    made = github.create(case, **changes)
    assert made.status.startswith("ROLLBACK"), made
    assert re.search(words, made.reasons[-1]), made.reasons
    assert not github.has_repository(case)
    assert github.groups(case) == {}


def test_a_token_without_the_right_to_workflows_is_refused_by_the_push(github: Platform) -> None:
    """A fine-grained token does not say what it may: only the push shows it."""
    fine_grained = "github_pat_" + "A1b2C3d4" * 4
    rights = ["administration", "contents", "variables", "actions"]
    github.aws.configure("github", {"tokens": {fine_grained: {"login": "robot", "rights": rights}}})
    secrets = github.aws.client("secretsmanager")
    secrets.put_secret_value(SecretId="git-token", SecretString=json.dumps({"token": fine_grained}))
    try:
        made = github.create("unpushed")
    finally:
        secrets.put_secret_value(SecretId="git-token", SecretString=TOKEN)
    assert made.status == "ROLLBACK_COMPLETE"
    assert "an administrator gives it the permission Workflows" in made.reasons[0]
    assert not github.has_repository("unpushed")
    assert fine_grained not in made.reasons[0] + github.logs()


def test_a_project_may_belong_to_the_tokens_own_user(github: Platform) -> None:
    made = github.create("own", GitOwner="robot")
    assert made.status == "CREATE_COMPLETE", made.reasons
    assert made.outputs["CloneUrl"].endswith("/robot/own.git")
    assert rest(github, "/repos/robot/own")["private"]


def without_git(folder: Path) -> dict[str, File]:
    return {path: file for path, file in templates.files(folder).items() if not path.startswith(".git/")}


def test_each_version_of_the_template_is_a_commit_that_a_branch_keeps(
    platforms: dict[str, Platform], published: Stack, archive: bytes, template_folder: Path, tmp_path: Path
) -> None:
    for host, platform in platforms.items():
        first = published if host == "codecommit" else platform.publish(VERSION)
        clone = platform.clone(first.outputs["CloneUrl"], tmp_path / host)
        assert without_git(clone) == without_git(template_folder)

        platform.upload("1.1", archive)
        same = platform.publish("1.1", "UPDATE")
        assert same.outputs["Commit"] == first.outputs["Commit"]  # the same files: no commit

        platform.upload("1.2", changed(archive))
        second = platform.publish("1.2", "UPDATE")
        git(clone, "pull", "--quiet")
        newest, before, *older = git(clone, "log", "--format=%H %s").splitlines()
        assert newest == f"{second.outputs['Commit']} Modelyard template 1.2"
        # CodeCommit takes a hundred files at once, and the template may have more.
        assert before.startswith(f"{first.outputs['Commit']} Modelyard template {VERSION}")
        assert len(older) <= (host == "codecommit")
        assert (clone / "hooks" / "new.txt").read_text() == "new"
        assert not (clone / "hooks" / "post_gen_project.py").exists()
        kept = git(
            clone, "branch", "--remotes", "--list", "origin/version-*", "--format=%(refname:short) %(objectname)"
        )
        assert dict(line.split() for line in kept.splitlines()) == {
            f"origin/version-{VERSION}": first.outputs["Commit"],
            "origin/version-1.1": first.outputs["Commit"],
            "origin/version-1.2": second.outputs["Commit"],
        }


def changed(archive: bytes) -> bytes:
    """The archive with one file more and one less."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            if entry.filename != "hooks/post_gen_project.py":
                new.writestr(entry, old.read(entry))
        new.writestr("hooks/new.txt", "new")
    return buffer.getvalue()


def test_a_product_of_an_older_version_makes_projects_of_that_version(
    platforms: dict[str, Platform], published: Stack, archive: bytes, tmp_path: Path
) -> None:
    platform = platforms["codecommit"]
    platform.upload("2.0", changed(archive))
    platform.announce(platform.publish("2.0", "UPDATE"))
    try:
        made = platform.create("older", TemplateVersion=VERSION)
    finally:
        platform.announce(published)
    assert made.outputs["TemplateVersion"] == VERSION
    state = json.loads((platform.clone(made.outputs["CloneUrl"], tmp_path / "older") / ".cruft.json").read_text())
    assert state["commit"] == published.outputs["Commit"]


def test_a_foreign_repository_does_not_become_the_templates(github: Platform) -> None:
    resource = {
        "Type": "Custom::ModelyardTemplate",
        "Properties": {"ServiceToken": github.function, "TemplateVersion": VERSION, "Repository": "somebodys"},
    }
    github.create("somebodys")
    made = github.deploy("another-portfolio", resource, ("Commit",), "CREATE")
    assert made.status == "ROLLBACK_COMPLETE"
    assert "was not made by this platform" in made.reasons[0]
    assert "--template-repository" in made.reasons[0]


@pytest.mark.slow
def test_ten_creations_at_once_are_ten_projects(platform: Platform) -> None:
    names = [f"many-{number}-{platform.host}" for number in range(10)]
    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(platform.create, names))
    assert [each.status for each in made] == ["CREATE_COMPLETE"] * 10, [each.reasons for each in made]
    assert all(platform.has_repository(name) for name in names)
    assert len(platform.groups("many-")) >= 30


@pytest.mark.slow
def test_of_ten_that_want_one_repository_one_gets_it(platform: Platform) -> None:
    names = [f"rival-{number}-{platform.host}" for number in range(10)]
    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(lambda name: platform.create(name, Repository=f"wanted-{platform.host}"), names))
    (winner,) = [name for name, each in zip(names, made, strict=True) if each.status == "CREATE_COMPLETE"]
    assert {group.rpartition("-")[0] for group in platform.groups("rival-") if platform.host in group} == {winner}
    assert platform.has_repository(f"wanted-{platform.host}")


def test_no_line_of_the_function_holds_the_token(platforms: dict[str, Platform], published: Stack) -> None:
    logs = "".join(platform.logs() for platform in platforms.values())
    assert "made a model package group" in logs
    assert TOKEN not in logs
