"""The first commit, whatever git is told or lacks; and later versions of the template through cruft."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cookiecutter.exceptions import FailedHookException, OutputDirExistsException
from cookiecutter.main import cookiecutter

from tests.template.conftest import ROLE_ARN, Template, git, read_json

DIRECTORIES = ("cookiecutters", "replay")  # cookiecutter's own
CRUFT = Path(sys.executable).with_name("cruft")


def cruft(folder: Path, *arguments: str) -> str:
    # cruft runs the hooks, and git, from the PATH; its Python is ours
    done = subprocess.run([CRUFT, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def own_template(template: Template, tmp_path: Path) -> Template:
    """A clone of the template that a test may change."""
    folder = tmp_path / "template"
    git(tmp_path, "clone", "--quiet", str(template.folder), str(folder))
    return Template(folder, template.cookiecutter_config)


def test_cruft_create_leaves_a_clean_tree(template: Template, tmp_path: Path) -> None:
    answers = {"project": "churn", "description": 'It\'s "é" \\ {x}', "pipeline_role": ROLE_ARN}
    cruft(tmp_path, "create", str(template.folder), "--no-input", "--extra-context", json.dumps(answers))
    assert git(tmp_path / "churn", "status", "--porcelain") == ""
    assert git(tmp_path / "churn", "rev-list", "--count", "--all") == "1"


def test_cookiecutter_writes_what_cruft_would(template: Template, tmp_path: Path) -> None:
    by_cookiecutter = template.generate(tmp_path / "1", project="churn")
    (tmp_path / "2").mkdir()
    answers = json.dumps({"project": "churn", "pipeline_role": ROLE_ARN})
    cruft(tmp_path / "2", "create", str(template.folder), "--no-input", "--extra-context", answers)
    for name in (".cruft.json", "settings.yaml"):
        assert (by_cookiecutter / name).read_bytes() == (tmp_path / "2" / "churn" / name).read_bytes()


@pytest.mark.parametrize("fetched", [False, True], ids=["cookiecutter /path", "cookiecutter git+file:"])
def test_whoever_generates_from_a_folder_is_told_what_ci_needs(
    template: Template, tmp_path: Path, fetched: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    address = f"file://{template.folder}" if fetched else str(template.folder)
    cookiecutter(
        f"git+{address}" if fetched else address,
        no_input=True,
        extra_context={"project": "churn", "pipeline_role": ROLE_ARN},
        output_dir=str(tmp_path),
        config_file=str(template.cookiecutter_config),
    )
    (line,) = (one for one in capfd.readouterr().out.splitlines() if ".cruft.json" in one)
    assert line.startswith(f".cruft.json names the template by a folder of this machine ({address}), which CI does not")
    remedy = "template there the value of the SSM parameter /modelyard/template/url, and commit that of /modelyard/"
    assert remedy in line


def test_a_template_in_a_folder_of_a_repository_is_found_again(template: Template, tmp_path: Path) -> None:
    shutil.copytree(template.folder, tmp_path / "platform" / "templates" / "model", ignore=lambda *_: [".git"])
    git(tmp_path / "platform", "init", "--quiet")
    git(tmp_path / "platform", "add", "--all")
    git(tmp_path / "platform", "commit", "--quiet", "--message", "Templates")
    nested = Template(tmp_path / "platform" / "templates" / "model", template.cookiecutter_config)
    state = read_json(nested.generate(tmp_path / "out", project="churn") / ".cruft.json")
    assert (state["template"], state["directory"]) == (str(tmp_path / "platform"), "templates/model")
    assert "up to date" in cruft(tmp_path / "out" / "churn", "check")


def test_a_clone_is_remembered_by_its_address_and_checkout(template: Template, tmp_path: Path) -> None:
    git(template.folder, "tag", "--force", "v1")
    repository = Path(
        cookiecutter(
            f"git+file://{template.folder}",
            checkout="v1",
            no_input=True,
            extra_context={"project": "churn", "pipeline_role": ROLE_ARN},
            output_dir=str(tmp_path),
            config_file=str(template.cookiecutter_config),
        )
    )
    state = read_json(repository / ".cruft.json")
    assert (state["template"], state["checkout"]) == (f"file://{template.folder}", "v1")
    assert state["commit"] == git(template.folder, "rev-parse", "HEAD")
    assert "_repo_dir" not in state["context"]["cookiecutter"]


@pytest.mark.parametrize("told_by_the_shell", [True, False], ids=["PWD", "no PWD"])
def test_a_template_named_by_a_relative_address_is_found_again(
    template: Template, tmp_path: Path, told_by_the_shell: bool
) -> None:
    # as in `cd template && cookiecutter .`
    command = [sys.executable, "-m", "cookiecutter", ".", "--no-input", "--output-dir", str(tmp_path), "project=churn"]
    environment = {name: value for name, value in os.environ.items() if name != "PWD"}
    if told_by_the_shell:
        environment["PWD"] = str(template.folder)
    subprocess.run(command, cwd=template.folder, env=environment, check=True)
    assert read_json(tmp_path / "churn" / ".cruft.json")["template"] == str(template.folder)


@pytest.mark.parametrize("by_cruft", [True, False], ids=["cruft create", "cookiecutter"])
def test_cruft_update_brings_a_later_version_and_keeps_own_changes(
    own_template: Template, tmp_path: Path, by_cruft: bool
) -> None:
    if by_cruft:
        answers = json.dumps({"project": "churn", "pipeline_role": ROLE_ARN})
        cruft(tmp_path, "create", str(own_template.folder), "--no-input", "--extra-context", answers)
    else:
        own_template.generate(tmp_path, project="churn")
    repository = tmp_path / "churn"
    settings = repository / "settings.yaml"
    settings.write_text(settings.read_text().replace("eta: 0.1", "eta: 0.3"))
    git(repository, "commit", "--quiet", "--all", "--message", "Faster")

    readme = own_template.folder / "{{cookiecutter.project}}" / "README.md"
    readme.write_text(readme.read_text() + "\nNews for {{ cookiecutter.project }}.\n")
    git(own_template.folder, "commit", "--quiet", "--all", "--message", "News")
    cruft(repository, "update", "--skip-apply-ask")

    assert (repository / "README.md").read_text().endswith("\nNews for churn.\n")
    assert "eta: 0.3" in settings.read_text()
    changed = {line.split()[-1] for line in git(repository, "status", "--porcelain").splitlines()}
    assert changed == {"README.md", ".cruft.json"}
    assert git(repository, "branch", "--show-current") == "dev"
    assert "up to date" in cruft(repository, "check")


def test_without_an_identity_a_stated_one_commits(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    repository = template.generate(tmp_path / "out", project="churn")
    assert git(repository, "log", "--format=%an <%ae>") == "Modelyard <modelyard@localhost>"
    assert "Modelyard <modelyard@localhost>" in capfd.readouterr().out


def test_the_users_git_configuration_does_not_get_in_the_way(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "pre-commit").write_text("#!/bin/sh\nexit 1\n")
    (hooks / "pre-commit").chmod(0o755)
    (tmp_path / "git-template" / "info").mkdir(parents=True)
    (tmp_path / "git-template" / "info" / "exclude").write_text("*.py\n")
    (tmp_path / "ignored").write_text("*.yaml\n*.md\n")
    (tmp_path / ".gitconfig").write_text(
        f"""
