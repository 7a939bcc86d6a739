"""Pipelines that really run, on a server, through boto3."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws import LocalAWS
from tests.local_aws.job_requests import Workshop, tar_gz
from tests.local_aws.pipeline_fakes import (
    IMAGE,
    ROLE,
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

PREPARE = """
    with open("/opt/ml/processing/train/rows.csv", "w") as file:
        file.write("1,2")
"""
TRAIN = """
    import os, pathlib
    rows = pathlib.Path(os.environ["SM_CHANNEL_TRAIN"], "rows.csv").read_text()
    pathlib.Path(os.environ["SM_MODEL_DIR"], "model.txt").write_text(rows)
"""
EVALUATE = """
    import json, sys, tarfile
    rows = tarfile.open("/opt/ml/processing/model/model.tar.gz").extractfile("model.txt").read().decode()
    with open("/opt/ml/processing/report/report.json", "w") as file:
        json.dump({"sum": sum(map(int, rows.split(",")))}, file)
"""


class PipelineWorkshop(Workshop):
    """A pipeline of the workshop's own, its scripts, and what became of its executions."""

    def script(self, step: dict[str, Any], source: str, **inputs: Any) -> dict[str, Any]:
        """Let a Processing step run a script, with inputs (name to S3 URI) under /opt/ml/processing/<name>."""
        uri = self.put(f"code/{step['Name']}.py", source)
        arguments = step["Arguments"]
        script = f"/opt/ml/processing/code/{step['Name']}.py"
        arguments["AppSpecification"] = {"ImageUri": IMAGE, "ContainerEntrypoint": ["python3", script]}
        arguments["ProcessingInputs"] = [
            {
                "InputName": name,
                "S3Input": {
                    "S3Uri": source,
                    "LocalPath": f"/opt/ml/processing/{name}",
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "File",
                },
            }
            for name, source in ({"code": uri} | inputs).items()
        ]
        return step

    def straight_line(self) -> dict[str, Any]:
        """Prepare, Train, Evaluate, Gate, then Register or Fail: the metric is 3."""
        submit = self.put("code/source.tar.gz", tar_gz({"train.py": TRAIN}))
        train = training(
            "Train",
            HyperParameters={"sagemaker_program": "train.py", "sagemaker_submit_directory": submit},
            OutputDataConfig={"S3OutputPath": self.uri("models")},
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
        )
        model = get("Steps.Train.ModelArtifacts.S3ModelArtifacts")
        report = {"PropertyFileName": "Report", "OutputName": "report", "FilePath": "report.json"}
        folder = join("/", self.uri("runs"), get("Execution.PipelineExecutionId"))
        evaluate = processing("Evaluate", {"report": folder}, PropertyFiles=[report])
        inference = {
            "Containers": [{"Image": IMAGE, "ModelDataUrl": model}],
            "SupportedContentTypes": ["text/csv"],
            "SupportedResponseMIMETypes": ["text/csv"],
        }
        return definition(
            self.script(processing("Prepare", {"train": join("/", folder, "train")}), PREPARE),
            train,
            self.script(evaluate, EVALUATE, model=model),
            condition(
                "Gate",
                compare("GreaterThanOrEqualTo", json_get("sum"), get("Parameters.Least")),
                then=[register("Register", group=self.bucket, InferenceSpecification=inference)],
                otherwise=[fail("TooBad", join(" ", "the sum is", json_get("sum")))],
            ),
            parameters=[{"Name": "Least", "Type": "Integer", "DefaultValue": 3}],
        )

    def create(self, definition: dict[str, Any]) -> None:
        text = json.dumps(definition).replace(ROLE, self.role)
        self.sagemaker.create_pipeline(PipelineName=self.bucket, RoleArn=self.role, PipelineDefinition=text)

    def start(self, **values: str) -> str:
        parameters = [{"Name": name, "Value": value} for name, value in values.items()]
        answer = self.sagemaker.start_pipeline_execution(PipelineName=self.bucket, PipelineParameters=parameters)
        return answer["PipelineExecutionArn"]

    def execution(self, arn: str) -> dict[str, Any]:
        return self.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)

    def steps(self, arn: str) -> dict[str, Any]:
        steps = self.sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn, SortOrder="Ascending")
        return {step["StepName"]: step for step in steps["PipelineExecutionSteps"]}

    def execution_ended(self, arn: str) -> dict[str, Any]:
        wait_for(lambda: self.execution(arn)["PipelineExecutionStatus"] not in ("Executing", "Stopping"))
        return self.execution(arn) | {"Steps": self.steps(arn)}


