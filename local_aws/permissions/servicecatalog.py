"""What each of Service Catalog's operations asks IAM.

Resources and condition keys: https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsservicecatalog.html.
Whether the caller is a principal of a portfolio is asked besides (local_aws.servicecatalog.access).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from local_aws.permissions.questions import (
    Ask,
    Context,
    Known,
    Question,
    Request,
    nothing_in_particular,
    pass_role,
    resource_tags,
    tags_in_request,
)

SERVICE = "servicecatalog.amazonaws.com"


def on_portfolio(member: str) -> Ask:
    def ask(action: str, request: Request, known: Known) -> list[Question]:
        return [
            Question(
                action, known.arn("catalog", f"portfolio/{request[member]}"), _portfolio_tags(request, known, member)
            )
        ]

    return ask


def on_product(id_member: str = "ProductId", name_member: str = "ProductName") -> Ask:
    """About a product, which the request names by its id or by its name; any one's ARN when it names none."""

    def ask(action: str, request: Request, known: Known) -> list[Question]:
        product_id = request.get(id_member) or known.product_id(request.get(name_member, ""))
        tags = known.catalog_tags("catalog_products", product_id)
        changes = tags_in_request(request.get("AddTags"))
        return [Question(action, known.arn("catalog", f"product/{product_id or '*'}"), resource_tags(tags) | changes)]

    return ask


def create(kind: str) -> Ask:
    """A new portfolio or product; its id is not known yet."""

    def ask(action: str, request: Request, known: Known) -> list[Question]:
        return [Question(action, known.arn("catalog", f"{kind}/*"), tags_in_request(request.get("Tags")))]

    return ask


def create_constraint(action: str, request: Request, known: Known) -> list[Question]:
    """Who says as which role a product is launched passes that role to Service Catalog.

    https://docs.aws.amazon.com/servicecatalog/latest/adminguide/constraints-launch.html
    """
    return [*on_product()(action, request, known), *_passed_role(action, request, known)]


def update_constraint(action: str, request: Request, known: Known) -> list[Question]:
    return [Question(action), *_passed_role(action, request, known)]


def of_level(action: str, request: Request, known: Known) -> list[Question]:
    """A list: of what the caller has made himself, his role or the whole account."""
    level = request.get("AccessLevelFilter", {}).get("Key", "User")
    return [Question(action, context={f"servicecatalog:{level.lower()}Level": "self"})]


def on_provisioned_product(id_member: str, name_member: str) -> Ask:
    def ask(action: str, request: Request, known: Known) -> list[Question]:
        found = known.provisioned_product(request.get(id_member), request.get(name_member))
        return [Question(action, context=_levels(found, known))]

    return ask


def on_record(action: str, request: Request, known: Known) -> list[Question]:
    return [Question(action, context=_levels(known.catalog_record(request["Id"]), known))]


def _levels(found: Mapping[str, str], known: Known) -> Context:
    """ "self" for each level at which the thing is the caller's own."""
    levels: Context = {"servicecatalog:accountLevel": "self"}
    if found and found["UserArn"] == known.principal:
        levels["servicecatalog:roleLevel"] = "self"
    if found and found["UserArnSession"] == known.session:
        levels["servicecatalog:userLevel"] = "self"
    return levels


def _portfolio_tags(request: Request, known: Known, member: str) -> Context:
    tags = known.catalog_tags("catalog_portfolios", request[member])
    return resource_tags(tags) | tags_in_request(request.get("AddTags"))


def _passed_role(action: str, request: Request, known: Known) -> list[Question]:
    try:
        found = json.loads(request.get("Parameters", "{}"))
    except ValueError:
        return []  # the service says what is wrong with it
    if not isinstance(found, dict):
        return []
    name = found.get("LocalRoleName")
    role = found.get("RoleArn") or (f"arn:aws:iam::{known.scope.account}:role/{name}" if name else None)
    return [pass_role(str(role), SERVICE, action)] if role else []


_PROVISIONED = on_provisioned_product("ProvisionedProductId", "ProvisionedProductName")

TABLE: dict[str, Ask] = {
    "CreatePortfolio": create("portfolio"),
    "DescribePortfolio": on_portfolio("Id"),
    "UpdatePortfolio": on_portfolio("Id"),
    "DeletePortfolio": on_portfolio("Id"),
    "ListPortfolios": nothing_in_particular,
    "AssociateProductWithPortfolio": nothing_in_particular,
    "DisassociateProductFromPortfolio": nothing_in_particular,
    "ListPortfoliosForProduct": on_product(),
    "AssociatePrincipalWithPortfolio": on_portfolio("PortfolioId"),
    "DisassociatePrincipalFromPortfolio": on_portfolio("PortfolioId"),
    "ListPrincipalsForPortfolio": on_portfolio("PortfolioId"),
    "CreateConstraint": create_constraint,
    "DescribeConstraint": nothing_in_particular,
    "UpdateConstraint": update_constraint,
    "ListConstraintsForPortfolio": nothing_in_particular,
    "DeleteConstraint": nothing_in_particular,
    "CreateProduct": create("product"),
    "DescribeProduct": on_product("Id", "Name"),
    "DescribeProductAsAdmin": on_product("Id", "Name"),
    "UpdateProduct": on_product("Id"),
    "DeleteProduct": on_product("Id"),
    "SearchProducts": nothing_in_particular,
    "SearchProductsAsAdmin": nothing_in_particular,
    "CreateProvisioningArtifact": on_product(),
    "DescribeProvisioningArtifact": on_product(),
    "ListProvisioningArtifacts": on_product(),
    "UpdateProvisioningArtifact": on_product(),
    "DeleteProvisioningArtifact": on_product(),
    "ListLaunchPaths": on_product(),
    "DescribeProvisioningParameters": on_product(),
    "ProvisionProduct": on_product(),
    "UpdateProvisionedProduct": _PROVISIONED,
    "TerminateProvisionedProduct": _PROVISIONED,
    "DescribeProvisionedProduct": on_provisioned_product("Id", "Name"),
    "SearchProvisionedProducts": of_level,
    "ScanProvisionedProducts": of_level,
    "GetProvisionedProductOutputs": nothing_in_particular,
    "DescribeRecord": on_record,
    "ListRecordHistory": of_level,
}
