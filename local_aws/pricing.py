"""AWS's price list API, which cannot be had here: prices change and are not this machine's to know."""

from __future__ import annotations

from local_aws.calls import Call, Request, Response, ServiceError
from local_aws.front_door import JsonService
from local_aws.permissions.authorization import Authorization


class Pricing(JsonService):
    """Refuses by name, so that clients say that a price is unknown instead of trying again."""

    def __init__(self, authorization: Authorization | None = None) -> None:
        super().__init__("pricing", "the price list", "AWSPriceListService.", authorization)
        self.operations = {"GetProducts": self.get_products}

    def get_products(self, call: Call, request: Request) -> Response:
        raise ServiceError("AccessDeniedException", "local_aws knows no prices")
