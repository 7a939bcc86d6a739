"""The compiled definition against botocore's model of the requests that its steps become."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.model import Shape

from lifecycle_lambdas.commit_status import origin_of
from local_aws.request_checks import check_shape
from tests.template.conftest import PROBLEM_TYPES, ROLE_ARN, git, run

pytestmark = pytest.mark.slow  # make test has fifteen minutes

# The request that a step's Arguments become, and what the service adds to them.
REQUESTS = {
    "Processing": ("CreateProcessingJobRequest", {"ProcessingJobName": "pipelines-abc-Step-xyz"}),
    "Training": ("CreateTrainingJobRequest", {"TrainingJobName": "pipelines-abc-Step-xyz"}),
    "Tuning": ("CreateHyperParameterTuningJobRequest", {"HyperParameterTuningJobName": "pipelines-abc"}),
    "RegisterModel": ("CreateModelPackageInput", {}),
}
EXPRESSIONS = {"Get", "Std:Join", "Std:JsonGet"}
# What SageMaker's step cache compares (developer guide, "Caching pipeline steps").
CACHE_KEYS = (
    *("AppSpecification", "Environment", "ProcessingInputs"),
    *("AlgorithmSpecification", "CheckpointConfig", "HyperParameters", "InputDataConfig"),
)

Generated = Callable[..., Path]


def compile_in(repository: Path, *arguments: str) -> dict[str, Any]:
    done = run(repository, "-m", "pipeline", "definition", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "the SDK's own chatter must not reach the user"
    return json.loads(done.stdout)


def test_the_same_commit_gives_the_same_text_in_every_process(generated: Generated) -> None:
    # sets and dictionaries of another seed come in another order
    repository = generated("binary_classification")
    texts = {run(repository, "-m", "pipeline", "definition", PYTHONHASHSEED=seed).stdout for seed in ("1", "2")}
    assert len(texts) == 1
    assert json.loads(texts.pop())["Steps"]


@pytest.fixture(scope="session")
def compiled(generated: Generated) -> Callable[[str], dict[str, Any]]:
    made: dict[str, dict[str, Any]] = {}

    def get(problem_type: str) -> dict[str, Any]:
        if problem_type not in made:
            made[problem_type] = compile_in(generated(problem_type))
        return made[problem_type]

    return get


def steps_of(definition: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for step in definition["Steps"]:
        found.append(step)
        if step["Type"] == "Condition":
            found += step["Arguments"]["IfSteps"] + step["Arguments"]["ElseSteps"]
    return found


def expression_faults(shape: Shape, value: Any, path: str) -> list[str] | None:
    """An expression stands for a string, or for a number; never for a structure or a list."""
    if not (isinstance(value, dict) and len(value) == 1 and set(value) <= EXPRESSIONS):
        return None
    if shape.type_name in ("string", "integer", "long", "float", "double"):
        return []
    return [f"{path}: an expression where a {shape.type_name} is wanted"]


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES)
def test_every_steps_arguments_are_a_valid_request(
    compiled: Callable[[str], dict[str, Any]], problem_type: str
) -> None:
    jobs = [step for step in steps_of(compiled(problem_type)) if step["Type"] in REQUESTS]
    assert [step["Name"] for step in jobs if checked(step)] == ["Preprocess", "Train", "Evaluate", "Register"]


def test_the_check_of_arguments_can_fail(compiled: Callable[[str], dict[str, Any]]) -> None:
    step = steps_of(compiled("regression"))[0]
    shape, added = REQUESTS["Processing"]
    broken = {**step["Arguments"], **added, "RoleArn": "modelyard-pipeline"}
    assert any("roleArn" in fault for fault in check_shape("sagemaker", shape, broken, expression_faults))
    listed = {**step["Arguments"], **added, "ProcessingInputs": {"Get": "Parameters.DataUri"}}
    assert any(
        "where a list is wanted" in fault for fault in check_shape("sagemaker", shape, listed, expression_faults)
    )


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES)
def test_every_reference_has_something_to_refer_to(
    compiled: Callable[[str], dict[str, Any]], problem_type: str
) -> None:
    definition = compiled(problem_type)
    parameters = {parameter["Name"] for parameter in definition["Parameters"]}
    names = [step["Name"] for step in steps_of(definition)]
    references = re.findall(r'"Get": "([^"]+)"', json.dumps(definition))
    used = {reference.split(".")[1] for reference in references if reference.startswith("Parameters.")}
    assert used == parameters
    assert {reference.split(".")[1] for reference in references if reference.startswith("Steps.")} <= set(names)
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 20, "a longer name is cut in the names of its jobs"


def test_container_arguments_stay_within_their_limits(compiled: Callable[[str], dict[str, Any]]) -> None:
    for step in steps_of(compiled("binary_classification")):
        arguments = step["Arguments"].get("AppSpecification", {}).get("ContainerArguments", [])
        assert len(arguments) <= 100
        assert all(len(argument) <= 256 for argument in arguments if isinstance(argument, str))


def test_a_push_that_changes_only_deployment_endpoint_tests_or_docs_trains_nothing_anew(
    generated: Generated, compiled: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    repository = tmp_path / "churn"
    shutil.copytree(generated("binary_classification"), repository)
    before = compiled("binary_classification")
    assert compile_in(repository) == before
    (repository / "README.md").write_text("shorter")
    stage_file = repository / "deployment" / "dev.yaml"
    stage_file.write_text(stage_file.read_text().replace("instance_count: 1", "instance_count: 3"))
    cases = repository / "tests" / "endpoint" / "cases.yaml"
    cases.write_text(cases.read_text().replace("seconds: 5", "seconds: 6"))
    git(repository, "commit", "--quiet", "--all", "--message", "Deployment, endpoint tests and docs")
    after = compile_in(repository)

    then, now = (
        next(step["Arguments"]["CustomerMetadataProperties"] for step in steps_of(one) if step["Name"] == "Register")
        for one in (before, after)
    )
    assert now["git.commit"] == git(repository, "rev-parse", "HEAD")
    for name in ("deployment.prefix", "deployment.sha256.dev", "tests.sha256"):
        assert then[name] != now[name], name
    for old, new in zip(steps_of(before), steps_of(after), strict=True):
        if old["Name"] in ("Preprocess", "Train"):
            for key in CACHE_KEYS:
                assert old["Arguments"].get(key) == new["Arguments"].get(key), (old["Name"], key)
    # the same for parameters: the cache compares their values
    assert before["Parameters"] == after["Parameters"]


def with_settings(repository: Path, folder: Path, changes: dict[str, str]) -> dict[str, Any]:
    """The definition of a copy of the repository whose settings.yaml has texts replaced."""
    shutil.copytree(repository, folder)
    settings = folder / "settings.yaml"
    text = settings.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    settings.write_text(text, encoding="utf-8")
    return compile_in(folder)


def checked(step: dict[str, Any]) -> dict[str, Any]:
    shape, added = REQUESTS[step["Type"]]
    assert check_shape("sagemaker", shape, {**step["Arguments"], **added}, expression_faults) == []
    return step["Arguments"]


SPOT = {"  spot: false": "  spot: true", "max_wait_seconds: null": "max_wait_seconds: 7200"}


def test_spot_training_waits_and_keeps_checkpoints_where_the_cache_finds_them(
    generated: Generated, tmp_path: Path
) -> None:
    definition = with_settings(generated("regression"), tmp_path / "churn", SPOT)
    training = checked(next(step for step in steps_of(definition) if step["Type"] == "Training"))
    assert training["EnableManagedSpotTraining"] is True
    assert training["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200}
    assert training["CheckpointConfig"] == {
        "S3Uri": "s3://churn-artifacts/churn/dev/checkpoints/",
        "LocalPath": "/opt/ml/checkpoints",
    }


def test_the_platform_tells_a_commit_of_the_files_that_it_has_and_of_no_others(
    generated: Generated, compiled: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    """What the template writes of its commit is what the platform's function `commit-status` reads."""
    repository = generated("regression")
    origin = origin_of(json.dumps(compiled("regression")))
    assert origin is not None
    assert (origin.commit, origin.branch) == (git(repository, "rev-parse", "HEAD"), "dev")
    uncommitted = with_settings(repository, tmp_path / "churn", SPOT)
    assert origin_of(json.dumps(uncommitted)) == replace(origin, committed=False)


