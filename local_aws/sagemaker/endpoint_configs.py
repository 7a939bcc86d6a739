"""Endpoint configurations: what an endpoint is to be. None is ever changed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from local_aws.calls import Call, Operation, Request, Response, validation_error
from local_aws.events import Events
from local_aws.sagemaker.listing import listed
from local_aws.sagemaker.models import Models, refuse
from local_aws.sagemaker.tags import Tags
from local_aws.store import Document, Scope, Store

MOST_VARIANTS = 10
SERVERLESS_MEMORY = range(1024, 6144 + 1, 1024)  # MB

# What a request may not ask for here: to accept and ignore it would be to do something else than AWS.
UNSUPPORTED = {
    "AsyncInferenceConfig": "asynchronous endpoints are not built",
    "ExplainerConfig": "Clarify is not built",
    "ShadowProductionVariants": "shadow variants are not built",
    "ExecutionRoleArn": "it is for inference components, which are not built",
    "VpcConfig": "it is for inference components, which are not built; CreateModel takes it",
    "EnableNetworkIsolation": "it is for inference components, which are not built; CreateModel takes it",
    "MetricsConfig": "metrics are published once a minute, for the variant",
}
UNSUPPORTED_VARIANT = {
    "InstancePools": "a variant has one instance type",
    "AcceleratorType": "Elastic Inference has ended",
    "CoreDumpConfig": "no core dumps are kept",
    "EnableSSMAccess": "there is no instance to log in to",
    "ManagedInstanceScaling": "it is for inference components, which are not built; use Application Auto Scaling",
    "CapacityReservationConfig": "there is no capacity to reserve",
}
# Instances with disks of their own (m5d, g4dn, p4d, g5 ...), for which CreateEndpointConfig takes no KmsKeyId:
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpointConfig.html
LOCAL_STORAGE = re.compile(r"ml\.([a-z]+\d+[a-z]*d[a-z]*|g5|g6e?)\.")
INSTANCES_ONLY = ("InitialInstanceCount", "VolumeSizeInGB")


class EndpointConfigs:
    """Endpoint configurations, by their lower-case name. A document is what DescribeEndpointConfig answers."""

    def __init__(self, store: Store, tags: Tags, models: Models, events: Events) -> None:
        self._lock, self._tags, self._models, self._events = store.lock, tags, models, events
        self._configs = store.table("endpoint_configs")
        tags.know(self._is_ours)

    def operations(self) -> dict[str, Operation]:
        return {
            "CreateEndpointConfig": self.create_endpoint_config,
            "DescribeEndpointConfig": self.describe_endpoint_config,
            "ListEndpointConfigs": self.list_endpoint_configs,
            "DeleteEndpointConfig": self.delete_endpoint_config,
        }

    def create_endpoint_config(self, call: Call, request: Request) -> Response:
        """Keep a configuration.

        Raises:
            ServiceError: ValidationException: a model that is not there, a name that is taken, a combination that AWS
                refuses, or what local_aws does not do.
        """
        check_endpoint_config(request, lambda name: self._models.get(call.scope, name))
        name = request["EndpointConfigName"]
        arn = call.arn(f"endpoint-config/{name.lower()}")
        document = {key: value for key, value in request.items() if key != "Tags"}
        document["ProductionVariants"] = [
            {"InitialVariantWeight": 1.0} | variant for variant in request["ProductionVariants"]
        ]
        document |= {"EndpointConfigArn": arn, "CreationTime": round(time.time(), 3)}
        with self._lock:
            if self._configs.get(call.scope, name.lower()) is not None:
                raise validation_error(f'Cannot create already existing endpoint configuration "{arn}".')
            self._tags.set_on_create(call, arn, request.get("Tags"))
            self._configs.put(call.scope, name.lower(), document)
            self._tell(call.scope, document)
        return {"EndpointConfigArn": arn}

    def describe_endpoint_config(self, call: Call, request: Request) -> Response:
        return self.get(call.scope, request["EndpointConfigName"])

    def list_endpoint_configs(self, call: Call, request: Request) -> Response:
        summary = ("EndpointConfigName", "EndpointConfigArn", "CreationTime")
        found, more = listed(self._configs.values(call.scope), request, "EndpointConfig", summary)
        return {"EndpointConfigs": found, **more}

    def delete_endpoint_config(self, call: Call, request: Request) -> Response:
        """Forget a configuration. An endpoint that has it serves on, as on AWS; its next change fails."""
        with self._lock:
            config = self.get(call.scope, request["EndpointConfigName"])
            self._configs.delete(call.scope, config["EndpointConfigName"].lower())
            self._tell(call.scope, config)
            self._tags.forget(call.scope, config["EndpointConfigArn"])
        return {}

    def get(self, scope: Scope, name: str) -> Document:
        """A configuration's document.

        Raises:
            ServiceError: ValidationException: there is none of that name.
        """
        config = self._configs.get(scope, name.lower())
        if config is None:
            arn = Call(scope, "").arn(f"endpoint-config/{name.lower()}")
            raise validation_error(f'Could not find endpoint configuration "{arn}".')
        return config

    def _tell(self, scope: Scope, config: Document) -> None:
        names = ("EndpointConfigName", "EndpointConfigArn", "ProductionVariants", "DataCaptureConfig", "KmsKeyId")
        detail = {name: config[name] for name in names if name in config}
        detail |= {"CreationTime": round(config["CreationTime"] * 1000)}
        detail |= {"Tags": self._tags.of(scope, config["EndpointConfigArn"])}
        self._events.emit(scope, "SageMaker Endpoint Config State Change", [config["EndpointConfigArn"]], detail)

    def _is_ours(self, scope: Scope, arn: str) -> bool:
        config = self._configs.get(scope, arn.rpartition("/")[2])
        return config is not None and config["EndpointConfigArn"] == arn


def check_endpoint_config(request: Request, model: Callable[[str], Document]) -> None:
    """What CreateEndpointConfig refuses beyond its model.

    Args:
        request: the call's.
        model: finds a model by its name, or raises ServiceError.

    Raises:
        ServiceError: ValidationException.
    """
    refuse("an endpoint configuration", request, UNSUPPORTED)
    variants = request["ProductionVariants"]
    if not 1 <= len(variants) <= MOST_VARIANTS:
        raise validation_error(
            f"ProductionVariants has {len(variants)}; an endpoint configuration has 1 to {MOST_VARIANTS} of them."
        )
    names = [variant["VariantName"] for variant in variants]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise validation_error(f"ProductionVariants: VariantName {duplicates[0]!r} is given twice; each is unique.")
    for variant in variants:
        _check_variant(variant)
        if "KmsKeyId" in request and LOCAL_STORAGE.match(instance := variant.get("InstanceType", "")):
            raise validation_error(
                f"KmsKeyId cannot be given with {instance}: it has local storage, which its hardware encrypts."
                " Leave it out, or choose another instance type."
            )
    serverless = ["ServerlessConfig" in variant for variant in variants]
    if any(serverless):
        _check_serverless(request, variants, all(serverless))
    for variant in variants:
        found = model(variant["ModelName"])
        for member in ("VpcConfig", "EnableNetworkIsolation"):
            if any(serverless) and found.get(member):
                raise validation_error(
                    f"Serverless endpoints do not support {member}; model {found['ModelName']} has it."
                    " Create one without."
                )
    capture = request.get("DataCaptureConfig", {}).get("CaptureOptions", [])
    modes = [option["CaptureMode"] for option in capture]
    if len(set(modes)) < len(modes):
        raise validation_error("DataCaptureConfig.CaptureOptions: a CaptureMode is given twice. Give each once.")


def _check_variant(variant: Document) -> None:
    where = f"variant {variant['VariantName']!r}"
    refuse(where, variant, UNSUPPORTED_VARIANT)
    if "ModelName" not in variant:
        raise validation_error(f"ModelName is missing in {where}: inference components are not built by local_aws.")
    if ("InstanceType" in variant) == ("ServerlessConfig" in variant):
        raise validation_error(f"Specify exactly one of InstanceType and ServerlessConfig for {where}.")
    if "InstanceType" in variant:
        if "InitialInstanceCount" not in variant:
            raise validation_error(f"InitialInstanceCount is missing in {where}: InstanceType needs it.")
        return
    if given := [name for name in INSTANCES_ONLY if name in variant]:
        raise validation_error(f"{given[0]} cannot be given with ServerlessConfig ({where}). Leave it out.")
    config = variant["ServerlessConfig"]
    if config["MemorySizeInMB"] not in SERVERLESS_MEMORY:
        raise validation_error(
            f"MemorySizeInMB {config['MemorySizeInMB']} of {where} must be one of"
            f" {', '.join(map(str, SERVERLESS_MEMORY))}."
        )
    if config.get("ProvisionedConcurrency", 0) > config["MaxConcurrency"]:
        raise validation_error(
            f"ProvisionedConcurrency {config['ProvisionedConcurrency']} of {where} must be at most its MaxConcurrency,"
            f" {config['MaxConcurrency']}."
        )


def _check_serverless(request: Request, variants: list[Document], all_serverless: bool) -> None:
    """The exclusions of https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints.html."""
    if not all_serverless:
        raise validation_error("ProductionVariants cannot mix ServerlessConfig and InstanceType. Choose one of them.")
    if len(variants) > 1:
        raise validation_error("Serverless endpoints support one production variant only. Leave the others out.")
    if "DataCaptureConfig" in request:
        raise validation_error("Serverless endpoints do not support DataCaptureConfig. Leave it out.")
