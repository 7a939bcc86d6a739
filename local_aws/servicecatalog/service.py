"""Service Catalog: its parts, and what they share."""

from __future__ import annotations

from collections.abc import Callable

from local_aws.front_door import JsonService
from local_aws.loopback import Loopback
from local_aws.permissions.authorization import Authorization
from local_aws.servicecatalog.access import Access
from local_aws.servicecatalog.catalog import Catalog
from local_aws.servicecatalog.launched import Launched
from local_aws.servicecatalog.portfolios import Portfolios
from local_aws.servicecatalog.products import Products
from local_aws.servicecatalog.provisioning import Provisioning, Trusts
from local_aws.store import Store


class ServiceCatalog(JsonService):
    """
    Args:
        store: where everything is kept.
        loopback: clients for CloudFormation, S3 and IAM.
        identity_of: ARNs of the user or role that an access key is of, and of its session (ministack_host.identity_of).
        trusts: whether a role lets a service assume it (ministack_host.role_trusts).
        authorization: who may do what; without it everybody may do everything.
    """

    def __init__(
        self,
        store: Store,
        loopback: Loopback,
        identity_of: Callable[[str], tuple[str, str] | None],
        trusts: Trusts,
        authorization: Authorization | None = None,
    ) -> None:
        super().__init__("servicecatalog", "Service Catalog", "AWS242ServiceCatalogService.", authorization)
        catalog = Catalog(store)
        access = Access(catalog, loopback, identity_of)
        self.provisioning = Provisioning(catalog, access, loopback, trusts)
        launched = Launched(catalog, access)
        for part in (Portfolios(catalog), Products(catalog, access, loopback), self.provisioning, launched):
            self.operations.update(part.operations())

    def resume(self) -> None:
        """After a restart with state, when the server answers: changes that were under way are followed further."""
        self.provisioning.resume()

    def kill(self) -> None:
        """Begin and follow nothing more."""
        self.provisioning.kill()

    def stop(self) -> None:
        """The same, and wait for the threads."""
        self.provisioning.stop()
