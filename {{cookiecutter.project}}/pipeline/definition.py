"""The SageMaker Pipeline: Preprocess -> Train (or Tune) -> Evaluate -> CheckQuality -> Register, else QualityNotMet.

Compiling calls no AWS service and gives the same text for the same input.
"""

from __future__ import annotations

from pipeline import sdk

# isort: split
from sagemaker.core.workflow.functions import JsonGet
from sagemaker.core.workflow.properties import PropertyFile
from sagemaker.mlops.workflow.pipeline import Pipeline

from pipeline.frame import Commit, Frame
from pipeline.quality import check_step, evaluation
from pipeline.registration import register_step
from pipeline.settings import Settings
from pipeline.training import training

SUMMARY = PropertyFile(name="Summary", output_name="summary", path="summary.json")


def compile_definition(settings: Settings, commit: Commit, role_arn: str) -> str:
    """The pipeline's definition, JSON. role_arn: the role of the pipeline and its jobs."""
    with sdk.no_credentials():
        return _pipeline(Frame(settings, commit, role_arn)).definition()


def _pipeline(frame: Frame) -> Pipeline:
    preprocess = frame.processing_step(
        "preprocess",
        frame.settings.preprocess,
        inputs={"code": frame.s3(frame.commit.archives.preprocess.key), "data": frame.data_uri},
        outputs=("train", "validation", "test", "transform", "summary", "baseline"),
        arguments=["--data-fingerprint", frame.fingerprint],
        property_files=[SUMMARY],
        cached=True,
    )
    trained = training(frame, preprocess)
    quality = evaluation(frame, preprocess, trained)
    data_sha256 = JsonGet(step_name=preprocess.name, property_file=SUMMARY, json_path="data_sha256")
    register = register_step(frame, data_sha256, preprocess, trained, quality)
    return Pipeline(
        name=frame.commit.names.pipeline,
        parameters=frame.parameters,
        steps=[preprocess, trained.step, quality.step, check_step(frame, quality, register)],
        # an execution belongs to no experiment: SageMaker Experiments lives on in Studio Classic alone
        pipeline_experiment_config=None,
        sagemaker_session=frame.session,
    )
