"""Who may see and launch which product: principals of the portfolios that have it.

IAM is asked besides, at the service's door.
https://docs.aws.amazon.com/servicecatalog/latest/adminguide/catalogs_portfolios_users.html
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from dataclasses import dataclass

from local_aws.calls import Call, Request
from local_aws.loopback import Loopback
from local_aws.servicecatalog.catalog import Catalog, invalid, not_found, path_id, tag_list
from local_aws.store import Document, Scope

LAUNCH, RESOURCE_UPDATE = "LAUNCH", "RESOURCE_UPDATE"  # types of constraints


@dataclass(frozen=True)
class LaunchPath:
    """A way to a product: through one portfolio.

    Args:
        launch_role: ARN of the role that CloudFormation acts as; None: it acts as whoever launches.
        tags: of portfolio and product.
        updates_tags: whether an update of what was launched may change its tags.
    """

    id: str
    portfolio: Document
    product: Document
    launch_role: str | None
    tags: dict[str, str]
    updates_tags: bool = False

    def summary(self) -> Document:
        constraints = [{"Type": LAUNCH, "Description": f"Launch as {self.launch_role}"}] if self.launch_role else []
        if self.updates_tags:
            constraints.append({"Type": RESOURCE_UPDATE, "Description": "Tags can be updated"})
        name = self.portfolio["DisplayName"]
        return {"Id": self.id, "ConstraintSummaries": constraints, "Tags": tag_list(self.tags), "Name": name}


class Access:
    """
    Args:
        identity_of: ARNs of the user or role that an access key is of, with its path, and of its session; None for the
            account itself (ministack_host.identity_of).
    """

    def __init__(
        self, catalog: Catalog, loopback: Loopback, identity_of: Callable[[str], tuple[str, str] | None]
    ) -> None:
        self._catalog, self._loopback, self._identity_of = catalog, loopback, identity_of

    def caller(self, call: Call) -> tuple[str, str]:
        """ARNs of the user or role that calls, and of its session; both are the account's root when that calls."""
        root = f"arn:aws:iam::{call.scope.account}:root"
        return self._identity_of(call.access_key) or (root, root)

    def visible_portfolios(self, call: Call) -> list[Document]:
        """Those of which the caller is a principal; all of them while IAM is not enforced: everybody is root then."""
        portfolios = self._catalog.portfolios.values(call.scope)
        if not self._loopback.enforced:
            return portfolios
        identities = self._identities(call)
        return [
            each
            for each in portfolios
            if any(_is(identity, principal) for principal in each["Principals"] for identity in identities)
        ]

    def paths(self, call: Call, product: Document) -> list[LaunchPath]:
        """The caller's ways to a product, oldest portfolio first."""
        found = []
        for portfolio in self.visible_portfolios(call):
            if product["Id"] in portfolio["ProductIds"]:
                constraints = self._catalog.constraints_on(call.scope, portfolio["Id"], product["Id"])
                found.append(
                    LaunchPath(
                        path_id(portfolio["Id"], product["Id"]),
                        portfolio,
                        product,
                        constraints.get(LAUNCH, {}).get("LaunchRole"),
                        portfolio["Tags"] | product["Tags"],
                        constraints.get(RESOURCE_UPDATE, {}).get("UpdatesTags", False),
                    )
                )
        return found

    def path(self, call: Call, product: Document, request: Request) -> LaunchPath:
        """The way that a request names by PathId or PathName; without them the only one.

        Raises:
            ServiceError: ResourceNotFoundException: there is none for the caller; InvalidParametersException: there are
                several.
        """
        paths = self.paths(call, product)
        if not paths:
            raise not_found(f"No launch paths found for resource: {product['Id']}")
        wanted = [
            each
            for each in paths
            if request.get("PathId", each.id) == each.id
            and request.get("PathName", each.portfolio["DisplayName"]) == each.portfolio["DisplayName"]
        ]
        if not wanted:
            raise not_found(f"No launch path {request.get('PathId') or request.get('PathName')} to {product['Id']}.")
        if len(wanted) > 1:
            raise invalid("More than one launch path ids exist. Please specify the launch path id")
        return wanted[0]

    def _identities(self, call: Call) -> list[str]:
        """ARNs that the caller goes by: his own, and those of his groups."""
        identity = self._identity_of(call.access_key)
        return [identity[0], *self._groups(call.scope, identity[0])] if identity else []

    def _groups(self, scope: Scope, principal: str) -> list[str]:
        if ":user/" not in principal:
            return []
        name = principal.rpartition("/")[2]
        answer = self._loopback.client("iam", scope).list_groups_for_user(UserName=name)
        return [group["Arn"] for group in answer["Groups"]]


def _is(identity: str, principal: Document) -> bool:
    """Whether a principal of a portfolio means the identity.

    Of type IAM_PATTERN it has no account, and "*" and "?" stand for characters.
    """
    if principal["PrincipalType"] == "IAM":
        return identity == str(principal["PrincipalARN"])
    without_account = re.sub(r"^(arn:[^:]*:iam:):\d{12}:", r"\1::", identity)
    return fnmatch.fnmatchcase(without_account, re.sub(r"\[", "[[]", principal["PrincipalARN"]))
