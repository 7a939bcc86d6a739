"""Who plays in the story where IAM is enforced: an administrator, and a data scientist with a project's policies.

What the owner of an account does before them is done by plain calls, as the account's root.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from local_aws import LocalAWS, control
from tests.story.story import CHECKOUT

ADMINISTRATOR = "administrator"
ADMINISTRATOR_ACCESS = "arn:aws:iam::aws:policy/AdministratorAccess"
TEMPLATE = CHECKOUT / "servicecatalog" / "project.yaml"
AWS = LocalAWS | control.Server


@dataclass(frozen=True)
class People:
    """Of one project: the variables with which each calls AWS, and the role of the project's pipelines.

    Args:
        role: the role's name.
    """

    aws: AWS
    project: str
    bucket: str
    administrator: dict[str, str]
    data_scientist: dict[str, str]
    role: str

    @property
    def role_arn(self) -> str:
        return self._outputs(f"modelyard-{self.project}")["PipelineRoleArn"]

    def admit(self) -> None:
        """What an administrator does for a project once the platform is there: its pipelines never approve; the data
        scientist may ask for plans, and approve the project's versions.
        """
        outputs = self._outputs("modelyard")
        _put_stack(self, {"DenyApprovalPolicyArn": outputs["DenyApprovalPolicy"]})
        iam = self.aws.client("iam", credentials=self.administrator)
        approver = self._outputs(f"modelyard-{self.project}")["ApproverPolicy"]
        for policy in (outputs["PlannerPolicy"], approver):
            iam.attach_user_policy(UserName=data_scientist(self.project), PolicyArn=policy)

    def _outputs(self, stack: str) -> dict[str, str]:
        cloudformation = self.aws.client("cloudformation", credentials=self.administrator)
        (found,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}


def data_scientist(project: str) -> str:
    """The user's name."""
    return f"{project}-data-scientist"


def prepare(aws: AWS, project: str, bucket: str) -> People:
    """A bucket, the project's stack, and who works with them. The platform is not installed yet; `admit` follows it."""
    iam = aws.client("iam")
    users = [user["UserName"] for user in iam.list_users()["Users"]]
    if ADMINISTRATOR not in users:
        iam.create_user(UserName=ADMINISTRATOR)
        iam.attach_user_policy(UserName=ADMINISTRATOR, PolicyArn=ADMINISTRATOR_ACCESS)
    iam.create_user(UserName=data_scientist(project))
    people = People(
        aws,
        project,
        bucket,
        _signed_in(aws, ADMINISTRATOR),
        _signed_in(aws, data_scientist(project)),
        f"{project}-pipeline",
    )
    aws.client("s3", credentials=people.administrator).create_bucket(Bucket=bucket)
    _put_stack(people, {})
    outputs = people._outputs(f"modelyard-{project}")
    for policy in ("DeveloperPolicy", "ReaderPolicy"):
        iam.attach_user_policy(UserName=data_scientist(project), PolicyArn=outputs[policy])
    return people


def _signed_in(aws: AWS, user: str) -> dict[str, str]:
    key = aws.client("iam").create_access_key(UserName=user)["AccessKey"]
    return aws.environment | {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def _put_stack(people: People, further: dict[str, str]) -> None:
    """Make the project's stack, or change it."""
    cloudformation = people.aws.client("cloudformation", credentials=people.administrator)
    name = f"modelyard-{people.project}"
    values = {"Project": people.project, "ArtifactBucket": people.bucket} | further
    request: dict[str, Any] = {
        "StackName": name,
        "TemplateBody": TEMPLATE.read_text(),
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()],
    }
    if further:
        cloudformation.update_stack(**request)
    else:
        cloudformation.create_stack(**request)
    done = "stack_update_complete" if further else "stack_create_complete"
    cloudformation.get_waiter(done).wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
