"""The compiled pipeline: compiled without any AWS account or network."""

from __future__ import annotations

import json
import math
import re
import socket
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import mixed_table, new_run, step_settings

from pipeline.definition import compile_definition
from pipeline.frame import Commit
from pipeline.lineage import Lineage
from pipeline.names import names_of
from pipeline.parameters import places, threshold_name
from pipeline.registration import metadata_value
from pipeline.settings import load_settings
from pipeline.source import build_archives
from pipeline.stage_file import StageFiles, load_stage_files
from pipeline.training import TRAINING_METRICS, metric_definitions

ROLE = "arn:aws:iam::123456789012:role/pipeline"
SETTINGS = load_settings()
# what SageMaker compares to find an earlier result (developer guide, "Caching pipeline steps")
CACHE_KEYS = {
    "Processing": ["AppSpecification", "Environment", "ProcessingInputs"],
    "Training": ["AlgorithmSpecification", "CheckpointConfig", "Environment", "HyperParameters", "InputDataConfig"],
    "Tuning": [
        "HyperParameterTuningJobConfig",
        "TrainingJobDefinition.AlgorithmSpecification",
        "TrainingJobDefinition.InputDataConfig",
        "TrainingJobDefinition.StaticHyperParameters",
    ],
}
TRAINING = ("Train", "Training") if SETTINGS.train.tune is None else ("Tune", "Tuning")


def a_commit(branch: str = "dev", commit: str = "a" * 40, stage_files: StageFiles | None = None) -> Commit:
    names = names_of(SETTINGS.project, branch)
    return Commit(
        names=names,
        lineage=Lineage(commit=commit, tree=commit[::-1], repository="https://example.com/r.git"),
        archives=build_archives(SETTINGS, names.folder),
        stage_files=stage_files or load_stage_files(),
    )


@cache
def definition(branch: str) -> str:
    """Compiled once for each branch: it takes a second, and tests only read it."""
    return compile_definition(SETTINGS, a_commit(branch), ROLE)


@pytest.fixture(scope="module")
def compiled() -> dict[str, Any]:
    return json.loads(definition("dev"))


