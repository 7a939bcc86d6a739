"""What is generated: complete, rendered, lint-free, and its own tests pass."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from local_aws.git.github_actions_workflows import parse
from tests.template.conftest import CHECKOUT, PROBLEM_TYPES, SCENARIOS, Modules, Template, git, read_json, run

SUPPORTED = [(problem_type, scenario) for problem_type in PROBLEM_TYPES for scenario in SCENARIOS]

STAGES = {"baseline": ["prod"], "advanced": ["challenger", "champion"]}
CI_FILES = {
    "codecommit": {"buildspec.yml"},
    "github": {".github/workflows/ci.yml", ".github/workflows/template.yml"},
    "gitlab": {".gitlab-ci.yml"},
}
FILES = {
    ".cruft.json",
    ".gitattributes",
    ".gitignore",
    *CI_FILES["codecommit"],
    "README.md",
    "deployment/README.md",
    "deployment/dev.yaml",
    "deployment/feature.yaml",
    "deployment/stage.schema.json",
    "notebook.ipynb",
    "pipeline/__init__.py",
    "pipeline/__main__.py",
    "pipeline/aws.py",
    "pipeline/ci.py",
    "pipeline/ci_systems.py",
    "pipeline/cli.py",
    "pipeline/definition.py",
    "pipeline/endpoint.py",
    "pipeline/endpoint_answers.py",
    "pipeline/endpoint_checks.py",
    "pipeline/endpoint_suite.py",
    "pipeline/endpoint_test.py",
    "pipeline/execution.py",
    "pipeline/frame.py",
    "pipeline/lineage.py",
    "pipeline/metrics.py",
    "pipeline/names.py",
    "pipeline/pair.py",
    "pipeline/parameters.py",
    "pipeline/plan.py",
    "pipeline/project.py",
    "pipeline/promotion.py",
    "pipeline/pull_requests.py",
    "pipeline/quality.py",
    "pipeline/registration.py",
    "pipeline/registry.py",
    "pipeline/remote.py",
    "pipeline/retraining.py",
    "pipeline/sample_data.py",
    "pipeline/sdk.py",
    "pipeline/settings.py",
    "pipeline/source.py",
    "pipeline/stage_file.py",
    "pipeline/stage_schema.py",
    "pipeline/starting.py",
    "pipeline/template_update.py",
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
    "tests/endpoint/cases.schema.json",
    "tests/endpoint/cases.yaml",
    "tests/test_ci.py",
    "tests/test_data.py",
    "tests/test_definition.py",
    "tests/test_evaluate.py",
    "tests/test_inference.py",
    "tests/test_repository.py",
}

Generated = Callable[[str, str], Path]


def files_of(repository: Path) -> set[str]:
    paths = (path.relative_to(repository) for path in repository.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if path.parts[0] != ".git"}


@pytest.mark.parametrize(("problem_type", "scenario"), SUPPORTED)
def test_exactly_these_files(generated: Generated, problem_type: str, scenario: str) -> None:
    expected = FILES | {f"deployment/{stage}.yaml" for stage in STAGES[scenario]}
    assert files_of(generated(problem_type, scenario)) == expected


@pytest.fixture(scope="module")
def for_host(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The repository for a Git host, generated once."""

    @cache
    def get(host: str) -> Path:
        folder = tmp_path_factory.mktemp(host)
        return template.generate(folder, project="churn", problem_type="regression", git_host=host)

    return get


