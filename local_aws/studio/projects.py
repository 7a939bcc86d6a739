"""A project, made from a template and followed until it is there, or deleted and followed until it is gone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from local_aws.studio.templates import FILLED_BY_SAGEMAKER, Clients, Template
from local_aws.template_forms import value_faults

LAUNCH_ROLE = "/modelyard/launch-role"  # where the platform keeps the ARN of the role for the S3 route
PROFILE = "sagemaker:user-profile-arn"  # the tag that Studio gives projects
PAUSE = 1.0  # seconds between two looks

Tell = Callable[[str], None]  # told what goes on: a project's status, then each resource that is done


class ProjectError(Exception):
    """Why a project was not made or not deleted, for the person who asked; of a failed stack in its own words."""


@dataclass(frozen=True)
class Project:
    """
    Args:
        stack: the stack's name.
        outputs: the stack's, by name.
    """

    name: str
    id: str
    arn: str
    status: str
    message: str = ""
    stack: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)


def create_project(
    clients: Clients,
    name: str,
    template: Template,
    parameters: Mapping[str, str] | None = None,
    *,
    description: str = "",
    role: str | None = None,
    domain: str | None = None,
    tell: Tell = lambda _line: None,
    pause: float = PAUSE,
) -> Project:
    """Make a project and wait until it is there.

    Args:
        clients: boto3's clients by service, such as functools.cache(boto3.Session().client).
        template: of `find_template`.
        parameters: values by name; those with a default may be left out.
        role: of the S3 route: ARN of the role that CloudFormation acts as; None: what Parameter Store has as
            /modelyard/launch-role.
        domain: the Studio domain's id, for the tag that Studio gives projects; None: the only one that this person
            sees. Without one there is no tag.
        pause: seconds between two looks.

    Raises:
        ProjectError: the parameters are not what the template takes, SageMaker refuses, or the stack failed.
    """
    values = dict(parameters or {})
    check_parameters(template, values)
    sagemaker = clients("sagemaker")
    request: dict[str, Any] = {
        "ProjectName": name,
        "Tags": _tags(clients, domain),
        **_what_from(clients, template, values, role),
    }
    if description:
        request["ProjectDescription"] = description
    try:
        sagemaker.create_project(**request)
    except ClientError as error:
        raise ProjectError(f"Project {name} was not made: {error.response['Error']['Message']}") from error
    project = _wait(clients, name, _Progress(clients, tell), pause)
    if project.status != "CreateCompleted":
        raise ProjectError(f"Project {name} is {project.status}. {project.message}".strip())
    return project


def delete_project(clients: Clients, name: str, *, tell: Tell = lambda _line: None, pause: float = PAUSE) -> None:
    """Delete a project and wait until it is gone.

    Raises:
        ProjectError: SageMaker refuses, or the stack could not be deleted.
    """
    progress = _Progress(clients, tell)
    try:
        progress.skip(_stack_of(clients("sagemaker").describe_project(ProjectName=name)))
        clients("sagemaker").delete_project(ProjectName=name)
    except ClientError as error:
        if _is_missing(error):
            raise ProjectError(f"There is no project {name}.") from error
        raise ProjectError(f"Project {name} was not deleted: {error.response['Error']['Message']}") from error
    try:
        project = _wait(clients, name, progress, pause)
    except ClientError as error:
        if _is_missing(error):
            return  # whether a deleted project is still described is not documented
        raise ProjectError(f"Project {name} is being deleted: {error.response['Error']['Message']}") from error
    if project.status != "DeleteCompleted":
        raise ProjectError(f"Project {name} is {project.status}. {project.message}".strip())


def check_parameters(template: Template, values: Mapping[str, str]) -> None:
    """Raise ProjectError unless the template takes the values."""
    if own := [name for name in FILLED_BY_SAGEMAKER if name in values]:
        raise ProjectError(f"{' and '.join(own)} cannot be given: SageMaker fills it. Leave it out.")
    filled = dict.fromkeys((name for name in FILLED_BY_SAGEMAKER if name in template.form.parameters), "")
    faults = [
        fault
        for fault in value_faults(template.form, {**filled, **values})
        if not any(f"Parameter '{name}'" in fault for name in FILLED_BY_SAGEMAKER)
    ]
    if faults:
        raise ProjectError(f"Template {template.name}: {'; '.join(faults)}")


def _tags(clients: Clients, domain: str | None) -> list[dict[str, str]]:
    """Those with which Studio calls CreateProject: the user profile of who asks, here called as he is in IAM.

    Seen in https://github.com/aws-samples/sagemaker-studio-emr/issues/42; no document of AWS's says it.
    """
    try:
        pages = clients("sagemaker").get_paginator("list_domains").paginate()
        found = [each["DomainArn"] for page in pages for each in page["Domains"] if domain in (None, each["DomainId"])]
    except ClientError:  # not for this person's eyes
        return []
    if len(found) != 1:
        return []
    name = re.split("[:/]", clients("sts").get_caller_identity()["Arn"])[-1]
    profile = re.sub("[^A-Za-z0-9]+", "-", name).strip("-")[:63]
    return [{"Key": PROFILE, "Value": f"{found[0].replace(':domain/', ':user-profile/')}/{profile}"}]


def _what_from(clients: Clients, template: Template, values: Mapping[str, str], role: str | None) -> dict[str, Any]:
    parameters = [{"Key": key, "Value": value} for key, value in values.items()]
    if template.route == "servicecatalog":
        return {
            "ServiceCatalogProvisioningDetails": {
                "ProductId": template.product,
                "ProvisioningArtifactId": template.version,
                "PathId": template.path,
                "ProvisioningParameters": parameters,
            }
        }
    provider = {
        "TemplateName": "project",
        "TemplateURL": template.url,
        "RoleARN": role or launch_role(clients),
        "Parameters": parameters,
    }
    return {"TemplateProviders": [{"CfnTemplateProvider": provider}]}


def launch_role(clients: Clients) -> str:
    """The ARN of the role for the S3 route, as the platform keeps it.

    Raises:
        ProjectError: it is not there, or not for this person's eyes.
    """
    try:
        return str(clients("ssm").get_parameter(Name=LAUNCH_ROLE)["Parameter"]["Value"])
    except ClientError as error:
        raise ProjectError(
            f"A template in S3 needs --role, the ARN of the role that CloudFormation acts as; Parameter Store does not"
            f" tell it as {LAUNCH_ROLE}: {error.response['Error']['Message']}"
        ) from error


def _is_missing(error: ClientError) -> bool:
    return "does not exist" in error.response["Error"]["Message"]


def _wait(clients: Clients, name: str, progress: _Progress, pause: float) -> Project:
    sagemaker = clients("sagemaker")
    while True:
        described = sagemaker.describe_project(ProjectName=name)
        status, stack = described["ProjectStatus"], _stack_of(described)
        progress.look(f"project {name}: {status}", stack)
        if not status.endswith("InProgress") and status != "Pending":
            break
        time.sleep(pause)
    outputs = _outputs(clients, stack) if status == "CreateCompleted" else {}
    identity = (name, described["ProjectId"], described["ProjectArn"])
    return Project(*identity, status, _message(described), stack, outputs)


class _Progress:
    """Tells a project's status, and what its stack's resources came to, for who may see that; each once."""

    def __init__(self, clients: Clients, tell: Tell) -> None:
        self._clients, self._tell = clients, tell
        self._said, self._seen = "", set[str]()

    def look(self, status: str, stack: str) -> None:
        for line in self._news(stack):
            self._tell(line)
        if status != self._said:
            self._tell(status)
            self._said = status

    def skip(self, stack: str) -> None:
        """Tell nothing of what has been until now."""
        self._news(stack)

    def _news(self, stack: str) -> list[str]:
        if not stack:
            return []
        try:
            events = self._clients("cloudformation").describe_stack_events(StackName=stack)["StackEvents"]
        except ClientError:  # not begun yet, gone already, or not for this person's eyes
            return []
        lines = []
        for event in reversed(events):
            if event["EventId"] not in self._seen:
                self._seen.add(event["EventId"])
                if event["ResourceStatus"].endswith(("_COMPLETE", "_FAILED")):
                    reason = event.get("ResourceStatusReason", "")
                    lines.append(f"{event['LogicalResourceId']}: {event['ResourceStatus']} {reason}".rstrip())
        return lines


def _stack_of(described: Mapping[str, Any]) -> str:
    """The name of a project's stack; empty while it has none."""
    for provider in described.get("TemplateProviderDetails", []):
        return str(provider["CfnTemplateProviderDetail"].get("StackDetail", {}).get("Name", ""))
    product = described.get("ServiceCatalogProvisionedProductDetails", {}).get("ProvisionedProductId")
    return f"SC-{described['ProjectArn'].split(':')[4]}-{product}" if product else ""


def _message(described: Mapping[str, Any]) -> str:
    for provider in described.get("TemplateProviderDetails", []):
        return str(provider["CfnTemplateProviderDetail"].get("StackDetail", {}).get("StatusMessage", ""))
    return str(described.get("ServiceCatalogProvisionedProductDetails", {}).get("ProvisionedProductStatusMessage", ""))


def _outputs(clients: Clients, stack: str) -> dict[str, str]:
    try:
        found = clients("cloudformation").describe_stacks(StackName=stack)["Stacks"][0].get("Outputs", [])
    except ClientError:  # not for this person's eyes
        return {}
    return {one["OutputKey"]: one["OutputValue"] for one in found}
