"""Executions: what runs, in which order, with which values, and how it ends. Jobs are fakes; what runs for real is in
test_running_pipelines.py."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from local_aws.calls import ServiceError
from local_aws.store import Store
from tests.local_aws.pipeline_fakes import (
    IMAGE,
    ROLE,
    Service,
    compare,
    condition,
    definition,
    fail,
    get,
    join,
    json_get,
    processing,
    register,
    training,
)
from tests.local_aws.waiting import wait_for

REPORT = [{"PropertyFileName": "Report", "OutputName": "report", "FilePath": "report.json"}]
EVALUATE = processing("Evaluate", {"report": "s3://b/report/"}, PropertyFiles=REPORT)
THRESHOLD = {"Name": "Threshold", "Type": "Float", "DefaultValue": 0.8}
CACHE = {"CacheConfig": {"Enabled": True, "ExpireAfter": "P1D"}}
CONTAINER: dict[str, Any] = {
    "InferenceSpecification": {
        "Containers": [{"Image": IMAGE, "ModelDataUrl": get("Steps.Train.ModelArtifacts.S3ModelArtifacts")}],
        "SupportedContentTypes": ["text/csv"],
        "SupportedResponseMIMETypes": ["text/csv"],
    }
}


@pytest.fixture
def service() -> Service:
    service = Service()
    service.loopback.objects["s3://b/report/report.json"] = json.dumps({"auc": {"value": 0.9}})
    service.call("CreateModelPackageGroup", ModelPackageGroupName="churn-dev")
    return service


def pipeline(*more: dict[str, Any], **policies: Any) -> dict[str, Any]:
    """Prepare, Train, Evaluate, Gate, then Register or Fail."""
    return definition(
        processing("Prepare", {"train": join("/", "s3://b", get("Execution.PipelineExecutionId"), "train")}),
        training(
            "Train",
            InputDataConfig=[
                {
                    "ChannelName": "train",
                    "DataSource": {
                        "S3DataSource": {
                            "S3DataType": "S3Prefix",
                            "S3Uri": get("Steps.Prepare.ProcessingOutputConfig.Outputs['train'].S3Output.S3Uri"),
                        }
                    },
                }
            ],
        ),
        EVALUATE | {"DependsOn": ["Train"]},
        condition(
            "Gate",
            compare("GreaterThanOrEqualTo", json_get("auc.value"), get("Parameters.Threshold")),
            then=[register("Register", **CONTAINER)],
            otherwise=[fail("TooBad", join(" ", "auc", json_get("auc.value"), "<", get("Parameters.Threshold")))],
        ),
        *more,
        parameters=[THRESHOLD],
        **policies,
    )


def statuses(ended: dict[str, Any]) -> dict[str, str]:
    return {name: step["StepStatus"] for name, step in ended["Steps"].items()}


def environment(**variables: Any) -> dict[str, Any]:
    return processing("Show", Environment=variables)


# The straight line


def test_a_good_model_is_registered(service: Service) -> None:
    ended = service.run(pipeline())
    assert ended["PipelineExecutionStatus"] == "Succeeded"
    assert "FailureReason" not in ended
    assert list(ended["Steps"]) == ["Prepare", "Train", "Evaluate", "Gate", "Register"]
    assert set(statuses(ended).values()) == {"Succeeded"}
    assert ended["Steps"]["Gate"]["Metadata"] == {"Condition": {"Outcome": "True"}}
    arn = ended["Steps"]["Register"]["Metadata"]["RegisterModel"]["Arn"]
    package = service.call("DescribeModelPackage", ModelPackageName=arn)
    job = ended["Steps"]["Train"]["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
    model = package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
    assert model == f"s3://bucket/models/{job}/output/model.tar.gz"
    assert package["MetadataProperties"]["GeneratedBy"] == ended["PipelineExecutionArn"]


def test_a_bad_model_ends_in_the_fail_steps_message_and_registers_nothing(service: Service) -> None:
    service.create(pipeline())
    ended = service.ended(service.start(values={"Threshold": "0.95"}))
    assert ended["PipelineExecutionStatus"] == "Failed"
    assert ended["FailureReason"] == "auc 0.9 < 0.95"
    assert ended["Steps"]["Gate"]["Metadata"] == {"Condition": {"Outcome": "False"}}
    assert ended["Steps"]["TooBad"]["Metadata"] == {"Fail": {"ErrorMessage": "auc 0.9 < 0.95"}}
    assert ended["Steps"]["TooBad"]["FailureReason"] == "auc 0.9 < 0.95"
    assert "Register" not in ended["Steps"]
    listed = service.call("ListModelPackages", ModelPackageGroupName="churn-dev", ModelPackageType="Both")
    assert listed["ModelPackageSummaryList"] == []


def test_names_are_made_as_aws_makes_them(service: Service) -> None:
    long = "a_step-with-a-very-long_name"
    ended = service.run(definition(processing(long), training("T")))
    execution = ended["PipelineExecutionArn"].rpartition("/")[2]
    assert re.fullmatch(r"arn:aws:sagemaker:eu-central-1:123456789012:pipeline/churn/execution/[a-z0-9]{12}",
                        ended["PipelineExecutionArn"])  # fmt: skip
    assert re.fullmatch(r"execution-\d{13}", ended["PipelineExecutionDisplayName"])
    job = ended["Steps"][long]["Metadata"]["ProcessingJob"]["Arn"]
    assert re.fullmatch(rf".*:processing-job/pipelines-{execution}-a-step-with-a-very-l-[a-z0-9]{{10}}", job)
    assert re.fullmatch(
        rf".*:training-job/pipelines-{execution}-T-[a-z0-9]{{10}}",
        ended["Steps"]["T"]["Metadata"]["TrainingJob"]["Arn"],
    )


def test_a_step_is_listed_with_its_times_names_and_attempt_the_latest_first(service: Service) -> None:
    service.create(definition(processing("A", DisplayName="Aha", Description="why"), processing("B", DependsOn=["A"])))
    arn = service.start()
    service.ended(arn)
    first, second = service.call("ListPipelineExecutionSteps", PipelineExecutionArn=arn)["PipelineExecutionSteps"]
    assert [first["StepName"], second["StepName"]] == ["B", "A"]
    assert second["StartTime"] <= second["EndTime"] <= first["StartTime"] <= first["EndTime"]
    assert (second["StepDisplayName"], second["StepDescription"], second["AttemptCount"]) == ("Aha", "why", 1)
    paged = service.call("ListPipelineExecutionSteps", PipelineExecutionArn=arn, MaxResults=1)
    assert [step["StepName"] for step in paged["PipelineExecutionSteps"]] == ["B"]
    assert "NextToken" in paged


# Values


def shown(service: Service, step: dict[str, Any], parameters: Any = None, values: Any = None) -> Any:
    """The environment with which the step's job was created."""
    service.create(definition(EVALUATE, step, parameters=parameters))
    ended = service.ended(service.start(values=values))
    assert ended["PipelineExecutionStatus"] == "Succeeded", ended
    return ended, next(each for each in service.jobs.requests if "Environment" in each)


