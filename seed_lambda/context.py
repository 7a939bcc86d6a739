"""What a request needs from outside: AWS's clients, the time that is left, the log, and whether it still counts."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError

from seed_lambda.errors import OutOfTime, Superseded
from seed_lambda.log import Log
from seed_lambda.request import Request
from seed_lambda.settings import Settings

# A call that hangs must not take the function's whole time; what is refused for its rate comes again.
CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "max_attempts": 4})

# Seconds that a request may wait, in all, for a Git host that does not answer or takes no calls for the moment: a stack
# must fail within a minute. A Delete asks again after pauses of its own.
PATIENCE: Mapping[str, float] = {"Create": 40.0, "Update": 40.0, "Delete": 60.0}

# What the stack's resource says while it waits for each kind of request.
_WAITING: Mapping[str, tuple[str, ...]] = {
    "Create": ("CREATE_IN_PROGRESS",),
    "Update": ("UPDATE_IN_PROGRESS",),
    "Delete": ("DELETE_IN_PROGRESS",),
}
# The same of one that the stack takes away, or has taken away.
_GOING = ("DELETE_IN_PROGRESS", "DELETE_COMPLETE", "absent")
# Seconds from the stack's request within which no function can have been killed and called again.
_BEFORE_ANOTHER_TRY = 45.0


class Clients:
    """boto3's clients, each made once for the process and only when it is needed.

    Args:
        session: a boto3 session; None makes one with AWS's default credentials, when the first client is asked for.
    """

    def __init__(self, session: Any = None) -> None:
        self._session = session
        self._made: dict[str, Any] = {}

    def __call__(self, service: str) -> Any:
        """The client of a service by boto3's name."""
        if service not in self._made:
            if self._session is None:
                import boto3  # not at the top: a request that is refused at once needs none

                self._session = boto3.Session()
            self._made[service] = self._session.client(service, config=CONFIG)
        return self._made[service]


