"""The version that serves now, which the new one is compared with: found through SageMaker, fetched from S3."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

# The endpoint answers requests, by the configuration that DescribeEndpoint names (SageMaker API reference).
SERVING_STATUSES = ("InService", "Updating", "SystemUpdating", "RollingBack", "UpdateRollbackFailed")
DENIED = ("AccessDenied", "AccessDeniedException", "AllAccessDisabled", "UnauthorizedOperation", "403")


class ComparisonError(ValueError):
    """What serves cannot be looked up: that must not pass for nothing serving."""


class NotThere(ValueError):
    """The model of the version that serves is there no more."""


@dataclass(frozen=True)
class Serving:
    """version: the model package's ARN; of an endpoint whose model comes from no model package, the model's.

    found: how it was found, for the report. model_data: its model.tar.gz, an S3 URI; None when it cannot be had any
    more, and then `reason` says why.
    """

    stage: str
    version: str
    found: str
    model_data: str | None = None
    reason: str | None = None


def find_serving(sagemaker: Any, project: str, stages: list[str]) -> Serving | None:
    """What the first stage with a version serves: on its endpoint, else the version of its group approved last.

    sagemaker: boto3's client. Returns None when no stage has a version. Raises ComparisonError when SageMaker refuses
    to tell.
    """
    for stage in stages:
        name = f"{project}-{stage}"
        serving = _on_endpoint(sagemaker, stage, name) or _approved_last(sagemaker, stage, name)
        if serving is not None:
            return serving
    return None


def download(s3: Any, uri: str, target: Path) -> None:
    """Raises NotThere when the object is gone, ComparisonError when S3 refuses to hand it out."""
    parts = urlsplit(uri)
    try:
        s3.download_file(parts.netloc, parts.path.removeprefix("/"), str(target))
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in ("404", "NoSuchKey", "NoSuchBucket"):
            raise NotThere(f"its model {uri} is not there any more") from error
        raise _refusal(error, "s3:GetObject", uri) from error


def _on_endpoint(sagemaker: Any, stage: str, name: str) -> Serving | None:
    endpoint = _call(sagemaker.describe_endpoint, "sagemaker:DescribeEndpoint", name, EndpointName=name)
    if endpoint is None or endpoint["EndpointStatus"] not in SERVING_STATUSES:
        return None
    found, config_name = f"endpoint {name}", endpoint["EndpointConfigName"]
    config = _call(
        sagemaker.describe_endpoint_config,
        "sagemaker:DescribeEndpointConfig",
        config_name,
        EndpointConfigName=config_name,
    )
    if config is None:
        return Serving(stage, config_name, found, reason=f"the endpoint configuration {config_name} is there no more")
    variant = max(config["ProductionVariants"], key=lambda variant: variant.get("InitialVariantWeight", 1.0))
    model_name = variant["ModelName"]
    model = _call(sagemaker.describe_model, "sagemaker:DescribeModel", model_name, ModelName=model_name)
    if model is None:
        return Serving(stage, model_name, found, reason=f"the model {model_name} is there no more")
    container = model.get("PrimaryContainer") or model["Containers"][0]
    if "ModelPackageName" not in container:
        return _of_container(stage, model["ModelArn"], found, container)
    return _version(sagemaker, stage, container["ModelPackageName"], found)


def _approved_last(sagemaker: Any, stage: str, group: str) -> Serving | None:
    """Approving changes LastModifiedTime, which only DescribeModelPackage tells."""
    approved = []
    request = {"ModelPackageGroupName": group, "ModelApprovalStatus": "Approved", "MaxResults": 100}
    while True:
        page = _call(sagemaker.list_model_packages, "sagemaker:ListModelPackages", group, **request)
        for summary in page["ModelPackageSummaryList"] if page else ():
            package = _describe(sagemaker, summary["ModelPackageArn"])
            if package is not None:
                approved.append((package.get("LastModifiedTime", package["CreationTime"]), package["ModelPackageArn"]))
        if not page or "NextToken" not in page:
            break
        request["NextToken"] = page["NextToken"]
    if not approved:
        return None
    return _version(sagemaker, stage, max(approved)[1], f"approved last in group {group}")


def _version(sagemaker: Any, stage: str, arn: str, found: str) -> Serving:
    package = _describe(sagemaker, arn)
    if package is None:
        return Serving(stage, arn, found, reason=f"the model package {arn} is there no more")
    return _of_container(stage, package["ModelPackageArn"], found, package["InferenceSpecification"]["Containers"][0])


def _describe(sagemaker: Any, arn: str) -> dict[str, Any] | None:
    return _call(sagemaker.describe_model_package, "sagemaker:DescribeModelPackage", arn, ModelPackageName=arn)


def _of_container(stage: str, version: str, found: str, container: dict[str, Any]) -> Serving:
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    uri = container.get("ModelDataUrl") or source.get("S3Uri")
    if not uri or not uri.endswith(".tar.gz"):
        return Serving(stage, version, found, reason=f"its model data is {uri!r}, which is no model.tar.gz")
    return Serving(stage, version, found, uri)


def _call(operation: Any, action: str, resource: str, **request: Any) -> dict[str, Any] | None:
    """The answer, or None when the resource is not there. Raises ComparisonError for any other refusal."""
    try:
        return operation(**request)
    except ClientError as error:
        # SageMaker has no code of its own for what is not there (2026): "Could not find ...", "... does not exist"
        code, text = error.response["Error"]["Code"], error.response["Error"]["Message"].lower()
        if code == "ResourceNotFound" or (
            code == "ValidationException" and ("could not find" in text or "not exist" in text)
        ):
            return None
        raise _refusal(error, action, resource) from error


def _refusal(error: ClientError, action: str, resource: str) -> ComparisonError:
    said = error.response["Error"]
    if said["Code"] in DENIED:
        return ComparisonError(
            f"the pipeline's role may not {action} on {resource}, so it cannot be told what serves now: "
            f"give it the permission ({said.get('Message', said['Code'])})"
        )
    return ComparisonError(f"{action} on {resource} failed, so it cannot be told what serves now: {error}")
