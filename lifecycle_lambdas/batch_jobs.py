"""The transform jobs of a stage whose project is being deleted: they are stopped, before their model and role go."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from lifecycle_lambdas import execute, sweep
from lifecycle_lambdas.calls import AwsCall
from lifecycle_lambdas.execute import Refused
from lifecycle_lambdas.log import log

Clients = Callable[[str], Any]


def stop(clients: Clients, endpoint: str, tags: dict[str, str]) -> list[str]:
    """Ask the stage's jobs that run to stop; the names of all that are not over, of whichever deployment.

    Args:
        tags: by which what is the endpoint's own is known.

    Raises:
        Refused: AWS does not stop one.
        ClientError: AWS may not be asked, or cannot do it now.
    """
    sagemaker = clients("sagemaker")
    # one that somebody stops between the two lists is in both
    running = dict(_under_way(sagemaker, endpoint, "InProgress"))
    stopping = dict(_under_way(sagemaker, endpoint, "Stopping"))
    left = [name for name, arn in (running | stopping).items() if sweep.is_ours(clients, "sagemaker", arn, tags)]
    for name in left:
        if name in stopping:
            continue
        call = AwsCall("sagemaker", "stop_transform_job", {"TransformJobName": name})
        try:
            outcome: str = execute.execute(call, clients)
        except Refused as error:
            if not error.of_the_request:
                raise
            outcome = f"it has just ended, or else is tried again: {error}"
        log("called", operation=call.operation, resource=name, outcome=outcome)
    return left


def _under_way(sagemaker: Any, endpoint: str, status: str) -> Iterator[tuple[str, str]]:
    """Name and ARN of the jobs with that status and a name that a deployment's job has, the tests' included."""
    named = re.compile(re.escape(endpoint) + r"-[1-9][0-9]{0,5}-.+")
    pages = sagemaker.get_paginator("list_transform_jobs").paginate(NameContains=f"{endpoint}-", StatusEquals=status)
    for job in (job for page in pages for job in page["TransformJobSummaries"]):
        if named.fullmatch(job["TransformJobName"]):
            yield job["TransformJobName"], job["TransformJobArn"]
