"""The step Register: a version that waits for approval, and carries where it came from and how good it is."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

from pipeline import endpoint_suite, sdk  # noqa: F401  sdk before any sagemaker module

# isort: split
from sagemaker.core.drift_check_baselines import DriftCheckBaselines
from sagemaker.core.metadata_properties import MetadataProperties
from sagemaker.core.model_metrics import MetricsSource, ModelMetrics
from sagemaker.core.workflow.execution_variables import ExecutionVariables
from sagemaker.core.workflow.functions import Join, JsonGet
from sagemaker.mlops.workflow.model_step import ModelStep
from sagemaker.mlops.workflow.steps import ProcessingStep
from sagemaker.serve.model_builder import ModelBuilder

from pipeline import InputError
from pipeline.frame import Frame, output_of, service_retry
from pipeline.metrics import METRICS
from pipeline.promotion import MOST_PROPERTIES, SAID_ELSEWHERE
from pipeline.quality import Evaluation
from pipeline.training import Training

CONTENT_TYPES = ["text/csv", "application/json", "application/x-ndjson", "application/x-parquet"]
RESPONSE_TYPES = ["application/json", "text/csv", "application/x-ndjson", "application/x-parquet"]


def register_step(
    frame: Frame, data_sha256: JsonGet, preprocess: ProcessingStep, trained: Training, quality: Evaluation
) -> ModelStep:
    statistics, constraints = (_json(quality.folder, name) for name in ("evaluation.json", "constraints.json"))
    data = output_of(preprocess, "baseline")
    data_statistics, data_constraints = (_json(data, name) for name in ("statistics.json", "constraints.json"))
    builder = ModelBuilder(
        s3_model_data_url=trained.model,
        image_uri=frame.image,
        role_arn=frame.role_arn,
        sagemaker_session=frame.session,
        # by default the SDK would write an empty SAGEMAKER_PROGRAM, with which the image cannot serve
        dependencies={},
        env_vars={"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"},
    )
    lineage, names = frame.commit.lineage, frame.commit.names
    baselines = {
        "model_statistics": statistics,
        "model_constraints": constraints,
        "model_data_statistics": data_statistics,
        "model_data_constraints": data_constraints,
    }
    return ModelStep(
        name="Register",
        step_args=builder.register(
            model_package_group_name=names.group,
            content_types=CONTENT_TYPES,
            response_types=RESPONSE_TYPES,
            approval_status="PendingManualApproval",
            model_metrics=ModelMetrics(**baselines, explainability=_json(quality.folder, "explanations.json")),
            drift_check_baselines=DriftCheckBaselines(**baselines),
            metadata_properties=MetadataProperties(
                commit_id=lineage.commit,
                repository=lineage.repository,
                generated_by=ExecutionVariables.PIPELINE_EXECUTION_ARN,
                project_id=names.project_id,
            ),
            customer_metadata_properties=_metadata(frame, data_sha256, trained, quality),
            # the SDK reads these two attributes of whatever it is given, and its own classes take no pipeline variable
            model_card=SimpleNamespace(content=quality.model_card, model_card_status="Draft"),
        ),
        retry_policies=[service_retry()],
    )


def _metadata(frame: Frame, data_sha256: JsonGet, trained: Training, quality: Evaluation) -> dict[str, Any]:
    """What the README's table lists: values of at most 256 letters, digits and _.:/=+-@.

    Raises InputError for more of them than a version can carry, which would be known only when all is trained.
    """
    lineage, names, stage_files = frame.commit.lineage, frame.commit.names, frame.commit.stage_files
    literal = {
        "problem-type": frame.settings.problem_type,
        "git.commit": lineage.commit,
        "git.tree": lineage.tree,
        "git.branch": names.branch,
        "metric.main": frame.settings.gate.metric,
        "deployment.prefix": frame.s3(stage_files.prefix(names.folder)),
        **{f"deployment.sha256.{stage}": digest for stage, digest in stage_files.sha256.items()},
    }
    if stage_files.endpoint_tests is not None:
        literal["tests.sha256"] = endpoint_suite.sha256(stage_files.endpoint_tests)
    if lineage.repository:
        literal["git.repository"] = lineage.repository
    found = {
        **{key: metadata_value(value) for key, value in literal.items()},
        "pipeline.execution": ExecutionVariables.PIPELINE_EXECUTION_ARN,
        "data.uri": frame.data_uri,
        "data.fingerprint": frame.fingerprint,
        "data.sha256": data_sha256.to_string(),
        "report": Join(on="/", values=[quality.folder, "report.html"]),
        "compared.version": quality.compared_version,
        "compared.worse-by": quality.worse_by.to_string(),
        "metric.threshold": frame.threshold.to_string(),
        "metric.tolerance": frame.tolerance.to_string(),
        **{f"hyperparameter.{name}": value for name, value in trained.hyperparameters.items()},
        **{f"metric.{metric}": quality.metric(metric).to_string() for metric in METRICS[frame.settings.problem_type]},
    }
    # a version of dev is never served as feature, and one of feature nowhere else
    elsewhere = [stage for stage in stage_files.contents if (stage == "feature") != (names.stage == "feature")]
    for name in (*(f"deployment.sha256.{stage}" for stage in elsewhere), *SAID_ELSEWHERE):
        if len(found) > MOST_PROPERTIES:
            found.pop(name, None)
    if len(found) > MOST_PROPERTIES:
        raise InputError(
            f"settings.yaml: a model version can be registered with {MOST_PROPERTIES} properties, and this one would "
            f"carry {len(found)}: set {len(found) - MOST_PROPERTIES} fewer of train.hyperparameters"
        )
    return found


def metadata_value(text: str) -> str:
    """The text as a model package's metadata takes it: other characters become _, and it ends after 256."""
    return re.sub(r"[^\w .:/=+@-]", "_", text)[:256]


def _json(folder: Any, name: str) -> MetricsSource:
    return MetricsSource(content_type="application/json", s3_uri=Join(on="/", values=[folder, name]))
