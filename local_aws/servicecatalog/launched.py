"""Products that were launched, and the records of what became of them, as they are read."""

from __future__ import annotations

from local_aws.calls import Call, Operation, Request, Response
from local_aws.servicecatalog.access import Access
from local_aws.servicecatalog.catalog import Catalog, invalid, paged, tag_list
from local_aws.store import Document

# Members of a provisioned product's document, as they are answered.
_SUMMARY = (
    "Name",
    "Arn",
    "Type",
    "Id",
    "Status",
    "StatusMessage",
    "CreatedTime",
    "IdempotencyToken",
    "LastRecordId",
    "LastProvisioningRecordId",
    "LastSuccessfulProvisioningRecordId",
    "ProductId",
    "ProvisioningArtifactId",
)
_DETAIL = (*_SUMMARY, "LaunchRoleArn")
_ATTRIBUTE = (*_SUMMARY, "PhysicalId", "ProductName", "ProvisioningArtifactName", "UserArn", "UserArnSession")
_LEVELS = {"Account": "", "Role": "UserArn", "User": "UserArnSession"}  # by what it is one's own


class Launched:
    def __init__(self, catalog: Catalog, access: Access) -> None:
        self._catalog, self._access = catalog, access

    def operations(self) -> dict[str, Operation]:
        return {
            "DescribeProvisionedProduct": self.describe,
            "SearchProvisionedProducts": self.search,
            "ScanProvisionedProducts": self.scan,
            "GetProvisionedProductOutputs": self.outputs,
            "DescribeRecord": self.describe_record,
            "ListRecordHistory": self.list_records,
        }

    def describe(self, call: Call, request: Request) -> Response:
        document = self._catalog.provisioned_product(call.scope, request, "Id", "Name")
        return {"ProvisionedProductDetail": _only(document, _DETAIL), "CloudWatchDashboards": []}

    def search(self, call: Call, request: Request) -> Response:
        """Those of the caller's level (AccessLevelFilter; without it his own) that the filters let through."""
        found = self._of_level(call, self._catalog.provisioned.values(call.scope), request)
        for name, queries in request.get("Filters", {}).items():
            if name != "SearchQuery":
                raise invalid(f"Filter {name} is not supported by local_aws; SearchQuery is.")
            found = [each for each in found if any(_matches(each, query) for query in queries)]
        sort_by = {"createdTime": "CreatedTime", "name": "Name", "status": "Status", "id": "Id"}.get(
            request.get("SortBy", "createdTime")
        )
        if sort_by is None:
            raise invalid(f"SortBy {request['SortBy']} is not supported: createdTime, id, name and status are.")
        found.sort(key=lambda each: (each[sort_by], each["Id"]), reverse=request.get("SortOrder") != "ASCENDING")
        shown, more = paged(found, request)
        products = [_only(each, _ATTRIBUTE) | {"Tags": tag_list(each["Tags"])} for each in shown]
        return {"ProvisionedProducts": products, "TotalResultsCount": len(found), **more}

    def scan(self, call: Call, request: Request) -> Response:
        found = self._of_level(call, self._catalog.provisioned.values(call.scope), request)
        shown, more = paged(found, request)
        return {"ProvisionedProducts": [_only(each, _DETAIL) for each in shown], **more}

    def outputs(self, call: Call, request: Request) -> Response:
        """Of the last change that succeeded.

        Raises:
            ServiceError: InvalidParametersException for an output that there is not.
        """
        document = self._catalog.provisioned_product(
            call.scope, request, "ProvisionedProductId", "ProvisionedProductName"
        )
        record_id = document.get("LastSuccessfulProvisioningRecordId")
        found = self._catalog.record(call.scope, record_id)["Outputs"] if record_id else []
        if keys := request.get("OutputKeys"):
            found = [each for each in found if each["OutputKey"] in keys]
            if missing := [key for key in keys if key not in [each["OutputKey"] for each in found]]:
                raise invalid(f"Provisioned product {document['Id']} has no output {', '.join(missing)}.")
        shown, more = paged(found, request)
        return {"Outputs": shown, **more}

    def describe_record(self, call: Call, request: Request) -> Response:
        record = self._catalog.record(call.scope, request["Id"])
        shown, more = paged(record["Outputs"], request)
        return {"RecordDetail": record["Detail"], "RecordOutputs": shown, **more}

    def list_records(self, call: Call, request: Request) -> Response:
        """The newest first."""
        found = self._of_level(call, self._catalog.records.values(call.scope), request)
        if "SearchFilter" in request:
            name, value = request["SearchFilter"].get("Key"), request["SearchFilter"].get("Value")
            member = {"product": "ProductId", "provisionedproduct": "ProvisionedProductId"}.get(str(name))
            if member is None:
                raise invalid("SearchFilter Key: product or provisionedproduct.")
            found = [each for each in found if each["Detail"].get(member) == value]
        shown, more = paged(found[::-1], request)
        return {"RecordDetails": [each["Detail"] for each in shown], **more}

    # Within

    def _of_level(self, call: Call, documents: list[Document], request: Request) -> list[Document]:
        level = request.get("AccessLevelFilter", {"Key": "User", "Value": "self"})
        if level.get("Value", "self") != "self":
            raise invalid("AccessLevelFilter Value: self is the only one.")
        own = dict(zip(("UserArn", "UserArnSession"), self._access.caller(call), strict=True))
        member = _LEVELS[level.get("Key", "User")]
        return [each for each in documents if not member or each[member] == own[member]]


def _only(document: Document, names: tuple[str, ...]) -> Document:
    return {name: document[name] for name in names if document.get(name) is not None}


def _matches(document: Document, query: str) -> bool:
    """Whether a provisioned product is what a query such as "name:churn" or "churn" asks for."""
    name, colon, value = query.partition(":")
    text = {each.lower(): str(document.get(each, "")) for each in _ATTRIBUTE}
    if colon and name.lower() in text:
        return text[name.lower()].lower() == value.strip('"').lower()
    if colon and name == "arn":
        return document["Arn"] == value
    return any(query.strip('"').lower() in each.lower() for each in text.values())
