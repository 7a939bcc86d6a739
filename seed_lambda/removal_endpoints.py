"""The project's endpoints: the platform's controller is asked to take them away, and it is watched until they are gone.

They are the controller's: only it may stop a deployment of its own that is under way, and it would bring back what
somebody else deleted. So the seed function has no right to delete any of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from seed_lambda.aws_calls import found, tags
from seed_lambda.context import Context
from seed_lambda.properties import group_name
from seed_lambda.removal_schedule import SCHEDULE_GROUP

# Seconds until the controller is asked again: a message can end as a dead letter, and an approval may have come since.
ASK_AGAIN = 60.0


class Endpoints:
    """The endpoints of a project's stages, with everything of theirs.

    Args:
        with_group: the stages whose model package group is the project's own.
        without_group: stages without a group. Somebody may have deleted it by hand: of theirs there may be something
            that carries the project's tags. A stage whose group is somebody else's is in neither.
    """

    def __init__(self, context: Context, project: str, with_group: Iterable[str], without_group: Iterable[str]) -> None:
        self._context = context
        self._project = project
        self._own = tuple(with_group)
        self._left = dict.fromkeys((*with_group, *without_group))
        self._asked = 0.0

    def ask(self) -> None:
        """Ask the controller to take away the endpoint of each stage that has a group or anything else."""
        stages = [stage for stage in self._left if stage in self._own or self._what_is_left(stage) is not None]
        self._ask(stages)

    def ask_again(self) -> None:
        """The same for those that are left, when it is long enough ago."""
        if self._context.monotonic() - self._asked >= ASK_AGAIN:
            self._ask(self._left)

    def ask_once_more(self) -> None:
        """When the versions are gone: what somebody approved in the last moment goes, too. Not awaited."""
        self._ask(self._own)

    def left(self) -> list[str]:
        """What is not gone yet, for people, one thing of each stage; a stage that was empty once is not asked again."""
        found_left = {stage: what for stage in self._left if (what := self._what_is_left(stage)) is not None}
        self._left = dict.fromkeys(found_left)
        return list(found_left.values())

    def _ask(self, stages: Iterable[str]) -> None:
        self._asked = self._context.monotonic()
        for stage in stages:
            message = {
                "look": "remove",
                "endpoint": group_name(self._project, stage),
                "by": self._context.mark,
                "why": f"project {self._project} is being deleted",
            }
            self._context.still_current()
            self._context.client("sqs").send_message(
                QueueUrl=self._context.settings.queue_url, MessageBody=json.dumps(message)
            )
            self._context.log("asked for an endpoint's removal", endpoint=message["endpoint"])

    def _what_is_left(self, stage: str) -> str | None:
        """The first thing of the stage's endpoint that is there, in the order in which the controller takes away."""
        return next(self._things(stage), None)

    def _things(self, stage: str) -> Iterator[str]:
        endpoint = group_name(self._project, stage)
        sagemaker, cloudwatch = self._context.client("sagemaker"), self._context.client("cloudwatch")
        answer = found(sagemaker.describe_endpoint, EndpointName=endpoint)
        if answer is not None and self._is_own(stage, tags(self._context, answer["EndpointArn"])):
            yield f"endpoint {endpoint} ({answer['EndpointStatus']})"
        numbered = re.compile(rf"{re.escape(endpoint)}-[1-9][0-9]*")
        for operation, members, name, arn in _LISTS:
            # SageMaker finds them in the middle of others' names, too: large pages
            pages = sagemaker.get_paginator(operation).paginate(
                NameContains=f"{endpoint}-", PaginationConfig={"PageSize": 100}
            )
            for page in pages:
                for one in page[members]:
                    if numbered.fullmatch(one[name]) and self._is_own(stage, tags(self._context, one[arn])):
                        yield f"{_WORDS[operation]} {one[name]}"
        alarms = re.compile(rf"{numbered.pattern}-(?:abort|rollback-{_ALARMS})|{re.escape(endpoint)}-{_ALARMS}")
        pages = cloudwatch.get_paginator("describe_alarms").paginate(
            AlarmNamePrefix=f"{endpoint}-", AlarmTypes=["MetricAlarm"]
        )
        for page in pages:
            for alarm in page["MetricAlarms"]:
                if alarms.fullmatch(alarm["AlarmName"]) and self._is_own(stage, self._alarm_tags(alarm)):
                    yield f"alarm {alarm['AlarmName']}"
        # it has no tags, but in the platform's group nobody else makes one of this name
        scheduler = self._context.client("scheduler")
        if found(scheduler.get_schedule, Name=endpoint, GroupName=SCHEDULE_GROUP) is not None:
            yield f"schedule {endpoint}"
        if stage not in self._own:
            return  # a dashboard has no tags: without the group nothing says whose it is
        pages = cloudwatch.get_paginator("list_dashboards").paginate(DashboardNamePrefix=endpoint)
        if any(one["DashboardName"] == endpoint for page in pages for one in page["DashboardEntries"]):
            yield f"dashboard {endpoint}"

    def _alarm_tags(self, alarm: dict[str, Any]) -> dict[str, str]:
        answer = found(self._context.client("cloudwatch").list_tags_for_resource, ResourceARN=alarm["AlarmArn"])
        return {} if answer is None else {tag["Key"]: tag["Value"] for tag in answer["Tags"]}

    def _is_own(self, stage: str, has: dict[str, str]) -> bool:
        """As the controller knows what is the endpoint's."""
        return (has.get("modelyard:project"), has.get("modelyard:stage")) == (self._project, stage)


_ALARMS = "(?:errors|latency|custom)"
# boto3's operation, the answer's list, and in it name and ARN
_LISTS = (
    ("list_endpoint_configs", "EndpointConfigs", "EndpointConfigName", "EndpointConfigArn"),
    ("list_models", "Models", "ModelName", "ModelArn"),
)
_WORDS = {"list_endpoint_configs": "endpoint config", "list_models": "model"}