def test_execution_variables_have_their_values(service: Service) -> None:
    names = ["PipelineName", "PipelineArn", "PipelineExecutionId", "PipelineExecutionArn", "ProcessingJobName"]
    names += ["StartDateTime", "CurrentDateTime"]
    ended, request = shown(service, environment(**{name: get(f"Execution.{name}") for name in names}))
    times = [request["Environment"].pop(name) for name in ("StartDateTime", "CurrentDateTime")]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment) for moment in times)
    arn = ended["PipelineExecutionArn"]
    assert request["Environment"] == {
        "PipelineName": "churn",
        "PipelineArn": arn.partition("/execution/")[0],
        "PipelineExecutionId": arn.rpartition("/")[2],
        "PipelineExecutionArn": arn,
        "ProcessingJobName": request["ProcessingJobName"],
    }


def test_parameters_have_the_starts_value_else_the_default(service: Service) -> None:
    parameters = [
        {"Name": "S", "Type": "String", "DefaultValue": "s"},
        {"Name": "I", "Type": "Integer", "DefaultValue": 1},
        {"Name": "F", "Type": "Float", "DefaultValue": 0.5},
        {"Name": "B", "Type": "Boolean", "DefaultValue": False},
    ]
    texts = {name: join("", get(f"Parameters.{name}")) for name in "SIFB"}
    ended, request = shown(service, environment(**texts), parameters, values={"I": "7", "B": "True"})
    assert request["Environment"] == {"S": "s", "I": "7", "F": "0.5", "B": "true"}
    arn = ended["PipelineExecutionArn"]
    listed = service.call("ListPipelineParametersForExecution", PipelineExecutionArn=arn)["PipelineParameters"]
    assert {item["Name"]: item["Value"] for item in listed} == request["Environment"]
    page = service.call("ListPipelineParametersForExecution", PipelineExecutionArn=arn, MaxResults=3)
    assert len(page["PipelineParameters"]) == 3
    assert "NextToken" in page


def test_an_integer_parameter_reaches_an_integer_member_as_a_number(service: Service) -> None:
    count = {"Name": "Seconds", "Type": "Integer"}
    step = environment(A="1")
    step["Arguments"]["StoppingCondition"] = {"MaxRuntimeInSeconds": get("Parameters.Seconds")}
    _, request = shown(service, step, [count], values={"Seconds": "60"})
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 60}


