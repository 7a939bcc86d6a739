"""Projects of product.yaml in local_aws, on what they need of a platform: its SSM parameters, its three policies, and
instead of the seed function a small one that answers CloudFormation and makes no repository.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from local_aws import LocalAWS
from servicecatalog import account
from tests.servicecatalog import template

FOLDER = Path(account.__file__).parent
ACCOUNT, REGION = "123456789012", "us-east-1"
BUCKET, TEMPLATES, BUILDS = "shared-artifacts", "templates-123456789012", "modelyard-builds-123456789012-us-east-1"
LAUNCH_ROLE = f"modelyard-launch-{REGION}"
# Answers success, with what the seed function would say of a repository that it made; failure where the artifact bucket
# is to be read as further data.
SEED = """
import json, os, urllib.request

def handler(event, context):
    asked = event["ResourceProperties"]
    name, github = asked["Repository"], asked["GitHost"] == "github"
    url = os.environ["REPOSITORIES"] + name
    data = {
        "RepositoryUrl": "https://git.example/" + name,
        "CloneUrl": url,
        "CloneCommand": "git clone " + url,
        "RepositoryName": name,
        "RepositoryArn": "none" if github else "arn:aws:codecommit:us-east-1:123456789012:" + name,
        "DefaultBranch": "dev",
        "Groups": ",".join(asked["Project"] + "-" + stage for stage in ("feature", "dev", "prod")),
        "OidcSubject": os.environ["OIDC_SUBJECT"] if github else "none",
        "TemplateVersion": asked["TemplateVersion"],
        "Commit": "0" * 40,
    }
    answer = {key: event[key] for key in ("StackId", "RequestId", "LogicalResourceId")}
    answer |= {"Status": "SUCCESS", "PhysicalResourceId": "modelyard-project/" + asked["Project"], "Data": data}
    if event["RequestType"] != "Delete" and os.environ["BUCKET"] in asked.get("DataBuckets", "").split(","):
        answer |= {"Status": "FAILED", "Reason": "others' data"}
    body = json.dumps(answer).encode()
    put = urllib.request.Request(event["ResponseURL"], data=body, method="PUT", headers={"Content-Type": ""})
    urllib.request.urlopen(put).read()
