"""CloudFormation's types AWS::ServiceCatalog::*, and what Service Catalog may give a stack that its callers may not:
templates from its own bucket, and tags whose keys begin with "aws:servicecatalog:".

Touches: the table of resource types' handlers, which of them run in a thread, which properties replace a resource and
which have tags; how templates are read and stacks' tags checked.
"""

from __future__ import annotations

import contextvars
import json
import re
from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local_aws.loopback import Loopback
from local_aws.ministack_host.app import before_first_request, request_scope
from local_aws.ministack_host.handler_errors import handler_message
from local_aws.ministack_host.permissions import request_access_key
from local_aws.permissions import Denied, Permissions
from local_aws.servicecatalog.provisioning import Provisioning, template_url

Properties = dict[str, Any]
# (physical id, what Fn::GetAtt answers)
Made = tuple[str, dict[str, Any]]

OWN_TAGS = "aws:servicecatalog:"
_TYPE = "AWS::ServiceCatalog::"
_PORTFOLIO = ("DisplayName", "ProviderName", "Description")
_PRODUCT = ("Name", "Owner", "Description", "Distributor", "SupportDescription", "SupportEmail", "SupportUrl")
# Properties whose change makes the resource anew (createOnlyProperties of the types' schemas).
_REPLACING = {
    "PortfolioProductAssociation": ("SourcePortfolioId", "AcceptLanguage", "PortfolioId", "ProductId"),
    "PortfolioPrincipalAssociation": ("AcceptLanguage", "PortfolioId", "PrincipalARN", "PrincipalType"),
    "LaunchRoleConstraint": ("PortfolioId", "ProductId"),
    "ResourceUpdateConstraint": ("PortfolioId", "ProductId"),
}

_gives_own_tags: contextvars.ContextVar[bool] = contextvars.ContextVar("gives own tags", default=False)


def offer_catalog(permissions: Permissions, loopback: Loopback, provisioning: Provisioning) -> None:
    """Let templates have Service Catalog's types, and Service Catalog make stacks.

    To be called before `authorize_stacks`: how templates are read must be asked for here first.
    """
    before_first_request("cloudformation", lambda: _offer(permissions, loopback, provisioning))


def _offer(permissions: Permissions, loopback: Loopback, provisioning: Provisioning) -> None:
    from ministack.services.cloudformation import provisioners, stacks

    types = _Types(loopback).handlers()
    provisioners._RESOURCE_HANDLERS.update(types)
    for name in ("Portfolio", "CloudFormationProduct"):
        provisioners._STACK_TAG_PROPERTY[_TYPE + name] = ("Tags", "list")
    provisioners._REPLACING_PROPERTIES.update({_TYPE + name: fixed for name, fixed in _REPLACING.items()})
    in_thread = stacks._runs_on_worker_thread
    # Their handlers call this server.
    stacks._runs_on_worker_thread = lambda kind: kind.startswith(_TYPE) or in_thread(kind)
    _read_own_templates(permissions, provisioning)
    _give_own_tags(provisioning)
    _know_tags(provisioning)


def _know_tags(provisioning: Provisioning) -> None:
    """Let IAM be asked with the tags of portfolios and products that CloudFormation changes."""
    from ministack.services import tagging

    tags_of = tagging.resource_tags

    def tags(arn: str) -> dict[str, str] | None:
        found: dict[str, str] | None = provisioning.tags(arn) if arn.startswith("arn:aws:catalog:") else tags_of(arn)
        return found

    tagging.resource_tags = tags