def test_properties_and_property_files_of_earlier_steps_are_read(service: Service) -> None:
    step = environment(
        ARN=get("Steps.Evaluate.ProcessingJobArn"),
        OUTPUT=get("Steps.Evaluate.ProcessingOutputConfig.Outputs['report'].S3Output.S3Uri"),
        AUC=join("", json_get("auc.value")),
        DIRECT=join("", {"Std:JsonGet": {"S3Uri": "s3://b/report/report.json", "Path": "$.auc['value']"}}),
    )
    ended, request = shown(service, step)
    assert request["Environment"] == {
        "ARN": ended["Steps"]["Evaluate"]["Metadata"]["ProcessingJob"]["Arn"],
        "OUTPUT": "s3://b/report/",
        "AUC": "0.9",
        "DIRECT": "0.9",
    }


def test_properties_of_training_register_and_condition_steps_are_read(service: Service) -> None:
    step = environment(
        METRIC=join("", get("Steps.Train.FinalMetricDataList['validation:auc'].Value")),
        PACKAGE=get("Steps.Register.ModelPackageArn"),
        VERSION=join("", get("Steps.Register.ModelPackageVersion")),
        OUTCOME=get("Steps.Check.Outcome"),
    )
    check = condition("Check", compare("Equals", 1, 1))
    ended = service.run(definition(training("Train"), register("Register", **CONTAINER), check, step))
    assert ended["PipelineExecutionStatus"] == "Succeeded", ended
    arn = ended["Steps"]["Register"]["Metadata"]["RegisterModel"]["Arn"]
    assert service.jobs.requests[-1]["Environment"] == {
        "METRIC": "0.9",
        "PACKAGE": arn,
        "VERSION": "1",
        "OUTCOME": "True",
    }


def test_the_experiment_of_a_definition_is_described_with_its_names(service: Service) -> None:
    config = {"ExperimentName": get("Execution.PipelineName"), "TrialName": get("Execution.PipelineExecutionId")}
    ended = service.run(definition(processing("A"), PipelineExperimentConfig=config))
    execution = ended["PipelineExecutionArn"].rpartition("/")[2]
    assert ended["PipelineExperimentConfig"] == {"ExperimentName": "churn", "TrialName": execution}


# Order


def test_independent_steps_run_at_the_same_time(service: Service) -> None:
    release = threading.Event()
    for name in "ABC":
        service.jobs.script[name] = [release]
    service.create(definition(*(processing(name) for name in "ABC"), processing("D", DependsOn=["A", "B", "C"])))
    arn = service.start()
    wait_for(lambda: [step["StepStatus"] for step in service.steps(arn).values()] == ["Executing"] * 3)
    release.set()
    assert service.ended(arn)["PipelineExecutionStatus"] == "Succeeded"
    assert service.jobs.steps_run()[3] == "D"


@pytest.mark.parametrize("given_at", ["create", "start"])
def test_no_more_steps_run_at_once_than_the_parallelism_allows(service: Service, given_at: str) -> None:
    limit: dict[str, Any] = {"ParallelismConfiguration": {"MaxParallelExecutionSteps": 2}}
    other: dict[str, Any] = {"ParallelismConfiguration": {"MaxParallelExecutionSteps": 5}}
    releases = [threading.Event() for _ in range(5)]
    service.create(
        definition(*(processing(f"S{number}") for number in range(5))), **(limit if given_at == "create" else other)
    )
    for number, release in enumerate(releases):
        service.jobs.script[f"S{number}"] = [release]
    arn = service.start(**(limit if given_at == "start" else {}))
    for number, release in enumerate(releases):
        wait_for(lambda number=number: len(service.jobs.requests) == min(number + 2, 5))  # type: ignore[misc]
        release.set()
    ended = service.ended(arn)
    assert ended["ParallelismConfiguration"] == limit["ParallelismConfiguration"]
    assert sorted(service.jobs.steps_run()) == ["S0", "S1", "S2", "S3", "S4"]
    assert service.jobs.most_at_once == 2


def test_conditions_nest_and_are_joined_by_and(service: Service) -> None:
    inner = condition("Inner", compare("Equals", 1, 2), then=[processing("No")], otherwise=[processing("Yes")])
    outer = condition("Outer", compare("Equals", 1, 1), compare("LessThan", 1, 2), then=[inner])
    both = condition("Both", compare("Equals", 1, 1), compare("Equals", 1, 2), then=[processing("Never")])
    ended = service.run(definition(outer, both))
    assert set(ended["Steps"]) == {"Outer", "Inner", "Yes", "Both"}
    assert ended["PipelineExecutionStatus"] == "Succeeded"


