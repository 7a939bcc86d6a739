"""A platform in local_aws as far as the seed function needs one: the function, the template, a Git host, stacks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from local_aws import LocalAWS
from tests.local_aws.git_clients import git
from tests.local_aws.lambda_requests import TRUST, archive
from tests.local_aws.waiting import settled
from tests.seed_lambda.requests import TOKEN, project

CHECKOUT = Path(__file__).resolve().parents[2]
BUCKET = "modelyard-platform"
OWNER = "acme"
# The function as its archive has it, without the seconds that packing takes: sources and packages where they lie.
SOURCE = f"""
import sys
sys.path[:0] = [{str(CHECKOUT)!r}, {str(CHECKOUT / ".envs" / "seed_lambda")!r}]
from seed_lambda.handler import handler
"""
DATA = (
    "RepositoryUrl",
    "CloneUrl",
    "CloneCommand",
    "RepositoryName",
    "RepositoryArn",
    "DefaultBranch",
    "Groups",
    "OidcSubject",
    "TemplateVersion",
    "Commit",
)


@dataclass
class Stack:
    """What became of a stack."""

    status: str
    outputs: dict[str, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)


class Platform:
    """
    Args:
        host: codecommit or github, of this platform.
    """

    def __init__(self, aws: LocalAWS, host: str, template: bytes, version: str) -> None:
        self.aws, self.host, self.version = aws, host, version
        self.s3, self.sagemaker = aws.client("s3"), aws.client("sagemaker")
        self.stacks = aws.client("cloudformation")
        self.function = self._function()
        self.upload(version, template)

    def upload(self, version: str, template: bytes) -> None:
        """Put an archive of the template where the function looks for it."""
        self.s3.put_object(Bucket=self.bucket, Key=f"modelyard/template/{version}.zip", Body=template)

    def publish(self, version: str, wants: str = "CREATE") -> Stack:
        """The resource of portfolio.yaml."""
        properties = {"ServiceToken": self.function, "TemplateVersion": version, "Repository": "modelyard-template"}
        resource = {"Type": "Custom::ModelyardTemplate", "Properties": properties}
        outputs = ("CloneUrl", "Commit", "TemplateVersion")
        return self.deploy(f"modelyard-portfolio-{self.host}", resource, outputs, wants)

    def announce(self, published: Stack) -> None:
        """The parameters of portfolio.yaml, which say what the latest version is."""
        for name, output in (("version", "TemplateVersion"), ("url", "CloneUrl"), ("commit", "Commit")):
            self.aws.client("ssm").put_parameter(
                Name=f"/modelyard/template/{name}", Value=published.outputs[output], Type="String", Overwrite=True
            )

    def create(self, name: str, **changes: Any) -> Stack:
        return self.deploy(f"project-{name}", self._resource(name, changes), DATA, "CREATE")

    def update(self, name: str, **changes: Any) -> Stack:
        return self.deploy(f"project-{name}", self._resource(name, changes), DATA, "UPDATE")

    def delete(self, name: str) -> Stack:
        stack = self.stacks.describe_stacks(StackName=f"project-{name}")["Stacks"][0]["StackId"]
        self.stacks.delete_stack(StackName=stack)
        return self._awaited(stack)

    def groups(self, name: str) -> dict[str, dict[str, str]]:
        """Tags by name of the groups whose names contain the project's."""
        pages = self.sagemaker.get_paginator("list_model_package_groups").paginate(NameContains=name)
        found = [group for page in pages for group in page["ModelPackageGroupSummaryList"]]
        return {
            group["ModelPackageGroupName"]: {
                tag["Key"]: tag["Value"]
                for tag in self.sagemaker.list_tags(ResourceArn=group["ModelPackageGroupArn"])["Tags"]
            }
            for group in found
        }

    def has_repository(self, name: str) -> bool:
        if self.host == "github":
            return f"{OWNER}/{name}" in self.aws.settings("github")["repositories"]
        try:
            self.aws.client("codecommit").get_repository(repositoryName=name)
        except ClientError:
            return False
        return True

    def clone(self, url: str, folder: Path) -> Path:
        """A clone, as somebody with the token has it."""
        git(folder.parent, "clone", "--quiet", self.with_token(url), str(folder))
        return folder

    def with_token(self, url: str) -> str:
        return url.replace("://", f"://x:{TOKEN}@") if self.host == "github" else url

    def logs(self) -> str:
        """Every line of the function."""
        logs, group = self.aws.client("logs"), f"/aws/lambda/{self.function.rpartition(':')[2]}"
        streams = logs.describe_log_streams(logGroupName=group)["logStreams"]
        return "".join(
            event["message"]
            for stream in streams
            for event in logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
        )

    @property
    def bucket(self) -> str:
        return f"{BUCKET}-{self.host}"

    def _function(self) -> str:
        self.s3.create_bucket(Bucket=self.bucket)
        variables = {
            "GIT_HOST": self.host,
            "GIT_BASE_URL": "none",
            "GIT_OWNER": "none",
            "GIT_TOKEN_SECRET_ARN": "none",
            "CODE_BUCKET": self.bucket,
            "QUEUE_URL": self.aws.client("sqs").create_queue(QueueName=f"events-{self.host}")["QueueUrl"],
            "ARTIFACT_BUCKETS": "modelyard-artifacts-*,xn--*",
            "DATA_BUCKETS": "none",
            "PLATFORM_BUCKETS": "modelyard-templates,modelyard-builds",
        }
        if self.host == "github":
            self.aws.configure("github", {"organizations": {OWNER: {}}, "tokens": {TOKEN: {"login": "robot"}}})
            secret = self.aws.client("secretsmanager").create_secret(Name="git-token", SecretString=TOKEN)
            variables |= {
                "GIT_BASE_URL": f"{self.aws.endpoint}/_github",
                "GIT_OWNER": OWNER,
                "GIT_TOKEN_SECRET_ARN": secret["ARN"],
            }
        name = f"modelyard-seed-{self.host}"
        role = self.aws.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
        made = self.aws.client("lambda").create_function(
            FunctionName=name,
            Role=role["Role"]["Arn"],
            Runtime="python3.11",
            Handler="app.handler",
            Timeout=900,
            MemorySize=1024,
            Code={"ZipFile": archive(app=SOURCE)},
            Environment={"Variables": variables},
        )
        return made["FunctionArn"]

    def _resource(self, name: str, changes: dict[str, Any]) -> dict[str, Any]:
        usual = {"Project": name, "Repository": name, "GitHost": self.host, "ServiceToken": self.function}
        return {"Type": "Custom::ModelyardProject", "Properties": project(**usual | changes)}

    def deploy(self, stack: str, resource: dict[str, Any], outputs: tuple[str, ...], wants: str) -> Stack:
        body = {
            "Resources": {"Seed": resource},
            "Outputs": {name: {"Value": {"Fn::GetAtt": ["Seed", name]}} for name in outputs},
        }
        call = self.stacks.create_stack if wants == "CREATE" else self.stacks.update_stack
        return self._awaited(call(StackName=stack, TemplateBody=json.dumps(body))["StackId"])

    def _awaited(self, stack: str) -> Stack:
        found = settled(self.stacks, stack)
        events = self.stacks.describe_stack_events(StackName=stack)["StackEvents"]
        reasons = [
            event.get("ResourceStatusReason", "")
            for event in events
            if event["LogicalResourceId"] == "Seed" and event["ResourceStatus"].endswith("FAILED")
        ]
        outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
        return Stack(found["StackStatus"], outputs, reasons)
