"""Registering and listing model packages, against the cheapest call that there is through the same server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from local_aws import LocalAWS
from tests.bench.figures import Figure

ROUNDS = 5
CALLS = 200  # of each kind a round: 1,000 in all
VERSIONS = 10_000


def registry() -> list[Figure]:
    with LocalAWS() as aws:
        sagemaker, sts = aws.client("sagemaker"), aws.client("sts")
        sagemaker.create_model_package_group(ModelPackageGroupName="many")
        ratios = []
        for _ in range(ROUNDS):
            identity = _time(CALLS, sts.get_caller_identity)
            register = _time(CALLS, lambda: sagemaker.create_model_package(**model_package("many")))
            ratios.append(register / identity)
        for _ in range(VERSIONS - ROUNDS * CALLS):
            sagemaker.create_model_package(**model_package("many"))

        def newest() -> None:
            answer = sagemaker.list_model_packages(
                ModelPackageGroupName="many", SortBy="CreationTime", SortOrder="Descending", MaxResults=1
            )
            version = answer["ModelPackageSummaryList"][0]["ModelPackageVersion"]
            if version != VERSIONS:
                raise AssertionError(f"the newest of {VERSIONS} versions is said to be {version}")

        newest()
        listing = [1000 * _time(1, newest) for _ in range(50)]
    return [
        Figure("1,000 CreateModelPackage against as many GetCallerIdentity", ratios, "x", at_most=2),
        Figure(f"the newest of {VERSIONS:,} model packages listed", listing, "ms", at_most=50),
    ]


def _time(calls: int, call: Callable[[], Any]) -> float:
    started = time.monotonic()
    for _ in range(calls):
        call()
    return time.monotonic() - started


def model_package(group: str) -> dict[str, Any]:
    """A CreateModelPackage request as full as the generated pipeline's."""
    folder = "s3://artifacts/demo/executions/abcdefghijkl"
    statistics = {"ContentType": "application/json", "S3Uri": f"{folder}/evaluate/evaluation.json"}
    return {
        "ModelPackageGroupName": group,
        "ModelApprovalStatus": "PendingManualApproval",
        "InferenceSpecification": {
            "Containers": [
                {
                    "Image": "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.2-0",
                    "ModelDataUrl": f"{folder}/train/model.tar.gz",
                    "Environment": {"SAGEMAKER_PROGRAM": "inference.py"},
                }
            ],
            "SupportedContentTypes": ["text/csv", "application/json"],
            "SupportedResponseMIMETypes": ["text/csv", "application/json"],
        },
        "ModelMetrics": {"ModelQuality": {"Statistics": statistics}},
        "MetadataProperties": {"CommitId": "0" * 40, "Repository": "https://example.com/demo.git"},
        "CustomerMetadataProperties": {f"key-{number}": f"value {number}" for number in range(20)},
    }
