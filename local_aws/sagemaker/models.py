"""Models: what CreateModel keeps, and the containers that endpoints and transform jobs run for them."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any

from botocore.exceptions import ClientError

from local_aws.calls import Call, Operation, Request, Response, validation_error
from local_aws.events import Events
from local_aws.hosting import ContainerSpec
from local_aws.jobs.staging import s3_location
from local_aws.loopback import Loopback
from local_aws.sagemaker.listing import listed
from local_aws.sagemaker.registry import Registry
from local_aws.sagemaker.roles import check_role
from local_aws.sagemaker.tags import Tags
from local_aws.store import Document, Scope, Store

# What a request may not ask for here: to accept and ignore it would be to do something else than AWS.
UNSUPPORTED_MODEL = {"InferenceExecutionConfig": "a model has one container here"}
UNSUPPORTED_CONTAINER = {
    "ImageConfig": "images are environments of this machine, of no registry",
    "AdditionalModelDataSources": "a container has one model archive",
    "MultiModelConfig": "multi-model endpoints are not built",
    "ContainerMetricsConfig": "containers publish no metrics of their own",
    "InferenceSpecificationName": "a model package is served by its InferenceSpecification",
}
_MODEL_DATA = ("ModelDataUrl", "ModelDataSource")


class Models:
    """Models, by their lower-case name.

    A document is what DescribeModel answers, and Resolved: image, archive and environment of each container, as they
    were when the model was made (a model package may change or go afterwards).
    """

    def __init__(self, store: Store, tags: Tags, loopback: Loopback, registry: Registry, events: Events) -> None:
        self._lock, self._tags, self._loopback = store.lock, tags, loopback
        self._registry, self._events = registry, events
        self._models = store.table("models")
        tags.know(self._is_ours)

    def operations(self) -> dict[str, Operation]:
        return {
            "CreateModel": self.create_model,
            "DescribeModel": self.describe_model,
            "ListModels": self.list_models,
            "DeleteModel": self.delete_model,
        }

    def create_model(self, call: Call, request: Request) -> Response:
        """Keep a model.

        Raises:
            ServiceError: ValidationException: not exactly one container, an archive, model package or role that is
                not there, a name that is taken, or what local_aws does not do.
        """
        container = _only_container(request)
        if "ExecutionRoleArn" not in request:
            raise validation_error("ExecutionRoleArn is missing: its containers read the model's archive with it.")
        name, role = request["ModelName"], request["ExecutionRoleArn"]
        arn = call.arn(f"model/{name.lower()}")
        resolved = self._resolved(call, container)
        check_role(self._loopback, call.scope, role, arn)
        self._check_archive(call.scope, resolved["ModelDataUrl"], role)
        document = {key: value for key, value in request.items() if key != "Tags"}
        document |= {
            "ModelArn": arn,
            "CreationTime": round(time.time(), 3),
            "EnableNetworkIsolation": request.get("EnableNetworkIsolation", False),
            "Resolved": [resolved],
        }
        with self._lock:
            if self._models.get(call.scope, name.lower()) is not None:
                raise validation_error(f'Cannot create already existing model "{arn}".')
            self._tags.set_on_create(call, arn, request.get("Tags"))
            self._models.put(call.scope, name.lower(), document)
            self._tell(call.scope, document)
        return {"ModelArn": arn}

    def describe_model(self, call: Call, request: Request) -> Response:
        model = self.get(call.scope, request["ModelName"])
        return {name: value for name, value in model.items() if name != "Resolved"}

    def list_models(self, call: Call, request: Request) -> Response:
        summary = ("ModelName", "ModelArn", "CreationTime")
        found, more = listed(self._models.values(call.scope), request, "Model", summary)
        return {"Models": found, **more}

    def delete_model(self, call: Call, request: Request) -> Response:
        """Forget a model. What serves it serves on, as on AWS; a change that needs it fails."""
        with self._lock:
            model = self.get(call.scope, request["ModelName"])
            self._models.delete(call.scope, model["ModelName"].lower())
            self._tell(call.scope, model)
            self._tags.forget(call.scope, model["ModelArn"])
        return {}

    # For the other parts

    def get(self, scope: Scope, name: str) -> Document:
        """A model's document.

        Raises:
            ServiceError: ValidationException: there is none of that name.
        """
        model = self._models.get(scope, name.lower())
        if model is None:
            raise validation_error(f'Could not find model "{Call(scope, "").arn(f"model/{name.lower()}")}".')
        return model

    def containers(self, scope: Scope, name: str) -> list[ContainerSpec]:
        """What runs to serve the model: one container.

        Raises:
            ServiceError: ValidationException: there is no such model.
        """
        model = self.get(scope, name)
        return [
            ContainerSpec(
                one["Image"],
                one.get("ModelDataUrl"),
                one["Environment"],
                model["EnableNetworkIsolation"],
                model["ExecutionRoleArn"],
                model.get("VpcConfig"),
            )
            for one in model["Resolved"]
        ]

    # Within

    def _resolved(self, call: Call, container: Document) -> Document:
        """Image, ModelDataUrl (or None) and Environment of a container definition or of the package that it names."""
        refuse("a container", container, UNSUPPORTED_CONTAINER)
        if container.get("Mode", "SingleModel") != "SingleModel":
            raise validation_error("local_aws does not support Mode MultiModel: multi-model endpoints are not built.")
        if "ModelPackageName" not in container:
            if "Image" not in container:
                raise validation_error("A container needs Image, or ModelPackageName.")
            return _definition(container, {})
        if given := [name for name in ("Image", *_MODEL_DATA) if name in container]:
            raise validation_error(
                f"{', '.join(given)} cannot be given with ModelPackageName: the model package says it. Leave it out."
            )
        name = container["ModelPackageName"]
        package = self._registry.describe_model_package(call, {"ModelPackageName": name})
        containers = package.get("InferenceSpecification", {}).get("Containers", [])
        if len(containers) != 1:
            raise validation_error(
                f"Model package {package['ModelPackageArn']} has {len(containers)} containers in its"
                " InferenceSpecification; local_aws serves one."
            )
        return _definition(containers[0], container.get("Environment", {}))

    def _check_archive(self, scope: Scope, url: str | None, role: str) -> None:
        """Look as the model's role whether its archive is there."""
        if url is None:
            return
        try:
            location = s3_location(url)
            self._loopback.client("s3", scope, role).head_object(Bucket=location.bucket, Key=location.key)
        except ValueError as error:
            raise validation_error(f"Could not find model data at {url}: {error}.") from error
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == HTTPStatus.FORBIDDEN:
                raise validation_error(
                    f'Could not access model data at {url}. Please ensure that the role "{role}" exists and that its'
                    ' trust relationship policy allows the action "sts:AssumeRole" for the service principal'
                    ' "sagemaker.amazonaws.com". Also ensure that the role has "s3:GetObject" permissions and that the'
                    f" object is located in {scope.region}."
                ) from error
            if status != HTTPStatus.NOT_FOUND:
                raise
            raise validation_error(f"Could not find model data at {url}.") from error

    def _tell(self, scope: Scope, model: Document) -> None:
        names = ("ModelName", "ModelArn", "ExecutionRoleArn", "PrimaryContainer", "Containers", "VpcConfig")
        detail = {name: model[name] for name in (*names, "EnableNetworkIsolation") if name in model}
        detail |= {"CreationTime": round(model["CreationTime"] * 1000), "Tags": self._tags.of(scope, model["ModelArn"])}
        self._events.emit(scope, "SageMaker Model State Change", [model["ModelArn"]], detail)

    def _is_ours(self, scope: Scope, arn: str) -> bool:
        model = self._models.get(scope, arn.rpartition("/")[2])
        return model is not None and model["ModelArn"] == arn


