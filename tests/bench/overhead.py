"""What running five scripts as a SageMaker Pipeline in local_aws costs over running them one after the other.

The same five scripts (scripts/: make data, split, train, evaluate, report) with the same interpreter, started by
(a) a shell, (b) local_aws as five chained Processing steps that hand their files on through S3, (c) Kedro as five
nodes. One round runs each once; the overhead is the difference to the shell of the same round.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from local_aws import LocalAWS
from tests.bench.account import prepare
from tests.bench.figures import Figure
from tests.story.story import CHECKOUT

SCRIPTS = Path(__file__).parent / "scripts"
STEPS = ("make_data", "split", "train", "evaluate", "report")
ROUNDS = 15
BUCKET = "bench"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.2-0"
PYTHON = CHECKOUT / ".envs" / "images" / "sagemaker-xgboost-3.2-0" / "bin" / "python"
KEDRO = CHECKOUT / ".envs" / "bench" / "bin" / "kedro"


def overhead() -> list[Figure]:
    ours, kedro, shells = [], [], []
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as temporary, LocalAWS() as aws:
        folder = Path(temporary)
        role = prepare(aws, BUCKET)
        pipeline = _create_pipeline(aws, role)
        kedro_project = _make_kedro_project(folder)
        _shell(folder / "warm-up")
        _execute(aws, pipeline)
        _kedro(kedro_project, folder / "warm-up-kedro")
        for number in range(ROUNDS):
            shell = _shell(folder / f"shell-{number}")
            shells.append(shell)
            ours.append(_execute(aws, pipeline) - shell)
            kedro.append(_kedro(kedro_project, folder / f"kedro-{number}") - shell)
    return [
        Figure("five scripts run by a shell", shells, "s"),
        Figure("their overhead as a pipeline of five jobs in local_aws", ours, "s", at_most=0.8),
        Figure("their overhead in Kedro", kedro, "s"),
        # The difference of the two, round by round: a ratio of differences this small would be mostly noise.
        Figure("local_aws's overhead less Kedro's", [a - b for a, b in zip(ours, kedro, strict=True)], "s", at_most=0),
    ]


def _shell(folder: Path) -> float:
    """Seconds that the scripts take, each reading the folder that the one before it wrote."""
    folder.mkdir()
    commands = [f"{PYTHON} {SCRIPTS / step}.py in{number} in{number + 1}" for number, step in enumerate(STEPS)]
    (folder / "in0").mkdir()
    started = time.monotonic()
    subprocess.run(["bash", "-ec", "\n".join(commands)], cwd=folder, env=_environment(), check=True)
    seconds = time.monotonic() - started
    shutil.rmtree(folder)
    return seconds


def _environment() -> dict[str, str]:
    """What local_aws sets for its jobs, the others get too, so that the scripts themselves take the same time."""
    return dict(os.environ) | {"OMP_WAIT_POLICY": "PASSIVE"}


def _create_pipeline(aws: LocalAWS, role: str) -> str:
    s3 = aws.client("s3")
    s3.put_object(Bucket=BUCKET, Key="in0/empty", Body=b"")
    for step in STEPS:
        s3.upload_file(str(SCRIPTS / f"{step}.py"), BUCKET, f"code/{step}/{step}.py")
    steps: list[dict[str, Any]] = []
    source: Any = f"s3://{BUCKET}/in0"
    for step in STEPS:
        steps.append({"Name": step, "Type": "Processing", "Arguments": _processing_job(step, source, role)})
        source = {"Get": f"Steps.{step}.ProcessingOutputConfig.Outputs['out'].S3Output.S3Uri"}
    definition = {"Version": "2020-12-01", "Parameters": [], "Steps": steps}
    aws.client("sagemaker").create_pipeline(
        PipelineName="bench",
        PipelineDefinition=json.dumps(definition),
        RoleArn=role,
        ClientRequestToken=uuid.uuid4().hex,
    )
    return "bench"


def _processing_job(step: str, source: Any, role: str) -> dict[str, Any]:
    def from_s3(name: str, uri: Any, path: str) -> dict[str, Any]:
        s3_input = {"S3Uri": uri, "LocalPath": path, "S3DataType": "S3Prefix", "S3InputMode": "File"}
        return {"InputName": name, "AppManaged": False, "S3Input": s3_input}

    base = "/opt/ml/processing"
    destination = {
        "Std:Join": {"On": "/", "Values": [f"s3://{BUCKET}", {"Get": "Execution.PipelineExecutionId"}, step]}
    }
    output = {"S3Uri": destination, "LocalPath": f"{base}/out", "S3UploadMode": "EndOfJob"}
    return {
        "AppSpecification": {
            "ImageUri": IMAGE,
            "ContainerEntrypoint": ["python3", f"{base}/input/code/{step}.py"],
            "ContainerArguments": [f"{base}/in", f"{base}/out"],
        },
        "ProcessingInputs": [
            from_s3("code", f"s3://{BUCKET}/code/{step}", f"{base}/input/code"),
            from_s3("in", source, f"{base}/in"),
        ],
        "ProcessingOutputConfig": {"Outputs": [{"OutputName": "out", "AppManaged": False, "S3Output": output}]},
        "ProcessingResources": {
            "ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30}
        },
        "RoleArn": role,
    }


def _execute(aws: LocalAWS, pipeline: str) -> float:
    """Seconds from StartPipelineExecution until a client that asks every 20 ms sees the execution succeeded."""
    sagemaker = aws.client("sagemaker")
    started = time.monotonic()
    arn = sagemaker.start_pipeline_execution(PipelineName=pipeline, ClientRequestToken=uuid.uuid4().hex)
    while True:
        execution = sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn["PipelineExecutionArn"])
        if execution["PipelineExecutionStatus"] == "Succeeded":
            return time.monotonic() - started
        if execution["PipelineExecutionStatus"] != "Executing":
            raise AssertionError(f"{execution.get('FailureReason')}\n{aws.log}")
        time.sleep(0.02)


def _make_kedro_project(folder: Path) -> Path:
    """The smallest Kedro project: five nodes, each starting one script, in a row."""
    project = folder / "kedro"
    package = project / "src" / "bench"
    package.mkdir(parents=True)
    (project / "conf" / "base").mkdir(parents=True)
    (project / "conf" / "local").mkdir()
    (project / "conf" / "base" / "catalog.yml").write_text("")
    (project / "pyproject.toml").write_text(
        '[tool.kedro]\npackage_name = "bench"\nproject_name = "bench"\n'
        'kedro_init_version = "1.7.0"\nsource_dir = "src"\n'
    )
    (package / "__init__.py").write_text("")
    (package / "settings.py").write_text("")
    (package / "pipeline_registry.py").write_text(
        f"""import os, subprocess
