"""`make story-aws`: the demo's story in a real AWS account, for whoever has one. It ends with a verdict.

It needs credentials (as the AWS CLI finds them), an artifact bucket and a pipeline role (docs/unverified.md says which
permissions), and it costs the time of three small SageMaker jobs; with DEPLOY=1 it also installs the platform and
deploys, which costs about an hour of two ml.m5.large. What it made it removes again; bucket, role and platform stay.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from tests.story.story import ChapterFailed, Story

BAKE_MINUTES = 10  # of the canary that is rejected
REMOVAL_SECONDS = 3600.0

HELP = (
    "Set BUCKET to an S3 bucket of this account and ROLE to a role that SageMaker may assume:"
    " make story-aws BUCKET=my-artifacts ROLE=modelyard-pipeline REGION=us-east-1"
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make story-aws", description=__doc__)
    parser.add_argument("--bucket", default=os.environ.get("BUCKET"))
    parser.add_argument("--role", default=os.environ.get("ROLE"))
    parser.add_argument("--region", default=os.environ.get("REGION") or boto3.Session().region_name)
    parser.add_argument(
        "--deploy",
        action="store_true",
        default=os.environ.get("DEPLOY") == "1",
        help="install the platform and deploy as well (DEPLOY=1); the platform stays: make uninstall-platform",
    )
    parser.add_argument("--yes", action="store_true", default=os.environ.get("YES") == "1", help="do not ask (YES=1)")
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    if not (arguments.bucket and arguments.role and arguments.region):
        console.print(HELP)
        return 2
    # This story is about AWS itself: nothing may lead it elsewhere, neither here nor in the commands that it runs.
    for name in [name for name in os.environ if name.startswith("AWS_ENDPOINT_URL")]:
        console.print(f"{name} is set; it is left out, since this story plays in AWS.")
        del os.environ[name]
    session = boto3.Session(region_name=arguments.region)
    try:
        identity = session.client("sts").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        console.print(f"AWS does not accept your credentials: {error}\nTry: aws sts get-caller-identity")
        return 2
    console.print(f"Account {identity['Account']}, {arguments.region}, as {identity['Arn']}.")
    if not arguments.yes and not _confirmed(console, arguments.deploy):
        console.print("Nothing was done.")
        return 2

    project = f"story-{uuid.uuid4().hex[:8]}"
    failure = None
    with tempfile.TemporaryDirectory(prefix="modelyard-story-") as folder:
        environment = {"AWS_REGION": arguments.region, "AWS_DEFAULT_REGION": arguments.region}
        # Administrator and data scientist are one here: whoever called.
        here = (arguments.region, arguments.bucket, arguments.role)
        story = Story(project, *here, environment, environment, Path(folder))
        story.console, story.bake_minutes = console, BAKE_MINUTES
        try:
            story.train()
            if arguments.deploy:
                story.deploy()
        except ChapterFailed as error:
            failure = str(error)
        finally:
            with story.chapter("What the story made is removed"):
                for what in remove_project(session, project, arguments.bucket):
                    console.print(f"removed {what}")
    console.print()
    if failure:
        console.print(f"[bold red]VERDICT: the story does not hold on AWS.[/] {failure}")
        console.print("Please open an issue with everything above.")
        return 1
    console.print("[bold green]VERDICT: the story holds on AWS.[/]")
    console.print("docs/unverified.md lists what single look each open point still needs.")
    return 0


def _confirmed(console: Console, deploy: bool) -> bool:
    if not sys.stdin.isatty():
        console.print("No terminal to ask on; YES=1 says yes.")
        return False
    costs = "three small SageMaker jobs"
    if deploy:
        costs = "six small SageMaker jobs and an endpoint, and installs the platform"
    return console.input(f"This starts {costs} there, and costs a little. Go on? [y/N] ") == "y"


def remove_project(session: Any, project: str, bucket: str) -> list[str]:
    """Delete a story's endpoint, pipelines, model packages, groups and objects. Safe to run twice.

    The endpoint goes as users take one away: its versions are rejected, and the platform removes it.

    Args:
        session: a boto3 session (or anything with its `client`).
        project: the story's own random name; everything whose name begins with "<project>-" is deleted.
        bucket: only keys below "<project>/" are deleted.

    Returns:
        What was removed, one entry each.
    """
    sagemaker, s3 = session.client("sagemaker"), session.client("s3")
    removed = _take_away(sagemaker, f"{project}-dev")
    for page in sagemaker.get_paginator("list_pipelines").paginate(PipelineNamePrefix=project):
        for pipeline in page["PipelineSummaries"]:
            if not pipeline["PipelineName"].startswith(f"{project}-"):
                continue
            sagemaker.delete_pipeline(PipelineName=pipeline["PipelineName"], ClientRequestToken=uuid.uuid4().hex)
            removed.append(f"pipeline {pipeline['PipelineName']}")
    for page in sagemaker.get_paginator("list_model_package_groups").paginate(NameContains=project):
        for group in page["ModelPackageGroupSummaryList"]:
            name = group["ModelPackageGroupName"]
            if not name.startswith(f"{project}-"):
                continue
            for versions in sagemaker.get_paginator("list_model_packages").paginate(ModelPackageGroupName=name):
                for version in versions["ModelPackageSummaryList"]:
                    sagemaker.delete_model_package(ModelPackageName=version["ModelPackageArn"])
                    removed.append(f"model package {name}/{version['ModelPackageVersion']}")
            sagemaker.delete_model_package_group(ModelPackageGroupName=name)
            removed.append(f"model package group {name}")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{project}/"):
        keys = [{"Key": item["Key"]} for item in page.get("Contents", [])]
        if keys:
            s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
            removed.append(f"{len(keys)} objects below s3://{bucket}/{project}/")
    return removed


def _take_away(sagemaker: Any, endpoint: str) -> list[str]:
    """Reject the approved versions of the group that is named as the endpoint, and wait until the endpoint is gone."""
    if not _is_there(sagemaker, endpoint):
        return []
    pages = sagemaker.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName=endpoint, ModelApprovalStatus="Approved"
    )
    for version in [summary for page in pages for summary in page["ModelPackageSummaryList"]]:
        sagemaker.update_model_package(
            ModelPackageArn=version["ModelPackageArn"], ModelApprovalStatus="Rejected", ApprovalDescription="it is over"
        )
    until = time.monotonic() + REMOVAL_SECONDS
    while _is_there(sagemaker, endpoint):
        if time.monotonic() > until:
            raise ChapterFailed(
                f"endpoint {endpoint} is still there, and costs:"
                f" aws sagemaker delete-endpoint --endpoint-name {endpoint}"
            )
        time.sleep(2)
    return [f"endpoint {endpoint}"]


def _is_there(sagemaker: Any, endpoint: str) -> bool:
    found = sagemaker.list_endpoints(NameContains=endpoint)["Endpoints"]
    return any(one["EndpointName"] == endpoint for one in found)


if __name__ == "__main__":
    sys.exit(main())