def test_several_instances_share_the_rows(generated: Generated, tmp_path: Path) -> None:
    definition = with_settings(
        generated("regression"), tmp_path / "churn", {"  instance_count: 1": "  instance_count: 3"}
    )
    training = checked(next(step for step in steps_of(definition) if step["Type"] == "Training"))
    assert training["ResourceConfig"]["InstanceCount"] == 3
    ways = {
        channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3DataDistributionType"]
        for channel in training["InputDataConfig"]
    }
    assert ways == {"train": "ShardedByS3Key", "validation": "ShardedByS3Key", "transform": "FullyReplicated"}


def test_a_search_goes_on_with_its_best_model(generated: Generated, tmp_path: Path) -> None:
    tune = "  tune: {max_jobs: 6, parallel_jobs: 2, ranges: {eta: [0.02, 0.3], max_depth: [3, 8]}} #"
    definition = with_settings(generated("regression"), tmp_path / "churn", {"  tune: null": tune, **SPOT})
    steps = {step["Name"]: step for step in steps_of(definition)}
    assert [name for name in steps if name in ("Train", "Tune")] == ["Tune"]
    job = checked(steps["Tune"])
    ranges = job["HyperParameterTuningJobConfig"]["ParameterRanges"]
    assert [(each["Name"], each["MinValue"]) for each in ranges["IntegerParameterRanges"]] == [("max_depth", "3")]
    assert {"eta", "max_depth"}.isdisjoint(job["TrainingJobDefinition"]["StaticHyperParameters"])
    assert {"eta", "max_depth"}.isdisjoint(parameter["Name"] for parameter in definition["Parameters"])
    # after a cache hit the search belongs to an earlier execution: nothing of this one may be in the model's address
    assert (
        job["TrainingJobDefinition"]["OutputDataConfig"]["S3OutputPath"]
        == "s3://churn-artifacts/churn/dev/churn-dev/tune"
    )
    model = checked(steps["Register"])["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
    assert model["Std:Join"]["Values"][-2] == {"Get": "Steps.Tune.TrainingJobSummaries[0].TrainingJobName"}
    metadata = steps["Register"]["Arguments"]["CustomerMetadataProperties"]
    assert metadata["hyperparameter.eta"] == {"Get": "Steps.Tune.BestTrainingJob.TunedHyperParameters['eta']"}


ALL_HYPERPARAMETERS = """
    min_child_weight: 1
    gamma: 0
    reg_lambda: 1
    reg_alpha: 0
    max_bin: 256
    scale_pos_weight: 1"""


def test_a_version_carries_every_hyperparameter_but_not_any_number_of_them(
    generated: Generated, tmp_path: Path
) -> None:
    folder, last = tmp_path / "churn", "    colsample_bytree: 0.9"
    definition = with_settings(
        generated("binary_classification", "advanced"), folder, {last: last + ALL_HYPERPARAMETERS}
    )
    register = next(step for step in steps_of(definition) if step["Name"] == "Register")
    properties = checked(register)["CustomerMetadataProperties"]
    assert "git.repository" not in properties
    assert len(properties) == 43, "the platform adds its seven"
    # what is left out is never used, or said elsewhere
    assert {"deployment.sha256.feature", "pipeline.execution"}.isdisjoint(properties)
    assert {"deployment.sha256.dev", "deployment.sha256.champion", "tests.sha256"} <= properties.keys()

    settings, first = folder / "pipeline" / "settings.py", "    num_round:"
    further = "".join(f"    own_{number}: int = 1\n" for number in range(3))
    settings.write_text(settings.read_text(encoding="utf-8").replace(first, further + first, 1), encoding="utf-8")
    refused = run(folder, "-m", "pipeline", "definition")
    assert refused.returncode == 2
    assert "can be registered with 43 properties, and this one would carry 45: set 2 fewer" in refused.stderr


def test_conditions_of_the_settings_are_conditions_of_the_pipeline(generated: Generated, tmp_path: Path) -> None:
    conditions = "[{metric: model.size_mb, at_most: 50}, {metric: r2, at_least: 0.2}]"
    changes = {"  conditions: []": f"  conditions: {conditions} #", "  incomparable: fail": "  incomparable: pass"}
    definition = with_settings(generated("regression"), tmp_path / "churn", changes)
    found = next(step for step in steps_of(definition) if step["Type"] == "Condition")["Arguments"]["Conditions"][2:]
    assert [(one["Type"], one["LeftValue"]["Std:JsonGet"]["Path"], one["RightValue"]) for one in found] == [
        ("LessThanOrEqualTo", "conditions.c0", 50.0),
        ("GreaterThanOrEqualTo", "conditions.c1", 0.2),
    ]


@pytest.mark.parametrize(
    ("branch", "message"),
    [("prod", "promoting"), ("main", "(dev, feature-*)")],
)
def test_branches_that_train_nothing_exit_with_2(generated: Generated, branch: str, message: str) -> None:
    done = run(generated("regression"), "-m", "pipeline", "definition", "--branch", branch)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_role_is_a_full_arn(compiled: Callable[[str], dict[str, Any]]) -> None:
    roles = {
        step["Arguments"]["RoleArn"] for step in steps_of(compiled("regression")) if "RoleArn" in step["Arguments"]
    }
    assert roles == {ROLE_ARN}
