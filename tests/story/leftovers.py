"""What AWS still has of a project: every list that could show something of it is asked.

What CodePipeline handed on stays in the platform's bucket, whose lifecycle removes it (docs/projects.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

# What is called <project>-... may be another project's, whose name goes on: these are what names go on with.
PARTS = "feature|dev|prod|champion|challenger|pipeline-feature|pipeline-dev|ci-feature|ci-dev|ci-prod|model"
# The same of names that end with them.
ENDS = (
    "developer|reader|approver|retrain|deleted|template"
    "|ci-check|ci-retrain|ci-start|ci-template|ci-delivery-dev|ci-delivery-prod"
)

# service, paginated operation, key of the list, key of the name (None: the items are names)
LISTS = (
    ("sagemaker", "list_pipelines", "PipelineSummaries", "PipelineName"),
    ("sagemaker", "list_model_package_groups", "ModelPackageGroupSummaryList", "ModelPackageGroupName"),
    ("sagemaker", "list_models", "Models", "ModelName"),
    ("sagemaker", "list_endpoint_configs", "EndpointConfigs", "EndpointConfigName"),
    ("sagemaker", "list_endpoints", "Endpoints", "EndpointName"),
    ("sagemaker", "list_transform_jobs", "TransformJobSummaries", "TransformJobName"),
    ("sagemaker", "list_projects", "ProjectSummaryList", "ProjectName"),
    ("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
    ("cloudwatch", "list_dashboards", "DashboardEntries", "DashboardName"),
    ("scheduler", "list_schedules", "Schedules", "Name"),
    ("iam", "list_roles", "Roles", "RoleName"),
    ("iam", "list_policies", "Policies", "PolicyName"),
    ("codecommit", "list_repositories", "repositories", "repositoryName"),
    ("codebuild", "list_projects", "projects", None),
    ("events", "list_rules", "Rules", "Name"),
    ("logs", "describe_log_groups", "logGroups", "logGroupName"),
)
# SageMaker remembers for ever that there was one.
OVER = {"ProjectStatus": ("DeleteCompleted",), "TransformJobStatus": ("Completed", "Failed", "Stopped")}
# What is meant to stay (docs/create-a-project.md, "Delete a project"): what endpoints have said may be evidence.
STAYS = re.compile("logs describe_log_groups: /aws/sagemaker/Endpoints/.*")


def leftovers(client: Callable[[str], Any], project: str) -> list[str]:
    """What is left and should not be, as "<service> <list>: <name>".

    Args:
        client: a boto3 client of a service, of somebody who may list everything.
    """
    return [one for one in everything(client, project) if not STAYS.fullmatch(one)]


def everything(client: Callable[[str], Any], project: str) -> list[str]:
    """The same with what is meant to stay."""
    name = re.escape(project)
    before = "modelyard-|/aws/sagemaker/Endpoints/|/aws/[a-z]+/(modelyard-)?"
    ours = re.compile(rf"({before})?{name}(-({PARTS})(-.*)?|-({ENDS}))?", re.IGNORECASE)
    found = []
    for service, operation, listed, key in LISTS:
        for item in _items(client(service), operation, listed):
            if key is not None and any(item.get(status) in over for status, over in OVER.items()):
                continue
            called = item if key is None else item[key]
            if ours.fullmatch(called):
                found.append(f"{service} {operation}: {called}")
    targets = client("application-autoscaling").get_paginator("describe_scalable_targets")
    for page in targets.paginate(ServiceNamespace="sagemaker"):
        for target in page["ScalableTargets"]:
            if ours.fullmatch(target["ResourceId"].split("/")[1]):
                found.append(f"application-autoscaling describe_scalable_targets: {target['ResourceId']}")
    codepipeline = client("codepipeline")
    for page in codepipeline.get_paginator("list_pipelines").paginate():
        for pipeline in page["pipelines"]:  # they are called by the project's id
            described = codepipeline.get_pipeline(name=pipeline["name"])
            tags = codepipeline.list_tags_for_resource(resourceArn=described["metadata"]["pipelineArn"])["tags"]
            if {"key": "modelyard:project", "value": project} in tags:
                found.append(f"codepipeline list_pipelines: {pipeline['name']}")
    for product in _provisioned_products(client("servicecatalog")):
        if {"Key": "sagemaker:project-name", "Value": project} in product.get("Tags", []):
            found.append(f"servicecatalog search_provisioned_products: {product['Name']}")
    stacks = client("cloudformation").get_paginator("describe_stacks").paginate()
    for stack in (stack for page in stacks for stack in page["Stacks"]):
        tags = {tag["Key"]: tag["Value"] for tag in stack.get("Tags", [])}
        if tags.get("sagemaker:project-name") == project:
            found.append(f"cloudformation describe_stacks: {stack['StackName']}")
    return found


def _provisioned_products(client: Any) -> Iterator[dict[str, Any]]:
    """Of the whole account, not the caller's alone."""
    asked: dict[str, Any] = {"AccessLevelFilter": {"Key": "Account", "Value": "self"}}
    while True:
        answer = client.search_provisioned_products(**asked)
        yield from answer["ProvisionedProducts"]
        if not answer.get("NextPageToken"):
            return
        asked["PageToken"] = answer["NextPageToken"]


def _items(client: Any, operation: str, listed: str) -> list[Any]:
    if not client.can_paginate(operation):
        return list(getattr(client, operation)().get(listed, []))
    return [item for page in client.get_paginator(operation).paginate() for item in page.get(listed, [])]
