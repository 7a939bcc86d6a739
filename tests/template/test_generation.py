"""What is generated: complete, rendered, lint-free, and its own tests pass."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.template.conftest import CHECKOUT, PROBLEM_TYPES, SCENARIOS, Template, git, run

SUPPORTED = [(problem_type, scenario) for problem_type in PROBLEM_TYPES for scenario in SCENARIOS]

STAGES = {"baseline": ["prod"], "advanced": ["challenger", "champion"]}
CI_FILES = {"codecommit": "buildspec.yml", "github": ".github/workflows/ci.yml"}
FILES = {
    ".cruft.json",
    ".gitignore",
    CI_FILES["codecommit"],
    "README.md",
    "deployment/README.md",
    "deployment/dev.yaml",
    "deployment/feature.yaml",
    "deployment/stage.schema.json",
    "pipeline/__init__.py",
    "pipeline/__main__.py",
    "pipeline/aws.py",
    "pipeline/cli.py",
    "pipeline/definition.py",
    "pipeline/endpoint.py",
    "pipeline/errors.py",
    "pipeline/execution.py",
    "pipeline/frame.py",
    "pipeline/lineage.py",
    "pipeline/metrics.py",
    "pipeline/names.py",
    "pipeline/parameters.py",
    "pipeline/permissions.py",
    "pipeline/plan.py",
    "pipeline/project.py",
    "pipeline/quality.py",
    "pipeline/registration.py",
    "pipeline/registry.py",
    "pipeline/remote.py",
    "pipeline/sample_data.py",
    "pipeline/sdk.py",
    "pipeline/settings.py",
    "pipeline/source.py",
    "pipeline/stage_file.py",
    "pipeline/stage_schema.py",
    "pipeline/terminal.py",
    "pipeline/training.py",
    "pipeline/yaml_file.py",
    "pipeline/yaml_text.py",
    "pyproject.toml",
    "settings.yaml",
    "steps/answers.py",
    "steps/baseline.py",
    "steps/batches.py",
    "steps/booster_parameters.py",
    "steps/boosting.py",
    "steps/checkpoint.py",
    "steps/cluster.py",
    "steps/columns.py",
    "steps/comparison.py",
    "steps/csv_files.py",
    "steps/curves.py",
    "steps/estimates.py",
    "steps/evaluate.py",
    "steps/files.py",
    "steps/findings.py",
    "steps/gate.py",
    "steps/inference.py",
    "steps/job.py",
    "steps/media_types.py",
    "steps/metrics.py",
    "steps/model_card.py",
    "steps/page.py",
    "steps/plots.py",
    "steps/preprocess.py",
    "steps/probes.py",
    "steps/quality_files.py",
    "steps/report.py",
    "steps/report_predictions.py",
    "steps/request_rows.py",
    "steps/scoring.py",
    "steps/slices.py",
    "steps/split.py",
    "steps/survey.py",
    "steps/tables.py",
    "steps/train.py",
    "steps/transform.py",
    "steps/worker.py",
    "tests/conftest.py",
    "tests/test_data.py",
    "tests/test_definition.py",
    "tests/test_evaluate.py",
    "tests/test_inference.py",
    "tests/test_repository.py",
    "tests/test_steps.py",
}

Generated = Callable[[str, str], Path]


def files_of(repository: Path) -> set[str]:
    paths = (path.relative_to(repository) for path in repository.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if path.parts[0] != ".git"}


@pytest.mark.parametrize(("problem_type", "scenario"), SUPPORTED)
def test_exactly_these_files(generated: Generated, problem_type: str, scenario: str) -> None:
    expected = FILES | {f"deployment/{stage}.yaml" for stage in STAGES[scenario]}
    assert files_of(generated(problem_type, scenario)) == expected


def test_the_git_host_decides_on_the_ci_file_alone(template: Template, generated: Generated, tmp_path: Path) -> None:
    here = generated("regression", "baseline")
    other = template.generate(tmp_path, project="churn", problem_type="regression", git_host="github")
    assert files_of(other) == FILES - {CI_FILES["codecommit"]} | {CI_FILES["github"], "deployment/prod.yaml"}
    assert not (here / ".github").exists(), "git keeps no empty folder, and none is left"
    for name in files_of(here) & files_of(other) - {".cruft.json"}:
        assert (here / name).read_bytes() == (other / name).read_bytes(), name
    assert "group: ci-${{ github.ref }}" in (other / CI_FILES["github"]).read_text(encoding="utf-8")


def test_both_ci_files_run_the_same_commands(template: Template, generated: Generated, tmp_path: Path) -> None:
    buildspec = yaml.safe_load((generated("regression", "baseline") / CI_FILES["codecommit"]).read_text())
    other = template.generate(tmp_path, project="churn", problem_type="regression", git_host="github")
    steps = yaml.safe_load((other / CI_FILES["github"]).read_text())["jobs"]["check"]["steps"]
    phases = buildspec["phases"]
    commands = [*phases["install"]["commands"], *phases["build"]["commands"]]
    assert commands == [step["run"] for step in steps if "run" in step]
    assert "pytest" in commands


@pytest.mark.parametrize(("problem_type", "scenario"), SUPPORTED)
def test_nothing_is_left_unrendered(generated: Generated, problem_type: str, scenario: str) -> None:
    repository = generated(problem_type, scenario)
    for name in sorted(files_of(repository) - {".cruft.json"}):
        text = (repository / name).read_text(encoding="utf-8")
        # Python never passes Jinja (cookiecutter.json), and may hold "%}" as in "{width:100%}"
        assert not re.search(r"cookiecutter\." if name.endswith(".py") else r"cookiecutter\.|\{\{ |\{%|%\}", text), name


@pytest.mark.parametrize(("problem_type", "scenario"), SUPPORTED)
def test_a_repository_with_prod_and_dev_and_one_commit(generated: Generated, problem_type: str, scenario: str) -> None:
    repository = generated(problem_type, scenario)
    assert git(repository, "branch", "--show-current") == "dev"
    assert git(repository, "branch", "--format", "%(refname:short)").splitlines() == ["dev", "prod"]
    assert git(repository, "rev-list", "--count", "--all") == "1"
    assert git(repository, "status", "--porcelain", "--ignored") == ""


@pytest.mark.parametrize(("problem_type", "scenario"), SUPPORTED)
def test_ruff_finds_nothing(generated: Generated, problem_type: str, scenario: str) -> None:
    ruff = CHECKOUT / ".envs" / "lint" / "bin" / "ruff"
    if not ruff.exists():
        pytest.skip("the linters' environment is not made: make lint")
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [ruff, *command, "--no-cache", "."],
            cwd=generated(problem_type, scenario),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("problem_type", "scenario"),
    # the scenario changes stage files alone, and the problem type little: the others' turn comes with the slow tests
    [case if case == SUPPORTED[0] else pytest.param(*case, marks=pytest.mark.slow) for case in SUPPORTED],
)
def test_its_own_tests_pass(generated: Generated, problem_type: str, scenario: str, tmp_path: Path) -> None:
    repository = generated(problem_type, scenario)
    done = run(repository, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "own"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
    assert files_of(repository) == FILES | {f"deployment/{stage}.yaml" for stage in STAGES[scenario]}


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES)
def test_sample_data_fits_the_settings(generated: Generated, problem_type: str, tmp_path: Path) -> None:
    repository = tmp_path / "churn"
    subprocess.run(["git", "clone", "--quiet", generated(problem_type, "baseline"), repository], check=True)
    made = run(repository, "-m", "pipeline", "sample-data")
    assert made.returncode == 0, made.stderr
    path = Path(made.stdout.strip())
    header = path.read_text(encoding="utf-8").splitlines()[0].split(",")
    settings = (repository / "settings.yaml").read_text(encoding="utf-8")
    target = re.search(r"^  target: (\w+)$", settings, re.MULTILINE)
    assert target
    assert header[-1] == target[1]
    assert f"/data/{path.name}\n" in settings
    assert git(repository, "status", "--porcelain") == "", "sample data must not come into git"
