"""`make demo`: the story on this machine. No AWS account, no Docker, no network."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from rich.console import Console

from local_aws import LocalAWS
from local_aws.control import StartError
from tests.story.story import CHECKOUT, ChapterFailed, Story, fresh_folder

BUCKET = "demo-artifacts"
ROLE = "modelyard-pipeline"


def prepare(aws: LocalAWS, bucket: str = BUCKET, role: str = ROLE) -> str:
    """What an administrator has made before a data scientist comes: the artifact bucket and the pipeline's role.

    Returns:
        The role's ARN.
    """
    aws.client("s3").create_bucket(Bucket=bucket)
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    answer = aws.client("iam").create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(trust))
    return answer["Role"]["Arn"]


def main() -> int:
    console = Console(highlight=False)
    started = time.monotonic()
    folder = fresh_folder(CHECKOUT / "build" / "demo")
    try:
        with LocalAWS() as aws:
            console.print(f"local_aws answers AWS calls on {aws.endpoint} ({time.monotonic() - started:.1f} s).")
            role = prepare(aws)
            story = Story("demo", aws.server.region, BUCKET, role, aws.environment, folder, console=console)
            story.tell()
    except (ChapterFailed, StartError) as error:
        console.print(f"\n[bold red]The demo stopped:[/] {error}")
        return 1
    except KeyboardInterrupt:
        console.print("\nStopped by you; local_aws is ended, nothing runs on.")
        return 130
    console.print()
    console.rule("[bold]Done", align="left", style="cyan")
    for title, seconds in story.timings:
        console.print(f"{seconds:6.1f} s  {title}")
    console.print(f"{time.monotonic() - started:6.1f} s  in all\n")
    repository = story.repository.relative_to(Path.cwd()) if story.repository.is_relative_to(Path.cwd()) else folder
    console.print(f"The repository is {repository}; its README says what to try next.")
    console.print("For a server of your own that goes on:  python -m local_aws start  (docs/local-aws.md).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
