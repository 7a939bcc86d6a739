"""What a container finds under /opt/ml and in its environment, as AWS documents it; pure functions.

Sources: "How Amazon SageMaker AI Provides Training Information", "... Processes Training Output", "How Amazon
SageMaker Processing Configures Input For Your Processing Container" (SageMaker developer guide); for script mode the
variables and arguments of the toolkit in the XGBoost image (sagemaker-containers, ENVIRONMENT_VARIABLES.md).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

ML = "/opt/ml"
CODE_FOLDER = f"{ML}/code"
MODEL_FOLDER = f"{ML}/model"
OUTPUT_DATA_FOLDER = f"{ML}/output/data"
CHECKPOINT_FOLDER = f"{ML}/checkpoints"
FRAMEWORK_MODULE = "sagemaker_xgboost_container.training:main"

Request = dict[str, Any]


def host_names(count: int) -> list[str]:
    """What a job's instances are called, algo-1 first: it is the master of a training."""
    return [f"algo-{number}" for number in range(1, count + 1)]


def processing_config_files(request: Request, arn: str, host: str) -> dict[str, Any]:
    """The JSON files of a processing job on one of its hosts, by their path."""
    members = (
        "ProcessingInputs",
        "ProcessingOutputConfig",
        "ProcessingResources",
        "AppSpecification",
        "Environment",
        "RoleArn",
        "StoppingCondition",
        "NetworkConfig",
    )
    described = {name: request[name] for name in members if name in request}
    return {
        f"{ML}/config/processingjobconfig.json": {
            "ProcessingJobArn": arn,
            "ProcessingJobName": request["ProcessingJobName"],
            **described,
        },
        f"{ML}/config/resourceconfig.json": {"current_host": host, "hosts": processing_hosts(request)},
    }


def processing_hosts(request: Request) -> list[str]:
    return host_names(request["ProcessingResources"]["ClusterConfig"]["InstanceCount"])


def training_hosts(request: Request) -> list[str]:
    return host_names(request["ResourceConfig"].get("InstanceCount", 1))


def training_config_files(request: Request, host: str) -> dict[str, Any]:
    """The JSON files of a training job on one of its hosts, by their path."""
    folder = f"{ML}/input/config"
    files = {
        f"{folder}/hyperparameters.json": request.get("HyperParameters", {}),
        f"{folder}/inputdataconfig.json": _channels(request),
        f"{folder}/resourceconfig.json": _resources(request, host),
    }
    if "CheckpointConfig" in request:
        files[f"{folder}/checkpointconfig.json"] = request["CheckpointConfig"]
    return files


def _channels(request: Request) -> dict[str, dict[str, str]]:
    channels = {}
    for channel in request.get("InputDataConfig", []):
        source = channel["DataSource"]["S3DataSource"]
        facts = {
            "TrainingInputMode": "File",
            "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
            "RecordWrapperType": channel.get("RecordWrapperType", "None"),
        }
        if "ContentType" in channel:
            facts["ContentType"] = channel["ContentType"]
        channels[channel["ChannelName"]] = facts
    return channels


def _resources(request: Request, host: str) -> dict[str, Any]:
    hosts = training_hosts(request)
    return {
        "current_host": host,
        "current_instance_type": request["ResourceConfig"]["InstanceType"],
        "current_group_name": "homogeneousCluster",
        "hosts": hosts,
        "instance_groups": [
            {
                "instance_group_name": "homogeneousCluster",
                "instance_type": request["ResourceConfig"]["InstanceType"],
                "hosts": hosts,
            }
        ],
        "network_interface_name": "eth0",
    }


@dataclass(frozen=True)
class ScriptMode:
    """A training job whose program is the user's own script.

    Args:
        program: the script, relative to the code.
        code: where the code is: s3://...tar.gz.
        hyperparameters: the user's own, decoded.
        settings: those for the toolkit (sagemaker_...), decoded.
    """

    program: str
    code: str
    hyperparameters: dict[str, Any]
    settings: dict[str, Any]

    @property
    def arguments(self) -> list[str]:
        """The hyperparameters as the script's command line: --name value, in the order of their names."""
        arguments = []
        for name, value in sorted(self.hyperparameters.items()):
            if isinstance(value, dict):
                value = ",".join(f"{key}={item}" for key, item in sorted(value.items()))
            arguments += [f"--{name}" if len(name) > 1 else f"-{name}", "" if value is None else str(value)]
        return arguments

    @property
    def command(self) -> list[str]:
        """What is run, in the folder of the code."""
        if self.program.endswith(".sh"):
            return ["/bin/sh", f"./{self.program}", *self.arguments]
        return ["python3", self.program, *self.arguments]