def _only_container(request: Request) -> Document:
    refuse("a model", request, UNSUPPORTED_MODEL)
    containers = [
        *request.get("Containers", []),
        *([request["PrimaryContainer"]] if "PrimaryContainer" in request else []),
    ]
    if "Containers" in request and "PrimaryContainer" in request:
        raise validation_error("PrimaryContainer and Containers cannot be given together. Leave one of them out.")
    if not containers:
        raise validation_error("You must provide a container: PrimaryContainer, or Containers with one in it.")
    if len(containers) > 1:
        raise validation_error(f"Containers has {len(containers)}; local_aws serves one container per model.")
    return containers[0]


def _definition(container: Document, environment: dict[str, str]) -> Document:
    return {
        "Image": container["Image"],
        "ModelDataUrl": _archive(container),
        "Environment": container.get("Environment", {}) | environment,
    }


def _archive(container: Document) -> str | None:
    """The address of the container's archive, by whichever of the two members gives it."""
    if "ModelDataSource" not in container:
        return container.get("ModelDataUrl")
    if "ModelDataUrl" in container:
        raise validation_error("ModelDataUrl and ModelDataSource cannot be given together. Leave one of them out.")
    source: dict[str, Any] = container["ModelDataSource"].get("S3DataSource", {})
    if (source.get("S3DataType"), source.get("CompressionType")) != ("S3Object", "Gzip"):
        raise validation_error(
            "local_aws supports ModelDataSource only for one .tar.gz: S3DataSource with S3DataType S3Object and"
            " CompressionType Gzip. Give that, or ModelDataUrl."
        )
    return source["S3Uri"]


def refuse(where: str, structure: Document, unsupported: dict[str, str]) -> None:
    """Raise ValidationException for the first unsupported member that the structure has; the values say why."""
    for name, reason in unsupported.items():
        if structure.get(name):
            raise validation_error(f"local_aws does not support {name} of {where}: {reason}. Leave it out.")
