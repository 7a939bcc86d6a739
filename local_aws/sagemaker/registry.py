"""The model registry: model package groups, and model packages with and without a group.

Versioned packages are those of a group (ARN ".../model-package/<group>/<version>"), unversioned ones have a name of
their own (".../model-package/<name>"). Rules are those of the SageMaker API reference and of the developer guide's
"Model Registration Deployment with Model Registry"; error messages that clients are known to look into are AWS's own
("... does not exist.", "Model Package Group already exists").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from local_aws.calls import Call, Operation, Request, Response, ServiceError, page, validation_error
from local_aws.events import Events, event_time
from local_aws.request_checks import service_model
from local_aws.sagemaker import times
from local_aws.sagemaker.client_tokens import ClientTokens
from local_aws.sagemaker.model_card import check_model_card
from local_aws.sagemaker.quotas import Quotas
from local_aws.sagemaker.tags import Tags
from local_aws.store import Document, Scope, Store

MOST_METADATA_PROPERTIES = 50
MOST_ADDITIONAL_SPECIFICATIONS = 15

# What a request may not ask for here, and why: to accept and ignore it would be to do something else than AWS.
UNSUPPORTED = {
    "ValidationSpecification": "no transform job is run to validate a model package",
    "SourceAlgorithmSpecification": "there are no algorithm resources",
    "ManagedStorageType": "SageMaker manages no storage here",
    "ManagedConfiguration": "SageMaker manages no storage here",
}
VERSIONED_ONLY = ("ModelApprovalStatus", "ModelLifeCycle")

_PACKAGE_SUMMARY = (
    "ModelPackageName",
    "ModelPackageGroupName",
    "ModelPackageVersion",
    "ModelPackageArn",
    "ModelPackageDescription",
    "CreationTime",
    "ModelPackageStatus",
    "ModelApprovalStatus",
    "ModelLifeCycle",
    "ModelPackageRegistrationType",
)
_BATCH_SUMMARY = (
    "ModelPackageGroupName",
    "ModelPackageVersion",
    "ModelPackageArn",
    "ModelPackageDescription",
    "CreationTime",
    "InferenceSpecification",
    "ModelPackageStatus",
    "ModelApprovalStatus",
    "ModelPackageRegistrationType",
)
_GROUP_SUMMARY = (
    "ModelPackageGroupName",
    "ModelPackageGroupArn",
    "ModelPackageGroupDescription",
    "CreationTime",
    "ModelPackageGroupStatus",
)
# The event's detail has neither tags, CustomerMetadataProperties, ApprovalDescription nor who approved: AWS's sample
# (https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html) has none of them.
_EVENT_DETAIL = (
    "ModelPackageName",
    "ModelPackageGroupName",
    "ModelPackageVersion",
    "ModelPackageArn",
    "ModelPackageDescription",
    "InferenceSpecification",
    "ModelPackageStatus",
    "ModelPackageStatusDetails",
    "CertifyForMarketplace",
    "ModelApprovalStatus",
    "MetadataProperties",
    "ModelMetrics",
    "ModelLifeCycle",
)
# What UpdateModelPackage can change, by its names in UpdatedModelPackageFields.
_EVENT_FIELDS = {
    "ModelApprovalStatus": "ModelApprovalStatus",
    "ApprovalDescription": "ApprovalDescription",
    "SourceUri": "sourceUri",
    "CustomerMetadataProperties": "CustomerMetadataProperties",
    "CustomerMetadataPropertiesToRemove": "CustomerMetadataProperties",
    "InferenceSpecification": "InferenceSpecification",
    "AdditionalInferenceSpecificationsToAdd": "AdditionalInferenceSpecifications",
    "ModelLifeCycle": "ModelLifeCycle",
    "ModelPackageRegistrationType": "ModelPackageRegistrationType",
    "ModelCard": "ModelCard",
}
_ARN = re.compile(r"arn:aws[a-z-]*:sagemaker:(?P<region>[^:]*):(?P<account>[^:]*):(?P<kind>[^/]*)/(?P<key>\S+)")


class Registry:
    """Model package groups and model packages.

    Kept documents are never changed in place, only replaced, so that they can be answered without copying. A package's
    key is "<group>/<version>", or its name when it has no group.
    """

    def __init__(self, store: Store, tags: Tags, events: Events, quotas: Quotas | None = None) -> None:
        self._lock = store.lock
        self._quotas = quotas or Quotas()
        self._events = events
        self._tokens = ClientTokens(store)
        self._tags = tags
        self._groups = store.table("model_package_groups")
        self._packages = store.table("model_packages")
        self._models = store.table("models")  # of local_aws.sagemaker.models
        # Keys by group (None: those without a group), oldest first: what makes a group's list and its deletion cheap.
        self._keys: dict[tuple[Scope, str | None], dict[str, None]] = {}
        for scope, key, package in self._packages.items():
            self._keys.setdefault((scope, package.get("ModelPackageGroupName")), {})[key] = None
        tags.know(self._is_ours)

    def operations(self) -> dict[str, Operation]:
        return {
            "CreateModelPackageGroup": self.create_model_package_group,
            "DescribeModelPackageGroup": self.describe_model_package_group,
            "ListModelPackageGroups": self.list_model_package_groups,
            "DeleteModelPackageGroup": self.delete_model_package_group,
            "CreateModelPackage": self.create_model_package,
            "DescribeModelPackage": self.describe_model_package,
            "BatchDescribeModelPackage": self.batch_describe_model_package,
            "ListModelPackages": self.list_model_packages,
            "UpdateModelPackage": self.update_model_package,
            "DeleteModelPackage": self.delete_model_package,
        }

    def create_model_package_group(self, call: Call, request: Request) -> Response:
        _refuse_unsupported(request)
        name = request["ModelPackageGroupName"]
        arn = call.arn(f"model-package-group/{name}")
        with self._lock:
            if self._groups.get(call.scope, name) is not None:
                raise validation_error(f"Model Package Group already exists: {arn}. Use it, or choose another name.")
            self._quotas.check_count("model_package_groups", len(self._groups.values(call.scope)))
            self._tags.set_on_create(call, arn, request.get("Tags"))
            group = {
                "ModelPackageGroupName": name,
                "ModelPackageGroupArn": arn,
                **_given(request, "ModelPackageGroupDescription"),
                "CreationTime": times.now(),
                "CreatedBy": call.user_context,
                "ModelPackageGroupStatus": "Completed",
                "LastVersion": 0,
            }
            self._groups.put(call.scope, name, group)
        return {"ModelPackageGroupArn": arn}

    def describe_model_package_group(self, call: Call, request: Request) -> Response:
        return _answer("DescribeModelPackageGroup", self._group(call, request["ModelPackageGroupName"]))

    def list_model_package_groups(self, call: Call, request: Request) -> Response:
        """Groups of the caller's account; none of other accounts, since no group can be shared here."""
        shared = request.get("CrossAccountFilterOption") == "CrossAccount"
        groups = [
            group
            for group in ([] if shared else self._groups.values(call.scope))
            if request.get("NameContains", "") in group["ModelPackageGroupName"] and _created_within(group, request)
        ]

        def position(group: Document) -> list[Any]:
            name = group["ModelPackageGroupName"]
            return [name] if request.get("SortBy") == "Name" else [group["CreationTime"], name]

        groups.sort(key=position, reverse=request.get("SortOrder") == "Descending")
        groups, more = page(groups, request, position=position)
        return {"ModelPackageGroupSummaryList": [_given(group, *_GROUP_SUMMARY) for group in groups], **more}

    def delete_model_package_group(self, call: Call, request: Request) -> Response:
        with self._lock:
            group = self._group(call, request["ModelPackageGroupName"])
            name, arn = group["ModelPackageGroupName"], group["ModelPackageGroupArn"]
            if keys := self._keys.get((call.scope, name)):
                raise ServiceError(
                    "ConflictException",
                    f"Model Package Group {arn} cannot be deleted: it contains {len(keys)} model package(s)."
                    " Delete those first (DeleteModelPackage).",
                )
            self._groups.delete(call.scope, name)
            self._tags.forget(call.scope, arn)
        return {}

    def create_model_package(self, call: Call, request: Request) -> Response:
        """A new version in a group, or, given ModelPackageName instead, a package without a group.

        Raises:
            ServiceError: ValidationException; ConflictException when the name, or the client token with another
                request, was used before.
        """
        _check_create(request)
        return self._tokens.once(
            call, "CreateModelPackage", request, lambda: self._create_model_package(call, request), "ClientToken"
        )

    def _create_model_package(self, call: Call, request: Request) -> Response:
        package = self._inherited(call, request) | {
            name: value for name, value in request.items() if name not in ("ClientToken", "Tags")
        }
        if "ModelPackageGroupName" in request:
            group = self._group(call, request["ModelPackageGroupName"])
            name, version = group["ModelPackageGroupName"], group["LastVersion"] + 1
            key = f"{name}/{version}"
            package |= {"ModelPackageGroupName": name, "ModelPackageVersion": version}
            package.setdefault("ModelApprovalStatus", "PendingManualApproval")
            # Counted first: whatever happens next, a version number is never given twice.
            self._groups.put(call.scope, name, group | {"LastVersion": version})
        else:
            key = request["ModelPackageName"]
            if self._packages.get(call.scope, key) is not None:
                raise ServiceError(
                    "ConflictException", f"Model Package already exists: {key}. Choose another ModelPackageName."
                )
        arn = call.arn(f"model-package/{key}")
        self._tags.set_on_create(call, arn, request.get("Tags"))
        package |= {
            "ModelPackageArn": arn,
            "CreationTime": times.now(),
            "CreatedBy": call.user_context,
            "ModelPackageStatus": "Completed",
            "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
            "CertifyForMarketplace": request.get("CertifyForMarketplace", False),
        }
        self._packages.put(call.scope, key, package)
        self._keys.setdefault((call.scope, package.get("ModelPackageGroupName")), {})[key] = None
        self._tell(call.scope, package)
        return {"ModelPackageArn": arn}

    def describe_model_package(self, call: Call, request: Request) -> Response:
        """A package by its ARN, or by its name when it has no group.

        A group's name is no package's name: there is no "newest of the group" here.
        """
        if request.get("IncludedData") == "MetadataOnly":
            raise validation_error("local_aws does not support IncludedData MetadataOnly. Leave it out.")
        return _answer("DescribeModelPackage", self._package(call, request["ModelPackageName"])[1])

    def batch_describe_model_package(self, call: Call, request: Request) -> Response:
        """Summaries of versioned packages by ARN; what is wrong with an ARN is said in a map of its own."""
        summaries, errors = {}, {}
        for arn in request["ModelPackageArnList"]:
            try:
                package = self._version(call, arn)[1]
            except ServiceError as error:
                errors[arn] = {"ErrorCode": error.code, "ErrorResponse": error.message}
            else:
                summaries[arn] = _given(package, *_BATCH_SUMMARY)
        return {"ModelPackageSummaries": summaries, "BatchDescribeModelPackageErrorMap": errors}

    def list_model_packages(self, call: Call, request: Request) -> Response:
        """A group's versions; without a group, packages of the type asked for, by default Unversioned, as on AWS."""
        in_group, by_name = "ModelPackageGroupName" in request, request.get("SortBy") == "Name"

        def position(package: Document) -> Any:
            version = package.get("ModelPackageVersion", 0)
            if in_group:  # in the order of creation, and of names, already: 10,000 of them are quickly compared
                return version
            key = [_name(package), version]
            return key if by_name else [package["CreationTime"], *key]

        packages = [package for package in self._listed(call, request) if _matches(package, request)]
        packages.sort(key=position, reverse=request.get("SortOrder") == "Descending")
        packages, more = page(packages, request, position=position)
        return {"ModelPackageSummaryList": [_given(package, *_PACKAGE_SUMMARY) for package in packages], **more}

    def update_model_package(self, call: Call, request: Request) -> Response:
        """Change what the request gives, and nothing else.

        CustomerMetadataProperties and ModelCard are merged by key, AdditionalInferenceSpecifications are added to,
        everything else is replaced.
        """
        _refuse_both_sources(request)
        _refuse_additional_data(request)
        check_model_card(request)
        return self._tokens.once(
            call, "UpdateModelPackage", request, lambda: self._update_model_package(call, request), "ClientToken"
        )

    def _update_model_package(self, call: Call, request: Request) -> Response:
        key, package = self._version(call, request["ModelPackageArn"])
        updated = _updated(package, request) | {"LastModifiedTime": times.now(), "LastModifiedBy": call.user_context}
        self._packages.put(call.scope, key, updated)
        told = dict(_EVENT_FIELDS)
        if request.get("ModelApprovalStatus") == package.get("ModelApprovalStatus"):
            del told["ModelApprovalStatus"]  # a version that is approved once more: no event (docs/unverified.md)
        if fields := [event_name for name, event_name in told.items() if name in request]:
            self._tell(call.scope, updated, fields)
        return {"ModelPackageArn": updated["ModelPackageArn"]}

    def delete_model_package(self, call: Call, request: Request) -> Response:
        with self._lock:
            key, package = self._package(call, request["ModelPackageName"])
            self._packages.delete(call.scope, key)
            del self._keys[call.scope, package.get("ModelPackageGroupName")][key]
            self._tags.forget(call.scope, package["ModelPackageArn"])
            self._tell(call.scope, package | {"ModelPackageStatus": "Deleting"})
        return {}

    def _tell(self, scope: Scope, package: Document, updated: list[str] | None = None) -> None:
        """Send the event of a package that was created, updated (then with the names of the fields) or deleted."""
        times = {"CreationTime": package["CreationTime"]}
        times["LastModifiedTime"] = package.get("LastModifiedTime", package["CreationTime"])
        detail = (
            _given(package, *_EVENT_DETAIL)
            | {name: event_time(seconds) for name, seconds in times.items()}
            | ({} if updated is None else {"UpdatedModelPackageFields": updated})
        )
        self._events.emit(scope, "SageMaker Model Package State Change", [package["ModelPackageArn"]], detail)

    def _is_ours(self, scope: Scope, arn: str) -> bool:
        parts = _ARN.fullmatch(arn)
        if parts is None or Scope(parts["account"], parts["region"]) != scope:
            return False
        tables = {"model-package-group": self._groups, "model-package": self._packages}
        return parts["kind"] in tables and tables[parts["kind"]].get(scope, parts["key"]) is not None

    def _group(self, call: Call, name_or_arn: str) -> Document:
        """The group that a request names. One of another account or Region does not exist for the caller."""
        arn, name = _resolve(call, name_or_arn, "model-package-group")
        group = self._groups.get(call.scope, name) if arn == call.arn(f"model-package-group/{name}") else None
        if group is None:
            raise validation_error(f"ModelPackageGroup {arn} does not exist.")
        return group

    def _package(self, call: Call, name_or_arn: str) -> tuple[str, Document]:
        """The key and the document of the package that a request names."""
        arn, key = _resolve(call, name_or_arn, "model-package")
        package = self._packages.get(call.scope, key) if arn == call.arn(f"model-package/{key}") else None
        if package is None:
            raise validation_error(f"ModelPackage {arn} does not exist.")
        return key, package

    def _version(self, call: Call, arn: str) -> tuple[str, Document]:
        key, package = self._package(call, arn)
        if "ModelPackageVersion" not in package:
            raise validation_error(f"ModelPackage {arn} is unversioned; give the ARN of a version of a group.")
        return key, package

    def _inherited(self, call: Call, request: Request) -> Document:
        """What a package made from another one (SourceUri is its ARN) has of it."""
        source = request.get("SourceUri", "")
        parts = _ARN.fullmatch(source)
        if parts is None or parts["kind"] not in ("model-package", "model"):
            return {}
        if parts["kind"] == "model":
            model = self._models.get(Scope(parts["account"], parts["region"]), parts["key"].lower())
            if model is None or call.scope != Scope(parts["account"], parts["region"]):
                raise validation_error(f"Model {source} does not exist.")
            raise validation_error(
                "local_aws does not register a model by its ARN. Give InferenceSpecification with the container of"
                f" {source} instead of SourceUri."
            )
        return _given(self._package(call, source)[1], "InferenceSpecification")

    def _listed(self, call: Call, request: Request) -> Iterable[Document]:
        kind = request.get("ModelPackageType")
        name = None
        if "ModelPackageGroupName" in request:
            name = self._group(call, request["ModelPackageGroupName"])["ModelPackageGroupName"]
            kind = kind or "Versioned"
        with self._lock:
            if name is not None and kind != "Unversioned":
                keys = list(self._keys.get((call.scope, name), ()))
            elif name is None and kind in (None, "Unversioned"):
                keys = list(self._keys.get((call.scope, None), ()))
            elif name is None:
                packages = self._packages.values(call.scope)
                return [package for package in packages if kind == "Both" or "ModelPackageVersion" in package]
            else:
                return []
        return [package for key in keys if (package := self._packages.get(call.scope, key)) is not None]


