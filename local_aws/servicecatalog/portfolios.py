"""Portfolios: the products in them, who may use them, as which role their products are launched, and whether updates
may change tags.
"""

from __future__ import annotations

import json
import re
from typing import Any

from local_aws.calls import Call, Operation, Request, Response, ServiceError
from local_aws.sagemaker.times import now
from local_aws.servicecatalog.access import LAUNCH, RESOURCE_UPDATE
from local_aws.servicecatalog.catalog import (
    Catalog,
    catalog_arn,
    invalid,
    merged_tags,
    new_id,
    not_found,
    paged,
    tag_list,
)
from local_aws.store import Document, Scope

_DETAIL = ("Id", "ARN", "DisplayName", "Description", "CreatedTime", "ProviderName")
_PRINCIPALS = {
    "IAM": re.compile(r"arn:aws[a-z-]*:iam::\d{12}:(role|user|group)/[\w+=,.@/-]+"),
    "IAM_PATTERN": re.compile(r"arn:aws[a-z-]*:iam:::(role|user|group)/[\w+=,.@/*?-]+"),
}
_PRINCIPAL_FORMS = {
    "IAM": "arn:aws:iam::ACCOUNT:role/NAME (or user, or group)",
    "IAM_PATTERN": "arn:aws:iam:::role/NAME (or user, or group), without an account; * and ? stand for characters",
}


