"""Service Catalog with IAM enforced: who sees and launches a product, as whom its stack is made, and what is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from local_aws import LocalAWS
from tests.local_aws.catalog_stand import (
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
    record_end,
    trust,
)
from tests.local_aws.clients import refused
from tests.local_aws.people import root


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS(enforce_iam=True) as server:
        yield server


@pytest.fixture(scope="module")
def catalog(aws: LocalAWS) -> Catalog:
    return make_catalog(aws)


@pytest.fixture(scope="module")
def ann(catalog: Catalog) -> Person:
    return catalog.member()


@pytest.fixture(scope="module")
def client(ann: Person) -> Any:
    return ann.client("servicecatalog")


def stack_of(aws: LocalAWS, provisioned_product: str) -> dict[str, Any]:
    name = f"SC-123456789012-{provisioned_product}"
    found: dict[str, Any] = root(aws, "cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    return found


def topic(aws: LocalAWS, name: str) -> dict[str, str]:
    arn = f"arn:aws:sns:us-east-1:123456789012:{name}"
    attributes: dict[str, str] = root(aws, "sns").get_topic_attributes(TopicArn=arn)["Attributes"]
    return attributes


def has_topic(aws: LocalAWS, name: str) -> bool:
    return any(each["TopicArn"].endswith(f":{name}") for each in root(aws, "sns").list_topics()["Topics"])


# --- who


def test_a_principal_of_the_portfolio_sees_the_product_and_another_person_does_not(aws, catalog, client):
    stranger = a_person(aws).may(MAY_LAUNCH).client("servicecatalog")

    seen = [each["ProductId"] for each in client.search_products()["ProductViewSummaries"]]
    unseen = [each["ProductId"] for each in stranger.search_products()["ProductViewSummaries"]]

    assert catalog.product in seen
    assert catalog.product not in unseen
    assert refused(lambda: stranger.describe_product(Id=catalog.product))[0] == "ResourceNotFoundException"
    assert refused(lambda: stranger.list_launch_paths(ProductId=catalog.product)) == (
        "ResourceNotFoundException",
        f"No launch paths found for resource: {catalog.product}",
    )


def test_who_is_no_principal_cannot_launch_whatever_iam_allows_him(aws, catalog):
    stranger = a_person(aws).may(MAY_LAUNCH)

    code, message = refused(lambda: catalog.launch(stranger.client("servicecatalog"), new_name()))

    assert (code, message) == ("ResourceNotFoundException", f"No launch paths found for resource: {catalog.product}")


def test_a_principal_without_the_permission_cannot_launch(aws, catalog):
    person = a_person(aws)
    catalog.let_in(person.arn)

    code, message = refused(lambda: catalog.launch(person.client("servicecatalog"), new_name()))

    assert code == "AccessDeniedException"
    assert (
        f"servicecatalog:ProvisionProduct on resource: arn:aws:catalog:us-east-1:123456789012:product/{catalog.product}"
        in message
    )


@pytest.mark.parametrize("kind", ["IAM", "IAM_PATTERN"])
def test_a_session_of_a_role_below_a_path_is_the_role(aws, catalog, kind):
    iam, name = root(aws, "iam"), new_name("role")
    statement = {"Effect": "Allow", "Principal": {"AWS": "123456789012"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    role = iam.create_role(RoleName=name, Path="/people/", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName="rights", PolicyDocument=policy(MAY_LAUNCH))
    session = root(aws, "sts").assume_role(RoleArn=role, RoleSessionName="ann")["Credentials"]
    credentials = {
        "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
        "AWS_SESSION_TOKEN": session["SessionToken"],
    }
    of_session = aws.client("servicecatalog", credentials=credentials)
    before = of_session.search_products()["ProductViewSummaries"]

    catalog.let_in(role if kind == "IAM" else f"arn:aws:iam:::role/people/{name[:-2]}??", kind)

    assert before == []
    assert [each["ProductId"] for each in of_session.search_products()["ProductViewSummaries"]] == [catalog.product]


def test_a_member_of_a_group_sees_what_the_group_sees(aws, catalog):
    iam, person, group = root(aws, "iam"), a_person(aws).may(MAY_LAUNCH), new_name("group")
    arn = iam.create_group(GroupName=group)["Group"]["Arn"]
    iam.add_user_to_group(GroupName=group, UserName=person.name)

    catalog.let_in(arn)

    found = person.client("servicecatalog").search_products()["ProductViewSummaries"]
    assert [each["ProductId"] for each in found] == [catalog.product]


@pytest.mark.parametrize(
    ("principal", "kind"),
    [
        ("arn:aws:iam::123456789012:root", "IAM"),
        ("arn:aws:iam:::role/x", "IAM"),
        ("arn:aws:iam::123456789012:role/x", "IAM_PATTERN"),
    ],
)
def test_what_is_no_principal_is_refused_with_what_one_looks_like(catalog, principal, kind):
    code, message = refused(lambda: catalog.let_in(principal, kind))

    assert code == "InvalidParametersException"
    assert f"Invalid principal {principal}: of type {kind} it is arn:aws:iam" in message


# --- launching


def test_a_launch_makes_the_stack_as_the_launch_role(aws, catalog, ann, client):
    name = new_name()

    record = catalog.launch(client, name, Scenario="advanced")
    end = catalog.ended(record)

    assert record["Status"] == "IN_PROGRESS"
    assert end["RecordDetail"]["Status"] == "SUCCEEDED"
    assert end["RecordDetail"]["LaunchRoleArn"] == catalog.role
    outputs = {each["OutputKey"]: each["OutputValue"] for each in end["RecordOutputs"]}
    stack = stack_of(aws, record["ProvisionedProductId"])
    assert outputs == {
        "CloudformationStackARN": stack["StackId"],
        "TopicArn": f"arn:aws:sns:us-east-1:123456789012:{name}",
    }
    assert topic(aws, name)["DisplayName"] == "advanced nobody"
    provisioned = client.describe_provisioned_product(Name=name)["ProvisionedProductDetail"]
    assert (provisioned["Status"], provisioned["ProductId"]) == ("AVAILABLE", catalog.product)
    found = client.search_provisioned_products(Filters={"SearchQuery": [f"name:{name}"]})["ProvisionedProducts"]
    assert [(each["PhysicalId"], each["UserArn"]) for each in found] == [(stack["StackId"], ann.arn)]


def test_a_stack_has_the_tags_of_request_portfolio_and_product_and_those_of_service_catalog(aws, catalog, ann, client):
    name = new_name()
    values = pairs({"SageMakerProjectName": name, "SageMakerProjectId": "p-1"})
    record = client.provision_product(
        ProductId=catalog.product,
        ProvisioningArtifactName="v1",
        ProvisionedProductName=name,
        ProvisioningParameters=values,
        Tags=[{"Key": "cost", "Value": "7"}],
    )["RecordDetail"]
    catalog.ended(record)

    tags = {tag["Key"]: tag["Value"] for tag in stack_of(aws, record["ProvisionedProductId"])["Tags"]}

    arn = "arn:aws:catalog:us-east-1:123456789012"
    assert tags == {
        "cost": "7",
        "team": "ml",
        "sagemaker:studio-visibility": "true",
        "aws:servicecatalog:portfolioArn": f"{arn}:portfolio/{catalog.portfolio}",
        "aws:servicecatalog:productArn": f"{arn}:product/{catalog.product}",
        "aws:servicecatalog:provisioningPrincipalArn": ann.arn,
        "aws:servicecatalog:provisioningArtifactIdentifier": catalog.version,
        "aws:servicecatalog:provisionedProductArn": client.describe_provisioned_product(Name=name)[
            "ProvisionedProductDetail"
        ]["Arn"],
    }


def test_nobody_else_can_give_a_stack_the_tags_of_service_catalog(aws):
    cloudformation = root(aws, "cloudformation")

    _, message = refused(
        lambda: cloudformation.create_stack(
            StackName=new_name("s"),
            TemplateBody=json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}),
            Tags=[{"Key": "aws:servicecatalog:productArn", "Value": "x"}],
        )
    )

    assert "reserved" in message


def test_a_launch_role_that_lacks_a_permission_fails_the_record_in_iams_words(aws):
    rights = (
        (STACK_ACTIONS, "*"),
        ([one for one in TOPIC_ACTIONS if one != "sns:CreateTopic"], "*"),
        (["s3:GetObject"], "*"),
    )
    catalog = make_catalog(aws, rights)
    client, name = catalog.member().client("servicecatalog"), new_name()

    detail = catalog.ended(catalog.launch(client, name))["RecordDetail"]

    session = f"arn:aws:sts::123456789012:assumed-role/{catalog.role.rpartition('/')[2]}/servicecatalog"
    assert detail["Status"] == "FAILED"
    assert (
        f"User: {session} is not authorized to perform: sns:CreateTopic on resource:"
        f" arn:aws:sns:us-east-1:123456789012:{name} because no identity-based policy allows the sns:CreateTopic action"
    ) in detail["RecordErrors"][0]["Description"]
    provisioned = client.describe_provisioned_product(Name=name)["ProvisionedProductDetail"]
    assert provisioned["Status"] == "ERROR"
    assert "sns:CreateTopic" in provisioned["StatusMessage"]
    assert stack_of(aws, detail["ProvisionedProductId"])["StackStatus"] == "ROLLBACK_COMPLETE"

    removal = client.terminate_provisioned_product(ProvisionedProductName=name)["RecordDetail"]

    assert catalog.ended(removal)["RecordDetail"]["Status"] == "SUCCEEDED"
    assert refused(lambda: client.describe_provisioned_product(Name=name))[0] == "ResourceNotFoundException"


def test_a_launch_role_that_may_not_read_the_products_template_says_so(aws):
    catalog = make_catalog(aws, ((STACK_ACTIONS, "*"), (TOPIC_ACTIONS, "*")))

    detail = catalog.ended(catalog.launch(catalog.member().client("servicecatalog"), new_name()))["RecordDetail"]

    assert detail["Status"] == "FAILED"
    assert "s3:GetObject" in detail["RecordErrors"][0]["Description"]


def test_a_launch_role_may_be_let_read_only_what_service_catalog_provisions(aws):
    catalog = make_catalog(aws, ((STACK_ACTIONS, "*"), (TOPIC_ACTIONS, "*")))
    condition = {"StringEquals": {"s3:ExistingObjectTag/servicecatalog:provisioning": "true"}}
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*", "Condition": condition}
    root(aws, "iam").put_role_policy(
        RoleName=catalog.role.rpartition("/")[2],
        PolicyName="read",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )

    detail = catalog.ended(catalog.launch(catalog.member().client("servicecatalog"), new_name()))["RecordDetail"]

    assert detail["Status"] == "SUCCEEDED"


def test_a_role_that_service_catalog_cannot_assume_is_refused_before_anything_is_made(aws):
    catalog = make_catalog(aws)
    root(aws, "iam").update_assume_role_policy(
        RoleName=catalog.role.rpartition("/")[2], PolicyDocument=trust("cloudformation.amazonaws.com")
    )
    client, name = catalog.member().client("servicecatalog"), new_name()

    code, message = refused(lambda: catalog.launch(client, name))

    assert code == "InvalidParametersException"
    assert f"Access denied while assuming the role {catalog.role}" in message
    assert refused(lambda: client.describe_provisioned_product(Name=name))[0] == "ResourceNotFoundException"


def test_without_a_launch_constraint_the_stack_is_made_with_the_callers_rights(aws):
    catalog = make_catalog(aws)
    administration = root(aws, "servicecatalog")
    constraint = administration.list_constraints_for_portfolio(PortfolioId=catalog.portfolio)["ConstraintDetails"][0]
    administration.delete_constraint(Id=constraint["ConstraintId"])
    person, first, second = catalog.member(), new_name(), new_name()

    denied = catalog.ended(catalog.launch(person.client("servicecatalog"), first))["RecordDetail"]
    person.may(MAY_LAUNCH, *LAUNCH_RIGHTS)
    made = catalog.ended(catalog.launch(person.client("servicecatalog"), second))["RecordDetail"]

    assert denied["Status"] == "FAILED"
    assert f"User: {person.arn} is not authorized to perform: " in denied["RecordErrors"][0]["Description"]
    assert (made["Status"], has_topic(aws, first), has_topic(aws, second)) == ("SUCCEEDED", False, True)


def test_a_product_in_two_portfolios_needs_the_path_to_be_named(aws):
    catalog = make_catalog(aws)
    administration, person = root(aws, "servicecatalog"), catalog.member()
    other = administration.create_portfolio(DisplayName="Other", ProviderName="ML")["PortfolioDetail"]["Id"]
    administration.associate_product_with_portfolio(ProductId=catalog.product, PortfolioId=other)
    administration.associate_principal_with_portfolio(PortfolioId=other, PrincipalARN=person.arn, PrincipalType="IAM")
    client = person.client("servicecatalog")

    code, message = refused(lambda: catalog.launch(client, new_name()))

    paths = {
        each["Name"]: each["Id"] for each in client.list_launch_paths(ProductId=catalog.product)["LaunchPathSummaries"]
    }
    assert (code, message) == (
        "InvalidParametersException",
        "More than one launch path ids exist. Please specify the launch path id",
    )
    assert paths.keys() == {"Small", "Other"}
    name = new_name()
    record = client.provision_product(
        ProductId=catalog.product,
        ProvisioningArtifactId=catalog.version,
        PathId=paths["Small"],
        ProvisionedProductName=name,
        ProvisioningParameters=pairs({"SageMakerProjectName": name, "SageMakerProjectId": "p-1"}),
    )["RecordDetail"]
    assert catalog.ended(record)["RecordDetail"]["Status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"SageMakerProjectName": "a"}, r"Parameters: [SageMakerProjectId] must have values"),
        (
            {"SageMakerProjectName": "a", "SageMakerProjectId": "p", "Colour": "red"},
            "Parameters: [Colour] do not exist in the template",
        ),
        (
            {"SageMakerProjectName": "a", "SageMakerProjectId": "p", "Scenario": "none"},
            "Parameter 'Scenario' must be one of AllowedValues: baseline, advanced",
        ),
        (
            {"SageMakerProjectName": "Ä", "SageMakerProjectId": "p"},
            "Parameter 'SageMakerProjectName' must match pattern [a-z0-9-]+",
        ),
    ],
)
def test_parameters_that_the_template_does_not_take_are_refused_before_anything_is_made(
    aws, catalog, client, values, message
):
    stacks = len(root(aws, "cloudformation").describe_stacks()["Stacks"])

    said = refused(
        lambda: client.provision_product(
            ProductId=catalog.product,
            ProvisioningArtifactId=catalog.version,
            ProvisionedProductName=new_name(),
            ProvisioningParameters=pairs(values),
        )
    )

    assert said == ("InvalidParametersException", message)
    assert len(root(aws, "cloudformation").describe_stacks()["Stacks"]) == stacks


def test_the_same_token_launches_once_and_with_another_request_not_at_all(aws, catalog, client):
    name, token = new_name(), new_name("token")
    request = {
        "ProductId": catalog.product,
        "ProvisioningArtifactId": catalog.version,
        "ProvisionedProductName": name,
        "ProvisioningParameters": pairs({"SageMakerProjectName": name, "SageMakerProjectId": "p-1"}),
        "ProvisionToken": token,
    }

    first, second = (client.provision_product(**request)["RecordDetail"]["RecordId"] for _ in range(2))

    assert first == second
    assert record_end(client, first)["RecordDetail"]["Status"] == "SUCCEEDED"
    assert client.provision_product(**request)["RecordDetail"]["Status"] == "SUCCEEDED"
    code, _ = refused(lambda: client.provision_product(**{**request, "ProvisionedProductName": new_name()}))
    assert code == "InvalidParametersException"


def test_a_name_that_is_taken_is_refused(catalog, client):
    name = new_name()
    catalog.ended(catalog.launch(client, name))

    assert refused(lambda: catalog.launch(client, name))[0] == "DuplicateResourceException"


def test_ten_launches_at_once_are_ten_stacks(aws, catalog, client):
    names = [new_name() for _ in range(10)]

    with ThreadPoolExecutor(10) as threads:
        records = list(threads.map(lambda name: catalog.ended(catalog.launch(client, name)), names))

    assert {each["RecordDetail"]["Status"] for each in records} == {"SUCCEEDED"}
    assert all(has_topic(aws, name) for name in names)
    assert len({each["RecordOutputs"][0]["OutputValue"] for each in records}) == 10


# --- changing


def test_an_update_changes_what_is_given_and_keeps_the_rest(aws, catalog, client):
    name = new_name()
    catalog.ended(catalog.launch(client, name, Owner="ann"))

    record = client.update_provisioned_product(
        ProvisionedProductName=name, ProvisioningParameters=pairs({"Scenario": "advanced"})
    )["RecordDetail"]
    end = catalog.ended(record)["RecordDetail"]

    assert (end["Status"], end["RecordType"]) == ("SUCCEEDED", "UPDATE_PROVISIONED_PRODUCT")
    assert topic(aws, name)["DisplayName"] == "advanced ann"
    tags = {tag["Key"]: tag["Value"] for tag in stack_of(aws, end["ProvisionedProductId"])["Tags"]}
    assert (tags["team"], tags["aws:servicecatalog:provisioningArtifactIdentifier"]) == ("ml", catalog.version)


def test_an_update_that_changes_nothing_succeeds_whether_by_name_or_by_arn(catalog, client):
    name = new_name()
    catalog.ended(catalog.launch(client, name))
    arn = client.describe_provisioned_product(Name=name)["ProvisionedProductDetail"]["Arn"]

    record = client.update_provisioned_product(ProvisionedProductName=arn)["RecordDetail"]

    assert catalog.ended(record)["RecordDetail"]["Status"] == "SUCCEEDED"


def test_a_failed_update_leaves_the_product_tainted_and_as_it_was(aws):
    catalog = make_catalog(aws)
    client, name = catalog.member().client("servicecatalog"), new_name()
    catalog.ended(catalog.launch(client, name))
    root(aws, "iam").put_role_policy(
        RoleName=catalog.role.rpartition("/")[2],
        PolicyName="rights",
        PolicyDocument=policy((STACK_ACTIONS, "*"), (["s3:GetObject"], "*")),
    )

    record = client.update_provisioned_product(
        ProvisionedProductName=name, ProvisioningParameters=pairs({"Scenario": "advanced"})
    )["RecordDetail"]
    detail = catalog.ended(record)["RecordDetail"]

    assert detail["Status"] == "FAILED"
    assert "is not authorized to perform: sns:" in detail["RecordErrors"][0]["Description"]
    assert client.describe_provisioned_product(Name=name)["ProvisionedProductDetail"]["Status"] == "TAINTED"
    assert topic(aws, name)["DisplayName"] == "baseline nobody"


def test_a_terminated_product_is_gone_with_its_stack(aws, catalog, client):
    name = new_name()
    launched = catalog.ended(catalog.launch(client, name))["RecordDetail"]

    record = client.terminate_provisioned_product(ProvisionedProductName=name)["RecordDetail"]

    assert catalog.ended(record)["RecordDetail"]["Status"] == "SUCCEEDED"
    assert not has_topic(aws, name)
    assert refused(lambda: client.describe_provisioned_product(Name=name))[0] == "ResourceNotFoundException"
    assert refused(lambda: stack_of(aws, launched["ProvisionedProductId"]))[0] == "ValidationError"


def test_termination_may_leave_the_stack(aws, catalog, client):
    name = new_name()
    catalog.ended(catalog.launch(client, name))

    record = client.terminate_provisioned_product(ProvisionedProductName=name, RetainPhysicalResources=True)[
        "RecordDetail"
    ]

    assert catalog.ended(record)["RecordDetail"]["Status"] == "SUCCEEDED"
    assert has_topic(aws, name)


def test_a_new_version_is_what_an_update_brings(aws):
    catalog = make_catalog(aws)
    administration, client, name = root(aws, "servicecatalog"), catalog.member().client("servicecatalog"), new_name()
    catalog.ended(catalog.launch(client, name, Owner="ann"))
    newer = SMALL_TEMPLATE.replace("${Scenario} ${Owner}", "newer ${Scenario}").replace(
        "  Owner: {Type: String, Default: nobody}\n", ""
    )
    root(aws, "s3").put_object(Bucket="catalog-templates", Key="newer.yaml", Body=newer)
    version = administration.create_provisioning_artifact(
        ProductId=catalog.product,
        Parameters={"Name": "v2", "Info": {"LoadTemplateFromURL": URL.replace("projects/small", "newer")}},
    )["ProvisioningArtifactDetail"]["Id"]

    record = client.update_provisioned_product(ProvisionedProductName=name, ProvisioningArtifactId=version)[
        "RecordDetail"
    ]

    assert catalog.ended(record)["RecordDetail"]["Status"] == "SUCCEEDED"
    assert topic(aws, name)["DisplayName"] == "newer baseline"


def test_a_version_keeps_its_template_when_the_object_changes(aws):
    catalog = make_catalog(aws)
    root(aws, "s3").put_object(Bucket="catalog-templates", Key="projects/small.yaml", Body="not a template")
    client, name = catalog.member().client("servicecatalog"), new_name()

    assert catalog.ended(catalog.launch(client, name))["RecordDetail"]["Status"] == "SUCCEEDED"


def test_a_version_that_is_not_active_cannot_be_launched(aws):
    catalog = make_catalog(aws)
    client = catalog.member().client("servicecatalog")
    root(aws, "servicecatalog").update_provisioning_artifact(
        ProductId=catalog.product, ProvisioningArtifactId=catalog.version, Active=False
    )

    code, message = refused(lambda: catalog.launch(client, new_name()))

    assert (code, "is not active" in message) == ("InvalidParametersException", True)
    assert client.describe_product(Id=catalog.product)["ProvisioningArtifacts"] == []


# --- levels


def test_a_policy_may_let_a_person_terminate_only_what_is_his(aws, catalog, client):
    name = new_name()
    catalog.ended(catalog.launch(client, name))
    condition = {"StringEquals": {"servicecatalog:userLevel": "self"}}
    document = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "servicecatalog:ProvisionProduct", "Resource": "*"},
            {
                "Effect": "Allow",
                "Action": "servicecatalog:*ProvisionedProduct*",
                "Resource": "*",
                "Condition": condition,
            },
        ],
    }
    bob, own = a_person(aws), new_name()
    catalog.let_in(bob.arn)
    root(aws, "iam").put_user_policy(UserName=bob.name, PolicyName="rights", PolicyDocument=json.dumps(document))
    of_bob = bob.client("servicecatalog")
    catalog.ended(catalog.launch(of_bob, own))

    code, _ = refused(lambda: of_bob.terminate_provisioned_product(ProvisionedProductName=name))

    assert code == "AccessDeniedException"
    assert [each["Name"] for each in of_bob.search_provisioned_products()["ProvisionedProducts"]] == [own]
    account = {"Key": "Account", "Value": "self"}
    assert refused(lambda: of_bob.search_provisioned_products(AccessLevelFilter=account))[0] == "AccessDeniedException"
    assert of_bob.terminate_provisioned_product(ProvisionedProductName=own)["RecordDetail"]["Status"] == "IN_PROGRESS"


# --- administration


def test_what_is_in_use_is_not_deleted(aws, catalog):
    administration = root(aws, "servicecatalog")

    for delete in (
        lambda: administration.delete_portfolio(Id=catalog.portfolio),
        lambda: administration.delete_product(Id=catalog.product),
        lambda: administration.delete_provisioning_artifact(
            ProductId=catalog.product, ProvisioningArtifactId=catalog.version
        ),
        lambda: administration.disassociate_product_from_portfolio(
            ProductId=catalog.product, PortfolioId=catalog.portfolio
        ),
    ):
        assert refused(delete)[0] == "ResourceInUseException"


def test_who_makes_a_launch_constraint_must_be_allowed_to_pass_the_role(aws, catalog):
    person = a_person(aws).may((["servicecatalog:*"], "*"))

    code, message = refused(
        lambda: person.client("servicecatalog").create_constraint(
            PortfolioId=catalog.portfolio,
            ProductId=catalog.product,
            Type="LAUNCH",
            Parameters=json.dumps({"RoleArn": catalog.role}),
        )
    )

    assert (code, f"iam:PassRole on resource: {catalog.role}" in message) == ("AccessDeniedException", True)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://example.org/x.yaml", "is no S3 object's address"),
        ("https://catalog-templates.s3.amazonaws.com/none.yaml", "Invalid template"),
    ],
)
def test_a_template_that_is_not_there_is_refused(aws, catalog, url, said):
    code, message = refused(
        lambda: root(aws, "servicecatalog").create_provisioning_artifact(
            ProductId=catalog.product, Parameters={"Name": "v9", "Info": {"LoadTemplateFromURL": url}}
        )
    )

    assert (code, said in message) == ("InvalidParametersException", True)


def test_a_template_is_read_with_the_rights_of_who_makes_the_version(aws, catalog):
    person = a_person(aws).may((["servicecatalog:*"], "*"))

    code, message = refused(
        lambda: person.client("servicecatalog").create_provisioning_artifact(
            ProductId=catalog.product, Parameters={"Name": "v9", "Info": {"LoadTemplateFromURL": URL}}
        )
    )

    assert (code, "Access Denied" in message or "not authorized" in message) == ("InvalidParametersException", True)


def test_parameters_are_described_as_the_template_has_them(catalog, client):
    described = client.describe_provisioning_parameters(
        ProductId=catalog.product, ProvisioningArtifactId=catalog.version
    )

    parameters = {each["ParameterKey"]: each for each in described["ProvisioningArtifactParameters"]}
    assert parameters["Scenario"] == {
        "ParameterKey": "Scenario",
        "DefaultValue": "baseline",
        "ParameterType": "String",
        "IsNoEcho": False,
        "Description": "How it is deployed.",
        "ParameterConstraints": {"AllowedValues": ["baseline", "advanced"]},
    }
    assert parameters["SageMakerProjectName"]["ParameterConstraints"] == {
        "AllowedPattern": "[a-z0-9-]+",
        "AllowedValues": [],
        "MaxLength": "32",
    }
    assert described["ConstraintSummaries"][0]["Type"] == "LAUNCH"


def test_pages_neither_skip_nor_repeat(aws):
    administration = root(aws, "servicecatalog")
    made = {
        administration.create_portfolio(DisplayName="P", ProviderName="ML")["PortfolioDetail"]["Id"] for _ in range(5)
    }
    seen: list[str] = []
    more: dict[str, str] = {}
    while True:
        answer = administration.list_portfolios(PageSize=2, **more)
        seen += [each["Id"] for each in answer["PortfolioDetails"]]
        if "NextPageToken" not in answer:
            break
        more = {"PageToken": answer["NextPageToken"]}

    assert len(seen) == len(set(seen))
    assert made <= set(seen)
