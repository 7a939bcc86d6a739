"""Deleting a project: everything that it owned goes, in slices against the function's time; again continues.

What is the project's is known by marks that were set in the calls that made it: the tag modelyard:stack of a model
package group, the same mark of a repository. Whatever has the project's names without belonging to it stays.

The order makes that every step can be done again. The groups are what says that the project is this stack's, so they
go when all else is gone; the versions before them, and before these what serves them and what would make new ones.
"""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError

from seed_lambda.aws_calls import FOR_A_ROUND, Pauses, is_passing
from seed_lambda.context import Context
from seed_lambda.errors import HostUnreachable, OutOfTime, SeedError
from seed_lambda.groups import find_group
from seed_lambda.hosts import host_for
from seed_lambda.properties import ALL_STAGES, ProjectProperties, group_name
from seed_lambda.removal_endpoints import Endpoints
from seed_lambda.removal_groups import delete_group
from seed_lambda.removal_pipelines import Pipelines
from seed_lambda.removal_schedule import delete_retraining_schedule

# Seconds between two looks at what somebody else takes away: an endpoint takes SageMaker some minutes.
PAUSES = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
# Seconds before another try of what failed for the moment.
AGAIN = (5.0, 15.0, 30.0)


def remove(context: Context, properties: ProjectProperties) -> None:
    """Take away the project's schedule, pipelines, endpoints, versions, groups and, where it is to go, its repository.

    Of a project that was never made, or that somebody deleted by hand, or half of it, that is success. What passes by
    itself is tried again here: a roll-back that fails is a stack that somebody has to delete by hand.

    Raises:
        OutOfTime: something is left; as much was done as fitted, and the same request again continues.
        SeedError: the repository is to go and its host refuses.
        botocore.exceptions.ClientError, BotoCoreError: AWS refused, or did not answer.
    """
    seen: set[str] = set()
    for pause in AGAIN:
        try:
            return _remove(context, properties, seen)
        except (ClientError, BotoCoreError, HostUnreachable) as error:
            if not _passes(error) or context.remaining() < pause + FOR_A_ROUND:
                raise
            context.log("failed for the moment: trying again", level="WARNING", error=str(error))
        context.pause(pause)
    return _remove(context, properties, seen)


def _passes(error: Exception) -> bool:
    """Whether it can be over in a moment: too many calls, a fault of AWS's or of the host's, no connection."""
    return is_passing(error) if isinstance(error, ClientError) else isinstance(error, BotoCoreError | HostUnreachable)


def _remove(context: Context, properties: ProjectProperties, seen: set[str]) -> None:
    """One try.

    Args:
        seen: takes the stages of the project's own groups; a later try finds them gone.
    """
    groups = {stage: find_group(context, group_name(properties.project, stage)) for stage in ALL_STAGES}
    own = {stage: group for stage, group in groups.items() if group is not None and group.stack == context.mark}
    seen |= set(own)
    free = [stage for stage, group in groups.items() if group is None]
    # with groups of somebody else's, the pipelines and endpoints of these names are theirs, whosever the repository is
    if own or (len(free) == len(groups) and _has_own_repository(context, properties)):
        pipelines = Pipelines(context, properties.project)
        endpoints = Endpoints(context, properties.project, with_group=tuple(own), without_group=tuple(free))
        delete_retraining_schedule(context, properties.project)
        _await(context, pipelines, endpoints)
        for group in own.values():
            delete_group(context, group)
        endpoints.ask_once_more()
    else:
        context.log("nothing of the project's names carries this stack's mark, or its groups are somebody else's")
    _remove_repository(context, properties, made_groups=bool(seen))


def _await(context: Context, pipelines: Pipelines, endpoints: Endpoints) -> None:
    """Until neither pipelines nor endpoints are left. The two are at it at the same time."""
    pauses = Pauses(context, PAUSES)
    endpoints.ask()
    while True:
        left = [*pipelines.take_away(), *endpoints.left()]
        if not left:
            return
        context.log("waits", left=left)
        if not pauses.fits():
            raise OutOfTime(
                f"not gone yet: {', '.join(left)}. Executions are stopped, and endpoints are taken away by the "
                "platform's function modelyard-deploy, whose log says what it waits for: delete again to continue"
            )
        pauses.wait()
        endpoints.ask_again()


def _has_own_repository(context: Context, properties: ProjectProperties) -> bool:
    """Whether the project's repository carries this stack's mark; only asked when no group does.

    Where that cannot be said for the moment, what still runs must not be left behind; but a creation that failed
    because its host is not there has come to nothing else.
    """
    try:
        found = host_for(context, properties.git_host, properties.git_owner).find(properties.repository)
    except (SeedError, ClientError, BotoCoreError) as error:
        if _passes(error) and not context.undoing_creation:
            raise
        context.log("the repository could not be looked at", level="WARNING", error=str(error))
        return False
    return found is not None and found.stack == context.mark


def _remove_repository(context: Context, properties: ProjectProperties, made_groups: bool) -> None:
    """Delete the repository where it was asked for, or where a failed creation is taken back that alone filled it.

    Args:
        made_groups: whether the creation came as far as the groups, which are made after the repository.
    """
    name, undoing = properties.repository, context.undoing_creation
    if properties.on_delete != "delete" and not undoing:
        context.log("the repository is kept", repository=name)
        return
    try:
        host = host_for(context, properties.git_host, properties.git_owner)
        found = host.find(name)
    except (SeedError, ClientError) as error:
        if made_groups or not undoing or (isinstance(error, ClientError) and not _is_forbidden(error)):
            raise
        # most probably it is why the creation failed, and so nothing was made there
        context.log("the repository could not be looked at, if there is one", level="WARNING", error=str(error))
        return
    if found is None or found.stack != context.mark:
        context.log("no repository of this name carries this stack's mark", repository=name)
    elif properties.on_delete == "delete" or host.holds_seed_alone(name):
        host.delete(name)
    else:
        context.log("the repository is kept: somebody has pushed to it", repository=name)


def _is_forbidden(error: ClientError) -> bool:
    """Whether the account may not use CodeCommit, or the function not this repository."""
    return error.response["Error"]["Code"] in ("AccessDeniedException", "OperationNotAllowedException")
