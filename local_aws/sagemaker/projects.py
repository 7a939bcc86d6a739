"""Projects: a stack each, made through Service Catalog or from a template in S3.

https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-projects-templates-custom.html says what a template must have:
parameters SageMakerProjectName and SageMakerProjectId, which SageMaker fills. What it asks other services for, it asks
with the caller's rights.
"""

from __future__ import annotations

import logging
import math
import secrets
import threading
from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local_aws.calls import Call, Operation, Request, Response, ServiceError, page, validation_error
from local_aws.loopback import Loopback
from local_aws.s3_urls import object_address
from local_aws.sagemaker.quotas import Quotas
from local_aws.sagemaker.tags import Tags
from local_aws.sagemaker.times import now
from local_aws.stack_changes import CAPABILITIES, NO_UPDATES, Interrupted, create_stack, follow, is_missing, wait_for
from local_aws.store import Document, Scope, Store
from local_aws.template_forms import TemplateForm, read_template, value_faults

logger = logging.getLogger(__name__)

NAME_PARAMETER, ID_PARAMETER = "SageMakerProjectName", "SageMakerProjectId"
NAME_TAG, ID_TAG = "sagemaker:project-name", "sagemaker:project-id"
DELETED = "DeleteCompleted"
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_DENIED = ("AccessDenied", "AccessDeniedException")
_WAITING_TO_BEGIN = "local_aws was stopped before the project's stack was begun. Delete the project and try again."
_DESCRIPTION = (
    "ProjectArn",
    "ProjectName",
    "ProjectId",
    "ProjectDescription",
    "ServiceCatalogProvisioningDetails",
    "ServiceCatalogProvisionedProductDetails",
    "ProjectStatus",
    "TemplateProviderDetails",
    "CreatedBy",
    "CreationTime",
    "LastModifiedTime",
    "LastModifiedBy",
)
_SUMMARY = ("ProjectName", "ProjectDescription", "ProjectArn", "ProjectId", "CreationTime", "ProjectStatus")

Begin = Callable[[], dict[str, Any]]  # asks for a change; answers what the project's document then has besides


