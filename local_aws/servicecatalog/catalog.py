"""What Service Catalog keeps, its ids and ARNs, and how it is found.

Documents are the members that the API answers, and beside them what only the service needs to know.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from local_aws.calls import Call, Request, Response, ServiceError, page
from local_aws.sagemaker.client_tokens import ClientTokens
from local_aws.store import Document, Scope, Store, Table

_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_MOST_TAGS = 50


def new_id(prefix: str) -> str:
    """Such as "prod-4dm35moh4lx4q"."""
    return f"{prefix}-{''.join(secrets.choice(_ID_LETTERS) for _ in range(13))}"


def catalog_arn(scope: Scope, resource: str) -> str:
    """Of a portfolio or a product, such as "product/prod-4dm35moh4lx4q"."""
    return f"arn:aws:catalog:{scope.region}:{scope.account}:{resource}"


def invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParametersException", message)


def not_found(message: str) -> ServiceError:
    return ServiceError("ResourceNotFoundException", message)


class Catalog:
    """The tables, by id.

    A portfolio's document has ProductIds and Principals beside what it answers; a product's has its tags; a version's
    (provisioning artifact's) has its template's text, as it was when the version was made.
    """

    def __init__(self, store: Store) -> None:
        self.lock = store.lock
        self.portfolios = store.table("catalog_portfolios")
        self.products = store.table("catalog_products")
        self.versions = store.table("catalog_versions")
        self.constraints = store.table("catalog_constraints")
        self.provisioned = store.table("catalog_provisioned_products")
        self.records = store.table("catalog_records")
        self._tokens = ClientTokens(store)

    def once(self, call: Call, operation: str, request: Request, do: Callable[[], Response], token: str) -> Response:
        """The answer of `do`, or the earlier answer to the same token.

        Args:
            token: the request's member that has it.

        Raises:
            ServiceError: InvalidParametersException: the token came with another request before.
        """
        try:
            return self._tokens.once(call, f"servicecatalog:{operation}", request, do, token)
        except ServiceError as error:
            if error.code != "ConflictException":
                raise
            raise invalid(error.message) from error

    def tags(self, arn: str) -> dict[str, str] | None:
        """Of the portfolio or product with an ARN; None when there is none."""
        account_and_region, _, name = arn.removeprefix("arn:aws:catalog:").rpartition(":")
        region, _, account = account_and_region.partition(":")
        kind, _, key = name.partition("/")
        table = {"portfolio": self.portfolios, "product": self.products}.get(kind)
        found = table.get(Scope(account, region), key) if table else None
        return dict(found["Tags"]) if found else None

    # One, or an error

    def portfolio(self, scope: Scope, portfolio_id: str) -> Document:
        return _required(self.portfolios, scope, portfolio_id, "Portfolio")

    def product(self, scope: Scope, request: Request, id_member: str = "ProductId", name_member: str = "") -> Document:
        """The product that a request names, by its id or by its name.

        Raises:
            ServiceError: InvalidParametersException unless it has one of them; ResourceNotFoundException.
        """
        return self._named(
            self.products.values(scope), request, id_member, name_member, "Product", self.products, scope
        )

    def version(self, scope: Scope, product_id: str, request: Request) -> Document:
        """The version of a product that a request names, by its id or by its name.

        Raises:
            ServiceError: as `product`.
        """
        found = self._named(
            self.versions_of(scope, product_id),
            request,
            "ProvisioningArtifactId",
            "ProvisioningArtifactName",
            "ProvisioningArtifact",
            self.versions,
            scope,
        )
        if found["ProductId"] != product_id:
            raise not_found(f"ProvisioningArtifact {found['Id']} not found for product {product_id}.")
        return found

    def constraint(self, scope: Scope, constraint_id: str) -> Document:
        return _required(self.constraints, scope, constraint_id, "Constraint")

    def record(self, scope: Scope, record_id: str) -> Document:
        return _required(self.records, scope, record_id, "Record")

    def provisioned_product(self, scope: Scope, request: Request, id_member: str, name_member: str) -> Document:
        return self._named(
            self.provisioned.values(scope),
            request,
            id_member,
            name_member,
            "Provisioned product",
            self.provisioned,
            scope,
        )

    # Several

    def versions_of(self, scope: Scope, product_id: str) -> list[Document]:
        """Oldest first."""
        return [each for each in self.versions.values(scope) if each["ProductId"] == product_id]

    def portfolios_of(self, scope: Scope, product_id: str) -> list[Document]:
        return [each for each in self.portfolios.values(scope) if product_id in each["ProductIds"]]

    def constraints_on(self, scope: Scope, portfolio_id: str, product_id: str) -> dict[str, Document]:
        """Those on a product in a portfolio, by their types: there is one of each at most."""
        found = {}
        for each in self.constraints.values(scope):
            detail = each["ConstraintDetail"]
            if (detail["PortfolioId"], detail["ProductId"]) == (portfolio_id, product_id):
                found[detail["Type"]] = each
        return found

    @staticmethod
    def _named(
        documents: Iterable[Document],
        request: Request,
        id_member: str,
        name_member: str,
        noun: str,
        table: Table,
        scope: Scope,
    ) -> Document:
        given = [member for member in (id_member, name_member) if member in request]
        if len(given) != 1:
            both = f"{id_member} or {name_member}" if name_member else id_member
            raise invalid(f"Give {both}" + (", and not both." if given else "."))
        if given == [id_member]:
            return _required(table, scope, request[id_member], noun)
        name = request[name_member]  # of a provisioned product its ARN, too
        found = [each for each in documents if name in (each["Name"], each.get("Arn"))]
        if not found:
            raise not_found(f"{noun} {name} not found.")
        if len(found) > 1:
            ids = ", ".join(each["Id"] for each in found)
            raise invalid(f"There are several with the name {name} ({ids}). Give {id_member}.")
        return found[0]


def _required(table: Table, scope: Scope, key: str, noun: str) -> Document:
    found = table.get(scope, key)
    if found is None:
        raise not_found(f"{noun} {key} not found.")
    return found


def merged_tags(before: dict[str, str], request: Request) -> dict[str, str]:
    """Tags after a request's Tags, AddTags and RemoveTags.

    Raises:
        ServiceError: InvalidParametersException for duplicate, reserved or too many keys.
    """
    added = [*request.get("Tags", []), *request.get("AddTags", [])]
    keys = [tag["Key"] for tag in added]
    if duplicates := sorted({key for key in keys if keys.count(key) > 1}):
        raise invalid(f"Duplicate tag keys: {', '.join(duplicates)}. Give each key once.")
    if reserved := [key for key in keys if key.lower().startswith("aws:")]:
        raise invalid(f"Tag key {reserved[0]!r}: the prefix aws: is AWS's own. Choose another key.")
    left = {key: value for key, value in before.items() if key not in request.get("RemoveTags", [])}
    after = left | {tag["Key"]: tag["Value"] for tag in added}
    if len(after) > _MOST_TAGS:
        raise invalid(f"There would be {len(after)} tags; at most {_MOST_TAGS} are allowed. Remove some first.")
    return after


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def paged(
    items: Sequence[Any], request: Request, default: int = 20, position: Callable[[Any], Any] | None = None
) -> tuple[list[Any], dict[str, str]]:
    """One page, by PageSize and PageToken; beside it {"NextPageToken": ...} while there are more.

    Raises:
        ServiceError: InvalidParametersException for a token that no call gave out.
    """
    asked: Request = {"MaxResults": request.get("PageSize") or default}
    if "PageToken" in request:
        asked["NextToken"] = request["PageToken"]
    try:
        found, more = page(items, asked, position=position)
    except ServiceError as error:
        raise invalid("Invalid PageToken: use the one that the previous page answered.") from error
    return found, {"NextPageToken": more["NextToken"]} if more else {}


def path_id(portfolio_id: str, product_id: str) -> str:
    """Of the way to a product through a portfolio; always the same."""
    digest = hashlib.sha256(f"{portfolio_id}/{product_id}".encode()).digest()
    return f"lpv3-{''.join(_ID_LETTERS[byte % 32] for byte in digest[:13])}"
