"""The project's retraining schedule, which would start its pipeline again."""

from __future__ import annotations

from botocore.exceptions import ClientError

from seed_lambda.aws_calls import found, is_missing
from seed_lambda.context import Context

SCHEDULE_GROUP = "modelyard"  # EventBridge Scheduler's, as platform.yaml calls it


def delete_retraining_schedule(context: Context, project: str) -> None:
    """Delete `<project>-retrain`; where there is none, that is well.

    A schedule has no tags: that it is the project's, the role says with which it starts the pipeline. There is one such
    role in an account, and the project's stack made it.

    Raises:
        ClientError: AWS refused.
    """
    scheduler, name = context.client("scheduler"), f"{project}-retrain"
    schedule = found(scheduler.get_schedule, Name=name, GroupName=SCHEDULE_GROUP)
    if schedule is None:
        return
    if not schedule["Target"]["RoleArn"].endswith(f":role/modelyard/ci/{project}-ci-retrain"):
        context.log("a schedule of the project's name is somebody else's: it has another role", schedule=name)
        return
    context.still_current()
    try:
        scheduler.delete_schedule(Name=name, GroupName=SCHEDULE_GROUP)
    except ClientError as error:
        if not is_missing(error):
            raise
    context.log("deleted the retraining schedule", schedule=name)