class Projects:
    """Projects by their names.

    A document is what DescribeProject answers and, while something is under way, Verb (Create, Update or Delete) and
    what is followed: RecordId of Service Catalog's, or StackId. A deleted project is told of until its name is taken
    again.
    """

    def __init__(self, store: Store, tags: Tags, loopback: Loopback, quotas: Quotas) -> None:
        self._lock, self._tags, self._loopback, self._quotas = store.lock, tags, loopback, quotas
        self._projects = store.table("projects")
        self._stopping = threading.Event()
        self._threads: set[threading.Thread] = set()
        tags.know(self._is_ours)

    def operations(self) -> dict[str, Operation]:
        return {
            "CreateProject": self.create,
            "DescribeProject": self.describe,
            "ListProjects": self.list,
            "UpdateProject": self.update,
            "DeleteProject": self.delete,
        }

    def create(self, call: Call, request: Request) -> Response:
        """Make a project; its stack is made afterwards.

        Raises:
            ServiceError: ValidationException: the name is taken, not exactly one way is given, the template does not
                take the parameters, Service Catalog or CloudFormation refuses; AccessDeniedException: what the caller
                may not do there; ResourceLimitExceeded: the quota of projects is reached.
        """
        product, provider = (
            request.get("ServiceCatalogProvisioningDetails"),
            _only_provider(request, "TemplateProviders"),
        )
        if (product is None) == (provider is None):
            raise validation_error(
                "Give exactly one of ServiceCatalogProvisioningDetails and TemplateProviders (with a"
                " CfnTemplateProvider): what the project is made from."
            )
        document = self._reserve(call, request)
        try:
            with _refusals():
                if product is not None:
                    begun = self._provision(call, document, product)
                else:
                    begun = self._create_stack(call, document, provider or {})
        except Exception:  # nothing of the project is left
            with self._lock:
                self._projects.delete(call.scope, document["ProjectName"])
                self._tags.forget(call.scope, document["ProjectArn"])
            raise
        self._follow(call.scope, document, begun)
        return {"ProjectArn": document["ProjectArn"], "ProjectId": document["ProjectId"]}

    def describe(self, call: Call, request: Request) -> Response:
        document = self._project(call.scope, request["ProjectName"])
        return {name: document[name] for name in _DESCRIPTION if name in document}

    def list(self, call: Call, request: Request) -> Response:
        """By name, the first first, unless the request sorts otherwise."""
        after = float(request.get("CreationTimeAfter", -math.inf))
        before = float(request.get("CreationTimeBefore", math.inf))
        found = [
            each
            for each in self._projects.values(call.scope)
            if request.get("NameContains", "").lower() in each["ProjectName"].lower()
            and after < each["CreationTime"] < before
        ]
        member = "CreationTime" if request.get("SortBy") == "CreationTime" else "ProjectName"

        def position(document: Document) -> list[Any]:
            return [document[member], document["ProjectName"]]

        found.sort(key=position, reverse=request.get("SortOrder") == "Descending")
        shown, more = page(found, request, position=position)
        return {
            "ProjectSummaryList": [{name: each[name] for name in _SUMMARY if name in each} for each in shown],
            **more,
        }

    def update(self, call: Call, request: Request) -> Response:
        """Change the description and tags at once, and give the stack another template or other parameters.

        Raises:
            ServiceError: as `create`; ConflictException while something is under way.
        """
        product = request.get("ServiceCatalogProvisioningUpdateDetails")
        provider = _only_provider(request, "TemplateProvidersToUpdate")
        if product is not None and provider is not None:
            raise validation_error(
                "Give ServiceCatalogProvisioningUpdateDetails or TemplateProvidersToUpdate, and not both."
            )
        with self._lock:
            document = self._at_rest(call.scope, request["ProjectName"])
            if product is not None and "ServiceCatalogProvisioningDetails" not in document:
                raise validation_error(
                    f"Project {document['ProjectName']} was made from a template in S3: give TemplateProvidersToUpdate."
                )
            if provider is not None and "TemplateProviderDetails" not in document:
                raise validation_error(
                    f"Project {document['ProjectName']} was made through Service Catalog: give"
                    " ServiceCatalogProvisioningUpdateDetails."
                )
            self._tags.set_on_create(call, document["ProjectArn"], request.get("Tags"))
            document |= {"LastModifiedTime": now(), "LastModifiedBy": call.user_context}
            if "ProjectDescription" in request:
                document["ProjectDescription"] = request["ProjectDescription"]
            if product is not None or provider is not None:
                document |= {"StatusBefore": document["ProjectStatus"], "Verb": "Update"}
                document["ProjectStatus"] = "UpdateInProgress"
            self._projects.put(call.scope, document["ProjectName"], document)
        if product is not None:
            self._begin(call, document, lambda: self._update_product(call, document, product))
        elif provider is not None:
            self._begin(call, document, lambda: self._update_stack(call, document, provider))
        return {"ProjectArn": document["ProjectArn"]}

    def delete(self, call: Call, request: Request) -> Response:
        """Delete the project's stack, and then the project.

        Raises:
            ServiceError: ValidationException: there is none; ConflictException while something is under way;
                AccessDeniedException: what the caller may not do.
        """
        with self._lock:
            document = self._at_rest(call.scope, request["ProjectName"])
            document |= {"StatusBefore": document["ProjectStatus"], "Verb": "Delete", "LastModifiedTime": now()}
            document |= {"ProjectStatus": "DeleteInProgress", "LastModifiedBy": call.user_context}
            self._projects.put(call.scope, document["ProjectName"], document)
        self._begin(call, document, lambda: self._delete_stack(call, document))
        return {}

    # For the server

    def resume(self) -> None:
        """After a restart with state, when the server answers: what was under way is followed further, or failed."""
        for scope, _, document in self._projects.items():
            if document["ProjectStatus"].endswith("InProgress") or document["ProjectStatus"] == "Pending":
                self._follow(scope, document, {})

    def kill(self) -> None:
        self._stopping.set()

    def join(self) -> None:
        for thread in list(self._threads):
            thread.join()

    @property
    def busy(self) -> bool:
        return bool(self._threads)

    # Through Service Catalog

    def _provision(self, call: Call, document: Document, details: Request) -> dict[str, Any]:
        given = details.get("ProvisioningParameters", [])
        _refuse_own([one.get("Key") for one in given])
        asked: dict[str, Any] = {"ProductId": details["ProductId"]}
        asked |= {name: details[name] for name in ("ProvisioningArtifactId", "PathId") if name in details}
        catalog = self._loopback.callers_client("servicecatalog", call.scope, call.access_key)
        if "ProvisioningArtifactId" not in asked:
            asked["ProvisioningArtifactId"] = _newest_version(catalog, details["ProductId"])
        record = catalog.provision_product(
            **asked,
            ProvisionedProductName=f"{document['ProjectName']}-{document['ProjectId']}",
            ProvisioningParameters=[*given, *_pairs(_own_parameters(document))],
            Tags=_pairs(self._tags.of(call.scope, document["ProjectArn"]) | _own_tags(document)),
            ProvisionToken=document["ProjectId"],
        )["RecordDetail"]
        return {
            "ServiceCatalogProvisioningDetails": {**details, **asked},
            "ServiceCatalogProvisionedProductDetails": {"ProvisionedProductId": record["ProvisionedProductId"]},
            "RecordId": record["RecordId"],
        }

    def _update_product(self, call: Call, document: Document, details: Request) -> dict[str, Any]:
        before = document["ServiceCatalogProvisioningDetails"]
        given = details.get("ProvisioningParameters", [])
        _refuse_own([one.get("Key") for one in given])
        version = details.get("ProvisioningArtifactId", before["ProvisioningArtifactId"])
        catalog = self._loopback.callers_client("servicecatalog", call.scope, call.access_key)
        record = catalog.update_provisioned_product(
            ProvisionedProductId=document["ServiceCatalogProvisionedProductDetails"]["ProvisionedProductId"],
            ProductId=before["ProductId"],
            ProvisioningArtifactId=version,
            ProvisioningParameters=given,
        )["RecordDetail"]
        parameters = {one["Key"]: one for one in [*before.get("ProvisioningParameters", []), *given]}
        after = {**before, "ProvisioningArtifactId": version, "ProvisioningParameters": list(parameters.values())}
        return {"ServiceCatalogProvisioningDetails": after, "RecordId": record["RecordId"]}

    # From a template in S3

    def _create_stack(self, call: Call, document: Document, provider: Request) -> dict[str, Any]:
        given = {one["Key"]: one.get("Value", "") for one in provider.get("Parameters", [])}
        _refuse_own(list(given))
        _check_values(
            provider["TemplateURL"], self._form(call, provider["TemplateURL"]), given | _own_parameters(document)
        )
        url = object_address(provider["TemplateURL"]).url(call.scope.region)
        name = f"SP-{document['ProjectName']}-{document['ProjectId']}"
        cloudformation = self._loopback.callers_client("cloudformation", call.scope, call.access_key)
        tags = self._tags.of(call.scope, document["ProjectArn"]) | _own_tags(document)
        role = {"RoleARN": provider["RoleARN"]} if "RoleARN" in provider else {}
        stack = create_stack(
            cloudformation,
            name,
            TemplateURL=url,
            Parameters=_stack_parameters(given | _own_parameters(document)),
            Tags=_pairs(tags),
            Capabilities=CAPABILITIES,
            **role,
        )
        members = ("TemplateName", "TemplateURL", "RoleARN", "Parameters")
        detail = {member: provider[member] for member in members if member in provider}
        detail["StackDetail"] = {"Name": name, "Id": stack, "StatusMessage": "CREATE_IN_PROGRESS"}
        return {"TemplateProviderDetails": [{"CfnTemplateProviderDetail": detail}], "StackId": stack}

    def _update_stack(self, call: Call, document: Document, provider: Request) -> dict[str, Any]:
        """Parameters that are not given keep their values, where the new template has them."""
        detail = document["TemplateProviderDetails"][0]["CfnTemplateProviderDetail"]
        if provider["TemplateName"] != detail["TemplateName"]:
            raise validation_error(
                f"Project {document['ProjectName']} has no template {provider['TemplateName']};"
                f" it has {detail['TemplateName']}."
            )
        given = {one["Key"]: one.get("Value", "") for one in provider.get("Parameters", [])}
        _refuse_own(list(given))
        before = {one["Key"]: one.get("Value", "") for one in detail.get("Parameters", [])}
        form = self._form(call, provider["TemplateURL"])
        kept = {name: value for name, value in before.items() if name in form.parameters}
        values = kept | given | _own_parameters(document)
        _check_values(provider["TemplateURL"], form, values)
        url = object_address(provider["TemplateURL"]).url(call.scope.region)
        stack = detail["StackDetail"]["Id"]
        cloudformation = self._loopback.callers_client("cloudformation", call.scope, call.access_key)
        try:
            cloudformation.update_stack(
                StackName=stack, TemplateURL=url, Parameters=_stack_parameters(values), Capabilities=CAPABILITIES
            )
        except ClientError as error:
            if error.response["Error"]["Message"] != NO_UPDATES:
                raise
        after = {**detail, "TemplateURL": provider["TemplateURL"], "Parameters": _pairs(kept | given)}
        return {"TemplateProviderDetails": [{"CfnTemplateProviderDetail": after}], "StackId": stack}

    def _form(self, call: Call, url: str) -> TemplateForm:
        """The template at an address, read with the caller's rights.

        Raises:
            ServiceError: ValidationException: it is no template.
        """
        s3 = self._loopback.callers_client("s3", call.scope, call.access_key)
        try:
            address = object_address(url)
            body: bytes = s3.get_object(Bucket=address.bucket, Key=address.key)["Body"].read()
            return read_template(body.decode())
        except ValueError as error:  # UnicodeDecodeError too
            raise validation_error(f"TemplateURL {url}: {error}") from error

    def _delete_stack(self, call: Call, document: Document) -> dict[str, Any]:
        if "TemplateProviderDetails" in document:
            stack = document["TemplateProviderDetails"][0]["CfnTemplateProviderDetail"]["StackDetail"]["Id"]
            cloudformation = self._loopback.callers_client("cloudformation", call.scope, call.access_key)
            try:
                cloudformation.delete_stack(StackName=stack)
            except ClientError as error:
                if not is_missing(error):
                    raise
            return {"StackId": stack}
        provisioned = document.get("ServiceCatalogProvisionedProductDetails", {}).get("ProvisionedProductId")
        if provisioned is None:  # the server ended before it had one
            return {"Gone": True}
        catalog = self._loopback.callers_client("servicecatalog", call.scope, call.access_key)
        try:
            record = catalog.terminate_provisioned_product(ProvisionedProductId=provisioned)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            return {"Gone": True}
        return {"RecordId": record["RecordDetail"]["RecordId"]}

    # A change, from its request to its end

    def _reserve(self, call: Call, request: Request) -> Document:
        name, project_id = request["ProjectName"], f"p-{''.join(secrets.choice(_LETTERS) for _ in range(12))}"
        arn = call.arn(f"project/{name}")
        document = {
            "ProjectArn": arn,
            "ProjectName": name,
            "ProjectId": project_id,
            "ProjectDescription": request.get("ProjectDescription", ""),
            "ProjectStatus": "Pending",
            "Verb": "Create",
            "CreationTime": now(),
            "LastModifiedTime": now(),
            "CreatedBy": call.user_context,
            "LastModifiedBy": call.user_context,
        }
        with self._lock:
            existing = [each for each in self._projects.values(call.scope) if each["ProjectStatus"] != DELETED]
            # Their stacks' and resources' names differ in more than capitals.
            if any(each["ProjectName"].lower() == name.lower() for each in existing):
                raise validation_error(f"Project {name} already exists. Choose another name.")
            self._quotas.check_count("projects", len(existing))
            if self._projects.get(call.scope, name) is not None:
                self._projects.delete(call.scope, name)  # so that it is listed as new
            self._tags.set_on_create(call, arn, request.get("Tags"))
            self._projects.put(call.scope, name, document)
        return document

    def _begin(self, call: Call, document: Document, begin: Begin) -> None:
        """Ask for a change of a project that is there; when that is refused, the project is what it was.

        Raises:
            ServiceError: ValidationException, AccessDeniedException: the other service refuses.
        """
        try:
            with _refusals():
                begun = begin()
        except Exception:
            with self._lock:
                document["ProjectStatus"] = document["StatusBefore"]
                self._projects.put(call.scope, document["ProjectName"], document)
            raise
        self._follow(call.scope, document, begun)

    def _follow(self, scope: Scope, document: Document, begun: dict[str, Any]) -> None:
        with self._lock:
            if begun:
                for name in ("RecordId", "StackId", "Gone"):
                    document.pop(name, None)
                document |= begun | {"ProjectStatus": f"{document['Verb']}InProgress"}
                self._projects.put(scope, document["ProjectName"], document)

        def run() -> None:
            try:
                succeeded, message = self._end_of(scope, document)
                self._end(scope, document, succeeded, message)
            except Interrupted:
                pass
            except BotoCoreError:
                if not self._stopping.is_set():
                    logger.exception("Project %s is not followed any more", document["ProjectName"])
                    self._end(scope, document, False, "local_aws failed; its log has the reason.")
            except Exception:
                logger.exception("Project %s is not followed any more", document["ProjectName"])
                self._end(scope, document, False, "local_aws failed; its log has the reason.")
            finally:
                self._threads.discard(thread)

        thread = threading.Thread(target=run, daemon=True, name=f"project {document['ProjectName']}")
        self._threads.add(thread)
        thread.start()

    def _end_of(self, scope: Scope, document: Document) -> tuple[bool, str]:
        """Whether the change that is under way succeeded, and what is said of it."""
        if document.get("Gone"):
            return True, ""
        if "StackId" in document:
            end = follow(self._loopback.client("cloudformation", scope), document["StackId"], self._stopping)
            return end.succeeded, end.status if end.succeeded else f"{end.status}: {end.reason}"
        if "RecordId" not in document:
            return False, _WAITING_TO_BEGIN
        catalog = self._loopback.client("servicecatalog", scope)

        def ended() -> Document | None:
            record: Document = catalog.describe_record(Id=document["RecordId"])["RecordDetail"]
            return None if record["Status"] == "IN_PROGRESS" else record

        record = wait_for(ended, self._stopping)
        return record["Status"] == "SUCCEEDED", " ".join(one["Description"] for one in record["RecordErrors"])

    def _end(self, scope: Scope, document: Document, succeeded: bool, message: str) -> None:
        with self._lock:
            document["ProjectStatus"] = f"{document['Verb']}{'Completed' if succeeded else 'Failed'}"
            document["LastModifiedTime"] = now()
            for detail in document.get("TemplateProviderDetails", []):
                detail["CfnTemplateProviderDetail"]["StackDetail"]["StatusMessage"] = message or "-"
            if "ServiceCatalogProvisioningDetails" in document or "StackId" not in document:
                product = document.setdefault("ServiceCatalogProvisionedProductDetails", {})
                product.pop("ProvisionedProductStatusMessage", None)
                if message:
                    product["ProvisionedProductStatusMessage"] = message
            if document["ProjectStatus"] == DELETED:
                self._tags.forget(scope, document["ProjectArn"])
            self._projects.put(scope, document["ProjectName"], document)

    # Within

    def _project(self, scope: Scope, name: str) -> Document:
        found = self._projects.get(scope, name)
        if found is None:
            raise validation_error(f"Project {name} does not exist.")
        return found

    def _at_rest(self, scope: Scope, name: str) -> Document:
        document = self._project(scope, name)
        if document["ProjectStatus"] == DELETED:
            raise validation_error(f"Project {name} does not exist.")
        if document["ProjectStatus"].endswith("InProgress") or document["ProjectStatus"] == "Pending":
            raise ServiceError(
                "ConflictException", f"Project {name} is {document['ProjectStatus']}. Wait until that is done."
            )
        return document

    def _is_ours(self, scope: Scope, arn: str) -> bool:
        found = self._projects.get(scope, arn.rpartition("/")[2])
        return found is not None and found["ProjectArn"] == arn and found["ProjectStatus"] != DELETED