def steps_of(definition: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = {step["Name"]: step for step in definition["Steps"]}
    condition = found["CheckQuality"]["Arguments"]
    return found | {step["Name"]: step for step in condition["IfSteps"] + condition["ElseSteps"]}


def cache_keys(step: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for path in CACHE_KEYS[step["Type"]]:
        value: Any = step["Arguments"]
        for name in path.split("."):
            value = value.get(name, {})
        found[path] = value
    return found


@cache
def definition_without_network(branch: str, commit: str) -> str:
    """Compiled with other stage files."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError(f"a connection was tried: {arguments}")

    changed = StageFiles({"dev": b"kind: real_time\n"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", refuse)
        patch.setattr(socket.socket, "connect", refuse)
        return compile_definition(SETTINGS, a_commit(branch, commit, changed), ROLE)


def test_the_steps_in_their_order(compiled: dict[str, Any]) -> None:
    kinds = {name: step["Type"] for name, step in steps_of(compiled).items()}
    assert kinds == {
        "Preprocess": "Processing",
        TRAINING[0]: TRAINING[1],
        "Evaluate": "Processing",
        "CheckQuality": "Condition",
        "Register": "RegisterModel",
        "QualityNotMet": "Fail",
    }


def test_compiling_needs_no_network() -> None:
    assert json.loads(definition_without_network("feature-y", "b" * 40))


def test_commit_branch_and_stage_files_leave_the_cache_keys_as_they_are() -> None:
    one = json.loads(definition("feature-x"))
    other = json.loads(definition_without_network("feature-y", "b" * 40))
    assert other != one
    for name in ("Preprocess", TRAINING[0]):
        before, after = steps_of(one)[name], steps_of(other)[name]
        assert before["CacheConfig"]["Enabled"] is True
        assert cache_keys(before) == cache_keys(after), name
    assert "CacheConfig" not in steps_of(one)["Evaluate"]


def test_dev_takes_no_result_that_a_feature_branch_computed(compiled: dict[str, Any]) -> None:
    other = json.loads(definition("feature-x"))
    for name in ("Preprocess", TRAINING[0]):
        assert cache_keys(steps_of(compiled)[name]) != cache_keys(steps_of(other)[name]), name


def test_a_version_waits_for_approval_with_its_lineage(compiled: dict[str, Any]) -> None:
    arguments = steps_of(compiled)["Register"]["Arguments"]
    assert arguments["ModelApprovalStatus"] == "PendingManualApproval"
    assert arguments["ModelPackageGroupName"] == f"{SETTINGS.project}-dev"
    metadata = arguments["CustomerMetadataProperties"]
    assert metadata["git.commit"] == "a" * 40
    assert metadata["deployment.prefix"].startswith(f"s3://{SETTINGS.aws.bucket}/{SETTINGS.project}/dev/deployment/")
    assert set(load_stage_files().contents) == {
        key.removeprefix("deployment.sha256.") for key in metadata if key.startswith("deployment.sha256.")
    }
    assert len(metadata) <= 50
    assert arguments["InferenceSpecification"]["Containers"][0]["Environment"] == {
        "SAGEMAKER_PROGRAM": "inference.py",
        "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
    }


@pytest.mark.parametrize(("branch", "folder"), [("dev", "dev"), ("feature-x", "feature")])
def test_what_a_branch_writes_lies_below_its_stages_folder(branch: str, folder: str) -> None:
    found = set(re.findall(r's3://[^"]+', definition(branch)))
    assert found - {SETTINGS.data.uri}, "code, stage files and results"
    own = f"s3://{SETTINGS.aws.bucket}/{SETTINGS.project}/{folder}/"
    assert {uri for uri in found if not uri.startswith(own)} == {SETTINGS.data.uri}


def test_the_threshold_is_a_parameter_with_its_direction(compiled: dict[str, Any]) -> None:
    name = threshold_name(SETTINGS)
    assert name.startswith("Minimum" if SETTINGS.metric.higher_is_better else "Maximum")
    condition = steps_of(compiled)["CheckQuality"]["Arguments"]["Conditions"][0]
    assert condition["RightValue"] == {"Get": f"Parameters.{name}"}
    assert condition["Type"] == ("GreaterThanOrEqualTo" if SETTINGS.metric.higher_is_better else "LessThanOrEqualTo")
    assert {"Name": name, "Type": "Float", "DefaultValue": SETTINGS.gate.threshold} in compiled["Parameters"]


def test_the_version_that_serves_now_is_compared_within_the_tolerance(compiled: dict[str, Any]) -> None:
    comparison, *others = steps_of(compiled)["CheckQuality"]["Arguments"]["Conditions"][1:]
    assert comparison["LeftValue"]["Std:JsonGet"]["Path"] == "worse_by.serving"
    assert comparison["Type"] == "LessThanOrEqualTo"
    assert comparison["RightValue"] == {"Get": "Parameters.Tolerance"}
    comparable = [one["RightValue"] for one in others if one["Type"] == "Equals"]
    assert comparable == ([1] if SETTINGS.gate.incomparable == "fail" else [])


def test_a_version_carries_its_baselines_report_and_model_card(compiled: dict[str, Any]) -> None:
    arguments = steps_of(compiled)["Register"]["Arguments"]
    for place in ("ModelMetrics", "DriftCheckBaselines"):
        for kind, names in (
            ("ModelQuality", {"Statistics": "evaluation.json", "Constraints": "constraints.json"}),
            ("ModelDataQuality", {"Statistics": "statistics.json", "Constraints": "constraints.json"}),
        ):
            found = arguments[place][kind]
            assert {part: source["S3Uri"]["Std:Join"]["Values"][-1] for part, source in found.items()} == names
    assert arguments["CustomerMetadataProperties"]["report"]["Std:Join"]["Values"][-1] == "report.html"
    assert arguments["ModelCard"]["ModelCardStatus"] == "Draft"


def test_every_parameter_but_the_fingerprint_has_its_default_in_the_settings(compiled: dict[str, Any]) -> None:
    assert {parameter["Name"] for parameter in compiled["Parameters"]} == {*places(SETTINGS), "DataFingerprint"}


def test_metadata_takes_only_what_sagemaker_takes() -> None:
    assert metadata_value("a(b)#c,d") == "a_b__c_d"
    assert len(metadata_value("x" * 300)) == 256


@pytest.mark.parametrize("problem_type", TRAINING_METRICS)
def test_sagemaker_finds_its_metrics_in_what_training_logs(
    problem_type: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = new_run(tmp_path / "run", step_settings(problem_type), mixed_table(300))
    run.preprocess()
    run.train()
    lines = capsys.readouterr().out.splitlines()
    rounds = sum(line.startswith("[") for line in lines)
    for name, regex in metric_definitions(problem_type):
        found = [float(match[1]) for line in lines if (match := re.search(regex, line))]
        wanted = {"train": math.ceil(rounds / 10), "validation": rounds}[name.partition(":")[0]]
        assert len(found) == (1 if ":best_" in name else wanted), name
        assert all(map(math.isfinite, found)), name
