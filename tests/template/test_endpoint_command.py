"""`python -m pipeline test-endpoint` against endpoints that serve: the generated cases fit whatever the data is."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from local_aws import LocalAWS
from tests.template.conftest import PROBLEM_TYPES, Template, git, run

BUCKET, ROLE = "churn-artifacts", "pipeline-role"
TARGETS = {
    "binary_classification": "leaves",
    "multiclass_classification": "group",
    "regression": "spent",
}
SAMPLES = {
    "binary_classification": ("diagnosis", 0.95),
    "multiclass_classification": ("cultivar", 0.85),
    "regression": ("disease_progression", 70.0),
}
GATES = {"binary_classification": 0.6, "multiclass_classification": 0.4, "regression": 1e12}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def awkward_table(rows: int = 500) -> pd.DataFrame:
    """Quotes, commas, line breaks and other scripts; dates, times, numbers of all sizes, codes; values missing."""
    random = np.random.default_rng(3)
    age = random.integers(18, 80, rows).astype(float)
    city = random.choice(["Ulm", "Köln", "New York, NY", 'say "hi"', "  spaced  ", "日本"], rows)
    member = random.random(rows) < 0.4
    joined = pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 1500, rows), unit="D")
    seen = pd.Timestamp("2020-01-01 10:11:12.123456", tz="UTC") + pd.to_timedelta(
        random.integers(0, 9999, rows), unit="h"
    )
    signal = (age - 50) / 10 + np.where(city == "Ulm", 2.0, -1.0) + member + random.normal(0, 0.5, rows)
    return pd.DataFrame(
        {
            "age": np.where(random.random(rows) < 0.1, np.nan, age),
            "the city, of birth": pd.Series(city).mask(random.random(rows) < 0.1),
            "plan": random.choice(["007", "7", "1.50"], rows),
            "member": pd.Series(member, dtype="boolean").mask(random.random(rows) < 0.1),
            "joined": joined,
            "seen": seen,
            "größe": random.normal(0, 1e9, rows),
            'a "quoted" one': random.random(rows) * 1e-7,
            "zip": random.integers(10_000, 10_012, rows),
            "comment": [f'C{number}, "x"\n' for number in range(rows)],
            "leaves": np.where(signal > 0, "ja, sicher", "nein"),
            "group": np.select([signal < -1.5, signal < 1.5], [1, 2], 3),
            "spent": 1e6 * (100 + 20 * signal),
        }
    )


@dataclass
class Project:
    """A generated repository, and the account that it works in."""

    repository: Path
    aws: LocalAWS
    name: str

    def pipeline(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run(self.repository, "-m", "pipeline", *arguments, **self.aws.environment)

    def done(self, *arguments: str) -> str:
        found = self.pipeline(*arguments)
        assert found.returncode == 0, found.stdout + found.stderr
        return found.stdout

    def change(self, name: str, **changes: str) -> None:
        """Replaces what patterns find, each of them once."""
        path = self.repository / name
        text = path.read_text(encoding="utf-8")
        for old, new in changes.items():
            text, count = re.subn(old, new.replace("\\", r"\\"), text)
            assert count == 1, old
        path.write_text(text, encoding="utf-8")

    def serve(self, version: int = 1) -> None:
        """An endpoint of the version, made as anybody could."""
        sagemaker = self.aws.client("sagemaker")
        listed = sagemaker.list_model_packages(ModelPackageGroupName=f"{self.name}-dev")["ModelPackageSummaryList"]
        arn = next(one["ModelPackageArn"] for one in listed if one["ModelPackageVersion"] == version)
        role = self.aws.client("iam").get_role(RoleName=ROLE)["Role"]["Arn"]
        endpoint = f"{self.name}-dev"
        sagemaker.create_model(ModelName=endpoint, PrimaryContainer={"ModelPackageName": arn}, ExecutionRoleArn=role)
        variant = {"VariantName": "AllTraffic", "ModelName": endpoint, "InstanceType": "ml.m5.large"}
        sagemaker.create_endpoint_config(
            EndpointConfigName=endpoint, ProductionVariants=[{**variant, "InitialInstanceCount": 1}]
        )
        sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=endpoint)
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=endpoint, WaiterConfig={"Delay": 1})


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS(clock_speed=60) as server:  # an endpoint takes SageMaker as long as boto3's waiter waits
        server.client("s3").create_bucket(Bucket=BUCKET)
        trust = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        server.client("iam").create_role(RoleName=ROLE, AssumeRolePolicyDocument=policy)
        yield server


@dataclass
class Projects:
    template: Template
    aws: LocalAWS
    folder: Path

    def make(self, name: str, problem_type: str) -> Project:
        answers = {"project": name, "problem_type": problem_type, "artifact_bucket": BUCKET, "pipeline_role": ROLE}
        made = Project(self.template.generate(self.folder, **answers), self.aws, name)
        made.change("settings.yaml", **{"num_round: 300": "num_round: 60"})
        made.done("register-project", "--groups-only")
        return made


@pytest.fixture(scope="module")
def projects(template: Template, aws: LocalAWS, tmp_path_factory: pytest.TempPathFactory) -> Projects:
    return Projects(template, aws, tmp_path_factory.mktemp("endpoints"))


def trained(project: Project) -> Project:
    git(project.repository, "add", "--all")
    git(project.repository, "commit", "--quiet", "--message", "Mine")
    project.done("start", "--watch")
    project.serve()
    return project


@pytest.fixture(scope="module")
def sample(projects: Projects) -> Project:
    made = projects.make("sample", "binary_classification")
    made.done("sample-data")
    made.done("upload-data")
    return trained(made)


def names_of(table: str, word: str) -> list[str]:
    return re.findall(rf"^  {word} +[\d.]+ s  (.*?)(?:: \d.*)?$", table, re.MULTILINE)


GENERATED = ["refuses broken JSON", "refuses a row without the model's columns", "refuses what it cannot read"]


def test_the_generated_cases_pass_with_the_sample_data(sample: Project) -> None:
    table = sample.done("test-endpoint", "--stage", "dev")
    assert "sample-dev serves sample-dev/1\n" in table
    assert names_of(table, "passed") == [
        "answers as it did when it was evaluated, in CSV as in JSON",
        "predicts one of the classes, with a probability",
        *GENERATED,
        "load",
    ]
    assert re.search(r"^5 cases in [\d.]+ s: all passed$", table, re.MULTILINE)


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES)
def test_the_generated_cases_fit_other_data_without_an_edit(
    projects: Projects, problem_type: str, tmp_path: Path
) -> None:
    target, (old_target, threshold) = TARGETS[problem_type], SAMPLES[problem_type]
    project = projects.make(f"own-{problem_type[:3]}", problem_type)
    ignored = ", ".join(name for name in ("comment", *TARGETS.values()) if name != target)
    project.change(
        "settings.yaml",
        **{
            f"target: {old_target}": f"target: {target}",
            r"ignore: \[\]": f"ignore: [{ignored}]",
            r"  columns: \{\}": "  columns: {zip: {kind: category}, plan: {kind: category}}",
            rf"threshold: {threshold}\b": f"threshold: {GATES[problem_type]:.1f}",
            r"(uri: s3://\S+)\.csv": r"uri: s3://churn-artifacts/own/data.parquet",
            r"  monotone: \{\}": "  monotone: {}"
            if problem_type == "multiclass_classification"
            else "  monotone: {age: increasing, joined: increasing}",
        },
    )
    awkward_table().to_parquet(tmp_path / "data.parquet")
    project.done("upload-data", str(tmp_path / "data.parquet"))
    table = trained(project).done("test-endpoint", "--stage", "dev")
    passed = names_of(table, "passed")
    assert set(GENERATED) < set(passed)
    assert passed[0] == "answers as it did when it was evaluated, in CSV as in JSON"
    if problem_type == "multiclass_classification":
        return
    assert "only grows, or only falls, where settings.yaml says so: age" in passed
    assert names_of(table, "skipped") == ["only grows, or only falls, where settings.yaml says so: joined"]


OWN = r"""
  - name: says which column is missing
    body: '{"instances": [{"mean_radius": 14.1}]}'
    expect: {status: 400, error: {contains: mean_texture}}
  - name: is certain of everything
    rows: evaluated
    expect: {probability: {between: [0.5, 1]}}