def test_the_notebook_predicts_nothing_before_a_version_is_registered(
    generated: Generated, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = read_json(generated("regression", "baseline") / "notebook.ipynb")["cells"]
    (cell,) = ("".join(cell["source"]) for cell in cells if cell["id"] == "prediction")
    exec(cell, {"found": [], "names": SimpleNamespace(group="churn-dev")})
    assert "no version is registered in churn-dev yet: follow an execution that succeeds" in capsys.readouterr().out


@pytest.mark.parametrize("host", ["github", "gitlab"])
def test_the_git_host_decides_on_ci_files_and_readme_alone(for_host: Callable[[str], Path], host: str) -> None:
    here, other = for_host("codecommit"), for_host(host)
    assert files_of(other) == FILES - CI_FILES["codecommit"] | CI_FILES[host] | {"deployment/prod.yaml"}
    assert (other / ".github").exists() is (host == "github"), "git keeps no empty folder, and none is left"
    for name in files_of(here) & files_of(other) - {".cruft.json", "README.md"}:
        assert (here / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize("host", CI_FILES)
def test_a_readme_talks_of_its_own_git_host(for_host: Callable[[str], Path], host: str) -> None:
    text = (for_host(host) / "README.md").read_text(encoding="utf-8")
    names = {"codecommit": "CodePipeline", "github": "GitHub", "gitlab": "GitLab"}
    assert {other for other, name in names.items() if name in text} == {host}
    assert "\n\n\n" not in text
    assert re.search(r"\n\n    python -m pipeline versions --stage prod\n", text)


def ci_file(repository: Path, name: str) -> dict[str, Any]:
    # YAML 1.1, as PyYAML reads it, takes the key `on` for true
    return yaml.safe_load((repository / name).read_text(encoding="utf-8").replace("\non:\n", "\n'on':\n"))


def commands_of(repository: Path, name: str) -> list[str]:
    """What the jobs of a CI file run, in order."""
    content = ci_file(repository, name)
    if name == "buildspec.yml":
        return [command for phase in content["phases"].values() for command in phase["commands"]]
    if name == ".gitlab-ci.yml":
        jobs = [content["default"], *(job for job in content.values() if isinstance(job, dict))]
        return [line for job in jobs for part in ("before_script", "script") for line in job.get(part, [])]
    return [step["run"] for job in content["jobs"].values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize(("host", "name"), [(host, name) for host in CI_FILES for name in sorted(CI_FILES[host])])
def test_ci_files_run_the_repositorys_own_commands_alone(for_host: Callable[[str], Path], host: str, name: str) -> None:
    commands = commands_of(for_host(host), name)
    own = re.compile(r'pip install ("\.\[(dev|template|\$MODELYARD_EXTRAS)\]"|\.)|python -m pipeline ci [a-zA-Z_$ ]+')
    # GitLab's clone of the default branch, for the job of a branch whose commit is gone
    clone = {"rm -rf default-branch", "cd default-branch"}
    clone |= {'git clone --quiet --depth 1 "$CI_REPOSITORY_URL" default-branch'}
    assert [command for command in commands if not own.fullmatch(command) and command not in clone] == []
    assert any("pipeline ci" in command for command in commands)


@pytest.mark.parametrize("host", CI_FILES)
def test_every_step_of_ci_is_run_by_every_host(for_host: Callable[[str], Path], host: str) -> None:
    run = [line.split() for name in CI_FILES[host] for line in commands_of(for_host(host), name) if "-m" in line]
    steps = {step for line in run for step in line[line.index("ci") + 1 :]}
    # which of them a build runs, the project's rules and pipelines say (servicecatalog/product.yaml)
    assert steps == ({"$MODELYARD_CI_STEPS"} if host == "codecommit" else {"check", "push", "deleted", "template"})


@pytest.mark.parametrize("name", sorted(CI_FILES["github"]))
def test_github_gives_each_job_the_least_and_pins_its_actions(for_host: Callable[[str], Path], name: str) -> None:
    content = ci_file(for_host("github"), name)
    assert content["permissions"] == {}
    for job in content["jobs"].values():
        writes = {key for key, level in job["permissions"].items() if level == "write"}
        assert writes <= {"id-token", "pull-requests"}
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), "a text of others would become part of the command"
            if "uses" in step:
                assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"])
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("branch", ["dev", "prod", "feature-a", "feature-a/b", "feature-", "feature", "main", "x/dev"])
def test_github_runs_ci_for_the_branches_that_train_and_for_prod(
    for_host: Callable[[str], Path], pipeline: Modules, branch: str
) -> None:
    workflow = parse((for_host("github") / ".github/workflows/ci.yml").read_text(encoding="utf-8"), "ci.yml")
    assert workflow.events["push"].takes_branch(branch) is (branch == "prod" or pipeline.names.trains(branch))
    assert "workflow_dispatch" in workflow.events, "without a push prod promotes what a retraining has brought to dev"


def test_no_job_that_whoever_pushes_a_branch_can_change_reads_a_secret(for_host: Callable[[str], Path]) -> None:
    """GitHub gives a repository's secrets to every workflow of every branch; an environment's it can keep to dev."""
    read = {}
    for name in CI_FILES["github"]:
        for job in ci_file(for_host("github"), name)["jobs"].values():
            if found := set(re.findall(r"secrets\.(\w+)", repr(job))) - {"GITHUB_TOKEN"}:
                read[job.get("environment")] = found
                # AWS gives a job with an environment no role, whatever its branch (servicecatalog/product.yaml)
                assert "id-token" not in job["permissions"]
    assert read == {"template": {"MODELYARD_TEMPLATE_TOKEN"}}


def test_a_newer_push_ends_the_job_before_but_never_a_promotion(for_host: Callable[[str], Path]) -> None:
    push = ci_file(for_host("github"), ".github/workflows/ci.yml")["jobs"]["push"]["concurrency"]
    assert push["cancel-in-progress"] is True
    assert "github.ref == 'refs/heads/prod' && github.run_id" in push["group"], "each promotion has its own group"
    jobs = ci_file(for_host("gitlab"), ".gitlab-ci.yml")
    assert jobs["default"]["interruptible"] is True
    assert {name for name, job in jobs.items() if isinstance(job, dict) and job.get("interruptible") is False} == {
        "prod",
        "deleted",
        "template",
    }


def test_the_buildspec_has_what_codebuild_knows(for_host: Callable[[str], Path]) -> None:
    # https://docs.aws.amazon.com/codebuild/latest/userguide/build-spec-ref.html
    content = ci_file(for_host("codecommit"), "buildspec.yml")
    assert content.keys() == {"version", "env", "phases", "cache"}
    assert content["version"] == 0.2
    assert content["env"] == {
        "git-credential-helper": True,
        "variables": {"MODELYARD_CI_STEPS": "check", "MODELYARD_EXTRAS": "dev"},
    }
    assert list(content["phases"]) == ["install", "build"]
    assert content["phases"]["install"]["runtime-versions"] == {"python": 3.12}


@pytest.mark.parametrize(("problem_type", "scenario"), SUPPORTED)
def test_nothing_is_left_unrendered(generated: Generated, problem_type: str, scenario: str) -> None:
    repository = generated(problem_type, scenario)
    for name in sorted(files_of(repository) - {".cruft.json"}):
        text = (repository / name).read_text(encoding="utf-8")
        # Python never passes Jinja (cookiecutter.json), and may hold "%}" as in "{width:100%}"
        assert not re.search(
            r"cookiecutter\.(?!yaml)" if name.endswith(".py") else r"cookiecutter\.|\{\{ |\{%|%\}", text
        ), name


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


TUNE = {"max_jobs": 4, "parallel_jobs": 2, "strategy": "Bayesian", "ranges": {"eta": [0.02, 0.3], "max_depth": [3, 8]}}
OWNERS_SETTINGS = {
    "tuned, by time": {
        "data": {"target": "churned", "ignore": ["customer_id"], "time": "joined"},
        "train": {"tune": TUNE, "instance_count": 2, "spot": True, "max_wait_seconds": 7200},
        "gate": {"metric": "logloss", "threshold": 0.3, "incomparable": "pass"},
        "retrain": {"schedule": "rate(7 days)"},
    },
    "by key, with conditions": {
        "data": {"target": "churned", "key": "customer_id", "columns": {"zip": {"kind": "category"}}},
        "split": {"files": {"test": "test/*.csv"}},
        "train": {"hyperparameters": {"num_round": 50, "early_stopping_rounds": 5, "seed": 1, "reg_lambda": 2}},
        "evaluate": {"slices": ["country"], "costs": {"false_positive": 1, "false_negative": 20}},
        "gate": {"conditions": [{"metric": "latency.one_row_ms", "at_most": 20}]},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("changes", OWNERS_SETTINGS.values(), ids=OWNERS_SETTINGS)
def test_its_own_tests_pass_whatever_its_owner_sets(
    generated: Generated, changes: dict[str, Any], tmp_path: Path
) -> None:
    repository = tmp_path / "churn"
    subprocess.run(["git", "clone", "--quiet", generated("binary_classification", "advanced"), repository], check=True)
    path = repository / "settings.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section, fields in changes.items():
        # of the hyperparameters those that are left out are gone, of anything else they stay
        settings[section] = {**(settings[section] or {}), **fields}
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    deployment = repository / "deployment"
    deployment.joinpath("dev.yaml").write_text("kind: serverless\nmemory_mb: 2048\nmax_concurrency: 5\n")
    deployment.joinpath("champion.yaml").write_text(
        "kind: real_time\ninstance_type: ml.m9z.large\n"
    )  # a warning, no fault
    assert run(repository, "-m", "pipeline", "check").returncode == 0
    # the steps' tests have settings of their own
    files = ("tests/test_repository.py", "tests/test_definition.py", "tests/test_ci.py")
    done = run(repository, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "own"), *files)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


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


@pytest.mark.parametrize(
    "problem_type",
    [one if one == PROBLEM_TYPES[0] else pytest.param(one, marks=pytest.mark.slow) for one in PROBLEM_TYPES],
)
def test_what_the_settings_show_as_examples_can_be_written_so(
    generated: Generated, problem_type: str, tmp_path: Path
) -> None:
    repository = tmp_path / "churn"
    subprocess.run(["git", "clone", "--quiet", generated(problem_type, "baseline"), repository], check=True)
    path = repository / "settings.yaml"
    # `tune: null # or {max_jobs: 20, ...}` becomes `tune: {max_jobs: 20, ...}`
    shown = re.compile(r"^( *)(\w+): [^#\n]*# [^\[{\n]*([\[{](?!stage\})[^;\n]*[\]}]).*$", re.MULTILINE)
    settings = path.read_text(encoding="utf-8")
    names = {name for _, name, _ in shown.findall(settings)}
    assert {"ignore", "columns", "files", "tune", "conditions", "retrain"} <= names
    changed = shown.sub(r"\1\2: \3", settings).replace("slices: []", "slices: [country]")
    path.write_text(changed, encoding="utf-8")
    done = run(repository, "-m", "pipeline", "check")
    assert done.returncode == 0, done.stderr + changed
