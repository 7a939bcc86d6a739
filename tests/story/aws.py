"""`make story-aws`: the demo's story in a real AWS account, for whoever has one. It ends with a verdict.

It needs an administrator's credentials (as the AWS CLI finds them). It installs the platform, creates a project by the
product, pushes a feature branch, and costs the time of a build and three small SageMaker jobs; with DEPLOY=1 it goes on
to production, which costs about two hours of up to six ml.m5.large. The project is deleted again, with its data; the
platform stays (make uninstall-platform).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from tests.story import chapters
from tests.story.story import ChapterFailed, Story

BAKE_MINUTES = 10  # of the canaries

HELP = "Set REGION, or run aws configure: make story-aws REGION=us-east-1"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make story-aws", description=__doc__)
    parser.add_argument("--region", default=os.environ.get("REGION") or boto3.Session().region_name)
    parser.add_argument(
        "--deploy",
        action="store_true",
        default=os.environ.get("DEPLOY") == "1",
        help="deploy as well (DEPLOY=1)",
    )
    parser.add_argument("--yes", action="store_true", default=os.environ.get("YES") == "1", help="do not ask (YES=1)")
    arguments = parser.parse_args()
    console = Console(highlight=False, emoji=False, soft_wrap=True)
    if not arguments.region:
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
        creators = principal(identity["Arn"])
        story = Story(project, arguments.region, environment, environment, Path(folder), creators)
        story.console, story.bake_minutes = console, BAKE_MINUTES
        try:
            chapters.tell(story, (*chapters.TRAINING, *(chapters.SERVING if arguments.deploy else ())))
        except ChapterFailed as error:
            failure = str(error)
        finally:
            try:
                chapters.tell(story, [chapters.DELETE])
            except (ChapterFailed, ClientError) as error:
                failure = failure or str(error)
                console.print(f"The project {project} may still cost money: look for it in the account. {error}")
            bucket = f"modelyard-artifacts-{identity['Account']}-{arguments.region}"
            console.print(f"removed {remove_data(session, project, bucket)} objects below s3://{bucket}/{project}/")
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
    costs = "a dozen small SageMaker jobs and three endpoints" if deploy else "three small SageMaker jobs"
    return (
        console.input(f"This installs the platform there and starts {costs}; it costs a little. Go on? [y/N] ") == "y"
    )


def principal(caller: str) -> str:
    """Who calls, as a principal of a portfolio: a user, or of a role's session the role, wherever its path lies.

    Args:
        caller: GetCallerIdentity's Arn.
    """
    partition = caller.split(":")[1]
    if ":assumed-role/" in caller:
        return f"arn:{partition}:iam:::role/*{caller.split('/')[1]}"
    return caller


def remove_data(session: Any, project: str, bucket: str) -> int:
    """Delete every version of the objects below "<project>/"; how many there were. Safe to run twice."""
    removed = 0
    s3 = session.client("s3")
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=f"{project}/"):
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        keys = [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in found]
        if keys:
            s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
            removed += len(keys)
    return removed


if __name__ == "__main__":
    sys.exit(main())
