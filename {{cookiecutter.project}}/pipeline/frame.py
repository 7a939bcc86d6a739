"""What the steps of the pipeline have in common: the image, the parameters, where things lie in S3, retries.

What identifies a commit, a branch or an execution appears in Evaluate, in Register and in output paths alone: in the
arguments of Preprocess or Train it would defeat their cache (SageMaker developer guide, "Caching pipeline steps",
lists what the cache compares).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline import sdk

# isort: split
from sagemaker.core import image_uris
from sagemaker.core.processing import Processor
from sagemaker.core.shapes import ProcessingInput, ProcessingOutput, ProcessingS3Input, ProcessingS3Output
from sagemaker.core.workflow.execution_variables import ExecutionVariables
from sagemaker.core.workflow.functions import Join
from sagemaker.core.workflow.parameters import ParameterFloat, ParameterInteger, ParameterString
from sagemaker.core.workflow.properties import PropertyFile
from sagemaker.mlops.workflow.retry import (
    SageMakerJobExceptionTypeEnum,
    SageMakerJobStepRetryPolicy,
    StepExceptionTypeEnum,
    StepRetryPolicy,
)
from sagemaker.mlops.workflow.steps import CacheConfig, ProcessingStep

from pipeline import parameters
from pipeline.lineage import Lineage
from pipeline.names import Names
from pipeline.settings import Job, Settings
from pipeline.source import Archives
from pipeline.stage_file import StageFiles

# One image for every step, so that what trains, evaluates and serves has the same libraries.
IMAGE_VERSION = "3.2-0"
CACHE = CacheConfig(enable_caching=True, expire_after="P30D")
NOT_COMPUTED = "not-computed"
CONTAINER = "/opt/ml/processing"
# SageMaker takes the reason of a failed processing job from here (its ExitMessage)
MESSAGE_FILE = "/opt/ml/output/message"


@dataclass(frozen=True)
class Commit:
    """What a definition is compiled for, besides the settings."""

    names: Names
    lineage: Lineage
    archives: Archives
    stage_files: StageFiles


class Frame:
    def __init__(self, settings: Settings, commit: Commit, role_arn: str) -> None:
        self.settings, self.commit, self.role_arn = settings, commit, role_arn
        self.session = sdk.CompilingSession(settings.aws.region, settings.aws.bucket)
        self.image = image_uris.retrieve("xgboost", settings.aws.region, version=IMAGE_VERSION)
        self.tags = [{"Key": key, "Value": value} for key, value in commit.names.tags.items()]
        self.data_uri = ParameterString("DataUri", default_value=settings.data.uri)
        self.fingerprint = ParameterString(parameters.FINGERPRINT, default_value=NOT_COMPUTED)
        self.instance_types = {
            step: ParameterString(f"{step.capitalize()}InstanceType", default_value=job.instance_type)
            for step, job in (
                ("preprocess", settings.preprocess),
                ("train", settings.train),
                ("evaluate", settings.evaluate),
            )
        }
        self.threshold = ParameterFloat(parameters.threshold_name(settings), default_value=settings.gate.threshold)
        self.tolerance = ParameterFloat(parameters.TOLERANCE, default_value=settings.gate.tolerance)
        self.hyperparameters = {
            name: (ParameterInteger if isinstance(value, int) else ParameterFloat)(name, default_value=value)
            for name, value in parameters.fixed_hyperparameters(settings).items()
        }

    @property
    def parameters(self) -> list[Any]:
        return [
            self.data_uri,
            self.fingerprint,
            *self.instance_types.values(),
            self.threshold,
            self.tolerance,
            *self.hyperparameters.values(),
        ]

    def processing_step(
        self,
        step: str,
        job: Job,
        inputs: dict[str, Any],
        outputs: tuple[str, ...],
        arguments: list[Any],
        property_files: list[PropertyFile],
        cached: bool,
    ) -> ProcessingStep:
        """The step that runs steps/<step>.py; it is given the folder of every input but code, and of every output."""
        folders = [("input", name) for name in inputs if name != "code"] + [("output", name) for name in outputs]
        paths = [text for kind, name in folders for text in (f"--{name}", f"{CONTAINER}/{kind}/{name}")]
        return ProcessingStep(
            name=step.capitalize(),
            step_args=self._processor(step, job).run(
                inputs=[_input(name, uri) for name, uri in inputs.items()],
                outputs=[self._output(step, name) for name in outputs],
                arguments=[*paths, *arguments, "--message", MESSAGE_FILE],
            ),
            property_files=property_files,
            cache_config=CACHE if cached else None,
            retry_policies=job_retries(),
        )

    def output_uri(self, *parts: str) -> Join:
        """s3://<bucket>/<project>/<stage>/<pipeline>/<execution id>/<step>/<output>."""
        start = self.s3(f"{self.commit.names.folder}/{self.commit.names.pipeline}")
        return Join(on="/", values=[start, ExecutionVariables.PIPELINE_EXECUTION_ID, *parts])

    def s3(self, key: str) -> str:
        return f"s3://{self.settings.aws.bucket}/{key}"

    def _processor(self, step: str, job: Job) -> Processor:
        return Processor(
            role=self.role_arn,
            image_uri=self.image,
            instance_count=1,
            instance_type=self.instance_types[step],
            entrypoint=["python3", f"{CONTAINER}/input/code/{step}.zip"],
            volume_size_in_gb=job.volume_gb,
            max_runtime_in_seconds=job.max_runtime_seconds,
            base_job_name=step,
            sagemaker_session=self.session,
            tags=self.tags,
        )

    def _output(self, step: str, name: str) -> ProcessingOutput:
        return ProcessingOutput(
            output_name=name,
            s3_output=ProcessingS3Output(
                s3_uri=self.output_uri(step, name), local_path=f"{CONTAINER}/output/{name}", s3_upload_mode="EndOfJob"
            ),
        )


def output_of(step: ProcessingStep, name: str) -> Any:
    """Where the step's output lies; after a cache hit, where that of the earlier execution lies."""
    return step.properties.ProcessingOutputConfig.Outputs[name].S3Output.S3Uri


def service_retry() -> StepRetryPolicy:
    return StepRetryPolicy(
        exception_types=[StepExceptionTypeEnum.SERVICE_FAULT, StepExceptionTypeEnum.THROTTLING],
        interval_seconds=5,
        backoff_rate=2.0,
        max_attempts=5,
    )


def job_retries() -> list[Any]:
    """Faults of the service, and a lack of instances; a job that fails by its own doing is not repeated."""
    return [
        service_retry(),
        SageMakerJobStepRetryPolicy(
            exception_types=[
                SageMakerJobExceptionTypeEnum.INTERNAL_ERROR,
                SageMakerJobExceptionTypeEnum.CAPACITY_ERROR,
            ],
            interval_seconds=60,
            backoff_rate=2.0,
            max_attempts=3,
        ),
    ]


def _input(name: str, uri: Any) -> ProcessingInput:
    return ProcessingInput(
        input_name=name,
        s3_input=ProcessingS3Input(
            s3_uri=uri,
            local_path=f"{CONTAINER}/input/{name}",
            s3_data_type="S3Prefix",
            s3_input_mode="File",
            s3_data_distribution_type="FullyReplicated",
            s3_compression_type="None",
        ),
    )
