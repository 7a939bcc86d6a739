"""What CreateProcessingJob and CreateTrainingJob refuse before anything runs, beyond what botocore's model forbids.

A field is refused by name when it would change what happens and local_aws does not do it; one that has no effect on a
single machine (VPC, encryption, volume size, warm pools) is kept and described as it was given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from local_aws.calls import Request, validation_error
from local_aws.jobs.staging import s3_location

MOST_INSTANCES = 16  # each is a program on this one machine
PROCESSING_FOLDER = "/opt/ml/processing/"


def check_processing_job(request: Request) -> None:
    """Raise ValidationException for what cannot be run here, or nowhere."""
    inputs = request.get("ProcessingInputs", [])
    outputs = request.get("ProcessingOutputConfig", {}).get("Outputs", [])
    for item in inputs:
        where = f"ProcessingInputs {item['InputName']!r}"
        refuse(where, item, "DatasetDefinition")
        _only(f"{where}: AppManaged", item.get("AppManaged", False), False)
        if "S3Input" not in item:
            raise validation_error(f"{where}: S3Input is missing.")
        source = item["S3Input"]
        _check_uri(f"{where}: S3Input.S3Uri", source["S3Uri"])
        _check_local_path(f"{where}: S3Input.LocalPath", source.get("LocalPath"))
        _only(f"{where}: S3DataType", source["S3DataType"], "S3Prefix")
        _only(f"{where}: S3InputMode", source.get("S3InputMode", "File"), "File")
        _only(f"{where}: S3CompressionType", source.get("S3CompressionType", "None"), "None")
    for item in outputs:
        where = f"ProcessingOutputConfig.Outputs {item['OutputName']!r}"
        refuse(where, item, "FeatureStoreOutput")
        _only(f"{where}: AppManaged", item.get("AppManaged", False), False)
        if "S3Output" not in item:
            raise validation_error(f"{where}: S3Output is missing.")
        _check_uri(f"{where}: S3Output.S3Uri", item["S3Output"]["S3Uri"])
        _check_local_path(f"{where}: S3Output.LocalPath", item["S3Output"].get("LocalPath"))
        _only(f"{where}: S3UploadMode", item["S3Output"]["S3UploadMode"], "EndOfJob")
    _check_different("InputName", (item["InputName"] for item in inputs))
    _check_different("OutputName", (item["OutputName"] for item in outputs))
    _check_different("S3Input.LocalPath", (item["S3Input"]["LocalPath"].rstrip("/") for item in inputs))
    _check_instance_count("ProcessingResources.ClusterConfig.InstanceCount", _cluster(request)["InstanceCount"])
    _only("NetworkConfig.EnableNetworkIsolation", request.get("NetworkConfig", {}).get("EnableNetworkIsolation"), False)
    if "ContainerEntrypoint" not in request["AppSpecification"]:
        raise validation_error(
            "AppSpecification.ContainerEntrypoint is missing: local_aws runs environments, which have no entrypoint of"
            ' their own. Give one, such as ["python3", "/opt/ml/processing/input/code/script.py"].'
        )


def check_training_job(request: Request) -> None:
    """Raise ValidationException for what cannot be run here, or nowhere."""
    refuse(
        "CreateTrainingJob",
        request,
        *("DebugRuleConfigurations", "ProfilerRuleConfigurations", "ServerlessJobConfig", "MlflowConfig"),
        "ModelPackageConfig",
    )
    for name in ("AlgorithmSpecification", "ResourceConfig", "StoppingCondition"):
        if name not in request:
            raise validation_error(f"{name} is missing.")
    specification = request["AlgorithmSpecification"]
    refuse("AlgorithmSpecification", specification, "AlgorithmName", "TrainingImageConfig")
    if "TrainingImage" not in specification:
        raise validation_error("AlgorithmSpecification.TrainingImage is missing.")
    _only("AlgorithmSpecification.TrainingInputMode", specification["TrainingInputMode"], "File")
    resources = request["ResourceConfig"]
    refuse("ResourceConfig", resources, "InstanceGroups", "InstancePreferences")
    if "InstanceType" not in resources:
        raise validation_error("ResourceConfig.InstanceType is missing.")
    _check_instance_count("ResourceConfig.InstanceCount", resources.get("InstanceCount", 1))
    _only("EnableNetworkIsolation", request.get("EnableNetworkIsolation"), False)
    for channel in request.get("InputDataConfig", []):
        _check_channel(channel)
    _check_different("ChannelName", (channel["ChannelName"] for channel in request.get("InputDataConfig", [])))
    _check_uri("OutputDataConfig.S3OutputPath", request["OutputDataConfig"]["S3OutputPath"])
    _only("OutputDataConfig.CompressionType", request["OutputDataConfig"].get("CompressionType", "GZIP"), "GZIP")
    if checkpoint := request.get("CheckpointConfig"):
        _check_uri("CheckpointConfig.S3Uri", checkpoint["S3Uri"])
        _check_local_path("CheckpointConfig.LocalPath", checkpoint.get("LocalPath", "/opt/ml/checkpoints"), "/opt/ml/")
    _check_spot(request)
    for definition in specification.get("MetricDefinitions", []):
        try:
            re.compile(definition["Regex"])
        except re.error as error:
            raise validation_error(
                f"MetricDefinitions {definition['Name']!r}: {definition['Regex']!r} is no regular expression: {error}."
            ) from error
    if "ContainerEntrypoint" not in specification:
        _check_script_mode(request.get("HyperParameters", {}))


def _check_channel(channel: dict[str, Any]) -> None:
    where = f"InputDataConfig {channel['ChannelName']!r}"
    if channel["ChannelName"] in (".", ".."):  # the model's pattern allows it
        raise validation_error(f"{where}: ChannelName names the channel's folder; choose another.")
    refuse(where, channel, "ShuffleConfig")
    _only(f"{where}: InputMode", channel.get("InputMode", "File"), "File")
    _only(f"{where}: CompressionType", channel.get("CompressionType", "None"), "None")
    _only(f"{where}: RecordWrapperType", channel.get("RecordWrapperType", "None"), "None")
    refuse(f"{where}: DataSource", channel["DataSource"], *(set(channel["DataSource"]) - {"S3DataSource"}))
    if "S3DataSource" not in channel["DataSource"]:
        raise validation_error(f"{where}: DataSource.S3DataSource is missing.")
    source = channel["DataSource"]["S3DataSource"]
    refuse(where, source, "AttributeNames", "InstanceGroupNames", "ModelAccessConfig", "HubAccessConfig")
    _only(f"{where}: S3DataType", source["S3DataType"], "S3Prefix")
    _check_uri(f"{where}: S3Uri", source["S3Uri"])


def _check_spot(request: Request) -> None:
    condition = request["StoppingCondition"]
    wait, run = condition.get("MaxWaitTimeInSeconds"), condition.get("MaxRuntimeInSeconds", 86400)
    if request.get("EnableManagedSpotTraining"):
        if wait is None or wait < run:
            raise validation_error(
                "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds"
                f" ({run}) when EnableManagedSpotTraining is true."
            )
    elif wait is not None:
        raise validation_error(
            "Invalid MaxWaitTimeInSeconds. It can only be given when EnableManagedSpotTraining is true."
        )


def _check_script_mode(hyperparameters: dict[str, str]) -> None:
    if "sagemaker_program" not in hyperparameters:
        raise validation_error(
            "HyperParameters have no sagemaker_program: local_aws runs script mode, not the image's built-in algorithm."
            " Name a script there and its archive in sagemaker_submit_directory."
        )
    code = hyperparameters.get("sagemaker_submit_directory", "").strip('"')
    _check_uri("HyperParameters sagemaker_submit_directory", code)
    if not s3_location(code).key.endswith((".tar.gz", ".tgz")):
        raise validation_error(f"HyperParameters sagemaker_submit_directory {code!r} is no .tar.gz archive.")
    program = PurePosixPath(hyperparameters["sagemaker_program"].strip('"'))
    if program.is_absolute() or ".." in program.parts or program.suffix not in (".py", ".sh"):
        raise validation_error(
            f"HyperParameters sagemaker_program {str(program)!r} must be a .py or .sh file inside the archive."
        )


def refuse(where: str, structure: Request, *names: str) -> None:
    """Raise ValidationException when one of these members is given, which nothing here does."""
    if given := sorted(name for name in names if structure.get(name)):
        raise validation_error(f"{where}: {', '.join(given)} is not supported by local_aws. Leave it out.")


def _only(what: str, value: Any, supported: Any) -> None:
    if value is not None and value != supported:
        raise validation_error(f"{what} {value!r} is not supported by local_aws; {supported!r} is.")


def _check_instance_count(what: str, count: int) -> None:
    if not 1 <= count <= MOST_INSTANCES:
        raise validation_error(f"{what} {count} is not supported by local_aws; 1 to {MOST_INSTANCES} are.")


def _check_uri(what: str, uri: str) -> None:
    try:
        s3_location(uri)
    except ValueError as error:
        raise validation_error(f"{what}: {error}.") from error


def _check_local_path(what: str, path: str | None, folder: str = PROCESSING_FOLDER) -> None:
    if path is None or not f"{path}/".startswith(folder) or ".." in PurePosixPath(path).parts:
        raise validation_error(f"{what} {path!r} must be an absolute path that begins with {folder}.")
    if not path.isprintable():
        raise validation_error(f"{what} {path!r} has characters that a path cannot have or show. Leave them out.")


def _check_different(what: str, values: Iterable[str]) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise validation_error(f"{what} {value!r} is given twice; each must be unique within the job.")
        seen.add(value)


def _cluster(request: Request) -> dict[str, Any]:
    cluster = request["ProcessingResources"].get("ClusterConfig")
    if cluster is None:
        raise validation_error("ProcessingResources.ClusterConfig is missing.")
    return cluster