class _refusals:
    """What another service refuses becomes this one's refusal, in the same words."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        if isinstance(error, ClientError):
            said = error.response["Error"]
            code = "AccessDeniedException" if said["Code"] in _DENIED else "ValidationException"
            raise ServiceError(code, said["Message"]) from error
        if isinstance(error, BotoCoreError):
            raise validation_error(str(error)) from error


def _only_provider(request: Request, member: str) -> Request | None:
    """The CfnTemplateProvider of a list, which has one at most."""
    for each in request.get(member, []):
        if "CfnTemplateProvider" not in each:
            raise validation_error(f"{member} without a CfnTemplateProvider: there is no other kind.")
        provider: Request = each["CfnTemplateProvider"]
        return provider
    return None


def _newest_version(catalog: Any, product: str) -> str:
    versions = catalog.describe_product(Id=product)["ProvisioningArtifacts"]
    if not versions:
        raise validation_error(f"Product {product} has no active version. Give ProvisioningArtifactId.")
    return str(max(versions, key=lambda each: each["CreatedTime"])["Id"])


def _refuse_own(names: list[str | None]) -> None:
    if given := [name for name in (NAME_PARAMETER, ID_PARAMETER) if name in names]:
        raise validation_error(f"{' and '.join(given)} cannot be given: SageMaker fills it. Leave it out.")


def _check_values(url: str, form: TemplateForm, values: dict[str, str]) -> None:
    if missing := [name for name in (NAME_PARAMETER, ID_PARAMETER) if name not in form.parameters]:
        raise validation_error(
            f"The template at {url} has no parameter {' and '.join(missing)}, which SageMaker fills."
        )
    if faults := value_faults(form, values):
        raise validation_error("; ".join(faults))


def _own_parameters(document: Document) -> dict[str, str]:
    return {NAME_PARAMETER: document["ProjectName"], ID_PARAMETER: document["ProjectId"]}


def _own_tags(document: Document) -> dict[str, str]:
    return {NAME_TAG: document["ProjectName"], ID_TAG: document["ProjectId"]}


def _pairs(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in values.items()]


def _stack_parameters(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]
