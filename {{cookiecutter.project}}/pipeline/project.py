"""The project in AWS: made by the platform's product, as SageMaker Studio makes one, for this repository.

The product (Modelyard's servicecatalog/product.yaml) is CloudFormation: repository, roles, policies, model package
groups. SageMaker runs it as a project (https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-projects.html).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from pipeline import InputError
from pipeline.aws import is_missing
from pipeline.settings import ROOT, Settings

TEMPLATE_NAME = "modelyard"
# Written by the platform's installation; where they are not, no platform is.
TEMPLATE_URL, LAUNCH_ROLE = "/modelyard/product/template-url", "/modelyard/launch-role"
BUCKET = "/modelyard/artifact-bucket"
# SageMaker writes some names in ARNs in lower case, and IAM compares them letter by letter.
NAME = re.compile(r"[a-z](-*[a-z0-9]){0,31}")
CI_FILES = {"codecommit": "buildspec.yml", "github": ".github/workflows/ci.yml"}
# The platform makes no repository there.
GITLAB_FILE = ".gitlab-ci.yml"
FAILED = ("CreateFailed", "UpdateFailed", "DeleteFailed")
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0  # seconds between two looks
INITIAL_CONTENT = "InitialContent"


@dataclass(frozen=True)
class Platform:
    """What the account's platform makes projects with.

    Args:
        template_url: of the product's template, in S3.
        launch_role: ARN of the role that makes projects.
        bucket: the platform's own, for projects that name no other.
    """

    template_url: str
    launch_role: str
    bucket: str


@dataclass(frozen=True)
class Project:
    """A project as SageMaker describes it. why: what its stack says of itself, such as why it failed."""

    name: str
    id: str
    status: str
    stack: str | None
    why: str


def find_platform(aws: boto3.Session) -> Platform:
    """Raises InputError where no platform is installed."""
    answer = aws.client("ssm").get_parameters(Names=[TEMPLATE_URL, LAUNCH_ROLE, BUCKET])
    found = {parameter["Name"]: parameter["Value"] for parameter in answer["Parameters"]}
    if missing := answer.get("InvalidParameters"):
        raise InputError(
            "Modelyard's platform is not installed in this account and Region (there are no SSM parameters "
            f"{', '.join(missing)}): have an administrator run `make install-platform`, or make the model "
            "package groups alone with register-project --groups-only"
        )
    return Platform(found[TEMPLATE_URL], found[LAUNCH_ROLE], found[BUCKET])


def check_bucket(aws: boto3.Session, settings: Settings, platform: Platform) -> None:
    """Raises InputError when there is no such bucket. One that may not be looked at passes: its project's roles may.

    Raises botocore's ClientError when S3 cannot say.
    """
    try:
        aws.client("s3").head_bucket(Bucket=settings.aws.bucket)
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status == 404:
            raise InputError(
                f"settings.yaml: aws.bucket: there is no bucket {settings.aws.bucket!r}. The platform's is "
                f"{platform.bucket}: write that (in data.uri too), or one that the platform was installed with, and "
                "commit it"
            ) from None
        if status != 403:
            raise


def git_host(root: Path = ROOT) -> str:
    """codecommit or github: whose CI file is here. Raises InputError when that does not say, or says GitLab."""
    if (root / GITLAB_FILE).is_file():
        raise InputError(
            f"{GITLAB_FILE} is here, and on GitLab the platform makes neither repository nor roles: push to a project "
            "that you made there, run register-project --groups-only, and have an administrator of the account make "
            "what README.md says under CI, GitLab"
        )
    found = [host for host, name in CI_FILES.items() if (root / name).is_file()]
    if len(found) != 1:
        there = " and ".join(CI_FILES[host] for host in found) or "neither of them"
        raise InputError(
            f"it is not clear where the repository is to be ({' or '.join(CI_FILES.values())} would say so, {there} is "
            "here): name it with --git-host"
        )
    return found[0]


def product_parameters(settings: Settings, stages: Iterable[str], host: str, repository: str | None) -> dict[str, str]:
    """The product's parameters for what this repository says of itself; those that it does not say keep their defaults.

    Args:
        stages: of deployment/, which say which scenario this is.
        host: codecommit or github.
        repository: another name for it than the project's.

    Raises:
        InputError: the product makes no project of that name, or roles of other names than settings.yaml asks for.
    """
    if not NAME.fullmatch(settings.project):
        raise InputError(
            f"settings.yaml: project: the platform makes projects in lower case alone, and this one is "
            f"{settings.project!r}: generate it again with another name"
        )
    role = f"{settings.project}-pipeline-{{stage}}"
    if settings.aws.role != role:
        raise InputError(
            f"settings.yaml: aws.role: the platform makes the roles {role} ({{stage}}: feature, dev), and this is "
            f"{settings.aws.role!r}: write {role!r} and commit it"
        )
    found = {
        "Description": settings.description,
        "ProblemType": settings.problem_type,
        "Scenario": "advanced" if "champion" in stages else "baseline",
        "GitHost": host,
        "ArtifactBucket": settings.aws.bucket,
    }
    return {**found, "Repository": repository} if repository else found


def describe(aws: boto3.Session, name: str) -> Project | None:
    """None when there is no such project, or was one."""
    try:
        answer = aws.client("sagemaker").describe_project(ProjectName=name)
    except ClientError as error:
        if not is_missing(error):
            raise
        return None
    if answer["ProjectStatus"] == "DeleteCompleted":
        return None
    providers = answer.get("TemplateProviderDetails") or [{}]
    stack = providers[0].get("CfnTemplateProviderDetail", {}).get("StackDetail", {})
    why = stack.get("StatusMessage") or answer.get("ServiceCatalogProvisionedProductDetails", {}).get(
        "ProvisionedProductStatusMessage", ""
    )
    return Project(answer["ProjectName"], answer["ProjectId"], answer["ProjectStatus"], stack.get("Id"), why)


def create(aws: boto3.Session, settings: Settings, platform: Platform, parameters: dict[str, str]) -> None:
    """Asks SageMaker for the project, with an empty repository; `wait` until it is there."""
    aws.client("sagemaker").create_project(
        ProjectName=settings.project,
        ProjectDescription=settings.description,
        TemplateProviders=[
            {"CfnTemplateProvider": {**_template(platform, parameters, "empty"), "RoleARN": platform.launch_role}}
        ],
    )


def update(aws: boto3.Session, settings: Settings, platform: Platform, parameters: dict[str, str]) -> None:
    """Tells the project that the repository holds what was pushed: the Git host then protects its branches."""
    aws.client("sagemaker").update_project(
        ProjectName=settings.project,
        TemplateProvidersToUpdate=[{"CfnTemplateProvider": _template(platform, parameters, "pushed")}],
    )


def delete(aws: boto3.Session, name: str) -> None:
    aws.client("sagemaker").delete_project(ProjectName=name)


def wait(
    aws: boto3.Session, name: str, report: Callable[[str], None], pause: Callable[[float], None] = time.sleep
) -> Project | None:
    """Reports each status until nothing is under way any more; None when the project is gone."""
    seconds, reported = FIRST_PAUSE, ""
    while True:
        found = describe(aws, name)
        status = "gone" if found is None else found.status
        if status != reported:
            report(f"project {name}: {status}")
            reported = status
        if found is None or not (status == "Pending" or status.endswith("InProgress")):
            return found
        pause(seconds)
        seconds = min(seconds * 1.3, LONGEST_PAUSE)


def stack_of(aws: boto3.Session, project: Project) -> dict[str, Any]:
    """Its stack, as CloudFormation describes it. Raises InputError when this command did not make the project."""
    if project.stack is None:
        raise InputError(
            f"the project {project.name} is there already, and was not made by register-project. Where this is a clone "
            "of its repository, nothing is left to register: python -m pipeline upload-data is next. Else clone it, or "
            "choose another name"
        )
    return dict(aws.client("cloudformation").describe_stacks(StackName=project.stack)["Stacks"][0])


def values(stack: dict[str, Any]) -> dict[str, str]:
    """A stack's parameters."""
    return {each["ParameterKey"]: each.get("ParameterValue", "") for each in stack.get("Parameters", [])}


def outputs(stack: dict[str, Any]) -> dict[str, str]:
    return {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}


def reason(aws: boto3.Session, project: Project) -> str:
    """Why it failed, in the words of the resources that did."""
    if project.stack is None:
        return project.why
    events = aws.client("cloudformation").describe_stack_events(StackName=project.stack)["StackEvents"]
    said = [
        f"{event['LogicalResourceId']}: {event['ResourceStatusReason']}"
        for event in reversed(events)
        if event["ResourceStatus"].endswith("_FAILED")
        and event.get("ResourceStatusReason")
        and event["ResourceType"] != "AWS::CloudFormation::Stack"
        and "cancelled" not in event["ResourceStatusReason"].lower()
    ]
    return "\n  ".join(said) or project.why


def _template(platform: Platform, parameters: dict[str, str], content: str) -> dict[str, Any]:
    listed = {**parameters, INITIAL_CONTENT: content}
    return {
        "TemplateName": TEMPLATE_NAME,
        "TemplateURL": platform.template_url,
        "Parameters": [{"Key": key, "Value": value} for key, value in listed.items()],
    }