def _resolve(call: Call, name_or_arn: str, kind: str) -> tuple[str, str]:
    """The ARN that a name or ARN stands for, and the key in it.

    Raises:
        ServiceError: ValidationException for an ARN of another kind of resource.
    """
    if not name_or_arn.startswith("arn:"):
        return call.arn(f"{kind}/{name_or_arn}"), name_or_arn
    parts = _ARN.fullmatch(name_or_arn)
    if parts is None or parts["kind"] != kind:
        raise validation_error(f"Invalid ARN {name_or_arn}: give one of the form {call.arn(f'{kind}/NAME')}.")
    return name_or_arn, parts["key"]


def _check_create(request: Request) -> None:
    """What CreateModelPackage refuses beyond its model."""
    versioned, named = "ModelPackageGroupName" in request, "ModelPackageName" in request
    if versioned and named:
        raise validation_error(
            "Both ModelPackageName and ModelPackageGroupName are provided in the input."
            " Cannot determine which one to use."
        )
    if not versioned and not named:
        raise validation_error("Missing ARN. Give ModelPackageGroupName for a versioned model package.")
    if versioned and request.get("Tags"):
        raise validation_error(
            "Tags cannot be given with ModelPackageGroupName: a version uses the tags of its group. Tag the group."
        )
    if versioned and request.get("CertifyForMarketplace"):
        raise validation_error("CertifyForMarketplace does not apply to versioned model packages. Leave it out.")
    if named and (given := [name for name in VERSIONED_ONLY if name in request]):
        raise validation_error(
            f"{given[0]} does not apply to unversioned model packages. Leave it out, or give ModelPackageGroupName."
        )
    if named and "InferenceSpecification" not in request and "SourceUri" not in request:
        raise validation_error("An unversioned model package needs InferenceSpecification.")
    _refuse_unsupported(request)
    _refuse_both_sources(request)
    _refuse_additional_data(request)
    _check_additional(request.get("AdditionalInferenceSpecifications", []))
    check_model_card(request)


