"""What SageMaker asks of IAM as a role when it starts a container: its image, its network, its metrics.

"CreateTrainingJob API: Execution Role Permissions" and its sisters in
https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-roles.html.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from local_aws.permissions.permissions import Denied
from local_aws.permissions.questions import Question
from local_aws.store import Scope

logger = logging.getLogger(__name__)


class Asks(Protocol):
    """Asks IAM as a role (loopback.Loopback)."""

    def ask(
        self, scope: Scope, role: str | None, action: str, resource: str = "*", context: Mapping[str, Any] | None = None
    ) -> None: ...


class ContainerDenied(Exception):
    """The role may not do what its container needs; the text is AWS's, and in brackets what IAM says."""


def ask_for_container(
    loopback: Asks, scope: Scope, role: str | None, image: str, metrics: str, vpc: Mapping[str, Any] | None = None
) -> None:
    """Ask everything that one container needs of its role before it starts.

    Args:
        image: its registry address.
        metrics: the namespace of what it uses, such as "/aws/sagemaker/TrainingJobs". A role that may not publish it
            does without.
        vpc: VpcConfig ({"Subnets": [...], "SecurityGroupIds": [...]}), or None.

    Raises:
        ContainerDenied: the role may not pull the image, or not make the network's interfaces.
    """
    try:
        for question in image_questions(image):
            loopback.ask(scope, role, question.action, question.resource)
    except Denied as denied:
        action = denied.decision.action.partition(":")[2]
        message = f"The role '{role}' does not have {action} permission for the image: '{image}'. ({denied})"
        raise ContainerDenied(message) from denied
    try:
        for question in network_questions(scope, vpc) if vpc else ():
            loopback.ask(scope, role, question.action, question.resource)
    except Denied as denied:
        message = f"The role '{role}' does not have the permissions that VpcConfig needs. ({denied})"
        raise ContainerDenied(message) from denied
    try:
        loopback.ask(scope, role, "cloudwatch:PutMetricData", context={"cloudwatch:namespace": metrics})
    except Denied as denied:
        logger.info("a container has no metrics in %s: %s", metrics, denied)


def image_questions(image: str) -> list[Question]:
    """What pulling an image asks.

    Args:
        image: <account>.dkr.ecr.<region>.<suffix>/<repository>:<tag>, or @<digest> for the tag. One of another
            registry (public.ecr.aws) needs no permission.
    """
    registry, _, name = image.partition("/")
    match registry.split("."):
        case [account, "dkr", "ecr", region, *_]:
            repository = name.partition("@")[0].rpartition(":")[0] or name.partition("@")[0]
            # The partition goes with the Region's name.
            partition = next((f"aws-{start[:-1]}" for start in ("cn-", "us-gov-") if region.startswith(start)), "aws")
            arn = f"arn:{partition}:ecr:{region}:{account}:repository/{repository}"
            actions = ("BatchCheckLayerAvailability", "GetDownloadUrlForLayer", "BatchGetImage")
            return [Question("ecr:GetAuthorizationToken"), *(Question(f"ecr:{action}", arn) for action in actions)]
    return []


def network_questions(scope: Scope, vpc: Mapping[str, Sequence[str]]) -> list[Question]:
    """What network interfaces in a VPC ask: looked at, made, and removed at the container's end."""
    ec2 = f"arn:aws:ec2:{scope.region}:{scope.account}:"
    interfaces = f"{ec2}network-interface/*"
    looks = ("NetworkInterfaces", "Vpcs", "DhcpOptions", "Subnets", "SecurityGroups")
    places = [f"{ec2}subnet/{name}" for name in vpc.get("Subnets", ())]
    places += [f"{ec2}security-group/{name}" for name in vpc.get("SecurityGroupIds", ())]
    return [
        *(Question(f"ec2:Describe{what}") for what in looks),
        *(Question("ec2:CreateNetworkInterface", resource) for resource in (interfaces, *places)),
        Question("ec2:CreateNetworkInterfacePermission", interfaces),
        Question("ec2:DeleteNetworkInterface", interfaces),
        Question("ec2:DeleteNetworkInterfacePermission", interfaces),
    ]
