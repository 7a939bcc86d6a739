"""The function renders what cookiecutter on the command line generates, to the byte, and refuses what it refuses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from seed_lambda.errors import InvalidProperties, SeedError
from seed_lambda.hosts import File, Tree
from seed_lambda.hosts.codecommit import MOST_FILES
from seed_lambda.properties import ProjectProperties
from seed_lambda.render import answers, render
from seed_lambda.template import Published, files
from tests.local_aws.git_clients import git
from tests.seed_lambda.requests import REGION, VERSION, project


def published(folder: Path) -> Published:
    return Published(VERSION, str(folder), git(folder, "rev-parse", "HEAD"))


def on_the_command_line(template: Path, output: Path, given: dict[str, str]) -> Tree:
    """What is in the first commit of the repository that cookiecutter makes."""
    config = output / "cookiecutter.yaml"
    config.write_text(f'{{"cookiecutters_dir": "{output}/clones", "replay_dir": "{output}/replay"}}')
    command = [sys.executable, "-m", "cookiecutter", "--no-input", "--config-file", str(config), "-o", str(output)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    settings = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "PYTHONUTF8": "1"}
    done = subprocess.run(
        [*command, str(template), *(f"{name}={value}" for name, value in given.items())],
        env=kept | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    repository = output / given["project"]
    found: dict[str, File] = {}
    for line in git(repository, "ls-tree", "-r", "-z", "prod").split("\0"):
        if line:
            head, path = line.split("\t")
            mode, _, blob = head.split()
            content = subprocess.run(["git", "cat-file", "blob", blob], cwd=repository, capture_output=True, check=True)
            found[path] = File(content.stdout, mode)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"Scenario": "advanced", "GitHost": "github", "ProblemType": "regression"},
        {"Project": "x", "Description": "Ünïcode, 'quotes', \"more\", \\ and {braces} } {", "GitHost": "github"},
    ],
    ids=["defaults", "advanced on GitHub", "awkward description"],
)
def test_every_file_is_the_command_lines(template_folder: Path, tmp_path: Path, changes: dict[str, str]) -> None:
    given = answers(ProjectProperties.parse(project(**changes)), REGION)
    ours = render(template_folder, given, published(template_folder))
    theirs = on_the_command_line(template_folder, tmp_path, given)
    assert sorted(ours) == sorted(theirs)
    assert {path for path in theirs if ours[path] != theirs[path]} == set()


@pytest.mark.parametrize("host", ["codecommit", "github"])
def test_it_fits_into_one_commit_of_codecommit(template_folder: Path, host: str) -> None:
    given = answers(ProjectProperties.parse(project(GitHost=host)), REGION)
    assert len(render(template_folder, given, published(template_folder))) <= MOST_FILES


@pytest.mark.parametrize("scenario", ["baseline", "advanced"])
@pytest.mark.parametrize("host", ["codecommit", "github"])
def test_no_file_is_empty(template_folder: Path, host: str, scenario: str) -> None:
    """CodeCommit may not take one by its API: docs/unverified.md."""
    given = answers(ProjectProperties.parse(project(GitHost=host, Scenario=scenario)), REGION)
    assert [path for path, file in files(template_folder).items() if not file.content and ".git/" not in path] == []
    rendered = render(template_folder, given, published(template_folder))
    assert [path for path, file in rendered.items() if not file.content] == []


def test_executable_files_and_links_are_kept(template_folder: Path, tmp_path: Path) -> None:
    template = tmp_path / "template"
    folder = template / "{{cookiecutter.project}}"
    folder.mkdir(parents=True)
    questions = (template_folder / "cookiecutter.json").read_text()
    (template / "cookiecutter.json").write_text(questions)
    (folder / "run.sh").write_text("#!/bin/sh\necho {{ cookiecutter.project }}\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "plain.txt").write_text("{{ cookiecutter.project }}")
    (folder / "link.txt").symlink_to("plain.txt")
    git(template, "init", "--quiet")
    git(template, "add", "--all")
    git(template, "commit", "--quiet", "--message", "small")
    given = answers(ProjectProperties.parse(project()), REGION)
    ours = render(template, given, published(template))
    assert ours["run.sh"] == File(b"#!/bin/sh\necho churn\n", "100755")
    # cookiecutter follows links to files, on the command line too
    assert ours["link.txt"] == File(b"churn")


def test_the_templates_own_rules_refuse_and_are_told(template_folder: Path) -> None:
    given = answers(ProjectProperties.parse(project(ArtifactBucket="xn--bucket", PipelineRole="a b")), REGION)
    with pytest.raises(InvalidProperties) as caught:
        render(template_folder, given, published(template_folder))
    assert len(caught.value.faults) == 2
    assert "artifact_bucket 'xn--bucket': it must not begin with xn--" in str(caught.value)
    assert "pipeline_role 'a b': write a role's name" in str(caught.value)


@pytest.mark.parametrize("code", ["{{ cookiecutter }}", "{% raw %}", "{# note #}"])
def test_no_answer_is_run_as_template_code(template_folder: Path, code: str) -> None:
    given = answers(ProjectProperties.parse(project()), REGION) | {"description": code}
    with pytest.raises(InvalidProperties, match="taken for template code"):
        render(template_folder, given, published(template_folder))


def test_a_template_that_does_not_ask_what_is_answered_is_refused(template_folder: Path) -> None:
    with pytest.raises(SeedError, match="does not ask colour"):
        render(template_folder, {"project": "churn", "colour": "red"}, published(template_folder))


def test_the_rules_see_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But where Python's libraries are, without which Lambda's may not start; and they write UTF-8."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/var/lang/lib")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (tmp_path / "hooks").mkdir()
    (tmp_path / "cookiecutter.json").write_text('{"project": "churn"}')
    (tmp_path / "hooks" / "pre_gen_project.py").write_text(
        "import os, sys\n"
        "known = {name: value for name, value in os.environ.items() if name != 'LC_CTYPE'}  # Python's own\n"
        "sys.exit(f'- {sorted(known.items())} {sys.flags.utf8_mode} \u00fc')\n",
        encoding="utf-8",
    )
    seen = [("LD_LIBRARY_PATH", "/var/lang/lib"), ("PATH", "/usr/bin:/bin")]
    with pytest.raises(InvalidProperties, match=f"^{re.escape(f'{seen} 1 ü')}$"):
        render(tmp_path, {}, Published(VERSION, "url", "commit"))


def test_nothing_is_left_behind(template_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    render(template_folder, answers(ProjectProperties.parse(project()), REGION), published(template_folder))
    assert list(tmp_path.iterdir()) == []