class Context:
    """One request's surroundings.

    Args:
        request: what CloudFormation asks for.
        settings: the platform's constants; None reads the environment when they are first asked for.
        client: answers boto3's client of a service by its name.
        deadline: when the function must have answered, as `monotonic` has it.
        log: takes this request's lines.
        monotonic: seconds that never go back.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        request: Request,
        settings: Settings | None,
        client: Callable[[str], Any],
        deadline: float,
        log: Log | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.request = request
        self._settings = settings
        self.client = client
        self.log = log or Log(request.ids)
        self.monotonic = monotonic
        self._began = monotonic()
        self.changes = 0  # calls that may have changed something
        self._waiting = _WAITING[request.request_type]
        self._taking_back = False
        self._undoing_update: bool | None = None  # as it was when it was first asked for
        self._deadline = deadline
        self._sleep = sleep
        self._waited_for_host = 0.0

    @classmethod
    def of(cls, request: Request, client: Callable[[str], Any], seconds: float) -> Context:
        """A context with the environment's settings and so many seconds to work in."""
        return cls(request, None, client, time.monotonic() + seconds)

    @property
    def settings(self) -> Settings:
        """Raises SeedError when the environment does not have them."""
        if self._settings is None:
            self._settings = Settings.from_environment()
        return self._settings

    @property
    def mark(self) -> str:
        """The stack's ARN: what is made for a project carries it, and nothing else is changed or deleted."""
        return self.request.stack_id

    def remaining(self) -> float:
        """Seconds left to work in; less than nothing when there are none."""
        return self._deadline - self.monotonic()

    def pause(self, seconds: float) -> None:
        """Wait. Raises OutOfTime, without waiting, when there is not that much time left."""
        if self.remaining() <= seconds:
            raise OutOfTime("could not be finished in time; try it again")
        self._sleep(seconds)

    def patience(self) -> float:
        """Seconds that may still be waited for the Git host; nothing or less when there are none."""
        return min(PATIENCE[self.request.request_type] - self._waited_for_host, self.remaining())

    def waited_for_host(self, seconds: float) -> None:
        """To be told of each call that the Git host did not answer, or failed to do: how long it took."""
        self._waited_for_host += seconds

    def pause_for_host(self, seconds: float) -> None:
        """Wait until the Git host may be asked again. Raises OutOfTime as pause() does."""
        self.pause(seconds)
        self.waited_for_host(seconds)

    def wait(self, seconds: float) -> None:
        """Wait, whatever time is left."""
        self._sleep(seconds)

    def still_current(self) -> None:
        """To be called before each call that changes something.

        A function's retry may come after CloudFormation has given up on the request, rolled back, or begun something
        else: what it made then would belong to nobody.

        Raises:
            Superseded: the stack does not wait for this request any more.
            OutOfTime: there is no time left to change anything in.
        """
        if self.remaining() <= 0:
            raise OutOfTime("could not be finished in time; try it again")
        status = self.resource_status()
        if status not in self._waiting:
            raise Superseded(
                f"the stack does not wait for this {self.request.request_type} any more: its resource "
                f"{self.request.logical_id} is {status}; nothing more was done"
            )
        if self._undoing_update is not None and self._is_rolling_an_update_back() != self._undoing_update:
            raise Superseded(
                "the stack began to take this update back, or to make another one, while it was done; nothing more was "
                "done"
            )
        self.changes += 1

    def resource_status(self) -> str:
        """CloudFormation's status of the resource, such as CREATE_IN_PROGRESS; "absent" when it is not known."""
        try:
            answer = self.client("cloudformation").describe_stack_resource(
                StackName=self.request.stack_id, LogicalResourceId=self.request.logical_id
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ValidationError":  # of a stack or resource that is not there
                return "absent"
            raise
        return answer["StackResourceDetail"]["ResourceStatus"]

    def is_first_try(self) -> bool:
        """Whether this Create is the stack's current one, and no other call of the function has worked on it before.

        One that was killed may have made something, of which this one knows nothing; Lambda calls again a minute later:
        https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
        """
        detail = self.client("cloudformation").describe_stack_resource(
            StackName=self.request.stack_id, LogicalResourceId=self.request.logical_id
        )["StackResourceDetail"]
        since = detail.get("LastUpdatedTimestamp")  # when it became what it is
        if since is None or detail["ResourceStatus"] not in _WAITING["Create"]:
            return False
        return time.time() - since.timestamp() - (self.monotonic() - self._began) < _BEFORE_ANOTHER_TRY

    def stack_status(self) -> str:
        """CloudFormation's status of the stack, such as ROLLBACK_IN_PROGRESS."""
        return str(self._stack()["StackStatus"])

    def stack_outputs(self) -> dict[str, str]:
        """The stack's outputs; while an update is done or taken back, those from before it."""
        return {output["OutputKey"]: output["OutputValue"] for output in self._stack().get("Outputs", [])}

    def _stack(self) -> dict[str, Any]:
        return dict(self.client("cloudformation").describe_stacks(StackName=self.request.stack_id)["Stacks"][0])

    @property
    def undoing_update(self) -> bool:
        """Whether this Update takes an earlier one back (old and new properties change places).

        The resource has the same status in both: one that has begun as the one ends when the stack is at the other.
        """
        if self.request.request_type != "Update":
            return False
        if self._undoing_update is None:
            self._undoing_update = self._is_rolling_an_update_back()
        return self._undoing_update

    def _is_rolling_an_update_back(self) -> bool:
        return self.stack_status() == "UPDATE_ROLLBACK_IN_PROGRESS"

    @property
    def undoing_creation(self) -> bool:
        """Whether this Delete takes back a stack that could not be created: its own roll-back, or somebody who deletes
        it while it is being created, or after a roll-back that failed."""
        if self._taking_back:
            return True
        if self.request.request_type != "Delete":
            return False
        return self.stack_status() == "ROLLBACK_IN_PROGRESS" or self._was_never_created()

    def _was_never_created(self) -> bool:
        """Whether the stack's events begin with its creation and never say that it was complete.

        One whose creation failed and was not rolled back (--on-failure DO_NOTHING) can be completed by an update.
        CloudFormation keeps events for 90 days: of an older stack the beginning is missing, which says nothing.
        https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html
        """
        pages = self.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=self.mark)
        events = [event for page in pages for event in page["StackEvents"]]
        of_stack = {event["ResourceStatus"] for event in events if event.get("PhysicalResourceId") == self.mark}
        return "CREATE_IN_PROGRESS" in of_stack and of_stack.isdisjoint(("CREATE_COMPLETE", "UPDATE_COMPLETE"))

    def taking_back(self) -> Context | None:
        """The surroundings of taking back what this Create has made, when the stack takes its resource away meanwhile.

        The stack's own Delete may have looked just before a call of ours made something. None when it does not, or
        when nothing was made here: then nothing can be left, or the Delete is still to come.
        """
        if self.request.request_type != "Create" or not self.changes or self.resource_status() not in _GOING:
            return None
        back = copy.copy(self)
        back.request = replace(self.request, request_type="Delete")
        back._waiting = _GOING
        back._taking_back = True
        back._waited_for_host = 0.0
        return back