[user]
    name = Grace
    email = grace@example.com
    signingkey = none
[init]
    defaultBranch = trunk
    templateDir = {tmp_path}/git-template
[commit]
    gpgsign = true
[core]
    hooksPath = {hooks}
    excludesFile = {tmp_path}/ignored
    autocrlf = true
"""
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    repository = template.generate(tmp_path / "out", project="churn")
    monkeypatch.delenv("GIT_DIR")
    assert git(repository, "log", "--format=%an") == "Grace"
    committed = set(git(repository, "ls-tree", "-r", "--name-only", "prod").splitlines())
    assert {"settings.yaml", "README.md", "pipeline/cli.py", ".cruft.json"} <= committed
    assert git(repository, "branch", "--format", "%(refname:short)").splitlines() == ["dev", "prod"]
    assert not (tmp_path / "elsewhere").exists()


def line_ends(repository: Path) -> set[str]:
    """In the index and in the working tree: i/lf w/lf."""
    return {" ".join(line.split()[:2]) for line in git(repository, "ls-files", "--eol").splitlines()}


def test_windows_gives_the_same_repository(template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git for Windows sets core.autocrlf; a clone of the template, or of the repository, has its line ends anyway."""

    def generate(folder: Path) -> Path:
        answers = {"project": "churn", "pipeline_role": ROLE_ARN}
        (folder / "config.yaml").write_text(json.dumps({f"{name}_dir": str(folder / name) for name in DIRECTORIES}))
        made = cookiecutter(
            f"git+file://{template.folder}",
            no_input=True,
            extra_context=answers,
            output_dir=str(folder),
            config_file=str(folder / "config.yaml"),
        )
        return Path(made)

    homes = [tmp_path / "linux", tmp_path / "windows"]
    for home, value in zip(homes, ("false", "true"), strict=True):
        home.mkdir()
        (home / ".gitconfig").write_text(f"[core]\n    autocrlf = {value}\n")
    monkeypatch.setenv("HOME", str(homes[0]))
    expected = git(generate(homes[0]), "rev-parse", "prod^{tree}")
    monkeypatch.setenv("HOME", str(homes[1]))
    repository = generate(homes[1])
    assert git(repository, "rev-parse", "prod^{tree}") == expected
    git(tmp_path, "clone", "--quiet", str(repository), "clone")
    assert line_ends(repository) == line_ends(tmp_path / "clone") == {"i/lf w/lf"}


