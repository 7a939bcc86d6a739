"""Project templates that a person may see: products of Service Catalog, and templates in the domain's S3 folder.

https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-projects-templates-custom.html
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from botocore.exceptions import ClientError

from local_aws.s3_urls import object_address
from local_aws.template_forms import Group, Parameter, TemplateForm, read_template

Route = Literal["servicecatalog", "s3"]
Clients = Callable[[str], Any]  # boto3's clients by service, each made once: functools.cache(boto3.Session().client)

VISIBLE = ("sagemaker:studio-visibility", "true")  # the tag of a product, and of a template's object
LOCATION = "sagemaker:projectS3TemplatesLocation"  # the tag of a domain: s3://bucket/prefix/
FILLED_BY_SAGEMAKER = ("SageMakerProjectName", "SageMakerProjectId")
_DENIED = ("AccessDenied", "AccessDeniedException", "403")


@dataclass(frozen=True)
class Template:
    """Something that a project can be made from.

    Args:
        name: a product's, or an object's without its folder and ending.
        form: what it asks; empty until `with_form` has read it.
        product, version, path: Service Catalog's ids: the newest version, the first way to it.
        url: of the object in S3.
    """

    route: Route
    name: str
    description: str = ""
    form: TemplateForm = field(default_factory=TemplateForm)
    product: str = ""
    version: str = ""
    path: str = ""
    url: str = ""

    @property
    def asked(self) -> list[Group]:
        """The parameters that a person fills, in their groups.

        Not those that SageMaker fills, nor those whose value is read from Systems Manager: the platform's are there.
        """
        groups = [replace(group, parameters=tuple(filter(_is_asked, group.parameters))) for group in self.form.groups]
        return [group for group in groups if group.parameters]


def _is_asked(parameter: Parameter) -> bool:
    own = parameter.name in FILLED_BY_SAGEMAKER
    return not own and not (parameter.from_store and parameter.default is not None)


def find_templates(clients: Clients, domain: str | None = None) -> list[Template]:
    """Every template that this person may see, without what it asks.

    Args:
        domain: the Studio domain's id; None: every domain's S3 folder is looked into.

    Raises:
        ClientError: a call was refused for another reason than that the person may not make it.
    """
    return [*_if_allowed(lambda: _products(clients)), *_if_allowed(lambda: _objects(clients, domain))]


def find_template(clients: Clients, name: str, route: Route | None = None, domain: str | None = None) -> Template:
    """The template of that name, with what it asks.

    Raises:
        LookupError: there is none, or there is one of each route and `route` does not say which.
    """
    templates = [one for one in find_templates(clients, domain) if route in (None, one.route)]
    found = [one for one in templates if one.name == name]
    if not found:
        names = ", ".join(sorted({one.name for one in templates})) or "none"
        raise LookupError(f"--template {name}: there is no such template that you may see; there are: {names}.")
    if len(found) > 1:
        routes = ", ".join(one.route for one in found)
        raise LookupError(f"--template {name}: there are {len(found)} ({routes}). Say --route servicecatalog or s3.")
    return with_form(clients, found[0])


def with_form(clients: Clients, template: Template) -> Template:
    """The template with what it asks."""
    if template.route == "s3":
        return replace(template, form=_read(clients, template.url))
    catalog = clients("servicecatalog")
    answer = catalog.describe_provisioning_parameters(
        ProductId=template.product, ProvisioningArtifactId=template.version, PathId=template.path
    )
    plain = tuple(_parameter(one) for one in answer["ProvisioningArtifactParameters"])
    return replace(template, form=_as_written(clients, template) or TemplateForm(groups=(Group("", plain),)))


def _products(clients: Clients) -> list[Template]:
    catalog, found = clients("servicecatalog"), []
    for page in _pages(catalog):
        for summary in page["ProductViewSummaries"]:
            product = summary["ProductId"]
            path = _visible_path(catalog, product)
            versions = catalog.describe_product(Id=product)["ProvisioningArtifacts"] if path else []
            if path and versions:
                newest = max(versions, key=lambda each: each["CreatedTime"])
                found.append(
                    Template(
                        "servicecatalog",
                        summary["Name"],
                        summary.get("ShortDescription", ""),
                        product=product,
                        version=newest["Id"],
                        path=path,
                    )
                )
    return found


def _pages(catalog: Any) -> Any:
    """Of SearchProducts, for which botocore has no paginator."""
    more: dict[str, str] = {}
    while True:
        page = catalog.search_products(**more)
        yield page
        if "NextPageToken" not in page:
            return
        more = {"PageToken": page["NextPageToken"]}


def _visible_path(catalog: Any, product: str) -> str | None:
    """The first way to a product that has Studio's tag: users see products' tags there alone."""
    for path in catalog.list_launch_paths(ProductId=product)["LaunchPathSummaries"]:
        if VISIBLE in [(tag["Key"], tag["Value"]) for tag in path["Tags"]]:
            return str(path["Id"])
    return None


def _objects(clients: Clients, domain: str | None) -> list[Template]:
    found: dict[str, Template] = {}
    for location in _locations(clients, domain):
        bucket, _, prefix = location.removeprefix("s3://").partition("/")
        look = functools.partial(_in_folder, clients, bucket, prefix)
        found |= {template.url: template for template in _if_allowed(look)}
    return list(found.values())


def _in_folder(clients: Clients, bucket: str, prefix: str) -> list[Template]:
    s3 = clients("s3")
    found = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for each in page.get("Contents", []):
            key = each["Key"]
            if not key.endswith((".yaml", ".yml")):
                continue
            tags = s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
            if VISIBLE in [(tag["Key"], tag["Value"]) for tag in tags]:
                name = key.rpartition("/")[2].rpartition(".")[0]
                found.append(Template("s3", name, url=f"https://{bucket}.s3.{s3.meta.region_name}.amazonaws.com/{key}"))
    return found


def _locations(clients: Clients, domain: str | None) -> list[str]:
    sagemaker, found = clients("sagemaker"), []
    for page in sagemaker.get_paginator("list_domains").paginate():
        for each in page["Domains"]:
            if domain in (None, each["DomainId"]):
                tags = sagemaker.list_tags(ResourceArn=each["DomainArn"])["Tags"]
                found += [tag["Value"] for tag in tags if tag["Key"] == LOCATION]
    return found


def _if_allowed(look: Callable[[], list[Template]]) -> list[Template]:
    """Who may not look sees nothing, as in Studio."""
    try:
        return look()
    except ClientError as error:
        if error.response["Error"]["Code"] in _DENIED:
            return []
        raise


def _read(clients: Clients, url: str) -> TemplateForm:
    address = object_address(url)
    body: bytes = clients("s3").get_object(Bucket=address.bucket, Key=address.key)["Body"].read()
    return read_template(body.decode())


def _as_written(clients: Clients, template: Template) -> TemplateForm | None:
    """With its labels and groups, which Service Catalog does not tell, for who may read the template itself."""
    try:
        described = clients("servicecatalog").describe_provisioning_artifact(
            ProductId=template.product, ProvisioningArtifactId=template.version
        )
        return _read(clients, described["Info"]["TemplateUrl"])
    except (ClientError, KeyError, ValueError):
        return None


def _parameter(one: dict[str, Any]) -> Parameter:
    constraints = one.get("ParameterConstraints", {})
    return Parameter(
        one["ParameterKey"],
        one.get("ParameterType", "String"),
        one.get("DefaultValue"),
        description=one.get("Description", ""),
        allowed_values=tuple(constraints.get("AllowedValues", [])),
        allowed_pattern=constraints.get("AllowedPattern"),
        minimum=constraints.get("MinValue"),
        maximum=constraints.get("MaxValue"),
        shortest=constraints.get("MinLength"),
        longest=constraints.get("MaxLength"),
        rule=constraints.get("ConstraintDescription"),
        no_echo=one.get("IsNoEcho", False),
    )
