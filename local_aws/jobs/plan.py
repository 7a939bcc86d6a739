"""What a job's request asks for, as data: fetch these inputs, run this, bring these outputs away. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from local_aws.jobs import contract
from local_aws.jobs.contract import ML, Request, ScriptMode
from local_aws.jobs.staging import S3Location, S3Object, s3_location

DEFAULT_SECONDS = 86400  # MaxRuntimeInSeconds without a StoppingCondition, for both kinds of job
WORKING_FOLDER = "/"  # of Plan.working_folder: the job's own folder, beside /opt/ml


@dataclass(frozen=True)
class Input:
    """Objects to fetch.

    Args:
        name: as the request calls it.
        source: a key, or a prefix of keys.
        folder: where they go (a path below /opt/ml).
        objects: what the source holds, when it was listed already.
        may_be_empty: nothing there is no error (a checkpoint before the first run).
    """

    name: str
    source: S3Location
    folder: str
    objects: list[S3Object] | None = None
    may_be_empty: bool = False


@dataclass(frozen=True)
class Output:
    """What is brought to S3 when the program has ended.

    Args:
        folder: a path below /opt/ml; made before the program starts.
        target: a prefix, or with `archive` the key of a .tar.gz of the folder (none is written of an empty folder).
        always: also when the program failed or was stopped.
    """

    folder: str
    target: S3Location
    archive: bool = False
    always: bool = False
    kms_key: str | None = None


@dataclass(frozen=True)
class Plan:
    """One job.

    Args:
        command: the program and its arguments.
        environment: what the request and the contract set; PATH, HOME and the like come from the runner.
        files: JSON files by path.
        folders: further folders that must be there.
        working_folder: where the program starts: a path below /opt/ml, or WORKING_FOLDER.
        script: of a training job in script mode.
        seconds: the longest the program may run.
    """

    command: list[str]
    environment: dict[str, str]
    files: dict[str, Any]
    inputs: list[Input]
    outputs: list[Output]
    seconds: float
    folders: list[str] = field(default_factory=list)
    working_folder: str = WORKING_FOLDER
    script: ScriptMode | None = None


def processing_plan(request: Request, arn: str) -> Plan:
    specification = request["AppSpecification"]
    outputs = request.get("ProcessingOutputConfig", {})
    return Plan(
        command=[*specification["ContainerEntrypoint"], *specification.get("ContainerArguments", [])],
        environment=dict(request.get("Environment", {})),
        files=contract.processing_config_files(request, arn),
        inputs=[
            Input(item["InputName"], s3_location(item["S3Input"]["S3Uri"]), item["S3Input"]["LocalPath"])
            for item in request.get("ProcessingInputs", [])
        ],
        outputs=[
            Output(
                item["S3Output"]["LocalPath"],
                s3_location(item["S3Output"]["S3Uri"]),
                kms_key=outputs.get("KmsKeyId") or None,
            )
            for item in outputs.get("Outputs", [])
        ],
        seconds=request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", DEFAULT_SECONDS),
        folders=[f"{ML}/processing", f"{ML}/output"],
    )


def training_plan(request: Request, arn: str, region: str, objects: dict[str, list[S3Object]]) -> Plan:
    """The plan of a training job.

    Args:
        objects: what each channel's source holds, by channel name.
    """
    specification = request["AlgorithmSpecification"]
    # The container's own variables, then the service's, then the user's: each may set the one before anew.
    environment = contract.training_environment(request, arn, region)
    script = None
    if "ContainerEntrypoint" in specification:
        command = [*specification["ContainerEntrypoint"], *specification.get("ContainerArguments", [])]
    else:
        script = contract.script_mode(request["HyperParameters"])
        command = script.command
        environment = contract.script_mode_environment(request, script) | environment
    inputs = [
        Input(
            name,
            s3_location(channel["DataSource"]["S3DataSource"]["S3Uri"]),
            f"{ML}/input/data/{name}",
            objects=objects[name],
        )
        for channel in request.get("InputDataConfig", [])
        for name in [channel["ChannelName"]]
    ]
    key = request["OutputDataConfig"].get("KmsKeyId") or None
    target = output_location(request)
    outputs = [
        Output(contract.MODEL_FOLDER, target / "model.tar.gz", archive=True, always=True, kms_key=key),
        Output(contract.OUTPUT_DATA_FOLDER, target / "output.tar.gz", archive=True, always=True, kms_key=key),
    ]
    if checkpoint := request.get("CheckpointConfig"):
        folder, source = checkpoint.get("LocalPath", contract.CHECKPOINT_FOLDER), s3_location(checkpoint["S3Uri"])
        # A prefix with its slash: "ckpt" must not fetch what lies under "ckpt-of-another-job".
        inputs.append(Input("checkpoints", source / "", folder, may_be_empty=True))
        outputs.append(Output(folder, source, always=True))
    return Plan(
        command=command,
        environment=environment | request.get("Environment", {}),
        files=contract.training_config_files(request),
        inputs=inputs,
        outputs=outputs,
        seconds=request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", DEFAULT_SECONDS),
        folders=[f"{ML}/input/data", f"{ML}/output/intermediate"],
        working_folder=contract.CODE_FOLDER if script else WORKING_FOLDER,
        script=script,
    )


def output_location(request: Request) -> S3Location:
    """Where a training job's archives go: <S3OutputPath>/<job>/output."""
    return s3_location(request["OutputDataConfig"]["S3OutputPath"]) / request["TrainingJobName"] / "output"
