"""One CloudFormation stack, brought to a template by a change set, whatever state it was left in."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from servicecatalog.errors import InstallError

# A stack whose creation failed takes no change: it can only be deleted.
# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html
NEVER_MADE = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED")
NOT_TAKEN_BACK = "UPDATE_ROLLBACK_FAILED"
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between two looks at what CloudFormation does
NO_CHANGES = ("didn't contain changes", "No updates are to be performed")

Say = Callable[[str], None]


@dataclass
class Stack:
    """
    Args:
        cloudformation: a boto3 client.
        name: the stack's.
        say: takes one line of progress at a time.
    """

    cloudformation: Any
    name: str
    say: Say
    _told: set[str] = field(default_factory=set)
    _failed: list[str] = field(default_factory=list)
    _moved: bool = False

    def describe(self) -> dict[str, Any] | None:
        """DescribeStacks' answer; None when there is no stack."""
        try:
            return self.cloudformation.describe_stacks(StackName=self.name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in error.response["Error"]["Message"]:
                return None
            raise

    @property
    def outputs(self) -> dict[str, str]:
        stack = self.describe() or {}
        return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}

    @property
    def parameters(self) -> dict[str, str]:
        """Values by name; of one that Systems Manager keeps, its name there."""
        stack = self.describe() or {}
        return {one["ParameterKey"]: one.get("ParameterValue", "") for one in stack.get("Parameters", [])}

    def at_rest(self) -> str | None:
        """The status once nothing is under way; None when there is no stack."""
        self._skip_past_events()
        return self._wait()

    def left(self) -> dict[str, str]:
        """What a creation that failed left since its template retains it: physical ids by logical ids."""
        if self.at_rest() not in NEVER_MADE:
            return {}
        return {
            event["LogicalResourceId"]: event["PhysicalResourceId"]
            for event in self._events()
            if event["ResourceStatus"] == "DELETE_SKIPPED"
        }

    def repair(self) -> str | None:
        """What settle() will have to change before the stack takes a change, for people; None: nothing."""
        status = self.at_rest()
        if status in NEVER_MADE:
            return f"Stack {self.name} is {status}: an earlier attempt failed. What is left of it is removed first."
        if status == NOT_TAKEN_BACK:
            return f"Stack {self.name} is {status}: the roll-back of its last update is tried again first."
        return None

    def settle(self) -> str | None:
        """Bring the stack to where it takes a change: what is under way is awaited, what never was is removed.

        Returns:
            The status of the stack that is there; None when there is none.

        Raises:
            InstallError: it cannot be brought there.
        """
        status = self.at_rest()
        if status == NOT_TAKEN_BACK:
            self.say(f"The last update of stack {self.name} could not be rolled back; trying again ...")
            self.cloudformation.continue_update_rollback(StackName=self.name)
            status = self._wait()
        if status == NOT_TAKEN_BACK and (skipped := self._custom_resources("UPDATE_FAILED")):
            self.say(f"It goes on without {', '.join(skipped)}, which the next update makes again ...")
            self.cloudformation.continue_update_rollback(StackName=self.name, ResourcesToSkip=skipped)
            status = self._wait()
        if status in NEVER_MADE:
            self.say(f"Stack {self.name} is {status}: an earlier attempt failed. Removing it ...")
            self.delete()
            status = None
        if status == NOT_TAKEN_BACK:
            raise InstallError(
                f"stack {self.name} is {status} and stays so; its events in the CloudFormation console say which "
                "resource is in the way: put it right, then try again"
            )
        return status

    def deploy(
        self,
        template_url: str,
        parameters: list[dict[str, Any]],
        tags: dict[str, str],
        revert_drift: Callable[[], bool] | None = None,
    ) -> bool:
        """Create or update the stack.

        Args:
            template_url: https, in S3.
            parameters: [{"ParameterKey", "ParameterValue"} or {"ParameterKey", "UsePreviousValue": True}].
            tags: of the stack and of all that is in it.
            revert_drift: when given, what is there is looked at: made again is what was deleted and taken back what was
                changed by hand, where else CloudFormation compares nothing but templates. Asked when the changes were
                said; False leaves the stack as it is. Of a stack that is there.
                https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/drift-aware-change-sets.html

        Returns:
            False when there was nothing to do, or it was not agreed to.

        Raises:
            InstallError: with the reasons that CloudFormation gives.
        """
        status = self.settle()
        new = status in (None, "REVIEW_IN_PROGRESS")
        change_set = f"modelyard-{time.time_ns()}"
        self.cloudformation.create_change_set(
            StackName=self.name,
            ChangeSetName=change_set,
            ChangeSetType="CREATE" if new else "UPDATE",
            TemplateURL=template_url,
            Parameters=parameters,
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            **({"DeploymentMode": "REVERT_DRIFT"} if revert_drift is not None and not new else {}),
        )
        described = self._change_set(change_set)
        if described["Status"] == "FAILED":
            reason = described.get("StatusReason", "no reason given")
            self.cloudformation.delete_change_set(StackName=self.name, ChangeSetName=change_set)
            if any(phrase in reason for phrase in NO_CHANGES):
                return False
            raise InstallError(f"CloudFormation refuses the template: {reason}")
        for line in change_lines([change["ResourceChange"] for change in described["Changes"]]):
            self.say(line)
        if revert_drift is not None and not new and not revert_drift():
            self.cloudformation.delete_change_set(StackName=self.name, ChangeSetName=change_set)
            return False
        self._skip_past_events()
        self.cloudformation.execute_change_set(StackName=self.name, ChangeSetName=change_set)
        status = self._wait(moving=True)
        if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            raise InstallError(f"stack {self.name} ended as {status}:\n{self._reasons()}")
        return True

    def delete(self) -> None:
        """Delete the stack; what its template retains stays.

        A custom resource whose function is gone or broken cannot be deleted, and does not keep the rest.

        Raises:
            InstallError: with CloudFormation's reasons.
        """
        status = self._deleted()
        if status == "DELETE_FAILED" and (left := self._custom_resources("DELETE_FAILED")):
            self.say(f"It goes on without {', '.join(left)}, whose function did not answer or refused ...")
            status = self._deleted(left)
        if status not in (None, "DELETE_COMPLETE"):
            raise InstallError(f"stack {self.name} ended as {status}:\n{self._reasons()}")

    def _deleted(self, without: Sequence[str] = ()) -> str | None:
        """The status after a try. without: logical ids that CloudFormation shall leave alone."""
        self._skip_past_events()
        stack = self.describe()
        assert stack is not None, "delete() is for a stack that is there"
        # https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DeleteStack.html
        self.cloudformation.delete_stack(StackName=self.name, **({"RetainResources": list(without)} if without else {}))
        return self._wait(stack["StackId"], moving=True)

    def resources(self) -> dict[str, str]:
        """Physical ids by logical ids."""
        pages = self.cloudformation.get_paginator("list_stack_resources").paginate(StackName=self.name)
        return {
            resource["LogicalResourceId"]: resource["PhysicalResourceId"]
            for page in pages
            for resource in page["StackResourceSummaries"]
            if "PhysicalResourceId" in resource and resource["ResourceStatus"] != "DELETE_COMPLETE"
        }

    def _custom_resources(self, status: str) -> list[str]:
        """What a function of the platform's could not take back: until it is mended nothing could be mended with it.

        https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-updating-stacks-continueupdaterollback.html
        """
        pages = self.cloudformation.get_paginator("list_stack_resources").paginate(StackName=self.name)
        return [
            resource["LogicalResourceId"]
            for page in pages
            for resource in page["StackResourceSummaries"]
            if resource["ResourceStatus"] == status and resource["ResourceType"].startswith("Custom::")
        ]

    def _change_set(self, name: str) -> dict[str, Any]:
        """The change set once it is made or refused, with all its changes."""
        pause = FIRST_PAUSE
        while True:
            described = self.cloudformation.describe_change_set(StackName=self.name, ChangeSetName=name)
            if described["Status"] not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
                break
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)
        page = described
        while token := page.get("NextToken"):
            page = self.cloudformation.describe_change_set(StackName=self.name, ChangeSetName=name, NextToken=token)
            described["Changes"] += page["Changes"]
        return described

    def _wait(self, stack_id: str | None = None, moving: bool = False) -> str | None:
        """Wait until nothing is under way, saying what happens, and answer the status; None when there is no stack.

        Args:
            stack_id: of a stack that is being deleted, which only its id finds afterwards.
            moving: something was asked for, so that a status from before it does not count.
        """
        pause = FIRST_PAUSE
        while True:
            stack = self._described(stack_id)
            status = None if stack is None else str(stack["StackStatus"])
            if status is not None:
                self._say_events(stack_id)
            resting = status == "REVIEW_IN_PROGRESS" or not (status or "").endswith("_IN_PROGRESS")
            if status is None or (resting and (self._moved or not moving)):
                return status
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def _described(self, stack_id: str | None) -> dict[str, Any] | None:
        if stack_id is None:
            return self.describe()
        try:
            return self.cloudformation.describe_stacks(StackName=stack_id)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in error.response["Error"]["Message"]:
                return None
            raise

    def _events(self, stack_id: str | None = None) -> list[dict[str, Any]]:
        """All events, oldest first."""
        pages = self.cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack_id or self.name)
        try:
            return [event for page in pages for event in page["StackEvents"]][::-1]
        except ClientError as error:
            if "does not exist" in error.response["Error"]["Message"]:
                return []
            raise

    def _skip_past_events(self) -> None:
        self._told = {event["EventId"] for event in self._events()}
        self._failed, self._moved = [], False

    def _say_events(self, stack_id: str | None = None) -> None:
        """What is done since the last look, then what failed and what became of the stack."""
        done: dict[str, list[str]] = {}
        lines = []
        for event in self._events(stack_id):
            if event["EventId"] in self._told:
                continue
            self._told.add(event["EventId"])
            name, status = event["LogicalResourceId"], event["ResourceStatus"]
            reason = event.get("ResourceStatusReason", "")
            of_stack = event["ResourceType"] == "AWS::CloudFormation::Stack"
            self._moved |= of_stack
            # What was cancelled because something else failed is no reason.
            failed = status.endswith("_FAILED") and "cancelled" not in reason.lower()
            if failed and reason:
                self._failed.append(f"{name} ({event['ResourceType']}): {reason}")
            if failed or (of_stack and ("ROLLBACK" in status or status.endswith("_COMPLETE"))):
                lines.append(f"  {event['Timestamp']:%H:%M:%S} {status:<15} {name}{': ' * bool(reason)}{reason}")
            elif status.endswith("_COMPLETE"):
                done.setdefault(f"  {event['Timestamp']:%H:%M:%S} {status:<15}", []).append(name)
        for start, names in done.items():
            for name in shortened(names):
                self.say(f"{start} {name}")
        for line in lines:
            self.say(line)

    def _reasons(self) -> str:
        return "\n".join(f"  {line}" for line in self._failed) or "  CloudFormation gives no reason; see its console"


def change_lines(changes: list[dict[str, Any]]) -> list[str]:
    """What a change set does: what is new by number and type, what is changed and removed by name.

    Args:
        changes: ResourceChange of DescribeChangeSet.
    """
    new = Counter(change["ResourceType"] for change in changes if change["Action"] == "Add")
    others = [
        f"  {change['Action']} {change['ResourceType']} {change['LogicalResourceId']}"
        + (", replaced by a new one" if change.get("Replacement") == "True" else "")
        for change in changes
        if change["Action"] != "Add"
    ]
    return [f"{len(changes)} changes:", *(f"  Add {number:>2} {kind}" for kind, number in sorted(new.items())), *others]


def shortened(names: list[str], most: int = 3) -> list[str]:
    """A line for each name, or one for many: A, B, C and 4 more."""
    return names if len(names) <= most else [f"{', '.join(names[:most])} and {len(names) - most} more"]