def test_a_step_that_needs_a_step_of_the_branch_not_taken_does_not_run(service: Service) -> None:
    gate = condition("Gate", compare("Equals", 1, 2), then=[processing("Taken")])
    later = [processing("Later", DependsOn=["Taken"]), processing("Last", DependsOn=["Later"])]
    ended = service.run(definition(gate, *later, processing("Free")))
    assert set(ended["Steps"]) == {"Gate", "Free"}
    assert ended["PipelineExecutionStatus"] == "Succeeded"


# Failure


def test_a_failed_job_fails_the_execution_while_running_steps_end_and_no_other_starts(service: Service) -> None:
    release = threading.Event()
    service.jobs.script["Slow"] = [release]
    service.jobs.script["Bad"] = ["AlgorithmError: it raised, exit code: 1"]
    service.create(
        definition(
            processing("Bad"),
            processing("Slow"),
            processing("AfterBad", DependsOn=["Bad"]),
            processing("AfterSlow", DependsOn=["Slow"]),
        )
    )
    arn = service.start()
    wait_for(lambda: service.steps(arn).get("Bad", {}).get("StepStatus") == "Failed")
    assert service.describe(arn)["PipelineExecutionStatus"] == "Executing"
    release.set()
    ended = service.ended(arn)
    assert ended["PipelineExecutionStatus"] == "Failed"
    assert ended["FailureReason"] == "Step failure: One or multiple steps failed."
    assert statuses(ended) == {"Bad": "Failed", "Slow": "Succeeded"}
    assert ended["Steps"]["Bad"]["FailureReason"] == "ClientError: AlgorithmError: it raised, exit code: 1"
    assert "processing-job/" in ended["Steps"]["Bad"]["Metadata"]["ProcessingJob"]["Arn"]


def failure(service: Service, *steps: dict[str, Any], parameters: list[Any] | None = None) -> str:
    """The reason of the one step that fails."""
    ended = service.run(definition(*steps, parameters=parameters))
    assert ended["PipelineExecutionStatus"] == "Failed"
    return next(step["FailureReason"] for step in ended["Steps"].values() if step["StepStatus"] == "Failed")


def test_a_refused_request_is_the_steps_failure(service: Service) -> None:
    service.jobs.script["A"] = [ServiceError("ValidationException", "no such image")]
    assert failure(service, processing("A")) == (
        "ClientError: Failed to invoke sagemaker:CreateProcessingJob. Error Details: no such image"
    )


@pytest.mark.parametrize("operation", ["CreateProcessingJob", "DescribeProcessingJob"])
def test_what_iam_does_not_let_a_step_do_is_its_failure(service: Service, operation: str) -> None:
    service.denied = {operation}
    assert failure(service, processing("A")) == (
        f"ClientError: Failed to invoke sagemaker:{operation}. Error Details: User: {ROLE} is not authorized to"
        f" perform: {operation}"
    )


def test_a_value_that_the_request_does_not_allow_is_the_steps_failure(service: Service) -> None:
    kind = {"Name": "Kind", "Type": "String", "DefaultValue": "ml.none"}
    step = processing("A")
    step["Arguments"]["ProcessingResources"]["ClusterConfig"]["InstanceType"] = get("Parameters.Kind")
    reason = failure(service, step, parameters=[kind])
    assert "Value 'ml.none' at 'processingResources.clusterConfig.instanceType' failed to satisfy" in reason
    assert service.jobs.requests == []


def test_a_model_that_cannot_be_registered_is_the_steps_failure(service: Service) -> None:
    reason = failure(service, training("Train"), register("Register", group="none", **CONTAINER))
    assert reason.startswith("ClientError: Failed to invoke sagemaker:CreateModelPackage. Error Details:")


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (None, "property file 'Report' of step 'Evaluate' cannot be read from s3://b/report/report.json (NoSuchKey)"),
        ("{", "property file 'Report' of step 'Evaluate' at s3://b/report/report.json is not JSON"),
        ('{"auc": {"value": NaN}}', "NaN is not a JSON value"),
        ('{"f1": 1}', "property file 'Report' of step 'Evaluate' has nothing at 'auc'; it has f1 there"),
        ('{"auc": {"value": "0.9"}}', "'0.9' and 0.8 cannot be compared (GreaterThan): they are of different types"),
    ],
)
def test_a_report_that_does_not_tell_the_metric_fails_the_condition(
    service: Service, report: str | None, reason: str
) -> None:
    service.loopback.objects.clear()
    if report is not None:
        service.loopback.objects["s3://b/report/report.json"] = report
    gate = condition("Gate", compare("GreaterThan", json_get("auc.value"), 0.8), otherwise=[processing("Else")])
    assert reason in failure(service, EVALUATE, gate)
    assert service.jobs.steps_run() == ["Evaluate"]