class Portfolios:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def operations(self) -> dict[str, Operation]:
        return {
            "CreatePortfolio": self.create,
            "DescribePortfolio": self.describe,
            "UpdatePortfolio": self.update,
            "DeletePortfolio": self.delete,
            "ListPortfolios": self.list,
            "AssociateProductWithPortfolio": self.associate_product,
            "DisassociateProductFromPortfolio": self.disassociate_product,
            "ListPortfoliosForProduct": self.list_for_product,
            "AssociatePrincipalWithPortfolio": self.associate_principal,
            "DisassociatePrincipalFromPortfolio": self.disassociate_principal,
            "ListPrincipalsForPortfolio": self.list_principals,
            "CreateConstraint": self.create_constraint,
            "DescribeConstraint": self.describe_constraint,
            "UpdateConstraint": self.update_constraint,
            "ListConstraintsForPortfolio": self.list_constraints,
            "DeleteConstraint": self.delete_constraint,
        }

    # Portfolios

    def create(self, call: Call, request: Request) -> Response:
        def do() -> Response:
            portfolio_id = new_id("port")
            document = {
                "Id": portfolio_id,
                "ARN": catalog_arn(call.scope, f"portfolio/{portfolio_id}"),
                "DisplayName": request["DisplayName"],
                "Description": request.get("Description", ""),
                "ProviderName": request["ProviderName"],
                "CreatedTime": now(),
                "Tags": merged_tags({}, request),
                "ProductIds": [],
                "Principals": [],
            }
            self._catalog.portfolios.put(call.scope, portfolio_id, document)
            return _described(document)

        return self._catalog.once(call, "CreatePortfolio", request, do, "IdempotencyToken")

    def describe(self, call: Call, request: Request) -> Response:
        return _described(self._catalog.portfolio(call.scope, request["Id"])) | {"TagOptions": [], "Budgets": []}

    def update(self, call: Call, request: Request) -> Response:
        with self._catalog.lock:
            document = self._catalog.portfolio(call.scope, request["Id"])
            tags = merged_tags(document["Tags"], request)
            changed = {
                name: request[name] for name in ("DisplayName", "Description", "ProviderName") if name in request
            }
            document |= changed | {"Tags": tags}
            self._catalog.portfolios.put(call.scope, document["Id"], document)
        return _described(document)

    def delete(self, call: Call, request: Request) -> Response:
        """Raises:
        ServiceError: ResourceInUseException while it has products, principals or constraints.
        """
        with self._catalog.lock:
            document = self._catalog.portfolio(call.scope, request["Id"])
            if document["ProductIds"] or document["Principals"]:
                raise ServiceError(
                    "ResourceInUseException",
                    f"Portfolio {document['Id']} still has {len(document['ProductIds'])} product(s) and"
                    f" {len(document['Principals'])} principal(s). Take them out of it first.",
                )
            self._catalog.portfolios.delete(call.scope, document["Id"])
        return {}

    def list(self, call: Call, request: Request) -> Response:
        found, more = paged(self._catalog.portfolios.values(call.scope), request)
        return {"PortfolioDetails": [_detail(each) for each in found], **more}

    # Products in portfolios

    def associate_product(self, call: Call, request: Request) -> Response:
        if "SourcePortfolioId" in request:
            raise invalid("SourcePortfolioId is not supported by local_aws: portfolios are not shared. Leave it out.")
        with self._catalog.lock:
            portfolio = self._catalog.portfolio(call.scope, request["PortfolioId"])
            product = self._catalog.product(call.scope, request)
            if product["Id"] not in portfolio["ProductIds"]:
                portfolio["ProductIds"].append(product["Id"])
                self._catalog.portfolios.put(call.scope, portfolio["Id"], portfolio)
        return {}

    def disassociate_product(self, call: Call, request: Request) -> Response:
        """Raises:
        ServiceError: ResourceInUseException while a constraint is on the product in this portfolio.
        """
        with self._catalog.lock:
            portfolio = self._catalog.portfolio(call.scope, request["PortfolioId"])
            product_id = request["ProductId"]
            if product_id not in portfolio["ProductIds"]:
                raise not_found(f"Product {product_id} is not in portfolio {portfolio['Id']}.")
            if constraints := self._catalog.constraints_on(call.scope, portfolio["Id"], product_id):
                ids = ", ".join(each["Id"] for each in constraints.values())
                raise ServiceError(
                    "ResourceInUseException",
                    f"Constraint {ids} is on product {product_id} in portfolio {portfolio['Id']}. Delete it first.",
                )
            portfolio["ProductIds"].remove(product_id)
            self._catalog.portfolios.put(call.scope, portfolio["Id"], portfolio)
        return {}

    def list_for_product(self, call: Call, request: Request) -> Response:
        product = self._catalog.product(call.scope, request)
        found, more = paged(self._catalog.portfolios_of(call.scope, product["Id"]), request)
        return {"PortfolioDetails": [_detail(each) for each in found], **more}

    # Principals

    def associate_principal(self, call: Call, request: Request) -> Response:
        """Raises:
        ServiceError: InvalidParametersException: the ARN is none of its type.
        """
        principal = _principal(request, request["PrincipalType"])
        if not _PRINCIPALS[principal["PrincipalType"]].fullmatch(principal["PrincipalARN"]):
            raise invalid(
                f"Invalid principal {principal['PrincipalARN']}: of type {principal['PrincipalType']} it is"
                f" {_PRINCIPAL_FORMS[principal['PrincipalType']]}."
            )
        with self._catalog.lock:
            portfolio = self._catalog.portfolio(call.scope, request["PortfolioId"])
            if principal not in portfolio["Principals"]:
                portfolio["Principals"].append(principal)
                self._catalog.portfolios.put(call.scope, portfolio["Id"], portfolio)
        return {}

    def disassociate_principal(self, call: Call, request: Request) -> Response:
        with self._catalog.lock:
            portfolio = self._catalog.portfolio(call.scope, request["PortfolioId"])
            principal = _principal(request, request.get("PrincipalType", "IAM"))
            if principal not in portfolio["Principals"]:
                raise not_found(f"{principal['PrincipalARN']} is no principal of portfolio {portfolio['Id']}.")
            portfolio["Principals"].remove(principal)
            self._catalog.portfolios.put(call.scope, portfolio["Id"], portfolio)
        return {}

    def list_principals(self, call: Call, request: Request) -> Response:
        found, more = paged(self._catalog.portfolio(call.scope, request["PortfolioId"])["Principals"], request)
        return {"Principals": found, **more}

    # Constraints

    def create_constraint(self, call: Call, request: Request) -> Response:
        """Say as which role a product of a portfolio is launched, or whether updates may change tags.

        Raises:
            ServiceError: InvalidParametersException for a type of constraint that is not built here, or parameters
                that are not its own; DuplicateResourceException: there is one of the type already.
        """
        kind = request["Type"]
        meaning = _meaning(call.scope, kind, request["Parameters"])

        def do() -> Response:
            portfolio = self._catalog.portfolio(call.scope, request["PortfolioId"])
            product = self._catalog.product(call.scope, request)
            if product["Id"] not in portfolio["ProductIds"]:
                raise not_found(f"Product {product['Id']} is not in portfolio {portfolio['Id']}.")
            if kind in self._catalog.constraints_on(call.scope, portfolio["Id"], product["Id"]):
                raise ServiceError(
                    "DuplicateResourceException",
                    f"Product {product['Id']} in portfolio {portfolio['Id']} has a {kind} constraint already.",
                )
            constraint_id = new_id("cons")
            document = {
                "Id": constraint_id,
                "ConstraintDetail": {
                    "ConstraintId": constraint_id,
                    "Type": kind,
                    "Description": request.get("Description", ""),
                    "Owner": call.scope.account,
                    "ProductId": product["Id"],
                    "PortfolioId": portfolio["Id"],
                },
                "ConstraintParameters": request["Parameters"],
                **meaning,
            }
            self._catalog.constraints.put(call.scope, constraint_id, document)
            return _constraint(document)

        return self._catalog.once(call, "CreateConstraint", request, do, "IdempotencyToken")

    def describe_constraint(self, call: Call, request: Request) -> Response:
        return _constraint(self._catalog.constraint(call.scope, request["Id"]))

    def update_constraint(self, call: Call, request: Request) -> Response:
        with self._catalog.lock:
            document = self._catalog.constraint(call.scope, request["Id"])
            if "Parameters" in request:
                document |= _meaning(call.scope, document["ConstraintDetail"]["Type"], request["Parameters"])
                document["ConstraintParameters"] = request["Parameters"]
            if "Description" in request:
                document["ConstraintDetail"]["Description"] = request["Description"]
            self._catalog.constraints.put(call.scope, document["Id"], document)
        return _constraint(document)

    def list_constraints(self, call: Call, request: Request) -> Response:
        portfolio = self._catalog.portfolio(call.scope, request["PortfolioId"])
        details = [each["ConstraintDetail"] for each in self._catalog.constraints.values(call.scope)]
        details = [
            each
            for each in details
            if each["PortfolioId"] == portfolio["Id"]
            and request.get("ProductId", each["ProductId"]) == each["ProductId"]
        ]
        found, more = paged(details, request)
        return {"ConstraintDetails": found, **more}

    def delete_constraint(self, call: Call, request: Request) -> Response:
        with self._catalog.lock:
            document = self._catalog.constraint(call.scope, request["Id"])
            self._catalog.constraints.delete(call.scope, document["Id"])
        return {}


