"""What a job's request asks of each of its hosts, as data: fetch these inputs, run this, bring these outputs away.

Pure functions.
"""

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
        shard: (index, count) with ShardedByS3Key: of `count` hosts, this one gets every count-th object, by key order,
            from the index-th on. "Each instance gets approximately 1/n of the objects" (S3DataSource).
    """

    name: str
    source: S3Location
    folder: str
    objects: list[S3Object] | None = None
    may_be_empty: bool = False
    shard: tuple[int, int] = (0, 1)

    def share(self, objects: list[S3Object]) -> list[S3Object]:
        """Of everything at the source what this host gets; nothing, when there are fewer objects than hosts."""
        index, count = self.shard
        return objects[index::count]


@dataclass(frozen=True)
class Output:
    """What is brought to S3 when the programs of all hosts have ended.

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
    """One host of a job.

    Args:
        host: its name, such as "algo-1".
        command: the program and its arguments.
        environment: what the request and the contract set; PATH, HOME and the like come from the runner.
        files: JSON files by path.
        folders: further folders that must be there.
        working_folder: where the program starts: a path below /opt/ml, or WORKING_FOLDER.
        script: of a training job in script mode.
        seconds: the longest the program may run.
    """

    host: str
    command: list[str]
    environment: dict[str, str]
    files: dict[str, Any]
    inputs: list[Input]
    outputs: list[Output]
    seconds: float
    folders: list[str] = field(default_factory=list)
    working_folder: str = WORKING_FOLDER
    script: ScriptMode | None = None


def processing_plans(request: Request, arn: str) -> list[Plan]:
    """The plan of each host of a processing job."""
    hosts = contract.processing_hosts(request)
    return [_processing_plan(request, arn, host, (index, len(hosts))) for index, host in enumerate(hosts)]


def _processing_plan(request: Request, arn: str, host: str, shard: tuple[int, int]) -> Plan:
    specification = request["AppSpecification"]
    outputs = request.get("ProcessingOutputConfig", {})
    return Plan(
        host=host,
        command=[*specification["ContainerEntrypoint"], *specification.get("ContainerArguments", [])],
        environment=dict(request.get("Environment", {})),
        files=contract.processing_config_files(request, arn, host),
        inputs=[
            Input(
                item["InputName"],
                s3_location(item["S3Input"]["S3Uri"]),
                item["S3Input"]["LocalPath"],
                shard=_shard(item["S3Input"], shard),
            )
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


def training_plans(request: Request, arn: str, region: str, objects: dict[str, list[S3Object]]) -> list[Plan]:
    """The plan of each host of a training job.

    Args:
        objects: what each channel's source holds, by channel name.
    """
    hosts = contract.training_hosts(request)
    return [
        _training_plan(request, arn, region, objects, host, (index, len(hosts))) for index, host in enumerate(hosts)
    ]


def _training_plan(
    request: Request, arn: str, region: str, objects: dict[str, list[S3Object]], host: str, shard: tuple[int, int]
) -> Plan:
    specification = request["AlgorithmSpecification"]
    # The container's own variables, then the service's, then the user's: each may set the one before anew.
    environment = contract.training_environment(request, arn, region)
    script = None
    if "ContainerEntrypoint" in specification:
        command = [*specification["ContainerEntrypoint"], *specification.get("ContainerArguments", [])]
    else:
        script = contract.script_mode(request["HyperParameters"])
        command = script.command
        environment = contract.script_mode_environment(request, script, host) | environment
    inputs = [
        Input(
            name,
            s3_location(source["S3Uri"]),
            f"{ML}/input/data/{name}",
            objects=objects[name],
            shard=_shard(source, shard),
        )
        for channel in request.get("InputDataConfig", [])
        for name, source in [(channel["ChannelName"], channel["DataSource"]["S3DataSource"])]
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
        host=host,
        command=command,
        environment=environment | request.get("Environment", {}),
        files=contract.training_config_files(request, host),
        inputs=inputs,
        outputs=outputs,
        seconds=request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", DEFAULT_SECONDS),
        folders=[f"{ML}/input/data", f"{ML}/output/intermediate"],
        working_folder=contract.CODE_FOLDER if script else WORKING_FOLDER,
        script=script,
    )


def _shard(source: dict[str, Any], shard: tuple[int, int]) -> tuple[int, int]:
    return shard if source.get("S3DataDistributionType") == "ShardedByS3Key" else (0, 1)


def output_location(request: Request) -> S3Location:
    """Where a training job's archives go: <S3OutputPath>/<job>/output."""
    return s3_location(request["OutputDataConfig"]["S3OutputPath"]) / request["TrainingJobName"] / "output"
