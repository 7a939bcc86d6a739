"""Products and their versions, which the API calls provisioning artifacts: CloudFormation templates."""

from __future__ import annotations

from botocore.exceptions import ClientError

from local_aws.calls import Call, Operation, Request, Response, ServiceError
from local_aws.loopback import Loopback
from local_aws.s3_urls import object_address
from local_aws.sagemaker.times import now
from local_aws.servicecatalog.access import Access
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
from local_aws.store import Document
from local_aws.template_forms import Parameter, TemplateForm, read_template

TEMPLATE = "CLOUD_FORMATION_TEMPLATE"
_TEXTS = ("Name", "Owner", "Description", "Distributor", "SupportDescription", "SupportEmail", "SupportUrl")
_VERSION = ("Id", "Name", "Description", "Type", "CreatedTime", "Active", "Guidance")
_SORT_KEYS = {"Title": "Name", "CreationDate": "CreatedTime"}


class Products:
    def __init__(self, catalog: Catalog, access: Access, loopback: Loopback) -> None:
        self._catalog, self._access, self._loopback = catalog, access, loopback

    def operations(self) -> dict[str, Operation]:
        return {
            "CreateProduct": self.create,
            "DescribeProduct": self.describe,
            "DescribeProductAsAdmin": self.describe_as_admin,
            "UpdateProduct": self.update,
            "DeleteProduct": self.delete,
            "SearchProducts": self.search,
            "SearchProductsAsAdmin": self.search_as_admin,
            "CreateProvisioningArtifact": self.create_version,
            "DescribeProvisioningArtifact": self.describe_version,
            "ListProvisioningArtifacts": self.list_versions,
            "UpdateProvisioningArtifact": self.update_version,
            "DeleteProvisioningArtifact": self.delete_version,
            "ListLaunchPaths": self.list_launch_paths,
            "DescribeProvisioningParameters": self.describe_parameters,
        }

    # Products

    def create(self, call: Call, request: Request) -> Response:
        """Make a product with its first version.

        Raises:
            ServiceError: InvalidParametersException: a kind of product that is not built here, or a template that
                the caller cannot read or CloudFormation would not take.
        """
        _refuse_other_kinds(request["ProductType"], request)
        if "ProvisioningArtifactParameters" not in request:
            raise invalid("ProvisioningArtifactParameters is missing: a product begins with its first version.")
        parameters = request["ProvisioningArtifactParameters"]
        url, template = self._template(call, parameters)

        def do() -> Response:
            product_id = new_id("prod")
            document = {
                "Id": product_id,
                "ViewId": new_id("prodview"),
                "ARN": catalog_arn(call.scope, f"product/{product_id}"),
                "Type": request["ProductType"],
                "CreatedTime": now(),
                "Tags": merged_tags({}, request),
                **{name: request.get(name, "") for name in _TEXTS},
            }
            version = _new_version(product_id, parameters, url, template)
            self._catalog.products.put(call.scope, product_id, document)
            self._catalog.versions.put(call.scope, version["Id"], version)
            return {
                "ProductViewDetail": _view_detail(document),
                "ProvisioningArtifactDetail": _version_detail(version),
                "Tags": tag_list(document["Tags"]),
            }

        return self._catalog.once(call, "CreateProduct", request, do, "IdempotencyToken")

    def describe(self, call: Call, request: Request) -> Response:
        """As users see it: its active versions, and the ways by which they can launch it."""
        product = self._catalog.product(call.scope, request, "Id", "Name")
        paths = self._access.paths(call, product)
        if not paths:
            raise not_found(f"Product {product['Id']} not found.")
        names = ("Id", "Name", "Description", "CreatedTime", "Guidance")
        versions = [each for each in self._catalog.versions_of(call.scope, product["Id"]) if each["Active"]]
        return {
            "ProductViewSummary": _view(product),
            "ProvisioningArtifacts": [{name: each[name] for name in names} for each in versions],
            "Budgets": [],
            "LaunchPaths": [{"Id": path.id, "Name": path.portfolio["DisplayName"]} for path in paths],
        }

    def describe_as_admin(self, call: Call, request: Request) -> Response:
        product = self._catalog.product(call.scope, request, "Id", "Name")
        names = ("Id", "Name", "Description", "CreatedTime")
        return {
            "ProductViewDetail": _view_detail(product),
            "ProvisioningArtifactSummaries": [
                {name: each[name] for name in names} for each in self._catalog.versions_of(call.scope, product["Id"])
            ],
            "Tags": tag_list(product["Tags"]),
            "TagOptions": [],
            "Budgets": [],
        }

    def update(self, call: Call, request: Request) -> Response:
        _refuse_other_kinds(TEMPLATE, request)
        with self._catalog.lock:
            product = self._catalog.product(call.scope, {"Id": request["Id"]}, "Id")
            tags = merged_tags(product["Tags"], request)
            product |= {name: request[name] for name in _TEXTS if name in request} | {"Tags": tags}
            self._catalog.products.put(call.scope, product["Id"], product)
        return {"ProductViewDetail": _view_detail(product), "Tags": tag_list(tags)}

    def delete(self, call: Call, request: Request) -> Response:
        """Raises:
        ServiceError: ResourceInUseException while it is in a portfolio.
        """
        with self._catalog.lock:
            product = self._catalog.product(call.scope, request, "Id")
            if portfolios := self._catalog.portfolios_of(call.scope, product["Id"]):
                ids = ", ".join(each["Id"] for each in portfolios)
                raise ServiceError(
                    "ResourceInUseException", f"Product {product['Id']} is in {ids}. Take it out of them first."
                )
            for version in self._catalog.versions_of(call.scope, product["Id"]):
                self._catalog.versions.delete(call.scope, version["Id"])
            self._catalog.products.delete(call.scope, product["Id"])
        return {}

    def search(self, call: Call, request: Request) -> Response:
        """The products that the caller can launch."""
        visible = {one for each in self._access.visible_portfolios(call) for one in each["ProductIds"]}
        products = [each for each in self._catalog.products.values(call.scope) if each["Id"] in visible]
        found, more = paged(_matching(products, request), request)
        return {"ProductViewSummaries": [_view(each) for each in found], "ProductViewAggregations": {}, **more}

    def search_as_admin(self, call: Call, request: Request) -> Response:
        products = self._catalog.products.values(call.scope)
        if "PortfolioId" in request:
            inside = self._catalog.portfolio(call.scope, request["PortfolioId"])["ProductIds"]
            products = [each for each in products if each["Id"] in inside]
        found, more = paged(_matching(products, request), request)
        return {"ProductViewDetails": [_view_detail(each) for each in found], **more}

    # Versions

    def create_version(self, call: Call, request: Request) -> Response:
        product = self._catalog.product(call.scope, request)
        _refuse_other_kinds(request["Parameters"].get("Type", TEMPLATE), request)
        url, template = self._template(call, request["Parameters"])

        def do() -> Response:
            self._catalog.product(call.scope, request)  # it may be gone by now
            version = _new_version(product["Id"], request["Parameters"], url, template)
            self._catalog.versions.put(call.scope, version["Id"], version)
            return _version_described(version)

        return self._catalog.once(call, "CreateProvisioningArtifact", request, do, "IdempotencyToken")

    def describe_version(self, call: Call, request: Request) -> Response:
        version = self._version(call, request)
        described = _version_described(version)
        if request.get("IncludeProvisioningArtifactParameters"):
            described["ProvisioningArtifactParameters"] = parameters_of(read_template(version["Template"]))
        return described

    def list_versions(self, call: Call, request: Request) -> Response:
        product = self._catalog.product(call.scope, request)
        return {
            "ProvisioningArtifactDetails": [
                _version_detail(each) for each in self._catalog.versions_of(call.scope, product["Id"])
            ]
        }

    def update_version(self, call: Call, request: Request) -> Response:
        with self._catalog.lock:
            version = self._version(call, request)
            version |= {
                name: request[name] for name in ("Name", "Description", "Active", "Guidance") if name in request
            }
            self._catalog.versions.put(call.scope, version["Id"], version)
        return _version_described(version)

    def delete_version(self, call: Call, request: Request) -> Response:
        """Raises:
        ServiceError: ResourceInUseException: it is the product's last.
        """
        with self._catalog.lock:
            version = self._version(call, request)
            if len(self._catalog.versions_of(call.scope, version["ProductId"])) == 1:
                raise ServiceError(
                    "ResourceInUseException",
                    f"{version['Id']} is the last version of product {version['ProductId']}, which must have one."
                    " Delete the product, or make another version first.",
                )
            self._catalog.versions.delete(call.scope, version["Id"])
        return {}

    # Launching

    def list_launch_paths(self, call: Call, request: Request) -> Response:
        product = self._catalog.product(call.scope, request)
        paths = self._access.paths(call, product)
        if not paths:
            raise not_found(f"No launch paths found for resource: {product['Id']}")
        found, more = paged(paths, request)
        return {"LaunchPathSummaries": [path.summary() for path in found], **more}

    def describe_parameters(self, call: Call, request: Request) -> Response:
        product = self._catalog.product(call.scope, request, "ProductId", "ProductName")
        path = self._access.path(call, product, request)
        form = read_template(self._catalog.version(call.scope, product["Id"], request)["Template"])
        outputs = [{"Key": name, "Description": description} for name, description in form.outputs.items()]
        return {
            "ProvisioningArtifactParameters": parameters_of(form),
            "ConstraintSummaries": path.summary()["ConstraintSummaries"],
            "UsageInstructions": [],
            "TagOptions": [],
            "ProvisioningArtifactOutputKeys": outputs,
        }

    # Within

    def _version(self, call: Call, request: Request) -> Document:
        product = self._catalog.product(call.scope, request, "ProductId", "ProductName")
        return self._catalog.version(call.scope, product["Id"], request)

    def _template(self, call: Call, parameters: Request) -> tuple[str, str]:
        """Address and text of the template of a new version, read with the caller's rights."""
        url = parameters.get("Info", {}).get("LoadTemplateFromURL")
        if url is None or len(parameters["Info"]) > 1:
            raise invalid('Info of a version: {"LoadTemplateFromURL": "https://BUCKET.s3.REGION.amazonaws.com/KEY"}.')
        try:
            address = object_address(url)
            s3 = self._loopback.callers_client("s3", call.scope, call.access_key)
            body = s3.get_object(Bucket=address.bucket, Key=address.key)["Body"].read().decode()
            if not parameters.get("DisableTemplateValidation"):
                read_template(body)
                cloudformation = self._loopback.callers_client("cloudformation", call.scope, call.access_key)
                cloudformation.validate_template(TemplateURL=address.url(call.scope.region))
        except UnicodeDecodeError as error:
            raise invalid(f"The template at {url} is no text.") from error
        except ValueError as error:
            raise invalid(f"Invalid template {url}: {error}") from error
        except ClientError as error:
            raise invalid(f"Invalid template {url}: {error.response['Error']['Message']}") from error
        return url, body