def _refuse_unsupported(request: Request) -> None:
    for name, reason in UNSUPPORTED.items():
        if name in request:
            raise validation_error(f"local_aws does not support {name}: {reason}. Leave it out.")


def _refuse_both_sources(request: Request) -> None:
    # The SDK works around this rule (sagemaker.core.model_registry): it creates first, then updates with SourceUri.
    if "SourceUri" in request and "InferenceSpecification" in request:
        raise validation_error(
            "SourceUri and InferenceSpecification cannot be given together. Create the model package with"
            " InferenceSpecification, then give SourceUri to UpdateModelPackage."
        )


def _refuse_additional_data(request: Request) -> None:
    # AWS's model allows it and AWS refuses it: https://github.com/boto/boto3/issues/4510
    for container in request.get("InferenceSpecification", {}).get("Containers", []):
        if "AdditionalS3DataSource" in container:
            raise validation_error("AdditionalS3DataSource is not allowed in InferenceSpecification")


def _check_additional(specifications: list[Document]) -> None:
    names = [specification["Name"] for specification in specifications]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise validation_error(
            f"AdditionalInferenceSpecifications must have unique names; {', '.join(duplicates)} is there twice."
        )
    if len(names) > MOST_ADDITIONAL_SPECIFICATIONS:
        raise validation_error(
            f"A model package has at most {MOST_ADDITIONAL_SPECIFICATIONS} AdditionalInferenceSpecifications;"
            f" this one would have {len(names)}."
        )


