"""The SageMaker Pipeline: Preprocess -> Train -> Evaluate -> CheckThreshold -> Register, else ThresholdNotMet.

Compiling calls no AWS service and gives the same text for the same input. What identifies a commit, a branch or an
execution appears in Register and in output paths alone: in the arguments of Preprocess or Train it would defeat their
cache (SageMaker developer guide, "Caching pipeline steps", lists what the cache compares).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pipeline import sdk

# isort: split
from sagemaker.core import image_uris
from sagemaker.core.drift_check_baselines import DriftCheckBaselines
from sagemaker.core.metadata_properties import MetadataProperties
from sagemaker.core.model_metrics import MetricsSource, ModelMetrics
from sagemaker.core.processing import Processor
from sagemaker.core.shapes import (
    MetricDefinition,
    ProcessingInput,
    ProcessingOutput,
    ProcessingS3Input,
    ProcessingS3Output,
)
from sagemaker.core.training.configs import Compute, InputData, OutputDataConfig, StoppingCondition, Tag
from sagemaker.core.workflow.conditions import ConditionGreaterThanOrEqualTo, ConditionLessThanOrEqualTo
from sagemaker.core.workflow.execution_variables import ExecutionVariables
from sagemaker.core.workflow.functions import Join, JsonGet
from sagemaker.core.workflow.parameters import ParameterFloat, ParameterInteger, ParameterString
from sagemaker.core.workflow.properties import PropertyFile
from sagemaker.mlops.workflow.condition_step import ConditionStep
from sagemaker.mlops.workflow.fail_step import FailStep
from sagemaker.mlops.workflow.model_step import ModelStep
from sagemaker.mlops.workflow.pipeline import Pipeline
from sagemaker.mlops.workflow.retry import (
    SageMakerJobExceptionTypeEnum,
    SageMakerJobStepRetryPolicy,
    StepExceptionTypeEnum,
    StepRetryPolicy,
)
from sagemaker.mlops.workflow.steps import CacheConfig, ProcessingStep, TrainingStep
from sagemaker.serve.model_builder import ModelBuilder
from sagemaker.train import ModelTrainer

from pipeline import parameters
from pipeline.lineage import Lineage
from pipeline.metrics import METRICS
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
# What train.py logs after each round, as XGBoost writes it: [12]	train-auc:0.99	validation-auc:0.97
TRAINING_METRICS = {
    "binary_classification": ("auc", "logloss"),
    "multiclass_classification": ("merror", "mlogloss"),
    "regression": ("mae", "rmse"),
}


@dataclass(frozen=True)
class Commit:
    """What a definition is compiled for, besides the settings."""

    names: Names
    lineage: Lineage
    archives: Archives
    stage_files: StageFiles


def compile_definition(settings: Settings, commit: Commit, role_arn: str) -> str:
    """The pipeline's definition, JSON. role_arn: the role of the pipeline and its jobs."""
    with sdk.no_credentials():
        return _Definition(settings, commit, role_arn).pipeline().definition()