@pytest.fixture
def workshop(aws: LocalAWS) -> PipelineWorkshop:
    return PipelineWorkshop(aws)


def test_data_is_processed_a_model_trained_evaluated_and_registered(workshop: PipelineWorkshop) -> None:
    workshop.sagemaker.create_model_package_group(ModelPackageGroupName=workshop.bucket)
    workshop.create(workshop.straight_line())
    ended = workshop.execution_ended(workshop.start())
    assert ended["PipelineExecutionStatus"] == "Succeeded", ended
    assert list(ended["Steps"]) == ["Prepare", "Train", "Evaluate", "Gate", "Register"]
    package = workshop.sagemaker.describe_model_package(
        ModelPackageName=ended["Steps"]["Register"]["Metadata"]["RegisterModel"]["Arn"]
    )
    model = package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
    assert workshop.get(model.removeprefix(workshop.uri()))[:2] == b"\x1f\x8b"
    # hand-over is by events: what is left beside the jobs' own programs is little, also on a slow machine
    steps = list(ended["Steps"].values())
    between = [(b["StartTime"] - a["EndTime"]).total_seconds() for a, b in itertools.pairwise(steps)]
    assert sum(between) < 0.3

    worse = workshop.execution_ended(workshop.start(Least="4"))
    assert worse["PipelineExecutionStatus"] == "Failed"
    assert worse["FailureReason"] == "the sum is 3"
    listed = workshop.sagemaker.list_model_packages(ModelPackageGroupName=workshop.bucket, ModelPackageType="Versioned")
    assert len(listed["ModelPackageSummaryList"]) == 1


def test_a_script_that_raises_fails_the_execution_with_its_reason(workshop: PipelineWorkshop) -> None:
    workshop.create(definition(workshop.script(processing("Bad"), "raise SystemExit(3)")))
    ended = workshop.execution_ended(workshop.start())
    assert ended["PipelineExecutionStatus"] == "Failed"
    assert ended["FailureReason"] == "Step failure: One or multiple steps failed."
    reason = ended["Steps"]["Bad"]["FailureReason"]
    assert reason.startswith("ClientError: AlgorithmError")
    assert "3" in reason


def test_a_processing_job_over_its_time_fails_its_step_with_the_limit(workshop: PipelineWorkshop) -> None:
    limit = {"MaxRuntimeInSeconds": 1}
    step = workshop.script(processing("Slow", StoppingCondition=limit), "import time; time.sleep(60)")
    workshop.create(definition(step))
    ended = workshop.execution_ended(workshop.start())
    reason = ended["Steps"]["Slow"]["FailureReason"]
    assert reason == "ClientError: The job ran longer than its MaxRuntimeInSeconds (1). Raise it."


def test_a_stop_stops_the_running_program(workshop: PipelineWorkshop) -> None:
    slow = workshop.script(processing("Slow"), "import time; time.sleep(600)")
    workshop.create(definition(slow, processing("After", DependsOn=["Slow"])))
    arn = workshop.start()
    wait_for(lambda: workshop.steps(arn).get("Slow", {}).get("StepStatus") == "Executing")
    workshop.sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)
    ended = workshop.execution_ended(arn)
    assert ended["PipelineExecutionStatus"] == "Stopped"
    assert {name: step["StepStatus"] for name, step in ended["Steps"].items()} == {"Slow": "Stopped"}
    job = ended["Steps"]["Slow"]["Metadata"]["ProcessingJob"]["Arn"].rpartition("/")[2]
    assert workshop.sagemaker.describe_processing_job(ProcessingJobName=job)["ProcessingJobStatus"] == "Stopped"


def test_an_unknown_image_fails_its_step_by_name(workshop: PipelineWorkshop) -> None:
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mine:1"
    step = processing("A", AppSpecification={"ImageUri": image, "ContainerEntrypoint": ["python3"]})
    workshop.create(definition(step))
    reason = workshop.execution_ended(workshop.start())["Steps"]["A"]["FailureReason"]
    assert reason.startswith("ClientError: Failed to invoke sagemaker:CreateProcessingJob. Error Details: ")
    assert image in reason


def test_a_role_that_is_not_there_is_refused_at_the_creation(workshop: PipelineWorkshop) -> None:
    workshop.role += "-not"
    with pytest.raises(ClientError, match=r"ValidationException.*Please ensure that the role exists"):
        workshop.create(definition(processing("A")))