def _meaning(scope: Scope, kind: str, parameters: str) -> Document:
    """What a constraint's Parameters say: LaunchRole (an ARN) or UpdatesTags.

    Raises:
        ServiceError: InvalidParametersException: they are not of this type, or it is not built here.
    """
    if kind not in (LAUNCH, RESOURCE_UPDATE):
        raise invalid(f"Constraints of type {kind} are not supported by local_aws; {LAUNCH} and {RESOURCE_UPDATE} are.")
    try:
        found: Any = json.loads(parameters)
    except ValueError as error:
        raise invalid(f"Parameters of the constraint are not JSON: {error}") from error
    if kind == LAUNCH:
        return {"LaunchRole": _launch_role(scope, found)}
    properties = found.get("Properties") if isinstance(found, dict) else None
    value = properties.get("TagUpdateOnProvisionedProduct") if isinstance(properties, dict) else None
    if value not in ("ALLOWED", "NOT_ALLOWED"):
        raise invalid(
            f"Parameters of a {RESOURCE_UPDATE} constraint:"
            ' {"Version": "2.0", "Properties": {"TagUpdateOnProvisionedProduct": "ALLOWED"}} (or "NOT_ALLOWED").'
        )
    return {"UpdatesTags": value == "ALLOWED"}


def _launch_role(scope: Scope, found: Any) -> str:
    if not isinstance(found, dict) or len({"RoleArn", "LocalRoleName"} & found.keys()) != 1:
        raise invalid('Parameters of a LAUNCH constraint: {"RoleArn": "arn:aws:iam::..."} or {"LocalRoleName": "..."}.')
    if "LocalRoleName" in found:
        return f"arn:aws:iam::{scope.account}:role/{found['LocalRoleName']}"
    if not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", str(found["RoleArn"])):
        raise invalid(f"RoleArn {found['RoleArn']} of the constraint is no role's ARN.")
    return str(found["RoleArn"])


def _principal(request: Request, kind: str) -> Document:
    return {"PrincipalARN": request["PrincipalARN"], "PrincipalType": kind}


def _detail(portfolio: Document) -> Document:
    return {name: portfolio[name] for name in _DETAIL}


def _described(portfolio: Document) -> Response:
    return {"PortfolioDetail": _detail(portfolio), "Tags": tag_list(portfolio["Tags"])}


def _constraint(document: Document) -> Response:
    return {
        "ConstraintDetail": document["ConstraintDetail"],
        "ConstraintParameters": document["ConstraintParameters"],
        "Status": "AVAILABLE",
    }