def parameters_of(form: TemplateForm) -> list[Document]:
    """A template's parameters as DescribeProvisioningParameters answers them."""
    return [_parameter(one) for one in form.parameters.values()]


def _parameter(one: Parameter) -> Document:
    constraints = {
        "AllowedValues": list(one.allowed_values),
        "AllowedPattern": one.allowed_pattern,
        "ConstraintDescription": one.rule,
        "MinLength": one.shortest,
        "MaxLength": one.longest,
        "MinValue": one.minimum,
        "MaxValue": one.maximum,
    }
    found = {
        "ParameterKey": one.name,
        "DefaultValue": one.default,
        "ParameterType": one.type,
        "IsNoEcho": one.no_echo,
        "Description": one.description or None,
        "ParameterConstraints": {name: value for name, value in constraints.items() if value is not None},
    }
    return {name: value for name, value in found.items() if value is not None}


def _refuse_other_kinds(kind: str, request: Request) -> None:
    if kind != TEMPLATE:
        raise invalid(f"Products of type {kind} are not supported by local_aws; {TEMPLATE} is.")
    if "SourceConnection" in request:
        raise invalid("SourceConnection is not supported by local_aws: templates are read from S3. Leave it out.")


def _new_version(product_id: str, parameters: Request, url: str, template: str) -> Document:
    version_id = new_id("pa")
    return {
        "Id": version_id,
        "ProductId": product_id,
        "Name": parameters.get("Name", version_id),
        "Description": parameters.get("Description", ""),
        "Type": TEMPLATE,
        "CreatedTime": now(),
        "Active": True,
        "Guidance": "DEFAULT",
        "TemplateUrl": url,
        "Template": template,
    }


