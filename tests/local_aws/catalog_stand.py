"""An enforcing server with a small product in its catalog, and the people who may use it or not."""

from __future__ import annotations

import functools
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local_aws import LocalAWS
from tests.local_aws.people import root, sign_in
from tests.local_aws.waiting import STACK_PAUSE, wait_for

STUDIO_TAG = {"Key": "sagemaker:studio-visibility", "Value": "true"}
BUCKET, KEY = "catalog-templates", "projects/small.yaml"
URL = f"https://{BUCKET}.s3.us-east-1.amazonaws.com/{KEY}"
LAUNCH_ROLE = "catalog-launch"
SERVICES = ("servicecatalog.amazonaws.com", "cloudformation.amazonaws.com", "sagemaker.amazonaws.com")
Statement = tuple[list[str], str]
TOPIC_ACTIONS = [
    "sns:CreateTopic",
    "sns:TagResource",
    "sns:GetTopicAttributes",
    "sns:SetTopicAttributes",
    "sns:ListSubscriptionsByTopic",
    "sns:ListTagsForResource",
    "sns:GetDataProtectionPolicy",
    "sns:DeleteTopic",
]
STACK_ACTIONS = [f"cloudformation:{name}" for name in ("CreateStack", "UpdateStack", "DeleteStack", "DescribeStack*")]
# What a launch role needs for the small template.
LAUNCH_RIGHTS: tuple[Statement, ...] = ((STACK_ACTIONS, "*"), (TOPIC_ACTIONS, "*"), (["s3:GetObject"], "*"))
MAY_LAUNCH: Statement = (["servicecatalog:*"], "*")

SMALL_TEMPLATE = """
Description: A topic.
Metadata:
  AWS::CloudFormation::Interface:
    ParameterGroups:
      - Label: {default: What it does}
        Parameters: [Scenario]
    ParameterLabels:
      Scenario: {default: Scenario of deployment}
Parameters:
  SageMakerProjectName: {Type: String, AllowedPattern: "[a-z0-9-]+", MaxLength: 32}
  SageMakerProjectId: {Type: String}
  Scenario: {Type: String, Default: baseline, AllowedValues: [baseline, advanced], Description: How it is deployed.}
  Owner: {Type: String, Default: nobody}
Resources:
  Topic:
    Type: AWS::SNS::Topic
    Properties:
      TopicName: !Ref SageMakerProjectName
      DisplayName: !Sub "${Scenario} ${Owner}"
Outputs:
  TopicArn: {Value: !Ref Topic, Description: The topic}
"""


def new_name(prefix: str = "p") -> str:
    return f"{prefix}{uuid.uuid4().hex[:10]}"


def policy(*statements: Statement) -> str:
    allowed = [{"Effect": "Allow", "Action": actions, "Resource": resource} for actions, resource in statements]
    return json.dumps({"Version": "2012-10-17", "Statement": allowed})