def script_mode(hyperparameters: dict[str, str]) -> ScriptMode:
    """Read the hyperparameters: JSON where they are JSON, else text.

    Raises:
        KeyError: sagemaker_program or sagemaker_submit_directory is missing.
    """
    decoded = {name: _decoded(value) for name, value in hyperparameters.items()}
    settings = {name: value for name, value in decoded.items() if name.startswith(("sagemaker_", "_tuning_objective"))}
    own = {name: value for name, value in decoded.items() if name not in settings}
    return ScriptMode(str(settings["sagemaker_program"]), str(settings["sagemaker_submit_directory"]), own, settings)


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def training_environment(request: Request, arn: str, region: str) -> dict[str, str]:
    """The variables that the service itself sets for a training job."""
    return {"TRAINING_JOB_NAME": request["TrainingJobName"], "TRAINING_JOB_ARN": arn, "AWS_REGION": region}


def script_mode_environment(request: Request, mode: ScriptMode, host: str) -> dict[str, str]:
    """The SM_... variables that the image's toolkit sets for the script."""
    channels = _channels(request)
    resources = _resources(request, host)
    hosts = resources["hosts"]
    module = mode.program.removesuffix(".py")
    values: dict[str, Any] = {
        "SM_MODEL_DIR": MODEL_FOLDER,
        "SM_OUTPUT_DIR": f"{ML}/output",
        "SM_OUTPUT_DATA_DIR": OUTPUT_DATA_FOLDER,
        "SM_OUTPUT_INTERMEDIATE_DIR": f"{ML}/output/intermediate",
        "SM_INPUT_DIR": f"{ML}/input",
        "SM_INPUT_CONFIG_DIR": f"{ML}/input/config",
        "SM_CHANNELS": sorted(channels),
        "SM_HPS": mode.hyperparameters,
        "SM_HOSTS": hosts,
        "SM_CURRENT_HOST": host,
        "SM_NETWORK_INTERFACE_NAME": "eth0",
        "SM_RESOURCE_CONFIG": resources,
        "SM_INPUT_DATA_CONFIG": channels,
        "SM_FRAMEWORK_PARAMS": {},
        "SM_FRAMEWORK_MODULE": FRAMEWORK_MODULE,
        "SM_NUM_CPUS": os.cpu_count() or 1,
        "SM_NUM_GPUS": 0,
        "SM_LOG_LEVEL": mode.settings.get("sagemaker_container_log_level", 20),
        "SM_USER_ENTRY_POINT": mode.program,
        "SM_MODULE_NAME": module,
        "SM_MODULE_DIR": mode.code,
        "SM_USER_ARGS": mode.arguments,
    }
    values["SM_TRAINING_ENV"] = {
        "additional_framework_parameters": {},
        "channel_input_dirs": {name: f"{ML}/input/data/{name}" for name in sorted(channels)},
        "current_host": host,
        "framework_module": FRAMEWORK_MODULE,
        "hosts": hosts,
        "hyperparameters": mode.hyperparameters,
        "input_config_dir": f"{ML}/input/config",
        "input_data_config": channels,
        "input_dir": f"{ML}/input",
        "is_master": host == hosts[0],
        "job_name": request["TrainingJobName"],
        "log_level": values["SM_LOG_LEVEL"],
        "master_hostname": hosts[0],
        "model_dir": MODEL_FOLDER,
        "module_dir": mode.code,
        "module_name": module,
        "network_interface_name": "eth0",
        "num_cpus": values["SM_NUM_CPUS"],
        "num_gpus": 0,
        "output_data_dir": OUTPUT_DATA_FOLDER,
        "output_dir": f"{ML}/output",
        "output_intermediate_dir": f"{ML}/output/intermediate",
        "resource_config": resources,
        "user_entry_point": mode.program,
    }
    values |= {f"SM_CHANNEL_{name.upper()}": f"{ML}/input/data/{name}" for name in channels}
    values |= {f"SM_HP_{name.upper()}": value for name, value in mode.hyperparameters.items()}
    return {name: _environment_text(value) for name, value in values.items()} | {"PYTHONPATH": CODE_FOLDER}


def _environment_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