def test_a_message_that_cannot_be_written_fails_the_fail_step_with_the_reason(service: Service) -> None:
    assert "is not a primitive value" in failure(service, EVALUATE, fail("No", json_get("auc")))


def test_a_job_stopped_by_somebody_else_fails_its_step(service: Service) -> None:
    service.jobs.script["A"] = ["Stopped"]
    assert re.fullmatch(r"ClientError: Processing job pipelines-\S+ was stopped\.", failure(service, processing("A")))


def test_a_model_card_of_a_property_file_is_registered_whole_and_one_that_is_too_long_is_refused(
    service: Service,
) -> None:
    details = {"name": "test", "evaluation_observation": "x" * 2000}
    for count, status in ((48, "Succeeded"), (50, "Failed")):
        card = json.dumps({"evaluation_details": [details] * count})
        service.loopback.objects["s3://b/report/report.json"] = json.dumps({"card": card})
        model_card = {"ModelCardContent": json_get("card"), "ModelCardStatus": "Draft"}
        step = register("Register", ModelCard=model_card, DependsOn=["Evaluate"])
        name = f"cards-{count}"
        service.create(definition(EVALUATE, step), name)
        ended = service.ended(service.start(name))
        assert ended["PipelineExecutionStatus"] == status, ended
        if status == "Succeeded":
            assert len(card) > 96_000
            arn = ended["Steps"]["Register"]["Metadata"]["RegisterModel"]["Arn"]
            package = service.call("DescribeModelPackage", ModelPackageName=arn)
            assert package["ModelCard"] == {"ModelCardContent": card, "ModelCardStatus": "Draft"}
        else:
            reason = ended["Steps"]["Register"]["FailureReason"]
            assert "at 'modelCard.modelCardContent' failed to satisfy constraint" in reason
            assert "100000" in reason


def test_a_long_reason_is_cut_to_what_the_api_allows(service: Service) -> None:
    service.jobs.script["A"] = ["x" * 5000]
    assert len(failure(service, processing("A"))) == 1024