"""


@dataclass(frozen=True)
class Project:
    """A project's stack, seen by the account's root.

    Args:
        outputs: of the stack.
    """

    name: str
    stack: str
    outputs: dict[str, str]


@dataclass
class Projects:
    """An account in which projects can be made.

    Args:
        oidc_host: the issuer of the Git host's tokens, without https://.
        oidc_subject: what they begin with for the repository of every project.
        key: the platform's KMS key, by its ARN.
    """

    aws: LocalAWS
    oidc_host: str = "token.actions.githubusercontent.com"
    oidc_subject: str = "repo:acme@1/churn@2"
    made: list[Project] = field(default_factory=list)
    key: str = ""

    @cached_property
    def cloudformation(self) -> Any:
        return self.aws.client("cloudformation")

    def prepare(self) -> Projects:
        """What a platform brings, as far as product.yaml asks for it."""
        iam, ssm = self.aws.client("iam"), self.aws.client("ssm")
        s3 = self.aws.client("s3")
        for bucket in (BUCKET, TEMPLATES, BUILDS):
            s3.create_bucket(Bucket=bucket)
        # longer than a template that a request carries itself may be
        s3.put_object(Bucket=TEMPLATES, Key="product.yaml", Body=(FOLDER / "product.yaml").read_bytes())
        policy = json.dumps(self._platform["PlatformKey"]["Properties"]["KeyPolicy"])
        self.key = self.aws.client("kms").create_key(Policy=_here(policy))["KeyMetadata"]["Arn"]
        provider = iam.create_open_id_connect_provider(
            Url=f"https://{self.oidc_host}", ClientIDList=["sts.amazonaws.com"]
        )
        values = {
            "/modelyard/functions/seed": self._seed(),
            "/modelyard/artifact-bucket": BUCKET,
            "/modelyard/build-bucket": BUILDS,
            "/modelyard/key-arn": self.key,
            "/modelyard/git/oidc-provider-arn": provider["OpenIDConnectProviderArn"],
            "/modelyard/git/oidc-host": self.oidc_host,
            "/modelyard/policies/deny-approval": self._policy("DenyApprovalPolicy"),
            "/modelyard/policies/project-boundary": self._policy("ProjectBoundary"),
            "/modelyard/policies/delivery-boundary": self._policy("DeliveryBoundary"),
        }
        for name, value in values.items():
            ssm.put_parameter(Name=name, Value=value, Type="String")
        self._launch_role()
        return self

    def create(self, name: str, **parameters: str) -> Project:
        """A project, waited for."""
        stack = f"SP-{name}"
        self.cloudformation.create_stack(**self._request(stack, name, parameters))
        self.cloudformation.get_waiter("stack_create_complete").wait(
            StackName=stack, WaiterConfig={"Delay": 0.2, "MaxAttempts": 300}
        )
        project = Project(name, stack, self._outputs(stack))
        self.made.append(project)
        return project

    def update(self, project: Project, **parameters: str) -> None:
        self.cloudformation.update_stack(**self._request(project.stack, project.name, parameters))
        self.cloudformation.get_waiter("stack_update_complete").wait(
            StackName=project.stack, WaiterConfig={"Delay": 0.2, "MaxAttempts": 300}
        )

    def delete(self, project: Project) -> None:
        self.cloudformation.delete_stack(StackName=project.stack)
        self.cloudformation.get_waiter("stack_delete_complete").wait(
            StackName=project.stack, WaiterConfig={"Delay": 0.2, "MaxAttempts": 300}
        )

    def _request(self, stack: str, name: str, parameters: dict[str, str]) -> dict[str, Any]:
        values = {"SageMakerProjectName": name, "SageMakerProjectId": f"p-{name}"[:15], **parameters}
        return {
            "StackName": stack,
            "TemplateURL": f"{self.aws.client('s3').meta.endpoint_url}/{TEMPLATES}/product.yaml",
            "RoleARN": f"arn:aws:iam::{ACCOUNT}:role/modelyard/{LAUNCH_ROLE}",
            "Capabilities": ["CAPABILITY_NAMED_IAM"],
            "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()],
        }

    def _outputs(self, stack: str) -> dict[str, str]:
        (found,) = self.cloudformation.describe_stacks(StackName=stack)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}

    @cached_property
    def _platform(self) -> dict[str, Any]:
        return template.resolved(template.load(FOLDER / "platform.yaml"), {"ArtifactBuckets": BUCKET})

    def _policy(self, name: str) -> str:
        """A policy of platform.yaml; its ARN."""
        properties = self._platform[name]["Properties"]
        document = _here(json.dumps(properties["PolicyDocument"]).replace(template.OF_SSM["PlatformKeyArn"], self.key))
        made = self.aws.client("iam").create_policy(
            PolicyName=_here(properties["ManagedPolicyName"]), PolicyDocument=document
        )
        return str(made["Policy"]["Arn"])

    def _launch_role(self) -> None:
        """The role of portfolio.yaml with which projects are made, in an account where the rest of it is not."""
        values = {"TemplateBucket": TEMPLATES, "ProductKey": "product.yaml", "TemplateVersion": "1"}
        portfolio = template.resolved(template.load(FOLDER / "portfolio.yaml"), values)
        iam, role = self.aws.client("iam"), portfolio["LaunchRole"]["Properties"]
        trust = _here(json.dumps(role["AssumeRolePolicyDocument"]))
        iam.create_role(RoleName=LAUNCH_ROLE, Path=role["Path"], AssumeRolePolicyDocument=trust)
        for name, document in self.launch_policies().items():
            iam.put_role_policy(RoleName=LAUNCH_ROLE, PolicyName=name, PolicyDocument=document)

    def launch_policies(self, **parameters: str) -> dict[str, str]:
        """The launch role's policies, by name.

        Args:
            parameters: of portfolio.yaml, what it would find in SSM parameters among them.
        """
        values = {"TemplateBucket": TEMPLATES, "ProductKey": "product.yaml", "TemplateVersion": "1", **parameters}
        documents = template.policies(template.resolved(template.load(FOLDER / "portfolio.yaml"), values))
        return {
            name.rpartition("/")[2]: _here(json.dumps(document))
            for name, document in documents.items()
            if name == "LaunchPolicy" or name.startswith("LaunchRole/")
        }

    def published(self, name: str) -> str:
        """The ARN of one of the boundaries, "project" or "delivery"."""
        parameter = f"/modelyard/policies/{name}-boundary"
        return str(self.aws.client("ssm").get_parameter(Name=parameter)["Parameter"]["Value"])

    def _seed(self) -> str:
        """The small function's ARN."""
        trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        role = self.aws.client("iam").create_role(RoleName="seed", AssumeRolePolicyDocument=document)["Role"]["Arn"]
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("seed.py", SEED)
        repositories = f"{self.aws.endpoint}/v1/repos/"
        function = self.aws.client("lambda").create_function(
            FunctionName="modelyard-seed",
            Runtime="python3.11",
            Handler="seed.handler",
            Role=role,
            Timeout=60,
            Environment={
                "Variables": {"OIDC_SUBJECT": self.oidc_subject, "REPOSITORIES": repositories, "BUCKET": BUCKET}
            },
            Code={"ZipFile": archive.getvalue()},
        )
        return str(function["FunctionArn"])


def _here(document: str) -> str:
    """For this account and Region what was resolved for another."""
    return document.replace(str(template.PSEUDO["AWS::AccountId"]), ACCOUNT).replace("eu-west-1", REGION)
