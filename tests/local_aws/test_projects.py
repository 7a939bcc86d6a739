"""SageMaker projects by both routes, with IAM enforced."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from local_aws import LocalAWS
from tests.local_aws.catalog_stand import (
    BUCKET,
    LAUNCH_RIGHTS,
    MAY_LAUNCH,
    SMALL_TEMPLATE,
    STACK_ACTIONS,
    TOPIC_ACTIONS,
    URL,
    Catalog,
    Person,
    a_person,
    make_catalog,
    new_name,
    pairs,
    policy,
)
from tests.local_aws.clients import refused
from tests.local_aws.people import root
from tests.local_aws.waiting import STACK_PAUSE, wait_for

ROUTES = ("servicecatalog", "s3")
PROJECTS = "arn:aws:sagemaker:us-east-1:123456789012:project"


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS(enforce_iam=True) as server:
        yield server


@pytest.fixture(scope="module")
def catalog(aws: LocalAWS) -> Catalog:
    return make_catalog(aws)


@pytest.fixture(scope="module")
def ann(catalog: Catalog) -> Person:
    """Who may make projects by both routes, and nothing with topics."""
    person = catalog.member()
    return person.may(
        MAY_LAUNCH,
        (["sagemaker:*Project*", "sagemaker:AddTags", "sagemaker:ListTags"], f"{PROJECTS}/*"),
        (["sagemaker:ListProjects"], "*"),
        (STACK_ACTIONS, "arn:aws:cloudformation:us-east-1:123456789012:stack/SP-*"),
        (["s3:GetObject"], f"arn:aws:s3:::{BUCKET}/*"),
        (["iam:PassRole"], catalog.role),
    )


@pytest.fixture(scope="module")
def sagemaker(ann: Person) -> Any:
    return ann.client("sagemaker")


def what_from(catalog: Catalog, route: str, values: Mapping[str, str], url: str = URL) -> dict[str, Any]:
    if route == "servicecatalog":
        details = {"ProductId": catalog.product, "ProvisioningParameters": pairs(values)}
        return {"ServiceCatalogProvisioningDetails": details}
    provider = {"TemplateName": "small", "TemplateURL": url, "RoleARN": catalog.role, "Parameters": pairs(values)}
    return {"TemplateProviders": [{"CfnTemplateProvider": provider}]}


def create(sagemaker: Any, catalog: Catalog, route: str, name: str, **values: str) -> dict[str, Any]:
    sagemaker.create_project(ProjectName=name, **what_from(catalog, route, values))
    return settled(sagemaker, name)


def settled(sagemaker: Any, name: str) -> dict[str, Any]:
    def found() -> Any:
        answer = sagemaker.describe_project(ProjectName=name)
        under_way = answer["ProjectStatus"] == "Pending" or answer["ProjectStatus"].endswith("InProgress")
        return None if under_way else answer

    answer: dict[str, Any] = wait_for(found, pause=STACK_PAUSE)
    return answer


def message_of(project: Mapping[str, Any]) -> str:
    for provider in project.get("TemplateProviderDetails", []):
        return str(provider["CfnTemplateProviderDetail"]["StackDetail"]["StatusMessage"])
    return str(project["ServiceCatalogProvisionedProductDetails"]["ProvisionedProductStatusMessage"])


def topic_tags(aws: LocalAWS, name: str) -> dict[str, str]:
    arn = f"arn:aws:sns:us-east-1:123456789012:{name}"
    return {tag["Key"]: tag["Value"] for tag in root(aws, "sns").list_tags_for_resource(ResourceArn=arn)["Tags"]}


def display_name(aws: LocalAWS, name: str) -> str:
    arn = f"arn:aws:sns:us-east-1:123456789012:{name}"
    return str(root(aws, "sns").get_topic_attributes(TopicArn=arn)["Attributes"]["DisplayName"])


def topics(aws: LocalAWS) -> list[str]:
    return [each["TopicArn"].rpartition(":")[2] for each in root(aws, "sns").list_topics()["Topics"]]


# --- creating


@pytest.mark.parametrize("route", ROUTES)
def test_a_project_is_a_stack_that_sagemaker_gives_its_name_and_id(aws, catalog, sagemaker, ann, route):
    name = new_name()

    made = create(sagemaker, catalog, route, name, Scenario="advanced")

    assert (made["ProjectStatus"], made["ProjectArn"]) == ("CreateCompleted", f"{PROJECTS}/{name}")
    assert made["CreatedBy"]["IamIdentity"]["Arn"] == ann.arn
    assert made["ProjectId"].startswith("p-")
    assert len(made["ProjectId"]) == 14
    tags = topic_tags(aws, name)
    assert (tags["sagemaker:project-name"], tags["sagemaker:project-id"]) == (name, made["ProjectId"])
    assert display_name(aws, name) == "advanced nobody"


def test_a_project_of_the_catalog_tells_its_provisioned_product(aws, catalog, sagemaker):
    made = create(sagemaker, catalog, "servicecatalog", new_name())

    provisioned = root(aws, "servicecatalog").describe_provisioned_product(
        Id=made["ServiceCatalogProvisionedProductDetails"]["ProvisionedProductId"]
    )["ProvisionedProductDetail"]
    assert made["ServiceCatalogProvisioningDetails"]["ProvisioningArtifactId"] == catalog.version
    assert provisioned["Name"] == f"{made['ProjectName']}-{made['ProjectId']}"


def test_a_project_of_a_template_in_s3_tells_its_stack_which_acts_as_the_role(aws, catalog, sagemaker):
    made = create(sagemaker, catalog, "s3", new_name())

    stack = made["TemplateProviderDetails"][0]["CfnTemplateProviderDetail"]["StackDetail"]
    assert stack["Name"] == f"SP-{made['ProjectName']}-{made['ProjectId']}"
    described = root(aws, "cloudformation").describe_stacks(StackName=stack["Id"])["Stacks"][0]
    assert (described["RoleARN"], described["StackStatus"]) == (catalog.role, "CREATE_COMPLETE")


@pytest.mark.parametrize("route", ROUTES)
def test_a_failed_project_tells_why_in_iams_words_and_can_be_deleted(aws, route):
    rights = ((STACK_ACTIONS, "*"), ([one for one in TOPIC_ACTIONS if one != "sns:CreateTopic"], "*"))
    catalog = make_catalog(aws, (*rights, (["s3:GetObject"], "*")))
    sagemaker, name = root(aws, "sagemaker"), new_name()
    client = (
        catalog.member().may(MAY_LAUNCH, *LAUNCH_RIGHTS, (["sagemaker:*", "iam:PassRole"], "*")).client("sagemaker")
    )

    failed = create(client, catalog, route, name)

    assert failed["ProjectStatus"] == "CreateFailed"
    assert "is not authorized to perform: sns:CreateTopic on resource" in message_of(failed)
    client.delete_project(ProjectName=name)
    assert settled(sagemaker, name)["ProjectStatus"] == "DeleteCompleted"
    assert name not in json.dumps(root(aws, "cloudformation").describe_stacks()["Stacks"], default=str)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"Scenario": "none"}, "Parameter 'Scenario' must be one of AllowedValues: baseline, advanced"),
        ({"Colour": "red"}, "Parameters: [Colour] do not exist in the template"),
        ({"SageMakerProjectId": "p-1"}, "SageMakerProjectId cannot be given: SageMaker fills it. Leave it out."),
    ],
)
def test_what_the_template_does_not_take_is_refused_and_leaves_no_project(catalog, sagemaker, route, values, message):
    name = new_name()

    said = refused(lambda: create(sagemaker, catalog, route, name, **values))

    assert said == ("ValidationException", message)
    assert refused(lambda: sagemaker.describe_project(ProjectName=name)) == (
        "ValidationException",
        f"Project {name} does not exist.",
    )


@pytest.mark.parametrize("route", ROUTES)
def test_a_name_that_is_taken_is_refused_even_in_capitals(catalog, sagemaker, route):
    name = new_name()
    create(sagemaker, catalog, route, name)

    said = refused(lambda: create(sagemaker, catalog, route, name.capitalize()))

    assert said == ("ValidationException", f"Project {name.capitalize()} already exists. Choose another name.")


@pytest.mark.parametrize("ways", [(), ROUTES])
def test_exactly_one_way_must_be_given(catalog, sagemaker, ways):
    given = {key: value for way in ways for key, value in what_from(catalog, way, {}).items()}

    code, message = refused(lambda: sagemaker.create_project(ProjectName=new_name(), **given))

    assert (code, "Give exactly one of" in message) == ("ValidationException", True)


def test_who_is_no_principal_of_the_portfolio_cannot_make_a_project_of_its_product(aws, catalog):
    stranger = a_person(aws).may(MAY_LAUNCH, (["sagemaker:*"], "*")).client("sagemaker")

    said = refused(lambda: create(stranger, catalog, "servicecatalog", new_name()))

    assert said == ("ValidationException", f"Product {catalog.product} not found.")


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("iam:PassRole", "is not authorized to perform: iam:PassRole on resource"),
        ("cloudformation:CreateStack", "is not authorized to perform: cloudformation:CreateStack on resource"),
        ("sagemaker:CreateProject", "is not authorized to perform: sagemaker:CreateProject on resource"),
        ("s3:GetObject", "Access Denied"),
    ],
)
def test_each_permission_of_the_route_by_s3_is_asked(aws, catalog, missing, said):
    everything = ("iam:PassRole", "cloudformation:CreateStack", "sagemaker:CreateProject", "s3:GetObject")
    person = a_person(aws).may(([one for one in everything if one != missing], "*"))

    code, message = refused(
        lambda: person.client("sagemaker").create_project(ProjectName=new_name(), **what_from(catalog, "s3", {}))
    )

    assert code == "AccessDeniedException"
    assert said in message or f"not authorized to perform: {missing}" in message


def test_a_template_without_sagemakers_parameters_is_refused(aws, catalog, sagemaker):
    body = SMALL_TEMPLATE.replace("  SageMakerProjectId: {Type: String}\n", "")
    root(aws, "s3").put_object(Bucket=BUCKET, Key="poor.yaml", Body=body)

    url = URL.replace("projects/small", "poor")
    code, message = refused(
        lambda: sagemaker.create_project(ProjectName=new_name(), **what_from(catalog, "s3", {}, url))
    )

    assert (code, message) == (
        "ValidationException",
        f"The template at {url} has no parameter SageMakerProjectId, which SageMaker fills.",
    )


def test_ten_projects_at_once_are_ten_stacks(aws, catalog, sagemaker):
    names = [new_name() for _ in range(10)]

    with ThreadPoolExecutor(10) as threads:
        made = list(threads.map(lambda name: create(sagemaker, catalog, ROUTES[int(name[-1], 16) % 2], name), names))

    assert {each["ProjectStatus"] for each in made} == {"CreateCompleted"}
    assert len({each["ProjectId"] for each in made}) == 10
    assert set(names) <= set(topics(aws))


def test_the_quota_of_projects_is_kept(aws, catalog, sagemaker):
    there = [
        each
        for each in root(aws, "sagemaker").list_projects(MaxResults=100)["ProjectSummaryList"]
        if each["ProjectStatus"] != "DeleteCompleted"
    ]
    aws.configure("quotas", {"projects": max(len(there), 1)})
    try:
        if not there:
            create(sagemaker, catalog, "s3", new_name())
        code, message = refused(lambda: create(sagemaker, catalog, "s3", new_name()))
    finally:
        aws.configure("quotas", {"projects": 500})

    assert code == "ResourceLimitExceeded"
    assert "'Total number of projects allowed' is" in message


# --- changing


@pytest.mark.parametrize("route", ROUTES)
def test_an_update_changes_what_is_given_and_keeps_the_rest(aws, catalog, sagemaker, route):
    name = new_name()
    create(sagemaker, catalog, route, name, Owner="ann")
    values = pairs({"Scenario": "advanced"})
    change: dict[str, Any] = (
        {"ServiceCatalogProvisioningUpdateDetails": {"ProvisioningParameters": values}}
        if route == "servicecatalog"
        else {
            "TemplateProvidersToUpdate": [
                {"CfnTemplateProvider": {"TemplateName": "small", "TemplateURL": URL, "Parameters": values}}
            ]
        }
    )

    sagemaker.update_project(ProjectName=name, ProjectDescription="now advanced", **change)
    updated = settled(sagemaker, name)

    assert (updated["ProjectStatus"], updated["ProjectDescription"]) == ("UpdateCompleted", "now advanced")
    assert display_name(aws, name) == "advanced ann"
    assert topic_tags(aws, name)["sagemaker:project-id"] == updated["ProjectId"]


def test_a_description_alone_changes_at_once(catalog, sagemaker):
    name = new_name()
    create(sagemaker, catalog, "s3", name)

    sagemaker.update_project(ProjectName=name, ProjectDescription="churn of customers")

    described = sagemaker.describe_project(ProjectName=name)
    assert (described["ProjectStatus"], described["ProjectDescription"]) == ("CreateCompleted", "churn of customers")


def test_a_failed_update_leaves_the_project_as_it_was(aws):
    catalog = make_catalog(aws)
    sagemaker, name = (
        catalog.member().may(MAY_LAUNCH, *LAUNCH_RIGHTS, (["sagemaker:*"], "*")).client("sagemaker"),
        new_name(),
    )
    create(sagemaker, catalog, "servicecatalog", name)
    role = catalog.role.rpartition("/")[2]
    rights = policy((STACK_ACTIONS, "*"), (["s3:GetObject"], "*"))
    root(aws, "iam").put_role_policy(RoleName=role, PolicyName="rights", PolicyDocument=rights)

    sagemaker.update_project(
        ProjectName=name,
        ServiceCatalogProvisioningUpdateDetails={"ProvisioningParameters": pairs({"Scenario": "advanced"})},
    )
    updated = settled(sagemaker, name)

    assert updated["ProjectStatus"] == "UpdateFailed"
    assert "is not authorized to perform: sns:" in message_of(updated)
    assert display_name(aws, name) == "baseline nobody"


def test_a_project_cannot_be_updated_by_the_other_route(catalog, sagemaker):
    name = new_name()
    create(sagemaker, catalog, "s3", name)

    code, message = refused(
        lambda: sagemaker.update_project(
            ProjectName=name, ServiceCatalogProvisioningUpdateDetails={"ProvisioningParameters": []}
        )
    )

    assert (code, "was made from a template in S3" in message) == ("ValidationException", True)


@pytest.mark.parametrize("route", ROUTES)
def test_a_deleted_project_is_gone_with_its_stack_and_its_name_is_free(aws, catalog, sagemaker, route):
    name = new_name()
    first = create(sagemaker, catalog, route, name)

    sagemaker.delete_project(ProjectName=name)

    assert settled(sagemaker, name)["ProjectStatus"] == "DeleteCompleted"
    assert name not in topics(aws)
    assert refused(lambda: sagemaker.delete_project(ProjectName=name)) == (
        "ValidationException",
        f"Project {name} does not exist.",
    )
    second = create(sagemaker, catalog, route, name)
    assert (second["ProjectStatus"], second["ProjectId"] != first["ProjectId"]) == ("CreateCompleted", True)


def test_a_stack_that_somebody_else_deleted_does_not_keep_its_project(aws, catalog, sagemaker):
    name = new_name()
    made = create(sagemaker, catalog, "s3", name)
    stack = made["TemplateProviderDetails"][0]["CfnTemplateProviderDetail"]["StackDetail"]["Name"]
    root(aws, "cloudformation").delete_stack(StackName=stack)
    wait_for(lambda: name not in topics(aws))

    sagemaker.delete_project(ProjectName=name)

    assert settled(sagemaker, name)["ProjectStatus"] == "DeleteCompleted"


# --- reading


def test_projects_are_listed_by_what_their_names_contain_the_oldest_first(catalog, sagemaker):
    names = [f"listed-{suffix}" for suffix in ("b", "a", "c")]
    for name in names:
        create(sagemaker, catalog, "s3", name)

    pages = [
        sagemaker.list_projects(NameContains="listed", MaxResults=2),
        sagemaker.list_projects(NameContains="listed", SortBy="Name", SortOrder="Descending"),
    ]
    rest = sagemaker.list_projects(NameContains="listed", MaxResults=2, NextToken=pages[0]["NextToken"])

    found = [each["ProjectName"] for page in (pages[0], rest) for each in page["ProjectSummaryList"]]
    assert found == names
    assert [each["ProjectName"] for each in pages[1]["ProjectSummaryList"]] == ["listed-c", "listed-b", "listed-a"]


def test_a_projects_tags_are_its_own_and_its_stacks(aws, catalog, sagemaker):
    name = new_name()
    sagemaker.create_project(ProjectName=name, Tags=pairs({"team": "ml"}), **what_from(catalog, "s3", {}))
    arn = settled(sagemaker, name)["ProjectArn"]

    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == pairs({"team": "ml"})
    assert topic_tags(aws, name)["team"] == "ml"
