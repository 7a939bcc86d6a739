"""The step Train: one training job, or with train.tune a search whose best model goes on (the step Tune)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline import sdk  # noqa: F401  before any sagemaker module

# isort: split
from sagemaker.core.parameter import ContinuousParameter, IntegerParameter
from sagemaker.core.shapes import Channel, DataSource, MetricDefinition, S3DataSource
from sagemaker.core.training.configs import (
    CheckpointConfig,
    Compute,
    OutputDataConfig,
    StoppingCondition,
    Tag,
)
from sagemaker.mlops.workflow.steps import ProcessingStep, TrainingStep, TuningStep
from sagemaker.train import ModelTrainer
from sagemaker.train.tuner import HyperparameterTuner

from pipeline.frame import CACHE, Frame, job_retries, output_of
from pipeline.settings import Tune, is_whole_number

# What train.py logs after each round, as XGBoost writes it: [12]	train-auc:0.99	validation-auc:0.97
# The last one decides when training stops, and which training of a search is the best; less of it is better.
TRAINING_METRICS = {
    "binary_classification": ("auc", "logloss"),
    "multiclass_classification": ("merror", "mlogloss"),
    "regression": ("mae", "rmse"),
}


@dataclass(frozen=True)
class Training:
    """model: the S3 URI of model.tar.gz. hyperparameters: the values that it was trained with, by name."""

    step: TrainingStep | TuningStep
    model: Any
    hyperparameters: dict[str, Any]


def training(frame: Frame, preprocess: ProcessingStep) -> Training:
    fixed = {name: parameter.to_string() for name, parameter in frame.hyperparameters.items()}
    if frame.settings.train.tune is None:
        trainer = _trainer(frame, preprocess, frame.output_uri("train"))
        step = TrainingStep(name="Train", step_args=trainer.train(), cache_config=CACHE, retry_policies=job_retries())
        return Training(step, step.properties.ModelArtifacts.S3ModelArtifacts, fixed)
    # Without the execution in the path: the model's address is put together from it, and after a cache hit the search
    # belongs to an earlier execution. The names of the training jobs keep searches apart.
    prefix = f"{frame.commit.names.folder}/{frame.commit.names.pipeline}/tune"
    tuner = _tuner(frame, _trainer(frame, preprocess, frame.s3(prefix)), frame.settings.train.tune)
    tune = TuningStep(name="Tune", step_args=tuner.tune(), cache_config=CACHE, retry_policies=job_retries())
    tuned = {name: tune.properties.BestTrainingJob.TunedHyperParameters[name] for name in tuner._hyperparameter_ranges}
    return Training(tune, tune.get_top_model_s3_uri(0, frame.settings.aws.bucket, prefix), {**fixed, **tuned})


def _trainer(frame: Frame, preprocess: ProcessingStep, output: Any) -> ModelTrainer:
    train = frame.settings.train
    distribution = "ShardedByS3Key" if train.instance_count > 1 else "FullyReplicated"
    return ModelTrainer(
        training_image=frame.image,
        role=frame.role_arn,
        sagemaker_session=frame.session,
        base_job_name="train",
        compute=Compute(
            instance_type=frame.instance_types["train"],
            instance_count=train.instance_count,
            volume_size_in_gb=train.volume_gb,
            enable_managed_spot_training=train.spot,
        ),
        stopping_condition=StoppingCondition(
            max_runtime_in_seconds=train.max_runtime_seconds,
            max_wait_time_in_seconds=train.max_wait_seconds if train.spot else None,
        ),
        output_data_config=OutputDataConfig(s3_output_path=output),
        # One prefix for all executions, since the cache compares it; train.py keeps different trainings apart.
        checkpoint_config=CheckpointConfig(s3_uri=frame.s3(f"{frame.commit.names.folder}/checkpoints/"))
        if train.spot
        else None,
        hyperparameters={
            "sagemaker_program": "train.py",
            "sagemaker_submit_directory": frame.s3(frame.commit.archives.train.key),
            # training jobs take text alone
            **{name: parameter.to_string() for name, parameter in frame.hyperparameters.items()},
        },
        input_data_config=[
            _channel("train", "application/x-parquet", output_of(preprocess, "train"), distribution),
            _channel("validation", "application/x-parquet", output_of(preprocess, "validation"), distribution),
            _channel("transform", "application/json", output_of(preprocess, "transform"), "FullyReplicated"),
        ],
        tags=[Tag(key=tag["Key"], value=tag["Value"]) for tag in frame.tags],
    ).with_metric_definitions(
        [MetricDefinition(name=name, regex=regex) for name, regex in metric_definitions(frame.settings.problem_type)]
    )


def _channel(name: str, content_type: str, uri: Any, distribution: str) -> Channel:
    source = S3DataSource(s3_data_type="S3Prefix", s3_uri=uri, s3_data_distribution_type=distribution)
    return Channel(channel_name=name, content_type=content_type, data_source=DataSource(s3_data_source=source))


def metric_definitions(problem_type: str) -> list[tuple[str, str]]:
    """The names and regular expressions by which SageMaker reads metrics from the log: each round's, and the best."""
    metrics = TRAINING_METRICS[problem_type]
    rounds = [
        (f"{part}:{metric}", rf"\[\d+\].*{part}-{metric}:([-+.\w]+)")
        for part in ("train", "validation")
        for metric in metrics
    ]
    return [*rounds, (f"validation:best_{metrics[-1]}", rf"best round: .*validation-{metrics[-1]}:([-+.\w]+)")]


def _tuner(frame: Frame, trainer: ModelTrainer, tune: Tune) -> HyperparameterTuner:
    definitions = metric_definitions(frame.settings.problem_type)
    return HyperparameterTuner(
        model_trainer=trainer,
        objective_metric_name=definitions[-1][0],
        objective_type="Minimize",
        hyperparameter_ranges={
            name: IntegerParameter(int(lowest), int(highest))
            if is_whole_number(name)
            else ContinuousParameter(lowest, highest)
            for name, (lowest, highest) in tune.ranges.items()
        },
        metric_definitions=[{"Name": name, "Regex": regex} for name, regex in definitions],
        strategy=tune.strategy,
        max_jobs=tune.max_jobs,
        max_parallel_jobs=tune.parallel_jobs,
        random_seed=frame.settings.train.hyperparameters.seed,
        base_tuning_job_name="tune",
        tags=[Tag(key=tag["Key"], value=tag["Value"]) for tag in frame.tags],
    )