def test_a_fault_of_our_own_ends_the_execution(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    service.jobs.script["A"] = [ServiceError("ValidationException", "x")]
    del service.jobs.__dict__["lock"]
    assert "InternalServerError: local_aws failed in this step; its log has the reason" in failure(
        service, processing("A")
    )
    assert "lock" in caplog.text


# Retries


def test_a_retry_policy_tries_again_with_a_new_job(service: Service) -> None:
    policy = {"ExceptionType": ["SageMaker.JOB_INTERNAL_ERROR"], "IntervalSeconds": 0.01, "MaxAttempts": 3}
    service.jobs.script["A"] = ["InternalServerError: try again", "InternalServerError: try again", "Completed"]
    ended = service.run(definition(processing("A", RetryPolicies=[policy])))
    assert ended["PipelineExecutionStatus"] == "Succeeded"
    assert ended["Steps"]["A"]["AttemptCount"] == 3
    names = [request["ProcessingJobName"] for request in service.jobs.requests]
    assert len(set(names)) == 3
    assert ended["Steps"]["A"]["Metadata"]["ProcessingJob"]["Arn"].endswith(names[-1])


THROTTLED = ServiceError("ThrottlingException", "Rate exceeded")
BROKEN = ServiceError("InternalFailure", "oops", 500)
LIMIT = ServiceError("ResourceLimitExceeded", "no quota")


@pytest.mark.parametrize(
    ("exception_type", "error", "attempts"),
    [
        ("Step.THROTTLING", THROTTLED, 2),
        ("Step.SERVICE_FAULT", BROKEN, 2),
        ("SageMaker.RESOURCE_LIMIT", LIMIT, 2),
        ("SageMaker.RESOURCE_LIMIT", "ResourceLimitExceeded: no quota", 2),
        ("SageMaker.CAPACITY_ERROR", "CapacityError: Unable to provision requested ML compute capacity.", 2),
        ("SageMaker.JOB_INTERNAL_ERROR", "InternalServerError: oops", 2),
        ("SageMaker.JOB_INTERNAL_ERROR", "AlgorithmError: oops", 1),
        ("Step.THROTTLING", BROKEN, 1),
    ],
)
def test_a_policy_retries_the_exceptions_that_it_names(
    service: Service, exception_type: str, error: Any, attempts: int
) -> None:
    policy = {"ExceptionType": [exception_type], "IntervalSeconds": 0.01, "MaxAttempts": 1}
    service.jobs.script["A"] = [error] * 2
    ended = service.run(definition(processing("A", RetryPolicies=[policy])))
    assert ended["Steps"]["A"]["AttemptCount"] == attempts
    assert ended["PipelineExecutionStatus"] == "Failed"


def test_a_stop_ends_the_wait_for_a_retry(service: Service) -> None:
    policy = {"ExceptionType": ["Step.THROTTLING"], "IntervalSeconds": 3600}
    service.jobs.script["A"] = [THROTTLED]
    service.create(definition(processing("A", RetryPolicies=[policy])))
    arn = service.start()
    wait_for(lambda: not service.jobs.script["A"])
    service.call("StopPipelineExecution", PipelineExecutionArn=arn)
    assert statuses(service.ended(arn)) == {"A": "Stopped"}


# Stop, and retry of executions


def test_a_stopped_execution_stops_its_jobs_and_starts_no_more(service: Service) -> None:
    service.jobs.script["A"] = [threading.Event()]
    service.create(definition(processing("A"), processing("B", DependsOn=["A"])))
    arn = service.start()
    wait_for(lambda: service.jobs.requests)
    assert service.call("StopPipelineExecution", PipelineExecutionArn=arn) == {"PipelineExecutionArn": arn}
    ended = service.ended(arn)
    assert ended["PipelineExecutionStatus"] == "Stopped"
    assert statuses(ended) == {"A": "Stopped"}
    job = service.jobs.jobs[service.jobs.requests[0]["ProcessingJobName"]]
    assert job["ProcessingJobStatus"] == "Stopped"


def test_a_job_that_the_role_may_not_stop_runs_to_its_end(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    service.denied = {"StopProcessingJob"}
    going = threading.Event()
    service.jobs.script["A"] = [going]
    service.create(definition(processing("A"), processing("B", DependsOn=["A"])))
    arn = service.start()
    wait_for(lambda: service.jobs.requests)
    service.call("StopPipelineExecution", PipelineExecutionArn=arn)
    assert service.describe(arn)["PipelineExecutionStatus"] == "Stopping"
    going.set()
    ended = service.ended(arn)
    assert ended["PipelineExecutionStatus"] == "Stopped"
    assert statuses(ended) == {"A": "Succeeded"}
    assert "is not stopped with its execution: User: " in caplog.text


def test_nothing_is_registered_after_the_stop(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.create(definition(register("Register", SkipModelValidation="All")))
    read = service.executions._actions.arguments

    def while_stopped(*arguments: Any) -> dict[str, Any]:
        (execution,) = service.call("ListPipelineExecutions", PipelineName="churn")["PipelineExecutionSummaries"]
        service.call("StopPipelineExecution", PipelineExecutionArn=execution["PipelineExecutionArn"])
        return read(*arguments)

    monkeypatch.setattr(service.executions._actions, "arguments", while_stopped)
    ended = service.ended(service.start())
    assert (ended["PipelineExecutionStatus"], statuses(ended)) == ("Stopped", {"Register": "Stopped"})
    packages = service.call("ListModelPackages", ModelPackageGroupName="churn-dev")
    assert packages["ModelPackageSummaryList"] == []


def test_an_execution_is_stopping_until_its_jobs_have_ended(service: Service) -> None:
    release = threading.Event()
    service.jobs.script["A"] = [release]
    service.jobs.stop = lambda call, kind, request: {}  # type: ignore[method-assign]
    service.create(definition(processing("A")))
    arn = service.start()
    wait_for(lambda: service.steps(arn).get("A", {}).get("StepStatus") == "Executing")
    service.call("StopPipelineExecution", PipelineExecutionArn=arn)
    assert service.describe(arn)["PipelineExecutionStatus"] == "Stopping"
    assert statuses({"Steps": service.steps(arn)}) == {"A": "Stopping"}
    release.set()
    ended = service.ended(arn)
    assert (ended["PipelineExecutionStatus"], statuses(ended)) == ("Stopped", {"A": "Succeeded"})


def test_a_retried_execution_keeps_what_succeeded(service: Service) -> None:
    service.jobs.script["Train"] = ["AlgorithmError: once"]
    service.create(pipeline())
    arn = service.start(values={"Threshold": "0.85"})
    failed = service.ended(arn)
    assert statuses(failed) == {"Prepare": "Succeeded", "Train": "Failed"}
    answer = service.call("RetryPipelineExecution", PipelineExecutionArn=arn)
    assert answer == {"PipelineExecutionArn": arn}
    ended = service.ended(arn)
    assert ended["PipelineExecutionStatus"] == "Succeeded"
    assert "FailureReason" not in ended
    assert ended["Steps"]["Prepare"] == failed["Steps"]["Prepare"]
    assert list(ended["Steps"]) == ["Prepare", "Train", "Evaluate", "Gate", "Register"]
    assert service.jobs.steps_run() == ["Prepare", "Train", "Train", "Evaluate"]


def test_a_stopped_execution_can_be_retried_with_another_parallelism(service: Service) -> None:
    service.jobs.script["A"] = [threading.Event()]
    service.create(definition(processing("A"), processing("B", DependsOn=["A"])))
    arn = service.start()
    wait_for(lambda: service.jobs.requests)
    service.call("StopPipelineExecution", PipelineExecutionArn=arn)
    service.ended(arn)
    limit = {"MaxParallelExecutionSteps": 1}
    service.call("RetryPipelineExecution", PipelineExecutionArn=arn, ParallelismConfiguration=limit)
    ended = service.ended(arn)
    assert (ended["PipelineExecutionStatus"], ended["ParallelismConfiguration"]) == ("Succeeded", limit)


def test_a_running_execution_keeps_its_version(service: Service) -> None:
    release = threading.Event()
    service.jobs.script["A"] = [release]
    service.create(definition(processing("A"), processing("B", DependsOn=["A"])))
    arn = service.start()
    new = json.dumps(definition(processing("Other")))
    service.call("UpdatePipeline", PipelineName="churn", PipelineDefinition=new)
    release.set()
    ended = service.ended(arn)
    assert list(ended["Steps"]) == ["A", "B"]
    assert ended["PipelineVersionId"] == 1
    described = service.call("DescribePipelineDefinitionForExecution", PipelineExecutionArn=arn)
    assert [step["Name"] for step in json.loads(described["PipelineDefinition"])["Steps"]] == ["A", "B"]
    assert list(service.ended(service.start(PipelineVersionId=1))["Steps"]) == ["A", "B"]
    assert list(service.ended(service.start())["Steps"]) == ["Other"]


NONE = "arn:aws:sagemaker:eu-central-1:123456789012:pipeline/churn/execution/none"


@pytest.mark.parametrize(
    "operation",
    [
        "DescribePipelineExecution",
        "ListPipelineExecutionSteps",
        "ListPipelineParametersForExecution",
        "DescribePipelineDefinitionForExecution",
        "StopPipelineExecution",
        "RetryPipelineExecution",
    ],
)
def test_an_unknown_execution_is_not_found(service: Service, operation: str) -> None:
    with pytest.raises(ServiceError) as error:
        service.call(operation, PipelineExecutionArn=NONE)
    assert (error.value.code, NONE in error.value.message) == ("ResourceNotFound", True)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ("StopPipelineExecution", "is Succeeded: only an execution that is Executing can be stopped."),
        ("RetryPipelineExecution", "is Succeeded: only an execution that is Failed or Stopped can be retried."),
    ],
)
def test_an_ended_execution_is_not_stopped_and_a_good_one_not_retried(
    service: Service, operation: str, message: str
) -> None:
    arn = service.run(definition(processing("A")))["PipelineExecutionArn"]
    with pytest.raises(ServiceError) as error:
        service.call(operation, PipelineExecutionArn=arn)
    assert (error.value.code, message in error.value.message) == ("ConflictException", True)


def test_listing_steps_needs_an_execution(service: Service) -> None:
    with pytest.raises(ServiceError, match="PipelineExecutionArn is required"):
        service.call("ListPipelineExecutionSteps")


# Caching


def run_twice(service: Service, first: dict[str, Any], second: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    service.create(first)
    one = service.ended(service.start())
    service.call("UpdatePipeline", PipelineName="churn", PipelineDefinition=json.dumps(second))
    return one, service.ended(service.start())


def test_a_step_with_the_same_attributes_is_not_run_again_and_its_properties_are_the_first_runs(
    service: Service,
) -> None:
    train = training("Train", HyperParameters={"eta": "0.1"}, **CACHE)
    moved = training("Train", HyperParameters={"eta": "0.1"}, OutputDataConfig={"S3OutputPath": "s3://other"}, **CACHE)
    show = environment(MODEL=get("Steps.Train.ModelArtifacts.S3ModelArtifacts"))
    one, two = run_twice(service, definition(train, show), definition(moved, show))
    assert service.jobs.steps_run() == ["Train", "Show", "Show"]
    hit = two["Steps"]["Train"]
    assert hit["CacheHitResult"] == {"SourcePipelineExecutionArn": one["PipelineExecutionArn"]}
    assert hit["Metadata"] == one["Steps"]["Train"]["Metadata"]
    assert service.jobs.requests[1]["Environment"] == service.jobs.requests[2]["Environment"]
    assert "s3://bucket/models" in service.jobs.requests[2]["Environment"]["MODEL"]


def test_a_hit_of_a_hit_names_the_execution_that_ran(service: Service) -> None:
    service.create(definition(processing("A", **CACHE)))
    ended = [service.ended(service.start()) for _ in range(3)]
    assert ended[2]["Steps"]["A"]["CacheHitResult"]["SourcePipelineExecutionArn"] == ended[0]["PipelineExecutionArn"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (processing("A", **CACHE), processing("A", Environment={"A": "1"}, **CACHE)),
        (processing("A", **CACHE), processing("B", **CACHE)),
        (processing("A", **CACHE), training("A", **CACHE)),
        (processing("A", **CACHE), processing("A", CacheConfig={"Enabled": False})),
        (processing("A", **CACHE), processing("A", CacheConfig={"Enabled": True, "ExpireAfter": "PT0S"})),
        (processing("A", **CACHE), processing("A")),
    ],
    ids=["attribute", "name", "type", "disabled", "expired", "no config"],
)
def test_a_step_runs_again(service: Service, first: dict[str, Any], second: dict[str, Any]) -> None:
    _, two = run_twice(service, definition(first), definition(second))
    assert len(service.jobs.requests) == 2
    assert not any("CacheHitResult" in step for step in two["Steps"].values())


def test_a_failed_run_is_not_reused(service: Service) -> None:
    service.jobs.script["A"] = ["AlgorithmError"]
    one, two = run_twice(service, definition(processing("A", **CACHE)), definition(processing("A", **CACHE)))
    assert [one["PipelineExecutionStatus"], two["PipelineExecutionStatus"]] == ["Failed", "Succeeded"]
    assert "CacheHitResult" not in two["Steps"]["A"]


def test_another_pipelines_run_is_not_reused(service: Service) -> None:
    for name in ("one", "two"):
        service.create(definition(processing("A", **CACHE)), name)
        assert "CacheHitResult" not in service.ended(service.start(name))["Steps"]["A"]


def test_an_output_address_with_the_execution_in_it_does_not_prevent_a_hit(service: Service) -> None:
    outputs = {"o": join("/", "s3://b", get("Execution.PipelineExecutionId"))}
    service.create(definition(processing("A", outputs, **CACHE), environment(
        URI=get("Steps.A.ProcessingOutputConfig.Outputs['o'].S3Output.S3Uri"))))  # fmt: skip
    one, _ = (service.ended(service.start()) for _ in range(2))
    assert service.jobs.steps_run() == ["A", "Show", "Show"]
    first = f"s3://b/{one['PipelineExecutionArn'].rpartition('/')[2]}"
    assert [request["Environment"]["URI"] for request in service.jobs.requests[1:]] == [first, first]


# The server's end


def test_what_was_under_way_when_the_server_ended_has_failed_afterwards_and_can_be_retried(tmp_path: Path) -> None:
    before = Service(Store(tmp_path / "state.db"))
    before.jobs.script["B"] = [threading.Event()]
    before.create(definition(processing("A"), processing("B", DependsOn=["A"])))
    arn = before.start()
    wait_for(lambda: before.steps(arn).get("B", {}).get("StepStatus") == "Executing")
    before.executions.stop()
    for name in before.jobs.jobs:
        before.jobs.end("Processing", name, "Stopped")  # as Jobs.stop does
    time.sleep(0.05)
    before.store.close()

    after = Service(Store(tmp_path / "state.db"))
    after.executions.resume()
    execution = after.describe(arn)
    assert execution["PipelineExecutionStatus"] == "Failed"
    assert execution["FailureReason"].startswith("local_aws ended while this was under way")
    wait_for(lambda: len(after.events) == 1)
    assert json.loads(after.events[0]["Detail"])["currentPipelineExecutionStatus"] == "Failed"
    steps = after.steps(arn)
    assert [step["StepStatus"] for step in steps.values()] == ["Succeeded", "Failed"]
    assert steps["B"]["FailureReason"].startswith("InternalServerError: local_aws ended")
    after.call("RetryPipelineExecution", PipelineExecutionArn=arn)
    assert after.ended(arn)["PipelineExecutionStatus"] == "Succeeded"
    assert after.jobs.steps_run() == ["B"]
    after.store.close()


def test_executions_do_not_disturb_each_other(service: Service) -> None:
    service.create(pipeline())
    arns = [service.start() for _ in range(10)]
    ended = [service.ended(arn) for arn in arns]
    assert {each["PipelineExecutionStatus"] for each in ended} == {"Succeeded"}
    packages = [each["Steps"]["Register"]["Metadata"]["RegisterModel"]["Arn"].rpartition("/")[2] for each in ended]
    assert sorted(map(int, packages)) == list(range(1, 11))
