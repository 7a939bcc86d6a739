"""Hyperparameter tuning jobs that really run, and Tuning steps of pipelines."""

from __future__ import annotations

import json
import re
import time
from itertools import pairwise
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws import LocalAWS
from tests.local_aws.job_requests import IMAGE, Workshop
from tests.local_aws.pipeline_fakes import Service, definition, fail, get, join, training, tuning
from tests.local_aws.test_processing_jobs import refusal

pytestmark = pytest.mark.slow  # make test has fifteen minutes

# Best at x = 3; says its objective twice, the last counts.
PARABOLA = """
    import argparse, os
    parser = argparse.ArgumentParser()
    parser.add_argument("-x", type=float)
    parser.add_argument("--mode", default="")
    arguments = parser.parse_args()
    print("loss=99;")
    print(f"loss={(arguments.x - 3) ** 2};")
    open(os.environ["SM_MODEL_DIR"] + "/x", "w").write(str(arguments.x))
"""


def tuning_request(workshop: Workshop, script: str = PARABOLA, **config: Any) -> dict[str, Any]:
    """A tuning job of three training jobs, at most two at once, over x from 0 to 10."""
    definition = workshop.training_request({"train.py": script}, channels={"train": workshop.put("t/t.csv", "1\n")})
    del definition["TrainingJobName"]
    definition["StaticHyperParameters"] = definition.pop("HyperParameters")
    definition["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": "loss", "Regex": "loss=([0-9.e-]+);"}]
    return {
        "HyperParameterTuningJobName": workshop.name(),
        "HyperParameterTuningJobConfig": {
            "Strategy": "Random",
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 3, "MaxParallelTrainingJobs": 2},
            "ParameterRanges": {"ContinuousParameterRanges": [{"Name": "x", "MinValue": "0", "MaxValue": "10"}]},
            "RandomSeed": 1,
            **config,
        },
        "TrainingJobDefinition": definition,
    }


def ended(workshop: Workshop, name: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        job = workshop.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        if job["HyperParameterTuningJobStatus"] in ("Completed", "Failed", "Stopped"):
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.02)


def tune(workshop: Workshop, *arguments: Any, **config: Any) -> dict[str, Any]:
    request = tuning_request(workshop, *arguments, **config)
    workshop.sagemaker.create_hyper_parameter_tuning_job(**request)
    return ended(workshop, request["HyperParameterTuningJobName"])


def training_jobs(workshop: Workshop, name: str, **options: Any) -> list[dict[str, Any]]:
    answer = workshop.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name, **options
    )
    return answer["TrainingJobSummaries"]


# What is done


def test_the_best_of_the_training_jobs_is_told_with_its_hyperparameters_and_its_objective(workshop):
    request = tuning_request(workshop) | {"Tags": [{"Key": "team", "Value": "churn"}]}
    arn = workshop.sagemaker.create_hyper_parameter_tuning_job(**request)["HyperParameterTuningJobArn"]
    name = request["HyperParameterTuningJobName"]
    job = ended(workshop, name)

    assert job["HyperParameterTuningJobStatus"] == "Completed", job
    assert arn == f"arn:aws:sagemaker:us-east-1:123456789012:hyper-parameter-tuning-job/{name}"
    assert job["HyperParameterTuningJobConfig"] == request["HyperParameterTuningJobConfig"]
    assert job["CreationTime"] < job["HyperParameterTuningEndTime"] <= job["LastModifiedTime"]
    assert job["TrainingJobStatusCounters"] == {
        "Completed": 3,
        "InProgress": 0,
        "RetryableError": 0,
        "NonRetryableError": 0,
        "Stopped": 0,
    }
    assert job["ObjectiveStatusCounters"] == {"Succeeded": 3, "Pending": 0, "Failed": 0}

    jobs = training_jobs(workshop, name)
    assert [re.sub(r"[0-9a-f]{8}$", "#", each["TrainingJobName"]) for each in jobs] == [
        f"{name}-{number}-#" for number in ("001", "002", "003")
    ]
    for each in jobs:
        (x,) = each["TunedHyperParameters"].values()
        metric = each["FinalHyperParameterTuningJobObjectiveMetric"]
        assert (metric["Type"], metric["MetricName"]) == ("Minimize", "loss")
        assert metric["Value"] == pytest.approx((float(x) - 3) ** 2)
        assert 0 <= float(x) <= 10
    best = min(jobs, key=lambda each: each["FinalHyperParameterTuningJobObjectiveMetric"]["Value"])
    assert job["BestTrainingJob"] == best

    described = workshop.describe("Training", best["TrainingJobName"])
    assert described["TuningJobArn"] == arn
    assert described["HyperParameters"] == {
        **request["TrainingJobDefinition"]["StaticHyperParameters"],
        **best["TunedHyperParameters"],
        "_tuning_objective_metric": "loss",
    }
    assert workshop.sagemaker.list_tags(ResourceArn=described["TrainingJobArn"])["Tags"] == request["Tags"]
    assert workshop.sagemaker.list_tags(ResourceArn=arn)["Tags"] == request["Tags"]
    model = workshop.unpacked(f"models/{best['TrainingJobName']}/output/model.tar.gz")
    assert float(model["x"]) == float(best["TunedHyperParameters"]["x"])


