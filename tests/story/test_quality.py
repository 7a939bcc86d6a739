"""The gate against what serves, searches, several instances, spot: as the owner of a repository sees them."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest

from tests.story.repository import BUCKET, started, steps, versions

pytestmark = pytest.mark.slow  # make test has fifteen minutes

PROJECT = "weighed"


@pytest.fixture(scope="module")
def serving(told, aws):
    """The told story's version, approved: with no endpoint yet, it is what dev serves. Its ARN."""
    first = versions(aws, "weighed-dev")[0]
    assert first["CustomerMetadataProperties"]["compared.version"] == "none"
    aws.client("sagemaker").update_model_package(
        ModelPackageArn=first["ModelPackageArn"], ModelApprovalStatus="Approved"
    )
    return first["ModelPackageArn"]


def on_another_branch(repository, name):
    """A branch of its own, whose versions are compared with dev's and change nothing there."""
    repository.git("checkout", "-q", "-b", f"feature-{name}")


def test_an_equal_model_passes_and_carries_what_it_was_compared_with(repository, aws, serving):
    on_another_branch(repository, "equal")

    result = repository.pipeline("start", "--watch", "--parameter", "Tolerance=0")

    assert result.returncode == 0, result.stdout + result.stderr
    metadata = versions(aws, "weighed-feature")[-1]["CustomerMetadataProperties"]
    assert metadata["compared.version"] == serving
    assert float(metadata["compared.worse-by"]) == 0


def test_a_worse_model_fails_with_both_numbers_unless_the_tolerance_covers_it(repository, aws, serving):
    on_another_branch(repository, "worse")
    repository.settings(train__hyperparameters__num_round=1, train__hyperparameters__max_depth=1)
    repository.settings(gate__threshold=0.5, gate__tolerance=0.0)
    before = len(versions(aws, "weighed-feature"))

    failed = repository.pipeline("start", "--watch")

    assert failed.returncode == 1
    said = failed.stdout.partition("QualityNotMet failed: ")[2]
    assert re.search(r"auc is 0\.\d+, must be at least 0\.5: ok", said)
    worse_by = re.search(rf"{serving}\) has 0\.\d+ on the same rows, so this one is worse by (0\.\d+)", said)
    assert worse_by, said
    assert len(versions(aws, "weighed-feature")) == before

    passed = repository.pipeline("start", "--watch", "--parameter", f"Tolerance={float(worse_by[1]) + 1e-6:.7f}")

    assert passed.returncode == 0, passed.stdout
    assert "Train              Succeeded, from the cache" in passed.stdout


@pytest.mark.slow
def test_a_serving_version_of_another_schema_fails_the_gate_unless_it_may(repository, aws, serving):
    on_another_branch(repository, "schema")
    table = pd.read_csv(repository.folder / "data" / "breast_cancer.csv").drop(columns="mean_area")
    table.to_csv(repository.folder / "data" / "narrow.csv", index=False)
    repository.settings(data__uri=f"s3://{BUCKET}/weighed/data/narrow.csv")
    assert repository.pipeline("upload-data", "data/narrow.csv").returncode == 0

    failed = repository.pipeline("start", "--watch")

    assert failed.returncode == 1
    assert re.search(r"is not comparable, .*mean_area.*: FAILED", failed.stdout)
    repository.settings(gate__incomparable="pass")
    passed = repository.pipeline("start", "--watch")
    assert passed.returncode == 0, passed.stdout


@pytest.mark.slow
def test_further_conditions_decide_too(repository, serving):
    on_another_branch(repository, "conditions")
    repository.settings(gate__conditions=[{"metric": "latency.one_row_ms", "at_most": 1e-6}])

    failed = repository.pipeline("start", "--watch")

    assert failed.returncode == 1
    assert re.search(r"latency\.one_row_ms is [\d.]+, must be at most 1e-06: FAILED", failed.stdout)


@pytest.mark.slow
def test_a_search_registers_its_best_model_with_the_values_that_made_it(repository, aws):
    on_another_branch(repository, "search")
    ranges = {"eta": [0.05, 0.3], "max_depth": [2, 5]}
    repository.settings(train__tune={"max_jobs": 3, "parallel_jobs": 2, "strategy": "Random", "ranges": ranges})
    repository.settings(train__hyperparameters__num_round=20)

    result = repository.pipeline("start", "--watch")

    assert result.returncode == 0, result.stdout + result.stderr
    sagemaker = aws.client("sagemaker")
    step = steps(aws, started(result.stdout))["Tune"]
    job = sagemaker.describe_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=step["Metadata"]["TuningJob"]["Arn"].rpartition("/")[2]
    )
    best = job["BestTrainingJob"]
    trained = sagemaker.describe_training_job(TrainingJobName=best["TrainingJobName"])
    newest = versions(aws, "weighed-feature")[-1]
    container = newest["InferenceSpecification"]["Containers"][0]
    assert container["ModelDataUrl"] == trained["ModelArtifacts"]["S3ModelArtifacts"]
    metadata = newest["CustomerMetadataProperties"]
    assert metadata["hyperparameter.eta"] == best["TunedHyperParameters"]["eta"]
    card = json.loads(newest["ModelCard"]["ModelCardContent"])
    used = {one["name"]: one["value"] for one in card["training_details"]["training_job_details"]["hyper_parameters"]}
    assert float(used["eta"]) == float(best["TunedHyperParameters"]["eta"])


@pytest.mark.slow
def test_two_spot_instances_train_one_model(repository, aws):
    on_another_branch(repository, "hosts")
    repository.settings(train__instance_count=2, train__spot=True, train__max_wait_seconds=7200)
    repository.settings(train__hyperparameters__num_round=30)

    result = repository.pipeline("start", "--watch")

    assert result.returncode == 0, result.stdout + result.stderr
    step = steps(aws, started(result.stdout))["Train"]
    name = step["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
    job = aws.client("sagemaker").describe_training_job(TrainingJobName=name)
    assert job["ResourceConfig"]["InstanceCount"] == 2
    streams = aws.client("logs").describe_log_streams(
        logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=job["TrainingJobName"]
    )["logStreams"]
    assert sorted(stream["logStreamName"].split("/")[1].rpartition("-")[0] for stream in streams) == [
        "algo-1",
        "algo-2",
    ]
