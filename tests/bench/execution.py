"""A whole execution of the generated pipeline on a million rows: from StartPipelineExecution until it has succeeded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.csv
import yaml

from local_aws import LocalAWS
from tests.bench.account import PROJECT, prepare
from tests.bench.figures import Figure
from tests.story.story import Story

BUCKET = "bench-artifacts"
ROWS, COLUMNS, ROUNDS, RUNS = 1_000_000, 20, 50, 3


def write_table(path: Path, rows: int = ROWS, columns: int = COLUMNS, seed: int = 0) -> None:
    """`columns` numbers of six digits and a class that depends on some of them, as CSV."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(rows, columns)).round(6)
    signal = numbers[:, 0] + numbers[:, 1] * numbers[:, 2] - np.abs(numbers[:, 3])
    table = pyarrow.table({f"x{column}": numbers[:, column] for column in range(columns)})
    labels = np.where(signal + random.normal(size=rows) > 0, "yes", "no")
    pyarrow.csv.write_csv(table.append_column("label", pyarrow.array(labels)), path)


def execution() -> list[Figure]:
    """The execution with nothing cached, three times; and how long each of its steps took."""
    with tempfile.TemporaryDirectory() as folder, LocalAWS() as aws:
        prepare(aws, BUCKET)
        story = Story(PROJECT, aws.server.region, aws.environment, aws.environment, Path(folder))
        story.generate(BUCKET)
        write_table(story.repository / "data.csv")
        path = story.repository / "settings.yaml"
        settings = yaml.safe_load(path.read_text())
        settings["data"] |= {"uri": f"s3://{BUCKET}/data.csv", "target": "label"}
        settings["gate"]["threshold"] = 0.7
        settings["train"]["hyperparameters"] |= {"num_round": ROUNDS, "early_stopping_rounds": ROUNDS}
        path.write_text(yaml.safe_dump(settings))
        story.pipeline("upload-data", "data.csv")
        story.pipeline("register-project", "--groups-only")
        wholes: list[float] = []
        steps: dict[str, list[float]] = {"Preprocess": [], "Train": [], "Evaluate": []}
        for run in range(RUNS):
            # another fingerprint is another data set to the cache
            arn = _start(story, run)
            seconds, by_step = _ended(aws, arn)
            wholes.append(seconds)
            for name, taken in by_step.items():
                if name in steps:
                    steps[name].append(taken)
    what = f"an execution on {ROWS:,} rows x {COLUMNS} columns, {ROUNDS} rounds"
    return [Figure(what, wholes, "s", at_most=20)] + [
        Figure(f"of it, the step {name}", taken, "s") for name, taken in steps.items()
    ]


def _start(story: Story, run: int) -> str:
    """Starts what `python -m pipeline upsert` made, with a fingerprint that no earlier run had."""
    if run == 0:
        story.pipeline("upsert")
    parameters = [{"Name": "DataFingerprint", "Value": f"run-{run}"}]
    command = ["sagemaker", "start-pipeline-execution", "--pipeline-name", "bench-dev"]
    answer = subprocess.run(
        [Path(sys.executable).with_name("aws"), *command, "--pipeline-parameters", json.dumps(parameters)],
        env=os.environ | dict(story.environment),
        check=True,
        capture_output=True,
        text=True,
    )
    return str(json.loads(answer.stdout)["PipelineExecutionArn"])


def _ended(aws: LocalAWS, arn: str) -> tuple[float, dict[str, float]]:
    """Seconds of the whole execution and of each step, when it has succeeded.

    Raises:
        RuntimeError: it has not.
    """
    sagemaker = aws.client("sagemaker")
    while (execution := sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn))[
        "PipelineExecutionStatus"
    ] == "Executing":
        time.sleep(0.1)
    steps = sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn)["PipelineExecutionSteps"]
    if execution["PipelineExecutionStatus"] != "Succeeded":
        raise RuntimeError(f"the execution ended as {execution['PipelineExecutionStatus']}: {steps}")
    whole = execution["LastModifiedTime"] - execution["CreationTime"]
    taken = {step["StepName"]: (step["EndTime"] - step["StartTime"]).total_seconds() for step in steps}
    return whole.total_seconds(), taken