class _Definition:
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
        self.hyperparameters = {
            name: (ParameterInteger if isinstance(value, int) else ParameterFloat)(name, default_value=value)
            for name, value in settings.train.hyperparameters.model_dump(exclude_none=True).items()
        }

    def pipeline(self) -> Pipeline:
        preprocess = self.preprocess()
        train = self.train(preprocess)
        evaluate = self.evaluate(preprocess, train)
        return Pipeline(
            name=self.commit.names.pipeline,
            parameters=[
                self.data_uri,
                self.fingerprint,
                *self.instance_types.values(),
                self.threshold,
                *self.hyperparameters.values(),
            ],
            steps=[preprocess, train, evaluate, self.check_threshold(preprocess, train, evaluate)],
            # an execution belongs to no experiment: SageMaker Experiments lives on in Studio Classic alone
            pipeline_experiment_config=None,
            sagemaker_session=self.session,
        )

    def preprocess(self) -> ProcessingStep:
        outputs = ("train", "validation", "test", "transform", "summary")
        arguments: list[Any] = ["--data", f"{CONTAINER}/input/data", "--data-fingerprint", self.fingerprint]
        for output in outputs:
            arguments += [f"--{output}", f"{CONTAINER}/output/{output}"]
        self.summary = PropertyFile(name="Summary", output_name="summary", path="summary.json")
        return ProcessingStep(
            name="Preprocess",
            step_args=self.processor("preprocess", self.settings.preprocess).run(
                inputs=[
                    self.input("code", self.s3(self.commit.archives.preprocess.key)),
                    self.input("data", self.data_uri),
                ],
                outputs=[self.output("preprocess", output) for output in outputs],
                arguments=[*arguments, "--message", MESSAGE_FILE],
            ),
            property_files=[self.summary],
            cache_config=CACHE,
            retry_policies=_job_retries(),
        )

    def train(self, preprocess: ProcessingStep) -> TrainingStep:
        train = self.settings.train
        trainer = ModelTrainer(
            training_image=self.image,
            role=self.role_arn,
            sagemaker_session=self.session,
            base_job_name="train",
            compute=Compute(
                instance_type=self.instance_types["train"],
                instance_count=1,
                volume_size_in_gb=train.volume_gb,
                enable_managed_spot_training=train.spot,
            ),
            stopping_condition=StoppingCondition(
                max_runtime_in_seconds=train.max_runtime_seconds,
                max_wait_time_in_seconds=train.max_wait_seconds if train.spot else None,
            ),
            output_data_config=OutputDataConfig(s3_output_path=self.output_uri("train")),
            hyperparameters={
                "sagemaker_program": "train.py",
                "sagemaker_submit_directory": self.s3(self.commit.archives.train.key),
                # training jobs take text alone
                **{name: parameter.to_string() for name, parameter in self.hyperparameters.items()},
            },
            input_data_config=[
                InputData(
                    channel_name=channel,
                    data_source=_output_of(preprocess, channel),
                    content_type="application/json" if channel == "transform" else "application/x-parquet",
                )
                for channel in ("train", "validation", "transform")
            ],
            tags=[Tag(key=tag["Key"], value=tag["Value"]) for tag in self.tags],
        ).with_metric_definitions(
            [
                MetricDefinition(name=f"{part}:{metric}", regex=rf"\[\d+\].*{part}-{metric}:([-+.\w]+)")
                for part in ("train", "validation")
                for metric in TRAINING_METRICS[self.settings.problem_type]
            ]
        )
        return TrainingStep(name="Train", step_args=trainer.train(), cache_config=CACHE, retry_policies=_job_retries())

    def evaluate(self, preprocess: ProcessingStep, train: TrainingStep) -> ProcessingStep:
        self.evaluation = PropertyFile(name="Evaluation", output_name="evaluation", path="evaluation.json")
        return ProcessingStep(
            name="Evaluate",
            step_args=self.processor("evaluate", self.settings.evaluate).run(
                inputs=[
                    self.input("code", self.s3(self.commit.archives.evaluate.key)),
                    self.input("model", train.properties.ModelArtifacts.S3ModelArtifacts),
                    self.input("test", _output_of(preprocess, "test")),
                ],
                outputs=[self.output("evaluate", "evaluation")],
                arguments=[
                    *("--model", f"{CONTAINER}/input/model"),
                    *("--test", f"{CONTAINER}/input/test"),
                    *("--evaluation", f"{CONTAINER}/output/evaluation"),
                    *("--threshold", self.threshold.to_string()),
                    *("--message", MESSAGE_FILE),
                ],
            ),
            property_files=[self.evaluation],
            retry_policies=_job_retries(),
        )

    def check_threshold(
        self, preprocess: ProcessingStep, train: TrainingStep, evaluate: ProcessingStep
    ) -> ConditionStep:
        metric = self.settings.gate.metric
        higher = self.settings.metric.higher_is_better
        condition = ConditionGreaterThanOrEqualTo if higher else ConditionLessThanOrEqualTo
        value = self.metric_value(evaluate, metric)
        return ConditionStep(
            name="CheckThreshold",
            conditions=[condition(left=value, right=self.threshold)],
            if_steps=[self.register(preprocess, train, evaluate)],
            else_steps=[
                FailStep(
                    name="ThresholdNotMet",
                    error_message=Join(
                        on="",
                        values=[
                            f"{metric} is ",
                            value,
                            f", but must be {'at least' if higher else 'at most'} ",
                            self.threshold.to_string(),
                            f" ({parameters.threshold_name(self.settings)}): no model version was registered",
                        ],
                    ),
                )
            ],
        )

    def register(self, preprocess: ProcessingStep, train: TrainingStep, evaluate: ProcessingStep) -> ModelStep:
        quality = _output_of(evaluate, "evaluation")
        statistics, constraints = (
            MetricsSource(content_type="application/json", s3_uri=Join(on="/", values=[quality, name]))
            for name in ("evaluation.json", "constraints.json")
        )
        builder = ModelBuilder(
            s3_model_data_url=train.properties.ModelArtifacts.S3ModelArtifacts,
            image_uri=self.image,
            role_arn=self.role_arn,
            sagemaker_session=self.session,
            # by default the SDK would write an empty SAGEMAKER_PROGRAM, with which the image cannot serve
            dependencies={},
            env_vars={"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"},
        )
        lineage, names = self.commit.lineage, self.commit.names
        return ModelStep(
            name="Register",
            step_args=builder.register(
                model_package_group_name=names.group,
                content_types=["text/csv", "application/json"],
                response_types=["application/json", "text/csv"],
                approval_status="PendingManualApproval",
                model_metrics=ModelMetrics(model_statistics=statistics, model_constraints=constraints),
                drift_check_baselines=DriftCheckBaselines(model_statistics=statistics, model_constraints=constraints),
                metadata_properties=MetadataProperties(
                    commit_id=lineage.commit,
                    repository=lineage.repository,
                    generated_by=ExecutionVariables.PIPELINE_EXECUTION_ARN,
                    project_id=names.project_id,
                ),
                customer_metadata_properties=self.customer_metadata(preprocess, evaluate),
            ),
            retry_policies=[_service_retry()],
        )

    def customer_metadata(self, preprocess: ProcessingStep, evaluate: ProcessingStep) -> dict[str, Any]:
        """What the README's table lists: at most 50 keys, values of at most 256 letters, digits and _.:/=+-@."""
        lineage, names, stage_files = self.commit.lineage, self.commit.names, self.commit.stage_files
        literal = {
            "problem-type": self.settings.problem_type,
            "git.commit": lineage.commit,
            "git.tree": lineage.tree,
            "git.branch": names.branch,
            "metric.main": self.settings.gate.metric,
            "deployment.prefix": self.s3(stage_files.prefix(names.project)),
            **{f"deployment.sha256.{stage}": digest for stage, digest in stage_files.sha256.items()},
        }
        if lineage.repository:
            literal["git.repository"] = lineage.repository
        return {
            **{key: metadata_value(value) for key, value in literal.items()},
            "pipeline.execution": ExecutionVariables.PIPELINE_EXECUTION_ARN,
            "data.uri": self.data_uri,
            "data.fingerprint": self.fingerprint,
            "data.sha256": JsonGet(preprocess.name, self.summary, "data_sha256").to_string(),
            "metric.threshold": self.threshold.to_string(),
            **{f"hyperparameter.{name}": parameter.to_string() for name, parameter in self.hyperparameters.items()},
            **{
                f"metric.{metric}": self.metric_value(evaluate, metric).to_string()
                for metric in METRICS[self.settings.problem_type]
            },
        }

    def metric_value(self, evaluate: ProcessingStep, metric: str) -> JsonGet:
        path = f"{self.settings.problem_type}_metrics.{metric}.value"
        return JsonGet(step_name=evaluate.name, property_file=self.evaluation, json_path=path)

    def processor(self, step: str, job: Job) -> Processor:
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

    def input(self, name: str, uri: Any) -> ProcessingInput:
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

    def output(self, step: str, name: str) -> ProcessingOutput:
        return ProcessingOutput(
            output_name=name,
            s3_output=ProcessingS3Output(
                s3_uri=self.output_uri(step, name), local_path=f"{CONTAINER}/output/{name}", s3_upload_mode="EndOfJob"
            ),
        )

    def output_uri(self, *parts: str) -> Join:
        """s3://<bucket>/<project>/<pipeline>/<execution id>/<step>/<output>."""
        start = self.s3(f"{self.settings.project}/{self.commit.names.pipeline}")
        return Join(on="/", values=[start, ExecutionVariables.PIPELINE_EXECUTION_ID, *parts])

    def s3(self, key: str) -> str:
        return f"s3://{self.settings.aws.bucket}/{key}"


def metadata_value(text: str) -> str:
    """The text as a model package's metadata takes it: other characters become _, and it ends after 256."""
    return re.sub(r"[^\w .:/=+@-]", "_", text)[:256]


def _output_of(step: ProcessingStep, name: str) -> Any:
    """Where the step's output lies; after a cache hit, where that of the earlier execution lies."""
    return step.properties.ProcessingOutputConfig.Outputs[name].S3Output.S3Uri


def _service_retry() -> StepRetryPolicy:
    return StepRetryPolicy(
        exception_types=[StepExceptionTypeEnum.SERVICE_FAULT, StepExceptionTypeEnum.THROTTLING],
        interval_seconds=5,
        backoff_rate=2.0,
        max_attempts=5,
    )


def _job_retries() -> list[Any]:
    """Faults of the service, and a lack of instances; a job that fails by its own doing is not repeated."""
    return [
        _service_retry(),
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