def _version_detail(version: Document) -> Document:
    return {name: version[name] for name in _VERSION}


def _version_described(version: Document) -> Response:
    return {
        "ProvisioningArtifactDetail": _version_detail(version),
        "Info": {"TemplateUrl": version["TemplateUrl"]},
        "Status": "AVAILABLE",
    }


def _view(product: Document) -> Document:
    return {
        "Id": product["ViewId"],
        "ProductId": product["Id"],
        "Name": product["Name"],
        "Owner": product["Owner"],
        "ShortDescription": product["Description"],
        "Type": product["Type"],
        "Distributor": product["Distributor"],
        "HasDefaultPath": False,
        "SupportEmail": product["SupportEmail"],
        "SupportDescription": product["SupportDescription"],
        "SupportUrl": product["SupportUrl"],
    }


def _view_detail(product: Document) -> Document:
    return {
        "ProductViewSummary": _view(product),
        "Status": "AVAILABLE",
        "ProductARN": product["ARN"],
        "CreatedTime": product["CreatedTime"],
    }


def _matching(products: list[Document], request: Request) -> list[Document]:
    """Those that the filters let through, in the order asked for (by name, unless it says otherwise)."""
    found = [each for each in products if all(_passes(each, *one) for one in request.get("Filters", {}).items())]
    sort_by = request.get("SortBy", "Title")
    if sort_by not in _SORT_KEYS:
        raise invalid(f"SortBy {sort_by} is not supported by local_aws; {', '.join(_SORT_KEYS)} are.")
    key = _SORT_KEYS[sort_by]
    return sorted(found, key=lambda each: (each[key], each["Id"]), reverse=request.get("SortOrder") == "DESCENDING")


def _passes(product: Document, name: str, values: list[str]) -> bool:
    if name == "FullTextSearch":
        text = " ".join(str(product[each]) for each in ("Id", *_TEXTS)).lower()
        return any(value.lower() in text for value in values)
    member = {"Owner": "Owner", "ProductType": "Type"}.get(name)
    if member is None:
        raise invalid(f"Filter {name} is not supported by local_aws; FullTextSearch, Owner and ProductType are.")
    return product[member] in values
