"""What the platform is called, and what stays of it in an account."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from servicecatalog.errors import InstallError

TEMPLATE = Path(__file__).resolve().parent / "platform.yaml"
PORTFOLIO_TEMPLATE = TEMPLATE.parent / "portfolio.yaml"
STACK = "modelyard"
PORTFOLIO_STACK = "modelyard-portfolio"
TEMPLATE_REPOSITORY = "modelyard-template"
LEDGER_TABLE = "modelyard-ledger"
KEY_ALIAS = "alias/modelyard"
TAGS = {"modelyard:part": "platform"}
GITHUB = "https://github.com"


@dataclass(frozen=True)
class Account:
    """Where the platform is, or is to be: one account and Region, and who asks."""

    session: boto3.Session
    number: str
    region: str
    caller: str

    @classmethod
    def of(cls, session: boto3.Session) -> Account:
        """Raises InstallError when credentials or Region are missing or refused."""
        if session.region_name is None:
            raise InstallError("no Region is set; set AWS_REGION, or run: aws configure")
        try:
            identity = session.client("sts").get_caller_identity()
        except (BotoCoreError, ClientError) as error:
            raise InstallError(
                f"AWS does not accept your credentials: {error}; try: aws sts get-caller-identity"
            ) from error
        return cls(session, identity["Account"], session.region_name, identity["Arn"])

    @cached_property
    def clients(self) -> dict[str, Any]:
        return {}

    def client(self, service: str) -> Any:
        if service not in self.clients:
            self.clients[service] = self.session.client(service)
        return self.clients[service]

    @property
    def bucket(self) -> str:
        """For the functions' archives and the template."""
        return f"modelyard-platform-{self.number}-{self.region}"

    @property
    def partition(self) -> str:
        return self.caller.split(":")[1]

    @property
    def artifact_bucket(self) -> str:
        """Where projects keep their artifacts unless somebody says otherwise."""
        return f"modelyard-artifacts-{self.number}-{self.region}"

    @property
    def template_bucket(self) -> str:
        """For the product's templates."""
        return f"modelyard-templates-{self.number}-{self.region}"

    @property
    def build_bucket(self) -> str:
        """For what CodePipeline hands from one action to the next."""
        return f"modelyard-builds-{self.number}-{self.region}"

    @property
    def buckets(self) -> dict[str, str]:
        """What platform.yaml calls its buckets, by the parameters that name others."""
        return {
            "ExistingArtifactBucket": self.artifact_bucket,
            "ExistingTemplateBucket": self.template_bucket,
            "ExistingBuildBucket": self.build_bucket,
        }

    def kept_key(self) -> str | None:
        """The ARN of the KMS key that alias/modelyard leads to, None when there is none that can be used."""
        try:
            key = self.client("kms").describe_key(KeyId=KEY_ALIAS)["KeyMetadata"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "NotFoundException":
                return None
            raise
        return key["Arn"] if key["KeyState"] == "Enabled" else None

    def kept_ledger(self) -> str | None:
        """The ledger's name, None when there is no such table."""
        dynamodb = self.client("dynamodb")
        try:
            dynamodb.describe_table(TableName=LEDGER_TABLE)
        except dynamodb.exceptions.ResourceNotFoundException:
            return None
        return LEDGER_TABLE

    def kept_oidc_provider(self, base_url: str) -> str | None:
        """The ARN of the account's OIDC provider for a GitHub, None when there is none.

        Args:
            base_url: such as https://github.com or https://github.example.com.
        """
        host = oidc_url(base_url).partition("://")[2]
        arn = f"arn:{self.partition}:iam::{self.number}:oidc-provider/{host}"
        iam = self.client("iam")
        try:
            iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
        except iam.exceptions.NoSuchEntityException:
            return None
        return arn


def oidc_url(base_url: str) -> str:
    """Who issues the tokens of a GitHub's jobs, as platform.yaml has it.

    https://docs.github.com/en/enterprise-server@latest/admin/configuring-settings/hardening-security-for-your-enterprise/enabling-openid-connect-for-github-actions
    """
    return "https://token.actions.githubusercontent.com" if base_url == GITHUB else f"{base_url}/_services/token"