def test_files_that_have_windows_line_ends_already_are_committed_without(
    own_template: Template, tmp_path: Path
) -> None:
    """A checkout from before its .gitattributes, say."""
    for name in git(own_template.folder, "ls-files").splitlines():
        path = own_template.folder / name
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    repository = own_template.generate(tmp_path / "out", project="churn")
    assert {ends.split()[0] for ends in line_ends(repository)} == {"i/lf"}
    assert git(repository, "status", "--porcelain") == ""


def test_the_repository_is_of_the_format_that_git_hosts_take(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DEFAULT_HASH", "sha256")
    repository = template.generate(tmp_path / "out", project="churn")
    assert git(repository, "rev-parse", "--show-object-format") == "sha1"


def test_without_git_the_files_are_made_and_the_rest_is_explained(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    repository = template.generate(tmp_path / "out", project="churn")
    assert (repository / "settings.yaml").is_file()
    assert not (repository / ".git").exists()
    said = capfd.readouterr().out
    assert "git is not installed" in said
    assert "git checkout -b prod" in said


def test_a_template_that_is_no_repository_is_used_and_said(
    template: Template, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(template.folder, tmp_path / "copy", ignore=shutil.ignore_patterns(".git"))
    repository = Template(tmp_path / "copy", template.cookiecutter_config).generate(tmp_path / "out", project="churn")
    assert not (repository / ".cruft.json").exists()
    assert "is not a git repository" in capfd.readouterr().out
    assert git(repository, "status", "--porcelain") == ""


@pytest.mark.parametrize("options", [{}, {"overwrite_if_exists": True}, {"skip_if_file_exists": True}], ids=str)
def test_an_existing_folder_is_never_touched(
    template: Template, tmp_path: Path, options: dict[str, bool], capfd: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "churn" / "settings.yaml"
    mine.parent.mkdir()
    mine.write_text("mine")
    before = mine.stat()
    with pytest.raises((OutputDirExistsException, FailedHookException)):
        cookiecutter(
            str(template.folder),
            no_input=True,
            extra_context={"project": "churn"},
            output_dir=str(tmp_path),
            config_file=str(template.cookiecutter_config),
            **options,
        )
    assert [path.name for path in mine.parent.iterdir()] == ["settings.yaml"]
    assert mine.read_text() == "mine"
    assert mine.stat().st_mtime_ns == before.st_mtime_ns
    if options.get("overwrite_if_exists"):
        assert "exists and is not empty" in capfd.readouterr().err