def _updated(package: Document, request: Request) -> Document:
    """The package after UpdateModelPackage.

    Raises:
        ServiceError: ValidationException, when there would be too many properties or specifications, or when
            the content of an archived model card would change.
    """
    updated = package | _given(
        request,
        "ModelApprovalStatus",
        "ModelPackageRegistrationType",
        "ApprovalDescription",
        "InferenceSpecification",
        "SourceUri",
        "ModelLifeCycle",
    )
    properties = package.get("CustomerMetadataProperties", {}) | request.get("CustomerMetadataProperties", {})
    for name in request.get("CustomerMetadataPropertiesToRemove", []):
        properties.pop(name, None)
    if len(properties) > MOST_METADATA_PROPERTIES:
        raise validation_error(
            f"{package['ModelPackageArn']} would have {len(properties)} CustomerMetadataProperties; at most"
            f" {MOST_METADATA_PROPERTIES} are allowed. Remove some with CustomerMetadataPropertiesToRemove."
        )
    updated["CustomerMetadataProperties"] = properties
    if not properties:
        del updated["CustomerMetadataProperties"]
    if added := request.get("AdditionalInferenceSpecificationsToAdd"):
        updated["AdditionalInferenceSpecifications"] = package.get("AdditionalInferenceSpecifications", []) + added
        _check_additional(updated["AdditionalInferenceSpecifications"])
    if card := request.get("ModelCard"):
        before = package.get("ModelCard", {})
        if before.get("ModelCardStatus") == "Archived" and "ModelCardContent" in card:
            raise validation_error("Model Card is in Archived state")
        updated["ModelCard"] = before | card
    return updated


def _matches(package: Document, request: Request) -> bool:
    status = request.get("ModelApprovalStatus")
    return (
        (status is None or package.get("ModelApprovalStatus") == status)
        and request.get("NameContains", "") in _name(package)
        and _created_within(package, request)
    )


def _created_within(document: Document, request: Request) -> bool:
    after, before = request.get("CreationTimeAfter"), request.get("CreationTimeBefore")
    created = document["CreationTime"]
    return (after is None or created > after) and (before is None or created < before)


def _name(package: Document) -> str:
    """A package's own name, or its group's."""
    return package.get("ModelPackageName") or package["ModelPackageGroupName"]


def _given(document: Document, *names: str) -> Document:
    return {name: document[name] for name in names if name in document}


def _answer(operation: str, document: Document) -> Response:
    """Of a document what the operation's answer has; the rest is for our own use."""
    shape = service_model("sagemaker").operation_model(operation).output_shape
    return _given(document, *shape.members)