def _read_own_templates(permissions: Permissions, provisioning: Provisioning) -> None:
    """Let CloudFormation read a version's template from Service Catalog's bucket, as whoever it was called by.

    Launch roles are given s3:GetObject for objects with the tag servicecatalog:provisioning
    (https://docs.aws.amazon.com/servicecatalog/latest/adminguide/constraints-launch.html).
    """
    from ministack.services.cloudformation import helpers

    resolve_document = helpers._resolve_document

    def read(params: dict[str, Any], body_key: str, url_key: str, label: str) -> Any:
        scope, url = request_scope(), helpers._p(params, url_key)
        version = url.rpartition("/")[2].removesuffix(".template")
        if url != template_url(scope, version) or helpers._p(params, body_key):
            return resolve_document(params, body_key, url_key, label)
        template = provisioning.template(scope, version)
        if template is None:
            return None, helpers._error("ValidationError", f"{label} not found at {url}")
        arn = re.sub(r"^https://[^/]+/", "arn:aws:s3:::", url)
        context = {"s3:ExistingObjectTag/servicecatalog:provisioning": "true"}
        try:
            permissions.check(
                scope, request_access_key(), "s3:GetObject", arn, context, because="cloudformation:CreateStack"
            )
        except Denied as denied:
            return None, helpers._error("ValidationError", f"S3 error: Access Denied ({denied})")
        return template, None

    helpers._resolve_document = read