def trust(*services: str) -> str:
    statement = {"Effect": "Allow", "Principal": {"Service": list(services)}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@dataclass(frozen=True)
class Person:
    """A user with the rights that he is given, and no others."""

    aws: LocalAWS
    name: str
    arn: str
    credentials: Mapping[str, str]

    def client(self, service: str) -> Any:
        return _client(self.aws, service, tuple(self.credentials.items()))

    def may(self, *statements: Statement) -> Person:
        root(self.aws, "iam").put_user_policy(
            UserName=self.name, PolicyName="rights", PolicyDocument=policy(*statements)
        )
        return self


@functools.cache
def _client(aws: LocalAWS, service: str, credentials: tuple[tuple[str, str], ...]) -> Any:
    return aws.client(service, credentials=dict(credentials) or None)


def a_person(aws: LocalAWS) -> Person:
    iam, name = root(aws, "iam"), new_name("user")
    arn = iam.create_user(UserName=name)["User"]["Arn"]
    return Person(aws, name, arn, sign_in(aws, name))


@dataclass(frozen=True)
class Catalog:
    """A portfolio with the product "small", which is launched as `role`."""

    aws: LocalAWS
    portfolio: str
    product: str
    version: str
    role: str

    def let_in(self, principal: str, kind: str = "IAM") -> None:
        root(self.aws, "servicecatalog").associate_principal_with_portfolio(
            PortfolioId=self.portfolio, PrincipalARN=principal, PrincipalType=kind
        )

    def member(self) -> Person:
        """A person who may launch the product."""
        person = a_person(self.aws).may(MAY_LAUNCH)
        self.let_in(person.arn)
        return person

    def trust_role(self, *services: str) -> None:
        """Let these services assume the launch role, and no others."""
        root(self.aws, "iam").update_assume_role_policy(
            RoleName=self.role.rpartition("/")[2], PolicyDocument=trust(*services)
        )

    def give_role(self, *rights: Statement) -> None:
        """Let the launch role do this, and nothing else."""
        root(self.aws, "iam").put_role_policy(
            RoleName=self.role.rpartition("/")[2], PolicyName="rights", PolicyDocument=policy(*rights)
        )

    def let_updates_change_tags(self, value: str = "ALLOWED") -> str:
        """The id of the constraint that says so."""
        parameters = {"Version": "2.0", "Properties": {"TagUpdateOnProvisionedProduct": value}}
        made = root(self.aws, "servicecatalog").create_constraint(
            PortfolioId=self.portfolio,
            ProductId=self.product,
            Type="RESOURCE_UPDATE",
            Parameters=json.dumps(parameters),
        )
        return str(made["ConstraintDetail"]["ConstraintId"])

    def release(self, template: str, name: str = "v2") -> str:
        """The id of a new version of the product."""
        key = f"{new_name()}.yaml"
        root(self.aws, "s3").put_object(Bucket=BUCKET, Key=key, Body=template)
        made = root(self.aws, "servicecatalog").create_provisioning_artifact(
            ProductId=self.product,
            Parameters={"Name": name, "Info": {"LoadTemplateFromURL": f"https://{BUCKET}.s3.amazonaws.com/{key}"}},
        )
        return str(made["ProvisioningArtifactDetail"]["Id"])

    def launch(self, client: Any, name: str, **more: Any) -> dict[str, Any]:
        """The record of a launch that has begun; `more`: further parameters of the template."""
        values = {"SageMakerProjectName": name, "SageMakerProjectId": "p-1", **more}
        return client.provision_product(
            ProductId=self.product,
            ProvisioningArtifactId=self.version,
            ProvisionedProductName=name,
            ProvisioningParameters=pairs(values),
        )["RecordDetail"]

    def ended(self, record: Mapping[str, Any]) -> dict[str, Any]:
        return record_end(root(self.aws, "servicecatalog"), record["RecordId"])


def pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in values.items()]


def make_catalog(
    aws: LocalAWS, rights: tuple[Statement, ...] = LAUNCH_RIGHTS, template: str = SMALL_TEMPLATE
) -> Catalog:
    """Args:
    rights: of the launch role, which every catalog has its own of.
    """
    iam, s3, catalog = root(aws, "iam"), root(aws, "s3"), root(aws, "servicecatalog")
    role = iam.create_role(RoleName=new_name(LAUNCH_ROLE), AssumeRolePolicyDocument=trust(*SERVICES))["Role"]
    iam.put_role_policy(RoleName=role["RoleName"], PolicyName="rights", PolicyDocument=policy(*rights))
    if BUCKET not in [each["Name"] for each in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=template, Tagging="sagemaker:studio-visibility=true")
    portfolio = catalog.create_portfolio(DisplayName="Small", ProviderName="ML", Tags=[{"Key": "team", "Value": "ml"}])
    portfolio_id = portfolio["PortfolioDetail"]["Id"]
    made = catalog.create_product(
        Name=new_name("small-"),
        Owner="ML",
        ProductType="CLOUD_FORMATION_TEMPLATE",
        Tags=[STUDIO_TAG],
        ProvisioningArtifactParameters={"Name": "v1", "Info": {"LoadTemplateFromURL": URL}},
    )
    product = made["ProductViewDetail"]["ProductViewSummary"]["ProductId"]
    catalog.associate_product_with_portfolio(ProductId=product, PortfolioId=portfolio_id)
    constraint = {"RoleArn": role["Arn"]}
    catalog.create_constraint(
        PortfolioId=portfolio_id, ProductId=product, Type="LAUNCH", Parameters=json.dumps(constraint)
    )
    return Catalog(aws, portfolio_id, product, made["ProvisioningArtifactDetail"]["Id"], role["Arn"])


def record_end(client: Any, record: str) -> dict[str, Any]:
    """What DescribeRecord answers when the change is done."""

    def ended() -> Any:
        answer = client.describe_record(Id=record)
        return answer if answer["RecordDetail"]["Status"] != "IN_PROGRESS" else None

    answer: dict[str, Any] = wait_for(ended, pause=STACK_PAUSE)
    return answer
