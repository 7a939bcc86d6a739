"""CloudFormation's types AWS::ServiceCatalog::*, made by a role that may do just that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from local_aws import LocalAWS
from tests.local_aws.catalog_stand import SMALL_TEMPLATE, STUDIO_TAG, Statement, new_name, policy, trust
from tests.local_aws.people import root
from tests.local_aws.waiting import settled

BUCKET = "type-templates"
PERSON = "arn:aws:iam::123456789012:role/people/ann"
CATALOG = "arn:aws:catalog:us-east-1:123456789012"
LAUNCH = "arn:aws:iam::123456789012:role/type-launch"
# Nothing that the test does not need.
RIGHTS: tuple[Statement, ...] = (
    (
        [
            *(f"servicecatalog:{verb}Portfolio" for verb in ("Create", "Describe", "Update", "Delete")),
            "servicecatalog:AssociatePrincipalWithPortfolio",
            "servicecatalog:DisassociatePrincipalFromPortfolio",
            "servicecatalog:ListPrincipalsForPortfolio",
        ],
        f"{CATALOG}:portfolio/*",
    ),
    (
        [
            "servicecatalog:CreateProduct",
            "servicecatalog:DescribeProductAsAdmin",
            "servicecatalog:UpdateProduct",
            "servicecatalog:DeleteProduct",
            *(f"servicecatalog:{verb}ProvisioningArtifact" for verb in ("Create", "Describe", "Update", "Delete")),
            "servicecatalog:ListProvisioningArtifacts",
            "servicecatalog:CreateConstraint",
            "servicecatalog:ListPortfoliosForProduct",
        ],
        f"{CATALOG}:product/*",
    ),
    (
        [
            "servicecatalog:AssociateProductWithPortfolio",
            "servicecatalog:DisassociateProductFromPortfolio",
            "servicecatalog:DescribeConstraint",
            "servicecatalog:UpdateConstraint",
            "servicecatalog:DeleteConstraint",
            "servicecatalog:TagResource",
            "servicecatalog:UntagResource",
            "servicecatalog:ListTagsForResource",
            "cloudformation:ValidateTemplate",
        ],
        "*",
    ),
    (["s3:GetObject"], f"arn:aws:s3:::{BUCKET}/*"),
    (["iam:GetRole", "iam:PassRole"], LAUNCH),
    (["iam:GetRole"], "arn:aws:iam::123456789012:role/people/*"),
)


def a_template(
    *versions: str, principal: str = PERSON, description: str = "first", tag_updates: str = "ALLOWED", **product: Any
) -> str:
    """A portfolio with a product of the versions, whose templates are objects of those names."""
    kind = "AWS::ServiceCatalog::"
    artifacts = [
        {
            "Name": version,
            "Description": description,
            "Info": {"LoadTemplateFromURL": f"https://{BUCKET}.s3.us-east-1.amazonaws.com/{version}.yaml"},
        }
        for version in versions
    ]
    both = {"PortfolioId": {"Ref": "Portfolio"}, "ProductId": {"Ref": "Product"}}
    resources = {
        "Portfolio": {
            "Type": f"{kind}Portfolio",
            "Properties": {"DisplayName": "Modelyard", "ProviderName": "ML", "Description": description},
        },
        "Product": {
            "Type": f"{kind}CloudFormationProduct",
            "Properties": {
                "Name": "project",
                "Owner": "ML",
                "Tags": [STUDIO_TAG],
                "ProvisioningArtifactParameters": artifacts,
                **product,
            },
        },
        "Inside": {"Type": f"{kind}PortfolioProductAssociation", "Properties": both},
        "Principal": {
            "Type": f"{kind}PortfolioPrincipalAssociation",
            "DependsOn": "Inside",
            "Properties": {
                "PortfolioId": {"Ref": "Portfolio"},
                "PrincipalARN": principal,
                "PrincipalType": "IAM",
            },
        },
        "Role": {
            "Type": f"{kind}LaunchRoleConstraint",
            "DependsOn": "Inside",
            "Properties": {**both, "RoleArn": LAUNCH, "Description": description},
        },
        "TagUpdates": {
            "Type": f"{kind}ResourceUpdateConstraint",
            "DependsOn": "Inside",
            "Properties": {**both, "TagUpdateOnProvisionedProduct": tag_updates, "Description": description},
        },
    }
    outputs = {
        "Portfolio": {"Ref": "Portfolio"},
        "Product": {"Ref": "Product"},
        "Inside": {"Ref": "Inside"},
        "Principal": {"Ref": "Principal"},
        "Role": {"Ref": "Role"},
        "TagUpdates": {"Ref": "TagUpdates"},
        "PortfolioName": {"Fn::GetAtt": ["Portfolio", "PortfolioName"]},
        "ProductName": {"Fn::GetAtt": ["Product", "ProductName"]},
        "VersionIds": {"Fn::GetAtt": ["Product", "ProvisioningArtifactIds"]},
        "VersionNames": {"Fn::GetAtt": ["Product", "ProvisioningArtifactNames"]},
    }
    return json.dumps({"Resources": resources, "Outputs": {name: {"Value": value} for name, value in outputs.items()}})


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS(enforce_iam=True) as server:
        s3 = root(server, "s3")
        s3.create_bucket(Bucket=BUCKET)
        for version in ("v1", "v2", "v3"):
            s3.put_object(Bucket=BUCKET, Key=f"{version}.yaml", Body=SMALL_TEMPLATE)
        root(server, "iam").create_role(
            RoleName="type-launch", AssumeRolePolicyDocument=trust("servicecatalog.amazonaws.com")
        )
        yield server


class Stack:
    """A stack that CloudFormation makes as a role of its own."""

    def __init__(self, aws: LocalAWS, rights: tuple[Statement, ...] = RIGHTS) -> None:
        iam, self.name = root(aws, "iam"), new_name("s")
        role = iam.create_role(RoleName=self.name, AssumeRolePolicyDocument=trust("cloudformation.amazonaws.com"))[
            "Role"
        ]
        iam.put_role_policy(RoleName=self.name, PolicyName="rights", PolicyDocument=policy(*rights))
        self._aws, self.role, self._client = aws, role["Arn"], root(aws, "cloudformation")

    def create(self, template: str) -> dict[str, Any]:
        tags = [{"Key": "team", "Value": "ml"}]
        self.id = self._client.create_stack(StackName=self.name, TemplateBody=template, RoleARN=self.role, Tags=tags)[
            "StackId"
        ]
        return self.settled()

    def update(self, template: str) -> dict[str, Any]:
        self._client.update_stack(StackName=self.name, TemplateBody=template, RoleARN=self.role)
        return self.settled()

    def delete(self) -> dict[str, Any]:
        self._client.delete_stack(StackName=self.name)
        return self.settled()

    def settled(self) -> dict[str, Any]:
        return settled(self._client, self.id)

    def reasons(self) -> str:
        events = self._client.describe_stack_events(StackName=self.id)["StackEvents"]
        failed = [each for each in events if each["ResourceStatus"].endswith("_FAILED")]
        return " ".join(each.get("ResourceStatusReason", "") for each in failed)


def outputs(stack: dict[str, Any]) -> dict[str, str]:
    return {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}


def tag_updates(catalog: Any, made: dict[str, str]) -> str:
    """What the constraint on updates of tags says."""
    described = catalog.describe_constraint(Id=made["TagUpdates"])
    assert described["ConstraintDetail"]["Type"] == "RESOURCE_UPDATE"
    return str(json.loads(described["ConstraintParameters"])["Properties"]["TagUpdateOnProvisionedProduct"])


def test_a_portfolio_with_everything_is_made_updated_and_deleted_with_just_those_permissions(aws):
    stack, catalog = Stack(aws), root(aws, "servicecatalog")

    created = stack.create(a_template("v1"))
    assert created["StackStatus"] == "CREATE_COMPLETE", stack.reasons()
    made = outputs(created)
    portfolio, product, version = made["Portfolio"], made["Product"], made["VersionIds"]
    assert (made["PortfolioName"], made["ProductName"], made["VersionNames"]) == ("Modelyard", "project", "v1")
    assert made["Inside"] == f"{portfolio}|{product}"
    assert made["Principal"] == f"{portfolio}|{PERSON}"
    names = ("Portfolio", "Product", "VersionIds", "Role", "TagUpdates")
    assert [made[name].partition("-")[0] for name in names] == ["port", "prod", "pa", "cons", "cons"]
    described = catalog.describe_product_as_admin(Id=product)
    assert described["Tags"] == [STUDIO_TAG, {"Key": "team", "Value": "ml"}]
    assert catalog.list_principals_for_portfolio(PortfolioId=portfolio)["Principals"] == [
        {"PrincipalARN": PERSON, "PrincipalType": "IAM"}
    ]
    assert json.loads(catalog.describe_constraint(Id=made["Role"])["ConstraintParameters"]) == {"RoleArn": LAUNCH}
    assert tag_updates(catalog, made) == "ALLOWED"

    other = PERSON.replace("ann", "bob")
    updated = stack.update(a_template("v1", "v2", principal=other, description="second", tag_updates="NOT_ALLOWED"))
    assert updated["StackStatus"] == "UPDATE_COMPLETE", stack.reasons()
    now = outputs(updated)
    kept = ("Portfolio", "Product", "Role", "TagUpdates")
    assert [now[name] for name in kept] == [made[name] for name in kept]
    assert tag_updates(catalog, now) == "NOT_ALLOWED"
    assert now["VersionNames"] == "v1,v2"
    assert now["VersionIds"].startswith(f"{version},")
    first = catalog.describe_provisioning_artifact(ProductId=product, ProvisioningArtifactId=version)
    assert first["ProvisioningArtifactDetail"]["Description"] == "second"
    assert catalog.describe_portfolio(Id=portfolio)["PortfolioDetail"]["Description"] == "second"
    assert [
        each["PrincipalARN"] for each in catalog.list_principals_for_portfolio(PortfolioId=portfolio)["Principals"]
    ] == [other]

    assert stack.delete()["StackStatus"] == "DELETE_COMPLETE", stack.reasons()
    assert portfolio not in [each["Id"] for each in catalog.list_portfolios()["PortfolioDetails"]]
    assert catalog.search_products_as_admin()["ProductViewDetails"] == []


def test_a_version_that_the_template_no_longer_has_goes_and_one_that_somebody_else_made_stays(aws):
    stack, catalog = Stack(aws), root(aws, "servicecatalog")
    product = outputs(stack.create(a_template("v1")))["Product"]
    catalog.create_provisioning_artifact(
        ProductId=product,
        Parameters={"Name": "by hand", "Info": {"LoadTemplateFromURL": f"https://{BUCKET}.s3.amazonaws.com/v3.yaml"}},
    )

    updated = stack.update(a_template("v2"))

    assert updated["StackStatus"] == "UPDATE_COMPLETE", stack.reasons()
    assert outputs(updated)["VersionNames"] == "by hand,v2"
    stack.delete()


def test_all_versions_are_made_anew_when_the_template_says_so(aws):
    stack = Stack(aws)
    before = outputs(stack.create(a_template("v1", ReplaceProvisioningArtifacts=True)))["VersionIds"]

    updated = outputs(stack.update(a_template("v1", description="second", ReplaceProvisioningArtifacts=True)))

    assert updated["VersionNames"] == "v1"
    assert updated["VersionIds"] != before
    stack.delete()


@pytest.mark.parametrize(
    "missing", ["servicecatalog:CreatePortfolio", "servicecatalog:CreateProduct", "s3:GetObject", "iam:PassRole"]
)
def test_each_permission_is_asked(aws, missing):
    rights = tuple(([one for one in actions if one != missing], resource) for actions, resource in RIGHTS)
    stack = Stack(aws, tuple(each for each in rights if each[0]))

    created = stack.create(a_template("v1"))

    assert created["StackStatus"] == "ROLLBACK_COMPLETE"
    assert f"is not authorized to perform: {missing} " in stack.reasons()
    catalog = root(aws, "servicecatalog")
    assert catalog.list_portfolios()["PortfolioDetails"] == []
    assert catalog.search_products_as_admin()["ProductViewDetails"] == []


def test_what_service_catalog_refuses_fails_the_resource_in_its_words(aws):
    stack = Stack(aws)

    created = stack.create(a_template("v1", "none"))

    assert created["StackStatus"] == "ROLLBACK_COMPLETE"
    assert 'Resource handler returned message: "Invalid template' in stack.reasons()
    assert root(aws, "servicecatalog").search_products_as_admin()["ProductViewDetails"] == []