def _give_own_tags(provisioning: Provisioning) -> None:
    from ministack.services import cloudformation
    from ministack.services.cloudformation import helpers

    check_tags, actions = helpers._validate_stack_tags, cloudformation._ACTION_HANDLERS

    def check_others(tags: list[dict[str, Any]]) -> Any:
        if _gives_own_tags.get():
            tags = [tag for tag in tags if not str(tag.get("Key", "")).startswith(OWN_TAGS)]
        return check_tags(tags)

    def tagged(handle: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
        def handle_tagged(params: dict[str, Any]) -> Any:
            tags = provisioning.stack_tags(request_scope(), helpers._p(params, "StackName"))
            if not tags:
                return handle(params)
            given = len(helpers._extract_members(params, "Tags"))
            for number, (key, value) in enumerate(tags.items(), given + 1):
                params[f"Tags.member.{number}.Key"] = [key]
                params[f"Tags.member.{number}.Value"] = [value]
            token = _gives_own_tags.set(True)
            try:
                return handle(params)
            finally:
                _gives_own_tags.reset(token)

        return handle_tagged

    helpers._validate_stack_tags = check_others
    for name in ("CreateStack", "UpdateStack"):
        actions[name] = tagged(actions[name])


class _Types:
    """The types' handlers. IAM was asked before (ministack_host.cloudformation), so they act as the account's root."""

    def __init__(self, loopback: Loopback) -> None:
        self._loopback = loopback

    def handlers(self) -> dict[str, dict[str, Callable[..., Any]]]:
        by_type: dict[str, dict[str, Callable[..., Any]]] = {
            "Portfolio": {
                "create": self.create_portfolio,
                "update": self.update_portfolio,
                "delete": self.delete_portfolio,
            },
            "CloudFormationProduct": {
                "create": self.create_product,
                "update": self.update_product,
                "delete": self.delete_product,
            },
            "PortfolioProductAssociation": {
                "create": self.associate_product,
                "delete": self.disassociate_product,
            },
            "PortfolioPrincipalAssociation": {
                "create": self.associate_principal,
                "delete": self.disassociate_principal,
            },
            "LaunchRoleConstraint": self._constraint("LAUNCH", _launch_role),
            "ResourceUpdateConstraint": self._constraint("RESOURCE_UPDATE", _tag_updates),
        }
        return {_TYPE + name: handlers for name, handlers in by_type.items()}

    def create_portfolio(self, _logical_id: str, properties: Properties, _stack: str) -> Made:
        answer = self._call("create_portfolio", **_given(properties, _PORTFOLIO), Tags=_tags(properties))
        return _portfolio(answer)

    def update_portfolio(self, portfolio: str, before: Properties, properties: Properties, _stack: str) -> Made:
        texts = {"Description": ""} | _given(properties, _PORTFOLIO)
        return _portfolio(self._call("update_portfolio", Id=portfolio, **texts, **_tag_changes(before, properties)))

    def delete_portfolio(self, portfolio: str, _properties: Properties) -> None:
        self._delete("delete_portfolio", Id=portfolio)

    def create_product(self, _logical_id: str, properties: Properties, _stack: str) -> Made:
        versions = _versions(properties)
        if not versions:
            raise ValueError(handler_message("ProvisioningArtifactParameters is missing.", "InvalidRequest"))
        answer = self._call(
            "create_product",
            **_given(properties, _PRODUCT),
            ProductType=properties.get("ProductType", "CLOUD_FORMATION_TEMPLATE"),
            ProvisioningArtifactParameters=versions[0],
            Tags=_tags(properties),
        )
        product = answer["ProductViewDetail"]["ProductViewSummary"]["ProductId"]
        try:
            for version in versions[1:]:
                self._call("create_provisioning_artifact", ProductId=product, Parameters=version)
        except ValueError:
            self._delete("delete_product", Id=product)
            raise
        return self._product(product, properties)

    def update_product(self, product: str, before: Properties, properties: Properties, _stack: str) -> Made:
        """Versions are the same when name and template's address are the same; the others are made, or go."""
        texts = dict.fromkeys(_given(before, _PRODUCT), "") | _given(properties, _PRODUCT)
        self._call("update_product", Id=product, **texts, **_tag_changes(before, properties))
        replace_all = str(properties.get("ReplaceProvisioningArtifacts", "")).lower() == "true"
        old = {_identity(version): version for version in _versions(before)}
        new = {_identity(version): version for version in _versions(properties)}
        known = {} if replace_all and old != new else self._version_ids(product)
        gone = self._version_ids(product)
        for identity, version in new.items():
            if identity in old and identity in known:
                gone.pop(identity)
                if version != old[identity]:
                    description = version.get("Description", "")
                    self._call(
                        "update_provisioning_artifact",
                        ProductId=product,
                        ProvisioningArtifactId=known[identity],
                        Description=description,
                    )
            else:
                self._call("create_provisioning_artifact", ProductId=product, Parameters=version)
        for identity, version_id in gone.items():
            if identity in old:
                self._delete("delete_provisioning_artifact", ProductId=product, ProvisioningArtifactId=version_id)
        return self._product(product, properties)

    def delete_product(self, product: str, _properties: Properties) -> None:
        self._delete("delete_product", Id=product)

    def associate_product(self, _logical_id: str, properties: Properties, _stack: str) -> Made:
        asked = _given(properties, ("PortfolioId", "ProductId", "SourcePortfolioId"))
        self._call("associate_product_with_portfolio", **asked)
        return f"{properties['PortfolioId']}|{properties['ProductId']}", {}

    def disassociate_product(self, association: str, _properties: Properties) -> None:
        portfolio, _, product = association.partition("|")
        self._delete("disassociate_product_from_portfolio", PortfolioId=portfolio, ProductId=product)

    def associate_principal(self, _logical_id: str, properties: Properties, _stack: str) -> Made:
        asked = _given(properties, ("PortfolioId", "PrincipalARN", "PrincipalType"))
        self._call("associate_principal_with_portfolio", **asked)
        return f"{properties['PortfolioId']}|{properties['PrincipalARN']}", {}

    def disassociate_principal(self, association: str, properties: Properties) -> None:
        portfolio, _, principal = association.partition("|")
        self._delete(
            "disassociate_principal_from_portfolio",
            PortfolioId=portfolio,
            PrincipalARN=principal,
            PrincipalType=properties.get("PrincipalType", "IAM"),
        )

    def _constraint(self, kind: str, parameters: Callable[[Properties], str]) -> dict[str, Callable[..., Any]]:
        """The handlers of a type of constraint, whose Parameters are made from the resource's properties."""

        def create(_logical_id: str, properties: Properties, _stack: str) -> Made:
            answer = self._call(
                "create_constraint",
                **_given(properties, ("PortfolioId", "ProductId", "Description")),
                Type=kind,
                Parameters=parameters(properties),
            )
            constraint = answer["ConstraintDetail"]["ConstraintId"]
            return constraint, {"Id": constraint}

        def update(constraint: str, _before: Properties, properties: Properties, _stack: str) -> Made:
            texts = {"Description": properties.get("Description", "")}
            self._call("update_constraint", Id=constraint, Parameters=parameters(properties), **texts)
            return constraint, {"Id": constraint}

        def delete(constraint: str, _properties: Properties) -> None:
            self._delete("delete_constraint", Id=constraint)

        return {"create": create, "update": update, "delete": delete}

    # Within

    def _call(self, operation: str, **request: Any) -> dict[str, Any]:
        client = self._loopback.client("servicecatalog", request_scope())
        try:
            answer: dict[str, Any] = getattr(client, operation)(**request)
        except ClientError as error:
            said = error.response["Error"]
            raise ValueError(handler_message(said["Message"], _handler_code(said["Code"]))) from error
        except BotoCoreError as error:
            raise ValueError(handler_message(str(error), "InvalidRequest")) from error
        return answer

    def _delete(self, operation: str, **request: Any) -> None:
        """What is gone already is gone."""
        client = self._loopback.client("servicecatalog", request_scope())
        try:
            getattr(client, operation)(**request)
        except ClientError as error:
            said = error.response["Error"]
            if said["Code"] != "ResourceNotFoundException":
                raise ValueError(handler_message(said["Message"], _handler_code(said["Code"]))) from error

    def _version_ids(self, product: str) -> dict[tuple[str, str], str]:
        """The ids of the product's versions, by their names and addresses."""
        found = {}
        for version in self._call("list_provisioning_artifacts", ProductId=product)["ProvisioningArtifactDetails"]:
            described = self._call(
                "describe_provisioning_artifact", ProductId=product, ProvisioningArtifactId=version["Id"]
            )
            found[version["Name"], described["Info"]["TemplateUrl"]] = version["Id"]
        return found

    def _product(self, product: str, properties: Properties) -> Made:
        versions = self._call("list_provisioning_artifacts", ProductId=product)["ProvisioningArtifactDetails"]
        return product, {
            "Id": product,
            "ProductName": properties.get("Name"),
            "ProvisioningArtifactIds": ",".join(version["Id"] for version in versions),
            "ProvisioningArtifactNames": ",".join(version["Name"] for version in versions),
        }


def _portfolio(answer: dict[str, Any]) -> Made:
    detail = answer["PortfolioDetail"]
    return detail["Id"], {"Id": detail["Id"], "PortfolioName": detail["DisplayName"]}


def _given(properties: Properties, names: tuple[str, ...]) -> Properties:
    return {name: str(properties[name]) for name in names if properties.get(name) is not None}


def _tags(properties: Properties) -> list[dict[str, str]]:
    """Without CloudFormation's own, which only it may give."""
    tags = [{"Key": str(tag["Key"]), "Value": str(tag["Value"])} for tag in properties.get("Tags") or []]
    return [tag for tag in tags if not tag["Key"].startswith("aws:")]


def _tag_changes(before: Properties, properties: Properties) -> Properties:
    now = _tags(properties)
    gone = {tag["Key"] for tag in _tags(before)} - {tag["Key"] for tag in now}
    return {"AddTags": now, "RemoveTags": sorted(gone)}


def _versions(properties: Properties) -> list[Properties]:
    versions = []
    for given in properties.get("ProvisioningArtifactParameters") or []:
        version = _given(given, ("Name", "Description", "Type"))
        version["Info"] = {key: str(value) for key, value in (given.get("Info") or {}).items()}
        if str(given.get("DisableTemplateValidation", "")).lower() == "true":
            version["DisableTemplateValidation"] = True
        versions.append(version)
    return versions


def _identity(version: Properties) -> tuple[str, str]:
    return version.get("Name", ""), version["Info"].get("LoadTemplateFromURL", "")


def _launch_role(properties: Properties) -> str:
    return json.dumps(_given(properties, ("RoleArn", "LocalRoleName")))


def _tag_updates(properties: Properties) -> str:
    return json.dumps({"Version": "2.0", "Properties": _given(properties, ("TagUpdateOnProvisionedProduct",))})


def _handler_code(code: str) -> str:
    """What CloudFormation calls a service's error.

    https://docs.aws.amazon.com/cloudformation-cli/latest/userguide/resource-type-test-contract-errors.html
    """
    known = {"ResourceNotFoundException": "NotFound", "DuplicateResourceException": "AlreadyExists"}
    known["ResourceInUseException"] = "ResourceConflict"
    return known.get(code, "InvalidRequest")