load:
"""


def test_a_case_of_ones_own_runs_before_it_is_committed(sample: Project, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(sample.repository), "sample")
    project = Project(tmp_path / "sample", sample.aws, "sample")
    project.change("tests/endpoint/cases.yaml", **{r"\nload:\n": OWN})
    found = project.pipeline("test-endpoint", "--stage", "dev", "--no-load")
    assert found.returncode == 1, found.stderr
    assert "says which column is missing" in names_of(found.stdout, "passed")
    assert names_of(found.stdout, "FAILED") == ["is certain of everything"]
    assert "endpoint-rows.json: probability must be at least 0.5 and at most 1, and is" in found.stdout


def test_the_results_are_json_where_that_is_asked_for(sample: Project) -> None:
    found: dict[str, Any] = json.loads(
        sample.done(
            "test-endpoint", "--endpoint", "sample-dev", "--stage", "dev", "--version", "1", "--no-load", "--json"
        )
    )
    assert (found["endpoint"], found["version"], found["passed"], found["load"]) == (
        "sample-dev",
        "sample-dev/1",
        True,
        None,
    )
    assert [case["passed"] for case in found["cases"]] == [True] * 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--endpoint", "nobody"], "error: there is no endpoint nobody"),
        (["--stage", "prod"], "error: there is no endpoint sample-prod"),
        (["--stage", "dev", "--version", "7"], "error: sample-dev has no version 7"),
    ],
)
def test_what_cannot_be_asked_is_said(sample: Project, arguments: list[str], said: str) -> None:
    found = sample.pipeline("test-endpoint", *arguments)
    assert found.returncode == 2
    assert found.stderr.startswith(said)
