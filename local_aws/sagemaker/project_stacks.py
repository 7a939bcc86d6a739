"""What is asked of Service Catalog, CloudFormation and S3 for a project, with the caller's rights.

Each answers what the project's document then has besides: what to tell, and what to follow (RecordId or StackId).
"""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local_aws.calls import Call, Request, ServiceError, validation_error
from local_aws.loopback import Loopback
from local_aws.s3_urls import object_address
from local_aws.sagemaker.tags import Tags
from local_aws.stack_changes import CAPABILITIES, NO_UPDATES, create_stack, is_missing
from local_aws.store import Document, Scope
from local_aws.template_forms import TemplateForm, read_template, value_faults

NAME_PARAMETER, ID_PARAMETER = "SageMakerProjectName", "SageMakerProjectId"
NAME_TAG, ID_TAG = "sagemaker:project-name", "sagemaker:project-id"
_DENIED = ("AccessDenied", "AccessDeniedException")


class ProjectStacks:
    def __init__(self, tags: Tags, loopback: Loopback) -> None:
        self._tags, self._loopback = tags, loopback

    # Through Service Catalog

    def provision(self, call: Call, document: Document, details: Request) -> dict[str, Any]:
        given = details.get("ProvisioningParameters", [])
        _refuse_own([one.get("Key") for one in given])
        asked: dict[str, Any] = {"ProductId": details["ProductId"]}
        asked |= {name: details[name] for name in ("ProvisioningArtifactId", "PathId") if name in details}
        catalog = self._loopback.callers_client("servicecatalog", call.scope, call.access_key)
        if "ProvisioningArtifactId" not in asked:
            asked["ProvisioningArtifactId"] = _newest_version(catalog, details["ProductId"])
        record = catalog.provision_product(
            **asked,
            ProvisionedProductName=product_name(document),
            ProvisioningParameters=[*given, *_pairs(_own_parameters(document))],
            Tags=_pairs(self._tags.of(call.scope, document["ProjectArn"]) | _own_tags(document)),
            ProvisionToken=document["ProjectId"],
        )["RecordDetail"]
        return {
            "ServiceCatalogProvisioningDetails": {**details, **asked},
            "ServiceCatalogProvisionedProductDetails": {"ProvisionedProductId": record["ProvisionedProductId"]},
            "RecordId": record["RecordId"],
        }

    def update_product(
        self, call: Call, document: Document, details: Request, tags: list[dict[str, str]]
    ) -> dict[str, Any]:
        """To the product's newest version, unless `details` name one: those before may be gone."""
        provisioned = document.get("ServiceCatalogProvisionedProductDetails", {}).get("ProvisionedProductId")
        if provisioned is None:
            raise _never_begun(document)
        before = document["ServiceCatalogProvisioningDetails"]
        given = details.get("ProvisioningParameters", [])
        _refuse_own([one.get("Key") for one in given])
        catalog = self._loopback.callers_client("servicecatalog", call.scope, call.access_key)
        version = details.get("ProvisioningArtifactId") or _newest_version(catalog, before["ProductId"])
        own = _own_tags(document)
        given_tags = {"Tags": [tag for tag in tags if tag["Key"] not in own]} if tags else {}
        record = catalog.update_provisioned_product(
            ProvisionedProductId=provisioned,
            ProductId=before["ProductId"],
            ProvisioningArtifactId=version,
            ProvisioningParameters=given,
            **given_tags,
        )["RecordDetail"]
        parameters = {one["Key"]: one for one in [*before.get("ProvisioningParameters", []), *given]}
        after = {**before, "ProvisioningArtifactId": version, "ProvisioningParameters": list(parameters.values())}
        return {"ServiceCatalogProvisioningDetails": after, "RecordId": record["RecordId"]}

    # From a template in S3

    def create_stack(self, call: Call, document: Document, provider: Request) -> dict[str, Any]:
        given = {one["Key"]: one.get("Value", "") for one in provider.get("Parameters", [])}
        _refuse_own(list(given))
        _check_values(
            provider["TemplateURL"], self._form(call, provider["TemplateURL"]), given | _own_parameters(document)
        )
        url = object_address(provider["TemplateURL"]).url(call.scope.region)
        detail = document["TemplateProviderDetails"][0]["CfnTemplateProviderDetail"]
        name = detail["StackDetail"]["Name"]
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
        return _stack_of(detail, stack)

    def update_stack(self, call: Call, document: Document, provider: Request) -> dict[str, Any]:
        """Parameters that are not given keep their values, where the new template has them."""
        detail = document["TemplateProviderDetails"][0]["CfnTemplateProviderDetail"]
        if "Id" not in detail["StackDetail"]:
            raise _never_begun(document)
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

    def delete(self, call: Call, document: Document) -> dict[str, Any]:
        if "TemplateProviderDetails" in document:
            detail = document["TemplateProviderDetails"][0]["CfnTemplateProviderDetail"]
            stack = detail["StackDetail"].get("Id")
            if stack is None:  # the server ended before it had one
                return {"Gone": True}
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

    def find(self, scope: Scope, document: Document) -> dict[str, Any]:
        """What a server that was killed had asked for and did not come to note: it has the project's name and id."""
        try:
            if "ServiceCatalogProvisioningDetails" in document:
                catalog = self._loopback.client("servicecatalog", scope)
                product = catalog.describe_provisioned_product(Name=product_name(document))["ProvisionedProductDetail"]
                known = {"ProvisionedProductId": product["Id"]}
                return {"ServiceCatalogProvisionedProductDetails": known, "RecordId": product["LastRecordId"]}
            detail = document["TemplateProviderDetails"][0]["CfnTemplateProviderDetail"]
            cloudformation = self._loopback.client("cloudformation", scope)
            stack = cloudformation.describe_stacks(StackName=detail["StackDetail"]["Name"])["Stacks"][0]["StackId"]
            return _stack_of(detail, stack)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException" and not is_missing(error):
                raise
            return {}


class refusals:
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


def only_provider(request: Request, member: str) -> Request | None:
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


def product_name(document: Document) -> str:
    """Of the provisioned product of a project; nobody else can have chosen it."""
    return f"{document['ProjectName']}-{document['ProjectId']}"


def _stack_of(detail: Document, stack: str) -> dict[str, Any]:
    """Of a project from a template in S3: what its document has besides once there is a stack of that id."""
    stack_detail = {"Name": detail["StackDetail"]["Name"], "Id": stack, "StatusMessage": "CREATE_IN_PROGRESS"}
    known = {**detail, "StackDetail": stack_detail}
    return {"TemplateProviderDetails": [{"CfnTemplateProviderDetail": known}], "StackId": stack}


def _never_begun(document: Document) -> ServiceError:
    return validation_error(
        f"Project {document['ProjectName']} has no stack, since local_aws was stopped before that was begun. Delete it."
    )


def _own_parameters(document: Document) -> dict[str, str]:
    return {NAME_PARAMETER: document["ProjectName"], ID_PARAMETER: document["ProjectId"]}


def _own_tags(document: Document) -> dict[str, str]:
    return {NAME_TAG: document["ProjectName"], ID_TAG: document["ProjectId"]}


def _pairs(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in values.items()]


def _stack_parameters(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]