def test_the_same_seed_draws_the_same_hyperparameters(workshop):
    first, second, other = (tune(workshop, RandomSeed=seed) for seed in (5, 5, 6))

    drawn = [
        [each["TunedHyperParameters"]["x"] for each in training_jobs(workshop, job["HyperParameterTuningJobName"])]
        for job in (first, second, other)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_grid_tries_every_combination(workshop):
    ranges = {
        "CategoricalParameterRanges": [{"Name": "x", "Values": ["1", "3"]}, {"Name": "mode", "Values": ["a", "b"]}]
    }
    job = tune(workshop, Strategy="Grid", ParameterRanges=ranges, ResourceLimits={"MaxParallelTrainingJobs": 4})

    jobs = training_jobs(workshop, job["HyperParameterTuningJobName"])
    assert [tuple(each["TunedHyperParameters"].values()) for each in jobs] == [
        ("1", "a"),
        ("1", "b"),
        ("3", "a"),
        ("3", "b"),
    ]
    assert job["BestTrainingJob"]["TunedHyperParameters"]["x"] == "3"


def test_bayesian_uses_what_it_observed(workshop):
    limits = {"MaxNumberOfTrainingJobs": 9, "MaxParallelTrainingJobs": 1}
    random, bayesian = (tune(workshop, Strategy=name, ResourceLimits=limits) for name in ("Random", "Bayesian"))

    drawn = [
        [each["TunedHyperParameters"]["x"] for each in training_jobs(workshop, job["HyperParameterTuningJobName"])]
        for job in (random, bayesian)
    ]
    assert drawn[0][:5] == drawn[1][:5]  # of nothing, nothing can be learnt
    assert drawn[0][5:] != drawn[1][5:]


def test_no_more_jobs_run_at_once_than_asked_for(workshop):
    script = PARABOLA.replace('print("loss=99;")', "import time; time.sleep(0.3)")
    limits = {"MaxNumberOfTrainingJobs": 3, "MaxParallelTrainingJobs": 1}
    job = tune(workshop, script, ResourceLimits=limits)

    jobs = training_jobs(workshop, job["HyperParameterTuningJobName"])
    for before, after in pairwise(jobs):
        assert before["TrainingEndTime"] <= after["CreationTime"]


def test_jobs_that_fail_are_counted_and_the_others_go_on(workshop):
    ranges = {"CategoricalParameterRanges": [{"Name": "x", "Values": ["1", "2", "4"]}]}
    script = PARABOLA.replace('print("loss=99;")', "assert arguments.x != 2, 'not two'")
    job = tune(workshop, script, Strategy="Grid", ParameterRanges=ranges, ResourceLimits={"MaxParallelTrainingJobs": 2})

    assert job["HyperParameterTuningJobStatus"] == "Completed", job
    assert job["TrainingJobStatusCounters"]["NonRetryableError"] == 1
    assert job["ObjectiveStatusCounters"] == {"Succeeded": 2, "Pending": 0, "Failed": 1}
    (failed,) = training_jobs(workshop, job["HyperParameterTuningJobName"], StatusEquals="Failed")
    assert "not two" in failed["FailureReason"]
    assert failed["ObjectiveStatus"] == "Failed"
    ordered = training_jobs(
        workshop, job["HyperParameterTuningJobName"], SortBy="FinalObjectiveMetricValue", SortOrder="Descending"
    )
    assert [each["TunedHyperParameters"]["x"] for each in ordered] == ["1", "4"]


def test_when_no_job_says_its_objective_the_tuning_job_fails_and_says_why(workshop):
    limits = {"MaxNumberOfTrainingJobs": 8, "MaxParallelTrainingJobs": 1}
    job = tune(workshop, "print('hello')", ResourceLimits=limits)
    few = tune(workshop, "raise ValueError('no rows')")

    assert job["HyperParameterTuningJobStatus"] == few["HyperParameterTuningJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("No objective metrics found after running 5 training jobs.")
    assert len(training_jobs(workshop, job["HyperParameterTuningJobName"])) == 5
    assert few["FailureReason"].startswith("No objective metrics found after running 3 training jobs.")
    assert "ValueError: no rows" in few["FailureReason"]
    assert "BestTrainingJob" not in job


def test_a_stop_stops_the_running_jobs_and_keeps_what_ended(workshop):
    script = PARABOLA + "    import time; print('said', flush=True); time.sleep(60 if arguments.x > 5 else 0)"
    ranges = {"CategoricalParameterRanges": [{"Name": "x", "Values": ["1", "6", "7"]}]}
    request = tuning_request(
        workshop, script, Strategy="Grid", ParameterRanges=ranges, ResourceLimits={"MaxParallelTrainingJobs": 1}
    )
    name = request["HyperParameterTuningJobName"]
    workshop.sagemaker.create_hyper_parameter_tuning_job(**request)
    deadline = time.monotonic() + 30
    while len(jobs := training_jobs(workshop, name)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workshop.wait_for_line("Training", jobs[1]["TrainingJobName"], "said")
    under_way = workshop.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)

    workshop.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    job = ended(workshop, name)

    assert under_way["HyperParameterTuningJobStatus"] == "InProgress"
    assert under_way["ObjectiveStatusCounters"] == {"Succeeded": 1, "Pending": 1, "Failed": 0}
    assert job["HyperParameterTuningJobStatus"] == "Stopped"
    assert [each["TrainingJobStatus"] for each in training_jobs(workshop, name)] == ["Completed", "Stopped"]
    assert job["BestTrainingJob"]["TunedHyperParameters"] == {"x": "1"}
    code, message = refusal(workshop.sagemaker.stop_hyper_parameter_tuning_job, HyperParameterTuningJobName=name)
    assert (code, "is in status Stopped" in message) == ("ValidationException", True)


def test_tuning_jobs_are_listed(workshop):
    names = [tune(workshop)["HyperParameterTuningJobName"] for _ in range(2)]

    answer = workshop.sagemaker.list_hyper_parameter_tuning_jobs(
        SortBy="CreationTime", SortOrder="Descending", StatusEquals="Completed", MaxResults=2
    )

    summaries = answer["HyperParameterTuningJobSummaries"]
    assert [each["HyperParameterTuningJobName"] for each in summaries] == names[::-1]
    assert summaries[0]["TrainingJobStatusCounters"]["Completed"] == 3
    assert (summaries[0]["Strategy"], summaries[0]["ResourceLimits"]["MaxParallelTrainingJobs"]) == ("Random", 2)


def test_a_server_that_ends_leaves_a_tuning_job_failed_and_nothing_running(tmp_path):
    script = "import time\nprint('runs', flush=True)\ntime.sleep(60)"
    with LocalAWS(state=tmp_path) as aws:
        workshop = Workshop(aws)
        request = tuning_request(workshop, script)
        name = request["HyperParameterTuningJobName"]
        workshop.sagemaker.create_hyper_parameter_tuning_job(**request)
        deadline = time.monotonic() + 30
        while not (jobs := training_jobs(workshop, name)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        workshop.wait_for_line("Training", jobs[0]["TrainingJobName"], "runs")
    with LocalAWS(state=tmp_path) as aws:
        job = aws.client("sagemaker").describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)

    assert job["HyperParameterTuningJobStatus"] == "Failed"
    assert "local_aws was stopped while the tuning job was under way" in job["FailureReason"]
    assert job["TrainingJobStatusCounters"]["InProgress"] == 0


# What is refused


def change_config(**members: Any):
    return lambda request: request["HyperParameterTuningJobConfig"].update(members)


def change_definition(**members: Any):
    return lambda request: request["TrainingJobDefinition"].update(members)


NUMBER = {"Name": "x", "MinValue": "0", "MaxValue": "1"}
REFUSED = [
    (change_config(Strategy="Hyperband"), "Strategy Hyperband is not supported by local_aws; Bayesian, Random and"),
    (change_config(TrainingJobEarlyStoppingType="Auto"), "TrainingJobEarlyStoppingType Auto is not supported"),
    (
        change_config(TuningJobCompletionCriteria={"TargetObjectiveMetricValue": 0.1}),
        "TuningJobCompletionCriteria is not supported",
    ),
    (
        change_config(HyperParameterTuningJobObjective={"Type": "Minimize", "MetricName": "rmse"}),
        "The objective metric 'rmse' is not among the MetricDefinitions of the AlgorithmSpecification (loss)",
    ),
    (change_config(ResourceLimits={"MaxParallelTrainingJobs": 1}), "MaxNumberOfTrainingJobs is missing; Random needs"),
    (change_config(Strategy="Grid"), "Strategy Grid takes CategoricalParameterRanges only; x is a range of numbers"),
    (
        change_config(
            Strategy="Grid", ParameterRanges={"CategoricalParameterRanges": [{"Name": "x", "Values": ["1", "2"]}]}
        ),
        "MaxNumberOfTrainingJobs is 3, and there are 2 combinations",
    ),
    (change_config(ParameterRanges={}), "there is no range, and so nothing to tune"),
    (
        change_config(ParameterRanges={"IntegerParameterRanges": [NUMBER | {"MaxValue": "0.5"}]}),
        "IntegerParameterRanges 'x': MinValue '0' and MaxValue '0.5' must be numbers without a fraction",
    ),
    (
        change_config(ParameterRanges={"ContinuousParameterRanges": [NUMBER | {"Name": "sagemaker_program"}]}),
        "sagemaker_program is in StaticHyperParameters and in ParameterRanges",
    ),
    (
        lambda request: request.update(Autotune={"Mode": "Enabled"}),
        "Autotune is not supported by local_aws",
    ),
    (change_definition(RetryStrategy={"MaximumRetryAttempts": 1}), "RetryStrategy is not supported by local_aws"),
    (lambda request: request.pop("TrainingJobDefinition"), "TrainingJobDefinition is missing"),
    # of its training jobs
    (change_definition(EnableManagedSpotTraining=True), "Invalid MaxWaitTimeInSeconds"),
    (
        lambda request: request["TrainingJobDefinition"]["AlgorithmSpecification"].update(
            TrainingImage=IMAGE.replace("xgboost", "nothing")
        ),
        "is not known to local_aws",
    ),
    (
        lambda request: request["TrainingJobDefinition"]["InputDataConfig"][0]["DataSource"]["S3DataSource"].update(
            S3Uri="s3://no-such-bucket/x"
        ),
        "No S3 objects found",
    ),
]


@pytest.mark.parametrize(("alter", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_cannot_be_tuned_here_is_refused_by_name(workshop, alter, said):
    request = tuning_request(workshop)
    alter(request)

    code, message = refusal(workshop.sagemaker.create_hyper_parameter_tuning_job, **request)

    assert (code, said in message) == ("ValidationException", True), message
    with pytest.raises(ClientError, match="Requested resource not found"):
        ended(workshop, request["HyperParameterTuningJobName"])


def test_a_name_is_taken_once(workshop):
    request = tuning_request(workshop)
    workshop.sagemaker.create_hyper_parameter_tuning_job(**request)

    code, message = refusal(workshop.sagemaker.create_hyper_parameter_tuning_job, **request)

    assert (code, "must be unique within an AWS account and region" in message) == ("ResourceInUse", True)
    ended(workshop, request["HyperParameterTuningJobName"])


# Tuning steps

CACHE = {"CacheConfig": {"Enabled": True, "ExpireAfter": "P1D"}}
BEST = "Steps.Tune_eta.BestTrainingJob"


@pytest.fixture
def service() -> Service:
    return Service()


def test_the_best_job_s_model_name_and_hyperparameters_go_on(service: Service) -> None:
    """As the SDK's TuningStep and its get_top_model_s3_uri refer to them."""
    top = get("Steps.Tune_eta.TrainingJobSummaries[0].TrainingJobName")
    model = join("/", "s3:/", "b", "models", top, "model.tar.gz")
    train = training("Train", HyperParameters={"eta": get(f"{BEST}.TunedHyperParameters['eta']")})
    message = join(" ", model, get(f"{BEST}.TrainingJobName"))
    result = service.run(definition(tuning("Tune_eta"), train, fail("Say", message) | {"DependsOn": ["Train"]}))

    arn = result["Steps"]["Tune_eta"]["Metadata"]["TuningJob"]["Arn"]
    name = arn.rpartition("/")[2]
    assert re.fullmatch(r"[a-z0-9]{12}-Tune-et-[a-z0-9]{10}", name)  # 32 characters at most
    assert service.jobs.requests[1]["HyperParameters"] == {"eta": "0.2"}
    assert result["FailureReason"] == f"s3://b/models/{name}-002-abc/model.tar.gz {name}-002-abc"


def test_a_tuning_step_comes_from_the_cache_while_what_counts_is_the_same(service: Service) -> None:
    def with_output(step: dict[str, Any], path: Any) -> dict[str, Any]:
        step["Arguments"]["TrainingJobDefinition"]["OutputDataConfig"]["S3OutputPath"] = path
        return step

    service.create(definition(with_output(tuning("Tune", **CACHE), join("/", "s3://b", get("Execution.PipelineName")))))
    first = service.ended(service.start())
    second = service.ended(service.start())
    assert second["Steps"]["Tune"]["CacheHitResult"] == {"SourcePipelineExecutionArn": first["PipelineExecutionArn"]}

    other = tuning("Tune", **CACHE)
    other["Arguments"]["TrainingJobDefinition"]["StaticHyperParameters"] = {"depth": "3"}
    service.call("UpdatePipeline", PipelineName="churn", PipelineDefinition=json.dumps(definition(other)))
    assert "CacheHitResult" not in service.ended(service.start())["Steps"]["Tune"]
    assert service.jobs.steps_run() == ["Tune", "Tune"]


def test_a_tuning_step_is_retried_and_fails_as_others_do(service: Service) -> None:
    policy = {"ExceptionType": ["SageMaker.CAPACITY_ERROR"], "IntervalSeconds": 0, "MaxAttempts": 2}
    service.jobs.script["Tune"] = ["CapacityError: none left", "AlgorithmError: bad"]
    result = service.run(definition(tuning("Tune", RetryPolicies=[policy])))

    step = result["Steps"]["Tune"]
    assert (step["StepStatus"], step["AttemptCount"]) == ("Failed", 2)
    assert step["FailureReason"] == "ClientError: AlgorithmError: bad"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("BestTrainingJob.Nothing", "DescribeHyperParameterTuningJob's response has nothing at"),
        ("TrainingJobSummaries[0].Nothing", "has nothing at 'TrainingJobSummaries[0].Nothing'"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(service: Service, path: str, said: str) -> None:
    with pytest.raises(Exception, match="Unable to parse pipeline definition") as fault:
        service.create(definition(tuning("Tune"), fail("Say", join("", get(f"Steps.Tune.{path}")))))
    assert said in str(fault.value)


def test_a_pipeline_really_tunes_and_takes_the_best_model_on(aws: LocalAWS) -> None:
    workshop = Workshop(aws)
    request = tuning_request(workshop)
    del request["HyperParameterTuningJobName"]
    step = {"Name": "Tune", "Type": "Tuning", "Arguments": request}
    best = join("/", workshop.uri("models"), get("Steps.Tune.TrainingJobSummaries[0].TrainingJobName"), "output")
    message = join(" ", best, get("Steps.Tune.BestTrainingJob.TunedHyperParameters['x']"))
    workshop.sagemaker.create_pipeline(
        PipelineName=workshop.bucket,
        RoleArn=workshop.role,
        PipelineDefinition=json.dumps(definition(step, fail("Say", message))),
    )
    arn = workshop.sagemaker.start_pipeline_execution(PipelineName=workshop.bucket)["PipelineExecutionArn"]
    deadline = time.monotonic() + 60
    while (execution := workshop.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn))[
        "PipelineExecutionStatus"
    ] == "Executing":
        assert time.monotonic() < deadline
        time.sleep(0.05)

    uri, x = execution["FailureReason"].split(" ")
    model = workshop.unpacked(f"{uri.removeprefix(workshop.uri())}/model.tar.gz")
    assert float(model["x"]) == float(x)