from kedro.pipeline import Pipeline, node

def runner(script, number):
    def run(_):
        folder = os.environ["BENCH_FOLDER"]
        subprocess.run([{str(PYTHON)!r}, {str(SCRIPTS)!r} + f"/{{script}}.py", f"{{folder}}/in{{number}}",
                        f"{{folder}}/in{{number + 1}}"], check=True)
        return True
    run.__name__ = script
    return run

def first():
    return True

def register_pipelines():
    steps = {STEPS!r}
    nodes = [node(first, None, "d0")]
    nodes += [node(runner(script, number), f"d{{number}}", f"d{{number + 1}}") for number, script in enumerate(steps)]
    return {{"__default__": Pipeline(nodes)}}
"""
    )
    return project


def _kedro(project: Path, folder: Path) -> float:
    (folder / "in0").mkdir(parents=True)
    environment = _environment() | {"BENCH_FOLDER": str(folder), "KEDRO_DISABLE_TELEMETRY": "1"}
    started = time.monotonic()
    result = subprocess.run(
        [str(KEDRO), "run"], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - started
    if result.returncode != 0 or not (folder / f"in{len(STEPS)}").exists():
        raise AssertionError(f"kedro run failed:\n{result.stdout}{result.stderr}")
    shutil.rmtree(folder)
    return seconds
